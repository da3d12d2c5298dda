//! On routes, the compatibility profile (docs/decisions.md#d1) decides about the text of `X-Zowe-Auth-Failure`, and
//! about the response if a service cannot be reached or gave no valid response.

use std::borrow::Cow;

use http::HeaderValue;
#[cfg(feature = "proxy")]
use http::StatusCode;

use super::failure::Failure;
use crate::{
    audit::Event,
    compatibility::Compatibility,
    messages::{self, ApiMessage},
    revocation::CheckError,
    token::TokenError,
};

/// Why a service gave no valid response. After a timeout, the response does not depend on the profile.
#[cfg(feature = "proxy")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoResponse {
    /// No connection to the service could be made.
    Unreachable,
    /// The service closed the connection before its response, or its response is not valid.
    Broken,
}

impl Compatibility {
    /// Returns the value of `X-Zowe-Auth-Failure` for a request that is forwarded after `failure`. `event` is the event
    /// of the scheme in audit records: [`Event::Ticket`] if the scheme makes PassTickets. In API ML (Zowe's API
    /// Mediation Layer), some texts depend on the scheme (docs/reference/data-plane.md#failure).
    pub(super) fn auth_failure(self, failure: &Failure, event: Event) -> HeaderValue {
        match self {
            Self::Documented => failure.header_value(),
            Self::ZoweV3 => match zowe_v3_text(failure, event) {
                Some(text) => HeaderValue::from_str(&text)
                    .unwrap_or(HeaderValue::from_static("Invalid or missing authentication")),
                None => failure.header_value(),
            },
        }
    }

    #[cfg(feature = "proxy")]
    pub(crate) fn no_response(self, why: NoResponse) -> (StatusCode, ApiMessage) {
        match (self, why) {
            (Self::ZoweV3, _) => {
                (StatusCode::INTERNAL_SERVER_ERROR, ApiMessage::new(&messages::INTERNAL))
            }
            (Self::Documented, NoResponse::Unreachable) => (
                StatusCode::SERVICE_UNAVAILABLE,
                ApiMessage::with(
                    &messages::SERVICE_UNAVAILABLE,
                    &["the service cannot be reached"],
                ),
            ),
            (Self::Documented, NoResponse::Broken) => {
                (StatusCode::BAD_GATEWAY, ApiMessage::new(&messages::UNEXPECTED_STATUS))
            }
        }
    }
}

/// Returns the text of API ML, if it differs from the text of [`Failure::message`].
fn zowe_v3_text(failure: &Failure, event: Event) -> Option<Cow<'static, str>> {
    const NOT_AUTHENTICATED: &str = "Invalid or missing authentication";
    Some(match failure {
        Failure::Token(TokenError::Expired { .. }) => match event {
            Event::Ticket => {
                ApiMessage::with(&messages::TICKET_FAILED, &[NOT_AUTHENTICATED]).line().into()
            }
            _ => NOT_AUTHENTICATED.into(),
        },
        Failure::Revocation(CheckError::Revoked(_)) | Failure::OutOfScope { .. } => {
            ApiMessage::new(&messages::MISSING_AUTHENTICATION).line().into()
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        identity::MapError,
        passticket::{Applid, GenerateError, SafReturnCodes, UserId},
        revocation::RevokedBy,
        token::ServiceId,
    };

    #[test]
    fn each_failure_has_its_text_in_each_profile() {
        const MISSING: &str = "ZWEAG160E No authentication provided in the request";
        const INVALID: &str = "ZWEAG102E Token is not valid";
        const EXPIRED: &str = "ZWEAG103E The token has expired";
        const NO_USER: &str = "ZWEAG161E No user was found";
        const UNAVAILABLE: &str = "ZWEAG104E Authentication service is not available";
        const NO_TICKET: &str = "ZWEAG141E The generation of the PassTicket failed. Reason: Invalid or missing \
                                 authentication";
        let (user, applid) = (UserId::new("USER").unwrap(), Applid::new("ZOWEAPPL").unwrap());
        let refused = GenerateError::new(user, applid, SafReturnCodes::NOT_AUTHORIZED);
        let refused_text = Failure::from(refused.clone()).message().line();
        let out_of_scope = Failure::OutOfScope { service: ServiceId::new("a").unwrap() };
        let expired = || Failure::from(TokenError::Expired { secs_ago: 1 });
        let cases: [(Failure, Event, &str, &str); 13] = [
            (Failure::NoCredential, Event::Ticket, MISSING, MISSING),
            (Failure::WrongKind, Event::Ticket, MISSING, MISSING),
            (TokenError::Malformed.into(), Event::Ticket, INVALID, INVALID),
            (TokenError::Signature.into(), Event::Scheme, INVALID, INVALID),
            (TokenError::Issuer.into(), Event::Ticket, INVALID, INVALID),
            (expired(), Event::Ticket, EXPIRED, NO_TICKET),
            (expired(), Event::Scheme, EXPIRED, "Invalid or missing authentication"),
            (CheckError::Revoked(RevokedBy::Token).into(), Event::Ticket, INVALID, MISSING),
            (CheckError::Revoked(RevokedBy::UserRule).into(), Event::Scheme, INVALID, MISSING),
            (out_of_scope, Event::Ticket, INVALID, MISSING),
            (CheckError::Unavailable.into(), Event::Ticket, UNAVAILABLE, UNAVAILABLE),
            (MapError::NotMapped.into(), Event::Ticket, NO_USER, NO_USER),
            (refused.into(), Event::Ticket, &refused_text, &refused_text),
        ];
        for (failure, event, documented, zowe_v3) in cases {
            let text = |profile: Compatibility| profile.auth_failure(&failure, event);
            assert_eq!(text(Compatibility::Documented), documented, "{failure}");
            assert_eq!(text(Compatibility::ZoweV3), zowe_v3, "{failure}");
        }
    }

    #[cfg(feature = "proxy")]
    #[test]
    fn a_service_without_a_response_has_a_status_in_each_profile() {
        use Compatibility::{Documented, ZoweV3};
        for (profile, why, status, number) in [
            (Documented, NoResponse::Unreachable, 503, "ZWEAO503E"),
            (Documented, NoResponse::Broken, 502, "ZWEAG510E"),
            (ZoweV3, NoResponse::Unreachable, 500, "ZWEAO500E"),
            (ZoweV3, NoResponse::Broken, 500, "ZWEAO500E"),
        ] {
            let (got, message) = profile.no_response(why);
            assert_eq!((got.as_u16(), message.number()), (status, number), "{profile:?} {why:?}");
        }
    }
}
