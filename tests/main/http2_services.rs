//! Tests of HTTP/2 to services: negotiation, streams, trailers, cancellation, retries and limits.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::{Ready, ready},
    num::NonZeroU16,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use h2::{Reason, RecvStream, server::SendResponse};
use http::{HeaderMap, Request, Response, Uri, Version, header::AUTHORIZATION};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper_util::rt::TokioIo;
use test_support::{
    pki::SERVER,
    raw::{self, head},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, DuplexStream, duplex},
    net::TcpStream,
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_passticket::{
    audit::Audit,
    layer::{
        Bypass, Instance, Instances, Route, RouteLayer, Routes, SanitizeLayer, ServiceProtocol,
        Upstream,
    },
    metrics::MetricRegistry,
    passticket::Replay,
    proxy::{Forward, ForwardCounts, ForwardTimeouts, Http2Settings, NegotiateHttp2, ResponseBody},
    rustls::ServerConfig,
    token::ServiceId,
};

use crate::{
    PATIENCE,
    forwarding::unverified,
    outbound::{authorized_over, bearer, passtickets},
    until,
};

type Body = UnsyncBoxBody<Bytes, Infallible>;

fn empty() -> Body {
    Full::default().boxed_unsync()
}

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::from(bytes.into()).boxed_unsync()
}

fn channel() -> (mpsc::UnboundedSender<Frame<Bytes>>, Body) {
    struct Frames(mpsc::UnboundedReceiver<Frame<Bytes>>);
    impl futures_core::Stream for Frames {
        type Item = Result<Frame<Bytes>, Infallible>;
        fn poll_next(
            mut self: std::pin::Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Self::Item>> {
            self.0.poll_recv(cx).map(|frame| frame.map(Ok))
        }
    }
    let (sender, receiver) = mpsc::unbounded_channel();
    (sender, StreamBody::new(Frames(receiver)).boxed_unsync())
}

struct Settings {
    timeouts: ForwardTimeouts,
    max_streams: u16,
    max_connections: usize,
    protocol: ServiceProtocol,
    counts: Arc<ForwardCounts>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            timeouts: ForwardTimeouts::default().with_response(PATIENCE),
            max_streams: 100,
            max_connections: 8,
            protocol: ServiceProtocol::H2c,
            counts: Arc::default(),
        }
    }
}

fn gateway(
    url: &str,
    settings: &Settings,
) -> impl Service<Request<Body>, Response = Response<ResponseBody>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ use<> {
    gateway_of(&[url], settings)
}

/// Returns a gateway in front of a service. `urls` are the addresses of the service's instances.
fn gateway_of(
    urls: &[&str],
    settings: &Settings,
) -> impl Service<Request<Body>, Response = Response<ResponseBody>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ use<> {
    let service = ServiceId::new("svc").unwrap();
    let upstream = |url: &str| Upstream::parse(url).unwrap();
    let instances = urls.iter().map(|url| Instance::of_service(&service, upstream(url)));
    let instances = Instances::new(instances);
    let route = Route::new(service.clone(), "", upstream(urls[0]), Bypass).unwrap();
    let route = route.with_protocol(settings.protocol).with_instances(instances);
    let http2 =
        Http2Settings::default().with_max_streams(NonZeroU16::new(settings.max_streams).unwrap());
    let forward = Forward::new(unverified(), settings.timeouts)
        .with_max_connections(settings.max_connections.try_into().unwrap())
        .with_counts(settings.counts.clone())
        .with_http2(http2);
    ServiceBuilder::new()
        .layer(SanitizeLayer::new())
        .layer(RouteLayer::new(Routes::new([route]).unwrap()))
        .service(forward)
}

fn get() -> Request<Body> {
    Request::get("/svc/x").body(empty()).unwrap()
}

type Exchange = (Request<RecvStream>, SendResponse<Bytes>);

