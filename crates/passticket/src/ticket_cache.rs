//! A cache of PassTickets. If a user makes several requests in the same second, all of them get the same ticket. With a
//! reuse time, the requests in this time also get this ticket.

use std::{fmt, num::NonZeroUsize};

use quick_cache::sync::Cache;

use super::{Applid, KeyProfile, PassTicket, UserId};
use crate::clock::Timestamp;

/// For each user and APPLID, the last ticket and the time of this ticket in seconds since the epoch.
pub(super) struct TicketCache(Cache<(UserId, Applid), (u64, PassTicket)>);

impl TicketCache {
    pub(super) fn new(pairs: NonZeroUsize) -> Self {
        Self(Cache::new(pairs.get()))
    }

    /// Returns the ticket in the cache, unless its reuse time has ended or the key has changed since. `profile` must
    /// have the key that makes tickets at the time `now`.
    pub(super) fn get(
        &self,
        profile: &KeyProfile,
        user: &UserId,
        now: Timestamp,
    ) -> Option<PassTicket> {
        let (at, ticket) = self.0.get(&(*user, *profile.applid()))?;
        let reuse_secs = profile.reuse().as_secs();
        (at >= profile.since() && is_current(at, now.as_secs(), reuse_secs)).then_some(ticket)
    }

    /// Stores the ticket that the key of `profile` has made for the second `at`.
    pub(super) fn insert(
        &self,
        profile: &KeyProfile,
        user: &UserId,
        at: Timestamp,
        ticket: PassTicket,
    ) {
        self.0.insert((*user, *profile.applid()), (at.as_secs(), ticket));
    }

    pub(super) fn forget(&self, user: &UserId, applid: &Applid) {
        self.0.remove(&(*user, *applid));
    }
}

/// Returns whether a ticket that was made for the second `at` may be used again in the second `now`. If the clock was
/// set back, `at` can be later than `now`. In this case, the ticket must not be used.
const fn is_current(at: u64, now: u64, reuse_secs: u64) -> bool {
    at == now || at < now && now - at < reuse_secs
}

impl fmt::Debug for TicketCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketCache").field("tickets", &self.0.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::{Algorithm, KeySourceError, Replay};

    impl TicketCache {
        fn get_or_generate(
            &self,
            profile: &KeyProfile,
            user: &UserId,
            now: Timestamp,
        ) -> Result<PassTicket, KeySourceError> {
            if let Some(ticket) = self.get(profile, user, now) {
                return Ok(ticket);
            }
            let ticket = profile.generate(user, now)?;
            self.insert(profile, user, now, ticket.clone());
            Ok(ticket)
        }
    }

    #[test]
    fn a_ticket_is_current_in_its_second_and_for_the_time_of_reuse() {
        for (at, now, reuse, want) in [
            (100, 100, 0, true),
            (100, 101, 0, false),
            (100, 101, 1, false),
            (100, 101, 2, true),
            (100, 109, 10, true),
            (100, 110, 10, false),
            // The clock was set back.
            (100, 99, 10, false),
            (u64::MAX, 0, 10, false),
            (0, u64::MAX, u64::MAX, false),
        ] {
            assert_eq!(is_current(at, now, reuse), want, "{at} {now} {reuse}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 128,
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        /// Each ticket that the cache returns is valid, even if the clock jumps. Its age is 0, or less than the reuse
        /// time.
        #[test]
        fn a_ticket_that_is_used_again_is_valid(
            steps in prop::collection::vec((-20_i64..40, 0..2_usize), 1..60),
            reuse in 0..400_u64,
            window in 0..900_u64,
        ) {
            let applid = Applid::new("ZOWEAPPL").unwrap();
            let profile = KeyProfile::from_hex(applid, Algorithm::Legacy, "F90F48F03C28DC86")
                .unwrap()
                .with_replay(Replay::Allowed)
                .with_window(Duration::from_secs(window))
                .with_reuse(Duration::from_secs(reuse));
            let cache = TicketCache::new(NonZeroUsize::new(10).unwrap());
            let mut now = 1_700_000_000_u64;
            for (step, user) in steps {
                now = now.saturating_add_signed(step);
                let user = UserId::new(["A", "B"][user]).unwrap();
                let ticket = cache.get_or_generate(&profile, &user, Timestamp::from_secs(now));
                let at = Timestamp::from_secs(now);
                let age = profile.evaluate(&user, &ticket.unwrap(), at).unwrap().age_secs();
                prop_assert!(age == 0 || (1..profile.reuse().as_secs() as i64).contains(&age));
                prop_assert!(age as u64 <= window / 4 && age <= 150);
            }
        }
    }

    #[test]
    fn a_forgotten_ticket_is_not_used_again() {
        let (applid, user) = (Applid::new("ZOWEAPPL").unwrap(), UserId::new("A").unwrap());
        let profile = KeyProfile::from_hex(applid, Algorithm::Legacy, "F90F48F03C28DC86")
            .unwrap()
            .with_replay(Replay::Allowed)
            .with_reuse(Duration::from_secs(100));
        let cache = TicketCache::new(NonZeroUsize::new(10).unwrap());
        let ticket = |secs| cache.get_or_generate(&profile, &user, Timestamp::from_secs(secs));
        let first = ticket(1_700_000_000);
        assert_eq!(ticket(1_700_000_050), first);
        cache.forget(&user, &applid);
        assert_ne!(ticket(1_700_000_050), first);
    }

    #[test]
    fn a_cached_ticket_equals_a_generated_one() {
        let applids = ["ZOWEAPPL", "IZUDFLT"].map(|applid| Applid::new(applid).unwrap());
        let profiles = applids.map(|applid| {
            KeyProfile::from_hex(applid, Algorithm::Legacy, "F90F48F03C28DC86").unwrap()
        });
        // If the cache is too small for all pairs, evicted tickets are generated again.
        for pairs in [1, 100] {
            let cache = TicketCache::new(NonZeroUsize::new(pairs).unwrap());
            for millis in [0, 1, 999, 1000, 1001, 500, 2000, 1999] {
                let now = Timestamp::from_millis(1_700_000_000_000 + millis);
                for profile in &profiles {
                    for user in ["A", "B"].map(|user| UserId::new(user).unwrap()) {
                        let got = cache.get_or_generate(profile, &user, now);
                        assert_eq!(got, profile.generate(&user, now));
                    }
                }
            }
            assert!(!format!("{cache:?}").contains("PassTicket"));
        }
    }
}
