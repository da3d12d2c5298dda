//! Tests of connections to services: their maximum number, retries and time limits. A PassTicket is a short-lived
//! password of z/OS.

use std::{
    collections::HashSet,
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, header::AUTHORIZATION};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use test_support::{
    pki,
    raw::{self, discard, head},
    tickets::{key_profile, user},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    runtime::{self, Runtime},
    sync::Semaphore,
    task::{JoinSet, yield_now},
    time::{sleep, timeout},
};
use tower::{Service, ServiceBuilder, ServiceExt, util::BoxCloneService};
use tower_passticket::{
    audit::{Audit, AuditRecord, AuditSink},
    clock::{ManualClock, Timestamp},
    layer::{
        AuthenticateLayer, Authenticator, Authorization, Bypass, CustomHeaders, Failure,
        PassTicketScheme, Route, RouteLayer, Routes, Scheme, SchemeError, SchemeFuture,
        SchemeHeaders, SchemeLayer, SchemeRequest, ScopeLayer, ServiceProtocol, Upstream,
    },
    metrics::MetricRegistry,
    passticket::{KeyProfiles, LocalGenerator, Replay},
    proxy::{Forward, ForwardCounts, ForwardTimeouts, ResponseBody},
    token::{Rs256Verifier, ServiceId, SigningKey, TokenIssuer},
};

use crate::{PATIENCE, forwarding::unverified, until, wire::Pieces};

pub(crate) type Body = Full<Bytes>;

pub(crate) type Stack = BoxCloneService<Request<Body>, Response<ResponseBody>, Infallible>;

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

/// Returns a stack of layers that only routes requests and forwards them to the service at `url`.
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

/// A service that sends a response only when a test adds a permit.
#[derive(Debug)]
struct Gated {
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

/// Each thread has its own runtime and a clone of one `Forward`, as in `passticket-proxy`.
#[test]
fn all_runtimes_share_the_connection_limit_and_each_request_is_answered() {
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
    // The service may accept a new connection before it notices the end of an earlier one. So it may count one
    // connection more than the limit.
    assert!((1..=LIMIT + 1).contains(&max), "{max} connections");
    assert_eq!(settings.counts.refused(), 0);
    drop(stack);
    service_runtime.block_on(until(|| {
        (settings.counts.open(), settings.counts.waiting()) == (0, 0)
            && Gated::count(&service.open) == 0
    }));
}

/// The limit is one connection. So the gateway must close the idle connection of the first runtime before the second
/// runtime can open one.
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
async fn at_the_connection_limit_requests_wait_in_order_and_get_503_after_the_queue_timeout() {
    let service = Gated::new(0);
    let url = service.start().await;
    let timeouts = ForwardTimeouts::default().with_queue(Duration::from_millis(1500));
    let settings = Settings { timeouts, max_connections: 1, ..Settings::default() };
    let (stack, counts) = (forward(&url, &settings), settings.counts.clone());

    let begin = || tokio::spawn(stack.clone().oneshot(get()));
    let first = begin();
    until(|| Gated::count(&service.accepted) == 1).await;
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
    // Now the second request has the connection. The third request waits until the queue timeout ends.
    let refused = third.await.unwrap().unwrap();
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["retry-after"], "2");
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

#[tokio::test]
async fn the_time_in_the_queue_is_not_part_of_the_response_timeout() {
    let service = Gated::new(0);
    let url = service.start().await;
    let timeouts = ForwardTimeouts::default().with_response(Duration::from_millis(1500));
    let settings = Settings { timeouts, max_connections: 1, ..Settings::default() };
    let stack = forward(&url, &settings);
    let mut requests = Vec::new();
    for body in ["", "upload"] {
        for _ in 0..2 {
            let request = Request::put("/svc/x").body(Body::from(body)).unwrap();
            requests.push(tokio::spawn(stack.clone().oneshot(request)));
        }
    }
    // The four requests together take longer than the timeout.
    for request in requests {
        sleep(Duration::from_millis(500)).await;
        service.gate.add_permits(1);
        let response = request.await.unwrap().unwrap();
        assert_eq!(response.status(), 200);
        drop(response.into_body().collect().await.unwrap());
    }
}

/// A service that closes its connections without `Connection: close`. At that time, the gateway may already have sent
/// the next request.
#[derive(Debug, Default)]
struct Closing {
    connections: AtomicUsize,
    requests: Mutex<Vec<String>>,
}

/// When a service closes a connection.
#[derive(Clone, Copy, Debug)]
enum Close {
    /// Immediately after a response.
    AfterResponse,
    /// After it has read the next request.
    AfterRequest,
    /// When the next request has arrived. The service does not read this request, so the kernel resets the connection.
    Reset,
    /// After the first bytes of the next response.
    AfterStatus,
}

impl Closing {
    /// Starts a service that answers one to nine requests on each connection, and then closes the connection. The
    /// number of the connection determines how many requests the service answers, and which of `closes` it uses.
    async fn start(self: &Arc<Self>, closes: &'static [Close]) -> String {
        let this = self.clone();
        let address = raw::service(move |stream| this.clone().serve(stream, closes)).await;
        format!("http://{address}")
    }

