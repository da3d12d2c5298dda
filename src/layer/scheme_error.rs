//! Why a scheme has nothing for a service.

use std::time::Duration;

use http::StatusCode;

use crate::{
    audit::ReasonCode,
    messages::{self, ApiMessage},
};

/// Why a [`Scheme`](super::Scheme) has nothing for the service.
///
/// `Display` is for the log. The client and the service get the message, which says no more than
/// necessary ([D5](crate::decisions#d5)).
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
    /// The scheme failed, and a repetition will not help: 500 and `ZWEAO500E`. `reason` goes to the
    /// log; say there what the operator can do, and put no secret in.
    pub fn failed(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), kind: Kind::Failed, message: None }
    }

    /// A server that the scheme needs does not answer: 503, `ZWEAG104E`, and `Retry-After` if it is
    /// known. `reason` goes to the log.
    pub fn unavailable(reason: impl Into<String>, retry_after: Option<Duration>) -> Self {
        Self { reason: reason.into(), kind: Kind::Unavailable { retry_after }, message: None }
    }

    /// Tells the client and the service this instead of the usual message.
    #[must_use]
    pub fn with_message(self, message: ApiMessage) -> Self {
        Self { message: Some(message), ..self }
    }

    /// When a repetition may help, if that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self.kind {
            Kind::Unavailable { retry_after } => retry_after,
            Kind::Failed => None,
        }
    }

    pub(super) fn message(&self) -> ApiMessage {
        let usual = match self.kind {
            Kind::Failed => &messages::INTERNAL,
            Kind::Unavailable { .. } => &messages::AUTHENTICATION_UNAVAILABLE,
        };
        self.message.clone().unwrap_or(ApiMessage::new(usual))
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
        let own = ApiMessage::new(&messages::MISSING_CERTIFICATE);
        let cases = [
            (SchemeError::failed("x"), 500, "ZWEAO500E", "scheme-failed", None),
            (SchemeError::unavailable("x", None), 503, "ZWEAG104E", "unavailable", None),
            (SchemeError::unavailable("x", second), 503, "ZWEAG104E", "unavailable", second),
            (SchemeError::failed("x").with_message(own), 500, "ZWEAG167E", "scheme-failed", None),
        ];
        for (error, status, number, reason, retry_after) in cases {
            assert_eq!(error.status(), status, "{error:?}");
            assert_eq!(error.message().number(), number, "{error:?}");
            assert_eq!(ReasonCode::from(&error).as_str(), reason, "{error:?}");
            assert_eq!(error.retry_after(), retry_after, "{error:?}");
        }
    }
}
