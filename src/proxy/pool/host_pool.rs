//! The idle HTTP/1.1 connections and all HTTP/2 connections to one instance of a service, and the type of a connection
//! in use.
//!
//! To *drain* a connection means to move it into a separate task, which finishes writing, shuts TLS down and closes the
//! connection. The *reaper* is a task that drains connections that have been idle for too long.

use std::{
    fmt,
    future::pending,
    mem,
    pin::Pin,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Uri, uri};
use hyper::{
    body::{Body, Frame, Incoming},
    upgrade::{OnUpgrade, Upgraded},
};
use tokio::time::Instant;
use tower::BoxError;

use super::{
    connection_limit::{ConnectionLimit, IdleConnections, Offer, PoolId},
    exchange_io::{NewHeaders, Resend},
    http2_connection::Http2Connection,
    http2_stream::{Http2Stream, StreamPermit, StreamPool},
    lock::lock,
    shared_body::SharedBody,
    upstream_connection::{ConnectionState, SendError, SendResult, Sending, UpstreamConnection},
};
use crate::{layer::ServiceProtocol, log_limit::log_limited};

const MAX_IDLE: usize = 256;

/// The idle HTTP/1.1 connections and all HTTP/2 connections to one instance of a service, for one runtime and one
/// [`ServiceProtocol`].
pub(in crate::proxy) struct HostPool<B> {
    host: HeaderValue,
    uri: Uri,
    /// The number of times the reaper has run. Each idle connection stores this number instead of a time, because
    /// reading the clock would cost more.
    tick: AtomicU64,
    /// The number of calls of [`retire`](Self::retire). A connection stores the value that this number had when the
    /// connection was opened. If the stored value differs from the current value, the connection gets no further
    /// request.
    retired: AtomicU64,
    id: PoolId,
    /// The limit that all runtimes share.
    limit: Arc<Limit<B>>,
    /// The connection that was used last is at the end.
    idle: Mutex<Vec<Idle<B>>>,
    http2: Http2Connections<B>,
}

struct Http2Connections<B> {
    /// Whether the last new connection uses HTTP/2. Before the first connection, whether the protocol is `H2c`.
    is_used: AtomicBool,
    /// A new stream is opened on the first connection that may have another stream. So the connections at the end
    /// become idle, and can be closed.
    all: Mutex<Vec<Arc<Http2Connection<B>>>>,
    turn: Turn,
}

/// The request that makes an HTTP/2 connection holds this lock. The other requests wait, so that they can share this
/// connection. The value in the lock says when and why the connector failed last.
pub(super) type Turn = tokio::sync::Mutex<Option<(Instant, SharedError)>>;

#[derive(Clone, Debug)]
pub(super) struct SharedError(pub(super) Arc<BoxError>);

impl fmt::Display for SharedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for SharedError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

pub(super) type Limit<B> = ConnectionLimit<Box<PooledConnection<B>>>;

struct Idle<B> {
    connection: Box<PooledConnection<B>>,
    /// The value of `tick` when the connection was given back.
    since: u64,
}

impl<B> HostPool<B> {
    pub(super) fn new(
        scheme: &uri::Scheme,
        authority: &uri::Authority,
        id: PoolId,
        limit: Arc<Limit<B>>,
    ) -> Result<Self, http::Error> {
        let uri = Uri::builder()
            .scheme(scheme.clone())
            .authority(authority.clone())
            .path_and_query("/")
            .build()?;
        Ok(Self {
            // `Host` must not contain a user, and clients leave out the default port (RFC 9110 §7.2). The authority of
            // an `Upstream` contains no user and no default port.
            host: HeaderValue::try_from(authority.as_str())?,
            uri,
            tick: AtomicU64::new(0),
            retired: AtomicU64::new(0),
            id,
            limit,
            idle: Mutex::default(),
            http2: Http2Connections {
                is_used: AtomicBool::new(id.protocol == ServiceProtocol::H2c),
                all: Mutex::default(),
                turn: Turn::default(),
            },
        })
    }

    /// Returns the value of the header `Host` in requests to this instance (RFC 9110 §7.2).
    pub(in crate::proxy) fn host(&self) -> &HeaderValue {
        &self.host
    }

    pub(super) fn uri(&self) -> Uri {
        self.uri.clone()
    }

    pub(super) fn id(&self) -> PoolId {
        self.id
    }

