//! Tests of logins whose passwords z/OSMF (IBM's management server on z/OS) or ZSS (Zowe's server on z/OS) checks. Both
//! servers are fakes.

use std::{fs, time::Duration};

use crate::support::Demo;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use reqwest::Response;
use serde_json::{Value, json};
use test_support::{
    client,
    fake::{Behaviour, Fake},
    pki::{self, Authority},
    raw::Step,
    zosmf::{FakeZosmf, Tokens, UserState},
    zss::FakeZss,
};
use tokio::time::{Instant, sleep};

const AUTHENTICATE: &str = "/zosmf/services/authenticate";

/// Starts the gateway. It trusts `authority` and the authority of the demo. `edit` changes its zowe.yaml, which has no
/// setting `users`.
async fn gateway(
    authority: &Authority,
    edit: impl FnOnce(String) -> String + Send + 'static,
) -> Demo {
    let authority = authority.pem();
    Demo::beside_servers(move |directory, yaml| {
        fs::write(directory.join("certs/other.pem"), authority).unwrap();
        let yaml = yaml
            .replace("certs/ca.pem", "[certs/ca.pem, certs/other.pem]")
            .replace("  users: users.yml\n", "  timeouts: {providerSeconds: 3}\n");
        edit(yaml)
    })
    .await
}

async fn with_zosmf(zosmf: &Fake) -> Demo {
    let port = zosmf.address.port();
    let mut demo = gateway(&Authority::trusted(), move |yaml| {
        format!("{yaml}zOSMF: {{host: localhost, port: {port}, applId: IZUDFLT}}\n")
    })
    .await;
    // The gateway fetches the keys of z/OSMF at its start. It does not fetch them again for ten minutes.
    demo.program.logged("fetched the keys of an issuer");
    zosmf.take_requests();
    demo
}

pub(crate) async fn with_zss(zss: &Fake) -> Demo {
    let port = zss.address.port();
    gateway(&Authority::trusted(), move |yaml| {
        let yaml =
            yaml.replace("      security:\n", "      security:\n        auth: {provider: saf}\n");
        format!("{yaml}    zss: {{url: 'https://localhost:{port}'}}\n")
    })
    .await
}

async fn log_in(demo: &Demo, user: &str, password: &str, new: Option<&str>) -> Response {
    let mut body = json!({"username": user, "password": password});
    if let Some(new) = new {
        body["newPassword"] = new.into();
    }
    demo.client().post(demo.auth("login")).json(&body).send().await.unwrap()
}

async fn outcome(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    let body: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default();
    let number = body["messages"][0]["messageNumber"].as_str().unwrap_or_default();
    (status, number.to_owned())
}

async fn login(demo: &Demo, user: &str, password: &str, new: Option<&str>) -> (u16, String) {
    outcome(log_in(demo, user, password, new).await).await
}

fn same(status: u16, number: &str) -> (u16, String) {
    (status, number.to_owned())
}

async fn until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + test_support::PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "the condition does not become true");
        sleep(Duration::from_millis(10)).await;
    }
}

