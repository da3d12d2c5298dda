//! Tests of the scheme endpoints, and of the auth API for gateways of API ML (Zowe's API Mediation Layer), behind the
//! front router. A PAT is a Personal Access Token.

use std::{fmt::Debug, net::SocketAddr, sync::Arc, sync::LazyLock, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header::COOKIE,
};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use test_support::{jws, pki, tickets::key_profile};
use tower::ServiceExt;
use tower_layer::Layer;

use super::{SchemeEndpoints, SchemeTarget, trust_layer};
use crate::{
    api::{
        ApimlEndpoints, AuthApi, HealthAccess, LoginError, LoginFuture, LoginProvider, Password,
    },
    audit::{Audit, Collected},
    clock::{Clock, ManualClock, SystemClock, Timestamp},
    connection::{ConnectionInfo, Protocol},
    gateway::Gateway,
    identity::{
        CommonNameMapper, DistinguishedName, DistributedIdentity, Fingerprint, PeerCertificate,
    },
    layer::{
        AuthenticateLayer, Authenticator, CookieNames, Failure, ForwarderName, Origin,
        OriginPolicy, PassTicketScheme, Scheme, SchemeError, SchemeFuture, SchemeHeaders,
        SchemeLayer, SchemeRequest, ScopeLayer, TrustedForwarders, VerifyClientCertificate,
        ZoweJwtScheme,
    },
    messages::{self, ApiMessage},
    passticket::{
        Applid, GenerateError, GenerateFuture, KeyProfiles, LocalGenerator, PassTicket,
        PassTicketGenerator, SafReturnCodes, UserId,
    },
    revocation::{Revocation, RevocationIndex},
    saf::FileSaf,
    token::{
        ExternalClaims, Rs256Verifier, Scopes, ServiceId, SigningKey, TokenError, TokenIssuer,
        TokenVerifier, Validity, VerifiedToken, VerifyFuture,
    },
};

static KEY: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::from_pem(pki::SIGNING_KEY.as_bytes()).unwrap());

/// A token of an identity provider whose user is mapped to no z/OS user.
const UNMAPPED: &str = "external.unmapped.token";

const GATEWAY: pki::Identity = pki::SERVER;

#[derive(Clone)]
struct Tickets(LocalGenerator);

impl PassTicketGenerator for Tickets {
    fn generate(&self, user: &UserId, applid: &Applid) -> GenerateFuture {
        match self.try_generate_now(user, applid) {
            Some(generated) => Box::pin(std::future::ready(generated)),
            None => self.0.generate(user, applid),
        }
    }

    fn try_generate_now(
        &self,
        user: &UserId,
        applid: &Applid,
    ) -> Option<Result<PassTicket, GenerateError>> {
        match applid.as_str() {
            "NOTAUTH" => {
                Some(Err(GenerateError::new(*user, *applid, SafReturnCodes::NOT_AUTHORIZED)))
            }
            "DOWN" => {
                Some(Err(GenerateError::unavailable(*user, *applid, Some(Duration::from_secs(1)))))
            }
            _ => self.0.try_generate_now(user, applid),
        }
    }
}

/// A scheme that needs another server.
struct Remote {
    target: SchemeTarget,
}

impl Scheme for Remote {
    fn name(&self) -> &'static str {
        "remote"
    }

    fn prepare(&self, request: &SchemeRequest<'_>) -> SchemeFuture {
        assert!(request.headers().is_empty(), "{:?}", request.headers());
        let value = |text: String| HeaderValue::try_from(text).unwrap();
        let user = request.user();
        let headers = match &self.target {
            SchemeTarget::Zosmf if user.as_str() == "REFUSED" => {
                let refused = ApiMessage::with(&messages::ZOSMF_TOKEN_FAILED, &["It was refused"]);
                return SchemeFuture::ready(Err(SchemeError::failed("refused")
                    .with_message(refused)
                    .into()));
            }
            SchemeTarget::Zosmf if user.as_str() == "NOSERVER" => {
                return SchemeFuture::ready(Err(SchemeError::unavailable("down", None).into()));
            }
            SchemeTarget::SafIdt { applid } if applid.as_str() == "NOSERVER" => {
                return SchemeFuture::ready(Err(SchemeError::unavailable("down", None).into()));
            }
            SchemeTarget::SafIdt { applid } => {
                let token = value(format!("idt-{user}-{applid}"));
                SchemeHeaders::new().with(HeaderName::from_static("x-saf-token"), token)
            }
            _ => SchemeHeaders::new().with(COOKIE, value(format!("jwtToken=zosmf-{user}"))),
        };
        headers.into()
    }

    fn reserved_headers(&self) -> &[HeaderName] {
        &[]
    }
}

/// Verifies the tokens of the gateway, and one token of an identity provider.
struct Issuers(Rs256Verifier);

impl TokenVerifier for Issuers {
    fn verify_token(&self, token: &[u8]) -> VerifyFuture {
        let verified = self.try_verify_now(token).unwrap();
        Box::pin(std::future::ready(verified))
    }

    fn try_verify_now(&self, token: &[u8]) -> Option<Result<VerifiedToken, TokenError>> {
        if token == UNMAPPED.as_bytes() {
            let jane = DistributedIdentity::new("jane@example.com", "idp").unwrap();
            let expires_at = SystemClock.now().plus(Duration::from_secs(600));
            let claims = ExternalClaims::new(jane, "https://idp.example.com", expires_at);
            return Some(Ok(VerifiedToken::external(token, claims)));
        }
        self.0.try_verify_now(token)
    }
}

