//! The leases of the other nodes that this node knows. [`Coordinator`](super::coordinator::Coordinator) explains
//! leases, terms and the log. A node that has joined a term is *joining* until it has *caught up*. It has caught up
//! when it has all records of the store that the nodes share, up to a known position in the log.

use std::{collections::BTreeMap, num::NonZeroU64, time::Duration};

use super::{
    boot_clock::BootTime,
    coordinator::{Incarnation, LeaseRecord, LogPosition, NodeName},
    lease::JOINING,
    rules::{Rules, applies},
};

/// The leases of the other nodes, and the time of the last change of each lease.
#[derive(Debug, Default)]
pub(super) struct Peers(BTreeMap<NodeName, Seen>);

/// A lease, and when this node first saw it.
#[derive(Clone, Copy, Debug)]
struct Seen {
    incarnation: Incarnation,
    number: NonZeroU64,
    first: BootTime,
    /// The time since which the node of this lease is joining. `None` if it has caught up.
    joining_since: Option<BootTime>,
}

/// The other running nodes that have joined the term, but have not caught up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct JoiningNodes<'l> {
    /// Whether at least one of these nodes can still catch up in time. Such a node can have data that this node needs.
    pub(super) is_waited_for: bool,
    /// A node that takes too long to catch up, if there is one.
    pub(super) given_up: Option<&'l NodeName>,
}

impl Peers {
    /// Replaces the known leases by a list that was just received.
    ///
    /// If the incarnation or the number of a lease differs from the last list, the lease counts as new, even if the
    /// number is now smaller. A number becomes smaller if two lists arrive in the wrong order. It is safe to count such
    /// a lease as new: this node then only waits longer for its end.
    pub(super) fn observe(&mut self, leases: &[LeaseRecord], own: Incarnation, now: BootTime) {
        let mut last = std::mem::take(&mut self.0);
        for lease in leases.iter().filter(|lease| lease.incarnation != own) {
            let LeaseRecord { node, incarnation, number, applied } = lease;
            let before = last.remove(node).filter(|seen| seen.incarnation == *incarnation);
            let since = before.and_then(|seen| seen.joining_since).unwrap_or(now);
            let same = before.filter(|seen| seen.number == *number);
            let seen = Seen {
                incarnation: *incarnation,
                number: *number,
                first: same.map_or(now, |seen| seen.first),
                joining_since: (*applied == JOINING).then_some(since),
            };
            self.0.insert(node.clone(), seen);
        }
    }

    /// Forgets all leases. Call this at the start of a term, because the numbers in a new term can repeat numbers of
    /// the previous term.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }

    /// Returns for how long this lease has not changed. Returns zero if the lease is not in the last observed list.
    pub(super) fn unchanged(&self, lease: &LeaseRecord, now: BootTime) -> Duration {
        self.seen(lease).map_or(Duration::ZERO, |seen| now.since(seen.first))
    }

    fn seen(&self, lease: &LeaseRecord) -> Option<&Seen> {
        let seen = self.0.get(&lease.node);
        seen.filter(|seen| (seen.incarnation, seen.number) == (lease.incarnation, lease.number))
    }

    /// Returns how long the node of this lease has been joining. `None` if it has caught up. Returns zero if the lease
    /// is not in the last observed list.
    fn joining_for(&self, lease: &LeaseRecord, now: BootTime) -> Option<Duration> {
        let since = self.seen(lease).and_then(|seen| seen.joining_since);
        let time = since.map_or(Duration::ZERO, |since| now.since(since));
        (lease.applied == JOINING).then_some(time)
    }

