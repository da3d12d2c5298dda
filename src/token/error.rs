//! The reasons why a token is rejected.

use super::MAX_TOKEN_LEN;
use crate::passticket::NameError;

/// The reason why a token is rejected. The error never contains the token, so it can be logged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The token is longer than [`MAX_TOKEN_LEN`].
    #[error("the token has {len} bytes, more than {MAX_TOKEN_LEN}")]
    TooLong {
        /// The length of the token in bytes.
        len: usize,
    },
    /// The text is not a JWT, or the JWT requires an extension that the verifier does not support (RFC 7515 §4.1.11).
    #[error("the token is not a JWT")]
    Malformed,
    /// The token has the prefix `zowepat_`, but not the checksum that belongs to it. The signature was not checked.
    #[error("the checksum of the token is wrong; a part of the token may be missing or changed")]
    Checksum,
    /// The verifier does not accept the algorithm in the header of the token. For example, `none` means that the token
    /// has no signature.
    #[error("the token is not signed with an accepted algorithm")]
    Algorithm,
    /// The signature was not made with a key that the verifier knows.
    #[error("the signature of the token is not valid")]
    Signature,
    /// A claim is missing, has the wrong type, or has a value that the verifier does not accept. A wrong type of the
    /// token (`typ`), and the prefix `zowepat_` of a token that is not a PAT, also cause this error.
    #[error("a claim of the token is not valid: {0}")]
    Claims(Box<str>),
    /// The verifier does not accept tokens of this issuer. If the verifier accepts only the login tokens of API ML
    /// (Zowe's API Mediation Layer), a Personal Access Token (PAT) of API ML also causes this error.
    #[error("the issuer of the token is not known")]
    Issuer,
    /// The token has expired.
    #[error("the token expired {secs_ago} s ago")]
    Expired {
        /// The seconds since the token expired.
        secs_ago: u64,
    },
    /// The token is not valid yet (`nbf`), or was issued in the future (`iat`).
    #[error("the token becomes valid in {in_secs} s")]
    NotYetValid {
        /// The seconds until the token becomes valid.
        in_secs: u64,
    },
    /// The signature is right, but the issuer does not accept the token any more, for example because the user has
    /// logged out.
    #[error("the issuer no longer accepts the token")]
    LoggedOut,
    /// The subject is not a z/OS user id.
    #[error("the subject of the token is not a user id: {0}")]
    Subject(NameError),
    /// The verifier could not decide, for example because the server that has the keys did not answer. The text is for
    /// the log.
    #[error("the token could not be verified: {0}")]
    Unavailable(Box<str>),
}

impl TokenError {
    /// Returns whether another verifier might accept the token. This is `true` for [`Algorithm`](Self::Algorithm),
    /// [`Signature`](Self::Signature) and [`Issuer`](Self::Issuer).
    ///
    /// If you combine several verifiers, try the next one only if the result is `true`. After any other error, refuse
    /// the token.
    pub fn is_foreign(&self) -> bool {
        match self {
            Self::Algorithm | Self::Signature | Self::Issuer => true,
            Self::TooLong { .. }
            | Self::Malformed
            | Self::Checksum
            | Self::Claims(_)
            | Self::Expired { .. }
            | Self::NotYetValid { .. }
            | Self::LoggedOut
            | Self::Subject(_)
            | Self::Unavailable(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passticket::UserId;

    #[test]
    fn errors_of_algorithm_signature_and_issuer_are_foreign() {
        let not_a_user = UserId::new("").unwrap_err();
        let cases = [
            (TokenError::Algorithm, true),
            (TokenError::Signature, true),
            (TokenError::Issuer, true),
            (TokenError::TooLong { len: 1 }, false),
            (TokenError::Malformed, false),
            (TokenError::Checksum, false),
            (TokenError::Claims("x".into()), false),
            (TokenError::Expired { secs_ago: 1 }, false),
            (TokenError::NotYetValid { in_secs: 1 }, false),
            (TokenError::LoggedOut, false),
            (TokenError::Subject(not_a_user), false),
            (TokenError::Unavailable("x".into()), false),
        ];
        for (error, foreign) in cases {
            assert_eq!(error.is_foreign(), foreign, "{error}");
        }
    }
}
