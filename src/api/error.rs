//! The errors of the auth endpoints: their statuses, messages and headers.

use std::time::Duration;

use http::{Method, StatusCode};

use super::{
    body::{BodyProblem, MAX_BODY_LEN, ReadError},
    delegation::DelegationRefusal,
    exchange_request::ExchangeProblem,
    permission::{GuardedTask, Permission},
    platform_error::PlatformError,
    provider::LoginError,
};
use crate::{
    messages::{self, ApiMessage, Template},
    passticket::{GenerateError, SafReturnCodes, UserId},
    revocation::RevokedBy,
    saf::SafError,
    token::{Scope, Scopes, ServiceId, TokenError},
};

/// The error of an auth endpoint. It is also an extension of the response, so that an outer layer can log or count it.
///
/// The text of `Display` is mainly for logs. The client gets a message of Zowe
/// (docs/reference/error-messages.md#failures), which often has less detail than this text. The documentation of each
/// variant names the status in the profile [`Compatibility::Documented`](crate::api::Compatibility::Documented).
/// [`Compatibility`](crate::api::Compatibility) lists how the responses of the profile `ZoweV3` differ.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// No endpoint has this path, or the endpoint is off: 404.
    #[error("no endpoint has this path")]
    NotFound,
    /// The endpoint does not support the method: 405.
    #[error("the endpoint supports {allowed:?}, not {method}")]
    MethodNotAllowed {
        /// The method of the request.
        method: Method,
        /// The methods that the endpoint supports.
        allowed: Vec<Method>,
    },
    /// A web page of another origin made a browser send the request, see
    /// [`OriginPolicy`](crate::layer::OriginPolicy): 403.
    #[error("the request comes from a web page of another origin")]
    CrossOrigin,
    /// A script of a web page at the gateway's own address asks for a new Personal Access Token with a credential that
    /// the browser attaches: 403. All services share this address, so any service may have sent the script
    /// (docs/decisions.md#d25).
    #[error("a script asks for a token with a credential that the browser attaches")]
    ScriptRequest,
    /// The body has more than [`MAX_BODY_LEN`] bytes: 413.
    #[error("the body has more than {MAX_BODY_LEN} bytes")]
    BodyTooLarge,
    /// The body could not be read to its end: 400.
    #[error("the body is incomplete")]
    BodyBroken,
    /// The body of `access-token/validate`, `access-token/revoke` or `oidc-token/validate` is malformed, or the body of
    /// a change or a rotation of a Personal Access Token cannot be used: 400.
    #[error("the body cannot be read: {0}")]
    InvalidBody(BodyProblem),
    /// A required field is missing in the body of `access-token/validate`, `access-token/revoke` or
    /// `oidc-token/validate`: 400.
    #[error("the body has no {0}")]
    FieldMissing(BodyField),
    /// The request has no usable credential, or it has both a new password and `Basic` credentials: 400.
    #[error("the request has no usable credential")]
    InvalidLoginInput,
    /// The body of `login` is malformed: 400.
    #[error("the body is not a valid login: {0}")]
    InvalidLoginBody(BodyProblem),
    /// The request has a new password, but the login provider does not support password changes: 400.
    #[error("the login provider does not support password changes")]
    PasswordChangeUnsupported,
    /// The login provider refuses the new password: 400.
    #[error("the new password is refused")]
    NewPasswordRefused,
    /// There were too many wrong passwords for this user or from this network: 429.
    #[error("too many failed logins; the next password is checked in {} s", messages::whole_seconds(*retry_after))]
    TooManyAttempts {
        /// The time after which the client may try again.
        retry_after: Duration,
    },
    /// The user does not exist, the password is wrong, or the `Basic` credentials are malformed: 401. At endpoints
    /// other than `login` and `access-token/generate`, this error also means that the user name or the password is
    /// empty.
    #[error("the user or the password is wrong")]
    WrongCredentials,
    /// z/OS refuses the login and says why: 401. The status is 500 if z/OS could not check the password.
    #[error("the login at z/OS failed: {0}")]
    Platform(PlatformError),
    /// The endpoint needs a password or a client certificate, and the request has neither: 401.
    #[error("the request has neither a password nor a client certificate")]
    AuthenticationRequired,
    /// The endpoint needs a token, a password or a client certificate, and the request has none of them: 401.
    #[error("the request has neither a token nor a password nor a client certificate")]
    NoCredential,
    /// The client certificate has expired or is mapped to no user: 401. In a token exchange, this error also means that
    /// no z/OS user belongs to the user of an identity provider.
    #[error(
        "the client certificate has expired, or the certificate or the token is mapped to no user"
    )]
    NoUser,
    /// The request needs the login provider, the identity mapping, or the keys of an identity provider, and this part
    /// is not available: 503. A login also gets this error if too many logins wait. A logout also gets it if the issuer
    /// of the token is not available.
    #[error("a server that this request needs is not available, or too many logins wait for it")]
    Unavailable,
    /// The revocation store or the registry of Personal Access Tokens failed: 503. For example, the store could not
    /// check a token, or could not store a revocation.
    #[error("the revocation store is not available")]
    StoreUnavailable,
    /// The audit log cannot be written, and the request must be audited: 503.
    #[error("the audit log cannot be written, and this request must be audited")]
    AuditUnavailable,
    /// The endpoint needs a client certificate in addition to the token. The request has no certificate, its
    /// certificate has expired, or client certificates are off: 403.
    #[error("the request has no valid client certificate")]
    CertificateRequired,
    /// The endpoint needs a token, and the request has none: 401.
    #[error("the request has no token")]
    TokenNotProvided,
    /// The token is not valid, or has expired: 401. The status is 503 if the gateway could not verify the token
    /// ([`TokenError::Unavailable`]).
    #[error("{0}")]
    Token(#[from] TokenError),
    /// The token is a Personal Access Token, which the endpoint does not accept: 401.
    #[error("the token is a Personal Access Token")]
    PersonalAccessToken,
    /// The endpoint needs a login token for all services, but this token is for one service only, because a scheme has
    /// issued it ([D23](crate::decisions#d23)): 401.
    #[error("the token is only for the service {service}")]
    ServiceToken {
        /// The service.
        service: ServiceId,
    },
    /// The login token was logged out: 401. In a token exchange, this error also means that the token of an identity
    /// provider is revoked.
    #[error("the token is logged out or revoked")]
    LoggedOut,
    /// The token to log out is not a login token: 400.
    #[error("the token to log out is not a login token")]
    NotALoginToken,
    /// The body of `ticket` has no valid application name: 400.
    #[error("the body has no valid application name: {0}")]
    InvalidTicketBody(BodyProblem),
    /// The PassTicket (a one-time password of z/OS) could not be generated. The status depends on the reason:
    ///
    /// - 400: the application has no PassTicket key.
    /// - 401: the system that generates PassTickets does not accept the caller's token.
    /// - 503: a later request may succeed. For example, the generator is not available. Or the gateway makes no
    ///   PassTickets for now, because a service has refused them. Or the user has no time slot left: with replay
    ///   protection, each user gets one PassTicket per second.
    /// - 500: all other reasons, for example if the clock was set back.
    #[error(transparent)]
    Ticket(#[from] GenerateError),
    /// The endpoint accepts only a client certificate, but the request has none, or client certificates are off: 401.
    /// In a token exchange, this error means that the application needs a certificate or an actor token (a token of the
    /// client itself, RFC 8693), and that the request has neither.
    #[error(
        "the request has no client certificate and no other credential that the endpoint accepts"
    )]
    OnlyCertificate,
    /// The caller has made too many calls in a minute: 429.
    #[error("too many calls; the next call is possible in {} s", messages::whole_seconds(*retry_after))]
    TooManyCalls {
        /// The time until the next call is possible.
        retry_after: Duration,
    },
    /// The body of `delegate/passticket` is malformed: 400.
    #[error("the body is not a valid request for a PassTicket: {0}")]
    InvalidDelegateBody(BodyProblem),
    /// The e-mail address is mapped to no user: 404.
    #[error("no user is mapped to the e-mail address")]
    NoUserOfEmail,
    /// The caller is not allowed to obtain PassTickets for this application or this user: 403.
    #[error(transparent)]
    Delegation(#[from] DelegationRefusal),
    /// The endpoint `token` issued no PassTicket. The [code](ExchangeError::code) and the [cause](ExchangeError::cause)
    /// determine the status. The cause is one of the other variants.
    #[error(transparent)]
    Exchange(ExchangeError),
    /// The body of `token` is not a request for a PassTicket: 400.
    #[error(transparent)]
    InvalidExchange(#[from] ExchangeProblem),
    /// The actor token and the subject token are of the same user: 400. The actor token must prove the identity of the
    /// client. A token of the same user as the subject token does not prove it.
    #[error("the actor token and the subject token are of the same user")]
    ActorIsSubject,
    /// The actor token and the client certificate are of different users: 400.
    #[error("the actor token and the client certificate are of different users")]
    ActorIsNotClient,
    /// The body of `access-token/generate` or `POST access-tokens` is malformed: 400.
    #[error("the body is not a valid request for a Personal Access Token: {0}")]
    InvalidPatBody(BodyProblem),
    /// The new Personal Access Token would have more scopes than fit into one token: 400.
    #[error("there are more scopes than fit into one token")]
    TooManyScopes,
    /// The request asks for a scope that the administrator does not allow: 403.
    #[error("the scope {scope} is not allowed; allowed are: {allowed}")]
    ScopeNotAllowed {
        /// The scope.
        scope: Scope,
        /// The scopes that [`AuthApi::with_allowed_scopes`](super::AuthApi::with_allowed_scopes) allows.
        allowed: Scopes,
    },
    /// The user already has the maximum number of registered Personal Access Tokens: 429.
    #[error(
        "the user has {limit} Personal Access Tokens that have not expired, and cannot get another one"
    )]
    TooManyPats {
        /// The maximum number of tokens of a user.
        limit: u32,
    },
    /// The query of `access-tokens` or `access-tokens/{id}` cannot be used: 400.
    #[error("the query cannot be used: {0}")]
    InvalidQuery(&'static str),
    /// The user has no Personal Access Token with this id: 404. The user is the caller, or the user whom an
    /// administrator names in the query. At `access-tokens/self`, this error means that the registry has no entry for
    /// the token of the request, and cannot add an entry.
    #[error("there is no Personal Access Token with this id")]
    NoSuchToken,
    /// The Personal Access Token cannot be rotated, because it has expired, is revoked, or was already rotated: 409.
    #[error("the Personal Access Token cannot be rotated: {0}")]
    NotRotated(NotRotated),
    /// The body of `access-token/generate` or `POST access-tokens` names no service: 400.
    #[error("the body names no service")]
    PatWithoutScopes,
    /// The token is not a valid Personal Access Token: 401.
    #[error("{0}")]
    Pat(#[from] PatRefusal),
    /// The token in the body of `access-token/validate` is not valid for the service, and the client asked for JSON.
    /// The status is 401. Only the body of the response differs from that for [`Pat`](Self::Pat): it also has the
    /// reason.
    #[error("{0}")]
    NotValid(PatRefusal),
    /// The token in the body of `oidc-token/validate` is not a valid token of an identity provider: 401.
    #[error("{0}")]
    Oidc(#[from] OidcRefusal),
    /// No service has the id in the path, or the requested list of services is empty: 404.
    #[error("there is no such service")]
    NoSuchService,
    /// The body of `/gateway/auth/check` is malformed: 400.
    #[error("the body is not a valid access check: {0}")]
    InvalidCheckBody(BodyProblem),
    /// The caller of `/gateway/auth/check` does not have the access that the body of the request names: 401.
    #[error("{user} does not have the access")]
    AccessRefused {
        /// The caller.
        user: UserId,
    },
    /// The body of `access-token/revoke/tokens`, or of an endpoint below it, is malformed: 400.
    #[error("the body is not a valid revocation rule: {0}")]
    InvalidRuleBody(BodyProblem),
    /// The caller does not have this permission in the security product. The status is 401 at the endpoints below
    /// `access-token/revoke/tokens`, and 403 at all other endpoints.
    #[error("the user may not {task}: {0} is needed", task = .0.task())]
    NotPermitted(Permission),
    /// The check of a permission failed in SAF, the z/OS interface to the security product. The status is 503 if SAF
    /// cannot be reached, and 500 in all other cases.
    #[error(transparent)]
    Saf(SafError),
    /// The gateway or its configuration has a defect: 500. The log contains the cause.
    #[error("internal error")]
    Internal,
}

/// A required field of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyField {
    /// The Personal Access Token.
    #[error("token")]
    Token,
    /// The service for which the token is checked.
    #[error("serviceId")]
    ServiceId,
    /// The token of an identity provider.
    #[error("token")]
    OidcToken,
}

/// The reason why a Personal Access Token cannot be rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotRotated {
    /// The token has expired.
    #[error("it has expired")]
    Expired,
    /// The token is revoked.
    #[error("it is revoked")]
    Revoked,
    /// Another token has already replaced the token.
    #[error("it was already rotated; use the token that replaced it")]
    AlreadyRotated,
}

