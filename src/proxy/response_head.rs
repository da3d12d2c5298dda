//! Turns the head of a service's response into the head of the response to the client.
//!
//! One pass over the headers determines which of the following changes are necessary. Most responses need only a few.
//!
//! 1. Hop-by-hop headers are removed. If the client accepts trailers, `Trailer` stays, but without the names of fields
//!    that only a header section may have (RFC 9110 §6.5.1).
//! 2. `Content-Length` is repaired or removed, so that it agrees with the body (RFC 9112 §6.3).
//! 3. `X-Zowe-Auth-Failure`, `X-Zowe-Token-Expires`, the obsolete `Set-Cookie2` (RFC 2965) and `Set-Cookie` of the
//!    gateway's own cookies are removed (docs/decisions.md#d27). `Service-Worker-Allowed` stays only if all its paths
//!    belong to the service. If the request had a PAT whose scopes for the service have suffixes, all `Set-Cookie` are
//!    removed (docs/decisions.md#d49).
//! 4. `Location`, `Content-Location` and the paths of cookies are rewritten to paths of the gateway, if they point to
//!    the instance that answered (docs/decisions.md#d26).
//! 5. If the request was authenticated, `Cache-Control: no-store` and `X-Content-Type-Options: nosniff` are added. A
//!    header is not added if the service has set a header for the same purpose. Neither header is added if the status
//!    is 304, or if the settings of the route forbid this (docs/decisions.md#d46).
//!
//! `prepare` also determines from the `Content-Type` whether the body is a stream of events.

use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{
        CACHE_CONTROL, CONTENT_LENGTH, CONTENT_LOCATION, LOCATION, SET_COOKIE, TRAILER,
        TRANSFER_ENCODING, X_CONTENT_TYPE_OPTIONS,
    },
};
use http_body::Body;

use crate::{
    headers::{HopByHop, all_list_items, content_type},
    layer::{
        CookieNames, Route, SecurityHeaders, Upstream, X_ZOWE_AUTH_FAILURE, X_ZOWE_TOKEN_EXPIRES,
    },
};

/// The service sent a body that hyper does not decode completely ([`has_known_coding`]), for example with a transfer
/// coding other than `chunked`. The client could not decode this body, either. A service may use another coding only if
/// the gateway offers it (RFC 9110 §10.1.4), and the gateway offers no other coding.
#[derive(Debug)]
pub(super) struct UnknownCoding;

/// Facts about the request that the response to the client depends on.
pub(super) struct Context<'a> {
    pub(super) route: &'a Route,
    pub(super) upstream: &'a Upstream,
    pub(super) cookies: &'a CookieNames,
    /// Whether the scheme has prepared the request for a user.
    pub(super) is_authenticated: bool,
    /// Whether the credential of the request permits only some requests to the service. If so, the client must not get
    /// a session of the service, because the session would permit all requests.
    pub(super) is_restricted: bool,
    pub(super) accepts_trailers: bool,
}

/// The pace at which the service sends the body of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyKind {
    /// The service sends the body as fast as it can.
    Message,
    /// The service sends a part whenever an event occurs. Pauses are normal.
    Events,
}

#[derive(Default)]
struct Seen {
    coding: bool,
    trailer: bool,
    lengths: usize,
    malformed_length: bool,
    cookie: bool,
    cookie2: bool,
    location: bool,
    failure: bool,
    token_expires: bool,
    service_worker: bool,
    caching: bool,
    content_type_options: bool,
    events: bool,
}

impl Seen {
    fn see(&mut self, name: &HeaderName, value: &HeaderValue) {
        match name.as_str() {
            "transfer-encoding" => self.coding = true,
            "trailer" => self.trailer = true,
            "content-length" => {
                self.lengths += 1;
                self.malformed_length |= !is_number(value);
            }
            "content-type" => self.events |= content_type::is_endless(value),
            "set-cookie" => self.cookie = true,
            "set-cookie2" => self.cookie2 = true,
            "location" | "content-location" => self.location = true,
            "x-zowe-auth-failure" => self.failure = true,
            "x-zowe-token-expires" => self.token_expires = true,
            "service-worker-allowed" => self.service_worker = true,
            "cache-control" | "expires" | "pragma" => self.caching = true,
            "x-content-type-options" => self.content_type_options = true,
            _ => {}
        }
    }
}

