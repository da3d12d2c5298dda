//! Balances requests over the instances of a service: chooses the instance of a request, and limits how many requests
//! are sent again.
//!
//! | file | what it decides or contains |
//! |---|---|
//! | `state` | whether an instance is healthy, from failures to connect and from the results of active checks |
//! | `choose` | which instance gets a request |
//! | `health_check` | active checks of the health of instances |
//! | `retry_budget` | whether a request may be sent again |
//! | `states` | the states of all instances, for all threads |
//! | `targets` | the instances of a route, with the connections and the state of each |
//!
//! Balancing uses the connection pool. The pool has a separate limit and separate idle connections for each instance,
//! and does not know which instances belong to one service.

mod choose;
mod health_check;
mod retry_budget;
mod state;
mod states;
mod targets;

pub use health_check::HealthCheck;
pub(super) use retry_budget::{RequestsUntilDeposit, RetryBudget};
pub(super) use state::InFlight;
pub use state::InstanceHealth;
pub use states::InstanceStates;
pub(super) use targets::{NoInstance, Pool, ServiceTargets, Target, Wanted};
