//! The revocation store.

use std::sync::Arc;

use super::error::ApiError;
use crate::{
    clock::Timestamp,
    log_limit::log_limited,
    revocation::{
        CheckError, Evicted, IssuedPat, Revocation, RevocationCheck, RevocationStore, StoreError,
    },
    token::VerifiedToken,
};

#[derive(Clone)]
pub(super) struct Revocations(Arc<dyn RevocationStore>);

impl Revocations {
    pub(super) fn new(store: impl RevocationStore) -> Self {
        Self(Arc::new(store))
    }

    /// # Errors
    /// [`CheckError::Revoked`] if the token is revoked. [`CheckError::Unavailable`] if the store could not check the
    /// token.
    pub(super) async fn check(&self, token: &VerifiedToken) -> Result<(), CheckError> {
        match self.0.try_check_now(token) {
            Some(checked) => checked,
            None => self.0.check_token(token).await,
        }
    }

    /// Stores one revocation. An endpoint must not answer with success before this function has returned `Ok`.
    ///
    /// # Errors
    /// [`ApiError::StoreUnavailable`] if the store returns an error.
    pub(super) async fn record(&self, revocation: Revocation) -> Result<(), ApiError> {
        self.0.record(revocation).await.map_err(|error| not_stored(&error))
    }

    /// Stores the revocation of a token. A store that shares revocations with another program, such as Zowe's Caching
    /// Service, also stores the revocation in that program. An endpoint must not answer with success before this
    /// function has returned `Ok`.
    ///
    /// # Errors
    /// [`ApiError::StoreUnavailable`] if the store returns an error.
    pub(super) async fn revoke(&self, token: &VerifiedToken) -> Result<(), ApiError> {
        self.0.revoke(token).await.map_err(|error| not_stored(&error))
    }

    /// Stores a rule with the current time. The rule also revokes registered PATs (Personal Access Tokens) whose issue
    /// time is in the future. The gateway issues such a PAT if its clock is ahead and is set back later.
    ///
    /// # Errors
    /// [`ApiError::StoreUnavailable`] if the store returns an error.
    pub(super) async fn record_rule_of_now(&self, rule: Revocation) -> Result<(), ApiError> {
        self.0.record_rule_of_now(rule).await.map_err(|error| not_stored(&error))
    }

    /// Registers a new PAT. The endpoint must not send the PAT before this function has returned `Ok`: if a PAT is not
    /// registered and its issue time is in the future, a rule with the current time does not revoke it.
    ///
    /// # Errors
    /// [`ApiError::TooManyPats`] if the user has too many registered PATs. [`ApiError::StoreUnavailable`] if the store
    /// returns another error.
    pub(super) async fn register(&self, pat: IssuedPat) -> Result<(), ApiError> {
        self.0.register(pat).await.map_err(|error| {
            if let StoreError::TooManyPats { limit, .. } = error {
                log_limited!(warn, "too many PATs", { %error }, "no Personal Access Token was issued");
                return ApiError::TooManyPats { limit };
            }
            log_limited!(error, "register PAT", { %error }, "the Personal Access Token could not be registered, so it was not issued");
            ApiError::StoreUnavailable
        })
    }

    /// Removes the revocations that no longer apply to a valid token at the time `now`.
    ///
    /// # Errors
    /// [`ApiError::StoreUnavailable`] if the store returns an error.
    pub(super) async fn evict(&self, now: Timestamp) -> Result<Evicted, ApiError> {
        self.0.evict(now).await.map_err(|error| {
            tracing::error!(%error, "expired revocations could not be removed");
            ApiError::StoreUnavailable
        })
    }
}

fn not_stored(error: &StoreError) -> ApiError {
    log_limited!(error, "store revocation", { %error }, "the revocation could not be stored; it may not survive a restart");
    ApiError::StoreUnavailable
}
