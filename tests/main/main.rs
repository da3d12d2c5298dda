//! The library from outside: layers, listeners, forwarding and providers over real sockets.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

mod forwarding;
mod handshake;
mod providers;
mod replay;
mod token_cache;
mod upstream;
mod wire;

/// The longest that anything may take on a slow and busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
