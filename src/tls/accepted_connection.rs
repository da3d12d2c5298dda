//! Serves one accepted connection of a client: admits it under the connection limits, does the TLS handshake, answers
//! the requests, and closes the connection. During a shutdown, the connection ends after its requests in flight.

use std::{
    convert::Infallible,
    error::Error,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Version};
use hyper::{
    body::{Body, Incoming},
    server::conn::{http1, http2},
    upgrade::OnUpgrade,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use pin_project_lite::pin_project;
use tokio::{
    net::TcpStream,
    sync::{Semaphore, watch},
    time::{Instant, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tower::{BoxError, util::Oneshot};
use tower_service::Service;

use super::{
    answering::Answering,
    client_connection::{ClientConnection, InFlight, MAX_HEADERS, PendingTunnel},
    client_io::{ClientIo, TlsSocket},
    client_limits::{Admitted, ClientLimits, Evicted},
    client_source::ClientSource,
    close_reason::CloseReason,
    connection_counts::{ConnectionCounts, CountedConnection, HandshakeFailure},
    connection_watch::{ClientTimeouts, Watch},
    counted_response::{CountedBody, CountedResponse},
    delivered_body::DeliveredBody,
    half_close::HalfCloseStream,
    http_version::HttpVersion,
    inbound_proxies::{Ends, InboundProxies},
    lent_stream::{ClientStream, LastResponse, Lender, LentStream},
    lingering_close::{LingerLimits, lingering_close},
    open_certificates::{OpenCertificates, Registered},
    plain_http::{self, NoTls},
    request_framing::RequestFraming,
    server_settings::ServerSettings,
    server_tls::ClientVerifier,
    streams::Streams,
    unless_ending::unless_ending,
    watched_connection::{
        Ended, Parked, ParkedConnection, Served, WatchEnd, WatchedConnection, until_ended,
    },
};
use crate::{
    access_log::{self, AccessLog},
    audit::RequestId,
    coalesce::CoalesceWrites,
    connection::{ConnectionInfo, Protocol, TrustedProxies},
    identity::PeerCertificate,
    log_limit::log_limited,
    tunnel::{BoxTunnel, RunsTunnels},
};

/// Limits for closing a connection after a failed TLS handshake. If the client has sent an HTTP request without TLS,
/// the limit of bytes has room for the head of the request and the beginning of its body.
const AFTER_HANDSHAKE: LingerLimits =
    LingerLimits { total: Duration::from_secs(1), pause: Duration::from_secs(1), bytes: 64 * 1024 };

/// If no connection can be evicted for a new connection (see [`ClientLimits`]), up to this number of new connections
/// wait for a place. Each of them waits at most [`MAX_WAIT`].
const MAX_WAITING: usize = 64;

const MAX_WAIT: Duration = Duration::from_secs(1);

/// The interval at which a waiting connection tries to get a place.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// The maximum size of the headers that the HTTP/2 library `h2` accepts. If the headers exceed it, `h2` answers 431,
/// and then resets the stream with PROTOCOL_ERROR. Many clients report only this reset. If the headers exceed only
/// [`MAX_HEADERS`], the server answers 431 without a reset. So this size is larger than [`MAX_HEADERS`].
const MAX_HEADERS_H2: u32 = 2 * MAX_HEADERS as u32;

pub(super) struct ConnectionSettings {
    pub(super) acceptor: Option<TlsAcceptor>,
    /// The verifier with which `acceptor` checks client certificates.
    pub(super) clients: ClientVerifier,
    pub(super) protocol: Protocol,
    pub(super) proxies: InboundProxies,
    pub(super) handshake_timeout: Duration,
    pub(super) timeouts: ClientTimeouts,
    pub(super) access_log: Option<AccessLog>,
    pub(super) fixed: FixedSettings,
}

impl ConnectionSettings {
    pub(super) fn new(settings: &ServerSettings, protocol: Protocol, fixed: FixedSettings) -> Self {
        let ServerSettings { tls, proxies, handshake_timeout, timeouts, access_log } =
            settings.clone();
        Self {
            acceptor: tls.map(|tls| TlsAcceptor::from(tls.config())),
            clients: settings.clients(),
            protocol,
            proxies,
            handshake_timeout,
            timeouts,
            access_log,
            fixed,
        }
    }
}

/// The settings that do not change while the server runs.
#[derive(Clone)]
pub(super) struct FixedSettings {
    pub(super) limits: Arc<ClientLimits>,
    pub(super) counts: Option<Arc<ConnectionCounts>>,
    /// The time for which tunnels may continue after the beginning of the shutdown.
    pub(super) tunnel_drain: Duration,
    /// The time limit of each of two waits at the shutdown. First, the server waits for a last request on each idle
    /// connection. Later, it waits until the client closes the connection. The rest of the drain timeout is for
    /// requests in flight.
    pub(super) shutdown_wait: Duration,
    pub(super) open_certificates: Arc<OpenCertificates>,
}

/// The data that all connections with the same settings share.
pub(super) struct Serving {
    settings: ConnectionSettings,
    waiting: Arc<Semaphore>,
    http1: http1::Builder,
    http2: http2::Builder<Streams>,
    streams: Streams,
    ending: watch::Receiver<bool>,
    /// The number of connections that are being closed after their last response.
    closing: Arc<AtomicUsize>,
}

impl Serving {
    /// The shutdown begins when the value of `ending` becomes true, or when its sender is dropped.
    pub(super) fn new(
        settings: ConnectionSettings,
        streams: Streams,
        ending: watch::Receiver<bool>,
    ) -> Self {
        Self {
            settings,
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
            http1: http1_settings(),
            http2: http2_settings(streams.clone()),
            streams,
            ending,
            closing: Arc::default(),
        }
    }

    /// Returns the data for new connections, with new settings. The result and `self` share the counts of waiting
    /// connections and of connections that are being closed.
    pub(super) fn with_settings(&self, settings: &ServerSettings) -> Self {
        let ConnectionSettings { protocol, fixed, .. } = &self.settings;
        let settings = ConnectionSettings::new(settings, *protocol, fixed.clone());
        let streams = self.streams.with_send(settings.timeouts.send);
        let serving = Self::new(settings, streams, self.ending.clone());
        Self { waiting: self.waiting.clone(), closing: self.closing.clone(), ..serving }
    }

    /// Takes a place for a connection. If all connections are busy, waits at most [`MAX_WAIT`] until one of them
    /// becomes idle or stalled. If [`MAX_WAITING`] connections already wait, returns an error immediately.
    ///
    /// # Errors
    /// The reason why the connection must be closed.
    async fn admit(&self, source: ClientSource, peer: SocketAddr) -> Result<Admitted, CloseReason> {
        let FixedSettings { limits, counts, .. } = &self.settings.fixed;
        let mut result = limits.admit(source, counts.as_ref());
        if let Err(CloseReason::NoIdleConnection) = result
            && let Ok(_waiting) = self.waiting.try_acquire()
        {
            let deadline = Instant::now() + MAX_WAIT;
            while let Err(CloseReason::NoIdleConnection) = result
                && Instant::now() < deadline
            {
                sleep(TRY_AGAIN_AFTER).await;
                result = limits.admit(source, counts.as_ref());
            }
        }
        let (place, evicted) = result.inspect_err(|reason| self.log_refusal(*reason, peer))?;
        self.log_eviction(evicted, peer);
        Ok(place)
    }

    /// Sets the source of a connection that was admitted before its source was known.
    ///
    /// # Errors
    /// The reason why the connection must be closed.
    fn set_source(&self, place: &Admitted, ends: &Ends) -> Result<(), CloseReason> {
        let result = self.settings.fixed.limits.set_source(place, ends.source());
        let evicted = result.inspect_err(|reason| self.log_refusal(*reason, ends.peer))?;
        self.log_eviction(evicted, ends.peer);
        Ok(())
    }

    fn log_eviction(&self, evicted: Evicted, peer: SocketAddr) {
        match evicted {
            Evicted::No => {}
            Evicted::Yes => {
                let limit = self.settings.fixed.limits.connections();
                log_limited!(
                    warn,
                    "connection limit",
                    { limit },
                    "limits.connections reached: the longest idle connection is closed"
                );
            }
            Evicted::OfSameAddress => {
                let limit = self.settings.fixed.limits.connections_per_address();
                log_limited!(warn, "address share", { %peer, limit }, "limits.connectionsPerAddress reached: the longest idle connection of this address is closed");
            }
        }
    }

    /// Logs that a new connection gets no place. The reason `ConnectionLimit` is not logged here: this connection was
    /// evicted for another one, and `log_eviction` has logged the eviction.
    fn log_refusal(&self, reason: CloseReason, peer: SocketAddr) {
        match reason {
            CloseReason::NoIdleConnection => {
                let limit = self.settings.fixed.limits.connections();
                log_limited!(warn, "no idle connection", { %peer, limit }, "connection closed: limits.connections reached, and no connection is idle");
            }
            CloseReason::AddressLimit => {
                let limit = self.settings.fixed.limits.connections_per_address();
                log_limited!(warn, "address limit", { %peer, limit }, "connection closed: the client address has reached limits.connectionsPerAddress, and none of its connections is idle");
            }
            _ => {}
        }
    }

    pub(super) fn closing(&self) -> usize {
        self.closing.load(Ordering::Relaxed)
    }

    async fn close(&self, stream: ClientStream, last: LastResponse, client: &ClientConnection) {
        self.closing.fetch_add(1, Ordering::Relaxed);
        // A connection that is being closed counts as idle, so it can be evicted.
        let mut closed = pin!(client.unless_evicted(stream.close(last)));
        if unless_ending(closed.as_mut(), &self.ending).await.is_none() {
            let _ = timeout(self.settings.fixed.shutdown_wait, closed).await;
        }
        self.closing.fetch_sub(1, Ordering::Relaxed);
    }

    /// Closes a connection that was accepted at `began`, and whose handshake has failed.
    async fn close_without_tls(&self, no_tls: NoTls, client: &ClientConnection, began: Instant) {
        // The handshake and the close together take at most `handshake_timeout`.
        let time_left = self.settings.handshake_timeout.saturating_sub(began.elapsed());
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

pub(super) struct Accepted {
    stream: TcpStream,
    peer: SocketAddr,
    serving: Arc<Serving>,
    counted: CountedConnection,
}

impl Accepted {
    /// Counts the connection as open until this value, or the future of `serve`, is dropped.
    pub(super) fn new(stream: TcpStream, peer: SocketAddr, serving: Arc<Serving>) -> Self {
        let counted = CountedConnection::accepted(serving.settings.fixed.counts.as_ref());
        Self { stream, peer, serving, counted }
    }

    /// Serves the connection. Returns a tunnel if the connection has become one.
    pub(super) async fn serve<S, B>(self, service: S) -> Option<OpenTunnel>
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
        let Serving { settings, http1, http2, .. } = &*serving;
        let ConnectionSettings { acceptor, protocol, proxies, handshake_timeout, timeouts, .. } =
            settings;
        let began = Instant::now();
        let _ = stream.set_nodelay(true);
        let Ok(local) = stream.local_addr() else { return None };
        let refused = |refusal| counted.proxy_header_refused(refusal);
        let closed = |reason| counted.closed(reason);
        let ends = proxies.ends(peer, local).map_err(refused).ok()?;
        // A connection takes its place before it waits for the PROXY header. So the limit of places also limits the
        // number of connections that wait for this header.
        let source = ends.as_ref().map_or(ClientSource::Exempt, Ends::source);
        let place = serving.admit(source, peer).await.map_err(closed).ok()?;
        let ends = match ends {
            Some(ends) => ends,
            None => {
                let read = proxies.read_ends(&mut stream, peer, local, *handshake_timeout);
                let Some(read) = place.connection().unless_evicted(read).await else {
                    counted.closed(CloseReason::ConnectionLimit);
                    return None;
                };
                let ends = read.map_err(refused).ok()?;
                serving.set_source(&place, &ends).map_err(closed).ok()?;
                ends
            }
        };
        let client = place.connection();
        let Ends { peer, local, proxies } = ends;
        let stream = ClientIo::new(stream, client.clone());
        let mut version = HttpVersion::Http1;
        let mut certificate = None;
        // Dropping this value at the end of the connection removes the certificate from `OpenCertificates`.
        let mut registered = None;
        // ALPN decides between HTTP/1.1 and HTTP/2. hyper-util could also detect the version from the first bytes. But
        // that detection has no time limit, and at a graceful shutdown, it drops the connection.
        let stream = match acceptor {
            None => ClientStream::Tcp(stream),
            Some(acceptor) => {
                let handshake = Box::pin(plain_http::accept(acceptor, stream));
                let time_left = handshake_timeout.saturating_sub(began.elapsed());
                let handshake = timeout(time_left, handshake);
                let Some(handshake) = client.unless_evicted(handshake).await else {
                    counted.closed(CloseReason::ConnectionLimit);
                    return None;
                };
                let accepted: Result<TlsSocket, NoTls> = match handshake {
                    Ok(Ok(stream)) => {
                        let tls = stream.get_ref().1;
                        if tls.alpn_protocol() == Some(b"h2") {
                            version = HttpVersion::Http2;
                        }
                        certificate = peer_certificate(tls, peer);
                        if let (Some(_), Some(chain)) = (&certificate, tls.peer_certificates()) {
                            let open = &settings.fixed.open_certificates;
                            registered = Some(open.register(chain, &settings.clients, client));
                        }
                        Ok(Box::new(stream))
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
                        return None;
                    }
                };
                // Do not merge this `match` with the `match` that computes `accepted`: the large future of the
                // handshake stays alive until the end of that `match`.
                match accepted {
                    Ok(stream) => ClientStream::Tls(stream),
                    Err(no_tls) => {
                        Box::pin(serving.close_without_tls(no_tls, client, began)).await;
                        return None;
                    }
                }
            }
        };
        let service = Arc::new(ConnectionService {
            inner: Mutex::new(service),
            connection: ConnectionInfo::new(peer, local, *protocol),
            proxies,
            certificate,
            client: client.clone(),
            version,
            access_log: settings.access_log.clone(),
        });
        // Lends the connection to hyper. `ahead` is data that was already read.
        let lend = |stream, ahead| -> (Served, Lender) {
            let (service, client) = (service.clone(), client.clone());
            match stream {
                ClientStream::Tcp(stream) => {
                    let (stream, returned) = LentStream::new(stream, client.clone());
                    let stream = HalfCloseStream::new(stream, client.clone(), ahead);
                    let stream = CoalesceWrites::new(TokioIo::new(stream));
                    let connection = http1.serve_connection(stream, service).with_upgrades();
                    (Box::pin(connection), Lender::Tcp { stream: returned, client })
                }
                ClientStream::Tls(stream) => {
                    let (stream, returned) = LentStream::new(stream, client.clone());
                    let connection: Served = match version {
                        HttpVersion::Http1 => {
                            let stream = HalfCloseStream::new(stream, client, ahead);
                            let stream = TokioIo::new(stream);
                            Box::pin(http1.serve_connection(stream, service).with_upgrades())
                        }
                        HttpVersion::Http2 => {
                            Box::pin(http2.serve_connection(TokioIo::new(stream), service))
                        }
                    };
                    (connection, Lender::Tls(returned))
                }
            }
        };
        let mut watch = Watch::new(client.clone(), *timeouts, version);
        let (mut connection, mut lender) = lend(stream, Vec::new());
        let served = loop {
            let end = WatchEnd { peer, counted: &counted };
            let watched = WatchedConnection { connection, watch: &mut watch, end };
            match until_ended(watched, client, &serving.ending, settings.fixed.shutdown_wait).await
            {
                Ended::Idle => {}
                Ended::Served(result) => break result,
                // Here, `lender` is dropped. It resets the connection if the client could mistake the end of the
                // connection for the end of the response.
                Ended::Cut => return None,
            }
            // hyper has dropped the connection, so the lender has it.
            let mut stream = lender.take_back()?;
            let parked = ParkedConnection { stream: &mut stream, watch: &mut watch, end };
            let ahead = match unless_ending(pin!(parked), &serving.ending).await {
                // The server shuts down. hyper gets the connection back, so that its next response announces the close.
                None => Vec::new(),
                Some(Parked::Readable(ahead)) => ahead,
                Some(Parked::Closed(last)) => {
                    Box::pin(serving.close(stream, last, client)).await;
                    return None;
                }
                Some(Parked::Cut) => return None,
            };
            (connection, lender) = lend(stream, ahead);
            watch.resume();
        };
        match served {
            Ok(()) => {
                if let Some(pending) = client.take_tunnel() {
                    return Some(OpenTunnel {
                        pending,
                        lender,
                        place,
                        counted,
                        registered,
                        serving,
                    });
                }
            }
            Err(error) => {
                // The type is `dyn Error`, because tracing then also logs the sources of the error.
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
        None
    }
}

/// A connection that a tunnel has taken over.
pub(super) struct OpenTunnel {
    pending: Box<PendingTunnel>,
    lender: Lender,
    place: Admitted,
    counted: CountedConnection,
    /// The client certificate of the connection. A reload can revoke it while the tunnel is open.
    registered: Option<Registered>,
    serving: Arc<Serving>,
}

impl OpenTunnel {
    /// Runs the tunnel until it ends, and then closes the connection. During a shutdown of the server, the tunnel may
    /// continue for the tunnel drain timeout.
    pub(super) async fn run(self) {
        let Self { pending, lender, place, counted, registered, serving } = self;
        let client = place.connection();
        let PendingTunnel { tunnel, request } = *pending;
        let mut running =
            RunningTunnel { tunnel, client, counted: &counted, has_seen_revocation: false };
        let ended = match unless_ending(Pin::new(&mut running), &serving.ending).await {
            Some(ended) => ended,
            None => {
                let drain = serving.settings.fixed.tunnel_drain;
                match timeout(drain, &mut running).await {
                    Ok(ended) => ended,
                    Err(_) => {
                        running.tunnel.as_mut().graceful_shutdown();
                        (&mut running).await
                    }
                }
            }
        };
        // Dropping the tunnel gives the connection back to `lender`. Dropping the request makes the connection idle.
        drop((running, request, registered));
        if ended.is_none() {
            counted.closed(CloseReason::ConnectionLimit);
        } else if let Some(stream) = lender.take_back() {
            Box::pin(serving.close(stream, LastResponse::Complete, client)).await;
        }
    }
}

/// The output is `None` if the connection of the client was evicted before the tunnel ended.
struct RunningTunnel<'a> {
    tunnel: BoxTunnel,
    client: &'a ClientConnection,
    counted: &'a CountedConnection,
    /// Whether `revoke_certificate` of the tunnel was called.
    has_seen_revocation: bool,
}

impl Future for RunningTunnel<'_> {
    type Output = Option<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.client.register(cx.waker());
        if self.client.is_evicted() {
            return Poll::Ready(None);
        }
        if self.client.is_revoked() && !self.has_seen_revocation {
            self.has_seen_revocation = true;
            self.counted.closed(CloseReason::Certificate);
            self.tunnel.as_mut().revoke_certificate();
        }
        self.tunnel.as_mut().poll(cx).map(Some)
    }
}

fn peer_certificate(tls: &rustls::ServerConnection, peer: SocketAddr) -> Option<PeerCertificate> {
    let (leaf, intermediates) = tls.peer_certificates()?.split_first()?;
    PeerCertificate::from_chain(leaf.to_vec(), intermediates.iter().map(|it| it.to_vec()))
        .inspect_err(|error| {
            log_limited!(warn, "client certificate", { %peer, %error }, "client certificate ignored: it cannot be parsed");
        })
        .ok()
}

/// Serves the requests of one connection with one instance of the service, so that the service can cache data between
/// requests.
struct ConnectionService<S> {
    /// Locked only while the service makes the future of a request.
    inner: Mutex<S>,
    connection: ConnectionInfo,
    /// The trusted proxies, if the peer is one of them.
    proxies: Option<TrustedProxies>,
    certificate: Option<PeerCertificate>,
    client: Arc<ClientConnection>,
    version: HttpVersion,
    /// The log for requests that this service refuses.
    access_log: Option<AccessLog>,
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
                let connection = proxied.unwrap_or(self.connection);
                let method = request.method().clone();
                let logged =
                    |response: &Response<Bytes>| self.log_refused(request, connection, response);
                CountedResponse::refused(refusal, &method, self.version, in_flight, logged)
            }
        };
        match self.version {
            HttpVersion::Http1 => {
                self.client.response().set_awaited(framing);
                Answering::http1(response, framing, self.client.clone())
            }
            HttpVersion::Http2 => Answering::http2(response),
        }
    }
}

