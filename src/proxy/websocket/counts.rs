//! Counts tunnels, which are the WebSockets that the gateway forwards.

use crate::metrics::{
    Collect, Counter, CounterFamily, Description, Exposition, Gauge, Label, LabelName,
};

const OPEN: Description = Description::gauge("passticket_tunnels_open", "Open WebSockets.");
const ENDED: Description =
    Description::counter("passticket_tunnels_ended_total", "WebSockets that have ended.");
const REFUSED: Description = Description::counter(
    "passticket_tunnels_refused_total",
    "WebSockets that were refused, because their user or client address had too many of them.",
);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Ended {
    /// The client has closed the WebSocket or the connection.
    Client,
    /// The service has closed the WebSocket or the connection.
    Service,
    /// The token or the certificate of the client has expired.
    Expired,
    /// The token was revoked, or the certificate of the client is no longer accepted.
    Revoked,
    /// The revocation store could not say whether the token is revoked.
    Unchecked,
    /// The gateway stops, or no longer learns which tokens are revoked.
    Shutdown,
    /// Neither side has sent anything for too long.
    Idle,
    /// The client or the service has not read the bytes of the other side for too long.
    Stalled,
    /// The gateway needed the connection for another client, the drain timeout has passed, or a connection did not
    /// change to WebSocket in time.
    Dropped,
}

impl Label for Ended {
    const NAME: LabelName = LabelName::new("reason");
    const ALL: &'static [Self] = &[
        Self::Client,
        Self::Service,
        Self::Expired,
        Self::Revoked,
        Self::Unchecked,
        Self::Shutdown,
        Self::Idle,
        Self::Stalled,
        Self::Dropped,
    ];

    fn index(self) -> usize {
        self as usize
    }

    fn value(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Service => "service",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Unchecked => "unchecked",
            Self::Shutdown => "shutdown",
            Self::Idle => "idle",
            Self::Stalled => "stalled",
            Self::Dropped => "dropped",
        }
    }
}

/// Counts the WebSockets of [`Tunnels`](super::Tunnels).
#[derive(Debug, Default)]
pub struct TunnelCounts {
    pub(super) open: Gauge,
    pub(super) ended: CounterFamily<(Ended,)>,
    pub(super) refused: Counter,
}

impl TunnelCounts {
    /// Returns the number of open WebSockets.
    pub fn open(&self) -> i64 {
        self.open.get()
    }

    /// Returns the number of handshakes that were refused because their user had too many WebSockets. If a handshake
    /// has no user, the WebSockets of its client address count.
    pub fn refused(&self) -> u64 {
        self.refused.get()
    }
}

impl Collect for TunnelCounts {
    fn collect(&self, exposition: &mut Exposition) {
        exposition.value(&OPEN, self.open.get());
        exposition.family(&ENDED, &self.ended);
        exposition.value(&REFUSED, self.refused.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_index() {
        for (at, reason) in Ended::ALL.iter().enumerate() {
            assert_eq!(reason.index(), at);
        }
    }
}
