//! z/OS single sign-on as Tower layers.
//!
//! A client comes with a JWT, a client certificate or a Personal Access Token. The mainframe service
//! behind wants `Authorization: Basic user:PassTicket`. The layers in between find out who is
//! asking, check that they may, and make the ticket, in one process and without asking anybody.
//!
//! ```text
//! TLS accept ─► Sanitize ─► Route ─► Authenticate ─► Scope ─► PassTicket ─► Forward ─► service
//!  peer cert     drop what   which     who is asking   may this   Basic user:   connections
//!  in an         only the    service,  (one            PAT go     ticket, or    that are
//!  extension     gateway     APPLID,   credential,     there      X-Zowe-Auth-  kept
//!                may set     scheme    verified)                  Failure
//! ```
//!
//! # Where things are
//! | module | its one job | feature |
//! |---|---|---|
//! | [`passticket`] | generate and evaluate PassTickets, legacy and enhanced; user ids, APPLIDs, keys | core |
//! | [`token`] | JWTs and PATs: keys, issuing, verifying | core |
//! | [`revocation`] | which tokens are revoked; in memory, or durable with the feature `store` | core |
//! | [`saf`] | who may do what to which resource; from a file, or asked with the feature `remote` | core |
//! | [`identity`] | client certificate, e-mail address or name to user id; likewise | core |
//! | [`audit`] | who asked for what, and what was decided | core |
//! | [`layer`] | the Tower layers | core |
//! | [`messages`] | the messages of Zowe, and errors as HTTP | core |
//! | [`clock`], [`connection`] | what time it is; who is connected | core |
//! | `api` | the auth endpoints | `api` |
//! | `proxy` | forwarding to the services | `proxy` |
//! | `remote` | HTTP clients for other services | `remote` |
//! | `tls` | the listener, and TLS to the services | `tls` |
//!
//! The default is the core, which has no TLS and no HTTP client or server in it. `store`, `api`, `proxy`,
//! `remote` and `tls` add to it, and `full` is all of them. No feature changes what another does.
//!
//! # Where to begin
//! - The layers on a router of your own: `examples/axum.rs`.
//! - A whole gateway in code: `examples/standalone_proxy.rs`.
//! - A service that takes PassTickets: `examples/southbound_service.rs`.
//! - One ticket: [`passticket`].

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "api")]
pub mod api;
pub mod audit;
mod authority;
#[cfg(any(feature = "proxy", feature = "tls"))]
mod coalesce;
pub mod connection;
#[cfg(any(feature = "proxy", feature = "remote"))]
mod error_chain;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod identity;
pub mod layer;
pub mod messages;
#[cfg(feature = "proxy")]
pub mod proxy;
#[cfg(feature = "remote")]
pub mod remote;
pub mod revocation;
pub mod saf;
#[cfg(feature = "tls")]
pub mod tls;
pub mod token;

#[doc(inline)]
pub use passticket::{self, clock};

/// Compiles the code of README.md.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
