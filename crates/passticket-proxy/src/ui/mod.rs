//! The pages on which users manage their Personal Access Tokens (docs/operating/token-page.md). A Personal Access Token
//! (PAT) is a token that a user gives to a program.
//!
//! The pages are a client of the auth API inside the process ([`auth_client`]). They have no rights of their own: each
//! change is a call of the auth API with the login token of the browser. All pages work without JavaScript.
//!
//! A new page needs a variant of [`paths::Page`], its HTML in [`views`], all its texts in [`texts`], and the code that
//! answers its requests in [`service`].

mod access;
mod assets;
mod audit_log;
mod auth_client;
mod commands;
mod cookies;
mod create_form;
mod csrf;
mod dates;
mod fault;
mod form;
mod health;
mod list_query;
mod notice;
mod paths;
mod response;
mod rule_form;
mod search_query;
mod service;
mod service_choices;
mod services;
mod texts;
mod trouble;
mod views;
mod with_pages;

pub(crate) use audit_log::AuditLog;
pub(crate) use service::{Ui, UiOptions};
pub(crate) use services::RoutePaths;
pub(crate) use with_pages::WithPages;
