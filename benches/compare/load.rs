//! The load generator: it sends the same request on many connections and measures the latency of the
//! responses.
//!
//! ```text
//! load closed ADDRESS REQUEST CONNECTIONS SECONDS [TLS]      each connection sends the next request after a response
//! load open ADDRESS REQUEST CONNECTIONS SECONDS RATE [TLS]   RATE requests per second on all connections together
//! load handshake ADDRESS REQUEST CONNECTIONS SECONDS TLS     each request has a new connection
//! load idle ADDRESS REQUEST CONNECTIONS SECONDS [TLS]        each connection sends one request, and is then idle
//! load websocket ADDRESS REQUEST CONNECTIONS SECONDS [TLS]   like closed: each WebSocket sends a message, and waits for its echo
//! load http2 ADDRESS REQUEST CONNECTIONS SECONDS STREAMS TLS like closed, over HTTP/2: STREAMS requests at a time on each connection
//! load grpc ADDRESS REQUEST CONNECTIONS SECONDS STREAMS TLS  like http2: unary calls
//!
//! REQUEST   a file with the bytes of the request. For websocket, this is the handshake. For http2, the file contains
//!           the request as in HTTP/1.1. For grpc, only its head is used
//! TLS       CA [CERTIFICATE KEY]: PEM files
//! ```
//!
//! When the connections are open and warmed up, the program prints `ready` and waits for a line on standard input.
//! Before the caller writes this line, it can read the processor time of the proxy. After SECONDS the program prints
//! one line of JSON: the number of responses, the seconds, and percentiles of the latency in microseconds. The program
//! repeats the measurement for each line of input, with the same connections. `idle` waits for one line only, then
//! sends a second request on each connection, to check that the connection is open. If a response is not 200 (for the
//! handshake of a WebSocket: 101), the program ends with an error.
//!
//! In `open`, the latency of a request starts when the request is due, not when it is sent. So if a slow
//! response delays the next requests, their latency contains the delay (no coordinated omission).
//!
//! Without arguments the program does nothing, so that `cargo test --benches` can run it.

#![expect(clippy::print_stdout, reason = "the program writes its results to standard output")]

use std::{
    error::Error,
    fs,
    io::{self, BufRead},
    net::SocketAddr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request};
use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsConnector;

type Failure = Box<dyn Error + Send + Sync>;

/// The maximum number of requests of each client in the warm-up.
const WARM_UP: usize = 20;

/// The maximum time of the warm-up. With large bodies, all [`WARM_UP`] requests would take too long.
const WARM_UP_TIME: Duration = Duration::from_millis(500);

/// The number of idle connections that are opened at a time.
const OPENING: usize = 16;

const READ_BUFFER: usize = 64 * 1024;

/// The flow-control windows of HTTP/2, as in Chromium.
const STREAM_WINDOW: u32 = 6 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 15 * 1024 * 1024;

/// The time limit of a handshake, and of the wait until the server closes the connection.
const TIME_LIMIT: Duration = Duration::from_secs(20);

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [mode, address, request, connections, seconds, rest @ ..] = &args[..] else {
        return Ok(());
    };
    let (rate, streams, tls) = match (mode.as_str(), rest) {
        ("open", [rate, tls @ ..]) => (Some(rate.parse::<f64>()?), 1, tls),
        ("http2" | "grpc", [streams, tls @ ..]) => (None, streams.parse()?, tls),
        (_, tls) => (None, 1, tls),
    };
    let kind = match mode.as_str() {
        "websocket" => Kind::WebSocket,
        "http2" => Kind::Http2,
        "grpc" => Kind::Grpc,
        _ => Kind::Http1,
    };
    let load = Load {
        kind,
        address: address.parse()?,
        request: fs::read(request)?.into(),
        connections: connections.parse()?,
        streams,
        duration: Duration::from_secs_f64(seconds.parse()?),
        tls: tls_config(tls, kind)?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::spawn(stay_awake());
        match (mode.as_str(), rate) {
            ("closed" | "websocket" | "http2" | "grpc", _) => load.closed().await,
            ("open", Some(rate)) => load.open(rate).await,
            ("handshake", _) => load.handshake().await,
            ("idle", _) => load.idle().await,
            _ => Err("unknown mode; the first lines of load.rs list the modes".into()),
        }
    })
}

