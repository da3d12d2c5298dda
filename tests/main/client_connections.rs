//! Tests how the gateway closes connections of clients, and which bytes a client still receives. The clients send raw
//! bytes over TCP or TLS.

use std::{
    convert::Infallible,
    future::pending,
    io,
    net::SocketAddr,
    process::Command,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use rustls::pki_types::ServerName;
use test_support::{
    pki::{Authority, SERVER},
    raw::{self, Scripted, Step, head, listener},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::{Notify, oneshot},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::TlsConnector;
use tower::{Service, service_fn};
use tower_passticket::{
    layer::Bypass,
    proxy::{ForwardTimeouts, ResponseBody},
    tls::{ConnectionCounts, Drained, Server, ServerTls},
};

use crate::{
    PATIENCE,
    forwarding::{self, unverified},
    until,
};

#[derive(Clone, Copy, Debug)]
enum Transport {
    Tcp,
    Tls,
}

const BOTH: [Transport; 2] = [Transport::Tcp, Transport::Tls];

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

static CONNECTOR: LazyLock<TlsConnector> = LazyLock::new(|| Authority::trusted().connector(&[]));

impl Transport {
    fn server(self, listener: TcpListener) -> Server {
        let (certificate, key) = (SERVER.certificate.as_bytes(), SERVER.key.as_bytes());
        match self {
            Self::Tcp => Server::http(listener),
            Self::Tls => {
                Server::https(listener, ServerTls::from_pem(certificate, key, None).unwrap())
            }
        }
    }

    async fn connect(self, address: SocketAddr) -> Box<dyn Stream> {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        match self {
            Self::Tcp => Box::new(stream),
            Self::Tls => {
                let name = ServerName::try_from("localhost").unwrap();
                Box::new(CONNECTOR.connect(name, stream).await.unwrap())
            }
        }
    }
}

async fn gateway(transport: Transport, service: SocketAddr) -> SocketAddr {
    let url = format!("http://{service}");
    let stack = forwarding::forward(&url, Bypass, unverified(), ForwardTimeouts::default());
    serve(transport, stack).await
}

async fn serve<S>(transport: Transport, service: S) -> SocketAddr
where
    S: Service<Request<Incoming>, Response = Response<ResponseBody>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
{
    let (listener, address) = listener().await;
    tokio::spawn(transport.server(listener).run(service, pending()));
    address
}

/// Reads until the end of the connection. Returns the text, and an error if the connection did not end properly.
async fn read_all(stream: &mut (impl AsyncRead + Unpin)) -> (String, io::Result<()>) {
    let mut read = Vec::new();
    let result = timeout(PATIENCE, stream.read_to_end(&mut read)).await.expect("an end in time");
    (String::from_utf8(read).unwrap(), result.map(drop))
}

async fn response(stream: &mut impl Stream) -> io::Result<String> {
    let read = async {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let mut response = String::from_utf8(head).unwrap();
        let (_, length) = response.split_once("content-length: ").unwrap();
        let mut body = vec![0; length.split_once("\r\n").unwrap().0.parse().unwrap()];
        stream.read_exact(&mut body).await?;
        response.push_str(&String::from_utf8(body).unwrap());
        Ok(response)
    };
    timeout(PATIENCE, read).await.expect("the response arrives in time")
}

/// Sends a request with a body of `length` bytes. Reads the response only after it has sent the whole body, as Python's
/// `http.client` does.
async fn upload(stream: &mut impl Stream, length: usize) -> io::Result<String> {
    let head = format!("POST /svc/x HTTP/1.1\r\nhost: gw\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    for _ in 0..length / PIECE.len() {
        stream.write_all(&PIECE).await?;
    }
    stream.flush().await?;
    response(stream).await
}

static PIECE: [u8; 50_000] = [b'x'; 50_000];

/// The source of a response that is sent before the upload has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EarlyResponse {
    /// A handler of the gateway.
    Gateway,
    /// The gateway, which answers 502 because the service closes its connection.
    BadGateway,
    /// The service, which then closes the connection.
    Service,
}

/// If the gateway closed a connection while the client is still sending, the kernel would reset the connection. Then
/// most clients would lose the response.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_response_to_an_upload_is_lost() {
    for transport in BOTH {
        for (kind, uploads) in [
            (EarlyResponse::Gateway, 300),
            (EarlyResponse::BadGateway, 100),
            (EarlyResponse::Service, 100),
        ] {
            let (address, status) = match kind {
                EarlyResponse::Gateway => {
                    let refuse = service_fn(async |_: Request<Incoming>| {
                        let mut response = Response::new(ResponseBody::from(Bytes::from("no")));
                        *response.status_mut() = http::StatusCode::UNAUTHORIZED;
                        Ok::<_, Infallible>(response)
                    });
                    (serve(transport, refuse).await, 401)
                }
                EarlyResponse::BadGateway => {
                    let service = Scripted::http([Step::ReadHead]).await;
                    (gateway(transport, service.address).await, 502)
                }
                EarlyResponse::Service => {
                    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                    let service = Scripted::http([Step::ReadHead, Step::send(answer)]).await;
                    (gateway(transport, service.address).await, 200)
                }
            };
            let mut running = JoinSet::new();
            for i in 0..uploads {
                let length = if i % 20 == 0 { 5_000_000 } else { 100_000 * (1 + i % 5) };
                running.spawn(async move {
                    let mut stream = transport.connect(address).await;
                    let case = format!("{kind:?}, {transport:?}, {length} bytes");
                    let response = upload(&mut stream, length).await;
                    let response = response.unwrap_or_else(|error| panic!("{case}: lost: {error}"));
                    let start = format!("HTTP/1.1 {status} ");
                    assert!(response.starts_with(&start), "{case}: {response:?}");
                    let is_closed = response.contains("\r\nconnection: close\r\n");
                    assert!(is_closed || kind != EarlyResponse::Gateway, "{case}: {response:?}");
                    // If the response announces no close, the client must be able to send another request on the
                    // connection.
                    if !is_closed && kind == EarlyResponse::BadGateway {
                        let next = upload(&mut stream, 0).await;
                        next.unwrap_or_else(|error| panic!("{case}: not announced: {error}"));
                    }
                });
                if running.len() == 8 {
                    running.join_next().await.unwrap().unwrap();
                }
            }
            while let Some(upload) = running.join_next().await {
                upload.unwrap();
            }
        }
    }
}

