//! Authorizes requests. A Personal Access Token (PAT) is valid only for the requests that its scopes permit. A login
//! token that a scheme has issued for one service is valid only for this service ([D23](crate::decisions#d23)). All
//! other credentials, such as client certificates and other login tokens, are valid for all services.
//!
//! A scope of a PAT is the id of a service, with or without a suffix ([D49](crate::decisions#d49)):
//!
//! | suffix | the layer permits |
//! |---|---|
//! | none | all requests to the service |
//! | `:read` | requests with the method `GET`, `HEAD` or `OPTIONS`. A request for an upgrade, such as a WebSocket handshake, is refused. A request with a header that may name another method, such as `X-HTTP-Method-Override`, is also refused |
//! | `:/path` | all requests whose path after the prefix of the route is this path or below it. A path that servers may read in different ways is refused, such as a path with dot segments, `;` or `%2F`. A request with a header that may name another path is also refused, such as `X-Original-URL` or `Destination`. On a route of [`RouteLayer::fixed`](super::RouteLayer::fixed), the path must begin with the prefix |
//!
//! An authorized request gets the extension [`Authorized`], from which later layers read the user and the route. If a
//! token is not valid for the request, [`Route::on_failure`] decides whether the layer forwards or rejects the request.
//! With [`OnFailure::Reject`], the response is 403.
//!
//! This layer needs [`RouteLayer`](super::RouteLayer) and [`AuthenticateLayer`](super::AuthenticateLayer) before it. If
//! one of them is missing, the layer answers 500. On a route with the scheme `bypass`, the layer forwards each request,
//! and needs only `RouteLayer`.
//!
//! For each decision, the layer writes one [`Authentication`](Event::Authentication) record to the audit log. If
//! authentication failed, there is no decision: `AuthenticateLayer` has already written a record.
//!
//! ```
//! use std::sync::Arc;
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_passticket::{
//!     layer::{
//!         AuthenticateLayer, Authenticator, Authorized, OnFailure, Route, RouteLayer, Routes,
//!         ScopeLayer,
//!     },
//!     passticket::UserId,
//!     revocation::RevocationIndex,
//!     token::{Scopes, ServiceId, SigningKey, TokenIssuer, Rs256Verifier, Validity},
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let pem = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)?;
//! # let pem = pem.serialize_pem();
//! let key = SigningKey::from_pem(pem.as_bytes())?;
//! let verifier = Rs256Verifier::new(key.verifying_key());
//! let route = |service: &str| -> Result<Route, Box<dyn std::error::Error>> {
//!     Ok(Route::local(ServiceId::new(service)?).with_on_failure(OnFailure::Reject))
//! };
//! let service = ServiceBuilder::new()
//!     .layer(RouteLayer::new(Routes::new([route("files")?, route("jobs")?])?))
//!     .layer(AuthenticateLayer::new(
//!         Authenticator::new(verifier).with_personal_access_tokens(RevocationIndex::default()),
//!     ))
//!     .layer(ScopeLayer::new())
//!     .service(service_fn(|request: Request<Full<Bytes>>| async move {
//!         let authorized = request.extensions().get::<Authorized>().unwrap();
//!         assert_eq!(authorized.user().as_str(), "USER");
//!         Ok::<_, std::convert::Infallible>(Response::new(Full::<Bytes>::default()))
//!     }));
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let scopes = Scopes::parse(["files"]).unwrap();
//! let user = UserId::new("USER").unwrap();
//! let pat = TokenIssuer::new(key).personal_access_token(&user, &scopes, Validity::MAX).unwrap();
//! let get = |path| {
//!     Request::get(path).header("PRIVATE-TOKEN", pat.expose()).body(Full::default()).unwrap()
//! };
//! let response = service.clone().oneshot(get("/files/x")).await.unwrap();
//! assert_eq!(response.status(), 200);
//! let response = service.oneshot(get("/jobs/x")).await.unwrap();
//! assert_eq!(response.status(), 403);
//! assert_eq!(response.headers()["x-zowe-auth-failure"], "ZWEAG102E Token is not valid");
//! # });
//! # Ok(())
//! # }
//! ```

use std::sync::Arc;

use http::{Extensions, HeaderName, Request, header::UPGRADE};
use tower_layer::Layer;

