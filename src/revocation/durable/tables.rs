//! The tables of the file, and transactions that change them.

use redb::{
    Database, Durability, Key, ReadableTable, ReadableTableMetadata, StorageError, Table,
    TableDefinition, WriteTransaction,
};

#[cfg(feature = "redis")]
use crate::revocation::IssuedRecord;
use crate::{
    clock::Timestamp,
    revocation::{
        IssuedPat, Revocation,
        issued::scope_hashes,
        known_networks::HASH,
        salt::Salt,
        trusted_time::{TrustedReading, Uptime},
    },
    token::TokenFingerprint,
};

// Older versions of this program ignore tables and entries of `meta` that they do not know. The tables of tokens, users
// and services have the names of the maps in Zowe's Caching Service.
pub(super) const TOKENS: TableDefinition<'_, [u8; 32], u64> = TableDefinition::new("invalidTokens");
pub(super) const USERS: TableDefinition<'_, &str, u64> = TableDefinition::new("invalidUsers");
pub(super) const SERVICES: TableDefinition<'_, &str, u64> = TableDefinition::new("invalidScopes");
/// The PATs (Personal Access Tokens) that the gateway has issued. A key consists of the issue time in the PAT and the
/// salted fingerprint of the PAT. A value consists of the expiry time, the user, and the [hashes](scope_hashes) of the
/// services.
pub(super) const ISSUED: TableDefinition<'_, (u64, [u8; 32]), (u64, &str, &[u8])> =
    TableDefinition::new("issuedPats");
/// The registry of issued PATs. A key consists of the user and the salted fingerprint. A value has the bytes of an
/// [`Entry`](crate::revocation::access_tokens::Entry).
pub(super) const ACCESS_TOKENS: TableDefinition<'_, (&str, [u8; 32]), &[u8]> =
    TableDefinition::new("accessTokens");
/// The grace periods of rotated PATs. A key consists of the end of the grace period, and of the salted fingerprint of
/// the PAT. A value is the user.
pub(super) const GRACES: TableDefinition<'_, (u64, [u8; 32]), &str> =
    TableDefinition::new("accessTokenGraces");
/// The salts of other nodes. Fingerprints in the file may be salted with them.
pub(super) const SALTS: TableDefinition<'_, [u8; Salt::LEN], ()> =
    TableDefinition::new("foreignSalts");
/// The networks from which users have logged in, by the hash of the user.
pub(super) const NETWORKS: TableDefinition<'_, [u8; HASH], &[u8]> =
    TableDefinition::new("knownNetworks");
pub(super) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

// The keys of the table `meta`.
pub(super) const FORMAT: &str = "format";
pub(super) const SALT: &str = "salt";
/// The trusted time, as it was last stored. A new file does not have this entry before the first eviction.
pub(super) const TRUSTED: &str = "trustedTime";
/// If this entry exists, no hash was made with the salt of the file, and no other node knows this salt. So another salt
/// may replace the salt of the file. Files of older versions of this program do not have this entry.
pub(super) const UNUSED_SALT: &str = "unusedSalt";
/// The position up to which this node has applied the log in which nodes share revocations.
pub(super) const FOLLOWED: &str = "followed";
/// The number of calls of [`commit`]. Each call increments this number in its second transaction.
pub(super) const SEALS: &str = "seals";

/// Advances the trusted time in the file, and returns the new trusted time. If the file has no trusted time, the wall
/// clock is trusted. If the wall clock is far behind the trusted time, the result may be ahead of the wall clock.
pub(super) fn read_trusted_time(
    txn: &WriteTransaction,
    wall: Timestamp,
    uptime: Uptime,
) -> Result<Timestamp, redb::Error> {
    let mut meta = txn.open_table(META)?;
    let reading = match last_reading(&meta)? {
        None => TrustedReading { time: wall, uptime },
        Some(last) => last.advance(wall, uptime),
    };
    meta.insert(TRUSTED, reading.to_bytes().as_slice())?;
    Ok(reading.time)
}

/// Advances the trusted time in the file by the monotonic time that has passed since this time was stored. If the file
/// has no trusted time, does nothing, because the first eviction sets the trusted time.
pub(super) fn advance_trusted_time(
    txn: &WriteTransaction,
    uptime: Uptime,
) -> Result<(), redb::Error> {
    let mut meta = txn.open_table(META)?;
    if let Some(last) = last_reading(&meta)? {
        let reading = last.advance_without_clock(uptime);
        meta.insert(TRUSTED, reading.to_bytes().as_slice())?;
    }
    Ok(())
}

pub(super) fn last_reading(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
) -> Result<Option<TrustedReading>, redb::Error> {
    let Some(bytes) = meta.get(TRUSTED)? else { return Ok(None) };
    let reading = TrustedReading::from_bytes(bytes.value());
    let malformed = || redb::Error::Corrupted("the trusted time is malformed".to_owned());
    reading.map(Some).ok_or_else(malformed)
}

pub(super) struct Tables<'txn> {
    pub(super) tokens: Table<'txn, [u8; 32], u64>,
    pub(super) users: Table<'txn, &'static str, u64>,
    pub(super) services: Table<'txn, &'static str, u64>,
    pub(super) issued: Table<'txn, (u64, [u8; 32]), (u64, &'static str, &'static [u8])>,
    pub(super) networks: Table<'txn, [u8; HASH], &'static [u8]>,
    pub(super) access_tokens: Table<'txn, (&'static str, [u8; 32]), &'static [u8]>,
    pub(super) graces: Table<'txn, (u64, [u8; 32]), &'static str>,
}

