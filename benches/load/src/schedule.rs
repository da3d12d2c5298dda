//! When each request is due. All times are offsets from the start of the load.

use std::time::Duration;

/// A constant rate: request number `n` is due `n / rate` seconds after the start, whatever the gateway does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    rate: f64,
    warm_up: u64,
    total: u64,
}

impl Schedule {
    /// Creates a schedule of `warm_up` and then `duration` with `rate` requests per second. `rate` must be positive.
    pub(crate) fn new(rate: f64, warm_up: Duration, duration: Duration) -> Self {
        let requests = |time: Duration| (time.as_secs_f64() * rate).round() as u64;
        let warm_up = requests(warm_up);
        Self { rate, warm_up, total: warm_up + requests(duration).max(1) }
    }

    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// Returns whether a request belongs to the measurement, not to the warm-up.
    pub(crate) fn is_measured(&self, number: u64) -> bool {
        number >= self.warm_up
    }

    pub(crate) fn due(&self, number: u64) -> Duration {
        Duration::from_secs_f64(number as f64 / self.rate)
    }

    pub(crate) fn begin(&self) -> Duration {
        self.due(self.warm_up)
    }

    /// Returns the time at which the load ends. At this time, the request after the last one would be due.
    pub(crate) fn end(&self) -> Duration {
        self.due(self.total)
    }

    /// Returns how many requests are due at this time or earlier, including the warm-up.
    pub(crate) fn due_by(&self, elapsed: Duration) -> u64 {
        // The estimate may be wrong by one, because this multiplication and the division in `due` both round.
        let mut due = (elapsed.as_secs_f64() * self.rate) as u64;
        while self.due(due) <= elapsed {
            due += 1;
        }
        while due > 0 && self.due(due - 1) > elapsed {
            due -= 1;
        }
        due.min(self.total)
    }

    /// Returns how many measured requests are due at this time or earlier.
    pub(crate) fn measured_by(&self, elapsed: Duration) -> u64 {
        self.due_by(elapsed).saturating_sub(self.warm_up)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn requests_are_due_at_a_constant_rate() {
        let schedule = Schedule::new(1000.0, millis(500), millis(2000));
        assert_eq!(schedule.total(), 2500);
        assert_eq!((schedule.is_measured(499), schedule.is_measured(500)), (false, true));
        for (number, due) in [(0, 0), (1, 1), (500, 500), (2499, 2499)] {
            assert_eq!(schedule.due(number), millis(due));
        }
        assert_eq!((schedule.begin(), schedule.end()), (millis(500), millis(2500)));
        for (elapsed, due, measured) in [
            (0, 1, 0),
            (10, 11, 0),
            (499, 500, 0),
            (500, 501, 1),
            (2499, 2500, 2000),
            (9000, 2500, 2000),
        ] {
            assert_eq!(schedule.due_by(millis(elapsed)), due, "{elapsed}");
            assert_eq!(schedule.measured_by(millis(elapsed)), measured, "{elapsed}");
        }
    }

    #[test]
    fn due_by_returns_exactly_the_requests_that_are_due() {
        for rate in [0.3, 7.0, 100.0, 999.9, 30_000.0] {
            let schedule = Schedule::new(rate, Duration::ZERO, Duration::from_secs(1000));
            for number in 0..schedule.total().min(2000) {
                let due = schedule.due(number);
                assert_eq!(schedule.due_by(due), number + 1, "{rate} {number}");
                let before = due.saturating_sub(Duration::from_nanos(1));
                assert_eq!(
                    schedule.due_by(before),
                    number.max(u64::from(due.is_zero())),
                    "{rate} {number}"
                );
            }
        }
    }

    #[test]
    fn a_rate_below_one_and_a_short_time_still_have_a_request() {
        let schedule = Schedule::new(0.5, Duration::ZERO, millis(100));
        assert_eq!((schedule.total(), schedule.end()), (1, millis(2000)));
        let schedule = Schedule::new(0.5, Duration::ZERO, millis(10_000));
        assert_eq!((schedule.total(), schedule.due(4)), (5, millis(8000)));
    }
}
