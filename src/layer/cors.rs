//! Lets web pages of other origins use services and the auth API, if the [`CorsRules`] of an [`OriginPolicy`] allow
//! this.
//!
//! | request of a page of another origin to a service with rules | what the layer does |
//! |---|---|
//! | preflight request, and the rules allow the page and the method | answers 200 with `Access-Control-Allow-*` |
//! | preflight request, and the rules do not allow the page or the method | answers 403 |
//! | request that is not a preflight request, and the rules allow the page and the method | adds `Access-Control-Allow-Origin` and other CORS headers to the response |
//! | request that is not a preflight request, and the rules do not allow the page or the method | removes `Access-Control-Allow-Origin` and `-Credentials` from the response |
//!
//! A preflight request has the method OPTIONS and the headers `Origin` and `Access-Control-Request-Method` (Fetch
//! Standard §3.2). Each response of a service with rules gets `Vary: Origin`, unless it has `Vary: *`. So no cache
//! gives a response for one origin to a page of another origin. If a service has no rules, the layer changes neither
//! requests nor responses.
//!
//! Put this layer before authentication, because browsers send preflight requests without credentials. Put it before
//! [`SanitizeLayer`](super::SanitizeLayer), which removes `Origin`. Pass the same policy to this layer, to
//! `SanitizeLayer` and to the auth API. Otherwise, one of them can refuse a request that the rules allow.
//!
//! `CorsLayer` of `tower-http` cannot replace this layer: it has the same rules for all paths, answers each OPTIONS
//! request as a preflight request, and does not refuse preflight requests.
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_passticket::{
//!     layer::{CorsLayer, CorsRules, OriginPolicy, SanitizeLayer},
//!     token::ServiceId,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let rules = CorsRules::for_origins(["https://app.example".parse()?]);
//! let policy = OriginPolicy::default().with_cors(ServiceId::new("files")?, rules);
//! let service = ServiceBuilder::new()
//!     .layer(CorsLayer::new(policy.clone()))
//!     .layer(SanitizeLayer::new().with_origin_policy(policy))
//!     .service(service_fn(|_: Request<Full<Bytes>>| async {
//!         Ok::<_, std::convert::Infallible>(Response::new(Full::<Bytes>::default()))
//!     }));
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let request = Request::get("/files/x").header("origin", "https://app.example");
//! let response = service.oneshot(request.body(Full::default()).unwrap()).await.unwrap();
//! assert_eq!(response.headers()["access-control-allow-origin"], "https://app.example");
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
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response,
    header::{
        ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS,
        ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS,
        ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, CONTENT_LENGTH, ORIGIN, VARY,
    },
};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    cors_rules::{Access, CorsRules},
    cross_origin::{OriginPolicy, Sharing},
    rejection::Rejection,
};
use crate::{headers::all_list_items, messages::set_security_headers};

/// The layer. See the [module](self).
#[derive(Clone, Debug)]
pub struct CorsLayer {
    policy: Arc<OriginPolicy>,
}

impl CorsLayer {
    /// Creates a layer that applies the rules of `policy`.
    pub fn new(policy: OriginPolicy) -> Self {
        Self { policy: Arc::new(policy) }
    }
}

impl<S> Layer<S> for CorsLayer {
    type Service = CorsService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CorsService { inner, policy: self.policy.clone() }
    }
}

/// The service of [`CorsLayer`].
#[derive(Clone, Debug)]
pub struct CorsService<S> {
    inner: S,
    policy: Arc<OriginPolicy>,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for CorsService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: From<Bytes>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = CorsFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let change = match self.policy.sharing(&request) {
            Sharing::NoRules => Change::None,
            Sharing::OwnOrigin => Change::Vary,
            Sharing::NotShared => Change::Hide,
            Sharing::Shared(access) => Change::Share(grant(access, request.headers())),
            Sharing::Preflight(rules, access) => {
                return CorsFuture::answered(preflight(rules, access, request.headers()));
            }
            Sharing::PreflightRefused => {
                return CorsFuture::answered(Answer::Rejection(Rejection::CrossOrigin));
            }
        };
        CorsFuture { kind: Kind::Inner { future: self.inner.call(request), change } }
    }
}

/// The headers that allow a page to use a response.
#[derive(Debug)]
struct Grant {
    origin: HeaderValue,
    access: Access,
}

fn grant(access: Access, request: &HeaderMap) -> Grant {
    let origin = match access {
        Access::Anonymous => None,
        // The rules have matched `Origin`, so it occurs exactly once.
        Access::WithCredentials => request.get(ORIGIN).cloned(),
    };
    Grant { origin: origin.unwrap_or(HeaderValue::from_static("*")), access }
}

impl Grant {
    fn add_to(self, headers: &mut HeaderMap) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, self.origin);
        match self.access {
            Access::WithCredentials => {
                let value = HeaderValue::from_static("true");
                headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, value);
            }
            Access::Anonymous => {
                headers.remove(ACCESS_CONTROL_ALLOW_CREDENTIALS);
            }
        }
    }
}

