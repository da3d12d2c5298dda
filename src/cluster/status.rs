//! The status that a node reports.

use std::time::Duration;

use super::coordinator::Term;

/// Whether a node has its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseStatus {
    /// The node knows each confirmed revocation, and accepts tokens.
    Ok,
    /// The node cannot know whether it has all revocations. It refuses all tokens.
    Expired,
    /// Another process of this node has taken over the lease.
    HandedOver,
}

impl LeaseStatus {
    /// Returns `ok`, `expired` or `handedOver`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Expired => "expired",
            Self::HandedOver => "handedOver",
        }
    }
}

/// The status of a [`ClusterNode`](super::ClusterNode).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClusterStatus {
    /// Whether the node has its lease.
    pub lease: LeaseStatus,
    /// How long `lease` has had this value.
    pub since: Duration,
    /// The number of entries of the log that this node has received, but not applied. If the log has later entries that
    /// this node has not received, the number is at least 1.
    pub behind: u64,
    /// The number of other running nodes.
    pub peers: usize,
    /// The number of writes of this node that the other nodes cannot see yet.
    pub unpublished: usize,
    /// The current term. `None` before the node has reached the shared store for the first time.
    pub term: Option<Term>,
    /// Why the node has no connection to the store that the nodes share. `None` if it has one.
    pub problem: Option<String>,
}
