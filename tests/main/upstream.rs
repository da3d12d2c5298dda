//! Tests of forwarding to services: certificate verification, time limits, disconnecting clients, connection reuse.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use rcgen::SanType;
use test_support::{
    pki::{Authority, SERVER},
    raw::{self, Scripted, Step, discard, head, listener},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::Notify,
    time::{sleep, timeout},
};
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_passticket::{
    gateway::Gateway,
    layer::{Bypass, PassTicketScheme, SanitizeLayer},
    passticket::{Applid, KeyProfile, KeyProfiles, LocalGenerator},
    proxy::{ForwardTimeouts, ResponseBody},
    tls::{Drained, Server, ServerTls, Verification},
};

use crate::{
    PATIENCE,
    forwarding::{forward, unverified, verified},
};

/// The private key is the key of [`SERVER`].
fn server_tls(certificate: &str) -> ServerTls {
    ServerTls::from_pem(certificate.as_bytes(), SERVER.key.as_bytes(), None).unwrap()
}

async fn hello(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::from("hello")))
}

fn timeouts() -> ForwardTimeouts {
    ForwardTimeouts::default().with_response(PATIENCE)
}

/// Returns a stack of layers that only routes requests and forwards them to the service at `address`.
fn forward_to(
    address: SocketAddr,
) -> impl Service<Request<Full<Bytes>>, Response = Response<ResponseBody>, Error = Infallible> + Clone
{
    forward(&format!("http://{address}"), Bypass, unverified(), timeouts())
}

/// Starts a gateway that only forwards to the service at `address`. Returns the address of the gateway.
async fn gateway(address: SocketAddr, timeouts: ForwardTimeouts) -> SocketAddr {
    let (listener, at) = listener().await;
    let url = format!("http://{address}");
    let stack = ServiceBuilder::new().layer(SanitizeLayer::new()).service(forward(
        &url,
        Bypass,
        unverified(),
        timeouts,
    ));
    tokio::spawn(Server::http(listener).run(stack, std::future::pending()));
    at
}

fn get() -> Request<Full<Bytes>> {
    Request::get("/svc/x").body(Full::default()).unwrap()
}

#[tokio::test]
async fn service_certificates_are_verified_as_configured() {
    let (authority, key) = (Authority::trusted(), SERVER.key_pair());
    let foreign = Authority::namesake().certify(&key, |_| {});
    let wrong_name = authority.certify(&key, |params| {
        params.subject_alt_names = vec![SanType::DnsName("elsewhere.example".try_into().unwrap())];
    });
    let cases = [
        ("correct certificate", SERVER.certificate, [200, 200, 200]),
        ("certificate for another name", &wrong_name, [503, 200, 200]),
        ("certificate of another authority", &foreign, [503, 503, 200]),
    ];
    for (name, certificate, want) in cases {
        let (listener, address) = listener().await;
        let server = Server::https(listener, server_tls(certificate));
        let server =
            tokio::spawn(server.run(tower::service_fn(hello), std::future::pending::<()>()));
        let modes = [Verification::Strict, Verification::NonStrict, Verification::Disabled];
        for (mode, want) in modes.into_iter().zip(want) {
            let url = format!("https://localhost:{}", address.port());
            let connector = verified(mode, authority.pem());
            let stack = forward(&url, Bypass, connector, timeouts());
            let response = stack.oneshot(get()).await.unwrap();
            assert_eq!(response.status(), want, "{name}, {mode:?}");
        }
        server.abort();
    }
}

