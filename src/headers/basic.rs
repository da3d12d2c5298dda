//! The credentials of `Authorization: Basic` (RFC 7617).

use std::fmt;

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use zeroize::Zeroizing;

/// Accepts Base64 with or without padding, as API ML (Zowe's API Mediation Layer) does.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A user name and a password. `Debug` does not show them. Dropping this value overwrites its memory.
pub(crate) struct BasicCredentials {
    decoded: Zeroizing<Vec<u8>>,
    colon: usize,
}

impl BasicCredentials {
    /// Decodes the Base64 text after the word `Basic`. Returns `None` if this text is not valid Base64, or if the
    /// decoded text has no colon. The user name can be empty, and both parts can be bytes that are not UTF-8.
    pub(crate) fn decode(encoded: &[u8]) -> Option<Self> {
        let decoded = Zeroizing::new(BASE64.decode(encoded).ok()?);
        let colon = decoded.iter().position(|byte| *byte == b':')?;
        Some(Self { decoded, colon })
    }

    /// Returns the user name: the bytes before the first colon.
    pub(crate) fn user(&self) -> &[u8] {
        &self.decoded[..self.colon]
    }

    /// Returns the password: the bytes after the first colon.
    pub(crate) fn password(&self) -> &[u8] {
        &self.decoded[self.colon + 1..]
    }
}

impl fmt::Debug for BasicCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BasicCredentials(..)")
    }
}

/// Splits the value of `Authorization` into the scheme and the text after it.
pub(crate) fn split_scheme(value: &[u8]) -> (&[u8], &[u8]) {
    let value = value.trim_ascii();
    let end = value.iter().position(u8::is_ascii_whitespace).unwrap_or(value.len());
    let (scheme, rest) = value.split_at(end);
    (scheme, rest.trim_ascii())
}
