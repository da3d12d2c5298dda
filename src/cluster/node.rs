//! A node of a site. The *place* is the store that the nodes share, such as Redis. A node accepts tokens only while it
//! has a *lease*: a permission for a short time, which the node must renew at the place.

use std::{fmt, sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{Instant, sleep},
};

use super::{
    boot_clock::SystemBootClock,
    confirm::observe_leases,
    coordinator::{Coordinator, CoordinatorError, Incarnation},
    error::ClusterError,
    handed_over::HandedOverLease,
    options::ClusterOptions,
    rules::Rules,
    session::{SessionError, Sessions},
    shared::{Mode, Parts, Shared},
    status::{ClusterStatus, LeaseStatus},
    store::ClusterStore,
};
use crate::{
    log_limit::log_limited,
    metrics::{Collect, Description, Exposition},
    revocation::DurableStore,
};

/// The average pause after the first failed session with the place. The average doubles after each further failure, up
/// to the time between two renewals.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);

/// At its start, a node tries to reach the place for this number of lease times.
const START_PATIENCE: u32 = 5;

const LEASE_HELD: Description = Description::gauge(
    "passticket_cluster_lease_held",
    "1 if this node has a lease and accepts tokens, otherwise 0.",
);
const BEHIND: Description = Description::gauge(
    "passticket_cluster_behind",
    "Entries of the log that this node knows of, but has not applied.",
);
const PEERS: Description = Description::gauge("passticket_cluster_peers", "Other nodes that run.");
const UNPUBLISHED: Description = Description::gauge(
    "passticket_cluster_unpublished_writes",
    "Writes of this node that are not published yet.",
);

/// A node of a site. Clones are handles to the same node.
///
/// The node works in tasks of the runtime in which [`start`](Self::start) was called. When the last clone is dropped,
/// the tasks end, and each [`ClusterStore`] of the node refuses all tokens.
#[derive(Clone)]
pub struct ClusterNode(Arc<Running>);

struct Running(Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        set_mode(&self.0, Mode::Left);
    }
}

impl ClusterNode {
    /// Starts the node. The node joins the site, checks that no other node has its name, reads the records of the other
    /// nodes, and gets a lease.
    ///
    /// `inherited` is the lease that another process of this node has [handed over](Self::hand_over) to this process.
    /// It is `None` if this process does not take over from another process.
    ///
    /// If the previous process was killed, this call waits until the lease of that process has ended. If the place may
    /// have lost data, or if this node is new, the call also waits a little longer than one lease time, so that other
    /// nodes can publish their data. If another node is then still joining, the call also waits for that node, but at
    /// most until that node has been joining for ten lease times. If the place or the file cannot be used, the call
    /// usually tries again for five lease times.
    ///
    /// # Errors
    /// [`ClusterError`]. Its text says what the operator can do.
    pub async fn start(
        store: Arc<DurableStore>,
        coordinator: Arc<dyn Coordinator>,
        options: ClusterOptions,
        inherited: Option<HandedOverLease>,
    ) -> Result<Self, ClusterError> {
        let runtime = Handle::current();
        let HandedOverLease { incarnation, number } = inherited
            .unwrap_or_else(|| HandedOverLease { incarnation: Incarnation::new(), number: 0 });
        Self::start_with(Parts {
            memory: store,
            coordinator,
            clock: Arc::new(SystemBootClock),
            spawn: Arc::new(move |task| drop(runtime.spawn(task))),
            rules: Rules::new(options.lease),
            options,
            incarnation,
            number,
        })
        .await
    }

    pub(super) async fn start_with(parts: Parts) -> Result<Self, ClusterError> {
        let shared = Arc::new(Shared::new(parts));
        let node = Self(Arc::new(Running(shared.clone())));
        let (started, result) = oneshot::channel();
        let sessions = Sessions::new(shared.clone()).await?;
        let work = work(shared.clone(), sessions, started);
        (shared.spawn)(Box::pin(until_left(shared.clone(), work)));
        (shared.spawn)(Box::pin(until_left(shared.clone(), observe_leases(shared.clone()))));
        (shared.spawn)(Box::pin(until_left(shared.clone(), report_lease(shared.clone()))));
        let ready = shared.wait_for(|state| state.lease.is_held(shared.clock.now()).then_some(()));
        tokio::select! {
            biased;
            error = result => Err(error.unwrap_or(ClusterError::Stopped)),
            () = ready => Ok(node),
        }
    }

