//! Tests that send requests to [`AuthApi`] and check the responses. Each response must also match the OpenAPI document.

mod apiml;
mod audit;
mod client_address;
mod cross_origin;
mod delegate;
mod exchange;
mod model;
mod oidc;
mod passwords;
mod pats;
mod registry;
mod scopes;
mod throttle;
mod token_form;
mod tokens;

use std::{
    collections::HashMap,
    future::ready,
    num::NonZeroU32,
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
        AccessTokenChange, AccessTokenStore, CheckError, Evicted, IssuedPat, MemoryAccessTokens,
        Revocation, RevocationCheck, RevocationIndex, RevocationStore, StoreError, StoreFuture,
    },
    saf::{AccessLevel, CheckFuture, FileSaf, Profile, ProfileName, SafError, SafProvider},
    token::{KeyId, Pat, Rs256Verifier, Scopes, SigningKey, TokenIssuer, Validity, VerifiedToken},
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

/// A login provider. The password of each user is `validPassword`. The provider is not available for the user `DOWN`.
#[derive(Clone, Copy)]
struct StubLogin {
    /// If `true`, the provider supports password changes, and refuses the new password `weak`.
    can_change_passwords: bool,
}

impl LoginProvider for StubLogin {
    fn login(&self, user: UserId, password: Password) -> LoginFuture {
        Box::pin(ready(match (user.as_str(), password.expose()) {
            ("DOWN", _) => Err(LoginError::Unavailable),
            (_, b"validPassword") => Ok(user),
            _ => Err(LoginError::WrongCredentials),
        }))
    }

    fn change_password(&self, user: UserId, old: Password, new: Password) -> Option<LoginFuture> {
        self.can_change_passwords.then(|| match new.expose() {
            b"weak" => Box::pin(ready(Err(LoginError::NewPasswordRefused))),
            _ => self.login(user, old),
        })
    }
}

/// A revocation store in memory. A test can make it fail.
#[derive(Default)]
struct Store {
    index: Arc<RevocationIndex>,
    /// If `true`, the store cannot store or remove revocations.
    cannot_write: AtomicBool,
    /// If `true`, the store cannot check tokens.
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

    fn register(&self, pat: IssuedPat) -> StoreFuture<()> {
        self.written(|index| index.register(pat))
    }

    fn record_rule_of_now(&self, rule: Revocation) -> StoreFuture<()> {
        self.written(|index| index.record_rule_of_now(rule))
    }

    fn evict(&self, now: Timestamp) -> StoreFuture<Evicted> {
        self.written(|index| index.evict(now))
    }
}

/// Checks permissions against the list in [`World::with_replay`]. For the user `SAFDOWN`, SAF (the z/OS interface to
/// the security product) is not available. For the user `SAFBAD`, SAF gives no decision.
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

/// An auth API, with its clock, its revocation store and its audit records.
struct World {
    clock: Arc<ManualClock>,
    store: Arc<Store>,
    collected: Arc<Collected>,
    registry: Arc<MemoryAccessTokens>,
    /// An auth API with only one of the optional endpoints: `ticket`. Client certificates are off.
    minimal: AuthApi,
}

impl World {
    fn new() -> Self {
        Self::with_replay(Replay::Allowed)
    }

