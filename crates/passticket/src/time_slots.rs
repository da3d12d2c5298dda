//! A second of its own for each ticket, where a service takes a ticket once.
//!
//! The same user, APPLID and second give the same ticket, so a ticket that nobody has had is one of
//! a second that nobody has had. A ticket is good for a while before and after its second: those
//! that have passed unused are there to be taken.

use std::{
    collections::HashMap,
    fmt, mem,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use super::{Applid, UserId};
use crate::clock::Timestamp;

/// How many seconds that have passed may still be taken: one page of a web application is dozens of
/// requests, and what has been quiet for a minute has them all at once.
const SPARE_SECS: u64 = 60;

/// Users and APPLIDs that are remembered in each of the two generations, in at most some nine
/// megabytes together.
const PAIRS: usize = 100_000;

type Pair = (UserId, Applid);

/// The seconds that are taken, for each user and APPLID.
///
/// Nothing that it gives out has been given out before: not here, and, as far as the clock is right,
/// not by the process before this one, which took no second after its end.
pub(super) struct TimeSlots {
    /// The first one that there is.
    first: u64,
    pairs: usize,
    book: Mutex<Book>,
}

/// The last second of each pair, in two generations: each [`SPARE_SECS`] the young one becomes the
/// old one, and what was old is forgotten. Its seconds are by then none that could be given out.
struct Book {
    /// The latest time that there was: a clock that is set back makes no second new.
    latest: u64,
    young: HashMap<Pair, u64>,
    old: HashMap<Pair, u64>,
}

impl TimeSlots {
    /// Gives out seconds after that of `start`. In that one the process before may have ended.
    pub(super) fn after(start: Timestamp) -> Self {
        Self::remembering(PAIRS, start)
    }

    fn remembering(pairs: usize, start: Timestamp) -> Self {
        let latest = start.as_secs();
        let book = Book { latest, young: HashMap::new(), old: HashMap::new() };
        Self { first: latest + 1, pairs, book: Mutex::new(book) }
    }

    /// Takes a second for a ticket of `user` that has to be used within `window`. It is not after
    /// `now`, and before it by a quarter of the window at the most: the rest is for the way to the
    /// service and for the difference of the clocks.
    ///
    /// # Errors
    /// [`NoTimeSlot`] says why there is none.
    pub(super) fn take(
        &self,
        user: &UserId,
        applid: &Applid,
        window: Duration,
        now: Timestamp,
    ) -> Result<Timestamp, NoTimeSlot> {
        let (pair, now) = ((*user, *applid), now.as_secs());
        let spare = SPARE_SECS.min(window.as_secs() / 4);
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        book.turn(now);
        let Book { latest, young, old } = &mut *book;
        let in_young = young.get(&pair).copied();
        let last = in_young.or_else(|| old.get(&pair).copied());
        let second = next(last, self.first, *latest, spare, now)?;
        if in_young.is_none() && young.len() >= self.pairs {
            return Err(NoTimeSlot::TooManyPairs { pairs: self.pairs });
        }
        young.insert(pair, second);
        Ok(Timestamp::from_secs(second))
    }
}

impl Book {
    /// Goes on to `now`, unless it has been later already.
    fn turn(&mut self, now: u64) {
        let before = self.latest / SPARE_SECS;
        self.latest = self.latest.max(now);
        match self.latest / SPARE_SECS - before {
            0 => {}
            1 => {
                mem::swap(&mut self.young, &mut self.old);
                self.young.clear();
            }
            _ => {
                self.young.clear();
                self.old.clear();
            }
        }
    }
}

impl fmt::Debug for TimeSlots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimeSlots").field("first", &self.first).finish_non_exhaustive()
    }
}

/// The earliest second that nobody has had, if it is not after `now`. `last` is the last that was
/// given out, unless that was before `latest - spare`.
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

