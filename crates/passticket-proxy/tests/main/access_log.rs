//! Tests of the access log and of the id of a request.

use std::{
    fs, net::SocketAddr, os::unix::fs::PermissionsExt, path::Path, process::Command, time::Duration,
};

use crate::support::{Demo, PROGRAM, admin_address, metric};
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};
use test_support::{
    PATIENCE, free_port, raw,
    websocket::{Frame, TEXT, echo},
};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

/// Answers a request. The first segment of its path selects the answer.
async fn answer(stream: TcpStream) {
    let mut start = [0; 16];
    let read = timeout(PATIENCE, stream.peek(&mut start)).await;
    if matches!(read, Ok(Ok(length)) if start[..length].starts_with(b"GET /chat")) {
        return drop(echo(stream).await);
    }
    let mut stream = BufReader::new(stream);
    let Ok(head) = timeout(PATIENCE, raw::head(&mut stream)).await else { return };
    let path = head.split(' ').nth(1).unwrap_or_default();
    let stream = stream.get_mut();
    match path.split(['/', '?']).nth(1).unwrap_or_default() {
        "echo" => {
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nx-request-id: of-the-service\r\n\
                 connection: close\r\n\r\n{head}",
                head.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        // The response ends before its announced length.
        "half" => {
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n0123456789";
            stream.write_all(answer).await.unwrap();
        }
        // The body of the response never ends.
        "endless" => {
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n0123456789";
            stream.write_all(answer).await.unwrap();
            sleep(PATIENCE).await;
        }
        "closes" => {}
        _ => sleep(PATIENCE).await,
    }
}

fn definition(id: &str, address: SocketAddr, more: &str) -> String {
    format!(
        "  - serviceId: {id}\n    instanceBaseUrls: [\"http://{address}\"]\n    routes:\n      - \
         {{gatewayUrl: api/v1, serviceRelativeUrl: /}}\n{more}"
    )
}

/// Starts a gateway with an access log in this format. `ours` contains further settings of
/// `components.passticket-proxy`.
async fn start(format: &'static str, ours: &'static str) -> Demo {
    let service = raw::service(answer).await;
    let nobody = SocketAddr::from(([127, 0, 0, 1], free_port()));
    Demo::beside_servers(move |directory, yaml| {
        let tickets = "    authentication: {scheme: httpBasicPassTicket, applid: ZOWEAPPL}\n";
        let services = [
            definition("svc", service, tickets),
            definition("open", service, "    authentication: {scheme: bypass}\n"),
            definition("strict", service, tickets),
            definition("down", nobody, ""),
        ];
        let services = format!("services:\n{}", services.concat());
        fs::write(directory.join("api-defs/demo.yml"), services).unwrap();
        let log = format!("    accessLog: {{file: access.log, format: {format}}}\n");
        let timeouts = "    services: {open: {responseSeconds: 2}, strict: {onFailure: reject}}\n";
        format!("{yaml}\n    admin: {{port: 0}}\n    logLevel: debug\n{timeouts}{log}{ours}")
    })
    .await
}

fn text(demo: &Demo, file: &str) -> String {
    fs::read_to_string(demo.directory.join(file)).unwrap_or_default()
}

/// Waits for a complete line that satisfies `is_wanted`.
async fn line(demo: &Demo, file: &str, is_wanted: impl Fn(&str) -> bool) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = text(demo, file);
        let complete = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        if let Some(line) = complete.into_iter().find(|line| is_wanted(line)) {
            return line.to_owned();
        }
        assert!(Instant::now() < deadline, "no such line in {file}:\n{text}");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn entry(demo: &Demo, path: &str) -> Value {
    let line =
        line(demo, "access.log", |line| line.contains(&format!("\"path\":\"{path}\""))).await;
    serde_json::from_str(&line).unwrap()
}

async fn send(request: RequestBuilder) -> Response {
    timeout(PATIENCE, request.send()).await.unwrap().unwrap()
}

fn id(response: &Response) -> String {
    response.headers()["x-request-id"].to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_id_is_in_the_response_the_request_to_the_service_and_all_logs() {
    let mut demo = start("json", "").await;
    let token = demo.login().await;
    let client = demo.builder().http1_only().build().unwrap();
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = client.post(demo.at("/svc/api/v1/echo?secret=1")).bearer_auth(&token);
    let request = request
        .header("x-request-id", "of-the-client")
        .header("connection", "x-request-id")
        .header("traceparent", traceparent);
    let request = request.header("user-agent", "test \"1\"").body("12345");
    let request = request.header("referer", "https://u:secret@gw/page?secret=2");
    let response = send(request).await;
    assert_eq!(response.headers().get_all("x-request-id").iter().count(), 1);
    let id = id(&response);
    assert_eq!(id.len(), 32);
    let received = response.text().await.unwrap();
    // The service receives the request id that the gateway has made, and nothing of the id that the client has sent.
    assert_eq!(received.matches("x-request-id").count(), 1, "{received}");
    assert!(received.contains(&format!("x-request-id: {id}\r\n")), "{received}");
    assert!(!received.contains("of-the-client"), "{received}");
    assert!(received.contains(&format!("traceparent: {traceparent}\r\n")), "{received}");

    let entry = entry(&demo, "/svc/api/v1/echo").await;
    assert_eq!(entry["request_id"], id);
    // The client is not a trusted proxy, so the line does not contain the id that it has sent.
    assert_eq!(entry.get("client_request_id"), None);
    let of =
        |names: &[&str]| -> Vec<Value> { names.iter().map(|name| entry[*name].clone()).collect() };
    let names = ["method", "protocol", "status", "service", "user", "credential", "termination"];
    let want: Value = json!(["POST", "HTTP/1.1", 200, "svc", "USER", "login-token", "--"]);
    assert_eq!(Value::from(of(&names)), want, "{entry}");
    assert_eq!(of(&["bytes_in", "bytes_out"]), [json!(5), json!(received.len())], "{entry}");
    assert_eq!(of(&["user_agent", "referer"]), [json!("test \"1\""), json!("https://gw/page")]);
    assert_eq!(of(&["client"]), [json!("127.0.0.1")]);
    let timers = ["prepare_ms", "queue_ms", "connect_ms", "first_byte_ms", "total_ms"];
    let timers =
        timers.map(|name| entry[name].as_f64().unwrap_or_else(|| panic!("{name}: {entry}")));
    let [prepare, queue, connect, first_byte, total] = timers;
    assert!(prepare + queue + connect + first_byte <= total, "{entry}");
    assert!(entry["instance"].as_str().unwrap().starts_with("127.0.0.1:"), "{entry}");

    let is_id = |line: &str| line.contains(&format!("\"request_id\":\"{id}\""));
    line(&demo, "audit.jsonl", is_id).await;
    demo.program.logged(&format!("request ended request_id={id}"));
    let config = demo.directory.join("zowe.yaml");
    let mut explain = Command::new(PROGRAM);
    let explain = explain.args(["explain", "--request-id", &id, "--config"]).arg(config);
    let explained = String::from_utf8(explain.output().unwrap().stdout).unwrap();
    assert!(explained.starts_with("SUCCESS: "), "{explained}");
    assert!(explained.contains("request in the access log"), "{explained}");
    let mode = fs::metadata(demo.directory.join("access.log")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_line_says_how_a_request_ended() {
    let demo = start("json", "    limits: {requestsPerAddress: 8}\n").await;
    let client = demo.client();
    for (path, status, code, cause) in [
        ("/strict/api/v1/x?y", 401, "PR", json!("gateway")),
        ("/nowhere", 404, "PR", json!("gateway")),
        ("/open/api/v1/echo", 200, "--", Value::Null),
        ("/gateway/api/v1/auth/query", 401, "--", Value::Null),
        ("/open/api/v1/closes", 502, "SH", json!("service")),
        ("/down/api/v1/x", 503, "SC", json!("service")),
        ("/open/api/v1/silent", 504, "sH", json!("service-timeout")),
    ] {
        let response = send(client.get(demo.at(path))).await;
        let got = response.status().as_u16();
        response.text().await.unwrap();
        let path = path.split('?').next().unwrap();
        let entry = entry(&demo, path).await;
        assert_eq!((got, &entry["status"]), (status, &json!(status)), "{entry}");
        assert_eq!(
            (&entry["termination"], entry["ended_by"].clone()),
            (&json!(code), cause),
            "{entry}"
        );
    }
    // The service closes the connection before its response is complete.
    let http1 = demo.builder().http1_only().build().unwrap();
    let response = send(http1.get(demo.at("/open/api/v1/half"))).await;
    response.text().await.unwrap_err();
    let half = entry(&demo, "/open/api/v1/half").await;
    assert_eq!((&half["termination"], &half["bytes_out"]), (&json!("SD"), &json!(10)), "{half}");
    // One client disconnects during the body of the response, and another one before the response.
    let mut response = send(client.get(demo.at("/open/api/v1/endless"))).await;
    response.chunk().await.unwrap().unwrap();
    drop(response);
    drop(client);
    let endless = entry(&demo, "/open/api/v1/endless").await;
    assert_eq!(
        (&endless["termination"], &endless["stage"]),
        (&json!("CD"), &json!("body")),
        "{endless}"
    );
    let request =
        demo.client().get(demo.at("/svc/api/v1/waits")).timeout(Duration::from_millis(300));
    request.send().await.unwrap_err();
    let waits = entry(&demo, "/svc/api/v1/waits").await;
    assert_eq!((&waits["termination"], waits.get("status")), (&json!("CH"), None), "{waits}");
    // When a WebSocket ends, the access log gets one line for it.
    let mut stream = super::websocket::open_of(&demo.url, demo.builder(), "").await;
    Frame::masked(TEXT, *b"more").write(&mut stream).await.unwrap();
    timeout(PATIENCE, Frame::read(&mut stream)).await.unwrap().unwrap();
    assert!(!text(&demo, "access.log").contains("/svc/api/v1/chat"));
    drop(stream);
    let chat = entry(&demo, "/svc/api/v1/chat").await;
    assert_eq!((&chat["status"], &chat["termination"]), (&json!(101), &json!("CD")), "{chat}");
    let bytes = |name: &str| chat[name].as_u64().unwrap();
    // Both sides have sent "hello" and "more", each with the header of a frame. The frames of a client also have a mask
    // of four bytes.
    assert_eq!((bytes("bytes_in"), bytes("bytes_out")), (11 + 10, 7 + 6), "{chat}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_contains_no_secret() {
    for format in ["json", "combined"] {
        let demo = start(format, "").await;
        let token = demo.login().await;
        let ticket_path = format!("/svc/api/v1/echo/{token}");
        let client = demo.client();
        for request in [
            client.get(demo.at(&format!("/svc/api/v1/echo?token={token}"))),
            client.get(demo.at(&ticket_path)),
            client.get(demo.at("/svc/api/v1/echo")).bearer_auth(&token),
            client
                .get(demo.at("/svc/api/v1/echo"))
                .header("cookie", format!("apimlAuthenticationToken={token}")),
            client.get(demo.at("/svc/api/v1/echo")).header("x-other", &token),
            client.get(demo.at("/svc/api/v1/echo")).header("user-agent", &token),
            client
                .get(demo.at("/svc/api/v1/echo"))
                .header("referer", format!("https://gw/x/{token}?t={token}")),
            client.get(demo.at("/svc/api/v1/echo")).header("x-request-id", &token),
            client.get(demo.at("/svc/api/v1/echo")).basic_auth("USER", Some("validPassword")),
            client.get(demo.at("/svc/api/v1/last?x=\"%0a")).timeout(Duration::from_millis(300)),
        ] {
            drop(request.send().await);
        }
        line(&demo, "access.log", |line| line.contains("/svc/api/v1/last")).await;
        let text = text(&demo, "access.log");
        let signature = token.rsplit('.').next().unwrap();
        for secret in ["eyJ", signature, "validPassword", "Basic ", "?"] {
            assert!(!text.contains(secret), "{secret}:\n{text}");
        }
        assert_eq!(text.matches("(token)").count(), 3, "{text}");
        let lines = text.lines().count();
        if format == "combined" {
            let all = text.lines().all(|line| line.split('"').count() == 7);
            assert!(all && lines >= 10, "{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_proxy_may_send_an_id_of_its_own() {
    let demo = start("json", "    trustedProxies: [\"127.0.0.1\"]\n").await;
    let client = demo.client();
    for (path, sent, want) in [
        ("/open/api/v1/echo/1", "4bf92f35.1", Some(json!("4bf92f35.1"))),
        ("/open/api/v1/echo/2", "a\" b", None),
    ] {
        let request = client.get(demo.at(path)).header("x-request-id", sent);
        let response = send(request.header("x-forwarded-for", "192.0.2.7")).await;
        let id = id(&response);
        let entry = entry(&demo, path).await;
        assert_eq!(entry["request_id"], id);
        assert_eq!(entry.get("client_request_id"), want.as_ref(), "{entry}");
        assert_eq!(entry["client"], "192.0.2.7");
        assert!(entry["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
    }
}

fn rename(demo: &Demo, from: &str, to: &str) {
    let path = |name: &str| Path::new(&demo.directory).join(name);
    fs::rename(path(from), path(to)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_is_opened_again_after_sighup_and_a_reload_switches_the_log() {
    let mut demo = start("json", "").await;
    let admin = admin_address(&mut demo.program);
    let client = demo.client();
    let url = demo.at("/open/api/v1/echo");
    let get = async |path: &str| {
        let response = send(client.get(format!("{url}/{path}"))).await;
        response.text().await.unwrap();
    };
    get("first").await;
    line(&demo, "access.log", |line| line.contains("/first")).await;
    rename(&demo, "access.log", "access.log.old");
    demo.program.signal("-HUP");
    let deadline = Instant::now() + PATIENCE;
    while !demo.directory.join("access.log").exists() {
        assert!(Instant::now() < deadline, "the file was not opened again");
        sleep(Duration::from_millis(20)).await;
    }
    get("second").await;
    line(&demo, "access.log", |line| line.contains("/second")).await;
    assert!(!text(&demo, "access.log").contains("/first"));
    assert_eq!(metric(&client, admin, "passticket_access_log_dropped_total").await, 0);

    let yaml = demo.directory.join("zowe.yaml");
    let before = fs::read_to_string(&yaml).unwrap();
    let other = before.replace("access.log, format: json", "other.log, format: combined");
    fs::write(&yaml, other.replace("logLevel: debug", "logFormat: json")).unwrap();
    let reloaded = client.post(format!("http://{admin}/reload"));
    assert_eq!(send(reloaded).await.status(), 200);
    get("third").await;
    let third = line(&demo, "other.log", |line| line.contains("/third")).await;
    assert!(third.contains("\"GET /open/api/v1/echo/third HTTP/"), "{third}");
    assert!(!text(&demo, "access.log").contains("/third"));
    let logged = demo.program.logged("configuration reloaded");
    let logged: Value = serde_json::from_str(&logged).unwrap();
    assert_eq!(logged["level"], "INFO", "{logged}");

    // If the access log of a new configuration cannot be opened, the old configuration stays.
    let bad = before.replace("access.log, format: json", "none/access.log, format: json");
    fs::write(&yaml, bad).unwrap();
    let failed = send(client.post(format!("http://{admin}/reload"))).await;
    let text = failed.text().await.unwrap();
    assert!(text.contains("cannot write the access log"), "{text}");
    get("fourth").await;
    line(&demo, "other.log", |line| line.contains("/fourth")).await;
    // As soon as the access log can be opened, a reload uses the new configuration, although no file of the
    // configuration has changed since the failed reload.
    fs::create_dir(demo.directory.join("none")).unwrap();
    let reloaded = send(client.post(format!("http://{admin}/reload"))).await;
    assert_eq!(reloaded.status(), 200);
    get("fifth").await;
    line(&demo, "none/access.log", |line| line.contains("/fifth")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_the_listener_refuses_has_a_line() {
    let demo = start("json", "").await;
    let large = "x".repeat(60 * 1024);
    let client = demo.builder().http1_only().build().unwrap();
    let request = client.get(demo.at("/open/api/v1/large")).header("x-large", &large);
    let request = request.header("x-larger", &large).header("x-largest", &large);
    let response = send(request).await;
    if response.headers().contains_key("x-request-id") {
        let id = id(&response);
        let entry = entry(&demo, "/open/api/v1/large").await;
        assert_eq!((&entry["request_id"], &entry["status"]), (&json!(id), &json!(431)), "{entry}");
    }
    // These requests use HTTP/2. Their clients give up before the service answers.
    let client = demo.builder().build().unwrap();
    let mut waiting = Vec::new();
    let url = demo.at("/svc/api/v1/waits");
    for _ in 0..4 {
        waiting.push(tokio::spawn(client.get(&url).timeout(Duration::from_secs(2)).send()));
    }
    for request in waiting {
        request.await.unwrap().unwrap_err();
    }
    line(&demo, "access.log", |line| line.contains("/svc/api/v1/waits")).await;
}