    /// Returns the revocation store of this node.
    pub fn store(&self) -> ClusterStore {
        ClusterStore::new(self.shared().clone())
    }

    /// Returns the current status of this node.
    pub fn status(&self) -> ClusterStatus {
        let shared = self.shared();
        let now = shared.clock.now();
        let state = shared.lock();
        let is_behind = state.last > state.lease.applied();
        ClusterStatus {
            lease: match state.mode {
                Mode::HandedOver => LeaseStatus::HandedOver,
                Mode::Running if state.lease.is_held(now) => LeaseStatus::Ok,
                Mode::Running | Mode::Left => LeaseStatus::Expired,
            },
            since: now.since(state.since),
            behind: state.received.max(u64::from(is_behind)),
            peers: state.peers.running(shared.rules.over(), now),
            unpublished: shared.queue.len(),
            term: state.lease.term().cloned(),
            problem: state.problem.clone(),
        }
    }

    /// Hands the lease over to another process of this node. From now on, this process does not renew the lease. It
    /// still accepts tokens, although it has no lease. So it must apply the revocations of the other process
    /// ([`DurableStore::apply_followed`]), and must accept no new requests. If it can no longer apply these
    /// revocations, call [`leave`](Self::leave).
    pub fn hand_over(&self) -> HandedOverLease {
        let shared = self.shared();
        set_mode(shared, Mode::HandedOver);
        shared.queue.clear();
        let number = shared.lock().lease.number();
        HandedOverLease { incarnation: shared.incarnation, number }
    }

    /// Takes the lease back after [`hand_over`](Self::hand_over), if the other process has failed. The node refuses
    /// tokens until it has a lease again. Does nothing if this process has not handed its lease over.
    pub fn take_back(&self) {
        let shared = self.shared();
        let mode = shared.lock().mode;
        if mode == Mode::HandedOver {
            shared.queue.add_whole();
            set_mode(shared, Mode::Running);
        }
    }

    /// Leaves the site: refuses all tokens from now on, and removes the lease, so that the next process with this name
    /// need not wait. If the place cannot be reached, the lease stays there, and the next process waits until the lease
    /// has ended. If the lease was handed over to another process, that process keeps it.
    pub async fn leave(&self) {
        let shared = self.shared();
        let (before, term) = {
            let state = shared.lock();
            (state.mode, state.lease.term().cloned())
        };
        set_mode(shared, Mode::Left);
        let (Mode::Running, Some(term)) = (before, term) else { return };
        let remove = async {
            let leases = shared.coordinator.leases(term.clone());
            let leases = shared.call(Duration::ZERO, leases).await?;
            let own = leases.into_iter().find(|lease| lease.incarnation == shared.incarnation);
            match own {
                Some(lease) => {
                    shared.call(Duration::ZERO, shared.coordinator.remove(term, lease)).await
                }
                None => Ok(()),
            }
        };
        if let Err(error) = remove.await {
            tracing::warn!(
                %error,
                "the lease of this node could not be removed; the next process of this node waits until the lease has \
                 ended"
            );
        }
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.0.0
    }
}

impl fmt::Debug for ClusterNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClusterNode").field(self.shared()).finish()
    }
}

impl Collect for ClusterNode {
    fn collect(&self, exposition: &mut Exposition) {
        self.shared().counts.collect(exposition);
        let status = self.status();
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        exposition.value(&LEASE_HELD, u64::from(status.lease == LeaseStatus::Ok));
        exposition.value(&BEHIND, status.behind);
        exposition.value(&PEERS, count(status.peers));
        exposition.value(&UNPUBLISHED, count(status.unpublished));
    }
}

fn set_mode(shared: &Shared, mode: Mode) {
    shared.update(|state| {
        // A node that has left does not come back.
        if state.mode != Mode::Left {
            state.mode = mode;
            state.since = shared.clock.now();
            // At each change of the mode, the lease of this process ends. So after `take_back`, the node must get a new
            // lease.
            state.lease.end();
        }
    });
}

/// Waits until the mode is [`Mode::Running`] (if `is_running`) or another mode (if not).
async fn running(shared: &Shared, is_running: bool) {
    let is_reached = |mode| (mode == Mode::Running) == is_running;
    shared.wait_for(|state| is_reached(state.mode).then_some(())).await;
}

