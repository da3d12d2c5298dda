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
    task::{self, Context, Poll, Waker},
    time::Duration,
};

use http::{HeaderMap, Request, Response, Version};
use hyper::{
    body::{Body, Incoming},
    server::conn::{http1, http2},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
};
use pin_project_lite::pin_project;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, watch},
    task::{JoinSet, coop::unconstrained},
    time::{Instant, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tower::{BoxError, util::Oneshot};
use tower_service::Service;

use super::{
    answering::{Answering, RequestFraming},
    client_connection::{ClientConnection, InFlight, MAX_HEADERS},
    client_io::ClientIo,
    client_limits::{Admitted, ClientLimits, Evicted},
    client_source::ClientSource,
    close_reason::CloseReason,
    connection_counts::{ConnectionCounts, CountedConnection, HandshakeFailure},
    connection_watch::{Action, ClientTimeouts, Watch},
    counted_response::{CountedBody, CountedResponse},
    delivered_body::DeliveredBody,
    half_close::HalfCloseStream,
    http_version::HttpVersion,
    inbound_proxies::{Ends, InboundProxies},
    lent_stream::{ClientStream, LastResponse, Lender, LentStream},
    lingering_close::{LingerLimits, lingering_close},
    plain_http::{self, NoTls},
    server_tls::ServerTls,
    streams::Streams,
};
use crate::{
    coalesce::CoalesceWrites,
    connection::{ConnectionInfo, Protocol, TrustedProxies},
    identity::PeerCertificate,
    log_limit::log_limited,
};

/// When the server shuts down, it waits up to this time for a request on each idle connection, because a request may be
/// on its way.
const REQUEST_GRACE: Duration = Duration::from_secs(1);

/// Limits for closing a connection after a failed TLS handshake. The bytes are enough for the head of a request
/// and the beginning of its body.
const AFTER_HANDSHAKE: LingerLimits =
    LingerLimits { total: Duration::from_secs(1), pause: Duration::from_secs(1), bytes: 64 * 1024 };

/// When the server shuts down, it accepts up to this many connections that are already established, for up to
/// [`MAX_BACKLOG_TIME`]. Without these limits, clients that connect all the time would prevent the shutdown.
const MAX_BACKLOG: usize = 4096;

const MAX_BACKLOG_TIME: Duration = Duration::from_millis(200);

/// How long the server waits until the futures of aborted requests have been dropped.
const DROP_TIME: Duration = Duration::from_secs(1);

/// Default of the send timeout.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);

/// The kernel buffers at most this many bytes that it cannot send yet. With a larger buffer, the server would see the
/// progress of a slow client later. The buffer in the kernel of the client has the same effect, but cannot be limited
/// here.
#[cfg(target_os = "linux")]
const MAX_UNSENT: u32 = 128 * 1024;

/// The time limits with which the kernel probes a silent connection. An accepted connection inherits these settings of
/// the listener.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(20));

/// If all connections are busy, this many new connections wait up to [`MAX_WAIT`] for a place.
const MAX_WAITING: usize = 64;

const MAX_WAIT: Duration = Duration::from_secs(1);

/// How often a waiting connection tries to get a place.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// The server waits this long after it could not accept a connection.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// Up to this size, h2 passes the headers of a request to the server, which answers 431 if they exceed
/// [`MAX_HEADERS`]. Beyond this size, h2 itself answers 431 and then resets the stream with PROTOCOL_ERROR.
/// Many clients report only the reset.
const MAX_HEADERS_H2: u32 = 2 * MAX_HEADERS as u32;

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
    /// The protocol that the clients use. With HTTPS, a program in front of the listener may do the TLS.
    protocol: Protocol,
    proxies: InboundProxies,
    handshake_timeout: Duration,
    timeouts: ClientTimeouts,
    drain_timeout: Duration,
    limits: Arc<ClientLimits>,
    counts: Option<Arc<ConnectionCounts>>,
}

