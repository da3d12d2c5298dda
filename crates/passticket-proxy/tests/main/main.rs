//! Tests that start the program as a process: the command line, the configuration, the demo and the gateway.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod access_log;
mod admin;
mod admin_page;
mod apiml;
mod audit;
mod auth_api;
mod authorization;
mod basic;
mod check;
mod cluster;
mod command_line;
mod cors;
mod definitions;
mod demo;
mod descriptors;
mod discovery;
mod error_pages;
mod esm;
mod explain;
mod forwarded_certificates;
mod git;
mod init;
mod instances;
mod key_material;
mod kill;
mod limits;
mod log;
mod logins;
mod metrics;
mod observe;
mod oidc;
mod pkcs11;
mod proxies;
mod reload;
mod schemes;
mod scopes;
mod serve;
mod services;
mod signing_keys;
mod site_tokens;
mod stopped_tickets;
mod systemd;
mod takeover;
mod technical_users;
mod token_exchange;
mod token_form;
mod token_page;
mod websocket;
mod zaas;
mod zowe_revocations;
mod zowe_tickets;
mod zowe_yaml;
