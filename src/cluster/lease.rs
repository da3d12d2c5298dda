//! The lease of this node. The *place* is the store that the nodes share, such as Redis.
//! [`Coordinator`](super::coordinator::Coordinator) explains the log and terms. The *memory* is the node's own store of
//! all records ([`NodeMemory`](super::memory::NodeMemory)). A node has *caught up* when its memory has all records of
//! the place up to a known position in the log.

use std::{collections::VecDeque, num::NonZeroU64};

use super::{
    boot_clock::BootTime,
    coordinator::{LogPosition, Term},
    rules::{Rules, applies},
};

/// The maximum number of replies in `InTerm::pending`. If there are more, the node drops the oldest reply, and does not
/// get the lease of this reply.
const MAX_PENDING: usize = 64;

/// The position of a node that has applied an empty log. This cannot be [`LogPosition::START`], because `START` in a
/// lease record means [`JOINING`]. So it is the smallest position after `START`. No entry of a log has this position: the
/// first part of an entry's position is the time of the entry, not 0.
const FIRST: LogPosition = LogPosition::new(0, 1);

/// The position in the lease record of a node that has joined the term, but has not caught up. Such a node has no lease
/// of this term.
pub(super) const JOINING: LogPosition = LogPosition::START;

/// The lease of this node. A node with [`Confirm::Everywhere`](super::Confirm::Everywhere) reports the success of a
/// revocation only when all nodes that hold a lease have applied the revocation.
#[derive(Debug)]
pub(super) struct Lease {
    rules: Rules,
    /// The number of the last renewal.
    number: u64,
    /// The node holds the lease until this time.
    until: BootTime,
    term: Option<InTerm>,
    /// Whether a call of the memory has failed since the node last made progress in the log.
    has_failed: bool,
}

#[derive(Debug)]
struct InTerm {
    term: Term,
    /// When this node first knew of the term.
    seen: BootTime,
    /// Whether the node waits for the data of other nodes. The node waits if it held no lease when it joined the term,
    /// and its memory has never followed the log of the term. In this case, it can be that the place has lost data
    /// while this node had no lease, and that only other nodes still have this data.
    waits_for_others: bool,
    has_caught_up: bool,
    applied: LogPosition,
    /// The position that the last renewal in this term has sent.
    renewed_with: Option<LogPosition>,
    /// The replies whose position this node has not reached yet. Each reply has the time at which its lease begins, and
    /// the position that this node must apply before it gets this lease.
    pending: VecDeque<(BootTime, LogPosition)>,
}

/// The reply to a renewal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reply {
    /// The position in the lease record that the renewal stored.
    pub(super) applied: LogPosition,
    pub(super) sent: BootTime,
    pub(super) received: BootTime,
    /// The position of the last entry of the log.
    pub(super) last: LogPosition,
    /// Whether this node must still wait for another running node, which has joined, but has not caught up.
    pub(super) others_are_joining: bool,
}

impl Lease {
    /// Creates a lease that is not held. `number` is the number of the last renewal.
    pub(super) fn new(rules: Rules, number: u64) -> Self {
        Self { rules, number, until: BootTime::default(), term: None, has_failed: false }
    }

    /// Begins `term`, and returns `true`. If `term` is the current term, changes nothing, and returns `false`.
    /// `has_followed` tells whether the memory has followed the log of this term before.
    pub(super) fn join(&mut self, term: &Term, now: BootTime, has_followed: bool) -> bool {
        if self.term.as_ref().is_some_and(|current| current.term == *term) {
            return false;
        }
        self.term = Some(InTerm {
            term: term.clone(),
            seen: now,
            waits_for_others: !has_followed && !self.is_held(now),
            has_caught_up: false,
            applied: LogPosition::START,
            renewed_with: None,
            pending: VecDeque::new(),
        });
        true
    }

    /// Notes that all entries up to `position` have been applied, and that the node has caught up.
    pub(super) fn advance(&mut self, position: LogPosition) {
        let Some(term) = &mut self.term else { return };
        let position = position.max(FIRST);
        self.has_failed &= term.has_caught_up && position <= term.applied;
        term.has_caught_up = true;
        term.applied = term.applied.max(position);
        while let Some((start, _)) = term.pending.front().filter(|(_, last)| *last <= term.applied)
        {
            self.until = self.until.max(start.plus(self.rules.lease));
            term.pending.pop_front();
        }
    }

    pub(super) fn next_renewal(&mut self) -> (NonZeroU64, LogPosition) {
        self.number = self.number.saturating_add(1);
        let applied = self.applied();
        if let Some(term) = &mut self.term {
            term.renewed_with = Some(applied);
        }
        (NonZeroU64::new(self.number).unwrap_or(NonZeroU64::MAX), applied)
    }

