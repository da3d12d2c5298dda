//! Fuzz targets for request headers: cookies, credentials, hop-by-hop headers, and headers that clients may not send. A
//! PAT is a Personal Access Token.

use std::{collections::BTreeSet, convert::Infallible, sync::LazyLock};

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response,
    header::{AUTHORIZATION, CONNECTION, COOKIE, ORIGIN, SEC_WEBSOCKET_KEY, UPGRADE},
};
use http_body_util::Full;
use tower::{Layer, ServiceExt, service_fn};
use tower_passticket::{
    identity::CommonNameMapper,
    layer::{
        AuthenticateLayer, Authentication, Authenticator, OnFailure, PassTicketScheme, Route,
        RouteLayer, SanitizeLayer, Upstream, strip_hop_by_hop,
    },
    passticket::{Applid, KeyProfiles, LocalGenerator},
    revocation::RevocationIndex,
    token::ServiceId,
};

use crate::support::{
    CERTIFICATE, CERTIFICATE_USER, LOGIN_TOKEN, LOGIN_USER, PAT, PAT_USER, clock, header_lines,
    ready, verifier, with_tokens,
};

/// A request that reached the service behind the layers.
struct PassedOn {
    headers: HeaderMap,
    user: Option<String>,
}

/// Sends a request through `AuthenticateLayer`. Returns the request that the layer passed on, or `None` if the
/// layer rejected it.
fn authenticate(
    headers: HeaderMap,
    pats: bool,
    certificate: bool,
    on_failure: OnFailure,
) -> Option<PassedOn> {
    let mut authenticator = Authenticator::new(verifier())
        .with_client_certificates(CommonNameMapper)
        .with_clock(clock());
    if pats {
        authenticator = authenticator.with_personal_access_tokens(RevocationIndex::default());
    }
    let upstream = Upstream::parse("http://service").expect("a valid URL");
    let applid = Applid::new("APPL").expect("a valid APPLID");
    let scheme = PassTicketScheme::new(applid, LocalGenerator::new(KeyProfiles::default()));
    let service = ServiceId::new("svc").expect("a valid service id");
    let route = Route::new(service, "api/v1", upstream, scheme).expect("a valid route");
    let route = RouteLayer::fixed(route.with_on_failure(on_failure));
    let service = route.layer(AuthenticateLayer::new(authenticator).layer(echo()));
    let mut request = Request::new(Full::<Bytes>::default());
    *request.headers_mut() = headers;
    if certificate {
        request.extensions_mut().insert(CERTIFICATE.clone());
    }
    passed_on(service, request)
}

/// Returns a service that answers with the headers and extensions of the request.
fn echo() -> impl tower::Service<
    Request<Full<Bytes>>,
    Response = Response<Full<Bytes>>,
    Error = Infallible,
    Future: Future,
> + Clone {
    service_fn(|request: Request<Full<Bytes>>| async move {
        let mut response = Response::new(Full::default());
        let (head, _) = request.into_parts();
        *response.headers_mut() = head.headers;
        *response.extensions_mut() = head.extensions;
        response.extensions_mut().insert(Echo);
        Ok(response)
    })
}

/// Marks a response of [`echo`]. A response that a layer has made lacks this mark.
#[derive(Clone)]
struct Echo;

/// Calls a stack of layers around [`echo`]. Returns the request that reached `echo`, or `None` if a layer
/// answered.
fn passed_on<S>(service: S, request: Request<Full<Bytes>>) -> Option<PassedOn>
where
    S: tower::Service<Request<Full<Bytes>>, Response = Response<Full<Bytes>>, Error = Infallible>,
{
    let Ok(response) = ready(service.oneshot(request));
    let (head, _) = response.into_parts();
    head.extensions.get::<Echo>()?;
    let user = match head.extensions.get::<Authentication>() {
        Some(Authentication::Authenticated(authenticated)) => {
            Some(authenticated.user().to_string())
        }
        _ => None,
    };
    Some(PassedOn { headers: head.headers, user })
}