    pub(super) fn limit(&self) -> &Arc<Limit<B>> {
        &self.limit
    }

    pub(super) fn protocol(&self) -> ServiceProtocol {
        self.id.protocol
    }

    /// Returns the lock of the request that makes an HTTP/2 connection. Returns `None` if the next connection is not
    /// expected to use HTTP/2.
    pub(super) fn http2_turn(&self) -> Option<&Turn> {
        self.http2.is_used.load(Ordering::Relaxed).then_some(&self.http2.turn)
    }

    pub(super) fn uses_http1(&self) {
        self.http2.is_used.store(false, Ordering::Relaxed);
    }

    /// Keeps a connection that is ready. If requests wait for a connection, one of them gets this connection or its
    /// slot instead. Drains the connection if the pool is full, or if the connection was opened before the last
    /// [`retire`](Self::retire).
    fn put(&self, mut connection: Box<PooledConnection<B>>) {
        if connection.retired != self.retired.load(Ordering::Relaxed) {
            return connection.carrier.spawn_driver();
        }
        let since = self.tick.load(Ordering::Relaxed);
        loop {
            let mut idle = lock(&self.idle);
            if !self.limit.has_waiting() {
                if idle.len() < MAX_IDLE {
                    idle.push(Idle { connection, since });
                    return;
                }
                drop(idle);
                return connection.carrier.spawn_driver();
            }
            drop(idle);
            match self.limit.offer(connection, self.id) {
                Offer::Taken => return,
                Offer::Close(mut closing) => return closing.carrier.spawn_driver(),
                // The waiting request was dropped in the meantime.
                Offer::Keep(kept) => connection = kept,
            }
        }
    }

    /// Returns whether the instance has no connection, in any runtime. While there is a connection, the
    /// [limit](Self::limit()) of the instance must not be dropped, because a new limit would not count this connection.
    pub(super) fn is_unused(&self) -> bool {
        self.limit.is_unused()
    }

    /// Increments `tick`. Drains connections that have been idle for more than `ticks` ticks. Drops connections that
    /// are not ready, for instance because the service has closed them. Also closes HTTP/2 connections that are
    /// unusable or have been idle for more than `ticks` ticks.
    pub(super) fn reap(&self, ticks: u64) {
        let tick = self.tick.fetch_add(1, Ordering::Relaxed) + 1;
        let mut idle = lock(&self.idle);
        idle.retain_mut(|entry| entry.connection.carrier.state() == ConnectionState::Ready);
        // The oldest entries are at the beginning.
        let old = idle.iter().take_while(|entry| tick - entry.since > ticks).count();
        let old: Vec<_> = idle.drain(..old).collect();
        drop(idle);
        drain(old);
        self.close_http2(|connection| {
            !connection.is_usable() || connection.is_idle_since(tick, ticks)
        });
    }

    /// Closes the HTTP/2 connections for which `ends` returns true, each after its last stream.
    fn close_http2(&self, mut ends: impl FnMut(&Http2Connection<B>) -> bool) {
        // These connections are dropped after the lock was released, because a drop may wake other tasks.
        let mut closed = Vec::new();
        lock(&self.http2.all).retain(|connection| {
            let stays = !ends(connection);
            if !stays {
                connection.retire();
                closed.push(connection.clone());
            }
            stays
        });
    }

    /// Drains all idle connections, and closes all HTTP/2 connections after their last streams. The HTTP/1.1
    /// connections in use are drained at the end of their exchange.
    pub(super) fn retire(&self) {
        self.retired.fetch_add(1, Ordering::Relaxed);
        self.clear();
    }

    /// Drains all idle connections. Closes all HTTP/2 connections, each after its last stream.
    pub(super) fn clear(&self) {
        let all = mem::take(&mut *lock(&self.idle));
        drain(all);
        self.close_http2(|_| true);
    }
}

