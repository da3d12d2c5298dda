//! A generator of PassTickets (one-time passwords of z/OS). Before it makes a PassTicket, it checks a permission with
//! SAF (the z/OS interface to the security product).

use std::{fmt, sync::Arc, time::Duration};

use quick_cache::sync::Cache;
use zeroize::Zeroizing;

use super::{Access, AccessLevel, SafError, SafProvider};
use crate::passticket::{
    Applid, GenerateError, GenerateFuture, PassTicket, PassTicketGenerator, Replay, SafReturnCodes,
    UserId,
};

const CLASS: &str = "PTKTDATA";

/// Makes a PassTicket if the gateway's own user id has the access `UPDATE` to the resource `IRRPTAUTH.<applid>.<user>`
/// in class `PTKTDATA`. An APPLID is the name of an application in the security product. Callers of `R_ticketserv`, the
/// service of z/OS that makes PassTickets, need the same permission
/// (docs/reference/security-products.md#ticket-permission, docs/decisions.md#d13).
///
/// `G` makes the tickets. For example, it is a [`LocalGenerator`](crate::passticket::LocalGenerator). `S` checks the
/// permission.
///
/// | case | SAF return codes of the error |
/// |---|---|
/// | the [`precheck`](PassTicketGenerator::precheck) of `G` fails | the codes of `G`: 8/16/28 if there is no key |
/// | access is refused | 8/8/16 |
/// | the SAF check fails | 8/8/8. After [`SafError::Unavailable`], [`is_unavailable`](GenerateError::is_unavailable) returns `true` |
/// | access is granted, but `G` fails | the codes of `G` |
///
/// `G` makes no ticket before access is granted. If `S` has a [`version`](SafProvider::version), a granted permission
/// is cached until the version changes, for about 4,096 pairs of user and APPLID. While the permission of a pair is
/// cached, `precheck` is not called for this pair.
///
/// ```
/// use tower_passticket::{
///     passticket::{
///         Algorithm, Applid, KeyProfile, KeyProfiles, LocalGenerator, PassTicketGenerator, Replay,
///         UserId,
///     },
///     saf::{AccessLevel, FileSaf, PermittedGenerator, Profile, ProfileName},
/// };
///
/// # tokio_test::block_on(async {
/// let applid = Applid::new("ZOWEAPPL")?;
/// let key = KeyProfile::from_hex(applid, Algorithm::Legacy, "0123456789ABCDEF")?
///     .with_replay(Replay::Allowed);
/// let gateway = UserId::new("ZWESVUSR")?;
/// let saf = FileSaf::new([
///     Profile::new("PTKTDATA", ProfileName::new("IRRPTAUTH.ZOWEAPPL.*")?)
///         .permit(gateway, AccessLevel::Update),
///     Profile::new("PTKTDATA", ProfileName::new("IRRPTAUTH.ZOWEAPPL.IBMUSER")?),
/// ]);
/// let tickets = LocalGenerator::new(KeyProfiles::new([key])?);
/// let tickets = PermittedGenerator::new(tickets, saf, gateway);
///
/// assert!(tickets.generate(&UserId::new("USER")?, &applid).await.is_ok());
/// let error = tickets.generate(&UserId::new("IBMUSER")?, &applid).await.unwrap_err();
/// assert_eq!(error.codes().to_string(), "8/8/16");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
pub struct PermittedGenerator<G, S> {
    shared: Arc<Shared<G, S>>,
}

struct Shared<G, S> {
    generator: G,
    saf: S,
    gateway: UserId,
    /// For each pair of user and APPLID, the version that the SAF provider had when it last granted access. The cache
    /// holds about [`GRANTED`] pairs. The provider must check all other pairs again.
    granted: Cache<(UserId, Applid), u64>,
}

/// The number of pairs of user and APPLID whose permission is cached. The cache takes a few hundred
/// kilobytes.
const GRANTED: usize = 4_096;

impl<G: PassTicketGenerator, S: SafProvider> PermittedGenerator<G, S> {
    /// Makes a generator. `gateway` is the gateway's own user id. `saf` checks the permission of this user.
    /// If the permission is granted, `generator` makes the ticket.
    pub fn new(generator: G, saf: S, gateway: UserId) -> Self {
        let granted = Cache::new(GRANTED);
        Self { shared: Arc::new(Shared { generator, saf, gateway, granted }) }
    }
}

impl<G, S> Clone for PermittedGenerator<G, S> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<G: fmt::Debug, S: fmt::Debug> fmt::Debug for PermittedGenerator<G, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { generator, saf, gateway, .. } = &*self.shared;
        f.debug_struct("PermittedGenerator")
            .field("generator", generator)
            .field("saf", saf)
            .field("gateway", gateway)
            .finish_non_exhaustive()
    }
}

