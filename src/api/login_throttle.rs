//! Slows down who guesses passwords.
//!
//! Failed attempts are counted per user and per peer address. The first few cost nothing. After
//! them every attempt has to wait, each time twice as long, and one that comes earlier is refused
//! with 429 and `Retry-After`: it is not looked at, and does not prolong the wait. The right
//! password after the wait lets in and forgets the failures of the user.
//!
//! Only so many passwords are checked at once, and the verdict is asked again when it is an
//! attempt's turn: whoever sends a thousand guesses at the same time gets no more answers than who
//! sends them one by one, save for those few.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{clock::Timestamp, passticket::UserId};

/// How many passwords are checked at once.
const AT_ONCE: usize = 16;

/// How failed attempts are held against somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Policy {
    /// So many failures cost nothing.
    free: u32,
    /// The wait after the first failure that does, and its double after each further one.
    first_wait: Duration,
    longest_wait: Duration,
    /// Without a failure for so long, all is forgotten.
    forget_after: Duration,
    /// So many users, and so many addresses, are remembered at the most: twice that, in fact.
    remembered: usize,
}

/// An honest user mistypes a few times. Behind one address there may be many of them, so it takes
/// more to be held against all.
const PER_USER: Policy = Policy {
    free: 4,
    first_wait: Duration::from_secs(1),
    longest_wait: Duration::from_secs(15 * 60),
    forget_after: Duration::from_secs(60 * 60),
    remembered: 50_000,
};
const PER_PEER: Policy = Policy { free: 20, ..PER_USER };

/// The failed login attempts of late.
#[derive(Debug)]
pub(super) struct LoginThrottle {
    users: Ledger<UserId>,
    peers: Ledger<IpAddr>,
    turns: Semaphore,
}

/// It is too early for the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooEarly {
    /// When the next one will be looked at.
    pub(super) retry_after: Duration,
}

impl LoginThrottle {
    pub(super) fn new() -> Self {
        Self {
            users: Ledger::new(PER_USER),
            peers: Ledger::new(PER_PEER),
            turns: Semaphore::new(AT_ONCE),
        }
    }

    /// Waits for a turn to check a password. `now` is asked before and after the wait.
    ///
    /// # Errors
    /// [`TooEarly`]: the password must not be looked at.
    pub(super) async fn turn(
        &self,
        user: &UserId,
        peer: Option<IpAddr>,
        now: impl Fn() -> Timestamp,
    ) -> Result<SemaphorePermit<'_>, TooEarly> {
        self.verdict(user, peer, now())?;
        let turn = self.turns.acquire().await;
        self.verdict(user, peer, now())?;
        // Nobody closes the semaphore; if somebody did, nobody would get in.
        turn.map_err(|_| TooEarly { retry_after: PER_USER.first_wait })
    }

    /// The password was wrong.
    pub(super) fn failed(&self, user: &UserId, peer: Option<IpAddr>, now: Timestamp) {
        self.users.failed(*user, now);
        if let Some(peer) = peer {
            self.peers.failed(network(peer), now);
        }
    }

    /// The password was right. The address keeps its failures: with one account of one's own one
    /// could otherwise guess at others for ever.
    pub(super) fn succeeded(&self, user: &UserId) {
        self.users.forget(user);
    }

    fn verdict(&self, user: &UserId, peer: Option<IpAddr>, now: Timestamp) -> Result<(), TooEarly> {
        let user = self.users.wait(user, now);
        let peer = peer.map_or(Duration::ZERO, |peer| self.peers.wait(&network(peer), now));
        match user.max(peer) {
            Duration::ZERO => Ok(()),
            retry_after => Err(TooEarly { retry_after }),
        }
    }
}

/// An IPv6 user has at least a /64 to himself.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

