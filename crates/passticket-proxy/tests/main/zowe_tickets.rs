//! Tests of PassTickets (short-lived passwords of z/OS) that a running Zowe makes (`source: zowe`). The ticket endpoint
//! of API ML (Zowe's gateway) is a fake.

use std::{collections::HashSet, fs, path::Path, time::Duration};

use crate::support::Demo;
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use reqwest::Response;
use serde_json::{Value, json};
use test_support::{
    apiml_tickets::FakeTickets,
    fake::{Answer, Behaviour, Fake},
    pki::{self, Authority},
    raw::Step,
    tickets,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

struct Site {
    demo: Demo,
    service: Fake,
    zowe: FakeTickets,
}

impl Site {
    /// Starts the gateway. `replay_protection` is a setting of its entry in `ptktdata`. `more` contains settings of the
    /// section `zowe`.
    async fn start(replay_protection: bool, more: &'static str) -> Self {
        let service = Fake::https(pki::SERVER.acceptor(), |_| Answer::text(200, "ok")).await;
        let zowe = FakeTickets::https(tickets::key_profile("ZOWEAPPL")).await;
        let (service_port, zowe_port) = (service.address.port(), zowe.address.port());
        let prepare = move |directory: &Path, yaml: String| {
            let write = |name: &str, text: &str| fs::write(directory.join(name), text).unwrap();
            write("certs/other.pem", Authority::trusted().pem());
            write("certs/client.pem", pki::APIMTST.certificate);
            // This overwrites an existing file and keeps its mode: only its owner can read it.
            write("certs/USER.key", pki::APIMTST.key);
            let route = |id: &str, applid: &str| {
                format!(
                    "  - serviceId: {id}\n    instanceBaseUrls: ['https://localhost:{service_port}']\n    \
                     routes: [{{gatewayUrl: api/v1}}]\n    \
                     authentication: {{scheme: httpBasicPassTicket, applid: {applid}}}\n"
                )
            };
            let routes = format!("services:\n{}{}", route("svc", "ZOWEAPPL"), route("no", "NOKEY"));
            write("api-defs/demo.yml", &routes);
            let entries = yaml.find("    ptktdata:\n").unwrap();
            let yaml = yaml[..entries].replace("certs/ca.pem", "[certs/ca.pem, certs/other.pem]");
            format!(
                "{yaml}    ptktdata:
      - {{applid: ZOWEAPPL, source: zowe, replayProtection: {replay_protection}}}
      - {{applid: NOKEY, source: zowe}}
    timeouts: {{providerSeconds: 2}}
    zowe:
      url: https://localhost:{zowe_port}
      clientCertificate: {{certificate: certs/client.pem, key: certs/USER.key}}
{more}"
            )
        };
        let demo = Demo::beside_servers(prepare).await;
        Self { demo, service, zowe }
    }

    async fn get(&self, service: &str, token: &str) -> Response {
        let url = self.demo.at(&format!("/{service}/api/v1/x"));
        self.demo.client().get(url).bearer_auth(token).send().await.unwrap()
    }

    /// Returns the user and the PassTicket that the service has received last.
    fn seen(&self) -> (String, String) {
        let request = self.service.requests().pop().unwrap();
        let basic = request.header("authorization").unwrap().strip_prefix("Basic ").unwrap();
        let text = String::from_utf8(BASE64_STANDARD.decode(basic).unwrap()).unwrap();
        let (user, ticket) = text.split_once(':').unwrap();
        (user.to_owned(), ticket.to_owned())
    }
}

fn failure(response: &Response) -> String {
    let header = response.headers().get("x-zowe-auth-failure");
    header.map(|text| text.to_str().unwrap().to_owned()).unwrap_or_default()
}

fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_of_the_user_is_sent_to_zowe() {
    let mut site = Site::start(false, "").await;
    let token = site.demo.login().await;
    assert_eq!(failure(&site.get("svc", &token).await), "");
    let (user, ticket) = site.seen();
    assert_eq!(user, "USER");
    assert!(tickets::is_valid(&tickets::key_profile("ZOWEAPPL"), &user, &ticket));
    let request = site.zowe.requests().pop().unwrap();
    assert_eq!((&*request.method, &*request.path), ("POST", "/gateway/api/v1/auth/ticket"));
    assert_eq!(request.header("authorization"), Some(&*format!("Bearer {token}")));
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(body, json!({"applicationName": "ZOWEAPPL"}));
    // The requests of a user share one PassTicket for five seconds.
    site.zowe.take_requests();
    sleep(Duration::from_millis(5500)).await;
    site.zowe.behave(Behaviour::Slow(Duration::from_millis(300)));
    let request = site.demo.client().get(site.demo.at("/svc/api/v1/x")).bearer_auth(&token);
    let begun = Instant::now();
    let requests = (0..20).map(|_| request.try_clone().unwrap().send());
    for response in requests.collect::<JoinSet<_>>().join_all().await {
        assert_eq!(failure(&response.unwrap()), "");
    }
    // On a slow machine, the requests may take longer than five seconds. Then they need more than one PassTicket.
    let most = 1 + begun.elapsed().as_secs() / 5;
    assert!(site.zowe.take_requests().len() as u64 <= most);
    // The auth API also sends the token of the user to Zowe.
    let ticket = site.demo.client_of("APIMTST").post(site.demo.auth("ticket")).bearer_auth(&token);
    let ticket = ticket.json(&json!({"applicationName": "ZOWEAPPL"})).send().await.unwrap();
    let ticket: Value = ticket.json().await.unwrap();
    assert_eq!(ticket["ticket"].as_str().map(str::len), Some(8));

    // The gateway does not send a Personal Access Token to Zowe.
    let pat = site.demo.pat(&["svc"]).await;
    let text = failure(&site.get("svc", &pat).await);
    assert!(text.ends_with("Reason: Invalid or missing authentication"), "{text}");
    site.demo.program.logged("Zowe makes PassTickets only for users with a login token");
    assert!(failure(&site.get("no", &token).await).contains("Unable to generate PassTicket."));
    site.demo.program.logged("8/16/28");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_replay_protection_the_gateway_calls_zowe_once_a_second() {
    let site = Site::start(true, "    onFailure: reject\n").await;
    let token = site.demo.login().await;
    site.zowe.behave(Behaviour::Slow(Duration::from_millis(1000)));
    let request = site.demo.client().get(site.demo.at("/svc/api/v1/x")).bearer_auth(&token);
    let requests = (0..5).map(|_| request.try_clone().unwrap().send());
    let mut good = 0;
    for response in requests.collect::<JoinSet<_>>().join_all().await {
        let response = response.unwrap();
        if response.status() == 200 {
            good += 1;
        } else {
            assert_eq!(response.status(), 503);
            assert_eq!(response.headers()["retry-after"], "1");
        }
    }
    // Usually exactly one request gets a PassTicket. On a slow machine, more than a second may pass between the
    // requests. Then later requests also get a PassTicket.
    assert!((1..5).contains(&good), "{good}");
    assert_eq!(site.zowe.take_requests().len(), good);
    site.zowe.behave(Behaviour::Right);
    sleep(Duration::from_millis(1100)).await;
    assert_eq!(site.get("svc", &token).await.status(), 200);
    let requests = site.service.requests();
    let tickets: HashSet<_> = requests.iter().map(|r| r.header("authorization")).collect();
    assert_eq!((tickets.len(), requests.len()), (good + 1, good + 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_signs_tokens_only_if_mint_is_on() {
    let site = Site::start(false, "      mint: true\n").await;
    let pat = site.demo.pat(&["svc"]).await;
    assert_eq!(failure(&site.get("svc", &pat).await), "");
    assert_eq!(site.seen().0, "USER");
    let request = site.zowe.requests().pop().unwrap();
    let minted = request.header("authorization").unwrap().strip_prefix("Bearer ").unwrap();
    let claims = claims(minted);
    assert_eq!((&claims["sub"], &claims["iss"]), (&"USER".into(), &"APIML".into()));
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 60);
    let request = site.demo.client_of("APIMTST").get(site.demo.at("/svc/api/v1/x"));
    assert_eq!(failure(&request.send().await.unwrap()), "");
    assert_eq!(site.seen().0, "APIMTST");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_sent_only_to_a_server_whose_certificate_contains_its_name() {
    let site = Site::start(false, "    onFailure: reject\n").await;
    let port = site.zowe.address.port();
    let path = site.demo.directory.join("zowe.yaml");
    let yaml = fs::read_to_string(&path).unwrap();
    let url = format!("https://localhost:{port}");
    assert!(yaml.contains("verifyCertificates: STRICT") && yaml.contains(&url));
    let yaml = yaml.replace("verifyCertificates: STRICT", "verifyCertificates: NONSTRICT");
    // The certificate of the server is for `localhost`.
    fs::write(&path, yaml.replace(&url, &format!("https://127.0.0.1:{port}"))).unwrap();
    let Site { demo, zowe, service } = site;
    let demo = tokio::task::spawn_blocking(move || demo.restarted()).await.unwrap();
    let site = Site { demo, zowe, service };
    let token = site.demo.login().await;
    site.zowe.take_requests();
    assert_eq!(site.get("svc", &token).await.status(), 503);
    assert!(site.zowe.take_requests().is_empty() && site.service.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_correct_answer_of_zowe_in_time_there_is_no_ticket() {
    let site = Site::start(false, "    onFailure: reject\n").await;
    let token = site.demo.login().await;
    let answer = |status: u16, body: &str| {
        let length = body.len();
        let head = format!("HTTP/1.1 {status} x\r\nConnection: close\r\nContent-Length: {length}");
        Behaviour::Scripted(vec![Step::send(format!("{head}\r\n\r\n{body}"))])
    };
    let other = json!({"userId": "OTHER", "ticket": "QHOAH1TV"}).to_string();
    for (name, behaviour, status) in [
        ("ticket of another user", answer(200, &other), 500),
        ("HTML", answer(200, "<html>"), 500),
        ("redirect", answer(302, ""), 500),
        ("token refused", answer(401, "{}"), 401),
        ("certificate refused", answer(403, ""), 500),
        ("huge", answer(200, &"x".repeat(100_000)), 500),
        ("busy", answer(429, ""), 503),
        ("away", answer(503, ""), 503),
        ("no answer", Behaviour::Scripted(vec![Step::Stall]), 503),
        ("closed", Behaviour::Scripted(vec![]), 503),
    ] {
        site.zowe.behave(behaviour);
        let response = site.get("svc", &token).await;
        assert_eq!(response.status(), status, "{name}");
        assert!(failure(&response).starts_with("ZWEAG141E"), "{name}");
        assert_eq!(response.headers().contains_key("retry-after"), status == 503, "{name}");
    }
    assert!(site.service.requests().is_empty());
    site.zowe.behave(Behaviour::Right);
    assert_eq!(site.get("svc", &token).await.status(), 200);
}