#[tokio::test]
async fn a_client_that_disconnects_cancels_the_request_to_the_service() {
    /// Notifies the test when the future of the service is dropped.
    struct Cancelled(Arc<Notify>);
    impl Drop for Cancelled {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let (arrived, cancelled) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (listener, address) = listener().await;
    let service = tower::service_fn({
        let (arrived, cancelled) = (arrived.clone(), cancelled.clone());
        move |_: Request<Incoming>| {
            let guard = Cancelled(cancelled.clone());
            arrived.notify_one();
            async move {
                let _guard = guard;
                std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>().await
            }
        }
    });
    tokio::spawn(Server::http(listener).run(service, std::future::pending()));

    let at = gateway(address, ForwardTimeouts::default()).await;

    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = tokio::spawn(client.get(format!("http://{at}/svc/x")).send());
    timeout(PATIENCE, arrived.notified()).await.expect("the service gets the request in time");
    request.abort();
    timeout(PATIENCE, cancelled.notified()).await.expect("the request is cancelled in time");
}

#[tokio::test]
async fn a_slow_upload_does_not_time_out() {
    let (listener, address) = listener().await;
    tokio::spawn(Server::http(listener).run(tower::service_fn(count), std::future::pending()));

    let timeouts = ForwardTimeouts::default().with_response(Duration::from_millis(600));
    let at = gateway(address, timeouts).await;

    // The whole upload takes three times as long as the timeout. But each pause between its pieces is shorter than the
    // timeout.
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        for _ in 0..9 {
            sender.send(Ok::<_, Infallible>(Bytes::from_static(b"piece"))).await.unwrap();
            sleep(Duration::from_millis(200)).await;
        }
    });
    let body = reqwest::Body::wrap_stream(Pieces(receiver));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let response = client.post(format!("http://{at}/svc")).body(body).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.text().await.unwrap(), "45");
}

async fn count(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().collect().await.unwrap().to_bytes();
    Ok(Response::new(Full::from(body.len().to_string())))
}

struct Pieces<T>(tokio::sync::mpsc::Receiver<T>);

impl<T> futures_core::Stream for Pieces<T> {
    type Item = T;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<T>> {
        self.0.poll_recv(cx)
    }
}

#[tokio::test]
async fn a_service_that_closes_without_a_response_gives_502() {
    let service = Scripted::http([]).await;
    let stack = forward_to(service.address);
    let response = stack.oneshot(get()).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let body = String::from_utf8(body.to_vec()).unwrap();
    assert!(body.contains("ZWEAG510E") && !body.contains("connection"), "{body}");
}

#[tokio::test]
async fn without_a_scheme_layer_a_request_gets_500() {
    let (listener, address) = listener().await;
    tokio::spawn(Server::http(listener).run(tower::service_fn(hello), std::future::pending()));
    let generator = LocalGenerator::new(KeyProfiles::new([] as [KeyProfile; 0]).unwrap());
    let scheme = PassTicketScheme::new(Applid::new("ZOWEAPPL").unwrap(), generator);
    let url = format!("http://{address}");
    let stack = forward(&url, scheme, unverified(), timeouts());
    assert_eq!(stack.oneshot(get()).await.unwrap().status(), 500);
}

/// Sends the bytes of `request` to a gateway, and returns the raw response. The body of the response contains the
/// method, URI, headers and body that the service has received.
async fn raw(request: &str) -> String {
    let (listener, address) = listener().await;
    tokio::spawn(Server::http(listener).run(tower::service_fn(echo), std::future::pending()));
    let at = gateway(address, ForwardTimeouts::default()).await;
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    String::from_utf8(answer).unwrap()
}

async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let mut text = format!("{} {}\n", head.method, head.uri);
    for (name, value) in &head.headers {
        text += &format!("{name}: {}\n", value.to_str().unwrap());
    }
    text += &format!("body: {}\n", String::from_utf8_lossy(&body));
    Ok(Response::new(Full::from(text)))
}

#[tokio::test]
async fn trace_and_connect_get_405() {
    for method in ["TRACE", "trace", "Trace", "CONNECT"] {
        let answer =
            raw(&format!("{method} /svc/x HTTP/1.1\r\nhost: gw\r\nconnection: close\r\n\r\n"))
                .await;
        assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
        assert!(answer.contains("allow: GET, HEAD, "), "{answer}");
        assert!(answer.contains("ZWEAO405E"), "{answer}");
    }
}

