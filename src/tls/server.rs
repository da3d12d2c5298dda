//! The HTTP server: accepts connections, and serves requests on them until it is shut down.

use std::{
    convert::Infallible,
    error::Error,
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use http::{Request, Response, Version};
use hyper::{
    body::{Body, Incoming},
    rt::Executor,
    server::conn::{http1, http2},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
};
use pin_project_lite::pin_project;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::{JoinSet, coop::unconstrained},
    time::{Instant, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tower::{BoxError, util::Oneshot};
use tower_service::Service;

use super::{
    answering::{Answering, RequestFraming},
    connection_counts::{ConnectionCounts, CountedConnection, HandshakeFailure},
    delivered_body::DeliveredBody,
    exchanges::Exchanges,
    half_close::HalfCloseStream,
    lent_stream::{ClientStream, LastResponse, Lender, LentStream},
    lingering_close::{LingerLimits, lingering_close},
    plain_http::{self, NoTls},
    server_tls::ServerTls,
};
use crate::{
    coalesce::CoalesceWrites,
    connection::{ConnectionInfo, Protocol},
    identity::PeerCertificate,
    log_limit::log_limited,
};

/// Maximum open connections. Further connections wait to be accepted.
const MAX_CONNECTIONS: usize = 10_000;

/// When the server shuts down, some connections are idle. The server waits up to this time for a request on
/// them, because a request may be on its way.
const REQUEST_GRACE: Duration = Duration::from_secs(1);

/// Limits for closing a connection after a failed TLS handshake. The bytes are enough for the head of a request
/// and the beginning of its body.
const AFTER_HANDSHAKE: LingerLimits =
    LingerLimits { total: Duration::from_secs(1), pause: Duration::from_secs(1), bytes: 64 * 1024 };

/// How long the server waits until the futures of aborted requests have been dropped.
const DROP_TIME: Duration = Duration::from_secs(1);

/// Maximum size of the headers of a request, in bytes. This is enough for a token of 16 KiB.
const MAX_HEADERS: usize = 64 * 1024;

/// Accepts connections and serves HTTP/1.1 and HTTP/2 requests on them. HTTP/2 needs TLS.
///
/// Each request has a [`ConnectionInfo`] extension. If the client has presented a valid certificate, the
/// request also has a [`PeerCertificate`] extension.
///
/// ```
/// use std::{convert::Infallible, future::ready, time::Duration};
///
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::Full;
/// use tokio::net::TcpListener;
/// use tower::service_fn;
/// use tower_passticket::{connection::ConnectionInfo, hyper::body::Incoming, tls::{Drained, Server}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let service = service_fn(|request: Request<Incoming>| {
///     let peer = request.extensions().get::<ConnectionInfo>().map(|info| info.peer.to_string());
///     ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(peer.unwrap_or_default()))))
/// });
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// let server = Server::http(listener).with_drain_timeout(Duration::from_secs(5));
/// // The second argument is the shutdown signal. In this example, the server shuts down immediately.
/// let drained = server.run(service, ready(())).await;
/// assert_eq!(drained, Drained::Completely);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    tls: Option<ServerTls>,
    handshake_timeout: Duration,
    header_timeout: Duration,
    drain_timeout: Duration,
    max_connections: usize,
    counts: Option<Arc<ConnectionCounts>>,
}

/// How the shutdown of a [`Server`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Drained {
    /// All connections had ended before the drain timeout.
    Completely,
    /// Some connections were still open at the drain timeout, and were closed then.
    CutOff {
        /// The number of these connections.
        connections: usize,
    },
}

impl Drained {
    /// The number of connections that were closed at the drain timeout.
    pub fn cut_off(self) -> usize {
        match self {
            Self::Completely => 0,
            Self::CutOff { connections } => connections,
        }
    }
}

impl Server {
    /// Serves plain HTTP.
    pub fn http(listener: TcpListener) -> Self {
        Self {
            listener,
            tls: None,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(30),
            max_connections: MAX_CONNECTIONS,
            counts: None,
        }
    }

    /// Serves HTTPS.
    pub fn https(listener: TcpListener, tls: ServerTls) -> Self {
        Self { tls: Some(tls), ..Self::http(listener) }
    }

