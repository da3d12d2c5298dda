//! Refuses some requests that web pages of other origins make a browser send ([D25](crate::decisions#d25)).
//!
//! A page of another origin can make a browser send a request to the gateway. The browser attaches the cookies, the
//! client certificate or the Basic credentials of the user to such a request. The headers `Origin` (RFC 6454 §7) and
//! `Sec-Fetch-Site` (Fetch Metadata Request Headers, W3C) say from which page the request comes. The browser sets these
//! headers, and a page cannot change them.

use std::{fmt, sync::Arc};

use http::{
    Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Uri,
    header::{
        ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, COOKIE, HOST, ORIGIN, SEC_WEBSOCKET_KEY,
        UPGRADE,
    },
    request::Parts,
    uri::Authority,
};

use super::{
    cors_rules::{Access, CorsRules},
    origin::Origin,
    path::service_of,
};
use crate::{
    authority::is_host_and_port,
    connection::{ConnectionInfo, Protocol},
    identity::PeerCertificate,
    log_limit::log_limited,
    metrics::{Collect, Counter, Description, Exposition},
    token::ServiceId,
};

static SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
#[cfg(feature = "api")]
static SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// A browser stores the credentials of these authentication schemes, and attaches them itself. For any other scheme,
/// such as `Bearer`, a script of the page must add the credential. Before the browser sends such a request to another
/// origin, it sends a preflight request.
const STORED_BY_BROWSERS: [&str; 4] = ["Basic", "Digest", "Negotiate", "NTLM"];

const REFUSED: Description = Description::counter(
    "passticket_cross_origin_refused_total",
    "Requests of web pages of other origins that were refused.",
);

/// Refuses some requests of web pages of other origins with 403 ([D25](crate::decisions#d25)).
///
/// The policy refuses a request if these three conditions are true:
///
/// 1. The request comes from another origin: its `Origin` is not an origin of the gateway, and neither the
///    [`CorsRules`] of the service nor [`with_allowed_origins`](Self::with_allowed_origins) allow this `Origin` with
///    credentials. If there is no `Origin`, this condition is true if `Sec-Fetch-Site` is `cross-site`. `Origin: null`
///    counts as another origin. There is one exception, because a browser sends `Origin: null` for a form on a page
///    with `Referrer-Policy: no-referrer`: if `Sec-Fetch-Site` is `same-origin` and the requested address belongs to
///    the gateway, the condition is false.
/// 2. Its method is not GET, HEAD or OPTIONS, or it is a WebSocket handshake.
/// 3. It contains a credential that a browser attaches itself: a cookie, a client certificate, or `Authorization` with
///    the scheme Basic, Digest, Negotiate or NTLM. For a login request, this condition is always true, because its body
///    can contain a password. Otherwise, a page of another origin could log the user in as a different user.
///
/// In two cases, the policy refuses a request with an `Origin` if only the first condition is true:
///
/// - The request is a WebSocket handshake. A browser sends no preflight request before it, and lets a page of any
///   origin read the frames.
/// - The policy has [`ForeignOrigins::Refused`]. Exception: the [`CorsRules`] of the service allow this method to the
///   pages of [all origins](CorsRules::for_any_origin).
///
/// The policy never refuses a request without `Origin` if the method is GET, HEAD or OPTIONS, or if `Sec-Fetch-Site` is
/// not `cross-site`. So it never refuses a request of curl, which sends neither header.
///
/// [`with_own_origins`](Self::with_own_origins) sets the origins of the gateway. If they are not set, the origin of the
/// gateway is the address that the client requested. On a connection without TLS, this address counts with `http` and
/// with `https`, because a proxy in front of the gateway can terminate TLS.
///
/// [`SanitizeLayer`](super::SanitizeLayer::with_origin_policy) and
#[cfg_attr(feature = "api", doc = "[`AuthApi`](crate::api::AuthApi::with_origin_policy)")]
#[cfg_attr(not(feature = "api"), doc = "`AuthApi`")]
/// have the default policy. Pass your own policy to both of them.
#[derive(Clone, Debug, Default)]
pub struct OriginPolicy {
    /// The origins of the gateway. If the list is empty, the origin is the address that the client requested.
    own: Vec<Origin>,
    allowed: Vec<(ServiceId, Vec<Origin>)>,
    cors: Vec<(ServiceId, CorsRules)>,
    foreign: ForeignOrigins,
    asked: AskedAddress,
    counts: Option<Arc<CrossOriginCounts>>,
}

/// The address to which a browser has sent a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum AskedAddress {
    /// The address of this gateway.
    #[default]
    Own,
    /// The address of a gateway of API ML that relays the request to this gateway.
    RelayingGateway,
}

