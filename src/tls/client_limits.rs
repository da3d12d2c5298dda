//! Limits the connections of clients, over all servers of a process ([D28](crate::decisions#d28)).

use std::{
    collections::HashMap,
    fmt,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;

use super::{
    client_connection::{AddressRequests, ClientConnection, Shared},
    client_source::{SourceNetwork, ClientSource},
    close_reason::CloseReason,
    connection_counts::ConnectionCounts,
    header_budget::HeaderBudget,
};

/// Default of the maximum number of open connections.
const CONNECTIONS: NonZeroUsize = NonZeroUsize::new(10_000).expect("should not be zero");

/// Default of the maximum number of requests in flight of one address.
const REQUESTS_PER_ADDRESS: NonZeroUsize = NonZeroUsize::new(256).expect("should not be zero");

/// Default of the memory for headers.
const HEADER_BYTES: usize = 256 * 1024 * 1024;

/// If all connections are busy, they are not searched again for this time. A search looks at each
/// connection, and an attacker could open many connections in that time.
const SEARCH_AGAIN_AFTER_MILLIS: u64 = 20;

/// The limits of client connections. Several [`Server`](super::Server)s can share them.
///
/// At the limit, the longest idle connection is closed to make room for a new one. A connection is idle
/// between two requests, and before its first request. If all connections have requests in flight, the new
/// connection is closed. A connection from an address that already has its share is closed, too. An IPv4
/// address is one address; an IPv6 network of 64 bits counts as one address, because a host can choose any
/// address in its network.
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
    connections: NonZeroUsize,
    per_address: NonZeroUsize,
    requests_per_address: NonZeroUsize,
    epoch: Instant,
    headers: Arc<HeaderBudget>,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    open: HashMap<u64, Entry>,
    addresses: HashMap<SourceNetwork, Address>,
    last_id: u64,
    candidates: Candidates,
}

struct Address {
    open: usize,
    requests: Arc<AddressRequests>,
}

struct Entry {
    connection: Arc<ClientConnection>,
    source: ClientSource,
}

/// The longest idle connections at the last search, the longest idle one last.
///
/// A connection that became idle later is not among them, so a candidate that is still idle is still the
/// longest idle one. Therefore one search serves many evictions.
#[derive(Default)]
struct Candidates {
    idle_since_and_id: Vec<(u64, u64)>,
    searched_in_vain_at: Option<u64>,
}

impl ClientLimits {
    /// At most `connections` open connections, and half of them (rounded up) for one address.
    pub fn new(connections: NonZeroUsize) -> Self {
        let half = connections.get().div_ceil(2);
        Self {
            connections,
            per_address: NonZeroUsize::new(half).unwrap_or(NonZeroUsize::MIN),
            requests_per_address: REQUESTS_PER_ADDRESS,
            epoch: Instant::now(),
            headers: Arc::new(HeaderBudget::new(HEADER_BYTES)),
            table: Mutex::default(),
        }
    }

    /// Sets the maximum number of open connections of one address. If it is not below the maximum number of
    /// all connections, it has no effect.
    #[must_use]
    pub fn with_connections_per_address(self, per_address: NonZeroUsize) -> Self {
        Self { per_address, ..self }
    }

    /// Sets the maximum number of requests in flight of one address. Further requests are answered with 429.
    /// Default: 256.
    #[must_use]
    pub fn with_requests_per_address(self, requests_per_address: NonZeroUsize) -> Self {
        Self { requests_per_address, ..self }
    }

    /// Sets the memory for the headers of all requests in flight, in bytes. Each field counts with 128 bytes
    /// more than its length. Further requests are answered with 503. Each connection can use 16 KiB beyond
    /// this limit. Default: 256 MiB.
    #[must_use]
    pub fn with_header_bytes(self, bytes: usize) -> Self {
        Self { headers: Arc::new(HeaderBudget::new(bytes)), ..self }
    }

    /// The maximum number of open connections.
    pub fn connections(&self) -> NonZeroUsize {
        self.connections
    }

    /// The maximum number of open connections of one address.
    pub fn connections_per_address(&self) -> NonZeroUsize {
        self.per_address
    }

    /// Takes a place for a new connection. If there is none, the longest idle connection loses its place.
    ///
    /// # Errors
    /// Why the new connection must be closed.
    pub(super) fn admit(
        self: &Arc<Self>,
        source: ClientSource,
        counts: Option<&Arc<ConnectionCounts>>,
    ) -> Result<(Admitted, Evicted), CloseReason> {
        let mut table = self.table();
        if let ClientSource::Client(network) = source
            && let Some(address) = table.addresses.get(&network)
            && self.per_address < self.connections
            && address.open >= self.per_address.get()
        {
            return Err(CloseReason::AddressLimit);
        }
        let mut evicted = Evicted::No;
        if table.open.len() >= self.connections.get() {
            if !self.evict(&mut table) {
                return Err(CloseReason::NoIdleConnection);
            }
            evicted = Evicted::Yes;
        }
        table.last_id += 1;
        let id = table.last_id;
        let address = match source {
            ClientSource::Exempt => None,
            ClientSource::Client(network) => {
                let address = table.addresses.entry(network).or_insert_with(|| {
                    let requests = AddressRequests::new(self.requests_per_address.get());
                    Address { open: 0, requests: Arc::new(requests) }
                });
                address.open += 1;
                Some(address.requests.clone())
            }
        };
        let (headers, counts) = (self.headers.clone(), counts.cloned());
        let shared = Shared { epoch: self.epoch, address, headers, counts };
        let connection = Arc::new(ClientConnection::new(shared));
        table.open.insert(id, Entry { connection: connection.clone(), source });
        Ok((Admitted { limits: self.clone(), id, connection }, evicted))
    }

