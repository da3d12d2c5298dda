//! Tests of all layers together, in the correct order and in every wrong order.

mod accepts;
mod audit;
#[cfg(feature = "proxy")]
mod breaker;
mod observe;
mod scopes;
mod technical_users;
mod token_form;

use std::{
    convert::Infallible,
    future::ready,
    sync::{Arc, LazyLock},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use test_support::{pki, tickets::key_profile};
use tower::{BoxError, ServiceBuilder, ServiceExt, util::BoxCloneService};
use tower_layer::Layer;
use tower_service::Service;

use super::*;
use crate::{
    audit::{Audit, Collected},
    clock::{Clock, ManualClock, Timestamp},
    identity::{CommonNameMapper, IdentityMapper, MapError, MapFuture, PeerCertificate},
    passticket::{
        Applid, GenerateError, GenerateFuture, KeyProfile, KeyProfiles, LocalGenerator, PassTicket,
        PassTicketGenerator, Replay, SafReturnCodes, UserId,
    },
    revocation::{CheckError, Revocation, RevocationCheck, RevocationIndex},
    token::{
        Rs256Verifier, Scopes, ServiceId, SigningKey, TokenError, TokenFingerprint, TokenIssuer,
        Validity, VerifiedToken,
    },
};

type Body = Full<Bytes>;

const NOW: u64 = 1_800_000_000;

static KEY: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::from_pem(pki::SIGNING_KEY.as_bytes()).unwrap());

fn profile() -> KeyProfile {
    key_profile("ZOWEAPPL").with_replay(Replay::Allowed)
}

fn certificate(common_name: &str) -> PeerCertificate {
    PeerCertificate::from_der(pki::self_signed_with_name(common_name)).unwrap()
}

fn expired_certificate() -> PeerCertificate {
    let der = pki::self_signed(|params| {
        params.distinguished_name.push(rcgen::DnType::CommonName, "USER");
        params.not_after = rcgen::date_time_ymd(2027, 1, 1);
    });
    PeerCertificate::from_der(der).unwrap()
}

struct Exchange {
    /// The headers that the service has received. `None` if it has received no request.
    southbound: Option<HeaderMap>,
    status: StatusCode,
    response: HeaderMap,
    failure: Option<Failure>,
    rejection: Option<Rejection>,
}

impl Exchange {
    /// Returns a header that the service has received.
    fn received(&self, name: &str) -> Option<&str> {
        self.southbound.as_ref()?.get(name).map(|v| v.to_str().unwrap())
    }

    /// Returns the user of the PassTicket that the service has received.
    fn ticket_user(&self) -> Option<UserId> {
        let basic = self.received("authorization")?.strip_prefix("Basic ")?;
        let plain = String::from_utf8(BASE64_STANDARD.decode(basic).unwrap()).unwrap();
        let (user, ticket) = plain.split_once(':').unwrap();
        let user = UserId::new(user).unwrap();
        let ticket = PassTicket::parse(ticket).unwrap();
        profile().evaluate(&user, &ticket, Timestamp::from_secs(NOW)).ok().map(|_| user)
    }

    /// Returns the text of `X-Zowe-Auth-Failure`. The client and the service must have received the same text.
    fn failure_text(&self) -> Option<&str> {
        let northbound = self.response.get(&X_ZOWE_AUTH_FAILURE).map(|v| v.to_str().unwrap());
        if self.southbound.is_some() {
            assert_eq!(self.received("x-zowe-auth-failure"), northbound);
        }
        northbound
    }
}

struct World {
    clock: Arc<ManualClock>,
    issuer: TokenIssuer,
    revocations: Arc<RevocationIndex>,
    on_failure: OnFailure,
    mode: Mode,
    client_basic: ClientBasic,
    custom: Option<CustomHeaders>,
    collected: Arc<Collected>,
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(NOW)));
        Self {
            issuer: TokenIssuer::new(KEY.clone()).with_clock(clock.clone()),
            clock,
            revocations: Arc::default(),
            on_failure: OnFailure::Forward,
            mode: Mode::Enforce,
            client_basic: ClientBasic::Strip,
            custom: None,
            collected: Arc::default(),
        }
    }

    fn audit(&self) -> Audit {
        Audit::to(self.collected.clone()).with_clock(self.clock.clone())
    }

    fn with(on_failure: OnFailure) -> Self {
        Self { on_failure, ..Self::new() }
    }

    fn jwt(&self) -> String {
        let user = UserId::new("USER").unwrap();
        self.issuer.login_token(&user, "domain").unwrap().expose().to_owned()
    }

    fn pat(&self, scopes: &str) -> String {
        let user = UserId::new("USER").unwrap();
        let scopes = Scopes::parse([scopes]).unwrap();
        let pat = self.issuer.personal_access_token(&user, &scopes, Validity::MAX).unwrap();
        pat.expose().to_owned()
    }

    fn verifier(&self) -> Rs256Verifier {
        Rs256Verifier::new(KEY.verifying_key()).with_clock(self.clock.clone())
    }

    fn routes(&self) -> Routes {
        let generator = LocalGenerator::new(KeyProfiles::new([profile()]).unwrap());
        self.routes_with(generator.with_clock(self.clock.clone()))
    }

    fn routes_with(&self, generator: impl PassTicketGenerator + Clone) -> Routes {
        let ticket = |applid| {
            let scheme = PassTicketScheme::new(Applid::new(applid).unwrap(), generator.clone());
            match &self.custom {
                Some(custom) => scheme.with_custom_headers(custom.clone()),
                None => scheme,
            }
        };
        Routes::new([
            self.route("files", ticket("ZOWEAPPL")),
            self.route("nokey", ticket("NOKEY")),
            self.route("open", Bypass),
            self.route("found", Bypass).without_credentials(),
        ])
        .unwrap()
    }

    fn route(&self, service: &str, scheme: impl Scheme) -> Route {
        let (service, upstream) = (ServiceId::new(service).unwrap(), "http://zos".parse().unwrap());
        let route = Route::new(service, "api/v1", upstream, scheme).unwrap();
        let route = route.with_on_failure(self.on_failure).with_mode(self.mode);
        route.with_client_basic(self.client_basic)
    }

    async fn exchange(&self, request: Request<Body>) -> Exchange {
        let authenticator = Authenticator::new(self.verifier())
            .with_personal_access_tokens(self.revocations.clone())
            .with_client_certificates(CommonNameMapper)
            .with_passwords(Passwords)
            .with_clock(self.clock.clone());
        let stack = ServiceBuilder::new()
            .layer(SanitizeLayer::new())
            .layer(RouteLayer::new(self.routes()))
            .layer(AuthenticateLayer::new(authenticator).with_audit(self.audit()))
            .layer(ScopeLayer::new().with_audit(self.audit()))
            .layer(SchemeLayer::new().with_audit(self.audit()))
            .service(tower::service_fn(echo));
        exchange(stack, request).await
    }
}

