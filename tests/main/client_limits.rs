//! Tests of the limits of client connections: number, idle time, slow clients, requests in flight, and size of request
//! headers.

use std::{
    convert::Infallible,
    future::pending,
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use rustls::pki_types::ServerName;
use test_support::{
    pki::{Authority, SERVER},
    raw::{Scripted, Step, head, listener},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep, timeout},
};
use tokio_rustls::client::TlsStream;
use tower_passticket::{
    connection::TrustedProxies,
    layer::Bypass,
    metrics::MetricRegistry,
    proxy::ForwardTimeouts,
    tls::{ClientLimits, ConnectionCounts, Drained, Server, ServerTls},
};

use crate::{
    PATIENCE,
    forwarding::{forward, unverified},
    until,
};

/// Within this time, the server must close a connection at a limit, or serve a client that has waited.
const A_SECOND: Duration = Duration::from_secs(1);

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Answers a request of a test. The path of the request selects the response.
async fn answer(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let body: Body = match request.uri().path() {
        "/never" => pending().await,
        "/endless" => Endless.boxed_unsync(),
        "/events" => {
            let response = Response::builder().header("content-type", "text/event-stream");
            return Ok(response.body(Endless.boxed_unsync()).unwrap());
        }
        path => Full::from(path.to_owned()).boxed_unsync(),
    };
    Ok(Response::new(body))
}

struct Endless;

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'x'; 64 * 1024])))))
    }
}

/// Starts a server without TLS. `settings` changes its settings.
async fn serve(settings: impl FnOnce(Server) -> Server) -> SocketAddr {
    let (listener, address) = listener().await;
    let server = settings(Server::http(listener));
    tokio::spawn(server.run(tower::service_fn(answer), pending()));
    address
}

/// Starts a server with TLS. `settings` changes its settings.
async fn serve_tls(settings: impl FnOnce(Server) -> Server) -> SocketAddr {
    let tls = ServerTls::builder(SERVER.certificate.as_bytes(), SERVER.key.as_bytes());
    let (listener, address) = listener().await;
    let server = settings(Server::https(listener, tls.build().unwrap()));
    tokio::spawn(server.run(tower::service_fn(answer), pending()));
    address
}

fn limits(connections: usize, per_address: usize) -> Arc<ClientLimits> {
    let number = |n| NonZeroUsize::new(n).unwrap();
    let limits = ClientLimits::new(number(connections));
    Arc::new(limits.with_connections_per_address(number(per_address)))
}

struct Client(BufReader<TcpStream>);

impl Client {
    async fn connect(to: SocketAddr) -> Self {
        Self::connect_from(Ipv4Addr::LOCALHOST, to).await
    }

    /// Connects from the local address `from`, which can be any address in 127.0.0.0/8. All of these are loopback
    /// addresses.
    async fn connect_from(from: Ipv4Addr, to: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        Self(BufReader::new(socket.connect(to).await.unwrap()))
    }

    async fn send(&mut self, bytes: &str) {
        self.0.get_mut().write_all(bytes.as_bytes()).await.unwrap();
    }

    async fn get(&mut self, path: &str) {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")).await;
        let head = timeout(PATIENCE, head(&mut self.0)).await.unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let mut body = vec![0; path.len()];
        timeout(PATIENCE, self.0.read_exact(&mut body)).await.unwrap().unwrap();
        assert_eq!(body, path.as_bytes());
    }

    /// Waits until the server closes the connection. Returns the waiting time.
    async fn closed(&mut self) -> Duration {
        let start = Instant::now();
        let mut rest = Vec::new();
        // If the server closes the connection without having read all bytes, the kernel resets the connection.
        // `read_to_end` then returns an error.
        let _ = timeout(PATIENCE, self.0.read_to_end(&mut rest)).await.expect("still open");
        assert_eq!(rest, b"");
        start.elapsed()
    }
}

pub(crate) async fn connect_h2(address: SocketAddr) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    Authority::trusted().connector(&[b"h2"]).connect(name, stream).await.unwrap()
}

async fn h2_client(to: SocketAddr) -> h2::client::SendRequest<Bytes> {
    let (client, connection) = h2::client::handshake(connect_h2(to).await).await.unwrap();
    tokio::spawn(connection);
    client
}

fn get(path: &str) -> Request<()> {
    Request::get(format!("https://localhost{path}")).body(()).unwrap()
}

