//! Helpers for the tests of all crates, such as keys, certificates and fakes of the servers of a Zowe installation.
//!
//! This crate must not depend on `tower-passticket`. With this dependency, the unit tests of `tower-passticket` would
//! contain two copies of each of its types, which the compiler treats as different types.

#![expect(clippy::unwrap_used, reason = "test helpers may panic")]

pub mod apiml;
pub mod apiml_gateway;
pub mod apiml_tickets;
pub mod caching_service;
pub mod eureka;
pub mod fake;
pub mod jws;
pub mod key_stores;
pub mod pki;
pub mod raw;
pub mod redis;
pub mod softhsm;
pub mod tickets;
pub mod websocket;
pub mod zosmf;
pub mod zss;

mod client;
mod port;
mod process;

pub use client::{basic, client};
pub use port::free_port;
pub use process::{PATIENCE, Running, has_curl};
