//! Checks the authority of a URL: the part with host and port.

use http::uri::Authority;

/// Whether `authority` is a host, with or without a port. The type [`Authority`] also accepts a user and a
/// password, a port that is not a number, and an empty host.
pub(crate) fn is_host_and_port(authority: &Authority) -> bool {
    let port = authority.as_str().strip_prefix(authority.host());
    !authority.host().is_empty()
        && port.is_some_and(|port| port.is_empty() || authority.port_u16().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_host_with_an_optional_port_is_accepted() {
        for (text, want) in [
            ("host", true),
            ("gw.example:7554", true),
            ("[::1]", true),
            ("[::1]:65535", true),
            ("user@host", false),
            ("user:secret@host:1", false),
            ("host:", false),
            ("host:port", false),
            ("host:65536", false),
            (":1", false),
        ] {
            assert_eq!(text.parse().is_ok_and(|it| is_host_and_port(&it)), want, "{text}");
        }
    }
}
