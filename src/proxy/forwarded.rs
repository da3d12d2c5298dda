//! Sets the headers `X-Forwarded-*`. They tell the service about the connection of the client.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header::HOST};

use crate::{
    connection::{ConnectionInfo, Protocol},
    headers::{same_for_cgi, sweep},
};

static FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static X_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
static PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
static FORWARDED: HeaderName = HeaderName::from_static("forwarded");

/// Caches the value of `X-Forwarded-For` for the last peer. All requests of a connection have the same
/// peer, and formatting an address takes 4 % of the instructions of a request.
#[derive(Debug, Default)]
pub(super) struct PeerValue(Option<(IpAddr, HeaderValue)>);

impl PeerValue {
    fn get(&mut self, ip: IpAddr) -> Option<HeaderValue> {
        match &self.0 {
            Some((last, value)) if *last == ip => Some(value.clone()),
            _ => {
                let value = HeaderValue::from_str(&address(ip)).ok()?;
                self.0 = Some((ip, value.clone()));
                Some(value)
            }
        }
    }
}

/// Header values that depend on the service and its route.
#[derive(Debug)]
pub(super) struct ServiceHeaders<'a> {
    /// The value of `Host`.
    pub(super) host: &'a HeaderValue,
    /// The value of `X-Forwarded-Prefix`. It is the path prefix of the route, which the service does not
    /// see in the path.
    pub(super) prefix: Option<&'a HeaderValue>,
}

/// Sets `Host` to the host of the service, and sets `X-Forwarded-*`.
///
/// Values of `X-Forwarded-*` and `Forwarded` that the client sent are removed. The gateway cannot
/// distinguish a trusted proxy from a client that pretends to be such a proxy (CVE-2025-41235).
pub(super) fn set_forwarded(
    headers: &mut HeaderMap,
    uri: &Uri,
    service: ServiceHeaders<'_>,
    connection: Option<&ConnectionInfo>,
    peer: &mut PeerValue,
) {
    sweep(headers, is_forwarded);
    // HTTP/2 has the host in the URI, HTTP/1.1 has it in the header `Host`.
    let host = headers.insert(HOST, service.host.clone());
    // An absolute URI may contain a user and a password. These are not passed on.
    let authority = uri.authority().and_then(|a| a.as_str().rsplit('@').next());
    let authority = authority.and_then(|host| HeaderValue::from_str(host).ok());
    let host = authority.or(host);
    let port = host.as_ref().and_then(port_of);
    if let Some(host) = host {
        headers.insert(&X_HOST, host);
    }
    if let Some(prefix) = service.prefix {
        headers.insert(&PREFIX, prefix.clone());
    }
    let Some(connection) = connection else { return };
    if let Some(peer) = peer.get(connection.peer.ip()) {
        headers.insert(&FOR, peer);
    }
    headers.insert(&PROTO, HeaderValue::from_static(connection.protocol.as_str()));
    let default = match connection.protocol {
        Protocol::Http => 80,
        Protocol::Https => 443,
    };
    // The port that the client used. It differs from the port of the listener if a port mapping is in
    // front of the gateway.
    headers.insert(&PORT, HeaderValue::from(port.unwrap_or(default)));
}

/// Whether `name` is one of the headers above, in any spelling that CGI does not distinguish.
fn is_forwarded(name: &HeaderName) -> bool {
    let name = name.as_str();
    // Most headers are excluded by their first letter.
    name.starts_with(['x', 'f'])
        && [&FOR, &PROTO, &X_HOST, &PORT, &PREFIX, &FORWARDED]
            .into_iter()
            .any(|ours| same_for_cgi(name, ours.as_str()))
}

fn port_of(host: &HeaderValue) -> Option<u16> {
    let host = host.to_str().ok()?;
    let (_, port) = host.rsplit_once(':')?;
    port.parse().ok()
}

/// The address as text. A dual-stack socket shows the address of an IPv4 client as an IPv4-mapped IPv6
/// address. The service gets the IPv4 address.
fn address(ip: IpAddr) -> String {
    ip.to_canonical().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwarded_headers_of_the_client_are_replaced() {
        let connection = |peer: &str, protocol| {
            ConnectionInfo::new(peer.parse().unwrap(), "127.0.0.1:10010".parse().unwrap(), protocol)
        };
        let v4 = connection("192.0.2.7:555", Protocol::Https);
        let mapped = connection("[::ffff:192.0.2.7]:555", Protocol::Http);
        // Each case: the connection, the URI, `Host`, and the expected values of `X-Forwarded-For`,
        // `X-Forwarded-Proto`, `X-Forwarded-Host` and `X-Forwarded-Port`.
        let cases = [
            (
                Some(v4),
                "/x",
                Some("gw.example:10010"),
                ["192.0.2.7", "https", "gw.example:10010", "10010"],
            ),
            (Some(v4), "/x", Some("gw.example"), ["192.0.2.7", "https", "gw.example", "443"]),
            (Some(v4), "/x", Some("gw.example:"), ["192.0.2.7", "https", "gw.example:", "443"]),
            (Some(v4), "https://h2.example/x", None, ["192.0.2.7", "https", "h2.example", "443"]),
            (
                Some(v4),
                "http://u:p@abs.example:8/x",
                Some("abs.example:8"),
                ["192.0.2.7", "https", "abs.example:8", "8"],
            ),
            (Some(v4), "/x", Some("[2001:db8::1]"), ["192.0.2.7", "https", "[2001:db8::1]", "443"]),
            (Some(mapped), "/x", Some("gw:80"), ["192.0.2.7", "http", "gw:80", "80"]),
            (None, "/x", Some("gw:80"), ["", "", "gw:80", ""]),
        ];
        for (connection, uri, host, want) in cases {
            let mut headers = HeaderMap::new();
            for forged in [&FOR, &PROTO, &X_HOST, &PORT, &PREFIX, &FORWARDED] {
                headers.append(forged, HeaderValue::from_static("forged"));
                headers.append(forged, HeaderValue::from_static("twice"));
            }
            headers.append("x_forwarded-for", HeaderValue::from_static("forged"));
            headers.append("x.forwarded.host", HeaderValue::from_static("forged"));
            headers.append("x!forwarded!for", HeaderValue::from_static("forged"));
            if let Some(host) = host {
                headers.insert(HOST, HeaderValue::from_static(host));
            }
            let mut peer = PeerValue::default();
            let (uri, service) = (uri.parse().unwrap(), HeaderValue::from_static("service:1"));
            let earlier = ConnectionInfo { peer: "192.0.2.8:1".parse().unwrap(), ..v4 };
            let prefix = HeaderValue::from_static("/svc/api/v1");
            let mut set = |headers: &mut _, connection: Option<&_>| {
                let service = ServiceHeaders { host: &service, prefix: Some(&prefix) };
                set_forwarded(headers, &uri, service, connection, &mut peer);
            };
            // The cached value of an earlier peer must not be used.
            for connection in [None, Some(&earlier)] {
                set(&mut headers.clone(), connection);
            }
            set(&mut headers, connection.as_ref());
            let got = [&FOR, &PROTO, &X_HOST, &PORT].map(|name| {
                assert!(headers.get_all(name).iter().count() <= 1);
                headers.get(name).map_or("", |v| v.to_str().unwrap())
            });
            assert_eq!(got, want, "{uri} {host:?}");
            assert_eq!(headers[&PREFIX], "/svc/api/v1");
            assert!(headers.get_all(HOST).iter().eq([service]));
            assert!(!headers.contains_key(&FORWARDED));
            assert!(headers.values().all(|value| value != "forged" && value != "twice"));
        }
    }
}
