//! z/OS single sign-on as Tower layers.
//!
//! This crate is for authors of a Rust proxy or web service in front of z/OS. A client sends a JWT, a client
//! certificate or a Personal Access Token (PAT). The layers verify this credential, check access, and make a
//! PassTicket: a password that is valid for one user and one application, and only for a few minutes. The z/OS service
//! receives `Authorization: Basic user:PassTicket`, or the headers of another [`Scheme`](layer::Scheme). The program
//! `passticket-proxy` does the same without any code of yours.
//!
//! ```text
//! accept ─► Sanitize ─► Route ─► Authenticate ─► Scope ─► Scheme ─► Forward ─► z/OS service
//!  peer      removes     finds    verifies one    checks   prepares   sends the
//!  certifi-  reserved    the      credential,     scopes   headers    request over a
//!  cate      headers     service  removes all     of PATs             pooled connection
//! ```
//!
//! This example is a stack of layers in front of your own service:
//!
//! ```
//! use std::convert::Infallible;
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_passticket::{
//!     layer::{
//!         AuthenticateLayer, Authenticator, PassTicketScheme, Route, RouteLayer, Routes,
//!         SanitizeLayer, SchemeLayer, ScopeLayer,
//!     },
//!     passticket::{Algorithm, Applid, KeyProfile, KeyProfiles, LocalGenerator, Replay, UserId},
//!     token::{Rs256Verifier, ServiceId, SigningKey, TokenIssuer},
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let pem = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)?;
//! # let pem = pem.serialize_pem();
//! // The service accepts PassTickets for this application name (APPLID) and this PassTicket key.
//! let applid = Applid::new("ZOWEAPPL")?;
//! let profile = KeyProfile::from_hex(applid, Algorithm::Legacy, "E001193519561977")?
//!     .with_replay(Replay::Allowed);
//! let tickets = LocalGenerator::new(KeyProfiles::new([profile])?);
//! let route = Route::new(
//!     ServiceId::new("files")?,
//!     "api/v1",
//!     "https://zos.example.com".parse()?,
//!     PassTicketScheme::new(applid, tickets),
//! )?;
//! let key = SigningKey::from_pem(pem.as_bytes())?;
//! let verifier = Rs256Verifier::new(key.verifying_key());
//!
//! let stack = ServiceBuilder::new()
//!     .layer(SanitizeLayer::new())
//!     .layer(RouteLayer::new(Routes::new([route])?))
//!     .layer(AuthenticateLayer::new(Authenticator::new(verifier)))
//!     .layer(ScopeLayer::new())
//!     .layer(SchemeLayer::new())
//!     // In a proxy, this service is `proxy::Forward`.
//!     .service(service_fn(|request: Request<Full<Bytes>>| async move {
//!         let authorization = request.headers()["authorization"].to_str().unwrap();
//!         assert!(authorization.starts_with("Basic "));
//!         Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
//!     }));
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let token = TokenIssuer::new(key).login_token(&UserId::new("USER")?, "domain")?;
//! let request = Request::get("/files/api/v1/list")
//!     .header("authorization", format!("Bearer {}", token.expose()))
//!     .body(Full::default())?;
//! assert_eq!(stack.oneshot(request).await?.status(), 200);
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok(())
//! # }
//! ```
//!
//! # Modules
//! | module | content | feature |
//! |---|---|---|
//! | [`passticket`] | generates and evaluates PassTickets, legacy and enhanced; user ids, APPLIDs, keys | core |
//! | [`token`] | issues and verifies JWTs and PATs; signing keys | core |
//! | [`revocation`] | revoked tokens, in memory or (feature `store`) in a crash-safe file | core |
//! | [`saf`] | checks access to resources, with a file or (feature `remote`) with ZSS | core |
//! | [`identity`] | maps a certificate, an e-mail address or a name to a user id | core |
//! | [`audit`] | the audit log | core |
//! | [`access_log`] | the access log: one line for each request | core |
//! | [`layer`] | the Tower layers | core |
//! | [`messages`] | the messages of Zowe API ML, as HTTP responses | core |
//! | [`clock`] | the current time, also for tests | core |
//! | [`metrics`] | counters and gauges, and their text for Prometheus | core |
//! | [`health`] | whether a component works | core |
//! | [`connection`] | addresses and protocol of the connection of a request | core |
//! | [`request_facts`] | facts about a request for the access log, such as how it ended | core |
//! | `api` | the auth endpoints under `/gateway/api/v1/auth` | `api` |
//! | `proxy` | forwarding to services | `proxy` |
//! | `gateway` | the front router: auth API, health endpoint, routed requests | `proxy` |
//! | `cluster` | several nodes that share revocations, time slots and failed logins over Redis | `redis` |
//! | `ticket_breaker` | stops making PassTickets for a user or an APPLID, if a service has refused several PassTickets or if the clocks differ | `proxy` or `remote` |
//! | `login_failures` | limits on failed logins, and counts that several nodes share | `api` or `redis` |
//! | `remote` | HTTP clients for other servers | `remote` |
//! | `zaas` | the endpoints that a gateway of Zowe API ML calls | `api` and `proxy` |
//! | `apiml` | keys and PassTickets of a running API ML | `remote` |
//! | `eureka` | services that are registered in the Eureka of API ML | `remote` |
//! | `zosmf` | logins at z/OSMF, IBM's management server on z/OS | `remote` |
//! | `tls` | the TLS listener, and TLS towards services | `tls` |
//! | `test_util` | users, tokens and keys for tests of your handlers | `test-util` |
//!
//! SAF is the z/OS interface to the security product. ZSS (Zowe System Services) is a server that calls SAF for other
//! programs. API ML is the Zowe API Mediation Layer. This crate can replace its gateway.
//!
//! By default, only the core is compiled. The core contains no TLS and no HTTP client or server. The feature `full`
//! turns on all features except `test-util` and `fuzzing`. A feature never changes the behaviour of another feature.
//!
//! # Examples
//! - Handlers of an axum router behind the layers: `examples/axum.rs`.
//! - A complete gateway in code: `examples/standalone_proxy.rs`.
//! - A service that evaluates PassTickets: `examples/southbound_service.rs`.
//! - Generating one PassTicket: [`passticket`].

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod access_log;
#[cfg(feature = "api")]
pub mod api;
#[cfg(feature = "remote")]
pub mod apiml;
#[cfg_attr(
    not(any(feature = "api", feature = "proxy", test)),
    expect(dead_code, reason = "only the auth API and the front router find these endpoints")
)]
mod apiml_path;
pub mod audit;
#[cfg(any(feature = "api", feature = "proxy"))]
mod auth_prefix;
mod authority;
#[cfg(any(feature = "api", feature = "proxy", feature = "tls"))]
mod body_wait;
#[cfg(feature = "redis")]
pub mod cluster;
#[cfg(any(feature = "proxy", feature = "tls"))]
mod coalesce;
mod compatibility;
pub mod connection;
#[cfg(any(feature = "proxy", feature = "remote"))]
mod error_chain;
#[cfg(feature = "remote")]
pub mod eureka;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(feature = "proxy")]
pub mod gateway;
/// The design decisions of this crate: `docs/decisions.md`.
#[cfg(doc)]
#[doc = include_str!("../docs/decisions.md")]
pub mod decisions {}
mod headers;
pub mod health;
mod hexadecimal;
#[cfg(feature = "proxy")]
mod http2_negotiation;
pub mod identity;
pub mod layer;
mod log_limit;
#[cfg(any(feature = "api", feature = "redis"))]
pub mod login_failures;
pub mod messages;
pub mod metrics;
#[cfg(feature = "proxy")]
pub mod proxy;
#[cfg(feature = "remote")]
pub mod remote;
pub mod request_facts;
pub mod revocation;
pub mod saf;
#[cfg(any(feature = "proxy", feature = "tls"))]
mod stall;
#[cfg(feature = "test-util")]
pub mod test_util;
#[cfg(any(feature = "proxy", feature = "remote"))]
#[cfg_attr(
    not(feature = "proxy"),
    expect(dead_code, unused_imports, reason = "only routes watch the answers of services")
)]
pub mod ticket_breaker;
#[cfg(feature = "tls")]
pub mod tls;
pub mod token;
#[cfg(any(feature = "proxy", feature = "tls"))]
mod tunnel;
#[cfg(all(feature = "api", feature = "proxy"))]
pub mod zaas;
#[cfg(feature = "remote")]
pub mod zosmf;

/// Re-exports `hyper`, because signatures of this crate use hyper's bodies and I/O traits.
#[cfg(any(feature = "proxy", feature = "remote", feature = "tls"))]
#[doc(no_inline)]
pub use hyper;
#[doc(inline)]
pub use passticket::{self, clock};
/// Re-exports `rustls`, because this crate accepts only the types of this version.
#[cfg(feature = "tls")]
#[doc(no_inline)]
pub use rustls;

/// Runs the code examples of README.md as doc tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