    async fn serve(self: Arc<Self>, stream: TcpStream, closes: &[Close]) {
        const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        let number = self.connections.fetch_add(1, Ordering::SeqCst);
        stream.set_nodelay(true).unwrap();
        let mut stream = BufReader::new(stream);
        for _ in 0..1 + number * 7 % 9 {
            if stream.fill_buf().await.is_ok_and(|bytes| bytes.is_empty()) {
                return;
            }
            self.read(&mut stream).await;
            stream.get_mut().write_all(OK).await.unwrap();
        }
        let close = closes[number % closes.len()];
        if let Close::AfterResponse = close {
            // Some of the connections are closed a little after the response.
            for _ in 0..number % 3 {
                yield_now().await;
            }
            return;
        }
        if stream.get_ref().peek(&mut [0]).await.is_ok_and(|read| read == 0) {
            return;
        }
        if let Close::AfterRequest | Close::AfterStatus = close {
            self.read(&mut stream).await;
        }
        if let Close::AfterStatus = close {
            stream.get_mut().write_all(b"HTTP/1.1 200 ").await.unwrap();
        }
    }

    async fn read(&self, stream: &mut BufReader<TcpStream>) {
        let head = head(stream).await;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        discard(stream, length.map_or(0, |length| length.parse().unwrap())).await;
        self.requests.lock().unwrap().push(head);
    }

    fn arrived(&self, id: &str) -> usize {
        let requests = self.requests.lock().unwrap();
        requests.iter().filter(|head| head.contains(&format!("/{id} "))).count()
    }
}

fn request(method: Method, id: usize, body: &'static str) -> Request<Body> {
    Request::builder().method(method).uri(format!("/svc/{id}")).body(Body::from(body)).unwrap()
}

const CLOSES: [Close; 3] = [Close::AfterResponse, Close::AfterRequest, Close::Reset];

/// The requests use the values of `authorization` in turn.
async fn get_10_000(stack: &Stack, authorization: &[HeaderValue]) {
    let mut tasks = JoinSet::new();
    for task in 0..4 {
        let (stack, authorization) = (stack.clone(), authorization.to_vec());
        tasks.spawn(async move {
            for id in 2500 * task..2500 * (task + 1) {
                let mut get = request(Method::GET, id, "");
                if !authorization.is_empty() {
                    let value = authorization[id % authorization.len()].clone();
                    get.headers_mut().insert("authorization", value);
                }
                let response = stack.clone().oneshot(get).await.unwrap();
                assert_eq!(response.status(), 200, "request {id}");
                assert_eq!(body_of(response).await, "ok");
            }
        });
    }
    tasks.join_all().await;
}

/// The test needs many users. The service accepts each PassTicket only once, and the clock of the test stands still. So
/// each user can get only 61 PassTickets.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_get_of_10_000_with_passtickets_fails_although_the_service_closes_its_connections() {
    let service = Arc::<Closing>::default();
    let url = service.start(&CLOSES).await;
    let stack = authorized(&url, passtickets(Replay::Protected), Audit::default());
    let bearers: Vec<_> = (0..300).map(|number| bearer(&format!("USER{number}"))).collect();
    get_10_000(&stack, &bearers).await;
    let requests = service.requests.lock().unwrap();
    assert!(requests.len() > 10_500, "{} requests", requests.len());
    let credential = |head: &String| {
        head.lines().find(|line| line.starts_with("authorization: ")).unwrap().to_owned()
    };
    let credentials: HashSet<_> = requests.iter().map(credential).collect();
    assert_eq!(credentials.len(), requests.len());
}

