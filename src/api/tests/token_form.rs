//! Tests of Personal Access Tokens (PATs) with and without prefix at the auth API, and of the reason codes of
//! `access-token/validate`.

use test_support::tickets::applid;

use super::*;
use crate::api::exchange_request::{GRANT_TYPE, PASSTICKET};

const AUTH: &str = "/gateway/api/v1/auth/";

async fn send(
    api: AuthApi,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Response<Bytes> {
    let request = Request::builder().method(method).uri(format!("{AUTH}{path}"));
    let request =
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let request = request.body(Full::<Bytes>::from(body.to_owned())).unwrap();
    let (parts, body) = api.oneshot(request).await.unwrap().into_parts();
    Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
}

/// Returns a PAT of `USER` for the service `a` in both forms: the JWT alone, and with prefix and checksum.
fn forms(world: &World) -> [String; 2] {
    let issuer = TokenIssuer::new(KEY.clone()).with_clock(world.clock.clone()).with_pat_prefix();
    let scopes = Scopes::parse(["a"]).unwrap();
    let pat = issuer.personal_access_token(&user("USER"), &scopes, Validity::MAX).unwrap();
    let jwt = pat.expose().strip_prefix("zowepat_").unwrap().rsplit_once('.').unwrap().0;
    [jwt.to_owned(), pat.expose().to_owned()]
}

/// Returns texts with the prefix and a valid JWT, but with a missing or wrong checksum.
fn wrong_checksums(world: &World) -> [String; 3] {
    let [jwt, prefixed] = forms(world);
    [format!("zowepat_{jwt}"), format!("zowepat_{jwt}.00000000"), format!("{prefixed} ")]
}

fn exchanging(world: &World) -> AuthApi {
    let service = crate::token::ServiceId::new("a").unwrap();
    let exchange = TokenExchange::new()
        .with_services(applid("ZOWEAPPL"), [service])
        .with_bearer_applids([applid("ZOWEAPPL")]);
    world.api_with_registry().with_token_exchange(exchange)
}

/// The requests with a PAT: the method, the path, the headers and the body.
fn calls(token: &str) -> Vec<(&'static str, &'static str, Vec<(&'static str, String)>, String)> {
    let in_body = json!({"token": token, "serviceId": "a"}).to_string();
    let form = format!(
        "grant_type={GRANT_TYPE}&requested_token_type={PASSTICKET}&audience=ZOWEAPPL&subject_token={token}\
         &subject_token_type=urn:ietf:params:oauth:token-type:jwt"
    );
    let own = |header: &'static str, value: String| {
        ("GET", "access-tokens/self", vec![(header, value)], String::new())
    };
    let is_form = ("content-type", "application/x-www-form-urlencoded".to_owned());
    vec![
        ("POST", "access-token/validate", vec![], in_body.clone()),
        ("POST", "token", vec![is_form], form),
        own("private-token", token.to_owned()),
        own("authorization", format!("Bearer {token}")),
        own("authorization", format!("token {token}")),
        own("cookie", format!("personalAccessToken={token}")),
        ("DELETE", "access-token/revoke", vec![], in_body),
    ]
}

async fn call(
    world: &World,
    (method, path, headers, body): (&str, &str, Vec<(&'static str, String)>, String),
) -> Response<Bytes> {
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    send(exchanging(world), method, path, &headers, &body).await
}

#[tokio::test]
async fn each_endpoint_accepts_both_forms_and_refuses_a_wrong_checksum() {
    for form in [0, 1] {
        let world = World::new();
        for request in calls(&forms(&world)[form]) {
            let name = format!("{} {} {:?}", request.0, request.1, request.2);
            let response = call(&world, request).await;
            assert_eq!(response.status(), 200, "{name} {:?}", response.body());
            let expires = response.headers().get("x-zowe-token-expires");
            let is_own = name.contains("self");
            assert_eq!(expires.is_some_and(|it| it == "2027-04-15T08:00:00Z"), is_own, "{name}");
        }
    }
    let world = World::new();
    for wrong in wrong_checksums(&world) {
        for request in calls(&wrong) {
            // White space at the end of a header or a cookie is not part of the token.
            if wrong.ends_with(' ') && !request.2.is_empty() {
                continue;
            }
            let name = format!("{} {} {:?}", request.0, request.1, request.2);
            // RFC 6749 requires 400 for the token exchange.
            let want = if request.1 == "token" { 400 } else { 401 };
            let response = call(&world, request).await;
            assert_eq!(response.status(), want, "{name} {wrong}");
            assert!(!response.headers().contains_key("x-zowe-token-expires"));
        }
    }
    let body = json!({"token": wrong_checksums(&world)[0], "serviceId": "a"}).to_string();
    let response = send(exchanging(&world), "POST", "access-token/validate", &[], &body).await;
    let content = content(&response);
    assert!(content.contains("checksum"), "{content}");
}

#[tokio::test]
async fn a_revocation_by_one_form_refuses_the_other() {
    for (revoked, used) in [(0, 1), (1, 0)] {
        let world = World::new();
        let forms = forms(&world);
        let body = |token: &str| json!({"token": token, "serviceId": "a"}).to_string();
        let revoke = |token: &str| ("DELETE", "access-token/revoke", Vec::new(), body(token));
        assert_eq!(call(&world, revoke(&forms[revoked])).await.status(), 200);
        for request in calls(&forms[used]) {
            let response = call(&world, request).await;
            assert!([400, 401].contains(&response.status().as_u16()), "{:?}", response.body());
        }
    }
}

#[tokio::test]
async fn a_password_with_the_prefix_is_never_tried() {
    let world = World::new();
    let forms = forms(&world);
    for password in ["zowepat_x", &forms[0], &forms[1], &wrong_checksums(&world)[0]] {
        let authorization = basic(&format!("user:{password}"));
        // If the throttle counted these requests, it would answer 429 to the last requests.
        for _ in 0..10 {
            let headers = [("authorization", authorization.as_str())];
            let api = world.minimal.clone();
            let response = send(api, "POST", "login", &headers, "").await;
            assert_eq!(response.status(), 401, "{password}");
        }
    }
}

fn prefixing(world: &World) -> AuthApi {
    let issuer = TokenIssuer::new(KEY.clone()).with_clock(world.clock.clone()).with_pat_prefix();
    let verifier = Rs256Verifier::new(KEY.verifying_key()).with_clock(world.clock.clone());
    let login = StubLogin { can_change_passwords: false };
    AuthApi::new(issuer, verifier, login, world.store.clone())
        .with_clock(world.clock.clone())
        .with_audit(Audit::to(world.collected.clone()))
        .with_personal_access_tokens(Validity::MAX)
        .with_access_token_registry(world.registry.clone(), NonZeroU32::new(3).unwrap())
}

#[tokio::test]
async fn new_tokens_have_the_prefix_if_it_is_on_and_their_entry_is_found_by_both_forms() {
    let world = World::new();
    let password = basic("user:validPassword");
    let authorization = ("authorization", password.as_str());
    let body = r#"{"scopes":["a"]}"#;
    let plain = TestRequest { authorization: Some(&password), body, ..POST_GENERATE };
    let plain = plain.send_to(prefixing(&world)).await;
    let json = [authorization, ("accept", "application/json")];
    let json = send(prefixing(&world), "POST", "access-token/generate", &json, body).await;
    let json: Value = serde_json::from_slice(json.body()).unwrap();
    let records = world.collected.take();
    let ids: Vec<_> = records.iter().map(|record| record.issued_token_id.unwrap()).collect();
    for (token, id) in [str::from_utf8(plain.body()).unwrap(), json["token"].as_str().unwrap()]
        .into_iter()
        .zip(ids)
    {
        let (jwt, checksum) = token.strip_prefix("zowepat_").unwrap().rsplit_once('.').unwrap();
        let pat = verifier().verify(token).unwrap();
        // The fingerprint of a token is the hash of its JWT, without the prefix and the checksum.
        assert_eq!((pat.fingerprint(), &id.to_string()[..8]), (id, checksum));
        let mut entries = Vec::new();
        for form in [jwt, token] {
            let headers = [("private-token", form)];
            let response = send(prefixing(&world), "GET", "access-tokens/self", &headers, "").await;
            assert_eq!(response.status(), 200);
            let entry: Value = serde_json::from_slice(response.body()).unwrap();
            entries.push(entry["id"].clone());
        }
        assert_eq!(entries[0], entries[1]);
    }
    let list = send(prefixing(&world), "GET", "access-tokens", &[authorization], "").await;
    let list: Value = serde_json::from_slice(list.body()).unwrap();
    assert_eq!(list["tokens"].as_array().unwrap().len(), 2);

    // A rotated token has the prefix, even if the old token has none.
    let bearer = format!("Bearer {}", forms(&world)[0]);
    let headers = [("authorization", bearer.as_str())];
    let new = send(prefixing(&world), "POST", "access-tokens/self/rotate", &headers, "").await;
    let new: Value = serde_json::from_slice(new.body()).unwrap();
    assert!(new["token"].as_str().unwrap().starts_with("zowepat_"), "{new}");
}

#[tokio::test]
async fn validate_tells_the_holder_the_reason_in_json_only() {
    fn revoked(world: &World, revocation: impl FnOnce(&Pat) -> Revocation, token: &str) -> String {
        let VerifiedToken::Pat(pat) = verifier().verify(token).unwrap() else {
            panic!("expected a PAT")
        };
        world.store.index.apply(&revocation(&pat));
        token.to_owned()
    }
    fn expire(world: &World, token: String) -> String {
        world.clock.advance(Duration::from_secs(90 * 86_400));
        token
    }
    type Token = Box<dyn Fn(&World, &str) -> String>;
    let cases: [(&str, Token, Option<&str>, &str); 11] = [
        ("valid", Box::new(|_, pat| pat.to_owned()), None, ""),
        ("expired", Box::new(|w, pat| expire(w, pat.to_owned())), Some("expired"), "ZWEAG103E"),
        // A client with a forged token does not learn that the real token has expired.
        (
            "forged, expired",
            Box::new(|w, pat| expire(w, forged(pat))),
            Some("invalid"),
            "ZWEAG102E",
        ),
        ("forged", Box::new(|_, pat| forged(pat)), Some("invalid"), "ZWEAG102E"),
        ("no token", Box::new(|_, _| "x".to_owned()), Some("invalid"), "ZWEAG102E"),
        ("checksum", Box::new(|w, _| wrong_checksums(w)[1].clone()), Some("invalid"), "ZWEAG102E"),
        ("login token", Box::new(|w, _| w.jwt()), Some("notAPat"), "ZWEAG102E"),
        ("other service", Box::new(|w, _| w.pat("USER", "b")), Some("scope"), "ZWEAG102E"),
        (
            "revoked",
            Box::new(|w, pat| {
                let by_token = |pat: &Pat| Revocation::Token {
                    token: pat.fingerprint(),
                    expires_at: pat.expires_at(),
                };
                revoked(w, by_token, pat)
            }),
            Some("revoked"),
            "ZWEAG102E",
        ),
        (
            "user rule",
            Box::new(|w, pat| {
                let by_user =
                    |pat: &Pat| Revocation::User { user: *pat.user(), up_to: pat.issued_at() };
                revoked(w, by_user, pat)
            }),
            Some("rule"),
            "ZWEAG102E",
        ),
        (
            "service rule",
            Box::new(|w, pat| {
                let service = crate::token::ServiceId::new("a").unwrap();
                let by_service =
                    |pat: &Pat| Revocation::Service { service, up_to: pat.issued_at() };
                revoked(w, by_service, pat)
            }),
            Some("rule"),
            "ZWEAG102E",
        ),
    ];
    for (name, token, reason, number) in cases {
        for profile in [Compatibility::Documented, Compatibility::ZoweV3] {
            let world = World::new();
            let token = token(&world, &world.pat("USER", "a"));
            let body = json!({"token": token, "serviceId": "a"}).to_string();
            let validate = async |accept| {
                let (api, headers) = (world.api(profile), [("accept", accept)]);
                send(api, "POST", "access-token/validate", &headers, &body).await
            };
            let (plain, in_json) = (validate("*/*").await, validate("application/json").await);
            if profile == Compatibility::ZoweV3 {
                // In this profile, `Accept` has no effect, as in API ML (Zowe's API Mediation Layer).
                assert_eq!(plain.status(), in_json.status(), "{name}");
                assert_eq!(plain.body(), in_json.body(), "{name}");
                continue;
            }
            assert_eq!(plain.status(), in_json.status(), "{name}");
            let document: Value = serde_json::from_slice(in_json.body()).unwrap();
            assert_eq!(in_json.headers()["content-type"], "application/json", "{name}");
            assert_eq!(in_json.headers()["cache-control"], "no-store", "{name}");
            match reason {
                None => {
                    assert_eq!((plain.status().as_u16(), plain.body().len()), (200, 0), "{name}");
                    let want = json!({"valid": true, "expiresAt": "2027-04-15T08:00:00.000Z"});
                    assert_eq!(document, want, "{name}");
                }
                Some(reason) => {
                    assert_eq!(plain.status(), 401, "{name}");
                    // The message is the same as without `Accept`.
                    let message: Value = serde_json::from_slice(plain.body()).unwrap();
                    assert!(message.get("reason").is_none(), "{name}");
                    assert_eq!(message["messages"][0]["messageNumber"], number, "{name}");
                    let want =
                        json!({"valid": false, "reason": reason, "messages": message["messages"]});
                    assert_eq!(document, want, "{name}");
                    let www_authenticate = |response: &Response<Bytes>| {
                        response.headers().get("www-authenticate").cloned()
                    };
                    assert_eq!(www_authenticate(&plain), www_authenticate(&in_json), "{name}");
                    let records = world.collected.take();
                    assert_eq!(records.len(), 2, "{name}");
                    assert_eq!(records[0].reason, records[1].reason, "{name}");
                }
            }
        }
    }
    // Errors that do not depend on the token have no reason code, even if the client asks for JSON.
    let world = World::new();
    let accept = [("accept", "application/json")];
    let api = world.api(Compatibility::Documented);
    let response = send(api.clone(), "POST", "access-token/validate", &accept, "{}").await;
    assert_eq!(outcome(&response), (400, "ZWEAO400E".to_owned()));
    world.store.cannot_check.store(true, SeqCst);
    let body = json!({"token": world.pat("USER", "a"), "serviceId": "a"}).to_string();
    let response = send(api, "POST", "access-token/validate", &accept, &body).await;
    assert_eq!(outcome(&response), (503, "ZWEAG104E".to_owned()));
}
