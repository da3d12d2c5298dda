//! The trait [`LogoutListener`].

use std::sync::Arc;

use crate::passticket::UserId;

/// Removes data of a user at a logout. Implement this trait for each part of a program that keeps data of logged-in
/// users, such as a cache of tokens that other servers have issued for the users.
///
/// Functions implement this trait, and so does `Arc<L>` if `L` implements it.
///
/// ```
/// use std::{collections::HashMap, sync::{Arc, Mutex}};
/// use tower_passticket::{api::LogoutListener, passticket::UserId};
///
/// /// Tokens of users at another server.
/// #[derive(Default)]
/// struct Remembered(Mutex<HashMap<UserId, String>>);
///
/// impl LogoutListener for Remembered {
///     fn logged_out(&self, user: UserId) {
///         self.0.lock().unwrap().remove(&user);
///     }
/// }
///
/// let user = UserId::new("USER")?;
/// let remembered = Arc::new(Remembered::default());
/// remembered.0.lock().unwrap().insert(user, "token".to_owned());
/// remembered.logged_out(user);
/// assert!(remembered.0.lock().unwrap().is_empty());
/// # Ok::<(), tower_passticket::passticket::NameError>(())
/// ```
pub trait LogoutListener: Send + Sync + 'static {
    /// Removes the data of `user`. `AuthApi` calls this function after a logout has tried to revoke a login token of
    /// `user`. The user may still have other login tokens. This function must not block.
    fn logged_out(&self, user: UserId);
}

impl<F: Fn(UserId) + Send + Sync + 'static> LogoutListener for F {
    fn logged_out(&self, user: UserId) {
        self(user);
    }
}

impl<L: LogoutListener + ?Sized> LogoutListener for Arc<L> {
    fn logged_out(&self, user: UserId) {
        (**self).logged_out(user);
    }
}
