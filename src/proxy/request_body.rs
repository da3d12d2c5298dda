//! The body of a request to a service, and the progress of sending it.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower::BoxError;

use crate::{
    body_wait,
    stall::{StallTimer, Stalled},
};

/// Records how much of a request's body has been sent.
///
/// The proxy uses this record to distinguish a long upload from a service that does not respond. The record also shows
/// whether the client or the service has disconnected.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    start: Instant,
    /// `None` for a request without a body.
    shared: Option<Arc<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// When the last frame was passed to the connection, in milliseconds since `Progress::start`.
    last_frame: AtomicU64,
    has_ended: AtomicBool,
    has_failed: AtomicBool,
    has_stalled: AtomicBool,
    is_too_large: AtomicBool,
}

impl Progress {
    /// Starts the record for a request with `body`.
    pub(super) fn start<B: Body>(body: &B) -> Self {
        let is_empty = body.is_end_stream() || body.size_hint().exact() == Some(0);
        let shared = (!is_empty).then(Arc::default);
        Self { start: Instant::now(), shared }
    }

    /// Returns the deadline: `timeout` after the last frame of the body was passed on. If there was no frame yet, the
    /// time counts from the start.
    pub(super) fn deadline(&self, timeout: Duration) -> Instant {
        let last_frame =
            self.shared.as_ref().map_or(0, |shared| shared.last_frame.load(Ordering::Relaxed));
        self.start + Duration::from_millis(last_frame) + timeout
    }

    /// Restarts the time of [`deadline`](Self::deadline), so that it counts from `now`.
    pub(super) fn restart(&mut self, now: Instant) {
        match &self.shared {
            Some(shared) => {
                shared.last_frame.store(millis(now - self.start), Ordering::Relaxed);
            }
            None => self.start = now,
        }
    }

    fn record<T, E>(&self, frame: Option<&Result<T, E>>, is_last: bool) {
        let Some(shared) = &self.shared else { return };
        shared.last_frame.store(millis(self.start.elapsed()), Ordering::Relaxed);
        if is_last {
            shared.has_ended.store(true, Ordering::Relaxed);
        }
        if let Some(Err(_)) = frame {
            shared.has_failed.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the whole body has been passed to the connection.
    pub(super) fn has_ended(&self) -> bool {
        self.shared.as_ref().is_none_or(|shared| shared.has_ended.load(Ordering::Relaxed))
    }

    /// When the last frame was passed to the connection.
    fn last_frame(&self) -> Instant {
        self.deadline(Duration::ZERO)
    }

    fn set_stalled(&self) {
        if let Some(shared) = &self.shared {
            shared.has_stalled.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the client sent the body too slowly.
    pub(super) fn has_stalled(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.has_stalled.load(Ordering::Relaxed))
    }

    fn set_too_large(&self) {
        if let Some(shared) = &self.shared {
            shared.is_too_large.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the body is larger than its route allows.
    pub(super) fn is_too_large(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.is_too_large.load(Ordering::Relaxed))
    }

    /// Whether reading the body failed, because the client disconnected or sent a malformed body.
    pub(super) fn has_failed(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.has_failed.load(Ordering::Relaxed))
    }
}

/// Watches whether the client sends the body of a request fast enough.
#[derive(Debug)]
pub(super) struct Receive {
    timer: StallTimer,
    bytes: u64,
    /// Whether the body was not polled since its last frame.
    has_frame: bool,
}

impl Receive {
    /// The client must send the minimum number of bytes (see [`StallTimer`]) within each period of length `limit`.
    pub(super) fn new(limit: Duration) -> Self {
        Self { timer: StallTimer::new(limit), bytes: 0, has_frame: false }
    }

    fn add(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        self.has_frame = true;
    }

    /// Call this while the client has not sent the next frame. Returns `Ready` if the client has stalled.
    fn poll_stalled(&mut self, cx: &mut Context<'_>, last_frame: Instant) -> Poll<Stalled> {
        if std::mem::take(&mut self.has_frame) {
            // The service took no data for a while after the last frame. During this time, the client did not have to
            // send data, so the time does not count.
            self.timer.skip(last_frame.elapsed());
        }
        self.timer.poll(cx, self.bytes)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

pin_project! {
    /// A request body that records its progress.
    #[derive(Debug)]
    pub(super) struct RequestBody<B> {
        #[pin]
        inner: B,
        // Whether the length of the body was known at the start.
        has_length: bool,
        progress: Progress,
        // `None` if the client may send at any speed.
        receive: Option<Receive>,
        // The number of bytes that the client may still send. `None` if the size is not limited.
        remaining: Option<u64>,
    }
}

/// The body is larger than its route allows.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the body is larger than the route allows")]
struct TooLarge;

impl<B: Body> RequestBody<B> {
    pub(super) fn new(inner: B, progress: Progress, receive: Option<Receive>) -> Self {
        let has_length = inner.size_hint().exact().is_some();
        Self { inner, has_length, progress, receive, remaining: None }
    }

    /// Limits the size of the body. Reading more bytes fails.
    pub(super) fn with_max_size(self, bytes: Option<u64>) -> Self {
        Self { remaining: bytes, ..self }
    }
}

impl<B: Body<Error: Into<BoxError>>> Body for RequestBody<B> {
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let mut this = self.project();
        let Poll::Ready(frame) = this.inner.as_mut().poll_frame(cx) else {
            body_wait::set_pending();
            let Some(receive) = this.receive else { return Poll::Pending };
            let stalled = ready!(receive.poll_stalled(cx, this.progress.last_frame()));
            this.progress.set_stalled();
            return Poll::Ready(Some(Err(stalled.into())));
        };
        if let Some(receive) = this.receive
            && let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            receive.add(data.remaining());
        }
        if let Some(remaining) = this.remaining
            && let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            let Some(rest) = remaining.checked_sub(data.remaining() as u64) else {
                this.progress.set_too_large();
                return Poll::Ready(Some(Err(TooLarge.into())));
            };
            *remaining = rest;
        }
        let is_last = match &frame {
            None => true,
            // This frame is also the last one if it ends at the announced length. hyper does not poll the body again
            // after this length, even if `is_end_stream` is still false.
            Some(Ok(frame)) => {
                frame.is_trailers()
                    || this.inner.is_end_stream()
                    || *this.has_length && this.inner.size_hint().exact() == Some(0)
            }
            Some(Err(_)) => false,
        };
        this.progress.record(frame.as_ref(), is_last);
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