    pub(super) fn note_failure(&mut self) {
        self.has_failed = true;
    }

    /// Returns whether a renewal can now help this node or the other nodes. `last` is the last known position of the
    /// log.
    ///
    /// As long as the lease record of this node keeps changing, other nodes may wait for this node. So if this node has
    /// no lease and cannot apply the log, it sends no renewals until it makes progress. The other nodes then wait for
    /// it only as long as for a node that has ended.
    pub(super) fn is_renewal_useful(&self, last: LogPosition, now: BootTime) -> bool {
        let Some(term) = self.term.as_ref().filter(|_| !self.is_held(now)) else { return true };
        if !term.has_caught_up {
            return !self.has_failed;
        }
        term.applied >= last || term.renewed_with != Some(term.applied)
    }

    /// Makes the next number larger than `number`, which the place has stored for this node.
    pub(super) fn skip_to(&mut self, number: NonZeroU64) {
        self.number = self.number.max(number.get());
    }

    pub(super) fn renewed(&mut self, reply: Reply) {
        let Reply { applied, sent, received, last, others_are_joining } = reply;
        let waits_until = self.waits_until();
        let rules = self.rules;
        let Some(term) = &mut self.term else { return };
        let start = if applies!(rules, LeaseRunsFromSending) { sent } else { received };
        let needs_log = applies!(rules, LeaseNeedsAppliedLog);
        if !term.has_caught_up && needs_log {
            return;
        }
        // After a node has been joining for the time [`Rules::over`], the writes of other nodes do not wait for it. So
        // a renewal that was sent while this node was joining gives no lease: the place must first know that the node
        // has caught up.
        if applied == JOINING && needs_log && applies!(rules, PlaceKnowsOfLease) {
            return;
        }
        if let Some(end) = waits_until
            && applies!(rules, WaitForUnionOfOthers)
        {
            if sent < end || others_are_joining {
                return;
            }
            term.waits_for_others = false;
        }
        if term.applied >= last || !needs_log {
            self.until = self.until.max(start.plus(rules.lease));
        } else {
            if term.pending.len() >= MAX_PENDING {
                term.pending.pop_front();
            }
            term.pending.push_back((start, last));
        }
    }

    /// Returns the time until which the node must at least wait for the data of other nodes. A renewal that the node
    /// sends before this time gives no lease. Returns `None` if the node does not wait.
    pub(super) fn waits_until(&self) -> Option<BootTime> {
        let term = self.term.as_ref().filter(|current| current.waits_for_others);
        term.map(|term| term.seen.plus(self.rules.over()))
    }

    /// Returns whether the node waits for the data of other nodes, or has not joined a term. A node that waits has had
    /// no lease of this term.
    pub(super) fn waits_for_others(&self) -> bool {
        self.term.as_ref().is_none_or(|current| current.waits_for_others)
    }

    pub(super) fn is_held(&self, now: BootTime) -> bool {
        now < self.until
    }

    pub(super) fn until(&self) -> BootTime {
        self.until
    }

