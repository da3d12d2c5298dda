//! One HTTP/1.1 connection to a service. The task that waits for the response polls the connection.
//!
//! In hyper, a connection is a future that usually runs in a separate task. The task of the request and the task of the
//! connection then wake each other twice per request (`benches/choices.md` contains the cost). In this module, the task
//! that reads the response also polls the connection, so it wakes no other task.

use std::{
    fmt,
    future::poll_fn,
    mem,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker, ready},
    time::Duration,
};

use atomic_waker::AtomicWaker;
use bytes::Bytes;
use http::{Request, Response};
use hyper::{
    body::{Body, Frame, Incoming},
    client::conn::{
        TrySendError,
        http1::{self, SendRequest},
    },
    rt::{Read, Write},
    upgrade::{OnUpgrade, Upgraded},
};
use tokio::{
    runtime::Handle,
    task::unconstrained,
    time::{Instant, Sleep, sleep, sleep_until},
};
use tower::BoxError;

use super::{
    exchange_io::{
        ExchangeIo, ExchangeSignals, NewHeaders, Reconnect, Resend, Unanswered, is_caused_by,
    },
    slot_io::SlotIo,
};
use crate::coalesce::{CoalesceWrites, WriteProgress};

/// The maximum number of headers of a response. hyper has room for 100 headers on the stack. This number is larger, so
/// hyper allocates two tables of headers (8 KiB each) on the heap for each response.
pub(in crate::proxy) const MAX_HEADERS: usize = 256;

pub(in crate::proxy) type SendResult<B> = Result<Response<Incoming>, SendError<B>>;

pub(in crate::proxy) struct SendError<B> {
    error: hyper::Error,
    given_back: Option<GivenBack<B>>,
    is_unanswered: bool,
}

pub(in crate::proxy) struct GivenBack<B> {
    pub(in crate::proxy) request: Request<B>,
    pub(in crate::proxy) why: WhyGivenBack,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum WhyGivenBack {
    /// The connection was closed before a part of the request was sent.
    Unsent,
    /// The service refused the request without processing it. Another instance may accept it.
    Refused,
    /// The service processes no more requests of this connection, and has not processed this request.
    Unprocessed,
    /// The connection ended before the response began.
    Closed,
}

impl<B> SendError<B> {
    pub(super) fn new(error: hyper::Error, given_back: Option<GivenBack<B>>) -> Self {
        Self { error, given_back, is_unanswered: false }
    }

    /// Makes the error of a connection that ended before a byte of the response arrived. The caller may send the
    /// request again ([`Resend::ByCaller`]).
    pub(super) fn unanswered(error: hyper::Error) -> Self {
        Self { error, given_back: None, is_unanswered: true }
    }

    /// Returns whether the connection ended before a byte of the response arrived, and [`Resend::ByCaller`] was set.
    pub(in crate::proxy) fn is_unanswered(&self) -> bool {
        self.is_unanswered
    }

    pub(in crate::proxy) fn take_given_back(&mut self) -> Option<GivenBack<B>> {
        self.given_back.take()
    }

