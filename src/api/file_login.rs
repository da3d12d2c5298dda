//! Users with Argon2 hashes of their passwords (RFC 9106).

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    num::NonZeroUsize,
    sync::Arc,
    thread,
};

use argon2::{
    Algorithm, Argon2, Params, PasswordHash, PasswordHasher, PasswordVerifier, Version,
    password_hash,
};
use tokio::{sync::Semaphore, task};

use super::provider::{LoginError, LoginFuture, LoginProvider, Password};
use crate::passticket::UserId;

/// Users whose password hashes somebody has read from a file.
///
/// A hash is a PHC string (`$argon2id$v=19$m=19456,t=2,p=1$…`), as [`hash_password`] makes them.
/// Hashing is meant to be slow: it runs on tokio's blocking pool, on half of the cores at the most,
/// and further logins wait. A user that does not exist costs as much time as the costliest hash, so
/// give all users the same parameters. Needs a tokio runtime to run in.
#[derive(Clone)]
pub struct FileLogin {
    users: Arc<HashMap<UserId, Arc<PasswordHash>>>,
    /// What stands in for the hash of a user that does not exist: the costliest there is.
    decoy: Option<Arc<PasswordHash>>,
    running: Arc<Semaphore>,
}

impl FileLogin {
    /// Takes users and the PHC strings of their passwords.
    ///
    /// # Errors
    /// [`FileLoginError`] names the user whose hash cannot be checked, or who is there twice.
    pub fn new(users: impl IntoIterator<Item = (UserId, String)>) -> Result<Self, FileLoginError> {
        let mut hashes = HashMap::new();
        let mut decoy = None;
        let mut highest = 0;
        for (user, phc) in users {
            let (hash, cost) = parse_phc(&phc)
                .map_err(|problem| FileLoginError::Hash { user, problem: problem.to_string() })?;
            let hash = Arc::new(hash);
            if cost > highest {
                (decoy, highest) = (Some(hash.clone()), cost);
            }
            match hashes.entry(user) {
                Entry::Vacant(entry) => entry.insert(hash),
                Entry::Occupied(_) => return Err(FileLoginError::Twice { user }),
            };
        }
        // The other half goes on forwarding whatever the number of logins.
        let half = thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2));
        Ok(Self { users: Arc::new(hashes), decoy, running: Arc::new(Semaphore::new(half)) })
    }

    /// Hashes at most `logins` passwords at once. Each takes the memory that its hash names, 19 MiB
    /// with the defaults.
    #[must_use]
    pub fn max_concurrent(mut self, logins: NonZeroUsize) -> Self {
        self.running = Arc::new(Semaphore::new(logins.get().min(Semaphore::MAX_PERMITS)));
        self
    }

    /// The hash to compute for `user`, and whether the result counts.
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
            // Without any user there is nobody to be told apart by the time it takes.
            let (hash, known) = hash.ok_or(LoginError::WrongCredentials)?;
            // Nobody closes the semaphore.
            let permit = running.acquire_owned().await.map_err(|_| LoginError::Unavailable)?;
            let verified = task::spawn_blocking(move || {
                // Held until the work is done, even when the client has gone in the meantime.
                let _permit = permit;
                Argon2::default().verify_password(password.expose(), &*hash)
            });
            match verified.await {
                Ok(Ok(())) if known => Ok(user),
                Ok(Ok(()) | Err(password_hash::Error::PasswordInvalid)) => {
                    Err(LoginError::WrongCredentials)
                }
                Ok(Err(error)) => {
                    tracing::error!(%error, "a password cannot be hashed");
                    Err(LoginError::Unavailable)
                }
                Err(error) => {
                    tracing::error!(%error, "a password check did not end");
                    Err(LoginError::Unavailable)
                }
            }
        })
    }
}

/// A hash that can be verified, and how much work that is.
fn parse_phc(phc: &str) -> Result<(PasswordHash, u64), password_hash::Error> {
    let hash = PasswordHash::new(phc)?;
    Algorithm::try_from(hash.algorithm.as_str())?;
    hash.version.map(Version::try_from).transpose()?;
    let params = Params::try_from(&hash)?;
    if hash.salt.is_none() {
        return Err(password_hash::Error::SaltInvalid);
    }
    if hash.hash.is_none() {
        return Err(password_hash::Error::OutputSize);
    }
    Ok((hash, u64::from(params.m_cost()) * u64::from(params.t_cost())))
}

/// Why a set of users cannot be used. Never carries a hash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileLoginError {
    /// The text is no Argon2 hash.
    #[error(
        "the password of {user} is no Argon2 hash: {problem}; write a PHC string that begins with $argon2id$"
    )]
    Hash {
        /// Whose it is.
        user: UserId,
        /// What is wrong with it.
        problem: String,
    },
    /// The same user again.
    #[error("the user {user} is there twice; keep one")]
    Twice {
        /// Who.
        user: UserId,
    },
}