struct Login;

impl LoginProvider for Login {
    fn login(&self, user: UserId, password: Password) -> LoginFuture {
        let result = match password.expose() {
            b"validPassword" => Ok(user),
            _ => Err(LoginError::WrongCredentials),
        };
        Box::pin(std::future::ready(result))
    }
}

/// Refuses the certificate of `APIMTST`, and accepts all others.
struct OnlyUser;

impl VerifyClientCertificate for OnlyUser {
    fn verify(&self, leaf: &[u8], _: &[Vec<u8>]) -> Result<(), String> {
        match leaf == pki::APIMTST.certificate_der().as_ref() {
            true => Err("refused by the test".to_owned()),
            false => Ok(()),
        }
    }
}

fn certificate(identity: pki::Identity) -> PeerCertificate {
    PeerCertificate::from_der(identity.certificate_der().to_vec()).unwrap()
}

fn base64(identity: pki::Identity) -> String {
    BASE64_STANDARD.encode(identity.certificate_der())
}

struct World {
    issuer: TokenIssuer,
    revocations: Arc<RevocationIndex>,
    collected: Arc<Collected>,
    gateways: TrustedForwarders,
    clock: Arc<dyn Clock>,
}

impl World {
    fn new() -> Self {
        let gateway = Fingerprint::from(*certificate(GATEWAY).sha256());
        Self {
            issuer: TokenIssuer::new(KEY.clone()),
            revocations: Arc::default(),
            collected: Arc::default(),
            gateways: TrustedForwarders::named([ForwarderName::Certificate(gateway)]),
            clock: Arc::new(SystemClock),
        }
    }

    fn jwt(&self, user: &str) -> String {
        let user = UserId::new(user).unwrap();
        self.issuer.login_token(&user, "domain").unwrap().expose().to_owned()
    }

    fn pat(&self, scopes: &[&str]) -> String {
        let scopes = Scopes::parse(scopes).unwrap();
        let user = UserId::new("USER").unwrap();
        let pat = self.issuer.personal_access_token(&user, &scopes, Validity::MAX).unwrap();
        pat.expose().to_owned()
    }

    fn audit(&self) -> Audit {
        Audit::to(self.collected.clone())
    }

    /// Sends a request to a new front router. `peer` is the certificate of the TLS connection.
    async fn send(
        &self,
        peer: Option<pki::Identity>,
        request: http::request::Builder,
        body: impl Into<Bytes>,
    ) -> Answered {
        let verifier = Rs256Verifier::new(KEY.verifying_key());
        let authenticator = Authenticator::new(Issuers(verifier.clone()))
            .with_client_certificates(CommonNameMapper)
            .with_personal_access_tokens(self.revocations.clone());
        let profiles = KeyProfiles::new([key_profile("ZOWEAPPL")]).unwrap();
        let tickets = Tickets(LocalGenerator::one_shot(profiles));
        let zowe_jwt =
            ZoweJwtScheme::new(self.issuer.clone(), "security-domain", CookieNames::default());
        let generator = tickets.clone();
        let schemes = move |target: &SchemeTarget, service: Option<&ServiceId>| {
            Some(match target {
                SchemeTarget::PassTicket { applid } => {
                    Arc::new(PassTicketScheme::new(*applid, generator.clone())) as Arc<dyn Scheme>
                }
                SchemeTarget::ZoweJwt => Arc::new(zowe_jwt.clone()),
                _ if service.is_some_and(|it| it.as_str() == "unconfigured") => return None,
                other => Arc::new(Remote { target: other.clone() }),
            })
        };
        let endpoints = SchemeEndpoints::new(
            schemes,
            AuthenticateLayer::new(authenticator).with_audit(self.audit()),
            ScopeLayer::new().with_audit(self.audit()),
            SchemeLayer::new().with_audit(self.audit()),
        )
        .with_clock(self.clock.clone());
        let own: Origin = "https://zowe.example.com".parse().unwrap();
        let api = AuthApi::new(self.issuer.clone(), verifier, Login, self.revocations.clone())
            .with_client_certificates(CommonNameMapper)
            .with_passtickets(tickets)
            .with_personal_access_tokens(Validity::MAX)
            .with_saf(FileSaf::default())
            .with_origin_policy(OriginPolicy::default().with_own_origins([own]))
            .with_apiml_endpoints(ApimlEndpoints::new([]).with_health(Vec::new, HealthAccess::Open))
            .with_audit(self.audit())
            .for_zaas();
        let trust = trust_layer(self.gateways.clone(), OnlyUser);
        let gateway = Gateway::new(trust.layer(api), trust.layer(endpoints)).for_zaas();
        let mut request = request.body(Full::new(body.into())).unwrap();
        let address = SocketAddr::from(([192, 0, 2, 7], 555));
        let connection = ConnectionInfo::new(address, address, Protocol::Https);
        request.extensions_mut().insert(connection);
        if !request.headers().contains_key("host") {
            request.headers_mut().insert("host", HeaderValue::from_static("zaas.example.com:7558"));
        }
        if let Some(peer) = peer {
            request.extensions_mut().insert(certificate(peer));
        }
        Answered::of(gateway.oneshot(request).await.unwrap()).await
    }

