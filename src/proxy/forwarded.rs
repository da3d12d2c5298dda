//! `X-Forwarded-*`: what the service cannot see itself.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header::HOST};

use crate::{
    connection::{ConnectionInfo, Protocol},
    headers::sweep,
};

static FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static X_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
static PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
static FORWARDED: HeaderName = HeaderName::from_static("forwarded");

/// What was the same for the last request, and mostly is for the next: one connection has one peer,
/// and mostly asks one service.
#[derive(Debug, Default)]
pub(super) struct Known {
    peer: Option<(IpAddr, HeaderValue)>,
    prefix: Option<HeaderValue>,
    port: Option<(u16, HeaderValue)>,
}

impl Known {
    fn peer(&mut self, ip: IpAddr) -> Option<HeaderValue> {
        match &self.peer {
            Some((known, value)) if *known == ip => Some(value.clone()),
            _ => {
                let value = HeaderValue::from_str(&address(ip)).ok()?;
                self.peer = Some((ip, value.clone()));
                Some(value)
            }
        }
    }

    fn prefix(&mut self, prefix: &str) -> Option<HeaderValue> {
        match &self.prefix {
            Some(value) if value.as_bytes() == prefix.as_bytes() => Some(value.clone()),
            _ => {
                let value = HeaderValue::from_str(prefix).ok()?;
                self.prefix = Some(value.clone());
                Some(value)
            }
        }
    }

    fn port(&mut self, port: u16) -> HeaderValue {
        match &self.port {
            Some((known, value)) if *known == port => value.clone(),
            _ => self.port.insert((port, HeaderValue::from(port))).1.clone(),
        }
    }

    /// Writes `X-Forwarded-*` anew, and `Host`, which is `service` from here on.
    ///
    /// Whatever the request has of these is removed: nobody can tell a proxy before us from a
    /// client that pretends to be one (CVE-2025-41235 was that).
    pub(super) fn set(
        &mut self,
        headers: &mut HeaderMap,
        uri: &Uri,
        service: &HeaderValue,
        prefix: &str,
        connection: Option<&ConnectionInfo>,
    ) {
        sweep(headers, is_forwarded);
        // HTTP/2 has the host in the URI, HTTP/1.1 in the header.
        let host = headers.insert(HOST, service.clone());
        // Without the user and password that an absolute form may carry.
        let authority = uri.authority().and_then(|a| a.as_str().rsplit('@').next());
        let authority = authority.and_then(|host| HeaderValue::from_str(host).ok());
        let host = authority.or(host);
        let port = host.as_ref().and_then(port_of);
        if let Some(host) = host {
            headers.insert(&X_HOST, host);
        }
        if let Some(prefix) = self.prefix(prefix) {
            headers.insert(&PREFIX, prefix);
        }
        let Some(connection) = connection else { return };
        if let Some(peer) = self.peer(connection.peer.ip()) {
            headers.insert(&FOR, peer);
        }
        headers.insert(&PROTO, HeaderValue::from_static(connection.protocol.as_str()));
        let default = match connection.protocol {
            Protocol::Http => 80,
            Protocol::Https => 443,
        };
        // The port that the client used, which a port mapping before us may have changed.
        headers.insert(&PORT, self.port(port.unwrap_or(default)));
    }
}

/// Whether a header is one of these, or one that CGI and what descends from it takes for one: there
/// `_` and `-` are the same.
fn is_forwarded(name: &HeaderName) -> bool {
    let text = name.as_str().as_bytes();
    let is = |ours: &HeaderName| {
        let ours = ours.as_str().as_bytes();
        ours.len() == text.len()
            && text
                .iter()
                .zip(ours)
                .all(|(theirs, ours)| theirs == ours || (*theirs == b'_' && *ours == b'-'))
    };
    // By the first letter, most need not be compared.
    matches!(text.first(), Some(b'x' | b'f'))
        && [&FOR, &PROTO, &X_HOST, &PORT, &PREFIX, &FORWARDED].into_iter().any(is)
}

fn port_of(host: &HeaderValue) -> Option<u16> {
    let host = host.to_str().ok()?;
    let (_, port) = host.rsplit_once(':')?;
    port.parse().ok()
}

/// An IPv4 client of a socket that takes both is an IPv4 client.
fn address(ip: IpAddr) -> String {
    ip.to_canonical().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_service_cannot_see_is_written_anew() {
        let connection = |peer: &str, protocol| {
            ConnectionInfo::new(peer.parse().unwrap(), "127.0.0.1:10010".parse().unwrap(), protocol)
        };
        let v4 = connection("192.0.2.7:555", Protocol::Https);
        let mapped = connection("[::ffff:192.0.2.7]:555", Protocol::Http);
        let cases = [
            (
                Some(v4),
                "/x",
                Some("gw.example:10010"),
                ["192.0.2.7", "https", "gw.example:10010", "10010"],
            ),
            (Some(v4), "/x", Some("gw.example"), ["192.0.2.7", "https", "gw.example", "443"]),
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
            if let Some(host) = host {
                headers.insert(HOST, HeaderValue::from_static(host));
            }
            let mut known = Known::default();
            let (uri, service) = (uri.parse().unwrap(), HeaderValue::from_static("service:1"));
            for _ in 0..2 {
                known.set(&mut headers.clone(), &uri, &service, "/other", None);
            }
            known.set(&mut headers, &uri, &service, "/svc/api/v1", connection.as_ref());
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