    /// Sets how long a TLS handshake may take. If the handshake fails, closing the connection is included in
    /// this time. Default: 10 s.
    #[must_use]
    pub fn with_handshake_timeout(self, handshake_timeout: Duration) -> Self {
        Self { handshake_timeout, ..self }
    }

    /// Sets how long an HTTP/1.1 client may take to send the headers of a request. The idle time before the
    /// request is included. Default: 30 s.
    #[must_use]
    pub fn with_header_timeout(self, header_timeout: Duration) -> Self {
        Self { header_timeout, ..self }
    }

    /// Sets how long requests in flight may still take after the shutdown signal. Default: 30 s.
    #[must_use]
    pub fn with_drain_timeout(self, drain_timeout: Duration) -> Self {
        Self { drain_timeout, ..self }
    }

    /// Sets the maximum number of open connections. Further connections wait to be accepted. Default:
    /// 10,000.
    #[must_use]
    pub fn with_max_connections(self, max_connections: usize) -> Self {
        Self { max_connections, ..self }
    }

    /// Counts the connections in `counts`. Several servers can share it.
    #[must_use]
    pub fn with_connection_counts(self, counts: Arc<ConnectionCounts>) -> Self {
        Self { counts: Some(counts), ..self }
    }

    /// Serves until `shutdown` is ready. Then the server accepts no more connections, waits until the requests
    /// in flight have finished, and returns. It keeps idle HTTP/1.1 connections open for up to a second, or a quarter
    /// of the drain timeout, because a request may be on its way. Requests that have not finished at the drain
    /// timeout are aborted.
    /// The server then waits up to one second until the futures of the aborted requests have been dropped.
    pub async fn run<S, B>(self, service: S, shutdown: impl Future<Output = ()>) -> Drained
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
            + Clone
            + Send
            + 'static,
        S::Future: Send + 'static,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let (running, mut all_dropped) = mpsc::channel(1);
        let (end, ending) = watch::channel(false);
        let serving = Arc::new(self.serving(Streams { running }, ending));
        let accepted = |stream, peer| Accepted {
            stream,
            peer,
            serving: serving.clone(),
            counted: CountedConnection::accepted(self.counts.as_ref()),
        };
        let mut connections = JoinSet::new();
        let mut shutdown = pin!(shutdown);
        loop {
            let result = tokio::select! {
                result = self.listener.accept(), if connections.len() < self.max_connections => {
                    result
                }
                Some(_ended) = connections.join_next() => continue,
                () = &mut shutdown => break,
            };
            match result {
                Ok((stream, peer)) => {
                    connections.spawn(accepted(stream, peer).serve(service.clone()));
                    if connections.len() == self.max_connections
                        && let Some(counts) = &self.counts
                    {
                        counts.add_limit_reached();
                    }
                }
                Err(error) => {
                    if let Some(counts) = &self.counts {
                        counts.add_accept_error();
                    }
                    accept_failed(&error).await;
                }
            }
        }
        // Accept the connections that the kernel has already established. Their clients expect an answer.
        while let Ok(Ok((stream, peer))) = timeout(Duration::ZERO, self.listener.accept()).await {
            connections.spawn(accepted(stream, peer).serve(service.clone()));
        }
        drop(self.listener);
        // This fails if no connection is left. Then there is nothing to do.
        let _ = end.send(true);
        let all_ended = async { while connections.join_next().await.is_some() {} };
        let drained = match timeout(self.drain_timeout, all_ended).await {
            Ok(()) => Drained::Completely,
            // The requests on a connection that is being closed were answered.
            Err(_) => match connections.len().saturating_sub(serving.closing()) {
                0 => Drained::Completely,
                connections => Drained::CutOff { connections },
            },
        };
        connections.shutdown().await;
        // HTTP/2 requests run in separate tasks, which end after their connection.
        drop(serving);
        let _ = timeout(DROP_TIME, all_dropped.recv()).await;
        drained
    }

    fn serving(&self, streams: Streams, ending: watch::Receiver<bool>) -> Serving {
        Serving {
            acceptor: self.tls.as_ref().map(|tls| TlsAcceptor::from(tls.config())),
            handshake_timeout: self.handshake_timeout,
            http1: http1_settings(self.header_timeout),
            http2: http2_settings(streams),
            ending,
            shutdown_wait: REQUEST_GRACE.min(self.drain_timeout / 4),
            closing: AtomicUsize::new(0),
        }
    }
}

