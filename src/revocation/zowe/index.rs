//! The last answer of Zowe's Caching Service with all revocations.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use tokio::time::Instant;

use super::{client::AllLists, lists::Lists, pat_hashes::PatHashes};
use crate::{
    clock::Timestamp,
    revocation::{CheckError, RevokedBy},
};

/// The last answer with all revocations. It is used for a limited time.
pub(super) struct PolledIndex {
    last: ArcSwapOption<Polled>,
    /// How long an answer is used. This time begins when the request is sent.
    max_age: Duration,
}

struct Polled {
    lists: Lists,
    bytes: usize,
    asked: Instant,
}

impl PolledIndex {
    pub(super) fn new(max_age: Duration) -> Self {
        Self { last: ArcSwapOption::empty(), max_age }
    }

    /// Replaces the answer. Returns whether the revocations have changed.
    pub(super) fn replace(&self, all: AllLists, asked: Instant) -> bool {
        let before = self.last.load_full();
        let is_changed = before.is_none_or(|before| before.lists != all.lists);
        let AllLists { lists, bytes } = all;
        self.last.store(Some(Arc::new(Polled { lists, bytes, asked })));
        is_changed
    }

    pub(super) fn check(&self, pat: &PatHashes, issued_at: Timestamp) -> Result<(), CheckError> {
        let last = self.last.load();
        match &*last {
            Some(last) if self.is_fresh(last) => as_check(last.lists.decide(pat, issued_at)),
            _ => Err(CheckError::Unavailable),
        }
    }

    pub(super) fn age(&self) -> Option<Duration> {
        self.last.load().as_ref().map(|last| last.asked.elapsed())
    }

    pub(super) fn is_usable(&self) -> bool {
        self.last.load().as_ref().is_some_and(|last| self.is_fresh(last))
    }

    /// Returns the number of entries, the number of rules whose time cannot be read, and the size of the answer.
    pub(super) fn size(&self) -> (usize, usize, usize) {
        self.last.load().as_ref().map_or((0, 0, 0), |last| {
            let (tokens, users, services) = last.lists.counts();
            (tokens + users + services, last.lists.unreadable(), last.bytes)
        })
    }

    fn is_fresh(&self, last: &Polled) -> bool {
        last.asked.elapsed() <= self.max_age
    }
}

pub(super) fn as_check(revoked: Option<RevokedBy>) -> Result<(), CheckError> {
    revoked.map_or(Ok(()), |by| Err(CheckError::Revoked(by)))
}
