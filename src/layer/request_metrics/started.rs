//! The time when the outer layer has received the request that the current thread works on.
//!
//! The inner layer needs this time. It is in a thread-local variable, because an extension of the request would cost an
//! allocation, and about as many instructions as all counters together.

use std::{cell::Cell, time::Instant};

thread_local! {
    static CURRENT: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Runs `work` on a request that has arrived at `started`. Meanwhile, [`current`] returns this time.
pub(super) fn scope<T>(started: Instant, work: impl FnOnce() -> T) -> T {
    let _restore = Restore(CURRENT.replace(Some(started)));
    work()
}

/// Returns the time when the current request has arrived. `None` if no outer layer runs in this thread.
pub(super) fn current() -> Option<Instant> {
    CURRENT.get()
}

/// Restores the earlier time of this thread, even after a panic.
struct Restore(Option<Instant>);

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}
