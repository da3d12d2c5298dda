//! An HTTP client with a deadline, a concurrency limit and a body size limit.

use std::{error::Error, fmt, io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header::CONNECTION};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioTimer},
};
use serde::de::DeserializeOwned;
use tokio::{sync::Semaphore, time::timeout};

use super::{
    connect::{Connect, HyperConnector},
    limits::ClientLimits,
};
use crate::error_chain::ErrorChain;

/// Calls an HTTP service over pooled connections. `C` is the connector.
///
/// Clones share connections and limits. Make one client per service. If two services shared a client, a slow service
/// could use up the concurrent calls that the other service needs. Redirects are not followed. A client needs a Tokio
/// runtime.
///
/// [`call`](Self::call) may send its request twice. If the connection is closed before the head of the response is
/// complete, the client sends the request one more time. Therefore, use `call` for idempotent requests only, and
/// [`call_once`](Self::call_once) for other requests.
pub struct Client<C> {
    http: legacy::Client<HyperConnector<C>, Full<Bytes>>,
    limits: ClientLimits,
    permits: Arc<Permits>,
}

struct Permits {
    /// One permit for each call that may run.
    running: Semaphore,
    /// One permit for each call that may run or wait.
    all: Semaphore,
}

impl<C: Connect> Client<C> {
    /// Creates a client that connects with `connector`.
    pub fn new(connector: C, limits: ClientLimits) -> Self {
        let max_concurrent = limits.max_concurrent().get().min(Semaphore::MAX_PERMITS);
        let all = max_concurrent.saturating_add(limits.max_waiting()).min(Semaphore::MAX_PERMITS);
        let http = legacy::Client::builder(TokioExecutor::new())
            // hyper-util ignores the idle timeout if it has no timer.
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(limits.idle())
            .pool_max_idle_per_host(max_concurrent)
            // If a request was not sent because the connection was closed, send it over another connection.
            .retry_canceled_requests(true)
            .build(HyperConnector(connector));
        let permits = Permits { running: Semaphore::new(max_concurrent), all: Semaphore::new(all) };
        Self { http, limits, permits: Arc::new(permits) }
    }

    /// Sends `request` and reads the whole response. The URI of the request must be absolute. Returns `Ok` for each
    /// status of the response. To check the status, use [`Reply::successful`]. If the body of a response with status
    /// 401 cannot be read or is too large, the reply has an empty body.
    ///
    /// # Errors
    /// - [`RemoteError::Unavailable`] if there is no complete response before the deadline. For example, the service
    ///   cannot be reached, the response is cut off or not valid HTTP, or too many calls are waiting.
    /// - [`RemoteError::Answer`] if the body of the response is larger than [`ClientLimits::max_body`], and the status
    ///   is not 401.
    pub async fn call(&self, request: Request<Full<Bytes>>) -> Result<Reply, RemoteError> {
        let exchange = async {
            match self.exchange(request.clone()).await {
                Err(Failed::Unanswered(_)) => self.exchange(request).await,
                result => result,
            }
        };
        self.limited(exchange).await
    }

    /// Does the same as [`call`](Self::call), but sends the request at most once. Use it for requests that must not be
    /// repeated, such as a password check: the security product counts each wrong password.
    ///
    /// The connection is closed after the call. So a client that only uses `call_once` never sends a request on an idle
    /// connection that the service has closed.
    ///
    /// # Errors
    /// The errors of [`call`](Self::call).
    pub async fn call_once(&self, mut request: Request<Full<Bytes>>) -> Result<Reply, RemoteError> {
        request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        self.limited(self.exchange(request)).await
    }

    /// Waits until fewer than the maximum number of calls are running, and then runs `exchange`. The wait and
    /// `exchange` together must end before the deadline.
    async fn limited(
        &self,
        exchange: impl Future<Output = Result<Reply, Failed>>,
    ) -> Result<Reply, RemoteError> {
        let deadline = self.limits.deadline();
        let call = async {
            let unavailable = |_| RemoteError::Unavailable("too many calls are waiting".to_owned());
            let _any = self.permits.all.try_acquire().map_err(unavailable)?;
            // `acquire` fails only if the semaphore is closed, which does not happen.
            let _running =
                self.permits.running.acquire().await.map_err(|_| no_response(deadline))?;
            exchange.await.map_err(RemoteError::from)
        };
        timeout(deadline, call).await.unwrap_or_else(|_| Err(no_response(deadline)))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Reply, Failed> {
        let response = self.http.request(request).await.map_err(Failed::from)?;
        let (head, body) = response.into_parts();
        let max_body = self.limits.max_body();
        let body = match Limited::new(body, max_body).collect().await {
            Ok(body) => body.to_bytes(),
            // The status 401 alone shows that the service refuses the credential. So a body that cannot be read is no
            // error here. If it were an error, the login throttle would not count the wrong password.
            Err(_) if head.status == StatusCode::UNAUTHORIZED => Bytes::new(),
            Err(error) if error.is::<LengthLimitError>() => {
                return Err(Failed::TooLarge { max_body });
            }
            Err(error) => {
                let error = ErrorChain(&*error);
                return Err(Failed::Other(format!("the response was cut off: {error}")));
            }
        };
        Ok(Reply { status: head.status, headers: head.headers, body })
    }
}

fn no_response(deadline: Duration) -> RemoteError {
    RemoteError::Unavailable(format!("no response within {deadline:?}"))
}

impl<C: Clone> Clone for Client<C> {
    fn clone(&self) -> Self {
        Self { http: self.http.clone(), limits: self.limits, permits: self.permits.clone() }
    }
}

impl<C> fmt::Debug for Client<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("limits", &self.limits).finish_non_exhaustive()
    }
}

