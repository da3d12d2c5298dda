//! What hyper, the body of a response and the server tell each other about an HTTP/1.1 connection.

use std::sync::atomic::{AtomicBool, Ordering};

/// The state of the response on one HTTP/1.1 connection.
///
/// All parts of an HTTP/1.1 connection run in one task, so no order between the fields is needed.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    is_flushed: AtomicBool,
    announces_close: AtomicBool,
    ends_with_connection: AtomicBool,
}

impl Exchanges {
    /// From now on, each response announces that the server closes the connection.
    pub(super) fn announce_close(&self) {
        self.announces_close.store(true, Ordering::Relaxed);
    }

    pub(super) fn announces_close(&self) -> bool {
        self.announces_close.load(Ordering::Relaxed)
    }

    /// Records whether the end of the connection is the end of the response, because the client uses HTTP/1.0 and
    /// the response has no length (RFC 9112 §6.3).
    pub(super) fn set_ends_with_connection(&self, ends: bool) {
        self.ends_with_connection.store(ends, Ordering::Relaxed);
    }

    pub(super) fn ends_with_connection(&self) -> bool {
        self.ends_with_connection.load(Ordering::Relaxed)
    }

    /// Records whether all bytes that hyper has written so far were passed to the kernel.
    pub(super) fn set_flushed(&self, is_flushed: bool) {
        self.is_flushed.store(is_flushed, Ordering::Relaxed);
    }

    pub(super) fn is_flushed(&self) -> bool {
        self.is_flushed.load(Ordering::Relaxed)
    }
}
