//! Why a layer answers by itself, and the response.

use bytes::Bytes;
use http::{
    HeaderValue, Method, Response, StatusCode,
    header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE},
};

use super::failure::{Failure, X_ZOWE_AUTH_FAILURE};
use crate::messages::{self, ApiMessage};

/// Why a layer answered instead of the service. It is in the extensions of the response, so that an outer
/// layer can log, count or translate it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// No service has this path.
    #[error("no service is routed at this path")]
    NoRoute,
    /// The path has a `.` or `..` segment, plain or encoded. A service that resolves it would see another
    /// path than the one that was routed.
    #[error("the path has a dot segment")]
    DotSegment,
    /// A service that decodes the path would see a path of another route.
    #[error("the decoded path belongs to another route")]
    AmbiguousPath,
    /// `TRACE` and `CONNECT` are not forwarded.
    #[error("the method {0} is not forwarded")]
    Method(Method),
    /// Authentication or scheme failed on a route that rejects failures.
    #[error("authentication failed: {0}")]
    Authentication(Failure),
    /// A layer that this one needs is missing, or stands in the wrong place.
    #[error("the stack of layers is wrong: {0}")]
    Misassembled(&'static str),
}

impl Rejection {
    /// The stack is wrong: logs it; the answer is 500 and nothing is forwarded.
    #[cold]
    pub(crate) fn misassembled(what: &'static str) -> Self {
        tracing::error!(what, "the stack of layers is wrong; the request was not forwarded");
        Self::Misassembled(what)
    }

    /// The response to the client.
    #[cold]
    pub fn into_response<B: From<Bytes>>(self) -> Response<B> {
        let (status, message) = match &self {
            Self::NoRoute => (StatusCode::NOT_FOUND, ApiMessage::new(&messages::NOT_FOUND)),
            Self::DotSegment => (
                StatusCode::BAD_REQUEST,
                ApiMessage::with(
                    &messages::BAD_REQUEST,
                    &["the path has a segment '.' or '..'; send the path that it stands for"],
                ),
            ),
            Self::AmbiguousPath => (
                StatusCode::BAD_REQUEST,
                ApiMessage::with(
                    &messages::BAD_REQUEST,
                    &[
                        "the path is encoded in a way that can be read as another path; send it plain",
                    ],
                ),
            ),
            Self::Method(_) => {
                (StatusCode::METHOD_NOT_ALLOWED, ApiMessage::new(&messages::METHOD_NOT_ALLOWED))
            }
            Self::Authentication(failure) => (failure.status(), failure.message()),
            Self::Misassembled(_) => {
                (StatusCode::INTERNAL_SERVER_ERROR, ApiMessage::new(&messages::INTERNAL))
            }
        };
        let mut response = message.into_response(status).map(B::from);
        if let Self::Method(_) = &self {
            // RFC 9110 §15.5.6. The service may allow fewer of these.
            response.headers_mut().insert(
                ALLOW,
                HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
            );
        }
        if let Self::Authentication(failure) = &self {
            let headers = response.headers_mut();
            headers.insert(&X_ZOWE_AUTH_FAILURE, failure.header_value());
            if let Some(after) = failure.retry_after() {
                headers.insert(RETRY_AFTER, messages::retry_after(after));
            }
            if status == StatusCode::UNAUTHORIZED {
                // RFC 9110 §11.6.1; RFC 6750 §3: no `error` when there was no token to judge.
                headers.insert(
                    WWW_AUTHENTICATE,
                    HeaderValue::from_static(match failure {
                        Failure::Token(_) | Failure::Revocation(_) => {
                            "Bearer realm=\"zowe\", error=\"invalid_token\""
                        }
                        _ => "Bearer realm=\"zowe\"",
                    }),
                );
            }
            response.extensions_mut().insert(failure.clone());
        }
        response.extensions_mut().insert(self);
        response
    }
}
