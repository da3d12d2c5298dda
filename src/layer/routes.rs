//! The table of routes: paths of the gateway, and the services behind them.

use std::{collections::HashMap, fmt, str::FromStr, sync::Arc};

use foldhash::fast::RandomState;
use http::{
    HeaderName, Uri,
    uri::{Authority, Scheme as UriScheme},
};

use super::{
    path::is_ambiguous,
    scheme_error::SchemeError,
    schemes::{Scheme, SchemeFuture, SchemeRequest},
};
use crate::{authority::is_host_and_port, token::ServiceId};

/// What happens to a request whose authentication failed, or whose scheme failed
/// ([D4](crate::decisions#d4)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnFailure {
    /// It goes on without any credential of the client, and both sides learn the reason.
    #[default]
    Forward,
    /// It goes on as it came, and both sides learn the reason, as in Zowe API ML.
    ForwardUnchanged,
    /// The gateway answers it: 401; 403 when a PAT is out of scope; 500 when the scheme fails; 503
    /// when scheme or authentication may succeed later.
    Reject,
}

/// Where a service listens: scheme, host, port and the path that its paths begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    scheme: UriScheme,
    authority: Authority,
    base_path: String,
}

impl Upstream {
    /// Parses `http://host[:port][/path]` or `https://…`, as `FromStr` does.
    ///
    /// # Errors
    /// [`RouteError::Upstream`] carries the text.
    pub fn parse(url: &str) -> Result<Self, RouteError> {
        let error = || RouteError::Upstream(url.chars().take(200).collect());
        url.parse::<Uri>().map_err(|_| error())?.try_into()
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &UriScheme {
        &self.scheme
    }

    /// Host and port.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The same server with `path` added to the path.
    #[must_use]
    pub fn join(&self, path: &str) -> Self {
        let path = path.trim_matches('/');
        let separator = if path.is_empty() { "" } else { "/" };
        Self { base_path: format!("{}{separator}{path}", self.base_path), ..self.clone() }
    }
}

impl TryFrom<Uri> for Upstream {
    type Error = RouteError;

    fn try_from(uri: Uri) -> Result<Self, RouteError> {
        let error = || RouteError::Upstream(uri.to_string().chars().take(200).collect());
        let scheme = uri
            .scheme()
            .filter(|s| **s == UriScheme::HTTP || **s == UriScheme::HTTPS)
            .ok_or_else(error)?;
        let authority = uri.authority().filter(|a| is_host_and_port(a)).ok_or_else(error)?;
        if uri.query().is_some() || is_ambiguous(uri.path()) {
            return Err(error());
        }
        let base_path = uri.path().trim_end_matches('/').to_owned();
        Ok(Self { scheme: scheme.clone(), authority: authority.clone(), base_path })
    }
}

impl FromStr for Upstream {
    type Err = RouteError;

    fn from_str(url: &str) -> Result<Self, RouteError> {
        Self::parse(url)
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority, self.base_path)
    }
}

/// One way from a path of the gateway to a service.
#[derive(Clone)]
pub struct Route {
    service: ServiceId,
    prefix: String,
    upstream: Option<Upstream>,
    scheme: Arc<dyn Scheme>,
    // Asked once, so that all layers get the same answer.
    is_bypass: bool,
    on_failure: Option<OnFailure>,
}

impl Route {
    /// The route `/{service}/{gateway_url}/…` to `upstream`, which receives what `scheme` prepares.
    /// Slashes at the ends of `gateway_url` do not matter; it may be empty.
    ///
    /// # Errors
    /// [`RouteError::GatewayUrl`] for what cannot stand in a path.
    pub fn new(
        service: ServiceId,
        gateway_url: &str,
        upstream: Upstream,
        scheme: impl Scheme,
    ) -> Result<Self, RouteError> {
        let gateway_url = gateway_url.trim_matches('/');
        let prefix = if gateway_url.is_empty() {
            format!("/{service}")
        } else {
            format!("/{service}/{gateway_url}")
        };
        let plain = prefix.parse::<Uri>().is_ok_and(|uri| uri.path() == prefix);
        if !plain || !prefix.is_ascii() || is_ambiguous(&prefix) {
            return Err(RouteError::GatewayUrl(gateway_url.chars().take(200).collect()));
        }
        Ok(Self::to(service, prefix, Some(upstream), scheme))
    }

    /// A route to handlers of your own, which the proxy does not forward. `service` is what scopes of
    /// PATs are compared with, and the name in log and audit. For [`RouteLayer::fixed`].
    ///
    /// [`RouteLayer::fixed`]: super::RouteLayer::fixed
    pub fn local(service: ServiceId) -> Self {
        let prefix = format!("/{service}");
        Self::to(service, prefix, None, Local)
    }

    fn to(
        service: ServiceId,
        prefix: String,
        upstream: Option<Upstream>,
        scheme: impl Scheme,
    ) -> Self {
        let is_bypass = !scheme.needs_authorization();
        let scheme = Arc::new(scheme);
        Self { service, prefix, upstream, scheme, is_bypass, on_failure: None }
    }

