//! Limits, retries and time limits of connections to services.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use test_support::raw::{self, discard, head};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    runtime::{self, Runtime},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_passticket::{
    layer::{Bypass, Route, RouteLayer, Routes, Upstream},
    metrics::MetricRegistry,
    proxy::{Forward, ForwardCounts, ForwardTimeouts, ResponseBody},
    token::ServiceId,
};

use crate::{PATIENCE, forwarding::unverified};

type Body = Full<Bytes>;

/// What the tests of this file change.
struct Settings {
    timeouts: ForwardTimeouts,
    max_connections: usize,
    counts: Arc<ForwardCounts>,
}

impl Default for Settings {
    fn default() -> Self {
        let timeouts = ForwardTimeouts::default().with_response(PATIENCE);
        Self { timeouts, max_connections: 256, counts: Arc::default() }
    }
}

/// A stack of layers that only routes requests and forwards them to the service at `url`.
fn forward(
    url: &str,
    settings: &Settings,
) -> impl Service<Request<Body>, Response = Response<ResponseBody>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ use<> {
    let service = ServiceId::new("svc").unwrap();
    let route = Route::new(service, "", Upstream::parse(url).unwrap(), Bypass).unwrap();
    let forward = Forward::new(unverified(), settings.timeouts)
        .with_max_connections(settings.max_connections.try_into().unwrap())
        .with_counts(settings.counts.clone());
    ServiceBuilder::new().layer(RouteLayer::new(Routes::new([route]).unwrap())).service(forward)
}

fn get() -> Request<Body> {
    Request::get("/svc/x").body(Body::default()).unwrap()
}

async fn body_of(response: Response<ResponseBody>) -> Bytes {
    timeout(PATIENCE, response.into_body().collect()).await.unwrap().unwrap().to_bytes()
}

/// Waits until `what` is true.
async fn until(what: impl Fn() -> bool) {
    let reached = async {
        while !what() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, reached).await.expect("the state is reached in time");
}

/// A service that answers a request when a permit is available.
#[derive(Debug)]
struct Gated {
    /// Permits to answer one request each.
    gate: Semaphore,
    open: AtomicUsize,
    max_open: AtomicUsize,
    accepted: AtomicUsize,
}

impl Gated {
    fn new(permits: usize) -> Arc<Self> {
        let [open, max_open, accepted] = [(); 3].map(|()| AtomicUsize::new(0));
        Arc::new(Self { gate: Semaphore::new(permits), open, max_open, accepted })
    }

    async fn start(self: &Arc<Self>) -> String {
        let this = self.clone();
        let address = raw::service(move |stream| this.clone().serve(stream)).await;
        format!("http://{address}")
    }

    async fn serve(self: Arc<Self>, stream: TcpStream) {
        self.accepted.fetch_add(1, Ordering::SeqCst);
        let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
        self.max_open.fetch_max(open, Ordering::SeqCst);
        let mut stream = BufReader::new(stream);
        while stream.fill_buf().await.is_ok_and(|b| !b.is_empty()) {
            let head = head(&mut stream).await;
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            discard(&mut stream, length.map_or(0, |length| length.parse().unwrap())).await;
            self.gate.acquire().await.unwrap().forget();
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            if stream.get_mut().write_all(answer).await.is_err() {
                break;
            }
        }
        self.open.fetch_sub(1, Ordering::SeqCst);
    }

    fn count(count: &AtomicUsize) -> usize {
        count.load(Ordering::SeqCst)
    }
}

fn multi_threaded() -> Runtime {
    runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// As in the program `passticket-proxy`, each thread has its own runtime and a clone of one `Forward`.
#[test]
fn all_runtimes_share_the_limit_of_connections_and_every_request_is_answered() {
    const LIMIT: usize = 3;
    const REQUESTS: usize = 200;
    let service_runtime = multi_threaded();
    let service = Gated::new(usize::MAX >> 4);
    let url = service_runtime.block_on(service.start());
    let settings = Settings { max_connections: LIMIT, ..Settings::default() };
    let stack = forward(&url, &settings);
    thread::scope(|scope| {
        for _ in 0..3 {
            let stack = stack.clone();
            scope.spawn(move || {
                let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let mut tasks = JoinSet::new();
                    for _ in 0..20 {
                        let stack = stack.clone();
                        tasks.spawn(async move {
                            for _ in 0..REQUESTS / 20 {
                                let response = stack.clone().oneshot(get()).await.unwrap();
                                assert_eq!(response.status(), 200);
                                assert_eq!(body_of(response).await, "ok");
                            }
                        });
                    }
                    tasks.join_all().await;
                });
            });
        }
    });
    let max = Gated::count(&service.max_open);
    // The service may see a new connection before it has seen the end of the one before.
    assert!((1..=LIMIT + 1).contains(&max), "{max} connections");
    assert_eq!(settings.counts.refused(), 0);
    drop(stack);
    service_runtime.block_on(until(|| {
        (settings.counts.open(), settings.counts.waiting()) == (0, 0)
            && Gated::count(&service.open) == 0
    }));
}

