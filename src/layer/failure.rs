//! Failures of authentication and of schemes. A scheme prepares the headers that a service receives in place of the
//! credential of the client.

use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};

use super::{password::PasswordError, scheme_error::SchemeError};
use crate::{
    audit::ReasonCode,
    identity::MapError,
    messages::{self, ApiMessage},
    passticket::GenerateError,
    revocation::CheckError,
    token::{ServiceId, TokenError},
};

/// This header tells the client and the service why authentication or the scheme failed
/// (`docs/reference/data-plane.md#failure`).
pub static X_ZOWE_AUTH_FAILURE: HeaderName = HeaderName::from_static("x-zowe-auth-failure");

/// Why the credential of a request was refused, or why the scheme of its route failed.
///
/// `Display` shows the exact reason, for the log. The client and the service receive [`message`](Self::message), which
/// has less detail ([D5](crate::decisions#d5)).
///
/// The `Failure` is also an extension of the response, whether the request was forwarded or rejected. With
/// [`Mode::Observe`](super::Mode::Observe), the response has no such extension.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The request has no credential that the gateway accepts.
    #[error("the request has no credential")]
    NoCredential,
    /// The scheme of the route needs a client certificate. The request has none, or client certificates are turned off.
    #[error(
        "the request has no client certificate that the gateway accepts, but the scheme of the service needs one"
    )]
    NoCertificate,
    /// The gateway does not accept a token of this kind in this header or cookie. For example, `PRIVATE-TOKEN` accepts
    /// only Personal Access Tokens (PATs), and no login token. While PATs are turned off, no header or cookie accepts a
    /// PAT.
    #[error("a token of this kind is not accepted in this header or cookie")]
    WrongKind,
    /// The token is not valid, or it could not be verified.
    #[error("{0}")]
    Token(#[from] TokenError),
    /// The token is revoked, or the revocation check failed.
    #[error("{0}")]
    Revocation(#[from] CheckError),
    /// The password in `Authorization: Basic` is a PAT, but the user name is not the user of the PAT.
    #[error("the user name does not match the user of the token")]
    UserMismatch,
    /// The password in `Authorization: Basic` was not accepted.
    #[error("{0}")]
    Password(#[from] PasswordError),
    /// The certificate, or the identity in the token, could not be mapped to a user.
    #[error("{0}")]
    Identity(#[from] MapError),
    /// The token is valid, but not for this request: the scopes of a PAT do not permit the request, or a scheme has
    /// issued the login token for another service.
    #[error("the scopes of the token do not permit this request to {service}")]
    OutOfScope {
        /// The service of the route.
        service: ServiceId,
    },
    /// No PassTicket could be generated.
    #[error("{0}")]
    Generate(#[from] GenerateError),
    /// The scheme failed for another reason.
    #[error("{0}")]
    Scheme(#[from] SchemeError),
}

impl Failure {
    /// Returns the message for the client and the service.
    pub fn message(&self) -> ApiMessage {
        match self {
            Self::NoCredential | Self::WrongKind => {
                ApiMessage::new(&messages::MISSING_AUTHENTICATION)
            }
            Self::NoCertificate => ApiMessage::new(&messages::MISSING_CERTIFICATE),
            Self::Token(TokenError::Expired { .. }) => ApiMessage::new(&messages::EXPIRED_TOKEN),
            Self::Token(TokenError::Unavailable(_))
            | Self::Identity(MapError::Unavailable | MapError::Failed(_))
            | Self::Revocation(CheckError::Unavailable) => {
                ApiMessage::new(&messages::AUTHENTICATION_UNAVAILABLE)
            }
            Self::Token(TokenError::Subject(_)) | Self::Identity(_) => {
                ApiMessage::new(&messages::NO_USER)
            }
            Self::Token(_) | Self::Revocation(_) | Self::OutOfScope { .. } | Self::UserMismatch => {
                ApiMessage::new(&messages::INVALID_TOKEN)
            }
            Self::Password(error) => error.message(),
            Self::Generate(e) => ApiMessage::with(&messages::TICKET_FAILED, &[&e.text()]),
            Self::Scheme(error) => error.message(),
        }
    }

    /// Returns the status of the response, if the route rejects the request ([D4](crate::decisions#d4)).
    pub fn status(&self) -> StatusCode {
        match self {
            Self::OutOfScope { .. } => StatusCode::FORBIDDEN,
            Self::Generate(error) if error.retry_after().is_some() => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Generate(error) if error.is_not_authenticated() => StatusCode::UNAUTHORIZED,
            Self::Generate(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Scheme(error) => error.status(),
            Self::Password(error) => error.status(),
            Self::Token(TokenError::Unavailable(_))
            | Self::Identity(MapError::Unavailable | MapError::Failed(_))
            | Self::Revocation(CheckError::Unavailable) => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::UNAUTHORIZED,
        }
    }

    /// Returns the value of `Retry-After`, if it is known.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Generate(error) => error.retry_after(),
            Self::Scheme(error) => error.retry_after(),
            Self::Password(error) => error.retry_after(),
            _ => None,
        }
    }

    /// Returns the value of `X-Zowe-Auth-Failure`.
    pub(super) fn header_value(&self) -> HeaderValue {
        // The messages of this crate are valid header values. The message of a scheme outside this crate can be
        // malformed.
        HeaderValue::from_str(&self.message().line())
            .unwrap_or(HeaderValue::from_static("ZWEAG100E"))
    }
}

impl From<&Failure> for ReasonCode {
    fn from(failure: &Failure) -> Self {
        match failure {
            Failure::NoCredential => Self::NoCredential,
            Failure::NoCertificate => Self::CertificateRequired,
            Failure::WrongKind => Self::WrongKind,
            Failure::Token(error) => error.into(),
            Failure::Revocation(error) => (*error).into(),
            Failure::UserMismatch => Self::UserMismatch,
            Failure::Password(error) => (*error).into(),
            Failure::Identity(error) => error.into(),
            Failure::OutOfScope { .. } => Self::OutOfScope,
            Failure::Generate(error) => error.into(),
            Failure::Scheme(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        passticket::{Applid, NoTimeSlot, SafReturnCodes, UserId},
        revocation::RevokedBy,
    };

    #[test]
    fn each_failure_has_its_text_and_status() {
        let (user, applid) = (UserId::new("USER").unwrap(), Applid::new("ZOWEAPPL").unwrap());
        let no_profile = GenerateError::new(user, applid, SafReturnCodes::NO_PROFILE);
        // With replay protection, each PassTicket needs its own time slot of one second.
        let all_taken = NoTimeSlot::AllTaken {
            spare: Duration::from_secs(60),
            retry_after: Duration::from_secs(1),
        };
        let not_a_user = UserId::new("too long for a user").unwrap_err();
        let wait = PasswordError::TooManyAttempts { retry_after: Duration::from_millis(1500) };
        let expired = PasswordError::Refused { reason: ReasonCode::PasswordExpired };
        let cases: [(Failure, &str, u16); 25] = [
            (Failure::UserMismatch, "ZWEAG102E Token is not valid", 401),
            (PasswordError::Wrong.into(), "ZWEAG120E Invalid username or password", 401),
            (expired.into(), "ZWEAG120E Invalid username or password", 401),
            (wait.into(), "ZWESG429E Request was denied access: wait 2 seconds", 429),
            (
                PasswordError::Unavailable.into(),
                "ZWEAG104E Authentication service is not available",
                503,
            ),
            (Failure::NoCredential, "ZWEAG160E No authentication provided in the request", 401),
            (Failure::WrongKind, "ZWEAG160E No authentication provided in the request", 401),
            (
                Failure::NoCertificate,
                "ZWEAG167E No client certificate provided in the request",
                401,
            ),
            (TokenError::Malformed.into(), "ZWEAG102E Token is not valid", 401),
            (TokenError::Algorithm.into(), "ZWEAG102E Token is not valid", 401),
            (TokenError::Signature.into(), "ZWEAG102E Token is not valid", 401),
            (TokenError::Issuer.into(), "ZWEAG102E Token is not valid", 401),
            (TokenError::Expired { secs_ago: 1 }.into(), "ZWEAG103E The token has expired", 401),
            (CheckError::Revoked(RevokedBy::Token).into(), "ZWEAG102E Token is not valid", 401),
            (
                TokenError::Unavailable("why".into()).into(),
                "ZWEAG104E Authentication service is not available",
                503,
            ),
            (
                CheckError::Unavailable.into(),
                "ZWEAG104E Authentication service is not available",
                503,
            ),
            (
                Failure::OutOfScope { service: ServiceId::new("a").unwrap() },
                "ZWEAG102E Token is not valid",
                403,
            ),
            (MapError::NotMapped.into(), "ZWEAG161E No user was found", 401),
            (TokenError::Subject(not_a_user).into(), "ZWEAG161E No user was found", 401),
            (
                MapError::Unavailable.into(),
                "ZWEAG104E Authentication service is not available",
                503,
            ),
            (
                MapError::Failed("why".to_owned()).into(),
                "ZWEAG104E Authentication service is not available",
                503,
            ),
            (
                no_profile.into(),
                "ZWEAG141E The generation of the PassTicket failed. Reason: Unable to generate \
                 PassTicket. Verify that the secured signon (PassTicket) function and application \
                 ID is configured properly by referring to Using PassTickets in z/OS Security \
                 Server RACF Security Administrator's Guide.",
                500,
            ),
            (
                GenerateError::not_authenticated(user, applid).into(),
                "ZWEAG141E The generation of the PassTicket failed. Reason: Invalid or missing \
                 authentication",
                401,
            ),
            (
                GenerateError::no_slot(user, applid, all_taken).into(),
                "ZWEAG141E The generation of the PassTicket failed. Reason: An internal error was \
                 encountered.",
                503,
            ),
            (
                GenerateError::unavailable(user, applid, None).with_reason("down").into(),
                "ZWEAG141E The generation of the PassTicket failed. Reason: An internal error was \
                 encountered.",
                503,
            ),
        ];
        for (failure, text, status) in cases {
            assert_eq!(failure.header_value(), text, "{failure}");
            assert_eq!(failure.status(), status, "{failure}");
        }
    }
}
