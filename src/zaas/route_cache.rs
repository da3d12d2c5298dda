//! The routes of the scheme endpoints. Each request gets a route, so that the layers treat it like a request to the
//! service.

use std::sync::Arc;

use quick_cache::sync::Cache;

use super::source::{SchemeSource, SchemeTarget};
use crate::{
    compatibility::Compatibility,
    layer::{AcceptedPats, OnFailure, Route},
    token::ServiceId,
};

/// The maximum number of routes that are kept. A gateway may name any application and any service.
const CAPACITY: usize = 1_000;

/// The service in the log and in audit records if the gateway has named no service.
const UNNAMED: &str = "zaas";

pub(super) struct RouteCache {
    source: Box<dyn SchemeSource>,
    kept: Cache<Key, Arc<Route>>,
    unnamed: ServiceId,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    target: SchemeTarget,
    service: Option<ServiceId>,
}

impl RouteCache {
    pub(super) fn new(source: impl SchemeSource) -> Self {
        let unnamed = ServiceId::new(UNNAMED).expect("four letters are a service id");
        Self { source: Box::new(source), kept: Cache::new(CAPACITY), unnamed }
    }

    /// Returns `None` if the source has no scheme for `target`.
    pub(super) fn get(
        &self,
        target: &SchemeTarget,
        service: Option<ServiceId>,
    ) -> Option<Arc<Route>> {
        let key = Key { target: target.clone(), service };
        if let Some(route) = self.kept.get(&key) {
            return Some(route);
        }
        let scheme = self.source.scheme(target, key.service.as_ref())?;
        let route = Arc::new(self.route(key.service.clone()).with_scheme(scheme));
        self.kept.insert(key, route.clone());
        Some(route)
    }

    /// Returns a route for a request that gets no credential from a scheme, because it is malformed or its scheme does
    /// not exist.
    pub(super) fn without_scheme(&self, service: Option<ServiceId>) -> Arc<Route> {
        Arc::new(self.route(service))
    }

    fn route(&self, service: Option<ServiceId>) -> Route {
        let (service, pats) = match service {
            // A scope with a suffix depends on the method or the path of the client's request. The gateway sends
            // neither, so such a scope permits nothing here.
            Some(service) => (service, AcceptedPats::ForWholeService),
            None => (self.unnamed.clone(), AcceptedPats::Never),
        };
        Route::local(service)
            .with_on_failure(OnFailure::Reject)
            .with_compatibility(Compatibility::ZoweV3)
            .with_accepted_pats(pats)
    }
}
