//! The service: which endpoint answers which request.

use std::{
    convert::Infallible,
    fmt,
    pin::{Pin, pin},
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{CONTENT_TYPE, EXPECT},
    request::Parts,
};
use http_body::Body;
use http_body_util::Full;
use serde::Serialize;
use tower_service::Service;

use super::{
    audit::Entry, body, compatibility::Compatibility, delegation::Delegation, error::ApiError,
    keys::PublicKey, login_throttle::Attempts, permission::GuardingResources,
    provider::LoginProvider,
};
use crate::{
    audit::{Audit, RequestId},
    clock::{Clock, SystemClock},
    identity::{CommonNameMapper, IdentityMapper},
    layer::CookieNames,
    passticket::PassTicketGenerator,
    revocation::{Revocation, RevocationStore},
    saf::SafProvider,
    token::{Rs256Verifier, TokenIssuer, Validity, VerifyingKey},
};

/// What the path of every endpoint begins with.
pub const PREFIX: &str = "/gateway/api/v1/auth";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Describe,
    Login,
    Logout,
    Query,
    Refresh,
    Ticket,
    DelegatedTicket,
    PublicKeyPem,
    PublicKeySet,
    Generate,
    Validate,
    Revoke,
    RevokeOwn,
    RevokeUser,
    RevokeService,
    Evict,
}

/// Method, path below [`PREFIX`], endpoint. A path has one method.
pub(super) static ENDPOINTS: [(Method, &str, Endpoint); 18] = [
    (Method::GET, "/openapi.json", Endpoint::Describe),
    (Method::POST, "/login", Endpoint::Login),
    (Method::POST, "/logout", Endpoint::Logout),
    (Method::GET, "/query", Endpoint::Query),
    (Method::POST, "/refresh", Endpoint::Refresh),
    (Method::POST, "/ticket", Endpoint::Ticket),
    (Method::POST, "/delegate/passticket", Endpoint::DelegatedTicket),
    (Method::GET, "/keys/public", Endpoint::PublicKeyPem),
    (Method::GET, "/keys/public/all", Endpoint::PublicKeySet),
    (Method::GET, "/keys/public/current", Endpoint::PublicKeySet),
    (Method::POST, "/access-token/generate", Endpoint::Generate),
    (Method::POST, "/access-token/validate", Endpoint::Validate),
    (Method::DELETE, "/access-token/revoke", Endpoint::Revoke),
    (Method::DELETE, "/access-token/revoke/tokens", Endpoint::RevokeOwn),
    // The documents say `users`, the reference has `user` (design, decision 2).
    (Method::DELETE, "/access-token/revoke/tokens/user", Endpoint::RevokeUser),
    (Method::DELETE, "/access-token/revoke/tokens/users", Endpoint::RevokeUser),
    (Method::DELETE, "/access-token/revoke/tokens/scope", Endpoint::RevokeService),
    (Method::DELETE, "/access-token/evict", Endpoint::Evict),
];

/// What can be switched.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Switches {
    pub(super) pats: bool,
    pub(super) refresh: bool,
    pub(super) delegation: bool,
}

impl Endpoint {
    /// # Errors
    /// [`ApiError::NotFound`], [`ApiError::MethodNotAllowed`].
    fn find(method: &Method, path: &str, switches: Switches) -> Result<Self, ApiError> {
        let below = path.strip_prefix(PREFIX).ok_or(ApiError::NotFound)?;
        let (allowed, _, endpoint) = ENDPOINTS
            .iter()
            .find(|(_, path, endpoint)| *path == below && endpoint.is_there(switches))
            .ok_or(ApiError::NotFound)?;
        if method != allowed {
            let (method, allowed) = (method.clone(), allowed.clone());
            return Err(ApiError::MethodNotAllowed { method, allowed });
        }
        Ok(*endpoint)
    }

    pub(super) fn is_there(self, switches: Switches) -> bool {
        match self {
            Self::Describe
            | Self::Login
            | Self::Logout
            | Self::Query
            | Self::Ticket
            | Self::PublicKeyPem
            | Self::PublicKeySet => true,
            Self::Refresh => switches.refresh,
            Self::DelegatedTicket => switches.delegation,
            Self::Generate
            | Self::Validate
            | Self::Revoke
            | Self::RevokeOwn
            | Self::RevokeUser
            | Self::RevokeService
            | Self::Evict => switches.pats,
        }
    }
}

