//! Tests of the endpoints of Personal Access Tokens (PATs), in both compatibility profiles
//! (docs/reference/auth-endpoints.md#personal-access-tokens).

use super::*;

const AUTH: &str = "/gateway/api/v1/auth/access-token/";

/// The expected status and message number. The number is empty if the response has no body.
type Want = (u16, &'static str);

/// Like [`outcome`], but accepts an error response without a body.
fn outcome_or_no_body(response: &Response<Bytes>) -> (u16, String) {
    let status = response.status().as_u16();
    if response.body().is_empty() {
        assert_eq!(response.headers().contains_key("www-authenticate"), status == 401);
        return (status, String::new());
    }
    outcome(response)
}

/// Sends a request in both profiles, each time with a new [`World`], and checks the responses. `prepare` can change
/// this world, and returns the header `Authorization`, the name of the client certificate, and the body.
async fn check(
    name: &str,
    (method, path): (&str, &str),
    prepare: impl Fn(&World) -> (Option<String>, Option<&'static str>, String),
    [documented, zowe_v3]: [Want; 2],
) {
    for (profile, (status, number)) in
        [(Compatibility::Documented, documented), (Compatibility::ZoweV3, zowe_v3)]
    {
        let world = World::new();
        let (authorization, certificate, body) = prepare(&world);
        let url = format!("{AUTH}{path}");
        let request = TestRequest {
            method,
            url: &url,
            authorization: authorization.as_deref(),
            cookie: None,
            certificate,
            body: &body,
            content_type: None,
        };
        let response = request.send_to(world.api(profile)).await;
        assert_eq!(
            outcome_or_no_body(&response),
            (status, number.to_owned()),
            "{path}: {name} {profile:?}"
        );
    }
}

fn revoke(world: &World, revocation: impl FnOnce(&Pat) -> Revocation, token: &str) {
    let VerifiedToken::Pat(pat) = verifier().verify(token).unwrap() else {
        panic!("expected a PAT")
    };
    world.store.index.apply(&revocation(&pat));
}

fn by_token(pat: &Pat) -> Revocation {
    Revocation::Token { token: pat.fingerprint(), expires_at: pat.expires_at() }
}

fn by_user(pat: &Pat) -> Revocation {
    Revocation::User { user: *pat.user(), up_to: pat.issued_at() }
}

fn by_scope(pat: &Pat) -> Revocation {
    Revocation::Service {
        service: pat.scopes().services().next().unwrap().clone(),
        up_to: pat.issued_at(),
    }
}

// The expected responses: first for the profile `documented`, then for the profile `zowe-v3`.

const DONE: [Want; 2] = [(200, ""), (204, "")];
/// The response to a revoked PAT, a PAT for other services, or a login token. In the profile `zowe-v3`, the response
/// has no body.
const UNUSABLE: [Want; 2] = [(401, "ZWEAG102E"), (401, "")];
const INVALID: [Want; 2] = [(401, "ZWEAG102E"); 2];
const EXPIRED: [Want; 2] = [(401, "ZWEAG103E"); 2];
const UNAVAILABLE: [Want; 2] = [(503, "ZWEAG104E"); 2];
const BAD_BODY: [Want; 2] = [(400, "ZWEAO400E"); 2];

type Body = fn(&World) -> String;

#[tokio::test]
async fn validate_and_revoke_check_the_token() {
    let body = |token: &str| json!({"token": token, "serviceId": "A", "x": [1]}).to_string();
    let valid = move |world: &World| world.pat("USER", "a,b");
    let cases: Vec<(&str, Box<dyn Fn(&World) -> String>, [Want; 2])> = vec![
        ("valid", Box::new(valid), DONE),
        ("token of another user", Box::new(|w| w.pat("OTHER", "a")), DONE),
        ("not a token", Box::new(|_| "x".to_owned()), INVALID),
        ("empty", Box::new(|_| String::new()), INVALID),
        ("too long", Box::new(|_| "x".repeat(20_000)), INVALID),
        ("wrong signature", Box::new(move |w| forged(&valid(w))), INVALID),
        ("login token", Box::new(World::jwt), UNUSABLE),
        (
            "expired",
            Box::new(move |w| {
                let token = valid(w);
                w.clock.advance(Duration::from_secs(90 * 86_400));
                token
            }),
            EXPIRED,
        ),
        (
            "the token itself is revoked",
            Box::new(move |w| {
                let token = valid(w);
                revoke(w, by_token, &token);
                token
            }),
            UNUSABLE,
        ),
        (
            "revoked by a rule for its user",
            Box::new(move |w| {
                let token = valid(w);
                revoke(w, by_user, &token);
                token
            }),
            UNUSABLE,
        ),
        (
            "revoked by a rule for one of its services",
            Box::new(move |w| {
                let token = valid(w);
                revoke(w, by_scope, &token);
                token
            }),
            UNUSABLE,
        ),
        (
            "revocation store not available",
            Box::new(move |w| {
                w.store.cannot_check.store(true, SeqCst);
                valid(w)
            }),
            UNAVAILABLE,
        ),
    ];
    for (name, token, want) in cases {
        let prepare = |world: &World| (None, None, body(&token(world)));
        check(name, ("POST", "validate"), prepare, want).await;
        check(name, ("DELETE", "revoke"), prepare, want).await;
    }
}

#[tokio::test]
async fn validate_and_revoke_check_the_body() {
    // The last two columns contain the responses of `validate` and of `revoke`.
    let cases: [(&str, Body, [Want; 2], [Want; 2]); 10] = [
        (
            "token for another service",
            |w| json!({"token": w.pat("USER", "a"), "serviceId": "ab"}).to_string(),
            UNUSABLE,
            DONE,
        ),
        (
            "service that is not a valid service id",
            |w| json!({"token": w.pat("USER", "a"), "serviceId": "a b"}).to_string(),
            UNUSABLE,
            DONE,
        ),
        (
            "field serviceId missing",
            |w| json!({"token": w.pat("USER", "a")}).to_string(),
            [(400, "ZWEAO400E"), (401, "")],
            DONE,
        ),
        (
            "field serviceId null",
            |_| json!({"token": "x", "serviceId": null}).to_string(),
            [(400, "ZWEAO400E"), (401, "")],
            INVALID,
        ),
        (
            "field token missing",
            |_| json!({"serviceId": "a"}).to_string(),
            [(400, "ZWEAO400E"), (401, "ZWEAG102E")],
            [(400, "ZWEAO400E"), (401, "ZWEAG102E")],
        ),
        (
            "field serviceId of the wrong type",
            |w| json!({"token": w.pat("USER", "a"), "serviceId": 5}).to_string(),
            BAD_BODY,
            DONE,
        ),
        ("empty body", |_| String::new(), BAD_BODY, BAD_BODY),
        ("not JSON", |_| "token".to_owned(), BAD_BODY, BAD_BODY),
        ("JSON array", |_| r#"["x","a"]"#.to_owned(), BAD_BODY, BAD_BODY),
        (
            "field token of the wrong type",
            |_| r#"{"token":5,"serviceId":"a"}"#.to_owned(),
            BAD_BODY,
            BAD_BODY,
        ),
    ];
    for (name, body, validate, revoke) in cases {
        let prepare = |world: &World| (None, None, body(world));
        check(name, ("POST", "validate"), prepare, validate).await;
        check(name, ("DELETE", "revoke"), prepare, revoke).await;
    }
    let unwritable = |world: &World| {
        world.store.cannot_write.store(true, SeqCst);
        (None, None, json!({"token": world.pat("USER", "a")}).to_string())
    };
    check("store cannot be written", ("DELETE", "revoke"), unwritable, UNAVAILABLE).await;
}

#[tokio::test]
async fn the_message_of_validate_says_why_a_token_is_refused() {
    let world = World::new();
    let api = world.api(Compatibility::Documented);
    let url = format!("{AUTH}validate");
    let message = async |token: &str| {
        let body = json!({"token": token, "serviceId": "a"}).to_string();
        content(&TestRequest { url: &url, body: &body, ..POST_LOGIN }.send_to(api.clone()).await)
    };
    let valid = world.pat("USER", "a");
    let of_other_service = world.pat("USER", "b");
    let (one, two, three) = (world.pat("A", "a"), world.pat("B", "a"), world.pat("C", "a"));
    assert_eq!(
        message(&of_other_service).await,
        "Token is not valid: the token is not for this service, or not for this request to it"
    );
    assert_eq!(
        message(&world.jwt()).await,
        "Token is not valid: the token is not a Personal Access Token"
    );
    assert_eq!(message("x").await, "Token is not valid: it is not a JWT");
    assert_eq!(
        message(&forged(&valid)).await,
        "Token is not valid: it is not a token of this gateway"
    );
    for (token, revocation, want) in [
        (&one, by_token as fn(&Pat) -> Revocation, "the token itself was revoked"),
        (&two, by_user, "a rule for its user"),
        (&three, by_scope, "a rule for one of its services"),
    ] {
        revoke(&world, revocation, token);
        let want = format!("Token is not valid: the token is revoked: {want}");
        assert_eq!(message(token).await, want);
    }
    world.clock.advance(Duration::from_secs(90 * 86_400));
    assert_eq!(message(&valid).await, "The token has expired");
}

const OWN: (&str, &str) = ("DELETE", "revoke/tokens");
const USER: (&str, &str) = ("DELETE", "revoke/tokens/user");
const USERS: (&str, &str) = ("DELETE", "revoke/tokens/users");
const SCOPE: (&str, &str) = ("DELETE", "revoke/tokens/scope");
const EVICT: (&str, &str) = ("DELETE", "evict");

/// A body that is valid for each kind of rule.
const RULE: &str = r#"{"userId":"other","serviceId":"a","timestamp":"1","x":[1]}"#;

#[tokio::test]
async fn rules_and_evict_authenticate_and_authorize() {
    const EVICTED: [Want; 2] = [(204, ""); 2];
    const RULE_REFUSED: [Want; 2] = [(401, "ZWEAT403E"), (403, "ZWEAT403E")];
    const EVICT_REFUSED: [Want; 2] = [(403, "ZWEAT403E"); 2];
    const NO_CREDENTIAL: [Want; 2] = [(401, "ZWEAG105E"); 2];
    const WRONG_PASSWORD: [Want; 2] = [(401, "ZWEAG120E"); 2];
    const NO_USER: [Want; 2] = [(401, "ZWEAG161E"), (403, "ZWEAT403E")];
    const SAF_FAILED: [Want; 2] = [(500, "ZWEAT603E"); 2];

    let as_user = |name: &str| Some(basic(&format!("{name}:validPassword")));
    let wrong = || Some(basic("admin:wrong"));
    let no_password = || Some(basic("admin:"));
    let certificate = |name| (None, Some(name));
    let jwt = Some(format!("Bearer {}", World::new().jwt()));
    let pat = Some(format!("Bearer {}", World::new().pat("ADMIN", "a")));
    // The last column contains three responses: to a rule for the caller's own tokens, to a rule for tokens of other
    // users, and to `evict`.
    let cases = [
        ("ADMIN", (as_user("admin"), None), [DONE, DONE, EVICTED]),
        ("READER", (as_user("reader"), None), [DONE, DONE, EVICT_REFUSED]),
        ("USER", (as_user("user"), None), [DONE, RULE_REFUSED, EVICT_REFUSED]),
        ("certificate of ADMIN", certificate("ADMIN"), [DONE, DONE, EVICTED]),
        ("certificate of USER", certificate("user"), [DONE, RULE_REFUSED, EVICT_REFUSED]),
        ("certificate without a user", certificate("x y"), [NO_USER; 3]),
        (
            "Basic of USER, certificate of ADMIN",
            (as_user("user"), Some("ADMIN")),
            [DONE, RULE_REFUSED, EVICT_REFUSED],
        ),
        ("wrong password, certificate of ADMIN", (wrong(), Some("ADMIN")), [WRONG_PASSWORD; 3]),
        ("wrong password", (wrong(), None), [WRONG_PASSWORD; 3]),
        ("empty password", (no_password(), None), [WRONG_PASSWORD; 3]),
        ("malformed Basic", (Some("Basic ???".to_owned()), None), [WRONG_PASSWORD; 3]),
        ("no credential", (None, None), [NO_CREDENTIAL; 3]),
        ("a login token", (jwt, None), [NO_CREDENTIAL; 3]),
        ("a PAT", (pat, None), [NO_CREDENTIAL; 3]),
        ("login provider not available", (as_user("down"), None), [UNAVAILABLE; 3]),
        ("SAF not available", (as_user("safdown"), None), [DONE, UNAVAILABLE, UNAVAILABLE]),
        ("SAF gives no decision", (as_user("safbad"), None), [DONE, SAF_FAILED, SAF_FAILED]),
    ];
    for (name, (authorization, certificate), [own_rule, rule_for_others, evict]) in cases {
        let prepare = |_: &World| (authorization.clone(), certificate, RULE.to_owned());
        check(name, OWN, prepare, own_rule).await;
        for rule in [USER, USERS, SCOPE] {
            check(name, rule, prepare, rule_for_others).await;
        }
        check(name, EVICT, prepare, evict).await;
    }
    let unwritable = |world: &World| {
        world.store.cannot_write.store(true, SeqCst);
        (Some(basic("admin:validPassword")), None, RULE.to_owned())
    };
    for endpoint in [OWN, USER, USERS, SCOPE, EVICT] {
        check("store cannot be written", endpoint, unwritable, UNAVAILABLE).await;
    }
}

/// While its clock is an hour ahead, the gateway issues a PAT. A rule with the current time must also revoke this PAT.
#[tokio::test]
async fn rules_with_the_current_time_revoke_a_pat_with_an_issue_time_in_the_future() {
    let admin = basic("admin:validPassword");
    for (path, body, hits) in [
        ("revoke/tokens", "".to_owned(), true),
        ("revoke/tokens", json!({"timestamp": 0}).to_string(), true),
        ("revoke/tokens", json!({"timestamp": NOW * 1000 + 60_000}).to_string(), false),
        ("revoke/tokens/user", json!({"userId": "admin"}).to_string(), true),
        ("revoke/tokens/user", json!({"userId": "other"}).to_string(), false),
        ("revoke/tokens/scope", json!({"serviceId": "b"}).to_string(), true),
        ("revoke/tokens/scope", json!({"serviceId": "c"}).to_string(), false),
    ] {
        let world = World::new();
        let api = world.api(Compatibility::Documented);
        let generate = async || {
            let request = TestRequest { authorization: Some(&admin), ..POST_GENERATE };
            let response = request.send_to(api.clone()).await;
            assert_eq!(response.status(), 200);
            String::from_utf8(response.body().to_vec()).unwrap()
        };
        let status_of = async |token: &str| {
            let body = json!({"token": token, "serviceId": "a"}).to_string();
            let url = format!("{AUTH}validate");
            TestRequest { url: &url, body: &body, ..POST_LOGIN }.send_to(api.clone()).await.status()
        };
        world.clock.advance(Duration::from_secs(3600));
        let ahead = generate().await;
        world.clock.set(Timestamp::from_secs(NOW + 60));
        let url = format!("{AUTH}{path}");
        let rule = TestRequest {
            method: "DELETE",
            url: &url,
            authorization: Some(&admin),
            body: &body,
            ..POST_LOGIN
        };
        assert_eq!(rule.send_to(api.clone()).await.status(), 200, "{path} {body}");
        world.clock.advance(Duration::from_millis(1));
        let after = generate().await;
        let want = if hits { 401 } else { 200 };
        assert_eq!(status_of(&ahead).await, want, "{path} {body}");
        assert_eq!(status_of(&after).await, 200, "{path} {body}");
    }
}

/// A rule with the current time revokes a PAT with an issue time in the future only if the PAT is registered. So the
/// gateway does not issue a PAT that it cannot register.
#[tokio::test]
async fn generate_gets_503_if_the_pat_cannot_be_registered() {
    let world = World::new();
    world.store.cannot_write.store(true, SeqCst);
    let authorization = basic("user:validPassword");
    let request = TestRequest { authorization: Some(&authorization), ..POST_GENERATE };
    let response = request.send_to(world.api(Compatibility::Documented)).await;
    assert_eq!(outcome(&response), (503, "ZWEAG104E".to_owned()));
}

#[tokio::test]
async fn generate_gets_429_if_the_user_has_too_many_tokens() {
    let world = World::new();
    let pat = IssuedPat {
        token: crate::token::TokenFingerprint::of("token"),
        user: UserId::new("user").unwrap(),
        scopes: Scopes::parse(["a"]).unwrap(),
        issued_at: Timestamp::from_secs(NOW),
        expires_at: Timestamp::from_secs(NOW + 1),
    };
    for _ in 0..1000 {
        world.store.index.register(pat.clone()).await.unwrap();
    }
    for (user, want) in [("user", 429), ("other", 200)] {
        for profile in [Compatibility::Documented, Compatibility::ZoweV3] {
            let authorization = basic(&format!("{user}:validPassword"));
            let request = TestRequest { authorization: Some(&authorization), ..POST_GENERATE };
            let response = request.send_to(world.api(profile)).await;
            assert_eq!(response.status(), want);
            if want == 429 {
                assert_eq!(outcome(&response).1, "ZWESG429E");
                assert_eq!(response.headers()["retry-after"], "10");
                let text = str::from_utf8(response.body()).unwrap();
                assert!(text.contains("has 1000 Personal Access Tokens"), "{text}");
            }
        }
    }
}

#[tokio::test]
async fn rules_check_the_body() {
    const BAD: [Want; 2] = [(400, "ZWEAT607E"); 2];
    // Each case contains a body and three responses: to a rule for the caller's own tokens, for a user, and for a
    // service.
    for (body, own, by_user, by_scope) in [
        (RULE, DONE, DONE, DONE),
        ("", DONE, BAD, BAD),
        ("{}", DONE, BAD, BAD),
        (r#"{"timestamp":null}"#, DONE, BAD, BAD),
        (r#"{"userId":"a"}"#, DONE, DONE, BAD),
        (r#"{"serviceId":"a"}"#, DONE, BAD, DONE),
        (r#"{"userId":"a","serviceId":"a","timestamp":4102444800000}"#, DONE, DONE, DONE),
        (r#"{"userId":"","serviceId":""}"#, DONE, BAD, BAD),
        (r#"{"userId":null,"serviceId":null}"#, DONE, BAD, BAD),
        (r#"{"userId":"john.doe","serviceId":"a/b"}"#, DONE, BAD, BAD),
        (r#"{"userId":"a","serviceId":"a","timestamp":"abc"}"#, BAD, BAD, BAD),
        (r#"{"userId":"a","serviceId":"a","timestamp":-1}"#, BAD, BAD, BAD),
        ("null", BAD, BAD, BAD),
        ("timestamp=1", BAD, BAD, BAD),
    ] {
        let prepare = |_: &World| (Some(basic("admin:validPassword")), None, body.to_owned());
        check(body, OWN, prepare, own).await;
        check(body, USER, prepare, by_user).await;
        check(body, SCOPE, prepare, by_scope).await;
    }
    let long = " ".repeat(MAX_BODY_LEN + 1);
    let prepare = |_: &World| (Some(basic("admin:validPassword")), None, long.clone());
    for endpoint in [OWN, USER, USERS, SCOPE, ("POST", "validate"), ("DELETE", "revoke")] {
        check("body longer than the limit", endpoint, prepare, [(413, "ZWEAO413E"); 2]).await;
    }
}

#[tokio::test]
async fn a_rule_revokes_only_what_it_names() {
    let world = World::new();
    let tokens = [
        ("user a", world.pat("USER", "a")),
        ("user b", world.pat("USER", "b")),
        ("other a", world.pat("OTHER", "a")),
        ("other b", world.pat("OTHER", "b")),
    ];
    let issued = world.clock.now().as_millis();
    let earlier = issued - 1;
    for (path, body, want_revoked) in [
        ("revoke/tokens", "", vec!["user a", "user b"]),
        ("revoke/tokens", &format!(r#"{{"timestamp":"{earlier}"}}"#), vec![]),
        ("revoke/tokens/users", r#"{"userId":"Other"}"#, vec!["other a", "other b"]),
        ("revoke/tokens/scope", r#"{"serviceId":"B"}"#, vec!["user b", "other b"]),
        (
            "revoke/tokens/scope",
            &format!(r#"{{"serviceId":"B","timestamp":{issued}}}"#),
            vec!["user b", "other b"],
        ),
        ("revoke/tokens/user", &format!(r#"{{"userId":"USER","timestamp":{earlier}}}"#), vec![]),
    ] {
        let new_world = World::new();
        let url = format!("{AUTH}{path}");
        // `revoke/tokens` revokes the tokens of the caller.
        let user = if path == "revoke/tokens" { "user" } else { "admin" };
        let caller = basic(&format!("{user}:validPassword"));
        let rule = TestRequest {
            method: "DELETE",
            url: &url,
            authorization: Some(&caller),
            body,
            ..POST_LOGIN
        };
        let response = rule.send_to(new_world.api(Compatibility::Documented)).await;
        assert_eq!(outcome_or_no_body(&response), (200, String::new()));
        for (name, token) in &tokens {
            let pat = verifier().verify(token).unwrap();
            let is_revoked = new_world.store.index.check(&pat).is_err();
            assert_eq!(is_revoked, want_revoked.contains(name), "{path} {body}: {name}");
        }
    }
}

#[tokio::test]
async fn the_message_names_the_missing_permission() {
    let caller = basic("user:validPassword");
    for (path, level) in [("revoke/tokens/user", "READ"), ("evict", "UPDATE")] {
        let url = format!("{AUTH}{path}");
        let request = TestRequest {
            method: "DELETE",
            url: &url,
            authorization: Some(&caller),
            body: RULE,
            ..POST_LOGIN
        };
        let start = "The user is not authorized to the target resource: ";
        let response = request.send_to(World::new().api(Compatibility::Documented)).await;
        assert_eq!(
            content(&response),
            format!("{start}{level} on APIML.SERVICES in class ZOWE is needed")
        );
        let response = request.send_to(World::new().api(Compatibility::ZoweV3)).await;
        assert_eq!(content(&response), format!("{start}Access Denied"));
        let without_credential = TestRequest { authorization: None, ..request };
        let response = without_credential.send_to(World::new().api(Compatibility::ZoweV3)).await;
        assert_eq!(
            response.headers()["x-zowe-auth-failure"],
            "ZWEAG160E No authentication provided in the request"
        );
        assert_eq!(
            content(&response),
            format!("Authentication is required for URL '/zaas/api/v1/auth/access-token/{path}'")
        );
    }
}

#[tokio::test]
async fn the_endpoints_get_404_while_personal_access_tokens_are_off() {
    let admin = basic("admin:validPassword");
    for (method, path) in [
        ("POST", "generate"),
        ("POST", "validate"),
        ("DELETE", "revoke"),
        OWN,
        USER,
        USERS,
        SCOPE,
        EVICT,
    ] {
        let url = format!("{AUTH}{path}");
        let request = TestRequest {
            method,
            url: &url,
            authorization: Some(&admin),
            body: RULE,
            ..POST_LOGIN
        };
        for profile in [Compatibility::Documented, Compatibility::ZoweV3] {
            let response = request.send_to(minimal_api().with_compatibility(profile)).await;
            assert_eq!(outcome(&response), (404, "ZWEAO404E".to_owned()), "{path}");
        }
        let wrong_method = if method == "POST" { "DELETE" } else { "POST" };
        let response = TestRequest { method: wrong_method, ..request }.send_to(api()).await;
        assert_eq!(outcome(&response), (405, "ZWEAG101E".to_owned()), "{path}");
        assert_eq!(response.headers()["allow"], format!("{method}, OPTIONS"), "{path}");
    }
}
