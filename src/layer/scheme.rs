//! Runs the [`Scheme`](super::Scheme) of the route. It prepares the headers that the service receives in place of the
//! credential of the client.
//!
//! 1. An [`Authorized`] request gets the headers of the scheme. Exception: the route has
//!    [`Mode::Observe`](super::Mode::Observe). For example, [`PassTicketScheme`](super::PassTicketScheme) sets
//!    `Authorization: Basic base64(user:ticket)`.
//! 2. For each call of a scheme, the layer writes one record to the audit log, with the event of
//!    [`Scheme::event`](super::Scheme::event). If the scheme fails, the layer also logs the reason.
//! 3. If the route forwards a request although authentication, authorization or the scheme failed, the layer adds the
//!    header `X-Zowe-Auth-Failure` to the request and to the response. With `Mode::Observe`, it does not add this
//!    header.
//! 4. A forwarded request has the extension [`ReadyToForward`]. The proxy of this crate needs this extension, except on
//!    a route with the scheme [`Bypass`](super::Bypass).
//!
//! This layer needs [`RouteLayer`](super::RouteLayer), [`AuthenticateLayer`](super::AuthenticateLayer) and
//! [`ScopeLayer`](super::ScopeLayer) before it. If one of them is missing, the layer answers 500. Exceptions: a request
//! whose authentication failed does not need `ScopeLayer`, and a route with the scheme `bypass` needs only
//! `RouteLayer`.
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_passticket::{
//!     layer::{
//!         AuthenticateLayer, Authenticator, PassTicketScheme, Route, RouteLayer, Routes,
//!         SanitizeLayer, SchemeLayer, ScopeLayer,
//!     },
//!     passticket::{Algorithm, Applid, KeyProfile, KeyProfiles, LocalGenerator, Replay, UserId},
//!     token::{ServiceId, SigningKey, TokenIssuer, Rs256Verifier},
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let pem = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)?;
//! # let pem = pem.serialize_pem();
//! let key = SigningKey::from_pem(pem.as_bytes())?;
//! let verifier = Rs256Verifier::new(key.verifying_key());
//! let applid = Applid::new("ZOWEAPPL")?;
//! let profile = KeyProfile::from_hex(applid, Algorithm::Legacy, "E001193519561977")?
//!     .with_replay(Replay::Allowed);
//! let route = Route::new(
//!     ServiceId::new("files")?,
//!     "api/v1",
//!     "https://zos.example.com".parse()?,
//!     PassTicketScheme::new(applid, LocalGenerator::new(KeyProfiles::new([profile])?)),
//! )?;
//! let service = ServiceBuilder::new()
//!     .layer(SanitizeLayer::new())
//!     .layer(RouteLayer::new(Routes::new([route])?))
//!     .layer(AuthenticateLayer::new(Authenticator::new(verifier)))
//!     .layer(ScopeLayer::new())
//!     .layer(SchemeLayer::new())
//!     .service(service_fn(|request: Request<Full<Bytes>>| async move {
//!         let mut response = Response::new(Full::<Bytes>::default());
//!         // Returns the header that the service received, for the assertions below.
//!         if let Some(basic) = request.headers().get("authorization") {
//!             response.headers_mut().insert("x-seen", basic.clone());
//!         }
//!         Ok::<_, std::convert::Infallible>(response)
//!     }));
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let token = TokenIssuer::new(key).login_token(&UserId::new("USER").unwrap(), "demo").unwrap();
//! let get = || Request::get("/files/api/v1/x");
//! let request = get().header("Authorization", format!("Bearer {}", token.expose()));
//! let response = service.clone().oneshot(request.body(Full::default()).unwrap()).await.unwrap();
//! assert_eq!(response.status(), 200);
//! assert!(response.headers()["x-seen"].to_str().unwrap().starts_with("Basic "));
//!
//! let response = service.oneshot(get().body(Full::default()).unwrap()).await.unwrap();
//! assert_eq!(response.status(), 200);
//! assert!(!response.headers().contains_key("x-seen"));
//! assert_eq!(
//!     response.headers()["x-zowe-auth-failure"],
//!     "ZWEAG160E No authentication provided in the request"
//! );
//! # });
//! # Ok(())
//! # }
//! ```

use std::{
    mem::{self, discriminant},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Extensions, HeaderMap, HeaderName, Method, Request, Response, Uri};
use tower_layer::Layer;
use tower_service::Service;

use super::{
    authentication::Authentication,
    failure::{Failure, X_ZOWE_AUTH_FAILURE},
    future::{ForwardedFailure, LayerFuture, Outcome, PollDecision},
    observed::ObservedDecision,
    rejection::Rejection,
    routes::{OnFailure, Route},
    schemes::{Authorization, SchemeFuture, SchemeHeaders, SchemeRequest, Waiting},
    scope::Authorized,
};
#[cfg(feature = "proxy")]
use crate::ticket_breaker::Sent;
use crate::{
    audit::{Audit, AuditRecord, CredentialKind, Detail, Event, ReasonCode, RequestId},
    headers::strip_request_hop_by_hop,
    log_limit::log_limited,
    passticket::UserId,
};

