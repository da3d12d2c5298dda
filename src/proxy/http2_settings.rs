//! Settings of HTTP/2 connections to services.

use std::{num::NonZeroU16, time::Duration};

/// Settings of HTTP/2 connections to services.
///
/// ```
/// use std::{num::NonZeroU16, time::Duration};
///
/// use tower_passticket::proxy::Http2Settings;
///
/// let settings = Http2Settings::default().with_max_streams(NonZeroU16::new(32).unwrap());
/// assert_eq!(settings.max_streams(), 32);
/// assert_eq!(settings.ping_interval(), Some(Duration::from_secs(320)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2Settings {
    max_streams: NonZeroU16,
    ping_interval: Option<Duration>,
}

impl Default for Http2Settings {
    /// Permits 100 requests at a time per connection. If nothing arrives for 320 s on a connection with open requests,
    /// the gateway sends a ping.
    fn default() -> Self {
        Self {
            max_streams: NonZeroU16::new(100).expect("should not be zero"),
            ping_interval: Some(Duration::from_secs(320)),
        }
    }
}

impl Http2Settings {
    /// Sets the maximum number of requests that share a connection at a time. If a service permits fewer requests
    /// (`SETTINGS_MAX_CONCURRENT_STREAMS`), the number of the service applies. For each request, up to 128 KiB of the
    /// response may wait in memory until the client takes them.
    #[must_use]
    pub fn with_max_streams(self, max_streams: NonZeroU16) -> Self {
        Self { max_streams, ..self }
    }

    /// Sets the ping interval. If nothing arrives for this time on a connection with open requests, the gateway sends a
    /// ping. If the service does not answer the ping within 20 s, the connection is closed. `None` disables pings.
    ///
    /// By default, gRPC servers close a connection on which pings arrive more often than every 300 s.
    #[must_use]
    pub fn with_ping_interval(self, ping_interval: Option<Duration>) -> Self {
        Self { ping_interval, ..self }
    }

    /// Returns the maximum number of requests that share a connection at a time.
    pub fn max_streams(&self) -> u16 {
        self.max_streams.get()
    }

    /// Returns the time after which the gateway sends a ping if nothing arrives. `None` means no pings.
    pub fn ping_interval(&self) -> Option<Duration> {
        self.ping_interval
    }
}
