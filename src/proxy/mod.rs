//! Forwarding requests to the services: the end of the stack.
//!
//! - [`Forward`] sends a request to the service of its route and streams the response back.
//! - [`Gateway`] is the front door: it sends each request to the auth API, the health endpoint or the
//!   routed stack.
//!
//! Both answer with a [`ResponseBody`], which has a default, so layers of `tower-http` such as
//! `CorsLayer`, `TimeoutLayer` and `TraceLayer` can wrap them.

mod exchange;
mod forward;
mod forwarded;
mod gateway;
mod pool;
mod request_body;
mod response_body;
mod timeouts;

pub use forward::{Forward, ForwardFuture};
pub use gateway::{Gateway, GatewayFuture};
pub use response_body::{BodyError, ResponseBody};
pub use timeouts::ForwardTimeouts;

pub use crate::auth_prefix::{AuthPrefix, AuthPrefixError};