/// The first runtime keeps an idle connection. It is closed for a request of the second runtime.
#[test]
fn an_idle_connection_of_another_runtime_is_closed_for_a_request_that_waits() {
    let service_runtime = multi_threaded();
    let service = Gated::new(3);
    let url = service_runtime.block_on(service.start());
    let settings = Settings { max_connections: 1, ..Settings::default() };
    let stack = forward(&url, &settings);
    let runtimes = [multi_threaded(), multi_threaded()];
    for runtime in [&runtimes[0], &runtimes[1], &runtimes[0]] {
        runtime.block_on(async {
            let begin = Instant::now();
            let response = stack.clone().oneshot(get()).await.unwrap();
            assert_eq!(response.status(), 200);
            assert_eq!(body_of(response).await, "ok");
            assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
        });
    }
    assert_eq!(Gated::count(&service.accepted), 3);
    assert_eq!(settings.counts.open(), 1);
}

#[tokio::test]
async fn at_the_limit_requests_wait_first_come_first_served_and_then_get_503() {
    let service = Gated::new(0);
    let url = service.start().await;
    let timeouts = ForwardTimeouts::default().with_queue(Duration::from_millis(400));
    let settings = Settings { timeouts, max_connections: 1, ..Settings::default() };
    let (stack, counts) = (forward(&url, &settings), settings.counts.clone());

    let begin = || tokio::spawn(stack.clone().oneshot(get()));
    let first = begin();
    until(|| Gated::count(&service.accepted) == 1).await;
    // A client that goes away leaves the queue.
    let gone = begin();
    until(|| counts.waiting() == 1).await;
    gone.abort();
    until(|| counts.waiting() == 0).await;

    let second = begin();
    until(|| counts.waiting() == 1).await;
    let third = begin();
    until(|| counts.waiting() == 2).await;
    service.gate.add_permits(1);
    assert_eq!(body_of(first.await.unwrap().unwrap()).await, "ok");
    // The second request has the connection now. The third one waits for it in vain.
    let refused = third.await.unwrap().unwrap();
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["retry-after"], "1");
    let body = body_of(refused).await;
    let body = str::from_utf8(&body).unwrap();
    assert!(body.contains("ZWEAO503E") && body.contains("too many requests"), "{body}");
    service.gate.add_permits(1);
    assert_eq!(body_of(second.await.unwrap().unwrap()).await, "ok");
    assert_eq!(Gated::count(&service.accepted), 1);
    let metrics = MetricRegistry::new().with(counts).expose();
    for line in [
        "passticket_service_connections_open 1",
        "passticket_service_requests_waiting 0",
        "passticket_service_requests_refused_total 1",
    ] {
        assert!(metrics.lines().any(|it| it == line), "{line} is not in {metrics}");
    }
}

/// The response timeout does not begin before the request has a connection.
#[tokio::test]
async fn the_time_in_the_queue_is_not_part_of_the_response_timeout() {
    let service = Gated::new(0);
    let url = service.start().await;
    let timeouts = ForwardTimeouts::default().with_response(Duration::from_millis(800));
    let settings = Settings { timeouts, max_connections: 1, ..Settings::default() };
    let stack = forward(&url, &settings);
    let mut requests = Vec::new();
    for body in ["", "upload"] {
        for _ in 0..2 {
            let request = Request::put("/svc/x").body(Body::from(body)).unwrap();
            requests.push(tokio::spawn(stack.clone().oneshot(request)));
        }
    }
    // Together, the four requests take longer than the timeout.
    for request in requests {
        sleep(Duration::from_millis(400)).await;
        service.gate.add_permits(1);
        let response = request.await.unwrap().unwrap();
        assert_eq!(response.status(), 200);
        drop(response.into_body().collect().await.unwrap());
    }
}
