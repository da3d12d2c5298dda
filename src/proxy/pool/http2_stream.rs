//! One exchange (a request and its response) over HTTP/2, on a stream of a shared connection.

use std::{
    fmt, mem,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderMap, Request, Response, Uri, Version,
    header::{CONNECTION, HOST, TRANSFER_ENCODING},
    request::Parts,
};
use hyper::{
    body::{Body, Frame, Incoming},
    client::conn::TrySendError,
};
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tower::BoxError;

use super::{
    exchange_io::{NewHeaders, Resend},
    http2_connection::Http2Connection,
    http2_failure::{Failure, SendAgain},
    shared_body::SharedBody,
    upstream_connection::{GivenBack, SendError, SendResult, WhyGivenBack},
};
use crate::{body_wait, stall::LONG};

/// The right to have one stream of a connection. This right is given back when this value is dropped.
pub(super) struct StreamPermit<B> {
    connection: Arc<Http2Connection<B>>,
    pool: Weak<dyn StreamPool>,
}

/// The pool of the connections. When a stream ends, the pool can give its place to another request.
pub(super) trait StreamPool: Send + Sync {
    /// Returns how often the reaper has run.
    fn tick(&self) -> u64;

    /// Offers free streams to the requests that wait for a connection.
    fn offer_streams(self: Arc<Self>);
}

impl<B> StreamPermit<B> {
    /// Wraps a stream that [`Http2Connection::try_open`] has reserved.
    pub(super) fn new(connection: Arc<Http2Connection<B>>, pool: Weak<dyn StreamPool>) -> Self {
        Self { connection, pool }
    }
}

impl<B> Drop for StreamPermit<B> {
    fn drop(&mut self) {
        let pool = self.pool.upgrade();
        self.connection.close_stream(pool.as_ref().map_or(0, |pool| pool.tick()));
        if let Some(pool) = pool {
            pool.offer_streams();
        }
    }
}

type Answer<B> = Pin<
    Box<dyn Future<Output = Result<Response<Incoming>, TrySendError<Request<Pin<Box<B>>>>>> + Send>,
>;

/// An exchange. If it is dropped before its end, the stream is reset with the code `CANCEL`.
pub(super) struct Http2Stream<B> {
    permit: StreamPermit<B>,
    sent: Option<Box<Sent<B>>>,
    timer: Pin<Box<Sleep>>,
}

struct Sent<B> {
    progress: Progress<B>,
    /// Ends the body that hyper sends, if it has not ended.
    cancel: fn(&B),
    body: B,
    /// The value of [`Http2Connection::received`] when the request was sent.
    received: u64,
}

enum Progress<B> {
    Waiting {
        answer: Answer<B>,
        /// The request as the caller passed it, without its body.
        head: Box<Parts>,
        resend: Resend,
        was_sent_again: bool,
    },
    /// The request will be sent again when it has a new credential.
    WantsHeaders {
        error: hyper::Error,
        head: Box<Parts>,
        new: Option<NewHeaders>,
    },
    Answered,
    Failed,
}

/// Marks a request that was sent again. A request is sent again at most once ([D29](crate::decisions#d29)).
#[derive(Clone, Copy)]
struct SentAgain;

impl<B> Http2Stream<B> {
    pub(super) fn new(permit: StreamPermit<B>) -> Self {
        // The timer is made here, because the response may be read outside of a runtime, where no timer can be made.
        let timer = Box::pin(sleep_until(Instant::now() + LONG));
        Self { permit, sent: None, timer }
    }

    pub(super) fn retire_connection(&self) {
        self.permit.connection.retire();
    }

    pub(super) fn wants_headers(&self) -> bool {
        let progress = self.sent.as_ref().map(|sent| &sent.progress);
        matches!(progress, Some(Progress::WantsHeaders { new: None, .. }))
    }

    #[cold]
    pub(super) fn set_new_headers(&mut self, headers: NewHeaders) {
        if let Some(sent) = &mut self.sent
            && let Progress::WantsHeaders { new, .. } = &mut sent.progress
        {
            *new = Some(headers);
        }
    }

