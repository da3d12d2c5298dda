//! The bytes of a request that were written to a connection.

use http::HeaderMap;

/// The end of the head (RFC 9112 §2.1).
const END: &[u8] = b"\r\n\r\n";

/// How much of a request was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    PartOfHead,
    Head,
    PartOfBody,
}

impl Sent {
    /// `sent` contains the bytes that were sent.
    pub(super) fn of(sent: &[u8]) -> Self {
        match sent.windows(END.len()).position(|bytes| bytes == END) {
            None => Self::PartOfHead,
            Some(at) if at + END.len() == sent.len() => Self::Head,
            Some(_) => Self::PartOfBody,
        }
    }
}

/// Replaces headers in `head`, the head of a request. Each header of `new` replaces all headers with the same name.
pub(super) fn replace_headers(head: &mut Vec<u8>, new: &HeaderMap) {
    let mut replaced = Vec::with_capacity(head.len() + 64);
    for line in head.split_inclusive(|byte| *byte == b'\n') {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        let is_replaced = str::from_utf8(name).is_ok_and(|name| new.contains_key(name));
        if line == b"\r\n" {
            break;
        }
        if !is_replaced {
            replaced.extend_from_slice(line);
        }
    }
    for (name, value) in new {
        replaced.extend_from_slice(name.as_ref());
        replaced.extend_from_slice(b": ");
        replaced.extend_from_slice(value.as_bytes());
        replaced.extend_from_slice(b"\r\n");
    }
    replaced.extend_from_slice(b"\r\n");
    *head = replaced;
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

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
        let old = "GET /a:b HTTP/1.1\r\nHost: x\r\nauthorization: Basic OLD\r\nx-ticket: OLD\r\n\
                   Authorization: Basic OLD\r\nx-tickets: kept\r\nx-\u{e9}: kept\r\n\r\n";
        let new = HeaderMap::from_iter([
            (HeaderName::from_static("authorization"), HeaderValue::from_static("Basic NEW")),
            (HeaderName::from_static("x-ticket"), HeaderValue::from_static("NEW")),
        ]);
        let mut head = old.as_bytes().to_vec();
        replace_headers(&mut head, &new);
        let want = "GET /a:b HTTP/1.1\r\nHost: x\r\nx-tickets: kept\r\nx-\u{e9}: kept\r\n\
                    authorization: Basic NEW\r\nx-ticket: NEW\r\n\r\n";
        assert_eq!(str::from_utf8(&head).unwrap(), want);
        assert_eq!(Sent::of(&head), Sent::Head);
    }
}
