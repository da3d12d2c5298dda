//! What a listener knows about the connection that a request came on.

use std::net::SocketAddr;

/// The connection of a request, as its extension: the listener of this crate puts it there, and the
/// proxy tells the service (`X-Forwarded-For`, `X-Forwarded-Proto`, `X-Forwarded-Port`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// Who connected.
    pub peer: SocketAddr,
    /// Where they connected to.
    pub local: SocketAddr,
    /// How.
    pub protocol: Protocol,
}

/// Whether a connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// It is not.
    Http,
    /// It is, with TLS.
    Https,
}

impl Protocol {
    /// As URLs write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}
