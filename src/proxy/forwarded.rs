//! Sets the headers `X-Forwarded-*` and `Forwarded` (RFC 7239), which tell the service how the client reached the
//! gateway.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header::HOST};

use crate::{
    connection::{AddressHeader, ConnectionInfo, Protocol},
    headers::{same_for_cgi, sweep},
};

static FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static X_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
static PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
static FORWARDED: HeaderName = HeaderName::from_static("forwarded");

/// All headers that this module sets, apart from `Host`.
static OURS: [&HeaderName; 6] = [&FOR, &PROTO, &X_HOST, &PORT, &PREFIX, &FORWARDED];

/// The gateway keeps a value of a trusted proxy if the value has at most this many bytes. If a list of client addresses
/// is longer, the gateway keeps only the address of the client. If any other value is longer, the gateway removes it.
const MAX_KEPT: usize = 4096;

/// Caches the values that usually stay the same for all requests of a connection. Without the cache, formatting the
/// address would take 4 % of the instructions of a request.
#[derive(Debug, Default)]
pub(super) struct PeerValues(Option<Peer>);

#[derive(Debug)]
struct Peer {
    ip: IpAddr,
    protocol: Protocol,
    host: Option<HeaderValue>,
    /// `X-Forwarded-For`.
    address: HeaderValue,
    /// `Forwarded`.
    forwarded: HeaderValue,
}

impl PeerValues {
    /// Returns the values for this connection and this host. Returns `None` if a value is not a valid header value,
    /// which does not occur.
    fn get(
        &mut self,
        ConnectionInfo { peer, protocol, .. }: &ConnectionInfo,
        host: Option<&HeaderValue>,
    ) -> Option<&Peer> {
        let ip = peer.ip();
        let is_same = self.0.as_ref().is_some_and(|last| {
            last.ip == ip && last.protocol == *protocol && last.host.as_ref() == host
        });
        if !is_same {
            self.0 = Some(Peer {
                ip,
                protocol: *protocol,
                host: host.cloned(),
                address: HeaderValue::from_str(&address(ip)).ok()?,
                forwarded: HeaderValue::from_bytes(&forwarded(ip, *protocol, host)).ok()?,
            });
        }
        self.0.as_ref()
    }
}

#[derive(Debug)]
pub(super) struct ServiceHeaders<'a> {
    /// The value of `Host`.
    pub(super) host: &'a HeaderValue,
    /// The value of `X-Forwarded-Prefix`. It is the path prefix of the route, which the service does not
    /// see in the path.
    pub(super) prefix: Option<&'a HeaderValue>,
}

/// Sets `Host` to the host of the service. Also sets `X-Forwarded-*` and `Forwarded`. Without `connection`, only
/// `Host`, `X-Forwarded-Host` and `X-Forwarded-Prefix` are set, and the other headers are removed.
///
/// The gateway appends its values to the values of a trusted proxy. The gateway replaces the values of any other peer,
/// because any client can send such values (CVE-2025-41235).
///
/// If a request of a trusted proxy has `X-Forwarded-For`, the gateway replaces the header `Forwarded` of the request.
/// The reason: a proxy that writes only `X-Forwarded-For` may forward a header `Forwarded` that its client sent.
pub(super) fn set_forwarded(
    headers: &mut HeaderMap,
    uri: &Uri,
    service: ServiceHeaders<'_>,
    connection: Option<&ConnectionInfo>,
    values: &mut PeerValues,
) {
    let kept = connection.and_then(|connection| Some((connection, connection.address_header()?)));
    let mut kept = kept.map(|(connection, header)| Kept::of(headers, connection, header));
    sweep(headers, is_forwarded);
    // HTTP/2 requests have the host in the URI. Most HTTP/1.1 requests have it only in the header `Host`.
    let host = headers.insert(HOST, service.host.clone());
    // An absolute URI may contain a user and a password. The gateway does not forward these.
    let authority = uri.authority().and_then(|a| a.as_str().rsplit('@').next());
    let authority = authority.and_then(|host| HeaderValue::from_str(host).ok());
    let host = authority.or(host);
    let mut set = |name: &'static HeaderName, value: HeaderValue| {
        let value = match &mut kept {
            None => value,
            Some(kept) => kept.append(name, value),
        };
        headers.insert(name, value);
    };
    if let Some(connection) = connection {
        if let Some(peer) = values.get(connection, host.as_ref()) {
            set(&FOR, peer.address.clone());
            set(&FORWARDED, peer.forwarded.clone());
        }
        set(&PROTO, HeaderValue::from_static(connection.protocol.as_str()));
        let default = match connection.protocol {
            Protocol::Http => 80,
            Protocol::Https => 443,
        };
        // This is the port that the client used. It differs from the port of the listener if a device in front of the
        // gateway maps ports.
        let port = host.as_ref().and_then(port_of);
        set(&PORT, HeaderValue::from(port.unwrap_or(default)));
    }
    if let Some(host) = host {
        set(&X_HOST, host);
    }
    if let Some(prefix) = service.prefix {
        set(&PREFIX, prefix.clone());
    }
    if let Some(Kept(rest)) = kept {
        headers.extend(rest.into_iter().map(|(name, value)| (name.clone(), value)));
    }
}

