//! A table of routes that can be replaced while requests run.

use std::{fmt, sync::Arc};

use arc_swap::{ArcSwap, Cache};

use super::routes::Routes;

/// A handle on a table of routes that can be replaced while requests run. Clones are handles on the same table.
///
/// A request uses the table that is current when it passes the [`RouteLayer`](super::RouteLayer). The request keeps its
/// route until it ends, even if the table is replaced meanwhile. Each clone of the layer's Tower service keeps the
/// table that it used last. So if the table has not changed, a request needs only one atomic load to get the table.
///
/// Open connections to a service stay usable, because the proxy finds them by the address of the service, not by its
/// route.
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
    /// Creates a handle on the table `routes`.
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

    /// Returns a reader that keeps the table that it used last.
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

/// Reads the current table. The table is fetched again only if it was replaced since the last call.
// The cached table cannot be mistaken for a later table at the same memory address, because the reader keeps it alive.
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