/// How the shutdown of a [`Server`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Drained {
    /// All connections ended before the drain timeout.
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
            protocol: Protocol::Http,
            proxies: InboundProxies::default(),
            handshake_timeout: Duration::from_secs(10),
            timeouts: ClientTimeouts {
                idle: Duration::from_secs(75),
                head: Duration::from_secs(30),
                send: SEND_TIMEOUT,
            },
            drain_timeout: Duration::from_secs(30),
            limits: Arc::default(),
            counts: None,
        }
    }

    /// Serves HTTPS.
    pub fn https(listener: TcpListener, tls: ServerTls) -> Self {
        Self { tls: Some(tls), protocol: Protocol::Https, ..Self::http(listener) }
    }

    /// Serves plain HTTP to AT-TLS, or to another program on this machine that does the TLS with the clients.
    /// [`ConnectionInfo::protocol`] is HTTPS, because this is what the clients use.
    pub fn behind_tls(listener: TcpListener) -> Self {
        Self { protocol: Protocol::Https, ..Self::http(listener) }
    }

    /// Sets the proxies that are trusted to announce the addresses of their clients in `X-Forwarded-For` or
    /// `Forwarded`: see [`ConnectionInfo::with_trusted_proxies`]. Default: none.
    #[must_use]
    pub fn with_trusted_proxies(mut self, proxies: TrustedProxies) -> Self {
        self.proxies.http = Some(proxies);
        self
    }

    /// Requires a header of the PROXY protocol, version 1 or 2, at the beginning of each connection, before
    /// TLS. [`ConnectionInfo::peer`] and [`ConnectionInfo::local`] are then the addresses in the header. A
    /// connection is closed if it has no valid header, or if its peer is not one of `proxies`. Default: no
    /// header.
    ///
    /// If the proxy itself is the client (`LOCAL`), or does not know the addresses (`UNKNOWN`), the peer is
    /// the proxy.
    #[must_use]
    pub fn with_proxy_protocol(mut self, proxies: TrustedProxies) -> Self {
        self.proxies.proxy_protocol = Some(proxies);
        self
    }

    /// Sets how long a TLS handshake may take. Reading the header of the PROXY protocol is included in this
    /// time. If the handshake fails, closing the connection is included, too. Default: 10 s.
    #[must_use]
    pub fn with_handshake_timeout(self, handshake_timeout: Duration) -> Self {
        Self { handshake_timeout, ..self }
    }

    /// Sets how long an HTTP/1.1 client may take to send the headers of a request. The idle time before the
    /// request is not included. Default: 30 s.
    #[must_use]
    pub fn with_header_timeout(self, header_timeout: Duration) -> Self {
        Self { timeouts: ClientTimeouts { head: header_timeout, ..self.timeouts }, ..self }
    }

    /// Sets how long a connection may be without a request. A client that answers pings of HTTP/2 does not
    /// extend this time. Default: 75 s.
    #[must_use]
    pub fn with_idle_timeout(self, idle_timeout: Duration) -> Self {
        Self { timeouts: ClientTimeouts { idle: idle_timeout, ..self.timeouts }, ..self }
    }

    /// Sets how long requests in flight may still take after the shutdown signal. Default: 30 s.
    #[must_use]
    pub fn with_drain_timeout(self, drain_timeout: Duration) -> Self {
        Self { drain_timeout, ..self }
    }

    /// Sets the send timeout: a client must take at least 4 KiB of the data that waits for it in this time. Otherwise
    /// its connection is closed, or its stream is reset. A stream of HTTP/2 gets pieces of up to 16 KiB, and must take
    /// a whole piece. There is no limit for event streams (`text/event-stream`) and gRPC. The server sees only what the
    /// kernel of the client takes, which may be a megabyte at a time. So the connection of a client that takes less
    /// than about 16 KiB per second may be closed, too. Default: 60 s.
    #[must_use]
    pub fn with_send_timeout(self, send_timeout: Duration) -> Self {
        Self { timeouts: ClientTimeouts { send: send_timeout, ..self.timeouts }, ..self }
    }

    /// Sets the limits of connections. Several servers can share them. The default is
    /// [`ClientLimits::default`], for this server alone.
    #[must_use]
    pub fn with_client_limits(self, limits: Arc<ClientLimits>) -> Self {
        Self { limits, ..self }
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
        keep_little_unsent(&self.listener);
        keep_alive(&self.listener);
        let streams = Streams::new(running, self.timeouts.send, self.counts.clone());
        let serving = Arc::new(self.serving(streams, ending));
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
                result = self.listener.accept() => result,
                Some(_ended) = connections.join_next() => continue,
                () = &mut shutdown => break,
            };
            match result {
                Ok((stream, peer)) => {
                    connections.spawn(accepted(stream, peer).serve(service.clone()));
                }
                Err(error) => {
                    if let Some(counts) = &self.counts {
                        counts.add_accept_error();
                    }
                    accept_failed(&error, &self.limits).await;
                }
            }
        }
        // Also accept the connections that the kernel has already established, because their clients expect an answer.
        let deadline = Instant::now() + MAX_BACKLOG_TIME;
        for _ in 0..MAX_BACKLOG {
            match timeout(Duration::ZERO, self.listener.accept()).await {
                Ok(Ok((stream, peer))) => {
                    connections.spawn(accepted(stream, peer).serve(service.clone()));
                }
                Ok(Err(error)) if is_closed_by_client(&error) => {}
                Ok(Err(_)) | Err(_) => break,
            }
            if Instant::now() >= deadline {
                break;
            }
        }
        drop(self.listener);
        // An error means that no connection is left, so there is nothing to do.
        let _ = end.send(true);
        let all_ended = async { while connections.join_next().await.is_some() {} };
        let drained = match timeout(self.drain_timeout, all_ended).await {
            Ok(()) => Drained::Completely,
            // A connection that is being closed is not counted, because its requests have been answered.
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
            protocol: self.protocol,
            proxies: self.proxies.clone(),
            handshake_timeout: self.handshake_timeout,
            timeouts: self.timeouts,
            limits: self.limits.clone(),
            counts: self.counts.clone(),
            waiting: Semaphore::new(MAX_WAITING),
            http1: http1_settings(),
            http2: http2_settings(streams),
            ending,
            shutdown_wait: REQUEST_GRACE.min(self.drain_timeout / 4),
            closing: AtomicUsize::new(0),
        }
    }
}

