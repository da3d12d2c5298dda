//! Revocations of tokens: checks and stores.
//!
//! A Personal Access Token (PAT) can be revoked in two ways: as a single token, or by a *rule*. A rule is for one user
//! or one service. It revokes all PATs of the user, or all PATs for the service, if they were issued at the time of the
//! rule or before. Rules do not revoke login tokens or tokens of other issuers. Such tokens are revoked one by one. For
//! example, a login token is revoked when its user logs out (docs/reference/tokens-and-revocation.md#pat-contract).
//!
//! There are two traits for revocations. The layers call a [`RevocationCheck`] for each request with a token. The auth
//! API (the endpoints for login and tokens) writes revocations to a [`RevocationStore`]. This module also keeps the
//! networks from which users have logged in ([`KnownNetworks`]). The limit of failed logins uses these networks.
//!
//! | store | its revocations survive | feature |
//! |---|---|---|
//! | [`RevocationIndex`] | nothing. All revocations are lost when the process ends | none needed |
#![cfg_attr(
    feature = "store",
    doc = "| [`DurableStore`] | a crash of the process or of the machine | `store` |"
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
//! let VerifiedToken::Pat(pat) = &token else { panic!("expected a PAT") };
//! revocations.apply(&Revocation::User { user: *pat.user(), up_to: pat.issued_at() });
//! assert_eq!(revocations.check(&token), Err(CheckError::Revoked(RevokedBy::UserRule)));
//! ```

mod access_tokens;
#[cfg(feature = "store")]
mod durable;
#[cfg(feature = "store")]
mod followers;
mod index;
mod issued;
mod known_networks;
#[cfg(feature = "redis")]
mod record;
#[cfg(feature = "store")]
mod salt;
#[cfg(feature = "store")]
mod salts;
#[cfg(test)]
mod tests;
#[cfg(feature = "store")]
mod trusted_time;
#[cfg(feature = "store")]
mod unwritten;
#[cfg(feature = "remote")]
mod zowe;

use std::{error::Error, future::ready, pin::Pin, sync::Arc, time::Duration};

#[cfg(feature = "redis")]
pub(crate) use access_tokens::KEPT_AFTER_EXPIRY;
pub use access_tokens::{
    AccessToken, AccessTokenChange, AccessTokenCursor, AccessTokenCursorError, AccessTokenId,
    AccessTokenIdError, AccessTokenKey, AccessTokenOutcome, AccessTokenPage, AccessTokenQuery,
    AccessTokenState, AccessTokenStore, LabelError, LastUse, MAX_PAGE, MemoryAccessTokens, PatUse,
    RotatedPat, TokenDescription, TokenName, TokenUses,
};
#[cfg(feature = "store")]
pub use durable::{DurableStore, OpenError};
#[cfg(feature = "store")]
pub use followers::{AppliedRevocation, AppliedRevocationError, RevocationFeed};
pub use index::RevocationIndex;
pub use known_networks::{ClientNetwork, KnownNetworks, NetworkMemory};
#[cfg(feature = "redis")]
pub use record::{
    AccessTokenRecord, IssuedRecord, Merge, Record, RecordError, RecordKind, RecordParts, SALT_LEN,
};
#[cfg(feature = "remote")]
pub use zowe::{
    CachingService, CachingServiceError, CachingServiceFound, CachingServiceLayout,
    CachingServiceSettings, ReadMode, SaltSpelling, WithCachingService,
};

use crate::{
    clock::Timestamp,
    passticket::UserId,
    token::{Pat, Scopes, ServiceId, TokenFingerprint, Validity, VerifiedToken},
};

/// One revocation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Revocation {
    /// The revocation of one token of any kind.
    Token {
        /// The token.
        token: TokenFingerprint,
        /// When the token expires. From this time on, the revocation has no effect and can be removed.
        expires_at: Timestamp,
    },
    /// A rule for a user. It revokes all PATs of this user with an issue time of `up_to` or earlier.
    User {
        /// The user.
        user: UserId,
        /// The time of the rule.
        up_to: Timestamp,
    },
    /// A rule for a service. It revokes all PATs for this service with an issue time of `up_to` or earlier.
    Service {
        /// The service.
        service: ServiceId,
        /// The time of the rule.
        up_to: Timestamp,
    },
}

