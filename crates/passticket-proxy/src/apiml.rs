//! Configures the endpoints that API ML's gateway has outside of the auth API. API ML is Zowe's API Mediation Layer.

use passticket_proxy::config::{Config, ServiceScheme};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tower_passticket::{
    api::{ApimlEndpoints, ListedAuthentication, ListedService},
    health::Health,
    layer::Route,
};

/// Returns the health of each part that the gateway needs to serve requests, with the name of the part. The function
/// must not block.
pub(crate) type NeededParts = Box<dyn Fn() -> Vec<(&'static str, Health)> + Send + Sync>;

/// Returns the endpoints for the services in the configuration. `routes` are the routes with their schemes.
pub(crate) fn endpoints(config: &Config, routes: &[Route], needed: NeededParts) -> ApimlEndpoints {
    let services = config.services.iter().map(|service| with_scheme(service, config, routes));
    // The file may contain other PEM sections, such as a private key. Only the certificates are served.
    let chain = CertificateDer::pem_slice_iter(&config.tls.certificate);
    ApimlEndpoints::new(services)
        .with_certificates(chain.filter_map(Result::ok))
        .with_health(needed, config.health)
}

/// Returns the service with the scheme of its first route. `routes` are in the order of the configuration.
fn with_scheme(service: &ListedService, config: &Config, routes: &[Route]) -> ListedService {
    let mut service = service.clone();
    let mut pairs = config.routes.iter().zip(routes);
    let found = pairs.find(|(_, route)| *route.service() == service.id);
    service.authentication = found.map(|(configured, route)| {
        let mut authentication = ListedAuthentication::new(route.scheme().name());
        authentication.applid = configured.scheme().applid();
        if let ServiceScheme::X509 { headers } = configured.scheme() {
            authentication.headers = headers.iter().collect();
        }
        authentication
    });
    service
}
