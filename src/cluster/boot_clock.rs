//! The clock with which a node measures leases. The module [`cluster`](super) explains leases.

use std::{fmt, time::Duration};

use rustix::time::{ClockId, clock_gettime};

/// A point in time on the clock of this machine, in nanoseconds. Each machine has its own clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BootTime(u64);

impl BootTime {
    pub(super) const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    pub(super) const fn as_nanos(self) -> u64 {
        self.0
    }

    pub(super) fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// Returns the time from `earlier` until `self`, or zero if `earlier` is later than `self`.
    pub(super) const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A clock that never jumps. If the system allows it, the clock also advances while the machine is suspended.
pub(super) trait BootClock: fmt::Debug + Send + Sync + 'static {
    fn now(&self) -> BootTime;
}

/// `CLOCK_BOOTTIME` on Linux. On other systems, `CLOCK_MONOTONIC`, which may stop while the machine is suspended.
#[derive(Clone, Copy, Debug)]
pub(super) struct SystemBootClock;

impl BootClock for SystemBootClock {
    fn now(&self) -> BootTime {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        const CLOCK: ClockId = ClockId::Boottime;
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        const CLOCK: ClockId = ClockId::Monotonic;
        let now = clock_gettime(CLOCK);
        // Neither number is negative.
        let part = |part: i64| u64::try_from(part).unwrap_or_default();
        BootTime(part(now.tv_sec).saturating_mul(1_000_000_000).saturating_add(part(now.tv_nsec)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_of_the_machine_advances() {
        let first = SystemBootClock.now();
        assert!(first > BootTime::default());
        assert!(SystemBootClock.now() >= first);
        let later = first.plus(Duration::from_millis(3));
        assert_eq!(later.since(first), Duration::from_millis(3));
        assert_eq!(first.since(later), Duration::ZERO);
    }
}
