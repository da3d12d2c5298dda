//! Reasons for refusals and errors.

use super::event::Outcome;
use crate::{
    identity::MapError,
    passticket::{GenerateError, NoTimeSlot, SafReturnCodes},
    revocation::{CheckError, RevokedBy},
    token::TokenError,
};

string_enum! {
    /// The reason of a refusal or of an error. A reason code is more precise than the text that the client gets
    /// (docs/decisions.md#d5).
    ///
    /// The crate does not compile if one of its errors that end a decision has no reason code.
    pub enum ReasonCode {
        /// The request has no credential.
        NoCredential = "no-credential",
        /// Tokens of this kind are not accepted for this request, or are turned off.
        WrongKind = "wrong-kind",
        /// The text is not a well-formed token, or it is longer than the limit.
        TokenMalformed = "token-malformed",
        /// The verifier does not accept the signature algorithm of the token.
        TokenAlgorithm = "token-algorithm",
        /// The signature was not made with a key that the verifier knows.
        TokenSignature = "token-signature",
        /// A claim is missing, has the wrong type, or has a value that the verifier does not accept.
        TokenClaims = "token-claims",
        /// The verifier does not know the issuer.
        TokenIssuer = "token-issuer",
        /// The token has expired.
        TokenExpired = "token-expired",
        /// The token is not valid yet.
        TokenNotYetValid = "token-not-yet-valid",
        /// The token itself was revoked, by a request or by logout.
        TokenRevoked = "token-revoked",
        /// A rule revoked the tokens of the user.
        RevokedByUserRule = "revoked-by-user-rule",
        /// A rule revoked the tokens for one of the services in the token's scope.
        RevokedByServiceRule = "revoked-by-service-rule",
        /// The scopes of the Personal Access Token do not permit the request to the service, or the login token is for
        /// another service only.
        OutOfScope = "out-of-scope",
        /// The user name in `Authorization: Basic` is not that of the user of the Personal Access Token. In a token
        /// exchange: the actor token and the subject token are of the same user, or the actor token and the client
        /// certificate are of different users.
        UserMismatch = "user-mismatch",
        /// There is no z/OS user for the certificate, the token or the e-mail address.
        NoUser = "no-user",
        /// The rules of the service give the person of the token two different technical users.
        AmbiguousUser = "ambiguous-user",
        /// The request needs a client certificate, alone or in addition to a token.
        CertificateRequired = "certificate-required",
        /// The client certificate has expired since the TLS handshake.
        CertificateExpired = "certificate-expired",
        /// After the handshake, the certificate of the connection was revoked, or the gateway stopped trusting its CA.
        CertificateRevoked = "certificate-revoked",
        /// The user does not exist, or the password is wrong.
        WrongPassword = "wrong-password",
        /// The password is right, but has expired.
        PasswordExpired = "password-expired",
        /// The user is revoked in the security product (RACF, ACF2 or Top Secret).
        UserRevoked = "user-revoked",
        /// The new password violates a password rule.
        NewPasswordRefused = "new-password-refused",
        /// The password was not checked, because there were too many failed logins recently.
        TooManyAttempts = "too-many-attempts",
        /// The security product refused access to the resource.
        SafRefused = "saf-refused",
        /// The caller may not request PassTickets (one-time passwords of z/OS) for this APPLID (the name of an
        /// application).
        ApplidNotAllowed = "applid-not-allowed",
        /// The administrator does not allow new Personal Access Tokens with this scope.
        ScopeNotAllowed = "scope-not-allowed",
        /// The caller may not request PassTickets for this user.
        TargetNotAllowed = "target-not-allowed",
        /// No caller may request PassTickets for this user, because the user is protected.
        TargetProtected = "target-protected",
        /// The registration of an instance contradicts the configuration, for example because it has another host or
        /// another APPLID.
        RegistrationRefused = "registration-refused",
        /// A web page of another origin made the browser send the request, or a script of a web page asks for a new
        /// Personal Access Token.
        CrossOrigin = "cross-origin",
        /// There were too many requests recently, or the user has too many Personal Access Tokens.
        RateLimited = "rate-limited",
        /// The PassTicket limit is reached. With replay protection, each user gets one PassTicket per second for an
        /// APPLID, and the user has already used all seconds up to now.
        NoTimeSlot = "no-time-slot",
        /// The return codes of SAF (the z/OS interface to the security product) are 8/8/16: the gateway may not make
        /// tickets for this user and APPLID.
        NotAuthorized = "not-authorized",
        /// The request is malformed or cannot be fulfilled. For example, the token that it names does not exist.
        BadRequest = "bad-request",
        /// The SAF return codes are 8/16/28: the APPLID has no key profile.
        NoKeyProfile = "no-key-profile",
        /// The PassTicket could not be made, and no other reason code applies. The record also contains the SAF return
        /// codes.
        TicketFailed = "ticket-failed",
        /// The PassTicket was not made, because a service has refused earlier PassTickets, or because the clocks of the
        /// gateway and the service differ.
        TicketsStopped = "tickets-stopped",
        /// A service has refused a PassTicket.
        TicketRefused = "ticket-refused",
        /// The clock of a service differs too much from the clock of the gateway.
        ClockDiffers = "clock-differs",
        /// The scheme of the route could not prepare the credential for the service.
        SchemeFailed = "scheme-failed",
        /// The password was not checked: the password back end cannot be reached or gave no decision, or too many
        /// logins wait.
        LoginUnavailable = "login-unavailable",
        /// The identity mapping cannot be reached, or gave no decision.
        MappingUnavailable = "mapping-unavailable",
        /// The SAF check failed: the security product cannot be reached, or gave no decision.
        SafUnavailable = "saf-unavailable",
        /// The revocation store or the registry of Personal Access Tokens cannot be reached or written.
        StoreUnavailable = "store-unavailable",
        /// The audit log does not accept records, and this action needs a record.
        AuditUnavailable = "audit-unavailable",
        /// Another system that is needed for the decision cannot be reached.
        Unavailable = "unavailable",
        /// Before there was a response, the client disconnected or the time limit passed. The action may have been
        /// performed nevertheless.
        Abandoned = "abandoned",
        /// There was an internal error. The log has the details.
        Internal = "internal",
    }
}

