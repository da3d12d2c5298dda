//! Tests of `serve --config`: limits and time limits of connections to services.

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::support::{Demo, serve, write_definition};
use http::Version;
use tempfile::TempDir;
use test_support::{
    PATIENCE, Running, client,
    raw::{self, head},
};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::Notify,
    time::sleep,
};

/// A running gateway with the route `/svc/api/v1`, and with these keys in `components.passticket-proxy`.
struct Gateway {
    program: Running,
    url: String,
    client: reqwest::Client,
    directory: TempDir,
}

impl Gateway {
    fn start(service: &str, keys: &str) -> Self {
        let directory = TempDir::new().unwrap();
        // The demo makes certificates and keys. The test replaces the configuration.
        drop(Demo::start_in(directory.path()));
        let path = directory.path().join("zowe.yaml");
        let yaml = crate::support::with_any_port(&fs::read_to_string(&path).unwrap());
        fs::write(&path, yaml + keys).unwrap();
        write_definition(directory.path(), service);
        let (program, port) = serve(&path);
        let authorities = fs::read(directory.path().join("certs/ca.pem")).unwrap();
        // With HTTP/1.1, the client opens several connections, which different worker threads of the gateway
        // may serve.
        let client = client(&authorities).http1_only().timeout(PATIENCE).build().unwrap();
        let url = format!("https://localhost:{port}/svc/api/v1");
        Self { program, url, client, directory }
    }

    async fn get(&self, path: &str) -> reqwest::Response {
        self.client.get(format!("{}{path}", self.url)).send().await.unwrap()
    }
}

/// Starts a service that answers `/pause` with half of a body and never answers any other request.
async fn service() -> String {
    let address = raw::service(async |stream: TcpStream| {
        let mut stream = BufReader::new(stream);
        if head(&mut stream).await.starts_with("GET /pause ") {
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nha";
            stream.get_mut().write_all(answer).await.unwrap();
        }
        std::future::pending::<()>().await;
    })
    .await;
    format!("http://{address}")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configured_limit_of_connections_to_an_instance_holds_over_all_threads() {
    const KEYS: &str =
        "    timeouts:\n      queueSeconds: 1\n    limits:\n      connectionsPerInstance: 2\n";
    let mut gateway = Gateway::start(&service().await, KEYS);
    let requests: Vec<_> = (0..2)
        .map(|_| tokio::spawn(gateway.client.get(format!("{}/never", gateway.url)).send()))
        .collect();
    sleep(Duration::from_millis(500)).await;
    for _ in 0..3 {
        let begin = Instant::now();
        let response = gateway.get("/x").await;
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["retry-after"], "1");
        assert!(response.text().await.unwrap().contains("ZWEAO503E"));
        let waited = begin.elapsed();
        assert!(
            (Duration::from_millis(900)..Duration::from_secs(4)).contains(&waited),
            "{waited:?}"
        );
    }
    let line = gateway.program.logged("all connections to the service are in use");
    assert!(
        line.contains("max_connections=2") && line.contains("connectionsPerInstance"),
        "{line}"
    );
    // When a client disconnects, the gateway cancels its request, and the connection to the service becomes
    // free. The cancellation takes about one second.
    requests.iter().for_each(tokio::task::JoinHandle::abort);
    let deadline = Instant::now() + PATIENCE;
    while gateway.get("/pause").await.status() == 503 {
        assert!(Instant::now() < deadline);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_aborted_when_the_service_pauses_longer_than_configured() {
    for keys in [
        "    timeouts:\n      serviceBodySeconds: 1\n",
        "    services:\n      svc:\n        serviceBodySeconds: 1\n",
    ] {
        let mut gateway = Gateway::start(&service().await, keys);
        let begin = Instant::now();
        let response = gateway.get("/pause").await;
        assert_eq!(response.status(), 200);
        // The client gets an error, because the response body is incomplete.
        response.bytes().await.unwrap_err();
        let waited = begin.elapsed();
        assert!(
            (Duration::from_millis(900)..Duration::from_secs(5)).contains(&waited),
            "{waited:?}"
        );
        let line = gateway.program.logged("the service sent no more bytes of the body");
        assert!(line.contains("limit=1s") && line.contains("serviceBodySeconds"), "{line}");
    }
}

/// Starts a service that sends an event, and another one when `next` is notified.
async fn events(next: Arc<Notify>) -> String {
    let address = raw::service(move |stream: TcpStream| {
        let next = next.clone();
        async move {
            let mut stream = BufReader::new(stream);
            head(&mut stream).await;
            let answer = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                transfer-encoding: chunked\r\n\r\nd\r\ndata: first\n\n\r\n";
            stream.get_mut().write_all(answer).await.unwrap();
            next.notified().await;
            stream.get_mut().write_all(b"e\r\ndata: second\n\n\r\n").await.unwrap();
            std::future::pending::<()>().await;
        }
    })
    .await;
    format!("http://{address}")
}

/// The second event is sent only after the client has received the first one, and after a pause that is longer than the
/// limit for pauses.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_reaches_the_client_at_once_and_a_pause_does_not_end_the_stream() {
    let next = Arc::<Notify>::default();
    let keys =
        "    timeouts:\n      serviceBodySeconds: 1\n      sendSeconds: 1\n      idleSeconds: 1\n";
    let gateway = Gateway::start(&events(next.clone()).await, keys);
    let authorities = fs::read(gateway.directory.path().join("certs/ca.pem")).unwrap();
    let http2 = client(&authorities).timeout(PATIENCE).build().unwrap();
    for (client, version) in [(&gateway.client, Version::HTTP_11), (&http2, Version::HTTP_2)] {
        let mut response = client.get(format!("{}/events", gateway.url)).send().await.unwrap();
        assert_eq!(response.version(), version);
        assert_eq!(response.chunk().await.unwrap().unwrap(), "data: first\n\n");
        sleep(Duration::from_millis(2_500)).await;
        next.notify_one();
        assert_eq!(response.chunk().await.unwrap().unwrap(), "data: second\n\n");
    }
}
