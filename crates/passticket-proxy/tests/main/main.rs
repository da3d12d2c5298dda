//! Tests that start the program as a process: the command line, the configuration, the demo and the
//! gateway.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod admin;
mod audit;
mod auth_api;
mod authorization;
mod command_line;
mod demo;
mod descriptors;
mod esm;
mod kill;
mod log;
mod logins;
mod oidc;
mod proxies;
mod schemes;
mod serve;
mod services;
mod signing_keys;
mod zowe_tickets;
mod zowe_yaml;
