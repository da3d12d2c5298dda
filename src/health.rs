//! The health of a component.

use std::borrow::Cow;

/// Whether a component works. If it does not work, the value contains the reason.
///
/// ```
/// use tower_passticket::health::Health;
///
/// assert_eq!(Health::Up.reason(), None);
/// let health = Health::down("the disk is full");
/// assert!(!health.is_up());
/// assert_eq!(health.reason(), Some("the disk is full"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// The component works.
    Up,
    /// The component does not work.
    #[non_exhaustive]
    Down {
        /// The reason, and what the operator can do. The text contains no secret.
        reason: Cow<'static, str>,
    },
}

impl Health {
    /// Creates `Down`. `reason` must contain no secret.
    pub fn down(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Down { reason: reason.into() }
    }

    /// Returns whether the component works.
    pub fn is_up(&self) -> bool {
        *self == Self::Up
    }

    /// Returns why the component does not work. `None` if it works.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Up => None,
            Self::Down { reason } => Some(reason),
        }
    }

    /// Returns `UP` or `DOWN`.
    pub fn as_str(&self) -> &'static str {
        if self.is_up() { "UP" } else { "DOWN" }
    }
}
