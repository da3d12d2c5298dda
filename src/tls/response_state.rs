//! The state of the responses on an HTTP/1.1 connection, which the I/O of hyper, the body of a response and the server
//! share.

use std::sync::atomic::{AtomicBool, Ordering};

use super::request_framing::RequestFraming;

/// The current response on an HTTP/1.1 connection, and the end of the previous response. HTTP/2 does not use this
/// state, because it has several responses at a time.
///
/// All parts of an HTTP/1.1 connection run in one task, so the atomics need no memory ordering.
#[derive(Debug, Default)]
pub(super) struct ResponseState {
    has_unflushed: AtomicBool,
    awaits_head: AtomicBool,
    had_request_body: AtomicBool,
    announces_close: AtomicBool,
    ends_with_connection: AtomicBool,
    is_awaited: AtomicBool,
    accepts_interim: AtomicBool,
    is_complete: AtomicBool,
    is_upgraded: AtomicBool,
}

impl ResponseState {
    pub(super) fn set_awaited(&self, request: RequestFraming) {
        self.is_awaited.store(true, Ordering::Relaxed);
        self.accepts_interim.store(!request.is_http10, Ordering::Relaxed);
        self.had_request_body.store(request.has_body, Ordering::Relaxed);
    }

    /// Records that hyper gets the response now.
    pub(super) fn set_answered(&self) {
        self.is_awaited.store(false, Ordering::Relaxed);
        self.accepts_interim.store(false, Ordering::Relaxed);
    }

    /// Returns whether the client waits for a response that hyper does not have yet.
    pub(super) fn is_awaited(&self) -> bool {
        self.is_awaited.load(Ordering::Relaxed)
    }

    /// Returns whether the client waits for a response, and accepts an interim response (status 1xx) before it.
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

    /// Records that hyper has written the whole last response, and no longer needs the connection.
    pub(super) fn set_complete(&self) {
        self.is_complete.store(true, Ordering::Relaxed);
    }

    /// If the last response broke off, this is false.
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete.load(Ordering::Relaxed)
    }

    /// Records that the response has status 101, and that a tunnel takes the connection over.
    #[cfg(feature = "proxy")]
    pub(super) fn set_upgraded(&self) {
        self.is_upgraded.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_upgraded(&self) -> bool {
        self.is_upgraded.load(Ordering::Relaxed)
    }

    /// Records whether the response ends only with the connection (RFC 9112 §6.3). This is the case if the client uses
    /// HTTP/1.0 and the response has no length.
    pub(super) fn set_ends_with_connection(&self, ends: bool) {
        self.ends_with_connection.store(ends, Ordering::Relaxed);
    }

    pub(super) fn ends_with_connection(&self) -> bool {
        self.ends_with_connection.load(Ordering::Relaxed)
    }

    /// Records whether all bytes that hyper has written so far were passed to the kernel.
    pub(super) fn set_flushed(&self, is_flushed: bool) {
        self.has_unflushed.store(!is_flushed, Ordering::Relaxed);
    }

    pub(super) fn is_flushed(&self) -> bool {
        !self.has_unflushed.load(Ordering::Relaxed)
    }

    /// Records whether hyper waits for the head of a request. It does if it waits for data, and either has read nothing
    /// yet, or has last read the end of a head.
    pub(super) fn set_awaits_head(&self, awaits_head: bool) {
        self.awaits_head.store(awaits_head, Ordering::Relaxed);
    }

    /// Returns whether hyper has neither read a part of the next request nor kept a part of the last response.
    ///
    /// hyper does not report this. But two facts prove it: the last request had no body, and the data that hyper has
    /// read ends with an empty line. If this data contained a part of the next head, it would not end with an empty
    /// line. (A server ignores empty lines before a head, RFC 9112 §2.2.)
    pub(super) fn is_between_requests(&self) -> bool {
        self.awaits_head.load(Ordering::Relaxed)
            && !self.had_request_body.load(Ordering::Relaxed)
            && self.is_flushed()
            && !self.is_awaited()
            && !self.is_upgraded()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Applies `change` to a connection that waits for a request, after a request without body was answered.
    fn is_between_requests_after(change: impl Fn(&ResponseState)) -> bool {
        let state = ResponseState::default();
        state.set_awaited(RequestFraming { has_body: false, is_http10: false });
        state.set_flushed(false);
        state.set_answered();
        state.set_flushed(true);
        state.set_awaits_head(true);
        change(&state);
        state.is_between_requests()
    }

    #[test]
    fn only_an_answered_request_without_body_is_followed_by_another_head() {
        assert!(is_between_requests_after(|_| {}));
        assert!(!is_between_requests_after(|state| state.set_awaits_head(false)));
        assert!(!is_between_requests_after(|state| state.set_flushed(false)));
        let with_body = RequestFraming { has_body: true, is_http10: false };
        let without_body = RequestFraming { has_body: false, is_http10: false };
        assert!(!is_between_requests_after(|state| state.set_awaited(without_body)));
        assert!(!is_between_requests_after(|state| {
            state.set_awaited(with_body);
            state.set_answered();
        }));
        assert!(!ResponseState::default().is_between_requests());
    }
}
