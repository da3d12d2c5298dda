//! Key profiles for PassTickets (one-time passwords of z/OS). A profile has a key, its APPLID (the name of the
//! application), the algorithm, the window in which a ticket is valid, and the setting of replay protection.

use std::{fmt, sync::Arc, time::Duration};

use super::{
    algorithm::Algorithm,
    enhanced::{self, EnhancedType, KeyedMac},
    key::{EnhancedKey, KeyError, LegacyKey},
    key_source::{KeySource, KeySourceError, KeyThreads},
    legacy::{self, Schedule},
    names::{Applid, GroupName, UserId},
    qualifier::Qualifier,
    ticket::PassTicket,
};
use crate::clock::Timestamp;

/// The default of [`KeyProfile::with_window`] for legacy tickets: a ticket may be ten minutes older or newer than the
/// clock. In RACF (IBM's security product for z/OS), this window cannot be changed.
pub const DEFAULT_WINDOW: Duration = Duration::from_secs(600);

/// The default of [`KeyProfile::with_window`] for enhanced tickets. RACF has the same default: `TIMEOUT(60)`.
pub const DEFAULT_ENHANCED_WINDOW: Duration = Duration::from_secs(60);

/// The longest window that RACF has: 600 s for legacy tickets, and `TIMEOUT(600)` for enhanced tickets. If the
/// [window](KeyProfile::with_window) of a profile is longer, a [`LocalGenerator`](super::LocalGenerator) makes tickets
/// as if the window were 600 s.
pub const MAX_WINDOW: Duration = Duration::from_secs(600);

const fn alphabet(algorithm: Algorithm) -> Option<EnhancedType> {
    match algorithm {
        Algorithm::Legacy => None,
        Algorithm::EnhancedUpper => Some(EnhancedType::Upper),
        Algorithm::EnhancedMixed => Some(EnhancedType::Mixed),
    }
}

/// Whether the evaluating system, such as z/OS with RACF, accepts a PassTicket more than once.
///
/// The algorithms give the same ticket for the same user, APPLID and second. So if the system accepts each ticket only
/// once, a user can log on to an APPLID only once for each second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Replay {
    /// The system accepts each ticket only once. This is the default of RACF. With this setting, a
    /// [`LocalGenerator`](super::LocalGenerator) makes at most one ticket for each user, APPLID and second.
    #[default]
    Protected,
    /// The system accepts a ticket any number of times within the window. In RACF, this setting is `APPLDATA('NO REPLAY
    /// PROTECTION')` (legacy) or `REPLAY(YES)` (enhanced). Zowe's documentation required it until July 2024
    /// (docs/reference/security-products.md#replay-protection). The connection to the service must be secure, because
    /// an attacker who reads a ticket can use it.
    Allowed,
}

/// The key of one APPLID, and the settings for making and evaluating tickets with it. RACF keeps the key and the
/// settings in a profile of class `PTKTDATA`.
///
/// The profile does not store the key, but the key schedule of DES or HMAC that it computes from the key. When the
/// profile is dropped, the key schedule is wiped. `Debug` does not show it. If the key must stay outside of this
/// process, use [`from_source`](Self::from_source).
///
/// ```
/// use std::time::Duration;
/// use passticket::{
///     clock::Timestamp,
///     Algorithm, Applid, KeyProfile, UserId,
/// };
///
/// let profile =
///     KeyProfile::from_hex(Applid::new("IZUDFLT")?, Algorithm::Legacy, "0123456789ABCDEF")?
///         .with_window(Duration::from_secs(60));
/// let user = UserId::new("ibmuser")?;
/// let ticket = profile.generate(&user, Timestamp::from_secs(1_700_000_000))?;
///
/// let now = Timestamp::from_secs(1_700_000_042);
/// assert_eq!(profile.evaluate(&user, &ticket, now)?.age_secs(), 42);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct KeyProfile {
    applid: Applid,
    qualifier: Option<Box<Qualifier>>,
    key: KeySchedule,
    window: Duration,
    replay: Replay,
    /// The value of [`with_reuse`](Self::with_reuse) in seconds, without the limits that [`reuse`](Self::reuse)
    /// applies.
    reuse_secs: u64,
    /// The first second in which this key makes tickets. It is 0, except in a profile that is the `next` of another
    /// profile.
    since: u64,
    /// The key that replaces this key.
    next: Option<Box<Self>>,
}

/// Keys in memory are boxed. Otherwise, each move of a profile would leave a copy of its key in memory.
enum KeySchedule {
    Legacy(Box<Schedule>),
    Enhanced(Box<KeyedMac>, EnhancedType),
    LegacySource(Box<dyn KeySource>),
    EnhancedSource(Box<dyn KeySource>, EnhancedType),
}

impl KeyProfile {
    /// Creates a profile for legacy PassTickets with [`DEFAULT_WINDOW`] and [`Replay::Protected`].
    pub fn legacy(applid: Applid, key: &LegacyKey) -> Self {
        Self::new(applid, KeySchedule::Legacy(Box::new(Schedule::new(key))))
    }

    /// Creates a profile for enhanced PassTickets with [`DEFAULT_ENHANCED_WINDOW`] and [`Replay::Protected`].
    pub fn enhanced(applid: Applid, alphabet: EnhancedType, key: &EnhancedKey) -> Self {
        Self::new(applid, KeySchedule::Enhanced(Box::new(KeyedMac::new(key)), alphabet))
    }

    /// Creates a profile for PassTickets of the source's algorithm, with the default window of this algorithm and
    /// [`Replay::Protected`]. The key stays in the source.
    pub fn from_source(applid: Applid, source: impl KeySource) -> Self {
        let algorithm = source.algorithm();
        let source = Box::new(source);
        Self::new(
            applid,
            match alphabet(algorithm) {
                None => KeySchedule::LegacySource(source),
                Some(alphabet) => KeySchedule::EnhancedSource(source, alphabet),
            },
        )
    }

    /// Creates a profile with a key in hex digits. The key must have the length that the algorithm needs.
    ///
    /// # Errors
    /// The [`KeyError`] of [`LegacyKey::from_hex`] or [`EnhancedKey::from_hex`].
    pub fn from_hex(applid: Applid, algorithm: Algorithm, key: &str) -> Result<Self, KeyError> {
        Ok(match alphabet(algorithm) {
            None => Self::legacy(applid, &LegacyKey::from_hex(key)?),
            Some(alphabet) => Self::enhanced(applid, alphabet, &EnhancedKey::from_hex(key)?),
        })
    }

    fn new(applid: Applid, key: KeySchedule) -> Self {
        let window = match key {
            KeySchedule::Legacy(_) | KeySchedule::LegacySource(_) => DEFAULT_WINDOW,
            KeySchedule::Enhanced(..) | KeySchedule::EnhancedSource(..) => DEFAULT_ENHANCED_WINDOW,
        };
        let (qualifier, replay) = (None, Replay::default());
        Self { applid, qualifier, key, window, replay, reuse_secs: 0, since: 0, next: None }
    }

