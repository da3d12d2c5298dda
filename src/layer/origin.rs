//! The origin of a web page.

use std::{fmt, net::Ipv6Addr, str::FromStr};

use http::uri::Authority;

use crate::authority::is_host_and_port;

/// The scheme, host and port of a web page (RFC 6454). Upper and lower case do not matter. An absent port equals the
/// default port.
///
/// ```
/// use tower_passticket::layer::Origin;
///
/// # fn main() -> Result<(), tower_passticket::layer::OriginError> {
/// let origin: Origin = "https://Zowe.example.com:443".parse()?;
/// assert_eq!(origin, "https://zowe.example.com".parse()?);
/// assert!("null".parse::<Origin>().is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The text is in lower case and has no default port (RFC 6454 §6.2).
    text: String,
}

impl Origin {
    pub(super) fn new(scheme: &str, authority: &Authority) -> Self {
        let default = match scheme {
            "https" => Some(443),
            "http" => Some(80),
            _ => None,
        };
        let host = match ipv6(authority.host()) {
            Some(ip) => format!("[{ip}]"),
            None => authority.host().to_ascii_lowercase(),
        };
        let port = authority.port_u16().filter(|port| Some(*port) != default);
        let text = match port {
            Some(port) => format!("{scheme}://{host}:{port}"),
            None => format!("{scheme}://{host}"),
        };
        Self { text }
    }

    pub(super) fn scheme(&self) -> &str {
        self.text.split(':').next().unwrap_or_default()
    }
}

/// Parses an IPv6 address in brackets, because one address has several spellings.
fn ipv6(host: &str) -> Option<Ipv6Addr> {
    host.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let error = || OriginError(text.chars().take(200).collect());
        let (scheme, authority) = text.split_once("://").ok_or_else(error)?;
        let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
        let authority = authority.parse::<Authority>().map_err(|_| error())?;
        if !is_scheme || !is_host_and_port(&authority) {
            return Err(error());
        }
        Ok(Self::new(&scheme.to_ascii_lowercase(), &authority))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The text is not an [`Origin`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an origin; write one like https://zowe.example.com:7554")]
pub struct OriginError(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_equal_without_case_and_default_port() {
        let canonical = |text: &str| text.parse::<Origin>().map(|origin| origin.to_string()).ok();
        for (text, want) in [
            ("https://gw", Some("https://gw")),
            ("HTTPS://GW.Example:443", Some("https://gw.example")),
            ("http://gw:80", Some("http://gw")),
            ("http://gw:443", Some("http://gw:443")),
            ("https://gw:80", Some("https://gw:80")),
            ("https://[::1]:443", Some("https://[::1]")),
            ("https://[2001:DB8:0:0::1]", Some("https://[2001:db8::1]")),
            ("https://[::ffff:102:304]:1", Some("https://[::ffff:1.2.3.4]:1")),
            ("https://gw:00443", Some("https://gw")),
            ("chrome-extension://abc", Some("chrome-extension://abc")),
            ("null", None),
            ("", None),
            ("https://", None),
            ("https:", None),
            ("https://gw/", None),
            ("https://gw?x", None),
            ("https://gw:", None),
            ("https://gw:65536", None),
            ("https://u@gw", None),
            ("https://gw https://gw", None),
            ("://gw", None),
            ("1://gw", None),
            ("ht tp://gw", None),
        ] {
            assert_eq!(canonical(text).as_deref(), want, "{text:?}");
        }
    }
}
