//! The connections to services, by instance, protocol and runtime.

use std::{
    any::Any,
    collections::HashMap,
    error::Error as StdError,
    io,
    num::NonZeroUsize,
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
    runtime::Handle,
    time::{Instant, interval, timeout_at},
};
use tower::{BoxError, Service, ServiceExt};

use super::{
    connection_limit::{ConnectionLimit, Grant, PoolId},
    exchange_io::Reconnect,
    host_pool::{HostPool, Limit, PooledConnection, SharedError},
    http2_connection::Http2Connection,
    lock::lock,
    shared_body::SharedBody,
    upstream_connection::UpstreamConnection,
};
use crate::{
    http2_negotiation::NegotiateHttp2,
    layer::{ServiceProtocol, Upstream},
    proxy::{
        counts::{ForwardCounts, Retry},
        http2_settings::Http2Settings,
        instances::RetryBudget,
        timeouts::ForwardTimeouts,
    },
    request_facts::RequestFacts,
};

/// The time `max_stall` is a quarter of the response timeout, but at least this constant. If a service has sent its
/// response, but accepts no more bytes of the request, the connection is closed after `max_stall` to 2 × `max_stall`.
/// Over HTTP/2, the stream is reset instead.
const MIN_STALL: Duration = Duration::from_secs(1);

/// The connections to services that one connector has made. `C` is the connector, `B` is the body of requests.
pub(in crate::proxy) struct ConnectionPool<C, B> {
    /// This lock is held only while the connector is cloned.
    connector: Mutex<C>,
    /// `None` if the pool does not offer HTTP/2 by ALPN.
    negotiation: Option<Negotiation<C>>,
    settings: PoolSettings,
    hosts: Mutex<Hosts<B>>,
}

type Hosts<B> = HashMap<Target, Arc<HostPool<B>>>;

#[derive(Clone, Debug)]
pub(in crate::proxy) struct PoolSettings {
    pub(in crate::proxy) timeouts: ForwardTimeouts,
    /// The maximum number of connections to one instance of a service, in all runtimes.
    pub(in crate::proxy) max_connections: NonZeroUsize,
    pub(in crate::proxy) counts: Arc<ForwardCounts>,
    pub(in crate::proxy) http2: Http2Settings,
}

/// The functions of the trait [`NegotiateHttp2`] with which the pool offers HTTP/2 to services. They are stored here,
/// so that only [`new`](Self::new) needs this trait as a bound.
pub(in crate::proxy) struct Negotiation<C> {
    offer: fn(&C) -> C,
    is_http2: fn(&dyn Any) -> bool,
}

impl<C> Clone for Negotiation<C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C> Copy for Negotiation<C> {}

