//! A running Zowe API Mediation Layer (API ML) differs in some points from the documentation of Zowe. This module
//! implements the differences of the auth API (docs/decisions.md#d1). The module `layer::compatibility` implements the
//! differences of routes.

use std::borrow::Cow;

use bytes::Bytes;
use http::{
    HeaderValue, Method, Response, StatusCode,
    header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE},
};
use http_body_util::Full;
use serde_json::json;

use super::{
    error::{ApiError, BodyField, PatRefusal},
    permission::GuardedTask,
    response::json_document,
    service_list::set_version,
    validation_answer::refusal_body,
};
pub use crate::compatibility::Compatibility;
use crate::{
    apiml_path::{ApimlPath, service_id},
    layer::{BearerNeeded, X_ZOWE_AUTH_FAILURE},
    messages::{self, ApiMessage},
};

impl Compatibility {
    /// Returns the status of a successful request to `access-token/validate`, `access-token/revoke`, or an endpoint
    /// below `access-token/revoke`.
    pub(super) fn success(self) -> StatusCode {
        match self {
            Self::Documented => StatusCode::OK,
            Self::ZoweV3 => StatusCode::NO_CONTENT,
        }
    }

    /// Returns the content type of a key in PEM. The running Zowe API ML sends the content type of JSON.
    pub(super) fn pem_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Documented => "text/plain",
            Self::ZoweV3 => "application/json",
        })
    }

    /// Returns the response for `error`. `url` is the path of the request, as the client wrote it.
    pub(super) fn response(self, error: ApiError, url: &str) -> Response<Full<Bytes>> {
        if let ApiError::Exchange(exchange) = &error {
            let mut response = exchange.response(url);
            response.extensions_mut().insert(error);
            return response;
        }
        let (status, message) = self.status_and_message(&error, url);
        let mut response = match message {
            Some(message) => {
                let body = match &error {
                    ApiError::NotValid(refusal) => Some(refusal_body(refusal, &message)),
                    _ => None,
                };
                message.into_response(status).map(|plain| Full::new(body.unwrap_or(plain)))
            }
            None => {
                let mut response = self.unknown_service(&error, url).unwrap_or_default();
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
        if let ApiError::MethodNotAllowed { allowed, .. } = &error {
            headers.insert(ALLOW, allow(allowed));
        }
        // The version of the format of the service list. API ML also sends it with these 404 responses.
        if error == ApiError::NoSuchService {
            set_version(headers);
        }
        if let Some(template) = error.auth_failure()
            && !(self == Self::ZoweV3 && is_without_reason(&error, url))
            && let Ok(line) = HeaderValue::try_from(ApiMessage::new(template).line())
        {
            headers.insert(&X_ZOWE_AUTH_FAILURE, line);
        }
        if status == StatusCode::UNAUTHORIZED && error.challenge().starts_with("Bearer ") {
            response.extensions_mut().insert(BearerNeeded);
        }
        response.extensions_mut().insert(error);
        response
    }

    /// In the profile `ZoweV3`, returns the response to a request for one service that does not exist. Returns `None`
    /// in the profile `Documented`, for all other errors, and if the request was for the whole list.
    fn unknown_service(self, error: &ApiError, path: &str) -> Option<Response<Full<Bytes>>> {
        if self != Self::ZoweV3 || *error != ApiError::NoSuchService {
            return None;
        }
        let document = json!({ "serviceId": service_id(path)?, "status": "UNKNOWN" });
        Some(json_document(&document))
    }

    /// Returns the status and the message for `error`. `path` is the path of the request. If the message is `None`, the
    /// body is empty, or it is the document of [`unknown_service`](Self::unknown_service).
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
            Self::ZoweV3 => zowe_v3_difference(error, path).unwrap_or_else(|| {
                let (status, message) = error.message(&zaas_path(path));
                let message = match (error, error.detail()) {
                    // In this profile, only the messages of a 429 contain the detail (docs/decisions.md#d45): the time
                    // that the client must wait, or the number of tokens that the user already has.
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

/// Returns the status and the message of Zowe API ML for `error`, if they differ from [`ApiError::message`]. The inner
/// `None` means that the response contains no message. See docs/reference/auth-endpoints.md#refresh,
/// docs/reference/auth-endpoints.md#ticket, docs/reference/auth-endpoints.md#personal-access-tokens and
/// docs/reference/auth-endpoints.md#required-behaviour.
fn zowe_v3_difference(error: &ApiError, path: &str) -> Option<(StatusCode, Option<ApiMessage>)> {
    let forbidden = || Some(ApiMessage::with(&messages::FORBIDDEN, &["Access Denied"]));
    if is_without_reason(error, path) {
        let message = ApiMessage::new(&messages::UNAUTHORIZED);
        return Some((StatusCode::UNAUTHORIZED, Some(message)));
    }
    Some(match error {
        ApiError::MethodNotAllowed { .. }
            if ApimlPath::find(path).is_some_and(|it| it != ApimlPath::AccessCheck) =>
        {
            let message = ApiMessage::new(&messages::METHOD_NOT_ALLOWED);
            (StatusCode::METHOD_NOT_ALLOWED, Some(message))
        }
        ApiError::NoSuchService => (StatusCode::NOT_FOUND, None),
        ApiError::NotFound if path.starts_with("/zaas/") => {
            let message = ApiMessage::with(&messages::NO_SUCH_ENDPOINT, &[path]);
            (StatusCode::NOT_FOUND, Some(message))
        }
        ApiError::NotPermitted(permission) if permission.task() == GuardedTask::ListServices => {
            let message = ApiMessage::with(&messages::FORBIDDEN, &[path]);
            (StatusCode::FORBIDDEN, Some(message))
        }
        ApiError::Pat(PatRefusal::NotAPat | PatRefusal::OutOfScope | PatRefusal::Revoked(_))
        | ApiError::Oidc(_)
        | ApiError::FieldMissing(BodyField::ServiceId | BodyField::OidcToken) => {
            (StatusCode::UNAUTHORIZED, None)
        }
        ApiError::FieldMissing(BodyField::Token) => {
            (StatusCode::UNAUTHORIZED, Some(ApiMessage::new(&messages::INVALID_TOKEN)))
        }
        ApiError::NotPermitted(_) | ApiError::NoUser => (StatusCode::FORBIDDEN, forbidden()),
        ApiError::CertificateRequired => (StatusCode::FORBIDDEN, None),
        ApiError::InvalidDelegateBody(_) => (StatusCode::BAD_REQUEST, None),
        // API ML has no response that tells the client to try again later. So the gateway sends the response of API ML
        // for a failed generation of a PassTicket (a one-time password of z/OS).
        ApiError::Ticket(error) if error.retry_after().is_some() => {
            let text = error.codes().text();
            let message = ApiMessage::with(&messages::TICKET_FAILED, &[&text]);
            (StatusCode::INTERNAL_SERVER_ERROR, Some(message))
        }
        _ => return None,
    })
}

/// Returns whether the response has the message for a missing credential, even if the request has a credential and it
/// is wrong. API ML's gateway answers in this way on `/application/health` and on the paths of the service list.
fn is_without_reason(error: &ApiError, path: &str) -> bool {
    let is_protected = matches!(
        ApimlPath::find(path),
        Some(ApimlPath::Health | ApimlPath::Services | ApimlPath::Service)
    );
    is_protected && error.message(path).0 == StatusCode::UNAUTHORIZED
}

/// Returns the path that the messages of API ML contain. API ML's gateway itself answers requests for the paths of
/// [`ApimlPath`], except the access check. It forwards all other requests for `/gateway/…` to its authentication
/// service (ZAAS), where the path begins with `/zaas/`. The messages contain the path at ZAAS.
fn zaas_path(path: &str) -> Cow<'_, str> {
    match path.strip_prefix("/gateway/") {
        Some(rest) if ApimlPath::find(path).is_none_or(|it| it == ApimlPath::AccessCheck) => {
            Cow::Owned(format!("/zaas/{rest}"))
        }
        _ => Cow::Borrowed(path),
    }
}

/// Returns the value of `Allow` for a path with these methods.
pub(super) fn allow(methods: &[Method]) -> HeaderValue {
    let mut text = String::new();
    for method in methods {
        text.push_str(method.as_str());
        text.push_str(if *method == Method::GET { ", HEAD, " } else { ", " });
    }
    text.push_str("OPTIONS");
    // The name of a method is always a valid header value.
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("OPTIONS"))
}
