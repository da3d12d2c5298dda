//! Tests of `serve --config`: limits and time limits of connections to services.

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::support::{Demo, admin_address, metric, serve, write_definition};
use http::Version;
use tempfile::TempDir;
use test_support::{
    PATIENCE, Running, client,
    raw::{self, head},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{Notify, mpsc},
    task::spawn_blocking,
    time::{sleep, timeout},
};

struct Gateway {
    program: Running,
    url: String,
    client: reqwest::Client,
    directory: TempDir,
}

impl Gateway {
    fn start(service: &str, keys: &str) -> Self {
        let directory = TempDir::new().unwrap();
        // The demo makes certificates and keys. The test uses them with a different configuration.
        drop(Demo::start_in(directory.path()));
        let path = directory.path().join("zowe.yaml");
        let yaml = crate::support::with_any_port(&fs::read_to_string(&path).unwrap());
        fs::write(&path, yaml + keys).unwrap();
        write_definition(directory.path(), service);
        let (program, port) = serve(&path);
        let authorities = fs::read(directory.path().join("certs/ca.pem")).unwrap();
        // With HTTP/1.1, the client opens several connections. Different worker threads of the gateway may serve them.
        let client = client(&authorities).http1_only().timeout(PATIENCE).build().unwrap();
        let url = format!("https://localhost:{port}/svc/api/v1");
        Self { program, url, client, directory }
    }

    async fn get(&self, path: &str) -> reqwest::Response {
        self.client.get(format!("{}{path}", self.url)).send().await.unwrap()
    }
}

