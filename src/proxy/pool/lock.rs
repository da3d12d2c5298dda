//! Locks of the pool.

use std::sync::{Mutex, MutexGuard, PoisonError};

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Poisoning is ignored, because a panic while a lock of the pool is held leaves the data consistent.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