/// Serves HTTP/2 on `io`. Each exchange runs `handle` in a separate task.
async fn serve<T, F>(io: T, builder: h2::server::Builder, handle: impl Fn(Exchange) -> F)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let Ok(mut connection) = builder.handshake::<_, Bytes>(io).await else { return };
    while let Some(Ok(exchange)) = connection.accept().await {
        tokio::spawn(handle(exchange));
    }
}

/// Starts an HTTP/2 service without TLS. Returns its URL and a counter of its connections.
async fn service<F>(
    builder: h2::server::Builder,
    handle: impl Fn(Exchange) -> F + Clone + Send + Sync + 'static,
) -> (String, Arc<AtomicUsize>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let connections = Arc::<AtomicUsize>::default();
    let count = connections.clone();
    let address = raw::service(move |stream: TcpStream| {
        count.fetch_add(1, Ordering::Relaxed);
        serve(stream, builder.clone(), handle.clone())
    })
    .await;
    (format!("http://{address}"), connections)
}

fn answer(mut respond: SendResponse<Bytes>, body: &'static str) {
    let mut stream = respond.send_response(Response::new(()), false).unwrap();
    stream.send_data(Bytes::from_static(body.as_bytes()), true).unwrap();
}

async fn read(mut body: RecvStream) -> (Vec<u8>, Option<HeaderMap>) {
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        all.extend_from_slice(&data);
    }
    (all, body.trailers().await.unwrap())
}

async fn text(response: Response<ResponseBody>) -> String {
    let body = timeout(PATIENCE, response.into_body().collect()).await.unwrap().unwrap();
    String::from_utf8(body.to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn request_and_response_bodies_with_trailers_are_streamed_at_the_same_time() {
    let (url, _) = service(h2::server::Builder::new(), async |(request, mut respond)| {
        assert_eq!(request.version(), Version::HTTP_2);
        assert_eq!(request.uri().path(), "/x");
        assert_eq!(request.headers()["te"], "trailers");
        assert!(!request.headers().contains_key("connection"));
        let mut stream = respond.send_response(Response::new(()), false).unwrap();
        let mut body = request.into_body();
        while let Some(data) = body.data().await {
            let data = data.unwrap();
            body.flow_control().release_capacity(data.len()).unwrap();
            stream.send_data(data, false).unwrap();
        }
        let mut trailers = body.trailers().await.unwrap().unwrap();
        assert_eq!(trailers.len(), 1, "{trailers:?}");
        trailers.insert("grpc-status", "0".parse().unwrap());
        trailers.insert("set-cookie", "a=b".parse().unwrap());
        stream.send_trailers(trailers).unwrap();
    })
    .await;
    let (sender, body) = channel();
    let request = Request::post("/svc/x").header("te", "trailers").header("trailer", "x-sum");
    let response = gateway(&url, &Settings::default()).oneshot(request.body(body).unwrap());
    let mut body = timeout(PATIENCE, response).await.unwrap().unwrap().into_body();
    for word in ["one", "two", "three"] {
        sender.send(Frame::data(Bytes::from_static(word.as_bytes()))).unwrap();
        let frame = timeout(PATIENCE, body.frame()).await.unwrap().unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), word);
    }
    let mut trailers = HeaderMap::new();
    for name in ["x-sum", "x-certificate-public", "authorization", "x-other"] {
        trailers.insert(name, "1".parse().unwrap());
    }
    sender.send(Frame::trailers(trailers)).unwrap();
    drop(sender);
    let frame = timeout(PATIENCE, body.frame()).await.unwrap().unwrap().unwrap();
    let trailers = frame.into_trailers().unwrap();
    let mut names: Vec<_> = trailers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["grpc-status", "x-sum"]);
}

