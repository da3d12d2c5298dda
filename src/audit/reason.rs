//! Why something was refused, or could not be decided.

use super::Outcome;
use crate::{
    identity::MapError,
    passticket::{GenerateError, NoTimeSlot, SafReturnCodes},
    revocation::{CheckError, RevokedBy},
    token::TokenError,
};

string_enum! {
    /// Why something was refused, or could not be decided: one word of a closed set, said more
    /// exactly than clients are told (design, decision 5).
    ///
    /// Every error of this crate that ends a decision becomes one, in a match that does not compile
    /// while one is missing.
    pub enum ReasonCode {
        /// None of the places of a credential has one.
        NoCredential = "no-credential",
        /// A token of another kind than its place, or than what is turned on.
        WrongKind = "wrong-kind",
        /// No token at all, or a longer one than is looked at.
        TokenMalformed = "token-malformed",
        /// Not signed with RS256, or not at all.
        TokenAlgorithm = "token-algorithm",
        /// Not signed by our key.
        TokenSignature = "token-signature",
        /// A claim is missing or of the wrong type.
        TokenClaims = "token-claims",
        /// Of an issuer that is not known.
        TokenIssuer = "token-issuer",
        /// Too late.
        TokenExpired = "token-expired",
        /// Too early.
        TokenNotYetValid = "token-not-yet-valid",
        /// Revoked itself, or logged out.
        TokenRevoked = "token-revoked",
        /// Revoked by a rule for its user.
        RevokedByUserRule = "revoked-by-user-rule",
        /// Revoked by a rule for one of its services.
        RevokedByServiceRule = "revoked-by-service-rule",
        /// A PAT that is not for this service.
        OutOfScope = "out-of-scope",
        /// A certificate or a token that belongs to no user.
        NoUser = "no-user",
        /// No client certificate where one is needed beside a token.
        CertificateRequired = "certificate-required",
        /// The certificate has expired since the handshake.
        CertificateExpired = "certificate-expired",
        /// No such user, or not this password.
        WrongPassword = "wrong-password",
        /// The new password is not one that may be.
        NewPasswordRefused = "new-password-refused",
        /// Too many wrong passwords of late: this one was not looked at.
        TooManyAttempts = "too-many-attempts",
        /// The security product says that they may not.
        SafRefused = "saf-refused",
        /// This application is not one that they may ask tickets for.
        ApplidNotAllowed = "applid-not-allowed",
        /// This user is not one that they may ask tickets for.
        TargetNotAllowed = "target-not-allowed",
        /// Nobody may ask tickets for this user.
        TargetProtected = "target-protected",
        /// Too many requests of late.
        RateLimited = "rate-limited",
        /// The service takes a ticket once, and the user has had those of all seconds up to now.
        NoSecondLeft = "no-second-left",
        /// 8/8/16: the user may have no ticket for this application.
        NotAuthorized = "not-authorized",
        /// The request is none.
        BadRequest = "bad-request",
        /// 8/16/28: the application has no key.
        NoKeyProfile = "no-key-profile",
        /// No ticket, for the reason that the return codes say.
        TicketFailed = "ticket-failed",
        /// Whoever knows the passwords does not answer.
        LoginUnavailable = "login-unavailable",
        /// Whoever knows whose a certificate or an identity is does not answer.
        MappingUnavailable = "mapping-unavailable",
        /// The security product does not answer, or not whether they may.
        SafUnavailable = "saf-unavailable",
        /// The revocation store does not answer, or cannot write.
        StoreUnavailable = "store-unavailable",
        /// What must be recorded cannot be.
        AuditUnavailable = "audit-unavailable",
        /// Somebody else who had to be asked does not answer.
        Unavailable = "unavailable",
        /// The client went away, or the time was over, before there was an answer. What was asked
        /// for may have been done.
        Abandoned = "abandoned",
        /// Our fault; the log says what.
        Internal = "internal",
    }
}

