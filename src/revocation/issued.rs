//! Limits on the register of issued PATs (Personal Access Tokens), so that one user cannot fill the disk or the memory.

use std::collections::HashMap;

use super::StoreError;
use crate::passticket::UserId;

/// A user with this number of registered PATs cannot register another one. A PAT that another node has registered also
/// counts, but is never refused. A PAT counts until an eviction has removed it. An eviction removes expired PATs. In a
/// `DurableStore`, it also removes PATs that were revoked as single tokens.
pub(super) const MAX_PATS: u32 = 1000;

#[derive(Debug, Default)]
pub(super) struct PatCounts(HashMap<UserId, u32>);

impl PatCounts {
    pub(super) fn count(&mut self, user: UserId) {
        *self.0.entry(user).or_default() += 1;
    }

    #[cfg(feature = "store")]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Counts a PAT that will be registered.
    ///
    /// # Errors
    /// [`StoreError::TooManyPats`] if the user already has [`MAX_PATS`] PATs.
    pub(super) fn reserve(&mut self, user: UserId) -> Result<(), StoreError> {
        if self.0.get(&user).is_some_and(|count| *count >= MAX_PATS) {
            return Err(StoreError::TooManyPats { user, limit: MAX_PATS });
        }
        self.count(user);
        Ok(())
    }

    /// Reverses [`reserve`](Self::reserve) for a PAT that could not be registered.
    #[cfg(feature = "store")]
    pub(super) fn release(&mut self, user: UserId) {
        if let Some(count) = self.0.get_mut(&user) {
            *count = count.saturating_sub(1);
        }
    }
}

/// The hashes of the services of a PAT: 8 bytes of SHA-256 for each service. Hashes save space, because a service id
/// has up to 64 bytes, and a PAT may have hundreds of services.
#[cfg(feature = "store")]
pub(super) mod scope_hashes {
    use sha2::{Digest, Sha256};

    use crate::token::{Scopes, ServiceId};

    const LEN: usize = 8;

    fn hash(service: &ServiceId) -> [u8; LEN] {
        let digest = Sha256::digest(service.as_str());
        std::array::from_fn(|i| digest[i])
    }

    pub(in crate::revocation) fn of(scopes: &Scopes) -> Vec<u8> {
        scopes.services().flat_map(hash).collect()
    }

    /// Returns whether one of the services is `service`. If another service has the same hash by chance, the result is
    /// wrongly `true`, and a rule revokes a PAT that it should not revoke.
    pub(in crate::revocation) fn contain(hashes: &[u8], service: &ServiceId) -> bool {
        let hash = hash(service);
        hashes.chunks_exact(LEN).any(|other| other == hash)
    }
}

#[cfg(all(test, feature = "store"))]
mod tests {
    use super::scope_hashes;
    use crate::token::{Scopes, ServiceId};

    #[test]
    fn hashes_are_of_services_whatever_the_suffixes_of_their_scopes() {
        let hashes = |scopes: &str| scope_hashes::of(&Scopes::parse([scopes]).unwrap());
        assert_eq!(hashes("a:read,a:/x,b:/Y"), hashes("a,b"));
        let contain = |id| scope_hashes::contain(&hashes("a:read"), &ServiceId::new(id).unwrap());
        assert!(contain("a") && !contain("b"));
    }
}
