//! Labels of PKCS#11 tokens and of their keys, and the PIN of a token.

use std::{fmt, str::FromStr};

use zeroize::Zeroizing;

/// The label of a token: 1 to 32 bytes. PKCS#11 pads labels with blanks, so surrounding blanks are ignored.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenLabel(String);

/// The label of a key in a token (`CKA_LABEL`): 1 to 64 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyLabel(String);

/// The error for a text that is not a label.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a {what} has 1 to {max} bytes without control characters, but this text has {len}")]
pub struct LabelError {
    what: &'static str,
    max: usize,
    len: usize,
}

fn label(text: &str, what: &'static str, max: usize) -> Result<String, LabelError> {
    let text = text.trim();
    match text.is_empty() || text.len() > max || text.contains(char::is_control) {
        true => Err(LabelError { what, max, len: text.len() }),
        false => Ok(text.to_owned()),
    }
}

impl TokenLabel {
    /// Parses a label.
    ///
    /// # Errors
    /// [`LabelError`] if the text is empty, too long, or contains a control character.
    pub fn new(text: &str) -> Result<Self, LabelError> {
        label(text, "label of a token", 32).map(Self)
    }

    /// Returns the label.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl KeyLabel {
    /// Parses a label.
    ///
    /// # Errors
    /// [`LabelError`] if the text is empty, too long, or contains a control character.
    pub fn new(text: &str) -> Result<Self, LabelError> {
        label(text, "label of a key", 64).map(Self)
    }

    /// Returns the label.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TokenLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Display for KeyLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for TokenLabel {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        Self::new(text)
    }
}

impl FromStr for KeyLabel {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        Self::new(text)
    }
}

/// The PIN of the normal user of a token. It is wiped from memory when it is dropped. `Debug` does not show it.
pub struct Pin(Zeroizing<String>);

/// The error for a content of a file that is not a PIN. It contains no part of the PIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a PIN has 1 to 255 bytes of UTF-8 in one line; write the PIN of the token's user into the file"
)]
pub struct PinError(());

impl Pin {
    /// Parses the content of a file. One line end after the PIN is ignored.
    ///
    /// # Errors
    /// [`PinError`] if the PIN is empty, too long or not UTF-8, if it has more than one line, or if it contains a NUL
    /// character.
    pub fn parse(content: &[u8]) -> Result<Self, PinError> {
        let text = str::from_utf8(content).map_err(|_| PinError(()))?;
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        match text.is_empty() || text.len() > 255 || text.contains(['\n', '\r', '\0']) {
            true => Err(PinError(())),
            false => Ok(Self(Zeroizing::new(text.to_owned()))),
        }
    }

    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pin(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_short_texts() {
        for (text, want) in [
            ("PTKT", Some("PTKT")),
            ("  PTKT prod  ", Some("PTKT prod")),
            ("", None),
            (" ", None),
            ("a\nb", None),
        ] {
            assert_eq!(TokenLabel::new(text).ok().as_ref().map(TokenLabel::as_str), want);
            assert_eq!(KeyLabel::new(text).ok().as_ref().map(KeyLabel::as_str), want);
        }
        assert!(TokenLabel::new(&"x".repeat(32)).is_ok());
        assert!(TokenLabel::new(&"x".repeat(33)).is_err());
        assert!(KeyLabel::new(&"x".repeat(64)).is_ok());
        assert!(KeyLabel::new(&"x".repeat(65)).is_err());
    }

    #[test]
    fn a_pin_is_one_line_and_is_not_shown() {
        for (content, want) in [
            ("1234", Some("1234")),
            ("1234\n", Some("1234")),
            ("1234\r\n", Some("1234")),
            (" 12 34 ", Some(" 12 34 ")),
            ("", None),
            ("\n", None),
            ("1234\n\n", None),
            ("12\n34", None),
        ] {
            let pin = Pin::parse(content.as_bytes());
            assert_eq!(pin.as_ref().ok().map(Pin::expose), want, "{content:?}");
            assert!(!format!("{pin:?}").contains("12"));
        }
        assert!(Pin::parse(&[b'1'; 256]).is_err());
        assert!(Pin::parse(&[0xFF]).is_err());
    }
}
