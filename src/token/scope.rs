//! One scope of a Personal Access Token (PAT): a service, and which requests to it the PAT permits.

use std::{fmt, str::FromStr};

use super::{
    ServiceId,
    scope_path::{ScopePath, ScopePathError, UnambiguousPath},
};

/// A scope of a PAT.
///
/// | text | the PAT permits |
/// |---|---|
/// | `files` | all requests to the service `files` |
/// | `files:read` | `GET`, `HEAD` and `OPTIONS` |
/// | `files:/a/b` | requests of all methods to the path `/a/b` and the paths below it. The path begins after the prefix of the route |
///
/// Only the service id is converted to lower case (docs/decisions.md#d49).
///
/// ```
/// use tower_passticket::token::{Scope, ScopeAccess};
///
/// let scope: Scope = "Files:/Reports%2C2026".parse()?;
/// assert_eq!(scope.to_string(), "files:/Reports%2C2026");
/// assert_eq!(scope.service().as_str(), "files");
/// assert!(matches!(scope.access(), ScopeAccess::Path(_)));
/// # Ok::<(), tower_passticket::token::ScopeError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope {
    // The order of the fields makes the scopes of a service neighbours in a sorted list.
    service: ServiceId,
    access: ScopeAccess,
}

/// Which requests to a service a scope permits.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub enum ScopeAccess {
    // This variant must be the first one: `Scopes::find` searches for it in a sorted list.
    /// All requests.
    Any,
    /// Requests with a method that reads: `GET`, `HEAD` or `OPTIONS`. A request for an upgrade, such as the handshake
    /// of a WebSocket, does not count as a request that reads.
    Read,
    /// Requests of all methods, to this path or a path below it.
    Path(ScopePath),
}

impl Scope {
    /// Parses a scope. White space before and after the scope is removed.
    ///
    /// # Errors
    /// [`ScopeError`] if `text` is not a scope.
    pub fn new(text: &str) -> Result<Self, ScopeError> {
        let text = text.trim();
        parse(text)
            .map_err(|problem| ScopeError { value: text.chars().take(80).collect(), problem })
    }

    /// Returns the service.
    pub fn service(&self) -> &ServiceId {
        &self.service
    }

    /// Returns which requests to the service the scope permits.
    pub fn access(&self) -> &ScopeAccess {
        &self.access
    }

    /// Returns whether this scope permits all requests that `other` permits.
    pub fn covers(&self, other: &Self) -> bool {
        let covers = || match (&self.access, &other.access) {
            (ScopeAccess::Any, _) | (ScopeAccess::Read, ScopeAccess::Read) => true,
            (ScopeAccess::Path(outer), ScopeAccess::Path(inner)) => {
                UnambiguousPath::of_scope(inner).is_some_and(|inner| outer.permits(&inner))
            }
            _ => false,
        };
        self.service == other.service && covers()
    }
}

fn parse(text: &str) -> Result<Scope, ScopeProblem> {
    let Some((id, suffix)) = text.split_once(':') else {
        let service = ServiceId::new(text).map_err(|_| ScopeProblem::Service)?;
        return Ok(Scope { service, access: ScopeAccess::Any });
    };
    // `ServiceId::new` would remove white space before the colon, but a scope must not have white space there.
    let service = Some(id).filter(|id| !id.ends_with(char::is_whitespace)).map(ServiceId::new);
    let service = service.and_then(Result::ok).ok_or(ScopeProblem::Service)?;
    let access = match suffix {
        "read" => ScopeAccess::Read,
        path if path.starts_with('/') => ScopeAccess::Path(ScopePath::new(path)?),
        _ => return Err(ScopeProblem::Suffix),
    };
    Ok(Scope { service, access })
}

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        Self::new(text)
    }
}

impl From<ServiceId> for Scope {
    fn from(service: ServiceId) -> Self {
        Self { service, access: ScopeAccess::Any }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.access {
            ScopeAccess::Any => f.pad(self.service.as_str()),
            ScopeAccess::Read => write!(f, "{}:read", self.service),
            ScopeAccess::Path(path) => write!(f, "{}:{path}", self.service),
        }
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Scope").field(&self.to_string()).finish()
    }
}

/// The text is not a scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not a scope: {problem}")]
pub struct ScopeError {
    value: String,
    problem: ScopeProblem,
}

impl ScopeError {
    /// Returns the reason, whose text does not contain the value.
    pub fn problem(&self) -> ScopeProblem {
        self.problem
    }
}

/// The reason why a text is not a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScopeProblem {
    /// The text, or its part before the first colon, is not a service id.
    #[error("it does not begin with a service id of 1 to 64 characters of a-z 0-9 - _ .")]
    Service,
    /// The part after the colon is neither `read` nor a path.
    #[error("after a service id, only `:read` or a path such as `:/a/b` may follow")]
    Suffix,
    /// The path is not valid.
    #[error(transparent)]
    Path(#[from] ScopePathError),
}

