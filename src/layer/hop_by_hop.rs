//! Headers that are for one connection only (RFC 9110 §7.6.1).

use http::{
    HeaderMap, HeaderName,
    header::{
        CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING,
        UPGRADE,
    },
};

use super::sweep::sweep;

const KEEP_ALIVE: &str = "keep-alive";

static HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static(KEEP_ALIVE),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Removes what is for this connection only: what every `Connection` line names, and the headers
/// that are so by definition.
///
/// Do this before setting headers of one's own. Afterwards it does nothing, because no
/// `Connection` line is left: a client's `Connection: authorization` cannot take away what was
/// written since.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    // Cheap to clone; what they name is removed from where they are.
    let lines: Vec<_> = headers.get_all(CONNECTION).iter().cloned().collect();
    let names = lines
        .iter()
        .flat_map(|line| line.as_bytes().split(|b| *b == b','))
        .map(<[u8]>::trim_ascii)
        // It goes anyway, and mostly nothing else is named.
        .filter(|name| !name.eq_ignore_ascii_case(KEEP_ALIVE.as_bytes()));
    for name in names {
        if let Ok(name) = str::from_utf8(name) {
            headers.remove(name);
        }
    }
    sweep(headers, is_hop_by_hop);
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    // By the first letter, most need not be compared.
    matches!(name.as_str().as_bytes().first(), Some(b'c' | b'k' | b'p' | b't' | b'u'))
        && HOP_BY_HOP.contains(name)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn each_of_them_is_one() {
        assert!(HOP_BY_HOP.iter().all(is_hop_by_hop));
        assert!(!is_hop_by_hop(&http::header::COOKIE));
    }

    #[test]
    fn every_connection_line_counts() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "keep-alive, X-One"),
            ("connection", "x-two ,, bad name, close"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("x-two", "2 again"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("proxy-authorization", "Basic x"),
            ("x-three", "3"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-three"]);
    }

    #[test]
    fn what_is_set_afterwards_stays() {
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, HeaderValue::from_static("authorization"));
        strip_hop_by_hop(&mut headers);
        headers.insert("authorization", HeaderValue::from_static("Basic ours"));
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers["authorization"], "Basic ours");
    }
}
