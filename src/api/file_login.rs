//! A login provider with a list of users and their password hashes.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    num::NonZeroUsize,
    sync::Arc,
    thread,
};

use argon2::password_hash;
use tokio::{sync::Semaphore, task};

use super::{
    password_hash::PasswordHash,
    provider::{LoginError, LoginFuture, LoginProvider, Password},
};
use crate::{log_limit::log_limited, passticket::UserId};

/// A login provider for users and password hashes that the program passes to it, for example from a file.
///
/// The provider hashes passwords on Tokio's blocking pool, so it needs a Tokio runtime. By default, the number of
/// concurrent checks is at most half the number of cores, rounded up. Further logins wait.
///
/// A login of an unknown user takes about as long as the slowest hash of a known user. Use the same hash parameters for
/// all users. If the parameters differ, a response that is faster than that for an unknown user reveals that a user
/// exists.
///
/// ```
/// use tower_passticket::{
///     api::{FileLogin, LoginError, LoginProvider, Password, hash_password},
///     passticket::UserId,
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let user = UserId::new("USER")?;
/// let login = FileLogin::new([(user, hash_password(&Password::new("validPassword"))?)])?;
///
/// assert_eq!(login.login(user, Password::new("validPassword")).await, Ok(user));
/// let wrong = login.login(user, Password::new("wrong")).await;
/// assert_eq!(wrong, Err(LoginError::WrongCredentials));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct FileLogin {
    users: Arc<HashMap<UserId, Arc<PasswordHash>>>,
    /// The slowest of all hashes, against which the password of an unknown user is checked. `None` if there are no
    /// users.
    decoy: Option<Arc<PasswordHash>>,
    running: Arc<Semaphore>,
}

impl FileLogin {
    /// Creates a provider for these users and the hashes of their passwords.
    ///
    /// # Errors
    /// [`FileLoginError::DuplicateUser`] if a user is listed twice.
    pub fn new(
        users: impl IntoIterator<Item = (UserId, PasswordHash)>,
    ) -> Result<Self, FileLoginError> {
        let mut hashes = HashMap::new();
        let mut decoy: Option<Arc<PasswordHash>> = None;
        for (user, hash) in users {
            let hash = Arc::new(hash);
            if decoy.as_ref().is_none_or(|decoy| hash.cost() > decoy.cost()) {
                decoy = Some(hash.clone());
            }
            match hashes.entry(user) {
                Entry::Vacant(entry) => entry.insert(hash),
                Entry::Occupied(_) => return Err(FileLoginError::DuplicateUser { user }),
            };
        }
        // With two or more cores, some cores stay free to forward requests, even if there are many logins.
        let half = thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2));
        Ok(Self { users: Arc::new(hashes), decoy, running: Arc::new(Semaphore::new(half)) })
    }

    /// Checks at most `logins` passwords concurrently. The parameters of a hash determine how much memory a check
    /// needs: 19 MiB with the defaults of [`hash_password`](super::hash_password).
    #[must_use]
    pub fn with_max_concurrent(mut self, logins: NonZeroUsize) -> Self {
        self.running = Arc::new(Semaphore::new(logins.get().min(Semaphore::MAX_PERMITS)));
        self
    }

    /// Returns a hash for the check of the password of `user`, and whether the user is known.
    fn hash_for(&self, user: &UserId) -> Option<(Arc<PasswordHash>, bool)> {
        match self.users.get(user) {
            Some(hash) => Some((hash.clone(), true)),
            None => self.decoy.clone().map(|decoy| (decoy, false)),
        }
    }
}

impl fmt::Debug for FileLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileLogin").field("users", &self.users.len()).finish_non_exhaustive()
    }
}