/// Accepts two passwords of each user: `right` immediately, and `slow` after a wait. All other passwords fail after a
/// wait.
struct Passwords;

impl PasswordVerifier for Passwords {
    fn try_verify_now(
        &self,
        user: &UserId,
        password: &[u8],
        _: Option<std::net::IpAddr>,
    ) -> Option<Result<UserId, PasswordError>> {
        (password == b"right").then_some(Ok(*user))
    }

    fn verify_password(
        &self,
        user: UserId,
        password: &[u8],
        client: Option<std::net::IpAddr>,
    ) -> PasswordFuture {
        assert_eq!(client, None, "these requests have no connection");
        let result = match password {
            b"slow" => Ok(user),
            b"down" => Err(PasswordError::Unavailable),
            b"early" => {
                Err(PasswordError::TooManyAttempts { retry_after: Duration::from_secs(60) })
            }
            _ => Err(PasswordError::Wrong),
        };
        Box::pin(async move {
            tokio::task::yield_now().await;
            result
        })
    }
}

/// Returns the headers of the request in the extensions of the response.
async fn echo(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let mut response = Response::new(Body::default());
    response.extensions_mut().insert(request.headers().clone());
    Ok(response)
}

async fn exchange<S>(stack: S, request: Request<Body>) -> Exchange
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let (head, _) = stack.oneshot(request).await.unwrap().into_parts();
    Exchange {
        southbound: head.extensions.get().cloned(),
        failure: head.extensions.get().cloned(),
        rejection: head.extensions.get().cloned(),
        status: head.status,
        response: head.headers,
    }
}

fn get(path: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::get(path).body(Body::default()).unwrap();
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        request.headers_mut().append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    request
}

const FILES: &str = "/files/api/v1/x";

#[tokio::test]
async fn each_credential_becomes_a_ticket_and_is_removed() {
    let world = World::new();
    let (jwt, pat) = (world.jwt(), world.pat("files"));
    let cookie = |name: &str, token: &str| ("cookie", format!("a=1; {name}={token}; b=\"2\""));
    let header = |name, token: &str| (name, token.to_owned());
    let cases = [
        cookie("apimlAuthenticationToken", &jwt),
        header("authorization", &format!("Bearer {jwt}")),
        header("authorization", &format!("bearer  {jwt}")),
        cookie("apimlAuthenticationToken", &pat),
        header("authorization", &format!("Bearer {pat}")),
        cookie("personalAccessToken", &pat),
        cookie("personalAccessToken", &format!("\"{pat}\"")),
        header("private-token", &pat),
    ];
    for (name, value) in cases {
        let request =
            get(FILES, &[(name, &value), ("accept", "x"), ("connection", "authorization")]);
        let exchange = world.exchange(request).await;
        assert_eq!(exchange.status, 200);
        // `Connection` contains `Authorization`, so `SanitizeLayer` removes `Authorization`.
        if name == "authorization" {
            assert_eq!(exchange.failure, Some(Failure::NoCredential), "{name}: {value}");
        } else {
            assert_eq!(exchange.ticket_user().unwrap().as_str(), "USER", "{name}: {value}");
        }
        let exchange = world.exchange(get(FILES, &[(name, &value), ("accept", "x")])).await;
        assert_eq!(exchange.ticket_user().unwrap().as_str(), "USER", "{name}: {value}");
        assert_eq!(exchange.failure_text(), None);
        assert_eq!(exchange.received("accept"), Some("x"));
        let southbound = format!("{:?}", exchange.southbound.as_ref().unwrap());
        assert!(!southbound.contains(&jwt) && !southbound.contains(&pat), "{southbound}");
        if name == "cookie" {
            assert_eq!(exchange.received("cookie"), Some("a=1; b=\"2\""));
        }
        assert!(southbound.contains("\"authorization\": Sensitive"), "{southbound}");
    }

    let mut request = get(FILES, &[]);
    request.extensions_mut().insert(certificate("user"));
    assert_eq!(world.exchange(request).await.ticket_user().unwrap().as_str(), "USER");
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
}

