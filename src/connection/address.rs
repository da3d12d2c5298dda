//! The address of a client.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

/// The IP address of a client: the address of the peer, or the address that a trusted proxy has announced.
///
/// A listener for IPv6 that also accepts IPv4 reports an IPv4 client with an IPv4-mapped IPv6 address. This type
/// converts it to the IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientAddress(IpAddr);

impl ClientAddress {
    /// Returns the address. It is never an IPv4-mapped IPv6 address.
    pub fn ip(self) -> IpAddr {
        self.0
    }

    /// Parses an address in the forms that proxies use: with or without a port, and IPv6 addresses also in brackets.
    /// Returns `None` for other text, and for the addresses `0.0.0.0` and `::`, which no client has.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let ip = match text.strip_prefix('[') {
            Some(rest) => {
                let (ip, port) = rest.split_once(']')?;
                let has_valid_end = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
                has_valid_end.then_some(ip)?.parse::<Ipv6Addr>().ok()?.into()
            }
            None => text
                .parse::<IpAddr>()
                .ok()
                .or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))?,
        };
        let address = Self::from(ip);
        (!address.0.is_unspecified()).then_some(address)
    }
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

impl From<IpAddr> for ClientAddress {
    fn from(ip: IpAddr) -> Self {
        Self(ip.to_canonical())
    }
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_parsed_strictly() {
        for (text, want) in [
            ("192.0.2.7", "192.0.2.7"),
            ("192.0.2.7:80", "192.0.2.7"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("[::ffff:192.0.2.7]:1", "192.0.2.7"),
        ] {
            let address = ClientAddress::parse(text).map(|address| address.to_string());
            assert_eq!(address.as_deref(), Some(want), "{text}");
        }
        for text in [
            "",
            "x",
            "unknown",
            "0.0.0.0",
            "::",
            "[::]:1",
            "::ffff:0.0.0.0",
            "192.0.2",
            "192.0.2.256",
            "192.0.2.07",
            "192.0.2.7:",
            "192.0.2.7:65536",
            "192.0.2.7:+1",
            " 192.0.2.7",
            "[192.0.2.7]",
            "[2001:db8::1",
            "2001:db8::1]",
            "[2001:db8::1]443",
            "[2001:db8::1]:",
            "[2001:db8::1]:+1",
            "[2001:db8::1]:65536",
            "fe80::1%eth0",
            "[fe80::1%1]:80",
        ] {
            assert_eq!(ClientAddress::parse(text), None, "{text}");
        }
    }
}
