//! An application contains a gateway. In one test, the gateway can verify tokens, but not issue them. In the other
//! tests, it accepts tokens of other issuers.

use std::{convert::Infallible, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{Request, Response, header::AUTHORIZATION};
use http_body_util::Full;
use tokio::sync::Mutex;
use tower::{ServiceBuilder, ServiceExt, service_fn, util::BoxCloneService};
use tower_passticket::{
    clock::{ManualClock, Timestamp},
    identity::{DistributedIdentity, DistributedMap},
    layer::{
        AuthenticateLayer, Authentication, Authenticator, Authorized, OnFailure, PassTicketScheme,
        Proof, Route, RouteLayer, Routes, SchemeLayer, ScopeLayer, Upstream,
    },
    passticket::{
        Algorithm, Applid, KeyProfile, KeyProfiles, LocalGenerator, PassTicket, Replay, UserId,
    },
    revocation::{Revocation, RevocationIndex},
    test_util,
    token::{
        ExternalClaims, Rs256Verifier, ServiceId, SigningKey, TokenError, TokenFingerprint,
        TokenIssuer, TokenVerifier, VerifiedToken, VerifyFuture, VerifyingKey,
        serde_json::{self, Value, json},
    },
};

type Body = Full<Bytes>;

/// Makes the key of another issuer, which the gateway does not trust.
fn foreign_key() -> SigningKey {
    let rsa = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048);
    SigningKey::from_pem(rsa.unwrap().serialize_pem().as_bytes()).unwrap()
}

fn request(token: &str) -> Request<Body> {
    Request::get("/files/api/v1/x")
        .header(AUTHORIZATION, format!("Bearer {token}"))
        .body(Body::default())
        .unwrap()
}

