//! The revocation store, of any type.

use std::sync::Arc;

use super::error::ApiError;
use crate::{
    clock::Timestamp,
    revocation::{CheckError, Evicted, Revocation, RevocationCheck, RevocationStore},
    token::VerifiedToken,
};

/// The revocation store, which is chosen at run time.
#[derive(Clone)]
pub(super) struct Revocations(Arc<dyn RevocationStore>);

impl Revocations {
    pub(super) fn new(store: impl RevocationStore) -> Self {
        Self(Arc::new(store))
    }

    /// # Errors
    /// As [`RevocationCheck::check_token`].
    pub(super) async fn check(&self, token: &VerifiedToken) -> Result<(), CheckError> {
        match self.0.try_check_now(token) {
            Some(checked) => checked,
            None => self.0.check_token(token).await,
        }
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
