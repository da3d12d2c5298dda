//! The choices of the form for a new token: everything, read only, or only below a path (docs/decisions.md#d49).

use tower_passticket::token::{Scope, ScopeAccess, Scopes, ServiceId};

use super::texts::access as texts;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    All,
    Read,
    /// Only below a path, which the user enters.
    Path,
}

impl Access {
    /// All choices, in the order in which the form offers them.
    const ALL: [Self; 3] = [Self::All, Self::Read, Self::Path];

    /// Returns the choice with this value in a form. A form without a choice asks for everything, as a scope without a
    /// suffix does.
    pub(super) fn of(value: &str) -> Option<Self> {
        if value.is_empty() {
            return Some(Self::All);
        }
        Self::ALL.into_iter().find(|access| access.value() == value)
    }

    pub(super) fn value(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Read => "read",
            Self::Path => "path",
        }
    }

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::All => texts::ALL,
            Self::Read => texts::READ,
            Self::Path => texts::PATH,
        }
    }
}

/// The scopes for one service that new tokens may have. The administrator sets them. The auth API checks the scopes of
/// each new token. The form uses this value to offer only what the auth API accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Allowed {
    All,
    /// Only what one of these scopes covers. If the list is empty, no token can be for the service.
    Only(Vec<Scope>),
}

impl Allowed {
    /// `scopes` are all scopes that the administrator allows, or `None` if all are allowed.
    pub(super) fn of(scopes: Option<&Scopes>, service: &ServiceId) -> Self {
        scopes.map_or(Self::All, |scopes| {
            Self::Only(scopes.iter().filter(|scope| scope.service() == service).cloned().collect())
        })
    }

    /// Returns the choices that can lead to an allowed scope.
    pub(super) fn accesses(&self) -> Vec<Access> {
        let Self::Only(scopes) = self else { return Access::ALL.to_vec() };
        let has = |access: Access| {
            scopes.iter().any(|scope| match scope.access() {
                ScopeAccess::Any => true,
                ScopeAccess::Read => access == Access::Read,
                ScopeAccess::Path(_) => access == Access::Path,
                _ => false,
            })
        };
        Access::ALL.into_iter().filter(|access| has(*access)).collect()
    }

    pub(super) fn covers(&self, scope: &Scope) -> bool {
        match self {
            Self::All => true,
            Self::Only(scopes) => scopes.iter().any(|allowed| allowed.covers(scope)),
        }
    }

    /// Returns the allowed paths, separated by commas. No path contains a comma.
    pub(super) fn paths(&self) -> String {
        let Self::Only(scopes) = self else { return String::new() };
        let paths = scopes.iter().filter_map(|scope| match scope.access() {
            ScopeAccess::Path(path) => Some(path.as_str()),
            _ => None,
        });
        paths.collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::{Access::*, *};

    #[test]
    fn a_choice_is_found_by_its_value() {
        for access in Access::ALL {
            assert_eq!(Access::of(access.value()), Some(access));
        }
        for (value, want) in [("", Some(All)), ("Read", None), ("write", None)] {
            assert_eq!(Access::of(value), want, "{value}");
        }
    }

    #[test]
    fn only_choices_that_can_be_allowed_are_offered() {
        for (allowed, offered, covered, refused, paths) in [
            ("a", &[All, Read, Path][..], &["a", "a:read", "a:/x"][..], &["b"][..], ""),
            ("a:read", &[Read], &["a:read"], &["a", "a:/x"], ""),
            ("a:/x,a:/y/z", &[Path], &["a:/x/b", "a:/y/z"], &["a", "a:/y", "a:read"], "/x, /y/z"),
            ("a:read,a:/x", &[Read, Path], &["a:read", "a:/x"], &["a", "a:/y"], "/x"),
            ("b,c:read", &[], &[], &["a", "a:read", "a:/x"], ""),
        ] {
            let scopes = Scopes::parse([allowed]).unwrap();
            let got = Allowed::of(Some(&scopes), &ServiceId::new("a").unwrap());
            assert_eq!((&*got.accesses(), &*got.paths()), (offered, paths), "{allowed}");
            for (scopes, want) in [(covered, true), (refused, false)] {
                for scope in scopes {
                    assert_eq!(got.covers(&Scope::new(scope).unwrap()), want, "{allowed} {scope}");
                }
            }
        }
        let all = Allowed::of(None, &ServiceId::new("a").unwrap());
        assert_eq!(all.accesses(), Access::ALL);
        assert!(all.covers(&Scope::new("a").unwrap()));
    }
}