/// Starts a service with TLS. The service uses HTTP/2 if `alpn` contains `h2`, and otherwise HTTP/1.1. Each response
/// body is the HTTP version.
async fn tls_service(alpn: &[&str]) -> String {
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![SERVER.certificate_der()], SERVER.private_key());
    let mut config = config.unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let address = raw::service(move |stream: TcpStream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                let answer = async |(_, respond)| answer(respond, "HTTP/2");
                return serve(stream, h2::server::Builder::new(), answer).await;
            }
            let mut stream = BufReader::new(stream);
            while head(&mut stream).await.starts_with("GET ") {
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nHTTP/1.1";
                stream.get_mut().write_all(answer).await.unwrap();
            }
        }
    })
    .await;
    format!("https://localhost:{}", address.port())
}

#[tokio::test]
async fn http2_is_used_where_the_service_offers_it() {
    for (alpn, protocol, want) in [
        (&["h2", "http/1.1"][..], ServiceProtocol::Auto, "HTTP/2"),
        (&["h2", "http/1.1"], ServiceProtocol::Http1, "HTTP/1.1"),
        (&["http/1.1"], ServiceProtocol::Auto, "HTTP/1.1"),
        (&[], ServiceProtocol::Auto, "HTTP/1.1"),
    ] {
        let settings = Settings { protocol, ..Settings::default() };
        let gateway = gateway(&tls_service(alpn).await, &settings);
        for _ in 0..2 {
            let response = gateway.clone().oneshot(get()).await.unwrap();
            assert_eq!(text(response).await, want, "{alpn:?} {protocol:?}");
        }
        assert_eq!(settings.counts.http2_connections(), i64::from(want == "HTTP/2"));
        assert_eq!(settings.counts.open(), 1, "{alpn:?} {protocol:?}");
    }
}

#[tokio::test]
async fn requests_share_a_connection_within_the_stream_limit_of_the_service() {
    let open = Arc::<AtomicUsize>::default();
    let most = Arc::<AtomicUsize>::default();
    let (now, max) = (open.clone(), most.clone());
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(3);
    let (url, connections) = service(builder, move |(_, respond)| {
        let (now, max) = (now.clone(), max.clone());
        async move {
            max.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            sleep(Duration::from_millis(20)).await;
            now.fetch_sub(1, Ordering::SeqCst);
            answer(respond, "ok");
        }
    })
    .await;
    let settings = Settings { max_connections: 1, ..Settings::default() };
    let gateway = gateway(&url, &settings);
    assert_eq!(text(gateway.clone().oneshot(get()).await.unwrap()).await, "ok");
    let mut requests = JoinSet::new();
    for _ in 0..20 {
        requests.spawn(gateway.clone().oneshot(get()));
    }
    while let Some(response) = requests.join_next().await {
        assert_eq!(text(response.unwrap().unwrap()).await, "ok");
    }
    assert_eq!(connections.load(Ordering::Relaxed), 1);
    assert!((2..=3).contains(&most.load(Ordering::Relaxed)), "{most:?}");
    until(|| settings.counts.http2_streams() == 0).await;
}