impl ReasonCode {
    /// Whether this is a refusal, or means that nobody could say.
    pub const fn outcome(self) -> Outcome {
        match self {
            Self::NoCredential
            | Self::WrongKind
            | Self::TokenMalformed
            | Self::TokenAlgorithm
            | Self::TokenSignature
            | Self::TokenClaims
            | Self::TokenIssuer
            | Self::TokenExpired
            | Self::TokenNotYetValid
            | Self::TokenRevoked
            | Self::RevokedByUserRule
            | Self::RevokedByServiceRule
            | Self::OutOfScope
            | Self::NoUser
            | Self::CertificateRequired
            | Self::CertificateExpired
            | Self::WrongPassword
            | Self::NewPasswordRefused
            | Self::TooManyAttempts
            | Self::SafRefused
            | Self::ApplidNotAllowed
            | Self::TargetNotAllowed
            | Self::TargetProtected
            | Self::RateLimited
            | Self::NoSecondLeft
            | Self::NotAuthorized
            | Self::BadRequest => Outcome::Refused,
            Self::NoKeyProfile
            | Self::TicketFailed
            | Self::LoginUnavailable
            | Self::MappingUnavailable
            | Self::SafUnavailable
            | Self::StoreUnavailable
            | Self::AuditUnavailable
            | Self::Unavailable
            | Self::Abandoned
            | Self::Internal => Outcome::Error,
        }
    }
}

impl From<&TokenError> for ReasonCode {
    fn from(error: &TokenError) -> Self {
        match error {
            TokenError::TooLong { .. } | TokenError::Malformed => Self::TokenMalformed,
            TokenError::Algorithm => Self::TokenAlgorithm,
            TokenError::Signature => Self::TokenSignature,
            TokenError::Claims(_) => Self::TokenClaims,
            TokenError::Issuer => Self::TokenIssuer,
            TokenError::Expired { .. } => Self::TokenExpired,
            TokenError::NotYetValid { .. } => Self::TokenNotYetValid,
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
            Some(NoTimeSlot::AllTaken { .. }) => Self::NoSecondLeft,
            Some(_) => Self::TicketFailed,
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
    fn every_error_has_the_word_that_says_it() {
        let not_a_user = UserId::new("too long for a user").unwrap_err();
        let codes = |saf, racf, reason| SafReturnCodes { saf, racf, reason };
        let (user, applid) = (UserId::new("A").unwrap(), Applid::new("B").unwrap());
        let none = |why| GenerateError::no_slot(user, applid, why);
        let secs = Duration::from_secs(60);
        let cases: [(ReasonCode, &str, Outcome); 25] = [
            ((&TokenError::TooLong { len: 1 }).into(), "token-malformed", Outcome::Refused),
            ((&TokenError::Malformed).into(), "token-malformed", Outcome::Refused),
            ((&TokenError::Algorithm).into(), "token-algorithm", Outcome::Refused),
            ((&TokenError::Signature).into(), "token-signature", Outcome::Refused),
            ((&TokenError::Claims("x".into())).into(), "token-claims", Outcome::Refused),
            ((&TokenError::Issuer).into(), "token-issuer", Outcome::Refused),
            ((&TokenError::Unavailable("x".into())).into(), "unavailable", Outcome::Error),
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
                (&none(NoTimeSlot::AllTaken { spare: secs, retry_after: secs })).into(),
                "no-second-left",
                Outcome::Refused,
            ),
            (
                (&none(NoTimeSlot::ClockSetBack { by: secs })).into(),
                "ticket-failed",
                Outcome::Error,
            ),
            (
                (&none(NoTimeSlot::TooManyPairs { pairs: 1 })).into(),
                "ticket-failed",
                Outcome::Error,
            ),
        ];
        for (code, word, outcome) in cases {
            assert_eq!((code.as_str(), code.outcome()), (word, outcome));
        }
    }
}
