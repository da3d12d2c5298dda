//! Redis as the place in which nodes share data. Sentinel is a program of Redis that watches a primary and its
//! replicas, and makes a replica the new primary if the primary fails.
//!
//! Only this module uses the crate `redis`, which parses the protocol of Redis. This module does TLS, Sentinel and new
//! connections itself: the TLS of the crate uses the default cryptography provider of the process, and the Sentinel
//! client of the crate opens its own connections.

mod acl;
mod connection;
mod coordinator;
mod failure;
mod inspection;
mod keys;
mod login_failures;
mod place;
mod primary;
mod reply;
mod script;
mod settings;
mod settings_error;
mod socket;
#[cfg(any(feature = "proxy", feature = "remote"))]
mod ticket_refusals;
mod time_slots;
mod tls;

pub use acl::acl_command;
pub use inspection::{Finding, Inspection, Severity};
pub use login_failures::RedisLoginFailures;
pub use place::RedisPlace;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub use reply::read_answers;
pub use settings::{RedisAddress, RedisSettings, SiteName};
pub use settings_error::RedisSettingsError;
#[cfg(any(feature = "proxy", feature = "remote"))]
pub use ticket_refusals::RedisRefusals;
pub use time_slots::RedisTimeSlots;
pub use tls::RedisTls;
