//! How much a [`SingleFlightCache`](super::SingleFlightCache) caches, and how long.

use std::{num::NonZeroUsize, time::Duration};

/// Limits of a [`SingleFlightCache`](super::SingleFlightCache). A time of zero turns caching off for that
/// kind of result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachePolicy {
    entries: NonZeroUsize,
    found: Duration,
    not_found: Duration,
    error: Duration,
}

impl Default for CachePolicy {
    /// 1,000 entries. Found: 60 s, not found: 10 s, error: 1 s.
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
    /// Sets the maximum of entries.
    #[must_use]
    pub fn with_entries(self, entries: NonZeroUsize) -> Self {
        Self { entries, ..self }
    }

    /// Sets how long a value that was found is cached: a user, a permission.
    #[must_use]
    pub fn with_found(self, found: Duration) -> Self {
        Self { found, ..self }
    }

    /// Sets how long it is cached that there is no value.
    #[must_use]
    pub fn with_not_found(self, not_found: Duration) -> Self {
        Self { not_found, ..self }
    }

    /// Sets how long an error is cached. Keep it short: a service that works again is not called while its
    /// error is cached. With zero, callers of a service that is down wait for it one after the other.
    #[must_use]
    pub fn with_error(self, error: Duration) -> Self {
        Self { error, ..self }
    }

    /// The maximum of entries.
    pub fn entries(&self) -> NonZeroUsize {
        self.entries
    }

    /// How long a value that was found is cached.
    pub fn found(&self) -> Duration {
        self.found
    }

    /// How long it is cached that there is no value.
    pub fn not_found(&self) -> Duration {
        self.not_found
    }

    /// How long an error is cached.
    pub fn error(&self) -> Duration {
        self.error
    }
}
