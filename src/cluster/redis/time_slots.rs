//! All nodes reserve the time slots of their PassTickets in Redis.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
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
    clock::Timestamp,
    cluster::coordinator::CoordinatorError,
    passticket::{
        NoTimeSlot, SharedSlot, SharedSlotError, SharedTimeSlots, SlotFuture, SlotRequest,
    },
};

static RESERVE: Script = Script::new("time_slot", include_str!("time_slot.lua"));

/// Reserves time slots in Redis, so that no two nodes of a site make the same PassTicket. Clones share their state.
///
/// A time slot is one second of the clock of Redis. It can happen that Redis loses its data, or that a new primary
/// lacks the last reservations of the old primary. In both cases, Redis does not know some past slots that were
/// reserved. So each node reserves only slots after the time at which it connected to the server, and after the time at
/// which it first saw the epoch (the id of the data).
///
/// A danger remains. After a failover, if the old primary still answers another node, both primaries can reserve the
/// same slot. To avoid this, set `min-replicas-to-write`: then an old primary that has lost its replicas refuses to
/// write.
#[derive(Clone, Debug)]
pub struct RedisTimeSlots {
    place: RedisPlace,
    /// The latest second of the clock of Redis that this node has seen.
    latest: Arc<AtomicU64>,
    epoch: Arc<Mutex<Epoch>>,
}

/// The data of a site. If Redis loses the data, the data gets a new id.
#[derive(Clone, Debug, Default)]
struct Epoch {
    id: Vec<u8>,
    /// The first slot that this node may reserve.
    first: u64,
}

/// The decision of the script.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Reserved(Timestamp),
    None(NoTimeSlot),
    /// The request had another epoch than the data of the site. Contains the epoch of the data.
    OtherEpoch(Vec<u8>),
}

impl RedisTimeSlots {
    /// Reserves time slots in `place`. A node must first [join](crate::cluster::coordinator::Coordinator::join) the
    /// site in this place.
    pub fn new(place: RedisPlace) -> Self {
        Self { place, latest: Arc::default(), epoch: Arc::default() }
    }

    fn epoch(&self) -> MutexGuard<'_, Epoch> {
        self.epoch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self, request: SlotRequest) -> Result<(Verdict, Timestamp), CoordinatorError> {
        let SlotRequest { user, applid, spare, not_before, .. } = request;
        let keys = SiteKeys(&self.place.shared.settings.site);
        let keys = vec![keys.key(&format!("sec:{applid}:{user}")), keys.epoch()];
        let seen = self.latest.load(Ordering::Relaxed);
        let Epoch { id, first } = self.epoch().clone();
        let answer = self.place.invoke_at(&RESERVE, keys, move |server| {
            let first = not_before.as_secs().max(server.opened_at + 1).max(first);
            let numbers = [spare.as_secs(), first, seen].map(|it| it.to_string().into_bytes());
            Ok(numbers.into_iter().chain([id]).collect())
        });
        let Some((verdict, place_time)) = read(&answer.await?, spare) else {
            let place = self.place.name().into();
            let reason = "the answer of the script for time slots".into();
            return Err(CoordinatorError::Malformed { place, reason });
        };
        self.latest.fetch_max(place_time.as_secs(), Ordering::Relaxed);
        Ok((verdict, place_time))
    }
}

impl SharedTimeSlots for RedisTimeSlots {
    fn reserve(&self, request: SlotRequest) -> SlotFuture {
        let slots = self.clone();
        Box::pin(async move {
            for _ in 0..2 {
                let asked = slots.ask(request).await;
                let (verdict, place_time) =
                    asked.map_err(|error| SharedSlotError::unreachable(error.to_string()))?;
                match verdict {
                    Verdict::Reserved(slot) => return Ok(SharedSlot { slot, place_time }),
                    Verdict::None(why) => return Err(why.into()),
                    Verdict::OtherEpoch(id) => {
                        let mut epoch = slots.epoch();
                        if epoch.id != id {
                            *epoch = Epoch { id, first: place_time.as_secs() + 1 };
                        }
                    }
                }
            }
            Err(SharedSlotError::unreachable("Redis has lost the data of the site again and again"))
        })
    }
}

/// Reads the answer of the script, and the time of Redis.
fn read(answer: &Value, spare: Duration) -> Option<(Verdict, Timestamp)> {
    let Value::Array(parts) = answer else { return None };
    let [kind, value, now] = parts.as_slice() else { return None };
    let secs = |value| number(value).and_then(|it| u64::try_from(it).ok());
    let now = Timestamp::from_millis(secs(now)?);
    let verdict = match number(kind)? {
        1 => Verdict::Reserved(Timestamp::from_secs(secs(value)?)),
        0 => {
            let retry_after = Duration::from_secs(secs(value)?);
            Verdict::None(NoTimeSlot::AllTaken { spare, retry_after })
        }
        -1 => Verdict::None(NoTimeSlot::ClockSetBack { by: Duration::from_secs(secs(value)?) }),
        2 => Verdict::OtherEpoch(bytes(value)?.to_vec()),
        _ => return None,
    };
    Some((verdict, now))
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
        let none = |why| Some(Verdict::None(why));
        for (parts, want) in [
            (&[1, 4, 5_500][..], Some(Verdict::Reserved(Timestamp::from_secs(4)))),
            (&[0, 2, 5_500], none(NoTimeSlot::AllTaken { spare, retry_after: after })),
            (&[-1, 2, 5_500], none(NoTimeSlot::ClockSetBack { by: after })),
            (&[2, 2, 5_500], None),
            (&[1, -4, 5_500], None),
            (&[1, 4], None),
            (&[], None),
        ] {
            assert_eq!(read(&answer(parts), spare), want.map(|it| (it, now)), "{parts:?}");
        }
        let other = [Value::Int(2), Value::BulkString(b"e".to_vec()), Value::Int(5_500)];
        let want = Some((Verdict::OtherEpoch(b"e".to_vec()), now));
        assert_eq!(read(&Value::Array(other.to_vec()), spare), want);
        assert_eq!(read(&Value::Nil, spare), None);
    }
}
