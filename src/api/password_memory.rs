//! A cache of verified passwords, for [`BasicLogin`](super::BasicLogin).
//!
//! A client with `Authorization: Basic` sends the password with each request. Without a cache, each request would wait
//! for a server, and the server would log a login for each request. The cache contains no passwords, but keyed hashes
//! of user and password. The hash key is random. It is created at the start, and exists only in the memory of the
//! process.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aws_lc_rs::{hmac, rand::SystemRandom};
use subtle::ConstantTimeEq;
use tokio::sync::OnceCell;

use crate::{layer::PasswordError, passticket::UserId};

/// A verified password is accepted without another check for this time. So the old password is accepted for up to this
/// time after it was changed elsewhere, or after the user was revoked.
pub(super) const LIFETIME: Duration = Duration::from_secs(60);

/// The maximum number of users in the cache. An entry needs about 100 bytes.
const MAX_USERS: usize = 10_000;

/// The keyed hash of a user and a password.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct KeyedHash([u8; 32]);

/// The cache.
pub(super) struct PasswordMemory {
    /// `None` if the system returned no random bytes. Nothing is then cached.
    key: Option<hmac::Key>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    verified: HashMap<UserId, Verified>,
    checks: HashMap<KeyedHash, Arc<SharedResult>>,
}

/// The last password of a user that was verified.
struct Verified {
    hash: KeyedHash,
    /// The user that the login provider returned.
    user: UserId,
    /// The monotonic time at which the entry ends.
    until: Duration,
}

type SharedResult = OnceCell<Result<UserId, PasswordError>>;

impl PasswordMemory {
    /// Creates an empty cache.
    pub(super) fn new() -> Self {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok();
        Self { key, state: Mutex::default() }
    }

    /// Returns the keyed hash, or `None` if there is no hash key.
    pub(super) fn hash(&self, user: &UserId, password: &[u8]) -> Option<KeyedHash> {
        let mut context = hmac::Context::with_key(self.key.as_ref()?);
        context.update(user.as_bytes());
        // A user id contains no colon, so different pairs of user and password have different texts.
        context.update(b":");
        context.update(password);
        context.sign().as_ref().try_into().ok().map(KeyedHash)
    }

    /// Returns the user, if this password was verified within the last [`LIFETIME`].
    pub(super) fn find(&self, user: &UserId, hash: &KeyedHash, now: Duration) -> Option<UserId> {
        let state = self.state();
        let verified = state.verified.get(user)?;
        let is_equal = bool::from(verified.hash.0.ct_eq(&hash.0));
        (is_equal && now < verified.until).then_some(verified.user)
    }

    /// Adds a verified password of `user`, and replaces any other password of the user. If the cache is full of entries
    /// that have not ended, nothing is added, so the password is checked again next time.
    pub(super) fn add(&self, user: UserId, hash: KeyedHash, result: UserId, now: Duration) {
        let mut state = self.state();
        if state.verified.len() >= MAX_USERS && !state.verified.contains_key(&user) {
            state.verified.retain(|_, verified| now < verified.until);
            if state.verified.len() >= MAX_USERS {
                return;
            }
        }
        let verified = Verified { hash, user: result, until: now + LIFETIME };
        state.verified.insert(user, verified);
    }

    /// Removes the password of a user, because the user has changed it.
    pub(super) fn forget(&self, user: &UserId) {
        self.state().verified.retain(|name, verified| name != user && verified.user != *user);
    }

    /// Returns the running check of this password, or begins one. Requests with the same password share its result, so
    /// that a burst of requests causes only one login.
    pub(super) fn join(self: &Arc<Self>, hash: KeyedHash) -> Check {
        let result = self.state().checks.entry(hash).or_default().clone();
        Check { memory: self.clone(), hash, result }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for PasswordMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordMemory").finish_non_exhaustive()
    }
}

/// A running check. It is removed from the cache when a request has its result, or when no request waits for it. A
/// later request then begins another check.
pub(super) struct Check {
    memory: Arc<PasswordMemory>,
    hash: KeyedHash,
    result: Arc<SharedResult>,
}

