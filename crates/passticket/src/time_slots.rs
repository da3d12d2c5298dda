//! Time slots for services with replay protection, which accept each ticket only once.
//!
//! A ticket depends only on the user, the APPLID (application name), the key and the second. So two different tickets
//! of a user and APPLID need two different seconds. The second of a ticket is called its time slot. A service accepts a
//! ticket for some time after its time slot. So a ticket for an unused slot of the recent past is still valid now.

use std::{
    collections::HashMap,
    fmt, mem,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    Applid, UserId,
    used_time_slots::{PAIRS, Pair, UsedTimeSlots},
};
use crate::clock::Timestamp;

/// The maximum age in seconds of a time slot at its reservation. A user who made no requests in this time can make a
/// burst of requests, because the slots are unused. One page of a web application makes dozens of requests.
const SPARE_SECS: u64 = 60;

/// Reserves time slots for each pair of user and APPLID.
///
/// No slot of a pair is reserved twice. With [`StartSecond::Skipped`], all slots are later than the second in which
/// this process started. A previous process used only slots up to the time of its own end. So if the clock is not set
/// back between the two processes, they never use the same slot. After [`continue_from`](Self::continue_from), this
/// process also uses slots that the other process left unused.
pub(super) struct TimeSlots {
    /// The maximum number of pairs in a generation of [`Reserved`].
    pairs: usize,
    state: Mutex<Reserved>,
}

/// The last reserved slot of each pair, in two generations. Every [`SPARE_SECS`], the current generation becomes the
/// previous one, and the old previous one is dropped. The slots of the dropped generation are too old to be reserved
/// again.
struct Reserved {
    /// Whether this process has handed over its slots to another process. In this case, this process reserves no slot.
    are_handed_over: bool,
    /// The first slot that can be reserved, in seconds since the epoch.
    first: u64,
    /// The latest time that this process has seen, in seconds since the epoch. It does not decrease if the clock is set
    /// back, so that no slot is reserved twice.
    latest: u64,
    current: HashMap<Pair, u64>,
    previous: HashMap<Pair, u64>,
    /// For each APPLID whose replay protection was turned on recently, the first slot that can be reserved. Tickets for
    /// earlier seconds may have been made without a reservation.
    first_of: HashMap<Applid, u64>,
}

/// Whether a process makes tickets for the second in which it starts.
#[derive(Clone, Copy, Debug)]
pub(super) enum StartSecond {
    /// The process makes no tickets for this second, because a previous process may have made some.
    Skipped,
    /// The process makes tickets for this second, because it cannot wait for the next second.
    Used,
}

impl TimeSlots {
    /// Creates the time slots of a process that starts at `start`.
    pub(super) fn new(start: Timestamp, start_second: StartSecond) -> Self {
        Self::with_capacity(PAIRS, start, start_second)
    }

    fn with_capacity(pairs: usize, start: Timestamp, start_second: StartSecond) -> Self {
        let latest = start.as_secs();
        let first = match start_second {
            StartSecond::Skipped => latest + 1,
            StartSecond::Used => latest,
        };
        let state = Reserved {
            are_handed_over: false,
            first,
            latest,
            current: HashMap::new(),
            previous: HashMap::new(),
            first_of: HashMap::new(),
        };
        Self { pairs, state: Mutex::new(state) }
    }

