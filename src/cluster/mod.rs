//! Several nodes that share revocations.
//!
//! Each node has its own file of all revocations. The nodes exchange new records through a store that they share, such
//! as Redis. This store is called the *place* of the site ([`coordinator`]). A node accepts tokens only while it has a
//! *lease*: a permission for a short time, which the node must renew at the place. With the default options, the
//! response to a revocation reports success only when each node either has the revocation or accepts no tokens
//! (docs/decisions.md#d32).
//!
//! The module [`redis`] uses Redis as the place. Redis also holds the time slots of PassTickets with replay protection
//! ([`RedisTimeSlots`](redis::RedisTimeSlots)) and the counts of failed logins
//! ([`RedisLoginFailures`](redis::RedisLoginFailures)).
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use tower_passticket::{
//!     cluster::{
//!         ClusterNode, ClusterOptions,
//!         coordinator::NodeName,
//!         redis::{RedisAddress, RedisPlace, RedisSettings, SiteName},
//!     },
//!     revocation::DurableStore,
//! };
//!
//! let store = Arc::new(DurableStore::open("revocations.redb")?);
//! let address = RedisAddress::from_url("redis://127.0.0.1:6379")?;
//! let place = RedisPlace::new(RedisSettings::new(SiteName::new("prod")?, address))?;
//! let options = ClusterOptions::new(NodeName::new("gateway-1")?);
//! // This returns when the node has all revocations of the other nodes, and a lease.
//! let node = ClusterNode::start(store, Arc::new(place), options, None).await?;
//! // Use this store for the layers and the auth API, in place of the `DurableStore`.
//! let revocations = node.store();
//! # Ok(())
//! # }
//! ```

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