impl<C: NegotiateHttp2<Response: 'static>> Negotiation<C> {
    pub(in crate::proxy) fn new() -> Self {
        Self {
            offer: C::offering_http2,
            is_http2: |connection| connection.downcast_ref().is_some_and(C::is_http2),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Target {
    scheme: uri::Scheme,
    authority: uri::Authority,
    pool: PoolId,
}

/// Shuts down and closes connections that have been idle for too long. Each [`HostPool`] has its own reaper. The reaper
/// runs in a task of the runtime of the connections. When this runtime ends, the reaper is dropped. This drop removes
/// the [`HostPool`], because its connections can no longer be used.
struct IdleReaper<C, B> {
    pool: Weak<ConnectionPool<C, B>>,
    target: Target,
    host: Weak<HostPool<B>>,
}

/// A [`HostPool`] is removed when it has been unused for more than this number of ticks. A tick is half of the idle
/// timeout. Addresses of instances change, so the pool must not keep each address that it has ever used.
const UNUSED_TICKS: u64 = 2;

impl<C, B> IdleReaper<C, B> {
    /// Closes each connection after it has been idle for `timeout` to 1.5 × `timeout`. Returns when the [`HostPool`]
    /// has been dropped, or when it has been removed because it is not used.
    async fn run(self, timeout: Duration) {
        let mut ticks = interval((timeout / 2).max(Duration::from_millis(1)));
        let mut unused = 0;
        loop {
            ticks.tick().await;
            let Some(host) = self.host.upgrade() else { return };
            host.reap(2);
            drop(host);
            unused = if self.is_unused() { unused + 1 } else { 0 };
            if unused > UNUSED_TICKS && self.remove_unused() {
                return;
            }
        }
    }

    fn is_unused(&self) -> bool {
        self.pool.upgrade().is_some_and(|pool| self.has_unused_entry(&lock(&pool.hosts)))
    }

    /// Returns `true` if nothing except `hosts` refers to the host of this reaper, and the instance has no connection.
    fn has_unused_entry(&self, hosts: &Hosts<B>) -> bool {
        hosts.get(&self.target).is_some_and(|host| {
            self.is_of(host) && Arc::strong_count(host) == 1 && host.is_unused()
        })
    }

    /// Removes the host if it is unused. A request holds the lock of `hosts` while it looks for a host, so no request
    /// can get the host during this check.
    fn remove_unused(&self) -> bool {
        let Some(pool) = self.pool.upgrade() else { return true };
        let mut hosts = lock(&pool.hosts);
        let removed = if self.has_unused_entry(&hosts) { hosts.remove(&self.target) } else { None };
        // The host is dropped after the lock has been released.
        drop(hosts);
        removed.is_some()
    }

    fn is_of(&self, host: &Arc<HostPool<B>>) -> bool {
        Arc::as_ptr(host) == self.host.as_ptr()
    }
}

impl<C, B> Drop for IdleReaper<C, B> {
    fn drop(&mut self) {
        let pool = self.pool.upgrade();
        // Remove the entry of this runtime, because another runtime may get the same id later. But the entry may
        // already belong to another host with its own reaper. `_host` drops the entry after the lock has been released.
        let _host = pool.and_then(|pool| {
            let mut hosts = lock(&pool.hosts);
            let is_own = hosts.get(&self.target).is_some_and(|host| self.is_of(host));
            if is_own { hosts.remove(&self.target) } else { None }
        });
        if let Some(host) = self.host.upgrade() {
            host.clear();
        }
    }
}

impl<C, B> ConnectionPool<C, B> {
    pub(in crate::proxy) fn new(
        connector: C,
        settings: PoolSettings,
        negotiation: Option<Negotiation<C>>,
    ) -> Self {
        let connector = Mutex::new(connector);
        Self { connector, negotiation, settings, hosts: Mutex::default() }
    }

    pub(in crate::proxy) fn negotiation(&self) -> Option<Negotiation<C>> {
        self.negotiation
    }

    pub(in crate::proxy) fn settings(&self) -> &PoolSettings {
        &self.settings
    }

    /// Returns the number of instances, counted once per runtime and protocol.
    #[cfg(test)]
    pub(in crate::proxy) fn hosts(&self) -> usize {
        lock(&self.hosts).len()
    }

    /// Closes the connections to this host name, of all runtimes and ports: idle connections now, and connections in
    /// use at the end of their exchange.
    pub(in crate::proxy) fn retire(&self, name: &str) {
        let hosts = lock(&self.hosts);
        let of_name = hosts.iter().filter(|(target, _)| target.authority.host() == name);
        let of_name: Vec<_> = of_name.map(|(_, host)| host.clone()).collect();
        drop(hosts);
        of_name.iter().for_each(|host| host.retire());
    }

    pub(in crate::proxy) fn may_use_http2(
        &self,
        upstream: &Upstream,
        protocol: ServiceProtocol,
    ) -> bool {
        match protocol {
            ServiceProtocol::H2c => true,
            ServiceProtocol::Auto => {
                self.negotiation.is_some() && *upstream.scheme() == uri::Scheme::HTTPS
            }
            ServiceProtocol::Http1 => false,
        }
    }
}

impl<C: Clone, B> ConnectionPool<C, B> {
    /// Returns a pool with other settings, and without connections.
    pub(in crate::proxy) fn with_settings(
        &self,
        settings: PoolSettings,
        negotiation: Option<Negotiation<C>>,
    ) -> Self {
        Self::new(lock(&self.connector).clone(), settings, negotiation)
    }

    /// Returns the connector for connections to a service, and a function that says whether a connection of this
    /// connector uses HTTP/2.
    fn connector(&self, protocol: ServiceProtocol) -> (C, fn(&dyn Any) -> bool) {
        let connector = lock(&self.connector).clone();
        match (protocol, self.negotiation) {
            (ServiceProtocol::H2c, _) => (connector, |_| true),
            (ServiceProtocol::Auto, Some(Negotiation { offer, is_http2 })) => {
                (offer(&connector), is_http2)
            }
            (ServiceProtocol::Auto, None) | (ServiceProtocol::Http1, _) => (connector, |_| false),
        }
    }
}

impl<C, B> ConnectionPool<C, B>
where
    C: Service<Uri, Error: Into<BoxError>, Future: Send> + Clone + Send + 'static,
    C::Response: Read + Write + Unpin + Send + 'static,
    B: SharedBody + Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    /// Returns the connections to `upstream` in the current runtime.
    pub(in crate::proxy) fn host(
        self: &Arc<Self>,
        upstream: &Upstream,
        protocol: ServiceProtocol,
    ) -> Result<Arc<HostPool<B>>, http::Error> {
        let target = Target {
            scheme: upstream.scheme().clone(),
            authority: upstream.authority().clone(),
            pool: PoolId { runtime: Handle::current().id(), protocol },
        };
        let mut hosts = lock(&self.hosts);
        if let Some(host) = hosts.get(&target) {
            return Ok(host.clone());
        }
        let limit = limit_of(&hosts, &target).unwrap_or_else(|| {
            let PoolSettings { max_connections, counts, .. } = &self.settings;
            Arc::new(ConnectionLimit::new(max_connections.get(), counts.clone()))
        });
        let Target { scheme, authority, pool } = &target;
        let host = Arc::new(HostPool::new(scheme, authority, *pool, limit)?);
        let weak: Weak<HostPool<B>> = Arc::downgrade(&host);
        host.limit().add_pool(weak);
        let reaper = IdleReaper {
            pool: Arc::downgrade(self),
            target: target.clone(),
            host: Arc::downgrade(&host),
        };
        hosts.insert(target, host.clone());
        // Release the lock first. If the runtime is shutting down, `spawn` drops the reaper, and the `drop` of the
        // reaper takes this lock.
        drop(hosts);
        tokio::spawn(reaper.run(self.settings.timeouts.idle()));
        Ok(host)
    }

    /// Returns a connection for a request: an HTTP/2 connection that another request has opened meanwhile, or a new
    /// connection if a slot is free. If there is no such connection and no free slot, the request waits. The request
    /// then gets a slot for a new connection, or the connection of a request that has ended.
    ///
    /// If the service closes an idle HTTP/1.1 connection while a later request is sent on it, the pool may replace the
    /// connection. The replacement takes a retry from `budget`.
    ///
    /// Fails if the connector fails, if the request still waits at `queue_deadline`, or if the new connection is not
    /// open at `deadline`. If the request had to wait for a slot, `deadline` does not apply. The new connection must
    /// then be open within the response timeout after the request got the slot.
    ///
    /// The time of the wait and the time to connect are added to `facts`.
    #[cold]
    pub(in crate::proxy) fn connect(
        &self,
        host: &Arc<HostPool<B>>,
        budget: &Arc<RetryBudget>,
        deadline: Instant,
        queue_deadline: Instant,
        facts: Option<&RequestFacts>,
    ) -> Connecting<B> {
        let ((connector, is_http2), host) = (self.connector(host.protocol()), host.clone());
        let (budget, facts) = (budget.clone(), facts.cloned());
        let PoolSettings { timeouts, max_connections, counts, http2 } = self.settings.clone();
        // If the service does not accept the bytes of a request body, these bytes fill the flow-control window of the
        // client's HTTP/2 connection. Other uploads on this connection then stall. `max_stall` should be shorter than
        // the response timeout, so that these uploads can continue before they time out.
        let max_stall = (timeouts.response() / 4).max(MIN_STALL);
        Box::pin(async move {
            let (mut deadline, mut waited_until) = (deadline, None);
            let mut turn = None;
            if let Some(facts) = &facts {
                facts.begin_connect();
            }
            if let Some(lock) = host.http2_turn() {
                let since = Instant::now();
                let held = timeout_at(deadline, lock.lock());
                let held = held.await.map_err(|_| ConnectError::TimedOut)?;
                if let Some(connection) = host.take() {
                    return Ok(Connected { connection, is_reused: true, waited_until });
                }
                if let Some((failed, error)) = &*held
                    && *failed >= since
                {
                    return Err(ConnectError::Failed(error.clone().into()));
                }
                turn = Some(held);
            }
            let slot = match host.limit().acquire(host.id()) {
                Ok(slot) => slot,
                Err(waiting) => {
                    // All connections are in use. This request releases the lock of `http2_turn`. So the requests that
                    // wait for this lock can join the queue of the limit.
                    turn = None;
                    if let Some(facts) = &facts {
                        facts.begin_queue();
                    }
                    let Ok(grant) = timeout_at(queue_deadline, waiting).await else {
                        counts.add_refused();
                        let waited = timeouts.queue();
                        return Err(ConnectError::Busy { max_connections, waited });
                    };
                    let now = Instant::now();
                    (deadline, waited_until) = (now + timeouts.response(), Some(now));
                    if let Some(facts) = &facts {
                        facts.begin_connect();
                    }
                    match grant {
                        Grant::Connection(connection) => {
                            return Ok(Connected { connection, is_reused: true, waited_until });
                        }
                        Grant::Slot(slot) => slot,
                    }
                }
            };
            let uri = host.uri();
            let io = timeout_at(deadline, connector.clone().oneshot(uri.clone()));
            let io = io.await.map_err(|_| ConnectError::TimedOut)?.map_err(Into::into);
            let io = match (io, &mut turn) {
                (Ok(io), _) => io,
                (Err(error), None) => return Err(ConnectError::Failed(error)),
                (Err(error), Some(turn)) => {
                    let error = SharedError(Arc::new(error));
                    **turn = Some((Instant::now(), error.clone()));
                    return Err(ConnectError::Failed(error.into()));
                }
            };
            if is_http2(&io) {
                // Another request may have connected meanwhile. In this case, this request drops its own connection,
                // and shares the connection of the other request.
                if let Some(connection) = host.take() {
                    return Ok(Connected { connection, is_reused: true, waited_until });
                }
                let connection =
                    Http2Connection::handshake(io, uri, slot, http2, counts, max_stall);
                let connection = timeout_at(deadline, connection).await;
                let connection = connection.map_err(|_| ConnectError::TimedOut)?;
                let connection = connection.map_err(|error| ConnectError::Failed(error.into()))?;
                let connection = host.add_http2(connection);
                return Ok(Connected { connection, is_reused: true, waited_until });
            }
            host.uses_http1();
            let reconnect: Reconnect<_> = Box::new(move || {
                if !budget.withdraw() {
                    counts.add_refused_retry();
                    return Box::pin(async { Err(BudgetExhausted.into()) });
                }
                counts.add_retry(Retry::Closed);
                let connecting = connector.clone().oneshot(uri.clone());
                Box::pin(async { connecting.await.map_err(Into::into) })
            });
            let upstream =
                UpstreamConnection::handshake(io, reconnect, slot, deadline, max_stall).await;
            let upstream = upstream.map_err(|error| ConnectError::Failed(error.into()))?;
            let connection = Box::new(PooledConnection::new(upstream, &host));
            Ok(Connected { connection, is_reused: false, waited_until })
        })
    }
}

fn is_refused(error: &(dyn StdError + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Returns the limit of the instance of `target`, if `hosts` has an entry for the instance in any runtime.
fn limit_of<B>(hosts: &Hosts<B>, target: &Target) -> Option<Arc<Limit<B>>> {
    let is_same =
        |other: &Target| (&other.scheme, &other.authority) == (&target.scheme, &target.authority);
    hosts.iter().find(|(other, _)| is_same(other)).map(|(_, host)| host.limit().clone())
}

pub(in crate::proxy) type Connecting<B> =
    Pin<Box<dyn Future<Output = Result<Connected<B>, ConnectError>> + Send>>;

pub(in crate::proxy) struct Connected<B> {
    pub(in crate::proxy) connection: Box<PooledConnection<B>>,
    /// Whether the connection has already carried a request, or is a connection of HTTP/2, which requests share.
    pub(in crate::proxy) is_reused: bool,
    /// The time when the wait for a slot ended, if the request had to wait.
    pub(in crate::proxy) waited_until: Option<Instant>,
}

#[derive(Debug, thiserror::Error)]
#[error("the retry budget of the service is used up")]
struct BudgetExhausted;

pub(in crate::proxy) enum ConnectError {
    /// All `max_connections` connections to the instance were in use, and none of them became free within `waited`.
    Busy {
        max_connections: NonZeroUsize,
        waited: Duration,
    },
    TimedOut,
    Failed(BoxError),
}

impl ConnectError {
    pub(in crate::proxy) fn is_refused(&self) -> bool {
        matches!(self, Self::Failed(error) if is_refused(&**error))
    }
}
