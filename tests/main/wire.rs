//! Tests of connections to services: under load, when one side closes them, and with HTTP/2 clients.

use std::{
    convert::Infallible,
    future::pending,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    thread,
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Body as _, Frame, Incoming},
    client::conn::http2,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use test_support::{
    pki::SERVER,
    raw::{self, Scripted, Step, head, listener},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    runtime::{self, Runtime},
    sync::{Notify, mpsc},
    task::{JoinSet, yield_now},
    time::timeout,
};
use tower::{Service, ServiceExt};
use tower_passticket::{
    layer::Bypass,
    proxy::{ForwardTimeouts, ResponseBody},
    tls::{Server, ServerTls},
};

use crate::{
    client_limits::connect_h2,
    forwarding::{self, unverified},
};

const PATIENCE: Duration = Duration::from_secs(10);

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Returns a stack of layers that only routes requests and forwards them to the service at `url`.
fn forward<B>(
    url: &str,
    timeouts: ForwardTimeouts,
) -> impl Service<Request<B>, Response = Response<ResponseBody>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ use<B>
where
    B: hyper::body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
        + Send
        + Unpin
        + 'static,
{
    forwarding::forward(url, Bypass, unverified(), timeouts)
}

fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed_unsync()
}

/// A stream that yields `left` copies of `piece`. It returns `Pending` once before each copy, and once before the end.
struct Slowly {
    piece: Bytes,
    left: usize,
    was_pending: bool,
}

impl futures_core::Stream for Slowly {
    type Item = Result<Frame<Bytes>, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.was_pending = !self.was_pending;
        if self.was_pending {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= 1;
        Poll::Ready(Some(Ok(Frame::data(self.piece.clone()))))
    }
}

/// A stream of the values that are sent to a channel. It ends when the sender is dropped.
pub(crate) struct Pieces(pub(crate) mpsc::Receiver<Bytes>);

impl futures_core::Stream for Pieces {
    type Item = Result<Frame<Bytes>, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

/// Returns a body of `times` pieces, which returns `Pending` before each piece.
fn slowly(piece: impl Into<Bytes>, times: usize) -> Body {
    StreamBody::new(Slowly { piece: piece.into(), left: times, was_pending: false }).boxed_unsync()
}

/// A service that counts its connections.
#[derive(Default)]
struct Echo {
    accepted: AtomicUsize,
    open: AtomicUsize,
    closed: Notify,
}

/// The number of pieces in a slow body.
const PIECES: usize = 32;

/// The number of lines in an upload. A line with an id of 15 bytes has 16 bytes, so an upload has 100 KiB.
const LINES: usize = 6400;

impl Echo {
    async fn serve(self: Arc<Self>, listener: TcpListener) {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            self.accepted.fetch_add(1, Ordering::SeqCst);
            self.open.fetch_add(1, Ordering::SeqCst);
            let this = self.clone();
            tokio::spawn(async move {
                // An error means that the gateway has closed the connection early, as after some exchanges.
                let _ = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service_fn(answer))
                    .await;
                this.open.fetch_sub(1, Ordering::SeqCst);
                this.closed.notify_one();
            });
        }
    }

    async fn all_closed(&self) {
        while self.open.load(Ordering::SeqCst) > 0 {
            self.closed.notified().await;
        }
    }
}

/// Answers a request to `/{how}/{id}`. `how` selects the response. The response contains `id`, so that a test can check
/// that the response belongs to the request.
async fn answer(
    request: Request<Incoming>,
) -> Result<Response<UnsyncBoxBody<Bytes, hyper::Error>>, hyper::Error> {
    let (head, body) = request.into_parts();
    let (how, id) = head.uri.path()[1..].split_once('/').unwrap();
    let line = format!("{id}\n");
    let body = match how {
        "whole" => whole(line).map_err(|never| match never {}).boxed_unsync(),
        "slowly" => slowly(line, PIECES).map_err(|never| match never {}).boxed_unsync(),
        "upload" => {
            let body = body.collect().await?.to_bytes();
            Full::new(body).map_err(|never| match never {}).boxed_unsync()
        }
        "echo" => body.boxed_unsync(),
        how => panic!("unknown path: {how}"),
    };
    Ok(Response::new(body))
}

