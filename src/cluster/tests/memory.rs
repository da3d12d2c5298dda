//! The memory of a simulated node. It survives the end of the process.

use std::{
    collections::BTreeMap,
    future::ready,
    ops::Bound,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::sleep;

use crate::{
    clock::Timestamp,
    cluster::memory::{Followed, NodeMemory, NodeWrite},
    revocation::{
        AccessToken, AccessTokenChange, AccessTokenKey, AccessTokenOutcome, AccessTokenPage,
        AccessTokenQuery, AccessTokenStore, CheckError, Evicted, IssuedRecord, Merge, Record,
        Revocation, RevocationCheck, RevocationIndex, RevocationListener, RevocationStore,
        SALT_LEN, StoreError, StoreFuture,
    },
    token::VerifiedToken,
};

#[derive(Clone, Debug)]
pub(super) struct Memory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    index: RevocationIndex,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    records: BTreeMap<Key, Record>,
    followed: Option<Followed>,
    random: fastrand::Rng,
    /// The longest time of a write.
    delay: Duration,
    is_full: bool,
}

type Key = (&'static str, Vec<u8>);

fn key(record: &Record) -> Key {
    let parts = record.parts();
    (parts.kind.letter(), parts.key)
}

impl Memory {
    pub(super) fn new(number: u8, random: fastrand::Rng) -> Self {
        let state = State {
            records: BTreeMap::new(),
            followed: None,
            random,
            delay: Duration::from_millis(3),
            is_full: false,
        };
        let memory =
            Self(Arc::new(Inner { index: RevocationIndex::default(), state: state.into() }));
        memory.merge(&Record::Salt([number; SALT_LEN]));
        memory
    }

    pub(super) fn set_delay(&self, delay: Duration) {
        self.0.state.lock().unwrap().delay = delay;
    }

    /// If the disk is full, the memory cannot store records of the log.
    pub(super) fn set_full(&self, is_full: bool) {
        self.0.state.lock().unwrap().is_full = is_full;
    }

    pub(super) fn records(&self) -> Vec<Record> {
        self.0.state.lock().unwrap().records.values().cloned().collect()
    }

    pub(super) fn knows(&self, token: &VerifiedToken) -> bool {
        self.0.index.check(token).is_err()
    }

    /// Merges a record. Returns whether the record was new.
    fn merge(&self, record: &Record) -> bool {
        let stored = match record {
            Record::RuleOfNow(rule) => Record::Revocation(rule.clone()),
            other => other.clone(),
        };
        let number = |record: &Record| -> u64 {
            std::str::from_utf8(&record.parts().value).unwrap().parse().unwrap()
        };
        let mut state = self.0.state.lock().unwrap();
        let is_new = match state.records.get(&key(&stored)) {
            None => true,
            Some(before) => match stored.parts().kind.merge() {
                Merge::First => false,
                Merge::Larger => number(&stored) > number(before),
                Merge::Newest => stored.parts().value[..20] > before.parts().value[..20],
            },
        };
        if is_new {
            if let Record::Revocation(revocation) = &stored {
                self.0.index.apply(revocation);
            }
            state.records.insert(key(&stored), stored);
        }
        is_new
    }

    /// Revokes the registered PATs of the user of the rule whose issue time is later than the rule. Returns the
    /// revocations. Does nothing for the rule of a service.
    fn derive(&self, rule: &Revocation) -> Vec<Record> {
        let Revocation::User { user: of, up_to } = rule else { return Vec::new() };
        let missed = |record: &Record| match record {
            Record::Issued(IssuedRecord { token, user, issued_at, expires_at, .. })
                if user == of && issued_at > up_to =>
            {
                let (token, expires_at) = (*token, *expires_at);
                Some(Record::Revocation(Revocation::Token { token, expires_at }))
            }
            _ => None,
        };
        let missed: Vec<_> = self.records().iter().filter_map(missed).collect();
        for record in &missed {
            self.merge(record);
        }
        missed
    }

    /// Returns `result` after a delay. The write itself has already taken effect.
    fn answer<T: Send + 'static>(&self, result: T) -> StoreFuture<T> {
        let mut state = self.0.state.lock().unwrap();
        let longest = u64::try_from(state.delay.as_micros()).unwrap();
        let delay = Duration::from_micros(state.random.u64(0..=longest));
        drop(state);
        Box::pin(async move {
            sleep(delay).await;
            Ok(result)
        })
    }
}

