//! The services, and where they are.

use std::{collections::HashMap, fmt, sync::Arc};

use foldhash::fast::RandomState;
use http::{
    Uri,
    uri::{Authority, Scheme as UriScheme},
};

use super::path::is_ambiguous;
use crate::{authority::is_host_and_port, passticket::Applid, token::ServiceId};

/// What a service wants to be told about the user (`apiml.authentication.scheme`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scheme {
    /// `httpBasicPassTicket`: the user id and a PassTicket, as `Authorization: Basic`.
    HttpBasicPassTicket {
        /// What the service checks tickets against.
        applid: Applid,
    },
    /// `bypass`: the request goes on with whatever the client sent. Nothing is evaluated.
    Bypass,
}

/// What becomes of a request whose authentication failed (design, decision 4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// It goes on without any credential of the client, and both sides are told why.
    #[default]
    Forward,
    /// It goes on as it came, and both sides are told why: what Zowe API ML does.
    ForwardUnchanged,
    /// It is answered: 401, 403 when a PAT is out of scope, 500 when no ticket can be made, 503 when
    /// that or the check of the credential may go better later.
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
    /// Parses `http://host[:port][/path]` or `https://…`.
    ///
    /// # Errors
    /// [`RouteError::Upstream`] carries the text.
    pub fn parse(url: &str) -> Result<Self, RouteError> {
        let error = || RouteError::Upstream(url.chars().take(200).collect());
        let parts = url.parse::<Uri>().map_err(|_| error())?.into_parts();
        let scheme = parts
            .scheme
            .filter(|s| *s == UriScheme::HTTP || *s == UriScheme::HTTPS)
            .ok_or_else(error)?;
        let authority = parts.authority.filter(is_host_and_port).ok_or_else(error)?;
        let path = parts.path_and_query.ok_or_else(error)?;
        if path.query().is_some() || is_ambiguous(path.path()) {
            return Err(error());
        }
        let base_path = path.path().trim_end_matches('/').to_owned();
        Ok(Self { scheme, authority, base_path })
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

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority, self.base_path)
    }
}

/// One way from a path of the gateway to a service.
#[derive(Clone, Debug)]
pub struct Route {
    service: ServiceId,
    prefix: String,
    upstream: Upstream,
    scheme: Scheme,
    on_failure: OnFailure,
}

impl Route {
    /// The route `/{service}/{gateway_url}/…` to `upstream`. Slashes at the ends of `gateway_url`
    /// do not matter; it may be empty.
    ///
    /// # Errors
    /// [`RouteError::GatewayUrl`] for what cannot stand in a path.
    pub fn new(
        service: ServiceId,
        gateway_url: &str,
        upstream: Upstream,
        scheme: Scheme,
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
        Ok(Self { service, prefix, upstream, scheme, on_failure: OnFailure::default() })
    }

    /// Says what becomes of requests whose authentication failed.
    #[must_use]
    pub fn on_failure(mut self, on_failure: OnFailure) -> Self {
        self.on_failure = on_failure;
        self
    }

    /// The service, as scopes name it.
    pub fn service(&self) -> &ServiceId {
        &self.service
    }

    /// What the paths of this route begin with: `/{serviceId}/{gatewayUrl}`.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Where the service listens.
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// What the service wants.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// What becomes of requests whose authentication failed.
    pub fn failure_mode(&self) -> OnFailure {
        self.on_failure
    }

    /// Path and query for the service: the prefix is swapped for the path of the upstream, the
    /// rest and the query stay to the letter.
    pub fn southbound_path(&self, uri: &Uri) -> String {
        let path = uri.path();
        let rest = if self.covers(path) { &path[self.prefix.len()..] } else { path };
        let query = uri.query().map_or(0, |q| q.len() + 1);
        let mut path =
            String::with_capacity(self.upstream.base_path.len() + rest.len() + query + 1);
        path.push_str(&self.upstream.base_path);
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

/// The routes of all services.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    /// By service id, longest prefix first.
    // Whoever asks cannot make what is in it collide.
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

    /// The route for `path`, compared to the letter (zowe-dataplane §4.1).
    pub fn find(&self, path: &str) -> Option<&Arc<Route>> {
        let service = path.strip_prefix('/')?.split('/').next()?;
        self.by_service.get(service)?.iter().find(|route| route.covers(path))
    }

    /// All routes, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.by_service.values().flatten().map(AsRef::as_ref)
    }
}

/// Why a route cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RouteError {
    /// No URL of a service.
    #[error(
        "{0:?} is no URL of a service; write http:// or https://, host, port and path, without user, query or dot segments"
    )]
    Upstream(String),
    /// Nothing that can stand in a path.
    #[error("{0:?} cannot stand in a path; write segments like api/v1")]
    GatewayUrl(String),
    /// Two routes for one path.
    #[error("two routes begin with {0}")]
    Duplicate(String),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn route(service: &str, gateway_url: &str, upstream: &str, scheme: Scheme) -> Route {
        let upstream = Upstream::parse(upstream).unwrap();
        Route::new(ServiceId::new(service).unwrap(), gateway_url, upstream, scheme).unwrap()
    }

    fn ticket(applid: &str) -> Scheme {
        Scheme::HttpBasicPassTicket { applid: Applid::new(applid).unwrap() }
    }

    #[test]
    fn the_longest_prefix_wins_and_paths_are_swapped() {
        let routes = Routes::new([
            route("svc", "/api/v1/", "https://a:1/base/api", ticket("ONE")),
            route("svc", "api/v1/admin", "https://a:1/base/api/admin", ticket("TWO")),
            route("svc", "ui", "http://b", Scheme::Bypass),
            route("all", "", "http://c:3/", Scheme::Bypass),
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
            ("/svc/ui", Some(("", "/"))),
            ("/svc/ui?a", Some(("", "/?a"))),
            ("/all/x", Some(("", "/x"))),
            ("/all", Some(("", "/"))),
            ("/allx", None),
            ("/", None),
            ("*", None),
        ];
        for (uri, want) in cases {
            let uri: Uri = uri.parse().unwrap();
            let got = routes.find(uri.path()).map(|route| {
                let applid = match &route.scheme {
                    Scheme::HttpBasicPassTicket { applid } => applid.to_string(),
                    Scheme::Bypass => String::new(),
                };
                (applid, route.southbound_path(&uri))
            });
            let want = want.map(|(applid, path)| (applid.to_owned(), path.to_owned()));
            assert_eq!(got, want, "{uri}");
        }
    }

    #[test]
    fn a_path_that_is_not_its_own_stays_below_its_upstream() {
        let route = route("svc", "files", "https://a/zosmf", Scheme::Bypass);
        for (uri, want) in [
            ("/svc/files/x", "/zosmf/x"),
            ("/svc/files-x/y", "/zosmf/svc/files-x/y"),
            ("/other", "/zosmf/other"),
        ] {
            assert_eq!(route.southbound_path(&uri.parse().unwrap()), want);
        }
    }

    #[test]
    fn wrong_routes_are_not_built() {
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
            let route = Route::new(service, gateway_url, upstream.clone(), Scheme::Bypass);
            assert!(matches!(route, Err(RouteError::GatewayUrl(_))), "{gateway_url}");
        }
        let twice = || route("a", "x", "http://zos", Scheme::Bypass);
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
                let route = route("a", "", "http://zos/b", Scheme::Bypass);
                prop_assert!(route.southbound_path(&uri).starts_with("/b"));
            }
        }
    }
}