fn http1_settings(header_timeout: Duration) -> http1::Builder {
    let mut http1 = http1::Builder::new();
    http1
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(MAX_HEADERS)
        // `HalfCloseStream` cancels the requests of clients that have closed the connection.
        .half_close(true);
    http1
}

fn http2_settings<E>(executor: E) -> http2::Builder<E> {
    let mut http2 = http2::Builder::new(executor);
    http2
        .timer(TokioTimer::new())
        .max_header_list_size(MAX_HEADERS as u32)
        .max_concurrent_streams(100)
        .max_send_buf_size(64 * 1024)
        .keep_alive_interval(Duration::from_secs(30));
    http2
}

/// Serves `io` with the settings of [`Server`]: HTTP/2 if `version` is HTTP/2, otherwise HTTP/1.1.
///
/// # Errors
/// The error of hyper if the client violates the protocol.
#[cfg(feature = "fuzzing")]
pub async fn serve_io<I, S, B>(
    io: I,
    version: Version,
    connection: ConnectionInfo,
    service: S,
) -> hyper::Result<()>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let exchanges = Arc::<Exchanges>::default();
    let service = ConnectionService {
        inner: Mutex::new(service),
        connection,
        certificate: None,
        exchanges: exchanges.clone(),
    };
    if version == Version::HTTP_2 {
        // `Streams` needs the sender of a channel. The receiver is not needed, because this function does not
        // wait for the end of the streams.
        let (running, _) = mpsc::channel(1);
        http2_settings(Streams { running }).serve_connection(io, service).await
    } else {
        let header_timeout = Duration::from_secs(30);
        let (io, _) = LentStream::new(TokioIo::new(io), exchanges);
        let io = CoalesceWrites::new(TokioIo::new(io));
        http1_settings(header_timeout).serve_connection(io, service).await
    }
}

/// The data that all connections share.
struct Serving {
    acceptor: Option<TlsAcceptor>,
    handshake_timeout: Duration,
    http1: http1::Builder,
    http2: http2::Builder<Streams>,
    ending: watch::Receiver<bool>,
    /// During the shutdown, the server waits this long for a request on an idle connection, and for the
    /// clients whose connections it closes. Requests in flight have the rest of the drain timeout.
    shutdown_wait: Duration,
    /// The number of connections that are being closed after their last response.
    closing: AtomicUsize,
}

impl Serving {
    fn closing(&self) -> usize {
        self.closing.load(Ordering::Relaxed)
    }

    /// Closes a connection after its last response.
    async fn close(&self, stream: ClientStream, last: LastResponse) {
        self.closing.fetch_add(1, Ordering::Relaxed);
        let mut closed = pin!(stream.close(last));
        if unless_ending(closed.as_mut(), &self.ending).await.is_none() {
            let _ = timeout(self.shutdown_wait, closed).await;
        }
        self.closing.fetch_sub(1, Ordering::Relaxed);
    }

    /// Closes a connection whose handshake has failed. The handshake started at `began`.
    async fn close_without_tls(&self, no_tls: NoTls, began: Instant) {
        // The handshake and the close together take at most `handshake_timeout`.
        let time_left = self.handshake_timeout.saturating_sub(began.elapsed());
        let total = AFTER_HANDSHAKE.total.min(time_left);
        let limits = LingerLimits { total, ..AFTER_HANDSHAKE };
        let closed = async {
            let stream = match no_tls {
                NoTls::HandshakeFailed(_, stream) => stream,
                NoTls::PlainHttp(mut stream) => {
                    plain_http::refuse(&mut stream).await;
                    stream
                }
            };
            lingering_close(stream, limits).await;
        };
        unless_ending(pin!(closed), &self.ending).await;
    }
}