/// The values of a trusted proxy. Several lines of one header are joined into one line.
struct Kept(Vec<(&'static HeaderName, HeaderValue)>);

impl Kept {
    #[cold]
    fn of(headers: &HeaderMap, connection: &ConnectionInfo, header: AddressHeader) -> Self {
        let is_kept =
            |name: &&HeaderName| header == AddressHeader::Forwarded || **name != FORWARDED;
        let value = |name: &'static HeaderName| {
            let value = match joined(headers.get_all(name)) {
                Joined::Value(value) => value,
                Joined::Nothing => return None,
                // If a list of addresses is too long, the gateway keeps only the client's address, which the proxy has
                // appended. If the gateway kept nothing, a client could hide its address with a long list.
                Joined::TooLong => {
                    let client = connection.announced_client()?.ip();
                    let value = match header {
                        AddressHeader::XForwardedFor if *name == FOR => address(client),
                        AddressHeader::Forwarded if *name == FORWARDED => node(client),
                        _ => return None,
                    };
                    HeaderValue::from_str(&value).ok()?
                }
            };
            Some((name, value))
        };
        Self(OURS.into_iter().filter(is_kept).filter_map(value).collect())
    }

    /// Removes the kept value of the header `name`, and returns it with `value` appended.
    #[cold]
    fn append(&mut self, name: &HeaderName, value: HeaderValue) -> HeaderValue {
        let Some(at) = self.0.iter().position(|(kept, _)| *kept == name) else { return value };
        let (_, kept) = self.0.swap_remove(at);
        let list = [kept.as_bytes(), value.as_bytes()].join(&b", "[..]);
        HeaderValue::from_bytes(&list).unwrap_or(value)
    }
}

enum Joined {
    Value(HeaderValue),
    /// There is no line, or all lines are empty.
    Nothing,
    TooLong,
}

fn joined<'a>(values: impl IntoIterator<Item = &'a HeaderValue>) -> Joined {
    let mut list = Vec::new();
    for value in values {
        if value.is_empty() {
            continue;
        }
        if !list.is_empty() {
            list.extend(b", ");
        }
        list.extend(value.as_bytes());
        if list.len() > MAX_KEPT {
            return Joined::TooLong;
        }
    }
    match HeaderValue::from_bytes(&list) {
        Ok(value) if !list.is_empty() => Joined::Value(value),
        _ => Joined::Nothing,
    }
}

/// Returns whether `name` is one of `OURS`, or a name that a CGI program cannot distinguish from one of `OURS` (`_` for
/// `-`).
fn is_forwarded(name: &HeaderName) -> bool {
    let name = name.as_str();
    // This check of the first letter excludes most headers.
    name.starts_with(['x', 'f']) && OURS.into_iter().any(|ours| same_for_cgi(name, ours.as_str()))
}

fn port_of(host: &HeaderValue) -> Option<u16> {
    let host = host.to_str().ok()?;
    let (_, port) = host.rsplit_once(':')?;
    port.parse().ok()
}

/// Formats the address. A dual-stack socket reports the address of an IPv4 client as an IPv4-mapped IPv6 address. The
/// result is then the IPv4 address.
fn address(ip: IpAddr) -> String {
    ip.to_canonical().to_string()
}

/// Formats the parameter `for` of an element of `Forwarded` (RFC 7239 §6).
fn node(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(ip) => format!("for={ip}"),
        IpAddr::V6(ip) => format!("for=\"[{ip}]\""),
    }
}

