//! The list of scopes of a Personal Access Token (PAT).

use std::{fmt, sync::Arc};

use super::{
    ServiceId,
    scope::{RequestFacts, Scope, ScopeAccess, ScopeError},
};

/// The scopes of a PAT, sorted and without duplicates.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scopes(Arc<[Scope]>);

impl Scopes {
    /// Parses the list of scopes in a request for a new PAT. An item of the list may contain several scopes, separated
    /// by commas; so in a path, a comma is written as `%2C`. White space around a scope is removed, and the service id
    /// is converted to lower case. Empty items and duplicates are ignored (docs/decisions.md#d3).
    ///
    /// # Errors
    /// [`ScopesError::Empty`] if there is no scope. [`ScopesError::Scope`] if an item is not a scope.
    pub fn parse<I>(items: I) -> Result<Self, ScopesError>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let mut scopes = Vec::new();
        for item in items {
            for scope in item.as_ref().split(',').filter(|scope| !scope.trim().is_empty()) {
                scopes.push(Scope::new(scope)?);
            }
        }
        if scopes.is_empty() {
            return Err(ScopesError::Empty);
        }
        Ok(Self::from_list(scopes))
    }

    /// Reads the scopes of a verified token. Items that are not scopes are ignored, because they permit nothing. If no
    /// scope is left, the PAT permits no request.
    pub(super) fn from_claim(items: &[String]) -> Self {
        items.iter().filter_map(|item| Scope::new(item).ok()).collect()
    }

    fn from_list(mut scopes: Vec<Scope>) -> Self {
        scopes.sort_unstable();
        scopes.dedup();
        Self(scopes.into())
    }

    /// Returns whether the PAT permits a request to `service`. `facts` returns the known facts about the request. It is
    /// called only if the PAT has scopes for the service, and all of them have a suffix.
    pub fn permits<'a>(
        &self,
        service: &ServiceId,
        facts: impl FnOnce() -> RequestFacts<'a>,
    ) -> bool {
        match self.find(service) {
            Found::Any => true,
            Found::Restricted([]) => false,
            Found::Restricted(scopes) => facts().are_permitted_by(scopes.iter()),
        }
    }

    /// Returns whether one of the scopes is for `service`, with any suffix or without one. If so, a revocation rule for
    /// the service also applies to the PAT. [`permits`](Self::permits) says whether the PAT permits a request.
    pub fn names_service(&self, service: &ServiceId) -> bool {
        match self.find(service) {
            Found::Any => true,
            Found::Restricted(scopes) => !scopes.is_empty(),
        }
    }

    /// Returns whether the scopes permit only some requests to `service`, because each scope for it has a suffix.
    pub fn restricts(&self, service: &ServiceId) -> bool {
        match self.find(service) {
            Found::Any => false,
            Found::Restricted(scopes) => !scopes.is_empty(),
        }
    }

    /// Returns whether one of the scopes [covers](Scope::covers) `scope`.
    pub fn covers(&self, scope: &Scope) -> bool {
        self.0.iter().any(|own| own.covers(scope))
    }

    fn find(&self, service: &ServiceId) -> Found<'_> {
        let order = |scope: &Scope| {
            let of_service = scope.service().cmp(service);
            of_service.then_with(|| scope.access().cmp(&ScopeAccess::Any))
        };
        match self.0.binary_search_by(order) {
            Ok(_) => Found::Any,
            // `at` is the index that a scope of this service without a suffix would have. The scopes with a suffix
            // begin at this index.
            Err(at) => {
                let rest = &self.0[at..];
                let len = rest.iter().take_while(|scope| scope.service() == service).count();
                Found::Restricted(&rest[..len])
            }
        }
    }

    /// Returns the scopes, sorted.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Scope> {
        self.0.iter()
    }

    /// Returns the services that the scopes name, sorted and each once. Revocation rules are for services, so they do
    /// not distinguish the suffixes of scopes.
    pub fn services(&self) -> impl Iterator<Item = &ServiceId> {
        self.0.chunk_by(|a, b| a.service() == b.service()).map(|of_service| of_service[0].service())
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, scope) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{scope}")?;
        }
        Ok(())
    }
}

/// Makes a list from parsed scopes. An empty list permits no request.
impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self::from_list(scopes.into_iter().collect())
    }
}

enum Found<'a> {
    /// One of them permits all requests.
    Any,
    /// All of them have a suffix. The list may be empty.
    Restricted(&'a [Scope]),
}

