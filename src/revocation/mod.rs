//! Which tokens are revoked.
//!
//! A Personal Access Token is revoked by itself, or by a *rule*: "everything of this user",
//! "everything for this service", issued up to a point in time. A login token is revoked by itself
//! alone, at logout: rules are about PATs (spec/004).
//!
//! There are two seams. [`RevocationCheck`] is what the hot path asks: it reads memory, at a cost
//! that does not grow with the number of rules. [`RevocationStore`] is what the endpoints write to.
//!
//! | store | what it survives | feature |
//! |---|---|---|
//! | [`RevocationIndex`] | nothing: it is memory | core |
#![cfg_attr(
    feature = "store",
    doc = "| [`DurableStore`] | the process, and the machine | `store` |"
)]
//!
//! ```
//! # use tower_passticket::{clock::Timestamp, passticket::UserId, revocation::*, token::*};
//! # fn pat() -> Pat {
//! #     let pem = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048);
//! #     let key = SigningKey::from_pem(pem.unwrap().serialize_pem().as_bytes()).unwrap();
//! #     let verifier = Rs256Verifier::new(key.verifying_key());
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

#[cfg(feature = "store")]
mod durable;
mod filter;
mod index;
#[cfg(test)]
mod tests;

use std::{error::Error, sync::Arc, time::Duration};

#[cfg(feature = "store")]
pub use durable::{Answer, DurableStore, OpenError};
pub use index::RevocationIndex;

use crate::{
    clock::Timestamp,
    passticket::UserId,
    token::{Jwt, Pat, ServiceId, TokenFingerprint, Validity},
};

/// One act of revoking.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Revocation {
    /// One token, of either kind.
    Token {
        /// Which.
        token: TokenFingerprint,
        /// From when on it does no harm anyway.
        expires_at: Timestamp,
    },
    /// All PATs of a user that were issued at `up_to` or before.
    User {
        /// Whose.
        user: UserId,
        /// The time of the rule.
        up_to: Timestamp,
    },
    /// All PATs good for a service that were issued at `up_to` or before.
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

/// Why a token may not be used.
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

/// Says whether a token is revoked. Asked on every request that carries one, so it reads memory and
/// never waits.
///
/// [`RevocationIndex`] is the implementation to start with. A store that may lose touch with its
/// source answers [`CheckError::Unavailable`] then, and the request fails: it is never taken for
/// "not revoked".
pub trait RevocationCheck: Send + Sync + 'static {
    /// Checks one PAT whose signature and times were verified.
    ///
    /// # Errors
    /// [`CheckError`] when it is revoked, by itself or by a rule, or when that is not known.
    fn check(&self, pat: &Pat) -> Result<(), CheckError>;

    /// Checks one login token whose signature and times were verified. Rules do not count for it.
    ///
    /// # Errors
    /// [`CheckError`] when it is revoked itself, or when that is not known.
    fn check_login_token(&self, token: &Jwt) -> Result<(), CheckError>;
}

impl<R: RevocationCheck> RevocationCheck for Arc<R> {
    fn check(&self, pat: &Pat) -> Result<(), CheckError> {
        (**self).check(pat)
    }

    fn check_login_token(&self, token: &Jwt) -> Result<(), CheckError> {
        (**self).check_login_token(token)
    }
}

/// Where revocations are kept. Written to by the endpoints, never on the hot path.
pub trait RevocationStore: RevocationCheck {
    /// See [`record`](Self::record).
    type Recording: Future<Output = Result<(), StoreError>> + Send + 'static;

    /// See [`evict`](Self::evict).
    type Evicting: Future<Output = Result<Evicted, StoreError>> + Send + 'static;

    /// Takes up one revocation. It is under way when this returns: dropping the future loses the
    /// answer, not the revocation.
    ///
    /// `Ok` means that it is as durable as this store makes it, and that every check that starts
    /// from now on sees it. A rule with an earlier time than one that is there changes nothing:
    /// nothing un-revokes (design, decision 8).
    ///
    /// The future's [`StoreError`] means that it may not be durable. It may hold until the next
    /// start all the same: a store in doubt says "revoked".
    fn record(&self, revocation: Revocation) -> Self::Recording;

    /// Drops what can hit no token any more: revoked tokens that have expired at `now`, and rules
    /// that are older than the longest validity of a PAT.
    ///
    /// The future's [`StoreError`] means that some or all of it may still be there.
    fn evict(&self, now: Timestamp) -> Self::Evicting;
}

impl<S: RevocationStore> RevocationStore for Arc<S> {
    type Recording = S::Recording;
    type Evicting = S::Evicting;

    fn record(&self, revocation: Revocation) -> Self::Recording {
        (**self).record(revocation)
    }

    fn evict(&self, now: Timestamp) -> Self::Evicting {
        (**self).evict(now)
    }
}

/// What an eviction dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Evicted {
    /// Revoked tokens.
    pub tokens: usize,
    /// Rules for users.
    pub users: usize,
    /// Rules for services.
    pub services: usize,
}

/// Why a store did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// It could not write. It tries anew with the next call.
    #[error(
        "{store} could not be written: {source}; see that there is space and permission, then repeat the request"
    )]
    Write {
        /// Which store: the file, for one that has a file.
        store: Arc<str>,
        /// What was in the way.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// It takes no more writes, after a defect of the program.
    #[error("{store} takes no more writes; restart the program and report what its log says")]
    Ended {
        /// Which store.
        store: Arc<str>,
    },
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Whether a revoked token may still be presented at `now`: [`Rs256Verifier`] refuses it from
/// `expires_at` on.
///
/// [`Rs256Verifier`]: crate::token::Rs256Verifier
fn token_matters(expires_at: Timestamp, now: Timestamp) -> bool {
    now < expires_at
}

/// Whether a rule may still hit a token at `now`: what it hits was issued at `up_to` at the latest,
/// and no PAT lives longer than [`Validity::MAX`].
fn rule_matters(up_to: Timestamp, now: Timestamp) -> bool {
    now <= up_to.plus(DAY * u32::from(Validity::MAX.days()))
}