/// The gateway may send a GET again (RFC 9110 §9.2.2).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_get_of_10_000_fails_although_the_service_closes_its_connections() {
    let service = Arc::<Closing>::default();
    let url = service.start(&CLOSES).await;
    let settings = Settings::default();
    get_10_000(&BoxCloneService::new(forward(&url, &settings)), &[]).await;
    let metrics = MetricRegistry::new().with(settings.counts).expose();
    let series = r#"passticket_service_retries_total{reason="connection-closed"} "#;
    let retries = metrics.lines().find_map(|line| line.strip_prefix(series)).unwrap();
    // There are about 2,000 connections. In most cases, the service closes a connection after the next request has
    // arrived. The gateway must send this request again.
    assert!(retries.parse::<u64>().unwrap() > 1000, "{retries} retries");
}

#[tokio::test]
async fn only_an_idempotent_request_without_a_sent_body_and_without_a_response_is_sent_again() {
    use Close::{AfterRequest, AfterStatus, Reset};
    for (close, method, body, is_sent_again) in [
        (&[AfterRequest], Method::GET, "", true),
        (&[AfterRequest], Method::DELETE, "", true),
        (&[AfterRequest], Method::PUT, "", true),
        (&[Reset], Method::GET, "", true),
        (&[AfterRequest], Method::PUT, "body", false),
        (&[AfterRequest], Method::POST, "", false),
        (&[AfterRequest], Method::POST, "body", false),
        (&[AfterRequest], Method::PATCH, "", false),
        (&[AfterStatus], Method::GET, "", false),
    ] {
        let service = Arc::<Closing>::default();
        let url = service.start(close).await;
        let stack = forward(&url, &Settings::default());
        // The service answers the first request, and closes this connection when the second request arrives.
        let answer = stack.clone().oneshot(request(Method::GET, 1, "")).await.unwrap();
        assert_eq!(body_of(answer).await, "ok");
        let answer = stack.clone().oneshot(request(method.clone(), 2, body)).await.unwrap();
        let want = if is_sent_again { 200 } else { 502 };
        assert_eq!(answer.status(), want, "{method} {body:?} {close:?}");
        let arrived = service.arrived("2");
        let want = if is_sent_again && !matches!(close, [Reset]) { 2 } else { 1 };
        assert_eq!(arrived, want, "{method} {body:?} {close:?}");
    }
}

/// The service resets the connection when the head of an upload has arrived, before the client sends the body.
#[tokio::test]
async fn an_idempotent_upload_is_sent_again_before_its_body_has_begun() {
    for (method, want, connections) in [(Method::PUT, 200, 2), (Method::POST, 502, 1)] {
        let service = Arc::<Closing>::default();
        let url = service.start(&[Close::Reset]).await;
        let mut stack = forward_body(&url);
        let get = request(Method::GET, 1, "").map(BodyExt::boxed_unsync);
        let response = stack.ready().await.unwrap().call(get).await.unwrap();
        assert_eq!(body_of(response).await, "ok");
        let (pieces, body) = tokio::sync::mpsc::channel(1);
        let upload = Request::builder().method(&method).uri("/svc/2");
        let upload =
            upload.header("content-length", "4").body(StreamBody::new(Pieces(body)).boxed_unsync());
        let upload = stack.ready().await.unwrap().call(upload.unwrap());
        let send = async {
            sleep(Duration::from_millis(300)).await;
            let _ = pieces.send(Bytes::from_static(b"body")).await;
        };
        let (response, ()) = tokio::join!(upload, send);
        let response = response.unwrap();
        assert_eq!(response.status(), want, "{method}");
        drop(response.into_body().collect().await.unwrap());
        assert_eq!(service.arrived("2"), usize::from(want == 200), "{method}");
        assert_eq!(service.connections.load(Ordering::SeqCst), connections, "{method}");
    }
}

fn authorized(url: &str, scheme: impl Scheme, audit: Audit) -> Stack {
    authorized_over(ServiceProtocol::Auto, url, scheme, audit)
}

