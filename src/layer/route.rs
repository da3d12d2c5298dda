//! Finds the route of a request by its path, and adds the [`Route`] to the extensions for later layers.
//!
//! Each route has a prefix, `/{serviceId}/{gatewayUrl}`, as in Zowe. If several prefixes match a path, the longest
//! prefix counts. So a service can have a second route for some of its paths, with another scheme or another APPLID
//! (the name of the application in a PassTicket).
//!
//! | request | response |
//! |---|---|
//! | no route matches the path | 404 |
//! | no instance of the service can serve requests ([`Route::out_of_service`]) | 503 |
//! | the path has dot segments (`.` or `..`), plain, or encoded once or twice | 400 |
//! | the path has an encoded NUL (`%00`, `%2500`) | 400 |
//! | the path, decoded once or twice, matches a longer prefix than the path that the client sent | 400 |
//! | the path has `%`, `;` or `\`, and the route has [`EncodedPaths::Refuse`](super::EncodedPaths) | 400 |
//! | `TRACE`, in any mixture of upper and lower case: the response would show the PassTicket to the client | 405 |
//! | `CONNECT`: the request asks for a tunnel | 405 |
//! | the [`RouteLimits`](super::RouteLimits) of the route do not allow the request | 404, 405, 413, 431 |
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_passticket::{
//!     layer::{Bypass, Route, RouteLayer, Routes},
//!     token::ServiceId,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let zosmf = Route::new(
//!     ServiceId::new("ibmzosmf")?,
//!     "api/v1",
//!     "https://zos.example.com:443/zosmf".parse()?,
//!     Bypass,
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

use std::sync::Arc;

use http::{Method, Request};
use tower_layer::Layer;

use super::{
    authentication::Authentication,
    check::{Check, CheckService},
    path::{Unsafe, decoded, decoded_again, find_unsafe, is_plain},
    rejection::Rejection,
    routes::{EncodedPaths, Route, Routes},
    scheme::ReadyToForward,
    scope::Authorized,
    shared_routes::{RoutesReader, SharedRoutes},
};
use crate::request_facts::RequestFacts;

/// The layer. See the [module](self).
#[derive(Clone, Debug)]
pub struct RouteLayer {
    check: FindRoute,
}

impl RouteLayer {
    /// Creates a layer that finds the route by the path. `routes` is a table ([`Routes`]), or a table that can be
    /// replaced while requests run ([`SharedRoutes`]).
    pub fn new(routes: impl Into<SharedRoutes>) -> Self {
        Self { check: FindRoute(Source::Table(routes.into().reader())) }
    }

    /// Creates a layer that uses `route` for every path. Use it if your own router has already selected the handler.
    /// The layer still rejects requests as in the table of the [module](self), for example if the path has dot
    /// segments. It answers 404 to a request without a path (`OPTIONS *`).
    ///
    /// If authentication fails, the default is to reject the request, so that your handler is not called
    /// ([D40](crate::decisions#d40)). [`Route::with_on_failure`] changes this.
    pub fn fixed(route: impl Into<Arc<Route>>) -> Self {
        Self { check: FindRoute(Source::Fixed(Route::or_reject(route.into()))) }
    }
}

impl<S> Layer<S> for RouteLayer {
    type Service = RouteService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CheckService::new(inner, self.check.clone())
    }
}

/// The service of [`RouteLayer`].
pub type RouteService<S> = CheckService<S, FindRoute>;

/// The check of [`RouteLayer`].
#[derive(Clone, Debug)]
pub struct FindRoute(Source);

#[derive(Clone, Debug)]
enum Source {
    Table(RoutesReader),
    Fixed(Arc<Route>),
}

impl Check for FindRoute {
    fn check<B>(&mut self, request: &mut Request<B>) -> Result<(), Rejection> {
        let route = self.find(request)?;
        if route.limits().is_some() || route.is_out_of_service() {
            return restricted(route, request);
        }
        request.extensions_mut().insert(route);
        Ok(())
    }
}

impl FindRoute {
    fn find<B>(&mut self, request: &Request<B>) -> Result<Arc<Route>, Rejection> {
        let extensions = request.extensions();
        if extensions.get::<Authentication>().is_some()
            || extensions.get::<Authorized>().is_some()
            || extensions.get::<ReadyToForward>().is_some()
        {
            return Err(Rejection::misassembled(
                "RouteLayer must come before AuthenticateLayer, because AuthenticateLayer reads the route",
            ));
        }
        if is_never_forwarded(request.method()) {
            return Err(Rejection::Method(request.method().clone()));
        }
        let route = self.0.candidates().find(request.uri().path()).cloned()?;
        if let Some(facts) = extensions.get::<RequestFacts>() {
            facts.set_service(route.service());
        }
        Ok(route)
    }
}