#[tokio::test]
async fn at_the_stream_limit_a_second_connection_is_opened_and_then_requests_wait() {
    let (gate, _) = tokio::sync::broadcast::channel::<()>(1);
    let opened = gate.clone();
    let (url, connections) = service(h2::server::Builder::new(), move |(_, respond)| {
        let mut gate = opened.subscribe();
        async move {
            gate.recv().await.unwrap();
            answer(respond, "ok");
        }
    })
    .await;
    let settings = Settings { max_connections: 2, max_streams: 2, ..Settings::default() };
    let gateway = gateway(&url, &settings);
    let mut requests = JoinSet::new();
    for _ in 0..5 {
        let response = gateway.clone().oneshot(get());
        requests.spawn(async { text(response.await.unwrap()).await });
    }
    until(|| settings.counts.http2_streams() == 4 && settings.counts.waiting() == 1).await;
    until(|| gate.receiver_count() == 4).await;
    assert_eq!(connections.load(Ordering::Relaxed), 2);
    gate.send(()).unwrap();
    until(|| gate.receiver_count() == 1).await;
    gate.send(()).unwrap();
    while let Some(body) = requests.join_next().await {
        assert_eq!(body.unwrap(), "ok");
    }
    assert_eq!(connections.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_refused_post_is_sent_again_once() {
    for (refusals, want) in [(1, 200), (2, 502)] {
        let left = Arc::new(AtomicUsize::new(refusals));
        let (url, _) = service(h2::server::Builder::new(), move |(request, mut respond)| {
            let left = left.clone();
            async move {
                let may_refuse = left
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
                if may_refuse.is_ok() {
                    let mut body: RecvStream = request.into_body();
                    body.data().await.unwrap().unwrap();
                    return respond.send_reset(Reason::REFUSED_STREAM);
                }
                assert_eq!(read(request.into_body()).await.0, b"hello, service");
                answer(respond, "done");
            }
        })
        .await;
        let settings = Settings::default();
        let request = Request::post("/svc/x").body(full("hello, service")).unwrap();
        let response = gateway(&url, &settings).oneshot(request).await.unwrap();
        assert_eq!(response.status(), want);
        let text = MetricRegistry::new().with(settings.counts).expose();
        assert!(text.contains("{reason=\"stream-unprocessed\"} 1"), "{text}");
    }
}

/// Starts a service that refuses each request with `REFUSED_STREAM`. Returns its URL and a counter of the requests.
async fn refusing() -> (String, Arc<AtomicUsize>) {
    let requests = Arc::<AtomicUsize>::default();
    let count = requests.clone();
    let (url, _) = service(h2::server::Builder::new(), move |(_, mut respond)| {
        count.fetch_add(1, Ordering::Relaxed);
        async move { respond.send_reset(Reason::REFUSED_STREAM) }
    })
    .await;
    (url, requests)
}

#[tokio::test]
async fn a_refused_request_is_sent_to_another_instance() {
    let (refusing, refused) = refusing().await;
    let healthy = async |(_, respond)| answer(respond, "ok");
    let (one, _) = service(h2::server::Builder::new(), healthy).await;
    let (two, _) = service(h2::server::Builder::new(), healthy).await;
    let gateway = gateway_of(&[&refusing, &one, &two], &Settings::default());
    let mut sent = 0;
    while refused.load(Ordering::Relaxed) < 10 {
        let request = Request::post("/svc/x").body(full("a body")).unwrap();
        let response = gateway.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(text(response).await, "ok");
        sent += 1;
        assert!(sent < 1000, "the refusing instance gets too few requests");
    }
}

#[tokio::test]
async fn retries_of_refused_requests_stay_within_the_retry_budget() {
    const REQUESTS: usize = 400;
    let (url, received) = refusing().await;
    let settings = Settings::default();
    let gateway = gateway(&url, &settings);
    for _ in 0..REQUESTS {
        assert_eq!(gateway.clone().oneshot(get()).await.unwrap().status(), 502);
    }
    let text = MetricRegistry::new().with(settings.counts).expose();
    let received = received.load(Ordering::Relaxed);
    // The retry budget allows 100 retries in 10 s, plus one retry for every five requests.
    assert!((REQUESTS + 100..REQUESTS + 300).contains(&received), "{received}: {text}");
    assert!(!text.contains("passticket_service_retries_refused_total 0"), "{text}");
}

#[tokio::test]
async fn requests_after_the_last_stream_of_a_goaway_are_sent_again_on_another_connection() {
    let (url, connections) = {
        let connections = Arc::<AtomicUsize>::default();
        let count = connections.clone();
        let address = raw::service(move |stream: TcpStream| {
            let is_first = count.fetch_add(1, Ordering::Relaxed) == 0;
            async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                let (_, respond) = connection.accept().await.unwrap().unwrap();
                if is_first {
                    // The second request arrives after the service has sent GOAWAY, so the crate h2 does not accept it.
                    connection.graceful_shutdown();
                    tokio::spawn(async move {
                        sleep(Duration::from_millis(100)).await;
                        answer(respond, "old");
                    });
                } else {
                    answer(respond, "new");
                }
                while let Some(Ok((_, respond))) = connection.accept().await {
                    answer(respond, if is_first { "old" } else { "new" });
                }
            }
        })
        .await;
        (format!("http://{address}"), connections)
    };
    let gateway = gateway(&url, &Settings::default());
    let first = tokio::spawn(gateway.clone().oneshot(get()));
    until(|| connections.load(Ordering::Relaxed) == 1).await;
    assert_eq!(text(first.await.unwrap().unwrap()).await, "old");
    for _ in 0..3 {
        let response = gateway.clone().oneshot(get()).await.unwrap();
        assert_eq!(response.status(), 200);
        text(response).await;
    }
    until(|| connections.load(Ordering::Relaxed) >= 2).await;
}

#[tokio::test]
async fn only_an_idempotent_request_is_sent_again_if_its_connection_is_lost() {
    for (method, want) in [("GET", 200), ("POST", 502)] {
        let first = Arc::new(AtomicUsize::new(0));
        let address = raw::service(move |stream: TcpStream| {
            let is_first = first.fetch_add(1, Ordering::Relaxed) == 0;
            async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                let (_, respond) = connection.accept().await.unwrap().unwrap();
                if is_first {
                    return;
                }
                answer(respond, "ok");
                while connection.accept().await.is_some() {}
            }
        })
        .await;
        let gateway = gateway(&format!("http://{address}"), &Settings::default());
        let request = Request::builder().method(method).uri("/svc/x").body(empty()).unwrap();
        assert_eq!(gateway.oneshot(request).await.unwrap().status(), want, "{method}");
    }
}

