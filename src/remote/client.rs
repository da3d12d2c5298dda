//! HTTP client with a deadline, a concurrency limit and a body size limit.

use std::{error::Error, fmt, io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode};
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

/// Maximum size of a response body, in bytes. Those of ZSS have a few hundred.
const MAX_BODY: usize = 64 * 1024;

/// Calls an HTTP service over pooled connections. `C` connects.
///
/// Clones share connections and limits. Make one client per service, so that a slow service does not use
/// up the concurrent calls of another. Redirects are not followed. It needs a tokio runtime.
///
/// A call may reach the service twice: if a pooled connection was closed before a byte of the response arrived,
/// the call is repeated once. Use it for idempotent requests only.
pub struct Client<C> {
    http: legacy::Client<HyperConnector<C>, Full<Bytes>>,
    limits: ClientLimits,
    turns: Arc<Turns>,
}

struct Turns {
    running: Semaphore,
    /// Running and waiting calls.
    all: Semaphore,
}

impl<C: Connect> Client<C> {
    /// A client that connects with `connector`.
    pub fn new(connector: C, limits: ClientLimits) -> Self {
        let max_concurrent = limits.max_concurrent().get().min(Semaphore::MAX_PERMITS);
        let all = max_concurrent.saturating_add(limits.max_waiting()).min(Semaphore::MAX_PERMITS);
        let http = legacy::Client::builder(TokioExecutor::new())
            // Without the timer the idle timeout would silently not apply.
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(limits.idle())
            .pool_max_idle_per_host(max_concurrent)
            // A request that was not sent because the connection was closed goes over another one.
            .retry_canceled_requests(true)
            .build(HyperConnector(connector));
        let turns = Turns { running: Semaphore::new(max_concurrent), all: Semaphore::new(all) };
        Self { http, limits, turns: Arc::new(turns) }
    }

    /// Sends `request`, whose URI is absolute, and reads the whole response.
    ///
    /// # Errors
    /// [`RemoteError::Unavailable`] if there is no response before the deadline, [`RemoteError::Answer`]
    /// if it is larger than 64 KiB. A response of any status is `Ok`; see [`Reply::successful`].
    pub async fn call(&self, request: Request<Full<Bytes>>) -> Result<Reply, RemoteError> {
        let deadline = self.limits.deadline();
        let in_turn = async {
            let unavailable = |_| RemoteError::Unavailable("too many calls are waiting".to_owned());
            let _place = self.turns.all.try_acquire().map_err(unavailable)?;
            // The semaphores are never closed.
            let _turn = self.turns.running.acquire().await.map_err(|_| no_answer(deadline))?;
            match self.exchange(request.clone()).await {
                Err(Failed::Unanswered(_)) => self.exchange(request).await,
                other => other,
            }
            .map_err(RemoteError::from)
        };
        timeout(deadline, in_turn).await.unwrap_or_else(|_| Err(no_answer(deadline)))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Reply, Failed> {
        let response = self.http.request(request).await.map_err(Failed::from)?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_BODY).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                Failed::TooLarge
            } else {
                Failed::Other(format!("the response was cut off: {}", ErrorChain(&*error)))
            }
        })?;
        Ok(Reply { status: head.status, body: body.to_bytes() })
    }
}

fn no_answer(deadline: Duration) -> RemoteError {
    RemoteError::Unavailable(format!("no response within {deadline:?}"))
}

impl<C: Clone> Clone for Client<C> {
    fn clone(&self) -> Self {
        Self { http: self.http.clone(), limits: self.limits, turns: self.turns.clone() }
    }
}

impl<C> fmt::Debug for Client<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// How an exchange failed.
enum Failed {
    /// The connection was closed before a byte of the response arrived.
    Unanswered(String),
    TooLarge,
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

/// Whether the peer had closed the idle connection, which we noticed only while sending.
fn is_closed_by_peer(error: &legacy::Error) -> bool {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<hyper::Error>()
            && (error.is_incomplete_message() || error.is_canceled() || error.is_closed())
        {
            return true;
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return matches!(
                error.kind(),
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
            );
        }
        source = error.source();
    }
    false
}

/// A response of any status.
#[derive(Clone)]
pub struct Reply {
    status: StatusCode,
    body: Bytes,
}

impl Reply {
    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The response itself if its status is 2xx.
    ///
    /// # Errors
    /// [`RemoteError::Unavailable`] for 5xx, [`RemoteError::Answer`] for any other status.
    pub fn successful(self) -> Result<Self, RemoteError> {
        let text = || format!("status {}", self.status.as_u16());
        match self.status {
            status if status.is_success() => Ok(self),
            status if status.is_server_error() => Err(RemoteError::Unavailable(text())),
            _ => Err(RemoteError::Answer(text())),
        }
    }

    /// The body, a JSON object.
    ///
    /// # Errors
    /// [`RemoteError::Answer`] has the position where the body is not as expected, but nothing of its content.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, RemoteError> {
        let error = |detail| {
            let status = self.status.as_u16();
            RemoteError::Answer(format!("status {status}, not the expected JSON{detail}"))
        };
        // serde would accept a list of fields in the order of the struct.
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
        Self { status, body: Bytes::copy_from_slice(body.as_bytes()) }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("status", &self.status).finish_non_exhaustive()
    }
}

/// Why a call has no usable response. For the log; of request and response it has the status only.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// The service cannot be reached, does not respond in time, cuts its response off, or answers 5xx.
    #[error("not available: {0}")]
    Unavailable(String),
    /// The response is not the expected one.
    #[error("not a usable response: {0}")]
    Answer(String),
}

impl From<Failed> for RemoteError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Unanswered(chain) | Failed::Other(chain) => Self::Unavailable(chain),
            Failed::TooLarge => Self::Answer(format!("more than {MAX_BODY} bytes")),
        }
    }
}
