//! Records whether a request waits for its client to send the body.
//!
//! The code that reads the body of a request cannot easily reach the code that counts the requests of a connection. An
//! extension in the request would cost an allocation. But both pieces of code run in the same poll. So the code that
//! reads the body sets a thread-local flag, and the code that counts requests checks the flag after the poll.

use std::cell::Cell;

thread_local! {
    /// The flag. It has a meaning only during the poll of one request.
    static IS_PENDING: Cell<bool> = const { Cell::new(false) };
}

/// Records that the next part of the body has not arrived from the client. Call this in each poll of the body that
/// returns `Pending`.
#[cfg(any(feature = "api", feature = "proxy"))]
pub(crate) fn set_pending() {
    IS_PENDING.set(true);
}

/// Clears the flag. Call this before the poll of a request.
#[cfg(feature = "tls")]
pub(crate) fn clear() {
    IS_PENDING.set(false);
}

/// Returns whether the body of the request was pending in this poll.
#[cfg(feature = "tls")]
pub(crate) fn is_pending() -> bool {
    IS_PENDING.get()
}
