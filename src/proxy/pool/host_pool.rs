//! The idle connections to one service, and the type of a connection in use.
//!
//! To *drain* a connection means to move it into a separate task, which finishes writing, shuts TLS down and closes the
//! connection. The *reaper* is a task that drains connections that have been idle for too long.

use std::{
    fmt, mem,
    pin::Pin,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Uri, uri};
use hyper::body::{Body, Frame, Incoming};
use tokio::{runtime, time::Instant};
use tower::BoxError;

use super::{
    connection_limit::{ConnectionLimit, IdleConnections, Offer},
    exchange_io::{NewHeaders, Resend},
    lock::lock,
    upstream_connection::{ConnectionState, SendResult, Sending, UpstreamConnection},
};

use crate::log_limit::log_limited;

/// The maximum number of idle connections per service and runtime.
const MAX_IDLE: usize = 256;

/// The idle connections to one service.
pub(in crate::proxy) struct HostPool<B> {
    host: HeaderValue,
    uri: Uri,
    /// How often the reaper has run. Each idle connection stores this number instead of a time, because reading the
    /// clock would cost more.
    tick: AtomicU64,
    /// How often the connections were retired. A connection with another number is not used for another request.
    retired: AtomicU64,
    /// The runtime of the connections.
    runtime: runtime::Id,
    /// The limit that all runtimes share.
    limit: Arc<Limit<B>>,
    /// The connection that was used last is at the end.
    idle: Mutex<Vec<Idle<B>>>,
}