impl NodeMemory for Memory {
    fn write(&self, write: NodeWrite) -> StoreFuture<Vec<Record>> {
        let records = match write {
            NodeWrite::Revocation(revocation) => vec![Record::Revocation(revocation)],
            NodeWrite::RuleOfNow(rule) => {
                let derived = self.derive(&rule);
                [vec![Record::RuleOfNow(rule)], derived].concat()
            }
            NodeWrite::Issued(pat) => vec![Record::Issued(IssuedRecord {
                token: pat.token,
                user: pat.user,
                scope_hashes: Vec::new(),
                issued_at: pat.issued_at,
                expires_at: pat.expires_at,
            })],
        };
        for record in &records {
            self.merge(record);
        }
        self.answer(records)
    }

    fn change(
        &self,
        change: AccessTokenChange,
        now: Timestamp,
    ) -> StoreFuture<(AccessTokenOutcome, Vec<Record>)> {
        let _ = (change, now);
        unimplemented!("the simulation has no registry")
    }

    fn apply(&self, records: Vec<Record>, followed: Option<Followed>) -> StoreFuture<Vec<Record>> {
        if self.0.state.lock().unwrap().is_full {
            return Box::pin(ready(Err(StoreError::Replaced { store: "memory".into() })));
        }
        let mut derived = Vec::new();
        for record in records {
            self.merge(&record);
            if let Record::RuleOfNow(rule) = &record {
                derived.extend(self.derive(rule));
            }
        }
        if followed.is_some() {
            self.0.state.lock().unwrap().followed = followed;
        }
        self.answer(derived)
    }

    fn export(&self, after: Option<Record>, limit: usize) -> StoreFuture<Vec<Record>> {
        let state = self.0.state.lock().unwrap();
        let after = after.as_ref().map(key);
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let records = state.records.range((from, Bound::Unbounded));
        // The parts are small, so that other events can happen between two parts.
        let records: Vec<_> = records.take(limit.min(9)).map(|it| it.1.clone()).collect();
        drop(state);
        self.answer(records)
    }

    fn followed(&self) -> Option<Followed> {
        self.0.state.lock().unwrap().followed.clone()
    }
}

impl AccessTokenStore for Memory {
    fn change(&self, _: AccessTokenChange, _: Timestamp) -> StoreFuture<AccessTokenOutcome> {
        unimplemented!("the simulation has no registry")
    }

    fn find(&self, _: AccessTokenKey, _: Timestamp) -> StoreFuture<Option<AccessToken>> {
        unimplemented!("the simulation has no registry")
    }

    fn list(&self, _: AccessTokenQuery, _: Timestamp) -> StoreFuture<AccessTokenPage> {
        unimplemented!("the simulation has no registry")
    }
}

impl RevocationCheck for Memory {
    fn try_check_now(&self, token: &VerifiedToken) -> Option<Result<(), CheckError>> {
        self.0.index.try_check_now(token)
    }

    fn on_revocation(&self, listener: RevocationListener) {
        self.0.index.on_revocation(listener);
    }
}

impl RevocationStore for Memory {
    fn record(&self, revocation: Revocation) -> StoreFuture<()> {
        self.merge(&Record::Revocation(revocation));
        self.answer(())
    }

    fn evict(&self, _: Timestamp) -> StoreFuture<Evicted> {
        self.answer(Evicted::default())
    }
}
