//! Generators of PassTickets (one-time passwords of z/OS).

use std::{
    borrow::Cow,
    collections::HashSet,
    fmt,
    future::ready,
    num::NonZeroUsize,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{
    key_source::{KeySourceError, KeyThreads},
    names::{Applid, UserId},
    profile::{KeyProfile, Replay},
    profiles::KeyProfiles,
    shared_time_slots::{SharedSlot, SharedSlotError, SharedTimeSlots, SlotRequest},
    ticket::PassTicket,
    ticket_cache::TicketCache,
    time_slots::{NoTimeSlot, StartSecond, TimeSlots, spare_secs},
    used_time_slots::UsedTimeSlots,
};
use crate::clock::{Clock, SystemClock, Timestamp};

/// Makes PassTickets that are valid now. [`LocalGenerator`] computes tickets from [`KeyProfiles`]. Implement this trait
/// to get tickets from another system, for example from a service on z/OS. The keys then stay in ICSF, the
/// cryptographic service of z/OS.
///
/// The trait is object-safe, and an `Arc` of a generator is also a generator. So a program that chooses a generator at
/// run time can use `Arc<dyn PassTicketGenerator>`.
///
/// # Errors
/// The future returns a [`GenerateError`] with the return codes of the security product. Two examples are
/// [`SafReturnCodes::NO_PROFILE`] if the APPLID has no key, and [`SafReturnCodes::NOT_AUTHORIZED`] if a ticket for this
/// user and APPLID is not permitted.
///
/// # Example
/// ```
/// use std::sync::Arc;
/// use passticket::{
///     Applid, GenerateError, GenerateFuture, KeyProfiles, LocalGenerator, PassTicket,
///     PassTicketGenerator, SafReturnCodes, UserId,
/// };
/// # #[derive(Clone, Default)]
/// # struct Client;
/// # impl Client {
/// #     async fn ask(&self, _: UserId, _: Applid) -> Result<String, SafReturnCodes> {
/// #         Ok("QHOAH1TV".to_owned())
/// #     }
/// # }
///
/// /// Asks a service on z/OS.
/// #[derive(Default)]
/// struct Remote {
///     client: Client,
/// }
///
/// impl PassTicketGenerator for Remote {
///     fn generate(&self, user: &UserId, applid: &Applid) -> GenerateFuture {
///         let (client, user, applid) = (self.client.clone(), *user, *applid);
///         Box::pin(async move {
///             let error = |codes| GenerateError::new(user, applid, codes);
///             let text = client.ask(user, applid).await.map_err(error)?;
///             let internal_error = SafReturnCodes { saf: 8, racf: 8, reason: 8 };
///             PassTicket::parse(&text).map_err(|_| error(internal_error))
///         })
///     }
/// }
///
/// /// Chooses a generator at run time.
/// fn generator(remote: bool) -> Arc<dyn PassTicketGenerator> {
///     match remote {
///         true => Arc::new(Remote::default()),
///         false => Arc::new(LocalGenerator::new(KeyProfiles::default())),
///     }
/// }
///
/// # tokio_test::block_on(async {
/// let (user, applid) = (UserId::new("IBMUSER")?, Applid::new("IZUDFLT")?);
/// let ticket = generator(true).generate(&user, &applid).await?;
/// assert_eq!(ticket.expose(), "QHOAH1TV");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
pub trait PassTicketGenerator: Send + Sync + 'static {
    /// Starts to make a ticket that is valid now.
    fn generate(&self, user: &UserId, applid: &Applid) -> GenerateFuture;

    /// Makes the ticket if this is possible without waiting. Callers call this method first. If this method returns
    /// `None`, they call [`generate`](Self::generate).
    ///
    /// Implement this method if the generator can make tickets without waiting. This saves the allocation of a future.
    /// Without a future, the caller also need not store the request until the ticket is made.
    fn try_generate_now(
        &self,
        user: &UserId,
        applid: &Applid,
    ) -> Option<Result<PassTicket, GenerateError>> {
        let _ = (user, applid);
        None
    }

    /// Makes a ticket like [`generate`](Self::generate). `token` is the login token with which the user has
    /// authenticated. The caller passes `None` if it has no such token. It may also pass `None` if
    /// [`needs_token`](Self::needs_token) returns `false`, because the token is then not read.
    ///
    /// Implement this method if the system that makes the tickets requires a token of the user. By default, the token
    /// is ignored.
    fn generate_with_token(
        &self,
        user: &UserId,
        applid: &Applid,
        token: Option<&str>,
    ) -> GenerateFuture {
        let _ = token;
        self.generate(user, applid)
    }

    /// Returns whether [`generate_with_token`](Self::generate_with_token) reads the token. The default is `false`.
    fn needs_token(&self) -> bool {
        false
    }

    /// Checks for errors that do not depend on permissions, such as an `applid` without a key.
    ///
    /// A caller that checks permissions calls this method first, so that it does not report a missing key as a missing
    /// permission. This method must not wait and must have no side effects. The default implementation returns `Ok`.
    ///
    /// # Errors
    /// One of the errors of [`generate`](Self::generate).
    fn precheck(&self, user: &UserId, applid: &Applid) -> Result<(), GenerateError> {
        let _ = (user, applid);
        Ok(())
    }

    /// Returns whether the application accepts a PassTicket in more than one request. If the result is
    /// [`Replay::Protected`] (the default), callers must not send a failed request again with the same PassTicket.
    fn replay(&self, applid: &Applid) -> Replay {
        let _ = applid;
        Replay::Protected
    }

    /// Returns the minimum time for which a ticket that is made now stays valid. Returns `None` (the default) if this
    /// time is not known. The result is right only if the clock of the application agrees with the clock of the
    /// generator.
    ///
    /// A generator that contains another generator must implement this method, and call `lifetime` of the other
    /// generator.
    fn lifetime(&self, user: &UserId, applid: &Applid) -> Option<Duration> {
        let _ = (user, applid);
        None
    }

    /// Forgets the cached ticket of this user and APPLID, because the application has refused it. The next call of
    /// [`generate`](Self::generate) then computes a ticket again. If the next call is in the second that the refused
    /// ticket was made for, the new ticket equals the refused ticket. By default, this method does nothing.
    fn forget(&self, user: &UserId, applid: &Applid) {
        let _ = (user, applid);
    }
}

/// The future of [`PassTicketGenerator::generate`]. It returns the ticket, or the reason why there is none.
pub type GenerateFuture = Pin<Box<dyn Future<Output = Result<PassTicket, GenerateError>> + Send>>;

impl<G: PassTicketGenerator + ?Sized> PassTicketGenerator for Arc<G> {
    fn generate(&self, user: &UserId, applid: &Applid) -> GenerateFuture {
        (**self).generate(user, applid)
    }

    fn try_generate_now(
        &self,
        user: &UserId,
        applid: &Applid,
    ) -> Option<Result<PassTicket, GenerateError>> {
        (**self).try_generate_now(user, applid)
    }

    fn generate_with_token(
        &self,
        user: &UserId,
        applid: &Applid,
        token: Option<&str>,
    ) -> GenerateFuture {
        (**self).generate_with_token(user, applid, token)
    }

    fn needs_token(&self) -> bool {
        (**self).needs_token()
    }

    fn precheck(&self, user: &UserId, applid: &Applid) -> Result<(), GenerateError> {
        (**self).precheck(user, applid)
    }

    fn replay(&self, applid: &Applid) -> Replay {
        (**self).replay(applid)
    }

    fn lifetime(&self, user: &UserId, applid: &Applid) -> Option<Duration> {
        (**self).lifetime(user, applid)
    }

    fn forget(&self, user: &UserId, applid: &Applid) {
        (**self).forget(user, applid);
    }
}