#[tokio::test]
async fn the_body_of_a_get_is_forwarded() {
    let answer = raw("GET /svc/x HTTP/1.1\r\nhost: gw\r\nconnection: close\r\n\
         transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    .await;
    assert!(answer.contains("body: abc\n"), "{answer}");
    let answer = raw("GET /svc/x HTTP/1.1\r\nhost: gw\r\nconnection: close\r\n\
         content-length: 3\r\n\r\nabc")
    .await;
    assert!(answer.contains("body: abc\n"), "{answer}");
    let answer = raw("GET /svc/x HTTP/1.1\r\nhost: gw\r\nconnection: close\r\n\r\n").await;
    assert!(answer.contains("body: \n") && !answer.contains("chunked"), "{answer}");
}

#[tokio::test]
async fn conflicting_body_lengths_are_never_forwarded() {
    let answer = raw("POST /svc/x HTTP/1.1\r\nhost: gw\r\ncontent-length: 3\r\n\
         transfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n")
    .await;
    // RFC 9112 §6.3: Transfer-Encoding overrides Content-Length, which must be removed.
    assert!(answer.contains("body: abcde\n") && !answer.contains("content-length: 3"), "{answer}");
    let answer = raw("POST /svc/x HTTP/1.1\r\nhost: gw\r\ncontent-length: 3\r\n\
         content-length: 4\r\nconnection: close\r\n\r\nabcd")
    .await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[tokio::test]
async fn several_cookie_headers_are_joined() {
    let answer = raw("GET /svc/x HTTP/1.1\r\nhost: gw\r\nconnection: close\r\ncookie: a=1\r\n\
         cookie: personalAccessToken=x; b\r\n\r\n")
    .await;
    assert!(answer.contains("cookie: a=1; personalAccessToken=x; b\n"), "{answer}");
}

/// The client connects before the shutdown, and sends its first request after the shutdown has begun. Another client
/// sends nothing, and must not delay the shutdown for long.
#[tokio::test]
async fn a_connection_accepted_before_shutdown_is_served() {
    let (listener, address) = listener().await;
    let (shut_down, shutdown) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(Server::http(listener).run(tower::service_fn(hello), async {
        let _ = shutdown.await;
    }));
    let mut late = TcpStream::connect(address).await.unwrap();
    let silent = TcpStream::connect(address).await.unwrap();
    sleep(Duration::from_millis(100)).await;
    shut_down.send(()).unwrap();
    sleep(Duration::from_millis(200)).await;
    late.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, late.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("hello"), "{answer}");
    let drained = timeout(Duration::from_secs(10), server).await;
    let drained = drained.expect("the server stops in time").unwrap();
    assert_eq!(drained, Drained::Completely);
    drop(silent);
}

/// The drop of a future can have effects, such as an audit record. Over HTTP/2, each request has a separate task.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn aborted_requests_are_dropped_before_run_returns() {
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            // The drop is slow: if `run` did not wait for it, `run` would return before the count changes.
            std::thread::sleep(Duration::from_millis(30));
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let tls = server_tls(SERVER.certificate);
    for is_http2 in [false, true] {
        let (listener, address) = listener().await;
        let (shut_down, shutdown) = tokio::sync::oneshot::channel::<()>();
        let (running, arrived) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let service = tower::service_fn({
            let (running, arrived) = (running.clone(), arrived.clone());
            move |_: Request<Incoming>| {
                running.fetch_add(1, Ordering::SeqCst);
                let counted = Counted(running.clone());
                arrived.notify_one();
                async move {
                    let _counted = counted;
                    std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>().await
                }
            }
        });
        let server =
            Server::https(listener, tls.clone()).with_drain_timeout(Duration::from_millis(50));
        let server = server.run(service, async {
            let _ = shutdown.await;
        });
        let counter = running.clone();
        let server = tokio::spawn(async move { (server.await, counter.load(Ordering::SeqCst)) });
        let client = test_support::client(Authority::trusted().pem().as_bytes());
        let client = if is_http2 { client } else { client.http1_only() }.build().unwrap();
        let requests: Vec<_> = (0..3)
            .map(|_| {
                let request = client.get(format!("https://localhost:{}/", address.port()));
                tokio::spawn(request.send())
            })
            .collect();
        while running.load(Ordering::SeqCst) < requests.len() {
            timeout(PATIENCE, arrived.notified()).await.expect("the requests arrive in time");
        }
        shut_down.send(()).unwrap();
        let stopped = timeout(PATIENCE, server).await.expect("the server stops in time");
        let (drained, still_running) = stopped.unwrap();
        assert!(matches!(drained, Drained::CutOff { .. }), "{drained:?}");
        assert_eq!(still_running, 0, "HTTP/2: {is_http2}");
        for request in requests {
            assert!(request.await.unwrap().is_err());
        }
    }
}

#[tokio::test]
async fn a_silent_connection_times_out() {
    let tls = server_tls(SERVER.certificate);
    for tls in [None, Some(tls)] {
        let (listener, address) = listener().await;
        let server = match tls {
            None => Server::http(listener),
            Some(tls) => Server::https(listener, tls),
        };
        let server = server
            .with_handshake_timeout(Duration::from_millis(300))
            .with_idle_timeout(Duration::from_millis(300));
        tokio::spawn(server.run(tower::service_fn(hello), std::future::pending()));
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut rest = Vec::new();
        let read = timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        assert!(read.is_ok(), "expected the server to close the connection");
    }
}

