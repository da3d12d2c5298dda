//! The id of a key: the header `kid` of a token (RFC 7515 §4.1.4), and the member `kid` of a JWK (RFC 7517 §4.5).

use std::{fmt, str::FromStr, sync::Arc};

/// The id of one of the gateway's own signing keys: 1 to 128 visible ASCII characters, without `"` and `\`.
///
/// The header of a token contains the id of its signing key, if the key has one. The id decides only which of the
/// verifier's keys is tried first. A token that another key has signed is refused, whatever its id is.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct KeyId(Arc<str>);

impl KeyId {
    /// The maximum length in bytes.
    pub const MAX_LEN: usize = 128;

    /// Checks an id. Does not change it.
    ///
    /// # Errors
    /// [`KeyIdError`] if the id is empty or too long, or has a character that is not allowed.
    pub fn new(text: &str) -> Result<Self, KeyIdError> {
        let allowed = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\');
        if text.is_empty() || text.len() > Self::MAX_LEN || !text.bytes().all(allowed) {
            return Err(KeyIdError { text: text.chars().take(40).collect() });
        }
        Ok(Self(text.into()))
    }

    /// Returns the id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyId {
    type Err = KeyIdError;

    fn from_str(text: &str) -> Result<Self, KeyIdError> {
        Self::new(text)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyId").field(&self.as_str()).finish()
    }
}

/// The text is not the id of a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not the id of a key; write 1 to {} visible ASCII characters, without \" and \\",
    KeyId::MAX_LEN
)]
pub struct KeyIdError {
    /// The first 40 characters.
    text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_visible_ascii_that_needs_no_escapes_in_json() {
        let longest = "a".repeat(128);
        for good in ["a", "2026-11", "urn:key#1", &longest] {
            assert_eq!(KeyId::new(good).unwrap().as_str(), good);
        }
        for bad in ["", " a", "a b", "a\"b", "a\\b", "a\n", "\u{e4}", &format!("{longest}a")] {
            let error = KeyId::new(bad).unwrap_err().to_string();
            assert!(error.contains("is not the id of a key; write 1 to 128"), "{error}");
        }
    }
}
