//! Tests of `serve --config`: large bodies, graceful shutdown, failing services, listening.

use std::{
    convert::Infallible,
    fs,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use crate::support::{Demo, serve, write_definition};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use tempfile::TempDir;
use test_support::{PATIENCE, Running, client, raw::listener};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tower_passticket::tls::Server;

const BODY: u64 = 256 * 1024 * 1024;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Starts the service to which the gateway forwards requests. It runs in the process of the test.
pub(crate) async fn service() -> SocketAddr {
    let (listener, address) = listener().await;
    let service = tower::service_fn(answer);
    tokio::spawn(Server::http(listener).run(service, std::future::pending()));
    address
}

async fn answer(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let body = match request.uri().path() {
        "/download" => {
            let chunk = Bytes::from(vec![b'x'; 64 * 1024]);
            let chunks =
                (0..BODY / chunk.len() as u64).map(move |_| Ok(Frame::data(chunk.clone())));
            return Ok(Response::new(StreamBody::new(Chunks(chunks)).boxed_unsync()));
        }
        "/upload" => {
            let mut body = request.into_body();
            let mut total = 0;
            while let Some(Ok(frame)) = body.frame().await {
                total += frame.into_data().map_or(0, |data| data.len() as u64);
            }
            total.to_string()
        }
        "/slow" => {
            sleep(Duration::from_secs(1)).await;
            "slow response".to_owned()
        }
        "/never" => std::future::pending().await,
        path => path.to_owned(),
    };
    Ok(Response::new(Full::from(body).boxed_unsync()))
}

/// A stream that is always ready. It yields the values of an iterator.
struct Chunks<I>(I);

impl<I: Iterator + Unpin> futures_core::Stream for Chunks<I> {
    type Item = I::Item;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<I::Item>> {
        std::task::Poll::Ready(self.0.next())
    }
}

struct Gateway {
    program: Running,
    url: String,
    authorities: Vec<u8>,
    directory: TempDir,
}

impl Gateway {
    /// Starts a gateway whose route `/svc/api/v1` leads to `service`.
    fn start(service: SocketAddr, connection_timeout_ms: u64, drain_secs: u64) -> Self {
        let directory = TempDir::new().unwrap();
        // The demo makes certificates and keys. The test uses them with a different configuration.
        drop(Demo::start_in(directory.path()));
        write_configuration(directory.path(), service, connection_timeout_ms, drain_secs);
        let config = directory.path().join("zowe.yaml");
        let (program, port) = serve(&config);
        let authorities = fs::read(directory.path().join("certs/ca.pem")).unwrap();
        let url = format!("https://localhost:{port}/svc/api/v1");
        Self { program, url, authorities, directory }
    }

    fn client(&self) -> reqwest::Client {
        client(&self.authorities).http1_only().build().unwrap()
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }
}

/// Writes the service definition, and changes the zowe.yaml of the demo.
pub(crate) fn write_configuration(
    directory: &Path,
    service: SocketAddr,
    connection_timeout_ms: u64,
    drain_secs: u64,
) {
    let zowe_yaml = fs::read_to_string(directory.join("zowe.yaml")).unwrap();
    let mut lines: Vec<_> = zowe_yaml.lines().map(str::to_owned).collect();
    for line in &mut lines {
        if line.trim_start().starts_with("port:") {
            *line = "    port: 0".to_owned();
        }
        if line.trim() == "apiml:" {
            *line =
                format!("    apiml:\n      connection:\n        timeout: {connection_timeout_ms}");
        }
    }
    lines.push(format!("    timeouts:\n      drainSeconds: {drain_secs}"));
    fs::write(directory.join("zowe.yaml"), lines.join("\n")).unwrap();
    write_definition(directory, &format!("http://{service}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_256_mib_are_streamed_in_constant_memory() {
    let gateway = Gateway::start(service().await, 60_000, 30);
    let client = client(&gateway.authorities).http1_only().timeout(4 * PATIENCE).build().unwrap();
    // The first request allocates memory that later requests reuse. So the measurement begins after this request.
    client.get(gateway.at("/warm")).send().await.unwrap();
    let before = gateway.program.peak_kib();

    let mut response = client.get(gateway.at("/download")).send().await.unwrap();
    let mut total = 0;
    while let Some(chunk) = response.chunk().await.unwrap() {
        total += chunk.len() as u64;
    }
    assert_eq!(total, BODY);

    let chunk = Bytes::from(vec![b'x'; 64 * 1024]);
    let chunks = (0..BODY / chunk.len() as u64).map(move |_| Ok::<_, Infallible>(chunk.clone()));
    let body = reqwest::Body::wrap_stream(Chunks(chunks));
    let response = client.post(gateway.at("/upload")).body(body).send().await.unwrap();
    assert_eq!(response.text().await.unwrap(), BODY.to_string());

    let grown = gateway.program.peak_kib() - before;
    assert!(grown < 32 * 1024, "the gateway needed {grown} KiB more memory for bodies of 256 MiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_finishes_the_requests_in_flight() {
    let mut gateway = Gateway::start(service().await, 60_000, 30);
    let client = gateway.client();
    let mut in_flight = JoinSet::new();
    for _ in 0..16 {
        in_flight.spawn(client.get(gateway.at("/slow")).send());
    }
    // An idle connection must not delay the shutdown.
    let idle = gateway.client();
    idle.get(gateway.at("/idle")).send().await.unwrap();
    sleep(Duration::from_millis(300)).await;
    gateway.program.signal("-TERM");
    gateway.program.logged("no new connections");
    sleep(Duration::from_millis(100)).await;
    assert!(gateway.client().get(gateway.at("/late")).send().await.unwrap_err().is_connect());

    finish(gateway, in_flight).await;
}

/// Asserts that the gateway answers all requests in flight and then ends. Returns the log of the gateway.
async fn finish(
    mut gateway: Gateway,
    mut in_flight: JoinSet<Result<reqwest::Response, reqwest::Error>>,
) -> String {
    while let Some(response) = in_flight.join_next().await {
        let response = response.unwrap().unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.text().await.unwrap(), "slow response");
    }
    let (status, log) = gateway.program.wait();
    assert!(status.success(), "{log}");
    log
}

/// By default, each of these signals ends a process.
#[tokio::test(flavor = "multi_thread")]
async fn no_signal_aborts_a_request() {
    let gateway = Gateway::start(service().await, 60_000, 30);
    let client = gateway.client();
    let mut in_flight = JoinSet::new();
    let start = |in_flight: &mut JoinSet<_>| {
        for _ in 0..8 {
            in_flight.spawn(client.get(gateway.at("/slow")).send());
        }
    };
    start(&mut in_flight);
    sleep(Duration::from_millis(300)).await;
    for signal in ["-HUP", "-USR1", "-USR2", "-HUP"] {
        gateway.program.signal(signal);
    }
    start(&mut in_flight);
    sleep(Duration::from_millis(300)).await;
    gateway.program.signal("-QUIT");
    let log = finish(gateway, in_flight).await;
    for line in [
        "SIGHUP received: reading the configuration again",
        "SIGUSR1 received: ignored",
        "SIGUSR2 received: ignored",
        "SIGQUIT received: stopping, no new connections",
    ] {
        assert!(log.contains(line), "{line} is not in the log:\n{log}");
    }
    assert!(
        log.contains("permissions reloaded") || log.contains("the files have not changed"),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_reloads_the_permissions() {
    let mut gateway = Gateway::start(service().await, 60_000, 30);
    let saf = gateway.directory.path().join("saf.yml");
    let text = fs::read_to_string(&saf).unwrap();
    let new = saf.with_extension("new");
    fs::write(&new, format!("{text}\n# changed\n")).unwrap();
    fs::rename(&new, &saf).unwrap();
    gateway.program.signal("-HUP");
    gateway.program.logged("SIGHUP received");
    gateway.program.logged("permissions reloaded");
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_aborts_requests_after_the_drain_timeout() {
    let mut gateway = Gateway::start(service().await, 60_000, 1);
    let client = gateway.client();
    let stuck = tokio::spawn(client.get(gateway.at("/never")).send());
    sleep(Duration::from_millis(300)).await;
    let started = Instant::now();
    gateway.program.signal("-TERM");
    let (status, log) = gateway.program.wait();
    assert_eq!(status.code(), Some(3), "{log}");
    assert!(log.contains("1 connections cut off"), "{log}");
    assert!(started.elapsed() < Duration::from_secs(10));
    assert!(stuck.await.unwrap().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_service_gives_504_and_an_unreachable_service_gives_503() {
    let gateway = Gateway::start(service().await, 500, 1);
    let response = gateway.client().get(gateway.at("/never")).send().await.unwrap();
    assert_eq!(response.status(), 504);
    let body = response.text().await.unwrap();
    assert!(body.contains("ZWEAG510E"), "{body}");

    let (unused, address) = listener().await;
    drop(unused);
    let mut gateway = Gateway::start(address, 500, 1);
    let response = gateway.client().get(gateway.at("/x")).send().await.unwrap();
    assert_eq!(response.status(), 503);
    let body = response.text().await.unwrap();
    assert!(body.contains("ZWEAO503E"), "{body}");
    // Only the log names the address of the service.
    let port = address.port().to_string();
    assert!(!body.contains(&port) && !body.contains("refused"), "{body}");
    let line = gateway.program.logged("cannot reach the service");
    assert!(line.contains(&port) && line.contains("refused"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_service_causes_at_most_one_log_line_a_second() {
    let (unused, address) = listener().await;
    drop(unused);
    let mut gateway = Gateway::start(address, 500, 1);
    let client = gateway.client();
    let started = Instant::now();
    for _ in 0..30 {
        assert_eq!(client.get(gateway.at("/x")).send().await.unwrap().status(), 503);
    }
    sleep(Duration::from_millis(1100)).await;
    assert_eq!(client.get(gateway.at("/x")).send().await.unwrap().status(), 503);
    gateway.program.logged("suppressed=");
    gateway.program.signal("-TERM");
    let (_, log) = gateway.program.wait();
    let lines: Vec<_> = log.lines().filter(|l| l.contains("cannot reach the service")).collect();
    let seconds = usize::try_from(started.elapsed().as_secs()).unwrap();
    assert!((2..=seconds + 2).contains(&lines.len()), "{lines:#?}");
    let suppressed: u64 = lines
        .iter()
        .filter_map(|line| line.split("suppressed=").nth(1))
        .map(|rest| rest.split(' ').next().unwrap().parse::<u64>().unwrap())
        .sum();
    assert_eq!(suppressed + lines.len() as u64, 31, "{lines:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_at_tls_the_gateway_serves_http_without_tls() {
    let gateway = Demo::reconfigured(|yaml| {
        yaml.replacen("zowe:\n", "zowe:\n  network: {server: {tls: {attls: true}}}\n", 1)
            .replace("delegatePassticket: true", "delegatePassticket: false")
    });
    let url = gateway.at("/application/health").replace("https:", "http:");
    let client = gateway.client();
    // The gateway is healthy when all its worker threads run. The first thread may already answer before that.
    let healthy = async {
        while client.get(&url).send().await.unwrap().status() != 200 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, healthy).await.unwrap();
    assert!(client.get(gateway.at("/application/health")).send().await.is_err());

    let login = gateway.auth("login").replace("https:", "http:");
    let login = client.post(login).basic_auth("USER", Some("validPassword"));
    let response = login.send().await.unwrap();
    assert_eq!(response.status(), 204);
    // With AT-TLS, the TCP/IP stack of z/OS encrypts the connection of the client. So the cookie must have the
    // attribute Secure.
    let cookie = response.headers()["set-cookie"].to_str().unwrap();
    assert!(cookie.contains("Secure"), "{cookie}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_can_listen_on_a_host_name() {
    let gateway = Demo::reconfigured(|yaml| yaml.replace("host: 127.0.0.1", "host: localhost"));
    let health = gateway.client().get(gateway.at("/application/health")).send().await.unwrap();
    assert_eq!(health.status(), 200);
}

#[tokio::test]
async fn strict_transport_security_is_sent_unless_it_is_off() {
    const OFF: &str = "strictTransportSecurity:\n      enabled: false";
    for (replacement, want) in [
        (OFF, None),
        ("strictTransportSecurity: {}", Some("max-age=31536000")),
        (
            "strictTransportSecurity: { maxAge: 60, includeSubDomains: true }",
            Some("max-age=60; includeSubDomains"),
        ),
    ] {
        let gateway = Demo::reconfigured(|yaml| {
            assert!(yaml.contains(OFF));
            yaml.replace(OFF, replacement)
        });
        for path in ["/application/health", "/dcpassticket/api/v1/request", "/unknown"] {
            let response = gateway.client().get(gateway.at(path)).send().await.unwrap();
            let got = response.headers().get("strict-transport-security");
            assert_eq!(got.map(|value| value.to_str().unwrap()), want, "{path}");
        }
    }
}