#[tokio::test]
async fn a_cancelled_request_resets_its_stream_and_the_connection_stays_open() {
    let (resets, mut reset) = mpsc::unbounded_channel();
    let (url, connections) = service(h2::server::Builder::new(), move |(request, mut respond)| {
        let resets = resets.clone();
        async move {
            match request.uri().path() {
                "/never" => {
                    let reason = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
                    resets.send(reason.unwrap()).unwrap();
                }
                "/half" => {
                    let mut stream = respond.send_response(Response::new(()), false).unwrap();
                    stream.send_data("half".into(), false).unwrap();
                    let reason = std::future::poll_fn(|cx| stream.poll_reset(cx)).await;
                    resets.send(reason.unwrap()).unwrap();
                }
                _ => answer(respond, "ok"),
            }
        }
    })
    .await;
    let gateway = gateway(&url, &Settings::default());
    for path in ["/svc/never", "/svc/half"] {
        let (_sender, body) = channel();
        for body in [empty(), body] {
            let request = Request::post(path).body(body).unwrap();
            let response = gateway.clone().oneshot(request);
            if path == "/svc/never" {
                timeout(Duration::from_millis(100), response).await.unwrap_err();
            } else {
                let mut body = response.await.unwrap().into_body();
                body.frame().await.unwrap().unwrap();
            }
            let reason = timeout(PATIENCE, reset.recv()).await.unwrap().unwrap();
            assert_eq!(reason, Reason::CANCEL, "{path}");
        }
    }
    assert_eq!(text(gateway.oneshot(get()).await.unwrap()).await, "ok");
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn the_error_of_a_reset_stream_contains_the_reason_of_the_service() {
    let (url, _) = service(h2::server::Builder::new(), async |(_, mut respond)| {
        let mut stream = respond.send_response(Response::new(()), false).unwrap();
        stream.send_data("half".into(), false).unwrap();
        sleep(Duration::from_millis(50)).await;
        stream.send_reset(Reason::ENHANCE_YOUR_CALM);
    })
    .await;
    let response = gateway(&url, &Settings::default()).oneshot(get()).await.unwrap();
    let error = response.into_body().collect().await.unwrap_err();
    let mut cause: Option<&dyn std::error::Error> = Some(&error);
    let reason = loop {
        let error = cause.expect("an HTTP/2 error");
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            break error.reason();
        }
        cause = error.source();
    };
    assert_eq!(reason, Some(Reason::ENHANCE_YOUR_CALM));
}

