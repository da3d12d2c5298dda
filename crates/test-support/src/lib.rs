//! What the tests of all crates share: an HTTP client and a program under test.
//!
//! It never depends on `tower-passticket`: unit tests of that crate would then see two copies of each
//! type.

#![expect(clippy::unwrap_used, reason = "helpers of a test may panic as the test may")]

mod client;
mod process;

pub use client::{basic, client};
pub use process::{PATIENCE, Running, has_curl};