/// The party that causes a refusal or an error.
#[derive(Clone, Copy)]
enum Cause {
    /// Any client, even a client that never had a valid credential.
    AnyClient,
    /// A client with a credential that is or was valid, or a client that tries to log in. The login throttle limits the
    /// number of failed logins.
    KnownClient,
    /// The gateway, or a system that it needs.
    Gateway,
}

impl ReasonCode {
    const fn cause(self) -> Cause {
        match self {
            Self::NoCredential
            | Self::WrongKind
            | Self::TokenMalformed
            | Self::TokenAlgorithm
            | Self::TokenSignature
            | Self::TokenIssuer
            | Self::CertificateRequired
            | Self::TooManyAttempts
            | Self::BadRequest
            | Self::CrossOrigin => Cause::AnyClient,
            // The login throttle counts failures for these two reasons.
            Self::WrongPassword
            | Self::UserRevoked
            // For these reasons, the client needs a credential that is or was valid.
            | Self::PasswordExpired
            | Self::NewPasswordRefused
            | Self::TokenClaims
            | Self::TokenExpired
            | Self::TokenNotYetValid
            | Self::TokenRevoked
            | Self::RevokedByUserRule
            | Self::RevokedByServiceRule
            | Self::OutOfScope
            | Self::UserMismatch
            | Self::NoUser
            | Self::AmbiguousUser
            | Self::CertificateExpired
            | Self::CertificateRevoked
            | Self::SafRefused
            | Self::ApplidNotAllowed
            | Self::ScopeNotAllowed
            | Self::TargetNotAllowed
            | Self::TargetProtected
            // A program that registers an instance needs a certificate that the registry trusts.
            | Self::RegistrationRefused
            | Self::RateLimited
            | Self::NoTimeSlot
            | Self::NotAuthorized => Cause::KnownClient,
            Self::NoKeyProfile
            | Self::TicketFailed
            | Self::TicketsStopped
            | Self::TicketRefused
            | Self::ClockDiffers
            | Self::SchemeFailed
            | Self::LoginUnavailable
            | Self::MappingUnavailable
            | Self::SafUnavailable
            | Self::StoreUnavailable
            | Self::AuditUnavailable
            | Self::Unavailable
            // The client may also be the cause. So for a record with this reason, `AuditFiles` looks at other fields.
            | Self::Abandoned
            | Self::Internal => Cause::Gateway,
        }
    }

