//! A registry in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    future::ready,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    AccessTokenStore,
    changes::{AccessToken, AccessTokenChange, AccessTokenOutcome, Entries, EntriesMut, apply},
    entry::Entry,
    find::AccessTokenKey,
    listing::{AccessTokenPage, AccessTokenQuery, list},
};
use crate::{
    clock::Timestamp,
    passticket::UserId,
    revocation::{RevocationIndex, RevocationStore, StoreFuture},
    token::TokenFingerprint,
};

/// A registry of issued Personal Access Tokens in memory, for tests. All entries are lost when the process ends.
///
/// The registry reads and writes the revocations in a [`RevocationIndex`]. Use the same index for the auth API and the
/// layers.
#[derive(Debug)]
pub struct MemoryAccessTokens {
    index: Arc<RevocationIndex>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<(UserId, TokenFingerprint), Entry>,
    graces: BTreeSet<(Timestamp, UserId, TokenFingerprint)>,
}

impl MemoryAccessTokens {
    /// Creates an empty registry.
    pub fn new(index: Arc<RevocationIndex>) -> Self {
        Self { index, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AccessTokenStore for MemoryAccessTokens {
    fn change(&self, change: AccessTokenChange, now: Timestamp) -> StoreFuture<AccessTokenOutcome> {
        let mut entries = Locked { state: self.lock(), index: &self.index };
        let Ok(outcome) = apply(&change, now, &mut entries);
        Box::pin(ready(Ok(outcome)))
    }

    fn find(&self, key: AccessTokenKey, now: Timestamp) -> StoreFuture<Option<AccessToken>> {
        let entries = Locked { state: self.lock(), index: &self.index };
        let Ok(found) = key.find(now, &entries);
        Box::pin(ready(Ok(found)))
    }

    fn list(&self, query: AccessTokenQuery, now: Timestamp) -> StoreFuture<AccessTokenPage> {
        let entries = Locked { state: self.lock(), index: &self.index };
        let Ok(page) = list(&query, now, &entries);
        Box::pin(ready(Ok(page)))
    }
}

struct Locked<'a> {
    state: MutexGuard<'a, State>,
    index: &'a RevocationIndex,
}

impl Entries for Locked<'_> {
    type Error = Infallible;

    fn get(&self, user: &UserId, token: &TokenFingerprint) -> Result<Option<Entry>, Infallible> {
        Ok(self.state.entries.get(&(*user, *token)).cloned())
    }

    fn of_user(&self, user: &UserId) -> Result<Vec<Entry>, Infallible> {
        let first = (*user, TokenFingerprint::from_bytes([0; 32]));
        let of_user = self.state.entries.range(first..);
        Ok(of_user.map_while(|((of, _), entry)| (of == user).then(|| entry.clone())).collect())
    }

    fn next_user(&self, after: Option<&UserId>) -> Result<Option<UserId>, Infallible> {
        let start = match after {
            None => Bound::Unbounded,
            Some(user) => {
                let last = TokenFingerprint::from_bytes([u8::MAX; 32]);
                Bound::Excluded((*user, last))
            }
        };
        let next = self.state.entries.range((start, Bound::Unbounded)).next();
        Ok(next.map(|(_, entry)| entry.user))
    }

    fn is_revoked(&self, entry: &Entry) -> Result<bool, Infallible> {
        Ok(self.index.check_entry(entry).is_err())
    }

    fn stored_as(&self, token: TokenFingerprint) -> Vec<TokenFingerprint> {
        vec![token]
    }
}

impl EntriesMut for Locked<'_> {
    fn put(&mut self, entry: &Entry) -> Result<(), Infallible> {
        self.state.entries.insert((entry.user, entry.token), entry.clone());
        Ok(())
    }

    fn remove(&mut self, entry: &Entry) -> Result<(), Infallible> {
        self.state.entries.remove(&(entry.user, entry.token));
        Ok(())
    }

    fn register(&mut self, entry: &Entry) -> Result<(), Infallible> {
        // The index refuses the PAT if the user already has 1000 registered PATs. This error is ignored. The
        // consequence: a rule with the current time does not revoke this PAT if its issue time is later than the time
        // of the rule.
        drop(self.index.register(entry.pat()));
        Ok(())
    }

    fn revoke(&mut self, entry: &Entry) -> Result<(), Infallible> {
        self.index.apply(&entry.revocation());
        Ok(())
    }

    fn add_grace(&mut self, entry: &Entry, until: Timestamp) -> Result<(), Infallible> {
        self.state.graces.insert((until, entry.user, entry.token));
        Ok(())
    }

    fn take_ended_grace(
        &mut self,
        now: Timestamp,
    ) -> Result<Option<(UserId, TokenFingerprint)>, Infallible> {
        let ended = self.state.graces.first().copied().filter(|(until, ..)| *until <= now);
        let Some((until, user, token)) = ended else { return Ok(None) };
        self.state.graces.remove(&(until, user, token));
        Ok(Some((user, token)))
    }
}