/// The connection of the client stays open in two cases: the service has read the body, or hyper can discard the body
/// without waiting.
#[tokio::test]
async fn a_connection_stays_open_after_a_short_upload_that_was_not_read() {
    let answer = service_fn(async |_: Request<Incoming>| {
        Ok::<_, Infallible>(Response::new(ResponseBody::default()))
    });
    for transport in BOTH {
        let address = serve(transport, answer).await;
        let mut stream = BufReader::new(transport.connect(address).await);
        for _ in 0..3 {
            let request = b"POST / HTTP/1.1\r\nhost: gw\r\ncontent-length: 4\r\n\r\nbody";
            stream.write_all(request).await.unwrap();
            stream.flush().await.unwrap();
            let head = head(&mut stream).await;
            assert!(head.starts_with("HTTP/1.1 200 ") && !head.contains("close"), "{head}");
        }
    }
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
const LENGTH: &str = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n";

/// The service closes its connection in the middle of the response. From the first part of the response, the client
/// knows that its request has arrived at the service.
#[tokio::test]
async fn the_first_part_of_an_incomplete_response_is_delivered() {
    const PAUSE: Step = Step::Wait(Duration::from_millis(100));
    for transport in BOTH {
        for (head, part) in
            [(LENGTH, ""), (LENGTH, "part"), (CHUNKED, ""), (CHUNKED, "4\r\npart\r\n")]
        {
            for pause in [false, true] {
                let mut steps = vec![Step::ReadHead, Step::Read("body".len())];
                steps.extend(if pause {
                    vec![Step::send(head), PAUSE, Step::send(part), PAUSE]
                } else {
                    vec![Step::send(head.to_owned() + part)]
                });
                let mut service = Scripted::http(steps).await;
                let address = gateway(transport, service.address).await;
                let mut stream = transport.connect(address).await;
                // Without the pause, the gateway may answer 502. After a 502, the gateway would leave a keep-alive
                // connection open, and `read_all` would not return.
                let keep_alive = if pause { "keep-alive" } else { "close" };
                let request = format!(
                    "POST /svc/x HTTP/1.1\r\nhost: gw\r\nconnection: {keep_alive}\r\n\
                     content-length: 4\r\n\r\nbody"
                );
                stream.write_all(request.as_bytes()).await.unwrap();
                stream.flush().await.unwrap();
                let (response, result) = read_all(&mut stream).await;
                let case = format!("{head:?} {part:?}, pause {pause}, {transport:?}: {response:?}");
                if part.is_empty() && !pause {
                    // The gateway answers 502 if it has not yet sent the head of the response.
                    let is_502 = response.starts_with("HTTP/1.1 502 ");
                    assert!(is_502 || response.starts_with("HTTP/1.1 200 "), "{case}");
                } else {
                    assert!(response.starts_with("HTTP/1.1 200 "), "{case}");
                    assert!(response.ends_with(part) && !response.ends_with("0\r\n\r\n"), "{case}");
                    // The read fails only over TLS. Without TLS, the incomplete body shows the client that a part is
                    // missing.
                    assert_eq!(result.is_ok(), matches!(transport, Transport::Tcp), "{case}");
                }
                service.ended().await.unwrap();
                assert_eq!(service.connections(), 1, "{case}");
            }
        }
    }
}

/// For an HTTP/1.0 client, the end of the connection is the end of a response without length. So only a reset shows
/// that the response is incomplete.
#[tokio::test]
async fn an_incomplete_response_without_length_ends_with_a_reset_for_an_http10_client() {
    for transport in BOTH {
        let pause = Step::Wait(Duration::from_millis(100));
        let steps = [Step::ReadHead, Step::send(format!("{CHUNKED}4\r\npart\r\n")), pause];
        let service = Scripted::http(steps).await;
        let address = gateway(transport, service.address).await;
        let mut stream = transport.connect(address).await;
        stream.write_all(b"GET /svc/x HTTP/1.0\r\nhost: gw\r\n\r\n").await.unwrap();
        stream.flush().await.unwrap();
        let (response, result) = read_all(&mut stream).await;
        result.expect_err(&response);
    }
}

/// curl sends a request again on another connection if it gets no byte of the response on a reused connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_does_not_send_a_post_again_after_an_incomplete_response() {
    if Command::new("curl").arg("--version").output().is_err() {
        return;
    }
    for (head, part) in [(LENGTH, ""), (LENGTH, "part"), (CHUNKED, ""), (CHUNKED, "4\r\npart\r\n")]
    {
        let posts = Arc::new(AtomicUsize::new(0));
        let counted = posts.clone();
        let service = raw::service(move |stream| {
            let posts = counted.clone();
            async move {
                let mut stream = BufReader::new(stream);
                if head_of(&mut stream).await.starts_with("POST") {
                    posts.fetch_add(1, Ordering::SeqCst);
                    raw::discard(&mut stream, 4).await;
                    stream.write_all((head.to_owned() + part).as_bytes()).await.unwrap();
                } else {
                    let ok = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
                    stream.write_all(ok).await.unwrap();
                }
            }
        })
        .await;
        let address = gateway(Transport::Tcp, service).await;
        for _ in 0..10 {
            let url = format!("http://{address}/svc/x");
            let output = tokio::task::spawn_blocking(move || {
                Command::new("curl")
                    .args(["-sS", "--noproxy", "*", "--max-time", "20", &url])
                    .args([
                        "--next",
                        "-sS",
                        "--noproxy",
                        "*",
                        "--max-time",
                        "20",
                        "-d",
                        "body",
                        &url,
                    ])
                    .output()
            });
            let output = output.await.unwrap().unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(text.starts_with("ok"), "{output:?}");
        }
        assert_eq!(posts.load(Ordering::SeqCst), 10, "{head:?} {part:?}");
    }

    async fn head_of(stream: &mut BufReader<TcpStream>) -> String {
        head(stream).await
    }
}