/// The reason why a list of scopes is not valid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScopesError {
    /// The list names no service.
    #[error("no service is named; list the service ids that the token is for")]
    Empty,
    /// An item is not a scope.
    #[error(transparent)]
    Scope(#[from] ScopeError),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(id: &str) -> ServiceId {
        ServiceId::new(id).unwrap()
    }

    #[test]
    fn parsed_scopes_are_sorted_and_unique() {
        let cases: [(&[&str], Option<&[&str]>); 12] = [
            (&["zosmf"], Some(&["zosmf"])),
            (&["B,a", " A ", "b"], Some(&["a", "b"])),
            (&["<serviceId_1>,<serviceId_2>"], None),
            (&["a,,b,"], Some(&["a", "b"])),
            (&["a:/X,A:read,a", "a:/x,a:/X"], Some(&["a", "a:read", "a:/X", "a:/x"])),
            (&["a:/x%2Cb"], Some(&["a:/x%2Cb"])),
            (&["a:/x,b"], Some(&["a:/x", "b"])),
            (&["a-b", "a:/x"], Some(&["a:/x", "a-b"])),
            (&[], None),
            (&["", " , "], None),
            (&["a b"], None),
            (&["a,b:"], None),
        ];
        for (items, expected) in cases {
            let got = Scopes::parse(items).ok();
            let got = got.as_ref().map(|s| s.iter().map(Scope::to_string).collect::<Vec<_>>());
            let expected = expected.map(|all| all.iter().map(ToString::to_string).collect());
            assert_eq!(got, expected, "{items:?}");
        }
    }

    #[test]
    fn items_of_a_claim_that_are_not_scopes_permit_nothing() {
        let claim = ["a,b", "C", " d ", "e:READ", "f:/x,y", "g:/x/../y", "h:read:/x", "i:/x;y", ""];
        let scopes = Scopes::from_claim(&claim.map(str::to_owned));
        let written: Vec<_> = scopes.iter().map(Scope::to_string).collect();
        assert_eq!(written, ["c", "d"]);
        let permits = |id| scopes.permits(&service(id), RequestFacts::unknown);
        assert!(!permits("a") && !permits("b") && permits("c") && permits("d"));
    }

    #[test]
    fn a_scope_permits_only_what_its_suffix_says() {
        let scopes = Scopes::parse([
            "all", "all:read", "r:read", "p:/a/b", "p:/c", "b:read", "b:/x", "p-q", "o",
        ]);
        let scopes = scopes.unwrap();
        for (id, method, path, want) in [
            ("all", None, None, true),
            ("all", Some("DELETE"), Some("/.."), true),
            ("o", None, None, true),
            ("other", Some("GET"), Some("/a"), false),
            ("r", None, None, false),
            ("r", None, Some("/a"), false),
            ("r", Some("GET"), None, true),
            ("r", Some("HEAD"), None, true),
            ("r", Some("OPTIONS"), Some("/.."), true),
            ("r", Some("get"), None, false),
            ("r", Some("POST"), None, false),
            ("r", Some("PUT"), None, false),
            ("r", Some("PATCH"), None, false),
            ("r", Some("DELETE"), None, false),
            ("r", Some("TRACE"), None, false),
            ("r", Some("CONNECT"), None, false),
            ("r", Some("PROPFIND"), None, false),
            ("r", Some(""), None, false),
            ("p", None, None, false),
            ("p", Some("GET"), None, false),
            ("p", None, Some("/a/b"), true),
            ("p", Some("DELETE"), Some("/a/b/x"), true),
            ("p", Some("GET"), Some("/c"), true),
            ("p", Some("GET"), Some("/a"), false),
            ("p", Some("GET"), Some("/cc"), false),
            ("p", Some("GET"), Some("/c/%2e%2e/x"), false),
            ("p-q", None, None, true),
            ("b", Some("GET"), Some("/y"), true),
            ("b", Some("POST"), Some("/x/1"), true),
            ("b", Some("POST"), Some("/y"), false),
            ("b", None, None, false),
        ] {
            let facts = RequestFacts::unknown();
            let facts = method.map_or(facts, |method| facts.with_method(method));
            let facts = path.map_or(facts, |path| facts.with_path(path));
            assert_eq!(scopes.permits(&service(id), || facts), want, "{id} {method:?} {path:?}");
        }
    }

    #[test]
    fn facts_are_read_only_if_each_scope_for_the_service_has_a_suffix() {
        let scopes = Scopes::parse(["a", "a:/x", "b:read"]).unwrap();
        let unasked = || -> RequestFacts<'static> { panic!("the facts are not needed") };
        assert!(scopes.permits(&service("a"), unasked));
        assert!(!scopes.permits(&service("c"), unasked));
        let restricts = |id| scopes.restricts(&service(id));
        assert!(!restricts("a") && restricts("b") && !restricts("c"));
    }

    #[test]
    fn each_service_is_named_once() {
        let scopes = Scopes::parse(["b:/x", "b:/y", "a:read", "b:read", "c"]).unwrap();
        let services: Vec<_> = scopes.services().map(ServiceId::as_str).collect();
        assert_eq!(services, ["a", "b", "c"]);
        for (id, want) in [("a", true), ("b", true), ("c", true), ("d", false), ("", false)] {
            let names = ServiceId::new(id).is_ok_and(|id| scopes.names_service(&id));
            assert_eq!(names, want, "{id}");
        }
        assert_eq!(Scopes::from_claim(&[]).services().count(), 0);
    }

    #[test]
    fn scopes_cover_what_one_of_them_covers() {
        let allowed = Scopes::parse(["a", "b:read", "b:/x"]).unwrap();
        for (scope, want) in [
            ("a:/y", true),
            ("b:read", true),
            ("b:/x/1", true),
            ("b:/y", false),
            ("b", false),
            ("c", false),
        ] {
            assert_eq!(allowed.covers(&Scope::new(scope).unwrap()), want, "{scope}");
        }
    }
}
