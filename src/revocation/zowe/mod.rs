//! Revocations of a running Zowe API ML, in Zowe's Caching Service (docs/decisions.md#d33).
//!
//! | file | what it does |
//! |---|---|
//! | `salt` | the salt, and the hashes that are the keys of revocations |
//! | `pat_hashes` | the keys that revoke one PAT |
//! | `list`, `lists` | the lists of revocations, and their answers |
//! | `records` | other records |
//! | `client` | the calls |
//! | `index` | the last answer with all revocations |
//! | `write` | writes that are read back |
//! | `service` | all of this together, with its tasks |
//! | `store` | the store that uses it beside another store |

mod client;
mod error;
mod index;
mod list;
mod lists;
mod pat_hashes;
mod records;
mod salt;
mod service;
mod settings;
mod store;
#[cfg(test)]
mod tests;
mod write;

pub use error::CachingServiceError;
pub use salt::SaltSpelling;
pub use service::CachingService;
pub use settings::{CachingServiceFound, CachingServiceLayout, CachingServiceSettings, ReadMode};
pub use store::WithCachingService;