    /// Lets the service receive what another scheme prepares.
    #[must_use]
    pub fn with_scheme(self, scheme: impl Scheme) -> Self {
        let on_failure = self.on_failure;
        Self { on_failure, ..Self::to(self.service, self.prefix, self.upstream, scheme) }
    }

    /// Says what happens to requests whose authentication or scheme failed.
    #[must_use]
    pub fn with_on_failure(self, on_failure: OnFailure) -> Self {
        Self { on_failure: Some(on_failure), ..self }
    }

    /// The same route, but [`OnFailure::Reject`] unless it says something else.
    pub(super) fn or_reject(this: Arc<Self>) -> Arc<Self> {
        match this.on_failure {
            Some(_) => this,
            None => Arc::new(Arc::unwrap_or_clone(this).with_on_failure(OnFailure::Reject)),
        }
    }

    /// The service, as scopes name it.
    pub fn service(&self) -> &ServiceId {
        &self.service
    }

    /// What the paths of this route begin with: `/{serviceId}/{gatewayUrl}`.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Where the service listens; `None` for a [`local`](Self::local) route.
    pub fn upstream(&self) -> Option<&Upstream> {
        self.upstream.as_ref()
    }

    /// What prepares requests for the service.
    pub fn scheme(&self) -> &dyn Scheme {
        &*self.scheme
    }

    /// Whether nothing is evaluated, and the request goes on with what the client sent.
    pub fn is_bypass(&self) -> bool {
        self.is_bypass
    }

    /// What happens to requests whose authentication or scheme failed.
    pub fn on_failure(&self) -> OnFailure {
        self.on_failure.unwrap_or_default()
    }

    /// Path and query for the service: the path of the upstream replaces the prefix, the rest and the
    /// query stay as they are.
    pub fn southbound_path(&self, uri: &Uri) -> String {
        let path = uri.path();
        let rest = if self.covers(path) { &path[self.prefix.len()..] } else { path };
        let query = uri.query().map_or(0, |q| q.len() + 1);
        let base = self.upstream.as_ref().map_or("", |upstream| &upstream.base_path);
        let mut path = String::with_capacity(base.len() + rest.len() + query + 1);
        path.push_str(base);
        path.push_str(rest);
        if path.is_empty() {
            path.push('/');
        }
        if let Some(query) = uri.query() {
            path.push('?');
            path.push_str(query);
        }
        path
    }

    fn covers(&self, path: &str) -> bool {
        path.strip_prefix(&self.prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route")
            .field("service", &self.service)
            .field("prefix", &self.prefix)
            .field("upstream", &self.upstream)
            // Only the name: a scheme may hold a secret.
            .field("scheme", &self.scheme.name())
            .field("on_failure", &self.on_failure())
            .finish()
    }
}

/// The scheme of a route that is not forwarded: there is nothing to prepare.
struct Local;

impl Scheme for Local {
    fn name(&self) -> &'static str {
        "local"
    }

    fn prepare(&self, _: &SchemeRequest<'_>) -> SchemeFuture {
        SchemeFuture::ready(Err(SchemeError::failed(
            "Route::local is for handlers behind ScopeLayer; a route through SchemeLayer needs an upstream",
        )
        .into()))
    }

    fn reserved_headers(&self) -> &[HeaderName] {
        &[]
    }
}

/// The routes of all services.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    /// By service id, longest prefix first.
    // A fast hash: clients choose what is looked up, but not the keys in the map.
    by_service: HashMap<ServiceIdText, Vec<Arc<Route>>, RandomState>,
}

type ServiceIdText = Box<str>;

impl Routes {
    /// A table of routes.
    ///
    /// # Errors
    /// [`RouteError::Duplicate`] when two routes have the same prefix.
    pub fn new(routes: impl IntoIterator<Item = Route>) -> Result<Self, RouteError> {
        let mut by_service: HashMap<_, Vec<Arc<Route>>, RandomState> = HashMap::default();
        for route in routes {
            let of_service =
                by_service.entry(ServiceIdText::from(route.service.as_str())).or_default();
            if of_service.iter().any(|other| other.prefix == route.prefix) {
                return Err(RouteError::Duplicate(route.prefix));
            }
            of_service.push(Arc::new(route));
        }
        for of_service in by_service.values_mut() {
            of_service.sort_by_key(|route| std::cmp::Reverse(route.prefix.len()));
        }
        Ok(Self { by_service })
    }

    /// The route for `path`. Case matters (`docs/reference/data-plane.md#routing`).
    pub fn find(&self, path: &str) -> Option<&Arc<Route>> {
        let service = path.strip_prefix('/')?.split('/').next()?;
        self.by_service.get(service)?.iter().find(|route| route.covers(path))
    }

    /// All routes, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.by_service.values().flatten().map(AsRef::as_ref)
    }
}