    pub(super) fn poll_deadline(
        &mut self,
        cx: &mut Context<'_>,
        deadline: impl Fn() -> Instant,
    ) -> Poll<()> {
        loop {
            let deadline = deadline();
            if deadline <= Instant::now() {
                break;
            }
            if self.timer.deadline() != deadline {
                self.timer.as_mut().reset(deadline);
            }
            ready!(self.timer.as_mut().poll(cx));
        }
        // If nothing has arrived since the request was sent, the connection may be dead. So the next request gets
        // another connection.
        let connection = &self.permit.connection;
        if self.sent.as_ref().is_some_and(|sent| sent.received == connection.received()) {
            connection.retire();
        }
        Poll::Ready(())
    }

    pub(super) fn poll_frame(
        &self,
        body: Pin<&mut Incoming>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        body.poll_frame(cx)
    }
}

impl<B> Http2Stream<B>
where
    B: SharedBody + Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    pub(super) fn send(&mut self, request: Request<B>, resend: Resend) {
        let (mut head, body) = request.into_parts();
        let was_sent_again = head.extensions.remove::<SentAgain>().is_some();
        let (body, handle) = body.share();
        let connection = &self.permit.connection;
        let request = Request::from_parts(http2_head(&head, connection.uri()), Box::pin(body));
        let received = connection.received();
        let answer = Box::pin(connection.sender().try_send_request(request));
        let head = Box::new(head);
        let progress = Progress::Waiting { answer, head, resend, was_sent_again };
        self.sent = Some(Box::new(Sent { progress, cancel: B::cancel, body: handle, received }));
    }

    pub(super) fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<SendResult<B>> {
        let sent = self.sent.as_mut().expect("`send` is called first");
        let Progress::Waiting { answer, .. } = &mut sent.progress else {
            return self.poll_new_headers();
        };
        let failed = match answer.as_mut().poll(cx) {
            Poll::Pending => {
                if sent.body.waits_for_client() {
                    body_wait::set_pending();
                }
                return Poll::Pending;
            }
            Poll::Ready(Ok(response)) => {
                sent.progress = Progress::Answered;
                sent.body.forget();
                return Poll::Ready(Ok(response));
            }
            Poll::Ready(Err(failed)) => failed,
        };
        let is_unsent = failed.message().is_some();
        let error = failed.into_error();
        let Progress::Waiting { head, resend, was_sent_again, .. } =
            mem::replace(&mut sent.progress, Progress::Failed)
        else {
            unreachable!("the progress was checked above");
        };
        let failure = Failure::of(&error, is_unsent);
        if failure == Failure::ConnectionLost {
            self.permit.connection.retire();
        }
        match SendAgain::after(failure, resend, sent.body.has_begun(), was_sent_again) {
            SendAgain::No if failure == Failure::ConnectionLost && resend == Resend::ByCaller => {
                Poll::Ready(Err(SendError::unanswered(error)))
            }
            SendAgain::No => Poll::Ready(Err(SendError::new(error, None))),
            SendAgain::Same => {
                let why = match failure {
                    Failure::Unsent => WhyGivenBack::Unsent,
                    Failure::Refused => WhyGivenBack::Refused,
                    Failure::Unprocessed => WhyGivenBack::Unprocessed,
                    Failure::ConnectionLost | Failure::Other => WhyGivenBack::Closed,
                };
                Poll::Ready(Err(self.give_back(error, head, why)))
            }
            SendAgain::WithNewHeaders => {
                sent.progress = Progress::WantsHeaders { error, head, new: None };
                Poll::Pending
            }
        }
    }

    #[cold]
    fn poll_new_headers(&mut self) -> Poll<SendResult<B>> {
        let sent = self.sent.as_mut().expect("`send` is called first");
        match mem::replace(&mut sent.progress, Progress::Failed) {
            Progress::WantsHeaders { error, head, new: None } => {
                sent.progress = Progress::WantsHeaders { error, head, new: None };
                Poll::Pending
            }
            Progress::WantsHeaders { error, mut head, new: Some(new) } => {
                let is_replaced = new.is_some_and(|new| replace_headers(&mut head.headers, &new));
                Poll::Ready(Err(if is_replaced {
                    self.give_back(error, head, WhyGivenBack::Closed)
                } else {
                    SendError::new(error, None)
                }))
            }
            _ => panic!("polled after completion"),
        }
    }

    /// Gives the request back, so that the caller sends it again. If the body cannot be sent again, returns only the
    /// error.
    fn give_back(
        &mut self,
        error: hyper::Error,
        mut head: Box<Parts>,
        why: WhyGivenBack,
    ) -> SendError<B> {
        let Some(sent) = self.sent.take() else { return SendError::new(error, None) };
        let Some(body) = sent.body.rewind() else { return SendError::new(error, None) };
        head.extensions.insert(SentAgain);
        let request = Request::from_parts(*head, body);
        SendError::new(error, Some(GivenBack { request, why }))
    }

    /// Ends the exchange after the end of the response. The rest of the request's body is sent in a separate task. The
    /// stream is reset if hyper takes no part of the body for one to two times [`Http2Connection::max_stall`]. In this
    /// case, the service accepts no part, or the client sends no part.
    pub(super) fn finish(mut self) {
        let Some(sent) = self.sent.take() else { return };
        let Sent { body, .. } = *sent;
        if body.has_ended() {
            return;
        }
        let connection = &self.permit.connection;
        let (runtime, limit) = (connection.runtime().clone(), connection.max_stall());
        runtime.spawn(async move {
            // The stream stays open meanwhile.
            let _stream = self;
            drain(body, limit).await;
        });
    }
}

