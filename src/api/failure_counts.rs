//! Counts the failed logins for the [login throttle](super::login_throttle), and computes how long a client must wait.
//!
//! All times come from a monotonic clock. So a system clock that is set wrong locks no user out.

use std::{collections::HashMap, fmt, hash::Hash, net::IpAddr, time::Duration};

use crate::{
    login_failures::{
        Attempt, FIRST_WAIT, FORGIVEN_A_DAY, FORGIVEN_MEMORY, FailureLimit, FailureLimits,
        NETWORK_MEMORY, NetworkOrigin, USER_MEMORY,
    },
    passticket::UserId,
    revocation::ClientNetwork,
};

/// The time when a [`Ledger`] forgets the failures of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Forgotten {
    /// When this time has passed since the last failure.
    AfterLast(Duration),
    /// When this time has passed since the first failure.
    AfterFirst(Duration),
}

const OF_A_USER: Forgotten = Forgotten::AfterLast(USER_MEMORY);
const OF_A_NETWORK: Forgotten = Forgotten::AfterFirst(NETWORK_MEMORY);
/// Forgiven failures are the failures that a successful login has cleared.
const OF_FORGIVEN: Forgotten = Forgotten::AfterFirst(FORGIVEN_MEMORY);

/// The maximum number of entries in each of the two generations of a [`Ledger`].
const GENERATION: usize = 50_000;

impl FailureLimit {
    fn wait(self, failures: Failures, now: Duration) -> Duration {
        if !self.is_exceeded(failures) {
            return Duration::ZERO;
        }
        let doublings = (failures.count - self.free - 1).min(20);
        let wait = (FIRST_WAIT * (1 << doublings)).min(self.longest_wait);
        (failures.last + wait).saturating_sub(now)
    }

    fn is_exceeded(self, failures: Failures) -> bool {
        failures.count > self.free
    }
}

impl Attempt {
    /// Returns the keys of the counts that can delay the attempt. If the user has recently logged in from this network
    /// (`Known`), only the count of this user in this network can delay it.
    fn keys(self) -> (Pair, Option<UserId>, Option<ClientNetwork>) {
        let pair = (self.user, self.network);
        match self.origin {
            NetworkOrigin::Known => (pair, None, None),
            NetworkOrigin::Unknown => (pair, Some(self.user), self.network),
        }
    }
}

type Pair = (UserId, Option<ClientNetwork>);

/// The counts of failed logins of this process. The memory of each [`Ledger`] is bounded.
#[derive(Debug)]
pub(super) struct FailureCounts {
    users_and_networks: Ledger<Pair>,
    users: Ledger<UserId>,
    networks: Ledger<ClientNetwork>,
    /// The numbers of forgiven failures.
    forgiven: Ledger<Pair>,
}

impl FailureCounts {
    pub(super) fn new(limits: FailureLimits) -> Self {
        let FailureLimits { user_and_network, user, network } = limits;
        let forgiven = FailureLimit::new(FORGIVEN_A_DAY, Duration::ZERO);
        Self {
            users_and_networks: Ledger::new(OF_A_USER, user_and_network),
            users: Ledger::new(OF_A_USER, user),
            networks: Ledger::new(OF_A_NETWORK, network),
            forgiven: Ledger::new(OF_FORGIVEN, forgiven),
        }
    }

    fn limits(&self) -> FailureLimits {
        let Self { users_and_networks, users, networks, forgiven: _ } = self;
        FailureLimits::new(users_and_networks.limit, users.limit, networks.limit)
    }

    pub(super) fn set_limits(&mut self, limits: FailureLimits) {
        let FailureLimits { user_and_network, user, network } = limits;
        self.users_and_networks.limit = user_and_network;
        self.users.limit = user;
        self.networks.limit = network;
    }
}

/// The failures that were counted for an attempt before its password was checked. A field is `None` if no failure was
/// counted in advance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Claimed {
    user_and_network: Option<Claim>,
    user: Option<Claim>,
}

/// A failure that was counted in advance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Claim {
    at: Duration,
    /// The time of the failure before this failure. If this was the first failure, `last` is `at`.
    last: Duration,
}

impl FailureCounts {
    /// Begins an attempt. If a count of the user is over its limit, this count gets a failure before the password is
    /// checked. This failure stops further attempts during the check. Without it, an attacker could try many passwords
    /// at the same time after each wait. The count of the network does not change in advance, because this would delay
    /// users with the right password.
    ///
    /// # Errors
    /// The wait until an attempt may begin.
    pub(super) fn begin(&mut self, attempt: Attempt, now: Duration) -> Result<Claimed, Duration> {
        self.check(attempt, now)?;
        Ok(self.begin_unchecked(attempt, now))
    }

    /// Like [`begin`](Self::begin), but without the check. Call this function only if the counts that all nodes share
    /// have allowed the attempt.
    pub(super) fn begin_unchecked(&mut self, attempt: Attempt, now: Duration) -> Claimed {
        let (pair, user, _) = attempt.keys();
        Claimed {
            user_and_network: self.users_and_networks.claim(pair, now),
            user: user.and_then(|it| self.users.claim(it, now)),
        }
    }

