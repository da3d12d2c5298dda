//! Locks of the pool.

use std::sync::{Mutex, MutexGuard, PoisonError};

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while a lock of the pool is held cannot leave the data inconsistent, so poisoning is ignored.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
