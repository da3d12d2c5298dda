//! The trait [`LoginProvider`], which checks passwords.

use std::{fmt, pin::Pin, sync::Arc};

use zeroize::Zeroizing;

use super::platform_error::PlatformError;
use crate::passticket::UserId;

/// Checks the passwords of users.
///
/// [`FileLogin`](super::FileLogin) implements this trait with a list of users and password hashes. Implement the trait
/// yourself to check passwords with a directory or another system.
///
/// `Arc<dyn LoginProvider>` also implements this trait, so a program can choose a provider at run time.
///
/// # Example
/// ```
/// use std::sync::Arc;
/// use tower_passticket::{
///     api::{FileLogin, LoginError, LoginFuture, LoginProvider, Password},
///     passticket::UserId,
/// };
/// # #[derive(Clone, Default)]
/// # struct Directory;
/// # impl Directory {
/// #     async fn bind(&self, _: UserId, _: Password) -> bool { true }
/// # }
///
/// /// Logs in at a directory.
/// #[derive(Default)]
/// struct DirectoryLogin {
///     directory: Directory,
/// }
///
/// impl LoginProvider for DirectoryLogin {
///     fn login(&self, user: UserId, password: Password) -> LoginFuture {
///         let directory = self.directory.clone();
///         Box::pin(async move {
///             let accepted = directory.bind(user, password).await;
///             if accepted { Ok(user) } else { Err(LoginError::WrongCredentials) }
///         })
///     }
/// }
///
/// /// Chooses at run time.
/// fn provider(users: Option<FileLogin>) -> Arc<dyn LoginProvider> {
///     match users {
///         Some(users) => Arc::new(users),
///         None => Arc::new(DirectoryLogin::default()),
///     }
/// }
///
/// # tokio_test::block_on(async {
/// let user = UserId::new("USER")?;
/// let login = provider(None).login(user, Password::new("secret"));
/// assert_eq!(login.await, Ok(user));
/// let login = provider(Some(FileLogin::new([])?)).login(user, Password::new("secret"));
/// assert_eq!(login.await, Err(LoginError::WrongCredentials));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
pub trait LoginProvider: Send + Sync + 'static {
    /// Checks the password of `user`. The future returns the user id of the logged-in user, which differs from `user`
    /// if the provider translates user ids.
    ///
    /// The future runs in a separate task. If the client disconnects, it continues, so that the login throttle counts
    /// each guess. After a minute, the future is dropped, and the login fails with [`LoginError::Unavailable`].
    fn login(&self, user: UserId, password: Password) -> LoginFuture;

    /// Checks the password of `user` and replaces it with `new`. Returns `None` if this provider does not support
    /// password changes. By default, returns `None`.
    fn change_password(
        &self,
        user: UserId,
        password: Password,
        new: Password,
    ) -> Option<LoginFuture> {
        let _ = (user, password, new);
        None
    }

    /// Ends the session that the provider keeps for `user`. `AuthApi` calls this function after a logout has tried to
    /// revoke a login token of `user`. The function must not block. By default, it does nothing.
    fn logged_out(&self, user: UserId) {
        let _ = user;
    }
}

/// The future of [`LoginProvider`]. It returns the logged-in user, or the reason why the login failed.
pub type LoginFuture = Pin<Box<dyn Future<Output = Result<UserId, LoginError>> + Send>>;

impl<L: LoginProvider + ?Sized> LoginProvider for Arc<L> {
    fn login(&self, user: UserId, password: Password) -> LoginFuture {
        (**self).login(user, password)
    }

    fn change_password(
        &self,
        user: UserId,
        password: Password,
        new: Password,
    ) -> Option<LoginFuture> {
        (**self).change_password(user, password, new)
    }

    fn logged_out(&self, user: UserId) {
        (**self).logged_out(user);
    }
}

/// The reason why a login failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoginError {
    /// The user does not exist, or the password is wrong. The response does not say which.
    #[error("the user or the password is wrong")]
    WrongCredentials,
    /// The user and the password are right, but the new password is not allowed.
    #[error("the new password is refused")]
    NewPasswordRefused,
    /// z/OS refuses the login or could not check the password, and says why.
    #[error("the login at z/OS failed: {0}")]
    Platform(PlatformError),
    /// The password could not be checked, for example because the back end does not answer.
    #[error("the login provider is not available")]
    Unavailable,
}

impl LoginError {
    /// Returns whether the login may have been a guess of the password. The login throttle counts only guesses.
    pub(super) fn is_guess(self) -> bool {
        match self {
            Self::WrongCredentials => true,
            Self::Platform(error) => error.is_guess(),
            Self::NewPasswordRefused | Self::Unavailable => false,
        }
    }
}

/// A password for a [`LoginProvider`]. `Debug` does not show it. Dropping it overwrites its memory.
///
/// A client may send bytes that are not UTF-8.
pub struct Password(Zeroizing<Vec<u8>>);

impl Password {
    /// Creates a password from `bytes`.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    /// Returns the bytes of the password. Do not add them to logs or errors.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}
