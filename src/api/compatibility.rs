//! Where the documents of Zowe and the running Zowe API ML disagree: every difference between the
//! two profiles is decided here (design, decision 1).

use std::borrow::Cow;

use http::{HeaderValue, StatusCode};

use super::error::{ApiError, BodyField, PatRefusal};
use crate::messages::{self, ApiMessage};

/// Whom to follow where the documents of Zowe and the running Zowe API ML v3 disagree.
///
/// | | `Documented` | `ZoweV3` |
/// |---|---|---|
/// | `validate`, `revoke` and the rules succeed | 200, no body | 204 |
/// | SAF refuses a rule | 401 | 403 |
/// | a PAT is revoked, out of scope or none | 401, and the message says which | 401 without a body |
/// | `validate`, `revoke` lack a field | 400 | 401 |
/// | a certificate without a user makes a rule | 401 | 403 |
/// | `ticket`, `refresh` without a certificate | 403 with a message | 403 without a body |
/// | `delegate/passticket` cannot read its body | 400 with a message | 400 without a body |
/// | a message about a body | says what is wrong, and where | the text of the catalogue |
/// | paths in messages | `/gateway/api/v1/…`, as they were asked for | `/zaas/api/v1/…` |
/// | type of `keys/public` | `text/plain` | `application/json` |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compatibility {
    /// The documents.
    #[default]
    Documented,
    /// The running system, with its statuses, texts and empty bodies.
    ZoweV3,
}

impl Compatibility {
    /// The status of a success of `validate`, `revoke` and the rules.
    pub(super) fn success(self) -> StatusCode {
        match self {
            Self::Documented => StatusCode::OK,
            Self::ZoweV3 => StatusCode::NO_CONTENT,
        }
    }

    /// The type of a key in PEM, which is no JSON, but which the reference calls so.
    pub(super) fn pem_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Documented => "text/plain",
            Self::ZoweV3 => "application/json",
        })
    }

    /// The status of the refusal of a request for `path`, and its message unless it has no body.
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

/// The rows in which the reference differs by more than its texts (zowe-endpoints §1.4, §1.5,
/// §1.8 to §1.13, §10.2).
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
        // It has no such limit, so it is one more ticket that cannot be made.
        ApiError::Ticket(error) if error.retry_after().is_some() => {
            let text = error.codes().text();
            let message = ApiMessage::with(&messages::TICKET_FAILED, &[&text]);
            (StatusCode::INTERNAL_SERVER_ERROR, Some(message))
        }
        _ => return None,
    })
}

/// The path that the service behind the gateway of the reference sees.
fn zaas_path(path: &str) -> Cow<'_, str> {
    match path.strip_prefix("/gateway/api/") {
        Some(rest) => Cow::Owned(format!("/zaas/api/{rest}")),
        None => Cow::Borrowed(path),
    }
}