    /// Reserves a slot for a ticket that is valid for `window` before and after its second. The slot is not later than
    /// `now`. Its age is at most [`SPARE_SECS`], and at most a quarter of the window. So at least three quarters of the
    /// window remain for the transport to the service and for differences between the clocks.
    ///
    /// # Errors
    /// [`NoTimeSlot`] says why there is no slot.
    pub(super) fn reserve(
        &self,
        user: &UserId,
        applid: &Applid,
        window: Duration,
        now: Timestamp,
    ) -> Result<Timestamp, NoTimeSlot> {
        let (pair, now) = ((*user, *applid), now.as_secs());
        let spare = spare_secs(window);
        let mut state = self.state();
        if state.are_handed_over {
            return Err(NoTimeSlot::HandedOver);
        }
        state.advance_to(now);
        let Reserved { first, latest, current, previous, first_of, .. } = &mut *state;
        let in_current = current.get(&pair).copied();
        let last = in_current.or_else(|| previous.get(&pair).copied());
        let first = first_of.get(applid).map_or(*first, |of_applid| (*first).max(*of_applid));
        let second = next(last, first, *latest, spare, now)?;
        if in_current.is_none() && current.len() >= self.pairs {
            return Err(NoTimeSlot::TooManyPairs { pairs: self.pairs });
        }
        current.insert(pair, second);
        Ok(Timestamp::from_secs(second))
    }

    /// Returns the first slot that can be reserved for the APPLID in a shared store.
    ///
    /// # Errors
    /// [`NoTimeSlot::HandedOver`] if another process makes the tickets now.
    pub(super) fn first_shared(&self, applid: &Applid) -> Result<Timestamp, NoTimeSlot> {
        let state = self.state();
        if state.are_handed_over {
            return Err(NoTimeSlot::HandedOver);
        }
        let of_applid = state.first_of.get(applid).copied().unwrap_or_default();
        Ok(Timestamp::from_secs(state.first.max(of_applid)))
    }

    /// Returns the used slots for the process that continues the work of this process. From now on, this process
    /// reserves no slot. `protected` contains the APPLIDs whose profiles all have replay protection.
    pub(super) fn hand_over(&self, protected: Vec<Applid>) -> UsedTimeSlots {
        let mut state = self.state();
        state.are_handed_over = true;
        let latest = state.latest;
        // `first_of` has one first slot for each APPLID, but `UsedTimeSlots` has only one for all APPLIDs. So `first`
        // of `UsedTimeSlots` is the latest of them. A few unused slots of APPLIDs with an earlier first slot may be
        // lost.
        let first = state.first_of.values().copied().fold(state.first, u64::max);
        let of =
            |slots: &HashMap<Pair, u64>| slots.iter().map(|(pair, slot)| (*pair, *slot)).collect();
        let (current, previous) = (of(&state.current), of(&state.previous));
        UsedTimeSlots { first, latest, protected, current, previous }
    }

    /// Ends the effect of [`hand_over`](Self::hand_over): this process reserves slots again. Call this only if the
    /// other process has ended and has reserved no slot.
    pub(super) fn take_back(&self) {
        self.state().are_handed_over = false;
    }

    /// Does the same as [`take_back`](Self::take_back), but this process then reserves only slots after `now`. Call
    /// this if the other process has ended, but may have reserved slots up to `now`.
    pub(super) fn take_back_after(&self, now: Timestamp) {
        let mut state = self.state();
        state.are_handed_over = false;
        state.first = state.first.max(now.as_secs() + 1);
    }

    /// From now on, this process reserves only slots after the latest second that it has seen. Call this if another
    /// process may have reserved earlier slots without the shared store.
    pub(super) fn skip_to_latest(&self) {
        let mut state = self.state();
        state.first = state.first.max(state.latest + 1);
    }

    /// Continues with the slots of another process, which reserves no more slots.
    pub(super) fn continue_from(&self, used: UsedTimeSlots) {
        let UsedTimeSlots { first, latest, protected: _, current, previous } = used;
        let mut state = self.state();
        let now = state.latest;
        state.first = first;
        state.latest = latest;
        state.current = current.into_iter().collect();
        state.previous = previous.into_iter().collect();
        state.advance_to(now);
    }

    fn state(&self) -> MutexGuard<'_, Reserved> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that these APPLIDs have replay protection from now on. Tickets for the seconds up to `now` may have been
    /// made without a reservation. So for these APPLIDs, only later slots can be reserved.
    pub(super) fn protect(&self, applids: impl Iterator<Item = Applid>, now: Timestamp) {
        let mut state = self.state();
        state.advance_to(now.as_secs());
        let latest = state.latest;
        // Older entries have no effect, because their seconds are too old to be reserved.
        state.first_of.retain(|_, first| *first + SPARE_SECS >= latest);
        state.first_of.extend(applids.map(|applid| (applid, latest + 1)));
    }
}

