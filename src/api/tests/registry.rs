//! Tests of the registry of issued Personal Access Tokens (docs/reference/auth-endpoints.md#access-tokens).

use super::*;

const AUTH: &str = "/gateway/api/v1/auth/";
const PASSWORD: &str = "Basic user:validPassword";

struct Tokens {
    world: World,
    api: AuthApi,
}

impl Tokens {
    fn new() -> Self {
        let world = World::new();
        let api = world.api_with_registry();
        Self { world, api }
    }

    /// Sends a request. `authorization` is the value of the header, or `Basic name:password` without encoding. Returns
    /// the status and the body.
    async fn call(
        &self,
        method: &str,
        path: &str,
        authorization: &str,
        body: &str,
    ) -> (u16, Value) {
        let encoded = authorization.strip_prefix("Basic ").map(basic);
        let url = format!("{AUTH}{path}");
        let request = TestRequest {
            method,
            url: &url,
            authorization: encoded.as_deref().or(Some(authorization)),
            cookie: None,
            certificate: None,
            content_type: None,
            body,
        };
        let response = request.send_to(self.api.clone()).await;
        assert_eq!(response.headers()["cache-control"], "no-store", "{path}");
        let status = response.status().as_u16();
        (status, serde_json::from_slice(response.body()).unwrap_or_default())
    }

    async fn generate(&self, user: &str, name: &str) -> (String, String) {
        let body = json!({ "scopes": ["a"], "name": name, "validity": 2 }).to_string();
        let authorization = basic(&format!("{user}:validPassword"));
        let request = Request::post(GENERATE)
            .header("authorization", authorization)
            .header("accept", "application/json")
            .body(Full::<Bytes>::from(body))
            .unwrap();
        let response = self.api.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let new: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((new["name"].as_str(), &new["scopes"]), (Some(name), &json!(["a"])));
        let text = |field: &str| new[field].as_str().unwrap().to_owned();
        assert_eq!(text("expiresAt"), "2027-01-17T08:00:00.000Z");
        (text("token"), text("id"))
    }

    async fn names(&self, path: &str, authorization: &str) -> Vec<String> {
        let (status, page) = self.call("GET", path, authorization, "").await;
        assert_eq!(status, 200, "{path} {page}");
        let name = |token: &Value| token["name"].as_str().unwrap_or_default().to_owned();
        page["tokens"].as_array().unwrap().iter().map(name).collect()
    }

    async fn state(&self, id: &str) -> String {
        let (status, entry) = self.call("GET", &format!("access-tokens/{id}"), PASSWORD, "").await;
        assert_eq!(status, 200, "{entry}");
        entry["state"].as_str().unwrap().to_owned()
    }
}

