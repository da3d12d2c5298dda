//! Tests of revocations that the gateway shares with a running API ML (Zowe's gateway) through Zowe's Caching Service.
//! The service is a fake. The tests contain their own copy of Zowe's hash functions.

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha512};
use test_support::{
    PATIENCE, Running,
    caching_service::{FakeCachingService, Layout},
    fake::Behaviour,
    pki::{self, Identity},
};
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};
use tower_passticket::clock::{Clock, SystemClock};

use crate::support::{Demo, PROGRAM, admin_address, metric, user_service, with_site};

const SALT: &str = "AAECAwQFBgcICQoLDA0ODw==";

/// A gateway, and a Caching Service that contains a salt.
struct Site {
    demo: Demo,
    caching: FakeCachingService,
    admin: SocketAddr,
    client: reqwest::Client,
}

/// Writes the files of a gateway with the client certificate of `APIMTST`. Returns its zowe.yaml.
fn configured(directory: &Path, yaml: &str, service: &str, port: u16, revocations: &str) -> String {
    let yaml = with_site(directory, yaml, service);
    fs::write(directory.join("certs/client.pem"), pki::APIMTST.certificate).unwrap();
    // This overwrites an existing file and keeps its mode: only its owner can read it.
    fs::write(directory.join("certs/USER.key"), pki::APIMTST.key).unwrap();
    yaml + &format!(
        "    onFailure: reject
    admin: {{port: 0}}
    timeouts: {{providerSeconds: 3}}
    zowe:
      url: https://localhost:{port}
      clientCertificate: {{certificate: certs/client.pem, key: certs/USER.key}}
      revocations: {revocations}
"
    )
}

impl Site {
    async fn start(layout: Layout, revocations: &'static str) -> Self {
        let caching = FakeCachingService::https(layout, &pki::APIMTST).await;
        caching.store().set_salt(Some(SALT));
        let (service, port) = (user_service().await, caching.address.port());
        let mut demo = Demo::beside_servers(move |directory, yaml| {
            configured(directory, &yaml, &service, port, revocations)
        })
        .await;
        let admin = admin_address(&mut demo.program);
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        Self { demo, caching, admin, client }
    }

    async fn get(&self, token: &str) -> u16 {
        let url = self.demo.at("/svc/api/v1/x");
        let response = self.demo.client().get(url).bearer_auth(token).send().await.unwrap();
        response.status().as_u16()
    }

    async fn wait_for(&self, token: &str, status: u16) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let got = self.get(token).await;
            if got == status {
                return;
            }
            assert!(Instant::now() < deadline, "the status is still {got}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn call(&self, method: Method, path: &str, body: &Value) -> u16 {
        let request = self.demo.client().request(method, self.demo.auth(path)).json(body);
        request.send().await.unwrap().status().as_u16()
    }

    async fn revoke(&self, pat: &str) -> u16 {
        let body = json!({ "token": pat });
        self.call(Method::DELETE, "access-token/revoke", &body).await
    }

    async fn health(&self) -> Value {
        let response = self.client.get(format!("http://{}/health", self.admin)).send().await;
        response.unwrap().json::<Value>().await.unwrap()["components"]["zoweRevocations"].clone()
    }

    async fn metric(&self, series: &str) -> i64 {
        metric(&self.client, self.admin, series).await
    }
}

