//! Starts the health checks of the instances of services, and reports their health for the list of services.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, PoisonError},
};

use http::Uri;
use passticket_proxy::config::{Config, HealthCheckSettings};
use tower_passticket::{
    api::ListedInstance,
    health::Health,
    layer::{Route, SharedRoutes, Upstream},
    proxy::{HealthCheck, InstanceHealth, InstanceStates, ServiceConnections},
    tls::Connector,
    token::ServiceId,
};

use crate::{connectors::Connectors, names, part::Task};

/// The tasks that [`start_tasks`] has started for the current configuration. They are not stored in the Tower service
/// that answers requests: an open connection keeps the Tower service of an old configuration alive, but must not keep
/// the tasks of the old configuration running.
#[derive(Default)]
pub(crate) struct InstanceTasks(Mutex<Vec<Task>>);

impl InstanceTasks {
    pub(crate) fn replace(&self, tasks: Vec<Task>) {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let previous = mem::replace(&mut *running, tasks);
        drop(running);
        drop(previous);
    }
}

/// Starts the health checks, and the task that regularly resolves the host names of services. The tasks end when the
/// result is dropped. `shared` is the current table of routes, including the routes of services from Eureka.
///
/// If health checks are on, each instance of the configuration with a valid health URL gets a check. There are two
/// exceptions: the instances of a service without a route, and the only instance of a service, because the gateway has
/// no other instance to choose. [`FoundChecks`] starts the checks of instances from Eureka.
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
        let check = health_check(connectors.of(&service.id), states, settings);
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

fn health_check(
    connector: &Connector,
    states: &Arc<InstanceStates>,
    settings: HealthCheckSettings,
) -> HealthCheck<Connector> {
    HealthCheck::new(connector.clone(), states.clone())
        .with_interval(settings.interval)
        .with_timeout(settings.timeout)
}

/// The health checks of instances that were found in Eureka. They end when this value is dropped.
pub(crate) struct FoundChecks {
    settings: HealthCheckSettings,
    connectors: Connectors,
    states: Arc<InstanceStates>,
    running: HashMap<FoundCheck, Task>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FoundCheck {
    service: ServiceId,
    url: Uri,
    is_bypass: bool,
}

impl FoundCheck {
    /// Returns `None` if the instance has no valid health URL, or if this URL does not lead to the address of the
    /// instance. Without this rule, a program that registers an instance could make the gateway send requests to any
    /// server. If the service has the scheme bypass (`is_bypass`), the check does not present the client certificate
    /// that the gateway has for all services.
    pub(crate) fn new(
        service: &ServiceId,
        instance: &ListedInstance,
        is_bypass: bool,
    ) -> Option<Self> {
        let url: Uri = instance.health_check_url.as_ref()?.parse().ok()?;
        let is_own = server(&url)? == upstream(instance)?;
        is_own.then(|| Self { service: service.clone(), url, is_bypass })
    }
}

impl FoundChecks {
    /// Returns `None` if the configuration has no health checks.
    pub(crate) fn new(
        config: &Config,
        connectors: &Connectors,
        states: &Arc<InstanceStates>,
    ) -> Option<Self> {
        let (connectors, states) = (connectors.clone(), states.clone());
        let running = HashMap::new();
        config.health_checks.map(|settings| Self { settings, connectors, states, running })
    }

    /// Starts the checks in `checks` that do not run yet, and ends the checks that are not in `checks`.
    pub(crate) fn replace(&mut self, checks: impl IntoIterator<Item = FoundCheck>) {
        let mut before = mem::take(&mut self.running);
        for check in checks {
            let task = before.remove(&check).unwrap_or_else(|| self.start(&check));
            self.running.insert(check, task);
        }
    }

    fn start(&self, FoundCheck { service, url, is_bypass }: &FoundCheck) -> Task {
        let task = Task::default();
        if let Some(upstream) = server(url) {
            let connector = self.connectors.to_found(service, *is_bypass);
            let check = health_check(connector, &self.states, self.settings);
            task.start(|| check.run(service.clone(), upstream, url.clone()));
        }
        task
    }
}

/// Returns the URL scheme, host and port of a URL. `None` if the URL is not the address of a
/// server.
fn server(url: &Uri) -> Option<Upstream> {
    format!("{}://{}", url.scheme_str()?, url.authority()?).parse().ok()
}

/// Returns the health of an instance in the list of services. An instance without a valid address counts as healthy.
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

fn upstream(instance: &ListedInstance) -> Option<Upstream> {
    let ListedInstance { protocol, host, port, .. } = instance;
    format!("{protocol}://{host}:{port}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_found_instance_is_checked_only_at_its_own_address() {
        let service = ServiceId::new("files").unwrap();
        for (url, want) in [
            (None, false),
            (Some("https://host:7554/application/health"), true),
            (Some("https://HOST:7554"), true),
            (Some("http://host:7554/health"), false),
            (Some("https://host:7555/health"), false),
            (Some("https://host/health"), false),
            (Some("https://other:7554/health"), false),
            (Some("https://user@host:7554/health"), false),
            (Some("https://host:7554@other/health"), false),
            (Some("/health"), false),
            (Some("file:///etc/passwd"), false),
        ] {
            let mut instance = ListedInstance::fixed(&service, "https", "host", 7554);
            instance.health_check_url = url.map(str::to_owned);
            let check = FoundCheck::new(&service, &instance, false);
            assert_eq!(check.is_some(), want, "{url:?}");
        }
    }
}