/// The limit of connections to one instance.
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
        runtime: runtime::Id,
        limit: Arc<Limit<B>>,
    ) -> Result<Self, http::Error> {
        let uri = Uri::builder()
            .scheme(scheme.clone())
            .authority(authority.clone())
            .path_and_query("/")
            .build()?;
        Ok(Self {
            // An `Upstream` has no default port (RFC 9110 §7.2) and no user information.
            host: HeaderValue::try_from(authority.as_str())?,
            uri,
            tick: AtomicU64::new(0),
            retired: AtomicU64::new(0),
            runtime,
            limit,
            idle: Mutex::default(),
        })
    }

    /// The value of the header `Host` in requests to this service (RFC 9110 §7.2).
    pub(in crate::proxy) fn host(&self) -> &HeaderValue {
        &self.host
    }

    /// The URI for the connector.
    pub(super) fn uri(&self) -> Uri {
        self.uri.clone()
    }

    /// The runtime of the connections.
    pub(super) fn runtime(&self) -> runtime::Id {
        self.runtime
    }

    /// The limit that all runtimes share.
    pub(super) fn limit(&self) -> &Arc<Limit<B>> {
        &self.limit
    }

    /// Takes the most recently used connection that is ready for a request, if there is one. Drops all connections that
    /// were used more recently, because they are not ready.
    pub(in crate::proxy) fn take(&self) -> Option<Box<PooledConnection<B>>> {
        let mut idle = lock(&self.idle);
        loop {
            let Idle { mut connection, .. } = idle.pop()?;
            if connection.upstream.state() == ConnectionState::Ready {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection that is ready. If requests wait for a connection, the first of them gets this one or its
    /// slot.
    fn put(&self, mut connection: Box<PooledConnection<B>>) {
        if connection.retired != self.retired.load(Ordering::Relaxed) {
            return connection.upstream.spawn_driver();
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
                return connection.upstream.spawn_driver();
            }
            drop(idle);
            match self.limit.offer(connection, self.runtime) {
                Offer::Taken => return,
                Offer::Close(mut closing) => return closing.upstream.spawn_driver(),
                // The waiting request was dropped in the meantime.
                Offer::Keep(kept) => connection = kept,
            }
        }
    }

    /// Increments `tick`. Drains connections that have been idle for more than `ticks` ticks. Drops
    /// connections that are not ready, for instance because the service has closed them.
    pub(super) fn reap(&self, ticks: u64) {
        let tick = self.tick.fetch_add(1, Ordering::Relaxed) + 1;
        let mut idle = lock(&self.idle);
        idle.retain_mut(|entry| entry.connection.upstream.state() == ConnectionState::Ready);
        // The oldest entries are at the beginning.
        let old = idle.iter().take_while(|entry| tick - entry.since > ticks).count();
        let old: Vec<_> = idle.drain(..old).collect();
        drop(idle);
        drain(old);
    }

    /// Drains all idle connections. The connections in use are drained at the end of their exchange.
    pub(super) fn retire(&self) {
        self.retired.fetch_add(1, Ordering::Relaxed);
        self.clear();
    }

    /// Drains all idle connections.
    pub(super) fn clear(&self) {
        let all = mem::take(&mut *lock(&self.idle));
        drain(all);
    }
}

impl<B: Send> IdleConnections for HostPool<B> {
    fn close_oldest(&self) -> bool {
        let mut idle = lock(&self.idle);
        if idle.is_empty() {
            return false;
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
        entry.connection.upstream.spawn_driver();
    }
}

/// A connection in use. [`give_back`](Self::give_back) ends the exchange.
///
/// If this value is dropped without `give_back`, the connection is closed. If the service has already answered, the
/// rest of the request is sent first.
pub(in crate::proxy) struct PooledConnection<B> {
    upstream: UpstreamConnection<B>,
    pause: BodyPause,
    /// Whether the head of the response has arrived.
    is_answered: bool,
    /// The value of [`HostPool::retired`] when the connection was opened.
    retired: u64,
    pool: Weak<HostPool<B>>,
}

/// Limits the pauses of the service in the body of a response.
#[derive(Default)]
struct BodyPause {
    /// The limit of the current response.
    limit: Option<Duration>,
    /// The time since which the reader waits for bytes of the body.
    since: Option<Instant>,
}

/// Why the body of a response ended early.
#[derive(Debug)]
pub(in crate::proxy) enum FrameError {
    Broken(hyper::Error),
    /// The service sent no bytes for this time.
    Stalled(Duration),
}

impl<B> PooledConnection<B> {
    pub(super) fn new(upstream: UpstreamConnection<B>, pool: &Arc<HostPool<B>>) -> Self {
        let (pause, retired) = (BodyPause::default(), pool.retired.load(Ordering::Relaxed));
        Self { upstream, pause, is_answered: false, retired, pool: Arc::downgrade(pool) }
    }

    /// Waits for the head of the response.
    pub(in crate::proxy) fn poll_response(
        &mut self,
        sending: &mut Sending<B>,
        cx: &mut Context<'_>,
    ) -> Poll<SendResult<B>> {
        self.upstream.poll_response(sending, cx)
    }

    /// Whether the request needs new headers before it is sent again.
    pub(in crate::proxy) fn wants_headers(&self) -> bool {
        self.upstream.wants_headers()
    }

    /// Answers [`wants_headers`](Self::wants_headers). Call [`poll_response`](Self::poll_response) afterwards.
    pub(in crate::proxy) fn set_new_headers(&self, headers: NewHeaders) {
        self.upstream.set_new_headers(headers);
    }

    /// Returns the first frame of the response's body, if it has arrived together with the head.
    pub(in crate::proxy) fn first_frame(
        &mut self,
        body: Pin<&mut Incoming>,
    ) -> Option<Result<Frame<Bytes>, hyper::Error>> {
        self.upstream.first_frame(body)
    }

    /// Waits for the next frame of the response's body.
    pub(in crate::proxy) fn poll_frame(
        &mut self,
        body: Pin<&mut Incoming>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, FrameError>>> {
        match self.upstream.poll_frame(body, cx) {
            Poll::Ready(frame) => {
                self.pause.since = None;
                Poll::Ready(frame.map(|frame| frame.map_err(FrameError::Broken)))
            }
            Poll::Pending => self.poll_pause(cx).map(|stalled| Some(Err(stalled))),
        }
    }

    /// Waits until the service pauses for too long.
    fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<FrameError> {
        let Some(limit) = self.pause.limit else { return Poll::Pending };
        let since = match self.pause.since {
            Some(since) => since,
            None => {
                let now = Instant::now();
                self.upstream.advance_timer(now + limit);
                *self.pause.since.insert(now)
            }
        };
        ready!(self.upstream.poll_deadline(cx, || since + limit));
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
        self.upstream.poll_deadline(cx, deadline)
    }

    /// Records that the head of the response has arrived.
    pub(in crate::proxy) fn set_answered(&mut self) {
        self.is_answered = true;
        self.pause = BodyPause::default();
    }

    /// Moves the connection into a separate task, which sends the rest of the request even if the response
    /// is not read. The connection is not reused after that.
    pub(in crate::proxy) fn spawn_driver(&mut self) {
        self.upstream.spawn_driver();
    }

    /// Ends the exchange. If the connection is ready for another request, it becomes idle.
    pub(in crate::proxy) fn give_back(mut self: Box<Self>) {
        match self.upstream.state() {
            ConnectionState::Closed => {}
            ConnectionState::Busy => self.upstream.spawn_driver(),
            ConnectionState::Ready => {
                self.is_answered = false;
                match self.pool.upgrade() {
                    Some(pool) => pool.put(self),
                    None => self.upstream.spawn_driver(),
                }
            }
        }
    }
}

impl<B> PooledConnection<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    /// Begins an exchange. `deadline` is the deadline of the response, as far as the caller knows it.
    pub(in crate::proxy) fn send(
        &mut self,
        request: Request<B>,
        resend: Resend,
        deadline: Instant,
    ) -> Sending<B> {
        // The timer may still be set to a time minutes away, for pauses in the body of the last response. So the timer
        // is advanced.
        self.upstream.advance_timer(deadline);
        self.upstream.send(request, resend)
    }
}

impl<B> Drop for PooledConnection<B> {
    fn drop(&mut self) {
        if self.is_answered && self.upstream.is_blocked() {
            self.upstream.spawn_driver();
        }
    }
}

impl<B> fmt::Debug for PooledConnection<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PooledConnection").field("upstream", &self.upstream).finish_non_exhaustive()
    }
}
