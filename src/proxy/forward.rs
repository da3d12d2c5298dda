//! Sends a request to the service of its route.
//!
//! 1. Only what [`PassTicketLayer`](crate::layer::PassTicketLayer) has prepared is sent, or what is
//!    routed with the scheme `bypass`; anything else is answered with 500.
//! 2. The prefix of the path is swapped, `Host` and `X-Forwarded-*` are set, hop-by-hop headers
//!    removed, both ways.
//! 3. Bodies are streamed both ways. Connections are kept and shared. When the client goes away,
//!    the request to the service is given up.
//! 4. A service that cannot be reached: 503; one that gives no answer in time: 504; one that
//!    breaks off: 502. The client gets a fixed text, the log the reason.

use std::{
    convert::Infallible,
    fmt, mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{
    Extensions, HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version,
    header::{CONTENT_LENGTH, TRANSFER_ENCODING},
    uri::PathAndQuery,
};
use hyper::{
    body::{Body, Incoming},
    rt::{Read, Write},
};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};
use tower_service::Service;

use super::{
    body::{Progress, RequestBody, ResponseBody},
    connections::{BoxError, ConnectError, Connecting, Connections, Kept, Lease},
    forwarded::Known,
    wire::Sending,
};
use crate::{
    connection::ConnectionInfo,
    error_chain::ErrorChain,
    layer::{ReadyToForward, Rejection, Route, Scheme, join_cookies, strip_hop_by_hop},
    messages::{self, ApiMessage},
};

/// How long a service may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the head of the answer, counted from the last piece of the request that was sent.
    ///
    /// A service that has answered, and then takes nothing more of the request, is given up after a
    /// quarter to a half of that, but not before one to two seconds have passed, and not while the client
    /// still reads the answer.
    pub response: Duration,
    /// How long an unused connection to a service is kept.
    pub idle: Duration,
}

impl Default for Timeouts {
    /// 60 s for an answer, as `apiml.connection.timeout`; unused connections are kept for 30 s.
    fn default() -> Self {
        Self { response: Duration::from_secs(60), idle: Duration::from_secs(30) }
    }
}

/// The service at the end of the stack. `C` connects, `B` is the body of requests.
///
/// Clones share the connections to the services. Use a clone for each runtime: one of its own keeps to
/// the connections of the runtime that it was first called in.
pub struct Forward<C, B> {
    connections: Arc<Connections<C, RequestBody<B>>>,
    response_timeout: Duration,
    /// The connections of the route that was used last: mostly it is used next.
    last: Option<(Arc<Route>, Arc<Kept<RequestBody<B>>>)>,
    known: Known,
}

impl<C, B> Forward<C, B> {
    /// Forwards over connections that `connector` makes; a connector that refuses to wait for
    /// ever is up to you.
    pub fn new(connector: C, timeouts: Timeouts) -> Self {
        Self {
            connections: Arc::new(Connections::new(connector, timeouts)),
            response_timeout: timeouts.response,
            last: None,
            known: Known::default(),
        }
    }
}

impl<C, B> Clone for Forward<C, B> {
    fn clone(&self) -> Self {
        Self {
            connections: self.connections.clone(),
            response_timeout: self.response_timeout,
            last: None,
            known: Known::default(),
        }
    }
}

impl<C, B> fmt::Debug for Forward<C, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forward")
            .field("response_timeout", &self.response_timeout)
            .finish_non_exhaustive()
    }
}

impl<C, B> Forward<C, B>
where
    C: Service<Uri, Error: Into<BoxError>, Future: Send> + Clone + Send + 'static,
    C::Response: Read + Write + Unpin + Send + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    fn begin(
        &mut self,
        request: Request<B>,
        route: &Arc<Route>,
        progress: &Progress,
    ) -> Result<Exchange<C, B>, http::Error> {
        let kept = match &self.last {
            Some((last, kept)) if Arc::ptr_eq(last, route) => kept.clone(),
            _ => {
                let kept = self.connections.to(route.upstream())?;
                self.last = Some((route.clone(), kept.clone()));
                kept
            }
        };
        let request = southbound(request, route, progress, &mut self.known, kept.host())?;
        Ok(match kept.take() {
            Some(lease) => {
                // Only what was used before can have been closed, and then there is a second try.
                let again = Some((self.connections.clone(), kept));
                Exchange::send(lease, request, again)
            }
            None => Exchange::Connecting {
                connecting: self
                    .connections
                    .connect(&kept, progress.deadline(self.response_timeout)),
                request: Box::new(request),
            },
        })
    }
}

