//! The responses of layers that answer a request themselves.

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderValue, Method, Response, StatusCode,
    header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE},
};

use super::failure::{Failure, X_ZOWE_AUTH_FAILURE};
use crate::{
    log_limit::log_limited,
    messages::{self, ApiMessage},
};

/// Why a layer answered a request itself. The `Rejection` is also an extension of the response. So an outer layer can
/// log or count it, or change the response. If an earlier layer has found the route or the kind of the credential, the
/// response also has the extension `Arc<`[`Route`](super::Route)`>` or
/// [`CredentialKind`](crate::audit::CredentialKind).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// No route matches the path of the request, or the route does not allow the path
    /// ([`RouteLimits`](super::RouteLimits)).
    #[error("no route matches the path")]
    NoRoute,
    /// No instance of the service can answer requests now.
    #[error("the service has no instance that can serve requests")]
    OutOfService,
    /// The path has a segment `.` or `..`, plain or encoded once or twice. A service that resolves this segment reads
    /// another path than the gateway.
    #[error("the path has a dot segment")]
    DotSegment,
    /// The path has an encoded NUL. Some servers end the path at a NUL, and so read another path than the gateway.
    #[error("the path has an encoded NUL")]
    Nul,
    /// The decoded path, without empty segments and parameters (`;x=y`), belongs to a more specific route. A service
    /// that decodes the path reads another path than the gateway.
    #[error("the decoded path belongs to a more specific route")]
    AmbiguousPath,
    /// The path has `%`, `;` or `\`, and the route has [`EncodedPaths::Refuse`](super::EncodedPaths::Refuse).
    #[error("the path has '%', ';' or '\\', which the service does not allow")]
    EncodedPath,
    /// The gateway does not forward `CONNECT`, and `TRACE` in upper, lower or mixed case.
    #[error("the method {0} is not forwarded")]
    Method(Method),
    /// The route does not allow the method ([`RouteLimits`](super::RouteLimits)).
    #[error("the route does not allow the method {method}")]
    MethodNotAllowed {
        /// The method of the request.
        method: Method,
        /// The value of `Allow`.
        allow: HeaderValue,
    },
    /// The headers of the request are larger than the route allows.
    #[error("the headers of the request are larger than {limit} bytes")]
    HeadersTooLarge {
        /// The maximum in bytes.
        limit: usize,
    },
    /// The body of the request is larger than the route allows.
    #[error("the body of the request is larger than {limit} bytes")]
    BodyTooLarge {
        /// The maximum in bytes.
        limit: u64,
    },
    /// The request is malformed. For example, it names no host or several hosts.
    #[error("the request is malformed: {0}")]
    Malformed(&'static str),
    /// The body has a transfer coding that the gateway does not know (RFC 9112 §6.1).
    #[error("the body has a transfer coding other than chunked")]
    TransferCoding,
    /// A web page of another origin made a browser send the request ([`OriginPolicy`](super::OriginPolicy)).
    #[error("the request comes from a web page of another origin")]
    CrossOrigin,
    /// The client has sent more requests than the [`RateLimit`](super::RateLimit) of the route permits.
    #[error("the client has sent too many requests in a short time")]
    RateLimited {
        /// After this time, the client may send a request again.
        retry_after: Duration,
    },
    /// Authentication or the scheme failed, and the gateway does not forward the request.
    #[error("authentication or the scheme failed: {0}")]
    Authentication(Failure),
    /// A required layer is missing, or the layers are in the wrong order.
    #[error("the stack of layers is wrong: {0}")]
    Misassembled(&'static str),
}

/// Adds the challenge `Basic` to a 401. Clients such as git send a password only after this challenge
/// ([D24](crate::decisions#d24)).
#[cold]
pub(super) fn offer_basic<B>(response: &mut Response<B>) {
    if response.status() == StatusCode::UNAUTHORIZED {
        let challenge = HeaderValue::from_static("Basic realm=\"zowe\", charset=\"UTF-8\"");
        response.headers_mut().append(WWW_AUTHENTICATE, challenge);
    }
}

impl Rejection {
    /// Also logs that the stack of layers is wrong.
    #[cold]
    pub(crate) fn misassembled(what: &'static str) -> Self {
        log_limited!(
            error,
            ("misassembled", what),
            { what },
            "the stack of layers is wrong; the request was not forwarded"
        );
        Self::Misassembled(what)
    }

    /// Returns the response for the client.
    #[cold]
    pub fn into_response<B: From<Bytes>>(self) -> Response<B> {
        let (status, message) = match &self {
            Self::NoRoute => (StatusCode::NOT_FOUND, ApiMessage::new(&messages::NOT_FOUND)),
            Self::OutOfService => (
                StatusCode::SERVICE_UNAVAILABLE,
                ApiMessage::with(
                    &messages::SERVICE_UNAVAILABLE,
                    &["no instance of the service is up"],
                ),
            ),
            Self::DotSegment => (
                StatusCode::BAD_REQUEST,
                ApiMessage::with(
                    &messages::BAD_REQUEST,
                    &["the path has a segment '.' or '..'; send a path without such segments"],
                ),
            ),
            Self::Nul => (
                StatusCode::BAD_REQUEST,
                ApiMessage::with(
                    &messages::BAD_REQUEST,
                    &["the path has an encoded NUL; send a path without '%00' and '%2500'"],
                ),
            ),
            Self::AmbiguousPath => (
                StatusCode::BAD_REQUEST,
                ApiMessage::with(
                    &messages::BAD_REQUEST,
                    &[
                        "the decoded path belongs to a more specific route; send a path without '%', ';', '\\' and '//'",
                    ],
                ),
            ),
            Self::EncodedPath => (
                StatusCode::BAD_REQUEST,
                ApiMessage::with(
                    &messages::BAD_REQUEST,
                    &["the service does not allow '%', ';' or '\\' in a path"],
                ),
            ),
            Self::Malformed(what) => {
                (StatusCode::BAD_REQUEST, ApiMessage::with(&messages::BAD_REQUEST, &[what]))
            }
            Self::TransferCoding => (
                StatusCode::NOT_IMPLEMENTED,
                ApiMessage::with(
                    &messages::BAD_REQUEST,
                    &["the body has a transfer coding other than 'chunked'"],
                ),
            ),
            Self::CrossOrigin => (StatusCode::FORBIDDEN, ApiMessage::new(&messages::CROSS_ORIGIN)),
            Self::HeadersTooLarge { limit } => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                ApiMessage::with(
                    &messages::BAD_REQUEST,
                    &[&format!(
                        "the headers are larger than {limit} bytes, the maximum for this service"
                    )],
                ),
            ),
            Self::BodyTooLarge { limit } => (
                StatusCode::PAYLOAD_TOO_LARGE,
                ApiMessage::with(&messages::ROUTE_CONTENT_TOO_LARGE, &[&limit.to_string()]),
            ),
            Self::Method(_) | Self::MethodNotAllowed { .. } => {
                (StatusCode::METHOD_NOT_ALLOWED, ApiMessage::new(&messages::METHOD_NOT_ALLOWED))
            }
            Self::RateLimited { retry_after } => {
                let wait = messages::whole_seconds(*retry_after);
                let message = ApiMessage::new(&messages::TOO_MANY_CALLS);
                (
                    StatusCode::TOO_MANY_REQUESTS,
                    message.with_detail(&format!("wait {wait} seconds")),
                )
            }
            Self::Authentication(failure) => (failure.status(), failure.message()),
            Self::Misassembled(_) => {
                (StatusCode::INTERNAL_SERVER_ERROR, ApiMessage::new(&messages::INTERNAL))
            }
        };
        let mut response = message.into_response(status).map(B::from);
        // A 405 response must have `Allow` (RFC 9110 §15.5.6). For `TRACE` and `CONNECT`, `Allow` lists the common
        // methods, even if the service does not support all of them.
        let allow = match &self {
            Self::Method(_) => {
                Some(HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"))
            }
            Self::MethodNotAllowed { allow, .. } => Some(allow.clone()),
            _ => None,
        };
        if let Some(allow) = allow {
            response.headers_mut().insert(ALLOW, allow);
        }
        if let Self::RateLimited { retry_after } = &self {
            response.headers_mut().insert(RETRY_AFTER, messages::retry_after(*retry_after));
        }
        if let Self::Authentication(failure) = &self {
            let headers = response.headers_mut();
            headers.insert(&X_ZOWE_AUTH_FAILURE, failure.header_value());
            if let Some(after) = failure.retry_after() {
                headers.insert(RETRY_AFTER, messages::retry_after(after));
            }
            if status == StatusCode::UNAUTHORIZED {
                // A 401 response must have `WWW-Authenticate` (RFC 9110 §11.6.1). Its parameter `error` is only for
                // refused tokens (RFC 6750 §3).
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
