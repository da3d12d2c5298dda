//! Why a node does not start.

use super::coordinator::{CoordinatorError, NodeName};
use crate::revocation::StoreError;

/// Why a [`ClusterNode`](super::ClusterNode) does not start.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// Another process has the name of this node.
    #[error(
        "another node with the name {name} is running; stop it, or give each node its own name (cluster.node)"
    )]
    NameTaken {
        /// The name.
        name: NodeName,
    },
    /// Neither the file of this node nor the store that the nodes share has data of this site, and no other node is
    /// running. The options contain [`EmptySite::Refuse`](super::EmptySite::Refuse), so the node does not start.
    #[error(
        "the revocation file was missing, and no other node has shared revocations of this site; restore a backup of \
         the file, or start another node first. To start without revocations, which makes revoked tokens valid again, \
         use --new-store"
    )]
    EmptySite,
    /// The store that the nodes share cannot be used.
    #[error(transparent)]
    Coordinator(#[from] CoordinatorError),
    /// The file of this node cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The node was stopped while it started.
    #[error("the node was stopped while it started")]
    Stopped,
}
