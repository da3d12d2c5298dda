//! The connections to all services.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use http::{Uri, uri};
use hyper::{
    body::Body,
    rt::{Read, Write},
};
use tokio::{
    runtime::{self, Handle},
    time::{Instant, interval, timeout_at},
};
use tower::{BoxError, Service, ServiceExt};

use super::{
    host_pool::{HostPool, PooledConnection, lock},
    upstream_connection::UpstreamConnection,
};
use crate::{layer::Upstream, proxy::timeouts::ForwardTimeouts};

/// Minimum of `max_stall`, for short response timeouts. If a service accepts no more bytes of the request
/// after its response, the connection is not closed before this time has passed.
const MIN_STALL: Duration = Duration::from_secs(1);

/// The connections to all services. `C` is the connector, `B` is the body of requests.
pub(in crate::proxy) struct ConnectionPool<C, B> {
    /// Locked only while the connector is cloned.
    connector: Mutex<C>,
    timeouts: ForwardTimeouts,
    hosts: Mutex<HashMap<Target, Arc<HostPool<B>>>>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Target {
    scheme: uri::Scheme,
    authority: uri::Authority,
    /// Runtimes do not share connections, because the I/O of a connection works only while its runtime
    /// runs.
    runtime: runtime::Id,
}

/// Shuts down and closes connections that have been idle for too long. Each service has its own reaper. The
/// reaper runs in a task of the runtime to which the connections belong. When that runtime ends, the reaper is
/// dropped, and the connections can no longer be used.
struct IdleReaper<C, B> {
    pool: Weak<ConnectionPool<C, B>>,
    target: Target,
    host: Weak<HostPool<B>>,
}

impl<C, B> IdleReaper<C, B> {
    /// Drains each connection after it has been idle for `timeout` to 1.5 × `timeout`. Returns when the
    /// [`HostPool`] has been dropped.
    async fn run(self, timeout: Duration) {
        let mut ticks = interval((timeout / 2).max(Duration::from_millis(1)));
        loop {
            ticks.tick().await;
            let Some(host) = self.host.upgrade() else { return };
            host.reap(2);
        }
    }
}

impl<C, B> Drop for IdleReaper<C, B> {
    fn drop(&mut self) {
        let pool = self.pool.upgrade();
        // Remove the entry, because another runtime may get the same id later. `_host` drops the entry
        // after the lock has been released.
        let _host = pool.and_then(|pool| lock(&pool.hosts).remove(&self.target));
        if let Some(host) = self.host.upgrade() {
            host.clear();
        }
    }
}

impl<C, B> ConnectionPool<C, B> {
    /// Makes a pool that connects with `connector`.
    pub(in crate::proxy) fn new(connector: C, timeouts: ForwardTimeouts) -> Self {
        Self { connector: Mutex::new(connector), timeouts, hosts: Mutex::default() }
    }
}

impl<C, B> ConnectionPool<C, B>
where
    C: Service<Uri, Error: Into<BoxError>, Future: Send> + Clone + Send + 'static,
    C::Response: Read + Write + Unpin + Send + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    /// The connections to `upstream` in the current runtime.
    pub(in crate::proxy) fn host(
        self: &Arc<Self>,
        upstream: &Upstream,
    ) -> Result<Arc<HostPool<B>>, http::Error> {
        let target = Target {
            scheme: upstream.scheme().clone(),
            authority: upstream.authority().clone(),
            runtime: Handle::current().id(),
        };
        let mut hosts = lock(&self.hosts);
        if let Some(host) = hosts.get(&target) {
            return Ok(host.clone());
        }
        let host = Arc::new(HostPool::new(&target.scheme, &target.authority)?);
        let reaper = IdleReaper {
            pool: Arc::downgrade(self),
            target: target.clone(),
            host: Arc::downgrade(&host),
        };
        hosts.insert(target, host.clone());
        // If the runtime is shutting down, `spawn` drops the reaper, and the `drop` of the reaper takes
        // this lock.
        drop(hosts);
        tokio::spawn(reaper.run(self.timeouts.idle()));
        Ok(host)
    }

    /// Makes a new connection. Fails if the connection is not open at `deadline`.
    #[cold]
    pub(in crate::proxy) fn connect(
        &self,
        host: &Arc<HostPool<B>>,
        deadline: Instant,
    ) -> Connecting<B> {
        let (connector, host) = (lock(&self.connector).clone(), host.clone());
        // Bytes that the service does not accept may block other requests of the same client, so this
        // time should be shorter than the response timeout of those requests.
        let max_stall = (self.timeouts.response() / 4).max(MIN_STALL);
        Box::pin(async move {
            let io = timeout_at(deadline, connector.oneshot(host.uri()));
            let io = io.await.map_err(|_| ConnectError::TimedOut)?;
            let io = io.map_err(|error| ConnectError::Failed(error.into()))?;
            let upstream = UpstreamConnection::handshake(io, deadline, max_stall).await;
            let upstream = upstream.map_err(|error| ConnectError::Failed(error.into()))?;
            Ok(Box::new(PooledConnection::new(upstream, &host)))
        })
    }
}

/// A connection that is being made.
pub(in crate::proxy) type Connecting<B> =
    Pin<Box<dyn Future<Output = Result<Box<PooledConnection<B>>, ConnectError>> + Send>>;

/// Why a connection could not be made.
pub(in crate::proxy) enum ConnectError {
    TimedOut,
    Failed(BoxError),
}
