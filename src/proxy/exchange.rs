//! One exchange with a service: the gateway connects, sends the request, and waits for the head of the response (its
//! status and headers).
//!
//! An idle connection from the pool may turn out to be closed. If no part of the request was sent, the
//! request is sent over another connection (RFC 9112 §9.3.1). [`resend`] says which requests are sent again
//! after a part of them was sent.

use std::{
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response, StatusCode, Uri, Version};
use hyper::{
    body::{Body, Incoming},
    rt::{Read, Write},
};
use tokio::time::Instant;
use tower::BoxError;
use tower_service::Service;

use super::{
    credential::Credential,
    pool::{
        ConnectError, Connected, Connecting, ConnectionPool, HostPool, PooledConnection, Resend,
        Sending,
    },
    request_body::{Progress, RequestBody},
    response_body::ResponseBody,
    websocket::ServiceUpgrade,
};
use crate::passticket::Replay;

/// The connections to all services, for requests with the body `B`.
pub(super) type Pool<C, B> = ConnectionPool<C, RequestBody<B>>;

/// The idle connections to one service.
pub(super) type Host<B> = HostPool<RequestBody<B>>;

/// A request on its way to a service.
pub(super) enum Exchange<C, B> {
    Connecting {
        connecting: Connecting<RequestBody<B>>,
        request: Box<Request<RequestBody<B>>>,
        pools: Reconnect<C, B>,
    },
    /// The request was passed to the connection, but the connection has not been polled since then.
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

/// Provides another connection if an idle connection turns out to be closed. A request on a new connection does not
/// need it.
pub(super) struct Reconnect<C, B> {
    pub(super) pool: Arc<Pool<C, B>>,
    pub(super) host: Arc<Host<B>>,
    /// Whether the service accepts the credential of the request twice.
    pub(super) replay: Replay,
    /// The time until which the request may wait for a connection. It is set when the request first needs a new
    /// connection. A connection may be closed before the request is sent. The request then waits again, but only until
    /// this time.
    pub(super) queue_deadline: Option<Instant>,
}

/// Why an exchange has no response.
pub(super) enum ExchangeError {
    Connect(ConnectError),
    /// The exchange failed for one of two reasons. Either the connection failed before or immediately after the end of
    /// the response's head, or the gateway could not read the body of the request.
    Interrupted(hyper::Error),
    /// The service answered with status 101. If the request had no `Upgrade`, this is an error (RFC 9110 §7.8). The
    /// gateway cannot pass this status on to an HTTP/2 client, because HTTP/2 does not have it (RFC 9113 §8.6).
    SwitchedProtocols(ServiceUpgrade),
    TimedOut,
}

impl<C, B> Exchange<C, B>
where
    C: Service<Uri, Error: Into<BoxError>, Future: Send> + Clone + Send + 'static,
    C::Response: Read + Write + Unpin + Send + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    /// Begins an exchange over an idle connection, or over a new connection if none is idle.
    pub(super) fn begin(
        mut pools: Reconnect<C, B>,
        request: Request<RequestBody<B>>,
        timeout: Duration,
        progress: &Progress,
    ) -> Self {
        match pools.host.take() {
            Some(connection) => {
                Self::send(connection, request, Some(pools), progress.deadline(timeout))
            }
            None => {
                let Reconnect { pool, host, queue_deadline, .. } = &mut pools;
                let queue_deadline = *queue_deadline
                    .get_or_insert_with(|| Instant::now() + pool.settings().timeouts.queue());
                let connecting = pool.connect(host, progress.deadline(timeout), queue_deadline);
                Self::Connecting { connecting, request: Box::new(request), pools }
            }
        }
    }

    fn send(
        mut connection: Box<PooledConnection<RequestBody<B>>>,
        request: Request<RequestBody<B>>,
        reconnect: Option<Reconnect<C, B>>,
        deadline: Instant,
    ) -> Self {
        let resend =
            reconnect.as_ref().map_or(Resend::Never, |pools| resend(&request, pools.replay));
        let sending = connection.send(request, resend, deadline);
        Self::Queued { sending, connection, reconnect }
    }

