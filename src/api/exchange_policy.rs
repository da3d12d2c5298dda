//! Decides which client gets which PassTicket (a one-time password of z/OS) in exchange for a token.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use serde_json::Value;

use super::{
    delegation::{CALLS_PER_MINUTE, CallLimit, DelegationRefusal, Grant, TicketCaller},
    error::PatRefusal,
};
use crate::{
    clock::Timestamp,
    identity::DistributedMapper,
    passticket::{Applid, UserId},
    token::{RequestFacts, Scopes, ServiceId},
};

/// Settings of the token exchange (RFC 8693): which actors get PassTickets for which applications and users.
///
/// The actor is the user of the client's certificate or of the client's actor token. The subject is the user of the
/// token that the client exchanges. The PassTicket is for the subject. By default, no exchange is allowed. These
/// methods allow and limit exchanges:
/// - [`with_grants`](Self::with_grants): an actor gets a PassTicket if one [`Grant`] to this actor allows the
///   application and the subject. The actor also needs `READ` on `APIML.DELEGATE.PASSTICKET`.
/// - [`with_bearer_applids`](Self::with_bearer_applids): for these applications, the token of the subject is enough. If
///   the request nevertheless has an actor who is not the subject, this actor needs a grant and `READ` on
///   `APIML.DELEGATE.PASSTICKET`.
/// - [`with_protected`](Self::with_protected): no client gets a PassTicket for a protected user.
/// - [`with_services`](Self::with_services): if the token is a Personal Access Token (PAT), all services of the
///   application must be in the scopes of the PAT, without suffixes.
///
/// ```
/// use tower_passticket::{
///     api::{AllowList, Grant, TokenExchange},
///     passticket::{Applid, UserId},
///     token::ServiceId,
/// };
///
/// let applid = Applid::new("CICSPROD")?;
/// let agent = Grant::to_user(UserId::new("AGENT")?, AllowList::Only([applid].into()), AllowList::Any);
/// let exchange = TokenExchange::new()
///     .with_grants([agent])
///     .with_protected(UserId::new("IBMUSER")?)
///     .with_services(applid, [ServiceId::new("payroll")?]);
/// # let _ = exchange;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TokenExchange {
    grants: Vec<Grant>,
    bearer_applids: HashSet<Applid>,
    protected: HashSet<UserId>,
    services: HashMap<Applid, HashSet<ServiceId>>,
    identities: Option<Arc<dyn DistributedMapper>>,
    calls: CallLimit,
}

impl Default for TokenExchange {
    fn default() -> Self {
        Self::new()
    }
}

impl TokenExchange {
    /// Creates settings that allow no exchange.
    pub fn new() -> Self {
        Self {
            grants: Vec::new(),
            bearer_applids: HashSet::new(),
            protected: HashSet::new(),
            services: HashMap::new(),
            identities: None,
            calls: CallLimit::new(CALLS_PER_MINUTE),
        }
    }

    /// Sets the grants: which actors get PassTickets for which applications and users. Each call replaces all earlier
    /// grants. A grant to a certificate does not apply to a client that sends only an actor token.
    #[must_use]
    pub fn with_grants(self, grants: impl IntoIterator<Item = Grant>) -> Self {
        Self { grants: grants.into_iter().collect(), ..self }
    }

    /// Sets the applications for which a token is exchanged without an actor. A client that has a token of a user can
    /// then get PassTickets of this user for these applications. Each call replaces the earlier applications.
    #[must_use]
    pub fn with_bearer_applids(self, applids: impl IntoIterator<Item = Applid>) -> Self {
        Self { bearer_applids: applids.into_iter().collect(), ..self }
    }

    /// Protects `user`: refuses every PassTicket for this user. Call this function once for each protected user.
    #[must_use]
    pub fn with_protected(mut self, user: UserId) -> Self {
        self.protected.insert(user);
        self
    }

    /// Names the services that accept PassTickets for `applid`. Each call adds services.
    #[must_use]
    pub fn with_services(
        mut self,
        applid: Applid,
        services: impl IntoIterator<Item = ServiceId>,
    ) -> Self {
        self.services.entry(applid).or_default().extend(services);
        self
    }

