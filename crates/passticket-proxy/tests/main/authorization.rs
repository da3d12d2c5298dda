//! Authorization: delegated PassTickets, changes of permissions, providers that fail, and the audit.

use std::{
    convert::Infallible,
    fs,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use crate::support::Demo;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use test_support::{
    PATIENCE,
    pki::{Authority, SERVER},
    raw::listener,
};
use tokio::time::sleep;
use tower_passticket::{
    identity::PeerCertificate,
    tls::{Server, ServerTls},
};

/// Requests a delegated PassTicket; returns status, message number and the whole body.
async fn delegate(demo: &Demo, client: &Client, body: &Value) -> (u16, String, Value) {
    let request = client.post(demo.auth("delegate/passticket")).json(body);
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let answer: Value = response.json().await.unwrap();
    let number = answer["messages"][0]["messageNumber"].as_str().unwrap_or_default();
    (status, number.to_owned(), answer)
}

fn ask(email: &str) -> Value {
    json!({ "applId": "ZOWEAPPL", "emailId": email })
}

/// Waits until the audit has `count` records that match `are`; returns them.
async fn audited(demo: &Demo, count: usize, are: impl Fn(&Value) -> bool) -> Vec<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = fs::read_to_string(demo.directory.join("audit.jsonl")).unwrap();
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let records = whole.map(|line| serde_json::from_str::<Value>(line).unwrap());
        let records: Vec<_> = records.filter(&are).collect();
        if records.len() >= count {
            assert_eq!(records.len(), count, "{text}");
            return records;
        }
        assert!(Instant::now() < deadline, "{text}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_delegated_ticket_opens_the_service_and_every_call_is_audited() {
    let demo = Demo::start();
    let user = demo.client_of("USER");
    let (status, _, answer) = delegate(&demo, &user, &ask("User@Example.com")).await;
    assert_eq!((status, &answer["tsoUserid"]), (200, &json!("USER")), "{answer}");
    let ticket = answer["passticket"].as_str().unwrap();
    // The service accepts it on a route without single sign-on.
    let request = demo.client().get(demo.at("/dcbypass/api/v1/passticketTest"));
    let response = request.basic_auth("USER", Some(ticket)).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.json::<Value>().await.unwrap()["user"], "USER");

    let no_key = json!({ "applId": "NOKEY", "emailId": "user@example.com" });
    for (client, body, want) in [
        (demo.client_of("APIMTST"), ask("user@example.com"), (403, "ZWEAT403E")),
        (demo.client(), ask("user@example.com"), (401, "ZWEAG167E")),
        (user.clone(), ask("nobody@example.com"), (404, "ZWEAG161E")),
        (user.clone(), ask("user@example.com@example.com"), (400, "ZWEAO400E")),
        (user.clone(), ask(&format!("{}@example.com", "a".repeat(300))), (400, "ZWEAO400E")),
        // The caller may only obtain PassTickets for another application.
        (user.clone(), no_key, (403, "ZWEAT403E")),
    ] {
        let (status, number, answer) = delegate(&demo, &client, &body).await;
        assert_eq!((status, number.as_str()), want, "{body} {answer}");
        assert!(answer.get("passticket").is_none());
    }
    let records = audited(&demo, 7, |record| record["event"] == "delegated-ticket").await;
    let brief = |name: &str| records.iter().map(|r| r[name].clone()).collect::<Vec<_>>();
    let none = Value::Null;
    let texts = |texts: [&str; 7]| {
        texts.map(|text| if text.is_empty() { none.clone() } else { text.into() }).to_vec()
    };
    assert_eq!(brief("user"), texts(["USER", "APIMTST", "", "USER", "USER", "USER", "USER"]));
    assert_eq!(brief("target"), texts(["USER", "", "", "", "", "", ""]));
    let reasons = [
        "",
        "saf-refused",
        "no-credential",
        "no-user",
        "bad-request",
        "bad-request",
        "applid-not-allowed",
    ];
    assert_eq!(brief("reason"), texts(reasons));
    assert_eq!(records[0]["outcome"], "success");
    assert_eq!(records[0]["certificate"]["subject"], "CN=USER");
    assert_eq!(records[3]["email"], "nobody@example.com");
    assert_eq!(records[6]["applid"], "NOKEY");
    let log = fs::read_to_string(demo.directory.join("audit.jsonl")).unwrap();
    assert!(!log.contains(ticket), "{log}");
}

