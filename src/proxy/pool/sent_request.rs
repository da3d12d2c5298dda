//! The bytes of a request that were written to a connection.

use std::collections::HashSet;

use http::{HeaderMap, HeaderName};

/// The end of the head (RFC 9112 §2.1).
const END: &[u8] = b"\r\n\r\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    PartOfHead,
    Head,
    PartOfBody,
}

impl Sent {
    /// Returns how much of a request the bytes in `sent` contain.
    pub(super) fn of(sent: &[u8]) -> Self {
        match sent.windows(END.len()).position(|bytes| bytes == END) {
            None => Self::PartOfHead,
            Some(at) if at + END.len() == sent.len() => Self::Head,
            Some(_) => Self::PartOfBody,
        }
    }
}

/// Replaces headers in `head`, the head of a request. Each header of `new` replaces the header with the same name.
/// Returns false, and changes nothing, if `head` does not contain each of these names exactly once. In this case, the
/// head has changed since the scheme prepared it.
#[must_use]
pub(super) fn replace_headers(head: &mut Vec<u8>, new: &HeaderMap) -> bool {
    let mut replaced = Vec::with_capacity(head.len() + 64);
    let mut found = HashSet::new();
    for line in head.split_inclusive(|byte| *byte == b'\n') {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        if line == b"\r\n" {
            break;
        }
        let name = HeaderName::from_bytes(name).ok().filter(|name| new.contains_key(name));
        match name {
            None => replaced.extend_from_slice(line),
            Some(name) => {
                if !found.insert(name) {
                    return false;
                }
            }
        }
    }
    if found.len() != new.keys_len() {
        return false;
    }
    for (name, value) in new {
        replaced.extend_from_slice(name.as_ref());
        replaced.extend_from_slice(b": ");
        replaced.extend_from_slice(value.as_bytes());
        replaced.extend_from_slice(b"\r\n");
    }
    replaced.extend_from_slice(b"\r\n");
    *head = replaced;
    true
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_head_ends_with_an_empty_line() {
        for (sent, want) in [
            ("", Sent::PartOfHead),
            ("PUT /x HTTP/1.1\r\n", Sent::PartOfHead),
            ("PUT /x HTTP/1.1\r\nhost: x\r\n\r", Sent::PartOfHead),
            ("PUT /x HTTP/1.1\r\nhost: x\r\n\r\n", Sent::Head),
            ("PUT /x HTTP/1.1\r\nhost: x\r\n\r\nb", Sent::PartOfBody),
        ] {
            assert_eq!(Sent::of(sent.as_bytes()), want, "{sent:?}");
        }
    }

    #[test]
    fn only_headers_with_the_same_names_are_replaced() {
        let old = "GET /a:b HTTP/1.1\r\nHost: x\r\nAuthorization: Basic OLD\r\nx-ticket: OLD\r\n\
                   x-tickets: kept\r\nx-\u{e9}: kept\r\n\r\n";
        let new = HeaderMap::from_iter([
            (HeaderName::from_static("authorization"), HeaderValue::from_static("Basic NEW")),
            (HeaderName::from_static("x-ticket"), HeaderValue::from_static("NEW")),
        ]);
        let mut head = old.as_bytes().to_vec();
        assert!(replace_headers(&mut head, &new));
        let want = "GET /a:b HTTP/1.1\r\nHost: x\r\nx-tickets: kept\r\nx-\u{e9}: kept\r\n\
                    authorization: Basic NEW\r\nx-ticket: NEW\r\n\r\n";
        assert_eq!(str::from_utf8(&head).unwrap(), want);
        assert_eq!(Sent::of(&head), Sent::Head);
    }

    #[test]
    fn a_head_must_have_each_new_header_exactly_once() {
        let new = HeaderMap::from_iter([(
            HeaderName::from_static("authorization"),
            HeaderValue::from_static("Basic NEW"),
        )]);
        for old in [
            "GET / HTTP/1.1\r\nhost: x\r\n\r\n",
            "GET / HTTP/1.1\r\nauthorization: a\r\nAuthorization: b\r\n\r\n",
        ] {
            assert!(!replace_headers(&mut old.as_bytes().to_vec(), &new), "{old}");
        }
    }
}