pub(crate) fn authorized_over(
    protocol: ServiceProtocol,
    url: &str,
    scheme: impl Scheme,
    audit: Audit,
) -> Stack {
    let upstream = Upstream::parse(url).unwrap();
    let route = Route::new(ServiceId::new("svc").unwrap(), "", upstream, scheme).unwrap();
    let route = route.with_protocol(protocol);
    let key = SigningKey::from_pem(pki::SIGNING_KEY.as_bytes()).unwrap();
    let authenticator = Authenticator::new(Rs256Verifier::new(key.verifying_key()));
    let stack = ServiceBuilder::new()
        .layer(RouteLayer::new(Routes::new([route]).unwrap()))
        .layer(AuthenticateLayer::new(authenticator))
        .layer(ScopeLayer::new())
        .layer(SchemeLayer::new().with_audit(audit))
        .service(Forward::new(
            unverified(),
            ForwardTimeouts::default().with_response(PATIENCE / 10),
        ));
    BoxCloneService::new(stack)
}

pub(crate) fn passtickets(replay: Replay) -> PassTicketScheme<LocalGenerator> {
    let profile = key_profile("ZOWEAPPL").with_replay(replay);
    let applid = *profile.applid();
    let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_800_000_000)));
    let tickets = LocalGenerator::new(KeyProfiles::new([profile]).unwrap());
    let tickets = tickets.with_clock(clock.clone());
    clock.advance(Duration::from_secs(61));
    PassTicketScheme::new(applid, tickets)
}

#[derive(Default)]
struct Records(Mutex<Vec<String>>);

impl AuditSink for Records {
    fn record(&self, record: AuditRecord) {
        self.0.lock().unwrap().push(record.to_json());
    }
}

/// Returns the value of `Authorization` with a login token of `name`.
pub(crate) fn bearer(name: &str) -> HeaderValue {
    let key = SigningKey::from_pem(pki::SIGNING_KEY.as_bytes()).unwrap();
    let token = TokenIssuer::new(key).login_token(&user(name), "domain").unwrap();
    format!("Bearer {}", token.expose()).parse().unwrap()
}

/// The service may have accepted the PassTicket before it closed the connection. With replay protection, it would then
/// refuse the same PassTicket in a second request.
#[tokio::test]
async fn with_replay_protection_a_request_is_sent_again_with_another_passticket() {
    let custom = ["x-user", "x-ticket"].map(HeaderName::from_static);
    let [custom_user, custom_ticket] = custom;
    let custom = CustomHeaders::new(custom_user, custom_ticket);
    for (replay, distinct) in [(Replay::Allowed, 1), (Replay::Protected, 2)] {
        let service = Arc::<Closing>::default();
        let url = service.start(&[Close::AfterRequest]).await;
        let records = Arc::<Records>::default();
        let scheme = passtickets(replay).with_custom_headers(custom.clone());
        let stack = authorized(&url, scheme, Audit::to(records.clone()));
        // Without a credential, a request has no PassTicket. The gateway can send it again unchanged.
        for (id, bearer) in [(1, None), (2, Some(bearer("USER"))), (3, None), (4, None)] {
            let mut request = request(Method::GET, id, "");
            if let Some(bearer) = bearer {
                request.headers_mut().insert("authorization", bearer);
            }
            let response = stack.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), 200, "{replay:?} {id}");
            drop(response.into_body().collect().await.unwrap());
        }
        let requests = service.requests.lock().unwrap();
        for name in ["authorization: Basic ", "x-ticket: "] {
            let tickets: Vec<_> = requests
                .iter()
                .filter(|head| head.contains("/2 "))
                .map(|head| head.lines().filter_map(|line| line.strip_prefix(name)).collect())
                .map(|values: Vec<_>| <[_; 1]>::try_from(values).unwrap())
                .collect();
            assert_eq!(tickets.len(), 2, "{requests:?}");
            assert_eq!(HashSet::<_>::from_iter(&tickets).len(), distinct, "{replay:?} {tickets:?}");
        }
        let records = records.0.lock().unwrap();
        assert_eq!(records.len(), distinct, "{records:?}");
        assert!(records.iter().all(|record| record.contains("/svc/2")), "{records:?}");
    }
}

/// A scheme whose headers a service accepts only once. The field `again` is the function behind `prepare_again`.
struct OneTime {
    again: fn() -> Option<SchemeFuture>,
}