    /// Returns the lowest position that another node has applied. Nodes that certainly hold no lease do not count.
    /// Returns `None` if certainly no other node holds a lease. `leases` is the last observed list.
    ///
    /// A node that is joining has no lease of the current term. But for the time [`Rules::over`], it can still hold a
    /// lease of the previous term, for example from a former primary. So it counts during this time.
    pub(super) fn applied_by_all(
        &self,
        leases: &[LeaseRecord],
        own: Incarnation,
        rules: &Rules,
        now: BootTime,
    ) -> Option<LogPosition> {
        let over = rules.over();
        let has_old_lease =
            |joining: Duration| joining < over && applies!(rules, JoiningNodeMayHaveOldLease);
        let may_hold = |lease: &&LeaseRecord| {
            self.joining_for(lease, now).is_none_or(has_old_lease)
                && self.unchanged(lease, now) < over
        };
        let others = leases.iter().filter(|lease| lease.incarnation != own);
        others.filter(may_hold).map(|lease| lease.applied).min()
    }

    pub(super) fn joining<'l>(
        &self,
        leases: &'l [LeaseRecord],
        own: Incarnation,
        rules: &Rules,
        now: BootTime,
    ) -> JoiningNodes<'l> {
        let mut nodes = JoiningNodes::default();
        for lease in leases.iter().filter(|lease| lease.incarnation != own) {
            match self.joining_for(lease, now) {
                Some(_) if self.unchanged(lease, now) >= rules.over() => {}
                Some(time) if time < rules.patience_with_joining() => nodes.is_waited_for = true,
                Some(_) => nodes.given_up = Some(&lease.node),
                None => {}
            }
        }
        nodes
    }

    /// Returns the number of other nodes whose leases have changed within the time `over`.
    pub(super) fn running(&self, over: Duration, now: BootTime) -> usize {
        self.0.values().filter(|seen| now.since(seen.first) < over).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules::new(Duration::from_millis(3000));

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
        // Each row has a time, the lease of the peer at this time, and the position that all nodes have applied.
        let rows = [
            (0, one, 5, 10, Some(10)),
            (3299, one, 5, 10, Some(10)),
            (3300, one, 5, 10, None),
            (3400, one, 6, 11, Some(11)),
            (6600, one, 5, 10, Some(10)),
            (9899, one, 5, 10, Some(10)),
            (9900, one, 5, 10, None),
            (9901, two, 5, 10, Some(10)),
            // A joining node can have a lease of the previous term for some time.
            (9902, two, 6, 0, Some(0)),
            (12_000, two, 7, 0, Some(0)),
            (13_201, two, 8, 0, Some(0)),
            (13_202, two, 9, 0, None),
            (13_203, two, 10, 12, Some(12)),
            (13_204, two, 11, 0, Some(0)),
        ];
        let mut peers = Peers::default();
        for (time, incarnation, number, applied, want) in rows {
            let leases = [lease("a", own, 1, 1), lease("b", incarnation, number, applied)];
            peers.observe(&leases, own, at(time));
            let got = peers.applied_by_all(&leases, own, &RULES, at(time));
            assert_eq!(got, want.map(|it| LogPosition::new(it, 0)), "{time}");
            let joining = peers.joining(&leases, own, &RULES, at(time));
            assert_eq!((joining.is_waited_for, joining.given_up), (applied == 0, None));
        }
        assert_eq!(peers.running(RULES.over(), at(13_204)), 1);
        peers.observe(&[], own, at(13_205));
        assert_eq!(peers.running(RULES.over(), at(13_205)), 0);
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
        let applied = |peers: &Peers| peers.applied_by_all(&leases, own, &RULES, at(1));
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
        assert!(peers.joining(&leases, own, &RULES, at(3299)).is_waited_for);
        assert!(!peers.joining(&leases, own, &RULES, at(3300)).is_waited_for);
    }

    #[test]
    fn a_node_that_joins_for_too_long_is_not_waited_for() {
        let (own, other) = (Incarnation::new(), Incarnation::new());
        let mut peers = Peers::default();
        for number in 0..=30 {
            let (leases, now) = ([lease("b", other, number + 1, 0)], at(1000 * number));
            peers.observe(&leases, own, now);
            let joining = peers.joining(&leases, own, &RULES, now);
            let is_waited_for = number < 30;
            assert_eq!(joining.is_waited_for, is_waited_for, "{number}");
            assert_eq!(joining.given_up.is_none(), is_waited_for, "{number}");
        }
    }
}