/// Computes PassTickets in this process, from [`KeyProfiles`].
///
/// The future of [`generate`](PassTicketGenerator::generate) is ready immediately, except for two kinds of tickets:
///
/// - tickets with replay protection, if the generator has [shared time slots](Self::with_shared_time_slots);
/// - tickets whose key is in a [`KeySource`](super::KeySource) with [threads](super::KeySource::threads).
///
/// # Replay protection
/// With [`Replay::Allowed`], a ticket is for the current second. All requests of a user for an APPLID in this second
/// get the same ticket. The number of requests is not limited. With [`KeyProfile::with_reuse`] and a
/// [ticket cache](Self::with_ticket_cache), the requests of several seconds get the same ticket.
///
/// With [`Replay::Protected`], a user gets one ticket per second and APPLID, and never the same ticket twice. The
/// second of a ticket is called its time slot. If a time slot is not used in its second, the generator can use it
/// later, for at most 60 s. If a quarter of the profile's window is shorter than 60 s, this quarter is the limit: 15 s
/// with the default window of enhanced tickets. So after a pause, a user can get up to 61 tickets in one second (16
/// with this default window). A request beyond this limit gets an error with a [`NoTimeSlot`], because the service
/// would refuse a ticket that it has already received.
///
/// - Clones of a generator share their time slots. Generators from several calls of [`new`](Self::new), or in several
///   processes, share them only with [`with_shared_time_slots`](Self::with_shared_time_slots). Without shared time
///   slots, two generators can make equal tickets for a user and an APPLID. The service then accepts only the ticket
///   that it receives first.
/// - A generator makes no ticket for the second in which it starts, because a previous process may have made the same
///   ticket. There are two exceptions: a generator from [`one_shot`](Self::one_shot), and a generator that
///   [continues](Self::continue_time_slots) the time slots of another process.
/// - If a profile has a [next key](KeyProfile::with_next_key), the current time decides which key makes a ticket, not
///   the time slot of the ticket.
/// - If the clock is set back while the generator exists, no ticket is made twice. While the clock is further behind
///   its latest time than 60 s (or a quarter of the window), the generator makes no tickets.
///
/// # Example
/// ```
/// use passticket::{
///     Algorithm, Applid, KeyProfile, KeyProfiles, LocalGenerator, PassTicketGenerator, Replay,
///     UserId,
/// };
///
/// # tokio_test::block_on(async {
/// let applid = Applid::new("IZUDFLT")?;
/// let profile = KeyProfile::from_hex(applid, Algorithm::Legacy, "0123456789ABCDEF")?
///     .with_replay(Replay::Allowed);
/// let generator = LocalGenerator::new(KeyProfiles::new([profile])?);
/// let user = UserId::new("IBMUSER")?;
/// assert_eq!(generator.generate(&user, &applid).await?.expose().len(), 8);
///
/// let error = generator.generate(&user, &Applid::new("NOKEY")?).await.unwrap_err();
/// assert_eq!(error.codes().to_string(), "8/16/28");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
///
/// This example uses replay protection:
///
/// ```
/// # use std::{sync::Arc, time::Duration};
/// # use passticket::{
/// #     clock::{ManualClock, Timestamp},
/// #     Algorithm, Applid, KeyProfile, KeyProfiles, LocalGenerator, NoTimeSlot, UserId,
/// # };
/// # let (user, applid) = (UserId::new("IBMUSER")?, Applid::new("IZUDFLT")?);
/// # let profile = KeyProfile::from_hex(applid, Algorithm::Legacy, "0123456789ABCDEF")?;
/// # let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_700_000_000)));
/// let generator = LocalGenerator::new(KeyProfiles::new([profile])?).with_clock(clock.clone());
/// clock.advance(Duration::from_secs(2));
/// let (one, two) =
///     (generator.generate_now(&user, &applid)?, generator.generate_now(&user, &applid)?);
/// assert_ne!(one, two);
///
/// let error = generator.generate_now(&user, &applid).unwrap_err();
/// assert!(matches!(error.no_time_slot(), Some(NoTimeSlot::AllTaken { .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct LocalGenerator {
    profiles: KeyProfiles,
    clock: Arc<dyn Clock>,
    cache: Option<Arc<TicketCache>>,
    start_second: StartSecond,
    slots: Arc<TimeSlots>,
    shared: Option<Arc<dyn SharedTimeSlots>>,
}

/// The [`retry_after`](GenerateError::retry_after) of the error if the store of shared time slots cannot be reached.
const RESERVE_AGAIN_AFTER: Duration = Duration::from_secs(1);

impl LocalGenerator {
    /// Creates a generator with the system clock. Make one per process and clone it.
    pub fn new(profiles: KeyProfiles) -> Self {
        Self::starting(profiles, StartSecond::Skipped)
    }