enum Failed {
    /// The connection was closed before the head of the response was complete.
    Unanswered(String),
    TooLarge {
        max_body: usize,
    },
    Other(String),
}

impl From<legacy::Error> for Failed {
    fn from(error: legacy::Error) -> Self {
        let chain = ErrorChain(&error).to_string();
        if !error.is_connect() && is_closed_by_peer(&error) {
            Self::Unanswered(chain)
        } else {
            Self::Other(chain)
        }
    }
}

/// Returns whether the exchange failed because the connection was closed. In most cases, the service has closed an idle
/// connection, and the client notices this only when it sends the next request.
fn is_closed_by_peer(error: &legacy::Error) -> bool {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<hyper::Error>()
            && (error.is_incomplete_message() || error.is_canceled() || error.is_closed())
        {
            return true;
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            // `UnexpectedEof` is not in this list. rustls returns it for each connection that is closed without
            // `close_notify`, even if the head of the response was complete.
            return matches!(
                error.kind(),
                io::ErrorKind::BrokenPipe
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::ConnectionReset
            );
        }
        source = error.source();
    }
    false
}

/// A response with any status.
#[derive(Clone)]
pub struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Reply {
    /// Returns the status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns the headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Returns the body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Returns the response unchanged if its status is 2xx.
    ///
    /// # Errors
    /// [`RemoteError::Unavailable`] for a status 5xx. [`RemoteError::Answer`] for any other status that is not 2xx.
    pub fn successful(self) -> Result<Self, RemoteError> {
        match self.status.is_success() {
            true => Ok(self),
            false => Err(self.unexpected_status()),
        }
    }

    /// Returns the error for a response whose status the caller does not expect: [`RemoteError::Unavailable`] for 5xx,
    /// else [`RemoteError::Answer`].
    pub(crate) fn unexpected_status(&self) -> RemoteError {
        let text = format!("status {}", self.status.as_u16());
        match self.status.is_server_error() {
            true => RemoteError::Unavailable(text),
            false => RemoteError::Answer(text),
        }
    }

    /// Returns the body.
    pub(crate) fn into_body(self) -> Bytes {
        self.body
    }

    /// Parses the body, which must be a JSON object.
    ///
    /// # Errors
    /// [`RemoteError::Answer`] if the body is not the expected JSON. The error contains the position of the problem,
    /// but no part of the body.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, RemoteError> {
        let error = |detail| {
            let status = self.status.as_u16();
            RemoteError::Answer(format!("status {status}, not the expected JSON{detail}"))
        };
        // serde would also accept a JSON array with the values of the fields in order, so the first character is
        // checked here.
        if self.body.trim_ascii_start().first() != Some(&b'{') {
            return Err(error(String::new()));
        }
        serde_json::from_slice(&self.body).map_err(|cause| {
            let (kind, line, column) = (cause.classify(), cause.line(), cause.column());
            error(format!(" ({kind:?}, line {line}, column {column})"))
        })
    }
}

#[cfg(test)]
impl Reply {
    pub(crate) fn new(status: StatusCode, body: &str) -> Self {
        Self { status, headers: HeaderMap::new(), body: Bytes::copy_from_slice(body.as_bytes()) }
    }

    pub(crate) fn with_header(mut self, name: http::HeaderName, value: &str) -> Self {
        self.headers.append(name, value.parse().unwrap());
        self
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("status", &self.status).finish_non_exhaustive()
    }
}

/// The reason why a call has no usable response. The error is meant for logs. It may contain the status of the
/// response, but no other part of the response, and no part of the request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// The service cannot be reached, does not respond in time, sends a response that is cut off or not valid HTTP, or
    /// answers 5xx. Another cause is that too many calls are waiting.
    #[error("not available: {0}")]
    Unavailable(String),
    /// The service has answered, but the response cannot be used.
    #[error("not a usable response: {0}")]
    Answer(String),
}

impl From<Failed> for RemoteError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Unanswered(chain) | Failed::Other(chain) => Self::Unavailable(chain),
            Failed::TooLarge { max_body } => Self::Answer(format!("more than {max_body} bytes")),
        }
    }
}
