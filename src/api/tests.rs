//! The endpoints as a client sees them.

mod audit;
mod model;
mod pats;
mod throttle;
mod tokens;

mod delegate;

use std::{
    collections::HashMap,
    future::ready,
    pin::Pin,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use test_support::{
    pki,
    tickets::{key_profile, user},
};
use tower::ServiceExt;

use super::*;
use crate::{
    audit::{Audit, Collected},
    clock::{Clock, ManualClock, Timestamp},
    identity::{CommonNameMapper, IdentityMapper, MapError, MapFuture, PeerCertificate},
    layer::CookieNames,
    passticket::{Applid, KeyProfiles, LocalGenerator, Replay, UserId},
    revocation::{
        CheckError, Evicted, Revocation, RevocationCheck, RevocationIndex, RevocationStore,
        StoreError, StoreFuture,
    },
    saf::{AccessLevel, CheckFuture, FileSaf, Profile, ProfileName, SafError, SafProvider},
    token::{Pat, Rs256Verifier, Scopes, SigningKey, TokenIssuer, Validity, VerifiedToken},
};

const NOW: u64 = 1_800_000_000;
const LOGIN: &str = "/gateway/api/v1/auth/login";
const QUERY: &str = "/gateway/api/v1/auth/query";
const GENERATE: &str = "/gateway/api/v1/auth/access-token/generate";
const GOOD_BODY: &str = r#"{"username":"user","password":"validPassword"}"#;
const WRONG_BODY: &str = r#"{"username":"user","password":"wrong"}"#;
const SCOPES: &str = r#"{"validity":2,"scopes":["B,a"]}"#;

static KEY: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::from_pem(pki::SIGNING_KEY.as_bytes()).unwrap());

/// Every user has the password `validPassword`. For `DOWN` the provider is unavailable. If `changes`
/// is set, it changes passwords, but not to `weak`.
#[derive(Clone, Copy)]
struct Stub {
    changes: bool,
}

impl LoginProvider for Stub {
    fn login(&self, user: UserId, password: Password) -> LoginFuture {
        Box::pin(ready(match (user.as_str(), password.expose()) {
            ("DOWN", _) => Err(LoginError::Unavailable),
            (_, b"validPassword") => Ok(user),
            _ => Err(LoginError::WrongCredentials),
        }))
    }

    fn change_password(&self, user: UserId, old: Password, new: Password) -> Option<LoginFuture> {
        self.changes.then(|| match new.expose() {
            b"weak" => Box::pin(ready(Err(LoginError::NewPasswordRefused))),
            _ => self.login(user, old),
        })
    }
}

/// An index that fails on demand.
#[derive(Default)]
struct Store {
    index: RevocationIndex,
    cannot_write: AtomicBool,
    cannot_check: AtomicBool,
}

impl Store {
    fn written<T: Send + 'static>(
        &self,
        write: impl FnOnce(&RevocationIndex) -> StoreFuture<T>,
    ) -> StoreFuture<T> {
        match self.cannot_write.load(SeqCst) {
            true => Box::pin(ready(Err(StoreError::Ended { store: "stub".into() }))),
            false => write(&self.index),
        }
    }

    fn checked(&self, result: Result<(), CheckError>) -> Result<(), CheckError> {
        if self.cannot_check.load(SeqCst) { Err(CheckError::Unavailable) } else { result }
    }
}

impl RevocationCheck for Store {
    fn try_check_now(&self, token: &VerifiedToken) -> Option<Result<(), CheckError>> {
        Some(self.checked(self.index.check(token)))
    }
}

impl RevocationStore for Store {
    fn record(&self, revocation: Revocation) -> StoreFuture<()> {
        self.written(|index| index.record(revocation))
    }

    fn evict(&self, now: Timestamp) -> StoreFuture<Evicted> {
        self.written(|index| index.evict(now))
    }
}

/// `READER` has `READ`, `ADMIN` has `UPDATE`. For `SAFDOWN` and `SAFBAD` the check fails.
#[derive(Clone)]
struct StubSaf(FileSaf);

impl SafProvider for StubSaf {
    fn check(&self, user: &UserId, class: &str, name: &str, level: AccessLevel) -> CheckFuture {
        match user.as_str() {
            "SAFDOWN" => Box::pin(ready(Err(SafError::Unavailable))),
            "SAFBAD" => Box::pin(ready(Err(SafError::Failed("why".to_owned())))),
            _ => self.0.check(user, class, name, level),
        }
    }
}