/// Which requests of other origins an [`OriginPolicy`] allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForeignOrigins {
    /// The policy allows requests with the method GET, HEAD or OPTIONS, and requests without a credential that a
    /// browser attaches. It refuses WebSocket handshakes and login requests. If the [`CorsRules`] of the service or
    /// [`with_allowed_origins`](OriginPolicy::with_allowed_origins) allow the page to use credentials, it allows all
    /// these requests.
    #[default]
    Restricted,
    /// The policy allows requests that the [`CorsRules`] of the service or
    /// [`with_allowed_origins`](OriginPolicy::with_allowed_origins) allow. It refuses all other requests with an
    /// `Origin` that is not an origin of the gateway. Zowe's API Mediation Layer does the same if its support for CORS
    /// is turned off. For requests without an `Origin`, this is the same as [`Restricted`](Self::Restricted).
    Refused,
}

impl OriginPolicy {
    /// Sets the origins of the gateway. If `origins` is empty, the origin is the address that the client requested.
    #[must_use]
    pub fn with_own_origins(self, origins: impl IntoIterator<Item = Origin>) -> Self {
        Self { own: origins.into_iter().collect(), ..self }
    }

    /// Allows pages of these origins to send requests to `service`. This function adds no header that lets the pages
    /// read the responses. So use it only in an application with its own CORS layer. Otherwise, use
    /// [`with_cors`](Self::with_cors).
    #[must_use]
    pub fn with_allowed_origins(
        mut self,
        service: ServiceId,
        origins: impl IntoIterator<Item = Origin>,
    ) -> Self {
        self.allowed.push((service, origins.into_iter().collect()));
        self
    }

    /// Sets the rules of `service`, and replaces its earlier rules. The auth API has the service id `gateway`, because
    /// its paths begin with `/gateway/`. [`CorsLayer`](super::CorsLayer) adds the headers that let a page read the
    /// responses.
    ///
    /// Rules [for all origins](CorsRules::for_any_origin) do not allow credentials. With such rules, if the browser
    /// attaches a credential to a request of another origin, the policy refuses methods other than GET, HEAD and
    /// OPTIONS.
    #[must_use]
    pub fn with_cors(mut self, service: ServiceId, rules: CorsRules) -> Self {
        self.cors.retain(|(other, _)| *other != service);
        self.cors.push((service, rules));
        self
    }

    /// Returns whether any service has [`CorsRules`]. If not, [`CorsLayer`](super::CorsLayer) is not needed.
    pub fn has_cors(&self) -> bool {
        !self.cors.is_empty()
    }

    /// Sets which requests of other origins are allowed. The default is [`ForeignOrigins::Restricted`].
    #[must_use]
    pub fn with_foreign_origins(self, foreign: ForeignOrigins) -> Self {
        Self { foreign, ..self }
    }

    /// Counts refused requests in `counts`.
    #[must_use]
    pub fn with_counts(self, counts: Arc<CrossOriginCounts>) -> Self {
        Self { counts: Some(counts), ..self }
    }

    /// Returns the policy for requests that API ML's gateway relays. The policy also allows pages of the relaying
    /// gateway. Relayed requests for the auth API have paths below `/zaas/`, and not below `/gateway/`. So the rules
    /// for `gateway` also apply to `zaas`.
    #[cfg(all(feature = "api", feature = "proxy"))]
    pub(crate) fn relayed(&self) -> Self {
        let zaas = ServiceId::new("zaas").expect("four letters are a service id");
        let of_auth_api = |id: &ServiceId| id.as_str() == "gateway";
        let mut policy = self.clone();
        let allowed = self.allowed.iter().filter(|(id, _)| of_auth_api(id));
        policy.allowed.extend(allowed.map(|(_, origins)| (zaas.clone(), origins.clone())));
        let cors = self.cors.iter().filter(|(id, _)| of_auth_api(id));
        policy.cors.extend(cors.map(|(_, rules)| (zaas.clone(), rules.clone())));
        Self { asked: AskedAddress::RelayingGateway, ..policy }
    }

    #[cfg(feature = "api")]
    pub(crate) fn own_origins(&self) -> &[Origin] {
        &self.own
    }

