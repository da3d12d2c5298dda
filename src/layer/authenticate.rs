//! Authenticates requests.
//!
//! 1. On a route with a scheme that accepts only client certificates, the layer evaluates only the certificate. On any
//!    other route, it skips kinds of credentials that the [`Authenticator`] does not accept, and selects the first of
//!    the others in this order: cookie `apimlAuthenticationToken`, header `Authorization: Bearer` or `Authorization:
//!    token`, cookie `personalAccessToken`, header `PRIVATE-TOKEN`, header `Authorization: Basic`, client certificate.
//!    If this credential is not valid, the layer does not try another credential (docs/decisions.md#d6). The password
//!    of `Basic` can be a Personal Access Token. Any other password is a credential only if the route has
//!    [`ClientBasic::Verify`] and the authenticator has a [`PasswordVerifier`](super::PasswordVerifier)
//!    (docs/decisions.md#d24).
//! 2. A [`TokenVerifier`] verifies a token, and a [`RevocationCheck`] checks whether the token is revoked. An
//!    [`IdentityMapper`] maps a certificate (the [`PeerCertificate`] in the extensions) to a user. A
//!    [`DistributedMapper`](crate::identity::DistributedMapper) maps the identity that a token of another issuer names.
//!    A `PasswordVerifier` checks a password.
//! 3. Before the layer forwards a request, it adds the result, an [`Authentication`], to the extensions. It removes all
//!    credentials from the headers, so that no later layer can read them. After a failed authentication, there are two
//!    exceptions. With [`OnFailure::ForwardUnchanged`], all credentials stay. With [`ClientBasic::Forward`], a password
//!    stays.
//! 4. If authentication failed and the [`Route`] has [`OnFailure::Reject`], the layer answers the request itself. It
//!    does the same for a request without a route.
//!
//! If the credential is a valid Personal Access Token, the layer sets [`X_ZOWE_TOKEN_EXPIRES`] in the response, even if
//! a later layer refuses the request. With [`Mode::Observe`](super::Mode::Observe), it does not set this header.
//!
//! On a route with the scheme `bypass`, the layer does not authenticate the client. It removes the credentials only if
//! the route is set to [forward none](Route::without_credentials).
//!
//! For each failure, the layer writes one [`Authentication`](Event::Authentication) record to the audit log. If
//! authentication succeeds, [`ScopeLayer`](super::ScopeLayer) writes this record, after its own check. If the route has
//! rules for technical users ([`TechnicalUsers`](super::TechnicalUsers)), `AuthenticateLayer` also writes a
//! [`TechnicalUser`](Event::TechnicalUser) record for each valid token that at least one rule matches.
//!
//! [`TokenVerifier`]: crate::token::TokenVerifier
//! [`X_ZOWE_TOKEN_EXPIRES`]: super::X_ZOWE_TOKEN_EXPIRES
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_passticket::{
//!     layer::{AuthenticateLayer, Authentication, Authenticator},
//!     passticket::UserId,
//!     token::{SigningKey, TokenIssuer, Rs256Verifier},
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let pem = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)?;
//! # let pem = pem.serialize_pem();
//! let key = SigningKey::from_pem(pem.as_bytes())?;
//! let verifier = Rs256Verifier::new(key.verifying_key());
//! let layer = AuthenticateLayer::new(Authenticator::new(verifier));
//! let service = ServiceBuilder::new().layer(layer).service(service_fn(
//!     |request: Request<Full<Bytes>>| async move {
//!         let Some(Authentication::Authenticated(authenticated)) = request.extensions().get() else {
//!             panic!("expected an authenticated request");
//!         };
//!         assert_eq!(authenticated.user().as_str(), "USER");
//!         assert!(!request.headers().contains_key("authorization"));
//!         Ok::<_, std::convert::Infallible>(Response::new(Full::<Bytes>::default()))
//!     },
//! ));
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let token = TokenIssuer::new(key).login_token(&UserId::new("USER").unwrap(), "demo").unwrap();
//! let request = Request::get("/").header("Authorization", format!("Bearer {}", token.expose()));
//! let response = service.clone().oneshot(request.body(Full::default()).unwrap()).await.unwrap();
//! assert_eq!(response.status(), 200);
//!
//! let response = service.oneshot(Request::new(Full::default())).await.unwrap();
//! assert_eq!(response.status(), 401);
//! assert_eq!(
//!     response.headers()["x-zowe-auth-failure"],
//!     "ZWEAG160E No authentication provided in the request"
//! );
//! # });
//! # Ok(())
//! # }
//! ```

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use super::{
    authentication::{Authenticated, Authentication, Proof, Refused},
    authenticator::{Authenticator, Pending, Progress},
    failure::Failure,
    future::{LayerFuture, Outcome, PollDecision},
    rejection::Rejection,
    routes::{ClientBasic, OnFailure, Route},
    schemes::Accepts,
    technical_users::TechnicalUserRule,
};
use crate::{
    audit::{Audit, AuditRecord, Detail, Event, RequestId},
    identity::{CommonNameMapper, IdentityMapper, PeerCertificate},
    request_facts::RequestFacts,
    revocation::{RevocationCheck, RevocationIndex},
};