/// Starts a service that answers `answers` requests on a connection and then closes it. The last response has no
/// `Connection: close`.
async fn closes_after(answers: usize) -> Scripted {
    let answer = Step::send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello");
    Scripted::http(vec![[Step::ReadHead, answer]; answers].concat()).await
}

async fn body_of(response: Response<ResponseBody>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

#[tokio::test]
async fn connections_are_reused_and_closed_connections_are_replaced() {
    for (answers, requests, connections) in [(100, 20, 1), (3, 9, 3), (1, 5, 5)] {
        let service = closes_after(answers).await;
        let mut stack = forward_to(service.address);
        for _ in 0..requests {
            let response = stack.ready().await.unwrap().call(get()).await.unwrap();
            assert_eq!(response.status(), 200, "{answers}");
            assert_eq!(body_of(response).await, "hello");
        }
        assert_eq!(service.connections(), connections, "{answers}");
    }
}

#[tokio::test]
async fn eight_concurrent_requests_on_clones_use_at_most_eight_connections() {
    let service = closes_after(1000).await;
    let stack = forward_to(service.address);
    for _ in 0..3 {
        let one = async || body_of(stack.clone().oneshot(get()).await.unwrap()).await;
        let four = async || tokio::join!(one(), one(), one(), one());
        let (a, b) = tokio::join!(four(), four());
        for body in [a.0, a.1, a.2, a.3, b.0, b.1, b.2, b.3] {
            assert_eq!(body, "hello");
        }
    }
    let connections = service.connections();
    assert!(connections <= 8, "{connections}");
}

#[tokio::test]
async fn a_connection_is_not_reused_if_its_response_was_not_read_completely() {
    let service = closes_after(1000).await;
    let mut stack = forward_to(service.address);
    for _ in 0..3 {
        drop(stack.ready().await.unwrap().call(get()).await.unwrap());
    }
    assert_eq!(service.connections(), 3);
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let service = closes_after(1000).await;
    let url = format!("http://{}", service.address);
    let idle = ForwardTimeouts::default().with_idle(Duration::from_millis(300));
    let mut stack = forward(&url, Bypass, unverified(), idle);
    for (wait, connections) in [(0, 1), (1, 1), (1000, 2)] {
        sleep(Duration::from_millis(wait)).await;
        let response = stack.ready().await.unwrap().call(get()).await.unwrap();
        assert_eq!(body_of(response).await, "hello");
        assert_eq!(service.connections(), connections, "{wait}");
    }
}

/// A number of bytes that exceeds the socket buffers between client and service.
const LARGE: usize = 48 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_continues_while_the_client_does_not_read_the_response() {
    let address = raw::service(async |stream| {
        let (read, mut write) = stream.into_split();
        let mut read = BufReader::new(read);
        head(&mut read).await;
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {LARGE}\r\n\r\n");
        write.write_all(answer.as_bytes()).await.unwrap();
        tokio::join!(discard(&mut read, LARGE), async {
            write.write_all(&vec![b'x'; LARGE]).await.unwrap();
        });
    })
    .await;
    let at = gateway(address, ForwardTimeouts::default()).await;
    let mut stream = BufReader::new(TcpStream::connect(at).await.unwrap());
    let request = format!("POST /svc/x HTTP/1.1\r\nhost: gw\r\ncontent-length: {LARGE}\r\n\r\n");
    stream.get_mut().write_all(request.as_bytes()).await.unwrap();
    let body = vec![b'y'; LARGE];
    timeout(PATIENCE, stream.get_mut().write_all(&body))
        .await
        .expect("the gateway reads the upload in time")
        .unwrap();
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 200 "));
    timeout(PATIENCE, discard(&mut stream, LARGE)).await.expect("the response arrives in time");
}

#[tokio::test]
async fn an_upload_is_forwarded_completely_after_an_early_response() {
    const LENGTH: usize = 4 << 20;
    let answer = Step::send("HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n");
    let mut service = Scripted::http([Step::ReadHead, answer, Step::Read(LENGTH)]).await;
    let at = gateway(service.address, ForwardTimeouts::default()).await;
    let mut stream = BufReader::new(TcpStream::connect(at).await.unwrap());
    let request = format!("POST /svc/x HTTP/1.1\r\nhost: gw\r\ncontent-length: {LENGTH}\r\n\r\n");
    stream.get_mut().write_all(request.as_bytes()).await.unwrap();
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 202 "));
    stream.get_mut().write_all(&vec![b'y'; LENGTH]).await.unwrap();
    let read = timeout(PATIENCE, service.ended()).await.expect("the upload arrives in time");
    assert_eq!(read.unwrap(), LENGTH);
}

/// The request after an unsolicited response may come from another user.
#[tokio::test]
async fn an_unsolicited_response_is_never_used() {
    let service = Scripted::http([
        Step::ReadHead,
        Step::send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"),
        Step::Wait(Duration::from_millis(100)),
        Step::send("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged"),
        Step::Read(1),
    ])
    .await;
    let at = gateway(service.address, ForwardTimeouts::default()).await;
    let mut stream = BufReader::new(TcpStream::connect(at).await.unwrap());
    for _ in 0..3 {
        let request = b"GET /svc/x HTTP/1.1\r\nhost: gw\r\n\r\n";
        stream.get_mut().write_all(request).await.unwrap();
        assert!(head(&mut stream).await.contains("content-length: 2\r\n"));
        discard(&mut stream, 2).await;
        sleep(Duration::from_millis(300)).await;
    }
}

/// Sends the bytes of `request` to a gateway whose service answers `answer`. Returns the raw response of the gateway.
async fn answered(request: &str, answer: &str) -> String {
    let steps = [Step::ReadHead, Step::send(answer), Step::Wait(Duration::from_millis(100))];
    let service = Scripted::http(steps).await;
    let url = format!("http://{}", service.address);
    let stack = ServiceBuilder::new().layer(SanitizeLayer::new()).service(forward(
        &url,
        Bypass,
        unverified(),
        timeouts(),
    ));
    let api = tower::service_fn(async |_| {
        Ok::<_, Infallible>(Response::new(ResponseBody::from(Bytes::from("api"))))
    });
    let (listener, at) = listener().await;
    let gateway = Gateway::new(api, stack);
    tokio::spawn(Server::http(listener).run(gateway, std::future::pending()));
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    String::from_utf8(answer).unwrap().to_ascii_lowercase()
}

#[tokio::test]
async fn malformed_requests_are_refused_by_the_gateway() {
    const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    const CHUNKS: &str = "connection: close\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    for (request, want) in [
        ("GET /svc/x HTTP/1.1\r\nhost: gw:1\r\nconnection: close\r\n\r\n", 200),
        ("GET /svc/x HTTP/1.1\r\nconnection: close\r\n\r\n", 400),
        ("GET /svc/x HTTP/1.1\r\nhost: a\r\nhost: a\r\nconnection: close\r\n\r\n", 400),
        ("GET /svc/x HTTP/1.1\r\nhost: a b/c@d\r\nconnection: close\r\n\r\n", 400),
        ("GET http://gw/svc/x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", 200),
        ("GET ftp://gw/svc/x HTTP/1.1\r\nhost: gw\r\nconnection: close\r\n\r\n", 400),
        ("GET http://u@gw/svc/x HTTP/1.1\r\nhost: gw\r\nconnection: close\r\n\r\n", 400),
        ("GET /gateway/api/v1/auth/query HTTP/1.1\r\nconnection: close\r\n\r\n", 400),
        ("GET /svc/%252e%252e/x HTTP/1.1\r\nhost: gw\r\nconnection: close\r\n\r\n", 400),
        ("GET /svc/..%00 HTTP/1.1\r\nhost: gw\r\nconnection: close\r\n\r\n", 400),
    ] {
        let answer = answered(request, OK).await;
        assert!(answer.starts_with(&format!("http/1.1 {want} ")), "{request}: {answer}");
    }
    for (codings, want) in [
        ("transfer-encoding: chunked", 200),
        ("transfer-encoding: gzip, chunked", 501),
        ("transfer-encoding: chunked, chunked", 400),
        ("transfer-encoding: chunked\r\ntransfer-encoding: chunked", 400),
    ] {
        let request = format!("POST /svc/x HTTP/1.1\r\nhost: gw\r\n{codings}\r\n{CHUNKS}");
        let answer = answered(&request, OK).await;
        assert!(answer.starts_with(&format!("http/1.1 {want} ")), "{codings}: {answer}");
    }
}

