//! Tells OAuth clients which identity providers issue the tokens that the gateway accepts (RFC 9728).
//!
//! A client without a token, such as an MCP client, receives a 401. With this layer, `WWW-Authenticate` of the 401
//! contains the URL of a document: `Bearer …, resource_metadata="https://…"`. The document names the identity
//! providers.
//!
//! 1. The path of the document is `/.well-known/oauth-protected-resource`, followed by the path of the resource. The
//!    member `resource` of the document is the URL of the gateway with the path of the resource (RFC 9728 §3.3). On a
//!    route that accepts tokens, each path with at most 512 bytes and only characters of RFC 3986 has a document. There
//!    is also a document without a path, for the whole gateway. Anyone may read the documents.
//! 2. On a route that accepts tokens, a 401 of the gateway names the document for the path of the request. If this path
//!    has no document, the 401 names the document for the prefix of the route. If a layer has forwarded a request after
//!    a failure with the status 401, and the service also answers 401, the layer adds a challenge to this response. It
//!    does not change other 401 responses of a service.
//! 3. If a 401 of the auth API has a `Bearer` challenge, this challenge names the document without a path.
//! 4. These URLs always contain an origin of the gateway, because a client can send any `Host`. If `Host` belongs to an
//!    origin of the gateway, the URLs contain this origin. Otherwise, they contain the first origin.
//!
//! Put this layer in front of all other layers of this crate.
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_passticket::layer::{ProtectedResourceLayer, SharedRoutes};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let layer = ProtectedResourceLayer::new(
//!     "https://zowe.example.com:7554".parse()?,
//!     ["https://idp.example.com/realms/z"],
//!     SharedRoutes::default(),
//! );
//! let service = ServiceBuilder::new().layer(layer).service(service_fn(
//!     |_: Request<Full<Bytes>>| async {
//!         Ok::<_, std::convert::Infallible>(Response::new(Full::<Bytes>::default()))
//!     },
//! ));
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let request = Request::get("/.well-known/oauth-protected-resource").body(Full::default()).unwrap();
//! let response = service.oneshot(request).await.unwrap();
//! assert_eq!(response.headers()["content-type"], "application/json");
//! # });
//! # Ok(())
//! # }
//! ```

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{CACHE_CONTROL, CONTENT_TYPE, HOST, WWW_AUTHENTICATE},
    uri::Authority,
};
use pin_project_lite::pin_project;
use serde_json::json;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    failure::Failure, origin::Origin, rejection::Rejection, routes::Route, schemes::Accepts,
    shared_routes::SharedRoutes,
};
use crate::messages;

/// The start of the paths of the documents (RFC 9728 §3.1).
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// How long a client may use a document without asking again, in `Cache-Control`.
const CACHEABLE: HeaderValue = HeaderValue::from_static("public, max-age=600");

/// The longest path of a resource, in bytes. For longer paths, a 401 names the document for the prefix of the route.
const MAX_PATH_LEN: usize = 512;

/// The layer. See the [module](self).
#[derive(Clone, Debug)]
pub struct ProtectedResourceLayer {
    resources: Arc<Resources>,
}

impl ProtectedResourceLayer {
    /// Creates a layer whose documents name `issuers` as the identity providers of the routes. `origin` is the address
    /// under which clients reach the gateway.
    pub fn new(
        origin: Origin,
        issuers: impl IntoIterator<Item = impl Into<String>>,
        routes: SharedRoutes,
    ) -> Self {
        let issuers = issuers.into_iter().map(Into::into).collect();
        let resources = Resources { origin, more_origins: Vec::new(), issuers, routes };
        Self { resources: Arc::new(resources) }
    }

    /// Sets more addresses under which clients reach the gateway.
    #[must_use]
    pub fn with_more_origins(mut self, origins: impl IntoIterator<Item = Origin>) -> Self {
        Arc::make_mut(&mut self.resources).more_origins = origins.into_iter().collect();
        self
    }
}

