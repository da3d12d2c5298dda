//! Keys of PassTickets (one-time passwords of z/OS), in memory. They are parsed from hex digits.

use std::fmt;

use zeroize::Zeroizing;

/// The key of legacy PassTickets: 8 bytes, which are used as one single-DES key. The parity bits are ignored.
///
/// The key is wiped from memory when it is dropped. `Debug` does not show it.
pub struct LegacyKey(
    // The bytes are boxed, because moving the bytes themselves would leave a copy of them in memory.
    Box<Zeroizing<[u8; Self::LEN]>>,
);

impl LegacyKey {
    /// The length in bytes.
    pub const LEN: usize = 8;

    const NEEDED: &str = "a legacy key has 16 hex digits (8 bytes)";

    /// Parses 16 hex digits in upper or lower case. Surrounding white space is ignored.
    ///
    /// # Errors
    /// [`KeyError`] says what was found and what is needed. The error contains no part of the key.
    pub fn from_hex(hex: &str) -> Result<Self, KeyError> {
        let hex = hex.trim();
        let digits = hex.chars().count();
        if digits != 2 * Self::LEN {
            return Err(KeyError::Length { digits, needed: Self::NEEDED });
        }
        let mut key = Box::new(Zeroizing::new([0; Self::LEN]));
        decode(hex, &mut key[..], Self::NEEDED)?;
        Ok(Self(key))
    }

    pub(super) fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl fmt::Debug for LegacyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LegacyKey(..)")
    }
}

/// The key of enhanced PassTickets: an HMAC key of 32 to 256 bytes. IBM recommends 64 bytes.
///
/// The key is wiped from memory when it is dropped. `Debug` does not show it.
pub struct EnhancedKey(Zeroizing<Box<[u8]>>);

impl EnhancedKey {
    /// The shortest key allowed, in bytes.
    pub const MIN_LEN: usize = 32;
    /// The longest key allowed, in bytes.
    pub const MAX_LEN: usize = 256;

    const NEEDED: &str =
        "an enhanced key has an even number of hex digits, 64 to 512 (32 to 256 bytes)";

    /// Parses 64 to 512 hex digits in upper or lower case. Surrounding white space is ignored.
    ///
    /// # Errors
    /// [`KeyError`] says what was found and what is needed. The error contains no part of the key.
    pub fn from_hex(hex: &str) -> Result<Self, KeyError> {
        let hex = hex.trim();
        let digits = hex.chars().count();
        let len = digits / 2;
        if !digits.is_multiple_of(2) || !(Self::MIN_LEN..=Self::MAX_LEN).contains(&len) {
            return Err(KeyError::Length { digits, needed: Self::NEEDED });
        }
        // The full length is allocated here, because a vector that grows leaves copies of the key in memory.
        let mut key = Zeroizing::new(vec![0; len].into_boxed_slice());
        decode(hex, &mut key, Self::NEEDED)?;
        Ok(Self(key))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for EnhancedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EnhancedKey(..)")
    }
}

/// The reason why a text is not a key. The error contains no part of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The number of digits is wrong.
    #[error("the key has {digits} characters; {needed}")]
    #[non_exhaustive]
    Length {
        /// The number of characters found, without surrounding white space.
        digits: usize,
        /// The length and the form that a key needs.
        needed: &'static str,
    },
    /// A character is not a hex digit.
    #[error("character {position} of the key is not a hex digit; {needed}")]
    #[non_exhaustive]
    Digit {
        /// The position of the first wrong character, counted from 1. Leading white space does not count.
        position: usize,
        /// The length and the form that a key needs.
        needed: &'static str,
    },
}

/// Decodes `hex` into `key`. `hex` has two characters for each byte of `key`.
fn decode(hex: &str, key: &mut [u8], needed: &'static str) -> Result<(), KeyError> {
    for (i, c) in hex.chars().enumerate() {
        let digit = c.to_digit(16).ok_or(KeyError::Digit { position: i + 1, needed })?;
        // `to_digit(16)` is below 16, so the cast loses nothing.
        key[i / 2] = key[i / 2] << 4 | digit as u8;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legacy_keys_are_16_hex_digits() {
        struct Case {
            input: &'static str,
            expected: Result<[u8; 8], &'static str>,
        }
        let key = [0xF9, 0x0F, 0x48, 0xF0, 0x3C, 0x28, 0xDC, 0x86];
        let cases = [
            Case { input: "F90F48F03C28DC86", expected: Ok(key) },
            Case { input: "f90f48f03c28dc86", expected: Ok(key) },
            Case { input: " \tF90F48F03c28dc86\r\n", expected: Ok(key) },
            // This is a weak DES key, but RACF (IBM's security product for z/OS) accepts it.
            Case { input: "0000000000000000", expected: Ok([0; 8]) },
            Case {
                input: "",
                expected: Err("the key has 0 characters; a legacy key has 16 hex digits (8 bytes)"),
            },
            Case {
                input: "F90F48F03C28DC8",
                expected: Err(
                    "the key has 15 characters; a legacy key has 16 hex digits (8 bytes)",
                ),
            },
            Case {
                input: "ÄF90F48F03C28DC86",
                expected: Err(
                    "the key has 17 characters; a legacy key has 16 hex digits (8 bytes)",
                ),
            },
            Case {
                input: " F90F48F03C28DC8G",
                expected: Err("character 16 of the key is not a hex digit; \
                     a legacy key has 16 hex digits (8 bytes)"),
            },
            Case {
                input: "F90F 48F03C28DC8",
                expected: Err("character 5 of the key is not a hex digit; \
                     a legacy key has 16 hex digits (8 bytes)"),
            },
        ];
        for Case { input, expected } in cases {
            let got = LegacyKey::from_hex(input);
            let got = got.map(|key| *key.as_bytes()).map_err(|e| e.to_string());
            assert_eq!(got, expected.map_err(str::to_owned), "{input:?}");
        }
    }

    #[test]
    fn enhanced_keys_are_64_to_512_hex_digits() {
        struct Case {
            digits: usize,
            accepted: bool,
        }
        let cases = [
            Case { digits: 0, accepted: false },
            Case { digits: 16, accepted: false },
            Case { digits: 62, accepted: false },
            Case { digits: 63, accepted: false },
            Case { digits: 64, accepted: true },
            Case { digits: 65, accepted: false },
            Case { digits: 128, accepted: true },
            Case { digits: 511, accepted: false },
            Case { digits: 512, accepted: true },
            Case { digits: 513, accepted: false },
            Case { digits: 514, accepted: false },
        ];
        for Case { digits, accepted } in cases {
            match EnhancedKey::from_hex(&"aB".repeat(257)[..digits]) {
                Ok(key) => {
                    assert!(accepted, "{digits}");
                    assert_eq!(key.as_bytes(), vec![0xAB; digits / 2]);
                }
                Err(KeyError::Length { digits: found, .. }) => {
                    assert!(!accepted, "{digits}");
                    assert_eq!(found, digits);
                }
                Err(other) => panic!("{digits}: {other}"),
            }
        }
    }

    #[test]
    fn debug_and_errors_do_not_show_the_key() {
        let legacy = LegacyKey::from_hex("F90F48F03C28DC86").unwrap();
        assert_eq!(format!("{legacy:?}"), "LegacyKey(..)");
        let enhanced = EnhancedKey::from_hex(&"F90F48F03C28DC86".repeat(4)).unwrap();
        assert_eq!(format!("{enhanced:?}"), "EnhancedKey(..)");
        let error = LegacyKey::from_hex("F90F48F03C28DC8?").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("F90F"), "{error:?}");
    }
}
