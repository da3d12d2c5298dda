//! Reads a registry of Eureka, in which programs register their instances. Selects the services that the gateway uses.

use std::collections::{BTreeMap, BTreeSet};

use passticket_proxy::config::DiscoverySettings;
use tower_passticket::{
    eureka::{Instance, InstanceStatus, Registry},
    layer::Upstream,
    token::ServiceId,
};

use super::trust::{Decision, Refusal, SCHEME, Trusted, decide};

/// The services of a registry that the gateway uses, and the instances that it refuses.
#[derive(Debug, Default)]
pub(super) struct Found<'r> {
    pub(super) services: Vec<FoundService<'r>>,
    pub(super) refused: Vec<Refused<'r>>,
    /// The number of services, instances and routes that were left out because they exceed a limit. The instances and
    /// routes of a service that was left out are not counted.
    pub(super) left_out: usize,
}

#[derive(Debug)]
pub(super) struct Refused<'r> {
    pub(super) service: ServiceId,
    pub(super) instance: &'r Instance,
    pub(super) refusal: Refusal,
}

#[derive(Debug)]
pub(super) struct FoundService<'r> {
    pub(super) id: ServiceId,
    /// The service in the configuration, and its scheme. `None` means that the service never receives credentials.
    pub(super) trusted: Option<Trusted<'r>>,
    pub(super) instances: Vec<FoundInstance<'r>>,
}

#[derive(Debug)]
pub(super) struct FoundInstance<'r> {
    pub(super) instance: &'r Instance,
    /// The key is the path at the gateway without the id of the service, such as `api/v1`. The value is the address at
    /// the instance.
    pub(super) routes: BTreeMap<String, Upstream>,
}

impl FoundInstance<'_> {
    pub(super) fn is_up(&self) -> bool {
        self.instance.status == InstanceStatus::Up
    }
}

/// Reads the services. `is_defined` says whether a static definition contains a service.
pub(super) fn find<'r>(
    registry: &'r Registry,
    settings: &'r DiscoverySettings,
    is_defined: impl Fn(&ServiceId) -> bool,
) -> Found<'r> {
    let mut found = Found::default();
    let mut by_id: BTreeMap<ServiceId, Vec<(Option<Trusted<'r>>, &'r Instance)>> = BTreeMap::new();
    for instance in registry.instances() {
        let Ok(id) = ServiceId::new(&instance.app) else { continue };
        match decide(settings, &id, is_defined(&id), instance) {
            Decision::Trusted(trusted) => {
                by_id.entry(id).or_default().push((Some(trusted), instance));
            }
            Decision::Other => by_id.entry(id).or_default().push((None, instance)),
            Decision::Ignored => {}
            Decision::Refused(refusal) => {
                found.refused.push(Refused { service: id, instance, refusal });
            }
        }
    }
    let position = |trusted: Option<Trusted<'_>>| trusted.map(|it| it.position);
    let mut others = 0;
    for (id, instances) in by_id {
        // Either all instances of a service are trusted, or none of them.
        let trusted = instances.iter().filter_map(|(trusted, _)| *trusted);
        let trusted = trusted.min_by_key(|it| it.position);
        if trusted.is_none() {
            others += 1;
            if others > settings.limits.other_services {
                found.left_out += 1;
                continue;
            }
        }
        let mut service = FoundService { id, trusted, instances: Vec::new() };
        let mut paths =
            Paths { known: BTreeSet::new(), maximum: settings.limits.routes, left_out: 0 };
        for (of_instance, instance) in instances {
            if position(of_instance) != position(trusted) {
                let name = instance.metadata.get(SCHEME).cloned();
                let refusal = Refusal::OtherScheme(name.unwrap_or_default());
                found.refused.push(Refused { service: service.id.clone(), instance, refusal });
            } else if service.instances.len() >= settings.limits.instances {
                found.left_out += 1;
            } else {
                service.instances.extend(FoundInstance::read(instance, &mut paths));
            }
        }
        found.left_out += paths.left_out;
        found.services.push(service);
    }
    found
}

/// The paths of a service, up to a maximum number.
struct Paths<'r> {
    known: BTreeSet<&'r str>,
    maximum: usize,
    left_out: usize,
}

impl<'r> Paths<'r> {
    /// Returns whether the service can have a route for the path. If not, counts the route as left out.
    fn have_space(&mut self, path: &str) -> bool {
        let has_space = self.known.contains(path) || self.known.len() < self.maximum;
        self.left_out += usize::from(!has_space);
        has_space
    }
}

impl<'r> FoundInstance<'r> {
    /// Reads the address and the routes. Returns `None` if the instance has no port.
    fn read(instance: &'r Instance, paths: &mut Paths<'r>) -> Option<Self> {
        let (scheme, port) = match (instance.secure_port, instance.port) {
            (Some(port), _) => ("https", port),
            (None, Some(port)) => ("http", port),
            (None, None) => return None,
        };
        let host = &instance.host;
        let host = if host.contains(':') && !host.starts_with('[') {
            format!("[{host}]")
        } else {
            host.clone()
        };
        let base = format!("{scheme}://{host}:{port}");
        let mut routes = BTreeMap::new();
        for (gateway_url, service_url) in routes_of(&instance.metadata) {
            if !paths.have_space(gateway_url) {
                continue;
            }
            // A route is ignored if its `serviceUrl` does not form a valid address.
            let path = service_url.trim_start_matches('/');
            let Ok(upstream) = Upstream::parse(&format!("{base}/{path}")) else { continue };
            paths.known.insert(gateway_url);
            routes.insert(gateway_url.to_owned(), upstream);
        }
        Some(Self { instance, routes })
    }
}

