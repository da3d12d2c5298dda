//! The state that the tasks of a node share. The *place* is the store that the nodes share, such as Redis.
//! [`Coordinator`] explains the log and terms. A write waits until all nodes have this write. This wait is a *barrier*.
//! The *memory* of a node is its own store of all records. A node has *caught up* when its memory has all records of
//! the place up to a known position in the log.

use std::{
    fmt,
    num::NonZeroU64,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};

use super::{
    barrier::Observation,
    boot_clock::{BootClock, BootTime},
    coordinator::{
        Coordinator, CoordinatorError, CoordinatorFuture, Incarnation, Joined, LeaseRecord,
        LogPosition, NodeName, Renewed, Term,
    },
    counts::ClusterCounts,
    lease::{Lease, Reply},
    memory::NodeMemory,
    options::ClusterOptions,
    peers::Peers,
    publish_queue::PublishQueue,
    rules::Rules,
};
use crate::{
    clock::Timestamp,
    log_limit::log_limited,
    revocation::{AccessTokenStore, RevocationStore},
};

pub(super) trait NodeStore: NodeMemory + RevocationStore + AccessTokenStore {}

impl<S: NodeMemory + RevocationStore + AccessTokenStore> NodeStore for S {}

/// Spawns a task of the node. A test can stop all these tasks to simulate that the process is killed.
pub(super) type Spawn = Arc<dyn Fn(Pin<Box<dyn Future<Output = ()> + Send>>) + Send + Sync>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Running,
    /// This process has handed its lease over to a new process of this node. The new process sends its revocations to
    /// this process.
    HandedOver,
    /// The node has left the site.
    Left,
}

/// The state that the tasks of a node share.
pub(super) struct Shared {
    pub(super) memory: Arc<dyn NodeStore>,
    pub(super) coordinator: Arc<dyn Coordinator>,
    pub(super) clock: Arc<dyn BootClock>,
    pub(super) spawn: Spawn,
    pub(super) options: ClusterOptions,
    pub(super) rules: Rules,
    pub(super) incarnation: Incarnation,
    pub(super) queue: PublishQueue,
    pub(super) counts: ClusterCounts,
    /// The node accepts tokens before this time, in nanoseconds. `u64::MAX` means without end. The field is atomic, so
    /// that the check of a token needs no lock.
    serve_until: AtomicU64,
    state: Mutex<State>,
    /// Notified after each [`Shared::update`]. A `watch` channel would wake its receivers in a random order, and the
    /// simulation of the tests must give the same run each time.
    progress: Notify,
    pub(super) renew_now: Notify,
    /// The number of requests for lists of leases so far.
    requests: AtomicU64,
    barriers: AtomicUsize,
    pub(super) barrier_added: Notify,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) mode: Mode,
    pub(super) lease: Lease,
    pub(super) peers: Peers,
    /// The position of the last entry of the log that this node knows of.
    pub(super) last: LogPosition,
    /// Up to this position, the node applies a rule with the current time as if it were a rule with a fixed time.
    ///
    /// A rule with the current time revokes all PATs of a user or service whose records are before the rule in the log.
    /// Two kinds of nodes may already know PATs whose records are after the rule: a node that has read the image, and a
    /// node that begins with the memory of an earlier process. If such a node applied the rule to all PATs that it
    /// knows, it would also revoke these later PATs, on all nodes.
    ///
    /// The PATs whose records are before the rule are still revoked. The node that made the rule applies it in the
    /// order of the log, and publishes the revocations of these PATs. With `Confirm::Everywhere`, the write of the rule
    /// succeeds only when all nodes have these revocations. If the node that made the rule cannot apply it in the order
    /// of the log, this node publishes the rule again.
    pub(super) in_order_after: LogPosition,
    /// The number of entries that the node has received, but not applied.
    pub(super) received: u64,
    /// The last list of leases that a barrier has requested.
    pub(super) observation: Option<Observation>,
    /// An earlier process of this node had this incarnation, and its lease has ended. The next renewal may replace this
    /// lease.
    pub(super) replaced: Option<Incarnation>,
    /// The error that ended the last session. `None` if no session has failed, or if the node follows the log again
    /// since then.
    pub(super) problem: Option<String>,
    /// When the node last got or lost its lease, or changed its mode.
    pub(super) since: BootTime,
}

