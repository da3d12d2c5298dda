//! A route as the configuration describes it: with the name of its scheme, but without the implementation of the
//! scheme.
//!
//! A scheme decides which credential the service receives. The implementation of a scheme needs objects
//! that the program makes later, such as a generator of PassTickets. A PassTicket is a short-lived
//! password of z/OS for one application. An APPLID is the name of this application in the security
//! product.

use std::{collections::BTreeMap, time::Duration};

use http::HeaderName;

use super::metadata::{ENCODED_CHARACTERS, LOAD_BALANCING, RESPONSE_TIMEOUT};
use tower_passticket::{
    layer::{
        Balancing, CertificateHeader, ClientBasic, EncodedPaths, Instance, Instances, Mode,
        OnFailure, RateLimit, Route, RouteError, RouteLimits, Scheme, SchemeError, SchemeFuture,
        SchemeRequest, SecurityHeaders, ServiceProtocol, Upstream,
    },
    passticket::Applid,
    ticket_breaker::RefusedStatuses,
    token::ServiceId,
};

/// The scheme of a service (`authentication.scheme`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceScheme {
    /// `httpBasicPassTicket`.
    HttpBasicPassTicket {
        /// The APPLID for which the service accepts PassTickets.
        applid: Applid,
    },
    /// `zoweJwt`.
    ZoweJwt,
    /// `zosmf`.
    Zosmf,
    /// `x509`.
    X509 {
        /// The headers that the service receives.
        headers: CertificateHeaders,
    },
    /// `safIdt`.
    SafIdt {
        /// The APPLID for which the service accepts SAF identity tokens.
        applid: Applid,
    },
    /// `bypass`.
    Bypass,
}

/// A set of [`CertificateHeader`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CertificateHeaders([bool; CertificateHeader::ALL.len()]);

impl CertificateHeaders {
    /// Returns the headers in the set.
    pub fn iter(self) -> impl Iterator<Item = CertificateHeader> {
        let all = CertificateHeader::ALL.into_iter().zip(self.0);
        all.filter_map(|(header, is_present)| is_present.then_some(header))
    }
}

impl FromIterator<CertificateHeader> for CertificateHeaders {
    fn from_iter<I: IntoIterator<Item = CertificateHeader>>(headers: I) -> Self {
        let headers: Vec<_> = headers.into_iter().collect();
        Self(CertificateHeader::ALL.map(|header| headers.contains(&header)))
    }
}

impl ServiceScheme {
    /// Returns the name of the scheme in the metadata of a service.
    pub fn name(self) -> &'static str {
        match self {
            Self::HttpBasicPassTicket { .. } => "httpBasicPassTicket",
            Self::ZoweJwt => "zoweJwt",
            Self::Zosmf => "zosmf",
            Self::X509 { .. } => "x509",
            Self::SafIdt { .. } => "safIdt",
            Self::Bypass => "bypass",
        }
    }

    /// Returns the APPLID of the service, if the scheme needs PassTickets for this APPLID. Otherwise returns `None`.
    /// The scheme `zosmf` needs PassTickets for the APPLID of z/OSMF, which is not a setting of the service.
    pub fn applid(self) -> Option<Applid> {
        match self {
            Self::HttpBasicPassTicket { applid } | Self::SafIdt { applid } => Some(applid),
            Self::ZoweJwt | Self::Zosmf | Self::X509 { .. } | Self::Bypass => None,
        }
    }
}

/// A route without the implementation of its scheme. [`with_scheme`](Self::with_scheme) adds the implementation.
#[derive(Clone, Debug)]
pub struct ConfiguredRoute {
    pub(super) route: Route,
    pub(super) scheme: ServiceScheme,
    /// The instances, each with the path of this route.
    instances: Vec<Upstream>,
    /// The ids of registered instances. All other instances come from static definitions, and get an id such as
    /// `STATIC-host:service:port`.
    ids: Vec<(Upstream, String)>,
    balancing: Balancing,
    refused: RefusedStatuses,
}

impl ConfiguredRoute {
    pub(super) fn new(
        service: ServiceId,
        gateway_url: &str,
        upstream: Upstream,
        scheme: ServiceScheme,
    ) -> Result<Self, RouteError> {
        let instances = vec![upstream.clone()];
        let route = Route::new(service, gateway_url, upstream, Missing)?;
        let balancing = Balancing::default();
        let refused = RefusedStatuses::default();
        let mut configured = Self { route, scheme, instances, ids: Vec::new(), balancing, refused };
        configured.update_route();
        Ok(configured)
    }

