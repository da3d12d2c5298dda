//! The limit of connections to one instance of a service, and the queue of requests that wait at the limit.
//!
//! Each connection holds a [`Slot`] until the connection is closed. All tokio runtimes share the slots of an instance.
//! While a slot is free, no request waits. At the limit, requests wait in one queue:
//!
//! - A connection that becomes free is handed to the first waiter of its [pool](PoolId), because a connection works
//!   only in its runtime and with its protocol. So a request can overtake the first waiter of the whole queue. This is
//!   permitted if the request began to wait less than [`MAX_OVERTAKEN`] after this waiter.
//! - If no waiter of the connection's pool may get the connection, the connection is closed. The first waiter of the
//!   whole queue gets the slot of the closed connection, and makes a new connection.
//! - A request that begins to wait closes an idle connection of another pool for the same instance, if there is one.
//!   The first waiter of the whole queue gets the slot of this connection.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{runtime, sync::oneshot, time::Instant};

use super::lock::lock;
use crate::{layer::ServiceProtocol, proxy::counts::ForwardCounts};

/// A request may overtake the first waiter of the queue if it began to wait less than this time after the first waiter.
/// The reason: the first waiter usually belongs to another runtime than the free connection. If no request could
/// overtake this waiter, the gateway would close most connections at the limit.
const MAX_OVERTAKEN: Duration = Duration::from_millis(250);

/// The limit for one instance. `T` is a connection.
pub(super) struct ConnectionLimit<T> {
    max: usize,
    counts: Arc<ForwardCounts>,
    /// The length of `State::queue`. This value is changed only while `state` is locked.
    waiting: AtomicUsize,
    /// No other lock is taken while this lock is held.
    state: Mutex<State<T>>,
}

struct State<T> {
    /// The number of slots in use. While this number is below `max`, no request waits.
    open: usize,
    next_id: u64,
    /// The request that has waited longest is at the front.
    queue: VecDeque<Waiter<T>>,
    /// These requests get the next free slots. For each of them, a connection is being closed.
    promised: VecDeque<Waiter<T>>,
    pools: Vec<Weak<dyn IdleConnections>>,
}

struct Waiter<T> {
    id: u64,
    pool: PoolId,
    since: Instant,
    grant: oneshot::Sender<Grant<T>>,
}

/// Identifies the pool whose connections a request can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct PoolId {
    /// Runtimes do not share connections, because the I/O of a connection works only while its runtime runs.
    pub(super) runtime: runtime::Id,
    /// A WebSocket needs HTTP/1.1, so it cannot use a connection of a pool whose protocol permits HTTP/2.
    pub(super) protocol: ServiceProtocol,
}

pub(super) trait IdleConnections: Send + Sync {
    /// Closes an idle connection: the HTTP/1.1 connection that has been idle longest, or an HTTP/2 connection without
    /// streams. Returns whether there was such a connection.
    fn close_oldest(&self) -> bool;
}

#[derive(Debug)]
pub(super) enum Grant<T> {
    Connection(T),
    Slot(Slot<T>),
}

/// The result of [`ConnectionLimit::offer`]: what the caller does with the free connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Offer<T> {
    /// A waiting request has taken the connection.
    Taken,
    /// The caller must close the connection, because a request of another pool waits for its slot.
    Close(T),
    /// The caller keeps the connection, because no request waits.
    Keep(T),
}

impl<T> ConnectionLimit<T> {
    pub(super) fn new(max: usize, counts: Arc<ForwardCounts>) -> Self {
        let state = State {
            open: 0,
            next_id: 0,
            queue: VecDeque::new(),
            promised: VecDeque::new(),
            pools: Vec::new(),
        };
        Self { max, counts, waiting: AtomicUsize::new(0), state: Mutex::new(state) }
    }

    pub(super) fn counts(&self) -> &ForwardCounts {
        &self.counts
    }

    pub(super) fn add_pool(&self, pool: Weak<dyn IdleConnections>) {
        let mut state = lock(&self.state);
        state.pools.retain(|pool| pool.strong_count() > 0);
        state.pools.push(pool);
    }

    pub(super) fn is_unused(&self) -> bool {
        lock(&self.state).open == 0
    }

    /// Returns whether a request waits. A pool calls this function while it holds the lock of its idle connections. So
    /// either the pool sees the waiting request, or the waiting request finds the idle connection.
    pub(super) fn has_waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Takes a slot for a request of `pool`. If all slots are in use, returns a future that waits.
    pub(super) fn acquire(self: &Arc<Self>, pool: PoolId) -> Result<Slot<T>, Waiting<T>> {
        let mut state = lock(&self.state);
        if state.open < self.max {
            state.open += 1;
            self.counts.add_open();
            return Ok(Slot { limit: self.clone() });
        }
        let id = state.next_id;
        state.next_id += 1;
        let (grant, granted) = oneshot::channel();
        state.queue.push_back(Waiter { id, pool, since: Instant::now(), grant });
        self.update_waiting(&state);
        let pools = state.pools.clone();
        drop(state);
        self.counts.add_waiting();
        let waiting = Waiting { limit: self.clone(), id, granted };
        pools.iter().filter_map(Weak::upgrade).any(|pool| pool.close_oldest());
        Err(waiting)
    }

