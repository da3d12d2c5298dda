//! Runs the requests of HTTP/2 connections, and ends a request if its client does not take the response.
//!
//! A client can leave the flow-control window of one stream full while it uses other streams of the connection. Then
//! hyper waits for room in the window, and does not poll the body of the response. Only the task of the stream can
//! detect this: a poll of the task returns `Pending`, although neither the service nor the body has returned `Pending`.

use std::{
    cell::Cell,
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper::rt::Executor;
use pin_project_lite::pin_project;
use tokio::sync::mpsc;

use super::{close_reason::CloseReason, connection_counts::ConnectionCounts};
use crate::{log_limit::log_limited, stall::StallTimer};

thread_local! {
    /// The events of the current poll of a stream.
    static POLLED: Cell<Polled> = const { Cell::new(Polled::NOTHING) };
}

#[derive(Clone, Copy, Debug)]
struct Polled {
    waits_for_service: bool,
    has_no_limit: bool,
    bytes: u64,
}

impl Polled {
    const NOTHING: Self = Self { waits_for_service: false, has_no_limit: false, bytes: 0 };
}

/// Records that the service or the body of the response has returned `Pending`, so that no data waits for the client.
pub(super) fn service_is_pending() {
    POLLED.set(Polled { waits_for_service: true, ..POLLED.get() });
}

/// Records that the body of the response has passed on `bytes` bytes, because the stream had room for them. If
/// `has_no_limit` is true, the client may take the response at any speed.
pub(super) fn passed_on(bytes: usize, has_no_limit: bool) {
    let polled = POLLED.get();
    POLLED.set(Polled { has_no_limit, bytes: polled.bytes + bytes as u64, ..polled });
}

/// Spawns a task for each HTTP/2 request.
#[derive(Clone)]
pub(super) struct Streams(Arc<Settings>);

struct Settings {
    running: mpsc::Sender<Infallible>,
    send: Duration,
    counts: Option<Arc<ConnectionCounts>>,
}

impl Streams {
    /// All clones and all tasks share `running`. So the channel closes when all tasks have ended and all clones of the
    /// executor are dropped. A client must make the minimum progress within each period of length `send`.
    pub(super) fn new(
        running: mpsc::Sender<Infallible>,
        send: Duration,
        counts: Option<Arc<ConnectionCounts>>,
    ) -> Self {
        Self(Arc::new(Settings { running, send, counts }))
    }

    /// Returns an executor with another send timeout, for other connections.
    pub(super) fn with_send(&self, send: Duration) -> Self {
        Self::new(self.0.running.clone(), send, self.0.counts.clone())
    }
}

impl<F> Executor<F> for Streams
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, stream: F) {
        tokio::spawn(StreamTask {
            stream,
            settings: self.0.clone(),
            bytes: 0,
            has_no_limit: false,
            waiting: None,
        });
    }
}

pin_project! {
    struct StreamTask<F> {
        #[pin]
        stream: F,
        settings: Arc<Settings>,
        bytes: u64,
        has_no_limit: bool,
        // `None` before the first time that the stream has no room.
        waiting: Option<StallTimer>,
    }
}

impl<F: Future> Future for StreamTask<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        POLLED.set(Polled::NOTHING);
        if this.stream.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let polled = POLLED.get();
        *this.bytes += polled.bytes;
        *this.has_no_limit |= polled.has_no_limit;
        if polled.waits_for_service || *this.has_no_limit {
            if let Some(waiting) = this.waiting {
                waiting.clear();
            }
            return Poll::Pending;
        }
        let send = this.settings.send;
        let waiting = this.waiting.get_or_insert_with(|| StallTimer::new(send));
        if waiting.poll(cx, *this.bytes).is_pending() {
            return Poll::Pending;
        }
        log_limited!(warn, "stream timeout", { limit = ?this.settings.send }, "HTTP/2 stream reset: the client does not take the response");
        if let Some(counts) = &this.settings.counts {
            counts.add_closed(CloseReason::Stream);
        }
        // When the task ends, the stream is dropped. The drop resets the stream.
        Poll::Ready(())
    }
}