/// Shows that a request may be forwarded to the service of its route, for one of three reasons:
///
/// - The scheme has prepared the request.
/// - Authentication, authorization or the scheme failed, and the request contains `X-Zowe-Auth-Failure`.
/// - The route has [`Mode::Observe`](super::Mode::Observe).
///
/// Only [`SchemeLayer`] creates this type. Requests on a route with the scheme [`Bypass`](super::Bypass) do
/// not have this extension.
#[derive(Clone, Debug)]
pub struct ReadyToForward(Ready);

#[derive(Clone, Debug)]
enum Ready {
    Prepared {
        authorized: Authorized,
        audit: Audit,
        #[cfg(feature = "proxy")]
        sent: Option<Sent>,
    },
    Failed {
        route: Arc<Route>,
        credential: CredentialKind,
        /// `None` with [`Mode::Observe`](super::Mode::Observe).
        reason: Option<ReasonCode>,
    },
}

impl ReadyToForward {
    /// Returns the route of the request.
    pub fn route(&self) -> &Arc<Route> {
        match &self.0 {
            Ready::Prepared { authorized, .. } => authorized.route(),
            Ready::Failed { route, .. } => route,
        }
    }

    /// Returns the user for whom the scheme has prepared the request. `None` after a failure, and with
    /// [`Mode::Observe`](super::Mode::Observe).
    pub fn user(&self) -> Option<&UserId> {
        match &self.0 {
            Ready::Prepared { authorized, .. } => Some(authorized.user()),
            Ready::Failed { .. } => None,
        }
    }

    /// Returns the authorization, or the kind of the credential and the reason of the failure. With
    /// [`Mode::Observe`](super::Mode::Observe), there is no reason.
    pub(super) fn result(&self) -> Result<&Authorized, (CredentialKind, Option<ReasonCode>)> {
        match &self.0 {
            Ready::Prepared { authorized, .. } => Ok(authorized),
            Ready::Failed { credential, reason, .. } => Err((*credential, *reason)),
        }
    }

    /// Returns `None` in the same cases as [`user`](Self::user).
    #[cfg(feature = "proxy")]
    pub(crate) fn authorized(&self) -> Option<&Authorized> {
        match &self.0 {
            Ready::Prepared { authorized, .. } => Some(authorized),
            Ready::Failed { .. } => None,
        }
    }

    /// If a [`TicketBreaker`](crate::ticket_breaker::TicketBreaker) watches the answer, returns the PassTicket of the
    /// request.
    #[cfg(feature = "proxy")]
    pub(crate) fn sent(&self) -> Option<&Sent> {
        match &self.0 {
            Ready::Prepared { sent, .. } => sent.as_ref(),
            Ready::Failed { .. } => None,
        }
    }

    /// The proxy sends the request again with the PassTicket `new`.
    #[cfg(feature = "proxy")]
    pub(crate) fn set_sent(&mut self, new: Option<Sent>) {
        if let Ready::Prepared { sent, .. } = &mut self.0 {
            *sent = new;
        }
    }

    /// Calls [`Scheme::prepare_again`](super::Scheme::prepare_again), because a proxy must send the request a second
    /// time. Writes a record to the audit log. `method`, `uri` and `extensions` must be those of the request of the
    /// client.
    ///
    /// Returns `None` if the scheme has not prepared the request, or if it cannot make new headers. Then the proxy may
    /// send the request again only if the service accepts the same headers twice ([`Route::replay`]).
    #[cfg_attr(not(feature = "proxy"), expect(dead_code, reason = "only the proxy sends again"))]
    pub(crate) fn prepare_again(
        &self,
        method: &Method,
        uri: &Uri,
        extensions: &Extensions,
    ) -> Option<SchemeFuture> {
        let Ready::Prepared { authorized, audit, .. } = self.0.clone() else { return None };
        let route = authorized.route();
        // The service does not answer the first ticket. Without this call, the first ticket would block the second one
        // for some seconds.
        #[cfg(feature = "proxy")]
        if let Some(sent) = self.sent() {
            sent.set_unanswered();
        }
        let prepared = route.scheme().prepare_again(&Authorization {
            authenticated: authorized.authenticated(),
            service: route.service(),
            #[cfg(feature = "proxy")]
            sent: self.sent(),
        })?;
        let (method, uri, extensions) = (method.clone(), uri.clone(), extensions.clone());
        Some(SchemeFuture::pending(async move {
            let prepared = prepared.await;
            let head = (&method, &uri, &extensions);
            audit.record(|| record(head, &authorized, &prepared, &audit));
            prepared.inspect_err(|failure| log_failure(failure, &authorized, &extensions))
        }))
    }
}