    /// Sets the window. The time of a ticket may differ from the clock of the evaluating system by at most `window`, in
    /// both directions. Only the whole seconds of `window` count.
    ///
    /// The window on z/OS must be at least `window`. In RACF, `TIMEOUT` sets the window of enhanced tickets. If the
    /// window on z/OS is shorter than `window`, z/OS may refuse tickets that were made for an earlier [time
    /// slot](super::LocalGenerator#replay-protection). z/OS counts each refused ticket as a wrong password.
    #[must_use]
    pub fn with_window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// Sets whether the evaluating system accepts a ticket more than once.
    ///
    /// ```
    /// use passticket::{Algorithm, Applid, KeyProfile, Replay};
    ///
    /// let applid = Applid::new("IZUDFLT")?;
    /// let profile = KeyProfile::from_hex(applid, Algorithm::Legacy, "0123456789ABCDEF")?;
    /// assert_eq!(profile.replay(), Replay::Protected);
    /// assert_eq!(profile.with_replay(Replay::Allowed).replay(), Replay::Allowed);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_replay(mut self, replay: Replay) -> Self {
        self.replay = replay;
        if let Some(next) = &mut self.next {
            next.replay = replay;
        }
        self
    }

    /// Limits the profile to some users of the APPLID. In [`KeyProfiles`](super::KeyProfiles), such a profile takes
    /// precedence over the profile of the APPLID. The methods of this type do not check whether a ticket is for one of
    /// these users.
    #[must_use]
    pub fn with_qualifier(mut self, qualifier: Qualifier) -> Self {
        self.qualifier = Some(Box::new(qualifier));
        self
    }

    /// Returns the [qualifier](Self::with_qualifier) of the profile, if it has one.
    pub fn qualifier(&self) -> Option<&Qualifier> {
        self.qualifier.as_deref()
    }

    /// Returns the name of the profile in the security product, such as `IZUDFLT` or `IZUDFLT.GROUP.USER`.
    pub fn name(&self) -> String {
        let group = self.qualifier().and_then(Qualifier::group).map(GroupName::as_str);
        let user = self.qualifier().and_then(Qualifier::user).map(UserId::as_str);
        let parts = [Some(self.applid.as_str()), group, user];
        parts.into_iter().flatten().collect::<Vec<_>>().join(".")
    }

    /// Sets for how long a [`LocalGenerator`](super::LocalGenerator) with a [ticket
    /// cache](super::LocalGenerator::with_ticket_cache) gives a user the same ticket again. Only the whole seconds of
    /// `reuse` count. The default is zero: the generator gives the same ticket again only within the same second.
    ///
    /// RACF compares each ticket with the user's password first, which may be expensive. If RACF has accepted a ticket
    /// before, it may check this ticket faster. So a reuse time can save work for RACF. But an attacker who finds a
    /// ticket in a log or a dump can use it for longer.
    ///
    /// With [`Replay::Protected`], this setting has no effect, because RACF counts the second use of a ticket as a
    /// wrong password. With [`Replay::Allowed`], the time is limited to a [quarter of the window](Self::max_reuse).
    #[must_use]
    pub fn with_reuse(mut self, reuse: Duration) -> Self {
        self.reuse_secs = reuse.as_secs();
        if let Some(next) = &mut self.next {
            next.reuse_secs = self.reuse_secs;
        }
        self
    }

    /// Returns for how long a ticket is used again. With [`Replay::Protected`], this is zero. With [`Replay::Allowed`],
    /// it is the value of [`with_reuse`](Self::with_reuse) or [`max_reuse`](Self::max_reuse), whichever is shorter.
    pub fn reuse(&self) -> Duration {
        match self.replay {
            Replay::Protected => Duration::ZERO,
            Replay::Allowed => Duration::from_secs(self.reuse_secs.min(self.max_reuse().as_secs())),
        }
    }

    /// Returns the longest possible [`reuse`](Self::reuse): a quarter of the window or of [`MAX_WINDOW`], whichever is
    /// shorter. The rest of the window allows for the transport to the service and for differences between the clocks.
    /// A [next key](Self::next_key) has its own window, so its longest reuse can differ.
    pub fn max_reuse(&self) -> Duration {
        Duration::from_secs(self.making_window().as_secs() / 4)
    }

    /// Replaces the key at the time `from`. Only the whole seconds of `from` count.
    ///
    /// The new key, its algorithm and its window are those of `next`. The APPLID, the replay protection and the reuse
    /// are those of `self` for both keys. A qualifier of `next` and a next key of `next` are dropped. In
    /// [`KeyProfiles`](super::KeyProfiles), both keys are for the users of the qualifier of `self`.
    ///
    /// When its clock has reached `from`, a [`LocalGenerator`](super::LocalGenerator) makes all tickets with the new
    /// key, even a ticket for a second before `from`. [`generate`](Self::generate) chooses the key by the second of the
    /// ticket.
    ///
    /// If the difference between `now` and `from` is at most the longer one of the two windows,
    /// [`evaluate`](Self::evaluate) accepts tickets of both keys. Otherwise, it accepts tickets of only one key. There
    /// are two reasons to accept both: the clocks of the two systems may differ, and a ticket needs time to arrive.
    ///
    /// ```
    /// use std::time::Duration;
    /// use passticket::{clock::Timestamp, Algorithm, Applid, KeyProfile, UserId};
    ///
    /// let (user, applid) = (UserId::new("ibmuser")?, Applid::new("IZUDFLT")?);
    /// let old = || KeyProfile::from_hex(applid, Algorithm::Legacy, "0123456789ABCDEF");
    /// let new = KeyProfile::from_hex(applid, Algorithm::EnhancedMixed, &"5A".repeat(64))?;
    ///
    /// let from = Timestamp::from_secs(1_800_000_000);
    /// let profile = old()?.with_next_key(new, from);
    /// let later = |secs| from.plus(Duration::from_secs(secs));
    /// let late = old()?.generate(&user, from)?;
    /// assert!(profile.evaluate(&user, &late, later(60)).is_ok());
    /// assert!(profile.evaluate(&user, &late, later(601)).is_err());
    ///
    /// let ticket = profile.generate(&user, from)?;
    /// assert!(old()?.evaluate(&user, &ticket, from).is_err());
    /// assert!(profile.evaluate(&user, &ticket, from).is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_next_key(mut self, next: Self, from: Timestamp) -> Self {
        let Self { applid, replay, reuse_secs, .. } = self;
        let since = from.as_secs();
        let qualifier = None;
        let next = Self { applid, qualifier, replay, reuse_secs, since, next: None, ..next };
        self.next = Some(Box::new(next));
        self
    }

    /// Returns the profile with the next key, and the time from which on this key makes tickets. Returns `None` if
    /// there is no [next key](Self::with_next_key).
    pub fn next_key(&self) -> Option<(&Self, Timestamp)> {
        self.next.as_deref().map(|next| (next, Timestamp::from_secs(next.since)))
    }

    /// Returns the profile with the key that makes tickets at the time `now`: this profile, or the one with the
    /// [next key](Self::with_next_key).
    pub fn at(&self, now: Timestamp) -> &Self {
        match &self.next {
            Some(next) if next.since <= now.as_secs() => next,
            _ => self,
        }
    }

    /// Only the key of [`at`](Self::at) makes tickets at the time `now`. If [`evaluate`](Self::evaluate) also accepts
    /// tickets of the other key at this time, returns the profile with the other key.
    fn also_accepted_at(&self, now: Timestamp) -> Option<&Self> {
        let next = self.next.as_deref()?;
        let now = now.as_secs();
        let overlap = self.window.max(next.window).as_secs();
        let other = if next.since <= now { self } else { next };
        (now.abs_diff(next.since) <= overlap).then_some(other)
    }

    pub(super) fn since(&self) -> u64 {
        self.since
    }

    /// Returns the APPLID that tickets of this profile are for.
    pub fn applid(&self) -> &Applid {
        &self.applid
    }

    /// Returns the algorithm of this profile.
    pub fn algorithm(&self) -> Algorithm {
        match &self.key {
            KeySchedule::Legacy(_) | KeySchedule::LegacySource(_) => Algorithm::Legacy,
            KeySchedule::Enhanced(_, alphabet) | KeySchedule::EnhancedSource(_, alphabet) => {
                match alphabet {
                    EnhancedType::Upper => Algorithm::EnhancedUpper,
                    EnhancedType::Mixed => Algorithm::EnhancedMixed,
                }
            }
        }
    }

    /// Returns the window. The time of a ticket may differ from the clock of the evaluating system by at most this
    /// duration, in both directions.
    pub fn window(&self) -> Duration {
        self.window
    }

    /// Returns the window within which tickets are made. If [`window`](Self::window) is longer than
    /// [`MAX_WINDOW`], the result is `MAX_WINDOW`.
    pub(super) fn making_window(&self) -> Duration {
        self.window.min(MAX_WINDOW)
    }

    /// Returns whether the evaluating system accepts a ticket more than once.
    pub fn replay(&self) -> Replay {
        self.replay
    }

    /// Returns the threads on which asynchronous code must make the tickets. Returns `None` if the key does not
    /// block the calling thread.
    pub(super) fn threads(&self) -> Option<Arc<dyn KeyThreads>> {
        match &self.key {
            KeySchedule::Legacy(_) | KeySchedule::Enhanced(..) => None,
            KeySchedule::LegacySource(source) | KeySchedule::EnhancedSource(source, _) => {
                source.threads()
            }
        }
    }

    pub(super) fn may_block(&self) -> bool {
        self.threads().is_some()
    }

    /// Returns the maximum age of a time slot at the time when the ticket is made: half of the window. This limit is
    /// for a key that may block the calling thread. At its reservation, a time slot is at most a quarter of the window
    /// old. The wait for the key may take another quarter. The other half is for the transport to the service and for
    /// differences between the clocks.
    pub(super) fn max_age_when_made(&self) -> Duration {
        Duration::from_secs(self.making_window().as_secs() / 2)
    }

    /// Does the part of the computation that is the same for all tickets of one user. This saves 2 of the 8 DES blocks,
    /// or 1 of the 7 HMACs, for each ticket after the first. For the tickets of a [next key](Self::with_next_key), this
    /// saves nothing, because only the key of `self` is used.
    ///
    /// # Errors
    /// [`KeySourceError`] if the [`KeySource`] of the profile fails. There is no error if the key is in memory.
    pub fn for_user(&self, user: &UserId) -> Result<UserTickets<'_>, KeySourceError> {
        Ok(UserTickets { profile: self, user: *user, pair: self.pair(user)? })
    }

    fn pair(&self, user: &UserId) -> Result<Pair<'_>, KeySourceError> {
        let applid = &self.applid;
        Ok(match &self.key {
            KeySchedule::Legacy(key) => {
                let Ok(pair) = legacy::Pair::new(&**key, user, applid);
                Pair::Legacy(pair)
            }
            KeySchedule::Enhanced(key, alphabet) => {
                let Ok(pair) = enhanced::Pair::new(&**key, *alphabet, user, applid);
                Pair::Enhanced(pair)
            }
            KeySchedule::LegacySource(key) => {
                Pair::LegacySource(legacy::Pair::new(&**key, user, applid)?)
            }
            KeySchedule::EnhancedSource(key, alphabet) => {
                Pair::EnhancedSource(enhanced::Pair::new(&**key, *alphabet, user, applid)?)
            }
        })
    }

    /// Returns the ticket that logs `user` on to this profile's application at `time`. Only the whole seconds of `time`
    /// count.
    ///
    /// If there is a [next key](Self::with_next_key), `time` also decides which key makes the ticket. To make a ticket
    /// for an earlier second with the key of the current time, choose the key first: `profile.at(now).generate(user,
    /// earlier)`.
    ///
    /// For the same user and the same second, this method always gives the same ticket. If the application has replay
    /// protection, the caller must choose a new second for each ticket. [`LocalGenerator`](super::LocalGenerator) does
    /// this.
    ///
    /// # Errors
    /// [`KeySourceError`] if the [`KeySource`] of the profile fails. There is no error if the key is in memory.
    pub fn generate(&self, user: &UserId, time: Timestamp) -> Result<PassTicket, KeySourceError> {
        self.at(time).pair(user)?.generate(time)
    }

    /// Checks a ticket that a client has sent for `user`.
    ///
    /// This method computes the time of the ticket from its characters, and does not try all times of the window. So to
    /// evaluate a ticket costs as much as to generate one. If the first key refuses a ticket while the tickets of a
    /// [next key](Self::with_next_key) are also accepted, it costs twice as much.
    ///
    /// With [`Algorithm::Legacy`] and [`Algorithm::EnhancedUpper`], lower case counts as upper case, because z/OS
    /// converts passwords to upper case. A legacy ticket contains only the low 32 bits of its time. Of the times with
    /// these bits, this method assumes the one that is nearest to `now`.
    ///
    /// This method does not check whether the ticket was used before. If the application has replay
    /// protection, the caller must check this.
    ///
    /// # Errors
    /// [`Refusal`] says why the ticket is not accepted.
    pub fn evaluate(
        &self,
        user: &UserId,
        ticket: &PassTicket,
        now: Timestamp,
    ) -> Result<Evaluated, Refusal> {
        let making = self.at(now);
        let pair = making.pair(user).map_err(Refusal::from);
        let evaluated = pair.and_then(|pair| pair.evaluate(ticket, now, making.window));
        self.or_second_key(evaluated, user, ticket, now)
    }

    /// `result` is the result with the key that makes tickets at the time `now`. If it is a refusal, and tickets of the
    /// other key are also accepted at this time, evaluates the ticket with the other key.
    fn or_second_key(
        &self,
        result: Result<Evaluated, Refusal>,
        user: &UserId,
        ticket: &PassTicket,
        now: Timestamp,
    ) -> Result<Evaluated, Refusal> {
        let refusal = match result {
            Ok(evaluated) => return Ok(evaluated),
            Err(refusal) => refusal,
        };
        let Some(second) = self.also_accepted_at(now) else { return Err(refusal) };
        let pair = second.pair(user).map_err(Refusal::from);
        let evaluated = pair.and_then(|pair| pair.evaluate(ticket, now, second.window));
        evaluated.map_err(|with_second| refusal.most_telling(with_second))
    }
}

