//! Configures endpoints that API ML's gateway also has, and that are not in the auth API. API ML is Zowe's API
//! Mediation Layer.

use passticket_proxy::config::Config;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tower_passticket::{
    api::{ApimlEndpoints, ListedService, SharedServices},
    health::Health,
};

use crate::discovery::{Discovery, listed_authentication};

/// Returns the health of each part that the gateway needs to serve requests, with the name of the part. The function
/// must not block.
pub(crate) type NeededParts = Box<dyn Fn() -> Vec<(&'static str, Health)> + Send + Sync>;

/// Returns the endpoints. They show the services in `services`.
pub(crate) fn endpoints(
    config: &Config,
    services: SharedServices,
    needed: NeededParts,
    discovery: &Discovery,
) -> ApimlEndpoints {
    // The file may contain other PEM sections, such as a private key. Only the certificates are served.
    let chain = CertificateDer::pem_slice_iter(&config.tls.certificate);
    let endpoints = ApimlEndpoints::new([])
        .with_shared_services(services)
        .with_certificates(chain.filter_map(Result::ok))
        .with_health(needed, config.health);
    if config.discovery.is_none() {
        return endpoints;
    }
    let discovery = discovery.clone();
    endpoints.with_discovery(move || discovery.health().unwrap_or(Health::Up))
}

/// Returns the services of Zowe's static definitions, each with the scheme of its first route.
pub(crate) fn defined_services(config: &Config) -> Vec<ListedService> {
    let services = config.services.iter().map(|service| {
        let mut service = service.clone();
        let route = config.routes.iter().find(|route| *route.service() == service.id);
        service.authentication = route.map(|route| listed_authentication(route.scheme()));
        service
    });
    services.collect()
}