impl<'txn> Tables<'txn> {
    /// Opens the tables. Creates a table that the file does not have.
    pub(super) fn open(txn: &'txn WriteTransaction) -> Result<Self, redb::Error> {
        Ok(Self {
            tokens: txn.open_table(TOKENS)?,
            users: txn.open_table(USERS)?,
            services: txn.open_table(SERVICES)?,
            issued: txn.open_table(ISSUED)?,
            networks: txn.open_table(NETWORKS)?,
            access_tokens: txn.open_table(ACCESS_TOKENS)?,
            graces: txn.open_table(GRACES)?,
        })
    }

    /// Inserts a revocation. Returns whether this has changed the file.
    pub(super) fn insert(&mut self, revocation: &Revocation) -> Result<bool, redb::Error> {
        Ok(match revocation {
            Revocation::Token { token, expires_at } => {
                raise(&mut self.tokens, *token.as_bytes(), *expires_at)?
            }
            Revocation::User { user, up_to } => raise(&mut self.users, user.as_str(), *up_to)?,
            Revocation::Service { service, up_to } => {
                raise(&mut self.services, service.as_str(), *up_to)?
            }
        })
    }

    pub(super) fn register(&mut self, pat: &IssuedPat) -> Result<(), redb::Error> {
        let scopes = scope_hashes::of(&pat.scopes);
        let key = (pat.issued_at.as_millis(), *pat.token.as_bytes());
        let value = (pat.expires_at.as_millis(), pat.user.as_str(), &*scopes);
        self.issued.insert(key, value)?;
        Ok(())
    }

    /// Registers a PAT of any node, if it is not registered yet. Returns whether this call has registered the PAT.
    #[cfg(feature = "redis")]
    pub(super) fn register_shared(&mut self, pat: &IssuedRecord) -> Result<bool, redb::Error> {
        let key = (pat.issued_at.as_millis(), *pat.token.as_bytes());
        let is_new = self.issued.get(key)?.is_none();
        if is_new {
            let value = (pat.expires_at.as_millis(), pat.user.as_str(), &*pat.scope_hashes);
            self.issued.insert(key, value)?;
        }
        Ok(is_new)
    }

    /// Returns revocations of the registered PATs that belong to the user or service of `rule`, but have a later issue
    /// time than the rule. The table is sorted by issue time, so only PATs with a later issue time are read. Normally,
    /// there are no such PATs.
    pub(super) fn missed_by(&self, rule: &Revocation) -> Result<Vec<Revocation>, redb::Error> {
        let (Revocation::User { up_to, .. } | Revocation::Service { up_to, .. }) = rule else {
            return Ok(Vec::new());
        };
        let mut missed = Vec::new();
        let Some(after) = up_to.as_millis().checked_add(1) else { return Ok(missed) };
        for entry in self.issued.range((after, [0; 32])..)? {
            let (key, value) = entry?;
            let ((_, token), (expires_at, user, scopes)) = (key.value(), value.value());
            let is_missed = match rule {
                Revocation::Token { .. } => false,
                Revocation::User { user: of_rule, .. } => of_rule.as_str() == user,
                Revocation::Service { service, .. } => scope_hashes::contain(scopes, service),
            };
            if is_missed {
                let token = TokenFingerprint::from_bytes(token);
                let expires_at = Timestamp::from_millis(expires_at);
                missed.push(Revocation::Token { token, expires_at });
            }
        }
        Ok(missed)
    }
}

/// Calls `write` in a transaction and commits this transaction durably. Then commits a second transaction
/// durably.
///
/// The file holds the roots of its last two commits. One byte, which has no checksum, selects the root that is used. If
/// this byte or the newer root is damaged, redb can use the older root, and reports no error. A revocation must
/// therefore be under both roots before the caller gets `Ok`.
pub(super) fn commit(
    database: &Database,
    write: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
) -> Result<(), redb::Error> {
    let mut txn = database.begin_write()?;
    txn.set_durability(Durability::Immediate)?;
    write(&txn)?;
    txn.commit()?;

    let mut txn = database.begin_write()?;
    txn.set_durability(Durability::Immediate)?;
    {
        // The second transaction must write something, so it increments this counter.
        let mut meta = txn.open_table(META)?;
        let seals = meta.get(SEALS)?.and_then(|value| value.value().try_into().ok());
        let seals = seals.map_or(0, u64::from_be_bytes).wrapping_add(1);
        meta.insert(SEALS, seals.to_be_bytes().as_slice())?;
    }
    Ok(txn.commit()?)
}

/// Sets the time of `key` to `to`, unless `key` has this time or a later time. Returns whether the time was set.
pub(super) fn raise<'k, K: Key + 'static>(
    table: &mut Table<'_, K, u64>,
    key: impl std::borrow::Borrow<K::SelfType<'k>>,
    to: Timestamp,
) -> Result<bool, StorageError> {
    let present = table.get(key.borrow())?.map(|millis| millis.value());
    let is_later = present.is_none_or(|millis| millis < to.as_millis());
    if is_later {
        table.insert(key.borrow(), to.as_millis())?;
    }
    Ok(is_later)
}

pub(super) fn retain<K: Key + 'static>(
    table: &mut Table<'_, K, u64>,
    is_needed: impl Fn(Timestamp) -> bool,
) -> Result<usize, StorageError> {
    let before = table.len()?;
    table.retain(|_, millis| is_needed(Timestamp::from_millis(millis)))?;
    Ok(usize::try_from(before - table.len()?).unwrap_or(usize::MAX))
}
