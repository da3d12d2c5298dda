//! Every way in which the auth endpoints refuse, and how each becomes HTTP.

use bytes::Bytes;
use http::{
    HeaderValue, Method, Response, StatusCode,
    header::{ALLOW, WWW_AUTHENTICATE},
};
use http_body_util::Full;

use super::{body::MAX_BODY_LEN, provider::LoginError};
use crate::{
    layer::X_ZOWE_AUTH_FAILURE,
    message::{self, ApiMessage},
    token::TokenError,
};

/// Why an auth endpoint refused. In the extensions of the response, so that an outer layer can
/// log or count it.
///
/// `Display` is for the log. The client gets the message of zowe-endpoints §0.5 and §1, which
/// says no more than there.
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
    /// No usable credential, or a body that is no login: 400.
    #[error("the request carries no usable credential")]
    InvalidLoginInput,
    /// No such user, or not this password: 401.
    #[error("the user or the password is wrong")]
    WrongCredentials,
    /// Whoever knows passwords or identities does not answer: 503.
    #[error("the login provider or the identity mapping is not available")]
    Unavailable,
    /// No token where one is needed: 401.
    #[error("the request carries no token")]
    TokenNotProvided,
    /// The token is not valid, or no longer: 401.
    #[error("{0}")]
    Token(#[from] TokenError),
    /// A Personal Access Token, which is no credential here: 401.
    #[error("the token is a Personal Access Token")]
    PersonalAccessToken,
    /// A body of `access-token/generate` that cannot be read: 400.
    #[error("the body is no request for a Personal Access Token")]
    InvalidPatBody,
    /// A body of `access-token/generate` that names no service: 400.
    #[error("the body names no service")]
    PatWithoutScopes,
    /// Our fault; the log says what: 500.
    #[error("internal error")]
    Internal,
}

impl From<LoginError> for ApiError {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::WrongCredentials => Self::WrongCredentials,
            LoginError::Unavailable => Self::Unavailable,
        }
    }
}

impl ApiError {
    /// The status and what the client is told about the request for `url`.
    fn message(&self, url: &str) -> (StatusCode, ApiMessage) {
        let with_url = |template| ApiMessage::with(template, &[url]);
        match self {
            Self::NotFound => (StatusCode::NOT_FOUND, ApiMessage::new(&message::NOT_FOUND)),
            Self::MethodNotAllowed { method, .. } => (
                StatusCode::METHOD_NOT_ALLOWED,
                ApiMessage::with(&message::INVALID_METHOD, &[method.as_str(), url]),
            ),
            Self::BodyTooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                ApiMessage::with(&message::CONTENT_TOO_LARGE, &[&MAX_BODY_LEN.to_string()]),
            ),
            Self::BodyBroken => (
                StatusCode::BAD_REQUEST,
                ApiMessage::with(&message::BAD_REQUEST, &["the body breaks off"]),
            ),
            Self::InvalidLoginInput => {
                (StatusCode::BAD_REQUEST, with_url(&message::INVALID_LOGIN_INPUT))
            }
            Self::WrongCredentials => {
                (StatusCode::UNAUTHORIZED, with_url(&message::INVALID_CREDENTIALS))
            }
            Self::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                ApiMessage::new(&message::AUTHENTICATION_UNAVAILABLE),
            ),
            Self::TokenNotProvided => {
                (StatusCode::UNAUTHORIZED, with_url(&message::TOKEN_NOT_PROVIDED))
            }
            Self::Token(TokenError::Expired { .. }) => {
                (StatusCode::UNAUTHORIZED, with_url(&message::TOKEN_EXPIRED_FOR_URL))
            }
            Self::Token(_) | Self::PersonalAccessToken => {
                (StatusCode::UNAUTHORIZED, with_url(&message::TOKEN_NOT_VALID_FOR_URL))
            }
            Self::InvalidPatBody => {
                (StatusCode::BAD_REQUEST, ApiMessage::new(&message::INVALID_PAT_BODY))
            }
            Self::PatWithoutScopes => {
                (StatusCode::BAD_REQUEST, ApiMessage::new(&message::PAT_WITHOUT_SCOPES))
            }
            Self::Internal => {
                (StatusCode::INTERNAL_SERVER_ERROR, ApiMessage::new(&message::INTERNAL))
            }
        }
    }

    /// The challenge of a 401. RFC 6750 §3: no `error` when there was no token to judge.
    fn challenge(&self) -> Option<&'static str> {
        match self {
            // See the module documentation on why this is not `Basic`.
            Self::WrongCredentials => Some(r#"xBasic realm="zowe", charset="UTF-8""#),
            Self::TokenNotProvided => Some(r#"Bearer realm="zowe""#),
            Self::Token(_) | Self::PersonalAccessToken => {
                Some(r#"Bearer realm="zowe", error="invalid_token""#)
            }
            _ => None,
        }
    }

    /// The response to the request for `url`, the path as the client wrote it.
    pub(super) fn into_response(self, url: &str) -> Response<Full<Bytes>> {
        let (status, message) = self.message(url);
        let mut response = message.into_response(status).map(Full::new);
        let headers = response.headers_mut();
        if let Some(challenge) = self.challenge() {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        match &self {
            Self::MethodNotAllowed { allowed, .. } => {
                if let Ok(allowed) = HeaderValue::from_str(allowed.as_str()) {
                    headers.insert(ALLOW, allowed);
                }
            }
            // An expired token goes without: zowe-endpoints §0.5.
            Self::Token(TokenError::Expired { .. }) => {}
            Self::Token(_) | Self::PersonalAccessToken => {
                let line = ApiMessage::new(&message::INVALID_TOKEN).line();
                if let Ok(line) = HeaderValue::try_from(line) {
                    headers.insert(&X_ZOWE_AUTH_FAILURE, line);
                }
            }
            _ => {}
        }
        response.extensions_mut().insert(self);
        response
    }
}