fn number(body: &Value) -> &str {
    body["messages"][0]["messageNumber"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn users_list_rename_and_revoke_their_tokens() {
    let tokens = Tokens::new();
    let (pat, first) = tokens.generate("user", "one").await;
    tokens.world.clock.advance(Duration::from_millis(1));
    let (_, second) = tokens.generate("user", "two").await;
    let (_, other) = tokens.generate("reader", "three").await;

    let jwt = format!("Bearer {}", tokens.world.jwt());
    for authorization in [PASSWORD, &jwt] {
        assert_eq!(tokens.names("access-tokens", authorization).await, ["two", "one"]);
    }
    let (_, page) = tokens.call("GET", "access-tokens?limit=1", PASSWORD, "").await;
    let next = page["next"].as_str().unwrap();
    let path = format!("access-tokens?limit=1&cursor={next}");
    assert_eq!(tokens.names(&path, PASSWORD).await, ["one"]);
    assert_eq!(tokens.names("access-tokens?name=TW", PASSWORD).await, ["two"]);
    assert_eq!(tokens.names("access-tokens?service=b", PASSWORD).await, Vec::<String>::new());

    let path = format!("access-tokens/{first}");
    let (status, entry) = tokens.call("GET", &path, PASSWORD, "").await;
    let want = json!({
        "id": first, "user": "USER", "name": "one", "description": "", "scopes": ["a"],
        "createdAt": "2027-01-15T08:00:00.000Z", "expiresAt": "2027-01-17T08:00:00.000Z",
        "lastUsedAt": null, "lastUsedFrom": null, "lastUsedService": null, "state": "active",
    });
    assert_eq!((status, &entry), (200, &want));
    assert!(!entry.to_string().contains(&pat));

    let body = r#"{"name":"new name","description":"text"}"#;
    let (status, entry) = tokens.call("PATCH", &path, PASSWORD, body).await;
    assert_eq!(
        (status, &entry["name"], &entry["description"]),
        (200, &json!("new name"), &json!("text"))
    );
    for body in ["", "{}", "[]", r#"{"name":""}"#, r#"{"name":"a\u0007"}"#, r#"{"scopes":["b"]}"#] {
        let (status, error) = tokens.call("PATCH", &path, PASSWORD, body).await;
        assert_eq!((status, number(&error)), (400, "ZWEAO400E"), "{body}");
    }

    // The answer does not reveal that another user has a token with this id.
    let unknown = "0".repeat(32);
    for id in [&other, &unknown, "x", &first.to_uppercase()] {
        let path = format!("access-tokens/{id}");
        let rotate = format!("{path}/rotate");
        for (method, path, body) in [
            ("GET", &path, ""),
            ("PATCH", &path, body),
            ("DELETE", &path, ""),
            ("POST", &rotate, ""),
        ] {
            let (status, error) = tokens.call(method, path, PASSWORD, body).await;
            assert_eq!((status, number(&error)), (404, "ZWEAO404E"), "{method} {path}");
        }
    }

    for _ in 0..2 {
        assert_eq!(tokens.call("DELETE", &path, PASSWORD, "").await.0, 204);
        assert_eq!(tokens.state(&first).await, "revoked");
    }
    assert_eq!(tokens.state(&second).await, "active");
    let body = json!({ "token": pat, "serviceId": "a" }).to_string();
    let (status, _) = tokens.call("POST", "access-token/validate", PASSWORD, &body).await;
    assert_eq!(status, 401);
}

#[tokio::test]
async fn each_way_to_revoke_a_token_shows_in_the_list() {
    for (path, by, body) in [
        ("access-token/revoke", "", "token"),
        ("access-token/revoke/tokens", PASSWORD, "{}"),
        ("access-token/revoke/tokens/users", "Basic reader:validPassword", r#"{"userId":"user"}"#),
        ("access-token/revoke/tokens/scope", "Basic reader:validPassword", r#"{"serviceId":"a"}"#),
    ] {
        let tokens = Tokens::new();
        let (pat, id) = tokens.generate("user", "one").await;
        let possession = json!({ "token": pat }).to_string();
        let body = if body == "token" { &possession } else { body };
        assert_eq!(tokens.call("DELETE", path, by, body).await.0, 200, "{path}");
        assert_eq!(tokens.state(&id).await, "revoked", "{path}");
        assert_eq!(tokens.names("access-tokens?state=active", PASSWORD).await, [""; 0]);
        assert_eq!(tokens.names("access-tokens?state=revoked", PASSWORD).await, ["one"]);
    }
}

#[tokio::test]
async fn administrators_see_and_revoke_the_tokens_of_others() {
    let tokens = Tokens::new();
    let (_, id) = tokens.generate("user", "one").await;
    tokens.generate("admin", "two").await;
    let reader = "Basic reader:validPassword";
    assert_eq!(tokens.names("access-tokens?user=user", reader).await, ["one"]);
    assert_eq!(tokens.names("access-tokens?all=true", reader).await, ["two", "one"]);
    let path = format!("access-tokens/{id}");
    let of_user = format!("{path}?user=user");
    assert_eq!(tokens.call("GET", &path, reader, "").await.0, 404);
    assert_eq!(tokens.call("GET", &of_user, reader, "").await.0, 200);
    // An administrator cannot rotate a token of another user: the response would contain the new token.
    let rotate = format!("{path}/rotate?user=user");
    assert_eq!(tokens.call("POST", &rotate, reader, "").await.0, 404);
    assert_eq!(tokens.call("DELETE", &of_user, reader, "").await.0, 204);
    assert_eq!(tokens.state(&id).await, "revoked");
    assert_eq!(tokens.names("access-tokens?user=USER", PASSWORD).await, ["one"]);
    for path in
        ["access-tokens?all=true", "access-tokens?user=admin", &format!("{path}?user=admin")]
    {
        let (status, error) = tokens.call("GET", path, PASSWORD, "").await;
        assert_eq!((status, number(&error)), (403, "ZWEAT403E"), "{path}");
    }
    for (query, want) in
        [("x=1", 400), ("limit=0", 400), ("cursor=x", 400), ("user=&all=true", 400)]
    {
        let (status, error) =
            tokens.call("GET", &format!("access-tokens?{query}"), reader, "").await;
        assert_eq!((status, number(&error)), (want, "ZWEAO400E"), "{query}");
    }
    let (status, _) =
        tokens.call("GET", "access-tokens?all=true", "Basic safdown:validPassword", "").await;
    assert_eq!(status, 503);
}

#[tokio::test]
async fn permissions_lists_the_tasks_that_the_caller_may_do() {
    let tokens = Tokens::new();
    let (pat, _) = tokens.generate("user", "one").await;
    for (user, manages, evicts) in
        [("user", false, false), ("reader", true, false), ("admin", true, true)]
    {
        let credential = format!("Basic {user}:validPassword");
        let (status, body) = tokens.call("GET", "access-tokens/permissions", &credential, "").await;
        let want = json!({
            "user": user.to_uppercase(), "manageTokens": manages, "evict": evicts,
        });
        assert_eq!((status, body), (200, want));
        let (status, body) = tokens.call("POST", "access-tokens/evict", &credential, "").await;
        let want = if evicts { 200 } else { 403 };
        assert_eq!(status, want, "{user} {body}");
    }
    for (method, path) in [("GET", "permissions"), ("POST", "evict")] {
        let path = format!("access-tokens/{path}");
        let bearer = format!("Bearer {pat}");
        assert_eq!(tokens.call(method, &path, &bearer, "").await.0, 401, "{path}");
        let (status, _) = tokens.call(method, &path, "Basic safdown:validPassword", "").await;
        assert_eq!(status, 503, "{path}");
    }
    // All tokens that this rule revokes have expired, so the rule is removed.
    let rule = "access-tokens?service=a&upTo=2020-01-15T08:00:00Z";
    assert_eq!(tokens.call("DELETE", rule, "Basic admin:validPassword", "").await.0, 204);
    let (_, body) =
        tokens.call("POST", "access-tokens/evict", "Basic admin:validPassword", "").await;
    assert_eq!(body, json!({ "tokens": 0, "users": 0, "services": 1 }));
}

#[tokio::test]
async fn a_rule_with_a_time_revokes_only_older_tokens() {
    let tokens = Tokens::new();
    let (_, old) = tokens.generate("user", "old").await;
    tokens.world.clock.advance(Duration::from_millis(1));
    let (_, new) = tokens.generate("user", "new").await;
    let reader = "Basic reader:validPassword";
    let delete = |query: &str| format!("access-tokens?{query}");
    for query in ["user=user&upTo=2027-01-15T08:00:00.002Z", "service=a&upTo=2099-01-01T00:00:00Z"]
    {
        let (status, error) = tokens.call("DELETE", &delete(query), reader, "").await;
        assert_eq!((status, number(&error)), (400, "ZWEAO400E"), "{query}");
    }
    for query in ["user=user&upTo=2027-01-15T08:00:00Z", "service=a&upTo=2027-01-15T08:00:00Z"] {
        assert_eq!(tokens.call("DELETE", &delete(query), PASSWORD, "").await.0, {
            if query.starts_with("user") { 204 } else { 403 }
        });
        assert_eq!(tokens.call("DELETE", &delete(query), reader, "").await.0, 204, "{query}");
        assert_eq!(tokens.state(&old).await, "revoked");
        assert_eq!(tokens.state(&new).await, "active");
    }
    assert_eq!(tokens.call("DELETE", &delete("service=a"), reader, "").await.0, 204);
    assert_eq!(tokens.state(&new).await, "revoked");
}

#[tokio::test]
async fn a_pat_is_a_credential_only_for_the_endpoints_self() {
    let tokens = Tokens::new();
    let (pat, id) = tokens.generate("user", "one").await;
    let bearer = format!("Bearer {pat}");
    let path = format!("access-tokens/{id}");
    let rotate = format!("{path}/rotate");
    for (method, path) in [
        ("GET", "access-tokens"),
        ("GET", &path),
        ("PATCH", &path),
        ("DELETE", &path),
        ("POST", &rotate),
    ] {
        for authorization in [&bearer, &format!("Basic user:{pat}"), &format!("token {pat}"), ""] {
            let (status, _) = tokens.call(method, path, authorization, "").await;
            assert_eq!(status, 401, "{method} {path} {authorization}");
        }
    }
    for authorization in [&bearer, &format!("token {pat}")] {
        let (status, entry) = tokens.call("GET", "access-tokens/self", authorization, "").await;
        assert_eq!((status, entry["id"].as_str()), (200, Some(&*id)), "{authorization}");
    }
    let jwt = format!("Bearer {}", tokens.world.jwt());
    for (authorization, want) in [
        (&*jwt, "ZWEAG102E"),
        (PASSWORD, "ZWEAG131E"),
        ("", "ZWEAG131E"),
        ("Bearer x", "ZWEAG102E"),
    ] {
        for (method, path) in [("GET", "access-tokens/self"), ("POST", "access-tokens/self/rotate")]
        {
            let (status, error) = tokens.call(method, path, authorization, "").await;
            assert_eq!((status, number(&error)), (401, want), "{authorization}");
        }
    }
    // If the registry has no entry for the token, the endpoint adds one.
    let unknown = format!("Bearer {}", tokens.world.pat("user", "b"));
    let (status, entry) = tokens.call("GET", "access-tokens/self", &unknown, "").await;
    assert_eq!((status, &entry["name"]), (200, &Value::Null));
    assert_eq!(tokens.names("access-tokens?service=b", PASSWORD).await, [""]);
}

#[tokio::test]
async fn a_rotated_token_is_replaced_and_its_later_use_revokes_the_family() {
    let tokens = Tokens::new();
    let (pat, id) = tokens.generate("user", "one").await;
    let rotate_self = async |pat: &str, body: &str| {
        tokens.call("POST", "access-tokens/self/rotate", &format!("Bearer {pat}"), body).await
    };
    let late = r#"{"expiresAt":"2027-01-17T08:00:01Z"}"#;
    let past = r#"{"expiresAt":"2027-01-15T08:00:00.9Z"}"#;
    for body in [late, past, r#"{"graceSeconds":604801}"#, r#"{"graceSeconds":-1}"#, r#"{"x":1}"#] {
        let (status, error) = rotate_self(&pat, body).await;
        assert_eq!((status, number(&error)), (400, "ZWEAO400E"), "{body}");
    }
    let (status, new) = rotate_self(&pat, "").await;
    assert_eq!((status, &new["name"], &new["scopes"]), (200, &json!("one"), &json!(["a"])));
    assert_eq!(new["expiresAt"], "2027-01-17T08:00:00.000Z");
    let second = new["token"].as_str().unwrap().to_owned();
    let second_id = new["id"].as_str().unwrap().to_owned();
    assert_eq!(tokens.state(&id).await, "revoked");

    // With a password, the owner can also rotate a token. With `graceSeconds`, the old token stays valid for a time.
    let path = format!("access-tokens/{second_id}/rotate");
    let body = r#"{"graceSeconds":60,"expiresAt":"2027-01-16T08:00:00+00:00"}"#;
    let (status, new) = tokens.call("POST", &path, PASSWORD, body).await;
    assert_eq!((status, new["expiresAt"].as_str()), (200, Some("2027-01-16T08:00:00.000Z")));
    let (third, third_id) = (new["token"].as_str().unwrap(), new["id"].as_str().unwrap());
    let own = async |pat: &str| {
        tokens.call("GET", "access-tokens/self", &format!("Bearer {pat}"), "").await.0
    };
    assert_eq!((own(&second).await, own(third).await), (200, 200));
    for (status, error) in
        [tokens.call("POST", &path, PASSWORD, "").await, rotate_self(&second, "").await]
    {
        assert_eq!((status, number(&error)), (409, "ZWEAO409E"));
    }
    tokens
        .world
        .registry
        .change(AccessTokenChange::EndGraces, Timestamp::from_secs(NOW + 60))
        .await
        .unwrap();
    assert_eq!((own(third).await, tokens.state(&second_id).await.as_str()), (200, "revoked"));

    tokens.world.clock.advance(Duration::from_secs(60));
    assert_eq!(own(&second).await, 401);
    assert_eq!(tokens.state(third_id).await, "revoked");
    assert_eq!(own(third).await, 401);
    let (status, error) =
        tokens.call("POST", &format!("access-tokens/{third_id}/rotate"), PASSWORD, "").await;
    assert_eq!((status, number(&error)), (409, "ZWEAO409E"));
}

#[tokio::test]
async fn a_rotation_obeys_the_current_maximum_validity_and_allowed_scopes() {
    let tokens = Tokens::new();
    let (pat, id) = tokens.generate("user", "one").await;
    let bounded = |scopes: &str, days| {
        let bounds = tokens.world.api_with_registry();
        bounds
            .with_personal_access_tokens(Validity::requested(Some(days)))
            .with_allowed_scopes(Scopes::parse([scopes]).unwrap())
    };
    let rotate = async |api: AuthApi, path: &str, authorization: &str, body: &str| {
        let world = World::new();
        Tokens { world, api }.call("POST", path, authorization, body).await
    };
    let (bearer, of_owner) = (format!("Bearer {pat}"), format!("access-tokens/{id}/rotate"));
    for (path, authorization) in [("access-tokens/self/rotate", &*bearer), (&*of_owner, PASSWORD)] {
        let (status, error) = rotate(bounded("b,a:read", 90), path, authorization, "").await;
        assert_eq!((status, number(&error)), (403, "ZWEAT403E"), "{path}");
        let late = r#"{"expiresAt":"2027-01-16T08:00:01Z"}"#;
        let (status, error) = rotate(bounded("a", 1), path, authorization, late).await;
        assert_eq!((status, number(&error)), (400, "ZWEAO400E"), "{path}");
    }
    assert_eq!(tokens.state(&id).await, "active");
    let (status, new) = rotate(bounded("a", 1), &of_owner, PASSWORD, "").await;
    assert_eq!((status, new["expiresAt"].as_str()), (200, Some("2027-01-16T08:00:00.000Z")));
}

#[tokio::test]
async fn a_list_for_a_service_contains_tokens_whose_scopes_have_a_suffix() {
    let tokens = Tokens::new();
    for scopes in ["files:read", "files:/X%2Cy,a", "filesystem"] {
        let body = json!({ "scopes": [scopes], "name": scopes }).to_string();
        let (status, _) = tokens.call("POST", "access-token/generate", PASSWORD, &body).await;
        assert_eq!(status, 200, "{scopes}");
    }
    let mut names = tokens.names("access-tokens?service=FILES", PASSWORD).await;
    names.sort();
    assert_eq!(names, ["files:/X%2Cy,a", "files:read"]);
    let (_, page) = tokens.call("GET", "access-tokens?service=a", PASSWORD, "").await;
    assert_eq!(page["tokens"][0]["scopes"], json!(["a", "files:/X%2Cy"]));
}

#[tokio::test]
async fn a_user_has_a_limited_number_of_active_tokens() {
    let tokens = Tokens::new();
    let mut ids = Vec::new();
    for name in ["one", "two", "three"] {
        ids.push(tokens.generate("user", name).await.1);
    }
    let (status, error) = tokens.call("POST", "access-token/generate", PASSWORD, SCOPES).await;
    assert_eq!((status, number(&error)), (429, "ZWESG429E"));
    let content = error["messages"][0]["messageContent"].as_str().unwrap();
    assert!(content.contains("has 3 Personal Access Tokens"), "{content}");
    assert_eq!(
        tokens.call("DELETE", &format!("access-tokens/{}", ids[0]), PASSWORD, "").await.0,
        204
    );
    let (status, _) = tokens.call("POST", "access-token/generate", PASSWORD, SCOPES).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn generate_takes_a_name_and_an_expiry_time() {
    let tokens = Tokens::new();
    for (fields, want) in [
        (r#""expiresAt":"2027-01-15T08:00:01Z""#, 200),
        (r#""expiresAt":"2027-04-15T08:00:00Z","name":"x","description":"y""#, 200),
        (r#""expiresAt":"2027-04-15T08:00:00.001Z""#, 400),
        (r#""expiresAt":"2027-01-15T08:00:00.999Z""#, 400),
        (r#""expiresAt":"2027-01-16T08:00:00Z","validity":1"#, 400),
        (r#""name":"a\tb""#, 400),
    ] {
        let body = format!(r#"{{"scopes":["a"],{fields}}}"#);
        let (status, error) = tokens.call("POST", "access-token/generate", PASSWORD, &body).await;
        assert_eq!(status, want, "{fields} {error}");
        if want == 400 {
            assert_eq!(number(&error), "ZWEAT605E");
        }
    }
    let without = Tokens { api: tokens.world.api(Compatibility::Documented), ..tokens };
    let body = r#"{"scopes":["a"],"name":"x"}"#;
    assert_eq!(without.call("POST", "access-token/generate", PASSWORD, body).await.0, 400);
    assert_eq!(without.call("GET", "access-tokens", PASSWORD, "").await.0, 404);
}

#[tokio::test]
async fn pages_of_other_origins_cannot_use_the_registry() {
    let tokens = Tokens::new();
    let (pat, id) = tokens.generate("user", "one").await;
    for (method, path) in [
        ("DELETE", format!("access-tokens/{id}")),
        ("PATCH", format!("access-tokens/{id}")),
        ("POST", format!("access-tokens/{id}/rotate")),
        ("POST", "access-tokens/self/rotate".to_owned()),
    ] {
        let request = Request::builder()
            .method(method)
            .uri(format!("{AUTH}{path}"))
            .header(
                "cookie",
                format!(
                    "apimlAuthenticationToken={}; personalAccessToken={pat}",
                    tokens.world.jwt()
                ),
            )
            .header("sec-fetch-site", "cross-site")
            .body(Full::<Bytes>::default())
            .unwrap();
        let response = tokens.api.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 403, "{method} {path}");
    }
    assert_eq!(tokens.state(&id).await, "active");
}

#[tokio::test]
async fn changes_are_audited() {
    let tokens = Tokens::new();
    let (pat, id) = tokens.generate("user", "one").await;
    let path = format!("access-tokens/{id}");
    tokens.call("PATCH", &path, PASSWORD, r#"{"name":"b"}"#).await;
    tokens.call("POST", "access-tokens/self/rotate", &format!("Bearer {pat}"), "").await;
    tokens.call("DELETE", &path, PASSWORD, "").await;
    tokens.call("GET", "access-tokens?user=admin", PASSWORD, "").await;
    let events: Vec<_> = tokens
        .world
        .collected
        .take()
        .iter()
        .map(|record| {
            let record: Value = serde_json::from_str(&record.to_json()).unwrap();
            let text = |key: &str| record[key].as_str().unwrap_or("-").to_owned();
            (text("event"), text("outcome"), text("user"), text("access_token"), text("target"))
        })
        .collect();
    let want = [
        ("token-minted", "success", "-", "-"),
        ("token-changed", "success", &*id, "-"),
        ("token-rotated", "success", "-", "-"),
        ("token-revoked", "success", &*id, "-"),
        ("authentication", "refused", "-", "ADMIN"),
    ];
    let want: Vec<_> = want
        .map(|(event, outcome, id, target)| {
            let text = str::to_owned;
            (text(event), text(outcome), text("USER"), text(id), text(target))
        })
        .into();
    assert_eq!(events, want);
}