    /// Returns the outcome of an event with this reason: [`Outcome::Refused`] or [`Outcome::Error`].
    pub const fn outcome(self) -> Outcome {
        match self.cause() {
            Cause::AnyClient | Cause::KnownClient => Outcome::Refused,
            Cause::Gateway => Outcome::Error,
        }
    }

    /// Returns `true` if any client can cause this refusal, even a client that never had a valid credential.
    pub(super) const fn needs_no_credential(self) -> bool {
        matches!(self.cause(), Cause::AnyClient)
    }
}

impl From<&TokenError> for ReasonCode {
    fn from(error: &TokenError) -> Self {
        match error {
            TokenError::TooLong { .. } | TokenError::Malformed | TokenError::Checksum => {
                Self::TokenMalformed
            }
            TokenError::Algorithm => Self::TokenAlgorithm,
            TokenError::Signature => Self::TokenSignature,
            TokenError::Claims(_) => Self::TokenClaims,
            TokenError::Issuer => Self::TokenIssuer,
            TokenError::Expired { .. } => Self::TokenExpired,
            TokenError::NotYetValid { .. } => Self::TokenNotYetValid,
            TokenError::LoggedOut => Self::TokenRevoked,
            TokenError::Subject(_) => Self::NoUser,
            TokenError::Unavailable(_) => Self::Unavailable,
        }
    }
}

impl From<RevokedBy> for ReasonCode {
    fn from(by: RevokedBy) -> Self {
        match by {
            RevokedBy::Token => Self::TokenRevoked,
            RevokedBy::UserRule => Self::RevokedByUserRule,
            RevokedBy::ServiceRule => Self::RevokedByServiceRule,
        }
    }
}

impl From<CheckError> for ReasonCode {
    fn from(error: CheckError) -> Self {
        match error {
            CheckError::Revoked(by) => by.into(),
            CheckError::Unavailable => Self::StoreUnavailable,
        }
    }
}

impl From<&MapError> for ReasonCode {
    fn from(error: &MapError) -> Self {
        match error {
            MapError::NoCommonName | MapError::NotAUserId(_) | MapError::NotMapped => Self::NoUser,
            MapError::Ambiguous { .. } => Self::AmbiguousUser,
            MapError::Expired => Self::CertificateExpired,
            MapError::Unavailable | MapError::Failed(_) => Self::MappingUnavailable,
        }
    }
}

impl From<SafReturnCodes> for ReasonCode {
    fn from(codes: SafReturnCodes) -> Self {
        match codes {
            SafReturnCodes::NO_PROFILE => Self::NoKeyProfile,
            SafReturnCodes::NOT_AUTHORIZED => Self::NotAuthorized,
            _ => Self::TicketFailed,
        }
    }
}

