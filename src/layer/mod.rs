//! The Tower layers: from a credential of the client to a PassTicket for the service.
//!
//! ```text
//! SanitizeLayer ─► RouteLayer ─► AuthenticateLayer ─► ScopeLayer ─► PassTicketLayer ─► service
//!  drop what        which         who is asking        may this      Basic user:ticket,
//!  only we may      service,      (one credential,     PAT go        or X-Zowe-Auth-
//!  set              APPLID        verified)            there         Failure
//! ```
//!
//! They speak to each other in request extensions: [`Route`], [`Authentication`], [`Authorized`],
//! [`ReadyToForward`]. What says that somebody is known, may go there, and has a ticket only the layer
//! that found it out can make. So a stack in the wrong order answers 500 and says so in the log; it
//! cannot forward, but for what a route lets by (`bypass`). A layer that answers itself leaves the
//! [`Rejection`] in the extensions of its response, a request that goes on without a ticket leaves
//! the [`Failure`].
//!
//! The layers ask of the response body only that it can be made from bytes (`From<Bytes>`), and
//! leave its type and the error type of the inner service alone.

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
