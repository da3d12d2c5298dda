//! One connection to a service, driven by the task that waits for what it brings.
//!
//! hyper makes of a connection a future for a task of its own. With one, each request wakes the task
//! of the connection, and that the task of the request, twice over, and both are polled through
//! (`benches/choices.md` has the cost). Here who waits for an answer, or for more of it, polls the
//! connection, and nobody else has to be woken.

use std::{
    fmt,
    future::poll_fn,
    mem,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
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

use super::{BoxError, read_after_reset::ReadAfterReset};
use crate::coalesce::{CoalesceWrites, Writing};

/// What became of a request. One that was not sent at all comes back.
pub(in crate::proxy) type Sent<B> = Result<Response<Incoming>, TrySendError<Request<B>>>;

/// A request on its way, to be polled by [`UpstreamConnection::poll_sent`].
pub(in crate::proxy) type Sending<B> = Pin<Box<dyn Future<Output = Sent<B>> + Send>>;

/// A connection, and the timer of its exchanges. It carries one exchange at a time.
pub(in crate::proxy) struct UpstreamConnection<B> {
    sender: SendRequest<B>,
    driver: Driver,
    signal: Arc<Signal>,
    /// The signal, as the connection calls it. It is always polled with this one: not everything in
    /// it would hear of another at once.
    waker: Waker,
    /// To hyper, a connection that has only to write is one that can carry the next request.
    writing: Arc<Writing>,
    /// Its own one: who polls it later may have another, or none.
    runtime: Handle,
    /// See [`given_up`].
    patience: Duration,
    /// For who waits for an answer. It is not set for each exchange anew, which would cost more than
    /// to look, when it goes off, whether the time of the present one is up.
    pub(in crate::proxy) timer: Pin<Box<Sleep>>,
}

/// Who polls the connection.
enum Driver {
    /// Who waits for what it brings.
    User(Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>),
    /// A task of its own.
    Task,
    /// Nobody any more.
    Over,
}

impl<B> UpstreamConnection<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    /// Speaks HTTP/1.1 over `io`. The timer goes off at `deadline`. Once nobody waits for an answer, the
    /// service may take nothing of what waits for it for `patience`, or up to twice as long.
    pub(in crate::proxy) async fn over<I>(
        io: I,
        deadline: Instant,
        patience: Duration,
    ) -> hyper::Result<Self>
    where
        I: Read + Write + Unpin + Send + 'static,
    {
        let writing = Arc::<Writing>::default();
        let signal = Arc::<Signal>::default();
        let of_user = signal.clone();
        let io = ReadAfterReset::new(io, move || !of_user.is_let_go.load(Ordering::Relaxed));
        let (sender, connection) =
            http1::handshake(CoalesceWrites::telling(io, writing.clone())).await?;
        let timer = Box::pin(sleep_until(deadline));
        let driver = Driver::User(Box::pin(connection));
        let waker = Waker::from(signal.clone());
        let runtime = Handle::current();
        Ok(Self { sender, driver, signal, waker, writing, runtime, patience, timer })
    }

    /// Begins an exchange.
    pub(in crate::proxy) fn send(&mut self, request: Request<B>) -> Sending<B> {
        Box::pin(self.sender.try_send_request(request))
    }
}

impl<B> UpstreamConnection<B> {
    /// Waits for the head of the answer.
    pub(in crate::proxy) fn poll_sent(
        &mut self,
        sending: &mut Sending<B>,
        cx: &mut Context<'_>,
    ) -> Poll<Sent<B>> {
        self.poll(cx, |cx| sending.as_mut().poll(cx))
    }

    /// Waits for more of the answer.
    pub(in crate::proxy) fn poll_frame(
        &mut self,
        mut body: Pin<&mut Incoming>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.poll(cx, |cx| body.as_mut().poll_frame(cx))
    }

