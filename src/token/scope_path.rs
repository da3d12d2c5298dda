//! The path in a scope of a Personal Access Token (PAT), and its comparison with the path of a request
//! (docs/decisions.md#d49).
//!
//! The gateway forwards a path as the client sent it, and a service decodes it in its own way. If a service could read
//! a path in another way than the gateway, a path scope would protect nothing. So no path scope permits a path that has
//! more than one reading.

use std::{borrow::Cow, fmt};

use crate::hexadecimal;

/// The maximum length of the path in a scope, in bytes.
pub const MAX_SCOPE_PATH_LEN: usize = 256;

/// The path in a scope, as the user of the PAT wrote it. It is compared with the part of a request's path after the
/// prefix of the route.
///
/// A scope path begins with `/`. Upper and lower case are different. Characters that RFC 3986 §3.3 does not allow in a
/// path are percent-encoded, and so are `,` and `*`. The path must not contain `;`, not even in encoded form.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScopePath(Box<str>);

impl ScopePath {
    /// Parses the path of a scope.
    ///
    /// # Errors
    /// [`ScopePathError`] if the path is malformed, too long, or has more than one reading.
    pub fn new(path: &str) -> Result<Self, ScopePathError> {
        if !path.starts_with('/') {
            return Err(ScopePathError::Start);
        }
        if path.len() > MAX_SCOPE_PATH_LEN {
            return Err(ScopePathError::TooLong);
        }
        if !path.bytes().all(is_allowed) {
            return Err(ScopePathError::Character);
        }
        decoded(path)?;
        Ok(Self(path.into()))
    }

    /// Returns the path as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether `path` is this path or below it. Both paths are compared decoded, segment by segment.
    pub(super) fn permits(&self, path: &UnambiguousPath<'_>) -> bool {
        // `new` has already decoded the path without an error.
        let Ok(prefix) = decoded(&self.0) else { return false };
        let prefix = prefix.strip_suffix('/').unwrap_or(&prefix);
        let rest = path.0.strip_prefix(prefix);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl fmt::Debug for ScopePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ScopePath").field(&self.as_str()).finish()
    }
}

impl fmt::Display for ScopePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A decoded path that has only one reading.
pub(super) struct UnambiguousPath<'a>(Cow<'a, str>);

impl<'a> UnambiguousPath<'a> {
    /// Decodes the path of a request. An empty path is the root. Returns `None` if the path is malformed, or if a
    /// service could read it in another way.
    pub(super) fn new(path: &'a str) -> Option<Self> {
        decoded(path).ok().map(Self)
    }

    pub(super) fn of_scope(path: &'a ScopePath) -> Option<Self> {
        Self::new(&path.0)
    }
}

/// The reason why a text is not the path of a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScopePathError {
    /// The path does not begin with a slash.
    #[error("the path must begin with /")]
    Start,
    /// The path is too long.
    #[error("the path has more than {MAX_SCOPE_PATH_LEN} bytes")]
    TooLong,
    /// The path has a character that must be percent-encoded.
    #[error(
        "the path has a character that must be percent-encoded, such as a comma (%2C); a path \
         needs no *, because it permits all paths below it"
    )]
    Character,
    /// A percent sign is not followed by two hexadecimal digits, or the decoded path still contains a percent-encoding,
    /// or is not UTF-8.
    #[error("the path has a wrong or a double percent-encoding")]
    Encoding,
    /// The path has a character to which some services give another meaning.
    #[error("the path has a control character, a backslash, a semicolon or an encoded slash")]
    Ambiguous,
    /// A segment is empty, or some servers would read it as empty or as dots.
    #[error("a part of the path is empty, or has only dots")]
    Segment,
}

/// Returns whether the path of a scope may contain this byte. The permitted bytes are `pchar` and `/` of RFC 3986 §3.3,
/// with three exceptions: `,` separates scopes, `;` begins parameters, and `*` looks like a pattern.
fn is_allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()+=:@%/".contains(&byte)
}

