//! Fuzz targets for the addresses that proxies in front of the gateway announce: `X-Forwarded-For`, `Forwarded`, and
//! the PROXY protocol.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderValue};
use tower_passticket::{
    connection::{ConnectionInfo, Protocol, TrustedProxies},
    fuzzing::proxy_header,
};

use crate::support::header_lines;

/// Returns whether the address is a trusted proxy, that is, in 10.0.0.0/8.
fn is_trusted(ip: IpAddr) -> bool {
    matches!(ip.to_canonical(), IpAddr::V4(v4) if v4.octets()[0] == 10)
}

fn received(peer: [u8; 4], headers: &HeaderMap) -> ConnectionInfo {
    let local = ([192, 0, 2, 1], 443).into();
    ConnectionInfo::new((peer, 50_000).into(), local, Protocol::Https)
        .with_trusted_proxies(&TrustedProxies::new(is_trusted), headers)
}

pub(crate) fn client_address(data: &[u8]) {
    let headers = header_lines(data);
    let direct = received([203, 0, 113, 5], &headers);
    assert!(!direct.is_from_trusted_proxy());
    assert_eq!(direct.client().ip(), direct.peer.ip());

    let by_proxy = received([10, 0, 0, 1], &headers);
    let client = by_proxy.client().ip();
    if client == by_proxy.peer.ip() {
        // The gateway found no client in the headers.
    } else {
        assert!(by_proxy.is_from_trusted_proxy());
        assert!(!is_trusted(client) && !client.is_unspecified());
        assert_eq!(client, client.to_canonical());
        // The header contains the address, possibly in another spelling.
        let name =
            if headers.contains_key("x-forwarded-for") { "x-forwarded-for" } else { "forwarded" };
        let names_client = headers.get_all(name).iter().any(|value| {
            let text = String::from_utf8_lossy(value.as_bytes());
            let is_end = |c: char| !(c.is_ascii_hexdigit() || matches!(c, ':' | '.'));
            text.split(is_end).any(|text| {
                let ip = text.parse::<IpAddr>().ok();
                let ip = ip.or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()));
                ip.is_some_and(|ip| ip.to_canonical() == client)
            })
        });
        assert!(names_client, "{client} {headers:?}");
    }

    // A trusted proxy appends the address of its client to the last line of the header, or adds a new line. No
    // header that the client sent may change or hide this address.
    let own: IpAddr = [203, 0, 113, 9].into();
    for (name, element) in [("x-forwarded-for", "203.0.113.9"), ("forwarded", "for=203.0.113.9")] {
        let mut lines: Vec<_> = headers.get_all(name).iter().cloned().collect();
        let mut others = headers.clone();
        others.remove("x-forwarded-for");
        others.remove("forwarded");
        let with = |lines: &[HeaderValue]| {
            let mut headers = others.clone();
            for line in lines {
                headers.append(name, line.clone());
            }
            received([10, 0, 0, 1], &headers)
        };
        lines.push(HeaderValue::from_static(element));
        assert_eq!(with(&lines).client().ip(), own, "{lines:?}");
        lines.pop();
        if let Some(last) = lines.pop() {
            let line = [last.as_bytes(), b",", element.as_bytes()].concat();
            lines.push(HeaderValue::from_bytes(&line).expect("a comma keeps a value valid"));
            assert_eq!(with(&lines).client().ip(), own, "{lines:?}");
        }
    }
}

/// The input consists of the first bytes of a connection.
pub(crate) fn proxy_protocol(data: &[u8]) {
    // The bytes may arrive in any pieces. `Ok(None)` means that the header is incomplete. So the result for all bytes
    // must be the result for the shortest prefix that is complete or malformed.
    let decided = (0..=data.len()).find_map(|end| match proxy_header(&data[..end]) {
        Ok(None) => None,
        other => Some((end, other)),
    });
    let Some((end, result)) = decided else { return assert!(data.len() < 1040) };
    let whole = proxy_header(data);
    let Ok(Some((length, addresses))) = result else {
        assert!(whole.is_err(), "{whole:?}");
        return;
    };
    assert_eq!(length, end);
    assert_eq!(whole, result);
    let header = &data[..length];
    let Some([source, destination]) = addresses else { return };
    assert!(!source.ip().to_canonical().is_unspecified());
    assert_eq!(source.is_ipv4(), destination.is_ipv4());
    if header.starts_with(b"PROXY ") {
        assert!(length <= 107);
        let text = str::from_utf8(header).expect("an accepted line is ASCII");
        let fields: Vec<_> = text.trim_end().split(' ').collect();
        let ends = [source, destination].map(|address| address.ip());
        assert_eq!(
            fields[2..4].iter().map(|ip| ip.parse().expect("an address")).collect::<Vec<IpAddr>>(),
            ends
        );
        assert_eq!(fields[4..], [source.port().to_string(), destination.port().to_string()]);
    } else {
        assert!(length <= 1040);
        let octets = |ip: IpAddr| match ip {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        let [from, to] = [source, destination].map(|address| octets(address.ip()));
        let ports = [source.port().to_be_bytes(), destination.port().to_be_bytes()].concat();
        assert!(header[16..].starts_with(&[from, to, ports].concat()));
    }
}