#[tokio::test]
async fn a_pat_as_a_basic_password_becomes_a_ticket_with_each_value_of_client_basic() {
    for client_basic in [ClientBasic::Strip, ClientBasic::Verify, ClientBasic::Forward] {
        let world = World { client_basic, ..World::new() };
        let pat = world.pat("files");
        for user in ["USER", "user", "", "oauth2", "token", "x-token-auth"] {
            let exchange =
                world.exchange(get(FILES, &[("authorization", &basic(user, &pat))])).await;
            assert_eq!(exchange.ticket_user().unwrap().as_str(), "USER", "{user}");
        }
        let exchange =
            world.exchange(get(FILES, &[("authorization", &format!("token {pat}"))])).await;
        assert_eq!(exchange.ticket_user().unwrap().as_str(), "USER");
        const INVALID: &str = "ZWEAG102E Token is not valid";
        const NONE: &str = "ZWEAG160E No authentication provided in the request";
        for (value, want) in [
            (basic("OTHER", &pat), INVALID),
            (basic("john.doe@corp", &pat), INVALID),
            (basic("USER", &world.pat("jobs")), INVALID),
            (basic("USER", &format!("{pat}x")), INVALID),
            (basic("USER", "zowepat_x"), INVALID),
            (basic("USER", &world.jwt()), NONE),
            (format!("token {}", world.jwt()), NONE),
        ] {
            // The layer tries no second credential: it neither uses the certificate nor checks the token as a password.
            let mut request = get(FILES, &[("authorization", &value)]);
            request.extensions_mut().insert(certificate("USER"));
            let exchange = world.exchange(request).await;
            assert_eq!(exchange.failure_text(), Some(want), "{value}");
            assert_eq!(exchange.received("authorization"), None, "{value}");
        }
    }
}

#[tokio::test]
async fn client_basic_decides_what_happens_to_a_password() {
    const NONE: &str = "ZWEAG160E No authentication provided in the request";
    const WRONG: &str = "ZWEAG120E Invalid username or password";
    use ClientBasic::{Forward, Strip, Verify};
    let [right, slow, wrong] = ["right", "slow", "wrong"].map(|password| basic("user", password));
    let unavailable = "ZWEAG104E Authentication service is not available";
    let early = "ZWESG429E Request was denied access: wait 60 seconds";
    // The last column: the user of the PassTicket, or the failure and the forwarded header if there is no PassTicket.
    let cases: [(_, &str, Result<&str, (&str, Option<&str>)>); 13] = [
        (Strip, &right, Err((NONE, None))),
        (Forward, &right, Err((NONE, Some(&right)))),
        (Forward, "Basic ???", Err((NONE, None))),
        (Verify, &right, Ok("USER")),
        (Verify, &slow, Ok("USER")),
        (Verify, &wrong, Err((WRONG, None))),
        (Verify, &basic("user", "down"), Err((unavailable, None))),
        (Verify, &basic("user", "early"), Err((early, None))),
        (Verify, &basic("", "right"), Err((WRONG, None))),
        (Verify, &basic("user", ""), Err((WRONG, None))),
        (Verify, &basic("john.doe@corp", "right"), Err((WRONG, None))),
        (Verify, "Basic ???", Err((WRONG, None))),
        (Verify, "Digest x", Err((NONE, None))),
    ];
    for (client_basic, value, want) in cases {
        let world = World { client_basic, ..World::new() };
        let exchange = world.exchange(get(FILES, &[("authorization", value)])).await;
        match want {
            Ok(user) => assert_eq!(exchange.ticket_user().unwrap().as_str(), user, "{value}"),
            Err((text, forwarded)) => {
                assert_eq!(exchange.failure_text(), Some(text), "{client_basic:?} {value}");
                assert_eq!(
                    exchange.received("authorization"),
                    forwarded,
                    "{client_basic:?} {value}"
                );
            }
        }
        // The login token comes first.
        let cookie = format!("apimlAuthenticationToken={}", world.jwt());
        let exchange = world.exchange(get(FILES, &[("authorization", value), ("cookie", &cookie)]));
        assert_eq!(exchange.await.ticket_user().unwrap().as_str(), "USER", "{client_basic:?}");
        let mut request = get(FILES, &[("authorization", value)]);
        request.extensions_mut().insert(certificate("CERT"));
        let user = world.exchange(request).await.ticket_user();
        let is_evaluated = client_basic == Verify && !value.starts_with("Digest");
        assert_eq!(user.is_some_and(|user| user.as_str() == "CERT"), !is_evaluated, "{value}");
    }
}

#[tokio::test]
async fn a_401_offers_basic_only_on_routes_that_accept_basic() {
    let world = World { client_basic: ClientBasic::Verify, ..World::with(OnFailure::Reject) };
    for (headers, status, schemes) in [
        (vec![], 401, &["Bearer", "Basic"][..]),
        (vec![("authorization", basic("user", "wrong"))], 401, &["Bearer", "Basic"]),
        (vec![("authorization", basic("user", "early"))], 429, &[]),
        (vec![("authorization", basic("user", "down"))], 503, &[]),
        (vec![("private-token", world.pat("jobs"))], 403, &[]),
    ] {
        let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let exchange = world.exchange(get(FILES, &headers)).await;
        let offered = exchange.response.get_all("www-authenticate").iter();
        let offered: Vec<_> =
            offered.map(|value| value.to_str().unwrap().split(' ').next().unwrap()).collect();
        assert_eq!((exchange.status.as_u16(), &offered[..]), (status, schemes), "{headers:?}");
        assert_eq!(exchange.response.contains_key("retry-after"), status == 429);
    }
    // A layer that accepts neither PATs nor passwords does not offer Basic.
    let stack = ServiceBuilder::new()
        .layer(RouteLayer::new(world.routes()))
        .layer(AuthenticateLayer::new(Authenticator::new(world.verifier())))
        .service(tower::service_fn(echo));
    let exchange = exchange(stack, get(FILES, &[("authorization", &basic("user", "right"))])).await;
    assert_eq!(exchange.response.get_all("www-authenticate").iter().count(), 1);
    assert_eq!(exchange.failure, Some(Failure::NoCredential));
}

