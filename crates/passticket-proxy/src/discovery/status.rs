//! Records whether the registry is current, and keeps the metrics of discovery.

use std::{
    collections::BTreeSet,
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

/// The result of a fetch.
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
    /// The outer `None` means that discovery is off. The inner `None` means that the registry is current. Otherwise,
    /// the text says why it is not current: the last fetch failed, or no fetch has finished yet.
    problem: Option<Option<String>>,
    last: u64,
    applied: Applied,
}

impl DiscoveryStatus {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that discovery is on.
    pub(super) fn begin(&self) {
        let problem = "the registry was not fetched yet".to_owned();
        self.state().problem.get_or_insert(Some(problem));
    }

    /// Records that discovery is off.
    pub(super) fn end(&self) {
        let mut state = self.state();
        (state.problem, state.applied) = (None, Applied::default());
    }

    /// Records a successful fetch. Returns whether the registry was not current before: the fetch before failed, or
    /// this is the first fetch.
    pub(super) fn fetched(&self, fetch: Fetch) -> bool {
        self.fetches.increment((match fetch {
            Fetch::Full => FetchResult::Full,
            Fetch::Delta => FetchResult::Delta,
        },));
        let mut state = self.state();
        state.last = SystemClock.now().as_secs();
        state.problem.replace(None).flatten().is_some()
    }

    /// Records a failed fetch. Returns whether the registry was current before.
    pub(super) fn failed(&self, error: &str) -> bool {
        self.fetches.increment((FetchResult::Failed,));
        let mut state = self.state();
        let problem = match state.last {
            0 => format!("the registry was never fetched: {error}"),
            _ => format!("the registry is stale, and the gateway keeps the last one: {error}"),
        };
        state.problem.replace(Some(problem)).flatten().is_none()
    }

    /// Records which services and instances of the registry the gateway uses. Returns the refused instances that were
    /// not refused before.
    pub(super) fn applied(&self, applied: Applied) -> BTreeSet<(ServiceId, String, String)> {
        let before = std::mem::replace(&mut self.state().applied, applied);
        let state = self.state();
        state.applied.refused.difference(&before.refused).cloned().collect()
    }

    /// Returns whether the last fetch was successful. `None` if discovery is off.
    pub(super) fn health(&self) -> Option<Health> {
        let state = self.state();
        state.problem.clone().map(|problem| problem.map_or(Health::Up, Health::down))
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
