//! The decisions of the [breaker](super), without I/O and without locks: which PassTicket may be sent, and what an
//! answer changes.
//!
//! Paths are *proven* for a user if a service has recently accepted a ticket of this user on paths of the same class.
//! Each function gets the time as an argument.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{
    path_class::PathClass,
    pause::pause,
    record::{ClockStop, Flight, Personal, Scope, Skew, Stop},
    skew::SkewVerdict,
};
use crate::{
    clock::Timestamp,
    passticket::{Applid, UserId},
};

/// After this number of refusals, a user gets no ticket any more, except on proven paths. Even after a pause, no ticket
/// is tried. Only an administrator, a new key or a success ends this stop. The refusals of the user for all APPLIDs are
/// added up. But while the key of an APPLID is proven, only the refusals for this APPLID count for its tickets. The
/// security product counts the refusals of all APPLIDs together, and many sites revoke the user at the third refusal
/// (STIG V-223695).
pub(super) const BUDGET: u8 = 2;

/// The number of different users whose refusals stop the tickets of a key for all users.
pub(super) const USERS: usize = 3;

/// The maximum number of pairs of user and APPLID with refused tickets, or with tickets whose answer is awaited or was
/// lost. When this number is reached, further pairs get no ticket, except on [proven](Ask::is_proven) paths.
pub(super) const MAX_PAIRS: usize = 10_000;

/// The maximum number of path classes that the record of a user or of a key keeps.
pub(super) const MAX_CLASSES: usize = 32;

/// A ticket without an answer counts like a refusal for this time after it was sent. It counts when the breaker decides
/// about other tickets of the same user and APPLID. Most services refuse a ticket within this time.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// If the key is wrong, a service may refuse a ticket up to this long after the ticket was sent. So while the key is
/// not proven, a missing answer counts like a refusal for this time, and the sum is compared with [`BUDGET`].
const LAST_ANSWER_WITHIN: Duration = Duration::from_secs(10 * 60);

/// While the key is not proven, at most [`USERS`] users may have tickets without an answer. A ticket counts for this
/// limit only for this time. The time is shorter than [`ANSWER_WITHIN`], so that users with slow requests cannot block
/// others for long.
const APPLID_ANSWER_WITHIN: Duration = Duration::from_secs(4);

/// A success proves the key. The proof ends after this time. It ends earlier if a service refuses a ticket of the key.
const PROVEN_FOR: Duration = Duration::from_secs(10 * 60);

/// The pause after the first refusal. Each further refusal doubles it, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(60 * 60);

/// The pause after two tickets in a row whose answers the gateway has not seen. Each further such ticket doubles the
/// pause.
const FIRST_UNKNOWN_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_UNKNOWN_PAUSE: Duration = Duration::from_secs(10 * 60);

/// While the clocks differ too much, one ticket is tried in each period of this length.
const CLOCK_PAUSE: Duration = Duration::from_secs(60);

/// The list of the refusals of all nodes may lack the refusals of the last few seconds, up to this time.
const LIST_DELAY: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub(super) struct Ask<'a> {
    pub(super) user: UserId,
    pub(super) applid: Applid,
    /// The name of the key profile that makes the ticket, such as `IZUDFLT` or `IZUDFLT.PAYROLL`.
    pub(super) key: &'a Arc<str>,
    pub(super) class: PathClass,
    /// The number of refusals that stop the tickets of the user.
    pub(super) limit: u8,
    /// Whether a ticket of this user was accepted recently for a path of this class.
    pub(super) is_proven: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// The ticket may be sent. The caller must report the answer with this number.
    Send(u64),
    /// The ticket may be sent, because its paths are proven. This ticket has no number.
    SendProven,
    /// Ask again when another answer has arrived.
    Wait(WaitFor),
    Stopped(Stopped),
}

/// The answers that a ticket waits for. `User`: the answers to other tickets of the same user. `Applid`: the answers to
/// tickets of other users for the same APPLID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WaitFor {
    User,
    Applid,
}

