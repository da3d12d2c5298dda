//! A response body that reports a failure only after all earlier bytes were written to the client.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use hyper::body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower::BoxError;

use super::client_connection::ClientConnection;

pin_project! {
    /// When the body of an HTTP/1.1 response fails, hyper discards the bytes that it has not written yet. The client
    /// might then get nothing, not know that its request was executed, and send the request again (RFC 9110 §9.2.2). So
    /// this body fails only after all earlier bytes are written.
    #[derive(Debug)]
    pub(super) struct DeliveredBody<B> {
        #[pin]
        inner: B,
        failed: Option<BoxError>,
        // `None` over HTTP/2. There, a failure is a frame of its own, so the body fails immediately.
        client: Option<Arc<ClientConnection>>,
    }
}

impl<B> DeliveredBody<B> {
    pub(super) fn new(inner: B, client: Option<Arc<ClientConnection>>) -> Self {
        Self { inner, failed: None, client }
    }
}

impl<B: Body<Error: Into<BoxError>>> Body for DeliveredBody<B> {
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let this = self.project();
        let Some(client) = this.client else {
            return this.inner.poll_frame(cx).map_err(Into::into);
        };
        let error = match this.failed.take() {
            Some(error) => error,
            None => match ready!(this.inner.poll_frame(cx)) {
                Some(Err(error)) => {
                    client.response().set_flushed(false);
                    // hyper polls the body again after the flush that follows this poll.
                    cx.waker().wake_by_ref();
                    error.into()
                }
                Some(Ok(frame)) => return Poll::Ready(Some(Ok(frame))),
                None => return Poll::Ready(None),
            },
        };
        if client.response().is_flushed() {
            return Poll::Ready(Some(Err(error)));
        }
        // No wake-up is needed here: the task was woken when the failure was found, and hyper polls the body again
        // after each flush.
        *this.failed = Some(error);
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.failed.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use bytes::Bytes;
    use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
    use tokio_test::{assert_pending, assert_ready, task};

    use super::*;

    fn breaks_off() -> UnsyncBoxBody<Bytes, io::Error> {
        let frames = [
            Ok(Frame::data(Bytes::from_static(b"part"))),
            Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
        ];
        StreamBody::new(Frames(frames.into_iter())).boxed_unsync()
    }

    struct Frames<I>(I);

    impl<I: Iterator + Unpin> futures_core::Stream for Frames<I> {
        type Item = I::Item;

        fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<I::Item>> {
            Poll::Ready(self.0.next())
        }
    }

    #[test]
    fn a_body_fails_after_the_next_flush() {
        let client = Arc::new(ClientConnection::unlimited());
        client.response().set_flushed(true);
        let mut body = task::spawn(DeliveredBody::new(breaks_off(), Some(client.clone())));
        let mut poll = || body.enter(|cx, body| body.poll_frame(cx));
        assert!(assert_ready!(poll()).unwrap().unwrap().is_data());
        assert_pending!(poll());
        assert_pending!(poll());
        client.response().set_flushed(true);
        assert_ready!(poll()).unwrap().unwrap_err();
    }

    #[test]
    fn over_http2_a_body_fails_immediately() {
        let mut body = task::spawn(DeliveredBody::new(breaks_off(), None));
        let mut poll = || body.enter(|cx, body| body.poll_frame(cx));
        assert!(assert_ready!(poll()).unwrap().unwrap().is_data());
        assert_ready!(poll()).unwrap().unwrap_err();
    }
}