impl Reserved {
    /// Sets `latest` to `now`, unless `latest` is already later. If a new generation begins, drops the slots of the
    /// oldest generation.
    fn advance_to(&mut self, now: u64) {
        let before = self.latest / SPARE_SECS;
        self.latest = self.latest.max(now);
        match self.latest / SPARE_SECS - before {
            0 => {}
            1 => {
                mem::swap(&mut self.current, &mut self.previous);
                self.current.clear();
            }
            _ => {
                self.current.clear();
                self.previous.clear();
            }
        }
    }
}

impl fmt::Debug for TimeSlots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimeSlots").field("first", &self.state().first).finish_non_exhaustive()
    }
}

/// Returns the maximum age in seconds of a slot at its reservation, for tickets with this window.
pub(super) fn spare_secs(window: Duration) -> u64 {
    SPARE_SECS.min(window.as_secs() / 4)
}

/// Returns the earliest slot of a pair that is unused and not too old, or an error if this slot is later than `now`.
/// `last` is the last reserved slot of the pair. A `last` before `latest - spare` has the same effect as `None`.
fn next(
    last: Option<u64>,
    first: u64,
    latest: u64,
    spare: u64,
    now: u64,
) -> Result<u64, NoTimeSlot> {
    let earliest = latest.saturating_sub(spare);
    let next = last.map_or(0, |last| last + 1).max(earliest).max(first);
    if next <= now {
        Ok(next)
    } else if earliest > now {
        Err(NoTimeSlot::ClockSetBack { by: Duration::from_secs(latest - now) })
    } else {
        let [spare, retry_after] = [spare, next - now].map(Duration::from_secs);
        Err(NoTimeSlot::AllTaken { spare, retry_after })
    }
}

