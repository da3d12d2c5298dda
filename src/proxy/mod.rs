//! Forwarding requests to the services: the end of the stack.
//!
//! [`Forward`] sends a request to the service of its route and streams the response back. Its
//! [`ResponseBody`] has a default, so layers of `tower-http` such as `CorsLayer`, `TimeoutLayer` and
//! `TraceLayer` can wrap it.

mod exchange;
mod forward;
mod forwarded;
mod pool;
mod request_body;
mod response_body;
mod timeouts;

pub use forward::{Forward, ForwardFuture};
pub use response_body::{BodyError, ResponseBody};
pub use timeouts::ForwardTimeouts;
