//! Counts the running calls of functions of PKCS#11 modules.
//!
//! A module can have handlers that run when the process exits. Such a handler can wait for ever if another thread is in
//! a call of the module at this time. SoftHSM has such a handler. So a process must not exit while a call runs.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

static CALLS: Calls =
    Calls { state: Mutex::new(State { running: 0, has_ended: false }), changed: Condvar::new() };

struct Calls {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    running: usize,
    has_ended: bool,
}

/// Permits the caller to call modules. [`end`] waits until all values of this type are dropped.
#[derive(Debug)]
pub(super) struct Calling(());

impl Calling {
    /// Returns `None` if no more calls are permitted, because the process exits.
    pub(super) fn begin() -> Option<Self> {
        let mut state = CALLS.state();
        if state.has_ended {
            return None;
        }
        state.running += 1;
        Some(Self(()))
    }
}

impl Drop for Calling {
    fn drop(&mut self) {
        let mut state = CALLS.state();
        state.running -= 1;
        if state.has_ended && state.running == 0 {
            CALLS.changed.notify_all();
        }
    }
}

impl Calls {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the use of all PKCS#11 tokens. A program must call this function before it exits. Otherwise, an exit handler of
/// a module may wait for ever for a thread that uses the module.
///
/// From now on, no key in a token can be used. This function waits until the running calls have ended, at most for
/// `patience`. Returns whether all of them have ended. The open sessions end with the process.
pub fn end(patience: Duration) -> bool {
    let until = Instant::now() + patience;
    let mut state = CALLS.state();
    state.has_ended = true;
    while state.running > 0 {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        let waited = CALLS.changed.wait_timeout(state, left);
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
    true
}
