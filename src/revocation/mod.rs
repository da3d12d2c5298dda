//! Revoked tokens.
//!
//! A Personal Access Token is revoked by itself, or by a *rule*: all PATs of a user, or all PATs for a
//! service, that were issued up to a point in time. A login token is revoked by itself, at logout: rules
//! are about PATs (docs/reference/tokens-and-revocation.md#pat-contract). A token of another issuer is
//! revoked by itself, too.
//!
//! There are two traits. Each request asks a [`RevocationCheck`]: it reads memory, at a cost that does
//! not grow with the number of rules. The endpoints write to a [`RevocationStore`].
//!
//! | store | what it survives | feature |
//! |---|---|---|
//! | [`RevocationIndex`] | nothing: it is in memory | core |
#![cfg_attr(
    feature = "store",
    doc = "| [`DurableStore`] | the process, and the machine | `store` |"
)]
//!
//! ```
//! # use tower_passticket::{clock::Timestamp, passticket::UserId, revocation::*, token::*};
//! # fn verified_pat() -> VerifiedToken {
//! #     let pem = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048);
//! #     let key = SigningKey::from_pem(pem.unwrap().serialize_pem().as_bytes()).unwrap();
//! #     let verifier = Rs256Verifier::new(key.verifying_key());
//! #     let scopes = Scopes::parse(["zosmf"]).unwrap();
//! #     let token = TokenIssuer::new(key)
//! #         .personal_access_token(&UserId::new("USER").unwrap(), &scopes, Validity::MAX).unwrap();
//! #     verifier.verify(token.expose()).unwrap()
//! # }
//! let token: VerifiedToken = verified_pat();
//! let revocations = RevocationIndex::default();
//! assert!(revocations.check(&token).is_ok());
//!
//! let VerifiedToken::Pat(pat) = &token else { panic!("is a PAT") };
//! revocations.apply(&Revocation::User { user: *pat.user(), up_to: pat.issued_at() });
//! assert_eq!(revocations.check(&token), Err(CheckError::Revoked(RevokedBy::UserRule)));
//! ```

#[cfg(feature = "store")]
mod durable;
mod index;
#[cfg(feature = "store")]
mod salt;
#[cfg(test)]
mod tests;

use std::{error::Error, future::ready, pin::Pin, sync::Arc, time::Duration};

#[cfg(feature = "store")]
pub use durable::{DurableStore, OpenError};
pub use index::RevocationIndex;

use crate::{
    clock::Timestamp,
    passticket::UserId,
    token::{ServiceId, TokenFingerprint, Validity, VerifiedToken},
};

/// One revocation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Revocation {
    /// One token, of any kind.
    Token {
        /// The token.
        token: TokenFingerprint,
        /// When the token expires. Afterwards the revocation has no effect and can be evicted.
        expires_at: Timestamp,
    },
    /// All PATs of a user that were issued at `up_to` or before.
    User {
        /// The user.
        user: UserId,
        /// The time of the rule.
        up_to: Timestamp,
    },
    /// All PATs for a service that were issued at `up_to` or before.
    Service {
        /// The service.
        service: ServiceId,
        /// The time of the rule.
        up_to: Timestamp,
    },
}

/// The revocation that hit a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RevokedBy {
    /// The token itself was revoked.
    #[error("the token itself was revoked")]
    Token,
    /// A rule for its user.
    #[error("a rule for its user")]
    UserRule,
    /// A rule for one of its services.
    #[error("a rule for one of its services")]
    ServiceRule,
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// The token is revoked.
    #[error("the token is revoked: {0}")]
    Revoked(RevokedBy),
    /// The store cannot tell: its data are missing or too old (docs/decisions.md#d9).
    #[error("the revocation store is not available")]
    Unavailable,
}

/// The answer of [`RevocationCheck::check_token`]. It owns what it needs.
pub type CheckFuture = Pin<Box<dyn Future<Output = Result<(), CheckError>> + Send>>;