    pub(super) fn end(&mut self) {
        self.until = BootTime::default();
        self.term = None;
        self.has_failed = false;
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn term(&self) -> Option<&Term> {
        self.term.as_ref().map(|current| &current.term)
    }

    pub(super) fn seen(&self) -> Option<BootTime> {
        self.term.as_ref().map(|current| current.seen)
    }

    pub(super) fn has_caught_up(&self) -> bool {
        self.term.as_ref().is_some_and(|current| current.has_caught_up)
    }

    /// Returns the position for the next lease record of this node: [`JOINING`] until the node has caught up, then the
    /// position up to which it has applied the log.
    pub(super) fn applied(&self) -> LogPosition {
        let caught_up = self.term.as_ref().filter(|current| current.has_caught_up);
        caught_up.map_or(JOINING, |current| current.applied)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const L: u64 = 3000;

    fn at(millis: u64) -> BootTime {
        BootTime::from_nanos(millis * 1_000_000)
    }

    fn position(number: u64) -> LogPosition {
        LogPosition::new(number, 0)
    }

    fn lease() -> Lease {
        Lease::new(Rules::new(Duration::from_millis(L)), 0)
    }

    fn reply(sent: u64, received: u64, last: u64) -> Reply {
        let (sent, received) = (at(sent), at(received));
        let (applied, last) = (position(1), position(last));
        Reply { applied, sent, received, last, others_are_joining: false }
    }

    #[test]
    fn a_lease_runs_from_sending_and_counts_when_the_log_is_applied() {
        // Each row has three positions and a time: the position at the renewal, the last position in the reply, the
        // position that is applied later, and the end of the lease.
        for (applied, last, later, until) in
            [(5, 5, 5, 100 + L), (6, 5, 6, 100 + L), (5, 6, 5, 0), (5, 6, 6, 100 + L), (5, 9, 8, 0)]
        {
            let mut lease = lease();
            assert!(lease.join(&Term::new("a"), at(0), true));
            lease.advance(position(applied));
            lease.renewed(reply(100, 900, last));
            lease.advance(position(later));
            assert_eq!(lease.until(), at(until), "{applied} {last} {later}");
            assert!(!lease.is_held(at(until)));
            assert_eq!(lease.is_held(at(until.saturating_sub(1))), until > 0);
        }
    }

    #[test]
    fn a_node_that_had_no_lease_waits_in_a_new_term() {
        let over = L + L / 10;
        for (has_followed, was_held, sent, others_are_joining, is_held) in [
            (true, false, 1001, false, true),
            (false, false, 1001, false, false),
            (false, false, 1000 + over - 1, false, false),
            (false, false, 1000 + over, false, true),
            (false, false, 1000 + over, true, false),
            (false, true, 1001, false, true),
            (false, true, 1001, true, true),
        ] {
            let mut lease = lease();
            lease.join(&Term::new("a"), at(0), true);
            if was_held {
                lease.advance(position(1));
                lease.renewed(reply(500, 500, 1));
            }
            lease.join(&Term::new("b"), at(1000), has_followed);
            assert_eq!(lease.applied(), JOINING);
            lease.renewed(reply(1000, 1000, 0));
            lease.advance(position(0));
            assert_ne!(lease.applied(), JOINING);
            lease.renewed(Reply { others_are_joining, ..reply(sent, sent, 0) });
            assert_eq!(lease.until() == at(sent + L), is_held, "{has_followed} {was_held} {sent}");
        }
    }

    #[test]
    fn a_renewal_of_a_joining_node_gives_no_lease_although_it_has_caught_up_since() {
        let mut lease = lease();
        lease.join(&Term::new("a"), at(0), true);
        let (_, applied) = lease.next_renewal();
        assert_eq!(applied, JOINING);
        lease.advance(position(5));
        lease.renewed(Reply { applied, ..reply(100, 200, 5) });
        assert_eq!(lease.until(), at(0));
        let (_, applied) = lease.next_renewal();
        lease.renewed(Reply { applied, ..reply(300, 400, 5) });
        assert_eq!(lease.until(), at(300 + L));
    }

    #[test]
    fn joining_the_same_term_again_keeps_the_position() {
        let mut lease = lease();
        assert!(lease.join(&Term::new("a"), at(0), true));
        lease.advance(position(7));
        assert!(!lease.join(&Term::new("a"), at(9), false));
        assert_eq!((lease.applied(), lease.seen()), (position(7), Some(at(0))));
        lease.skip_to(NonZeroU64::new(41).unwrap());
        assert_eq!(lease.next_renewal(), (NonZeroU64::new(42).unwrap(), position(7)));
        lease.end();
        assert!(lease.join(&Term::new("a"), at(9), false));
    }

    #[test]
    fn a_node_without_a_lease_renews_only_if_it_makes_progress() {
        let mut lease = lease();
        let useful = |lease: &Lease, last, now| lease.is_renewal_useful(position(last), at(now));
        lease.join(&Term::new("a"), at(0), true);
        lease.next_renewal();
        assert!(useful(&lease, 5, 1));
        lease.note_failure();
        assert!(!useful(&lease, 5, 1));
        lease.advance(position(5));
        assert!(useful(&lease, 5, 1));
        lease.next_renewal();
        lease.renewed(reply(100, 100, 5));
        // A node that cannot apply the log sends renewals until its lease ends. These renewals do not extend the lease.
        lease.note_failure();
        assert!(useful(&lease, 6, 99 + L) && !useful(&lease, 6, 100 + L));
        assert!(useful(&lease, 5, 100 + L), "it has applied all");
        lease.advance(position(6));
        assert!(useful(&lease, 7, 100 + L));
        lease.next_renewal();
        assert!(!useful(&lease, 7, 100 + L));
        // The node joins another term, but cannot apply its log.
        lease.note_failure();
        lease.join(&Term::new("b"), at(9000), false);
        assert!(!useful(&lease, 0, 9000));
        lease.advance(position(0));
        assert!(useful(&lease, 0, 9000));
    }

    #[test]
    fn the_number_of_pending_positions_is_limited() {
        let mut lease = lease();
        lease.join(&Term::new("a"), at(0), true);
        lease.advance(position(1));
        for number in 0..1000 {
            lease.renewed(reply(number, number, 10 + number));
        }
        assert_eq!(lease.term.as_ref().unwrap().pending.len(), MAX_PENDING);
        lease.advance(position(500));
        assert_eq!(lease.until(), at(0));
        lease.advance(position(1009));
        assert_eq!(lease.until(), at(999 + L));
    }
}
