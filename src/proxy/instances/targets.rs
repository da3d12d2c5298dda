//! The instances of a route, with the connections and the state of each.

use std::sync::Arc;

use http::Uri;
use hyper::{
    body::Body,
    rt::{Read, Write},
};
use tower::BoxError;
use tower_service::Service;

use super::{
    choose::{by_load, by_user},
    retry_budget::RetryBudget,
    state::{InFlight, InstanceState},
    states::InstanceStates,
};
use crate::{
    layer::{Balancing, Instance, Instances, Route, ServiceProtocol, Upstream},
    passticket::UserId,
    proxy::{
        pool::{ConnectionPool, HostPool},
        request_body::RequestBody,
    },
    token::ServiceId,
};

/// The connections that one connector has made, for requests with the body `B`.
pub(in crate::proxy) type Pool<C, B> = ConnectionPool<C, RequestBody<B>>;

/// The connections on which a request to one instance can be sent: idle HTTP/1.1 connections, and all HTTP/2
/// connections.
pub(in crate::proxy) type Host<B> = HostPool<RequestBody<B>>;

/// The instances of a route, with their connections in one runtime of tokio. Runtimes do not share connections.
pub(in crate::proxy) struct ServiceTargets<C, B> {
    pub(in crate::proxy) pool: Arc<Pool<C, B>>,
    pub(in crate::proxy) budget: Arc<RetryBudget>,
    service: ServiceId,
    balancing: Balancing,
    targets: Box<[Target<B>]>,
}

pub(in crate::proxy) struct Target<B> {
    instance: Instance,
    pub(in crate::proxy) host: Arc<Host<B>>,
    pub(in crate::proxy) state: Arc<InstanceState>,
}

impl<B> Target<B> {
    pub(in crate::proxy) fn upstream(&self) -> &Upstream {
        self.instance.upstream()
    }
}

impl<B> AsRef<InstanceState> for Target<B> {
    fn as_ref(&self) -> &InstanceState {
        &self.state
    }
}

#[derive(Clone, Copy, Debug)]
pub(in crate::proxy) enum Wanted<'a> {
    /// The client has not chosen an instance. With [`Balancing::StickyUser`] and a user, the user decides which
    /// instance gets the request. Without sticky users, or for a request without a user, the load decides.
    Any(Option<UserId>),
    Id(&'a [u8]),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum NoInstance {
    Empty,
    UnknownId,
}

impl<C, B> ServiceTargets<C, B>
where
    C: Service<Uri, Error: Into<BoxError>, Future: Send> + Clone + Send + 'static,
    C::Response: Read + Write + Unpin + Send + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    /// Finds the connections and the states of `instances`, which are the instances of `route`.
    pub(in crate::proxy) fn new(
        route: &Route,
        instances: &Instances,
        pool: Arc<Pool<C, B>>,
        states: &InstanceStates,
    ) -> Result<Self, http::Error> {
        let list = instances.list();
        let (service, protocol) = (route.service(), route.protocol());
        let (budget, states) = states.of(service, list.iter().map(Instance::upstream));
        let targets = list.iter().zip(states).map(|(instance, state)| {
            let host = pool.host(instance.upstream(), protocol)?;
            Ok(Target { instance: instance.clone(), host, state })
        });
        let targets = targets.collect::<Result<_, http::Error>>()?;
        let (service, balancing) = (service.clone(), instances.balancing());
        Ok(Self { pool, budget, service, balancing, targets })
    }

    /// Returns the same instances, with connections for another version of HTTP.
    #[cold]
    pub(in crate::proxy) fn with_protocol(
        &self,
        protocol: ServiceProtocol,
    ) -> Result<Self, http::Error> {
        let targets = self.targets.iter().map(|target| {
            let Target { instance, state, .. } = target;
            let host = self.pool.host(instance.upstream(), protocol)?;
            Ok(Target { instance: instance.clone(), host, state: state.clone() })
        });
        Ok(Self {
            pool: self.pool.clone(),
            budget: self.budget.clone(),
            service: self.service.clone(),
            balancing: self.balancing,
            targets: targets.collect::<Result<_, http::Error>>()?,
        })
    }
}

impl<C, B> ServiceTargets<C, B> {
    pub(in crate::proxy) fn get(&self, at: usize) -> &Target<B> {
        &self.targets[at]
    }

    pub(in crate::proxy) fn service(&self) -> &ServiceId {
        &self.service
    }

    pub(in crate::proxy) fn are_several(&self) -> bool {
        self.targets.len() > 1
    }

    /// Chooses an instance for a new request, and returns its position.
    pub(in crate::proxy) fn choose(&self, wanted: Wanted<'_>) -> Result<usize, NoInstance> {
        match wanted {
            Wanted::Id(id) => self.find(id).ok_or(NoInstance::UnknownId),
            Wanted::Any(_) if self.targets.len() == 1 => Ok(0),
            Wanted::Any(_) if self.targets.is_empty() => Err(NoInstance::Empty),
            Wanted::Any(user) => Ok(self.choose_of_several(user, None)),
        }
    }

    /// Chooses another instance after the one at `failed` has failed.
    #[cold]
    pub(in crate::proxy) fn choose_other(&self, user: Option<UserId>, failed: usize) -> usize {
        self.choose_of_several(user, Some(failed))
    }

    fn choose_of_several(&self, user: Option<UserId>, except: Option<usize>) -> usize {
        match (self.balancing, user) {
            (Balancing::StickyUser, Some(user)) => {
                let instances = self.targets.iter().map(|it| (it.instance.id(), it));
                by_user(instances, except, self.service.as_str(), user.as_str())
            }
            _ => by_load(&self.targets, except, |below| fastrand::usize(..below)),
        }
    }

    #[cold]
    fn find(&self, id: &[u8]) -> Option<usize> {
        self.targets.iter().position(|target| target.instance.id().as_bytes() == id)
    }

    /// Returns whether all requests of a user go to the same instance.
    pub(in crate::proxy) fn is_sticky(&self) -> bool {
        self.balancing == Balancing::StickyUser
    }

    /// Counts a request at the instance at this position. If the route has only one instance, counts nothing and
    /// returns `None`.
    pub(in crate::proxy) fn begin(&self, at: usize) -> Option<InFlight> {
        self.are_several().then(|| self.get(at).state.begin())
    }
}