/// Failures by key, in two generations: when the young one is full it becomes the old one, and
/// what was old is forgotten. So memory is bounded, and a flood of names has to be as long as the
/// book before it washes one out.
#[derive(Debug)]
struct Ledger<K> {
    policy: Policy,
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
        if young.len() >= self.policy.remembered {
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
    /// How long from `now` on until the next attempt is looked at.
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
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000 + millis)
    }

    fn wait_ms(attempts: &LoginThrottle, name: &str, peer: Option<IpAddr>, now: u64) -> u64 {
        let verdict = attempts.verdict(&user(name), peer, at(now));
        verdict.map_or_else(|e| u64::try_from(e.retry_after.as_millis()).unwrap(), |()| 0)
    }

    #[test]
    fn the_wait_doubles_and_a_refused_attempt_does_not_prolong_it() {
        let attempts = LoginThrottle::new();
        for _ in 0..4 {
            assert_eq!(wait_ms(&attempts, "A", None, 0), 0);
            attempts.failed(&user("A"), None, at(0));
        }
        let mut now = 0;
        for want in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900] {
            assert_eq!(wait_ms(&attempts, "A", None, now), 0);
            attempts.failed(&user("A"), None, at(now));
            assert_eq!(wait_ms(&attempts, "A", None, now), want * 1000);
            // Asking again and again changes nothing.
            assert_eq!(wait_ms(&attempts, "A", None, now + 400), want * 1000 - 400);
            now += want * 1000;
        }
        assert_eq!(wait_ms(&attempts, "B", None, now), 0);
        attempts.succeeded(&user("A"));
        assert_eq!(wait_ms(&attempts, "A", None, 0), 0);
    }

    #[test]
    fn an_address_is_held_to_account_for_all_its_guesses() {
        let attempts = LoginThrottle::new();
        for i in 0..=PER_PEER.free {
            assert_eq!(wait_ms(&attempts, &format!("U{i}"), Some(PEER), 0), 0);
            attempts.failed(&user(&format!("U{i}")), Some(PEER), at(0));
            // An account of one's own does not help.
            attempts.succeeded(&user("MINE"));
        }
        assert_eq!(wait_ms(&attempts, "NEW", Some(PEER), 0), 1000);
        assert_eq!(wait_ms(&attempts, "NEW", Some("192.0.2.2".parse().unwrap()), 0), 0);
        assert_eq!(wait_ms(&attempts, "NEW", None, 0), 0);
        assert_eq!(network("::ffff:192.0.2.1".parse().unwrap()), PEER);
        assert_eq!(
            network("2001:db8:1:2:3:4:5:6".parse().unwrap()),
            network("2001:db8:1:2:ffff::".parse().unwrap())
        );
    }

    #[test]
    fn failures_are_forgotten_after_an_hour_of_peace() {
        let attempts = LoginThrottle::new();
        for _ in 0..30 {
            attempts.failed(&user("A"), None, at(0));
        }
        let hour = 3_600_000;
        assert_eq!(wait_ms(&attempts, "A", None, 899_999), 1);
        attempts.failed(&user("A"), None, at(hour));
        assert_eq!(wait_ms(&attempts, "A", None, hour), 0);
    }

    #[test]
    fn memory_is_bounded() {
        let ledger = Ledger::new(Policy { remembered: 100, ..PER_USER });
        for i in 0u32..10_000 {
            ledger.failed(i, at(0));
        }
        let generations = ledger.generations.lock().unwrap();
        assert!(generations.iter().map(HashMap::len).sum::<usize>() <= 200);
        assert!(generations[0].contains_key(&9_999) && generations[1].contains_key(&9_899));
    }

    #[tokio::test]
    async fn a_crowd_gets_no_more_answers_than_one_by_one_save_for_a_few() {
        let attempts = LoginThrottle::new();
        let name = user("A");
        let checked = std::cell::Cell::new(0);
        let guess = || async {
            if let Ok(_turn) = attempts.turn(&name, None, || at(0)).await {
                checked.set(checked.get() + 1);
                tokio::task::yield_now().await;
                attempts.failed(&name, None, at(0));
            }
        };
        let mut crowd: Vec<_> = (0..1000).map(|_| Box::pin(guess())).collect();
        while !crowd.is_empty() {
            let mut left = Vec::new();
            for mut one in crowd {
                let poll = std::future::poll_fn(|cx| {
                    std::task::Poll::Ready(one.as_mut().poll(cx).is_pending())
                });
                if poll.await {
                    left.push(one);
                }
            }
            crowd = left;
            tokio::task::yield_now().await;
        }
        assert!(checked.get() <= AT_ONCE + 5, "{}", checked.get());
    }
}