/// Why there is no second for a ticket of an application with
/// [replay protection](super::Replay::Protected), and so no ticket.
///
/// `Display` is for the operator's log and says what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoTimeSlot {
    /// There have been more requests of the user than seconds.
    #[error(
        "the service takes a ticket once, so each has a second of its own, and none is left up to \
         now; there is one each second for a user and an APPLID, and those of the last {} s are \
         kept. If the security product allows replay for this APPLID, write replayProtection: \
         false to its entry in passticketProxy.ptktdata (in code: Replay::Allowed)",
        spare.as_secs()
    )]
    AllTaken {
        /// How long a second that has passed unused is kept.
        spare: Duration,
        /// When there is one again: the next second, unless the clock was set back a little.
        retry_after: Duration,
    },
    /// The clock of this machine tells a time that has been. Which seconds were taken then is no
    /// longer known.
    #[error(
        "the clock was set back by {} s, and the service takes a ticket once: there are tickets \
         again when the clock is where it was. If the time before was the wrong one, restart the \
         gateway",
        by.as_secs()
    )]
    ClockSetBack {
        /// By how much.
        by: Duration,
    },
    /// More users and APPLIDs have had tickets within a minute than are remembered.
    #[error(
        "the service takes a ticket once, and more than {pairs} pairs of user and APPLID had one \
         within a minute; who had which second is not remembered for more"
    )]
    TooManyPairs {
        /// So many are remembered.
        pairs: usize,
    },
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

    fn take(seconds: &TimeSlots, user: &str, now: u64) -> Result<u64, NoTimeSlot> {
        let (user, applid) = pair(user);
        seconds.take(&user, &applid, DEFAULT_WINDOW, at(now)).map(|at| at.as_secs() - START)
    }

    fn all_taken(spare: u64) -> NoTimeSlot {
        all_taken_for(spare, 1)
    }

    fn all_taken_for(spare: u64, secs: u64) -> NoTimeSlot {
        let [spare, retry_after] = [spare, secs].map(Duration::from_secs);
        NoTimeSlot::AllTaken { spare, retry_after }
    }

    fn set_back(by: u64) -> NoTimeSlot {
        NoTimeSlot::ClockSetBack { by: Duration::from_secs(by) }
    }

    #[test]
    fn the_next_is_the_earliest_that_nobody_has_had() {
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
            case("after a pause", None, 1000, Ok(940)),
            case("after the last one", Some(950), 1000, Ok(951)),
            case("the last one was long ago", Some(10), 1000, Ok(940)),
            case("the present one", Some(999), 1000, Ok(1000)),
            case("the present one is taken", Some(1000), 1000, Err(all_taken(60))),
            Case { first: 990, ..case("not before the first", None, 1000, Ok(990)) },
            Case {
                first: 1001,
                ..case("in the second of the start", None, 1000, Err(all_taken(60)))
            },
            Case { spare: 0, ..case("no window", None, 1000, Ok(1000)) },
            Case { spare: 0, ..case("no window, taken", Some(1000), 1000, Err(all_taken(0))) },
            case("a little back, and some are left", Some(950), 980, Ok(951)),
            case("a little back, and all are taken", Some(1000), 980, Err(all_taken_for(60, 21))),
            case("as far back as can be", None, 940, Ok(940)),
            case("farther back", None, 939, Err(set_back(61))),
            case("farther back than the last one", Some(1000), 900, Err(set_back(100))),
            Case { latest: 10, ..case("soon after 1970", None, 10, Ok(0)) },
        ] {
            assert_eq!(next(last, first, latest, spare, now), want, "{name}");
        }
    }

    #[test]
    fn after_a_pause_a_minute_of_them_is_there_and_then_one_a_second() {
        let seconds = TimeSlots::after(at(0));
        let burst =
            |now| (0..1000).map_while(|_| take(&seconds, "A", now).ok()).collect::<Vec<_>>();
        // What the process before this one may have taken is not there.
        assert_eq!(take(&seconds, "A", 0), Err(all_taken(60)));
        assert_eq!(burst(1), [1]);
        assert_eq!(burst(30), Vec::from_iter(2..=30));
        assert_eq!(burst(31), [31]);
        assert_eq!(burst(31), [0; 0]);
        assert_eq!(burst(1000), Vec::from_iter(940..=1000));
        assert_eq!(take(&seconds, "A", 1000), Err(all_taken(60)));
        // Everybody has their own, and so has everything.
        assert_eq!(take(&seconds, "B", 1000), Ok(940));
        let other =
            seconds.take(&pair("A").0, &Applid::new("CICS").unwrap(), DEFAULT_WINDOW, at(1000));
        assert_eq!(other, Ok(at(940)));
    }

    #[test]
    fn a_narrow_window_spares_less() {
        for (window, spare) in
            [(0, 0), (3, 0), (4, 1), (60, 15), (240, 60), (600, 60), (86_400, 60)]
        {
            let seconds = TimeSlots::after(at(0));
            let (user, applid) = pair("A");
            let window = Duration::from_secs(window);
            let got = seconds.take(&user, &applid, window, at(1000));
            assert_eq!(got, Ok(at(1000 - spare)), "{window:?}");
        }
    }

    #[test]
    fn a_clock_that_is_set_back_makes_no_second_new() {
        let seconds = TimeSlots::after(at(0));
        let taken: Vec<_> = (0..10).map(|_| take(&seconds, "A", 1000).unwrap()).collect();
        assert_eq!(taken, Vec::from_iter(940..950));
        // What was taken is forgotten, and what has been is not.
        assert_eq!(take(&seconds, "B", 2000), Ok(1940));
        assert_eq!(take(&seconds, "A", 1000), Err(set_back(1000)));
        assert_eq!(take(&seconds, "A", 1939), Err(set_back(61)));
        assert_eq!(take(&seconds, "A", 1940), Ok(1940));
        // Before the start.
        let seconds = TimeSlots::after(at(500));
        assert_eq!(take(&seconds, "A", 400), Err(set_back(100)));
        assert_eq!(take(&seconds, "A", 500), Err(all_taken(60)));
        assert_eq!(take(&seconds, "A", 501), Ok(501));
    }

    #[test]
    fn nobody_is_forgotten_for_another() {
        let seconds = TimeSlots::remembering(2, at(0));
        let full = Err(NoTimeSlot::TooManyPairs { pairs: 2 });
        for user in ["A", "B"] {
            assert_eq!(take(&seconds, user, 1), Ok(1));
        }
        assert_eq!(take(&seconds, "C", 1), full);
        assert_eq!(take(&seconds, "A", 2), Ok(2));
        // START is no multiple of the minute: the next generation begins somewhere before 61.
        assert_eq!(take(&seconds, "C", 61), Ok(1));
        assert_eq!(take(&seconds, "A", 61), Ok(3));
        assert_eq!(take(&seconds, "B", 61), full);
        assert_eq!(take(&seconds, "B", 121), Ok(61));
        let book = seconds.book.lock().unwrap();
        assert!(book.young.len() <= 2 && book.old.len() <= 2);
    }

    #[test]
    fn threads_never_take_the_same_one() {
        let seconds = TimeSlots::after(at(0));
        let taken = thread::scope(|scope| {
            let taking =
                || (0..100).filter_map(|_| take(&seconds, "A", 1000).ok()).collect::<Vec<_>>();
            let threads = [(); 4].map(|()| scope.spawn(taking));
            threads.map(|thread| thread.join().unwrap())
        });
        let mut taken: Vec<u64> = taken.concat();
        taken.sort_unstable();
        assert_eq!(taken, Vec::from_iter(940..=1000));
    }

    #[test]
    fn the_operator_learns_what_the_limit_is_and_what_to_write() {
        for (error, parts) in [
            (all_taken(60), &["one each second", "the last 60 s", "replayProtection: false"][..]),
            (set_back(90), &["set back by 90 s", "restart"]),
            (NoTimeSlot::TooManyPairs { pairs: 7 }, &["more than 7 pairs"]),
        ] {
            let text = error.to_string();
            assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        }
        assert!(format!("{:?}", TimeSlots::after(at(0))).starts_with("TimeSlots"));
    }

    /// How the clock goes on: mostly by little, now and then far, and backwards.
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
        fn no_second_is_given_out_twice_and_none_is_of_the_future(
            calls in prop::collection::vec((0..6_usize, step(), 0..700_u64), 1..400),
            pairs in 1..8_usize,
        ) {
            let names = ["A", "B", "C", "D", "E", "F"];
            let seconds = TimeSlots::remembering(pairs, at(0));
            let (mut now, mut latest) = (START, START);
            let mut taken = HashSet::new();
            for (name, step, window) in calls {
                now = now.saturating_add_signed(step);
                latest = latest.max(now);
                let (user, applid) = pair(names[name]);
                let window = Duration::from_secs(window);
                let got = seconds.take(&user, &applid, window, Timestamp::from_secs(now));
                let Ok(second) = got else {
                    continue;
                };
                let second = second.as_secs();
                prop_assert!(second > START && second <= now, "{second} at {now}");
                prop_assert!(now - second <= window.as_secs() / 4, "{second} at {now}, {window:?}");
                prop_assert!(latest - second <= SPARE_SECS);
                prop_assert!(taken.insert((name, second)), "{second} twice");
            }
            let book = seconds.book.lock().unwrap();
            prop_assert!(book.young.len() <= pairs && book.old.len() <= pairs);
        }

        /// While the clock does not go backwards, nobody is refused who has been quiet.
        #[test]
        fn who_asks_less_than_once_a_second_is_never_refused(
            steps in prop::collection::vec((1..200_u64, 0..3_u64), 1..100),
        ) {
            let seconds = TimeSlots::after(at(0));
            let mut now = 0;
            for (step, others) in steps {
                now += step;
                for _ in 0..others {
                    let _ = take(&seconds, "OTHER", now);
                }
                prop_assert!(take(&seconds, "A", now).is_ok());
            }
        }
    }
}
