//! The future of a request on a connection to a client.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{
    HeaderValue, Response,
    header::{CONNECTION, CONTENT_LENGTH},
};
use hyper::body::Body;
use pin_project_lite::pin_project;

use super::{
    client_connection::ClientConnection, delivered_body::DeliveredBody,
    request_framing::RequestFraming,
};

pin_project! {
    /// Waits for the response of `F`, and passes it to hyper.
    ///
    /// If the request has a body, this takes two polls. In the first poll, `F` becomes ready. This poll keeps the
    /// response, and drops `F`. This also drops the body of the request, unless a task still reads the body. If the
    /// body was dropped before its end, hyper cannot read the next request. The second poll passes the response to
    /// hyper, which then announces in the response that it closes the connection (RFC 9112 §9.6).
    pub(super) struct Answering<F, B> {
        #[pin]
        stage: Stage<F, B>,
        request: RequestFraming,
        // `None` over HTTP/2.
        client: Option<Arc<ClientConnection>>,
    }
}

pin_project! {
    #[project = StageProj]
    enum Stage<F, B> {
        Called { #[pin] future: F },
        Answered { response: Option<Response<B>> },
    }
}

impl<F, B> Answering<F, B> {
    pub(super) fn http1(future: F, request: RequestFraming, client: Arc<ClientConnection>) -> Self {
        Self { stage: Stage::Called { future }, request, client: Some(client) }
    }

    /// Waits for the response to an HTTP/2 request. hyper gets the response immediately, because the gateway can refuse
    /// a body over HTTP/2 without closing the connection.
    pub(super) fn http2(future: F) -> Self {
        let request = RequestFraming { has_body: false, is_http10: false };
        Self { stage: Stage::Called { future }, request, client: None }
    }
}

impl<F, B, E> Future for Answering<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<DeliveredBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let mut response = match this.stage.as_mut().project() {
            StageProj::Called { future } => {
                let response = ready!(future.poll(cx))?;
                if this.request.has_body {
                    this.stage.set(Stage::Answered { response: Some(response) });
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                response
            }
            StageProj::Answered { response } => response.take().expect("polled after completion"),
        };
        let client = this.client.take();
        if let Some(client) = &client {
            let state = client.response();
            state.set_answered();
            // A response with status 101 needs no `Connection: close`, because no HTTP response follows it.
            if state.announces_close() && !state.is_upgraded() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            let ends_with_connection = this.request.is_http10
                && !response.headers().contains_key(CONTENT_LENGTH)
                && response.body().size_hint().exact().is_none();
            state.set_ends_with_connection(ends_with_connection);
        }
        Poll::Ready(Ok(response.map(|body| DeliveredBody::new(body, client))))
    }
}