    /// Checks a request. The first segment of its path is the id of the service.
    ///
    /// # Errors
    /// [`CrossOrigin`] if the request is refused. The refusal is counted and logged.
    #[inline]
    pub(crate) fn check<'a>(&self, head: impl Into<RequestHead<'a>>) -> Result<(), CrossOrigin> {
        self.check_with(head.into(), BodyCredential::None)
    }

    /// Checks a request whose body can contain a password or a token.
    ///
    /// # Errors
    /// [`CrossOrigin`] if the request is refused. The refusal is counted and logged.
    #[cfg(feature = "api")]
    pub(crate) fn check_login(&self, request: &Parts) -> Result<(), CrossOrigin> {
        self.check_with(request.into(), BodyCredential::Possible)
    }

    /// Returns whether a script of a page at the address of the gateway sends the request, and the browser attaches a
    /// credential. All services have this address, so the script can come from any service. If the request has no
    /// `Sec-Fetch-Dest`, this function returns `false`.
    #[cfg(feature = "api")]
    pub(crate) fn is_script_with_credential(request: &Parts) -> bool {
        let is_script = only(&request.headers, &SEC_FETCH_SITE) == Some(b"same-origin")
            && request.headers.get_all(&SEC_FETCH_DEST).iter().any(|dest| dest != "document");
        is_script && has_credential_of_browser(request.into())
    }

    #[inline]
    fn check_with(&self, head: RequestHead<'_>, body: BodyCredential) -> Result<(), CrossOrigin> {
        // A browser adds `Origin` to each request whose method is not safe (Fetch Standard §3.2), and to each WebSocket
        // handshake (RFC 6455 §4.1).
        let has_origin = head.headers.contains_key(ORIGIN);
        if !has_origin && (is_safe(head.method) || !is_cross_site(head.headers)) {
            return Ok(());
        }
        self.check_browser(head, body)
    }

    #[cold]
    fn check_browser(
        &self,
        head: RequestHead<'_>,
        body: BodyCredential,
    ) -> Result<(), CrossOrigin> {
        if !self.refuses(head, body) {
            return Ok(());
        }
        self.report(head);
        Err(CrossOrigin)
    }

    fn report(&self, head: RequestHead<'_>) {
        if let Some(counts) = &self.counts {
            counts.refused.increment();
        }
        let (origin, path) = (head.headers.get(ORIGIN), head.uri.path());
        log_limited!(
            info,
            "cross-origin request",
            { ?origin, own = %OriginList(&self.own), method = %head.method, path },
            "request of a web page of another origin refused; if the page belongs to this gateway, add its \
             host to zowe.externalDomains; if it may use the service, see CORS in the documentation"
        );
    }

    /// Returns the decision of the [`CorsRules`] about a request. Counts and logs refused preflight requests.
    #[inline]
    pub(super) fn sharing<'a>(&self, head: impl Into<RequestHead<'a>>) -> Sharing<'_> {
        let head = head.into();
        match self.rules(head.uri.path()) {
            Some(rules) => self.sharing_by(rules, head),
            None => Sharing::NoRules,
        }
    }

    fn sharing_by<'p>(&'p self, rules: &'p CorsRules, head: RequestHead<'_>) -> Sharing<'p> {
        if !head.headers.contains_key(ORIGIN) {
            return Sharing::OwnOrigin;
        }
        // A browser sends `Origin` once. If it occurs several times, the request has no valid origin.
        let origin = only(head.headers, &ORIGIN).and_then(parse_origin);
        let is_own = origin.as_ref().is_some_and(|origin| self.is_own(origin, head));
        if is_own || self.is_own_page_without_origin(head) {
            return Sharing::OwnOrigin;
        }
        let requested = head.headers.get(ACCESS_CONTROL_REQUEST_METHOD);
        match requested.filter(|_| head.method == Method::OPTIONS) {
            Some(method) => match rules.access(origin.as_ref(), method.as_bytes()) {
                Some(access) => Sharing::Preflight(rules, access),
                None => {
                    self.report(head);
                    Sharing::PreflightRefused
                }
            },
            None => match rules.access(origin.as_ref(), head.method.as_str().as_bytes()) {
                Some(access) => Sharing::Shared(access),
                None => Sharing::NotShared,
            },
        }
    }

    fn rules(&self, path: &str) -> Option<&CorsRules> {
        if self.cors.is_empty() {
            return None;
        }
        let service = service_of(path)?;
        self.cors.iter().find(|(id, _)| id.as_str() == service).map(|(_, rules)| rules)
    }

    /// Returns whether the policy refuses a request. The caller must have checked that the request has an `Origin`, or
    /// `Sec-Fetch-Site: cross-site`.
    fn refuses(&self, head: RequestHead<'_>, body: BodyCredential) -> bool {
        let mut origins = head.headers.get_all(ORIGIN).iter().peekable();
        let has_origin = origins.peek().is_some();
        if has_origin && origins.all(|origin| self.is_trusted(origin, head)) {
            return false;
        }
        if self.is_own_page_without_origin(head) || self.is_page_of_relaying_gateway(head) {
            return false;
        }
        // Browsers send cookies with each WebSocket handshake. So rules that permit requests without credentials do not
        // apply.
        let is_websocket = is_websocket_handshake(head.headers);
        let is_refused = || self.foreign == ForeignOrigins::Refused && !self.is_anonymous(head);
        if has_origin && (is_websocket || is_refused()) {
            return true;
        }
        (!is_safe(head.method) || is_websocket)
            && (body == BodyCredential::Possible || has_credential_of_browser(head))
    }

    /// Returns whether the browser hides the origin of the page (`Origin: null`), but says that the page has the same
    /// origin as the requested address (`Sec-Fetch-Site: same-origin`). Browsers send this for a page with the policy
    /// `no-referrer` (Fetch Standard §3.2).
    ///
    /// With DNS rebinding, the host name of an attacker's page resolves to the address of the gateway, and the browser
    /// also says `same-origin`. So if the origins of the gateway are set, the requested address must be one of them.
    fn is_own_page_without_origin(&self, head: RequestHead<'_>) -> bool {
        only(head.headers, &ORIGIN) == Some(b"null")
            && only(head.headers, &SEC_FETCH_SITE) == Some(b"same-origin")
            && (self.own.is_empty() || self.own.iter().any(|own| is_requested(own, head)))
    }

    /// Returns whether the page belongs to the gateway of API ML that relays the request. The addresses of this gateway
    /// are not configured here. But it relays the header `Host` of the client unchanged. So this function compares the
    /// origin of the page with `Host`.
    fn is_page_of_relaying_gateway(&self, head: RequestHead<'_>) -> bool {
        let says_browser = || only(head.headers, &SEC_FETCH_SITE) == Some(b"same-origin");
        let origin = || only(head.headers, &ORIGIN).and_then(parse_origin);
        self.asked == AskedAddress::RelayingGateway
            && (says_browser() || origin().is_some_and(|origin| is_requested(&origin, head)))
    }

    fn is_anonymous(&self, head: RequestHead<'_>) -> bool {
        self.access(None, head) == Some(Access::Anonymous)
    }

    fn access(&self, origin: Option<&Origin>, head: RequestHead<'_>) -> Option<Access> {
        self.rules(head.uri.path())?.access(origin, head.method.as_str().as_bytes())
    }

    fn is_own(&self, origin: &Origin, head: RequestHead<'_>) -> bool {
        match self.own.as_slice() {
            [] => is_requested(origin, head),
            own => own.contains(origin),
        }
    }

    fn is_trusted(&self, origin: &HeaderValue, head: RequestHead<'_>) -> bool {
        let Some(origin) = parse_origin(origin.as_bytes()) else {
            return false;
        };
        let service = service_of(head.uri.path());
        self.is_own(&origin, head)
            || self.access(Some(&origin), head) == Some(Access::WithCredentials)
            || self
                .allowed
                .iter()
                .any(|(id, origins)| Some(id.as_str()) == service && origins.contains(&origin))
    }
}

