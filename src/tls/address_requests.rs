//! Counts the requests in flight of each client address ([D28](crate::decisions#d28)).
//!
//! Each connection of a client keeps the counter of its address ([`CountedAddress`]), so its requests take no lock. A
//! connection of a trusted proxy carries requests of many clients, so each of these requests looks up the counter of
//! its client. The counters have their own lock: a search for an idle connection can hold the lock of the connections
//! for a long time.

use std::{
    collections::{HashMap, hash_map},
    fmt,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::connection::SourceNetwork;

/// When entries are removed, the table keeps memory for about this many addresses.
const KEPT_CAPACITY: usize = 1024;

/// The counters of all addresses that have a connection or a request in flight.
pub(super) struct RequestsByAddress {
    /// The maximum number of requests in flight per address. It is not 0.
    max: AtomicUsize,
    counters: Mutex<HashMap<SourceNetwork, Entry>>,
}

struct Entry {
    counter: Arc<Counter>,
    /// The number of connections of the address, plus the number of its requests in flight on connections of trusted
    /// proxies. At 0, the entry is removed.
    users: usize,
}

#[derive(Debug)]
struct Counter {
    /// The same value as in [`RequestsByAddress`]. Each counter has a copy, so that a request reads only its counter.
    max: AtomicUsize,
    in_flight: AtomicUsize,
}

/// The address already has its maximum number of requests in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooManyRequests;

impl Counter {
    fn begin(&self) -> Result<(), TooManyRequests> {
        if self.in_flight.fetch_add(1, Ordering::Relaxed) < self.max.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.end();
        Err(TooManyRequests)
    }

    fn end(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl RequestsByAddress {
    pub(super) fn new(max: NonZeroUsize) -> Self {
        Self { max: AtomicUsize::new(max.get()), counters: Mutex::default() }
    }

    pub(super) fn max(&self) -> usize {
        self.max.load(Ordering::Relaxed)
    }

    /// Changes the maximum of each address. If an address has more requests in flight than a new, lower maximum
    /// permits, these requests continue. `max` is not 0.
    pub(super) fn set_max(&self, max: usize) {
        let counters = self.counters();
        self.max.store(max, Ordering::Relaxed);
        counters.values().for_each(|entry| entry.counter.max.store(max, Ordering::Relaxed));
    }

    /// Records that a client in `network` begins a request on a connection of a trusted proxy. Call [`end`](Self::end)
    /// when the request ends.
    ///
    /// # Errors
    /// The network already has its maximum number of requests in flight. The request is not recorded.
    pub(super) fn begin(&self, network: SourceNetwork) -> Result<(), TooManyRequests> {
        let counters = &mut *self.counters();
        let entry = self.entry(counters, network);
        // The maximum is not 0, so the first request of a new entry is never refused. This function therefore leaves no
        // entry without users.
        entry.counter.begin()?;
        entry.users += 1;
        Ok(())
    }

    /// Records the end of a request for which [`begin`](Self::begin) returned `Ok`.
    pub(super) fn end(&self, network: SourceNetwork) {
        let counters = &mut *self.counters();
        if let Some(entry) = counters.get(&network) {
            entry.counter.end();
        }
        remove_user(counters, network);
    }

    pub(super) fn counted_address(self: &Arc<Self>, network: SourceNetwork) -> CountedAddress {
        let counters = &mut *self.counters();
        let entry = self.entry(counters, network);
        entry.users += 1;
        CountedAddress { counter: entry.counter.clone(), network, table: self.clone() }
    }

    fn entry<'a>(
        &self,
        counters: &'a mut HashMap<SourceNetwork, Entry>,
        network: SourceNetwork,
    ) -> &'a mut Entry {
        counters.entry(network).or_insert_with(|| {
            let max = AtomicUsize::new(self.max());
            let counter = Counter { max, in_flight: AtomicUsize::new(0) };
            Entry { counter: Arc::new(counter), users: 0 }
        })
    }

    fn counters(&self) -> MutexGuard<'_, HashMap<SourceNetwork, Entry>> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.counters().is_empty()
    }
}

