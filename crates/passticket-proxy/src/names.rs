//! Regularly resolves the host names of services. If a name has lost an address, closes the connections to this name.
//!
//! A new connection is always made to the current addresses. But without this module, a connection that is always in
//! use would stay at its old address, for example after a service has moved to another system.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    time::Duration,
};

use passticket_proxy::config::Config;
use tokio::{
    net::lookup_host,
    time::{MissedTickBehavior, interval, timeout},
};
use tower_passticket::{
    layer::{Route, Routes, SharedRoutes, Upstream},
    proxy::ServiceConnections,
};

/// The interval between two look-ups of a name.
const RESOLVE_EVERY: Duration = Duration::from_secs(30);

const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// The maximum number of host names of services from Eureka that are resolved. Any program that can register a service
/// chooses the host names of its instances, so the number of names must be limited.
const MAX_FOUND_NAMES: usize = 500;

pub(crate) fn of_services(config: &Config) -> BTreeSet<String> {
    let instances = config.routes.iter().flat_map(|route| route.instances());
    instances.map(Upstream::host).filter(|host| is_name(host)).map(str::to_owned).collect()
}

fn is_name(host: &str) -> bool {
    host.trim_matches(['[', ']']).parse::<IpAddr>().is_err()
}

/// Returns `names`, and at most `maximum` other host names of `routes`. Routes that are out of service are ignored.
fn with_names_of(names: &BTreeSet<String>, routes: &Routes, maximum: usize) -> BTreeSet<String> {
    let maximum = names.len() + maximum;
    let mut names = names.clone();
    for instances in routes.iter().filter(|it| !it.is_out_of_service()).filter_map(Route::instances)
    {
        for instance in instances.list().iter() {
            let host = instance.upstream().host();
            if names.len() < maximum && is_name(host) && !names.contains(host) {
                names.insert(host.to_owned());
            }
        }
    }
    names
}

/// Resolves `names` and the names in the current `routes` every 30 s, one after the other. If a name has lost an
/// address, closes the connections to this name. Runs until its task is aborted, or until the connections are not used
/// any more.
pub(crate) async fn watch<C, B>(
    names: BTreeSet<String>,
    routes: SharedRoutes,
    connections: ServiceConnections<C, B>,
) {
    let mut known = Known::default();
    let mut ticks = interval(RESOLVE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while connections.are_used() {
        ticks.tick().await;
        let names = with_names_of(&names, &routes.current(), MAX_FOUND_NAMES);
        known.0.retain(|name, _| names.contains(name));
        for name in &names {
            let found = timeout(LOOKUP_TIMEOUT, lookup_host((name.as_str(), 0))).await;
            let found = found.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            let found = match found {
                Ok(found) => found.map(|it| it.ip()),
                Err(error) => {
                    // The connections are kept, because the name server may be down.
                    tracing::debug!(name, %error, "cannot find the addresses of a service");
                    continue;
                }
            };
            if known.update(name, found) {
                tracing::info!(
                    name,
                    "a host name of a service has lost an address; closing its connections"
                );
                connections.retire(name);
            }
        }
    }
}

/// The addresses of each name at the last look-up that found any.
#[derive(Default)]
struct Known(BTreeMap<String, BTreeSet<IpAddr>>);

impl Known {
    /// Replaces the addresses of a name. If `found` is empty, the addresses stay. Returns whether the name has lost an
    /// address.
    fn update(&mut self, name: &str, found: impl Iterator<Item = IpAddr>) -> bool {
        let found: BTreeSet<_> = found.collect();
        if found.is_empty() {
            return false;
        }
        let before = self.0.insert(name.to_owned(), found.clone());
        before.is_some_and(|before| !before.is_subset(&found))
    }
}

#[cfg(test)]
mod tests {
    use tower_passticket::{layer::Bypass, token::ServiceId};

    use super::*;

    #[test]
    fn names_of_found_services_are_resolved_up_to_a_maximum() {
        let route = |id: &str, url: &str| {
            let (id, url) = (ServiceId::new(id).unwrap(), url.parse().unwrap());
            Route::new(id, "api", url, Bypass).unwrap()
        };
        let routes = Routes::new([
            route("a", "https://zos1"),
            route("b", "https://10.0.0.1"),
            route("c", "https://zos2"),
            route("d", "https://down").out_of_service(),
        ]);
        let (routes, defined) = (routes.unwrap(), BTreeSet::from(["zos1".to_owned()]));
        let names =
            |maximum| with_names_of(&defined, &routes, maximum).into_iter().collect::<Vec<_>>();
        assert_eq!(names(5), ["zos1", "zos2"]);
        assert_eq!(names(0), ["zos1"]);
    }

    #[test]
    fn a_name_loses_an_address_only_if_the_last_look_up_had_it() {
        let mut known = Known::default();
        for (found, has_lost) in [
            (&["10.0.0.1"][..], false),
            (&["10.0.0.1", "10.0.0.2"], false),
            (&["10.0.0.2", "10.0.0.1"], false),
            (&[], false),
            (&["10.0.0.2"], true),
            (&["10.0.0.2"], false),
            (&["10.0.0.3", "::1"], true),
        ] {
            let found = found.iter().map(|it| it.parse().unwrap());
            assert_eq!(known.update("zos", found), has_lost);
        }
        assert!(!known.update("other", ["10.0.0.9".parse().unwrap()].into_iter()));
    }
}
