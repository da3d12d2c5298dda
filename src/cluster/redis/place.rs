//! Opens connections to Redis, and runs calls on them. Sentinel is the program that watches the servers of Redis. If
//! Sentinel is configured, the node asks Sentinel which server is the primary.

use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::Value;
use tokio::{
    sync::Mutex,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

pub(crate) use super::primary::Server;
use super::{
    failure::Failure,
    primary::{self, Primary},
    script::Script,
    settings::{Endpoint, RedisSettings, Source},
    settings_error::RedisSettingsError,
};
use crate::cluster::coordinator::{CoordinatorError, CoordinatorFuture};

/// The time limit for an answer of Redis, and for opening a connection. If the lease time is below 6 s, the limit is
/// shorter.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// The limit is never shorter than this. Otherwise a short pause of Redis would close connections.
const MIN_ANSWER_LIMIT: Duration = Duration::from_millis(500);

/// After a failed attempt to connect, all calls fail for this time, without a new attempt.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

/// The time between two requests to Sentinel for the current primary. The requests begin after the first connection to
/// the primary.
const SENTINEL_PERIOD: Duration = Duration::from_secs(1);

/// Redis as the *place*: the store in which the nodes of a site share data.
///
/// If a connection was closed, the next call opens a new one. With Sentinel, the new connection goes to the primary
/// that Sentinel names.
#[derive(Clone)]
pub struct RedisPlace {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) name: Arc<str>,
    pub(super) settings: RedisSettings,
    /// The connection for calls that Redis answers immediately.
    pub(super) calls: Line,
    /// The connection for the call that waits for new entries of the log. Redis answers the calls of a connection one
    /// after the other. So on a shared connection, this call would delay all other calls.
    pub(super) waiting: Line,
    watch: std::sync::Mutex<Option<JoinHandle<()>>>,
    /// How long Redis may take to answer, in milliseconds.
    answer_limit: AtomicU64,
}

/// A connection to the primary. The first call opens it.
#[derive(Default)]
pub(super) struct Line(Mutex<State>);

#[derive(Default)]
enum State {
    #[default]
    Closed,
    Open(Arc<Primary>),
    Failed(Instant, Failure),
}

impl RedisPlace {
    /// Creates a place. The first call connects to Redis.
    ///
    /// # Errors
    /// [`RedisSettingsError`] if a password is missing, or if there are certificates without `rediss://` or the
    /// reverse.
    pub fn new(settings: RedisSettings) -> Result<Self, RedisSettingsError> {
        settings.check()?;
        let name = settings.address.to_string().into();
        let (calls, waiting) = (Line::default(), Line::default());
        let watch = std::sync::Mutex::default();
        let answer_limit = AtomicU64::new(millis(ANSWER_LIMIT));
        let shared = Shared { name, settings, calls, waiting, watch, answer_limit };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Returns the name of this place for messages. It contains no secret.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Runs a script with the keys and arguments, and returns its answer. All keys must be keys of this site.
    pub(crate) fn invoke(
        &self,
        script: &'static Script,
        keys: Vec<Vec<u8>>,
        args: Vec<Vec<u8>>,
    ) -> CoordinatorFuture<Value> {
        self.invoke_at(script, keys, move |_| Ok(args))
    }

    /// Does the same as [`invoke`](Self::invoke), with arguments that depend on the server of the connection.
    pub(crate) fn invoke_at(
        &self,
        script: &'static Script,
        keys: Vec<Vec<u8>>,
        args: impl FnOnce(&Server) -> Result<Vec<Vec<u8>>, CoordinatorError> + Send + 'static,
    ) -> CoordinatorFuture<Value> {
        let shared = self.shared.clone();
        Box::pin(async move {
            let call = async |primary: &Primary| {
                // If the term of the call belongs to another server, `args` fails. The connection is then closed,
                // because a new connection may reach that server.
                let args = args(&primary.server())
                    .map_err(|error| Failure { error, is_of_connection: true })?;
                let answer = primary.connection.run(script, &keys, &args).await;
                answer.map_err(|error| Failure::new(&shared.name, &error))
            };
            shared.call(&shared.calls, shared.answer_limit(), call).await
        })
    }
}

/// Returns the time limit for an answer of Redis, for nodes with this lease time. A node notices a dead server after
/// one such limit, and needs up to one more limit to open a new connection. If the lease time is more than 1 s, both
/// limits together are shorter than the lease time.
fn limit_for(lease: Duration) -> Duration {
    (lease / 3).clamp(MIN_ANSWER_LIMIT, ANSWER_LIMIT)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Shared {
    /// Sets how long Redis may take to answer, for nodes with this lease time.
    pub(super) fn set_lease(&self, lease: Duration) {
        self.answer_limit.store(millis(limit_for(lease)), Ordering::Relaxed);
    }

    pub(super) fn answer_limit(&self) -> Duration {
        Duration::from_millis(self.answer_limit.load(Ordering::Relaxed))
    }

    /// Runs `call` with the connection of `line`. `limit` does not include the time for opening the connection.
    pub(super) async fn call<T>(
        self: &Arc<Self>,
        line: &Line,
        limit: Duration,
        call: impl AsyncFnOnce(&Primary) -> Result<T, Failure>,
    ) -> Result<T, CoordinatorError> {
        let primary = self.open(line).await?;
        let failure = match timeout(limit, call(&primary)).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(failure)) => failure,
            Err(_) => {
                let reason = format!("{} has not answered in time", primary.connection.endpoint());
                Failure::unreachable(&self.name, &reason)
            }
        };
        if failure.is_of_connection {
            line.close(&primary).await;
        }
        Err(failure.error)
    }

