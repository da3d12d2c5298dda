//! The table of endpoints, and the function that finds the endpoint of a request. Some groups of endpoints are
//! optional.

use http::Method;

use super::error::ApiError;
use crate::auth_prefix::AuthPrefix;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Describe,
    Login,
    Logout,
    Query,
    Refresh,
    Ticket,
    DelegatedTicket,
    PublicKeyPem,
    PublicKeySet,
    CurrentPublicKeySet,
    Generate,
    Validate,
    Revoke,
    RevokeOwn,
    RevokeUser,
    RevokeService,
    Evict,
    ValidateOidc,
}

/// Each entry has a method, a path below the prefix, and an endpoint. Each path supports only one method. `GET`
/// includes `HEAD` (RFC 9110 §9.3.2).
pub(super) static ENDPOINTS: [(Method, &str, Endpoint); 19] = [
    (Method::GET, "/openapi.json", Endpoint::Describe),
    (Method::POST, "/login", Endpoint::Login),
    (Method::POST, "/logout", Endpoint::Logout),
    (Method::GET, "/query", Endpoint::Query),
    (Method::POST, "/refresh", Endpoint::Refresh),
    (Method::POST, "/ticket", Endpoint::Ticket),
    (Method::POST, "/delegate/passticket", Endpoint::DelegatedTicket),
    (Method::GET, "/keys/public", Endpoint::PublicKeyPem),
    (Method::GET, "/keys/public/all", Endpoint::PublicKeySet),
    (Method::GET, "/keys/public/current", Endpoint::CurrentPublicKeySet),
    (Method::POST, "/access-token/generate", Endpoint::Generate),
    (Method::POST, "/access-token/validate", Endpoint::Validate),
    (Method::DELETE, "/access-token/revoke", Endpoint::Revoke),
    (Method::DELETE, "/access-token/revoke/tokens", Endpoint::RevokeOwn),
    // Zowe's documentation says `users`, but a running API ML (Zowe's API Mediation Layer) serves `user`. The gateway
    // serves both paths (docs/decisions.md#d2).
    (Method::DELETE, "/access-token/revoke/tokens/user", Endpoint::RevokeUser),
    (Method::DELETE, "/access-token/revoke/tokens/users", Endpoint::RevokeUser),
    (Method::DELETE, "/access-token/revoke/tokens/scope", Endpoint::RevokeService),
    (Method::DELETE, "/access-token/evict", Endpoint::Evict),
    (Method::POST, "/oidc-token/validate", Endpoint::ValidateOidc),
];

/// The optional groups of endpoints, and whether each is on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Switches {
    pub(super) tickets: bool,
    pub(super) pats: bool,
    pub(super) refresh: bool,
    pub(super) delegation: bool,
}

impl Endpoint {
    /// Finds the endpoint for `method` and `path`.
    ///
    /// # Errors
    /// [`ApiError::NotFound`] if no endpoint that is on has this path. [`ApiError::MethodNotAllowed`] if the endpoint
    /// with this path does not support `method`.
    pub(super) fn find(
        method: &Method,
        path: &str,
        prefix: &AuthPrefix,
        switches: Switches,
    ) -> Result<Self, ApiError> {
        let (allowed, endpoint) = Self::find_path(path, prefix, switches)?;
        check_method(method, allowed)?;
        Ok(endpoint)
    }

    /// Finds the method and the endpoint for `path`.
    ///
    /// # Errors
    /// [`ApiError::NotFound`] if no endpoint that is on has this path.
    pub(super) fn find_path(
        path: &str,
        prefix: &AuthPrefix,
        switches: Switches,
    ) -> Result<(&'static Method, Self), ApiError> {
        let below = prefix.below(path).ok_or(ApiError::NotFound)?;
        let found = ENDPOINTS.iter().find(|(_, path, it)| *path == below && it.is_on(switches));
        found.map(|(method, _, endpoint)| (method, *endpoint)).ok_or(ApiError::NotFound)
    }

