//! The time when the outer layer received the request on which the current thread works.
//!
//! The inner layer needs this time. It is in a thread-local variable, because an extension of the request costs an
//! allocation, and about as many instructions as all counters together.

use std::{cell::Cell, time::Instant};

thread_local! {
    static CURRENT: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Runs `work`. Meanwhile, [`current`] returns `started`.
pub(super) fn scope<T>(started: Instant, work: impl FnOnce() -> T) -> T {
    let _restore = Restore(CURRENT.replace(Some(started)));
    work()
}

/// Returns the time of the current request. `None` if no outer layer runs in this thread.
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