/// The reason why a token is not accepted as a Personal Access Token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatRefusal {
    /// The token is malformed, has expired, or was not issued by this gateway, or its checksum is wrong.
    #[error("{0}")]
    Token(#[from] TokenError),
    /// The token is of another kind, such as a login token.
    #[error("the token is not a Personal Access Token")]
    NotAPat,
    /// The token is revoked.
    #[error("the token is revoked: {0}")]
    Revoked(RevokedBy),
    /// The scopes of the token do not permit this request to the service.
    #[error("the token is not for this service, or not for this request to it")]
    OutOfScope,
}

impl PatRefusal {
    /// Returns the code that `access-token/validate` shows to a client that asks for JSON.
    ///
    /// If the signature of the token is wrong, the code is always `invalid`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Token(TokenError::Expired { .. }) => "expired",
            Self::Token(_) => "invalid",
            Self::NotAPat => "notAPat",
            Self::Revoked(RevokedBy::Token) => "revoked",
            Self::Revoked(RevokedBy::UserRule | RevokedBy::ServiceRule) => "rule",
            Self::OutOfScope => "scope",
        }
    }

    /// Returns the text that the profile `Documented` appends to the message. Returns `None` if it appends nothing.
    fn detail(&self) -> Option<String> {
        match self {
            Self::Token(TokenError::Expired { .. }) => None,
            Self::Token(TokenError::Malformed | TokenError::TooLong { .. }) => {
                Some("it is not a JWT".to_owned())
            }
            Self::Token(TokenError::Checksum) => Some(TokenError::Checksum.to_string()),
            // A more exact text could help an attacker to forge a token.
            Self::Token(_) => Some("it is not a token of this gateway".to_owned()),
            refusal => Some(refusal.to_string()),
        }
    }
}

