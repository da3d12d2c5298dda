//! Adds [`ConnectionInfo`] to requests.
//!
//! The listener of this crate adds [`ConnectionInfo`] itself. With another server, use this layer, and put it before
//! all other layers. It makes [`ConnectionInfo`] from the request extensions of your server. Without
//! [`ConnectionInfo`], audit records have no `peer`, and the proxy sends no `X-Forwarded-For`.
//!
//! ```
//! use std::net::SocketAddr;
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_passticket::{
//!     connection::{ConnectionInfo, Protocol},
//!     layer::ConnectionInfoLayer,
//! };
//!
//! /// Replaces `axum::extract::ConnectInfo` in this example.
//! #[derive(Clone)]
//! struct ConnectInfo(SocketAddr);
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let local = SocketAddr::from(([192, 0, 2, 1], 8080));
//! let layer = ConnectionInfoLayer::new(move |extensions| {
//!     let ConnectInfo(peer) = extensions.get()?;
//!     Some(ConnectionInfo::new(*peer, local, Protocol::Http))
//! });
//! let service = ServiceBuilder::new().layer(layer).service(service_fn(
//!     |request: Request<Full<Bytes>>| async move {
//!         let connection = request.extensions().get::<ConnectionInfo>().unwrap();
//!         assert_eq!(connection.peer.port(), 50_000);
//!         Ok::<_, std::convert::Infallible>(Response::new(Full::<Bytes>::default()))
//!     },
//! ));
//!
//! let peer = SocketAddr::from(([192, 0, 2, 7], 50_000));
//! let request = Request::get("/").extension(ConnectInfo(peer)).body(Full::default()).unwrap();
//! assert_eq!(service.oneshot(request).await.unwrap().status(), 200);
//! # });
//! ```

use std::{
    fmt,
    task::{Context, Poll},
};

use http::{Extensions, Request};
use tower_layer::Layer;
use tower_service::Service;

use crate::connection::{ConnectionInfo, TrustedProxies};

/// The layer. See the [module](self).
#[derive(Clone)]
pub struct ConnectionInfoLayer<F> {
    find: F,
    proxies: Option<TrustedProxies>,
}

impl<F> ConnectionInfoLayer<F>
where
    F: Fn(&Extensions) -> Option<ConnectionInfo>,
{
    /// Creates a layer that calls `find` with the extensions of each request. If `find` returns `None`, the
    /// layer does not add a [`ConnectionInfo`].
    ///
    /// `find` must not take the peer address from a header that a client can set.
    pub fn new(find: F) -> Self {
        Self { find, proxies: None }
    }

    /// Sets the proxies that may announce the addresses of their clients ([`ConnectionInfo::with_trusted_proxies`]).
    #[must_use]
    pub fn with_trusted_proxies(self, proxies: TrustedProxies) -> Self {
        Self { proxies: Some(proxies), ..self }
    }
}

impl<F> fmt::Debug for ConnectionInfoLayer<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionInfoLayer").finish_non_exhaustive()
    }
}

impl<S, F: Clone> Layer<S> for ConnectionInfoLayer<F> {
    type Service = ConnectionInfoService<S, F>;

    fn layer(&self, inner: S) -> Self::Service {
        let (find, proxies) = (self.find.clone(), self.proxies.clone());
        ConnectionInfoService { inner, find, proxies }
    }
}

/// The service of [`ConnectionInfoLayer`].
#[derive(Clone)]
pub struct ConnectionInfoService<S, F> {
    inner: S,
    find: F,
    proxies: Option<TrustedProxies>,
}

impl<S: fmt::Debug, F> fmt::Debug for ConnectionInfoService<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionInfoService").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S, F, ReqBody> Service<Request<ReqBody>> for ConnectionInfoService<S, F>
where
    S: Service<Request<ReqBody>>,
    F: Fn(&Extensions) -> Option<ConnectionInfo>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        if let Some(connection) = (self.find)(request.extensions()) {
            let connection = match &self.proxies {
                None => connection,
                Some(proxies) => connection.with_trusted_proxies(proxies, request.headers()),
            };
            request.extensions_mut().insert(connection);
        }
        self.inner.call(request)
    }
}