/// An auth API with its clock, store and audit records.
struct World {
    clock: Arc<ManualClock>,
    store: Arc<Store>,
    collected: Arc<Collected>,
    /// Only PassTickets are on.
    bare: AuthApi,
}

impl World {
    fn new() -> Self {
        Self::of(Replay::Allowed)
    }

    /// With one application, with or without replay protection.
    fn of(replay: Replay) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(NOW)));
        let store = Arc::new(Store::default());
        let services = |class| Profile::new(class, ProfileName::new("APIML.SERVICES").unwrap());
        let saf = FileSaf::new([
            services("ZOWE")
                .permit(user("READER"), AccessLevel::Read)
                .permit(user("ADMIN"), AccessLevel::Update),
            services("zowe").permit(user("USER"), AccessLevel::Alter),
            Profile::new("ZOWE", ProfileName::new("APIML.DELEGATE.PASSTICKET").unwrap())
                .permit(user("AGENT"), AccessLevel::Read),
        ]);
        let profile = key_profile("ZOWEAPPL").with_replay(replay);
        let tickets = LocalGenerator::new(KeyProfiles::new([profile]).unwrap());
        let issuer = TokenIssuer::new(KEY.clone()).with_clock(clock.clone());
        let verifier = Rs256Verifier::new(KEY.verifying_key()).with_clock(clock.clone());
        let collected = Arc::new(Collected::default());
        let bare = AuthApi::new(issuer, verifier, Stub { changes: false }, store.clone())
            .with_passtickets(tickets.with_clock(clock.clone()))
            .with_saf(StubSaf(saf))
            .with_clock(clock.clone())
            .with_audit(Audit::to(collected.clone()));
        Self { clock, store, collected, bare }
    }

    /// Everything except delegation is on.
    fn api(&self, compatibility: Compatibility) -> AuthApi {
        self.bare
            .clone()
            .with_personal_access_tokens(Validity::MAX)
            .with_token_refresh()
            .with_client_certificates(CommonNameMapper)
            .with_compatibility(compatibility)
    }

    /// A PAT of `user`, issued now.
    fn pat(&self, user: &str, scopes: &str) -> String {
        let issuer = TokenIssuer::new(KEY.clone()).with_clock(self.clock.clone());
        let (user, scopes) = (UserId::new(user).unwrap(), Scopes::parse([scopes]).unwrap());
        issuer.personal_access_token(&user, &scopes, Validity::MAX).unwrap().expose().to_owned()
    }

    /// A login token of `USER`, issued now.
    fn jwt(&self) -> String {
        let issuer = TokenIssuer::new(KEY.clone()).with_clock(self.clock.clone());
        let user = UserId::new("USER").unwrap();
        issuer.login_token(&user, "security-domain").unwrap().expose().to_owned()
    }
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(Timestamp::from_secs(NOW)))
}

fn issuer() -> TokenIssuer {
    TokenIssuer::new(KEY.clone()).with_clock(clock())
}

fn verifier() -> Rs256Verifier {
    Rs256Verifier::new(KEY.verifying_key()).with_clock(clock())
}

fn bare() -> AuthApi {
    World::new().bare
}

fn api() -> AuthApi {
    World::new().api(Compatibility::Documented)
}

fn certificate(name: &str) -> PeerCertificate {
    PeerCertificate::from_der(pki::self_signed_with_name(name)).unwrap()
}

/// The same token with another signature.
fn forged(token: &str) -> String {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let other = if signature.starts_with('A') { "B" } else { "A" };
    format!("{signed}.{other}{}", &signature[1..])
}

fn basic(credentials: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(credentials))
}

#[derive(Clone, Copy)]
struct TestRequest<'a> {
    method: &'a str,
    url: &'a str,
    authorization: Option<&'a str>,
    cookie: Option<&'a str>,
    certificate: Option<&'a str>,
    body: &'a str,
}

const POST_LOGIN: TestRequest<'_> = TestRequest {
    method: "POST",
    url: LOGIN,
    authorization: None,
    cookie: None,
    certificate: None,
    body: "",
};
const POST_GENERATE: TestRequest<'_> = TestRequest { url: GENERATE, body: SCOPES, ..POST_LOGIN };
const GET_QUERY: TestRequest<'_> = TestRequest { method: "GET", url: QUERY, ..POST_LOGIN };

