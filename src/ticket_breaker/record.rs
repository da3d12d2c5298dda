//! The records that the [breaker](super) of PassTickets keeps for each user and for each key.

use std::time::Duration;

use super::{path_class::PathClass, pause::pause, skew::SkewVerdict};
use crate::{
    clock::Timestamp,
    passticket::{Applid, UserId},
};

/// A reserved ticket, to which there is no answer yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flight {
    pub(super) id: u64,
    pub(super) user: UserId,
    pub(super) since: Timestamp,
    pub(super) class: PathClass,
}

impl Flight {
    pub(super) fn is_awaited(&self, now: Timestamp, within: Duration) -> bool {
        // If the clock was set back, `since` may lie far in the future. The second condition then ends the wait.
        now < self.since.plus(within) && self.since <= now.plus(within)
    }
}

/// The tickets of one user for one APPLID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Personal {
    pub(super) applid: Applid,
    /// The number of refusals since the last success on one of the paths in `classes`.
    pub(super) refused: u8,
    /// The paths of these refusals.
    pub(super) classes: Vec<PathClass>,
    /// The time of the last refusal.
    pub(super) last: Timestamp,
    /// The time at which one ticket may be tried.
    pub(super) next: Timestamp,
    /// How many times the first pause is doubled after the next refusal.
    pub(super) tries: u8,
    /// The number of tickets in a row whose answers the gateway has not seen.
    pub(super) unknown: u8,
    /// Whether tickets of the user are permitted although `refused` is not 0. This becomes true when the service
    /// accepts a reserved ticket on other paths than those in `classes`. It becomes false with the next refusal.
    pub(super) is_open: bool,
    /// Whether a ticket was accepted since the last refusal, on paths other than those of the refusals.
    pub(super) good_since: bool,
    /// Whether the other nodes know this record.
    pub(super) is_shared: bool,
    pub(super) flights: Vec<Flight>,
}

impl Personal {
    pub(super) const fn new(applid: Applid) -> Self {
        Self {
            applid,
            refused: 0,
            classes: Vec::new(),
            last: Timestamp::from_secs(0),
            next: Timestamp::from_secs(0),
            tries: 0,
            unknown: 0,
            is_open: false,
            good_since: false,
            is_shared: false,
            flights: Vec::new(),
        }
    }

    /// Forgets everything except the tickets whose answers are awaited.
    pub(super) fn reset(&mut self) {
        let flights = std::mem::take(&mut self.flights);
        *self = Self { flights, ..Self::new(self.applid) };
    }

    pub(super) fn is_clean(&self) -> bool {
        self.refused == 0 && self.unknown == 0 && self.flights.is_empty()
    }
}

/// A stop of the tickets of all users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stop {
    /// The paths that are stopped. `None` means all paths.
    pub(super) class: Option<PathClass>,
    pub(super) next: Timestamp,
    pub(super) tries: u8,
}

impl Stop {
    /// Begins the next pause. The first pause is `first`, and each further pause is twice as long as the last one, but
    /// at most `longest`.
    pub(super) fn extend(&mut self, now: Timestamp, first: Duration, longest: Duration) {
        self.next = now.plus(pause(first, longest, self.tries));
        self.tries = self.tries.saturating_add(1);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClockStop {
    pub(super) next: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Skew {
    /// The clock of the service minus the clock of this machine.
    pub(super) secs: i64,
    pub(super) verdict: SkewVerdict,
}

/// The record of the tickets that one key makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scope {
    pub(super) applid: Applid,
    /// The time of the last accepted ticket.
    pub(super) good: Option<Timestamp>,
    /// The different users who were refused since the last accepted ticket, at most three.
    pub(super) streak: Vec<UserId>,
    /// The refused users and the paths of their refusals. An accepted ticket removes all entries with its paths.
    pub(super) recent: Vec<(UserId, PathClass)>,
    /// The paths on which a ticket was refused, and whether a later ticket was accepted on the same paths.
    pub(super) refused: Vec<(PathClass, bool)>,
    pub(super) stops: Vec<Stop>,
    pub(super) clock_stop: Option<ClockStop>,
    pub(super) skew: Option<Skew>,
    pub(super) is_warned: bool,
    pub(super) flights: Vec<Flight>,
}

impl Scope {
    pub(super) const fn new(applid: Applid) -> Self {
        Self {
            applid,
            good: None,
            streak: Vec::new(),
            recent: Vec::new(),
            refused: Vec::new(),
            stops: Vec::new(),
            clock_stop: None,
            skew: None,
            is_warned: false,
            flights: Vec::new(),
        }
    }

    /// Creates the record of a key whose tickets are stopped until a service accepts one. Tickets are tried one at a
    /// time, and the first one without a pause.
    pub(super) fn doubted(applid: Applid, now: Timestamp) -> Self {
        let stop = Stop { class: None, next: now, tries: 0 };
        Self { stops: vec![stop], ..Self::new(applid) }
    }

    /// Forgets the refusals of a user. A stop that these refusals helped to cause ends, unless refusals of at least
    /// `users` other users remain as its cause. Returns whether a stop has ended.
    pub(super) fn forget(&mut self, user: &UserId, users: usize) -> bool {
        let was_in_streak = self.streak.contains(user);
        let paths: Vec<_> = self.recent.iter().filter(|it| it.0 == *user).map(|it| it.1).collect();
        self.streak.retain(|it| it != user);
        self.recent.retain(|(it, _)| it != user);
        let (streak, recent, before) = (self.streak.len(), &self.recent, self.stops.len());
        self.stops.retain(|stop| match stop.class {
            None => !was_in_streak || streak >= users,
            Some(class) => {
                let left = recent.iter().filter(|(_, it)| *it == class).count();
                !paths.contains(&class) || left >= users
            }
        });
        self.stops.len() < before
    }

    /// Returns the classes of paths on which an accepted ticket resets a count of refused users. The result has one bit
    /// for each class ([`PathClass::bit`]).
    pub(super) fn awaited(&self) -> u64 {
        match self.streak.is_empty() {
            true => self.recent.iter().fold(0, |bits, (_, class)| bits | class.bit()),
            // A success on any paths clears `streak`.
            false => u64::MAX,
        }
    }

    /// Returns whether a ticket was accepted recently, and none was refused since.
    pub(super) fn is_proven(&self, now: Timestamp, within: Duration) -> bool {
        self.streak.is_empty()
            && self.good.is_some_and(|good| now < good.plus(within) && good <= now)
    }

    pub(super) fn forget_overdue(&mut self, now: Timestamp, within: Duration) {
        self.flights.retain(|flight| flight.is_awaited(now, within));
    }
}
