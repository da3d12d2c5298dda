//! Bodies: of answers, and of requests on their way.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::pool::PooledConnection;

pin_project! {
    /// The body of an answer: streamed from the service, or our own.
    #[derive(Debug)]
    pub struct ResponseBody {
        #[pin]
        kind: Kind,
    }
}

pin_project! {
    #[project = KindProj]
    #[derive(Debug)]
    enum Kind {
        // The connection goes back when the body has ended, and is closed with it before.
        Upstream { #[pin] body: Incoming, connection: Option<Box<dyn Connection>> },
        Own { #[pin] body: Full<Bytes> },
    }
}

/// The connection that a body comes on.
trait Connection: fmt::Debug + Send {
    fn poll_frame(
        &mut self,
        body: Pin<&mut Incoming>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>>;

    fn give_back(self: Box<Self>);
}

impl<B: Send> Connection for PooledConnection<B> {
    fn poll_frame(
        &mut self,
        body: Pin<&mut Incoming>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.upstream.poll_frame(body, cx)
    }

    fn give_back(self: Box<Self>) {
        self.give_back();
    }
}

impl ResponseBody {
    /// The body of an answer that comes on a connection.
    pub(super) fn upstream<B: Send + 'static>(
        body: Incoming,
        connection: Box<PooledConnection<B>>,
    ) -> Self {
        let connection: Option<Box<dyn Connection>> = if body.is_end_stream() {
            connection.give_back();
            None
        } else {
            Some(connection)
        };
        Self { kind: Kind::Upstream { body, connection } }
    }
}

impl From<Full<Bytes>> for ResponseBody {
    fn from(body: Full<Bytes>) -> Self {
        Self { kind: Kind::Own { body } }
    }
}

impl From<Bytes> for ResponseBody {
    fn from(bytes: Bytes) -> Self {
        Full::new(bytes).into()
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.project().kind.project() {
            KindProj::Upstream { mut body, connection } => {
                let frame = ready!(match connection {
                    Some(connection) => connection.poll_frame(body.as_mut(), cx),
                    None => body.as_mut().poll_frame(cx),
                });
                let has_ended = match &frame {
                    None => true,
                    Some(Ok(_)) => body.is_end_stream(),
                    Some(Err(_)) => false,
                };
                if has_ended && let Some(connection) = connection.take() {
                    connection.give_back();
                }
                Poll::Ready(frame)
            }
            KindProj::Own { body } => body.poll_frame(cx).map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Upstream { body, .. } => body.is_end_stream(),
            Kind::Own { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Upstream { body, .. } => body.size_hint(),
            Kind::Own { body } => body.size_hint(),
        }
    }
}

/// How the body of a request gets on: a long upload is not a service that does not answer, and a
/// client that breaks off is not a service that does.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    start: Instant,
    /// Without a body nothing gets on.
    shared: Option<Arc<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// The last piece, in milliseconds from the start on.
    last: AtomicU64,
    ended: AtomicBool,
    broken_off: AtomicBool,
}

impl Progress {
    /// Of a request that starts now.
    pub(super) fn of<B: Body>(body: &B) -> Self {
        let is_empty = body.is_end_stream() || body.size_hint().exact() == Some(0);
        let shared = (!is_empty).then(Arc::default);
        Self { start: Instant::now(), shared }
    }

    /// `timeout` after the last piece that was sent.
    pub(super) fn deadline(&self, timeout: Duration) -> Instant {
        let last = self.shared.as_ref().map_or(0, |shared| shared.last.load(Ordering::Relaxed));
        self.start + Duration::from_millis(last) + timeout
    }

    fn made<T, E>(&self, piece: Option<&Result<T, E>>, is_last: bool) {
        let Some(shared) = &self.shared else { return };
        let millis = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        shared.last.store(millis, Ordering::Relaxed);
        if is_last {
            shared.ended.store(true, Ordering::Relaxed);
        }
        if let Some(Err(_)) = piece {
            shared.broken_off.store(true, Ordering::Relaxed);
        }
    }

    /// Whether nothing more of the request is to come.
    pub(super) fn has_ended(&self) -> bool {
        self.shared.as_ref().is_none_or(|shared| shared.ended.load(Ordering::Relaxed))
    }

    pub(super) fn is_broken_off(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.broken_off.load(Ordering::Relaxed))
    }
}

pin_project! {
    /// A request body that notes its progress.
    #[derive(Debug)]
    pub struct RequestBody<B> {
        #[pin]
        inner: B,
        // Known from the beginning.
        has_length: bool,
        progress: Progress,
    }
}

impl<B: Body> RequestBody<B> {
    pub(super) fn new(inner: B, progress: Progress) -> Self {
        let has_length = inner.size_hint().exact().is_some();
        Self { inner, has_length, progress }
    }
}

impl<B: Body> Body for RequestBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.inner.as_mut().poll_frame(cx));
        let is_last = match &frame {
            None => true,
            // Who has all that was announced asks no more, though nobody has said that it is the end.
            Some(Ok(frame)) => {
                frame.is_trailers()
                    || this.inner.is_end_stream()
                    || *this.has_length && this.inner.size_hint().exact() == Some(0)
            }
            Some(Err(_)) => false,
        };
        this.progress.made(frame.as_ref(), is_last);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
