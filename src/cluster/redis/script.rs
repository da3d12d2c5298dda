//! Lua scripts that run in Redis.

use std::{fmt, sync::OnceLock};

/// A Lua script. Redis runs a script as one atomic step.
///
/// A script reports its own errors with these codes, which become a
/// [`CoordinatorError`](crate::cluster::coordinator::CoordinatorError):
/// - `TPTERM`: the term of the call has ended, the site has no data, or the call is a late renewal of a lease;
/// - `TPVER n`: the data was written by protocol version `n`, which is not the version of this program;
/// - `TPLEASE n`: the site already has the lease time of `n` milliseconds, and this node has another lease time;
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

    /// Returns the SHA-1 hash by which Redis finds a script that it has in its cache.
    pub(super) fn hash(&self) -> &str {
        self.hash.get_or_init(|| redis::Script::new(self.code).get_hash().to_owned())
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Script").field(&self.name).finish()
    }
}
