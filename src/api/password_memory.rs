//! A cache of verified passwords, for [`BasicLogin`](super::BasicLogin).
//!
//! A client with `Authorization: Basic` sends the password with each request. Without a cache, each request would wait
//! for the server that checks passwords, and this server would record a login for each request. The cache contains no
//! passwords, but keyed hashes of user and password. The key of the hashes is random, is created with the cache, and
//! exists only in memory.

use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aws_lc_rs::{hmac, rand::SystemRandom};
use subtle::ConstantTimeEq;
use tokio::sync::watch;

use crate::{layer::PasswordError, passticket::UserId, revocation::ClientNetwork};

/// For this time, a verified password is accepted without another check, even if the password is changed elsewhere or
/// the user is revoked.
pub(super) const LIFETIME: Duration = Duration::from_secs(60);

/// The maximum number of entries in the cache. An entry has about 120 bytes.
const MAX_ENTRIES: usize = 10_000;

const MAX_CHECKS: usize = 1_000;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct KeyedHash([u8; 32]);

/// The user name and the network of a request. A password that was verified for one network must be checked again for
/// another network: the login throttle counts the guesses of each network.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Sender {
    user: UserId,
    network: Option<ClientNetwork>,
}

impl Sender {
    pub(super) fn new(user: UserId, client: Option<IpAddr>) -> Self {
        Self { user, network: client.map(ClientNetwork::from) }
    }
}

pub(super) struct PasswordMemory {
    /// `None` if the system provided no random bytes. [`BasicLogin`](super::BasicLogin) then checks no passwords.
    key: Option<hmac::Key>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    verified: HashMap<Sender, Verified>,
    checks: HashMap<CheckKey, Arc<SharedResult>>,
    /// The number of calls of [`PasswordMemory::forget`]. If this number has changed during a check, the result of the
    /// check is not added to the cache.
    generation: u64,
}

/// The last verified password of a sender.
struct Verified {
    hash: KeyedHash,
    /// The user that the login provider returned.
    user: UserId,
    /// The monotonic time at which the entry expires.
    until: Duration,
}

type CheckKey = (Sender, KeyedHash);
type SharedResult = watch::Sender<Option<Result<UserId, PasswordError>>>;

impl State {
    fn verified(&self, sender: &Sender, now: Duration) -> Option<&Verified> {
        self.verified.get(sender).filter(|verified| now < verified.until)
    }

    /// Adds a verified password of `sender`. The new password replaces an earlier password of the sender. If the cache
    /// is full and no entry has expired, nothing is added, and the password is checked again next time.
    fn add(&mut self, sender: Sender, hash: KeyedHash, user: UserId, now: Duration) {
        if self.verified.len() >= MAX_ENTRIES && !self.verified.contains_key(&sender) {
            self.verified.retain(|_, verified| now < verified.until);
            if self.verified.len() >= MAX_ENTRIES {
                return;
            }
        }
        self.verified.insert(sender, Verified { hash, user, until: now + LIFETIME });
    }

    /// Removes the check `shared`, but not a later check with the same key.
    fn remove_check(&mut self, key: &CheckKey, shared: &Arc<SharedResult>) {
        if self.checks.get(key).is_some_and(|it| Arc::ptr_eq(it, shared)) {
            self.checks.remove(key);
        }
    }
}

impl PasswordMemory {
    pub(super) fn new() -> Self {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok();
        Self { key, state: Mutex::default() }
    }

    pub(super) fn hash(&self, user: &UserId, password: &[u8]) -> Option<KeyedHash> {
        let mut context = hmac::Context::with_key(self.key.as_ref()?);
        context.update(user.as_bytes());
        // A user id contains no colon, so different pairs of user and password give different hashes.
        context.update(b":");
        context.update(password);
        context.sign().as_ref().try_into().ok().map(KeyedHash)
    }

    /// Returns whether a password of `sender` was verified a short time ago.
    pub(super) fn contains(&self, sender: &Sender, now: Duration) -> bool {
        self.state().verified(sender, now).is_some()
    }