/// Spawns a task for each HTTP/2 request. Each task holds a sender of the channel, so the receiver sees when
/// all tasks have ended.
#[derive(Clone)]
struct Streams {
    running: mpsc::Sender<Infallible>,
}

impl<F> Executor<F> for Streams
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, request: F) {
        let running = self.running.clone();
        tokio::spawn(async move {
            request.await;
            drop(running);
        });
    }
}

/// Handles an error of `accept`. The listener can still be used after such an error. If a client closed its
/// connection before it was accepted, the server continues immediately. The cause of any other error is, for
/// instance, that the process has too many open files. The server then waits for one second, because other
/// connections have to end first.
async fn accept_failed(error: &io::Error) {
    let is_closed_by_client = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    );
    if !is_closed_by_client {
        tracing::error!(%error, "cannot accept connections; retrying in 1 s");
        sleep(Duration::from_secs(1)).await;
    }
}

/// An HTTP/1.1 or HTTP/2 connection, with TLS or without.
///
/// The connection and the handshake are boxed to keep the future of the task small. This future is moved
/// several times before it runs. Without the boxes it would also reserve space for the handshake, and for
/// the largest kind of connection, as long as the connection lasts.
type Served =
    Pin<Box<dyn GracefulConnection<Error = hyper::Error, Output = hyper::Result<()>> + Send>>;

/// One accepted connection.
struct Accepted {
    stream: TcpStream,
    peer: SocketAddr,
    serving: Arc<Serving>,
    counted: CountedConnection,
}

impl Accepted {
    async fn serve<S, B>(self, service: S)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
            + Clone
            + Send
            + 'static,
        S::Future: Send + 'static,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let Self { stream, peer, serving, counted } = self;
        let Serving { acceptor, handshake_timeout, http1, http2, .. } = &*serving;
        // Turns Nagle's algorithm off. With it, a small response could wait until the client has
        // acknowledged the previous one.
        let _ = stream.set_nodelay(true);
        let Ok(local) = stream.local_addr() else { return };
        let exchanges = Arc::<Exchanges>::default();
        let service = |protocol, certificate| {
            let connection = ConnectionInfo::new(peer, local, protocol);
            let exchanges = exchanges.clone();
            ConnectionService { inner: Mutex::new(service), connection, certificate, exchanges }
        };
        // ALPN decides between HTTP/1.1 and HTTP/2. hyper-util can detect the version from the first bytes.
        // This is not used, because it has no time limit and drops the connection on a graceful shutdown.
        let (connection, lender): (Served, Lender) = match acceptor {
            None => {
                let service = service(Protocol::Http, None);
                let (stream, returned) = LentStream::new(stream, exchanges.clone());
                let stream = HalfCloseStream::new(stream, exchanges.clone());
                let stream = CoalesceWrites::new(TokioIo::new(stream));
                (Box::pin(http1.serve_connection(stream, service)), Lender::Tcp(returned))
            }
            Some(acceptor) => {
                let began = Instant::now();
                let handshake = Box::pin(plain_http::accept(acceptor, stream));
                let accepted: Result<(Served, Lender), NoTls> =
                    match timeout(*handshake_timeout, handshake).await {
                        Ok(Ok(stream)) => {
                            let tls = stream.get_ref().1;
                            let is_http2 = tls.alpn_protocol() == Some(b"h2");
                            let service = service(Protocol::Https, peer_certificate(tls, peer));
                            let (stream, returned) = LentStream::new(stream, exchanges.clone());
                            let connection: Served = if is_http2 {
                                Box::pin(http2.serve_connection(TokioIo::new(stream), service))
                            } else {
                                let stream = HalfCloseStream::new(stream, exchanges.clone());
                                Box::pin(http1.serve_connection(TokioIo::new(stream), service))
                            };
                            Ok((connection, Lender::Tls(returned)))
                        }
                        Ok(Err(no_tls)) => {
                            counted.handshake_failed(match &no_tls {
                                NoTls::HandshakeFailed(error, _) => {
                                    tracing::debug!(%peer, %error, "TLS handshake failed");
                                    HandshakeFailure::Failed
                                }
                                NoTls::PlainHttp(_) => {
                                    tracing::debug!(%peer, "client sent HTTP without TLS");
                                    HandshakeFailure::PlainHttp
                                }
                            });
                            Err(no_tls)
                        }
                        Err(_) => {
                            tracing::debug!(%peer, "TLS handshake timed out");
                            counted.handshake_failed(HandshakeFailure::TimedOut);
                            return;
                        }
                    };
                // This is a separate `match`, because the `match` above keeps the large future of the
                // handshake alive until the end of the `match`.
                match accepted {
                    Ok(connection) => connection,
                    Err(no_tls) => {
                        Box::pin(serving.close_without_tls(no_tls, began)).await;
                        return;
                    }
                }
            }
        };
        if let Err(error) = until_ended(connection, &serving, &exchanges).await {
            if error.is_timeout() {
                // The client has no response to wait for.
                return;
            }
            // For a `dyn Error`, tracing also logs the sources of the error.
            let error: &(dyn Error + 'static) = &error;
            tracing::debug!(%peer, error, "connection ended early");
        }
        let last = if exchanges.is_complete() {
            LastResponse::Complete
        } else if exchanges.ends_with_connection() {
            LastResponse::BrokenOffWithoutLength
        } else {
            LastResponse::BrokenOff
        };
        if let Some(stream) = lender.take_back() {
            Box::pin(serving.close(stream, last)).await;
        }
        drop(counted);
    }
}

