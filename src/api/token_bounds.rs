//! The bounds that the administrator sets for new Personal Access Tokens.

use super::error::ApiError;
use crate::{
    clock::Timestamp,
    passticket::UserId,
    token::{IssuedToken, MAX_TOKEN_LEN, Scopes, Validity},
};

#[derive(Clone, Copy)]
pub(super) struct TokenBounds<'a> {
    pub(super) max_validity: Validity,
    /// `None` allows all scopes.
    pub(super) allowed: Option<&'a Scopes>,
}

impl TokenBounds<'_> {
    /// Checks that each scope is allowed.
    ///
    /// # Errors
    /// [`ApiError::ScopeNotAllowed`] with the first scope that is not allowed.
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

    pub(super) fn latest_expiry(&self, now: Timestamp) -> Timestamp {
        now.plus(self.max_validity.duration())
    }
}

/// Checks that a new token of `user` is not longer than [`MAX_TOKEN_LEN`]. The gateway refuses requests with a longer
/// token.
///
/// # Errors
/// [`ApiError::TooManyScopes`] if the token is too long.
pub(super) fn check_len(issued: &IssuedToken, user: &UserId) -> Result<(), ApiError> {
    let len = issued.expose().len();
    if len > MAX_TOKEN_LEN {
        tracing::info!(%user, len, "too many scopes for one token");
        return Err(ApiError::TooManyScopes);
    }
    Ok(())
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