/// Returns the `gatewayUrl` and the `serviceUrl` of each route. The names of this metadata have exactly four parts,
/// such as `apiml.routes.api-v1.gatewayUrl` (docs/reference/data-plane.md#metadata).
fn routes_of(metadata: &BTreeMap<String, String>) -> impl Iterator<Item = (&str, &str)> {
    metadata.iter().filter_map(|(name, gateway_url)| {
        let id = name.strip_prefix("apiml.routes.")?.strip_suffix(".gatewayUrl")?;
        if id.is_empty() || id.contains('.') {
            return None;
        }
        let service_url = metadata.get(&format!("apiml.routes.{id}.serviceUrl"))?;
        Some((gateway_url.trim().trim_matches('/'), service_url.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::test_settings::{registry, settings};

    /// Returns each service with its scheme, its instances and their routes. Also returns the numbers of refused
    /// instances and of items that were left out.
    fn shown(yaml: &str, registrations: &[&str]) -> (Vec<String>, usize, usize) {
        let settings = settings(yaml);
        let registry = registry(registrations);
        let found = find(&registry, &settings, |_| false);
        let services = found.services.iter().map(|service| {
            let instances = service.instances.iter().map(|it| {
                let routes = it.routes.iter().map(|(path, upstream)| format!(" {path}={upstream}"));
                let port = it.instance.secure_port.or(it.instance.port).unwrap();
                let down = if it.is_up() { "" } else { " DOWN" };
                format!("{}:{port}{down}{}", it.instance.host, routes.collect::<String>())
            });
            let instances: Vec<_> = instances.collect();
            let position = service.trusted.map(|it| it.position);
            format!("{} {position:?}: {}", service.id, instances.join("; "))
        });
        (services.collect(), found.refused.len(), found.left_out)
    }

    #[test]
    fn routes_have_four_parts_and_a_valid_path_and_address() {
        let yaml = "services: {svc: {hosts: [a, '::1'], schemes: bypass, plainHttp: true}}";
        let one = |registration: &str| {
            let (services, refused, _) = shown(yaml, &[registration]);
            assert_eq!(refused, 0);
            services.into_iter().next().unwrap()
        };
        for (metadata, want) in [
            ("api/v1=/x", " api/v1=https://a:1/x"),
            ("/api/v1/=x/y/", " api/v1=https://a:1/x/y"),
            ("api/v1=/ ui/v1=/ui", " api/v1=https://a:1 ui/v1=https://a:1/ui"),
            ("api/v1=/a/../b", ""),
            ("api/v1=/a?b", ""),
            ("api/v1=@evil", " api/v1=https://a:1/@evil"),
            ("api/v1=//evil/x", " api/v1=https://a:1/evil/x"),
            ("apiml.routes.a.b.gatewayUrl:=api/v1", ""),
            ("apiml.routes.x.gatewayUrl:=api/v1", ""),
        ] {
            assert_eq!(
                one(&format!("svc a s1 {metadata}")),
                format!("svc Some(0): a:1{want}"),
                "{metadata}"
            );
        }
        assert_eq!(one("svc ::1 80 api=/"), "svc Some(0): ::1:80 api=http://[::1]");
        assert_eq!(one("svc a s1 status=DOWN"), "svc Some(0): a:1 DOWN");
    }

    #[test]
    fn instances_with_another_scheme_are_refused_and_limits_hold() {
        let yaml = "services: {svc: {hosts: a, schemes: [zoweJwt, bypass]}}, others: bypass, otherHosts: b, \
                    limits: {otherServices: 2, instancesPerService: 2, routesPerService: 1}";
        let (services, refused, left_out) = shown(
            yaml,
            &[
                "svc a s1",
                "svc a s2 scheme=zoweJwt",
                "svc a s3 scheme=zoweJwt",
                "gateway b s1",
                "Wrong! b s1",
            ],
        );
        assert_eq!(services, ["svc Some(0): a:2; a:3"]);
        assert_eq!((refused, left_out), (1, 0));
        let jwt: Vec<_> = (1..=3).map(|port| format!("svc a s{port} scheme=zoweJwt")).collect();
        let jwt: Vec<_> = jwt.iter().map(String::as_str).collect();
        assert_eq!(shown(yaml, &jwt), (vec!["svc Some(0): a:1; a:2".to_owned()], 0, 1));
        let (others, _, left_out) = shown(yaml, &["x b 1", "y b 1", "z b 1"]);
        assert_eq!((others.len(), left_out), (2, 1));
        // The maximum number of routes applies to all instances of a service together.
        let (routes, _, left_out) = shown(yaml, &["x b 1 a=/ b=/", "x b 2 a=/y c=/"]);
        let want = "x None: b:1 a=http://b:1; b:2 a=http://b:2/y";
        assert_eq!((routes, left_out), (vec![want.to_owned()], 2));
    }
}