impl<C, B> Service<Request<B>> for Forward<C, B>
where
    C: Service<Uri, Error: Into<BoxError>, Future: Send> + Clone + Send + 'static,
    C::Response: Read + Write + Unpin + Send + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = ForwardFuture<C, B>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let route = match route_of(request.extensions()) {
            Ok(route) => route,
            Err(rejection) => return ForwardFuture::answered(rejection.into_response()),
        };
        let progress = Progress::of(request.body());
        match self.begin(request, &route, &progress) {
            Ok(exchange) => ForwardFuture {
                state: State::Waiting { exchange, timeout: self.response_timeout, progress, route },
            },
            Err(error) => {
                tracing::error!(service = %route.service(), %error, "cannot build the request");
                let message = ApiMessage::new(&messages::INTERNAL);
                ForwardFuture::answered(own(message, StatusCode::INTERNAL_SERVER_ERROR))
            }
        }
    }
}

fn route_of(extensions: &Extensions) -> Result<Arc<Route>, Rejection> {
    if let Some(prepared) = extensions.get::<ReadyToForward>() {
        return Ok(prepared.route().clone());
    }
    match extensions.get::<Arc<Route>>() {
        Some(route) if route.scheme() == Scheme::Bypass => Ok(route.clone()),
        Some(_) => Err(Rejection::misassembled("Forward needs PassTicket before it")),
        None => Err(Rejection::misassembled("Forward needs Route before it")),
    }
}

/// The request as the service gets it.
fn southbound<B: Body>(
    request: Request<B>,
    route: &Route,
    progress: &Progress,
    known: &mut Known,
    host: &HeaderValue,
) -> Result<Request<RequestBody<B>>, http::Error> {
    let (mut head, body) = request.into_parts();
    strip_hop_by_hop(&mut head.headers);
    join_cookies(&mut head.headers);
    let headers = &mut head.headers;
    let unsized_body = !body.is_end_stream() && body.size_hint().exact().is_none();
    if unsized_body && !headers.contains_key(CONTENT_LENGTH) {
        // Without it the client would take a GET for one without a body, and drop what there is.
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let connection = head.extensions.get::<ConnectionInfo>();
    known.set(&mut head.headers, &head.uri, host, route.prefix(), connection);
    let path = PathAndQuery::from_maybe_shared(Bytes::from(route.southbound_path(&head.uri)))?;
    head.uri = Uri::from(path);
    head.version = Version::HTTP_11;
    // They are about the connection of the client.
    head.extensions = Extensions::new();
    Ok(Request::from_parts(head, RequestBody::new(body, progress.clone())))
}

pin_project! {
    /// The answer of the service, or ours.
    pub struct ForwardFuture<C, B> {
        #[pin]
        state: State<C, B>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<C, B> {
        Waiting {
            exchange: Exchange<C, B>,
            timeout: Duration,
            progress: Progress,
            route: Arc<Route>,
        },
        Answered { response: Option<Response<ResponseBody>> },
    }
}

impl<C, B> ForwardFuture<C, B> {
    fn answered(response: Response<ResponseBody>) -> Self {
        Self { state: State::Answered { response: Some(response) } }
    }
}

impl<C, B> fmt::Debug for ForwardFuture<C, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwardFuture").finish_non_exhaustive()
    }
}

/// How to make a new connection.
type Again<C, B> = (Arc<Connections<C, RequestBody<B>>>, Arc<Kept<RequestBody<B>>>);

/// A request on its way to the service.
enum Exchange<C, B> {
    Connecting {
        connecting: Connecting<RequestBody<B>>,
        request: Box<Request<RequestBody<B>>>,
    },
    /// Handed to its connection, which has not been polled since.
    Queued {
        sending: Sending<RequestBody<B>>,
        lease: Box<Lease<RequestBody<B>>>,
        /// Where this connection may turn out to be closed.
        again: Option<Again<C, B>>,
    },
    Sending {
        sending: Sending<RequestBody<B>>,
        lease: Box<Lease<RequestBody<B>>>,
        again: Option<Again<C, B>>,
    },
    Over,
}