/// Keeps this core awake, but yields to the upstream on the same core. If the core slept, the proxy would use
/// processor time to wake the core. A fast proxy would have to wake it more often than a slow proxy, so the
/// comparison would be wrong.
async fn stay_awake() {
    loop {
        thread::yield_now();
        tokio::task::yield_now().await;
    }
}

/// Returns the TLS settings of the client. They are the same for all proxies: TLS 1.3, X25519, AES-128-GCM, no
/// resumption.
fn tls_config(files: &[String], kind: Kind) -> Result<Option<TlsConnector>, Failure> {
    let Some(authority) = files.first() else { return Ok(None) };
    let provider = CryptoProvider {
        kx_groups: vec![aws_lc_rs::kx_group::X25519],
        cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
        ..aws_lc_rs::default_provider()
    };
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority)?)?;
    let builder = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots);
    let mut config = match files {
        [_, certificate, key] => {
            let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<_, _>>()?;
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key)?)?
        }
        _ => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    if matches!(kind, Kind::Http2 | Kind::Grpc) {
        config.alpn_protocols = vec![b"h2".to_vec()];
    }
    Ok(Some(TlsConnector::from(Arc::new(config))))
}

#[derive(Clone, Copy)]
enum Kind {
    Http1,
    WebSocket,
    Http2,
    Grpc,
}

#[derive(Clone)]
struct Load {
    kind: Kind,
    address: SocketAddr,
    request: Arc<[u8]>,
    connections: usize,
    streams: usize,
    duration: Duration,
    tls: Option<TlsConnector>,
}

impl Load {
    /// Each client sends its next request when it has received the response.
    async fn closed(&self) -> Result<(), Failure> {
        let mut clients = self.connect().await?;
        println!("ready");
        while let Some(start) = next_start()? {
            let mut tasks = JoinSet::new();
            for mut client in clients.drain(..) {
                let (request, duration) = (self.request.clone(), self.duration);
                tasks.spawn(async move {
                    let mut latencies = Vec::with_capacity(8192);
                    while start.elapsed() < duration {
                        let sent = Instant::now();
                        client.exchange(&request).await?;
                        latencies.push(sent.elapsed());
                    }
                    Ok((client, latencies))
                });
            }
            clients = report(start, tasks).await?;
        }
        Ok(())
    }

    /// A scheduler gives each client in turn the time at which the client's next request is due.
    async fn open(&self, rate: f64) -> Result<(), Failure> {
        let mut clients = self.connect().await?;
        let mut random = 0x9E37_79B9_7F4A_7C15_u64;
        println!("ready");
        while let Some(start) = next_start()? {
            let mut tasks = JoinSet::new();
            let mut schedules = Vec::new();
            for mut client in clients.drain(..) {
                let (schedule, mut due_times) = mpsc::unbounded_channel::<Instant>();
                schedules.push(schedule);
                let request = self.request.clone();
                tasks.spawn(async move {
                    let mut latencies = Vec::with_capacity(8192);
                    while let Some(due) = due_times.recv().await {
                        client.exchange(&request).await?;
                        latencies.push(due.elapsed());
                    }
                    Ok((client, latencies))
                });
            }
            let duration = self.duration;
            let scheduler = tokio::spawn(async move {
                let (mut due, mut next) = (start, 0);
                while due < start + duration {
                    while Instant::now() < due {
                        tokio::task::yield_now().await;
                    }
                    // The requests of independent users are a Poisson process (random numbers by xorshift).
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    let uniform = ((random >> 11) + 1) as f64 / (1_u64 << 53) as f64;
                    let _ = schedules[next].send(due);
                    next = (next + 1) % schedules.len();
                    due += Duration::from_secs_f64(-uniform.ln() / rate);
                }
                random
            });
            clients = report(start, tasks).await?;
            random = scheduler.await?;
        }
        Ok(())
    }

