//! Finds one entry of the registry.

use super::{
    changes::{AccessToken, Entries},
    id::AccessTokenId,
};
use crate::{clock::Timestamp, passticket::UserId, revocation::IssuedPat};

/// Names one Personal Access Token (PAT) in the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AccessTokenKey {
    /// The PAT of this user with this id.
    Id(UserId, AccessTokenId),
    /// A PAT that the caller has verified.
    Verified(IssuedPat),
}

impl AccessTokenKey {
    pub(in crate::revocation) fn find<E: Entries>(
        &self,
        now: Timestamp,
        entries: &E,
    ) -> Result<Option<AccessToken>, E::Error> {
        let entry = match self {
            Self::Id(user, id) => entries.with_id(user, id)?,
            Self::Verified(pat) => entries.of_pat(pat)?,
        };
        entry.map(|entry| entries.view(&entry, now)).transpose()
    }
}