impl<S> Layer<S> for ProtectedResourceLayer {
    type Service = ProtectedResourceService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ProtectedResourceService { inner, resources: self.resources.clone() }
    }
}

#[derive(Clone)]
struct Resources {
    origin: Origin,
    more_origins: Vec<Origin>,
    issuers: Vec<String>,
    routes: SharedRoutes,
}

impl Resources {
    /// Returns the origin of the gateway to which the client has sent the request, or else `origin`.
    fn origin_for(&self, addressed: Option<Authority>) -> &Origin {
        let addressed = addressed.map(|authority| Origin::new("https", &authority));
        let known = self.more_origins.iter().find(|own| Some(*own) == addressed.as_ref());
        known.unwrap_or(&self.origin)
    }

    /// Returns the document for `path`. Returns `None` if no resource has this path.
    fn document(&self, path: &str, origin: &Origin) -> Option<String> {
        let is_resource = path.is_empty()
            || (is_plain(path)
                && self.routes.current().find(path).is_some_and(|r| accepts_tokens(r)));
        is_resource.then(|| {
            json!({
                "resource": format!("{origin}{path}"),
                "authorization_servers": self.issuers,
                "bearer_methods_supported": ["header"],
            })
            .to_string()
        })
    }

    /// Returns the URL of the document for the path of a request. Returns `None` if the route accepts no tokens.
    fn document_url(&self, path: &str, origin: &Origin) -> Option<String> {
        let routes = self.routes.current();
        let resource = match routes.find(path) {
            Some(route) if !accepts_tokens(route) => return None,
            Some(_) if is_plain(path) => path,
            Some(route) => route.prefix(),
            None => "",
        };
        Some(format!("{origin}{WELL_KNOWN}{resource}"))
    }
}

impl fmt::Debug for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resources")
            .field("origin", &self.origin)
            .field("more_origins", &self.more_origins)
            .field("issuers", &self.issuers)
            .finish_non_exhaustive()
    }
}

fn accepts_tokens(route: &Route) -> bool {
    !route.is_bypass() && route.accepts() != Accepts::ClientCertificate
}

/// Returns whether a path can be part of a URL: it is short, and has only characters of a path (RFC 3986 §3.3).
fn is_plain(path: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@%/".contains(&b);
    path.len() <= MAX_PATH_LEN && path.starts_with('/') && path.bytes().all(is_plain)
}

/// The service of [`ProtectedResourceLayer`].
#[derive(Clone, Debug)]
pub struct ProtectedResourceService<S> {
    inner: S,
    resources: Arc<Resources>,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for ProtectedResourceService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: From<Bytes>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ProtectedResourceFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let addressed = Addressed::of(&request);
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        if is_read && let Some(path) = resource_path(request.uri().path()) {
            let origin = self.resources.origin_for(addressed.authority());
            if let Some(document) = self.resources.document(path, origin) {
                let document = Some(document);
                return ProtectedResourceFuture { kind: Kind::Document { document } };
            }
        }
        let resources = self.resources.clone();
        let future = self.inner.call(request);
        ProtectedResourceFuture { kind: Kind::Inner { future, addressed, resources } }
    }
}

