//! Hop-by-hop headers: headers that apply to one connection only (RFC 9110 §7.6.1).

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONNECTION, TE},
};

use super::{list::list_items, sweep::sweep};

const KEEP_ALIVE: &str = "keep-alive";
const TRAILERS: &str = "trailers";
const UPGRADE: &str = "upgrade";
const WEBSOCKET: &str = "websocket";

/// The headers in which a proxy describes the connection of its client. They stay even if `Connection` names them.
/// Otherwise, a client could send `Connection: x-forwarded-for`, to remove its address, which a proxy has added
/// (CVE-2022-31813).
const FORWARDING: [&str; 6] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
];

/// Removes hop-by-hop headers. These are the headers that a `Connection` line names, and the headers that are always
/// hop-by-hop, such as `Transfer-Encoding`. `Forwarded` and `X-Forwarded-For`, `-Host`, `-Port`, `-Prefix` and `-Proto`
/// stay, even if `Connection` names them (CVE-2022-31813).
///
/// Call this function before you set headers of your own. Otherwise, a client that sends `Connection: authorization`
/// removes the `Authorization` that you set. A second call does not remove your header, because the first call has
/// removed all `Connection` lines.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    HopByHop::of(headers).strip(headers);
}

/// Does the same as [`strip_hop_by_hop`], but keeps `TE: trailers`. Returns whether the request has `TE: trailers`.
pub(crate) fn strip_request_hop_by_hop(headers: &mut HeaderMap) -> bool {
    HopByHop::of(headers).strip_request(headers)
}

/// Records which hop-by-hop headers a message has. The caller passes each header to [`see`](Self::see). So a caller
/// that also looks for other headers needs only one loop.
#[derive(Default)]
pub(crate) struct HopByHop {
    has_connection: bool,
    /// A `Connection` line contains an item other than `keep-alive`.
    connection_names_any: bool,
    /// The message has a header that is always hop-by-hop, such as `Upgrade`. `Connection` does not count here.
    has_fixed: bool,
    /// `TE` contains `trailers`.
    accepts_trailers: bool,
    /// `Connection` contains `upgrade`.
    connection_has_upgrade: bool,
    /// `Upgrade` contains `websocket`.
    upgrade_has_websocket: bool,
}

impl HopByHop {
    fn of(headers: &HeaderMap) -> Self {
        let mut found = Self::default();
        for (name, value) in headers {
            found.see(name, value);
        }
        found
    }

    /// Records one header. Call [`strip`](Self::strip) only after this function was called for each header.
    pub(crate) fn see(&mut self, name: &HeaderName, value: &HeaderValue) {
        match kind(name) {
            Kind::Connection => {
                self.has_connection = true;
                for name in listed_names(value) {
                    self.connection_names_any = true;
                    self.connection_has_upgrade |= name.eq_ignore_ascii_case(UPGRADE.as_bytes());
                }
            }
            Kind::HopByHop => self.has_fixed = true,
            Kind::Upgrade => {
                self.has_fixed = true;
                self.upgrade_has_websocket |= list_items(value.as_bytes())
                    .any(|item| item.eq_ignore_ascii_case(WEBSOCKET.as_bytes()));
            }
            Kind::Te => {
                self.has_fixed = true;
                self.accepts_trailers |= list_items(value.as_bytes())
                    .any(|item| item.eq_ignore_ascii_case(TRAILERS.as_bytes()));
            }
            Kind::EndToEnd => {}
        }
    }

    /// Returns whether the message has a header that is always hop-by-hop, such as `Trailer`. `Connection` does not
    /// count.
    pub(crate) fn has_fixed(&self) -> bool {
        self.has_fixed
    }

    /// Returns whether the headers ask for the upgrade to WebSocket (RFC 6455 §4.1).
    pub(crate) fn asks_for_websocket(&self) -> bool {
        self.upgrade_has_websocket && self.connection_has_upgrade
    }

