//! What the tests of all crates share: keys and certificates, raw services, an HTTP client, a program under
//! test.
//!
//! It never depends on `tower-passticket`: unit tests of that crate would then see two copies of each
//! type.

#![expect(clippy::unwrap_used, reason = "helpers of a test may panic as the test may")]

pub mod pki;
pub mod raw;
pub mod tickets;

mod client;
mod process;

pub use client::{basic, client};
pub use process::{PATIENCE, Running, has_curl};
