//! Checks the authority of a URL: the part with host and port.

use http::uri::Authority;

/// The bytes that a registered name may contain: unreserved, percent-encoded or sub-delimiter (RFC 3986 §3.2.2).
#[cfg(feature = "proxy")]
static NAME: [bool; 256] = {
    let mut table = [false; 256];
    let (others, mut i) = (b"-._~%!$&'()*+,;=", 0);
    while i < table.len() {
        table[i] = (i as u8).is_ascii_alphanumeric();
        i += 1;
    }
    i = 0;
    while i < others.len() {
        table[others[i] as usize] = true;
        i += 1;
    }
    table
};

/// Returns whether `value` can be the value of `Host`: a host, with or without a port (RFC 9110 §7.2). The port may be
/// empty (RFC 3986 §3.2.3). The host must not be empty (RFC 9110 §4.2.1).
#[cfg(feature = "proxy")]
pub(crate) fn is_host_value(value: &[u8]) -> bool {
    let (is_valid, rest) = match value {
        [b'[', rest @ ..] => {
            let is_address = |b: &&u8| b.is_ascii_hexdigit() || matches!(**b, b':' | b'.');
            let length = rest.iter().take_while(is_address).count();
            (length > 1 && rest.get(length) == Some(&b']'), rest.get(length + 1..))
        }
        name => {
            let length = name.iter().take_while(|b| NAME[usize::from(**b)]).count();
            (length > 0, name.get(length..))
        }
    };
    let is_port = |port: &[u8]| {
        port.iter().all(u8::is_ascii_digit)
            && port.iter().fold(0u32, |n, b| n.saturating_mul(10).saturating_add((b - b'0').into()))
                <= 65_535
    };
    is_valid
        && match rest {
            Some([]) => true,
            Some([b':', port @ ..]) => is_port(port),
            _ => false,
        }
}

/// Returns whether `authority` is a host, with or without a port. The type [`Authority`] accepts more: a user, an empty
/// host, and a port that is empty or not a number from 0 to 65535.
pub(crate) fn is_host_and_port(authority: &Authority) -> bool {
    let text = authority.as_str();
    // In `gw@gw`, the text also begins with the host, so the text is searched for `@`.
    let port = text.strip_prefix(authority.host()).filter(|_| !text.contains('@'));
    // `port_u16` also accepts a plus sign before the digits.
    let is_number = |port: &str| !port.contains('+') && authority.port_u16().is_some();
    !authority.host().is_empty() && port.is_some_and(|port| port.is_empty() || is_number(port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_host_with_an_optional_port_is_accepted() {
        for (text, want) in [
            ("host", true),
            ("gw.example:7554", true),
            ("[::1]", true),
            ("[::1]:65535", true),
            ("user@host", false),
            ("gw@gw:7554", false),
            ("gw@gw", false),
            ("host:x@host:1", false),
            ("host:1@host:1", false),
            ("user:secret@host:1", false),
            ("host:", false),
            ("host:port", false),
            ("host:+80", false),
            ("[::1]:+80", false),
            ("host:-1", false),
            ("host:65536", false),
            (":1", false),
        ] {
            assert_eq!(text.parse().is_ok_and(|it| is_host_and_port(&it)), want, "{text}");
        }
    }

    #[cfg(feature = "proxy")]
    #[test]
    fn a_host_value_is_a_host_with_an_optional_port() {
        for (value, want) in [
            ("gw.example", true),
            ("gw_1.example:7554", true),
            ("gw:", true),
            ("192.0.2.7:443", true),
            ("[2001:db8::1]", true),
            ("[::ffff:192.0.2.7]:65535", true),
            ("%67w", true),
            ("", false),
            (":443", false),
            ("gw:65536", false),
            ("gw:99999999999", false),
            ("gw:80a", false),
            ("gw:80:80", false),
            ("a b/c@d", false),
            ("user@gw", false),
            ("gw/path", false),
            ("gw, gw", false),
            ("[::1", false),
            ("[]", false),
            ("[::1]x", false),
            ("[gw]", false),
            ("g\u{e9}w", false),
        ] {
            assert_eq!(is_host_value(value.as_bytes()), want, "{value}");
        }
    }
}