const LOAD_CLIENTS: usize = 32;

/// Keep-alive clients send one request after the other while the server shuts down. A request is lost if a client sends
/// it on an open connection and gets no response.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_loses_no_request_of_keep_alive_clients() {
    let wanted: usize = std::env::var("SHUTDOWN_REQUESTS").map_or(4_000, |n| n.parse().unwrap());
    let answered = Arc::new(AtomicUsize::new(0));
    let mut round = 0;
    while answered.load(Ordering::Relaxed) < wanted {
        let transport = BOTH[round % 2];
        round += 1;
        let (listener, address) = listener().await;
        let (shut_down, shutdown) = oneshot::channel::<()>();
        let answer = service_fn(async |_: Request<Incoming>| {
            Ok::<_, Infallible>(Response::new(ResponseBody::from(Bytes::from("ok"))))
        });
        let server = tokio::spawn(transport.server(listener).run(answer, async {
            let _ = shutdown.await;
        }));
        let mut clients = JoinSet::new();
        for _ in 0..LOAD_CLIENTS {
            let stream = BufReader::new(transport.connect(address).await);
            clients.spawn(ask_until_closed(stream, answered.clone()));
        }
        // The time differs in each round. So the clients are in different states when the shutdown begins.
        sleep(Duration::from_micros(20_000 + 137 * round as u64 % 5_000)).await;
        shut_down.send(()).unwrap();
        while let Some(lost) = clients.join_next().await {
            let lost = lost.unwrap();
            assert!(lost.is_none(), "{lost:?} in round {round} over {transport:?}");
        }
        assert_eq!(server.await.unwrap(), Drained::Completely);
    }
}

