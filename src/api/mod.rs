//! The auth endpoints of a gateway: login and logout, PassTickets, Personal Access Tokens and their
//! revocation.
//!
//! [`AuthApi`] is one Tower service for everything below its [`AuthPrefix`]. Put it beside the proxy:
//! it forwards nothing.
//!
//! | endpoint | credential | success |
//! |---|---|---|
//! | `POST login` | Basic, else a JSON body, else a client certificate | 204 and the login cookie |
//! | `POST logout` | the login cookie, else `Bearer` | 204 |
//! | `GET query` | the login cookie, else `Bearer` | 200 and the content of the token |
//! | `POST refresh` | a client certificate, and the login cookie or `Bearer` | 204 and a new login cookie |
//! | `POST ticket` | a client certificate, and the login cookie or `Bearer` | 200 and a PassTicket |
//! | `POST delegate/passticket` | a client certificate, with `READ` on `APIML.DELEGATE.PASSTICKET` | 200 and a PassTicket for another user |
//! | `GET keys/public` | none | 200 and the key in PEM |
//! | `GET keys/public/all`, `…/current` | none | 200 and the key as a JWK set (RFC 7517) |
//! | `GET openapi.json` | none | 200 and a description of the endpoints (OpenAPI 3.1) |
//! | `POST access-token/generate` | Basic, else a client certificate | 200 and the token as text |
//! | `POST access-token/validate` | the token in the body | 200 |
//! | `DELETE access-token/revoke` | the token in the body | 200 |
//! | `DELETE access-token/revoke/tokens` | Basic, else a client certificate | 200 |
//! | `DELETE access-token/revoke/tokens/user`, `…/users` | the same, with `READ` on `APIML.SERVICES` | 200 |
//! | `DELETE access-token/revoke/tokens/scope` | the same, with `READ` on `APIML.SERVICES` | 200 |
//! | `DELETE access-token/evict` | the same, with `UPDATE` on `APIML.SERVICES` | 204 |
//!
//! Each endpoint is described [below](#endpoints-in-detail), with a command to try it.
//!
//! Requests and responses are those of Zowe API ML
//! (`docs/reference/auth-endpoints.md`), with these rules:
//!
//! 1. One credential is evaluated. If there is a `Basic` header and it is wrong, the body and the
//!    certificate are not tried.
//! 2. A Personal Access Token is not a credential here: it can neither issue nor list nor revoke other
//!    tokens. Its holder can revoke it.
//! 3. PassTickets, Personal Access Tokens, client certificates, `refresh` and [`Delegation`] are off
//!    until they are turned on. An endpoint that is off answers 404. Without client certificates
//!    `ticket` answers 403.
//! 4. A success means that the effect is as durable as the [`RevocationStore`] makes it. If the store
//!    fails, the status is 503.
//! 5. Every 4xx and 5xx has a JSON [`ApiMessage`](crate::messages::ApiMessage) that is made from one
//!    [`ApiError`]. The response has the error in its extensions. [`Compatibility`] lists where the
//!    running Zowe API ML answers differently, and makes this service do the same.
//! 6. A 401 has a challenge (RFC 9110 §11.6.1), but never `Basic`, for which a browser would open its
//!    own dialogue over the page. The challenge is `Bearer` where a token is needed, `Certificate`
//!    where only a certificate counts, else `xBasic`. The last two are not registered; browsers ignore
//!    them, and a person sees what is needed.
//!
//! # Audit records
//! [`with_audit`](AuthApi::with_audit) sets the receiver of the [records](crate::audit). A request of
//! an endpoint in this table has one record, whatever its outcome. The other endpoints need no
//! credential and have no records, and neither have unknown paths and methods.
//!
//! | endpoint | event | fields beside user, credential and outcome |
//! |---|---|---|
//! | `login` | `login` | the issued token, whether the request changes the password |
//! | `logout` | `logout` | the token |
//! | `query` | `authentication` | the token |
//! | `refresh` | `refresh` | the token, the issued token, the certificate |
//! | `ticket` | `ticket` | the token, the certificate, the APPLID, the return codes |
//! | `delegate/passticket` | `delegated-ticket` | the certificate, the APPLID, the address, its user |
//! | `access-token/generate` | `token-minted` | scopes, days, the issued token |
//! | `access-token/validate` | `authentication` | the token, the service |
//! | `access-token/revoke` | `token-revoked` | the token |
//! | `access-token/revoke/tokens` and below | `rule-made` | the user or service, the time |
//! | `access-token/evict` | `evicted` | the number of revocations |
//!
//! If the client disconnects before the response, the outcome is `abandoned`: what the client asked
//! for may have been done.
//!
//! # Paths and timeouts
//! A request must arrive with its whole path. A router that removes the prefix (axum's `nest_service`)
//! makes every path unknown; use `route_service` or a fallback. The server in front limits how long
//! slow and idle clients may take.
//!
//! [`RevocationStore`]: crate::revocation::RevocationStore
//!
//! ```
//! use bytes::Bytes;
//! use http::Request;
//! use http_body_util::Full;
//! use tower::ServiceExt;
//! use tower_passticket::{
//!     api::{AuthApi, FileLogin, Password, hash_password},
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
//! let issuer = TokenIssuer::new(SigningKey::from_pem(pem.as_bytes())?);
//! let verifier = Rs256Verifier::new(issuer.verifying_key());
//! let user = UserId::new("USER")?;
//! let login = FileLogin::new([(user, hash_password(&Password::new("validPassword"))?)])?;
//! let services = Profile::new("ZOWE", ProfileName::new("APIML.SERVICES")?);
//! let saf = FileSaf::new([services.permit(user, AccessLevel::Update)]);
//!
//! let api = AuthApi::new(issuer, verifier, login, RevocationIndex::default())
//!     .with_passtickets(LocalGenerator::new(KeyProfiles::default()))
//!     .with_personal_access_tokens(Validity::MAX)
//!     .with_saf(saf);
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
mod authenticate;
mod authorize;
mod body;
mod certificates;
mod compatibility;
mod credentials;
mod delegate;
mod delegation;
mod endpoint;
mod error;
mod file_login;
mod keys;
mod login;
mod login_throttle;
mod login_tokens;
mod logout;
mod openapi;
mod password_hash;
mod permission;
mod provider;
mod query;
mod record;
mod response;
mod revocation_rules;
mod revocations;
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
pub use response::ResponseBody;
pub use service::AuthApi;

pub use crate::auth_prefix::{AuthPrefix, AuthPrefixError};