use super::{
    authentication::{Authenticated, Authentication, Proof},
    check::{Check, CheckService},
    failure::Failure,
    rejection::Rejection,
    routes::{AcceptedPats, OnFailure, Route},
    websocket::AsksForWebSocket,
};
use crate::{
    audit::{Audit, AuditRecord, Event, RequestId},
    connection::ConnectionInfo,
    passticket::UserId,
    revocation::TokenUses,
    token::{RequestFacts, ServiceId},
};

/// Shows that the user may use the service of the route. Only [`ScopeLayer`] creates this type.
#[derive(Clone, Debug)]
pub struct Authorized {
    authenticated: Authenticated,
    route: Arc<Route>,
}

impl Authorized {
    /// Returns the user.
    pub fn user(&self) -> &UserId {
        self.authenticated.user()
    }

    /// Returns the proof of the user's identity.
    pub fn proof(&self) -> &Proof {
        self.authenticated.proof()
    }

    /// Returns the route of the service.
    pub fn route(&self) -> &Arc<Route> {
        &self.route
    }

    /// Returns the `Authorized` extension of a request. Use this function in your own handlers and extractors.
    ///
    /// ```
    /// use http::{Request, Response, StatusCode};
    /// use tower_passticket::layer::Authorized;
    ///
    /// fn handler(request: &Request<()>) -> Response<bytes::Bytes> {
    ///     match Authorized::require(request.extensions()) {
    ///         Ok(authorized) => Response::new(authorized.user().to_string().into()),
    ///         Err(rejection) => rejection.into_response(),
    ///     }
    /// }
    /// assert_eq!(handler(&Request::new(())).status(), StatusCode::UNAUTHORIZED);
    /// ```
    ///
    /// # Errors
    /// If the request has no such extension: a [`Rejection`] with the failure of an earlier layer, or with
    /// [`Failure::NoCredential`], whose status is 401.
    pub fn require(extensions: &Extensions) -> Result<&Self, Rejection> {
        extensions.get::<Self>().ok_or_else(|| {
            let failure = match extensions.get::<Authentication>() {
                Some(Authentication::Failed(failure)) => failure.clone(),
                _ => Failure::NoCredential,
            };
            Rejection::Authentication(failure)
        })
    }

    pub(crate) fn add_to_record(&self, record: AuditRecord) -> AuditRecord {
        self.authenticated.add_to_record(record).with_service(self.route.service())
    }

    /// Returns whether the credential is a PAT that permits only some requests to the service.
    #[cfg(feature = "proxy")]
    pub(crate) fn is_restricted(&self) -> bool {
        match self.proof() {
            Proof::Pat(pat) => pat.scopes().restricts(self.route.service()),
            _ => false,
        }
    }

    pub(super) fn authenticated(&self) -> &Authenticated {
        &self.authenticated
    }

    /// Removes the copy of the credentials. A request with the headers of the scheme does not need it.
    pub(super) fn discard_withheld(&mut self) {
        self.authenticated.discard_withheld();
    }

    pub(super) fn into_authenticated(self) -> Authenticated {
        self.authenticated
    }
}

/// Decides whether the credential is valid for a request to `service`. Calls `facts` only if a PAT has a scope with a
/// suffix for this service.
fn decide<'a>(
    proof: &Proof,
    service: &ServiceId,
    pats: AcceptedPats,
    facts: impl FnOnce() -> RequestFacts<'a>,
) -> Result<(), Failure> {
    let is_in_scope = match proof {
        Proof::Pat(pat) => match pats {
            AcceptedPats::ForRequest => pat.scopes().permits(service, facts),
            AcceptedPats::ForWholeService => pat.scopes().permits(service, RequestFacts::unknown),
            AcceptedPats::Never => false,
        },
        Proof::Jwt(jwt) => jwt.service().is_none_or(|only| only == service),
        Proof::External(_) | Proof::Certificate(_) | Proof::Password => true,
    };
    match is_in_scope {
        true => Ok(()),
        false => Err(Failure::OutOfScope { service: service.clone() }),
    }
}