/// Starts a service that answers `/pause` with the first half of a body. It answers no other request.
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
async fn all_threads_share_the_configured_limit_of_connections_to_an_instance() {
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
    // When a client disconnects, the gateway cancels the client's request, and the connection to the service becomes
    // free. This takes about one second.
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

/// Starts a service that sends one event immediately, and a second event when the test notifies `next`.
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

/// The service sends the second event only after the client has received the first event. The pause between the two
/// events is longer than the body timeout.
#[tokio::test(flavor = "multi_thread")]
async fn events_are_forwarded_immediately_and_a_pause_does_not_end_the_stream() {
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

/// Writes a definition of the service `svc` with these instances and this metadata into `directory`.
fn define(directory: &Path, instances: &[String], metadata: &str) {
    let definition = format!(
        "services:\n  - serviceId: svc\n    instanceBaseUrls: {instances:?}\n    customMetadata: {{{metadata}}}\n    \
         routes:\n      - gatewayUrl: api/v1\n        serviceRelativeUrl: /\n"
    );
    fs::write(directory.join("api-defs/demo.yml"), definition).unwrap();
}

/// In a long poll, a service answers only when it has an event. In this test, the service answers after `LATE`. The
/// other time limits of the gateway are shorter than `LATE`. The response timeout is longer in the first round, and
/// shorter in the second round.
#[tokio::test(flavor = "multi_thread")]
async fn only_the_response_timeout_ends_a_long_poll_and_the_instance_stays_healthy() {
    const LATE: Duration = Duration::from_millis(2500);
    const KEYS: &str = "    timeouts:\n      idleSeconds: 1\n      sendSeconds: 1\n      receiveSeconds: \
        1\n      serviceBodySeconds: 1\n      queueSeconds: 1\n    admin:\n      port: 0\n";
    let address = raw::service(async |stream: TcpStream| {
        let mut stream = BufReader::new(stream);
        head(&mut stream).await;
        sleep(LATE).await;
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nevent";
        // This fails if the gateway has already ended the request.
        let _ = stream.get_mut().write_all(answer).await;
    })
    .await;
    // The service has two instances, because the gateway never ejects the only instance of a service.
    let instances =
        ["localhost", "127.0.0.1"].map(|host| format!("http://{host}:{}", address.port()));
    for (milliseconds, want) in [(60_000, 200), (1000, 504)] {
        let instances = instances.clone();
        let mut demo = Demo::beside_servers(move |directory, yaml| {
            define(directory, &instances, &format!("response-timeout: {milliseconds}"));
            yaml + KEYS
        })
        .await;
        let admin = admin_address(&mut demo.program);
        for builder in [demo.builder().http1_only(), demo.builder()] {
            let client = builder.timeout(PATIENCE).build().unwrap();
            // These are enough requests to use both instances.
            let polls: Vec<_> = (0..8)
                .map(|_| tokio::spawn(client.get(demo.at("/svc/api/v1/poll")).send()))
                .collect();
            for poll in polls {
                let response = poll.await.unwrap().unwrap();
                assert_eq!(response.status(), want, "{milliseconds} ms");
                if want == 200 {
                    assert_eq!(response.text().await.unwrap(), "event");
                }
            }
        }
        let plain = reqwest::Client::new();
        for (health, want) in [("up", 2), ("ejected", 0), ("check-failed", 0)] {
            let series = format!("passticket_service_instances{{health=\"{health}\"}}");
            assert_eq!(metric(&plain, admin, &series).await, want, "{series}, {milliseconds} ms");
        }
    }
}

/// Returns a listener whose queue is full, and the connections in its queue. The kernel does not answer further
/// connections. For a client, this is like a host that is switched off.
async fn full_listener() -> (TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
        waiting.push(stream.unwrap());
        assert!(waiting.len() < 100, "the queue has a limit");
    }
    (listener, waiting)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_connect_timeout_of_the_metadata_limits_the_wait_for_an_unresponsive_instance() {
    let (full, _waiting) = full_listener().await;
    // The kernel accepts connections to this listener, but no program answers the TLS handshake.
    let hanging = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = |scheme: &str, listener: &TcpListener| {
        format!("{scheme}://127.0.0.1:{}", listener.local_addr().unwrap().port())
    };
    let ours = "    services:\n      svc:\n        connectSeconds: 1\n";
    for (url, keys, want) in [
        (url("http", &full), "", 300),
        // The setting in the gateway's own section replaces the metadata.
        (url("http", &full), ours, 1000),
        // The TLS handshake has a time limit of its own, of the same length. So both together take up to 600 ms.
        (url("https", &hanging), "", 600),
    ] {
        let instances = [url.clone()];
        let mut demo = Demo::beside_servers(move |directory, yaml| {
            define(directory, &instances, "connect-timeout: 300");
            yaml + keys
        })
        .await;
        let client = demo.builder().timeout(PATIENCE).build().unwrap();
        let begin = Instant::now();
        let response = client.get(demo.at("/svc/api/v1/x")).send().await.unwrap();
        let waited = begin.elapsed();
        assert_eq!(response.status(), 503, "{url} {keys}");
        assert!(response.text().await.unwrap().contains("ZWEAO503E"), "{url} {keys}");
        // Without this setting of the service, the gateway would wait for 10 s or 20 s.
        let want = Duration::from_millis(want);
        assert!((want..want + Duration::from_secs(8)).contains(&waited), "{waited:?} {url} {keys}");
        let line = demo.program.logged("cannot reach the service");
        assert!(line.contains(&format!("within {} s", want.as_secs_f32())), "{line}");
    }
}

/// With the value 1, the gateway sends the first ping one second after the request, while the request is open. With the
/// value 0, it sends no ping.
#[tokio::test(flavor = "multi_thread")]
async fn http2_ping_seconds_is_the_time_until_the_first_ping() {
    const PING: u8 = 6;
    const HEADERS: u8 = 1;
    for (seconds, has_ping) in [(1, true), (0, false)] {
        let (frames, mut seen) = mpsc::unbounded_channel();
        let address = raw::service(move |mut stream: TcpStream| {
            let frames = frames.clone();
            async move {
                // The service sends empty SETTINGS, and acknowledges the SETTINGS of the gateway (RFC 9113 §6.5).
                stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
                stream.write_all(&[0, 0, 0, 4, 1, 0, 0, 0, 0]).await.unwrap();
                let mut preface = [0; 24];
                stream.read_exact(&mut preface).await.unwrap();
                let mut head = [0; 9];
                while stream.read_exact(&mut head).await.is_ok() {
                    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                    let mut rest = vec![0; length as usize];
                    stream.read_exact(&mut rest).await.unwrap();
                    let _ = frames.send((head[3], Instant::now()));
                }
            }
        })
        .await;
        let keys = format!(
            "    timeouts:\n      http2PingSeconds: {seconds}\n    services:\n      svc:\n        http: h2c\n        \
             responseSeconds: 3\n"
        );
        let url = format!("http://{address}");
        let gateway = spawn_blocking(move || Gateway::start(&url, &keys)).await.unwrap();
        assert_eq!(gateway.get("/x").await.status(), 504);
        let (mut headers, mut pings) = (None, Vec::new());
        while let Ok((kind, at)) = seen.try_recv() {
            match kind {
                HEADERS => headers = Some(at),
                PING => pings.push(at),
                _ => {}
            }
        }
        let headers = headers.expect("the service gets the request");
        assert_eq!(!pings.is_empty(), has_ping, "{seconds} s: {pings:?}");
        if let Some(first) = pings.first() {
            let waited = first.duration_since(headers);
            assert!(waited >= Duration::from_millis(900), "{waited:?}");
        }
    }
}
