//! Information about the connection on which a request arrived.

use std::net::SocketAddr;

/// The connection on which a request arrived, as an extension of the request.
///
/// The listener of this crate inserts the extension. With another server, use
/// [`ConnectionInfoLayer`](crate::layer::ConnectionInfoLayer). Audit records contain the peer address. The
/// proxy uses this type to set `X-Forwarded-For`, `X-Forwarded-Proto` and `X-Forwarded-Port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// The address of the client, or of a proxy between the client and this gateway.
    pub peer: SocketAddr,
    /// The local address that the peer connected to.
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
    /// HTTP without TLS.
    Http,
    /// HTTP over TLS.
    Https,
}

impl Protocol {
    /// The URL scheme: `http` or `https`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}
