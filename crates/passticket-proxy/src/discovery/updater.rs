//! Makes the routes and the list of services from a registry and from the static definitions.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use passticket_proxy::config::{ConfiguredRoute, DiscoverySettings, ServiceScheme};
use tower_passticket::{
    api::{
        ListedApi, ListedAuthentication, ListedInstance, ListedService, ListedUrl, SharedServices,
    },
    eureka::Registry,
    layer::{Route, Routes, SharedRoutes, Upstream},
    proxy::InstanceStates,
    remote::Address,
    token::ServiceId,
};

use super::found::{Found, FoundInstance, FoundService, find};

/// The beginning of the names of metadata that describe an API.
const API_INFO: &str = "apiml.apiInfo.";

/// Replaces the routes and the list of services of a running gateway when the registry changes.
pub(crate) struct RouteUpdater {
    settings: DiscoverySettings,
    /// The routes of the static definitions.
    defined: Vec<ConfiguredRoute>,
    /// The services of the static definitions.
    listed: Vec<ListedService>,
    /// Adds the implementation of the scheme to a route.
    implement: Box<dyn Fn(&ConfiguredRoute) -> Route + Send>,
    routes: SharedRoutes,
    services: SharedServices,
    states: Arc<InstanceStates>,
}

/// What the gateway uses of a registry.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// The services that the configuration names, with an instance that is up.
    pub(super) trusted: usize,
    /// The other services with an instance that is up.
    pub(super) others: usize,
    /// The instances that are up.
    pub(super) instances: usize,
    /// The refused instances: service, id and reason.
    pub(super) refused: BTreeSet<(ServiceId, String, String)>,
    pub(super) is_limited: bool,
}

impl RouteUpdater {
    /// `defined` and `listed` are the routes and services of the static definitions. `implement` adds the implementation of
    /// the scheme to a route. `routes` and `services` are replaced, and `states` keeps only their instances.
    pub(crate) fn new(
        settings: DiscoverySettings,
        defined: Vec<ConfiguredRoute>,
        listed: Vec<ListedService>,
        implement: impl Fn(&ConfiguredRoute) -> Route + Send + 'static,
        routes: SharedRoutes,
        services: SharedServices,
        states: Arc<InstanceStates>,
    ) -> Self {
        let implement = Box::new(implement);
        Self { settings, defined, listed, implement, routes, services, states }
    }

    /// The discovery services.
    pub(super) fn eureka(&self) -> &[Address] {
        &self.settings.eureka
    }

    /// Replaces the routes and the services.
    pub(super) fn apply(&mut self, registry: &Registry) -> Applied {
        let is_defined = |id: &ServiceId| self.defined.iter().any(|route| route.service() == id);
        let found = find(registry, &self.settings, is_defined);
        let routes = self.routes_of(&found);
        let routes = routes.iter().map(|PlannedRoute { route, is_up }| {
            let route = (self.implement)(route);
            if *is_up { route } else { route.out_of_service() }
        });
        let routes: Vec<_> = routes.collect();
        self.states.set_routes(&routes);
        let services = self.services_of(&found);
        match Routes::new(routes) {
            Ok(routes) => {
                self.routes.replace(routes);
                self.services.replace(services);
            }
            // The plan has each prefix once.
            Err(error) => tracing::error!(%error, "routes not replaced"),
        }
        let up = |service: &&FoundService<'_>| service.instances.iter().any(FoundInstance::is_up);
        let with_scheme = |service: &&FoundService<'_>| service.scheme.is_some();
        Applied {
            trusted: found.services.iter().filter(up).filter(with_scheme).count(),
            others: found.services.iter().filter(up).filter(|it| !with_scheme(it)).count(),
            instances: found
                .services
                .iter()
                .flat_map(|service| &service.instances)
                .filter(|it| it.is_up())
                .count(),
            refused: found
                .refused
                .iter()
                .map(|it| (it.service.clone(), it.instance.id.clone(), it.refusal.to_string()))
                .collect(),
            is_limited: found.is_limited,
        }
    }