    pub(super) fn offer(&self, mut connection: T, pool: PoolId) -> Offer<T> {
        loop {
            let mut state = lock(&self.state);
            let next = next(&state.queue, pool).and_then(|at| state.queue.remove(at));
            let Some(next) = next else { return Offer::Keep(connection) };
            self.update_waiting(&state);
            if next.pool != pool {
                // `next` was the first waiter of the whole queue. So the ids in `promised` stay in ascending order.
                state.promised.push_back(next);
                return Offer::Close(connection);
            }
            // The lock is released before the connection is sent. Sending wakes a task, and the waker may run
            // any code.
            drop(state);
            match next.grant.send(Grant::Connection(connection)) {
                // The waiting request was dropped in the meantime, and the channel returns the connection.
                Err(Grant::Connection(returned)) => connection = returned,
                Ok(()) | Err(Grant::Slot(_)) => return Offer::Taken,
            }
        }
    }

    /// Passes a slot on to the first request that waits. If no request waits, the slot becomes free.
    fn release(self: &Arc<Self>) {
        let mut state = lock(&self.state);
        let next = state.promised.pop_front().or_else(|| state.queue.pop_front());
        let Some(next) = next else {
            state.open -= 1;
            self.counts.remove_open();
            return;
        };
        self.update_waiting(&state);
        drop(state);
        // If the waiting request was dropped in the meantime, `send` returns the slot, and this line drops it. Dropping
        // the slot passes it on to the next request.
        drop(next.grant.send(Grant::Slot(Slot { limit: self.clone() })));
    }

    fn leave(&self, id: u64) {
        let mut state = lock(&self.state);
        let State { queue, promised, .. } = &mut *state;
        // The ids of each queue are in ascending order, so a binary search finds the waiter.
        for queue in [queue, promised] {
            if let Ok(at) = queue.binary_search_by_key(&id, |waiter| waiter.id) {
                queue.remove(at);
            }
        }
        self.update_waiting(&state);
    }

    fn update_waiting(&self, state: &State<T>) {
        self.waiting.store(state.queue.len(), Ordering::Relaxed);
    }
}

/// Returns the position of the waiter that is served next when a connection of `pool` is free.
fn next<T>(queue: &VecDeque<Waiter<T>>, pool: PoolId) -> Option<usize> {
    let first = queue.front()?;
    let mut may_overtake =
        queue.iter().take_while(|waiter| waiter.since - first.since < MAX_OVERTAKEN);
    Some(may_overtake.position(|waiter| waiter.pool == pool).unwrap_or(0))
}

/// The right to have one connection open. This right is given back when this value is dropped.
pub(super) struct Slot<T> {
    limit: Arc<ConnectionLimit<T>>,
}

impl<T> Drop for Slot<T> {
    fn drop(&mut self) {
        self.limit.release();
    }
}

impl<T> fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Slot")
    }
}

/// A request that waits. It leaves the queue when this value is dropped.
pub(super) struct Waiting<T> {
    limit: Arc<ConnectionLimit<T>>,
    id: u64,
    granted: oneshot::Receiver<Grant<T>>,
}

impl<T> fmt::Debug for Waiting<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waiting")
    }
}

impl<T> Future for Waiting<T> {
    type Output = Grant<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Grant<T>> {
        Pin::new(&mut self.granted).poll(cx).map(|granted| {
            granted.expect("a sender in a queue is dropped only after it has sent, or in `leave`")
        })
    }
}

impl<T> Drop for Waiting<T> {
    fn drop(&mut self) {
        self.limit.leave(self.id);
        self.limit.counts.remove_waiting();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio_test::{assert_pending, assert_ready, task};

    use super::*;

    fn pools() -> [PoolId; 2] {
        [(), ()].map(|()| {
            let runtime = runtime::Builder::new_current_thread().build().unwrap().handle().id();
            PoolId { runtime, protocol: ServiceProtocol::Auto }
        })
    }

    fn limit(max: usize) -> (Arc<ConnectionLimit<&'static str>>, Arc<ForwardCounts>) {
        let counts = Arc::<ForwardCounts>::default();
        (Arc::new(ConnectionLimit::new(max, counts.clone())), counts)
    }

    type Task = task::Spawn<Waiting<&'static str>>;

    fn waits(limit: &Arc<ConnectionLimit<&'static str>>, pool: PoolId) -> Task {
        let mut waiting = task::spawn(limit.acquire(pool).expect_err("a request must wait"));
        assert_pending!(waiting.poll());
        waiting
    }

    #[track_caller]
    fn slot(waiting: &mut Task) -> Slot<&'static str> {
        let Grant::Slot(slot) = assert_ready!(waiting.poll()) else { panic!("a connection") };
        slot
    }

