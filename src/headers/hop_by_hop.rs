//! Headers that are for one connection only (RFC 9110 §7.6.1).

use http::{HeaderMap, HeaderName, HeaderValue, header::CONNECTION};

use super::sweep::sweep;

const KEEP_ALIVE: &str = "keep-alive";

/// Removes hop-by-hop headers: those that a `Connection` line names, and those that always are.
///
/// Call it before you set headers of your own. A second call does nothing, because no `Connection` line
/// is left. So a client's `Connection: authorization` cannot remove what you set.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let mut found = HopByHop::default();
    for (name, value) in &*headers {
        found.see(name, value);
    }
    found.strip(headers);
}

/// The hop-by-hop headers of a request, found in a pass over all headers that may look for others, too.
#[derive(Default)]
pub(crate) struct HopByHop {
    connection: bool,
    /// A `Connection` line names a header that is not hop-by-hop by itself.
    names_others: bool,
    others: bool,
}

impl HopByHop {
    pub(crate) fn see(&mut self, name: &HeaderName, value: &HeaderValue) {
        match kind(name) {
            Kind::Connection => {
                self.connection = true;
                self.names_others |= named(value).next().is_some();
            }
            Kind::HopByHop => self.others = true,
            Kind::EndToEnd => {}
        }
    }

    pub(crate) fn strip(self, headers: &mut HeaderMap) {
        if self.names_others {
            // Clones, which are cheap: the names are read while headers are removed.
            let lines: Vec<_> = headers.get_all(CONNECTION).iter().cloned().collect();
            for name in lines.iter().flat_map(named) {
                if let Ok(name) = str::from_utf8(name) {
                    headers.remove(name);
                }
            }
        }
        if self.connection {
            headers.remove(CONNECTION);
        }
        if self.others {
            sweep(headers, |name| kind(name) == Kind::HopByHop);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Connection,
    HopByHop,
    EndToEnd,
}

fn kind(name: &HeaderName) -> Kind {
    match name.as_str() {
        "connection" => Kind::Connection,
        KEEP_ALIVE
        | "proxy-connection"
        | "proxy-authenticate"
        | "proxy-authorization"
        | "te"
        | "trailer"
        | "transfer-encoding"
        | "upgrade" => Kind::HopByHop,
        _ => Kind::EndToEnd,
    }
}

/// The names in a `Connection` line, except `keep-alive`, which most lines name and which is removed anyway.
fn named(line: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    line.as_bytes()
        .split(|b| *b == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|name| !name.eq_ignore_ascii_case(KEEP_ALIVE.as_bytes()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn names_in_every_connection_line_are_removed() {
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
            ("trailer", "x"),
            ("transfer-encoding", "chunked"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authenticate", "Basic"),
            ("proxy-authorization", "Basic x"),
            ("x-three", "3"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-three"]);
    }

    #[test]
    fn headers_set_after_strip_stay() {
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, HeaderValue::from_static("authorization"));
        strip_hop_by_hop(&mut headers);
        headers.insert("authorization", HeaderValue::from_static("Basic ours"));
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers["authorization"], "Basic ours");
    }
}