impl Check {
    /// Waits for the result. The first caller runs its `check`. If the client of this caller disconnects, another
    /// caller runs its own `check`.
    pub(super) async fn run<F: Future<Output = Result<UserId, PasswordError>>>(
        &self,
        check: impl FnOnce() -> F,
    ) -> Result<UserId, PasswordError> {
        *self.result.get_or_init(check).await
    }
}

impl Drop for Check {
    fn drop(&mut self) {
        let mut state = self.memory.state();
        let is_ours = state.checks.get(&self.hash).is_some_and(|it| Arc::ptr_eq(it, &self.result));
        // If no other request waits, there are two references: one in the cache, and this one.
        if is_ours && (self.result.initialized() || Arc::strong_count(&self.result) <= 2) {
            state.checks.remove(&self.hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use test_support::tickets::user;

    use super::*;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_password_is_kept_for_a_minute_and_only_for_its_user() {
        let memory = PasswordMemory::new();
        let hash =
            |name: &str, password: &str| memory.hash(&user(name), password.as_bytes()).unwrap();
        memory.add(user("A"), hash("A", "secret"), user("B"), secs(0));
        for (name, password, now, want) in [
            ("A", "secret", 0, Some("B")),
            ("A", "secret", 59, Some("B")),
            ("A", "secret", 60, None),
            ("A", "secre", 0, None),
            ("A", "Secret", 0, None),
            ("A", "", 0, None),
            ("B", "secret", 0, None),
        ] {
            let found = memory.find(&user(name), &hash(name, password), secs(now));
            assert_eq!(found, want.map(user), "{name} {password} {now}");
        }
        // Another process has another key.
        let other = PasswordMemory::new();
        let foreign = other.hash(&user("A"), b"secret").unwrap();
        assert_eq!(memory.find(&user("A"), &foreign, secs(0)), None);
    }

    #[test]
    fn a_changed_password_is_removed_under_both_names() {
        for name in ["A", "B"] {
            let memory = PasswordMemory::new();
            let hash = memory.hash(&user("A"), b"secret").unwrap();
            memory.add(user("A"), hash, user("B"), secs(0));
            memory.forget(&user(name));
            assert_eq!(memory.find(&user("A"), &hash, secs(0)), None, "{name}");
        }
    }

    #[test]
    fn the_memory_is_bounded_and_keeps_the_users_that_it_has() {
        let memory = PasswordMemory::new();
        let hash = KeyedHash([1; 32]);
        for i in 0..MAX_USERS + 10 {
            memory.add(user(&format!("U{i}")), hash, user("A"), secs(0));
        }
        assert_eq!(memory.state().verified.len(), MAX_USERS);
        memory.add(user("U1"), hash, user("A"), secs(30));
        assert!(memory.find(&user("U1"), &hash, secs(80)).is_some());
        // After a minute, the other entries have ended, so there is room.
        memory.add(user("NEW"), hash, user("A"), secs(60));
        assert!(memory.find(&user("NEW"), &hash, secs(60)).is_some());
        assert_eq!(memory.state().verified.len(), 2);
    }

    #[tokio::test]
    async fn equal_passwords_share_one_check_and_the_check_is_removed() {
        let memory = Arc::new(PasswordMemory::new());
        let [one, two, abandoned] = [1, 1, 3].map(|byte| memory.join(KeyedHash([byte; 32])));
        let other = memory.join(KeyedHash([2; 32]));
        assert_eq!(one.run(|| async { Ok(user("A")) }).await, Ok(user("A")));
        assert_eq!(
            other.run(|| async { Err(PasswordError::Wrong) }).await,
            Err(PasswordError::Wrong)
        );
        drop((one, other, abandoned));
        assert!(memory.state().checks.is_empty());
        // The first check has ended, so a later request begins another one. Both requests have their own results.
        let later = memory.join(KeyedHash([1; 32]));
        assert_eq!(later.run(|| async { Ok(user("B")) }).await, Ok(user("B")));
        assert_eq!(two.run(|| async { panic!("a second check") }).await, Ok(user("A")));
        drop(two);
        assert_eq!(memory.state().checks.len(), 1);
        drop(later);
        assert!(memory.state().checks.is_empty());
    }
}