#[tokio::test]
async fn failures_are_forwarded_without_any_credential() {
    let world = World::new();
    let valid_jwt = world.jwt();
    let tampered = format!("{valid_jwt}x");
    let pat_for_jobs = world.pat("jobs");
    let user = UserId::new("USER").unwrap();
    let revoked = world.pat("files");
    let VerifiedToken::Pat(pat) = world.verifier().verify(&revoked).unwrap() else {
        panic!("expected a PAT")
    };
    world
        .revocations
        .apply(&Revocation::Token { token: pat.fingerprint(), expires_at: pat.expires_at() });
    let valid_pat = world.pat("files");
    let non_ascii = "\u{e9}\u{e9}".to_owned();
    let garbage = BASE64_STANDARD.encode("x".repeat(100));

    const NONE: &str = "ZWEAG160E No authentication provided in the request";
    const INVALID: &str = "ZWEAG102E Token is not valid";
    let bearer = |token: &str| format!("Bearer {token}");
    let cases: Vec<(&str, Vec<(&str, String)>, &str)> = vec![
        ("no credential", vec![], NONE),
        ("Basic", vec![("authorization", "Basic VVNFUjp2YWxpZA==".to_owned())], NONE),
        ("garbage", vec![("authorization", bearer("garbage"))], INVALID),
        ("not ASCII", vec![("private-token", non_ascii.clone())], INVALID),
        ("tampered", vec![("authorization", bearer(&tampered))], INVALID),
        ("garbage of 16 KiB", vec![("private-token", "x".repeat(16 * 1024))], INVALID),
        ("garbage of more than 16 KiB", vec![("private-token", "x".repeat(17 * 1024))], INVALID),
        ("PAT of another service", vec![("private-token", pat_for_jobs.clone())], INVALID),
        ("revoked PAT", vec![("private-token", revoked)], INVALID),
        ("login token in PRIVATE-TOKEN", vec![("private-token", valid_jwt.clone())], NONE),
        (
            "invalid cookie, valid header",
            vec![
                ("cookie", format!("apimlAuthenticationToken={garbage}")),
                ("authorization", bearer(&valid_jwt)),
                ("private-token", valid_pat.clone()),
            ],
            INVALID,
        ),
        (
            "invalid PAT cookie, valid PAT header",
            vec![
                ("cookie", format!("personalAccessToken={pat_for_jobs}; a=1")),
                ("private-token", valid_pat.clone()),
            ],
            INVALID,
        ),
        (
            "two Authorization lines",
            vec![
                ("authorization", "Basic VVNFUjp2YWxpZA==".to_owned()),
                ("authorization", bearer(&valid_jwt)),
            ],
            NONE,
        ),
    ];
    for (name, headers, text) in cases {
        let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let mut request = get(FILES, &headers);
        if text == INVALID {
            // The layer must not try the client certificate.
            request.extensions_mut().insert(certificate("USER"));
        }
        let exchange = world.exchange(request).await;
        assert_eq!(exchange.failure_text(), Some(text), "{name}");
        assert_eq!(exchange.status, 200, "{name}");
        let southbound = exchange.southbound.as_ref().unwrap();
        for header in ["authorization", "private-token"] {
            assert!(!southbound.contains_key(header), "{name}: {header}");
        }
        let cookies = exchange.received("cookie").unwrap_or_default();
        assert!(!cookies.contains("Token"), "{name}: {cookies}");
        assert!(exchange.failure.is_some() && exchange.rejection.is_none(), "{name}");
    }

    world.clock.advance(Duration::from_secs(8 * 3600));
    let exchange = world.exchange(get(FILES, &[("authorization", &bearer(&valid_jwt))])).await;
    assert_eq!(exchange.failure_text(), Some("ZWEAG103E The token has expired"));

    world.revocations.apply(&Revocation::User { user, up_to: world.clock.now() });
    let exchange = world.exchange(get(FILES, &[("private-token", &valid_pat)])).await;
    assert_eq!(exchange.failure_text(), Some(INVALID));

    for certificate in [certificate("Zowe Service"), expired_certificate()] {
        let mut request = get(FILES, &[]);
        request.extensions_mut().insert(certificate);
        let exchange = world.exchange(request).await;
        assert_eq!(exchange.failure_text(), Some("ZWEAG161E No user was found"));
    }
}

