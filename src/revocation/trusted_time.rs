//! The time that an eviction trusts (docs/decisions.md#d39).
//!
//! Assume that the wall clock is ahead. An eviction that trusted the wall clock would remove revocations of tokens that
//! become valid again when the clock is corrected. So the store keeps the last time that it trusted. To this time, it
//! adds the monotonic time that has passed since then, and a tolerance of one minute. If the wall clock is ahead of
//! this sum, the store does not trust the wall clock.

use std::{
    fs,
    sync::LazyLock,
    time::{Duration, Instant},
};

use uuid::Uuid;

use crate::clock::Timestamp;

/// The wall clock is not trusted if it is ahead of the trusted time by more than this. A clock that is set by NTP
/// normally drifts and jumps by less than this between two evictions.
const TOLERANCE: Duration = Duration::from_secs(60);

/// The wall clock is not trusted if it is behind the trusted time by more than this. A clock that is so far behind is
/// wrong. For example, a machine without a battery for its clock starts in 1970.
const MAX_BEHIND: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// A monotonic time, and the start of the machine or of this process from which it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Uptime {
    /// Identifies the last start of the machine. If the operating system provides no such identity, identifies the
    /// start of this process.
    pub(super) boot: String,
    pub(super) since_boot: Duration,
}

impl Uptime {
    /// Returns the current uptime. On Linux, this is the uptime of the machine, including the time in suspension. So
    /// the time in which the program does not run also counts. On other systems, it is the time since the first call in
    /// this process.
    pub(super) fn now() -> Self {
        Self::of_machine().unwrap_or_else(Self::of_process)
    }

    fn of_machine() -> Option<Self> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let uptime = fs::read_to_string("/proc/uptime").ok()?;
        let secs: f64 = uptime.split(' ').next()?.parse().ok()?;
        let since_boot = Duration::try_from_secs_f64(secs).ok()?;
        Some(Self { boot: boot.trim().to_owned(), since_boot })
    }

    fn of_process() -> Self {
        static START: LazyLock<(String, Instant)> =
            LazyLock::new(|| (Uuid::new_v4().to_string(), Instant::now()));
        Self { boot: START.0.clone(), since_boot: START.1.elapsed() }
    }
}

/// A time that the store trusted, and the uptime at which it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TrustedReading {
    pub(super) time: Timestamp,
    pub(super) uptime: Uptime,
}

impl TrustedReading {
    /// Returns the next reading when the wall clock shows `wall`.
    ///
    /// Normally, the result has the time of the wall clock. This is so even if the wall clock is behind `self`, because
    /// `self` may be ahead of the real time. There are two exceptions:
    ///
    /// - The wall clock is more than [`TOLERANCE`] ahead of the time of `self` plus the monotonic time that has
    ///   certainly passed.
    /// - The wall clock is more than [`MAX_BEHIND`] behind that time, so it is wrong. If it were trusted, the trusted
    ///   time would stay in the past even after the clock is corrected.
    ///
    /// In both cases, the result has the time of `self` plus the monotonic time that has certainly passed. So if `self`
    /// was not ahead of the real time, the result is not ahead of it, either. If `self` has another boot, for example
    /// because the machine has restarted, the time that has passed is unknown, and counts as zero.
    pub(super) fn advance(&self, wall: Timestamp, uptime: Uptime) -> Self {
        let advanced = self.advance_without_clock(uptime);
        let is_trusted = wall <= advanced.time.plus(TOLERANCE) && !advanced.is_far_ahead_of(wall);
        if is_trusted { Self { time: wall, ..advanced } } else { advanced }
    }

    /// Returns the time of `self` plus the monotonic time that has certainly passed.
    pub(super) fn advance_without_clock(&self, uptime: Uptime) -> Self {
        let passed = if uptime.boot == self.uptime.boot {
            uptime.since_boot.saturating_sub(self.uptime.since_boot)
        } else {
            Duration::ZERO
        };
        Self { time: self.time.plus(passed), uptime }
    }

    /// Returns whether the wall clock is so far behind `self` that it is not trusted.
    pub(super) fn is_far_ahead_of(&self, wall: Timestamp) -> bool {
        wall.plus(MAX_BEHIND) < self.time
    }

    /// Returns the bytes for the file. They contain the time and the uptime, both in milliseconds, and the identity of
    /// the boot.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let since_boot = u64::try_from(self.uptime.since_boot.as_millis()).unwrap_or(u64::MAX);
        let time = self.time.as_millis().to_be_bytes();
        [&time[..], &since_boot.to_be_bytes(), self.uptime.boot.as_bytes()].concat()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (time, rest) = bytes.split_first_chunk()?;
        let (since_boot, boot) = rest.split_first_chunk()?;
        Some(Self {
            time: Timestamp::from_millis(u64::from_be_bytes(*time)),
            uptime: Uptime {
                boot: String::from_utf8(boot.to_vec()).ok()?,
                since_boot: Duration::from_millis(u64::from_be_bytes(*since_boot)),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 60 * 60;

    fn uptime(boot: &str, secs: u64) -> Uptime {
        Uptime { boot: boot.to_owned(), since_boot: Duration::from_secs(secs) }
    }

    #[test]
    fn the_wall_clock_is_trusted_as_far_as_monotonic_time_has_passed() {
        let now = 1_800_000_000;
        let reading =
            TrustedReading { time: Timestamp::from_secs(now), uptime: uptime("a", 5 * DAY) };
        for (name, wall, uptime, want) in [
            ("nothing has passed", now, uptime("a", 5 * DAY), now),
            ("a day has passed", now + DAY, uptime("a", 6 * DAY), now + DAY),
            ("the clock drifts", now + DAY + 60, uptime("a", 6 * DAY), now + DAY + 60),
            ("the clock is ahead", now + DAY + 61, uptime("a", 6 * DAY), now + DAY),
            ("it is 400 days ahead", now + 400 * DAY, uptime("a", 5 * DAY + 1), now + 1),
            ("it is behind", now - DAY, uptime("a", 6 * DAY), now - DAY),
            ("it is 90 days behind", now - 90 * DAY, uptime("a", 5 * DAY), now - 90 * DAY),
            ("it is further behind", now - 91 * DAY, uptime("a", 6 * DAY), now + DAY),
            ("it starts in 1970", 7, uptime("b", 7), now),
            ("the machine was restarted", now + DAY, uptime("b", 300), now),
            ("it was restarted quickly", now + 50, uptime("b", 40), now + 50),
            ("the file is on another machine", now + DAY, uptime("b", 900 * DAY), now),
            ("the uptime is wrong", now + DAY, uptime("a", 1), now),
        ] {
            let advanced = reading.advance(Timestamp::from_secs(wall), uptime.clone());
            assert_eq!(advanced.time, Timestamp::from_secs(want), "{name}");
            assert_eq!(advanced.uptime, uptime);
        }
    }

    #[test]
    fn a_reading_is_stored_and_read() {
        let reading = TrustedReading { time: Timestamp::from_millis(7), uptime: uptime("boot", 9) };
        assert_eq!(TrustedReading::from_bytes(&reading.to_bytes()), Some(reading));
        for bytes in [&b""[..], &[0; 15], &[0xff; 17]] {
            assert_eq!(TrustedReading::from_bytes(bytes), None);
        }
    }

    #[test]
    fn the_uptime_advances() {
        for read in [Uptime::now, Uptime::of_process] {
            let (first, second) = (read(), read());
            assert_eq!(first.boot, second.boot);
            assert!(first.since_boot <= second.since_boot && !first.boot.is_empty());
        }
    }
}