    /// Waits for the head of the response. Fails if no frame of the request's body is sent for `timeout`. Before the
    /// first frame, this time counts from the start of the exchange. `credential` is the credential of the request.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        timeout: Duration,
        progress: &mut Progress,
        credential: &mut Credential,
    ) -> Poll<Result<Response<ResponseBody>, ExchangeError>> {
        loop {
            // A state consists of a few pointers, so it is cheap to move it out and back.
            *self = match mem::replace(self, Self::Done) {
                Self::Connecting { mut connecting, request, pools } => {
                    let Poll::Ready(connected) = connecting.as_mut().poll(cx) else {
                        *self = Self::Connecting { connecting, request, pools };
                        return Poll::Pending;
                    };
                    let Connected { connection, is_reused, waited_until } =
                        connected.map_err(ExchangeError::Connect)?;
                    if let Some(now) = waited_until {
                        progress.restart(now);
                    }
                    let deadline = progress.deadline(timeout);
                    Self::send(connection, *request, is_reused.then_some(pools), deadline)
                }
                Self::Queued { sending, connection, reconnect } => {
                    // Let the other ready tasks run first. Their requests are then written one directly after the
                    // other, so the service wakes up only once. A wake-up costs more than a write.
                    *self = Self::Sending { sending, connection, reconnect };
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Self::Sending { mut sending, mut connection, reconnect } => {
                    let Poll::Ready(sent) = connection.poll_response(&mut sending, cx) else {
                        if connection.wants_headers()
                            && let Poll::Ready(headers) = credential.poll_renewed(cx)
                        {
                            connection.set_new_headers(headers);
                            *self = Self::Sending { sending, connection, reconnect };
                            continue;
                        }
                        let deadline = || progress.deadline(timeout);
                        if connection.poll_deadline(cx, deadline).is_ready() {
                            return Poll::Ready(Err(ExchangeError::TimedOut));
                        }
                        *self = Self::Sending { sending, connection, reconnect };
                        return Poll::Pending;
                    };
                    let mut error = match sent {
                        Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                            let upgrade = ServiceUpgrade::new(response, connection);
                            return Poll::Ready(Err(ExchangeError::SwitchedProtocols(upgrade)));
                        }
                        Ok(response) => {
                            let response = client_response(response, connection, progress);
                            return Poll::Ready(response.map_err(ExchangeError::Interrupted));
                        }
                        Err(error) => error,
                    };
                    // The error contains the request if no part of the request was sent.
                    match (error.take_message(), reconnect) {
                        (Some(request), Some(pools)) => {
                            // This drop frees the slot of the connection. The request may get the same slot for its
                            // next connection.
                            drop(connection);
                            Self::begin(pools, request, timeout, progress)
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

/// Whether a request on a reused connection may be sent again ([D29](crate::decisions#d29)).
fn resend<B>(request: &Request<B>, replay: Replay) -> Resend {
    match replay {
        _ if !request.method().is_idempotent() => Resend::IfUnsent,
        Replay::Allowed => Resend::BeforeBody,
        Replay::Protected => Resend::WithNewHeaders,
    }
}

/// Wraps the body of the service's response in the body type of the gateway's responses. The headers of the response do
/// not change.
///
/// # Errors
/// The error of the body, if the body has already failed. The client can then still get a 502, because no part of the
/// response was sent to it.
fn client_response<B>(
    response: Response<Incoming>,
    mut connection: Box<PooledConnection<RequestBody<B>>>,
    progress: &Progress,
) -> hyper::Result<Response<ResponseBody>>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let (mut head, mut body) = response.into_parts();
    let first = connection.first_frame(Pin::new(&mut body)).transpose()?;
    connection.set_answered();
    if !progress.has_ended() {
        connection.spawn_driver();
    }
    // The service may use HTTP/1.0. The version of its response must not affect the connection to the client.
    head.version = Version::HTTP_11;
    Ok(Response::from_parts(head, ResponseBody::upstream(first, body, connection)))
}