#[tokio::test]
async fn forward_unchanged_keeps_the_credentials_after_a_failure() {
    let world = World::with(OnFailure::ForwardUnchanged);
    let pat_for_jobs = world.pat("jobs");
    let jwt = format!("Bearer {}", world.jwt());
    let cases: [(&str, &[(&str, &str)]); 3] = [
        // Fails in `AuthenticateLayer`.
        (FILES, &[("authorization", "Basic dTpw"), ("cookie", "a; b=1"), ("cookie", "c=2")]),
        // Fails in `ScopeLayer`.
        (FILES, &[("private-token", &pat_for_jobs), ("cookie", "LtpaToken2=1; c=2")]),
        // Fails in the scheme.
        ("/nokey/api/v1", &[("authorization", &jwt), ("cookie", "jwtToken=1")]),
    ];
    for (path, headers) in cases {
        let request = get(path, headers);
        let sent = request.headers().clone();
        let mut exchange = world.exchange(request).await;
        assert!(exchange.failure_text().is_some());
        let southbound = exchange.southbound.as_mut().unwrap();
        southbound.remove(&X_ZOWE_AUTH_FAILURE);
        assert_eq!(*southbound, sent);
    }

    let headers = [("private-token", world.pat("files")), ("cookie", "jwtToken=1; a=1".to_owned())];
    let headers = headers.each_ref().map(|(n, v)| (*n, v.as_str()));
    let exchange = world.exchange(get(FILES, &headers)).await;
    assert!(exchange.ticket_user().is_some());
    assert_eq!(exchange.received("private-token"), None);
    assert_eq!(exchange.received("cookie"), Some("a=1"));
}

#[tokio::test]
async fn on_failure_reject_does_not_forward_failed_requests() {
    let world = World::with(OnFailure::Reject);
    let (pat_for_jobs, jwt) = (world.pat("jobs"), format!("Bearer {}", world.jwt()));
    let cases: [(&str, &[(&str, &str)], u16, &str); 4] = [
        (FILES, &[], 401, "ZWEAG160E"),
        (FILES, &[("private-token", "garbage")], 401, "ZWEAG102E"),
        (FILES, &[("private-token", &pat_for_jobs)], 403, "ZWEAG102E"),
        ("/nokey/api/v1", &[("authorization", &jwt)], 500, "ZWEAG141E"),
    ];
    for (path, headers, status, number) in cases {
        let exchange = world.exchange(get(path, headers)).await;
        assert_eq!(exchange.status, status);
        assert!(exchange.southbound.is_none(), "{number} was forwarded");
        assert!(exchange.failure_text().unwrap().starts_with(number));
        assert!(matches!(exchange.rejection, Some(Rejection::Authentication(_))));
        assert_eq!(exchange.response.contains_key("www-authenticate"), status == 401);
        assert_eq!(exchange.response["content-type"], "application/json");
    }
}

#[tokio::test]
async fn unknown_paths_and_dot_segments_are_rejected() {
    let world = World::new();
    for (path, status) in [("/unknown/api/v1", 404), ("/files/api/v1/../admin", 400), ("/", 404)] {
        let exchange = world.exchange(get(path, &[])).await;
        assert_eq!(exchange.status, status, "{path}");
        assert!(exchange.southbound.is_none());
    }
}

#[tokio::test]
async fn bypass_removes_reserved_headers_only() {
    let world = World::new();
    let headers = [
        ("authorization", "Basic dTpw"),
        ("private-token", "x"),
        ("cookie", "personalAccessToken=x; b"),
    ];
    let mut request = get("/open/api/v1", &headers);
    let sent = request.headers().clone();
    request.headers_mut().insert("x-certificate-public", HeaderValue::from_static("forged"));
    let exchange = world.exchange(request).await;
    assert_eq!(exchange.southbound.unwrap(), sent);
    assert!(exchange.failure.is_none());
}

#[tokio::test]
async fn bypass_without_credentials_removes_each_credential() {
    let world = World::new();
    let (bearer, basic) = (format!("Bearer {}", world.jwt()), "Basic dTpw");
    for (name, value, want) in [
        ("authorization", &*bearer, None),
        ("authorization", basic, None),
        ("private-token", "x", None),
        ("cookie", "apimlAuthenticationToken=x; personalAccessToken=y; b=c", Some("b=c")),
        ("accept", "text/html", Some("text/html")),
    ] {
        let exchange = world.exchange(get("/found/api/v1", &[(name, value)])).await;
        assert_eq!(exchange.received(name), want, "{name}");
        assert_eq!((exchange.status, exchange.failure), (StatusCode::OK, None));
    }
}

#[tokio::test]
async fn clients_cannot_set_custom_headers() {
    let mut world = World::new();
    world.custom = Some(CustomHeaders::new(
        HeaderName::from_static("x-user"),
        HeaderName::from_static("x-ticket"),
    ));
    let forged = [("x-user", "ADMIN"), ("x-user", "ADMIN"), ("x-ticket", "FORGED")];
    let bearer = format!("Bearer {}", world.jwt());

    let exchange =
        world.exchange(get(FILES, &[&forged[..], &[("authorization", &bearer)]].concat())).await;
    assert_eq!(exchange.received("x-user"), Some("USER"));
    assert_eq!(exchange.southbound.as_ref().unwrap().get_all("x-user").iter().count(), 1);
    let basic = BASE64_STANDARD.encode(format!("USER:{}", exchange.received("x-ticket").unwrap()));
    assert_eq!(exchange.received("authorization"), Some(format!("Basic {basic}").as_str()));

    let exchange = world.exchange(get(FILES, &forged)).await;
    assert_eq!((exchange.received("x-user"), exchange.received("x-ticket")), (None, None));
    assert_eq!(exchange.status, 200);
}