impl Source {
    #[inline]
    fn candidates(&mut self) -> Candidates<'_> {
        match self {
            Self::Table(routes) => Candidates::Table(routes.current()),
            Self::Fixed(route) => Candidates::Fixed(route),
        }
    }
}

#[derive(Clone, Copy)]
enum Candidates<'a> {
    Table(&'a Routes),
    Fixed(&'a Arc<Route>),
}

impl<'a> Candidates<'a> {
    fn find(self, path: &str) -> Result<&'a Arc<Route>, Rejection> {
        let found = self.find_as_sent(path).ok_or(Rejection::NoRoute);
        if is_plain(path) {
            return found;
        }
        let once = decoded(path);
        let twice = once.as_deref().and_then(decoded_again);
        match find_unsafe(path, once.as_deref(), twice.as_deref()) {
            Some(Unsafe::DotSegment) => return Err(Rejection::DotSegment),
            Some(Unsafe::Nul) => return Err(Rejection::Nul),
            None => {}
        }
        let route = found?;
        if route.encoded_paths() == EncodedPaths::Refuse && path.contains(['%', ';', '\\']) {
            return Err(Rejection::EncodedPath);
        }
        // If the service decodes the path, the result can belong to another route, with another APPLID or scheme.
        let is_longer = |decoded: String| {
            let longer = self.find_as_sent(&decoded);
            longer.is_some_and(|longer| longer.prefix().len() > route.prefix().len())
        };
        if [once, twice].into_iter().flatten().any(is_longer) {
            return Err(Rejection::AmbiguousPath);
        }
        Ok(route)
    }

    /// Returns the route for the path, without decoding it.
    fn find_as_sent(self, path: &str) -> Option<&'a Arc<Route>> {
        match self {
            Self::Table(routes) => routes.find(path),
            Self::Fixed(route) => path.starts_with('/').then_some(route),
        }
    }
}

/// Checks a request on a route with limits, or on a route that is out of service. If the request is rejected, outer
/// layers still need the route in the extensions.
fn restricted<B>(route: Arc<Route>, request: &mut Request<B>) -> Result<(), Rejection> {
    let checked = match route.limits() {
        Some(limits) => limits.check(request),
        None => Ok(()),
    };
    let is_out_of_service = route.is_out_of_service();
    request.extensions_mut().insert(route);
    match checked {
        Ok(()) if is_out_of_service => Err(Rejection::OutOfService),
        checked => checked,
    }
}

