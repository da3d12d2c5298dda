//! Tests of scopes with suffixes, and of the scopes that the administrator allows (docs/decisions.md#d49).

use super::*;
use crate::{
    audit::{Detail, ReasonCode},
    token::{RequestFacts, Scope, ServiceId},
};

const VALIDATE: &str = "/gateway/api/v1/auth/access-token/validate";
const REVOKE_SERVICE: &str = "/gateway/api/v1/auth/access-token/revoke/tokens/scope";

/// Asks for a Personal Access Token with these scopes, as JSON.
async fn generate(api: AuthApi, scopes: Value) -> Response<Bytes> {
    let (good, body) = (basic("user:validPassword"), json!({ "scopes": scopes }).to_string());
    TestRequest { authorization: Some(&good), body: &body, ..POST_GENERATE }.send_to(api).await
}

#[tokio::test]
async fn a_new_token_has_the_scopes_as_its_user_wrote_them() {
    let world = World::new();
    let scopes = json!(["Files:read,files:/Reports%2C2026", " JOBS "]);
    let response = generate(world.api(Compatibility::Documented), scopes).await;
    assert_eq!(response.status(), 200);
    let token = str::from_utf8(response.body()).unwrap();
    let VerifiedToken::Pat(pat) = verifier().verify(token).unwrap() else { panic!("not a PAT") };
    let written: Vec<_> = pat.scopes().iter().map(Scope::to_string).collect();
    assert_eq!(written, ["files:read", "files:/Reports%2C2026", "jobs"]);
    let path = || RequestFacts::unknown().with_path("/Reports,2026/x");
    assert!(pat.scopes().permits(&ServiceId::new("files").unwrap(), path));
    let records = world.collected.take();
    let minted = records.iter().find_map(|record| match &record.detail {
        Some(Detail::Minted { scopes, .. }) => Some(scopes.to_string()),
        _ => None,
    });
    assert_eq!(minted.as_deref(), Some("files:read, files:/Reports%2C2026, jobs"));
}

#[tokio::test]
async fn a_malformed_scope_gets_400_with_the_position_and_without_the_value() {
    for (scope, problem) in [
        ("a:write", "after a service id, only `:read` or a path such as `:/a/b` may follow"),
        ("a:read:/b", "after a service id, only `:read` or a path such as `:/a/b` may follow"),
        ("a b", "it does not begin with a service id of 1 to 64 characters of a-z 0-9 - _ ."),
        ("a:/b/..", "a part of the path is empty, or has only dots"),
    ] {
        let response = generate(api(), json!([scope])).await;
        assert_eq!(outcome(&response), (400, "ZWEAT605E".to_owned()), "{scope}");
        let text = content(&response);
        let want = format!("`scopes` has an item that is not a scope: {problem} at line 1 column");
        assert!(text.contains(&want), "{text}");
    }
}

