//! A long mixed load. Some clients and services close connections early, send garbage or stall. The program reloads its
//! files every second. At the end, the program may use only a little more memory, file descriptors and threads than at
//! the beginning.
//!
//! `just soak SECONDS` runs this test. `cargo test` does not.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    convert::Infallible,
    env, fs,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use reqwest::{Client, RequestBuilder};
use support::Demo;
use test_support::{
    PATIENCE, Running,
    raw::{Scripted, Step, listener},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{sleep, timeout},
};
use tower_passticket::tls::Server;

type Stop = Arc<AtomicBool>;

const DEFAULT_SECONDS: u64 = 60;

/// The names and the responses of the broken services. The service `healthy` is separate.
const BROKEN: &[(&str, &str)] = &[
    ("garbage", "not HTTP\r\n\r\n"),
    ("cut", "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this"),
    ("cutchunk", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nff\r\nonly this"),
    ("halfhead", "HTTP/1.1 200 OK\r\ncontent-le"),
    ("silent", ""),
    ("closing", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"),
];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute or longer; run `just soak SECONDS`"]
async fn memory_descriptors_and_threads_do_not_grow() {
    let seconds = env::var("SOAK_SECONDS").map_or(DEFAULT_SECONDS, |text| text.parse().unwrap());
    let (definitions, _services) = services().await;
    let demo = Demo::reconfigured(|yaml| yaml);
    fs::write(demo.directory.join("api-defs/demo.yml"), definitions).unwrap();
    let demo = demo.restarted();
    let load = Load::of(&demo).await;

    // The first third of the load fills caches, pools and the allocator.
    load.run(&demo.program, Duration::from_secs(seconds) / 3).await;
    let before = Usage::at_rest(&demo.program).await;
    load.run(&demo.program, Duration::from_secs(seconds) * 2 / 3).await;
    let after = Usage::at_rest(&demo.program).await;
    let requests = load.answered.load(SeqCst);
    println!("{requests} requests to the healthy service; before: {before:?}, after: {after:?}");
    assert!(requests > seconds, "only {requests} requests");
    assert!(
        after.resident_kib * 10 <= before.resident_kib * 11,
        "KiB of resident memory: {} before, {} after",
        before.resident_kib,
        after.resident_kib
    );
    // The load has 16 clients at a time. After the load, each can leave an idle connection that was not open
    // at the measurement `before`. If each request, broken connection or reload left a descriptor open, there would be
    // many more than 16.
    assert!(
        after.descriptors <= before.descriptors + 16,
        "descriptors: {} before, {} after",
        before.descriptors,
        after.descriptors
    );
    // The program checks its files every two seconds, and resolves names every thirty seconds. If both happen at the
    // same time, the program starts one more thread for blocking calls, and keeps this thread.
    assert!(
        after.threads <= before.threads + 2,
        "threads: {} before, {} after",
        before.threads,
        after.threads
    );
}

/// Starts the services. Returns their definitions, and the broken services.
async fn services() -> (String, Vec<Scripted>) {
    let (listener, healthy) = listener().await;
    let service = tower::service_fn(echo);
    tokio::spawn(Server::http(listener).run(service, std::future::pending()));
    let mut definitions = format!("services:\n{}", definition("healthy", healthy));
    let mut broken = Vec::new();
    for (id, response) in BROKEN {
        let service = Scripted::http([Step::ReadHead, Step::send(*response)]).await;
        definitions.push_str(&definition(id, service.address));
        broken.push(service);
    }
    let stalled = Scripted::http([Step::ReadHead, Step::Wait(Duration::from_secs(20))]).await;
    definitions.push_str(&definition("stalled", stalled.address));
    broken.push(stalled);
    (definitions, broken)
}

fn definition(id: &str, address: SocketAddr) -> String {
    format!(
        "  - serviceId: {id}
    title: A service of the soak test
    description: A service of the soak test
    instanceBaseUrls: ['http://localhost:{}']
    routes: [{{ gatewayUrl: api/v1, serviceRelativeUrl: /api/v1 }}]
    authentication: {{ scheme: httpBasicPassTicket, applid: ZOWEAPPL }}
",
        address.port()
    )
}

async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().collect().await.map(|body| body.to_bytes());
    Ok(Response::new(Full::new(body.unwrap_or_default())))
}

#[derive(Debug)]
struct Usage {
    resident_kib: u64,
    descriptors: u64,
    threads: u64,
}

impl Usage {
    /// Waits until the numbers of file descriptors and threads have stopped falling. They fall for some time after the
    /// load: the program closes connections late, and threads for blocking calls end after ten seconds without work.
    async fn at_rest(program: &Running) -> Self {
        let deadline = Instant::now() + Duration::from_secs(60);
        let (mut least, mut since) = (u64::MAX, Instant::now());
        loop {
            let usage = Self::of(program);
            let sum = usage.descriptors + usage.threads;
            if sum < least {
                (least, since) = (sum, Instant::now());
            }
            if since.elapsed() > Duration::from_secs(12) || Instant::now() > deadline {
                return usage;
            }
            sleep(Duration::from_millis(500)).await;
        }
    }

    fn of(program: &Running) -> Self {
        let process = format!("/proc/{}", program.pid());
        let status = fs::read_to_string(format!("{process}/status")).unwrap();
        let value = |key: &str| {
            let line = status.lines().find(|line| line.starts_with(key)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        let descriptors = fs::read_dir(format!("{process}/fd")).unwrap().count() as u64;
        Self { resident_kib: value("VmRSS:"), descriptors, threads: value("Threads:") }
    }
}

/// The load: the clients, and the data that they need.
struct Load {
    demo_url: String,
    jwt: String,
    pat: String,
    clients: [Client; 3],
    answered: Arc<AtomicU64>,
}

impl Load {
    async fn of(demo: &Demo) -> Self {
        let jwt = demo.login().await;
        let pat = demo.pat(&["healthy"]).await;
        let http1 = demo.builder().http1_only().build().unwrap();
        let clients = [http1, demo.client(), demo.client_of("USER")];
        Self { demo_url: demo.url.clone(), jwt, pat, clients, answered: Arc::default() }
    }

    /// Runs all clients for this time, and sends a SIGHUP every second.
    async fn run(&self, program: &Running, time: Duration) {
        let stop = Arc::new(AtomicBool::new(false));
        let mut clients = JoinSet::new();
        for i in 0..6 {
            clients.spawn(self.healthy(i, stop.clone()));
            clients.spawn(self.broken_service(i, stop.clone()));
        }
        for i in 0..4 {
            clients.spawn(self.broken_client(i, stop.clone()));
        }
        let end = Instant::now() + time;
        while Instant::now() < end {
            sleep(Duration::from_secs(1)).await;
            program.signal("-HUP");
        }
        stop.store(true, SeqCst);
        while let Some(result) = clients.join_next().await {
            result.unwrap();
        }
    }

    fn url(&self, service: &str) -> String {
        format!("{}/{service}/api/v1/x", self.demo_url)
    }

    fn with_credential(&self, request: RequestBuilder, i: usize) -> RequestBuilder {
        match i % 3 {
            0 => request.bearer_auth(&self.jwt),
            1 => request.header("private-token", &self.pat),
            _ => request,
        }
    }

    /// Runs a client of the healthy service. Each response must have the status 200 and the body of its request.
    fn healthy(&self, i: usize, stop: Stop) -> impl Future<Output = ()> + Send + use<> {
        let client = self.clients[i % 3].clone();
        let body = Bytes::from(vec![b'x'; 100 << (2 * i)]);
        let request = client.post(self.url("healthy")).body(body.clone());
        let request = self.with_credential(request, i);
        let answered = self.answered.clone();
        async move {
            while !stop.load(SeqCst) {
                let response = request.try_clone().unwrap().send().await.unwrap();
                assert_eq!(response.status(), 200);
                let failure = response.headers().get("x-zowe-auth-failure");
                assert_eq!(failure, None, "client {i}");
                assert_eq!(response.bytes().await.unwrap(), body);
                answered.fetch_add(1, SeqCst);
            }
        }
    }

    /// Runs a client of the broken services. It accepts any response, and waits at most one second for it.
    fn broken_service(&self, i: usize, stop: Stop) -> impl Future<Output = ()> + Send + use<> {
        let client = self.clients[i % 3].clone();
        let ids = BROKEN.iter().map(|(id, _)| *id).chain(["stalled", "unknown"]);
        let requests: Vec<_> = ids
            .flat_map(|id| [client.get(self.url(id)), client.post(self.url(id)).body("a body")])
            .map(|request| self.with_credential(request, i).timeout(Duration::from_secs(1)))
            .collect();
        async move {
            for request in requests.iter().cycle().skip(i) {
                if stop.load(SeqCst) {
                    return;
                }
                if let Ok(response) = request.try_clone().unwrap().send().await {
                    let _ = response.bytes().await;
                }
            }
        }
    }

    /// Runs a client that sends garbage, or closes its connection before the response.
    fn broken_client(&self, i: usize, stop: Stop) -> impl Future<Output = ()> + Send + use<> {
        let address = self.demo_url.strip_prefix("https://").unwrap().to_owned();
        let (client, url, jwt) =
            (self.clients[i % 3].clone(), self.url("healthy"), self.jwt.clone());
        async move {
            while !stop.load(SeqCst) {
                match i {
                    // The client sends nothing, garbage, or the beginning of a handshake.
                    0..3 => {
                        let bytes: &[u8] = [
                            b"".as_slice(),
                            b"GET / HTTP/1.1\r\n\r\n",
                            b"\x16\x03\x01\x02\x00\x01",
                        ][i];
                        let mut stream = TcpStream::connect(&address).await.unwrap();
                        let _ = stream.write_all(bytes).await;
                        if i == 1 {
                            let _ = timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await;
                        }
                    }
                    // The client cancels a request before the response.
                    _ => {
                        let request = client.post(&url).bearer_auth(&jwt);
                        let request = request.body(vec![b'x'; 1 << 20]).send();
                        let _ = timeout(Duration::from_millis(3), request).await;
                    }
                }
                sleep(Duration::from_millis(20)).await;
            }
        }
    }
}