#[derive(Clone, Copy, Debug)]
enum Exchange {
    /// The response is one line.
    Get,
    /// The response has many pieces.
    Slowly,
    /// The request has a body. The service sends the whole body back as the response.
    Upload,
    /// The same as `Upload`, but the request body has many pieces.
    UploadSlowly,
    /// The response begins before the request has ended.
    Echo,
    /// The client reads only the first piece of the response.
    HalfRead,
    /// The client yields to the runtime this many times, and then cancels the request. In most cases, the response has
    /// not arrived by then.
    Cancelled(usize),
}

const EXCHANGES: [Exchange; 16] = [
    Exchange::Get,
    Exchange::Upload,
    Exchange::Get,
    Exchange::Slowly,
    Exchange::Cancelled(1),
    Exchange::Get,
    Exchange::HalfRead,
    Exchange::Get,
    Exchange::UploadSlowly,
    Exchange::Cancelled(3),
    Exchange::Slowly,
    Exchange::Echo,
    Exchange::Get,
    Exchange::Cancelled(9),
    Exchange::HalfRead,
    Exchange::Slowly,
];

impl Exchange {
    /// Runs the exchange. Panics if the response does not belong to the request with this `id`.
    async fn run<S>(self, stack: &mut S, id: &str)
    where
        S: Service<Request<Body>, Response = Response<ResponseBody>, Error = Infallible>,
    {
        let line = format!("{id}\n");
        let (lines, piece) = (line.repeat(LINES), Bytes::from(line.repeat(LINES / PIECES)));
        let (echo_sender, echo_receiver) = mpsc::channel(PIECES);
        let (how, body, want) = match self {
            Self::Get | Self::Cancelled(1) => ("whole", Body::default(), line),
            Self::Slowly | Self::HalfRead => ("slowly", Body::default(), line.repeat(PIECES)),
            Self::Upload | Self::Cancelled(_) => ("upload", whole(lines.clone()), lines),
            Self::UploadSlowly => ("upload", slowly(piece.clone(), PIECES), lines),
            Self::Echo => {
                echo_sender.try_send(piece.clone()).unwrap();
                ("echo", StreamBody::new(Pieces(echo_receiver)).boxed_unsync(), lines)
            }
        };
        let method = if body.is_end_stream() { Method::GET } else { Method::POST };
        let request = Request::builder().method(method).uri(format!("/svc/{how}/{id}"));
        let request = request.body(body).unwrap();
        let response = stack.ready().await.unwrap().call(request);
        if let Self::Cancelled(yields) = self {
            tokio::select! {
                biased;
                _ = response => {}
                () = async { for _ in 0..yields { yield_now().await } } => {}
            }
            return;
        }
        let check = async {
            let response = response.await.unwrap();
            assert_eq!(response.status(), StatusCode::OK, "{self:?} of {id}");
            if let Self::Echo = self {
                (1..PIECES).for_each(|_| echo_sender.try_send(piece.clone()).unwrap());
            }
            drop(echo_sender);
            let mut body = response.into_body();
            if let Self::HalfRead = self {
                let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
                assert!(want.as_bytes().starts_with(&first), "{id} got {first:?}");
            } else {
                let got = body.collect().await.unwrap().to_bytes();
                assert!(got == want, "{self:?} of {id} got {:?}", got.get(..16));
            }
        };
        let checked = timeout(PATIENCE, check).await;
        checked.unwrap_or_else(|_| panic!("{self:?} of {id} got no response in time"));
    }

    /// Returns whether the gateway may close the connection to the service after this exchange.
    fn may_close_its_connection(self) -> bool {
        matches!(self, Self::Echo | Self::HalfRead | Self::Cancelled(_))
    }
}

/// Starts the service on its own runtime. Returns the runtime, the service and its URL.
fn echo() -> (Runtime, Arc<Echo>, String) {
    let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.unwrap();
    let echo = Arc::<Echo>::default();
    let (listener, address) = runtime.block_on(listener());
    runtime.spawn(echo.clone().serve(listener));
    (runtime, echo, format!("http://{address}"))
}

