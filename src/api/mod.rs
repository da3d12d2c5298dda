//! The auth endpoints of a gateway: login and logout, PassTickets (one-time passwords of z/OS), Personal Access Tokens
//! and their revocation.
//!
//! [`AuthApi`] is one Tower service for all paths below its [`AuthPrefix`]. It answers each request itself and forwards
//! none. A router in front of `AuthApi` must send requests with other paths to the proxy.
//!
//! | endpoint | credential | success |
//! |---|---|---|
//! | `POST login` | Basic, else a JSON body, else a client certificate | 204 and the login cookie |
//! | `POST logout` | the login cookie, else `Bearer` | 204 |
//! | `GET query` | the login cookie, else `Bearer` | 200 and the content of the token |
//! | `POST refresh` | a client certificate, and the login cookie or `Bearer` | 204 and a new login cookie |
//! | `POST ticket` | a client certificate, and the login cookie or `Bearer` | 200 and a PassTicket |
//! | `POST delegate/passticket` | a client certificate, with `READ` on `APIML.DELEGATE.PASSTICKET` | 200 and a PassTicket for another user |
//! | `POST token` | the token of a user in the body, and a client certificate or the client's own token (RFC 8693 `actor_token`). The user of the certificate or of this second token needs a [`Grant`] and `READ` on `APIML.DELEGATE.PASSTICKET`. If [`TokenExchange::with_bearer_applids`] names the APPLID, the token of the user is enough | 200 and a PassTicket for the user of the token (RFC 8693) |
//! | `GET keys/public` | none | 200 and the key of new tokens in PEM |
//! | `GET keys/public/all` | none | 200 and all keys for tokens of this gateway as a JWK set (RFC 7517) |
//! | `GET keys/public/current` | none | 200 and the key of new tokens as a JWK set |
//! | `GET openapi.json` | none | 200 and a description of the endpoints (OpenAPI 3.1) |
//! | `POST access-token/generate` | Basic, else a client certificate | 200 and the token, as text or as JSON |
//! | `POST access-token/validate` | the token in the body | 200 |
//! | `DELETE access-token/revoke` | the token in the body | 200 |
//! | `DELETE access-token/revoke/tokens` | Basic, else a client certificate | 200 |
//! | `DELETE access-token/revoke/tokens/user`, `…/users` | Basic, else a client certificate; with `READ` on `APIML.SERVICES` | 200 |
//! | `DELETE access-token/revoke/tokens/scope` | Basic, else a client certificate; with `READ` on `APIML.SERVICES` | 200 |
//! | `DELETE access-token/evict` | Basic, else a client certificate; with `UPDATE` on `APIML.SERVICES` | 204 |
//! | `GET access-tokens` | the login cookie, else `Bearer`, else Basic, else a client certificate | 200 and a page of tokens |
//! | `POST access-tokens` | the same | 201 and a new token |
//! | `DELETE access-tokens` | the same; with `READ` on `APIML.SERVICES` if the tokens are of another user or for a service | 204 |
//! | `GET access-tokens/permissions` | the same | 200 and the tasks of administrators that the caller may do |
//! | `POST access-tokens/evict` | the same; with `UPDATE` on `APIML.SERVICES` | 200 and the numbers of removed revocations |
//! | `GET access-tokens/{id}` | the same as for `GET access-tokens` | 200 and the token's entry |
//! | `PATCH access-tokens/{id}` | the same | 200 and the token's entry |
//! | `DELETE access-tokens/{id}` | the same | 204 |
//! | `POST access-tokens/{id}/rotate` | the same | 200 and a new token |
//! | `GET access-tokens/self` | a PAT | 200 and the token's entry |
//! | `POST access-tokens/self/rotate` | a PAT | 200 and a new token |
//! | `POST oidc-token/validate` | the token in the body | 204 |
//!
//! `APIML.SERVICES` and `APIML.DELEGATE.PASSTICKET` are resources in the security product of z/OS (RACF, ACF2 or Top
//! Secret). `READ` and `UPDATE` are access levels of a user to a resource: see [`GuardingResources`]. SAF is the z/OS
//! interface to the security product. An APPLID is the name of an application in the security product. A caller of
//! `access-tokens` who wants to see or revoke PATs of other users needs `READ` on `APIML.SERVICES`.
//!
//! With [`ApimlEndpoints`], `AuthApi` also answers some paths outside of the prefix, such as
//! `/gateway/api/v1/services`. The gateway of API ML (Zowe's API Mediation Layer) answers the same paths. The router
//! must send requests with these paths to `AuthApi`.
//!
//! The section [Endpoints in detail](#endpoints-in-detail) describes each endpoint, with a command to try it. If API ML
//! has the same endpoint, `AuthApi` accepts the same requests as API ML (`docs/reference/auth-endpoints.md`). The
//! profile decides which responses `AuthApi` sends (rule 5). These rules apply:
//!
//! 1. Where the table says "else", `AuthApi` evaluates only the first credential that the request has. For example, if
//!    the `Basic` header is wrong, `AuthApi` does not try the body or the certificate.
//! 2. A Personal Access Token (PAT) is a credential only for `access-tokens/self` and `access-tokens/self/rotate`. So a
//!    client with only a PAT can replace this PAT, but cannot get further tokens. In a body, a client can send a PAT to
//!    `access-token/validate` and `access-token/revoke`. If [`TokenExchange`] allows this, a client can also send a PAT
//!    to `token`, and gets a PassTicket for a service in the scopes of the PAT.
//! 3. PassTickets, PATs, client certificates, `refresh`, the registry of PATs (`access-tokens`), [`Delegation`],
//!    [`TokenExchange`] and [`ApimlEndpoints`] are off by default. An endpoint that is off answers 404. If client
//!    certificates are off, each endpoint that needs a certificate refuses all requests, even if the endpoint is on:
//!    `ticket` and `refresh` answer 403, and `delegate/passticket` answers 401.
//! 4. An endpoint that revokes tokens answers with success only after the [`RevocationStore`] has stored
//!    the revocation. If the store fails, the status is 503.
//! 5. Each 4xx and 5xx response has an [`ApiError`] in its extensions. The only exception is the 503 of
//!    `/application/health` (see [`ApimlEndpoints`]) if the gateway is DOWN. The body of an error response is a JSON
//!    [`ApiMessage`](crate::messages::ApiMessage). If a client of `access-token/validate` asks for JSON, the 401 about
//!    a token also contains a reason code. In the profile [`Compatibility::ZoweV3`], some of these responses have no
//!    body, and the response for an unknown service has the body that API ML sends. The default profile follows the
//!    documentation of Zowe, and `ZoweV3` follows the running Zowe API ML. [`Compatibility`] lists the differences. If
//!    `token` answers with an error other than 403, 404 or 405, the body has the form of RFC 6749 §5.2 instead. This
//!    body contains the number and the text of the message.
//! 6. A 401 response has a challenge (RFC 9110 §11.6.1): `Bearer` if a needed token is missing or not valid,
//!    `Certificate` if only a certificate is accepted, and `xBasic` in all other cases. `Certificate` and `xBasic` are
//!    not registered schemes, and browsers ignore them. The challenge is never `Basic`, because a browser would answer
//!    `Basic` with its own login dialogue.
//! 7. The response to `OPTIONS` is 204, with the methods of the endpoint in `Allow`. The request needs no credential.
//!    With [`ForeignOrigins::Refused`](crate::layer::ForeignOrigins::Refused), the status is 403 if the request comes
//!    from a web page of another origin.
//! 8. A web page of another origin can make a browser send a request. If the method is not `GET`, `HEAD` or `OPTIONS`,
//!    the status is 403 in two cases: the browser attached a credential, or the request is for `login` or `token`. The
//!    [`OriginPolicy`](crate::layer::OriginPolicy) can allow requests from some origins, or refuse requests in further
//!    cases. The status is also 403 if a script of a page at the gateway's own address asks for a new PAT with a
//!    credential that the browser attaches ([`ApiError::ScriptRequest`]). Only one `GET` can change tokens or
//!    revocations, and this is `GET access-tokens/self`. If the registry does not contain the PAT of the request, the
//!    gateway adds this PAT. If the PAT was rotated and its grace period has ended, the gateway revokes its family: the
//!    PATs that have replaced one another (docs/decisions.md#d36).
//!
//! # Audit records
//! [`with_audit`](AuthApi::with_audit) sets the destination of the audit [records](crate::audit). For each request to
//! an endpoint in the following table, `AuthApi` writes one record, even if the request fails. `OPTIONS` requests and
//! requests with unknown paths have no records. Endpoints that are not in the table need no credential and have no
//! records. Requests with wrong methods have records only at the endpoints of [`ApimlEndpoints`].
//!
//! | endpoint | event | fields in addition to user, credential and outcome |
//! |---|---|---|
//! | `login` | `login` | the issued token, whether the client requested a password change |
//! | `logout` | `logout` | the token |
//! | `query` | `authentication` | the token |
//! | `refresh` | `refresh` | the token, the issued token, the certificate |
//! | `ticket` | `ticket` | the token, the certificate, the APPLID, the return codes |
//! | `delegate/passticket` | `delegated-ticket` | the certificate, the APPLID, the e-mail address, the user to whom the address is mapped |
//! | `token` | `token-exchange` | the certificate, the token, the APPLID, the user of the PassTicket, the kind of the token, the actor token, earlier actors |
//! | `access-token/generate` | `token-minted` | scopes, days, the issued token |
//! | `access-token/validate` | `authentication` | the token, the service |
//! | `access-token/revoke` | `token-revoked` | the token |
//! | `access-token/revoke/tokens` and below | `rule-made` | the user or service, the time |
//! | `access-token/evict`, `access-tokens/evict` | `evicted` | the number of revocations |
//! | `POST access-tokens` | `token-minted` | scopes, days, the issued token |
//! | `DELETE access-tokens` | `rule-made` | the user or service, the time |
//! | `GET access-tokens`, `GET access-tokens/permissions`, `GET access-tokens/self`, `GET access-tokens/{id}` | `authentication` | the token, the user of the tokens if it is not the caller |
//! | `PATCH access-tokens/{id}` | `token-changed` | the id of the token |
//! | `DELETE access-tokens/{id}` | `token-revoked` | the id of the token, its user if it is not the caller |
//! | `access-tokens/{id}/rotate`, `access-tokens/self/rotate` | `token-rotated` | the old token or its id, the issued token |
//! | `oidc-token/validate` | `authentication` | the token |
//! | services and access check of [`ApimlEndpoints`], and its health if it is protected | `authentication` | the token, the certificate |
//!
//! If the client disconnects or a time limit passes before the response, the reason in the record is `abandoned`. The
//! gateway may have completed the request nevertheless.
//!
//! # Paths and timeouts
//! The URI of a request must contain the whole path, with the prefix. axum's `nest_service` removes the prefix, so
//! `AuthApi` would answer 404 to every request. Use `route_service` or a fallback service instead. `AuthApi` does not
//! limit the time to read a request body, so the HTTP server must limit slow and idle clients.
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