    /// Begins an attempt, and counts it as a failure immediately, even if no count is over its limit.
    ///
    /// # Errors
    /// The wait until an attempt may begin.
    pub(super) fn claim(&mut self, attempt: Attempt, now: Duration) -> Result<Claimed, Duration> {
        self.check(attempt, now)?;
        let (pair, user, _) = attempt.keys();
        Ok(Claimed {
            user_and_network: Some(self.users_and_networks.count_in_advance(pair, now)),
            user: user.map(|it| self.users.count_in_advance(it, now)),
        })
    }

    /// Checks whether an attempt may begin.
    ///
    /// # Errors
    /// The wait until an attempt may begin.
    pub(super) fn check(&self, attempt: Attempt, now: Duration) -> Result<(), Duration> {
        self.check_with(attempt, self.limits(), now)
    }

    /// # Errors
    /// The wait until an attempt may begin.
    pub(super) fn check_with(
        &self,
        attempt: Attempt,
        limits: FailureLimits,
        now: Duration,
    ) -> Result<(), Duration> {
        let (pair, user, network) = attempt.keys();
        let pair = self.users_and_networks.wait(&pair, limits.user_and_network, now);
        let user = user.map(|it| self.users.wait(&it, limits.user, now));
        let network = network.map(|it| self.networks.wait(&it, limits.network, now));
        match pair.max(user.unwrap_or_default()).max(network.unwrap_or_default()) {
            Duration::ZERO => Ok(()),
            wait => Err(wait),
        }
    }

    /// Checks whether the count of the network allows an attempt to begin. Does not check the counts of the user.
    ///
    /// # Errors
    /// The wait until an attempt may begin.
    pub(super) fn check_network(&self, attempt: Attempt, now: Duration) -> Result<(), Duration> {
        let (_, _, network) = attempt.keys();
        match network.map(|it| self.networks.wait(&it, self.networks.limit, now)) {
            None | Some(Duration::ZERO) => Ok(()),
            Some(wait) => Err(wait),
        }
    }

    /// Records that the password was wrong.
    pub(super) fn failed(&mut self, attempt: Attempt, claimed: Claimed, now: Duration) {
        self.users_and_networks.failed(
            (attempt.user, attempt.network),
            claimed.user_and_network.is_some(),
            now,
        );
        self.users.failed(attempt.user, claimed.user.is_some(), now);
        if let Some(network) = attempt.network {
            self.networks.add(network, 1, now);
        }
    }

    /// Records that the password was right. Clears the failures of the user from this network, but at most
    /// [`FORGIVEN_A_DAY`] within a day. Two kinds of failures stay:
    /// - the failures of the user from other networks: otherwise, an attacker in another network could guess without a
    ///   wait after each login of the user
    /// - the count of the network: otherwise, an attacker in this network who has an account could clear it by logging
    ///   in
    pub(super) fn succeeded(&mut self, attempt: Attempt, claimed: Claimed, now: Duration) {
        let pair = (attempt.user, attempt.network);
        if let Some(claim) = claimed.user_and_network {
            self.users_and_networks.release(&pair, claim);
        }
        if let Some(claim) = claimed.user {
            self.users.release(&attempt.user, claim);
        }
        let failures = self.users_and_networks.count(&pair, now);
        let left = FORGIVEN_A_DAY.saturating_sub(self.forgiven.count(&pair, now));
        let forgiven = failures.min(left);
        if forgiven > 0 {
            self.forgiven.add(pair, forgiven, now);
            self.users_and_networks.subtract(&pair, forgiven);
            self.users.subtract(&attempt.user, forgiven);
        }
    }

