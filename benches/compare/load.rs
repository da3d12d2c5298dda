//! The load: many connections that ask the same thing, and what their answers took.
//!
//! ```text
//! load closed    ADDRESS REQUEST CONNECTIONS SECONDS [TLS]         each asks again when answered
//! load open      ADDRESS REQUEST CONNECTIONS SECONDS RATE [TLS]    so many a second, answered or not
//! load handshake ADDRESS REQUEST CONNECTIONS SECONDS TLS           a connection for each request
//! load idle      ADDRESS REQUEST CONNECTIONS SECONDS [TLS]         one request each, then nothing
//!
//! REQUEST   a file with the bytes of the request
//! TLS       CA [CERTIFICATE KEY]: PEM files
//! ```
//!
//! It says `ready` when the connections are there and warm, and waits for a line: whoever measures a
//! proxy notes its processor time then. After SECONDS it prints one line of JSON: requests answered,
//! seconds, and microseconds at the percentiles. An answer that is not 200 ends it with an error.
//! `idle` waits for one more line instead.
//!
//! What `open` asks for has its time: an answer is late from when the request was due, not from when
//! it could be sent (coordinated omission).
//!
//! Without arguments it ends at once, as when `cargo test --benches` runs it.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark may panic and prints")]

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

/// Each connection asks so often before anything counts.
const WARM_UP: usize = 20;

/// No answer of a subject that works takes that long.
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
    let measured = runtime.block_on(async {
        tokio::spawn(stay_awake());
        match (mode.as_str(), rate) {
            ("closed", _) => load.closed().await,
            ("open", Some(rate)) => load.open(rate).await,
            ("handshake", _) => load.handshake().await,
            ("idle", _) => load.idle().await,
            _ => Err("closed, open, handshake or idle".into()),
        }
    })?;
    println!("{measured}");
    Ok(())
}

/// Lets the upstream, which is on the same core, have its turn, and never sleeps: a subject that finds
/// this core asleep pays for waking it, and a fast one finds it asleep more often.
async fn stay_awake() {
    loop {
        thread::yield_now();
        tokio::task::yield_now().await;
    }
}

/// TLS 1.3 alike for all subjects: X25519, AES-128-GCM, nothing resumed.
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
    async fn closed(&self) -> Result<String, Failure> {
        let mut asking = JoinSet::new();
        let until_told = Start::new();
        for mut client in self.connect().await? {
            let (request, lasts, told) = (self.request.clone(), self.lasts, until_told.get());
            asking.spawn(async move {
                let began = told.await;
                let mut took = Vec::with_capacity(8192);
                while began.elapsed() < lasts {
                    let sent = Instant::now();
                    client.ask(&request).await?;
                    took.push(sent.elapsed());
                }
                Ok(took)
            });
        }
        measured(until_told, asking).await
    }

    async fn open(&self, rate: f64) -> Result<String, Failure> {
        let mut asking = JoinSet::new();
        let until_told = Start::new();
        let mut turns = Vec::new();
        for mut client in self.connect().await? {
            let (turn, mut due) = mpsc::unbounded_channel::<Instant>();
            turns.push(turn);
            let request = self.request.clone();
            asking.spawn(async move {
                let mut took = Vec::with_capacity(8192);
                while let Some(due) = due.recv().await {
                    client.ask(&request).await?;
                    took.push(due.elapsed());
                }
                Ok(took)
            });
        }
        let (told, lasts) = (until_told.get(), self.lasts);
        let telling = tokio::spawn(async move {
            let began = told.await;
            let (mut due, mut next, mut random) = (began, 0, 0x9E37_79B9_7F4A_7C15_u64);
            while due < began + lasts {
                while Instant::now() < due {
                    tokio::task::yield_now().await;
                }
                // As many users who know nothing of each other would (Poisson).
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let uniform = ((random >> 11) + 1) as f64 / (1_u64 << 53) as f64;
                let _ = turns[next].send(due);
                next = (next + 1) % turns.len();
                due += Duration::from_secs_f64(-uniform.ln() / rate);
            }
        });
        let result = measured(until_told, asking).await;
        telling.await?;
        result
    }

    /// The server says that it is no longer needed: a client that closes first would be out of
    /// ports soon.
    async fn handshake(&self) -> Result<String, Failure> {
        let mut asking = JoinSet::new();
        let until_told = Start::new();
        Client::connect(self).await?.ask(&self.request).await?;
        for _ in 0..self.connections {
            let (load, told) = (self.clone(), until_told.get());
            asking.spawn(async move {
                let began = told.await;
                let mut took = Vec::with_capacity(8192);
                while began.elapsed() < load.lasts {
                    let sent = Instant::now();
                    let mut client = Client::connect(&load).await?;
                    client.ask(&load.request).await?;
                    client.end().await;
                    took.push(sent.elapsed());
                }
                Ok(took)
            });
        }
        measured(until_told, asking).await
    }

    async fn idle(&self) -> Result<String, Failure> {
        let mut clients = Vec::new();
        for _ in 0..self.connections {
            let mut client = Client::connect(self).await?;
            client.ask(&self.request).await?;
            clients.push(client);
        }
        println!("ready");
        io::stdin().lock().read_line(&mut String::new())?;
        Ok(format!("{{\"connections\":{}}}", clients.len()))
    }

    async fn connect(&self) -> Result<Vec<Client>, Failure> {
        let mut clients = Vec::new();
        for _ in 0..self.connections {
            let mut client = Client::connect(self).await?;
            client.ask(&self.request).await?;
            clients.push(client);
        }
        // All at once, so that there are as many connections behind the subject, too.
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

/// When all begin.
struct Start(tokio::sync::watch::Sender<Option<Instant>>);

impl Start {
    fn new() -> Self {
        Self(tokio::sync::watch::Sender::new(None))
    }

    fn get(&self) -> impl Future<Output = Instant> + Send + use<> {
        let mut begun = self.0.subscribe();
        async move { begun.wait_for(Option::is_some).await.unwrap().unwrap() }
    }
}

async fn measured(
    start: Start,
    mut asking: JoinSet<Result<Vec<Duration>, Failure>>,
) -> Result<String, Failure> {
    println!("ready");
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    let began = Instant::now();
    start.0.send_replace(Some(began));
    let mut took = Vec::new();
    while let Some(of_one) = asking.join_next().await {
        took.append(&mut of_one??);
    }
    let seconds = began.elapsed().as_secs_f64();
    took.sort_unstable();
    let at = |share: f64| {
        let index = (took.len() as f64 * share) as usize;
        took.get(index.min(took.len().saturating_sub(1))).map_or(0.0, |d| d.as_secs_f64() * 1e6)
    };
    Ok(format!(
        "{{\"requests\":{},\"seconds\":{seconds:.4},\"p50\":{:.1},\"p99\":{:.1},\"p999\":{:.1}}}",
        took.len(),
        at(0.5),
        at(0.99),
        at(0.999)
    ))
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection, and what has been read from it.
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
                return Err("the connection was closed before the answer was there".into());
            }
            if let Some(length) = length_of(&self.buffer)?
                && self.buffer.len() >= length
            {
                return Ok(());
            }
        }
    }

    async fn end(mut self) {
        // Until the server closes.
        while let Ok(Ok(1..)) = timeout(PATIENCE, self.stream.read_buf(&mut self.buffer)).await {}
    }
}

/// The length of a whole answer, if its head is there.
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
    length.map(|length| Some(body + length)).ok_or_else(|| "an answer without a length".into())
}