fn parse_origin(origin: &[u8]) -> Option<Origin> {
    std::str::from_utf8(origin).ok()?.parse().ok()
}

/// The decision of the [`CorsRules`] about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sharing<'a> {
    /// The service has no rules.
    NoRules,
    /// The request comes from a page of the gateway, or has no `Origin`.
    OwnOrigin,
    /// A preflight request that the rules allow.
    Preflight(&'a CorsRules, Access),
    /// A preflight request that the rules do not allow.
    PreflightRefused,
    /// The page may read the response.
    Shared(Access),
    /// The page may not read the response.
    NotShared,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyCredential {
    None,
    Possible,
}

/// The request comes from a web page of another origin, and is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CrossOrigin;

#[derive(Clone, Copy)]
pub(crate) struct RequestHead<'a> {
    method: &'a Method,
    uri: &'a Uri,
    headers: &'a HeaderMap,
    extensions: &'a Extensions,
}

impl<'a, B> From<&'a Request<B>> for RequestHead<'a> {
    fn from(request: &'a Request<B>) -> Self {
        let (method, uri) = (request.method(), request.uri());
        Self { method, uri, headers: request.headers(), extensions: request.extensions() }
    }
}

impl<'a> From<&'a Parts> for RequestHead<'a> {
    fn from(Parts { method, uri, headers, extensions, .. }: &'a Parts) -> Self {
        Self { method, uri, headers, extensions }
    }
}

fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

fn is_cross_site(headers: &HeaderMap) -> bool {
    headers.get_all(&SEC_FETCH_SITE).iter().any(|site| site.as_bytes() == b"cross-site")
}

fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then_some(value.as_bytes())
}

/// Returns whether this can be a WebSocket handshake over HTTP/1.1 (RFC 6455 §4.1). Over HTTP/2, a handshake has the
/// method CONNECT, which is not safe.
fn is_websocket_handshake(headers: &HeaderMap) -> bool {
    headers.contains_key(SEC_WEBSOCKET_KEY) || headers.contains_key(UPGRADE)
}

fn has_credential_of_browser(head: RequestHead<'_>) -> bool {
    head.extensions.get::<PeerCertificate>().is_some()
        || head.headers.contains_key(COOKIE)
        || head.headers.get_all(AUTHORIZATION).iter().any(is_stored_by_browsers)
}

