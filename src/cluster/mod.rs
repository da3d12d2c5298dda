//! Several nodes that share revocations.
//!
//! Each node has its own file of all revocations. The nodes exchange new records through a place that they share
//! ([`coordinator`]). A node accepts tokens only while it has a *lease* from this place. So if a revocation was answered
//! with success, each node either has it, or accepts no tokens (docs/decisions.md#d32).

mod barrier;
mod boot_clock;
mod confirm;
pub mod coordinator;
mod counts;
mod durable_memory;
mod error;
mod handed_over;
mod lease;
mod memory;
mod node;
mod options;
mod peers;
mod publish_queue;
pub mod redis;
mod rules;
mod session;
mod shared;
mod status;
mod store;
#[cfg(test)]
mod tests;

pub use error::ClusterError;
pub use handed_over::{HandedOverLease, HandedOverLeaseError};
pub use node::ClusterNode;
pub use options::{ClusterOptions, Confirm, EmptySite};
pub use status::{ClusterStatus, LeaseStatus};
pub use store::ClusterStore;