/// Formats the element of this gateway in `Forwarded` (RFC 7239 §4).
fn forwarded(ip: IpAddr, protocol: Protocol, host: Option<&HeaderValue>) -> Vec<u8> {
    let mut element = node(ip).into_bytes();
    if let Some(host) = host {
        // A host is quoted, because the colon before its port is not permitted in a token.
        element.extend(b";host=\"");
        for byte in host.as_bytes() {
            if matches!(byte, b'"' | b'\\') {
                element.push(b'\\');
            }
            element.push(*byte);
        }
        element.push(b'"');
    }
    element.extend(b";proto=");
    element.extend(protocol.as_str().as_bytes());
    element
}

#[cfg(test)]
mod tests {
    use http::header::CONNECTION;

    use super::*;
    use crate::{connection::TrustedProxies, headers::strip_hop_by_hop};

    #[test]
    fn forwarded_headers_of_the_client_are_replaced() {
        let connection_of = |peer: &str, protocol| {
            ConnectionInfo::new(peer.parse().unwrap(), "127.0.0.1:10010".parse().unwrap(), protocol)
        };
        let v4 = connection_of("192.0.2.7:555", Protocol::Https);
        let mapped = connection_of("[::ffff:192.0.2.7]:555", Protocol::Http);
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
            for forged in OURS {
                headers.append(forged, HeaderValue::from_static("forged"));
                headers.append(forged, HeaderValue::from_static("twice"));
            }
            headers.append("x_forwarded-for", HeaderValue::from_static("forged"));
            headers.append("x.forwarded.host", HeaderValue::from_static("forged"));
            headers.append("x!forwarded!for", HeaderValue::from_static("forged"));
            if let Some(host) = host {
                headers.insert(HOST, HeaderValue::from_static(host));
            }
            let mut peer = PeerValues::default();
            let (uri, service) = (uri.parse().unwrap(), HeaderValue::from_static("service:1"));
            let earlier = connection_of("192.0.2.8:1", Protocol::Https);
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
            assert_eq!(headers.get_all(&FORWARDED).iter().count(), connection.iter().count());
            assert!(headers.values().all(|value| value != "forged" && value != "twice"));
        }
    }

    /// Returns the connection of a trusted proxy, 10.0.0.1, which announces its client in `headers`.
    fn from_proxy(headers: &HeaderMap) -> ConnectionInfo {
        let (peer, local) = ("10.0.0.1:555".parse().unwrap(), "127.0.0.1:10010".parse().unwrap());
        let connection = ConnectionInfo::new(peer, local, Protocol::Https);
        let proxies = TrustedProxies::new(move |ip| ip == peer.ip());
        connection.with_trusted_proxies(&proxies, headers)
    }

    #[test]
    fn the_gateway_appends_to_the_values_of_a_trusted_proxy() {
        let own = [
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-host", "gw:7554"),
            ("x-forwarded-port", "7554"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-prefix", "/svc"),
            ("forwarded", "for=10.0.0.1;host=\"gw:7554\";proto=https"),
        ];
        let long = "1".repeat(MAX_KEPT + 1);
        let full = "1".repeat(MAX_KEPT - ", 192.0.2.7".len());
        let kept = format!("{full}, 192.0.2.7, ");
        // Each case: a header that the proxy sends, its lines, and the values that the gateway keeps in front of its
        // own value.
        let cases: &[(&str, &[&str], &str)] = &[
            ("x-forwarded-for", &["192.0.2.7"], "192.0.2.7, "),
            (
                "x-forwarded-for",
                &["198.51.100.1,192.0.2.7", "10.0.0.1"],
                "198.51.100.1,192.0.2.7, 10.0.0.1, ",
            ),
            ("x-forwarded-host", &["public.example"], "public.example, "),
            ("x-forwarded-port", &["443"], "443, "),
            ("x-forwarded-proto", &["", "http"], "http, "),
            ("x-forwarded-prefix", &["/outer"], "/outer, "),
            ("forwarded", &["for=192.0.2.7;proto=http"], "for=192.0.2.7;proto=http, "),
            // A proxy does not send a header with `_` in its name. So this header comes from the client, and the
            // gateway does not keep its value.
            ("x_forwarded_for", &["192.0.2.7"], ""),
            ("x-forwarded-host", &[&long], ""),
            // The gateway keeps the address that the proxy has appended, even if the client has sent a long
            // value.
            ("x-forwarded-for", &[&long, "192.0.2.7"], "192.0.2.7, "),
            ("x-forwarded-for", &[&long, "2001:db8::1, 10.0.0.1"], "2001:db8::1, "),
            ("x-forwarded-for", &[&full, "192.0.2.7"], &kept),
            ("forwarded", &[&long, "for=192.0.2.7"], "for=192.0.2.7, "),
            ("forwarded", &[&long, "for=\"[2001:db8::1]\""], "for=\"[2001:db8::1]\", "),
            // If an address is malformed, the gateway keeps no value.
            ("x-forwarded-for", &["unknown"], ""),
            ("forwarded", &["192.0.2.7"], ""),
        ];
        for (name, lines, want) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static("gw:7554"));
            for line in *lines {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                headers.append(name, HeaderValue::from_str(line).unwrap());
            }
            let connection = from_proxy(&headers);
            let service = HeaderValue::from_static("service:1");
            let prefix = HeaderValue::from_static("/svc");
            let service = ServiceHeaders { host: &service, prefix: Some(&prefix) };
            let (uri, mut values) = ("/x".parse().unwrap(), PeerValues::default());
            set_forwarded(&mut headers, &uri, service, Some(&connection), &mut values);
            for (ours, value) in own {
                let want = if ours == *name { *want } else { "" };
                let got: Vec<_> = headers.get_all(ours).iter().collect();
                assert_eq!(got, [&format!("{want}{value}")], "{name} {lines:?}");
            }
            assert_eq!(headers.len(), own.len() + 1);
        }
    }

    #[test]
    fn forwarded_is_replaced_if_x_forwarded_for_names_the_client() {
        for (x_forwarded_for, want) in [
            (Some("192.0.2.7"), ""),
            (Some("10.0.0.1"), ""),
            (None, "for=198.51.100.1;proto=http, "),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(&FORWARDED, HeaderValue::from_static("for=198.51.100.1;proto=http"));
            if let Some(value) = x_forwarded_for {
                headers.insert(&FOR, HeaderValue::from_static(value));
            }
            let connection = from_proxy(&headers);
            assert!(connection.is_from_trusted_proxy());
            let service = HeaderValue::from_static("service:1");
            let service = ServiceHeaders { host: &service, prefix: None };
            let (uri, mut values) = ("/x".parse().unwrap(), PeerValues::default());
            set_forwarded(&mut headers, &uri, service, Some(&connection), &mut values);
            let got: Vec<_> = headers.get_all(&FORWARDED).iter().collect();
            assert_eq!(got, [&format!("{want}for=10.0.0.1;proto=https")], "{x_forwarded_for:?}");
        }
    }

    #[test]
    fn a_connection_header_cannot_remove_forwarded_headers() {
        for name in OURS {
            let mut headers = HeaderMap::new();
            headers.insert(CONNECTION, HeaderValue::from_str(name.as_str()).unwrap());
            headers.insert(name, HeaderValue::from_static("x"));
            strip_hop_by_hop(&mut headers);
            assert_eq!(headers.keys().collect::<Vec<_>>(), [name]);
        }
    }

    #[test]
    fn values_of_a_trusted_proxy_are_kept_if_the_gateway_has_no_value() {
        let mut headers = HeaderMap::new();
        headers.insert(&X_HOST, HeaderValue::from_static("public.example"));
        headers.insert(&PREFIX, HeaderValue::from_static("/outer"));
        let (connection, service) = (from_proxy(&headers), HeaderValue::from_static("service:1"));
        let service = ServiceHeaders { host: &service, prefix: None };
        let (uri, mut values) = ("/x".parse().unwrap(), PeerValues::default());
        set_forwarded(&mut headers, &uri, service, Some(&connection), &mut values);
        assert_eq!(
            (&headers[&X_HOST], &headers[&PREFIX]),
            (&"public.example".parse().unwrap(), &"/outer".parse().unwrap())
        );
        assert_eq!(headers[&FORWARDED], "for=10.0.0.1;proto=https");
    }

    #[test]
    fn the_element_of_forwarded_is_quoted() {
        for (ip, host, want) in [
            ("192.0.2.7", Some("gw.example:1"), r#"for=192.0.2.7;host="gw.example:1";proto=https"#),
            ("::ffff:192.0.2.7", None, "for=192.0.2.7;proto=https"),
            ("2001:db8::1", None, r#"for="[2001:db8::1]";proto=https"#),
            ("192.0.2.7", Some(r#"a",for=1\"#), r#"for=192.0.2.7;host="a\",for=1\\";proto=https"#),
        ] {
            let host = host.map(HeaderValue::from_static);
            let element = forwarded(ip.parse().unwrap(), Protocol::Https, host.as_ref());
            assert_eq!(String::from_utf8(element).unwrap(), want);
        }
    }
}