/// The reason why a token in the body is not accepted as a token of an identity provider.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OidcRefusal {
    /// The token is malformed, has expired, or was not issued by one of the identity providers.
    #[error("{0}")]
    Token(TokenError),
    /// The token is of another kind, such as a login token.
    #[error("the token is not a token of an identity provider")]
    WrongKind,
    /// The token is revoked.
    #[error("the token is revoked: {0}")]
    Revoked(RevokedBy),
    /// The gateway accepts no tokens of identity providers.
    #[error("the gateway has no identity provider")]
    NoProvider,
}

/// The error of a token exchange: why no PassTicket was issued, and where the error occurred.
///
/// The response has the form of RFC 6749 §5.2: the parameter `error` is [`code`](Self::code), and `error_description`
/// is the message of Zowe for [`cause`](Self::cause).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("token exchange, {}: {cause}", .part.as_str())]
pub struct ExchangeError {
    part: ExchangePart,
    cause: Box<ApiError>,
}

/// The part of a token exchange in which an error occurred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ExchangePart {
    /// The form of the request, or the check whether the audit log is available.
    Request,
    /// The certificate of the client. If the exchange needs an actor and the request has none, the error is also in
    /// this part.
    Client,
    /// The token of the actor.
    Actor,
    /// The token of the user who gets the PassTicket.
    Subject,
    /// The limit of calls, the check whether the actor may get the PassTicket, and the generation of the PassTicket.
    Ticket,
}

