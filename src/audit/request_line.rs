//! The method and path of a request, for audit records.

use std::fmt;

use http::{Method, Uri};

use crate::hexadecimal;

/// The maximum length of a path in a record, in bytes.
const MAX_PATH: usize = 512;

/// A path with fewer bytes cannot contain a signed JSON Web Token. The shortest signature has 43 characters (HS256, RFC
/// 7518 §3.2), and the shortest header for this signature has 20 characters.
const MIN_TOKEN: usize = 64;

/// The maximum length of a method in a record, in bytes.
const MAX_METHOD: usize = 32;

/// The method and path of a request, without the query.
///
/// A path is cut off after 512 bytes, and a method after 32 bytes. A text that is cut off ends with `…`. A byte that is
/// not ASCII is percent-encoded, because some terminals and readers of lines treat characters such as U+009B and U+2028
/// as control characters. A record must not contain a token, and a JSON Web Token usually begins with `eyJ`. So in a
/// path of 64 bytes or more, each segment that contains `eyJ` is written as `(token)`. In a shorter path, this happens
/// only if the path is not ASCII or the method is cut off.
///
/// ```
/// use http::{Method, Uri};
/// use tower_passticket::audit::RequestLine;
///
/// let uri = Uri::from_static("https://gw:7554/files/api/v1/x?secret=1");
/// let line = RequestLine::new(&Method::GET, &uri);
/// assert_eq!((line.method(), line.path()), ("GET", "/files/api/v1/x"));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct RequestLine {
    /// The method, directly followed by the path. One text needs only one allocation.
    text: Box<str>,
    method_length: u8,
}

impl RequestLine {
    /// Creates the request line from the method and the URI of a request.
    pub fn new(method: &Method, uri: &Uri) -> Self {
        let (method, path) = (method.as_str(), uri.path());
        let is_short = method.len() <= MAX_METHOD && path.len() <= MAX_PATH;
        if !is_short
            || !path.is_ascii()
            || (path.len() >= MIN_TOKEN && may_have_token(path.as_bytes()))
        {
            return Self::shortened(method, path);
        }
        let mut text = String::with_capacity(method.len() + path.len());
        text.push_str(method);
        text.push_str(path);
        Self { text: text.into_boxed_str(), method_length: method.len() as u8 }
    }

    #[cold]
    fn shortened(method: &str, path: &str) -> Self {
        let mut text = cut(method, MAX_METHOD);
        let method_length = text.len() as u8;
        let segments = path.split('/');
        let segments =
            segments.map(|text| if may_have_token(text.as_bytes()) { "(token)" } else { text });
        let path = percent_encoded(&segments.collect::<Vec<_>>().join("/"));
        text.push_str(&cut(&path, MAX_PATH));
        Self { text: text.into_boxed_str(), method_length }
    }

    /// Returns the method, such as `GET`.
    pub fn method(&self) -> &str {
        &self.text[..self.method_length.into()]
    }

    /// Returns the path, such as `/files/api/v1/x`.
    pub fn path(&self) -> &str {
        &self.text[self.method_length.into()..]
    }
}

/// Returns whether the text contains `eyJ`, with which the Base64 form of most JSON objects begins. Each of the three
/// letters may be percent-encoded (RFC 3986 §2.1).
///
/// This function does not use `str::contains`. With a second caller, the compiler no longer specializes `str::contains`
/// for the constant argument in `RouteLayer`, which costs 380 instructions per request.
pub(crate) fn may_have_token(text: &[u8]) -> bool {
    (0..text.len()).any(|at| begins_token(&text[at..]))
}

#[inline]
fn begins_token(mut text: &[u8]) -> bool {
    b"eyJ".iter().all(|wanted| {
        let (found, rest) = match text {
            [b'%', high, low, rest @ ..] => (hexadecimal::byte(*high, *low), rest),
            [byte, rest @ ..] => (Some(*byte), rest),
            [] => return false,
        };
        text = rest;
        found == Some(*wanted)
    })
}

fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii() {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

fn cut(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let end = (0..=max).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", &text[..end])
}

impl fmt::Debug for RequestLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestLine({} {:?})", self.method(), self.path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_short_and_have_neither_a_query_nor_a_token() {
        let long = "a".repeat(MAX_PATH + 1);
        // The shortest signed token: {"alg":"HS256"}, {} and a signature.
        let token = format!("eyJhbGciOiJIUzI1NiJ9.e30.{}", "s".repeat(43));
        for (method, uri, want) in [
            ("GET", "/a/b?c=d", "GET /a/b"),
            ("GET", "/", "GET /"),
            ("POST", "https://u:p@gw:1/x?y", "POST /x"),
            ("OPTIONS", "*", "OPTIONS *"),
            ("CONNECT", "gw:443", "CONNECT "),
            ("BASELINE-CONTROL", "/x", "BASELINE-CONTROL /x"),
            ("GET", "/a\"b\\", "GET /a\"b\\"),
            ("GET", &format!("/{token}"), "GET /(token)"),
            ("GET", &format!("/invalidate/{token}/x"), "GET /invalidate/(token)/x"),
            ("GET", &format!("/a/x;t={token}"), "GET /a/(token)"),
            ("GET", &format!("/a/%65%79%4a{}", &token[3..]), "GET /a/(token)"),
            ("GET", &format!("/a/e%79%4A{}", &token[3..]), "GET /a/(token)"),
            ("GET", &format!("/%65y/J/%{}", &token[3..]), &format!("GET /%65y/J/%{}", &token[3..])),
            ("GET", "/keyJar", "GET /keyJar"),
            ("GET", "/\u{9b}31m/\u{2028}é", "GET /%C2%9B31m/%E2%80%A8%C3%A9"),
            (&"M".repeat(MAX_METHOD), "/", &format!("{} /", "M".repeat(MAX_METHOD))),
            (&"M".repeat(300), "/", &format!("{}… /", "M".repeat(MAX_METHOD))),
            ("GET", &format!("/{}", &long[2..]), &format!("GET /{}", &long[2..])),
            ("GET", &format!("/{long}?q"), &format!("GET /{}…", &long[2..])),
            ("GET", &format!("/eyJ{long}"), "GET /(token)"),
        ] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let line = RequestLine::new(&method, &uri.parse().unwrap());
            assert_eq!(format!("{} {}", line.method(), line.path()), want);
        }
    }

    /// In JSON, a path needs no escapes for control characters.
    #[test]
    fn a_path_has_no_control_characters() {
        for byte in 0..=0x1f_u8 {
            let uri = [b"/a".as_slice(), &[byte], b"b"].concat();
            assert!(Uri::try_from(uri).is_err(), "{byte}");
        }
    }

    #[test]
    fn a_text_is_cut_at_the_end_of_a_character() {
        assert_eq!(cut("aé", 3), "aé");
        assert_eq!(cut("aéb", 2), "a…");
        assert_eq!(cut("aéb", 3), "aé…");
    }
}
