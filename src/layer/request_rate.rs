//! The rate of requests that a service permits to each client.

use std::{num::NonZeroU32, time::Duration};

/// The number of requests that each client may send to a service in a period
/// ([`RateLimitLayer`](super::RateLimitLayer)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// The time for one request, in nanoseconds.
    interval: u64,
    /// The time by which a client may be ahead of the rate, in nanoseconds.
    ahead: u64,
}

impl RateLimit {
    /// Permits `requests` in each `period`, evenly distributed. After a pause, permits the same number at once.
    pub fn new(requests: NonZeroU32, period: Duration) -> Self {
        let interval = (period / requests.get()).as_nanos().max(1);
        let interval = u64::try_from(interval).unwrap_or(u64::MAX);
        Self { interval, ahead: 0 }.with_burst(requests)
    }

    /// Sets how many requests a client may send at once after a pause.
    #[must_use]
    pub fn with_burst(self, burst: NonZeroU32) -> Self {
        Self { ahead: self.interval.saturating_mul(u64::from(burst.get() - 1)), ..self }
    }

    /// Decides about a request at the time `now`. At the time `next`, the client may send a whole burst again. For a
    /// new client, `next` is 0. Returns the new `next`.
    ///
    /// # Errors
    /// The time for which the client must wait.
    pub(super) fn take(self, next: u64, now: u64) -> Result<u64, Duration> {
        // An earlier, stricter limit can have set `next` far in the future. So the wait is at most the longest wait of
        // this limit.
        let latest = now.saturating_add(self.ahead).saturating_add(self.interval);
        let next = next.max(now).min(latest);
        match (next - now).checked_sub(self.ahead) {
            None | Some(0) => Ok(next.saturating_add(self.interval)),
            Some(wait) => Err(Duration::from_nanos(wait)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the decision about each request of a client, at these times in milliseconds.
    fn decisions(limit: RateLimit, times: &[u64]) -> Vec<Result<(), u128>> {
        let mut next = 0;
        let decide = |millis: &u64| {
            let taken = limit.take(next, millis * 1_000_000).map_err(|wait| wait.as_millis())?;
            next = taken;
            Ok(())
        };
        times.iter().map(decide).collect()
    }

    #[test]
    fn a_burst_is_permitted_and_then_one_request_in_each_interval() {
        let number = |number| NonZeroU32::new(number).unwrap();
        let minute = Duration::from_secs(60);
        let three = RateLimit::new(number(3), minute);
        let one_burst = three.with_burst(NonZeroU32::MIN);
        let ok = || Ok(());
        for (limit, times, want) in [
            (three, &[0, 0, 0, 0][..], vec![ok(), ok(), ok(), Err(20_000)]),
            (
                three,
                &[0, 0, 0, 19_999, 20_000, 20_001],
                vec![ok(), ok(), ok(), Err(1), ok(), Err(19_999)],
            ),
            // A long pause permits one burst, and not more.
            (
                three,
                &[0, 0, 0, 600_000, 600_000, 600_000, 600_000],
                vec![ok(), ok(), ok(), ok(), ok(), ok(), Err(20_000)],
            ),
            // Refused requests do not make the wait longer.
            (one_burst, &[0, 1, 2, 20_000], vec![ok(), Err(19_999), Err(19_998), ok()]),
            (RateLimit::new(NonZeroU32::MAX, Duration::ZERO), &[0, 1, 2], vec![ok(), ok(), ok()]),
        ] {
            assert_eq!(decisions(limit, times), want, "{limit:?} {times:?}");
        }
        // The earlier limit was much stricter.
        let hours = 100 * 3_600_000_000_000;
        assert_eq!(three.take(hours, 0), Err(Duration::from_secs(20)));
        let longest = RateLimit::new(NonZeroU32::MIN, Duration::MAX).with_burst(NonZeroU32::MAX);
        assert_eq!(longest.take(u64::MAX, 0), Ok(u64::MAX));
    }
}