/// Returns the facts that the suffix of a scope needs. If the service could use another value than the value that this
/// layer sees, the fact stays unknown.
#[cold]
fn facts_of<'a, B>(request: &'a Request<B>, route: &Route) -> RequestFacts<'a> {
    let headers = request.headers();
    // `SanitizeLayer` replaces `Upgrade: websocket` by the extension.
    let is_upgrade =
        headers.contains_key(UPGRADE) || request.extensions().get::<AsksForWebSocket>().is_some();
    let mut facts = RequestFacts::unknown();
    if !is_upgrade && !headers.keys().any(may_name_another_method) {
        facts = facts.with_method(request.method().as_str());
    }
    match route.path_after_prefix(request.uri().path()) {
        Some(path) if !headers.keys().any(may_name_another_path) => facts.with_path(path),
        _ => facts,
    }
}

/// Returns whether some frameworks use this header in place of the method: `X-HTTP-Method-Override`, `X-HTTP-Method`,
/// `X-Method-Override`, `X-HTTP-Verb-Override` and more. `SanitizeLayer` already removes well-known headers of this
/// kind, but an operator can keep them for a service. `Access-Control-Request-Method` is no such header: it names the
/// method of a later request.
fn may_name_another_method(name: &HeaderName) -> bool {
    let name = name.as_str();
    let has_verb =
        || name.split(|char: char| !char.is_ascii_alphanumeric()).any(|word| word == "verb");
    (name.contains("method") || has_verb()) && !name.starts_with("access-control-")
}

/// Returns whether some servers use this header in place of the path or a part of it: `X-Original-URL`,
/// `X-OriginalURL`, `X-Forwarded-Path`, `X-PathInfo`, `X-Script-Name`, `Request-Target` and more. `Destination` (RFC
/// 4918 §10.3) names a second path, to which the server writes.
fn may_name_another_path(name: &HeaderName) -> bool {
    let mut words = name.as_str().split(|char: char| !char.is_ascii_alphanumeric());
    words.any(|word| {
        let is_part = || matches!(word, "destination" | "script" | "target");
        word.contains("path") || word.ends_with("url") || word.ends_with("uri") || is_part()
    })
}

/// The layer. See the [module](self).
#[derive(Clone, Debug, Default)]
pub struct ScopeLayer {
    check: CheckScope,
}

impl ScopeLayer {
    /// Creates the layer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes a record to `audit` for each decision.
    #[must_use]
    pub fn with_audit(self, audit: Audit) -> Self {
        Self { check: CheckScope { audit, ..self.check } }
    }

    /// Reports the accepted uses of Personal Access Tokens to `uses`.
    #[must_use]
    pub fn with_token_uses(self, uses: Arc<TokenUses>) -> Self {
        Self { check: CheckScope { uses: Some(uses), ..self.check } }
    }
}

impl<S> Layer<S> for ScopeLayer {
    type Service = ScopeService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CheckService::new(inner, self.check.clone())
    }
}

/// The service of [`ScopeLayer`].
pub type ScopeService<S> = CheckService<S, CheckScope>;

/// The check of [`ScopeLayer`].
#[derive(Clone, Debug, Default)]
pub struct CheckScope {
    audit: Audit,
    uses: Option<Arc<TokenUses>>,
}

impl Check for CheckScope {
    fn check<B>(&mut self, request: &mut Request<B>) -> Result<(), Rejection> {
        let audit = &self.audit;
        let Some(route) = request.extensions().get::<Arc<Route>>().cloned() else {
            return Err(Rejection::misassembled("ScopeLayer needs RouteLayer before it"));
        };
        if route.is_bypass() {
            return Ok(());
        }
        let authenticated = match request.extensions_mut().remove::<Authentication>() {
            Some(Authentication::Authenticated(authenticated)) => authenticated,
            Some(failed @ Authentication::Failed(_)) => {
                request.extensions_mut().insert(failed);
                return Ok(());
            }
            None => {
                return Err(Rejection::misassembled(
                    "ScopeLayer needs AuthenticateLayer before it",
                ));
            }
        };
        let facts = || facts_of(request, &route);
        match decide(authenticated.proof(), route.service(), route.accepted_pats(), facts) {
            Ok(()) => {
                if let (Some(uses), Proof::Pat(pat)) = (&self.uses, authenticated.proof()) {
                    uses.used(pat, route.service(), || {
                        let connection = request.extensions().get::<ConnectionInfo>()?;
                        Some(connection.client().ip())
                    });
                }
                let authorized = Authorized { authenticated, route };
                audit.record(|| {
                    let record = AuditRecord::succeeded(Event::Authentication, audit.now());
                    let (method, uri) = (request.method(), request.uri());
                    let record = record.with_request(method, uri, request.extensions());
                    authorized.add_to_record(record)
                });
                request.extensions_mut().insert(authorized);
            }
            Err(failure) => return refuse(request, authenticated, &route, failure, audit),
        }
        Ok(())
    }
}

