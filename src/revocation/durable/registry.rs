//! The registry of issued Personal Access Tokens: the functions of the store, and of its writer thread.

use super::{
    DurableStore,
    access_tokens::{StoredEntries, open_entries},
    writer::{Command, Write, Writer},
};
use crate::{
    clock::Timestamp,
    revocation::{
        AccessToken, AccessTokenChange, AccessTokenKey, AccessTokenOutcome, AccessTokenPage,
        AccessTokenQuery, AccessTokenStore, StoreError, StoreFuture, access_tokens::list,
    },
};

impl AccessTokenStore for DurableStore {
    fn change(&self, change: AccessTokenChange, now: Timestamp) -> StoreFuture<AccessTokenOutcome> {
        let written = self.send(|reply| Command::Write(Write::AccessTokens(change, now), reply));
        let store = self.name.clone();
        Box::pin(async move { written.await?.outcome.ok_or(StoreError::Ended { store }) })
    }

    fn find(&self, key: AccessTokenKey, now: Timestamp) -> StoreFuture<Option<AccessToken>> {
        self.send(|reply| Command::FindAccessToken(key, now, reply))
    }

    fn list(&self, query: AccessTokenQuery, now: Timestamp) -> StoreFuture<AccessTokenPage> {
        self.send(|reply| Command::ListAccessTokens(query, now, reply))
    }
}

impl Writer {
    pub(super) fn find_access_token(
        &mut self,
        key: &AccessTokenKey,
        now: Timestamp,
    ) -> Result<Option<AccessToken>, StoreError> {
        self.read_access_tokens(|entries| key.find(now, entries), || None)
    }

    pub(super) fn list_access_tokens(
        &mut self,
        query: &AccessTokenQuery,
        now: Timestamp,
    ) -> Result<AccessTokenPage, StoreError> {
        self.read_access_tokens(|entries| list(query, now, entries), AccessTokenPage::default)
    }

    fn read_access_tokens<T>(
        &mut self,
        read: impl FnOnce(&StoredEntries<'_>) -> Result<T, redb::Error>,
        absent: impl FnOnce() -> T,
    ) -> Result<T, StoreError> {
        let (index, salts) = (self.index.clone(), self.salts.clone());
        self.with_database(|database| match open_entries(database)? {
            Some(table) => read(&StoredEntries { table, index: &index, salts: &salts }),
            None => Ok(absent()),
        })
    }
}
