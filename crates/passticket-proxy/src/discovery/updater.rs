//! Makes the routes and the list of services from a registry and from the static definitions.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use passticket_proxy::config::{ConfiguredRoute, DiscoverySettings, ServiceScheme, TrustedService};
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
use crate::instances::{FoundCheck, FoundChecks};

/// The beginning of the names of metadata that describe an API.
const API_INFO: &str = "apiml.apiInfo.";

/// Replaces the routes and the list of services of a running gateway when the registry changes.
pub(crate) struct RouteUpdater {
    settings: DiscoverySettings,
    /// The routes of the static definitions.
    defined: Vec<ConfiguredRoute>,
    listed: Vec<ListedService>,
    /// Adds the implementation of the scheme to a route.
    implement: Box<dyn Fn(&ConfiguredRoute) -> Route + Send>,
    routes: SharedRoutes,
    services: SharedServices,
    states: Arc<InstanceStates>,
    /// `None` if instances are not checked.
    checks: Option<FoundChecks>,
}

/// What the gateway uses of a registry, and what it refuses.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// The number of services that the configuration names, and that have an instance that is up.
    pub(super) trusted: usize,
    /// The number of other services with an instance that is up.
    pub(super) others: usize,
    pub(super) instances: usize,
    /// The refused instances: service, id and reason.
    pub(super) refused: BTreeSet<(ServiceId, String, String)>,
    /// The number of services, instances and routes that exceed a limit.
    pub(super) left_out: usize,
}

