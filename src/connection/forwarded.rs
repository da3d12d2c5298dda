//! Reads the address of the client from `X-Forwarded-For` and `Forwarded` (RFC 7239).
//!
//! Both headers are lists. Each proxy appends the address of its peer, so the last element comes from the trusted proxy
//! in front of the gateway. This module reads the elements from the right. The first address that does not belong to a
//! trusted proxy is the address of the client. This module does not read the elements to the left of it, because the
//! client can have sent them to hide its address.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{address::ClientAddress, trusted_proxies::TrustedProxies};

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static FORWARDED: HeaderName = HeaderName::from_static("forwarded");

/// The header that contains the address of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AddressHeader {
    XForwardedFor,
    Forwarded,
}

impl AddressHeader {
    /// Returns `X-Forwarded-For` if it is present, otherwise `Forwarded`.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        if headers.contains_key(&X_FORWARDED_FOR) { Self::XForwardedFor } else { Self::Forwarded }
    }
}

/// The maximum number of elements that are read.
const MAX_ELEMENTS: usize = 32;

/// The maximum length of an element in bytes. An element of `Forwarded` can contain a host name.
const MAX_LENGTH: usize = 512;

/// The client in the header of a trusted proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Announced {
    /// The right-most address that is not a trusted proxy.
    Client(ClientAddress),
    /// There is no header, a proxy has hidden the address, or all addresses belong to trusted proxies.
    Nobody,
}

/// Why the header of a trusted proxy is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("X-Forwarded-For has an element that is not the IP address of a client")]
    XForwardedFor,
    #[error("Forwarded has an element that the gateway cannot read")]
    Forwarded,
    #[error("an element of the header is longer than {MAX_LENGTH} bytes")]
    TooLong,
    #[error("more than {MAX_ELEMENTS} elements of the header must be read")]
    TooMany,
}

pub(super) fn announced(
    header: AddressHeader,
    headers: &HeaderMap,
    proxies: &TrustedProxies,
) -> Result<Announced, Malformed> {
    match header {
        AddressHeader::XForwardedFor => right_most(headers, &X_FORWARDED_FOR, proxies, |element| {
            let text = str::from_utf8(element).ok();
            let address = text.and_then(ClientAddress::parse);
            address.map(Node::Address).ok_or(Malformed::XForwardedFor)
        }),
        AddressHeader::Forwarded => right_most(headers, &FORWARDED, proxies, |element| {
            node(element).ok_or(Malformed::Forwarded)
        }),
    }
}

/// The content of one element of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Address(ClientAddress),
    /// The proxy hides the address (RFC 7239 §6.2, §6.3).
    Hidden,
}

fn right_most(
    headers: &HeaderMap,
    name: &HeaderName,
    proxies: &TrustedProxies,
    parse: impl Fn(&[u8]) -> Result<Node, Malformed>,
) -> Result<Announced, Malformed> {
    let lines = headers.get_all(name).iter().rev().map(HeaderValue::as_bytes);
    let elements = lines.flat_map(|line| line.rsplit(|b| *b == b','));
    for (number, element) in elements.enumerate() {
        if number == MAX_ELEMENTS {
            return Err(Malformed::TooMany);
        }
        if element.len() > MAX_LENGTH {
            return Err(Malformed::TooLong);
        }
        match parse(element.trim_ascii())? {
            Node::Address(address) if proxies.contains(address.ip()) => {}
            Node::Address(address) => return Ok(Announced::Client(address)),
            Node::Hidden => return Ok(Announced::Nobody),
        }
    }
    Ok(Announced::Nobody)
}

/// Returns the node in the parameter `for` of an element of `Forwarded` (RFC 7239 §4). Returns `None` if the element is
/// malformed.
///
/// This module splits the header at each comma and each element at each semicolon, even in a quoted string. In that
/// case, each of the two parts has only one of the two quotation marks. Such a part counts as malformed.
fn node(element: &[u8]) -> Option<Node> {
    let mut node = None;
    for parameter in element.split(|b| *b == b';') {
        let parameter = parameter.trim_ascii();
        let equals = parameter.iter().position(|b| *b == b'=')?;
        let (name, value) = (&parameter[..equals], &parameter[equals + 1..]);
        if !is_token(name) || !is_value(value) {
            return None;
        }
        if name.eq_ignore_ascii_case(b"for") {
            // A parameter must not occur twice (RFC 7239 §4).
            if node.replace(identifier(value)?).is_some() {
                return None;
            }
        }
    }
    Some(node.unwrap_or(Node::Hidden))
}