impl Scheme for OneTime {
    fn name(&self) -> &'static str {
        "oneTime"
    }

    fn prepare(&self, _: &SchemeRequest<'_>) -> SchemeFuture {
        SchemeHeaders::new().with(AUTHORIZATION, HeaderValue::from_static("Once 1")).into()
    }

    fn prepare_again(&self, _: &Authorization<'_>) -> Option<SchemeFuture> {
        (self.again)()
    }

    fn reserved_headers(&self) -> &[HeaderName] {
        &[]
    }
}

#[tokio::test]
async fn a_request_is_sent_again_only_if_the_scheme_makes_another_credential() {
    fn second() -> SchemeHeaders {
        SchemeHeaders::new().with(AUTHORIZATION, HeaderValue::from_static("Once 2"))
    }
    async fn later() -> Result<SchemeHeaders, Failure> {
        yield_now().await;
        Ok(second())
    }
    let cases: [(fn() -> Option<SchemeFuture>, u16, usize); 4] = [
        (|| Some(second().into()), 200, 2),
        (|| Some(SchemeFuture::pending(later())), 200, 2),
        (|| Some(SchemeFuture::ready(Err(SchemeError::failed("no more").into()))), 502, 1),
        (|| None, 502, 1),
    ];
    for (number, (again, status, arrived)) in cases.into_iter().enumerate() {
        for (method, body) in [(Method::GET, ""), (Method::POST, ""), (Method::PUT, "body")] {
            let service = Arc::<Closing>::default();
            let url = service.start(&[Close::AfterRequest]).await;
            let stack = authorized(&url, OneTime { again }, Audit::default());
            let is_get = method == Method::GET;
            let (status, arrived) = if is_get { (status, arrived) } else { (502, 1) };
            for (method, id, body, want) in
                [(Method::GET, 1, "", 200), (method.clone(), 2, body, status)]
            {
                let mut request = request(method, id, body);
                request.headers_mut().insert("authorization", bearer("USER"));
                let response = stack.clone().oneshot(request).await.unwrap();
                assert_eq!(response.status(), want, "case {number} {body:?}");
                drop(response.into_body().collect().await.unwrap());
            }
            assert_eq!(service.arrived("2"), arrived, "case {number} {method}");
            let requests = service.requests.lock().unwrap();
            let second = requests.iter().filter(|head| head.contains("Once 2")).count();
            assert_eq!(second, arrived - 1, "case {number} {method}");
        }
    }
}

#[tokio::test]
async fn a_request_gets_504_if_its_scheme_makes_no_other_credential_in_time() {
    let service = Arc::<Closing>::default();
    let url = service.start(&[Close::AfterRequest]).await;
    let scheme = OneTime { again: || Some(SchemeFuture::pending(std::future::pending())) };
    let stack = authorized(&url, scheme, Audit::default());
    for (id, want) in [(1, 200), (2, 504)] {
        let mut request = request(Method::GET, id, "");
        request.headers_mut().insert("authorization", bearer("USER"));
        let response = stack.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), want);
        drop(response.into_body().collect().await.unwrap());
    }
}

/// The service closes each new connection without a response.
#[tokio::test]
async fn a_request_on_a_new_connection_is_not_sent_again() {
    let accepted = Arc::new(AtomicUsize::new(0));
    let counted = accepted.clone();
    let address = raw::service(move |stream| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move { drop(head(&mut BufReader::new(stream)).await) }
    })
    .await;
    let stack = forward(&format!("http://{address}"), &Settings::default());
    let response = stack.oneshot(get()).await.unwrap();
    assert_eq!((response.status().as_u16(), accepted.load(Ordering::SeqCst)), (502, 1));
}

/// The connector refuses the first `refused` connections.
#[tokio::test]
async fn a_refused_connection_is_tried_once_more_for_any_method() {
    for (refused, want) in [(0, 200), (1, 200), (2, 503)] {
        let service = Gated::new(1);
        let url = service.start().await;
        let attempts = Arc::new(AtomicUsize::new(0));
        let counted = attempts.clone();
        let connector = tower::service_fn(move |uri: http::Uri| {
            let attempt = counted.fetch_add(1, Ordering::SeqCst);
            async move {
                if attempt < refused {
                    return Err(std::io::Error::from(std::io::ErrorKind::ConnectionRefused));
                }
                let stream = TcpStream::connect(uri.authority().unwrap().as_str()).await?;
                Ok(hyper_util::rt::TokioIo::new(stream))
            }
        });
        let route =
            Route::new(ServiceId::new("svc").unwrap(), "", Upstream::parse(&url).unwrap(), Bypass);
        let stack = ServiceBuilder::new()
            .layer(RouteLayer::new(Routes::new([route.unwrap()]).unwrap()))
            .service(Forward::new(connector, ForwardTimeouts::default()));
        let response = stack.oneshot(request(Method::POST, 1, "body")).await.unwrap();
        assert_eq!(response.status(), want, "{refused} refused");
        assert_eq!(attempts.load(Ordering::SeqCst), 2.min(refused + 1));
    }
}

