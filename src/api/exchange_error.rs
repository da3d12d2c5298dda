//! Errors of the token exchange: their OAuth codes, and their responses (RFC 6749 §5.2, RFC 8693 §2.2.2).
//!
//! The token exchange issues a PassTicket (a one-time password of z/OS) for an APPLID, which is the name of an
//! application in the security product. The actor is the client that acts for a user.

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CONTENT_TYPE, PRAGMA, RETRY_AFTER, WWW_AUTHENTICATE},
};
use http_body_util::Full;
use serde_json::json;

use super::{
    delegation::DelegationRefusal,
    error::{ApiError, ExchangeError, ExchangePart, PatRefusal},
    exchange_request::ExchangeProblem,
};
use crate::{
    messages,
    passticket::{GenerateError, SafReturnCodes},
    saf::SafError,
    token::TokenError,
};

/// The value of `error`: the codes of RFC 6749 §5.2 that apply to a token exchange, and `invalid_target` of RFC 8693
/// §2.2.2. RFC 6749 §5.2 has no codes for errors of the server. For such errors, `error` has a code of RFC 6749
/// §4.1.2.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OAuthCode {
    /// The request is malformed, a token in it is not accepted (RFC 8693 §2.2.2), or the actor may not act for the
    /// user.
    InvalidRequest,
    /// The client is not authenticated: its certificate has expired or is mapped to no user, or the client has neither
    /// a certificate nor an actor token.
    InvalidClient,
    /// The client may not exchange tokens.
    UnauthorizedClient,
    /// The grant type is not that of a token exchange.
    UnsupportedGrantType,
    /// The client gets no PassTicket for this APPLID, the request does not name exactly one APPLID, or the request has
    /// the parameter `resource`.
    InvalidTarget,
    /// The request has a scope.
    InvalidScope,
    /// The client may try again: the gateway or a system that it needs cannot answer now, or the client has made too
    /// many calls.
    TemporarilyUnavailable,
    /// The gateway, or a system that it needs, has a defect.
    ServerError,
}

impl OAuthCode {
    /// Returns the text in the response.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::InvalidTarget => "invalid_target",
            Self::InvalidScope => "invalid_scope",
            Self::TemporarilyUnavailable => "temporarily_unavailable",
            Self::ServerError => "server_error",
        }
    }
}

impl ExchangeError {
    /// Returns the OAuth code.
    pub fn code(&self) -> OAuthCode {
        match self.cause() {
            ApiError::InvalidExchange(problem) => code_of_problem(*problem),
            ApiError::OnlyCertificate => OAuthCode::InvalidClient,
            ApiError::NoUser if self.part() == ExchangePart::Client => OAuthCode::InvalidClient,
            ApiError::NotPermitted(_) => OAuthCode::UnauthorizedClient,
            ApiError::Delegation(DelegationRefusal::Applid(_))
            | ApiError::Pat(PatRefusal::OutOfScope) => OAuthCode::InvalidTarget,
            ApiError::Ticket(error) => code_of_ticket(error),
            ApiError::TooManyCalls { .. }
            | ApiError::Unavailable
            | ApiError::StoreUnavailable
            | ApiError::AuditUnavailable
            | ApiError::Saf(SafError::Unavailable)
            | ApiError::Token(TokenError::Unavailable(_)) => OAuthCode::TemporarilyUnavailable,
            ApiError::Saf(_) | ApiError::Internal => OAuthCode::ServerError,
            // Most other causes are malformed bodies, refused tokens, and users whom the actor may not represent. RFC
            // 8693 §2.2.2 requires this code for refused tokens.
            _ => OAuthCode::InvalidRequest,
        }
    }

