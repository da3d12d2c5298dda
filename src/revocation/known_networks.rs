//! The networks from which users have logged in. The login throttle limits failed logins. With this list, an attacker
//! in another network cannot lock out a user who logs in from a known network.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use sha2::{Digest, Sha256};

use crate::{clock::Timestamp, passticket::UserId};

const MAX_NETWORKS: usize = 8;

const MAX_USERS: usize = 50_000;

/// An eviction forgets a user if there was no login of this user from any network for this time.
#[cfg(feature = "store")]
const MAX_AGE: Duration = Duration::from_secs(90 * DAY_SECS);

const DAY_SECS: u64 = 24 * 60 * 60;

/// The network of a client: the first 24 bits of an IPv4 address, or the first 56 bits of an IPv6 address.
///
/// One user can usually use all addresses of an IPv6 network of this size. If a provider or company changes the IPv4
/// address of a client, the client often stays in the same network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientNetwork(IpAddr);

impl ClientNetwork {
    /// Returns the lowest address of the network.
    pub fn address(self) -> IpAddr {
        self.0
    }
}

impl From<IpAddr> for ClientNetwork {
    /// Returns the network of an address. An IPv4-mapped IPv6 address counts as the IPv4 address that it contains.
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(v4) => {
                let [a, b, c, _] = v4.octets();
                Ipv4Addr::new(a, b, c, 0).into()
            }
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 72 << 72).into(),
        })
    }
}

/// The trait for stores of the networks from which users have logged in.
///
/// [`DurableStore`](super::DurableStore) stores the networks in its file. [`NetworkMemory`] stores them in memory.
pub trait KnownNetworks: Send + Sync + 'static {
    /// Returns whether `user` has logged in from `network` within the time `max_age` before `now`. Implementations may
    /// count in whole days.
    fn is_known(
        &self,
        user: &UserId,
        network: ClientNetwork,
        now: Timestamp,
        max_age: Duration,
    ) -> bool;

    /// Remembers that `user` logs in from `network`. The number of networks per user and the number of users are
    /// limited. This method must not block. If the implementation has a problem, it only logs the problem, because the
    /// login must not fail.
    fn remember(&self, user: &UserId, network: ClientNetwork, now: Timestamp);
}

impl<K: KnownNetworks + ?Sized> KnownNetworks for std::sync::Arc<K> {
    fn is_known(
        &self,
        user: &UserId,
        network: ClientNetwork,
        now: Timestamp,
        max_age: Duration,
    ) -> bool {
        (**self).is_known(user, network, now, max_age)
    }

    fn remember(&self, user: &UserId, network: ClientNetwork, now: Timestamp) {
        (**self).remember(user, network, now);
    }
}

/// A store of [`KnownNetworks`] in memory. The networks are forgotten when the program ends.
#[derive(Debug, Default)]
pub struct NetworkMemory {
    /// The state of SHA-256 after it has hashed the salt. If there is no file, there is no salt.
    salted: Sha256,
    /// If another salt has replaced the salt of the file, the state of SHA-256 after it has hashed the other salt.
    adopted: OnceLock<Sha256>,
    networks: Mutex<Networks>,
}

impl KnownNetworks for NetworkMemory {
    fn is_known(
        &self,
        user: &UserId,
        network: ClientNetwork,
        now: Timestamp,
        max_age: Duration,
    ) -> bool {
        let keys = self.keys(user, network);
        self.lock().is_known(keys, Day::of(now), max_age)
    }

    fn remember(&self, user: &UserId, network: ClientNetwork, now: Timestamp) {
        let keys = self.keys(user, network);
        self.lock().remember(keys, Day::of(now));
    }
}

impl NetworkMemory {
    /// Creates a store in memory that contains `networks`. `salted` is the state of SHA-256 after it has hashed the
    /// salt of the store.
    #[cfg(feature = "store")]
    pub(super) fn new(salted: Sha256, networks: Networks) -> Self {
        Self { salted, adopted: OnceLock::new(), networks: Mutex::new(networks) }
    }

    /// Replaces the salt. Call this only if there are no networks. Only the first call has an effect.
    #[cfg(feature = "store")]
    pub(super) fn adopt(&self, salted: Sha256) {
        let _ = self.adopted.set(salted);
    }

