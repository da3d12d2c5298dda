//! The address of a service.

use std::{fmt, str::FromStr};

use http::{
    Uri,
    uri::{Authority, Scheme as UriScheme},
};

use super::{path::is_ambiguous, route_error::RouteError};
use crate::authority::is_host_and_port;

/// The address of a service: URL scheme, host, port and base path. The host is in lower case, and the default port is
/// left out. So if two URLs differ only in the case of the host, or if only one of them has the default port, they are
/// equal. Routes with equal addresses share one limit of connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    scheme: UriScheme,
    authority: Authority,
    base_path: String,
}

impl Upstream {
    /// Parses `http://host[:port][/path]` or `https://…`.
    ///
    /// # Errors
    /// [`RouteError::Upstream`] if `url` is not the URL of a service. The error contains the beginning of `url`. If
    /// `url` contains `@`, the error does not contain it, because the part before the `@` can be a password.
    pub fn parse(url: &str) -> Result<Self, RouteError> {
        let error = || RouteError::upstream(url);
        url.parse::<Uri>().map_err(|_| error())?.try_into()
    }

    /// Returns the URL scheme: `http` or `https`.
    pub fn scheme(&self) -> &UriScheme {
        &self.scheme
    }

    /// Returns the host and the port, without the default port.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Returns whether this server has the host and the port of `authority`. `scheme` decides only the default port.
    pub(super) fn is_at(&self, authority: &Authority, scheme: &str) -> bool {
        is_host_and_port(authority)
            && authority.host().eq_ignore_ascii_case(self.host())
            && authority.port_u16().unwrap_or_else(|| default_port(scheme)) == self.port()
    }

    /// Returns the host.
    pub fn host(&self) -> &str {
        self.authority.host()
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.authority.port_u16().unwrap_or_else(|| default_port(self.scheme.as_str()))
    }

    /// Returns the base path. It does not end with `/`.
    pub(crate) fn base_path(&self) -> &str {
        &self.base_path
    }

    /// Returns the same address with `path` appended to the base path.
    #[must_use]
    pub fn join(&self, path: &str) -> Self {
        let path = path.trim_matches('/');
        let separator = if path.is_empty() { "" } else { "/" };
        Self { base_path: format!("{}{separator}{path}", self.base_path), ..self.clone() }
    }
}

impl TryFrom<Uri> for Upstream {
    type Error = RouteError;

    fn try_from(uri: Uri) -> Result<Self, RouteError> {
        let error = || RouteError::upstream(&uri.to_string());
        let scheme = uri
            .scheme()
            .filter(|s| **s == UriScheme::HTTP || **s == UriScheme::HTTPS)
            .ok_or_else(error)?;
        let authority = uri.authority().filter(|a| is_host_and_port(a)).ok_or_else(error)?;
        if uri.query().is_some() || is_ambiguous(uri.path()) {
            return Err(error());
        }
        let base_path = uri.path().trim_end_matches('/').to_owned();
        let authority = normalized(authority, scheme).ok_or_else(error)?;
        Ok(Self { scheme: scheme.clone(), authority, base_path })
    }
}

fn default_port(scheme: &str) -> u16 {
    if scheme == "http" { 80 } else { 443 }
}

/// Returns the normal form of a host and port (RFC 3986 §6.2.2.1 and §6.2.3).
fn normalized(authority: &Authority, scheme: &UriScheme) -> Option<Authority> {
    let host = authority.host().to_ascii_lowercase();
    match authority.port_u16().filter(|port| *port != default_port(scheme.as_str())) {
        Some(port) => format!("{host}:{port}").parse().ok(),
        None => host.parse().ok(),
    }
}

impl FromStr for Upstream {
    type Err = RouteError;

    fn from_str(url: &str) -> Result<Self, RouteError> {
        Self::parse(url)
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority, self.base_path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_has_one_spelling() {
        for (url, want) in [
            ("https://zos", "https://zos"),
            ("https://zos:443/a", "https://zos/a"),
            ("https://ZOS.Example:0443", "https://zos.example"),
            ("HTTPS://zos:80", "https://zos:80"),
            ("http://zos:80", "http://zos"),
            ("http://zos:443", "http://zos:443"),
            ("https://zos:08443/Api/", "https://zos:8443/Api"),
            ("https://[2001:DB8::1]:443", "https://[2001:db8::1]"),
            ("https://[2001:DB8::1]:8443", "https://[2001:db8::1]:8443"),
        ] {
            assert_eq!(Upstream::parse(url).unwrap().to_string(), want, "{url}");
        }
    }

    #[test]
    fn the_authority_of_an_upstream_has_no_default_port() {
        for (scheme, authority, want) in [
            ("http", "zos.example", "zos.example"),
            ("http", "zos.example:80", "zos.example"),
            ("http", "zos.example:443", "zos.example:443"),
            ("https", "zos.example:443", "zos.example"),
            ("https", "zos.example:10012", "zos.example:10012"),
            ("https", "[::1]:10012", "[::1]:10012"),
        ] {
            let upstream = Upstream::parse(&format!("{scheme}://{authority}")).unwrap();
            assert_eq!(*upstream.authority(), want, "{scheme}://{authority}");
        }
    }
}