fn is_stored_by_browsers(authorization: &HeaderValue) -> bool {
    let value = authorization.as_bytes().trim_ascii();
    let scheme = value.split(u8::is_ascii_whitespace).next().unwrap_or_default();
    STORED_BY_BROWSERS.iter().any(|stored| scheme.eq_ignore_ascii_case(stored.as_bytes()))
}

fn is_requested(origin: &Origin, head: RequestHead<'_>) -> bool {
    let is_https = head.extensions.get::<ConnectionInfo>().map(|c| c.protocol == Protocol::Https);
    let is_scheme = match origin.scheme() {
        "https" => true,
        "http" => is_https != Some(true),
        _ => false,
    };
    // The authority in the target comes before `Host` (RFC 9112 §3.2.2, RFC 9113 §8.3.1).
    let authority = head.uri.authority().map(|authority| authority.as_str().as_bytes());
    let authority = authority.or_else(|| Some(head.headers.get(HOST)?.as_bytes()));
    // An empty port means the default port (RFC 3986 §3.2.3).
    let authority = authority.map(|host| host.strip_suffix(b":").unwrap_or(host));
    let authority = authority.and_then(|authority| Authority::try_from(authority).ok());
    is_scheme
        && authority.is_some_and(|authority| {
            is_host_and_port(&authority) && Origin::new(origin.scheme(), &authority) == *origin
        })
}

struct OriginList<'a>(&'a [Origin]);

impl fmt::Display for OriginList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((first, rest)) = self.0.split_first() else {
            return f.write_str("the requested address");
        };
        first.fmt(f)?;
        rest.iter().try_for_each(|origin| write!(f, ", {origin}"))
    }
}

/// Counts refused requests. Several [`OriginPolicy`] can share one value.
#[derive(Debug, Default)]
pub struct CrossOriginCounts {
    refused: Counter,
}

impl CrossOriginCounts {
    /// Returns the number of refused requests.
    pub fn refused(&self) -> u64 {
        self.refused.get()
    }
}

impl Collect for CrossOriginCounts {
    fn collect(&self, exposition: &mut Exposition) {
        exposition.value(&REFUSED, self.refused.get());
    }
}

#[cfg(test)]
mod tests {
    use test_support::pki;

    use super::*;

    const OURS: &str = "https://gw.example:7554";
    const EVIL: &str = "https://evil.example";

    type Headers<'a> = &'a [(&'a str, &'a str)];

    fn request(method: &str, uri: &str, headers: Headers<'_>) -> Request<()> {
        let mut request = Request::builder().method(method).uri(uri);
        if !uri.starts_with("https:") {
            request = request.header("host", "GW.example:7554");
        }
        let request = headers.iter().fold(request, |request, (n, v)| request.header(*n, *v));
        request.body(()).unwrap()
    }

    fn is_refused(policy: &OriginPolicy, request: &Request<()>) -> bool {
        policy.check(request).is_err()
    }

