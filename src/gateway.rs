//! [`Gateway`] sends each request to the auth API, to the health endpoint, or to the routed stack: the stack of layers
//! that forwards requests to z/OS services.

mod error_page;
mod request_counts;

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{CONTENT_TYPE, STRICT_TRANSPORT_SECURITY},
};
use pin_project_lite::pin_project;
use tokio::time::{Timeout, timeout};
use tower::util::Oneshot;
use tower_service::Service;

use crate::{
    apiml_path::{ApimlPath, ApimlServer},
    audit::{RequestId, X_REQUEST_ID},
    headers::without_body,
    layer::{Rejection, check_message},
    messages::{self, ApiMessage},
    proxy::ResponseBody,
};

pub use crate::auth_prefix::{AuthPrefix, AuthPrefixError};
use error_page::{to_page, wants_page};
pub use request_counts::{RequestCounts, RequestKind, StatusClass};

/// The time limit for a response of the auth API. The limit includes the time to read the request body, so that a
/// client that sends its body slowly cannot occupy an endpoint for long.
const API_TIMEOUT: Duration = Duration::from_secs(30);

/// Sends each request to the auth API `A`, or to the routed stack `R`. The path of the request decides:
///
/// | path | destination |
/// |---|---|
/// | below the [`AuthPrefix`] | `A` |
/// | a page for users, with [`with_pages`](Self::with_pages) | `A` |
/// | a path of API ML's gateway, with [`with_apiml_endpoints`](Self::with_apiml_endpoints) | `A` |
/// | a path of ZAAS, with `for_zaas` | `A` |
/// | `/application/health`, without `with_apiml_endpoints` and `for_zaas` | this gateway answers the request |
/// | any other path | `R` |
///
/// A path of API ML's gateway is a path that Zowe's API Mediation Layer (API ML) answers itself, such as
/// `/gateway/api/v1/services`. If `A` does not respond within 30 seconds, this gateway answers 503.
///
/// This gateway answers 400 to malformed requests:
///
/// - requests with several `Host` headers, requests whose `Host` is not valid, and HTTP/1.1 requests without `Host`;
/// - HTTP/2 requests whose `Host` and `:authority` differ;
/// - requests whose target is a URL with a user, without a valid host, or with a scheme other than `http` and `https`;
/// - HTTP/1 requests whose `Transfer-Encoding` contains `chunked` more than once.
///
/// This gateway answers 501 if the body of an HTTP/1 request has a transfer coding other than `chunked`.
///
/// If a request has no [`RequestId`] extension, this gateway adds one. It sets the header `X-Request-Id` of each
/// response to this id, and replaces the value of the service. [`Forward`](crate::proxy::Forward) sends the same id to
/// the service.
///
/// `R` should always be ready, as the Tower services of this crate are. While `R` is not ready, the gateway accepts no
/// requests, not even for `A`. The gateway clones `A` for each request to the auth API.
///
/// If a layer of `R` changes the type of the response body, convert the body with [`ResponseBody::new`].
#[derive(Debug)]
pub struct Gateway<A, R> {
    api: Arc<Prefixed<A>>,
    routed: R,
    apiml_paths: ApimlPaths,
    /// The path of the pages for users.
    pages: Option<AuthPrefix>,
    counts: Option<Arc<RequestCounts>>,
    strict_transport_security: Option<HeaderValue>,
    error_pages: bool,
}

/// The destination of the paths that API ML's gateway answers itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ApimlPaths {
    /// This gateway itself answers requests for `/application/health`. All other paths go to the routed stack.
    OnlyHealth,
    /// All paths of this server go to the auth API.
    AuthApi(ApimlServer),
}

/// The policy of [`Gateway::with_strict_transport_security`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StrictTransportSecurity {
    /// How long a browser applies the policy. Zero makes browsers remove an earlier policy.
    pub max_age: Duration,
    /// The hosts to which the policy applies.
    pub hosts: StrictHosts,
}

/// The hosts to which a [`StrictTransportSecurity`] applies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StrictHosts {
    /// The host of the gateway.
    #[default]
    Own,
    /// The host of the gateway and all its subdomains (`includeSubDomains`).
    WithSubdomains,
}

impl Default for StrictTransportSecurity {
    /// Returns a policy for the host of the gateway, for one year.
    fn default() -> Self {
        Self { max_age: Duration::from_secs(365 * 24 * 3600), hosts: StrictHosts::default() }
    }
}