    /// Accepts tokens of identity providers, and maps their users to z/OS users with `mapper`. Use the mapper of
    /// [`Authenticator::with_distributed_identities`](crate::layer::Authenticator::with_distributed_identities).
    #[must_use]
    pub fn with_distributed_identities(self, mapper: impl DistributedMapper) -> Self {
        Self { identities: Some(Arc::new(mapper)), ..self }
    }

    /// Limits the exchanges of each actor per minute. If a request has no actor, the exchange counts for the subject.
    /// By default, the limit is 60. After a minute without exchanges, an actor can use the whole limit in one burst.
    #[must_use]
    pub fn with_calls_per_minute(self, calls: NonZeroU32) -> Self {
        Self { calls: CallLimit::new(calls), ..self }
    }

    pub(super) fn identities(&self) -> Option<&Arc<dyn DistributedMapper>> {
        self.identities.as_ref()
    }

    /// Counts an exchange of `user` if the limit permits it.
    ///
    /// # Errors
    /// The time after which the next exchange is possible.
    pub(super) fn count(&self, user: &UserId, now: Timestamp) -> Result<(), Duration> {
        self.calls.count(user, now)
    }

    pub(super) fn accepts_bearer(&self, applid: &Applid) -> bool {
        self.bearer_applids.contains(applid)
    }

    /// Checks that the scopes of a PAT permit all requests to each service with this APPLID (docs/decisions.md#d10). If
    /// two services have the same APPLID, both accept the same PassTicket. So a PAT for only one of these services is
    /// not enough.
    ///
    /// # Errors
    /// [`PatRefusal::OutOfScope`] if the scopes do not permit all requests to a service, or if no service has this
    /// APPLID.
    pub(super) fn check_scopes(&self, scopes: &Scopes, applid: &Applid) -> Result<(), PatRefusal> {
        // A PassTicket opens the whole application, so a scope with a suffix is not enough.
        let permits_everything =
            |service: &ServiceId| scopes.permits(service, RequestFacts::unknown);
        match self.services.get(applid) {
            Some(services) if !services.is_empty() && services.iter().all(permits_everything) => {
                Ok(())
            }
            _ => Err(PatRefusal::OutOfScope),
        }
    }

    pub(super) fn check_protected(&self, subject: &UserId) -> Result<(), DelegationRefusal> {
        match self.protected.contains(subject) {
            true => Err(DelegationRefusal::Protected(*subject)),
            false => Ok(()),
        }
    }

    /// Checks that one grant to `actor` allows both the application and the subject.
    ///
    /// # Errors
    /// [`DelegationRefusal::Applid`] if no grant allows the application. [`DelegationRefusal::Target`] if no grant
    /// allows the application and the subject.
    pub(super) fn check_grants(
        &self,
        actor: &TicketCaller<'_>,
        applid: &Applid,
        subject: &UserId,
    ) -> Result<(), DelegationRefusal> {
        let mut of_applid =
            self.grants.iter().filter(|grant| grant.allows_applid(actor, applid)).peekable();
        if of_applid.peek().is_none() {
            return Err(DelegationRefusal::Applid(*applid));
        }
        match of_applid.any(|grant| grant.allows_user(subject)) {
            true => Ok(()),
            false => Err(DelegationRefusal::Target(*subject)),
        }
    }
}

impl fmt::Debug for TokenExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenExchange")
            .field("grants", &self.grants)
            .field("bearer_applids", &self.bearer_applids)
            .field("protected", &self.protected)
            .field("services", &self.services)
            .field("distributed_identities", &self.identities.is_some())
            .field("calls", &self.calls.burst())
            .finish()
    }
}

/// The maximum number of earlier actors in the claim `act` of a token. The audit record names them all.
const MAX_ACTORS: usize = 8;

/// The maximum length of the name of an earlier actor with its issuer, in bytes.
const MAX_ACTOR_LEN: usize = 256;

/// A claim `act` or `may_act` (RFC 8693 §4.1, §4.4) that the gateway cannot accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ActorClaimError {
    /// The claim `act` is malformed, too long, or has too many actors.
    #[error("act is not a chain of at most {MAX_ACTORS} actors, each with sub")]
    Chain,
    /// The claim `may_act` does not name the actor of the request, or the request has no actor.
    #[error("may_act does not name the actor of this request")]
    OtherActor,
}