impl RouteUpdater {
    /// Creates an updater. `defined` and `listed` are the routes and services of the static definitions. `implement`
    /// adds the implementation of the scheme to a route. The updater replaces the content of `routes` and `services`.
    /// In `states`, it keeps only the instances of the new routes.
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
        Self { settings, defined, listed, implement, routes, services, states, checks: None }
    }

    pub(crate) fn with_checks(self, checks: Option<FoundChecks>) -> Self {
        Self { checks, ..self }
    }

    pub(super) fn eureka(&self) -> &[Address] {
        &self.settings.eureka
    }

    pub(super) fn apply(&mut self, registry: &Registry) -> Applied {
        let is_defined = |id: &ServiceId| self.defined.iter().any(|route| route.service() == id);
        let found = find(registry, &self.settings, is_defined);
        let (routes, left_out) = self.routes_of(&found);
        let routes = routes.iter().map(|PlannedRoute { route, is_up }| {
            let route = (self.implement)(route);
            if *is_up { route } else { route.out_of_service() }
        });
        let routes: Vec<_> = routes.collect();
        self.states.set_routes(&routes);
        let services = self.services_of(&found);
        if let Some(checks) = &mut self.checks {
            checks.replace(checks_of(&found, &services));
        }
        match Routes::new(routes) {
            Ok(routes) => {
                self.routes.replace(routes);
                self.services.replace(services);
            }
            // This does not happen, because `routes_of` returns each prefix once.
            Err(error) => tracing::error!(%error, "routes not replaced"),
        }
        let up = |service: &&FoundService<'_>| service.instances.iter().any(FoundInstance::is_up);
        let is_trusted = |service: &&FoundService<'_>| service.trusted.is_some();
        Applied {
            trusted: found.services.iter().filter(up).filter(is_trusted).count(),
            others: found.services.iter().filter(up).filter(|it| !is_trusted(it)).count(),
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
            left_out: found.left_out + left_out,
        }
    }

    /// Plans all routes. Each prefix occurs once. Also returns the number of routes that were left out because of the
    /// limit.
    fn routes_of(&self, found: &Found<'_>) -> (Vec<PlannedRoute>, usize) {
        let defined = self.defined.iter().map(|route| {
            (route.prefix().to_owned(), PlannedRoute { route: route.clone(), is_up: true })
        });
        let mut planned: HashMap<_, _> = defined.collect();
        let maximum = planned.len() + self.settings.limits.all_routes;
        let mut left_out = 0;
        // The services in the configuration come first, so that the routes of other services cannot use up the limit.
        let (trusted, others): (Vec<_>, Vec<_>) =
            found.services.iter().partition(|service| service.trusted.is_some());
        for service in trusted.into_iter().chain(others) {
            let templates = self.templates_of(service);
            for (path, paths) in found_paths(service) {
                let prefix = format!("/{}/{path}", service.id);
                let prefix = prefix.trim_end_matches('/');
                if let Some(defined) = planned.get_mut(prefix) {
                    // The instances of the definition stay, and the found instances are added.
                    add_instances(&mut defined.route, service, path);
                } else if planned.len() >= maximum {
                    left_out += 1;
                } else if let Some(route) = found_route(service, path, &paths, &templates) {
                    planned.insert(route.route.prefix().to_owned(), route);
                }
            }
        }
        let mut planned: Vec<_> = planned.into_values().collect();
        // A service of the configuration keeps its paths even if no instance is known. Requests for these paths get
        // 503, not 404.
        for trusted in &self.settings.services {
            let is_planned = planned.iter().any(|it| *it.route.service() == trusted.id);
            let template = trusted.schemes.first().filter(|_| !is_planned);
            planned.extend(template.map(|it| PlannedRoute { route: it.clone(), is_up: false }));
        }
        (planned, left_out)
    }

    fn templates_of<'s>(&'s self, service: &FoundService<'s>) -> Templates<'s> {
        let Some(trusted) = service.trusted else { return Templates::WithoutCredentials };
        let defined: Vec<_> =
            self.defined.iter().filter(|route| *route.service() == service.id).collect();
        // The scheme of a definition has precedence.
        let scheme = defined.first().map_or_else(|| trusted.scheme(), |first| first.scheme());
        Templates::Trusted { service: trusted.service, scheme, defined }
    }

    /// Lists the services of the definitions, and the found services with an instance that is up.
    fn services_of(&self, found: &Found<'_>) -> Vec<ListedService> {
        let mut services = self.listed.clone();
        for service in &found.services {
            let mut up = service.instances.iter().filter(|it| it.is_up()).peekable();
            let Some(first) = up.peek() else { continue };
            let first = *first;
            let instances = up.map(listed_instance);
            match services.iter_mut().find(|listed| listed.id == service.id) {
                Some(defined) => defined.instances.extend(instances),
                None => {
                    let mut described = describe(service, first);
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

/// The settings for the found routes of a service: routes that are in the registry and in no static definition.
enum Templates<'s> {
    /// The service never receives credentials.
    WithoutCredentials,
    Trusted {
        service: &'s TrustedService,
        scheme: ServiceScheme,
        /// The routes of the definitions of the service.
        defined: Vec<&'s ConfiguredRoute>,
    },
}

impl Templates<'_> {
    /// Returns `None` if the path cannot be a route.
    fn route(&self, id: &ServiceId, path: &str, upstream: Upstream) -> Option<ConfiguredRoute> {
        match self {
            Self::WithoutCredentials => {
                ConfiguredRoute::without_credentials(id.clone(), path, upstream).ok()
            }
            Self::Trusted { service, scheme, defined } => {
                let route = service.template(*scheme, path)?.moved(path, upstream).ok()?;
                Some(defined.iter().copied().fold(route, ConfiguredRoute::with_restrictions_of))
            }
        }
    }
}

/// A path that one or more instances of a service have.
struct FoundPath<'f, 'r> {
    first: &'f FoundInstance<'r>,
    /// The address at an instance that is up. If no instance is up, the address at the first instance.
    upstream: &'f Upstream,
    is_up: bool,
}

/// Returns the paths of a found service. An instance that is not up has routes, too, but receives no requests.
fn found_paths<'f, 'r>(service: &'f FoundService<'r>) -> BTreeMap<&'f str, FoundPath<'f, 'r>> {
    let mut paths: BTreeMap<&str, FoundPath<'f, 'r>> = BTreeMap::new();
    for instance in &service.instances {
        for (path, upstream) in &instance.routes {
            let found =
                paths.entry(path).or_insert(FoundPath { first: instance, upstream, is_up: false });
            if instance.is_up() && !found.is_up {
                (found.upstream, found.is_up) = (upstream, true);
            }
        }
    }
    paths
}

/// Plans a route of a found service. Returns `None` if the path cannot be a route.
fn found_route(
    service: &FoundService<'_>,
    path: &str,
    FoundPath { first, upstream, is_up }: &FoundPath<'_, '_>,
    templates: &Templates<'_>,
) -> Option<PlannedRoute> {
    let route = templates.route(&service.id, path, (*upstream).clone())?;
    let mut route = route.with_registered_metadata(&first.instance.metadata);
    add_instances(&mut route, service, path);
    Some(PlannedRoute { route, is_up: *is_up })
}

/// Adds to `route` the instances that are up and that have `path`.
fn add_instances(route: &mut ConfiguredRoute, service: &FoundService<'_>, path: &str) {
    let up = service.instances.iter().filter(|it| it.is_up());
    let with_path = up.filter_map(|found| Some((&*found.instance.id, found.routes.get(path)?)));
    route.add_registered_instances(with_path);
}

/// Returns the checks of the found instances of trusted services. `services` has all instances of each service. A
/// service with only one instance gets no checks, because the gateway has no other instance to choose. An instance of a
/// service that the configuration does not name is never checked, so it gets only requests of clients.
fn checks_of(found: &Found<'_>, services: &[ListedService]) -> Vec<FoundCheck> {
    let mut checks = Vec::new();
    for FoundService { id, trusted, instances } in &found.services {
        let Some(trusted) = trusted else { continue };
        let listed = services.iter().find(|listed| listed.id == *id);
        if listed.is_none_or(|listed| listed.instances.len() < 2) {
            continue;
        }
        let is_bypass = matches!(trusted.scheme(), ServiceScheme::Bypass);
        let up = instances.iter().filter(|it| it.is_up()).map(listed_instance);
        checks.extend(up.filter_map(|instance| FoundCheck::new(id, &instance, is_bypass)));
    }
    checks
}

/// Describes a service by the metadata of `first`, its first instance that is up.
fn describe(service: &FoundService<'_>, first: &FoundInstance<'_>) -> ListedService {
    let metadata = &first.instance.metadata;
    let text = |name: &str| metadata.get(name).filter(|text| !text.is_empty()).cloned();
    let mut listed = ListedService::new(service.id.clone());
    listed.title = text("apiml.service.title");
    listed.description = text("apiml.service.description");
    listed.home_page = first.instance.home_page_url.clone().map(ListedUrl::Direct);
    let scheme = service.trusted.map_or(ServiceScheme::Bypass, |trusted| trusted.scheme());
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

    /// The routes of two static definitions: `/svc/api/v1` and `/static/api/v1`.
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

        fn apply(&mut self, registrations: &[&str]) -> Vec<String> {
            let registry = registry(registrations);
            let found = find(&registry, &self.updater.settings, |id| {
                self.updater.defined.iter().any(|route| route.service() == id)
            });
            let (planned, _) = self.updater.routes_of(&found);
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
    fn a_service_without_instances_keeps_its_paths() {
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
    fn a_definition_sets_authentication_and_instances_are_combined() {
        let keys = "services: {svc: {hosts: a, schemes: [zoweJwt, bypass]}}, others: bypass, otherHosts: a";
        let mut world = World::new(keys, defined());
        let alone =
            ["/static/api/v1 bypass https://defined:2", "/svc/api/v1 zoweJwt https://defined:1/d"];
        assert_eq!(world.apply(&[]), alone);
        // The route has the scheme of the definition, not the scheme of the registration. A service that `services`
        // does not name gets no instance.
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
        // A service that the configuration does not name loses its routes when its registration ends.
        assert_eq!(world.apply(&[]), Vec::<String>::new());
    }

    #[test]
    fn all_found_routes_have_a_limit_and_trusted_services_come_first() {
        let keys = "services: {svc: {hosts: a, schemes: [zoweJwt, bypass]}, z: {hosts: a, schemes: bypass}}, \
                    others: bypass, otherHosts: a, limits: {routes: 4}";
        let mut world = World::new(keys, defined());
        let registrations = [
            "b a s1 a=/ b=/ c=/",
            "svc a s5 api/v1=/x ui/v1=/ui",
            "y a s2 a=/ b=/ c=/",
            "z a s3 a=/ b=/",
        ];
        let mut got = world.apply(&registrations);
        got.iter_mut().for_each(|route| route.truncate(route.find(' ').unwrap()));
        let want = ["/b/a", "/static/api/v1", "/svc/api/v1", "/svc/ui/v1", "/z/a", "/z/b"];
        assert_eq!(got, want);
        assert_eq!(world.updater.apply(&registry(&registrations)).left_out, 5);
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
