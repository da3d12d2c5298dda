//! For whom, and for which applications, who may obtain a PassTicket for another.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    hash::Hash,
    num::NonZeroU32,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::{
    clock::Timestamp,
    identity::{
        CertificateFilter, DistributedIdentity, DistributedMapper, EmailAddress, MapError,
        PeerCertificate, Registry,
    },
    passticket::{Applid, UserId},
};

/// What delegating takes beside the permission of the security product: whose an e-mail address
/// is, and what no permission can give.
///
/// A PassTicket for another user is that user's identity, so beyond what Zowe checks:
/// - with [`allow_only`](Self::allow_only), a caller gets tickets only for the applications and users
///   that a [`Grant`] of theirs names; without it the permission alone decides;
/// - nobody gets one for a user given to [`protect`](Self::protect), whatever grants say;
/// - one caller has so many calls a minute.
pub struct Delegation {
    mapper: Box<dyn DistributedMapper>,
    registry: Registry,
    /// `None`: whatever the permission of the security product allows.
    grants: Option<Vec<Grant>>,
    protected: HashSet<UserId>,
    calls: CallLimit,
}

/// So many calls a minute, unless told otherwise.
const CALLS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(60).expect("is not zero");

impl Delegation {
    /// Looks up whose an e-mail address is with `mapper`, in `registry`.
    pub fn new(mapper: impl DistributedMapper, registry: Registry) -> Self {
        Self {
            mapper: Box::new(mapper),
            registry,
            grants: None,
            protected: HashSet::new(),
            calls: CallLimit::new(CALLS_PER_MINUTE),
        }
    }

    /// Allows what these grants say, and nothing else: with none of them, nothing. Called again, it
    /// replaces the ones before.
    #[must_use]
    pub fn allow_only(self, grants: impl IntoIterator<Item = Grant>) -> Self {
        Self { grants: Some(grants.into_iter().collect()), ..self }
    }

    /// Never gives a PassTicket for `user`.
    #[must_use]
    pub fn protect(mut self, user: UserId) -> Self {
        self.protected.insert(user);
        self
    }

    /// Lets a caller have so many calls a minute; 60 unless told otherwise. As many may come at
    /// once after a minute without any.
    #[must_use]
    pub fn calls_per_minute(mut self, calls: NonZeroU32) -> Self {
        self.calls = CallLimit::new(calls);
        self
    }

    /// # Errors
    /// How long to wait.
    pub(super) fn count(&self, caller: &UserId, now: Timestamp) -> Result<(), Duration> {
        self.calls.count(caller, now)
    }

    /// # Errors
    /// [`DelegationRefusal::Applid`].
    pub(super) fn check_applid(
        &self,
        caller: &Caller<'_>,
        applid: &Applid,
    ) -> Result<(), DelegationRefusal> {
        let allows = |grant: &Grant| grant.is_for(caller) && grant.applids.contains(applid);
        if self.has_grant(allows) { Ok(()) } else { Err(DelegationRefusal::Applid(*applid)) }
    }

    /// # Errors
    /// [`DelegationRefusal::Protected`], [`DelegationRefusal::Target`].
    pub(super) fn check_target(
        &self,
        caller: &Caller<'_>,
        applid: &Applid,
        target: &UserId,
    ) -> Result<(), DelegationRefusal> {
        if self.protected.contains(target) {
            return Err(DelegationRefusal::Protected(*target));
        }
        let allows = |grant: &Grant| {
            grant.is_for(caller) && grant.applids.contains(applid) && grant.users.contains(target)
        };
        if self.has_grant(allows) { Ok(()) } else { Err(DelegationRefusal::Target(*target)) }
    }

    /// Whether grants do not matter, or one of them allows it.
    fn has_grant(&self, allows: impl Fn(&Grant) -> bool) -> bool {
        self.grants.as_ref().is_none_or(|grants| grants.iter().any(allows))
    }

    /// Whose the address is.
    ///
    /// # Errors
    /// As the mapper's.
    pub(super) async fn user_of(&self, email: &EmailAddress) -> Result<UserId, MapError> {
        let identity = DistributedIdentity::from_email(email, &self.registry);
        self.mapper.map_identity(&identity).await
    }
}

impl fmt::Debug for Delegation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delegation")
            .field("registry", &self.registry)
            .field("grants", &self.grants)
            .field("protected", &self.protected)
            .field("calls", &self.calls.burst)
            .finish_non_exhaustive()
    }
}

/// Who calls: the certificate, and the user that it belongs to.
pub(super) struct Caller<'a> {
    pub(super) user: UserId,
    pub(super) certificate: &'a PeerCertificate,
}

/// Lets some callers obtain PassTickets for some applications and users.
#[derive(Clone, Debug)]
pub struct Grant {
    user: Option<UserId>,
    certificate: Option<CertificateFilter>,
    applids: AllowList<Applid>,
    users: AllowList<UserId>,
}

