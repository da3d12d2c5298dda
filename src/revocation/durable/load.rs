//! Reads from the file what a store keeps in memory.

use std::{fmt, path::Path};

use redb::{
    Database, Key, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable,
    ReadableTableMetadata, TableDefinition, Value,
};

use super::{
    file::{OpenError, open_error},
    tables::{FOLLOWED, ISSUED, META, NETWORKS, SALTS, SERVICES, TOKENS, UNUSED_SALT, USERS},
};
use crate::{
    clock::Timestamp,
    passticket::UserId,
    revocation::{
        Revocation, RevocationIndex,
        issued::PatCounts,
        known_networks::Networks,
        salt::Salt,
        salts::{Salts, TooManySalts},
    },
    token::{ServiceId, TokenFingerprint},
};

pub(super) fn load(database: &Database) -> Result<RevocationIndex, redb::Error> {
    let txn = database.begin_read()?;
    let tokens = txn.open_table(TOKENS)?;
    let users = txn.open_table(USERS)?;
    let services = txn.open_table(SERVICES)?;
    let count = |len| usize::try_from(len).unwrap_or_default();
    let index = RevocationIndex::with_capacity(
        count(tokens.len()?),
        count(users.len()?),
        count(services.len()?),
    );
    load_into(&index, database)?;
    Ok(index)
}

pub(super) fn load_into(index: &RevocationIndex, database: &Database) -> Result<(), redb::Error> {
    let unreadable = |what: &dyn fmt::Display| redb::Error::Corrupted(what.to_string());
    let txn = database.begin_read()?;
    for entry in txn.open_table(TOKENS)?.iter()? {
        let (token, expires_at) = entry?;
        let token = TokenFingerprint::from_bytes(token.value());
        let expires_at = Timestamp::from_millis(expires_at.value());
        index.apply(&Revocation::Token { token, expires_at });
    }
    for entry in txn.open_table(USERS)?.iter()? {
        let (user, up_to) = entry?;
        let user = UserId::new(user.value()).map_err(|e| unreadable(&e))?;
        index.apply(&Revocation::User { user, up_to: Timestamp::from_millis(up_to.value()) });
    }
    for entry in txn.open_table(SERVICES)?.iter()? {
        let (service, up_to) = entry?;
        let service = ServiceId::new(service.value()).map_err(|e| unreadable(&e))?;
        index.apply(&Revocation::Service { service, up_to: Timestamp::from_millis(up_to.value()) });
    }
    Ok(())
}

/// Opens a table. Returns `None` if the file does not have the table: an older version of this program made the file,
/// or nothing was stored in the table yet.
pub(super) fn open_if_present<K: Key + 'static, V: Value + 'static>(
    txn: &ReadTransaction,
    table: TableDefinition<'_, K, V>,
) -> Result<Option<ReadOnlyTable<K, V>>, redb::Error> {
    match txn.open_table(table) {
        Ok(table) => Ok(Some(table)),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(super) struct Loaded {
    pub(super) index: RevocationIndex,
    pub(super) counts: PatCounts,
    pub(super) networks: Networks,
    pub(super) salts: Salts,
    pub(super) followed: Option<Vec<u8>>,
}

/// `own` is the own salt of the file.
pub(super) fn load_all(path: &Path, database: &Database, own: Salt) -> Result<Loaded, OpenError> {
    let load_all = || {
        let (index, counts) = (load(database)?, count_pats(database)?);
        let (networks, salts) = (load_networks(database)?, Salts::new(own));
        // An older version of this program may have written hashes without removing the entry `unusedSalt`.
        let has_hashes = index.has_tokens() || !counts.is_empty() || !networks.is_empty();
        if has_hashes || !is_salt_unused(database)? {
            salts.use_own();
        }
        load_salts(&salts, database)?;
        Ok(Loaded { index, counts, networks, salts, followed: load_followed(database)? })
    };
    load_all().map_err(|error| open_error(path, error))
}

pub(super) fn is_salt_unused(database: &Database) -> Result<bool, redb::Error> {
    let meta = database.begin_read()?.open_table(META)?;
    Ok(meta.get(UNUSED_SALT)?.is_some())
}

pub(super) fn load_salts(salts: &Salts, database: &Database) -> Result<(), redb::Error> {
    let txn = database.begin_read()?;
    let Some(table) = open_if_present(&txn, SALTS)? else { return Ok(()) };
    for entry in table.iter()? {
        let added = salts.add(entry?.0.value());
        added.map_err(|TooManySalts| redb::Error::Corrupted("it has too many salts".to_owned()))?;
    }
    Ok(())
}

/// Returns the position in the shared log that is stored in the file.
pub(super) fn load_followed(database: &Database) -> Result<Option<Vec<u8>>, redb::Error> {
    let meta = database.begin_read()?.open_table(META)?;
    Ok(meta.get(FOLLOWED)?.map(|value| value.value().to_vec()))
}

pub(super) fn count_pats(database: &Database) -> Result<PatCounts, redb::Error> {
    let mut counts = PatCounts::default();
    let txn = database.begin_read()?;
    let Some(issued) = open_if_present(&txn, ISSUED)? else { return Ok(counts) };
    for entry in issued.iter()? {
        let (_, value) = entry?;
        let user = UserId::new(value.value().1);
        counts.count(user.map_err(|e| redb::Error::Corrupted(e.to_string()))?);
    }
    Ok(counts)
}

pub(super) fn load_networks(database: &Database) -> Result<Networks, redb::Error> {
    let mut networks = Networks::default();
    let txn = database.begin_read()?;
    let Some(table) = open_if_present(&txn, NETWORKS)? else { return Ok(networks) };
    for entry in table.iter()? {
        let (user, bytes) = entry?;
        networks.add(user.value(), bytes.value());
    }
    Ok(networks)
}
