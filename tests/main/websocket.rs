//! Tests of WebSockets through the gateway: handshakes, frames in both directions, and when the gateway closes a
//! WebSocket. An open WebSocket is called a tunnel: the gateway forwards all bytes between the client and the service.
//! The clients and the services of the tests send raw bytes.

use std::{
    convert::Infallible,
    future::pending,
    io,
    net::SocketAddr,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{Request, Response};
use hyper::body::Incoming;
use rustls::pki_types::ServerName;
use test_support::{
    pki::{self, Authority, SERVER},
    raw::{self, listener},
    tickets::{key_profile, user},
    websocket::{ACCEPTED, BINARY, CLOSE, Frame, HANDSHAKE, PING, TEXT, echo},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    time::timeout,
};
use tower::{Service, ServiceBuilder};
use tower_passticket::{
    audit::{Audit, AuditRecord, AuditSink, Event},
    clock::{Clock, ManualClock, SystemClock},
    layer::{
        AuthenticateLayer, Authenticator, Bypass, Instance, Instances, OnFailure, PassTicketScheme,
        Route, RouteLayer, Routes, SanitizeLayer, SchemeLayer, ScopeLayer, ServiceProtocol,
        Upstream,
    },
    metrics::MetricRegistry,
    passticket::{KeyProfiles, LocalGenerator, Replay},
    proxy::{
        Forward, ForwardCounts, ForwardTimeouts, InstanceHealth, InstanceStates, ResponseBody,
        TunnelCounts, Tunnels,
    },
    revocation::{Revocation, RevocationIndex},
    tls::{Drained, Server, ServerTls},
    token::{
        Rs256Verifier, Scopes, ServiceId, SigningKey, TokenFingerprint, TokenIssuer, Validity,
    },
};

use crate::{PATIENCE, forwarding::unverified, until};

struct Records(mpsc::UnboundedSender<AuditRecord>);

impl AuditSink for Records {
    fn record(&self, record: AuditRecord) {
        // At the end of a test, the receiver may already be dropped.
        let _ = self.0.send(record);
    }
}

/// A running gateway with two routes to the same service. `/svc` requires a token, and `/open` does not.
struct Gateway {
    address: SocketAddr,
    issuer: TokenIssuer,
    revocations: Arc<RevocationIndex>,
    tunnels: Arc<Tunnels>,
    ended: Arc<TunnelCounts>,
    counts: Arc<ForwardCounts>,
    audit: mpsc::UnboundedReceiver<AuditRecord>,
    stop: oneshot::Sender<()>,
    drained: tokio::task::JoinHandle<Drained>,
}

impl Gateway {
    async fn start(service: SocketAddr) -> Self {
        Self::start_with(service, |tunnels| tunnels, |server| server).await
    }

    async fn start_with(
        service: SocketAddr,
        settings: impl FnOnce(Tunnels) -> Tunnels,
        server: impl FnOnce(Server) -> Server,
    ) -> Self {
        let key = SigningKey::from_pem(pki::SIGNING_KEY.as_bytes()).unwrap();
        let issuer = TokenIssuer::new(key);
        let revocations = Arc::<RevocationIndex>::default();
        let (sender, audit) = mpsc::unbounded_channel();
        let ended = Arc::<TunnelCounts>::default();
        let tunnels = Tunnels::new(revocations.clone())
            .with_counts(ended.clone())
            .with_audit(Audit::to(Records(sender)));
        let tunnels = Arc::new(settings(tunnels));
        let enforcing = tunnels.clone();
        tokio::spawn(async move { enforcing.enforce_revocations().await });
        let counts = Arc::<ForwardCounts>::default();
        let (listener, address) = listener().await;
        let (stop, stopped) = oneshot::channel::<()>();
        let server = server(Server::http(listener));
        let stack = stack(service, &issuer, &revocations, &tunnels, &counts);
        let drained = tokio::spawn(server.run(stack, async { drop(stopped.await) }));
        Self { address, issuer, revocations, tunnels, ended, counts, audit, stop, drained }
    }

    fn token(&self) -> String {
        self.issuer.login_token(&user("USER"), "domain").unwrap().expose().to_owned()
    }

    fn pat(&self) -> String {
        let scopes = Scopes::parse(["svc"]).unwrap();
        let pat = self.issuer.personal_access_token(&user("USER"), &scopes, Validity::MAX);
        pat.unwrap().expose().to_owned()
    }

    async fn open(&self, token: &str) -> Client<TcpStream> {
        let handshake = format!("{HANDSHAKE}authorization: Bearer {token}\r\n");
        let (head, client) = Client::send(self.address, "/svc/chat", &handshake).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        client
    }

    /// Returns the number of tunnels that have ended for this reason.
    fn ended(&self, reason: &str) -> u64 {
        let text = MetricRegistry::new().with(self.ended.clone()).expose();
        let name = format!("passticket_tunnels_ended_total{{reason=\"{reason}\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&name)).unwrap();
        line.parse().unwrap()
    }
}

fn stack(
    service: SocketAddr,
    issuer: &TokenIssuer,
    revocations: &Arc<RevocationIndex>,
    tunnels: &Arc<Tunnels>,
    counts: &Arc<ForwardCounts>,
) -> impl Service<Request<Incoming>, Response = Response<ResponseBody>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ use<> {
    let profile = key_profile("ZOWEAPPL").with_replay(Replay::Allowed);
    let applid = *profile.applid();
    let tickets = LocalGenerator::new(KeyProfiles::new([profile]).unwrap());
    let upstream = || Upstream::parse(&format!("http://{service}")).unwrap();
    let id = |id| ServiceId::new(id).unwrap();
    let scheme = Arc::new(PassTicketScheme::new(applid, tickets));
    let routes = [
        Route::new(id("svc"), "", upstream(), scheme.clone())
            .unwrap()
            .with_on_failure(OnFailure::Reject),
        Route::new(id("open"), "", upstream(), Bypass).unwrap(),
        Route::new(id("grpc"), "", upstream(), scheme).unwrap().with_protocol(ServiceProtocol::H2c),
    ];
    let authenticator = Authenticator::new(Rs256Verifier::new(issuer.verifying_key()))
        .with_personal_access_tokens(revocations.clone());
    ServiceBuilder::new()
        .layer(SanitizeLayer::new())
        .layer(RouteLayer::new(Routes::new(routes).unwrap()))
        .layer(AuthenticateLayer::new(authenticator))
        .layer(ScopeLayer::new())
        .layer(SchemeLayer::new())
        .service(
            Forward::new(unverified(), ForwardTimeouts::default())
                .with_max_connections(NonZeroUsize::new(2).unwrap())
                .with_counts(counts.clone())
                .with_tunnels(tunnels.clone()),
        )
}

struct Client<S>(BufReader<S>);

impl Client<TcpStream> {
    async fn send(address: SocketAddr, path: &str, headers: &str) -> (String, Self) {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::send_on(stream, path, headers).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    async fn send_on(stream: S, path: &str, headers: &str) -> (String, Self) {
        let mut stream = BufReader::new(stream);
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n");
        stream.get_mut().write_all(request.as_bytes()).await.unwrap();
        stream.get_mut().flush().await.unwrap();
        let head = timeout(PATIENCE, raw::head(&mut stream)).await.expect("an answer in time");
        (head, Self(stream))
    }

    async fn write(&mut self, frame: &Frame) {
        frame.write(self.0.get_mut()).await.unwrap();
    }

    async fn read(&mut self) -> io::Result<Option<Frame>> {
        timeout(PATIENCE, Frame::read(&mut self.0)).await.expect("a frame in time")
    }

    /// Reads a close frame, answers it, and waits for the end of the connection. Returns the code in the frame.
    async fn closed(&mut self) -> u16 {
        let close = self.read().await.unwrap().expect("a close frame");
        let code = close.close_code().unwrap_or_else(|| panic!("not a close frame: {close:?}"));
        assert!(!close.is_masked);
        self.write(&Frame::masked(CLOSE, close.payload)).await;
        assert_eq!(self.read().await.unwrap(), None);
        code
    }
}

/// Starts a service that runs `handle` for each connection. The returned receiver gets the results of `handle`.
async fn service<T: Send + 'static, F>(
    handle: impl Fn(TcpStream) -> F + Send + 'static,
) -> (SocketAddr, mpsc::UnboundedReceiver<T>)
where
    F: Future<Output = T> + Send + 'static,
{
    let (sender, results) = mpsc::unbounded_channel();
    let address = raw::service(move |stream| {
        let (result, sender) = (handle(stream), sender.clone());
        async move { drop(sender.send(result.await)) }
    });
    (address.await, results)
}

async fn accept(stream: TcpStream) -> BufReader<TcpStream> {
    stream.set_nodelay(true).unwrap();
    let mut stream = BufReader::new(stream);
    raw::head(&mut stream).await;
    stream.get_mut().write_all(format!("{ACCEPTED}\r\n").as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn frames_pass_unchanged_in_both_directions() {
    let (service, mut served) = service(echo).await;
    let gateway = Gateway::start(service).await;
    let mut client = gateway.open(&gateway.token()).await;
    let large: Vec<_> = (0..3_000_000_u32).map(|i| i as u8).collect();
    let messages = [
        Frame::masked(TEXT, *b"hello"),
        // A compressed message in three fragments, with a ping between them.
        Frame::masked(0x41, *b"one"),
        Frame::masked(PING, *b"?"),
        Frame::masked(0x00, *b"two"),
        Frame::masked(0x80, Vec::new()),
        Frame::masked(BINARY, vec![7; 70_000]),
        Frame::masked(BINARY, large),
    ];
    for message in &messages {
        client.write(message).await;
        let echo = client.read().await.unwrap().unwrap();
        assert_eq!(echo, Frame { is_masked: false, ..message.clone() });
    }
    client.write(&Frame::masked(CLOSE, 1000_u16.to_be_bytes())).await;
    let close = client.read().await.unwrap().unwrap();
    assert_eq!(close.close_code(), Some(1000));
    assert_eq!(client.read().await.unwrap(), None);
    let (head, frames) = served.recv().await.unwrap();
    assert_eq!(frames[..messages.len()], messages);
    let lines: Vec<_> = head.lines().collect();
    assert_eq!(lines[0], "GET /chat HTTP/1.1");
    for line in ["connection: Upgrade", "upgrade: websocket", "sec-websocket-version: 13"] {
        assert!(lines.contains(&line), "{head}");
    }
    assert!(lines.iter().any(|line| line.starts_with("authorization: Basic ")), "{head}");
    until(|| gateway.ended("client") == 1 && gateway.tunnels.open() == 0).await;
}

#[tokio::test]
async fn a_tunnel_works_over_tls_and_on_a_route_with_the_scheme_bypass() {
    let (service, _served) = service(echo).await;
    let gateway = Gateway::start(service).await;
    let (certificate, key) = (SERVER.certificate.as_bytes(), SERVER.key.as_bytes());
    let tls = ServerTls::from_pem(certificate, key, None).unwrap();
    let (listener, address) = listener().await;
    let stack =
        stack(service, &gateway.issuer, &gateway.revocations, &gateway.tunnels, &gateway.counts);
    tokio::spawn(Server::https(listener, tls).run(stack, pending()));
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let stream = Authority::trusted().connector(&[]).connect(name, stream).await.unwrap();
    let (head, mut client) = Client::send_on(stream, "/open/chat", HANDSHAKE).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    for length in [0, 5, 100_000, 1_500_000] {
        client.write(&Frame::masked(BINARY, vec![1; length])).await;
        assert_eq!(client.read().await.unwrap().unwrap(), Frame::plain(BINARY, vec![1; length]));
    }
    client.write(&Frame::masked(CLOSE, 1000_u16.to_be_bytes())).await;
    assert_eq!(client.read().await.unwrap().unwrap().close_code(), Some(1000));
    // The gateway ends TLS with `close_notify`. Otherwise `read` would return an error.
    assert_eq!(client.read().await.unwrap(), None);
}

#[tokio::test]
async fn only_a_correct_handshake_is_upgraded() {
    let (service, _served) = service(async |stream: TcpStream| {
        let mut stream = BufReader::new(stream);
        let head = raw::head(&mut stream).await;
        assert!(!head.contains("\r\nupgrade:") && !head.contains("\r\nconnection:"), "{head}");
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        stream.get_mut().write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let gateway = Gateway::start(service).await;
    for headers in [
        "connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n"
            .to_owned(),
        HANDSHAKE.replace("13", "8"),
        HANDSHAKE.replace("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZQ=="),
        HANDSHAKE.replace("keep-alive, Upgrade", "keep-alive"),
        HANDSHAKE.replace("upgrade: websocket\r\n", ""),
        HANDSHAKE.replace("sec-websocket-key", "x-key"),
        format!("{HANDSHAKE}content-length: 1\r\n"),
    ] {
        let stream = TcpStream::connect(gateway.address).await.unwrap();
        let body = if headers.contains("content-length") { "x" } else { "" };
        let mut stream = BufReader::new(stream);
        let request = format!("GET /open/chat HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n{body}");
        stream.get_mut().write_all(request.as_bytes()).await.unwrap();
        let head = timeout(PATIENCE, raw::head(&mut stream)).await.unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{headers}: {head}");
    }
}

#[tokio::test]
async fn a_refused_handshake_gets_an_http_error_status() {
    let (service, mut served) = service(async |stream: TcpStream| {
        let mut stream = BufReader::new(stream);
        raw::head(&mut stream).await;
        let answer = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        stream.get_mut().write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let gateway = Gateway::start(service).await;
    let revoked = gateway.token();
    let token = TokenFingerprint::of(&revoked);
    let expires_at = SystemClock.now().plus(Duration::from_secs(3600));
    gateway.revocations.apply(&Revocation::Token { token, expires_at });
    let cases = [
        ("/svc/chat", String::new(), 401),
        ("/svc/chat", "authorization: Bearer garbage\r\n".to_owned(), 401),
        ("/svc/chat", format!("authorization: Bearer {revoked}\r\n"), 401),
        ("/open/chat", "origin: https://evil.example\r\n".to_owned(), 403),
        ("/open/chat", "origin: null\r\n".to_owned(), 403),
        ("/open/chat", "origin: https://evil.example\r\ncookie: a=b\r\n".to_owned(), 403),
    ];
    for (path, headers, status) in cases {
        let headers = format!("{HANDSHAKE}{headers}");
        let (head, _) = Client::send(gateway.address, path, &headers).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{path} {headers}: {head}");
    }
    assert!(served.try_recv().is_err(), "the service got a handshake that the gateway refused");
    // The origin is the gateway's own, so the gateway accepts the handshake. But the service refuses it.
    let headers = format!("{HANDSHAKE}origin: http://localhost\r\n");
    let (head, _) = Client::send(gateway.address, "/open/chat", &headers).await;
    assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
}

#[tokio::test]
async fn a_service_response_that_does_not_match_the_handshake_gives_502() {
    for (answer, offered, status) in [
        (ACCEPTED.to_owned(), "", 101),
        (ACCEPTED.replace("s3p", "s3q"), "", 502),
        (ACCEPTED.replace("upgrade: websocket", "upgrade: h2c"), "", 502),
        (format!("{ACCEPTED}sec-websocket-protocol: x\r\n"), "", 502),
        (
            format!("{ACCEPTED}sec-websocket-protocol: x\r\n"),
            "sec-websocket-protocol: y, x\r\n",
            101,
        ),
        (format!("{ACCEPTED}sec-websocket-extensions: x\r\n"), "", 502),
        (
            format!("{ACCEPTED}sec-websocket-extensions: x; a=1\r\n"),
            "sec-websocket-extensions: x; a\r\n",
            101,
        ),
    ] {
        let sent = answer.clone();
        let (service, mut ended) = service(move |stream: TcpStream| {
            let answer = format!("{sent}content-length: 5\r\n\r\n");
            async move {
                let mut stream = BufReader::new(stream);
                raw::head(&mut stream).await;
                stream.get_mut().write_all(answer.as_bytes()).await.unwrap();
                stream.read_to_end(&mut Vec::new()).await.map(drop)
            }
        })
        .await;
        let gateway = Gateway::start(service).await;
        let headers = format!("{HANDSHAKE}{offered}");
        let (head, client) = Client::send(gateway.address, "/open/chat", &headers).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}: {head}");
        assert!(status != 101 || !head.contains("content-length"), "{head}");
        drop(client);
        timeout(PATIENCE, ended.recv()).await.expect("the connection to the service is closed");
    }
}

async fn events() -> SocketAddr {
    raw::service(|stream: TcpStream| async {
        let mut stream = BufReader::new(stream);
        raw::head(&mut stream).await;
        let answer = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
            transfer-encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n";
        stream.get_mut().write_all(answer).await.unwrap();
        pending::<()>().await;
    })
    .await
}

#[tokio::test]
async fn an_event_stream_ends_when_its_token_is_revoked_or_expires() {
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let with_clock = |tunnels: Tunnels| tunnels.with_clock(clock.clone());
    let gateway = Gateway::start_with(events().await, with_clock, |server| server).await;
    let expires_at = SystemClock.now().plus(Duration::from_secs(90 * 24 * 3600));
    let (revoked, pat) = (gateway.token(), gateway.pat());
    let mut streams = Vec::new();
    for token in [&revoked, &pat] {
        let authorization = format!("authorization: Bearer {token}\r\n");
        let (head, mut client) = Client::send(gateway.address, "/svc/x", &authorization).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let mut event = [0; 14];
        timeout(PATIENCE, client.0.read_exact(&mut event)).await.unwrap().unwrap();
        assert_eq!(&event, b"9\r\ndata: 1\n\n\r\n");
        streams.push(client);
    }
    let [mut first, mut second] = <[_; 2]>::try_from(streams).ok().unwrap();
    gateway
        .revocations
        .apply(&Revocation::Token { token: TokenFingerprint::of(&revoked), expires_at });
    let mut end = [0; 5];
    timeout(PATIENCE, first.0.read_exact(&mut end)).await.unwrap().unwrap();
    assert_eq!(&end, b"0\r\n\r\n");
    // The other stream ends when its token expires. A revocation makes the gateway check the clock.
    timeout(Duration::from_millis(200), second.0.read_exact(&mut end)).await.unwrap_err();
    clock.advance(Duration::from_secs(91 * 24 * 3600));
    gateway.revocations.apply(&Revocation::Token { token: TokenFingerprint::of(&pat), expires_at });
    timeout(PATIENCE, second.0.read_exact(&mut end)).await.unwrap().unwrap();
    assert_eq!(&end, b"0\r\n\r\n");
    // Both connections to the service were closed.
    until(|| gateway.counts.open() == 0).await;
}

async fn silent() -> SocketAddr {
    raw::service(|stream: TcpStream| async {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let mut calls = Vec::new();
        while let Some(Ok(call)) = connection.accept().await {
            calls.push(call);
        }
    })
    .await
}

#[tokio::test]
async fn a_grpc_call_without_an_answer_ends_when_its_token_is_revoked() {
    let gateway = Gateway::start(silent().await).await;
    let expires_at = SystemClock.now().plus(Duration::from_secs(90 * 24 * 3600));
    let token = gateway.token();
    let mut client = BufReader::new(TcpStream::connect(gateway.address).await.unwrap());
    let head = format!(
        "POST /grpc/x HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/grpc\r\n\
         transfer-encoding: chunked\r\nauthorization: Bearer {token}\r\n\r\n1\r\nx\r\n"
    );
    client.get_mut().write_all(head.as_bytes()).await.unwrap();
    until(|| gateway.counts.http2_streams() == 1).await;
    let mut answer = [0; 13];
    timeout(Duration::from_millis(200), client.read_exact(&mut answer)).await.unwrap_err();
    let token = TokenFingerprint::of(&token);
    gateway.revocations.apply(&Revocation::Token { token, expires_at });
    timeout(PATIENCE, client.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 401 ");
    until(|| gateway.counts.http2_streams() == 0).await;
}

#[tokio::test]
async fn a_revocation_closes_the_websocket_with_1008() {
    let (service, mut served) = service(echo).await;
    let mut gateway = Gateway::start(service).await;
    let now = SystemClock.now();
    let expires_at = now.plus(Duration::from_secs(90 * 24 * 3600));
    let of_token = |text: &str| Revocation::Token { token: TokenFingerprint::of(text), expires_at };
    let service_id = ServiceId::new("svc").unwrap();
    let up_to = now.plus(Duration::from_secs(10));
    let (login, pat) = (gateway.token(), gateway.pat());
    let cases = [
        (login.clone(), of_token(&login), "token-revoked"),
        (pat.clone(), of_token(&pat), "token-revoked"),
        (gateway.pat(), Revocation::User { user: user("USER"), up_to }, "revoked-by-user-rule"),
    ];
    let mut other = gateway.open(&gateway.token()).await;
    for (token, revocation, reason) in cases {
        let mut client = gateway.open(&token).await;
        client.write(&Frame::masked(TEXT, *b"hello")).await;
        client.read().await.unwrap().unwrap();
        gateway.revocations.apply(&revocation);
        assert_eq!(client.closed().await, 1008, "{revocation:?}");
        let (_, frames) = served.recv().await.unwrap();
        let close = frames.last().unwrap();
        assert_eq!((close.close_code(), close.is_masked), (Some(1008), true));
        let record = gateway.audit.recv().await.unwrap();
        assert_eq!(record.event, Event::WebSocketClosed);
        let json = record.to_json();
        for part in [reason, "\"user\":\"USER\"", "/svc/chat", "token_id"] {
            assert!(json.contains(part), "{part}: {json}");
        }
    }
    // A WebSocket with another token stays open.
    other.write(&Frame::masked(TEXT, *b"still here")).await;
    assert_eq!(other.read().await.unwrap().unwrap(), Frame::plain(TEXT, *b"still here"));
    assert_eq!(gateway.ended("revoked"), 3);
    // A revocation rule for a service applies only to PATs, so the WebSocket with a login token stays open.
    gateway.revocations.apply(&Revocation::Service { service: service_id, up_to });
    other.write(&Frame::masked(TEXT, *b"and here")).await;
    assert_eq!(other.read().await.unwrap().unwrap(), Frame::plain(TEXT, *b"and here"));
}

#[tokio::test]
async fn the_expiry_of_the_token_closes_the_websocket_with_1008() {
    let (service, _served) = service(echo).await;
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let for_tunnels = clock.clone();
    let mut gateway =
        Gateway::start_with(service, |tunnels| tunnels.with_clock(for_tunnels), |server| server)
            .await;
    let token = gateway.issuer.login_token(&user("USER"), "domain").unwrap();
    // On this clock, the token expires in a tenth of a second.
    let almost = token.expires_at().as_millis() - 100;
    clock.set(tower_passticket::clock::Timestamp::from_millis(almost));
    let mut client = gateway.open(token.expose()).await;
    client.write(&Frame::masked(TEXT, *b"hello")).await;
    client.read().await.unwrap().unwrap();
    clock.set(token.expires_at());
    assert_eq!(client.closed().await, 1008);
    let record = gateway.audit.recv().await.unwrap();
    assert!(record.to_json().contains("token-expired"), "{}", record.to_json());
    until(|| gateway.ended("expired") == 1).await;
}

#[tokio::test]
async fn a_shutdown_closes_the_websocket_with_1001() {
    let (service, mut served) = service(echo).await;
    let gateway = Gateway::start(service).await;
    let mut client = gateway.open(&gateway.token()).await;
    client.write(&Frame::masked(TEXT, *b"hello")).await;
    client.read().await.unwrap().unwrap();
    drop(gateway.stop);
    assert_eq!(client.closed().await, 1001);
    let (_, frames) = served.recv().await.unwrap();
    assert_eq!(frames.last().unwrap().close_code(), Some(1001));
    let drained = timeout(PATIENCE, gateway.drained).await.expect("the server stops").unwrap();
    assert_eq!(drained, Drained::Completely);
}

#[tokio::test]
async fn a_shutdown_waits_for_tunnels_until_the_tunnel_drain_timeout() {
    let (service, _served) = service(echo).await;
    let server = |server: Server| {
        server.with_drain_timeout(Duration::ZERO).with_tunnel_drain_timeout(PATIENCE)
    };
    let gateway = Gateway::start_with(service, |tunnels| tunnels, server).await;
    let mut client = gateway.open(&gateway.token()).await;
    client.write(&Frame::masked(TEXT, *b"before")).await;
    client.read().await.unwrap().unwrap();
    drop(gateway.stop);
    while TcpStream::connect(gateway.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    client.write(&Frame::masked(TEXT, *b"after")).await;
    assert_eq!(client.read().await.unwrap().unwrap(), Frame::plain(TEXT, *b"after"));
    client.write(&Frame::masked(CLOSE, 1000_u16.to_be_bytes())).await;
    assert_eq!(client.read().await.unwrap().unwrap().close_code(), Some(1000));
    assert_eq!(client.read().await.unwrap(), None);
    timeout(PATIENCE / 2, gateway.drained).await.expect("the server stops").unwrap();
}

/// The service sends the first half of a frame before the gateway closes the WebSocket, and the second half after that.
#[tokio::test]
async fn the_gateway_sends_its_close_frame_after_the_current_frame() {
    let (go_on, waiting) = oneshot::channel::<()>();
    let waiting = std::sync::Mutex::new(Some(waiting));
    let message = Frame::plain(BINARY, vec![9; 100_000]);
    let bytes = message.to_bytes();
    let (service, mut served) = service(move |stream| {
        let (bytes, waiting) = (bytes.clone(), waiting.lock().unwrap().take().unwrap());
        async move {
            let mut stream = accept(stream).await;
            let (first, second) = bytes.split_at(50_000);
            stream.get_mut().write_all(first).await.unwrap();
            waiting.await.unwrap();
            stream.get_mut().write_all(second).await.unwrap();
            // The gateway discards this message, because it has already sent its close frame.
            Frame::plain(TEXT, *b"late").write(stream.get_mut()).await.unwrap();
            let close = Frame::read(&mut stream).await.unwrap().unwrap();
            Frame::plain(CLOSE, close.payload.clone()).write(stream.get_mut()).await.unwrap();
            close
        }
    })
    .await;
    let gateway = Gateway::start(service).await;
    let mut client = gateway.open(&gateway.token()).await;
    let mut first = vec![0; 40_000];
    client.0.read_exact(&mut first).await.unwrap();
    gateway.tunnels.shut_down();
    go_on.send(()).unwrap();
    let mut rest = vec![0; message.to_bytes().len() - first.len()];
    client.0.read_exact(&mut rest).await.unwrap();
    assert_eq!([first, rest].concat(), message.to_bytes());
    assert_eq!(client.closed().await, 1001);
    assert_eq!(served.recv().await.unwrap().close_code(), Some(1001));
}

#[tokio::test]
async fn a_user_has_a_limited_number_of_tunnels() {
    let (service, _served) = service(echo).await;
    let one = NonZeroUsize::MIN;
    let settings = |tunnels: Tunnels| tunnels.with_tunnels_per_user(one);
    let gateway = Gateway::start_with(service, settings, |server| server).await;
    let mut client = gateway.open(&gateway.token()).await;
    let second = format!("{HANDSHAKE}authorization: Bearer {}\r\n", gateway.token());
    let (head, _) = Client::send(gateway.address, "/svc/chat", &second).await;
    assert!(head.starts_with("HTTP/1.1 429 ") && head.contains("retry-after"), "{head}");
    let (head, _open) = Client::send(gateway.address, "/open/chat", HANDSHAKE).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    client.write(&Frame::masked(CLOSE, Vec::new())).await;
    client.read().await.unwrap().unwrap();
    until(|| gateway.tunnels.open() == 1).await;
    gateway.open(&gateway.token()).await;
}

/// The limit is two connections to the instance. Two WebSockets use them, so the third WebSocket waits.
#[tokio::test]
async fn a_tunnel_occupies_a_connection_of_its_instance() {
    let (service, _served) = service(echo).await;
    let gateway = Gateway::start(service).await;
    let clients = [gateway.open(&gateway.token()).await, gateway.open(&gateway.token()).await];
    assert_eq!(gateway.counts.open(), 2);
    let waiting = Client::send(gateway.address, "/open/chat", HANDSHAKE);
    let (head, ()) = tokio::join!(waiting, async {
        until(|| gateway.counts.waiting() == 1).await;
        drop(clients);
    });
    assert!(head.0.starts_with("HTTP/1.1 101 "), "{}", head.0);
    drop(head);
    until(|| gateway.counts.open() == 0 && gateway.tunnels.open() == 0).await;
}

#[tokio::test]
async fn an_idle_tunnel_is_closed_with_1001() {
    let (service, mut served) = service(echo).await;
    let settings = |tunnels: Tunnels| tunnels.with_idle_timeout(Duration::from_millis(300));
    let gateway = Gateway::start_with(service, settings, |server| server).await;
    let mut client = gateway.open(&gateway.token()).await;
    assert_eq!(client.closed().await, 1001);
    assert_eq!(served.recv().await.unwrap().1.last().unwrap().close_code(), Some(1001));
    assert_eq!(gateway.ended("idle"), 1);
}

/// The client reads no bytes, so the gateway stops reading from the service. After the write timeout, the gateway
/// closes both connections.
#[tokio::test]
async fn a_client_that_does_not_read_is_disconnected_after_the_write_timeout() {
    let (service, mut served) = service(async |stream| {
        let mut stream = accept(stream).await;
        let piece = Frame::plain(BINARY, vec![0; 65_536]).to_bytes();
        let mut sent = 0_u64;
        while stream.get_mut().write_all(&piece).await.is_ok() {
            sent += piece.len() as u64;
        }
        sent
    })
    .await;
    let settings = |tunnels: Tunnels| tunnels.with_write_timeout(Duration::from_millis(500));
    let gateway = Gateway::start_with(service, settings, |server| server).await;
    let client = gateway.open(&gateway.token()).await;
    let sent = timeout(PATIENCE, served.recv()).await.expect("the tunnel ends").unwrap();
    // The buffers of the kernel store several megabytes. The gateway stores only a few kilobytes more.
    assert!(sent < 64 * 1024 * 1024, "{sent} bytes");
    until(|| gateway.ended("stalled") == 1).await;
    drop(client);
}

#[tokio::test]
async fn if_one_side_disconnects_the_gateway_closes_the_other_side() {
    let (address, mut served) = service(echo).await;
    let gateway = Gateway::start(address).await;
    drop(gateway.open(&gateway.token()).await);
    timeout(PATIENCE, served.recv()).await.expect("the service sees the end").unwrap();
    until(|| gateway.ended("client") == 1).await;
    let (address, _served) = service(async |stream| drop(accept(stream).await)).await;
    let gateway = Gateway::start(address).await;
    let mut client = gateway.open(&gateway.token()).await;
    assert_eq!(client.read().await.unwrap(), None);
    until(|| gateway.ended("service") == 1).await;
}

#[tokio::test]
async fn a_websocket_ends_the_ejection_of_its_instance_and_counts_as_a_request_in_flight() {
    let ([first, second], id) = ([listener().await.1, listener().await.1], "svc");
    let service = ServiceId::new(id).unwrap();
    let upstream = |address| Upstream::parse(&format!("http://{address}")).unwrap();
    let instances = [first, second].map(|at| Instance::of_service(&service, upstream(at)));
    let route = Route::new(service.clone(), "", upstream(first), Bypass).unwrap();
    let routes = Routes::new([route.with_instances(Instances::new(instances))]).unwrap();
    let states = Arc::<InstanceStates>::default();
    let tunnels = Arc::new(Tunnels::new(RevocationIndex::default()));
    let forward = Forward::new(unverified(), ForwardTimeouts::default());
    let forward = forward.with_instance_states(states.clone()).with_tunnels(tunnels);
    let stack = ServiceBuilder::new()
        .layer(SanitizeLayer::new())
        .layer(RouteLayer::new(routes))
        .service(forward);
    let (listener, address) = listener().await;
    tokio::spawn(Server::http(listener).run(stack, pending()));
    let health = |at| states.health(&service, &upstream(at));
    let open = async || Client::send(address, "/svc/chat", HANDSHAKE).await;

    let echoes = [(); 2].map(|()| Arc::<AtomicUsize>::default());
    let serve = async |at: SocketAddr, echoes: &Arc<AtomicUsize>| {
        let (listener, echoes) = (TcpListener::bind(at).await.unwrap(), echoes.clone());
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                echoes.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(echo(stream));
            }
        });
    };
    // No instance listens yet, so the gateway ejects both.
    open().await;
    assert_eq!([first, second].map(health), [InstanceHealth::Ejected; 2]);
    serve(first, &echoes[0]).await;
    serve(second, &echoes[1]).await;
    let ended = async {
        while [first, second].map(health) != [InstanceHealth::Up; 2] {
            let (head, _) = open().await;
            assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, ended).await.expect("the ejections end");
    let in_flight = |want: usize| {
        let text = MetricRegistry::new().with(states.clone()).expose();
        let line = format!("passticket_service_requests_in_flight {want}");
        text.lines().any(|it| it == line)
    };
    until(|| in_flight(0)).await;
    echoes.iter().for_each(|it| it.store(0, Ordering::Relaxed));
    let mut open_tunnels = Vec::new();
    for _ in 0..20 {
        open_tunnels.push(open().await.1);
    }
    assert!(in_flight(20), "each tunnel is a request in flight");
    assert_eq!(echoes.each_ref().map(|it| it.load(Ordering::Relaxed)), [10, 10]);
    drop(open_tunnels);
    until(|| in_flight(0)).await;
}
