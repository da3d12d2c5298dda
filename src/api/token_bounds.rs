//! The bounds that the administrator sets for new Personal Access Tokens.

use std::time::Duration;

use super::error::ApiError;
use crate::{
    clock::Timestamp,
    token::{Scopes, Validity},
};

const DAY_SECS: u64 = 86_400;

/// The bounds for new tokens.
#[derive(Clone, Copy)]
pub(super) struct TokenBounds<'a> {
    /// The maximum validity.
    pub(super) max_validity: Validity,
    /// The scopes that a token may have. `None` allows all scopes.
    pub(super) allowed: Option<&'a Scopes>,
}

impl TokenBounds<'_> {
    /// Checks that each scope is allowed.
    ///
    /// # Errors
    /// [`ApiError::ScopeNotAllowed`] for the first scope that is not.
    pub(super) fn check(&self, scopes: &Scopes) -> Result<(), ApiError> {
        let Some(allowed) = self.allowed else { return Ok(()) };
        match scopes.iter().find(|scope| !allowed.covers(scope)) {
            None => Ok(()),
            Some(scope) => {
                let (scope, allowed) = (scope.clone(), allowed.clone());
                Err(ApiError::ScopeNotAllowed { scope, allowed })
            }
        }
    }

    /// Returns the latest time at which a token that is issued now may expire.
    pub(super) fn latest_expiry(&self, now: Timestamp) -> Timestamp {
        now.plus(Duration::from_secs(DAY_SECS * u64::from(self.max_validity.days())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Scope;

    #[test]
    fn each_scope_must_be_covered_by_an_allowed_scope() {
        let allowed = Scopes::parse(["files", "jobs:read", "data:/a"]).unwrap();
        for (scopes, refused) in [
            ("files", None),
            ("files:read,files:/x,jobs:read,data:/a/b", None),
            ("jobs", Some("jobs")),
            ("files,jobs:/x", Some("jobs:/x")),
            ("data:/b", Some("data:/b")),
            ("data", Some("data")),
            ("other:read", Some("other:read")),
        ] {
            let scopes = Scopes::parse([scopes]).unwrap();
            let check =
                |allowed| TokenBounds { max_validity: Validity::MAX, allowed }.check(&scopes);
            let want = refused.map(|scope| ApiError::ScopeNotAllowed {
                scope: Scope::new(scope).unwrap(),
                allowed: allowed.clone(),
            });
            assert_eq!(check(Some(&allowed)).err(), want, "{scopes}");
            assert_eq!(check(None), Ok(()), "{scopes}");
        }
    }
}
