//! One HTTP/1.1 connection to a service, polled by the task that waits for its response.
//!
//! hyper makes each connection a future for a task of its own. Then each request wakes the connection's
//! task, and that task wakes the request's, twice per request (`benches/choices.md` has the cost).
//! Here the reader of a response polls the connection, and no other task has to be woken.

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
};
use tokio::{
    runtime::Handle,
    time::{Instant, Sleep, sleep, sleep_until},
};
use tower::BoxError;

use super::read_after_reset::ReadAfterReset;
use crate::coalesce::{CoalesceWrites, WriteProgress};

/// What became of a request. A request of which nothing was sent comes back in the error.
pub(in crate::proxy) type SendResult<B> = Result<Response<Incoming>, TrySendError<Request<B>>>;

/// A request in flight, to be polled by [`UpstreamConnection::poll_response`].
pub(in crate::proxy) type Sending<B> = Pin<Box<dyn Future<Output = SendResult<B>> + Send>>;

/// A connection and its response timer. It carries one exchange at a time.
pub(super) struct UpstreamConnection<B> {
    sender: SendRequest<B>,
    driver: Driver,
    signal: Arc<Signal>,
    /// The signal, as a waker. The connection is always polled with this one, because some parts
    /// of it keep the first waker that they see.
    waker: Waker,
    /// hyper says of a connection that only has bytes left to write that it can carry the next request.
    writes: Arc<WriteProgress>,
    /// The runtime of the connection. A later reader may be in another one, or in none.
    runtime: Handle,
    /// See [`stalled`].
    max_stall: Duration,
    /// Response timer. It is reused: when it fires, we compare the current deadline and re-arm. To
    /// reset it for each exchange would cost more.
    timer: Pin<Box<Sleep>>,
}

/// Who polls the connection.
enum Driver {
    /// The reader of the response.
    Reader(Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>),
    /// A task of its own.
    Task,
    /// Nobody: the connection has ended.
    Ended,
}

impl<B> UpstreamConnection<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    /// Speaks HTTP/1.1 over `io`. The timer fires at `deadline`. Once the response is no longer read, the
    /// connection is closed if the service accepts no bytes for `max_stall` to 2 × `max_stall`.
    pub(super) async fn handshake<I>(
        io: I,
        deadline: Instant,
        max_stall: Duration,
    ) -> hyper::Result<Self>
    where
        I: Read + Write + Unpin + Send + 'static,
    {
        let writes = Arc::<WriteProgress>::default();
        let signal = Arc::<Signal>::default();
        let shared = signal.clone();
        let io = ReadAfterReset::new(io, move || !shared.is_released.load(Ordering::Relaxed));
        let (sender, connection) =
            http1::handshake(CoalesceWrites::with_progress(io, writes.clone())).await?;
        let timer = Box::pin(sleep_until(deadline));
        let driver = Driver::Reader(Box::pin(connection));
        let waker = Waker::from(signal.clone());
        let runtime = Handle::current();
        Ok(Self { sender, driver, signal, waker, writes, runtime, max_stall, timer })
    }

    /// Begins an exchange.
    pub(super) fn send(&mut self, request: Request<B>) -> Sending<B> {
        Box::pin(self.sender.try_send_request(request))
    }
}

impl<B> UpstreamConnection<B> {
    /// Waits for the head of the response.
    pub(super) fn poll_response(
        &mut self,
        sending: &mut Sending<B>,
        cx: &mut Context<'_>,
    ) -> Poll<SendResult<B>> {
        self.poll(cx, |cx| sending.as_mut().poll(cx))
    }

    /// Waits for the next frame of the response's body.
    pub(super) fn poll_frame(
        &mut self,
        mut body: Pin<&mut Incoming>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.poll(cx, |cx| body.as_mut().poll_frame(cx))
    }

    /// Waits until the current time is past `deadline`, which may move while we wait.
    pub(super) fn poll_deadline(
        &mut self,
        cx: &mut Context<'_>,
        deadline: impl Fn() -> Instant,
    ) -> Poll<()> {
        loop {
            // The timer may still be set to the deadline of an earlier exchange.
            ready!(self.timer.as_mut().poll(cx));
            let deadline = deadline();
            if deadline <= Instant::now() {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(deadline);
        }
    }

    /// Polls `wanted`, and the connection if `wanted` is not ready without that.
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
        // With the reader's waker: tokio's cooperative budget may return `Pending` although data is
        // there, and then wakes this waker.
        let polled = signal.poll_without_waking(|| wanted(cx));
        if polled.is_pending() {
            signal.reader.register(cx.waker());
            if signal.is_raised.load(Ordering::Relaxed) {
                cx.waker().wake_by_ref();
            }
        }
        polled
    }

    /// Moves the connection into a task of its own. The request is then sent even if the client does not read the
    /// response: a client that reads only after it has sent everything would otherwise wait for ever.
    pub(super) fn spawn_driver(&mut self) {
        if let Driver::Reader(mut connection) = mem::replace(&mut self.driver, Driver::Task) {
            let (signal, waker) = (self.signal.clone(), self.waker.clone());
            let (writes, max_stall) = (self.writes.clone(), self.max_stall);
            self.runtime.spawn(async move {
                let mut stalled = pin!(stalled(&signal, &writes, max_stall));
                poll_fn(|cx| {
                    signal.reader.register(cx.waker());
                    let of_connection = &mut Context::from_waker(&waker);
                    // Twice: the connection notices that its sender was dropped only after it has
                    // written everything, and nothing wakes it after that.
                    for _ in 0..2 {
                        if let Poll::Ready(result) = connection.as_mut().poll(of_connection) {
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

    /// What the connection can do next. Until the next exchange it wakes no task.
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

    /// Whether bytes of a request wait until the service accepts them.
    pub(super) fn is_blocked(&self) -> bool {
        self.writes.is_blocked()
    }
}

/// What a connection can do after an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionState {
    /// Carry the next request.
    Ready,
    /// Send the rest of the request, which the service answered before it had read all of it.
    Busy,
    /// Nothing: it has ended, or a task of its own has it.
    Closed,
}

/// Ready once the response is no longer read and the service accepts no bytes for `max_stall` to
/// 2 × `max_stall`. Those bytes fill the flow-control window that all requests of a client share
/// (RFC 9113 §5.2.1).
async fn stalled(signal: &Signal, writes: &WriteProgress, max_stall: Duration) {
    let mut before = None;
    loop {
        sleep(max_stall).await;
        let is_waiting = signal.is_released.load(Ordering::Relaxed) && writes.is_blocked();
        let completed = is_waiting.then(|| writes.completed());
        if completed.is_some() && completed == before {
            tracing::debug!("connection to a service closed: it accepts no more of the request");
            return;
        }
        before = completed;
    }
}

impl<B> Drop for UpstreamConnection<B> {
    fn drop(&mut self) {
        self.signal.is_released.store(true, Ordering::Relaxed);
        // The task that drives the connection may wait for bytes that will never be read.
        self.signal.wake_by_ref();
    }
}

/// The waker of a connection.
#[derive(Default)]
struct Signal {
    /// Who polls the connection: the reader of the response, or the task that drives it.
    reader: AtomicWaker,
    /// Whether the connection was woken since it was last polled.
    is_raised: AtomicBool,
    /// Whether only the driving task still has the connection.
    is_released: AtomicBool,
}

impl Signal {
    /// Polls `received` for data that the connection has read. Taking the data may wake the connection;
    /// the reader need not be woken for that, because it polls the connection whenever no data is left.
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
        // First the flag, then the reader: a reader that registers after `wake` sees the flag.
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
