//! The state of an HTTP/1.1 connection that hyper, the body of a response and the server share.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use http::Version;

/// The requests and responses of one HTTP/1.1 connection.
///
/// All parts of an HTTP/1.1 connection run in one task, so the atomics need no memory ordering.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    in_flight: AtomicU32,
    is_flushed: AtomicBool,
    announces_close: AtomicBool,
    ends_with_connection: AtomicBool,
    accepts_interim: AtomicBool,
    is_complete: AtomicBool,
}

impl Exchanges {
    /// Records that an HTTP/1.1 request has arrived. Its response ends when the value is dropped.
    pub(super) fn begin(self: &Arc<Self>, version: Version) -> Exchange {
        self.accepts_interim.store(version == Version::HTTP_11, Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Exchange(self.clone())
    }

    /// Whether the response to an HTTP/1.1 request has not ended yet.
    pub(super) fn is_in_flight(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) > 0
    }

    /// Whether the client waits for a response, and accepts an interim response (status 1xx) before it.
    pub(super) fn accepts_interim(&self) -> bool {
        self.accepts_interim.load(Ordering::Relaxed)
    }

    /// Makes each response from now on announce that the server closes the connection.
    pub(super) fn announce_close(&self) {
        self.announces_close.store(true, Ordering::Relaxed);
    }

    pub(super) fn announces_close(&self) -> bool {
        self.announces_close.load(Ordering::Relaxed)
    }

    /// Records that hyper has written everything, and no longer needs the connection.
    pub(super) fn set_complete(&self) {
        self.is_complete.store(true, Ordering::Relaxed);
    }

    /// Whether hyper has written everything. This is false if the last response broke off.
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete.load(Ordering::Relaxed)
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

/// A request in flight. It ends when this value is dropped.
#[derive(Debug)]
pub(super) struct Exchange(Arc<Exchanges>);

impl Exchange {
    pub(super) fn exchanges(&self) -> &Exchanges {
        &self.0
    }

    /// Records that hyper gets the response.
    pub(super) fn set_answered(&self) {
        self.0.accepts_interim.store(false, Ordering::Relaxed);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.set_answered();
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