impl<G: PassTicketGenerator, S: SafProvider> PassTicketGenerator for PermittedGenerator<G, S> {
    fn generate(&self, user: &UserId, applid: &Applid) -> GenerateFuture {
        let (shared, user, applid) = (self.shared.clone(), *user, *applid);
        Box::pin(async move {
            match shared.try_permit_now(&user, &applid) {
                Some(permitted) => permitted?,
                None => shared.permit(&user, &applid).await?,
            }
            match shared.generator.try_generate_now(&user, &applid) {
                Some(generated) => generated,
                None => shared.generator.generate(&user, &applid).await,
            }
        })
    }

    fn try_generate_now(
        &self,
        user: &UserId,
        applid: &Applid,
    ) -> Option<Result<PassTicket, GenerateError>> {
        match self.shared.try_permit_now(user, applid)? {
            Ok(()) => self.shared.generator.try_generate_now(user, applid),
            Err(error) => Some(Err(error)),
        }
    }

    fn generate_with_token(
        &self,
        user: &UserId,
        applid: &Applid,
        token: Option<&str>,
    ) -> GenerateFuture {
        let (shared, user, applid) = (self.shared.clone(), *user, *applid);
        let token = token.map(|token| Zeroizing::new(token.to_owned()));
        Box::pin(async move {
            match shared.try_permit_now(&user, &applid) {
                Some(permitted) => permitted?,
                None => shared.permit(&user, &applid).await?,
            }
            match shared.generator.try_generate_now(&user, &applid) {
                Some(generated) => generated,
                None => {
                    let token = token.as_ref().map(|token| token.as_str());
                    shared.generator.generate_with_token(&user, &applid, token).await
                }
            }
        })
    }

    fn needs_token(&self) -> bool {
        self.shared.generator.needs_token()
    }

    fn precheck(&self, user: &UserId, applid: &Applid) -> Result<(), GenerateError> {
        self.shared.generator.precheck(user, applid)
    }

    fn replay(&self, applid: &Applid) -> Replay {
        self.shared.generator.replay(applid)
    }

    fn lifetime(&self, user: &UserId, applid: &Applid) -> Option<Duration> {
        self.shared.generator.lifetime(user, applid)
    }

    fn forget(&self, user: &UserId, applid: &Applid) {
        self.shared.generator.forget(user, applid);
    }
}

impl<G: PassTicketGenerator, S: SafProvider> Shared<G, S> {
    /// Checks the permission without waiting. Returns `None` if the check has to wait.
    fn try_permit_now(&self, user: &UserId, applid: &Applid) -> Option<Result<(), GenerateError>> {
        // The version is read before the check, so that the answer is not older than the version.
        let version = self.saf.version();
        if version.is_some() && self.granted.get(&(*user, *applid)) == version {
            return Some(Ok(()));
        }
        if let Err(error) = self.generator.precheck(user, applid) {
            return Some(Err(error));
        }
        let resource = Resource::new(applid, user);
        let level = AccessLevel::Update;
        let access = self.saf.try_check_now(&self.gateway, CLASS, resource.as_str(), level)?;
        Some(self.apply(access, version, user, applid))
    }

    /// Checks the permission, and waits for the answer of the provider. The caller must have called `try_permit_now`
    /// before, which calls `precheck`.
    async fn permit(&self, user: &UserId, applid: &Applid) -> Result<(), GenerateError> {
        let version = self.saf.version();
        let resource = Resource::new(applid, user);
        let level = AccessLevel::Update;
        let access = self.saf.check(&self.gateway, CLASS, resource.as_str(), level).await;
        self.apply(access, version, user, applid)
    }

    /// Converts the answer of the provider to the result. Caches the permission if it was granted.
    fn apply(
        &self,
        access: Result<Access, SafError>,
        version: Option<u64>,
        user: &UserId,
        applid: &Applid,
    ) -> Result<(), GenerateError> {
        match access {
            Ok(Access::Granted) => {
                if let Some(version) = version {
                    self.granted.insert((*user, *applid), version);
                }
                Ok(())
            }
            Ok(Access::Refused) => {
                Err(GenerateError::new(*user, *applid, SafReturnCodes::NOT_AUTHORIZED))
            }
            Err(error) => {
                let failed = match error {
                    SafError::Unavailable => GenerateError::unavailable(*user, *applid, None),
                    _ => GenerateError::new(*user, *applid, SafReturnCodes::INTERNAL),
                };
                Err(failed
                    .with_reason(format!("SAF check failed, so the request is refused: {error}")))
            }
        }
    }
}

/// The resource name `IRRPTAUTH.<applid>.<user>`. It is stored without an allocation.
struct Resource {
    text: [u8; Self::MAX_LEN],
    len: usize,
}