/// Forwards the request with the failure, or rejects it.
#[cold]
fn refuse<B>(
    request: &mut Request<B>,
    authenticated: Authenticated,
    route: &Route,
    failure: Failure,
    audit: &Audit,
) -> Result<(), Rejection> {
    audit.record(|| {
        let record = AuditRecord::failed(Event::Authentication, &failure, audit.now())
            .with_request(request.method(), request.uri(), request.extensions())
            .with_service(route.service());
        authenticated.add_to_record(record)
    });
    let user = authenticated.user();
    let request_id = RequestId::logged(request.extensions());
    let service = route.service();
    tracing::info!(%service, request_id, %user, %failure, "not authorized");
    request.extensions_mut().insert(authenticated.proof().kind());
    if route.on_failure() == OnFailure::Reject {
        return Err(Rejection::Authentication(failure));
    }
    authenticated.restore(request.headers_mut());
    request.extensions_mut().insert(Authentication::Failed(failure));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use test_support::{pki, tickets::user};

    use super::*;
    use crate::token::{Rs256Verifier, Scopes, SigningKey, TokenIssuer, Validity, VerifiedToken};

    #[test]
    fn a_token_of_one_service_and_a_pat_are_valid_only_for_their_services() {
        let key = SigningKey::from_pem(pki::SIGNING_KEY.as_bytes()).unwrap();
        let issuer = TokenIssuer::new(key).with_lifetime(Duration::from_secs(900));
        let verifier = Rs256Verifier::new(issuer.verifying_key());
        let service = |id| ServiceId::new(id).unwrap();
        let proof = |text: &str| match verifier.verify(text).unwrap() {
            VerifiedToken::Jwt(jwt) => Proof::Jwt(jwt),
            VerifiedToken::Pat(pat) => Proof::Pat(pat),
            VerifiedToken::External(token) => Proof::External(token),
        };
        let login = issuer.login_token(&user("USER"), "x").unwrap();
        let files = issuer.service_token(&user("USER"), "x", &service("files"), None).unwrap();
        let scopes = Scopes::parse(["files", "jobs"]).unwrap();
        let pat = issuer.personal_access_token(&user("USER"), &scopes, Validity::MAX).unwrap();
        for (name, token, valid_for) in [
            ("login token", &login, &["files", "jobs", "other"][..]),
            ("token of a service", &files, &["files"]),
            ("PAT", &pat, &["files", "jobs"]),
        ] {
            let proof = proof(token.expose());
            for id in ["files", "jobs", "other"] {
                let decided =
                    decide(&proof, &service(id), AcceptedPats::ForRequest, RequestFacts::unknown);
                let refused = Err(Failure::OutOfScope { service: service(id) });
                let want = if valid_for.contains(&id) { Ok(()) } else { refused };
                assert_eq!(decided, want, "{name} {id}");
            }
        }
        assert_eq!(
            decide(&Proof::Password, &service("files"), AcceptedPats::Never, RequestFacts::unknown),
            Ok(())
        );
    }

    #[test]
    fn headers_that_may_name_another_method_or_path_are_found() {
        for (name, want) in [
            ("x-http-method-override", true),
            ("x-http-method", true),
            ("x-method-override", true),
            ("x_http_method_override", true),
            ("x-original-method", true),
            ("x-ibm-requested-method", true),
            ("x-http-verb-override", true),
            ("x-verbose", false),
            ("access-control-request-method", false),
            ("access-control-request-headers", false),
            ("accept", false),
        ] {
            assert_eq!(may_name_another_method(&HeaderName::from_static(name)), want, "{name}");
        }
        for (name, want) in [
            ("x-original-url", true),
            ("x-rewrite-url", true),
            ("x_original_uri", true),
            ("x-forwarded-path", true),
            ("destination", true),
            ("x-forwarded-prefix", false),
            ("referer", false),
            ("x-originalurl", true),
            ("x-pathinfo", true),
            ("x-script-name", true),
            ("request-target", true),
            ("x-description", false),
            ("x-http-path-override", true),
            ("x-urls", false),
        ] {
            assert_eq!(may_name_another_path(&HeaderName::from_static(name)), want, "{name}");
        }
    }
}