/// Limits the bytes that the kernel keeps for each connection of the listener.
fn keep_little_unsent(listener: &TcpListener) {
    #[cfg(target_os = "linux")]
    if let Err(error) = SockRef::from(listener).set_tcp_notsent_lowat(MAX_UNSENT) {
        tracing::debug!(%error, "cannot set TCP_NOTSENT_LOWAT");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = listener;
}

/// Makes the kernel probe the silent connections of the listener. Otherwise an event stream would stay open for ever if
/// its client is no longer reachable, for example after a network failure.
fn keep_alive(listener: &TcpListener) {
    if let Err(error) = SockRef::from(listener).set_tcp_keepalive(&KEEPALIVE) {
        tracing::debug!(%error, "cannot set SO_KEEPALIVE");
    }
}

fn http1_settings() -> http1::Builder {
    let mut http1 = http1::Builder::new();
    http1
        // The time limit of hyper would include the idle time before a request. `Watch` has the limits.
        .header_read_timeout(None)
        .max_buf_size(MAX_HEADERS)
        // `HalfCloseStream` cancels the requests of clients that have closed the connection.
        .half_close(true);
    http1
}

fn http2_settings<E>(executor: E) -> http2::Builder<E> {
    let mut http2 = http2::Builder::new(executor);
    http2
        .timer(TokioTimer::new())
        .max_header_list_size(MAX_HEADERS_H2)
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
    let client = Arc::new(ClientConnection::unlimited());
    let service = ConnectionService {
        inner: Mutex::new(service),
        connection,
        proxies: None,
        certificate: None,
        client: client.clone(),
        version: if version == Version::HTTP_2 { HttpVersion::Http2 } else { HttpVersion::Http1 },
    };
    if version == Version::HTTP_2 {
        // `Streams` needs the sender of a channel. The receiver is dropped, because this function does not wait for the
        // end of the streams.
        let (running, _) = mpsc::channel(1);
        let streams = Streams::new(running, SEND_TIMEOUT, None);
        http2_settings(streams).serve_connection(io, service).await
    } else {
        let (io, _) = LentStream::new(TokioIo::new(io), client);
        let io = CoalesceWrites::new(TokioIo::new(io));
        http1_settings().serve_connection(io, service).await
    }
}

/// The data that all connections share.
struct Serving {
    acceptor: Option<TlsAcceptor>,
    protocol: Protocol,
    proxies: InboundProxies,
    handshake_timeout: Duration,
    timeouts: ClientTimeouts,
    limits: Arc<ClientLimits>,
    counts: Option<Arc<ConnectionCounts>>,
    waiting: Semaphore,
    http1: http1::Builder,
    http2: http2::Builder<Streams>,
    ending: watch::Receiver<bool>,
    /// During the shutdown, the server waits this long for a request on an idle connection, and for the clients whose
    /// connections it closes. Requests in flight may use the rest of the drain timeout.
    shutdown_wait: Duration,
    /// The number of connections that are being closed after their last response.
    closing: AtomicUsize,
}

impl Serving {
    /// Takes a place for a connection. If all connections are busy, this waits until one is idle.
    ///
    /// # Errors
    /// Why the connection must be closed.
    async fn admit(&self, source: ClientSource, peer: SocketAddr) -> Result<Admitted, CloseReason> {
        let mut result = self.limits.admit(source, self.counts.as_ref());
        if let Err(CloseReason::NoIdleConnection) = result
            && let Ok(_waiting) = self.waiting.try_acquire()
        {
            let deadline = Instant::now() + MAX_WAIT;
            while let Err(CloseReason::NoIdleConnection) = result
                && Instant::now() < deadline
            {
                sleep(TRY_AGAIN_AFTER).await;
                result = self.limits.admit(source, self.counts.as_ref());
            }
        }
        let (place, evicted) = result.inspect_err(|reason| self.log_refusal(*reason, peer))?;
        self.log_eviction(evicted, peer);
        Ok(place)
    }

    /// Sets the source of a connection that was admitted before its source was known.
    ///
    /// # Errors
    /// Why the connection must be closed.
    fn set_source(&self, place: &Admitted, ends: &Ends) -> Result<(), CloseReason> {
        let result = self.limits.set_source(place, ends.source());
        let evicted = result.inspect_err(|reason| self.log_refusal(*reason, ends.peer))?;
        self.log_eviction(evicted, ends.peer);
        Ok(())
    }

    fn log_eviction(&self, evicted: Evicted, peer: SocketAddr) {
        match evicted {
            Evicted::No => {}
            Evicted::Yes => {
                let limit = self.limits.connections();
                log_limited!(
                    warn,
                    "connection limit",
                    { limit },
                    "limits.connections reached: the longest idle connection is closed"
                );
            }
            Evicted::OfSameAddress => {
                let limit = self.limits.connections_per_address();
                log_limited!(warn, "address share", { %peer, limit }, "limits.connectionsPerAddress reached: the longest idle connection of this address is closed");
            }
        }
    }

    /// Logs that a new connection gets no place. An eviction (`ConnectionLimit`) is logged with the connection that
    /// takes the place.
    fn log_refusal(&self, reason: CloseReason, peer: SocketAddr) {
        match reason {
            CloseReason::NoIdleConnection => {
                let limit = self.limits.connections();
                log_limited!(warn, "no idle connection", { %peer, limit }, "connection closed: limits.connections reached, and no connection is idle");
            }
            CloseReason::AddressLimit => {
                let limit = self.limits.connections_per_address();
                log_limited!(warn, "address limit", { %peer, limit }, "connection closed: its address has limits.connectionsPerAddress connections, and none is idle");
            }
            _ => {}
        }
    }

    fn closing(&self) -> usize {
        self.closing.load(Ordering::Relaxed)
    }

    /// Closes a connection after its last response.
    async fn close(&self, stream: ClientStream, last: LastResponse, client: &ClientConnection) {
        self.closing.fetch_add(1, Ordering::Relaxed);
        // A connection that is being closed counts as idle, so it can be evicted to make room for another client.
        let mut closed = pin!(client.unless_evicted(stream.close(last)));
        if unless_ending(closed.as_mut(), &self.ending).await.is_none() {
            let _ = timeout(self.shutdown_wait, closed).await;
        }
        self.closing.fetch_sub(1, Ordering::Relaxed);
    }

    /// Closes a connection whose handshake has failed. The handshake started at `began`.
    async fn close_without_tls(&self, no_tls: NoTls, client: &ClientConnection, began: Instant) {
        // The handshake and the close together take at most `handshake_timeout`.
        let time_left = self.handshake_timeout.saturating_sub(began.elapsed());
        let total = AFTER_HANDSHAKE.total.min(time_left);
        let limits = LingerLimits { total, ..AFTER_HANDSHAKE };
        let closed = pin!(client.unless_evicted(async {
            let stream = match no_tls {
                NoTls::HandshakeFailed(_, stream) => stream,
                NoTls::PlainHttp(mut stream) => {
                    plain_http::refuse(&mut stream).await;
                    stream
                }
            };
            lingering_close(stream, limits).await;
        }));
        unless_ending(closed, &self.ending).await;
    }
}

/// Handles an error of `accept`. The listener can still be used after such an error. If a client closed its connection
/// before it was accepted, the server continues immediately. If the process or the system has too many open files or
/// too little memory, the server closes the longest idle connection, and waits until the file is closed. If no
/// connection is idle, the server must wait until a request ends.
async fn accept_failed(error: &io::Error, limits: &ClientLimits) {
    if is_closed_by_client(error) {
        return;
    }
    if lacks_resources(error) {
        log_limited!(error, "accept", { %error }, "cannot accept connections; the longest idle connection is closed");
        limits.evict_for_open_files();
    } else {
        log_limited!(error, "accept", { %error }, "cannot accept connections");
    }
    sleep(ACCEPT_AGAIN_AFTER).await;
}

fn is_closed_by_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

/// Whether the process or the system has too many open files or too little memory, so that the end of another
/// connection helps.
fn lacks_resources(error: &io::Error) -> bool {
    // `ENFILE` and `EMFILE` have these numbers on all Unix systems since Version 7.
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const ENOBUFS: i32 = if cfg!(target_os = "linux") { 105 } else { 55 };
    error.kind() == io::ErrorKind::OutOfMemory
        || matches!(error.raw_os_error(), Some(ENFILE | EMFILE | ENOBUFS))
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
        let Self { mut stream, peer, serving, counted } = self;
        let Serving {
            acceptor, protocol, proxies, handshake_timeout, timeouts, http1, http2, ..
        } = &*serving;
        let began = Instant::now();
        // Turns Nagle's algorithm off. With it, a small response could wait until the client has
        // acknowledged the previous one.
        let _ = stream.set_nodelay(true);
        let Ok(local) = stream.local_addr() else { return };
        let ends = match proxies.ends(peer, local) {
            Ok(ends) => ends,
            Err(refusal) => return counted.proxy_header_refused(refusal),
        };
        // A connection already takes a place while it waits for the header of the proxy, so the number of waiting
        // connections is limited.
        let source = ends.as_ref().map_or(ClientSource::Exempt, Ends::source);
        let place = match serving.admit(source, peer).await {
            Ok(place) => place,
            Err(reason) => return counted.closed(reason),
        };
        let ends = match ends {
            Some(ends) => ends,
            None => {
                let read = proxies.read_ends(&mut stream, peer, local, *handshake_timeout);
                let Some(read) = place.connection().unless_evicted(read).await else {
                    return counted.closed(CloseReason::ConnectionLimit);
                };
                let ends = match read {
                    Ok(ends) => ends,
                    Err(refusal) => return counted.proxy_header_refused(refusal),
                };
                if let Err(reason) = serving.set_source(&place, &ends) {
                    return counted.closed(reason);
                }
                ends
            }
        };
        let client = place.connection();
        let Ends { peer, local, proxies } = ends;
        let stream = ClientIo::new(stream, client.clone());
        let service = |version, certificate| ConnectionService {
            inner: Mutex::new(service),
            connection: ConnectionInfo::new(peer, local, *protocol),
            proxies,
            certificate,
            client: client.clone(),
            version,
        };
        let mut version = HttpVersion::Http1;
        // ALPN decides between HTTP/1.1 and HTTP/2. hyper-util can detect the version from the first bytes.
        // This is not used, because it has no time limit and drops the connection on a graceful shutdown.
        let (connection, lender): (Served, Lender) = match acceptor {
            None => {
                let service = service(version, None);
                let (stream, returned) = LentStream::new(stream, client.clone());
                let stream = HalfCloseStream::new(stream, client.clone());
                let stream = CoalesceWrites::new(TokioIo::new(stream));
                let lender = Lender::Tcp { stream: returned, client: client.clone() };
                (Box::pin(http1.serve_connection(stream, service)), lender)
            }
            Some(acceptor) => {
                let handshake = Box::pin(plain_http::accept(acceptor, stream));
                let time_left = handshake_timeout.saturating_sub(began.elapsed());
                let handshake = timeout(time_left, handshake);
                let Some(handshake) = client.unless_evicted(handshake).await else {
                    return counted.closed(CloseReason::ConnectionLimit);
                };
                let accepted: Result<(Served, Lender), NoTls> = match handshake {
                    Ok(Ok(stream)) => {
                        let tls = stream.get_ref().1;
                        if tls.alpn_protocol() == Some(b"h2") {
                            version = HttpVersion::Http2;
                        }
                        let certificate = peer_certificate(tls, peer);
                        let service = service(version, certificate);
                        let (stream, returned) = LentStream::new(stream, client.clone());
                        let connection: Served = match version {
                            HttpVersion::Http1 => {
                                let stream = HalfCloseStream::new(stream, client.clone());
                                Box::pin(http1.serve_connection(TokioIo::new(stream), service))
                            }
                            HttpVersion::Http2 => {
                                Box::pin(http2.serve_connection(TokioIo::new(stream), service))
                            }
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
                        Box::pin(serving.close_without_tls(no_tls, client, began)).await;
                        return;
                    }
                }
            }
        };
        let watch = Watch::new(client.clone(), *timeouts, version);
        let connection = WatchedConnection { connection, watch, peer, counted: &counted };
        match until_ended(connection, &serving, client).await {
            // `lender` resets the connection if the client could mistake the end of the connection for the end of the
            // response.
            Ended::Cut => return,
            Ended::Served(Ok(())) => {}
            Ended::Served(Err(error)) => {
                // For a `dyn Error`, tracing also logs the sources of the error.
                let error: &(dyn Error + 'static) = &error;
                tracing::debug!(%peer, error, "connection ended early");
            }
        }
        let last = if client.response().is_complete() {
            LastResponse::Complete
        } else if client.response().ends_with_connection() {
            LastResponse::BrokenOffWithoutLength
        } else {
            LastResponse::BrokenOff
        };
        if let Some(stream) = lender.take_back() {
            Box::pin(serving.close(stream, last, client)).await;
        }
    }
}

/// How a connection has ended.
enum Ended {
    /// hyper has finished with the connection.
    Served(hyper::Result<()>),
    /// The client exceeded a time limit, or another client needs the place.
    Cut,
}

/// A connection that ends when its client exceeds a time limit or loses its place.
struct WatchedConnection<'a> {
    connection: Served,
    watch: Watch,
    peer: SocketAddr,
    counted: &'a CountedConnection,
}

impl WatchedConnection<'_> {
    fn graceful_shutdown(&mut self) {
        self.connection.as_mut().graceful_shutdown();
    }

    fn closed(&self, reason: CloseReason) {
        self.counted.closed(reason);
        let peer = self.peer;
        match reason {
            CloseReason::Send => {
                log_limited!(warn, "send timeout", { %peer }, "connection closed: the client does not take the response");
            }
            _ => tracing::debug!(%peer, ?reason, "connection closed"),
        }
    }
}