    /// Plans all routes. Each prefix occurs once.
    fn routes_of(&self, found: &Found<'_>) -> Vec<PlannedRoute> {
        let mut planned: Vec<PlannedRoute> = self
            .defined
            .iter()
            .map(|route| PlannedRoute { route: route.clone(), is_up: true })
            .collect();
        for service in &found.services {
            let first = self.defined.iter().find(|route| *route.service() == service.id);
            let template = match (first, service.scheme) {
                // The definition decides about the authentication.
                (Some(first), _) => Some(first),
                (None, Some(scheme)) => {
                    let trusted = self.settings.services.iter().find(|it| it.id == service.id);
                    trusted.and_then(|trusted| trusted.schemes.get(scheme))
                }
                (None, None) => None,
            };
            let routes = found_routes(service, template);
            for route in routes {
                match planned.iter_mut().find(|it| it.route.prefix() == route.route.prefix()) {
                    // The instances of the definition stay.
                    Some(defined) => {
                        let path = route.route.prefix().to_owned();
                        let path =
                            path.strip_prefix(&format!("/{}/", service.id)).unwrap_or_default();
                        add_instances(&mut defined.route, service, path);
                    }
                    None => planned.push(route),
                }
            }
        }
        // The paths of a service whose instances are gone, or are not known yet, get 503 and not 404.
        for trusted in &self.settings.services {
            let is_planned = planned.iter().any(|it| *it.route.service() == trusted.id);
            let template = trusted.schemes.first().filter(|_| !is_planned);
            planned.extend(template.map(|it| PlannedRoute { route: it.clone(), is_up: false }));
        }
        planned
    }

    /// Lists the services of the definitions, and the found services with an instance that is up.
    fn services_of(&self, found: &Found<'_>) -> Vec<ListedService> {
        let mut services = self.listed.clone();
        for service in &found.services {
            let mut up = service.instances.iter().filter(|it| it.is_up()).peekable();
            let Some(first) = up.peek() else { continue };
            let described = describe(service, first, &self.settings);
            let instances = up.map(listed_instance);
            match services.iter_mut().find(|listed| listed.id == service.id) {
                Some(defined) => defined.instances.extend(instances),
                None => {
                    let mut described = described;
                    described.instances = instances.collect();
                    services.push(described);
                }
            }
        }
        services
    }
}

/// A route, and whether an instance can serve its requests.
struct PlannedRoute {
    route: ConfiguredRoute,
    is_up: bool,
}