/// A PAT that the gateway has issued, as a store [registers](RevocationStore::register) it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IssuedPat {
    /// The token.
    pub token: TokenFingerprint,
    /// The user of the token.
    pub user: UserId,
    /// The scopes of the token.
    pub scopes: Scopes,
    /// The issue time in the token. This time is wrong if the clock was wrong when the token was issued.
    pub issued_at: Timestamp,
    /// When the token expires.
    pub expires_at: Timestamp,
}

impl IssuedPat {
    /// Returns `true` if `rule` is for the user or a service of this PAT, but the PAT was issued after the time of the
    /// rule. If only times are compared, such a rule does not revoke the PAT.
    pub fn is_missed_by(&self, rule: &Revocation) -> bool {
        match rule {
            Revocation::Token { .. } => false,
            Revocation::User { user, up_to } => *user == self.user && self.issued_at > *up_to,
            Revocation::Service { service, up_to } => {
                self.scopes.names_service(service) && self.issued_at > *up_to
            }
        }
    }

    /// Returns the revocation of this PAT alone.
    pub fn revocation(&self) -> Revocation {
        Revocation::Token { token: self.token, expires_at: self.expires_at }
    }
}

impl From<&Pat> for IssuedPat {
    fn from(pat: &Pat) -> Self {
        Self {
            token: pat.fingerprint(),
            user: *pat.user(),
            scopes: pat.scopes().clone(),
            issued_at: pat.issued_at(),
            expires_at: pat.expires_at(),
        }
    }
}

/// The kind of the revocation that revoked a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RevokedBy {
    /// The token itself was revoked.
    #[error("the token itself was revoked")]
    Token,
    /// A rule for the user of the token revoked the token.
    #[error("a rule for its user")]
    UserRule,
    /// A rule for one of the services of the token revoked the token.
    #[error("a rule for one of its services")]
    ServiceRule,
}

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// The token is revoked.
    #[error("the token is revoked: {0}")]
    Revoked(RevokedBy),
    /// The store cannot decide, because its data is missing or too old (docs/decisions.md#d9).
    #[error("the revocation store is not available")]
    Unavailable,
}

/// The future that [`RevocationCheck::check_token`] returns. It does not borrow from the store or from
/// the token.
pub type CheckFuture = Pin<Box<dyn Future<Output = Result<(), CheckError>> + Send>>;

/// A function that is called after revocations: see [`RevocationCheck::on_revocation`].
pub type RevocationListener = Arc<dyn Fn() + Send + Sync>;

/// Decides whether a token is revoked.
///
/// The check runs for each request with a token. [`RevocationIndex`] decides with data in memory. An implementation
/// that must ask a server returns `None` from [`try_check_now`](Self::try_check_now). The caller then waits for
/// [`check_token`](Self::check_token).
///
/// If an implementation does not know whether a token is revoked, it must never return `Ok`. Instead, it returns
/// [`CheckError::Unavailable`], and the caller does not accept the token.
///
/// ```
/// use tower_passticket::{revocation::*, token::VerifiedToken};
///
/// /// Rejects all PATs, and asks the index about all other tokens.
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
    /// Checks a verified token if this is possible without waiting. If the result is `None`, the caller calls
    /// [`check_token`](Self::check_token).
    ///
    /// Rules apply to PATs only. A [`Revocation::Token`] applies to tokens of all kinds.
    fn try_check_now(&self, token: &VerifiedToken) -> Option<Result<(), CheckError>>;

    /// Calls `listener` after each revocation from now on. One call can be for several revocations. A check that the
    /// listener starts sees all of them. The listener must return quickly, because the store waits for it.
    ///
    /// `proxy::Tunnels` uses this function to close WebSockets. The default implementation never calls the listener. A
    /// WebSocket whose token was revoked then ends at its next regular check.
    fn on_revocation(&self, listener: RevocationListener) {
        drop(listener);
    }

    /// Checks a verified token. The future must limit the time that it waits for a server.
    ///
    /// The default implementation is for types that never wait. It returns the result of
    /// [`try_check_now`](Self::try_check_now), and converts `None` to the error [`CheckError::Unavailable`].
    fn check_token(&self, token: &VerifiedToken) -> CheckFuture {
        let answer = self.try_check_now(token);
        Box::pin(ready(answer.unwrap_or(Err(CheckError::Unavailable))))
    }
}