impl Future for WatchedConnection<'_> {
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            if let Poll::Ready(result) = self.connection.as_mut().poll(cx) {
                return Poll::Ready(Ended::Served(result));
            }
            match task::ready!(self.watch.poll(cx)) {
                Action::ShutDown(reason) => {
                    self.closed(reason);
                    self.graceful_shutdown();
                }
                Action::Close(reason) => {
                    self.closed(reason);
                    return Poll::Ready(Ended::Cut);
                }
                Action::Abort => return Poll::Ready(Ended::Cut),
            }
        }
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
    mut connection: WatchedConnection<'_>,
    serving: &Serving,
    client: &ClientConnection,
) -> Ended {
    if let Some(ended) = unless_ending(Pin::new(&mut connection), &serving.ending).await {
        return ended;
    }
    client.response().announce_close();
    let is_http2 = connection.watch.version() == HttpVersion::Http2;
    while !is_http2 || client.changes() == 0 {
        let before = client.changes();
        if let Ok(ended) = timeout(serving.shutdown_wait, &mut connection).await {
            return ended;
        }
        if client.changes() == before && client.in_flight() == 0 {
            break;
        }
    }
    connection.graceful_shutdown();
    loop {
        let before = client.changes();
        if let Ok(ended) = timeout(serving.shutdown_wait, &mut connection).await {
            return ended;
        }
        // All requests have been answered. The client either does not end the connection, or does not finish the head
        // of a request.
        if client.changes() == before && client.is_idle() {
            return Ended::Cut;
        }
    }
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
    /// The trusted proxies, if the peer is one of them.
    proxies: Option<TrustedProxies>,
    certificate: Option<PeerCertificate>,
    client: Arc<ClientConnection>,
    version: HttpVersion,
}

