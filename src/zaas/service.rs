//! [`SchemeEndpoints`], the Tower service for the paths below `/zaas/scheme/`. In this file, "the gateway" is the
//! gateway of API ML (Zowe's API Mediation Layer), which sends the requests.

use std::{
    convert::Infallible,
    fmt,
    future::{Ready, ready},
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready as poll_ready},
    time::Duration,
};

use http::{
    Extensions, HeaderMap, HeaderValue, Method, Request, Response, Version, header::CONNECTION,
    request::Parts,
};
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::time::timeout;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    answer,
    call::{self, BadCall, Call, SchemeKind},
    route_cache::RouteCache,
    source::SchemeSource,
};
use crate::{
    api::{BodyReadError, ResponseBody, read_body},
    audit::{Audit, AuditRecord, CredentialKind, Event, ReasonCode, RequestId},
    clock::{Clock, SystemClock},
    connection::ConnectionInfo,
    identity::{
        CommonNameMapper, Fingerprint, Forwarder, IdentityMapper, PeerCertificate, UnlistedPeer,
    },
    layer::{
        AuthenticateLayer, AuthenticateService, CookieNames, Failure, OriginPolicy, Rejection,
        SchemeLayer, SchemeService, ScopeLayer, ScopeService, X_ZOWE_TOKEN_EXPIRES, login_token,
    },
    log_limit::log_limited,
    request_facts::RequestFacts,
    revocation::{RevocationCheck, RevocationIndex},
};

/// The time limit for the body of a request. A body has less than 100 bytes.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The endpoints below `/zaas/scheme/`, as a Tower service. Clones share their routes. See the [module](super).
pub struct SchemeEndpoints<R = RevocationIndex, M = CommonNameMapper> {
    shared: Arc<Shared<R, M>>,
    cookies: Arc<CookieNames>,
    clock: Arc<dyn Clock>,
}

struct Shared<R, M> {
    routes: RouteCache,
    stack: Stack<R, M>,
    audit: Audit,
    origins: OriginPolicy,
}

/// The layers that a proxy puts around a service, in the same order. Two parts differ: [`Answer`] takes the place of
/// the service, and [`Checked`] is in front of the scheme.
type Stack<R, M> = AuthenticateService<ScopeService<Checked<SchemeService<Answer>>>, R, M>;

impl<R, M> SchemeEndpoints<R, M> {
    /// Creates the endpoints. Pass the layers of the routes of your proxy, so that the endpoints and the routes accept
    /// the same credentials. `schemes` makes the schemes.
    pub fn new(
        schemes: impl SchemeSource,
        authenticate: AuthenticateLayer<R, M>,
        scope: ScopeLayer,
        scheme: SchemeLayer,
    ) -> Self {
        let audit = authenticate.audit().clone();
        let stack = authenticate.layer(scope.layer(Checked { inner: scheme.layer(Answer) }));
        let origins = OriginPolicy::default();
        let shared = Shared { routes: RouteCache::new(schemes), stack, audit, origins };
        Self { shared: Arc::new(shared), cookies: Arc::default(), clock: Arc::new(SystemClock) }
    }

    /// Sets the names of the cookies that contain tokens. Use the names of the
    /// [`Authenticator`](crate::layer::Authenticator).
    #[must_use]
    pub fn with_cookie_names(self, cookies: CookieNames) -> Self {
        Self { cookies: Arc::new(cookies), ..self }
    }

    /// Uses `clock` instead of the system clock for the expiry of the certificates of gateways.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }
}

impl<R, M> Clone for SchemeEndpoints<R, M> {
    fn clone(&self) -> Self {
        let Self { shared, cookies, clock } = self;
        Self { shared: shared.clone(), cookies: cookies.clone(), clock: clock.clone() }
    }
}

impl<R, M> fmt::Debug for SchemeEndpoints<R, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SchemeEndpoints").field("cookies", &self.cookies).finish_non_exhaustive()
    }
}

impl<R: RevocationCheck, M: IdentityMapper, B> Service<Request<B>> for SchemeEndpoints<R, M>
where
    B: Body + Send + 'static,
    B::Data: Send,
{
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let endpoints = self.clone();
        Box::pin(async move {
            let (request, body) = request.into_parts();
            match SchemeKind::find(request.uri.path()) {
                Some(kind) => endpoints.answer(kind, request, body).await,
                None => Ok(endpoints.not_found(&request)),
            }
        })
    }
}