pub(super) fn prepare<B: Body>(
    response: &mut Response<B>,
    context: &Context<'_>,
) -> Result<BodyKind, UnknownCoding> {
    let status = response.status();
    let has_body = !response.body().is_end_stream();
    let headers = response.headers_mut();
    let (mut hop_by_hop, mut seen) = (HopByHop::default(), Seen::default());
    for (name, value) in &*headers {
        hop_by_hop.see(name, value);
        seen.see(name, value);
    }
    if seen.coding && has_body && !has_known_coding(headers) {
        return Err(UnknownCoding);
    }
    let trailer = if seen.trailer && has_body && context.accepts_trailers {
        announced_trailers(headers)
    } else {
        None
    };
    hop_by_hop.strip(headers);
    if let Some(names) = trailer {
        headers.insert(TRAILER, names);
    }
    if seen.lengths > 0 {
        if seen.coding || status == StatusCode::NO_CONTENT {
            headers.remove(CONTENT_LENGTH);
        } else if seen.lengths > 1 || seen.malformed_length {
            repair_length(headers);
        }
    }
    if seen.failure {
        headers.remove(&X_ZOWE_AUTH_FAILURE);
    }
    if seen.token_expires {
        headers.remove(&X_ZOWE_TOKEN_EXPIRES);
    }
    if seen.service_worker && !keeps_service_worker(headers, context.route) {
        headers.remove(SERVICE_WORKER_ALLOWED);
    }
    if seen.cookie2 {
        headers.remove("set-cookie2");
    }
    if seen.cookie && context.is_restricted {
        headers.remove(SET_COOKIE);
    } else if seen.cookie {
        rewrite_cookies(headers, context);
    }
    if seen.location {
        rewrite_locations(headers, context);
    }
    // No headers are added to a response with status 304. Added headers would change the response that the client has
    // stored (RFC 9111 §4.3.4).
    if context.is_authenticated
        && status != StatusCode::NOT_MODIFIED
        && context.route.security_headers() == SecurityHeaders::AddMissing
    {
        if !seen.caching {
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        if !seen.content_type_options {
            headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        }
    }
    Ok(if seen.events { BodyKind::Events } else { BodyKind::Message })
}

/// A script of a service may be a service worker, which answers requests of the browser (Service Workers, W3C). By
/// default, it answers requests for paths below its own directory. This header permits more paths.
const SERVICE_WORKER_ALLOWED: &str = "service-worker-allowed";

/// Returns whether the header allows only paths of the service. If the header allowed more paths, a script of the
/// service could later answer the browser's requests for pages of other services and of the gateway. One of these pages
/// asks for the password.
fn keeps_service_worker(headers: &HeaderMap, route: &Route) -> bool {
    headers.get_all(SERVICE_WORKER_ALLOWED).iter().all(|value| {
        let rest = value.as_bytes().strip_prefix(b"/");
        let rest = rest.and_then(|rest| rest.strip_prefix(route.service().as_str().as_bytes()));
        // A browser reads `%2e` as a dot, and a backslash as a slash, so only plain characters are compared.
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/-_.~".contains(byte);
        rest.is_some_and(|rest| {
            rest.starts_with(b"/")
                && rest.iter().all(is_plain)
                && !rest.split(|byte| *byte == b'/').any(|segment| matches!(segment, b"." | b".."))
        })
    })
}

/// Returns whether `length` is a number of up to 19 digits, which always fits into a `u64`.
fn is_number(length: &HeaderValue) -> bool {
    let digits = length.as_bytes();
    (1..20).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit)
}