    /// Closes the longest idle connection. Returns false if no connection is idle.
    pub(super) fn evict_longest_idle(&self) -> bool {
        self.evict(&mut self.table())
    }

    fn evict(&self, table: &mut Table) -> bool {
        let Some(id) = table.longest_idle(self.now_millis()) else { return false };
        if let Some(entry) = table.remove(id) {
            entry.connection.evict();
        }
        true
    }

    fn now_millis(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The lock is held only for the duration of a function of this module.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for ClientLimits {
    /// 10,000 connections, 5,000 of them for one address; 256 requests of one address; 256 MiB of headers.
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
    fn remove(&mut self, id: u64) -> Option<Entry> {
        let entry = self.open.remove(&id)?;
        if let ClientSource::Client(network) = entry.source
            && let Some(address) = self.addresses.get_mut(&network)
        {
            address.open -= 1;
            if address.open == 0 {
                self.addresses.remove(&network);
            }
        }
        Some(entry)
    }

    fn longest_idle(&mut self, now: u64) -> Option<u64> {
        if let Some(id) = self.next_candidate() {
            return Some(id);
        }
        let candidates = &mut self.candidates;
        if candidates
            .searched_in_vain_at
            .is_some_and(|at| now.saturating_sub(at) < SEARCH_AGAIN_AFTER_MILLIS)
        {
            return None;
        }
        let found = &mut candidates.idle_since_and_id;
        let idle = self.open.iter().filter(|(_, entry)| entry.connection.in_flight() == 0);
        found.extend(idle.map(|(id, entry)| (entry.connection.idle_since_millis(), *id)));
        // A part of the connections is enough, so that sorting costs less than the search.
        let kept = found.len().div_ceil(16);
        if kept < found.len() {
            found.select_nth_unstable(kept);
            found.truncate(kept);
        }
        found.sort_unstable_by(|one, other| other.cmp(one));
        candidates.searched_in_vain_at = found.is_empty().then_some(now);
        self.next_candidate()
    }

    /// Takes the longest idle candidate that has been idle since the search.
    fn next_candidate(&mut self) -> Option<u64> {
        while let Some((idle_since, id)) = self.candidates.idle_since_and_id.pop() {
            if let Some(Entry { connection, .. }) = self.open.get(&id)
                && connection.in_flight() == 0
                && connection.idle_since_millis() == idle_since
            {
                return Some(id);
            }
        }
        None
    }
}

/// Whether another connection was closed to make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evicted {
    No,
    Yes,
}

/// The place of an open connection. It is free again when this value is dropped, or when the connection is
/// evicted.
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
        self.limits.table().remove(self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;
    use crate::tls::client_connection::InFlight;

    fn limits(connections: usize, per_address: usize) -> Arc<ClientLimits> {
        let number = |n| NonZeroUsize::new(n).unwrap();
        let limits = ClientLimits::new(number(connections));
        Arc::new(limits.with_connections_per_address(number(per_address)))
    }

    fn source(last: u8) -> ClientSource {
        ClientSource::of([192, 0, 2, last].into())
    }

    fn admit(limits: &Arc<ClientLimits>, source: ClientSource) -> Admitted {
        limits.admit(source, None).unwrap().0
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_idle_connection_makes_room() {
        let limits = limits(40, 40);
        let mut open = Vec::new();
        for _ in 0..40 {
            open.push(admit(&limits, source(1)));
            advance(Duration::from_millis(5)).await;
        }
        // The first connection has a request, and the second one had one, so the third is idle longest.
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
        // An evicted connection gives back no place.
        drop(open.split_off(1));
        let (_, evicted) = limits.admit(source(2), None).unwrap();
        assert_eq!(evicted, Evicted::Yes);
        drop(busy);
    }

    #[tokio::test(start_paused = true)]
    async fn connections_are_evicted_in_the_order_in_which_they_became_idle() {
        let limits = limits(64, 64);
        let open: Vec<_> = (0..64).map(|_| admit(&limits, source(1))).collect();
        // The connections become idle in the reverse of the order in which they were accepted.
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
    async fn without_an_idle_connection_the_new_one_is_refused() {
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
    async fn an_address_has_a_share_that_evicts_nobody() {
        let limits = limits(4, 2);
        let mut open = vec![admit(&limits, source(1)), admit(&limits, source(1))];
        open.push(admit(&limits, source(2)));
        open.push(admit(&limits, source(2)));
        assert_eq!(limits.admit(source(1), None).unwrap_err(), CloseReason::AddressLimit);
        assert!(open.iter().all(|open| !open.connection().is_evicted()));
        open.remove(0);
        open.push(limits.admit(source(1), None).unwrap().0);
        assert_eq!(limits.admit(source(1), None).unwrap_err(), CloseReason::AddressLimit);
        // A trusted proxy has no share.
        for _ in 0..4 {
            open.push(limits.admit(ClientSource::Exempt, None).unwrap().0);
        }
        drop(open);
        let table = limits.table();
        assert_eq!((table.open.len(), table.addresses.len()), (0, 0));
    }
}