#[tokio::test]
async fn a_change_of_permissions_takes_effect_and_a_broken_file_changes_nothing() {
    let mut demo = Demo::start();
    let get = |demo: &Demo| demo.client_of("USER").get(demo.at("/dcpassticket/api/v1/request"));
    let failure = async |demo: &Demo| {
        let response = get(demo).send().await.unwrap();
        let failure = response.headers().get("x-zowe-auth-failure");
        failure.map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(failure(&demo).await, None);
    let path = demo.directory.join("saf.yml");
    let good = fs::read_to_string(&path).unwrap();
    fs::write(&path, good.replace("IRRPTAUTH.ZOWEAPPL.*", "IRRPTAUTH.ZOWEAPPL.O*")).unwrap();
    demo.program.logged("permissions reloaded");
    let reason = failure(&demo).await.unwrap();
    let text = "ZWEAG141E The generation of the PassTicket failed. Reason: Not authorized to use";
    assert!(reason.starts_with(text), "{reason}");
    let line = demo.program.logged("no PassTicket");
    for part in ["USER", "ZOWEAPPL", "dcpassticket", "8/8/16"] {
        assert!(line.contains(part), "{line}");
    }
    fs::write(&path, "safAccess: [").unwrap();
    demo.program.logged("permissions not reloaded");
    assert!(failure(&demo).await.is_some());
    fs::write(&path, good).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while failure(&demo).await.is_some() {
        assert!(Instant::now() < deadline);
        sleep(Duration::from_millis(100)).await;
    }
}

/// How the provider behaves.
const RIGHT: u8 = 0;
const BROKEN: u8 = 1;
const NONSENSE: u8 = 2;
const SILENT: u8 = 3;

/// The part of ZSS that a gateway uses: `USER` has all permissions, and `user@example.com` is `USER`.
async fn zss(request: Request<Incoming>, mode: Arc<AtomicU8>) -> Response<Full<Bytes>> {
    let answer = |status: u16, body: Value| {
        Response::builder().status(status).body(Full::from(body.to_string())).unwrap()
    };
    match mode.load(Ordering::Relaxed) {
        BROKEN => return answer(500, json!({ "authorized": true, "error": false })),
        NONSENSE => return answer(200, json!("yes")),
        SILENT => std::future::pending().await,
        _ => {}
    }
    let (request, body) = request.into_parts();
    let cookie = request.headers["cookie"].to_str().unwrap().to_owned();
    let token = cookie.strip_prefix("apimlAuthenticationToken=").unwrap();
    let claims = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let asking = serde_json::from_slice::<Value>(&claims).unwrap()["sub"].clone();
    let body = body.collect().await.unwrap().to_bytes();
    let mapped = |user: Option<&str>| {
        let reason = if user.is_some() { 0 } else { 48 };
        let code = if user.is_some() { 0 } else { 8 };
        answer(
            200,
            json!({
                "userid": user.unwrap_or_default(), "returnCode": code, "safReturnCode": code,
                "racfReturnCode": code, "racfReasonCode": reason,
            }),
        )
    };
    match request.uri.path() {
        "/zss/x509/map" => {
            assert_eq!(asking, "ZWESVUSR");
            let certificate = PeerCertificate::from_der(body).unwrap();
            mapped(certificate.common_name().filter(|name| *name != "APIMTST"))
        }
        "/zss/dn" => {
            let asked: Value = serde_json::from_slice(&body).unwrap();
            let known = asked == json!({ "dn": "user@example.com", "registry": "demo" });
            mapped(known.then_some("USER"))
        }
        path => {
            let known = ["APIML.SERVICES/UPDATE", "APIML.DELEGATE.PASSTICKET/READ"];
            let known = known.iter().any(|one| path == format!("/zss/saf/{one}"));
            let authorized = known && asking == "USER";
            answer(200, json!({ "authorized": authorized, "error": false, "message": "" }))
        }
    }
}

#[tokio::test]
async fn a_failure_of_a_provider_is_not_a_refusal() {
    let (listener, address) = listener().await;
    let zss_url = format!("https://localhost:{}/zss", address.port());
    let demo = Demo::reconfigured(|yaml| {
        let yaml = yaml.replace("  identities: identities.yml\n", "");
        let registry = yaml.lines().find(|line| line.contains("registry:")).unwrap().to_owned();
        yaml.replace(
            &registry,
            &format!("          registry: demo\n          identityMapperUrl: {zss_url}/dn"),
        )
        .replace(
            "        x509:\n",
            &format!(
                "        authorization:\n          provider: endpoint\n          endpoint:\n            \
                 url: {zss_url}/saf\n        x509:\n          externalMapperUrl: {zss_url}/x509/map\n"
            ),
        )
        .replace("passticketProxy:\n", "passticketProxy:\n  timeouts: { providerSeconds: 1 }\n")
    });
    let mode = Arc::new(AtomicU8::new(RIGHT));
    let pem = |name: &str| fs::read(demo.directory.join("certs").join(name)).unwrap();
    let tls = ServerTls::from_pem(&pem("localhost.pem"), &pem("localhost.key"), None).unwrap();
    let service = tower::service_fn({
        let mode = mode.clone();
        move |request| {
            let mode = mode.clone();
            async move { Ok::<_, Infallible>(zss(request, mode).await) }
        }
    });
    tokio::spawn(Server::https(listener, tls).run(service, std::future::pending()));

    let user = demo.client_of("USER");
    // A permission that no cache has yet.
    let evict = async |client: &Client| {
        client.delete(demo.auth("access-token/evict")).send().await.unwrap().status()
    };
    // The certificate cannot be mapped, which is not the client's fault.
    for broken in [BROKEN, NONSENSE, SILENT] {
        mode.store(broken, Ordering::Relaxed);
        // The gateway caches an error for a second.
        sleep(Duration::from_millis(1100)).await;
        let started = Instant::now();
        assert_eq!(evict(&user).await, StatusCode::SERVICE_UNAVAILABLE, "{broken}");
        let (status, ..) = delegate(&demo, &user, &ask("user@example.com")).await;
        assert_eq!(status, 503, "{broken}");
        assert!(started.elapsed() < Duration::from_secs(10));
        let routed = user.get(demo.at("/dcpassticket/api/v1/request")).send().await.unwrap();
        let failed = routed.headers()["x-zowe-auth-failure"].to_str().unwrap();
        assert!(!failed.is_empty(), "{broken}");
    }
    // After that, the gateway asks the provider again.
    mode.store(RIGHT, Ordering::Relaxed);
    sleep(Duration::from_millis(1100)).await;
    let login = user.post(demo.auth("login")).send().await.unwrap();
    assert_eq!(login.status(), 204);
    // The certificate is mapped, but the check fails.
    for (broken, want) in [(BROKEN, 503), (NONSENSE, 500), (SILENT, 503)] {
        mode.store(broken, Ordering::Relaxed);
        sleep(Duration::from_millis(1100)).await;
        assert_eq!(evict(&user).await, want, "{broken}");
    }
    mode.store(RIGHT, Ordering::Relaxed);
    sleep(Duration::from_millis(1100)).await;
    assert_eq!(evict(&user).await, 204);
    assert_eq!(delegate(&demo, &user, &ask("user@example.com")).await.0, 200);
    assert_eq!(delegate(&demo, &user, &ask("other@example.com")).await.0, 404);
    // This certificate is mapped to no user.
    assert_eq!(evict(&demo.client_of("APIMTST")).await, 401);
    // Permissions for PassTickets come from the file, not from the endpoint.
    let routed = user.get(demo.at("/dcpassticket/api/v1/request")).send().await.unwrap();
    assert!(!routed.headers().contains_key("x-zowe-auth-failure"));
}

/// The client gets 503 for all of them. The operator needs to know the cause.
#[tokio::test]
async fn the_log_has_the_cause_of_a_failed_provider() {
    let (listener, address) = listener().await;
    let url = format!("https://localhost:{}/saf", address.port());
    let mut demo = Demo::reconfigured(|yaml| {
        let keys = format!("authorization: {{ provider: endpoint, endpoint: {{ url: '{url}' }} }}");
        yaml.replace("        x509:\n", &format!("        {keys}\n        x509:\n"))
            .replace("passticketProxy:\n", "passticketProxy:\n  timeouts: { providerSeconds: 1 }\n")
    });
    let client = demo.client();
    let evict = async |url: String| {
        // The gateway caches an error for a second.
        sleep(Duration::from_millis(1100)).await;
        let request = client.delete(url).basic_auth("USER", Some("validPassword"));
        assert_eq!(request.send().await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
    };
    let mut logged = |text: &str| {
        let line = demo.program.logged(text);
        assert!(line.contains(&url) && line.contains("not available"), "{line}");
    };
    let at = format!("{}/gateway/api/v1/auth/access-token/evict", demo.url);

    // The system accepts the connection, and no server answers.
    evict(at.clone()).await;
    logged("no response within 1s");

    let foreign = Authority::stranger().certify(&SERVER.key_pair(), |_| {});
    let tls = ServerTls::from_pem(foreign.as_bytes(), SERVER.key.as_bytes(), None);
    let server = Server::https(listener, tls.unwrap()).with_drain_timeout(Duration::ZERO);
    let service = tower::service_fn(async |_: Request<Incoming>| {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
    });
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(server.run(service, async {
        let _ = ended.await;
    }));
    evict(at.clone()).await;
    logged("invalid peer certificate");

    end.send(()).unwrap();
    server.await.unwrap();
    evict(at).await;
    logged("Connection refused");
}
