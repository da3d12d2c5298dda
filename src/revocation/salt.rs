//! The salt of a revocation file.

use sha2::{Digest, Sha256};

use crate::token::TokenFingerprint;

/// The random bytes under which a file stores fingerprints. Without them, a reader of the file
/// cannot look for a token whose fingerprint they know, for example from a log.
#[derive(Clone)]
pub(super) struct Salt {
    bytes: [u8; Self::LEN],
    hashed: Sha256,
}

impl Salt {
    /// One block of SHA-256, so that a fingerprint under a salt costs one block.
    pub(super) const LEN: usize = 64;

    pub(super) fn new(bytes: [u8; Self::LEN]) -> Self {
        Self { bytes, hashed: Sha256::new_with_prefix(bytes) }
    }

    pub(super) fn bytes(&self) -> &[u8; Self::LEN] {
        &self.bytes
    }

    pub(super) fn apply(&self, fingerprint: TokenFingerprint) -> TokenFingerprint {
        let salted = self.hashed.clone().chain_update(fingerprint.as_bytes()).finalize();
        TokenFingerprint::from_bytes(salted.into())
    }
}