/// Returns the path of the resource in the path of a document.
fn resource_path(path: &str) -> Option<&str> {
    path.strip_prefix(WELL_KNOWN).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The target of a request. Cloning is cheap.
#[derive(Debug)]
struct Addressed {
    uri: Uri,
    host: Option<HeaderValue>,
}

impl Addressed {
    fn of<B>(request: &Request<B>) -> Self {
        Self { uri: request.uri().clone(), host: request.headers().get(HOST).cloned() }
    }

    fn authority(&self) -> Option<Authority> {
        match (self.uri.authority(), &self.host) {
            (Some(authority), _) => Some(authority.clone()),
            (None, Some(host)) => Authority::try_from(host.as_bytes()).ok(),
            (None, None) => None,
        }
    }
}

pin_project! {
    /// The future of [`ProtectedResourceService`].
    #[derive(Debug)]
    pub struct ProtectedResourceFuture<F> {
        #[pin]
        kind: Kind<F>,
    }
}

pin_project! {
    #[project = KindProj]
    #[derive(Debug)]
    enum Kind<F> {
        Inner { #[pin] future: F, addressed: Addressed, resources: Arc<Resources> },
        Document { document: Option<String> },
    }
}

impl<F, B, E> Future for ProtectedResourceFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: From<Bytes>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().kind.project() {
            KindProj::Inner { future, addressed, resources } => {
                let mut response = ready!(future.poll(cx))?;
                if response.status() == StatusCode::UNAUTHORIZED {
                    add_challenge(&mut response, addressed, resources);
                }
                Poll::Ready(Ok(response))
            }
            KindProj::Document { document } => {
                let document = document.take().expect("polled after completion");
                let mut response = Response::new(B::from(document.into()));
                let headers = response.headers_mut();
                messages::set_security_headers(headers);
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                headers.insert(CACHE_CONTROL, CACHEABLE);
                Poll::Ready(Ok(response))
            }
        }
    }
}

/// The auth API adds this extension to 401 responses that have a `Bearer` challenge.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BearerNeeded;

/// The part of the gateway that caused a 401.
enum Decided {
    /// A layer answered the request itself, or it forwarded the request after a failure and the service answered.
    ByLayers,
    /// The auth API.
    ByAuthApi,
}

fn decided_by<B>(response: &Response<B>) -> Option<Decided> {
    let extensions = response.extensions();
    if let Some(Rejection::Authentication(_)) = extensions.get() {
        return Some(Decided::ByLayers);
    }
    if extensions.get::<Failure>().is_some_and(|it| it.status() == StatusCode::UNAUTHORIZED) {
        return Some(Decided::ByLayers);
    }
    extensions.get::<BearerNeeded>().map(|BearerNeeded| Decided::ByAuthApi)
}

#[cold]
fn add_challenge<B>(response: &mut Response<B>, addressed: &Addressed, resources: &Resources) {
    let Some(decided) = decided_by(response) else { return };
    let origin = resources.origin_for(addressed.authority());
    let Some(url) = resources.document_url(addressed.uri.path(), origin) else { return };
    // A challenge of the service stays, because it can be for a token that only the service knows.
    let is_ours =
        response.extensions().get::<Rejection>().is_some() || matches!(decided, Decided::ByAuthApi);
    let parameter = format!("resource_metadata=\"{url}\"");
    let headers = response.headers_mut();
    if is_ours && name_in_bearer(headers, &parameter) {
        return;
    }
    if matches!(decided, Decided::ByLayers)
        && let Ok(challenge) = HeaderValue::try_from(format!("Bearer realm=\"zowe\", {parameter}"))
    {
        headers.append(WWW_AUTHENTICATE, challenge);
    }
}

