//! Reads what a store keeps in memory.

use std::{fmt, path::Path};

use redb::{
    Database, Key, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable,
    ReadableTableMetadata, TableDefinition, Value,
};

use super::{
    file::{OpenError, open_error},
    tables::{ISSUED, NETWORKS, SERVICES, TOKENS, USERS},
};
use crate::{
    clock::Timestamp,
    passticket::UserId,
    revocation::{Revocation, RevocationIndex, issued::PatCounts, known_networks::Networks},
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

/// Applies the revocations of the file.
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

/// Opens a table. Returns `None` if the file does not have the table, because an older version of this program made the
/// file.
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

/// Loads all that a store keeps in memory.
pub(super) fn load_all(
    path: &Path,
    database: &Database,
) -> Result<(RevocationIndex, PatCounts, Networks), OpenError> {
    let error = |error| open_error(path, error);
    let (index, counts) = (load(database).map_err(error)?, count_pats(database).map_err(error)?);
    Ok((index, counts, load_networks(database).map_err(error)?))
}

/// Counts the registered PATs.
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

/// Reads the networks of all users.
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
