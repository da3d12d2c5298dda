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
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{
    Extensions, HeaderValue, Request, Response, StatusCode, Uri, Version,
    header::{CONTENT_LENGTH, TRANSFER_ENCODING},
    uri::{self, PathAndQuery},
};
use hyper::body::{Body, Incoming};
use hyper_util::{
    client::legacy::{self, Client, connect::Connect},
    rt::{TokioExecutor, TokioTimer},
};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};
use tower_service::Service;

use super::{
    body::{Progress, RequestBody, ResponseBody},
    forwarded,
};
use crate::{
    connection::Connection,
    layer::{Prepared, Rejection, Route, Scheme, join_cookies, strip_hop_by_hop},
    message::{self, ApiMessage},
};

/// How long a service may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the head of the answer, counted from the last piece of the request that was sent.
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
pub struct Forward<C, B> {
    client: Client<C, RequestBody<B>>,
    response_timeout: Duration,
}

impl<C, B> Forward<C, B>
where
    C: Connect + Clone,
    B: Body + Send,
    B::Data: Send,
{
    /// Forwards over connections that `connector` makes; a connector that refuses to wait for
    /// ever is up to you.
    pub fn new(connector: C, timeouts: Timeouts) -> Self {
        let client = Client::builder(TokioExecutor::new())
            // Without the timer the idle timeout would silently not apply.
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(timeouts.idle)
            .pool_max_idle_per_host(256)
            .build(connector);
        Self { client, response_timeout: timeouts.response }
    }
}

impl<C: Clone, B> Clone for Forward<C, B> {
    fn clone(&self) -> Self {
        Self { client: self.client.clone(), response_timeout: self.response_timeout }
    }
}

impl<C, B> fmt::Debug for Forward<C, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forward")
            .field("response_timeout", &self.response_timeout)
            .finish_non_exhaustive()
    }
}

impl<C, B> Service<Request<B>> for Forward<C, B>
where
    C: Connect + Clone + Send + Sync + 'static,
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = ForwardFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let route = match route_of(request.extensions()) {
            Ok(route) => route,
            Err(rejection) => return ForwardFuture::answered(rejection.into_response()),
        };
        let progress = Progress::start();
        match southbound(request, &route, &progress) {
            Ok(request) => ForwardFuture {
                state: State::Waiting {
                    response: self.client.request(request),
                    timer: sleep(self.response_timeout),
                    timeout: self.response_timeout,
                    progress,
                    route,
                },
            },
            Err(error) => {
                tracing::error!(service = %route.service(), %error, "cannot build the request");
                let message = ApiMessage::new(&message::INTERNAL);
                ForwardFuture::answered(own(message, StatusCode::INTERNAL_SERVER_ERROR))
            }
        }
    }
}

fn route_of(extensions: &Extensions) -> Result<Arc<Route>, Rejection> {
    if let Some(prepared) = extensions.get::<Prepared>() {
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
    let connection = head.extensions.get::<Connection>();
    forwarded::set(&mut head.headers, &head.uri, route.prefix(), connection);
    let path = PathAndQuery::from_maybe_shared(Bytes::from(route.southbound_path(&head.uri)))?;
    let mut parts = uri::Parts::default();
    parts.scheme = Some(route.upstream().scheme().clone());
    parts.authority = Some(route.upstream().authority().clone());
    parts.path_and_query = Some(path);
    head.uri = Uri::from_parts(parts)?;
    head.version = Version::HTTP_11;
    // They are about the connection of the client.
    head.extensions = Extensions::new();
    Ok(Request::from_parts(head, RequestBody::new(body, progress.clone())))
}

pin_project! {
    /// The answer of the service, or ours.
    pub struct ForwardFuture {
        #[pin]
        state: State,
    }
}

pin_project! {
    #[project = StateProj]
    enum State {
        Waiting {
            #[pin]
            response: legacy::ResponseFuture,
            #[pin]
            timer: Sleep,
            timeout: Duration,
            progress: Progress,
            route: Arc<Route>,
        },
        Answered { response: Option<Response<ResponseBody>> },
    }
}

impl ForwardFuture {
    fn answered(response: Response<ResponseBody>) -> Self {
        Self { state: State::Answered { response: Some(response) } }
    }
}

impl fmt::Debug for ForwardFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwardFuture").finish_non_exhaustive()
    }
}

impl Future for ForwardFuture {
    type Output = Result<Response<ResponseBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Answered { response } => {
                Poll::Ready(Ok(response.take().expect("polled after completion")))
            }
            StateProj::Waiting { response, mut timer, timeout, progress, route } => {
                if let Poll::Ready(result) = response.poll(cx) {
                    return Poll::Ready(Ok(match result {
                        Ok(response) => northbound(response),
                        Err(error) => failed(&error, route, progress),
                    }));
                }
                while timer.as_mut().poll(cx).is_ready() {
                    let deadline = progress.last() + *timeout;
                    if deadline <= Instant::now() {
                        let upstream = route.upstream();
                        let service = route.service();
                        tracing::warn!(%service, %upstream, ?timeout, "no answer in time");
                        let message = ApiMessage::new(&message::UNEXPECTED_STATUS);
                        return Poll::Ready(Ok(own(message, StatusCode::GATEWAY_TIMEOUT)));
                    }
                    timer.as_mut().reset(deadline);
                }
                Poll::Pending
            }
        }
    }
}

fn northbound(mut response: Response<Incoming>) -> Response<ResponseBody> {
    strip_hop_by_hop(response.headers_mut());
    // It is about the connection to the service.
    *response.version_mut() = Version::HTTP_11;
    response.map(ResponseBody::from)
}

fn failed(error: &legacy::Error, route: &Route, progress: &Progress) -> Response<ResponseBody> {
    let (service, upstream) = (route.service(), route.upstream());
    let cause = Causes(error);
    if progress.is_broken_off() {
        tracing::debug!(%service, %cause, "the client broke off");
        let message = ApiMessage::with(&message::BAD_REQUEST, &["the body breaks off"]);
        own(message, StatusCode::BAD_REQUEST)
    } else if error.is_connect() {
        tracing::warn!(%service, %upstream, %cause, "cannot reach the service");
        let message =
            ApiMessage::with(&message::SERVICE_UNAVAILABLE, &["the service cannot be reached"]);
        own(message, StatusCode::SERVICE_UNAVAILABLE)
    } else {
        tracing::warn!(%service, %upstream, %cause, "the service broke off");
        own(ApiMessage::new(&message::UNEXPECTED_STATUS), StatusCode::BAD_GATEWAY)
    }
}

fn own(message: ApiMessage, status: StatusCode) -> Response<ResponseBody> {
    message.into_response(status).map(ResponseBody::from)
}

/// An error with its sources, on one line.
struct Causes<'a>(&'a dyn std::error::Error);

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}