    /// Creates a generator for a short job that makes a few tickets and exits.
    ///
    /// With [replay protection](#replay-protection), a generator from [`new`](Self::new) makes no ticket in the second
    /// in which it starts. A generator from `one_shot` also makes tickets for this second, so a short job need not wait
    /// for the next second. Everything else about replay protection stays the same.
    ///
    /// **The trade-off:** another process may make a ticket for the same user and APPLID in this second. In that case,
    /// both tickets are equal, and the service accepts only the first ticket that it receives.
    ///
    /// Do not use `one_shot` for a service that may be restarted, or for jobs that start several
    /// times per second.
    ///
    /// ```
    /// use passticket::{Algorithm, Applid, KeyProfile, KeyProfiles, LocalGenerator, UserId};
    ///
    /// let (user, applid) = (UserId::new("BATCH")?, Applid::new("IZUDFLT")?);
    /// let key = KeyProfile::from_hex(applid, Algorithm::Legacy, "0123456789ABCDEF")?;
    /// let generator = LocalGenerator::one_shot(KeyProfiles::new([key])?);
    /// assert!(generator.generate_now(&user, &applid).is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn one_shot(profiles: KeyProfiles) -> Self {
        Self::starting(profiles, StartSecond::Used)
    }

    fn starting(profiles: KeyProfiles, start_second: StartSecond) -> Self {
        let slots = Arc::new(TimeSlots::new(SystemClock.now(), start_second));
        let clock = Arc::new(SystemClock);
        Self { profiles, clock, cache: None, start_second, slots, shared: None }
    }

    /// Reserves the time slots of tickets with [replay protection](#replay-protection) in a store that several
    /// processes share, such as Redis. The slots follow the clock of this store. Tickets without replay protection are
    /// not affected. With replay protection, no ticket is made in these cases:
    ///
    /// - The store cannot be reached.
    /// - The difference between the clocks of the store and of this process is too large. The limit is an eighth of the
    ///   profile's window, but at most an eighth of [`MAX_WINDOW`](super::MAX_WINDOW).
    /// - The store answers with a slot that is in the future, or that is too old. The limit is the time for which an
    ///   [unused slot](#replay-protection) can be used.
    #[must_use]
    pub fn with_shared_time_slots(self, shared: Arc<dyn SharedTimeSlots>) -> Self {
        Self { shared: Some(shared), ..self }
    }

    /// Caches the current ticket of up to `pairs` pairs of user and APPLID. Only tickets of
    /// profiles with [`Replay::Allowed`] are cached.
    ///
    /// The cache does not change any ticket, because the algorithms always give the same ticket for the same user,
    /// APPLID and second. There is one exception: [`KeyProfile::with_reuse`] uses a cached ticket for longer than its
    /// second.
    #[must_use]
    pub fn with_ticket_cache(mut self, pairs: NonZeroUsize) -> Self {
        self.cache = Some(Arc::new(TicketCache::new(pairs)));
        self
    }

    /// Replaces the clock. The current time of `clock` counts as the start of this generator. The generator gets new
    /// time slots, and does not share them with clones that were made before this call.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.slots = Arc::new(TimeSlots::new(clock.now(), self.start_second));
        self.clock = clock;
        self
    }

    /// Creates a generator with other keys, for a program that reloads its configuration. The new generator and `self`
    /// share their time slots. So they never make two tickets with replay protection for the same user, APPLID and
    /// second. The new generator has no [ticket cache](Self::with_ticket_cache).
    ///
    /// An APPLID can get replay protection by this call: `profiles` has a profile with replay protection for the
    /// APPLID, but `self` has a profile without replay protection, or no profile. In this case, tickets for the APPLID
    /// may have been made without time slots. So the new generator makes tickets for the APPLID only from the next
    /// second on.
    #[must_use]
    pub fn with_profiles(&self, profiles: KeyProfiles) -> Self {
        let were_protected = self.profiles.fully_protected();
        let newly_protected =
            profiles.partly_protected().filter(|applid| !were_protected.contains(applid));
        self.slots.protect(newly_protected, self.clock.now());
        Self { profiles, cache: None, ..self.clone() }
    }

    /// Makes the ticket synchronously. If the key is in a [`KeySource`](super::KeySource) that blocks, this function
    /// blocks the calling thread.
    ///
    /// # Errors
    /// - [`SafReturnCodes::NO_PROFILE`] if there is no key for `applid`.
    /// - [`SafReturnCodes::INTERNAL`] with a [`NoTimeSlot`] if the profile has replay protection and there is no time
    ///   slot for the ticket.
    /// - [`SafReturnCodes::INTERNAL`] with [`is_unavailable`](GenerateError::is_unavailable) if the
    ///   [`KeySource`](super::KeySource) of the profile fails or is too slow. The error is the same if the ticket needs
    ///   a [shared time slot](Self::with_shared_time_slots), because this function cannot wait for the store.
    pub fn generate_now(
        &self,
        user: &UserId,
        applid: &Applid,
    ) -> Result<PassTicket, GenerateError> {
        let now = self.clock.now();
        self.generate_at(self.profile(user, applid)?.at(now), user, now)
    }

    /// Returns the shared store in which the time slots of the profile's tickets must be reserved, if there is one.
    fn shared(&self, profile: &KeyProfile) -> Option<&Arc<dyn SharedTimeSlots>> {
        self.shared.as_ref().filter(|_| profile.replay() == Replay::Protected)
    }

    /// Makes a ticket with the key of `profile`. The caller has chosen this key for the time `now`.
    fn generate_at(
        &self,
        profile: &KeyProfile,
        user: &UserId,
        now: Timestamp,
    ) -> Result<PassTicket, GenerateError> {
        let applid = *profile.applid();
        match (profile.replay(), &self.cache) {
            (Replay::Protected, _) if self.shared.is_some() => {
                let reason =
                    "the time slot must be reserved, so the ticket cannot be made without waiting";
                Err(GenerateError::unavailable(*user, applid, None).with_reason(reason))
            }
            (Replay::Protected, _) => {
                let slot = self.slots.reserve(user, &applid, profile.making_window(), now);
                let slot = slot.map_err(|why| GenerateError::no_slot(*user, applid, why))?;
                self.generate_for(profile, user, slot)
            }
            (Replay::Allowed, Some(cache)) => match cache.get(profile, user, now) {
                Some(ticket) => Ok(ticket),
                None => {
                    let ticket = self.generate_for(profile, user, now)?;
                    cache.insert(profile, user, now, ticket.clone());
                    Ok(ticket)
                }
            },
            (Replay::Allowed, None) => self.generate_for(profile, user, now),
        }
    }

    /// Makes the ticket for the time `slot` with the key of `profile`. Only the whole seconds of `slot` count. If the
    /// key may block the thread, this method checks the age of the finished ticket and returns an error if the ticket
    /// is too old. z/OS would refuse a late ticket, and count it as a wrong password of the user.
    fn generate_for(
        &self,
        profile: &KeyProfile,
        user: &UserId,
        slot: Timestamp,
    ) -> Result<PassTicket, GenerateError> {
        let applid = *profile.applid();
        let generated = profile.generate(user, slot);
        let ticket = generated.map_err(|error| key_failed(*user, applid, &error))?;
        if profile.may_block() {
            let age = self.clock.now().as_secs().checked_sub(slot.as_secs());
            if age.is_none_or(|age| age > profile.max_age_when_made().as_secs()) {
                let reason = "the key took so long that the PassTicket could expire on its way, or the clock was set \
                              back in the meantime";
                return Err(GenerateError::unavailable(*user, applid, None).with_reason(reason));
            }
        }
        Ok(ticket)
    }

    /// Runs `make`, which makes a ticket, on a thread that may wait for the key.
    async fn generate_on(
        threads: Arc<dyn KeyThreads>,
        user: UserId,
        applid: Applid,
        make: impl FnOnce() -> Result<PassTicket, GenerateError> + Send + 'static,
    ) -> Result<PassTicket, GenerateError> {
        let made = Arc::new(Mutex::new(None));
        let work = {
            let made = made.clone();
            move || *made.lock().unwrap_or_else(PoisonError::into_inner) = Some(make())
        };
        let run = threads.run(Box::new(work)).await;
        run.map_err(|error| key_failed(user, applid, &error))?;
        let made = made.lock().unwrap_or_else(PoisonError::into_inner).take();
        made.unwrap_or_else(|| {
            let reason = "the thread for the key has made no PassTicket";
            Err(GenerateError::unavailable(user, applid, None).with_reason(reason))
        })
    }

    /// Makes a ticket for a time slot that was reserved in `shared`.
    async fn generate_shared(
        self,
        shared: Arc<dyn SharedTimeSlots>,
        user: UserId,
        applid: Applid,
    ) -> Result<PassTicket, GenerateError> {
        // The profile is chosen before the slot, because the window of the profile limits how old the slot may be.
        let began = self.clock.now();
        let profile = self.profile(&user, &applid)?.at(began);
        let no_slot = |why| GenerateError::no_slot(user, applid, why);
        let not_before = self.slots.first_shared(&applid).map_err(no_slot)?;
        let spare = Duration::from_secs(spare_secs(profile.making_window()));
        let reserved = shared.reserve(SlotRequest::new(user, applid, spare, not_before)).await;
        let SharedSlot { slot, place_time } = reserved.map_err(|error| match error {
            SharedSlotError::NoTimeSlot(why) => no_slot(why),
            error @ SharedSlotError::Unreachable(_) => {
                GenerateError::unavailable(user, applid, Some(RESERVE_AGAIN_AFTER))
                    .with_reason(error.to_string())
            }
        })?;
        let difference = place_time.as_millis().abs_diff(self.clock.now().as_millis());
        let difference = Duration::from_millis(difference);
        if difference > profile.making_window() / 8 {
            let reason = format!(
                "the clock of this machine differs by {} s from the clock of the store (such as Redis) in which time \
                 slots are reserved; set the clocks",
                difference.as_secs()
            );
            return Err(GenerateError::unavailable(user, applid, None).with_reason(reason));
        }
        let age = place_time.as_secs().checked_sub(slot.as_secs());
        if age.is_none_or(|age| age > spare.as_secs()) {
            // z/OS would refuse the ticket, and count it as a wrong password of the user.
            let reason = "the store in which time slots are reserved has answered with a slot that is too old or in the \
                          future";
            return Err(GenerateError::unavailable(user, applid, None).with_reason(reason));
        }
        match profile.threads() {
            None => self.generate_for(profile, &user, slot),
            Some(threads) => {
                let generator = self.clone();
                Self::generate_on(threads, user, applid, move || {
                    let profile = generator.profile(&user, &applid)?.at(began);
                    generator.generate_for(profile, &user, slot)
                })
                .await
            }
        }
    }

    /// Hands the time slots of this generator and of its clones over to another process. After this call, a request for
    /// a ticket with replay protection gets the error [`NoTimeSlot::HandedOver`]. The other process calls
    /// [`continue_time_slots`](Self::continue_time_slots) with the result. So no ticket is made twice, and the other
    /// process can use the unused slots.
    pub fn hand_over_time_slots(&self) -> UsedTimeSlots {
        self.slots.hand_over(self.profiles.fully_protected().into_iter().collect())
    }

    /// Continues with the time slots that another process has handed over. Call this before the first ticket.
    ///
    /// This generator skips time slots for which the other process may have made tickets:
    /// - If some users of an APPLID had no replay protection in the other process, it made their tickets without time
    ///   slots. So the generator skips all slots of this APPLID up to now.
    /// - With [shared time slots](Self::with_shared_time_slots), the shared store may not know the slots of the other
    ///   process. So the generator skips all slots up to the latest second that one of the two processes has seen.
    pub fn continue_time_slots(&self, used: UsedTimeSlots) {
        let were_protected: HashSet<_> = used.protected.iter().copied().collect();
        self.slots.continue_from(used);
        if self.shared.is_some() {
            // The shared store does not know the slots of the other process if that process had no shared slots.
            self.slots.skip_to_latest();
        }
        let newly_protected =
            self.profiles.partly_protected().filter(|applid| !were_protected.contains(applid));
        self.slots.protect(newly_protected, self.clock.now());
    }

    /// Takes back the time slots that were handed over. Call this only if the other process has ended and has made no
    /// ticket.
    pub fn take_back_time_slots(&self) {
        self.slots.take_back();
    }

    /// Takes back the time slots that were handed over. Call this if the other process has ended, but may have made
    /// tickets. The time slots up to now count as used.
    pub fn take_back_later_time_slots(&self) {
        self.slots.take_back_after(self.clock.now());
    }

    fn profile(&self, user: &UserId, applid: &Applid) -> Result<&KeyProfile, GenerateError> {
        self.profiles
            .find(user, applid)
            .map(Arc::as_ref)
            .ok_or_else(|| GenerateError::new(*user, *applid, SafReturnCodes::NO_PROFILE))
    }
}

