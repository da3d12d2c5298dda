//! Runs the program against gateways on loopback.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    convert::Infallible,
    fs,
    os::unix::fs::PermissionsExt,
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use hdrhistogram::{Histogram, serialization::Deserializer};
use http::{HeaderMap, Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use serde_json::{Value, json};
use tempfile::TempDir;
use test_support::{
    pki::{self, Authority, Clients},
    raw::listener,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::sleep,
};
use tokio_rustls::TlsAcceptor;

struct Received {
    head: String,
    headers: HeaderMap,
    body: Bytes,
    version: Version,
    certificate: Option<Vec<u8>>,
    connection: usize,
}

type Handler = dyn Fn(&Received) -> Response<Full<Bytes>> + Send + Sync;

/// A gateway that keeps its connections open, as a real one does.
struct Gateway {
    port: u16,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Gateway {
    async fn start(
        tls: Option<TlsAcceptor>,
        delay: Duration,
        handler: impl Fn(&Received) -> Response<Full<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        let (listener, address) = listener().await;
        let received = Arc::<Mutex<Vec<Received>>>::default();
        let handler: Arc<Handler> = Arc::new(handler);
        tokio::spawn({
            let received = received.clone();
            async move {
                for connection in 0.. {
                    let (stream, _) = listener.accept().await.unwrap();
                    let (tls, received, handler) = (tls.clone(), received.clone(), handler.clone());
                    tokio::spawn(async move {
                        match tls {
                            None => {
                                serve(stream, false, None, connection, delay, received, handler)
                                    .await;
                            }
                            Some(tls) => {
                                let Ok(stream) = tls.accept(stream).await else { return };
                                let session = stream.get_ref().1;
                                let is_http2 = session.alpn_protocol() == Some(b"h2");
                                let certificate =
                                    session.peer_certificates().map(|chain| chain[0].to_vec());
                                serve(
                                    stream,
                                    is_http2,
                                    certificate,
                                    connection,
                                    delay,
                                    received,
                                    handler,
                                )
                                .await;
                            }
                        }
                    });
                }
            }
        });
        Self { port: address.port(), received }
    }

    async fn accepting(tls: Option<TlsAcceptor>) -> Self {
        Self::start(tls, Duration::ZERO, |_| Response::new("fine".into())).await
    }

    /// Runs the program, in a directory with the files of the test.
    async fn load(&self, directory: &TempDir, scheme: &str, args: &str) -> (Output, Value) {
        let url = format!("{scheme}://localhost:{}/service/api/v1/x", self.port);
        let args = format!("--url {url} --report report.json {args}");
        let output = run(directory, &args).await;
        let report = fs::read(directory.path().join("report.json")).unwrap();
        (output, serde_json::from_slice(&report).unwrap_or_default())
    }

    /// Returns a text for each request, in the order of the requests.
    fn all(&self, text: impl Fn(&Received) -> String) -> Vec<String> {
        self.received.lock().unwrap().iter().map(text).collect()
    }

    fn header(&self, name: &str) -> Vec<String> {
        self.all(|it| it.headers[name].to_str().unwrap().to_owned())
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    is_http2: bool,
    certificate: Option<Vec<u8>>,
    connection: usize,
    delay: Duration,
    received: Arc<Mutex<Vec<Received>>>,
    handler: Arc<Handler>,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (certificate, received, handler) =
            (certificate.clone(), received.clone(), handler.clone());
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            sleep(delay).await;
            let request = Received {
                head: format!("{} {}", head.method, head.uri),
                headers: head.headers,
                body,
                version: head.version,
                certificate,
                connection,
            };
            let response = handler(&request);
            received.lock().unwrap().push(request);
            Ok::<_, Infallible>(response)
        }
    });
    // A connection that the client closes is no failure of the test.
    if is_http2 {
        let _ = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(stream), service)
            .await;
    } else {
        let _ = http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(stream), service)
            .await;
    }
}

