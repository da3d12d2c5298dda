//! The names of the algorithms that make PassTickets (short-lived passwords of z/OS).

use std::{fmt, str::FromStr};

/// An algorithm for PassTickets.
///
/// Its text form is `legacy`, `enhanced-upper` or `enhanced-mixed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// DES with a key of 8 bytes. Tickets consist of the characters `A-Z 0-9`.
    Legacy,
    /// HMAC-SHA-512 with a key of 32 to 256 bytes. Tickets consist of the characters `0-9 A-Z`.
    EnhancedUpper,
    /// HMAC-SHA-512 with a key of 32 to 256 bytes. Tickets consist of the characters `0-9 A-Z a-z - _`.
    EnhancedMixed,
}

impl Algorithm {
    pub(super) const ALL: [Self; 3] = [Self::Legacy, Self::EnhancedUpper, Self::EnhancedMixed];

    /// Returns the text form, which [`FromStr`] parses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            Self::EnhancedUpper => "enhanced-upper",
            Self::EnhancedMixed => "enhanced-mixed",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Algorithm {
    type Err = AlgorithmError;

    fn from_str(text: &str) -> Result<Self, AlgorithmError> {
        Self::ALL.into_iter().find(|a| a.as_str() == text).ok_or(AlgorithmError(()))
    }
}

/// The error for a text that is not the name of an [`Algorithm`].
// The error does not contain the text, because a caller who mixes up two fields may pass the key here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown PassTicket algorithm; write legacy, enhanced-upper or enhanced-mixed")]
pub struct AlgorithmError(());
