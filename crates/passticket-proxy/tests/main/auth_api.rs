//! Tests of the auth API of the program. They send requests over TLS with the HTTP client `reqwest`.
//!
//! A PassTicket is a short-lived password of z/OS.

use std::{fs, process::Command, time::Duration};

use crate::support::{Demo, PROGRAM};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair,
};
use reqwest::{Client, Identity, Method, Response};
use serde_json::{Value, json};
use test_support::{Running, has_curl};
use tower_passticket::clock::{Clock, SystemClock};

const ENDPOINTS: &str = include_str!("../../../../src/api/endpoints.md");

#[derive(Clone, Copy)]
enum Credential {
    Anonymous,
    Password,
    WrongPassword,
    Certificate(&'static str),
    LoginToken,
    /// A login token of `USER`, and the certificate of the user in this variant.
    TokenAndCertificate(&'static str),
    /// A login token whose user has logged out.
    LoggedOutToken,
    /// An expired login token of `USER`, and the certificate of `USER`.
    ExpiredToken,
    /// A login token with a wrong signature.
    ForgedToken,
    /// A certificate of the demo's authority that belongs to no user.
    UnmappedCertificate,
    Pat,
}

/// A request and its expected responses. In the body, the test replaces `{PAT}`, `{REVOKED}`, `{EXPIRED}` and `{JWT}`
/// by new tokens, and `{BIG}` by a text that is too large.
struct Row {
    method: Method,
    path: &'static str,
    credential: Credential,
    body: &'static str,
    /// The status and the message number of the response, in the default profile and in the profile `zowe-v3`. An empty
    /// number means a response without a message.
    want: [(u16, &'static str); 2],
}

const fn same(status: u16, number: &'static str) -> [(u16, &'static str); 2] {
    [(status, number); 2]
}

fn row(
    method: Method,
    path: &'static str,
    credential: Credential,
    body: &'static str,
    want: [(u16, &'static str); 2],
) -> Row {
    Row { method, path, credential, body, want }
}

fn rows() -> Vec<Row> {
    use Credential::{
        Anonymous, Certificate, ExpiredToken, ForgedToken, LoggedOutToken, LoginToken, Password,
        Pat, TokenAndCertificate, UnmappedCertificate, WrongPassword,
    };
    let (get, post, delete) = (|| Method::GET, || Method::POST, || Method::DELETE);
    let success = [(200, ""), (204, "")];
    let invalid_token = [(401, "ZWEAG102E"), (401, "")];
    let forbidden = [(401, "ZWEAT403E"), (403, "ZWEAT403E")];
    let no_certificate = [(403, "ZWEAG167E"), (403, "")];
    let unmapped = [(401, "ZWEAG161E"), (403, "ZWEAT403E")];
    let generate = r#"{"validity":1,"scopes":["dcpassticket"]}"#;
    let validate = r#"{"token":"{PAT}","serviceId":"dcpassticket"}"#;
    let applid = r#"{"applicationName":"ZOWEAPPL"}"#;
    // The timestamp of this rule is in 2020, so the rule does not revoke the tokens of the other rows.
    let rule = r#"{"userId":"USER","serviceId":"dcpassticket","timestamp":"1582239600000"}"#;
    let mut rows = vec![
        row(post(), "login", Password, "", same(204, "")),
        row(post(), "login", Certificate("USER"), "", same(204, "")),
        row(
            post(),
            "login",
            Anonymous,
            r#"{"username":"USER","password":"validPassword"}"#,
            same(204, ""),
        ),
        row(post(), "login", Anonymous, "", same(400, "ZWEAG121E")),
        row(post(), "login", Anonymous, "{", same(400, "ZWEAG121E")),
        row(
            post(),
            "login",
            Anonymous,
            r#"{"username":"USER","password":"validPassword","newPassword":"x"}"#,
            same(400, "ZWEAG121E"),
        ),
        row(post(), "login", WrongPassword, "", same(401, "ZWEAG120E")),
        row(get(), "login", Password, "", same(405, "ZWEAG101E")),
        row(post(), "oidc-token/validate", Anonymous, r#"{"token":"x"}"#, invalid_token),
        row(post(), "oidc-token/validate", Anonymous, r#"{"token":"{JWT}"}"#, invalid_token),
        row(post(), "oidc-token/validate", Anonymous, "{", same(400, "ZWEAO400E")),
        row(get(), "oidc-token/validate", Anonymous, "", same(405, "ZWEAG101E")),
        row(get(), "query", LoginToken, "", same(200, "")),
        row(get(), "query", Anonymous, "", same(401, "ZWEAG131E")),
        row(get(), "query", Pat, "", same(401, "ZWEAG130E")),
        row(get(), "query", LoggedOutToken, "", same(401, "ZWEAG130E")),
        row(post(), "query", LoginToken, "", same(405, "ZWEAG101E")),
        row(post(), "logout", LoginToken, "", same(204, "")),
        row(post(), "logout", LoggedOutToken, "", same(401, "ZWEAG130E")),
        row(post(), "logout", Anonymous, "", same(401, "ZWEAG131E")),
        row(post(), "logout", Pat, "", same(400, "ZWEAG130E")),
        row(post(), "refresh", TokenAndCertificate("APIMTST"), "", same(204, "")),
        row(post(), "refresh", LoginToken, "", no_certificate),
        row(post(), "refresh", Certificate("USER"), "", same(401, "ZWEAG131E")),
        row(post(), "ticket", TokenAndCertificate("USER"), applid, same(200, "")),
        row(post(), "ticket", TokenAndCertificate("USER"), "{}", same(400, "ZWEAG140E")),
        row(
            post(),
            "ticket",
            TokenAndCertificate("USER"),
            r#"{"applicationName":"OTHER"}"#,
            same(400, "ZWEAG141E"),
        ),
        row(post(), "ticket", LoginToken, applid, no_certificate),
        row(post(), "ticket", Certificate("USER"), applid, same(401, "ZWEAG131E")),
        row(get(), "keys/public", Anonymous, "", same(200, "")),
        row(get(), "keys/public/all", Anonymous, "", same(200, "")),
        row(get(), "keys/public/current", Anonymous, "", same(200, "")),
        row(get(), "keys/private", Anonymous, "", same(404, "ZWEAO404E")),
        row(post(), "access-token/generate", Password, generate, same(200, "")),
        row(post(), "access-token/generate", Certificate("APIMTST"), generate, same(200, "")),
        row(post(), "access-token/generate", LoginToken, generate, same(400, "ZWEAG121E")),
        row(post(), "access-token/generate", Pat, generate, same(400, "ZWEAG121E")),
        row(post(), "access-token/generate", WrongPassword, generate, same(401, "ZWEAG120E")),
        row(post(), "access-token/generate", Password, "{}", same(400, "ZWEAT606E")),
        row(post(), "access-token/generate", Password, "{", same(400, "ZWEAT605E")),
        row(post(), "access-token/validate", Anonymous, validate, success),
        row(
            post(),
            "access-token/validate",
            Anonymous,
            r#"{"token":"{PAT}","serviceId":"dcbypass"}"#,
            invalid_token,
        ),
        row(
            post(),
            "access-token/validate",
            Anonymous,
            r#"{"token":"{REVOKED}","serviceId":"dcpassticket"}"#,
            invalid_token,
        ),
        row(
            post(),
            "access-token/validate",
            Anonymous,
            r#"{"token":"{JWT}","serviceId":"dcpassticket"}"#,
            invalid_token,
        ),
        row(
            post(),
            "access-token/validate",
            Anonymous,
            r#"{"token":"x","serviceId":"dcpassticket"}"#,
            same(401, "ZWEAG102E"),
        ),
        row(
            post(),
            "access-token/validate",
            Anonymous,
            r#"{"token":"{PAT}"}"#,
            [(400, "ZWEAO400E"), (401, "")],
        ),
        row(post(), "access-token/validate", Anonymous, "{", same(400, "ZWEAO400E")),
        row(delete(), "access-token/validate", Anonymous, validate, same(405, "ZWEAG101E")),
        row(delete(), "access-token/revoke", Anonymous, validate, success),
        row(delete(), "access-token/revoke", Anonymous, r#"{"token":"{REVOKED}"}"#, invalid_token),
        row(delete(), "access-token/revoke", Anonymous, r#"{"token":"{JWT}"}"#, invalid_token),
        row(delete(), "access-token/revoke", Anonymous, r#"{"token":"x"}"#, same(401, "ZWEAG102E")),
        row(delete(), "access-token/revoke", Anonymous, "", same(400, "ZWEAO400E")),
        row(delete(), "access-token/revoke/tokens", Certificate("APIMTST"), "", success),
        row(delete(), "access-token/evict", Password, "", same(204, "")),
        row(delete(), "access-token/evict", Certificate("USER"), "", same(204, "")),
        row(delete(), "access-token/evict", Certificate("APIMTST"), "", same(403, "ZWEAT403E")),
        row(delete(), "access-token/evict", Anonymous, "", same(401, "ZWEAG105E")),
    ];
    rows.extend([
        row(post(), "login", UnmappedCertificate, "", same(400, "ZWEAG121E")),
        row(get(), "query", ExpiredToken, "", same(401, "ZWEAT100E")),
        row(get(), "query", ForgedToken, "", same(401, "ZWEAG130E")),
        row(post(), "logout", ExpiredToken, "", same(401, "ZWEAT100E")),
        row(post(), "logout", ForgedToken, "", same(401, "ZWEAG130E")),
        row(post(), "refresh", ExpiredToken, "", same(401, "ZWEAT100E")),
        row(post(), "ticket", ExpiredToken, applid, same(401, "ZWEAT100E")),
        row(post(), "access-token/generate", UnmappedCertificate, generate, same(400, "ZWEAG121E")),
        row(post(), "access-token/generate", Anonymous, generate, same(400, "ZWEAG121E")),
        row(
            post(),
            "access-token/validate",
            Anonymous,
            r#"{"token":"{EXPIRED}","serviceId":"dcpassticket"}"#,
            same(401, "ZWEAG103E"),
        ),
        row(
            delete(),
            "access-token/revoke",
            Anonymous,
            r#"{"token":"{EXPIRED}"}"#,
            same(401, "ZWEAG103E"),
        ),
        row(delete(), "access-token/evict", UnmappedCertificate, "", unmapped),
        row(delete(), "access-token/evict", WrongPassword, "", same(401, "ZWEAG120E")),
        row(post(), "login", Password, "{BIG}", same(413, "ZWEAO413E")),
        row(post(), "ticket", TokenAndCertificate("USER"), "{BIG}", same(413, "ZWEAO413E")),
        row(post(), "access-token/generate", Password, "{BIG}", same(413, "ZWEAO413E")),
        row(post(), "access-token/validate", Anonymous, "{BIG}", same(413, "ZWEAO413E")),
        row(delete(), "access-token/revoke", Anonymous, "{BIG}", same(413, "ZWEAO413E")),
        row(get(), "logout", LoginToken, "", same(405, "ZWEAG101E")),
        row(get(), "refresh", LoginToken, "", same(405, "ZWEAG101E")),
        row(get(), "ticket", LoginToken, "", same(405, "ZWEAG101E")),
        row(post(), "keys/public", Anonymous, "", same(405, "ZWEAG101E")),
        row(post(), "keys/public/all", Anonymous, "", same(405, "ZWEAG101E")),
        row(post(), "keys/public/current", Anonymous, "", same(405, "ZWEAG101E")),
        row(get(), "access-token/generate", Password, "", same(405, "ZWEAG101E")),
        row(post(), "access-token/revoke", Anonymous, "", same(405, "ZWEAG101E")),
        row(post(), "access-token/evict", Password, "", same(405, "ZWEAG101E")),
    ]);
    let admin = [
        "access-token/revoke/tokens/user",
        "access-token/revoke/tokens/users",
        "access-token/revoke/tokens/scope",
    ];
    for path in admin {
        rows.push(row(delete(), path, Certificate("APIMTST"), rule, forbidden));
        rows.push(row(delete(), path, Password, "{}", same(400, "ZWEAT607E")));
    }
    for path in admin.into_iter().chain(["access-token/revoke/tokens"]) {
        rows.push(row(delete(), path, Password, rule, success));
        rows.push(row(delete(), path, UnmappedCertificate, rule, unmapped));
        rows.push(row(delete(), path, Password, "{BIG}", same(413, "ZWEAO413E")));
        rows.push(row(delete(), path, Certificate("USER"), rule, success));
        rows.push(row(delete(), path, Password, r#"{"timestamp":"soon"}"#, same(400, "ZWEAT607E")));
        rows.push(row(delete(), path, Anonymous, rule, same(401, "ZWEAG105E")));
        rows.push(row(delete(), path, LoginToken, rule, same(401, "ZWEAG105E")));
        rows.push(row(delete(), path, Pat, rule, same(401, "ZWEAG105E")));
        rows.push(row(delete(), path, WrongPassword, rule, same(401, "ZWEAG120E")));
        rows.push(row(post(), path, Password, rule, same(405, "ZWEAG101E")));
    }
    rows
}

/// Clients of one gateway. They log in with a certificate, because a login with a password is slow (the gateway hashes
/// the password).
struct Clients<'d> {
    demo: &'d Demo,
    anonymous: Client,
    user: Client,
    other: Client,
    unmapped: Client,
}

impl<'d> Clients<'d> {
    fn of(demo: &'d Demo) -> Self {
        let (user, other) = (demo.client_of("USER"), demo.client_of("APIMTST"));
        Self { demo, anonymous: demo.client(), user, other, unmapped: unmapped_client(demo) }
    }

    /// Makes a token of `USER` that expired a second ago. `more` contains further claims.
    fn expired(&self, more: Value) -> String {
        let key = fs::read(self.demo.directory.join("keys/jwt.pem")).unwrap();
        let now = SystemClock.now().as_secs();
        let mut claims = json!({"sub": "USER", "iat": now - 60, "exp": now - 1});
        claims.as_object_mut().unwrap().append(&mut more.as_object().unwrap().clone());
        let key = EncodingKey::from_rsa_pem(&key).unwrap();
        jsonwebtoken::encode(&Header::new(Algorithm::RS256), &claims, &key).unwrap()
    }

    fn client(&self, credential: Credential) -> &Client {
        match credential {
            Credential::Certificate("USER")
            | Credential::TokenAndCertificate("USER")
            | Credential::ExpiredToken => &self.user,
            Credential::UnmappedCertificate => &self.unmapped,
            Credential::Certificate(_) | Credential::TokenAndCertificate(_) => &self.other,
            _ => &self.anonymous,
        }
    }

    /// Logs in as `USER` with the certificate. Returns the token.
    async fn login(&self) -> String {
        let response = self.user.post(self.demo.auth("login")).send().await.unwrap();
        let cookie = response.headers()["set-cookie"].to_str().unwrap();
        let value = cookie.strip_prefix("apimlAuthenticationToken=").unwrap();
        value.split(';').next().unwrap().to_owned()
    }

    /// Makes a Personal Access Token (PAT) of `USER`. The credential of the request is the certificate.
    async fn pat(&self) -> String {
        let request = self.user.post(self.demo.auth("access-token/generate"));
        let response = request.body(r#"{"scopes":["dcpassticket"]}"#).send().await.unwrap();
        response.text().await.unwrap()
    }
}

/// Makes a client with a certificate of the demo's authority. The common name of the certificate is not a user id.
fn unmapped_client(demo: &Demo) -> Client {
    let read = |name: &str| fs::read_to_string(demo.directory.join(name)).unwrap();
    let mut ca = CertificateParams::default();
    ca.distinguished_name = DistinguishedName::new();
    ca.distinguished_name.push(DnType::CommonName, "Demonstration CA of passticket-proxy");
    let issuer = Issuer::new(ca, KeyPair::from_pem(&read("certs/ca.key")).unwrap());
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Not a user id");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    let pem = params.signed_by(&key, &issuer).unwrap().pem() + &key.serialize_pem();
    demo.builder().identity(Identity::from_pem(pem.as_bytes()).unwrap()).build().unwrap()
}

async fn send_token(demo: &Demo, method: Method, path: &str, token: &str, service: &str) -> u16 {
    let body = json!({"token": token, "serviceId": service}).to_string();
    let request = demo.client().request(method, demo.auth(path)).body(body);
    request.send().await.unwrap().status().as_u16()
}

async fn send(clients: &Clients<'_>, row: &Row) -> Response {
    let demo = clients.demo;
    let mut body = row.body.to_owned();
    if body.contains("{PAT}") {
        body = body.replace("{PAT}", &clients.pat().await);
    }
    if body.contains("{JWT}") {
        body = body.replace("{JWT}", &clients.login().await);
    }
    if body.contains("{REVOKED}") {
        let pat = clients.pat().await;
        let status = send_token(demo, Method::DELETE, "access-token/revoke", &pat, "").await;
        assert!([200, 204].contains(&status));
        body = body.replace("{REVOKED}", &pat);
    }
    if body.contains("{EXPIRED}") {
        let pat = json!({"iss": "APIML_PAT", "scopes": ["dcpassticket"]});
        body = body.replace("{EXPIRED}", &clients.expired(pat));
    }
    let body = body.replace("{BIG}", &"x".repeat(70 * 1024));
    let request =
        clients.client(row.credential).request(row.method.clone(), demo.auth(row.path)).body(body);
    let request = match row.credential {
        Credential::Anonymous | Credential::Certificate(_) | Credential::UnmappedCertificate => {
            request
        }
        Credential::ExpiredToken => request.bearer_auth(clients.expired(json!({"iss": "APIML"}))),
        Credential::ForgedToken => {
            let token = clients.login().await;
            let (signed, signature) = token.rsplit_once('.').unwrap();
            let first = if signature.starts_with('A') { "B" } else { "A" };
            request.bearer_auth(format!("{signed}.{first}{}", &signature[1..]))
        }
        Credential::Password => request.basic_auth("USER", Some("validPassword")),
        Credential::WrongPassword => request.basic_auth("USER", Some("wrong")),
        Credential::LoginToken => request.bearer_auth(clients.login().await),
        Credential::TokenAndCertificate(_) => {
            request.header("cookie", format!("apimlAuthenticationToken={}", clients.login().await))
        }
        Credential::LoggedOutToken => {
            let token = clients.login().await;
            let logout = clients.anonymous.post(demo.auth("logout")).bearer_auth(&token);
            assert_eq!(logout.send().await.unwrap().status(), 204);
            request.bearer_auth(token)
        }
        Credential::Pat => request.bearer_auth(clients.pat().await),
    };
    request.send().await.unwrap()
}

/// Sends the requests of all rows, and compares the responses with [`Row::want`]. `profile` is an index of `want`: 0
/// for the default profile, 1 for `zowe-v3`.
async fn check(demo: &Demo, profile: usize) {
    let clients = Clients::of(demo);
    for row in rows() {
        let response = send(&clients, &row).await;
        let name = format!("{} {} {}", row.method, row.path, row.body);
        let (status, number) = row.want[profile];
        assert_eq!(response.status(), status, "{name}");
        let headers = response.headers().clone();
        assert_eq!(headers.contains_key("allow"), status == 405, "{name}");
        assert_eq!(headers.contains_key("www-authenticate"), status == 401, "{name}");
        let text = response.text().await.unwrap();
        if number.is_empty() {
            let has_body = status == 200
                && (row.path.starts_with("keys")
                    || ["query", "ticket", "access-token/generate"].contains(&row.path));
            assert_eq!(!text.is_empty(), has_body, "{name}: {text}");
            continue;
        }
        assert_eq!(headers["content-type"], "application/json", "{name}");
        let document: Value = serde_json::from_str(&text).unwrap();
        let message = &document["messages"][0];
        assert_eq!(message["messageNumber"], number, "{name}");
        let content = message["messageContent"].as_str().unwrap();
        // The paths in messages begin with /gateway/ in the default profile, and with /zaas/ in zowe-v3.
        let wrong_prefix = ["/zaas/", "/gateway/"][profile];
        assert!(!content.contains(wrong_prefix), "{name}: {content}");
    }
}

#[tokio::test]
async fn every_endpoint_answers_as_documented() {
    check(&Demo::start(), 0).await;
}

#[tokio::test]
async fn with_the_profile_zowe_v3_every_endpoint_answers_as_zowe_v3() {
    let demo = Demo::reconfigured(|yaml| yaml + "    compatibility: zowe-v3\n");
    check(&demo, 1).await;
    let response = demo.client().get(demo.auth("keys/public")).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/json");
}

/// The test limits the size of the files that the program can write. This limit has the effect of a full disk.
#[tokio::test]
async fn a_revocation_that_cannot_be_stored_gets_503() {
    let demo = Demo::start();
    let clients = Clients::of(&demo);
    let pat = clients.pat().await;
    let (logout_token, refresh_token) = (clients.login().await, clients.login().await);
    let pid = demo.program.pid().to_string();
    let limited = Command::new("prlimit").args(["--pid", &pid, "--fsize=4096:4096"]).status();
    if limited.is_err() {
        assert!(std::env::var_os("CI").is_none(), "CI needs prlimit");
        return;
    }
    assert!(limited.unwrap().success(), "prlimit failed");
    let delete = |path: &str| clients.user.delete(demo.auth(path));
    let token = json!({ "token": pat }).to_string();
    for request in [
        delete("access-token/revoke").body(token),
        delete("access-token/revoke/tokens"),
        delete("access-token/revoke/tokens/user").body(r#"{"userId":"OTHER"}"#),
        delete("access-token/revoke/tokens/users").body(r#"{"userId":"OTHER"}"#),
        delete("access-token/revoke/tokens/scope").body(r#"{"serviceId":"other"}"#),
        delete("access-token/evict"),
        clients.anonymous.post(demo.auth("logout")).bearer_auth(&logout_token),
        clients.user.post(demo.auth("refresh")).bearer_auth(&refresh_token),
    ] {
        let response = request.send().await.unwrap();
        let url = response.url().clone();
        assert_eq!(response.status(), 503, "{url}");
        assert!(!response.headers().contains_key("set-cookie"), "{url}");
        let document: Value = response.json().await.unwrap();
        assert_eq!(document["messages"][0]["messageNumber"], "ZWEAG104E", "{url}");
    }
    // The gateway treats the token as revoked although it could not store the revocation.
    assert_eq!(
        send_token(&demo, Method::POST, "access-token/validate", &pat, "dcpassticket").await,
        401
    );
}

/// After many wrong passwords, the gateway refuses logins for some time, even with the correct password.
#[tokio::test]
async fn wrong_passwords_block_logins_until_retry_after() {
    let demo = Demo::start();
    let client = demo.client();
    let attempt = |password: &'static str| {
        client.post(demo.auth("login")).basic_auth("USER", Some(password)).send()
    };
    let refused = loop {
        let response = attempt("wrong").await.unwrap();
        if response.status() != 401 {
            break response;
        }
    };
    assert_eq!(refused.status(), 429);
    let wait: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!(wait <= 10, "{wait}");
    let document: Value = refused.json().await.unwrap();
    assert_eq!(document["messages"][0]["messageNumber"], "ZWESG429E");
    assert_eq!(attempt("validPassword").await.unwrap().status(), 429);
    tokio::time::sleep(Duration::from_secs(wait)).await;
    assert_eq!(attempt("validPassword").await.unwrap().status(), 204);
}

#[tokio::test]
async fn disabled_endpoints_get_404_and_the_validity_of_a_pat_is_limited() {
    let demo = Demo::reconfigured(|yaml| {
        let disabled = yaml.replace("enabled: true", "enabled: false");
        let disabled = disabled.replace("allowTokenRefresh: true", "allowTokenRefresh: false");
        disabled.replace("delegatePassticket: true", "delegatePassticket: false")
    });
    let paths =
        ["refresh", "access-token/generate", "access-token/validate", "delegate/passticket"];
    for path in paths {
        let request = demo.client().post(demo.auth(path)).basic_auth("USER", Some("x"));
        assert_eq!(request.send().await.unwrap().status(), 404, "{path}");
    }
    drop(demo);

    let demo = Demo::reconfigured(|yaml| {
        yaml + "    personalAccessToken:\n      maximumValidityDays: 2\n"
    });
    let request = demo.client().post(demo.auth("access-token/generate"));
    let request = request.basic_auth("USER", Some("validPassword"));
    let response = request.body(r#"{"validity":60,"scopes":["a"]}"#).send().await.unwrap();
    let claims = claims(&response.text().await.unwrap());
    let lifetime = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
    assert_eq!(lifetime, 2 * 86_400);
}

/// Returns the claims of a token, without a check of its signature.
fn claims(token: &str) -> Value {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    let claims = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice(&claims).unwrap()
}

/// Sends a request with this header to the service of the demo. Returns the status. The service refuses requests
/// without a valid PassTicket.
async fn routed(demo: &Demo, header: (&str, &str)) -> u16 {
    let request = demo.client().get(demo.at("/dcpassticket/api/v1/passticketTest"));
    let response = request.header(header.0, header.1).send().await.unwrap();
    response.status().as_u16()
}

#[tokio::test]
async fn revocations_apply_immediately_and_after_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::start_in(directory.path());
    let service = "dcpassticket";
    let pats = [demo.pat(&[service]).await, demo.pat(&[service, "other"]).await];
    let (jwt, unrevoked) = (demo.login().await, demo.login().await);
    let bearer = format!("Bearer {jwt}");
    let validate = "access-token/validate";
    for pat in &pats {
        assert_eq!(routed(&demo, ("private-token", pat)).await, 200);
        assert_eq!(send_token(&demo, Method::POST, validate, pat, service).await, 200);
    }
    assert_eq!(routed(&demo, ("authorization", &bearer)).await, 200);

    let revoke = "access-token/revoke";
    assert_eq!(send_token(&demo, Method::DELETE, revoke, &pats[0], "").await, 200);
    assert_eq!(routed(&demo, ("private-token", &pats[0])).await, 401);
    assert_eq!(routed(&demo, ("private-token", &pats[1])).await, 200);
    let rule = demo.client().delete(demo.auth("access-token/revoke/tokens/scope"));
    let rule = rule.basic_auth("USER", Some("validPassword")).body(r#"{"serviceId":"OTHER"}"#);
    assert_eq!(rule.send().await.unwrap().status(), 200);
    assert_eq!(routed(&demo, ("private-token", &pats[1])).await, 401);
    let logout = demo.client().post(demo.auth("logout")).bearer_auth(&jwt);
    assert_eq!(logout.send().await.unwrap().status(), 204);
    assert_eq!(routed(&demo, ("authorization", &bearer)).await, 401);

    // Dropping the demo kills the process with SIGKILL.
    drop(demo);
    let demo = Demo::start_in(directory.path());
    for pat in &pats {
        assert_eq!(routed(&demo, ("private-token", pat)).await, 401);
        assert_eq!(send_token(&demo, Method::POST, validate, pat, service).await, 401);
    }
    assert_eq!(routed(&demo, ("authorization", &bearer)).await, 401);
    let unrevoked = format!("Bearer {unrevoked}");
    assert_eq!(routed(&demo, ("authorization", &unrevoked)).await, 200);
    let evict = demo.client().delete(demo.auth("access-token/evict"));
    let evict = evict.basic_auth("USER", Some("validPassword"));
    assert_eq!(evict.send().await.unwrap().status(), 204);
    assert_eq!(routed(&demo, ("private-token", &pats[0])).await, 401);
}

#[test]
fn the_gateway_does_not_start_with_a_damaged_revocation_file() {
    let directory = tempfile::tempdir().unwrap();
    drop(Demo::start_in(directory.path()));
    let file = directory.path().join("revocations.redb");
    fs::write(&file, "not a store").unwrap();
    let config = directory.path().join("zowe.yaml");
    let mut program = Running::start(PROGRAM, &["serve", "--config", config.to_str().unwrap()]);
    let (status, log) = program.wait();
    assert!(!status.success());
    assert!(log.contains(file.to_str().unwrap()), "{log}");
    assert_eq!(fs::read(file).unwrap(), b"not a store");
}

/// The gateway does not start without its revocation file. With the option `--new-store`, it creates the file.
#[test]
fn a_missing_revocation_file_is_an_error_and_new_store_creates_it() {
    let directory = tempfile::tempdir().unwrap();
    drop(Demo::start_in(directory.path()));
    let file = directory.path().join("revocations.redb");
    let config = directory.path().join("zowe.yaml");
    let yaml = crate::support::with_any_port(&fs::read_to_string(&config).unwrap());
    fs::write(&config, &yaml).unwrap();
    fs::remove_file(&file).unwrap();
    let serve = ["serve", "--config", config.to_str().unwrap()];
    let (status, log) = Running::start(PROGRAM, &serve).wait();
    assert_eq!(status.code(), Some(3), "{log}");
    assert!(log.contains(&format!("{} is missing; mount its volume", file.display())), "{log}");
    assert!(!file.exists());

    let new_store = [&serve[..], &["--new-store"]].concat();
    // The gateway cannot start, because the admin port is in use. So it must not create a revocation file.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = format!("{yaml}    admin: {{port: {}}}\n", port.local_addr().unwrap().port());
    fs::write(&config, admin).unwrap();
    let (status, log) = Running::start(PROGRAM, &new_store).wait();
    assert_eq!(status.code(), Some(3), "{log}");
    assert!(log.contains("components.passticket-proxy.admin.port"), "{log}");
    assert!(!file.exists());
    fs::write(&config, yaml).unwrap();

    let mut program = Running::start(PROGRAM, &new_store);
    program.logged("listening");
    drop(program);
    let created = fs::metadata(&file).unwrap().len();
    let (status, log) = Running::start(PROGRAM, &new_store).wait();
    assert_eq!(status.code(), Some(2), "{log}");
    assert!(log.contains("exists; start without the option"), "{log}");
    assert_eq!(fs::metadata(&file).unwrap().len(), created);
    let trusted = [&serve[..], &["--trust-clock"]].concat();
    Running::start(PROGRAM, &trusted).logged("the clock is confirmed");
}

/// While the gateway runs, the test replaces the revocation file by an older copy, or removes it.
#[tokio::test]
async fn revocations_get_503_while_the_revocation_file_is_missing_or_replaced() {
    let mut demo = Demo::start();
    let file = demo.directory.join("revocations.redb");
    let (copy, away) = (file.with_extension("copy"), file.with_extension("away"));
    fs::copy(&file, &copy).unwrap();
    let (first, second) = (demo.pat(&["dcpassticket"]).await, demo.pat(&["dcpassticket"]).await);
    let revoke = async |demo: &Demo, pat: &str| {
        let body = json!({"token": pat});
        let request = demo.client().delete(demo.auth("access-token/revoke")).json(&body);
        request.send().await.unwrap().status()
    };
    let generate = async |demo: &Demo| {
        let request = demo.client().post(demo.auth("access-token/generate"));
        let request = request.basic_auth("USER", Some("validPassword"));
        request.json(&json!({"scopes": ["a"]})).send().await.unwrap().status()
    };
    fs::rename(&file, &away).unwrap();
    assert_eq!(revoke(&demo, &first).await, 503);
    fs::copy(&copy, &file).unwrap();
    assert_eq!(revoke(&demo, &second).await, 503);
    assert_eq!(generate(&demo).await, 503);
    let all = demo.client().delete(demo.auth("access-token/revoke/tokens"));
    let all = all.basic_auth("USER", Some("validPassword")).send().await.unwrap();
    assert_eq!(all.status(), 503);
    demo.program.logged("the revocation file was removed or replaced");
    demo.login().await;

    fs::rename(&away, &file).unwrap();
    assert_eq!(generate(&demo).await, 200);
    let third = demo.pat(&["dcpassticket"]).await;
    assert_eq!(revoke(&demo, &third).await, 200);
}

#[test]
fn the_commands_in_endpoints_md_work() {
    if !has_curl() {
        return;
    }
    let demo = Demo::start();
    let mut lines: Vec<&str> = Vec::new();
    let mut in_block = false;
    for line in ENDPOINTS.lines() {
        match line {
            "```sh" => in_block = true,
            "```" => in_block = false,
            line if in_block => lines.push(line),
            _ => {}
        }
    }
    let count = lines.iter().filter(|line| line.contains("curl ")).count();
    assert_eq!(count, ENDPOINTS.matches("## `").count() + ENDPOINTS.matches("` and `GET").count());
    assert_eq!(lines.remove(0), "DEMO=$PWD/passticket-demo");
    let script = lines.join("\n").replace("https://localhost:10010", &demo.url);
    let output =
        Command::new("sh").args(["-euxc", &script]).env("DEMO", &demo.directory).output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    let printed = String::from_utf8_lossy(&output.stdout);
    for part in [
        "\"userId\":\"USER\"",
        "\"ticket\":\"",
        "\"tsoUserid\":\"USER\"",
        "\"user_id\":\"USER\"",
        "BEGIN PUBLIC KEY",
        "\"keys\":[",
        "\"serviceId\":\"dcpassticket\"",
        "BEGIN CERTIFICATE",
    ] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
}

/// Issues a token with a name, and returns it with its id.
async fn named_token(demo: &Demo, name: &str) -> (String, String) {
    let body = format!(r#"{{"name":"{name}","scopes":["dcpassticket"]}}"#);
    let request = demo.client().post(demo.auth("access-token/generate")).body(body);
    let request = request.header("accept", "application/json");
    let response = request.basic_auth("USER", Some("validPassword")).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let new: Value = response.json().await.unwrap();
    let text = |field: &str| new[field].as_str().unwrap().to_owned();
    (text("token"), text("id"))
}

async fn tokens(demo: &Demo, method: Method, path: &str) -> (u16, Value) {
    let request = demo.client().request(method, demo.auth(path));
    let response = request.basic_auth("USER", Some("validPassword")).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap_or_default())
}

#[tokio::test]
async fn users_see_the_last_use_of_their_tokens_and_rotate_and_revoke_them() {
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::start_in(directory.path());
    let (pat, id) = named_token(&demo, "jenkins").await;
    let path = format!("access-tokens/{id}");
    let (status, entry) = tokens(&demo, Method::GET, &path).await;
    assert_eq!((status, &entry["lastUsedAt"]), (200, &Value::Null));
    assert_eq!(routed(&demo, ("private-token", &pat)).await, 200);
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    let used = loop {
        let (_, entry) = tokens(&demo, Method::GET, &path).await;
        if !entry["lastUsedAt"].is_null() {
            break entry;
        }
        assert!(std::time::Instant::now() < deadline, "{entry}");
        // The gateway writes the first use within about a second.
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(
        (&used["lastUsedFrom"], &used["lastUsedService"]),
        (&"127.0.0.1".into(), &"dcpassticket".into())
    );

    let rotate = demo.client().post(demo.auth("access-tokens/self/rotate"));
    let response = rotate.header("private-token", &pat).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let new: Value = response.json().await.unwrap();
    let new = new["token"].as_str().unwrap().to_owned();
    assert_eq!(routed(&demo, ("private-token", &new)).await, 200);
    drop(demo);

    // The entries survive a restart. The use of the old token on a route revokes the new token.
    let demo = Demo::start_in(directory.path());
    let (_, page) = tokens(&demo, Method::GET, "access-tokens").await;
    let states: Vec<_> = page["tokens"].as_array().unwrap().iter().map(|it| &it["state"]).collect();
    assert_eq!(states, ["active", "revoked"], "{page}");
    assert_eq!(routed(&demo, ("private-token", &pat)).await, 401);
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while routed(&demo, ("private-token", &new)).await == 200 {
        assert!(std::time::Instant::now() < deadline);
        assert_eq!(routed(&demo, ("private-token", &pat)).await, 401);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    let (pat, id) = named_token(&demo, "second").await;
    assert_eq!(tokens(&demo, Method::DELETE, &format!("access-tokens/{id}")).await.0, 204);
    assert_eq!(routed(&demo, ("private-token", &pat)).await, 401);
}

#[tokio::test]
async fn the_number_of_active_tokens_of_a_user_is_configurable() {
    let demo = Demo::reconfigured(|yaml| {
        yaml + "    personalAccessToken:\n      maximumPerUser: 1\n      revokeIdleDays: 30\n"
    });
    named_token(&demo, "one").await;
    let request = demo.client().post(demo.auth("access-token/generate"));
    let request = request.basic_auth("USER", Some("validPassword"));
    let response = request.body(r#"{"scopes":["a"]}"#).send().await.unwrap();
    assert_eq!(response.status(), 429);
}
