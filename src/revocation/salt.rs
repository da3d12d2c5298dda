//! The salt of a revocation file.

use sha2::{Digest, Sha256};

use crate::token::TokenFingerprint;

/// The salt of one revocation file. It consists of random bytes that are stored in the file. The file contains no
/// fingerprints of tokens. In place of a fingerprint, the file contains a hash of the salt and the fingerprint. So a
/// fingerprint from a log does not occur in the file, and the hashes of one token differ from file to file.
#[derive(Clone)]
pub(super) struct Salt {
    bytes: [u8; Self::LEN],
    /// The state of SHA-256 after it has hashed the salt.
    state: Sha256,
}

impl Salt {
    /// The length of one SHA-256 block. The salt is hashed only once, because `state` keeps the state
    /// after this block. For each fingerprint, SHA-256 then processes one block instead of two.
    pub(super) const LEN: usize = 64;

    pub(super) fn new(bytes: [u8; Self::LEN]) -> Self {
        Self { bytes, state: Sha256::new_with_prefix(bytes) }
    }

    pub(super) fn bytes(&self) -> &[u8; Self::LEN] {
        &self.bytes
    }

    pub(super) fn hasher(&self) -> Sha256 {
        self.state.clone()
    }

    pub(super) fn apply(&self, fingerprint: TokenFingerprint) -> TokenFingerprint {
        let salted = self.hasher().chain_update(fingerprint.as_bytes()).finalize();
        TokenFingerprint::from_bytes(salted.into())
    }
}
