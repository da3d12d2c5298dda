//! The time. Code reads the current time from a [`Clock`], so that tests can set it.

use std::{
    fmt,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

/// A point in time, in milliseconds since 1970-01-01 00:00 UTC.
///
/// PassTickets (short-lived passwords of z/OS) and tokens count in seconds. Revocation rules count in milliseconds.
/// This type has named conversions, so that callers do not mix up the units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// Returns the point in time this many seconds after the epoch. A number that is too large gives the latest
    /// timestamp.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// Returns the point in time this many milliseconds after the epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Returns the whole seconds since the epoch, rounded down.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1000
    }

    /// Returns the milliseconds since the epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Returns this point in time plus `duration`. A sum that is too large gives the latest timestamp.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl From<SystemTime> for Timestamp {
    /// Rounds down to whole milliseconds. A time before 1970 becomes the epoch. A time that is too
    /// late for this type becomes the latest timestamp.
    fn from(time: SystemTime) -> Self {
        let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
    }
}

impl TryFrom<Timestamp> for SystemTime {
    type Error = TimestampError;

    fn try_from(time: Timestamp) -> Result<Self, TimestampError> {
        let since_epoch = Duration::from_millis(time.0);
        Self::UNIX_EPOCH.checked_add(since_epoch).ok_or(TimestampError(time))
    }
}

/// The error for a [`Timestamp`] that is too late for the [`SystemTime`] of this operating system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the time {} s after 1970 is too late for this operating system", .0.as_secs())]
pub struct TimestampError(Timestamp);

/// Gives the current time.
///
/// [`SystemClock`] is the default everywhere. [`ManualClock`] is for tests, and changes only when a test changes it.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Returns the current time.
    fn now(&self) -> Timestamp;

    /// Returns the time since a fixed starting point. This time never goes backwards, even if the clock of the machine
    /// is set back. In the default implementation, the starting point is the first call of this method in the process.
    fn monotonic(&self) -> Duration {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        START.elapsed()
    }
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "the only place that reads the system clock")]
        let now = SystemTime::now();
        // A time before 1970 becomes the epoch. This does no harm, because a service with a correct clock refuses
        // tickets for such an old time.
        now.into()
    }
}

/// A clock that is set by hand, for tests.
///
/// ```
/// use std::time::Duration;
/// use passticket::clock::{Clock, ManualClock, Timestamp};
///
/// let clock = ManualClock::new(Timestamp::from_secs(1_700_000_000));
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(clock.now().as_secs(), 1_700_000_060);
/// ```
#[derive(Debug)]
pub struct ManualClock {
    now: AtomicU64,
    /// The value of [`monotonic`](Clock::monotonic) in milliseconds.
    monotonic: AtomicU64,
}

impl ManualClock {
    /// Creates a clock that shows `now`.
    pub fn new(now: Timestamp) -> Self {
        Self { now: AtomicU64::new(now.0), monotonic: AtomicU64::new(0) }
    }

    /// Sets the clock to `now`, forwards or backwards. The value of [`monotonic`](Clock::monotonic) does not change.
    pub fn set(&self, now: Timestamp) {
        self.now.store(now.0, Ordering::SeqCst);
    }

    /// Moves the clock and [`monotonic`](Clock::monotonic) forwards by the same time.
    pub fn advance(&self, by: Duration) {
        self.set(self.now().plus(by));
        let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.monotonic.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.now.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.monotonic.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_times_are_converted_both_ways() {
        let epoch = SystemTime::UNIX_EPOCH;
        let (hour, nanos) = (Duration::from_secs(3600), Duration::from_nanos(1));
        for (time, millis) in [
            (epoch, 0),
            (epoch + Duration::from_millis(1_700_000_000_123), 1_700_000_000_123),
            (epoch + Duration::from_millis(5) - nanos, 4),
            (epoch - nanos, 0),
            (epoch - hour, 0),
        ] {
            assert_eq!(Timestamp::from(time), Timestamp::from_millis(millis), "{time:?}");
        }
        for millis in [0, 1, 1_700_000_000_123] {
            let time = Timestamp::from_millis(millis);
            assert_eq!(SystemTime::try_from(time).map(Timestamp::from), Ok(time));
        }
        // The operating system determines whether `last` fits into a `SystemTime`.
        let last = Timestamp::from_millis(u64::MAX);
        match SystemTime::try_from(last) {
            Ok(time) => assert_eq!(Timestamp::from(time), last),
            Err(error) => assert!(error.to_string().contains("18446744073709551 s")),
        }
    }
}