/// Why the service gave no answer.
enum ExchangeError {
    Connect(BoxError),
    BrokenOff(hyper::Error),
    TimedOut,
}

impl From<ConnectError> for ExchangeError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::TimedOut => Self::TimedOut,
            ConnectError::Failed(error) => Self::Connect(error),
        }
    }
}

impl<C, B> Exchange<C, B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    fn send(
        mut lease: Box<Lease<RequestBody<B>>>,
        request: Request<RequestBody<B>>,
        again: Option<Again<C, B>>,
    ) -> Self {
        let sending = lease.wire.send(request);
        Self::Queued { sending, lease, again }
    }
}

impl<C, B> Exchange<C, B>
where
    C: Service<Uri, Error: Into<BoxError>, Future: Send> + Clone + Send + 'static,
    C::Response: Read + Write + Unpin + Send + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        timeout: Duration,
        progress: &Progress,
    ) -> Poll<Result<Response<ResponseBody>, ExchangeError>> {
        loop {
            // Each state is a few pointers: to move one out, and back while it lasts, costs nothing.
            *self = match mem::replace(self, Self::Over) {
                Self::Connecting { mut connecting, request } => {
                    let Poll::Ready(lease) = connecting.as_mut().poll(cx) else {
                        *self = Self::Connecting { connecting, request };
                        return Poll::Pending;
                    };
                    Self::send(lease?, *request, None)
                }
                Self::Queued { sending, lease, again } => {
                    // After whoever else is ready: requests that are written one after the other
                    // wake the service once, and to wake somebody costs more than to write.
                    *self = Self::Sending { sending, lease, again };
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Self::Sending { mut sending, mut lease, again } => {
                    let Poll::Ready(sent) = lease.wire.poll_sent(&mut sending, cx) else {
                        let timer = &mut lease.wire.timer;
                        if poll_time_up(timer, cx, timeout, progress).is_ready() {
                            return Poll::Ready(Err(ExchangeError::TimedOut));
                        }
                        *self = Self::Sending { sending, lease, again };
                        return Poll::Pending;
                    };
                    let mut error = match sent {
                        Ok(response) => {
                            return Poll::Ready(Ok(northbound(response, lease, progress)));
                        }
                        Err(error) => error,
                    };
                    let (Some(request), Some((connections, kept))) = (error.take_message(), again)
                    else {
                        return Poll::Ready(Err(ExchangeError::BrokenOff(error.into_error())));
                    };
                    // Nothing of it was sent: the connection had been closed.
                    match kept.take() {
                        Some(lease) => Self::send(lease, request, Some((connections, kept))),
                        None => Self::Connecting {
                            connecting: connections.connect(&kept, progress.deadline(timeout)),
                            request: Box::new(request),
                        },
                    }
                }
                Self::Over => panic!("polled after completion"),
            }
        }
    }
}

impl<C, B> Future for ForwardFuture<C, B>
where
    C: Service<Uri, Error: Into<BoxError>, Future: Send> + Clone + Send + 'static,
    C::Response: Read + Write + Unpin + Send + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    type Output = Result<Response<ResponseBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Answered { response } => {
                Poll::Ready(Ok(response.take().expect("polled after completion")))
            }
            StateProj::Waiting { exchange, timeout, progress, route } => {
                let result = ready!(exchange.poll(cx, *timeout, progress));
                Poll::Ready(Ok(
                    result.unwrap_or_else(|error| failed(&error, *timeout, route, progress))
                ))
            }
        }
    }
}

/// Whether the service has had its time. `timer` may have been set for the exchange before.
fn poll_time_up(
    timer: &mut Pin<Box<Sleep>>,
    cx: &mut Context<'_>,
    timeout: Duration,
    progress: &Progress,
) -> Poll<()> {
    loop {
        ready!(timer.as_mut().poll(cx));
        let deadline = progress.deadline(timeout);
        if deadline <= Instant::now() {
            return Poll::Ready(());
        }
        timer.as_mut().reset(deadline);
    }
}

