//! The URL of the requests.

use std::str::FromStr;

use http::{Uri, uri::Scheme};
use rustls::pki_types::ServerName;

#[derive(Clone, Debug)]
pub(crate) struct Target {
    uri: Uri,
    host: String,
    port: u16,
}

/// Why a URL cannot be used. The messages do not contain the URL, because it may contain a secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TargetError {
    #[error("--url must be a URL such as https://gateway.example.com:7554/service/api/v1/path")]
    Form,
    #[error(
        "--url contains a user or a password; write them into a file, and use --credential basic:FILE"
    )]
    UserInfo,
    #[error("the host of --url is not a valid name or address")]
    Host,
}

impl Target {
    pub(crate) fn is_tls(&self) -> bool {
        self.uri.scheme() == Some(&Scheme::HTTPS)
    }

    /// Returns the host without the brackets of an IPv6 address, and the port.
    pub(crate) fn address(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// Returns the name that the certificate of the gateway must have.
    pub(crate) fn server_name(&self) -> ServerName<'static> {
        ServerName::try_from(self.host.clone()).expect("`from_str` has checked the name")
    }

    pub(crate) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Returns the host and the port as in the URL: the value of the header `Host`.
    pub(crate) fn authority(&self) -> &str {
        self.uri.authority().expect("`from_str` has checked the authority").as_str()
    }

    /// Returns the URL without its query, which may contain a secret.
    pub(crate) fn shown(&self) -> String {
        let scheme = if self.is_tls() { "https" } else { "http" };
        let query = if self.uri.query().is_some() { "?..." } else { "" };
        format!("{scheme}://{}{}{query}", self.authority(), self.uri.path())
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let uri: Uri = text.parse().map_err(|_| TargetError::Form)?;
        let authority = uri.authority().ok_or(TargetError::Form)?;
        if authority.as_str().contains('@') {
            return Err(TargetError::UserInfo);
        }
        let default_port = match uri.scheme_str() {
            Some("https") => 443,
            Some("http") => 80,
            _ => return Err(TargetError::Form),
        };
        let port = authority.port_u16().unwrap_or(default_port);
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        ServerName::try_from(host.as_str()).map_err(|_| TargetError::Host)?;
        Ok(Self { host, port, uri })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_a_host_a_port_and_no_shown_secret() {
        for (url, tls, host, port, shown) in [
            ("http://a:1/x", false, "a", 1, "http://a:1/x"),
            ("https://a.example", true, "a.example", 443, "https://a.example/"),
            ("http://[::1]/x?token=secret", false, "::1", 80, "http://[::1]/x?..."),
        ] {
            let target: Target = url.parse().unwrap();
            assert_eq!((target.is_tls(), target.address()), (tls, (host, port)));
            assert_eq!(target.shown(), shown);
        }
        for url in
            ["", "/x", "a:1", "ftp://a/", "https://u:secret@a/", "http://a b/", "http://-_-!/"]
        {
            let error = url.parse::<Target>().unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