/// Waits until the body has ended. Cancels the body if hyper takes no part of it for `limit` to 2 × `limit`.
async fn drain<B: SharedBody>(body: B, limit: Duration) {
    let mut before = None;
    while !body.has_ended() {
        let parts = body.parts();
        if before == Some(parts) {
            body.cancel();
            return;
        }
        before = Some(parts);
        sleep(limit).await;
    }
}

impl<B> Drop for Http2Stream<B> {
    fn drop(&mut self) {
        if let Some(sent) = &self.sent {
            (sent.cancel)(&sent.body);
        }
    }
}

/// Returns the head of a request as HTTP/2 sends it. The path gets scheme and authority, which replace `Host`. `TE:
/// trailers` stays (RFC 9113 §8.2.2).
fn http2_head(head: &Parts, service: &Uri) -> Parts {
    let mut head = head.clone();
    for name in [HOST, CONNECTION, TRANSFER_ENCODING] {
        head.headers.remove(name);
    }
    let mut uri = service.clone().into_parts();
    uri.path_and_query = mem::take(&mut head.uri).into_parts().path_and_query;
    head.uri = Uri::from_parts(uri)
        .expect("the service has scheme and authority, and the path begins with a slash");
    head.version = Version::HTTP_2;
    head
}

/// Replaces headers by the headers in `new`. Returns false, and changes nothing, if `headers` does not contain each of
/// these names exactly once. In this case, the head has changed since the scheme prepared it.
#[must_use]
fn replace_headers(headers: &mut HeaderMap, new: &HeaderMap) -> bool {
    let is_single = |name| headers.get_all(name).iter().count() == 1;
    if !new.keys().all(is_single) {
        return false;
    }
    for (name, value) in new {
        headers.insert(name, value.clone());
    }
    true
}

impl<B> fmt::Debug for Http2Stream<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http2Stream")
            .field("connection", &self.permit.connection)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_head_has_an_authority_and_no_headers_of_http_1() {
        let request = Request::post("/x/y?z")
            .header("host", "zos:1")
            .header("te", "trailers")
            .header("connection", "te")
            .header("transfer-encoding", "chunked")
            .header("accept", "*/*");
        let (head, ()) = request.body(()).unwrap().into_parts();
        let head = http2_head(&head, &Uri::from_static("https://zos:1/"));
        assert_eq!(head.uri, "https://zos:1/x/y?z");
        let mut names: Vec<_> = head.headers.keys().map(|name| name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "te"]);
    }

    #[test]
    fn each_new_header_replaces_one_header() {
        let headers = |lines: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(*name, HeaderValue::from_static(value));
            }
            headers
        };
        let new = headers(&[("authorization", "Basic NEW")]);
        let mut head = headers(&[("authorization", "Basic OLD"), ("accept", "*/*")]);
        assert!(replace_headers(&mut head, &new));
        assert_eq!(head["authorization"], "Basic NEW");
        assert!(!replace_headers(&mut headers(&[("accept", "*/*")]), &new));
        let two = &[("authorization", "a"), ("authorization", "b")];
        assert!(!replace_headers(&mut headers(two), &new));
    }
}
