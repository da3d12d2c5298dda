//! Limits which PassTickets (one-time passwords of z/OS) a caller can obtain for other users, and how many calls a
//! caller can make. The token exchange uses the types of this module for its own grants and its own limit of calls.

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

/// Settings of the endpoint `delegate/passticket`: how e-mail addresses are mapped to users, and limits for callers.
///
/// A caller who has a PassTicket for another user can log on as that user. Zowe checks nothing but the access level
/// `READ` of the caller to the resource `APIML.DELEGATE.PASSTICKET` in the security product. This type adds limits:
/// - [`with_grants`](Self::with_grants): a caller gets tickets only for the applications and users that a [`Grant`] to
///   this caller allows. If this method is not called, the permission in the security product is enough.
/// - [`with_protected`](Self::with_protected): no caller gets a ticket for a protected user.
/// - [`with_calls_per_minute`](Self::with_calls_per_minute): each caller may make only this number of calls per minute.
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
    /// `None` before `with_grants`. The permission in the security product is then enough.
    grants: Option<Vec<Grant>>,
    protected: HashSet<UserId>,
    calls: CallLimit,
}

pub(super) const CALLS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(60).expect("is not zero");

impl Delegation {
    /// Maps e-mail addresses to users with `mapper`. `registry` is the name of the directory that contains the users
    /// and their e-mail addresses, for example the URL of an LDAP server.
    pub fn new(mapper: impl DistributedMapper, registry: Registry) -> Self {
        Self {
            mapper: Arc::new(mapper),
            registry,
            grants: None,
            protected: HashSet::new(),
            calls: CallLimit::new(CALLS_PER_MINUTE),
        }
    }

    /// Issues a PassTicket only if one of `grants` allows it for the caller, the application and the user. An empty
    /// list allows no PassTicket. Each call replaces all earlier grants.
    #[must_use]
    pub fn with_grants(self, grants: impl IntoIterator<Item = Grant>) -> Self {
        Self { grants: Some(grants.into_iter().collect()), ..self }
    }

    /// Protects `user`: refuses every PassTicket for this user, even if a grant allows it. Call this function once for
    /// each protected user.
    #[must_use]
    pub fn with_protected(mut self, user: UserId) -> Self {
        self.protected.insert(user);
        self
    }

    /// Limits the calls of each caller per minute. The default is 60. After a minute without calls, a caller may make
    /// all calls of a minute in one burst.
    #[must_use]
    pub fn with_calls_per_minute(mut self, calls: NonZeroU32) -> Self {
        self.calls = CallLimit::new(calls);
        self
    }

    /// Counts a call of `caller` if the limit permits it.
    ///
    /// # Errors
    /// The time after which the caller may call again, if the caller has reached the limit.
    pub(super) fn count(&self, caller: &UserId, now: Timestamp) -> Result<(), Duration> {
        self.calls.count(caller, now)
    }

    /// Checks that a grant allows the caller to obtain PassTickets for `applid`.
    ///
    /// # Errors
    /// [`DelegationRefusal::Applid`] if there is a list of grants, and none of them allows `applid`.
    pub(super) fn check_applid(
        &self,
        caller: &TicketCaller<'_>,
        applid: &Applid,
    ) -> Result<(), DelegationRefusal> {
        let allows = |grant: &Grant| grant.allows_applid(caller, applid);
        if self.has_grant(allows) { Ok(()) } else { Err(DelegationRefusal::Applid(*applid)) }
    }

    /// Checks that `target` is not protected, and that one grant allows both `applid` and `target`.
    ///
    /// # Errors
    /// [`DelegationRefusal::Protected`] if `target` is protected. [`DelegationRefusal::Target`] if there is a list of
    /// grants, and none of them allows both `applid` and `target`.
    pub(super) fn check_target(
        &self,
        caller: &TicketCaller<'_>,
        applid: &Applid,
        target: &UserId,
    ) -> Result<(), DelegationRefusal> {
        if self.protected.contains(target) {
            return Err(DelegationRefusal::Protected(*target));
        }
        let allows =
            |grant: &Grant| grant.allows_applid(caller, applid) && grant.allows_user(target);
        if self.has_grant(allows) { Ok(()) } else { Err(DelegationRefusal::Target(*target)) }
    }

    fn has_grant(&self, allows: impl Fn(&Grant) -> bool) -> bool {
        self.grants.as_ref().is_none_or(|grants| grants.iter().any(allows))
    }

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

pub(super) struct TicketCaller<'a> {
    pub(super) user: UserId,
    /// The client certificate of the caller. `None` if only a token has authenticated the caller.
    pub(super) certificate: Option<&'a PeerCertificate>,
}

/// Allows a caller to obtain PassTickets for some applications and users.
#[derive(Clone, Debug)]
pub struct Grant {
    user: Option<UserId>,
    certificate: Option<CertificateFilter>,
    applids: AllowList<Applid>,
    users: AllowList<UserId>,
}

impl Grant {
    /// Creates a grant to callers whose certificate is mapped to `user`. In the token exchange, the grant also applies
    /// to clients that send a token of this user as the actor token (RFC 8693).
    pub fn to_user(user: UserId, applids: AllowList<Applid>, users: AllowList<UserId>) -> Self {
        Self { user: Some(user), certificate: None, applids, users }
    }

