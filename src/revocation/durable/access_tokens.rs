//! The table with the registry of issued Personal Access Tokens, and changes of it in a transaction.

use std::ops::Bound;

use redb::{Database, ReadOnlyTable, ReadableDatabase, ReadableTable, ReadableTableMetadata};

use super::{
    load::open_if_present,
    tables::{ACCESS_TOKENS, GRACES, Tables},
};
use crate::{
    clock::Timestamp,
    log_limit::log_limited,
    passticket::UserId,
    revocation::{
        AccessTokenChange, IssuedPat, Revocation, RevocationIndex,
        access_tokens::{
            AccessTokenId, Entries, EntriesMut, Entry, KEPT_AFTER_EXPIRY, MAX_ENTRIES, make_room,
        },
        salts::Salts,
    },
    token::TokenFingerprint,
};

type KeyType = (&'static str, [u8; 32]);
type ValueType = &'static [u8];

pub(super) fn open_entries(
    database: &Database,
) -> Result<Option<ReadOnlyTable<KeyType, ValueType>>, redb::Error> {
    open_if_present(&database.begin_read()?, ACCESS_TOKENS)
}

pub(super) struct StoredEntries<'a> {
    pub(super) table: ReadOnlyTable<KeyType, ValueType>,
    pub(super) index: &'a RevocationIndex,
    pub(super) salts: &'a Salts,
}

impl Entries for StoredEntries<'_> {
    type Error = redb::Error;

    fn get(&self, user: &UserId, token: &TokenFingerprint) -> Result<Option<Entry>, redb::Error> {
        get(&self.table, user, token)
    }

    fn of_user(&self, user: &UserId) -> Result<Vec<Entry>, redb::Error> {
        of_user(&self.table, user)
    }

    fn with_id(&self, user: &UserId, id: &AccessTokenId) -> Result<Option<Entry>, redb::Error> {
        with_id(&self.table, user, id)
    }

    fn next_user(&self, after: Option<&UserId>) -> Result<Option<UserId>, redb::Error> {
        next_user(&self.table, after)
    }

    fn is_revoked(&self, entry: &Entry) -> Result<bool, redb::Error> {
        // The index has all revocations of the file, and the revocations that could not be written.
        Ok(self.index.check_entry(entry).is_err())
    }

    fn stored_as(&self, token: TokenFingerprint) -> Vec<TokenFingerprint> {
        stored_as(self.salts, token)
    }
}

/// The entries of the file in a write transaction. `is_revoked` also sees the revocations that this transaction has
/// already inserted.
pub(super) struct ChangedEntries<'a, 'txn> {
    pub(super) tables: &'a mut Tables<'txn>,
    pub(super) salts: &'a Salts,
    pub(super) revoked: Vec<Revocation>,
    pub(super) changed: Vec<Entry>,
    pub(super) registered: Vec<IssuedPat>,
}

impl<'a, 'txn> ChangedEntries<'a, 'txn> {
    pub(super) fn new(tables: &'a mut Tables<'txn>, salts: &'a Salts) -> Self {
        let (revoked, changed, registered) = (Vec::new(), Vec::new(), Vec::new());
        Self { tables, salts, revoked, changed, registered }
    }
}

impl Tables<'_> {
    /// Merges an entry of another node. Returns the merged entry.
    #[cfg(feature = "redis")]
    pub(super) fn merge_access_token(&mut self, entry: &Entry) -> Result<Entry, redb::Error> {
        let present = get(&self.access_tokens, &entry.user, &entry.token)?;
        let merged = match &present {
            Some(present) => present.clone().merge(entry),
            None => entry.clone(),
        };
        if present.as_ref() == Some(&merged) {
            return Ok(merged);
        }
        let is_rotated = present.and_then(|it| it.rotation) != merged.rotation;
        if let Some(rotation) = merged.rotation.filter(|_| is_rotated) {
            // Each node ends the grace period itself, because the node that has rotated the token may have stopped.
            let key = (rotation.until.as_millis(), *merged.token.as_bytes());
            self.graces.insert(key, merged.user.as_str())?;
        }
        let key = (merged.user.as_str(), *merged.token.as_bytes());
        self.access_tokens.insert(key, merged.to_bytes().as_slice())?;
        Ok(merged)
    }
}

impl Entries for ChangedEntries<'_, '_> {
    type Error = redb::Error;

    fn get(&self, user: &UserId, token: &TokenFingerprint) -> Result<Option<Entry>, redb::Error> {
        get(&self.tables.access_tokens, user, token)
    }