/// Why no ticket is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stopped {
    pub(super) why: Why,
    /// The time at which one ticket may be tried. `None` if the stop does not end after a pause. Then, for example, an
    /// administrator or another key can end it.
    pub(super) until: Option<Timestamp>,
}

/// Which tickets are stopped, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Why {
    /// The tickets of this user for this APPLID.
    User,
    /// The tickets of all users for this APPLID.
    Applid,
    /// The tickets of all users for this APPLID, because this process does not know which tickets the last process had
    /// stopped.
    Doubt,
    /// The tickets of all users for one class of paths.
    Paths,
    /// The tickets for this APPLID, because the clocks differ.
    Clock,
    /// Too many pairs of user and APPLID have refused tickets, or tickets whose answers are awaited or were lost.
    Full,
    /// Too many tickets of this user in a row had no answer.
    NoAnswers,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The service answered as if it had accepted the ticket.
    Accepted,
    Refused,
    /// Another node reports that a service refused a ticket some time ago. Since then, the key may have been corrected.
    RefusedEarlier,
    /// The ticket was sent, but the gateway has not seen the answer.
    Unknown,
    NotSent,
}

/// A change of the stopped tickets, for the log and the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    UserStopped {
        user: UserId,
        applid: Applid,
        refused: u8,
    },
    /// The tickets of this key are stopped for all users: on all paths if `whole` is true, otherwise on one class of
    /// paths.
    KeyStopped {
        key: Arc<str>,
        applid: Applid,
        user: UserId,
        whole: bool,
    },
    UserResumed {
        user: UserId,
        applid: Applid,
    },
    KeyResumed {
        key: Arc<str>,
        applid: Applid,
    },
    ClockStopped {
        key: Arc<str>,
        applid: Applid,
        secs: i64,
    },
    ClockWarning {
        key: Arc<str>,
        applid: Applid,
        secs: i64,
    },
    ClockAgrees {
        key: Arc<str>,
        applid: Applid,
    },
}

#[derive(Clone, Debug, Default)]
pub(super) struct Machine {
    users: HashMap<UserId, Vec<Personal>>,
    keys: HashMap<Arc<str>, Scope>,
    /// If this is true, each new record of a key begins with a stop. This stop ends when a service accepts a ticket of
    /// the key.
    doubts_new_keys: bool,
    pairs: usize,
    next_id: u64,
}

