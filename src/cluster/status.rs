//! The status that a node reports. The module [`cluster`](super) explains leases, and
//! [`Coordinator`](super::coordinator::Coordinator) explains the log and terms.

use std::time::Duration;

use super::coordinator::Term;

/// Whether a node has its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseStatus {
    /// The node has a lease, so it has each revocation that a node with
    /// [`Confirm::Everywhere`](super::Confirm::Everywhere) has reported as successful. It accepts tokens.
    Ok,
    /// The node has no lease, so it cannot know whether it has all revocations. It refuses all tokens, except in the
    /// additional time of [`with_serve_without_lease`](super::ClusterOptions::with_serve_without_lease).
    Expired,
    /// This process has handed its lease over to another process of this node. It still accepts tokens.
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
    /// The number of entries of the log that this node has received, but not applied. If this node knows that the log
    /// has entries after the last applied entry, the number is at least 1.
    pub behind: u64,
    /// The number of other running nodes.
    pub peers: usize,
    /// The number of writes of this node that are not published yet.
    pub unpublished: usize,
    /// The current term. `None` before the node has joined a term, and after it has handed over its lease or left.
    pub term: Option<Term>,
    /// The error that ended the last session with the store that the nodes share. `None` if no session has failed, or
    /// if the node has caught up since the error.
    pub problem: Option<String>,
}
