//! The errors of the auth endpoints: their statuses, messages and headers.

use std::time::Duration;

use http::{Method, StatusCode};

use super::{
    body::{BodyProblem, MAX_BODY_LEN, ReadError},
    delegation::DelegationRefusal,
    permission::{GuardedTask, Permission},
    provider::LoginError,
};
use crate::{
    messages::{self, ApiMessage, Template},
    passticket::{GenerateError, SafReturnCodes},
    revocation::RevokedBy,
    saf::SafError,
    token::TokenError,
};

/// The error of an auth endpoint. The response has it in its extensions, so that an outer layer can
/// log or count it.
///
/// `Display` is for logs. The client gets a message of Zowe (docs/reference/error-messages.md#failures),
/// which says less. The statuses here are those of
/// [`Compatibility::Documented`](crate::api::Compatibility), which also lists the differences.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// No endpoint has this path, or the endpoint is off: 404.
    #[error("no endpoint has this path")]
    NotFound,
    /// The endpoint has another method: 405.
    #[error("the method is {method}, the endpoint has {allowed}")]
    MethodNotAllowed {
        /// The method of the request.
        method: Method,
        /// The method of the endpoint.
        allowed: Method,
    },
    /// The body has more than [`MAX_BODY_LEN`] bytes: 413.
    #[error("the body has more than {MAX_BODY_LEN} bytes")]
    BodyTooLarge,
    /// The body ended early: 400.
    #[error("the body breaks off")]
    BodyBroken,
    /// The body of `access-token/validate` or `access-token/revoke` cannot be read: 400.
    #[error("the body cannot be read: {0}")]
    InvalidBody(BodyProblem),
    /// The body of `access-token/validate` or `access-token/revoke` lacks a field: 400.
    #[error("the body has no {0}")]
    FieldMissing(BodyField),
    /// The request has no usable credential: 400.
    #[error("the request carries no usable credential")]
    InvalidLoginInput,
    /// The body of `login` cannot be read: 400.
    #[error("the body is not a login: {0}")]
    InvalidLoginBody(BodyProblem),
    /// The request has a new password, but the login provider changes no passwords: 400.
    #[error("the login provider changes no passwords")]
    PasswordChangeUnsupported,
    /// The login provider refuses the new password: 400.
    #[error("the new password is refused")]
    NewPasswordRefused,
    /// Too many recent wrong passwords for this user or from this address: 429.
    #[error("too many failed logins; the next password is checked in {} s", retry_after.as_secs())]
    TooManyAttempts {
        /// The time until the next password is checked.
        retry_after: Duration,
    },
    /// The user does not exist, or the password is wrong: 401.
    #[error("the user or the password is wrong")]
    WrongCredentials,
    /// The request has neither a password nor a client certificate, and needs one: 401.
    #[error("the request carries neither a password nor a client certificate")]
    AuthenticationRequired,
    /// The client certificate is mapped to no user: 401.
    #[error("the client certificate is mapped to no user")]
    NoUser,
    /// The provider of passwords, identities or permissions does not answer: 503.
    #[error("the login provider, the identity mapping or the security product is not available")]
    Unavailable,
    /// The revocation store failed, so revocations can be neither stored nor checked: 503.
    #[error("the revocation store is not available")]
    StoreUnavailable,
    /// The audit log cannot be written, and the request must be audited: 503.
    #[error("the audit log cannot be written, and this request must be audited")]
    AuditUnavailable,
    /// The request has no client certificate, and needs one beside the token: 403.
    #[error("the request carries no client certificate")]
    CertificateRequired,
    /// The request has no token, and needs one: 401.
    #[error("the request carries no token")]
    TokenNotProvided,
    /// The token is not valid, or has expired: 401.
    #[error("{0}")]
    Token(#[from] TokenError),
    /// The token is a Personal Access Token, which is not a credential here: 401.
    #[error("the token is a Personal Access Token")]
    PersonalAccessToken,
    /// The login token was logged out: 401.
    #[error("the token is logged out")]
    LoggedOut,
    /// The token to log out is not a login token: 400.
    #[error("the token to log out is not a login token")]
    NotALoginToken,
    /// The body of `ticket` names no application: 400.
    #[error("the body names no application: {0}")]
    InvalidTicketBody(BodyProblem),
    /// There is no PassTicket: 400 if the application has no key, 503 if a later request can succeed
    /// (with replay protection each user gets one ticket per second), else 500.
    #[error(transparent)]
    Ticket(#[from] GenerateError),
    /// The request has no client certificate, and the endpoint takes no other credential: 401.
    #[error("the request carries no client certificate, the only credential of this endpoint")]
    OnlyCertificate,
    /// The caller has made too many calls in a minute: 429.
    #[error("too many calls; the next is possible in {} s", retry_after.as_secs())]
    TooManyCalls {
        /// The time until the next call is possible.
        retry_after: Duration,
    },
    /// The body of `delegate/passticket` cannot be read: 400.
    #[error("the body asks for no PassTicket: {0}")]
    InvalidDelegateBody(BodyProblem),
    /// The e-mail address is mapped to no user: 404.
    #[error("no user is mapped to the e-mail address")]
    NoUserOfEmail,
    /// The caller may not have PassTickets for this application or this user: 403.
    #[error(transparent)]
    Delegation(#[from] DelegationRefusal),
    /// The body of `access-token/generate` cannot be read: 400.
    #[error("the body is not a request for a Personal Access Token: {0}")]
    InvalidPatBody(BodyProblem),
    /// The body names more services than fit into one token: 400.
    #[error("the body names more services than fit into a token")]
    TooManyScopes,
    /// The body of `access-token/generate` names no service: 400.
    #[error("the body names no service")]
    PatWithoutScopes,
    /// The token in the body is not a valid Personal Access Token: 401.
    #[error("{0}")]
    Pat(#[from] PatRefusal),
    /// The body of `access-token/revoke/tokens`, or below it, cannot be read: 400.
    #[error("the body is not a revocation rule: {0}")]
    InvalidRuleBody(BodyProblem),
    /// SAF refuses the caller: 401 for revocation rules, 403 for other tasks.
    #[error("the user may not {task}: {0} is needed", task = .0.task())]
    NotPermitted(Permission),
    /// The SAF check failed: 503 if SAF cannot be reached, else 500.
    #[error(transparent)]
    Saf(SafError),
    /// A defect of the gateway or of its configuration; the log has the cause: 500.
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
}

/// Why a token in a body is refused as a Personal Access Token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatRefusal {
    /// The token is not one of this gateway, or has expired.
    #[error("{0}")]
    Token(#[from] TokenError),
    /// The token is a login token.
    #[error("the token is no Personal Access Token")]
    NotAPat,
    /// The token is revoked.
    #[error("the token is revoked: {0}")]
    Revoked(RevokedBy),
    /// The token is for other services.
    #[error("the token is not for this service")]
    OutOfScope,
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
            LoginError::Unavailable => Self::Unavailable,
        }
    }
}

impl ApiError {
    /// The status and the message to the client about the request for `url`.
    pub(super) fn message(&self, url: &str) -> (StatusCode, ApiMessage) {
        use StatusCode as Is;
        let plain = |status, template| (status, ApiMessage::new(template));
        let with_url =
            |status, template: &'static Template| (status, ApiMessage::with(template, &[url]));
        match self {
            Self::NotFound => plain(Is::NOT_FOUND, &messages::NOT_FOUND),
            Self::MethodNotAllowed { method, .. } => (
                Is::METHOD_NOT_ALLOWED,
                ApiMessage::with(&messages::INVALID_METHOD, &[method.as_str(), url]),
            ),
            Self::BodyTooLarge => (
                Is::PAYLOAD_TOO_LARGE,
                ApiMessage::with(&messages::CONTENT_TOO_LARGE, &[&MAX_BODY_LEN.to_string()]),
            ),
            Self::BodyBroken
            | Self::InvalidBody(_)
            | Self::FieldMissing(_)
            | Self::InvalidDelegateBody(_) => {
                let problem = self.to_string();
                (Is::BAD_REQUEST, ApiMessage::with(&messages::BAD_REQUEST, &[&problem]))
            }
            Self::InvalidLoginInput
            | Self::InvalidLoginBody(_)
            | Self::PasswordChangeUnsupported => {
                with_url(Is::BAD_REQUEST, &messages::INVALID_LOGIN_INPUT)
            }
            Self::NewPasswordRefused => plain(Is::BAD_REQUEST, &messages::NEW_PASSWORD_INVALID),
            Self::TooManyAttempts { .. } => {
                plain(Is::TOO_MANY_REQUESTS, &messages::TOO_MANY_ATTEMPTS)
            }
            Self::WrongCredentials => with_url(Is::UNAUTHORIZED, &messages::INVALID_CREDENTIALS),
            Self::AuthenticationRequired => {
                with_url(Is::UNAUTHORIZED, &messages::AUTHENTICATION_REQUIRED)
            }
            Self::NoUser => plain(Is::UNAUTHORIZED, &messages::NO_USER),
            Self::Unavailable
            | Self::StoreUnavailable
            | Self::AuditUnavailable
            | Self::Saf(SafError::Unavailable) => {
                plain(Is::SERVICE_UNAVAILABLE, &messages::AUTHENTICATION_UNAVAILABLE)
            }
            Self::CertificateRequired => plain(Is::FORBIDDEN, &messages::MISSING_CERTIFICATE),
            Self::TokenNotProvided => with_url(Is::UNAUTHORIZED, &messages::TOKEN_NOT_PROVIDED),
            Self::Token(TokenError::Expired { .. }) => {
                with_url(Is::UNAUTHORIZED, &messages::TOKEN_EXPIRED_FOR_URL)
            }
            Self::Token(_) | Self::PersonalAccessToken | Self::LoggedOut => {
                with_url(Is::UNAUTHORIZED, &messages::TOKEN_NOT_VALID_FOR_URL)
            }
            Self::NotALoginToken => with_url(Is::BAD_REQUEST, &messages::TOKEN_NOT_VALID_FOR_URL),
            Self::InvalidTicketBody(_) => {
                plain(Is::BAD_REQUEST, &messages::INVALID_APPLICATION_NAME)
            }
            Self::Ticket(error) => {
                let status = match error.codes() {
                    SafReturnCodes::NO_PROFILE => Is::BAD_REQUEST,
                    _ if error.retry_after().is_some() => Is::SERVICE_UNAVAILABLE,
                    _ => Is::INTERNAL_SERVER_ERROR,
                };
                (status, ApiMessage::with(&messages::TICKET_FAILED, &[&error.codes().text()]))
            }
            Self::OnlyCertificate => plain(Is::UNAUTHORIZED, &messages::MISSING_CERTIFICATE),
            Self::TooManyCalls { .. } => plain(Is::TOO_MANY_REQUESTS, &messages::TOO_MANY_CALLS),
            Self::NoUserOfEmail => plain(Is::NOT_FOUND, &messages::NO_USER),
            Self::Delegation(refusal) => {
                // The caller does not learn which user an address is mapped to, nor which users
                // are protected.
                let target = match refusal {
                    DelegationRefusal::Applid(applid) => format!("PassTickets for {applid}"),
                    DelegationRefusal::Target(_) | DelegationRefusal::Protected(_) => {
                        "PassTickets for this user".to_owned()
                    }
                };
                (Is::FORBIDDEN, ApiMessage::with(&messages::FORBIDDEN, &[&target]))
            }
            Self::InvalidPatBody(_) | Self::TooManyScopes => {
                plain(Is::BAD_REQUEST, &messages::INVALID_PAT_BODY)
            }
            Self::PatWithoutScopes => plain(Is::BAD_REQUEST, &messages::PAT_WITHOUT_SCOPES),
            Self::Pat(PatRefusal::Token(TokenError::Expired { .. })) => {
                plain(Is::UNAUTHORIZED, &messages::EXPIRED_TOKEN)
            }
            Self::Pat(_) => plain(Is::UNAUTHORIZED, &messages::INVALID_TOKEN),
            Self::InvalidRuleBody(_) => plain(Is::BAD_REQUEST, &messages::INVALID_REVOKE_BODY),
            Self::NotPermitted(permission) => {
                let status = match permission.task() {
                    GuardedTask::Revoke => Is::UNAUTHORIZED,
                    GuardedTask::Evict | GuardedTask::Delegate => Is::FORBIDDEN,
                };
                let needed = format!("{permission} is needed");
                (status, ApiMessage::with(&messages::FORBIDDEN, &[&needed]))
            }
            Self::Saf(SafError::UnsupportedClass { class, .. }) => (
                Is::INTERNAL_SERVER_ERROR,
                ApiMessage::with(&messages::SAF_ENDPOINT_CLASS, &[class]),
            ),
            // The client does not learn the address of the SAF endpoint.
            Self::Saf(SafError::Failed(_)) => (
                Is::INTERNAL_SERVER_ERROR,
                ApiMessage::with(&messages::SAF_ENDPOINT_FAILED, &["SAF"]),
            ),
            Self::Internal => plain(Is::INTERNAL_SERVER_ERROR, &messages::INTERNAL),
        }
    }

    /// The text that the documented profile adds to the message of the catalogue: the fault of a
    /// body, or of the PAT in it.
    pub(super) fn detail(&self) -> Option<String> {
        match self {
            Self::InvalidLoginBody(problem)
            | Self::InvalidTicketBody(problem)
            | Self::InvalidPatBody(problem)
            | Self::InvalidRuleBody(problem) => Some(problem.to_string()),
            Self::PasswordChangeUnsupported | Self::TooManyScopes => Some(self.to_string()),
            Self::Ticket(error) if error.is_unavailable() => {
                let down = "the system that makes PassTickets is not available; try again after \
                            the time that Retry-After tells";
                Some(down.to_owned())
            }
            Self::Ticket(error) if error.retry_after().is_some() => {
                let limit = "the application takes a PassTicket once, and there is one each second \
                             for a user; try again after the time that Retry-After \
                             tells";
                Some(limit.to_owned())
            }
            Self::Pat(PatRefusal::Token(TokenError::Expired { .. })) => None,
            Self::Pat(PatRefusal::Token(TokenError::Malformed | TokenError::TooLong { .. })) => {
                Some("it is no JWT".to_owned())
            }
            // The reason would help to forge a token.
            Self::Pat(PatRefusal::Token(_)) => Some("it is no token of this gateway".to_owned()),
            Self::Pat(refusal) => Some(refusal.to_string()),
            _ => None,
        }
    }

    /// The time after which the same request may succeed.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooManyAttempts { retry_after } | Self::TooManyCalls { retry_after } => {
                Some(*retry_after)
            }
            Self::Ticket(error) => error.retry_after(),
            _ => None,
        }
    }

    /// The challenge of a 401. Without a token in the request it has no `error` (RFC 6750 §3).
    pub(super) fn challenge(&self) -> &'static str {
        match self {
            Self::TokenNotProvided => r#"Bearer realm="zowe""#,
            Self::Token(_)
            | Self::PersonalAccessToken
            | Self::LoggedOut
            | Self::Pat(_)
            | Self::FieldMissing(_) => r#"Bearer realm="zowe", error="invalid_token""#,
            Self::OnlyCertificate => r#"Certificate realm="zowe""#,
            // Not `Basic`, see the module documentation.
            _ => r#"xBasic realm="zowe", charset="UTF-8""#,
        }
    }

    /// The message in `X-Zowe-Auth-Failure`, if there is one (docs/reference/error-messages.md#failures).
    pub(super) fn auth_failure(&self) -> Option<&'static Template> {
        match self {
            // Zowe API ML sends none for an expired token.
            Self::Token(TokenError::Expired { .. }) => None,
            Self::Token(_) | Self::PersonalAccessToken | Self::LoggedOut => {
                Some(&messages::INVALID_TOKEN)
            }
            Self::AuthenticationRequired => Some(&messages::MISSING_AUTHENTICATION),
            _ => None,
        }
    }
}
