//! Checks parts of a request that the HTTP server does not check: the target, the `Host` header and the transfer
//! coding.
//!
//! Two servers can read a malformed request in different ways. An attacker can use this: the first server checks one
//! host or body, and the second server uses another host or body.

use http::{
    HeaderMap, HeaderValue, Request, Uri, Version,
    header::{HOST, TRANSFER_ENCODING},
    uri::Authority,
};

use super::rejection::Rejection;
use crate::{authority::is_host_value, headers::all_list_items};

/// Rejects a malformed request, and a request with an unknown transfer coding.
pub(crate) fn check_message<B>(request: &Request<B>) -> Result<(), Rejection> {
    let (uri, headers, version) = (request.uri(), request.headers(), request.version());
    check_target(uri)?;
    check_host(uri, headers, version)?;
    if version < Version::HTTP_2 && headers.contains_key(TRANSFER_ENCODING) {
        check_codings(headers)?;
    }
    Ok(())
}

/// A target in absolute form must have the scheme `http` or `https`. Its authority must not contain a user name (RFC
/// 9110 §4.2.4).
fn check_target(uri: &Uri) -> Result<(), Rejection> {
    let is_http =
        |scheme: &str| scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http");
    if uri.scheme_str().is_some_and(|scheme| !is_http(scheme)) {
        return Err(Rejection::Malformed("the scheme of the target is neither http nor https"));
    }
    if uri.authority().is_some_and(|authority| !is_host_value(authority.as_str().as_bytes())) {
        return Err(Rejection::Malformed("the target has a user, or no valid host and port"));
    }
    Ok(())
}

/// In HTTP/1.1, a request must have exactly one `Host` header (RFC 9112 §3.2). In other versions, it may have one or
/// none. In HTTP/2, if the request has `Host` and `:authority`, both must name the same host and port (RFC 9113
/// §8.3.1). In HTTP/1, the authority of a target in absolute form may differ from `Host`, because the authority comes
/// first (RFC 9112 §3.2.2).
fn check_host(uri: &Uri, headers: &HeaderMap, version: Version) -> Result<(), Rejection> {
    let mut hosts = headers.get_all(HOST).iter();
    let Some(host) = hosts.next() else {
        return match version {
            Version::HTTP_11 => Err(Rejection::Malformed("the Host header is missing")),
            _ => Ok(()),
        };
    };
    if hosts.next().is_some() {
        return Err(Rejection::Malformed("the request has several Host headers"));
    }
    if !is_host_value(host.as_bytes()) {
        return Err(Rejection::Malformed("the Host header is not a host with an optional port"));
    }
    match uri.authority() {
        Some(authority) if version >= Version::HTTP_2 && !is_same_host(authority, host, uri) => {
            Err(Rejection::Malformed(
                "the Host header and :authority name different hosts or ports",
            ))
        }
        _ => Ok(()),
    }
}

/// A missing or empty port means the default port (RFC 3986 §3.2.3).
fn is_same_host(authority: &Authority, host: &HeaderValue, uri: &Uri) -> bool {
    let default = match uri.scheme_str() {
        Some(scheme) if scheme.eq_ignore_ascii_case("http") => ":80",
        _ => ":443",
    };
    let without_default = |text: &'_ str| {
        let without = text.strip_suffix(default).or_else(|| text.strip_suffix(':'));
        without.unwrap_or(text).len()
    };
    host.to_str().is_ok_and(|host| {
        let authority = authority.as_str();
        let (authority, host) =
            (&authority[..without_default(authority)], &host[..without_default(host)]);
        authority.eq_ignore_ascii_case(host)
    })
}

