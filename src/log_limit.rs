//! Limits the log lines that requests can cause to one line per second for each cause. Without this limit, one broken
//! service could fill the disk with equal lines.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
    sync::{LazyLock, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// The minimum time between two lines with the same cause.
const INTERVAL: Duration = Duration::from_secs(1);

/// The maximum number of causes with an entry of their own.
const MAX_CAUSES: usize = 256;

/// The key of the shared entry. All causes without an entry of their own use it.
const SHARED: u64 = 0;

static CAUSES: LazyLock<LogLimit> = LazyLock::new(LogLimit::default);

/// Logs a line, unless a line with the same cause was logged in the last second: `log_limited!(warn, CAUSE, { FIELDS },
/// "message")`. Fields and message have the syntax of the macros of `tracing`. If lines were suppressed, the line also
/// has the field `suppressed` ([`LogPermit`]). [`permit`] explains what a cause is.
macro_rules! log_limited {
    ($level:ident, $cause:expr, { $($fields:tt)* }, $message:literal) => {
        if let Some($crate::log_limit::LogPermit { suppressed }) =
            $crate::log_limit::permit($cause)
        {
            tracing::$level!($($fields)*, suppressed, $message);
        }
    };
}
pub(crate) use log_limited;

/// Permission to log one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogPermit {
    /// How many lines with this cause were suppressed since the last logged line. `None` instead of zero, so that the
    /// line has no field `suppressed`.
    pub(crate) suppressed: Option<u64>,
}

/// Decides whether a line with this cause may be logged now. `None` means that the line is suppressed.
///
/// A cause identifies a problem that an operator fixes in one place. It contains the message and, for example, the
/// service. It must not contain a value that differs from request to request.
#[cold]
pub(crate) fn permit(cause: impl Hash) -> Option<LogPermit> {
    CAUSES.permit(cause, Instant::now())
}

/// The key is a hash of the cause.
#[derive(Debug, Default)]
struct LogLimit {
    hasher: RandomState,
    lines: Mutex<HashMap<u64, Lines>>,
}

#[derive(Debug)]
struct Lines {
    logged: Instant,
    suppressed: u64,
}

impl LogLimit {
    fn permit(&self, cause: impl Hash, now: Instant) -> Option<LogPermit> {
        let mut cause = self.hasher.hash_one(cause);
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if !lines.contains_key(&cause) && lines.len() >= MAX_CAUSES {
            // Removes old causes. Their counts are added to the shared entry, so that no suppressed line is lost.
            let mut moved = 0;
            lines.retain(|key, last| {
                let is_kept =
                    *key == SHARED || now.saturating_duration_since(last.logged) < INTERVAL;
                if !is_kept {
                    moved += last.suppressed;
                }
                is_kept
            });
            if moved > 0 {
                // With a time in the past, the next line of the shared entry is logged.
                let old = now.checked_sub(INTERVAL).unwrap_or(now);
                let shared = lines.entry(SHARED).or_insert(Lines { logged: old, suppressed: 0 });
                shared.suppressed += moved;
            }
            if lines.len() >= MAX_CAUSES {
                cause = SHARED;
            }
        }
        let suppressed = match lines.get_mut(&cause) {
            Some(last) if now.saturating_duration_since(last.logged) < INTERVAL => {
                last.suppressed += 1;
                return None;
            }
            Some(last) => last.suppressed,
            None => 0,
        };
        lines.insert(cause, Lines { logged: now, suppressed: 0 });
        Some(LogPermit { suppressed: (suppressed > 0).then_some(suppressed) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERMITTED: Option<LogPermit> = Some(LogPermit { suppressed: None });

    fn after(suppressed: u64) -> Option<LogPermit> {
        Some(LogPermit { suppressed: Some(suppressed) })
    }

    #[test]
    fn each_cause_is_logged_once_a_second_with_the_count_of_suppressed_lines() {
        let limit = LogLimit::default();
        let start = Instant::now();
        for (cause, millis, want) in [
            ("a", 0, PERMITTED),
            ("b", 0, PERMITTED),
            ("a", 0, None),
            ("a", 999, None),
            ("b", 1000, PERMITTED),
            ("a", 1000, after(2)),
            ("a", 1999, None),
            ("a", 5000, after(1)),
            ("a", 6000, PERMITTED),
            // A monotonic clock never goes back. Here, it does.
            ("a", 3000, None),
        ] {
            let now = start + Duration::from_millis(millis);
            assert_eq!(limit.permit(cause, now), want, "{cause} at {millis}");
        }
    }

    #[test]
    fn the_number_of_causes_is_limited() {
        let limit = LogLimit::default();
        let start = Instant::now();
        let permitted = (0..10 * MAX_CAUSES).filter(|i| limit.permit(i, start).is_some()).count();
        assert_eq!(permitted, MAX_CAUSES + 1);
        assert!(limit.lines.lock().unwrap().len() <= MAX_CAUSES + 1);
        // After a second, the new cause replaces the old causes.
        assert_eq!(limit.permit("new", start + INTERVAL), PERMITTED);
        // The shared entry has the counts of the removed causes and of the causes that did not fit into the table.
        assert_eq!(limit.lines.lock().unwrap().len(), 2);
        let shared = u64::try_from(10 * MAX_CAUSES - permitted).unwrap();
        assert_eq!(limit.lines.lock().unwrap()[&SHARED].suppressed, shared);
    }

    #[test]
    fn the_count_of_a_removed_cause_is_kept() {
        let limit = LogLimit::default();
        let start = Instant::now();
        for cause in 0..MAX_CAUSES {
            assert_eq!(limit.permit(cause, start), PERMITTED);
        }
        for _ in 0..3 {
            assert_eq!(limit.permit(0_usize, start), None);
        }
        // 256 new causes replace the old causes. The shared entry is one of the 256 entries, so the last new cause uses
        // it. Its count is that of the removed cause.
        let later = start + INTERVAL;
        let permits: Vec<_> = (0..MAX_CAUSES).map(|i| limit.permit(("new", i), later)).collect();
        assert_eq!(permits.iter().filter(|permit| **permit == after(3)).count(), 1);
    }
}
