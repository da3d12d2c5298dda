//! Fuzz targets for requests to the auth API: bodies, and the header `Authorization: Basic`. The auth API is the set of
//! the gateway's own endpoints for login, tokens and PassTickets. Names such as `login` and `ticket` are endpoints of
//! this API. A target with such a name takes the body of a request to this endpoint as its input. A PAT is a Personal
//! Access Token.

use std::{num::NonZeroU32, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use tower::ServiceExt;
use tower_passticket::{
    api::AuthPrefix,
    passticket::PassTicket,
    revocation::{
        AccessTokenCursor, AccessTokenId, CheckError, MemoryAccessTokens, RevocationIndex,
        TokenName,
    },
    token::{Scope, ServiceId, VerifiedToken},
};

use crate::{
    exchange::block_on,
    gateway::{APPLID, PASSWORD, api, profile, user},
    support::{CERTIFICATE, LOGIN_TOKEN, NOW, PAT, clock, ready, verifier, with_tokens},
};

enum Caller {
    Anonymous,
    Certificate,
    CertificateAndToken,
    Authorization(HeaderValue),
}

/// The state of the auth API. Each request gets a new API with this state.
struct Auth {
    revocations: Arc<RevocationIndex>,
    registry: Arc<MemoryAccessTokens>,
}

impl Auth {
    fn new() -> Self {
        let revocations = Arc::<RevocationIndex>::default();
        let registry = Arc::new(MemoryAccessTokens::new(revocations.clone()));
        Self { revocations, registry }
    }

    /// Sends a request to the auth API. Returns the response, after [`check_answer`] has checked it.
    fn send(&self, method: Method, path: &str, caller: Caller, body: &[u8]) -> Response<Bytes> {
        let body = Full::new(Bytes::copy_from_slice(body));
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() =
            format!("{}{path}", AuthPrefix::default().as_str()).parse().expect("a valid path");
        if matches!(caller, Caller::Certificate | Caller::CertificateAndToken) {
            request.extensions_mut().insert(CERTIFICATE.clone());
        }
        if path == "/token" {
            let form = HeaderValue::from_static("application/x-www-form-urlencoded");
            request.headers_mut().insert(CONTENT_TYPE, form);
        }
        match caller {
            Caller::Authorization(value) => {
                request.headers_mut().insert(AUTHORIZATION, value);
            }
            Caller::CertificateAndToken => {
                let value = format!("Bearer {}", *LOGIN_TOKEN);
                let value = HeaderValue::try_from(value).expect("a token is ASCII");
                request.headers_mut().insert(AUTHORIZATION, value);
            }
            Caller::Anonymous | Caller::Certificate => {}
        }
        // The API checks passwords in a separate task, so the future needs a runtime.
        let api = api(self.revocations.clone())
            .with_access_token_registry(self.registry.clone(), NonZeroU32::MAX);
        let response = block_on(api.oneshot(request));
        let Ok(response) = response;
        let (head, body) = response.into_parts();
        let Ok(body) = ready(body.collect());
        let response = Response::from_parts(head, body.to_bytes());
        check_answer(&response);
        response
    }

    fn is_pat_revoked(&self) -> bool {
        let pat = verifier().verify(&PAT).expect("the PAT is valid");
        assert!(matches!(pat, VerifiedToken::Pat(_)));
        match self.revocations.check(&pat) {
            Ok(()) => false,
            Err(CheckError::Revoked(_)) => true,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Asserts that the status is not 500. An error response must be JSON with a Zowe message. An error without
/// `error_description` (a member of OAuth errors) must not set a cookie. An error without `error_description` must have
/// the header `WWW-Authenticate` if and only if its status is 401.
fn check_answer(response: &Response<Bytes>) {
    let status = response.status();
    assert!(status != 500, "{response:?}");
    if !status.is_client_error() && !status.is_server_error() {
        return;
    }
    assert_eq!(response.headers()["content-type"], "application/json");
    let body: Value = serde_json::from_slice(response.body()).expect("a refusal is JSON");
    if let Some(description) = body["error_description"].as_str() {
        assert!(description.starts_with("ZWE"), "{description}");
        assert!(body["error"].is_string());
        return;
    }
    let number = body["messages"][0]["messageNumber"].as_str().expect("a message has a number");
    assert!(number.starts_with("ZWE"), "{number}");
    assert_eq!(status == 401, response.headers().contains_key("www-authenticate"));
    assert!(!response.headers().contains_key("set-cookie"));
}

fn login_basic() -> Caller {
    let value = format!("Basic {}", BASE64_STANDARD.encode(format!("USER:{PASSWORD}")));
    Caller::Authorization(HeaderValue::try_from(value).expect("Base64 is ASCII"))
}

fn object(body: &[u8]) -> Value {
    let value: Value = serde_json::from_slice(body).expect("an accepted body is JSON");
    assert!(value.is_object());
    value
}

/// The input is an `Authorization` header of `login`.
pub(crate) fn basic(data: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(data) else { return };
    let response = Auth::new().send(Method::POST, "/login", Caller::Authorization(value), b"");
    if response.status() == 204 {
        let encoded = str::from_utf8(data).expect("Base64 is ASCII").trim();
        let (scheme, encoded) =
            encoded.split_once([' ', '\t']).expect("the accepted header has a scheme and a value");
        assert!(scheme.eq_ignore_ascii_case("basic"));
        let encoded = encoded.trim().trim_end_matches('=');
        let decoded = base64::prelude::BASE64_STANDARD_NO_PAD
            .decode(encoded)
            .expect("the accepted credentials are Base64");
        assert!(decoded.ends_with(format!(":{PASSWORD}").as_bytes()));
    } else {
        assert!(matches!(response.status().as_u16(), 400 | 401), "{response:?}");
    }
}

pub(crate) fn login(data: &[u8]) {
    let send = |body: &[u8]| Auth::new().send(Method::POST, "/login", Caller::Anonymous, body);
    let response = send(data);
    if response.status() == 204 {
        let body = object(data);
        assert_eq!(body["password"], PASSWORD);
        let cookie = response.headers()["set-cookie"].to_str().expect("a token is ASCII");
        let token = cookie.split(['=', ';']).nth(1).expect("a cookie has a value");
        let Ok(VerifiedToken::Jwt(jwt)) = verifier().verify(token) else { panic!("{cookie}") };
        let name = body["username"].as_str().expect("expected a JSON string");
        assert_eq!(jwt.user(), &user(name));
        return;
    }
    assert!(matches!(response.status().as_u16(), 400 | 401), "{response:?}");
    // Two wrong passwords of the same length must get the same answer.
    let Ok(Value::Object(mut body)) = serde_json::from_slice::<Value>(data) else { return };
    let Some(password) = body.get("password").and_then(Value::as_str) else { return };
    if password.is_empty() || !password.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return;
    }
    let other_password = "q".repeat(password.len());
    let first = send(Value::Object(body.clone()).to_string().as_bytes());
    if first.status() == 204 {
        // The gateway refused the input, because a field occurs twice in it. It accepted `body`, which has each field
        // only once.
        return;
    }
    body.insert("password".to_owned(), other_password.into());
    let second = send(Value::Object(body).to_string().as_bytes());
    assert_eq!((first.status(), first.body()), (second.status(), second.body()));
}

pub(crate) fn ticket(data: &[u8]) {
    let response = Auth::new().send(Method::POST, "/ticket", Caller::CertificateAndToken, data);
    if response.status() != 200 {
        assert_eq!(response.status(), 400);
        return;
    }
    let applid =
        object(data)["applicationName"].as_str().map(|name| name.trim().to_ascii_uppercase());
    assert_eq!(applid.as_deref(), Some(APPLID));
    let answer = object(response.body());
    let ticket = answer["ticket"].as_str().expect("expected a JSON string");
    let ticket = PassTicket::parse(ticket).expect("expected a PassTicket");
    let now = tower_passticket::clock::Clock::now(&*clock());
    assert!(profile().evaluate(&user("LOGINUSR"), &ticket, now).is_ok());
}

pub(crate) fn delegate(data: &[u8]) {
    let response =
        Auth::new().send(Method::POST, "/delegate/passticket", Caller::Certificate, data);
    if response.status() != 200 {
        assert!(matches!(response.status().as_u16(), 400 | 404), "{response:?}");
        return;
    }
    let body = object(data);
    assert_eq!(
        body["applId"].as_str().map(|name| name.trim().to_ascii_uppercase()).as_deref(),
        Some(APPLID)
    );
    let email = body["emailId"].as_str().expect("expected a JSON string");
    assert!(email.trim().eq_ignore_ascii_case(crate::gateway::EMAIL), "{email:?}");
    assert_eq!(object(response.body())["tsoUserid"], "OTHER");
}

/// The input is a body of `token`, with placeholders for tokens (see [`with_tokens`]).
pub(crate) fn exchange(data: &[u8]) {
    let body = with_tokens(data);
    let response = Auth::new().send(Method::POST, "/token", Caller::Certificate, &body);
    let answer = str::from_utf8(response.body()).expect("JSON is UTF-8");
    if response.status() != 200 {
        assert!(matches!(response.status().as_u16(), 400 | 413), "{response:?}");
        assert!(!answer.contains(&**PAT) && !answer.contains(&**LOGIN_TOKEN));
        return;
    }
    let values = |name: &str| -> Vec<String> {
        let pairs = body.split(|byte| *byte == b'&');
        let pairs = pairs.map(|pair| match pair.iter().position(|byte| *byte == b'=') {
            Some(at) => (form_text(&pair[..at]), form_text(&pair[at + 1..])),
            None => (form_text(pair), String::new()),
        });
        pairs.filter(|(other, _)| other == name).map(|(_, value)| value).collect()
    };
    let audience: Vec<_> =
        values("audience").iter().map(|name| name.trim().to_ascii_uppercase()).collect();
    assert_eq!(audience, [APPLID]);
    assert_eq!(values("grant_type"), ["urn:ietf:params:oauth:grant-type:token-exchange"]);
    assert!(values("scope").iter().chain(&values("resource")).all(String::is_empty));
    let answer = object(response.body());
    let name = answer["user_id"].as_str().expect("expected a JSON string");
    let token = match name {
        "LOGINUSR" => &*LOGIN_TOKEN,
        "PATUSER" => &*PAT,
        other => panic!("{other}"),
    };
    assert_eq!(values("subject_token"), [(**token).to_owned()]);
    let ticket = answer["access_token"].as_str().expect("expected a JSON string");
    let ticket = PassTicket::parse(ticket).expect("expected a PassTicket");
    let now = tower_passticket::clock::Clock::now(&*clock());
    assert!(profile().evaluate(&user(name), &ticket, now).is_ok());
}

/// Decodes a name or a value of an accepted form.
fn form_text(text: &[u8]) -> String {
    let mut decoded = Vec::new();
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'+' => decoded.push(b' '),
            b'%' => {
                let digits = str::from_utf8(&rest[..2]).expect("an accepted escape has two digits");
                decoded.push(u8::from_str_radix(digits, 16).expect("an accepted escape is hex"));
                rest = &rest[2..];
            }
            byte => decoded.push(*byte),
        }
    }
    String::from_utf8(decoded).expect("an accepted form is UTF-8")
}

pub(crate) fn generate(data: &[u8]) {
    let response = Auth::new().send(Method::POST, "/access-token/generate", login_basic(), data);
    if response.status() != 200 {
        assert_eq!(response.status(), 400);
        return;
    }
    let token = str::from_utf8(response.body()).expect("a token is ASCII");
    let Ok(VerifiedToken::Pat(pat)) = verifier().verify(token) else { panic!("{token}") };
    assert_eq!(pat.user(), &user("USER"));
    let secs = pat.expires_at().as_secs() - NOW;
    let is_until = !object(data)["expiresAt"].is_null();
    let shortest = if is_until { 1 } else { 86_400 };
    assert!((shortest..=90 * 86_400).contains(&secs), "{secs}");
    let scopes = &object(data)["scopes"];
    let listed = scopes.as_array().expect("expected a JSON array").iter();
    let listed: Vec<_> = listed
        .flat_map(|item| item.as_str().expect("expected a JSON string").split(','))
        .filter_map(|scope| Scope::new(scope).ok())
        .collect();
    assert!(pat.scopes().iter().all(|scope| listed.contains(scope)));
    assert!(listed.iter().all(|scope| pat.scopes().covers(scope)));
}

/// The input is a line with the query of `access-tokens`, followed by a body. The target sends this body twice: to
/// change a token, and to rotate the token.
pub(crate) fn access_tokens(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (query, body) = (&data[..end], data.get(end + 1..).unwrap_or_default());
    let auth = Auth::new();
    let body_of_new = br#"{"scopes":["svc"],"name":"fuzz"}"#;
    auth.send(Method::POST, "/access-token/generate", login_basic(), body_of_new);
    let list = |query: &str| {
        let path = format!("/access-tokens?{query}");
        auth.send(Method::GET, &path, login_basic(), b"")
    };
    let page = object(list("").body());
    let id = page["tokens"][0]["id"].as_str().expect("a token has an id").to_owned();
    let text = str::from_utf8(query).unwrap_or_default();
    if format!("/?{text}").parse::<Uri>().is_ok() {
        let response = list(text);
        assert!(matches!(response.status().as_u16(), 200 | 400), "{response:?}");
        if response.status() == 200 {
            let page = object(response.body());
            let tokens = page["tokens"].as_array().expect("a page has a list");
            assert!(tokens.len() <= 1 && page["next"].is_null());
        }
    }
    if let Ok(cursor) = text.parse::<AccessTokenCursor>() {
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
    }
    if let Ok(id) = text.parse::<AccessTokenId>() {
        assert_eq!(id.to_string(), text);
    }
    let path = format!("/access-tokens/{id}");
    let response = auth.send(Method::PATCH, &path, login_basic(), body);
    assert!(matches!(response.status().as_u16(), 200 | 400), "{response:?}");
    if response.status() == 200 {
        let entry = object(response.body());
        let name = entry["name"].as_str().expect("the token has a name");
        assert_eq!(TokenName::new(name).map(|name| name.to_string()).as_deref(), Ok(name));
    }
    let response = auth.send(Method::POST, &format!("{path}/rotate"), login_basic(), body);
    assert!(matches!(response.status().as_u16(), 200 | 400), "{response:?}");
    if response.status() == 200 {
        let new = object(response.body());
        let token = new["token"].as_str().expect("the answer has a token");
        let Ok(VerifiedToken::Pat(pat)) = verifier().verify(token) else { panic!("{token}") };
        assert!(pat.expires_at().as_secs() <= NOW + 90 * 86_400);
    }
}

/// The input is a body of `access-token/validate`, with placeholders for tokens (see [`with_tokens`]).
pub(crate) fn validate(data: &[u8]) {
    let body = with_tokens(data);
    let auth = Auth::new();
    let response = auth.send(Method::POST, "/access-token/validate", Caller::Anonymous, &body);
    if response.status() == 200 {
        let body = object(&body);
        assert_eq!(body["token"], **PAT);
        let service = body["serviceId"].as_str().and_then(|id| ServiceId::new(id).ok());
        assert_eq!(service, ServiceId::new("svc").ok());
    } else {
        assert!(matches!(response.status().as_u16(), 400 | 401), "{response:?}");
        let refusal = str::from_utf8(response.body()).expect("JSON is UTF-8");
        assert!(!refusal.contains(&**PAT) && !refusal.contains(&**LOGIN_TOKEN));
    }
}

/// The input is a body of `access-token/revoke`, with placeholders for tokens (see [`with_tokens`]).
pub(crate) fn revoke(data: &[u8]) {
    let body = with_tokens(data);
    let auth = Auth::new();
    let response = auth.send(Method::DELETE, "/access-token/revoke", Caller::Anonymous, &body);
    assert!(matches!(response.status().as_u16(), 200 | 400 | 401), "{response:?}");
    assert_eq!(auth.is_pat_revoked(), response.status() == 200);
    if response.status() == 200 {
        assert_eq!(object(&body)["token"], **PAT);
    }
}

/// The input is a byte that selects an endpoint for revocation rules, followed by the body.
pub(crate) fn rules(data: &[u8]) {
    let Some((choice, body)) = data.split_first() else { return };
    let path = match choice & 3 {
        0 => "/access-token/revoke/tokens",
        1 => "/access-token/revoke/tokens/user",
        2 => "/access-token/revoke/tokens/users",
        _ => "/access-token/revoke/tokens/scope",
    };
    let auth = Auth::new();
    let response = auth.send(Method::DELETE, path, login_basic(), body);
    if response.status() != 200 {
        assert_eq!(response.status(), 400);
        assert!(!auth.is_pat_revoked());
        return;
    }
    if !auth.is_pat_revoked() {
        return;
    }
    // Only a rule for the user or the service of the PAT revokes the PAT.
    let body = object(body);
    let named = |field: &str| body[field].as_str().map(|name| name.trim().to_ascii_uppercase());
    match choice & 3 {
        1 | 2 => assert_eq!(named("userId").as_deref(), Some("PATUSER")),
        3 => assert_eq!(named("serviceId").as_deref(), Some("SVC")),
        _ => panic!("a rule for USER revoked the PAT of another user"),
    }
}
