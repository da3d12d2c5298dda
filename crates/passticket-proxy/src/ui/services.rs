//! The services of the gateway, and those of them for which users can create tokens.

use std::collections::BTreeMap;

use tower_passticket::{
    api::{ListedService, SharedServices},
    token::{Scope, ScopeAccess, Scopes},
};

use super::{access::Allowed, texts::access as texts};

/// The path of the first route of each service that the configuration defines. The key is the id of the service.
pub(crate) type RoutePaths = BTreeMap<String, String>;

/// A service, as users see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) id: String,
    pub(super) title: Option<String>,
    pub(super) description: Option<String>,
    /// The path of the first route, such as `/files/api/v1`. If [`RoutePaths`] has no path for the service, this is the
    /// path of its default API, or else of its first API. If the service has no API, it is `/ID`.
    pub(super) path: String,
    pub(super) allowed: Allowed,
}

/// The services at the time of a request, sorted by their names.
#[derive(Clone, Debug, Default)]
pub(super) struct Services(Vec<Service>);

impl Services {
    /// Returns the services that the gateway has now. Services of Eureka are not in `paths`. `allowed` are the scopes
    /// that new tokens may have, or `None` if they may have all.
    pub(super) fn current(
        shared: &SharedServices,
        paths: &RoutePaths,
        allowed: Option<&Scopes>,
    ) -> Self {
        let shared = shared.get();
        let new = |service| Service::new(service, paths, allowed);
        let mut services: Vec<_> = shared.iter().map(new).collect();
        services.sort_by_cached_key(|service| (service.name().to_lowercase(), service.id.clone()));
        Self(services)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Service> {
        self.0.iter()
    }

    /// Returns the services for which users can create tokens.
    pub(super) fn offered(&self) -> impl Iterator<Item = &Service> {
        self.0.iter().filter(|service| service.is_offered())
    }

    pub(super) fn find(&self, id: &str) -> Option<&Service> {
        self.0.iter().find(|service| service.id == id)
    }

    /// Returns the service of a scope of a token. The id of the service may be followed by a colon and a restriction.
    pub(super) fn of_scope(&self, scope: &str) -> Option<&Service> {
        self.find(scope.split(':').next().unwrap_or(scope))
    }

    /// Returns a scope of a token as users read it: the name of the service, and what the token may do there.
    pub(super) fn readable(&self, scope: &str) -> String {
        // Tokens of other gateways may have scopes that this version does not know.
        let Ok(parsed) = Scope::new(scope) else { return scope.to_owned() };
        let name = self.of_scope(scope).map_or(parsed.service().as_str(), Service::name);
        match parsed.access() {
            ScopeAccess::Any => name.to_owned(),
            ScopeAccess::Read => texts::read_only(name),
            ScopeAccess::Path(path) => texts::below(name, path.as_str()),
            _ => scope.to_owned(),
        }
    }
}

impl Service {
    fn new(service: &ListedService, paths: &RoutePaths, allowed: Option<&Scopes>) -> Self {
        let id = service.id.to_string();
        let is_blank = |text: &String| text.trim().is_empty();
        let api = service.apis.iter().find(|api| api.is_default).or(service.apis.first());
        let of_api = || api.map(|api| format!("/{id}/{}", api.gateway_url));
        let path = paths.get(&id).cloned().or_else(of_api).unwrap_or_else(|| format!("/{id}"));
        Self {
            title: service.title.clone().filter(|title| !is_blank(title)),
            description: service.description.clone().filter(|text| !is_blank(text)),
            path,
            allowed: Allowed::of(allowed, &service.id),
            id,
        }
    }

    pub(super) fn is_offered(&self) -> bool {
        !self.allowed.accesses().is_empty()
    }

    /// Returns the title, or the id if there is no title.
    pub(super) fn name(&self) -> &str {
        self.title.as_deref().unwrap_or(&self.id)
    }
}

#[cfg(test)]
mod tests {
    use tower_passticket::{api::ListedApi, token::ServiceId};

    use super::*;

    #[test]
    fn services_are_sorted_by_name_and_found_by_scope() {
        let service = |id: &str, title: &str, url: Option<&str>| {
            let mut service = ListedService::new(ServiceId::new(id).unwrap());
            service.title = Some(title.to_owned());
            service.apis.extend(url.map(|url| ListedApi::new("a", url)));
            service
        };
        let shared = SharedServices::new([
            service("c", " ", None),
            service("a", "Zulu", Some("api/v1")),
            service("b", "alpha", None),
        ]);
        let paths = RoutePaths::from([("c".to_owned(), "/c/x".to_owned())]);
        let services = Services::current(&shared, &paths, None);
        let names: Vec<_> = services.offered().map(Service::name).collect();
        assert_eq!(names, ["alpha", "c", "Zulu"]);
        assert_eq!(services.of_scope("a:read").unwrap().path, "/a/api/v1");
        assert_eq!(services.of_scope("b").unwrap().path, "/b");
        assert_eq!(services.of_scope("c").unwrap().path, "/c/x");
        assert_eq!(services.of_scope("x"), None);
        for (scope, want) in [
            ("a", "Zulu"),
            ("a:read", "Zulu, read only"),
            ("b:/x/y", "alpha, only /x/y and below"),
            ("c:read", "c, read only"),
            ("x", "x"),
            ("x:/", "x, only / and below"),
            ("a:write", "a:write"),
            ("", ""),
        ] {
            assert_eq!(services.readable(scope), want, "{scope}");
        }
        let allowed = Scopes::parse(["b", "a:read", "x"]).unwrap();
        let services = Services::current(&shared, &paths, Some(&allowed));
        let names: Vec<_> = services.offered().map(Service::name).collect();
        assert_eq!(names, ["alpha", "Zulu"]);
        // An old token may be for a service that is not offered now, so `of_scope` also finds such services.
        assert!(services.of_scope("c").is_some());
    }
}
