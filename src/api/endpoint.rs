//! The table of endpoints, and the function that finds the endpoint of a request.

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
    ExchangeToken,
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
    ListTokens,
    CreateToken,
    DeleteTokens,
    Permissions,
    EvictRevocations,
    OwnToken,
    RotateOwnToken,
    GetToken,
    ChangeToken,
    DeleteToken,
    RotateToken,
    ValidateOidc,
}

/// The part of a path that stands for the id of a token.
const ID: &str = "{id}";

/// The method, the path below the prefix, and the endpoint. `GET` includes `HEAD` (RFC 9110 §9.3.2). `{id}` stands for
/// any segment. But if an entry has exactly the path of the request, such as `/access-tokens/permissions`, an entry
/// with `{id}` does not apply.
pub(super) static ENDPOINTS: [(Method, &str, Endpoint); 31] = [
    (Method::GET, "/openapi.json", Endpoint::Describe),
    (Method::POST, "/login", Endpoint::Login),
    (Method::POST, "/logout", Endpoint::Logout),
    (Method::GET, "/query", Endpoint::Query),
    (Method::POST, "/refresh", Endpoint::Refresh),
    (Method::POST, "/ticket", Endpoint::Ticket),
    (Method::POST, "/delegate/passticket", Endpoint::DelegatedTicket),
    (Method::POST, "/token", Endpoint::ExchangeToken),
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
    (Method::GET, "/access-tokens", Endpoint::ListTokens),
    (Method::POST, "/access-tokens", Endpoint::CreateToken),
    (Method::DELETE, "/access-tokens", Endpoint::DeleteTokens),
    (Method::GET, "/access-tokens/permissions", Endpoint::Permissions),
    (Method::POST, "/access-tokens/evict", Endpoint::EvictRevocations),
    (Method::GET, "/access-tokens/self", Endpoint::OwnToken),
    (Method::POST, "/access-tokens/self/rotate", Endpoint::RotateOwnToken),
    (Method::GET, "/access-tokens/{id}", Endpoint::GetToken),
    (Method::PATCH, "/access-tokens/{id}", Endpoint::ChangeToken),
    (Method::DELETE, "/access-tokens/{id}", Endpoint::DeleteToken),
    (Method::POST, "/access-tokens/{id}/rotate", Endpoint::RotateToken),
    (Method::POST, "/oidc-token/validate", Endpoint::ValidateOidc),
];

/// Whether each optional group of endpoints is on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Switches {
    pub(super) tickets: bool,
    pub(super) pats: bool,
    /// The registry of issued Personal Access Tokens. The endpoints of the registry are on only if `pats` is also on.
    pub(super) registry: bool,
    pub(super) refresh: bool,
    pub(super) delegation: bool,
    pub(super) exchange: bool,
}

impl Switches {
    #[cfg(test)]
    pub(super) const ALL: Self = Self {
        tickets: true,
        pats: true,
        registry: true,
        refresh: true,
        delegation: true,
        exchange: true,
    };
}

impl Endpoint {
    /// Finds the endpoint for `method` and `path`.
    ///
    /// # Errors
    /// [`ApiError::NotFound`] if no endpoint that is on has this path. [`ApiError::MethodNotAllowed`] if no endpoint
    /// with this path supports `method`.
    pub(super) fn find(
        method: &Method,
        path: &str,
        prefix: &AuthPrefix,
        switches: Switches,
    ) -> Result<Self, ApiError> {
        let methods = Self::find_path(path, prefix, switches)?;
        let found = methods.iter().find(|(allowed, _)| is_method(method, allowed));
        found.map(|(_, endpoint)| *endpoint).ok_or_else(|| ApiError::MethodNotAllowed {
            method: method.clone(),
            allowed: methods.iter().map(|(allowed, _)| (*allowed).clone()).collect(),
        })
    }

    /// # Errors
    /// [`ApiError::NotFound`] if no endpoint that is on has this path.
    pub(super) fn find_path(
        path: &str,
        prefix: &AuthPrefix,
        switches: Switches,
    ) -> Result<Vec<(&'static Method, Self)>, ApiError> {
        let below = prefix.below(path).ok_or(ApiError::NotFound)?;
        let find = |is_path: &dyn Fn(&str) -> bool| -> Vec<_> {
            let found =
                ENDPOINTS.iter().filter(|(_, path, it)| is_path(path) && it.is_on(switches));
            found.map(|(method, _, endpoint)| (method, *endpoint)).collect()
        };
        let exact = find(&|path| path == below);
        let found =
            if exact.is_empty() { find(&|path| id_in(path, below).is_some()) } else { exact };
        if found.is_empty() { Err(ApiError::NotFound) } else { Ok(found) }
    }

