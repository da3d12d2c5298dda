//! Access checks of the security product (SAF).
//!
//! The gateway does not decide who may revoke the tokens of other users. The security product does,
//! by *class*, *resource* and *access level*: for example `READ` on `APIML.SERVICES` in class
//! `ZOWE`. [`SafProvider`] is the trait for such checks. [`FileSaf`] reads permissions from a list
//! where there is no security product. [`PermittedGenerator`] checks the permission for each
//! PassTicket.
#![cfg_attr(feature = "remote", doc = "[`EndpointSaf`] asks Zowe's SAF endpoint.")]
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

use std::{fmt, pin::Pin, str::FromStr, sync::Arc};

#[cfg(feature = "remote")]
pub use endpoint::EndpointSaf;
pub use file::{FileSaf, Profile};
pub use permitted::PermittedGenerator;
pub use profile::{ProfileName, ProfileNameError, ProfileNameRule};

use crate::passticket::UserId;

/// The access that a user wants to a resource. A higher level includes the lower ones.
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

    /// The name that security products use: `READ`, `UPDATE`, `CONTROL`, `ALTER`.
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

    /// Ignores case, as Zowe does in `saf.yml` (docs/reference/identity-and-saf.md#saf-file).
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

/// A text that is not an access level.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an access level; write READ, UPDATE, CONTROL or ALTER")]
pub struct AccessLevelError(String);

/// The decision of the security product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a check protects nothing if its result is ignored"]
pub enum Access {
    /// The user has the access.
    Granted,
    /// The user does not have the access.
    Refused,
}

/// Trait for security products: decides whether a user has access to a resource.
///
/// Classes and resources are compared as they are written. Whether a generic profile covers a
/// resource is for the provider to decide.
///
/// The trait is object-safe, and an `Arc` of a provider is a provider: a program that chooses one
/// at run time uses `Arc<dyn SafProvider>` wherever a provider is expected.
///
/// # Example
/// ```
/// use std::sync::Arc;
/// use tower_passticket::{
///     passticket::UserId,
///     saf::{Access, AccessLevel, CheckFuture, FileSaf, SafError, SafProvider},
/// };
/// # #[derive(Clone, Default)]
/// # struct Client;
/// # impl Client {
/// #     async fn ask(&self, _: String) -> Result<bool, String> { Ok(true) }
/// # }
///
/// /// Asks a service on z/OS.
/// #[derive(Default)]
/// struct Remote {
///     client: Client,
/// }
///
/// impl SafProvider for Remote {
///     fn check(&self, user: &UserId, class: &str, name: &str, level: AccessLevel) -> CheckFuture {
///         let (client, question) = (self.client.clone(), format!("{user} {class} {name} {level}"));
///         Box::pin(async move {
///             match client.ask(question).await {
///                 Ok(true) => Ok(Access::Granted),
///                 Ok(false) => Ok(Access::Refused),
///                 Err(reason) => Err(SafError::Failed(reason)),
///             }
///         })
///     }
/// }
///
/// /// Chooses at run time.
/// fn provider(remote: bool) -> Arc<dyn SafProvider> {
///     if remote { Arc::new(Remote::default()) } else { Arc::new(FileSaf::default()) }
/// }
///
/// # tokio_test::block_on(async {
/// let user = UserId::new("USER")?;
/// let check = |saf: Arc<dyn SafProvider>| {
///     saf.check(&user, "ZOWE", "APIML.SERVICES", AccessLevel::Read)
/// };
/// assert_eq!(check(provider(true)).await, Ok(Access::Granted));
/// assert_eq!(check(provider(false)).await, Ok(Access::Refused));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
pub trait SafProvider: Send + Sync + 'static {
    /// Starts checking that `user` has `level` on `resource` in `class`. An error is not a refusal.
    fn check(&self, user: &UserId, class: &str, resource: &str, level: AccessLevel) -> CheckFuture;

    /// Checks if no waiting is needed. After `None` the caller continues with
    /// [`check`](Self::check). Callers ask here first: a provider that never waits implements this
    /// method to avoid the allocation of a future.
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

    /// Changes whenever any answer may have changed. Equal versions make a cached answer valid.
    /// `None` (the default) means that answers may change at any time.
    fn version(&self) -> Option<u64> {
        None
    }
}

/// The future of [`SafProvider::check`]: the decision, or why there is none.
pub type CheckFuture = Pin<Box<dyn Future<Output = Result<Access, SafError>> + Send>>;

impl<S: SafProvider + ?Sized> SafProvider for Arc<S> {
    fn check(&self, user: &UserId, class: &str, resource: &str, level: AccessLevel) -> CheckFuture {
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

/// Why access was not decided.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SafError {
    /// The security product cannot be reached.
    #[error("the security product is not available")]
    Unavailable,
    /// The security product answered without a decision.
    #[error("the security product gave no decision: {0}")]
    Failed(String),
    /// The provider checks the resources of one class only, and the check was for another class.
    #[error("only class {supported} can be checked, not {class:?}; use another provider of checks")]
    UnsupportedClass {
        /// The class of the check.
        class: String,
        /// The class that the provider checks.
        supported: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_parsed_in_any_case() {
        for level in AccessLevel::ALL {
            assert_eq!(level.to_string().parse(), Ok(level));
            assert_eq!(level.to_string().to_lowercase().parse(), Ok(level));
        }
        for text in ["NONE", "FAILURE", "", " READ"] {
            let error = text.parse::<AccessLevel>().unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("{text:?} is not an access level; write READ, UPDATE, CONTROL or ALTER")
            );
        }
    }
}