/// Splits all `Cookie` lines at `;`, and returns the trimmed parts. A part may have no `=`.
fn pairs(headers: &HeaderMap) -> Vec<&[u8]> {
    let lines = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    lines.flat_map(|line| line.split(|b| *b == b';')).map(<[u8]>::trim_ascii).collect()
}

/// Returns the name of a cookie. Returns `None` if there is no `=`, or if the name is empty.
fn name_of(pair: &[u8]) -> Option<&[u8]> {
    let equals = pair.iter().position(|b| *b == b'=')?;
    Some(pair[..equals].trim_ascii()).filter(|name| !name.is_empty())
}

fn is_credential_cookie(name: &[u8]) -> bool {
    let name = name.to_ascii_lowercase();
    name.starts_with(b"apimlauthenticationtoken.")
        || [
            &b"apimlauthenticationtoken"[..],
            b"personalaccesstoken",
            b"jwttoken",
            b"ltpatoken",
            b"ltpatoken2",
        ]
        .contains(&&*name)
}

/// Returns the first value of the cookie `wanted` that is not empty.
fn cookie<'a>(headers: &'a HeaderMap, wanted: &str) -> Option<&'a [u8]> {
    pairs(headers).into_iter().find_map(|pair| {
        name_of(pair).filter(|name| *name == wanted.as_bytes())?;
        let (_, value) = pair.split_at(pair.iter().position(|b| *b == b'=')? + 1);
        let value = value.trim_ascii();
        let value =
            value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
        (!value.is_empty()).then_some(value)
    })
}

/// Returns whether a server that splits cookies at commas would find a credential in `pair`.
fn hides_credential(pair: &[u8]) -> bool {
    pair.split(|b| *b == b',').filter_map(name_of).any(is_credential_cookie)
}

/// Asserts that `after` has exactly those cookies of `before` that have a name, are not credentials, and hide no
/// credential behind a comma. They must have the same order, and be in at most one line.
fn check_cookies(before: &HeaderMap, after: &HeaderMap) {
    assert!(after.get_all(COOKIE).iter().count() <= 1, "{after:?}");
    let kept: Vec<_> = pairs(before)
        .into_iter()
        .filter(|pair| name_of(pair).is_some_and(|name| !is_credential_cookie(name)))
        .filter(|pair| !hides_credential(pair))
        .collect();
    assert_eq!(pairs(after), kept);
}

/// The input consists of values of `Cookie` headers, one per line.
pub(crate) fn cookies(data: &[u8]) {
    let mut before = HeaderMap::new();
    for line in with_tokens(data).split(|b| *b == b'\n') {
        if let Ok(line) = HeaderValue::from_bytes(line)
            && before.try_append(COOKIE, line).is_err()
        {
            break;
        }
    }
    let once = authenticate(before.clone(), true, false, OnFailure::Forward);
    let PassedOn { headers, user } = once.expect("a failure is forwarded");
    check_cookies(&before, &headers);
    assert_eq!(user.as_deref(), expected_user(&before, true, false));
    let twice = authenticate(headers.clone(), true, false, OnFailure::Forward);
    assert_eq!(twice.expect("a failure is forwarded").headers, headers);
}

/// The input is a byte that selects the settings of the layer, followed by header lines.
pub(crate) fn credentials(data: &[u8]) {
    let Some((choice, lines)) = data.split_first() else { return };
    let (pats, certificate) = (choice & 1 > 0, choice & 2 > 0);
    let on_failure = match choice >> 2 & 3 {
        0 => OnFailure::Forward,
        1 => OnFailure::ForwardUnchanged,
        _ => OnFailure::Reject,
    };
    let before = header_lines(&with_tokens(lines));
    let passed_on = authenticate(before.clone(), pats, certificate, on_failure);
    let expected = expected_user(&before, pats, certificate);
    let Some(PassedOn { headers, user }) = passed_on else {
        assert_eq!((on_failure, expected), (OnFailure::Reject, None));
        return;
    };
    assert_eq!(user.as_deref(), expected);
    assert!(expected.is_some() || on_failure != OnFailure::Reject);
    if expected.is_none() && on_failure == OnFailure::ForwardUnchanged {
        assert_eq!(headers, before);
        return;
    }
    check_cookies(&before, &headers);
    for name in headers.keys().map(HeaderName::as_str) {
        assert!(!is_credential_header(name), "{name}");
    }
    for (name, value) in before.iter().filter(|(name, _)| *name != COOKIE) {
        let kept = headers.get_all(name).iter().any(|other| other == value);
        assert!(kept || is_credential_header(name.as_str()), "{name}");
    }
}

