//! The rules by which nodes get leases and confirm writes. Tests switch off single rules to show that they are needed.
//! [`Coordinator`](super::coordinator::Coordinator) explains leases, terms and the log.
//!
//! A write waits until all nodes have this write. This wait is a *barrier*. A node that has joined a term is *joining*
//! until it has all records of the store that the nodes share.

use std::time::Duration;

/// A rule of the protocol. It is not a rule that revokes PATs.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// A lease runs from the time at which its renewal was sent, not from the time of the reply.
    LeaseRunsFromSending,
    /// In a new term, a barrier also waits until all leases of the previous term have certainly ended.
    BarrierWaitsInNewTerm,
    /// After a change of the term, a node publishes all its records.
    Union,
    /// The reply to a renewal contains a position in the log. The lease does not count before the node has applied the
    /// log up to this position.
    LeaseNeedsAppliedLog,
    /// If a node was joining when it sent a renewal, this renewal gives no lease.
    PlaceKnowsOfLease,
    /// A barrier also waits for a node that has just begun to join, because this node may have a lease of the previous
    /// term.
    JoiningNodeMayHaveOldLease,
    /// If a node without a lease joins a term, it gets a lease only after the other nodes had time to publish their
    /// data. A node that has followed the log of this term before does not wait.
    WaitForUnionOfOthers,
    /// A barrier first publishes the record of its write. It uses only lists of leases that it requested after that.
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

    /// Returns the margin for clocks that run at different speeds.
    pub(super) fn margin(&self) -> Duration {
        self.lease / 10
    }

    /// If the lease of another node has not changed for this time, the lease has certainly ended.
    pub(super) fn over(&self) -> Duration {
        self.lease + self.margin()
    }

    /// Returns the time between two renewals.
    pub(super) fn renewal(&self) -> Duration {
        self.lease / 3
    }

    /// Returns how long a node without a lease waits for other nodes that are joining.
    pub(super) fn patience_with_joining(&self) -> Duration {
        self.lease * 10
    }

    /// Returns how long a write waits for its confirmation. After this time, the write fails.
    pub(super) fn patience(&self) -> Duration {
        self.lease * 2
    }

    #[cfg(test)]
    pub(super) fn apply(&self, rule: Rule) -> bool {
        self.broken != Some(rule)
    }
}

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
