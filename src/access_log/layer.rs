//! The layer that writes the access log.

use std::{
    error::Error as StdError,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Buf;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    entry::{Entry, EntryHead},
    file::AccessLog,
};
use crate::{
    audit::RequestId,
    clock::{Clock, SystemClock},
    connection::ConnectionInfo,
    layer::Rejection,
    request_facts::{Cause, RequestFacts, ServiceTooSlow, Stage, Termination},
};

/// Writes a line to the access log when a request has ended. Also logs each request at the level `debug`, with the
/// target `tower_passticket::requests`.
///
/// Use this layer as the outermost layer, so that it also logs requests that other layers refuse. If there is no access
/// log, and the level `debug` is off, the layer only passes requests on. Otherwise, it gives each request a
/// [`RequestId`], unless the request already has one.
#[derive(Clone, Debug, Default)]
pub struct AccessLogLayer {
    log: Option<AccessLog>,
}

impl AccessLogLayer {
    /// Creates a layer that writes to `log`.
    pub fn new(log: AccessLog) -> Self {
        Self { log: Some(log) }
    }

    /// Creates a layer that only logs requests at the level `debug`.
    pub fn without_file() -> Self {
        Self::default()
    }
}

impl<S> Layer<S> for AccessLogLayer {
    type Service = AccessLogService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        AccessLogService { inner, log: self.log.clone() }
    }
}

/// The service of [`AccessLogLayer`].
#[derive(Clone, Debug)]
pub struct AccessLogService<S> {
    inner: S,
    log: Option<AccessLog>,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for AccessLogService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: Body<Error: Into<BoxError>>,
{
    type Response = Response<LoggedBody<ResBody>>;
    type Error = S::Error;
    type Future = AccessLogFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let is_on = self.log.is_some()
            || tracing::enabled!(target: "tower_passticket::requests", tracing::Level::DEBUG);
        let pending =
            if is_on { Some(Pending::begin(&mut request, self.log.as_ref())) } else { None };
        AccessLogFuture { inner: self.inner.call(request), pending }
    }
}

/// A request that has not ended yet. When this value is dropped, the line is written.
pub(super) struct Pending {
    log: Option<AccessLog>,
    /// `None` after the line was written.
    head: Option<EntryHead>,
    status: Option<StatusCode>,
    facts: RequestFacts,
}

impl Pending {
    #[cold]
    fn begin<B>(request: &mut Request<B>, log: Option<&AccessLog>) -> Box<Self> {
        let connection = request.extensions().get::<ConnectionInfo>().copied();
        Self::begin_with(request, connection, log)
    }

    #[cold]
    fn begin_with<B>(
        request: &mut Request<B>,
        connection: Option<ConnectionInfo>,
        log: Option<&AccessLog>,
    ) -> Box<Self> {
        let time = log.map_or_else(|| SystemClock.now(), |log| log.clock().now());
        let extensions = request.extensions_mut();
        let id = *extensions.get_or_insert_with(RequestId::next);
        let facts = RequestFacts::of(extensions);
        let head = Some(EntryHead::of(request, connection, id, time));
        Box::new(Self { log: log.cloned(), head, status: None, facts })
    }

    #[cold]
    fn write(&mut self) {
        let Some(head) = self.head.take() else { return };
        let (total, facts) = (self.facts.elapsed(), self.facts.take_snapshot());
        let entry = Entry { head, status: self.status, total, facts };
        log(&entry);
        if let Some(log) = &self.log {
            log.put(Box::new(entry));
        }
    }
}

fn log(Entry { head, status, total, facts }: &Entry) {
    let code = facts.termination.map(Termination::code);
    tracing::debug!(
        target: "tower_passticket::requests",
        request_id = %head.request_id,
        method = head.line.method(),
        path = head.line.path(),
        status = status.map(|status| status.as_u16()),
        service = facts.service.as_ref().map(|service| service.as_str()),
        user = facts.user.as_ref().map(|user| user.as_str()),
        termination = code.as_ref().map_or(Termination::NORMAL, |code| code.as_str()),
        total_us = u64::try_from(total.as_micros()).unwrap_or(u64::MAX),
        "request ended"
    );
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.write();
    }
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending").field("head", &self.head).finish_non_exhaustive()
    }
}

/// Writes the line of a request that the listener has refused before it called a service. Returns the id of the
/// request.
#[cfg(feature = "tls")]
pub(crate) fn log_refused<B>(
    log: &AccessLog,
    request: &mut Request<B>,
    connection: ConnectionInfo,
    status: StatusCode,
    bytes: u64,
) -> RequestId {
    let mut pending = Pending::begin_with(request, Some(connection), Some(log));
    pending.status = Some(status);
    pending.facts.add_bytes_out(bytes);
    pending.facts.end_now(Cause::Gateway);
    pending.head.as_ref().map_or_else(RequestId::next, |head| head.request_id)
}

