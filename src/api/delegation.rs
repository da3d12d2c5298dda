//! Limits on PassTickets for other users: grants, protected users and call rates.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    hash::Hash,
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
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

/// Settings of `delegate/passticket`: how e-mail addresses are mapped to users, and the limits on
/// callers.
///
/// A PassTicket for another user is that user's identity. So there are limits beside the permission
/// of the security product, which is all that Zowe checks:
/// - With [`with_grants`](Self::with_grants) a caller gets tickets for the applications and users that
///   their [`Grant`]s name. Without it the permission alone decides.
/// - No caller gets a ticket for a user given to [`with_protected`](Self::with_protected).
/// - A caller has a number of [calls per minute](Self::with_calls_per_minute).
///
/// ```
/// use tower_passticket::{
///     api::{AllowList, Delegation, Grant},
///     identity::{DistributedMap, Registry},
///     passticket::UserId,
/// };
///
/// let agent = Grant::to_user(UserId::new("AGENT")?, AllowList::Any, AllowList::Any);
/// let delegation = Delegation::new(DistributedMap::default(), Registry::new("ldaps://example.com")?)
///     .with_grants([agent])
///     .with_protected(UserId::new("IBMUSER")?);
/// # let _ = delegation;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Delegation {
    mapper: Arc<dyn DistributedMapper>,
    registry: Registry,
    /// `None`: the permission of the security product decides.
    grants: Option<Vec<Grant>>,
    protected: HashSet<UserId>,
    calls: CallLimit,
}

const CALLS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(60).expect("is not zero");

impl Delegation {
    /// Maps e-mail addresses to users with `mapper`, as identities of `registry`.
    pub fn new(mapper: impl DistributedMapper, registry: Registry) -> Self {
        Self {
            mapper: Arc::new(mapper),
            registry,
            grants: None,
            protected: HashSet::new(),
            calls: CallLimit::new(CALLS_PER_MINUTE),
        }
    }

    /// Allows only what `grants` name; an empty list allows nothing. Replaces earlier grants.
    #[must_use]
    pub fn with_grants(self, grants: impl IntoIterator<Item = Grant>) -> Self {
        Self { grants: Some(grants.into_iter().collect()), ..self }
    }

    /// Refuses every PassTicket for `user`, whatever the grants are. Adds to earlier ones.
    #[must_use]
    pub fn with_protected(mut self, user: UserId) -> Self {
        self.protected.insert(user);
        self
    }

    /// Limits the calls of each caller per minute. The default is 60. After a minute without calls,
    /// as many may come in a burst.
    #[must_use]
    pub fn with_calls_per_minute(mut self, calls: NonZeroU32) -> Self {
        self.calls = CallLimit::new(calls);
        self
    }

    /// Counts a call.
    ///
    /// # Errors
    /// The time until the next call is possible.
    pub(super) fn count(&self, caller: &UserId, now: Timestamp) -> Result<(), Duration> {
        self.calls.count(caller, now)
    }

    /// # Errors
    /// [`DelegationRefusal::Applid`].
    pub(super) fn check_applid(
        &self,
        caller: &CertifiedCaller<'_>,
        applid: &Applid,
    ) -> Result<(), DelegationRefusal> {
        let allows = |grant: &Grant| grant.is_for(caller) && grant.applids.contains(applid);
        if self.has_grant(allows) { Ok(()) } else { Err(DelegationRefusal::Applid(*applid)) }
    }