/// Returns [`ScopePathError`] if the path is malformed, or has more than one reading.
fn decoded(path: &str) -> Result<Cow<'_, str>, ScopePathError> {
    // `?` and `#` end a path in a URL, so a path can contain them only in encoded form.
    if path.contains(['?', '#']) {
        return Err(ScopePathError::Character);
    }
    let decoded =
        if path.contains('%') { Cow::Owned(percent_decoded(path)?) } else { Cow::Borrowed(path) };
    if decoded.chars().any(is_ambiguous) {
        return Err(ScopePathError::Ambiguous);
    }
    if has_encoding(&decoded) {
        return Err(ScopePathError::Encoding);
    }
    let below = match decoded.strip_prefix('/') {
        Some(below) => below,
        None if decoded.is_empty() => "",
        None => return Err(ScopePathError::Start),
    };
    let mut segments = below.split('/').peekable();
    while let Some(segment) = segments.next() {
        // A slash may be at the end of a path.
        let is_end = segment.is_empty() && segments.peek().is_none();
        // If a service decodes the path twice, the path that it reads ends at an encoded `?` or `#`. Some servers
        // ignore blanks and dots at the end of a segment.
        let name = segment.split(['?', '#']).next().unwrap_or_default();
        if !is_end && has_only_dots(name) {
            return Err(ScopePathError::Segment);
        }
    }
    Ok(decoded)
}

/// Returns whether some servers read the name of a segment as nothing or as dots. These servers ignore blanks and
/// invisible characters, and some of them decode `+` to a blank.
fn has_only_dots(name: &str) -> bool {
    let seen = name.trim_matches(|char: char| char == '.' || is_blank(char));
    seen.is_empty()
        || (name.contains('.') && seen.chars().all(|c| c == '.' || c == '+' || is_blank(c)))
}

/// Returns whether a character is white space, or is ignored in a comparison of names (`Default_Ignorable_Code_Point`
/// of Unicode Standard Annex 44).
fn is_blank(char: char) -> bool {
    char.is_whitespace()
        || matches!(
            char,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'
                | '\u{1160}'
                | '\u{17b4}'
                | '\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{202a}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fff8}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// Decodes the percent-encoding of a path. An encoded slash is an error, because it would separate segments.
fn percent_decoded(path: &str) -> Result<String, ScopePathError> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, after @ ..] = rest {
        let (byte, tail) = match (first, after) {
            (b'%', [high, low, tail @ ..]) => match hexadecimal::byte(*high, *low) {
                Some(byte) => (byte, tail),
                None => return Err(ScopePathError::Encoding),
            },
            (b'%', _) => return Err(ScopePathError::Encoding),
            _ => (*first, after),
        };
        if *first == b'%' && byte == b'/' {
            return Err(ScopePathError::Ambiguous);
        }
        decoded.push(byte);
        rest = tail;
    }
    // A server that does not check UTF-8 strictly could read an overlong encoding as a slash or a dot.
    String::from_utf8(decoded).map_err(|_| ScopePathError::Encoding)
}

/// Returns whether a second decoding would change a decoded path. `%u` is an encoding that some servers know.
fn has_encoding(decoded: &str) -> bool {
    decoded.as_bytes().windows(3).any(|bytes| match bytes {
        [b'%', b'u' | b'U', _] => true,
        [b'%', high, low] => hexadecimal::byte(*high, *low).is_some(),
        _ => false,
    })
}