impl Machine {
    /// Decides about a ticket. [`Decision::Send`] reserves the ticket until its answer is reported with
    /// [`settle`](Self::settle), or is overdue. If all reserved tickets of a user were refused, the user could reach
    /// the limit. While this is so, the user's other tickets for this APPLID wait.
    pub(super) fn ask(&mut self, ask: &Ask<'_>, now: Timestamp) -> Decision {
        let (user, applid) = (ask.user, ask.applid);
        let scope = scope_of(&mut self.keys, ask, self.doubts_new_keys, now);
        scope.forget_overdue(now, APPLID_ANSWER_WITHIN);
        let mut is_probe = false;
        if let Some(clock) = &scope.clock_stop {
            if now < clock.next {
                return stop(Why::Clock, Some(clock.next));
            }
            is_probe = true;
        }
        for stop_of in &mut scope.stops {
            if stop_of.class.is_some_and(|class| class != ask.class) {
                continue;
            }
            let why = why_of(stop_of);
            // The clock may have been set back since the stop. So the rest of the pause is cut to `LONGEST_PAUSE`.
            stop_of.next = stop_of.next.min(now.plus(LONGEST_PAUSE));
            if now < stop_of.next {
                return stop(why, Some(stop_of.next));
            }
            // One ticket is tried at a time. Until the answer to this ticket is known or overdue, all other tickets are
            // refused.
            if let Some(flight) = scope.flights.first() {
                return stop(why, Some(flight.since.plus(APPLID_ANSWER_WITHIN)));
            }
            is_probe = true;
        }
        let is_key_proven = scope.is_proven(now, PROVEN_FOR) && scope.stops.is_empty();
        let free = USERS.saturating_sub(scope.streak.len()).max(1);
        let others = scope.flights.iter().filter(|flight| flight.user != user).count();
        let full = others >= free;
        let is_checked = |classes: &[PathClass]| {
            scope.refused.iter().any(|(class, good)| classes.contains(class) && *good)
        };

        let records = self.users.entry(user).or_default();
        if !records.iter().any(|it| it.applid == applid) {
            if !ask.is_proven && self.pairs >= MAX_PAIRS {
                if records.is_empty() {
                    self.users.remove(&user);
                }
                return stop(Why::Full, None);
            }
            self.pairs += 1;
            records.push(Personal::new(applid));
        }
        let spent: u8 = records.iter().map(|it| it.refused).fold(0, u8::saturating_add);
        let own = records.iter_mut().find(|it| it.applid == applid).expect("added above");
        own.flights.retain(|flight| flight.is_awaited(now, LAST_ANSWER_WITHIN));
        own.next = own.next.min(now.plus(LONGEST_PAUSE));
        // Two successes together show that the key is right. For one of them, a service has accepted a ticket of any
        // user on the paths of the refusals. For the other, a service has accepted a ticket of this user on other
        // paths. After both, the refusals of this user are forgotten.
        if own.refused > 0 && own.good_since && is_checked(&own.classes) {
            own.refused = 0;
            own.classes.clear();
            own.tries = 0;
        }
        let decision = if is_probe {
            match own.refused >= BUDGET {
                true => stop(Why::User, None),
                false if own.refused > 0 && now < own.next => stop(Why::User, Some(own.next)),
                false if full || !own.flights.is_empty() => Decision::Wait(WaitFor::User),
                false => Decision::Send(0),
            }
        } else if ask.is_proven {
            Decision::SendProven
        } else if own.refused >= BUDGET || spent >= BUDGET && !is_key_proven {
            stop(Why::User, None)
        } else if own.refused >= ask.limit && !own.is_open {
            match () {
                () if now < own.next => stop(Why::User, Some(own.next)),
                () if !own.flights.is_empty() => Decision::Wait(WaitFor::User),
                () if full && !is_key_proven => Decision::Wait(WaitFor::Applid),
                () => Decision::Send(0),
            }
        } else if own.unknown > 1 && !is_key_proven && now < own.next {
            stop(Why::NoAnswers, Some(own.next))
        } else {
            let left = ask.limit.min(BUDGET).saturating_sub(spent).max(1);
            let awaited = own.flights.iter().filter(|it| it.is_awaited(now, ANSWER_WITHIN)).count();
            // If the key is wrong, the service may still refuse the tickets whose answers are overdue. So these tickets
            // count as refusals, too.
            let most = usize::from(BUDGET.saturating_sub(spent).max(1));
            let is_exhausted = !is_key_proven && own.flights.len() >= most;
            if awaited >= usize::from(left) || is_exhausted {
                Decision::Wait(WaitFor::User)
            } else if full && !is_key_proven {
                Decision::Wait(WaitFor::Applid)
            } else {
                Decision::Send(0)
            }
        };
        if let Decision::Send(_) = decision {
            self.next_id += 1;
            let flight = Flight { id: self.next_id, user, since: now, class: ask.class };
            own.flights.push(flight);
            scope.flights.push(flight);
            if let Some(clock) = &mut scope.clock_stop {
                clock.next = now.plus(CLOCK_PAUSE);
            }
            return Decision::Send(self.next_id);
        }
        self.drop_if_clean(&user);
        decision
    }

    /// Decides about a ticket whose use the gateway does not see, such as a ticket that a client requests from the auth
    /// API. Returns `None` if the ticket may be made. Reserves nothing.
    pub(super) fn check(&self, ask: &Ask<'_>, now: Timestamp) -> Option<Stopped> {
        if let Some(scope) = self.keys.get(ask.key) {
            if let Some(clock) = &scope.clock_stop {
                return Some(Stopped { why: Why::Clock, until: Some(clock.next) });
            }
            if let Some(whole) = scope.stops.iter().find(|it| it.class.is_none()) {
                return Some(Stopped { why: why_of(whole), until: Some(whole.next.max(now)) });
            }
        }
        let records = self.users.get(&ask.user)?;
        let spent: u8 = records.iter().map(|it| it.refused).fold(0, u8::saturating_add);
        let own = records.iter().find(|it| it.applid == ask.applid);
        let is_stopped = own.is_some_and(|own| own.refused >= ask.limit && !own.is_open);
        (is_stopped || spent >= BUDGET).then(|| {
            let until = own.filter(|own| own.refused < BUDGET).map(|own| own.next.max(now));
            Stopped { why: Why::User, until }
        })
    }

