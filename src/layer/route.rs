//! Finds the service that a request is for.
//!
//! The path begins with `/{serviceId}/{gatewayUrl}`, as in Zowe; the longest prefix wins, so one
//! service can have another APPLID below a longer path. The [`Route`] found is an extension of the
//! request for the layers behind. No route: 404. A path that the service might read as one that
//! another route is for, with dot segments or an encoded prefix: 400. `TRACE` and `CONNECT`: 405,
//! because a service that answers the first shows the client its PassTicket, and the second has no
//! path to route by.
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_passticket::{
//!     layer::{Route, RouteLayer, Routes, Scheme, Upstream},
//!     passticket::Applid,
//!     token::ServiceId,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let zosmf = Route::new(
//!     ServiceId::new("ibmzosmf")?,
//!     "api/v1",
//!     Upstream::parse("https://zos.example.com:443/zosmf")?,
//!     Scheme::HttpBasicPassTicket { applid: Applid::new("IZUDFLT")? },
//! )?;
//! let service = ServiceBuilder::new().layer(RouteLayer::new(Routes::new([zosmf])?)).service(
//!     service_fn(|request: Request<Full<Bytes>>| async move {
//!         let route = request.extensions().get::<std::sync::Arc<Route>>().unwrap();
//!         assert_eq!(route.southbound_path(request.uri()), "/zosmf/info?a=b");
//!         Ok::<_, std::convert::Infallible>(Response::new(Full::<Bytes>::default()))
//!     }),
//! );
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let get = |path| Request::get(path).body(Full::default()).unwrap();
//! let response = service.clone().oneshot(get("/ibmzosmf/api/v1/info?a=b")).await.unwrap();
//! assert_eq!(response.status(), 200);
//! let response = service.oneshot(get("/unknown/api/v1/info")).await.unwrap();
//! assert_eq!(response.status(), 404);
//! # });
//! # Ok(())
//! # }
//! ```

use std::{
    collections::HashMap,
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use foldhash::fast::RandomState;
use http::{
    Method, Request, Response, Uri,
    uri::{Authority, Scheme as UriScheme},
};
use tower_layer::Layer;
use tower_service::Service;

use super::{
    authenticator::Authentication, future::ResponseFuture, passticket::Prepared,
    rejection::Rejection, scope::Authorized,
};
use crate::{passticket::Applid, token::ServiceId};

/// What a service wants to be told about the user (`apiml.authentication.scheme`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scheme {
    /// `httpBasicPassTicket`: the user id and a PassTicket, as `Authorization: Basic`.
    HttpBasicPassTicket {
        /// What the service checks tickets against.
        applid: Applid,
    },
    /// `bypass`: the request goes on with whatever the client sent. Nothing is evaluated.
    Bypass,
}

/// What becomes of a request whose authentication failed (design, decision 4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// It goes on without any credential of the client, and both sides are told why.
    #[default]
    Forward,
    /// It goes on as it came, and both sides are told why: what Zowe API ML does.
    ForwardUnchanged,
    /// It is answered: 401, 403 when a PAT is out of scope, 500 when no ticket can be made, 503 when
    /// that or the check of the credential may go better later.
    Reject,
}

/// Where a service listens: scheme, host, port and the path that its paths begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    scheme: UriScheme,
    authority: Authority,
    base_path: String,
}

impl Upstream {
    /// Parses `http://host[:port][/path]` or `https://…`.
    ///
    /// # Errors
    /// [`RouteError::Upstream`] carries the text.
    pub fn parse(url: &str) -> Result<Self, RouteError> {
        let error = || RouteError::Upstream(url.chars().take(200).collect());
        let parts = url.parse::<Uri>().map_err(|_| error())?.into_parts();
        let scheme = parts
            .scheme
            .filter(|s| *s == UriScheme::HTTP || *s == UriScheme::HTTPS)
            .ok_or_else(error)?;
        let authority = parts.authority.filter(is_host_and_port).ok_or_else(error)?;
        let path = parts.path_and_query.ok_or_else(error)?;
        if path.query().is_some() || is_ambiguous(path.path()) {
            return Err(error());
        }
        let base_path = path.path().trim_end_matches('/').to_owned();
        Ok(Self { scheme, authority, base_path })
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &UriScheme {
        &self.scheme
    }

    /// Host and port.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The same server with `path` added to the path.
    #[must_use]
    pub fn join(&self, path: &str) -> Self {
        let path = path.trim_matches('/');
        let separator = if path.is_empty() { "" } else { "/" };
        Self { base_path: format!("{}{separator}{path}", self.base_path), ..self.clone() }
    }
}

/// `http` lets more through: user and password, a port that is no number, no host at all.
fn is_host_and_port(authority: &Authority) -> bool {
    let port = authority.as_str().strip_prefix(authority.host());
    !authority.host().is_empty()
        && port.is_some_and(|port| port.is_empty() || authority.port_u16().is_some())
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority, self.base_path)
    }
}