impl StrictTransportSecurity {
    fn header_value(&self) -> HeaderValue {
        let seconds = self.max_age.as_secs();
        let text = match self.hosts {
            StrictHosts::Own => format!("max-age={seconds}"),
            StrictHosts::WithSubdomains => format!("max-age={seconds}; includeSubDomains"),
        };
        HeaderValue::try_from(text).expect("digits and ASCII letters are a header value")
    }
}

#[derive(Clone, Debug)]
struct Prefixed<A> {
    prefix: AuthPrefix,
    service: A,
}

impl<A, R: Clone> Clone for Gateway<A, R> {
    fn clone(&self) -> Self {
        Self {
            api: self.api.clone(),
            routed: self.routed.clone(),
            apiml_paths: self.apiml_paths,
            pages: self.pages.clone(),
            counts: self.counts.clone(),
            strict_transport_security: self.strict_transport_security.clone(),
            error_pages: self.error_pages,
        }
    }
}

impl<A, R> Gateway<A, R> {
    /// Creates a gateway with the auth API `api` below `/gateway/api/v1/auth` and the routed stack `routed`.
    pub fn new(api: A, routed: R) -> Self {
        let prefix = AuthPrefix::default();
        let api = Arc::new(Prefixed { prefix, service: api });
        let apiml_paths = ApimlPaths::OnlyHealth;
        Self {
            api,
            routed,
            apiml_paths,
            pages: None,
            counts: None,
            strict_transport_security: None,
            error_pages: false,
        }
    }

    /// Counts each response in `counts`.
    #[must_use]
    pub fn with_request_counts(self, counts: Arc<RequestCounts>) -> Self {
        Self { counts: Some(counts), ..self }
    }

    /// Also sends the paths that API ML's gateway answers itself to the auth API: the list of services, one service,
    /// certificates, the version, `/application/info`, the health and the access check.
    #[cfg_attr(
        feature = "api",
        doc = "The auth API must have [`ApimlEndpoints`](crate::api::ApimlEndpoints)."
    )]
    #[must_use]
    pub fn with_apiml_endpoints(self) -> Self {
        Self { apiml_paths: ApimlPaths::AuthApi(ApimlServer::Gateway), ..self }
    }

    /// Serves the paths of ZAAS (the authentication service of API ML) instead of the paths of API ML's gateway. The
    /// auth API gets the paths below `/zaas/api/v1/auth`, and the paths `/zaas/auth/check`, `/application/health`,
    /// `/application/info` and `/application/version`. The routed stack gets all other paths, including those below
    /// `/gateway/`. See [`zaas`](crate::zaas).
    #[cfg(feature = "api")]
    #[must_use]
    pub fn for_zaas(self) -> Self
    where
        A: Clone,
    {
        let apiml_paths = ApimlPaths::AuthApi(ApimlServer::Zaas);
        Self { apiml_paths, ..self }.with_auth_prefix(AuthPrefix::of_zaas())
    }

    /// Also sends requests for `path`, and for the paths below it, to the service `A`. `A` must then serve web pages
    /// for users at these paths, because
    #[cfg_attr(feature = "api", doc = "[`AuthApi`](crate::api::AuthApi)")]
    #[cfg_attr(not(feature = "api"), doc = "`AuthApi`")]
    /// alone answers 404 there.
    #[must_use]
    pub fn with_pages(self, path: AuthPrefix) -> Self {
        Self { pages: Some(path), ..self }
    }

    /// Adds `Strict-Transport-Security` (RFC 6797) to each response, and replaces this header of a service. A browser
    /// that has received the header uses only HTTPS for the host of the gateway. So do not call this function if any
    /// client uses HTTP without TLS.
    #[must_use]
    pub fn with_strict_transport_security(self, policy: &StrictTransportSecurity) -> Self {
        Self { strict_transport_security: Some(policy.header_value()), ..self }
    }

    /// If a browser opens a document and the gateway itself answers with an error, the gateway sends an HTML page
    /// instead of a JSON message. The page contains the [`RequestId`]. The status stays. Of the headers, only
    /// `Content-Type`, `Content-Security-Policy` and `Vary` change. Only a client whose `Accept` prefers HTML to JSON
    /// gets the page. Responses of services do not change.
    #[must_use]
    pub fn with_error_pages(self) -> Self {
        Self { error_pages: true, ..self }
    }

    /// Sends the paths below `prefix` to the auth API. Configure the auth API with the same prefix.
    #[must_use]
    pub fn with_auth_prefix(mut self, prefix: AuthPrefix) -> Self
    where
        A: Clone,
    {
        Arc::make_mut(&mut self.api).prefix = prefix;
        self
    }
}