/// Returns the earlier actors in the claim `act`, the latest first. An actor with `iss` is written as `iss#sub`.
///
/// # Errors
/// [`ActorClaimError::Chain`] if the claim is malformed, or too long for the audit record.
pub(super) fn earlier_actors(act: Option<&Value>) -> Result<Vec<Box<str>>, ActorClaimError> {
    let mut actors = Vec::new();
    let mut next = act;
    while let Some(claim) = next {
        let text = |name: &str| match claim.get(name) {
            None => Ok(None),
            Some(Value::String(text)) if !text.is_empty() => Ok(Some(text.as_str())),
            Some(_) => Err(ActorClaimError::Chain),
        };
        let subject = text("sub")?.ok_or(ActorClaimError::Chain)?;
        let name = match text("iss")? {
            Some(issuer) => format!("{issuer}#{subject}"),
            None => subject.to_owned(),
        };
        if actors.len() == MAX_ACTORS || name.len() > MAX_ACTOR_LEN {
            return Err(ActorClaimError::Chain);
        }
        actors.push(name.into());
        next = claim.get("act");
    }
    Ok(actors)
}

/// The names with which a claim `may_act` can name an actor.
#[derive(Clone, Copy, Debug)]
pub(super) struct ActorNames<'a> {
    pub(super) user: &'a UserId,
    /// The name and the issuer in the actor token. `None` if the actor token names a z/OS user, or if there is no actor
    /// token.
    pub(super) external: Option<(&'a str, &'a str)>,
}