    #[test]
    fn requests_of_other_origins_with_a_credential_of_the_browser_are_refused() {
        const COOKIE: (&str, &str) = ("cookie", "a=b");
        const BASIC: (&str, &str) = ("authorization", "basic dTpw");
        const BEARER: (&str, &str) = ("authorization", "Bearer x");
        const EVIL_ORIGIN: (&str, &str) = ("origin", EVIL);
        const CROSS: (&str, &str) = ("sec-fetch-site", "cross-site");
        const SAME_SITE: (&str, &str) = ("sec-fetch-site", "same-site");
        const SAME_ORIGIN: (&str, &str) = ("sec-fetch-site", "same-origin");
        const NULL: (&str, &str) = ("origin", "null");
        const SOCKET: (&str, &str) = ("sec-websocket-key", "x");
        let cases: &[(&str, &str, Headers<'_>, bool)] = &[
            // The client is not a browser.
            ("POST", "/x", &[COOKIE], false),
            ("POST", "/x", &[BASIC], false),
            ("GET", "/x", &[COOKIE, SOCKET], false),
            ("POST", "/x", &[COOKIE, EVIL_ORIGIN], true),
            ("PUT", "/x", &[COOKIE, EVIL_ORIGIN], true),
            ("PATCH", "/x", &[COOKIE, EVIL_ORIGIN], true),
            ("DELETE", "/x", &[COOKIE, EVIL_ORIGIN], true),
            ("CONNECT", "gw.example:7554", &[COOKIE, EVIL_ORIGIN], true),
            ("get", "/x", &[COOKIE, EVIL_ORIGIN], true),
            ("GET", "/x", &[COOKIE, EVIL_ORIGIN], false),
            ("HEAD", "/x", &[COOKIE, EVIL_ORIGIN, CROSS], false),
            ("OPTIONS", "/x", &[COOKIE, EVIL_ORIGIN], false),
            ("GET", "/x", &[COOKIE, CROSS], false),
            ("GET", "/x", &[COOKIE, EVIL_ORIGIN, SOCKET], true),
            ("GET", "/x", &[COOKIE, EVIL_ORIGIN, ("upgrade", "websocket")], true),
            ("GET", "/x", &[COOKIE, ("origin", OURS), SOCKET], false),
            // WebSocket handshakes are refused even without a credential of the browser.
            ("GET", "/x", &[EVIL_ORIGIN, SOCKET], true),
            ("GET", "/x", &[BEARER, EVIL_ORIGIN, SOCKET], true),
            ("GET", "/x", &[NULL, SOCKET], true),
            ("GET", "/x", &[("origin", OURS), SOCKET], false),
            ("GET", "/x", &[SOCKET], false),
            ("GET", "/x", &[EVIL_ORIGIN], false),
            ("POST", "/x", &[EVIL_ORIGIN], false),
            ("POST", "/x", &[BASIC, EVIL_ORIGIN], true),
            ("POST", "/x", &[("authorization", "NTLM"), EVIL_ORIGIN], true),
            ("POST", "/x", &[("authorization", " Negotiate x"), EVIL_ORIGIN], true),
            ("POST", "/x", &[("authorization", "Digest\tx"), EVIL_ORIGIN], true),
            ("POST", "/x", &[BEARER, EVIL_ORIGIN, CROSS], false),
            ("POST", "/x", &[("private-token", "x"), EVIL_ORIGIN, CROSS], false),
            ("POST", "/x", &[("authorization", "Basically"), EVIL_ORIGIN], false),
            // A page can add a token, to hide the credential that the browser attaches.
            ("POST", "/x", &[BEARER, BASIC, EVIL_ORIGIN], true),
            ("POST", "/x", &[BEARER, COOKIE, EVIL_ORIGIN], true),
            ("POST", "/x", &[("private-token", "x"), COOKIE, EVIL_ORIGIN], true),
            ("POST", "/x", &[COOKIE, ("origin", OURS)], false),
            ("POST", "/x", &[COOKIE, ("origin", "HTTPS://GW.EXAMPLE:7554")], false),
            ("POST", "/x", &[COOKIE, ("origin", OURS), CROSS], false),
            ("POST", "/x", &[COOKIE, NULL], true),
            ("POST", "/x", &[COOKIE, NULL, SAME_ORIGIN], false),
            ("GET", "/x", &[COOKIE, NULL, SAME_ORIGIN, SOCKET], false),
            ("POST", "/x", &[COOKIE, NULL, CROSS], true),
            ("POST", "/x", &[COOKIE, NULL, SAME_SITE], true),
            ("POST", "/x", &[COOKIE, NULL, ("sec-fetch-site", "none")], true),
            ("POST", "/x", &[COOKIE, NULL, ("sec-fetch-site", "Same-Origin")], true),
            ("POST", "/x", &[COOKIE, NULL, SAME_ORIGIN, SAME_ORIGIN], true),
            ("POST", "/x", &[COOKIE, NULL, SAME_ORIGIN, CROSS], true),
            ("POST", "/x", &[COOKIE, NULL, NULL, SAME_ORIGIN], true),
            ("POST", "/x", &[COOKIE, NULL, EVIL_ORIGIN, SAME_ORIGIN], true),
            ("POST", "/x", &[COOKIE, ("origin", "NULL"), SAME_ORIGIN], true),
            ("POST", "/x", &[COOKIE, ("origin", "")], true),
            ("POST", "/x", &[COOKIE, ("origin", "https://gw.example")], true),
            ("POST", "/x", &[COOKIE, ("origin", "https://gw.example:7555")], true),
            ("POST", "/x", &[COOKIE, ("origin", "https://gw.example:7554/")], true),
            ("POST", "/x", &[COOKIE, ("origin", "https://gw.example:7554.evil.example")], true),
            ("POST", "/x", &[COOKIE, ("origin", "https://evil-gw.example:7554")], true),
            ("POST", "/x", &[COOKIE, ("origin", "ftp://gw.example:7554")], true),
            ("POST", "/x", &[COOKIE, ("origin", OURS), EVIL_ORIGIN], true),
            ("POST", "/x", &[COOKIE, EVIL_ORIGIN, ("origin", OURS)], true),
            ("POST", "/x", &[COOKIE, SAME_SITE, ("origin", "https://b.example")], true),
            ("POST", "/x", &[COOKIE, SAME_SITE, ("origin", OURS)], false),
            ("POST", "/x", &[COOKIE, ("sec-fetch-site", "same-origin"), EVIL_ORIGIN], true),
            // Without `Origin`, only `Sec-Fetch-Site` decides.
            ("POST", "/x", &[COOKIE, CROSS], true),
            ("POST", "/x", &[COOKIE, SAME_SITE], false),
            ("POST", "/x", &[COOKIE, ("sec-fetch-site", "same-origin")], false),
            ("POST", "/x", &[COOKIE, ("sec-fetch-site", "none")], false),
            ("POST", "/x", &[COOKIE, ("sec-fetch-site", "none"), CROSS], true),
            // The target is in absolute form, as in HTTP/2.
            ("POST", "https://gw.example:7554/x", &[COOKIE, ("origin", OURS)], false),
            (
                "POST",
                "https://gw.example/x",
                &[COOKIE, ("origin", "https://gw.example:443")],
                false,
            ),
            ("POST", "https://gw.example:/x", &[COOKIE, ("origin", "https://gw.example")], false),
            ("POST", "https://other.example/x", &[COOKIE, ("origin", OURS)], true),
        ];
        let policy = OriginPolicy::default();
        for (method, uri, headers, want) in cases {
            let request = request(method, uri, headers);
            assert_eq!(is_refused(&policy, &request), *want, "{method} {uri} {headers:?}");
        }
    }

    #[test]
    fn a_client_certificate_is_a_credential_of_the_browser() {
        let certificate = pki::self_signed_with_name("USER");
        let certificate = PeerCertificate::from_der(certificate).unwrap();
        for (method, origin, want) in
            [("POST", EVIL, true), ("POST", OURS, false), ("GET", EVIL, false)]
        {
            let mut request = request(method, "/x", &[("origin", origin)]);
            request.extensions_mut().insert(certificate.clone());
            assert_eq!(is_refused(&OriginPolicy::default(), &request), want, "{method} {origin}");
            request.headers_mut().insert("authorization", "Bearer junk".parse().unwrap());
            assert_eq!(is_refused(&OriginPolicy::default(), &request), want, "{method} {origin}");
        }
    }

    #[test]
    fn the_requested_address_has_the_scheme_of_the_connection() {
        let address = "127.0.0.1:1".parse().unwrap();
        for (protocol, origin, want) in [
            (Some(Protocol::Https), "https://gw.example:7554", false),
            (Some(Protocol::Https), "http://gw.example:7554", true),
            // A proxy in front of the gateway can terminate TLS.
            (Some(Protocol::Http), "https://gw.example:7554", false),
            (Some(Protocol::Http), "http://gw.example:7554", false),
            (None, "https://gw.example:7554", false),
            (None, "http://gw.example:7554", false),
        ] {
            let mut request = request("POST", "/x", &[("cookie", "a=b"), ("origin", origin)]);
            if let Some(protocol) = protocol {
                let connection = ConnectionInfo::new(address, address, protocol);
                request.extensions_mut().insert(connection);
            }
            let refused = is_refused(&OriginPolicy::default(), &request);
            assert_eq!(refused, want, "{protocol:?} {origin}");
        }
    }

    #[test]
    fn own_origins_replace_the_requested_address() {
        let [own, allowed] = ["https://zowe.example", "https://app.example"]
            .map(|text| text.parse::<Origin>().unwrap());
        let policy = OriginPolicy::default()
            .with_own_origins([own])
            .with_allowed_origins(ServiceId::new("svc").unwrap(), [allowed]);
        for (path, origin, want) in [
            ("/svc/x", "https://zowe.example", false),
            ("/svc/x", "https://ZOWE.example:443", false),
            ("/svc/x", OURS, true),
            ("/svc/x", "https://app.example", false),
            ("/svc", "https://app.example", false),
            ("/svc2/x", "https://app.example", true),
            ("/", "https://app.example", true),
        ] {
            for site in ["same-site", "cross-site"] {
                let headers = [("cookie", "a=b"), ("origin", origin), ("sec-fetch-site", site)];
                let request = request("POST", path, &headers);
                assert_eq!(is_refused(&policy, &request), want, "{path} {origin} {site}");
            }
        }
    }

    #[test]
    fn pages_that_the_rules_allow_may_use_credentials_and_no_other_page_may() {
        let service = |id| ServiceId::new(id).unwrap();
        let app = "https://app.example";
        let listed = CorsRules::for_origins([app.parse().unwrap()]);
        let restricted = OriginPolicy::default()
            .with_cors(service("listed"), listed.clone())
            .with_cors(service("gateway"), listed)
            .with_cors(service("any"), CorsRules::for_any_origin());
        let refused = restricted.clone().with_foreign_origins(ForeignOrigins::Refused);
        let socket = ("sec-websocket-key", "x");
        let cookie = ("cookie", "a=b");
        // The last column: whether `Restricted` refuses the request, and whether `Refused` refuses it.
        for (method, path, headers, want) in [
            ("POST", "/listed/x", &[cookie, ("origin", app)][..], [false, false]),
            ("GET", "/listed/x", &[cookie, ("origin", app), socket], [false, false]),
            ("POST", "/gateway/api/v1/auth/login", &[cookie, ("origin", app)], [false, false]),
            ("PATCH", "/listed/x", &[cookie, ("origin", app)], [true, true]),
            ("POST", "/listed/x", &[cookie, ("origin", EVIL)], [true, true]),
            ("POST", "/listed/x", &[cookie, ("origin", app), ("origin", EVIL)], [true, true]),
            ("POST", "/listed/x", &[cookie, ("origin", "null")], [true, true]),
            ("POST", "/listed/x", &[cookie, ("origin", "http://app.example")], [true, true]),
            ("POST", "/listed2/x", &[cookie, ("origin", app)], [true, true]),
            ("POST", "/other/x", &[cookie, ("origin", app)], [true, true]),
            ("GET", "/listed/x", &[cookie, ("origin", EVIL)], [false, true]),
            ("GET", "/any/x", &[("origin", EVIL)], [false, false]),
            ("POST", "/any/x", &[("origin", EVIL)], [false, false]),
            ("POST", "/any/x", &[cookie, ("origin", EVIL)], [true, true]),
            ("PATCH", "/any/x", &[("origin", EVIL)], [false, true]),
        ] {
            let request = request(method, path, headers);
            let got = [&restricted, &refused].map(|policy| is_refused(policy, &request));
            assert_eq!(got, want, "{method} {path} {headers:?}");
        }
    }

    #[test]
    fn a_page_with_the_origin_null_must_have_requested_an_own_origin() {
        let headers = [("cookie", "a=b"), ("origin", "null"), ("sec-fetch-site", "same-origin")];
        for (own, want) in [
            (&[][..], false),
            (&["https://gw.example:7554"], false),
            (&["https://zowe.example", "https://gw.example:7554"], false),
            // The host name of the page resolves to the gateway, but is not one of its origins.
            (&["https://zowe.example"], true),
            (&["https://gw.example"], true),
        ] {
            let origins = own.iter().map(|origin| origin.parse().unwrap());
            let policy = OriginPolicy::default().with_own_origins(origins);
            assert_eq!(is_refused(&policy, &request("POST", "/x", &headers)), want, "{own:?}");
        }
    }

    #[test]
    fn ipv6_addresses_are_equal_in_every_spelling() {
        let own = "https://[2001:db8::1]".parse().unwrap();
        let own_origins = OriginPolicy::default().with_own_origins([own]);
        let origin = ("origin", "https://[2001:db8::1]");
        for policy in [OriginPolicy::default(), own_origins] {
            for host in ["[2001:db8::1]", "[2001:DB8:0:0:0:0:0:1]", "[2001:db8:0::1]:443"] {
                let uri = format!("https://{host}/x");
                let request = request("POST", &uri, &[("cookie", "a=b"), origin]);
                assert!(!is_refused(&policy, &request), "{host}");
            }
        }
    }

    #[test]
    fn the_own_origins_are_logged() {
        let list = |origins: &[&str]| {
            let origins: Vec<_> = origins.iter().map(|origin| origin.parse().unwrap()).collect();
            OriginList(&origins).to_string()
        };
        assert_eq!(list(&[]), "the requested address");
        assert_eq!(list(&["https://a", "https://b:1"]), "https://a, https://b:1");
    }

    #[test]
    fn every_foreign_origin_can_be_refused() {
        let policy = OriginPolicy::default().with_foreign_origins(ForeignOrigins::Refused);
        for (method, headers, want) in [
            ("GET", &[("origin", EVIL)][..], true),
            ("OPTIONS", &[("origin", EVIL)], true),
            ("POST", &[("origin", EVIL), ("authorization", "Bearer x")], true),
            ("GET", &[("origin", "null")], true),
            ("GET", &[("origin", "null"), ("sec-fetch-site", "same-origin")], false),
            ("GET", &[("origin", OURS)], false),
            ("GET", &[("sec-fetch-site", "cross-site")], false),
            ("POST", &[("sec-fetch-site", "cross-site")], false),
            ("POST", &[("sec-fetch-site", "cross-site"), ("cookie", "a=b")], true),
            ("POST", &[("cookie", "a=b")], false),
        ] {
            assert_eq!(
                is_refused(&policy, &request(method, "/x", headers)),
                want,
                "{method} {headers:?}"
            );
        }
    }

    #[cfg(feature = "api")]
    #[test]
    fn a_login_of_another_origin_is_refused_even_if_its_head_has_no_credential() {
        let counts = Arc::new(CrossOriginCounts::default());
        let policy = OriginPolicy::default().with_counts(counts.clone());
        let check = |headers| policy.check_login(&request("POST", "/x", headers).into_parts().0);
        assert_eq!(check(&[("origin", EVIL)]), Err(CrossOrigin));
        assert_eq!(check(&[("sec-fetch-site", "cross-site")]), Err(CrossOrigin));
        assert_eq!(check(&[("origin", OURS)]), Ok(()));
        assert_eq!(check(&[]), Ok(()));
        assert_eq!(counts.refused(), 2);
    }
}
