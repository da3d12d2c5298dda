//! Puts keys into a PKCS#11 token.

use hmac::{Hmac, KeyInit, Mac};
use passticket::{EnhancedKey, KeyError};
use sha2::Sha512;
use zeroize::Zeroizing;

use super::{error::Pkcs11Error, key::PROBE, names::KeyLabel, token::Token};

/// A key to be put into a token. It is wiped from memory when it is dropped.
pub struct KeyValue(Zeroizing<Vec<u8>>);

impl KeyValue {
    /// Parses the text of a key file: 64 to 512 hex digits.
    ///
    /// # Errors
    /// The [`KeyError`] of [`EnhancedKey::from_hex`].
    pub fn from_hex(text: &str) -> Result<Self, KeyError> {
        EnhancedKey::from_hex(text)?;
        let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or_default() as u8;
        let text = text.trim().as_bytes();
        let mut value = Zeroizing::new(Vec::with_capacity(text.len() / 2));
        value.extend(text.chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])));
        Ok(Self(value))
    }
}

impl std::fmt::Debug for KeyValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyValue(..)")
    }
}

impl Token {
    /// Stores a key in the token as a sensitive secret key that cannot be extracted. Then compares a MAC from the token
    /// with a MAC that this function computes in memory. If the MACs differ, or if the key cannot make PassTickets,
    /// this function deletes the key from the token. This function blocks the calling thread.
    ///
    /// # Errors
    /// [`Pkcs11Error`] says why the import failed. If the token then fails to delete the key, the key stays in the
    /// token.
    pub fn import(&self, label: &KeyLabel, value: &KeyValue) -> Result<(), Pkcs11Error> {
        let mac = Hmac::<Sha512>::new_from_slice(&value.0).expect("HMAC takes keys of any length");
        let expected = Zeroizing::new(mac.chain_update(PROBE).finalize().into_bytes().to_vec());
        self.with_new_session(|session| session.import(label, value.0.clone(), PROBE, &expected))
    }

    /// Makes a random key of `len` bytes in the token, sensitive and not extractable. Such a key cannot be read, so it
    /// is useful only if the system that evaluates the PassTickets uses the same token. This function blocks the
    /// calling thread.
    ///
    /// # Errors
    /// [`Pkcs11Error`] says why the key was not generated, or why it cannot make PassTickets. If the token then fails
    /// to delete the key, the key stays in the token.
    pub fn generate(&self, label: &KeyLabel, len: usize) -> Result<(), Pkcs11Error> {
        self.with_new_session(|session| session.generate(label, len, PROBE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_parsed_from_hex_and_not_shown() {
        let value = KeyValue::from_hex(&format!(" {}\n", "0aF9".repeat(32))).unwrap();
        assert_eq!(value.0[..], [0x0A, 0xF9].repeat(32));
        assert_eq!(format!("{value:?}"), "KeyValue(..)");
        assert!(KeyValue::from_hex("0A").is_err());
        assert!(KeyValue::from_hex(&"0G".repeat(64)).is_err());
    }
}
