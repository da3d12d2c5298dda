//! The salt of a revocation file.

use sha2::{Digest, Sha256};

use crate::token::TokenFingerprint;

/// Random bytes of one revocation file. The file contains them. In place of the fingerprint of a token,
/// it contains a hash of the salt and the fingerprint. A search for a fingerprint that is known from a
/// log therefore finds nothing, and a token has different hashes in different files.
#[derive(Clone)]
pub(super) struct Salt {
    bytes: [u8; Self::LEN],
    /// The hash state after the salt.
    state: Sha256,
}

impl Salt {
    /// The length of one SHA-256 block. The hash state after this block is stored, so each fingerprint
    /// costs the hash of one more block.
    pub(super) const LEN: usize = 64;

    pub(super) fn new(bytes: [u8; Self::LEN]) -> Self {
        Self { bytes, state: Sha256::new_with_prefix(bytes) }
    }

    pub(super) fn bytes(&self) -> &[u8; Self::LEN] {
        &self.bytes
    }

    /// The hash of the salt and the fingerprint.
    pub(super) fn apply(&self, fingerprint: TokenFingerprint) -> TokenFingerprint {
        let salted = self.state.clone().chain_update(fingerprint.as_bytes()).finalize();
        TokenFingerprint::from_bytes(salted.into())
    }
}