    pub(in crate::proxy) fn into_error(self) -> hyper::Error {
        self.error
    }
}

impl<B> From<TrySendError<Request<B>>> for SendError<B> {
    /// Converts an error of hyper. hyper gives the request back if no part of the request was sent.
    #[cold]
    fn from(mut failed: TrySendError<Request<B>>) -> Self {
        let given_back =
            failed.take_message().map(|request| GivenBack { request, why: WhyGivenBack::Unsent });
        let error = failed.into_error();
        let is_unanswered = is_caused_by::<Unanswered>(&error);
        Self { error, given_back, is_unanswered }
    }
}

/// A request in flight, to be polled by [`UpstreamConnection::poll_response`].
pub(in crate::proxy) type Sending<B> =
    Pin<Box<dyn Future<Output = Result<Response<Incoming>, TrySendError<Request<B>>>> + Send>>;

/// A connection and its response timer. The connection handles one exchange at a time.
pub(super) struct UpstreamConnection<B> {
    sender: SendRequest<B>,
    driver: Driver,
    signal: Arc<Signal>,
    /// Signals to and from the I/O of the connection.
    exchange: Arc<ExchangeSignals>,
    /// `signal` as a waker. The connection is always polled with this waker, because some parts of the connection keep
    /// the first waker that they get.
    waker: Waker,
    /// Shows whether bytes still have to be written. hyper does not show this: it reports a connection as ready for the
    /// next request even if bytes still have to be written.
    writes: Arc<WriteProgress>,
    /// The runtime of the connection. The response may be read in another runtime, or outside of a runtime.
    runtime: Handle,
    /// The argument of [`stalled`].
    max_stall: Duration,
    /// The response timer. It is not reset for each exchange, because a reset costs more than a check of the deadline.
    /// When the timer fires, the current deadline is checked. If the deadline is later, the timer is set again.
    timer: Pin<Box<Sleep>>,
}

/// The task that polls the connection.
enum Driver {
    /// The task that reads the response.
    Reader(Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>),
    Task,
    /// No task, because the connection has ended.
    Ended,
}

impl<B> UpstreamConnection<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    /// Starts HTTP/1.1 on `io`, and sets the response timer to `deadline`.
    ///
    /// `max_stall` applies when the response is no longer read but a part of the request still has to be written. If
    /// the service then accepts no bytes for `max_stall` to 2 × `max_stall`, the connection is closed.
    ///
    /// `slot` is dropped when `io` is closed. `reconnect` opens the connection for a request that is sent again.
    pub(super) async fn handshake<I>(
        io: I,
        reconnect: Reconnect<I>,
        slot: impl Send + Unpin + 'static,
        deadline: Instant,
        max_stall: Duration,
    ) -> hyper::Result<Self>
    where
        I: Read + Write + Unpin + Send + 'static,
    {
        let writes = Arc::<WriteProgress>::default();
        let signal = Arc::<Signal>::default();
        let shared = signal.clone();
        let is_awaited = move || !shared.is_released.load(Ordering::Relaxed);
        let exchange = Arc::<ExchangeSignals>::default();
        let io = ExchangeIo::new(io, is_awaited, exchange.clone(), reconnect);
        let io = CoalesceWrites::with_progress(SlotIo::new(io, slot), writes.clone());
        let (sender, connection) =
            http1::Builder::new().max_headers(MAX_HEADERS).handshake(io).await?;
        let timer = Box::pin(sleep_until(deadline));
        let driver = Driver::Reader(Box::pin(connection.with_upgrades()));
        let waker = Waker::from(signal.clone());
        let runtime = Handle::current();
        Ok(Self { sender, driver, signal, exchange, waker, writes, runtime, max_stall, timer })
    }

    pub(super) fn send(&mut self, request: Request<B>, resend: Resend) -> Sending<B> {
        self.exchange.begin(resend);
        Box::pin(self.sender.try_send_request(request))
    }
}

impl<B> UpstreamConnection<B> {
    pub(super) fn poll_response(
        &mut self,
        sending: &mut Sending<B>,
        cx: &mut Context<'_>,
    ) -> Poll<SendResult<B>> {
        self.poll(cx, |cx| sending.as_mut().poll(cx)).map_err(SendError::from)
    }

    pub(super) fn poll_upgraded(
        &mut self,
        on_upgrade: &mut OnUpgrade,
        cx: &mut Context<'_>,
    ) -> Poll<hyper::Result<Upgraded>> {
        self.poll(cx, |cx| Pin::new(&mut *on_upgrade).poll(cx))
    }

    pub(super) fn wants_headers(&self) -> bool {
        self.exchange.wants_headers()
    }

    pub(super) fn set_new_headers(&self, headers: NewHeaders) {
        self.exchange.set_new_headers(headers);
    }