/// The layer. See the [module](self).
#[derive(Debug)]
pub struct AuthenticateLayer<R = RevocationIndex, M = CommonNameMapper> {
    authenticator: Arc<Authenticator<R, M>>,
    audit: Audit,
}

impl<R, M> AuthenticateLayer<R, M> {
    /// Creates a layer that authenticates requests with `authenticator`.
    pub fn new(authenticator: impl Into<Arc<Authenticator<R, M>>>) -> Self {
        Self { authenticator: authenticator.into(), audit: Audit::none() }
    }

    /// Writes the records of this layer to `audit`.
    #[must_use]
    pub fn with_audit(self, audit: Audit) -> Self {
        Self { audit, ..self }
    }

    #[cfg(all(feature = "api", feature = "proxy"))]
    pub(crate) fn audit(&self) -> &Audit {
        &self.audit
    }
}

impl<R, M> Clone for AuthenticateLayer<R, M> {
    fn clone(&self) -> Self {
        Self { authenticator: self.authenticator.clone(), audit: self.audit.clone() }
    }
}

impl<S, R, M> Layer<S> for AuthenticateLayer<R, M> {
    type Service = AuthenticateService<S, R, M>;

    fn layer(&self, inner: S) -> Self::Service {
        let (authenticator, audit) = (self.authenticator.clone(), self.audit.clone());
        AuthenticateService { inner, authenticator, audit }
    }
}

/// The service of [`AuthenticateLayer`].
#[derive(Debug)]
pub struct AuthenticateService<S, R = RevocationIndex, M = CommonNameMapper> {
    inner: S,
    authenticator: Arc<Authenticator<R, M>>,
    audit: Audit,
}

impl<S: Clone, R, M> Clone for AuthenticateService<S, R, M> {
    fn clone(&self) -> Self {
        let (authenticator, audit) = (self.authenticator.clone(), self.audit.clone());
        Self { inner: self.inner.clone(), authenticator, audit }
    }
}

impl<S, R, M, ReqBody, ResBody> Service<Request<ReqBody>> for AuthenticateService<S, R, M>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
    R: RevocationCheck,
    M: IdentityMapper,
    ResBody: From<Bytes>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = LayerFuture<Authenticating<R, M>, S, ReqBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let extensions = request.extensions();
        let rules = match extensions.get::<Arc<Route>>() {
            Some(route) if route.is_bypass() => {
                if route.removes_credentials() {
                    self.authenticator.strip(request.headers_mut());
                }
                return LayerFuture::decided(Outcome::Forward, &mut self.inner, request);
            }
            Some(route) => {
                let (on_failure, client_basic) = (route.on_failure(), route.client_basic());
                let is_observed = route.is_observed();
                Rules { on_failure, client_basic, accepts: route.accepts(), is_observed }
            }
            None => Rules {
                on_failure: OnFailure::Reject,
                client_basic: ClientBasic::Strip,
                accepts: Accepts::AnyCredential,
                is_observed: false,
            },
        };
        let progress = match rules.accepts {
            Accepts::ClientCertificate => {
                self.authenticator.begin_with_certificate(extensions.get::<PeerCertificate>())
            }
            Accepts::AnyCredential | Accepts::AnyCredentialWithToken => {
                self.authenticator.begin(request.headers(), extensions, rules.client_basic)
            }
        };
        match progress {
            Progress::Decided(result) => {
                let outcome =
                    apply_result(&self.authenticator, &self.audit, &mut request, result, rules);
                LayerFuture::decided(outcome, &mut self.inner, request)
            }
            Progress::Waiting(pending) => {
                let authenticator = self.authenticator.clone();
                let audit = self.audit.clone();
                let waiting = Authenticating { pending, authenticator, audit, rules };
                LayerFuture::waiting(waiting, &mut self.inner, request)
            }
        }
    }
}

/// The settings of the route.
#[derive(Clone, Copy)]
struct Rules {
    on_failure: OnFailure,
    client_basic: ClientBasic,
    accepts: Accepts,
    /// Whether the route has [`Mode::Observe`](super::Mode::Observe). Then the client must not notice the decision.
    is_observed: bool,
}

/// An authentication that waits for another server.
#[allow(missing_debug_implementations, reason = "holds boxed futures, which have no Debug")]
pub struct Authenticating<R, M> {
    pending: Pending,
    authenticator: Arc<Authenticator<R, M>>,
    audit: Audit,
    rules: Rules,
}

