//! The answer of `access-token/validate` in JSON (docs/reference/auth-endpoints.md#validate-json).

use bytes::Bytes;
use http::request::Parts;
use serde::Serialize;
use serde_json::Value;

use super::{
    compatibility::Compatibility,
    error::{ApiError, PatRefusal},
    response::{Answer, empty, json},
    rfc3339,
    token_json::wants_json,
};
use crate::{messages::ApiMessage, token::Pat};

/// The form of the answer to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValidationAnswer {
    /// The answer of Zowe: no body for a valid token.
    Plain(Compatibility),
    /// A JSON object with the result.
    Json,
}

impl ValidationAnswer {
    /// Returns the form that the client asks for. In the profile `ZoweV3`, always returns `Plain`, as API ML (Zowe's
    /// API Mediation Layer) answers.
    pub(super) fn to(request: &Parts, compatibility: Compatibility) -> Self {
        match compatibility {
            Compatibility::Documented if wants_json(&request.headers) => Self::Json,
            compatibility => Self::Plain(compatibility),
        }
    }

    pub(super) fn valid(self, pat: &Pat) -> Answer {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Valid {
            valid: bool,
            expires_at: String,
        }

        match self {
            Self::Plain(compatibility) => Ok(empty(compatibility.success())),
            Self::Json => {
                json(&Valid { valid: true, expires_at: rfc3339::write(pat.expires_at()) })
            }
        }
    }

    /// Returns the error for the answer. In JSON, a refused token has a reason code.
    pub(super) fn refused(self, error: ApiError) -> ApiError {
        match (self, error) {
            (Self::Json, ApiError::Pat(refusal)) => ApiError::NotValid(refusal),
            (_, error) => error,
        }
    }
}

/// Returns the body for a client that asks for JSON: the message that other clients also get, and the reason code.
pub(super) fn refusal_body(refusal: &PatRefusal, message: &ApiMessage) -> Bytes {
    #[derive(Serialize)]
    struct Refused {
        valid: bool,
        reason: &'static str,
        messages: Value,
    }

    // Neither conversion can fail: `to_json` returns JSON, and the names of all members are strings.
    let mut message: Value = serde_json::from_slice(&message.to_json()).unwrap_or_default();
    let messages = message["messages"].take();
    let body = Refused { valid: false, reason: refusal.code(), messages };
    serde_json::to_vec(&body).unwrap_or_default().into()
}