impl<B: Send + 'static> HostPool<B> {
    /// If the last new connection uses HTTP/2, takes a free stream of an HTTP/2 connection. If there is no such stream,
    /// takes the most recently used HTTP/1.1 connection that is ready. Returns `None` if there is no such stream and no
    /// such connection. Drops each HTTP/1.1 connection that it finds and that is not ready.
    pub(in crate::proxy) fn take(self: &Arc<Self>) -> Option<Box<PooledConnection<B>>> {
        if self.http2.is_used.load(Ordering::Relaxed)
            && let Some(stream) = self.open_stream()
        {
            return Some(stream);
        }
        let mut idle = lock(&self.idle);
        loop {
            let Idle { mut connection, .. } = idle.pop()?;
            if connection.carrier.state() == ConnectionState::Ready {
                return Some(connection);
            }
        }
    }

    /// Opens a stream on an HTTP/2 connection. Drops the connections that take no more requests. Each of these is
    /// closed after its last stream.
    #[cold]
    fn open_stream(self: &Arc<Self>) -> Option<Box<PooledConnection<B>>> {
        let (mut ended, mut found) = (Vec::new(), None);
        lock(&self.http2.all).retain(|connection| {
            let is_usable = connection.is_usable();
            if !is_usable {
                ended.push(connection.clone());
            } else if found.is_none() && connection.try_open() {
                found = Some(connection.clone());
            }
            is_usable
        });
        Some(Box::new(PooledConnection::http2(found?, self)))
    }

    pub(super) fn add_http2(
        self: &Arc<Self>,
        connection: Arc<Http2Connection<B>>,
    ) -> Box<PooledConnection<B>> {
        let is_open = connection.try_open();
        debug_assert!(is_open, "a new connection has no streams");
        let stream = Box::new(PooledConnection::http2(connection.clone(), self));
        lock(&self.http2.all).push(connection);
        self.http2.is_used.store(true, Ordering::Relaxed);
        self.clone().offer_streams();
        stream
    }
}

impl<B: Send + 'static> StreamPool for HostPool<B> {
    fn tick(&self) -> u64 {
        self.tick.load(Ordering::Relaxed)
    }

    fn offer_streams(self: Arc<Self>) {
        while self.limit.has_waiting() {
            let Some(stream) = self.open_stream() else { return };
            match self.limit.offer(stream, self.id) {
                Offer::Taken => {}
                // A request of another pool gets the slot of this connection when the last stream of the connection has
                // ended.
                Offer::Close(stream) => {
                    if let Carrier::Http2(stream) = &stream.carrier {
                        stream.retire_connection();
                    }
                    return;
                }
                // The waiting request was dropped in the meantime.
                Offer::Keep(_) => return,
            }
        }
    }
}

impl<B: Send> IdleConnections for HostPool<B> {
    fn close_oldest(&self) -> bool {
        let mut idle = lock(&self.idle);
        if idle.is_empty() {
            drop(idle);
            let mut is_found = false;
            self.close_http2(|connection| {
                let closes = !is_found && connection.is_idle();
                is_found |= closes;
                closes
            });
            return is_found;
        }
        let oldest = idle.remove(0);
        drop(idle);
        drain(vec![oldest]);
        true
    }
}

impl<B> Drop for HostPool<B> {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Drains each connection, as described in the [module](self).
fn drain<B>(idle: Vec<Idle<B>>) {
    for mut entry in idle {
        entry.connection.carrier.spawn_driver();
    }
}

/// An HTTP/1.1 connection in use, or a stream of an HTTP/2 connection. [`give_back`](Self::give_back) ends the
/// exchange.
///
/// If this value is dropped without `give_back`, the stream of HTTP/2 is reset, or the connection of HTTP/1.1 is
/// closed. If an HTTP/1.1 service has already answered, the rest of the request is sent first.
pub(in crate::proxy) struct PooledConnection<B> {
    carrier: Carrier<B>,
    pause: BodyPause,
    is_answered: bool,
    /// The value of [`HostPool::retired`] when the connection was opened.
    retired: u64,
    pool: Weak<HostPool<B>>,
}

enum Carrier<B> {
    Http1(UpstreamConnection<B>),
    /// A stream of a shared connection. hyper drives the connection in tasks of its own.
    Http2(Http2Stream<B>),
    Ended,
}

impl<B> Carrier<B> {
    fn state(&mut self) -> ConnectionState {
        match self {
            Self::Http1(connection) => connection.state(),
            Self::Http2(_) | Self::Ended => ConnectionState::Closed,
        }
    }