impl Resource {
    const PREFIX: &str = "IRRPTAUTH.";
    const MAX_LEN: usize = Self::PREFIX.len() + 8 + 1 + 8;

    fn new(applid: &Applid, user: &UserId) -> Self {
        let mut resource = Self { text: [0; Self::MAX_LEN], len: 0 };
        for part in [Self::PREFIX.as_bytes(), applid.as_bytes(), b".", user.as_bytes()] {
            let end = resource.len + part.len();
            resource.text[resource.len..end].copy_from_slice(part);
            resource.len = end;
        }
        resource
    }

    fn as_str(&self) -> &str {
        str::from_utf8(&self.text[..self.len]).expect("the parts are ASCII")
    }
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::ready,
        sync::atomic::{AtomicUsize, Ordering::SeqCst},
        time::Duration,
    };

    use super::*;
    use crate::{
        clock::{ManualClock, Timestamp},
        passticket::{Algorithm, KeyProfile, KeyProfiles, LocalGenerator, Replay},
        saf::{CheckFuture, FileSaf, Profile, ProfileName},
    };

    /// A provider with a fixed answer. It asserts that the user, class, resource and level of the check are as
    /// expected.
    #[derive(Clone)]
    struct FixedSaf(Result<Access, SafError>);

    impl SafProvider for FixedSaf {
        fn check(
            &self,
            user: &UserId,
            class: &str,
            resource: &str,
            level: AccessLevel,
        ) -> CheckFuture {
            let answer = self.try_check_now(user, class, resource, level).unwrap();
            Box::pin(ready(answer))
        }

        fn try_check_now(
            &self,
            user: &UserId,
            class: &str,
            resource: &str,
            level: AccessLevel,
        ) -> Option<Result<Access, SafError>> {
            assert_eq!(
                (user.as_str(), class, resource, level),
                ("ZWESVUSR", "PTKTDATA", "IRRPTAUTH.ZOWEAPPL.LONGUSER", AccessLevel::Update)
            );
            Some(self.0.clone())
        }
    }

    #[test]
    fn the_replay_protection_is_that_of_the_key() {
        let (key, other) = (Applid::new("ZOWEAPPL").unwrap(), Applid::new("OTHER").unwrap());
        for (replay, want) in [
            (Replay::Allowed, [Replay::Allowed, Replay::Protected]),
            (Replay::Protected, [Replay::Protected, Replay::Protected]),
        ] {
            let profile = KeyProfile::from_hex(key, Algorithm::Legacy, "F90F48F03C28DC86");
            let profiles = KeyProfiles::new([profile.unwrap().with_replay(replay)]).unwrap();
            let (local, saf) = (LocalGenerator::new(profiles), FileSaf::new([]));
            let tickets = PermittedGenerator::new(local, saf, UserId::new("ZWESVUSR").unwrap());
            let shared: Arc<dyn PassTicketGenerator> = Arc::new(tickets);
            assert_eq!([key, other].map(|applid| shared.replay(&applid)), want);
        }
    }

    #[test]
    fn permissions_are_cached_until_the_profiles_change() {
        let (user, applid) = (UserId::new("LONGUSER").unwrap(), Applid::new("ZOWEAPPL").unwrap());
        let key = KeyProfile::from_hex(applid, Algorithm::Legacy, "F90F48F03C28DC86")
            .unwrap()
            .with_replay(Replay::Allowed);
        let gateway = UserId::new("ZWESVUSR").unwrap();
        let profile = |level| {
            let name = ProfileName::new("IRRPTAUTH.ZOWEAPPL.*").unwrap();
            Profile::new(CLASS, name).permit(gateway, level)
        };
        let saf = FileSaf::new([profile(AccessLevel::Update)]);
        let local = LocalGenerator::new(KeyProfiles::new([key]).unwrap());
        let tickets = PermittedGenerator::new(local, saf.clone(), gateway);
        for level in [AccessLevel::Update, AccessLevel::Read, AccessLevel::Control] {
            saf.replace([profile(level)]);
            for _ in 0..3 {
                let result = tickets.try_generate_now(&user, &applid).unwrap();
                let codes = result.err().map(|error| error.codes());
                let want = (level < AccessLevel::Update).then_some(SafReturnCodes::NOT_AUTHORIZED);
                assert_eq!(codes, want, "{level}");
            }
        }
    }

    #[tokio::test]
    async fn a_ticket_needs_a_key_and_a_permission() {
        let (user, applid) = (UserId::new("LONGUSER").unwrap(), Applid::new("ZOWEAPPL").unwrap());
        let key = KeyProfile::from_hex(applid, Algorithm::Legacy, "F90F48F03C28DC86").unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_700_000_000)));
        let local = LocalGenerator::new(KeyProfiles::new([key]).unwrap()).with_clock(clock.clone());
        // With replay protection, a user gets only one ticket for each time slot (one second). Two seconds pass here,
        // so the following loop can make two tickets. A failed request must not use up a time slot.
        clock.advance(Duration::from_secs(2));
        for (answer, applid, want) in [
            (Ok(Access::Refused), "ZOWEAPPL", Some("8/8/16")),
            (Err(SafError::Unavailable), "ZOWEAPPL", Some("8/8/8")),
            (Err(SafError::Failed("x".to_owned())), "ZOWEAPPL", Some("8/8/8")),
            (Ok(Access::Granted), "NOKEY", Some("8/16/28")),
            (Ok(Access::Granted), "ZOWEAPPL", None),
            (Ok(Access::Granted), "ZOWEAPPL", Some("8/8/8")),
        ] {
            let gateway = UserId::new("ZWESVUSR").unwrap();
            let applid = Applid::new(applid).unwrap();
            let tickets = PermittedGenerator::new(local.clone(), FixedSaf(answer.clone()), gateway);
            let now = tickets.try_generate_now(&user, &applid).unwrap();
            for got in [now, tickets.generate(&user, &applid).await] {
                let codes = got.as_ref().err().map(|error| error.codes().to_string());
                assert_eq!(codes.as_deref(), want, "{answer:?} {applid}");
                assert!(got.map_or_else(|e| *e.user() == user && *e.applid() == applid, |_| true));
            }
        }
    }

    /// A generator that is pending at the first poll. It counts the tickets.
    #[derive(Clone, Default)]
    struct SlowGenerator(Arc<AtomicUsize>);

    impl PassTicketGenerator for SlowGenerator {
        fn generate(&self, _: &UserId, _: &Applid) -> GenerateFuture {
            let tickets = self.0.clone();
            Box::pin(async move {
                tokio::task::yield_now().await;
                tickets.fetch_add(1, SeqCst);
                Ok(PassTicket::parse("QHOAH1TV").unwrap())
            })
        }

        fn precheck(&self, user: &UserId, applid: &Applid) -> Result<(), GenerateError> {
            match applid.as_str() {
                "NOKEY" => Err(GenerateError::new(*user, *applid, SafReturnCodes::NO_PROFILE)),
                _ => Ok(()),
            }
        }
    }

    /// A provider that is pending at the first poll. Its version never changes. It counts the checks.
    #[derive(Clone)]
    struct SlowSaf(Result<Access, SafError>, Arc<AtomicUsize>);

    impl SafProvider for SlowSaf {
        fn check(&self, _: &UserId, _: &str, _: &str, _: AccessLevel) -> CheckFuture {
            let (answer, checks) = (self.0.clone(), self.1.clone());
            Box::pin(async move {
                tokio::task::yield_now().await;
                checks.fetch_add(1, SeqCst);
                answer
            })
        }

        fn version(&self) -> Option<u64> {
            Some(7)
        }
    }

    #[tokio::test]
    async fn generator_and_provider_may_wait_and_may_be_chosen_at_run_time() {
        let (user, gateway) = (UserId::new("LONGUSER").unwrap(), UserId::new("ZWESVUSR").unwrap());
        let granted = Ok(Access::Granted);
        for (access, applid, want, unavailable, checks, tickets) in [
            (Ok(Access::Refused), "ZOWEAPPL", Some("8/8/16"), false, 3, 0),
            (Err(SafError::Unavailable), "ZOWEAPPL", Some("8/8/8"), true, 3, 0),
            (Err(SafError::Failed("x".to_owned())), "ZOWEAPPL", Some("8/8/8"), false, 3, 0),
            (granted.clone(), "NOKEY", Some("8/16/28"), false, 0, 0),
            // The permission is cached, because the version does not change.
            (granted, "ZOWEAPPL", None, false, 1, 3),
        ] {
            let slow_saf = SlowSaf(access.clone(), Arc::default());
            let slow_generator = SlowGenerator::default();
            let applid = Applid::new(applid).unwrap();
            let generator: Arc<dyn PassTicketGenerator> = Arc::new(slow_generator.clone());
            let provider: Arc<dyn SafProvider> = Arc::new(slow_saf.clone());
            let permitted = PermittedGenerator::new(generator, provider, gateway);
            for _ in 0..3 {
                let got = match permitted.clone().try_generate_now(&user, &applid) {
                    Some(got) => got,
                    None => permitted.generate(&user, &applid).await,
                };
                let error = got.err();
                let codes = error.as_ref().map(|error| error.codes().to_string());
                assert_eq!(codes.as_deref(), want, "{access:?} {applid}");
                assert_eq!(error.is_some_and(|error| error.is_unavailable()), unavailable);
            }
            assert_eq!(
                (slow_saf.1.load(SeqCst), slow_generator.0.load(SeqCst)),
                (checks, tickets),
                "{access:?}"
            );
        }
    }
}
