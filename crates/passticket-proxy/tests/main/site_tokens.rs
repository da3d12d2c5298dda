//! Tests of a gateway beside a running Zowe API ML (Zowe's gateway) and z/OSMF (IBM's management server on z/OS). The
//! gateway accepts their tokens as credentials, and relays logouts to them. Both servers are fakes, which sign their
//! tokens without a JWT library.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    time::Duration,
};

use serde_json::{Value, json};
use test_support::{
    apiml::FakeApiml,
    fake::{Behaviour, Fake},
    jws,
    pki::{self, Authority, SERVER},
    raw::Step,
    zosmf::FakeZosmf,
};
use tower_passticket::clock::{Clock, SystemClock};

use crate::support::{Demo, user_service, with_site};

/// A gateway, with a fake API ML and a fake z/OSMF beside it.
struct Site {
    apiml: FakeApiml,
    zosmf: FakeZosmf,
    demo: Demo,
}

impl Site {
    /// Starts the servers and the gateway. `zowe` contains further settings of `components.passticket-proxy.zowe`.
    async fn start(zowe: &str) -> Self {
        let apiml = FakeApiml::https(SERVER.acceptor()).await;
        let zosmf = FakeZosmf::https(SERVER.acceptor()).await;
        let service = user_service().await;
        let ours = format!(
            "    onFailure: reject\n    timeouts: {{providerSeconds: 3}}\n    zowe: {{url: \
             'https://localhost:{}', {zowe}}}\nzOSMF: {{host: localhost, port: {}}}\n",
            apiml.address.port(),
            zosmf.address.port()
        );
        let demo = Demo::beside_servers(move |directory, yaml| {
            let yaml = with_site(directory, &yaml, &service);
            yaml.replace("    users: users.yml\n", "") + &ours
        })
        .await;
        Self { apiml, zosmf, demo }
    }

    async fn get(&self, token: &str) -> (u16, String) {
        let url = self.demo.at("/svc/api/v1/x");
        let response = self.demo.client().get(url).bearer_auth(token).send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, if status == 200 { text } else { String::new() })
    }

    async fn auth(&self, endpoint: &str, token: &str) -> (u16, Value) {
        let url = self.demo.auth(endpoint);
        let request = match endpoint {
            "query" => self.demo.client().get(url),
            _ => self.demo.client().post(url),
        };
        let response = request.bearer_auth(token).send().await.unwrap();
        let status = response.status().as_u16();
        (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default())
    }
}

fn user() -> (u16, String) {
    (200, "USER".to_owned())
}

fn refused(status: u16) -> (u16, String) {
    (status, String::new())
}

fn now() -> u64 {
    SystemClock.now().as_secs()
}