/// The reason why there is no time slot for a ticket.
///
/// An application with [replay protection](super::Replay::Protected) accepts each ticket only once. So each ticket
/// needs its own second, which is called its time slot. If there is no time slot, no ticket is made.
///
/// `Display` is for the operator's log and says what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoTimeSlot {
    /// No time slot up to now is left. Each one is used, too old, or before the first one that the generator may use.
    /// For example, the generator may not use the second in which it started.
    #[error(
        "PassTicket limit reached: with replay protection each user gets one ticket per second and \
         APPLID (burst {}); the next ticket is possible in {} s. If the security product allows \
         replay for this APPLID, turn replay protection off here, too (replayProtection: false in ptktdata, or Replay::Allowed)",
        spare.as_secs() + 1,
        retry_after.as_secs()
    )]
    AllTaken {
        /// The maximum age of a time slot when a ticket is made for it.
        spare: Duration,
        /// The time until the next time slot. It is one second, or longer if the clock was set back a little.
        retry_after: Duration,
    },
    /// The clock of this machine was set back too far. The generator no longer knows which time slots near the new time
    /// it has used.
    #[error(
        "the clock was set back by {} s; with replay protection no tickets are made until the clock \
         has caught up. If the clock was wrong before it was set back, restart this process",
        by.as_secs()
    )]
    ClockSetBack {
        /// How far the clock was set back.
        by: Duration,
    },
    /// Within a minute, more pairs of user and APPLID needed tickets than the table can hold.
    #[error(
        "PassTicket limit reached: with replay protection at most {pairs} pairs of user and APPLID \
         get tickets within one minute; try again in a minute"
    )]
    TooManyPairs {
        /// The number of pairs that the table can hold.
        pairs: usize,
    },
    /// Another process makes the tickets now, see
    /// [`hand_over_time_slots`](super::LocalGenerator::hand_over_time_slots).
    #[error("this process has handed over its time slots: another process makes the tickets")]
    HandedOver,
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, thread};

    use proptest::prelude::*;

    use super::*;
    use crate::DEFAULT_WINDOW;

    const START: u64 = 1_700_000_000;

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(START + secs)
    }

    fn pair(user: &str) -> Pair {
        (UserId::new(user).unwrap(), Applid::new("IZUDFLT").unwrap())
    }

    fn reserve(slots: &TimeSlots, user: &str, now: u64) -> Result<u64, NoTimeSlot> {
        let (user, applid) = pair(user);
        slots.reserve(&user, &applid, DEFAULT_WINDOW, at(now)).map(|at| at.as_secs() - START)
    }

    fn all_taken(spare: u64) -> NoTimeSlot {
        all_taken_for(spare, 1)
    }

    fn all_taken_for(spare: u64, retry_after: u64) -> NoTimeSlot {
        let [spare, retry_after] = [spare, retry_after].map(Duration::from_secs);
        NoTimeSlot::AllTaken { spare, retry_after }
    }

    fn set_back(by: u64) -> NoTimeSlot {
        NoTimeSlot::ClockSetBack { by: Duration::from_secs(by) }
    }

    #[test]
    fn the_next_slot_is_the_earliest_unused_one() {
        struct Case {
            name: &'static str,
            last: Option<u64>,
            first: u64,
            latest: u64,
            spare: u64,
            now: u64,
            want: Result<u64, NoTimeSlot>,
        }
        let case = |name, last, now, want| Case {
            name,
            last,
            first: 0,
            latest: 1000,
            spare: 60,
            now,
            want,
        };
        for Case { name, last, first, latest, spare, now, want } in [
            case("no slot was reserved", None, 1000, Ok(940)),
            case("a recent slot was reserved", Some(950), 1000, Ok(951)),
            case("only an old slot was reserved", Some(10), 1000, Ok(940)),
            case("only the current second is left", Some(999), 1000, Ok(1000)),
            case("the current second is used", Some(1000), 1000, Err(all_taken(60))),
            Case { first: 990, ..case("the process started recently", None, 1000, Ok(990)) },
            Case {
                first: 1001,
                ..case("the process started in this second", None, 1000, Err(all_taken(60)))
            },
            Case { spare: 0, ..case("no spare slots", None, 1000, Ok(1000)) },
            Case {
                spare: 0,
                ..case("no spare slots, current second used", Some(1000), 1000, Err(all_taken(0)))
            },
            case("clock set back, some slots unused", Some(950), 980, Ok(951)),
            case("clock set back, all slots used", Some(1000), 980, Err(all_taken_for(60, 21))),
            case("clock set back by 60 s", None, 940, Ok(940)),
            case("clock set back by 61 s", None, 939, Err(set_back(61))),
            case("clock set back by 100 s", Some(1000), 900, Err(set_back(100))),
            Case { latest: 10, ..case("soon after 1970", None, 10, Ok(0)) },
        ] {
            assert_eq!(next(last, first, latest, spare, now), want, "{name}");
        }
    }

    #[test]
    fn no_slot_is_reserved_twice_across_a_hand_over() {
        let old = TimeSlots::new(at(0), StartSecond::Skipped);
        assert_eq!((1..=5).map(|_| reserve(&old, "A", 30).unwrap()).max(), Some(5));
        assert_eq!(reserve(&old, "B", 90), Ok(30));
        let used = old.hand_over(Vec::new());
        assert_eq!(reserve(&old, "A", 91), Err(NoTimeSlot::HandedOver));
        // The new process started later, and continues with the unused slots of the old process.
        let new = TimeSlots::new(at(91), StartSecond::Skipped);
        new.continue_from(used.to_string().parse().unwrap());
        assert_eq!(reserve(&new, "B", 91), Ok(31));
        assert_eq!(reserve(&new, "A", 91), Ok(31));
        assert_eq!(reserve(&new, "C", 91), Ok(31));
        // Two hand-overs fail. The first one fails before the new process can reserve a slot. The second one fails
        // after the new process may have reserved slots.
        old.take_back();
        assert_eq!(reserve(&old, "B", 91), Ok(31));
        old.hand_over(Vec::new());
        old.take_back_after(at(91));
        assert_eq!(reserve(&old, "B", 91), Err(all_taken(60)));
        assert_eq!(reserve(&old, "B", 92), Ok(92));
    }

    #[test]
    fn bursts_61_then_one_per_second() {
        let slots = TimeSlots::new(at(0), StartSecond::Skipped);
        let burst =
            |now| (0..1000).map_while(|_| reserve(&slots, "A", now).ok()).collect::<Vec<_>>();
        // A previous process may have used the second in which this process starts.
        assert_eq!(reserve(&slots, "A", 0), Err(all_taken(60)));
        assert_eq!(burst(1), [1]);
        assert_eq!(burst(30), Vec::from_iter(2..=30));
        assert_eq!(burst(31), [31]);
        assert_eq!(burst(31), [0; 0]);
        assert_eq!(burst(1000), Vec::from_iter(940..=1000));
        assert_eq!(reserve(&slots, "A", 1000), Err(all_taken(60)));
        // Each user and each APPLID has its own slots.
        assert_eq!(reserve(&slots, "B", 1000), Ok(940));
        let cics =
            slots.reserve(&pair("A").0, &Applid::new("CICS").unwrap(), DEFAULT_WINDOW, at(1000));
        assert_eq!(cics, Ok(at(940)));
    }

    #[test]
    fn the_start_second_can_be_used() {
        let slots = TimeSlots::new(at(0), StartSecond::Used);
        assert_eq!(reserve(&slots, "A", 0), Ok(0));
        assert_eq!(reserve(&slots, "A", 0), Err(all_taken(60)));
        assert_eq!(reserve(&slots, "B", 0), Ok(0));
        assert_eq!(reserve(&slots, "A", 1), Ok(1));
        assert_eq!(reserve(&slots, "A", 1), Err(all_taken(60)));
    }

    #[test]
    fn a_narrow_window_has_fewer_spare_slots() {
        for (window, spare) in
            [(0, 0), (3, 0), (4, 1), (60, 15), (240, 60), (600, 60), (86_400, 60)]
        {
            let slots = TimeSlots::new(at(0), StartSecond::Skipped);
            let (user, applid) = pair("A");
            let window = Duration::from_secs(window);
            let got = slots.reserve(&user, &applid, window, at(1000));
            assert_eq!(got, Ok(at(1000 - spare)), "{window:?}");
        }
    }

    #[test]
    fn a_clock_that_is_set_back_frees_no_slot() {
        let slots = TimeSlots::new(at(0), StartSecond::Skipped);
        let taken: Vec<_> = (0..10).map(|_| reserve(&slots, "A", 1000).unwrap()).collect();
        assert_eq!(taken, Vec::from_iter(940..950));
        // The table drops the slots around 1000, but keeps the latest time.
        assert_eq!(reserve(&slots, "B", 2000), Ok(1940));
        assert_eq!(reserve(&slots, "A", 1000), Err(set_back(1000)));
        assert_eq!(reserve(&slots, "A", 1939), Err(set_back(61)));
        assert_eq!(reserve(&slots, "A", 1940), Ok(1940));
        // The clock is set to a time before the start of the process.
        let slots = TimeSlots::new(at(500), StartSecond::Skipped);
        assert_eq!(reserve(&slots, "A", 400), Err(set_back(100)));
        assert_eq!(reserve(&slots, "A", 500), Err(all_taken(60)));
        assert_eq!(reserve(&slots, "A", 501), Ok(501));
    }

    #[test]
    fn a_full_table_refuses_new_pairs() {
        let slots = TimeSlots::with_capacity(2, at(0), StartSecond::Skipped);
        let full = Err(NoTimeSlot::TooManyPairs { pairs: 2 });
        for user in ["A", "B"] {
            assert_eq!(reserve(&slots, user, 1), Ok(1));
        }
        assert_eq!(reserve(&slots, "C", 1), full);
        assert_eq!(reserve(&slots, "A", 2), Ok(2));
        // A generation begins at each full minute of the clock: here 40 s and 100 s after `START`.
        assert_eq!(reserve(&slots, "C", 61), Ok(1));
        assert_eq!(reserve(&slots, "A", 61), Ok(3));
        assert_eq!(reserve(&slots, "B", 61), full);
        assert_eq!(reserve(&slots, "B", 121), Ok(61));
        let state = slots.state.lock().unwrap();
        assert!(state.current.len() <= 2 && state.previous.len() <= 2);
    }

    #[test]
    fn threads_never_reserve_the_same_slot() {
        let slots = TimeSlots::new(at(0), StartSecond::Skipped);
        let taken = thread::scope(|scope| {
            let taking =
                || (0..100).filter_map(|_| reserve(&slots, "A", 1000).ok()).collect::<Vec<_>>();
            let threads = [(); 4].map(|()| scope.spawn(taking));
            threads.map(|thread| thread.join().unwrap())
        });
        let mut taken: Vec<u64> = taken.concat();
        taken.sort_unstable();
        assert_eq!(taken, Vec::from_iter(940..=1000));
    }

    #[test]
    fn errors_name_the_limit_and_the_remedy() {
        for (error, parts) in [
            (
                all_taken(60),
                &["one ticket per second", "burst 61", "in 1 s", "Replay::Allowed"][..],
            ),
            (set_back(90), &["set back by 90 s", "restart"]),
            (NoTimeSlot::TooManyPairs { pairs: 7 }, &["at most 7 pairs"]),
        ] {
            let text = error.to_string();
            assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        }
        assert!(
            format!("{:?}", TimeSlots::new(at(0), StartSecond::Skipped)).starts_with("TimeSlots")
        );
    }

    fn step() -> impl Strategy<Value = i64> {
        prop_oneof![8 => 0..3_i64, 2 => -90..120_i64, 1 => -5000..5000_i64]
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 512,
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn no_slot_is_reserved_twice_or_in_the_future(
            calls in prop::collection::vec((0..6_usize, step(), 0..700_u64), 1..400),
            pairs in 1..8_usize,
        ) {
            let names = ["A", "B", "C", "D", "E", "F"];
            let slots = TimeSlots::with_capacity(pairs, at(0), StartSecond::Skipped);
            let (mut now, mut latest) = (START, START);
            let mut taken = HashSet::new();
            for (name, step, window) in calls {
                now = now.saturating_add_signed(step);
                latest = latest.max(now);
                let (user, applid) = pair(names[name]);
                let window = Duration::from_secs(window);
                let got = slots.reserve(&user, &applid, window, Timestamp::from_secs(now));
                let Ok(second) = got else {
                    continue;
                };
                let second = second.as_secs();
                prop_assert!(second > START && second <= now, "{second} at {now}");
                prop_assert!(now - second <= window.as_secs() / 4, "{second} at {now}, {window:?}");
                prop_assert!(latest - second <= SPARE_SECS);
                prop_assert!(taken.insert((name, second)), "{second} twice");
            }
            let state = slots.state.lock().unwrap();
            prop_assert!(state.current.len() <= pairs && state.previous.len() <= pairs);
        }

        /// The clock only goes forward in this test.
        #[test]
        fn one_request_per_second_is_never_refused(
            steps in prop::collection::vec((1..200_u64, 0..3_u64), 1..100),
        ) {
            let slots = TimeSlots::new(at(0), StartSecond::Skipped);
            let mut now = 0;
            for (step, requests_of_other) in steps {
                now += step;
                for _ in 0..requests_of_other {
                    let _ = reserve(&slots, "OTHER", now);
                }
                prop_assert!(reserve(&slots, "A", now).is_ok());
            }
        }
    }
}
