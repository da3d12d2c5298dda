//! Finds the service of a path, and decodes paths as some services do. If the decoded path belongs to a more specific
//! route than the path that the client sent, the gateway rejects the request.

use crate::hexadecimal;

/// Returns whether the path is plain. Most paths are plain, and need no other check: [`decoded`] and [`find_unsafe`]
/// return `None`. Some safe paths are not plain, such as `/.well-known`.
pub(super) fn is_plain(path: &str) -> bool {
    let [b'/', rest @ ..] = path.as_bytes() else { return false };
    let mut previous = b'/';
    rest.iter().all(|&byte| {
        let is_plain = match byte {
            b'%' | b';' | b'\\' => false,
            b'/' | b'.' => previous != b'/',
            _ => true,
        };
        previous = byte;
        is_plain
    })
}

/// Returns the id of the service: the first segment of a path.
pub(super) fn service_of(path: &str) -> Option<&str> {
    path.strip_prefix('/')?.split('/').next()
}

/// Returns whether `path` is `prefix`, or begins with `prefix` and a slash.
pub(super) fn is_at_or_below(prefix: &str, path: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Decodes a path as some services do: decodes percent-encoding, converts backslashes to slashes, and removes empty
/// segments and the parameters of segments (`;x=y`). Dot segments (`.` and `..`) stay. The result has no slash at its
/// end. Returns `None` if the path contains none of `%`, `;`, `\` and `//`.
pub(super) fn decoded(path: &str) -> Option<String> {
    if !path.contains(['%', ';', '\\']) && !path.contains("//") {
        return None;
    }
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, after @ ..] = rest {
        let (byte, tail) = match rest {
            [b'%', high, low, tail @ ..] => match hexadecimal::byte(*high, *low) {
                Some(byte) => (byte, tail),
                None => (b'%', after),
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

/// Decodes the result of [`decoded`] a second time. Returns `None` if this cannot change it.
pub(super) fn decoded_again(once: &str) -> Option<String> {
    if once.contains(['%', '\\']) { decoded(once) } else { None }
}

/// Why a path must not be forwarded: a service, or a server in front of it, could read another path than the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unsafe {
    /// A segment is `.` or `..`: in the path of the client, or in the path that is decoded once or twice.
    DotSegment,
    /// The path that is decoded once or twice has a NUL. Some servers end a path at a NUL.
    Nul,
}

/// Returns why the path must not be forwarded. `once` is the result of [`decoded`], and `twice` of [`decoded_again`].
pub(super) fn find_unsafe(path: &str, once: Option<&str>, twice: Option<&str>) -> Option<Unsafe> {
    let readings = [Some(path), once, twice];
    let any = |is: fn(&str) -> bool| readings.into_iter().flatten().any(is);
    if any(has_dot_segment) {
        Some(Unsafe::DotSegment)
    } else if once.is_some() && any(|path| path.contains('\0')) {
        Some(Unsafe::Nul)
    } else {
        None
    }
}

/// Returns whether two servers could read a configured path in different ways.
pub(super) fn is_ambiguous(path: &str) -> bool {
    has_dot_segment(path) || decoded(path).is_some()
}

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

    #[test]
    fn paths_without_special_characters_are_plain() {
        for path in ["/", "/a/b", "/a/", "/a/IBMUSER.JCL(X)", "/a..b/c."] {
            assert!(is_plain(path), "{path}");
        }
        for path in ["", "*", "a", "//", "/a//b", "/a%20", "/a;b", "/a\\b", "/.", "/a/..", "/a/.b"]
        {
            assert!(!is_plain(path), "{path}");
        }
    }

    #[test]
    fn paths_are_decoded_twice() {
        let dot = Some(Unsafe::DotSegment);
        for (path, want) in [
            ("/a/%252e%252e/b", dot),
            ("/a/%252E%2e/b", dot),
            ("/a/.%252e", dot),
            ("/a/..%252fb", dot),
            ("/a/..%255cb", dot),
            ("/a/%252e%252e%253bx/b", dot),
            ("/a/../b", dot),
            ("/a/..%00/b", Some(Unsafe::Nul)),
            ("/a/x%00", Some(Unsafe::Nul)),
            ("/a/x%2500.txt", Some(Unsafe::Nul)),
            // This path has dot segments only if it is decoded three times. The gateway decodes twice.
            ("/a/%25252e%25252e/b", None),
            ("/a/%252Fb%25", None),
            ("/a/100%25/b", None),
            ("/a/%2520%20;x//y", None),
            ("/a/b", None),
        ] {
            let once = decoded(path);
            let twice = once.as_deref().and_then(decoded_again);
            assert_eq!(find_unsafe(path, once.as_deref(), twice.as_deref()), want, "{path}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn plain_paths_are_safe_and_have_nothing_to_decode(path in "(/|[.%;a-f0-9\\\\]){0,8}") {
            if is_plain(&path) {
                prop_assert_eq!(decoded(&path), None);
                prop_assert_eq!(find_unsafe(&path, None, None), None);
            }
        }

        #[test]
        fn decoded_paths_have_no_empty_segments_or_parameters(path in "(/|[.%;a-f0-9\\\\]){0,40}") {
            let decoded = decoded(&path);
            prop_assert!(decoded.is_none_or(|path| !path.contains("//") && !path.contains(';')));
        }
    }
}