/// Sends `token` to a gateway that has only a public key. Returns the status.
async fn verify_only(key: VerifyingKey, token: &str) -> u16 {
    let layer = AuthenticateLayer::new(Authenticator::new(Rs256Verifier::new(key)));
    let service = ServiceBuilder::new().layer(layer).service(service_fn(
        |request: Request<Body>| async move {
            let authentication = request.extensions().get();
            assert!(matches!(authentication, Some(Authentication::Authenticated(_))));
            Ok::<_, Infallible>(Response::new(Body::default()))
        },
    ));
    service.oneshot(request(token)).await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_gateway_with_only_a_public_key_verifies_tokens() {
    let key = test_util::signing_key();
    let (pem, jwk) = (key.verifying_key().to_pem(), key.verifying_key().to_jwk().to_string());
    let user = UserId::new("USER").unwrap();
    let token = TokenIssuer::new(key).login_token(&user, "domain").unwrap();
    let foreign = TokenIssuer::new(foreign_key()).login_token(&user, "domain").unwrap();

    let from_pem = VerifyingKey::from_pem(pem.as_bytes()).unwrap();
    let jwk: Value = serde_json::from_str(&jwk).unwrap();
    let from_jwk = VerifyingKey::from_jwk(&jwk).unwrap();
    for key in [from_pem, from_jwk] {
        assert_eq!(verify_only(key.clone(), token.expose()).await, 200);
        assert_eq!(verify_only(key, foreign.expose()).await, 401);
    }
}

const NOW: u64 = 1_800_000_000;
const ISSUER: &str = "https://idp.example.com";

/// A verifier that verifies the tokens of this gateway itself, and asks an identity provider about all other tokens.
struct Introspection {
    own: Rs256Verifier,
    provider: Arc<Provider>,
}

/// Simulates the server of the identity provider, which knows some opaque tokens. A test locks the mutex to delay a
/// response.
#[derive(Default)]
struct Provider(Mutex<()>);

impl Provider {
    async fn introspect(&self, token: &[u8]) -> Result<ExternalClaims, TokenError> {
        drop(self.0.lock().await);
        let identity = |name| DistributedIdentity::new(name, ISSUER).unwrap();
        let expires_at = Timestamp::from_secs(NOW + 60);
        match token {
            b"of.jane" => Ok(ExternalClaims::new(identity("jane@example.com"), ISSUER, expires_at)
                .with_claim("groups", json!(["operators"]))),
            b"of.joe" => Ok(ExternalClaims::new(identity("joe@example.com"), ISSUER, expires_at)),
            b"of.a.z/OS.user" => {
                Ok(ExternalClaims::new(UserId::new("IBMUSER").unwrap(), ISSUER, expires_at))
            }
            b"expired" => {
                let expires_at = Timestamp::from_secs(NOW - 1);
                Ok(ExternalClaims::new(identity("jane@example.com"), ISSUER, expires_at))
            }
            b"down" => Err(TokenError::Unavailable("the provider does not answer".into())),
            _ => Err(TokenError::Issuer),
        }
    }
}

impl TokenVerifier for Introspection {
    fn try_verify_now(&self, token: &[u8]) -> Option<Result<VerifiedToken, TokenError>> {
        // The opaque tokens in this test are short. A longer token is a JWT of this gateway.
        let is_own = token.len() > 100;
        is_own.then(|| self.own.try_verify_now(token)).flatten()
    }

    fn verify_token(&self, token: &[u8]) -> VerifyFuture {
        let (provider, token) = (self.provider.clone(), token.to_vec());
        Box::pin(async move {
            let claims = provider.introspect(&token).await?;
            Ok(VerifiedToken::external(&token, claims))
        })
    }
}

fn applid() -> Applid {
    Applid::new("ZOWEAPPL").unwrap()
}

fn profile() -> KeyProfile {
    let profile = KeyProfile::from_hex(applid(), Algorithm::Legacy, "E001193519561977").unwrap();
    profile.with_replay(Replay::Allowed)
}

fn gateway(provider: Arc<Provider>, revocations: Arc<RevocationIndex>) -> Gateway {
    let clock = Arc::new(ManualClock::new(Timestamp::from_secs(NOW)));
    let verifier: Arc<dyn TokenVerifier> =
        Arc::new(Introspection { own: test_util::verifier().with_clock(clock.clone()), provider });
    // Maps Jane's name at the identity provider to her z/OS user id. The map has no entry for Joe.
    let jane = DistributedIdentity::new("jane@example.com", ISSUER).unwrap();
    let users = DistributedMap::new([(jane, UserId::new("JANE").unwrap())]).unwrap();
    let authenticator = Authenticator::new(verifier)
        .with_revocations(revocations)
        .with_distributed_identities(users)
        .with_clock(clock.clone());

    let upstream = Upstream::parse("http://127.0.0.1:8080").unwrap();
    let generator = LocalGenerator::new(KeyProfiles::new([profile()]).unwrap()).with_clock(clock);
    let scheme = PassTicketScheme::new(applid(), generator);
    let route = Route::new(ServiceId::new("files").unwrap(), "api/v1", upstream, scheme).unwrap();
    let routes = Routes::new([route.with_on_failure(OnFailure::Reject)]).unwrap();
    let stack = ServiceBuilder::new()
        .layer(RouteLayer::new(routes))
        .layer(AuthenticateLayer::new(authenticator))
        .layer(ScopeLayer::new())
        .map_request(add_groups)
        .layer(SchemeLayer::new())
        .service_fn(echo);
    BoxCloneService::new(stack)
}

type Gateway = BoxCloneService<Request<Body>, Response<Body>, Infallible>;

/// Reads a claim of the token, and adds it to the request as a header. The application calls this between two layers.
fn add_groups(mut request: Request<Body>) -> Request<Body> {
    let authorized = request.extensions().get::<Authorized>();
    if let Some(Proof::External(token)) = authorized.map(Authorized::proof) {
        assert_eq!(token.issuer(), ISSUER);
        if let Some(groups) = token.claim("groups") {
            let groups = groups.to_string().parse().unwrap();
            request.headers_mut().insert("x-groups", groups);
        }
    }
    request
}

async fn echo(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let mut response = Response::new(Body::default());
    *response.headers_mut() = request.headers().clone();
    Ok(response)
}

fn user_of(response: &Response<Body>) -> String {
    let basic = response.headers()[AUTHORIZATION].to_str().unwrap();
    let basic = BASE64_STANDARD.decode(basic.strip_prefix("Basic ").unwrap()).unwrap();
    let basic = String::from_utf8(basic).unwrap();
    let (user, ticket) = basic.split_once(':').unwrap();
    let ticket = PassTicket::parse(ticket).unwrap();
    let evaluated =
        profile().evaluate(&UserId::new(user).unwrap(), &ticket, Timestamp::from_secs(NOW));
    assert!(evaluated.is_ok());
    user.to_owned()
}

#[tokio::test]
async fn a_token_of_another_issuer_is_replaced_by_a_passticket() {
    let gateway = gateway(Arc::default(), Arc::default());
    for (token, user, groups) in
        [("of.jane", "JANE", Some(r#"["operators"]"#)), ("of.a.z/OS.user", "IBMUSER", None)]
    {
        let response = gateway.clone().oneshot(request(token)).await.unwrap();
        assert_eq!((response.status().as_u16(), user_of(&response).as_str()), (200, user));
        let received = response.headers().get("x-groups").map(|value| value.to_str().unwrap());
        assert_eq!(received, groups, "{token}");
    }
}

#[tokio::test]
async fn a_request_waits_for_the_verifier() {
    let provider = Arc::new(Provider::default());
    let gateway = gateway(provider.clone(), Arc::default());
    let delay = provider.0.lock().await;
    let response = tokio::spawn(gateway.oneshot(request("of.jane")));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!response.is_finished());
    drop(delay);
    assert_eq!(user_of(&response.await.unwrap().unwrap()), "JANE");
}

#[tokio::test]
async fn refused_tokens_of_other_issuers_get_the_texts_of_zowe() {
    let revocations = Arc::new(RevocationIndex::default());
    let gateway = gateway(Arc::default(), revocations.clone());
    let cases = [
        ("of.joe", 401, "ZWEAG161E No user was found"),
        ("of.nobody", 401, "ZWEAG102E Token is not valid"),
        ("expired", 401, "ZWEAG103E The token has expired"),
        ("down", 503, "ZWEAG104E Authentication service is not available"),
    ];
    for (token, status, text) in cases {
        let response = gateway.clone().oneshot(request(token)).await.unwrap();
        assert_eq!(response.status(), status, "{token}");
        assert_eq!(response.headers()["x-zowe-auth-failure"], text, "{token}");
    }

    let token = TokenFingerprint::of("of.jane");
    revocations.apply(&Revocation::Token { token, expires_at: Timestamp::from_secs(NOW + 60) });
    let response = gateway.oneshot(request("of.jane")).await.unwrap();
    assert_eq!(response.status(), 401);
    assert_eq!(response.headers()["x-zowe-auth-failure"], "ZWEAG102E Token is not valid");
}