/// Adds the parameter to the first `Bearer` challenge. Returns `false` if this is not possible.
fn name_in_bearer(headers: &mut HeaderMap, parameter: &str) -> bool {
    let mut challenges: Vec<_> = headers.get_all(WWW_AUTHENTICATE).iter().cloned().collect();
    let is_bearer = |value: &&mut HeaderValue| value.as_bytes().starts_with(b"Bearer ");
    let Some(bearer) = challenges.iter_mut().find(is_bearer) else { return false };
    let named = bearer.to_str().map(|text| format!("{text}, {parameter}"));
    let Some(named) = named.ok().and_then(|text| HeaderValue::try_from(text).ok()) else {
        return false;
    };
    *bearer = named;
    headers.remove(WWW_AUTHENTICATE);
    for challenge in challenges {
        headers.append(WWW_AUTHENTICATE, challenge);
    }
    true
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::{BodyExt, Full};
    use serde_json::Value;
    use tower::{ServiceExt, service_fn};

    use super::*;
    use crate::{
        layer::{Bypass, OnFailure, PassTicketScheme, Routes, X509Scheme},
        passticket::{Applid, KeyProfiles, LocalGenerator},
        token::{ServiceId, TokenError},
    };

    const ISSUER: &str = "https://idp.example.com";

    fn routes() -> SharedRoutes {
        let route = |id: &str, scheme: Result<PassTicketScheme<LocalGenerator>, bool>| {
            let (id, upstream) =
                (ServiceId::new(id).unwrap(), "http://localhost:1".parse().unwrap());
            match scheme {
                Ok(scheme) => Route::new(id, "api/v1", upstream, scheme),
                Err(true) => Route::new(id, "api/v1", upstream, Bypass),
                Err(false) => Route::new(
                    id,
                    "api/v1",
                    upstream,
                    X509Scheme::new(std::iter::empty::<crate::layer::CertificateHeader>()),
                ),
            }
            .unwrap()
            .with_on_failure(OnFailure::Reject)
        };
        let scheme = PassTicketScheme::new(
            Applid::new("A").unwrap(),
            LocalGenerator::new(KeyProfiles::default()),
        );
        let routes =
            [route("svc", Ok(scheme)), route("open", Err(true)), route("cert", Err(false))];
        Routes::new(routes).unwrap().into()
    }

    fn layer() -> ProtectedResourceLayer {
        ProtectedResourceLayer::new("https://gw:7554".parse().unwrap(), [ISSUER], routes())
            .with_more_origins(["https://gw.example.com".parse().unwrap()])
    }

    async fn send(
        method: Method,
        path: &str,
        host: &str,
        answer: impl Fn() -> Response<Full<Bytes>>,
    ) -> Response<Full<Bytes>> {
        let service = layer().layer(service_fn(|_: Request<()>| {
            let answer = answer();
            async { Ok::<_, Infallible>(answer) }
        }));
        let request = Request::builder().method(method).uri(path).header(HOST, host);
        service.oneshot(request.body(()).unwrap()).await.unwrap()
    }

    fn not_found() -> Response<Full<Bytes>> {
        Rejection::NoRoute.into_response()
    }

    #[tokio::test]
    async fn documents_contain_the_issuers_and_the_url_of_the_path_at_an_own_origin() {
        let long = format!("/svc/api/v1/{}", "x".repeat(600));
        for (path, host, resource) in [
            ("", "gw:7554", Some("https://gw:7554")),
            ("", "evil.example.com", Some("https://gw:7554")),
            ("", "GW.example.com:443", Some("https://gw.example.com")),
            ("", "gw.example.com:80", Some("https://gw:7554")),
            ("/svc/api/v1", "gw", Some("https://gw:7554/svc/api/v1")),
            ("/svc/api/v1/mcp", "gw.example.com", Some("https://gw.example.com/svc/api/v1/mcp")),
            ("/", "gw", None),
            ("/svc", "gw", None),
            ("/other/api/v1", "gw", None),
            ("/open/api/v1", "gw", None),
            ("/cert/api/v1", "gw", None),
            ("/svc/api/v1/\"x", "gw", None),
            ("-x", "gw", None),
            (&long, "gw", None),
        ] {
            let url = format!("{WELL_KNOWN}{path}");
            let response = send(Method::GET, &url, host, not_found).await;
            let Some(resource) = resource else {
                assert_eq!(response.status(), 404, "{path}");
                continue;
            };
            assert_eq!(response.status(), 200, "{path}");
            assert_eq!(response.headers()["content-type"], "application/json");
            assert_eq!(response.headers()["cache-control"], "public, max-age=600");
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let document: Value = serde_json::from_slice(&body).unwrap();
            let want = json!({"resource": resource, "authorization_servers": [ISSUER],
                              "bearer_methods_supported": ["header"]});
            assert_eq!(document, want);
        }
        let response = send(Method::POST, WELL_KNOWN, "gw", not_found).await;
        assert_eq!(response.status(), 404);
    }

    #[tokio::test]
    async fn challenges_name_the_document_of_the_path() {
        let rejected = |failure: Failure| {
            move || Rejection::Authentication(failure.clone()).into_response::<Full<Bytes>>()
        };
        let with_basic = || {
            let mut response = rejected(Failure::NoCredential)();
            super::super::rejection::offer_basic(&mut response);
            response
        };
        // The layers have forwarded the request after `failure`, and the service answers 401.
        let of_service = |failure: Option<Failure>| {
            move || {
                let mut response = Response::new(Full::default());
                *response.status_mut() = StatusCode::UNAUTHORIZED;
                let challenge = HeaderValue::from_static("Bearer realm=\"service\"");
                response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
                if let Some(failure) = failure.clone() {
                    response.extensions_mut().insert(failure);
                }
                response
            }
        };
        let challenges = async |path: &str, answer: &dyn Fn() -> Response<Full<Bytes>>| {
            let response = send(Method::GET, path, "evil.example.com", answer).await;
            let values = response.headers().get_all(WWW_AUTHENTICATE).iter();
            values.map(|value| value.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let at = |path: &str| format!("resource_metadata=\"https://gw:7554{WELL_KNOWN}{path}\"");
        let bearer = |path: &str| format!("Bearer realm=\"zowe\", {}", at(path));
        let basic = "Basic realm=\"zowe\", charset=\"UTF-8\"".to_owned();
        let path = "/svc/api/v1/mcp";
        let none = rejected(Failure::NoCredential);
        let forged = rejected(TokenError::Signature.into());
        assert_eq!(challenges(path, &none).await, [bearer(path)]);
        assert_eq!(challenges("/svc/api/v1/x?q=1", &none).await, [bearer("/svc/api/v1/x")]);
        assert_eq!(challenges("/svc/api/v1/\"x", &none).await, [bearer("/svc/api/v1")]);
        let invalid = format!("Bearer realm=\"zowe\", error=\"invalid_token\", {}", at(path));
        assert_eq!(challenges(path, &forged).await, [invalid]);
        assert_eq!(challenges(path, &with_basic).await, [bearer(path), basic]);
        let own = "Bearer realm=\"service\"".to_owned();
        let forwarded = of_service(Some(Failure::NoCredential));
        assert_eq!(challenges(path, &forwarded).await, [own.clone(), bearer(path)]);
        assert_eq!(challenges(path, &of_service(None)).await, [own]);
        assert_eq!(challenges("/cert/api/v1", &none).await, ["Bearer realm=\"zowe\""]);
        let response = send(Method::GET, path, "gw", || Response::new(Full::default())).await;
        assert!(response.headers().is_empty());
    }

    #[tokio::test]
    async fn only_bearer_challenges_of_the_auth_api_name_a_document() {
        let answer = |challenge: &'static str| {
            move || {
                let mut response = Response::new(Full::default());
                *response.status_mut() = StatusCode::UNAUTHORIZED;
                response
                    .headers_mut()
                    .insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
                response.extensions_mut().insert(BearerNeeded);
                response
            }
        };
        let path = "/gateway/api/v1/auth/query";
        let named =
            format!("Bearer realm=\"zowe\", resource_metadata=\"https://gw:7554{WELL_KNOWN}\"");
        for (challenge, want) in
            [("Bearer realm=\"zowe\"", &*named), ("xBasic realm=\"zowe\"", "xBasic realm=\"zowe\"")]
        {
            let response = send(Method::GET, path, "gw", answer(challenge)).await;
            assert_eq!(response.headers()[WWW_AUTHENTICATE], want);
        }
    }
}
