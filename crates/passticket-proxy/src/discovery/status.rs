//! Records whether the registry is current, and keeps the metrics of discovery.

use std::{
    collections::BTreeSet,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tower_passticket::{
    clock::{Clock, SystemClock},
    eureka::Fetch,
    health::Health,
    metrics::{Collect, CounterFamily, Description, Exposition, Label, LabelName},
    token::ServiceId,
};

use super::updater::Applied;

const FETCHES: Description = Description::counter(
    "passticket_discovery_fetches_total",
    "Fetches of the registry of services, by result. The results full and delta are successes.",
);
const LAST: Description = Description::gauge(
    "passticket_discovery_last_fetch_timestamp_seconds",
    "Time of the last successful fetch of the registry, in seconds since 1970-01-01 UTC. 0 before the first one.",
);
const SERVICES: Description = Description::gauge(
    "passticket_discovery_services",
    "Services in the registry that have an instance the gateway uses. Only trusted services may receive credentials.",
);
const INSTANCES: Description = Description::gauge(
    "passticket_discovery_instances",
    "Instances in the registry that the gateway uses.",
);
const REFUSED: Description = Description::gauge(
    "passticket_discovery_refused_instances",
    "Instances in the registry that the gateway refuses, because they contradict the configuration.",
);
const LEFT_OUT: Description = Description::gauge(
    "passticket_discovery_left_out",
    "Services, instances and routes in the registry that the gateway does not use because of a limit.",
);
const KIND: LabelName = LabelName::new("kind");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FetchResult {
    Full,
    Delta,
    Failed,
}

impl Label for FetchResult {
    const NAME: LabelName = LabelName::new("result");
    const ALL: &'static [Self] = &[Self::Full, Self::Delta, Self::Failed];

    fn index(self) -> usize {
        self as usize
    }

    fn value(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Delta => "delta",
            Self::Failed => "failed",
        }
    }
}

/// Says whether the registry is current, and which of its services and instances the gateway uses.
#[derive(Debug, Default)]
pub(super) struct DiscoveryStatus {
    fetches: CounterFamily<(FetchResult,)>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    registry: Registry,
    /// The time of the last successful fetch, in seconds since 1970. 0 if there was none.
    last: u64,
    applied: Applied,
}

/// Whether the last fetched registry is current.
#[derive(Debug, Default)]
enum Registry {
    #[default]
    Off,
    /// No fetch has finished yet.
    Expected,
    Current,
    /// The last fetch failed. The text says why.
    Stale(String),
}

impl DiscoveryStatus {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin(&self) {
        let mut state = self.state();
        if let Registry::Off = state.registry {
            state.registry = Registry::Expected;
        }
    }

    pub(super) fn end(&self) {
        let mut state = self.state();
        (state.registry, state.applied) = (Registry::Off, Applied::default());
    }

    /// Records a successful fetch. Returns whether the registry was not current before: the previous fetch failed,
    /// or this is the first fetch.
    pub(super) fn fetched(&self, fetch: Fetch) -> bool {
        self.fetches.increment((match fetch {
            Fetch::Full => FetchResult::Full,
            Fetch::Delta => FetchResult::Delta,
        },));
        let mut state = self.state();
        state.last = SystemClock.now().as_secs();
        let before = mem::replace(&mut state.registry, Registry::Current);
        !matches!(before, Registry::Current)
    }

    /// Records a failed fetch. Returns whether it is the first failure since the last successful fetch.
    pub(super) fn failed(&self, error: &str) -> bool {
        self.fetches.increment((FetchResult::Failed,));
        let mut state = self.state();
        let problem = match state.last {
            0 => format!("the registry was never fetched: {error}"),
            _ => format!("the registry is stale, and the gateway keeps the last one: {error}"),
        };
        let before = mem::replace(&mut state.registry, Registry::Stale(problem));
        !matches!(before, Registry::Stale(_))
    }

    /// Records which services and instances of the registry the gateway uses. Returns the refused instances that were
    /// not refused before.
    pub(super) fn applied(&self, applied: Applied) -> BTreeSet<(ServiceId, String, String)> {
        let before = mem::replace(&mut self.state().applied, applied);
        let state = self.state();
        state.applied.refused.difference(&before.refused).cloned().collect()
    }

    /// Returns whether the last fetch was successful. `None` if discovery is off.
    pub(super) fn health(&self) -> Option<Health> {
        match &self.state().registry {
            Registry::Off => None,
            Registry::Expected => Some(Health::down("the registry was not fetched yet")),
            Registry::Current => Some(Health::Up),
            Registry::Stale(problem) => Some(Health::down(problem.clone())),
        }
    }

    pub(super) fn collect(&self, exposition: &mut Exposition) {
        let state = self.state();
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let Applied { trusted, others, instances, refused, left_out } = &state.applied;
        exposition.family(&FETCHES, &self.fetches);
        exposition.value(&LAST, state.last);
        let kinds = [("trusted", *trusted), ("other", *others)];
        exposition.series(&SERVICES, kinds.map(|(kind, number)| ([(KIND, kind)], count(number))));
        exposition.value(&INSTANCES, count(*instances));
        exposition.value(&REFUSED, count(refused.len()));
        exposition.value(&LEFT_OUT, count(*left_out));
    }
}

impl Collect for super::Discovery {
    fn collect(&self, exposition: &mut Exposition) {
        self.status().collect(exposition);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_and_the_first_success_after_it_are_reported() {
        let status = DiscoveryStatus::default();
        assert_eq!(status.health(), None);
        status.begin();
        assert_eq!(status.health(), Some(Health::down("the registry was not fetched yet")));
        for (result, is_reported) in [
            (Err("a"), true),
            (Err("b"), false),
            (Ok(Fetch::Full), true),
            (Ok(Fetch::Delta), false),
            (Err("c"), true),
            (Err("d"), false),
            (Ok(Fetch::Full), true),
        ] {
            let was_reported = match result {
                Ok(fetch) => status.fetched(fetch),
                Err(error) => status.failed(error),
            };
            assert_eq!(was_reported, is_reported, "{result:?}");
            assert_eq!(status.health() == Some(Health::Up), result.is_ok(), "{result:?}");
            // A reload calls `begin` again, which does not change the health.
            status.begin();
            assert_eq!(status.health() == Some(Health::Up), result.is_ok(), "{result:?}");
        }
        status.end();
        assert_eq!(status.health(), None);
    }
}