impl<R: RevocationCheck, M: IdentityMapper> SchemeEndpoints<R, M> {
    async fn answer<B: Body>(
        &self,
        kind: SchemeKind,
        mut request: Parts,
        body: B,
    ) -> Result<Response<ResponseBody>, Infallible> {
        if !self.has_certificate(&request.extensions) {
            return Ok(self.certificate_required(&request));
        }
        // API ML's gateway sends none of the headers that this check reads. So a request with one of these headers
        // probably comes from a browser.
        if self.shared.origins.check(&request).is_err() {
            return Ok(Rejection::CrossOrigin.into_response());
        }
        let called = read(kind, &request, body).await;
        // `X-Service-Id` counts only if a named gateway sends it. Otherwise, a client with a certificate and a stolen
        // Personal Access Token could name any service in the scopes of this token.
        let service = match request.extensions.get::<Forwarder>() {
            Some(_) => call::service(&request.headers),
            None => {
                if call::names_service(&request.headers) {
                    without_certificate_of_peer(&mut request.extensions);
                }
                None
            }
        };
        let facts = request.extensions.get::<RequestFacts>();
        if let (Some(facts), Some(service)) = (facts, &service) {
            facts.set_service(service);
        }
        let found = called.and_then(|called| {
            let route = self.shared.routes.get(&called.target, service.clone());
            route.map(|route| (called, route)).ok_or(BadCall::NoScheme)
        });
        let (called, route) = match found {
            Ok((called, route)) => (Ok(called), route),
            Err(bad) => (Err(bad), self.shared.routes.without_scheme(service)),
        };
        let Parts { method, uri, headers, mut extensions, .. } = request;
        let url = uri.path().to_owned();
        extensions.insert(route);
        extensions.insert(Asked { kind, called });
        let mut reduced = Request::new(());
        *reduced.method_mut() = method;
        *reduced.uri_mut() = uri;
        *reduced.headers_mut() = call::credentials(&headers);
        *reduced.extensions_mut() = extensions;
        // All Tower services of the stack are always ready.
        let response = self.shared.stack.clone().call(reduced).await?;
        Ok(self.finish(kind, &url, &headers, response))
    }

    fn not_found(&self, request: &Parts) -> Response<ResponseBody> {
        let path = request.uri.path();
        // Below `/zaas/scheme`, a peer without a certificate gets the same answer for each path. So it does not learn
        // which endpoints there are.
        match SchemeKind::is_below(path) && !self.has_certificate(&request.extensions) {
            true => self.certificate_required(request),
            false => answer::not_found(path),
        }
    }