/// Returns a token that is signed with `key`. It names API ML as its issuer, unless `claims` contains another issuer.
fn forged(key: &str, claims: Value) -> String {
    let mut all = json!({"iss": "APIML", "sub": "USER", "iat": now(), "exp": now() + 600});
    for (name, value) in claims.as_object().unwrap() {
        all[name] = value.clone();
    }
    jws::sign(key, &json!({"alg": "RS256"}), &all)
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_api_ml_are_accepted_until_api_ml_ends_them() {
    let site = Site::start("checkLogoutSeconds: 0").await;
    let (login, pat) = (site.apiml.login_token("USER"), site.apiml.pat("USER", &["svc"]));
    assert_eq!(site.get(&login).await, user());
    assert_eq!(site.get(&pat).await, user());
    // A PAT (Personal Access Token) is valid only for its services. The auth API does not accept it.
    assert_eq!(site.get(&site.apiml.pat("USER", &["other"])).await, refused(403));
    assert_eq!(site.auth("query", &pat).await.0, 401);
    let (status, content) = site.auth("query", &login).await;
    assert_eq!((status, &content["userId"]), (200, &json!("USER")));

    // API ML's list of public keys also contains the keys of identity providers. The gateway must refuse a token with
    // the issuer API ML or z/OSMF if an identity provider has signed it.
    let provider = pki::SIGNING_KEY;
    for (case, token) in [
        ("a provider signs APIML", forged(provider, json!({}))),
        (
            "a provider signs a PAT",
            forged(provider, json!({"iss": "APIML_PAT", "scopes": ["svc"]})),
        ),
        ("a provider signs zOSMF", forged(provider, json!({"iss": "zOSMF"}))),
        ("expired", forged(pki::OTHER_SIGNING_KEY, json!({"exp": now() - 1}))),
        ("issued in the future", forged(pki::OTHER_SIGNING_KEY, json!({"iat": now() + 3600}))),
        // API ML has not issued this token, although it is signed with the key of API ML.
        ("not valid at API ML", forged(pki::OTHER_SIGNING_KEY, json!({}))),
    ] {
        assert_eq!(site.get(&token).await, refused(401), "{case}");
    }

    site.apiml.end(&login);
    site.apiml.end(&pat);
    for token in [&login, &pat] {
        assert_eq!(site.get(token).await, refused(401));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_api_ml_is_cached() {
    let site = Site::start("checkLogout: query").await;
    let login = site.apiml.login_token("USER");
    assert_eq!(site.get(&login).await, user());
    site.apiml.take_requests();
    site.apiml.end(&login);
    // The gateway caches the answer of API ML for a minute.
    for _ in 0..3 {
        assert_eq!(site.get(&login).await, user());
    }
    assert_eq!(site.apiml.take_requests(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_is_relayed_to_the_issuer_of_the_token() {
    let mut site = Site::start("").await;
    let (apiml, zosmf) = (site.apiml.login_token("USER"), site.zosmf.jwt("USER"));
    for token in [&apiml, &zosmf] {
        assert_eq!(site.get(token).await, user());
    }
    site.apiml.take_requests();
    site.zosmf.take_requests();
    assert_eq!(site.auth("logout", &apiml).await.0, 204);
    assert!(!site.apiml.accepts(&apiml) && site.zosmf.accepts(&zosmf));
    assert_eq!(site.apiml.take_requests(), ["POST /gateway/api/v1/auth/logout"]);
    assert_eq!(site.auth("logout", &zosmf).await.0, 204);
    assert!(!site.zosmf.accepts(&zosmf));
    assert_eq!(site.zosmf.take_requests(), ["DELETE /zosmf/services/authenticate"]);
    for token in [&apiml, &zosmf] {
        assert_eq!(site.get(token).await, refused(401));
        assert_eq!(site.auth("logout", token).await.0, 401);
    }
    // The logout of the gateway's own token is not relayed.
    let own = site.demo.login().await;
    site.apiml.take_requests();
    assert_eq!(site.auth("logout", &own).await.0, 204);
    assert_eq!(site.apiml.take_requests(), [""; 0]);

    // If the issuer does not confirm the logout, the client gets 503. This gateway still refuses the token.
    let apiml = site.apiml.login_token("USER");
    assert_eq!(site.get(&apiml).await, user());
    let page = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>";
    site.apiml.behave(Behaviour::Scripted(vec![Step::send(page)]));
    assert_eq!(site.auth("logout", &apiml).await.0, 503);
    site.demo.program.logged("the user could not be logged out at the issuer");
    site.apiml.behave(Behaviour::Right);
    assert!(site.apiml.accepts(&apiml));
    assert_eq!(site.get(&apiml).await, refused(401));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_while_the_issuer_is_down_revokes_the_token() {
    let site = Site::start("").await;
    let down = || Behaviour::Scripted(vec![]);
    // With these requests, the gateway fetches the keys of both issuers.
    for token in [site.apiml.login_token("USER"), site.zosmf.jwt("USER")] {
        assert_eq!(site.get(&token).await, user());
    }
    // The following tokens are new, so the cache of the gateway contains no answer about them.
    let token = site.apiml.login_token("USER");
    site.apiml.behave(down());
    assert_eq!(site.auth("logout", &token).await.0, 503);
    site.apiml.behave(Behaviour::Right);
    assert!(site.apiml.accepts(&token));
    assert_eq!(site.get(&token).await, refused(401));

    let token = site.zosmf.jwt("USER");
    site.zosmf.behave(down());
    assert_eq!(site.auth("logout", &token).await.0, 503);
    site.zosmf.behave(Behaviour::Right);
    assert!(site.zosmf.accepts(&token));
    assert_eq!(site.get(&token).await, refused(401));
}

#[tokio::test(flavor = "multi_thread")]
async fn refresh_accepts_only_tokens_of_the_gateway() {
    let site = Site::start("").await;
    let client = site.demo.client_of("USER");
    let refresh = async |token: &str| {
        let request = client.post(site.demo.auth("refresh")).bearer_auth(token);
        request.send().await.unwrap().status().as_u16()
    };
    for token in [site.apiml.login_token("USER"), site.zosmf.jwt("USER")] {
        assert_eq!(refresh(&token).await, 401);
        assert_eq!(site.auth("query", &token).await.0, 200);
    }
    assert_eq!(refresh(&site.demo.login().await).await, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_z_osmf_are_validated_by_z_osmf() {
    let mut site = Site::start("").await;
    let valid = site.zosmf.jwt("USER");
    assert_eq!(site.get(&valid).await, user());
    let (status, content) = site.auth("query", &valid).await;
    assert_eq!(
        (status, &content["userId"], &content["domain"]),
        (200, &json!("USER"), &Value::Null)
    );
    site.zosmf.take_requests();
    assert_eq!(site.get(&valid).await, user());
    assert_eq!(site.zosmf.take_requests(), [""; 0]);

    let ended = site.zosmf.jwt("USER");
    site.zosmf.end(&ended);
    assert_eq!(site.get(&ended).await, refused(401));
    assert_eq!(site.auth("query", &ended).await.0, 401);

    // z/OSMF sends wrong answers and late answers. At the end, it is stopped.
    for behaviour in wrong() {
        site.zosmf.behave(behaviour.clone());
        let token = site.zosmf.jwt("USER");
        assert_eq!(site.get(&token).await, refused(503), "{behaviour:?}");
        assert_eq!(site.auth("query", &token).await.0, 503, "{behaviour:?}");
    }
    site.zosmf.behave(Behaviour::Right);
    assert_eq!(site.get(&site.zosmf.jwt("USER")).await, user());
    let token = site.zosmf.jwt("USER");
    site.zosmf.stop().await;
    assert_eq!(site.get(&token).await, refused(503));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_api_ml_fails_its_tokens_get_503_and_tokens_of_the_gateway_are_accepted() {
    let mut site = Site::start("checkLogoutSeconds: 0").await;
    let own = site.demo.login().await;
    let token = site.apiml.login_token("USER");
    assert_eq!(site.get(&token).await, user());
    for behaviour in wrong() {
        site.apiml.behave(behaviour.clone());
        let token = site.apiml.login_token("USER");
        assert_eq!(site.get(&token).await, refused(503), "{behaviour:?}");
        assert_eq!(site.auth("query", &token).await.0, 503, "{behaviour:?}");
    }
    site.apiml.stop().await;
    assert_eq!(site.get(&site.apiml.login_token("USER")).await, refused(503));
    assert_eq!(site.get(&own).await, user());
}

/// Returns answers that do not say whether a token is valid.
fn wrong() -> Vec<Behaviour> {
    let send = |text: &str| Behaviour::Scripted(vec![Step::send(text)]);
    vec![
        send("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>"),
        send("HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n"),
        send("HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n"),
        send("HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n"),
        send("\x16\x03\x01 no HTTP\r\n\r\n"),
        Behaviour::Slow(Duration::from_secs(60)),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signing_key_that_is_also_the_key_of_api_ml_causes_a_warning() {
    let mut site = Site::start("checkLogoutSeconds: 0").await;
    let token = site.apiml.login_token("USER");
    site.apiml.end(&token);
    assert_eq!(site.get(&token).await, refused(401));
    let path = site.demo.directory.join("keys/jwt.pem");
    fs::remove_file(&path).unwrap();
    fs::write(&path, pki::OTHER_SIGNING_KEY).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    site.demo = tokio::task::spawn_blocking(move || site.demo.restarted()).await.unwrap();
    site.demo.program.logged("the key of API ML is a signing key of this gateway");
    // The gateway treats the token of API ML as its own, so it does not ask API ML.
    assert_eq!(site.get(&token).await, user());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_signing_key_of_api_ml_its_tokens_get_503() {
    /// Starts an API ML whose certificate has a key that is not in its list of public keys.
    async fn other() -> Fake {
        let certificates = Authority::trusted().pem().to_owned();
        Fake::https(SERVER.acceptor(), move |request| match &*request.path {
            "/gateway/certificates" => test_support::fake::Answer::text(200, &certificates),
            _ => test_support::fake::Answer::json(
                200,
                &json!({ "keys": [jws::jwk(pki::OTHER_SIGNING_KEY)] }),
            ),
        })
        .await
    }

    let fake = other().await;
    let mut site = Site::start("").await;
    let port = site.apiml.address.port().to_string();
    let path = site.demo.directory.join("zowe.yaml");
    let yaml = fs::read_to_string(&path).unwrap();
    let yaml = yaml.replace(
        &format!("https://localhost:{port}"),
        &format!("https://localhost:{}", fake.address.port()),
    );
    fs::write(&path, yaml).unwrap();
    site.demo = tokio::task::spawn_blocking(move || site.demo.restarted()).await.unwrap();
    site.demo.program.logged("the keys of an issuer could not be fetched");
    assert_eq!(site.get(&site.apiml.login_token("USER")).await, refused(503));
}
