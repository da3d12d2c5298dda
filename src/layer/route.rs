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
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Method, Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use super::{
    authentication::Authentication,
    future::ResponseFuture,
    passticket::ReadyToForward,
    path::{decoded, has_dot_segment},
    rejection::Rejection,
    routes::{Route, Routes},
    scope::Authorized,
};

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
            || extensions.get::<ReadyToForward>().is_some()
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
            Some(other) if other.prefix().len() > route.prefix().len() => {
                Err(Rejection::AmbiguousPath)
            }
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
    use super::*;
    use crate::{
        layer::{Scheme, Upstream},
        passticket::Applid,
        token::ServiceId,
    };

    fn route(gateway_url: &str, upstream: &str, applid: &str) -> Route {
        let (service, upstream) = (ServiceId::new("svc"), Upstream::parse(upstream));
        let scheme = Scheme::HttpBasicPassTicket { applid: Applid::new(applid).unwrap() };
        Route::new(service.unwrap(), gateway_url, upstream.unwrap(), scheme).unwrap()
    }

    #[test]
    fn a_path_that_reads_like_a_longer_prefix_is_refused() {
        let routes = Routes::new([
            route("api/v1", "https://a/api", "ONE"),
            route("api/v1/admin", "https://a/api/admin", "TWO"),
        ]);
        let layer = RouteLayer::new(routes.unwrap()).layer(());
        let decide = |method: Method, path: &str| {
            let request = Request::builder().method(method).uri(path).body(()).unwrap();
            layer.decide(&request).map(|route| route.prefix().to_owned())
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
    fn a_fixed_route_has_no_place_for_what_has_no_path() {
        let layer = RouteLayer::fixed(route("files", "https://a/zosmf", "ONE")).layer(());
        let asterisk = Request::options("*").body(()).unwrap();
        assert_eq!(layer.decide(&asterisk).unwrap_err(), Rejection::NoRoute);
    }
}
