//! Rejects a request that no layer has authorized, in front of handlers of your own.
//!
//! Where a route forwards failures ([`OnFailure::Forward`](super::OnFailure)), or where a layer is
//! missing, a handler is called for a client that nobody knows. This layer answers instead
//! ([D40](crate::decisions#d40)):
//!
//! | the request | answer |
//! |---|---|
//! | is [`Authorized`], or has been prepared for a user ([`ReadyToForward`]) | the one of the handler |
//! | failed authentication | 401, or the status of the failure, with its message |
//! | was not looked at by the layers before, or is on a route that bypasses | 401 `ZWEAG160E` |
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_passticket::layer::RequireAuthorizedLayer;
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! // The other layers are missing.
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
    /// Every request must be authorized.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets a request on a route that bypasses go to the handler, which then must not rely on a user.
    #[must_use]
    pub fn with_bypass_allowed(self) -> Self {
        Self { check: RequireAuthorized { bypass: WhenBypassed::GoOn } }
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
    GoOn,
}

impl Check for RequireAuthorized {
    fn check<B>(&self, request: &mut Request<B>) -> Result<(), Rejection> {
        let extensions = request.extensions();
        let bypasses = || extensions.get::<Arc<Route>>().is_some_and(|route| route.is_bypass());
        if self.bypass == WhenBypassed::GoOn && bypasses() {
            return Ok(());
        }
        if extensions.get::<ReadyToForward>().is_some_and(|ready| ready.user().is_some()) {
            return Ok(());
        }
        Authorized::require(extensions).map(|_| ())
    }
}