/// The gateway supports only the transfer coding `chunked`. A client must not apply it twice (RFC 9112 §6.1). The HTTP
/// server has already checked that `chunked` is the last coding.
#[cold]
fn check_codings(headers: &HeaderMap) -> Result<(), Rejection> {
    let codings = all_list_items(headers, &TRANSFER_ENCODING);
    let (mut chunked, mut others) = (0, 0);
    for coding in codings.filter(|coding| !coding.is_empty()) {
        if coding.eq_ignore_ascii_case(b"chunked") {
            chunked += 1;
        } else {
            others += 1;
        }
    }
    match (chunked, others) {
        (2.., _) => Err(Rejection::Malformed("the transfer coding chunked is applied twice")),
        (_, 1..) => Err(Rejection::TransferCoding),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_and_hosts_are_checked() {
        const H1: Version = Version::HTTP_11;
        const H2: Version = Version::HTTP_2;
        let cases: &[(Version, &str, &[&str], bool)] = &[
            (H1, "/x", &["gw"], true),
            (H1, "/x", &["gw:7554"], true),
            (H1, "/x", &["gw:"], true),
            (H1, "http://gw:/x", &["gw:"], true),
            (H1, "http://:/x", &["gw"], false),
            (H1, "/x", &[":"], false),
            (H1, "/x", &[], false),
            (H1, "/x", &["gw", "gw"], false),
            (H1, "/x", &["a b/c@d"], false),
            (H1, "/x", &["u@gw"], false),
            (H1, "/x", &[""], false),
            (Version::HTTP_10, "/x", &[], true),
            (Version::HTTP_10, "/x", &["gw", "gw"], false),
            (H1, "*", &["gw"], true),
            (H1, "http://other/x", &["gw"], true),
            (H1, "HTTPS://gw/x", &["gw"], true),
            (H1, "http://other/x", &[], false),
            (H1, "ftp://gw/x", &["gw"], false),
            (H1, "http://u:p@gw/x", &["gw"], false),
            (H1, "http://gw@gw:7554/x", &["gw:7554"], false),
            (H1, "http://gw:x@gw:1/x", &["gw:1"], false),
            (H1, "http://gw:x/x", &["gw"], false),
            (H2, "https://gw/x", &[], true),
            (H2, "https://gw/x", &["GW"], true),
            (H2, "https://gw/x", &["gw:443"], true),
            (H2, "https://gw:/x", &[], true),
            (H2, "https://gw:/x", &["gw"], true),
            (H2, "https://gw/x", &["gw:"], true),
            (H2, "https://gw:443/x", &["gw:"], true),
            (H2, "https://[::1]:/x", &["[::1]"], true),
            (H2, "https://gw:/x", &["gw:80"], false),
            (H2, "https://gw:443/x", &["gw"], true),
            (H2, "http://gw:80/x", &["gw"], true),
            (H2, "https://gw/x", &["gw:80"], false),
            (H2, "https://gw/x", &["other"], false),
            (H2, "https://gw/x", &["gw", "gw"], false),
            (H2, "https://u@gw/x", &[], false),
            (H2, "ftp://gw/x", &[], false),
            (H2, "/x", &["gw"], true),
        ];
        for (version, uri, hosts, want) in cases {
            let mut request = Request::builder().version(*version).uri(*uri);
            for host in *hosts {
                request = request.header(HOST, *host);
            }
            let checked = check_message(&request.body(()).unwrap());
            assert_eq!(checked.is_ok(), *want, "{version:?} {uri} {hosts:?}: {checked:?}");
        }
    }

    #[test]
    fn only_chunked_is_accepted_and_only_once() {
        let twice = || Err(Rejection::Malformed("the transfer coding chunked is applied twice"));
        for (lines, want) in [
            (&["chunked"][..], Ok(())),
            (&["Chunked"], Ok(())),
            (&[", chunked"], Ok(())),
            (&["chunked, chunked"], twice()),
            (&["chunked", "chunked"], twice()),
            (&["chunked, gzip, chunked"], twice()),
            (&["gzip, chunked"], Err(Rejection::TransferCoding)),
            (&["gzip", "chunked"], Err(Rejection::TransferCoding)),
            (&["chunked;q=1"], Err(Rejection::TransferCoding)),
        ] {
            let mut request = Request::post("/x").header(HOST, "gw");
            for line in lines {
                request = request.header(TRANSFER_ENCODING, *line);
            }
            assert_eq!(check_message(&request.body(()).unwrap()), want, "{lines:?}");
        }
    }
}