/// The service closes its connection and its listener, so the gateway cannot send the request again.
#[tokio::test]
async fn a_request_gets_503_if_the_service_is_gone_before_the_second_attempt() {
    let (listener, address) = raw::listener().await;
    let service = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        head(&mut stream).await;
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        stream.get_mut().write_all(answer).await.unwrap();
        stream.fill_buf().await.unwrap();
        drop(listener);
    });
    let stack = forward(&format!("http://{address}"), &Settings::default());
    assert_eq!(body_of(stack.clone().oneshot(get()).await.unwrap()).await, "ok");
    let response = stack.clone().oneshot(get()).await.unwrap();
    assert_eq!(response.status(), 503);
    assert!(str::from_utf8(&body_of(response).await).unwrap().contains("cannot be reached"));
    service.await.unwrap();
}

#[tokio::test]
async fn informational_responses_are_limited() {
    for (times, want) in [(16, 200), (17, 502), (100_000, 502)] {
        let address = raw::service(move |stream| async move {
            let mut stream = BufReader::new(stream);
            head(&mut stream).await;
            let answers = "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n".repeat(times)
                + "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            let _ = stream.get_mut().write_all(answers.as_bytes()).await;
        })
        .await;
        let stack = forward(&format!("http://{address}"), &Settings::default());
        let response = stack.oneshot(get()).await.unwrap();
        assert_eq!(response.status(), want, "{times}");
    }
}

/// The client must see that an aborted response is incomplete.
#[tokio::test]
async fn a_response_body_that_pauses_too_long_is_aborted_unless_it_is_an_event_stream() {
    const LIMIT: Duration = Duration::from_millis(800);
    // Each of the first three pauses is shorter than the limit, but their sum is longer.
    for (content_type, pauses, is_cut) in [
        ("text/plain", &[300, 300, 300][..], false),
        ("text/plain", &[1600], true),
        ("text/event-stream", &[1600], false),
        ("application/grpc-web+proto", &[1600], false),
    ] {
        let length = 3 * (pauses.len() + 1);
        let address = raw::service(move |stream| async move {
            let mut stream = BufReader::new(stream);
            head(&mut stream).await;
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\r\n"
            );
            stream.get_mut().write_all(head.as_bytes()).await.unwrap();
            stream.get_mut().write_all(b"abc").await.unwrap();
            for pause in pauses {
                sleep(Duration::from_millis(*pause)).await;
                // The write fails when the gateway has closed the connection.
                let _ = stream.get_mut().write_all(b"abc").await;
            }
            std::future::pending::<()>().await;
        })
        .await;
        let timeouts = ForwardTimeouts::default().with_body(LIMIT);
        let settings = Settings { timeouts, ..Settings::default() };
        let stack = forward(&format!("http://{address}"), &settings);
        let begin = Instant::now();
        let response = stack.clone().oneshot(get()).await.unwrap();
        assert_eq!(response.status(), 200);
        let body = timeout(PATIENCE, response.into_body().collect()).await.unwrap();
        let after = begin.elapsed();
        match body {
            Ok(body) => assert!(!is_cut && body.to_bytes().len() == length, "{content_type}"),
            Err(error) => {
                assert!(is_cut, "{content_type}: {error}");
                assert!(error.to_string().contains("for 800ms"), "{error}");
                assert!((LIMIT..Duration::from_millis(1500)).contains(&after), "{after:?}");
            }
        }
        let metrics = MetricRegistry::new().with(settings.counts.clone()).expose();
        let line = format!("passticket_service_bodies_stalled_total {}", u8::from(is_cut));
        assert!(metrics.lines().any(|it| it == line), "{line} is not in {metrics}");
        until(|| settings.counts.open() == i64::from(!is_cut)).await;
    }
}

