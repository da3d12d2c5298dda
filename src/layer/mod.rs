//! The Tower layers: from a credential of the client to what the service expects.
//!
//! ```text
//! SanitizeLayer ─► RouteLayer ─► AuthenticateLayer ─► ScopeLayer ─► SchemeLayer ─► service
//!  removes          finds the     verifies one         checks the    headers of
//!  reserved         service and   credential,          scopes of     the scheme, or
//!  headers          its scheme    removes them all     a PAT         X-Zowe-Auth-Failure
//! ```
//!
//! The layers hand on request extensions: [`Route`], [`Authentication`], [`Authorized`],
//! [`ReadyToForward`]. Only the layer that found a fact out can make the type that states it. So a stack
//! in the wrong order answers 500 and logs the reason. It cannot forward, except on a route that
//! bypasses ([`Bypass`]). A layer that answers by itself leaves the [`Rejection`] in the extensions of its
//! response. A request that goes on after a failure leaves the [`Failure`] there.
//!
//! In front of handlers of your own, end the stack with [`RequireAuthorizedLayer`] instead of
//! [`SchemeLayer`].
//!
//! The layers leave body and error types of the inner service alone. The response body must be made from
//! bytes (`From<Bytes>`); [`ResponseBodyLayer`] gives that to any body.

pub mod authenticate;
mod authentication;
mod authenticator;
mod body;
mod check;
pub mod connection;
mod credential;
mod failure;
mod future;
mod passticket;
mod path;
mod rejection;
pub mod require_authorized;
pub mod route;
mod routes;
pub mod sanitize;
pub mod scheme;
mod scheme_error;
mod schemes;
pub mod scope;
#[cfg(test)]
mod tests;

pub use authenticate::{AuthenticateLayer, AuthenticateService, Authenticating};
pub use authentication::{Authenticated, Authentication, Proof};
pub use authenticator::Authenticator;
pub use body::{ResponseBody, ResponseBodyFuture, ResponseBodyLayer, ResponseBodyService};
pub use check::CheckService;
pub use connection::{ConnectionInfoLayer, ConnectionInfoService};
#[cfg(feature = "api")]
pub(crate) use credential::login_token;
pub use credential::{CookieNames, PRIVATE_TOKEN};
pub use failure::{Failure, X_ZOWE_AUTH_FAILURE};
pub use future::{LayerFuture, ResponseFuture};
pub use passticket::{CustomHeaders, PassTicketScheme};
pub use rejection::Rejection;
pub use require_authorized::{RequireAuthorizedLayer, RequireAuthorizedService};
pub use route::{RouteLayer, RouteService};
pub use routes::{OnFailure, Route, RouteError, Routes, Upstream};
pub use sanitize::{SanitizeLayer, SanitizeService};
pub use scheme::{Preparing, ReadyToForward, SchemeLayer, SchemeService};
pub use scheme_error::SchemeError;
pub use schemes::{Bypass, Scheme, SchemeFuture, SchemeHeaders, SchemeRequest};
pub use scope::{Authorized, ScopeLayer, ScopeService};

pub use crate::headers::strip_hop_by_hop;
