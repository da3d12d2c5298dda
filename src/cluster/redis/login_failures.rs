//! Failed logins that all nodes count in Redis.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use redis::Value;

use super::{
    keys::SiteKeys,
    place::RedisPlace,
    reply::{bytes, number},
    script::Script,
};
use crate::{
    cluster::coordinator::{CoordinatorError, CoordinatorFuture},
    log_limit::log_limited,
    login_failures::{
        Attempt, AttemptResult, BeginFuture, CountInAdvance, FIRST_WAIT, FORGIVEN_A_DAY,
        FORGIVEN_MEMORY, FailureLimits, NETWORK_MEMORY, NetworkOrigin, SharedClaim,
        SharedFailuresError, SharedLoginFailures, USER_MEMORY,
    },
};

static COUNT: Script = Script::new("login_failures", include_str!("login_failures.lua"));

/// The maximum number of entries of each of the four counts. Without a limit, an attacker who invents users could fill
/// the memory of Redis.
const MAX_ENTRIES: u32 = 100_000;

/// Counts the failed logins of all nodes of a site in Redis. Clones share the counts.
///
/// Redis holds the ids of users and the networks of clients. The failures of a user count until a day has passed since
/// the user's last failure. When the script adds an entry, it removes some of the entries that no longer count.
#[derive(Clone, Debug)]
pub struct RedisLoginFailures {
    place: RedisPlace,
    nodes: Arc<AtomicU32>,
}

impl RedisLoginFailures {
    /// Creates a handle to the counts in `place`.
    pub fn new(place: RedisPlace) -> Self {
        Self { place, nodes: Arc::new(AtomicU32::new(1)) }
    }

    /// Sets the number of nodes of the site. While Redis cannot be reached, each node divides the number of failures
    /// that cause no wait by this number.
    pub fn set_nodes(&self, nodes: NonZeroU32) {
        self.nodes.store(nodes.get(), Ordering::Relaxed);
    }

    fn invoke(
        &self,
        operation: &str,
        attempt: Attempt,
        more: &[String],
    ) -> CoordinatorFuture<Value> {
        let site = SiteKeys(&self.place.shared.settings.site);
        let counts = ["pair", "user", "network", "forgiven"];
        let keys = counts
            .iter()
            .flat_map(|count| ["", ":times"].map(|end| site.key(&format!("try:{count}{end}"))));
        let Attempt { user, network, origin, .. } = attempt;
        let network = network.map(|network| network.address().to_string()).unwrap_or_default();
        let origin = match origin {
            NetworkOrigin::Known => "known",
            NetworkOrigin::Unknown => "unknown",
        };
        let fixed = [
            operation.to_owned(),
            format!("{user} {network}"),
            user.to_string(),
            network,
            origin.to_owned(),
            MAX_ENTRIES.to_string(),
            millis(USER_MEMORY),
            millis(NETWORK_MEMORY),
            millis(FORGIVEN_MEMORY),
        ];
        let args = fixed.iter().chain(more).map(|it| it.clone().into_bytes());
        self.place.invoke(&COUNT, keys.collect(), args.collect())
    }
}

impl SharedLoginFailures for RedisLoginFailures {
    fn begin(
        &self,
        attempt: Attempt,
        limits: FailureLimits,
        count_in_advance: CountInAdvance,
    ) -> BeginFuture {
        let FailureLimits { user_and_network, user, network } = limits;
        let limits = [user_and_network, user, network]
            .map(|limit| [limit.free.to_string(), millis(limit.longest_wait)]);
        let mode = match count_in_advance {
            CountInAdvance::IfLimitIsExceeded => "exceeded",
            CountInAdvance::Always => "always",
        };
        let more = [mode.to_owned(), millis(FIRST_WAIT)];
        let more: Vec<_> = limits.into_iter().flatten().chain(more).collect();
        let (answer, place) = (self.invoke("begin", attempt, &more), self.place.name().into());
        Box::pin(async move {
            let error = |error: CoordinatorError| SharedFailuresError(error.to_string().into());
            let answer = answer.await.map_err(error)?;
            let reason = || "the answer of the script for failed logins".into();
            let malformed = || error(CoordinatorError::Malformed { place, reason: reason() });
            read(&answer).ok_or_else(malformed)
        })
    }

    fn end(&self, attempt: Attempt, claim: SharedClaim, result: AttemptResult) {
        let claimed = claim.user_and_network.is_some() || claim.user.is_some();
        let operation = match result {
            AttemptResult::Succeeded => "succeeded",
            AttemptResult::Failed => "failed",
            AttemptResult::Withdrawn if claimed => "withdrawn",
            // The attempt was not counted in advance.
            AttemptResult::Withdrawn => return,
        };
        let time = |time: Option<u64>| time.map(|time| time.to_string()).unwrap_or_default();
        let more = [
            claim.at.to_string(),
            time(claim.user_and_network),
            time(claim.user),
            FORGIVEN_A_DAY.to_string(),
        ];
        let call = self.invoke(operation, attempt, &more);
        // The number of these tasks is limited: each task belongs to a login that has a turn, or to the connection of a
        // client.
        tokio::spawn(async move {
            if let Err(error) = call.await {
                log_limited!(warn, "login result not shared", { %error }, "the result of a login could not be shared with the other nodes");
            }
        });
    }

    fn nodes(&self) -> NonZeroU32 {
        NonZeroU32::new(self.nodes.load(Ordering::Relaxed)).unwrap_or(NonZeroU32::MIN)
    }
}

fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}

/// Reads the answer of the script to `begin`. The answer is a claim, or the time that the client must wait.
fn read(answer: &Value) -> Option<Result<SharedClaim, Duration>> {
    let Value::Array(parts) = answer else { return None };
    let time = |value: &Value| -> Option<Option<u64>> {
        match bytes(value)? {
            b"" => Some(None),
            digits => std::str::from_utf8(digits).ok()?.parse().ok().map(Some),
        }
    };
    match parts.as_slice() {
        [wait] => {
            let wait = number(wait).and_then(|it| u64::try_from(it).ok())?;
            Some(Err(Duration::from_millis(wait)))
        }
        [zero, at, pair, user] if number(zero) == Some(0) => {
            let (at, user_and_network, user) = (time(at)??, time(pair)?, time(user)?);
            Some(Ok(SharedClaim { at, user_and_network, user }))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_of_the_script_is_read_strictly() {
        let text = |text: &str| Value::BulkString(text.into());
        let claim = |user_and_network, user| Ok(SharedClaim { at: 7, user_and_network, user });
        for (answer, want) in [
            (vec![Value::Int(1500)], Some(Err(Duration::from_millis(1500)))),
            (vec![Value::Int(0), text("7"), text(""), text("")], Some(claim(None, None))),
            (vec![Value::Int(0), text("7"), text("5"), text("")], Some(claim(Some(5), None))),
            (vec![Value::Int(0), text("7"), text("5"), text("6")], Some(claim(Some(5), Some(6)))),
            (vec![Value::Int(0), text(""), text("5"), text("6")], None),
            (vec![Value::Int(0), text("7"), text("-5"), text("6")], None),
            (vec![Value::Int(1), text("7"), text("5"), text("6")], None),
            (vec![Value::Int(-1)], None),
            (vec![Value::Nil], None),
            (vec![], None),
        ] {
            assert_eq!(read(&Value::Array(answer.clone())), want, "{answer:?}");
        }
        assert_eq!(read(&Value::Okay), None);
    }
}