/// Plans the routes of a found service. `template` has the scheme and the settings of the service. `None` means that the
/// service never receives credentials.
fn found_routes(
    service: &FoundService<'_>,
    template: Option<&ConfiguredRoute>,
) -> Vec<PlannedRoute> {
    // An instance that is not up has routes, too, but receives no requests.
    let mut by_path: BTreeMap<&str, (Vec<&Upstream>, &FoundInstance<'_>, &Upstream)> =
        BTreeMap::new();
    for instance in &service.instances {
        for (path, upstream) in &instance.routes {
            let (up, ..) = by_path.entry(path).or_insert((Vec::new(), instance, upstream));
            if instance.is_up() {
                up.push(upstream);
            }
        }
    }
    let routes = by_path.into_iter().filter_map(|(path, (up, instance, any))| {
        let first = up.first().copied().unwrap_or(any).clone();
        let route = match template {
            Some(template) => template.moved(path, first),
            None => ConfiguredRoute::without_credentials(service.id.clone(), path, first),
        };
        // A path that cannot be a route is left out.
        let mut route = route.ok()?.with_registered_metadata(&instance.instance.metadata);
        let is_up = !up.is_empty();
        add_instances(&mut route, service, path);
        Some(PlannedRoute { route, is_up })
    });
    routes.collect()
}

/// Adds the instances that are up and have the path to the route.
fn add_instances(route: &mut ConfiguredRoute, service: &FoundService<'_>, path: &str) {
    for found in service.instances.iter().filter(|it| it.is_up()) {
        if let Some(upstream) = found.routes.get(path) {
            route.add_registered_instance(&found.instance.id, upstream);
        }
    }
}

/// Describes a service by the metadata of its first instance.
fn describe(
    service: &FoundService<'_>,
    first: &FoundInstance<'_>,
    settings: &DiscoverySettings,
) -> ListedService {
    let metadata = &first.instance.metadata;
    let text = |name: &str| metadata.get(name).filter(|text| !text.is_empty()).cloned();
    let mut listed = ListedService::new(service.id.clone());
    listed.title = text("apiml.service.title");
    listed.description = text("apiml.service.description");
    listed.home_page = first.instance.home_page_url.clone().map(ListedUrl::Direct);
    let route = service.scheme.and_then(|scheme| {
        let trusted = settings.services.iter().find(|it| it.id == service.id)?;
        trusted.schemes.get(scheme)
    });
    let scheme = route.map_or(ServiceScheme::Bypass, ConfiguredRoute::scheme);
    listed.authentication = Some(listed_authentication(scheme));
    let ids: BTreeSet<&str> = metadata
        .keys()
        .filter_map(|name| name.strip_prefix(API_INFO)?.split_once('.'))
        .map(|(id, _)| id)
        .collect();
    listed.apis = ids
        .into_iter()
        .filter_map(|id| {
            let of = |name: &str| text(&format!("{API_INFO}{id}.{name}"));
            let mut api = ListedApi::new(of("apiId")?, &of("gatewayUrl").unwrap_or_default());
            api.version = of("version");
            api.swagger_url = of("swaggerUrl").map(ListedUrl::Direct);
            api.documentation_url = of("documentationUrl");
            api.is_default = of("defaultApi").is_some_and(|text| text == "true");
            Some(api)
        })
        .collect();
    listed
}

/// Describes the scheme of a service.
pub(crate) fn listed_authentication(scheme: ServiceScheme) -> ListedAuthentication {
    let mut authentication = ListedAuthentication::new(scheme.name());
    authentication.applid = scheme.applid();
    if let ServiceScheme::X509 { headers } = scheme {
        authentication.headers = headers.iter().collect();
    }
    authentication
}

fn listed_instance(found: &FoundInstance<'_>) -> ListedInstance {
    let instance = found.instance;
    let (protocol, port) = match (instance.secure_port, instance.port) {
        (Some(port), _) => ("https", port),
        (None, port) => ("http", port.unwrap_or_default()),
    };
    let id = ServiceId::new(&instance.app).expect("`find` returns only valid ids");
    let mut listed = ListedInstance::fixed(&id, protocol, &instance.host, port);
    listed.id.clone_from(&instance.id);
    listed.home_page_url.clone_from(&instance.home_page_url);
    listed.status_page_url.clone_from(&instance.status_page_url);
    listed.health_check_url.clone_from(&instance.health_check_url);
    listed.custom_metadata = instance
        .metadata
        .iter()
        .filter(|(name, _)| !name.starts_with("apiml."))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    listed
}

#[cfg(test)]
mod tests {
    use tower_passticket::layer::Bypass;

    use super::*;
    use crate::discovery::test_settings::{registry, settings};

    /// Routes that two services of definitions have: `/svc/api/v1` and `/static/api/v1`.
    fn defined() -> Vec<ConfiguredRoute> {
        let settings = settings(
            "services: {svc: {hosts: a, schemes: zoweJwt}, static: {hosts: a, schemes: bypass}}",
        );
        let route = |service: usize, url: &str| {
            settings.services[service].schemes[0].moved("api/v1", url.parse().unwrap()).unwrap()
        };
        vec![route(0, "https://defined:1/d"), route(1, "https://defined:2")]
    }

    struct World {
        updater: RouteUpdater,
        routes: SharedRoutes,
        services: SharedServices,
    }

    impl World {
        fn new(keys: &str, defined: Vec<ConfiguredRoute>) -> Self {
            let (routes, services) = (SharedRoutes::default(), SharedServices::default());
            let listed = defined.iter().map(|route| ListedService::new(route.service().clone()));
            let updater = RouteUpdater::new(
                settings(keys),
                defined.clone(),
                listed.collect(),
                |route| route.with_scheme(Bypass),
                routes.clone(),
                services.clone(),
                Arc::default(),
            );
            Self { updater, routes, services }
        }

        /// Applies a registry. Returns each route with its instances, and the ids of the listed services.
        fn apply(&mut self, registrations: &[&str]) -> Vec<String> {
            let registry = registry(registrations);
            let found = find(&registry, &self.updater.settings, |id| {
                self.updater.defined.iter().any(|route| route.service() == id)
            });
            let planned = self.updater.routes_of(&found);
            let mut shown: Vec<_> = planned
                .iter()
                .map(|PlannedRoute { route, is_up }| {
                    let instances = route.instances().map(|it| format!(" {it}"));
                    let down = if *is_up { "" } else { " DOWN" };
                    format!(
                        "{} {}{down}{}",
                        route.prefix(),
                        route.scheme().name(),
                        instances.collect::<String>()
                    )
                })
                .collect();
            shown.sort();
            let applied = self.updater.apply(&registry);
            assert_eq!(self.routes.current().iter().count(), planned.len(), "{applied:?}");
            shown
        }
    }

    #[test]
    fn the_paths_of_a_service_that_is_gone_stay() {
        let mut world = World::new(
            "services: {svc: {hosts: a, applid: GOODAPPL, schemes: [zoweJwt, httpBasicPassTicket]}}",
            vec![],
        );
        let (one, two) =
            ("svc a s1 scheme=zoweJwt api/v1=/x ui=/", "svc a s2 scheme=zoweJwt api/v1=/x");
        let gone = vec!["/svc zoweJwt DOWN https://discovery.invalid"];
        for (registrations, want) in [
            (vec![], gone.clone()),
            (vec![one], vec!["/svc/api/v1 zoweJwt https://a:1/x", "/svc/ui zoweJwt https://a:1"]),
            (
                vec![one, two],
                vec![
                    "/svc/api/v1 zoweJwt https://a:1/x https://a:2/x",
                    "/svc/ui zoweJwt https://a:1",
                ],
            ),
            (
                vec![&format!("{one} status=DOWN"), two],
                vec!["/svc/api/v1 zoweJwt https://a:2/x", "/svc/ui zoweJwt DOWN https://a:1"],
            ),
            (
                vec![&format!("{one} status=OUT_OF_SERVICE")],
                vec!["/svc/api/v1 zoweJwt DOWN https://a:1/x", "/svc/ui zoweJwt DOWN https://a:1"],
            ),
            (vec![], gone.clone()),
            (vec!["svc evil s1 scheme=zoweJwt api/v1=/x"], gone),
            (vec![one], vec!["/svc/api/v1 zoweJwt https://a:1/x", "/svc/ui zoweJwt https://a:1"]),
        ] {
            assert_eq!(world.apply(&registrations), want, "{registrations:?}");
            let routes = world.routes.current();
            let route = routes.find("/svc/api/v1").unwrap();
            assert_eq!(route.is_out_of_service(), want[0].contains("DOWN"));
        }
    }

    #[test]
    fn a_definition_decides_about_authentication_and_instances_add_up() {
        let keys = "services: {svc: {hosts: a, schemes: [zoweJwt, bypass]}}, others: bypass, otherHosts: a";
        let mut world = World::new(keys, defined());
        let alone =
            ["/static/api/v1 bypass https://defined:2", "/svc/api/v1 zoweJwt https://defined:1/d"];
        assert_eq!(world.apply(&[]), alone);
        // The scheme of the registration does not count. A service that `services` does not name gets no instance.
        let registrations = ["svc a s5 api/v1=/x ui/v1=/ui", "static a s6 api/v1=/"];
        let want = [
            "/static/api/v1 bypass https://defined:2",
            "/svc/api/v1 zoweJwt https://defined:1/d https://a:5/x",
            "/svc/ui/v1 zoweJwt https://a:5/ui",
        ];
        assert_eq!(world.apply(&registrations), want);
        assert_eq!(world.apply(&["svc a s5 api/v1=/x status=DOWN"]), alone);
        assert_eq!(world.apply(&["svc evil s5 api/v1=/x"]), alone);
    }

    #[test]
    fn other_services_never_receive_credentials() {
        let mut world = World::new("others: bypass, otherHosts: ['*.x.example']", vec![]);
        let got = world.apply(&[
            "x a.x.example 80 api=/",
            "y evil s1 api=/",
            "z b.x.example s1 api=/ status=DOWN",
        ]);
        assert_eq!(
            got,
            ["/x/api bypass http://a.x.example", "/z/api bypass DOWN https://b.x.example:1"]
        );
        let routes = world.routes.current();
        assert!(routes.iter().all(|route| route.is_bypass() && route.removes_credentials()));
        // A service that is not named loses its routes with its registration.
        assert_eq!(world.apply(&[]), Vec::<String>::new());
    }

    #[test]
    fn metadata_describe_a_service() {
        let mut world = World::new(
            "services: {svc: {hosts: a, applid: GOODAPPL, schemes: httpBasicPassTicket}}",
            vec![],
        );
        let applied = world.updater.apply(&registry(&[
            "svc a s1 scheme=httpBasicPassTicket api/v1=/x apiml.service.title:=Files apiml.apiInfo.one.apiId:=f.v1 \
             apiml.apiInfo.one.gatewayUrl:=api/v1 apiml.apiInfo.one.version:=1.0 zone:=east response-timeout:=2000",
            "svc b s1",
        ]));
        assert_eq!((applied.trusted, applied.others, applied.instances), (1, 0, 1));
        assert_eq!(applied.refused.len(), 1);
        let found = registry(&[
            "svc a s1 scheme=httpBasicPassTicket api/v1=/x apiml.service.title:=Files zone:=east",
        ]);
        let found = find(&found, &world.updater.settings, |_| false);
        let [service] = &world.updater.services_of(&found)[..] else { panic!() };
        assert_eq!(service.title.as_deref(), Some("Files"));
        let authentication = service.authentication.as_ref().unwrap();
        assert_eq!(
            (&*authentication.scheme, authentication.applid.is_some()),
            ("httpBasicPassTicket", true)
        );
        assert_eq!(service.instances[0].id, "a:svc:s1");
        assert_eq!(service.instances[0].custom_metadata["zone"], "east");
        let routes = world.routes.current();
        let route = routes.find("/svc/api/v1").unwrap();
        assert_eq!(route.response_timeout(), Some(std::time::Duration::from_secs(2)));
        drop(world.services);
    }
}
