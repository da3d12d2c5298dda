//! The values of metrics.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// A number of events since the start of the process. The number never decreases.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Creates a counter with the value 0.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds 1.
    pub fn increment(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// Returns the value.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that can also decrease, such as the number of open connections.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Creates a gauge with the value 0.
    pub const fn new() -> Self {
        Self(AtomicI64::new(0))
    }

    /// Adds 1.
    pub fn increment(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// Subtracts 1.
    pub fn decrement(&self) {
        self.0.fetch_sub(1, Relaxed);
    }

    /// Returns the value.
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}
