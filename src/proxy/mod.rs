//! Forwards requests to the services. [`Forward`] is the innermost Tower service of a stack.
//!
//! [`Forward`] sends a request to the service of its route and streams the response back. The body type
//! of the response, [`ResponseBody`], implements `Default`. Layers of `tower-http` such as `CorsLayer`,
//! `TimeoutLayer` and `TraceLayer` can therefore wrap `Forward`.

mod counts;
mod credential;
mod exchange;
mod exchange_failure;
mod forward;
mod forwarded;
mod http2_settings;
mod instances;
mod pool;
mod request_body;
mod response_body;
mod response_head;
mod timeouts;
mod websocket;

pub use counts::ForwardCounts;
pub use forward::{Forward, ForwardFuture, ServiceConnections};
pub use http2_settings::Http2Settings;
pub use instances::{HealthCheck, InstanceHealth, InstanceStates};
pub use response_body::{BodyError, ResponseBody};
pub use timeouts::ForwardTimeouts;
pub use websocket::{TunnelCounts, Tunnels};
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub use websocket::{accepts_answer, track_frames};

pub use crate::http2_negotiation::NegotiateHttp2;
