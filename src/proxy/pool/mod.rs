//! The connections to the services: each is kept for the next request.
//!
//! A pool of its own, and not the one of `hyper-util`, which does more for each request than a proxy
//! needs (`benches/compare` has a minimal proxy on that one). Here the connection that was used last
//! is used next, and giving one back is to put it on a stack.

use std::{
    collections::HashMap,
    error::Error as StdError,
    fmt, mem,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{HeaderValue, Uri, uri};
use hyper::{
    body::Body,
    rt::{Read, Write},
};
use tokio::{
    runtime::{self, Handle},
    time::{Instant, interval, timeout_at},
};
use tower::{Service, ServiceExt};

mod read_after_reset;
mod upstream_connection;

pub(super) use upstream_connection::Sending;
use upstream_connection::{ConnectionState, UpstreamConnection};

use super::forward::Timeouts;
use crate::layer::Upstream;

pub(super) type BoxError = Box<dyn StdError + Send + Sync>;

/// So many connections to one service are kept while nobody uses them.
const KEPT: usize = 256;

/// However short the time for an answer is.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);

/// The connections to all services.
pub(super) struct ConnectionPool<C, B> {
    /// Locked to make a clone of it.
    connector: Mutex<C>,
    timeouts: Timeouts,
    services: Mutex<HashMap<Target, Arc<HostPool<B>>>>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Target {
    scheme: uri::Scheme,
    authority: uri::Authority,
    /// Each keeps its connections for itself: only while it runs do they hear anything.
    runtime: runtime::Id,
}

/// The connections to one service that nobody uses.
pub(super) struct HostPool<B> {
    host: HeaderValue,
    uri: Uri,
    /// Counts how often what is unused was looked at: cheaper to note than the time.
    turn: AtomicU64,
    /// The one that was used last is at the end.
    stack: Mutex<Vec<Idle<B>>>,
}

struct Idle<B> {
    connection: Box<PooledConnection<B>>,
    /// The turn in which it was given back.
    since: u64,
}

/// A connection that somebody uses, to be given back when the exchange is over. Dropped before, it
/// is closed; but what the service has answered it gets to its end.
pub(super) struct PooledConnection<B> {
    pub(super) upstream: UpstreamConnection<B>,
    /// Whether the service has answered the request that it carries.
    pub(super) is_answered: bool,
    kept: Weak<HostPool<B>>,
}

impl<B> Drop for PooledConnection<B> {
    fn drop(&mut self) {
        if self.is_answered && self.upstream.is_stuck() {
            self.upstream.spawn_driver();
        }
    }
}

impl<B> PooledConnection<B> {
    /// The exchange is over, as far as we are concerned.
    pub(super) fn give_back(mut self: Box<Self>) {
        match self.upstream.state() {
            ConnectionState::Closed => {}
            ConnectionState::Busy => self.upstream.spawn_driver(),
            ConnectionState::Ready => {
                self.is_answered = false;
                match self.kept.upgrade() {
                    Some(kept) => kept.keep(self),
                    None => self.upstream.spawn_driver(),
                }
            }
        }
    }
}

impl<B> fmt::Debug for PooledConnection<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PooledConnection").field("upstream", &self.upstream).finish_non_exhaustive()
    }
}

impl<B> HostPool<B> {
    /// What the header `Host` of requests is (RFC 9110 §7.2).
    pub(super) fn host(&self) -> &HeaderValue {
        &self.host
    }

    fn keep(&self, mut connection: Box<PooledConnection<B>>) {
        let since = self.turn.load(Ordering::Relaxed);
        let mut stack = lock(&self.stack);
        if stack.len() < KEPT {
            stack.push(Idle { connection, since });
            return;
        }
        drop(stack);
        connection.upstream.spawn_driver();
    }

    /// A connection that can carry a request at once, if there is one.
    pub(super) fn take(&self) -> Option<Box<PooledConnection<B>>> {
        let mut stack = lock(&self.stack);
        loop {
            let Idle { mut connection, .. } = stack.pop()?;
            if connection.upstream.state() == ConnectionState::Ready {
                return Some(connection);
            }
        }
    }

    /// Closes what nobody has used for `turns` of these, and forgets what the service has closed.
    fn forget_unused_for(&self, turns: u64) {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) + 1;
        let mut stack = lock(&self.stack);
        stack.retain_mut(|unused| unused.connection.upstream.state() == ConnectionState::Ready);
        // The oldest are at the beginning.
        let old = stack.iter().take_while(|unused| turn - unused.since > turns).count();
        let old: Vec<_> = stack.drain(..old).collect();
        drop(stack);
        say_goodbye(old);
    }

    /// Closes what nobody uses.
    fn clear(&self) {
        let all = mem::take(&mut *lock(&self.stack));
        say_goodbye(all);
    }
}

impl<B> Drop for HostPool<B> {
    fn drop(&mut self) {
        self.clear();
    }
}

fn say_goodbye<B>(unused: Vec<Idle<B>>) {
    for mut unused in unused {
        unused.connection.upstream.spawn_driver();
    }
}

