//! Examples of code in an application that embeds the library. They use only the public API.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod audit;
mod auth_api;
mod axum_peer;
mod forward;
mod handler_test;
mod metrics;
mod require_authorized;
mod revocation_sqlite;
mod schemes;
mod tickets;
mod tokens;
mod tower_http;
