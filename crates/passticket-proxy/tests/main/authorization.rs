//! Tests of authorization: delegated PassTickets, changed permissions, failing providers, and the audit log.
//!
//! With a delegated PassTicket, a caller acts for another user. The caller's request contains the e-mail address of
//! this user. A provider is a server that the gateway asks for permissions and user ids.
//!
//! A PassTicket is a short-lived password of z/OS. SAF is the interface of z/OS for permissions.

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

/// Requests a delegated PassTicket. Returns the status, the message number and the whole body.
async fn delegate(demo: &Demo, client: &Client, body: &Value) -> (u16, String, Value) {
    let request = client.post(demo.auth("delegate/passticket")).json(body);
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let answer: Value = response.json().await.unwrap();
    let number = answer["messages"][0]["messageNumber"].as_str().unwrap_or_default();
    (status, number.to_owned(), answer)
}

fn delegation_of(email: &str) -> Value {
    json!({ "applId": "ZOWEAPPL", "emailId": email })
}

/// Waits until `matches` selects `count` records of the audit log. Returns these records.
async fn audited(demo: &Demo, count: usize, matches: impl Fn(&Value) -> bool) -> Vec<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = fs::read_to_string(demo.directory.join("audit.jsonl")).unwrap();
        let complete_lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let records = complete_lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
        let records: Vec<_> = records.filter(&matches).collect();
        if records.len() >= count {
            assert_eq!(records.len(), count, "{text}");
            return records;
        }
        assert!(Instant::now() < deadline, "{text}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn the_service_accepts_a_delegated_ticket_and_every_call_is_audited() {
    let demo = Demo::start();
    let user = demo.client_of("USER");
    let (status, _, answer) = delegate(&demo, &user, &delegation_of("User@Example.com")).await;
    assert_eq!((status, &answer["tsoUserid"]), (200, &json!("USER")), "{answer}");
    let ticket = answer["passticket"].as_str().unwrap();
    // The route with the scheme bypass forwards the header `Authorization` to the service unchanged.
    let request = demo.client().get(demo.at("/dcbypass/api/v1/passticketTest"));
    let response = request.basic_auth("USER", Some(ticket)).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.json::<Value>().await.unwrap()["user"], "USER");

    let no_key = json!({ "applId": "NOKEY", "emailId": "user@example.com" });
    for (client, body, want) in [
        (demo.client_of("APIMTST"), delegation_of("user@example.com"), (403, "ZWEAT403E")),
        (demo.client(), delegation_of("user@example.com"), (401, "ZWEAG167E")),
        (user.clone(), delegation_of("nobody@example.com"), (404, "ZWEAG161E")),
        (user.clone(), delegation_of("user@example.com@example.com"), (400, "ZWEAO400E")),
        (
            user.clone(),
            delegation_of(&format!("{}@example.com", "a".repeat(300))),
            (400, "ZWEAO400E"),
        ),
        // The configuration lets this caller get PassTickets only for ZOWEAPPL.
        (user.clone(), no_key, (403, "ZWEAT403E")),
    ] {
        let (status, number, answer) = delegate(&demo, &client, &body).await;
        assert_eq!((status, number.as_str()), want, "{body} {answer}");
        assert!(answer.get("passticket").is_none());
    }
    // The record of the request without a certificate is in the file for unauthenticated requests.
    let records = audited(&demo, 6, |record| record["event"] == "delegated-ticket").await;
    let column = |name: &str| records.iter().map(|r| r[name].clone()).collect::<Vec<_>>();
    let none = Value::Null;
    let texts = |texts: [&str; 6]| {
        texts.map(|text| if text.is_empty() { none.clone() } else { text.into() }).to_vec()
    };
    assert_eq!(column("user"), texts(["USER", "APIMTST", "USER", "USER", "USER", "USER"]));
    assert_eq!(column("target"), texts(["USER", "", "", "", "", ""]));
    let reasons =
        ["", "saf-refused", "no-user", "bad-request", "bad-request", "applid-not-allowed"];
    assert_eq!(column("reason"), texts(reasons));
    assert_eq!(records[0]["outcome"], "success");
    assert_eq!(records[0]["certificate"]["subject"], "CN=USER");
    assert_eq!(records[2]["email"], "nobody@example.com");
    assert_eq!(records[5]["applid"], "NOKEY");
    assert_eq!(records[0]["method"], "POST");
    assert_eq!(records[0]["path"], "/gateway/api/v1/auth/delegate/passticket");
    let log = fs::read_to_string(demo.directory.join("audit.jsonl")).unwrap();
    assert!(!log.contains(ticket), "{log}");
}