    /// Stops the tickets of each key until a service accepts one ticket of this key. This function is for a process
    /// that does not know which tickets the last process had stopped.
    pub(super) fn doubt_all_keys(&mut self) {
        self.doubts_new_keys = true;
    }

    /// Applies the answer to a ticket. `id` is the number in [`Decision::Send`]. It is `None` if the paths of the
    /// ticket were proven, or if another node has sent the ticket.
    pub(super) fn settle(
        &mut self,
        ask: &Ask<'_>,
        id: Option<u64>,
        outcome: Outcome,
        now: Timestamp,
    ) -> Vec<Change> {
        let (user, applid, class) = (ask.user, ask.applid, ask.class);
        let mut changes = Vec::new();
        let scope = scope_of(&mut self.keys, ask, self.doubts_new_keys, now);
        let records = self.users.entry(user).or_default();
        if !records.iter().any(|it| it.applid == applid) {
            self.pairs += 1;
            records.push(Personal::new(applid));
        }
        let own = records.iter_mut().find(|it| it.applid == applid).expect("added above");
        if let Some(id) = id {
            own.flights.retain(|flight| flight.id != id);
            scope.flights.retain(|flight| flight.id != id);
        }
        let is_key_proven = scope.is_proven(now, PROVEN_FOR);
        match outcome {
            Outcome::Accepted => {
                own.unknown = 0;
                if own.refused > 0 {
                    if own.classes.contains(&class) {
                        own.reset();
                        changes.push(Change::UserResumed { user, applid });
                    } else {
                        own.good_since = true;
                        // The refusals were on other paths than this success. So tickets of the user are permitted
                        // again, one at a time.
                        if !own.is_open && own.refused < BUDGET && id.is_some() {
                            own.is_open = true;
                            changes.push(Change::UserResumed { user, applid });
                        }
                    }
                }
                scope.good = Some(now);
                scope.streak.clear();
                scope.recent.retain(|(_, it)| *it != class);
                if let Some((_, good)) = scope.refused.iter_mut().find(|(it, _)| *it == class) {
                    *good = true;
                }
                let before = scope.stops.len();
                // A ticket without `id` may have been sent before the stop. Its success ends stops only if tickets on
                // the same paths were refused before.
                if id.is_some() || scope.refused.iter().any(|(it, _)| *it == class) {
                    scope.stops.retain(|it| it.class.is_some_and(|it| it != class));
                }
                if scope.stops.len() < before {
                    changes.push(Change::KeyResumed { key: ask.key.clone(), applid });
                }
            }
            Outcome::Refused | Outcome::RefusedEarlier => {
                own.refused = own.refused.saturating_add(1);
                own.is_open = false;
                own.good_since = false;
                own.last = now;
                own.next = now.plus(pause(FIRST_PAUSE, LONGEST_PAUSE, own.tries));
                own.tries = own.tries.saturating_add(1);
                push_limited(&mut own.classes, class);
                if own.refused >= ask.limit {
                    let refused = own.refused;
                    changes.push(Change::UserStopped { user, applid, refused });
                }
                if outcome == Outcome::RefusedEarlier {
                    return changes;
                }
                push_limited(&mut scope.recent, (user, class));
                if !scope.streak.contains(&user) && scope.streak.len() < USERS {
                    scope.streak.push(user);
                }
                match scope.refused.iter_mut().find(|(it, _)| *it == class) {
                    Some((_, good)) => *good = false,
                    None => push_limited(&mut scope.refused, (class, false)),
                }
                let same = scope.recent.iter().filter(|(_, it)| *it == class).count();
                let of = match () {
                    () if scope.streak.len() >= USERS => Some(None),
                    () if same >= USERS => Some(Some(class)),
                    () => None,
                };
                if let Some(of) = of {
                    let position = scope.stops.iter().position(|it| it.class == of);
                    let at = position.unwrap_or_else(|| {
                        push_limited(&mut scope.stops, Stop { class: of, next: now, tries: 0 });
                        scope.stops.len() - 1
                    });
                    let stop = &mut scope.stops[at];
                    if stop.tries == 0 {
                        let (key, whole) = (ask.key.clone(), of.is_none());
                        changes.push(Change::KeyStopped { key, applid, user, whole });
                    }
                    stop.extend(now, FIRST_PAUSE, LONGEST_PAUSE);
                }
            }
            Outcome::Unknown => {
                if own.refused > 0 {
                    own.next = own.next.max(now.plus(pause(FIRST_PAUSE, LONGEST_PAUSE, own.tries)));
                } else if !is_key_proven {
                    own.unknown = own.unknown.saturating_add(1);
                    if let Some(doubled) = own.unknown.checked_sub(2) {
                        let longest = LONGEST_UNKNOWN_PAUSE;
                        own.next = now.plus(pause(FIRST_UNKNOWN_PAUSE, longest, doubled));
                    }
                }
                for stop in &mut scope.stops {
                    if now >= stop.next && stop.class.is_none_or(|it| it == class) {
                        stop.next = now.plus(FIRST_PAUSE);
                    }
                }
            }
            Outcome::NotSent => {}
        }
        self.drop_if_clean(&user);
        changes
    }