/// Methods are case-sensitive (RFC 9110 §9.1), but some servers handle `trace` like `TRACE`.
fn is_never_forwarded(method: &Method) -> bool {
    matches!(*method, Method::CONNECT | Method::TRACE)
        || method.as_str().eq_ignore_ascii_case("TRACE")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        layer::{Bypass, OnFailure},
        token::ServiceId,
    };

    fn route(gateway_url: &str, upstream: &str) -> Route {
        let (service, upstream) = (ServiceId::new("svc").unwrap(), upstream.parse().unwrap());
        Route::new(service, gateway_url, upstream, Bypass).unwrap()
    }

    #[test]
    fn a_path_that_decodes_to_a_more_specific_route_is_rejected() {
        let routes = Routes::new([
            route("api/v1", "https://a/api"),
            route("api/v1/admin", "https://a/api/admin"),
        ]);
        let mut check = RouteLayer::new(routes.unwrap()).check;
        let mut decide = |method: Method, path: &str| {
            let request = Request::builder().method(method).uri(path).body(()).unwrap();
            check.find(&request).map(|route| route.prefix().to_owned())
        };
        let short = Ok("/svc/api/v1".to_owned());
        let long = Ok("/svc/api/v1/admin".to_owned());
        let cases = [
            ("/svc/api/v1/admin/x", long.clone()),
            ("/svc/api/v1/admin/%61;b//c", long),
            ("/svc/api/v1/%61dmin/x", Err(Rejection::AmbiguousPath)),
            ("/svc/api/v1/%2561dmin/x", Err(Rejection::AmbiguousPath)),
            ("/svc/api/v1/admin%253bp/x", Err(Rejection::AmbiguousPath)),
            ("/svc/api/v1/admin;p=1/x", Err(Rejection::AmbiguousPath)),
            ("/svc/api/v1//admin", Err(Rejection::AmbiguousPath)),
            ("/svc/api/v1%2fadmin", Err(Rejection::NoRoute)),
            ("/svc/api/v1/x%2fadmin", short.clone()),
            ("/svc/api/v1/a%20b;c", short.clone()),
            ("/svc/api/v1/%2e%2e/x", Err(Rejection::DotSegment)),
            ("/svc/api/v1/%252e%252e/x", Err(Rejection::DotSegment)),
            ("/svc/api/v1/..%00/x", Err(Rejection::Nul)),
        ];
        for (path, want) in cases {
            assert_eq!(decide(Method::GET, path), want, "{path}");
        }
        let [lower, mixed] = ["trace", "Trace"].map(|text| text.parse().unwrap());
        for method in [Method::TRACE, Method::CONNECT, lower, mixed] {
            let decided = decide(method.clone(), "/svc/api/v1/x");
            assert_eq!(decided, Err(Rejection::Method(method)));
        }
        assert_eq!(decide(Method::from_bytes(b"PROPFIND").unwrap(), "/svc/api/v1/x"), short);
    }

    #[test]
    fn each_clone_of_a_service_finds_the_routes_of_the_current_table() {
        let table = |prefixes: &[&str]| {
            Routes::new(prefixes.iter().map(|prefix| route(prefix, "https://a"))).unwrap()
        };
        let shared = SharedRoutes::from(table(&["a"]));
        let mut first = RouteLayer::new(shared.clone()).check;
        let mut second = first.clone();
        let find =
            |check: &mut FindRoute, path: &str| check.find(&Request::get(path).body(()).unwrap());
        let before = find(&mut first, "/svc/a").unwrap();
        let old = shared.replace(table(&["b"]));
        assert!(Arc::ptr_eq(old.find("/svc/a").unwrap(), &before));
        for check in [&mut first, &mut second] {
            assert_eq!(find(check, "/svc/a").unwrap_err(), Rejection::NoRoute);
            assert_eq!(find(check, "/svc/b").unwrap().prefix(), "/svc/b");
        }
        // A running request keeps its route.
        assert_eq!(before.prefix(), "/svc/a");
        assert!(shared.current().find("/svc/b").is_some());
    }

    #[test]
    fn a_route_may_refuse_encoded_paths() {
        let routes = |encoded_paths| {
            let route = route("api/v1", "https://a").with_encoded_paths(encoded_paths);
            RouteLayer::new(Routes::new([route]).unwrap()).check
        };
        for (path, is_encoded) in [
            ("/svc/api/v1/a", false),
            ("/svc/api/v1//a", false),
            ("/svc/api/v1/a?b=%20;c", false),
            ("/svc/api/v1/%61", true),
            ("/svc/api/v1/a;b", true),
            ("/svc/api/v1/a\\b", true),
        ] {
            for (encoded_paths, is_refused) in
                [(EncodedPaths::Forward, false), (EncodedPaths::Refuse, is_encoded)]
            {
                let Ok(request) = Request::get(path).body(()) else { continue };
                let found = routes(encoded_paths).find(&request).map(|_| ());
                let want = if is_refused { Err(Rejection::EncodedPath) } else { Ok(()) };
                assert_eq!(found, want, "{path}");
            }
        }
    }

    #[test]
    fn a_service_without_instances_is_unavailable() {
        let routes =
            Routes::new([route("a", "https://a").out_of_service(), route("b", "https://b")]);
        let mut check = RouteLayer::new(routes.unwrap()).check;
        for (path, want) in [
            ("/svc/a/x", Err(Rejection::OutOfService)),
            ("/svc/b/x", Ok(())),
            ("/c", Err(Rejection::NoRoute)),
        ] {
            assert_eq!(check.check(&mut Request::get(path).body(()).unwrap()), want, "{path}");
        }
        let response = Rejection::OutOfService.into_response::<bytes::Bytes>();
        assert_eq!(response.status(), 503);
    }

    #[test]
    fn a_fixed_route_rejects_a_request_without_a_path() {
        let mut check = RouteLayer::fixed(route("files", "https://a/zosmf")).check;
        let asterisk = Request::options("*").body(()).unwrap();
        assert_eq!(check.find(&asterisk).unwrap_err(), Rejection::NoRoute);
    }

    #[test]
    fn a_fixed_route_rejects_failures_by_default() {
        let default = route("files", "https://a");
        let forward = default.clone().with_on_failure(OnFailure::Forward);
        for (route, want) in [(default, OnFailure::Reject), (forward, OnFailure::Forward)] {
            let request = Request::get("/").body(()).unwrap();
            let found = RouteLayer::fixed(route).check.find(&request).unwrap();
            assert_eq!(found.on_failure(), want);
        }
    }
}