#[tokio::test]
async fn malformed_responses_are_repaired_or_give_502() {
    const GET: &str = "GET /svc/x HTTP/1.1\r\nhost: gw\r\nconnection: close\r\n\r\n";
    for (head, body, want, has, has_not) in [
        ("200 OK\r\ncontent-length: 2, 2", "ok", 200, "content-length: 2\r\n", "2, 2"),
        (
            "200 OK\r\ncontent-length: 2\r\ncontent-length: 2",
            "ok",
            200,
            "content-length: 2\r\n",
            "2, 2",
        ),
        (
            "200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked",
            "5\r\nwhole\r\n0\r\n\r\n",
            200,
            "whole",
            "content-length",
        ),
        (
            "200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 1",
            "5\r\nwhole\r\n0\r\n\r\n",
            200,
            "whole",
            "content-length",
        ),
        ("204 No Content\r\ncontent-length: 5", "", 204, "", "content-length"),
        ("200 OK\r\ncontent-length: 2, 3", "ok", 502, "zweag510e", "2, 3"),
        (
            "200 OK\r\ntransfer-encoding: gzip, chunked",
            "2\r\nok\r\n0\r\n\r\n",
            502,
            "zweag510e",
            "gzip",
        ),
        ("200 OK\r\ntransfer-encoding: identity", "ok", 200, "ok", "transfer-encoding: identity"),
        ("304 Not Modified\r\ntransfer-encoding: gzip", "", 304, "", "gzip"),
        ("101 Switching Protocols\r\nupgrade: x", "", 502, "zweag510e", "upgrade"),
    ] {
        let answer = answered(GET, &format!("HTTP/1.1 {head}\r\n\r\n{body}")).await;
        assert!(answer.starts_with(&format!("http/1.1 {want} ")), "{head}: {answer}");
        assert!(answer.contains(has) && !answer.contains(has_not), "{head}: {answer}");
    }
}

