//! A key in a PKCS#11 token, as the source of a key profile.

use std::sync::Arc;

use passticket::{Algorithm, EnhancedType, KeySource, KeySourceError, KeyThreads};
use zeroize::Zeroizing;

use super::{
    error::{KeyFault, Pkcs11Error},
    names::KeyLabel,
    token::Token,
};

/// The input of a trial MAC. It cannot be the input for a PassTicket, because inputs for PassTickets have 16 or 20
/// bytes.
pub(super) const PROBE: &[u8] = b"tower-passticket trial";

/// A secret key in a PKCS#11 token. No other secret key of the token may have the same label. The key must be
/// sensitive, must not be extractable, and must be permitted for signatures.
#[derive(Clone, Debug)]
pub struct TokenKey {
    token: Token,
    label: KeyLabel,
}

impl TokenKey {
    /// Describes the key with this label. The token is not used until [`check`](Self::check) or the first PassTicket.
    pub fn new(token: Token, label: KeyLabel) -> Self {
        Self { token, label }
    }

    /// Returns the token.
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// Returns the label of the key.
    pub fn label(&self) -> &KeyLabel {
        &self.label
    }

    /// Returns whether both values have the same module path, the same token label and the same key label.
    pub fn is_same_key(&self, other: &Self) -> bool {
        self.token.module() == other.token.module()
            && self.token.label() == other.token.label()
            && self.label == other.label
    }

    /// Finds the key, checks how it is protected, and makes a trial MAC. This function blocks the calling thread for at
    /// most 5 seconds.
    ///
    /// # Errors
    /// [`Pkcs11Error`] says why the key cannot be used.
    pub fn check(&self) -> Result<(), Pkcs11Error> {
        let key = self.clone();
        self.token.threads().run_blocking(move || key.hmac(PROBE).map(drop))?
    }

    fn hmac(&self, data: &[u8]) -> Result<Zeroizing<[u8; 64]>, Pkcs11Error> {
        let mac =
            self.token.with_session(&self.label, |session| session.hmac(&self.label, data))?;
        let mac: [u8; 64] = mac[..].try_into().map_err(|_| Pkcs11Error::WrongKey {
            token: self.token.label().clone(),
            key: self.label.clone(),
            fault: KeyFault::ShortMac,
        })?;
        Ok(Zeroizing::new(mac))
    }
}

/// An enhanced PassTicket key in a PKCS#11 token. HMAC-SHA-512 (`CKM_SHA512_HMAC`) runs in the token.
///
/// There is no type for legacy keys: a DES key can be found by trying all keys, wherever it is stored.
#[derive(Clone, Debug)]
pub struct Pkcs11Key {
    key: TokenKey,
    alphabet: EnhancedType,
}

impl Pkcs11Key {
    /// Creates a source of PassTickets from the key. `alphabet` is the type of the PassTickets.
    pub fn new(key: TokenKey, alphabet: EnhancedType) -> Self {
        Self { key, alphabet }
    }
}

impl KeySource for Pkcs11Key {
    fn algorithm(&self) -> Algorithm {
        match self.alphabet {
            EnhancedType::Upper => Algorithm::EnhancedUpper,
            EnhancedType::Mixed => Algorithm::EnhancedMixed,
        }
    }

    fn compute(&self, input: &[u8]) -> Result<[u8; 8], KeySourceError> {
        let mac = self.key.hmac(input)?;
        let mut left = [0; 8];
        left.copy_from_slice(&mac[..8]);
        Ok(left)
    }

    fn threads(&self) -> Option<Arc<dyn KeyThreads>> {
        Some(self.key.token.threads().clone())
    }
}
