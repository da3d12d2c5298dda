//! SHA-256 fingerprints of certificates.

use std::{fmt, str::FromStr};

use crate::hexadecimal;

/// The SHA-256 fingerprint of a certificate.
///
/// ```
/// use tower_passticket::identity::Fingerprint;
///
/// let text = "AB:CD:".repeat(16);
/// let fingerprint: Fingerprint = text.trim_end_matches(':').parse()?;
/// assert_eq!(fingerprint, "abcd".repeat(16).parse()?);
/// # Ok::<(), tower_passticket::identity::FingerprintError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl From<[u8; 32]> for Fingerprint {
    fn from(sha256: [u8; 32]) -> Self {
        Self(sha256)
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    /// Reads 64 hexadecimal digits in upper or lower case, with a colon between all pairs of digits or without colons.
    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let error = || FingerprintError(text.chars().take(120).collect());
        let mut sha256 = [0; 32];
        let mut rest = text.bytes();
        let colons = text.contains(':');
        for (i, byte) in sha256.iter_mut().enumerate() {
            if colons && i > 0 && rest.next() != Some(b':') {
                return Err(error());
            }
            let mut next = || rest.next().ok_or_else(error);
            *byte = hexadecimal::byte(next()?, next()?).ok_or_else(error)?;
        }
        if rest.next().is_some() { Err(error()) } else { Ok(Self(sha256)) }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [b':'; 32 * 3 - 1];
        for (pair, byte) in text.chunks_mut(3).zip(self.0) {
            let digit = |nibble: u8| b"0123456789ABCDEF"[usize::from(nibble)];
            pair[..2].copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
        }
        f.write_str(str::from_utf8(&text).expect("hexadecimal digits are ASCII"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// The text is not a SHA-256 fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a SHA-256 fingerprint; write 64 hexadecimal digits, as \
     `openssl x509 -noout -fingerprint -sha256 -in FILE` shows them"
)]
pub struct FingerprintError(String);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_fingerprint_has_a_colon_between_all_pairs_or_none() {
        let plain = "00ff".repeat(16);
        let colons = ["00:FF"; 16].join(":");
        let fingerprint: Fingerprint = plain.parse().unwrap();
        assert_eq!(fingerprint.to_string(), colons);
        assert_eq!(colons.parse(), Ok(fingerprint));
        for text in [
            "",
            &plain[1..],
            &format!("{plain}0"),
            &format!("{plain}:"),
            &format!(" {plain}"),
            &colons[1..],
            &colons.replacen(':', "", 1),
            &plain.replacen('0', "g", 1),
            &plain.replacen("00", "\u{660}\u{660}", 1),
        ] {
            assert!(text.parse::<Fingerprint>().is_err(), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_parser_never_panics(text in any::<String>(), hex in "[0-9a-f:]{60,100}") {
            let _ = text.parse::<Fingerprint>();
            let _ = hex.parse::<Fingerprint>();
        }

        #[test]
        fn a_formatted_fingerprint_parses_to_the_same_fingerprint(sha256 in any::<[u8; 32]>()) {
            let fingerprint = Fingerprint::from(sha256);
            prop_assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
        }
    }
}
