//! Computes enhanced PassTickets with the cryptographic module of AWS-LC that is validated for FIPS 140-3. The crate
//! `passticket` has its own HMAC-SHA-512, which is not validated.

use aws_lc_rs::hmac::{self, HMAC_SHA512};
use tower_passticket::passticket::{Algorithm, KeySource, KeySourceError};
use zeroize::Zeroizing;

#[derive(Debug)]
pub(super) struct FipsKey {
    algorithm: Algorithm,
    key: hmac::Key,
}

impl FipsKey {
    /// Parses the hex digits of a key. The caller must have checked these digits. Returns `None` for a legacy key.
    pub(super) fn from_hex(algorithm: Algorithm, key: &str) -> Option<Self> {
        if algorithm == Algorithm::Legacy {
            return None;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or_default() as u8;
        let text = key.trim().as_bytes();
        let mut value = Zeroizing::new(Vec::with_capacity(text.len() / 2));
        value.extend(text.chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])));
        Some(Self { algorithm, key: hmac::Key::new(HMAC_SHA512, &value) })
    }
}

impl KeySource for FipsKey {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    fn compute(&self, input: &[u8]) -> Result<[u8; 8], KeySourceError> {
        let mac = hmac::sign(&self.key, input);
        mac.as_ref()
            .first_chunk()
            .copied()
            .ok_or_else(|| KeySourceError::new("the MAC is too short"))
    }
}
