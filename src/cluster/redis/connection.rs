//! One open connection to a server of Redis, or to a Sentinel (a program that watches these servers).

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, RedisConnectionInfo, RedisError, ServerErrorKind, Value,
    aio::MultiplexedConnection,
};
use tokio::task::JoinHandle;

use super::{
    failure::Failure,
    reply,
    script::Script,
    settings::Endpoint,
    socket::{AnswerBytes, Socket},
    tls::RedisTls,
};

#[derive(Clone, Copy)]
pub(super) struct Login<'a> {
    pub(super) user: Option<&'a str>,
    pub(super) password: Option<&'a [u8]>,
    pub(super) tls: Option<&'a RedisTls>,
}

/// A connection that several calls can use at the same time. It is closed when it is dropped.
pub(super) struct Connection {
    calls: MultiplexedConnection,
    endpoint: Endpoint,
    answer_bytes: AnswerBytes,
    is_closed: Arc<AtomicBool>,
    driver: JoinHandle<()>,
}

impl Connection {
    /// Connects and logs in. `place` is the name of the place in errors. The caller must limit the time.
    pub(super) async fn open(
        place: &Arc<str>,
        endpoint: &Endpoint,
        login: Login<'_>,
    ) -> Result<Self, Failure> {
        let (socket, answer_bytes) = Socket::connect(endpoint, login.tls)
            .await
            .map_err(|error| Failure::unreachable(place, &format!("{endpoint}: {error}")))?;
        // The crate `redis` accepts only passwords in UTF-8. So this function sends the command `AUTH` itself.
        let nothing = RedisConnectionInfo::default().set_skip_set_lib_name();
        // Each call has its own time limit.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let (calls, driver) = MultiplexedConnection::new_with_config(&nothing, socket, config)
            .await
            .map_err(|error| Failure::new(place, &error))?;
        let is_closed = Arc::new(AtomicBool::new(false));
        let driver = tokio::spawn({
            let is_closed = is_closed.clone();
            async move {
                driver.await;
                is_closed.store(true, Ordering::Release);
            }
        });
        let endpoint = endpoint.clone();
        let connection = Self { calls, endpoint, answer_bytes, is_closed, driver };
        if let Some(password) = login.password {
            let mut auth = redis::cmd("AUTH");
            if let Some(user) = login.user {
                auth.arg(user);
            }
            auth.arg(password);
            connection.command(&auth).await.map_err(|error| Failure::new(place, &error))?;
        }
        Ok(connection)
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// The caller must limit the time.
    pub(super) async fn command(&self, command: &Cmd) -> Result<Value, RedisError> {
        let value = command.query_async(&mut self.calls.clone()).await;
        self.answer_bytes.answer_is_complete();
        value
    }

    /// The caller must limit the time.
    pub(super) async fn run(
        &self,
        script: &Script,
        keys: &[Vec<u8>],
        args: &[Vec<u8>],
    ) -> Result<Value, RedisError> {
        let call = |name, code: &str| {
            let mut command = redis::cmd(name);
            command.arg(code).arg(keys.len()).arg(keys).arg(args);
            command
        };
        match self.command(&call("EVALSHA", script.hash())).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.command(&call("EVAL", script.code())).await
            }
            answer => answer,
        }
    }

    /// Reads a section of `INFO`.
    pub(super) async fn info(&self, section: &str) -> Result<reply::Info, RedisError> {
        let answer = self.command(redis::cmd("INFO").arg(section)).await?;
        Ok(reply::Info::read(&answer))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}