pin_project! {
    /// The future of [`AccessLogService`].
    #[derive(Debug)]
    pub struct AccessLogFuture<F> {
        #[pin]
        inner: F,
        pending: Option<Box<Pending>>,
    }

    impl<F> PinnedDrop for AccessLogFuture<F> {
        fn drop(this: Pin<&mut Self>) {
            // The future is dropped before it has returned a response. So the client has disconnected, or the server
            // has cancelled the request.
            if let Some(pending) = this.project().pending.take() {
                pending.facts.end_now(Cause::Client);
            }
        }
    }
}

impl<F, B, E> Future for AccessLogFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body<Error: Into<BoxError>>,
{
    type Output = Result<Response<LoggedBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.inner.poll(cx));
        let pending = this.pending.take();
        match (response, pending) {
            (Ok(response), None) => {
                Poll::Ready(Ok(response.map(|inner| LoggedBody { inner, logged: None })))
            }
            (Ok(response), Some(pending)) => Poll::Ready(Ok(answered(response, pending))),
            (Err(error), pending) => {
                if let Some(pending) = pending {
                    pending.facts.end_now(Cause::Internal);
                }
                Poll::Ready(Err(error))
            }
        }
    }
}

#[cold]
fn answered<B: Body>(response: Response<B>, mut pending: Box<Pending>) -> Response<LoggedBody<B>> {
    pending.status = Some(response.status());
    if response.extensions().get::<Rejection>().is_some() {
        pending.facts.end_now(Cause::Gateway);
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let facts = pending.facts.clone();
        // If no tunnel is open, `keep_until_tunnel_ends` returns `pending`, and dropping `pending` writes the line.
        drop(facts.keep_until_tunnel_ends(pending));
        return response.map(|inner| LoggedBody { inner, logged: None });
    }
    if response.body().is_end_stream() {
        drop(pending);
        return response.map(|inner| LoggedBody { inner, logged: None });
    }
    response.map(|inner| LoggedBody { inner, logged: Some(Logged { pending, bytes: 0 }) })
}

pin_project! {
    /// The body of a response. When it has ended, the line of its request is written.
    #[derive(Debug)]
    pub struct LoggedBody<B: Body> {
        #[pin]
        inner: B,
        logged: Option<Logged>,
    }

    impl<B: Body> PinnedDrop for LoggedBody<B> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if let Some(logged) = this.logged.take() {
                logged.abort(this.inner.is_end_stream());
            }
        }
    }
}

#[derive(Debug)]
struct Logged {
    pending: Box<Pending>,
    /// The number of bytes of the body that were passed on.
    bytes: u64,
}

impl Logged {
    /// Writes the line after the whole response body was passed on.
    #[cold]
    fn finish(self) {
        self.pending.facts.add_bytes_out(self.bytes);
    }

    /// Writes the line after the response body has failed.
    #[cold]
    fn fail(self, cause: Cause) {
        let facts = self.pending.facts.clone();
        facts.end(Termination { cause, stage: Stage::Body });
        self.finish();
    }

    /// Writes the line when the response body is dropped. `has_ended` says whether the inner body was at its end.
    #[cold]
    fn abort(self, has_ended: bool) {
        if has_ended { self.finish() } else { self.fail(Cause::Client) }
    }
}

impl<B: Body> LoggedBody<B> {
    /// Returns the inner body, if no line must be written at its end.
    ///
    /// # Errors
    /// This [`LoggedBody`], if a line must be written at its end.
    pub fn into_plain(self) -> Result<B, Self>
    where
        B: Default + Unpin,
    {
        let mut body = self;
        match body.logged {
            None => Ok(std::mem::take(&mut body.inner)),
            Some(_) => Err(body),
        }
    }
}

impl<B> Body for LoggedBody<B>
where
    B: Body<Error: Into<BoxError>>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let mut this = self.project();
        let frame = ready!(this.inner.as_mut().poll_frame(cx));
        let frame = frame.map(|frame| frame.map_err(Into::into));
        if this.logged.is_none() {
            return Poll::Ready(frame);
        }
        match &frame {
            None => {
                if let Some(logged) = this.logged.take() {
                    logged.finish();
                }
            }
            Some(Ok(frame)) => {
                if let (Some(logged), Some(data)) = (&mut *this.logged, frame.data_ref()) {
                    logged.bytes += data.remaining() as u64;
                }
                // After the last frame, the server may drop the body without another poll. So the line is written as
                // soon as the last frame is known. Trailers are always the last frame.
                let has_ended = frame.is_trailers()
                    || this.inner.is_end_stream()
                    || this.inner.size_hint().exact() == Some(0);
                if has_ended && let Some(logged) = this.logged.take() {
                    logged.finish();
                }
            }
            Some(Err(error)) => {
                let cause = cause_of(&**error);
                if let Some(logged) = this.logged.take() {
                    logged.fail(cause);
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Returns [`Cause::ServiceTimeout`] if the service was too slow to send the body, and [`Cause::Service`] for any other
/// error.
fn cause_of(error: &(dyn StdError + 'static)) -> Cause {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<ServiceTooSlow>() {
            return Cause::ServiceTimeout;
        }
        cause = error.source();
    }
    Cause::Service
}
