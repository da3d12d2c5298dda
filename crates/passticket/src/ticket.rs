//! The type [`PassTicket`].

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroize;

pub(super) const LEN: usize = 8;

/// A PassTicket. It has eight characters of `A-Z a-z 0-9 - _` and is used in place of a password.
///
/// A PassTicket is a secret. A dropped PassTicket is wiped from memory. Two PassTickets are compared in constant time.
/// Only [`expose`](Self::expose) and [`expose_bytes`](Self::expose_bytes) return the characters.
///
/// ```
/// use passticket::PassTicket;
///
/// let ticket = PassTicket::parse("QHOAH1TV")?;
/// assert_eq!(ticket.expose(), "QHOAH1TV");
/// assert_eq!(format!("{ticket:?}"), "PassTicket(..)");
/// # Ok::<(), passticket::PassTicketError>(())
/// ```
#[derive(Clone)]
pub struct PassTicket([u8; LEN]);

impl PassTicket {
    /// Parses a text that has the form of a PassTicket. Upper and lower case are kept.
    ///
    /// This function checks only the form. [`KeyProfile::evaluate`](super::KeyProfile::evaluate) checks whether the
    /// ticket is valid.
    ///
    /// # Errors
    /// [`PassTicketError`] contains the rule that the text violates. It does not contain the text, because the text may
    /// be a password.
    pub fn parse(text: &str) -> Result<Self, PassTicketError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if let Some(index) = text.chars().position(|c| !allowed(c)) {
            return Err(PassTicketError::Character { position: index + 1 });
        }

        let bytes = text.as_bytes();
        bytes.try_into().map(Self).map_err(|_| PassTicketError::Length { found: bytes.len() })
    }

    /// Returns the eight characters, for the code that sends them. Do not log them.
    pub fn expose(&self) -> &str {
        str::from_utf8(&self.0).expect("`parse` checks for ASCII, and the alphabets are ASCII")
    }

    /// Creates a ticket without a check. All bytes must be ASCII, because [`expose`](Self::expose) panics otherwise.
    pub(super) const fn from_alphabet(ascii: [u8; LEN]) -> Self {
        Self(ascii)
    }

    /// Returns the eight characters as ASCII bytes, for the code that sends them. Do not log them.
    pub const fn expose_bytes(&self) -> &[u8; LEN] {
        &self.0
    }
}

impl PartialEq for PassTicket {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for PassTicket {}

impl Drop for PassTicket {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for PassTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PassTicket(..)")
    }
}

/// The reason why a text does not have the form of a PassTicket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PassTicketError {
    /// The text does not have eight characters.
    #[error("a PassTicket has 8 characters, not {found}")]
    #[non_exhaustive]
    Length {
        /// The number of characters found.
        found: usize,
    },
    /// A character is not one of `A-Z a-z 0-9 - _`.
    #[error("character {position} is not allowed; a PassTicket has only A-Z a-z 0-9 - _")]
    #[non_exhaustive]
    Character {
        /// The position of the first wrong character, counted from 1.
        position: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_checks_the_form() {
        struct Case {
            input: &'static str,
            expected: Result<(), PassTicketError>,
        }
        use PassTicketError::{Character, Length};
        let cases = [
            Case { input: "QHOAH1TV", expected: Ok(()) },
            Case { input: "aZ09-_zA", expected: Ok(()) },
            Case { input: "", expected: Err(Length { found: 0 }) },
            Case { input: "QHOAH1T", expected: Err(Length { found: 7 }) },
            Case { input: "QHOAH1TVX", expected: Err(Length { found: 9 }) },
            Case { input: "QHOAH1T ", expected: Err(Character { position: 8 }) },
            Case { input: "Q#OAH1TV", expected: Err(Character { position: 2 }) },
            Case { input: "QHOAH1TÄ", expected: Err(Character { position: 8 }) },
            Case { input: "ÄÄÄÄ", expected: Err(Character { position: 1 }) },
            Case { input: "QHOAH1T\0", expected: Err(Character { position: 8 }) },
        ];
        for Case { input, expected } in cases {
            let got = PassTicket::parse(input);
            assert_eq!(got.as_ref().map(|t| t.expose()), expected.as_ref().map(|()| input));
        }
    }

    #[test]
    fn equality_compares_every_character() {
        let ticket = PassTicket::parse("QHOAH1TV").unwrap();
        assert_eq!(ticket, ticket.clone());
        for other in ["RHOAH1TV", "QHOAH1TW", "qHOAH1TV"] {
            assert_ne!(ticket, PassTicket::parse(other).unwrap());
        }
    }

    #[test]
    fn errors_do_not_repeat_the_text() {
        let error = PassTicket::parse("hunter2!").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter"), "{error:?}");
    }
}