    pub(super) fn poll_frame(
        &mut self,
        mut body: Pin<&mut Incoming>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.poll(cx, |cx| body.as_mut().poll_frame(cx))
    }

    /// Returns the first frame of the response's body, if it has arrived together with the head. Reads nothing.
    pub(super) fn first_frame(
        &mut self,
        body: Pin<&mut Incoming>,
    ) -> Option<Result<Frame<Bytes>, hyper::Error>> {
        if body.is_end_stream() {
            return None;
        }
        let no_waker = &mut Context::from_waker(Waker::noop());
        match self.signal.poll_without_waking(|| body.poll_frame(no_waker)) {
            Poll::Ready(frame) => frame,
            Poll::Pending => None,
        }
    }

    pub(super) fn poll_deadline(
        &mut self,
        cx: &mut Context<'_>,
        deadline: impl Fn() -> Instant,
    ) -> Poll<()> {
        loop {
            // The timer is polled without tokio's cooperative budget. A service that sends endlessly uses up this
            // budget in each poll, so the timer would never fire.
            ready!(pin!(unconstrained(self.timer.as_mut())).poll(cx));
            let deadline = deadline();
            if deadline <= Instant::now() {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(deadline);
        }
    }

    /// Makes the timer of [`poll_deadline`](Self::poll_deadline) fire at `deadline` at the latest. The timer may be set
    /// to a later time, which was the deadline of an earlier exchange.
    pub(super) fn advance_timer(&mut self, deadline: Instant) {
        if self.timer.deadline() > deadline {
            self.timer.as_mut().reset(deadline);
        }
    }

    /// Polls `wanted`. If `wanted` is not ready, polls the connection, and then polls `wanted` again.
    fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut wanted: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let Driver::Reader(connection) = &mut self.driver else { return wanted(cx) };
        let signal = &self.signal;
        let no_waker = &mut Context::from_waker(Waker::noop());
        if let ready @ Poll::Ready(_) = signal.poll_without_waking(|| wanted(no_waker)) {
            return ready;
        }
        signal.is_raised.store(false, Ordering::Relaxed);
        signal.reader.register(cx.waker());
        if let Poll::Ready(result) = connection.as_mut().poll(&mut Context::from_waker(&self.waker))
        {
            log_end(result);
            self.driver = Driver::Ended;
            return wanted(cx);
        }
        // This poll uses the waker of the reader. When tokio's cooperative budget is used up, the poll returns
        // `Pending` although there is data, and tokio wakes this waker.
        let polled = signal.poll_without_waking(|| wanted(cx));
        if polled.is_pending() {
            signal.reader.register(cx.waker());
            if signal.is_raised.load(Ordering::Relaxed) {
                cx.waker().wake_by_ref();
            }
        }
        polled
    }

    /// Moves the connection into a separate task, which sends the request even if the client does not read the
    /// response. Without the separate task, the connection would stop whenever the client does not read. Example: a
    /// client first sends its whole request, and then reads. This client would wait forever.
    pub(super) fn spawn_driver(&mut self) {
        if let Driver::Reader(mut connection) = mem::replace(&mut self.driver, Driver::Task) {
            let (signal, waker) = (self.signal.clone(), self.waker.clone());
            let (writes, max_stall) = (self.writes.clone(), self.max_stall);
            self.runtime.spawn(async move {
                let mut stalled = pin!(stalled(&signal, &writes, max_stall));
                poll_fn(|cx| {
                    signal.reader.register(cx.waker());
                    let connection_cx = &mut Context::from_waker(&waker);
                    // Poll twice. After its last write, the connection must be polled once more to find that its sender
                    // was dropped, and to end. Nothing wakes the connection for this poll.
                    for _ in 0..2 {
                        if let Poll::Ready(result) = connection.as_mut().poll(connection_cx) {
                            log_end(result);
                            return Poll::Ready(());
                        }
                    }
                    stalled.as_mut().poll(cx)
                })
                .await;
            });
        }
    }