    /// Creates a route without authentication, on which the service never receives a credential of a client.
    ///
    /// # Errors
    /// [`RouteError`] if `gateway_url` cannot be part of a path.
    pub fn without_credentials(
        service: ServiceId,
        gateway_url: &str,
        upstream: Upstream,
    ) -> Result<Self, RouteError> {
        let this = Self::new(service, gateway_url, upstream, ServiceScheme::Bypass)?;
        Ok(Self { route: this.route.without_credentials(), ..this })
    }

    /// Returns a copy of this route with other paths and another upstream. The copy has the same scheme and settings,
    /// and leads from the paths `/{service}/{gateway_url}/…` to `upstream`.
    ///
    /// # Errors
    /// [`RouteError`] if `gateway_url` cannot be part of a path.
    pub fn moved(&self, gateway_url: &str, upstream: Upstream) -> Result<Self, RouteError> {
        let route = self.route.moved(gateway_url, upstream.clone())?;
        let mut moved = Self { route, instances: vec![upstream], ids: Vec::new(), ..self.clone() };
        moved.update_route();
        Ok(moved)
    }

    /// Applies three values from the metadata of a registration: the response timeout, the load balancing, and the rule
    /// for encoded characters. If the route already has a response timeout, this timeout stays.
    #[must_use]
    pub fn with_registered_metadata(mut self, metadata: &BTreeMap<String, String>) -> Self {
        let timeout = metadata.get(RESPONSE_TIMEOUT).and_then(|text| text.trim().parse().ok());
        if let Some(timeout) = timeout.filter(|timeout| (1..=86_400_000).contains(timeout))
            && self.response_timeout().is_none()
        {
            self = self.with_response_timeout(Duration::from_millis(timeout));
        }
        if metadata.get(LOAD_BALANCING).is_some_and(|text| text.trim() == "authentication") {
            self.set_balancing(Balancing::StickyUser);
        }
        match metadata.get(ENCODED_CHARACTERS).map(|text| text.trim()) {
            None | Some("") => self,
            Some(text) if text.eq_ignore_ascii_case("true") => self,
            Some(_) => self.with_encoded_paths(EncodedPaths::Refuse),
        }
    }

    /// Adds the restrictions of the route `other` to the restrictions of this route. `other` comes from a definition of
    /// the same service. If `other` sends all requests of a user to one instance, this route does so, too.
    #[must_use]
    pub fn with_restrictions_of(mut self, other: &Self) -> Self {
        if other.balancing() == Balancing::StickyUser {
            self.set_balancing(Balancing::StickyUser);
        }
        match other.encoded_paths() {
            EncodedPaths::Refuse => self.with_encoded_paths(EncodedPaths::Refuse),
            _ => self,
        }
    }