impl<S> ConnectionService<S> {
    /// Writes a refused request to the access log. Returns the id of the request.
    #[cold]
    fn log_refused<B>(
        &self,
        mut request: Request<B>,
        connection: ConnectionInfo,
        response: &Response<Bytes>,
    ) -> RequestId {
        let Some(log) = &self.access_log else { return RequestId::next() };
        let bytes = response.body().len() as u64;
        access_log::log_refused(log, &mut request, connection, response.status(), bytes)
    }

    /// Returns the [`ConnectionInfo`] of a request from a trusted proxy, with the client that its `headers` announce.
    /// Returns `None` if the peer is not a trusted proxy.
    fn proxied_connection(&self, headers: &HeaderMap) -> Option<ConnectionInfo> {
        let proxies = self.proxies.as_ref()?;
        Some(self.connection.with_headers_of_trusted_proxy(proxies, headers))
    }

    fn called<B>(
        &self,
        mut request: Request<B>,
        connection: ConnectionInfo,
    ) -> Called<S, Request<B>>
    where
        S: Service<Request<B>> + Clone,
    {
        let extensions = request.extensions_mut();
        // Most requests have no extension here, so the look-up is skipped for them. hyper adds an extension to a
        // request with the header `Upgrade`.
        if !extensions.is_empty() && extensions.get::<OnUpgrade>().is_some() {
            extensions.insert(RunsTunnels);
        }
        extensions.insert(connection);
        if let Some(certificate) = &self.certificate
            && !self.client.is_revoked()
        {
            extensions.insert(certificate.clone());
        }
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        // If the service is not ready, a clone of the service waits until it becomes ready. Meanwhile, other requests
        // can use this instance of the service.
        match inner.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => Called::Ready { future: inner.call(request) },
            _ => Called::Waiting { future: Oneshot::new(inner.clone(), request) },
        }
    }
}

pin_project! {
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

fn http1_settings() -> http1::Builder {
    let mut http1 = http1::Builder::new();
    http1
        // `Watch` enforces the time limits. hyper's own limit would include the idle time before a request.
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

/// Serves `io` with the settings of [`Server`](super::Server): HTTP/2 if `version` is HTTP/2, otherwise HTTP/1.1.
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
        access_log: None,
    };
    if version == Version::HTTP_2 {
        // The receiver is dropped, because this function does not wait for the end of the streams.
        let (running, _) = tokio::sync::mpsc::channel(1);
        let streams = Streams::new(running, super::server_settings::SEND_TIMEOUT, None);
        http2_settings(streams).serve_connection(io, service).await
    } else {
        let (io, _) = LentStream::new(TokioIo::new(io), client);
        let io = CoalesceWrites::new(TokioIo::new(io));
        http1_settings().serve_connection(io, service).await
    }
}