#[tokio::test]
async fn the_failure_header_is_replaced_in_requests_and_kept_in_responses() {
    let world = World::new();
    let exchange = world.exchange(get(FILES, &[("x-zowe-auth-failure", "forged")])).await;
    let southbound = exchange.southbound.as_ref().unwrap();
    let values: Vec<_> = southbound.get_all(&X_ZOWE_AUTH_FAILURE).iter().collect();
    assert_eq!(values, ["ZWEAG160E No authentication provided in the request"]);

    // The service can be another gateway, which also sends this header.
    let sends_the_header = |_: Request<Body>| {
        let response = Response::builder().header(&X_ZOWE_AUTH_FAILURE, "from the service");
        ready(Ok::<_, Infallible>(response.body(Body::default()).unwrap()))
    };
    let stack = ServiceBuilder::new()
        .layer(RouteLayer::new(world.routes_with(NotAllowed)))
        .layer(AuthenticateLayer::new(Authenticator::new(world.verifier())))
        .layer(ScopeLayer::new())
        .layer(SchemeLayer::new())
        .service_fn(sends_the_header);
    let response = stack.oneshot(get(FILES, &[])).await.unwrap();
    let values: Vec<_> = response.headers().get_all(&X_ZOWE_AUTH_FAILURE).iter().collect();
    assert_eq!(values, ["from the service", "ZWEAG160E No authentication provided in the request"]);
}

#[tokio::test]
async fn pats_are_not_accepted_while_they_are_off() {
    let world = World::new();
    let pat = world.pat("files");
    let authenticator =
        Authenticator::new(world.verifier()).with_client_certificates(CommonNameMapper);
    let stack = ServiceBuilder::new()
        .layer(RouteLayer::new(world.routes()))
        .layer(AuthenticateLayer::new(authenticator))
        .layer(ScopeLayer::new())
        .layer(SchemeLayer::new())
        .service(tower::service_fn(echo));
    let bearer = format!("Bearer {pat}");
    for headers in [[("private-token", pat.as_str())], [("authorization", &bearer)]] {
        let exchange = exchange(stack.clone(), get(FILES, &headers)).await;
        let text = exchange.failure_text().unwrap();
        assert!(text.starts_with("ZWEAG160E"), "{text}");
        assert_eq!(exchange.received("private-token"), None);
    }
}

#[tokio::test]
async fn a_stack_with_a_wrong_order_or_a_missing_layer_does_not_forward() {
    type Stack = BoxCloneService<Request<Body>, Response<Body>, Infallible>;
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum L {
        Sanitize,
        Route,
        Authenticate,
        Scope,
        RunScheme,
    }
    use L::{Authenticate, Route, RunScheme, Sanitize, Scope};

    let world = World::new();
    let add = |layer: L, inner: Stack| -> Stack {
        match layer {
            Sanitize => SanitizeLayer::new().layer(inner).boxed_clone(),
            Route => RouteLayer::new(world.routes()).layer(inner).boxed_clone(),
            Authenticate => AuthenticateLayer::new(Authenticator::new(world.verifier()))
                .layer(inner)
                .boxed_clone(),
            Scope => ScopeLayer::new().layer(inner).boxed_clone(),
            RunScheme => SchemeLayer::new().layer(inner).boxed_clone(),
        }
    };
    let all = [Sanitize, Route, Authenticate, Scope, RunScheme];
    let bearer = format!("Bearer {}", world.jwt());
    let mut wrong_stacks = 0;
    for order in permutations(&all) {
        // The stack with all layers, and the stacks that lack one layer. `SchemeLayer` is never missing.
        let shorter = (0..order.len()).map(|missing| {
            let others = order.iter().enumerate().filter(|(i, _)| *i != missing);
            others.map(|(_, l)| *l).collect::<Vec<_>>()
        });
        for order in shorter.chain([order.clone()]).filter(|o| o.contains(&RunScheme)) {
            let stack = order
                .iter()
                .rev()
                .fold(tower::service_fn(echo).boxed_clone(), |inner, layer| add(*layer, inner));
            let exchange = exchange(stack, get(FILES, &[("authorization", &bearer)])).await;
            let without_sanitize: Vec<_> = order.iter().filter(|l| **l != Sanitize).collect();
            // `SanitizeLayer` can be missing, but must not come after another layer.
            let is_right = without_sanitize == [&Route, &Authenticate, &Scope, &RunScheme]
                && order.iter().position(|l| *l == Sanitize).is_none_or(|i| i == 0);
            if is_right {
                assert!(exchange.ticket_user().is_some(), "{order:?}");
            } else {
                wrong_stacks += 1;
                assert_eq!(exchange.status, 500, "{order:?}");
                assert!(exchange.southbound.is_none(), "{order:?}");
                assert!(
                    matches!(exchange.rejection, Some(Rejection::Misassembled(_))),
                    "{order:?}: {:?}",
                    exchange.rejection
                );
            }
        }
    }
    assert!(wrong_stacks > 100, "{wrong_stacks}");
}

fn permutations<T: Copy>(items: &[T]) -> Vec<Vec<T>> {
    if items.is_empty() {
        return vec![Vec::new()];
    }
    (0..items.len())
        .flat_map(|i| {
            let mut rest = items.to_vec();
            let first = rest.remove(i);
            permutations(&rest).into_iter().map(move |tail| [&[first], &tail[..]].concat())
        })
        .collect()
}

#[tokio::test]
async fn a_second_route_layer_is_rejected() {
    // Otherwise, a request could be authorized for one service and forwarded to another.
    let world = World::new();
    let stack = ServiceBuilder::new()
        .layer(RouteLayer::new(world.routes()))
        .layer(AuthenticateLayer::new(Authenticator::new(world.verifier())))
        .layer(ScopeLayer::new())
        .layer(RouteLayer::new(world.routes()))
        .layer(SchemeLayer::new())
        .service(tower::service_fn(echo));
    let bearer = format!("Bearer {}", world.jwt());
    let exchange = exchange(stack, get(FILES, &[("authorization", &bearer)])).await;
    assert_eq!(exchange.status, 500);
}

