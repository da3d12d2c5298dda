//! Why Zowe's Caching Service cannot be used as a store of revocations.

use crate::remote::RemoteError;

/// Why a call to Zowe's Caching Service failed. The text says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CachingServiceError {
    /// The service refuses the client certificate of the gateway.
    #[error(
        "the Caching Service refuses the client certificate of the gateway (status {status}); use a copy of the \
         certificate that API ML itself uses"
    )]
    NotTrusted {
        /// The status of the answer.
        status: u16,
    },
    /// The partition of the gateway has no salt.
    #[error(
        "the Caching Service has no salt for the client certificate of the gateway (ZWECS131E): either the subject of \
         the certificate is not the one that API ML uses, so the gateway would not see its revocations, or no Personal \
         Access Token was ever used; use a copy of API ML's certificate, and validate one Personal Access Token at API \
         ML, or set createSalt: true"
    )]
    NoSalt,
    /// The service does not use the storage Infinispan, the only one in which it can store lists.
    #[error(
        "the Caching Service stores no lists (ZWECS136E), so API ML cannot revoke Personal Access Tokens; set caching \
         storage mode infinispan"
    )]
    NotInfinispan,
    /// The service has no `/cache-query`, which the query mode needs.
    #[error(
        "the Caching Service does not know /cache-query, which releases before 3.6 do not have; set mode: index"
    )]
    NoQuery,
    /// API ML (Zowe's API Mediation Layer) does not forward to a Caching Service.
    #[error(
        "API ML forwards to no Caching Service (status 404); start the Caching Service, and check zowe.url"
    )]
    NotRegistered,
    /// The salt cannot be read, or changed while it was created.
    #[error("the record of the salt is not usable; repair it at API ML")]
    BadSalt,
    /// The lists became empty, and the salt is not the one of the start.
    #[error(
        "the lists of the Caching Service have become empty, and its salt is gone or has changed, so API ML has lost its \
         revocations; revoke these tokens again at API ML, then restart the gateway"
    )]
    ListsLost,
    /// The verifier does not keep the text of the PAT, so the keys of its revocations cannot be computed.
    #[error(
        "the text of the token is not known; let the verifier keep it (Rs256Verifier::with_pat_texts)"
    )]
    NoText,
    /// The gateway has not asked the service yet.
    #[error("the Caching Service was not asked yet")]
    NotPrepared,
    /// The service answered a write with success, but does not have the revocation.
    #[error(
        "the Caching Service answered with success, but does not have the revocation: releases before 3.6 drop a write \
         if their cluster is busy"
    )]
    Dropped,
    /// The service did not answer, or its answer is not as expected.
    #[error("the Caching Service is {0}")]
    Remote(#[from] RemoteError),
}

impl CachingServiceError {
    /// Returns whether only an operator can remove the cause. If not, a later call may succeed.
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
