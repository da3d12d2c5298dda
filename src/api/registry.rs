//! The registry of issued Personal Access Tokens.

use std::{net::IpAddr, num::NonZeroU32, sync::Arc, time::Duration};

use tokio::sync::Semaphore;

use super::error::{ApiError, NotRotated};
use crate::{
    clock::{Clock, Timestamp},
    log_limit::log_limited,
    passticket::UserId,
    revocation::{
        AccessToken, AccessTokenChange, AccessTokenId, AccessTokenKey, AccessTokenOutcome,
        AccessTokenPage, AccessTokenQuery, AccessTokenState, AccessTokenStore, IssuedPat, LastUse,
        PatUse, RotatedPat, StoreError, TokenDescription, TokenName,
    },
};

#[derive(Clone)]
pub(super) struct Registry {
    store: Arc<dyn AccessTokenStore>,
    limit: NonZeroU32,
    lists: Arc<Semaphore>,
}

/// The maximum number of concurrent list requests to the store. Further list requests wait here. A store may make lists
/// and store revocations on the same thread. Without this limit, a client that sends many list requests could delay
/// revocations.
const MAX_LISTS: usize = 4;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Label {
    pub(super) name: Option<TokenName>,
    pub(super) description: Option<TokenDescription>,
}

impl Registry {
    pub(super) fn new(store: impl AccessTokenStore, limit: NonZeroU32) -> Self {
        Self { store: Arc::new(store), limit, lists: Arc::new(Semaphore::new(MAX_LISTS)) }
    }

    /// Registers a new token. The endpoint sends the token to the client only if this function returns `Ok`.
    ///
    /// # Errors
    /// [`ApiError::TooManyPats`] if the user has too many tokens. [`ApiError::StoreUnavailable`] if the store returns
    /// another error.
    pub(super) async fn issue(
        &self,
        pat: IssuedPat,
        label: Label,
        clock: &dyn Clock,
    ) -> Result<AccessToken, ApiError> {
        let Label { name, description } = label;
        let (description, limit) = (description.unwrap_or_default(), self.limit.get());
        let change = AccessTokenChange::Issue { pat, name, description, limit };
        token(self.change(change, clock.now()).await?)
    }

    /// # Errors
    /// [`ApiError::NoSuchToken`] if the user has no token with this id. [`ApiError::StoreUnavailable`] if the store
    /// returns an error.
    pub(super) async fn find(
        &self,
        user: UserId,
        id: AccessTokenId,
        clock: &dyn Clock,
    ) -> Result<AccessToken, ApiError> {
        let found = self.store.find(AccessTokenKey::Id(user, id), clock.now()).await;
        found.map_err(|error| not_read(&error))?.ok_or(ApiError::NoSuchToken)
    }

    /// Returns the entry of a token that the caller has verified. If the registry does not contain the token, adds it.
    /// For example, API ML (Zowe's API Mediation Layer) or an earlier version of this program may have issued the
    /// token.
    ///
    /// # Errors
    /// [`ApiError::NoSuchToken`] if the registry has no entry for the token and cannot add one: the user has too many
    /// entries, or the token has expired or names no service. [`ApiError::StoreUnavailable`] if the store returns an
    /// error.
    pub(super) async fn find_or_add(
        &self,
        pat: IssuedPat,
        from: Option<IpAddr>,
        clock: &dyn Clock,
    ) -> Result<AccessToken, ApiError> {
        let find = || self.store.find(AccessTokenKey::Verified(pat.clone()), clock.now());
        if let Some(entry) = find().await.map_err(|error| not_read(&error))? {
            return Ok(entry);
        }
        let added = PatUse::new(pat.clone(), LastUse::new(clock.now(), from, None));
        self.change(AccessTokenChange::Use(vec![added]), clock.now()).await?;
        find().await.map_err(|error| not_read(&error))?.ok_or(ApiError::NoSuchToken)
    }

    /// # Errors
    /// [`ApiError::StoreUnavailable`] if the store returns an error.
    pub(super) async fn list(
        &self,
        query: AccessTokenQuery,
        clock: &dyn Clock,
    ) -> Result<AccessTokenPage, ApiError> {
        // The semaphore is never closed.
        let _turn = self.lists.acquire().await.map_err(|_| ApiError::Internal)?;
        self.store.list(query, clock.now()).await.map_err(|error| not_read(&error))
    }

    /// # Errors
    /// The errors of [`find`](Self::find).
    pub(super) async fn relabel(
        &self,
        user: UserId,
        id: AccessTokenId,
        label: Label,
        clock: &dyn Clock,
    ) -> Result<AccessToken, ApiError> {
        let Label { name, description } = label;
        let change = AccessTokenChange::Relabel { user, id, name, description };
        token(self.change(change, clock.now()).await?)
    }