/// Runs sessions with the place, one after the other. If the node cannot start, sends the error to `started`.
async fn work(shared: Arc<Shared>, mut sessions: Sessions, started: oneshot::Sender<ClusterError>) {
    let mut started = Some(started);
    let patience = Instant::now() + shared.rules.lease * START_PATIENCE;
    let mut backoff = FIRST_BACKOFF;
    loop {
        running(&shared, true).await;
        let error = tokio::select! {
            biased;
            () = running(&shared, false) => continue,
            error = sessions.run() => error,
        };
        shared.counts.connection_errors.increment();
        let had_caught_up = shared.update(|state| {
            let had_caught_up = state.problem.is_none() && state.lease.has_caught_up();
            state.problem = Some(error.to_string());
            if matches!(error, SessionError::Store(_)) {
                state.lease.note_failure();
            }
            had_caught_up
        });
        // The receiver is dropped when the node has started, and also if the caller drops the future of `start`.
        if let Some(waiting) = started.take().filter(|waiting| !waiting.is_closed()) {
            match starting(error, Instant::now() > patience) {
                Ok(error) => {
                    set_mode(&shared, Mode::Left);
                    let _ = waiting.send(error);
                    return;
                }
                Err(error) => {
                    started = Some(waiting);
                    report(&shared, &error);
                }
            }
        } else {
            report(&shared, &error);
        }
        if had_caught_up {
            backoff = FIRST_BACKOFF;
        }
        // The wait is random, so that the nodes do not all connect at the same time when the place is back.
        let wait = backoff.mul_f64(0.5 + fastrand::f64());
        backoff = (backoff * 2).min(shared.rules.renewal());
        tokio::select! {
            biased;
            () = running(&shared, false) => {}
            () = sleep(wait) => {}
        }
    }
}

/// Returns `Ok` with the reason if the node cannot start because of `error`. Returns `Err` if the node should try
/// again. `is_late` means that the node has already tried for the maximum time.
fn starting(error: SessionError, is_late: bool) -> Result<ClusterError, SessionError> {
    match error {
        SessionError::NameTaken(name) => Ok(ClusterError::NameTaken { name }),
        SessionError::EmptySite => Ok(ClusterError::EmptySite),
        SessionError::Coordinator(
            error @ (CoordinatorError::OtherVersion { .. }
            | CoordinatorError::OtherLease { .. }
            | CoordinatorError::Malformed { .. }
            | CoordinatorError::TooManySalts { .. }),
        ) => Ok(error.into()),
        SessionError::Coordinator(error) if is_late => Ok(error.into()),
        SessionError::Store(error) if is_late => Ok(error.into()),
        error => Err(error),
    }
}

fn report(shared: &Shared, error: &SessionError) {
    let node = shared.name();
    match error {
        SessionError::Coordinator(CoordinatorError::OtherTerm { .. }) => {
            tracing::warn!(%node, %error, "this node joins the other nodes again");
        }
        SessionError::NameTaken(_) => {
            log_limited!(error, "name taken", { %node, %error }, "this node gets no lease");
        }
        error => {
            log_limited!(warn, "connection", { %node, %error }, "this node connects again");
        }
    }
}

async fn until_left(shared: Arc<Shared>, task: impl Future<Output = ()>) {
    tokio::select! {
        biased;
        () = shared.wait_for(|state| (state.mode == Mode::Left).then_some(())) => {}
        () = task => {}
    }
}

async fn report_lease(shared: Arc<Shared>) {
    let node = shared.name();
    loop {
        shared
            .wait_for(|state| {
                let is_running = state.mode == Mode::Running;
                (is_running && state.lease.is_held(shared.clock.now())).then_some(())
            })
            .await;
        shared.lock().since = shared.clock.now();
        tracing::info!(%node, "this node has a lease, and accepts tokens");
        loop {
            let (is_held, is_running, until) = {
                let state = shared.lock();
                let now = shared.clock.now();
                let until = state.lease.until().since(now);
                (state.lease.is_held(now), state.mode == Mode::Running, until)
            };
            if !is_running {
                break;
            }
            if !is_held {
                let problem = shared.lock().problem.clone().unwrap_or_default();
                tracing::error!(%node, problem, "the lease of this node has ended");
                break;
            }
            sleep(until + Duration::from_millis(1)).await;
        }
        shared.lock().since = shared.clock.now();
    }
}