impl From<&GenerateError> for ReasonCode {
    fn from(error: &GenerateError) -> Self {
        match error.no_time_slot() {
            Some(NoTimeSlot::AllTaken { .. }) => Self::NoTimeSlot,
            Some(_) => Self::TicketFailed,
            None if error.is_unavailable() => Self::Unavailable,
            None if error.is_stopped() => Self::TicketsStopped,
            None => error.codes().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::passticket::{Applid, UserId};

    #[test]
    fn each_error_has_a_reason_code_and_an_outcome() {
        let not_a_user = UserId::new("too long for a user").unwrap_err();
        let codes = |saf, racf, reason| SafReturnCodes { saf, racf, reason };
        let (user, applid) = (UserId::new("A").unwrap(), Applid::new("B").unwrap());
        let no_slot = |why| GenerateError::no_slot(user, applid, why);
        let minute = Duration::from_secs(60);
        let cases: [(ReasonCode, &str, Outcome); 29] = [
            ((&TokenError::TooLong { len: 1 }).into(), "token-malformed", Outcome::Refused),
            ((&TokenError::Malformed).into(), "token-malformed", Outcome::Refused),
            ((&TokenError::Checksum).into(), "token-malformed", Outcome::Refused),
            ((&TokenError::Algorithm).into(), "token-algorithm", Outcome::Refused),
            ((&TokenError::Signature).into(), "token-signature", Outcome::Refused),
            ((&TokenError::Claims("x".into())).into(), "token-claims", Outcome::Refused),
            ((&TokenError::Issuer).into(), "token-issuer", Outcome::Refused),
            ((&TokenError::Unavailable("x".into())).into(), "unavailable", Outcome::Error),
            ((&TokenError::LoggedOut).into(), "token-revoked", Outcome::Refused),
            ((&TokenError::Expired { secs_ago: 1 }).into(), "token-expired", Outcome::Refused),
            (
                (&TokenError::NotYetValid { in_secs: 1 }).into(),
                "token-not-yet-valid",
                Outcome::Refused,
            ),
            ((&TokenError::Subject(not_a_user.clone())).into(), "no-user", Outcome::Refused),
            (CheckError::Revoked(RevokedBy::Token).into(), "token-revoked", Outcome::Refused),
            (RevokedBy::UserRule.into(), "revoked-by-user-rule", Outcome::Refused),
            (RevokedBy::ServiceRule.into(), "revoked-by-service-rule", Outcome::Refused),
            (CheckError::Unavailable.into(), "store-unavailable", Outcome::Error),
            ((&MapError::NoCommonName).into(), "no-user", Outcome::Refused),
            ((&MapError::NotAUserId(not_a_user)).into(), "no-user", Outcome::Refused),
            ((&MapError::NotMapped).into(), "no-user", Outcome::Refused),
            ((&MapError::Expired).into(), "certificate-expired", Outcome::Refused),
            ((&MapError::Unavailable).into(), "mapping-unavailable", Outcome::Error),
            (SafReturnCodes::NO_PROFILE.into(), "no-key-profile", Outcome::Error),
            (SafReturnCodes::NOT_AUTHORIZED.into(), "not-authorized", Outcome::Refused),
            (codes(8, 8, 8).into(), "ticket-failed", Outcome::Error),
            (
                (&no_slot(NoTimeSlot::AllTaken { spare: minute, retry_after: minute })).into(),
                "no-time-slot",
                Outcome::Refused,
            ),
            (
                (&no_slot(NoTimeSlot::ClockSetBack { by: minute })).into(),
                "ticket-failed",
                Outcome::Error,
            ),
            (
                (&no_slot(NoTimeSlot::TooManyPairs { pairs: 1 })).into(),
                "ticket-failed",
                Outcome::Error,
            ),
            (
                (&GenerateError::unavailable(user, applid, None)).into(),
                "unavailable",
                Outcome::Error,
            ),
            (
                (&GenerateError::stopped(user, applid, None)).into(),
                "tickets-stopped",
                Outcome::Error,
            ),
        ];
        for (code, string, outcome) in cases {
            assert_eq!((code.as_str(), code.outcome()), (string, outcome));
        }
    }
}
