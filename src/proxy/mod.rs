//! Forwarding to the services: the end of the road.
//!
//! - [`Forward`] sends a request to the service of its route and streams the answer back.
//! - [`Gateway`] is the front door: the auth API, the health endpoint, and the routed requests.

mod forward;
mod forwarded;
mod gateway;
mod pool;
mod response_body;

pub use forward::{Forward, ForwardFuture, Timeouts};
pub use gateway::{Gateway, GatewayFuture};
pub use response_body::ResponseBody;
