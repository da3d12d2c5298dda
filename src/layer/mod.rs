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
mod cookie;
mod credential;
mod failure;
mod future;
mod hop_by_hop;
pub mod passticket;
mod path;
mod rejection;
pub mod route;
mod routes;
pub mod sanitize;
pub mod scope;
mod sweep;
#[cfg(test)]
mod tests;

pub use authenticate::{AuthenticateLayer, AuthenticateService, Authenticating};
pub use authentication::{Authenticated, Authentication, Proof};
pub use authenticator::Authenticator;
#[cfg(feature = "proxy")]
pub(crate) use cookie::join as join_cookies;
#[cfg(feature = "api")]
pub(crate) use credential::login_token;
pub use credential::{CookieNames, PRIVATE_TOKEN};
pub use failure::{Failure, X_ZOWE_AUTH_FAILURE};
pub use future::{LayerFuture, ResponseFuture};
pub use hop_by_hop::strip_hop_by_hop;
pub use passticket::{
    CustomHeaders, Generating, PassTicketLayer, PassTicketService, ReadyToForward,
};
pub use rejection::Rejection;
pub use route::{RouteLayer, RouteService};
pub use routes::{OnFailure, Route, RouteError, Routes, Scheme, Upstream};
pub use sanitize::{SanitizeLayer, SanitizeService};
pub use scope::{Authorized, ScopeLayer, ScopeService};
#[cfg(feature = "proxy")]
pub(crate) use sweep::sweep;