    async fn ticket(&self, headers: &[(&str, &str)]) -> Answered {
        self.scheme("ticket", headers, r#"{"applicationName":"ZOWEAPPL"}"#).await
    }

    async fn scheme(&self, scheme: &str, headers: &[(&str, &str)], body: &'static str) -> Answered {
        let mut request = Request::post(format!("/zaas/scheme/{scheme}"))
            .header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(Some(GATEWAY), request, body).await
    }

    fn records(&self) -> Vec<Value> {
        let records = self.collected.take();
        records.iter().map(|record| serde_json::from_str(&record.to_json()).unwrap()).collect()
    }
}

struct Answered {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answered {
    async fn of(response: Response<impl Body<Data = Bytes, Error: Debug>>) -> Self {
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Self { status: parts.status, headers: parts.headers, body }
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Returns the status, the number and text of the message, and the text of `X-Zowe-Auth-Failure`.
    fn refusal(&self) -> (u16, String, Option<String>) {
        let message = match self.body.is_empty() {
            true => String::new(),
            false => {
                let message = &self.json()["messages"][0];
                let text = |key: &str| message[key].as_str().unwrap().to_owned();
                format!("{} {}", text("messageNumber"), text("messageContent"))
            }
        };
        let failure = self.headers.get("x-zowe-auth-failure");
        let failure = failure.map(|value| value.to_str().unwrap().to_owned());
        (self.status.as_u16(), message, failure)
    }

    fn user_of_ticket(&self) -> String {
        let body = self.json();
        assert_eq!((&body["token"], &body["applicationName"]), (&json!(""), &json!("ZOWEAPPL")));
        let user = body["userId"].as_str().unwrap();
        let ticket = body["ticket"].as_str().unwrap();
        assert!(test_support::tickets::is_valid(&key_profile("ZOWEAPPL"), user, ticket), "{body}");
        user.to_owned()
    }
}

const NOT_AUTHENTICATED: &str =
    "ZWEAG105E Authentication is required for URL '/zaas/scheme/ticket'";
fn anonymous(path: &str) -> String {
    format!("ZWEAG105E Authentication is required for URL '{path}'")
}

const MISSING: Option<&str> = Some("ZWEAG160E No authentication provided in the request");
const INVALID: Option<&str> = Some("ZWEAG102E Token is not valid");

fn want(status: u16, message: &str, failure: Option<&str>) -> (u16, String, Option<String>) {
    (status, message.to_owned(), failure.map(str::to_owned))
}

#[tokio::test]
async fn each_credential_gets_a_ticket_for_its_user() {
    let world = World::new();
    let bearer = format!("Bearer {}", world.jwt("JANE"));
    let cookie = format!("a=b; apimlAuthenticationToken={}", world.jwt("JANE"));
    let pat = world.pat(&["files"]);
    let pat_cookie = format!("personalAccessToken={pat}");
    let user = base64(pki::USER);
    for (headers, want) in [
        (&[("authorization", &*bearer)][..], "JANE"),
        (&[("cookie", &*cookie)], "JANE"),
        (&[("private-token", &*pat), ("x-service-id", "FILES")], "USER"),
        (&[("cookie", &*pat_cookie), ("x-service-id", "files")], "USER"),
        (&[("client-cert", &*user)], "USER"),
        (&[("client-cert", &*user), ("x-service-id", "files")], "USER"),
        // A token counts before a certificate.
        (&[("client-cert", &*user), ("authorization", &*bearer)], "JANE"),
        // The endpoint accepts no password, so the certificate counts.
        (&[("authorization", "Basic dXNlcjpwYXNz"), ("client-cert", &*user)], "USER"),
    ] {
        let answered = world.ticket(headers).await;
        assert_eq!(answered.status, 200, "{headers:?} {:?}", answered.body);
        assert_eq!(answered.headers["content-type"], "application/json");
        assert_eq!(answered.headers["cache-control"], "no-store");
        assert!(!answered.headers.contains_key("x-zowe-token-expires"));
        assert_eq!(answered.user_of_ticket(), want, "{headers:?}");
    }
}

#[tokio::test]
async fn a_client_without_a_valid_credential_gets_the_answer_of_api_ml() {
    let world = World::new();
    let expired = {
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_000_000_000)));
        let issuer = TokenIssuer::new(KEY.clone()).with_clock(clock);
        let user = UserId::new("USER").unwrap();
        let token = issuer.login_token(&user, "domain").unwrap();
        format!("Bearer {}", token.expose())
    };
    let logged_out = world.jwt("USER");
    let verifier = Rs256Verifier::new(KEY.verifying_key());
    let Some(Ok(VerifiedToken::Jwt(jwt))) = verifier.try_verify_now(logged_out.as_bytes()) else {
        panic!("the token was just made")
    };
    let (token, expires_at) = (jwt.fingerprint(), jwt.expires_at());
    world.revocations.apply(&Revocation::Token { token, expires_at });
    let logged_out = format!("Bearer {logged_out}");
    let forged = {
        let key = SigningKey::from_pem(pki::OTHER_SIGNING_KEY.as_bytes()).unwrap();
        let user = UserId::new("USER").unwrap();
        let token = TokenIssuer::new(key).login_token(&user, "domain").unwrap();
        format!("Bearer {}", token.expose())
    };
    let foreign = {
        let claims =
            json!({"iss": "OTHER", "sub": "USER", "iat": 1_700_000_000, "exp": 4_000_000_000_u64});
        format!("Bearer {}", jws::sign(pki::SIGNING_KEY, &json!({"alg": "RS256"}), &claims))
    };
    let jwt = world.jwt("USER");
    let pat = world.pat(&["files"]);
    let (own, other) = (base64(GATEWAY), base64(pki::APIMTST));
    let invalid = "ZWEAG130E Token is not valid for URL '/zaas/scheme/ticket'";
    let too_late = "ZWEAT100E Token is expired for URL '/zaas/scheme/ticket'";
    for (headers, want) in [
        (&[][..], want(401, NOT_AUTHENTICATED, MISSING)),
        (&[("x-service-id", "files")], want(401, NOT_AUTHENTICATED, MISSING)),
        (&[("authorization", "Basic dXNlcjpwYXNz")], want(401, NOT_AUTHENTICATED, MISSING)),
        (&[("private-token", &*jwt)], want(401, NOT_AUTHENTICATED, MISSING)),
        (&[("authorization", "Bearer x")], want(401, invalid, INVALID)),
        (&[("authorization", &*forged)], want(401, invalid, INVALID)),
        (&[("authorization", &*foreign)], want(401, NOT_AUTHENTICATED, MISSING)),
        (&[("authorization", &*expired)], want(401, too_late, None)),
        (&[("authorization", &*logged_out)], want(401, NOT_AUTHENTICATED, MISSING)),
        // A PAT counts only if `X-Service-Id` names a service in its scopes.
        (&[("private-token", &*pat)], want(401, NOT_AUTHENTICATED, MISSING)),
        (
            &[("private-token", &*pat), ("x-service-id", "jobs")],
            want(401, NOT_AUTHENTICATED, MISSING),
        ),
        (
            &[("private-token", &*pat), ("x-service-id", "a b")],
            want(401, NOT_AUTHENTICATED, MISSING),
        ),
        // Neither the certificate of a gateway nor a certificate that is not valid is a credential.
        (&[("client-cert", &*own)], want(401, NOT_AUTHENTICATED, MISSING)),
        (&[("client-cert", &*other)], want(401, NOT_AUTHENTICATED, MISSING)),
        (&[("client-cert", "no Base64")], want(401, NOT_AUTHENTICATED, MISSING)),
    ] {
        let answered = world.ticket(headers).await;
        assert_eq!(answered.refusal(), want, "{headers:?}");
        assert_eq!(answered.headers["www-authenticate"], "Bearer realm=\"zowe\"");
    }
    // A token still counts if the certificate is not valid.
    let bearer = format!("Bearer {jwt}");
    for certificate in [&*other, "no Base64"] {
        let headers = [("client-cert", certificate), ("authorization", &*bearer)];
        assert_eq!(world.ticket(&headers).await.user_of_ticket(), "USER");
    }
}