impl<A, R, ReqBody, ApiBody, RoutedBody> Service<Request<ReqBody>> for Gateway<A, R>
where
    A: Service<Request<ReqBody>, Response = Response<ApiBody>, Error = Infallible> + Clone,
    R: Service<Request<ReqBody>, Response = Response<RoutedBody>, Error = Infallible>,
    ApiBody: Into<ResponseBody>,
    RoutedBody: Into<ResponseBody>,
{
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = GatewayFuture<Oneshot<A, Request<ReqBody>>, R::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.routed.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let is_head = request.method() == Method::HEAD;
        let wants_page = self.error_pages && wants_page(request.method(), request.headers());
        let id = *request.extensions_mut().get_or_insert_with(RequestId::next);
        let path = request.uri().path();
        let kind = if let Err(rejection) = check_message(&request) {
            rejected(rejection)
        } else if self.api.prefix.below(path).is_some() || self.has_page(path) {
            self.call_api(request, RequestKind::AuthApi)
        } else if let Some(kind) = self.apiml_paths.kind_of(path) {
            match (self.apiml_paths, kind) {
                (ApimlPaths::OnlyHealth, _) => Kind::Health,
                (ApimlPaths::AuthApi(_), kind) => self.call_api(request, kind),
            }
        } else {
            Kind::Routed { future: id.scope(|| self.routed.call(request)) }
        };
        let counted = self.counts.as_ref().map(|counts| (counts.clone(), kind.of_request()));
        let strict_transport_security = self.strict_transport_security.clone();
        GatewayFuture { kind, id, is_head, wants_page, counted, strict_transport_security }
    }
}

impl ApimlPaths {
    /// Returns the kind of the request if the path does not go to the routed stack.
    #[inline]
    fn kind_of(self, path: &str) -> Option<RequestKind> {
        let server = match self {
            Self::OnlyHealth => ApimlServer::default(),
            Self::AuthApi(server) => server,
        };
        match (ApimlPath::find_at(server, path)?, self) {
            (ApimlPath::Health, _) => Some(RequestKind::Health),
            (_, Self::AuthApi(_)) => Some(RequestKind::AuthApi),
            (_, Self::OnlyHealth) => None,
        }
    }
}

#[cold]
fn rejected<A, F>(rejection: Rejection) -> Kind<A, F> {
    tracing::debug!(%rejection, "request refused");
    Kind::Rejected { rejection: Some(Box::new(rejection)) }
}

impl<A, R> Gateway<A, R> {
    fn has_page(&self, path: &str) -> bool {
        self.pages.as_ref().is_some_and(|pages| pages.contains(path))
    }
}

impl<A: Clone, R> Gateway<A, R> {
    #[cold]
    fn call_api<Q, F>(&self, request: Q, counted_as: RequestKind) -> Kind<Oneshot<A, Q>, F>
    where
        A: Service<Q>,
    {
        let response = Oneshot::new(self.api.service.clone(), request);
        Kind::Api { future: Box::pin(timeout(API_TIMEOUT, response)), counted_as }
    }
}

pin_project! {
    /// The future of a [`Gateway`].
    #[derive(Debug)]
    pub struct GatewayFuture<A, R> {
        #[pin]
        kind: Kind<A, R>,
        id: RequestId,
        is_head: bool,
        wants_page: bool,
        counted: Option<(Arc<RequestCounts>, RequestKind)>,
        strict_transport_security: Option<HeaderValue>,
    }
}