/// Serves a connection until it ends. When the server shuts down, requests in flight are answered, and then
/// the connection is closed.
///
/// A client may have sent a request just before the server shuts down, and expects an answer. So the server does
/// not close an idle connection immediately. It first waits for a request, and announces in the response that it
/// closes the connection. HTTP/2 needs no wait after the first request, because it announces the close in a
/// frame of its own (RFC 9113 §6.8).
async fn until_ended(
    mut connection: Served,
    serving: &Serving,
    exchanges: &Exchanges,
) -> hyper::Result<()> {
    if let Some(served) = unless_ending(connection.as_mut(), &serving.ending).await {
        return served;
    }
    exchanges.announce_close();
    while !exchanges.is_http2() || exchanges.changes() == 0 {
        let before = exchanges.changes();
        if let Ok(served) = timeout(serving.shutdown_wait, connection.as_mut()).await {
            return served;
        }
        if exchanges.is_idle_since(before) {
            break;
        }
    }
    connection.as_mut().graceful_shutdown();
    connection.await
}

/// Returns the output of `future`, or `None` when the server shuts down. `ending` must not have marked its
/// value as seen, because `has_changed` must report the shutdown.
///
/// Reading the value of `ending` takes a lock that all connections share, and a connection is polled several
/// times per request. So the value is read only by the first poll, by a poll with another waker, and by a
/// poll after a change.
async fn unless_ending<F: Future + ?Sized>(
    mut future: Pin<&mut F>,
    ending: &watch::Receiver<bool>,
) -> Option<F::Output> {
    let mut receiver = ending.clone();
    // An error of `wait_for` means that the server was dropped. This is also a shutdown. `unconstrained` is
    // needed because tokio does not register the waker of a task that has used up its cooperative budget.
    let mut shutdown = pin!(unconstrained(receiver.wait_for(|ending| *ending)));
    let mut registered: Option<Waker> = None;
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        let is_registered = registered.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if is_registered && ending.has_changed().is_ok_and(|has_changed| !has_changed) {
            return Poll::Pending;
        }
        registered = Some(cx.waker().clone());
        shutdown.as_mut().poll(cx).map(|_| None)
    })
    .await
}

fn peer_certificate(tls: &rustls::ServerConnection, peer: SocketAddr) -> Option<PeerCertificate> {
    let leaf = tls.peer_certificates()?.first()?;
    PeerCertificate::from_der(leaf.to_vec())
        .inspect_err(|error| {
            log_limited!(warn, "client certificate", { %peer, %error }, "client certificate ignored: it cannot be parsed");
        })
        .ok()
}