#[tokio::test]
async fn a_pat_counts_only_with_a_scope_for_the_whole_service() {
    let world = World::new();
    for (scopes, service, is_valid) in [
        (&["files"][..], "files", true),
        (&["jobs", "files:read", "files"], "files", true),
        (&["files:read"], "files", false),
        (&["files:/"], "files", false),
        (&["files:/zaas/scheme/ticket"], "files", false),
        (&["files:/scheme/ticket", "files:/zaas"], "files", false),
        (&["zaas"], "files", false),
        (&["zaas"], "zaas", true),
        (&["zaas:/scheme"], "zaas", false),
        (&["zaas:read"], "zaas", false),
    ] {
        let pat = world.pat(scopes);
        let answered = world.ticket(&[("private-token", &pat), ("x-service-id", service)]).await;
        let want = if is_valid { 200 } else { 401 };
        assert_eq!(answered.status, want, "{scopes:?}");
    }
    // If the request names no service, no PAT is valid. The record then has the service `zaas`, but a PAT for `zaas` is
    // not valid either.
    let pat = world.pat(&["zaas"]);
    assert_eq!(world.ticket(&[("private-token", &pat)]).await.status, 401);
    let last = world.records().pop().unwrap();
    assert_eq!((&last["reason"], &last["service"]), (&json!("out-of-scope"), &json!("zaas")));
}

#[tokio::test]
async fn only_a_peer_with_a_certificate_is_answered() {
    let world = World::new();
    let bearer = format!("Bearer {}", world.jwt("JANE"));
    let post = || {
        Request::post("/zaas/scheme/ticket")
            .header("content-type", "application/json")
            .header("client-cert", base64(pki::USER))
    };
    let body = r#"{"applicationName":"ZOWEAPPL"}"#;
    let with_token = || post().header("authorization", &bearer);
    let answered = world.send(None, with_token(), body).await;
    assert_eq!(answered.refusal(), want(401, NOT_AUTHENTICATED, MISSING));
    assert_eq!(answered.headers["connection"], "close");
    let refused = world.records().pop().unwrap();
    assert_eq!(
        (&refused["reason"], &refused["gateway"]),
        (&json!("certificate-required"), &Value::Null)
    );

    // If a peer that is not named sends a header of a gateway, its own certificate is no credential: the peer may be a
    // gateway that an operator has forgotten to name.
    let bare = || Request::post("/zaas/scheme/ticket").header("content-type", "application/json");
    for gateway_like in [post(), bare().header("x-service-id", "files")] {
        let answered = world.send(Some(pki::APIMTST), gateway_like, body).await;
        assert_eq!(answered.refusal(), want(401, NOT_AUTHENTICATED, MISSING));
        let answered = world.send(Some(pki::APIMTST), bare(), body).await;
        assert_eq!(answered.user_of_ticket(), "APIMTST");
    }
    let answered = world.send(Some(pki::APIMTST), with_token(), body).await;
    assert_eq!(answered.user_of_ticket(), "JANE");
    // The record names the certificate of the peer that has presented the token.
    let record = world.records().pop().unwrap();
    assert_eq!(record["certificate"]["subject"], certificate(pki::APIMTST).subject());
    // The named gateway sends the certificate of its client.
    assert_eq!(world.send(Some(GATEWAY), post(), body).await.user_of_ticket(), "USER");
    // A gateway that is no longer named is neither a gateway nor a client.
    world.gateways.replace_named([]);
    let answered = world.send(Some(GATEWAY), with_token(), body).await;
    assert_eq!(answered.refusal(), want(401, NOT_AUTHENTICATED, MISSING));
}

