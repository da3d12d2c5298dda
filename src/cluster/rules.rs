//! The rules by which nodes get leases and confirm writes. Tests can switch off each rule, to show that it is needed. A
//! *barrier* is the wait of a write until all nodes have this write. A node that has joined a term is *joining* until
//! it has all records of the store that the nodes share. [`Coordinator`](super::coordinator::Coordinator) explains
//! leases, terms and the log.

use std::time::Duration;

/// A rule of the protocol (not a rule that revokes PATs). For most rules, a test switches the rule off, and shows that
/// the simulation then finds a violation.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// A lease runs from the time at which its renewal was sent, not from the time of the reply.
    LeaseRunsFromSending,
    /// In a new term, a barrier also waits until all leases of the previous term have certainly ended.
    BarrierWaitsInNewTerm,
    /// After a change of the term, a node publishes all its records.
    Union,
    /// A lease does not count before the node has applied the log up to the position in the reply to the renewal.
    LeaseNeedsAppliedLog,
    /// If a node was joining when it sent a renewal, this renewal gives no lease.
    PlaceKnowsOfLease,
    /// A barrier also waits for a node that has just begun to join, because it may have a lease of the previous term.
    JoiningNodeMayHaveOldLease,
    /// If a node that has no lease joins a term, the node first waits until the other nodes had time to publish their
    /// data. Only then does it get a lease. A node that has followed the log of this term before does not wait.
    WaitForUnionOfOthers,
    /// A barrier uses only lists of leases that were requested after the record of its write was published.
    BarrierReadsAfterPublish,
}

/// The times of leases, and the rules that apply. Outside of tests, all rules apply.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// How long a lease lasts.
    pub(super) lease: Duration,
    #[cfg(test)]
    pub(super) broken: Option<Rule>,
}

impl Rules {
    pub(super) const fn new(lease: Duration) -> Self {
        Self {
            lease,
            #[cfg(test)]
            broken: None,
        }
    }

    /// Returns the margin for clocks that run at different speeds. The other nodes count a lease as ended when it has
    /// not changed for the lease time plus this margin.
    pub(super) fn margin(&self) -> Duration {
        self.lease / 10
    }

    /// Returns the time after which an unchanged lease of another node has certainly ended.
    pub(super) fn over(&self) -> Duration {
        self.lease + self.margin()
    }

    /// Returns the time between two renewals.
    pub(super) fn renewal(&self) -> Duration {
        self.lease / 3
    }

    /// Returns how long a node without a lease waits for another node that is joining.
    pub(super) fn patience_with_joining(&self) -> Duration {
        self.lease * 10
    }

    /// Returns the longest time that a write waits for its confirmation.
    pub(super) fn patience(&self) -> Duration {
        self.lease * 2
    }

    #[cfg(test)]
    pub(super) fn apply(&self, rule: Rule) -> bool {
        self.broken != Some(rule)
    }
}

/// Returns whether a rule applies. Outside of tests, each rule applies.
#[cfg(test)]
macro_rules! applies {
    ($rules:expr, $rule:ident) => {
        $rules.apply($crate::cluster::rules::Rule::$rule)
    };
}
#[cfg(not(test))]
macro_rules! applies {
    ($rules:expr, $rule:ident) => {{
        let _ = &$rules;
        true
    }};
}
pub(super) use applies;
