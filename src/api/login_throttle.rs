//! Throttle against password guessing.
//!
//! Failed logins are counted per user and per peer address. The first few failures cause no wait. The
//! next failure causes a short wait, and each further failure doubles the wait. A login during the wait
//! is refused with 429 and `Retry-After`. Its password is not checked, and the wait is not extended. A
//! login with the right password after the wait clears the failures of the user.
//!
//! The number of concurrent password checks is limited. A login may have to wait until another check is
//! done, and then the number of failures is checked again. So a client that sends a thousand guesses
//! concurrently gets only a few more password checks than a client that sends them one after the other.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{clock::Timestamp, passticket::UserId};

/// The maximum number of concurrent password checks.
const MAX_CONCURRENT: usize = 16;

/// How long a user or an address must wait after failed logins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Policy {
    /// The number of failures that cause no wait.
    free: u32,
    /// The wait after the first failure beyond `free`. Each further failure doubles the wait.
    first_wait: Duration,
    longest_wait: Duration,
    /// All failures are forgotten after this time without a failure.
    forget_after: Duration,
    /// The maximum number of entries in one of the two generations of a [`Ledger`].
    generation_size: usize,
}

/// The policy for one user. A user may mistype the password a few times without a wait.
const PER_USER: Policy = Policy {
    free: 4,
    first_wait: Duration::from_secs(1),
    longest_wait: Duration::from_secs(15 * 60),
    forget_after: Duration::from_secs(60 * 60),
    generation_size: 50_000,
};
/// The policy for one address. Many users may share an address, so an address has more free failures than
/// a user.
const PER_PEER: Policy = Policy { free: 20, ..PER_USER };

/// The recent failed logins.
#[derive(Debug)]
pub(super) struct LoginThrottle {
    users: Ledger<UserId>,
    peers: Ledger<IpAddr>,
    turns: Semaphore,
}

/// The login comes too early. Its password must not be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooEarly {
    /// The time until the next password is checked.
    pub(super) retry_after: Duration,
}

impl LoginThrottle {
    pub(super) fn new() -> Self {
        Self {
            users: Ledger::new(PER_USER),
            peers: Ledger::new(PER_PEER),
            turns: Semaphore::new(MAX_CONCURRENT),
        }
    }

    /// Waits until fewer than [`MAX_CONCURRENT`] passwords are being checked. Checks the number of
    /// failures before and after the wait. The caller keeps the returned permit until the password is
    /// checked. `now` returns the current time.
    ///
    /// # Errors
    /// [`TooEarly`] if the user or the address has too many recent failures.
    pub(super) async fn turn(
        &self,
        user: &UserId,
        peer: Option<IpAddr>,
        now: impl Fn() -> Timestamp,
    ) -> Result<SemaphorePermit<'_>, TooEarly> {
        self.check(user, peer, now())?;
        let turn = self.turns.acquire().await;
        self.check(user, peer, now())?;
        // The semaphore is never closed; if it were, no login would succeed.
        turn.map_err(|_| TooEarly { retry_after: PER_USER.first_wait })
    }

    /// Counts a wrong password.
    pub(super) fn failed(&self, user: &UserId, peer: Option<IpAddr>, now: Timestamp) {
        self.users.failed(*user, now);
        if let Some(peer) = peer {
            self.peers.failed(network(peer), now);
        }
    }

    /// Clears the failures of a user after a right password. The failures of the address are not cleared.
    /// Otherwise a client with one account could clear them again and again, and guess the passwords of
    /// other users without a wait.
    pub(super) fn succeeded(&self, user: &UserId) {
        self.users.forget(user);
    }

    fn check(&self, user: &UserId, peer: Option<IpAddr>, now: Timestamp) -> Result<(), TooEarly> {
        let user = self.users.wait(user, now);
        let peer = peer.map_or(Duration::ZERO, |peer| self.peers.wait(&network(peer), now));
        match user.max(peer) {
            Duration::ZERO => Ok(()),
            retry_after => Err(TooEarly { retry_after }),
        }
    }
}

/// The /64 network of an IPv6 address, because one user can usually use all addresses of such a network.
/// An IPv4 address is returned unchanged.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

/// The failures of each user, or of each address, in two maps: the young and the old generation. When the
/// young map is full, it replaces the old map, and a new young map begins. So memory is bounded. To
/// remove the entry of one key, an attacker must fill a whole generation with other keys.
#[derive(Debug)]
struct Ledger<K> {
    policy: Policy,
    /// The young map, then the old map.
    generations: Mutex<[HashMap<K, Failures>; 2]>,
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last: Timestamp,
}

impl<K: Copy + Eq + Hash> Ledger<K> {
    fn new(policy: Policy) -> Self {
        Self { policy, generations: Mutex::default() }
    }

    fn wait(&self, key: &K, now: Timestamp) -> Duration {
        let generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        let found = generations.iter().find_map(|generation| generation.get(key));
        found.map_or(Duration::ZERO, |failures| self.policy.wait(*failures, now))
    }

    fn failed(&self, key: K, now: Timestamp) {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        let [young, old] = &mut *generations;
        let before = young.remove(&key).or_else(|| old.remove(&key));
        let before = before.filter(|f| !self.policy.is_forgotten(*f, now));
        let count = before.map_or(0, |f| f.count).saturating_add(1);
        if young.len() >= self.policy.generation_size {
            *old = std::mem::take(young);
        }
        young.insert(key, Failures { count, last: now });
    }

