//! Every way in which the auth endpoints refuse, and how each becomes HTTP.

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderValue, Method, Response, StatusCode,
    header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE},
};
use http_body_util::Full;

use super::{
    body::{BodyProblem, MAX_BODY_LEN},
    compatibility::Compatibility,
    delegation::DelegationRefusal,
    permission::{GuardedTask, Permission},
    provider::LoginError,
};
use crate::{
    layer::X_ZOWE_AUTH_FAILURE,
    messages::{self, ApiMessage, Template},
    passticket::{GenerateError, SafReturnCodes},
    revocation::RevokedBy,
    saf::SafError,
    token::TokenError,
};

/// Why an auth endpoint refused. In the extensions of the response, so that an outer layer can
/// log or count it.
///
/// `Display` is for the log. The client gets the message of zowe-endpoints §0.5 and §1, which
/// says no more than there. The statuses here are those of [`Compatibility::Documented`], which
/// also lists where the others differ.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// No endpoint has this path, or it is turned off: 404.
    #[error("no endpoint has this path")]
    NotFound,
    /// The endpoint has another method: 405.
    #[error("the method is {method}, the endpoint has {allowed}")]
    MethodNotAllowed {
        /// What was asked for.
        method: Method,
        /// What the endpoint has.
        allowed: Method,
    },
    /// The body has more than [`MAX_BODY_LEN`] bytes: 413.
    #[error("the body has more than {MAX_BODY_LEN} bytes")]
    BodyTooLarge,
    /// The body did not arrive as a whole: 400.
    #[error("the body breaks off")]
    BodyBroken,
    /// A body of `access-token/validate` or `access-token/revoke` that cannot be read: 400.
    #[error("the body cannot be read: {0}")]
    InvalidBody(BodyProblem),
    /// A body of `access-token/validate` or `access-token/revoke` that lacks a field: 400.
    #[error("the body has no {0}")]
    FieldMissing(BodyField),
    /// No usable credential: 400.
    #[error("the request carries no usable credential")]
    InvalidLoginInput,
    /// A body that is no login: 400.
    #[error("the body is no login: {0}")]
    InvalidLoginBody(BodyProblem),
    /// A new password, and a login provider that changes none: 400.
    #[error("the login provider changes no passwords")]
    PasswordChangeUnsupported,
    /// A new password that the login provider does not take: 400.
    #[error("the new password is refused")]
    NewPasswordRefused,
    /// Too many wrong passwords of late, for this user or from this address: 429.
    #[error("too many failed attempts; the next is looked at in {} s", retry_after.as_secs())]
    TooManyAttempts {
        /// When the next attempt will be looked at.
        retry_after: Duration,
    },
    /// No such user, or not this password: 401.
    #[error("the user or the password is wrong")]
    WrongCredentials,
    /// Neither a password nor a client certificate where one of them is needed: 401.
    #[error("the request carries neither a password nor a client certificate")]
    AuthenticationRequired,
    /// A client certificate that belongs to no user: 401.
    #[error("the client certificate belongs to no user")]
    NoUser,
    /// Whoever knows passwords, identities or permissions does not answer: 503.
    #[error("the login provider, the identity mapping or the security product is not available")]
    Unavailable,
    /// Nothing can be revoked, or nobody can say whether it is: 503.
    #[error("the revocation store is not available")]
    StoreUnavailable,
    /// What must be recorded cannot be written down now, so it is not done: 503.
    #[error("the audit log cannot be written, and without it nothing is done here")]
    AuditUnavailable,
    /// No client certificate, where one is needed beside a token: 403.
    #[error("the request carries no client certificate")]
    CertificateRequired,
    /// No token where one is needed: 401.
    #[error("the request carries no token")]
    TokenNotProvided,
    /// The token is not valid, or no longer: 401.
    #[error("{0}")]
    Token(#[from] TokenError),
    /// A Personal Access Token, which is no credential here: 401.
    #[error("the token is a Personal Access Token")]
    PersonalAccessToken,
    /// A login token that was logged out: 401.
    #[error("the token is logged out")]
    LoggedOut,
    /// What is to be logged out is no login token: 400.
    #[error("the token to log out is no login token")]
    NotALoginToken,
    /// A body of `ticket` that names no application: 400.
    #[error("the body names no application: {0}")]
    InvalidTicketBody(BodyProblem),
    /// No PassTicket: 400 when the application has no key, 503 when it takes each ticket once and
    /// the user has had all up to now, else 500.
    #[error(transparent)]
    Ticket(#[from] GenerateError),
    /// No client certificate, where nothing else is a credential: 401.
    #[error("the request carries no client certificate, which alone counts here")]
    OnlyCertificate,
    /// More calls than a caller may have in a minute: 429.
    #[error("too many calls; there is room for the next in {} s", retry_after.as_secs())]
    TooManyCalls {
        /// When there is room for another one.
        retry_after: Duration,
    },
    /// A body of `delegate/passticket` that cannot be read: 400.
    #[error("the body asks for no PassTicket: {0}")]
    InvalidDelegateBody(BodyProblem),
    /// An e-mail address that is nobody's: 404.
    #[error("no user is mapped to the e-mail address")]
    NoUserOfEmail,
    /// Not for this application, or not for this user: 403.
    #[error(transparent)]
    Delegation(#[from] DelegationRefusal),
    /// A body of `access-token/generate` that cannot be read: 400.
    #[error("the body is no request for a Personal Access Token: {0}")]
    InvalidPatBody(BodyProblem),
    /// More services than one token can name: 400.
    #[error("the body names more services than fit into a token")]
    TooManyScopes,
    /// A body of `access-token/generate` that names no service: 400.
    #[error("the body names no service")]
    PatWithoutScopes,
    /// The token in the body is no valid Personal Access Token: 401.
    #[error("{0}")]
    Pat(#[from] PatRefusal),
    /// A body of `access-token/revoke/tokens`, or below it, that cannot be read: 400.
    #[error("the body is no rule: {0}")]
    InvalidRuleBody(BodyProblem),
    /// SAF refuses the caller: 401 for rules, 403 for anything else.
    #[error("the user may not {task}: {0} is needed", task = .0.task())]
    NotPermitted(Permission),
    /// Whether SAF refuses nobody can say: 503 if it cannot be reached, 500 if it makes no sense.
    #[error(transparent)]
    Saf(SafError),
    /// Our fault; the log says what: 500.
    #[error("internal error")]
    Internal,
}

/// A field that a body must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyField {
    /// The Personal Access Token.
    #[error("token")]
    Token,
    /// The service that it is to be good for.
    #[error("serviceId")]
    ServiceId,
}

/// Why a token in a body is not accepted as a Personal Access Token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatRefusal {
    /// It is none of our tokens, or its time is over.
    #[error("{0}")]
    Token(#[from] TokenError),
    /// It is a login token.
    #[error("the token is no Personal Access Token")]
    NotAPat,
    /// It is revoked.
    #[error("the token is revoked: {0}")]
    Revoked(RevokedBy),
    /// It is for other services.
    #[error("the token is not for this service")]
    OutOfScope,
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
    /// The status and what the client is told about the request for `url`.
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
                // Which user an address belongs to, and who is protected, is not the caller's
                // business.
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
            // Where it is, is not the client's business.
            Self::Saf(SafError::Failed(_)) => (
                Is::INTERNAL_SERVER_ERROR,
                ApiMessage::with(&messages::SAF_ENDPOINT_FAILED, &["SAF"]),
            ),
            Self::Internal => plain(Is::INTERNAL_SERVER_ERROR, &messages::INTERNAL),
        }
    }

    /// What the documented profile says beyond the message of the catalogue: what is wrong with a
    /// body, and to the holder of a PAT what is wrong with that.
    pub(super) fn detail(&self) -> Option<String> {
        match self {
            Self::InvalidLoginBody(problem)
            | Self::InvalidTicketBody(problem)
            | Self::InvalidPatBody(problem)
            | Self::InvalidRuleBody(problem) => Some(problem.to_string()),
            Self::PasswordChangeUnsupported | Self::TooManyScopes => Some(self.to_string()),
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
            // What a forged token would have to look like is nobody's business.
            Self::Pat(PatRefusal::Token(_)) => Some("it is no token of this gateway".to_owned()),
            Self::Pat(refusal) => Some(refusal.to_string()),
            _ => None,
        }
    }

    /// When the same request may be answered otherwise.
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooManyAttempts { retry_after } | Self::TooManyCalls { retry_after } => {
                Some(*retry_after)
            }
            Self::Ticket(error) => error.retry_after(),
            _ => None,
        }
    }

    /// The challenge of a 401. RFC 6750 §3: no `error` when there was no token to judge.
    fn challenge(&self) -> &'static str {
        match self {
            Self::TokenNotProvided => r#"Bearer realm="zowe""#,
            Self::Token(_)
            | Self::PersonalAccessToken
            | Self::LoggedOut
            | Self::Pat(_)
            | Self::FieldMissing(_) => r#"Bearer realm="zowe", error="invalid_token""#,
            Self::OnlyCertificate => r#"Certificate realm="zowe""#,
            // See the module documentation on why this is not `Basic`.
            _ => r#"xBasic realm="zowe", charset="UTF-8""#,
        }
    }

    /// What `X-Zowe-Auth-Failure` says, where the reference sends it (zowe-endpoints §0.5).
    fn auth_failure(&self) -> Option<&'static Template> {
        match self {
            // An expired token goes without.
            Self::Token(TokenError::Expired { .. }) => None,
            Self::Token(_) | Self::PersonalAccessToken | Self::LoggedOut => {
                Some(&messages::INVALID_TOKEN)
            }
            Self::AuthenticationRequired => Some(&messages::MISSING_AUTHENTICATION),
            _ => None,
        }
    }

    /// The response to the request for `url`, the path as the client wrote it.
    pub(super) fn into_response(
        self,
        url: &str,
        compatibility: Compatibility,
    ) -> Response<Full<Bytes>> {
        let (status, message) = compatibility.refusal(&self, url);
        let mut response = match message {
            Some(message) => message.into_response(status).map(Full::new),
            None => {
                let mut response = Response::new(Full::default());
                *response.status_mut() = status;
                response
            }
        };
        let headers = response.headers_mut();
        if let Some(after) = self.retry_after() {
            headers.insert(RETRY_AFTER, messages::retry_after(after));
        }
        // RFC 9110 §11.6.1.
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(self.challenge()));
        }
        if let Self::MethodNotAllowed { allowed, .. } = &self
            && let Ok(allowed) = HeaderValue::from_str(allowed.as_str())
        {
            headers.insert(ALLOW, allowed);
        }
        if let Some(template) = self.auth_failure()
            && let Ok(line) = HeaderValue::try_from(ApiMessage::new(template).line())
        {
            headers.insert(&X_ZOWE_AUTH_FAILURE, line);
        }
        response.extensions_mut().insert(self);
        response
    }
}