    fn spawn_driver(&mut self) {
        if let Self::Http1(connection) = self {
            connection.spawn_driver();
        }
    }
}

/// Limits the pauses of the service in the body of a response.
#[derive(Default)]
struct BodyPause {
    limit: Option<Duration>,
    /// The time when the reader began to wait for bytes of the body.
    since: Option<Instant>,
}

#[derive(Debug)]
pub(in crate::proxy) enum FrameError {
    Broken(hyper::Error),
    /// The service sent no bytes for this time.
    Stalled(Duration),
}

impl<B> PooledConnection<B> {
    pub(super) fn new(upstream: UpstreamConnection<B>, pool: &Arc<HostPool<B>>) -> Self {
        let (pause, retired) = (BodyPause::default(), pool.retired.load(Ordering::Relaxed));
        let carrier = Carrier::Http1(upstream);
        Self { carrier, pause, is_answered: false, retired, pool: Arc::downgrade(pool) }
    }

    /// Wraps a stream that was reserved on `connection`.
    fn http2(connection: Arc<Http2Connection<B>>, pool: &Arc<HostPool<B>>) -> Self
    where
        B: Send + 'static,
    {
        let retired = pool.retired.load(Ordering::Relaxed);
        let pool = Arc::downgrade(pool);
        let carrier = Carrier::Http2(Http2Stream::new(StreamPermit::new(connection, pool.clone())));
        Self { carrier, pause: BodyPause::default(), is_answered: false, retired, pool }
    }

    /// Waits until hyper returns the I/O of the connection, after a response with status 101. `on_upgrade` belongs to
    /// this response. The I/O holds the slot of the connection.
    pub(in crate::proxy) fn poll_upgraded(
        &mut self,
        on_upgrade: &mut OnUpgrade,
        cx: &mut Context<'_>,
    ) -> Poll<hyper::Result<Upgraded>> {
        match &mut self.carrier {
            Carrier::Http1(connection) => connection.poll_upgraded(on_upgrade, cx),
            // A stream of HTTP/2 has no status 101, so `on_upgrade` fails.
            Carrier::Http2(_) | Carrier::Ended => Pin::new(on_upgrade).poll(cx),
        }
    }

    pub(in crate::proxy) fn wants_headers(&self) -> bool {
        match &self.carrier {
            Carrier::Http1(connection) => connection.wants_headers(),
            Carrier::Http2(stream) => stream.wants_headers(),
            Carrier::Ended => false,
        }
    }

    /// Answers [`wants_headers`](Self::wants_headers). Call [`poll_response`](Self::poll_response) afterwards.
    pub(in crate::proxy) fn set_new_headers(&mut self, headers: NewHeaders) {
        match &mut self.carrier {
            Carrier::Http1(connection) => connection.set_new_headers(headers),
            Carrier::Http2(stream) => stream.set_new_headers(headers),
            Carrier::Ended => {}
        }
    }

    pub(in crate::proxy) fn first_frame(
        &mut self,
        body: Pin<&mut Incoming>,
    ) -> Option<Result<Frame<Bytes>, hyper::Error>> {
        match &mut self.carrier {
            Carrier::Http1(connection) => connection.first_frame(body),
            Carrier::Http2(_) if body.is_end_stream() => None,
            Carrier::Http2(stream) => {
                match stream.poll_frame(body, &mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(frame) => frame,
                    Poll::Pending => None,
                }
            }
            Carrier::Ended => None,
        }
    }