/// One way from a path of the gateway to a service.
#[derive(Clone, Debug)]
pub struct Route {
    service: ServiceId,
    prefix: String,
    upstream: Upstream,
    scheme: Scheme,
    on_failure: OnFailure,
}

impl Route {
    /// The route `/{service}/{gateway_url}/…` to `upstream`. Slashes at the ends of `gateway_url`
    /// do not matter; it may be empty.
    ///
    /// # Errors
    /// [`RouteError::GatewayUrl`] for what cannot stand in a path.
    pub fn new(
        service: ServiceId,
        gateway_url: &str,
        upstream: Upstream,
        scheme: Scheme,
    ) -> Result<Self, RouteError> {
        let gateway_url = gateway_url.trim_matches('/');
        let prefix = if gateway_url.is_empty() {
            format!("/{service}")
        } else {
            format!("/{service}/{gateway_url}")
        };
        let plain = prefix.parse::<Uri>().is_ok_and(|uri| uri.path() == prefix);
        if !plain || !prefix.is_ascii() || is_ambiguous(&prefix) {
            return Err(RouteError::GatewayUrl(gateway_url.chars().take(200).collect()));
        }
        Ok(Self { service, prefix, upstream, scheme, on_failure: OnFailure::default() })
    }

    /// Says what becomes of requests whose authentication failed.
    #[must_use]
    pub fn on_failure(mut self, on_failure: OnFailure) -> Self {
        self.on_failure = on_failure;
        self
    }

    /// The service, as scopes name it.
    pub fn service(&self) -> &ServiceId {
        &self.service
    }

    /// What the paths of this route begin with: `/{serviceId}/{gatewayUrl}`.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Where the service listens.
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// What the service wants.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// What becomes of requests whose authentication failed.
    pub fn failure_mode(&self) -> OnFailure {
        self.on_failure
    }

    /// Path and query for the service: the prefix is swapped for the path of the upstream, the
    /// rest and the query stay to the letter.
    pub fn southbound_path(&self, uri: &Uri) -> String {
        let path = uri.path();
        let rest = if self.covers(path) { &path[self.prefix.len()..] } else { path };
        let query = uri.query().map_or(0, |q| q.len() + 1);
        let mut path =
            String::with_capacity(self.upstream.base_path.len() + rest.len() + query + 1);
        path.push_str(&self.upstream.base_path);
        path.push_str(rest);
        if path.is_empty() {
            path.push('/');
        }
        if let Some(query) = uri.query() {
            path.push('?');
            path.push_str(query);
        }
        path
    }

