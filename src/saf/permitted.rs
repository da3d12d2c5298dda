//! PassTickets only where the security product would let the gateway make them.

use std::{fmt, future::ready, sync::Arc};

use quick_cache::sync::Cache;

use super::{Access, AccessLevel, SafError, SafProvider};
use crate::passticket::{
    Applid, GenerateError, GenerateFuture, KeyProfile, LocalGenerator, PassTicket,
    PassTicketGenerator, SafReturnCodes, UserId,
};

/// The class of the resources that guard PassTickets.
const CLASS: &str = "PTKTDATA";

/// Makes a PassTicket here when the gateway's own user id has `UPDATE` on
/// `IRRPTAUTH.<applid>.<user>` in class `PTKTDATA`, as z/OS asks of whoever calls `R_ticketserv`
/// there (spec 000).
///
/// | | the codes of the error |
/// |---|---|
/// | no key for the APPLID | 8/16/28 |
/// | access refused | 8/8/16 |
/// | nobody can say, or no second is left ([`NoTimeSlot`](crate::passticket::NoTimeSlot)) | 8/8/8; the log says why |
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
#[derive(Clone)]
pub struct PermittedGenerator<S> {
    generator: LocalGenerator,
    saf: S,
    gateway: UserId,
    /// At which version of the answers a ticket was last granted. Of more pairs than fit, some are
    /// checked anew.
    granted: Arc<Cache<(UserId, Applid), u64>>,
}

/// So many users and APPLIDs, in some hundred kilobytes.
const GRANTED: usize = 4_096;

impl<S: SafProvider> PermittedGenerator<S> {
    /// Makes what `saf` lets the user `gateway` make.
    pub fn new(generator: LocalGenerator, saf: S, gateway: UserId) -> Self {
        Self { generator, saf, gateway, granted: Arc::new(Cache::new(GRANTED)) }
    }
}

impl<S: fmt::Debug> fmt::Debug for PermittedGenerator<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PermittedGenerator")
            .field("generator", &self.generator)
            .field("saf", &self.saf)
            .field("gateway", &self.gateway)
            .finish_non_exhaustive()
    }
}

impl<S: SafProvider> PassTicketGenerator for PermittedGenerator<S> {
    fn generate(&self, user: &UserId, applid: &Applid) -> GenerateFuture {
        let profile = match self.generator.profile(user, applid) {
            Ok(profile) => profile.clone(),
            Err(error) => return Box::pin(ready(Err(error))),
        };
        let resource = Resource::new(applid, user);
        let check = self.saf.check(&self.gateway, CLASS, resource.as_str(), AccessLevel::Update);
        let (generator, user) = (self.generator.clone(), *user);
        Box::pin(async move { conclude(check.await, &generator, &profile, &user) })
    }

    fn try_generate_now(
        &self,
        user: &UserId,
        applid: &Applid,
    ) -> Option<Result<PassTicket, GenerateError>> {
        let profile = match self.generator.profile(user, applid) {
            Ok(profile) => profile,
            Err(error) => return Some(Err(error)),
        };
        // Read before the answer, which then is no older.
        let version = self.saf.version();
        if version.is_some() && self.granted.get(&(*user, *applid)) == version {
            return Some(self.generator.generate_from(profile, user));
        }
        let resource = Resource::new(applid, user);
        let level = AccessLevel::Update;
        let access = self.saf.try_check_now(&self.gateway, CLASS, resource.as_str(), level)?;
        if let (Ok(Access::Granted), Some(version)) = (&access, version) {
            self.granted.insert((*user, *applid), version);
        }
        Some(conclude(access, &self.generator, profile, user))
    }
}

/// What the answer of the security product means for the ticket. Only who may have one uses up a
/// second.
fn conclude(
    access: Result<Access, SafError>,
    generator: &LocalGenerator,
    profile: &KeyProfile,
    user: &UserId,
) -> Result<PassTicket, GenerateError> {
    let applid = profile.applid();
    let codes = match access {
        Ok(Access::Granted) => return generator.generate_from(profile, user),
        Ok(Access::Refused) => SafReturnCodes::NOT_AUTHORIZED,
        Err(error) => {
            tracing::error!(%user, %applid, %error, "nobody can say whether a ticket may be made");
            SafReturnCodes::INTERNAL
        }
    };
    Err(GenerateError::new(*user, *applid, codes))
}

/// `IRRPTAUTH.<applid>.<user>`, which is made for each ticket.
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
        str::from_utf8(&self.text[..self.len]).expect("made of texts")
    }
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        clock::{ManualClock, Timestamp},
        passticket::{Algorithm, KeyProfiles, Replay},
        saf::{CheckFuture, FileSaf, Profile, ProfileName},
    };

    /// Answers as it is told, if it is asked what it should be asked.
    #[derive(Clone)]
    struct Says(Result<Access, SafError>);

    impl SafProvider for Says {
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
    fn what_was_granted_is_remembered_until_the_permissions_are_others() {
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
                let made = tickets.try_generate_now(&user, &applid).unwrap();
                let codes = made.err().map(|error| error.codes());
                let refused =
                    (level < AccessLevel::Update).then_some(SafReturnCodes::NOT_AUTHORIZED);
                assert_eq!(codes, refused, "{level}");
            }
        }
    }

    #[tokio::test]
    async fn a_ticket_needs_a_key_and_the_consent_of_the_security_product() {
        let (user, applid) = (UserId::new("LONGUSER").unwrap(), Applid::new("ZOWEAPPL").unwrap());
        let key = KeyProfile::from_hex(applid, Algorithm::Legacy, "F90F48F03C28DC86").unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_700_000_000)));
        let local = LocalGenerator::new(KeyProfiles::new([key]).unwrap()).with_clock(clock.clone());
        // Two tickets can be made, one each way: what is refused must not use them up.
        clock.advance(Duration::from_secs(2));
        for (says, applid, want) in [
            (Ok(Access::Refused), "ZOWEAPPL", Some("8/8/16")),
            (Err(SafError::Unavailable), "ZOWEAPPL", Some("8/8/8")),
            (Err(SafError::Failed("x".to_owned())), "ZOWEAPPL", Some("8/8/8")),
            (Ok(Access::Granted), "NOKEY", Some("8/16/28")),
            (Ok(Access::Granted), "ZOWEAPPL", None),
            (Ok(Access::Granted), "ZOWEAPPL", Some("8/8/8")),
        ] {
            let gateway = UserId::new("ZWESVUSR").unwrap();
            let applid = Applid::new(applid).unwrap();
            let tickets = PermittedGenerator::new(local.clone(), Says(says.clone()), gateway);
            let at_once = tickets.try_generate_now(&user, &applid).unwrap();
            for got in [at_once, tickets.generate(&user, &applid).await] {
                let codes = got.as_ref().err().map(|error| error.codes().to_string());
                assert_eq!(codes.as_deref(), want, "{says:?} {applid}");
                assert!(got.map_or_else(|e| *e.user() == user && *e.applid() == applid, |_| true));
            }
        }
    }
}
