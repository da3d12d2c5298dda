//! Time slots of PassTickets that all nodes reserve in Redis.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use redis::Value;

use super::{keys::SiteKeys, place::RedisPlace, reply::number, script::Script};
use crate::{
    clock::Timestamp,
    cluster::coordinator::CoordinatorError,
    passticket::{
        NoTimeSlot, SharedSlot, SharedSlotError, SharedTimeSlots, SlotFuture, SlotRequest,
    },
};

static RESERVE: Script = Script::new("time_slot", include_str!("time_slot.lua"));

/// Reserves time slots in Redis, so that no two nodes of a site make the same PassTicket. Clones share their state.
///
/// The slots are seconds of the clock of Redis. A new primary does not know which slots were reserved shortly before the
/// old primary failed. So each node reserves only slots after the second in which it connected to the server. If the old
/// primary still answers another node at that time, the same slot may be reserved twice. To avoid this, the old primary
/// must stop writing when it has lost its replicas (`min-replicas-to-write`).
#[derive(Clone, Debug)]
pub struct RedisTimeSlots {
    place: RedisPlace,
    /// The latest second of the clock of Redis that this node has seen.
    latest: Arc<AtomicU64>,
}

impl RedisTimeSlots {
    /// Reserves slots in `place`.
    pub fn new(place: RedisPlace) -> Self {
        Self { place, latest: Arc::default() }
    }
}

impl SharedTimeSlots for RedisTimeSlots {
    fn reserve(&self, request: SlotRequest) -> SlotFuture {
        let SlotRequest { user, applid, spare, not_before, .. } = request;
        let keys = SiteKeys(&self.place.shared.settings.site);
        let key = keys.tagged(&format!("{applid}:{user}"), "sec");
        let latest = self.latest.clone();
        let seen = latest.load(Ordering::Relaxed);
        let spare_secs = spare.as_secs();
        let answer = self.place.invoke_at(&RESERVE, vec![key], move |server| {
            let first = not_before.as_secs().max(server.opened_at + 1);
            Ok([spare_secs, first, seen].map(|it| it.to_string().into_bytes()).to_vec())
        });
        let name: Arc<str> = self.place.name().into();
        Box::pin(async move {
            let unreachable =
                |error: CoordinatorError| SharedSlotError::unreachable(error.to_string());
            let answer = answer.await.map_err(unreachable)?;
            let Some((verdict, place_time)) = read(&answer, spare) else {
                let reason = "the answer of the script for time slots".into();
                return Err(unreachable(CoordinatorError::Malformed { place: name, reason }));
            };
            latest.fetch_max(place_time.as_secs(), Ordering::Relaxed);
            let slot = verdict?;
            Ok(SharedSlot { slot, place_time })
        })
    }
}

/// Reads the answer of the script: the slot, and the time of Redis.
fn read(
    answer: &Value,
    spare: std::time::Duration,
) -> Option<(Result<Timestamp, NoTimeSlot>, Timestamp)> {
    let Value::Array(parts) = answer else { return None };
    let [kind, value, now] = parts.as_slice() else { return None };
    let secs = |value| number(value).and_then(|it| u64::try_from(it).ok());
    let (value, now) = (secs(value)?, secs(now)?);
    let time = std::time::Duration::from_secs(value);
    let verdict = match number(kind)? {
        1 => Ok(Timestamp::from_secs(value)),
        0 => Err(NoTimeSlot::AllTaken { spare, retry_after: time }),
        -1 => Err(NoTimeSlot::ClockSetBack { by: time }),
        _ => return None,
    };
    Some((verdict, Timestamp::from_millis(now)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_answer_of_the_script_is_read_strictly() {
        let answer = |parts: &[i64]| Value::Array(parts.iter().map(|it| Value::Int(*it)).collect());
        let spare = Duration::from_secs(60);
        let now = Timestamp::from_millis(5_500);
        let after = Duration::from_secs(2);
        for (parts, want) in [
            (&[1, 4, 5_500][..], Some(Ok(Timestamp::from_secs(4)))),
            (&[0, 2, 5_500], Some(Err(NoTimeSlot::AllTaken { spare, retry_after: after }))),
            (&[-1, 2, 5_500], Some(Err(NoTimeSlot::ClockSetBack { by: after }))),
            (&[2, 2, 5_500], None),
            (&[1, -4, 5_500], None),
            (&[1, 4], None),
            (&[], None),
        ] {
            assert_eq!(read(&answer(parts), spare), want.map(|it| (it, now)), "{parts:?}");
        }
        assert_eq!(read(&Value::Nil, spare), None);
    }
}