    /// Returns the user of the password `hash` of `sender`, if the cache contains it. Each call is a guess, so the
    /// caller must ask the login throttle first.
    pub(super) fn find(&self, sender: &Sender, hash: &KeyedHash, now: Duration) -> Option<UserId> {
        let state = self.state();
        let verified = state.verified(sender, now)?;
        bool::from(verified.hash.0.ct_eq(&hash.0)).then_some(verified.user)
    }

    /// Removes the password of a user, because the user may have changed it. A check in progress may still accept the
    /// old password. So the cache adds no results of checks in progress, and later requests do not join these checks.
    pub(super) fn forget(&self, user: &UserId) {
        let mut state = self.state();
        state.generation += 1;
        state.checks.clear();
        state.verified.retain(|sender, verified| sender.user != *user && verified.user != *user);
    }

    /// Calls [`forget`](Self::forget) when the returned value is dropped.
    pub(super) fn forget_on_drop(self: &Arc<Self>, user: UserId) -> ForgetOnDrop {
        ForgetOnDrop { memory: self.clone(), user: Some(user) }
    }

    /// Joins the check in progress of this user and password for this network. If there is none, begins one. So a burst
    /// of requests causes one login. Returns `None` if too many checks are in progress.
    pub(super) fn join(
        self: &Arc<Self>,
        sender: Sender,
        hash: KeyedHash,
        now: Duration,
    ) -> Option<Joined> {
        let key = (sender, hash);
        let mut state = self.state();
        if let Some(shared) = state.checks.get(&key) {
            return Some(Joined { result: shared.subscribe(), begun: None });
        }
        if state.checks.len() >= MAX_CHECKS {
            return None;
        }
        let (shared, result) = watch::channel(None);
        let shared = Arc::new(shared);
        state.checks.insert(key, shared.clone());
        let was_compared = state.verified(&sender, now).is_some_and(|it| it.hash != hash);
        let generation = state.generation;
        let begun = Check { memory: self.clone(), key, shared, generation, was_compared };
        Some(Joined { result, begun: Some(begun) })
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

/// Removes the password of a user from the cache when this value is dropped. If the provider is late or panics, it is
/// not known whether the password was changed. The password is then also removed.
pub(super) struct ForgetOnDrop {
    memory: Arc<PasswordMemory>,
    user: Option<UserId>,
}

impl ForgetOnDrop {
    /// Keeps the password, because the provider has certainly not changed it.
    pub(super) fn cancel(mut self) {
        self.user = None;
    }
}

impl Drop for ForgetOnDrop {
    fn drop(&mut self) {
        if let Some(user) = self.user {
            self.memory.forget(&user);
        }
    }
}

/// A request that waits for the result of a check.
pub(super) struct Joined {
    result: watch::Receiver<Option<Result<UserId, PasswordError>>>,
    /// The check that this request must run. `None` if the request joined the check of another request.
    pub(super) begun: Option<Check>,
}

impl Joined {
    /// Waits for the result. If the check panics, the result is [`PasswordError::Unavailable`].
    pub(super) async fn result(mut self) -> Result<UserId, PasswordError> {
        // If this request kept its own [`Check`], the channel would stay open. So the wait would not end after a panic.
        drop(self.begun.take());
        match self.result.wait_for(Option::is_some).await {
            Ok(result) => result.unwrap_or(Err(PasswordError::Unavailable)),
            Err(_) => Err(PasswordError::Unavailable),
        }
    }
}

/// A check in progress. When it is finished or dropped, requests can no longer join it.
pub(super) struct Check {
    memory: Arc<PasswordMemory>,
    key: CheckKey,
    shared: Arc<SharedResult>,
    generation: u64,
    was_compared: bool,
}

impl Check {
    /// Returns whether the cache had another password of the sender. From a refusal, the client can then conclude that
    /// its password is not the cached password. So the check counts as a guess from its start.
    pub(super) fn was_compared(&self) -> bool {
        self.was_compared
    }

    /// Gives the result to the waiting requests. If the password is right, adds it to the cache, unless
    /// [`PasswordMemory::forget`] was called during the check.
    pub(super) fn finish(self, result: Result<UserId, PasswordError>, now: Duration) {
        {
            let mut state = self.memory.state();
            if let Ok(user) = result
                && state.generation == self.generation
            {
                let (sender, hash) = self.key;
                state.add(sender, hash, user, now);
            }
            // The lock also protects the cache, so no request can join the check after its result was added.
            state.remove_check(&self.key, &self.shared);
        }
        self.shared.send_replace(Some(result));
    }

    /// Waits until no request waits for the result, and then removes the check.
    pub(super) async fn abandoned(&self) {
        loop {
            self.shared.closed().await;
            let mut state = self.memory.state();
            // Requests join only under the lock. So a request may have joined before the lock was taken, but none joins
            // now.
            if self.shared.receiver_count() == 0 {
                state.remove_check(&self.key, &self.shared);
                return;
            }
        }
    }
}

impl Drop for Check {
    fn drop(&mut self) {
        self.memory.state().remove_check(&self.key, &self.shared);
    }
}

#[cfg(test)]
mod tests {
    use test_support::tickets::user;

    use super::*;

    const RIGHT: KeyedHash = KeyedHash([1; 32]);

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn sender(name: &str) -> Sender {
        Sender::new(user(name), None)
    }

    fn add(memory: &Arc<PasswordMemory>, from: Sender, hash: KeyedHash, result: &str, now: u64) {
        let mut joined = memory.join(from, hash, secs(now)).unwrap();
        joined.begun.take().unwrap().finish(Ok(user(result)), secs(now));
    }

    #[test]
    fn a_password_is_kept_for_a_minute_and_only_for_its_user_and_network() {
        let memory = Arc::new(PasswordMemory::new());
        let hash =
            |name: &str, password: &str| memory.hash(&user(name), password.as_bytes()).unwrap();
        let from = |name, address: &str| Sender::new(user(name), address.parse().ok());
        add(&memory, from("A", "192.0.2.1"), hash("A", "secret"), "B", 0);
        for (name, address, password, now, want) in [
            ("A", "192.0.2.1", "secret", 0, Some("B")),
            ("A", "192.0.2.2", "secret", 0, Some("B")),
            ("A", "::ffff:192.0.2.1", "secret", 0, Some("B")),
            ("A", "192.0.2.1", "secret", 59, Some("B")),
            ("A", "192.0.2.1", "secret", 60, None),
            ("A", "192.0.3.1", "secret", 0, None),
            ("A", "", "secret", 0, None),
            ("A", "192.0.2.1", "secre", 0, None),
            ("A", "192.0.2.1", "Secret", 0, None),
            ("A", "192.0.2.1", "", 0, None),
            ("B", "192.0.2.1", "secret", 0, None),
        ] {
            let found = memory.find(&from(name, address), &hash(name, password), secs(now));
            assert_eq!(found, want.map(user), "{name} {address} {password} {now}");
        }
        // Each process has its own hash key.
        let foreign = PasswordMemory::new().hash(&user("A"), b"secret").unwrap();
        assert_eq!(memory.find(&from("A", "192.0.2.1"), &foreign, secs(0)), None);
    }

    #[test]
    fn a_changed_password_is_removed_by_the_user_of_the_request_and_by_the_verified_user() {
        for name in ["A", "B"] {
            let memory = Arc::new(PasswordMemory::new());
            add(&memory, sender("A"), RIGHT, "B", 0);
            memory.forget_on_drop(user(name)).cancel();
            assert!(memory.contains(&sender("A"), secs(0)), "{name}");
            drop(memory.forget_on_drop(user(name)));
            assert!(!memory.contains(&sender("A"), secs(0)), "{name}");
        }
    }

    #[test]
    fn a_check_that_began_before_a_change_is_neither_added_nor_joined() {
        let memory = Arc::new(PasswordMemory::new());
        let mut before = memory.join(sender("A"), RIGHT, secs(0)).unwrap();
        memory.forget(&user("A"));
        let mut after = memory.join(sender("A"), RIGHT, secs(0)).unwrap();
        let after = after.begun.take().expect("a check of its own");
        before.begun.take().unwrap().finish(Ok(user("A")), secs(0));
        assert!(!memory.contains(&sender("A"), secs(0)));
        // The end of the first check does not remove the second check.
        assert_eq!(memory.state().checks.len(), 1);
        after.finish(Ok(user("A")), secs(0));
        assert!(memory.contains(&sender("A"), secs(0)));
        assert!(memory.state().checks.is_empty());
    }

    #[test]
    fn the_memory_is_bounded_and_keeps_the_users_that_it_has() {
        let memory = Arc::new(PasswordMemory::new());
        for i in 0..MAX_ENTRIES + 10 {
            add(&memory, sender(&format!("U{i}")), RIGHT, "A", 0);
        }
        assert_eq!(memory.state().verified.len(), MAX_ENTRIES);
        add(&memory, sender("U1"), RIGHT, "A", 30);
        assert!(memory.contains(&sender("U1"), secs(80)));
        add(&memory, sender("NEW"), RIGHT, "A", 60);
        assert!(memory.contains(&sender("NEW"), secs(60)));
        assert_eq!(memory.state().verified.len(), 2);
    }

    #[test]
    fn the_number_of_checks_is_bounded() {
        let memory = Arc::new(PasswordMemory::new());
        let join = |i: usize| memory.join(sender(&format!("U{i}")), RIGHT, secs(0));
        let mut checks: Vec<_> = (0..MAX_CHECKS).map(|i| join(i).unwrap()).collect();
        assert!(join(MAX_CHECKS).is_none());
        assert!(join(0).unwrap().begun.is_none());
        checks.pop();
        assert!(join(MAX_CHECKS).is_some());
        drop(checks);
        assert!(memory.state().checks.is_empty());
    }

    #[tokio::test]
    async fn equal_passwords_share_one_check_and_the_check_is_removed() {
        let memory = Arc::new(PasswordMemory::new());
        let join = |byte| memory.join(sender("A"), KeyedHash([byte; 32]), secs(0)).unwrap();
        let (mut one, two, mut other) = (join(1), join(1), join(2));
        let elsewhere = Sender::new(user("A"), "192.0.2.1".parse().ok());
        assert!(memory.join(elsewhere, KeyedHash([1; 32]), secs(0)).unwrap().begun.is_some());
        assert!(two.begun.is_none());
        let check = other.begun.take().unwrap();
        assert!(!check.was_compared());
        check.finish(Err(PasswordError::Wrong), secs(0));
        assert_eq!(other.result().await, Err(PasswordError::Wrong));
        one.begun.take().unwrap().finish(Ok(user("A")), secs(0));
        // The first check has ended, so a later request begins another check.
        let mut later = join(1);
        let check = later.begun.take().unwrap();
        assert!(!check.was_compared(), "the password is the cached one");
        assert!(join(2).begun.take().unwrap().was_compared());
        check.finish(Err(PasswordError::Wrong), secs(0));
        assert_eq!(later.result().await, Err(PasswordError::Wrong));
        assert_eq!((one.result().await, two.result().await), (Ok(user("A")), Ok(user("A"))));
        // This check is dropped without a result, like a check that panics.
        assert_eq!(join(4).result().await, Err(PasswordError::Unavailable));
        assert!(memory.state().checks.is_empty());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn concurrent_requests_leave_no_check_and_no_result_behind() {
        let memory = Arc::new(PasswordMemory::new());
        for round in 0..300_u64 {
            let requests: Vec<_> = (0..8_u64)
                .map(|i| {
                    let memory = memory.clone();
                    tokio::spawn(async move {
                        let Some(mut joined) = memory.join(sender("A"), RIGHT, secs(0)) else {
                            panic!("one password has one check");
                        };
                        let task = joined.begun.take().map(|check| {
                            tokio::spawn(async move {
                                tokio::select! {
                                    () = tokio::task::yield_now() => {}
                                    () = check.abandoned() => return,
                                }
                                check.finish(Err(PasswordError::Wrong), secs(0));
                            })
                        });
                        // Some clients do not wait for the result.
                        if (round + i) % 3 > 0 {
                            assert_eq!(joined.result().await, Err(PasswordError::Wrong));
                        }
                        task
                    })
                })
                .collect();
            for request in requests {
                if let Some(task) = request.await.unwrap() {
                    task.await.unwrap();
                }
            }
            assert!(memory.state().checks.is_empty(), "{round}");
        }
    }
}