impl<S, B, R> hyper::service::Service<Request<B>> for ConnectionService<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone,
    B: Body,
    R: Body<Error: Into<BoxError>>,
{
    type Response = Response<DeliveredBody<CountedBody<R>>>;
    type Error = S::Error;
    type Future = Answering<CountedResponse<Called<S, Request<B>>>, CountedBody<R>>;

    fn call(&self, request: Request<B>) -> Self::Future {
        let version = request.version();
        let framing = RequestFraming {
            has_body: !request.body().is_end_stream(),
            is_http10: version == Version::HTTP_10,
        };
        let mut in_flight = InFlight::begin(&self.client);
        let proxied = self.proxied_connection(request.headers());
        let announced = proxied.as_ref().and_then(ConnectionInfo::announced_client);
        let response = match in_flight.check(&request, self.version, announced) {
            Ok(()) => {
                let called = self.called(request, proxied.unwrap_or(self.connection));
                CountedResponse::new(called, self.version, in_flight)
            }
            Err(refusal) => {
                CountedResponse::refused(refusal, request.method(), self.version, in_flight)
            }
        };
        match self.version {
            HttpVersion::Http1 => {
                self.client.response().set_awaited(version);
                Answering::http1(response, framing, self.client.clone())
            }
            HttpVersion::Http2 => Answering::http2(response),
        }
    }
}