fn northbound<B: Send + 'static>(
    mut response: Response<Incoming>,
    mut lease: Box<Lease<RequestBody<B>>>,
    progress: &Progress,
) -> Response<ResponseBody> {
    lease.is_answered = true;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        // The request had no `Upgrade` (RFC 9110 §7.8), and HTTP/2 has no such status (RFC 9113 §8.6).
        tracing::warn!("a service switches protocols, which no request asks for");
        return own(ApiMessage::new(&messages::UNEXPECTED_STATUS), StatusCode::BAD_GATEWAY);
    }
    if !progress.has_ended() {
        lease.wire.drive_itself();
    }
    strip_hop_by_hop(response.headers_mut());
    // hyper reads it only where there is a body, and clients of HTTP/2 refuse one that is no number.
    if response.body().is_end_stream() && !has_valid_length(response.headers()) {
        response.headers_mut().remove(CONTENT_LENGTH);
    }
    // It is about the connection to the service.
    *response.version_mut() = Version::HTTP_11;
    response.map(|body| ResponseBody::upstream(body, lease))
}

/// Whether there is at most one `Content-Length`, and it is a number (RFC 9110 §8.6).
fn has_valid_length(headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let is_number = |value: &HeaderValue| {
        let digits = value.as_bytes();
        digits.iter().all(u8::is_ascii_digit)
            && value.to_str().is_ok_and(|n| n.parse::<u64>().is_ok())
    };
    lengths.next().is_none_or(is_number) && lengths.next().is_none()
}

#[cold]
fn failed(
    error: &ExchangeError,
    timeout: Duration,
    route: &Route,
    progress: &Progress,
) -> Response<ResponseBody> {
    let (service, upstream) = (route.service(), route.upstream());
    let cause: &dyn std::error::Error = match error {
        ExchangeError::Connect(error) => &**error,
        ExchangeError::BrokenOff(error) => error,
        ExchangeError::TimedOut => {
            tracing::warn!(%service, %upstream, ?timeout, "no answer in time");
            let message = ApiMessage::new(&messages::UNEXPECTED_STATUS);
            return own(message, StatusCode::GATEWAY_TIMEOUT);
        }
    };
    let cause = ErrorChain(cause);
    if progress.is_broken_off() {
        tracing::debug!(%service, %cause, "the client broke off");
        let message = ApiMessage::with(&messages::BAD_REQUEST, &["the body breaks off"]);
        return own(message, StatusCode::BAD_REQUEST);
    }
    if let ExchangeError::Connect(_) = error {
        tracing::warn!(%service, %upstream, %cause, "cannot reach the service");
        let message =
            ApiMessage::with(&messages::SERVICE_UNAVAILABLE, &["the service cannot be reached"]);
        return own(message, StatusCode::SERVICE_UNAVAILABLE);
    }
    tracing::warn!(%service, %upstream, %cause, "the service broke off");
    own(ApiMessage::new(&messages::UNEXPECTED_STATUS), StatusCode::BAD_GATEWAY)
}