/// Sends requests until a response announces the end of the connection. Returns an error if a request was lost.
async fn ask_until_closed(
    mut stream: BufReader<Box<dyn Stream>>,
    answered: Arc<AtomicUsize>,
) -> Option<io::Error> {
    loop {
        let exchange = async {
            stream.write_all(b"GET / HTTP/1.1\r\nhost: gw\r\n\r\n").await?;
            stream.flush().await?;
            let mut response = Vec::new();
            while !response.ends_with(b"\r\n\r\nok") {
                response.push(stream.read_u8().await?);
            }
            Ok(String::from_utf8(response).unwrap())
        };
        match exchange.await {
            Ok(response) => {
                answered.fetch_add(1, Ordering::Relaxed);
                if response.contains("\r\nconnection: close\r\n") {
                    return None;
                }
            }
            Err(error) => return Some(error),
        }
    }
}

/// The client may have sent a request on the idle connection shortly before the shutdown.
#[tokio::test]
async fn an_idle_connection_delays_the_shutdown_for_a_short_time() {
    for transport in BOTH {
        let (listener, address) = listener().await;
        let (shut_down, shutdown) = oneshot::channel::<()>();
        let answer = service_fn(async |_: Request<Incoming>| {
            Ok::<_, Infallible>(Response::new(ResponseBody::from(Bytes::from("ok"))))
        });
        let server = tokio::spawn(transport.server(listener).run(answer, async {
            let _ = shutdown.await;
        }));
        let request = b"GET / HTTP/1.1\r\nhost: gw\r\n\r\n";
        let mut streams = Vec::new();
        for _ in 0..2 {
            let mut stream = BufReader::new(transport.connect(address).await);
            stream.write_all(request).await.unwrap();
            stream.flush().await.unwrap();
            assert!(!head(&mut stream).await.contains("close"));
            raw::discard(&mut stream, 2).await;
            streams.push(stream);
        }
        let began = Instant::now();
        shut_down.send(()).unwrap();
        sleep(Duration::from_millis(100)).await;
        let [late, _silent] = &mut streams[..] else { unreachable!() };
        late.write_all(request).await.unwrap();
        late.flush().await.unwrap();
        let (response, result) = read_all(late).await;
        result.unwrap();
        assert!(response.contains("\r\nconnection: close\r\n") && response.ends_with("ok"));
        assert_eq!(timeout(PATIENCE, server).await.unwrap().unwrap(), Drained::Completely);
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
}

/// The server closes its port even if clients connect all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_closes_the_port_before_the_requests_in_flight_are_answered() {
    for transport in BOTH {
        let (listener, address) = listener().await;
        let (shut_down, shutdown) = oneshot::channel::<()>();
        let (arrived, finish) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let answer = service_fn({
            let (arrived, finish) = (arrived.clone(), finish.clone());
            move |_: Request<Incoming>| {
                let (arrived, finish) = (arrived.clone(), finish.clone());
                async move {
                    arrived.notify_one();
                    finish.notified().await;
                    Ok::<_, Infallible>(Response::new(ResponseBody::from(Bytes::from("ok"))))
                }
            }
        });
        let server = tokio::spawn(transport.server(listener).run(answer, async {
            let _ = shutdown.await;
        }));
        let mut in_flight = transport.connect(address).await;
        in_flight.write_all(GET.as_bytes()).await.unwrap();
        in_flight.flush().await.unwrap();
        timeout(PATIENCE, arrived.notified()).await.unwrap();
        let mut others = JoinSet::new();
        for _ in 0..4 {
            others.spawn(async move {
                loop {
                    match TcpStream::connect(address).await {
                        Ok(_) => {}
                        // When the server closes its port, the kernel resets the connections that the server has not
                        // accepted yet.
                        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
                        Err(error) => break error.kind(),
                    }
                }
            });
        }
        shut_down.send(()).unwrap();
        let refused = timeout(Duration::from_secs(5), others.join_all()).await;
        let refused = refused.expect("the port is closed in time");
        assert_eq!(refused, [io::ErrorKind::ConnectionRefused; 4]);
        finish.notify_one();
        let (response, result) = timeout(PATIENCE, read_all(&mut in_flight)).await.unwrap();
        result.unwrap();
        assert!(response.starts_with("HTTP/1.1 200 ") && response.ends_with("ok"), "{response}");
        assert_eq!(timeout(PATIENCE, server).await.unwrap().unwrap(), Drained::Completely);
    }
}

