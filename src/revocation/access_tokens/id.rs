//! The id of an issued Personal Access Token.

use std::{fmt, str::FromStr};

use crate::token::TokenFingerprint;

/// Identifies a Personal Access Token in the registry. The id is no secret: a client cannot use it as a token.
///
/// The id is the first half of the salted hash that the store keeps in place of the token. `Display` writes 32
/// hexadecimal digits in lower case, and `FromStr` reads them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccessTokenId([u8; Self::LEN]);

impl AccessTokenId {
    pub(in crate::revocation) const LEN: usize = 16;

    /// Returns the id of a token. `stored` is the hash that the store keeps.
    pub(in crate::revocation) fn of(stored: &TokenFingerprint) -> Self {
        let mut id = [0; Self::LEN];
        id.copy_from_slice(&stored.as_bytes()[..Self::LEN]);
        Self(id)
    }

    pub(in crate::revocation) const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    pub(in crate::revocation) const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl fmt::Display for AccessTokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for AccessTokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccessTokenId({self})")
    }
}

/// The text is not the id of a Personal Access Token.
// The error does not contain the text, because the text may be a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is not the id of a Personal Access Token; write 32 hexadecimal digits in lower case")]
pub struct AccessTokenIdError;

impl FromStr for AccessTokenId {
    type Err = AccessTokenIdError;

    fn from_str(text: &str) -> Result<Self, AccessTokenIdError> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            _ => Err(AccessTokenIdError),
        };
        let digits: &[u8; 2 * Self::LEN] =
            text.as_bytes().try_into().map_err(|_| AccessTokenIdError)?;
        let mut id = [0; Self::LEN];
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Self(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_back_and_other_texts_are_errors() {
        let id = AccessTokenId::of(&TokenFingerprint::of("token"));
        assert_eq!(id.to_string().parse(), Ok(id));
        let digits = id.to_string();
        for wrong in ["", &digits[1..], &format!("{digits}0"), &digits.to_uppercase(), "+a"] {
            assert_eq!(wrong.parse::<AccessTokenId>(), Err(AccessTokenIdError), "{wrong}");
        }
    }
}