async fn run(directory: &TempDir, args: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_load-test"));
    command.current_dir(directory.path()).args(args.split_whitespace());
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// Makes a directory with files that only the owner can read.
fn files(files: &[(&str, &str)]) -> TempDir {
    let directory = TempDir::new().unwrap();
    for (name, content) in files {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    directory
}

fn text(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat()
}

const SHORT: &str = "--rate 100 --duration 0.2 --warm-up 0.1 --connections 4 --max-late 100";

#[tokio::test]
async fn each_token_and_password_arrives_in_its_header_and_users_take_turns() {
    let directory = files(&[("tokens", "T.one\nT.two\n"), ("passwords", "U:p1\nV:p2\n")]);
    for (args, name, values) in [
        ("--credential jwt:tokens", "authorization", ["Bearer T.one", "Bearer T.two"]),
        (
            "--credential jwt:tokens --token-in cookie",
            "cookie",
            ["apimlAuthenticationToken=T.one", "apimlAuthenticationToken=T.two"],
        ),
        ("--credential pat:tokens", "private-token", ["T.one", "T.two"]),
        (
            "--credential pat:tokens --token-in bearer",
            "authorization",
            ["Bearer T.one", "Bearer T.two"],
        ),
        (
            "--credential pat:tokens --token-in cookie",
            "cookie",
            ["personalAccessToken=T.one", "personalAccessToken=T.two"],
        ),
        ("--credential basic:passwords", "authorization", ["Basic VTpwMQ==", "Basic VjpwMg=="]),
    ] {
        let gateway = Gateway::accepting(None).await;
        let (output, report) = gateway.load(&directory, "http", &format!("{args} {SHORT}")).await;
        assert!(output.status.success(), "{args}: {}", text(&output));
        let arrived = gateway.header(name);
        // With `basic`, the program sends one request for each user before the load, to check the password.
        let checks = if args.contains("basic") { 2 } else { 0 };
        assert_eq!(arrived.len(), 30 + checks, "{args}");
        for value in values {
            let count = arrived.iter().filter(|it| **it == value).count();
            assert_eq!(count, (30 + checks) / 2, "{args} {arrived:?}");
        }
        assert_eq!(gateway.all(|it| it.head.clone())[0], "GET /service/api/v1/x");
        assert_eq!(gateway.header("host")[0], format!("localhost:{}", gateway.port));
        assert_eq!(report["settings"]["users"], 2);
        let printed = format!("{}{report}", text(&output));
        for secret in ["T.one", "T.two", "p1", "VTpwMQ=="] {
            // "p1" may be a part of the base64 of the histogram.
            let is_printed =
                printed.replace(report["latencyFromDueMicros"]["histogram"].as_str().unwrap(), "");
            let is_printed = is_printed
                .replace(report["latencyFromSendMicros"]["histogram"].as_str().unwrap(), "");
            let is_printed =
                is_printed.replace(report["late"]["micros"]["histogram"].as_str().unwrap(), "");
            assert!(!is_printed.contains(secret), "{secret}: {is_printed}");
        }
    }
    let gateway = Gateway::accepting(None).await;
    let (output, _) = gateway.load(&directory, "http", &format!("--credential none {SHORT}")).await;
    assert!(output.status.success());
    assert!(
        gateway
            .all(|it| it.headers.contains_key("authorization").to_string())
            .iter()
            .all(|it| it == "false")
    );
}

#[tokio::test]
async fn each_connection_uses_one_client_certificate() {
    let directory = files(&[
        ("ca.pem", Authority::trusted().pem()),
        ("user.pem", pki::USER.certificate),
        ("user.key", pki::USER.key),
        ("both.pem", &format!("{}{}", pki::APIMTST.certificate, pki::APIMTST.key)),
    ]);
    let tls = pki::SERVER.acceptor_of_clients(Clients::MustHaveCertificate);
    let gateway = Gateway::accepting(Some(tls)).await;
    let args =
        "--ca ca.pem --credential certificate:user.pem,user.key --credential certificate:both.pem";
    let (output, report) = gateway.load(&directory, "https", &format!("{args} {SHORT}")).await;
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(
        (&report["settings"]["users"], &report["connectionsOpened"]),
        (&json!(2), &json!(4))
    );
    let users = [pki::USER, pki::APIMTST].map(|it| it.certificate_der().to_vec());
    let received = gateway.received.lock().unwrap();
    for user in &users {
        assert!(received.iter().any(|it| it.certificate.as_ref() == Some(user)));
    }
    for request in &*received {
        let first = received.iter().find(|it| it.connection == request.connection).unwrap();
        assert_eq!(first.certificate, request.certificate);
    }
}

#[tokio::test]
async fn http2_uses_few_connections_with_many_streams() {
    let mut config = ServerConfig::clone(pki::SERVER.acceptor().config());
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tls = TlsAcceptor::from(Arc::new(config));
    let directory = files(&[("ca.pem", Authority::trusted().pem())]);
    let gateway =
        Gateway::start(Some(tls), Duration::from_millis(20), |_| Response::new("fine".into()))
            .await;
    let args = "--ca ca.pem --credential none --http2 --connections 2 --streams 8 --rate 200 --duration 0.4 \
                --warm-up 0 --max-late 100";
    let (output, report) = gateway.load(&directory, "https", args).await;
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(report["connectionsOpened"], 2);
    assert_eq!(report["settings"]["maxInFlight"], 16);
    let received = gateway.received.lock().unwrap();
    assert_eq!(received.len(), 80);
    assert!(received.iter().all(|it| it.version == Version::HTTP_2));
}

#[tokio::test]
async fn a_body_is_posted() {
    let directory = files(&[("body.json", "{\"a\":1}")]);
    let gateway = Gateway::accepting(None).await;
    let args = format!("--credential none --body body.json {SHORT}");
    let (output, _) = gateway.load(&directory, "http", &args).await;
    assert!(output.status.success(), "{}", text(&output));
    let received = gateway.received.lock().unwrap();
    assert_eq!(received[0].head, "POST /service/api/v1/x");
    assert_eq!(
        (&received[0].body[..], &received[0].headers["content-type"]),
        (&b"{\"a\":1}"[..], &"application/json".parse().unwrap())
    );
}

#[tokio::test]
async fn refusals_are_shown_with_their_reason_and_without_the_token() {
    let directory = files(&[("tokens", "T.hidden\n")]);
    let gateway = Gateway::start(None, Duration::ZERO, |_| {
        let body = json!({"messages": [{"messageNumber": "ZWEAG102E", "messageContent": "Token T.hidden"}]});
        let response = Response::builder().status(401).header("X-Zowe-Auth-Failure", "ZWEAG102E not valid: T.hidden");
        response.body(body.to_string().into()).unwrap()
    })
    .await;
    let (output, report) =
        gateway.load(&directory, "http", &format!("--credential jwt:tokens {SHORT}")).await;
    assert_eq!(output.status.code(), Some(1));
    let printed = text(&output);
    assert!(printed.contains("20 x 401 ZWEAG102E ZWEAG102E not valid: ********"), "{printed}");
    assert!(printed.contains("BAD: 20 of 20 answers were refusals"), "{printed}");
    assert!(!format!("{printed}{report}").contains("T.hidden"));
    assert_eq!(report["statuses"], json!({"401": 20}));
    assert_eq!(
        report["refusals"],
        json!({"answers": 20, "others": 0, "different": [{
            "status": 401, "count": 20, "messageNumber": "ZWEAG102E", "authFailure": "ZWEAG102E not valid: ********",
        }]})
    );
    // A service may answer 200 without a user. The header says that the gateway has forwarded no credential.
    let gateway = Gateway::start(None, Duration::ZERO, |_| {
        Response::builder()
            .header("X-Zowe-Auth-Failure", "ZWEAG160E")
            .body("anonymous".into())
            .unwrap()
    })
    .await;
    let (output, report) =
        gateway.load(&directory, "http", &format!("--credential jwt:tokens {SHORT}")).await;
    assert_eq!((output.status.code(), &report["good"]), (Some(1), &json!(false)));
    assert_eq!(report["refusals"]["answers"], 20);
}

#[tokio::test]
async fn a_wrong_password_is_sent_once() {
    let directory = files(&[("passwords", "U:right\nV:wrong\n")]);
    let gateway = Gateway::start(None, Duration::ZERO, |request| {
        let is_right = request.headers["authorization"]
            == format!("Basic {}", BASE64_STANDARD.encode("U:right"));
        Response::builder().status(if is_right { 200 } else { 401 }).body("".into()).unwrap()
    })
    .await;
    let (output, _) =
        gateway.load(&directory, "http", &format!("--credential basic:passwords {SHORT}")).await;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(gateway.received.lock().unwrap().len(), 2);
    let printed = text(&output);
    assert!(printed.contains("user 2 in the file was not accepted: 401"), "{printed}");
    assert!(!printed.contains("wrong\"") && !printed.contains("V:"), "{printed}");
}

#[tokio::test]
async fn the_report_has_all_figures_and_histograms() {
    let directory = files(&[]);
    let gateway =
        Gateway::start(None, Duration::from_millis(5), |_| Response::new("fine".into())).await;
    let (output, report) =
        gateway.load(&directory, "http", &format!("--credential none {SHORT}")).await;
    assert!(output.status.success(), "{}", text(&output));
    let keys =
        |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    // The page docs/operating/load-test.md describes each of these keys.
    assert_eq!(
        keys(&report),
        "bodyBytes connectionsOpened errors good late latencyFromDueMicros latencyFromSendMicros problems rate \
         refusals requests seconds settings started statuses stopped version"
    );
    assert_eq!(report["requests"], json!({"due": 20, "sent": 20, "answered": 20, "notSent": 0}));
    assert_eq!(
        (&report["version"], &report["good"], &report["errors"]),
        (&json!(1), &json!(true), &json!({}))
    );
    assert_eq!(report["bodyBytes"], 80);
    assert!(report["rate"]["answered"].as_f64().unwrap() > 5.0, "{}", report["rate"]);
    for name in ["latencyFromDueMicros", "latencyFromSendMicros"] {
        let latencies = &report[name];
        assert_eq!(keys(latencies), "count histogram max mean min p50 p90 p99 p99.9 p99.99");
        let bytes = BASE64_STANDARD.decode(latencies["histogram"].as_str().unwrap()).unwrap();
        let histogram: Histogram<u64> = Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
        assert_eq!((latencies["count"].as_u64().unwrap(), histogram.len()), (20, 20));
        assert_eq!(latencies["p99"].as_u64().unwrap(), histogram.value_at_quantile(0.99));
        assert!(latencies["min"].as_u64().unwrap() >= 5000, "{latencies}");
    }
    // The program prints no progress line, because standard error is not a terminal.
    assert!(output.stderr.is_empty(), "{}", text(&output));
}

#[tokio::test]
async fn a_gateway_that_is_too_slow_fails_the_load_although_no_answer_is_an_error() {
    let directory = files(&[]);
    let gateway =
        Gateway::start(None, Duration::from_millis(100), |_| Response::new("fine".into())).await;
    // Each answer takes 100 ms, so two connections can send 20 requests per second.
    let args = "--credential none --rate 200 --duration 1 --warm-up 0 --connections 2 --timeout 1";
    let (output, report) = gateway.load(&directory, "http", args).await;
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let requests = &report["requests"];
    let [sent, not_sent] = ["sent", "notSent"].map(|name| requests[name].as_u64().unwrap());
    assert_eq!((&requests["due"], sent + not_sent), (&json!(200), 200));
    assert!((5..=42).contains(&sent), "{requests}");
    assert!(report["late"]["byLimit"].as_u64().unwrap() > 10, "{}", report["late"]);
    assert!(report["latencyFromDueMicros"]["p50"].as_u64().unwrap() > 900_000);
    assert!(report["latencyFromSendMicros"]["p50"].as_u64().unwrap() < 900_000);
    assert!(text(&output).contains("of the requests were late or never sent"), "{}", text(&output));
}

#[tokio::test]
async fn an_interrupt_ends_the_load_and_writes_the_report() {
    let directory = files(&[]);
    let gateway = Gateway::accepting(None).await;
    let url = format!("http://localhost:{}/", gateway.port);
    let args = "--credential none --rate 100 --duration 3600 --warm-up 0 --max-late 100 --report r";
    let mut command = Command::new(env!("CARGO_BIN_EXE_load-test"));
    command.current_dir(directory.path()).args(["--url", &url]).args(args.split(' '));
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while gateway.received.lock().unwrap().len() < 10 {
        sleep(Duration::from_millis(5)).await;
    }
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let output = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap()).await.unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("BAD: the load was stopped: interrupted"), "{}", text(&output));
    let report: Value =
        serde_json::from_slice(&fs::read(directory.path().join("r")).unwrap()).unwrap();
    assert_eq!(report["stopped"], "interrupted");
    let due = report["requests"]["due"].as_u64().unwrap();
    assert!((10..100_000).contains(&due), "{due}");
    assert_eq!(report["statuses"]["200"], report["requests"]["answered"]);
}