    fn covers(&self, path: &str) -> bool {
        path.strip_prefix(&self.prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// The routes of all services.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    /// By service id, longest prefix first.
    // Whoever asks cannot make what is in it collide.
    by_service: HashMap<ServiceIdText, Vec<Arc<Route>>, RandomState>,
}

type ServiceIdText = Box<str>;

impl Routes {
    /// A table of routes.
    ///
    /// # Errors
    /// [`RouteError::Duplicate`] when two routes have the same prefix.
    pub fn new(routes: impl IntoIterator<Item = Route>) -> Result<Self, RouteError> {
        let mut by_service: HashMap<_, Vec<Arc<Route>>, RandomState> = HashMap::default();
        for route in routes {
            let of_service =
                by_service.entry(ServiceIdText::from(route.service.as_str())).or_default();
            if of_service.iter().any(|other| other.prefix == route.prefix) {
                return Err(RouteError::Duplicate(route.prefix));
            }
            of_service.push(Arc::new(route));
        }
        for of_service in by_service.values_mut() {
            of_service.sort_by_key(|route| std::cmp::Reverse(route.prefix.len()));
        }
        Ok(Self { by_service })
    }

    /// The route for `path`, compared to the letter (zowe-dataplane §4.1).
    pub fn find(&self, path: &str) -> Option<&Arc<Route>> {
        let service = path.strip_prefix('/')?.split('/').next()?;
        self.by_service.get(service)?.iter().find(|route| route.covers(path))
    }

    /// All routes, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.by_service.values().flatten().map(AsRef::as_ref)
    }
}

/// Why a route cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RouteError {
    /// No URL of a service.
    #[error(
        "{0:?} is no URL of a service; write http:// or https://, host, port and path, without user, query or dot segments"
    )]
    Upstream(String),
    /// Nothing that can stand in a path.
    #[error("{0:?} cannot stand in a path; write segments like api/v1")]
    GatewayUrl(String),
    /// Two routes for one path.
    #[error("two routes begin with {0}")]
    Duplicate(String),
}

/// The path as a server might read it that decodes before it looks: percent-encoding undone, encoded
/// and backward slashes taken for slashes, empty segments dropped, parameters (`;x=y`) cut off.
/// `None` if that is the path as it stands, save for dot segments.
fn decoded(path: &str) -> Option<String> {
    if !path.contains(['%', ';', '\\']) && !path.contains("//") {
        return None;
    }
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = |digit: u8| char::from(digit).to_digit(16);
        let (byte, tail) = match rest {
            [b'%', high, low, tail @ ..] => match (hex(*high), hex(*low)) {
                // Two hexadecimal digits are a byte.
                (Some(high), Some(low)) => ((high << 4 | low) as u8, tail),
                _ => (b'%', after),
            },
            _ => (*first, after),
        };
        plain.push(byte);
        rest = tail;
    }
    let mut decoded = String::with_capacity(plain.len());
    for segment in plain.split(|b| matches!(b, b'/' | b'\\')) {
        let name = segment.split(|b| *b == b';').next().unwrap_or_default();
        if !name.is_empty() {
            decoded.push('/');
            decoded.push_str(&String::from_utf8_lossy(name));
        }
    }
    Some(decoded)
}

/// Whether a configured path could be read in two ways.
fn is_ambiguous(path: &str) -> bool {
    has_dot_segment(path) || decoded(path).is_some()
}

/// Whether a segment is `.` or `..`.
fn has_dot_segment(path: &str) -> bool {
    path.contains('.') && path.split('/').any(|segment| matches!(segment, "." | ".."))
}

/// The layer. See the [module](self).
#[derive(Clone, Debug)]
pub struct RouteLayer {
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    Table(Arc<Routes>),
    Fixed(Arc<Route>),
}

impl RouteLayer {
    /// Finds the route by the path.
    pub fn new(routes: impl Into<Arc<Routes>>) -> Self {
        Self { source: Source::Table(routes.into()) }
    }

    /// Every request is for this route: for a router of your own that has chosen already.
    pub fn fixed(route: impl Into<Arc<Route>>) -> Self {
        Self { source: Source::Fixed(route.into()) }
    }
}

impl<S> Layer<S> for RouteLayer {
    type Service = RouteService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RouteService { inner, source: self.source.clone() }
    }
}

/// The service of [`RouteLayer`].
#[derive(Clone, Debug)]
pub struct RouteService<S> {
    inner: S,
    source: Source,
}