fn is_credential_header(name: &str) -> bool {
    matches!(name, "authorization" | "private-token" | "x-saf-token" | "client-cert")
        || name.starts_with("x-certificate-")
}

/// Returns the user of the credential that takes precedence. Returns `None` if this credential is not valid, or if the
/// request has no credential. This is a second implementation of `docs/decisions.md#d6`.
pub(crate) fn expected_user(
    headers: &HeaderMap,
    pats: bool,
    certificate: bool,
) -> Option<&'static str> {
    if let Some(token) = cookie(headers, "apimlAuthenticationToken").or_else(|| bearer(headers)) {
        return match token {
            token if token == LOGIN_TOKEN.as_bytes() => Some(LOGIN_USER),
            token if token == PAT.as_bytes() && pats => Some(PAT_USER),
            _ => None,
        };
    }
    let is_pat = |token: &[u8]| (token == PAT.as_bytes()).then_some(PAT_USER);
    if let Some(token) = authorization(headers, "token").filter(|token| pats && !token.is_empty()) {
        return is_pat(token);
    }
    let private_token = || headers.get("private-token").map(|value| value.as_bytes().trim_ascii());
    let token = cookie(headers, "personalAccessToken")
        .or_else(|| private_token().filter(|token| !token.is_empty()));
    if let Some(token) = token.filter(|_| pats) {
        return is_pat(token);
    }
    if pats && let Some((user, token)) = pat_as_password(headers) {
        let names =
            [PAT_USER.to_ascii_lowercase(), "oauth2".into(), "token".into(), "x-token-auth".into()];
        let user = user.to_ascii_lowercase();
        let is_of_user = user.is_empty() || names.iter().any(|name| name.as_bytes() == user);
        return is_pat(&token).filter(|_| is_of_user);
    }
    certificate.then_some(CERTIFICATE_USER)
}

/// Returns the user name and the password in `Authorization: Basic`, if the password counts as a PAT. This is a second
/// implementation of `docs/decisions.md#d24`.
fn pat_as_password(headers: &HeaderMap) -> Option<(Vec<u8>, Vec<u8>)> {
    let encoded = authorization(headers, "basic")?;
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let decoded = GeneralPurpose::new(&alphabet::STANDARD, config).decode(encoded).ok()?;
    let colon = decoded.iter().position(|b| *b == b':')?;
    let (user, password) = (decoded[..colon].to_vec(), decoded[colon + 1..].to_vec());
    let text = str::from_utf8(&password).ok()?;
    let parts: Vec<_> = text.split('.').collect();
    let is_part = |part: &&str| part.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
    let is_jwt = parts.len() == 3
        && ["ey", "ew"].iter().any(|start| parts[0].starts_with(start))
        && !parts[1].is_empty()
        && parts.iter().all(is_part);
    (is_jwt || text.starts_with("zowepat_")).then_some((user, password))
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    authorization(headers, "bearer").filter(|token| !token.is_empty())
}

/// Returns the text after the scheme in the first `Authorization` header, if the scheme is `wanted`.
fn authorization<'a>(headers: &'a HeaderMap, wanted: &str) -> Option<&'a [u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes().trim_ascii();
    let end = value.iter().position(u8::is_ascii_whitespace).unwrap_or(value.len());
    let (scheme, token) = value.split_at(end);
    scheme.eq_ignore_ascii_case(wanted.as_bytes()).then(|| token.trim_ascii())
}

const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The headers that are forwarded even if a `Connection` header names them.
const FORWARDING: [&str; 6] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
];

