//! Forwarding to the services: the end of the road.
//!
//! - [`Forward`] sends a request to the service of its route and streams the answer back.
//! - [`Gateway`] is the front door: the auth API, the health endpoint, and the routed requests.

mod body;
mod connections;
mod forward;
mod forwarded;
mod gateway;
mod read_after_reset;
mod wire;

pub use body::ResponseBody;
pub use forward::{Forward, ForwardFuture, Timeouts};
pub use gateway::{Gateway, GatewayFuture};

pub use crate::auth_prefix::{AuthPrefix, AuthPrefixError};
