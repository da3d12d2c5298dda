//! What this node knows about the leases of the other nodes.

use std::{collections::BTreeMap, num::NonZeroU64, time::Duration};

use super::{
    boot_clock::BootTime,
    coordinator::{Incarnation, LeaseRecord, LogPosition, NodeName},
    lease::JOINING,
};

/// The leases of the other nodes, and since when each has been the same.
#[derive(Debug, Default)]
pub(super) struct Peers(BTreeMap<NodeName, Seen>);

/// A lease, and when this node first saw it.
#[derive(Clone, Copy, Debug)]
struct Seen {
    incarnation: Incarnation,
    number: NonZeroU64,
    first: BootTime,
}

impl Peers {
    /// Notes a list of leases that was just received.
    ///
    /// Any difference to the last list counts as a new lease, even if the number is smaller. A smaller number can come
    /// from a renewal that was delayed on its way, and it may have replaced a larger number that this node never saw.
    pub(super) fn observe(&mut self, leases: &[LeaseRecord], own: Incarnation, now: BootTime) {
        let mut last = std::mem::take(&mut self.0);
        for lease in leases.iter().filter(|lease| lease.incarnation != own) {
            let LeaseRecord { node, incarnation, number, .. } = lease;
            let before = last.remove(node).filter(|seen| {
                (seen.incarnation, seen.number) == (lease.incarnation, lease.number)
            });
            let new = Seen { incarnation: *incarnation, number: *number, first: now };
            self.0.insert(node.clone(), before.unwrap_or(new));
        }
    }

    /// Forgets when the leases were seen. For a new term, whose numbers can repeat numbers of the last term.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }

    /// How long this lease, which is in the last observed list, has been the same.
    pub(super) fn unchanged(&self, lease: &LeaseRecord, now: BootTime) -> Duration {
        let seen = self
            .0
            .get(&lease.node)
            .filter(|seen| (seen.incarnation, seen.number) == (lease.incarnation, lease.number));
        seen.map_or(Duration::ZERO, |seen| now.since(seen.first))
    }

    /// Returns the position that all other nodes have applied that may hold a lease. `None` if no other node may hold
    /// one. `leases` is the last observed list. A lease has certainly ended after `over`.
    pub(super) fn applied_by_all(
        &self,
        leases: &[LeaseRecord],
        own: Incarnation,
        over: Duration,
        now: BootTime,
    ) -> Option<LogPosition> {
        let may_hold =
            |lease: &&LeaseRecord| lease.applied != JOINING && self.unchanged(lease, now) < over;
        let others = leases.iter().filter(|lease| lease.incarnation != own);
        others.filter(may_hold).map(|lease| lease.applied).min()
    }

    /// Returns whether another node that runs has joined the term, but has not caught up.
    pub(super) fn are_joining(
        &self,
        leases: &[LeaseRecord],
        own: Incarnation,
        over: Duration,
        now: BootTime,
    ) -> bool {
        let others = leases.iter().filter(|lease| lease.incarnation != own);
        others
            .into_iter()
            .any(|lease| lease.applied == JOINING && self.unchanged(lease, now) < over)
    }

    /// The number of other nodes whose lease may not have ended.
    pub(super) fn running(&self, over: Duration, now: BootTime) -> usize {
        self.0.values().filter(|seen| now.since(seen.first) < over).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OVER: Duration = Duration::from_millis(3300);

    fn at(millis: u64) -> BootTime {
        BootTime::from_nanos(millis * 1_000_000)
    }

    fn lease(name: &str, incarnation: Incarnation, number: u64, applied: u64) -> LeaseRecord {
        LeaseRecord {
            node: NodeName::new(name).unwrap(),
            incarnation,
            number: NonZeroU64::new(number).unwrap(),
            applied: LogPosition::new(applied, 0),
        }
    }

    #[test]
    fn a_lease_ends_when_its_number_has_not_changed_for_long_enough() {
        let (own, one, two) = (Incarnation::new(), Incarnation::new(), Incarnation::new());
        // At each time, the lease of the peer, and the position that all have applied.
        let rows = [
            (0, one, 5, 10, Some(10)),
            (3299, one, 5, 10, Some(10)),
            (3300, one, 5, 10, None),
            (3400, one, 6, 11, Some(11)),
            // A number that goes back is a change, too.
            (6600, one, 5, 10, Some(10)),
            (9899, one, 5, 10, Some(10)),
            (9900, one, 5, 10, None),
            // Another incarnation is another lease.
            (9901, two, 5, 10, Some(10)),
            // A node that is joining holds no lease.
            (9902, two, 6, 0, None),
        ];
        let mut peers = Peers::default();
        for (time, incarnation, number, applied, want) in rows {
            let leases = [lease("a", own, 1, 1), lease("b", incarnation, number, applied)];
            peers.observe(&leases, own, at(time));
            let got = peers.applied_by_all(&leases, own, OVER, at(time));
            assert_eq!(got, want.map(|it| LogPosition::new(it, 0)), "{time}");
            assert_eq!(peers.are_joining(&leases, own, OVER, at(time)), applied == 0);
        }
        assert_eq!(peers.running(OVER, at(9902)), 1);
        peers.observe(&[], own, at(9903));
        assert_eq!(peers.running(OVER, at(9903)), 0);
    }

    #[test]
    fn the_slowest_node_counts() {
        let own = Incarnation::new();
        let leases = [
            lease("a", own, 1, 1),
            lease("b", Incarnation::new(), 1, 9),
            lease("c", Incarnation::new(), 1, 7),
        ];
        let mut peers = Peers::default();
        peers.observe(&leases, own, at(0));
        let applied = |peers: &Peers| peers.applied_by_all(&leases, own, OVER, at(1));
        assert_eq!(applied(&peers), Some(LogPosition::new(7, 0)));
        peers.forget();
        assert_eq!(applied(&peers), Some(LogPosition::new(7, 0)), "unknown leases count");
    }

    #[test]
    fn a_node_that_joins_and_dies_is_not_waited_for() {
        let own = Incarnation::new();
        let leases = [lease("b", Incarnation::new(), 1, 0)];
        let mut peers = Peers::default();
        peers.observe(&leases, own, at(0));
        assert!(peers.are_joining(&leases, own, OVER, at(3299)));
        assert!(!peers.are_joining(&leases, own, OVER, at(3300)));
    }
}