/// Returns whether some servers give a character another meaning. Such characters are control characters, the backslash
/// and the semicolon. A conversion of the character set may also turn other characters into one of `% . / ; \ ? #`. For
/// example, the mappings of Unicode Standard Annex 15 turn some characters into a text that begins with one of these
/// seven characters, or that contains a slash. In code pages of Japan and Korea, the yen and won signs have the code of
/// the backslash.
fn is_ambiguous(char: char) -> bool {
    let is_look_alike = matches!(
        char,
        '\u{a5}'
            | '\u{37e}'
            | '\u{2024}'
            ..='\u{2026}'
                | '\u{2047}'..='\u{2049}'
                | '\u{20a9}'
                | '\u{2100}'
                | '\u{2101}'
                | '\u{2105}'
                | '\u{2106}'
                | '\u{fe16}'
                | '\u{fe56}'
                | '\u{fe5f}'
                | '\u{ff03}'
                | '\u{ff1f}'
                | '\u{ffe5}'
                | '\u{ffe6}'
                | '\u{2044}'
                | '\u{2215}'
                | '\u{2216}'
                | '\u{29f5}'
                | '\u{29f8}'
                | '\u{29f9}'
                | '\u{fe14}'
                | '\u{fe19}'
                | '\u{fe30}'
                | '\u{fe52}'
                | '\u{fe54}'
                | '\u{fe68}'
                | '\u{fe6a}'
                | '\u{ff05}'
                | '\u{ff0e}'
                | '\u{ff0f}'
                | '\u{ff1b}'
                | '\u{ff3c}'
    );
    char.is_control() || matches!(char, '\\' | ';') || is_look_alike
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn permits(scope: &str, path: &str) -> bool {
        let scope = ScopePath::new(scope).unwrap();
        UnambiguousPath::new(path).is_some_and(|path| scope.permits(&path))
    }

    #[test]
    fn paths_of_scopes_are_parsed_or_refused() {
        use ScopePathError::{Ambiguous, Character, Encoding, Segment, Start, TooLong};
        let longest = format!("/{}", "a".repeat(MAX_SCOPE_PATH_LEN - 1));
        let too_long = format!("{longest}a");
        for (path, want) in [
            ("/", Ok(())),
            ("/a", Ok(())),
            ("/a/", Ok(())),
            ("/a/B.c/IBMUSER.JCL(X)", Ok(())),
            ("/a%2Cb/%20x/%c3%9C/100%25", Ok(())),
            ("/.well-known/...a", Ok(())),
            ("/u/$HOME/@a/~b/x=y&z'!:+", Ok(())),
            (&longest, Ok(())),
            (&too_long, Err(TooLong)),
            ("", Err(Start)),
            ("a", Err(Start)),
            ("%2Fa", Err(Start)),
            ("/a,b", Err(Character)),
            ("/a;b", Err(Character)),
            ("/a/*", Err(Character)),
            ("/a?b", Err(Character)),
            ("/a#b", Err(Character)),
            ("/a b", Err(Character)),
            ("/a\\b", Err(Character)),
            ("/ä", Err(Character)),
            ("/a\0", Err(Character)),
            ("/%", Err(Encoding)),
            ("/%4", Err(Encoding)),
            ("/%zz", Err(Encoding)),
            ("/%+4", Err(Encoding)),
            ("/%252e", Err(Encoding)),
            ("/%ff", Err(Encoding)),
            ("/%c0%af", Err(Encoding)),
            ("/%2f", Err(Ambiguous)),
            ("/%5C", Err(Ambiguous)),
            ("/%3b", Err(Ambiguous)),
            ("/%00", Err(Ambiguous)),
            ("//a", Err(Segment)),
            ("/a//b", Err(Segment)),
            ("/a//", Err(Segment)),
            ("/.", Err(Segment)),
            ("/a/..", Err(Segment)),
            ("/a/%2e%2E/b", Err(Segment)),
            ("/a/...", Err(Segment)),
            ("/a/..%20", Err(Segment)),
        ] {
            assert_eq!(ScopePath::new(path).map(|_| ()), want, "{path}");
        }
    }

    #[test]
    fn a_path_permits_itself_and_the_paths_below_it() {
        for (scope, path, want) in [
            ("/a/b", "/a/b", true),
            ("/a/b", "/a/b/", true),
            ("/a/b", "/a/b/c", true),
            ("/a/b", "/a/bc", false),
            ("/a/b", "/a/B", false),
            ("/a/b", "/A/b", false),
            ("/a/b", "/a", false),
            ("/a/b", "/a/", false),
            ("/a/b", "/x/a/b", false),
            ("/a/b/", "/a/b", true),
            ("/a/b/", "/a/b/c", true),
            ("/a/b/", "/a/bc", false),
            ("/", "", true),
            ("/", "/", true),
            ("/", "/x", true),
            ("/a", "", false),
            ("/a", "/", false),
            ("/a/b", "/%61/%62/x", true),
            ("/%61", "/a", true),
            ("/a%2Cb", "/a,b", true),
            ("/a%2Cb", "/a%2cb/x", true),
            ("/a%2Cb", "/a", false),
            ("/%2A", "/*", true),
            ("/ds/MY.%23DATA", "/ds/MY.%23DATA", true),
            ("/ds/MY.%23DATA", "/ds/MY.", false),
            ("/%C3%9C", "/Ü/x", true),
            ("/Dir", "/%44ir", true),
            ("/a", "/a/+/b", true),
            ("/a", "/a/c++/..x/x..", true),
            ("/a", "/a/\u{1f468}\u{200d}\u{1f469}", true),
            ("/Dir", "/%64ir", false),
        ] {
            assert_eq!(permits(scope, path), want, "{scope} {path}");
        }
    }

    #[test]
    fn a_path_with_more_than_one_reading_is_never_permitted() {
        for rest in [
            "/..",
            "/../b",
            "/../b/../a/x",
            "/.",
            "/./x",
            "/...",
            "/.%2e/b",
            "/%2e%2e/b",
            "/%2E/b",
            "/%252e%252e/b",
            "/%25252e",
            "/%25%32%65",
            "/%25u002e",
            "/%u002e",
            "//b",
            "/b//",
            "/x//..",
            ";",
            ";x=1",
            "/;/..",
            "/..;/b",
            "/b;jsessionid=1",
            "/%3b",
            "/%3B..",
            "\\..\\b",
            "/%5c..%5Cb",
            "/..%5cb",
            "/..%2fb",
            "%2f",
            "%2F..%2Fb",
            "/b%2Fc",
            "/%00",
            "/b%00.txt",
            "/%0d%0a",
            "/%7f",
            "/%c2%85",
            "/\t",
            "/%",
            "/%2",
            "/%g0",
            "/b%",
            "/%c0%ae%c0%ae/b",
            "/%c0%af",
            "/%e0%80%af",
            "/%ff",
            "/%ed%a0%80",
            "/%ef%bc%8e%ef%bc%8e/b",
            "/%ef%bc%8fb",
            "/%e2%80%a5/b",
            "/%e2%88%95b",
            "/\u{ff0e}\u{ff0e}/b",
            "/..%cd%be/b",
            "/..\u{ff1f}/b",
            "/..\u{fe5f}b",
            "/x\u{2105}/b",
            "/\u{a5}..\u{a5}b",
            "/..%c2%a0/b",
            "/..%e3%80%80/b",
            "/..%e2%80%8b/b",
            "/.%e2%80%8d./b",
            "/%ef%bb%bf../b",
            "/%c2%ad/b",
            "/..+/b",
            "/+../b",
            "/.+./b",
            "/..%2b/b",
            "/..%20/b",
            "/%20/b",
            "/. ./b",
            "/..%3f/b",
            "/..%23",
            "/%3f",
            "?x",
            "#x",
        ] {
            let path = format!("/a{rest}");
            assert!(!permits("/a", &path), "{path}");
            assert!(!permits("/", &path), "{path}");
        }
        for path in ["a", "*", ".", "%2fa"] {
            assert!(!permits("/", path), "{path}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_text_is_a_path_or_an_error(scope in "\\PC{0,20}", path in "(/|[.%;?a-f0-9\\\\]|\\PC){0,20}") {
            let _ = ScopePath::new(&format!("/{scope}"));
            let _ = UnambiguousPath::new(&path);
        }

        #[test]
        fn a_permitted_path_stays_below_the_scope_after_more_decodings(path in "(/|[.%;?#a2-9efc\\\\ ]){0,12}") {
            let path = format!("/a{path}");
            if permits("/a", &path) {
                let mut reading = path;
                for _ in 0..3 {
                    let end = reading.find(['?', '#', ';', '\0']).unwrap_or(reading.len());
                    let plain = reading[..end].replace('\\', "/");
                    let mut stack = Vec::new();
                    for segment in plain.split('/').filter(|it| !matches!(*it, "" | ".")) {
                        if segment == ".." { stack.pop(); } else { stack.push(segment); }
                    }
                    prop_assert_eq!(stack.first().copied(), Some("a"), "{}", plain);
                    let bytes = percent_decoded(&reading);
                    let Ok(again) = bytes else { break };
                    reading = again;
                }
            }
        }

        #[test]
        fn a_path_scope_permits_the_path_that_it_names(path in "(/[a-zA-Z0-9._~-]{1,6}|/%[2-7][1-9a-e]){1,5}") {
            if let Ok(scope) = ScopePath::new(&path) {
                prop_assert!(permits(&path, scope.as_str()));
                let [below, longer] = ["/x", "x"].map(|end| path.clone() + end);
                prop_assert!(permits(&path, &below) && !permits(&path, &longer));
            }
        }
    }
}
