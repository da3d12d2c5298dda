//! Paths outside of the auth API that servers of API ML (Zowe's API Mediation Layer) answer: API ML's gateway, or its
//! authentication service ZAAS (docs/reference/auth-endpoints.md#gateway-endpoints).

#[cfg(feature = "api")]
use http::Method;

/// The beginning of the paths at which API ML's gateway asks ZAAS for the credential that a service needs.
pub(crate) const ZAAS_SCHEMES: &str = "/zaas/scheme/";

const SERVICES: [&str; 2] = ["/gateway/api/v1/services", "/gateway/services"];

/// A server of API ML whose paths this gateway serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ApimlServer {
    /// API ML's gateway, which clients call.
    #[default]
    Gateway,
    /// ZAAS, which API ML's gateway calls.
    #[cfg_attr(
        not(any(all(feature = "api", feature = "proxy"), test)),
        expect(dead_code, reason = "only the module zaas and the tests use it")
    )]
    Zaas,
}

/// An endpoint of API ML's gateway or of ZAAS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ApimlPath {
    Health,
    Info,
    Version,
    Certificates,
    Services,
    /// One service. [`service_id`] returns its id.
    Service,
    AccessCheck,
}

impl ApimlPath {
    #[inline]
    pub(crate) fn find_at(server: ApimlServer, path: &str) -> Option<Self> {
        match server {
            ApimlServer::Gateway => Self::find(path),
            ApimlServer::Zaas => Self::find_at_zaas(path),
        }
    }

    #[cold]
    fn find_at_zaas(path: &str) -> Option<Self> {
        Some(match path {
            "/application/health" => Self::Health,
            "/application/info" => Self::Info,
            "/application/version" => Self::Version,
            "/zaas/auth/check" => Self::AccessCheck,
            _ => return None,
        })
    }

    /// Returns the endpoint that API ML's gateway has at this path.
    #[inline]
    pub(crate) fn find(path: &str) -> Option<Self> {
        if path.starts_with("/gateway/") || path.starts_with("/application/") {
            Self::find_own(path)
        } else {
            None
        }
    }

    #[cold]
    fn find_own(path: &str) -> Option<Self> {
        Some(match path {
            "/application/health" => Self::Health,
            "/application/info" => Self::Info,
            "/application/version" | "/gateway/version" | "/gateway/api/v1/version" => {
                Self::Version
            }
            "/gateway/certificates" | "/gateway/api/v1/certificates" => Self::Certificates,
            "/gateway/auth/check" => Self::AccessCheck,
            _ if SERVICES.contains(&path) => Self::Services,
            _ if service_id(path).is_some() => Self::Service,
            _ => return None,
        })
    }

    /// Returns the method of the endpoint. `GET` includes `HEAD`.
    #[cfg(feature = "api")]
    pub(crate) fn method(self) -> Method {
        match self {
            Self::AccessCheck => Method::POST,
            _ => Method::GET,
        }
    }
}

/// Returns the id of the service in the path of [`ApimlPath::Service`]: any text without a slash, except the empty
/// text. Returns `None` for other paths.
pub(crate) fn service_id(path: &str) -> Option<&str> {
    let below = SERVICES.iter().find_map(|services| path.strip_prefix(services));
    below?.strip_prefix('/').filter(|id| !id.is_empty() && !id.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_has_its_endpoint() {
        for (path, want) in [
            ("/application/health", Some(ApimlPath::Health)),
            ("/application/info", Some(ApimlPath::Info)),
            ("/application/version", Some(ApimlPath::Version)),
            ("/gateway/version", Some(ApimlPath::Version)),
            ("/gateway/api/v1/version", Some(ApimlPath::Version)),
            ("/gateway/certificates", Some(ApimlPath::Certificates)),
            ("/gateway/api/v1/certificates", Some(ApimlPath::Certificates)),
            ("/gateway/services", Some(ApimlPath::Services)),
            ("/gateway/api/v1/services", Some(ApimlPath::Services)),
            ("/gateway/services/zosmf", Some(ApimlPath::Service)),
            ("/gateway/api/v1/services/zosmf", Some(ApimlPath::Service)),
            ("/gateway/auth/check", Some(ApimlPath::AccessCheck)),
            ("/gateway/api/v1/services/", None),
            ("/gateway/api/v1/services/a/b", None),
            ("/gateway/api/v1/servicesx", None),
            ("/gateway/api/v1/registry", None),
            ("/gateway/api/v1/auth/login", None),
            ("/application/", None),
            ("/application/api/v1/health", None),
            ("/Application/health", None),
            ("/gateway", None),
            ("/", None),
        ] {
            assert_eq!(ApimlPath::find(path), want, "{path}");
            assert_eq!(ApimlPath::find_at(ApimlServer::Gateway, path), want, "{path}");
        }
        assert_eq!(service_id("/gateway/services/zosmf"), Some("zosmf"));
    }

    #[test]
    fn zaas_has_the_application_paths_and_its_own_access_check() {
        for (path, want) in [
            ("/application/health", Some(ApimlPath::Health)),
            ("/application/info", Some(ApimlPath::Info)),
            ("/application/version", Some(ApimlPath::Version)),
            ("/zaas/auth/check", Some(ApimlPath::AccessCheck)),
            ("/gateway/auth/check", None),
            ("/gateway/version", None),
            ("/gateway/services", None),
            ("/gateway/certificates", None),
            ("/zaas/auth/check/", None),
            ("/zaas/scheme/ticket", None),
            ("/", None),
        ] {
            assert_eq!(ApimlPath::find_at(ApimlServer::Zaas, path), want, "{path}");
        }
    }
}