/// Why a route cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RouteError {
    /// The text is not the URL of a service.
    #[error(
        "{0:?} is not the URL of a service; write http:// or https://, host, port and path, without user, query or dot segments"
    )]
    Upstream(String),
    /// The text cannot stand in a path.
    #[error("{0:?} cannot stand in a path; write segments like api/v1")]
    GatewayUrl(String),
    /// Two routes have the same prefix.
    #[error("two routes begin with {0}")]
    Duplicate(String),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::layer::Bypass;

    fn route(service: &str, gateway_url: &str, upstream: &str, scheme: impl Scheme) -> Route {
        let upstream = upstream.parse().unwrap();
        Route::new(ServiceId::new(service).unwrap(), gateway_url, upstream, scheme).unwrap()
    }

    /// A scheme that is known by its name.
    struct Named(&'static str);

    impl Scheme for Named {
        fn name(&self) -> &'static str {
            self.0
        }

        fn prepare(&self, _: &SchemeRequest<'_>) -> SchemeFuture {
            unreachable!("no layer runs here")
        }

        fn reserved_headers(&self) -> &[HeaderName] {
            &[]
        }
    }

    #[test]
    fn the_longest_prefix_wins_and_is_replaced() {
        let routes = Routes::new([
            route("svc", "/api/v1/", "https://a:1/base/api", Named("ONE")),
            route("svc", "api/v1/admin", "https://a:1/base/api/admin", Named("TWO")),
            route("svc", "ui", "http://b", Bypass),
            route("all", "", "http://c:3/", Bypass),
        ])
        .unwrap();
        let cases = [
            ("/svc/api/v1/x/y?q=1%20/../2", Some(("ONE", "/base/api/x/y?q=1%20/../2"))),
            ("/svc/api/v1", Some(("ONE", "/base/api"))),
            ("/svc/api/v1/", Some(("ONE", "/base/api/"))),
            ("/svc/api/v1/admin", Some(("TWO", "/base/api/admin"))),
            ("/svc/api/v1/admin/x", Some(("TWO", "/base/api/admin/x"))),
            ("/svc/api/v1/administrators", Some(("ONE", "/base/api/administrators"))),
            ("/svc/api/v1/a%2Fb//c;d=e", Some(("ONE", "/base/api/a%2Fb//c;d=e"))),
            ("/svc/api/v12", None),
            ("/svc/api", None),
            ("/SVC/api/v1/x", None),
            ("/svc/ui", Some(("bypass", "/"))),
            ("/svc/ui?a", Some(("bypass", "/?a"))),
            ("/all/x", Some(("bypass", "/x"))),
            ("/all", Some(("bypass", "/"))),
            ("/allx", None),
            ("/", None),
            ("*", None),
        ];
        for (uri, want) in cases {
            let uri: Uri = uri.parse().unwrap();
            let got = routes
                .find(uri.path())
                .map(|route| (route.scheme().name(), route.southbound_path(&uri)));
            let want = want.map(|(scheme, path)| (scheme, path.to_owned()));
            assert_eq!(got, want, "{uri}");
        }
    }

    #[test]
    fn a_path_of_no_route_stays_below_the_upstream() {
        let route = route("svc", "files", "https://a/zosmf", Bypass);
        for (uri, want) in [
            ("/svc/files/x", "/zosmf/x"),
            ("/svc/files-x/y", "/zosmf/svc/files-x/y"),
            ("/other", "/zosmf/other"),
        ] {
            assert_eq!(route.southbound_path(&uri.parse().unwrap()), want);
        }
    }

    #[test]
    fn invalid_routes_are_errors() {
        for url in [
            "zos:443",
            "ftp://zos",
            "https://",
            "/path",
            "https://u:p@zos/",
            "http://zos/?q",
            "http://zos/a/../b",
            "http://zos:99999x/",
            "http://zos:70000",
            "http://:80",
            "",
        ] {
            assert!(matches!(Upstream::parse(url), Err(RouteError::Upstream(_))), "{url}");
        }
        let upstream = Upstream::parse("http://zos").unwrap();
        for gateway_url in ["a b", "a?b", "a#b", "a//b", "../a", "\u{e9}"] {
            let service = ServiceId::new("a").unwrap();
            let route = Route::new(service, gateway_url, upstream.clone(), Bypass);
            assert!(matches!(route, Err(RouteError::GatewayUrl(_))), "{gateway_url}");
        }
        let twice = || route("a", "x", "http://zos", Bypass);
        assert_eq!(
            Routes::new([twice(), twice()]).unwrap_err(),
            RouteError::Duplicate("/a/x".to_owned())
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_path_stays_below_its_upstream(path in "(/|[.%;a-f0-9\\\\]){0,40}") {
            if let Ok(uri) = path.parse::<Uri>() {
                let route = route("a", "", "http://zos/b", Bypass);
                prop_assert!(route.southbound_path(&uri).starts_with("/b"));
            }
        }
    }
}