/// The OpenAPI document of `api`, made once for equal settings.
fn description(api: &AuthApi) -> Arc<Value> {
    static KNOWN: LazyLock<Mutex<HashMap<String, Arc<Value>>>> = LazyLock::new(Mutex::default);
    let make = || Arc::new(openapi::document(&api.settings()));
    KNOWN.lock().unwrap().entry(format!("{api:?}")).or_insert_with(make).clone()
}

impl TestRequest<'_> {
    async fn send_to(&self, api: AuthApi) -> Response<Bytes> {
        let mut request = Request::builder().method(self.method).uri(self.url);
        for (name, value) in [("authorization", self.authorization), ("cookie", self.cookie)] {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        if let Some(name) = self.certificate {
            request = request.extension(certificate(name));
        }
        let request = request.body(Full::<Bytes>::from(self.body.to_owned())).unwrap();
        let description = description(&api);
        let (parts, body) = api.oneshot(request).await.unwrap().into_parts();
        let response = Response::from_parts(parts, body.collect().await.unwrap().to_bytes());
        self.assert_described(&description, &response);
        response
    }

    /// Asserts that the document has the status, the content type, the message and the headers.
    fn assert_described(&self, description: &Value, response: &Response<Bytes>) {
        let (url, verb) = (self.url.split('?').next().unwrap(), self.method.to_ascii_lowercase());
        let status = response.status().as_u16();
        let name = format!("{} {} {status}", self.method, self.url);
        let Some(operations) = description["paths"][url].as_object() else {
            assert_eq!(status, 404, "{name}");
            return;
        };
        let (other, only) = operations.iter().next().unwrap();
        assert!(operations.len() == 1 && (status == 405 || *other == verb), "{name}");
        let described = &only["responses"][status.to_string()];
        assert!(described.is_object(), "{name}");

        let headers = response.headers();
        let content = described["content"].as_object();
        assert!(response.body().is_empty() || content.is_some(), "{name}");
        if let (Some(content), Some(kind)) = (content, headers.get("content-type")) {
            let content = &content[kind.to_str().unwrap()];
            if status >= 400 {
                let document: Value = serde_json::from_slice(response.body()).unwrap();
                let number = document["messages"][0]["messageNumber"].as_str().unwrap();
                assert!(content["examples"][number].is_object(), "{name}: {number}");
            }
        }
        let none = serde_json::Map::new();
        let described = described["headers"].as_object().unwrap_or(&none);
        for (header, of) in described {
            assert!(of["required"] == false || headers.contains_key(header), "{name}: {header}");
        }
        for header in headers.keys().map(|header| header.as_str()) {
            let known = described.keys().any(|known| known.eq_ignore_ascii_case(header));
            assert!(known || header == "content-type", "{name}: {header}");
        }
    }
}

/// Status and message number. Asserts that an error is complete.
fn outcome(response: &Response<Bytes>) -> (u16, String) {
    let status = response.status();
    if status.is_success() {
        return (status.as_u16(), String::new());
    }
    assert_eq!(response.headers()["content-type"], "application/json");
    assert!(response.extensions().get::<ApiError>().is_some());
    assert_eq!(response.headers().contains_key("www-authenticate"), status == 401);
    assert_eq!(response.headers().contains_key("allow"), status == 405);
    assert!(!response.headers().contains_key("set-cookie"));
    let document: Value = serde_json::from_slice(response.body()).unwrap();
    let message = &document["messages"][0];
    assert_eq!(message["messageType"], "ERROR");
    (status.as_u16(), message["messageNumber"].as_str().unwrap().to_owned())
}