mod access_check;
mod access_token;
mod access_tokens;
mod any_credential;
mod apiml_endpoints;
mod authenticate;
mod authorize;
mod basic_login;
mod body;
mod certificates;
mod compatibility;
mod credentials;
mod delegate;
mod delegation;
mod endpoint;
mod error;
mod exchange;
mod exchange_error;
mod exchange_policy;
mod exchange_request;
mod failure_counts;
mod file_login;
#[cfg(feature = "remote")]
mod issuer_logout;
mod keys;
mod login;
mod login_memory;
mod login_throttle;
mod login_tokens;
mod logout;
mod logout_listener;
mod oidc_token;
mod openapi;
mod password_hash;
mod password_memory;
mod permission;
mod platform_error;
mod provider;
mod query;
mod record;
mod registry;
mod response;
mod revocation_rules;
mod revocations;
mod rfc3339;
mod service;
mod service_list;
mod sessions;
mod shared_waits;
#[cfg(test)]
mod tests;
mod ticket;
mod token_bounds;
mod token_json;
mod token_query;
mod validate;
mod validation_answer;
#[cfg(feature = "remote")]
mod zosmf_login;
#[cfg(feature = "remote")]
mod zss_login;

pub use crate::login_failures::FailureLimit;
pub use apiml_endpoints::{ApimlEndpoints, HealthAccess};
pub use basic_login::BasicLogin;
pub use body::{BodyProblem, MAX_BODY_LEN};
#[cfg(feature = "proxy")]
pub(crate) use body::{ReadError as BodyReadError, object as json_object, read as read_body};
pub use compatibility::Compatibility;
pub use delegation::{AllowList, Delegation, DelegationRefusal, Grant};
pub use error::{
    ApiError, BodyField, ExchangeError, ExchangePart, NotRotated, OidcRefusal, PatRefusal,
};
pub use exchange_error::OAuthCode;
pub use exchange_policy::TokenExchange;
pub use exchange_request::ExchangeProblem;
pub use file_login::{FileLogin, FileLoginError};
#[cfg(feature = "remote")]
pub use issuer_logout::{IssuerLogout, IssuerLogoutFuture};
pub use login_memory::LoginMemory;
pub use login_throttle::{LoginFailures, LoginFailuresError, LoginThrottleOptions};
pub use logout_listener::LogoutListener;
pub use password_hash::{HashError, PasswordHash, PasswordHashError, hash_password};
pub use permission::{GuardedTask, GuardingResources, Permission};
pub use platform_error::PlatformError;
pub use provider::{LoginError, LoginFuture, LoginProvider, Password};
pub use response::ResponseBody;
pub use service::AuthApi;
pub use service_list::{
    ListedApi, ListedAuthentication, ListedInstance, ListedService, ListedUrl, SharedServices,
};
#[cfg(feature = "remote")]
pub use zosmf_login::ZosmfLogin;
#[cfg(feature = "remote")]
pub use zss_login::ZssLogin;

pub use crate::auth_prefix::{AuthPrefix, AuthPrefixError};