#[tokio::test]
async fn at_the_limit_the_longest_idle_connection_of_all_servers_is_closed() {
    let limits = limits(3, 10);
    let one = serve(|server| server.with_client_limits(limits.clone())).await;
    let other = serve(|server| server.with_client_limits(limits.clone())).await;
    let mut busy = Client::connect(one).await;
    busy.send("GET /never HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    sleep(Duration::from_millis(50)).await;
    let mut idle_longest = Client::connect(one).await;
    idle_longest.get("/").await;
    sleep(Duration::from_millis(50)).await;
    let mut idle = Client::connect(other).await;
    idle.get("/").await;

    let mut new = Client::connect(other).await;
    timeout(A_SECOND, new.get("/new")).await.unwrap();
    assert!(idle_longest.closed().await < A_SECOND);
    idle.get("/still-open").await;
    new.get("/still-open").await;
    assert!(timeout(Duration::from_millis(50), busy.closed()).await.is_err());
}

#[tokio::test]
async fn at_the_limit_a_connection_without_a_request_is_closed() {
    let limits = limits(100, 200);
    let address = serve_tls(|server| server.with_client_limits(limits.clone())).await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(Client::connect(address).await);
    }
    let mut client = h2_client(address).await;
    let (response, _) = client.send_request(get("/"), true).unwrap();
    assert_eq!(timeout(A_SECOND, response).await.unwrap().unwrap().status(), 200);
    assert!(silent[0].closed().await < A_SECOND);
}

