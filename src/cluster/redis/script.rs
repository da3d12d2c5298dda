//! Lua scripts that run in Redis.

use std::{fmt, sync::OnceLock};

/// A Lua script. Redis runs each script as one atomic step.
///
/// The scripts report errors with these codes. Each becomes a
/// [`CoordinatorError`](crate::cluster::coordinator::CoordinatorError):
/// - `TPTERM`: the term of the call has ended, the site has no data, or a later renewal of the lease is already stored;
/// - `TPVER n`: another version of this program has written the data, with protocol version `n`;
/// - `TPLEASE n`: the site has a lease time of `n` milliseconds, and this node has another one;
/// - `TPBAD text`: the data is malformed;
/// - `TPSALT text`: the site already has the maximum number of salts.
pub(crate) struct Script {
    name: &'static str,
    code: &'static str,
    hash: OnceLock<String>,
}

impl Script {
    pub(crate) const fn new(name: &'static str, code: &'static str) -> Self {
        Self { name, code, hash: OnceLock::new() }
    }

    pub(super) fn code(&self) -> &'static str {
        self.code
    }

    /// Returns the SHA-1 hash. Redis keeps scripts in a cache, and finds a script there by this hash.
    pub(super) fn hash(&self) -> &str {
        self.hash.get_or_init(|| redis::Script::new(self.code).get_hash().to_owned())
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Script").field(&self.name).finish()
    }
}
