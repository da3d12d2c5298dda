//! Tests of the library through its public API: layers, listeners, forwarding, and providers that call other servers.
//! Most of these tests use real sockets.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use tokio::time::{sleep, timeout};

mod client_connections;
mod client_limits;
mod eureka;
mod forwarding;
mod handshake;
mod http2_services;
mod instances;
mod jwks;
mod on_failure;
mod outbound;
mod providers;
mod replay;
mod service_tls;
mod session_cookies;
mod token_cache;
mod upstream;
mod websocket;
mod wire;
#[cfg(feature = "api")]
mod zaas;

/// The time limit for one step of a test. It allows for a slow and busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn until(what: impl Fn() -> bool) {
    let reached = async {
        while !what() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, reached).await.expect("the condition is true in time");
}