fn single_threaded() -> Runtime {
    runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Each thread has its own runtime and a clone of one `Forward`, as in `passticket-proxy`.
#[test]
fn every_request_gets_its_own_response_although_other_requests_are_cancelled() {
    const TASKS: usize = 4;
    /// For each thread: how often its tasks run [`EXCHANGES`]. The first thread ends long before the others.
    const ROUNDS: [usize; 4] = [2, 8, 8, 8];

    let (service_runtime, echo, url) = echo();
    let stack = forward(&url, ForwardTimeouts::default());
    thread::scope(|scope| {
        for (number, rounds) in ROUNDS.into_iter().enumerate() {
            let stack = stack.clone();
            scope.spawn(move || {
                single_threaded().block_on(async {
                    let mut tasks = JoinSet::new();
                    for task in 0..TASKS {
                        let mut stack = stack.clone();
                        tasks.spawn(async move {
                            for turn in 0..rounds * EXCHANGES.len() {
                                let id = format!("{number:03}-{task:03}-{turn:07}");
                                let exchange = EXCHANGES[(turn + 5 * task) % EXCHANGES.len()];
                                exchange.run(&mut stack, &id).await;
                            }
                        });
                    }
                    tasks.join_all().await;
                });
            });
        }
    });
    let closing = EXCHANGES.iter().filter(|exchange| exchange.may_close_its_connection()).count();
    let closed = closing * TASKS * ROUNDS.iter().sum::<usize>();
    let accepted = echo.accepted.load(Ordering::SeqCst);
    assert!(accepted <= closed + TASKS * ROUNDS.len(), "{accepted} connections");
    drop(stack);
    service_runtime
        .block_on(async { timeout(PATIENCE, echo.all_closed()).await })
        .expect("all connections are closed in time");
}

#[test]
fn idle_connections_are_closed_after_the_first_runtime_has_ended() {
    let (service_runtime, echo, url) = echo();
    let idle = Duration::from_millis(50);
    let stack = forward(&url, ForwardTimeouts::default().with_idle(idle));
    let ask = |id| {
        let mut stack = stack.clone();
        async move { Exchange::Get.run(&mut stack, id).await }
    };
    thread::scope(|scope| {
        scope.spawn(|| single_threaded().block_on(ask("the-first")));
    });
    single_threaded().block_on(async {
        ask("the-second").await;
        timeout(PATIENCE, echo.all_closed()).await.expect("idle connections are closed in time");
    });
    drop(service_runtime);
}

/// Starts a service over TLS that answers one request, and then waits until the gateway closes the connection.
async fn answers_once() -> Scripted {
    let answer = Step::send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    Scripted::https(SERVER.acceptor(), [Step::ReadHead, answer, Step::ReadToEnd]).await
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::default()).unwrap()
}

#[tokio::test]
async fn an_idle_tls_connection_is_closed_with_close_notify() {
    let mut service = answers_once().await;
    let idle = Duration::from_millis(50);
    let url = format!("https://{}", service.address);
    let stack = forward(&url, ForwardTimeouts::default().with_idle(idle));
    let response = stack.clone().oneshot(get("/svc/x")).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "ok");
    let end = timeout(PATIENCE, service.ended()).await.expect("the connection is closed in time");
    assert_eq!(end.expect("TLS ends with close_notify"), 0);
    drop(stack);
}

#[tokio::test]
async fn a_tls_connection_is_closed_with_close_notify_after_forward_is_dropped() {
    for drop_before_body_is_read in [false, true] {
        let mut service = answers_once().await;
        let url = format!("https://{}", service.address);
        let mut stack = Some(forward(&url, ForwardTimeouts::default()));
        let response = stack.clone().unwrap().oneshot(get("/svc/x")).await.unwrap();
        if drop_before_body_is_read {
            stack.take();
        }
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "ok");
        drop(stack);
        let end =
            timeout(PATIENCE, service.ended()).await.expect("the connection is closed in time");
        let read = end.expect("TLS ends with close_notify");
        assert_eq!(read, 0, "dropped before the body was read: {drop_before_body_is_read}");
    }
}

/// What a service does after it has answered an upload early, before it has read the body.
#[derive(Clone, Copy, Debug)]
enum AfterEarlyResponse {
    /// The service reads until the gateway closes the connection.
    ReadsTheRest,
    /// The service closes its sending side. Then it reads until the gateway closes the connection (RFC 9112 §9.6).
    ClosesGracefully,
    /// The service keeps the connection open and reads nothing.
    StopsReading,
}

