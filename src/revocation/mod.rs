//! Which Personal Access Tokens are revoked.
//!
//! A token is revoked by itself, or by a *rule*: "everything of this user", "everything for this
//! service", issued up to a point in time. [`RevocationIndex`] answers from memory, at a cost
//! that does not grow with the number of rules; it is what the hot path reads.
//!
//! ```
//! # use tower_passticket::{clock::Timestamp, passticket::UserId, revocation::*, token::*};
//! # fn pat() -> Pat {
//! #     let pem = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048);
//! #     let key = SigningKey::from_pem(pem.unwrap().serialize_pem().as_bytes()).unwrap();
//! #     let verifier = TokenVerifier::new(key.verifying_key());
//! #     let scopes = Scopes::parse(["zosmf"]).unwrap();
//! #     let token = TokenIssuer::new(key)
//! #         .personal_access_token(&UserId::new("USER").unwrap(), &scopes, Validity::MAX).unwrap();
//! #     let Ok(VerifiedToken::Pat(pat)) = verifier.verify(token.expose()) else { panic!() };
//! #     pat
//! # }
//! let pat: Pat = pat();
//! let revocations = RevocationIndex::default();
//! assert!(revocations.check(&pat).is_ok());
//!
//! revocations.apply(&Revocation::User { user: *pat.user(), up_to: pat.issued_at() });
//! assert_eq!(revocations.check(&pat), Err(CheckError::Revoked(RevokedBy::UserRule)));
//! ```

mod index;

use std::sync::Arc;

pub use index::RevocationIndex;

use crate::{
    clock::Timestamp,
    passticket::UserId,
    token::{Pat, ServiceId, TokenFingerprint},
};

/// One act of revoking.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Revocation {
    /// One token.
    Token {
        /// Which.
        token: TokenFingerprint,
        /// From when on it does no harm anyway.
        expires_at: Timestamp,
    },
    /// All tokens of a user that were issued at `up_to` or before.
    User {
        /// Whose.
        user: UserId,
        /// The time of the rule.
        up_to: Timestamp,
    },
    /// All tokens good for a service that were issued at `up_to` or before.
    Service {
        /// For which.
        service: ServiceId,
        /// The time of the rule.
        up_to: Timestamp,
    },
}

/// What hit a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RevokedBy {
    /// It was revoked itself.
    #[error("the token itself was revoked")]
    Token,
    /// A rule for its user.
    #[error("a rule for its user")]
    UserRule,
    /// A rule for one of its services.
    #[error("a rule for one of its services")]
    ServiceRule,
}

/// Why a PAT may not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// It is revoked.
    #[error("the token is revoked: {0}")]
    Revoked(RevokedBy),
    /// Nobody can say: what is known is too old to go by (design, decision 9).
    #[error("the revocation store cannot be reached")]
    Unavailable,
}

/// Says whether a PAT is revoked. Asked on every request that carries one, so it reads memory and
/// never waits.
///
/// [`RevocationIndex`] is the implementation to start with. A store that may lose touch with its
/// source answers [`CheckError::Unavailable`] then, and the request fails: it is never taken for
/// "not revoked".
pub trait RevocationCheck: Send + Sync + 'static {
    /// Checks one token whose signature and times were verified.
    ///
    /// # Errors
    /// [`CheckError`] when it is revoked, or when that is not known.
    fn check(&self, pat: &Pat) -> Result<(), CheckError>;
}

impl<R: RevocationCheck> RevocationCheck for Arc<R> {
    fn check(&self, pat: &Pat) -> Result<(), CheckError> {
        (**self).check(pat)
    }
}
