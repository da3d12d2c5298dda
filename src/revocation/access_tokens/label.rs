//! The name and the description that a user gives to a Personal Access Token.

use std::fmt;

const MAX_NAME: usize = 64;

const MAX_DESCRIPTION: usize = 256;

/// The name of a Personal Access Token: 1 to 64 characters. White space around the name is removed.
///
/// A name has no control characters and no common invisible characters, such as zero-width characters and Unicode
/// bidirectional controls. Two tokens may have the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenName(Box<str>);

/// The description of a Personal Access Token: up to 256 characters, with the same rules as a [`TokenName`]. It may be
/// empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenDescription(Box<str>);

/// Why a text is not a name or a description.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LabelError {
    /// The name is empty.
    #[error("the name is empty; write 1 to {MAX_NAME} characters")]
    Empty,
    /// The text is too long.
    #[error("the text has more than {max} characters; write a shorter text")]
    TooLong {
        /// The maximum number of characters.
        max: usize,
    },
    /// The text has this control character or invisible character.
    #[error("the text has the character U+{0:04X}, which is not visible; remove it")]
    Invisible(u32),
}

impl TokenName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`LabelError`] if the text is empty or too long, or has an invisible character.
    pub fn new(text: &str) -> Result<Self, LabelError> {
        let text = checked(text, MAX_NAME)?;
        if text.is_empty() { Err(LabelError::Empty) } else { Ok(Self(text.into())) }
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TokenDescription {
    /// Checks a description.
    ///
    /// # Errors
    /// [`LabelError`] if the text is too long, or has an invisible character.
    pub fn new(text: &str) -> Result<Self, LabelError> {
        Ok(Self(checked(text, MAX_DESCRIPTION)?.into()))
    }

    /// Returns the description.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

fn checked(text: &str, max: usize) -> Result<&str, LabelError> {
    // A line break is refused, even at the end of the text. So this check comes before `trim`, which removes line
    // breaks.
    if let Some(invisible) = text.chars().find(|c| is_invisible(*c)) {
        return Err(LabelError::Invisible(invisible.into()));
    }
    let text = text.trim();
    if text.chars().count() > max { Err(LabelError::TooLong { max }) } else { Ok(text) }
}

/// Returns whether a character is a control character or a common invisible character, such as a line separator, a
/// zero-width character, a bidirectional control or a tag.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_visible_and_have_1_to_64_characters() {
        let longest = "ä".repeat(64);
        for (text, want) in [
            ("jenkins", Ok("jenkins")),
            ("  Build Server #2 ", Ok("Build Server #2")),
            ("<script>", Ok("<script>")),
            ("日本語", Ok("日本語")),
            (&longest, Ok(&*longest)),
            ("", Err(LabelError::Empty)),
            ("  ", Err(LabelError::Empty)),
            (&"x".repeat(65), Err(LabelError::TooLong { max: 64 })),
            ("a\nb", Err(LabelError::Invisible(10))),
            ("a\n", Err(LabelError::Invisible(10))),
            ("a\u{0}", Err(LabelError::Invisible(0))),
            ("a\u{85}b", Err(LabelError::Invisible(0x85))),
            ("a\u{202e}b", Err(LabelError::Invisible(0x202e))),
            ("\u{2028}", Err(LabelError::Invisible(0x2028))),
            ("\u{200b}", Err(LabelError::Invisible(0x200b))),
        ] {
            let name = TokenName::new(text);
            assert_eq!(
                name.as_ref().map(TokenName::as_str),
                want.as_ref().map(|it| *it),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_description_may_be_empty_and_has_at_most_256_characters() {
        assert_eq!(TokenDescription::new(" ").unwrap(), TokenDescription::default());
        assert!(TokenDescription::new(&"x".repeat(256)).is_ok());
        let too_long = TokenDescription::new(&"x".repeat(257));
        assert_eq!(too_long, Err(LabelError::TooLong { max: 256 }));
        assert_eq!(TokenDescription::new("a\tb"), Err(LabelError::Invisible(9)));
    }
}