impl<S> RouteService<S> {
    fn decide<B>(&self, request: &Request<B>) -> Result<Arc<Route>, Rejection> {
        let extensions = request.extensions();
        if extensions.get::<Authentication>().is_some()
            || extensions.get::<Authorized>().is_some()
            || extensions.get::<Prepared>().is_some()
        {
            return Err(Rejection::misassembled(
                "Route must come before Authenticate, which asks the route what to evaluate",
            ));
        }
        if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
            return Err(Rejection::Method(request.method().clone()));
        }
        let path = request.uri().path();
        let decoded = decoded(path);
        if has_dot_segment(path) || decoded.as_deref().is_some_and(has_dot_segment) {
            return Err(Rejection::DotSegment);
        }
        let routes = match &self.source {
            Source::Table(routes) => routes,
            Source::Fixed(route) if path.starts_with('/') => return Ok(route.clone()),
            Source::Fixed(_) => return Err(Rejection::NoRoute),
        };
        let route = routes.find(path).ok_or(Rejection::NoRoute)?;
        match decoded.and_then(|decoded| routes.find(&decoded)) {
            // For whoever decodes first it is below a longer prefix: another APPLID, or bypass.
            Some(other) if other.prefix.len() > route.prefix.len() => Err(Rejection::AmbiguousPath),
            _ => Ok(route.clone()),
        }
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for RouteService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: From<Bytes>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        match self.decide(&request) {
            Ok(route) => {
                request.extensions_mut().insert(route);
                ResponseFuture::inner(self.inner.call(request))
            }
            Err(rejection) => ResponseFuture::rejected(rejection),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn route(service: &str, gateway_url: &str, upstream: &str, scheme: Scheme) -> Route {
        let upstream = Upstream::parse(upstream).unwrap();
        Route::new(ServiceId::new(service).unwrap(), gateway_url, upstream, scheme).unwrap()
    }

    fn ticket(applid: &str) -> Scheme {
        Scheme::HttpBasicPassTicket { applid: Applid::new(applid).unwrap() }
    }

    #[test]
    fn the_longest_prefix_wins_and_paths_are_swapped() {
        let routes = Routes::new([
            route("svc", "/api/v1/", "https://a:1/base/api", ticket("ONE")),
            route("svc", "api/v1/admin", "https://a:1/base/api/admin", ticket("TWO")),
            route("svc", "ui", "http://b", Scheme::Bypass),
            route("all", "", "http://c:3/", Scheme::Bypass),
        ])
        .unwrap();
        let cases = [
            ("/svc/api/v1/x/y?q=1%20/../2", Some(("ONE", "/base/api/x/y?q=1%20/../2"))),
            ("/svc/api/v1", Some(("ONE", "/base/api"))),
            ("/svc/api/v1/", Some(("ONE", "/base/api/"))),
            ("/svc/api/v1/admin", Some(("TWO", "/base/api/admin"))),
            ("/svc/api/v1/admin/x", Some(("TWO", "/base/api/admin/x"))),
            ("/svc/api/v1/administrators", Some(("ONE", "/base/api/administrators"))),
            ("/svc/api/v1/a%2Fb//c;d=e", Some(("ONE", "/base/api/a%2Fb//c;d=e"))),
            ("/svc/api/v12", None),
            ("/svc/api", None),
            ("/SVC/api/v1/x", None),
            ("/svc/ui", Some(("", "/"))),
            ("/svc/ui?a", Some(("", "/?a"))),
            ("/all/x", Some(("", "/x"))),
            ("/all", Some(("", "/"))),
            ("/allx", None),
            ("/", None),
            ("*", None),
        ];
        for (uri, want) in cases {
            let uri: Uri = uri.parse().unwrap();
            let got = routes.find(uri.path()).map(|route| {
                let applid = match &route.scheme {
                    Scheme::HttpBasicPassTicket { applid } => applid.to_string(),
                    Scheme::Bypass => String::new(),
                };
                (applid, route.southbound_path(&uri))
            });
            let want = want.map(|(applid, path)| (applid.to_owned(), path.to_owned()));
            assert_eq!(got, want, "{uri}");
        }
    }

    #[test]
    fn dot_segments_are_seen_through_their_disguises() {
        for path in [
            "/a/../b",
            "/a/..",
            "/./a",
            "/a/.",
            "/a/%2e%2E/b",
            "/a/.%2e",
            "/a/..;x=y/b",
            "/a/..;/b",
            "/a/..%2fb",
            "/a%2F../b",
            "/a\\..\\b",
            "/a%5c..%5Cb",
            "/a/..%3Bx/b",
        ] {
            let decoded = decoded(path);
            let seen = has_dot_segment(path) || decoded.as_deref().is_some_and(has_dot_segment);
            assert!(seen, "{path}");
        }
        for path in ["/", "/a.b/c..d/...", "/a/.well-known", "/a/..b", "/a/%2ex", "/a%20b", "/%2"] {
            assert!(!has_dot_segment(path), "{path}");
            assert!(!decoded(path).as_deref().is_some_and(has_dot_segment), "{path}");
        }
    }

    #[test]
    fn a_path_that_reads_like_a_longer_prefix_is_refused() {
        let routes = Routes::new([
            route("svc", "api/v1", "https://a/api", ticket("ONE")),
            route("svc", "api/v1/admin", "https://a/api/admin", ticket("TWO")),
        ]);
        let layer = RouteLayer::new(routes.unwrap()).layer(());
        let decide = |method: Method, path: &str| {
            let request = Request::builder().method(method).uri(path).body(()).unwrap();
            layer.decide(&request).map(|route| route.prefix.clone())
        };
        let one = Ok("/svc/api/v1".to_owned());
        let two = Ok("/svc/api/v1/admin".to_owned());
        let cases = [
            ("/svc/api/v1/admin/x", two.clone()),
            ("/svc/api/v1/admin/%61;b//c", two),
            ("/svc/api/v1/%61dmin/x", Err(Rejection::AmbiguousPath)),
            ("/svc/api/v1/admin;p=1/x", Err(Rejection::AmbiguousPath)),
            ("/svc/api/v1//admin", Err(Rejection::AmbiguousPath)),
            ("/svc/api/v1%2fadmin", Err(Rejection::NoRoute)),
            ("/svc/api/v1/x%2fadmin", one.clone()),
            ("/svc/api/v1/a%20b;c", one.clone()),
            ("/svc/api/v1/%2e%2e/x", Err(Rejection::DotSegment)),
        ];
        for (path, want) in cases {
            assert_eq!(decide(Method::GET, path), want, "{path}");
        }
        for method in [Method::TRACE, Method::CONNECT] {
            let refused = decide(method.clone(), "/svc/api/v1/x");
            assert_eq!(refused, Err(Rejection::Method(method)));
        }
        assert_eq!(decide(Method::from_bytes(b"PROPFIND").unwrap(), "/svc/api/v1/x"), one);
    }

    #[test]
    fn a_fixed_route_stays_below_its_upstream() {
        let route = route("svc", "files", "https://a/zosmf", Scheme::Bypass);
        for (uri, want) in [
            ("/svc/files/x", "/zosmf/x"),
            ("/svc/files-x/y", "/zosmf/svc/files-x/y"),
            ("/other", "/zosmf/other"),
        ] {
            assert_eq!(route.southbound_path(&uri.parse().unwrap()), want);
        }
        let layer = RouteLayer::fixed(route).layer(());
        let asterisk = Request::options("*").body(()).unwrap();
        assert_eq!(layer.decide(&asterisk).unwrap_err(), Rejection::NoRoute);
    }

    #[test]
    fn wrong_routes_are_not_built() {
        for url in [
            "zos:443",
            "ftp://zos",
            "https://",
            "/path",
            "https://u:p@zos/",
            "http://zos/?q",
            "http://zos/a/../b",
            "http://zos:99999x/",
            "http://zos:70000",
            "http://:80",
            "",
        ] {
            assert!(matches!(Upstream::parse(url), Err(RouteError::Upstream(_))), "{url}");
        }
        let upstream = Upstream::parse("http://zos").unwrap();
        for gateway_url in ["a b", "a?b", "a#b", "a//b", "../a", "\u{e9}"] {
            let service = ServiceId::new("a").unwrap();
            let route = Route::new(service, gateway_url, upstream.clone(), Scheme::Bypass);
            assert!(matches!(route, Err(RouteError::GatewayUrl(_))), "{gateway_url}");
        }
        let twice = || route("a", "x", "http://zos", Scheme::Bypass);
        assert_eq!(
            Routes::new([twice(), twice()]).unwrap_err(),
            RouteError::Duplicate("/a/x".to_owned())
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_path_makes_the_router_panic(path in "(/|[.%;a-f0-9\\\\]){0,40}") {
            let decoded = decoded(&path);
            prop_assert!(decoded.is_none_or(|path| !path.contains("//") && !path.contains(';')));
            if let Ok(uri) = path.parse::<Uri>() {
                let route = route("a", "", "http://zos/b", Scheme::Bypass);
                prop_assert!(route.southbound_path(&uri).starts_with("/b"));
            }
        }
    }
}
