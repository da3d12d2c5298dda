//! Information about the connection on which a request arrived, and about its client.
//!
//! If a proxy is in front of the gateway, the peer of the connection is the proxy. Proxies in [`TrustedProxies`] may
//! announce the address of their client in a header. For a request from such a proxy, [`ConnectionInfo::client`] is the
//! announced address.

mod address;
mod forwarded;
mod source_network;
mod trusted_proxies;

use std::net::SocketAddr;

use http::HeaderMap;

pub use address::ClientAddress;
pub use trusted_proxies::TrustedProxies;

pub(crate) use forwarded::AddressHeader;
pub(crate) use source_network::SourceNetwork;

use crate::log_limit::log_limited;
use forwarded::{Announced, announced};

/// The connection on which a request arrived. It is an extension of the request.
///
/// The listener of this crate inserts the extension. With another server, use
/// [`ConnectionInfoLayer`](crate::layer::ConnectionInfoLayer). The gateway uses it for the addresses in audit records,
/// for the login throttle, and for the headers `X-Forwarded-*` and `Forwarded`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// The address of the client, or of a proxy between the client and this gateway. If the connection begins with a
    /// header of the PROXY protocol that contains the address of the client, `peer` is this address.
    pub peer: SocketAddr,
    /// The local address that the peer has connected to. If the connection begins with a header of the PROXY protocol
    /// that contains the address to which the client has connected, `local` is this address.
    pub local: SocketAddr,
    /// Whether the client uses TLS. The TLS connection can end in a program in front of this gateway.
    pub protocol: Protocol,
    sender: Sender,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sender {
    /// The peer counts as the client: it is no trusted proxy, or it is a trusted proxy that has sent a malformed
    /// header.
    Client,
    /// The peer is a trusted proxy that has announced no client in this header.
    Proxy(AddressHeader),
    /// The peer is a trusted proxy that has announced this client in this header.
    ProxyFor(ClientAddress, AddressHeader),
}

impl ConnectionInfo {
    /// Describes a connection from the client `peer` to `local`.
    pub const fn new(peer: SocketAddr, local: SocketAddr, protocol: Protocol) -> Self {
        Self { peer, local, protocol, sender: Sender::Client }
    }

    /// Returns the address of the client. If a trusted proxy has announced an address, this is the announced address.
    /// Otherwise, it is the address of the peer.
    pub fn client(&self) -> ClientAddress {
        self.announced_client().unwrap_or_else(|| self.peer.ip().into())
    }

    /// Returns whether the peer is a trusted proxy that has sent no malformed header. If `true`, the gateway appends
    /// its own values to the headers `X-Forwarded-*`, and also to `Forwarded` if `X-Forwarded-For` is absent. If
    /// `false`, the gateway replaces all these headers.
    pub fn is_from_trusted_proxy(&self) -> bool {
        self.sender != Sender::Client
    }

    /// Reads the address of the client from `X-Forwarded-For`, or from `Forwarded` (RFC 7239) if `X-Forwarded-For` is
    /// absent. Pass the `headers` before any layer has changed them.
    ///
    /// If the peer is not one of `proxies`, the client is the peer. If the peer is one of `proxies`, the client is the
    /// right-most address that does not belong to `proxies`. The elements to the left of this address are not read,
    /// because the client can have sent them.
    ///
    /// If there is no such address, or if the header is malformed, the client is the peer. The header is malformed if
    /// an element that must be read is malformed or longer than 512 bytes, or if more than 32 elements must be read.
    /// With a malformed header, [`is_from_trusted_proxy`](Self::is_from_trusted_proxy) is `false`, so the header has no
    /// effect anywhere.
    #[must_use]
    pub fn with_trusted_proxies(self, proxies: &TrustedProxies, headers: &HeaderMap) -> Self {
        if proxies.contains(self.peer.ip()) {
            self.with_headers_of_trusted_proxy(proxies, headers)
        } else {
            Self { sender: Sender::Client, ..self }
        }
    }

    /// Does the same as [`with_trusted_proxies`](Self::with_trusted_proxies). The caller must have checked that the
    /// peer is one of `proxies`.
    pub(crate) fn with_headers_of_trusted_proxy(
        self,
        proxies: &TrustedProxies,
        headers: &HeaderMap,
    ) -> Self {
        let peer = self.peer.ip();
        let header = AddressHeader::of(headers);
        let sender = match announced(header, headers, proxies) {
            Ok(Announced::Client(client)) => Sender::ProxyFor(client, header),
            Ok(Announced::Nobody) => Sender::Proxy(header),
            Err(error) => {
                log_limited!(warn, ("forwarded", peer), { %peer, %error }, "a trusted proxy sent a malformed header; the address of the proxy is used as the address of the client");
                Sender::Client
            }
        };
        Self { sender, ..self }
    }

    pub(crate) fn announced_client(&self) -> Option<ClientAddress> {
        match self.sender {
            Sender::Client | Sender::Proxy(_) => None,
            Sender::ProxyFor(client, _) => Some(client),
        }
    }

    /// Returns the header in which the gateway has looked for the address of the client. Returns `None` if the peer is
    /// not a trusted proxy, or if the header is malformed.
    #[cfg(feature = "proxy")]
    pub(crate) fn address_header(&self) -> Option<AddressHeader> {
        match self.sender {
            Sender::Client => None,
            Sender::Proxy(header) | Sender::ProxyFor(_, header) => Some(header),
        }
    }
}

/// The protocol of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP without TLS.
    Http,
    /// HTTP over TLS.
    Https,
}

impl Protocol {
    /// Returns the URL scheme: `http` or `https`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}
