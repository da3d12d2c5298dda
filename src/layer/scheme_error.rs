//! The error of a scheme.

use std::time::Duration;

use http::StatusCode;

use crate::{
    audit::ReasonCode,
    messages::{self, ApiMessage},
};

/// Why a [`Scheme`](super::Scheme) could not prepare a request for the service.
///
/// `Display` shows the reason, for the log. The client receives a message with less detail, and so does the service if
/// it receives the request ([D5](crate::decisions#d5)).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct SchemeError {
    reason: String,
    kind: Kind,
    message: Option<ApiMessage>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Failed,
    Unavailable { retry_after: Option<Duration> },
}

impl SchemeError {
    /// Creates an error for a failure that a retry does not help. The message is `ZWEAO500E`. If the route rejects the
    /// request, the status is 500.
    ///
    /// `reason` is for the log. It should say what the operator can do, and must not contain a secret.
    pub fn failed(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), kind: Kind::Failed, message: None }
    }

    /// Creates an error for a server that the scheme needs and that does not answer. The message is `ZWEAG104E`. If the
    /// route rejects the request, the status is 503, and `retry_after` sets `Retry-After`.
    ///
    /// `reason` is for the log. It must not contain a secret.
    pub fn unavailable(reason: impl Into<String>, retry_after: Option<Duration>) -> Self {
        Self { reason: reason.into(), kind: Kind::Unavailable { retry_after }, message: None }
    }

    /// Replaces the message for the client and the service.
    #[must_use]
    pub fn with_message(self, message: ApiMessage) -> Self {
        Self { message: Some(message), ..self }
    }

    /// Returns how long the client should wait before it tries again, if this is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self.kind {
            Kind::Unavailable { retry_after } => retry_after,
            Kind::Failed => None,
        }
    }

    pub(super) fn message(&self) -> ApiMessage {
        let default = match self.kind {
            Kind::Failed => &messages::INTERNAL,
            Kind::Unavailable { .. } => &messages::AUTHENTICATION_UNAVAILABLE,
        };
        self.message.clone().unwrap_or(ApiMessage::new(default))
    }

    pub(super) fn status(&self) -> StatusCode {
        match self.kind {
            Kind::Failed => StatusCode::INTERNAL_SERVER_ERROR,
            Kind::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl From<&SchemeError> for ReasonCode {
    fn from(error: &SchemeError) -> Self {
        match error.kind {
            Kind::Failed => Self::SchemeFailed,
            Kind::Unavailable { .. } => Self::Unavailable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_status_message_and_reason() {
        let second = Some(Duration::from_secs(1));
        let custom = ApiMessage::new(&messages::MISSING_CERTIFICATE);
        let cases = [
            (SchemeError::failed("x"), 500, "ZWEAO500E", "scheme-failed", None),
            (SchemeError::unavailable("x", None), 503, "ZWEAG104E", "unavailable", None),
            (SchemeError::unavailable("x", second), 503, "ZWEAG104E", "unavailable", second),
            (
                SchemeError::failed("x").with_message(custom),
                500,
                "ZWEAG167E",
                "scheme-failed",
                None,
            ),
        ];
        for (error, status, number, reason, retry_after) in cases {
            assert_eq!(error.status(), status, "{error:?}");
            assert_eq!(error.message().number(), number, "{error:?}");
            assert_eq!(ReasonCode::from(&error).as_str(), reason, "{error:?}");
            assert_eq!(error.retry_after(), retry_after, "{error:?}");
        }
    }
}