    fn of_user(&self, user: &UserId) -> Result<Vec<Entry>, redb::Error> {
        of_user(&self.tables.access_tokens, user)
    }

    fn with_id(&self, user: &UserId, id: &AccessTokenId) -> Result<Option<Entry>, redb::Error> {
        with_id(&self.tables.access_tokens, user, id)
    }

    fn next_user(&self, after: Option<&UserId>) -> Result<Option<UserId>, redb::Error> {
        next_user(&self.tables.access_tokens, after)
    }

    fn is_revoked(&self, entry: &Entry) -> Result<bool, redb::Error> {
        if self.tables.tokens.get(entry.token.as_bytes())?.is_some() {
            return Ok(true);
        }
        let issued_at = entry.issued_at.as_millis();
        let user = self.tables.users.get(entry.user.as_str())?;
        if user.is_some_and(|up_to| issued_at <= up_to.value()) {
            return Ok(true);
        }
        for service in entry.scopes.services() {
            let service = self.tables.services.get(service.as_str())?;
            if service.is_some_and(|up_to| issued_at <= up_to.value()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn stored_as(&self, token: TokenFingerprint) -> Vec<TokenFingerprint> {
        stored_as(self.salts, token)
    }
}

impl EntriesMut for ChangedEntries<'_, '_> {
    fn put(&mut self, entry: &Entry) -> Result<(), redb::Error> {
        let key = (entry.user.as_str(), *entry.token.as_bytes());
        self.tables.access_tokens.insert(key, entry.to_bytes().as_slice())?;
        self.changed.push(entry.clone());
        Ok(())
    }

    fn remove(&mut self, entry: &Entry) -> Result<(), redb::Error> {
        self.tables.access_tokens.remove((entry.user.as_str(), *entry.token.as_bytes()))?;
        Ok(())
    }

    fn register(&mut self, entry: &Entry) -> Result<(), redb::Error> {
        let pat = entry.pat();
        self.tables.register(&pat)?;
        self.registered.push(pat);
        Ok(())
    }

    fn revoke(&mut self, entry: &Entry) -> Result<(), redb::Error> {
        let revocation = entry.revocation();
        self.tables.insert(&revocation)?;
        self.revoked.push(revocation);
        Ok(())
    }

    fn add_grace(&mut self, entry: &Entry, until: Timestamp) -> Result<(), redb::Error> {
        let key = (until.as_millis(), *entry.token.as_bytes());
        self.tables.graces.insert(key, entry.user.as_str())?;
        Ok(())
    }

    fn take_ended_grace(
        &mut self,
        now: Timestamp,
    ) -> Result<Option<(UserId, TokenFingerprint)>, redb::Error> {
        let ended = (0, [0; 32])..=(now.as_millis(), [u8::MAX; 32]);
        let first = match self.tables.graces.range(ended)?.next() {
            None => return Ok(None),
            Some(entry) => {
                let (key, user) = entry?;
                (key.value(), read_user(user.value())?)
            }
        };
        let (key, user) = first;
        self.tables.graces.remove(key)?;
        Ok(Some((user, TokenFingerprint::from_bytes(key.1))))
    }
}

/// Returns whether a change that the program makes regularly has nothing to do. If so, the file need not be written.
pub(super) fn is_idle(
    database: &Database,
    salts: &Salts,
    index: &RevocationIndex,
    change: &AccessTokenChange,
    now: Timestamp,
) -> Result<bool, redb::Error> {
    match change {
        AccessTokenChange::EndGraces => {
            let txn = database.begin_read()?;
            let Some(graces) = open_if_present(&txn, GRACES)? else { return Ok(true) };
            let first = graces.first()?;
            Ok(first.is_none_or(|(key, _)| key.value().0 > now.as_millis()))
        }
        AccessTokenChange::Misuse { pat } => {
            let Some(table) = open_entries(database)? else { return Ok(true) };
            let entry = StoredEntries { table, index, salts }.of_pat(pat)?;
            let has_ended = |entry: &Entry| entry.rotation.is_some_and(|it| it.until <= now);
            Ok(!entry.as_ref().is_some_and(has_ended))
        }
        _ => Ok(false),
    }
}

pub(super) fn evict(
    table: &mut redb::Table<'_, KeyType, ValueType>,
    now: Timestamp,
) -> Result<u64, redb::Error> {
    let mut evicted = 0;
    table.retain(|_, bytes| {
        // An entry whose expiry time this version cannot read is kept.
        let expiry = Entry::expiry_of(bytes);
        let keep = expiry.is_none_or(|expires_at| now < expires_at.plus(KEPT_AFTER_EXPIRY));
        evicted += u64::from(!keep);
        keep
    })?;
    Ok(evicted)
}

/// Removes surplus entries of users who have too many entries, but keeps the entries of active tokens. A user can have
/// too many entries if other nodes have registered some of them. Returns the number of removed entries.
pub(super) fn limit(
    tables: &mut Tables<'_>,
    salts: &Salts,
    now: Timestamp,
) -> Result<u64, redb::Error> {
    let (mut crowded, mut last, mut count) = (Vec::new(), None, 0);
    for entry in tables.access_tokens.iter()? {
        let user = read_user(entry?.0.value().0)?;
        count = if last == Some(user) { count + 1 } else { 1 };
        last = Some(user);
        if count == MAX_ENTRIES + 1 {
            crowded.push(user);
        }
    }
    let before = tables.access_tokens.len()?;
    let mut entries = ChangedEntries::new(tables, salts);
    for user in crowded {
        let present = entries.of_user(&user)?;
        make_room(present, now, &mut entries)?;
    }
    Ok(before - entries.tables.access_tokens.len()?)
}

fn stored_as(salts: &Salts, token: TokenFingerprint) -> Vec<TokenFingerprint> {
    [salts.own()].into_iter().chain(salts.foreign()).map(|salt| salt.apply(token)).collect()
}

pub(super) fn get(
    table: &impl ReadableTable<KeyType, ValueType>,
    user: &UserId,
    token: &TokenFingerprint,
) -> Result<Option<Entry>, redb::Error> {
    match table.get((user.as_str(), *token.as_bytes()))? {
        Some(bytes) => Ok(read_entry(*user, *token, bytes.value())),
        None => Ok(None),
    }
}

fn of_user(
    table: &impl ReadableTable<KeyType, ValueType>,
    user: &UserId,
) -> Result<Vec<Entry>, redb::Error> {
    let mut entries = Vec::new();
    let all = (user.as_str(), [0; 32])..=(user.as_str(), [u8::MAX; 32]);
    for entry in table.range::<(&str, [u8; 32])>(all)? {
        let (key, bytes) = entry?;
        let token = TokenFingerprint::from_bytes(key.value().1);
        entries.extend(read_entry(*user, token, bytes.value()));
    }
    Ok(entries)
}

/// Finds an entry by the first half of its fingerprint. Other entries of the user are not read.
fn with_id(
    table: &impl ReadableTable<KeyType, ValueType>,
    user: &UserId,
    id: &AccessTokenId,
) -> Result<Option<Entry>, redb::Error> {
    let ([mut first, mut last], half) = ([[0; 32], [u8::MAX; 32]], AccessTokenId::LEN);
    first[..half].copy_from_slice(id.as_bytes());
    last[..half].copy_from_slice(id.as_bytes());
    let with_id = (user.as_str(), first)..=(user.as_str(), last);
    let Some(entry) = table.range::<(&str, [u8; 32])>(with_id)?.next() else { return Ok(None) };
    let (key, bytes) = entry?;
    Ok(read_entry(*user, TokenFingerprint::from_bytes(key.value().1), bytes.value()))
}

fn next_user(
    table: &impl ReadableTable<KeyType, ValueType>,
    after: Option<&UserId>,
) -> Result<Option<UserId>, redb::Error> {
    let start = match after {
        None => Bound::Unbounded,
        Some(user) => Bound::Excluded((user.as_str(), [u8::MAX; 32])),
    };
    match table.range::<(&str, [u8; 32])>((start, Bound::Unbounded))?.next() {
        None => Ok(None),
        Some(entry) => read_user(entry?.0.value().0).map(Some),
    }
}

/// Reads an entry. An entry that this version cannot read is skipped. It must not be an error, because an error would
/// also prevent the other writes of the group, such as revocations.
pub(super) fn read_entry(user: UserId, token: TokenFingerprint, bytes: &[u8]) -> Option<Entry> {
    let entry = Entry::from_bytes(user, token, bytes);
    if let Err(error) = &entry {
        log_limited!(warn, "access token entry", { %user, %error }, "an issued Personal Access Token is not listed, because its entry cannot be read");
    }
    entry.ok()
}

pub(super) fn read_user(user: &str) -> Result<UserId, redb::Error> {
    UserId::new(user).map_err(|e| redb::Error::Corrupted(e.to_string()))
}