/// The layer. See the [module](self).
#[derive(Clone, Debug, Default)]
pub struct SchemeLayer {
    audit: Audit,
}

impl SchemeLayer {
    /// Creates the layer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes a record to `audit` for each call of a scheme.
    #[must_use]
    pub fn with_audit(self, audit: Audit) -> Self {
        Self { audit }
    }
}

impl<S> Layer<S> for SchemeLayer {
    type Service = SchemeService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        SchemeService { inner, audit: self.audit.clone() }
    }
}

/// The service of [`SchemeLayer`].
#[derive(Clone, Debug)]
pub struct SchemeService<S> {
    inner: S,
    audit: Audit,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for SchemeService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
    ResBody: From<Bytes>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = LayerFuture<Preparing, S, ReqBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let authorized = match begin(&mut request) {
            Step::Decided(outcome) => {
                return LayerFuture::decided(outcome, &mut self.inner, request);
            }
            Step::Prepare(authorized) => authorized,
        };
        let scheme = authorized.route().scheme();
        let service = authorized.route().service();
        let seen = SchemeRequest::new(authorized.authenticated(), service, &request);
        match scheme.prepare(&seen).now() {
            Ok(prepared) => {
                let outcome = finish(&mut request, authorized, prepared, &self.audit);
                LayerFuture::decided(outcome, &mut self.inner, request)
            }
            Err(future) => {
                let state = State::Waiting { future, authorized };
                let preparing = Preparing { state, audit: self.audit.clone() };
                LayerFuture::waiting(preparing, &mut self.inner, request)
            }
        }
    }
}

/// A call of a scheme that waits for another server.
#[allow(missing_debug_implementations, reason = "holds a future of the scheme")]
pub struct Preparing {
    state: State,
    audit: Audit,
}

enum State {
    Waiting { future: Waiting, authorized: Authorized },
    Done,
}

impl<ReqBody> PollDecision<ReqBody> for Preparing {
    fn poll_prepare(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        request: &mut Request<ReqBody>,
    ) -> Poll<Outcome> {
        let State::Waiting { future, .. } = &mut self.state else {
            panic!("polled after completion");
        };
        let prepared = ready!(future.as_mut().poll(cx));
        let State::Waiting { authorized, .. } = mem::replace(&mut self.state, State::Done) else {
            unreachable!("the state was Waiting above");
        };
        Poll::Ready(finish(request, authorized, prepared, &self.audit))
    }
}

fn finish<B>(
    request: &mut Request<B>,
    mut authorized: Authorized,
    prepared: Result<SchemeHeaders, Failure>,
    audit: &Audit,
) -> Outcome {
    audit.record(|| {
        let head = (request.method(), request.uri(), request.extensions());
        record(head, &authorized, &prepared, audit)
    });
    match prepared {
        Ok(_) if authorized.route().is_observed() => {
            // The headers of the scheme are never used.
            let route = authorized.route().clone();
            request.extensions_mut().insert(authorized.proof().kind());
            authorized.into_authenticated().restore(request.headers_mut());
            observe(request, route, ObservedDecision::Accepted)
        }
        #[cfg_attr(
            not(feature = "proxy"),
            expect(unused_mut, reason = "only the proxy watches answers")
        )]
        Ok(mut prepared) => {
            #[cfg(feature = "proxy")]
            let sent = prepared.take_sent().inspect(Sent::set_sent);
            let headers = request.headers_mut();
            remove_all(headers, authorized.route().scheme().reserved_headers());
            prepared.write_to(headers);
            authorized.discard_withheld();
            let ready = Ready::Prepared {
                authorized,
                audit: audit.clone(),
                #[cfg(feature = "proxy")]
                sent,
            };
            request.extensions_mut().insert(ReadyToForward(ready));
            Outcome::Forward
        }
        Err(failure) => {
            let route = authorized.route().clone();
            // In the mode observe, the failure has no effect.
            if !route.is_observed() {
                log_failure(&failure, &authorized, request.extensions());
            }
            request.extensions_mut().insert(authorized.proof().kind());
            authorized.into_authenticated().restore(request.headers_mut());
            fail(request, route, failure)
        }
    }
}

fn log_failure(failure: &Failure, authorized: &Authorized, extensions: &Extensions) {
    // The log line must contain the user, the APPLID, the service and the return codes (docs/decisions.md#d5).
    // `failure` contains the APPLID and the return codes, if the scheme makes PassTickets.
    let (route, user) = (authorized.route(), authorized.user());
    let (service, scheme) = (route.service(), route.scheme().name());
    let codes = match failure {
        Failure::Generate(error) => Some(error.codes()),
        _ => None,
    };
    let cause = ("the scheme failed", service, scheme, discriminant(failure), codes);
    let request_id = RequestId::logged(extensions);
    log_limited!(error, cause, { %service, request_id, scheme, %user, %failure }, "the scheme failed");
}

