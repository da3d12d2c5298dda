//! The salt of a site of API ML (Zowe's API Mediation Layer), and the hashes that are the keys of its revocations
//! (docs/reference/zowe-site.md#revocation-records).

use std::fmt;

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD},
};
use sha2::{Digest, Sha512};

use crate::hexadecimal;

/// How the text of a salt becomes the bytes that are hashed. API ML 3.0 and newer releases, such as 3.5, write
/// different texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SaltSpelling {
    /// The text is Base64 of 16 bytes. Releases newer than 3.0, such as 3.5, write this form.
    Base64Of16Bytes,
    /// The text is Base64 of another number of bytes. Such a salt comes from an error of newer releases of API ML: each
    /// time they read a salt of 3.0, they encode the text as Base64, and store the result as the salt. API ML then
    /// finds none of the revocations that were stored before.
    Base64,
    /// The bytes are the text itself in UTF-8, as API ML 3.0 writes it.
    Text,
}

impl fmt::Display for SaltSpelling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Base64Of16Bytes => "Base64 of 16 bytes",
            Self::Base64 => "Base64, but not of 16 bytes",
            Self::Text => "text",
        })
    }
}

/// The salt that all API MLs of a site share. `Debug` does not show it.
#[derive(Clone)]
pub(super) struct Salt {
    text: Box<str>,
    spelling: SaltSpelling,
    state: Sha512,
}

impl Salt {
    /// Reads a salt from the text that is stored in the Caching Service. Returns `None` if the text is empty.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return None;
        }
        let decoded = BASE64_STANDARD.decode(text).or_else(|_| BASE64_STANDARD_NO_PAD.decode(text));
        let (spelling, bytes) = match decoded {
            Ok(bytes) if bytes.len() == 16 => (SaltSpelling::Base64Of16Bytes, bytes),
            Ok(bytes) if !bytes.is_empty() => (SaltSpelling::Base64, bytes),
            _ => (SaltSpelling::Text, text.as_bytes().to_vec()),
        };
        Some(Self { text: text.into(), spelling, state: Sha512::new_with_prefix(bytes) })
    }

    pub(super) fn spelling(&self) -> SaltSpelling {
        self.spelling
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.text == other.text
    }

    /// Returns the key under which API ML stores `value`.
    pub(super) fn hash(&self, value: &str) -> ItemHash {
        ItemHash(self.state.clone().chain_update(value.as_bytes()).finalize().into())
    }
}

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Salt").field("spelling", &self.spelling).finish_non_exhaustive()
    }
}

/// The key of a revocation: SHA-512 of the salt and of a token, a user or a service.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ItemHash([u8; 64]);

impl ItemHash {
    /// Reads a key: 128 hexadecimal digits. Returns `None` for any other text, because it is not the key of a
    /// revocation.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let digits: &[u8; 128] = text.as_bytes().try_into().ok()?;
        let (pairs, _) = digits.as_chunks::<2>();
        let mut bytes = [0; 64];
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = hexadecimal::byte(*high, *low)?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for ItemHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ItemHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ItemHash({:02x}{:02x}{:02x}…)", self.0[0], self.0[1], self.0[2])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spelling_decides_which_bytes_are_hashed() {
        let sha = |bytes: &[u8]| ItemHash(Sha512::digest(bytes).into());
        // Base64 of 16 bytes with and without padding, Base64 of 6 bytes, and two texts that are not Base64.
        for (text, spelling, prefix) in [
            (
                "AAECAwQFBgcICQoLDA0ODw==",
                SaltSpelling::Base64Of16Bytes,
                &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15][..],
            ),
            (
                "AAECAwQFBgcICQoLDA0ODw",
                SaltSpelling::Base64Of16Bytes,
                &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15][..],
            ),
            ("77+977+9", SaltSpelling::Base64, "\u{fffd}\u{fffd}".as_bytes()),
            ("\u{fffd}a\u{fffd}!", SaltSpelling::Text, "\u{fffd}a\u{fffd}!".as_bytes()),
            ("with space", SaltSpelling::Text, b"with space"),
        ] {
            let salt = Salt::parse(text).unwrap();
            assert_eq!(salt.spelling(), spelling, "{text}");
            assert_eq!(salt.hash("USER"), sha(&[prefix, b"USER"].concat()), "{text}");
            assert!(!format!("{salt:?}").contains(text));
        }
        assert!(Salt::parse("").is_none());
    }

    #[test]
    fn a_hash_is_128_hexadecimal_digits() {
        let hash = Salt::parse("a").unwrap().hash("b");
        let text = hash.to_string();
        assert_eq!((text.len(), ItemHash::parse(&text)), (128, Some(hash)));
        assert_eq!(ItemHash::parse(&text.to_uppercase()), Some(hash));
        for bad in ["", "ab", &text[1..], &format!("{text}0"), &format!("{}+1", &text[2..])] {
            assert_eq!(ItemHash::parse(bad), None, "{bad}");
        }
    }
}
