//! Checks passwords in `Authorization: Basic` on routes ([D24](crate::decisions#d24)).

use std::{net::IpAddr, pin::Pin, sync::Arc, time::Duration};

use http::StatusCode;

use crate::{
    audit::ReasonCode,
    messages::{self, ApiMessage},
    passticket::UserId,
};

/// Checks the passwords of clients on routes with [`ClientBasic::Verify`](super::ClientBasic::Verify).
///
/// Pass it to [`Authenticator::with_passwords`](super::Authenticator::with_passwords).
#[cfg_attr(feature = "api", doc = "[`BasicLogin`](crate::api::BasicLogin)")]
#[cfg_attr(not(feature = "api"), doc = "`api::BasicLogin`")]
/// implements this trait with a login provider, a limit on failed logins, and a cache of verified passwords.
///
/// ```
/// use std::net::IpAddr;
/// use tower_passticket::{
///     layer::{PasswordError, PasswordFuture, PasswordVerifier},
///     passticket::UserId,
/// };
///
/// /// Accepts one password for one user. A real verifier also limits the number of tries.
/// struct OneUser(UserId, &'static [u8]);
///
/// impl PasswordVerifier for OneUser {
///     fn verify_password(&self, user: UserId, password: &[u8], _: Option<IpAddr>) -> PasswordFuture {
///         let is_right = user == self.0 && password == self.1;
///         let result = if is_right { Ok(user) } else { Err(PasswordError::Wrong) };
///         Box::pin(std::future::ready(result))
///     }
/// }
/// ```
///
/// An implementation must limit how many passwords a client can try.
pub trait PasswordVerifier: Send + Sync + 'static {
    /// Checks the password without waiting, for example because the same password was verified a moment ago. Returns
    /// `None` if this is not possible. The caller then calls [`verify_password`](Self::verify_password) with the same
    /// values. `client` is the address of the client, if it is known. The default implementation returns `None`.
    ///
    /// The limit for the number of tries also applies to this method.
    fn try_verify_now(
        &self,
        user: &UserId,
        password: &[u8],
        client: Option<IpAddr>,
    ) -> Option<Result<UserId, PasswordError>> {
        let _ = (user, password, client);
        None
    }

    /// Starts to check a password. The password is not empty, and can contain bytes that are not UTF-8. `client` is the
    /// address of the client, if it is known. The future returns the authenticated user. It must limit the time for
    /// which it waits for a server.
    fn verify_password(
        &self,
        user: UserId,
        password: &[u8],
        client: Option<IpAddr>,
    ) -> PasswordFuture;
}

/// The future of [`PasswordVerifier::verify_password`].
pub type PasswordFuture = Pin<Box<dyn Future<Output = Result<UserId, PasswordError>> + Send>>;

impl<V: PasswordVerifier + ?Sized> PasswordVerifier for Arc<V> {
    fn try_verify_now(
        &self,
        user: &UserId,
        password: &[u8],
        client: Option<IpAddr>,
    ) -> Option<Result<UserId, PasswordError>> {
        (**self).try_verify_now(user, password, client)
    }

    fn verify_password(
        &self,
        user: UserId,
        password: &[u8],
        client: Option<IpAddr>,
    ) -> PasswordFuture {
        (**self).verify_password(user, password, client)
    }
}

/// Why a [`PasswordVerifier`] does not accept a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PasswordError {
    /// The user does not exist, or the password is wrong.
    #[error("the user or the password is wrong")]
    Wrong,
    /// The user may not log in. The client gets the same message as for a wrong password.
    #[error("the login is refused ({})", reason.as_str())]
    Refused {
        /// The reason for the audit record, such as [`ReasonCode::PasswordExpired`].
        reason: ReasonCode,
    },
    /// There were too many failed logins, so the password was not checked.
    #[error("there were too many failed logins; the password was not checked")]
    TooManyAttempts {
        /// The time after which the client may try again.
        retry_after: Duration,
    },
    /// The server that checks passwords does not answer, or too many checks are in progress.
    #[error("the server that checks passwords is not available")]
    Unavailable,
}

impl PasswordError {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Wrong | Self::Refused { .. } => StatusCode::UNAUTHORIZED,
            Self::TooManyAttempts { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    pub(super) fn message(self) -> ApiMessage {
        match self {
            Self::Wrong | Self::Refused { .. } => ApiMessage::new(&messages::INVALID_PASSWORD),
            Self::TooManyAttempts { retry_after } => ApiMessage::new(&messages::TOO_MANY_ATTEMPTS)
                .with_detail(&format!(
                    "wait {} seconds",
                    retry_after.as_millis().div_ceil(1000).max(1)
                )),
            Self::Unavailable => ApiMessage::new(&messages::AUTHENTICATION_UNAVAILABLE),
        }
    }

    pub(super) fn retry_after(self) -> Option<Duration> {
        match self {
            Self::TooManyAttempts { retry_after } => Some(retry_after),
            Self::Wrong | Self::Refused { .. } | Self::Unavailable => None,
        }
    }
}

impl From<PasswordError> for ReasonCode {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Wrong => Self::WrongPassword,
            PasswordError::Refused { reason } => reason,
            PasswordError::TooManyAttempts { .. } => Self::TooManyAttempts,
            PasswordError::Unavailable => Self::LoginUnavailable,
        }
    }
}