/// Checks the claim `may_act` of a subject token that `issuer` has issued. If the token has this claim, only the actor
/// that the claim names may act. If the claim has an `iss`, its `sub` is the name of a user at the identity provider
/// `iss`. If it has no `iss`, its `sub` is a z/OS user id, or the name of a user at `issuer`. The same name at two
/// identity providers means two users (RFC 7519 §4.1.2).
///
/// # Errors
/// [`ActorClaimError::OtherActor`] if the claim does not name `actor` or is malformed, or if there is no actor.
pub(super) fn check_may_act(
    may_act: Option<&Value>,
    issuer: &str,
    actor: Option<ActorNames<'_>>,
) -> Result<(), ActorClaimError> {
    let Some(claim) = may_act else { return Ok(()) };
    let named = (claim.get("sub").and_then(Value::as_str), claim.get("iss"));
    let is_named = match (named, actor) {
        ((Some(subject), None), Some(ActorNames { user, external })) => {
            subject.eq_ignore_ascii_case(user.as_str()) || external == Some((subject, issuer))
        }
        ((Some(subject), Some(Value::String(named))), Some(ActorNames { external, .. })) => {
            external == Some((subject, named))
        }
        _ => false,
    };
    if is_named { Ok(()) } else { Err(ActorClaimError::OtherActor) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use test_support::tickets::{applid, user};

    use super::*;
    use crate::api::AllowList;

    fn service(id: &str) -> ServiceId {
        ServiceId::new(id).unwrap()
    }

    #[test]
    fn a_pat_needs_every_service_of_the_applid_in_its_scopes() {
        let exchange = TokenExchange::new()
            .with_services(applid("ONE"), [service("a")])
            .with_services(applid("TWO"), [service("a")])
            .with_services(applid("TWO"), [service("b")])
            .with_services(applid("NONE"), []);
        for (scopes, name, want) in [
            ("a", "ONE", true),
            ("a,z", "ONE", true),
            ("b", "ONE", false),
            ("a", "TWO", false),
            ("b", "TWO", false),
            ("b,a", "TWO", true),
            ("a", "NONE", false),
            ("a", "OTHER", false),
            ("a:read", "ONE", false),
            ("a:/", "ONE", false),
            ("a:read,a:/", "ONE", false),
            ("a,a:read", "ONE", true),
            ("a,b:read", "TWO", false),
        ] {
            let scopes = Scopes::parse([scopes]).unwrap();
            let checked = exchange.check_scopes(&scopes, &applid(name));
            assert_eq!(checked.is_ok(), want, "{scopes:?} {name}");
        }
    }

    #[test]
    fn one_grant_must_allow_application_and_subject() {
        let only = |name| AllowList::Only([applid(name)].into());
        let users = |name| AllowList::Only([user(name)].into());
        let exchange = TokenExchange::new()
            .with_grants([
                Grant::to_user(user("AGENT"), only("A"), users("JANE")),
                Grant::to_user(user("AGENT"), only("B"), users("JOE")),
                Grant::to_user(user("ROBOT"), AllowList::Any, AllowList::Any),
            ])
            .with_protected(user("ROOT"));
        for (actor, name, subject, want) in [
            ("AGENT", "A", "JANE", Ok(())),
            ("AGENT", "A", "JOE", Err(DelegationRefusal::Target(user("JOE")))),
            ("AGENT", "B", "JOE", Ok(())),
            ("AGENT", "C", "JANE", Err(DelegationRefusal::Applid(applid("C")))),
            ("ROBOT", "C", "JANE", Ok(())),
            ("JANE", "A", "JANE", Err(DelegationRefusal::Applid(applid("A")))),
        ] {
            let caller = TicketCaller { user: user(actor), certificate: None };
            let checked = exchange.check_grants(&caller, &applid(name), &user(subject));
            assert_eq!(checked, want, "{actor} {name} {subject}");
        }
        assert!(exchange.check_protected(&user("ROOT")).is_err());
        assert!(exchange.check_protected(&user("JANE")).is_ok());
        let nothing = TokenExchange::new();
        let caller = TicketCaller { user: user("AGENT"), certificate: None };
        assert!(nothing.check_grants(&caller, &applid("A"), &user("JANE")).is_err());
        assert!(!nothing.accepts_bearer(&applid("A")));
    }

    #[test]
    fn earlier_actors_are_read_or_refused() {
        let chain = |depth| {
            (0..depth).fold(json!(null), |act, _| match act {
                Value::Null => json!({"sub": "x"}),
                act => json!({"sub": "x", "act": act}),
            })
        };
        let names = |act: &Value| earlier_actors(Some(act)).map(|names| names.join(","));
        assert_eq!(earlier_actors(None), Ok(Vec::new()));
        for (act, want) in [
            (json!({"sub": "A"}), Some("A")),
            (json!({"sub": "A", "iss": "https://i"}), Some("https://i#A")),
            (json!({"sub": "A", "act": {"sub": "B", "more": 1}}), Some("A,B")),
            (chain(8), Some("x,x,x,x,x,x,x,x")),
            (chain(9), None),
            (json!({"sub": "A", "act": null}), None),
            (json!({"sub": ""}), None),
            (json!({"sub": 1}), None),
            (json!({"iss": "x"}), None),
            (json!({"sub": "A", "iss": 1}), None),
            (json!({"sub": "A".repeat(257)}), None),
            (json!("A"), None),
            (json!(null), None),
        ] {
            assert_eq!(names(&act).ok().as_deref(), want, "{act}");
        }
    }

    #[test]
    fn may_act_permits_only_the_actor_that_it_names() {
        let agent = user("AGENT");
        let by_certificate = ActorNames { user: &agent, external: None };
        let own = "https://i";
        let by_token = ActorNames { user: &agent, external: Some(("agent@x", own)) };
        let elsewhere = ActorNames { user: &agent, external: Some(("agent@x", "https://j")) };
        for (claim, certificate, token, other_issuer) in [
            (json!({"sub": "agent"}), true, true, true),
            (json!({"sub": "agent@x"}), false, true, false),
            (json!({"sub": "other"}), false, false, false),
            (json!({"sub": "agent@x", "iss": "https://i"}), false, true, false),
            (json!({"sub": "agent@x", "iss": "https://j"}), false, false, true),
            (json!({"sub": "agent@x", "iss": "https://other"}), false, false, false),
            (json!({"sub": "AGENT", "iss": "https://i"}), false, false, false),
            (json!({"sub": "AGENT", "iss": 1}), false, false, false),
            (json!({"iss": "https://i"}), false, false, false),
            (json!(null), false, false, false),
        ] {
            let checked = |actor| check_may_act(Some(&claim), own, actor).is_ok();
            assert!(!checked(None), "{claim}");
            assert_eq!(checked(Some(by_certificate)), certificate, "{claim}");
            assert_eq!(checked(Some(by_token)), token, "{claim}");
            assert_eq!(checked(Some(elsewhere)), other_issuer, "{claim}");
        }
        assert!(check_may_act(None, own, None).is_ok());
    }
}