    /// Checks what the connection can do next. After this call, the connection wakes no task until the next exchange
    /// begins.
    pub(super) fn state(&mut self) -> ConnectionState {
        let Driver::Reader(connection) = &mut self.driver else { return ConnectionState::Closed };
        let can_send = || self.sender.is_ready() && !self.writes.is_blocked();
        let is_raised = self.signal.is_raised.swap(false, Ordering::Relaxed);
        if can_send() && !is_raised {
            return ConnectionState::Ready;
        }
        match connection.as_mut().poll(&mut Context::from_waker(&self.waker)) {
            Poll::Ready(result) => {
                log_end(result);
                self.driver = Driver::Ended;
                ConnectionState::Closed
            }
            Poll::Pending if can_send() => ConnectionState::Ready,
            Poll::Pending => ConnectionState::Busy,
        }
    }

    /// Returns whether bytes of a request wait until the service accepts them.
    pub(super) fn is_blocked(&self) -> bool {
        self.writes.is_blocked()
    }
}

/// The state of a connection after an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionState {
    Ready,
    /// The connection still has to send the rest of a request. This occurs if the service answered before it had read
    /// the whole request.
    Busy,
    /// The connection cannot be used, because it has ended or was moved into a separate task.
    Closed,
}

/// Completes when the response is no longer read and the service has accepted no bytes of the request for `max_stall`
/// to 2 × `max_stall`. A longer wait would harm other requests. The bytes that the service does not accept fill a
/// flow-control window, which all requests of the client's HTTP/2 connection share (RFC 9113 §5.2.1).
async fn stalled(signal: &Signal, writes: &WriteProgress, max_stall: Duration) {
    let mut before = None;
    loop {
        sleep(max_stall).await;
        let is_waiting = signal.is_released.load(Ordering::Relaxed) && writes.is_blocked();
        let completed = is_waiting.then(|| writes.completed());
        if completed.is_some() && completed == before {
            tracing::debug!(
                "connection to a service closed: the service accepts no more bytes of the request"
            );
            return;
        }
        before = completed;
    }
}

impl<B> Drop for UpstreamConnection<B> {
    fn drop(&mut self) {
        self.signal.is_released.store(true, Ordering::Relaxed);
        // The separate task that drives the connection may be waiting until the response is read. Nothing reads the
        // response after this drop, so wake the task.
        self.signal.wake_by_ref();
    }
}

/// The waker of a connection. It wakes the task that polls the connection.
#[derive(Default)]
struct Signal {
    /// The task that polls the connection: the reader of the response, or a separate task.
    reader: AtomicWaker,
    /// Whether the connection was woken since it was last polled.
    is_raised: AtomicBool,
    /// Whether the [`UpstreamConnection`] was dropped. A separate task may still drive the connection.
    is_released: AtomicBool,
}

impl Signal {
    /// Polls `received` for data that the connection has read. Taking the data may wake the connection. The reader does
    /// not get this wake-up, because it polls the connection anyway when no data is left.
    fn poll_without_waking<T>(&self, received: impl FnOnce() -> Poll<T>) -> Poll<T> {
        self.reader.take();
        let was_raised = self.is_raised.load(Ordering::Relaxed);
        let polled = received();
        if polled.is_ready() {
            self.is_raised.store(was_raised, Ordering::Relaxed);
        }
        polled
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Set the flag before waking the reader. If a reader registers its waker too late for this wake-up, it sees the
        // flag.
        self.is_raised.store(true, Ordering::Relaxed);
        self.reader.wake();
    }
}

fn log_end(result: hyper::Result<()>) {
    if let Err(error) = result {
        tracing::debug!(%error, "connection to a service failed");
    }
}

impl<B> fmt::Debug for UpstreamConnection<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamConnection").finish_non_exhaustive()
    }
}
