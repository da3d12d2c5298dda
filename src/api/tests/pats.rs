//! The endpoints of Personal Access Tokens in both profiles
//! (docs/reference/auth-endpoints.md#personal-access-tokens).

use super::*;

const AUTH: &str = "/gateway/api/v1/auth/access-token/";

/// Status and message number, empty without a body.
type Want = (u16, &'static str);

fn seen(response: &Response<Bytes>) -> (u16, String) {
    let status = response.status().as_u16();
    if response.body().is_empty() {
        assert_eq!(response.headers().contains_key("www-authenticate"), status == 401);
        return (status, String::new());
    }
    outcome(response)
}

/// Sends the request in both profiles, each in a world that `prepare` has changed.
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
        let asked = TestRequest {
            method,
            url: &url,
            authorization: authorization.as_deref(),
            cookie: None,
            certificate,
            body: &body,
        };
        let response = asked.send_to(world.api(profile)).await;
        assert_eq!(seen(&response), (status, number.to_owned()), "{path}: {name} {profile:?}");
    }
}

fn revoked_by(world: &World, revocation: impl FnOnce(&Pat) -> Revocation, token: &str) {
    let VerifiedToken::Pat(pat) = verifier().verify(token).unwrap() else { panic!("a PAT") };
    world.store.index.apply(&revocation(&pat));
}

fn by_itself(pat: &Pat) -> Revocation {
    Revocation::Token { token: pat.fingerprint(), expires_at: pat.expires_at() }
}

fn by_user(pat: &Pat) -> Revocation {
    Revocation::User { user: *pat.user(), up_to: pat.issued_at() }
}

fn by_scope(pat: &Pat) -> Revocation {
    Revocation::Service {
        service: pat.scopes().iter().next().unwrap().clone(),
        up_to: pat.issued_at(),
    }
}

const DONE: [Want; 2] = [(200, ""), (204, "")];
const SILENT: [Want; 2] = [(401, "ZWEAG102E"), (401, "")];
const INVALID: [Want; 2] = [(401, "ZWEAG102E"); 2];
const EXPIRED: [Want; 2] = [(401, "ZWEAG103E"); 2];
const DOWN: [Want; 2] = [(503, "ZWEAG104E"); 2];
const BAD: [Want; 2] = [(400, "ZWEAO400E"); 2];

/// Makes the body of a request.
type Body = fn(&World) -> String;

#[tokio::test]
async fn validate_and_revoke_answer_each_token() {
    let body = |token: &str| json!({"token": token, "serviceId": "A", "x": [1]}).to_string();
    let good = move |world: &World| world.pat("USER", "a,b");
    let cases: Vec<(&str, Box<dyn Fn(&World) -> String>, [Want; 2])> = vec![
        ("good", Box::new(good), DONE),
        ("of somebody else", Box::new(|w| w.pat("OTHER", "a")), DONE),
        ("garbage", Box::new(|_| "x".to_owned()), INVALID),
        ("empty", Box::new(|_| String::new()), INVALID),
        ("too long", Box::new(|_| "x".repeat(20_000)), INVALID),
        ("forged", Box::new(move |w| forged(&good(w))), INVALID),
        ("a login token", Box::new(World::jwt), SILENT),
        (
            "expired",
            Box::new(move |w| {
                let token = good(w);
                w.clock.advance(Duration::from_secs(90 * 86_400));
                token
            }),
            EXPIRED,
        ),
        (
            "revoked",
            Box::new(move |w| {
                let token = good(w);
                revoked_by(w, by_itself, &token);
                token
            }),
            SILENT,
        ),
        (
            "revoked by user",
            Box::new(move |w| {
                let token = good(w);
                revoked_by(w, by_user, &token);
                token
            }),
            SILENT,
        ),
        (
            "revoked by scope",
            Box::new(move |w| {
                let token = good(w);
                revoked_by(w, by_scope, &token);
                token
            }),
            SILENT,
        ),
        (
            "nobody can say",
            Box::new(move |w| {
                w.store.cannot_check.store(true, SeqCst);
                good(w)
            }),
            DOWN,
        ),
    ];
    for (name, token, want) in cases {
        let prepare = |world: &World| (None, None, body(&token(world)));
        check(name, ("POST", "validate"), prepare, want).await;
        check(name, ("DELETE", "revoke"), prepare, want).await;
    }
}