#[tokio::test]
async fn without_an_idle_connection_a_new_connection_waits_up_to_one_second() {
    let limits = limits(2, 2);
    let address = serve(|server| server.with_client_limits(limits.clone())).await;
    let mut busy = [Client::connect(address).await, Client::connect(address).await];
    for client in &mut busy {
        client.get("/").await;
        client.send("GET /never HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    }
    sleep(Duration::from_millis(50)).await;
    // 127.0.0.1 has its maximum of connections, and none of them is idle. So the next clients connect from another
    // address.
    let from = Ipv4Addr::new(127, 0, 0, 2);
    let mut refused = Client::connect_from(from, address).await;
    let took = refused.closed().await;
    assert!(took > Duration::from_millis(900), "{took:?}");
    let mut waits = Client::connect_from(from, address).await;
    // With this option, the kernel resets the connections when they are dropped. After a reset, the server cancels the
    // request immediately.
    for client in &busy {
        client.0.get_ref().set_zero_linger().unwrap();
    }
    drop(busy);
    waits.get("/").await;
}

#[tokio::test]
async fn at_the_limit_of_an_address_its_longest_idle_connection_is_closed() {
    let limits = limits(8, 2);
    let address = serve(|server| server.with_client_limits(limits.clone())).await;
    let mut other = Client::connect_from(Ipv4Addr::new(127, 0, 0, 2), address).await;
    other.get("/").await;
    let mut first = Client::connect(address).await;
    first.get("/").await;
    let mut second = Client::connect(address).await;
    second.get("/").await;
    let mut third = Client::connect(address).await;
    timeout(A_SECOND, third.get("/")).await.unwrap();
    assert!(first.closed().await < A_SECOND);
    // Now no connection of this address is idle, so the server closes each new connection of this address at once.
    for client in [&mut second, &mut third] {
        client.send("GET /never HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    }
    sleep(Duration::from_millis(100)).await;
    for _ in 0..3 {
        let mut refused = Client::connect(address).await;
        assert!(refused.closed().await < A_SECOND);
    }
    other.get("/still-open").await;
}

#[tokio::test]
async fn without_an_idle_connection_a_connection_with_an_unread_response_is_closed() {
    let limits = limits(2, 2);
    let address = serve_tls(|server| server.with_client_limits(limits.clone())).await;
    let mut handshake = h2::client::Builder::new();
    let (mut stalled, connection) = handshake
        .initial_window_size(0)
        .handshake::<_, Bytes>(connect_h2(address).await)
        .await
        .unwrap();
    let closed = tokio::spawn(connection);
    let (response, _) = stalled.send_request(get("/never-taken"), true).unwrap();
    let _body = timeout(PATIENCE, response).await.unwrap().unwrap();
    let (mut busy, connection) = h2::client::handshake(connect_h2(address).await).await.unwrap();
    let still_open = tokio::spawn(connection);
    let (_response, _) = busy.send_request(get("/never"), true).unwrap();
    sleep(Duration::from_millis(100)).await;

    let start = Instant::now();
    let mut new = h2_client(address).await;
    let (response, _) = new.send_request(get("/"), true).unwrap();
    assert_eq!(timeout(PATIENCE, response).await.unwrap().unwrap().status(), 200);
    assert!(start.elapsed() > Duration::from_millis(400));
    let _ = timeout(A_SECOND, closed).await.expect("still open");
    assert!(!still_open.is_finished());
}

#[tokio::test]
async fn without_an_idle_connection_a_connection_that_waits_for_a_body_is_closed() {
    let service = Scripted::http([Step::ReadHead, Step::ReadToEnd]).await;
    let timeouts = ForwardTimeouts::default();
    let stack = forward(&format!("http://{}", service.address), Bypass, unverified(), timeouts);
    let (listener, address) = listener().await;
    let server = Server::http(listener).with_client_limits(limits(1, 1));
    tokio::spawn(server.run(stack, pending()));

    let mut stalled = Client::connect(address).await;
    stalled.send("POST /svc/x HTTP/1.1\r\nhost: gw\r\ncontent-length: 9\r\n\r\n").await;
    sleep(Duration::from_millis(200)).await;
    let mut new = Client::connect(address).await;
    new.send("GET /other HTTP/1.1\r\nhost: gw\r\n\r\n").await;
    let answered = timeout(PATIENCE, head(&mut new.0)).await.unwrap();
    assert!(answered.starts_with("HTTP/1.1 404"), "{answered}");
    assert!(stalled.closed().await < A_SECOND);
}

#[tokio::test]
async fn connections_without_their_proxy_header_count_for_the_peer_address() {
    let proxies = TrustedProxies::new(|address| address.is_loopback());
    let settings =
        |server: Server| server.with_proxy_protocol(proxies).with_client_limits(limits(2, 1));
    let address = serve(settings).await;
    let mut first = Client::connect(address).await;
    sleep(Duration::from_millis(50)).await;
    let _second = Client::connect(address).await;
    let mut third = Client::connect(address).await;
    assert!(first.closed().await < A_SECOND);
    // After the server has read the PROXY header, the connection counts for the client address in this header.
    let header = "PROXY TCP4 192.0.2.7 192.0.2.1 50000 443\r\n";
    third.send(header).await;
    third.get("/").await;
    let mut fourth = Client::connect(address).await;
    fourth.send(header).await;
    fourth.get("/").await;
    assert!(third.closed().await < A_SECOND);
}

#[tokio::test]
async fn at_the_limit_a_connection_with_a_failed_handshake_is_closed_at_once() {
    let counts = Arc::<ConnectionCounts>::default();
    let settings = |server: Server| {
        server.with_client_limits(limits(1, 1)).with_connection_counts(counts.clone())
    };
    let address = serve_tls(settings).await;
    let mut failed = Client::connect(address).await;
    failed.send("\x16\x03\x01\x00\x05hello").await;
    // The client receives the TLS alert. Without a new client, the server would wait up to one second until this client
    // closes the connection.
    timeout(PATIENCE, failed.0.fill_buf()).await.unwrap().unwrap();
    let _new = Client::connect(address).await;
    sleep(Duration::from_millis(300)).await;
    assert_eq!(counts.open(), 1);
}

async fn end(client: &mut Client) -> std::io::Result<usize> {
    timeout(PATIENCE, client.0.read_to_end(&mut Vec::new())).await.expect("still open")
}

#[tokio::test]
async fn an_aborted_response_without_a_length_ends_with_a_reset() {
    const REQUEST: &str = "GET /endless HTTP/1.0\r\n\r\n";
    let counts = Arc::<ConnectionCounts>::default();
    let settings =
        |server: Server| server.with_send_timeout(SEND).with_connection_counts(counts.clone());
    let address = serve(settings).await;
    let mut client = Client::connect(address).await;
    client.send(REQUEST).await;
    all_closed_after_one(&counts).await;
    assert_eq!(end(&mut client).await.unwrap_err().kind(), ErrorKind::ConnectionReset);

    // The server also resets the connection if its drain timeout ends during the response.
    let (listener, address) = listener().await;
    let server = Server::http(listener).with_drain_timeout(Duration::from_millis(300));
    let (shut_down, shutdown) = oneshot::channel::<()>();
    let shutdown = async { shutdown.await.unwrap() };
    let server = tokio::spawn(server.run(tower::service_fn(answer), shutdown));
    let mut client = Client::connect(address).await;
    client.send(REQUEST).await;
    client.0.get_ref().readable().await.unwrap();
    shut_down.send(()).unwrap();
    assert_eq!(server.await.unwrap().cut_off(), 1);
    assert_eq!(end(&mut client).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

/// Waits until the server has accepted a connection, and then until no connection is open.
async fn all_closed_after_one(counts: &ConnectionCounts) {
    until(|| counts.open() > 0).await;
    all_closed(counts).await;
}

#[tokio::test]
async fn a_shutdown_disconnects_idle_clients_before_the_drain_timeout() {
    let tls = ServerTls::builder(SERVER.certificate.as_bytes(), SERVER.key.as_bytes());
    let (secure, plain) = (listener().await, listener().await);
    let (shut_down, shutdown) = watch::channel(());
    let mut servers = Vec::new();
    for server in [Server::https(secure.0, tls.build().unwrap()), Server::http(plain.0)] {
        let mut shutdown = shutdown.clone();
        let shutdown = async move { shutdown.changed().await.unwrap() };
        servers.push(tokio::spawn(server.run(tower::service_fn(answer), shutdown)));
    }
    let (mut client, mut connection) =
        h2::client::handshake(connect_h2(secure.1).await).await.unwrap();
    let (response, _) = client.send_request(get("/"), true).unwrap();
    let answered = async {
        let mut body = response.await.unwrap().into_body();
        while body.data().await.is_some() {}
    };
    tokio::select! {
        () = answered => {}
        _ = &mut connection => panic!("closed"),
    }
    // From here on, nothing polls `connection`, so the HTTP/2 client reads nothing.
    let mut half_sent = Client::connect(plain.1).await;
    half_sent.send("GET / HT").await;
    sleep(Duration::from_millis(100)).await;
    let start = Instant::now();
    shut_down.send(()).unwrap();
    for server in servers {
        assert_eq!(timeout(PATIENCE, server).await.unwrap().unwrap(), Drained::Completely);
    }
    // The default drain timeout is 30 s. A shutdown of less than 10 s shows that the connections ended before this
    // timeout.
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn an_idle_http2_connection_is_closed_although_its_client_sends_pings() {
    let idle = Duration::from_millis(500);
    let address = serve_tls(|server| server.with_idle_timeout(idle)).await;
    let (mut client, mut connection) =
        h2::client::handshake(connect_h2(address).await).await.unwrap();
    let mut pings = connection.ping_pong().unwrap();
    tokio::spawn(async move {
        while pings.ping(h2::Ping::opaque()).await.is_ok() {
            sleep(Duration::from_millis(50)).await;
        }
    });
    let (response, _) = client.send_request(get("/"), true).unwrap();
    let exchange = async {
        let mut body = response.await.unwrap().into_body();
        while body.data().await.is_some() {}
        Instant::now()
    };
    // The connection ends without an error, because the server sends GOAWAY.
    let closed = async {
        connection.await.unwrap();
        Instant::now()
    };
    let (answered, closed) =
        timeout(PATIENCE, async { tokio::join!(exchange, closed) }).await.unwrap();
    let took = closed - answered;
    assert!(took > idle - Duration::from_millis(100) && took < idle + A_SECOND, "{took:?}");
}

#[tokio::test]
async fn an_http2_connection_with_a_stream_is_not_idle() {
    let idle = Duration::from_millis(200);
    let address = serve_tls(|server| server.with_idle_timeout(idle)).await;
    let (mut client, connection) = h2::client::handshake(connect_h2(address).await).await.unwrap();
    let connection = tokio::spawn(connection);
    let (response, _) = client.send_request(get("/never"), true).unwrap();
    assert!(timeout(4 * idle, response).await.is_err());
    assert!(!connection.is_finished());
}

/// The whole response fits into the buffers of the server. So the server treats the request as ended, although the
/// client has not read the response.
#[tokio::test]
async fn an_http2_connection_with_a_short_unread_response_is_closed() {
    let idle = Duration::from_millis(300);
    let settings = |server: Server| server.with_idle_timeout(idle).with_send_timeout(SEND);
    let address = serve_tls(settings).await;
    let (mut client, mut connection) = h2::client::Builder::new()
        .initial_window_size(0)
        .handshake::<_, Bytes>(connect_h2(address).await)
        .await
        .unwrap();
    let mut pings = connection.ping_pong().unwrap();
    let closed = tokio::spawn(connection);
    tokio::spawn(async move {
        while pings.ping(h2::Ping::opaque()).await.is_ok() {
            sleep(Duration::from_millis(50)).await;
        }
    });
    let (response, _) = client.send_request(get("/unread"), true).unwrap();
    let start = Instant::now();
    let _body = timeout(PATIENCE, response).await.unwrap().unwrap();
    drop(timeout(PATIENCE, closed).await.expect("still open"));
    let took = start.elapsed();
    assert!(took < idle + SEND + A_SECOND, "{took:?}");
}

#[tokio::test]
async fn the_idle_timeout_and_the_header_timeout_are_separate() {
    let (idle, header) = (Duration::from_millis(1_500), Duration::from_millis(300));
    let settings = |server: Server| server.with_idle_timeout(idle).with_header_timeout(header);
    let address = serve(settings).await;
    let mut client = Client::connect(address).await;
    sleep(2 * header).await;
    client.get("/").await;
    let took = client.closed().await;
    assert!(took > idle - header && took < idle + A_SECOND, "{took:?}");

    let mut slow = Client::connect(address).await;
    slow.get("/").await;
    slow.send("GET / HT").await;
    let took = slow.closed().await;
    assert!(took > header / 2 && took < idle - header, "{took:?}");
}

/// The send timeout in the tests of slow clients.
const SEND: Duration = Duration::from_secs(1);

/// Waits until the server has no open connection. Returns the waiting time.
async fn all_closed(counts: &ConnectionCounts) -> Duration {
    let start = Instant::now();
    until(|| counts.open() == 0).await;
    start.elapsed()
}

#[tokio::test]
async fn a_client_that_never_reads_is_disconnected_unless_it_has_an_event_stream() {
    let counts = Arc::<ConnectionCounts>::default();
    let settings =
        |server: Server| server.with_send_timeout(SEND).with_connection_counts(counts.clone());
    let address = serve(settings).await;
    let mut client = Client::connect(address).await;
    client.send("GET /endless HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    client.0.get_ref().readable().await.unwrap();
    let took = all_closed(&counts).await;
    assert!(took > SEND / 2 && took < 3 * SEND, "{took:?}");

    let mut client = Client::connect(address).await;
    client.send("GET /events HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    sleep(2 * SEND).await;
    assert_eq!(counts.open(), 1);
}

#[tokio::test]
async fn a_client_that_reads_slowly_stays_connected() {
    let address = serve(|server| server.with_send_timeout(SEND)).await;
    // When the client's receive buffer is full, the server can send again only after the client has emptied a certain
    // part of the buffer. In a small buffer, this part is small. So a slow client empties it in time.
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    let mut client = Client(BufReader::new(socket.connect(address).await.unwrap()));
    client.send("GET /endless HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let end = Instant::now() + 5 * SEND;
    let mut buffer = vec![0; 64 * 1024];
    while Instant::now() < end {
        client.0.read_exact(&mut buffer).await.unwrap();
        sleep(SEND / 4).await;
    }
}

#[tokio::test]
async fn an_http2_stream_with_a_full_window_is_reset_and_its_connection_stays_open() {
    let address = serve_tls(|server| server.with_send_timeout(SEND)).await;
    let (mut client, connection) = h2::client::Builder::new()
        .initial_connection_window_size(1024 * 1024)
        .initial_window_size(16 * 1024)
        .handshake::<_, Bytes>(connect_h2(address).await)
        .await
        .unwrap();
    tokio::spawn(connection);
    let mut bodies = Vec::new();
    for path in ["/endless", "/events"] {
        let (response, _) = client.send_request(get(path), true).unwrap();
        bodies.push(timeout(PATIENCE, response).await.unwrap().unwrap().into_body());
    }
    let (events, endless) = (bodies.pop().unwrap(), bodies.pop().unwrap());
    let start = Instant::now();
    let cut = timeout(PATIENCE, end_of(endless)).await.expect("still open");
    let took = start.elapsed();
    assert!(cut.is_reset(), "{cut}");
    assert!(took > SEND / 2 && took < 3 * SEND, "{took:?}");
    assert!(timeout(2 * SEND, end_of(events)).await.is_err());
    let (response, _) = client.send_request(get("/"), true).unwrap();
    assert_eq!(timeout(PATIENCE, response).await.unwrap().unwrap().status(), 200);
}

/// Reads all data, but never enlarges the flow-control window. Returns the error that ends the stream.
async fn end_of(mut body: h2::RecvStream) -> h2::Error {
    loop {
        if let Some(Err(error)) = body.data().await {
            return error;
        }
    }
}

#[tokio::test]
async fn an_http2_stream_that_is_read_slowly_is_not_reset() {
    let address = serve_tls(|server| server.with_send_timeout(SEND)).await;
    let mut client = h2_client(address).await;
    let (response, _) = client.send_request(get("/endless"), true).unwrap();
    let mut body = response.await.unwrap().into_body();
    let end = Instant::now() + 4 * SEND;
    while Instant::now() < end {
        let data = timeout(PATIENCE, body.data()).await.unwrap().unwrap().unwrap();
        sleep(Duration::from_millis(100)).await;
        body.flow_control().release_capacity(data.len()).unwrap();
    }
}

#[tokio::test]
async fn an_upload_that_is_too_slow_gets_408_and_a_steady_upload_continues() {
    let service = Scripted::http([Step::ReadHead, Step::ReadToEnd]).await;
    let counts = Arc::<ConnectionCounts>::default();
    let timeouts = ForwardTimeouts::default().with_receive(SEND);
    let stack = forward(&format!("http://{}", service.address), Bypass, unverified(), timeouts);
    let (listener, address) = listener().await;
    let server = Server::http(listener).with_connection_counts(counts.clone());
    tokio::spawn(server.run(stack, pending()));

    const HEAD: &str = "POST /svc/x HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n";
    let mut slow = Client::connect(address).await;
    let start = Instant::now();
    slow.send(&format!("{HEAD}\r\n")).await;
    let response = async {
        loop {
            slow.send("x").await;
            if let Ok(head) = timeout(SEND / 5, head(&mut slow.0)).await {
                break head;
            }
        }
    };
    let response = timeout(PATIENCE, response).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 408"), "{response}");
    assert!(start.elapsed() > SEND / 2);

    // `steady` sends more than the required 4 KiB in each second. `grpc` sends only the head of a gRPC request. The
    // limit applies to `grpc` too, because this service does not use HTTP/2.
    let mut steady = Client::connect(address).await;
    steady.send(&format!("{HEAD}\r\n")).await;
    let mut grpc = Client::connect(address).await;
    grpc.send(&format!("{HEAD}content-type: application/grpc\r\n\r\n")).await;
    for _ in 0..10 {
        steady.send(&"x".repeat(2000)).await;
        let answered = timeout(SEND / 4, steady.0.fill_buf()).await;
        assert!(answered.is_err(), "{answered:?}");
    }
    let response = timeout(PATIENCE, head(&mut grpc.0)).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 408"), "{response}");
    let text = MetricRegistry::new().with(counts).expose();
    let line = "passticket_connections_closed_total{reason=\"receive\"} 2\n";
    assert!(text.contains(line), "{text}");
}

#[tokio::test]
async fn requests_of_an_address_beyond_its_limit_are_answered_with_429() {
    let limits = ClientLimits::default().with_requests_per_address(NonZeroUsize::new(3).unwrap());
    let limits = Arc::new(limits);
    let counts = Arc::<ConnectionCounts>::default();
    // The limit applies to the requests of one address on all servers and all connections together.
    let one = serve(|server| server.with_client_limits(limits.clone())).await;
    let settings = |server: Server| {
        server.with_client_limits(limits.clone()).with_connection_counts(counts.clone())
    };
    let other = serve_tls(settings).await;
    let mut busy = Client::connect(one).await;
    busy.send("GET /never HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let mut client = h2_client(other).await;
    let streams: Vec<_> =
        (0..2).map(|_| client.send_request(get("/never"), true).unwrap()).collect();
    sleep(Duration::from_millis(100)).await;
    for method in ["GET", "HEAD"] {
        let request = Request::builder().method(method).uri("https://localhost/");
        let (response, _) = client.send_request(request.body(()).unwrap(), true).unwrap();
        let response = timeout(PATIENCE, response).await.unwrap().unwrap();
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["retry-after"], "1");
        let mut body = response.into_body();
        let data = body.data().await.transpose().unwrap().unwrap_or_default();
        let text = String::from_utf8(data.to_vec()).unwrap();
        assert_eq!(text.contains("ZWESG429E"), method == "GET", "{text}");
    }
    let mut stranger = Client::connect_from(Ipv4Addr::new(127, 0, 0, 2), one).await;
    stranger.get("/").await;
    drop(streams);
    sleep(Duration::from_millis(100)).await;
    let (response, _) = client.send_request(get("/"), true).unwrap();
    assert_eq!(timeout(PATIENCE, response).await.unwrap().unwrap().status(), 200);
    let text = MetricRegistry::new().with(counts).expose();
    let line = "passticket_requests_refused_total{reason=\"requests-per-address\"} 2\n";
    assert!(text.contains(line), "{text}");
}

/// A request that has arrived at the service. The service answers it when the test calls [`answer`](Self::answer).
struct Held(oneshot::Sender<()>);

impl Held {
    fn answer(self) {
        self.0.send(()).unwrap();
    }
}

/// A server that trusts the proxy 127.0.0.1, and permits 2 requests in flight for each address. The service holds each
/// request for `/held` until the test answers it.
struct BehindProxy {
    address: SocketAddr,
    held: mpsc::UnboundedReceiver<Held>,
    counts: Arc<ConnectionCounts>,
}

impl BehindProxy {
    async fn start(server: impl FnOnce(TcpListener) -> Server) -> Self {
        let (listener, address) = listener().await;
        let limits = ClientLimits::default();
        let limits = limits.with_requests_per_address(NonZeroUsize::new(2).unwrap());
        let counts = Arc::<ConnectionCounts>::default();
        let server = server(listener)
            .with_trusted_proxies(TrustedProxies::new(|ip| ip == Ipv4Addr::LOCALHOST))
            .with_client_limits(Arc::new(limits))
            .with_connection_counts(counts.clone());
        let (sender, held) = mpsc::unbounded_channel();
        let service = tower::service_fn(move |request: Request<Incoming>| {
            let sender = sender.clone();
            async move {
                if request.uri().path() == "/held" {
                    let (answer, answered) = oneshot::channel();
                    sender.send(Held(answer)).unwrap();
                    answered.await.unwrap();
                }
                Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
            }
        });
        tokio::spawn(server.run(service, pending()));
        Self { address, held, counts }
    }

    async fn held(&mut self) -> Held {
        timeout(PATIENCE, self.held.recv()).await.unwrap().unwrap()
    }

    fn assert_refused(&self, requests: u32) {
        let text = MetricRegistry::new().with(self.counts.clone()).expose();
        let line = format!(
            "passticket_requests_refused_total{{reason=\"requests-per-address\"}} {requests}\n"
        );
        assert!(text.contains(&line), "{text}");
    }
}

/// The value of the header `X-Forwarded-For`. With `None`, the request does not contain the header.
type ForwardedFor<'a> = Option<&'a str>;

impl Client {
    async fn send_for(&mut self, path: &str, client: ForwardedFor<'_>) {
        let header = client.map(|client| format!("x-forwarded-for: {client}\r\n"));
        let header = header.unwrap_or_default();
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{header}\r\n")).await;
    }

    async fn status_for(&mut self, client: ForwardedFor<'_>) -> String {
        self.send_for("/", client).await;
        self.next_status().await
    }

    async fn next_status(&mut self) -> String {
        let head = timeout(PATIENCE, head(&mut self.0)).await.unwrap().to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.unwrap().parse().unwrap()];
        timeout(PATIENCE, self.0.read_exact(&mut body)).await.unwrap().unwrap();
        head.split(' ').nth(1).unwrap().to_owned()
    }
}

#[tokio::test]
async fn over_http1_a_client_behind_a_trusted_proxy_has_its_own_limit_of_requests() {
    let mut server = BehindProxy::start(Server::http).await;
    let mut busy = [Client::connect(server.address).await, Client::connect(server.address).await];
    let mut held = Vec::new();
    for proxy in &mut busy {
        proxy.send_for("/held", Some("203.0.113.1")).await;
        held.push(server.held().await);
    }
    let mut proxy = Client::connect(server.address).await;
    for (client, status) in [
        (Some("203.0.113.1"), "429"),
        // The client has sent the first address, and the proxy has added the second one.
        (Some("203.0.113.2, 203.0.113.1"), "429"),
        (Some("203.0.113.2"), "200"),
        (None, "200"),
        (Some("unknown"), "200"),
    ] {
        assert_eq!(proxy.status_for(client).await, status, "{client:?}");
    }
    server.assert_refused(2);

    held.remove(0).answer();
    assert_eq!(busy[0].next_status().await, "200");
    // A request on this connection begins only after the previous one has ended.
    busy[0].send_for("/held", Some("203.0.113.1")).await;
    held.push(server.held().await);
    assert_eq!(proxy.status_for(Some("203.0.113.1")).await, "429");
    server.assert_refused(3);
}

#[tokio::test]
async fn over_http2_a_client_behind_a_trusted_proxy_has_its_own_limit_of_requests() {
    let tls = ServerTls::builder(SERVER.certificate.as_bytes(), SERVER.key.as_bytes());
    let tls = tls.build().unwrap();
    let mut server = BehindProxy::start(|listener| Server::https(listener, tls)).await;
    let mut proxy = h2_client(server.address).await;
    let mut send = |path: &str, client: ForwardedFor<'_>| {
        let mut request = get(path);
        if let Some(client) = client {
            request.headers_mut().insert("x-forwarded-for", client.parse().unwrap());
        }
        let (response, _) = proxy.send_request(request, true).unwrap();
        async { timeout(PATIENCE, response).await.unwrap().unwrap().status() }
    };
    let client = Some("2001:db8::1");
    let first = send("/held", client);
    let held = server.held().await;
    let _second = send("/held", client);
    let _held = server.held().await;
    for (client, status) in [
        (client, 429),
        // All addresses of an IPv6 /64 network count as one client.
        (Some("2001:db8::ffff:0:0:1"), 429),
        (Some("2001:db8:0:1::1"), 200),
        (None, 200),
    ] {
        assert_eq!(send("/", client).await, status, "{client:?}");
    }
    server.assert_refused(2);
    held.answer();
    assert_eq!(first.await, 200);
    let deadline = Instant::now() + PATIENCE;
    // The server ends the stream in a separate task, shortly after the client has received the response.
    while send("/", client).await != 200 {
        assert!(Instant::now() < deadline, "still refused");
    }
}

#[tokio::test]
async fn requests_of_an_untrusted_peer_count_for_its_own_address() {
    let mut server = BehindProxy::start(Server::http).await;
    let mut busy = Vec::new();
    for (from, client) in [
        ("127.0.0.2", "203.0.113.1"),
        ("127.0.0.2", "203.0.113.2"),
        ("127.0.0.1", "203.0.113.1"),
        ("127.0.0.1", "203.0.113.1"),
    ] {
        let mut peer = Client::connect_from(from.parse().unwrap(), server.address).await;
        peer.send_for("/held", Some(client)).await;
        busy.push((peer, server.held().await));
    }
    let mut stranger = Client::connect_from(Ipv4Addr::new(127, 0, 0, 2), server.address).await;
    assert_eq!(stranger.status_for(Some("203.0.113.3")).await, "429");
    // A client may connect both directly and through the proxy. The requests on both ways count together.
    let mut proxy = Client::connect(server.address).await;
    assert_eq!(proxy.status_for(Some("127.0.0.2")).await, "429");
    assert_eq!(proxy.status_for(Some("203.0.113.3")).await, "200");
}

/// Returns an HTTP/2 request with `fields` headers, whose values have `bytes` bytes in total.
fn with_headers(path: &str, fields: usize, bytes: usize) -> Request<()> {
    let mut request = get(path);
    let value = HeaderValue::try_from("x".repeat(bytes / fields)).unwrap();
    for number in 0..fields {
        let name = HeaderName::try_from(format!("x-{number}")).unwrap();
        request.headers_mut().insert(name, value.clone());
    }
    request
}

#[tokio::test]
async fn headers_of_more_than_64_kib_are_answered_with_431_over_http2() {
    let address = serve_tls(|server| server).await;
    let client = h2_client(address).await;
    let mut client = client.ready().await.unwrap();
    for (fields, kilobytes, status) in
        [(1, 60, 200), (60, 60, 200), (1, 70, 431), (70, 70, 431), (1, 120, 431), (1, 60, 200)]
    {
        let request = with_headers("/", fields, kilobytes * 1000);
        let (response, _) = client.send_request(request, true).unwrap();
        let response = timeout(PATIENCE, response).await.unwrap().unwrap();
        assert_eq!(response.status(), status, "{fields} fields, {kilobytes} KB");
        let mut body = response.into_body();
        while let Some(data) = body.data().await {
            data.unwrap();
        }
    }
}

#[tokio::test]
async fn headers_of_more_than_64_kib_are_answered_with_431_over_http1() {
    let address = serve(|server| server).await;
    for (kilobytes, status) in [(1, "200"), (60, "200"), (70, "431"), (90, "431"), (200, "431")] {
        let mut client = Client::connect(address).await;
        let value = "a".repeat(kilobytes * 1000);
        client.send(&format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {value}\r\n\r\n")).await;
        let head = timeout(PATIENCE, head(&mut client.0)).await.unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{kilobytes} KB: {head}");
    }
}

/// Encodes an HTTP/2 frame (RFC 9113 §4.1). A SETTINGS frame belongs to the connection (stream 0). Any other frame
/// belongs to stream 1.
fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let stream = u8::from(kind != SETTINGS);
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags, 0, 0, 0, stream]);
    frame.extend(payload);
    frame
}

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;

/// If the server reset the stream with an error after the response, many clients would report only the reset.
#[tokio::test]
async fn the_answer_to_too_large_headers_is_not_followed_by_a_reset_with_an_error() {
    for has_body in [false, true] {
        no_reset_with_an_error_follows(has_body).await;
    }
}

/// With `has_body`, the client leaves the request stream open, which announces a body.
async fn no_reset_with_an_error_follows(has_body: bool) {
    let address = serve_tls(|server| server).await;
    let mut stream = connect_h2(address).await;
    // These bytes encode `:method: GET`, `:scheme: https`, `:path: /`, `:authority: localhost`, and the header `x` (RFC
    // 7541 §6).
    let mut block = vec![0x82, 0x87, 0x84, 0x01, 9];
    block.extend(b"localhost");
    // The value of `x` has 70,000 bytes. HPACK encodes this length in several bytes: 127 + 0x71 + (0x21 << 7) +
    // (0x04 << 14) = 70,000.
    block.extend([0x00, 1, b'x', 0x7f, 0xf1, 0xa1, 0x04]);
    block.extend([b'x'; 70_000]);
    let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    sent.extend(frame(SETTINGS, 0, &[]));
    let pieces: Vec<_> = block.chunks(16_000).collect();
    for (number, piece) in pieces.iter().enumerate() {
        let kind = if number == 0 { HEADERS } else { CONTINUATION };
        let end_stream = u8::from(number == 0 && !has_body);
        let end_headers = if number + 1 == pieces.len() { 4 } else { 0 };
        sent.extend(frame(kind, end_stream | end_headers, piece));
    }
    stream.write_all(&sent).await.unwrap();
    let mut frames = Vec::new();
    let read = async {
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.unwrap();
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            stream.read_exact(&mut payload).await.unwrap();
            if head[8] == 1 {
                frames.push((head[3], payload));
            }
        }
    };
    // The server keeps the connection open, so `read` does not end. All frames arrive within this second.
    assert!(timeout(A_SECOND, read).await.is_err());
    let (kind, block) = &frames[0];
    // The first byte names entry 8 of the static table, `:status`. The value is `431` in Huffman code.
    assert_eq!((*kind, &block[..5]), (HEADERS, &[0x48, 0x83, 0x69, 0x90, 0xff][..]), "{block:?}");
    // A reset with NO_ERROR only tells the client that the server does not need the body (RFC 9113 §8.1).
    let resets = frames.iter().filter(|(kind, _)| *kind == RST_STREAM);
    for (_, code) in resets {
        assert!(has_body);
        assert_eq!(code, &[0; 4]);
    }
}

#[tokio::test]
async fn the_memory_for_headers_of_all_connections_is_limited() {
    let limits = Arc::new(ClientLimits::default().with_header_bytes(512 * 1024));
    let address = serve_tls(|server| server.with_client_limits(limits.clone())).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(h2_client(address).await);
    }
    // The headers of nine requests of 56 kB stay below the limit of 512 KiB. A tenth request exceeds it.
    let mut held = Vec::new();
    for number in 0..9 {
        let request = with_headers("/never", 1, 56_000);
        held.push(clients[number % 2].send_request(request, true).unwrap());
    }
    // Sends a large request on another connection, and repeats it until the status is `wanted`. The first attempts may
    // get another status, because the requests above take some time to arrive and to end.
    let large = async |client: &mut h2::client::SendRequest<Bytes>, wanted: u16| {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (response, _) = client.send_request(with_headers("/", 1, 56_000), true).unwrap();
            let response = timeout(PATIENCE, response).await.unwrap().unwrap();
            if response.status() == wanted {
                return response;
            }
            assert!(Instant::now() < deadline, "{}", response.status());
            sleep(Duration::from_millis(20)).await;
        }
    };
    let response = large(&mut clients[2], 503).await;
    assert_eq!(response.headers()["retry-after"], "1");
    // A small request succeeds, because the limit does not apply to its headers.
    let (response, _) = clients[2].send_request(get("/"), true).unwrap();
    assert_eq!(timeout(PATIENCE, response).await.unwrap().unwrap().status(), 200);
    drop(held);
    large(&mut clients[2], 200).await;
}
