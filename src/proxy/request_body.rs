//! The body of a request to a service, and the progress of sending it.
//!
//! Over HTTP/1.1, the connection owns the body. Over HTTP/2, hyper sends the body in a task of its own, and the gateway
//! keeps a handle ([`SharedBody`]). With the handle, the gateway ends the body when the client has disconnected. If
//! there was no response, the gateway can also send the body again. A shared body is first sent over HTTP/2. A second
//! attempt may use HTTP/1.1.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower::BoxError;

use super::{pool::SharedBody, response_head::filter_trailers};
use crate::{
    body_wait,
    layer::AnnouncedTrailers,
    request_facts::RequestFacts,
    stall::{StallTimer, Stalled},
};

/// Records the progress of sending a request's body: when the last frame was sent, and whether the body has ended or
/// failed.
///
/// The proxy uses this record to distinguish a long upload from a service that does not respond. If the body has
/// failed, the record shows why: the client has disconnected, was too slow, or has sent too many bytes.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    start: Instant,
    /// `None` for a request without a body.
    shared: Option<Arc<Recorded>>,
    /// `None` if no outer layer needs the facts about the request.
    facts: Option<RequestFacts>,
}

#[derive(Debug, Default)]
struct Recorded {
    /// The later of two times: when the last frame was passed to the connection, and when [`Progress::restart`] was
    /// called. In milliseconds since `Progress::start`.
    last_frame: AtomicU64,
    has_ended: AtomicBool,
    has_failed: AtomicBool,
    has_stalled: AtomicBool,
    is_too_large: AtomicBool,
}

impl Progress {
    pub(super) fn start<B: Body>(body: &B, facts: Option<&RequestFacts>) -> Self {
        let is_empty = body.is_end_stream() || body.size_hint().exact() == Some(0);
        let shared = (!is_empty).then(Arc::default);
        Self { start: Instant::now(), shared, facts: facts.cloned() }
    }

    pub(super) fn facts(&self) -> Option<&RequestFacts> {
        self.facts.as_ref()
    }

    /// Returns the deadline: `timeout` after the last frame of the body was passed to the connection. Before the first
    /// frame, the time counts from the start. A [`restart`](Self::restart) counts like a frame.
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

    pub(super) fn has_no_body(&self) -> bool {
        self.shared.is_none()
    }

    /// Returns whether the whole body has been passed to the connection.
    pub(super) fn has_ended(&self) -> bool {
        self.shared.as_ref().is_none_or(|shared| shared.has_ended.load(Ordering::Relaxed))
    }

    /// Returns the time when the last frame was passed to the connection. A restart counts like a frame.
    fn last_frame(&self) -> Instant {
        self.deadline(Duration::ZERO)
    }

    fn set_stalled(&self) {
        if let Some(shared) = &self.shared {
            shared.has_stalled.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn has_stalled(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.has_stalled.load(Ordering::Relaxed))
    }

    fn set_too_large(&self) {
        if let Some(shared) = &self.shared {
            shared.is_too_large.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn is_too_large(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.is_too_large.load(Ordering::Relaxed))
    }

    /// Returns whether reading the body failed, because the client disconnected or sent a malformed body.
    pub(super) fn has_failed(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.has_failed.load(Ordering::Relaxed))
    }
}

/// Watches whether the client sends the body of a request fast enough.
#[derive(Debug)]
pub(super) struct Receive {
    timer: StallTimer,
    bytes: u64,
    /// Whether a frame has arrived, and the body was not polled since then.
    has_frame: bool,
    applies: Applies,
}

/// When the limit of [`Receive`] applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Applies {
    Always,
    /// Only over HTTP/1.1. The body is now sent over HTTP/1.1, or nothing was sent yet.
    OverHttp1,
    /// Only over HTTP/1.1, and the body is now sent over HTTP/2.
    NotNow,
}