/// Trait for what tells whether a token is revoked.
///
/// It is asked on each request with a token. [`RevocationIndex`] implements it in memory. An
/// implementation that may have to ask a server answers `None` to
/// [`try_check_now`](Self::try_check_now), and the caller waits for
/// [`check_token`](Self::check_token).
///
/// A store that has lost its source answers [`CheckError::Unavailable`], and the request fails. It
/// never answers that a token is not revoked without knowing it.
///
/// An `Arc` of an implementation is an implementation, also an `Arc<dyn RevocationCheck>`.
///
/// ```
/// use tower_passticket::{revocation::*, token::VerifiedToken};
///
/// /// Refuses PATs, and asks the index about all other tokens.
/// struct NoPats(RevocationIndex);
///
/// impl RevocationCheck for NoPats {
///     fn try_check_now(&self, token: &VerifiedToken) -> Option<Result<(), CheckError>> {
///         Some(match token {
///             VerifiedToken::Pat(_) => Err(CheckError::Revoked(RevokedBy::ServiceRule)),
///             _ => self.0.check(token),
///         })
///     }
/// }
/// ```
pub trait RevocationCheck: Send + Sync + 'static {
    /// Checks a verified token if that needs no waiting. `None` means that it does, and the caller
    /// goes on with [`check_token`](Self::check_token).
    ///
    /// Rules count for PATs alone. A [`Revocation::Token`] counts for tokens of all kinds.
    fn try_check_now(&self, token: &VerifiedToken) -> Option<Result<(), CheckError>>;

    /// Checks a verified token. The future must end by itself: bound the time that it waits for a
    /// server.
    ///
    /// The default is for implementations that always answer now: it takes the answer of
    /// [`try_check_now`](Self::try_check_now), and `None` as [`CheckError::Unavailable`].
    fn check_token(&self, token: &VerifiedToken) -> CheckFuture {
        let answer = self.try_check_now(token);
        Box::pin(ready(answer.unwrap_or(Err(CheckError::Unavailable))))
    }
}

impl<R: RevocationCheck + ?Sized> RevocationCheck for Arc<R> {
    fn try_check_now(&self, token: &VerifiedToken) -> Option<Result<(), CheckError>> {
        (**self).try_check_now(token)
    }

    fn check_token(&self, token: &VerifiedToken) -> CheckFuture {
        (**self).check_token(token)
    }
}

/// The answer of a [`RevocationStore`] to a write. It owns what it needs.
pub type StoreFuture<T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>;

/// Trait for what keeps revocations. The endpoints write to it; requests through the layers only
/// read.
///
/// An `Arc` of a store is a store, also an `Arc<dyn RevocationStore>`.
///
/// ```
/// use std::{future::ready, sync::Arc};
/// use tower_passticket::{clock::Timestamp, revocation::*, token::VerifiedToken};
///
/// /// Logs each revocation before it takes effect.
/// #[derive(Default)]
/// struct Logged(RevocationIndex);
///
/// impl RevocationCheck for Logged {
///     fn try_check_now(&self, token: &VerifiedToken) -> Option<Result<(), CheckError>> {
///         self.0.try_check_now(token)
///     }
/// }
///
/// impl RevocationStore for Logged {
///     fn record(&self, revocation: Revocation) -> StoreFuture<()> {
///         println!("{revocation:?}");
///         self.0.record(revocation)
///     }
///
///     fn evict(&self, now: Timestamp) -> StoreFuture<Evicted> {
///         self.0.evict(now)
///     }
/// }
///
/// let store: Arc<dyn RevocationStore> = Arc::new(Logged::default());
/// # let _ = store;
/// ```
pub trait RevocationStore: RevocationCheck {
    /// Stores one revocation. The write has begun when this returns: dropping the future loses the
    /// answer, not the revocation.
    ///
    /// `Ok` means that the revocation is as durable as this store makes it, and that every check
    /// that starts from now on sees it. A rule with an earlier time than the stored one changes
    /// nothing: a revocation is never taken back (docs/decisions.md#d8).
    ///
    /// The future's [`StoreError`] means that the revocation may not be durable. It may still hold
    /// until the next start: a store in doubt answers "revoked".
    fn record(&self, revocation: Revocation) -> StoreFuture<()>;

    /// Removes what can hit no token at `now`: revoked tokens that have expired, and rules that are
    /// older than the longest validity of a PAT.
    ///
    /// The future's [`StoreError`] means that some or all of it may still be there.
    fn evict(&self, now: Timestamp) -> StoreFuture<Evicted>;
}

impl<S: RevocationStore + ?Sized> RevocationStore for Arc<S> {
    fn record(&self, revocation: Revocation) -> StoreFuture<()> {
        (**self).record(revocation)
    }

    fn evict(&self, now: Timestamp) -> StoreFuture<Evicted> {
        (**self).evict(now)
    }
}

/// The number of revocations that an eviction removed.
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

/// Why a store did not write.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The write failed. The store tries again with the next call.
    #[error(
        "{store} could not be written: {source}; check free space and permissions, then repeat the request"
    )]
    Write {
        /// The store: the file, if it has one.
        store: Arc<str>,
        /// The cause.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// The store takes no more writes, after a defect of the program.
    #[error("{store} takes no more writes; restart the program and report what its log says")]
    Ended {
        /// The store.
        store: Arc<str>,
    },
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Whether a revoked token can still be presented at `now`: a verifier refuses it from `expires_at`
/// on.
fn token_matters(expires_at: Timestamp, now: Timestamp) -> bool {
    now < expires_at
}

/// Whether a rule can still hit a token at `now`: the token was issued at `up_to` at the latest, and no
/// PAT lives longer than [`Validity::MAX`].
fn rule_matters(up_to: Timestamp, now: Timestamp) -> bool {
    now <= up_to.plus(DAY * u32::from(Validity::MAX.days()))
}