/// What an [`AuthApi`] cannot do without. Whoever makes one names every part.
#[derive(Clone, Debug)]
pub struct AuthParts<L, R, S, G> {
    /// Issues the tokens.
    pub issuer: TokenIssuer,
    /// Verifies them.
    pub verifier: Rs256Verifier,
    /// The key that everybody is told: the one that `verifier` has.
    pub key: VerifyingKey,
    /// Knows the passwords.
    pub login: L,
    /// Keeps what is revoked: the one that the [`Authenticator`](crate::layer::Authenticator)
    /// asks. An `Arc` of a store is a store.
    pub revocations: R,
    /// Knows who may revoke for others.
    pub saf: S,
    /// Makes PassTickets.
    pub tickets: G,
}

/// The auth endpoints. See the [module](super).
///
/// Clones share everything.
pub struct AuthApi<L, R, S, G, M = CommonNameMapper> {
    pub(super) shared: Arc<Shared<L, R, S, G>>,
    pub(super) mapper: Option<Arc<M>>,
    pub(super) cookies: CookieNames,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) compatibility: Compatibility,
    pub(super) max_validity: Validity,
    pub(super) switches: Switches,
    pub(super) guards: GuardingResources,
    /// There if and only if it is switched on.
    pub(super) delegation: Option<Arc<Delegation>>,
    pub(super) audit: Audit,
    /// Made of what stands above when it is asked for first; whoever changes that starts anew.
    pub(super) description: Arc<OnceLock<Bytes>>,
}

pub(super) struct Shared<L, R, S, G> {
    pub(super) issuer: TokenIssuer,
    pub(super) verifier: Rs256Verifier,
    pub(super) public_key: PublicKey,
    pub(super) login: L,
    pub(super) revocations: R,
    pub(super) saf: S,
    pub(super) tickets: G,
    pub(super) attempts: Attempts,
}

impl<L, R, S, G> AuthApi<L, R, S, G>
where
    L: LoginProvider,
    R: RevocationStore,
    S: SafProvider,
    G: PassTicketGenerator,
{
    /// The endpoints. Personal Access Tokens, client certificates and the refreshing of tokens are
    /// off.
    pub fn new(parts: AuthParts<L, R, S, G>) -> Self {
        let AuthParts { issuer, verifier, key, login, revocations, saf, tickets } = parts;
        let public_key = PublicKey::new(&key);
        Self {
            shared: Arc::new(Shared {
                issuer,
                verifier,
                public_key,
                login,
                revocations,
                saf,
                tickets,
                attempts: Attempts::new(),
            }),
            mapper: None,
            cookies: CookieNames::default(),
            clock: Arc::new(SystemClock),
            compatibility: Compatibility::default(),
            max_validity: Validity::MAX,
            switches: Switches::default(),
            guards: GuardingResources::default(),
            delegation: None,
            audit: Audit::none(),
            description: Arc::default(),
        }
    }
}

impl<L, R, S, G, M> AuthApi<L, R, S, G, M> {
    /// Turns Personal Access Tokens on; none is good for longer than `max`.
    #[must_use]
    pub fn with_personal_access_tokens(self, max: Validity) -> Self {
        let switches = Switches { pats: true, ..self.switches };
        Self { switches, max_validity: max, description: Arc::default(), ..self }
    }

    /// Turns the refreshing of login tokens on. It takes client certificates besides.
    #[must_use]
    pub fn with_token_refresh(self) -> Self {
        let switches = Switches { refresh: true, ..self.switches };
        Self { switches, description: Arc::default(), ..self }
    }

    /// Turns the obtaining of PassTickets for others on. It takes client certificates besides.
    #[must_use]
    pub fn with_delegation(self, delegation: Delegation) -> Self {
        let switches = Switches { delegation: true, ..self.switches };
        let delegation = Some(Arc::new(delegation));
        Self { switches, delegation, description: Arc::default(), ..self }
    }