    /// Returns whether a key of an APPLID is stopped: on all paths, on some paths, or because of the clocks.
    pub(super) fn is_stopped(&self, applid: &Applid) -> bool {
        let mut scopes = self.keys.values().filter(|scope| scope.applid == *applid);
        scopes.any(|scope| !scope.stops.is_empty() || scope.clock_stop.is_some())
    }

    /// Returns the classes of paths on which a success resets a count of refused users, as the bits of
    /// [`PathClass::bit`].
    pub(super) fn awaited(&self, applid: &Applid) -> u64 {
        let scopes = self.keys.values().filter(|scope| scope.applid == *applid);
        scopes.fold(0, |bits, scope| bits | scope.awaited())
    }

    /// Applies a comparison of the clock of a service with the clock of this machine.
    pub(super) fn compare(
        &mut self,
        key: &Arc<str>,
        applid: Applid,
        secs: i64,
        verdict: SkewVerdict,
        now: Timestamp,
    ) -> Option<Change> {
        let scope = self.keys.entry(key.clone()).or_insert_with(|| Scope::new(applid));
        let before = scope.skew.map(|it| it.verdict);
        // One answer may be late, or may come from a cache. So a second answer must confirm the difference.
        let is_confirmed = before == Some(verdict);
        scope.skew = Some(Skew { secs, verdict });
        let key = key.clone();
        match verdict {
            SkewVerdict::Agree => {
                let was_stopped = scope.clock_stop.take().is_some();
                let was_warned = std::mem::take(&mut scope.is_warned);
                (was_stopped || was_warned).then_some(Change::ClockAgrees { key, applid })
            }
            SkewVerdict::Warn => {
                let was_stopped = scope.clock_stop.take().is_some();
                let is_new = was_stopped || is_confirmed && !scope.is_warned;
                scope.is_warned |= is_new;
                is_new.then_some(Change::ClockWarning { key, applid, secs })
            }
            SkewVerdict::Stop => {
                let next = now.plus(CLOCK_PAUSE);
                match &mut scope.clock_stop {
                    Some(stop) => {
                        stop.next = next;
                        None
                    }
                    None if is_confirmed => {
                        scope.clock_stop = Some(ClockStop { next });
                        scope.is_warned = true;
                        Some(Change::ClockStopped { key, applid, secs })
                    }
                    None => None,
                }
            }
        }
    }