#[tokio::test]
async fn a_gateway_may_be_named_by_the_subject_of_its_certificate() {
    let subject = certificate(GATEWAY).subject().parse::<DistinguishedName>().unwrap();
    let world = World {
        gateways: TrustedForwarders::named([
            ForwarderName::Subject("CN=Other Gateway,O=Zowe".parse().unwrap()),
            ForwarderName::Subject(subject),
        ]),
        ..World::new()
    };
    let user = base64(pki::USER);
    assert_eq!(world.ticket(&[("client-cert", &user)]).await.user_of_ticket(), "USER");
    assert_eq!(world.ticket(&[]).await.status, 401);
    world.gateways.replace_named([ForwarderName::Subject("CN=Other".parse().unwrap())]);
    assert_eq!(world.ticket(&[("client-cert", &user)]).await.status, 401);
}

#[tokio::test]
async fn the_certificate_of_a_gateway_counts_until_it_expires() {
    let after = certificate(GATEWAY).not_after().plus(Duration::from_secs(1));
    let world = World { clock: Arc::new(ManualClock::new(after)), ..World::new() };
    let bearer = format!("Bearer {}", world.jwt("USER"));
    let answered = world.ticket(&[("authorization", &bearer)]).await;
    assert_eq!(answered.refusal(), want(401, NOT_AUTHENTICATED, MISSING));
}