/// Returns whether hyper decodes the body completely. hyper removes only the coding `chunked`, and only once.
///
/// Old servers send `identity` if there is no coding (RFC 2616 §3.6). hyper then ignores `Content-Length`, and reads
/// until the service closes the connection. If the service keeps the connection open, the body never ends. So this
/// function returns false for `identity` together with `Content-Length`.
fn has_known_coding(headers: &HeaderMap) -> bool {
    let mut codings = all_list_items(headers, &TRANSFER_ENCODING);
    let is_identity = |coding: &[u8]| coding.eq_ignore_ascii_case(b"identity");
    match codings.find(|coding| !is_identity(coding)) {
        None => !headers.contains_key(CONTENT_LENGTH),
        Some(coding) => coding.eq_ignore_ascii_case(b"chunked") && codings.next().is_none(),
    }
}

/// Replaces a list of equal lengths by one length (RFC 9110 §8.6). hyper checks the length only if the response has a
/// body. So in a response without a body, this function removes a malformed length, or lengths that differ.
#[cold]
fn repair_length(headers: &mut HeaderMap) {
    let length = {
        let mut lengths = all_list_items(headers, &CONTENT_LENGTH);
        let first = lengths.next().unwrap_or_default();
        let are_equal = lengths.all(|other| other == first);
        HeaderValue::from_bytes(first).ok().filter(|length| are_equal && is_number(length))
    };
    headers.remove(CONTENT_LENGTH);
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, length);
    }
}

#[cold]
fn rewrite_locations(headers: &mut HeaderMap, Context { route, upstream, .. }: &Context<'_>) {
    for name in [LOCATION, CONTENT_LOCATION] {
        let Some(value) = headers.get_mut(name) else { continue };
        let rewritten = route.northbound_location_bytes(upstream, value.as_bytes());
        if let Some(rewritten) = rewritten.and_then(|bytes| HeaderValue::try_from(bytes).ok()) {
            *value = rewritten;
        }
    }
}

#[cold]
fn rewrite_cookies(headers: &mut HeaderMap, context: &Context<'_>) {
    let lines: Vec<_> = headers.get_all(SET_COOKIE).iter().cloned().collect();
    let kept: Vec<_> = lines
        .iter()
        .filter(|line| !sets_own_cookie(line.as_bytes(), context.cookies))
        .map(|line| rewrite_cookie(line, context).unwrap_or_else(|| line.clone()))
        .collect();
    if kept != lines {
        headers.remove(SET_COOKIE);
        for line in kept {
            headers.append(SET_COOKIE, line);
        }
    }
}

/// Returns whether a line sets a cookie of the gateway. The line is split at commas, because some clients split a line
/// there, as RFC 2109 §4.2.2 allowed.
fn sets_own_cookie(line: &[u8], cookies: &CookieNames) -> bool {
    line.split(|b| *b == b',').any(|cookie| cookies.is_own(cookie_name(cookie)))
}

/// Returns the name that the cookie has when the client sends it back. A browser stores `=name=value` as a cookie
/// without a name, and sends it as `name=value`.
fn cookie_name(line: &[u8]) -> &[u8] {
    let pair = line.split(|b| *b == b';').next().unwrap_or_default();
    let start = pair.iter().take_while(|b| **b == b'=' || b.is_ascii_whitespace()).count();
    let pair = &pair[start..];
    pair.split(|b| *b == b'=').next().unwrap_or_default().trim_ascii()
}

/// Returns the line with its path rewritten to a path of the gateway. Returns `None` if the path does not change. The
/// path `/` does not change, because it means all paths of the host.
fn rewrite_cookie(
    line: &HeaderValue,
    Context { route, upstream, .. }: &Context<'_>,
) -> Option<HeaderValue> {
    let line = line.as_bytes();
    let mut rewritten = Vec::with_capacity(line.len() + route.prefix().len());
    let mut has_changed = false;
    for (i, attribute) in line.split(|b| *b == b';').enumerate() {
        if i > 0 {
            rewritten.push(b';');
        }
        let path = path_of(attribute).filter(|path| i > 0 && *path != b"/");
        match path.and_then(|path| route.northbound_path_bytes(upstream, path)) {
            Some(path) => {
                has_changed = true;
                rewritten.extend_from_slice(b" Path=");
                rewritten.extend_from_slice(&path);
            }
            None => rewritten.extend_from_slice(attribute),
        }
    }
    if has_changed { HeaderValue::try_from(rewritten).ok() } else { None }
}

