//! Publishes writes, and waits until all nodes have them. This wait is called a *barrier*. The *place* is the store
//! that the nodes share, such as Redis. [`Coordinator`](super::coordinator::Coordinator) explains leases, the log and
//! terms. A *rule with the current time* ([`Record::RuleOfNow`]) also revokes PATs (Personal Access Tokens) whose issue
//! time is later than the time of the rule, if the records of these PATs are before the rule in the log.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout_at};

use super::{
    barrier::{Observation, Waiting},
    coordinator::{CoordinatorError, LogPosition, Term},
    options::Confirm,
    publish_queue::Published,
    shared::Shared,
};
use crate::{
    log_limit::log_limited,
    revocation::{Record, StoreError},
};

/// The first pause between two requests for the leases of all nodes.
const FIRST_PAUSE: Duration = Duration::from_millis(1);

/// The longest pause between two requests for the leases of all nodes. The pause grows while the same writes wait.
const MAX_PAUSE: Duration = Duration::from_millis(20);

/// The event for which a write waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// The place has the records.
    Published,
    /// Every node has stopped accepting the tokens that the records revoke.
    Applied,
    /// For a rule with the current time: like [`Applied`](Self::Applied), and every node also has the revocations of
    /// PATs that result from the rule.
    AppliedWithDerived,
}

/// The records must be published again. There are three possible reasons: the term has changed, the place could not be
/// reached, or this node has not applied its own rule in the order of the log.
struct PublishAgain;

/// Publishes the records of a write, and waits for the event `until`.
pub(super) async fn confirm(
    shared: &Shared,
    records: Vec<Record>,
    until: Until,
) -> Result<(), StoreError> {
    let start = shared.clock.now();
    let deadline = Instant::now() + shared.rules.patience();
    let confirmed = timeout_at(deadline, reach(shared, &records, until)).await;
    if confirmed != Ok(Some(())) {
        shared.counts.unconfirmed.increment();
        let problem = shared.lock().problem.clone();
        let reason = problem.unwrap_or_else(|| "a node has not answered in time".to_owned());
        log_limited!(error, "unconfirmed", { %reason }, "a revocation was stored, but not confirmed by all nodes");
        let store = shared.name().as_str().into();
        return Err(StoreError::NotEverywhere { store, reason: reason.into() });
    }
    if until != Until::Published {
        shared.counts.waits.observe(shared.clock.now().since(start));
    }
    Ok(())
}

/// Publishes the records, and waits for the event `until`. With [`Confirm::Local`], waits only until the place has the
/// records. Returns `None` if the queue is full, or if it is cleared before the records are published.
async fn reach(shared: &Shared, records: &[Record], until: Until) -> Option<()> {
    loop {
        let Ok(published) = shared.queue.add(records.to_vec())?.await else { return None };
        if until == Until::Published || shared.options.confirm == Confirm::Local {
            return Some(());
        }
        let Published { term, position } = published;
        let reached = match barrier(shared, &term, position).await {
            Ok(()) if until == Until::AppliedWithDerived => derived(shared, &term, position).await,
            reached => reached,
        };
        if reached.is_ok() {
            return Some(());
        }
        // In a new term, the node publishes its whole memory. But the memory stores a rule with the current time as a
        // rule with a fixed time. So the records of this write are published once more.
    }
}

/// Waits until this node has applied its own rule, and until all nodes have the revocations that result from the rule.
///
/// A node first publishes the revocations of the PATs that are before the rule in the log. Only then does it count the
/// rule as applied. So when this node has applied the rule, these revocations are in the log. Nodes that join later
/// need these revocations, because they cannot know which PATs were before the rule.
async fn derived(shared: &Shared, term: &Term, position: LogPosition) -> Result<(), PublishAgain> {
    let applied = shared.wait_for(|state| {
        let is_same = state.lease.term() == Some(term);
        let is_in_order = is_same && position > state.in_order_after;
        (!is_same || state.lease.applied() >= position).then_some(is_in_order)
    });
    if !applied.await {
        return Err(PublishAgain);
    }
    match shared.last_in(term).await {
        Ok(last) => barrier(shared, term, last).await,
        Err(_) => Err(PublishAgain),
    }
}

/// Waits until every node has stopped accepting the tokens that the records up to `position` revoke.
async fn barrier(shared: &Shared, term: &Term, position: LogPosition) -> Result<(), PublishAgain> {
    let term_seen = {
        let state = shared.lock();
        let is_same = state.lease.term() == Some(term);
        state.lease.seen().filter(|_| is_same).ok_or(PublishAgain)?
    };
    let first_request = shared.next_request();
    let waiting = Waiting { term: term.clone(), position, first_request, term_seen };
    let _guard = shared.add_barrier();
    let reached = shared.wait_for(|state| {
        if state.lease.term() != Some(term) {
            return Some(Err(PublishAgain));
        }
        let now = shared.clock.now();
        let is_over = |it: &Observation| waiting.is_over(it, &shared.rules, now);
        state.observation.as_ref().is_some_and(is_over).then_some(Ok(()))
    });
    reached.await
}

/// While writes wait for other nodes, requests the leases of all nodes repeatedly.
pub(super) async fn observe_leases(shared: Arc<Shared>) {
    loop {
        let added = shared.barrier_added.notified();
        if !shared.has_barriers() {
            added.await;
        }
        let mut pause = FIRST_PAUSE;
        while shared.has_barriers() {
            observe(&shared).await;
            tokio::select! {
                biased;
                () = shared.barrier_added.notified() => pause = FIRST_PAUSE,
                () = sleep(pause) => pause = (pause * 2).min(MAX_PAUSE),
            }
        }
    }
}

async fn observe(shared: &Shared) {
    let Some(term) = shared.lock().lease.term().cloned() else { return };
    let request = shared.take_request();
    match shared.call(Duration::ZERO, shared.coordinator.leases(term.clone())).await {
        Ok(leases) => {
            let now = shared.clock.now();
            shared.update(|state| {
                if state.lease.term() == Some(&term) {
                    state.peers.observe(&leases, shared.incarnation, now);
                    let (own, rules) = (shared.incarnation, &shared.rules);
                    let applied_by_all = state.peers.applied_by_all(&leases, own, rules, now);
                    state.observation = Some(Observation { request, term, applied_by_all });
                }
            });
        }
        // The next renewal fails with the same error. So the session ends, and the next session joins the new term.
        Err(CoordinatorError::OtherTerm { .. }) => shared.renew_now.notify_one(),
        Err(_) => {}
    }
}
