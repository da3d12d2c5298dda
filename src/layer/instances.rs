//! The instances of a service.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::upstream::Upstream;
use crate::token::ServiceId;

/// One server of a service: its address and its id.
///
/// A client can choose an instance by its id, with the header `X-InstanceId`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    id: Arc<str>,
    upstream: Upstream,
}

impl Instance {
    /// Creates an instance with this id.
    pub fn new(id: impl Into<Arc<str>>, upstream: Upstream) -> Self {
        Self { id: id.into(), upstream }
    }

    /// Creates an instance with the usual id of an instance in Eureka: `host:service:port`.
    pub fn of_service(service: &ServiceId, upstream: Upstream) -> Self {
        Self::new(format!("{}:{service}:{}", upstream.host(), upstream.port()), upstream)
    }

    /// Creates an instance with the id of an instance in a static definition of Zowe: `STATIC-host:service:port`.
    pub fn fixed(service: &ServiceId, upstream: Upstream) -> Self {
        Self::new(format!("STATIC-{}:{service}:{}", upstream.host(), upstream.port()), upstream)
    }

    /// Returns the id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the address. Its base path replaces the prefix of the route.
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }
}

/// How the gateway chooses an instance for a request. If the gateway could not connect to an instance, it later sends
/// single requests to this instance, to test whether the instance works again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Balancing {
    /// The gateway picks two healthy instances at random. Of these two, the instance with fewer requests in flight gets
    /// the request. An instance is not healthy while the gateway cannot connect to it, or while its health check fails.
    /// If no instance is healthy, all count as healthy.
    #[default]
    LeastInFlight,
    /// All requests of a user go to the same instance while it is healthy. The choice depends only on the user, the
    /// service and the ids of the healthy instances. So if the same instances are healthy for two nodes of the gateway,
    /// both nodes choose the same instance. For requests without a user, this is the same as
    /// [`LeastInFlight`](Self::LeastInFlight).
    StickyUser,
}

/// The instances of a route. They can be replaced while requests are in flight.
///
/// ```
/// use tower_passticket::{
///     layer::{Bypass, Instance, Instances, Route, Upstream},
///     token::ServiceId,
/// };
///
/// let service = ServiceId::new("files")?;
/// let first: Upstream = "https://zos1.example.com:7554/files".parse()?;
/// let second: Upstream = "https://zos2.example.com:7554/files".parse()?;
/// let instances = [first.clone(), second].map(|upstream| Instance::of_service(&service, upstream));
/// let route = Route::new(service, "api/v1", first, Bypass)?.with_instances(Instances::new(instances));
/// let ids: Vec<_> = route.instances().unwrap().list().iter().map(|it| it.id().to_owned()).collect();
/// assert_eq!(ids, ["zos1.example.com:files:7554", "zos2.example.com:files:7554"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Instances {
    /// Changes after each change of `list`. A reader caches the list. For each request, it compares this number instead
    /// of taking the lock.
    generation: AtomicU64,
    list: Mutex<Arc<[Instance]>>,
    balancing: Balancing,
}

impl Instances {
    /// Creates a list of instances. While the list is empty, the proxy answers 503. With the profile
    /// [`ZoweV3`](super::Compatibility::ZoweV3), it answers 500.
    pub fn new(instances: impl IntoIterator<Item = Instance>) -> Self {
        Self {
            generation: AtomicU64::new(0),
            list: Mutex::new(instances.into_iter().collect()),
            balancing: Balancing::default(),
        }
    }

    /// Sets how the gateway chooses an instance for a request.
    #[must_use]
    pub fn with_balancing(self, balancing: Balancing) -> Self {
        Self { balancing, ..self }
    }

    /// Replaces all instances. Requests in flight do not change their instance.
    pub fn replace(&self, instances: impl IntoIterator<Item = Instance>) {
        let new = instances.into_iter().collect();
        // `_old` is dropped after the lock is released.
        let _old = std::mem::replace(&mut *self.lock(), new);
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Returns the current instances.
    pub fn list(&self) -> Arc<[Instance]> {
        self.lock().clone()
    }

    /// Returns how the gateway chooses an instance.
    pub fn balancing(&self) -> Balancing {
        self.balancing
    }

    /// Returns a number that changes after each change of the list. To cache the list, read this number first, and then
    /// the list. In the other order, the reader misses a change between the two reads.
    #[cfg_attr(not(feature = "proxy"), expect(dead_code, reason = "only the proxy caches lists"))]
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Arc<[Instance]>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Instances {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instances")
            .field("list", &self.list())
            .field("balancing", &self.balancing)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(instances: &Instances) -> Vec<String> {
        instances.list().iter().map(|it| it.id().to_owned()).collect()
    }

    #[test]
    fn an_id_contains_host_service_and_port() {
        let service = ServiceId::new("svc").unwrap();
        for (url, want) in [
            ("https://zos.example:10012/base", "zos.example:svc:10012"),
            ("https://zos.example", "zos.example:svc:443"),
            ("http://[::1]/x", "[::1]:svc:80"),
        ] {
            let upstream: Upstream = url.parse().unwrap();
            assert_eq!(Instance::of_service(&service, upstream.clone()).id(), want);
            assert_eq!(Instance::fixed(&service, upstream).id(), format!("STATIC-{want}"));
        }
    }

    #[test]
    fn a_new_list_has_a_new_generation() {
        let instance = |id: &str| Instance::new(id, "http://a".parse().unwrap());
        let instances = Instances::new([instance("a"), instance("b")]);
        let before = instances.generation();
        assert_eq!(ids(&instances), ["a", "b"]);
        instances.replace([instance("c")]);
        assert_eq!(ids(&instances), ["c"]);
        assert_ne!(instances.generation(), before);
    }
}