#[tokio::test]
async fn validate_compares_the_method_and_the_path_with_the_scopes() {
    let world = World::new();
    let token = world.pat("USER", "all,r:read,p:/a/b,both:read,both:/x");
    for (service, more, want) in [
        ("all", json!({}), true),
        ("all", json!({"method": "DELETE", "path": "/../x"}), true),
        ("r", json!({}), false),
        ("r", json!({"method": "GET"}), true),
        ("R", json!({"method": "HEAD", "path": "/x"}), true),
        ("r", json!({"method": "get"}), false),
        ("r", json!({"method": "POST"}), false),
        ("r", json!({"path": "/x"}), false),
        ("r", json!({"method": null}), false),
        ("p", json!({}), false),
        ("p", json!({"method": "GET"}), false),
        ("p", json!({"path": "/a/b"}), true),
        ("p", json!({"path": "/a/b/c", "method": "DELETE"}), true),
        ("p", json!({"path": "/a/bc"}), false),
        ("p", json!({"path": "/a/B"}), false),
        ("p", json!({"path": "/a/b/../c"}), false),
        ("p", json!({"path": "a/b"}), false),
        ("p", json!({"path": ""}), false),
        ("both", json!({"method": "GET", "path": "/y"}), true),
        ("both", json!({"method": "PUT", "path": "/x/y"}), true),
        ("both", json!({"method": "PUT", "path": "/y"}), false),
        ("other", json!({"method": "GET", "path": "/a/b"}), false),
    ] {
        let mut body = json!({"token": token, "serviceId": service});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let body = body.to_string();
        let request = TestRequest { url: VALIDATE, body: &body, ..POST_LOGIN };
        let response = request.send_to(world.api(Compatibility::Documented)).await;
        let want = if want { 200 } else { 401 };
        assert_eq!(response.status(), want, "{service} {more}");
    }
    let body = json!({"token": token, "serviceId": "r", "method": 5}).to_string();
    let request = TestRequest { url: VALIDATE, body: &body, ..POST_LOGIN };
    let response = request.send_to(world.api(Compatibility::Documented)).await;
    assert_eq!(outcome(&response), (400, "ZWEAO400E".to_owned()));
}

#[tokio::test]
async fn a_rule_for_a_service_revokes_tokens_with_each_suffix() {
    for (scopes, is_revoked) in
        [("svc", true), ("svc:read", true), ("svc:/x", true), ("a,svc:/x", true), ("a", false)]
    {
        let world = World::new();
        let token = world.pat("USER", scopes);
        let admin = basic("admin:validPassword");
        let body = json!({"serviceId": "SVC"}).to_string();
        let request =
            TestRequest { method: "DELETE", url: REVOKE_SERVICE, body: &body, ..POST_LOGIN };
        let request = TestRequest { authorization: Some(&admin), ..request };
        let response = request.send_to(world.api(Compatibility::Documented)).await;
        assert_eq!(response.status(), 200);
        let first = scopes.split([',', ':']).next().unwrap();
        let facts = json!({"token": token, "serviceId": first, "method": "GET", "path": "/x"});
        let body = facts.to_string();
        let request = TestRequest { url: VALIDATE, body: &body, ..POST_LOGIN };
        let response = request.send_to(world.api(Compatibility::Documented)).await;
        assert_eq!(response.status(), if is_revoked { 401 } else { 200 }, "{scopes}");
    }
}

#[tokio::test]
async fn only_allowed_scopes_are_issued() {
    let allowed = Scopes::parse(["files", "jobs:read"]).unwrap();
    for profile in [Compatibility::Documented, Compatibility::ZoweV3] {
        for (scopes, refused) in [
            (json!(["files"]), None),
            (json!(["files:read,files:/x", "jobs:read"]), None),
            (json!(["files", "jobs"]), Some("jobs")),
            (json!(["jobs:/x"]), Some("jobs:/x")),
            (json!(["other"]), Some("other")),
        ] {
            let world = World::new();
            let api = world.api(profile).with_allowed_scopes(allowed.clone());
            let response = generate(api, scopes.clone()).await;
            let Some(scope) = refused else {
                assert_eq!(response.status(), 200, "{scopes}");
                continue;
            };
            assert_eq!(outcome(&response), (403, "ZWEAT403E".to_owned()), "{scopes}");
            let want = format!("the scope {scope} is not allowed; allowed are: files, jobs:read");
            assert!(content(&response).contains(&want), "{}", content(&response));
            let records = world.collected.take();
            let reason = records.last().and_then(|record| record.reason);
            assert_eq!(reason, Some(ReasonCode::ScopeNotAllowed));
        }
    }
    // Only a user learns which scopes are allowed.
    let body = json!({"scopes": ["other"]}).to_string();
    let wrong = basic("user:wrong");
    let request = TestRequest { authorization: Some(&wrong), body: &body, ..POST_GENERATE };
    assert_eq!(request.send_to(api().with_allowed_scopes(allowed)).await.status(), 401);
}
