//! How long a service may take.

use std::time::Duration;

/// Time limits of [`Forward`](super::Forward).
///
/// ```
/// use std::time::Duration;
///
/// use tower_passticket::proxy::ForwardTimeouts;
///
/// let timeouts = ForwardTimeouts::default().with_response(Duration::from_secs(5));
/// assert_eq!(timeouts.response(), Duration::from_secs(5));
/// assert_eq!(timeouts.idle(), Duration::from_secs(30));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardTimeouts {
    response: Duration,
    idle: Duration,
}

impl Default for ForwardTimeouts {
    /// Response: 60 s, the default of Zowe's `apiml.connection.timeout`. Idle: 30 s.
    fn default() -> Self {
        Self { response: Duration::from_secs(60), idle: Duration::from_secs(30) }
    }
}

impl ForwardTimeouts {
    /// Sets how long the head of the response may take. The time counts from the last piece of the
    /// request that was sent, so a long upload does not count. Connecting counts.
    ///
    /// A service that has answered and accepts no more bytes of the request is disconnected after a
    /// quarter to a half of this time (at least one to two seconds), but not while the client still reads the
    /// response.
    #[must_use]
    pub fn with_response(self, response: Duration) -> Self {
        Self { response, ..self }
    }

    /// Sets how long an idle connection to a service is kept. It is closed after this time to one and a half
    /// times this time.
    #[must_use]
    pub fn with_idle(self, idle: Duration) -> Self {
        Self { idle, ..self }
    }

    /// How long the head of the response may take.
    pub fn response(&self) -> Duration {
        self.response
    }

    /// How long an idle connection to a service is kept.
    pub fn idle(&self) -> Duration {
        self.idle
    }
}
