//! The seam to whoever knows the passwords.

use std::{fmt, sync::Arc};

use zeroize::Zeroizing;

use crate::passticket::UserId;

/// Checks a user and a password.
///
/// [`FileLogin`](super::FileLogin) knows the users itself. A provider that asks somebody else
/// returns a future that waits.
pub trait LoginProvider: Send + Sync + 'static {
    /// Tells the user who is logged in: the one asked for, unless the provider knows better.
    type Future: Future<Output = Result<UserId, LoginError>> + Send + 'static;

    /// Starts checking that `password` is the one of `user`.
    fn login(&self, user: UserId, password: Password) -> Self::Future;

    /// Starts checking that `password` is the one of `user`, and replacing it by `new`. `None`
    /// from a provider that changes no passwords, which is what this is unless it is overridden.
    fn change_password(
        &self,
        user: UserId,
        password: Password,
        new: Password,
    ) -> Option<Self::Future> {
        let _ = (user, password, new);
        None
    }
}

impl<L: LoginProvider> LoginProvider for Arc<L> {
    type Future = L::Future;

    fn login(&self, user: UserId, password: Password) -> Self::Future {
        (**self).login(user, password)
    }

    fn change_password(
        &self,
        user: UserId,
        password: Password,
        new: Password,
    ) -> Option<Self::Future> {
        (**self).change_password(user, password, new)
    }
}

/// Why nobody is logged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoginError {
    /// No such user, or not this password. Nobody is told which.
    #[error("the user or the password is wrong")]
    WrongCredentials,
    /// They are right, but the new password is not one that may be.
    #[error("the new password is refused")]
    NewPasswordRefused,
    /// Whoever knows the passwords does not answer.
    #[error("the login provider is not available")]
    Unavailable,
}

/// A password on its way to a [`LoginProvider`]. Not shown by `Debug`, wiped when dropped.
///
/// Bytes, not text: what a client sends need not be UTF-8.
pub struct Password(Zeroizing<Vec<u8>>);

impl Password {
    /// Takes the bytes over.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    /// The bytes. Not for logs, errors or anything else that lasts.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}
