//! The fingerprint of a token. Logs and revocations contain the fingerprint instead of the token.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sha2::{Digest, Sha256};

use crate::hexadecimal;

/// The SHA-256 hash of a token in its compact form (RFC 7515 §3.1). The hash identifies the token, but a client cannot
/// use it as a token.
///
/// `Display` and `Serialize` write 64 hexadecimal digits, as the program `sha256sum` does. `FromStr` and `Deserialize`
/// read them.
///
/// ```
/// use tower_passticket::token::TokenFingerprint;
///
/// let fingerprint = TokenFingerprint::of("eyJhbGciOiJSUzI1NiJ9.e30.AAAA");
/// let stored: Vec<u8> = fingerprint.as_bytes().to_vec();
/// assert_eq!(TokenFingerprint::from_bytes(stored.try_into().unwrap()), fingerprint);
/// assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenFingerprint([u8; 32]);

impl TokenFingerprint {
    /// Computes the fingerprint of a token in its compact form. The token is not verified.
    pub fn of(token: impl AsRef<[u8]>) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Makes a fingerprint from the bytes of a hash, for example from a store.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes of the hash.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) fn digits(&self) -> [u8; 64] {
        let mut digits = [0; 64];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(self.0) {
            let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
            pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
        }
        digits
    }
}

impl fmt::Display for TokenFingerprint {
    /// Writes 64 hexadecimal digits in lower case.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(str::from_utf8(&self.digits()).expect("hexadecimal digits are ASCII"))
    }
}

impl FromStr for TokenFingerprint {
    type Err = ParseFingerprintError;

    /// Reads 64 hexadecimal digits in lower or upper case.
    fn from_str(text: &str) -> Result<Self, ParseFingerprintError> {
        let error = || ParseFingerprintError { len: text.len() };
        if text.len() != 64 {
            return Err(error());
        }
        let mut bytes = [0; 32];
        let (pairs, _) = text.as_bytes().as_chunks::<2>();
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = hexadecimal::byte(*high, *low).ok_or_else(error)?;
        }
        Ok(Self(bytes))
    }
}

/// The text is not the fingerprint of a token.
// The error does not contain the text, because the text may be a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a text of {len} bytes is not the fingerprint of a token; write 64 hexadecimal digits")]
pub struct ParseFingerprintError {
    len: usize,
}

impl Serialize for TokenFingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TokenFingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

impl fmt::Debug for TokenFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenFingerprint({:02x}{:02x}{:02x}…)", self.0[0], self.0[1], self.0[2])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_that_are_not_64_hexadecimal_digits_are_rejected() {
        let digits = TokenFingerprint::of("token").to_string();
        assert!(digits.parse::<TokenFingerprint>().is_ok());
        assert_eq!(digits.to_uppercase().parse(), Ok(TokenFingerprint::of("token")));
        let euro = format!("{}\u{20ac}", &digits[..61]);
        for text in ["", &digits[..63], &format!("{digits}0"), &digits.replace('a', "g"), &euro] {
            let error = text.parse::<TokenFingerprint>().unwrap_err();
            assert!(error.to_string().contains(&format!("{} bytes", text.len())), "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_fingerprint_can_be_read_from_its_bytes_its_digits_or_json(bytes: [u8; 32]) {
            let fingerprint = TokenFingerprint::from_bytes(bytes);
            prop_assert_eq!(fingerprint.as_bytes(), &bytes);
            prop_assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
            let json = serde_json::to_string(&fingerprint).unwrap();
            prop_assert_eq!(&json, &format!("\"{fingerprint}\""));
            prop_assert_eq!(serde_json::from_str::<TokenFingerprint>(&json).unwrap(), fingerprint);
        }
    }
}
