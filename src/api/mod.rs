//! The auth endpoints of a gateway: log in, ask whose token it is, get a Personal Access Token.
//!
//! [`AuthApi`] is one Tower service for everything below [`PREFIX`]. It stands beside the proxy,
//! not in front of it.
//!
//! | endpoint | who may | success |
//! |---|---|---|
//! | `POST login` | Basic, else a JSON body, else a client certificate | 204 and the login cookie |
//! | `GET query` | the login cookie, else `Bearer` | 200 and what the token says |
//! | `POST access-token/generate` | Basic, else a client certificate | 200 and the token as text |
//! | `GET keys/public/all` | everybody | 200 and the key as a JWK set (RFC 7517) |
//!
//! Requests and answers are those of Zowe API ML (zowe-endpoints §1), with these rules:
//!
//! 1. One credential is evaluated. A `Basic` header that is present and wrong is not rescued by a
//!    body or a certificate.
//! 2. A Personal Access Token is never a credential here: it can neither mint nor show another.
//! 3. Personal Access Tokens and client certificates are off until they are turned on. While the
//!    tokens are off their endpoints answer 404.
//! 4. Every 4xx and 5xx is a JSON [`ApiMessage`](crate::message::ApiMessage), made from one
//!    [`ApiError`], which stands in the extensions of the response.
//! 5. A 401 carries a challenge (RFC 9110 §11.6.1), but never `Basic`, at which a browser would
//!    put its own dialogue in front of the page that asks: `Bearer` where a token was asked for,
//!    otherwise the unregistered `xBasic`, which tells a person what is wanted and which browsers
//!    ignore.
//!
//! The path of a request must be whole when it arrives: a router that cuts off the prefix of what
//! it mounts (axum's `nest_service`) makes every path unknown; use `route_service` or a fallback.
//! Slow and idle clients are for the server in front to end.
//!
//! ```
//! use bytes::Bytes;
//! use http::Request;
//! use http_body_util::Full;
//! use tower::ServiceExt;
//! use tower_passticket::{
//!     api::{AuthApi, FileLogin, Password, hash_password},
//!     passticket::UserId,
//!     token::{SigningKey, TokenIssuer, TokenVerifier},
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let pem = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)?;
//! # let pem = pem.serialize_pem();
//! let key = SigningKey::from_pem(pem.as_bytes())?;
//! let public = key.verifying_key();
//! let users = [(UserId::new("USER")?, hash_password(&Password::new("validPassword"))?)];
//! let api = AuthApi::new(
//!     TokenIssuer::new(key),
//!     TokenVerifier::new(public.clone()),
//!     public,
//!     FileLogin::new(users)?,
//! )
//! .with_personal_access_tokens();
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

mod access_token;
mod body;
mod caller;
mod error;
mod file;
mod keys;
mod login;
mod provider;
mod query;
mod service;
#[cfg(test)]
mod tests;

pub use body::MAX_BODY_LEN;
pub use error::ApiError;
pub use file::{FileLogin, FileLoginError, HashError, hash_password};
pub use provider::{LoginError, LoginProvider, Password};
pub use service::{AuthApi, PREFIX};
