//! The used time slots: the seconds for which a process has made PassTickets. A process sends them as text to the
//! process that continues its work.

use std::{fmt, str::FromStr};

use super::{Applid, UserId};

/// The maximum number of pairs of user and APPLID in each of the two maps `current` and `previous`. With this number,
/// both maps together need about nine megabytes.
pub(super) const PAIRS: usize = 100_000;

pub(super) type Pair = (UserId, Applid);

const VERSION: &str = "1";

/// The time slots that a process has used, as
/// [`LocalGenerator::hand_over_time_slots`](super::LocalGenerator::hand_over_time_slots) returns them.
///
/// The text of `Display` and `FromStr` contains user ids and APPLIDs, but no tickets and no keys.
#[derive(Clone, PartialEq, Eq)]
pub struct UsedTimeSlots {
    pub(super) first: u64,
    pub(super) latest: u64,
    /// The APPLIDs whose profiles all have replay protection. For other APPLIDs, the process may have made tickets
    /// without time slots.
    pub(super) protected: Vec<Applid>,
    pub(super) current: Vec<(Pair, u64)>,
    pub(super) previous: Vec<(Pair, u64)>,
}

/// The error for a text that is not the text of [`UsedTimeSlots`], or that a newer version of this crate has written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the used time slots are malformed, or have the format of a newer version of this program")]
pub struct UsedTimeSlotsError;

impl fmt::Display for UsedTimeSlots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, latest, protected, current, previous } = self;
        writeln!(f, "{VERSION} {first} {latest}")?;
        for applid in protected {
            writeln!(f, "a {applid}")?;
        }
        for (generation, slots) in [("c", current), ("p", previous)] {
            for ((user, applid), slot) in slots {
                writeln!(f, "{generation} {user} {applid} {slot}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for UsedTimeSlots {
    type Err = UsedTimeSlotsError;

    fn from_str(text: &str) -> Result<Self, UsedTimeSlotsError> {
        parse(text).ok_or(UsedTimeSlotsError)
    }
}

fn parse(text: &str) -> Option<UsedTimeSlots> {
    let mut lines = text.lines();
    let mut head = lines.next()?.split(' ');
    let (version, first, latest) = (head.next()?, head.next()?, head.next()?);
    if version != VERSION || head.next().is_some() {
        return None;
    }
    let (first, latest) = (first.parse().ok()?, latest.parse().ok()?);
    let mut used = UsedTimeSlots {
        first,
        latest,
        protected: Vec::new(),
        current: Vec::new(),
        previous: Vec::new(),
    };
    for line in lines {
        if let Some(applid) = line.strip_prefix("a ") {
            used.protected.push(Applid::new(applid).ok()?);
            continue;
        }
        let mut words = line.split(' ');
        let slots = match words.next()? {
            "c" => &mut used.current,
            "p" => &mut used.previous,
            _ => return None,
        };
        let pair = (UserId::new(words.next()?).ok()?, Applid::new(words.next()?).ok()?);
        let slot = words.next()?.parse().ok()?;
        if words.next().is_some() || slots.len() == PAIRS {
            return None;
        }
        slots.push((pair, slot));
    }
    Some(used)
}

impl fmt::Debug for UsedTimeSlots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs = self.current.len() + self.previous.len();
        f.debug_struct("UsedTimeSlots").field("pairs", &pairs).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_read_back_and_other_texts_are_errors() {
        let text = "1 10 20\na IZUDFLT\nc USER IZUDFLT 19\np $A CICS#1 12\n";
        let used: UsedTimeSlots = text.parse().unwrap();
        assert_eq!(
            (used.first, used.latest, used.current.len(), used.previous.len()),
            (10, 20, 1, 1)
        );
        assert_eq!(used.to_string(), text);
        for wrong in [
            "",
            "2 10 20\n",
            "1 10\n",
            "1 10 20 30\n",
            "1 10 x\n",
            "1 10 20\na TOOLONGAPPLID\n",
            "1 10 20\nd USER IZUDFLT 19\n",
            "1 10 20\nc USERISTOOLONG IZUDFLT 19\n",
            "1 10 20\nc USER IZUDFLT\n",
            "1 10 20\nc USER IZUDFLT -1\n",
            "1 10 20\nc USER IZUDFLT 19 x\n",
        ] {
            assert_eq!(wrong.parse::<UsedTimeSlots>(), Err(UsedTimeSlotsError), "{wrong:?}");
        }
    }
}