#[tokio::test]
async fn clients_that_do_not_read_do_not_delay_other_responses() {
    const LENGTH: usize = 1024 * 1024;
    let (url, connections) = service(h2::server::Builder::new(), async |(_, mut respond)| {
        let mut stream = respond.send_response(Response::new(()), false).unwrap();
        let mut left = LENGTH;
        while left > 0 {
            stream.reserve_capacity(left);
            let Some(Ok(capacity)) = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await
            else {
                return;
            };
            let part = capacity.min(left);
            left -= part;
            stream.send_data(vec![b'x'; part].into(), left == 0).unwrap();
        }
    })
    .await;
    let gateway = gateway(&url, &Settings::default());
    let mut unread = Vec::new();
    for _ in 0..60 {
        unread.push(gateway.clone().oneshot(get()).await.unwrap());
    }
    let response = gateway.clone().oneshot(get()).await.unwrap();
    assert_eq!(text(response).await.len(), LENGTH);
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_connection_gets_no_further_request_after_a_response_timeout() {
    let connections = Arc::<AtomicUsize>::default();
    let count = connections.clone();
    let address = raw::service(move |stream: TcpStream| {
        let is_first = count.fetch_add(1, Ordering::Relaxed) == 0;
        async move {
            if is_first {
                // The service neither answers on its first connection nor closes it.
                let _stream = stream;
                return std::future::pending().await;
            }
            serve(stream, h2::server::Builder::new(), async |(_, respond)| answer(respond, "ok"))
                .await;
        }
    })
    .await;
    let timeouts = ForwardTimeouts::default().with_response(Duration::from_millis(300));
    let settings = Settings { timeouts, ..Settings::default() };
    let gateway = gateway(&format!("http://{address}"), &settings);
    assert_eq!(gateway.clone().oneshot(get()).await.unwrap().status(), 504);
    assert_eq!(gateway.clone().oneshot(get()).await.unwrap().status(), 200);
    until(|| settings.counts.open() == 1).await;
}

#[tokio::test]
async fn idle_connections_are_closed() {
    let (url, _) =
        service(h2::server::Builder::new(), async |(_, respond)| answer(respond, "ok")).await;
    let timeouts = ForwardTimeouts::default().with_idle(Duration::from_millis(50));
    let settings = Settings { timeouts, ..Settings::default() };
    let gateway = gateway(&url, &settings);
    assert_eq!(text(gateway.clone().oneshot(get()).await.unwrap()).await, "ok");
    until(|| settings.counts.open() == 0 && settings.counts.http2_connections() == 0).await;
    assert_eq!(text(gateway.oneshot(get()).await.unwrap()).await, "ok");
}

#[tokio::test]
async fn a_response_that_pauses_too_long_is_aborted_unless_it_is_an_event_stream() {
    let (url, _) = service(h2::server::Builder::new(), async |(request, mut respond)| {
        let head =
            Response::builder().header("content-type", request.uri().path()[1..].replace('_', "/"));
        let mut stream = respond.send_response(head.body(()).unwrap(), false).unwrap();
        stream.send_data("one".into(), false).unwrap();
        sleep(Duration::from_millis(400)).await;
        stream.send_data("two".into(), true).unwrap_or_default();
    })
    .await;
    let timeouts = ForwardTimeouts::default().with_body(Duration::from_millis(100));
    let settings = Settings { timeouts, ..Settings::default() };
    let gateway = gateway(&url, &settings);
    for (kind, want) in [("text_plain", None), ("text_event-stream", Some("onetwo"))] {
        let request = Request::get(format!("/svc/{kind}")).body(empty()).unwrap();
        let body = gateway.clone().oneshot(request).await.unwrap().into_body().collect().await;
        assert_eq!(body.ok().map(|body| body.to_bytes()), want.map(Bytes::from), "{kind}");
    }
}

/// The service accepts a PassTicket (a short-lived password of z/OS) only once.
#[tokio::test]
async fn a_request_is_sent_again_with_another_passticket() {
    let seen = Arc::<Mutex<VecDeque<String>>>::default();
    let log = seen.clone();
    let address = raw::service(move |stream: TcpStream| {
        let log = log.clone();
        async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((request, respond))) = connection.accept().await {
                let credential = request.headers()[AUTHORIZATION].to_str().unwrap().to_owned();
                let is_first = {
                    let mut log = log.lock().unwrap();
                    log.push_back(credential);
                    log.len() == 1
                };
                if is_first {
                    return;
                }
                answer(respond, "ok");
            }
        }
    })
    .await;
    let scheme = passtickets(Replay::Protected);
    let url = format!("http://{address}");
    let stack = authorized_over(ServiceProtocol::H2c, &url, scheme, Audit::default());
    let request = Request::get("/svc/x").header(AUTHORIZATION, bearer("USER"));
    let response = stack.oneshot(request.body(Full::default()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 2);
    assert_ne!(seen[0], seen[1]);
}

