//! Limits the connections of clients, over all servers of a process ([D28](crate::decisions#d28)). Each open connection
//! holds a *place*. The number of places is limited.

use std::{
    cell::Cell,
    collections::{HashMap, HashSet},
    fmt,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::time::Instant;

use super::{
    address_requests::RequestsByAddress,
    client_connection::{ClientConnection, Eviction, Shared, millis_since},
    client_source::ClientSource,
    close_reason::CloseReason,
    connection_counts::ConnectionCounts,
    header_budget::HeaderBudget,
};
use crate::{connection::SourceNetwork, stall::MIN_PROGRESS};

/// Default of the maximum number of open connections.
const CONNECTIONS: NonZeroUsize = NonZeroUsize::new(10_000).expect("should not be zero");

/// Default of the maximum number of requests in flight per address.
const REQUESTS_PER_ADDRESS: NonZeroUsize = NonZeroUsize::new(256).expect("should not be zero");

/// Default of the memory for headers, in bytes.
const HEADER_BYTES: usize = 256 * 1024 * 1024;

/// The minimum time between two searches for connections to close. A search looks at each connection. Without this
/// minimum, an attacker could cause a search with each new connection.
const SEARCH_AGAIN_AFTER_MILLIS: u64 = 20;

/// A search keeps at least this number of candidates, if it finds so many. They must suffice until the next search.
const MIN_CANDIDATES: usize = 64;

/// A connection that waits for its client counts as stalled after this time without progress. This is shorter than the
/// time for which a new connection waits for a place (`MAX_WAIT` in `accepted_connection.rs`). So the new connection
/// can get the place of a stalled one.
const STALLED_AFTER_MILLIS: u64 = 500;

/// Only searches observe stalls. If the last observation of a stall is older than this, the next search measures the
/// stall from 0.
const STALL_VALID_MILLIS: u64 = 1_000;

/// If the process has too many open files, at most one connection is closed in each period of this length.
const FILE_EVICTION_MILLIS: u64 = 50;

/// The limits of client connections. Several [`Server`](super::Server)s can share them.
///
/// If a client opens a connection at the limit, the server closes the connection that has been idle longest. A
/// connection is idle before its first request. It is also idle between two requests, if the client has taken all
/// responses. If no connection is idle, the server closes a stalled connection: one that waits for its client, while
/// the client sends and takes almost nothing. If no connection is stalled, the new connection waits up to one second
/// for a place. If it gets none, the server closes it. At most 64 connections of a server wait. If an address already
/// has its maximum of connections, the server closes an idle or stalled connection of this address. If there is none,
/// it closes the new connection, which does not wait. An IPv6 network of 64 bits counts as one address, because a host
/// can choose any address in its network. The limit of connections of one address does not apply to trusted proxies.
///
/// ```
/// use std::{num::NonZeroUsize, sync::Arc};
/// use tower_passticket::tls::ClientLimits;
///
/// let limits = ClientLimits::new(NonZeroUsize::new(2_000).unwrap());
/// assert_eq!(limits.connections_per_address().get(), 1_000);
/// let shared_by_all_servers = Arc::new(limits);
/// ```
pub struct ClientLimits {
    /// The maximum number of open connections. Like `per_address`, it is not 0.
    connections: AtomicUsize,
    per_address: AtomicUsize,
    requests: Arc<RequestsByAddress>,
    epoch: Instant,
    headers: Arc<HeaderBudget>,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    open: HashMap<u64, Entry>,
    /// The number of connections that were evicted but are still open. Their tasks will close them soon.
    evicted: usize,
    addresses: HashMap<SourceNetwork, Address>,
    last_id: u64,
    candidates: Candidates,
    evicted_for_files_at: Option<u64>,
}

struct Address {
    open: HashSet<u64>,
    evicted: usize,
    candidates: Candidates,
}

struct Entry {
    connection: Arc<ClientConnection>,
    source: ClientSource,
    stall: Cell<Option<Stall>>,
}

/// The observation that a connection waits for its client. Only searches update it.
#[derive(Clone, Copy, Debug)]
struct Stall {
    since: u64,
    seen: u64,
    bytes_at_start: u64,
}

/// The connections that the last search has found as candidates for eviction. In each list, the candidate to close
/// first is at the end.
///
/// A connection that became idle after the search is not in the lists. It has been idle for a shorter time than each
/// candidate that is still idle. So the lists stay correct, and one search is enough for many evictions.
#[derive(Default)]
struct Candidates {
    idle_since_and_id: Vec<(u64, u64)>,
    stalled_since_and_id: Vec<(u64, u64)>,
    searched_at: Option<u64>,
}

impl ClientLimits {
    /// Limits the open connections to `connections`, and the open connections of one address to half of this number
    /// (rounded up).
    pub fn new(connections: NonZeroUsize) -> Self {
        let half = connections.get().div_ceil(2);
        Self {
            connections: AtomicUsize::new(connections.get()),
            per_address: AtomicUsize::new(half),
            requests: Arc::new(RequestsByAddress::new(REQUESTS_PER_ADDRESS)),
            epoch: Instant::now(),
            headers: Arc::new(HeaderBudget::new(HEADER_BYTES)),
            table: Mutex::default(),
        }
    }

    /// Sets the maximum number of open connections of one address. This limit has an effect only if it is below the
    /// limit of all connections.
    #[must_use]
    pub fn with_connections_per_address(self, per_address: NonZeroUsize) -> Self {
        Self { per_address: AtomicUsize::new(per_address.get()), ..self }
    }

    /// Sets the maximum number of requests in flight of one address. Further requests are answered with 429. A request
    /// from a trusted proxy ([`Server::with_trusted_proxies`](super::Server::with_trusted_proxies)) counts for the
    /// client that the proxy announces. If the proxy announces no client, the request is not limited. Default: 256.
    #[must_use]
    pub fn with_requests_per_address(self, requests_per_address: NonZeroUsize) -> Self {
        Self { requests: Arc::new(RequestsByAddress::new(requests_per_address)), ..self }
    }

    /// Limits the memory for the headers of all requests in flight, in bytes. The size of a header field is about its
    /// length plus 128 bytes. A request that would exceed this limit is answered with 503. Each connection can use 16
    /// KiB in addition to this limit. Default: 256 MiB.
    #[must_use]
    pub fn with_header_bytes(self, bytes: usize) -> Self {
        Self { headers: Arc::new(HeaderBudget::new(bytes)), ..self }
    }

    /// Replaces the limits of `self` by those of `other`. Servers may use `self` meanwhile. If a new limit is lower,
    /// the connections and requests that exceed it continue.
    pub fn replace(&self, other: &Self) {
        self.connections.store(other.connections().get(), Ordering::Relaxed);
        self.per_address.store(other.connections_per_address().get(), Ordering::Relaxed);
        self.requests.set_max(other.requests.max());
        self.headers.set_max(other.headers.max());
    }

    /// Returns the maximum number of open connections.
    pub fn connections(&self) -> NonZeroUsize {
        NonZeroUsize::new(self.connections.load(Ordering::Relaxed)).unwrap_or(NonZeroUsize::MIN)
    }

    /// Returns the maximum number of open connections of one address.
    pub fn connections_per_address(&self) -> NonZeroUsize {
        NonZeroUsize::new(self.per_address.load(Ordering::Relaxed)).unwrap_or(NonZeroUsize::MIN)
    }

    /// Takes a place for a new connection. If no place is free, an idle or stalled connection is evicted.
    ///
    /// # Errors
    /// The reason why the new connection must be closed.
    pub(super) fn admit(
        self: &Arc<Self>,
        source: ClientSource,
        counts: Option<&Arc<ConnectionCounts>>,
    ) -> Result<(Admitted, Evicted), CloseReason> {
        let now = millis_since(self.epoch);
        let table = &mut *self.table();
        let mut evicted = self.make_room_in_share(table, source, now)?;
        if table.open.len() - table.evicted >= self.connections().get() {
            // An evicted connection usually ends when its task runs the next time. If many evicted connections are
            // still open, their tasks have probably not run since. More evictions would not help then.
            let max_evicted = MIN_CANDIDATES.max(self.connections().get() / 8);
            if table.evicted >= max_evicted || !table.evict_one(now) {
                return Err(CloseReason::NoIdleConnection);
            }
            evicted = Evicted::Yes;
        }
        table.last_id += 1;
        let id = table.last_id;
        let shared = Shared {
            epoch: self.epoch,
            headers: self.headers.clone(),
            requests: self.requests.clone(),
            counts: counts.cloned(),
        };
        let connection = Arc::new(ClientConnection::new(shared));
        let entry = Entry { connection: connection.clone(), source, stall: Cell::new(None) };
        table.open.insert(id, entry);
        self.add_to_address(table, source, id, &connection);
        Ok((Admitted { limits: self.clone(), id, connection }, evicted))
    }

    /// Sets the source of a connection that was admitted as [`ClientSource::Exempt`].
    ///
    /// # Errors
    /// The reason why the connection must be closed.
    pub(super) fn set_source(
        &self,
        place: &Admitted,
        source: ClientSource,
    ) -> Result<Evicted, CloseReason> {
        let now = millis_since(self.epoch);
        let table = &mut *self.table();
        if place.connection.is_evicted() {
            return Err(CloseReason::ConnectionLimit);
        }
        let evicted = self.make_room_in_share(table, source, now)?;
        if let Some(entry) = table.open.get_mut(&place.id) {
            entry.source = source;
        }
        self.add_to_address(table, source, place.id, &place.connection);
        Ok(evicted)
    }

    /// Evicts a connection of the address, if the address already has its maximum number of connections.
    fn make_room_in_share(
        &self,
        table: &mut Table,
        source: ClientSource,
        now: u64,
    ) -> Result<Evicted, CloseReason> {
        let ClientSource::Client(network) = source else { return Ok(Evicted::No) };
        let Some(address) = table.addresses.get(&network) else { return Ok(Evicted::No) };
        let per_address = self.connections_per_address();
        if per_address >= self.connections()
            || address.open.len() - address.evicted < per_address.get()
        {
            return Ok(Evicted::No);
        }
        let max_evicted = MIN_CANDIDATES.max(per_address.get() / 8);
        if address.evicted >= max_evicted || !table.evict_one_of(network, now) {
            return Err(CloseReason::AddressLimit);
        }
        Ok(Evicted::OfSameAddress)
    }

    fn add_to_address(
        &self,
        table: &mut Table,
        source: ClientSource,
        id: u64,
        connection: &ClientConnection,
    ) {
        let ClientSource::Client(network) = source else { return };
        let address = table.addresses.entry(network).or_insert_with(|| Address {
            open: HashSet::new(),
            evicted: 0,
            candidates: Candidates::default(),
        });
        address.open.insert(id);
        connection.set_address(self.requests.counted_address(network));
    }

    /// Closes the longest idle connection (or a stalled one), because the process has too many open files. If several
    /// servers call this function at the same time, only one connection is closed for all these servers.
    pub(super) fn evict_for_open_files(&self) {
        let now = millis_since(self.epoch);
        let table = &mut *self.table();
        let last = table.evicted_for_files_at;
        if last.is_none_or(|last| now.saturating_sub(last) >= FILE_EVICTION_MILLIS) {
            table.evicted_for_files_at = Some(now);
            table.evict_one(now);
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for ClientLimits {
    /// The defaults are 10,000 connections in total, 5,000 connections per address, 256 requests in flight per address,
    /// and 256 MiB of headers.
    fn default() -> Self {
        Self::new(CONNECTIONS)
    }
}

impl fmt::Debug for ClientLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientLimits")
            .field("connections", &self.connections)
            .field("per_address", &self.per_address)
            .finish_non_exhaustive()
    }
}

impl Table {
    fn remove(&mut self, id: u64) {
        let Some(entry) = self.open.remove(&id) else { return };
        let evicted = usize::from(entry.connection.is_evicted());
        self.evicted -= evicted;
        if let ClientSource::Client(network) = entry.source
            && let Some(address) = self.addresses.get_mut(&network)
        {
            address.open.remove(&id);
            address.evicted -= evicted;
            if address.open.is_empty() {
                self.addresses.remove(&network);
            }
        }
    }

    fn evict_one(&mut self, now: u64) -> bool {
        let all = self.open.iter().map(|(id, entry)| (*id, entry));
        let found = self.candidates.next(&self.open, all, now);
        self.evict(found)
    }

    fn evict_one_of(&mut self, network: SourceNetwork, now: u64) -> bool {
        let open = &self.open;
        let Some(address) = self.addresses.get_mut(&network) else { return false };
        let all = address.open.iter().filter_map(|id| Some((*id, open.get(id)?)));
        let found = address.candidates.next(open, all, now);
        self.evict(found)
    }

    /// Evicts the connection in `found`. The connection keeps its entry until it has ended, but does not count for the
    /// limits.
    fn evict(&mut self, found: Option<(u64, Eviction)>) -> bool {
        let Some((id, why)) = found else { return false };
        let Some(entry) = self.open.get(&id) else { return false };
        entry.connection.evict(why);
        self.evicted += 1;
        if let ClientSource::Client(network) = entry.source
            && let Some(address) = self.addresses.get_mut(&network)
        {
            address.evicted += 1;
        }
        true
    }
}

impl Candidates {
    /// Takes the connection to evict next. `all` are the connections that may be evicted.
    fn next<'a>(
        &mut self,
        open: &HashMap<u64, Entry>,
        all: impl Iterator<Item = (u64, &'a Entry)>,
        now: u64,
    ) -> Option<(u64, Eviction)> {
        if let Some(id) = self.next_idle(open) {
            return Some((id, Eviction::Idle));
        }
        let searched_at = self.searched_at;
        if searched_at.is_none_or(|at| now.saturating_sub(at) >= SEARCH_AGAIN_AFTER_MILLIS) {
            self.searched_at = Some(now);
            self.search(all, now);
            if let Some(id) = self.next_idle(open) {
                return Some((id, Eviction::Idle));
            }
        }
        self.next_stalled(open).map(|id| (id, Eviction::Stalled))
    }

    fn search<'a>(&mut self, all: impl Iterator<Item = (u64, &'a Entry)>, now: u64) {
        let (idle, stalled) = (&mut self.idle_since_and_id, &mut self.stalled_since_and_id);
        idle.clear();
        stalled.clear();
        for (id, entry) in all {
            let connection = &*entry.connection;
            if connection.is_evicted() {
                continue;
            }
            if connection.is_idle() {
                idle.push((connection.idle_since_millis(), id));
            } else if let Some(since) = entry.stalled_since(now) {
                stalled.push((since, id));
            }
        }
        keep_longest(idle);
        keep_longest(stalled);
    }

    /// Takes the candidate that has been idle longest. Skips candidates that have had a request since the search.
    fn next_idle(&mut self, open: &HashMap<u64, Entry>) -> Option<u64> {
        while let Some((idle_since, id)) = self.idle_since_and_id.pop() {
            if let Some(Entry { connection, .. }) = open.get(&id)
                && connection.is_idle()
                && connection.idle_since_millis() == idle_since
                && !connection.is_evicted()
            {
                return Some(id);
            }
        }
        None
    }

    fn next_stalled(&mut self, open: &HashMap<u64, Entry>) -> Option<u64> {
        while let Some((_, id)) = self.stalled_since_and_id.pop() {
            if let Some(Entry { connection, .. }) = open.get(&id)
                && connection.waits_for_client()
                && !connection.is_evicted()
            {
                return Some(id);
            }
        }
        None
    }
}

