//! The proxies that may announce the addresses of their clients.

use std::{fmt, net::IpAddr, sync::Arc};

/// The proxies whose headers `X-Forwarded-For` and `Forwarded` the gateway believes.
///
/// Each of these proxies must set `X-Forwarded-For`, append to it, or remove the lines that its clients have sent. If a
/// proxy forwards this header unchanged, a client can choose the address that the gateway sees.
///
/// ```
/// use std::net::IpAddr;
/// use http::{HeaderMap, HeaderValue};
/// use tower_passticket::connection::{ConnectionInfo, Protocol, TrustedProxies};
///
/// let load_balancer: IpAddr = "192.0.2.1".parse()?;
/// let proxies = TrustedProxies::new(move |ip| ip == load_balancer);
///
/// let mut headers = HeaderMap::new();
/// headers.insert("x-forwarded-for", HeaderValue::from_static("198.51.100.9, 203.0.113.7"));
/// let local = "192.0.2.10:7554".parse()?;
/// let connection = ConnectionInfo::new("192.0.2.1:50000".parse()?, local, Protocol::Https);
/// let connection = connection.with_trusted_proxies(&proxies, &headers);
/// // The client may have sent the first address. The load balancer has appended the second one.
/// assert_eq!(connection.client().to_string(), "203.0.113.7");
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Clone)]
pub struct TrustedProxies(Arc<dyn Fn(IpAddr) -> bool + Send + Sync>);

impl TrustedProxies {
    /// Trusts each proxy for whose address `is_trusted` returns `true`. The gateway calls `is_trusted` for the address
    /// of the peer, and for addresses that a trusted proxy announces. For the peer, the server of this crate calls it
    /// once for each connection. An IPv4-mapped IPv6 address is converted to IPv4 before the call.
    pub fn new(is_trusted: impl Fn(IpAddr) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(is_trusted))
    }

    /// Returns whether the address belongs to a trusted proxy. An IPv4-mapped IPv6 address counts as the IPv4 address
    /// that it contains.
    pub fn contains(&self, ip: IpAddr) -> bool {
        (self.0)(ip.to_canonical())
    }
}

impl fmt::Debug for TrustedProxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrustedProxies").finish_non_exhaustive()
    }
}
