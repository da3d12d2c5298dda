//! Tests of `oidc-token/validate`.

use super::*;
use crate::token::{ExternalClaims, TokenError, TokenVerifier, VerifyFuture};

const URL: &str = "/gateway/api/v1/auth/oidc-token/validate";

/// A verifier that accepts the token `good`. The token `late` has expired. The keys for the token `down` cannot be
/// fetched. The stub checks all other tokens with the key of the gateway.
struct StubVerifier;

impl TokenVerifier for StubVerifier {
    fn verify_token(&self, token: &[u8]) -> VerifyFuture {
        let external = |token: &[u8], expires_at| {
            let expires_at = Timestamp::from_secs(expires_at);
            let claims = ExternalClaims::new(user("JANE"), "https://idp.example.com", expires_at);
            Ok(VerifiedToken::external(token, claims))
        };
        Box::pin(ready(match token {
            b"good" => external(token, NOW + 1),
            b"late" => external(token, NOW),
            b"down" => Err(TokenError::Unavailable("why".into())),
            _ => verifier().verify(str::from_utf8(token).unwrap()),
        }))
    }
}

#[tokio::test]
async fn only_valid_tokens_of_identity_providers_are_accepted() {
    let world = World::new();
    let revoked = VerifiedToken::external(
        b"good",
        ExternalClaims::new(user("JANE"), "x", Timestamp::from_secs(NOW + 1)),
    );
    let jwt = world.jwt();
    let send = async |profile, token: &str| {
        let api = world.api(profile).with_oidc_tokens(StubVerifier);
        let body = json!({ "token": token, "more": 1 }).to_string();
        let response = TestRequest { url: URL, body: &body, ..POST_LOGIN }.send_to(api).await;
        let number = match response.body().is_empty() {
            true => String::new(),
            false => outcome(&response).1,
        };
        (response.status().as_u16(), number)
    };
    use Compatibility::{Documented, ZoweV3};
    for (token, documented, zowe_v3) in [
        ("good", (204, ""), (204, "")),
        ("late", (401, "ZWEAG103E"), (401, "")),
        ("garbage", (401, "ZWEAG102E"), (401, "")),
        (&jwt, (401, "ZWEAG102E"), (401, "")),
        ("down", (503, "ZWEAG104E"), (503, "ZWEAG104E")),
    ] {
        for (profile, (status, number)) in [(Documented, documented), (ZoweV3, zowe_v3)] {
            assert_eq!(send(profile, token).await, (status, number.to_owned()), "{token}");
        }
    }
    let (token, expires_at) = (revoked.fingerprint(), revoked.expires_at());
    world.store.index.record(Revocation::Token { token, expires_at }).await.unwrap();
    assert_eq!(send(Documented, "good").await, (401, "ZWEAG102E".to_owned()));
    world.store.cannot_check.store(true, SeqCst);
    assert_eq!(send(Documented, "good").await, (503, "ZWEAG104E".to_owned()));
}

#[tokio::test]
async fn without_an_identity_provider_each_token_is_refused() {
    let request = TestRequest { url: URL, body: r#"{"token":"x"}"#, ..POST_LOGIN };
    assert_eq!(outcome(&request.send_to(api()).await), (401, "ZWEAG102E".to_owned()));
    for (body, want) in [("{", 400), ("{}", 400), (r#"{"token":1}"#, 400)] {
        let response = TestRequest { body, ..request }.send_to(api()).await;
        assert_eq!(outcome(&response), (want, "ZWEAO400E".to_owned()), "{body}");
    }
    let zowe_v3 = World::new().api(Compatibility::ZoweV3);
    let response = TestRequest { body: "{}", ..request }.send_to(zowe_v3).await;
    assert_eq!((response.status().as_u16(), response.body().is_empty()), (401, true));
}

#[tokio::test]
async fn options_gets_204_with_the_methods_of_the_endpoint() {
    for (path, want) in [
        ("login", Some("POST, OPTIONS")),
        ("query", Some("GET, HEAD, OPTIONS")),
        ("access-token/revoke", Some("DELETE, OPTIONS")),
        ("oidc-token/validate", Some("POST, OPTIONS")),
        ("unknown", None),
    ] {
        let url = format!("/gateway/api/v1/auth/{path}");
        let request = Request::options(&url).body(Full::<Bytes>::default()).unwrap();
        let response = api().oneshot(request).await.unwrap();
        let allow = response.headers().get("allow").map(|allow| allow.to_str().unwrap());
        assert_eq!((response.status() == 204, allow), (want.is_some(), want), "{path}");
        assert!(response.headers().contains_key("cache-control"), "{path}");
        let request = Request::options(&url).body(Full::<Bytes>::default()).unwrap();
        let response = minimal_api().oneshot(request).await.unwrap();
        let is_off = path.starts_with("access-token") || want.is_none();
        assert_eq!(response.status() == 404, is_off, "{path}");
    }
}