/// Hashes a password with Argon2id, the default parameters and a random salt. What comes out is a
/// PHC string for [`FileLogin::new`].
///
/// Takes tens of milliseconds: not for an async task.
///
/// # Errors
/// [`HashError`] when there is no memory or no randomness.
pub fn hash_password(password: &Password) -> Result<String, HashError> {
    Ok(Argon2::default().hash_password(password.expose())?.to_string())
}

/// A password could not be hashed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the password cannot be hashed: {0}")]
pub struct HashError(#[from] password_hash::Error);

#[cfg(test)]
mod tests {
    use argon2::CustomizedPasswordHasher;
    use tokio_test::{assert_pending, assert_ready_err, task::spawn};

    use super::*;

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn cheap(password: &str, t_cost: u32) -> String {
        let params = Params::new(8, t_cost, 1, None).unwrap();
        let hash = Argon2::default().hash_password_with_params(
            password.as_bytes(),
            b"saltsaltsalt",
            params,
        );
        hash.unwrap().to_string()
    }

    #[tokio::test]
    async fn only_the_right_password_of_a_known_user_logs_in() {
        let login =
            FileLogin::new([(user("A"), cheap("one", 1)), (user("B"), cheap("two", 3))]).unwrap();
        for (name, password, want) in [
            ("A", "one", Ok(user("A"))),
            ("B", "two", Ok(user("B"))),
            ("A", "two", Err(LoginError::WrongCredentials)),
            ("A", "", Err(LoginError::WrongCredentials)),
            ("A", "ONE", Err(LoginError::WrongCredentials)),
            // The password of the decoy opens nothing.
            ("C", "two", Err(LoginError::WrongCredentials)),
        ] {
            let got = login.login(user(name), Password::new(password)).await;
            assert_eq!(got, want, "{name} {password}");
        }
        let nobody = FileLogin::new([]).unwrap();
        let got = nobody.login(user("A"), Password::new("one")).await;
        assert_eq!(got, Err(LoginError::WrongCredentials));
    }

    #[test]
    fn an_unknown_user_costs_as_much_as_the_costliest_known_one() {
        let login = FileLogin::new([
            (user("A"), cheap("x", 1)),
            (user("B"), cheap("x", 3)),
            (user("C"), cheap("x", 2)),
        ])
        .unwrap();
        let (decoy, counts) = login.hash_for(&user("NOBODY")).unwrap();
        assert_eq!(Params::try_from(&*decoy).unwrap().t_cost(), 3);
        assert!(!counts);
    }

    #[tokio::test]
    async fn no_more_run_than_allowed() {
        let login = FileLogin::new([(user("A"), cheap("one", 1))])
            .unwrap()
            .max_concurrent(NonZeroUsize::MIN);
        let other = login.running.clone().acquire_owned().await.unwrap();
        let mut waiting = spawn(login.login(user("A"), Password::new("wrong")));
        assert_pending!(waiting.poll());
        drop(other);
        assert!(waiting.is_woken());
        assert_eq!(waiting.await, Err(LoginError::WrongCredentials));
        login.running.close();
        assert_ready_err!(spawn(login.login(user("A"), Password::new("one"))).poll());
    }

    #[test]
    fn what_cannot_be_verified_is_found_at_load() {
        let good = cheap("x", 1);
        let hash_lost = good.rsplit_once('$').unwrap().0.to_owned();
        let salt_lost = hash_lost.rsplit_once('$').unwrap().0.to_owned();
        for phc in [
            String::new(),
            "validPassword".to_owned(),
            "$2b$12$WApznUPhDubN0oeveSXHp.Rk0rMCDeOVzu4G1l3rnR6mQNEpnFgZe".to_owned(),
            good.replace("argon2id", "scrypt"),
            good.replace("v=19", "v=7"),
            good.replace("m=8", "m=1"),
            good.replace("t=1", "t=0"),
            hash_lost,
            salt_lost,
        ] {
            let error = FileLogin::new([(user("A"), phc.clone())]).unwrap_err();
            assert!(matches!(error, FileLoginError::Hash { .. }), "{phc}: {error}");
            assert!(phc.is_empty() || !error.to_string().contains(&phc), "{error}");
        }
        let twice = FileLogin::new([(user("A"), good.clone()), (user("a"), good)]);
        assert_eq!(twice.unwrap_err(), FileLoginError::Twice { user: user("A") });
    }

    #[tokio::test]
    async fn what_is_hashed_verifies_and_is_argon2id() {
        let phc = hash_password(&Password::new("p\u{e4}ss")).unwrap();
        assert!(phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{phc}");
        let login = FileLogin::new([(user("A"), phc)]).unwrap();
        assert!(login.login(user("A"), Password::new("p\u{e4}ss")).await.is_ok());
        assert_eq!(
            format!("{login:?} {:?}", Password::new("pw")),
            "FileLogin { users: 1, .. } Password(..)"
        );
    }
}