    fn forget(&self, key: &K) {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        for generation in &mut *generations {
            generation.remove(key);
        }
    }
}

impl Policy {
    /// The time from `now` until the next password is checked.
    fn wait(&self, failures: Failures, now: Timestamp) -> Duration {
        if failures.count <= self.free || self.is_forgotten(failures, now) {
            return Duration::ZERO;
        }
        let doublings = (failures.count - self.free - 1).min(20);
        let wait = (self.first_wait * (1 << doublings)).min(self.longest_wait);
        let until = failures.last.plus(wait).as_millis();
        Duration::from_millis(until.saturating_sub(now.as_millis()))
    }

    fn is_forgotten(&self, failures: Failures, now: Timestamp) -> bool {
        failures.last.plus(self.forget_after) <= now
    }
}

#[cfg(test)]
mod tests {
    use test_support::tickets::user;

    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000 + millis)
    }

    fn wait_ms(throttle: &LoginThrottle, name: &str, peer: Option<IpAddr>, now: u64) -> u64 {
        let checked = throttle.check(&user(name), peer, at(now));
        checked.map_or_else(|e| u64::try_from(e.retry_after.as_millis()).unwrap(), |()| 0)
    }

    #[test]
    fn the_wait_doubles_and_early_attempts_do_not_extend_it() {
        let throttle = LoginThrottle::new();
        for _ in 0..4 {
            assert_eq!(wait_ms(&throttle, "A", None, 0), 0);
            throttle.failed(&user("A"), None, at(0));
        }
        let mut now = 0;
        for want in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900] {
            assert_eq!(wait_ms(&throttle, "A", None, now), 0);
            throttle.failed(&user("A"), None, at(now));
            assert_eq!(wait_ms(&throttle, "A", None, now), want * 1000);
            // A check during the wait does not change the wait.
            assert_eq!(wait_ms(&throttle, "A", None, now + 400), want * 1000 - 400);
            now += want * 1000;
        }
        assert_eq!(wait_ms(&throttle, "B", None, now), 0);
        throttle.succeeded(&user("A"));
        assert_eq!(wait_ms(&throttle, "A", None, 0), 0);
    }

    #[test]
    fn failures_of_all_users_count_for_the_address() {
        let throttle = LoginThrottle::new();
        for i in 0..=PER_PEER.free {
            assert_eq!(wait_ms(&throttle, &format!("U{i}"), Some(PEER), 0), 0);
            throttle.failed(&user(&format!("U{i}")), Some(PEER), at(0));
            // A successful login of another user does not clear the failures of the address.
            throttle.succeeded(&user("MINE"));
        }
        assert_eq!(wait_ms(&throttle, "NEW", Some(PEER), 0), 1000);
        assert_eq!(wait_ms(&throttle, "NEW", Some("192.0.2.2".parse().unwrap()), 0), 0);
        assert_eq!(wait_ms(&throttle, "NEW", None, 0), 0);
        assert_eq!(network("::ffff:192.0.2.1".parse().unwrap()), PEER);
        assert_eq!(
            network("2001:db8:1:2:3:4:5:6".parse().unwrap()),
            network("2001:db8:1:2:ffff::".parse().unwrap())
        );
    }

    #[test]
    fn failures_are_forgotten_after_an_hour_without_a_failure() {
        let throttle = LoginThrottle::new();
        for _ in 0..30 {
            throttle.failed(&user("A"), None, at(0));
        }
        let hour = 3_600_000;
        assert_eq!(wait_ms(&throttle, "A", None, 899_999), 1);
        throttle.failed(&user("A"), None, at(hour));
        assert_eq!(wait_ms(&throttle, "A", None, hour), 0);
    }

    #[test]
    fn memory_is_bounded() {
        let ledger = Ledger::new(Policy { generation_size: 100, ..PER_USER });
        for i in 0u32..10_000 {
            ledger.failed(i, at(0));
        }
        let generations = ledger.generations.lock().unwrap();
        assert!(generations.iter().map(HashMap::len).sum::<usize>() <= 200);
        assert!(generations[0].contains_key(&9_999) && generations[1].contains_key(&9_899));
    }

    #[tokio::test]
    async fn concurrent_guesses_get_few_more_checks_than_sequential_guesses() {
        let throttle = LoginThrottle::new();
        let name = user("A");
        let checked = std::cell::Cell::new(0);
        let guess = || async {
            if let Ok(_turn) = throttle.turn(&name, None, || at(0)).await {
                checked.set(checked.get() + 1);
                tokio::task::yield_now().await;
                throttle.failed(&name, None, at(0));
            }
        };
        let mut guesses: Vec<_> = (0..1000).map(|_| Box::pin(guess())).collect();
        while !guesses.is_empty() {
            let mut pending = Vec::new();
            for mut guess in guesses {
                let poll = std::future::poll_fn(|cx| {
                    std::task::Poll::Ready(guess.as_mut().poll(cx).is_pending())
                });
                if poll.await {
                    pending.push(guess);
                }
            }
            guesses = pending;
            tokio::task::yield_now().await;
        }
        assert!(checked.get() <= MAX_CONCURRENT + 5, "{}", checked.get());
    }
}
