//! Decides when a write has reached all nodes. A *barrier* is the wait until then. The *place* is the store that the
//! nodes share, such as Redis. [`Coordinator`](super::coordinator::Coordinator) explains leases, the log and terms.

use super::{
    boot_clock::BootTime,
    coordinator::{LogPosition, Term},
    rules::{Rules, applies},
};

/// The facts about the other nodes in one list of leases.
#[derive(Clone, Debug)]
pub(super) struct Observation {
    /// The number of the request that returned the list.
    pub(super) request: u64,
    pub(super) term: Term,
    /// The lowest position that another node has applied. Nodes that certainly hold no lease do not count. `None` if
    /// certainly no other node holds a lease.
    pub(super) applied_by_all: Option<LogPosition>,
}

/// A published record whose write waits for the other nodes.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) term: Term,
    pub(super) position: LogPosition,
    /// The number of the first request for a list of leases that was sent after the record was published. An older list
    /// is not enough: after such a list and before the publication, it can happen that another node gets a lease
    /// without this record.
    pub(super) first_request: u64,
    /// When this node first knew of the term. Before this time, it can happen that another node got a lease of the
    /// previous term. The place does not know this lease any more. So the barrier waits until such a lease has
    /// certainly ended.
    pub(super) term_seen: BootTime,
}

impl Waiting {
    /// Returns whether `observation` shows that no node still accepts the tokens that the record revokes.
    pub(super) fn is_over(&self, observation: &Observation, rules: &Rules, now: BootTime) -> bool {
        let is_new_enough =
            observation.request >= self.first_request || !applies!(rules, BarrierReadsAfterPublish);
        let old_leases_are_over =
            now >= self.term_seen.plus(rules.over()) || !applies!(rules, BarrierWaitsInNewTerm);
        is_new_enough
            && old_leases_are_over
            && observation.term == self.term
            && observation.applied_by_all.is_none_or(|applied| applied >= self.position)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_barrier_needs_a_new_list_of_its_term_with_its_position() {
        let rules = Rules::new(Duration::from_secs(3));
        let at = |millis: u64| BootTime::from_nanos(millis * 1_000_000);
        let position = |number| LogPosition::new(number, 0);
        let waiting = Waiting {
            term: Term::new("a"),
            position: position(5),
            first_request: 7,
            term_seen: at(1000),
        };
        for (request, term, applied, now, want) in [
            (7, "a", Some(5), 4300, true),
            (8, "a", None, 4300, true),
            (7, "a", Some(6), 9999, true),
            (6, "a", Some(5), 4300, false),
            (7, "b", Some(5), 4300, false),
            (7, "a", Some(4), 4300, false),
            (7, "a", Some(5), 4299, false),
            (7, "a", None, 4299, false),
        ] {
            let applied_by_all = applied.map(position);
            let observation = Observation { request, term: Term::new(term), applied_by_all };
            let got = waiting.is_over(&observation, &rules, at(now));
            assert_eq!(got, want, "{request} {term} {applied:?} {now}");
        }
    }
}