impl Receive {
    /// Creates a watch. The client must send the minimum number of bytes (see [`StallTimer`]) within each period of
    /// length `limit`.
    pub(super) fn new(limit: Duration) -> Self {
        Self { timer: StallTimer::new(limit), bytes: 0, has_frame: false, applies: Applies::Always }
    }

    /// Applies the limit only over HTTP/1.1: if the connection to the service uses HTTP/2, the client may pause for any
    /// time. The gateway knows the version only when the connection is open.
    pub(super) fn only_over_http1(self) -> Self {
        Self { applies: Applies::OverHttp1, ..self }
    }

    fn set_http2(&mut self, is_http2: bool) {
        self.applies = match self.applies {
            Applies::Always => Applies::Always,
            Applies::OverHttp1 | Applies::NotNow if is_http2 => Applies::NotNow,
            Applies::OverHttp1 | Applies::NotNow => Applies::OverHttp1,
        };
    }

    fn add(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        self.has_frame = true;
    }

    /// Returns `Ready` if the client sends too slowly. Call this when the next frame of the client has not arrived.
    fn poll_stalled(&mut self, cx: &mut Context<'_>, last_frame: Instant) -> Poll<Stalled> {
        if self.applies == Applies::NotNow {
            return Poll::Pending;
        }
        if std::mem::take(&mut self.has_frame) {
            // The service was not ready for more data between the last frame and now. The client did not have to send
            // data during this time, so this time does not count.
            self.timer.skip(last_frame.elapsed());
        }
        self.timer.poll(cx, self.bytes)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The names of the trailers that the client may send to the service.
pub(super) type RequestTrailers = Option<AnnouncedTrailers>;

pin_project! {
    /// Reads the body that a client sends, and records the progress.
    #[derive(Debug)]
    struct ClientBody<B> {
        #[pin]
        inner: B,
        // Whether the length of the body was known at the start.
        has_length: bool,
        progress: Progress,
        // `None` for a request without a body.
        receive: Option<Receive>,
        // The number of bytes that the client may still send. `None` if the size is not limited.
        remaining: Option<u64>,
        trailers: RequestTrailers,
    }
}

#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the body is larger than the route allows")]
struct TooLarge;

impl<B: Body<Error: Into<BoxError>>> ClientBody<B> {
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
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
        if let Some(facts) = &this.progress.facts
            && let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            facts.add_bytes_in(data.remaining());
        }
        let is_last = match &frame {
            None => true,
            // A frame that ends at the announced length is also the last one. hyper does not poll the body again after
            // this frame, even if `is_end_stream` is still false.
            Some(Ok(frame)) => {
                frame.is_trailers()
                    || this.inner.is_end_stream()
                    || *this.has_length && this.inner.size_hint().exact() == Some(0)
            }
            Some(Err(_)) => false,
        };
        this.progress.record(frame.as_ref(), is_last);
        Poll::Ready(frame.map(|frame| match frame {
            Ok(mut frame) => {
                if let Some(trailers) = frame.trailers_mut() {
                    keep_announced(trailers, this.trailers.as_ref());
                }
                Ok(frame.map_data(|mut data| data.copy_to_bytes(data.remaining())))
            }
            Err(error) => Err(error.into()),
        }))
    }
}

/// Removes the trailers that the client must not send.
#[cold]
fn keep_announced(trailers: &mut HeaderMap, announced: Option<&AnnouncedTrailers>) {
    filter_trailers(trailers);
    let is_announced =
        |name: &HeaderName| announced.is_some_and(|announced| announced.0.contains(name));
    let others: Vec<_> = trailers.keys().filter(|name| !is_announced(name)).cloned().collect();
    for name in others {
        trailers.remove(name);
    }
}

pin_project! {
    #[derive(Debug)]
    pub(super) struct RequestBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProj]
    #[derive(Debug)]
    enum Kind<B> {
        Own { #[pin] body: ClientBody<B> },
        Empty,
        // The body for hyper, or the handle that the gateway keeps.
        Shared { shared: Shared<B> },
    }
}