impl<R: RevocationCheck + ?Sized> RevocationCheck for Arc<R> {
    fn try_check_now(&self, token: &VerifiedToken) -> Option<Result<(), CheckError>> {
        (**self).try_check_now(token)
    }

    fn on_revocation(&self, listener: RevocationListener) {
        (**self).on_revocation(listener);
    }

    fn check_token(&self, token: &VerifiedToken) -> CheckFuture {
        (**self).check_token(token)
    }
}

/// The future of a write to a [`RevocationStore`]. It does not borrow from the store.
pub type StoreFuture<T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>;

/// Stores revocations. The auth API writes to the store. The layers only read from it.
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
///     // The default implementations of the next three methods would not call the methods of the inner store.
///     fn revoke(&self, token: &VerifiedToken) -> StoreFuture<()> {
///         println!("{:?}", token.fingerprint());
///         self.0.revoke(token)
///     }
///
///     fn register(&self, pat: IssuedPat) -> StoreFuture<()> {
///         self.0.register(pat)
///     }
///
///     fn record_rule_of_now(&self, rule: Revocation) -> StoreFuture<()> {
///         println!("{rule:?}");
///         self.0.record_rule_of_now(rule)
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
    /// Stores one revocation. The write starts before this method returns. If the caller drops the future, the write
    /// continues, and only its result is lost.
    ///
    /// `Ok` means two things: the revocation is as durable as this store can make it, and every check that starts after
    /// `Ok` sees the revocation. A revocation is never undone (docs/decisions.md#d8). If the store already has a rule
    /// with a later time for the user or the service, the new rule changes nothing.
    ///
    /// After a [`StoreError`], the store may apply the revocation until the program ends, and lose it at a restart. If
    /// the revocation is stored despite an error, the description of this error says so.
    fn record(&self, revocation: Revocation) -> StoreFuture<()>;

    /// Stores the revocation of one verified token, as [`record`](Self::record) does with a [`Revocation::Token`]. A
    /// store that shares revocations with another program may need more of the token than its fingerprint.
    ///
    /// The default implementation calls `record`. A store that contains another store must implement this method, and
    /// call `revoke` of the other store.
    fn revoke(&self, token: &VerifiedToken) -> StoreFuture<()> {
        let (token, expires_at) = (token.fingerprint(), token.expires_at());
        self.record(Revocation::Token { token, expires_at })
    }

    /// Registers a PAT that was just issued, so that [`record_rule_of_now`](Self::record_rule_of_now) knows this PAT.
    /// The caller waits for `Ok`, and then gives the PAT to its user.
    ///
    /// The stores of this crate register at most 1000 PATs of a user. If the user already has 1000 PATs, the result is
    /// [`StoreError::TooManyPats`]. A PAT counts until an [`evict`](Self::evict) after its expiry removes it. In a
    /// `DurableStore`, a PAT that was revoked as a single token counts only until the next `evict`.
    ///
    /// The default implementation does nothing. A store that contains another store must implement this method, and
    /// call `register` of the other store.
    fn register(&self, pat: IssuedPat) -> StoreFuture<()> {
        drop(pat);
        Box::pin(ready(Ok(())))
    }

    /// Stores a rule with the current time, as [`record`](Self::record) does. The rule also revokes PATs of its user or
    /// service with a later issue time, if they were [registered](Self::register) before this call. A PAT has such an
    /// issue time if the clock was ahead when the PAT was issued (docs/decisions.md#d8).
    ///
    /// The default implementation calls `record`, which only compares times. A store that contains another store must
    /// implement this method, and call `record_rule_of_now` of the other store.
    fn record_rule_of_now(&self, rule: Revocation) -> StoreFuture<()> {
        self.record(rule)
    }

    /// Removes the revocations that have no effect at `now` or later. These are the revocations of tokens that have
    /// expired, and the rules that are older than the longest validity of a PAT. A store that does not trust `now`
    /// keeps some of these revocations for longer.
    ///
    /// After a [`StoreError`], the store may still have some or all of these revocations.
    fn evict(&self, now: Timestamp) -> StoreFuture<Evicted>;
}

