//! The table of routes: which paths of the gateway belong to which service.

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
    /// The request is forwarded without any credential of the client. The service and the client receive
    /// the reason in `X-Zowe-Auth-Failure`.
    #[default]
    Forward,
    /// The request is forwarded with the credentials that the client sent, as in the Zowe API Mediation
    /// Layer. The service and the client receive the reason in `X-Zowe-Auth-Failure`.
    ForwardUnchanged,
    /// The gateway answers the request itself. The status is 403 if the scopes of a Personal Access Token
    /// do not include the service, 503 if a later attempt may succeed (for example, if a server did not
    /// answer), 500 if the scheme failed for another reason, and otherwise 401.
    Reject,
}

/// The address of a service: URL scheme, host, port and base path.
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
    /// [`RouteError::Upstream`] with the first 200 characters of `url`, if it is not the URL of a service.
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

    /// The same server with `path` appended to the base path.
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

/// Connects paths of the gateway to a service, and says which scheme the service needs.
#[derive(Clone)]
pub struct Route {
    service: ServiceId,
    prefix: String,
    upstream: Option<Upstream>,
    scheme: Arc<dyn Scheme>,
    // Computed once from the scheme, so that all layers see the same value.
    is_bypass: bool,
    on_failure: Option<OnFailure>,
}

impl Route {
    /// Creates a route from the paths `/{service}/{gateway_url}/…` to `upstream`. The service receives the
    /// headers that `scheme` prepares. Slashes at the start and end of `gateway_url` are ignored.
    /// `gateway_url` may be empty.
    ///
    /// # Errors
    /// [`RouteError::GatewayUrl`] if `gateway_url` cannot be a part of a path.
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

    /// Creates a route to your own handlers, usually for [`RouteLayer::fixed`]. The route has no upstream, so
    /// the proxy cannot forward its requests. A Personal Access Token is accepted if its scopes contain
    /// `service`. Log messages and audit records contain `service`.
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

    /// Replaces the scheme of this route.
    #[must_use]
    pub fn with_scheme(self, scheme: impl Scheme) -> Self {
        let on_failure = self.on_failure;
        Self { on_failure, ..Self::to(self.service, self.prefix, self.upstream, scheme) }
    }

    /// Sets what happens to requests whose authentication or scheme failed.
    #[must_use]
    pub fn with_on_failure(self, on_failure: OnFailure) -> Self {
        Self { on_failure: Some(on_failure), ..self }
    }

    /// Returns the route with [`OnFailure::Reject`], unless [`with_on_failure`](Self::with_on_failure) has
    /// set another value.
    pub(super) fn or_reject(this: Arc<Self>) -> Arc<Self> {
        match this.on_failure {
            Some(_) => this,
            None => Arc::new(Arc::unwrap_or_clone(this).with_on_failure(OnFailure::Reject)),
        }
    }

    /// The id of the service. The scopes of Personal Access Tokens contain such ids.
    pub fn service(&self) -> &ServiceId {
        &self.service
    }

    /// The prefix of the paths of this route: `/{serviceId}/{gatewayUrl}`.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The address of the service; `None` for a [`local`](Self::local) route.
    pub fn upstream(&self) -> Option<&Upstream> {
        self.upstream.as_ref()
    }

    /// The scheme that prepares requests for the service.
    pub fn scheme(&self) -> &dyn Scheme {
        &*self.scheme
    }

    /// Whether the layers evaluate no credential, and the request is forwarded with the credentials that the
    /// client sent.
    pub fn is_bypass(&self) -> bool {
        self.is_bypass
    }

    /// What happens to requests whose authentication or scheme failed.
    pub fn on_failure(&self) -> OnFailure {
        self.on_failure.unwrap_or_default()
    }

    /// Path and query of a request to the service. The base path of the upstream replaces the prefix of the
    /// route. The rest of the path and the query are not changed. If the path does not begin with the prefix,
    /// the whole path is appended to the base path.
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
            // Shows only the name of the scheme, because a scheme may contain a secret.
            .field("scheme", &self.scheme.name())
            .field("on_failure", &self.on_failure())
            .finish()
    }
}

/// The scheme of [`Route::local`]. Such a route has no upstream, so `prepare` always fails.
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
    /// The routes of each service id, longest prefix first.
    // The hash is fast, but an attacker who chooses the keys can cause collisions. Clients cannot choose the
    // keys of this map.
    by_service: HashMap<ServiceIdText, Vec<Arc<Route>>, RandomState>,
}

type ServiceIdText = Box<str>;

impl Routes {
    /// Creates a table of routes.
    ///
    /// # Errors
    /// [`RouteError::Duplicate`] if two routes have the same prefix.
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

    /// The route for `path`. Paths are case-sensitive (`docs/reference/data-plane.md#routing`).
    pub fn find(&self, path: &str) -> Option<&Arc<Route>> {
        let service = path.strip_prefix('/')?.split('/').next()?;
        self.by_service.get(service)?.iter().find(|route| route.covers(path))
    }

    /// All routes, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.by_service.values().flatten().map(AsRef::as_ref)
    }
}

/// Why a route or a table of routes cannot be created.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RouteError {
    /// The text is not the URL of a service.
    #[error(
        "{0:?} is not the URL of a service; write http:// or https://, host, port and path, without user, query or dot segments"
    )]
    Upstream(String),
    /// The text cannot be a part of a path.
    #[error("{0:?} cannot stand in a path; write segments like api/v1")]
    GatewayUrl(String),
    /// Two routes have the same prefix.
    #[error("two routes have the prefix {0}")]
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

    /// A scheme that the test recognizes by its name.
    struct Named(&'static str);

    impl Scheme for Named {
        fn name(&self) -> &'static str {
            self.0
        }

        fn prepare(&self, _: &SchemeRequest<'_>) -> SchemeFuture {
            unreachable!("these tests run no layer")
        }

        fn reserved_headers(&self) -> &[HeaderName] {
            &[]
        }
    }

    #[test]
    fn the_longest_matching_prefix_is_used_and_replaced() {
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
    fn a_path_without_the_prefix_is_appended_to_the_base_path() {
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
        fn every_southbound_path_begins_with_the_base_path(path in "(/|[.%;a-f0-9\\\\]){0,40}") {
            if let Ok(uri) = path.parse::<Uri>() {
                let route = route("a", "", "http://zos/b", Bypass);
                prop_assert!(route.southbound_path(&uri).starts_with("/b"));
            }
        }
    }
}