    /// Does the same as [`strip`](Self::strip), but keeps `TE: trailers` (RFC 9110 §10.1.4), because the gateway
    /// forwards trailers. Returns whether the request has `TE: trailers`.
    pub(crate) fn strip_request(self, headers: &mut HeaderMap) -> bool {
        let accepts_trailers = self.accepts_trailers;
        self.strip(headers);
        if accepts_trailers {
            headers.insert(TE, HeaderValue::from_static(TRAILERS));
        }
        accepts_trailers
    }

    pub(crate) fn strip(self, headers: &mut HeaderMap) {
        if self.connection_names_any {
            // The loop removes headers, so it cannot borrow the lines.
            let lines: Vec<_> = headers.get_all(CONNECTION).iter().cloned().collect();
            for name in lines.iter().flat_map(listed_names) {
                let is_forwarding =
                    FORWARDING.iter().any(|it| name.eq_ignore_ascii_case(it.as_bytes()));
                if !is_forwarding && let Ok(name) = str::from_utf8(name) {
                    headers.remove(name);
                }
            }
        }
        if self.has_connection {
            headers.remove(CONNECTION);
        }
        if self.has_fixed {
            sweep(headers, |name| kind(name) >= Kind::HopByHop);
        }
    }
}

/// One pass removes `HopByHop` and all kinds after it, so the order matters. `Connection` is removed separately.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    EndToEnd,
    Connection,
    HopByHop,
    Te,
    Upgrade,
}

fn kind(name: &HeaderName) -> Kind {
    match name.as_str() {
        "connection" => Kind::Connection,
        "te" => Kind::Te,
        KEEP_ALIVE
        | "proxy-connection"
        | "proxy-authenticate"
        | "proxy-authorization"
        | "trailer"
        | "transfer-encoding" => Kind::HopByHop,
        UPGRADE => Kind::Upgrade,
        _ => Kind::EndToEnd,
    }
}

/// Returns the names in a `Connection` line, except `keep-alive`: the header `Keep-Alive` is always removed.
fn listed_names(line: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    list_items(line.as_bytes()).filter(|name| !name.eq_ignore_ascii_case(KEEP_ALIVE.as_bytes()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn headers_named_in_any_connection_line_are_removed() {
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
            ("connection", "X-Forwarded-For, forwarded"),
            ("x-forwarded-for", "192.0.2.7"),
            ("forwarded", "for=192.0.2.7"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        strip_hop_by_hop(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["forwarded", "x-forwarded-for", "x-three"]);
    }

    #[test]
    fn a_request_keeps_te_only_for_trailers() {
        for (lines, want) in [
            (&["trailers"][..], Some("trailers")),
            (&["gzip", "deflate;q=0.5, Trailers"], Some("trailers")),
            (&["gzip"], None),
            (&["trailers-not"], None),
            (&[], None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONNECTION, HeaderValue::from_static("TE"));
            for line in lines {
                headers.append(TE, HeaderValue::from_static(line));
            }
            assert_eq!(strip_request_hop_by_hop(&mut headers), want.is_some(), "{lines:?}");
            let left: Vec<_> = headers.iter().map(|(_, value)| value.to_str().unwrap()).collect();
            assert_eq!(left, Vec::from_iter(want), "{lines:?}");
        }
    }

    #[test]
    fn only_both_headers_together_ask_for_websocket() {
        for (fields, want) in [
            (&[("upgrade", "websocket"), ("connection", "Upgrade")][..], true),
            (&[("connection", "keep-alive, upgrade"), ("upgrade", "h2c, WebSocket")], true),
            (
                &[
                    ("connection", "keep-alive"),
                    ("connection", "upgrade"),
                    ("upgrade", "websocket"),
                ],
                true,
            ),
            (&[("upgrade", "websocket")], false),
            (&[("connection", "upgrade")], false),
            (&[("upgrade", "h2c"), ("connection", "upgrade, http2-settings")], false),
            (&[("upgrade", "websocket/13"), ("connection", "upgrade")], false),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, HeaderValue::from_static(value));
            }
            let found = HopByHop::of(&headers);
            assert_eq!(found.asks_for_websocket(), want, "{fields:?}");
            found.strip(&mut headers);
            assert!(headers.is_empty(), "{fields:?}");
        }
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