    /// Creates a grant to callers whose certificate matches `filter`.
    pub fn to_certificate(
        filter: CertificateFilter,
        applids: AllowList<Applid>,
        users: AllowList<UserId>,
    ) -> Self {
        Self { user: None, certificate: Some(filter), applids, users }
    }

    /// Returns the user who has the grant. `None` if the grant is for a certificate filter.
    pub fn user(&self) -> Option<&UserId> {
        self.user.as_ref()
    }

    pub(super) fn allows_applid(&self, caller: &TicketCaller<'_>, applid: &Applid) -> bool {
        self.is_for(caller) && self.applids.contains(applid)
    }

    pub(super) fn allows_user(&self, user: &UserId) -> bool {
        self.users.contains(user)
    }

    fn is_for(&self, caller: &TicketCaller<'_>) -> bool {
        let matches = |filter: &CertificateFilter| {
            caller.certificate.is_some_and(|certificate| filter.matches(certificate))
        };
        self.user.is_none_or(|user| user == caller.user)
            && self.certificate.as_ref().is_none_or(matches)
    }
}

/// The applications or users that a [`Grant`] allows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AllowList<T: Eq + Hash> {
    /// All applications or users.
    Any,
    /// Only these applications or users.
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

/// The reason why this gateway gives a caller no PassTicket for an application or a user. If the security product is
/// the reason, the error is [`ApiError::NotPermitted`](super::ApiError::NotPermitted) instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DelegationRefusal {
    /// No grant to the caller allows the application.
    #[error("the caller may obtain no PassTickets for the application {0}")]
    Applid(Applid),
    /// No grant to the caller allows the user for this application.
    #[error("the caller may obtain no PassTickets for the user {0}")]
    Target(UserId),
    /// The user is protected.
    #[error("the user {0} is protected: no caller may obtain PassTickets for this user")]
    Protected(UserId),
}

/// A limit on the calls of each caller. Each caller has a token bucket that holds the calls of one minute.
pub(super) struct CallLimit {
    burst: NonZeroU32,
    /// The time since 1970-01-01 at which the bucket of a caller will be full again. A caller without an entry has a
    /// full bucket. `Timestamp` is too coarse here: it counts whole milliseconds, and with a limit above 60,000 calls
    /// per minute, the bucket gets a new call in less than a millisecond.
    full_at: Mutex<HashMap<UserId, Duration>>,
}

const MINUTE: Duration = Duration::from_secs(60);

/// If `full_at` has at least this many entries, each call removes the entries of full buckets.
const CLEANUP_THRESHOLD: usize = 1_000;

impl CallLimit {
    pub(super) fn new(per_minute: NonZeroU32) -> Self {
        Self { burst: per_minute, full_at: Mutex::default() }
    }

    pub(super) fn burst(&self) -> NonZeroU32 {
        self.burst
    }

    /// Counts a call of `caller` if the limit permits it.
    ///
    /// # Errors
    /// The time after which the caller may call again, if the caller has reached the limit.
    pub(super) fn count(&self, caller: &UserId, now: Timestamp) -> Result<(), Duration> {
        let now = Duration::from_millis(now.as_millis());
        let mut callers = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if callers.len() >= CLEANUP_THRESHOLD {
            callers.retain(|_, full_at| *full_at > now);
        }
        let full_at = callers.entry(*caller).or_insert(now);
        // If the clock was set back, `full_at` can be more than a minute in the future. The bucket then counts as
        // empty: `full_at` becomes one minute in the future.
        *full_at = (*full_at).clamp(now, now + MINUTE);
        let full_after_call = *full_at + MINUTE / self.burst.get();
        let wait = full_after_call.saturating_sub(now + MINUTE);
        if wait.is_zero() {
            *full_at = full_after_call;
            Ok(())
        } else {
            Err(wait)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit_and_caller(per_minute: u32) -> (CallLimit, UserId) {
        (CallLimit::new(NonZeroU32::new(per_minute).unwrap()), UserId::new("AGENT").unwrap())
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_block_a_caller() {
        let (limit, caller) = limit_and_caller(2);
        let now = |secs: u64| Timestamp::from_secs(100_000 + secs);
        let at = |secs| limit.count(&caller, now(secs));
        assert_eq!((at(3600), at(3600)), (Ok(()), Ok(())));
        // The clock is set back by an hour. The caller must wait as long as directly after the calls.
        assert_eq!(at(0), Err(Duration::from_secs(30)));
        assert_eq!(at(29), Err(Duration::from_secs(1)));
        assert_eq!((at(30), at(59)), (Ok(()), Err(Duration::from_secs(1))));
        assert_eq!(at(60), Ok(()));
    }

    #[test]
    fn a_burst_has_exactly_the_permitted_calls_of_a_minute() {
        for per_minute in [1, 7, 50_000, 60_001, 100_000] {
            let (limit, caller) = limit_and_caller(per_minute);
            let at = |millis: u64| limit.count(&caller, Timestamp::from_millis(1_000_000 + millis));
            let passed = (0..u64::from(per_minute) * 2).filter(|_| at(0).is_ok()).count();
            assert_eq!(passed, per_minute as usize);
            assert!(at(0).is_err_and(|wait| !wait.is_zero()));
            assert_eq!(at(60_000), Ok(()));
        }
    }
}