#[tokio::test]
async fn forbidden_fields_are_removed_from_the_trailers_of_a_service() {
    let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-checksum\r\n\r\n\
                  2\r\nok\r\n0\r\nx-checksum: 1\r\nset-cookie: apimlAuthenticationToken=x\r\n\
                  x-zowe-auth-failure: forged\r\ncontent-length: 5\r\n\r\n";
    let service = Scripted::http([Step::ReadHead, Step::send(answer)]).await;
    let response = forward_to(service.address).oneshot(get()).await.unwrap();
    let body = response.into_body().collect().await.unwrap();
    let names: Vec<_> = body.trailers().unwrap().keys().map(|name| name.as_str()).collect();
    assert_eq!(names, ["x-checksum"]);
}

/// A client that sends `TE: trailers` gets the trailers that the service has announced (RFC 9110 §6.5.1).
#[tokio::test]
async fn trailers_reach_an_http11_client_that_accepts_them() {
    const REQUEST: &str = "GET /svc/x HTTP/1.1\r\nhost: gw\r\nconnection: close";
    let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\
                  trailer: x-checksum, set-cookie\r\n\r\n\
                  2\r\nok\r\n0\r\nx-checksum: 1\r\nset-cookie: a=b\r\nx-other: 2\r\n\r\n";
    let got = answered(&format!("{REQUEST}, TE\r\nte: trailers\r\n\r\n"), answer).await;
    assert!(got.contains("\r\ntrailer: x-checksum\r\n"), "{got}");
    assert!(got.ends_with("\r\n2\r\nok\r\n0\r\nx-checksum: 1\r\n\r\n"), "{got}");
    let got = answered(&format!("{REQUEST}\r\n\r\n"), answer).await;
    assert!(got.ends_with("\r\n2\r\nok\r\n0\r\n\r\n") && !got.contains("trailer"), "{got}");

    let got = raw(&format!("{REQUEST}, TE\r\nte: gzip, trailers\r\n\r\n")).await;
    assert!(got.contains("\nte: trailers\n") && got.contains("\nconnection: te\n"), "{got}");
    let got = raw(&format!("{REQUEST}, TE\r\nte: gzip\r\n\r\n")).await;
    assert!(!got.contains("\nte: ") && !got.contains("\nconnection: te\n"), "{got}");
}
