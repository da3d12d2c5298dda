//! The address of a service.

use std::{fmt, net::IpAddr, str::FromStr};

use http::Uri;

use super::client::RemoteError;
use crate::authority::is_host_and_port;

/// The URL of a service: `http` or `https`, a host, and optionally a port and a path.
///
/// Use `http` only for the loopback interface. Requests may contain a token or a password, which an attacker who can
/// read the traffic could use. [`is_protected`](Self::is_protected) returns whether an address follows this rule.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Address(Uri);

impl Address {
    /// Parses `https://host[:port][/path]` or `http://host[:port][/path]`.
    ///
    /// # Errors
    /// [`AddressError`] if the text has another form, or contains `@`, `?` or `#`. The error contains up to 200
    /// characters of the text. If the text contains `@`, the error contains no part of it, because the part before the
    /// `@` may contain a password.
    pub fn parse(url: &str) -> Result<Self, AddressError> {
        let error = || AddressError(url.chars().take(200).collect());
        if url.contains('@') {
            return Err(AddressError("(a URL with \"@\")".to_owned()));
        }
        // A fragment is refused here, because `Uri` would drop it without an error.
        if url.contains(['?', '#']) {
            return Err(error());
        }
        let uri: Uri = url.parse().map_err(|_| error())?;
        let known = matches!(uri.scheme_str(), Some("http" | "https"));
        if !known || !uri.authority().is_some_and(is_host_and_port) {
            return Err(error());
        }
        Ok(Self(uri))
    }

    /// Returns whether the traffic is encrypted (`https`) or stays on the loopback interface.
    pub fn is_protected(&self) -> bool {
        let host = self.0.host().unwrap_or_default();
        let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
        self.0.scheme_str() == Some("https")
            || host.eq_ignore_ascii_case("localhost")
            || ip.is_ok_and(|ip| ip.is_loopback())
    }

    pub(crate) fn uri(&self) -> Uri {
        self.0.clone()
    }

    /// Does the same as [`join`](Self::join), for segments that are constants of the program.
    ///
    /// # Errors
    /// [`RemoteError::Answer`] if the result is too long for a URI.
    pub(crate) fn endpoint(&self, segments: &[&str]) -> Result<Uri, RemoteError> {
        let uri = self.join(segments);
        uri.ok_or_else(|| RemoteError::Answer("the address is too long".to_owned()))
    }

    /// Adds path segments to the address. Each segment is percent-encoded (RFC 3986 §2.1). A slash at the end of the
    /// address makes no difference. Returns `None` if a segment is empty, `.` or `..`, because a server may remove or
    /// resolve such a segment, even if it is encoded. Also returns `None` if the result is too long for a URI.
    pub(crate) fn join(&self, segments: &[&str]) -> Option<Uri> {
        let mut url = self.0.to_string();
        url.truncate(url.trim_end_matches('/').len());
        for segment in segments {
            if matches!(*segment, "" | "." | "..") {
                return None;
            }
            url.push('/');
            for byte in segment.bytes() {
                if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                    url.push(char::from(byte));
                } else {
                    url.push_str(&format!("%{byte:02X}"));
                }
            }
        }
        url.parse().ok()
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(url: &str) -> Result<Self, AddressError> {
        Self::parse(url)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

/// The text is not the address of a service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the address of a service; use https://host:port/path, without user, ? and #")]
pub struct AddressError(String);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_address_is_protected_by_tls_or_on_loopback() {
        for (url, want) in [
            ("https://gw.example:7554", true),
            ("http://localhost:1/x", true),
            ("http://127.0.0.1", true),
            ("http://[::1]:8542/", true),
            ("http://gw.example", false),
            ("http://localhost.example", false),
            ("http://10.0.0.1", false),
        ] {
            assert_eq!(Address::parse(url).unwrap().is_protected(), want, "{url}");
        }
    }

    #[test]
    fn an_address_is_http_or_https_with_a_host() {
        for good in ["http://localhost", "https://gw.example:7554/zss/api/v1/x", "https://[::1]:1/"]
        {
            assert!(Address::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "localhost:1",
            "/path",
            "ftp://host/",
            "https://",
            "https:///x",
            "https://host:port/",
            "https://host:99999/",
            "https://host/?a=b",
            "https://host/#x",
            "https://host/a b",
        ] {
            let error = Address::parse(bad).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{bad:?} is not the address")), "{error}");
        }
        let error = Address::parse("https://user:secret@host/").unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    #[test]
    fn segments_are_percent_encoded() {
        for (base, segments, want) in [
            ("http://h", vec!["APIML.SERVICES", "READ"], Some("http://h/APIML.SERVICES/READ")),
            ("http://h/a/", vec!["b"], Some("http://h/a/b")),
            ("http://h/a", vec!["b/../c", "%2e"], Some("http://h/a/b%2F..%2Fc/%252e")),
            ("http://h/a", vec!["\u{a7} #?&"], Some("http://h/a/%C2%A7%20%23%3F%26")),
            ("http://h/a", vec!["a\r\nb\0"], Some("http://h/a/a%0D%0Ab%00")),
            ("http://h/a", vec!["..", "x"], None),
            ("http://h/a", vec!["."], None),
            ("http://h/a", vec![""], None),
        ] {
            let got = Address::parse(base).unwrap().join(&segments);
            assert_eq!(got.map(|uri| uri.to_string()).as_deref(), want, "{segments:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_text_becomes_exactly_one_path_segment(text in any::<String>(), url in any::<String>()) {
            let _ = Address::parse(&url);
            let _ = Address::parse(&format!("https://{url}"));
            let address = Address::parse("http://h/a").unwrap();
            if let Some(uri) = address.join(&[&text, "READ"]) {
                prop_assert_eq!(uri.path().split('/').count(), 4);
                prop_assert!(uri.path().ends_with("/READ") && uri.query().is_none());
            }
        }
    }
}