    pub(super) fn is_on(self, switches: Switches) -> bool {
        match self {
            Self::Describe
            | Self::Login
            | Self::Logout
            | Self::Query
            | Self::PublicKeyPem
            | Self::PublicKeySet
            | Self::CurrentPublicKeySet
            | Self::ValidateOidc => true,
            Self::Refresh => switches.refresh,
            Self::Ticket => switches.tickets,
            Self::DelegatedTicket => switches.tickets && switches.delegation,
            Self::Generate
            | Self::Validate
            | Self::Revoke
            | Self::RevokeOwn
            | Self::RevokeUser
            | Self::RevokeService
            | Self::Evict => switches.pats,
        }
    }
}

/// Checks that an endpoint with the method `allowed` supports `method`.
///
/// # Errors
/// [`ApiError::MethodNotAllowed`] if it does not.
pub(super) fn check_method(method: &Method, allowed: &Method) -> Result<(), ApiError> {
    if method == allowed || (method == Method::HEAD && *allowed == Method::GET) {
        return Ok(());
    }
    Err(ApiError::MethodNotAllowed { method: method.clone(), allowed: allowed.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Switches = Switches { tickets: true, pats: true, refresh: true, delegation: true };

    #[test]
    fn a_path_has_one_endpoint_and_one_method() {
        let prefix = AuthPrefix::default();
        let find = |method: &Method, path: &str, switches| {
            Endpoint::find(method, &format!("{prefix}{path}"), &prefix, switches)
        };
        for (method, path, endpoint) in &ENDPOINTS {
            assert_eq!(find(method, path, ALL), Ok(*endpoint), "{path}");
            assert_eq!(ENDPOINTS.iter().filter(|(_, other, _)| other == path).count(), 1, "{path}");
            for (switches, paths_off) in [
                (Switches { pats: false, ..ALL }, &["/access-token"][..]),
                (Switches { refresh: false, ..ALL }, &["/refresh"]),
                (Switches { delegation: false, ..ALL }, &["/delegate"]),
                (Switches { tickets: false, ..ALL }, &["/delegate", "/ticket"]),
            ] {
                let is_off = paths_off.iter().any(|start| path.starts_with(start));
                let want = if is_off { Err(ApiError::NotFound) } else { Ok(*endpoint) };
                assert_eq!(find(method, path, switches), want, "{path}");
            }
            for other in ["GET", "POST", "DELETE", "PUT", "OPTIONS", "HEAD", "BREW"] {
                let other: Method = other.parse().unwrap();
                if other == method {
                    continue;
                }
                if *method == Method::GET && other == Method::HEAD {
                    assert_eq!(find(&other, path, ALL), Ok(*endpoint), "{path}");
                    continue;
                }
                let error =
                    ApiError::MethodNotAllowed { method: other.clone(), allowed: method.clone() };
                assert_eq!(find(&other, path, ALL), Err(error), "{other} {path}");
            }
        }
    }

    #[test]
    fn unknown_paths_have_no_endpoint() {
        let prefix = AuthPrefix::default();
        for path in [
            "/gateway/api/v1/auth/login/",
            "/gateway/api/v1/auth/LOGIN",
            "/gateway/api/v1/auth/access-token/revoke/tokens/scopes",
            "/gateway/api/v1/auth/",
            "/gateway/api/v1/auth",
            "/gateway/api/v1/authlogin",
            "/zaas/api/v1/auth/login",
            "/login",
            "*",
        ] {
            let found = Endpoint::find(&Method::POST, path, &prefix, ALL);
            assert_eq!(found, Err(ApiError::NotFound), "{path}");
        }
    }

    #[test]
    fn the_prefix_is_configurable() {
        let prefix = AuthPrefix::new("/zaas/api/v1/auth").unwrap();
        let found = |path| Endpoint::find(&Method::POST, path, &prefix, ALL);
        assert_eq!(found("/zaas/api/v1/auth/login"), Ok(Endpoint::Login));
        assert_eq!(found("/gateway/api/v1/auth/login"), Err(ApiError::NotFound));
    }
}