pin_project! {
    #[project = KindProj]
    #[derive(Debug)]
    enum Kind<A, R> {
        // The box keeps the future of a routed request small.
        Api { future: Pin<Box<Timeout<A>>>, counted_as: RequestKind },
        Routed { #[pin] future: R },
        Health,
        Rejected { rejection: Option<Box<Rejection>> },
    }
}

impl<A, R> Kind<A, R> {
    fn of_request(&self) -> RequestKind {
        match self {
            Self::Api { counted_as, .. } => *counted_as,
            Self::Routed { .. } | Self::Rejected { .. } => RequestKind::Route,
            Self::Health => RequestKind::Health,
        }
    }
}

impl<A, R, ApiBody, RoutedBody> Future for GatewayFuture<A, R>
where
    A: Future<Output = Result<Response<ApiBody>, Infallible>>,
    R: Future<Output = Result<Response<RoutedBody>, Infallible>>,
    ApiBody: Into<ResponseBody>,
    RoutedBody: Into<ResponseBody>,
{
    type Output = Result<Response<ResponseBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let id = *this.id;
        let mut response = match this.kind.project() {
            KindProj::Api { future, .. } => match ready!(id.scope(|| future.as_mut().poll(cx))) {
                Ok(response) => response?.map(Into::into),
                Err(_) => timed_out(),
            },
            KindProj::Routed { future } => ready!(id.scope(|| future.poll(cx)))?.map(Into::into),
            KindProj::Health => health(),
            KindProj::Rejected { rejection } => {
                rejection.take().expect("polled after completion").into_response()
            }
        };
        if let Some((counts, kind)) = this.counted {
            counts.count(*kind, response.status());
        }
        response.headers_mut().insert(&X_REQUEST_ID, id.header_value());
        if let Some(value) = this.strict_transport_security.take() {
            response.headers_mut().insert(STRICT_TRANSPORT_SECURITY, value);
        }
        if *this.wants_page {
            to_page(&mut response, id);
        }
        if *this.is_head {
            response = without_body(response);
        }
        Poll::Ready(Ok(response))
    }
}

#[cold]
fn timed_out() -> Response<ResponseBody> {
    let message = ApiMessage::with(&messages::SERVICE_UNAVAILABLE, &["the response took too long"]);
    message.into_response(StatusCode::SERVICE_UNAVAILABLE).map(ResponseBody::from)
}