fn key_failed(user: UserId, applid: Applid, error: &KeySourceError) -> GenerateError {
    GenerateError::unavailable(user, applid, error.retry_after()).with_reason(error.to_string())
}

impl PassTicketGenerator for LocalGenerator {
    fn generate(&self, user: &UserId, applid: &Applid) -> GenerateFuture {
        let (user, applid, now) = (*user, *applid, self.clock.now());
        let profile = match self.profile(&user, &applid) {
            Ok(profile) => profile.at(now),
            Err(error) => return Box::pin(ready(Err(error))),
        };
        match (self.shared(profile), profile.threads()) {
            (Some(shared), _) => {
                Box::pin(self.clone().generate_shared(shared.clone(), user, applid))
            }
            (None, Some(threads)) => {
                let generator = self.clone();
                let make = move || generator.generate_now(&user, &applid);
                Box::pin(Self::generate_on(threads, user, applid, make))
            }
            (None, None) => Box::pin(ready(self.generate_at(profile, &user, now))),
        }
    }

    fn try_generate_now(
        &self,
        user: &UserId,
        applid: &Applid,
    ) -> Option<Result<PassTicket, GenerateError>> {
        let now = self.clock.now();
        let profile = match self.profile(user, applid) {
            Ok(profile) => profile.at(now),
            Err(error) => return Some(Err(error)),
        };
        if self.shared(profile).is_some() {
            return None;
        }
        if profile.may_block() {
            // A cached ticket does not need the key.
            let cache = self.cache.as_ref().filter(|_| profile.replay() == Replay::Allowed);
            return cache?.get(profile, user, now).map(Ok);
        }
        Some(self.generate_at(profile, user, now))
    }

    fn precheck(&self, user: &UserId, applid: &Applid) -> Result<(), GenerateError> {
        self.profile(user, applid).map(drop)
    }

    fn replay(&self, applid: &Applid) -> Replay {
        self.profiles.replay(applid)
    }

    fn lifetime(&self, user: &UserId, applid: &Applid) -> Option<Duration> {
        let profile = self.profiles.find(user, applid)?.at(self.clock.now());
        let window = profile.making_window();
        // The ticket may be for an earlier time slot, or it may be a reused ticket.
        let oldest = match profile.replay() {
            Replay::Protected => Duration::from_secs(spare_secs(window)),
            Replay::Allowed => profile.reuse(),
        };
        Some(window.saturating_sub(oldest))
    }

    fn forget(&self, user: &UserId, applid: &Applid) {
        if let Some(cache) = &self.cache {
            cache.forget(user, applid);
        }
    }
}

/// The reason why there is no ticket.
///
/// `Display` is for the operator's log: it contains the user, the APPLID, the return codes and the cause. Some texts
/// also say what to do. Do not send this text to clients.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no PassTicket for user {user} and APPLID {applid}: {} {why}{reason}", why.codes())]
pub struct GenerateError {
    user: UserId,
    applid: Applid,
    why: Why,
    reason: Reason,
}

/// The text that [`GenerateError::with_reason`] adds to an error.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reason(Option<Arc<str>>);

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(reason) => write!(f, ": {reason}"),
            None => Ok(()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Codes(SafReturnCodes),
    NoTimeSlot(NoTimeSlot),
    Unavailable { retry_after: Option<Duration> },
    Stopped { retry_after: Option<Duration> },
    NotAuthenticated,
}

impl Why {
    const fn codes(&self) -> SafReturnCodes {
        match self {
            Self::Codes(codes) => *codes,
            Self::Stopped { .. } => SafReturnCodes::STOPPED,
            // z/OS has no return code for these errors. They do not occur on z/OS, because z/OS makes
            // each ticket itself, and for the current second.
            Self::NoTimeSlot(_) | Self::Unavailable { .. } | Self::NotAuthenticated => {
                SafReturnCodes::INTERNAL
            }
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Codes(codes) => f.write_str(&codes.text()),
            Self::NoTimeSlot(why) => why.fmt(f),
            Self::Unavailable { .. } => f.write_str("the PassTicket generator is not available"),
            Self::Stopped { .. } => f.write_str("the tickets are stopped"),
            Self::NotAuthenticated => f.write_str(NOT_AUTHENTICATED),
        }
    }
}

/// The text of [`GenerateError::not_authenticated`]. Zowe's API Mediation Layer uses the same text.
const NOT_AUTHENTICATED: &str = "Invalid or missing authentication";

impl GenerateError {
    /// Creates an error with the return codes of the security product.
    pub const fn new(user: UserId, applid: Applid, codes: SafReturnCodes) -> Self {
        Self::because(user, applid, Why::Codes(codes))
    }

    /// Creates an error for a ticket that has no time slot, see [replay protection](LocalGenerator#replay-protection).
    pub const fn no_slot(user: UserId, applid: Applid, why: NoTimeSlot) -> Self {
        Self::because(user, applid, Why::NoTimeSlot(why))
    }

    /// Creates an error of a generator that cannot work now, for example because it gets tickets from another system
    /// that is down. `retry_after` is the time after which the generator is expected to work again, if known.
    ///
    /// The return codes are [`SafReturnCodes::INTERNAL`]. An HTTP server should answer 503, with
    /// [`retry_after`](Self::retry_after) as `Retry-After`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use passticket::{Applid, GenerateError, UserId};
    ///
    /// let (user, applid) = (UserId::new("IBMUSER")?, Applid::new("IZUDFLT")?);
    /// let error = GenerateError::unavailable(user, applid, Some(Duration::from_secs(2)))
    ///     .with_reason("connection refused");
    /// assert!(error.is_unavailable());
    /// assert_eq!(error.retry_after(), Some(Duration::from_secs(2)));
    /// assert_eq!(
    ///     error.to_string(),
    ///     "no PassTicket for user IBMUSER and APPLID IZUDFLT: 8/8/8 the PassTicket generator is not \
    ///      available: connection refused"
    /// );
    /// # Ok::<(), passticket::NameError>(())
    /// ```
    pub const fn unavailable(user: UserId, applid: Applid, retry_after: Option<Duration>) -> Self {
        Self::because(user, applid, Why::Unavailable { retry_after })
    }

    /// Creates an error for a ticket that is not made because the application has refused earlier tickets. z/OS counts
    /// each refused ticket as a wrong password, and many sites revoke a user after the third wrong
    /// password. `retry_after` is the
    /// time after which a ticket may be tried again, if known.
    ///
    /// The return codes are [`SafReturnCodes::STOPPED`]. An HTTP server should answer 503, with
    /// [`retry_after`](Self::retry_after) as `Retry-After`.
    pub const fn stopped(user: UserId, applid: Applid, retry_after: Option<Duration>) -> Self {
        Self::because(user, applid, Why::Stopped { retry_after })
    }

