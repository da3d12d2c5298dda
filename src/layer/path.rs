//! Decodes a path as some services do. The gateway rejects a request whose decoded path would belong to a
//! more specific route.

/// The path as a service may read it, if the service decodes the path first. Percent-encoding is
/// decoded, backslashes become slashes, and empty segments and parameters of segments (`;x=y`) are removed.
/// Dot segments (`.` and `..`) stay. `None` if the path has nothing to decode or remove.
pub(super) fn decoded(path: &str) -> Option<String> {
    if !path.contains(['%', ';', '\\']) && !path.contains("//") {
        return None;
    }
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = |digit: u8| char::from(digit).to_digit(16);
        let (byte, tail) = match rest {
            [b'%', high, low, tail @ ..] => match (hex(*high), hex(*low)) {
                // Two hexadecimal digits always fit into a byte.
                (Some(high), Some(low)) => ((high << 4 | low) as u8, tail),
                _ => (b'%', after),
            },
            _ => (*first, after),
        };
        plain.push(byte);
        rest = tail;
    }
    let mut decoded = String::with_capacity(plain.len());
    for segment in plain.split(|b| matches!(b, b'/' | b'\\')) {
        let name = segment.split(|b| *b == b';').next().unwrap_or_default();
        if !name.is_empty() {
            decoded.push('/');
            decoded.push_str(&String::from_utf8_lossy(name));
        }
    }
    Some(decoded)
}

/// Whether two servers may read a configured path in different ways.
pub(super) fn is_ambiguous(path: &str) -> bool {
    has_dot_segment(path) || decoded(path).is_some()
}

/// Whether a segment is `.` or `..`.
pub(super) fn has_dot_segment(path: &str) -> bool {
    path.contains('.') && path.split('/').any(|segment| matches!(segment, "." | ".."))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_and_encoded_dot_segments_are_found() {
        for path in [
            "/a/../b",
            "/a/..",
            "/./a",
            "/a/.",
            "/a/%2e%2E/b",
            "/a/.%2e",
            "/a/..;x=y/b",
            "/a/..;/b",
            "/a/..%2fb",
            "/a%2F../b",
            "/a\\..\\b",
            "/a%5c..%5Cb",
            "/a/..%3Bx/b",
        ] {
            let decoded = decoded(path);
            let found = has_dot_segment(path) || decoded.as_deref().is_some_and(has_dot_segment);
            assert!(found, "{path}");
        }
        for path in ["/", "/a.b/c..d/...", "/a/.well-known", "/a/..b", "/a/%2ex", "/a%20b", "/%2"] {
            assert!(!has_dot_segment(path), "{path}");
            assert!(!decoded(path).as_deref().is_some_and(has_dot_segment), "{path}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn decoded_paths_have_no_empty_segments_or_parameters(path in "(/|[.%;a-f0-9\\\\]){0,40}") {
            let decoded = decoded(&path);
            prop_assert!(decoded.is_none_or(|path| !path.contains("//") && !path.contains(';')));
        }
    }
}
