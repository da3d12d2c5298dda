//! What a listener knows about the connection that a request came on.

use std::net::SocketAddr;

/// The connection of a request, as its extension. The listener of this crate inserts it; under another
/// server [`ConnectionInfoLayer`](crate::layer::ConnectionInfoLayer) does. Audit records name the peer,
/// and the proxy tells the service (`X-Forwarded-For`, `X-Forwarded-Proto`, `X-Forwarded-Port`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// The address that the client, or the proxy before us, connected from.
    pub peer: SocketAddr,
    /// The address that it connected to.
    pub local: SocketAddr,
    /// Whether the connection is encrypted.
    pub protocol: Protocol,
}

impl ConnectionInfo {
    /// A connection from `peer` to `local`.
    pub const fn new(peer: SocketAddr, local: SocketAddr, protocol: Protocol) -> Self {
        Self { peer, local, protocol }
    }
}

/// Whether a connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Without TLS.
    Http,
    /// With TLS.
    Https,
}

impl Protocol {
    /// The scheme of a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}
