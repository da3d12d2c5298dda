//! The status of a node. The module [`cluster`](super) explains leases.
//! [`Coordinator`](super::coordinator::Coordinator) explains the log and terms.

use std::time::Duration;

use super::coordinator::Term;

/// Whether a node has its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseStatus {
    /// The node has a lease, and accepts tokens. If a node with [`Confirm::Everywhere`](super::Confirm::Everywhere) has
    /// reported a revocation as successful, this node has the revocation.
    Ok,
    /// The node has no lease, so it cannot know whether it has all revocations. It refuses all tokens. Only during the
    /// time of [`with_serve_without_lease`](super::ClusterOptions::with_serve_without_lease) does it still accept
    /// tokens.
    Expired,
    /// This process has handed its lease over to a new process of this node. It still accepts tokens.
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
    /// The status of the lease.
    pub lease: LeaseStatus,
    /// How long the node has had this status of its lease.
    pub since: Duration,
    /// The number of entries of the log that this node has received, but not applied. If this node knows that there are
    /// more entries but has not received them yet, the number is at least 1.
    pub behind: u64,
    /// The number of other running nodes.
    pub peers: usize,
    /// The number of writes of this node that are not published yet.
    pub unpublished: usize,
    /// The current term. `None` before the node has joined a term, after it has handed over its lease, and after it has
    /// left the site.
    pub term: Option<Term>,
    /// The error that ended the last session with the store that the nodes share. `None` if no session has failed, or
    /// if the node follows the log again since then.
    pub problem: Option<String>,
}
