//! The state of one instance: its requests in flight, and whether it is healthy.
//!
//! If the gateway cannot connect to an instance, it *ejects* the instance: for some time, it prefers other instances.
//! The first ejection takes 1 s. After each further failure, the ejection takes twice as long, up to 30 s. When this
//! time is over, one request goes to the instance as a probe. If the instance answers, the ejection ends. A successful
//! health check also ends the ejection. Only failures to connect count. If slow responses counted, a client could eject
//! all instances with requests that always take long.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

const FIRST_EJECTION: Duration = Duration::from_secs(1);

const MAX_EJECTION: Duration = Duration::from_secs(30);

/// An instance is not healthy after this number of failed checks in a row.
const FAILED_CHECKS: u32 = 2;

/// Bits of [`InstanceState::problems`].
const EJECTED: u8 = 1;
const CHECK_FAILED: u8 = 2;

/// Says whether an instance gets requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InstanceHealth {
    /// The instance gets requests.
    Up,
    /// The gateway could not connect to the instance. When the time of the ejection is over, the instance gets one
    /// request as a probe. The instance gets other requests only if no other instance is healthy, or if the client
    /// chooses it.
    Ejected,
    /// At least two health checks of the instance in a row failed. The instance gets requests only if no other instance
    /// is healthy, or if the client chooses it.
    CheckFailed,
}

impl InstanceHealth {
    /// Returns the name of the health: `up`, `ejected` or `check-failed`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Ejected => "ejected",
            Self::CheckFailed => "check-failed",
        }
    }
}

#[derive(Debug, Default)]
pub(in crate::proxy) struct InstanceState {
    in_flight: AtomicUsize,
    /// A set of [`EJECTED`] and [`CHECK_FAILED`]. It is 0 for a healthy instance. It is changed only while `history` is
    /// locked.
    problems: AtomicU8,
    /// The number of health checks of the instance. It is changed only while `history` is locked.
    checks: AtomicUsize,
    history: Mutex<History>,
}

#[derive(Debug, Default)]
struct History {
    ejected_at: Option<Instant>,
    ejections: u32,
    next_probe: Option<Instant>,
    failed_checks: u32,
}

impl InstanceState {
    pub(super) fn is_healthy(&self) -> bool {
        self.problems.load(Ordering::Relaxed) == 0
    }

    pub(super) fn health(&self) -> InstanceHealth {
        match self.problems.load(Ordering::Relaxed) {
            0 => InstanceHealth::Up,
            problems if problems & CHECK_FAILED != 0 => InstanceHealth::CheckFailed,
            _ => InstanceHealth::Ejected,
        }
    }

    /// Returns whether the next request should probe this instance. If this function returns true, the caller must send
    /// the request to this instance. The next probe is then due after the length of the current ejection.
    #[cold]
    pub(super) fn begin_probe(&self, now: Instant) -> bool {
        let mut history = self.lock();
        let is_ejected = self.problems.load(Ordering::Relaxed) == EJECTED;
        let is_due = is_ejected && history.next_probe.is_none_or(|next| next <= now);
        if is_due {
            history.next_probe = Some(now + ejection(history.ejections));
        }
        is_due
    }

    /// Records that the instance has answered a request that began at `began`.
    pub(in crate::proxy) fn set_reached(&self, began: Instant) {
        if !self.is_healthy() {
            self.end_ejection(began);
        }
    }

    #[cold]
    fn end_ejection(&self, began: Instant) {
        let mut history = self.lock();
        // A request that began before the failure may use a connection that was opened before the failure. So such a
        // request proves nothing.
        if history.ejected_at.is_some_and(|at| at <= began) {
            history.ejected_at = None;
            history.ejections = 0;
            history.next_probe = None;
            self.problems.fetch_and(!EJECTED, Ordering::Relaxed);
        }
    }

    /// Records that an attempt to connect that began at `began` has failed. Returns how long the instance is ejected.
    /// Returns `None` if the instance was ejected after the attempt began: requests that fail together count once.
    #[cold]
    pub(in crate::proxy) fn set_unreachable(
        &self,
        began: Instant,
        now: Instant,
    ) -> Option<Duration> {
        let mut history = self.lock();
        if history.ejected_at.is_some_and(|at| began < at) {
            return None;
        }
        history.ejections = history.ejections.saturating_add(1);
        let length = ejection(history.ejections);
        history.ejected_at = Some(now);
        history.next_probe = Some(now + length);
        self.problems.fetch_or(EJECTED, Ordering::Relaxed);
        Some(length)
    }

    /// Records the result of a health check. Returns whether the health has changed.
    pub(in crate::proxy) fn set_checked(&self, is_up: bool) -> bool {
        let mut history = self.lock();
        let before = self.health();
        if is_up {
            // The check has connected to the instance, so the instance can be reached again.
            *history = History::default();
            self.problems.store(0, Ordering::Relaxed);
        } else {
            history.failed_checks = history.failed_checks.saturating_add(1);
            if history.failed_checks >= FAILED_CHECKS {
                self.problems.fetch_or(CHECK_FAILED, Ordering::Relaxed);
            }
        }
        self.health() != before
    }

