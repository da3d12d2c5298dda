//! The states of all instances, which all threads share.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use http::uri;

use super::{
    retry_budget::RetryBudget,
    state::{InstanceHealth, InstanceState},
};
use crate::{
    layer::{Instance, Route, Upstream},
    metrics::{Collect, Description, Exposition, LabelName},
    token::ServiceId,
};

/// If a service has more states than this number, the states that nothing else uses are removed.
const MAX_STATES: usize = 128;

const INSTANCES: Description = Description::gauge(
    "passticket_service_instances",
    "Instances of services, by their health (up, ejected, check-failed).",
);

const IN_FLIGHT: Description = Description::gauge(
    "passticket_service_requests_in_flight",
    "Requests in flight at services that have several instances.",
);

const HEALTH: LabelName = LabelName::new("health");

/// The states of the instances of all services: their health and their requests in flight.
///
/// An instance of a service is identified by its scheme, host and port. So all routes of a service share the state of
/// an instance, and a change of the routes does not reset the state.
#[derive(Default)]
pub struct InstanceStates {
    services: Mutex<HashMap<ServiceId, ServiceState>>,
}

#[derive(Default)]
struct ServiceState {
    budget: Arc<RetryBudget>,
    instances: HashMap<Server, Arc<InstanceState>>,
}

type Server = (uri::Scheme, uri::Authority);

fn server(upstream: &Upstream) -> Server {
    (upstream.scheme().clone(), upstream.authority().clone())
}

impl InstanceStates {
    /// Adds the instances of these routes, so that the metrics contain each instance before its first request. Removes
    /// all other instances.
    pub fn set_routes<'r>(&self, routes: impl IntoIterator<Item = &'r Route>) {
        let mut used: HashMap<ServiceId, HashSet<Server>> = HashMap::new();
        for route in routes {
            let Some(instances) = route.instances() else { continue };
            let list = instances.list();
            self.of(route.service(), list.iter().map(Instance::upstream));
            let servers = list.iter().map(|it| server(it.upstream()));
            used.entry(route.service().clone()).or_default().extend(servers);
        }
        self.lock().retain(|service, known| {
            let used = used.get(service);
            known.instances.retain(|server, _| used.is_some_and(|used| used.contains(server)));
            used.is_some()
        });
    }

    /// Returns the health of an instance. An instance that is not known yet counts as up.
    pub fn health(&self, service: &ServiceId, upstream: &Upstream) -> InstanceHealth {
        let services = self.lock();
        let state = services.get(service).and_then(|it| it.instances.get(&server(upstream)));
        state.map_or(InstanceHealth::Up, |state| state.health())
    }

    /// Returns the instances that are not healthy, each as `service at scheme://host:port`, in alphabetical order.
    pub fn unhealthy(&self) -> Vec<(String, InstanceHealth)> {
        let services = self.lock();
        let states = services.iter().flat_map(|(service, it)| {
            it.instances.iter().map(move |(server, state)| (service, server, state.health()))
        });
        let unhealthy = states.filter(|(_, _, health)| *health != InstanceHealth::Up);
        let mut unhealthy: Vec<_> = unhealthy
            .map(|(service, (scheme, authority), health)| {
                (format!("{service} at {scheme}://{authority}"), health)
            })
            .collect();
        unhealthy.sort_by(|(a, _), (b, _)| a.cmp(b));
        unhealthy
    }

    pub(super) fn of<'u>(
        &self,
        service: &ServiceId,
        upstreams: impl Iterator<Item = &'u Upstream>,
    ) -> (Arc<RetryBudget>, Vec<Arc<InstanceState>>) {
        let mut services = self.lock();
        let known = match services.get_mut(service) {
            Some(known) => known,
            None => services.entry(service.clone()).or_default(),
        };
        let states = upstreams
            .map(|upstream| known.instances.entry(server(upstream)).or_default().clone())
            .collect();
        if known.instances.len() > MAX_STATES {
            known.instances.retain(|_, state| Arc::strong_count(state) > 1);
        }
        (known.budget.clone(), states)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ServiceId, ServiceState>> {
        // No code that holds the lock can panic.
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collect for InstanceStates {
    fn collect(&self, exposition: &mut Exposition) {
        const ALL: [InstanceHealth; 3] =
            [InstanceHealth::Up, InstanceHealth::Ejected, InstanceHealth::CheckFailed];
        let services = self.lock();
        let states: Vec<_> = services.values().flat_map(|it| it.instances.values()).collect();
        let in_flight: usize = states.iter().map(|state| state.in_flight()).sum();
        let health: Vec<_> = states.iter().map(|state| state.health()).collect();
        let count = |of| health.iter().filter(|it| **it == of).count();
        let samples = ALL.map(|it| ([(HEALTH, it.as_str())], count(it) as u64));
        exposition.series(&INSTANCES, samples);
        exposition.value(&IN_FLIGHT, i128::try_from(in_flight).unwrap_or(i128::MAX));
    }
}

impl fmt::Debug for InstanceStates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InstanceStates").field("unhealthy", &self.unhealthy()).finish()
    }
}