/// A number of bytes that exceeds the socket buffers between client and service.
const LARGE: usize = 16 << 20;

/// Starts a service that answers an upload to `/early` as soon as it has read the head. It answers any other request
/// after it has read the body. The response is the length of the request body. With `ReadsTheRest`, the service sends
/// to `sender` how many bytes it has read after the early response.
async fn answers_early(then: AfterEarlyResponse, sender: mpsc::Sender<usize>) -> SocketAddr {
    raw::service(move |stream| answer_early(BufReader::new(stream), then, sender.clone())).await
}

async fn answer_early(
    mut stream: BufReader<TcpStream>,
    then: AfterEarlyResponse,
    sender: mpsc::Sender<usize>,
) {
    while stream.fill_buf().await.is_ok_and(|read| !read.is_empty()) {
        let head = head(&mut stream).await;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = length.map_or(0, |length| length.parse().unwrap());
        let is_early = head.starts_with("POST /early ");
        if !is_early {
            stream.read_exact(&mut vec![0; length]).await.unwrap();
        }
        let close = if is_early && matches!(then, AfterEarlyResponse::ClosesGracefully) {
            "connection: close\r\n"
        } else {
            ""
        };
        let length = length.to_string();
        let answer =
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n{close}\r\n{length}", length.len());
        stream.get_mut().write_all(answer.as_bytes()).await.unwrap();
        if is_early {
            match then {
                AfterEarlyResponse::ReadsTheRest => {
                    let mut rest = Vec::new();
                    stream.read_to_end(&mut rest).await.unwrap();
                    return sender.send(rest.len()).await.unwrap();
                }
                AfterEarlyResponse::ClosesGracefully => {
                    stream.get_mut().shutdown().await.unwrap();
                    let _ = stream.read_to_end(&mut Vec::new()).await;
                    return;
                }
                AfterEarlyResponse::StopsReading => return pending().await,
            }
        }
    }
}

/// Starts a gateway in front of the service at `address`, and connects to the gateway with HTTP/2.
async fn http2_to(address: SocketAddr, timeouts: ForwardTimeouts) -> http2::SendRequest<Body> {
    let tls = ServerTls::from_pem(SERVER.certificate.as_bytes(), SERVER.key.as_bytes(), None);
    let (listener, at) = listener().await;
    let stack = forward(&format!("http://{address}"), timeouts);
    tokio::spawn(Server::https(listener, tls.unwrap()).run(stack, pending()));
    let stream = TokioIo::new(connect_h2(at).await);
    let connected = http2::handshake(TokioExecutor::new(), stream).await;
    let (sender, connection) = connected.unwrap();
    tokio::spawn(connection);
    sender
}