    /// # Errors
    /// [`DelegationRefusal::Protected`], [`DelegationRefusal::Target`].
    pub(super) fn check_target(
        &self,
        caller: &CertifiedCaller<'_>,
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

    /// Whether there are no grants, or one of them allows the request.
    fn has_grant(&self, allows: impl Fn(&Grant) -> bool) -> bool {
        self.grants.as_ref().is_none_or(|grants| grants.iter().any(allows))
    }

    /// The user to whom the address is mapped.
    ///
    /// # Errors
    /// The error of the mapper.
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

/// A caller that is authenticated by a client certificate.
pub(super) struct CertifiedCaller<'a> {
    pub(super) user: UserId,
    pub(super) certificate: &'a PeerCertificate,
}

/// Allows callers to obtain PassTickets for applications and users.
#[derive(Clone, Debug)]
pub struct Grant {
    user: Option<UserId>,
    certificate: Option<CertificateFilter>,
    applids: AllowList<Applid>,
    users: AllowList<UserId>,
}

impl Grant {
    /// A grant to the caller whose certificate is mapped to `user`.
    pub fn to_user(user: UserId, applids: AllowList<Applid>, users: AllowList<UserId>) -> Self {
        Self { user: Some(user), certificate: None, applids, users }
    }

    /// A grant to callers whose certificate matches `filter`.
    pub fn to_certificate(
        filter: CertificateFilter,
        applids: AllowList<Applid>,
        users: AllowList<UserId>,
    ) -> Self {
        Self { user: None, certificate: Some(filter), applids, users }
    }

    /// The user to whom the grant is given, if it is given to a user.
    pub fn user(&self) -> Option<&UserId> {
        self.user.as_ref()
    }

    fn is_for(&self, caller: &CertifiedCaller<'_>) -> bool {
        self.user.is_none_or(|user| user == caller.user)
            && self.certificate.as_ref().is_none_or(|filter| filter.matches(caller.certificate))
    }
}

/// The applications or users that a [`Grant`] allows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AllowList<T: Eq + Hash> {
    /// All.
    Any,
    /// Only these.
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

/// Why a caller with the permission gets no PassTicket for this application or user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DelegationRefusal {
    /// No grant of the caller names the application.
    #[error("the caller may obtain no PassTickets for the application {0}")]
    Applid(Applid),
    /// No grant of the caller names the user.
    #[error("the caller may obtain no PassTickets for the user {0}")]
    Target(UserId),
    /// The user is protected.
    #[error("the user {0} is protected: no caller may obtain PassTickets for it")]
    Protected(UserId),
}

/// Rate limit per caller: a token bucket with the capacity of one minute.
struct CallLimit {
    burst: NonZeroU32,
    /// The time since the epoch at which the bucket of a caller is full again. A `Duration` has
    /// nanoseconds: one call may take less than a millisecond of a minute. A caller without an entry
    /// has a full bucket.
    full_at: Mutex<HashMap<UserId, Duration>>,
}

const MINUTE: Duration = Duration::from_secs(60);

/// With this many entries, those of full buckets are removed.
const MAX_ENTRIES: usize = 1_000;

impl CallLimit {
    fn new(per_minute: NonZeroU32) -> Self {
        Self { burst: per_minute, full_at: Mutex::default() }
    }

    /// # Errors
    /// The time until the next call is possible.
    fn count(&self, caller: &UserId, now: Timestamp) -> Result<(), Duration> {
        let now = Duration::from_millis(now.as_millis());
        let mut callers = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if callers.len() >= MAX_ENTRIES {
            callers.retain(|_, full_at| *full_at > now);
        }
        let full_at = callers.entry(*caller).or_insert(now);
        // A clock that was set back makes a bucket seem emptier than empty.
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
    fn a_clock_that_is_set_back_locks_no_caller_out() {
        let (limit, caller) = counter(2);
        let now = |secs: u64| Timestamp::from_secs(100_000 + secs);
        let at = |secs| limit.count(&caller, now(secs));
        assert_eq!((at(3600), at(3600)), (Ok(()), Ok(())));
        // An hour back: as if the calls had been made just now.
        assert_eq!(at(0), Err(Duration::from_secs(30)));
        assert_eq!(at(29), Err(Duration::from_secs(1)));
        assert_eq!((at(30), at(59)), (Ok(()), Err(Duration::from_secs(1))));
        assert_eq!(at(60), Ok(()));
    }

    #[test]
    fn high_limits_are_exact() {
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