#[tokio::test]
async fn validate_and_revoke_answer_each_body() {
    let cases: [(&str, Body, [Want; 2], [Want; 2]); 10] = [
        (
            "out of scope",
            |w| json!({"token": w.pat("USER", "a"), "serviceId": "ab"}).to_string(),
            SILENT,
            DONE,
        ),
        (
            "no service id",
            |w| json!({"token": w.pat("USER", "a"), "serviceId": "a b"}).to_string(),
            SILENT,
            DONE,
        ),
        (
            "no service",
            |w| json!({"token": w.pat("USER", "a")}).to_string(),
            [(400, "ZWEAO400E"), (401, "")],
            DONE,
        ),
        (
            "service null",
            |_| json!({"token": "x", "serviceId": null}).to_string(),
            [(400, "ZWEAO400E"), (401, "")],
            INVALID,
        ),
        (
            "no token",
            |_| json!({"serviceId": "a"}).to_string(),
            [(400, "ZWEAO400E"), (401, "ZWEAG102E")],
            [(400, "ZWEAO400E"), (401, "ZWEAG102E")],
        ),
        (
            "service of another type",
            |w| json!({"token": w.pat("USER", "a"), "serviceId": 5}).to_string(),
            BAD,
            DONE,
        ),
        ("no body", |_| String::new(), BAD, BAD),
        ("not JSON", |_| "token".to_owned(), BAD, BAD),
        ("an array", |_| r#"["x","a"]"#.to_owned(), BAD, BAD),
        ("token of another type", |_| r#"{"token":5,"serviceId":"a"}"#.to_owned(), BAD, BAD),
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
    check("cannot write", ("DELETE", "revoke"), unwritable, DOWN).await;
}

#[tokio::test]
async fn validate_answers_why_a_token_is_refused() {
    let world = World::new();
    let api = world.api(Compatibility::Documented);
    let url = format!("{AUTH}validate");
    let told = async |token: &str| {
        let body = json!({"token": token, "serviceId": "a"}).to_string();
        content(&TestRequest { url: &url, body: &body, ..POST_LOGIN }.send_to(api.clone()).await)
    };
    let (other, one, two, three, old) = (
        world.pat("USER", "b"),
        world.pat("A", "a"),
        world.pat("B", "a"),
        world.pat("C", "a"),
        world.pat("USER", "a"),
    );
    assert_eq!(told(&other).await, "Token is not valid: the token is not for this service");
    assert_eq!(
        told(&world.jwt()).await,
        "Token is not valid: the token is no Personal Access Token"
    );
    assert_eq!(told("x").await, "Token is not valid: it is no JWT");
    assert_eq!(told(&forged(&old)).await, "Token is not valid: it is no token of this gateway");
    for (token, revocation, want) in [
        (&one, by_itself as fn(&Pat) -> Revocation, "the token itself was revoked"),
        (&two, by_user, "a rule for its user"),
        (&three, by_scope, "a rule for one of its services"),
    ] {
        revoked_by(&world, revocation, token);
        let want = format!("Token is not valid: the token is revoked: {want}");
        assert_eq!(told(token).await, want);
    }
    world.clock.advance(Duration::from_secs(90 * 86_400));
    assert_eq!(told(&old).await, "The token has expired");
}

const OWN: (&str, &str) = ("DELETE", "revoke/tokens");
const USER: (&str, &str) = ("DELETE", "revoke/tokens/user");
const USERS: (&str, &str) = ("DELETE", "revoke/tokens/users");
const SCOPE: (&str, &str) = ("DELETE", "revoke/tokens/scope");
const EVICT: (&str, &str) = ("DELETE", "evict");

/// A valid body for each rule.
const RULE: &str = r#"{"userId":"other","serviceId":"a","timestamp":"1","x":[1]}"#;

#[tokio::test]
async fn rules_and_evict_authenticate_and_authorize() {
    const ANYBODY: [Want; 2] = DONE;
    const EVICTED: [Want; 2] = [(204, ""); 2];
    const REFUSED: [Want; 2] = [(401, "ZWEAT403E"), (403, "ZWEAT403E")];
    const NO_EVICT: [Want; 2] = [(403, "ZWEAT403E"); 2];
    const WHO: [Want; 2] = [(401, "ZWEAG105E"); 2];
    const WRONG: [Want; 2] = [(401, "ZWEAG120E"); 2];
    const NO_USER: [Want; 2] = [(401, "ZWEAG161E"), (403, "ZWEAT403E")];
    const FAULT: [Want; 2] = [(500, "ZWEAT603E"); 2];

    let as_user = |name: &str| Some(basic(&format!("{name}:validPassword")));
    let wrong = || Some(basic("admin:wrong"));
    let no_password = || Some(basic("admin:"));
    let certificate = |name| (None, Some(name));
    let jwt = Some(format!("Bearer {}", World::new().jwt()));
    let pat = Some(format!("Bearer {}", World::new().pat("ADMIN", "a")));
    // Credential; outcome of a rule for own tokens, of a rule for others, and of evict.
    let cases = [
        ("ADMIN", (as_user("admin"), None), [ANYBODY, DONE, EVICTED]),
        ("READER", (as_user("reader"), None), [ANYBODY, DONE, NO_EVICT]),
        ("USER", (as_user("user"), None), [ANYBODY, REFUSED, NO_EVICT]),
        ("certificate of ADMIN", certificate("ADMIN"), [ANYBODY, DONE, EVICTED]),
        ("certificate of USER", certificate("user"), [ANYBODY, REFUSED, NO_EVICT]),
        ("certificate without a user", certificate("x y"), [NO_USER; 3]),
        ("Basic beats certificate", (as_user("user"), Some("ADMIN")), [ANYBODY, REFUSED, NO_EVICT]),
        ("no rescue", (wrong(), Some("ADMIN")), [WRONG; 3]),
        ("wrong password", (wrong(), None), [WRONG; 3]),
        ("no password", (no_password(), None), [WRONG; 3]),
        ("undecodable", (Some("Basic ???".to_owned()), None), [WRONG; 3]),
        ("nobody", (None, None), [WHO; 3]),
        ("a login token", (jwt, None), [WHO; 3]),
        ("a PAT", (pat, None), [WHO; 3]),
        ("login is down", (as_user("down"), None), [DOWN; 3]),
        ("SAF is down", (as_user("safdown"), None), [ANYBODY, DOWN, DOWN]),
        ("SAF is broken", (as_user("safbad"), None), [ANYBODY, FAULT, FAULT]),
    ];
    for (name, (authorization, certificate), [own, others, evict]) in cases {
        let prepare = |_: &World| (authorization.clone(), certificate, RULE.to_owned());
        check(name, OWN, prepare, own).await;
        for rule in [USER, USERS, SCOPE] {
            check(name, rule, prepare, others).await;
        }
        check(name, EVICT, prepare, evict).await;
    }
    let unwritable = |world: &World| {
        world.store.cannot_write.store(true, SeqCst);
        (Some(basic("admin:validPassword")), None, RULE.to_owned())
    };
    for endpoint in [OWN, USER, USERS, SCOPE, EVICT] {
        check("cannot write", endpoint, unwritable, DOWN).await;
    }
}

#[tokio::test]
async fn rules_answer_each_body() {
    const BAD: [Want; 2] = [(400, "ZWEAT607E"); 2];
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
        check("too long", endpoint, prepare, [(413, "ZWEAO413E"); 2]).await;
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
    for (path, body, hit) in [
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
        let fresh = World::new();
        let url = format!("{AUTH}{path}");
        // The caller's own tokens, if no others are named.
        let user = if path == "revoke/tokens" { "user" } else { "admin" };
        let caller = basic(&format!("{user}:validPassword"));
        let rule = TestRequest {
            method: "DELETE",
            url: &url,
            authorization: Some(&caller),
            body,
            ..POST_LOGIN
        };
        let response = rule.send_to(fresh.api(Compatibility::Documented)).await;
        assert_eq!(seen(&response), (200, String::new()));
        for (name, token) in &tokens {
            let pat = verifier().verify(token).unwrap();
            let revoked = fresh.store.index.check(&pat).is_err();
            assert_eq!(revoked, hit.contains(name), "{path} {body}: {name}");
        }
    }
}

#[tokio::test]
async fn a_refusal_names_the_missing_permission() {
    let caller = basic("user:validPassword");
    for (path, level) in [("revoke/tokens/user", "READ"), ("evict", "UPDATE")] {
        let url = format!("{AUTH}{path}");
        let asked = TestRequest {
            method: "DELETE",
            url: &url,
            authorization: Some(&caller),
            body: RULE,
            ..POST_LOGIN
        };
        let start = "The user is not authorized to the target resource: ";
        let response = asked.send_to(World::new().api(Compatibility::Documented)).await;
        assert_eq!(
            content(&response),
            format!("{start}{level} on APIML.SERVICES in class ZOWE is needed")
        );
        let response = asked.send_to(World::new().api(Compatibility::ZoweV3)).await;
        assert_eq!(content(&response), format!("{start}Access Denied"));
        let nobody = TestRequest { authorization: None, ..asked };
        let response = nobody.send_to(World::new().api(Compatibility::ZoweV3)).await;
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
async fn endpoints_of_tokens_that_are_off_are_404() {
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
        let asked = TestRequest {
            method,
            url: &url,
            authorization: Some(&admin),
            body: RULE,
            ..POST_LOGIN
        };
        for profile in [Compatibility::Documented, Compatibility::ZoweV3] {
            let response = asked.send_to(bare().with_compatibility(profile)).await;
            assert_eq!(outcome(&response), (404, "ZWEAO404E".to_owned()), "{path}");
        }
        let wrong = if method == "POST" { "DELETE" } else { "POST" };
        let response = TestRequest { method: wrong, ..asked }.send_to(api()).await;
        assert_eq!(outcome(&response), (405, "ZWEAG101E".to_owned()), "{path}");
        assert_eq!(response.headers()["allow"], method, "{path}");
    }
}