    #[test]
    fn slots_are_passed_on_first_come_first_served() {
        let ([here, other], (limit, counts)) = (pools(), limit(2));
        let [first, second] = [here, other].map(|id| limit.acquire(id).expect("a free slot"));
        let mut waiting = [here, other, here].map(|id| waits(&limit, id));
        assert_eq!((counts.open(), counts.waiting()), (2, 3));
        drop(first);
        let third = slot(&mut waiting[0]);
        assert_pending!(waiting[1].poll());
        drop((second, third));
        let rest = [slot(&mut waiting[1]), slot(&mut waiting[2])];
        assert!(!limit.has_waiting());
        drop(waiting);
        assert_eq!((counts.open(), counts.waiting()), (2, 0));
        drop(rest);
        assert_eq!(counts.open(), 0);
        drop([here, here].map(|id| limit.acquire(id).expect("all slots are free again")));
    }

    /// Changes the start time of the last waiter, as if it had begun to wait later.
    fn delay_last(limit: &ConnectionLimit<&'static str>) {
        lock(&limit.state).queue.back_mut().unwrap().since += MAX_OVERTAKEN;
    }

    #[test]
    fn a_free_connection_goes_to_the_first_waiter_of_its_runtime() {
        let ([here, other], (limit, _)) = (pools(), limit(1));
        let slot_in_use = limit.acquire(here).unwrap();
        let mut waiting = [other, here, other, here].map(|id| waits(&limit, id));
        for (connection, at) in [("a", 1), ("b", 3)] {
            assert_eq!(limit.offer(connection, here), Offer::Taken);
            let Grant::Connection(got) = assert_ready!(waiting[at].poll()) else {
                panic!("a slot")
            };
            assert_eq!(got, connection);
        }
        // No waiter belongs to the runtime of this connection. So the connection is closed, and the first waiter
        // of the whole queue gets the slot.
        assert_eq!(limit.offer("c", here), Offer::Close("c"));
        assert_pending!(waiting[0].poll());
        drop(slot_in_use);
        drop(slot(&mut waiting[0]));
    }

    #[test]
    fn a_request_that_needs_http1_gets_no_connection_for_any_version() {
        let ([here, _], (limit, _)) = (pools(), limit(1));
        let slot_in_use = limit.acquire(here).unwrap();
        let mut websocket = waits(&limit, PoolId { protocol: ServiceProtocol::Http1, ..here });
        assert_eq!(limit.offer("HTTP/2", here), Offer::Close("HTTP/2"));
        assert_pending!(websocket.poll());
        drop(slot_in_use);
        drop(slot(&mut websocket));
    }

    #[test]
    fn a_waiter_is_overtaken_only_by_waiters_that_came_shortly_after_it() {
        let ([here, other], (limit, _)) = (pools(), limit(1));
        let slot_in_use = limit.acquire(here).unwrap();
        assert_eq!(limit.offer("kept", here), Offer::Keep("kept"));
        let mut waiting = [here, other, here].map(|id| waits(&limit, id));
        delay_last(&limit);
        assert_eq!(limit.offer("a", here), Offer::Taken);
        assert!(matches!(assert_ready!(waiting[0].poll()), Grant::Connection("a")));
        assert_eq!(limit.offer("b", here), Offer::Close("b"));
        assert_pending!(waiting[1].poll());
        // A connection has already been closed, and its slot is for the first waiter. So the next free connection goes
        // to another waiter.
        assert_eq!(limit.offer("c", here), Offer::Taken);
        assert!(matches!(assert_ready!(waiting[2].poll()), Grant::Connection("c")));
        drop(slot_in_use);
        drop(slot(&mut waiting[1]));
    }

    #[test]
    fn a_dropped_waiter_gets_no_slot_or_connection() {
        let ([here, other], (limit, counts)) = (pools(), limit(1));
        let first = limit.acquire(here).unwrap();
        let [left, promised, mut last] = [here, other, here].map(|id| waits(&limit, id));
        drop(left);
        delay_last(&limit);
        assert_eq!(limit.offer("b", here), Offer::Close("b"));
        drop(promised);
        assert!(limit.has_waiting());
        drop(first);
        let granted = slot(&mut last);
        drop(last);
        // If a waiter is dropped before it takes its slot, the slot goes to the next waiter.
        let unread = waits(&limit, here);
        let mut next = waits(&limit, here);
        drop(granted);
        drop(unread);
        drop(slot(&mut next));
        drop(next);
        assert_eq!((counts.open(), counts.waiting()), (0, 0));
    }

    #[test]
    fn a_request_that_must_wait_closes_an_idle_connection() {
        struct Pool(AtomicUsize);
        impl IdleConnections for Pool {
            fn close_oldest(&self) -> bool {
                let idle = self.0.load(Ordering::Relaxed);
                self.0.store(idle.saturating_sub(1), Ordering::Relaxed);
                idle > 0
            }
        }
        let ([here, _], (limit, _)) = (pools(), limit(1));
        let pools = [0, 2, 5].map(|idle| Arc::new(Pool(AtomicUsize::new(idle))));
        for pool in &pools {
            let pool: Weak<Pool> = Arc::downgrade(pool);
            limit.add_pool(pool);
        }
        let _open = limit.acquire(here).unwrap();
        let _waiting = [(); 3].map(|()| waits(&limit, here));
        assert_eq!(pools.map(|pool| pool.0.load(Ordering::Relaxed)), [0, 0, 4]);
    }
}
