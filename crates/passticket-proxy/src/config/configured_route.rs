//! A route as the configuration has it: where it goes, and the scheme by name.
//!
//! What a scheme needs, such as a generator of PassTickets, is there only once the program starts.

use http::HeaderName;
use tower_passticket::{
    layer::{
        OnFailure, Route, RouteError, Scheme, SchemeError, SchemeFuture, SchemeRequest, Upstream,
    },
    passticket::Applid,
    token::ServiceId,
};

/// The scheme of a service (`authentication.scheme`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceScheme {
    /// `httpBasicPassTicket`.
    HttpBasicPassTicket {
        /// What the service checks tickets against.
        applid: Applid,
    },
    /// `bypass`.
    Bypass,
}

impl ServiceScheme {
    /// The application whose PassTickets the service receives.
    pub fn applid(self) -> Option<Applid> {
        match self {
            Self::HttpBasicPassTicket { applid } => Some(applid),
            Self::Bypass => None,
        }
    }
}

/// A route whose scheme is not there yet. [`with_scheme`](Self::with_scheme) adds it.
#[derive(Clone, Debug)]
pub struct ConfiguredRoute {
    pub(super) route: Route,
    pub(super) scheme: ServiceScheme,
}

impl ConfiguredRoute {
    pub(super) fn new(
        service: ServiceId,
        gateway_url: &str,
        upstream: Upstream,
        scheme: ServiceScheme,
    ) -> Result<Self, RouteError> {
        let route = Route::new(service, gateway_url, upstream, Missing)?;
        Ok(Self { route, scheme })
    }

    pub(super) fn with_on_failure(self, on_failure: OnFailure) -> Self {
        Self { route: self.route.with_on_failure(on_failure), ..self }
    }

    /// What the paths of this route begin with.
    pub fn prefix(&self) -> &str {
        self.route.prefix()
    }

    /// What happens to requests whose authentication or scheme failed.
    pub fn on_failure(&self) -> OnFailure {
        self.route.on_failure()
    }

    /// The scheme by name.
    pub fn scheme(&self) -> ServiceScheme {
        self.scheme
    }

    /// The route, with a scheme that can do what [`scheme`](Self::scheme) says.
    #[must_use]
    pub fn with_scheme(&self, scheme: impl Scheme) -> Route {
        self.route.clone().with_scheme(scheme)
    }
}

/// Stands where a scheme is to be put. A request that it meets fails.
struct Missing;

impl Scheme for Missing {
    fn name(&self) -> &'static str {
        "missing"
    }

    fn prepare(&self, _: &SchemeRequest<'_>) -> SchemeFuture {
        SchemeFuture::ready(Err(SchemeError::failed("the route has no scheme yet").into()))
    }

    fn reserved_headers(&self) -> &[HeaderName] {
        &[]
    }
}