#[tokio::test]
async fn each_bad_request_has_the_answer_of_api_ml() {
    let world = World::new();
    let bearer = format!("Bearer {}", world.jwt("USER"));
    let long = format!(r#"{{"applicationName":"{}"}}"#, "A".repeat(70_000));
    let json = Some("application/json");
    let no_name = "ZWEAG140E The 'applicationName' parameter name is missing.";
    let no_profile = "ZWEAG141E The generation of the PassTicket failed. Reason: Unable to generate PassTicket. \
                      Verify that the secured signon (PassTicket) function and application ID is configured \
                      properly by referring to Using PassTickets in z/OS Security Server RACF Security \
                      Administrator's Guide.";
    let not_permitted = "ZWEAG141E The generation of the PassTicket failed. Reason: Not authorized to use this \
                         service. Verify that the user and the application name are valid, and check that \
                         corresponding permissions have been set up.";
    let internal = "ZWEAG141E The generation of the PassTicket failed. Reason: An internal error was encountered.";
    let too_long = "ZWEAO413E The request body is larger than 65536 bytes.";
    for (path, kind, body, want_answer) in [
        ("ticket", json, r#"{"applicationName":"XBADAPPL"}"#, want(400, no_profile, None)),
        ("ticket", json, r#"{"applicationName":"NOTAUTH"}"#, want(500, not_permitted, None)),
        ("ticket", json, r#"{"applicationName":"DOWN"}"#, want(500, internal, None)),
        ("ticket", json, r#"{"applicationName":""}"#, want(400, no_name, None)),
        ("ticket", json, "{}", want(400, no_name, None)),
        ("ticket", json, r#"{"applicationName":"too long a name"}"#, want(400, no_name, None)),
        ("ticket", json, "", want(404, "", None)),
        ("ticket", json, "{", want(404, "", None)),
        ("ticket", json, "[]", want(404, "", None)),
        ("ticket", Some("text/plain"), "{}", want(404, "", None)),
        ("ticket", None, r#"{"applicationName":"ZOWEAPPL"}"#, want(404, "", None)),
        ("ticket", json, &long, want(413, too_long, None)),
        ("safIdt", json, "{}", want(400, no_name, None)),
        ("safIdt", None, r#"{"applicationName":"ZOWEAPPL"}"#, want(404, "", None)),
    ] {
        let request = Request::post(format!("/zaas/scheme/{path}"));
        let request = match kind {
            Some(kind) => request.header("content-type", kind),
            None => request,
        };
        let body = body.to_owned();
        // A client without a credential does not learn what is wrong with the request.
        let stranger = Request::post(format!("/zaas/scheme/{path}"));
        let stranger = world.send(Some(GATEWAY), stranger, body.clone()).await;
        assert_eq!(stranger.status, 401, "{path} {body}");
        let answered =
            world.send(Some(GATEWAY), request.header("authorization", &bearer), body.clone()).await;
        let got = answered.refusal();
        assert_eq!((got.0, unescaped(&got.1), got.2), want_answer, "{path} {body}");
        assert_eq!(answered.headers["cache-control"], "no-store");
    }
    for (method, status, allow) in [
        (Method::GET, 404, "POST"),
        (Method::HEAD, 404, "POST"),
        (Method::PUT, 404, "POST"),
        (Method::DELETE, 404, "POST"),
        (Method::OPTIONS, 200, "POST,OPTIONS"),
    ] {
        let request = Request::builder().method(method.clone()).uri("/zaas/scheme/ticket");
        let request = request.header("authorization", &bearer);
        let answered = world.send(Some(GATEWAY), request, "").await;
        assert_eq!(
            (answered.status.as_u16(), answered.headers["allow"].as_bytes()),
            (status, allow.as_bytes())
        );
        assert!(answered.body.is_empty(), "{method}");
    }
}

fn unescaped(text: &str) -> String {
    text.replace("&quot;", "\"").replace("&amp;", "&")
}

#[tokio::test]
async fn the_token_schemes_answer_where_the_gateway_puts_the_token() {
    let world = World::new();
    let jwt = world.jwt("USER");
    let bearer = format!("Bearer {jwt}; ");
    let bearer = bearer.trim_end_matches("; ");
    let headers = [("authorization", bearer), ("cookie", "other=1; more=2")];
    let answered = world.scheme("zoweJwt", &headers, "").await;
    let want_jwt =
        json!({"cookieName": "apimlAuthenticationToken", "headerName": null, "token": jwt});
    assert_eq!((answered.status.as_u16(), answered.json()), (200, want_jwt));

    let answered = world.scheme("zosmf", &headers, "").await;
    let want_zosmf = json!({"cookieName": "jwtToken", "headerName": null, "token": "zosmf-USER"});
    assert_eq!((answered.status.as_u16(), answered.json()), (200, want_zosmf));

    let answered = world.scheme("safIdt", &headers, r#"{"applicationName":"idtappl"}"#).await;
    let want_idt =
        json!({"cookieName": null, "headerName": "X-SAF-Token", "token": "idt-USER-IDTAPPL"});
    assert_eq!((answered.status.as_u16(), answered.json()), (200, want_idt));

    // For a credential that is not a login token, the scheme issues a new token. The new token is valid only for the
    // service in `X-Service-Id`.
    let user = base64(pki::USER);
    let headers = [("client-cert", &*user), ("x-service-id", "files")];
    let answered = world.scheme("zoweJwt", &headers, "").await;
    let token = answered.json()["token"].as_str().unwrap().to_owned();
    let verifier = Rs256Verifier::new(KEY.verifying_key());
    let Some(Ok(VerifiedToken::Jwt(jwt))) = verifier.try_verify_now(token.as_bytes()) else {
        panic!("{token}")
    };
    assert_eq!(jwt.user().as_str(), "USER");
    assert_eq!(jwt.service().map(ServiceId::as_str), Some("files"));
}

#[tokio::test]
async fn a_scheme_that_fails_has_the_answer_of_api_ml() {
    let world = World::new();
    let bearer = |user| format!("Bearer {}", world.jwt(user));
    let idt = r#"{"applicationName":"NOSERVER"}"#;
    for (scheme, user, service, body, want_answer) in [
        (
            "zosmf",
            "REFUSED",
            "files",
            "",
            want(401, "ZWEAG120E Invalid username or password for URL '/zaas/scheme/zosmf'", None),
        ),
        (
            "zosmf",
            "NOSERVER",
            "files",
            "",
            want(
                503,
                "ZWEAZ601W z/OSMF is not available or z/OSMF response does not contain any token. Reason: z/OSMF cannot be reached",
                None,
            ),
        ),
        (
            "zosmf",
            "USER",
            "unconfigured",
            "",
            want(
                503,
                "ZWEAZ601W z/OSMF is not available or z/OSMF response does not contain any token. Reason: It is not configured",
                None,
            ),
        ),
        (
            "safIdt",
            "USER",
            "files",
            idt,
            want(
                500,
                "ZWEAG150E SAF IDT generation failed. Reason: The server that makes the tokens cannot be reached",
                None,
            ),
        ),
        (
            "safIdt",
            "USER",
            "unconfigured",
            idt,
            want(500, "ZWEAG150E SAF IDT generation failed. Reason: It is not configured", None),
        ),
    ] {
        let bearer = bearer(user);
        let headers = [("authorization", &*bearer), ("x-service-id", service)];
        let answered = world.scheme(scheme, &headers, body).await;
        assert_eq!(answered.refusal(), want_answer, "{scheme} {user}");
        let stranger = world.scheme(scheme, &[("x-service-id", service)], body).await;
        assert_eq!(stranger.status, 401, "{scheme}");
    }
}

#[tokio::test]
async fn a_client_without_a_user_has_the_answer_of_api_ml() {
    let world = World::new();
    let bearer = format!("Bearer {UNMAPPED}");
    let no_user = Some("ZWEAG161E No user was found");
    let body = r#"{"applicationName":"ZOWEAPPL"}"#;
    for scheme in ["ticket", "zosmf", "safIdt"] {
        let answered = world.scheme(scheme, &[("authorization", &bearer)], body).await;
        let person = Some("No mainframe identity found.");
        assert_eq!(answered.refusal(), want(401, "ZWEAG161E No user was found", person));
        assert_eq!(answered.headers["oidc-token"], UNMAPPED);
    }
    let answered = world.scheme("zoweJwt", &[("authorization", &bearer)], "").await;
    let passed_on = json!({"cookieName": null, "headerName": "OIDC-token", "token": UNMAPPED});
    assert_eq!((answered.status.as_u16(), answered.json()), (200, passed_on));

    // The common name of this certificate is no user id.
    let nobody = BASE64_STANDARD.encode(pki::self_signed_with_name("no user id at all"));
    let headers = [("client-cert", &*nobody)];
    let answered = world.scheme("ticket", &headers, body).await;
    assert_eq!(answered.refusal(), want(401, "ZWEAG161E No user was found", no_user));
    for scheme in ["zoweJwt", "zosmf", "safIdt"] {
        let answered = world.scheme(scheme, &headers, body).await;
        assert_eq!(answered.refusal(), want(401, "", None), "{scheme}");
        assert!(!answered.headers.contains_key("oidc-token"));
    }
}

/// Makes endpoints without schemes. The authenticator reads login tokens from the cookie `other`.
fn endpoints_without_schemes() -> SchemeEndpoints {
    let authenticator = Authenticator::new(Issuers(Rs256Verifier::new(KEY.verifying_key())))
        .with_client_certificates(CommonNameMapper)
        .with_cookie_names(CookieNames::default().with_jwt("other"));
    SchemeEndpoints::new(
        |_: &SchemeTarget, _: Option<&ServiceId>| None,
        AuthenticateLayer::new(authenticator),
        ScopeLayer::new(),
        SchemeLayer::new(),
    )
}

/// Returns a request of a peer with the certificate of a gateway. The cookie `other` has the token [`UNMAPPED`].
fn request_of_person() -> Request<Full<Bytes>> {
    let request = Request::post("/zaas/scheme/zosmf").header("cookie", format!("other={UNMAPPED}"));
    let mut request = request.body(Full::default()).unwrap();
    request.extensions_mut().insert(certificate(GATEWAY));
    request
}

#[tokio::test]
async fn a_clone_may_have_other_cookie_names_and_another_clock() {
    let endpoints = endpoints_without_schemes();
    let with_names = endpoints.clone().with_cookie_names(CookieNames::default().with_jwt("other"));
    let after = certificate(GATEWAY).not_after().plus(Duration::from_secs(1));
    let with_clock = with_names.clone().with_clock(Arc::new(ManualClock::new(after)));
    let expired = "ZWEAG105E Authentication is required for URL '/zaas/scheme/zosmf'";
    let no_user = "ZWEAG161E No user was found";
    for (endpoints, message, token) in [
        (endpoints, no_user, None),
        (with_names, no_user, Some(UNMAPPED)),
        (with_clock, expired, None),
    ] {
        let answered = Answered::of(endpoints.oneshot(request_of_person()).await.unwrap()).await;
        assert_eq!(answered.refusal().1, message);
        let got = answered.headers.get("oidc-token").map(|value| value.to_str().unwrap());
        assert_eq!(got, token, "{message}");
    }
}

#[tokio::test]
async fn a_refusal_has_its_message_and_the_reason_of_the_layer_as_extensions() {
    let mut request = request_of_person();
    request.headers_mut().clear();
    request.headers_mut().insert("authorization", HeaderValue::from_static("Bearer x"));
    let response = endpoints_without_schemes().oneshot(request).await.unwrap();
    let extensions = response.extensions();
    assert!(matches!(extensions.get(), Some(Failure::Token(_))), "{response:?}");
    let message = extensions.get::<ApiMessage>().unwrap().line();
    assert_eq!(message, "ZWEAG130E Token is not valid for URL '/zaas/scheme/zosmf'");
}

#[tokio::test]
async fn other_paths_are_not_endpoints() {
    let world = World::new();
    let bearer = format!("Bearer {}", world.jwt("USER"));
    for path in [
        "/",
        "/zaas/scheme",
        "/zaas/scheme/",
        "/zaas/scheme/unknown",
        "/zaas/scheme/TICKET",
        "/zaas/auth/check/",
        "/zaas/api/v1/auth",
        "/zaas/api/v1/auth/unknown",
        "/zaas/api/v1/auth/refresh",
        "/gateway/api/v1/auth/login",
        "/gateway/api/v1/auth/query",
        "/gateway/auth/check",
        "/gateway/api/v1/services",
        "/gateway/services",
        "/gateway/certificates",
        "/gateway/version",
        "/files/api/v1/x",
        "/application/",
    ] {
        for method in [Method::GET, Method::POST] {
            for peer in [None, Some(GATEWAY), Some(pki::USER)] {
                let request = Request::builder().method(&method).uri(path);
                let request = request.header("authorization", &bearer);
                let answered = world.send(peer, request, "").await;
                let text = format!(
                    "ZWEAM104E The endpoint you are looking for '{path}' could not be located"
                );
                let is_scheme = path.starts_with("/zaas/scheme");
                let want = match peer {
                    None if is_scheme => want(401, &anonymous(path), MISSING),
                    _ => want(404, &text, None),
                };
                assert_eq!(answered.refusal(), want, "{method} {path}");
            }
        }
    }
    for path in ["/application/info", "/application/health", "/application/version"] {
        let answered = world.send(None, Request::get(path), "").await;
        assert_eq!(answered.status, 200, "{path}");
    }
    let check = r#"{"resourceClass":"ZOWE","resourceName":"APIML.SERVICES","accessLevel":"READ"}"#;
    let request = || Request::post("/zaas/auth/check").header("content-type", "application/json");
    let answered = world.send(None, request().header("authorization", &bearer), check).await;
    let refused = "ZWEAG711E The principal 'USER' is missing queried authorization.";
    assert_eq!(answered.refusal(), want(401, refused, None));
    let answered = world.send(None, request(), check).await;
    assert_eq!(answered.refusal(), want(401, &anonymous("/zaas/auth/check"), MISSING));
}

#[tokio::test]
async fn the_auth_api_accepts_passwords_from_all_peers_and_client_cert_from_named_gateways() {
    let world = World::new();
    let login = || Request::post("/zaas/api/v1/auth/login");
    let credentials = r#"{"username":"USER","password":"validPassword"}"#;
    let answered = world.send(None, login(), credentials).await;
    assert_eq!(answered.status, 204);
    let cookie = answered.headers["set-cookie"].to_str().unwrap();
    let (cookie, _) = cookie.split_once(';').unwrap();
    let ticket = || {
        let request = Request::post("/zaas/api/v1/auth/ticket").header("cookie", cookie);
        request.header("content-type", "application/json")
    };
    let body = r#"{"applicationName":"ZOWEAPPL"}"#;
    assert_eq!(world.send(None, ticket(), body).await.refusal(), want(403, "", None));
    // The gateway sends the certificate of its client in `Client-Cert`, and presents its own certificate.
    let with_certificate = ticket().header("client-cert", base64(pki::USER));
    let answered = world.send(Some(GATEWAY), with_certificate, body).await;
    assert_eq!(answered.json()["userId"], "USER");
    let record = world.records().pop().unwrap();
    let gateway = certificate(GATEWAY);
    assert_eq!(
        (&record["event"], &record["gateway"]),
        (&json!("ticket"), &json!(gateway.subject()))
    );

    let wrong = r#"{"username":"USER","password":"wrong"}"#;
    let text = "ZWEAG120E Invalid username or password for URL '/zaas/api/v1/auth/login'";
    assert_eq!(world.send(None, login(), wrong).await.refusal(), want(401, text, None));
    let by_certificate = || login().header("client-cert", base64(pki::USER));
    assert_eq!(world.send(Some(GATEWAY), by_certificate(), "").await.status, 204);
    assert_eq!(world.send(None, by_certificate(), "").await.status, 400);
    assert_eq!(world.send(Some(pki::APIMTST), by_certificate(), "").await.status, 400);
    assert_eq!(world.send(Some(pki::APIMTST), login(), "").await.status, 204);
    assert_eq!(world.records().pop().unwrap()["user"], "APIMTST");
    assert_eq!(world.send(Some(GATEWAY), login(), "").await.status, 400);
}

#[tokio::test]
async fn a_login_page_of_the_gateway_may_log_in_and_other_pages_may_not() {
    let world = World::new();
    let credentials = r#"{"username":"USER","password":"validPassword"}"#;
    // The gateway relays `Host` as the browser has sent it.
    for (origin, site, want) in [
        (None, None, 204),
        (Some("https://zowe.example.com"), None, 204),
        (Some("https://zowe.example.com"), Some("same-origin"), 204),
        // The gateway of API ML has more addresses than this program knows.
        (Some("https://gw1.example.com:7554"), None, 204),
        (Some("https://gw2.example.com:7554"), Some("same-origin"), 204),
        (Some("https://gw2.example.com:7554"), None, 403),
        (Some("https://gw1.example.com"), None, 403),
        (Some("https://evil.example.com"), Some("cross-site"), 403),
        (Some("https://evil.example.com"), Some("same-site"), 403),
        (Some("null"), Some("cross-site"), 403),
        (Some("null"), None, 403),
        (None, Some("cross-site"), 403),
    ] {
        let request = Request::post("/zaas/api/v1/auth/login");
        let mut request = request.header("host", "gw1.example.com:7554");
        for (name, value) in [("origin", origin), ("sec-fetch-site", site)] {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        let answered = world.send(None, request, credentials).await;
        assert_eq!(answered.status, want, "{origin:?} {site:?}");
    }
    // API ML's gateway relays headers such as `Origin` only to the auth API. So a request to a scheme with these
    // headers comes from a browser.
    let bearer = format!("Bearer {}", world.jwt("USER"));
    let page =
        [("authorization", &*bearer), ("cookie", "a=b"), ("origin", "https://evil.example.com")];
    assert_eq!(world.ticket(&page).await.status, 403);
}

#[tokio::test]
async fn the_records_name_the_gateway_the_service_and_the_application() {
    let world = World::new();
    let bearer = format!("Bearer {}", world.jwt("USER"));
    let gateway = certificate(GATEWAY).subject().to_owned();
    world.ticket(&[("authorization", &bearer), ("x-service-id", "files")]).await;
    world.ticket(&[("authorization", "Bearer x"), ("x-service-id", "files")]).await;
    world.scheme("zosmf", &[("authorization", &bearer)], "").await;
    let records = world.records();
    let facts: Vec<_> = records
        .iter()
        .map(|record| {
            ["event", "outcome", "service", "applid", "path", "gateway"]
                .map(|key| record[key].as_str().unwrap_or_default().to_owned())
        })
        .collect();
    let gateway = &*gateway;
    let ticket = "/zaas/scheme/ticket";
    assert_eq!(
        facts,
        [
            ["authentication", "success", "files", "", ticket, gateway],
            ["ticket", "success", "files", "ZOWEAPPL", ticket, gateway],
            ["authentication", "refused", "files", "", ticket, gateway],
            ["authentication", "success", "zaas", "", "/zaas/scheme/zosmf", gateway],
            ["scheme", "success", "zaas", "", "/zaas/scheme/zosmf", gateway],
        ]
    );
    assert!(records.iter().all(|record| record["peer"] == "192.0.2.7:555"));
}