fn content(response: &Response<Bytes>) -> String {
    let document: Value = serde_json::from_slice(response.body()).unwrap();
    document["messages"][0]["messageContent"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn login_answers_each_credential() {
    let good = basic("user:validPassword");
    let good = Some(good.as_str());
    let wrong = basic("user:wrong");
    let wrong = Some(wrong.as_str());
    let undecodable = Some("Basic ???");
    let no_user = basic("john.doe@corp:validPassword");
    let down = basic("down:x");
    let no_password = basic("user:");
    let jwt = issuer().login_token(&UserId::new("USER").unwrap(), "security-domain").unwrap();
    let bearer = format!("Bearer {}", jwt.expose());
    let user = Some("USER");

    let cases = [
        ("Basic", TestRequest { authorization: good, ..POST_LOGIN }, 204, ""),
        ("body", TestRequest { body: GOOD_BODY, ..POST_LOGIN }, 204, ""),
        ("certificate", TestRequest { certificate: user, ..POST_LOGIN }, 204, ""),
        (
            "Basic beats body",
            TestRequest { authorization: good, body: WRONG_BODY, ..POST_LOGIN },
            204,
            "",
        ),
        (
            "body beside another scheme",
            TestRequest { authorization: Some("Bearer x"), body: GOOD_BODY, ..POST_LOGIN },
            204,
            "",
        ),
        (
            "no rescue by body",
            TestRequest { authorization: wrong, body: GOOD_BODY, ..POST_LOGIN },
            401,
            "ZWEAG120E",
        ),
        (
            "no rescue by certificate",
            TestRequest { authorization: wrong, certificate: user, ..POST_LOGIN },
            401,
            "ZWEAG120E",
        ),
        (
            "nor of a body",
            TestRequest { body: WRONG_BODY, certificate: user, ..POST_LOGIN },
            401,
            "ZWEAG120E",
        ),
        (
            "undecodable Basic",
            TestRequest { authorization: undecodable, body: GOOD_BODY, ..POST_LOGIN },
            401,
            "ZWEAG120E",
        ),
        (
            "no user id",
            TestRequest { authorization: Some(&no_user), ..POST_LOGIN },
            401,
            "ZWEAG120E",
        ),
        (
            "provider down",
            TestRequest { authorization: Some(&down), ..POST_LOGIN },
            503,
            "ZWEAG104E",
        ),
        (
            "no password",
            TestRequest { authorization: Some(&no_password), ..POST_LOGIN },
            400,
            "ZWEAG121E",
        ),
        (
            "malformed body beside Basic",
            TestRequest { authorization: good, body: "{", ..POST_LOGIN },
            400,
            "ZWEAG121E",
        ),
        (
            "malformed body beside certificate",
            TestRequest { certificate: user, body: "{", ..POST_LOGIN },
            400,
            "ZWEAG121E",
        ),
        (
            "blank user",
            TestRequest { body: r#"{"username":" ","password":"x"}"#, ..POST_LOGIN },
            400,
            "ZWEAG121E",
        ),
        (
            "new password",
            TestRequest {
                body: r#"{"username":"user","password":"validPassword","newPassword":"x"}"#,
                ..POST_LOGIN
            },
            400,
            "ZWEAG121E",
        ),
        ("nothing", POST_LOGIN, 400, "ZWEAG121E"),
        (
            "certificate without a user",
            TestRequest { certificate: Some("Zowe Service"), ..POST_LOGIN },
            400,
            "ZWEAG121E",
        ),
        (
            "a login token",
            TestRequest { authorization: Some(&bearer), ..POST_LOGIN },
            400,
            "ZWEAG121E",
        ),
        ("GET", TestRequest { method: "GET", authorization: good, ..POST_LOGIN }, 405, "ZWEAG101E"),
    ];
    for (name, asked, status, number) in cases {
        let response = asked.send_to(api()).await;
        assert_eq!(outcome(&response), (status, number.to_owned()), "{name}");
    }
    // Client certificates are off by default.
    let response = TestRequest { certificate: user, ..POST_LOGIN }.send_to(bare()).await;
    assert_eq!(outcome(&response), (400, "ZWEAG121E".to_owned()));
}

#[tokio::test]
async fn login_sets_a_cookie_with_a_token_that_verifies() {
    let response = TestRequest { body: GOOD_BODY, ..POST_LOGIN }.send_to(api()).await;
    assert_eq!(response.status(), 204);
    assert!(response.body().is_empty());
    assert_eq!(response.headers()["cache-control"], "no-store");
    assert_eq!(response.headers().len(), 2);
    let cookie = &response.headers()["set-cookie"];
    assert!(cookie.is_sensitive());
    let token = cookie
        .to_str()
        .unwrap()
        .strip_prefix("apimlAuthenticationToken=")
        .and_then(|rest| rest.strip_suffix("; Path=/; SameSite=Strict; HttpOnly; Secure"))
        .unwrap();
    let VerifiedToken::Jwt(jwt) = verifier().verify(token).unwrap() else { panic!("is a JWT") };
    assert_eq!(jwt.user().as_str(), "USER");
    assert_eq!(jwt.domain(), Some("security-domain"));
    assert_eq!(jwt.expires_at().as_secs(), NOW + 28_800);

    let renamed = api().with_cookie_names(CookieNames::default().with_jwt("own").with_pat("pat"));
    let response = TestRequest { body: GOOD_BODY, ..POST_LOGIN }.send_to(renamed.clone()).await;
    let cookie = response.headers()["set-cookie"].to_str().unwrap();
    let (cookie, _) = cookie.split_once(';').unwrap();
    assert!(cookie.starts_with("own="), "{cookie}");
    assert_eq!(
        TestRequest { cookie: Some(cookie), ..GET_QUERY }.send_to(renamed).await.status(),
        200
    );
    let unusable = api().with_cookie_names(CookieNames::default().with_jwt("a\nb").with_pat("pat"));
    let response = TestRequest { body: GOOD_BODY, ..POST_LOGIN }.send_to(unusable).await;
    assert_eq!(outcome(&response), (500, "ZWEAO500E".to_owned()));
}

#[tokio::test]
async fn challenges_open_no_dialogue_in_browsers() {
    let response = TestRequest { body: WRONG_BODY, ..POST_LOGIN }.send_to(api()).await;
    assert_eq!(response.headers()["www-authenticate"], r#"xBasic realm="zowe", charset="UTF-8""#);
    let response = GET_QUERY.send_to(api()).await;
    assert_eq!(response.headers()["www-authenticate"], r#"Bearer realm="zowe""#);
    let response =
        TestRequest { authorization: Some("Bearer x"), ..GET_QUERY }.send_to(api()).await;
    assert_eq!(
        response.headers()["www-authenticate"],
        r#"Bearer realm="zowe", error="invalid_token""#
    );
}

#[tokio::test]
async fn messages_name_the_path_as_written_and_without_its_query() {
    let response = TestRequest { url: &format!("{LOGIN}?a=b"), body: WRONG_BODY, ..POST_LOGIN }
        .send_to(api())
        .await;
    assert_eq!(
        content(&response),
        "Invalid username or password for URL '/gateway/api/v1/auth/login'"
    );
    let response = TestRequest { method: "PUT", ..GET_QUERY }.send_to(api()).await;
    assert_eq!(
        content(&response),
        "Authentication method 'PUT' is not supported for URL '/gateway/api/v1/auth/query'"
    );
    assert_eq!(response.headers()["allow"], "GET");
}

#[tokio::test]
async fn query_answers_the_content_of_a_login_token() {
    let user = UserId::new("user").unwrap();
    let jwt = issuer().login_token(&user, "security-domain").unwrap();
    let bearer = format!("Bearer {}", jwt.expose());
    let cookie = format!("a=b; apimlAuthenticationToken={}", jwt.expose());
    for asked in [
        TestRequest { authorization: Some(&bearer), ..GET_QUERY },
        TestRequest { cookie: Some(&cookie), ..GET_QUERY },
        TestRequest { cookie: Some(&cookie), authorization: Some("Bearer x"), ..GET_QUERY },
    ] {
        let response = asked.send_to(bare()).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/json");
        let (creation, expiration) = (NOW * 1000, (NOW + 28_800) * 1000);
        assert_eq!(
            str::from_utf8(response.body()).unwrap(),
            format!(
                r#"{{"domain":"security-domain","userId":"USER","creation":{creation},"expiration":{expiration}}}"#
            )
        );
    }
}

#[tokio::test]
async fn query_refuses_all_but_a_valid_login_token() {
    let user = UserId::new("USER").unwrap();
    let scopes = Scopes::parse(["a"]).unwrap();
    let pat = issuer().personal_access_token(&user, &scopes, Validity::MAX).unwrap();
    let expired = issuer().with_lifetime(Duration::ZERO).login_token(&user, "d").unwrap();
    let jwt = issuer().login_token(&user, "d").unwrap();
    let pat = format!("Bearer {}", pat.expose());
    let expired = format!("Bearer {}", expired.expose());
    let forged = format!("Bearer {}x", jwt.expose());
    let other_cookie = format!("other={}", jwt.expose());
    let not_valid = Some("ZWEAG102E Token is not valid");
    let cases = [
        ("nothing", GET_QUERY, "ZWEAG131E", None),
        (
            "another cookie",
            TestRequest { cookie: Some(&other_cookie), ..GET_QUERY },
            "ZWEAG131E",
            None,
        ),
        (
            "Basic",
            TestRequest { authorization: Some("Basic dTpw"), ..GET_QUERY },
            "ZWEAG131E",
            None,
        ),
        ("certificate", TestRequest { certificate: Some("USER"), ..GET_QUERY }, "ZWEAG131E", None),
        (
            "garbage",
            TestRequest { authorization: Some("Bearer x"), ..GET_QUERY },
            "ZWEAG130E",
            not_valid,
        ),
        (
            "forged",
            TestRequest { authorization: Some(&forged), ..GET_QUERY },
            "ZWEAG130E",
            not_valid,
        ),
        ("a PAT", TestRequest { authorization: Some(&pat), ..GET_QUERY }, "ZWEAG130E", not_valid),
        ("expired", TestRequest { authorization: Some(&expired), ..GET_QUERY }, "ZWEAT100E", None),
    ];
    for (name, asked, number, header) in cases {
        let response = asked.send_to(api()).await;
        assert_eq!(outcome(&response), (401, number.to_owned()), "{name}");
        let failure = response.headers().get("x-zowe-auth-failure").map(|v| v.to_str().unwrap());
        assert_eq!(failure, header, "{name}");
    }
}

#[tokio::test]
async fn generate_answers_a_token_with_the_requested_scopes_and_days() {
    let good = basic("user:validPassword");
    for asked in [
        TestRequest { authorization: Some(&good), ..POST_GENERATE },
        TestRequest { certificate: Some("user"), ..POST_GENERATE },
    ] {
        let response = asked.send_to(api()).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/plain");
        assert_eq!(response.headers()["cache-control"], "no-store");
        assert!(!response.headers().contains_key("set-cookie"));
        let token = str::from_utf8(response.body()).unwrap();
        let VerifiedToken::Pat(pat) = verifier().verify(token).unwrap() else { panic!("a PAT") };
        assert_eq!(pat.user().as_str(), "USER");
        assert_eq!(pat.scopes(), &Scopes::parse(["a", "b"]).unwrap());
        assert_eq!(pat.expires_at().as_secs(), NOW + 2 * 86_400);
    }
}

#[tokio::test]
async fn generate_refuses_bad_credentials_and_bodies() {
    let good = basic("user:validPassword");
    let good = Some(good.as_str());
    let wrong = basic("user:wrong");
    let wrong = Some(wrong.as_str());
    let down = basic("down:x");
    let user = UserId::new("USER").unwrap();
    let scopes = Scopes::parse(["a"]).unwrap();
    let pat = issuer().personal_access_token(&user, &scopes, Validity::MAX).unwrap();
    let jwt = issuer().login_token(&user, "security-domain").unwrap();
    let pat = format!("Bearer {}", pat.expose());
    let jwt = format!("apimlAuthenticationToken={}", jwt.expose());
    let many: Vec<_> = (0..1_000).map(|i| format!("service-{i:05}")).collect();
    let many = json!({ "scopes": many }).to_string();

    let cases = [
        ("wrong password", TestRequest { authorization: wrong, ..POST_GENERATE }, 401, "ZWEAG120E"),
        (
            "no rescue",
            TestRequest { authorization: wrong, certificate: Some("USER"), ..POST_GENERATE },
            401,
            "ZWEAG120E",
        ),
        ("nothing", POST_GENERATE, 400, "ZWEAG121E"),
        ("a login token", TestRequest { cookie: Some(&jwt), ..POST_GENERATE }, 400, "ZWEAG121E"),
        ("a PAT", TestRequest { authorization: Some(&pat), ..POST_GENERATE }, 400, "ZWEAG121E"),
        (
            "certificate without a user",
            TestRequest { certificate: Some("x y"), ..POST_GENERATE },
            400,
            "ZWEAG121E",
        ),
        (
            "provider down",
            TestRequest { authorization: Some(&down), ..POST_GENERATE },
            503,
            "ZWEAG104E",
        ),
        (
            "body first",
            TestRequest { authorization: wrong, body: "{", ..POST_GENERATE },
            400,
            "ZWEAT605E",
        ),
        (
            "no body",
            TestRequest { authorization: good, body: "", ..POST_GENERATE },
            400,
            "ZWEAT606E",
        ),
        ("login body", TestRequest { body: GOOD_BODY, ..POST_GENERATE }, 400, "ZWEAT605E"),
        (
            "more than a token holds",
            TestRequest { authorization: good, body: &many, ..POST_GENERATE },
            400,
            "ZWEAT605E",
        ),
        (
            "PUT",
            TestRequest { method: "PUT", authorization: good, ..POST_GENERATE },
            405,
            "ZWEAG101E",
        ),
    ];
    for (name, asked, status, number) in cases {
        let response = asked.send_to(api()).await;
        assert_eq!(outcome(&response), (status, number.to_owned()), "{name}");
    }
    let response = TestRequest { authorization: good, ..POST_GENERATE }.send_to(bare()).await;
    assert_eq!(outcome(&response), (404, "ZWEAO404E".to_owned()));
}

#[tokio::test]
async fn an_identity_mapping_that_does_not_answer_is_503() {
    struct Down;
    impl IdentityMapper for Down {
        fn map_certificate(&self, _: &PeerCertificate) -> MapFuture {
            Box::pin(ready(Err(MapError::Unavailable)))
        }
    }
    let asked = TestRequest { certificate: Some("USER"), ..POST_LOGIN };
    let response = asked.send_to(bare().with_client_certificates(Down)).await;
    assert_eq!(outcome(&response), (503, "ZWEAG104E".to_owned()));
}

#[tokio::test]
async fn unknown_paths_are_404() {
    for url in ["/gateway/api/v1/auth/logouts", "/gateway/api/v1/auth", "/", "/login"] {
        let response = TestRequest { url, ..POST_LOGIN }.send_to(api()).await;
        assert_eq!(outcome(&response), (404, "ZWEAO404E".to_owned()), "{url}");
    }
}

#[tokio::test]
async fn a_body_is_read_to_its_limit() {
    let padded = |len: usize| format!("{GOOD_BODY}{}", " ".repeat(len - GOOD_BODY.len()));
    let response = TestRequest { body: &padded(MAX_BODY_LEN), ..POST_LOGIN }.send_to(api()).await;
    assert_eq!(outcome(&response), (204, String::new()));
    for asked in [POST_LOGIN, POST_GENERATE] {
        let response =
            TestRequest { body: &padded(MAX_BODY_LEN + 1), ..asked }.send_to(api()).await;
        assert_eq!(outcome(&response), (413, "ZWEAO413E".to_owned()));
    }
}

#[tokio::test]
async fn an_incomplete_body_is_400() {
    /// One frame, then an error that does not implement `std::error::Error`.
    struct Broken(Option<Bytes>);
    struct NotAnError;
    impl Body for Broken {
        type Data = Bytes;
        type Error = NotAnError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, NotAnError>>> {
            Poll::Ready(Some(self.0.take().map(Frame::data).ok_or(NotAnError)))
        }
    }
    for url in [LOGIN, GENERATE] {
        let request = Request::post(url).body(Broken(Some(Bytes::from_static(b"{\"")))).unwrap();
        let (parts, body) = api().oneshot(request).await.unwrap().into_parts();
        let response = Response::from_parts(parts, body.collect().await.unwrap().to_bytes());
        assert_eq!(outcome(&response), (400, "ZWEAO400E".to_owned()));
    }
}

#[tokio::test]
async fn a_body_is_read_to_its_end_even_if_it_is_not_needed() {
    /// Counts the polls.
    struct Counted(Arc<AtomicUsize>, Full<Bytes>);

    impl Body for Counted {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            self.0.fetch_add(1, SeqCst);
            Pin::new(&mut self.1).poll_frame(cx)
        }
    }

    for (expects, want) in [(false, 2), (true, 0)] {
        let taken = Arc::new(AtomicUsize::new(0));
        let mut request = Request::put(LOGIN);
        if expects {
            request = request.header("expect", "100-continue");
        }
        let body = Counted(taken.clone(), Full::from("{}"));
        let response = api().oneshot(request.body(body).unwrap()).await.unwrap();
        assert_eq!((response.status().as_u16(), taken.load(SeqCst)), (405, want));
    }
}