    /// Creates an error of a generator that gets tickets from another system, if this system must authenticate the
    /// user. The error means that the user has no credential for the system, or that the system does not accept the
    /// credential. The return codes are [`SafReturnCodes::INTERNAL`]. An HTTP server should answer 401.
    pub const fn not_authenticated(user: UserId, applid: Applid) -> Self {
        Self::because(user, applid, Why::NotAuthenticated)
    }

    const fn because(user: UserId, applid: Applid, why: Why) -> Self {
        Self { user, applid, why, reason: Reason(None) }
    }

    /// Adds a reason for the operator's log. The reason must not contain secrets.
    #[must_use]
    pub fn with_reason(self, reason: impl Into<Arc<str>>) -> Self {
        Self { reason: Reason(Some(reason.into())), ..self }
    }

    /// Returns the reason that [`with_reason`](Self::with_reason) has added.
    pub fn reason(&self) -> Option<&str> {
        self.reason.0.as_deref()
    }

    /// Returns whether this is an error of [`not_authenticated`](Self::not_authenticated).
    pub const fn is_not_authenticated(&self) -> bool {
        matches!(self.why, Why::NotAuthenticated)
    }

    /// Returns the text for the client. The text says what the return codes mean, or that the credential is not
    /// accepted.
    pub fn text(&self) -> Cow<'static, str> {
        match self.why {
            Why::NotAuthenticated => Cow::Borrowed(NOT_AUTHENTICATED),
            _ => self.codes().text(),
        }
    }

    /// Returns whether the generator cannot work now. A later attempt may succeed.
    pub const fn is_unavailable(&self) -> bool {
        matches!(self.why, Why::Unavailable { .. })
    }

    /// Returns whether this is an error of [`stopped`](Self::stopped).
    pub const fn is_stopped(&self) -> bool {
        matches!(self.why, Why::Stopped { .. })
    }

    /// Returns how long to wait before the next attempt. For [`NoTimeSlot::AllTaken`], this is the time until the user
    /// has a time slot again. For an [unavailable](Self::is_unavailable) generator, it is the time until the generator
    /// is expected to work again. For [stopped](Self::is_stopped) tickets, it is the time until a ticket may be tried
    /// again. Returns `None` for all other errors.
    ///
    /// The result is at most [`MAX_RETRY_AFTER`](Self::MAX_RETRY_AFTER). If the generator is unavailable or the tickets
    /// are stopped, and the time is not known, the result is `MAX_RETRY_AFTER`.
    pub fn retry_after(&self) -> Option<Duration> {
        let retry_after = match self.why {
            Why::NoTimeSlot(NoTimeSlot::AllTaken { retry_after, .. }) => retry_after,
            Why::Unavailable { retry_after } | Why::Stopped { retry_after } => {
                retry_after.unwrap_or(Self::MAX_RETRY_AFTER)
            }
            Why::Codes(_) | Why::NoTimeSlot(_) | Why::NotAuthenticated => return None,
        };
        Some(retry_after.min(Self::MAX_RETRY_AFTER))
    }

    /// The maximum of [`retry_after`](Self::retry_after). It is short, because Zowe's client library uses Apache
    /// HttpClient 5 (Java). This client sleeps for the whole time of `Retry-After`.
    pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(10);

    /// Returns the user of the ticket.
    pub const fn user(&self) -> &UserId {
        &self.user
    }

    /// Returns the APPLID of the ticket.
    pub const fn applid(&self) -> &Applid {
        &self.applid
    }

    /// Returns the return codes.
    pub const fn codes(&self) -> SafReturnCodes {
        self.why.codes()
    }

    /// Returns why there is no time slot, if this is the cause of the error.
    pub const fn no_time_slot(&self) -> Option<NoTimeSlot> {
        match self.why {
            Why::NoTimeSlot(why) => Some(why),
            Why::Codes(_)
            | Why::Unavailable { .. }
            | Why::Stopped { .. }
            | Why::NotAuthenticated => None,
        }
    }
}

/// The return codes of `R_ticketserv` and `R_GenSec`, the z/OS services that make PassTickets.
///
/// The first code comes from SAF (System Authorization Facility, the interface to the security product). The other two
/// codes come from RACF (IBM's security product for z/OS). `Display` writes all three codes, such as `8/16/28`.
/// [`text`](Self::text) gives the meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SafReturnCodes {
    /// The SAF return code.
    pub saf: u32,
    /// The RACF return code.
    pub racf: u32,
    /// The RACF reason code.
    pub reason: u32,
}

/// A text for SAF code 8 and RACF code 12. All these texts have the same beginning.
macro_rules! kerberos {
    ($text:literal) => {
        concat!(
            "Invocation of the Security Server Network Authentication Service Program Call (PC) \
             interface failed with ",
            $text
        )
    };
}

impl SafReturnCodes {
    /// 8/8/8: an internal error. These codes also have other meanings: a permission could not be checked, a generator
    /// is [unavailable](GenerateError::is_unavailable), there is no time slot ([`NoTimeSlot`]), or another system does
    /// not accept the [credential](GenerateError::not_authenticated) of the user.
    pub const INTERNAL: Self = Self { saf: 8, racf: 8, reason: 8 };
    /// 8/8/16: a ticket for this user and APPLID is not permitted.
    pub const NOT_AUTHORIZED: Self = Self { saf: 8, racf: 8, reason: 16 };
    /// 8/16/28: the APPLID has no key.
    pub const NO_PROFILE: Self = Self { saf: 8, racf: 16, reason: 28 };
    /// 8/16/32: the ticket cannot be made with this key. These are also the codes of [`GenerateError::stopped`].
    pub const STOPPED: Self = Self { saf: 8, racf: 16, reason: 32 };

    /// The return codes that have a fixed [`text`](Self::text). No two of them have the same text.
    const KNOWN: [(u32, u32, u32); 14] = [
        (4, 0, 0),
        (8, 8, 0),
        (8, 8, 4),
        (8, 8, 8),
        (8, 8, 12),
        (8, 8, 16),
        (8, 8, 20),
        (8, 12, 8),
        (8, 12, 12),
        (8, 12, 16),
        (8, 12, 20),
        (8, 12, 24),
        (8, 16, 28),
        (8, 16, 32),
    ];

    /// Returns the codes that have this [`text`](Self::text). Returns `None` if the text is not known, or if several
    /// codes have this text.
    ///
    /// ```
    /// use passticket::SafReturnCodes;
    ///
    /// let codes = SafReturnCodes::NOT_AUTHORIZED;
    /// assert_eq!(SafReturnCodes::from_text(&codes.text()), Some(codes));
    /// ```
    pub fn from_text(text: &str) -> Option<Self> {
        let mut all = Self::KNOWN.into_iter().map(|(saf, racf, reason)| Self { saf, racf, reason });
        all.find(|codes| codes.text() == text)
    }

