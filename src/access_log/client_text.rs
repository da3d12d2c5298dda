//! Reads the texts that the client has sent, and that the access log contains. Each text has a maximum length. All
//! characters are printable ASCII, except the `…` at the end of a `Referer` that is cut off.

use http::{HeaderMap, HeaderValue, Method, Uri, header::REFERER, header::USER_AGENT};

use crate::{
    audit::{RequestLine, X_REQUEST_ID, may_have_token},
    connection::ConnectionInfo,
};

/// The maximum length of `User-Agent` in a line. The rest is cut off.
const MAX_USER_AGENT: usize = 256;

/// The maximum length of the host in a `Referer`.
const MAX_HOST: usize = 255;

/// The maximum length of the request id of a trusted proxy. A longer id is left out.
const MAX_ID: usize = 128;

const TOKEN: &str = "(token)";

/// Returns `User-Agent`, or `(token)` if it may contain a token. Characters that are not printable ASCII are replaced
/// by `?`.
pub(super) fn user_agent(headers: &HeaderMap) -> Option<Box<str>> {
    let value = headers.get(USER_AGENT)?.as_bytes();
    if may_have_token(value) {
        return Some(TOKEN.into());
    }
    let printable = |byte: &u8| if matches!(byte, b' '..=b'~') { char::from(*byte) } else { '?' };
    Some(value.iter().take(MAX_USER_AGENT).map(printable).collect())
}

/// Returns `Referer` without its query, its fragment and its user. Returns `None` if the `Referer` is not an absolute
/// `http` or `https` URL. Also returns `None` if the host is too long, or may contain a token.
pub(super) fn referer(headers: &HeaderMap) -> Option<Box<str>> {
    let uri = Uri::try_from(headers.get(REFERER)?.as_bytes()).ok()?;
    let (scheme, host) = (uri.scheme_str()?, uri.host()?);
    if !matches!(scheme, "http" | "https")
        || host.len() > MAX_HOST
        || may_have_token(host.as_bytes())
    {
        return None;
    }
    let port = uri.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
    let line = RequestLine::new(&Method::GET, &uri);
    Some(format!("{scheme}://{host}{port}{}", line.path()).into())
}

/// Returns the request id of the client, if the peer is a trusted proxy. Returns `None` if the id is longer than
/// [`MAX_ID`], contains unusual characters, or may contain a token.
pub(super) fn client_request_id(
    headers: &HeaderMap,
    connection: Option<&ConnectionInfo>,
) -> Option<Box<str>> {
    // If the client has sent `X-Request-Id`, and the proxy adds another one, the request has two ids. This function
    // then returns neither.
    let mut values = headers.get_all(&X_REQUEST_ID).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    connection.filter(|connection| connection.is_from_trusted_proxy())?;
    id(value)
}

fn id(value: &HeaderValue) -> Option<Box<str>> {
    let bytes = value.as_bytes();
    let is_allowed = |byte: &u8| {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'_' | b'.' | b':' | b'+' | b'/' | b'=' | b'@')
    };
    let is_id = (1..=MAX_ID).contains(&bytes.len()) && bytes.iter().all(is_allowed);
    if !is_id || may_have_token(bytes) {
        return None;
    }
    value.to_str().ok().map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &[u8]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_bytes(value).unwrap());
        headers
    }

    #[test]
    fn a_user_agent_is_short_and_printable() {
        let long = "a".repeat(300);
        for (value, want) in [
            ("curl/8.5.0", "curl/8.5.0"),
            ("a\"b\\c", "a\"b\\c"),
            ("a\tb\u{e9}\u{2028}", "a?b?????"),
            ("x eyJhbGciOiJIUzI1NiJ9.e30.x", "(token)"),
            (&long, &long[..256]),
        ] {
            let headers = headers("user-agent", value.as_bytes());
            assert_eq!(user_agent(&headers).as_deref(), Some(want), "{value:?}");
        }
        assert_eq!(user_agent(&HeaderMap::new()), None);
    }

    #[test]
    fn a_referer_has_neither_query_nor_user_nor_token() {
        for (value, want) in [
            ("https://u:secret@gw:7554/a/b?token=secret", Some("https://gw:7554/a/b")),
            ("https://gw/a#secret", Some("https://gw/a")),
            ("http://gw", Some("http://gw/")),
            ("/a/b", None),
            ("secret", None),
            ("about:blank", None),
            ("android-app://secret/x", None),
        ] {
            let headers = headers("referer", value.as_bytes());
            assert_eq!(referer(&headers).as_deref(), want, "{value}");
        }
        let token = format!("https://gw/reset/eyJ{}", "x".repeat(80));
        let headers = headers("referer", token.as_bytes());
        assert_eq!(referer(&headers).as_deref(), Some("https://gw/reset/(token)"));
    }

    #[test]
    fn an_id_has_a_maximum_length_and_ordinary_characters() {
        let (longest, too_long) = ("a".repeat(128), "a".repeat(129));
        for (value, is_id) in [
            ("4bf92f35-77b3:4da6_A.3/ce+9@x=", true),
            (&longest, true),
            (&too_long, false),
            ("", false),
            ("a b", false),
            ("a\"", false),
            ("a\\n", false),
            ("eyJhbGciOiJIUzI1NiJ9", false),
            ("caf\u{e9}", false),
        ] {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            assert_eq!(id(&value).is_some(), is_id, "{value:?}");
        }
    }
}
