//! Resource checks: may a user do this?
//!
//! Whether somebody may revoke the tokens of others is not for the gateway to decide. The security
//! product of the system knows, by *class*, *resource* and *access level*: `READ` on
//! `APIML.SERVICES` in class `ZOWE`, say. [`SafProvider`] is the seam to it, [`FileSaf`] stands in
//! for it where there is none. [`PermittedGenerator`] asks it for each PassTicket.
#![cfg_attr(feature = "remote", doc = "[`EndpointSaf`] asks it through Zowe's SAF endpoint.")]
//!
//! ```
//! use tower_passticket::{
//!     passticket::UserId,
//!     saf::{Access, AccessLevel, FileSaf, Profile, ProfileName, SafProvider},
//! };
//!
//! # tokio_test::block_on(async {
//! let user = UserId::new("USER")?;
//! let services = Profile::new("ZOWE", ProfileName::new("APIML.*")?);
//! let saf = FileSaf::new([services.permit(user, AccessLevel::Update)]);
//!
//! let check = |level| saf.check(&user, "ZOWE", "APIML.SERVICES", level);
//! assert_eq!(check(AccessLevel::Read).await, Ok(Access::Granted));
//! assert_eq!(check(AccessLevel::Control).await, Ok(Access::Refused));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```

#[cfg(feature = "remote")]
mod endpoint;
mod file;
mod permitted;
mod profile;

use std::{fmt, str::FromStr, sync::Arc};

#[cfg(feature = "remote")]
pub use endpoint::EndpointSaf;
pub use file::{FileSaf, Profile};
pub use permitted::{PermittedFuture, PermittedGenerator};
pub use profile::{ProfileName, ProfileNameError, ProfileNameRule};

use crate::passticket::UserId;

/// What somebody wants to do to a resource. A higher level includes the lower ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AccessLevel {
    /// `READ`.
    Read,
    /// `UPDATE`.
    Update,
    /// `CONTROL`.
    Control,
    /// `ALTER`.
    Alter,
}

impl AccessLevel {
    const ALL: [Self; 4] = [Self::Read, Self::Update, Self::Control, Self::Alter];

    /// As the security products write it: `READ`, `UPDATE`, `CONTROL`, `ALTER`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "READ",
            Self::Update => "UPDATE",
            Self::Control => "CONTROL",
            Self::Alter => "ALTER",
        }
    }
}

impl FromStr for AccessLevel {
    type Err = AccessLevelError;

    /// Upper and lower case are the same, as in Zowe's `saf.yml` (zowe-endpoints §6.4).
    fn from_str(text: &str) -> Result<Self, AccessLevelError> {
        let level = Self::ALL.into_iter().find(|level| level.as_str().eq_ignore_ascii_case(text));
        level.ok_or_else(|| AccessLevelError(text.chars().take(80).collect()))
    }
}

impl fmt::Display for AccessLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that is no access level.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no access level; write READ, UPDATE, CONTROL or ALTER")]
pub struct AccessLevelError(String);

/// The answer of the security product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a check that nobody looks at protects nothing"]
pub enum Access {
    /// They may.
    Granted,
    /// They may not.
    Refused,
}

/// Says whether a user may do something to a resource.
///
/// Classes and resources are compared as they are written; what a resource of another name or a
/// pattern grants is for the provider to say. An `Arc` of a provider is a provider.
pub trait SafProvider: Send + Sync + 'static {
    /// Gives the answer, or why there is none. An error is not a refusal.
    type Future: Future<Output = Result<Access, SafError>> + Send + 'static;

    /// Starts checking that `user` has `level` on `resource` in `class`.
    fn check(&self, user: &UserId, class: &str, resource: &str, level: AccessLevel)
    -> Self::Future;

    /// Checks if that takes no waiting. `None` says that it does, and whoever asks goes on with
    /// [`check`](Self::check).
    fn try_check_now(
        &self,
        user: &UserId,
        class: &str,
        resource: &str,
        level: AccessLevel,
    ) -> Option<Result<Access, SafError>> {
        let _ = (user, class, resource, level);
        None
    }

    /// A number that is another one whenever an answer may have become another one: who has one
    /// that was given at the same number need not ask again. `None` says that answers may change at
    /// any time.
    fn version(&self) -> Option<u64> {
        None
    }
}

impl<S: SafProvider + ?Sized> SafProvider for Arc<S> {
    type Future = S::Future;

    fn check(
        &self,
        user: &UserId,
        class: &str,
        resource: &str,
        level: AccessLevel,
    ) -> Self::Future {
        (**self).check(user, class, resource, level)
    }

    fn try_check_now(
        &self,
        user: &UserId,
        class: &str,
        resource: &str,
        level: AccessLevel,
    ) -> Option<Result<Access, SafError>> {
        (**self).try_check_now(user, class, resource, level)
    }

    fn version(&self) -> Option<u64> {
        (**self).version()
    }
}

/// Why nobody can say whether somebody may.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SafError {
    /// The security product cannot be reached.
    #[error("the security product is not available")]
    Unavailable,
    /// It answered, but not whether they may.
    #[error("the security product cannot answer: {0}")]
    Failed(String),
    /// The provider knows the resources of one class only, and this is not it.
    #[error("only class {supported} can be checked, not {class:?}; use another provider of checks")]
    UnsupportedClass {
        /// The class that was asked for.
        class: String,
        /// The class that can be.
        supported: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_read_in_any_case_and_nothing_else_is_one() {
        for level in AccessLevel::ALL {
            assert_eq!(level.to_string().parse(), Ok(level));
            assert_eq!(level.to_string().to_lowercase().parse(), Ok(level));
        }
        for text in ["NONE", "FAILURE", "", " READ"] {
            let error = text.parse::<AccessLevel>().unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("{text:?} is no access level; write READ, UPDATE, CONTROL or ALTER")
            );
        }
    }
}