#[cold]
fn own(message: ApiMessage, status: StatusCode) -> Response<ResponseBody> {
    message.into_response(status).map(ResponseBody::from)
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{
            Mutex,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use http_body_util::{BodyExt, Full};
    use hyper::body::Frame;
    use hyper_util::rt::TokioIo;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        sync::oneshot,
        time::{sleep, timeout},
    };
    use tower::{ServiceExt, service_fn};

    use super::*;
    use crate::{
        layer::{Route, Upstream},
        token::ServiceId,
    };

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn bypass() -> Arc<Route> {
        let upstream = Upstream::parse("http://service").unwrap();
        let service = ServiceId::new("service").unwrap();
        Arc::new(Route::new(service, "", upstream, Scheme::Bypass).unwrap())
    }

    /// Hands `stream` over, to the first who connects.
    fn connector(
        stream: DuplexStream,
    ) -> impl Service<Uri, Response = TokioIo<DuplexStream>, Error = io::Error, Future: Send>
    + Clone
    + Send
    + 'static {
        let stream = Arc::new(Mutex::new(Some(stream)));
        service_fn(move |_: Uri| {
            let stream = stream.lock().unwrap().take().unwrap();
            async { Ok(TokioIo::new(stream)) }
        })
    }

    /// Answers each request after so many seconds, as its path says.
    async fn serve(mut stream: DuplexStream) {
        let mut request = Vec::new();
        while stream.read_buf(&mut request).await.is_ok_and(|read| read > 0) {
            if request.ends_with(b"\r\n\r\n") {
                let line = String::from_utf8(request.split_off(0)).unwrap();
                let secs = line.split(['/', ' ']).nth(2).unwrap().parse().unwrap();
                sleep(Duration::from_secs(secs)).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_exchange_has_its_own_time_on_a_connection_that_is_kept() {
        let connected = Arc::new(AtomicUsize::new(0));
        let counted = connected.clone();
        let connector = service_fn(move |_: Uri| {
            counted.fetch_add(1, Ordering::Relaxed);
            let (ours, theirs) = duplex(4096);
            tokio::spawn(serve(theirs));
            async { Ok::<_, io::Error>(TokioIo::new(ours)) }
        });
        let timeouts = Timeouts { response: TIMEOUT, idle: Duration::from_secs(60) };
        let forward = Forward::new(connector, timeouts);
        struct Case {
            pause: u64,
            answer: u64,
            want: (u16, u64),
        }
        // The timer of the connection was set at the first exchange, for ten seconds.
        for Case { pause, answer, want } in [
            Case { pause: 0, answer: 0, want: (200, 0) },
            Case { pause: 9, answer: 6, want: (200, 6) },
            Case { pause: 30, answer: 9, want: (200, 9) },
            Case { pause: 5, answer: 99, want: (504, 10) },
        ] {
            sleep(Duration::from_secs(pause)).await;
            let path = format!("/service/{answer}");
            let request = Request::get(path).extension(bypass());
            let request = request.body(Full::<Bytes>::default()).unwrap();
            let start = Instant::now();
            let response = forward.clone().oneshot(request).await.unwrap();
            let got = (response.status().as_u16(), start.elapsed().as_secs());
            assert_eq!(got, want, "after {pause} s, answered after {answer} s");
            // Its end gives the connection back.
            drop(response.into_body().collect().await.unwrap());
        }
        assert_eq!(connected.load(Ordering::Relaxed), 1);
    }

    /// Answers as soon as the first byte is there, then reads to the end, which it tells.
    async fn answer_early(
        mut stream: DuplexStream,
        answer: &'static str,
        told: oneshot::Sender<usize>,
    ) {
        stream.read_u8().await.unwrap();
        stream.write_all(answer.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        told.send(rest.len()).unwrap();
    }

    #[tokio::test]
    async fn what_a_service_has_not_read_when_it_answers_still_arrives() {
        const LARGE: usize = 32 * 1024;
        const EMPTY: &str = "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n";
        const FULL: &str = "HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\nok";
        const HALF: &str = "HTTP/1.1 202 Accepted\r\ncontent-length: 9\r\n\r\nhalf";
        for (header, body, answer) in [
            (0, LARGE, EMPTY),
            (0, LARGE, FULL),
            // The client goes away before it has all of it.
            (0, LARGE, HALF),
            (LARGE, 0, EMPTY),
            (LARGE, 0, FULL),
            (LARGE, 0, HALF),
        ] {
            let (told, read) = oneshot::channel();
            // All of the request is taken, but little of it goes through.
            let (ours, theirs) = duplex(1024);
            tokio::spawn(answer_early(theirs, answer, told));
            let forward = Forward::new(connector(ours), Timeouts::default());
            let request = Request::post("/service/x").extension(bypass());
            let request = request.header("x-large", "x".repeat(header));
            let request = request.body(Full::<Bytes>::from(vec![b'y'; body])).unwrap();
            let mut response = forward.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), 202);
            if answer != EMPTY {
                response.frame().await.unwrap().unwrap();
            }
            drop(response);
            let rest = timeout(TIMEOUT, read).await.expect("it arrives").unwrap();
            assert!(rest > LARGE, "{rest} bytes: {header}, {body}, {answer:?}");
        }
    }

    /// So many pieces of 16 KiB.
    struct Pieces(usize);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let left = self.0.checked_sub(1);
            self.0 = left.unwrap_or_default();
            Poll::Ready(left.map(|_| Ok(Frame::data(Bytes::from_static(&[b'y'; 16 * 1024])))))
        }
    }

    /// What a service does once it has answered.
    #[derive(Clone, Copy, Debug)]
    enum Then {
        /// A little each time, for many times as long as it has for an answer.
        ReadsSlowly,
        /// For ever.
        ReadsNothing,
        /// Waits long, then answers the rest and reads the rest.
        Pauses,
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_is_not_taken_and_not_waited_for_is_given_up() {
        // More than hyper takes before it has written something.
        const PIECES: usize = 64;
        for then in [Then::ReadsSlowly, Then::ReadsNothing, Then::Pauses] {
            let (told, read) = oneshot::channel();
            let (ours, mut theirs) = duplex(1024);
            tokio::spawn(async move {
                let mut rest = vec![0; 512];
                let read = theirs.read(&mut rest).await.unwrap();
                let length = if let Then::Pauses = then { 4 } else { 2 };
                let head = format!("HTTP/1.1 202 Accepted\r\ncontent-length: {length}\r\n\r\nok");
                theirs.write_all(head.as_bytes()).await.unwrap();
                let mut all = read;
                match then {
                    Then::ReadsSlowly => loop {
                        sleep(TIMEOUT / 5).await;
                        match theirs.read(&mut rest).await.unwrap() {
                            0 => break,
                            read => all += read,
                        }
                    },
                    Then::ReadsNothing => {
                        sleep(TIMEOUT).await;
                        all += theirs.read_to_end(&mut Vec::new()).await.unwrap();
                    }
                    Then::Pauses => {
                        sleep(10 * TIMEOUT).await;
                        theirs.write_all(b"ok").await.unwrap();
                        all += theirs.read_to_end(&mut Vec::new()).await.unwrap();
                    }
                }
                told.send(all).unwrap();
            });
            let timeouts = Timeouts { response: TIMEOUT, ..Timeouts::default() };
            let forward = Forward::new(connector(ours), timeouts);
            let request = Request::post("/service/x").extension(bypass());
            let request = request.body(Pieces(PIECES)).unwrap();
            let response = forward.oneshot(request).await.unwrap();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body, if let Then::Pauses = then { "okok" } else { "ok" });
            let all_read = read.await.unwrap() > PIECES * 16 * 1024;
            assert_eq!(all_read, !matches!(then, Then::ReadsNothing), "{then:?}");
        }
    }

    /// There is always more of it, and who has the sender hears when it is dropped.
    struct Endless {
        _dropped: oneshot::Receiver<Infallible>,
    }

    impl Body for Endless {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'y'; 16 * 1024])))))
        }
    }

    /// It is not read for what the service said unasked, which nobody reads.
    #[tokio::test(start_paused = true)]
    async fn an_upload_ends_with_the_answer_of_a_service_that_has_hung_up() {
        let (ours, mut theirs) = duplex(1024);
        tokio::spawn(async move {
            theirs.read_u8().await.unwrap();
            let head = b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 2\r\n\r\n";
            theirs.write_all(head).await.unwrap();
            sleep(TIMEOUT).await;
            theirs.write_all(b"no, no").await.unwrap();
        });
        let forward = Forward::new(connector(ours), Timeouts::default());
        let (mut upload, _dropped) = oneshot::channel();
        let request = Request::post("/service/x").extension(bypass());
        let start = Instant::now();
        let response = forward.oneshot(request.body(Endless { _dropped }).unwrap()).await.unwrap();
        assert_eq!(response.status(), 413);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "no");
        upload.closed().await;
        assert_eq!(start.elapsed(), TIMEOUT, "it is not given up some time later");
    }

    /// Whoever reads the answer may do so outside the runtime that the connection is of.
    #[test]
    fn a_body_is_read_without_a_runtime() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let response = runtime.block_on(async {
            let (ours, theirs) = duplex(1024);
            let (told, _) = oneshot::channel();
            let answer = "HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\nok";
            tokio::spawn(answer_early(theirs, answer, told));
            let forward = Forward::new(connector(ours), Timeouts::default());
            let request = Request::post("/service/x").extension(bypass());
            let request = request.body(Full::<Bytes>::from(vec![b'y'; 32 * 1024])).unwrap();
            forward.oneshot(request).await.unwrap()
        });
        let body = tokio_test::task::spawn(response.into_body().collect()).poll();
        let Poll::Ready(Ok(body)) = body else { panic!("all of it is there: {body:?}") };
        assert_eq!(body.to_bytes(), "ok");
    }
}