    /// Each client connects, sends one request, and waits until the server closes the connection. If the
    /// client closed first, its sockets would stay in TIME_WAIT, and the client would run out of ports.
    async fn handshake(&self) -> Result<(), Failure> {
        Client::connect(self).await?.exchange(&self.request).await?;
        println!("ready");
        while let Some(start) = next_start()? {
            let mut tasks = JoinSet::new();
            for _ in 0..self.connections {
                let load = self.clone();
                tasks.spawn(async move {
                    let mut latencies = Vec::with_capacity(8192);
                    while start.elapsed() < load.duration {
                        let sent = Instant::now();
                        let mut client = Client::connect(&load).await?;
                        client.exchange(&load.request).await?;
                        client.wait_for_close().await;
                        latencies.push(sent.elapsed());
                    }
                    Ok(((), latencies))
                });
            }
            report(start, tasks).await?;
        }
        Ok(())
    }

    /// Opens the connections, and keeps them open until the next line of input. Then checks that they are open.
    async fn idle(&self) -> Result<(), Failure> {
        let mut tasks = JoinSet::new();
        for number in 0..OPENING {
            let load = self.clone();
            tasks.spawn(async move {
                let mut clients = Vec::new();
                for _ in (number..load.connections).step_by(OPENING) {
                    let mut client = Client::connect(&load).await?;
                    client.exchange(&load.request).await?;
                    clients.push(client);
                }
                Ok::<_, Failure>(clients)
            });
        }
        let mut clients = Vec::new();
        while let Some(opened) = tasks.join_next().await {
            clients.append(&mut opened??);
        }
        println!("ready");
        next_start()?;
        for client in &mut clients {
            client.exchange(&self.request).await?;
        }
        println!("{{\"connections\":{}}}", clients.len());
        Ok(())
    }

    async fn connect(&self) -> Result<Vec<Client>, Failure> {
        let mut clients = Vec::new();
        for _ in 0..self.connections {
            let mut client = match self.kind {
                Kind::Http1 => Client::connect(self).await?,
                Kind::WebSocket => Client::WebSocket(WebSocketClient::connect(self).await?),
                Kind::Http2 => Client::Http2(Http2Client::connect(self).await?),
                Kind::Grpc => Client::Grpc(Http2Client::connect_grpc(self).await?),
            };
            client.exchange(&self.request).await?;
            clients.push(client);
        }
        for first in 0..clients.len() {
            for _ in 1..self.streams {
                clients.extend(clients[first].share_connection());
            }
        }
        // All clients send concurrently, so that the proxy opens as many connections to the upstream as there
        // are clients.
        let mut tasks = JoinSet::new();
        for mut client in clients {
            let request = self.request.clone();
            tasks.spawn(async move {
                let start = Instant::now();
                for _ in 0..WARM_UP {
                    client.exchange(&request).await?;
                    if start.elapsed() > WARM_UP_TIME {
                        break;
                    }
                }
                Ok::<_, Failure>(client)
            });
        }
        let mut warm = Vec::new();
        while let Some(client) = tasks.join_next().await {
            warm.push(client??);
        }
        Ok(warm)
    }
}

/// Waits for the next line of input and returns the start time, or `None` at the end of the input. This
/// function blocks the runtime.
fn next_start() -> Result<Option<Instant>, Failure> {
    let read = io::stdin().lock().read_line(&mut String::new())?;
    Ok((read > 0).then(Instant::now))
}