/// Answers that the gateway is running. This does not check the services.
#[cold]
fn health() -> Response<ResponseBody> {
    let mut response = Response::new(Bytes::from_static(br#"{"status":"UP"}"#).into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    messages::set_security_headers(response.headers_mut());
    response
}

#[cfg(feature = "api")]
impl From<crate::api::ResponseBody> for ResponseBody {
    fn from(body: crate::api::ResponseBody) -> Self {
        body.into_full().into()
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Ready, ready};

    use http_body_util::BodyExt;
    use tower::{ServiceExt, service_fn};

    use super::*;

    const HEALTH: &str = "/application/health";

    /// Returns two response headers: `ours` is the `RequestId` extension of the request, and `theirs` is the
    /// `X-Request-Id` of the client. For the path `/own`, the response also has an `X-Request-Id` of its own.
    fn echo(request: Request<()>) -> Ready<Result<Response<ResponseBody>, Infallible>> {
        let mut response = Response::new(Bytes::new().into());
        let id = request.extensions().get::<RequestId>().unwrap().to_string();
        response.headers_mut().insert("ours", HeaderValue::try_from(id).unwrap());
        if let Some(theirs) = request.headers().get(&X_REQUEST_ID) {
            response.headers_mut().insert("theirs", theirs.clone());
        }
        if request.uri().path() == "/own" {
            response.headers_mut().insert(&X_REQUEST_ID, HeaderValue::from_static("its own"));
        }
        ready(Ok(response))
    }

    #[tokio::test]
    async fn paths_below_the_prefix_go_to_the_auth_api() {
        let api = service_fn(async |_: Request<()>| {
            Ok(Response::new(ResponseBody::from(Bytes::from("api"))))
        });
        let routed =
            service_fn(async |_| Ok(Response::new(ResponseBody::from(Bytes::from("routed")))));
        let gateway = Gateway::new(api, routed);
        let moved = gateway.clone().with_auth_prefix("/zaas/api/v1/auth".parse().unwrap());
        let body_of = async |gateway: &Gateway<_, _>, path| {
            let request = Request::get(path).header("host", "gw").body(()).unwrap();
            let response = gateway.clone().oneshot(request).await.unwrap();
            response.into_body().collect().await.unwrap().to_bytes()
        };
        for (path, want_default, want_moved) in [
            ("/gateway/api/v1/auth/login", "api", "routed"),
            ("/zaas/api/v1/auth/login", "routed", "api"),
            ("/gateway/api/v1/auth", "routed", "routed"),
            ("/gateway/api/v1/authentication", "routed", "routed"),
        ] {
            assert_eq!(body_of(&gateway, path).await, want_default, "{path}");
            assert_eq!(body_of(&moved, path).await, want_moved, "{path}");
        }
    }

    #[tokio::test]
    async fn with_apiml_endpoints_sends_the_paths_of_the_gateway_of_api_ml_to_the_auth_api() {
        let answer = |text: &'static str| {
            service_fn(move |_: Request<()>| {
                ready(Ok(Response::new(ResponseBody::from(Bytes::from(text)))))
            })
        };
        let counts = Arc::<RequestCounts>::default();
        let off = Gateway::new(answer("api"), answer("routed"));
        let on = off.clone().with_apiml_endpoints().with_request_counts(counts.clone());
        let up = r#"{"status":"UP"}"#;
        for (path, want_off, want_on) in [
            (HEALTH, up, "api"),
            ("/application/info", "routed", "api"),
            ("/gateway/api/v1/services", "routed", "api"),
            ("/gateway/api/v1/services/zosmf", "routed", "api"),
            ("/gateway/api/v1/auth/login", "api", "api"),
            ("/application/api/v1/x", "routed", "routed"),
        ] {
            for (gateway, want) in [(&off, want_off), (&on, want_on)] {
                let request = Request::get(path).header("host", "gw").body(()).unwrap();
                let response = gateway.clone().oneshot(request).await.unwrap();
                let body = response.into_body().collect().await.unwrap().to_bytes();
                assert_eq!(body, want, "{path}");
            }
        }
        for (kind, want) in
            [(RequestKind::Health, 1), (RequestKind::AuthApi, 4), (RequestKind::Route, 1)]
        {
            assert_eq!(counts.get(kind, StatusClass::Success), want, "{kind:?}");
        }
    }

    #[tokio::test]
    async fn no_response_to_head_has_a_body() {
        let service = |_: Request<()>| {
            ready(Ok::<_, Infallible>(Response::new(ResponseBody::from(Bytes::from("body")))))
        };
        let gateway = Gateway::new(service_fn(service), service_fn(service));
        for (path, host) in
            [("/x", "gw"), ("/gateway/api/v1/auth/login", "gw"), (HEALTH, "gw"), ("/x", "a b")]
        {
            let send = async |method| {
                let request = Request::builder().method(method).uri(path).header("host", host);
                let response = gateway.clone().oneshot(request.body(()).unwrap()).await.unwrap();
                let (head, body) = response.into_parts();
                (head, body.collect().await.unwrap().to_bytes())
            };
            let ((get, body), (head, empty)) = (send("GET").await, send("HEAD").await);
            assert_eq!((head.status, empty.len()), (get.status, 0), "{path} {host}");
            assert_eq!(head.headers["content-length"], body.len().to_string(), "{path} {host}");
            assert!(!body.is_empty());
        }
    }

    #[tokio::test]
    async fn strict_transport_security_is_in_every_response() {
        let service = |_: Request<()>| {
            let response = Response::builder().header(STRICT_TRANSPORT_SECURITY, "max-age=0");
            ready(Ok::<_, Infallible>(response.body(ResponseBody::default()).unwrap()))
        };
        let off = Gateway::new(service_fn(service), service_fn(service));
        let mut policy = StrictTransportSecurity::default();
        let year = off.clone().with_strict_transport_security(&policy);
        policy.max_age = Duration::from_secs(60);
        policy.hosts = StrictHosts::WithSubdomains;
        let minute = off.clone().with_strict_transport_security(&policy);
        for (gateway, health, others) in [
            (off, None, "max-age=0"),
            (year, Some("max-age=31536000"), "max-age=31536000"),
            (minute, Some("max-age=60; includeSubDomains"), "max-age=60; includeSubDomains"),
        ] {
            for (path, want) in [
                (HEALTH, health),
                ("/x", Some(others)),
                ("/gateway/api/v1/auth/login", Some(others)),
            ] {
                let request = Request::get(path).header("host", "gw").body(()).unwrap();
                let response = gateway.clone().oneshot(request).await.unwrap();
                let got: Vec<_> =
                    response.headers().get_all(STRICT_TRANSPORT_SECURITY).iter().collect();
                assert_eq!(got, want.into_iter().collect::<Vec<_>>(), "{path}");
                let is_ours = response.headers().contains_key("referrer-policy");
                assert_eq!(is_ours, path == HEALTH, "{path}");
            }
        }
    }

    #[tokio::test]
    async fn pages_are_served_beside_the_auth_api() {
        let name = |name: &'static str| {
            service_fn(move |_: Request<()>| {
                ready(Ok(Response::new(ResponseBody::from(Bytes::from_static(name.as_bytes())))))
            })
        };
        let gateway = Gateway::new(name("api"), name("routed"));
        let pages = AuthPrefix::new("/gateway/ui").unwrap();
        for (gateway, path, want) in [
            (gateway.clone(), "/gateway/ui", "routed"),
            (gateway.clone(), "/gateway/ui/tokens", "routed"),
            (gateway.clone().with_pages(pages.clone()), "/gateway/ui", "api"),
            (gateway.clone().with_pages(pages.clone()), "/gateway/ui/tokens", "api"),
            (gateway.clone().with_pages(pages.clone()), "/gateway/uix", "routed"),
            (gateway.clone().with_pages(pages), "/gateway/api/v1/auth/login", "api"),
        ] {
            let request = Request::get(path).header("host", "gw").body(()).unwrap();
            let response = gateway.oneshot(request).await.unwrap();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body, want, "{path}");
        }
    }

    #[tokio::test]
    async fn malformed_requests_reach_neither_the_auth_api_nor_the_routed_stack() {
        let gateway = Gateway::new(service_fn(echo), service_fn(echo));
        for path in ["/x", "/gateway/api/v1/auth/login", HEALTH] {
            for (host, coding, want) in [
                (Some("gw"), None, 200),
                (None, None, 400),
                (Some("a b/c@d"), None, 400),
                (Some("gw"), Some("chunked, chunked"), 400),
                (Some("gw"), Some("gzip, chunked"), 501),
            ] {
                let mut request = Request::get(path);
                for (name, value) in [("host", host), ("transfer-encoding", coding)] {
                    request = value.into_iter().fold(request, |request, v| request.header(name, v));
                }
                let response = gateway.clone().oneshot(request.body(()).unwrap()).await.unwrap();
                assert_eq!(response.status(), want, "{path} {host:?} {coding:?}");
                assert!(response.headers().contains_key(&X_REQUEST_ID));
                assert!(want == 200 || !response.headers().contains_key("ours"));
            }
        }
    }

    #[tokio::test]
    async fn each_request_gets_an_id_which_the_response_returns() {
        let gateway = Gateway::new(service_fn(echo), service_fn(echo));
        let mut seen = Vec::new();
        for path in ["/x", "/gateway/api/v1/auth/login", HEALTH, "/own"] {
            let request = Request::get(path).header("host", "gw");
            let request = request.header(&X_REQUEST_ID, "claimed").body(()).unwrap();
            let response = gateway.clone().oneshot(request).await.unwrap();
            let returned = response.headers()[&X_REQUEST_ID].to_str().unwrap().to_owned();
            if path != HEALTH {
                assert_eq!(response.headers()["ours"], returned, "{path}");
                assert_eq!(response.headers()["theirs"], "claimed", "{path}");
            }
            assert!(!seen.contains(&returned), "{path}: {returned}");
            seen.push(returned);
        }
        assert_ne!(seen[3], "its own");

        let id = RequestId::next();
        let request = Request::get("/x").header("host", "gw").extension(id).body(()).unwrap();
        let response = gateway.oneshot(request).await.unwrap();
        assert_eq!(response.headers()[&X_REQUEST_ID], id.to_string());
    }

    #[tokio::test]
    async fn responses_are_counted_by_kind_and_status_class() {
        let answer = |status| {
            service_fn(move |_: Request<()>| {
                let mut response = Response::new(ResponseBody::from(Bytes::new()));
                *response.status_mut() = StatusCode::from_u16(status).unwrap();
                ready(Ok(response))
            })
        };
        let counts = Arc::<RequestCounts>::default();
        let gateway = Gateway::new(answer(401), answer(200)).with_request_counts(counts.clone());
        for path in ["/a", "/gateway/api/v1/auth/login", "/b", HEALTH] {
            let request = Request::get(path).header("host", "gw").body(()).unwrap();
            gateway.clone().oneshot(request).await.unwrap();
        }
        // The client disconnects before the response.
        let request = Request::get("/c").header("host", "gw").body(()).unwrap();
        drop(gateway.clone().oneshot(request));
        for (kind, class, want) in [
            (RequestKind::Route, StatusClass::Success, 2),
            (RequestKind::AuthApi, StatusClass::ClientError, 1),
            (RequestKind::AuthApi, StatusClass::Success, 0),
            (RequestKind::Health, StatusClass::Success, 1),
        ] {
            assert_eq!(counts.get(kind, class), want, "{kind:?} {class:?}");
        }
    }
}