/// Parses the value of the parameter `for` (RFC 7239 §6).
fn identifier(value: &[u8]) -> Option<Node> {
    let value = str::from_utf8(value).ok()?;
    let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    let text = quoted.unwrap_or(value);
    let name = text.split_once(':').map_or(text, |(name, _port)| name);
    let is_obfuscated = name.strip_prefix('_').is_some_and(|rest| {
        let is_allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        !rest.is_empty() && rest.bytes().all(is_allowed)
    });
    if is_obfuscated || name.eq_ignore_ascii_case("unknown") {
        return Some(Node::Hidden);
    }
    // `ClientAddress::parse` also accepts an IPv6 address without brackets, which RFC 7239 §6 does not permit. It
    // refuses an obfuscated port, as in `192.0.2.7:_x`.
    let is_bare_ipv6 = !text.starts_with('[') && text.matches(':').count() > 1;
    if is_bare_ipv6 { None } else { ClientAddress::parse(text).map(Node::Address) }
}

/// Returns whether the text is a token (RFC 9110 §5.6.2).
fn is_token(text: &[u8]) -> bool {
    let is_allowed = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    !text.is_empty() && text.iter().all(is_allowed)
}

/// Returns whether the text is a token or a quoted string (RFC 9110 §5.6.4).
fn is_value(text: &[u8]) -> bool {
    let Some(mut rest) = text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")) else {
        return is_token(text);
    };
    loop {
        rest = match rest {
            [] => return true,
            [b'"'] | [b'\\'] | [b'"', ..] => return false,
            [b'\\', _, rest @ ..] | [_, rest @ ..] => rest,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    /// Trusts 10.0.0.0/8 and fd00::/8.
    fn proxies() -> TrustedProxies {
        TrustedProxies::new(|ip| match ip {
            IpAddr::V4(v4) => v4.octets()[0] == 10,
            IpAddr::V6(v6) => v6.octets()[0] == 0xfd,
        })
    }

    fn headers(name: &HeaderName, lines: &[&str]) -> HeaderMap {
        let value = |line: &&str| HeaderValue::from_bytes(line.as_bytes()).unwrap();
        lines.iter().map(|line| (name.clone(), value(line))).collect()
    }

    fn shown(headers: &HeaderMap) -> String {
        match announced(AddressHeader::of(headers), headers, &proxies()) {
            Ok(Announced::Client(client)) => client.to_string(),
            Ok(Announced::Nobody) => "-".to_owned(),
            Err(_) => "malformed".to_owned(),
        }
    }

    #[test]
    fn x_forwarded_for_is_read_from_the_right() {
        let many = ["10.0.0.1"; MAX_ELEMENTS].join(",");
        let too_many = format!("192.0.2.7,{many}");
        let deep = format!("192.0.2.7,{}", ["10.0.0.1"; MAX_ELEMENTS - 1].join(","));
        let cases: &[(&[&str], &str)] = &[
            (&[], "-"),
            (&["192.0.2.7"], "192.0.2.7"),
            (&["198.51.100.1, 192.0.2.7"], "192.0.2.7"),
            (&["198.51.100.1", "192.0.2.7"], "192.0.2.7"),
            (&["192.0.2.7,10.0.0.1 ,\tfd00::1"], "192.0.2.7"),
            (&["192.0.2.7", "10.0.0.1"], "192.0.2.7"),
            (&["192.0.2.7:4711, [fd00::1]:443"], "192.0.2.7"),
            (&["::ffff:192.0.2.7, ::ffff:10.0.0.1"], "192.0.2.7"),
            (&["10.0.0.2, 10.0.0.1"], "-"),
            // Elements to the left of the address of the client are not read.
            (&["unknown, \", 192.0.2.7"], "192.0.2.7"),
            (&["\u{e9}", "192.0.2.7"], "192.0.2.7"),
            (&["10.0.0.9, 192.0.2.7, 10.0.0.1"], "192.0.2.7"),
            // An element that must be read is malformed.
            (&[""], "malformed"),
            (&["192.0.2.7,"], "malformed"),
            (&["192.0.2.7, unknown, 10.0.0.1"], "malformed"),
            (&["192.0.2.7, 10.0.0.1;x"], "malformed"),
            (&["192.0.2.7 10.0.0.1"], "malformed"),
            (&["0.0.0.0"], "malformed"),
            (&["\u{e9}"], "malformed"),
            (&[&"1".repeat(MAX_LENGTH + 1)], "malformed"),
            (&[&many], "-"),
            (&[&deep], "192.0.2.7"),
            (&[&too_many], "malformed"),
        ];
        for (lines, want) in cases {
            let headers = headers(&X_FORWARDED_FOR, lines);
            assert_eq!(shown(&headers), *want, "{lines:?}");
        }
    }

    #[test]
    fn forwarded_is_read_from_the_right() {
        let long = format!("for=192.0.2.7;host=\"{}\"", "a".repeat(MAX_LENGTH));
        let cases: &[(&[&str], &str)] = &[
            (&["for=192.0.2.7"], "192.0.2.7"),
            (&["For=\"192.0.2.7:80\";proto=https;by=10.0.0.1"], "192.0.2.7"),
            (&["for=\"[2001:db8::1]\""], "2001:db8::1"),
            (&["for=\"[2001:db8::1]:443\"; host=\"a:1\""], "2001:db8::1"),
            (&["for=198.51.100.1, for=192.0.2.7 , for=10.0.0.1"], "192.0.2.7"),
            (&["for=198.51.100.1", "for=192.0.2.7", "for=10.0.0.1"], "192.0.2.7"),
            (&["for=192.0.2.7;host=\"a\\\"b\\\\\""], "192.0.2.7"),
            (&["for=192.0.2.7;host=\"\""], "192.0.2.7"),
            // The proxy hides the address of its client.
            (&["for=192.0.2.7, for=unknown"], "-"),
            (&["for=192.0.2.7, for=_hidden"], "-"),
            (&["for=192.0.2.7, for=\"_hidden:_port\""], "-"),
            (&["for=192.0.2.7, by=10.0.0.1;proto=https"], "-"),
            (&["for=10.0.0.2, for=10.0.0.1"], "-"),
            // The client has sent an opening quotation mark. This does not hide the element of the proxy.
            (&["for=\"x, for=192.0.2.7"], "192.0.2.7"),
            // The client has chosen the value of `host`, and the proxy has put it in quotation marks.
            (&["for=192.0.2.7;host=\"a,for=198.51.100.1;x=\""], "malformed"),
            (&["for=192.0.2.7;host=\"a,for=198.51.100.1;x=\\\"b\""], "malformed"),
            (&["for=192.0.2.7;host=\"a;for=198.51.100.1\""], "malformed"),
            (&[""], "malformed"),
            (&["192.0.2.7"], "malformed"),
            (&["for="], "malformed"),
            (&["for=\"\""], "malformed"),
            (&["for=192.0.2.7;for=198.51.100.1"], "malformed"),
            (&["for=192.0.2.7;"], "malformed"),
            (&["for =192.0.2.7"], "malformed"),
            (&["for=2001:db8::1"], "malformed"),
            (&["for=\"2001:db8::1\""], "malformed"),
            (&["for=\"192.0.2.7"], "malformed"),
            (&["for=\"192.0.2.7\\\""], "malformed"),
            (&["for=\"192.0.2.\\7\""], "malformed"),
            (&["for=\"192.0.2.7\"x"], "malformed"),
            (&["for=_"], "malformed"),
            (&["for=\"_a b\""], "malformed"),
            (&[&long], "malformed"),
        ];
        for (lines, want) in cases {
            let headers = headers(&FORWARDED, lines);
            assert_eq!(shown(&headers), *want, "{lines:?}");
        }
    }

    #[test]
    fn x_forwarded_for_has_precedence_over_forwarded() {
        let mut both = headers(&X_FORWARDED_FOR, &["192.0.2.7"]);
        both.insert(&FORWARDED, HeaderValue::from_static("for=198.51.100.1"));
        assert_eq!(shown(&both), "192.0.2.7");
        both.insert(&X_FORWARDED_FOR, HeaderValue::from_static("unknown"));
        assert_eq!(shown(&both), "malformed");
    }
}