impl<S: RevocationStore + ?Sized> RevocationStore for Arc<S> {
    fn record(&self, revocation: Revocation) -> StoreFuture<()> {
        (**self).record(revocation)
    }

    fn revoke(&self, token: &VerifiedToken) -> StoreFuture<()> {
        (**self).revoke(token)
    }

    fn register(&self, pat: IssuedPat) -> StoreFuture<()> {
        (**self).register(pat)
    }

    fn record_rule_of_now(&self, rule: Revocation) -> StoreFuture<()> {
        (**self).record_rule_of_now(rule)
    }

    fn evict(&self, now: Timestamp) -> StoreFuture<Evicted> {
        (**self).evict(now)
    }
}

/// The numbers of revocations that an eviction removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Evicted {
    /// Revocations of single tokens.
    pub tokens: usize,
    /// Rules for users.
    pub users: usize,
    /// Rules for services.
    pub services: usize,
}

/// Why a write to a store failed or was not confirmed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The write failed. A later call can succeed.
    #[error(
        "{store} could not be written: {source}; check free space and permissions, then repeat the request"
    )]
    Write {
        /// The name of the store, such as the path of the file.
        store: Arc<str>,
        /// The cause.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// The file of the store was removed or replaced while it was open. If the store accepted more writes, a restart
    /// would lose them.
    #[error(
        "{store} was removed or replaced while the program ran; put the file back, or stop the program \
         and start it with the right file"
    )]
    Replaced {
        /// The name of the store.
        store: Arc<str>,
    },
    /// Another program, which shares the revocations of this gateway, did not confirm the revocation. This gateway has
    /// stored the revocation, and applies it. While the gateway runs, it repeats the write to the other program, unless
    /// too many such writes wait.
    #[error(
        "{store} did not confirm the revocation: {source}; this gateway applies the revocation, and repeats the write \
         every few seconds"
    )]
    Unconfirmed {
        /// The name of the other program.
        store: Arc<str>,
        /// The cause.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// The user has the maximum number of registered PATs, so the store registers no more PATs of this user.
    #[error(
        "{user} has {limit} Personal Access Tokens that have not expired, and cannot get another one"
    )]
    TooManyPats {
        /// The user.
        user: UserId,
        /// The maximum number of PATs of a user.
        limit: u32,
    },
    /// The nodes that share revocations have more different salts than a node can check. Nodes use salts because they
    /// store tokens as salted hashes.
    #[error(
        "the nodes have more than {limit} different salts, so {store} cannot check all revocations of tokens; start \
         nodes with new files (passticket-proxy serve --new-store) so that they use a common salt, and remove the \
         shared data of the site"
    )]
    TooManySalts {
        /// The name of the store.
        store: Arc<str>,
        /// The maximum number of salts.
        limit: usize,
    },
    /// The store is suspended, so that another process can write the file: see `DurableStore::suspend`. A store that
    /// was made with `DurableStore::snapshot` returns this error for each write.
    #[error(
        "{store} was handed over to another process; repeat the request, so that the other process answers it"
    )]
    HandedOver {
        /// The name of the store.
        store: Arc<str>,
    },
    /// This node has stored the revocation or the PAT, but not all nodes have confirmed it. Other nodes may not know it
    /// yet.
    #[error(
        "node {store} has recorded this, but not all nodes have confirmed it: {reason}; repeat the request"
    )]
    NotEverywhere {
        /// The name of the node.
        store: Arc<str>,
        /// Why not all nodes have confirmed it.
        reason: Arc<str>,
    },
    /// The thread or task that writes to the store has ended, because of an error in the program.
    #[error("{store} accepts no more writes; restart the program and report what its log says")]
    Ended {
        /// The name of the store.
        store: Arc<str>,
    },
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Returns whether the revocation of a token is still needed at `now`. From `expires_at` on, the revocation is not
/// needed, because verifiers reject the token as expired.
fn is_token_revocation_needed(expires_at: Timestamp, now: Timestamp) -> bool {
    now < expires_at
}

/// Returns whether a rule is still needed at `now`. The rule revokes only PATs that were issued at `up_to` or before.
/// When [`Validity::MAX`] has passed since `up_to`, all these PATs have expired.
fn is_rule_needed(up_to: Timestamp, now: Timestamp) -> bool {
    now <= up_to.plus(DAY * u32::from(Validity::MAX.days()))
}