fn path_of(attribute: &[u8]) -> Option<&[u8]> {
    let at = attribute.iter().position(|b| *b == b'=')?;
    let (name, path) = (attribute[..at].trim_ascii(), attribute[at + 1..].trim_ascii());
    name.eq_ignore_ascii_case(b"Path").then_some(path)
}

/// Returns the value of `Trailer`, but without the names of the fields that [`filter_trailers`] removes. hyper sends
/// only trailers that the head of the response announces.
#[cold]
fn announced_trailers(headers: &HeaderMap) -> Option<HeaderValue> {
    let names: Vec<_> = all_list_items(headers, &TRAILER)
        .filter_map(|name| HeaderName::from_bytes(name).ok())
        .filter(|name| !is_header_only(name))
        .collect();
    let names: Vec<_> = names.iter().map(HeaderName::as_str).collect();
    if names.is_empty() { None } else { HeaderValue::try_from(names.join(", ")).ok() }
}

/// Removes the fields of a trailer section that only a header section may have (RFC 9110 §6.5.1): fields for framing,
/// routing, authentication, caching and cookies. A client might merge them into the headers.
#[cold]
pub(super) fn filter_trailers(trailers: &mut HeaderMap) {
    let names: Vec<_> = trailers.keys().filter(|name| is_header_only(name)).cloned().collect();
    for name in names {
        trailers.remove(name);
    }
}

