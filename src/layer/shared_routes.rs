//! A table of routes that can be replaced while requests run.

use std::{fmt, sync::Arc};

use arc_swap::{ArcSwap, Cache};

use super::routes::Routes;

/// A table of routes that can be replaced while requests run. Clones share the table.
///
/// [`RouteLayer`](super::RouteLayer) finds the route of a request in the current table. The request keeps this route
/// until it ends, even if the table is replaced meanwhile. If the table has not changed since the last request, finding
/// the table costs one atomic load.
///
/// The proxy continues to use open connections to services, because it finds them by the address of the service.
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::Full;
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
/// use tower_passticket::{
///     layer::{Bypass, Route, RouteLayer, Routes, SharedRoutes},
///     token::ServiceId,
/// };
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let routes = SharedRoutes::default();
/// let stack = ServiceBuilder::new().layer(RouteLayer::new(routes.clone())).service(service_fn(
///     |_: Request<Full<Bytes>>| async {
///         Ok::<_, std::convert::Infallible>(Response::new(Full::<Bytes>::default()))
///     },
/// ));
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let get = || Request::get("/files/x").body(Full::default()).unwrap();
/// assert_eq!(stack.clone().oneshot(get()).await.unwrap().status(), 404);
///
/// // Later, for example when a registry lists a new service:
/// let files = Route::new(ServiceId::new("files")?, "", "http://localhost:8080".parse()?, Bypass)?;
/// routes.replace(Routes::new([files])?);
/// assert_eq!(stack.oneshot(get()).await.unwrap().status(), 200);
/// # Ok(())
/// # })
/// # }
/// ```
#[derive(Clone, Default)]
pub struct SharedRoutes(Arc<ArcSwap<Routes>>);

impl SharedRoutes {
    /// Creates a shared table with `routes`.
    pub fn new(routes: impl Into<Arc<Routes>>) -> Self {
        Self(Arc::new(ArcSwap::new(routes.into())))
    }

    /// Returns the current table.
    pub fn current(&self) -> Arc<Routes> {
        self.0.load_full()
    }

    /// Replaces the table, and returns the previous table.
    pub fn replace(&self, routes: impl Into<Arc<Routes>>) -> Arc<Routes> {
        self.0.swap(routes.into())
    }

    pub(super) fn reader(&self) -> RoutesReader {
        RoutesReader(Cache::new(self.0.clone()))
    }
}

impl From<Routes> for SharedRoutes {
    fn from(routes: Routes) -> Self {
        Self::new(routes)
    }
}

impl From<Arc<Routes>> for SharedRoutes {
    fn from(routes: Arc<Routes>) -> Self {
        Self::new(routes)
    }
}

impl fmt::Debug for SharedRoutes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedRoutes").field(&self.current()).finish()
    }
}

/// Caches the current table. Fetches it again only if it was replaced since the last call.
// The reader keeps the cached table alive, so no later table can have the same memory address.
#[derive(Clone)]
pub(super) struct RoutesReader(Cache<Arc<ArcSwap<Routes>>, Arc<Routes>>);

impl RoutesReader {
    #[inline]
    pub(super) fn current(&mut self) -> &Routes {
        self.0.load()
    }
}

impl fmt::Debug for RoutesReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RoutesReader(..)")
    }
}