/// Returns the SHA-512 hash of the salt and the value, as the class ApimlAccessTokenProvider of API ML computes it.
fn zowe_hash(value: &str) -> String {
    let salt = BASE64_STANDARD.decode(SALT).unwrap();
    let digest = Sha512::digest([&salt, value.as_bytes()].concat());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn now() -> String {
    SystemClock.now().as_millis().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pat_that_api_ml_revokes_is_refused_in_both_modes() {
    for (layout, revocations) in [
        (Layout::Maps, "{mode: index, seconds: 1}"),
        (Layout::Entries, "{mode: query, seconds: 0}"),
    ] {
        let site = Site::start(layout, revocations).await;
        let (login, other) = (site.demo.login().await, site.demo.pat(&["other"]).await);
        for (list, key) in [
            ("invalidTokens", None),
            ("invalidUsers", Some("USER")),
            ("invalidScopes", Some("svc")),
        ] {
            let pat = site.demo.pat(&["svc"]).await;
            assert_eq!(site.get(&pat).await, 200, "{layout:?} {list}");
            let key = zowe_hash(key.unwrap_or(&pat));
            site.caching.store().put(list, &key, &now());
            site.wait_for(&pat, 401).await;
            let body = json!({"token": pat, "serviceId": "svc"});
            let status = site.call(Method::POST, "access-token/validate", &body).await;
            assert_eq!(status, 401, "{layout:?} {list}");
            // The rules in the Caching Service do not apply to login tokens.
            assert_eq!(site.get(&login).await, 200);
            // After this pause, the next token is newer than the rule.
            sleep(Duration::from_millis(2)).await;
        }
        let body = json!({"token": other, "serviceId": "other"});
        let status = site.call(Method::POST, "access-token/validate", &body).await;
        assert_eq!(status, 401, "the rule for the user applies to all its tokens");
        assert_eq!(site.health().await["status"], "UP");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn api_ml_finds_a_revocation_of_the_gateway() {
    for (layout, revocations) in [
        (Layout::Maps, "{mode: index, write: true}"),
        (Layout::Entries, "{mode: query, write: true}"),
    ] {
        let site = Site::start(layout, revocations).await;
        let pat = site.demo.pat(&["svc"]).await;
        assert_eq!(site.get(&pat).await, 200);
        assert_eq!(site.revoke(&pat).await, 200);
        assert_eq!(site.get(&pat).await, 401);
        let value = site.caching.store().get("invalidTokens", &zowe_hash(&pat)).unwrap().to_owned();
        let value: Value = serde_json::from_str(&value).unwrap();
        assert_eq!(value["tokenValue"], zowe_hash(&pat));
        assert_eq!(value["expiresAt"].as_array().unwrap().len(), 6);

        let before = SystemClock.now().as_millis();
        let request = site.demo.client().delete(site.demo.auth("access-token/revoke/tokens"));
        let request = request.basic_auth("USER", Some("validPassword")).json(&json!({}));
        assert_eq!(request.send().await.unwrap().status(), 200);
        for spelling in ["USER", "user"] {
            let rule =
                site.caching.store().get("invalidUsers", &zowe_hash(spelling)).unwrap().to_owned();
            assert!(rule.parse::<u64>().unwrap() >= before, "{rule}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pats_are_refused_while_the_caching_service_is_down() {
    for (layout, revocations) in [
        (Layout::Maps, "{mode: index, seconds: 1}"),
        (Layout::Entries, "{mode: query, seconds: 0}"),
    ] {
        let site = Site::start(layout, revocations).await;
        let (pat, login) = (site.demo.pat(&["svc"]).await, site.demo.login().await);
        assert_eq!(site.get(&pat).await, 200);
        site.caching.behave(Behaviour::Scripted(vec![]));
        site.wait_for(&pat, 503).await;
        assert_eq!(site.get(&login).await, 200);
        assert_eq!(site.health().await["status"], "DOWN");
        assert!(site.metric("passticket_zowe_revocation_read_errors_total").await > 0);
        site.caching.behave(Behaviour::Right);
        site.wait_for(&pat, 200).await;
        assert_eq!(site.health().await["status"], "UP");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_the_caching_service_drops_is_reported_and_repeated() {
    let site = Site::start(Layout::Maps, "{mode: index, write: true}").await;
    site.caching.store().drops = 1000;
    let pat = site.demo.pat(&["svc"]).await;
    assert_eq!(site.revoke(&pat).await, 503);
    // The gateway itself already applies the revocation.
    assert_eq!(site.get(&pat).await, 401);
    let health = site.health().await;
    assert_eq!(health["status"], "DOWN");
    assert!(health["reason"].as_str().unwrap().contains("1 revocations wait for API ML"));
    assert_eq!(site.metric("passticket_zowe_revocation_waiting_writes").await, 1);
    site.caching.store().drops = 0;
    let deadline = Instant::now() + PATIENCE;
    while site.metric("passticket_zowe_revocation_waiting_writes").await > 0 {
        assert!(Instant::now() < deadline);
        sleep(Duration::from_millis(50)).await;
    }
    assert!(site.caching.store().get("invalidTokens", &zowe_hash(&pat)).is_some());
    assert_eq!(site.health().await["status"], "UP");
}

/// Runs `check --live`, and then `serve`, with the same configuration. Returns the exit code and the log of `serve`,
/// and the exit code and the output of `check --live`.
async fn started(
    caching: &FakeCachingService,
    revocations: &'static str,
) -> ((Option<i32>, String), (Option<i32>, String)) {
    let (service, port) = (user_service().await, caching.address.port());
    spawn_blocking(move || {
        let Demo { program, directory, _temporary, .. } = Demo::start();
        drop(program);
        let path = directory.join("zowe.yaml");
        let yaml = crate::support::with_any_port(&fs::read_to_string(&path).unwrap());
        fs::write(&path, configured(&directory, &yaml, &service, port, revocations)).unwrap();
        let path = path.to_str().unwrap();
        let live = std::process::Command::new(PROGRAM)
            .args(["check", "--config", path, "--live"])
            .output()
            .unwrap();
        let live = (live.status.code(), String::from_utf8(live.stdout).unwrap());
        let mut program = Running::start(PROGRAM, &["serve", "--config", path]);
        if program.logged_before_end("listening").is_some() {
            program.signal("-TERM");
        }
        let (status, log) = program.wait();
        ((status.code(), log), live)
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_with_a_wrong_partition_or_storage_is_refused() {
    let service = async |layout, api_ml: &Identity, salt| {
        let caching = FakeCachingService::https(layout, api_ml).await;
        caching.store().set_salt(salt);
        caching
    };
    let index = "{mode: index}";
    // The Caching Service has separate data for each client certificate. The gateway does not have the certificate of
    // API ML, so it does not see the data of API ML.
    let caching = service(Layout::Maps, &pki::USER, Some(SALT)).await;
    let ((code, log), (live_code, live)) = started(&caching, index).await;
    assert_eq!(code, Some(3), "{log}");
    assert!(log.contains("zowe.revocations: the Caching Service has no salt"), "{log}");
    assert!(live_code == Some(1) && live.contains("ZWECS131E"), "{live}");

    let caching = service(Layout::Maps, &pki::APIMTST, Some(SALT)).await;
    let ((code, log), (_, live)) = started(&caching, "{mode: query}").await;
    assert!(code == Some(3) && log.contains("set zowe.revocations.mode: index"), "{log}");
    assert!(live.contains("set zowe.revocations.mode: index"), "{live}");

    caching.store().is_infinispan = false;
    let ((code, log), _) = started(&caching, index).await;
    assert!(code == Some(3) && log.contains("set caching.storage.mode: infinispan"), "{log}");

    caching.store().trusts_clients = false;
    let ((code, log), _) = started(&caching, index).await;
    assert!(code == Some(3) && log.contains("refuses the client certificate"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_reads_the_caching_service_and_creates_no_salt() {
    let caching = FakeCachingService::https(Layout::Entries, &pki::APIMTST).await;
    let (service, port) = (user_service().await, caching.address.port());
    let demo = Demo::start();
    let path = demo.directory.join("zowe.yaml");
    let yaml = fs::read_to_string(&path).unwrap();
    let revocations = "{mode: query, write: true, createSalt: true}";
    fs::write(&path, configured(&demo.directory, &yaml, &service, port, revocations)).unwrap();
    let explain = || {
        let mut explain = std::process::Command::new(PROGRAM);
        explain.args(["explain", "--live", "--user", "USER", "--config"]).arg(&path);
        let output = explain.args(["GET", "/svc/api/v1/x"]).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    let (code, text) = explain();
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("ZWECS131E"), "{text}");
    assert_eq!(caching.store().salt(), None);
    caching.store().set_salt(Some(SALT));
    let (code, text) = explain();
    assert_eq!(code, Some(0), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_start_logs_what_it_has_found_in_the_caching_service() {
    let caching = FakeCachingService::https(Layout::Entries, &pki::APIMTST).await;
    // `serve` creates a salt. `check --live` does not.
    let ((code, log), (_, live)) = started(&caching, "{mode: query, createSalt: true}").await;
    assert!(live.contains("ZWECS131E"), "{live}");
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("salt: Base64 of 16 bytes, created now"), "{log}");
    let salt = caching.store().salt().unwrap().to_owned();
    assert_eq!(BASE64_STANDARD.decode(salt).unwrap().len(), 16);
    let ((code, log), (_, live)) = started(&caching, "{mode: query}").await;
    assert_eq!(code, Some(0), "{log}");
    let want = "partition \"CN=Zowe Service,OU=API Mediation Layer\"; salt: Base64 of 16 bytes; layout: one entry for \
                each revocation (3.6 or later)";
    assert!(live.contains(want), "{live}");

    // The gateway also starts if the Caching Service does not answer.
    caching.behave(Behaviour::Scripted(vec![]));
    let ((code, log), _) = started(&caching, "{mode: query}").await;
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("Personal Access Tokens are refused until it answers"), "{log}");
}