    /// Returns the meaning of the codes. The texts come from Zowe's API Mediation Layer
    /// (docs/reference/error-messages.md).
    pub fn text(self) -> Cow<'static, str> {
        Cow::Borrowed(match (self.saf, self.racf, self.reason) {
            (0, 0, 0) => "The service was successful.",
            (4, 0, 0) => "RACF is not installed.",
            (8, 8, 0) => "Invalid function code.",
            (8, 8, 4) => "Parameter list error.",
            (8, 8, 8) => "An internal error was encountered.",
            (8, 8, 12) => "A recovery environment could not be established.",
            (8, 8, 16) => {
                "Not authorized to use this service. Verify that the user and the application \
                 name are valid, and check that corresponding permissions have been set up."
            }
            (8, 8, 20) => "High order bit was not set to indicate last parameter.",
            (8, 12, 8) => kerberos!(
                "a 'parameter buffer overflow' return code. This indicates an internal error in \
                 IRRSPK00."
            ),
            (8, 12, 12) => kerberos!(
                "an 'unable to allocate storage' return code. The region size for the Security \
                 Server Network Authentication Service started task (SKRBKDC) should be increased."
            ),
            (8, 12, 16) => kerberos!(
                "a 'local services are not available' return code. This indicates that the \
                 Security Server Network Authentication Service started task (SKRBKDC) address \
                 space has not been started or is terminating."
            ),
            (8, 12, 20) => kerberos!(
                "an 'abend in the PC service routine' return code. The symptom record associated \
                 with this abend can be found in the logrec data set."
            ),
            (8, 12, 24) => kerberos!(
                "an 'unable to obtain control lock' return code. This can occur if the task \
                 holding the lock is not being dispatched (for example, a dump is in progress)."
            ),
            (8, 16, 28) => {
                "Unable to generate PassTicket. Verify that the secured signon (PassTicket) \
                 function and application ID is configured properly by referring to Using \
                 PassTickets in z/OS Security Server RACF Security Administrator's Guide."
            }
            (8, 16, 32) => {
                "PassTicket evaluation failure. Possible reasons include: PassTicket to be \
                 evaluated is not a successful PassTicket. The PassTicket to be evaluated was \
                 already evaluated before and replay protection is in effect. No PTKTDATA profile \
                 exists to match the specified application An internal error occurred."
            }
            (8, 16, reason) => {
                return Cow::Owned(format!(
                    "PassTicket evaluation extended failure. X'{reason:08X}' is the internal \
                     reason code for the evaluation failure."
                ));
            }
            _ => "The Saf Auth Service returned unknown exception.",
        })
    }
}