    /// Counts a health check of the instance until the returned value is dropped. When the last of these values is
    /// dropped, failed checks are forgotten, because no further check could make the instance healthy again.
    pub(in crate::proxy) fn begin_check(self: &Arc<Self>) -> Checked {
        let _history = self.lock();
        self.checks.fetch_add(1, Ordering::Relaxed);
        Checked(self.clone())
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Counts a request until the returned value is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(self.clone())
    }

    fn lock(&self) -> MutexGuard<'_, History> {
        // No code that holds the lock can panic.
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns how long an ejection takes. `number` is its number in a row of ejections, beginning with 1.
fn ejection(number: u32) -> Duration {
    let doublings = number.saturating_sub(1).min(5);
    (FIRST_EJECTION * 2_u32.pow(doublings)).min(MAX_EJECTION)
}

#[derive(Debug)]
pub(in crate::proxy) struct InFlight(Arc<InstanceState>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
pub(in crate::proxy) struct Checked(Arc<InstanceState>);

impl Checked {
    pub(super) fn state(&self) -> &InstanceState {
        &self.0
    }
}

impl Drop for Checked {
    fn drop(&mut self) {
        let mut history = self.0.lock();
        if self.0.checks.fetch_sub(1, Ordering::Relaxed) == 1 {
            history.failed_checks = 0;
            self.0.problems.fetch_and(!CHECK_FAILED, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn ejections_double_from_1_s_to_30_s_until_the_instance_answers() {
        let (state, mut now) = (InstanceState::default(), Instant::now());
        for want in [1, 2, 4, 8, 16, 30, 30] {
            assert_eq!(state.set_unreachable(now, now), Some(secs(want)));
            assert_eq!(state.health(), InstanceHealth::Ejected);
            assert!(!state.begin_probe(now + secs(want) - Duration::from_millis(1)));
            now += secs(want);
        }
        assert!(state.begin_probe(now));
        state.set_reached(now);
        assert_eq!(state.health(), InstanceHealth::Up);
        assert_eq!(state.set_unreachable(now, now), Some(secs(1)));
    }

    #[test]
    fn one_request_at_a_time_is_a_probe() {
        let (state, now) = (InstanceState::default(), Instant::now());
        assert!(!state.begin_probe(now), "a healthy instance needs no probe");
        state.set_unreachable(now, now);
        assert!(state.begin_probe(now + secs(1)));
        assert!(!state.begin_probe(now + secs(1)));
        // The probe had no result, for example because its client has disconnected.
        assert!(state.begin_probe(now + secs(2)));
    }

    #[test]
    fn requests_that_began_before_an_ejection_do_not_change_it() {
        let (state, now) = (InstanceState::default(), Instant::now());
        assert_eq!(state.set_unreachable(now, now + secs(1)), Some(secs(1)));
        assert_eq!(state.set_unreachable(now, now + secs(1)), None);
        state.set_reached(now);
        assert_eq!(state.health(), InstanceHealth::Ejected);
        state.set_reached(now + secs(1));
        assert_eq!(state.health(), InstanceHealth::Up);
    }

    #[test]
    fn two_failed_checks_in_a_row_make_an_instance_unhealthy_until_a_check_succeeds() {
        let (state, now) = (InstanceState::default(), Instant::now());
        for (is_up, has_changed, want) in [
            (false, false, InstanceHealth::Up),
            (true, false, InstanceHealth::Up),
            (false, false, InstanceHealth::Up),
            (false, true, InstanceHealth::CheckFailed),
            (false, false, InstanceHealth::CheckFailed),
        ] {
            assert_eq!(state.set_checked(is_up), has_changed);
            assert_eq!(state.health(), want);
        }
        // While the health check fails, requests neither probe the instance nor make it healthy.
        state.set_unreachable(now, now);
        assert!(!state.begin_probe(now + MAX_EJECTION));
        state.set_reached(now);
        assert_eq!(state.health(), InstanceHealth::CheckFailed);
        assert!(state.set_checked(true));
        assert_eq!(state.health(), InstanceHealth::Up);
    }

    #[test]
    fn failed_checks_are_forgotten_when_the_last_health_check_is_dropped() {
        let state = Arc::<InstanceState>::default();
        let [old, new] = [state.begin_check(), state.begin_check()];
        for is_up in [false, false] {
            state.set_checked(is_up);
        }
        drop(old);
        assert_eq!(state.health(), InstanceHealth::CheckFailed, "a reload continues the check");
        let now = Instant::now();
        state.set_unreachable(now, now);
        drop(new);
        assert_eq!(state.health(), InstanceHealth::Ejected);
        assert!(!state.begin_check().state().set_checked(false), "the count begins again");
    }

    #[test]
    fn requests_are_counted_until_they_end() {
        let state = Arc::<InstanceState>::default();
        let requests = [state.begin(), state.begin()];
        assert_eq!(state.in_flight(), 2);
        drop(requests);
        assert_eq!(state.in_flight(), 0);
    }
}