/// Starts a service with TLS that reads the whole request body. Over HTTP/1.1, the service reads the body up to a dot.
/// The response body is the HTTP version.
async fn reading_service(alpn: &str) -> String {
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![SERVER.certificate_der()], SERVER.private_key());
    let mut config = config.unwrap();
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let address = raw::service(move |stream: TcpStream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                let handle = async |(request, respond): Exchange| {
                    let mut body = request.into_body();
                    while let Some(Ok(_)) = body.data().await {}
                    answer(respond, "HTTP/2");
                };
                return serve(stream, h2::server::Builder::new(), handle).await;
            }
            let mut stream = BufReader::new(stream);
            head(&mut stream).await;
            let mut line = String::new();
            while !line.ends_with(".\r\n") {
                if stream.read_line(&mut line).await.unwrap_or_default() == 0 {
                    return;
                }
            }
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nHTTP/1.1";
            stream.get_mut().write_all(answer).await.unwrap();
        }
    })
    .await;
    format!("https://localhost:{}", address.port())
}

/// The time limit for the request body depends on the HTTP version, which the gateway learns from the TLS handshake.
#[tokio::test]
async fn a_grpc_client_may_pause_its_upload_only_if_the_service_uses_http2() {
    const LIMIT: Duration = Duration::from_millis(300);
    for (alpn, pause, want) in [
        ("http/1.1", Some(4 * LIMIT), (408, None)),
        ("http/1.1", None, (200, Some("HTTP/1.1"))),
        ("h2", Some(4 * LIMIT), (200, Some("HTTP/2"))),
    ] {
        let timeouts = ForwardTimeouts::default().with_response(PATIENCE).with_receive(LIMIT);
        let settings =
            Settings { timeouts, protocol: ServiceProtocol::Auto, ..Settings::default() };
        let (sender, body) = channel();
        let request = Request::post("/svc/x").header("content-type", "application/grpc+proto");
        let gateway = gateway(&reading_service(alpn).await, &settings);
        let response = tokio::spawn(gateway.oneshot(request.body(body).unwrap()));
        sender.send(Frame::data("begin".into())).unwrap();
        sleep(pause.unwrap_or_default()).await;
        // The send fails if the gateway has already ended the request.
        let _ = sender.send(Frame::data("end.".into()));
        drop(sender);
        let response = timeout(PATIENCE, response).await.unwrap().unwrap().unwrap();
        let status = response.status().as_u16();
        let body = text(response).await;
        assert_eq!((status, (status == 200).then_some(&*body)), want, "{alpn} {pause:?}");
    }
}