/// When `run` returns, no connection counts as open, even if the server has aborted connections.
#[tokio::test]
async fn after_a_shutdown_no_connection_is_counted_as_open() {
    let answer = service_fn(async |request: Request<Incoming>| {
        if request.method() == "POST" {
            pending::<()>().await;
        }
        Ok::<_, Infallible>(Response::new(ResponseBody::from(Bytes::from("ok"))))
    });
    for transport in BOTH {
        for (last_request, drain_timeout, is_cut_off) in
            [(GET, PATIENCE, false), (POST, Duration::from_secs(1), true)]
        {
            let (listener, address) = listener().await;
            let (shut_down, shutdown) = oneshot::channel::<()>();
            let counts = Arc::<ConnectionCounts>::default();
            let server = transport
                .server(listener)
                .with_drain_timeout(drain_timeout)
                .with_connection_counts(counts.clone());
            let server = tokio::spawn({
                let counts = counts.clone();
                async move {
                    let drained = server.run(answer, async { shutdown.await.unwrap() }).await;
                    (drained.cut_off() > 0, counts.open())
                }
            });
            let _silent = transport.connect(address).await;
            let mut client = transport.connect(address).await;
            client.write_all(last_request.as_bytes()).await.unwrap();
            client.flush().await.unwrap();
            until(|| counts.open() == 2).await;
            if !is_cut_off {
                timeout(PATIENCE, client.read_u8()).await.unwrap().unwrap();
            }
            shut_down.send(()).unwrap();
            let ended = timeout(PATIENCE, server).await.unwrap().unwrap();
            assert_eq!(ended, (is_cut_off, 0), "{last_request:?} over {transport:?}");
        }
    }
}

/// How a client ends its connection after it has sent its request.
#[derive(Clone, Copy, Debug)]
enum Leaves {
    Resets,
    /// The client closes the connection. Over TLS, the client sends `close_notify` first.
    Closes,
    /// The client closes the TCP connection without `close_notify`.
    Truncates,
}

const GET: &str = "GET /svc/x HTTP/1.1\r\nhost: gw\r\n\r\n";
const POST: &str = "POST /svc/x HTTP/1.1\r\nhost: gw\r\ncontent-length: 4\r\n\r\nbody";

/// Returns the steps of a service that reads the head of `request`, and also the body if `request` is `POST`.
fn reads(request: &str) -> Vec<Step> {
    let mut steps = vec![Step::ReadHead];
    if request == POST {
        steps.push(Step::Read("body".len()));
    }
    steps
}

