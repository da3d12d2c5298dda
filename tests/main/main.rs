//! The library from outside: layers, listeners, forwarding and providers over real sockets.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod handshake;
mod providers;
mod replay;
mod token_cache;
mod upstream;
mod wire;
