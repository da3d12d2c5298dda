//! Tests of scopes with suffixes, and of the setting `allowedScopes`, with the real program over TLS.

use std::fs;

use http::Method;
use serde_json::{Value, json};

use crate::support::{Demo, admin_address};

/// The path of the demo's service that evaluates the PassTicket of a request.
const TEST: &str = "/dcpassticket/api/v1/passticketTest";

/// Returns the status of the response. The service of the demo refuses a request without a valid PassTicket, so 200
/// means that the gateway has accepted the PAT.
async fn status(demo: &Demo, pat: &str, method: Method, path: &str) -> u16 {
    let request = demo.client().request(method, demo.at(path)).header("private-token", pat);
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_pat_may_do_only_what_its_scopes_permit() {
    let demo = Demo::start();
    for (scopes, method, path, want) in [
        ("dcpassticket", Method::DELETE, TEST, 200),
        ("dcpassticket:read", Method::GET, TEST, 200),
        ("dcpassticket:read", Method::DELETE, TEST, 401),
        ("dcpassticket:read", Method::POST, TEST, 401),
        ("DCPassTicket:/passticketTest", Method::GET, TEST, 200),
        ("dcpassticket:/passticketTest", Method::DELETE, TEST, 200),
        ("dcpassticket:/passtickettest", Method::GET, TEST, 401),
        ("dcpassticket:/passticket", Method::GET, TEST, 401),
        ("dcpassticket:/request", Method::GET, TEST, 401),
        ("dcpassticket:/request,dcpassticket:read", Method::GET, TEST, 200),
        ("dcpassticket:/request,dcpassticket:read", Method::PUT, TEST, 401),
    ] {
        let pat = demo.pat(&[scopes]).await;
        assert_eq!(status(&demo, &pat, method.clone(), path).await, want, "{scopes} {method}");
    }

    let pat = demo.pat(&["dcpassticket:/request"]).await;
    let echo = demo.client().get(demo.at("/dcpassticket/api/v1/request"));
    let echo: Value =
        echo.header("private-token", &pat).send().await.unwrap().json().await.unwrap();
    assert!(echo.to_string().to_lowercase().contains("basic"), "{echo}");
    for hidden in ["request/..%2fpassticketTest", "request;/passticketTest", "request%00"] {
        let request = demo.client().get(demo.at(&format!("/dcpassticket/api/v1/{hidden}")));
        let response = request.header("private-token", &pat).send().await.unwrap();
        let is_refused = response.headers().contains_key("x-zowe-auth-failure");
        assert!(is_refused || response.status() == 400, "{hidden} {response:?}");
    }

    let validate = async |body: Value| {
        let request = demo.client().post(demo.auth("access-token/validate")).json(&body);
        request.send().await.unwrap().status().as_u16()
    };
    let body = json!({"token": pat, "serviceId": "dcpassticket"});
    assert_eq!(validate(body.clone()).await, 401);
    let with_path = |path: &str| {
        let mut body = body.clone();
        body["path"] = path.into();
        body
    };
    assert_eq!(validate(with_path("/request/x")).await, 200);
    assert_eq!(validate(with_path("/requests")).await, 401);

    // A rule for the service revokes the token, even though the scope of the token has a suffix.
    let rule = demo.client().delete(demo.auth("access-token/revoke/tokens/scope"));
    let rule = rule.basic_auth("USER", Some("validPassword"));
    let rule = rule.body(r#"{"serviceId":"dcpassticket"}"#).send().await.unwrap();
    assert_eq!(rule.status(), 200);
    assert_eq!(validate(with_path("/request/x")).await, 401);
}

#[tokio::test]
async fn allowed_scopes_limit_new_tokens_and_a_reload_changes_them() {
    let setting =
        "    personalAccessToken:\n      allowedScopes: [dcbypass, \"dcpassticket:read\"]\n";
    let admin = "    admin:\n      port: 0\n";
    let mut demo = Demo::reconfigured(|yaml| yaml + setting + admin);
    let reload = format!("http://{}/reload", admin_address(&mut demo.program));
    let generate = async |scopes: Value| {
        let request = demo.client().post(demo.auth("access-token/generate"));
        let request = request.basic_auth("USER", Some("validPassword"));
        let response = request.json(&json!({ "scopes": scopes })).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    assert_eq!(generate(json!(["dcpassticket:read", "dcbypass:/x"])).await.0, 200);
    let (status, text) = generate(json!(["dcpassticket"])).await;
    assert_eq!(status, 403);
    let reason = "the scope dcpassticket is not allowed; allowed are: dcbypass, dcpassticket:read";
    assert!(text.contains("ZWEAT403E") && text.contains(reason), "{text}");

    let path = demo.directory.join("zowe.yaml");
    let yaml = fs::read_to_string(&path).unwrap().replace("\"dcpassticket:read\"", "dcpassticket");
    fs::write(&path, yaml).unwrap();
    let response = demo.client().post(&reload).send().await.unwrap();
    assert_eq!(response.status(), 200, "{}", response.text().await.unwrap());
    assert_eq!(generate(json!(["dcpassticket"])).await.0, 200);
    assert_eq!(generate(json!(["other:read"])).await.0, 403);
}