#[tokio::test]
async fn timeouts_and_closed_connections_are_counted_by_kind() {
    let directory = files(&[]);
    let gateway =
        Gateway::start(None, Duration::from_secs(5), |_| Response::new("fine".into())).await;
    let args = "--credential none --rate 20 --duration 0.5 --warm-up 0 --connections 16 --timeout 0.5 --max-late 100";
    let (output, report) = gateway.load(&directory, "http", args).await;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(report["errors"]["timeout"]["count"], 10);
    assert!(report["latencyFromDueMicros"]["p50"].as_u64().unwrap() >= 500_000);

    let port = test_support::raw::service(|stream| async move { drop(stream) }).await.port();
    let output =
        run(&directory, &format!("--url http://127.0.0.1:{port}/ --report r {args}")).await;
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let report: Value =
        serde_json::from_slice(&fs::read(directory.path().join("r")).unwrap()).unwrap();
    let errors = report["errors"].as_object().unwrap();
    assert_eq!(errors.keys().collect::<Vec<_>>(), ["closed"], "{errors:?}");
}

#[tokio::test]
async fn a_load_that_cannot_begin_says_why() {
    let directory =
        files(&[("ca.pem", Authority::stranger().pem()), ("tokens", "T.hidden\n"), ("empty", "")]);
    fs::write(directory.path().join("open"), "T.hidden\n").unwrap();
    let mode = fs::Permissions::from_mode(0o644);
    fs::set_permissions(directory.path().join("open"), mode).unwrap();
    let gateway = Gateway::accepting(Some(pki::SERVER.acceptor())).await;
    let tls = format!("--url https://localhost:{}/ --rate 1", gateway.port);
    for (args, code, expected) in [
        (format!("{tls} --credential none --ca ca.pem"), 3, "tls: invalid peer certificate"),
        (
            "--url http://127.0.0.1:1/ --rate 1 --credential none".to_owned(),
            3,
            "connect: Connection refused",
        ),
        (format!("{tls} --credential none --ca tokens"), 2, "no certificate in PEM format"),
        (format!("{tls} --credential jwt:open --ca ca.pem"), 2, "chmod 600"),
        (format!("{tls} --credential jwt:empty --ca ca.pem"), 2, "no line with a credential"),
        (format!("{tls} --credential jwt:T.hidden --ca ca.pem"), 2, "cannot read the file"),
        (format!("{tls} --credential T.hidden --ca ca.pem"), 2, "unknown form"),
        (format!("{tls} T.hidden"), 2, "unexpected argument '********'"),
        ("--rate 1".to_owned(), 2, "--url"),
    ] {
        let output = run(&directory, &args).await;
        let printed = text(&output);
        assert_eq!(output.status.code(), Some(code), "{args}: {printed}");
        assert!(printed.contains(expected) && !printed.contains("T.hidden"), "{args}: {printed}");
    }
}