impl fmt::Debug for KeyProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyProfile")
            .field("applid", &self.applid)
            .field("qualifier", &self.qualifier)
            .field("algorithm", &self.algorithm())
            .field("window", &self.window)
            .field("replay", &self.replay)
            .field("reuse", &self.reuse())
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

/// A [`KeyProfile`] for one user, to make or check several tickets of this user.
pub struct UserTickets<'a> {
    profile: &'a KeyProfile,
    user: UserId,
    pair: Pair<'a>,
}

enum Pair<'a> {
    Legacy(legacy::Pair<'a, Schedule>),
    Enhanced(enhanced::Pair<'a, KeyedMac>),
    LegacySource(legacy::Pair<'a, dyn KeySource>),
    EnhancedSource(enhanced::Pair<'a, dyn KeySource>),
}

impl UserTickets<'_> {
    /// Returns the user of the tickets.
    pub fn user(&self) -> &UserId {
        &self.user
    }

    /// Does the same as [`KeyProfile::generate`], for this user.
    ///
    /// # Errors
    /// The errors of [`KeyProfile::generate`].
    pub fn generate(&self, time: Timestamp) -> Result<PassTicket, KeySourceError> {
        match self.next_if_makes_at(time) {
            None => self.pair.generate(time),
            Some(next) => next.pair(&self.user)?.generate(time),
        }
    }

    /// Does the same as [`KeyProfile::evaluate`], for this user.
    ///
    /// # Errors
    /// The errors of [`KeyProfile::evaluate`].
    pub fn evaluate(&self, ticket: &PassTicket, now: Timestamp) -> Result<Evaluated, Refusal> {
        match self.next_if_makes_at(now) {
            None => {
                let evaluated = self.pair.evaluate(ticket, now, self.profile.window);
                self.profile.or_second_key(evaluated, &self.user, ticket, now)
            }
            Some(_) => self.profile.evaluate(&self.user, ticket, now),
        }
    }

    /// Returns the profile with the next key, if this key makes tickets at the time `now`.
    fn next_if_makes_at(&self, now: Timestamp) -> Option<&KeyProfile> {
        let profile = self.profile.at(now);
        (profile.since != self.profile.since).then_some(profile)
    }
}

impl Pair<'_> {
    fn generate(&self, time: Timestamp) -> Result<PassTicket, KeySourceError> {
        let secs = time.as_secs();
        let ticket = match self {
            Pair::Legacy(pair) => {
                let Ok(ticket) = pair.generate(secs);
                ticket
            }
            Pair::Enhanced(pair) => {
                let Ok(ticket) = pair.generate(secs);
                ticket
            }
            Pair::LegacySource(pair) => pair.generate(secs)?,
            Pair::EnhancedSource(pair) => pair.generate(secs)?,
        };
        Ok(PassTicket::from_alphabet(ticket))
    }

    fn evaluate(
        &self,
        ticket: &PassTicket,
        now: Timestamp,
        window: Duration,
    ) -> Result<Evaluated, Refusal> {
        let (text, now_secs) = (ticket.expose_bytes(), now.as_secs());
        let secs = match self {
            Pair::Legacy(pair) => {
                let Ok(secs) = pair.evaluate(text, now_secs);
                secs
            }
            Pair::Enhanced(pair) => {
                let Ok(secs) = pair.evaluate(text);
                secs
            }
            Pair::LegacySource(pair) => pair.evaluate(text, now_secs)?,
            Pair::EnhancedSource(pair) => pair.evaluate(text)?,
        };
        let secs = secs.ok_or(Refusal::NotATicket)?;
        let generated_at = Timestamp::from_secs(secs);
        match secs.abs_diff(now_secs) {
            off if off <= window.as_secs() => Ok(Evaluated { generated_at, now }),
            off if off <= window.as_secs().saturating_add(PLAUSIBLE_SECS) => {
                Err(Refusal::OutsideWindow { generated_at, now, window })
            }
            _ => Err(Refusal::OtherKey),
        }
    }
}

impl fmt::Debug for UserTickets<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserTickets")
            .field("profile", &self.profile)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// Proof that a ticket was checked and accepted. Only [`KeyProfile::evaluate`] and [`UserTickets::evaluate`] return
/// this type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Evaluated {
    generated_at: Timestamp,
    now: Timestamp,
}

