//! A cache of the current tickets. Without it, each further request of a user in the same second would compute the same
//! ticket again.

use std::{fmt, num::NonZeroUsize};

use quick_cache::sync::Cache;

use super::{Applid, KeyProfile, KeySourceError, PassTicket, UserId};
use crate::clock::Timestamp;

/// For each user and APPLID, the last ticket and the time of this ticket in seconds since the epoch.
pub(super) struct TicketCache(Cache<(UserId, Applid), (u64, PassTicket)>);

impl TicketCache {
    pub(super) fn new(pairs: NonZeroUsize) -> Self {
        Self(Cache::new(pairs.get()))
    }

    pub(super) fn get_or_generate(
        &self,
        profile: &KeyProfile,
        user: &UserId,
        now: Timestamp,
    ) -> Result<PassTicket, KeySourceError> {
        let (key, secs) = ((*user, *profile.applid()), now.as_secs());
        match self.0.get(&key) {
            Some((at, ticket)) if at == secs => Ok(ticket),
            _ => {
                let ticket = profile.generate(user, now)?;
                self.0.insert(key, (secs, ticket.clone()));
                Ok(ticket)
            }
        }
    }
}

impl fmt::Debug for TicketCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketCache").field("tickets", &self.0.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Algorithm;

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