impl<S> ConnectionService<S> {
    /// The connection of a trusted proxy, with the client that the headers of a request announce. `None` if the peer is
    /// not a trusted proxy.
    fn proxied_connection(&self, headers: &HeaderMap) -> Option<ConnectionInfo> {
        let proxies = self.proxies.as_ref()?;
        Some(self.connection.with_headers_of_trusted_proxy(proxies, headers))
    }

    /// Adds the extensions of the connection, and calls the service.
    fn called<B>(
        &self,
        mut request: Request<B>,
        connection: ConnectionInfo,
    ) -> Called<S, Request<B>>
    where
        S: Service<Request<B>> + Clone,
    {
        let extensions = request.extensions_mut();
        extensions.insert(connection);
        if let Some(certificate) = &self.certificate {
            extensions.insert(certificate.clone());
        }
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        // If the service is not ready, a clone of the service waits until it becomes ready. Meanwhile other requests
        // can use this instance.
        match inner.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => Called::Ready { future: inner.call(request) },
            _ => Called::Waiting { future: Oneshot::new(inner.clone(), request) },
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

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn accepted_connections_inherit_the_limit_of_unsent_bytes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        keep_little_unsent(&listener);
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        assert_eq!(SockRef::from(&accepted).tcp_notsent_lowat().unwrap(), MAX_UNSENT);
    }

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

    #[tokio::test]
    async fn accepted_connections_are_probed_by_the_kernel() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        keep_alive(&listener);
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let accepted = SockRef::from(&accepted);
        assert!(accepted.keepalive().unwrap());
        assert_eq!(accepted.tcp_keepalive_time().unwrap(), Duration::from_secs(60));
        assert_eq!(accepted.tcp_keepalive_interval().unwrap(), Duration::from_secs(20));
    }

    #[test]
    fn only_a_lack_of_resources_costs_a_connection() {
        for (errno, want) in [(24, true), (23, true), (12, true), (103, false), (13, false)] {
            assert_eq!(lacks_resources(&io::Error::from_raw_os_error(errno)), want, "{errno}");
        }
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
