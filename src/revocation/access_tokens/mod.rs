//! The registry of issued Personal Access Tokens (docs/decisions.md#d36).
//!
//! For each Personal Access Token (PAT), the registry has an entry with its user, name, scopes and times, but never the
//! token itself. Users list, rename, rotate and revoke their tokens with the registry.
//!
//! The registry does not store whether a token is revoked. For each answer, it looks the token up in the revocations of
//! its store. So it does not matter how the token was revoked: by its id, by a request that contains the token, by a
//! rotation, or by a rule for its user or its service. After a token has expired, the entry shows only that it has
//! expired. A registry in a file normally keeps the entry for 30 days after the expiry.

mod changes;
#[cfg_attr(
    not(feature = "store"),
    expect(dead_code, reason = "only the store writes entries as bytes")
)]
mod entry;
mod find;
mod id;
mod label;
mod listing;
mod memory;
#[cfg(test)]
pub(super) mod tests;
mod uses;

use std::sync::Arc;

#[cfg(feature = "store")]
pub(crate) use changes::KEPT_AFTER_EXPIRY;
pub use changes::{
    AccessToken, AccessTokenChange, AccessTokenOutcome, AccessTokenState, PatUse, RotatedPat,
};
#[cfg(feature = "store")]
pub(super) use changes::{Entries, EntriesMut, MAX_ENTRIES, apply, make_room};
pub(super) use entry::Entry;
pub use entry::LastUse;
pub use find::AccessTokenKey;
pub use id::{AccessTokenId, AccessTokenIdError};
pub use label::{LabelError, TokenDescription, TokenName};
#[cfg(feature = "store")]
pub(super) use listing::list;
pub use listing::{
    AccessTokenCursor, AccessTokenCursorError, AccessTokenPage, AccessTokenQuery, MAX_PAGE,
};
pub use memory::MemoryAccessTokens;
pub use uses::TokenUses;

use super::StoreFuture;
use crate::clock::Timestamp;

/// The trait for registries of issued Personal Access Tokens (PATs).
///
/// A store makes each change in one atomic step. If two changes arrive at the same time, the second change sees the
/// result of the first change. For example, only one of two rotations of a token succeeds.
///
/// ```
/// use std::sync::Arc;
/// use tower_passticket::{clock::Timestamp, revocation::*};
///
/// /// A registry that logs each change.
/// struct Logged(MemoryAccessTokens);
///
/// impl AccessTokenStore for Logged {
///     fn change(&self, change: AccessTokenChange, now: Timestamp) -> StoreFuture<AccessTokenOutcome> {
///         println!("{change:?}");
///         self.0.change(change, now)
///     }
///
///     fn find(&self, key: AccessTokenKey, now: Timestamp) -> StoreFuture<Option<AccessToken>> {
///         self.0.find(key, now)
///     }
///
///     fn list(&self, query: AccessTokenQuery, now: Timestamp) -> StoreFuture<AccessTokenPage> {
///         self.0.list(query, now)
///     }
/// }
///
/// let revocations = Arc::new(RevocationIndex::default());
/// let tokens: Arc<dyn AccessTokenStore> = Arc::new(Logged(MemoryAccessTokens::new(revocations)));
/// # let _ = tokens;
/// ```
pub trait AccessTokenStore: Send + Sync + 'static {
    /// Makes a change. The change starts before this method returns, and is finished even if the caller drops the
    /// future. `Ok` means that the change is as durable as this store can make it. If the change revokes tokens, every
    /// check that starts after `Ok` sees their revocations.
    fn change(&self, change: AccessTokenChange, now: Timestamp) -> StoreFuture<AccessTokenOutcome>;

    /// Finds one token. Returns `None` if the registry does not have it.
    fn find(&self, key: AccessTokenKey, now: Timestamp) -> StoreFuture<Option<AccessToken>>;

    /// Returns one page of a list of tokens.
    fn list(&self, query: AccessTokenQuery, now: Timestamp) -> StoreFuture<AccessTokenPage>;
}

impl<S: AccessTokenStore + ?Sized> AccessTokenStore for Arc<S> {
    fn change(&self, change: AccessTokenChange, now: Timestamp) -> StoreFuture<AccessTokenOutcome> {
        (**self).change(change, now)
    }

    fn find(&self, key: AccessTokenKey, now: Timestamp) -> StoreFuture<Option<AccessToken>> {
        (**self).find(key, now)
    }

    fn list(&self, query: AccessTokenQuery, now: Timestamp) -> StoreFuture<AccessTokenPage> {
        (**self).list(query, now)
    }
}
