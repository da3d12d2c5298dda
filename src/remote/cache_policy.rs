//! The limits of a [`SingleFlightCache`](super::SingleFlightCache).

use std::{num::NonZeroUsize, time::Duration};

/// Limits of a [`SingleFlightCache`](super::SingleFlightCache): the number of entries, and how long each kind of result
/// is cached. A kind of result whose time is 0 is not cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachePolicy {
    entries: NonZeroUsize,
    found: Duration,
    not_found: Duration,
    error: Duration,
}

impl Default for CachePolicy {
    /// Returns a policy with up to 1,000 entries. A found value is cached for 60 s, the result "not found" for 10 s,
    /// and an error for 1 s.
    fn default() -> Self {
        Self {
            entries: NonZeroUsize::new(1000).unwrap_or(NonZeroUsize::MIN),
            found: Duration::from_secs(60),
            not_found: Duration::from_secs(10),
            error: Duration::from_secs(1),
        }
    }
}

impl CachePolicy {
    /// Sets the maximum number of entries.
    #[must_use]
    pub fn with_entries(self, entries: NonZeroUsize) -> Self {
        Self { entries, ..self }
    }

    /// Sets how long a found value, such as a user id or a permission, is cached.
    #[must_use]
    pub fn with_found(self, found: Duration) -> Self {
        Self { found, ..self }
    }

    /// Sets how long the result "not found" is cached.
    #[must_use]
    pub fn with_not_found(self, not_found: Duration) -> Self {
        Self { not_found, ..self }
    }

    /// Sets how long an error is cached. Use a short time: while an error is cached, the service is not called, even if
    /// it works again. With the time zero, only the callers that waited for a failed look-up get its error. A later
    /// caller calls the service again.
    #[must_use]
    pub fn with_error(self, error: Duration) -> Self {
        Self { error, ..self }
    }

    /// Returns the maximum number of entries.
    pub fn entries(&self) -> NonZeroUsize {
        self.entries
    }

    /// Returns how long a found value is cached.
    pub fn found(&self) -> Duration {
        self.found
    }

    /// Returns how long the result "not found" is cached.
    pub fn not_found(&self) -> Duration {
        self.not_found
    }

    /// Returns how long an error is cached.
    pub fn error(&self) -> Duration {
        self.error
    }
}