/// A TCP FIN does not show whether the client has closed the whole connection or only its sending side.
#[tokio::test]
async fn the_request_of_a_disconnected_client_is_cancelled() {
    for (transport, leaves) in [
        (Transport::Tcp, Leaves::Resets),
        (Transport::Tcp, Leaves::Closes),
        (Transport::Tls, Leaves::Resets),
        (Transport::Tls, Leaves::Closes),
        (Transport::Tls, Leaves::Truncates),
    ] {
        for request in [GET, POST] {
            let steps = [reads(request), vec![Step::ReadToEnd]].concat();
            let mut service = Scripted::http(steps).await;
            let address = gateway(transport, service.address).await;
            let stream = TcpStream::connect(address).await.unwrap();
            match transport {
                Transport::Tcp => {
                    let mut stream = stream;
                    stream.write_all(request.as_bytes()).await.unwrap();
                    leave(&mut stream, leaves, TcpStream::set_zero_linger).await;
                }
                Transport::Tls => {
                    let name = ServerName::try_from("localhost").unwrap();
                    let mut stream = CONNECTOR.connect(name, stream).await.unwrap();
                    stream.write_all(request.as_bytes()).await.unwrap();
                    stream.flush().await.unwrap();
                    leave(&mut stream, leaves, |stream| stream.get_ref().0.set_zero_linger()).await;
                }
            }
            let cancelled = timeout(PATIENCE, service.ended()).await;
            let case = format!("{transport:?}, {leaves:?}, {request:?}");
            assert!(cancelled.is_ok(), "{case}: not cancelled");
        }
    }

    async fn leave<S: Stream>(
        stream: &mut S,
        leaves: Leaves,
        set_zero_linger: impl Fn(&S) -> io::Result<()>,
    ) {
        sleep(Duration::from_millis(100)).await;
        match leaves {
            Leaves::Resets => set_zero_linger(stream).unwrap(),
            Leaves::Closes => stream.shutdown().await.unwrap(),
            Leaves::Truncates => {}
        }
    }
}

