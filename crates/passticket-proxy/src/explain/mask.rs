//! Shows headers without their secrets.

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderName, header};
use tower_passticket::{
    layer::X_ZOWE_AUTH_FAILURE,
    passticket::{PassTicket, UserId},
};

/// The maximum number of characters of a value that is shown. A longer value is cut off.
const MAX_VALUE: usize = 256;

const MASK: &str = "********";

/// Returns the names of the headers for which `after` has fewer values than `before`. Also returns `Cookie` if its
/// value has changed.
pub(super) fn removed(before: Option<&HeaderMap>, after: Option<&HeaderMap>) -> Vec<HeaderName> {
    let (Some(before), Some(after)) = (before, after) else { return Vec::new() };
    let is_removed = |name: &&HeaderName| {
        let kept = after.get_all(*name).iter();
        before.get_all(*name).iter().count() > kept.count()
            || (**name == header::COOKIE && before.get(*name) != after.get(*name))
    };
    before.keys().filter(is_removed).cloned().collect()
}

/// Returns the headers that the service receives, with masked secrets. `own` are the headers before the layer of the
/// scheme, and `scheme` are the headers after this layer. A header that differs between `own` and
/// `scheme` comes from the scheme.
pub(super) fn service_headers(
    headers: &HeaderMap,
    own: Option<&HeaderMap>,
    scheme: Option<&HeaderMap>,
) -> Vec<(String, String)> {
    let is_of_scheme = |name: &HeaderName| {
        let (Some(own), Some(scheme)) = (own, scheme) else { return false };
        scheme.get(name).is_some() && own.get(name) != scheme.get(name)
    };
    let shown = headers.iter().map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        let value = match is_of_scheme(name) {
            true => scheme_value(name, &value),
            false => client_value(name, &value),
        };
        (name.to_string(), shortened(value))
    });
    shown.collect()
}

/// Masks the secrets in the value of a header that the scheme has set.
fn scheme_value(name: &HeaderName, value: &str) -> String {
    if *name == X_ZOWE_AUTH_FAILURE || name.as_str().starts_with("x-certificate-") {
        return value.to_owned();
    }
    match basic(value) {
        Some((user, _)) => format!("Basic {user}:{MASK}"),
        // A user id in a custom header is no secret.
        None if UserId::new(value).is_ok_and(|user| user.as_str() == value)
            && PassTicket::parse(value).is_err() =>
        {
            value.to_owned()
        }
        None => MASK.to_owned(),
    }
}

/// The headers whose values are shown, after the tokens in them are replaced. Any other header may contain a secret,
/// whatever its name is.
const SHOWN: [&str; 37] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "cache-control",
    "connection",
    "content-encoding",
    "content-language",
    "content-length",
    "content-type",
    "date",
    "expect",
    "forwarded",
    "host",
    "if-modified-since",
    "if-unmodified-since",
    "max-forwards",
    "origin",
    "pragma",
    "range",
    "sec-fetch-dest",
    "sec-fetch-mode",
    "sec-fetch-site",
    "te",
    "traceparent",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-request-id",
    "x-requested-with",
];

/// Masks a value that may be a secret. The client has sent the header, or the proxy has added it.
fn client_value(name: &HeaderName, value: &str) -> String {
    match SHOWN.contains(&name.as_str()) || *name == X_ZOWE_AUTH_FAILURE {
        true => without_tokens(value),
        false => MASK.to_owned(),
    }
}

/// Replaces the tokens in a text, such as a path.
pub(super) fn without_tokens(text: &str) -> String {
    let is_of_token = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let mut safe = String::with_capacity(text.len());
    for piece in text.split_inclusive(|c| !is_of_token(c)) {
        let word = piece.trim_end_matches(|c| !is_of_token(c));
        let is_jwt = word.contains("eyJ") && word.matches('.').count() >= 2;
        match is_jwt || word.contains("zowepat_") {
            true => safe.push_str(MASK),
            false => safe.push_str(word),
        }
        safe.push_str(&piece[word.len()..]);
    }
    safe
}

pub(super) fn header_texts(headers: &HeaderMap) -> Vec<String> {
    // `explain` does not send the request to the service. A server in this process takes the request, and adds these
    // two headers to its response, so they are left out.
    let of_service = |name: &HeaderName| [header::CONTENT_LENGTH, header::DATE].contains(name);
    let headers = headers.iter().filter(|(name, _)| !of_service(name));
    let texts = headers.map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes());
        let value = match *name == header::SET_COOKIE {
            true => MASK.to_owned(),
            false => value.into_owned(),
        };
        format!("{name}: {}", shortened(value))
    });
    texts.collect()
}

pub(super) fn shortened(value: String) -> String {
    match value.char_indices().nth(MAX_VALUE) {
        None => value,
        Some((at, _)) => format!("{}… ({} bytes)", &value[..at], value.len()),
    }
}

/// Returns the user and the password in `Authorization: Basic`.
pub(super) fn basic(value: &str) -> Option<(String, String)> {
    let encoded = value.strip_prefix("Basic ")?;
    let text = String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn secrets_are_masked() {
        let header = |name: &'static str| HeaderName::from_static(name);
        for (name, value, of_client, of_scheme) in [
            ("authorization", "Basic VVNFUjpzZWNyZXQ=", MASK, "Basic USER:********"),
            ("authorization", "Bearer a.b.c", MASK, MASK),
            ("private-token", "abc", MASK, MASK),
            ("x-saf-token", "abc", MASK, MASK),
            ("cookie", "a=b", MASK, MASK),
            ("accept", "text/html", "text/html", MASK),
            ("customuser", "USER", MASK, "USER"),
            ("customticket", "QHOAH1TV", MASK, MASK),
            ("x-jwt", "a.b.c", MASK, MASK),
            ("referer", "https://a/?access_token=x", MASK, MASK),
            ("user-agent", "curl/8.0", "curl/8.0", MASK),
            ("x-certificate-commonname", "USER", MASK, "USER"),
            ("x-zowe-auth-failure", "ZWEAG102E", "ZWEAG102E", "ZWEAG102E"),
        ] {
            let name = header(name);
            assert_eq!(client_value(&name, value), of_client, "{name}");
            assert_eq!(scheme_value(&name, value), of_scheme, "{name}");
        }
    }

    #[test]
    fn tokens_in_a_path_are_masked() {
        for (path, masked) in [
            ("/svc/api/v1/a.b.c", "/svc/api/v1/a.b.c"),
            ("/svc/eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJVIn0.c2ln/x", "/svc/********/x"),
            ("/svc;t=eyJh.eyJz.c2ln", "/svc;t=********"),
            ("/svc/zowepat_eyJh.eyJz.c2ln", "/svc/********"),
            ("/é/eyJh.eyJz.c2ln", "/é/********"),
            ("", ""),
        ] {
            assert_eq!(without_tokens(path), masked, "{path}");
        }
    }

    #[test]
    fn removed_headers_are_found() {
        let mut before = HeaderMap::new();
        for (name, value) in [("accept", "a"), ("cookie", "a=1; b=2"), ("x-a", "1"), ("x-a", "2")] {
            before.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let mut after = HeaderMap::new();
        after.insert("accept", HeaderValue::from_static("b"));
        after.insert("cookie", HeaderValue::from_static("b=2"));
        after.insert("x-a", HeaderValue::from_static("2"));
        let names: Vec<_> = removed(Some(&before), Some(&after)).into_iter().collect();
        assert_eq!(names, ["cookie", "x-a"]);
    }
}