impl Evaluated {
    /// Returns the second that the ticket was made for.
    pub fn generated_at(&self) -> Timestamp {
        self.generated_at
    }

    /// Returns the age of the ticket when it was evaluated, in seconds. The age is negative if the clock of the system
    /// that made the ticket is ahead.
    pub fn age_secs(&self) -> i64 {
        age_secs(self.generated_at, self.now)
    }
}

fn age_secs(generated_at: Timestamp, now: Timestamp) -> i64 {
    // A timestamp counts milliseconds in 64 bits. So its seconds fit into an `i64`.
    now.as_secs().cast_signed() - generated_at.as_secs().cast_signed()
}

/// If the time of a ticket is at most this far outside of the window, the ticket is probably late, or a clock is wrong.
/// A clock that shows local time instead of UTC is wrong by up to 14 hours. If the user, the APPLID or the key is
/// wrong, the computed time is random. Fewer than one in 20,000 random times of 32 bits are so near to the window.
const PLAUSIBLE_SECS: u64 = 24 * 60 * 60;

/// The reason why a ticket is not accepted.
///
/// The evaluation of a ticket computes the time that the ticket was made for. If the ticket was made for another user
/// or APPLID, or with another key, the computed time is random. So a time far from now probably means that the user,
/// the APPLID or the key is wrong.
///
/// | distance between the computed time and now | result |
/// |---|---|
/// | at most the window | accepted |
/// | at most the window plus 24 hours | [`OutsideWindow`](Self::OutsideWindow): most likely a late ticket or a wrong clock |
/// | more | [`OtherKey`](Self::OtherKey): most likely another user, APPLID or key |
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The algorithm of the profile cannot make this text with any key. The text may be a password, or a ticket of
    /// another algorithm.
    #[error("not a PassTicket, because this algorithm never makes such a text")]
    NotATicket,
    /// There are two possible causes. The text is not a ticket of this user, APPLID and key. Or it is such a ticket,
    /// but its time is more than 24 hours outside of the window.
    #[error(
        "not a PassTicket of this user, APPLID and key, or more than a day too early or too late; \
         compare user, APPLID and key with those of the system that made the PassTicket"
    )]
    OtherKey,
    /// The ticket was not checked with one of the keys, because the [`KeySource`] of this key failed.
    #[error(transparent)]
    KeyUnavailable(#[from] KeySourceError),
    /// The time of the ticket is outside of the window.
    #[error(
        "the PassTicket is {} and at most {} s are allowed; if it was made just now, compare the \
         clocks of both systems",
        offset(*generated_at, *now),
        window.as_secs()
    )]
    #[non_exhaustive]
    OutsideWindow {
        /// The second that the ticket was made for.
        generated_at: Timestamp,
        /// The time of the evaluation.
        now: Timestamp,
        /// How far the time of the ticket may be before or after `now`.
        window: Duration,
    },
}