/// Serves the requests of one connection with one instance of the service, so that the service can cache
/// data between requests. Adds the extensions of the connection to each request.
struct ConnectionService<S> {
    /// Locked only while the service makes the future of a request.
    inner: Mutex<S>,
    connection: ConnectionInfo,
    certificate: Option<PeerCertificate>,
    exchanges: Arc<Exchanges>,
}

impl<S, B, R> hyper::service::Service<Request<B>> for ConnectionService<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone,
    B: Body,
    R: Body<Error: Into<BoxError>>,
{
    type Response = Response<DeliveredBody<R>>;
    type Error = S::Error;
    type Future = Answering<Called<S, Request<B>>, R>;

    fn call(&self, mut request: Request<B>) -> Self::Future {
        let version = request.version();
        let framing = RequestFraming {
            has_body: !request.body().is_end_stream(),
            is_http10: version == Version::HTTP_10,
        };
        let extensions = request.extensions_mut();
        extensions.insert(self.connection);
        if let Some(certificate) = &self.certificate {
            extensions.insert(certificate.clone());
        }
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        // If the service is not ready, a clone of the service waits until the clone is ready. Other requests
        // can then use this instance.
        let future = match inner.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => Called::Ready { future: inner.call(request) },
            _ => Called::Waiting { future: Oneshot::new(inner.clone(), request) },
        };
        if version == Version::HTTP_2 {
            self.exchanges.add_http2_request();
            Answering::http2(future)
        } else {
            Answering::http1(future, framing, self.exchanges.begin(version))
        }
    }
}

pin_project! {
    /// The future of a request, for a service that was ready or has to become ready first.
    #[project = CalledProj]
    enum Called<S: Service<R>, R> {
        Ready { #[pin] future: S::Future },
        Waiting { #[pin] future: Oneshot<S, R> },
    }
}

impl<S: Service<R>, R> Future for Called<S, R> {
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            CalledProj::Ready { future } => future.poll(cx),
            CalledProj::Waiting { future } => future.poll(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::task::coop;
    use tokio_test::task;

    use super::*;

    #[test]
    fn a_shutdown_wakes_the_task_that_polled_last() {
        for server_dropped in [false, true] {
            let (end, ending) = watch::channel(false);
            let never = pin!(pending::<()>());
            let mut waiting = pin!(unless_ending(never, &ending));
            let (mut first, mut last) = (task::spawn(()), task::spawn(()));
            for task in [&mut first, &mut last] {
                for _ in 0..2 {
                    assert!(task.enter(|cx, _| waiting.as_mut().poll(cx)).is_pending());
                }
                assert!(!task.is_woken());
            }
            if server_dropped {
                drop(end);
            } else {
                end.send(true).unwrap();
            }
            assert!(last.is_woken());
            let ended = last.enter(|cx, _| waiting.as_mut().poll(cx));
            assert_eq!(ended, Poll::Ready(None), "server dropped: {server_dropped}");
        }
    }

    /// The first poll of a connection may use up the cooperative budget of its task.
    #[tokio::test(start_paused = true)]
    async fn a_shutdown_wakes_a_task_that_has_used_up_its_budget() {
        let (end, ending) = watch::channel(false);
        let mut is_busy = true;
        let busy = poll_fn(move |cx| {
            while is_busy {
                is_busy = pin!(coop::consume_budget()).poll(cx).is_ready();
            }
            Poll::<()>::Pending
        });
        let waiting = tokio::spawn(async move { unless_ending(pin!(busy), &ending).await });
        sleep(Duration::from_secs(1)).await;
        end.send(true).unwrap();
        let ended = timeout(Duration::from_secs(1), waiting).await;
        assert_eq!(ended.expect("the task was not woken").unwrap(), None);
    }

    #[test]
    fn an_output_that_is_ready_at_shutdown_is_not_lost() {
        let (end, ending) = watch::channel(false);
        end.send(true).unwrap();
        let (ready_output, never) = (pin!(ready("output")), pin!(pending::<()>()));
        let mut served = task::spawn(unless_ending(ready_output, &ending));
        assert_eq!(served.poll(), Poll::Ready(Some("output")));
        let mut ended = task::spawn(unless_ending(never, &ending));
        assert_eq!(ended.poll(), Poll::Ready(None));
    }
}