#[tokio::test]
async fn a_client_that_closes_its_sending_side_gets_its_response() {
    const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n";
    const HTTP_10: &str = "GET /svc/x HTTP/1.0\r\nhost: gw\r\n\r\n";
    for transport in BOTH {
        for (request, millis, want) in [
            (GET, 100, "HTTP/1.1 200 OK\r\n"),
            (POST, 100, "HTTP/1.1 200 OK\r\n"),
            (HTTP_10, 1500, "HTTP/1.0 200 OK\r\n"),
            // If a client may have disconnected, the server sends the probe `100 Continue` to it. A client that still
            // waits ignores the probe.
            (GET, 1500, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"),
            (POST, 2500, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"),
        ] {
            let pause = Step::Wait(Duration::from_millis(millis));
            let answer = [pause.clone(), Step::send(ANSWER), pause, Step::send("full")];
            let service = Scripted::http([reads(request), answer.to_vec()].concat()).await;
            let address = gateway(transport, service.address).await;
            let mut stream = transport.connect(address).await;
            stream.write_all(request.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            let (response, result) = read_all(&mut stream).await;
            let case = format!("{transport:?}, {request:?}, {millis} ms: {response:?}");
            assert!(response.starts_with(want) && response.ends_with("\r\n\r\nfull"), "{case}");
            result.expect(&case);
        }
    }
}

/// A client may close its sending side in the middle of an upload.
#[tokio::test]
async fn an_incomplete_upload_gets_400() {
    for transport in BOTH {
        let service = Scripted::http([Step::ReadHead, Step::ReadToEnd]).await;
        let address = gateway(transport, service.address).await;
        let mut stream = transport.connect(address).await;
        stream.write_all(&POST.as_bytes()[..POST.len() - 1]).await.unwrap();
        stream.shutdown().await.unwrap();
        let (response, _) = read_all(&mut stream).await;
        assert!(response.starts_with("HTTP/1.1 400 "), "{transport:?}: {response:?}");
    }
}

/// After the error response, the server closes the connection without a reset. Over TLS, it sends `close_notify`.
#[tokio::test]
async fn a_client_that_sends_a_malformed_request_can_read_the_whole_response() {
    let answer = service_fn(async |_: Request<Incoming>| {
        Ok::<_, Infallible>(Response::new(ResponseBody::default()))
    });
    for transport in BOTH {
        let address = serve(transport, answer).await;
        let large = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(1 << 20));
        for (request, want) in [("G@T / HTTP/1.1\r\n\r\n", 400), (&large, 431)] {
            let mut stream = transport.connect(address).await;
            stream.write_all(request.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            let (response, result) = read_all(&mut stream).await;
            let start = format!("HTTP/1.1 {want} ");
            assert!(response.starts_with(&start), "{transport:?}, {want}: {response:?}");
            result.unwrap_or_else(|error| panic!("{transport:?}, {want}: {error}"));
        }
    }
}

/// Between two requests, the gateway takes an idle connection from hyper and frees its buffers. No byte may get lost,
/// wherever the client pauses.
#[tokio::test(start_paused = true)]
async fn requests_are_answered_after_a_pause_at_any_byte() {
    let length = service_fn(async |request: Request<Incoming>| {
        let path = request.uri().path().to_owned();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let answer = format!("{path}:{}", body.len());
        Ok::<_, Infallible>(Response::new(ResponseBody::from(Bytes::from(answer))))
    });
    let requests = [
        ("GET /a HTTP/1.1\r\nhost: gw\r\n\r\n", "/a:0"),
        ("POST /b HTTP/1.1\r\nhost: gw\r\ncontent-length: 0\r\n\r\n", "/b:0"),
        // The gateway ignores empty lines before a request (RFC 9112 §2.2).
        ("\r\n\r\nGET /c HTTP/1.1\r\nhost: gw\r\n\r\n", "/c:0"),
        ("GET /d HTTP/1.1\nhost: gw\n\n", "/d:0"),
        // These bodies contain empty lines, like the end of a head.
        ("POST /e HTTP/1.1\r\nhost: gw\r\ncontent-length: 8\r\n\r\n\r\n\r\n\r\n\r\n", "/e:8"),
        (
            "POST /f HTTP/1.1\r\nhost: gw\r\ntransfer-encoding: chunked\r\n\r\n4\r\n\r\n\r\n\r\n0\r\n\r\n",
            "/f:4",
        ),
        ("GET /g HTTP/1.0\r\nhost: gw\r\nconnection: keep-alive\r\n\r\n", "/g:0"),
        ("GET /h HTTP/1.1\r\nhost: gw\r\nconnection: close\r\n\r\n", "/h:0"),
    ];
    let (sent, answers): (Vec<_>, Vec<_>) = requests.into_iter().unzip();
    let sent = sent.concat();
    for transport in BOTH {
        let address = serve(transport, length).await;
        for paused_at in 0..sent.len() {
            let mut stream = transport.connect(address).await;
            // The client pauses at half of `paused_at`, at `paused_at`, and at the end.
            let mut from = 0;
            for to in [paused_at / 2, paused_at, sent.len()] {
                stream.write_all(&sent.as_bytes()[from..to]).await.unwrap();
                stream.flush().await.unwrap();
                from = to;
                // The gateway parks a connection after half a second.
                sleep(Duration::from_secs(2)).await;
            }
            let (read, result) = read_all(&mut stream).await;
            result.unwrap();
            let bodies: Vec<_> = read
                .split("HTTP/1.")
                .skip(1)
                .map(|response| response.split_once("\r\n\r\n").unwrap().1)
                .collect();
            assert_eq!(bodies, answers, "{transport:?}, paused at {paused_at}: {read}");
        }
    }
}

/// On an idle connection, the client sends a TLS record that cannot be decrypted. The gateway closes the connection,
/// and does not wait for the rest of a head.
#[tokio::test(start_paused = true)]
async fn an_idle_connection_ends_at_an_invalid_record() {
    let answer = service_fn(async |_: Request<Incoming>| {
        Ok::<_, Infallible>(Response::new(ResponseBody::default()))
    });
    let address = serve(Transport::Tls, answer).await;
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let (mut stream, _) = CONNECTOR.connect(name, stream).await.unwrap().into_inner();
    sleep(Duration::from_secs(2)).await;
    let record = [[0x17, 0x03, 0x03, 0x00, 0x20].as_slice(), &[b'x'; 0x20]].concat();
    stream.write_all(&record).await.unwrap();
    let mut rest = Vec::new();
    let read = timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await;
    read.expect("the gateway closes the connection").unwrap();
}