    /// Creates a world with the application `ZOWEAPPL`, with or without replay protection. `READER` may revoke tokens
    /// of other users. `ADMIN` may also remove expired revocations. `AGENT` may get PassTickets (one-time passwords of
    /// z/OS) for other users.
    fn with_replay(replay: Replay) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(NOW)));
        let store = Arc::new(Store::default());
        let services = |class| Profile::new(class, ProfileName::new("APIML.SERVICES").unwrap());
        let saf = FileSaf::new([
            services("ZOWE")
                .permit(user("READER"), AccessLevel::Read)
                .permit(user("ADMIN"), AccessLevel::Update),
            // The class `zowe` is not the class `ZOWE`, so this permission has no effect.
            services("zowe").permit(user("USER"), AccessLevel::Alter),
            Profile::new("ZOWE", ProfileName::new("APIML.DELEGATE.PASSTICKET").unwrap())
                .permit(user("AGENT"), AccessLevel::Read),
        ]);
        let profile = key_profile("ZOWEAPPL").with_replay(replay);
        let tickets = LocalGenerator::new(KeyProfiles::new([profile]).unwrap());
        let issuer = TokenIssuer::new(KEY.clone()).with_clock(clock.clone());
        let verifier = Rs256Verifier::new(KEY.verifying_key()).with_clock(clock.clone());
        let collected = Arc::new(Collected::default());
        let minimal = AuthApi::new(
            issuer,
            verifier,
            StubLogin { can_change_passwords: false },
            store.clone(),
        )
        .with_passtickets(tickets.with_clock(clock.clone()))
        .with_saf(StubSaf(saf))
        .with_clock(clock.clone())
        .with_audit(Audit::to(collected.clone()));
        let registry = Arc::new(MemoryAccessTokens::new(store.index.clone()));
        Self { clock, store, collected, registry, minimal }
    }

    /// Returns an auth API with PassTickets, Personal Access Tokens, `refresh` and client certificates. Delegation, the
    /// token exchange, the registry and the endpoints of API ML (Zowe's API Mediation Layer) are off.
    fn api(&self, compatibility: Compatibility) -> AuthApi {
        self.minimal
            .clone()
            .with_personal_access_tokens(Validity::MAX)
            .with_token_refresh()
            .with_client_certificates(CommonNameMapper)
            .with_compatibility(compatibility)
    }

    /// Returns an auth API with the registry of issued PATs. A user can have three active tokens.
    fn api_with_registry(&self) -> AuthApi {
        self.api(Compatibility::Documented)
            .with_access_token_registry(self.registry.clone(), NonZeroU32::new(3).unwrap())
    }

    fn pat(&self, user: &str, scopes: &str) -> String {
        let issuer = TokenIssuer::new(KEY.clone()).with_clock(self.clock.clone());
        let (user, scopes) = (UserId::new(user).unwrap(), Scopes::parse([scopes]).unwrap());
        issuer.personal_access_token(&user, &scopes, Validity::MAX).unwrap().expose().to_owned()
    }

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

fn minimal_api() -> AuthApi {
    World::new().minimal
}

fn api() -> AuthApi {
    World::new().api(Compatibility::Documented)
}

fn certificate(name: &str) -> PeerCertificate {
    PeerCertificate::from_der(pki::self_signed_with_name(name)).unwrap()
}

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
    /// The common name of the client certificate.
    certificate: Option<&'a str>,
    content_type: Option<&'a str>,
    body: &'a str,
}

const POST_LOGIN: TestRequest<'_> = TestRequest {
    method: "POST",
    url: LOGIN,
    authorization: None,
    cookie: None,
    certificate: None,
    content_type: None,
    body: "",
};
const POST_GENERATE: TestRequest<'_> = TestRequest { url: GENERATE, body: SCOPES, ..POST_LOGIN };
const GET_QUERY: TestRequest<'_> = TestRequest { method: "GET", url: QUERY, ..POST_LOGIN };

/// Returns the OpenAPI document of `api`. APIs with equal settings share one document.
fn description(api: &AuthApi) -> Arc<Value> {
    static DOCUMENTS: LazyLock<Mutex<HashMap<String, Arc<Value>>>> = LazyLock::new(Mutex::default);
    let make = || Arc::new(openapi::document(&api.settings()));
    DOCUMENTS.lock().unwrap().entry(format!("{api:?}")).or_insert_with(make).clone()
}

