//! Whether a request waits for its client to send the body.
//!
//! The code that reads a body is far away from the code that counts the requests of a connection, and a field
//! in the request would cost an allocation. But both run in the same poll. So the reader leaves a mark in the
//! thread, and the counter reads it after the poll.

use std::cell::Cell;

thread_local! {
    /// Valid only during the poll of one request.
    static IS_PENDING: Cell<bool> = const { Cell::new(false) };
}

/// The client has not sent the next part of the body yet. Call this in each poll of the body that is pending.
#[cfg(any(feature = "api", feature = "proxy"))]
pub(crate) fn set_pending() {
    IS_PENDING.set(true);
}

/// Call this before the poll of a request.
#[cfg(feature = "tls")]
pub(crate) fn clear() {
    IS_PENDING.set(false);
}

/// Whether the body of the request was pending in this poll.
#[cfg(feature = "tls")]
pub(crate) fn is_pending() -> bool {
    IS_PENDING.get()
}
