//! Records whether a request waits for its client to send the body.
//!
//! The code that reads the body sets a thread-local flag. The code that counts the requests of a connection checks the
//! flag after the poll. This works because both run in the same poll. An extension in the request would cost an
//! allocation.

use std::cell::Cell;

thread_local! {
    /// This flag has a meaning only during the poll of one request.
    static IS_PENDING: Cell<bool> = const { Cell::new(false) };
}

/// Sets the flag. Call this in each poll of the body that returns `Pending`.
#[cfg(any(feature = "api", feature = "proxy"))]
pub(crate) fn set_pending() {
    IS_PENDING.set(true);
}

/// Clears the flag. Call this before the poll of a request.
#[cfg(feature = "tls")]
pub(crate) fn clear() {
    IS_PENDING.set(false);
}

/// Returns the flag. Call this after the poll of a request.
#[cfg(feature = "tls")]
pub(crate) fn is_pending() -> bool {
    IS_PENDING.get()
}