    /// Adds registered instances, each with its id. Clients can name the id in `X-InstanceId`. If the route already has
    /// an instance with the same host and port, but another URL, the registered instance is ignored. So a registration
    /// cannot change an instance of a definition.
    pub fn add_registered_instances<'r>(
        &mut self,
        instances: impl IntoIterator<Item = (&'r str, &'r Upstream)>,
    ) {
        for (id, upstream) in instances {
            let is_same =
                |it: &&Upstream| (it.host(), it.port()) == (upstream.host(), upstream.port());
            match self.instances.iter().find(is_same) {
                Some(known) if known != upstream => continue,
                Some(_) => {}
                None => self.instances.push(upstream.clone()),
            }
            self.ids.push((upstream.clone(), id.to_owned()));
        }
        self.update_route();
    }

    /// Adds instances. As in Zowe's API Mediation Layer (API ML), an instance replaces an earlier one with the same
    /// host and port.
    pub(super) fn add_instances(&mut self, instances: impl IntoIterator<Item = Upstream>) {
        for instance in instances {
            let place = |it: &Upstream| (it.host().to_owned(), it.port());
            match self.instances.iter_mut().find(|known| place(known) == place(&instance)) {
                Some(known) => *known = instance,
                None => self.instances.push(instance),
            }
        }
        self.update_route();
    }

    pub(super) fn set_balancing(&mut self, balancing: Balancing) {
        self.balancing = balancing;
        self.update_route();
    }

    fn update_route(&mut self) {
        let instance = |upstream: &Upstream| {
            let id =
                self.ids.iter().find(|(known, _)| known == upstream).map(|(_, id)| id.as_str());
            match id {
                Some(id) => Instance::new(id, upstream.clone()),
                None => Instance::fixed(self.service(), upstream.clone()),
            }
        };
        let instances = Instances::new(self.instances.iter().map(instance));
        let route = self.route.clone();
        self.route = route.with_instances(instances.with_balancing(self.balancing));
    }

    /// Returns how the gateway chooses an instance for a request.
    pub fn balancing(&self) -> Balancing {
        self.balancing
    }

    pub(super) fn with_refused_statuses(self, refused: RefusedStatuses) -> Self {
        Self { refused, ..self }
    }

    /// Returns the statuses by which the service refuses a PassTicket.
    pub fn refused_statuses(&self) -> RefusedStatuses {
        self.refused
    }

    pub(super) fn with_on_failure(self, on_failure: OnFailure) -> Self {
        Self { route: self.route.with_on_failure(on_failure), ..self }
    }

    pub(super) fn with_mode(self, mode: Mode) -> Self {
        Self { route: self.route.with_mode(mode), ..self }
    }

    pub(super) fn with_security_headers(self, security_headers: SecurityHeaders) -> Self {
        Self { route: self.route.with_security_headers(security_headers), ..self }
    }

    pub(super) fn with_body_timeout(self, body_timeout: Duration) -> Self {
        Self { route: self.route.with_body_timeout(body_timeout), ..self }
    }

    pub(super) fn with_response_timeout(self, response_timeout: Duration) -> Self {
        Self { route: self.route.with_response_timeout(response_timeout), ..self }
    }

    pub(super) fn with_protocol(self, protocol: ServiceProtocol) -> Self {
        Self { route: self.route.with_protocol(protocol), ..self }
    }

    pub(super) fn with_encoded_paths(self, encoded_paths: EncodedPaths) -> Self {
        Self { route: self.route.with_encoded_paths(encoded_paths), ..self }
    }

    pub(super) fn with_limits(self, limits: RouteLimits) -> Self {
        Self { route: self.route.with_limits(limits), ..self }
    }

    pub(super) fn with_rate_limit(self, rate_limit: RateLimit) -> Self {
        Self { route: self.route.with_rate_limit(rate_limit), ..self }
    }

    pub(super) fn with_client_basic(self, client_basic: ClientBasic) -> Self {
        Self { route: self.route.with_client_basic(client_basic), ..self }
    }

    /// Returns the instances of the service, each with the path of this route.
    pub fn instances(&self) -> impl Iterator<Item = &Upstream> {
        self.instances.iter()
    }

    /// Returns the id of the service.
    pub fn service(&self) -> &ServiceId {
        self.route.service()
    }

    /// Returns the prefix of all paths of this route.
    pub fn prefix(&self) -> &str {
        self.route.prefix()
    }

    /// Returns whether the gateway enforces its decisions about requests to the service.
    pub fn mode(&self) -> Mode {
        self.route.mode()
    }

    /// Says whether the gateway forwards or rejects a request if authentication or the scheme fails.
    pub fn on_failure(&self) -> OnFailure {
        self.route.on_failure()
    }

    /// Returns whether the gateway adds security headers to the responses of the service.
    pub fn security_headers(&self) -> SecurityHeaders {
        self.route.security_headers()
    }

    /// Returns how long the service may pause in the body of a response. `None` means that
    /// `TimeoutSettings::service_body` applies.
    pub fn body_timeout(&self) -> Option<Duration> {
        self.route.body_timeout()
    }

    /// Returns how long the service may take to begin its response. `None` means that `TimeoutSettings::response`
    /// applies.
    pub fn response_timeout(&self) -> Option<Duration> {
        self.route.response_timeout()
    }

    /// Returns whether the gateway forwards or refuses a path that has encoded characters.
    pub fn encoded_paths(&self) -> EncodedPaths {
        self.route.encoded_paths()
    }

    /// Returns the methods, paths and sizes that the route allows. `None` if everything is allowed.
    pub fn limits(&self) -> Option<&RouteLimits> {
        self.route.limits()
    }

    /// Returns how many requests each client may send to the service. `None` if there is no limit.
    pub fn rate_limit(&self) -> Option<RateLimit> {
        self.route.rate_limit()
    }

    /// Returns how the gateway treats `Authorization: Basic` of a client.
    pub fn client_basic(&self) -> ClientBasic {
        self.route.client_basic()
    }

    /// Returns the scheme in the configuration.
    pub fn scheme(&self) -> ServiceScheme {
        self.scheme
    }

    /// Returns the route with an implementation of its scheme. `scheme` must implement the scheme that
    /// [`scheme`](Self::scheme) returns.
    #[must_use]
    pub fn with_scheme(&self, scheme: impl Scheme) -> Route {
        self.route.clone().with_scheme(scheme)
    }
}

/// The placeholder for the implementation of a scheme. It fails for every request.
struct Missing;

impl Scheme for Missing {
    fn name(&self) -> &'static str {
        "missing"
    }

    fn prepare(&self, _: &SchemeRequest<'_>) -> SchemeFuture {
        SchemeFuture::ready(Err(SchemeError::failed(
            "the route has no implementation of its scheme yet",
        )
        .into()))
    }

    fn reserved_headers(&self) -> &[HeaderName] {
        &[]
    }
}
