//! Keeps instances for a limited time after they have disappeared from the registry without ending their registration.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use tower_passticket::eureka::{Fetch, Instance, Registry};

/// The time for which a missing instance is kept. By default, Eureka (the discovery service) removes an instance that
/// has not renewed its registration for the same time. After a restart, a discovery service has an empty registry until
/// the services register again, which takes up to 30 seconds. If missing instances were not kept, all services would be
/// unavailable during this time.
const KEEP_FOR: Duration = Duration::from_secs(90);

/// The instances that are missing in the registry. For each of them, the instant is the time at which it was found
/// missing.
#[derive(Debug, Default)]
pub(super) struct Missing(BTreeMap<(String, String), (Instance, Instant)>);

impl Missing {
    /// Returns the instances of the registry `now`, and the missing instances that are kept. `before` is the registry
    /// of the previous fetch.
    ///
    /// A delta is a fetch of the changes only. If a delta says that an instance has ended its registration, the
    /// instance is not kept. If the whole registry lacks an instance, the reason is unknown. So the instance is kept
    /// for a while.
    pub(super) fn keep(
        &mut self,
        before: &Registry,
        now: &Registry,
        fetch: Fetch,
        time: Instant,
    ) -> Registry {
        let key = |instance: &Instance| (instance.app.clone(), instance.id.clone());
        if fetch == Fetch::Full {
            for instance in before.instances() {
                self.0.entry(key(instance)).or_insert_with(|| (instance.clone(), time));
            }
        }
        for instance in now.instances() {
            self.0.remove(&key(instance));
        }
        self.0.retain(|_, (_, since)| time.saturating_duration_since(*since) < KEEP_FOR);
        let kept = self.0.values().map(|(instance, _)| instance);
        now.instances().chain(kept).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::test_settings::registry;

    #[test]
    fn an_instance_is_kept_unless_it_has_ended_its_registration() {
        let (a, b, none) = (registry(&["a h 1"]), registry(&["a h 1", "b h 2"]), registry(&[]));
        let down = registry(&["a h 1 status=DOWN"]);
        let begin = Instant::now();
        let mut missing = Missing::default();
        let mut before = b.clone();
        for (seconds, now, fetch, want) in [
            (0, &b, Fetch::Full, &b),
            // The discovery service was restarted.
            (10, &none, Fetch::Full, &b),
            (20, &a, Fetch::Delta, &b),
            (99, &a, Fetch::Full, &b),
            (101, &a, Fetch::Delta, &a),
            (110, &b, Fetch::Delta, &b),
            (120, &a, Fetch::Delta, &a),
            (130, &none, Fetch::Full, &a),
            (140, &down, Fetch::Full, &down),
            (150, &none, Fetch::Delta, &none),
        ] {
            let time = begin + Duration::from_secs(seconds);
            assert_eq!(missing.keep(&before, now, fetch, time), *want, "{seconds}");
            before = now.clone();
        }
    }
}