/// Waits for the clients, prints the measurement, and returns the clients.
async fn report<C: 'static>(
    start: Instant,
    mut tasks: JoinSet<Result<(C, Vec<Duration>), Failure>>,
) -> Result<Vec<C>, Failure> {
    let (mut clients, mut latencies) = (Vec::new(), Vec::new());
    while let Some(joined) = tasks.join_next().await {
        let (client, mut client_latencies) = joined??;
        clients.push(client);
        latencies.append(&mut client_latencies);
    }
    let seconds = start.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let percentile = |share: f64| {
        let index = (latencies.len() as f64 * share) as usize;
        let index = index.min(latencies.len().saturating_sub(1));
        latencies.get(index).map_or(0.0, |d| d.as_secs_f64() * 1e6)
    };
    println!(
        "{{\"requests\":{},\"seconds\":{seconds:.4},\"p50\":{:.1},\"p99\":{:.1},\"p999\":{:.1}}}",
        latencies.len(),
        percentile(0.5),
        percentile(0.99),
        percentile(0.999)
    );
    Ok(clients)
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A client. Clients send their requests independently of each other.
enum Client {
    Http1(Http1Client),
    WebSocket(WebSocketClient),
    Http2(Box<Http2Client>),
    Grpc(Box<Http2Client>),
}

impl Client {
    async fn connect(load: &Load) -> Result<Self, Failure> {
        Ok(Self::Http1(Http1Client::connect(load).await?))
    }

    /// Returns another client on the same connection, if the protocol permits it.
    fn share_connection(&self) -> Option<Self> {
        match self {
            Self::Http2(client) => Some(Self::Http2(client.clone())),
            Self::Grpc(client) => Some(Self::Grpc(client.clone())),
            Self::Http1(_) | Self::WebSocket(_) => None,
        }
    }

    /// Sends the request, and reads the response.
    async fn exchange(&mut self, request: &[u8]) -> Result<(), Failure> {
        match self {
            Self::Http1(client) => client.exchange(request).await,
            Self::WebSocket(client) => client.echo().await,
            Self::Http2(client) => client.exchange().await.map(drop),
            Self::Grpc(client) => client.call().await,
        }
    }

    async fn wait_for_close(self) {
        if let Self::Http1(client) = self {
            client.wait_for_close().await;
        }
    }
}

/// The length of a message, for WebSocket and gRPC.
const MESSAGE: usize = 125;

struct WebSocketClient {
    client: Http1Client,
}

impl WebSocketClient {
    async fn connect(load: &Load) -> Result<Self, Failure> {
        let mut client = Http1Client::connect(load).await?;
        client.stream.write_all(&load.request).await?;
        while !client.buffer.ends_with(b"\r\n\r\n") {
            client.read().await?;
        }
        if !client.buffer.starts_with(b"HTTP/1.1 101 ") {
            let head = String::from_utf8_lossy(&client.buffer);
            return Err(format!("expected status 101, got: {head}").into());
        }
        Ok(Self { client })
    }

    async fn echo(&mut self) -> Result<(), Failure> {
        // A final frame with a mask of zeros (RFC 6455 §5.2).
        let mut frame = [0; 6 + MESSAGE];
        frame[..2].copy_from_slice(&[0x82, 0x80 | MESSAGE as u8]);
        let Http1Client { stream, buffer } = &mut self.client;
        stream.write_all(&frame).await?;
        buffer.clear();
        while buffer.len() < 2 + MESSAGE {
            if stream.read_buf(buffer).await? == 0 {
                return Err("the WebSocket was closed".into());
            }
        }
        if buffer.len() == 2 + MESSAGE && buffer[..2] == [0x82, MESSAGE as u8] {
            Ok(())
        } else {
            Err("expected the echo of one message".into())
        }
    }
}

/// A client of HTTP/2. Several of them share a connection.
#[derive(Clone)]
struct Http2Client {
    sender: h2::client::SendRequest<Bytes>,
    request: Request<()>,
    body: Bytes,
}

impl Http2Client {
    async fn connect(load: &Load) -> Result<Box<Self>, Failure> {
        let stream = Http1Client::connect(load).await?.stream;
        let (sender, connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(stream)
            .await?;
        tokio::spawn(connection);
        let head_end = load.request.windows(4).position(|window| window == b"\r\n\r\n");
        let (head, body) = load.request.split_at(head_end.ok_or("the request has no end")? + 4);
        let mut lines = str::from_utf8(head)?.lines();
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (method, path) = (words.next().unwrap_or("GET"), words.next().unwrap_or("/"));
        let mut request = Request::builder().method(method).uri(format!("https://localhost{path}"));
        for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
            if name != "Host" {
                request = request.header(name, value);
            }
        }
        let body = Bytes::copy_from_slice(body);
        Ok(Box::new(Self { sender, request: request.body(())?, body }))
    }

    async fn connect_grpc(load: &Load) -> Result<Box<Self>, Failure> {
        let mut client = Self::connect(load).await?;
        let headers = client.request.headers_mut();
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        headers.insert("te", HeaderValue::from_static("trailers"));
        // A byte for "no compression", then four bytes for the length, then the message.
        let mut message = vec![0; 5 + MESSAGE];
        message[4] = MESSAGE as u8;
        client.body = message.into();
        Ok(client)
    }

    /// Sends the request, and reads the response. Returns the length of the body, and the trailers.
    async fn exchange(&mut self) -> Result<(usize, HeaderMap), Failure> {
        let mut sender = self.sender.clone().ready().await?;
        let end = self.body.is_empty();
        let (response, mut stream) = sender.send_request(self.request.clone(), end)?;
        if !end {
            stream.send_data(self.body.clone(), true)?;
        }
        let response = response.await?;
        if response.status() != 200 {
            return Err(format!("expected status 200, got {}", response.status()).into());
        }
        let mut body = response.into_body();
        let mut length = 0;
        while let Some(data) = body.data().await {
            let data = data?;
            length += data.len();
            body.flow_control().release_capacity(data.len())?;
        }
        Ok((length, body.trailers().await?.unwrap_or_default()))
    }

    /// Makes a unary call, and checks that its status is 0.
    async fn call(&mut self) -> Result<(), Failure> {
        let (length, trailers) = self.exchange().await?;
        if length == 5 + MESSAGE && trailers.get("grpc-status").is_some_and(|status| status == "0")
        {
            Ok(())
        } else {
            Err(format!("expected the echo of one message and status 0, got {trailers:?}").into())
        }
    }
}

struct Http1Client {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
}

impl Http1Client {
    async fn connect(load: &Load) -> Result<Self, Failure> {
        let stream = TcpStream::connect(load.address).await?;
        stream.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match &load.tls {
            None => Box::new(stream),
            Some(tls) => {
                let name = ServerName::try_from("localhost")?;
                Box::new(timeout(TIME_LIMIT, tls.connect(name, stream)).await??)
            }
        };
        Ok(Self { stream, buffer: Vec::with_capacity(READ_BUFFER) })
    }

    async fn exchange(&mut self, request: &[u8]) -> Result<(), Failure> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        let length = loop {
            self.read().await?;
            if let Some(length) = length_of(&self.buffer)? {
                break length;
            }
        };
        let mut received = self.buffer.len();
        while received < length {
            self.buffer.clear();
            received += self.read().await?;
        }
        Ok(())
    }

    async fn read(&mut self) -> Result<usize, Failure> {
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err("the connection was closed before the response was complete".into()),
            read => Ok(read),
        }
    }

    async fn wait_for_close(mut self) {
        while let Ok(Ok(1..)) = timeout(TIME_LIMIT, self.stream.read_buf(&mut self.buffer)).await {}
    }
}

/// Returns the length of the whole response, or `None` if its head is not complete yet.
fn length_of(response: &[u8]) -> Result<Option<usize>, Failure> {
    let Some(head) = response.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let (head, body_start) = (&response[..head], head + 4);
    if !head.starts_with(b"HTTP/1.1 200 ") {
        let line = head.split(|b| *b == b'\r').next().unwrap_or_default();
        return Err(format!("expected status 200, got: {}", String::from_utf8_lossy(line)).into());
    }
    let length = head.split(|b| *b == b'\n').find_map(|line| {
        let (name, value) = line.split_at_checked(15)?;
        name.eq_ignore_ascii_case(b"content-length:").then_some(value)
    });
    let length = length.and_then(|value| str::from_utf8(value).ok()?.trim().parse::<usize>().ok());
    length
        .map(|length| Some(body_start + length))
        .ok_or_else(|| "expected a Content-Length, the response has none".into())
}