fn record(
    (method, uri, extensions): (&Method, &Uri, &Extensions),
    authorized: &Authorized,
    prepared: &Result<SchemeHeaders, Failure>,
    audit: &Audit,
) -> AuditRecord {
    let scheme = authorized.route().scheme();
    let (event, time) = (scheme.event(), audit.now());
    let mut record = match prepared {
        Ok(_) => AuditRecord::succeeded(event, time),
        Err(failure) => AuditRecord::failed(event, failure, time),
    };
    if let Err(Failure::Generate(error)) = prepared {
        record = record.with_codes(error.codes());
    }
    if event == Event::Scheme {
        record = record.with_detail(Detail::Scheme { name: scheme.name() });
    }
    let record = authorized.add_to_record(record);
    scheme.annotate(record.with_request(method, uri, extensions))
}

enum Step {
    Decided(Outcome),
    Prepare(Authorized),
}

fn begin<B>(request: &mut Request<B>) -> Step {
    let misassembled = |what| Step::Decided(Outcome::Reject(Rejection::misassembled(what)));
    // If a client sends `Connection: authorization`, the proxy removes the `Authorization` of the scheme.
    // `SanitizeLayer` also removes hop-by-hop headers, but can be missing in the stack.
    strip_request_hop_by_hop(request.headers_mut());
    let extensions = request.extensions_mut();
    let Some(route) = extensions.get::<Arc<Route>>().cloned() else {
        return misassembled("SchemeLayer needs RouteLayer before it");
    };
    if route.is_bypass() {
        // These requests need no `ReadyToForward`.
        return Step::Decided(Outcome::Forward);
    }
    if let Some(authorized) = extensions.remove::<Authorized>() {
        // Another layer can have replaced the route in the extensions. Only the route in `Authorized` counts.
        return if authorized.route().is_bypass() {
            misassembled(
                "the authorized route has the scheme bypass, but the current route has another scheme",
            )
        } else {
            Step::Prepare(authorized)
        };
    }
    match extensions.remove::<Authentication>() {
        Some(Authentication::Failed(failure)) => Step::Decided(fail(request, route, failure)),
        Some(Authentication::Authenticated(_)) => {
            misassembled("SchemeLayer needs ScopeLayer between AuthenticateLayer and itself")
        }
        None => misassembled("SchemeLayer needs AuthenticateLayer and ScopeLayer before it"),
    }
}

/// Forwards the request with `X-Zowe-Auth-Failure`, or rejects it. With [`Mode::Observe`](super::Mode::Observe),
/// forwards it without this header.
#[cold]
fn fail<B>(request: &mut Request<B>, route: Arc<Route>, failure: Failure) -> Outcome {
    if route.is_observed() {
        let (service, cause) = (route.service(), discriminant(&failure));
        let request_id = RequestId::logged(request.extensions());
        log_limited!(info, ("observed", service, cause), { %service, request_id, %failure }, "the mode of the service is observe: the decision was not enforced");
        return observe(request, route, ObservedDecision::Refused);
    }
    if route.on_failure() == OnFailure::Reject {
        return Outcome::Reject(Rejection::Authentication(failure));
    }
    let headers = request.headers_mut();
    remove_all(headers, route.scheme().reserved_headers());
    let text = route.compatibility().auth_failure(&failure, route.scheme().event());
    headers.insert(&X_ZOWE_AUTH_FAILURE, text.clone());
    let reason = Some(ReasonCode::from(&failure));
    let credential = request.extensions().get().copied().unwrap_or(CredentialKind::None);
    let failed = Ready::Failed { route, credential, reason };
    request.extensions_mut().insert(ReadyToForward(failed));
    Outcome::ForwardFailed(Box::new(ForwardedFailure { failure, text }))
}

/// Forwards a request in [`Mode::Observe`](super::Mode::Observe). Its [`ReadyToForward`] contains no user. So if the
/// proxy has a connector for requests without an authorized user (`Forward::with_unauthorized_connector`), it uses this
/// connector.
#[cold]
fn observe<B>(request: &mut Request<B>, route: Arc<Route>, decision: ObservedDecision) -> Outcome {
    remove_all(request.headers_mut(), route.scheme().reserved_headers());
    route.count_observed(decision);
    let credential = request.extensions().get().copied().unwrap_or(CredentialKind::None);
    let observed = Ready::Failed { route, credential, reason: None };
    request.extensions_mut().insert(ReadyToForward(observed));
    Outcome::Forward
}

fn remove_all(headers: &mut HeaderMap, names: &[HeaderName]) {
    for name in names {
        headers.remove(name);
    }
}