    /// Returns the status of the response.
    pub(super) fn status(&self) -> StatusCode {
        match (self.code(), self.cause()) {
            (_, ApiError::TooManyCalls { .. }) => StatusCode::TOO_MANY_REQUESTS,
            (_, ApiError::BodyTooLarge) => StatusCode::PAYLOAD_TOO_LARGE,
            (OAuthCode::InvalidClient, _) => StatusCode::UNAUTHORIZED,
            (OAuthCode::TemporarilyUnavailable, _) => StatusCode::SERVICE_UNAVAILABLE,
            (OAuthCode::ServerError, _) => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// Returns the value of `error_description`. `url` is the path of the request.
    pub(super) fn description(&self, url: &str) -> String {
        let (_, message) = self.cause().message(url);
        let message = match self.cause().detail() {
            Some(detail) => message.with_detail(&detail),
            None => message,
        };
        // RFC 6749 §5.2 permits printable ASCII without the quotation mark and the backslash.
        let permitted = |c: char| match c {
            '"' => '\'',
            ' '..='~' if c != '\\' => c,
            _ => '?',
        };
        message.line().chars().map(permitted).collect()
    }

    pub(super) fn response(&self, url: &str) -> Response<Full<Bytes>> {
        let body = json!({
            "error": self.code().as_str(),
            "error_description": self.description(url),
        });
        let mut response = Response::new(Full::from(body.to_string()));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
        if let Some(after) = self.cause().retry_after() {
            headers.insert(RETRY_AFTER, messages::retry_after(after));
        }
        if response.status() == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static(ApiError::OnlyCertificate.challenge());
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

fn code_of_problem(problem: ExchangeProblem) -> OAuthCode {
    match problem {
        ExchangeProblem::GrantType => OAuthCode::UnsupportedGrantType,
        ExchangeProblem::Audience | ExchangeProblem::Resource => OAuthCode::InvalidTarget,
        ExchangeProblem::Scope => OAuthCode::InvalidScope,
        _ => OAuthCode::InvalidRequest,
    }
}

fn code_of_ticket(error: &GenerateError) -> OAuthCode {
    match error.codes() {
        _ if error.is_not_authenticated() => OAuthCode::InvalidRequest,
        SafReturnCodes::NO_PROFILE | SafReturnCodes::NOT_AUTHORIZED => OAuthCode::InvalidTarget,
        _ if error.is_unavailable() || error.retry_after().is_some() => {
            OAuthCode::TemporarilyUnavailable
        }
        _ => OAuthCode::ServerError,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        api::{GuardedTask, GuardingResources},
        passticket::{Applid, NoTimeSlot, UserId},
        revocation::RevokedBy,
        token::ServiceId,
    };

    #[test]
    fn each_cause_has_a_code_and_a_status() {
        use ExchangePart::{Actor, Client, Request, Subject, Ticket};
        let (user, applid) = (UserId::new("USER").unwrap(), Applid::new("ZOWEAPPL").unwrap());
        let wait = Duration::from_secs(30);
        let ticket = |codes| ApiError::Ticket(GenerateError::new(user, applid, codes));
        let problem = ApiError::InvalidExchange;
        let slot = NoTimeSlot::AllTaken { spare: wait, retry_after: wait };
        let no_slot = GenerateError::no_slot(user, applid, slot).into();
        let set_back =
            GenerateError::no_slot(user, applid, NoTimeSlot::ClockSetBack { by: wait }).into();
        let down = GenerateError::unavailable(user, applid, None).into();
        let permission = GuardingResources::default().permission(GuardedTask::Delegate);
        let service = ServiceId::new("a").unwrap();
        for (part, cause, code, status) in [
            (Request, problem(ExchangeProblem::Repeated), "invalid_request", 400),
            (Request, problem(ExchangeProblem::ContentType), "invalid_request", 400),
            (Request, problem(ExchangeProblem::GrantType), "unsupported_grant_type", 400),
            (Request, problem(ExchangeProblem::Audience), "invalid_target", 400),
            (Request, problem(ExchangeProblem::Resource), "invalid_target", 400),
            (Request, problem(ExchangeProblem::Scope), "invalid_scope", 400),
            (Request, ApiError::BodyTooLarge, "invalid_request", 413),
            (Request, ApiError::BodyBroken, "invalid_request", 400),
            (Request, ApiError::AuditUnavailable, "temporarily_unavailable", 503),
            (Client, ApiError::OnlyCertificate, "invalid_client", 401),
            (Client, ApiError::NoUser, "invalid_client", 401),
            (Client, ApiError::Unavailable, "temporarily_unavailable", 503),
            (Actor, TokenError::Signature.into(), "invalid_request", 400),
            (Actor, ApiError::PersonalAccessToken, "invalid_request", 400),
            (Actor, ApiError::ActorIsSubject, "invalid_request", 400),
            (Subject, TokenError::Expired { secs_ago: 1 }.into(), "invalid_request", 400),
            (Subject, ApiError::NoUser, "invalid_request", 400),
            (Subject, ApiError::LoggedOut, "invalid_request", 400),
            (Subject, ApiError::ServiceToken { service }, "invalid_request", 400),
            (Subject, PatRefusal::Revoked(RevokedBy::Token).into(), "invalid_request", 400),
            (Subject, PatRefusal::OutOfScope.into(), "invalid_target", 400),
            (Subject, ApiError::StoreUnavailable, "temporarily_unavailable", 503),
            (Subject, TokenError::Unavailable("x".into()).into(), "temporarily_unavailable", 503),
            (Ticket, ApiError::TooManyCalls { retry_after: wait }, "temporarily_unavailable", 429),
            (Ticket, ApiError::NotPermitted(permission), "unauthorized_client", 400),
            (Ticket, ApiError::Saf(SafError::Unavailable), "temporarily_unavailable", 503),
            (Ticket, ApiError::Saf(SafError::Failed("x".into())), "server_error", 500),
            (Ticket, DelegationRefusal::Applid(applid).into(), "invalid_target", 400),
            (Ticket, DelegationRefusal::Target(user).into(), "invalid_request", 400),
            (Ticket, DelegationRefusal::Protected(user).into(), "invalid_request", 400),
            (Ticket, ticket(SafReturnCodes::NO_PROFILE), "invalid_target", 400),
            (Ticket, ticket(SafReturnCodes::NOT_AUTHORIZED), "invalid_target", 400),
            (Ticket, ticket(SafReturnCodes::INTERNAL), "server_error", 500),
            (Ticket, no_slot, "temporarily_unavailable", 503),
            (Ticket, set_back, "server_error", 500),
            (Ticket, down, "temporarily_unavailable", 503),
            (Ticket, GenerateError::not_authenticated(user, applid).into(), "invalid_request", 400),
            (Ticket, ApiError::Internal, "server_error", 500),
        ] {
            let error = ExchangeError::new(part, cause);
            assert_eq!((error.code().as_str(), error.status().as_u16()), (code, status), "{error}");
            let description = error.description("/x\"\\\u{e4}");
            assert!(description.starts_with("ZWE"), "{description}");
            assert!(
                description.bytes().all(|b| matches!(b, 0x20..=0x7e) && b != b'"' && b != b'\\')
            );
        }
    }
}