/// The parts from which a node is made.
pub(super) struct Parts {
    pub(super) memory: Arc<dyn NodeStore>,
    pub(super) coordinator: Arc<dyn Coordinator>,
    pub(super) clock: Arc<dyn BootClock>,
    pub(super) spawn: Spawn,
    pub(super) options: ClusterOptions,
    pub(super) rules: Rules,
    pub(super) incarnation: Incarnation,
    /// The number of the last renewal that this incarnation has sent.
    pub(super) number: u64,
}

impl Shared {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { memory, coordinator, clock, spawn, options, rules, incarnation, number } =
            parts;
        let state = State {
            mode: Mode::Running,
            lease: Lease::new(rules, number),
            peers: Peers::default(),
            last: LogPosition::START,
            in_order_after: LogPosition::START,
            received: 0,
            observation: None,
            replaced: None,
            problem: None,
            since: clock.now(),
        };
        Self {
            memory,
            coordinator,
            clock,
            spawn,
            options,
            rules,
            incarnation,
            queue: PublishQueue::default(),
            counts: ClusterCounts::default(),
            serve_until: AtomicU64::new(0),
            state: Mutex::new(state),
            progress: Notify::new(),
            renew_now: Notify::new(),
            requests: AtomicU64::new(0),
            barriers: AtomicUsize::new(0),
            barrier_added: Notify::new(),
        }
    }

    pub(super) fn name(&self) -> &NodeName {
        &self.options.name
    }

    /// Returns whether this node may accept tokens now.
    ///
    /// A check must call this function before it looks at the revocations. A node applies the revocations of the other
    /// nodes before it gets a lease. `Acquire` makes these revocations visible to the check.
    pub(super) fn may_serve(&self) -> bool {
        let until = self.serve_until.load(Ordering::Acquire);
        until == u64::MAX || self.clock.now() < BootTime::from_nanos(until)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and wakes the tasks that wait for a change.
    pub(super) fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state);
        let until = match state.mode {
            Mode::Running => {
                let until = state.lease.until();
                if until == BootTime::default() {
                    0
                } else {
                    until.plus(self.options.serve_without_lease).as_nanos().min(u64::MAX - 1)
                }
            }
            Mode::HandedOver => u64::MAX,
            Mode::Left => 0,
        };
        self.serve_until.store(until, Ordering::Release);
        drop(state);
        self.progress.notify_waiters();
        result
    }

    pub(super) async fn wait_for<T>(&self, mut ready: impl FnMut(&State) -> Option<T>) -> T {
        loop {
            let mut progress = pin!(self.progress.notified());
            progress.as_mut().enable();
            if let Some(value) = ready(&self.lock()) {
                return value;
            }
            progress.await;
        }
    }

    /// Waits for a call of the coordinator, at most for the lease time plus `additional`. A coordinator should limit
    /// its calls itself. This limit is for a coordinator that does not.
    pub(super) async fn call<T>(
        &self,
        additional: Duration,
        call: CoordinatorFuture<T>,
    ) -> Result<T, CoordinatorError> {
        let limit = self.rules.lease + additional;
        timeout(limit, call).await.unwrap_or_else(|_| {
            Err(CoordinatorError::Unreachable {
                place: "the store that the nodes share (such as Redis)".into(),
                reason: "it has not answered in time".into(),
            })
        })
    }

    pub(super) async fn join(&self) -> Result<Joined, CoordinatorError> {
        self.call(Duration::ZERO, self.coordinator.join(self.rules.lease)).await
    }

    /// Returns the position of the last entry of the log.
    ///
    /// # Errors
    /// [`CoordinatorError::OtherTerm`] if `term` is not the current term any more. Other errors are those of
    /// [`Coordinator::join`].
    pub(super) async fn last_in(&self, term: &Term) -> Result<LogPosition, CoordinatorError> {
        let joined = self.join().await?;
        if joined.term == *term {
            Ok(joined.last)
        } else {
            let place = "the store that the nodes share (such as Redis)".into();
            Err(CoordinatorError::OtherTerm { place })
        }
    }

    /// Removes records that are no longer needed from the place. If this fails, the next eviction removes them.
    pub(super) async fn evict_from_place(&self, now: Timestamp) {
        let Some(term) = self.lock().lease.term().cloned() else { return };
        let mut cursor = None;
        loop {
            let part = self.coordinator.evict(term.clone(), now, cursor);
            match self.call(Duration::ZERO, part).await {
                Ok(Some(next)) => cursor = Some(next),
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(
                        %error,
                        "expired records were not removed from the store that the nodes share (such as Redis); \
                         the next eviction tries again"
                    );
                    return;
                }
            }
        }
    }

    /// Returns the lease record for the next renewal, and the incarnation that it replaces.
    pub(super) fn next_lease(&self) -> (LeaseRecord, Option<Incarnation>) {
        let mut state = self.lock();
        let (number, applied) = state.lease.next_renewal();
        let incarnation = self.incarnation;
        (LeaseRecord { node: self.name().clone(), incarnation, number, applied }, state.replaced)
    }

    pub(super) fn renewed(
        &self,
        term: &Term,
        applied: LogPosition,
        sent: BootTime,
        renewed: &Renewed,
    ) {
        let received = self.clock.now();
        let Renewed { last, leases } = renewed;
        let given_up = self.update(|state| {
            if state.lease.term() != Some(term) {
                return None;
            }
            state.peers.observe(leases, self.incarnation, received);
            let (own, rules) = (self.incarnation, &self.rules);
            let joining = state.peers.joining(leases, own, rules, received);
            let others_are_joining = joining.is_waited_for;
            let has_waited = state.lease.waits_for_others();
            state.last = state.last.max(*last);
            state.replaced = None;
            let last = *last;
            state.lease.renewed(Reply { applied, sent, received, last, others_are_joining });
            joining.given_up.filter(|_| has_waited && !state.lease.waits_for_others())
        });
        if let Some(node) = given_up {
            self.joining_given_up(node);
        }
    }

    fn joining_given_up(&self, node: &NodeName) {
        self.counts.joining_given_up.increment();
        log_limited!(
            error,
            "joining given up",
            { %node },
            "another node joins, but has not exchanged all revocations within ten lease times; this node no longer \
             waits for the revocations of that node. Find out why that node cannot join"
        );
    }

    pub(super) async fn wait_until_renewal_helps(&self) {
        self.wait_for(|state| {
            let is_useful = state.lease.is_renewal_useful(state.last, self.clock.now());
            is_useful.then_some(())
        })
        .await;
    }

    /// Notes that all entries of the log up to `position` have been applied.
    pub(super) fn advance(&self, term: &Term, position: LogPosition) {
        let is_news = self.update(|state| {
            if state.lease.term() != Some(term) {
                return false;
            }
            let before = state.lease.applied();
            state.lease.advance(position);
            state.last = state.last.max(position);
            state.received = 0;
            state.problem = None;
            state.lease.applied() != before
        });
        if is_news {
            self.renew_now.notify_one();
        }
    }

    /// Returns the number that the next request for a list of leases will get.
    pub(super) fn next_request(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }

    /// Gives a number to a request for a list of leases that the caller sends now.
    pub(super) fn take_request(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::SeqCst)
    }

    /// Counts a barrier until the returned guard is dropped.
    pub(super) fn add_barrier(&self) -> BarrierGuard<'_> {
        self.barriers.fetch_add(1, Ordering::SeqCst);
        self.barrier_added.notify_one();
        BarrierGuard(self)
    }

    pub(super) fn has_barriers(&self) -> bool {
        self.barriers.load(Ordering::SeqCst) > 0
    }

    /// The place has stored the renewal `number` of this incarnation. Makes the number of the next renewal larger.
    pub(super) fn skip_to(&self, number: NonZeroU64) {
        self.lock().lease.skip_to(number);
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shared = f.debug_struct("Shared");
        shared.field("name", self.name()).field("coordinator", &self.coordinator);
        shared.finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(super) struct BarrierGuard<'s>(&'s Shared);

impl Drop for BarrierGuard<'_> {
    fn drop(&mut self) {
        self.0.barriers.fetch_sub(1, Ordering::SeqCst);
    }
}