fn is_header_only(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.starts_with("proxy-")
        || name.starts_with("access-control-")
        || matches!(
            name,
            "age"
                | "authorization"
                | "cache-control"
                | "connection"
                | "content-disposition"
                | "content-encoding"
                | "content-length"
                | "content-location"
                | "content-range"
                | "content-security-policy"
                | "content-type"
                | "date"
                | "expect"
                | "expires"
                | "host"
                | "keep-alive"
                | "location"
                | "pragma"
                | "retry-after"
                | "set-cookie"
                | "set-cookie2"
                | "strict-transport-security"
                | "te"
                | "trailer"
                | "transfer-encoding"
                | "upgrade"
                | "vary"
                | "warning"
                | "www-authenticate"
                | "x-content-type-options"
                | "x-request-id"
                | "x-zowe-auth-failure"
                | "x-zowe-token-expires"
        )
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::Full;

    use super::*;
    use crate::{
        layer::{Bypass, Routes},
        token::ServiceId,
    };

    fn route() -> Route {
        let route = |gateway_url: &str, base: &str| {
            let upstream = format!("https://zos.example:8443{base}").parse().unwrap();
            Route::new(ServiceId::new("svc").unwrap(), gateway_url, upstream, Bypass).unwrap()
        };
        let routes = Routes::new([route("api/v1", "/zosmf"), route("ui", "/zosmf/ui")]).unwrap();
        let found = routes.find("/svc/api/v1/x").unwrap();
        Route::clone(found)
    }

    /// Returns the headers of the response to an authenticated request, as `name: value`, sorted.
    fn prepared(
        route: &Route,
        status: u16,
        body: &'static str,
        lines: &[(&str, &str)],
    ) -> Result<Vec<String>, UnknownCoding> {
        let mut response = Response::builder().status(status);
        for (name, value) in lines {
            response = response.header(*name, *value);
        }
        let mut response = response.body(Full::new(Bytes::from_static(body.as_bytes()))).unwrap();
        let cookies = &CookieNames::default().with_jwt("mine");
        let context = Context {
            route,
            upstream: &route.upstream().unwrap(),
            cookies,
            is_authenticated: true,
            is_restricted: route.service().as_str() == "restricted",
            accepts_trailers: status == 200,
        };
        prepare(&mut response, &context)?;
        let line = |(name, value): (&HeaderName, &HeaderValue)| {
            format!("{name}: {}", str::from_utf8(value.as_bytes()).unwrap())
        };
        let mut lines: Vec<_> = response.headers().iter().map(line).collect();
        lines.sort_unstable();
        Ok(lines)
    }

    const OURS: [&str; 2] = ["cache-control: no-store", "x-content-type-options: nosniff"];

    /// Returns the headers that the client gets if the service sends no headers.
    fn ours(status: u16) -> &'static [&'static str] {
        if status == 304 { &[] } else { &OURS }
    }

    #[test]
    fn content_length_agrees_with_the_body() {
        for (status, body, lines, want) in [
            (200, "ok", &[("content-length", "2")][..], Some("2")),
            (200, "ok", &[("content-length", "2, 2")], Some("2")),
            (200, "ok", &[("content-length", "2"), ("content-length", "2")], Some("2")),
            (200, "ok", &[("content-length", "9"), ("transfer-encoding", "chunked")], None),
            (204, "", &[("content-length", "0")], None),
            (204, "", &[("content-length", "5")], None),
            // The following cases also occur in a response to HEAD.
            (200, "", &[("content-length", "7")], Some("7")),
            (200, "", &[("content-length", "7, 7")], Some("7")),
            (200, "", &[("content-length", "x")], None),
            (200, "", &[("content-length", "7, 8")], None),
            (304, "", &[("content-length", "-1")], None),
        ] {
            let got = prepared(&route(), status, body, lines).unwrap();
            let length = got.iter().find_map(|line| line.strip_prefix("content-length: "));
            assert_eq!(length, want, "{status} {lines:?}");
            assert!(!got.iter().any(|line| line.starts_with("transfer-encoding")));
        }
        for coding in ["gzip, chunked", "gzip", "chunked, chunked", "chunked, identity"] {
            let lines = [("transfer-encoding", coding)];
            prepared(&route(), 200, "ok", &lines).unwrap_err();
            // Responses to HEAD, and responses with 204 or 304, have no body.
            for status in [200, 204, 304] {
                assert_eq!(prepared(&route(), status, "", &lines).unwrap(), ours(status));
            }
        }
        for coding in ["identity", "Identity", "identity, chunked", "Chunked"] {
            let lines = [("transfer-encoding", coding)];
            assert_eq!(prepared(&route(), 200, "ok", &lines).unwrap(), OURS, "{coding}");
        }
        let lines = [("transfer-encoding", "identity"), ("content-length", "2")];
        prepared(&route(), 200, "ok", &lines).unwrap_err();
    }

    #[test]
    fn service_workers_answer_only_for_their_own_service() {
        for (values, want) in [
            (&["/svc/"][..], true),
            (&["/svc/ui/v1.0/"], true),
            (&["/svc/", "/svc/ui/"], true),
            (&["/"], false),
            (&["/svc"], false),
            (&["/svcx/"], false),
            (&["/gateway/ui/"], false),
            (&["/svc/", "/"], false),
            (&["/svc/../"], false),
            (&["/svc/./.."], false),
            (&["/svc/%2e%2e/"], false),
            (&["/svc/..\\"], false),
            (&["/svc/?x"], false),
            (&["//svc/"], false),
            (&["https://gw/svc/"], false),
            (&["../"], false),
            (&[""], false),
        ] {
            let lines: Vec<_> =
                values.iter().map(|value| ("Service-Worker-Allowed", *value)).collect();
            let got = prepared(&route(), 200, "", &lines).unwrap();
            let kept = got.iter().filter(|line| line.starts_with("service-worker-allowed")).count();
            assert_eq!(kept, if want { values.len() } else { 0 }, "{values:?}");
        }
    }

    #[test]
    fn a_service_sets_neither_the_cookies_nor_the_headers_of_the_gateway() {
        let got = prepared(
            &route(),
            200,
            "",
            &[
                ("x-zowe-auth-failure", "ZWEAG102E forged"),
                ("x-zowe-token-expires", "2099-01-01T00:00:00Z"),
                ("X-Zowe-Token-Expires", "2099-01-01T00:00:01Z"),
                ("set-cookie", "apimlAuthenticationToken=x; Path=/"),
                ("set-cookie", "APIMLauthenticationToken.1=x"),
                ("set-cookie", " personalAccessToken = x"),
                ("set-cookie", "__Host-passticket-form=x; Path=/; Secure"),
                ("set-cookie", "=mine=x"),
                ("set-cookie", "a=b; Max-Age=60, apimlAuthenticationToken=EVIL; Path=/"),
                ("set-cookie", "a=b,mine=x"),
                ("set-cookie", "__Host-passticket-form=x; Path=/; Secure"),
                ("set-cookie", "=__HOST-PassTicket-other=x; Path=/; Secure"),
                ("set-cookie", "a=b, __Host-passticket-form=x; Path=/; Secure"),
                ("set-cookie", "__Host-passticket=x; Path=/; Secure"),
                ("set-cookie", "__Host-a=x; Path=/; Secure"),
                ("set-cookie", "a=b; Expires=Wed, 21 Oct 2026 07:28:00 GMT, PERSONALaccessToken=x"),
                ("set-cookie2", "apimlAuthenticationToken=x; Version=1"),
                ("set-cookie2", "a=b; Version=1"),
                ("set-cookie", "LtpaToken2=x; Path=/; Secure"),
                ("set-cookie", "a=b; Expires=Wed, 21 Oct 2026 07:28:00 GMT"),
                ("set-cookie", "a=apimlAuthenticationToken=x"),
            ],
        );
        let cookies = [
            "set-cookie: LtpaToken2=x; Path=/; Secure",
            "set-cookie: __Host-a=x; Path=/; Secure",
            "set-cookie: __Host-passticket=x; Path=/; Secure",
            "set-cookie: a=apimlAuthenticationToken=x",
            "set-cookie: a=b; Expires=Wed, 21 Oct 2026 07:28:00 GMT",
        ];
        assert_eq!(got.unwrap(), [&OURS[..1], &cookies[..], &OURS[1..]].concat());
    }

    #[test]
    fn a_client_with_a_restricted_credential_gets_no_cookie() {
        let upstream = "https://zos.example:8443/base".parse().unwrap();
        let id = ServiceId::new("restricted").unwrap();
        let route = Route::new(id, "api/v1", upstream, Bypass).unwrap();
        for status in [101, 200, 302, 304, 401] {
            let lines = [("set-cookie", "JSESSIONID=x"), ("Set-Cookie", "a=b"), ("x-a", "b")];
            let got = prepared(&route, status, "", &lines).unwrap();
            assert!(got.contains(&"x-a: b".to_owned()), "{got:?}");
            assert!(!got.iter().any(|line| line.contains("cookie")), "{got:?}");
        }
    }

    #[test]
    fn security_headers_are_added_where_the_service_set_nothing() {
        let unchanged = route().with_security_headers(SecurityHeaders::Unchanged);
        let none: &[&str] = &[];
        for (route, status, lines, want) in [
            (&route(), 200, &[][..], &OURS[..]),
            (&route(), 404, &[], &OURS),
            (&route(), 304, &[], none),
            (&unchanged, 200, &[], none),
            (
                &route(),
                200,
                &[("cache-control", "max-age=60"), ("x-content-type-options", "x")],
                &["cache-control: max-age=60", "x-content-type-options: x"],
            ),
            (&route(), 200, &[("expires", "0")], &["expires: 0", OURS[1]]),
            (&route(), 200, &[("pragma", "no-cache")], &["pragma: no-cache", OURS[1]]),
        ] {
            assert_eq!(prepared(route, status, "", lines).unwrap(), want, "{status} {lines:?}");
        }
    }

    #[test]
    fn locations_and_cookie_paths_are_rewritten() {
        let route = route().with_security_headers(SecurityHeaders::Unchanged);
        for (name, value, want) in [
            ("location", "https://zos.example:8443/zosmf/x?y#z", "/svc/api/v1/x?y#z"),
            ("content-location", "//ZOS.example:8443/zosmf/ui/x", "/svc/ui/x"),
            ("location", "/zosmf/x", "/svc/api/v1/x"),
            ("location", "/zosmf/\u{fc}", "/svc/api/v1/\u{fc}"),
            ("location", "https://zos.example:8443/\u{fc}", "https://zos.example:8443/\u{fc}"),
            ("set-cookie", "a=\u{fc}; Path=/zosmf/\u{fc}", "a=\u{fc}; Path=/svc/api/v1/\u{fc}"),
            ("location", "https://elsewhere/zosmf/x", "https://elsewhere/zosmf/x"),
            ("set-cookie", "a=b; Path=/zosmf/x; Secure", "a=b; Path=/svc/api/v1/x; Secure"),
            ("set-cookie", "a=b;path=/zosmf", "a=b; Path=/svc/api/v1"),
            ("set-cookie", "a=b; Path=/", "a=b; Path=/"),
            ("set-cookie", "Path=/zosmf", "Path=/zosmf"),
        ] {
            let got = prepared(&route, 302, "", &[(name, value)]).unwrap();
            assert_eq!(got, [format!("{name}: {want}")], "{value}");
        }
    }

    #[test]
    fn streams_of_events_are_recognised() {
        for (content_type, want) in [
            ("text/event-stream", BodyKind::Events),
            ("Text/Event-Stream; charset=utf-8", BodyKind::Events),
            ("application/grpc", BodyKind::Events),
            ("application/grpc+proto", BodyKind::Events),
            ("application/grpc-web", BodyKind::Events),
            ("text/plain", BodyKind::Message),
            ("text/event", BodyKind::Message),
            ("", BodyKind::Message),
        ] {
            let mut response = Response::new(Full::new(Bytes::from_static(b"ok")));
            response.headers_mut().insert("content-type", content_type.parse().unwrap());
            let cookies = &CookieNames::default();
            let context = Context {
                route: &route(),
                upstream: &route().upstream().unwrap(),
                cookies,
                is_authenticated: false,
                is_restricted: false,
                accepts_trailers: false,
            };
            assert_eq!(prepare(&mut response, &context).unwrap(), want, "{content_type}");
        }
    }

    #[test]
    fn trailers_are_announced_to_a_client_that_accepts_them() {
        let route = route().with_security_headers(SecurityHeaders::Unchanged);
        // In these cases, the client accepts trailers if the status is 200.
        for (status, body, lines, want) in [
            (200, "ok", &["x-checksum, Server-Timing"][..], Some("x-checksum, server-timing")),
            (200, "ok", &["Set-Cookie, x-checksum", "b@d,,x-two"], Some("x-checksum, x-two")),
            (200, "ok", &["set-cookie"], None),
            (200, "ok", &[], None),
            (200, "", &["x-checksum"], None),
            (201, "ok", &["x-checksum"], None),
        ] {
            let mut headers = vec![("transfer-encoding", "chunked")];
            headers.extend(lines.iter().map(|line| ("trailer", *line)));
            let got = prepared(&route, status, body, &headers).unwrap();
            assert_eq!(got, Vec::from_iter(want.map(|names| format!("trailer: {names}"))));
        }
    }

    #[test]
    fn fields_for_headers_only_are_removed_from_trailers() {
        let mut trailers = HeaderMap::new();
        for name in [
            "set-cookie",
            "x-zowe-auth-failure",
            "x-zowe-token-expires",
            "content-length",
            "transfer-encoding",
            "www-authenticate",
            "access-control-allow-origin",
            "grpc-status",
            "server-timing",
            "x-checksum",
        ] {
            trailers.append(name, HeaderValue::from_static("1"));
        }
        filter_trailers(&mut trailers);
        let mut left: Vec<_> = trailers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["grpc-status", "server-timing", "x-checksum"]);
    }
}