#[tokio::test]
async fn changed_permissions_take_effect_and_an_invalid_file_changes_nothing() {
    let mut demo = Demo::start();
    let get = |demo: &Demo| demo.client_of("USER").get(demo.at("/dcpassticket/api/v1/request"));
    let failure = async |demo: &Demo| {
        let response = get(demo).send().await.unwrap();
        let failure = response.headers().get("x-zowe-auth-failure");
        failure.map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(failure(&demo).await, None);
    let path = demo.directory.join("saf.yml");
    let original = fs::read_to_string(&path).unwrap();
    fs::write(&path, original.replace("IRRPTAUTH.ZOWEAPPL.*", "IRRPTAUTH.ZOWEAPPL.O*")).unwrap();
    demo.program.logged("permissions reloaded");
    let reason = failure(&demo).await.unwrap();
    let text = "ZWEAG141E The generation of the PassTicket failed. Reason: Not authorized to use";
    assert!(reason.starts_with(text), "{reason}");
    let line = demo.program.logged("no PassTicket");
    // 8/8/16 are the return codes of SAF and RACF for "not authorized".
    for part in ["USER", "ZOWEAPPL", "dcpassticket", "8/8/16"] {
        assert!(line.contains(part), "{line}");
    }
    fs::write(&path, "safAccess: [").unwrap();
    demo.program.logged("configuration not reloaded");
    assert!(failure(&demo).await.is_some());
    fs::write(&path, original).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while failure(&demo).await.is_some() {
        assert!(Instant::now() < deadline);
        sleep(Duration::from_millis(100)).await;
    }
}

// The values of `mode` in [`zss`]: how the provider behaves.
const WORKING: u8 = 0;
const SERVER_ERROR: u8 = 1;
const MALFORMED: u8 = 2;
const SILENT: u8 = 3;

/// Answers as ZSS (Zowe's server on z/OS), which is the provider. It permits `USER` to remove expired revocations and
/// to get PassTickets for other users. It maps each certificate except that of `APIMTST` to its common name, and the
/// e-mail address `user@example.com` to `USER`.
async fn zss(request: Request<Incoming>, mode: Arc<AtomicU8>) -> Response<Full<Bytes>> {
    let answer = |status: u16, body: Value| {
        Response::builder().status(status).body(Full::from(body.to_string())).unwrap()
    };
    match mode.load(Ordering::Relaxed) {
        SERVER_ERROR => return answer(500, json!({ "authorized": true, "error": false })),
        MALFORMED => return answer(200, json!("yes")),
        SILENT => std::future::pending().await,
        _ => {}
    }
    let (request, body) = request.into_parts();
    let cookie = request.headers["cookie"].to_str().unwrap().to_owned();
    let token = cookie.strip_prefix("apimlAuthenticationToken=").unwrap();
    let claims = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let caller = serde_json::from_slice::<Value>(&claims).unwrap()["sub"].clone();
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
            // The gateway calls the provider with its own user id.
            assert_eq!(caller, "ZWESVUSR");
            let certificate = PeerCertificate::from_der(body).unwrap();
            mapped(certificate.common_name().filter(|name| *name != "APIMTST"))
        }
        "/zss/dn" => {
            let identity: Value = serde_json::from_slice(&body).unwrap();
            let known = identity == json!({ "dn": "user@example.com", "registry": "demo" });
            mapped(known.then_some("USER"))
        }
        path => {
            let resources = ["APIML.SERVICES/UPDATE", "APIML.DELEGATE.PASSTICKET/READ"];
            let known = resources.iter().any(|resource| path == format!("/zss/saf/{resource}"));
            let authorized = known && caller == "USER";
            answer(200, json!({ "authorized": authorized, "error": false, "message": "" }))
        }
    }
}