    pub(in crate::proxy) fn poll_frame(
        &mut self,
        body: Pin<&mut Incoming>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, FrameError>>> {
        let polled = match &mut self.carrier {
            Carrier::Http1(connection) => connection.poll_frame(body, cx),
            Carrier::Http2(stream) => stream.poll_frame(body, cx),
            Carrier::Ended => body.poll_frame(cx),
        };
        match polled {
            Poll::Ready(frame) => {
                self.pause.since = None;
                Poll::Ready(frame.map(|frame| frame.map_err(FrameError::Broken)))
            }
            Poll::Pending => self.poll_pause(cx).map(|stalled| Some(Err(stalled))),
        }
    }

    /// Completes when the service has paused for too long.
    fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<FrameError> {
        let Some(limit) = self.pause.limit else { return Poll::Pending };
        let since = match self.pause.since {
            Some(since) => since,
            None => {
                let now = Instant::now();
                if let Carrier::Http1(connection) = &mut self.carrier {
                    connection.advance_timer(now + limit);
                }
                *self.pause.since.insert(now)
            }
        };
        ready!(self.poll_deadline(cx, || since + limit));
        Poll::Ready(self.stalled(limit))
    }

    #[cold]
    fn stalled(&self, limit: Duration) -> FrameError {
        if let Some(pool) = self.pool.upgrade() {
            pool.limit.counts().add_stalled();
            let upstream = &pool.uri;
            log_limited!(warn, ("stalled", upstream), { %upstream, ?limit }, "response cut: the service sent no more bytes of the body; for a service that pauses longer, raise its serviceBodySeconds (Route::with_body_timeout)");
        }
        FrameError::Stalled(limit)
    }

    /// Limits the pauses of the service in the body of this response. `None` means that there is no limit.
    pub(in crate::proxy) fn limit_pauses(&mut self, limit: Option<Duration>) {
        self.pause.limit = limit;
    }

    /// Waits until the deadline. `deadline` returns the current deadline, because the deadline may change during the
    /// wait.
    pub(in crate::proxy) fn poll_deadline(
        &mut self,
        cx: &mut Context<'_>,
        deadline: impl Fn() -> Instant,
    ) -> Poll<()> {
        match &mut self.carrier {
            Carrier::Http1(connection) => connection.poll_deadline(cx, deadline),
            Carrier::Http2(stream) => stream.poll_deadline(cx, deadline),
            Carrier::Ended => Poll::Pending,
        }
    }

    pub(in crate::proxy) fn set_answered(&mut self) {
        self.is_answered = true;
        self.pause = BodyPause::default();
    }

    /// Moves the connection into a separate task, which sends the rest of the request even if the response is not read.
    /// The connection is not reused after that. Does nothing over HTTP/2, because hyper drives these connections in
    /// tasks.
    pub(in crate::proxy) fn spawn_driver(&mut self) {
        self.carrier.spawn_driver();
    }
}

impl<B> PooledConnection<B>
where
    B: SharedBody + Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    /// Ends the exchange. If the connection is ready for another request, it becomes idle.
    pub(in crate::proxy) fn give_back(mut self: Box<Self>) {
        if let Carrier::Http2(_) = self.carrier {
            if let Carrier::Http2(stream) = mem::replace(&mut self.carrier, Carrier::Ended) {
                stream.finish();
            }
            return;
        }
        match self.carrier.state() {
            ConnectionState::Closed => {}
            ConnectionState::Busy => self.carrier.spawn_driver(),
            ConnectionState::Ready => {
                self.is_answered = false;
                match self.pool.upgrade() {
                    Some(pool) => pool.put(self),
                    None => self.carrier.spawn_driver(),
                }
            }
        }
    }

    pub(in crate::proxy) fn poll_response(
        &mut self,
        sending: &mut Sending<B>,
        cx: &mut Context<'_>,
    ) -> Poll<SendResult<B>> {
        match &mut self.carrier {
            Carrier::Http1(connection) => connection.poll_response(sending, cx),
            Carrier::Http2(stream) => stream.poll_response(cx),
            Carrier::Ended => sending.as_mut().poll(cx).map_err(SendError::from),
        }
    }

    /// Begins an exchange. `deadline` is the current deadline of the response. The deadline moves each time a part of
    /// the request's body is sent.
    pub(in crate::proxy) fn send(
        &mut self,
        request: Request<B>,
        resend: Resend,
        deadline: Instant,
    ) -> Sending<B> {
        match &mut self.carrier {
            Carrier::Http1(connection) => {
                // The timer may still be set to the limit for a pause in the body of the last response. This limit can
                // be minutes later than `deadline`.
                connection.advance_timer(deadline);
                connection.send(request, resend)
            }
            Carrier::Http2(stream) => {
                stream.send(request, resend);
                // The stream holds the future of the response. The future that is returned here is never polled, and
                // its box needs no memory.
                Box::pin(pending())
            }
            Carrier::Ended => Box::pin(pending()),
        }
    }
}

impl<B> Drop for PooledConnection<B> {
    fn drop(&mut self) {
        if let Carrier::Http1(connection) = &mut self.carrier
            && self.is_answered
            && connection.is_blocked()
        {
            connection.spawn_driver();
        }
    }
}

impl<B> fmt::Debug for PooledConnection<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let carrier: &dyn fmt::Debug = match &self.carrier {
            Carrier::Http1(connection) => connection,
            Carrier::Http2(stream) => stream,
            Carrier::Ended => &"Ended",
        };
        f.debug_struct("PooledConnection").field("carrier", carrier).finish_non_exhaustive()
    }
}
