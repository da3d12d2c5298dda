//! The instances of the services: their health checks, and their health in the list of services.

use std::sync::Arc;

use passticket_proxy::config::Config;
use tower_passticket::{
    api::ListedInstance,
    health::Health,
    layer::{Route, Upstream},
    proxy::{HealthCheck, InstanceHealth, InstanceStates},
    token::ServiceId,
};

use crate::connectors::Connectors;

/// Starts a check for each instance that has a health URL and is not the only instance of its service. With one instance,
/// there is no choice, so a check would have no use. A check ends when the last of `routes` of its service is dropped.
pub(crate) fn start_checks(
    config: &Config,
    routes: &[Route],
    connectors: &Connectors,
    states: &Arc<InstanceStates>,
) {
    let Some(settings) = config.health_checks else { return };
    for service in config.services.iter().filter(|service| service.instances.len() > 1) {
        let mut of_service = routes.iter().filter(|route| *route.service() == service.id);
        let Some(instances) = of_service.find_map(Route::instances) else { continue };
        let connector = connectors.of(&service.id).clone();
        let check = HealthCheck::new(connector, states.clone())
            .with_interval(settings.interval)
            .with_timeout(settings.timeout);
        for instance in &service.instances {
            let url = instance.health_check_url.as_ref().and_then(|url| url.parse().ok());
            let (Some(url), Some(upstream)) = (url, upstream(instance)) else { continue };
            let used = Arc::downgrade(instances);
            let is_used = move || used.strong_count() > 0;
            tokio::spawn(check.clone().run(service.id.clone(), upstream, url, is_used));
        }
    }
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

/// The scheme, host and port of an instance.
fn upstream(instance: &ListedInstance) -> Option<Upstream> {
    let ListedInstance { protocol, host, port, .. } = instance;
    format!("{protocol}://{host}:{port}").parse().ok()
}
