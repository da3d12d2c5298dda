//! One call to another service, with an end to everything.

use std::{error::Error, fmt, io, num::NonZeroUsize, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_util::{
    client::legacy::{self, connect::Connect},
    rt::{TokioExecutor, TokioTimer},
};
use serde::de::DeserializeOwned;
use tokio::{sync::Semaphore, time::timeout};

use crate::error_chain::ErrorChain;

/// An answer may have so many bytes. Those of ZSS have a few hundred.
const MAX_BODY: usize = 64 * 1024;

/// What a [`Client`] may use up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a call may take in all, the wait for its turn included.
    pub deadline: Duration,
    /// How many calls run at once.
    pub max_concurrent: NonZeroUsize,
    /// How many more wait for their turn; beyond that a call fails without waiting.
    pub waiting: usize,
    /// How long a connection that nobody uses is kept.
    pub idle: Duration,
}

impl Default for Limits {
    /// 5 s for a call, 8 calls at once, 1,000 that wait; unused connections are kept for 30 s.
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(5),
            max_concurrent: NonZeroUsize::new(8).unwrap_or(NonZeroUsize::MIN),
            waiting: 1000,
            idle: Duration::from_secs(30),
        }
    }
}

/// Asks an HTTP service, over connections that are kept and shared. `C` connects.
///
/// Clones share connections and limits; make one for each service, so that a slow one does not use
/// up the turns of another. Redirects are not followed. Needs a tokio runtime to run in.
///
/// A call may reach the service twice: when a kept connection turns out to be closed before any of
/// the answer has come, it is made once more. So only ask what may be asked twice.
pub struct Client<C> {
    http: legacy::Client<C, Full<Bytes>>,
    limits: Limits,
    turns: Arc<Turns>,
}

struct Turns {
    running: Semaphore,
    /// Those that run and those that wait.
    all: Semaphore,
}

impl<C: Connect + Clone + Send + Sync + 'static> Client<C> {
    /// A client that connects with `connector`.
    pub fn new(connector: C, limits: Limits) -> Self {
        let max_concurrent = limits.max_concurrent.get().min(Semaphore::MAX_PERMITS);
        let all = max_concurrent.saturating_add(limits.waiting).min(Semaphore::MAX_PERMITS);
        let http = legacy::Client::builder(TokioExecutor::new())
            // Without the timer the idle timeout would silently not apply.
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(limits.idle)
            .pool_max_idle_per_host(max_concurrent)
            // What was not sent because the connection was gone goes over another one.
            .retry_canceled_requests(true)
            .build(connector);
        let turns = Turns { running: Semaphore::new(max_concurrent), all: Semaphore::new(all) };
        Self { http, limits, turns: Arc::new(turns) }
    }

    /// Sends `request`, whose URI is absolute, and reads the whole answer.
    ///
    /// # Errors
    /// [`RemoteError::Unavailable`] when there is none in time, [`RemoteError::Answer`] when it is
    /// too large. An answer of any status is one: [`Reply::successful`] says whether it is good.
    pub async fn call(&self, request: Request<Full<Bytes>>) -> Result<Reply, RemoteError> {
        let deadline = self.limits.deadline;
        let in_turn = async {
            let unavailable = |_| RemoteError::Unavailable("too many calls wait".to_owned());
            let _place = self.turns.all.try_acquire().map_err(unavailable)?;
            // Nobody closes the semaphores.
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
                Failed::Other(format!("the answer breaks off: {}", ErrorChain(&*error)))
            }
        })?;
        Ok(Reply { status: head.status, body: body.to_bytes() })
    }
}

fn no_answer(deadline: Duration) -> RemoteError {
    RemoteError::Unavailable(format!("no answer within {deadline:?}"))
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
    /// The connection was closed before any of the answer came.
    Unanswered(String),
    TooLarge,
    Other(String),
}

impl From<legacy::Error> for Failed {
    fn from(error: legacy::Error) -> Self {
        let causes = ErrorChain(&error).to_string();
        if !error.is_connect() && is_hang_up(&error) {
            Self::Unanswered(causes)
        } else {
            Self::Other(causes)
        }
    }
}

/// Whether the peer has closed the connection, as it may do with one that was unused, and we have
/// found out too late.
fn is_hang_up(error: &legacy::Error) -> bool {
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

/// An answer, whatever its status.
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

    /// The answer itself, if its status says that it is good.
    ///
    /// # Errors
    /// [`RemoteError::Unavailable`] for 5xx, [`RemoteError::Answer`] for what is neither that nor
    /// 2xx.
    pub fn successful(self) -> Result<Self, RemoteError> {
        let text = || format!("status {}", self.status.as_u16());
        match self.status {
            status if status.is_success() => Ok(self),
            status if status.is_server_error() => Err(RemoteError::Unavailable(text())),
            _ => Err(RemoteError::Answer(text())),
        }
    }

    /// The JSON object in it.
    ///
    /// # Errors
    /// [`RemoteError::Answer`] says where it is not what was expected, and not what is there.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, RemoteError> {
        let error = |detail| {
            let status = self.status.as_u16();
            RemoteError::Answer(format!("status {status}, not the JSON that was expected{detail}"))
        };
        // Fields by their place in a list would do for serde.
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

/// Why a service has not said what was asked.
///
/// For the log. Has nothing of what was sent or answered in it but a status.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// It cannot be reached, does not answer in time, breaks off, or says that it cannot now.
    #[error("not available: {0}")]
    Unavailable(String),
    /// It answers something else.
    #[error("not a usable answer: {0}")]
    Answer(String),
}

impl From<Failed> for RemoteError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Unanswered(causes) | Failed::Other(causes) => Self::Unavailable(causes),
            Failed::TooLarge => Self::Answer(format!("more than {MAX_BODY} bytes")),
        }
    }
}