    /// Computes the hashes. Call this before [`lock`](Self::lock), so that other logins do not have to wait while
    /// SHA-256 is computed.
    pub(super) fn keys(&self, user: &UserId, network: ClientNetwork) -> Keys {
        Keys::of(self.adopted.get().unwrap_or(&self.salted).clone(), user, network)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Networks> {
        self.networks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The day of a login, as the number of days since 1970-01-01. If logins had a finer time, each login would change the
/// stored networks. With whole days, only the first login from a network on a day changes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Day(u32);

impl Day {
    pub(super) fn of(time: Timestamp) -> Self {
        Self(u32::try_from(time.as_secs() / DAY_SECS).unwrap_or(u32::MAX))
    }

    /// Returns whether `self` is at most `max_age` before `today`. If the clock was set back, `self` may be after
    /// `today`. The result is then `true`.
    fn is_within(self, max_age: Duration, today: Self) -> bool {
        u64::from(today.0.saturating_sub(self.0)) * DAY_SECS <= max_age.as_secs()
    }
}

/// The length of a hash in bytes. If two hashes are equal by chance, an unknown network counts as known. An attacker in
/// this network then has a few more tries to guess a password.
pub(super) const HASH: usize = 8;

/// The hash of a user, and the hash of a user and a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Keys {
    pub(super) user: [u8; HASH],
    network: [u8; HASH],
}

impl Keys {
    fn of(salted: Sha256, user: &UserId, network: ClientNetwork) -> Self {
        let cut = |digest: Sha256| {
            let digest = digest.finalize();
            std::array::from_fn(|i| digest[i])
        };
        let of_user = salted.chain_update(user.as_str());
        let address = match network.0 {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        // A user id contains no blank, so two different pairs of user and network never have the same hash input.
        let of_network = of_user.clone().chain_update(b" ").chain_update(address.octets());
        Self { user: cut(of_user), network: cut(of_network) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Login {
    network: [u8; HASH],
    day: Day,
}

#[derive(Debug, Default)]
pub(super) struct Networks(HashMap<[u8; HASH], Vec<Login>>);

impl Networks {
    #[cfg(feature = "store")]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn is_known(&self, keys: Keys, today: Day, max_age: Duration) -> bool {
        self.0.get(&keys.user).is_some_and(|logins| {
            logins
                .iter()
                .any(|login| login.network == keys.network && login.day.is_within(max_age, today))
        })
    }

    /// Remembers the network. Returns whether something has changed.
    pub(super) fn remember(&mut self, keys: Keys, today: Day) -> bool {
        if self.0.len() >= MAX_USERS && !self.0.contains_key(&keys.user) {
            self.forget_oldest_users();
        }
        let logins = self.0.entry(keys.user).or_default();
        if let Some(login) = logins.iter_mut().find(|login| login.network == keys.network) {
            return std::mem::replace(&mut login.day, today) != today;
        }
        if logins.len() >= MAX_NETWORKS
            && let Some(oldest) = (0..logins.len()).min_by_key(|i| logins[*i].day)
        {
            logins.remove(oldest);
        }
        logins.push(Login { network: keys.network, day: today });
        true
    }

    /// Finds the user whose last login is the oldest, and forgets all users whose last login is on the same day.
    /// Usually, many users have the same last day, so one call makes room for many new users.
    fn forget_oldest_users(&mut self) {
        let last = |logins: &Vec<Login>| logins.iter().map(|login| login.day).max();
        let earliest = self.0.values().map(last).min();
        self.0.retain(|_, logins| Some(last(logins)) != earliest);
    }

    #[cfg(feature = "store")]
    pub(super) fn forget_old(&mut self, today: Day) {
        self.0.retain(|_, logins| logins.iter().any(|login| login.day.is_within(MAX_AGE, today)));
    }

    #[cfg(feature = "store")]
    pub(super) fn has(&self, user: [u8; HASH]) -> bool {
        self.0.contains_key(&user)
    }

    #[cfg(feature = "store")]
    pub(super) fn to_bytes(&self, user: [u8; HASH]) -> Vec<u8> {
        let logins = self.0.get(&user).into_iter().flatten();
        logins
            .flat_map(|login| [login.network.as_slice(), &login.day.0.to_be_bytes()].concat())
            .collect()
    }

    /// Adds a user from a file, if the user has networks and the number of users is below the maximum. If the last
    /// bytes are not enough for a network, they are ignored.
    #[cfg(feature = "store")]
    pub(super) fn add(&mut self, user: [u8; HASH], bytes: &[u8]) {
        let logins =
            bytes.as_chunks::<{ HASH + 4 }>().0.iter().map(|[network @ .., a, b, c, d]| Login {
                network: *network,
                day: Day(u32::from_be_bytes([*a, *b, *c, *d])),
            });
        let logins: Vec<_> = logins.take(MAX_NETWORKS).collect();
        if !logins.is_empty() && self.0.len() < MAX_USERS {
            self.0.insert(user, logins);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(feature = "store")]
    use crate::revocation::salt::Salt;

    const MONTH: Duration = Duration::from_secs(30 * DAY_SECS);

    fn network(address: &str) -> ClientNetwork {
        address.parse::<IpAddr>().unwrap().into()
    }

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn day(day: u64) -> Timestamp {
        Timestamp::from_secs(day * DAY_SECS)
    }

    #[test]
    fn a_network_is_24_bits_of_ipv4_or_56_bits_of_ipv6() {
        for (address, want) in [
            ("192.0.2.77", "192.0.2.0"),
            ("::ffff:192.0.2.77", "192.0.2.0"),
            ("2001:db8:1:2ff:3:4:5:6", "2001:db8:1:200::"),
            ("2001:db8:1:300::", "2001:db8:1:300::"),
            ("::1", "::"),
        ] {
            assert_eq!(network(address).address(), want.parse::<IpAddr>().unwrap(), "{address}");
        }
    }

    #[test]
    fn a_network_is_known_for_a_month_to_its_user_only() {
        let memory = NetworkMemory::default();
        memory.remember(&user("A"), network("192.0.2.1"), day(1000));
        for (name, address, today, want) in [
            ("A", "192.0.2.1", 1000, true),
            ("A", "192.0.2.254", 1030, true),
            ("A", "192.0.2.1", 1031, false),
            // The clock was set back.
            ("A", "192.0.2.1", 1, true),
            ("A", "192.0.3.1", 1000, false),
            ("B", "192.0.2.1", 1000, false),
        ] {
            let known = memory.is_known(&user(name), network(address), day(today), MONTH);
            assert_eq!(known, want, "{name} {address} {today}");
        }
        memory.remember(&user("A"), network("192.0.2.1"), day(1031));
        assert!(memory.is_known(&user("A"), network("192.0.2.1"), day(1061), MONTH));
    }

    #[test]
    fn the_oldest_network_of_a_user_is_forgotten_first() {
        let memory = NetworkMemory::default();
        let name = user("A");
        for i in 0..20u64 {
            memory.remember(&name, network(&format!("10.0.{i}.0")), day(1000 + i));
        }
        let known: Vec<_> = (0..20)
            .filter(|i| memory.is_known(&name, network(&format!("10.0.{i}.0")), day(1020), MONTH))
            .collect();
        assert_eq!(known, (12..20).collect::<Vec<_>>());
    }

    #[test]
    fn the_number_of_users_is_bounded() {
        let mut networks = Networks::default();
        let keys = |i: usize| Keys { user: i.to_be_bytes(), network: [1; HASH] };
        for i in 0..MAX_USERS {
            networks.remember(keys(i), Day(if i < 100 { 1 } else { 2 }));
        }
        assert!(networks.remember(keys(MAX_USERS), Day(3)));
        assert_eq!(networks.0.len(), MAX_USERS - 99);
        assert!(!networks.0.contains_key(&keys(99).user));
        assert!(networks.is_known(keys(100), Day(3), MONTH));
        assert!(networks.is_known(keys(MAX_USERS), Day(3), MONTH));
    }

    #[cfg(feature = "store")]
    #[test]
    fn the_networks_of_a_user_are_written_as_bytes_and_read_again() {
        let salt = [7; 64];
        let keys_of =
            |salt, address| Keys::of(Salt::new(salt).hasher(), &user("A"), network(address));
        let (mut networks, mut read) = (Networks::default(), Networks::default());
        let keys = ["192.0.2.1", "2001:db8::"].map(|a| keys_of(salt, a));
        for keys in keys {
            networks.remember(keys, Day(1000));
        }
        let bytes = networks.to_bytes(keys[0].user);
        assert_eq!(bytes.len(), 24);
        read.add(keys[0].user, &[bytes.as_slice(), &[1, 2, 3]].concat());
        assert_eq!(read.0, networks.0);
        assert_ne!(keys_of([8; 64], "192.0.2.1"), keys[0]);
    }

    /// The revocation file contains these hashes. If the program computed them differently, all known networks would
    /// become unknown.
    #[cfg(feature = "store")]
    #[test]
    fn the_keys_are_hashes_of_the_salt_the_user_and_the_network() {
        let without_salt = NetworkMemory::default();
        let salted = NetworkMemory::new(Salt::new([7; 64]).hasher(), Networks::default());
        for (memory, address, of_user, of_network) in [
            (&without_salt, "192.0.2.1", 0x559a_ead0_8264_d579_u64, 0x609c_2e68_4465_1510_u64),
            (&without_salt, "2001:db8::1", 0x559a_ead0_8264_d579, 0x124d_50c4_7335_c266),
            (&salted, "192.0.2.1", 0x2fc9_8120_a4ee_d074, 0x484b_e11e_7cf8_d620),
            (&salted, "2001:db8::1", 0x2fc9_8120_a4ee_d074, 0x6c2e_f354_8ea8_2198),
        ] {
            let want = Keys { user: of_user.to_be_bytes(), network: of_network.to_be_bytes() };
            assert_eq!(memory.keys(&user("A"), network(address)), want, "{memory:?} {address}");
        }
    }
}