async fn ask(client: &mut http2::SendRequest<Body>, request: Request<Body>) -> Bytes {
    let exchange = async {
        client.ready().await.unwrap();
        let response = client.send_request(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        response.into_body().collect().await.unwrap().to_bytes()
    };
    timeout(PATIENCE, exchange).await.expect("a response arrives in time")
}

#[tokio::test]
async fn an_http2_client_gets_the_announced_trailers() {
    let (heads, mut received) = mpsc::channel(1);
    let address = raw::service(move |stream| {
        let heads = heads.clone();
        async move {
            let mut stream = BufReader::new(stream);
            heads.send(head(&mut stream).await).await.unwrap();
            let answer =
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-checksum\r\n\r\n\
                2\r\nok\r\n0\r\nx-checksum: 1\r\nset-cookie: a=b\r\n\r\n";
            stream.write_all(answer).await.unwrap();
        }
    })
    .await;
    let mut client = http2_to(address, ForwardTimeouts::default()).await;
    client.ready().await.unwrap();
    let request = Request::get("https://localhost/svc/x").header("te", "trailers");
    let response = client.send_request(request.body(whole("")).unwrap()).await.unwrap();
    let body = timeout(PATIENCE, response.into_body().collect()).await.unwrap().unwrap();
    let names: Vec<_> = body.trailers().unwrap().keys().map(|name| name.as_str()).collect();
    assert_eq!(names, ["x-checksum"]);
    let head = received.recv().await.unwrap();
    assert!(head.contains("\r\nte: trailers\r\n"), "{head}");
}

fn upload(path: &str, length: usize) -> http::request::Builder {
    Request::post(format!("https://localhost{path}")).header("content-length", length)
}

#[tokio::test]
async fn an_early_response_does_not_affect_other_http2_streams() {
    use AfterEarlyResponse::{ClosesGracefully, ReadsTheRest, StopsReading};
    for then in [ReadsTheRest, ClosesGracefully] {
        upload_early_then(then, &[0, 100 << 10, 0, 4 << 20], ForwardTimeouts::default()).await;
    }
    upload_early_then(StopsReading, &[0; 16], ForwardTimeouts::default()).await;
}

/// All uploads on an HTTP/2 connection share one flow-control window (RFC 9113 §5.2.1). The unread bytes of the stalled
/// upload fill this window until the gateway closes the connection to the service.
#[tokio::test]
async fn after_an_early_response_a_stalled_upload_blocks_other_uploads_only_until_a_timeout() {
    let timeouts = ForwardTimeouts::default().with_response(Duration::from_secs(6));
    upload_early_then(AfterEarlyResponse::StopsReading, &[1 << 20; 32], timeouts).await;
}

/// Begins a large upload, which the service answers early. Then sends more uploads on the same HTTP/2 connection: one
/// for each length in `lengths`.
async fn upload_early_then(then: AfterEarlyResponse, lengths: &[usize], timeouts: ForwardTimeouts) {
    let (sender, mut read) = mpsc::channel(1);
    let mut client = http2_to(answers_early(then, sender).await, timeouts).await;
    let (pieces, body) = mpsc::channel(1);
    let early = upload("/svc/early", LARGE).body(StreamBody::new(Pieces(body)).boxed_unsync());
    // The client sends the second piece only after the response has arrived.
    let piece = Bytes::from(vec![b'y'; LARGE / 16]);
    pieces.send(piece.clone()).await.unwrap();
    assert_eq!(ask(&mut client, early.unwrap()).await, LARGE.to_string(), "{then:?}");
    let rest = tokio::spawn(async move {
        for _ in 1..16 {
            pieces.send(piece.clone()).await?;
        }
        Ok::<_, mpsc::error::SendError<Bytes>>(())
    });
    for &length in lengths {
        let request = upload("/svc/x", length).body(whole(vec![b'z'; length])).unwrap();
        assert_eq!(ask(&mut client, request).await, length.to_string(), "{then:?}");
    }
    if let AfterEarlyResponse::ReadsTheRest = then {
        timeout(PATIENCE, rest).await.expect("the upload is sent in time").unwrap().unwrap();
        let read = timeout(PATIENCE, read.recv()).await.expect("the upload arrives in time");
        assert_eq!(read, Some(LARGE));
    }
}

/// The service knows the length of the upload from `Content-Length`. So it answers before the client sends the flag
/// END_STREAM.
#[tokio::test]
async fn a_connection_is_reused_if_the_upload_ends_after_the_response() {
    let echo = Arc::<Echo>::default();
    let (listener, address) = listener().await;
    tokio::spawn(echo.clone().serve(listener));
    let mut client = http2_to(address, ForwardTimeouts::default()).await;
    for length in [16 * PIECES, 0, 16, 0] {
        let (sender, body) = mpsc::channel(PIECES);
        for _ in 0..length / 16 {
            sender.try_send(Bytes::from_static(b"sixteen bytes...")).unwrap();
        }
        let body = StreamBody::new(Pieces(body)).boxed_unsync();
        let answer = ask(&mut client, upload("/svc/upload/x", length).body(body).unwrap()).await;
        assert_eq!(answer.len(), length);
        drop(sender);
    }
    assert_eq!(echo.accepted.load(Ordering::SeqCst), 1);
}

/// The response of a service that reads only the head of an upload, and closes the connection after the response.
/// Because of the unread bytes, the kernel resets the connection.
#[derive(Clone, Copy, Debug)]
enum ResponseBeforeReset {
    Complete,
    /// The body is shorter than `content-length`.
    Truncated,
    /// There is no `content-length`. The service closes its sending side, which ends the response.
    UntilClose,
    /// There is no `content-length`, and only the reset ends the response.
    UntilReset,
    Nothing,
}

/// The length of the response body: more than hyper reads in one call.
const RESPONSE_LENGTH: usize = 24 << 10;

impl ResponseBeforeReset {
    fn steps(self) -> Vec<Step> {
        let length = match self {
            Self::Complete => format!("content-length: {RESPONSE_LENGTH}\r\n"),
            Self::Truncated => format!("content-length: {}\r\n", 2 * RESPONSE_LENGTH),
            Self::UntilClose | Self::UntilReset => "connection: close\r\n".to_owned(),
            Self::Nothing => return vec![Step::ReadHead, Step::LeaveUnread],
        };
        let mut answer = format!("HTTP/1.1 413 Content Too Large\r\n{length}\r\n").into_bytes();
        answer.extend([b'x'; RESPONSE_LENGTH]);
        let mut steps = vec![Step::ReadHead, Step::Send(answer)];
        if let Self::UntilClose = self {
            steps.push(Step::ShutDown);
        }
        steps.push(Step::LeaveUnread);
        steps
    }

    /// Starts a service that answers each upload with this response. Returns the URL of the service.
    async fn start_service(self, transport: Transport) -> String {
        let steps = self.steps();
        match transport {
            Transport::Tcp => format!("http://{}", Scripted::http(steps).await.address),
            Transport::Tls => {
                let service = Scripted::https(SERVER.acceptor(), steps).await;
                format!("https://{}", service.address)
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Transport {
    Tcp,
    Tls,
}

/// Sends an upload to a gateway and reads the response at the same time. Returns the head of the response.
async fn upload_over_http1(at: SocketAddr) -> String {
    let (read, mut write) = TcpStream::connect(at).await.unwrap().into_split();
    let writing = tokio::spawn(async move {
        let head = format!("POST /svc/x HTTP/1.1\r\nhost: gw\r\ncontent-length: {LARGE}\r\n\r\n");
        write.write_all(head.as_bytes()).await.unwrap();
        let _ = write.write_all(&vec![b'y'; LARGE]).await;
    });
    let mut read = BufReader::new(read);
    let head = timeout(PATIENCE, head(&mut read)).await.expect("a response arrives in time");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    timeout(PATIENCE, read.read_exact(&mut body)).await.expect("the body arrives in time").unwrap();
    writing.abort();
    head
}

/// How often each test below repeats its upload. The reset may arrive at another moment each time.
const REPETITIONS: usize = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_is_forwarded_although_the_service_has_reset_the_connection() {
    for transport in [Transport::Tcp, Transport::Tls] {
        for (response, status) in
            [(ResponseBeforeReset::Complete, "413"), (ResponseBeforeReset::Nothing, "502")]
        {
            let (listener, at) = listener().await;
            let url = response.start_service(transport).await;
            let stack = forward(&url, ForwardTimeouts::default());
            tokio::spawn(Server::http(listener).run(stack, pending()));
            let mut heads = Vec::new();
            for _ in 0..REPETITIONS {
                heads.push(upload_over_http1(at).await);
            }
            let start = format!("HTTP/1.1 {status} ");
            let correct = heads.iter().filter(|head| head.starts_with(&start)).count();
            assert_eq!(correct, REPETITIONS, "{response:?} over {transport:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_truncated_or_reset_response_body_is_an_error() {
    use ResponseBeforeReset::{Complete, Truncated, UntilClose, UntilReset};
    let body = Bytes::from(vec![b'y'; LARGE]);
    for transport in [Transport::Tcp, Transport::Tls] {
        for kind in [Complete, Truncated, UntilClose, UntilReset] {
            let url = kind.start_service(transport).await;
            let stack = forward(&url, ForwardTimeouts::default());
            for _ in 0..REPETITIONS {
                let request = Request::post("/svc/x").body(whole(body.clone())).unwrap();
                let response = timeout(PATIENCE, stack.clone().oneshot(request)).await;
                let response = response.expect("a response arrives in time").unwrap();
                assert_eq!(response.status(), 413, "{kind:?} over {transport:?}");
                let body = timeout(PATIENCE, response.into_body().collect()).await;
                let body = body.expect("the body ends in time");
                let length = body.map(|body| body.to_bytes().len()).ok();
                let want = matches!(kind, Complete | UntilClose).then_some(RESPONSE_LENGTH);
                assert_eq!(length, want, "{kind:?} over {transport:?}");
            }
        }
    }
}