impl<B: Body> RequestBody<B> {
    pub(super) fn new(
        inner: B,
        progress: Progress,
        receive: Option<Receive>,
        trailers: RequestTrailers,
        max_size: Option<u64>,
    ) -> Self {
        let has_length = inner.size_hint().exact().is_some();
        let body =
            ClientBody { inner, has_length, progress, receive, remaining: max_size, trailers };
        Self { kind: Kind::Own { body } }
    }

    pub(super) fn empty() -> Self {
        Self { kind: Kind::Empty }
    }
}

impl<B: Body<Error: Into<BoxError>>> Body for RequestBody<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.project().kind.project() {
            KindProj::Own { body } => body.poll_frame(cx),
            KindProj::Empty => Poll::Ready(None),
            KindProj::Shared { shared } => shared.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Own { body } => body.inner.is_end_stream(),
            Kind::Empty => true,
            Kind::Shared { shared } => shared.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Own { body } => body.inner.size_hint(),
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Shared { shared } => shared.size_hint(),
        }
    }
}

impl<B: Body<Error: Into<BoxError>>> SharedBody for RequestBody<B> {
    fn share(self) -> (Self, Self) {
        let shared = match self.kind {
            Kind::Own { body } if body.inner.is_end_stream() => {
                return (Self { kind: Kind::Empty }, Self { kind: Kind::Empty });
            }
            Kind::Empty => return (self, Self { kind: Kind::Empty }),
            Kind::Own { body } => Shared::new(body),
            Kind::Shared { shared } => shared,
        };
        shared.lock().set_http2(true);
        let handle = shared.handle();
        (Self { kind: Kind::Shared { shared } }, Self { kind: Kind::Shared { shared: handle } })
    }

    fn has_begun(&self) -> bool {
        self.state().is_some_and(|state| state.parts > 0)
    }

    fn has_ended(&self) -> bool {
        self.state().is_none_or(|state| state.is_read() || state.is_dropped)
    }

    fn waits_for_client(&self) -> bool {
        self.state().is_some_and(|state| state.is_pending)
    }

    fn parts(&self) -> u64 {
        self.state().map_or(0, |state| state.parts)
    }

    fn forget(&self) {
        if let Some(mut state) = self.state() {
            state.forget();
        }
    }

    fn cancel(&self) {
        if let Some(state) = self.state() {
            State::cancel(state);
        }
    }

    fn rewind(self) -> Option<Self> {
        let Kind::Shared { shared } = self.kind else { return Some(self) };
        let shared = shared.rewind()?;
        Some(Self { kind: Kind::Shared { shared } })
    }
}

impl<B> RequestBody<B> {
    fn state(&self) -> Option<MutexGuard<'_, State<B>>> {
        match &self.kind {
            Kind::Shared { shared } => Some(shared.lock()),
            Kind::Own { .. } | Kind::Empty => None,
        }
    }
}

/// The maximum number of bytes of a body that are kept for a second attempt.
const MAX_KEPT: usize = 16 * 1024;

/// A body that hyper reads, or a handle to this body.
#[derive(Debug)]
struct Shared<B> {
    state: Arc<Mutex<State<B>>>,
    /// `None` for the handle.
    reader: Option<Reader>,
}

/// The right to read the body. Only the last attempt has this right.
#[derive(Debug)]
struct Reader {
    attempt: u32,
}

#[derive(Debug)]
struct State<B> {
    /// `None` after the end of the body, after an error, or after [`cancel`](Self::cancel).
    body: Option<Pin<Box<ClientBody<B>>>>,
    attempt: u32,
    /// The parts that were read from `body`, for a second attempt.
    kept: Vec<Part>,
    kept_bytes: usize,
    /// The number of kept parts that the last attempt has read. The last attempt reads the other kept parts before it
    /// reads `body`.
    position: usize,
    /// Whether a further attempt is possible: `kept` contains all parts that were read from `body`, and
    /// [`forget`](Self::forget) was not called.
    is_repeatable: bool,
    /// The number of parts that all attempts together have read.
    parts: u64,
    is_pending: bool,
    is_cancelled: bool,
    is_dropped: bool,
    waker: Option<Waker>,
}