impl fmt::Display for SafReturnCodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.saf, self.racf, self.reason)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, sync::Mutex, time::Duration};

    use super::*;
    use crate::{
        Algorithm, KeySource, Qualifier,
        clock::{ManualClock, Timestamp},
    };

    fn profile(replay: Replay) -> KeyProfile {
        let applid = Applid::new("IZUDFLT").unwrap();
        let profile = KeyProfile::from_hex(applid, Algorithm::Legacy, "F90F48F03C28DC86").unwrap();
        profile.with_replay(replay)
    }

    #[test]
    fn tickets_are_for_the_current_second() {
        let (user, applid) = (UserId::new("IBMUSER").unwrap(), Applid::new("IZUDFLT").unwrap());
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_700_000_000)));
        let profile = Arc::new(profile(Replay::Allowed));
        let generator = LocalGenerator::new(KeyProfiles::new([profile.clone()]).unwrap())
            .with_clock(clock.clone());
        let caching = generator.clone().with_ticket_cache(NonZeroUsize::MIN);
        for generator in [Arc::new(generator), Arc::new(caching)] {
            for _ in 0..300 {
                let ticket = generator.try_generate_now(&user, &applid).unwrap().unwrap();
                let evaluated = profile.evaluate(&user, &ticket, clock.now()).unwrap();
                assert_eq!(evaluated.generated_at().as_secs(), clock.now().as_secs());
                clock.advance(Duration::from_millis(100));
            }
            assert!(!format!("{generator:?}").contains("F90F48F0"));
        }
    }

    #[test]
    fn the_clock_decides_which_key_makes_a_ticket() {
        let (user, applid) = (UserId::new("IBMUSER").unwrap(), Applid::new("IZUDFLT").unwrap());
        let start = Timestamp::from_secs(1_700_000_000);
        let from = start.plus(Duration::from_secs(100));
        let new =
            || KeyProfile::from_hex(applid, Algorithm::EnhancedMixed, &"AB".repeat(64)).unwrap();
        for replay in [Replay::Protected, Replay::Allowed] {
            let clock = Arc::new(ManualClock::new(start));
            let reuse = Duration::from_secs(15);
            let both = profile(replay).with_next_key(new(), from).with_reuse(reuse);
            let generator = LocalGenerator::new(KeyProfiles::new([both]).unwrap())
                .with_clock(clock.clone())
                .with_ticket_cache(NonZeroUsize::MIN);
            let generate = || generator.generate_now(&user, &applid).unwrap();
            let is_new = |ticket: &PassTicket| new().evaluate(&user, ticket, clock.now()).is_ok();
            clock.advance(Duration::from_secs(99));
            assert!(!is_new(&generate()));
            // From now on, the new key makes each ticket, even for an earlier time slot. The cached ticket of the old
            // key is not used again.
            clock.advance(Duration::from_secs(1));
            let ticket = generate();
            assert!(is_new(&ticket));
            let age = new().evaluate(&user, &ticket, clock.now()).unwrap().age_secs();
            assert_eq!(age, if replay == Replay::Protected { 15 } else { 0 });
            // The clock is set back to a time at which the old key makes tickets.
            clock.set(start.plus(Duration::from_secs(99)));
            assert!(!is_new(&generate()));
        }
    }

    #[test]
    fn a_qualified_profile_decides_the_key_and_the_replay_protection_of_its_users() {
        let applid = Applid::new("IZUDFLT").unwrap();
        let [ann, bob] = ["ANN", "BOB"].map(|name| UserId::new(name).unwrap());
        let key = KeyProfile::from_hex(applid, Algorithm::Legacy, "0123456789ABCDEF").unwrap();
        let of_ann = Arc::new(key.with_qualifier(Qualifier::User(ann)));
        let of_all = Arc::new(profile(Replay::Allowed));
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_700_000_000)));
        let all = KeyProfiles::new([of_all.clone(), of_ann.clone()]).unwrap();
        let generator = LocalGenerator::new(all).with_clock(clock.clone());
        clock.advance(Duration::from_secs(1));
        for (user, key, other, is_protected) in
            [(ann, &of_ann, &of_all, true), (bob, &of_all, &of_ann, false)]
        {
            let ticket = generator.generate_now(&user, &applid).unwrap();
            assert!(key.evaluate(&user, &ticket, clock.now()).is_ok(), "{user}");
            assert!(other.evaluate(&user, &ticket, clock.now()).is_err(), "{user}");
            assert_eq!(generator.generate_now(&user, &applid).is_err(), is_protected, "{user}");
        }
        // This method does not know the user, so the profile with replay protection decides for all users.
        assert_eq!(generator.replay(&applid), Replay::Protected);

        // The only profile of the APPLID is now the one for ANN, so all other users get no ticket.
        let generator = generator.with_profiles(KeyProfiles::new([of_ann]).unwrap());
        let error = generator.precheck(&bob, &applid).unwrap_err();
        assert_eq!(error.codes(), SafReturnCodes::NO_PROFILE);
        assert_eq!(generator.precheck(&ann, &applid), Ok(()));
        // The tickets of BOB are made without time slots until his profile gets replay protection. So his first ticket
        // with replay protection is for the next second.
        let generator = generator.with_profiles(KeyProfiles::new([of_all]).unwrap());
        assert!(generator.generate_now(&bob, &applid).is_ok());
        let protected = KeyProfiles::new([profile(Replay::Protected)]).unwrap();
        let generator = generator.with_profiles(protected);
        assert!(generator.generate_now(&bob, &applid).is_err());
        clock.advance(Duration::from_secs(1));
        assert!(generator.generate_now(&bob, &applid).is_ok());
    }

    #[test]
    fn a_profile_that_becomes_protected_for_some_users_starts_in_the_next_second() {
        let applid = Applid::new("IZUDFLT").unwrap();
        let ann = UserId::new("ANN").unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_700_000_000)));
        let of_ann = |replay| profile(replay).with_qualifier(Qualifier::User(ann));
        let profiles = |of_ann| KeyProfiles::new([profile(Replay::Protected), of_ann]).unwrap();
        let generator = LocalGenerator::new(profiles(of_ann(Replay::Allowed)));
        let generator = generator.with_clock(clock.clone());
        clock.advance(Duration::from_secs(100));
        assert!(generator.generate_now(&ann, &applid).is_ok());
        let generator = generator.with_profiles(profiles(of_ann(Replay::Protected)));
        assert!(generator.generate_now(&ann, &applid).is_err());
        clock.advance(Duration::from_secs(1));
        assert!(generator.generate_now(&ann, &applid).is_ok());
    }

    #[test]
    fn new_profiles_never_repeat_a_ticket() {
        let (user, applid) = (UserId::new("IBMUSER").unwrap(), Applid::new("IZUDFLT").unwrap());
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_700_000_000)));
        let profiles = |replay| KeyProfiles::new([profile(replay)]).unwrap();
        let mut generator =
            LocalGenerator::new(profiles(Replay::Protected)).with_clock(clock.clone());
        let mut seen = HashSet::new();
        // Each round makes tickets until there is an error, but at most 200 tickets. Then it replaces the profiles.
        for replay in [Replay::Protected, Replay::Allowed, Replay::Protected, Replay::Protected] {
            clock.advance(Duration::from_secs(100));
            let protected = generator.replay(&applid) == Replay::Protected;
            let mut made = 0;
            while made < 200
                && let Ok(ticket) = generator.generate_now(&user, &applid)
            {
                assert!(seen.insert(ticket.expose().to_owned()) || !protected);
                made += 1;
            }
            assert_eq!(made, if protected { 61 } else { 200 });
            let old = generator.clone();
            generator = generator.with_profiles(profiles(replay));
            if replay == Replay::Protected {
                assert!(generator.generate_now(&user, &applid).is_err());
                clock.advance(Duration::from_secs(1));
                let ticket = generator.generate_now(&user, &applid).unwrap();
                assert!(seen.insert(ticket.expose().to_owned()));
                // A request that began before the replacement uses the old generator.
                let late = old.generate_now(&user, &applid);
                assert!(late.is_err() || old.replay(&applid) == Replay::Allowed);
            }
        }
        let none = generator.with_profiles(KeyProfiles::default());
        let codes = none.generate_now(&user, &applid).unwrap_err().codes();
        assert_eq!(codes, SafReturnCodes::NO_PROFILE);
    }

    #[test]
    fn replay_protection_never_repeats_a_ticket_and_allows_a_burst_of_61() {
        let (user, applid) = (UserId::new("IBMUSER").unwrap(), Applid::new("IZUDFLT").unwrap());
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_700_000_000)));
        let profile = Arc::new(profile(Replay::Protected));
        // The ticket cache has no effect if there is replay protection.
        let generator = LocalGenerator::new(KeyProfiles::new([profile.clone()]).unwrap())
            .with_clock(clock.clone())
            .with_ticket_cache(NonZeroUsize::MIN);
        let clones = [generator.clone(), generator];
        clock.advance(Duration::from_secs(1000));
        let mut seen = HashSet::new();
        let mut burst = || {
            let mut made = 0;
            loop {
                match clones[made % 2].generate_now(&user, &applid) {
                    Ok(ticket) => {
                        let evaluated = profile.evaluate(&user, &ticket, clock.now()).unwrap();
                        assert!((0..=60).contains(&evaluated.age_secs()));
                        assert!(seen.insert(ticket.expose().to_owned()));
                        made += 1;
                    }
                    Err(error) => return (made, error),
                }
            }
        };
        let (made, error) = burst();
        assert_eq!(made, 61);
        assert!(matches!(error.no_time_slot(), Some(NoTimeSlot::AllTaken { .. })));
        assert_eq!(error.codes(), SafReturnCodes::INTERNAL);
        let text = error.to_string();
        assert!(
            text.starts_with(
                "no PassTicket for user IBMUSER and APPLID IZUDFLT: 8/8/8 PassTicket limit"
            ),
            "{text}"
        );
        clock.advance(Duration::from_secs(3));
        assert_eq!(burst().0, 3);
    }

    #[test]
    fn one_shot_makes_a_ticket_in_its_start_second() {
        let (user, applid) = (UserId::new("IBMUSER").unwrap(), Applid::new("IZUDFLT").unwrap());
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_700_000_000)));
        let profile = Arc::new(profile(Replay::Protected));
        let profiles = KeyProfiles::new([profile.clone()]).unwrap();
        let usual = LocalGenerator::new(profiles.clone()).with_clock(clock.clone());
        let error = usual.generate_now(&user, &applid).unwrap_err();
        assert_eq!(error.retry_after(), Some(Duration::from_secs(1)));

        let one_shot = LocalGenerator::one_shot(profiles).with_clock(clock.clone());
        let ticket = one_shot.generate_now(&user, &applid).unwrap();
        assert_eq!(profile.evaluate(&user, &ticket, clock.now()).unwrap().age_secs(), 0);
        let error = one_shot.generate_now(&user, &applid).unwrap_err();
        assert!(matches!(error.no_time_slot(), Some(NoTimeSlot::AllTaken { .. })));
        clock.advance(Duration::from_secs(1));
        for generator in [usual, one_shot] {
            assert!(generator.generate_now(&user, &applid).is_ok());
        }
    }

    #[test]
    fn retry_after_is_at_most_10_s() {
        let (user, applid) = (UserId::new("A").unwrap(), Applid::new("B").unwrap());
        let secs = Duration::from_secs;
        let all_taken = |retry_after| NoTimeSlot::AllTaken { spare: secs(60), retry_after };
        let no_slot = |why| GenerateError::no_slot(user, applid, why);
        let unavailable = |after| GenerateError::unavailable(user, applid, after);
        for (error, unavailable, retry_after) in [
            (GenerateError::new(user, applid, SafReturnCodes::INTERNAL), false, None),
            (GenerateError::new(user, applid, SafReturnCodes::NO_PROFILE), false, None),
            (no_slot(all_taken(secs(1))), false, Some(secs(1))),
            (no_slot(all_taken(secs(40))), false, Some(secs(10))),
            (no_slot(NoTimeSlot::ClockSetBack { by: secs(90) }), false, None),
            (no_slot(NoTimeSlot::TooManyPairs { pairs: 1 }), false, None),
            (unavailable(None), true, Some(secs(10))),
            (unavailable(Some(secs(3))), true, Some(secs(3))),
            (unavailable(Some(secs(3600))).with_reason("down"), true, Some(secs(10))),
        ] {
            assert_eq!(error.is_unavailable(), unavailable, "{error}");
            assert_eq!(error.retry_after(), retry_after, "{error}");
        }
    }

    /// A key source that always fails.
    #[derive(Debug)]
    struct Down;

    impl KeySource for Down {
        fn algorithm(&self) -> Algorithm {
            Algorithm::EnhancedMixed
        }

        fn compute(&self, _: &[u8]) -> Result<[u8; 8], KeySourceError> {
            Err(KeySourceError::new("no session").with_retry_after(Duration::from_secs(2)))
        }
    }

    #[test]
    fn a_failed_key_source_makes_the_generator_unavailable() {
        let (user, applid) = (UserId::new("IBMUSER").unwrap(), Applid::new("IZUDFLT").unwrap());
        for replay in [Replay::Allowed, Replay::Protected] {
            let profile = KeyProfile::from_source(applid, Down).with_replay(replay);
            let generator = LocalGenerator::one_shot(KeyProfiles::new([profile]).unwrap());
            let cached = generator.clone().with_ticket_cache(NonZeroUsize::MIN);
            for (generator, user) in [(generator, user), (cached, UserId::new("B").unwrap())] {
                assert_eq!(generator.precheck(&user, &applid), Ok(()));
                let error = generator.generate_now(&user, &applid).unwrap_err();
                assert_eq!(error.retry_after(), Some(Duration::from_secs(2)));
                assert_eq!(error.codes(), SafReturnCodes::INTERNAL);
                assert_eq!(
                    error.reason(),
                    Some("the PassTicket key cannot be used: no session"),
                    "{error}"
                );
            }
        }
    }

    /// A store that answers with the slot that the test has set, and keeps the last request.
    #[derive(Debug)]
    struct Place {
        answer: Mutex<Result<SharedSlot, SharedSlotError>>,
        asked: Mutex<Option<SlotRequest>>,
    }

    impl SharedTimeSlots for Place {
        fn reserve(&self, request: SlotRequest) -> crate::SlotFuture {
            *self.asked.lock().unwrap() = Some(request);
            Box::pin(ready(self.answer.lock().unwrap().clone()))
        }
    }

    #[test]
    fn a_shared_time_slot_decides_the_second_of_a_ticket() {
        let (user, applid) = (UserId::new("IBMUSER").unwrap(), Applid::new("IZUDFLT").unwrap());
        let start = Timestamp::from_secs(1_700_000_000);
        let after = |secs| start.plus(Duration::from_secs(secs));
        let clock = Arc::new(ManualClock::new(start));
        let key = || KeyProfile::from_hex(applid, Algorithm::Legacy, "0123456789ABCDEF").unwrap();
        let slot =
            |slot, place_time| SharedSlot { slot: after(slot), place_time: after(place_time) };
        let place =
            Arc::new(Place { answer: Mutex::new(Ok(slot(3, 10))), asked: Mutex::default() });
        let generator = LocalGenerator::new(KeyProfiles::new([key()]).unwrap())
            .with_clock(clock.clone())
            .with_shared_time_slots(place.clone());
        clock.advance(Duration::from_secs(10));
        let generate = || tokio_test::block_on(generator.generate(&user, &applid));
        assert!(generator.try_generate_now(&user, &applid).is_none());
        assert!(generator.generate_now(&user, &applid).unwrap_err().is_unavailable());
        let ticket = generate().unwrap();
        assert_eq!(ticket, key().generate(&user, after(3)).unwrap());
        let asked = place.asked.lock().unwrap().unwrap();
        assert_eq!(asked, SlotRequest::new(user, applid, Duration::from_secs(60), after(1)));

        let answer = |answer| *place.answer.lock().unwrap() = answer;
        // The window of the profile is ten minutes, so the clocks may differ by 75 s. A slot may be 60 s old.
        for (of_slot, place_time, has_ticket) in [
            (25, 85, true),
            (85, 85, true),
            (26, 86, false),
            (24, 85, false),
            (86, 85, false),
            (3, 63, true),
            (3, 64, false),
        ] {
            answer(Ok(slot(of_slot, place_time)));
            let made = generate();
            assert_eq!(made.is_ok(), has_ticket, "{of_slot} {place_time}");
            assert!(made.map_or_else(|error| error.is_unavailable(), |_| true));
        }
        // If the window is longer than `MAX_WINDOW`, the limits are the same as for `MAX_WINDOW`.
        let long = generator.with_profiles(
            KeyProfiles::new([key().with_window(Duration::from_secs(86_400))]).unwrap(),
        );
        for (of_slot, place_time, has_ticket) in [(25, 85, true), (26, 86, false), (24, 85, false)]
        {
            answer(Ok(slot(of_slot, place_time)));
            let made = tokio_test::block_on(long.generate(&user, &applid));
            assert_eq!(made.is_ok(), has_ticket, "{of_slot} {place_time}");
        }
        let asked_spare = || place.asked.lock().unwrap().unwrap().spare.as_secs();
        assert_eq!(asked_spare(), 60);
        let enhanced = KeyProfile::from_hex(applid, Algorithm::EnhancedMixed, &"AB".repeat(32));
        let enhanced = generator.with_profiles(KeyProfiles::new([enhanced.unwrap()]).unwrap());
        for (of_slot, place_time, has_ticket) in [(2, 17, true), (2, 18, false), (1, 17, false)] {
            answer(Ok(slot(of_slot, place_time)));
            let made = tokio_test::block_on(enhanced.generate(&user, &applid));
            assert_eq!(made.is_ok(), has_ticket, "{of_slot} {place_time}");
            assert_eq!(asked_spare(), 15);
        }
        answer(Err(SharedSlotError::unreachable("connection refused")));
        let error = generate().unwrap_err();
        assert!(error.is_unavailable() && error.to_string().ends_with("connection refused"));
        assert_eq!(error.retry_after(), Some(Duration::from_secs(1)));
        let retry_after = Duration::from_secs(2);
        let taken = NoTimeSlot::AllTaken { spare: Duration::from_secs(60), retry_after };
        answer(Err(taken.into()));
        let error = generate().unwrap_err();
        assert_eq!(error.no_time_slot(), Some(taken));

        // The other process may have used slots that the shared store does not know.
        let other =
            LocalGenerator::new(KeyProfiles::new([key()]).unwrap()).with_clock(clock.clone());
        clock.advance(Duration::from_secs(5));
        other.generate_now(&user, &applid).unwrap();
        generator.continue_time_slots(other.hand_over_time_slots());
        let _ = generate();
        assert_eq!(place.asked.lock().unwrap().unwrap().not_before, after(16));

        // Without replay protection, no slot is reserved.
        let allowed = KeyProfiles::new([key().with_replay(Replay::Allowed)]).unwrap();
        assert!(generator.with_profiles(allowed).try_generate_now(&user, &applid).is_some());
        let _ = generator.hand_over_time_slots();
        let error = generate().unwrap_err();
        assert_eq!(error.no_time_slot(), Some(NoTimeSlot::HandedOver));
    }

    #[test]
    fn a_missing_profile_is_8_16_28() {
        let (user, applid) = (UserId::new("IBMUSER").unwrap(), Applid::new("IZUDFLT").unwrap());
        let generator = LocalGenerator::new(KeyProfiles::default());
        let error = generator.try_generate_now(&user, &applid).unwrap().unwrap_err();
        assert_eq!((*error.user(), *error.applid()), (user, applid));
        assert_eq!(error.codes(), SafReturnCodes::NO_PROFILE);
        assert_eq!(
            error.to_string(),
            "no PassTicket for user IBMUSER and APPLID IZUDFLT: 8/16/28 Unable to generate \
             PassTicket. Verify that the secured signon (PassTicket) function and application ID \
             is configured properly by referring to Using PassTickets in z/OS Security Server RACF \
             Security Administrator's Guide."
        );
    }

    #[test]
    fn return_codes_have_the_texts_of_zowe() {
        struct Case {
            codes: (u32, u32, u32),
            beginning: &'static str,
            end: &'static str,
        }
        const UNKNOWN: &str = "The Saf Auth Service returned unknown exception.";
        const PC: &str = "Invocation of the Security Server Network Authentication Service Program \
             Call (PC) interface failed with a";
        let cases = [
            Case { codes: (0, 0, 0), beginning: "The service was", end: " successful." },
            Case { codes: (4, 0, 0), beginning: "RACF", end: " is not installed." },
            Case { codes: (8, 8, 0), beginning: "Invalid", end: " function code." },
            Case { codes: (8, 8, 4), beginning: "Parameter", end: " list error." },
            Case { codes: (8, 8, 8), beginning: "An internal error", end: " was encountered." },
            Case { codes: (8, 8, 12), beginning: "A recovery", end: " could not be established." },
            Case { codes: (8, 8, 16), beginning: "Not authorized", end: " have been set up." },
            Case { codes: (8, 8, 20), beginning: "High order bit", end: " last parameter." },
            Case { codes: (8, 8, 24), beginning: UNKNOWN, end: "" },
            Case { codes: (8, 12, 8), beginning: PC, end: " error in IRRSPK00." },
            Case { codes: (8, 12, 12), beginning: PC, end: " should be increased." },
            Case { codes: (8, 12, 16), beginning: PC, end: " or is terminating." },
            Case { codes: (8, 12, 20), beginning: PC, end: " in the logrec data set." },
            Case { codes: (8, 12, 24), beginning: PC, end: " a dump is in progress)." },
            Case { codes: (8, 12, 0), beginning: UNKNOWN, end: "" },
            Case { codes: (8, 16, 28), beginning: "Unable to", end: "Administrator's Guide." },
            Case { codes: (8, 16, 32), beginning: "PassTicket eval", end: " error occurred." },
            Case {
                codes: (8, 16, 0x00AB_CDEF),
                beginning: "PassTicket evaluation extended failure. X'00ABCDEF' is the internal ",
                end: "reason code for the evaluation failure.",
            },
            Case { codes: (12, 0, 0), beginning: UNKNOWN, end: "" },
        ];
        for Case { codes: (saf, racf, reason), beginning, end } in cases {
            let codes = SafReturnCodes { saf, racf, reason };
            let text = codes.text();
            assert!(text.starts_with(beginning) && text.ends_with(end), "{codes}: {text}");
        }
    }
}