    fn certificate_required(&self, request: &Parts) -> Response<ResponseBody> {
        self.shared.audit.record(|| {
            let reason = ReasonCode::CertificateRequired;
            AuditRecord::failed(Event::Authentication, reason, self.shared.audit.now())
                .with_credential(CredentialKind::None)
                .with_request(&request.method, &request.uri, &request.extensions)
        });
        let request_id = RequestId::logged(&request.extensions);
        let peer =
            request.extensions.get::<ConnectionInfo>().map(|connection| connection.client().ip());
        let peer = peer.map(tracing::field::display);
        log_limited!(
            warn, "gateway without certificate", { request_id, peer },
            "a gateway of API ML got no credential, because it presented no valid client certificate; the trust store of \
             this program must have the authority that issued the certificate of the gateway"
        );
        let mut response = answer::certificate_required(request.uri.path());
        if request.version == Version::HTTP_11 {
            // Gateways keep connections open for hours. Only on a new connection can the gateway present a certificate.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// Returns whether the peer of the connection has a certificate that the TLS listener has verified, and that has
    /// not expired since. Returns `false` for a gateway that is no longer named, because the layer of
    /// [`trust_layer`](super::trust_layer) removes its certificate.
    fn has_certificate(&self, extensions: &Extensions) -> bool {
        let forwarder = extensions.get::<Forwarder>().map(Forwarder::certificate);
        let peer = forwarder.or_else(|| extensions.get().map(UnlistedPeer::certificate));
        let peer = peer.or_else(|| extensions.get::<PeerCertificate>());
        peer.is_some_and(|certificate| self.clock.now() <= certificate.not_after())
    }

    /// If a layer has refused the request, replaces its response by the response of ZAAS.
    fn finish(
        &self,
        kind: SchemeKind,
        url: &str,
        headers: &HeaderMap,
        response: Response<ResponseBody>,
    ) -> Response<ResponseBody> {
        let Some(failure) = response.extensions().get::<Failure>() else {
            let mut response = response;
            // The layers add this header for the clients of routes. A gateway of API ML does not expect it.
            response.headers_mut().remove(&X_ZOWE_TOKEN_EXPIRES);
            return response;
        };
        let credential = response.extensions().get::<CredentialKind>().copied();
        let credential = credential.unwrap_or(CredentialKind::None);
        let token = || str::from_utf8(login_token(headers, &self.cookies)?).ok();
        let mut refused = answer::failed(kind, failure, credential, url, token);
        // Outer layers read the reason of the refusal from these extensions.
        let mut extensions = response.into_parts().0.extensions;
        extensions.extend(mem::take(refused.extensions_mut()));
        *refused.extensions_mut() = extensions;
        refused
    }
}

/// Removes the certificate of a peer that sends `X-Service-Id`, but is no named gateway. The peer may be a gateway that
/// an operator has forgotten to name. If its certificate counted as the credential, each of its clients would act as
/// the user to whom this certificate is mapped.
fn without_certificate_of_peer(extensions: &mut Extensions) {
    let Some(peer) = extensions.remove::<PeerCertificate>() else { return };
    let (sha256, peer) = (Fingerprint::from(*peer.sha256()), peer.subject());
    log_limited!(
        warn, ("unnamed gateway", peer), { peer, %sha256 },
        "a peer with X-Service-Id got no credential for its own certificate, because it may be a gateway of API ML; if it \
         is one, add its certificate to the named gateways"
    );
}

async fn read<B: Body>(kind: SchemeKind, request: &Parts, body: B) -> Result<Call, BadCall> {
    match request.method {
        Method::POST => {}
        Method::OPTIONS => return Err(BadCall::Options),
        _ => return Err(BadCall::Method),
    }
    // The body is read even if the scheme needs no application. Without an application, gateways send an empty body in
    // chunks, and the HTTP server closes a connection with an unread body.
    match timeout(BODY_TIMEOUT, read_body(body)).await {
        Ok(Ok(body)) => call::read(kind, &request.headers, &body),
        Ok(Err(BodyReadError::TooLarge)) => Err(BadCall::TooLong),
        Ok(Err(BodyReadError::Incomplete)) | Err(_) => Err(BadCall::Incomplete),
    }
}

/// An extension of each request.
#[derive(Clone)]
struct Asked {
    kind: SchemeKind,
    called: Result<Call, BadCall>,
}

/// Answers a request with a [`BadCall`], and removes all headers of other requests, so that the scheme sees none of
/// them. This service is behind the layers that authenticate the client. So only an authenticated client learns what is
/// wrong with a request, as in API ML.
#[derive(Clone)]
struct Checked<S> {
    inner: S,
}

impl<S> Service<Request<()>> for Checked<S>
where
    S: Service<Request<()>, Response = Response<ResponseBody>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = CheckedFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<()>) -> Self::Future {
        match request.extensions().get::<Asked>() {
            Some(Asked { kind, called: Err(bad) }) => {
                CheckedFuture::Answered { response: Some(answer::bad_call(*kind, *bad)) }
            }
            _ => {
                request.headers_mut().clear();
                CheckedFuture::Inner { future: self.inner.call(request) }
            }
        }
    }
}

pin_project! {
    #[project = CheckedProj]
    enum CheckedFuture<F> {
        Inner { #[pin] future: F },
        Answered { response: Option<Response<ResponseBody>> },
    }
}

impl<F, E> Future for CheckedFuture<F>
where
    F: Future<Output = Result<Response<ResponseBody>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match self.project() {
            CheckedProj::Inner { future } => Poll::Ready(poll_ready!(future.poll(cx))),
            CheckedProj::Answered { response } => {
                Poll::Ready(Ok(response.take().expect("polled after completion")))
            }
        }
    }
}

/// Turns the headers that the scheme has prepared into the response.
#[derive(Clone)]
struct Answer;

impl Service<Request<()>> for Answer {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        ready(Ok(match request.extensions().get::<Asked>() {
            Some(Asked { kind, called: Ok(Call { application, .. }) }) => {
                answer::prepared(*kind, application, request.headers())
            }
            _ => Rejection::misassembled("the scheme endpoints lost what the gateway asked for")
                .into_response(),
        }))
    }
}
