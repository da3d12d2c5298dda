//! The load generator: many connections send the same request, and the latency of the responses is
//! measured.
//!
//! ```text
//! load closed    ADDRESS REQUEST CONNECTIONS SECONDS [TLS]         next request after the response
//! load open      ADDRESS REQUEST CONNECTIONS SECONDS RATE [TLS]    RATE requests a second in all
//! load handshake ADDRESS REQUEST CONNECTIONS SECONDS TLS           a connection for each request
//! load idle      ADDRESS REQUEST CONNECTIONS SECONDS [TLS]         one request each, then idle
//!
//! REQUEST   a file with the bytes of the request
//! TLS       CA [CERTIFICATE KEY]: PEM files
//! ```
//!
//! It prints `ready` when the connections are open and warm, and waits for a line on standard input, so
//! that the caller can read the processor time of the proxy. After SECONDS it prints one line of JSON:
//! the number of responses, the seconds, and the latency percentiles in microseconds. It repeats this
//! for each line of input, with the same connections. A response that is not 200 ends it with an error.
//! `idle` waits for one line only.
//!
//! In `open`, latency counts from the time at which a request was due, not from the time at which it
//! could be sent. So a slow response also delays those behind it (coordinated omission).
//!
//! Without arguments it does nothing, so that `cargo test --benches` can run it.

#![expect(clippy::print_stdout, reason = "standard output is its interface")]

use std::{
    error::Error,
    fs,
    io::{self, BufRead},
    net::SocketAddr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

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

/// Requests on each connection before the measurement.
const WARM_UP: usize = 20;

/// The time limit of a handshake, and of the wait until the server closes.
const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [mode, address, request, connections, seconds, rest @ ..] = &args[..] else {
        return Ok(());
    };
    let (rate, tls) = match (mode.as_str(), rest) {
        ("open", [rate, tls @ ..]) => (Some(rate.parse::<f64>()?), tls),
        (_, tls) => (None, tls),
    };
    let load = Load {
        address: address.parse()?,
        request: fs::read(request)?.into(),
        connections: connections.parse()?,
        lasts: Duration::from_secs_f64(seconds.parse()?),
        tls: tls_config(tls)?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::spawn(stay_awake());
        match (mode.as_str(), rate) {
            ("closed", _) => load.closed().await,
            ("open", Some(rate)) => load.open(rate).await,
            ("handshake", _) => load.handshake().await,
            ("idle", _) => load.idle().await,
            _ => Err("closed, open, handshake or idle".into()),
        }
    })
}

/// Keeps this core awake, but lets the upstream on the same core run. Waking a sleeping core costs the
/// proxy, and a fast proxy would find it asleep more often.
async fn stay_awake() {
    loop {
        thread::yield_now();
        tokio::task::yield_now().await;
    }
}

/// The same TLS 1.3 settings for all proxies: X25519, AES-128-GCM, no resumption.
fn tls_config(files: &[String]) -> Result<Option<TlsConnector>, Failure> {
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
    Ok(Some(TlsConnector::from(Arc::new(config))))
}

#[derive(Clone)]
struct Load {
    address: SocketAddr,
    request: Arc<[u8]>,
    connections: usize,
    lasts: Duration,
    tls: Option<TlsConnector>,
}

impl Load {
    async fn closed(&self) -> Result<(), Failure> {
        let mut clients = self.connect().await?;
        println!("ready");
        while let Some(began) = next_start()? {
            let mut asking = JoinSet::new();
            for mut client in clients.drain(..) {
                let (request, lasts) = (self.request.clone(), self.lasts);
                asking.spawn(async move {
                    let mut took = Vec::with_capacity(8192);
                    while began.elapsed() < lasts {
                        let sent = Instant::now();
                        client.ask(&request).await?;
                        took.push(sent.elapsed());
                    }
                    Ok((client, took))
                });
            }
            clients = measured(began, asking).await?;
        }
        Ok(())
    }

    async fn open(&self, rate: f64) -> Result<(), Failure> {
        let mut clients = self.connect().await?;
        let mut random = 0x9E37_79B9_7F4A_7C15_u64;
        println!("ready");
        while let Some(began) = next_start()? {
            let mut asking = JoinSet::new();
            let mut turns = Vec::new();
            for mut client in clients.drain(..) {
                let (turn, mut due) = mpsc::unbounded_channel::<Instant>();
                turns.push(turn);
                let request = self.request.clone();
                asking.spawn(async move {
                    let mut took = Vec::with_capacity(8192);
                    while let Some(due) = due.recv().await {
                        client.ask(&request).await?;
                        took.push(due.elapsed());
                    }
                    Ok((client, took))
                });
            }
            let lasts = self.lasts;
            let telling = tokio::spawn(async move {
                let (mut due, mut next) = (began, 0);
                while due < began + lasts {
                    while Instant::now() < due {
                        tokio::task::yield_now().await;
                    }
                    // Independent users make a Poisson process.
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    let uniform = ((random >> 11) + 1) as f64 / (1_u64 << 53) as f64;
                    let _ = turns[next].send(due);
                    next = (next + 1) % turns.len();
                    due += Duration::from_secs_f64(-uniform.ln() / rate);
                }
                random
            });
            clients = measured(began, asking).await?;
            random = telling.await?;
        }
        Ok(())
    }