/// The change to the headers of a response.
#[derive(Debug)]
enum Change {
    None,
    Vary,
    Hide,
    Share(Grant),
}

impl Change {
    fn apply(self, headers: &mut HeaderMap) {
        match self {
            Self::None => return,
            Self::Vary => {}
            Self::Hide => {
                headers.remove(ACCESS_CONTROL_ALLOW_ORIGIN);
                headers.remove(ACCESS_CONTROL_ALLOW_CREDENTIALS);
            }
            Self::Share(grant) => {
                grant.add_to(headers);
                // A page can read only a few basic headers, and those that `Access-Control-Expose-Headers` names (Fetch
                // Standard §3.2.3). The header of the service stays.
                let exposed = HeaderValue::from_static(EXPOSED);
                headers.append(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
            }
        }
        vary(headers, &ORIGIN);
    }
}

/// Headers of the gateway.
const EXPOSED: &str = "x-zowe-auth-failure, x-zowe-token-expires, x-request-id, retry-after";

/// Adds `name` to `Vary`, unless `Vary` already contains it or `*`.
fn vary(headers: &mut HeaderMap, name: &HeaderName) {
    let has = |item: &[u8]| item == b"*" || item.eq_ignore_ascii_case(name.as_str().as_bytes());
    let is_present = all_list_items(headers, &VARY).any(has);
    if !is_present {
        headers.append(VARY, HeaderValue::from(name.clone()));
    }
}

/// Returns the answer to a preflight request that the rules allow.
fn preflight(rules: &CorsRules, access: Access, request: &HeaderMap) -> Answer {
    let mut headers = HeaderMap::with_capacity(12);
    grant(access, request).add_to(&mut headers);
    let methods: Vec<_> = rules.methods().iter().map(http::Method::as_str).collect();
    // This cannot fail, because methods are tokens (RFC 9110 §9.1).
    if let Ok(methods) = HeaderValue::try_from(methods.join(",")) {
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
    }
    // All requested headers are allowed: `SanitizeLayer` removes the headers that no client may send.
    for names in request.get_all(ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.append(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(rules.max_age().as_secs()));
    headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    set_security_headers(&mut headers);
    for name in ["Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers"] {
        headers.append(VARY, HeaderValue::from_static(name));
    }
    Answer::Preflight(Box::new(headers))
}

/// An answer of the layer.
#[derive(Debug)]
enum Answer {
    Preflight(Box<HeaderMap>),
    Rejection(Rejection),
}

impl Answer {
    fn into_response<B: From<Bytes>>(self) -> Response<B> {
        match self {
            Self::Preflight(headers) => {
                let mut response = Response::new(B::from(Bytes::new()));
                *response.headers_mut() = *headers;
                response
            }
            Self::Rejection(rejection) => {
                let mut response = rejection.into_response();
                vary(response.headers_mut(), &ORIGIN);
                response
            }
        }
    }
}

pin_project! {
    /// The future of [`CorsService`].
    #[derive(Debug)]
    pub struct CorsFuture<F> {
        #[pin]
        kind: Kind<F>,
    }
}

pin_project! {
    #[project = KindProj]
    #[derive(Debug)]
    enum Kind<F> {
        Inner { #[pin] future: F, change: Change },
        Answered { answer: Option<Answer> },
    }
}

impl<F> CorsFuture<F> {
    fn answered(answer: Answer) -> Self {
        Self { kind: Kind::Answered { answer: Some(answer) } }
    }
}

impl<F, B, E> Future for CorsFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: From<Bytes>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().kind.project() {
            KindProj::Inner { future, change } => {
                let mut response = ready!(future.poll(cx))?;
                std::mem::replace(change, Change::None).apply(response.headers_mut());
                Poll::Ready(Ok(response))
            }
            KindProj::Answered { answer } => {
                Poll::Ready(Ok(answer.take().expect("polled after completion").into_response()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::Method;
    use http_body_util::Full;
    use tower::{ServiceExt, service_fn};

    use super::*;
    use crate::token::ServiceId;

    const APP: &str = "https://app.example";
    const EVIL: &str = "https://evil.example";

    fn policy() -> OriginPolicy {
        let app = CorsRules::for_origins([APP.parse().unwrap()]);
        OriginPolicy::default()
            .with_cors(ServiceId::new("listed").unwrap(), app)
            .with_cors(ServiceId::new("any").unwrap(), CorsRules::for_any_origin())
    }

    /// Sends a request through the layer. The inner service answers 201 to the pages of every origin.
    async fn send(method: Method, path: &str, headers: &[(&str, &str)]) -> Response<Full<Bytes>> {
        let service = service_fn(|_: Request<()>| async {
            let mut response = Response::new(Full::<Bytes>::default());
            *response.status_mut() = http::StatusCode::CREATED;
            for (name, value) in [
                ("access-control-allow-origin", "https://inner.example"),
                ("access-control-allow-credentials", "true"),
                ("access-control-expose-headers", "x-own"),
                ("vary", "accept"),
            ] {
                response.headers_mut().insert(name, HeaderValue::from_static(value));
            }
            Ok::<_, Infallible>(response)
        });
        let request = Request::builder().method(method).uri(path).header("host", "gw.example");
        let request = headers.iter().fold(request, |request, (n, v)| request.header(*n, *v));
        let service = CorsLayer::new(policy()).layer(service);
        service.oneshot(request.body(()).unwrap()).await.unwrap()
    }

    fn shown(headers: &HeaderMap, name: &str) -> String {
        let lines = headers.get_all(name).iter().map(|value| value.to_str().unwrap());
        lines.collect::<Vec<_>>().join("|")
    }

    #[tokio::test]
    async fn responses_are_shared_with_the_pages_that_the_rules_allow() {
        let inner = "https://inner.example";
        for (method, path, headers, origin, credentials, vary) in [
            ("GET", "/listed/x", &[("origin", APP)][..], APP, "true", "accept|origin"),
            ("GET", "/listed/x", &[("origin", EVIL)], "", "", "accept|origin"),
            ("GET", "/listed/x", &[("origin", "null")], "", "", "accept|origin"),
            ("GET", "/listed/x", &[("origin", APP), ("origin", EVIL)], "", "", "accept|origin"),
            ("PATCH", "/listed/x", &[("origin", APP)], "", "", "accept|origin"),
            ("OPTIONS", "/listed/x", &[("origin", APP)], APP, "true", "accept|origin"),
            // A request without `Origin`, or of a page of the gateway, is not cross-origin.
            ("GET", "/listed/x", &[], inner, "true", "accept|origin"),
            (
                "GET",
                "/listed/x",
                &[("origin", "https://gw.example")],
                inner,
                "true",
                "accept|origin",
            ),
            ("GET", "/any/x", &[("origin", EVIL)], "*", "", "accept|origin"),
            ("GET", "/any/x", &[("origin", "null")], "*", "", "accept|origin"),
            // The service has no rules.
            ("GET", "/other/x", &[("origin", EVIL)], inner, "true", "accept"),
            ("OPTIONS", "/other/x", &[("origin", EVIL)], inner, "true", "accept"),
            ("GET", "/listed2/x", &[("origin", APP)], inner, "true", "accept"),
        ] {
            let response = send(method.parse().unwrap(), path, headers).await;
            let case = format!("{method} {path} {headers:?}");
            assert_eq!(response.status(), 201, "{case}");
            let got = |name| shown(response.headers(), name);
            assert_eq!(got("access-control-allow-origin"), origin, "{case}");
            assert_eq!(got("access-control-allow-credentials"), credentials, "{case}");
            assert_eq!(got("vary"), vary, "{case}");
            let is_shared = [APP, "*"].contains(&origin);
            let exposed = got("access-control-expose-headers");
            assert_eq!(exposed == format!("x-own|{EXPOSED}"), is_shared, "{case}: {exposed}");
        }
    }

    #[tokio::test]
    async fn preflight_requests_are_answered_for_services_with_rules() {
        for (path, origin, method, status) in [
            ("/listed/x", APP, "PUT", 200),
            ("/listed/x", APP, "PATCH", 403),
            ("/listed/x", EVIL, "GET", 403),
            ("/listed/x", "null", "GET", 403),
            ("/any/x", EVIL, "GET", 200),
            ("/other/x", EVIL, "GET", 201),
        ] {
            let headers = [
                ("origin", origin),
                ("access-control-request-method", method),
                ("access-control-request-headers", "content-type,x-csrf-zosmf-header"),
            ];
            let response = send(Method::OPTIONS, path, &headers).await;
            let case = format!("{path} {origin} {method}");
            assert_eq!(response.status(), status, "{case}");
            let got = |name| shown(response.headers(), name);
            if status == 200 {
                let (allowed, credentials) =
                    if path == "/any/x" { ("*", "") } else { (APP, "true") };
                assert_eq!(got("access-control-allow-origin"), allowed, "{case}");
                assert_eq!(got("access-control-allow-credentials"), credentials, "{case}");
                let methods = "GET,HEAD,POST,DELETE,PUT,OPTIONS";
                assert_eq!(got("access-control-allow-methods"), methods, "{case}");
                let names = "content-type,x-csrf-zosmf-header";
                assert_eq!(got("access-control-allow-headers"), names, "{case}");
                assert_eq!(got("access-control-max-age"), "600", "{case}");
                assert_eq!(got("cache-control"), "no-store", "{case}");
                let vary = "Origin|Access-Control-Request-Method|Access-Control-Request-Headers";
                assert_eq!(got("vary"), vary, "{case}");
            } else if status == 403 {
                assert_eq!(got("access-control-allow-origin"), "", "{case}");
                assert_eq!(got("vary"), "origin", "{case}");
            }
        }
    }
}
