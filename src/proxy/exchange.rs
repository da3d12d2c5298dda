//! One exchange with a service: connect, send the request, wait for the head of the response.
//!
//! A connection that was idle may turn out to be closed. If nothing of the request was sent, the request
//! goes over another connection (RFC 9112 §9.3.1).

use std::{
    mem,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version, header::CONTENT_LENGTH,
};
use hyper::{
    body::{Body, Incoming},
    rt::{Read, Write},
};
use tower::BoxError;
use tower_service::Service;

use super::{
    pool::{ConnectError, Connecting, ConnectionPool, HostPool, PooledConnection, Sending},
    request_body::{Progress, RequestBody},
    response_body::ResponseBody,
};
use crate::layer::strip_hop_by_hop;

/// The connections that requests with the body `B` use.
pub(super) type Pool<C, B> = ConnectionPool<C, RequestBody<B>>;

/// Those of one service.
pub(super) type Host<B> = HostPool<RequestBody<B>>;

/// A request on its way to a service.
pub(super) enum Exchange<C, B> {
    Connecting {
        connecting: Connecting<RequestBody<B>>,
        request: Box<Request<RequestBody<B>>>,
    },
    /// The connection has the request, but was not polled since.
    Queued {
        sending: Sending<RequestBody<B>>,
        connection: Box<PooledConnection<RequestBody<B>>>,
        reconnect: Option<Reconnect<C, B>>,
    },
    Sending {
        sending: Sending<RequestBody<B>>,
        connection: Box<PooledConnection<RequestBody<B>>>,
        reconnect: Option<Reconnect<C, B>>,
    },
    Done,
}

/// How to get another connection, where the present one was idle before and may be closed.
pub(super) type Reconnect<C, B> = (Arc<Pool<C, B>>, Arc<Host<B>>);

/// Why there is no response.
pub(super) enum ExchangeError {
    Connect(BoxError),
    /// The connection failed after the request was begun, or the request's body failed.
    Interrupted(hyper::Error),
    /// The service answered 101 to a request without `Upgrade` (RFC 9110 §7.8). HTTP/2 has no such status
    /// (RFC 9113 §8.6).
    SwitchedProtocols,
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
    C: Service<Uri, Error: Into<BoxError>, Future: Send> + Clone + Send + 'static,
    C::Response: Read + Write + Unpin + Send + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    /// Begins an exchange over an idle connection, or a new one if there is none.
    pub(super) fn begin(
        pool: &Arc<Pool<C, B>>,
        host: Arc<Host<B>>,
        request: Request<RequestBody<B>>,
        timeout: Duration,
        progress: &Progress,
    ) -> Self {
        match host.take() {
            Some(connection) => Self::send(connection, request, Some((pool.clone(), host))),
            None => Self::Connecting {
                connecting: pool.connect(&host, progress.deadline(timeout)),
                request: Box::new(request),
            },
        }
    }

    fn send(
        mut connection: Box<PooledConnection<RequestBody<B>>>,
        request: Request<RequestBody<B>>,
        reconnect: Option<Reconnect<C, B>>,
    ) -> Self {
        let sending = connection.send(request);
        Self::Queued { sending, connection, reconnect }
    }

    /// Waits for the head of the response, `timeout` after the last frame of the request at the latest.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        timeout: Duration,
        progress: &Progress,
    ) -> Poll<Result<Response<ResponseBody>, ExchangeError>> {
        loop {
            // Each state is a few pointers, so moving it out and back costs nothing.
            *self = match mem::replace(self, Self::Done) {
                Self::Connecting { mut connecting, request } => {
                    let Poll::Ready(connection) = connecting.as_mut().poll(cx) else {
                        *self = Self::Connecting { connecting, request };
                        return Poll::Pending;
                    };
                    Self::send(connection?, *request, None)
                }
                Self::Queued { sending, connection, reconnect } => {
                    // Let the other tasks that are ready run first. Requests that are written one after
                    // the other wake the service once, and a wake-up costs more than a write.
                    *self = Self::Sending { sending, connection, reconnect };
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Self::Sending { mut sending, mut connection, reconnect } => {
                    let Poll::Ready(sent) = connection.poll_response(&mut sending, cx) else {
                        let deadline = || progress.deadline(timeout);
                        if connection.poll_deadline(cx, deadline).is_ready() {
                            return Poll::Ready(Err(ExchangeError::TimedOut));
                        }
                        *self = Self::Sending { sending, connection, reconnect };
                        return Poll::Pending;
                    };
                    let mut error = match sent {
                        Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                            return Poll::Ready(Err(ExchangeError::SwitchedProtocols));
                        }
                        Ok(response) => {
                            return Poll::Ready(Ok(northbound(response, connection, progress)));
                        }
                        Err(error) => error,
                    };
                    // The request comes back only if nothing of it was sent.
                    match (error.take_message(), reconnect) {
                        (Some(request), Some((pool, host))) => {
                            Self::begin(&pool, host, request, timeout, progress)
                        }
                        _ => {
                            let error = ExchangeError::Interrupted(error.into_error());
                            return Poll::Ready(Err(error));
                        }
                    }
                }
                Self::Done => panic!("polled after completion"),
            }
        }
    }
}

/// The response as the client gets it.
fn northbound<B: Send + 'static>(
    mut response: Response<Incoming>,
    mut connection: Box<PooledConnection<RequestBody<B>>>,
    progress: &Progress,
) -> Response<ResponseBody> {
    connection.set_answered();
    if !progress.has_ended() {
        connection.spawn_driver();
    }
    strip_hop_by_hop(response.headers_mut());
    // hyper reads the length only of responses with a body, and HTTP/2 clients refuse one that is not a number.
    if response.body().is_end_stream() && !has_valid_length(response.headers()) {
        response.headers_mut().remove(CONTENT_LENGTH);
    }
    // The version is that of the connection to the service.
    *response.version_mut() = Version::HTTP_11;
    response.map(|body| ResponseBody::upstream(body, connection))
}

/// Whether there is at most one `Content-Length`, and it is a number (RFC 9110 §8.6).
fn has_valid_length(headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let is_number = |value: &HeaderValue| {
        let digits = value.as_bytes();
        digits.iter().all(u8::is_ascii_digit)
            && value.to_str().is_ok_and(|number| number.parse::<u64>().is_ok())
    };
    lengths.next().is_none_or(is_number) && lengths.next().is_none()
}