fn nonsense() -> Vec<(&'static str, Vec<Step>)> {
    let html = "<html><form action=login></form></html>";
    let huge = "x".repeat(100_000);
    let redirect = "HTTP/1.1 302 Found\r\nLocation: /zosmf/other\r\nContent-Length: 0\r\n\r\n";
    let ok = |body: &str| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nSet-Cookie: LtpaToken2=x\r\n";
        format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())
    };
    let no_token = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{html}", html.len());
    vec![
        ("HTML", vec![Step::send(no_token)]),
        ("redirect", vec![Step::send(redirect)]),
        ("huge body", vec![Step::send(ok(&huge)), Step::ReadToEnd]),
        ("error", vec![Step::send("HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n")]),
        ("other status", vec![Step::send("HTTP/1.1 403 x\r\nContent-Length: 0\r\n\r\n")]),
        ("no HTTP", vec![Step::send("\x16\x03\x01 no HTTP\r\n\r\n")]),
        ("closed early", vec![]),
        ("cut off", vec![Step::send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")]),
        ("empty", vec![Step::send("HTTP/1.1 204 No Content\r\n\r\n")]),
        ("no answer", vec![Step::Stall]),
    ]
}

/// Makes `server` answer wrongly, and then slowly. Asserts that the gateway answers 503, that it sends each password
/// only once, and that it counts none of these logins as a wrong password.
async fn check_failures(demo: &Demo, server: &Fake) {
    server.take_requests();
    for (name, steps) in nonsense() {
        server.behave(Behaviour::Scripted(steps));
        for new in [None, Some("newPassword1")] {
            let got = login(demo, "USER", "validPassword", new).await;
            assert_eq!(got, same(503, "ZWEAG104E"), "{name} {new:?}");
            assert_eq!(server.take_requests().len(), 1, "{name} {new:?}");
        }
    }
    // An answer with the status 401 is a refusal, even if its body is incomplete.
    let refused = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 10\r\n\r\nabc";
    server.behave(Behaviour::Scripted(vec![Step::send(refused)]));
    assert_eq!(login(demo, "USER", "wrong", None).await.0, 401);
    server.take_requests();
    server.behave(Behaviour::Slow(Duration::from_secs(60)));
    let begun = Instant::now();
    assert_eq!(login(demo, "USER", "validPassword", None).await, same(503, "ZWEAG104E"));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    // If the failed logins counted as wrong passwords, the user would now have more than four wrong
    // passwords, and would have to wait.
    server.behave(Behaviour::Slow(Duration::from_millis(200)));
    assert_eq!(login(demo, "USER", "validPassword", None).await, same(204, ""));
    server.behave(Behaviour::Right);
}

#[tokio::test(flavor = "multi_thread")]
async fn zosmf_checks_passwords_and_a_logout_ends_its_session() {
    let zosmf = FakeZosmf::https(pki::SERVER.acceptor()).await;
    let demo = with_zosmf(&zosmf).await;
    for tokens in [Tokens::Both, Tokens::Jwt, Tokens::Ltpa] {
        zosmf.issue(tokens);
        let response = log_in(&demo, "user", "validPassword", None).await;
        assert_eq!(response.status(), 204, "{tokens:?}");
        assert!(response.headers()["set-cookie"].to_str().unwrap().contains("Token=ey"));
    }
    let request = &zosmf.requests()[0];
    assert_eq!((&*request.method, &*request.path), ("POST", AUTHENTICATE));
    assert_eq!(request.header("authorization"), Some("Basic VVNFUjp2YWxpZFBhc3N3b3Jk"));
    assert_eq!(request.header("x-csrf-zosmf-header"), Some(""));
    // Each login of a user ends the session of the user's previous login at z/OSMF. A session may have two tokens, and
    // the gateway sends one DELETE for each token.
    until(|| zosmf.valid_tokens() == 1).await;
    let requests = zosmf.take_requests();
    let count = |method: &str| requests.iter().filter(|it| it.starts_with(method)).count();
    assert_eq!((count("POST"), count("DELETE")), (3, 3), "{requests:?}");

    zosmf.issue(Tokens::Both);
    let token = demo.login().await;
    until(|| zosmf.valid_tokens() == 2).await;
    let logout = demo.client().post(demo.auth("logout")).bearer_auth(&token).send().await.unwrap();
    assert_eq!(logout.status(), 204);
    until(|| zosmf.valid_tokens() == 0).await;
    let [post, delete] = ["POST", "DELETE"].map(|method| format!("{method} {AUTHENTICATE}"));
    assert_eq!(zosmf.take_requests(), [&post, &delete, &delete, &delete].map(String::clone));
    let token = demo.login().await;
    zosmf.behave(Behaviour::Scripted(vec![Step::Stall]));
    let logout = demo.client().post(demo.auth("logout")).bearer_auth(&token).send().await.unwrap();
    assert_eq!(logout.status(), 204);
    let mut demo = demo;
    demo.program.logged("the session at z/OSMF could not be ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn zosmf_refuses_passwords_and_changes_them() {
    let zosmf = FakeZosmf::https(pki::SERVER.acceptor()).await;
    zosmf.set_user("OLD", "oldPassword", UserState::Expired);
    zosmf.set_user("GONE", "itsPassword", UserState::Revoked);
    let demo = with_zosmf(&zosmf).await;
    let wrong = || same(401, "ZWEAG120E");
    // z/OSMF gives no reason for a refusal.
    for (user, password) in
        [("USER", "wrong"), ("NOBODY", "x"), ("OLD", "oldPassword"), ("GONE", "itsPassword")]
    {
        assert_eq!(login(&demo, user, password, None).await, wrong(), "{user}");
    }
    assert_eq!(login(&demo, "OLD", "wrong", Some("new1")).await, wrong());
    assert_eq!(login(&demo, "OLD", "oldPassword", Some("weak")).await, wrong());
    assert_eq!(zosmf.password("OLD").unwrap(), "oldPassword");
    zosmf.take_requests();
    assert_eq!(login(&demo, "OLD", "oldPassword", Some("n\u{e4}w \"1")).await, same(204, ""));
    assert_eq!(zosmf.password("OLD").unwrap(), "n\u{e4}w \"1");
    assert_eq!(
        zosmf.take_requests(),
        ["PUT", "POST"].map(|method| format!("{method} {AUTHENTICATE}"))
    );
    assert_eq!(login(&demo, "OLD", "n\u{e4}w \"1", None).await, same(204, ""));

    // The gateway ends the earlier session in the background.
    until(|| zosmf.valid_tokens() == 2).await;
    // After a change of the password, the gateway logs the user in at z/OSMF with the new password. This login fails
    // here.
    let away = Behaviour::Scripted(vec![Step::send("HTTP/1.1 503 x\r\n\r\n")]);
    zosmf.behave_in_turn([Behaviour::Right], away);
    let unavailable = same(503, "ZWEAG104E");
    assert_eq!(login(&demo, "OLD", "n\u{e4}w \"1", Some("new2")).await, unavailable);
    assert_eq!(zosmf.password("OLD").unwrap(), "new2");
    zosmf.behave(Behaviour::Right);
    assert_eq!(login(&demo, "OLD", "new2", None).await, same(204, ""));
    until(|| zosmf.valid_tokens() == 2).await;

    // After too many wrong passwords, the gateway refuses logins without a request to z/OSMF.
    for i in 0.. {
        zosmf.take_requests();
        let (status, _) = login(&demo, "VICTIM", "guess", None).await;
        if status == 429 {
            break;
        }
        assert_eq!((status, zosmf.take_requests().len()), (401, 1));
        assert!(i < 30, "the gateway refuses no login");
    }
    assert_eq!(zosmf.take_requests(), [""; 0]);
}

#[tokio::test]
async fn the_fake_zosmf_signs_with_the_key_that_it_publishes() {
    let zosmf = FakeZosmf::https(pki::SERVER.acceptor()).await;
    let url = |path: &str| format!("https://localhost:{}{path}", zosmf.address.port());
    let client = client(Authority::trusted().pem().as_bytes()).build().unwrap();
    let get =
        async |path| -> Value { client.get(url(path)).send().await.unwrap().json().await.unwrap() };
    assert_eq!(get("/zosmf/info").await["zosmf_saf_realm"], "SAFRealm");
    let keys = get("/jwt/ibm/api/zOSMFBuilder/jwk").await;
    let [n, e] = ["n", "e"].map(|name| keys["keys"][0][name].as_str().unwrap().to_owned());

    zosmf.issue(Tokens::Jwt);
    let request = client.post(url(AUTHENTICATE)).header("X-CSRF-ZOSMF-HEADER", "");
    let login = request.basic_auth("USER", Some("validPassword")).send().await.unwrap();
    let cookie = login.headers()["set-cookie"].to_str().unwrap().to_owned();
    let jwt = cookie.strip_prefix("jwtToken=").unwrap().split(';').next().unwrap();
    let key = DecodingKey::from_rsa_components(&n, &e).unwrap();
    let token = decode::<Value>(jwt, &key, &Validation::new(Algorithm::RS256)).unwrap();
    assert_eq!((&token.claims["iss"], &token.claims["sub"]), (&json!("zOSMF"), &json!("USER")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_zosmf_gives_503_and_no_login_counts_as_a_wrong_password() {
    let mut zosmf = FakeZosmf::https(pki::SERVER.acceptor()).await;
    let demo = with_zosmf(&zosmf).await;
    check_failures(&demo, &zosmf).await;
    zosmf.stop().await;
    for _ in 0..6 {
        assert_eq!(login(&demo, "USER", "validPassword", None).await, same(503, "ZWEAG104E"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zosmf_with_a_certificate_of_an_unknown_authority_gets_no_password() {
    let zosmf = FakeZosmf::https(pki::SERVER.acceptor()).await;
    let keys = format!("zOSMF: {{host: localhost, port: {}}}\n", zosmf.address.port());
    for mode in ["STRICT", "NONSTRICT", "DISABLED"] {
        let keys = keys.clone();
        let configure = move |yaml: String| {
            let mode = format!("verifyCertificates: {mode}");
            assert!(yaml.contains("verifyCertificates: STRICT"));
            yaml.replace("verifyCertificates: STRICT", &mode) + &keys
        };
        let demo = gateway(&Authority::stranger(), configure).await;
        let got = login(&demo, "USER", "validPassword", None).await;
        assert_eq!(got, same(503, "ZWEAG104E"), "{mode}");
        assert_eq!(zosmf.take_requests(), [""; 0], "{mode}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn zss_checks_and_changes_passwords_with_the_messages_of_saf() {
    let zss = FakeZss::https(pki::SERVER.acceptor()).await;
    zss.set_user("OLD", "oldPassword", UserState::Expired);
    zss.set_user("GONE", "itsPassword", UserState::Revoked);
    let demo = with_zss(&zss).await;
    assert_eq!(login(&demo, "USER", "validPassword", None).await, same(204, ""));
    assert_eq!(zss.take_requests(), ["POST /login"]);
    for (user, password, new, want) in [
        ("USER", "wrong", None, same(401, "ZWEAT410E")),
        ("GONE", "itsPassword", None, same(401, "ZWEAT410E")),
        ("OLD", "oldPassword", None, same(401, "ZWEAT412E")),
        ("OLD", "wrong", Some("new1"), same(401, "ZWEAT410E")),
        ("OLD", "oldPassword", Some("weak"), same(400, "ZWEAT413E")),
        ("GONE", "itsPassword", Some("new1"), same(401, "ZWEAT414E")),
        ("OLD", "oldPassword", Some("new1"), same(204, "")),
        ("OLD", "new1", None, same(204, "")),
    ] {
        assert_eq!(login(&demo, user, password, new).await, want, "{user} {password} {new:?}");
    }
    let audited = || fs::read_to_string(demo.directory.join("audit.jsonl")).unwrap_or_default();
    until(|| ["password-expired", "user-revoked"].iter().all(|it| audited().contains(it))).await;
    let wrong = log_in(&demo, "USER", "wrong", None).await;
    let body: Value = wrong.json().await.unwrap();
    assert_eq!(
        body["messages"][0]["messageContent"],
        "The platform returned error: EACCES: Permission is denied; the specified password is incorrect"
    );
    check_failures(&demo, &zss).await;
}