impl Grant {
    /// For the caller whose certificate belongs to `user`.
    pub fn to_user(user: UserId, applids: AllowList<Applid>, users: AllowList<UserId>) -> Self {
        Self { user: Some(user), certificate: None, applids, users }
    }

    /// For callers with such a certificate.
    pub fn to_certificate(
        filter: CertificateFilter,
        applids: AllowList<Applid>,
        users: AllowList<UserId>,
    ) -> Self {
        Self { user: None, certificate: Some(filter), applids, users }
    }

    /// The user whom it is for, if it is for one.
    pub fn user(&self) -> Option<&UserId> {
        self.user.as_ref()
    }

    fn is_for(&self, caller: &Caller<'_>) -> bool {
        self.user.is_none_or(|user| user == caller.user)
            && self.certificate.as_ref().is_none_or(|filter| filter.matches(caller.certificate))
    }
}

/// Which ones are allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowList<T: Eq + Hash> {
    /// All of them.
    Any,
    /// These only.
    Only(HashSet<T>),
}

impl<T: Eq + Hash> AllowList<T> {
    fn contains(&self, item: &T) -> bool {
        match self {
            Self::Any => true,
            Self::Only(items) => items.contains(item),
        }
    }
}

/// Why a caller who may delegate gets no PassTicket for this application or user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DelegationRefusal {
    /// No grant of the caller names the application.
    #[error("the caller may obtain no PassTickets for the application {0}")]
    Applid(Applid),
    /// No grant of the caller names the user.
    #[error("the caller may obtain no PassTickets for the user {0}")]
    Target(UserId),
    /// Nobody gets one for this user.
    #[error("nobody may obtain PassTickets for the user {0}")]
    Protected(UserId),
}

/// Counts the calls of each caller: a bucket that fills evenly, a minute's worth deep.
struct CallLimit {
    burst: NonZeroU32,
    /// When the bucket of a caller will be full again, since the epoch: in nanoseconds, because a
    /// call may take less than a millisecond of a minute. A caller without an entry has a full one.
    full_at: Mutex<HashMap<UserId, Duration>>,
}

const MINUTE: Duration = Duration::from_secs(60);

/// So many callers are remembered before those with a full bucket are dropped.
const REMEMBERED: usize = 1_000;

impl CallLimit {
    fn new(per_minute: NonZeroU32) -> Self {
        Self { burst: per_minute, full_at: Mutex::default() }
    }

    /// # Errors
    /// How long until there is room for one more call.
    fn count(&self, caller: &UserId, now: Timestamp) -> Result<(), Duration> {
        let now = Duration::from_millis(now.as_millis());
        let mut callers = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if callers.len() >= REMEMBERED {
            callers.retain(|_, full_at| *full_at > now);
        }
        let full_at = callers.entry(*caller).or_insert(now);
        // No bucket is emptier than empty: it seems so after the clock was set back.
        *full_at = (*full_at).clamp(now, now + MINUTE);
        let full_then = *full_at + MINUTE / self.burst.get();
        let too_much = full_then.saturating_sub(now + MINUTE);
        if too_much.is_zero() {
            *full_at = full_then;
            Ok(())
        } else {
            Err(too_much)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter(per_minute: u32) -> (CallLimit, UserId) {
        (CallLimit::new(NonZeroU32::new(per_minute).unwrap()), UserId::new("AGENT").unwrap())
    }

    #[test]
    fn a_clock_that_is_set_back_locks_nobody_out() {
        let (limit, caller) = counter(2);
        let now = |secs: u64| Timestamp::from_secs(100_000 + secs);
        let at = |secs| limit.count(&caller, now(secs));
        assert_eq!((at(3600), at(3600)), (Ok(()), Ok(())));
        // An hour back: as if the calls had been made just now, and no longer ago than that.
        assert_eq!(at(0), Err(Duration::from_secs(30)));
        assert_eq!(at(29), Err(Duration::from_secs(1)));
        assert_eq!((at(30), at(59)), (Ok(()), Err(Duration::from_secs(1))));
        assert_eq!(at(60), Ok(()));
    }

    #[test]
    fn a_limit_is_one_however_high() {
        for per_minute in [1, 7, 50_000, 60_001, 100_000] {
            let (limit, caller) = counter(per_minute);
            let at = |millis: u64| limit.count(&caller, Timestamp::from_millis(1_000_000 + millis));
            let passed = (0..u64::from(per_minute) * 2).filter(|_| at(0).is_ok()).count();
            assert_eq!(passed, per_minute as usize);
            assert!(at(0).is_err_and(|wait| !wait.is_zero()));
            assert_eq!(at(60_000), Ok(()));
        }
    }
}