/// The facts about a request that decide whether a PAT permits it. Each fact may be unknown. If a scope with a suffix
/// needs an unknown fact, the scope does not permit the request.
///
/// ```
/// use tower_passticket::token::{RequestFacts, Scopes, ServiceId};
///
/// let scopes = Scopes::parse(["files:read"])?;
/// let files = ServiceId::new("files").unwrap();
/// assert!(scopes.permits(&files, || RequestFacts::unknown().with_method("GET")));
/// assert!(!scopes.permits(&files, || RequestFacts::unknown().with_method("DELETE")));
/// assert!(!scopes.permits(&files, RequestFacts::unknown));
/// # Ok::<(), tower_passticket::token::ScopesError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestFacts<'a> {
    reads: bool,
    path: Option<&'a str>,
}

impl<'a> RequestFacts<'a> {
    /// Method and path are unknown.
    pub fn unknown() -> Self {
        Self::default()
    }

    /// Sets the method. Methods are case-sensitive (RFC 9110 §9.1).
    ///
    /// Do not set the method of a request that asks for an upgrade to another protocol, or whose headers ask the
    /// service for another method.
    #[must_use]
    pub fn with_method(self, method: &str) -> Self {
        Self { reads: matches!(method, "GET" | "HEAD" | "OPTIONS"), ..self }
    }

    /// Sets the path as the client sent it, after the prefix of the route and without the query. The path may be empty.
    #[must_use]
    pub fn with_path(self, path: &'a str) -> Self {
        Self { path: Some(path), ..self }
    }

    /// Returns whether one of `scopes` permits the request. All of them must be scopes for the service of the request.
    pub(super) fn are_permitted_by<'s>(self, mut scopes: impl Iterator<Item = &'s Scope>) -> bool {
        let mut path = None;
        scopes.any(|scope| match &scope.access {
            ScopeAccess::Any => true,
            ScopeAccess::Read => self.reads,
            ScopeAccess::Path(prefix) => path
                .get_or_insert_with(|| self.path.and_then(UnambiguousPath::new))
                .as_ref()
                .is_some_and(|path| prefix.permits(path)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_parsed_or_refused() {
        use ScopeProblem::{Path, Service, Suffix};
        for (text, want) in [
            ("files", Ok("files")),
            (" Files ", Ok("files")),
            ("FILES:read", Ok("files:read")),
            ("Files:/A/b", Ok("files:/A/b")),
            ("files:/", Ok("files:/")),
            ("files:/a:b", Ok("files:/a:b")),
            ("files:/a%2cB", Ok("files:/a%2cB")),
            (" files:read ", Ok("files:read")),
            ("", Err(Service)),
            (":read", Err(Service)),
            ("a b:read", Err(Service)),
            ("files :read", Err(Service)),
            ("..:/a", Err(Service)),
            ("files:", Err(Suffix)),
            ("files:READ", Err(Suffix)),
            ("files: read", Err(Suffix)),
            ("files:write", Err(Suffix)),
            ("files:read:/a", Err(Suffix)),
            ("files:a", Err(Suffix)),
            ("files:443", Err(Suffix)),
            ("files::read", Err(Suffix)),
            ("files:/a/../b", Err(Path(ScopePathError::Segment))),
            ("files:/a b", Err(Path(ScopePathError::Character))),
        ] {
            let parsed = Scope::new(text);
            if let Ok(scope) = &parsed {
                assert_eq!(Scope::new(&scope.to_string()).as_ref(), Ok(scope), "{text}");
            }
            let got = parsed.map(|scope| scope.to_string()).map_err(|error| error.problem());
            assert_eq!(got, want.map(str::to_owned), "{text}");
        }
        let long = Scope::new(&"ä".repeat(200)).unwrap_err();
        assert!(long.to_string().chars().count() < 200, "{long}");
    }

    #[test]
    fn a_scope_covers_the_scopes_that_permit_no_more() {
        for (outer, inner, want) in [
            ("a", "a", true),
            ("a", "a:read", true),
            ("a", "a:/x", true),
            ("a", "b", false),
            ("a:read", "a:read", true),
            ("a:read", "a", false),
            ("a:read", "a:/x", false),
            ("a:/x", "a:/x", true),
            ("a:/x", "a:/x/y", true),
            ("a:/x", "a:/%78/y", true),
            ("a:/x/", "a:/x", true),
            ("a:/x", "a:/xy", false),
            ("a:/x/y", "a:/x", false),
            ("a:/x", "a:read", false),
            ("a:/", "a", false),
            ("a:/x", "b:/x", false),
        ] {
            let [outer_scope, inner_scope] = [outer, inner].map(|text| Scope::new(text).unwrap());
            assert_eq!(outer_scope.covers(&inner_scope), want, "{outer} {inner}");
        }
    }
}