impl LoginProvider for FileLogin {
    fn login(&self, user: UserId, password: Password) -> LoginFuture {
        let hash = self.hash_for(&user);
        let running = self.running.clone();
        Box::pin(async move {
            // Without users, there is no hash to check. A fast response then reveals nothing.
            let (hash, known) = hash.ok_or(LoginError::WrongCredentials)?;
            // The semaphore is never closed.
            let permit = running.acquire_owned().await.map_err(|_| LoginError::Unavailable)?;
            let verified = task::spawn_blocking(move || {
                // The permit is held until the check is done, even if the client disconnects earlier.
                let _permit = permit;
                hash.verify(&password)
            });
            match verified.await {
                Ok(Ok(())) if known => Ok(user),
                Ok(Ok(()) | Err(password_hash::Error::PasswordInvalid)) => {
                    Err(LoginError::WrongCredentials)
                }
                Ok(Err(error)) => {
                    log_limited!(error, "password hash", { %error }, "password check failed: the password could not be hashed");
                    Err(LoginError::Unavailable)
                }
                Err(error) => {
                    log_limited!(error, "password task", { %error }, "password check failed: the blocking task did not finish");
                    Err(LoginError::Unavailable)
                }
            }
        })
    }
}

/// The reason why a [`FileLogin`] cannot be created from a list of users.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileLoginError {
    /// The same user is listed twice.
    #[error("user {user} is listed twice; keep one entry")]
    DuplicateUser {
        /// The user.
        user: UserId,
    },
}

#[cfg(test)]
mod tests {
    use argon2::{Argon2, CustomizedPasswordHasher, Params};
    use test_support::tickets::user;
    use tokio_test::{assert_pending, assert_ready_err, task::spawn};

    use super::*;

    fn cheap_hash(password: &str, t_cost: u32) -> PasswordHash {
        let params = Params::new(8, t_cost, 1, None).unwrap();
        let hash = Argon2::default().hash_password_with_params(
            password.as_bytes(),
            b"saltsaltsalt",
            params,
        );
        hash.unwrap().to_string().parse().unwrap()
    }

    #[tokio::test]
    async fn only_the_right_password_of_a_known_user_logs_in() {
        let login =
            FileLogin::new([(user("A"), cheap_hash("one", 1)), (user("B"), cheap_hash("two", 3))])
                .unwrap();
        for (name, password, want) in [
            ("A", "one", Ok(user("A"))),
            ("B", "two", Ok(user("B"))),
            ("A", "two", Err(LoginError::WrongCredentials)),
            ("A", "", Err(LoginError::WrongCredentials)),
            ("A", "ONE", Err(LoginError::WrongCredentials)),
            // The password matches the decoy hash, but the user is unknown.
            ("C", "two", Err(LoginError::WrongCredentials)),
        ] {
            let got = login.login(user(name), Password::new(password)).await;
            assert_eq!(got, want, "{name} {password}");
        }
        let without_users = FileLogin::new([]).unwrap();
        let got = without_users.login(user("A"), Password::new("one")).await;
        assert_eq!(got, Err(LoginError::WrongCredentials));
    }

    #[test]
    fn an_unknown_user_takes_as_long_as_the_slowest_hash() {
        let login = FileLogin::new([
            (user("A"), cheap_hash("x", 1)),
            (user("B"), cheap_hash("x", 3)),
            (user("C"), cheap_hash("x", 2)),
        ])
        .unwrap();
        let (decoy, known) = login.hash_for(&user("NOBODY")).unwrap();
        assert_eq!(decoy.expose(), cheap_hash("x", 3).expose());
        assert!(!known);
    }

    #[tokio::test]
    async fn concurrent_checks_are_limited() {
        let login = FileLogin::new([(user("A"), cheap_hash("one", 1))])
            .unwrap()
            .with_max_concurrent(NonZeroUsize::MIN);
        let permit = login.running.clone().acquire_owned().await.unwrap();
        let mut waiting = spawn(login.login(user("A"), Password::new("wrong")));
        assert_pending!(waiting.poll());
        drop(permit);
        assert!(waiting.is_woken());
        assert_eq!(waiting.await, Err(LoginError::WrongCredentials));
        login.running.close();
        assert_ready_err!(spawn(login.login(user("A"), Password::new("one"))).poll());
    }

    #[test]
    fn a_user_listed_twice_is_an_error_and_debug_shows_no_password() {
        let twice =
            FileLogin::new([(user("A"), cheap_hash("x", 1)), (user("a"), cheap_hash("x", 1))]);
        assert_eq!(twice.unwrap_err(), FileLoginError::DuplicateUser { user: user("A") });
        let login = FileLogin::new([(user("A"), cheap_hash("x", 1))]).unwrap();
        assert_eq!(
            format!("{login:?} {:?}", Password::new("pw")),
            "FileLogin { users: 1, .. } Password(..)"
        );
    }
}