    /// Returns the segment of `path` that is the id of a token. Returns `None` if the paths of this endpoint have no
    /// `{id}`, or if `path` does not have the form of these paths.
    pub(super) fn id<'p>(self, path: &'p str, prefix: &AuthPrefix) -> Option<&'p str> {
        let (_, template, _) = ENDPOINTS.iter().find(|(.., endpoint)| *endpoint == self)?;
        id_in(template, prefix.below(path)?)
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
            Self::ExchangeToken => switches.tickets && switches.exchange,
            Self::Generate
            | Self::Validate
            | Self::Revoke
            | Self::RevokeOwn
            | Self::RevokeUser
            | Self::RevokeService
            | Self::Evict => switches.pats,
            Self::ListTokens
            | Self::CreateToken
            | Self::DeleteTokens
            | Self::Permissions
            | Self::EvictRevocations
            | Self::OwnToken
            | Self::RotateOwnToken
            | Self::GetToken
            | Self::ChangeToken
            | Self::DeleteToken
            | Self::RotateToken => switches.pats && switches.registry,
        }
    }
}

fn id_in<'p>(template: &str, path: &'p str) -> Option<&'p str> {
    let (before, after) = template.split_once(ID)?;
    let id = path.strip_prefix(before)?.strip_suffix(after)?;
    (!id.is_empty() && !id.contains('/')).then_some(id)
}

fn is_method(method: &Method, allowed: &Method) -> bool {
    method == allowed || (method == Method::HEAD && *allowed == Method::GET)
}

/// Checks that an endpoint with the method `allowed` supports `method`.
///
/// # Errors
/// [`ApiError::MethodNotAllowed`] if the endpoint does not support `method`.
pub(super) fn check_method(method: &Method, allowed: &Method) -> Result<(), ApiError> {
    if is_method(method, allowed) {
        return Ok(());
    }
    Err(ApiError::MethodNotAllowed { method: method.clone(), allowed: vec![allowed.clone()] })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Switches = Switches::ALL;

    #[test]
    fn a_path_has_one_endpoint_for_each_of_its_methods() {
        let prefix = AuthPrefix::default();
        let find = |method: &Method, path: &str, switches| {
            Endpoint::find(method, &format!("{prefix}{path}"), &prefix, switches)
        };
        for (method, path, endpoint) in &ENDPOINTS {
            assert_eq!(find(method, path, ALL), Ok(*endpoint), "{path}");
            let methods: Vec<_> = ENDPOINTS
                .iter()
                .filter(|(_, other, _)| other == path)
                .map(|(method, ..)| method.clone())
                .collect();
            assert_eq!(methods.iter().filter(|other| *other == method).count(), 1, "{path}");
            for (switches, paths_off) in [
                (Switches { pats: false, ..ALL }, &["/access-token"][..]),
                (Switches { registry: false, ..ALL }, &["/access-tokens"]),
                (Switches { refresh: false, ..ALL }, &["/refresh"]),
                (Switches { delegation: false, ..ALL }, &["/delegate"]),
                (Switches { exchange: false, ..ALL }, &["/token"]),
                (Switches { tickets: false, ..ALL }, &["/delegate", "/ticket", "/token"]),
            ] {
                let is_off = paths_off.iter().any(|start| path.starts_with(start));
                let want = if is_off { Err(ApiError::NotFound) } else { Ok(*endpoint) };
                assert_eq!(find(method, path, switches), want, "{path}");
            }
            for other in ["GET", "POST", "PATCH", "DELETE", "PUT", "OPTIONS", "HEAD", "BREW"] {
                let other: Method = other.parse().unwrap();
                if methods.contains(&other) {
                    continue;
                }
                if methods[0] == Method::GET && other == Method::HEAD {
                    assert!(find(&other, path, ALL).is_ok(), "{path}");
                    continue;
                }
                let error =
                    ApiError::MethodNotAllowed { method: other.clone(), allowed: methods.clone() };
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
            "/gateway/api/v1/auth/access-tokens/",
            "/gateway/api/v1/auth/access-tokens/a/b",
            "/gateway/api/v1/auth/access-tokens//rotate",
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
    fn the_segments_self_permissions_and_evict_are_not_token_ids() {
        let prefix = AuthPrefix::default();
        let path = |id: &str| format!("{prefix}/access-tokens/{id}");
        let find = |method, id: &str| Endpoint::find(&method, &path(id), &prefix, ALL);
        assert_eq!(find(Method::GET, "self"), Ok(Endpoint::OwnToken));
        assert_eq!(find(Method::GET, "selfish"), Ok(Endpoint::GetToken));
        assert_eq!(find(Method::DELETE, "x"), Ok(Endpoint::DeleteToken));
        for word in ["self", "permissions", "evict"] {
            let found = find(Method::DELETE, word);
            assert!(matches!(found, Err(ApiError::MethodNotAllowed { .. })), "{word}");
        }
        let id = |endpoint: Endpoint, rest: &str| endpoint.id(&path(rest), &prefix).map(str::len);
        assert_eq!(id(Endpoint::RotateToken, "abc/rotate"), Some(3));
        assert_eq!(id(Endpoint::GetToken, "abc"), Some(3));
    }

    #[test]
    fn the_prefix_is_configurable() {
        let prefix = AuthPrefix::new("/zaas/api/v1/auth").unwrap();
        let found = |path| Endpoint::find(&Method::POST, path, &prefix, ALL);
        assert_eq!(found("/zaas/api/v1/auth/login"), Ok(Endpoint::Login));
        assert_eq!(found("/gateway/api/v1/auth/login"), Err(ApiError::NotFound));
    }
}
