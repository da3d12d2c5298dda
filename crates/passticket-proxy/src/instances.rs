//! The instances of the services: their health checks, and their health in the list of services.

use std::{
    mem,
    sync::{Arc, Mutex, PoisonError},
};

use passticket_proxy::config::Config;
use tower_passticket::{
    api::ListedInstance,
    health::Health,
    layer::{Route, SharedRoutes, Upstream},
    proxy::{HealthCheck, InstanceHealth, InstanceStates, ServiceConnections},
    tls::Connector,
    token::ServiceId,
};

use crate::{connectors::Connectors, names, part::Task};

/// The tasks of [`start_tasks`] for the current configuration. Connections keep the gateways of old configurations, so a
/// gateway must not own its tasks.
#[derive(Default)]
pub(crate) struct InstanceTasks(Mutex<Vec<Task>>);

impl InstanceTasks {
    /// Ends the previous tasks.
    pub(crate) fn replace(&self, tasks: Vec<Task>) {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let previous = mem::replace(&mut *running, tasks);
        drop(running);
        drop(previous);
    }
}

/// Starts the health checks, and the task that resolves the names of services again. The tasks end when the result is
/// dropped. `shared` is the current table, also with the routes of found services.
///
/// There is a check for each instance that has a health URL and is not the only instance of its service. With one
/// instance, there is no choice, so a check would have no use.
pub(crate) fn start_tasks<B: Send + 'static>(
    config: &Config,
    routes: &[Route],
    shared: &SharedRoutes,
    connectors: &Connectors,
    states: &Arc<InstanceStates>,
    connections: ServiceConnections<Connector, B>,
) -> Vec<Task> {
    let names = Task::default();
    names.start(|| names::watch(names::of_services(config), shared.clone(), connections));
    let mut tasks = vec![names];
    let Some(settings) = config.health_checks else { return tasks };
    for service in config.services.iter().filter(|service| service.instances.len() > 1) {
        if !routes.iter().any(|route| *route.service() == service.id) {
            continue;
        }
        let connector = connectors.of(&service.id).clone();
        let check = HealthCheck::new(connector, states.clone())
            .with_interval(settings.interval)
            .with_timeout(settings.timeout);
        for instance in &service.instances {
            let url = instance.health_check_url.as_ref().and_then(|url| url.parse().ok());
            let (Some(url), Some(upstream)) = (url, upstream(instance)) else { continue };
            let task = Task::default();
            task.start(|| check.clone().run(service.id.clone(), upstream, url));
            tasks.push(task);
        }
    }
    tasks
}

/// Returns the health of an instance in the list of services.
pub(crate) fn health(
    states: &InstanceStates,
    service: &ServiceId,
    instance: &ListedInstance,
) -> Health {
    match upstream(instance).map(|upstream| states.health(service, &upstream)) {
        None | Some(InstanceHealth::Up) => Health::Up,
        Some(other) => Health::down(other.as_str()),
    }
}

/// Returns the scheme, host and port of an instance.
fn upstream(instance: &ListedInstance) -> Option<Upstream> {
    let ListedInstance { protocol, host, port, .. } = instance;
    format!("{protocol}://{host}:{port}").parse().ok()
}