    /// Takes the [`PeerCertificate`](crate::identity::PeerCertificate) among the extensions of a
    /// request for a credential, of the user that `mapper` knows it to be.
    #[must_use]
    pub fn client_certificates<N: IdentityMapper>(self, mapper: N) -> AuthApi<L, R, S, G, N> {
        AuthApi {
            shared: self.shared,
            mapper: Some(Arc::new(mapper)),
            cookies: self.cookies,
            clock: self.clock,
            compatibility: self.compatibility,
            max_validity: self.max_validity,
            switches: self.switches,
            guards: self.guards,
            delegation: self.delegation,
            audit: self.audit,
            description: Arc::default(),
        }
    }

    /// Takes no client certificates after all: for whoever decides that at run time.
    #[must_use]
    pub fn without_client_certificates(self) -> Self {
        Self { mapper: None, description: Arc::default(), ..self }
    }

    /// Sets and reads cookies of other names.
    #[must_use]
    pub fn cookie_names(self, cookies: CookieNames) -> Self {
        Self { cookies, description: Arc::default(), ..self }
    }

    /// Answers as the documents say or as the running system does.
    #[must_use]
    pub fn compatibility(self, compatibility: Compatibility) -> Self {
        Self { compatibility, description: Arc::default(), ..self }
    }

    /// Asks the security product for resources of another class or with other names.
    #[must_use]
    pub fn guarding_resources(self, guards: GuardingResources) -> Self {
        Self { guards, description: Arc::default(), ..self }
    }

    /// Records in `audit` what is decided, see the [module](super#what-is-audited).
    #[must_use]
    pub fn with_audit(self, audit: Audit) -> Self {
        Self { audit, ..self }
    }

    /// Takes the time of rules and of audit records from `clock`.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }
}

impl<L, R: RevocationStore, S, G, M> AuthApi<L, R, S, G, M> {
    /// Nothing is claimed to be revoked unless this is `Ok`.
    ///
    /// # Errors
    /// [`ApiError::StoreUnavailable`].
    pub(super) async fn record(&self, revocation: Revocation) -> Result<(), ApiError> {
        self.shared.revocations.record(revocation).await.map_err(|error| {
            tracing::error!(%error, "nothing is revoked for certain");
            ApiError::StoreUnavailable
        })
    }
}

impl<L, R, S, G, M> AuthApi<L, R, S, G, M>
where
    L: LoginProvider,
    R: RevocationStore,
    S: SafProvider,
    G: PassTicketGenerator,
    M: IdentityMapper,
{
    async fn answer<B: Body>(
        &self,
        request: &mut Parts,
        body: B,
    ) -> Result<Response<Full<Bytes>>, ApiError> {
        let endpoint = Endpoint::find(&request.method, request.uri.path(), self.switches)?;
        let entry = Entry::begin(&self.audit, &self.clock, endpoint, request);
        let answer = self.answer_at(endpoint, request, body).await;
        entry.end(answer.as_ref().err());
        answer
    }

    async fn answer_at<B: Body>(
        &self,
        endpoint: Endpoint,
        request: &Parts,
        body: B,
    ) -> Result<Response<Full<Bytes>>, ApiError> {
        match endpoint {
            Endpoint::Describe => Ok(self.describe()),
            Endpoint::Login => self.log_in(request, body).await,
            Endpoint::Logout => self.log_out(request).await,
            Endpoint::Query => self.query(request).await,
            Endpoint::Refresh => self.refresh(request).await,
            Endpoint::Ticket => self.ticket(request, body).await,
            Endpoint::DelegatedTicket => self.delegated_ticket(request, body).await,
            Endpoint::PublicKeyPem => Ok(self.public_key_pem()),
            Endpoint::PublicKeySet => Ok(self.jwk_set()),
            Endpoint::Generate => self.generate_access_token(request, body).await,
            Endpoint::Validate => self.validate(request, body).await,
            Endpoint::Revoke => self.revoke(request, body).await,
            Endpoint::RevokeOwn => self.revoke_own(request, body).await,
            Endpoint::RevokeUser => self.revoke_user(request, body).await,
            Endpoint::RevokeService => self.revoke_service(request, body).await,
            Endpoint::Evict => self.evict(request).await,
        }
    }
}

