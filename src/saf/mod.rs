//! SAF checks: they decide whether a user may access a resource.
//!
//! SAF (System Authorization Facility) is the z/OS interface to the security product: RACF, ACF2 or Top Secret. The
//! security product decides, for example, which users may revoke the tokens of other users. A check names a *class*, a
//! *resource* and an *access level*, such as `READ` on the resource `APIML.SERVICES` in class `ZOWE`. In the security
//! product, a *profile* lists the users who have access. A profile applies to one resource, or to all resources whose
//! names match a pattern.
//!
//! [`SafProvider`] is the trait for such checks. [`FileSaf`] decides from a list of profiles, and needs no security
//! product. [`PermittedGenerator`] checks a permission with SAF before it makes a PassTicket (a one-time password of
//! z/OS).
#![cfg_attr(
    feature = "remote",
    doc = "[`EndpointSaf`] asks the SAF endpoint of Zowe, an HTTP service on z/OS."
)]
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
pub use file::{DecidingProfile, FileSaf, Profile};
pub use permitted::PermittedGenerator;
pub use profile::{ProfileName, ProfileNameError, ProfileNameRule};

use crate::passticket::UserId;

/// A level of access to a resource. A higher level includes the lower levels.
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

    /// Returns the name of the level in security products: `READ`, `UPDATE`, `CONTROL` or `ALTER`.
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

    /// Parses a name such as `READ`. Upper and lower case do not matter, as in Zowe's file `saf.yml`
    /// (docs/reference/identity-and-saf.md#saf-file).
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

/// The text is not an access level.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an access level; write READ, UPDATE, CONTROL or ALTER")]
pub struct AccessLevelError(String);

/// The decision of a SAF check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a check protects nothing if its result is ignored"]
pub enum Access {
    /// The user has the access.
    Granted,
    /// The user does not have the access.
    Refused,
}

/// The trait for SAF providers, which decide whether a user has access to a resource.
///
/// The class and the resource must be spelled as in the security product. If the spelling differs, the names may match
/// no profile. The provider decides which profile protects a resource.
///
/// The trait is object-safe, and an `Arc` of a provider is a provider. A program that chooses the
/// provider at run time can therefore use `Arc<dyn SafProvider>`.
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
/// /// Chooses the provider at run time.
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
    /// Checks whether `user` has the access `level` to `resource` in `class`. An error means that there
    /// is no decision.
    fn check(&self, user: &UserId, class: &str, resource: &str, level: AccessLevel) -> CheckFuture;

    /// Checks access if this is possible without waiting. Callers call this method first. If it returns
    /// `None`, they call [`check`](Self::check). A provider that never waits should implement this method,
    /// because this saves the allocation of a future.
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

    /// Returns the version of the permissions. The version changes whenever any answer may have changed. So a caller
    /// may use a cached answer until the version changes. `None` (the default) means that answers may change at any
    /// time.
    fn version(&self) -> Option<u64> {
        None
    }
}

/// The future that [`SafProvider::check`] returns. Its result is the decision, or the reason why there is
/// no decision.
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

/// The reason why a SAF check gave no decision.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SafError {
    /// The security product cannot be reached.
    #[error("the security product is not available")]
    Unavailable,
    /// The check failed for another reason, for example because the answer of the security product has no decision.
    #[error("the security product gave no decision: {0}")]
    Failed(String),
    /// The provider supports only one class, and the check was for another class.
    #[error("only class {supported} can be checked, not {class:?}; use another SAF provider")]
    UnsupportedClass {
        /// The class of the check.
        class: String,
        /// The class that the provider supports.
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
