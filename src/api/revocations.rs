//! The revocation store, of any type.

use std::{pin::Pin, sync::Arc};

use super::error::ApiError;
use crate::{
    clock::Timestamp,
    revocation::{CheckError, Evicted, Revocation, RevocationCheck, RevocationStore, StoreError},
    token::{Jwt, Pat},
};

/// The revocation store, which is chosen at run time.
#[derive(Clone)]
pub(super) struct Revocations(Arc<dyn Store>);

impl Revocations {
    pub(super) fn new(store: impl RevocationStore) -> Self {
        Self(Arc::new(store))
    }

    /// # Errors
    /// As [`RevocationCheck::check`].
    pub(super) async fn check_pat(&self, pat: &Pat) -> Result<(), CheckError> {
        self.0.check(pat)
    }

    /// # Errors
    /// As [`RevocationCheck`].
    pub(super) async fn check_login_token(&self, jwt: &Jwt) -> Result<(), CheckError> {
        self.0.check_login_token(jwt)
    }

    /// Stores one revocation. An endpoint answers with success only after `Ok`.
    ///
    /// # Errors
    /// [`ApiError::StoreUnavailable`].
    pub(super) async fn record(&self, revocation: Revocation) -> Result<(), ApiError> {
        self.0.record(revocation).await.map_err(|error| {
            tracing::error!(
                %error, "the revocation could not be stored; it may not survive a restart"
            );
            ApiError::StoreUnavailable
        })
    }

    /// Removes revocations that can hit no token at `now`.
    ///
    /// # Errors
    /// [`ApiError::StoreUnavailable`].
    pub(super) async fn evict(&self, now: Timestamp) -> Result<Evicted, ApiError> {
        self.0.evict(now).await.map_err(|error| {
            tracing::error!(%error, "expired revocations could not be removed");
            ApiError::StoreUnavailable
        })
    }
}

type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// An object-safe [`RevocationStore`].
trait Store: Send + Sync {
    fn check(&self, pat: &Pat) -> Result<(), CheckError>;
    fn check_login_token(&self, jwt: &Jwt) -> Result<(), CheckError>;
    fn record(&self, revocation: Revocation) -> StoreFuture<'_, Result<(), StoreError>>;
    fn evict(&self, now: Timestamp) -> StoreFuture<'_, Result<Evicted, StoreError>>;
}

impl<R: RevocationStore> Store for R {
    fn check(&self, pat: &Pat) -> Result<(), CheckError> {
        RevocationCheck::check(self, pat)
    }

    fn check_login_token(&self, jwt: &Jwt) -> Result<(), CheckError> {
        RevocationCheck::check_login_token(self, jwt)
    }

    fn record(&self, revocation: Revocation) -> StoreFuture<'_, Result<(), StoreError>> {
        Box::pin(RevocationStore::record(self, revocation))
    }

    fn evict(&self, now: Timestamp) -> StoreFuture<'_, Result<Evicted, StoreError>> {
        Box::pin(RevocationStore::evict(self, now))
    }
}
