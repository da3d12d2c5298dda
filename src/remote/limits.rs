//! The limits of a [`Client`](super::Client).

use std::{num::NonZeroUsize, time::Duration};

/// Limits of a [`Client`](super::Client).
///
/// ```
/// use std::time::Duration;
///
/// use tower_passticket::remote::ClientLimits;
///
/// let limits = ClientLimits::default().with_deadline(Duration::from_secs(2));
/// assert_eq!(limits.deadline(), Duration::from_secs(2));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    deadline: Duration,
    max_concurrent: NonZeroUsize,
    max_waiting: usize,
    idle: Duration,
    max_body: usize,
}

impl Default for ClientLimits {
    /// Returns limits with a deadline of 5 s. Up to 8 calls run at the same time, and up to 1,000 more calls wait. Idle
    /// connections are kept for 30 s. The body of a response may have 64 KiB. This is enough, because a response of ZSS
    /// (Zowe System Services) has only a few hundred bytes.
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(5),
            max_concurrent: NonZeroUsize::new(8).unwrap_or(NonZeroUsize::MIN),
            max_waiting: 1000,
            idle: Duration::from_secs(30),
            max_body: 64 * 1024,
        }
    }
}

impl ClientLimits {
    /// Sets how long a call may take. This time includes the wait until other calls have finished.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Sets how many calls may run at the same time.
    #[must_use]
    pub fn with_max_concurrent(self, max_concurrent: NonZeroUsize) -> Self {
        Self { max_concurrent, ..self }
    }

    /// Sets how many calls may wait while the maximum number of calls is running. Further calls fail immediately.
    #[must_use]
    pub fn with_max_waiting(self, max_waiting: usize) -> Self {
        Self { max_waiting, ..self }
    }

    /// Sets how long an idle connection is kept.
    #[must_use]
    pub fn with_idle(self, idle: Duration) -> Self {
        Self { idle, ..self }
    }

    /// Sets the maximum size of the body of a response, in bytes.
    #[must_use]
    pub fn with_max_body(self, max_body: usize) -> Self {
        Self { max_body, ..self }
    }

    /// Returns how long a call may take.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Returns how many calls may run at the same time.
    pub fn max_concurrent(&self) -> NonZeroUsize {
        self.max_concurrent
    }

    /// Returns how many calls may wait while the maximum number of calls is running.
    pub fn max_waiting(&self) -> usize {
        self.max_waiting
    }

    /// Returns how long an idle connection is kept.
    pub fn idle(&self) -> Duration {
        self.idle
    }

    /// Returns the maximum size of the body of a response, in bytes.
    pub fn max_body(&self) -> usize {
        self.max_body
    }
}