    /// Polls `wanted`, and the connection as far as that needs it to be ready.
    fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut wanted: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let Driver::User(connection) = &mut self.driver else { return wanted(cx) };
        let signal = &self.signal;
        let unheard = &mut Context::from_waker(Waker::noop());
        if let ready @ Poll::Ready(_) = signal.poll_quietly(|| wanted(unheard)) {
            return ready;
        }
        signal.is_raised.store(false, Ordering::Relaxed);
        signal.user.register(cx.waker());
        if let Poll::Ready(result) = connection.as_mut().poll(&mut Context::from_waker(&self.waker))
        {
            told(result);
            self.driver = Driver::Over;
            return wanted(cx);
        }
        // With its waker: tokio makes who has done much wait although there is something.
        let polled = signal.poll_quietly(|| wanted(cx));
        if polled.is_pending() {
            signal.user.register(cx.waker());
            if signal.is_raised.load(Ordering::Relaxed) {
                cx.waker().wake_by_ref();
            }
        }
        polled
    }

    /// Goes on with the request whether or not somebody waits for the answer: who reads of it only
    /// when the request is through would wait for ever.
    pub(in crate::proxy) fn spawn_driver(&mut self) {
        if let Driver::User(mut connection) = mem::replace(&mut self.driver, Driver::Task) {
            let (signal, waker) = (self.signal.clone(), self.waker.clone());
            let (writing, patience) = (self.writing.clone(), self.patience);
            self.runtime.spawn(async move {
                let mut given_up = pin!(given_up(&signal, &writing, patience));
                poll_fn(|cx| {
                    signal.user.register(cx.waker());
                    let of_connection = &mut Context::from_waker(&waker);
                    // Twice: that it was let go it sees only once all is written, and then nothing
                    // calls any more.
                    for _ in 0..2 {
                        if let Poll::Ready(result) = connection.as_mut().poll(of_connection) {
                            told(result);
                            return Poll::Ready(());
                        }
                    }
                    given_up.as_mut().poll(cx)
                })
                .await;
            });
        }
    }

    /// What it can do next. It calls nobody until the next exchange.
    pub(in crate::proxy) fn state(&mut self) -> ConnectionState {
        let Driver::User(connection) = &mut self.driver else { return ConnectionState::Closed };
        let can_send = || self.sender.is_ready() && !self.writing.is_stuck();
        let is_raised = self.signal.is_raised.swap(false, Ordering::Relaxed);
        if can_send() && !is_raised {
            return ConnectionState::Ready;
        }
        match connection.as_mut().poll(&mut Context::from_waker(&self.waker)) {
            Poll::Ready(result) => {
                told(result);
                self.driver = Driver::Over;
                ConnectionState::Closed
            }
            Poll::Pending if can_send() => ConnectionState::Ready,
            Poll::Pending => ConnectionState::Busy,
        }
    }

    /// Whether the service has not taken all of what there was of a request.
    pub(in crate::proxy) fn is_stuck(&self) -> bool {
        self.writing.is_stuck()
    }
}

/// What a connection can do after an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum ConnectionState {
    /// It can carry the next.
    Ready,
    /// The service has answered before it had all of the request.
    Busy,
    /// Nothing more.
    Closed,
}

/// Waits until nobody waits for an answer, and the service takes nothing of what waits for it, for
/// `patience` or up to twice as long. What it does not take fills what all requests of a client share
/// (RFC 9113 §5.2.1).
async fn given_up(signal: &Signal, writing: &Writing, patience: Duration) {
    let mut before = None;
    loop {
        sleep(patience).await;
        let is_waiting = signal.is_let_go.load(Ordering::Relaxed) && writing.is_stuck();
        let taken = is_waiting.then(|| writing.taken());
        if taken.is_some() && taken == before {
            tracing::debug!("a service takes nothing more of a request; its connection is closed");
            return;
        }
        before = taken;
    }
}

impl<B> Drop for UpstreamConnection<B> {
    fn drop(&mut self) {
        self.signal.is_let_go.store(true, Ordering::Relaxed);
        // A task that drives it may be waiting for what nobody reads any more.
        self.signal.wake_by_ref();
    }
}

/// What a connection calls when it can go on.
#[derive(Default)]
struct Signal {
    /// Who waits for what it brings.
    user: AtomicWaker,
    /// Whether it has called since it was polled.
    is_raised: AtomicBool,
    /// Whether nobody has the connection any more but the task that drives it.
    is_let_go: AtomicBool,
}

impl Signal {
    /// Polls what the connection has brought. To take it may call the connection, which is polled
    /// whenever there is nothing yet: of that nobody needs to hear.
    fn poll_quietly<T>(&self, brought: impl FnOnce() -> Poll<T>) -> Poll<T> {
        self.user.take();
        let was_raised = self.is_raised.load(Ordering::Relaxed);
        let polled = brought();
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
        // Before the user is looked for: either they are there, or they look here when they are.
        self.is_raised.store(true, Ordering::Relaxed);
        self.user.wake();
    }
}

fn told(result: hyper::Result<()>) {
    if let Err(error) = result {
        tracing::debug!(%error, "a connection to a service broke off");
    }
}

impl<B> fmt::Debug for UpstreamConnection<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamConnection").finish_non_exhaustive()
    }
}
