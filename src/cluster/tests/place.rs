//! A simulated *place* (the store that the nodes share): a primary, and a replica whose data is older.

use std::{
    collections::{BTreeMap, VecDeque},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use crate::{
    cluster::coordinator::{
        CoordinatorError, Followed, ImageCursor, ImagePart, Incarnation, Joined, LeaseRecord,
        LogEntry, LogPosition, MAX_PUBLISHED, NodeName, Renewed, Term,
    },
    revocation::{Merge, Record},
};

/// The data of one server.
#[derive(Clone, Debug, Default)]
struct Server {
    /// Each start of the server has another number.
    run: u64,
    /// The clock of the server minus the real time, in milliseconds.
    skew: i64,
    epoch: Option<u64>,
    lease: Option<Duration>,
    log: Arc<Vec<LogEntry>>,
    last: LogPosition,
    /// Entries up to this position were removed.
    trimmed: LogPosition,
    image: Arc<BTreeMap<(u8, Vec<u8>), Record>>,
    leases: BTreeMap<NodeName, LeaseRecord>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Availability {
    Up,
    Down,
    /// The place refuses to write.
    Full,
}

#[derive(Debug)]
struct State {
    primary: Server,
    /// Older states of the primary. A failover to a stale replica makes one of them the current state.
    snapshots: VecDeque<(Instant, Server)>,
    availability: Availability,
    runs: u64,
    start: Instant,
    random: fastrand::Rng,
}

#[derive(Clone, Debug)]
pub(super) struct Place {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

/// The data of the replica that becomes the primary.
#[derive(Clone, Copy, Debug)]
pub(super) enum Replica {
    /// The data that the old primary had at least this time ago.
    Stale(Duration),
    Empty,
}

impl Place {
    pub(super) fn new(random: fastrand::Rng) -> Self {
        let state = State {
            primary: Server::default(),
            snapshots: VecDeque::new(),
            availability: Availability::Up,
            runs: 0,
            start: Instant::now(),
            random,
        };
        Self { state: Arc::new(Mutex::new(state)), changed: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(super) fn set(&self, availability: Availability) {
        self.lock().availability = availability;
        self.changed.notify_waiters();
    }

    pub(super) fn availability(&self) -> Availability {
        self.lock().availability
    }

    pub(super) fn flush(&self) {
        let mut state = self.lock();
        let Server { run, skew, .. } = state.primary;
        state.primary = Server { run, skew, ..Server::default() };
        state.snapshots.clear();
        drop(state);
        self.changed.notify_waiters();
    }

    pub(super) fn fail_over(&self, replica: Replica) {
        let mut state = self.lock();
        let mut server = match replica {
            Replica::Empty => Server::default(),
            Replica::Stale(lag) => {
                let is_old = |(at, _): &&(Instant, Server)| at.elapsed() >= lag;
                let old = state.snapshots.iter().rev().find(is_old);
                old.map(|(_, server)| server.clone()).unwrap_or_default()
            }
        };
        state.runs += 1;
        server.run = state.runs;
        server.skew = state.random.i64(-500..500);
        state.primary = server;
        state.snapshots.clear();
        drop(state);
        self.changed.notify_waiters();
    }

    pub(super) fn trim(&self) {
        let mut state = self.lock();
        let keep = state.primary.log.len() / 4;
        let removed = state.primary.log.len() - keep;
        let last = Arc::make_mut(&mut state.primary.log).drain(..removed).next_back();
        if let Some(entry) = last {
            state.primary.trimmed = entry.position;
        }
    }

    /// Calls a function with the primary. Returns `None` if the primary is down, because it then never answers.
    fn with<T>(
        &self,
        term: Option<&Term>,
        call: impl FnOnce(&mut Server, u64) -> Result<T, CoordinatorError>,
    ) -> Option<Result<T, CoordinatorError>> {
        let mut state = self.lock();
        if state.availability == Availability::Down {
            return None;
        }
        if term.is_some_and(|term| Some(term) != state.primary.term().as_ref()) {
            return Some(Err(CoordinatorError::OtherTerm { place: "place".into() }));
        }
        let real = u64::try_from(state.start.elapsed().as_millis()).unwrap();
        let now = (1_000_000 + real).saturating_add_signed(state.primary.skew);
        Some(call(&mut state.primary, now))
    }

    fn write<T>(
        &self,
        term: Option<&Term>,
        call: impl FnOnce(&mut Server, u64) -> Result<T, CoordinatorError>,
    ) -> Option<Result<T, CoordinatorError>> {
        if self.availability() == Availability::Full {
            let reason = "the memory is full".into();
            return Some(Err(CoordinatorError::Refused { place: "place".into(), reason }));
        }
        let result = self.with(term, call);
        let mut state = self.lock();
        if state.snapshots.back().is_none_or(|(at, _)| at.elapsed() >= Duration::from_millis(50)) {
            let snapshot = (Instant::now(), state.primary.clone());
            state.snapshots.push_back(snapshot);
            if state.snapshots.len() > 60 {
                state.snapshots.pop_front();
            }
        }
        drop(state);
        self.changed.notify_waiters();
        result
    }

    pub(super) fn join(&self, lease: Duration) -> Option<Result<Joined, CoordinatorError>> {
        let epoch = self.lock().random.u64(..);
        let is_full = self.availability() == Availability::Full;
        self.with(None, |server, _| {
            let is_new = server.epoch.is_none();
            if is_new && is_full {
                let reason = "the memory is full".into();
                return Err(CoordinatorError::Refused { place: "place".into(), reason });
            }
            let found = *server.lease.get_or_insert(lease);
            if found != lease {
                let (place, key) = ("place".into(), "lease".into());
                return Err(CoordinatorError::OtherLease { place, key, found, own: lease });
            }
            server.epoch.get_or_insert(epoch);
            Ok(Joined { term: server.term().unwrap(), last: server.last, is_new })
        })
    }

    pub(super) fn publish(
        &self,
        term: &Term,
        from: &NodeName,
        records: Vec<Record>,
    ) -> Option<Result<LogPosition, CoordinatorError>> {
        assert!(!records.is_empty() && records.len() <= MAX_PUBLISHED);
        self.write(Some(term), |server, now| {
            for record in records {
                let is_salt = |record: &&Record| matches!(record, Record::Salt(_));
                if is_salt(&&record)
                    && !server.image.values().any(|stored| *stored == record)
                    && server.image.values().filter(is_salt).count() >= 16
                {
                    return Err(CoordinatorError::TooManySalts { place: "place".into() });
                }
                if server.merge(&record) {
                    server.last = server.next_position(now);
                    let (position, from) = (server.last, from.clone());
                    Arc::make_mut(&mut server.log).push(LogEntry { position, from, record });
                }
            }
            Ok(server.last)
        })
    }

    pub(super) async fn follow(
        &self,
        term: &Term,
        after: LogPosition,
        wait: Duration,
    ) -> Option<Result<Followed, CoordinatorError>> {
        let end = Instant::now() + wait;
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            let followed = self.with(Some(term), |server, _| {
                // After old entries were removed, the position is known only if the log still has an entry at the
                // position or before it.
                let is_known = server.log.first().is_some_and(|first| first.position <= after);
                if server.trimmed > LogPosition::START && after != server.last && !is_known {
                    return Ok(Followed::Gap);
                }
                let is_new = |entry: &&LogEntry| entry.position > after;
                let entries = server.log.iter().filter(is_new).take(50).cloned();
                Ok(Followed::Entries(entries.collect()))
            });
            match &followed {
                Some(Ok(Followed::Entries(entries)))
                    if entries.is_empty() && Instant::now() < end =>
                {
                    let _ = tokio::time::timeout_at(end, changed).await;
                }
                _ => return followed,
            }
        }
    }

    pub(super) fn image(
        &self,
        term: &Term,
        cursor: Option<ImageCursor>,
    ) -> Option<Result<ImagePart, CoordinatorError>> {
        const PART: usize = 7;
        self.with(Some(term), |server, _| {
            // The cursor is the number of records that were read. Two parts overlap, because Redis can also return a
            // record more than once.
            let read: usize = cursor.map_or(0, |cursor| cursor.0.parse().unwrap());
            let from = read.min(server.image.len()).saturating_sub(3);
            let part: Vec<_> = server.image.values().skip(from).take(PART).cloned().collect();
            let end = from + part.len();
            let next = (end < server.image.len()).then(|| ImageCursor(end.to_string()));
            Ok(ImagePart { records: part, next })
        })
    }

    pub(super) fn renew(
        &self,
        term: &Term,
        lease: LeaseRecord,
        replaced: Option<Incarnation>,
    ) -> Option<Result<Renewed, CoordinatorError>> {
        self.write(Some(term), |server, _| {
            let taken = server.leases.get(&lease.node).filter(|stored| {
                stored.incarnation != lease.incarnation && Some(stored.incarnation) != replaced
            });
            if let Some(taken) = taken {
                let name = lease.node.clone();
                return Err(CoordinatorError::NameTaken { name, lease: taken.clone() });
            }
            let is_late = |stored: &LeaseRecord| {
                stored.incarnation == lease.incarnation && stored.number > lease.number
            };
            if server.leases.get(&lease.node).is_some_and(is_late) {
                return Err(CoordinatorError::OtherTerm { place: "place".into() });
            }
            server.leases.insert(lease.node.clone(), lease);
            Ok(Renewed { last: server.last, leases: server.leases.values().cloned().collect() })
        })
    }

    pub(super) fn leases(&self, term: &Term) -> Option<Result<Vec<LeaseRecord>, CoordinatorError>> {
        self.write(Some(term), |server, _| Ok(server.leases.values().cloned().collect()))
    }

    pub(super) fn remove(
        &self,
        term: &Term,
        lease: &LeaseRecord,
    ) -> Option<Result<(), CoordinatorError>> {
        self.write(Some(term), |server, _| {
            if server.leases.get(&lease.node) == Some(lease) {
                server.leases.remove(&lease.node);
            }
            Ok(())
        })
    }
}

impl Server {
    fn term(&self) -> Option<Term> {
        self.epoch.map(|epoch| Term::new(&format!("{epoch}-{}", self.run)))
    }

    fn next_position(&self, now: u64) -> LogPosition {
        let new = LogPosition::new(now, 0);
        let mut sequence = 0;
        let mut next = new;
        while next <= self.last {
            let text = self.last.to_string();
            let (millis, last) = text.split_once('-').unwrap();
            sequence = last.parse::<u64>().unwrap() + 1;
            next = LogPosition::new(millis.parse().unwrap(), sequence);
        }
        let _ = sequence;
        next
    }

    /// Merges a record. Returns whether the log must get the record.
    fn merge(&mut self, record: &Record) -> bool {
        let parts = record.parts();
        let number = |value: &[u8]| -> u64 { std::str::from_utf8(value).unwrap().parse().unwrap() };
        let key = (parts.kind.letter().as_bytes()[0], parts.key.clone());
        let is_change = match self.image.get(&key) {
            None => true,
            Some(stored) => match parts.kind.merge() {
                Merge::First => false,
                Merge::Larger => number(&parts.value) > number(&stored.parts().value),
                Merge::Newest => parts.value[..20] > stored.parts().value[..20],
            },
        };
        if is_change {
            let stored = match record {
                Record::RuleOfNow(rule) => Record::Revocation(rule.clone()),
                other => other.clone(),
            };
            Arc::make_mut(&mut self.image).insert(key, stored);
        }
        is_change || parts.is_of_now
    }
}
