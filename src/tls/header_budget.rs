//! The memory that the headers of all requests in flight may take ([D28](crate::decisions#d28)).

use std::sync::atomic::{AtomicUsize, Ordering};

/// A connection takes the budget in chunks of this many bytes. Without chunks, each request would change a value that
/// all threads share.
const CHUNK: usize = 16 * 1024;

/// Each connection may use this many bytes without taking them from the budget. So an HTTP/1.1 request of usual size
/// never changes the shared value.
const FREE: usize = CHUNK;

#[derive(Debug)]
pub(super) struct HeaderBudget {
    max: AtomicUsize,
    taken: AtomicUsize,
}

/// The part of the budget that one connection uses.
#[derive(Debug, Default)]
pub(super) struct HeaderUse {
    /// The bytes of the headers of the requests in flight.
    used: AtomicUsize,
    /// The bytes that were taken from the budget, a multiple of [`CHUNK`].
    taken: AtomicUsize,
}

impl HeaderBudget {
    pub(super) fn new(max: usize) -> Self {
        Self { max: AtomicUsize::new(max), taken: AtomicUsize::new(0) }
    }

    pub(super) fn max(&self) -> usize {
        self.max.load(Ordering::Relaxed)
    }

    /// Changes the budget. If the new budget is smaller, connections keep the bytes that they have already taken.
    pub(super) fn set_max(&self, max: usize) {
        self.max.store(max, Ordering::Relaxed);
    }

    fn take(&self, bytes: usize) -> bool {
        let max = self.max();
        let update = |taken: usize| taken.checked_add(bytes).filter(|sum| *sum <= max);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl HeaderUse {
    /// Adds the headers of a request. Returns false if the budget has too few bytes left. Only one thread at a time
    /// calls this function for a connection.
    pub(super) fn add(&self, budget: &HeaderBudget, bytes: usize) -> bool {
        let used = self.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let taken = self.taken.load(Ordering::Relaxed);
        let missing = used.saturating_sub(FREE + taken);
        if missing == 0 {
            return true;
        }
        let missing = missing.next_multiple_of(CHUNK);
        if budget.take(missing) {
            self.taken.fetch_add(missing, Ordering::Relaxed);
            return true;
        }
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        false
    }

    pub(super) fn remove(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Gives back all bytes that the connection has taken from the budget. Call this when no headers are in use any
    /// more.
    pub(super) fn give_back(&self, budget: &HeaderBudget) {
        if self.taken.load(Ordering::Relaxed) > 0 {
            budget.give_back(self.taken.swap(0, Ordering::Relaxed));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_share_a_budget_beyond_their_free_bytes() {
        let budget = HeaderBudget::new(3 * CHUNK);
        let (one, other) = (HeaderUse::default(), HeaderUse::default());
        assert!(one.add(&budget, FREE));
        assert_eq!(budget.taken.load(Ordering::Relaxed), 0);
        assert!(one.add(&budget, 1));
        assert!(one.add(&budget, CHUNK - 1));
        assert_eq!(budget.taken.load(Ordering::Relaxed), CHUNK);
        assert!(!other.add(&budget, FREE + 2 * CHUNK + 1));
        assert!(other.add(&budget, FREE + 2 * CHUNK));
        assert!(!one.add(&budget, 1));
        one.remove(1);
        assert!(one.add(&budget, 1));
        one.remove(FREE + CHUNK);
        one.give_back(&budget);
        one.give_back(&budget);
        assert_eq!(budget.taken.load(Ordering::Relaxed), 2 * CHUNK);
        assert!(other.add(&budget, CHUNK));
    }
}
