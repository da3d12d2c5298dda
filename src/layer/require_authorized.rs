//! Rejects requests that no earlier layer has authorized. Put this layer in front of your own handlers.
//!
//! If a route forwards requests after failures ([`OnFailure::Forward`](super::OnFailure)), or if an earlier layer is
//! missing, a handler receives requests of unauthenticated clients. This layer rejects them
//! ([D40](crate::decisions#d40)):
//!
//! | request | response |
//! |---|---|
//! | the request is [`Authorized`], or a scheme has prepared the request for a user ([`ReadyToForward`]) | the handler's response |
//! | authentication failed | the status of the failure, usually 401, and its message |
//! | no layer has authenticated the request, the route has the scheme `bypass`, or a [`SchemeLayer`](super::SchemeLayer) before this layer has forwarded the request without a user | 401 `ZWEAG160E` |
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_passticket::layer::RequireAuthorizedLayer;
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! // The layers that authenticate and authorize are missing.
//! let service = ServiceBuilder::new().layer(RequireAuthorizedLayer::new()).service(service_fn(
//!     |_: Request<Full<Bytes>>| async {
//!         Ok::<_, std::convert::Infallible>(Response::new(Full::<Bytes>::default()))
//!     },
//! ));
//! let response = service.oneshot(Request::new(Full::default())).await.unwrap();
//! assert_eq!(response.status(), 401);
//! # });
//! ```

use std::sync::Arc;

use http::Request;
use tower_layer::Layer;

use super::{
    check::{Check, CheckService},
    rejection::Rejection,
    routes::Route,
    scheme::ReadyToForward,
    scope::Authorized,
};

/// The layer. See the [module](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct RequireAuthorizedLayer {
    check: RequireAuthorized,
}

impl RequireAuthorizedLayer {
    /// Creates the layer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Also forwards requests on routes with the scheme `bypass`. These requests have no authorized user.
    #[must_use]
    pub fn with_bypass_allowed(self) -> Self {
        Self { check: RequireAuthorized { bypass: WhenBypassed::Forward } }
    }
}

impl<S> Layer<S> for RequireAuthorizedLayer {
    type Service = RequireAuthorizedService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CheckService::new(inner, self.check)
    }
}

/// The service of [`RequireAuthorizedLayer`].
pub type RequireAuthorizedService<S> = CheckService<S, RequireAuthorized>;

/// The check of [`RequireAuthorizedLayer`].
#[derive(Clone, Copy, Debug, Default)]
pub struct RequireAuthorized {
    bypass: WhenBypassed,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum WhenBypassed {
    #[default]
    Reject,
    Forward,
}

impl Check for RequireAuthorized {
    fn check<B>(&mut self, request: &mut Request<B>) -> Result<(), Rejection> {
        let extensions = request.extensions();
        let is_bypass = || extensions.get::<Arc<Route>>().is_some_and(|route| route.is_bypass());
        if self.bypass == WhenBypassed::Forward && is_bypass() {
            return Ok(());
        }
        if extensions.get::<ReadyToForward>().is_some_and(|ready| ready.user().is_some()) {
            return Ok(());
        }
        Authorized::require(extensions).map(|_| ())
    }
}
