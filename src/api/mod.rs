//! The auth endpoints of a gateway: logging in and out, PassTickets, Personal Access Tokens and
//! their revocation.
//!
//! [`AuthApi`] is one Tower service for everything below [`PREFIX`]. It stands beside the proxy,
//! not in front of it.
//!
//! | endpoint | who may | success |
//! |---|---|---|
//! | `POST login` | Basic, else a JSON body, else a client certificate | 204 and the login cookie |
//! | `POST logout` | the login cookie, else `Bearer` | 204 |
//! | `GET query` | the login cookie, else `Bearer` | 200 and what the token says |
//! | `POST refresh` | a client certificate, and the login cookie or `Bearer` | 204 and a new login cookie |
//! | `POST ticket` | a client certificate, and the login cookie or `Bearer` | 200 and a PassTicket |
//! | `POST delegate/passticket` | a client certificate, with `READ` on `APIML.DELEGATE.PASSTICKET` | 200 and a PassTicket for another |
//! | `GET keys/public` | everybody | 200 and the key in PEM |
//! | `GET keys/public/all`, `…/current` | everybody | 200 and the key as a JWK set (RFC 7517) |
//! | `GET openapi.json` | everybody | 200 and the description of all this (OpenAPI 3.1) |
//! | `POST access-token/generate` | Basic, else a client certificate | 200 and the token as text |
//! | `POST access-token/validate` | whoever has the token | 200 |
//! | `DELETE access-token/revoke` | whoever has the token | 200 |
//! | `DELETE access-token/revoke/tokens` | Basic, else a client certificate | 200 |
//! | `DELETE access-token/revoke/tokens/user`, `…/users` | the same, with `READ` on `APIML.SERVICES` | 200 |
//! | `DELETE access-token/revoke/tokens/scope` | the same, with `READ` on `APIML.SERVICES` | 200 |
//! | `DELETE access-token/evict` | the same, with `UPDATE` on `APIML.SERVICES` | 204 |
//!
//! Each one is described [below](#endpoints-in-detail), with a command to try it.
//!
//! Requests and answers are those of Zowe API ML (zowe-endpoints §1), with these rules:
//!
//! 1. One credential is evaluated. A `Basic` header that is present and wrong is not rescued by a
//!    body or a certificate.
//! 2. A Personal Access Token is never a credential here: it can neither mint nor show nor revoke
//!    another. Whoever has one can revoke that one.
//! 3. Personal Access Tokens, client certificates, `refresh` and [`Delegation`] are off until they
//!    are turned on.
//!    What is off answers 404; without client certificates `ticket` answers 403 to everybody.
//! 4. What is answered with success is done, as durably as the [`RevocationStore`] does it. A store
//!    that fails is a 503.
//! 5. Every 4xx and 5xx is a JSON [`ApiMessage`](crate::messages::ApiMessage), made from one
//!    [`ApiError`], which stands in the extensions of the response.
//!    [`Compatibility`] says where the running Zowe API ML answers differently, and makes this
//!    service do so too.
//! 6. A 401 carries a challenge (RFC 9110 §11.6.1), but never `Basic`, at which a browser would
//!    put its own dialogue in front of the page that asks: `Bearer` where a token was asked for,
//!    otherwise the unregistered `xBasic` (`Certificate` where only that counts), which tells a
//!    person what is wanted and which browsers ignore.
//!
//! # What is audited
//! [`with_audit`](AuthApi::with_audit) names where the [records](crate::audit) go. A request of
//! an endpoint in this table is one record, whatever comes of it. Nobody proves anything at the
//! others, and paths and methods that are not there are not recorded.
//!
//! | endpoint | event | besides user, credential and outcome |
//! |---|---|---|
//! | `login` | `login` | the token that was issued, whether the password was to be changed |
//! | `logout` | `logout` | the token |
//! | `query` | `authentication` | the token |
//! | `refresh` | `refresh` | the token, the one that was issued, the certificate |
//! | `ticket` | `ticket` | the token, the certificate, the APPLID, the return codes |
//! | `delegate/passticket` | `delegated-ticket` | the certificate, the APPLID, the address, whose it is |
//! | `access-token/generate` | `token-minted` | scopes, days, the token that was issued |
//! | `access-token/validate` | `authentication` | the token, the service |
//! | `access-token/revoke` | `token-revoked` | the token |
//! | `access-token/revoke/tokens` and below | `rule-made` | whose tokens, up to when |
//! | `access-token/evict` | `evicted` | how many |
//!
//! A request that is given up before it is answered is recorded as `abandoned`: what it asked for
//! may have been done.
//!
//! # Paths and clients
//! The path of a request must be whole when it arrives: a router that cuts off the prefix of what
//! it mounts (axum's `nest_service`) makes every path unknown; use `route_service` or a fallback.
//! Slow and idle clients are for the server in front to end.
//!
//! [`RevocationStore`]: crate::revocation::RevocationStore
//!
//! ```
//! use bytes::Bytes;
//! use http::Request;
//! use http_body_util::Full;
//! use tower::ServiceExt;
//! use tower_passticket::{
//!     api::{AuthApi, AuthParts, FileLogin, Password, hash_password},
//!     passticket::{KeyProfiles, LocalGenerator, UserId},
//!     revocation::RevocationIndex,
//!     saf::{AccessLevel, FileSaf, Profile, ProfileName},
//!     token::{SigningKey, TokenIssuer, Rs256Verifier, Validity},
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let pem = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)?;
//! # let pem = pem.serialize_pem();
//! let key = SigningKey::from_pem(pem.as_bytes())?;
//! let public = key.verifying_key();
//! let user = UserId::new("USER")?;
//! let api = AuthApi::new(AuthParts {
//!     issuer: TokenIssuer::new(key),
//!     verifier: Rs256Verifier::new(public.clone()),
//!     key: public,
//!     login: FileLogin::new([(user, hash_password(&Password::new("validPassword"))?)])?,
//!     revocations: RevocationIndex::default(),
//!     saf: FileSaf::new([
//!         Profile::new("ZOWE", ProfileName::new("APIML.SERVICES")?)
//!             .permit(user, AccessLevel::Update),
//!     ]),
//!     tickets: LocalGenerator::new(KeyProfiles::default()),
//! })
//! .with_personal_access_tokens(Validity::MAX);
//!
//! let request = Request::post("/gateway/api/v1/auth/login")
//!     .body(Full::<Bytes>::from(r#"{"username": "user", "password": "validPassword"}"#))?;
//! let response = api.oneshot(request).await?;
//! assert_eq!(response.status(), 204);
//! let cookie = response.headers()["set-cookie"].to_str()?;
//! assert!(cookie.starts_with("apimlAuthenticationToken=ey"));
//! assert!(cookie.ends_with("; Path=/; SameSite=Strict; HttpOnly; Secure"));
//! # Ok(())
//! # }
//! ```
//!
//! # Endpoints in detail
#![doc = include_str!("endpoints.md")]

mod access_token;
mod audit;
mod authenticate;
mod body;
mod compatibility;
mod delegate;
mod delegation;
mod error;
mod file_login;
mod keys;
mod login;
mod login_throttle;
mod logout;
mod openapi;
mod password_hash;
mod permission;
mod provider;
mod query;
mod revocation_rules;
mod service;
#[cfg(test)]
mod tests;
mod ticket;
mod validate;

pub use body::{BodyProblem, MAX_BODY_LEN};
pub use compatibility::Compatibility;
pub use delegation::{AllowList, Delegation, DelegationRefusal, Grant};
pub use error::{ApiError, BodyField, PatRefusal};
pub use file_login::{FileLogin, FileLoginError};
pub use password_hash::{HashError, PasswordHash, PasswordHashError, hash_password};
pub use permission::{GuardedTask, GuardingResources, Permission};
pub use provider::{LoginError, LoginFuture, LoginProvider, Password};
pub use service::{AuthApi, AuthParts, PREFIX};
