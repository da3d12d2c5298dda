//! z/OS single sign-on as Tower layers.
//!
//! For authors of a Rust proxy or web service in front of z/OS. A client sends a JWT, a client
//! certificate or a Personal Access Token (PAT). The service behind receives
//! `Authorization: Basic user:PassTicket`, or what another [`Scheme`](layer::Scheme) prepares. The layers
//! verify the credential, check the access and make the ticket in one process. Operators without
//! code of their own run the program `passticket-proxy`, which is made of this crate.
//!
//! ```text
//! accept ─► Sanitize ─► Route ─► Authenticate ─► Scope ─► Scheme ─► Forward ─► z/OS service
//!  peer      removes     finds    verifies one    checks   prepares   sends it
//!  certifi-  reserved    the      credential,     scopes   headers    over a pooled
//!  cate      headers     service  removes all     of PATs             connection
//! ```
//!
//! A stack in front of a service of your own:
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
//! // The service accepts tickets for this application, made with this key.
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
//!     // In a proxy: `proxy::Forward`.
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
//! | module | its one job | feature |
//! |---|---|---|
//! | [`passticket`] | generate and evaluate PassTickets, legacy and enhanced; user ids, APPLIDs, keys | core |
//! | [`token`] | JWTs and PATs: keys, issuing, verifying | core |
//! | [`revocation`] | revoked tokens, in memory; with the feature `store` in a crash-safe file | core |
//! | [`saf`] | access checks for resources, from a file; with the feature `remote` by ZSS | core |
//! | [`identity`] | from a certificate, an e-mail address or a name to a user id, from a file or by ZSS | core |
//! | [`audit`] | the audit log | core |
//! | [`layer`] | the Tower layers | core |
//! | [`messages`] | the messages of Zowe API ML, as HTTP responses | core |
//! | [`clock`], [`connection`] | the time; the connection of a request | core |
//! | `api` | the auth endpoints under `/gateway/api/v1/auth` | `api` |
//! | `proxy` | forwarding to services | `proxy` |
//! | `gateway` | the front router: auth API, health, routed stack | `proxy` |
//! | `remote` | HTTP clients for other servers | `remote` |
//! | `tls` | the TLS listener, and TLS towards services | `tls` |
//! | `test_util` | users, tokens and keys for tests of your handlers | `test-util` |
//!
//! The default is the core, which has no TLS and no HTTP client or server. `full` turns on all features
//! but `test-util`. No feature changes what another does.
//!
//! # Examples
//! - Handlers of an axum router: `examples/axum.rs`.
//! - A whole gateway in code: `examples/standalone_proxy.rs`.
//! - A service that evaluates PassTickets: `examples/southbound_service.rs`.
//! - One ticket: [`passticket`].

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "api")]
pub mod api;
pub mod audit;
#[cfg(any(feature = "api", feature = "proxy"))]
mod auth_prefix;
mod authority;
#[cfg(any(feature = "proxy", feature = "tls"))]
mod coalesce;
pub mod connection;
#[cfg(any(feature = "proxy", feature = "remote"))]
mod error_chain;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(feature = "proxy")]
pub mod gateway;
/// The decisions behind what this crate does, `docs/decisions.md`.
#[cfg(doc)]
#[doc = include_str!("../docs/decisions.md")]
pub mod decisions {}
mod headers;
pub mod identity;
pub mod layer;
pub mod messages;
#[cfg(feature = "proxy")]
pub mod proxy;
#[cfg(feature = "remote")]
pub mod remote;
pub mod revocation;
pub mod saf;
#[cfg(feature = "test-util")]
pub mod test_util;
#[cfg(feature = "tls")]
pub mod tls;
pub mod token;

/// Its bodies and I/O traits stand in signatures of this crate.
#[cfg(any(feature = "proxy", feature = "remote", feature = "tls"))]
#[doc(no_inline)]
pub use hyper;
#[doc(inline)]
pub use passticket::{self, clock};
/// For TLS configurations of your own: this is the version that this crate takes.
#[cfg(feature = "tls")]
#[doc(no_inline)]
pub use rustls;

/// Compiles the code of README.md.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
