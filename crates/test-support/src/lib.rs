//! Helpers that the tests of all crates share: keys and certificates, services that send raw bytes, fakes of the
//! servers of a Zowe installation, a real Redis, an HTTP client, and a runner for a program under test.
//!
//! This crate must not depend on `tower-passticket`. Otherwise, the unit tests of `tower-passticket` would contain two
//! copies of each of its types, and the compiler would treat the copies as different types.

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