impl Refusal {
    /// Returns the more informative refusal of a ticket that was evaluated with two keys. [`Self::KeyUnavailable`]
    /// takes precedence, because the ticket may be valid for the key that failed.
    fn most_telling(self, other: Self) -> Self {
        let rank = |refusal: &Self| match refusal {
            Self::KeyUnavailable(_) => 3,
            Self::OutsideWindow { .. } => 2,
            Self::OtherKey => 1,
            Self::NotATicket => 0,
        };
        if rank(&other) > rank(&self) { other } else { self }
    }
}

/// Returns the age of a ticket as text, such as `5 s old`, or `5 s ahead` if its time is in the future.
fn offset(generated_at: Timestamp, now: Timestamp) -> String {
    match age_secs(generated_at, now) {
        age @ 0.. => format!("{age} s old"),
        ahead => format!("{} s ahead", ahead.unsigned_abs()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    };

    use proptest::prelude::*;

    use super::*;
    use crate::KeyProfiles;

    const LEGACY_KEY: &str = "F90F48F03C28DC86";
    const NOW: u64 = 1_700_000_000;

    fn hex(key: &[u8]) -> String {
        key.iter().map(|byte| format!("{byte:02X}")).collect()
    }

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    fn key_of(algorithm: Algorithm) -> String {
        LEGACY_KEY.repeat(if algorithm == Algorithm::Legacy { 1 } else { 4 })
    }

    fn profile(applid: &str, algorithm: Algorithm) -> KeyProfile {
        KeyProfile::from_hex(Applid::new(applid).unwrap(), algorithm, &key_of(algorithm)).unwrap()
    }

    #[test]
    fn algorithms_have_a_text_form() {
        for algorithm in Algorithm::ALL {
            assert_eq!(algorithm.to_string().parse(), Ok(algorithm));
            assert_eq!(profile("APPL", algorithm).algorithm(), algorithm);
        }
        assert_eq!(
            "LEGACY".parse::<Algorithm>().unwrap_err().to_string(),
            "unknown PassTicket algorithm; write legacy, enhanced-upper or enhanced-mixed"
        );
    }

    #[test]
    fn the_default_window_is_that_of_racf() {
        for (algorithm, secs) in Algorithm::ALL.into_iter().zip([600, 60, 60]) {
            assert_eq!(profile("APPL", algorithm).window().as_secs(), secs, "{algorithm}");
            let (source, _) = Source::new(algorithm);
            let remote =
                KeyProfile::from_source(Applid::new("APPL").unwrap(), source as Arc<dyn KeySource>);
            assert_eq!(remote.window().as_secs(), secs, "{algorithm}");
        }
        for (window, made_within) in [(0, 0), (60, 60), (600, 600), (601, 600), (86_400, 600)] {
            let profile =
                profile("APPL", Algorithm::Legacy).with_window(Duration::from_secs(window));
            assert_eq!(profile.making_window().as_secs(), made_within);
            assert_eq!(profile.window().as_secs(), window);
        }
    }

    #[test]
    fn a_ticket_is_used_again_for_at_most_a_quarter_of_the_window() {
        struct Case {
            replay: Replay,
            window: u64,
            reuse: u64,
            want: u64,
        }
        use Replay::{Allowed, Protected};
        for Case { replay, window, reuse, want } in [
            Case { replay: Protected, window: 600, reuse: 60, want: 0 },
            Case { replay: Allowed, window: 600, reuse: 0, want: 0 },
            Case { replay: Allowed, window: 600, reuse: 60, want: 60 },
            Case { replay: Allowed, window: 600, reuse: 151, want: 150 },
            Case { replay: Allowed, window: 86_400, reuse: 3600, want: 150 },
            Case { replay: Allowed, window: 60, reuse: 60, want: 15 },
            Case { replay: Allowed, window: 3, reuse: 60, want: 0 },
        ] {
            let [window, reuse] = [window, reuse].map(Duration::from_secs);
            let profile = profile("APPL", Algorithm::Legacy).with_reuse(reuse);
            let profile = profile.with_window(window).with_replay(replay);
            assert_eq!(profile.reuse().as_secs(), want, "{replay:?} {window:?} {reuse:?}");
        }
    }

    #[test]
    fn keys_of_the_wrong_length_are_refused() {
        let applid = Applid::new("APPL").unwrap();
        for algorithm in Algorithm::ALL {
            let key = LEGACY_KEY.repeat(if algorithm == Algorithm::Legacy { 4 } else { 1 });
            let error = KeyProfile::from_hex(applid, algorithm, &key).unwrap_err();
            assert!(matches!(error, KeyError::Length { .. }), "{algorithm}: {error}");
        }
    }

    #[test]
    fn the_window_includes_its_first_and_last_second() {
        struct Case {
            now: u64,
            window: u64,
            expected: Result<i64, &'static str>,
        }
        let cases = [
            Case { now: NOW, window: 0, expected: Ok(0) },
            Case { now: NOW + 600, window: 600, expected: Ok(600) },
            Case { now: NOW - 600, window: 600, expected: Ok(-600) },
            Case { now: NOW + 600, window: 599, expected: Err("600 s old and at most 599 s") },
            Case { now: NOW + 601, window: 600, expected: Err("601 s old and at most 600 s") },
            Case { now: NOW - 601, window: 600, expected: Err("601 s ahead and at most 600 s") },
            Case { now: NOW - 1, window: 0, expected: Err("1 s ahead and at most 0 s") },
        ];
        let user = UserId::new("IBMUSER").unwrap();
        for algorithm in Algorithm::ALL {
            let ticket = profile("APPL", algorithm).generate(&user, at(NOW)).unwrap();
            for Case { now, window, expected } in &cases {
                // The first and the last millisecond of the second `now` give the same result.
                for now in [at(*now), at(*now).plus(Duration::from_millis(999))] {
                    let window = Duration::from_secs(*window);
                    let profile = profile("APPL", algorithm).with_window(window);
                    let got = profile.evaluate(&user, &ticket, now);
                    let got = got.map(|e| e.age_secs()).map_err(|e| {
                        assert_eq!(
                            e,
                            Refusal::OutsideWindow { generated_at: at(NOW), now, window }
                        );
                        e.to_string()
                    });
                    let expected = expected.map_err(|e| {
                        format!(
                            "the PassTicket is {e} are allowed; if it was made just now, \
                             compare the clocks of both systems"
                        )
                    });
                    assert_eq!(got, expected, "{algorithm}");
                }
            }
        }
    }

    #[test]
    fn a_time_far_outside_the_window_means_another_user_applid_or_key() {
        const DAY: u64 = 24 * 60 * 60;
        const YEAR: u64 = 365 * DAY;
        struct Case {
            now: u64,
            window: u64,
            plausible: bool,
        }
        let cases = [
            Case { now: NOW + 601, window: 600, plausible: true },
            Case { now: NOW - 601, window: 600, plausible: true },
            // `now` is the local time of Auckland or Honolulu instead of UTC.
            Case { now: NOW + 13 * 3600, window: 600, plausible: true },
            Case { now: NOW - 10 * 3600, window: 600, plausible: true },
            Case { now: NOW + DAY, window: 0, plausible: true },
            Case { now: NOW + DAY + 1, window: 0, plausible: false },
            Case { now: NOW + DAY + 600, window: 600, plausible: true },
            Case { now: NOW + DAY + 601, window: 600, plausible: false },
            Case { now: NOW - DAY - 600, window: 600, plausible: true },
            Case { now: NOW - DAY - 601, window: 600, plausible: false },
            Case { now: NOW + 20 * YEAR, window: 600, plausible: false },
            Case { now: NOW - 20 * YEAR, window: 600, plausible: false },
        ];
        let user = UserId::new("IBMUSER").unwrap();
        for algorithm in Algorithm::ALL {
            let ticket = profile("APPL", algorithm).generate(&user, at(NOW)).unwrap();
            for Case { now, window, plausible } in &cases {
                let window = Duration::from_secs(*window);
                let profile = profile("APPL", algorithm).with_window(window);
                let refusal = profile.evaluate(&user, &ticket, at(*now)).unwrap_err();
                let outside =
                    Refusal::OutsideWindow { generated_at: at(NOW), now: at(*now), window };
                let expected = if *plausible { outside } else { Refusal::OtherKey };
                assert_eq!(refusal, expected, "{algorithm} {now}");
            }
        }
        assert!(
            Refusal::OtherKey
                .to_string()
                .starts_with("not a PassTicket of this user, APPLID and key")
        );
    }

    #[derive(Debug)]
    struct Source {
        key: KeyProfile,
        works: Arc<AtomicBool>,
    }

    impl Source {
        fn new(algorithm: Algorithm) -> (Arc<Self>, Arc<AtomicBool>) {
            let works = Arc::new(AtomicBool::new(true));
            (Arc::new(Self { key: profile("APPL", algorithm), works: works.clone() }), works)
        }
    }

    impl KeySource for Source {
        fn algorithm(&self) -> Algorithm {
            self.key.algorithm()
        }

        fn compute(&self, input: &[u8]) -> Result<[u8; 8], KeySourceError> {
            use crate::{enhanced::KeyedHash, legacy::BlockCipher};
            if !self.works.load(SeqCst) {
                return Err(
                    KeySourceError::new("no session").with_retry_after(Duration::from_secs(3))
                );
            }
            Ok(match &self.key.key {
                KeySchedule::Legacy(key) => {
                    let Ok(block) = key.encrypt(u64::from_be_bytes(input.try_into().unwrap()));
                    block.to_be_bytes()
                }
                KeySchedule::Enhanced(key, _) => {
                    assert!(matches!(input.len(), 16 | 20));
                    let Ok(left) = key.left_6_bytes(input);
                    (left << 16).to_be_bytes()
                }
                _ => panic!("expected a key in memory"),
            })
        }
    }

    #[test]
    fn a_key_source_gives_the_tickets_of_its_key_or_an_error() {
        let (user, applid) = (UserId::new("IBMUSER").unwrap(), Applid::new("APPL").unwrap());
        for algorithm in Algorithm::ALL {
            let (source, works) = Source::new(algorithm);
            let source: Arc<dyn KeySource> = source;
            let (remote, local) =
                (KeyProfile::from_source(applid, source), profile("APPL", algorithm));
            assert_eq!(remote.algorithm(), algorithm);
            for secs in [0, NOW, NOW + 1, u32::MAX.into()] {
                let ticket = remote.generate(&user, at(secs)).unwrap();
                assert_eq!(ticket, local.generate(&user, at(secs)).unwrap(), "{algorithm} {secs}");
                let evaluated = remote.evaluate(&user, &ticket, at(secs)).unwrap();
                assert_eq!(evaluated.generated_at(), at(secs));
            }

            let ticket = local.generate(&user, at(NOW)).unwrap();
            let tickets = remote.for_user(&user).unwrap();
            works.store(false, SeqCst);
            let error = tickets.generate(at(NOW)).unwrap_err();
            assert_eq!(error.to_string(), "the PassTicket key cannot be used: no session");
            assert_eq!(remote.generate(&user, at(NOW)).unwrap_err(), error);
            let refusal = remote.evaluate(&user, &ticket, at(NOW)).unwrap_err();
            assert_eq!(refusal, Refusal::KeyUnavailable(error.clone()));
            assert_eq!(tickets.evaluate(&ticket, at(NOW)).unwrap_err(), refusal);
        }
    }

    /// Returns three profiles: one with a legacy key that an enhanced key replaces at [`NOW`], one with only the legacy
    /// key, and one with only the enhanced key.
    fn with_next(window: u64, of_next: u64) -> (KeyProfile, KeyProfile, KeyProfile) {
        let [window, of_next] = [window, of_next].map(Duration::from_secs);
        let old = || profile("APPL", Algorithm::Legacy).with_window(window);
        let new = || profile("APPL", Algorithm::EnhancedMixed).with_window(of_next);
        let both = old().with_next_key(new(), at(NOW).plus(Duration::from_millis(999)));
        (both, old(), new())
    }

    #[test]
    fn the_next_key_makes_tickets_from_its_time_on() {
        let user = UserId::new("IBMUSER").unwrap();
        let (both, old, new) = with_next(600, 60);
        let tickets = both.for_user(&user).unwrap();
        for (secs, has_next) in [(0, false), (NOW - 1, false), (NOW, true), (NOW + 9999, true)] {
            let want = if has_next { &new } else { &old }.generate(&user, at(secs)).unwrap();
            assert_eq!(both.generate(&user, at(secs)).unwrap(), want, "{secs}");
            assert_eq!(tickets.generate(at(secs)).unwrap(), want, "{secs}");
            // The profile that `at` returns makes tickets for earlier times with the same key.
            let maker = both.at(at(secs).plus(Duration::from_millis(999)));
            assert_eq!(maker.algorithm() == Algorithm::EnhancedMixed, has_next);
            let earlier = at(secs.saturating_sub(15));
            let want = if has_next { &new } else { &old }.generate(&user, earlier).unwrap();
            assert_eq!(maker.generate(&user, earlier).unwrap(), want, "{secs}");
        }
        let (next, from) = both.next_key().unwrap();
        assert_eq!((next.window().as_secs(), from), (60, at(NOW)));
        assert!(next.next_key().is_none() && old.next_key().is_none());
    }

    #[test]
    fn the_next_key_has_the_applid_the_replay_protection_and_the_reuse_of_the_profile() {
        let other = profile("OTHER", Algorithm::EnhancedMixed).with_replay(Replay::Allowed);
        let nested = other.with_next_key(profile("APPL", Algorithm::Legacy), at(1));
        let both = profile("APPL", Algorithm::Legacy).with_next_key(nested, at(NOW));
        let next = both.at(at(NOW));
        assert_eq!((next.applid(), next.replay()), (both.applid(), Replay::Protected));
        assert!(next.next_key().is_none());
        let reuse = Duration::from_secs(150);
        let both = both.with_replay(Replay::Allowed).with_reuse(reuse);
        assert_eq!((both.reuse(), both.at(at(NOW)).reuse().as_secs()), (reuse, 15));
        assert_eq!(both.at(at(NOW)).replay(), Replay::Allowed);
    }

    #[test]
    fn both_keys_are_accepted_while_the_change_is_within_the_window() {
        let user = UserId::new("IBMUSER").unwrap();
        for (window, of_next) in [(600, 60), (60, 600)] {
            let (both, old, new) = with_next(window, of_next);
            let tickets = both.for_user(&user).unwrap();
            for (now, old_is_accepted, new_is_accepted) in [
                (NOW - 86_400, true, false),
                (NOW - 601, true, false),
                (NOW - 600, true, true),
                (NOW - 1, true, true),
                (NOW, true, true),
                (NOW + 600, true, true),
                (NOW + 601, false, true),
                (NOW + 86_400, false, true),
            ] {
                for (key, is_accepted) in [(&old, old_is_accepted), (&new, new_is_accepted)] {
                    let ticket = key.generate(&user, at(now)).unwrap();
                    let evaluated = both.evaluate(&user, &ticket, at(now));
                    assert_eq!(
                        evaluated.is_ok(),
                        is_accepted,
                        "{now} {window} {}",
                        key.algorithm()
                    );
                    assert_eq!(tickets.evaluate(&ticket, at(now)), evaluated);
                    // Each key has its own window.
                    let age = key.window().as_secs() + 1;
                    let late = key.generate(&user, at(now - age)).unwrap();
                    let late = both.evaluate(&user, &late, at(now)).unwrap_err();
                    let is_late = matches!(late, Refusal::OutsideWindow { .. });
                    assert_eq!(is_late, is_accepted, "{now} {window} {}", key.algorithm());
                }
                let other = UserId::new("OTHER").unwrap();
                let ticket = new.generate(&other, at(now)).unwrap();
                assert!(both.evaluate(&user, &ticket, at(now)).is_err());
            }
        }
    }

    #[test]
    fn a_key_that_cannot_be_used_does_not_stop_the_other_key() {
        let (user, applid) = (UserId::new("IBMUSER").unwrap(), Applid::new("APPL").unwrap());
        let old = profile("APPL", Algorithm::Legacy);
        let (source, works) = Source::new(Algorithm::EnhancedMixed);
        let new = KeyProfile::from_source(applid, source as Arc<dyn KeySource>);
        let both = profile("APPL", Algorithm::Legacy).with_next_key(new, at(NOW));
        works.store(false, SeqCst);
        let ticket = both.generate(&user, at(NOW - 1)).unwrap();
        assert!(both.generate(&user, at(NOW)).is_err());
        for now in [NOW - 1, NOW, NOW + 1] {
            assert!(both.evaluate(&user, &ticket, at(now)).is_ok(), "{now}");
            let wrong = old.generate(&UserId::new("OTHER").unwrap(), at(now)).unwrap();
            let refusal = both.evaluate(&user, &wrong, at(now)).unwrap_err();
            assert!(matches!(refusal, Refusal::KeyUnavailable(_)), "{refusal}");
        }
        let before = both.evaluate(&user, &ticket, at(NOW - 1000)).unwrap_err();
        assert!(matches!(before, Refusal::OutsideWindow { .. }), "{before}");
    }

    #[test]
    fn only_enhanced_mixed_refuses_a_ticket_in_lower_case() {
        struct Case {
            algorithm: Algorithm,
            accepted: bool,
        }
        let cases = [
            Case { algorithm: Algorithm::Legacy, accepted: true },
            Case { algorithm: Algorithm::EnhancedUpper, accepted: true },
            Case { algorithm: Algorithm::EnhancedMixed, accepted: false },
        ];
        let user = UserId::new("IBMUSER").unwrap();
        for Case { algorithm, accepted } in cases {
            let profile = profile("APPL", algorithm);
            let ticket = profile.generate(&user, at(NOW)).unwrap();
            let lower = PassTicket::parse(&ticket.expose().to_ascii_lowercase()).unwrap();
            assert_ne!(lower, ticket);
            assert_eq!(profile.evaluate(&user, &lower, at(NOW)).is_ok(), accepted, "{algorithm}");
        }
    }

    #[test]
    fn texts_that_no_key_gives_are_not_tickets() {
        let user = UserId::new("IBMUSER").unwrap();
        for algorithm in [Algorithm::Legacy, Algorithm::EnhancedUpper] {
            let profile = profile("APPL", algorithm);
            for text in ["AAAAAAA-", "_AAAAAAA", "ZZZZZZZA"] {
                let ticket = PassTicket::parse(text).unwrap();
                let refusal = profile.evaluate(&user, &ticket, at(NOW)).unwrap_err();
                assert_eq!(refusal, Refusal::NotATicket, "{algorithm} {text}");
            }
        }
    }

    #[test]
    fn debug_does_not_show_keys_and_tickets() {
        let user = UserId::new("IBMUSER").unwrap();
        for algorithm in Algorithm::ALL {
            let profile = profile("APPL", algorithm);
            let tickets = profile.for_user(&user).unwrap();
            let ticket = tickets.generate(at(NOW)).unwrap();
            let evaluated = tickets.evaluate(&ticket, at(NOW)).unwrap();
            let shown = format!("{profile:?} {profile:#?} {tickets:?} {ticket:?} {evaluated:?}");
            let both = profile.with_next_key(self::profile("APPL", algorithm), at(NOW));
            let profiles = KeyProfiles::new([both]).unwrap();
            let shown = format!("{shown} {profiles:?}");
            let shown = shown.to_ascii_uppercase();
            assert!(!shown.contains(LEGACY_KEY), "{shown}");
            assert!(!shown.contains(&ticket.expose().to_ascii_uppercase()), "{shown}");
            assert!(shown.contains("APPL") && shown.contains("IBMUSER"), "{shown}");
        }
    }

    fn name() -> impl Strategy<Value = String> {
        "[A-Za-z0-9#@$]{1,8}"
    }

    fn algorithm_and_key() -> impl Strategy<Value = (Algorithm, Vec<u8>)> {
        let enhanced = || prop::collection::vec(any::<u8>(), 32..=256);
        prop_oneof![
            prop::collection::vec(any::<u8>(), 8).prop_map(|key| (Algorithm::Legacy, key)),
            enhanced().prop_map(|key| (Algorithm::EnhancedUpper, key)),
            enhanced().prop_map(|key| (Algorithm::EnhancedMixed, key)),
        ]
    }

    /// Seconds since 1970. Many are near the second in the year 2106 when the 32 bits of the legacy time wrap around.
    fn time() -> impl Strategy<Value = u64> {
        const WRAP: u64 = 1 << 32;
        prop_oneof![0..WRAP, WRAP - 2000..WRAP + 2000, 0..1_u64 << 40]
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 256,
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn evaluating_returns_the_time_of_generating(
            (algorithm, key) in algorithm_and_key(),
            user in name(),
            applid in name(),
            time in time(),
            offset in -600_i64..=600,
        ) {
            let (user, applid) = (UserId::new(&user).unwrap(), Applid::new(&applid).unwrap());
            let profile = KeyProfile::from_hex(applid, algorithm, &hex(&key)).unwrap();
            let profile = profile.with_window(DEFAULT_WINDOW);
            let ticket = profile.generate(&user, at(time)).unwrap();
            let now = at(time.saturating_add_signed(offset));
            let evaluated = profile.evaluate(&user, &ticket, now).unwrap();
            prop_assert_eq!(evaluated.generated_at(), at(time));
            prop_assert_eq!(evaluated.age_secs(), now.as_secs() as i64 - time as i64);
        }

        /// A ticket is at most 15 s old, and the clocks of the two systems differ by at most 45 s. So each ticket is
        /// within the shortest default window.
        #[test]
        fn no_ticket_is_refused_because_of_a_change_of_the_key(
            (old, new) in (algorithm_and_key(), algorithm_and_key()),
            (from, made) in (10_000_u64..1 << 31, -3000_i64..3000),
            age in 0_i64..=15,
            skew in -45_i64..=45,
        ) {
            let (user, applid) = (UserId::new("U").unwrap(), Applid::new("A").unwrap());
            let profile = |(algorithm, key): (Algorithm, Vec<u8>)| {
                KeyProfile::from_hex(applid, algorithm, &hex(&key)).unwrap()
            };
            let both = profile(old).with_next_key(profile(new), at(from));
            let now = from.saturating_add_signed(made);
            let slot = at(now.saturating_add_signed(-age));
            let ticket = both.at(at(now)).generate(&user, slot).unwrap();
            let there = at(now.saturating_add_signed(skew));
            prop_assert_eq!(both.evaluate(&user, &ticket, there).unwrap().generated_at(), slot);
        }

        /// The window is zero. So with a wrong user, APPLID or key, a ticket is accepted in at most one of 2^32 cases.
        #[test]
        fn a_ticket_is_refused_with_another_text_user_applid_or_key(
            (algorithm, mut key) in algorithm_and_key(),
            users in (name(), name()),
            applids in (name(), name()),
            time in time(),
            (place, character) in (0..8_usize, "[A-Za-z0-9_-]"),
            bit in any::<prop::sample::Index>(),
        ) {
            let user = UserId::new(&users.0).unwrap();
            let applid = Applid::new(&applids.0).unwrap();
            let make = |applid, key: &[u8]| {
                let profile = KeyProfile::from_hex(applid, algorithm, &hex(key)).unwrap();
                profile.with_window(Duration::ZERO)
            };
            let (profile, time) = (make(applid, &key), at(time));
            let ticket = profile.generate(&user, time).unwrap();
            prop_assert!(profile.evaluate(&user, &ticket, time).is_ok());

            let mut changed = ticket.expose().to_owned();
            changed.replace_range(place..=place, &character);
            let same = match algorithm {
                Algorithm::EnhancedMixed => changed == ticket.expose(),
                _ => changed.eq_ignore_ascii_case(ticket.expose()),
            };
            let changed = PassTicket::parse(&changed).unwrap();
            prop_assert_eq!(profile.evaluate(&user, &changed, time).is_ok(), same);

            let other = UserId::new(&users.1).unwrap();
            prop_assert_eq!(profile.evaluate(&other, &ticket, time).is_ok(), other == user);

            let other = Applid::new(&applids.1).unwrap();
            let got = make(other, &key).evaluate(&user, &ticket, time);
            prop_assert_eq!(got.is_ok(), other == applid);

            // Changes one bit of the key, but never the lowest bit of a byte, which is a parity bit that DES ignores.
            let bit = bit.index(key.len() * 7);
            key[bit / 7] ^= 2 << (bit % 7);
            prop_assert!(make(applid, &key).evaluate(&user, &ticket, time).is_err());
        }

        #[test]
        fn des_parity_bits_are_ignored(key: [u8; 8], flips: [bool; 8], time in time()) {
            let (user, applid) = (UserId::new("U").unwrap(), Applid::new("A").unwrap());
            let tickets = [flips, [false; 8]].map(|flips| {
                let key: Vec<u8> = (0..8).map(|i| key[i] ^ u8::from(flips[i])).collect();
                let key = LegacyKey::from_hex(&hex(&key)).unwrap();
                KeyProfile::legacy(applid, &key).generate(&user, at(time)).unwrap()
            });
            prop_assert!(tickets[0] == tickets[1]);
        }

        #[test]
        fn no_text_causes_a_panic(
            text in "[A-Za-z0-9_-]{8}",
            garbage in any::<String>(),
            now: u64,
        ) {
            let _ = PassTicket::parse(&garbage);
            let _ = LegacyKey::from_hex(&garbage);
            let _ = EnhancedKey::from_hex(&garbage);
            let ticket = PassTicket::parse(&text).unwrap();
            let user = UserId::new("U").unwrap();
            for algorithm in Algorithm::ALL {
                let now = Timestamp::from_millis(now);
                let profile = profile("A", algorithm).with_window(Duration::MAX);
                match profile.evaluate(&user, &ticket, now) {
                    Ok(evaluated) => drop(evaluated.age_secs().to_string()),
                    Err(refusal) => prop_assert_eq!(refusal, Refusal::NotATicket),
                }
            }
        }
    }
}