    /// Forgets the refusals of tickets for `applid` and `user`. `None` stands for all APPLIDs, or for all users. If
    /// `user` is `None`, also ends the stops of the keys.
    pub(super) fn resume(&mut self, applid: Option<Applid>, user: Option<UserId>) -> Vec<Change> {
        let mut changes = Vec::new();
        self.doubts_new_keys &= applid.is_some() || user.is_some();
        for (name, records) in &mut self.users {
            if user.is_some_and(|user| user != *name) {
                continue;
            }
            for own in records.iter_mut() {
                if applid.is_some_and(|applid| applid != own.applid) {
                    continue;
                }
                if own.refused > 0 {
                    changes.push(Change::UserResumed { user: *name, applid: own.applid });
                }
                own.reset();
            }
        }
        for (key, scope) in &mut self.keys {
            if applid.is_some_and(|applid| applid != scope.applid) {
                continue;
            }
            match user {
                Some(user) => {
                    scope.recent.retain(|(it, _)| *it != user);
                    scope.streak.retain(|it| *it != user);
                }
                None => {
                    if !scope.stops.is_empty() || scope.clock_stop.is_some() {
                        changes.push(Change::KeyResumed { key: key.clone(), applid: scope.applid });
                    }
                    *scope = Scope { flights: scope.flights.clone(), ..Scope::new(scope.applid) };
                }
            }
        }
        self.drop_clean();
        changes
    }

    /// Forgets the refusals of tickets that a changed key has made, and the stops of this key. `has_key` returns
    /// whether this key makes the tickets of a user.
    pub(super) fn key_changed(
        &mut self,
        key: &Arc<str>,
        applid: Applid,
        has_key: impl Fn(&UserId) -> bool,
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        if let Some(scope) = self.keys.remove(key)
            && (!scope.stops.is_empty() || scope.clock_stop.is_some())
        {
            changes.push(Change::KeyResumed { key: key.clone(), applid });
        }
        for (user, records) in &mut self.users {
            for own in records.iter_mut().filter(|own| own.applid == applid) {
                if has_key(user) && own.refused > 0 {
                    changes.push(Change::UserResumed { user: *user, applid });
                    own.reset();
                }
            }
        }
        self.drop_clean();
        changes
    }

    /// Applies the refusals of a user's tickets that other nodes have seen. `refused` is the number of these refusals,
    /// and `last` is the time of the last one.
    pub(super) fn learn(
        &mut self,
        ask: &Ask<'_>,
        refused: u8,
        last: Timestamp,
        now: Timestamp,
    ) -> Vec<Change> {
        let known = self.refused(&ask.user, &ask.applid);
        let mut changes = Vec::new();
        // A node that starts learns the refusals of all users at the same time. If old refusals counted for the key,
        // they could stop the tickets of all users.
        let outcome = match now < last.plus(FIRST_PAUSE) {
            true => Outcome::Refused,
            false => Outcome::RefusedEarlier,
        };
        for _ in known..refused.min(BUDGET) {
            changes.extend(self.settle(ask, None, outcome, now));
        }
        if let Some(own) = self.personal_mut(&ask.user, &ask.applid) {
            own.is_shared = true;
            own.last = own.last.max(last.min(now));
        }
        changes
    }

    /// Forgets the refusals of each user whose refusals the other nodes knew, but do not know any more.
    ///
    /// `is_known` returns whether the list of the other nodes contains refusals of a user. The list may be a few
    /// seconds old. So if the last refusal is newer than [`LIST_DELAY`], the refusals of the user stay.
    pub(super) fn keep_shared(
        &mut self,
        is_known: impl Fn(&UserId, &Applid) -> bool,
        now: Timestamp,
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        for (user, records) in &mut self.users {
            for own in records.iter_mut() {
                let applid = own.applid;
                let is_recent = now < own.last.plus(LIST_DELAY);
                if own.is_shared && own.refused > 0 && !is_recent && !is_known(user, &applid) {
                    changes.push(Change::UserResumed { user: *user, applid });
                    own.reset();
                    for (key, scope) in self.keys.iter_mut().filter(|it| it.1.applid == applid) {
                        if scope.forget(user, USERS) {
                            changes.push(Change::KeyResumed { key: key.clone(), applid });
                        }
                    }
                }
            }
        }
        self.drop_clean();
        changes
    }