    /// The server closes each connection first. A client that closes first would run out of ports, since
    /// its sockets stay in TIME_WAIT.
    async fn handshake(&self) -> Result<(), Failure> {
        Client::connect(self).await?.ask(&self.request).await?;
        println!("ready");
        while let Some(began) = next_start()? {
            let mut asking = JoinSet::new();
            for _ in 0..self.connections {
                let load = self.clone();
                asking.spawn(async move {
                    let mut took = Vec::with_capacity(8192);
                    while began.elapsed() < load.lasts {
                        let sent = Instant::now();
                        let mut client = Client::connect(&load).await?;
                        client.ask(&load.request).await?;
                        client.end().await;
                        took.push(sent.elapsed());
                    }
                    Ok(((), took))
                });
            }
            measured(began, asking).await?;
        }
        Ok(())
    }

    async fn idle(&self) -> Result<(), Failure> {
        let mut clients = Vec::new();
        for _ in 0..self.connections {
            let mut client = Client::connect(self).await?;
            client.ask(&self.request).await?;
            clients.push(client);
        }
        println!("ready");
        next_start()?;
        println!("{{\"connections\":{}}}", clients.len());
        Ok(())
    }

    async fn connect(&self) -> Result<Vec<Client>, Failure> {
        let mut clients = Vec::new();
        for _ in 0..self.connections {
            let mut client = Client::connect(self).await?;
            client.ask(&self.request).await?;
            clients.push(client);
        }
        // Concurrently, so that the proxy opens as many connections to the upstream.
        let mut warming = JoinSet::new();
        for mut client in clients {
            let request = self.request.clone();
            warming.spawn(async move {
                for _ in 0..WARM_UP {
                    client.ask(&request).await?;
                }
                Ok::<_, Failure>(client)
            });
        }
        let mut warm = Vec::new();
        while let Some(client) = warming.join_next().await {
            warm.push(client??);
        }
        Ok(warm)
    }
}

/// Waits for the next line of input and returns the start time, or `None` at the end of the input. It
/// blocks the runtime.
fn next_start() -> Result<Option<Instant>, Failure> {
    let read = io::stdin().lock().read_line(&mut String::new())?;
    Ok((read > 0).then(Instant::now))
}

/// Prints the measurement and returns the clients.
async fn measured<C: 'static>(
    began: Instant,
    mut asking: JoinSet<Result<(C, Vec<Duration>), Failure>>,
) -> Result<Vec<C>, Failure> {
    let (mut clients, mut took) = (Vec::new(), Vec::new());
    while let Some(of_one) = asking.join_next().await {
        let (client, mut its) = of_one??;
        clients.push(client);
        took.append(&mut its);
    }
    let seconds = began.elapsed().as_secs_f64();
    took.sort_unstable();
    let at = |share: f64| {
        let index = (took.len() as f64 * share) as usize;
        took.get(index.min(took.len().saturating_sub(1))).map_or(0.0, |d| d.as_secs_f64() * 1e6)
    };
    println!(
        "{{\"requests\":{},\"seconds\":{seconds:.4},\"p50\":{:.1},\"p99\":{:.1},\"p999\":{:.1}}}",
        took.len(),
        at(0.5),
        at(0.99),
        at(0.999)
    );
    Ok(clients)
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection and its read buffer.
struct Client {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
}

impl Client {
    async fn connect(load: &Load) -> Result<Self, Failure> {
        let stream = TcpStream::connect(load.address).await?;
        stream.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match &load.tls {
            None => Box::new(stream),
            Some(tls) => {
                let name = ServerName::try_from("localhost")?;
                Box::new(timeout(PATIENCE, tls.connect(name, stream)).await??)
            }
        };
        Ok(Self { stream, buffer: Vec::with_capacity(16 * 1024) })
    }

    async fn ask(&mut self, request: &[u8]) -> Result<(), Failure> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err("the connection was closed before the response was complete".into());
            }
            if let Some(length) = length_of(&self.buffer)?
                && self.buffer.len() >= length
            {
                return Ok(());
            }
        }
    }

    async fn end(mut self) {
        // Reads until the server closes the connection.
        while let Ok(Ok(1..)) = timeout(PATIENCE, self.stream.read_buf(&mut self.buffer)).await {}
    }
}

/// The length of the whole response, once its head is complete.
fn length_of(answer: &[u8]) -> Result<Option<usize>, Failure> {
    let Some(head) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let (head, body) = (&answer[..head], head + 4);
    if !head.starts_with(b"HTTP/1.1 200 ") {
        let line = head.split(|b| *b == b'\r').next().unwrap_or_default();
        return Err(format!("not 200: {}", String::from_utf8_lossy(line)).into());
    }
    let length = head.split(|b| *b == b'\n').find_map(|line| {
        let (name, value) = line.split_at_checked(15)?;
        name.eq_ignore_ascii_case(b"content-length:").then_some(value)
    });
    let length = length.and_then(|value| str::from_utf8(value).ok()?.trim().parse::<usize>().ok());
    length
        .map(|length| Some(body + length))
        .ok_or_else(|| "a response without Content-Length".into())
}