/// Keeps the connections that have been idle or stalled longest, and sorts them. Keeps only a part of the connections,
/// so that sorting costs less than the search.
fn keep_longest(found: &mut Vec<(u64, u64)>) {
    let kept = found.len().div_ceil(16).max(MIN_CANDIDATES);
    if kept < found.len() {
        found.select_nth_unstable(kept);
        found.truncate(kept);
    }
    found.sort_unstable_by(|one, other| other.cmp(one));
}

impl Entry {
    /// Returns the time since which the connection has waited for its client without progress. Returns `None` if the
    /// connection does not count as stalled.
    fn stalled_since(&self, now: u64) -> Option<u64> {
        let connection = &*self.connection;
        if !connection.waits_for_client() {
            self.stall.set(None);
            return None;
        }
        let bytes = connection.read().wrapping_add(connection.written());
        let known = self.stall.get().filter(|stall| {
            now.saturating_sub(stall.seen) < STALL_VALID_MILLIS
                && bytes.wrapping_sub(stall.bytes_at_start) < MIN_PROGRESS
        });
        let (since, bytes_at_start) =
            known.map_or((now, bytes), |stall| (stall.since, stall.bytes_at_start));
        self.stall.set(Some(Stall { since, seen: now, bytes_at_start }));
        (now.saturating_sub(since) >= STALLED_AFTER_MILLIS).then_some(since)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evicted {
    No,
    Yes,
    /// A connection of the same address was evicted, because the address had its maximum of connections.
    OfSameAddress,
}

/// The place of an open connection. It is free again when this value is dropped.
#[derive(Debug)]
pub(super) struct Admitted {
    limits: Arc<ClientLimits>,
    id: u64,
    connection: Arc<ClientConnection>,
}

impl Admitted {
    pub(super) fn connection(&self) -> &Arc<ClientConnection> {
        &self.connection
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        drop(self.connection.take_tunnel());
        self.limits.table().remove(self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, task::Poll, time::Duration};

    use http::Request;
    use tokio::time::advance;

    use super::*;
    use crate::tls::{
        client_connection::{InFlight, WaitsFor},
        http_version::HttpVersion,
    };

    fn limits(connections: usize, per_address: usize) -> Arc<ClientLimits> {
        let number = |n| NonZeroUsize::new(n).unwrap();
        let limits = ClientLimits::new(number(connections));
        Arc::new(limits.with_connections_per_address(number(per_address)))
    }

    fn source(last: u8) -> ClientSource {
        ClientSource::of([192, 0, 2, last].into())
    }

    fn network(last: u8) -> SourceNetwork {
        let ClientSource::Client(network) = source(last) else { panic!("no client") };
        network
    }

    fn admit(limits: &Arc<ClientLimits>, source: ClientSource) -> Admitted {
        limits.admit(source, None).unwrap().0
    }

    #[tokio::test(start_paused = true)]
    async fn replaced_limits_apply_to_the_next_connection() {
        let limits = limits(2, 2);
        let open = [1, 2].map(|last| admit(&limits, source(last)));
        let requests = open.each_ref().map(|open| InFlight::begin(open.connection()));
        let refused = limits.admit(source(3), None).map(drop);
        assert_eq!(refused, Err(CloseReason::NoIdleConnection));
        limits.replace(&ClientLimits::new(NonZeroUsize::new(3).unwrap()));
        assert_eq!(limits.connections_per_address().get(), 2);
        let third = admit(&limits, source(3));
        limits.replace(&ClientLimits::new(NonZeroUsize::MIN));
        drop(third);
        let refused = limits.admit(source(3), None).map(drop);
        assert_eq!(refused, Err(CloseReason::NoIdleConnection));
        drop((open, requests));
        admit(&limits, source(3));
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_idle_connection_is_evicted_for_a_new_one() {
        let limits = limits(40, 40);
        let mut open = Vec::new();
        for _ in 0..40 {
            open.push(admit(&limits, source(1)));
            advance(Duration::from_millis(5)).await;
        }
        // The first connection has a request, and the second connection has just had a request. So the third connection
        // has been idle longest.
        let busy = InFlight::begin(open[0].connection());
        drop(InFlight::begin(open[1].connection()));
        advance(Duration::from_millis(5)).await;
        let mut new = Vec::new();
        for _ in 0..39 {
            let (admitted, evicted) = limits.admit(source(2), None).unwrap();
            assert_eq!(evicted, Evicted::Yes);
            new.push(admitted);
        }
        let evicted = |open: &[Admitted]| -> Vec<bool> {
            open.iter().map(|open| open.connection().is_evicted()).collect()
        };
        assert!(!evicted(&open)[0]);
        assert!(evicted(&open)[1..].iter().all(|evicted| *evicted));
        assert!(evicted(&new).iter().all(|evicted| !evicted));
        // An evicted connection does not count for the limit. So its end does not free a place for another connection.
        drop(open.split_off(1));
        advance(Duration::from_millis(SEARCH_AGAIN_AFTER_MILLIS)).await;
        let (_, evicted) = limits.admit(source(2), None).unwrap();
        assert_eq!(evicted, Evicted::Yes);
        drop(busy);
    }

    #[tokio::test(start_paused = true)]
    async fn an_evicted_connection_stays_in_the_table_until_it_ends() {
        let limits = limits(2, 2);
        let first = admit(&limits, source(1));
        let _second = admit(&limits, source(1));
        let new = admit(&limits, source(2));
        assert!(first.connection().is_evicted());
        // A request that begins on an evicted connection has no effect on the table.
        let busy = InFlight::begin(first.connection());
        let counts = |limits: &ClientLimits| {
            let table = limits.table();
            (table.open.len(), table.evicted, table.addresses[&network(1)].open.len())
        };
        assert_eq!(counts(&limits), (3, 1, 2));
        drop((busy, first));
        assert_eq!(counts(&limits), (2, 0, 1));
        drop(new);
    }

    #[tokio::test(start_paused = true)]
    async fn connections_are_evicted_in_the_order_in_which_they_became_idle() {
        let limits = limits(64, 64);
        let open: Vec<_> = (0..64).map(|_| admit(&limits, source(1))).collect();
        // The connections become idle in the reverse order of their acceptance.
        for open in open.iter().rev() {
            advance(Duration::from_millis(3)).await;
            drop(InFlight::begin(open.connection()));
        }
        let mut new = Vec::new();
        for expected in open.iter().rev() {
            assert!(!expected.connection().is_evicted());
            advance(Duration::from_millis(3)).await;
            new.push(admit(&limits, source(2)));
            assert!(expected.connection().is_evicted());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_connection_is_refused_if_no_connection_is_idle() {
        let limits = limits(2, 2);
        let open = [admit(&limits, source(1)), admit(&limits, source(2))];
        let busy: Vec<_> = open.iter().map(|open| InFlight::begin(open.connection())).collect();
        let refused = limits.admit(source(3), None).unwrap_err();
        assert_eq!(refused, CloseReason::NoIdleConnection);
        drop(busy);
        advance(Duration::from_millis(SEARCH_AGAIN_AFTER_MILLIS)).await;
        assert_eq!(limits.admit(source(3), None).unwrap().1, Evicted::Yes);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_connection_is_evicted_if_no_connection_is_idle() {
        let limits = limits(3, 3);
        let open: Vec<_> = (1..=3).map(|last| admit(&limits, source(last))).collect();
        let mut busy: Vec<_> = open.iter().map(|open| InFlight::begin(open.connection())).collect();
        // The first two connections wait for their clients. Only the second client reads some bytes.
        busy[0].set_waits_for(WaitsFor::Client);
        busy[1].set_waits_for(WaitsFor::Client);
        let start = Instant::now();
        let admitted = loop {
            match limits.admit(source(4), None) {
                Ok((admitted, _)) => break admitted,
                Err(reason) => assert_eq!(reason, CloseReason::NoIdleConnection),
            }
            advance(Duration::from_millis(50)).await;
            open[1].connection().add_written(Poll::Ready(1024));
        };
        assert_eq!(start.elapsed().as_millis(), u128::from(STALLED_AFTER_MILLIS));
        assert!(open[0].connection().was_stalled());
        assert!(!open[1].connection().is_evicted());
        assert!(!open[2].connection().is_evicted());
        drop(admitted);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_with_bytes_that_wait_for_the_client_is_not_idle() {
        let limits = limits(1, 1);
        let open = admit(&limits, source(1));
        open.connection().add_written(Poll::Pending);
        let refused = limits.admit(source(2), None).unwrap_err();
        assert_eq!(refused, CloseReason::NoIdleConnection);
        open.connection().add_written(Poll::Ready(10));
        advance(Duration::from_millis(SEARCH_AGAIN_AFTER_MILLIS)).await;
        assert_eq!(limits.admit(source(2), None).unwrap().1, Evicted::Yes);
    }

    #[tokio::test(start_paused = true)]
    async fn at_the_limit_of_an_address_its_own_longest_idle_connection_is_evicted() {
        let limits = limits(6, 2);
        let other = admit(&limits, source(2));
        advance(Duration::from_millis(5)).await;
        let first = admit(&limits, source(1));
        advance(Duration::from_millis(5)).await;
        let second = admit(&limits, source(1));
        let (third, evicted) = limits.admit(source(1), None).unwrap();
        assert_eq!(evicted, Evicted::OfSameAddress);
        assert!(first.connection().is_evicted());
        // If the address has no idle connection, a new connection of the address is refused.
        let _busy = [&second, &third].map(|open| InFlight::begin(open.connection()));
        for _ in 0..2 {
            advance(Duration::from_millis(SEARCH_AGAIN_AFTER_MILLIS)).await;
            assert_eq!(limits.admit(source(1), None).unwrap_err(), CloseReason::AddressLimit);
        }
        assert!(!other.connection().is_evicted());
        drop((first, second));
        let fourth = admit(&limits, source(1));
        // The limit of one address does not apply to a trusted proxy.
        let exempt: Vec<_> = (0..4).map(|_| admit(&limits, ClientSource::Exempt)).collect();
        drop((other, third, fourth, exempt));
        let table = limits.table();
        assert_eq!((table.open.len(), table.evicted, table.addresses.len()), (0, 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn the_source_of_a_connection_can_be_set_later() {
        let limits = limits(4, 1);
        let place = admit(&limits, ClientSource::Exempt);
        assert_eq!(limits.set_source(&place, source(1)), Ok(Evicted::No));
        let _busy = InFlight::begin(place.connection());
        let next = admit(&limits, ClientSource::Exempt);
        assert_eq!(limits.set_source(&next, source(1)), Err(CloseReason::AddressLimit));
        drop((place, next));
        assert!(limits.table().addresses.is_empty());
    }

    #[test]
    fn a_request_counts_for_its_client_on_any_connection() {
        let limits = ClientLimits::default();
        let limits = Arc::new(limits.with_requests_per_address(NonZeroUsize::new(2).unwrap()));
        let direct = admit(&limits, source(1));
        let [proxy, other_proxy] = [(); 2].map(|()| admit(&limits, ClientSource::Exempt));
        let begin = |place: &Admitted, announced: Option<&str>| {
            let announced = announced.map(|ip| ip.parse::<IpAddr>().unwrap().into());
            let mut request = InFlight::begin(place.connection());
            let result = request.check(&Request::new(()), HttpVersion::Http2, announced);
            (result.is_ok(), request)
        };
        let mut in_flight = Vec::new();
        for (place, announced, is_served) in [
            (&proxy, Some("192.0.2.1"), true),
            (&direct, None, true),
            (&direct, None, false),
            (&proxy, Some("192.0.2.1"), false),
            (&other_proxy, Some("::ffff:192.0.2.1"), false),
            (&other_proxy, Some("192.0.2.2"), true),
            (&proxy, Some("2001:db8::1"), true),
            (&proxy, Some("2001:db8::2"), true),
            (&proxy, Some("2001:db8::1:0:0:3"), false),
            (&proxy, Some("2001:db8:0:1::1"), true),
            // The proxy announces no client.
            (&proxy, None, true),
            (&proxy, None, true),
            (&proxy, None, true),
        ] {
            let (has_begun, request) = begin(place, announced);
            assert_eq!(has_begun, is_served, "{announced:?}, after {} requests", in_flight.len());
            in_flight.push(request);
        }
        // The end of a refused request frees no place. The end of a request in flight does.
        drop(in_flight.remove(3));
        assert!(!begin(&proxy, Some("192.0.2.1")).0);
        drop(in_flight.remove(0));
        assert!(begin(&direct, None).0);
        assert!(begin(&other_proxy, Some("192.0.2.1")).0);
        drop(direct);
        assert!(!limits.requests.is_empty());
        drop(in_flight);
        assert!(limits.requests.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn if_open_files_run_out_one_connection_at_a_time_is_evicted() {
        let limits = limits(9, 9);
        let open: Vec<_> = (0..9).map(|_| admit(&limits, source(1))).collect();
        let evicted = || open.iter().filter(|open| open.connection().is_evicted()).count();
        for want in 1..3 {
            for _ in 0..8 {
                limits.evict_for_open_files();
            }
            assert_eq!(evicted(), want);
            advance(Duration::from_millis(FILE_EVICTION_MILLIS)).await;
        }
    }
}
