//! The values of metrics.

use std::{
    sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// A number of events. It never decreases.
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

/// The number of events, grouped by the time that they took.
#[derive(Debug)]
pub struct Histogram {
    /// The upper limits of the buckets, in ascending order.
    limits: &'static [Duration],
    /// The number of events in each bucket. The last bucket has no limit.
    counts: Box<[AtomicU64]>,
    nanos: AtomicU64,
}

impl Histogram {
    /// Creates a histogram with these upper limits of its buckets, which must be in ascending order. One more bucket
    /// has no limit.
    pub fn new(limits: &'static [Duration]) -> Self {
        debug_assert!(limits.is_sorted(), "the limits of buckets must be in ascending order");
        let counts = (0..=limits.len()).map(|_| AtomicU64::new(0)).collect();
        Self { limits, counts, nanos: AtomicU64::new(0) }
    }

    /// Adds an event that took this long.
    pub fn observe(&self, time: Duration) {
        let bucket = self.limits.partition_point(|limit| *limit < time);
        self.counts[bucket].fetch_add(1, Relaxed);
        // A `u64` can hold 584 years in nanoseconds, so the sum does not overflow in practice.
        let nanos =
            time.as_secs().wrapping_mul(1_000_000_000).wrapping_add(time.subsec_nanos().into());
        self.nanos.fetch_add(nanos, Relaxed);
    }

    /// For each bucket, returns its limit and the number of events that took at most this long. The last limit is
    /// `None`, and its number counts all events.
    pub fn cumulative(&self) -> impl Iterator<Item = (Option<Duration>, u64)> {
        let limits = self.limits.iter().copied().map(Some).chain([None]);
        limits.zip(&self.counts).scan(0_u64, |sum, (limit, count)| {
            *sum = sum.saturating_add(count.load(Relaxed));
            Some((limit, *sum))
        })
    }

    /// Returns the number of events.
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(count.load(Relaxed)))
    }

    /// Returns the sum of the times of all events.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Relaxed))
    }
}