#[tokio::test]
async fn a_pause_of_the_client_does_not_abort_the_response() {
    let address = raw::service(async |stream| {
        let mut stream = BufReader::new(stream);
        head(&mut stream).await;
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabc";
        stream.get_mut().write_all(answer).await.unwrap();
        sleep(Duration::from_millis(600)).await;
        stream.get_mut().write_all(b"def").await.unwrap();
    })
    .await;
    let timeouts = ForwardTimeouts::default().with_body(Duration::from_millis(300));
    let settings = Settings { timeouts, ..Settings::default() };
    let stack = forward(&format!("http://{address}"), &settings);
    let mut body = stack.oneshot(get()).await.unwrap().into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "abc");
    sleep(Duration::from_millis(900)).await;
    assert_eq!(body.collect().await.unwrap().to_bytes(), "def");
}

#[tokio::test]
async fn the_body_timeout_of_a_route_replaces_the_default() {
    let address = raw::service(async |stream| {
        let mut stream = BufReader::new(stream);
        head(&mut stream).await;
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabc";
        stream.get_mut().write_all(answer).await.unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    let upstream = Upstream::parse(&format!("http://{address}")).unwrap();
    let route = Route::new(ServiceId::new("svc").unwrap(), "", upstream, Bypass).unwrap();
    let route = route.with_body_timeout(Duration::from_millis(100));
    let stack = ServiceBuilder::new()
        .layer(RouteLayer::new(Routes::new([route]).unwrap()))
        .service(Forward::new(unverified(), ForwardTimeouts::default()));
    let response = stack.oneshot(get()).await.unwrap();
    timeout(PATIENCE, response.into_body().collect()).await.unwrap().unwrap_err();
}

#[tokio::test]
async fn an_early_error_is_delivered_at_once_although_the_upload_is_not_complete() {
    for (answer, want) in [
        ("HTTP/1.1 413 Content Too Large\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno", 413),
        // The head of this response is incomplete.
        ("HTTP/1.1 413 Content Too Large\r\ncontent-le", 502),
        ("HTTP/1.1 413 Content Too Large\r\ncontent-length: 2\r\n", 502),
        ("HTTP", 502),
        ("", 502),
    ] {
        let address = raw::service(move |stream| async move {
            let mut stream = BufReader::new(stream);
            head(&mut stream).await;
            stream.get_mut().write_all(answer.as_bytes()).await.unwrap();
        })
        .await;
        let stack = forward_body(&format!("http://{address}"));
        let begin = Instant::now();
        // The client sends a part of its upload, and then pauses.
        let (pieces, body) = tokio::sync::mpsc::channel(1);
        pieces.send(Bytes::from_static(b"a part")).await.unwrap();
        let request = Request::post("/svc/x").header("content-length", "1000000");
        let request = request.body(StreamBody::new(Pieces(body)).boxed_unsync()).unwrap();
        let response = stack.oneshot(request).await.unwrap();
        assert_eq!(response.status(), want, "{answer:?}");
        if want == 413 {
            assert_eq!(body_of(response).await, "no");
        }
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
        drop(pieces);
    }
}

fn forward_body(
    url: &str,
) -> impl Service<
    Request<UnsyncBoxBody<Bytes, Infallible>>,
    Response = Response<ResponseBody>,
    Error = Infallible,
    Future: Send,
> + use<> {
    crate::forwarding::forward(url, Bypass, unverified(), ForwardTimeouts::default())
}

#[tokio::test]
async fn a_response_may_have_256_headers() {
    for (count, want) in [(99, 200), (255, 200), (256, 502), (5000, 502)] {
        let address = raw::service(move |stream| async move {
            let mut stream = BufReader::new(stream);
            head(&mut stream).await;
            let headers: String = (0..count).map(|i| format!("x-{i}: {i}\r\n")).collect();
            let answer = format!("HTTP/1.1 200 OK\r\n{headers}content-length: 2\r\n\r\nok");
            let _ = stream.get_mut().write_all(answer.as_bytes()).await;
        })
        .await;
        let stack = forward(&format!("http://{address}"), &Settings::default());
        let response = stack.oneshot(get()).await.unwrap();
        assert_eq!(response.status(), want, "{count} headers and a length");
        if want == 200 {
            assert_eq!(response.headers().len(), count + 1);
            assert_eq!(body_of(response).await, "ok");
        }
    }
}