impl<L, R, S, G, M, B> Service<Request<B>> for AuthApi<L, R, S, G, M>
where
    L: LoginProvider,
    R: RevocationStore,
    S: SafProvider,
    G: PassTicketGenerator,
    M: IdentityMapper,
    B: Body + Send + 'static,
    B::Data: Send,
{
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let api = self.clone();
        Box::pin(async move {
            let (mut request, body) = request.into_parts();
            let mut body = pin!(body);
            let answer = api.answer(&mut request, body.as_mut()).await;
            let body_failed = matches!(answer, Err(ApiError::BodyTooLarge | ApiError::BodyBroken));
            // A connection is closed on a body that nobody has read, while the client may be
            // sending it yet and then never sees the answer. Whoever expects 100 is not sending.
            if !body_failed && !body.is_end_stream() && !request.headers.contains_key(EXPECT) {
                let _ = body::read(body).await;
            }
            Ok(answer.unwrap_or_else(|error| {
                let url = request.uri.path();
                let request_id = RequestId::logged(&request.extensions);
                tracing::debug!(url, request_id, %error, "refused");
                error.into_response(url, api.compatibility)
            }))
        })
    }
}

impl<L, R, S, G, M> Clone for AuthApi<L, R, S, G, M> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            mapper: self.mapper.clone(),
            cookies: self.cookies.clone(),
            clock: self.clock.clone(),
            compatibility: self.compatibility,
            max_validity: self.max_validity,
            switches: self.switches,
            guards: self.guards.clone(),
            delegation: self.delegation.clone(),
            audit: self.audit.clone(),
            description: self.description.clone(),
        }
    }
}

impl<L, R, S, G, M> fmt::Debug for AuthApi<L, R, S, G, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthApi")
            .field("personal_access_tokens", &self.switches.pats)
            .field("token_refresh", &self.switches.refresh)
            .field("client_certificates", &self.mapper.is_some())
            .field("delegation", &self.delegation)
            .field("cookies", &self.cookies)
            .field("compatibility", &self.compatibility)
            .field("max_validity", &self.max_validity)
            .finish_non_exhaustive()
    }
}

/// `status` without a body.
pub(super) fn empty(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

/// 200 with `content` as JSON.
pub(super) fn json(content: &impl Serialize) -> Result<Response<Full<Bytes>>, ApiError> {
    let text = serde_json::to_vec(content).map_err(|error| {
        tracing::error!(%error, "an answer cannot be written");
        ApiError::Internal
    })?;
    Ok(typed(text.into(), HeaderValue::from_static("application/json")))
}

/// 200 with `content`, which is of this type.
pub(super) fn typed(content: Bytes, content_type: HeaderValue) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(content));
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_endpoint_and_one_method() {
        let is_found = |method: &Method, path: &str, switches| {
            Endpoint::find(method, &format!("{PREFIX}{path}"), switches)
        };
        let all = Switches { pats: true, refresh: true, delegation: true };
        for (method, path, endpoint) in &ENDPOINTS {
            assert_eq!(is_found(method, path, all), Ok(*endpoint), "{path}");
            assert_eq!(ENDPOINTS.iter().filter(|(_, other, _)| other == path).count(), 1, "{path}");
            for (without, prefix) in [
                (Switches { pats: false, ..all }, "/access-token"),
                (Switches { refresh: false, ..all }, "/refresh"),
                (Switches { delegation: false, ..all }, "/delegate"),
            ] {
                let gone = path.starts_with(prefix);
                let want = if gone { Err(ApiError::NotFound) } else { Ok(*endpoint) };
                assert_eq!(is_found(method, path, without), want, "{path}");
            }
            for other in ["GET", "POST", "DELETE", "PUT", "OPTIONS", "HEAD", "BREW"] {
                let other: Method = other.parse().unwrap();
                if other == method {
                    continue;
                }
                let error =
                    ApiError::MethodNotAllowed { method: other.clone(), allowed: method.clone() };
                assert_eq!(is_found(&other, path, all), Err(error), "{other} {path}");
            }
        }
    }

    #[test]
    fn other_paths_have_none() {
        let all = Switches { pats: true, refresh: true, delegation: true };
        for path in [
            "/gateway/api/v1/auth/login/",
            "/gateway/api/v1/auth/LOGIN",
            "/gateway/api/v1/auth/access-token/revoke/tokens/scopes",
            "/gateway/api/v1/auth/",
            "/gateway/api/v1/auth",
            "/gateway/api/v1/authlogin",
            "/zaas/api/v1/auth/login",
            "/login",
            "*",
        ] {
            assert_eq!(Endpoint::find(&Method::POST, path, all), Err(ApiError::NotFound), "{path}");
        }
    }
}
