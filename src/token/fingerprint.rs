//! What stands for a token where the token itself must not be: in logs, in memory, in files.

use std::fmt;
#[cfg(feature = "store")]
use std::sync::OnceLock;

use sha2::{Digest, Sha256};

/// Stands for one token without being it: the SHA-256 of its compact form.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenFingerprint([u8; 32]);

impl TokenFingerprint {
    /// The fingerprint of a token in its compact form. It need not be verified: to revoke what is
    /// no token hits nothing.
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Enough of it to tell it from most others.
    pub(crate) fn short(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    /// What `Display` writes.
    pub(crate) fn digits(&self) -> [u8; 64] {
        let mut digits = [0; 64];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(self.0) {
            let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
            pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
        }
        digits
    }

    /// From what [`as_bytes`](Self::as_bytes) gave.
    #[cfg(feature = "store")]
    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    #[cfg(feature = "store")]
    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for TokenFingerprint {
    /// As `sha256sum` writes it: 64 hexadecimal digits, in lower case.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.digits()).expect("hexadecimal digits are ASCII"))
    }
}

impl fmt::Debug for TokenFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenFingerprint({:02x}{:02x}{:02x}…)", self.0[0], self.0[1], self.0[2])
    }
}

/// Under which a file keeps fingerprints, so that who has the file cannot look for a token that
/// they have seen elsewhere, in a log for one.
#[cfg(feature = "store")]
#[derive(Clone)]
pub(crate) struct Salt {
    bytes: [u8; Self::LEN],
    hashed: Sha256,
}

#[cfg(feature = "store")]
impl Salt {
    /// One block of SHA-256, so that hashing a fingerprint costs the second block alone.
    pub(crate) const LEN: usize = 64;

    pub(crate) fn new(bytes: [u8; Self::LEN]) -> Self {
        Self { bytes, hashed: Sha256::new_with_prefix(bytes) }
    }

    pub(crate) fn bytes(&self) -> &[u8; Self::LEN] {
        &self.bytes
    }

    pub(crate) fn apply(&self, fingerprint: TokenFingerprint) -> TokenFingerprint {
        let salted = self.hashed.clone().chain_update(fingerprint.as_bytes()).finalize();
        TokenFingerprint::from_bytes(salted.into())
    }

    /// As many random bytes as tell it from every other one.
    fn name(&self) -> SaltName {
        self.bytes.first_chunk().copied().expect("a salt is longer")
    }
}

#[cfg(feature = "store")]
type SaltName = [u8; 16];

/// What stands for a token that has verified. It is seen again and again, so what each is under the
/// salt of the one file that there mostly is, is remembered.
pub(super) struct Fingerprints {
    own: TokenFingerprint,
    #[cfg(feature = "store")]
    salted: OnceLock<(SaltName, TokenFingerprint)>,
}

impl Fingerprints {
    pub(super) fn of(token: &str) -> Self {
        Self {
            own: TokenFingerprint::of(token),
            #[cfg(feature = "store")]
            salted: OnceLock::new(),
        }
    }

    pub(super) fn own(&self) -> TokenFingerprint {
        self.own
    }

    #[cfg(feature = "store")]
    pub(super) fn under(&self, salt: &Salt) -> TokenFingerprint {
        let (name, salted) = self.salted.get_or_init(|| (salt.name(), salt.apply(self.own)));
        if *name == salt.name() { *salted } else { salt.apply(self.own) }
    }
}

impl fmt::Debug for Fingerprints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Nothing of the salt.
        self.own.fmt(f)
    }
}

#[cfg(all(test, feature = "store"))]
mod tests {
    use super::*;

    #[test]
    fn each_salt_has_its_own_whichever_asks_first() {
        let fingerprints = Fingerprints::of("token");
        let [one, other] = [1, 2].map(|byte| Salt::new([byte; Salt::LEN]));
        assert_ne!(one.apply(fingerprints.own()), other.apply(fingerprints.own()));
        for salt in [&one, &other, &one, &other] {
            assert_eq!(fingerprints.under(salt), salt.apply(TokenFingerprint::of("token")));
        }
    }
}