/// Its futures are pending at the first poll.
#[derive(Clone, Debug)]
struct Slow;

impl IdentityMapper for Slow {
    fn map_certificate(&self, _: &PeerCertificate) -> MapFuture {
        Box::pin(async {
            tokio::task::yield_now().await;
            Ok(UserId::new("USER").unwrap())
        })
    }
}

impl PassTicketGenerator for Slow {
    fn generate(&self, user: &UserId, _: &Applid) -> GenerateFuture {
        let ticket = profile().generate(user, Timestamp::from_secs(NOW)).unwrap();
        Box::pin(async {
            tokio::task::yield_now().await;
            Ok(ticket)
        })
    }
}

/// If a layer calls the mock service before its `poll_ready` has returned `Ready`, the mock service panics. A clone of
/// a ready service is not ready.
#[tokio::test]
async fn the_layers_call_the_ready_service_and_not_its_clone() {
    let world = World::new();
    let (mock, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    handle.allow(1);
    let mut stack = ServiceBuilder::new()
        .layer(SanitizeLayer::new())
        .layer(RouteLayer::new(world.routes_with(Slow)))
        .layer(AuthenticateLayer::new(
            Authenticator::new(world.verifier()).with_client_certificates(Slow),
        ))
        .layer(ScopeLayer::new())
        .layer(SchemeLayer::new())
        .service(mock);

    let mut request = get(FILES, &[]);
    request.extensions_mut().insert(certificate("any name"));
    stack.ready().await.unwrap();
    let response = stack.call(request);
    let serve = async {
        let (request, respond) = handle.next_request().await.unwrap();
        assert!(request.headers().contains_key("authorization"));
        respond.send_response(Response::new(Body::default()));
    };
    let (response, ()) = tokio::join!(response, serve);
    assert_eq!(response.unwrap().status(), 200);

    // `allow(1)` permits one request, so the mock is not ready for a second request.
    assert!(
        tokio::time::timeout(Duration::from_millis(20), stack.ready()).await.is_err(),
        "the stack is ready although the inner service is not"
    );
}

#[tokio::test]
async fn errors_of_the_inner_service_are_returned_unchanged() {
    #[derive(Debug, PartialEq)]
    struct InnerError;
    let world = World::new();
    let stack = ServiceBuilder::new()
        .layer(SanitizeLayer::new())
        .layer(RouteLayer::new(world.routes_with(Slow)))
        .layer(AuthenticateLayer::new(Authenticator::new(world.verifier())))
        .layer(ScopeLayer::new())
        .layer(SchemeLayer::new())
        .service_fn(|_: Request<Body>| ready(Err::<Response<Body>, _>(InnerError)));
    assert_eq!(stack.oneshot(get(FILES, &[])).await.unwrap_err(), InnerError);
}

struct UnavailableForPats;

impl RevocationCheck for UnavailableForPats {
    fn try_check_now(&self, token: &VerifiedToken) -> Option<Result<(), CheckError>> {
        Some(match token {
            VerifiedToken::Pat(_) => Err(CheckError::Unavailable),
            _ => Ok(()),
        })
    }
}

#[derive(Clone)]
struct NotAllowed;

impl PassTicketGenerator for NotAllowed {
    fn generate(&self, user: &UserId, applid: &Applid) -> GenerateFuture {
        let error = GenerateError::new(*user, *applid, SafReturnCodes::NOT_AUTHORIZED);
        Box::pin(ready(Err(error)))
    }
}

#[tokio::test]
async fn unavailable_checks_and_failed_tickets_set_the_failure_header() -> Result<(), BoxError> {
    let world = World::new();
    let stack = ServiceBuilder::new()
        .layer(RouteLayer::new(world.routes_with(NotAllowed)))
        .layer(AuthenticateLayer::new(
            Authenticator::new(world.verifier()).with_personal_access_tokens(UnavailableForPats),
        ))
        .layer(ScopeLayer::new())
        .layer(SchemeLayer::new())
        .service(tower::service_fn(echo));

    let pat = world.pat("files");
    let unavailable = exchange(stack.clone(), get(FILES, &[("private-token", &pat)])).await;
    let text = "ZWEAG104E Authentication service is not available";
    assert_eq!(unavailable.failure_text(), Some(text));
    assert_eq!(unavailable.received("private-token"), None);

    let bearer = format!("Bearer {}", world.jwt());
    let no_ticket = exchange(stack, get(FILES, &[("authorization", &bearer)])).await;
    assert!(no_ticket.failure_text().unwrap().starts_with(
        "ZWEAG141E The generation of the PassTicket failed. Reason: Not authorized to use this"
    ));
    assert_eq!(no_ticket.received("authorization"), None);
    Ok(())
}

#[tokio::test]
async fn a_revoked_login_token_is_refused() {
    let world = World::new();
    let (revoked_jwt, valid_jwt) = (world.jwt(), world.jwt());
    let revocation = Revocation::Token {
        token: TokenFingerprint::of(&revoked_jwt),
        expires_at: Timestamp::from_secs(NOW + 1),
    };
    // A rule for a user revokes only PATs. Login tokens stay valid.
    let user = UserId::new("USER").unwrap();
    let rule = Revocation::User { user, up_to: Timestamp::from_secs(NOW + 1) };
    [revocation, rule].iter().for_each(|revocation| world.revocations.apply(revocation));
    let bearer = |token: &str| format!("Bearer {token}");

    let without_pats =
        Authenticator::new(world.verifier()).with_revocations(world.revocations.clone());
    let with_pats =
        Authenticator::new(world.verifier()).with_personal_access_tokens(world.revocations.clone());
    for authenticator in [without_pats, with_pats] {
        let stack = ServiceBuilder::new()
            .layer(RouteLayer::new(world.routes()))
            .layer(AuthenticateLayer::new(authenticator))
            .layer(ScopeLayer::new())
            .layer(SchemeLayer::new())
            .service(tower::service_fn(echo));
        let refused =
            exchange(stack.clone(), get(FILES, &[("authorization", &bearer(&revoked_jwt))])).await;
        assert_eq!(refused.failure_text(), Some("ZWEAG102E Token is not valid"));
        let accepted = exchange(stack, get(FILES, &[("authorization", &bearer(&valid_jwt))])).await;
        assert_eq!(accepted.failure_text(), None);
    }

    let authenticator =
        Authenticator::new(world.verifier()).with_revocations(RevocationIndex::default());
    let stack = ServiceBuilder::new()
        .layer(RouteLayer::new(world.routes_with(NotAllowed)))
        .layer(AuthenticateLayer::new(authenticator))
        .layer(ScopeLayer::new())
        .layer(SchemeLayer::new())
        .service(tower::service_fn(echo));
    let pat = world.pat("files");
    let refused = exchange(stack, get(FILES, &[("authorization", &bearer(&pat))])).await;
    assert_eq!(refused.failure_text(), Some("ZWEAG160E No authentication provided in the request"));
}

/// Its answer is pending at the first poll.
struct SlowCheck(Result<(), CheckError>);

impl RevocationCheck for SlowCheck {
    fn try_check_now(&self, _: &VerifiedToken) -> Option<Result<(), CheckError>> {
        None
    }

    fn check_token(&self, _: &VerifiedToken) -> crate::revocation::CheckFuture {
        let answer = self.0;
        Box::pin(async move {
            tokio::task::yield_now().await;
            answer
        })
    }
}

#[tokio::test]
async fn a_request_waits_for_the_revocation_check() {
    let world = World::new();
    let revoked = CheckError::Revoked(crate::revocation::RevokedBy::Token);
    for (answer, failure) in [
        (Ok(()), None),
        (Err(revoked), Some("ZWEAG102E Token is not valid")),
        (Err(CheckError::Unavailable), Some("ZWEAG104E Authentication service is not available")),
    ] {
        let authenticator =
            Authenticator::new(world.verifier()).with_personal_access_tokens(SlowCheck(answer));
        let stack = ServiceBuilder::new()
            .layer(RouteLayer::new(world.routes()))
            .layer(AuthenticateLayer::new(authenticator))
            .layer(ScopeLayer::new())
            .layer(SchemeLayer::new())
            .service(tower::service_fn(echo));
        let (jwt, pat) = (format!("Bearer {}", world.jwt()), world.pat("files"));
        for header in [("authorization", jwt.as_str()), ("private-token", &pat)] {
            let exchange = exchange(stack.clone(), get(FILES, &[header])).await;
            assert_eq!(exchange.failure_text(), failure, "{answer:?}");
            assert_eq!(exchange.received("private-token"), None);
        }
    }
}

/// Uses the default implementation of `check_token`.
struct NoAnswer;

impl RevocationCheck for NoAnswer {
    fn try_check_now(&self, _: &VerifiedToken) -> Option<Result<(), CheckError>> {
        None
    }
}

#[tokio::test]
async fn a_revocation_check_without_an_answer_refuses_the_token() {
    let world = World::new();
    let authenticator = Authenticator::new(world.verifier()).with_revocations(NoAnswer);
    let stack = ServiceBuilder::new()
        .layer(RouteLayer::new(world.routes()))
        .layer(AuthenticateLayer::new(authenticator))
        .layer(ScopeLayer::new())
        .layer(SchemeLayer::new())
        .service(tower::service_fn(echo));
    let jwt = format!("Bearer {}", world.jwt());
    let exchange = exchange(stack, get(FILES, &[("authorization", &jwt)])).await;
    let text = "ZWEAG104E Authentication service is not available";
    assert_eq!(exchange.failure_text(), Some(text));
}

#[tokio::test]
async fn a_post_of_a_page_of_another_origin_is_not_forwarded() {
    let world = World::new();
    let cookie = format!("apimlAuthenticationToken={}", world.jwt());
    for (method, origin, status) in [
        ("POST", "https://evil.example", 403),
        ("GET", "https://evil.example", 200),
        ("POST", "https://gw.example", 200),
    ] {
        let request = Request::builder()
            .method(method)
            .uri(FILES)
            .header("host", "gw.example")
            .header("cookie", &cookie)
            .header("origin", origin)
            .header("access-control-request-method", "POST");
        let exchange = world.exchange(request.body(Body::default()).unwrap()).await;
        assert_eq!(exchange.status, status, "{method} {origin}");
        assert_eq!(exchange.southbound.is_some(), status == 200, "{method} {origin}");
        assert_eq!(exchange.rejection, (status == 403).then_some(Rejection::CrossOrigin));
        for removed in ["origin", "access-control-request-method"] {
            assert_eq!(exchange.received(removed), None);
        }
    }
}
