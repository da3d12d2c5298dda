//! The trusted proxies in front of a server.

use std::{net::SocketAddr, time::Duration};

use tokio::{net::TcpStream, time::timeout};

use super::{
    client_source::ClientSource,
    connection_counts::ProxyRefusal,
    proxy_protocol::{ProxyHeader, ReadError},
};
use crate::{connection::TrustedProxies, log_limit::log_limited};

#[derive(Clone, Debug, Default)]
pub(super) struct InboundProxies {
    /// The proxies that may announce their clients in headers such as `X-Forwarded-For`.
    pub(super) http: Option<TrustedProxies>,
    /// If present, each connection must come from one of these proxies and begin with a header of the PROXY protocol.
    pub(super) proxy_protocol: Option<TrustedProxies>,
}

/// The address of the peer of a connection, and the address to which this peer has connected.
#[derive(Clone, Debug)]
pub(super) struct Ends {
    /// The client, or the proxy that speaks HTTP with the gateway.
    pub(super) peer: SocketAddr,
    pub(super) local: SocketAddr,
    /// The trusted proxies, if the peer is one of them. The gateway then uses the headers in which the peer announces
    /// its client.
    pub(super) proxies: Option<TrustedProxies>,
}

impl Ends {
    pub(super) fn source(&self) -> ClientSource {
        match self.proxies {
            Some(_) => ClientSource::Exempt,
            None => ClientSource::of(self.peer.ip()),
        }
    }
}

impl InboundProxies {
    /// Determines the peer of a connection, and whether it is a trusted proxy. Returns `None` if the connection must
    /// begin with a header of the PROXY protocol. The caller must then call [`read_ends`](Self::read_ends).
    ///
    /// # Errors
    /// The connection must be closed. This function has logged the reason.
    pub(super) fn ends(
        &self,
        peer: SocketAddr,
        local: SocketAddr,
    ) -> Result<Option<Ends>, ProxyRefusal> {
        let Some(proxies) = &self.proxy_protocol else {
            return Ok(Some(self.with_headers(peer, local)));
        };
        if !proxies.contains(peer.ip()) {
            log_limited!(warn, "PROXY protocol: untrusted peer", { %peer }, "connection closed: its peer is not a trusted proxy, and the PROXY protocol is required");
            return Err(ProxyRefusal::Untrusted);
        }
        Ok(None)
    }

    fn with_headers(&self, peer: SocketAddr, local: SocketAddr) -> Ends {
        let proxies = self.http.as_ref().filter(|proxies| proxies.contains(peer.ip())).cloned();
        Ends { peer, local, proxies }
    }

    /// Reads the header of the PROXY protocol, for at most `time_left`.
    ///
    /// # Errors
    /// The connection must be closed. This function has logged the reason.
    pub(super) async fn read_ends(
        &self,
        stream: &mut TcpStream,
        peer: SocketAddr,
        local: SocketAddr,
        time_left: Duration,
    ) -> Result<Ends, ProxyRefusal> {
        match timeout(time_left, Box::pin(ProxyHeader::read(stream))).await {
            Ok(Ok(ProxyHeader::Forwarded { source, destination })) => {
                Ok(self.with_headers(source, destination))
            }
            // Either the proxy itself is the client, or the proxy has forwarded a connection whose client it does not
            // know. The HTTP headers on this connection may come from that client, so they are not trusted.
            Ok(Ok(ProxyHeader::Local)) => Ok(Ends { peer, local, proxies: None }),
            Ok(Err(ReadError::Malformed(error))) => {
                log_limited!(warn, ("PROXY protocol", peer.ip(), error), { %peer, %error }, "connection of a trusted proxy closed: the header of the PROXY protocol is missing or malformed");
                Err(ProxyRefusal::Malformed)
            }
            // The log level is low, because health checks of load balancers often close the connection without a
            // header.
            Ok(Err(error @ (ReadError::Closed | ReadError::Io(_)))) => {
                tracing::debug!(%peer, %error, "connection of a trusted proxy ended early");
                Err(ProxyRefusal::Closed)
            }
            Err(_) => {
                log_limited!(warn, ("PROXY protocol timeout", peer.ip()), { %peer }, "connection of a trusted proxy closed: the header of the PROXY protocol took too long");
                Err(ProxyRefusal::TimedOut)
            }
        }
    }
}
