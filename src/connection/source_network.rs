//! The addresses that a limit counts as one client.

use std::net::{IpAddr, Ipv4Addr};

/// The addresses that a limit counts as one client: an IPv4 address, or an IPv6 network with a prefix of 64 bits. A
/// host can choose any address in its IPv6 network (RFC 4291 §2.5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum SourceNetwork {
    V4(Ipv4Addr),
    V6([u16; 4]),
}

impl SourceNetwork {
    pub(crate) fn of(address: IpAddr) -> Self {
        // A dual-stack socket shows IPv4 addresses as IPv4-mapped IPv6 addresses.
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self::V6([a, b, c, d])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_of_64_bits_is_one_client() {
        for (one, other, same) in [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("::ffff:192.0.2.1", "::ffff:192.0.2.2", false),
            ("2001:db8::1", "2001:db8::ffff:1:2:3", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
        ] {
            let network = |text: &str| SourceNetwork::of(text.parse().unwrap());
            assert_eq!(network(one) == network(other), same, "{one} {other}");
        }
    }
}
