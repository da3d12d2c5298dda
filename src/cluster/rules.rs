//! The rules of the protocol that tests can switch off, to show that each of them is needed.

use std::time::Duration;

/// A rule of the protocol. A test that breaks one of them must fail.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// A lease runs from the time at which its renewal was sent, not from the time of the reply.
    LeaseRunsFromSending,
    /// In the first lease time of a new term, a barrier waits until that time is over.
    BarrierWaitsInNewTerm,
    /// After a change of the term, a node publishes all that it has.
    Union,
    /// A lease counts only when the log is applied up to the position in the reply.
    LeaseNeedsAppliedLog,
    /// A renewal that was sent while the node was joining gives no lease.
    PlaceKnowsOfLease,
    /// For some time after a node has begun to join, it may have a lease of the last term.
    JoiningNodeMayHaveOldLease,
    /// A node that had no lease when the term changed waits for the nodes that had one.
    WaitForUnionOfOthers,
    /// A barrier uses only lists of leases that were requested after the record was published.
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

    /// How much longer than a lease the other nodes wait, so that a difference in the speed of clocks does no harm.
    pub(super) fn margin(&self) -> Duration {
        self.lease / 10
    }

    /// After this time, a lease of another node has certainly ended.
    pub(super) fn over(&self) -> Duration {
        self.lease + self.margin()
    }

    /// The time between two renewals.
    pub(super) fn renewal(&self) -> Duration {
        self.lease / 3
    }

    /// A node without a lease waits so long for another node that is joining.
    pub(super) fn patience_with_joining(&self) -> Duration {
        self.lease * 10
    }

    /// The longest time that a write waits for the other nodes.
    pub(super) fn patience(&self) -> Duration {
        self.lease * 2
    }

    #[cfg(test)]
    pub(super) fn apply(&self, rule: Rule) -> bool {
        self.broken != Some(rule)
    }
}

/// Whether a rule applies. In a program, each rule applies.
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