/// Connects to a service in memory. `serve` gets the number of the connection. The first connection has the number 0.
#[derive(Clone)]
struct InMemory {
    serve: Arc<dyn Fn(usize, DuplexStream) + Send + Sync>,
    connections: Arc<AtomicUsize>,
}

impl Service<Uri> for InMemory {
    type Response = TokioIo<DuplexStream>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (ours, theirs) = duplex(64 * 1024);
        (self.serve)(self.connections.fetch_add(1, Ordering::Relaxed), theirs);
        ready(Ok(TokioIo::new(ours)))
    }
}

impl NegotiateHttp2 for InMemory {
    fn offering_http2(&self) -> Self {
        self.clone()
    }

    fn is_http2(_: &Self::Response) -> bool {
        false
    }
}

/// To the gateway, a slow response (long poll) looks like a lost connection. Only answers to its pings show the
/// difference.
#[tokio::test(start_paused = true)]
async fn unanswered_pings_end_a_request_and_answered_pings_do_not() {
    const INTERVAL: Duration = Duration::from_secs(30);
    const LATE: Duration = Duration::from_secs(3000);
    // The gateway sends a ping after 30 s. The service must answer it within 20 s.
    let lost = 50..53;
    for (method, pings, answers_pings, want, seconds) in [
        ("GET", Some(INTERVAL), true, (200, "0"), 3000..3003),
        ("POST", Some(INTERVAL), true, (200, "0"), 3000..3003),
        ("GET", Some(INTERVAL), false, (200, "1"), lost.clone()),
        ("POST", Some(INTERVAL), false, (502, ""), lost.clone()),
        ("GET", None, false, (504, ""), 6000..6003),
    ] {
        let serve = move |number: usize, io: DuplexStream| async move {
            let mut connection = h2::server::handshake(io).await.unwrap();
            while let Some(Ok((request, respond))) = connection.accept().await {
                if request.uri().path() == "/first" || number > 0 {
                    answer(respond, if number == 0 { "0" } else { "1" });
                    continue;
                }
                if !answers_pings {
                    // Because nothing polls the connection, the service answers no ping.
                    return std::future::pending().await;
                }
                tokio::spawn(async move {
                    sleep(LATE).await;
                    answer(respond, "0");
                });
            }
        };
        let connector = InMemory {
            serve: Arc::new(move |number, io| drop(tokio::spawn(serve(number, io)))),
            connections: Arc::default(),
        };
        let service = ServiceId::new("svc").unwrap();
        let upstream = Upstream::parse("http://service").unwrap();
        let route = Route::new(service, "", upstream, Bypass).unwrap();
        let route = route.with_protocol(ServiceProtocol::H2c);
        let counts = Arc::<ForwardCounts>::default();
        let timeouts = ForwardTimeouts::default().with_response(2 * LATE);
        let forward = Forward::new(connector, timeouts)
            .with_counts(counts.clone())
            .with_http2(Http2Settings::default().with_ping_interval(pings));
        let gateway = ServiceBuilder::new()
            .layer(RouteLayer::new(Routes::new([route]).unwrap()))
            .service(forward);
        // The gateway repeats a request only if its connection has already served a request, such as this one.
        let first = Request::get("/svc/first").body(empty()).unwrap();
        assert_eq!(text(gateway.clone().oneshot(first).await.unwrap()).await, "0");
        let begin = Instant::now();
        let request = Request::builder().method(method).uri("/svc/poll").body(empty()).unwrap();
        let response = gateway.oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = text(response).await;
        let case = format!("{method}, pings {pings:?}, answered {answers_pings}");
        assert_eq!((status, if status == 200 { &*body } else { "" }), want, "{case}");
        let waited = begin.elapsed().as_secs();
        assert!(seconds.contains(&waited), "{case}: {waited} s");
        if pings.is_some() {
            // The gateway closes a connection only if its pings are not answered. The GET then gets a new connection.
            let open = i64::from(answers_pings || method == "GET");
            until(|| counts.open() == open).await;
        }
    }
}