#[derive(Clone, Debug)]
enum Part {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl From<Part> for Frame<Bytes> {
    fn from(part: Part) -> Self {
        match part {
            Part::Data(data) => Self::data(data),
            Part::Trailers(trailers) => Self::trailers(trailers),
        }
    }
}

impl<B> State<B> {
    fn set_http2(&mut self, is_http2: bool) {
        if let Some(body) = &mut self.body
            && let Some(receive) = body.as_mut().project().receive
        {
            receive.set_http2(is_http2);
        }
    }

    /// Stops keeping parts. If the last attempt has not yet read all kept parts, it can still read them.
    fn forget(&mut self) {
        self.is_repeatable = false;
        self.drop_kept();
    }

    /// Drops the kept parts if neither the last attempt nor a further attempt needs them.
    fn drop_kept(&mut self) {
        if !self.is_repeatable && self.position >= self.kept.len() {
            (self.kept, self.position) = (Vec::new(), 0);
        }
    }

    fn next_kept(&mut self) -> Option<Part> {
        let part = self.kept.get(self.position).cloned()?;
        self.position += 1;
        self.drop_kept();
        Some(part)
    }

    fn is_read(&self) -> bool {
        self.body.is_none() && self.position >= self.kept.len()
    }

    /// Keeps a part that the last attempt has just read from `body`.
    fn keep(&mut self, frame: &Frame<Bytes>) {
        if !self.is_repeatable {
            return;
        }
        let part = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => {
                self.kept_bytes += data.len();
                Part::Data(data.clone())
            }
            (None, Some(trailers)) => Part::Trailers(trailers.clone()),
            (None, None) => return,
        };
        self.kept.push(part);
        self.position = self.kept.len();
        if self.kept_bytes > MAX_KEPT {
            self.forget();
        }
    }

