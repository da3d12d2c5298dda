//! Information about the connection on which a request arrived, and about its client.
//!
//! If a proxy is in front of the gateway, the peer of the connection is the proxy. [`TrustedProxies`] contains the
//! proxies that may announce the addresses of their clients. For a request from such a proxy,
//! [`ConnectionInfo::client`] is the announced address of the client.

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

/// The connection on which a request arrived, as an extension of the request.
///
/// The listener of this crate inserts the extension. With another server, use
/// [`ConnectionInfoLayer`](crate::layer::ConnectionInfoLayer). Audit records contain the address of the peer, and the
/// address of the client if the two addresses differ. The login throttle uses the address of the client. The gateway
/// sets the headers `X-Forwarded-*` and `Forwarded` from this value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// The address of the client, or of a proxy between the client and this gateway. If the connection began with a
    /// header of the PROXY protocol, and this header contains the address of the client, `peer` is the address in the
    /// header.
    pub peer: SocketAddr,
    /// The local address that the peer connected to. If a header of the PROXY protocol contains the address that the
    /// client connected to, `local` is the address in the header.
    pub local: SocketAddr,
    /// Whether the client uses TLS. TLS may end in a program in front of this gateway.
    pub protocol: Protocol,
    sender: Sender,
}

/// The sender of the requests on the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sender {
    /// The peer counts as the client: it is not a trusted proxy, or its header is malformed.
    Client,
    /// The peer is a trusted proxy that has announced no client. This header was searched for the address.
    Proxy(AddressHeader),
    /// The peer is a trusted proxy that has announced this client in this header.
    ProxyFor(ClientAddress, AddressHeader),
}

impl ConnectionInfo {
    /// Describes a connection from the client `peer` to `local`.
    pub const fn new(peer: SocketAddr, local: SocketAddr, protocol: Protocol) -> Self {
        Self { peer, local, protocol, sender: Sender::Client }
    }

    /// Returns the address of the client: the address that a trusted proxy has announced, or the address of the peer if
    /// no proxy has announced an address.
    pub fn client(&self) -> ClientAddress {
        self.announced_client().unwrap_or_else(|| self.peer.ip().into())
    }

    /// Returns whether the peer is a trusted proxy whose `X-Forwarded-For` or `Forwarded` is not malformed. If `true`,
    /// the gateway appends its own values to the headers `X-Forwarded-*`, and also to `Forwarded` if `X-Forwarded-For`
    /// is absent. If `false`, the gateway replaces all these headers.
    pub fn is_from_trusted_proxy(&self) -> bool {
        self.sender != Sender::Client
    }

    /// Reads the address of the client from `X-Forwarded-For`, or from `Forwarded` (RFC 7239) if `X-Forwarded-For` is
    /// absent. `headers` must be the headers as they arrived, before a layer has changed them. The headers are only
    /// read if the peer is one of `proxies`. The client is then the right-most address that does not belong to
    /// `proxies`. The elements to the left of this address may come from the client, so they are not read.
    ///
    /// If there is no such address, or if the headers are malformed, the client is the peer. The headers are malformed
    /// if an element that must be read is malformed or longer than 512 bytes, or if more than 32 elements must be read.
    /// With malformed headers, [`is_from_trusted_proxy`](Self::is_from_trusted_proxy) is `false`, so that the headers
    /// have no effect anywhere.
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

    /// Returns the address of the client if a trusted proxy has announced it in a header.
    pub(crate) fn announced_client(&self) -> Option<ClientAddress> {
        match self.sender {
            Sender::Client | Sender::Proxy(_) => None,
            Sender::ProxyFor(client, _) => Some(client),
        }
    }

    /// Returns the header that was searched for the address of the client. Returns `None` if the peer is not a trusted
    /// proxy, or if this header is malformed.
    #[cfg(feature = "proxy")]
    pub(crate) fn address_header(&self) -> Option<AddressHeader> {
        match self.sender {
            Sender::Client => None,
            Sender::Proxy(header) | Sender::ProxyFor(_, header) => Some(header),
        }
    }
}

/// Whether a client uses TLS.
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