impl TestRequest<'_> {
    async fn send_to(&self, api: AuthApi) -> Response<Bytes> {
        let mut request = Request::builder().method(self.method).uri(self.url);
        for (name, value) in [
            ("authorization", self.authorization),
            ("cookie", self.cookie),
            ("content-type", self.content_type),
        ] {
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

    /// Asserts that the OpenAPI document `description` describes the response: its status, content type, message number
    /// and headers.
    fn assert_described(&self, description: &Value, response: &Response<Bytes>) {
        let (url, verb) = (self.url.split('?').next().unwrap(), self.method.to_ascii_lowercase());
        let status = response.status().as_u16();
        let name = format!("{} {} {status}", self.method, self.url);
        // The document has `{id}` in place of an id in the path.
        let paths = description["paths"].as_object().unwrap();
        let is_like = |template: &str| match template.split_once("{id}") {
            Some((before, after)) => url
                .strip_prefix(before)
                .and_then(|rest| rest.strip_suffix(after))
                .is_some_and(|id| !id.is_empty() && !id.contains('/')),
            None => false,
        };
        let described = paths
            .get(url)
            .or_else(|| paths.iter().find(|(path, _)| is_like(path)).map(|(_, it)| it));
        let Some(operations) = described.and_then(Value::as_object) else {
            assert_eq!(status, 404, "{name}");
            return;
        };
        let operation = operations.get(&verb).or_else(|| {
            assert_eq!(status, 405, "{name}");
            operations.values().next()
        });
        let operation = operation.unwrap();
        let described = &operation["responses"][status.to_string()];
        assert!(described.is_object(), "{name}");

        let headers = response.headers();
        let content = described["content"].as_object();
        assert!(response.body().is_empty() || content.is_some(), "{name}");
        if let (Some(content), Some(kind)) = (content, headers.get("content-type")) {
            let content = &content[kind.to_str().unwrap()];
            let document: Option<Value> = serde_json::from_slice(response.body()).ok();
            let code = document.as_ref().and_then(|document| document["error"].as_str());
            if let Some(code) = code {
                let codes = &content["schema"]["allOf"][1]["properties"]["error"]["enum"];
                assert!(codes.as_array().unwrap().iter().any(|it| it == code), "{name}: {code}");
            } else if status >= 400 {
                let document = document.unwrap();
                let number = document["messages"][0]["messageNumber"].as_str().unwrap();
                assert!(content["examples"][number].is_object(), "{name}: {number}");
            }
        }
        let none = serde_json::Map::new();
        let described = described["headers"].as_object().unwrap_or(&none);
        for (header, header_object) in described {
            let is_optional = header_object["required"] == false;
            assert!(is_optional || headers.contains_key(header), "{name}: {header}");
        }
        for header in headers.keys().map(|header| header.as_str()) {
            let is_described = described.keys().any(|name| name.eq_ignore_ascii_case(header));
            assert!(is_described || header == "content-type", "{name}: {header}");
        }
    }
}

/// Returns the status and the message number of a response. The number of a successful response is empty. Also asserts
/// the headers, the extension and the body that all error responses must have.
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
async fn login_uses_basic_or_else_the_body_or_else_the_certificate() {
    let good = basic("user:validPassword");
    let good = Some(good.as_str());
    let wrong = basic("user:wrong");
    let wrong = Some(wrong.as_str());
    let malformed = Some("Basic ???");
    let not_a_user_id = basic("john.doe@corp:validPassword");
    let down = basic("down:x");
    let no_password = basic("user:");
    let jwt = issuer().login_token(&UserId::new("USER").unwrap(), "security-domain").unwrap();
    let bearer = format!("Bearer {}", jwt.expose());
    let user = Some("USER");

    let cases = [
        ("right Basic", TestRequest { authorization: good, ..POST_LOGIN }, 204, ""),
        ("right body", TestRequest { body: GOOD_BODY, ..POST_LOGIN }, 204, ""),
        ("certificate", TestRequest { certificate: user, ..POST_LOGIN }, 204, ""),
        (
            "right Basic, wrong body",
            TestRequest { authorization: good, body: WRONG_BODY, ..POST_LOGIN },
            204,
            "",
        ),
        (
            "right body, authorization scheme Bearer",
            TestRequest { authorization: Some("Bearer x"), body: GOOD_BODY, ..POST_LOGIN },
            204,
            "",
        ),
        (
            "wrong Basic, right body",
            TestRequest { authorization: wrong, body: GOOD_BODY, ..POST_LOGIN },
            401,
            "ZWEAG120E",
        ),
        (
            "wrong Basic, valid certificate",
            TestRequest { authorization: wrong, certificate: user, ..POST_LOGIN },
            401,
            "ZWEAG120E",
        ),
        (
            "wrong body, valid certificate",
            TestRequest { body: WRONG_BODY, certificate: user, ..POST_LOGIN },
            401,
            "ZWEAG120E",
        ),
        (
            "malformed Basic, right body",
            TestRequest { authorization: malformed, body: GOOD_BODY, ..POST_LOGIN },
            401,
            "ZWEAG120E",
        ),
        (
            "user name that is not a valid user id",
            TestRequest { authorization: Some(&not_a_user_id), ..POST_LOGIN },
            401,
            "ZWEAG120E",
        ),
        (
            "login provider not available",
            TestRequest { authorization: Some(&down), ..POST_LOGIN },
            503,
            "ZWEAG104E",
        ),
        (
            "empty password",
            TestRequest { authorization: Some(&no_password), ..POST_LOGIN },
            400,
            "ZWEAG121E",
        ),
        (
            "right Basic, malformed body",
            TestRequest { authorization: good, body: "{", ..POST_LOGIN },
            400,
            "ZWEAG121E",
        ),
        (
            "valid certificate, malformed body",
            TestRequest { certificate: user, body: "{", ..POST_LOGIN },
            400,
            "ZWEAG121E",
        ),
        (
            "blank user name",
            TestRequest { body: r#"{"username":" ","password":"x"}"#, ..POST_LOGIN },
            400,
            "ZWEAG121E",
        ),
        (
            "new password, but password changes are not supported",
            TestRequest {
                body: r#"{"username":"user","password":"validPassword","newPassword":"x"}"#,
                ..POST_LOGIN
            },
            400,
            "ZWEAG121E",
        ),
        ("no credential", POST_LOGIN, 400, "ZWEAG121E"),
        (
            "certificate that is mapped to no user",
            TestRequest { certificate: Some("Zowe Service"), ..POST_LOGIN },
            400,
            "ZWEAG121E",
        ),
        (
            "login token, which is not accepted here",
            TestRequest { authorization: Some(&bearer), ..POST_LOGIN },
            400,
            "ZWEAG121E",
        ),
        (
            "wrong method",
            TestRequest { method: "GET", authorization: good, ..POST_LOGIN },
            405,
            "ZWEAG101E",
        ),
    ];
    for (name, request, status, number) in cases {
        let response = request.send_to(api()).await;
        assert_eq!(outcome(&response), (status, number.to_owned()), "{name}");
    }
    let response = TestRequest { certificate: user, ..POST_LOGIN }.send_to(minimal_api()).await;
    assert_eq!(outcome(&response), (400, "ZWEAG121E".to_owned()));
}

#[tokio::test]
async fn login_sets_a_cookie_with_a_token_that_verifies() {
    let response = TestRequest { body: GOOD_BODY, ..POST_LOGIN }.send_to(api()).await;
    assert_eq!(response.status(), 204);
    assert!(response.body().is_empty());
    assert_eq!(response.headers()["cache-control"], "no-store");
    // Besides the cookie, there are three security headers.
    assert_eq!(response.headers().len(), 4);
    let cookie = &response.headers()["set-cookie"];
    assert!(cookie.is_sensitive());
    let token = cookie
        .to_str()
        .unwrap()
        .strip_prefix("apimlAuthenticationToken=")
        .and_then(|rest| rest.strip_suffix("; Path=/; SameSite=Strict; HttpOnly; Secure"))
        .unwrap();
    let VerifiedToken::Jwt(jwt) = verifier().verify(token).unwrap() else {
        panic!("expected a JWT")
    };
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
async fn a_401_does_not_make_browsers_ask_for_a_password() {
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
async fn messages_contain_the_path_without_its_query() {
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
    assert_eq!(response.headers()["allow"], "GET, HEAD, OPTIONS");
}

#[tokio::test]
async fn query_returns_the_content_of_a_login_token() {
    let user = UserId::new("user").unwrap();
    let jwt = issuer().login_token(&user, "security-domain").unwrap();
    let bearer = format!("Bearer {}", jwt.expose());
    let cookie = format!("a=b; apimlAuthenticationToken={}", jwt.expose());
    for request in [
        TestRequest { authorization: Some(&bearer), ..GET_QUERY },
        TestRequest { cookie: Some(&cookie), ..GET_QUERY },
        TestRequest { cookie: Some(&cookie), authorization: Some("Bearer x"), ..GET_QUERY },
    ] {
        let response = request.send_to(minimal_api()).await;
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
async fn query_accepts_only_a_valid_login_token() {
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
        ("no credential", GET_QUERY, "ZWEAG131E", None),
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
    for (name, request, number, header) in cases {
        let response = request.send_to(api()).await;
        assert_eq!(outcome(&response), (401, number.to_owned()), "{name}");
        let failure = response.headers().get("x-zowe-auth-failure").map(|v| v.to_str().unwrap());
        assert_eq!(failure, header, "{name}");
    }
}

#[tokio::test]
async fn generate_returns_a_token_with_the_requested_scopes_and_days() {
    let good = basic("user:validPassword");
    for request in [
        TestRequest { authorization: Some(&good), ..POST_GENERATE },
        TestRequest { certificate: Some("user"), ..POST_GENERATE },
    ] {
        let response = request.send_to(api()).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/plain");
        assert_eq!(response.headers()["cache-control"], "no-store");
        assert!(!response.headers().contains_key("set-cookie"));
        let token = str::from_utf8(response.body()).unwrap();
        let VerifiedToken::Pat(pat) = verifier().verify(token).unwrap() else {
            panic!("expected a PAT")
        };
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
            "wrong Basic, valid certificate",
            TestRequest { authorization: wrong, certificate: Some("USER"), ..POST_GENERATE },
            401,
            "ZWEAG120E",
        ),
        ("no credential", POST_GENERATE, 400, "ZWEAG121E"),
        ("a login token", TestRequest { cookie: Some(&jwt), ..POST_GENERATE }, 400, "ZWEAG121E"),
        ("a PAT", TestRequest { authorization: Some(&pat), ..POST_GENERATE }, 400, "ZWEAG121E"),
        (
            "certificate that is mapped to no user",
            TestRequest { certificate: Some("x y"), ..POST_GENERATE },
            400,
            "ZWEAG121E",
        ),
        (
            "login provider not available",
            TestRequest { authorization: Some(&down), ..POST_GENERATE },
            503,
            "ZWEAG104E",
        ),
        (
            "wrong password, malformed body",
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
        ("body of a login", TestRequest { body: GOOD_BODY, ..POST_GENERATE }, 400, "ZWEAT605E"),
        (
            "more scopes than fit into a token",
            TestRequest { authorization: good, body: &many, ..POST_GENERATE },
            400,
            "ZWEAT605E",
        ),
        (
            "wrong method",
            TestRequest { method: "PUT", authorization: good, ..POST_GENERATE },
            405,
            "ZWEAG101E",
        ),
    ];
    for (name, request, status, number) in cases {
        let response = request.send_to(api()).await;
        assert_eq!(outcome(&response), (status, number.to_owned()), "{name}");
    }
    let response =
        TestRequest { authorization: good, ..POST_GENERATE }.send_to(minimal_api()).await;
    assert_eq!(outcome(&response), (404, "ZWEAO404E".to_owned()));
}

#[tokio::test]
async fn an_unavailable_identity_mapping_gets_503() {
    struct UnavailableMapper;
    impl IdentityMapper for UnavailableMapper {
        fn map_certificate(&self, _: &PeerCertificate) -> MapFuture {
            Box::pin(ready(Err(MapError::Unavailable)))
        }
    }
    let request = TestRequest { certificate: Some("USER"), ..POST_LOGIN };
    let response = request.send_to(minimal_api().with_client_certificates(UnavailableMapper)).await;
    assert_eq!(outcome(&response), (503, "ZWEAG104E".to_owned()));
}

#[tokio::test]
async fn unknown_paths_get_404() {
    for url in ["/gateway/api/v1/auth/logouts", "/gateway/api/v1/auth", "/", "/login"] {
        let response = TestRequest { url, ..POST_LOGIN }.send_to(api()).await;
        assert_eq!(outcome(&response), (404, "ZWEAO404E".to_owned()), "{url}");
    }
}

#[tokio::test]
async fn a_body_longer_than_the_limit_gets_413() {
    let padded = |len: usize| format!("{GOOD_BODY}{}", " ".repeat(len - GOOD_BODY.len()));
    let response = TestRequest { body: &padded(MAX_BODY_LEN), ..POST_LOGIN }.send_to(api()).await;
    assert_eq!(outcome(&response), (204, String::new()));
    for request in [POST_LOGIN, POST_GENERATE] {
        let response =
            TestRequest { body: &padded(MAX_BODY_LEN + 1), ..request }.send_to(api()).await;
        assert_eq!(outcome(&response), (413, "ZWEAO413E".to_owned()));
    }
}

#[tokio::test]
async fn an_incomplete_body_gets_400() {
    /// A body with one frame. After this frame, it fails with an error that does not implement `std::error::Error`.
    struct BrokenBody(Option<Bytes>);
    struct NotAnError;
    impl Body for BrokenBody {
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
        let request =
            Request::post(url).body(BrokenBody(Some(Bytes::from_static(b"{\"")))).unwrap();
        let (parts, body) = api().oneshot(request).await.unwrap().into_parts();
        let response = Response::from_parts(parts, body.collect().await.unwrap().to_bytes());
        assert_eq!(outcome(&response), (400, "ZWEAO400E".to_owned()));
    }
}

#[tokio::test]
async fn an_unused_body_is_read_unless_the_client_expects_100_continue() {
    struct CountedBody(Arc<AtomicUsize>, Full<Bytes>);

    impl Body for CountedBody {
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

    // Two polls read the whole body: the first returns the data, and the second returns the end.
    for (expects_continue, want_polls) in [(false, 2), (true, 0)] {
        let polls = Arc::new(AtomicUsize::new(0));
        let mut request = Request::put(LOGIN);
        if expects_continue {
            request = request.header("expect", "100-continue");
        }
        let body = CountedBody(polls.clone(), Full::from("{}"));
        let response = api().oneshot(request.body(body).unwrap()).await.unwrap();
        assert_eq!((response.status().as_u16(), polls.load(SeqCst)), (405, want_polls));
    }
}
