//! The failed logins and the verified passwords of an [`AuthApi`](super::AuthApi), for a program that replaces its
//! `AuthApi`.

use std::{fmt, sync::Arc};

use super::{login_throttle::FailedLogins, password_memory::PasswordMemory};

/// The failed logins that the login throttle has counted, and the passwords that were verified within the last minute.
///
/// A program that reloads its configuration creates a new [`AuthApi`](super::AuthApi). Pass the memory of the old
/// `AuthApi` to the new `AuthApi` ([`AuthApi::with_login_memory`](super::AuthApi::with_login_memory)). Otherwise, a
/// client that guesses passwords gets new tries after the reload. Clones share the memory.
#[derive(Clone)]
pub struct LoginMemory {
    pub(super) failures: Arc<FailedLogins>,
    pub(super) passwords: Arc<PasswordMemory>,
}

impl LoginMemory {
    /// Returns a memory with the same failed logins, and without verified passwords. Use it if the users or the login
    /// provider have changed. Otherwise, the password of a removed user would be accepted for another minute.
    #[must_use]
    pub fn without_passwords(&self) -> Self {
        Self { failures: self.failures.clone(), passwords: Arc::new(PasswordMemory::new()) }
    }
}

impl Default for LoginMemory {
    fn default() -> Self {
        Self { failures: Arc::default(), passwords: Arc::new(PasswordMemory::new()) }
    }
}

impl fmt::Debug for LoginMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginMemory").finish_non_exhaustive()
    }
}