/// Returns the names in the `Connection` headers, in lower case and without those in [`FORWARDING`].
fn connection_names(headers: &HeaderMap) -> Vec<Vec<u8>> {
    let lines = headers.get_all(CONNECTION).iter().map(HeaderValue::as_bytes);
    let names = lines.flat_map(|line| line.split(|b| *b == b','));
    let names = names.map(|name| name.trim_ascii().to_ascii_lowercase());
    names.filter(|name| !FORWARDING.iter().any(|it| name == it.as_bytes())).collect()
}

pub(crate) fn hop_by_hop(data: &[u8]) {
    let before = header_lines(data);
    let mut after = before.clone();
    strip_hop_by_hop(&mut after);
    let names = connection_names(&before);
    let is_removed = |name: &HeaderName| {
        HOP_BY_HOP.contains(&name.as_str()) || names.iter().any(|n| n == name.as_str().as_bytes())
    };
    for name in before.keys() {
        let want: Vec<_> = before.get_all(name).iter().filter(|_| !is_removed(name)).collect();
        assert_eq!(after.get_all(name).iter().collect::<Vec<_>>(), want, "{name}");
    }
    assert!(after.keys().all(|name| before.contains_key(name)));
    let once = after.clone();
    strip_hop_by_hop(&mut after);
    assert_eq!(after, once);
}

/// Returns the header names in docs/reference/request-headers.md, from the rows that `wanted` selects.
fn documented(wanted: fn(&str) -> bool) -> BTreeSet<&'static str> {
    let rows = include_str!("../../docs/reference/request-headers.md").lines();
    let rows = rows.filter(|row| row.starts_with("| ") && wanted(row));
    rows.flat_map(|row| row.split('`').skip(1).step_by(2)).collect()
}

static TABLE: LazyLock<BTreeSet<&str>> = LazyLock::new(|| documented(|_| true));
static OTHER_SPELLINGS: LazyLock<BTreeSet<&str>> =
    LazyLock::new(|| documented(|row| row.starts_with("| Other spellings")));

pub(crate) fn sanitize(data: &[u8]) {
    let before = header_lines(data);
    let layer = SanitizeLayer::new().with_headers([HeaderName::from_static("x-custom-user")]);
    let service = layer.layer(echo());
    let pass = |headers: HeaderMap| {
        let mut request = Request::new(Full::<Bytes>::default());
        *request.headers_mut() = headers;
        passed_on(service.clone(), request).map(|passed| passed.headers)
    };
    let Some(after) = pass(before.clone()) else {
        // All requests of this target are GET. The layer rejects a GET request only if it is a WebSocket handshake of a
        // page of another origin.
        let is_handshake = before.contains_key(UPGRADE) || before.contains_key(SEC_WEBSOCKET_KEY);
        assert!(before.contains_key(ORIGIN) && is_handshake);
        return;
    };
    let names = connection_names(&before);
    for name in before.keys() {
        let text = name.as_str();
        // A CGI program does not distinguish `-` from other characters that are neither a letter nor a digit.
        let dashed = text.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let only_other_spellings = text == dashed && OTHER_SPELLINGS.contains(&*dashed);
        let reserved = dashed.starts_with("x-certificate-")
            || dashed.starts_with("-ws")
            || (dashed.starts_with("access-control-") && dashed != "access-control-")
            || dashed == "x-custom-user"
            || (TABLE.contains(&*dashed) && !only_other_spellings);
        let hop_by_hop =
            HOP_BY_HOP.contains(&text) || names.iter().any(|name| name == text.as_bytes());
        assert_eq!(after.contains_key(name), !reserved && !hop_by_hop, "{name}");
        assert!(!after.contains_key(name) || after.get_all(name) == before.get_all(name));
    }
    for name in [AUTHORIZATION, COOKIE, HeaderName::from_static("private-token")] {
        assert!(after.get_all(name).iter().all(HeaderValue::is_sensitive));
    }
    assert_eq!(pass(after.clone()), Some(after));
}
