//! The revocations of a running API ML (Zowe's API Mediation Layer), which it keeps in Zowe's Caching Service
//! (docs/decisions.md#d33).
//!
//! | file | what it does |
//! |---|---|
//! | `salt` | the salt, and the hashes that are the keys of revocations |
//! | `pat_hashes` | the keys that revoke one PAT |
//! | `list`, `lists` | the names of the lists of revocations, and the answers with these lists |
//! | `records` | the texts of records, such as the salt and revoked tokens |
//! | `client` | the HTTP calls |
//! | `index` | the last answer with all revocations |
//! | `write` | writes that are read back |
//! | `settings`, `error` | the settings and the facts that the gateway finds out at the start; the errors |
//! | `service` | the background tasks, and the type that uses all these files |
//! | `store` | a store that uses the Caching Service in addition to another store |

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
