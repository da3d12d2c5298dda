//! Tests of the admin port: metrics, health, and the command `health`.

use std::{
    collections::HashSet,
    convert::Infallible,
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    pin::Pin,
    process::{Command, Output},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use crate::support::{Demo, PROGRAM, admin_address, metric, without_exchange};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use test_support::{PATIENCE, raw::listener};
use tokio::time::sleep;

struct Gateway {
    demo: Demo,
    admin: SocketAddr,
    client: reqwest::Client,
}

impl Gateway {
    fn start() -> Self {
        Self::start_with(|yaml| yaml)
    }

    fn start_with(edit: impl FnOnce(String) -> String) -> Self {
        let mut demo = Demo::reconfigured(|yaml| edit(yaml) + "    admin:\n      port: 0\n");
        let admin = admin_address(&mut demo.program);
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        Self { demo, admin, client }
    }

    async fn ask(&self, method: Method, path: &str) -> reqwest::Response {
        let url = format!("http://{}{path}", self.admin);
        self.client.request(method, url).send().await.unwrap()
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        let response = self.ask(Method::GET, path).await;
        (response.status(), response.json().await.unwrap())
    }

    async fn metric(&self, series: &str) -> i64 {
        metric(&self.client, self.admin, series).await
    }

    /// Waits until the response to a GET of `path` has this status. Returns the JSON document.
    async fn wait_for(&self, path: &str, status: StatusCode) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (got, document) = self.get(path).await;
            if got == status {
                return document;
            }
            assert!(Instant::now() < deadline, "{path} is still {got}: {document}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Sends the text of a request. Returns everything that the server sends until it closes the connection.
fn raw(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn health(args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } =
        Command::new(PROGRAM).arg("health").args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[tokio::test]
async fn metrics_count_requests_decisions_and_connections() {
    let gateway = Gateway::start();
    let demo = &gateway.demo;
    let response = gateway.ask(Method::GET, "/metrics").await;
    assert_eq!(response.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let text = response.text().await.unwrap();
    assert_is_valid(&text);

    const TICKETS: &str =
        r#"passticket_decisions_total{event="ticket",outcome="success",reason=""}"#;
    const LOGINS: &str = r#"passticket_decisions_total{event="login",outcome="success",reason=""}"#;
    const API: &str = r#"passticket_responses_total{kind="auth-api",status="2xx"}"#;
    const ROUTED: &str = r#"passticket_responses_total{kind="route",status="5xx"}"#;
    const LOST: &str = r#"passticket_responses_total{kind="route",status="4xx"}"#;
    for series in [TICKETS, LOGINS, API, ROUTED, LOST] {
        assert_eq!(gateway.metric(series).await, 0, "{series}");
    }

    let token = demo.login().await;
    assert_eq!((gateway.metric(LOGINS).await, gateway.metric(API).await), (1, 1));
    let client = demo.client();
    // The service of this route does not run, so the gateway answers 503.
    let url = demo.at("/dcpassticket/api/v1/request");
    for (token, number) in [(token.as_str(), 1), ("wrong", 2)] {
        let response = client.get(&url).bearer_auth(token).send().await.unwrap();
        assert_eq!(response.status(), 503, "{token}");
        assert_eq!(gateway.metric(ROUTED).await, number, "{token}");
    }
    assert_eq!(gateway.metric(TICKETS).await, 1);
    let refused = r#"passticket_decisions_total{event="authentication",outcome="refused",reason="token-malformed"}"#;
    assert_eq!(gateway.metric(refused).await, 1);

    // A metric must not have the path as a label, because the client chooses the path.
    client.get(demo.at("/no-such-service/x")).send().await.unwrap();
    assert_eq!(gateway.metric(LOST).await, 1);
    let health = client.get(demo.at("/application/health")).send().await.unwrap();
    assert_eq!(health.text().await.unwrap(), r#"{"status":"UP"}"#);
    let series = r#"passticket_responses_total{kind="health",status="2xx"}"#;
    assert_eq!(gateway.metric(series).await, 1);

    assert!(gateway.metric("passticket_connections_open").await >= 1);
    drop(client);
    let deadline = Instant::now() + PATIENCE;
    while gateway.metric("passticket_connections_open").await > 0 {
        assert!(Instant::now() < deadline);
        sleep(Duration::from_millis(20)).await;
    }
    assert!(gateway.metric("passticket_connections_total").await >= 2);
    // The gateway counts a client that does not use TLS as a failed handshake.
    let port = demo.url.rsplit(':').next().unwrap().parse().unwrap();
    raw(SocketAddr::from(([127, 0, 0, 1], port)), "GET / HTTP/1.1\r\n\r\n");
    assert_eq!(
        gateway.metric(r#"passticket_tls_handshakes_failed_total{reason="plain-http"}"#).await,
        1
    );
    let version = format!(r#"passticket_build_info{{version="{}"}}"#, env!("CARGO_PKG_VERSION"));
    assert_eq!(gateway.metric(&version).await, 1);

    let text = gateway.ask(Method::GET, "/metrics").await.text().await.unwrap();
    assert_is_valid(&text);
    for secret in [token.as_str(), "no-such-service", "USER", "validPassword", "dcpassticket/"] {
        assert!(!text.contains(secret), "{secret} is in:\n{text}");
    }
}

/// Asserts that each sample follows the HELP and TYPE lines of its metric, and that no series occurs twice.
fn assert_is_valid(text: &str) {
    let mut metric = "";
    let (mut metrics, mut all_series) = (HashSet::new(), HashSet::new());
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            metric = help.split(' ').next().unwrap();
            assert!(metrics.insert(metric), "{metric} twice");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert_eq!(name, metric);
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
            // A histogram has several samples, whose names begin with the name of the metric.
            assert!(series.split('{').next().unwrap().starts_with(metric), "{line}");
            assert!(all_series.insert(series), "{series} twice");
        }
    }
}

#[tokio::test]
async fn the_admin_port_answers_get_and_head_only() {
    let gateway = Gateway::start();
    for (method, path, status, number) in [
        (Method::GET, "/metrics", 200, ""),
        (Method::HEAD, "/metrics", 200, ""),
        (Method::GET, "/health", 200, ""),
        (Method::GET, "/health/live", 200, ""),
        (Method::GET, "/health/ready", 200, ""),
        (Method::HEAD, "/health/ready", 200, ""),
        (Method::GET, "/", 404, "ZWEAO404E"),
        (Method::GET, "/application/health", 404, "ZWEAO404E"),
        (Method::POST, "/reload", 200, ""),
        (Method::GET, "/reload", 405, "ZWEAO405E"),
        (Method::POST, "/metrics", 405, "ZWEAO405E"),
        (Method::DELETE, "/health", 405, "ZWEAO405E"),
    ] {
        let case = format!("{method} {path}");
        let response = gateway.ask(method.clone(), path).await;
        assert_eq!(response.status(), status, "{case}");
        let headers = response.headers().clone();
        assert_eq!(headers["cache-control"], "no-store", "{case}");
        assert_eq!(headers["x-content-type-options"], "nosniff", "{case}");
        let methods = if path == "/reload" { "POST" } else { "GET, HEAD" };
        let allow = (status == 405).then_some(methods);
        assert_eq!(headers.get("allow").map(|allow| allow.to_str().unwrap()), allow, "{case}");
        let text = response.text().await.unwrap();
        assert_eq!(text.is_empty(), method == Method::HEAD, "{case}: {text}");
        if !number.is_empty() {
            assert_eq!(headers["content-type"], "application/json", "{case}");
            let document: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(document["messages"][0]["messageNumber"], number, "{case}");
        }
    }

    let up = json!({"status": "UP"});
    assert_eq!(gateway.get("/health/live").await.1, up);
    assert_eq!(gateway.get("/health/ready").await.1, up);
    let components = json!({
        "workers": up, "revocations": up, "audit": up, "certificate": up, "configuration": up
    });
    assert_eq!(gateway.get("/health").await.1, json!({"status": "UP", "components": components}));

    // In an attack by DNS rebinding, a web page makes the browser send such a request to the loopback address.
    let answer = raw(gateway.admin, "GET /metrics HTTP/1.1\r\nHost: attacker.example\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
    // `raw` returns, because the server closes the connection after one response.
    let answer = raw(gateway.admin, "GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("{\"status\":\"UP\"}"),
        "{answer}"
    );
}

/// Health probes must get an answer even if a client opens all permitted connections of the admin port and sends no
/// request.
#[tokio::test]
async fn idle_connections_to_the_admin_port_end_after_two_seconds() {
    let gateway = Gateway::start();
    let started = Instant::now();
    let connections: Vec<_> = (0..64)
        .map(|number| {
            let mut stream = TcpStream::connect(gateway.admin).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            if number % 2 == 0 {
                stream.write_all(b"GET /health HTT").unwrap();
            }
            stream
        })
        .collect();
    // All permitted connections are open. If a client opens one more connection, the gateway closes the connection that
    // has been idle for the longest time.
    assert_eq!(gateway.get("/health/ready").await.0, 200);
    assert!(started.elapsed() < Duration::from_secs(2));
    for mut stream in connections {
        let mut rest = Vec::new();
        // The server may answer the incomplete request before it closes the connection.
        let _ = stream.read_to_end(&mut rest);
    }
    let waited = started.elapsed();
    assert!((1..8).contains(&waited.as_secs()), "{waited:?}");
}

/// A body that never arrives.
struct Never;

impl futures_core::Stream for Never {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Pending
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_gateway_drains_it_is_live_but_not_ready() {
    let mut gateway = Gateway::start();
    let port = gateway.admin.port().to_string();
    assert_eq!(health(&["--port", &port]), (Some(0), "UP\n".to_owned(), String::new()));

    // The body of this login never arrives, so the gateway cannot stop yet.
    let body = reqwest::Body::wrap_stream(Never);
    let login = gateway.demo.client().post(gateway.demo.auth("login")).body(body).send();
    let login = tokio::spawn(login);
    let deadline = Instant::now() + PATIENCE;
    while gateway.metric("passticket_connections_open").await == 0 {
        assert!(Instant::now() < deadline);
        sleep(Duration::from_millis(20)).await;
    }
    // During this time, the client completes the TLS handshake and sends the head of the request.
    sleep(Duration::from_millis(500)).await;
    gateway.demo.program.signal("-TERM");
    gateway.demo.program.logged("no new connections");

    let document = gateway.wait_for("/health/ready", StatusCode::SERVICE_UNAVAILABLE).await;
    let workers = json!({
        "status": "DOWN",
        "reason": "the gateway is stopping and accepts no new connections",
    });
    assert_eq!(document, json!({"status": "DOWN", "components": {"workers": workers}}));
    assert_eq!(gateway.get("/health/live").await.0, 200);
    assert_eq!(gateway.get("/health").await.0, 503);
    assert_eq!(gateway.metric("passticket_ready").await, 0);
    assert_eq!(gateway.metric(r#"passticket_component_up{component="workers"}"#).await, 0);
    let (code, out, err) = health(&["--port", &port]);
    assert_eq!((code, err.as_str()), (Some(1), ""));
    assert!(out.contains("the gateway is stopping"), "{out}");

    login.abort();
    let (status, log) = gateway.demo.program.wait();
    assert!(status.success(), "{log}");
    assert!(TcpStream::connect(gateway.admin).is_err());
}

/// The test limits the size of the files that the program can write. This limit has the effect of a full disk.
#[tokio::test]
async fn the_gateway_is_not_ready_while_the_revocation_file_cannot_be_written() {
    let gateway = Gateway::start();
    let pid = gateway.demo.program.pid().to_string();
    let limit = |limit: &str| {
        Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={limit}:")]).status()
    };
    let limited = limit("4096");
    if limited.is_err() {
        assert!(std::env::var_os("CI").is_none(), "CI needs prlimit");
        return;
    }
    assert!(limited.unwrap().success(), "prlimit failed");
    let token = gateway.demo.login().await;
    let logout = || gateway.demo.client().post(gateway.demo.auth("logout")).bearer_auth(&token);
    assert_eq!(logout().send().await.unwrap().status(), 503);

    let (status, document) = gateway.get("/health/ready").await;
    assert_eq!(status, 503);
    let component = &document["components"]["revocations"];
    assert_eq!(component["status"], "DOWN");
    let reason = component["reason"].as_str().unwrap();
    assert!(reason.contains("revocations.redb could not be written"), "{reason}");
    assert_eq!(gateway.get("/health/live").await.0, 200);
    assert!(gateway.metric("passticket_revocation_write_errors_total").await >= 1);
    let unavailable =
        r#"passticket_decisions_total{event="logout",outcome="error",reason="store-unavailable"}"#;
    assert_eq!(gateway.metric(unavailable).await, 1);

    // A load balancer sends no requests to a gateway that is not ready. So the gateway must notice without a request
    // that the disk has space again.
    assert!(limit("unlimited").unwrap().success());
    gateway.wait_for("/health/ready", StatusCode::OK).await;
    let token = gateway.demo.login().await;
    let logout = gateway.demo.client().post(gateway.demo.auth("logout")).bearer_auth(&token);
    assert_eq!(logout.send().await.unwrap().status(), 204);
}

#[tokio::test]
async fn without_an_audit_file_the_gateway_is_ready_and_counts_decisions() {
    let gateway = Gateway::start_with(|yaml| {
        without_exchange(&yaml)
            .replace("file: audit.jsonl", "enabled: false")
            .replace("delegatePassticket: true", "delegatePassticket: false")
    });
    gateway.demo.login().await;
    let (status, document) = gateway.get("/health").await;
    assert_eq!(status, 200);
    assert!(document["components"].get("audit").is_none(), "{document}");
    let series = r#"passticket_decisions_total{event="login",outcome="success",reason=""}"#;
    assert_eq!(gateway.metric(series).await, 1);
}

#[tokio::test]
async fn health_finds_the_admin_port_in_the_configuration() {
    // The test drops this listener before the gateway starts, so that the port is free. Another program is unlikely to
    // take the port.
    let (free, address) = listener().await;
    let port = address.port();
    drop(free);
    let demo = Demo::reconfigured(|yaml| format!("{yaml}    admin: {{port: {port}}}\n"));
    let path = demo.directory.join("zowe.yaml");
    let config = path.to_str().unwrap().to_owned();
    let yaml = fs::read_to_string(&path).unwrap();
    // The command reads only the admin port. So other settings can be wrong, and other files can be unreadable.
    fs::write(&path, yaml.replace("signingKey: keys/jwt.pem", "signingKy: nowhere")).unwrap();
    assert_eq!(health(&["--config", &config]), (Some(0), "UP\n".to_owned(), String::new()));

    let directory = demo.directory.clone();
    let Demo { mut program, .. } = demo;
    program.signal("-KILL");
    program.wait();
    let (code, out, err) = health(&["--port", &port.to_string()]);
    assert_eq!((code, err.as_str()), (Some(1), ""));
    let want = format!("DOWN: no answer from the admin port 127.0.0.1:{port}: ");
    assert!(out.starts_with(&want), "{out}");

    fs::create_dir_all(&directory).unwrap();
    for (admin, want) in [
        (
            String::new(),
            "components.passticket-proxy.admin.port: is missing, so the gateway has no admin port; ",
        ),
        (
            "    admin: {port: 0}\n".to_owned(),
            "components.passticket-proxy.admin.port: is 0, so the gateway chooses ",
        ),
        (
            "    admin: {port: x}\n".to_owned(),
            "components.passticket-proxy.admin.port: \"x\" is not valid; write ",
        ),
    ] {
        let ours = format!("components:\n  passticket-proxy:\n    host: 127.0.0.1\n{admin}");
        fs::write(&path, ours).unwrap();
        let (code, out, err) = health(&["--config", &config]);
        assert_eq!((code, out.as_str(), err.lines().count()), (Some(2), "", 1), "{err}");
        assert!(err.contains(want), "{err}");
    }
    let (code, _, err) = health(&[]);
    assert_eq!(code, Some(2));
    assert!(err.contains("--config") && err.contains("--port"), "{err}");
}

#[test]
fn an_admin_port_that_is_not_on_loopback_is_an_error_at_load() {
    let demo = Demo::reconfigured(|yaml| yaml);
    let path = demo.directory.join("zowe.yaml");
    let yaml = fs::read_to_string(&path).unwrap();
    let line = yaml.lines().count() + 1;
    fs::write(&path, format!("{yaml}    admin: {{host: 0.0.0.0, port: 9000}}\n")).unwrap();
    let output = Command::new(PROGRAM).args(["serve", "--config"]).arg(&path).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let err = String::from_utf8(output.stderr).unwrap();
    let want = format!(
        "zowe.yaml:{line}: components.passticket-proxy.admin.host: 0.0.0.0 can be reached from "
    );
    assert!(err.contains(&want) && err.contains("write 127.0.0.1"), "{err}");
}
