//! The differences between the documentation of Zowe and the running Zowe API ML. All of them are
//! decided here (docs/decisions.md#d1).

use std::borrow::Cow;

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
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
/// | `validate`, `revoke` and revocation rules succeed | 200, no body | 204 |
/// | SAF refuses a revocation rule | 401 | 403 |
/// | the token is revoked, out of scope or not a PAT | 401, and the message says which | 401 without a body |
/// | `validate`, `revoke` lack a field | 400 | 401 |
/// | a certificate without a user, for a revocation rule | 401 | 403 |
/// | `ticket`, `refresh` without a certificate | 403 with a message | 403 without a body |
/// | `delegate/passticket` cannot read its body | 400 with a message | 400 without a body |
/// | a message about a body | has the fault and its place | the text of the catalogue |
/// | paths in messages below `/gateway/api/` | as in the request | below `/zaas/api/` |
/// | content type of `keys/public` | `text/plain` | `application/json` |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compatibility {
    /// The documentation.
    #[default]
    Documented,
    /// The running system, with its statuses, texts and empty bodies.
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

    /// The content type of a key in PEM. Zowe API ML calls it JSON.
    pub(super) fn pem_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Documented => "text/plain",
            Self::ZoweV3 => "application/json",
        })
    }

    /// The response to a request for `url`, the path as the client wrote it, that failed.
    pub(super) fn response(self, error: ApiError, url: &str) -> Response<Full<Bytes>> {
        let (status, message) = self.refusal(&error, url);
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
        // RFC 9110 §11.6.1.
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(error.challenge()));
        }
        if let ApiError::MethodNotAllowed { allowed, .. } = &error
            && let Ok(allowed) = HeaderValue::from_str(allowed.as_str())
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

    /// The status of a failed request for `path`, and its message unless the response has no body.
    pub(super) fn refusal(self, error: &ApiError, path: &str) -> (StatusCode, Option<ApiMessage>) {
        match self {
            Self::Documented => {
                let (status, message) = error.message(path);
                let message = match error.detail() {
                    Some(detail) => message.with_detail(&detail),
                    None => message,
                };
                (status, Some(message))
            }
            Self::ZoweV3 => reference(error).unwrap_or_else(|| {
                let (status, message) = error.message(&zaas_path(path));
                (status, Some(message))
            }),
        }
    }
}

/// The errors for which Zowe API ML has another status or no body
/// (docs/reference/auth-endpoints.md#refresh, docs/reference/auth-endpoints.md#ticket,
/// docs/reference/auth-endpoints.md#personal-access-tokens,
/// docs/reference/auth-endpoints.md#required-behaviour).
fn reference(error: &ApiError) -> Option<(StatusCode, Option<ApiMessage>)> {
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
        // Zowe API ML has no such limit, so the generation has failed.
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
