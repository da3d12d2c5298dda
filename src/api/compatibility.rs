//! The differences between the documentation of Zowe and the running Zowe API Mediation Layer (API ML). This module
//! implements all these differences (docs/decisions.md#d1).

use std::borrow::Cow;

use bytes::Bytes;
use http::{
    HeaderValue, Method, Response, StatusCode,
    header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE},
};
use http_body_util::Full;

use super::error::{ApiError, BodyField, PatRefusal};
use crate::{
    layer::X_ZOWE_AUTH_FAILURE,
    messages::{self, ApiMessage},
};

/// The profile to follow where the documentation of Zowe and the running Zowe API ML v3 disagree.
///
/// | | `Documented` | `ZoweV3` |
/// |---|---|---|
/// | success of `validate`, `revoke` and revocation rules | 200, no body | 204 |
/// | SAF refuses a revocation rule | 401 | 403 |
/// | the token is revoked, out of scope or not a PAT | 401, and the message gives the reason | 401 without a body |
/// | the body of `validate` or `revoke` lacks a field | 400 | 401 |
/// | the certificate has no user (except for `login` and `generate`) | 401 | 403 |
/// | `ticket` or `refresh` without a certificate | 403 with a message | 403 without a body |
/// | a PassTicket cannot be generated now, but a later request can succeed | 503 | 500 |
/// | the body of `delegate/passticket` is malformed | 400 with a message | 400 without a body |
/// | texts of messages | may end with a detail, such as the position of a syntax error | only Zowe's text; with 429 also the wait |
/// | paths in messages, if the path of the request is below `/gateway/api/` | as in the request | below `/zaas/api/` |
/// | content type of `keys/public` | `text/plain` | `application/json` |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compatibility {
    /// Statuses and bodies are as in the documentation of Zowe.
    #[default]
    Documented,
    /// Statuses, texts and empty bodies are as in the running Zowe API ML.
    ZoweV3,
}

impl Compatibility {
    /// The status of a success of `validate`, `revoke` and revocation rules.
    pub(super) fn success(self) -> StatusCode {
        match self {
            Self::Documented => StatusCode::OK,
            Self::ZoweV3 => StatusCode::NO_CONTENT,
        }
    }

    /// The content type of a key in PEM. The running Zowe API ML sends the content type of JSON.
    pub(super) fn pem_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Documented => "text/plain",
            Self::ZoweV3 => "application/json",
        })
    }

    /// The response for `error`. `url` is the path of the request, as the client wrote it.
    pub(super) fn response(self, error: ApiError, url: &str) -> Response<Full<Bytes>> {
        let (status, message) = self.status_and_message(&error, url);
        let mut response = match message {
            Some(message) => message.into_response(status).map(Full::new),
            None => {
                let mut response = Response::new(Full::default());
                *response.status_mut() = status;
                response
            }
        };
        let headers = response.headers_mut();
        if let Some(after) = error.retry_after() {
            headers.insert(RETRY_AFTER, messages::retry_after(after));
        }
        // A 401 response must have this header (RFC 9110 §11.6.1).
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(error.challenge()));
        }
        if let ApiError::MethodNotAllowed { allowed, .. } = &error
            && let Ok(allowed) = match *allowed {
                Method::GET => Ok(HeaderValue::from_static("GET, HEAD")),
                _ => HeaderValue::from_str(allowed.as_str()),
            }
        {
            headers.insert(ALLOW, allowed);
        }
        if let Some(template) = error.auth_failure()
            && let Ok(line) = HeaderValue::try_from(ApiMessage::new(template).line())
        {
            headers.insert(&X_ZOWE_AUTH_FAILURE, line);
        }
        response.extensions_mut().insert(error);
        response
    }

    /// The status and the message for `error`. `path` is the path of the request. The message is `None`
    /// if the response has no body.
    pub(super) fn status_and_message(
        self,
        error: &ApiError,
        path: &str,
    ) -> (StatusCode, Option<ApiMessage>) {
        match self {
            Self::Documented => {
                let (status, message) = error.message(path);
                let message = match error.detail() {
                    Some(detail) => message.with_detail(&detail),
                    None => message,
                };
                (status, Some(message))
            }
            Self::ZoweV3 => zowe_v3_difference(error).unwrap_or_else(|| {
                let (status, message) = error.message(&zaas_path(path));
                let message = match (error, error.detail()) {
                    // These messages keep the detail. Without it, the client would not know how long to wait
                    // (docs/decisions.md#d45).
                    (
                        ApiError::TooManyAttempts { .. }
                        | ApiError::TooManyCalls { .. }
                        | ApiError::TooManyPats { .. },
                        Some(detail),
                    ) => message.with_detail(&detail),
                    _ => message,
                };
                (status, Some(message))
            }),
        }
    }
}

/// The status and the message of Zowe API ML for `error`, if they differ from [`ApiError::message`]. The
/// inner `None` means a response without a body
/// (docs/reference/auth-endpoints.md#refresh, docs/reference/auth-endpoints.md#ticket,
/// docs/reference/auth-endpoints.md#personal-access-tokens,
/// docs/reference/auth-endpoints.md#required-behaviour).
fn zowe_v3_difference(error: &ApiError) -> Option<(StatusCode, Option<ApiMessage>)> {
    let forbidden = || Some(ApiMessage::with(&messages::FORBIDDEN, &["Access Denied"]));
    Some(match error {
        ApiError::Pat(PatRefusal::NotAPat | PatRefusal::OutOfScope | PatRefusal::Revoked(_))
        | ApiError::FieldMissing(BodyField::ServiceId) => (StatusCode::UNAUTHORIZED, None),
        ApiError::FieldMissing(BodyField::Token) => {
            (StatusCode::UNAUTHORIZED, Some(ApiMessage::new(&messages::INVALID_TOKEN)))
        }
        ApiError::NotPermitted(_) | ApiError::NoUser => (StatusCode::FORBIDDEN, forbidden()),
        ApiError::CertificateRequired => (StatusCode::FORBIDDEN, None),
        ApiError::InvalidDelegateBody(_) => (StatusCode::BAD_REQUEST, None),
        // Zowe API ML has no limit of PassTickets per second. So the response is the same as for a failed generation of
        // a PassTicket.
        ApiError::Ticket(error) if error.retry_after().is_some() => {
            let text = error.codes().text();
            let message = ApiMessage::with(&messages::TICKET_FAILED, &[&text]);
            (StatusCode::INTERNAL_SERVER_ERROR, Some(message))
        }
        _ => return None,
    })
}

/// The path that ZAAS, the service behind the gateway of Zowe API ML, receives.
fn zaas_path(path: &str) -> Cow<'_, str> {
    match path.strip_prefix("/gateway/api/") {
        Some(rest) => Cow::Owned(format!("/zaas/api/{rest}")),
        None => Cow::Borrowed(path),
    }
}