    async fn open(self: &Arc<Self>, line: &Line) -> Result<Arc<Primary>, CoordinatorError> {
        let mut state = line.0.lock().await;
        match &*state {
            State::Open(primary) if !primary.connection.is_closed() => return Ok(primary.clone()),
            State::Failed(at, failure) if at.elapsed() < RECONNECT_PAUSE => {
                return Err(failure.error.clone());
            }
            _ => {}
        }
        *state = State::Closed;
        match primary::connect(&self.name, &self.settings, self.answer_limit()).await {
            Ok(primary) => {
                let primary = Arc::new(primary);
                *state = State::Open(primary.clone());
                self.watch_sentinel();
                Ok(primary)
            }
            Err(failure) => {
                *state = State::Failed(Instant::now(), failure.clone());
                Err(failure.error)
            }
        }
    }

    /// With Sentinel, starts the task that asks Sentinel for the primary. The task notices a failover even if the old
    /// primary still answers.
    fn watch_sentinel(self: &Arc<Self>) {
        if !matches!(self.settings.address.source, Source::Sentinel { .. }) {
            return;
        }
        if let Ok(mut watch) = self.watch.lock() {
            watch.get_or_insert_with(|| tokio::spawn(watch_sentinel(Arc::downgrade(self))));
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Ok(watch) = self.watch.get_mut()
            && let Some(watch) = watch.take()
        {
            watch.abort();
        }
    }
}

async fn watch_sentinel(shared: Weak<Shared>) {
    loop {
        sleep(SENTINEL_PERIOD).await;
        let Some(shared) = shared.upgrade() else { return };
        if let Ok(endpoint) = primary::find(&shared.name, &shared.settings).await {
            shared.calls.close_unless(&endpoint).await;
            shared.waiting.close_unless(&endpoint).await;
        }
    }
}

impl Line {
    /// If `primary` is still the open connection of this line, the line drops it. Calls that wait for an answer on this
    /// connection keep it until they end.
    async fn close(&self, primary: &Arc<Primary>) {
        let mut state = self.0.lock().await;
        if matches!(&*state, State::Open(open) if Arc::ptr_eq(open, primary)) {
            *state = State::Closed;
        }
    }

    async fn close_unless(&self, endpoint: &Endpoint) {
        let mut state = self.0.lock().await;
        if matches!(&*state, State::Open(open) if open.connection.endpoint() != endpoint) {
            *state = State::Closed;
        }
    }
}

impl fmt::Debug for RedisPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisPlace")
            .field("settings", &self.shared.settings)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::cluster::{
        coordinator::Coordinator,
        redis::{RedisAddress, SiteName},
    };

    #[tokio::test(start_paused = true)]
    async fn a_server_that_accepts_connections_and_does_not_answer_is_left_in_time() {
        for (lease, limit) in [(300, 500), (1000, 500), (3000, 1000), (6000, 2000), (60_000, 2000)]
        {
            let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("redis://{}", server.local_addr().unwrap());
            let address = RedisAddress::from_url(&url).unwrap();
            let settings = RedisSettings::new(SiteName::new("site").unwrap(), address);
            let place = RedisPlace::new(settings).unwrap();
            let begun = Instant::now();
            let error = place.join(Duration::from_millis(lease)).await.unwrap_err();
            assert!(matches!(error, CoordinatorError::Unreachable { .. }), "{error}");
            let (took, limit) = (begun.elapsed(), Duration::from_millis(limit));
            assert!(took >= limit && took < limit + Duration::from_millis(10), "{lease} {took:?}");
        }
    }
}