impl ExchangePart {
    fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Client => "client certificate",
            Self::Actor => "actor token",
            Self::Subject => "subject token",
            Self::Ticket => "PassTicket",
        }
    }
}

impl ExchangeError {
    pub(super) fn new(part: ExchangePart, cause: impl Into<ApiError>) -> Self {
        Self { part, cause: Box::new(cause.into()) }
    }

    /// Returns the part in which the error occurred.
    pub fn part(&self) -> ExchangePart {
        self.part
    }

    /// Returns the cause.
    pub fn cause(&self) -> &ApiError {
        &self.cause
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::TooLarge => Self::BodyTooLarge,
            ReadError::Incomplete => Self::BodyBroken,
        }
    }
}

impl From<LoginError> for ApiError {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::WrongCredentials => Self::WrongCredentials,
            LoginError::NewPasswordRefused => Self::NewPasswordRefused,
            LoginError::Platform(error) => Self::Platform(error),
            LoginError::Unavailable => Self::Unavailable,
        }
    }
}

impl ApiError {
    /// Returns the cause of an error of a token exchange. Returns any other error unchanged.
    pub(super) fn cause(&self) -> &Self {
        match self {
            Self::Exchange(error) => error.cause(),
            error => error,
        }
    }

    /// Returns the status of the response, and the message for the client. `url` is the path of the request.
    pub(super) fn message(&self, url: &str) -> (StatusCode, ApiMessage) {
        let plain = |status, template| (status, ApiMessage::new(template));
        let with_url =
            |status, template: &'static Template| (status, ApiMessage::with(template, &[url]));
        match self {
            // The module `exchange_error` makes the response. It uses this message, but another status and another
            // form.
            Self::Exchange(error) => error.cause().message(url),
            Self::NotFound | Self::NoSuchService | Self::NoSuchToken => {
                plain(StatusCode::NOT_FOUND, &messages::NOT_FOUND)
            }
            Self::MethodNotAllowed { method, .. } => (
                StatusCode::METHOD_NOT_ALLOWED,
                ApiMessage::with(&messages::INVALID_METHOD, &[method.as_str(), url]),
            ),
            Self::CrossOrigin => plain(StatusCode::FORBIDDEN, &messages::CROSS_ORIGIN),
            Self::ScriptRequest => plain(StatusCode::FORBIDDEN, &messages::SCRIPT_REQUEST),
            Self::BodyTooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                ApiMessage::with(&messages::CONTENT_TOO_LARGE, &[&MAX_BODY_LEN.to_string()]),
            ),
            Self::BodyBroken
            | Self::InvalidBody(_)
            | Self::FieldMissing(_)
            | Self::InvalidQuery(_)
            | Self::InvalidDelegateBody(_)
            | Self::InvalidExchange(_)
            | Self::InvalidCheckBody(_) => {
                let problem = self.to_string();
                (StatusCode::BAD_REQUEST, ApiMessage::with(&messages::BAD_REQUEST, &[&problem]))
            }
            Self::InvalidLoginInput
            | Self::InvalidLoginBody(_)
            | Self::PasswordChangeUnsupported => {
                with_url(StatusCode::BAD_REQUEST, &messages::INVALID_LOGIN_INPUT)
            }
            Self::NewPasswordRefused => {
                plain(StatusCode::BAD_REQUEST, &messages::NEW_PASSWORD_INVALID)
            }
            Self::TooManyAttempts { .. } => {
                plain(StatusCode::TOO_MANY_REQUESTS, &messages::TOO_MANY_ATTEMPTS)
            }
            Self::WrongCredentials => {
                with_url(StatusCode::UNAUTHORIZED, &messages::INVALID_CREDENTIALS)
            }
            Self::Platform(error) => error.message(),
            Self::AuthenticationRequired => {
                with_url(StatusCode::UNAUTHORIZED, &messages::AUTHENTICATION_REQUIRED)
            }
            Self::NoCredential => plain(StatusCode::UNAUTHORIZED, &messages::UNAUTHORIZED),
            Self::NoUser => plain(StatusCode::UNAUTHORIZED, &messages::NO_USER),
            Self::Unavailable
            | Self::StoreUnavailable
            | Self::AuditUnavailable
            | Self::Saf(SafError::Unavailable)
            | Self::Token(TokenError::Unavailable(_)) => {
                plain(StatusCode::SERVICE_UNAVAILABLE, &messages::AUTHENTICATION_UNAVAILABLE)
            }
            Self::CertificateRequired => {
                plain(StatusCode::FORBIDDEN, &messages::MISSING_CERTIFICATE)
            }
            Self::TokenNotProvided => {
                with_url(StatusCode::UNAUTHORIZED, &messages::TOKEN_NOT_PROVIDED)
            }
            Self::Token(TokenError::Expired { .. }) => {
                with_url(StatusCode::UNAUTHORIZED, &messages::TOKEN_EXPIRED_FOR_URL)
            }
            Self::Token(_)
            | Self::PersonalAccessToken
            | Self::ServiceToken { .. }
            | Self::LoggedOut => {
                with_url(StatusCode::UNAUTHORIZED, &messages::TOKEN_NOT_VALID_FOR_URL)
            }
            Self::NotALoginToken | Self::ActorIsSubject | Self::ActorIsNotClient => {
                with_url(StatusCode::BAD_REQUEST, &messages::TOKEN_NOT_VALID_FOR_URL)
            }
            Self::InvalidTicketBody(_) => {
                plain(StatusCode::BAD_REQUEST, &messages::INVALID_APPLICATION_NAME)
            }
            Self::Ticket(error) => {
                let status = match error.codes() {
                    SafReturnCodes::NO_PROFILE => StatusCode::BAD_REQUEST,
                    _ if error.retry_after().is_some() => StatusCode::SERVICE_UNAVAILABLE,
                    _ if error.is_not_authenticated() => StatusCode::UNAUTHORIZED,
                    _ => StatusCode::INTERNAL_SERVER_ERROR,
                };
                (status, ApiMessage::with(&messages::TICKET_FAILED, &[&error.text()]))
            }
            Self::OnlyCertificate => {
                plain(StatusCode::UNAUTHORIZED, &messages::MISSING_CERTIFICATE)
            }
            Self::TooManyCalls { .. } => {
                plain(StatusCode::TOO_MANY_REQUESTS, &messages::TOO_MANY_CALLS)
            }
            Self::TooManyPats { .. } => {
                plain(StatusCode::TOO_MANY_REQUESTS, &messages::TOO_MANY_PATS)
            }
            Self::NotRotated(_) => {
                let problem = self.to_string();
                (StatusCode::CONFLICT, ApiMessage::with(&messages::TOKEN_CONFLICT, &[&problem]))
            }
            Self::NoUserOfEmail => plain(StatusCode::NOT_FOUND, &messages::NO_USER),
            Self::Delegation(refusal) => {
                // The message must reveal neither the user to whom an address is mapped, nor which users are protected.
                let target = match refusal {
                    DelegationRefusal::Applid(applid) => format!("PassTickets for {applid}"),
                    DelegationRefusal::Target(_) | DelegationRefusal::Protected(_) => {
                        "PassTickets for this user".to_owned()
                    }
                };
                (StatusCode::FORBIDDEN, ApiMessage::with(&messages::FORBIDDEN, &[&target]))
            }
            Self::InvalidPatBody(_) | Self::TooManyScopes => {
                plain(StatusCode::BAD_REQUEST, &messages::INVALID_PAT_BODY)
            }
            Self::ScopeNotAllowed { .. } => {
                let problem = self.to_string();
                (StatusCode::FORBIDDEN, ApiMessage::with(&messages::FORBIDDEN, &[&problem]))
            }
            Self::PatWithoutScopes => plain(StatusCode::BAD_REQUEST, &messages::PAT_WITHOUT_SCOPES),
            Self::Pat(PatRefusal::Token(TokenError::Expired { .. }))
            | Self::NotValid(PatRefusal::Token(TokenError::Expired { .. }))
            | Self::Oidc(OidcRefusal::Token(TokenError::Expired { .. })) => {
                plain(StatusCode::UNAUTHORIZED, &messages::EXPIRED_TOKEN)
            }
            Self::Pat(_) | Self::NotValid(_) | Self::Oidc(_) => {
                plain(StatusCode::UNAUTHORIZED, &messages::INVALID_TOKEN)
            }
            Self::AccessRefused { user } => (
                StatusCode::UNAUTHORIZED,
                ApiMessage::with(&messages::ACCESS_REFUSED, &[user.as_str()]),
            ),
            Self::InvalidRuleBody(_) => {
                plain(StatusCode::BAD_REQUEST, &messages::INVALID_REVOKE_BODY)
            }
            Self::NotPermitted(permission) => {
                let status = match permission.task() {
                    GuardedTask::Revoke => StatusCode::UNAUTHORIZED,
                    GuardedTask::ManageTokens
                    | GuardedTask::Evict
                    | GuardedTask::Delegate
                    | GuardedTask::ListServices => StatusCode::FORBIDDEN,
                };
                let needed = format!("{permission} is needed");
                (status, ApiMessage::with(&messages::FORBIDDEN, &[&needed]))
            }
            Self::Saf(SafError::UnsupportedClass { class, .. }) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                ApiMessage::with(&messages::SAF_ENDPOINT_CLASS, &[class]),
            ),
            // The message must not reveal the address of the SAF endpoint.
            Self::Saf(SafError::Failed(_)) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                ApiMessage::with(&messages::SAF_ENDPOINT_FAILED, &["SAF"]),
            ),
            Self::Internal => plain(StatusCode::INTERNAL_SERVER_ERROR, &messages::INTERNAL),
        }
    }

    /// Returns the text that is appended to the message, or `None` if nothing is appended. In the profile `ZoweV3`, the
    /// text is appended only for 429 and for errors of the endpoint `token`. Examples of this text are what is wrong
    /// with the body, why a token is not accepted, and how long the client must wait. The time to wait in this text may
    /// be longer than the time in the header `Retry-After`, which is at most 10 s.
    pub(super) fn detail(&self) -> Option<String> {
        match self {
            Self::InvalidLoginBody(problem)
            | Self::InvalidTicketBody(problem)
            | Self::InvalidPatBody(problem)
            | Self::InvalidRuleBody(problem) => Some(problem.to_string()),
            Self::PasswordChangeUnsupported
            | Self::TooManyScopes
            | Self::TooManyAttempts { .. }
            | Self::TooManyCalls { .. }
            | Self::TooManyPats { .. }
            | Self::ActorIsSubject
            | Self::ActorIsNotClient => Some(self.to_string()),
            Self::Ticket(error) if error.is_unavailable() => {
                let unavailable = "the system that generates PassTickets is not available; try again \
                                   after the number of seconds in Retry-After";
                Some(unavailable.to_owned())
            }
            Self::Ticket(error) if error.is_stopped() => {
                let stopped = "a service has refused PassTickets, so no more are made for now; the operator must check \
                               the PassTicket key and the clocks";
                Some(stopped.to_owned())
            }
            Self::Ticket(error) if error.retry_after().is_some() => {
                let limit = "the application accepts each PassTicket only once, so each user gets one \
                             per second; try again after the number of seconds in Retry-After";
                Some(limit.to_owned())
            }
            Self::Pat(refusal) | Self::NotValid(refusal) => refusal.detail(),
            Self::Oidc(OidcRefusal::Token(TokenError::Expired { .. })) => None,
            Self::Oidc(OidcRefusal::Token(TokenError::Malformed | TokenError::TooLong { .. })) => {
                Some("it is not a JWT".to_owned())
            }
            Self::Oidc(OidcRefusal::Token(_)) => {
                Some("it is not a token of an identity provider of this gateway".to_owned())
            }
            Self::Oidc(refusal) => Some(refusal.to_string()),
            _ => None,
        }
    }

    /// Returns the time after which the client should try again, if known.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooManyAttempts { retry_after } | Self::TooManyCalls { retry_after } => {
                Some(*retry_after)
            }
            // The store does not report when a token of the user expires. 10 s is the longest `Retry-After` of the
            // gateway.
            Self::TooManyPats { .. } => Some(Duration::from_secs(10)),
            Self::Ticket(error) => error.retry_after(),
            _ => None,
        }
    }

    /// Returns the value of `WWW-Authenticate` for a 401 response. For a request without the needed token, the value
    /// has no parameter `error` (RFC 6750 §3).
    pub(super) fn challenge(&self) -> &'static str {
        match self {
            Self::TokenNotProvided => r#"Bearer realm="zowe""#,
            Self::Token(_)
            | Self::PersonalAccessToken
            | Self::ServiceToken { .. }
            | Self::LoggedOut
            | Self::Pat(_)
            | Self::NotValid(_)
            | Self::Oidc(_)
            | Self::FieldMissing(_) => r#"Bearer realm="zowe", error="invalid_token""#,
            Self::OnlyCertificate => r#"Certificate realm="zowe""#,
            // Rule 6 in the documentation of the module `api` explains why the scheme is not `Basic`.
            _ => r#"xBasic realm="zowe", charset="UTF-8""#,
        }
    }

    /// Returns the message for the header `X-Zowe-Auth-Failure`, if the response has this header
    /// (docs/reference/error-messages.md#failures).
    pub(super) fn auth_failure(&self) -> Option<&'static Template> {
        match self {
            // For an expired token, API ML (Zowe's API Mediation Layer) does not send this header. The gateway also
            // leaves out the header if it cannot verify a token, because this token may be valid.
            Self::Token(TokenError::Expired { .. } | TokenError::Unavailable(_)) => None,
            Self::Token(_)
            | Self::PersonalAccessToken
            | Self::ServiceToken { .. }
            | Self::LoggedOut => Some(&messages::INVALID_TOKEN),
            Self::AuthenticationRequired => Some(&messages::MISSING_AUTHENTICATION),
            _ => None,
        }
    }
}