    /// # Errors
    /// The errors of [`find`](Self::find).
    pub(super) async fn revoke(
        &self,
        user: UserId,
        id: AccessTokenId,
        clock: &dyn Clock,
    ) -> Result<AccessToken, ApiError> {
        token(self.change(AccessTokenChange::Revoke { user, id }, clock.now()).await?)
    }

    /// # Errors
    /// [`ApiError::NotRotated`] if the old token is not active, or was already rotated. Also the errors of
    /// [`issue`](Self::issue) and [`find`](Self::find).
    pub(super) async fn rotate(
        &self,
        old: RotatedPat,
        new: IssuedPat,
        grace: Duration,
        clock: &dyn Clock,
    ) -> Result<AccessToken, ApiError> {
        let limit = self.limit.get();
        let change = AccessTokenChange::Rotate { old, new, grace, limit };
        token(self.change(change, clock.now()).await?)
    }

    /// Reports that a client has used a revoked token. The store may then revoke other tokens. Returns how many it has
    /// revoked.
    ///
    /// # Errors
    /// [`ApiError::StoreUnavailable`] if the store returns an error.
    pub(super) async fn report_misuse(
        &self,
        pat: IssuedPat,
        clock: &dyn Clock,
    ) -> Result<usize, ApiError> {
        match self.change(AccessTokenChange::Misuse { pat }, clock.now()).await? {
            AccessTokenOutcome::Revoked(count) => Ok(count),
            _ => Ok(0),
        }
    }

    async fn change(
        &self,
        change: AccessTokenChange,
        now: Timestamp,
    ) -> Result<AccessTokenOutcome, ApiError> {
        self.store.change(change, now).await.map_err(|error| match error {
            StoreError::TooManyPats { limit, .. } => ApiError::TooManyPats { limit },
            error => {
                log_limited!(error, "access token registry", { %error }, "the registry of Personal Access Tokens could not be changed");
                ApiError::StoreUnavailable
            }
        })
    }
}

fn not_read(error: &StoreError) -> ApiError {
    log_limited!(error, "read access token registry", { %error }, "the registry of Personal Access Tokens could not be read");
    ApiError::StoreUnavailable
}

fn token(outcome: AccessTokenOutcome) -> Result<AccessToken, ApiError> {
    Err(match outcome {
        AccessTokenOutcome::Token(token) => return Ok(token),
        AccessTokenOutcome::NotFound => ApiError::NoSuchToken,
        AccessTokenOutcome::AlreadyRotated => ApiError::NotRotated(NotRotated::AlreadyRotated),
        AccessTokenOutcome::NotActive(AccessTokenState::Expired) => {
            ApiError::NotRotated(NotRotated::Expired)
        }
        AccessTokenOutcome::NotActive(_) => ApiError::NotRotated(NotRotated::Revoked),
        AccessTokenOutcome::TooMany { limit } => ApiError::TooManyPats { limit },
        AccessTokenOutcome::Revoked(_) => ApiError::Internal,
    })
}

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use super::*;
    use crate::{
        clock::ManualClock,
        revocation::{MemoryAccessTokens, StoreFuture},
    };

    /// A store that counts the requests for a list, and never answers them.
    struct Slow(Arc<AtomicUsize>, MemoryAccessTokens);

    impl AccessTokenStore for Slow {
        fn change(
            &self,
            change: AccessTokenChange,
            now: Timestamp,
        ) -> StoreFuture<AccessTokenOutcome> {
            self.1.change(change, now)
        }

        fn find(&self, key: AccessTokenKey, now: Timestamp) -> StoreFuture<Option<AccessToken>> {
            self.1.find(key, now)
        }

        fn list(&self, _: AccessTokenQuery, _: Timestamp) -> StoreFuture<AccessTokenPage> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Box::pin(pending())
        }
    }

    #[test]
    fn the_number_of_concurrent_lists_is_limited() {
        let count = Arc::new(AtomicUsize::new(0));
        let store = Slow(count.clone(), MemoryAccessTokens::new(Arc::default()));
        let registry = Registry::new(store, NonZeroU32::MIN);
        let clock = ManualClock::new(Timestamp::from_secs(1_800_000_000));
        let list = || tokio_test::task::spawn(registry.list(AccessTokenQuery::new(None), &clock));
        let mut lists: Vec<_> = (0..10).map(|_| list()).collect();
        lists.iter_mut().for_each(|list| assert!(list.poll().is_pending()));
        assert_eq!(count.load(Ordering::Relaxed), MAX_LISTS);
        // If a client no longer waits, another client gets its turn.
        drop(lists.remove(0));
        lists.iter_mut().for_each(|list| assert!(list.poll().is_pending()));
        assert_eq!(count.load(Ordering::Relaxed), MAX_LISTS + 1);
    }
}
