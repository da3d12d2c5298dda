//! Records the results of reloads, for metrics, health, and the admin port.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::{
    mpsc::{self, error::TrySendError},
    oneshot,
};
use tower_passticket::{
    clock::{Clock, SystemClock},
    health::Health,
    metrics::{Collect, CounterFamily, Description, Exposition, Label, LabelName},
};

const RELOADS: Description = Description::counter(
    "passticket_configuration_reloads_total",
    "Reloads of the configuration. With the result unchanged or failed, the gateway continues with its configuration.",
);
const LAST: Description = Description::gauge(
    "passticket_configuration_last_reload_timestamp_seconds",
    "Time of the last reload that was successful, or of the start, in seconds since 1970-01-01 UTC.",
);

/// The result of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReloadResult {
    Reloaded,
    /// No file has changed.
    Unchanged,
    /// The new configuration has problems.
    Failed,
}

impl Label for ReloadResult {
    const NAME: LabelName = LabelName::new("result");
    const ALL: &'static [Self] = &[Self::Reloaded, Self::Unchanged, Self::Failed];

    fn index(self) -> usize {
        self as usize
    }

    fn value(self) -> &'static str {
        match self {
            Self::Reloaded => "reloaded",
            Self::Unchanged => "unchanged",
            Self::Failed => "failed",
        }
    }
}

/// The result of a reload, with its details.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    Reloaded {
        /// The files that have changed.
        files: Vec<String>,
        /// The settings and routes that have changed.
        changes: Vec<String>,
        /// The warnings that the previous configuration did not have, and the settings that need a restart.
        warnings: Vec<String>,
    },
    Unchanged,
    /// The problems. The list is never empty.
    Failed(Vec<String>),
    /// A file changed while it was read.
    Changing,
}

/// A request of the admin port for a reload: the channel on which the result is sent. The channel is closed without a
/// result if the program stops, or if reloads have ended because of an error.
pub(crate) type ReloadRequest = oneshot::Sender<Outcome>;

/// The results of the reloads so far.
pub(crate) struct Reloads {
    results: CounterFamily<(ReloadResult,)>,
    last_good: AtomicU64,
    /// The first problem of the last reload, and how many problems this reload had. `None` if it had none.
    problem: Mutex<Option<(String, usize)>>,
    requests: mpsc::Sender<ReloadRequest>,
}

impl Reloads {
    /// Creates the record of results, and the receiver of requests for reloads. At most one request waits.
    pub(crate) fn new() -> (Arc<Self>, mpsc::Receiver<ReloadRequest>) {
        let (requests, receiver) = mpsc::channel(1);
        let last_good = AtomicU64::new(SystemClock.now().as_secs());
        let (results, problem) = (CounterFamily::default(), Mutex::default());
        (Arc::new(Self { results, last_good, problem, requests }), receiver)
    }

    /// Asks for a reload. Returns `None` if another request waits. If the program is stopping, or if reloads have ended
    /// because of an error, the returned channel is closed without a result.
    pub(crate) fn request(&self) -> Option<oneshot::Receiver<Outcome>> {
        let (answer, receiver) = oneshot::channel();
        match self.requests.try_send(answer) {
            Ok(()) | Err(TrySendError::Closed(_)) => Some(receiver),
            Err(TrySendError::Full(_)) => None,
        }
    }

    pub(crate) fn add(&self, outcome: &Outcome) {
        let result = match outcome {
            Outcome::Reloaded { .. } => ReloadResult::Reloaded,
            Outcome::Unchanged => ReloadResult::Unchanged,
            Outcome::Failed(_) => ReloadResult::Failed,
            Outcome::Changing => return,
        };
        self.results.increment((result,));
        *self.problem() = match outcome {
            Outcome::Failed(problems) => {
                problems.first().map(|problem| (problem.clone(), problems.len()))
            }
            _ => None,
        };
        if result == ReloadResult::Reloaded {
            self.last_good.store(SystemClock.now().as_secs(), Ordering::Relaxed);
        }
    }

    /// Returns whether the last reload had no problems. If the last reload had problems, the gateway continues with its
    /// last good configuration.
    pub(crate) fn health(&self) -> Health {
        match &*self.problem() {
            None => Health::Up,
            Some((problem, 1)) => Health::down(format!("configuration not reloaded: {problem}")),
            Some((problem, number)) => Health::down(format!(
                "configuration not reloaded: {problem} (and {} more problems, see the log)",
                number - 1
            )),
        }
    }

    fn problem(&self) -> MutexGuard<'_, Option<(String, usize)>> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collect for Reloads {
    fn collect(&self, exposition: &mut Exposition) {
        exposition.family(&RELOADS, &self.results);
        exposition.value(&LAST, self.last_good.load(Ordering::Relaxed));
    }
}

impl fmt::Debug for Reloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloads").field("health", &self.health()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_request_waits_and_requests_after_the_end_get_no_result() {
        let (reloads, receiver) = Reloads::new();
        let mut waiting = reloads.request().unwrap();
        assert!(reloads.request().is_none(), "two requests wait");
        drop(receiver);
        for answer in [&mut waiting, &mut reloads.request().unwrap()] {
            assert_eq!(answer.try_recv().unwrap_err(), oneshot::error::TryRecvError::Closed);
        }
    }
}
