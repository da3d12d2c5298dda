//! The reasons why Zowe's Caching Service cannot be used as a store of revocations.
//!
//! The Caching Service keeps the data of each client in a *partition*, whose name is the subject of the client's
//! certificate. The keys of all revocations in a partition are hashes with the same random text, the *salt*. API ML
//! (Zowe's API Mediation Layer) creates the salt when a Personal Access Token (PAT) is used for the first time.

use crate::remote::RemoteError;

/// The reason why a call to Zowe's Caching Service failed. The text of the error says what to do, if anything can be
/// done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CachingServiceError {
    /// The service refuses the client certificate of the gateway.
    #[error(
        "the Caching Service refuses the client certificate of the gateway (status {status}); set \
         zowe.clientCertificate to a copy of API ML's certificate and key"
    )]
    NotTrusted {
        /// The status of the answer.
        status: u16,
    },
    /// The partition of the gateway has no salt.
    #[error(
        "the Caching Service has no salt for the client certificate of the gateway (ZWECS131E). Either no Personal \
         Access Token was ever used, or the subject of this certificate differs from the subject of API ML's \
         certificate, so the gateway would not see API ML's revocations. Set zowe.clientCertificate to a copy of API \
         ML's certificate and key, and validate a Personal Access Token at API ML. Or set \
         zowe.revocations.createSalt: true"
    )]
    NoSalt,
    /// The service can store lists only in Infinispan, but it stores its data elsewhere.
    #[error(
        "the Caching Service stores no lists (ZWECS136E), so API ML cannot revoke Personal Access Tokens; set \
         caching.storage.mode: infinispan for the Caching Service"
    )]
    NotInfinispan,
    /// The service has no `/cache-query`, which the query mode needs.
    #[error(
        "the Caching Service does not know /cache-query, because its release is older than 3.6; set \
         zowe.revocations.mode: index"
    )]
    NoQuery,
    /// API ML does not forward to a Caching Service.
    #[error(
        "API ML forwards to no Caching Service (status 404); start the Caching Service, and check zowe.url"
    )]
    NotRegistered,
    /// The salt is an empty text, or the service does not have the salt that the gateway has created.
    #[error(
        "the salt in the Caching Service is empty, or was removed after the gateway had created it; check the record \
         with the key salt in the Caching Service, then restart the gateway"
    )]
    BadSalt,
    /// The lists became empty, and the salt is not the one that the gateway read first.
    #[error(
        "the lists of the Caching Service have become empty, and its salt is gone or has changed, so API ML has lost its \
         revocations; revoke these tokens again at API ML, then restart the gateway"
    )]
    ListsLost,
    /// The verifier does not keep the text of the PAT, so the keys of its revocations cannot be computed.
    #[error(
        "the revocation cannot be written, because the verifier does not keep the texts of Personal Access Tokens; \
         call Rs256Verifier::with_pat_texts"
    )]
    NoText,
    /// The gateway has not read the salt yet, so it cannot compute the keys of revocations.
    #[error(
        "the gateway has not read the salt from the Caching Service yet; it tries again regularly"
    )]
    NotPrepared,
    /// The service answered a write with success, but does not have the revocation.
    #[error(
        "the Caching Service answered with success, but does not have the revocation: releases before 3.6 drop a write \
         if their cluster is busy; the gateway writes the revocation again"
    )]
    Dropped,
    /// The service did not answer, or its answer cannot be used.
    #[error("the Caching Service is {0}")]
    Remote(#[from] RemoteError),
}

impl CachingServiceError {
    /// Returns whether only an operator can remove the cause. If this is `false`, a later call may succeed, except
    /// after [`NoText`](Self::NoText).
    pub fn needs_operator(&self) -> bool {
        matches!(
            self,
            Self::NotTrusted { .. }
                | Self::NoSalt
                | Self::NotInfinispan
                | Self::NoQuery
                | Self::BadSalt
                | Self::ListsLost
        )
    }
}
