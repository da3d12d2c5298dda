//! The waits that this node has learned from the shared counts of failed logins.
//!
//! Only the shared store knows how long a client must wait. The number of turns (permissions to check one password) is
//! limited, and a login asks the store only after it has got a turn. This memory contains the clients that the store
//! has refused a short time ago. The [login throttle](super::login_throttle) refuses them again without a turn, and
//! without a question to the store.

use std::{collections::HashMap, time::Duration};

use crate::{
    login_failures::{Attempt, NetworkOrigin},
    passticket::UserId,
    revocation::ClientNetwork,
};

/// After this time, the node asks the shared store again, because a login at another node may have cleared the
/// failures.
const LIFETIME: Duration = Duration::from_secs(60);

/// The maximum number of entries. An entry has about 80 bytes.
const MAX_ENTRIES: usize = 10_000;

/// Expired entries are removed at most this often, because each removal visits all entries.
const CLEAN_EVERY: Duration = Duration::from_secs(1);

type Pair = (UserId, Option<ClientNetwork>);

/// The last wait of each pair of a user and a network. The times that the caller passes must come from one monotonic
/// clock.
#[derive(Debug, Default)]
pub(super) struct SharedWaits {
    waits: HashMap<Pair, Wait>,
    /// The time of the last removal of expired entries.
    cleaned: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Wait {
    /// Whether the network was known for the user. In a known network, only one count can delay an attempt. In an
    /// unknown network, several counts can delay it.
    origin: NetworkOrigin,
    /// The end of the wait.
    end: Duration,
    /// The time until which the entry is used.
    until: Duration,
}

impl SharedWaits {
    /// Checks whether this memory has a wait for the client.
    ///
    /// # Errors
    /// The wait until an attempt may begin.
    pub(super) fn check(&self, attempt: &Attempt, now: Duration) -> Result<(), Duration> {
        match self.waits.get(&pair(attempt)) {
            Some(wait) if wait.origin == attempt.origin && now < wait.until => Err(wait.end - now),
            _ => Ok(()),
        }
    }

    /// Adds a wait, in place of an earlier wait of the same user in the same network. If the memory is full, first
    /// removes expired entries, but at most once in [`CLEAN_EVERY`]. If the memory is still full, adds nothing. The
    /// node then asks the shared store at the next attempt.
    pub(super) fn keep(&mut self, attempt: &Attempt, wait: Duration, now: Duration) {
        let pair = pair(attempt);
        if self.waits.len() >= MAX_ENTRIES && !self.waits.contains_key(&pair) {
            self.clean(now);
            if self.waits.len() >= MAX_ENTRIES {
                return;
            }
        }
        let (origin, end) = (attempt.origin, now + wait);
        self.waits.insert(pair, Wait { origin, end, until: end.min(now + LIFETIME) });
    }

    /// Removes the wait of a user in a network, because the shared counts may have become smaller.
    pub(super) fn remove(&mut self, attempt: &Attempt) {
        self.waits.remove(&pair(attempt));
    }

    #[cold]
    fn clean(&mut self, now: Duration) {
        if self.cleaned.is_some_and(|cleaned| now < cleaned + CLEAN_EVERY) {
            return;
        }
        self.cleaned = Some(now);
        self.waits.retain(|_, wait| now < wait.until);
    }
}

fn pair(attempt: &Attempt) -> Pair {
    (attempt.user, attempt.network)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use test_support::tickets::user;

    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn attempt(name: &str, network: u8, origin: NetworkOrigin) -> Attempt {
        let network = ClientNetwork::from(IpAddr::from([192, 0, network, 1]));
        Attempt::new(user(name), Some(network), origin)
    }

    #[test]
    fn a_wait_holds_for_its_user_and_network_until_its_end_and_at_most_a_minute() {
        use NetworkOrigin::{Known, Unknown};
        for (wait, name, network, origin, passed, want) in [
            (5, "A", 1, Unknown, 0, Err(5)),
            (5, "A", 1, Unknown, 4, Err(1)),
            (5, "A", 1, Unknown, 5, Ok(())),
            (5, "B", 1, Unknown, 0, Ok(())),
            (5, "A", 2, Unknown, 0, Ok(())),
            // The wait may come from a count that does not delay the user in a known network.
            (5, "A", 1, Known, 0, Ok(())),
            // The memory forgets the wait after a minute. Until then, it returns the whole remaining wait, even if this
            // wait is longer than a minute.
            (3600, "A", 1, Unknown, 59, Err(3541)),
            (3600, "A", 1, Unknown, 60, Ok(())),
        ] {
            let (mut waits, begun) = (SharedWaits::default(), seconds(1000));
            waits.keep(&attempt("A", 1, Unknown), seconds(wait), begun);
            let got = waits.check(&attempt(name, network, origin), begun + seconds(passed));
            assert_eq!(got, want.map_err(seconds), "{wait} {name} {network} {origin:?} {passed}");
        }
    }

    #[test]
    fn the_last_wait_applies_until_it_is_removed() {
        let (mut waits, a) = (SharedWaits::default(), attempt("A", 1, NetworkOrigin::Known));
        for wait in [8, 2] {
            waits.keep(&a, seconds(wait), seconds(0));
            assert_eq!(waits.check(&a, seconds(0)), Err(seconds(wait)));
        }
        waits.remove(&a);
        assert_eq!(waits.check(&a, seconds(0)), Ok(()));
    }

    #[test]
    fn a_full_memory_removes_expired_entries_at_most_once_a_second() {
        let mut waits = SharedWaits::default();
        let nth = |i: usize| attempt(&format!("U{i}"), 1, NetworkOrigin::Unknown);
        for i in 0..MAX_ENTRIES {
            waits.keep(&nth(i), seconds(if i == 0 { 30 } else { 60 }), seconds(0));
        }
        let late = nth(MAX_ENTRIES);
        for (now, want) in [(29, Ok(())), (30, Err(seconds(60)))] {
            waits.keep(&late, seconds(60), seconds(now));
            assert_eq!(waits.check(&late, seconds(now)), want, "{now}");
            assert_eq!(waits.waits.len(), MAX_ENTRIES, "{now}");
        }
        // A new wait can replace an earlier wait, even if the memory is full.
        waits.keep(&nth(1), seconds(90), seconds(30));
        assert_eq!(waits.check(&nth(1), seconds(80)), Err(seconds(40)));
        // All other entries expire at second 60. The last removal of expired entries was at second 59.5.
        let (before, now) = (Duration::from_millis(59_500), seconds(60));
        waits.keep(&nth(20_000), seconds(60), before);
        waits.keep(&nth(20_001), seconds(60), now);
        assert_eq!(waits.check(&nth(20_001), now), Ok(()));
        waits.keep(&nth(20_001), seconds(60), before + CLEAN_EVERY);
        assert!(waits.check(&nth(20_001), before + CLEAN_EVERY).is_err());
        assert_eq!(waits.waits.len(), 3);
    }
}
