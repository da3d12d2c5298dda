//! Keeps a request counted as in flight until the body of its response has ended.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Response;
use hyper::body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::client_connection::InFlight;

pin_project! {
    /// The future of a request in flight.
    pub(super) struct CountedResponse<F> {
        #[pin]
        response: F,
        in_flight: Option<InFlight>,
    }
}

impl<F> CountedResponse<F> {
    pub(super) fn new(response: F, in_flight: InFlight) -> Self {
        Self { response, in_flight: Some(in_flight) }
    }
}

impl<F, B, E> Future for CountedResponse<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<CountedBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.response.poll(cx))?;
        let in_flight = this.in_flight.take();
        Poll::Ready(Ok(response.map(|body| CountedBody { body, _in_flight: in_flight })))
    }
}

pin_project! {
    /// The body of a response. hyper drops it when it has passed on the last frame.
    pub(super) struct CountedBody<B> {
        #[pin]
        body: B,
        _in_flight: Option<InFlight>,
    }
}

impl<B: Body> Body for CountedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