impl fmt::Debug for RequestsByAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestsByAddress").field("max", &self.max).finish_non_exhaustive()
    }
}

fn remove_user(counters: &mut HashMap<SourceNetwork, Entry>, network: SourceNetwork) {
    let hash_map::Entry::Occupied(mut entry) = counters.entry(network) else { return };
    entry.get_mut().users -= 1;
    if entry.get().users > 0 {
        return;
    }
    entry.remove();
    if counters.capacity() > 2 * KEPT_CAPACITY && counters.len() < counters.capacity() / 8 {
        counters.shrink_to(KEPT_CAPACITY.max(2 * counters.len()));
    }
}

/// The address of a client that has a connection. The address keeps its counter until this value is dropped.
#[derive(Debug)]
pub(super) struct CountedAddress {
    counter: Arc<Counter>,
    network: SourceNetwork,
    table: Arc<RequestsByAddress>,
}

impl CountedAddress {
    /// Records that a request begins on the connection. Call [`end`](Self::end) when the request ends.
    ///
    /// # Errors
    /// The address already has its maximum number of requests in flight. The request is not recorded.
    pub(super) fn begin(&self) -> Result<(), TooManyRequests> {
        self.counter.begin()
    }

    /// Records the end of a request for which [`begin`](Self::begin) returned `Ok`.
    pub(super) fn end(&self) {
        self.counter.end();
    }
}

impl Drop for CountedAddress {
    fn drop(&mut self) {
        remove_user(&mut self.table.counters(), self.network);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    fn network(number: u16) -> SourceNetwork {
        SourceNetwork::of(Ipv6Addr::new(0x2001, 0xdb8, 0, number, 0, 0, 0, 1).into())
    }

    fn requests(max: usize) -> Arc<RequestsByAddress> {
        Arc::new(RequestsByAddress::new(NonZeroUsize::new(max).unwrap()))
    }

    #[test]
    fn an_address_has_one_counter_for_its_connections_and_for_proxies() {
        let requests = requests(2);
        let connections = [1, 1].map(|number| requests.counted_address(network(number)));
        assert_eq!(connections[0].begin(), Ok(()));
        assert_eq!(requests.begin(network(1)), Ok(()));
        assert_eq!(connections[1].begin(), Err(TooManyRequests));
        assert_eq!(requests.begin(network(1)), Err(TooManyRequests));
        assert_eq!(requests.begin(network(2)), Ok(()));
        connections[0].end();
        // The request of the proxy keeps the counter of the address, even if all connections of the address end.
        drop(connections);
        let later = requests.counted_address(network(1));
        assert_eq!(later.begin(), Ok(()));
        assert_eq!(later.begin(), Err(TooManyRequests));
        later.end();
        drop(later);
        for number in [1, 2] {
            requests.end(network(number));
        }
        assert!(requests.is_empty());
    }

    #[test]
    fn a_new_maximum_applies_to_each_address() {
        let requests = requests(1);
        let known = requests.counted_address(network(1));
        assert_eq!(known.begin(), Ok(()));
        assert_eq!(known.begin(), Err(TooManyRequests));
        requests.set_max(2);
        assert_eq!(known.begin(), Ok(()));
        assert_eq!(requests.begin(network(2)), Ok(()));
        requests.set_max(1);
        known.end();
        assert_eq!(known.begin(), Err(TooManyRequests));
        assert_eq!(requests.begin(network(2)), Err(TooManyRequests));
        known.end();
        assert_eq!(known.begin(), Ok(()));
    }

    #[test]
    fn the_memory_of_addresses_without_requests_is_given_back() {
        let requests = requests(1);
        for number in 0..u16::MAX {
            assert_eq!(requests.begin(network(number)), Ok(()));
            assert_eq!(requests.begin(network(number)), Err(TooManyRequests));
        }
        assert_eq!(requests.counters().len(), usize::from(u16::MAX));
        for number in 0..u16::MAX {
            requests.end(network(number));
        }
        assert!(requests.is_empty());
        let capacity = requests.counters().capacity();
        assert!(capacity <= 2 * KEPT_CAPACITY, "{capacity}");
    }
}