impl<R: RevocationCheck, M: IdentityMapper, ReqBody> PollDecision<ReqBody>
    for Authenticating<R, M>
{
    fn poll_prepare(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        request: &mut Request<ReqBody>,
    ) -> Poll<Outcome> {
        let Self { pending, authenticator, audit, rules } = self.get_mut();
        let result = ready!(authenticator.poll(pending, request.extensions(), cx));
        Poll::Ready(apply_result(authenticator, audit, request, result, *rules))
    }
}

/// Adds the result to the extensions, and removes the credentials from the headers. Exceptions after a failure:
/// - [`OnFailure::Reject`]: no result is added and all credentials stay, because the request is not forwarded.
/// - [`OnFailure::ForwardUnchanged`]: all credentials stay.
/// - [`ClientBasic::Forward`]: a password stays.
fn apply_result<R, M, B>(
    authenticator: &Authenticator<R, M>,
    audit: &Audit,
    request: &mut Request<B>,
    result: Result<Authenticated, Refused>,
    rules: Rules,
) -> Outcome {
    let (authentication, outcome) = match result {
        Ok(mut authenticated) => {
            if rules.on_failure == OnFailure::ForwardUnchanged {
                authenticated.withhold(request.headers());
            }
            if rules.accepts == Accepts::AnyCredentialWithToken {
                authenticator.keep_token(&mut authenticated, request.headers());
            }
            authenticator.strip(request.headers_mut());
            if let Some(rule) = authenticated.technical_user() {
                audit.record(|| through_rule(rule, &authenticated, request, audit));
            }
            if let Some(facts) = request.extensions().get::<RequestFacts>() {
                facts.set_credential(authenticated.credential(), Some(*authenticated.user()));
            }
            let outcome = match authenticated.proof() {
                Proof::Pat(pat) if !rules.is_observed => Outcome::ForwardPat(pat.clone()),
                _ => Outcome::Forward,
            };
            (Authentication::Authenticated(authenticated), outcome)
        }
        Err(refused) => return refuse(authenticator, audit, request, refused, rules),
    };
    request.extensions_mut().insert(authentication);
    outcome
}

/// Forwards the request without a user, or rejects it.
#[cold]
fn refuse<R, M, B>(
    authenticator: &Authenticator<R, M>,
    audit: &Audit,
    request: &mut Request<B>,
    refused: Refused,
    rules: Rules,
) -> Outcome {
    audit.record(|| record(Event::Authentication, request, &refused, audit));
    let (credential, user) = refused.credential();
    if let Some(facts) = request.extensions().get::<RequestFacts>() {
        facts.set_credential(credential, user);
    }
    if refused.is_ambiguous() {
        audit.record(|| record(Event::TechnicalUser, request, &refused, audit));
    }
    // Other layers need the kind of the credential after the credential is removed.
    request.extensions_mut().insert(credential);
    let failure = refused.failure;
    log(request, &failure);
    match rules.on_failure {
        OnFailure::Reject => {
            let rejection = Rejection::Authentication(failure);
            let accepts_basic = rules.accepts != Accepts::ClientCertificate
                && authenticator.accepts_basic(rules.client_basic);
            return match accepts_basic {
                true => Outcome::RejectAndOfferBasic(rejection),
                false => Outcome::Reject(rejection),
            };
        }
        OnFailure::Forward => {
            authenticator.strip_after_failure(request.headers_mut(), rules.client_basic);
        }
        OnFailure::ForwardUnchanged => {}
    }
    request.extensions_mut().insert(Authentication::Failed(failure));
    Outcome::Forward
}

fn record<B>(event: Event, request: &Request<B>, refused: &Refused, audit: &Audit) -> AuditRecord {
    let record = AuditRecord::failed(event, &refused.failure, audit.now()).with_request(
        request.method(),
        request.uri(),
        request.extensions(),
    );
    let record = refused.add_to_record(record);
    match request.extensions().get::<Arc<Route>>() {
        Some(route) => record.with_service(route.service()),
        None => record,
    }
}

#[cold]
fn through_rule<B>(
    rule: &TechnicalUserRule,
    authenticated: &Authenticated,
    request: &Request<B>,
    audit: &Audit,
) -> AuditRecord {
    let (claim, value) = (rule.claim().clone(), rule.value().clone());
    let record = AuditRecord::succeeded(Event::TechnicalUser, audit.now())
        .with_request(request.method(), request.uri(), request.extensions())
        .with_detail(Detail::TechnicalUser { claim, value });
    let record = authenticated.add_to_record(record);
    match request.extensions().get::<Arc<Route>>() {
        Some(route) => record.with_service(route.service()),
        None => record,
    }
}

fn log<B>(request: &Request<B>, failure: &Failure) {
    let service = request.extensions().get::<Arc<Route>>().map(|route| route.service().as_str());
    let request_id = RequestId::logged(request.extensions());
    match failure {
        // The first request of a browser usually has no credential.
        Failure::NoCredential => {
            tracing::debug!(service, request_id, %failure, "not authenticated");
        }
        _ => tracing::info!(service, request_id, %failure, "not authenticated"),
    }
}