#[tokio::test]
async fn a_failing_provider_causes_a_server_error_and_not_401_or_403() {
    let (listener, address) = listener().await;
    let zss_url = format!("https://localhost:{}/zss", address.port());
    let demo = Demo::reconfigured(|yaml| {
        let yaml = yaml.replace("    identities: identities.yml\n", "");
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
        .replace("  passticket-proxy:\n", "  passticket-proxy:\n    timeouts: { providerSeconds: 1 }\n")
    });
    let mode = Arc::new(AtomicU8::new(WORKING));
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
    // This request removes expired revocations. For this, the user needs the permission UPDATE on APIML.SERVICES.
    let evict = async |client: &Client| {
        client.delete(demo.auth("access-token/evict")).send().await.unwrap().status()
    };
    // While the provider fails, the gateway cannot map the certificate to a user.
    for mode_of_failure in [SERVER_ERROR, MALFORMED, SILENT] {
        mode.store(mode_of_failure, Ordering::Relaxed);
        // The gateway caches an error for a second.
        sleep(Duration::from_millis(1100)).await;
        let started = Instant::now();
        assert_eq!(evict(&user).await, StatusCode::SERVICE_UNAVAILABLE, "{mode_of_failure}");
        let (status, ..) = delegate(&demo, &user, &delegation_of("user@example.com")).await;
        assert_eq!(status, 503, "{mode_of_failure}");
        assert!(started.elapsed() < Duration::from_secs(10));
        let routed = user.get(demo.at("/dcpassticket/api/v1/request")).send().await.unwrap();
        let failed = routed.headers()["x-zowe-auth-failure"].to_str().unwrap();
        assert!(!failed.is_empty(), "{mode_of_failure}");
    }
    mode.store(WORKING, Ordering::Relaxed);
    sleep(Duration::from_millis(1100)).await;
    let login = user.post(demo.auth("login")).send().await.unwrap();
    assert_eq!(login.status(), 204);
    // The gateway has now cached the mapping of the certificate, so only the permission check (SAF check) fails.
    for (mode_of_failure, want) in [(SERVER_ERROR, 503), (MALFORMED, 500), (SILENT, 503)] {
        mode.store(mode_of_failure, Ordering::Relaxed);
        sleep(Duration::from_millis(1100)).await;
        assert_eq!(evict(&user).await, want, "{mode_of_failure}");
    }
    mode.store(WORKING, Ordering::Relaxed);
    sleep(Duration::from_millis(1100)).await;
    assert_eq!(evict(&user).await, 204);
    assert_eq!(delegate(&demo, &user, &delegation_of("user@example.com")).await.0, 200);
    assert_eq!(delegate(&demo, &user, &delegation_of("other@example.com")).await.0, 404);
    // The provider maps this certificate to no user.
    assert_eq!(evict(&demo.client_of("APIMTST")).await, 401);
    // The permissions to make PassTickets come from the permissions file, not from the provider.
    let routed = user.get(demo.at("/dcpassticket/api/v1/request")).send().await.unwrap();
    assert!(!routed.headers().contains_key("x-zowe-auth-failure"));
}

/// A provider can fail for several reasons. The client gets 503 in all cases. Only the log tells the operator the
/// reason.
#[tokio::test]
async fn the_log_contains_the_cause_of_a_failed_provider() {
    let (listener, address) = listener().await;
    let url = format!("https://localhost:{}/saf", address.port());
    let mut demo = Demo::reconfigured(|yaml| {
        let keys = format!("authorization: {{ provider: endpoint, endpoint: {{ url: '{url}' }} }}");
        yaml.replace("        x509:\n", &format!("        {keys}\n        x509:\n")).replace(
            "  passticket-proxy:\n",
            "  passticket-proxy:\n    timeouts: { providerSeconds: 1 }\n",
        )
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
    let evict_url = format!("{}/gateway/api/v1/auth/access-token/evict", demo.url);

    // The kernel accepts the connection, but no server answers yet.
    evict(evict_url.clone()).await;
    logged("no response within 1s");

    let untrusted = Authority::stranger().certify(&SERVER.key_pair(), |_| {});
    let tls = ServerTls::from_pem(untrusted.as_bytes(), SERVER.key.as_bytes(), None);
    let server = Server::https(listener, tls.unwrap()).with_drain_timeout(Duration::ZERO);
    let service = tower::service_fn(async |_: Request<Incoming>| {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
    });
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(server.run(service, async {
        let _ = stopped.await;
    }));
    evict(evict_url.clone()).await;
    logged("invalid peer certificate");

    stop.send(()).unwrap();
    server.await.unwrap();
    evict(evict_url).await;
    logged("Connection refused");
}