    /// Records that the refusals of this user and APPLID were reported to the other nodes.
    pub(super) fn set_shared(&mut self, user: &UserId, applid: &Applid) {
        if let Some(own) = self.personal_mut(user, applid) {
            own.is_shared = true;
        }
    }

    pub(super) fn refused(&self, user: &UserId, applid: &Applid) -> u8 {
        self.personal(user, applid).map_or(0, |own| own.refused)
    }

    /// Returns whether a ticket of this key was accepted recently, and none was refused since.
    pub(super) fn is_key_proven(&self, key: &Arc<str>, now: Timestamp) -> bool {
        self.keys.get(key).is_some_and(|scope| scope.is_proven(now, PROVEN_FOR))
    }

    /// Returns whether this node knows at least `refused` refusals, and knows that the other nodes have refusals of
    /// this user.
    pub(super) fn knows(&self, user: &UserId, applid: &Applid, refused: u8) -> bool {
        self.personal(user, applid).is_some_and(|own| own.is_shared && own.refused >= refused)
    }

    /// A user has one record for each APPLID.
    pub(super) fn users(&self) -> impl Iterator<Item = (&UserId, &Personal)> {
        self.users.iter().flat_map(|(user, records)| records.iter().map(move |own| (user, own)))
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = (&Arc<str>, &Scope)> {
        self.keys.iter()
    }

    /// Adds the record of a user from a saved state. Ignores the record if there are too many records.
    pub(super) fn restore_user(&mut self, user: UserId, own: Personal) {
        let records = self.users.entry(user).or_default();
        if self.pairs < MAX_PAIRS && !records.iter().any(|it| it.applid == own.applid) {
            self.pairs += 1;
            records.push(own);
        }
    }

    pub(super) fn restore_key(&mut self, key: Arc<str>, scope: Scope) {
        self.keys.insert(key, scope);
    }

    fn personal(&self, user: &UserId, applid: &Applid) -> Option<&Personal> {
        self.users.get(user)?.iter().find(|it| it.applid == *applid)
    }

    fn personal_mut(&mut self, user: &UserId, applid: &Applid) -> Option<&mut Personal> {
        self.users.get_mut(user)?.iter_mut().find(|it| it.applid == *applid)
    }

    fn drop_if_clean(&mut self, user: &UserId) {
        if let Some(records) = self.users.get_mut(user) {
            let before = records.len();
            records.retain(|own| !own.is_clean());
            self.pairs -= before - records.len();
            if records.is_empty() {
                self.users.remove(user);
            }
        }
    }

    fn drop_clean(&mut self) {
        let pairs = &mut self.pairs;
        self.users.retain(|_, records| {
            let before = records.len();
            records.retain(|own| !own.is_clean());
            *pairs -= before - records.len();
            !records.is_empty()
        });
    }
}

/// Returns the record of the key of a ticket. Adds a record if there is none. If `is_doubted`, the tickets of the new
/// record are stopped.
fn scope_of<'k>(
    keys: &'k mut HashMap<Arc<str>, Scope>,
    ask: &Ask<'_>,
    is_doubted: bool,
    now: Timestamp,
) -> &'k mut Scope {
    keys.entry(ask.key.clone()).or_insert_with(|| match is_doubted {
        true => Scope::doubted(ask.applid, now),
        false => Scope::new(ask.applid),
    })
}

const fn why_of(stop: &Stop) -> Why {
    match stop.class {
        Some(_) => Why::Paths,
        None if stop.tries == 0 => Why::Doubt,
        None => Why::Applid,
    }
}

const fn stop(why: Why, until: Option<Timestamp>) -> Decision {
    Decision::Stopped(Stopped { why, until })
}

/// Adds an item that is not there yet. Drops the oldest item if there are too many.
fn push_limited<T: PartialEq>(items: &mut Vec<T>, item: T) {
    if items.contains(&item) {
        return;
    }
    if items.len() >= MAX_CLASSES {
        items.remove(0);
    }
    items.push(item);
}