    /// Takes back the failures that were counted in advance. Call this function if the login has failed for a reason
    /// other than a wrong password, or if the password could not be checked.
    pub(super) fn withdrawn(&mut self, attempt: Attempt, claimed: Claimed) {
        if claimed.user_and_network.is_some() {
            self.users_and_networks.subtract(&(attempt.user, attempt.network), 1);
        }
        if claimed.user.is_some() {
            self.users.subtract(&attempt.user, 1);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Failures {
    count: u32,
    first: Duration,
    last: Duration,
}

impl Failures {
    fn are_forgotten(self, forgotten: Forgotten, now: Duration) -> bool {
        match forgotten {
            Forgotten::AfterLast(time) => self.last + time <= now,
            Forgotten::AfterFirst(time) => self.first + time <= now,
        }
    }
}

/// The failures of each key, in two maps: the young and the old generation. When the young map is full, it replaces the
/// old map, and a new young map begins. So memory is bounded.
///
/// When the old map is replaced, its entries with at least [`FailureLimit::free`] failures move to the new young map.
/// If these entries did not move, an attacker with many networks could fill the maps with failures of invented users.
/// The maps would then lose the entry of a real user, and the attacker could guess again without a wait.
#[derive(Debug)]
struct Ledger<K> {
    forgotten: Forgotten,
    limit: FailureLimit,
    young: HashMap<K, Failures>,
    old: HashMap<K, Failures>,
}

impl<K: Copy + Eq + Hash> Ledger<K> {
    fn new(forgotten: Forgotten, limit: FailureLimit) -> Self {
        Self { forgotten, limit, young: HashMap::new(), old: HashMap::new() }
    }

    /// Returns the failures of a key. Returns `None` if there are none, or if the ledger must forget them.
    fn get(&self, key: &K, now: Duration) -> Option<Failures> {
        let failures = self.young.get(key).or_else(|| self.old.get(key)).copied();
        failures.filter(|failures| !failures.are_forgotten(self.forgotten, now))
    }

    fn wait(&self, key: &K, limit: FailureLimit, now: Duration) -> Duration {
        self.get(key, now).map_or(Duration::ZERO, |failures| limit.wait(failures, now))
    }

    fn count(&self, key: &K, now: Duration) -> u32 {
        self.get(key, now).map_or(0, |failures| failures.count)
    }

    /// Counts a failure in advance if the limit is exceeded.
    fn claim(&mut self, key: K, now: Duration) -> Option<Claim> {
        self.get(&key, now).filter(|failures| self.limit.is_exceeded(*failures))?;
        Some(self.count_in_advance(key, now))
    }

    fn count_in_advance(&mut self, key: K, now: Duration) -> Claim {
        let last = self.get(&key, now).map_or(now, |failures| failures.last);
        self.add(key, 1, now);
        Claim { at: now, last }
    }

    /// Takes back a failure that was counted in advance. If no later failure was counted, also takes back the wait that
    /// this failure caused.
    fn release(&mut self, key: &K, claim: Claim) {
        for generation in [&mut self.young, &mut self.old] {
            if let Some(entry) = generation.get_mut(key)
                && entry.last == claim.at
            {
                entry.last = claim.last;
            }
        }
        self.subtract(key, 1);
    }

    fn failed(&mut self, key: K, was_claimed: bool, now: Duration) {
        // A failure that was counted in advance is not counted a second time, unless a successful login has cleared the
        // count in the meantime.
        let is_counted = was_claimed && self.count(&key, now) > 0;
        self.add(key, u32::from(!is_counted), now);
    }

    fn add(&mut self, key: K, failures: u32, now: Duration) {
        let before = self.get(&key, now);
        self.young.remove(&key);
        self.old.remove(&key);
        let (count, first) = before.map_or((0, now), |failures| (failures.count, failures.first));
        if self.young.len() >= GENERATION {
            self.rotate(now);
        }
        let count = count.saturating_add(failures);
        self.young.insert(key, Failures { count, first, last: now });
    }

    /// Begins a new young generation. Keeps the entries of the old generation that have at least [`FailureLimit::free`]
    /// failures. These entries fill at most half of the new generation. If there are more, keeps those with the most
    /// failures.
    #[cold]
    fn rotate(&mut self, now: Duration) {
        let old = std::mem::replace(&mut self.old, std::mem::take(&mut self.young));
        let mut kept: Vec<_> = old
            .into_iter()
            .filter(|(_, failures)| failures.count >= self.limit.free)
            .filter(|(_, failures)| !failures.are_forgotten(self.forgotten, now))
            .collect();
        kept.sort_unstable_by_key(|(_, failures)| std::cmp::Reverse(failures.count));
        kept.truncate(GENERATION / 2);
        self.young.extend(kept);
    }

    fn subtract(&mut self, key: &K, failures: u32) {
        for generation in [&mut self.young, &mut self.old] {
            if let Some(entry) = generation.get_mut(key) {
                entry.count = entry.count.saturating_sub(failures);
                if entry.count == 0 {
                    generation.remove(key);
                }
            }
        }
    }
}

/// The version of the format that [`FailureCounts::to_text`] writes.
const VERSION: &str = "1";

impl FailureCounts {
    /// Returns the counts as text, for the process that continues the work of this process. `now` is the time of the
    /// clock that the other methods use.
    pub(super) fn to_text(&self, now: Duration) -> String {
        let Self { users_and_networks, users, networks, forgiven } = self;
        let mut text = format!("{VERSION} {}\n", now.as_millis());
        users_and_networks.write("pair", now, &mut text, pair_words);
        users.write("user", now, &mut text, ToString::to_string);
        networks.write("network", now, &mut text, |network| network.address().to_string());
        forgiven.write("forgiven", now, &mut text, pair_words);
        text
    }

    /// Adds the counts in `text`, which [`to_text`](Self::to_text) has returned. Returns the time in the text, at which
    /// the clock of the caller must continue. Returns `None` if the text is malformed. Some of the counts may then
    /// already have been added.
    pub(super) fn add_text(&mut self, text: &str) -> Option<Duration> {
        let mut lines = text.lines();
        let (version, now) = lines.next()?.split_once(' ')?;
        if version != VERSION {
            return None;
        }
        let now = Duration::from_millis(now.parse().ok()?);
        for line in lines {
            let words: Vec<_> = line.split(' ').collect();
            match *words.as_slice() {
                ["pair", user, network, count, first, last] => {
                    self.users_and_networks.put(pair(user, network)?, [count, first, last])?;
                }
                ["user", user, count, first, last] => {
                    self.users.put(UserId::new(user).ok()?, [count, first, last])?;
                }
                ["network", network, count, first, last] => {
                    let network = network.parse::<IpAddr>().ok()?.into();
                    self.networks.put(network, [count, first, last])?;
                }
                ["forgiven", user, network, count, first, last] => {
                    self.forgiven.put(pair(user, network)?, [count, first, last])?;
                }
                _ => return None,
            }
        }
        Some(now)
    }
}

fn pair_words((user, network): &Pair) -> String {
    match network {
        Some(network) => format!("{user} {}", network.address()),
        None => format!("{user} -"),
    }
}

fn pair(user: &str, network: &str) -> Option<Pair> {
    let network = match network {
        "-" => None,
        network => Some(network.parse::<IpAddr>().ok()?.into()),
    };
    Some((UserId::new(user).ok()?, network))
}

impl<K: Copy + Eq + Hash> Ledger<K> {
    /// Appends one line for each key whose failures still count. The old generation comes first.
    fn write(&self, kind: &str, now: Duration, text: &mut String, words: impl Fn(&K) -> String) {
        for (key, failures) in self.old.iter().chain(&self.young) {
            if failures.are_forgotten(self.forgotten, now) {
                continue;
            }
            let Failures { count, first, last } = failures;
            let (first, last) = (first.as_millis(), last.as_millis());
            let line = format_args!("{kind} {} {count} {first} {last}\n", words(key));
            // Writing to a `String` never fails.
            let _ = fmt::Write::write_fmt(text, line);
        }
    }

    /// Puts the failures of a key into the ledger: their number, and the times of the first and the last failure in
    /// milliseconds. Returns `None` if one of them is not a number.
    fn put(&mut self, key: K, [count, first, last]: [&str; 3]) -> Option<()> {
        let millis = |text: &str| text.parse().ok().map(Duration::from_millis);
        let (count, first, last) = (count.parse().ok()?, millis(first)?, millis(last)?);
        if self.young.len() >= GENERATION {
            self.rotate(last);
        }
        self.young.insert(key, Failures { count, first, last });
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use test_support::tickets::user;

    use super::*;

    const DAY: u64 = 86_400;
    const LIMITS: FailureLimits = FailureLimits {
        user_and_network: FailureLimit::new(4, Duration::from_secs(3600)),
        user: FailureLimit::new(16, Duration::from_secs(3600)),
        network: FailureLimit::new(100, Duration::from_secs(10)),
    };

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn attempt(name: &str, address: &str, origin: NetworkOrigin) -> Attempt {
        let address = address.parse::<IpAddr>().unwrap();
        Attempt { user: user(name), network: Some(address.into()), origin }
    }

    fn unknown(name: &str, address: &str) -> Attempt {
        attempt(name, address, NetworkOrigin::Unknown)
    }

    fn known(name: &str, address: &str) -> Attempt {
        attempt(name, address, NetworkOrigin::Known)
    }

    /// Logs in with a wrong password. The error is the wait in seconds.
    fn guess(counts: &mut FailureCounts, attempt: Attempt, now: u64) -> Result<(), u64> {
        let claimed = counts.begin(attempt, secs(now)).map_err(|wait| wait.as_secs())?;
        counts.failed(attempt, claimed, secs(now));
        Ok(())
    }

    #[test]
    fn failures_stay_when_the_limits_change() {
        let mut counts = FailureCounts::new(LIMITS);
        let it = unknown("A", "192.0.2.1");
        for _ in 0..3 {
            assert_eq!(guess(&mut counts, it, 0), Ok(()));
        }
        let strict = FailureLimit::new(2, Duration::from_secs(3600));
        counts.set_limits(FailureLimits { user_and_network: strict, ..LIMITS });
        assert_eq!(guess(&mut counts, it, 0), Err(1));
        counts.set_limits(LIMITS);
        assert_eq!(guess(&mut counts, it, 0), Ok(()));
    }

    fn log_in(counts: &mut FailureCounts, attempt: Attempt, now: u64) -> Result<(), u64> {
        let claimed = counts.begin(attempt, secs(now)).map_err(|wait| wait.as_secs())?;
        counts.succeeded(attempt, claimed, secs(now));
        Ok(())
    }

    #[test]
    fn another_process_continues_with_the_same_waits() {
        let mut counts = FailureCounts::new(LIMITS);
        let (it, other) = (unknown("A", "192.0.2.1"), unknown("B", "2001:db8::1"));
        for _ in 0..7 {
            let _ = guess(&mut counts, it, 100_000);
        }
        assert_eq!(guess(&mut counts, other, 100_001), Ok(()));
        assert_eq!(log_in(&mut counts, other, 100_001), Ok(()));
        let text = counts.to_text(secs(100_001));
        let mut next = FailureCounts::new(LIMITS);
        assert_eq!(next.add_text(&text), Some(secs(100_001)));
        for now in [100_001, 100_002, 100_004] {
            assert_eq!(next.check(it, secs(now)), counts.check(it, secs(now)), "{now}");
        }
        assert_eq!(next.forgiven.count(&(user("B"), other.network), secs(100_001)), 1);
        assert_eq!(next.to_text(secs(100_001)).len(), text.len());
        for wrong in
            ["", "2 1\n", "1\n", "1 1\nuser A\n", "1 1\nuser A 1 2 x\n", "1 1\npair A x 1 2 3\n"]
        {
            assert_eq!(FailureCounts::new(LIMITS).add_text(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn the_wait_doubles_and_early_attempts_do_not_extend_it() {
        let mut counts = FailureCounts::new(LIMITS);
        let it = unknown("A", "192.0.2.1");
        for _ in 0..5 {
            assert_eq!(guess(&mut counts, it, 0), Ok(()));
        }
        let mut now = 0;
        for wait in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024] {
            assert_eq!(guess(&mut counts, it, now), Err(wait));
            assert_eq!(guess(&mut counts, it, now), Err(wait));
            now += wait;
            assert_eq!(guess(&mut counts, it, now), Ok(()), "{wait}");
        }
        assert_eq!(guess(&mut counts, unknown("B", "192.0.2.1"), now), Ok(()));
        now += 2048;
        assert_eq!(log_in(&mut counts, it, now), Ok(()));
        for _ in 0..5 {
            assert_eq!(guess(&mut counts, it, now), Ok(()));
        }
    }

    #[test]
    fn attackers_elsewhere_do_not_lock_a_user_out_of_a_known_network() {
        let mut counts = FailureCounts::new(LIMITS);
        let mut refused = 0;
        for second in (0..DAY).step_by(10) {
            for host in 0..4 {
                let address = format!("10.{}.{host}.1", second / 10 % 200);
                let _ = guess(&mut counts, unknown("OWNER", &address), second);
            }
            if second % 60 == 0 {
                let owner = log_in(&mut counts, known("OWNER", "192.0.2.1"), second);
                refused += u32::from(owner.is_err());
            }
        }
        assert_eq!(refused, 0);
    }

    #[test]
    fn a_few_failures_elsewhere_do_not_lock_a_user_out_of_a_new_network() {
        let mut counts = FailureCounts::new(LIMITS);
        for host in 0..16 {
            let address = format!("10.0.{host}.1");
            assert_eq!(guess(&mut counts, unknown("OWNER", &address), 0), Ok(()));
        }
        for _ in 0..61 {
            assert_eq!(log_in(&mut counts, unknown("OWNER", "192.0.2.1"), 0), Ok(()));
        }
    }

    #[test]
    fn failures_of_other_users_behind_a_nat_do_not_block_a_user() {
        let mut counts = FailureCounts::new(LIMITS);
        for i in 0..100 {
            assert_eq!(guess(&mut counts, unknown(&format!("U{i}"), "192.0.2.1"), i), Ok(()));
            assert_eq!(log_in(&mut counts, unknown("NEW", "192.0.2.2"), i), Ok(()));
        }
        // After these failures, a new user waits at most 10 s after the last failure. A user who has logged in
        // from this network before does not wait.
        for i in 100..1000 {
            let guessed = guess(&mut counts, unknown(&format!("U{i}"), "192.0.2.1"), 12 * i);
            assert_eq!(guessed, Ok(()));
            let wait = log_in(&mut counts, unknown("NEW", "192.0.2.2"), 12 * i).err();
            assert!(wait.unwrap_or(0) <= 10, "{wait:?}");
            for _ in 0..20 {
                assert_eq!(log_in(&mut counts, unknown("NEW", "192.0.2.2"), 12 * i + 10), Ok(()));
                assert_eq!(log_in(&mut counts, known("OLD", "192.0.2.2"), 12 * i), Ok(()));
            }
        }
    }

    /// Returns how many passwords of a user an attacker can guess within a day. The attacker begins up to 16 attempts
    /// at the same time whenever the throttle permits one. If there is an `owner`, this user logs in after each of
    /// these bursts.
    fn guesses_in_a_day(owner: Option<Attempt>, attempts: impl Fn(u64) -> Vec<Attempt>) -> u32 {
        let mut counts = FailureCounts::new(LIMITS);
        let mut guesses = 0;
        // A shorter step would make the test slower, and would add less than one guess.
        for second in (0..DAY).step_by(10) {
            let begun: Vec<_> = attempts(second)
                .into_iter()
                .flat_map(|attempt| [attempt; 16])
                .filter_map(|it| Some((it, counts.begin(it, secs(second)).ok()?)))
                .take(16)
                .collect();
            for (attempt, claimed) in begun {
                counts.failed(attempt, claimed, secs(second));
                guesses += 1;
            }
            if let Some(owner) = owner {
                let _ = log_in(&mut counts, owner, second);
            }
        }
        guesses
    }

    #[test]
    fn an_attacker_gets_at_most_100_tries_a_day_for_a_user() {
        let elsewhere = |second: u64| {
            (0..2).map(move |i| unknown("A", &format!("10.{}.{i}.1", second / 10 % 250)))
        };
        let owner = known("A", "192.0.2.1");
        for logged_in in [None, Some(owner)] {
            let guesses_in_a_day =
                |attempts: &dyn Fn(u64) -> Vec<Attempt>| guesses_in_a_day(logged_in, attempts);
            let here = guesses_in_a_day(&|_| vec![unknown("A", "198.51.100.1")]);
            let inside = guesses_in_a_day(&|_| vec![owner]);
            let everywhere = guesses_in_a_day(&|second| elsewhere(second).collect());
            let both = guesses_in_a_day(&|second| elsewhere(second).chain([owner]).collect());
            let all = [here, inside, everywhere, both];
            assert!(all.iter().all(|guesses| (30..=100).contains(guesses)), "{all:?}");
        }
    }

    #[test]
    fn an_attacker_in_the_network_of_the_user_gets_at_most_100_tries_a_day() {
        let mut counts = FailureCounts::new(LIMITS);
        let owner = known("A", "192.0.2.1");
        let mut guesses = [0; 3];
        // Between two logins of the user, the attacker makes only as many failures as cause no wait. A login of the
        // user clears these failures, but at most 20 failures a day.
        for second in (0..3 * DAY).step_by(60) {
            for _ in 0..4 {
                let guessed = guess(&mut counts, owner, second);
                guesses[usize::try_from(second / DAY).unwrap()] += u32::from(guessed.is_ok());
            }
            let _ = log_in(&mut counts, owner, second);
        }
        assert!(guesses.iter().all(|guesses| *guesses <= 100), "{guesses:?}");
    }

    #[test]
    fn a_login_that_clears_no_failures_adds_no_wait() {
        let mut counts = FailureCounts::new(LIMITS);
        let owner = known("A", "192.0.2.1");
        for start in [0, 2 * DAY] {
            for _ in 0..FORGIVEN_A_DAY {
                assert_eq!(guess(&mut counts, owner, start), Ok(()));
                assert_eq!(log_in(&mut counts, owner, start), Ok(()));
            }
            for _ in 0..5 {
                assert_eq!(guess(&mut counts, owner, start), Ok(()));
            }
            assert_eq!(log_in(&mut counts, owner, start), Err(1));
            for _ in 0..10 {
                assert_eq!(log_in(&mut counts, owner, start + 1), Ok(()));
            }
            assert_eq!(guess(&mut counts, owner, start + 1), Ok(()));
            assert_eq!(log_in(&mut counts, owner, start + 1), Err(2));
        }
    }

    #[test]
    fn logins_of_the_user_give_an_attacker_elsewhere_no_more_tries() {
        let mut counts = FailureCounts::new(LIMITS);
        let mut guesses = 0;
        for second in (0..DAY).step_by(10) {
            let it = unknown("A", &format!("10.{}.{}.1", second / 10 % 250, second / 2500));
            guesses += u32::from(guess(&mut counts, it, second).is_ok());
            log_in(&mut counts, known("A", "192.0.2.1"), second).unwrap();
        }
        assert!(guesses <= 100, "{guesses}");
    }

    #[test]
    fn after_a_wait_only_one_password_is_checked_at_a_time() {
        let mut counts = FailureCounts::new(LIMITS);
        let it = unknown("A", "192.0.2.1");
        for _ in 0..5 {
            guess(&mut counts, it, 0).unwrap();
        }
        let claimed = counts.begin(it, secs(1)).unwrap();
        assert_eq!(counts.begin(it, secs(1)), Err(secs(2)));
        counts.withdrawn(it, claimed);
        assert_eq!(guess(&mut counts, it, 2), Ok(()));
        let claimed = counts.begin(it, secs(4)).unwrap();
        counts.succeeded(it, claimed, secs(4));
        assert_eq!(counts.users.get(&it.user, secs(4)), None);
        for _ in 0..5 {
            guess(&mut counts, it, 4).unwrap();
        }
        // While this attempt runs, another attempt succeeds.
        let claimed = counts.begin(it, secs(5)).unwrap();
        counts.succeeded(it, Claimed::default(), secs(5));
        counts.failed(it, claimed, secs(5));
        assert_eq!(
            counts.users_and_networks.get(&(it.user, it.network), secs(5)).unwrap().count,
            1
        );
    }

    #[test]
    fn failures_are_forgotten_after_a_day_without_a_failure() {
        let mut counts = FailureCounts::new(LIMITS);
        let it = unknown("A", "192.0.2.1");
        for _ in 0..5 {
            guess(&mut counts, it, 0).unwrap();
        }
        for _ in 0..5 {
            guess(&mut counts, it, DAY).unwrap();
        }
        assert_eq!(guess(&mut counts, it, DAY), Err(1));
    }

    #[test]
    fn failures_of_a_network_are_forgotten_after_an_hour_even_if_newer_failures_follow() {
        let mut counts = FailureCounts::new(LIMITS);
        for i in 0..5_000 {
            // This step of 45 s gives 80 failures an hour.
            let name = format!("U{i}");
            assert_eq!(guess(&mut counts, unknown(&name, "192.0.2.1"), 45 * i), Ok(()), "{i}");
            assert_eq!(log_in(&mut counts, unknown("NEW", "192.0.2.2"), 45 * i), Ok(()), "{i}");
        }
        for i in 0..101 {
            let _ = guess(&mut counts, unknown(&format!("V{i}"), "192.0.2.1"), 250_000);
        }
        assert!(guess(&mut counts, unknown("W", "192.0.2.1"), 250_000).is_err());
        assert_eq!(guess(&mut counts, unknown("W", "192.0.2.1"), 253_600), Ok(()));
    }

    #[test]
    fn failures_without_a_client_address_count_for_the_user() {
        let mut counts = FailureCounts::new(LIMITS);
        let it = Attempt { network: None, ..unknown("A", "192.0.2.1") };
        for _ in 0..5 {
            guess(&mut counts, it, 0).unwrap();
        }
        assert_eq!(guess(&mut counts, it, 0), Err(1));
    }

    #[test]
    fn memory_is_bounded() {
        for free in [0, 4] {
            let mut ledger = Ledger::new(OF_A_USER, FailureLimit::new(free, secs(1)));
            for i in 0..5 * GENERATION {
                ledger.failed(i, false, secs(0));
                assert!(ledger.young.len() <= GENERATION && ledger.old.len() <= GENERATION);
            }
            let has = |key| ledger.get(&key, secs(0)).is_some();
            assert!(has(5 * GENERATION - 1) && has(4 * GENERATION + GENERATION / 2));
        }
    }

    #[test]
    fn failures_of_many_other_keys_remove_only_entries_below_the_limit() {
        let mut ledger = Ledger::new(OF_A_USER, FailureLimit::new(4, secs(3600)));
        let (held, free, old) = (0, 1, 2);
        for (key, failures, now) in [(held, 7, DAY), (free, 3, DAY), (old, 7, 0)] {
            ledger.add(key, failures, secs(now));
        }
        for i in 0..6 * GENERATION {
            // Each of these keys has one failure, which is below the limit.
            ledger.failed(10 + i, false, secs(DAY));
        }
        let counts = [held, free, old].map(|key| ledger.count(&key, secs(DAY)));
        assert_eq!(counts, [7, 0, 0]);
        assert!(!ledger.young.contains_key(&old) && !ledger.old.contains_key(&old));
        for i in 0..6 * GENERATION {
            ledger.add(1_000_000 + i, 4, secs(DAY));
        }
        assert_eq!(ledger.count(&held, secs(DAY)), 7);
        assert!(ledger.young.len() <= GENERATION && ledger.old.len() <= GENERATION);
    }
}

/// Tests with a Redis server: the script for failed logins must decide like [`FailureCounts`].
#[cfg(feature = "redis")]
#[cfg(test)]
mod redis_tests {
    use std::time::Instant;

    use test_support::{
        redis::{Redis, has_redis},
        tickets::user,
    };
    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::{
        cluster::{
            coordinator::Coordinator,
            redis::{
                RedisAddress, RedisLoginFailures, RedisPlace, RedisSettings, RedisTimeSlots,
                SiteName,
            },
        },
        login_failures::{AttemptResult, CountInAdvance, SharedClaim, SharedLoginFailures},
        passticket::{Applid, NoTimeSlot, SharedSlotError, SharedTimeSlots, SlotRequest},
    };

    fn place(redis: &Redis) -> RedisPlace {
        let address = RedisAddress::from_url(&redis.url()).unwrap();
        RedisPlace::new(RedisSettings::new(SiteName::new("test").unwrap(), address)).unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_script_decides_as_the_counts_of_one_process() {
        if !has_redis() {
            return;
        }
        let redis = Redis::start();
        let shared = RedisLoginFailures::new(place(&redis));
        let limit = |free| FailureLimit::new(free, Duration::from_secs(2));
        let limits = FailureLimits::new(limit(2), limit(5), limit(9));
        let (start, mut counts) = (Instant::now(), FailureCounts::new(limits));
        let mut random = fastrand::Rng::with_seed(7);
        let (mut allowed, mut refused) = (0, 0);
        for step in 0..400 {
            if step % 80 == 79 {
                sleep(Duration::from_millis(1500)).await;
            }
            let address: IpAddr =
                ["192.0.2.1", "192.0.2.2", "2001:db8::1"][random.usize(..3)].parse().unwrap();
            let origin =
                if random.u8(..4) == 0 { NetworkOrigin::Known } else { NetworkOrigin::Unknown };
            let network = (random.u8(..8) > 0).then(|| address.into());
            let attempt = Attempt::new(user(["A", "B", "C"][random.usize(..3)]), network, origin);
            let always = random.u8(..5) == 0;
            let now = start.elapsed();
            let own = if always { counts.claim(attempt, now) } else { counts.begin(attempt, now) };
            let mode =
                if always { CountInAdvance::Always } else { CountInAdvance::IfLimitIsExceeded };
            let theirs = shared.begin(attempt, limits, mode).await.unwrap();
            match (own, theirs) {
                (Ok(claimed), Ok(claim)) => {
                    allowed += 1;
                    assert_eq!(
                        claimed.user_and_network.is_some(),
                        claim.user_and_network.is_some()
                    );
                    assert_eq!(claimed.user.is_some(), claim.user.is_some());
                    let now = start.elapsed();
                    let result = match random.u8(..10) {
                        0 => AttemptResult::Succeeded,
                        1 => AttemptResult::Withdrawn,
                        _ => AttemptResult::Failed,
                    };
                    match result {
                        AttemptResult::Succeeded => counts.succeeded(attempt, claimed, now),
                        AttemptResult::Failed => counts.failed(attempt, claimed, now),
                        AttemptResult::Withdrawn => counts.withdrawn(attempt, claimed),
                    }
                    end(&redis, &shared, attempt, claim, result).await;
                }
                (Err(own), Err(theirs)) => {
                    refused += 1;
                    assert!(
                        own.abs_diff(theirs) < Duration::from_millis(700),
                        "{own:?} {theirs:?}"
                    );
                }
                // The clocks of `counts` and Redis differ. So near the end of a wait, `counts` may allow an attempt
                // that Redis refuses. The test then withdraws the attempt.
                (Ok(claimed), Err(wait)) => {
                    assert!(wait < Duration::from_millis(700), "{wait:?}");
                    counts.withdrawn(attempt, claimed);
                }
                (Err(wait), Ok(claim)) => {
                    assert!(wait < Duration::from_millis(700), "{wait:?}");
                    end(&redis, &shared, attempt, claim, AttemptResult::Withdrawn).await;
                }
            }
        }
        assert!(allowed > 30 && refused > 100, "{allowed} {refused}");
    }

    /// Ends an attempt, and waits until Redis has run the script. Does nothing if Redis has nothing to change.
    async fn end(
        redis: &Redis,
        shared: &RedisLoginFailures,
        attempt: Attempt,
        claim: SharedClaim,
        result: AttemptResult,
    ) {
        if result == AttemptResult::Withdrawn
            && claim.user_and_network.is_none()
            && claim.user.is_none()
        {
            return;
        }
        let calls = || {
            let text = redis.run(&["INFO", "commandstats"]).text();
            let of_scripts = text.lines().filter(|line| line.starts_with("cmdstat_eval"));
            of_scripts.map(str::to_owned).collect::<Vec<_>>()
        };
        let before = calls();
        shared.end(attempt, claim, result);
        let done = async {
            while calls() == before {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(10), done).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn invented_users_do_not_fill_redis() {
        if !has_redis() {
            return;
        }
        let redis = Redis::start();
        let shared = RedisLoginFailures::new(place(&redis));
        let guessed = Attempt::new(user("VICTIM"), None, NetworkOrigin::Unknown);
        for _ in 0..20 {
            end(&redis, &shared, guessed, SharedClaim::default(), AttemptResult::Failed).await;
        }
        // Now the counts in Redis are full of invented users, whose failures have times in the future.
        for count in ["pair", "user"] {
            let fill = "for i = 1, 100000 do redis.call('HSET', KEYS[1], 'U' .. i, '1 9e12 9e12') \
                        redis.call('ZADD', KEYS[2], 9e12, 'U' .. i) end";
            let fill = fill.replace("'1 9e12 9e12'", "'1 9000000000000 9000000000000'");
            let key = |end: &str| format!("tp:{{test}}:try:{count}{end}");
            redis.run(&["EVAL", &fill, "2", &key(""), &key(":times")]).ok();
        }
        for name in ["NEW1", "NEW2", "NEW3"] {
            let attempt = Attempt::new(user(name), None, NetworkOrigin::Unknown);
            end(&redis, &shared, attempt, SharedClaim::default(), AttemptResult::Failed).await;
        }
        for count in ["pair", "user"] {
            let size = redis.run(&["HLEN", &format!("tp:{{test}}:try:{count}")]).int();
            assert!(size <= 100_002, "{size}");
        }
        // The entry of the user A is the oldest, but has many failures.
        let limits = FailureLimits::new(
            FailureLimit::new(4, Duration::from_secs(3600)),
            FailureLimit::new(16, Duration::from_secs(3600)),
            FailureLimit::new(100, Duration::from_secs(60)),
        );
        let begun = shared.begin(guessed, limits, CountInAdvance::IfLimitIsExceeded).await.unwrap();
        assert!(begun.is_err());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn two_nodes_never_reserve_the_same_time_slot() {
        if !has_redis() {
            return;
        }
        let mut redis = Redis::start();
        let nodes = [RedisTimeSlots::new(place(&redis)), RedisTimeSlots::new(place(&redis))];
        let applid = Applid::new("IZUDFLT").unwrap();
        let request = SlotRequest::new(
            user("USER"),
            applid,
            Duration::from_secs(60),
            crate::clock::Timestamp::from_secs(0),
        );
        let away = nodes[0].reserve(request).await.unwrap_err();
        assert!(matches!(away, SharedSlotError::Unreachable(_)), "no node has joined: {away}");
        let mut slots = Vec::new();
        for flushed in [false, true] {
            if flushed {
                // Redis loses the slots, but the nodes reserve none of them a second time.
                redis.flush();
            }
            place(&redis).join(Duration::from_secs(3)).await.unwrap();
            // A node sees the data of the site first in some second. It reserves only slots after this second.
            for node in &nodes {
                let _ = node.reserve(request).await;
            }
            sleep(Duration::from_millis(2500)).await;
            let mut ends = [false; 2];
            while ends != [true; 2] {
                for (node, end) in nodes.iter().zip(&mut ends) {
                    match node.reserve(request).await {
                        Ok(reserved) => slots.push(reserved.slot),
                        Err(SharedSlotError::NoTimeSlot(NoTimeSlot::AllTaken { .. })) => {
                            *end = true;
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        }
        let distinct: std::collections::HashSet<_> = slots.iter().map(|it| it.as_secs()).collect();
        assert!(slots.len() >= 4 && distinct.len() == slots.len(), "{slots:?}");
        redis.kill();
        let error = nodes[0].reserve(request).await.unwrap_err();
        assert!(matches!(error, SharedSlotError::Unreachable(_)), "{error}");
    }
}