/// What closes the connections to one service. Dropped with its task, and so with its runtime, without
/// which nobody can use what is kept.
struct IdleReaper<C, B> {
    connections: Weak<ConnectionPool<C, B>>,
    target: Target,
    kept: Weak<HostPool<B>>,
}

impl<C, B> IdleReaper<C, B> {
    /// Closes what nobody has used for `idle`, or half as long again, until nobody can use it any
    /// more.
    async fn run(self, idle: Duration) {
        let mut turns = interval((idle / 2).max(Duration::from_millis(1)));
        loop {
            turns.tick().await;
            let Some(kept) = self.kept.upgrade() else { return };
            kept.forget_unused_for(2);
        }
    }
}

impl<C, B> Drop for IdleReaper<C, B> {
    fn drop(&mut self) {
        let connections = self.connections.upgrade();
        // Another runtime may come to have its number.
        let _kept = connections.and_then(|all| lock(&all.services).remove(&self.target));
        if let Some(kept) = self.kept.upgrade() {
            kept.clear();
        }
    }
}

impl<C, B> ConnectionPool<C, B> {
    /// Connects with `connector`.
    pub(super) fn new(connector: C, timeouts: Timeouts) -> Self {
        Self { connector: Mutex::new(connector), timeouts, services: Mutex::default() }
    }
}

impl<C, B> ConnectionPool<C, B>
where
    C: Service<Uri, Error: Into<BoxError>, Future: Send> + Clone + Send + 'static,
    C::Response: Read + Write + Unpin + Send + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    /// Those to `upstream`.
    pub(super) fn to(
        self: &Arc<Self>,
        upstream: &Upstream,
    ) -> Result<Arc<HostPool<B>>, http::Error> {
        let target = Target {
            scheme: upstream.scheme().clone(),
            authority: upstream.authority().clone(),
            runtime: Handle::current().id(),
        };
        let mut services = lock(&self.services);
        if let Some(kept) = services.get(&target) {
            return Ok(kept.clone());
        }
        let kept = Arc::new(HostPool {
            host: host(&target)?,
            uri: Uri::builder()
                .scheme(target.scheme.clone())
                .authority(target.authority.clone())
                .path_and_query("/")
                .build()?,
            turn: AtomicU64::new(0),
            stack: Mutex::default(),
        });
        let reaper = IdleReaper {
            connections: Arc::downgrade(self),
            target: target.clone(),
            kept: Arc::downgrade(&kept),
        };
        services.insert(target, kept.clone());
        // A runtime that ends drops it at once, and it locks them.
        drop(services);
        tokio::spawn(reaper.run(self.timeouts.idle));
        Ok(kept)
    }

    /// Makes a new connection, which may take until `deadline`.
    #[cold]
    pub(super) fn connect(&self, kept: &Arc<HostPool<B>>, deadline: Instant) -> Connecting<B> {
        let (connector, kept) = (lock(&self.connector).clone(), kept.clone());
        // Others may wait behind what is not taken, and their time for an answer runs.
        let patience = (self.timeouts.response / 4).max(LEAST_PATIENCE);
        Box::pin(async move {
            let io = timeout_at(deadline, connector.oneshot(kept.uri.clone()));
            let io = io.await.map_err(|_| ConnectError::TimedOut)?;
            let io = io.map_err(|error| ConnectError::Failed(error.into()))?;
            let upstream = UpstreamConnection::over(io, deadline, patience).await;
            let upstream = upstream.map_err(|error| ConnectError::Failed(error.into()))?;
            Ok(Box::new(PooledConnection {
                upstream,
                is_answered: false,
                kept: Arc::downgrade(&kept),
            }))
        })
    }
}

/// A connection that is being made.
pub(super) type Connecting<B> =
    Pin<Box<dyn Future<Output = Result<Box<PooledConnection<B>>, ConnectError>> + Send>>;

/// Why there is no connection.
pub(super) enum ConnectError {
    TimedOut,
    Failed(BoxError),
}

/// Without the port where it is the one of the scheme (RFC 9110 §7.2), and never with a user.
fn host(target: &Target) -> Result<HeaderValue, http::Error> {
    let usual = if target.scheme == uri::Scheme::HTTPS { 443 } else { 80 };
    let name = target.authority.host();
    Ok(match target.authority.port_u16() {
        Some(port) if port != usual => HeaderValue::try_from(format!("{name}:{port}"))?,
        _ => HeaderValue::try_from(name)?,
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that holds one of these locks can leave things half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_host_is_that_of_the_service() {
        for (scheme, authority, want) in [
            ("http", "zos.example", "zos.example"),
            ("http", "zos.example:80", "zos.example"),
            ("http", "zos.example:443", "zos.example:443"),
            ("https", "zos.example:443", "zos.example"),
            ("https", "zos.example:10012", "zos.example:10012"),
            ("https", "[::1]:10012", "[::1]:10012"),
        ] {
            let target = Target {
                scheme: scheme.parse().unwrap(),
                authority: authority.parse().unwrap(),
                runtime: Handle::current().id(),
            };
            assert_eq!(host(&target).unwrap(), want, "{scheme}://{authority}");
        }
    }
}