    /// Ends the body, and wakes the reader, which then resets the stream. Does nothing if the whole body was read.
    fn cancel(mut this: MutexGuard<'_, Self>) {
        if this.is_read() {
            return;
        }
        this.is_cancelled = true;
        let (waker, body) = (this.waker.take(), this.body.take());
        drop(this);
        drop(body);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<B> Shared<B> {
    fn new(body: ClientBody<B>) -> Self {
        let state = State {
            body: Some(Box::pin(body)),
            attempt: 0,
            kept: Vec::new(),
            kept_bytes: 0,
            position: 0,
            is_repeatable: true,
            parts: 0,
            is_pending: false,
            is_cancelled: false,
            is_dropped: false,
            waker: None,
        };
        let reader = Some(Reader { attempt: 0 });
        Self { state: Arc::new(Mutex::new(state)), reader }
    }

    fn handle(&self) -> Self {
        Self { state: self.state.clone(), reader: None }
    }

    fn lock(&self) -> MutexGuard<'_, State<B>> {
        // A panic in the body of a client leaves the state consistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a body that begins again at the first part. The body of the previous attempt then fails. Returns `None`
    /// if no further attempt is possible.
    fn rewind(self) -> Option<Self> {
        let mut state = self.lock();
        if !state.is_repeatable || state.is_cancelled {
            return None;
        }
        state.attempt += 1;
        state.position = 0;
        state.is_dropped = false;
        // The next connection may use HTTP/1.1.
        state.set_http2(false);
        let reader = Some(Reader { attempt: state.attempt });
        drop(state);
        Some(Self { state: self.state.clone(), reader })
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>>
    where
        B: Body<Error: Into<BoxError>>,
    {
        let Some(reader) = &self.reader else { return Poll::Ready(None) };
        let mut state = self.lock();
        if state.is_cancelled || state.attempt != reader.attempt {
            // hyper resets the stream with the code of this error.
            return Poll::Ready(Some(Err(h2::Error::from(h2::Reason::CANCEL).into())));
        }
        if let Some(part) = state.next_kept() {
            state.parts += 1;
            return Poll::Ready(Some(Ok(part.into())));
        }
        let Some(body) = &mut state.body else { return Poll::Ready(None) };
        let polled = body.as_mut().poll_frame(cx);
        state.is_pending = polled.is_pending();
        let Poll::Ready(frame) = polled else {
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        match &frame {
            Some(Ok(frame)) => {
                state.parts += 1;
                state.keep(frame);
                if state.body.as_ref().is_some_and(|body| body.inner.is_end_stream()) {
                    state.body = None;
                }
            }
            None => state.body = None,
            Some(Err(_)) => {
                state.body = None;
                // The body has failed, so it cannot be sent again from the kept parts.
                state.forget();
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool
    where
        B: Body,
    {
        if self.reader.is_none() {
            return true;
        }
        let state = self.lock();
        !state.is_cancelled && state.is_read()
    }

    fn size_hint(&self) -> SizeHint
    where
        B: Body,
    {
        if self.reader.is_none() {
            return SizeHint::with_exact(0);
        }
        let state = self.lock();
        let hint = match &state.body {
            Some(body) => body.inner.size_hint(),
            None => SizeHint::with_exact(0),
        };
        let kept = state.kept.iter().skip(state.position);
        let kept = kept.map(|part| if let Part::Data(data) = part { data.len() as u64 } else { 0 });
        let kept: u64 = kept.sum();
        let mut sum = SizeHint::new();
        sum.set_lower(hint.lower() + kept);
        if let Some(upper) = hint.upper() {
            sum.set_upper(upper + kept);
        }
        sum
    }
}

impl<B> Drop for Shared<B> {
    fn drop(&mut self) {
        if let Some(reader) = &self.reader {
            let mut state = self.lock();
            if state.attempt == reader.attempt {
                state.is_dropped = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, convert::Infallible};

    use http_body_util::BodyExt;
    use tokio::time::timeout;
    use tokio_test::{assert_pending, assert_ready, task};

    use super::*;

    /// A body with one data frame for each element of `lengths`. After the last frame, the body ends if `has_end` is
    /// true. Otherwise, it stays pending forever.
    struct Frames {
        lengths: VecDeque<usize>,
        has_end: bool,
    }

    impl Body for Frames {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.lengths.pop_front() {
                Some(length) => Poll::Ready(Some(Ok(Frame::data(vec![b'x'; length].into())))),
                None if self.has_end => Poll::Ready(None),
                None => Poll::Pending,
            }
        }
    }

    fn body(lengths: &[usize], has_end: bool) -> RequestBody<Frames> {
        let inner = Frames { lengths: lengths.iter().copied().collect(), has_end };
        let progress = Progress::start(&inner, None);
        RequestBody::new(inner, progress, None, None, None)
    }

    #[tokio::test]
    async fn a_small_body_can_be_sent_again() {
        let (sent, handle) = body(&[3, 5], true).share();
        assert!(!handle.has_begun());
        let mut sent = Box::pin(sent);
        sent.frame().await.unwrap().unwrap();
        assert!(handle.has_begun());
        let again = handle.rewind().expect("the first frame was kept");
        let error = sent.frame().await.unwrap().expect_err("only the last attempt may read");
        let error = error.downcast::<h2::Error>().unwrap();
        assert_eq!(error.reason(), Some(h2::Reason::CANCEL));
        let (again, handle) = again.share();
        assert_eq!(Box::pin(again).collect().await.unwrap().to_bytes().len(), 8);
        assert!(handle.has_ended());
    }

    /// The service answers the second attempt before it has taken the kept parts.
    #[tokio::test]
    async fn a_second_attempt_sends_the_kept_parts_after_an_early_answer() {
        for has_read in [0, 1, 2] {
            let (first, handle) = body(&[3, 5, 7], true).share();
            let mut first = Box::pin(first);
            for _ in 0..2 {
                first.frame().await.unwrap().unwrap();
            }
            let (again, handle) = handle.rewind().expect("both frames were kept").share();
            let mut again = Box::pin(again);
            let mut length = 0;
            for _ in 0..has_read {
                length += again.frame().await.unwrap().unwrap().into_data().unwrap().len();
            }
            handle.forget();
            assert!(!handle.has_ended());
            length += again.collect().await.unwrap().to_bytes().len();
            assert_eq!(length, 3 + 5 + 7, "{has_read}");
            assert!(handle.has_ended());
            assert!(handle.rewind().is_none());
        }
    }

    #[tokio::test]
    async fn kept_parts_that_were_not_sent_can_be_cancelled() {
        let (first, handle) = body(&[3], true).share();
        let mut first = Box::pin(first);
        while first.frame().await.is_some() {}
        assert!(handle.has_ended());
        let (again, handle) = handle.rewind().expect("the frame was kept").share();
        assert!(!handle.has_ended());
        handle.cancel();
        assert!(Box::pin(again).frame().await.unwrap().is_err());
    }

    /// A second attempt may use HTTP/1.1, although the first one used HTTP/2.
    #[tokio::test(start_paused = true)]
    async fn a_limit_for_http_1_does_not_apply_while_the_body_is_sent_over_http_2() {
        const LIMIT: Duration = Duration::from_secs(60);
        let inner = Frames { lengths: [3].into(), has_end: false };
        let progress = Progress::start(&inner, None);
        let receive = Receive::new(LIMIT).only_over_http1();
        let (first, handle) = RequestBody::new(inner, progress, Some(receive), None, None).share();
        let mut first = Box::pin(first);
        first.frame().await.unwrap().unwrap();
        timeout(10 * LIMIT, first.frame()).await.expect_err("there is no limit over HTTP/2");
        let mut second = Box::pin(handle.rewind().expect("the frame was kept"));
        second.frame().await.unwrap().unwrap();
        let ended = timeout(3 * LIMIT, second.frame()).await.expect("there is a limit");
        assert!(ended.unwrap().unwrap_err().is::<Stalled>());
    }

    #[tokio::test]
    async fn a_body_cannot_be_sent_again_if_it_is_large_or_the_response_has_begun() {
        for (lengths, is_answered) in [(&[MAX_KEPT + 1][..], false), (&[3, 5], true)] {
            let (sent, handle) = body(lengths, true).share();
            let mut sent = Box::pin(sent);
            sent.frame().await.unwrap().unwrap();
            if is_answered {
                handle.forget();
            }
            assert!(handle.rewind().is_none(), "{lengths:?}");
        }
    }

    #[test]
    fn a_cancelled_body_wakes_its_reader_and_fails() {
        let (sent, handle) = body(&[], false).share();
        let mut sent = Box::pin(sent);
        let mut frame = task::spawn(sent.frame());
        assert_pending!(frame.poll());
        assert!(handle.waits_for_client());
        handle.cancel();
        assert!(frame.is_woken());
        assert!(assert_ready!(frame.poll()).unwrap().is_err());
        assert!(handle.rewind().is_none());
    }

    #[test]
    fn only_announced_trailers_are_sent() {
        let announced = ["x-checksum", "authorization"].map(HeaderName::from_static);
        let announced = AnnouncedTrailers(announced.into());
        for (announced, want) in [(Some(&announced), &["x-checksum"][..]), (None, &[])] {
            let mut trailers = HeaderMap::new();
            for name in ["x-checksum", "authorization", "x-other"] {
                trailers.insert(name, http::HeaderValue::from_static("1"));
            }
            keep_announced(&mut trailers, announced);
            let left: Vec<_> = trailers.keys().map(|name| name.as_str()).collect();
            assert_eq!(left, want);
        }
    }
}
