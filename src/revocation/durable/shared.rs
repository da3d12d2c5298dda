//! Stores the records of other nodes in the file, and reads the records of the file for other nodes.

use std::{cmp::Ordering, collections::BTreeSet, ops::Bound};

use redb::{Database, ReadableDatabase, ReadableTable, WriteTransaction};

use super::{
    access_tokens::{get, read_entry, read_user},
    load::open_if_present,
    tables::{
        ACCESS_TOKENS, FOLLOWED, ISSUED, META, SALT, SALTS, SERVICES, TOKENS, Tables, UNUSED_SALT,
        USERS,
    },
};
use crate::{
    clock::Timestamp,
    passticket::UserId,
    revocation::{AccessTokenRecord, IssuedRecord, Record, RecordKind, Revocation, salt::Salt},
    token::{ServiceId, TokenFingerprint},
};

/// Records that other nodes have published, in the order of the log.
pub(super) struct SharedRecords {
    pub(super) records: Vec<Record>,
    /// The position in the log after these records.
    pub(super) followed: Option<Vec<u8>>,
}

impl SharedRecords {
    pub(super) fn salts(&self) -> impl Iterator<Item = &[u8; Salt::LEN]> {
        self.records.iter().filter_map(|record| match record {
            Record::Salt(salt) => Some(salt),
            _ => None,
        })
    }

    pub(super) fn revocations(&self) -> impl Iterator<Item = &Revocation> {
        self.records.iter().filter_map(|record| match record {
            Record::Revocation(revocation) | Record::RuleOfNow(revocation) => Some(revocation),
            _ => None,
        })
    }

    /// Returns whether the records can be skipped if the file already has them. A rule with the current time cannot be
    /// skipped: it can revoke PATs whose revocation is not in the file. Also returns false if there are no records.
    pub(super) fn can_be_known(&self) -> bool {
        let is_of_now = |record: &Record| matches!(record, Record::RuleOfNow(_));
        !self.records.is_empty() && !self.records.iter().any(is_of_now)
    }

    /// Stores the salts and the position in the log. `own` is the file's own salt after this call. If `is_adopted` is
    /// true, this call gives the file this salt in place of its old salt.
    pub(super) fn store_meta(
        &self,
        txn: &WriteTransaction,
        own: &[u8; Salt::LEN],
        is_adopted: bool,
    ) -> Result<(), redb::Error> {
        let mut salts = txn.open_table(SALTS)?;
        for salt in self.salts().filter(|salt| *salt != own) {
            salts.insert(salt, ())?;
        }
        let mut meta = txn.open_table(META)?;
        if is_adopted {
            meta.insert(SALT, own.as_slice())?;
            meta.remove(UNUSED_SALT)?;
        }
        if let Some(followed) = &self.followed {
            meta.insert(FOLLOWED, followed.as_slice())?;
        }
        Ok(())
    }
}

/// Returns whether the file has all records. `own` is the file's own salt.
pub(super) fn has_all(
    database: &Database,
    own: &[u8; Salt::LEN],
    records: &[Record],
) -> Result<bool, redb::Error> {
    let txn = database.begin_read()?;
    let tokens = open_if_present(&txn, TOKENS)?;
    let users = open_if_present(&txn, USERS)?;
    let services = open_if_present(&txn, SERVICES)?;
    let issued = open_if_present(&txn, ISSUED)?;
    let salts = open_if_present(&txn, SALTS)?;
    let access_tokens = open_if_present(&txn, ACCESS_TOKENS)?;
    for record in records {
        let stored_time = match record {
            Record::RuleOfNow(_) => None,
            Record::Revocation(Revocation::Token { token, expires_at }) => match &tokens {
                Some(table) => table.get(*token.as_bytes())?.map(|it| (it.value(), expires_at)),
                None => None,
            },
            Record::Revocation(Revocation::User { user, up_to }) => match &users {
                Some(table) => table.get(user.as_str())?.map(|it| (it.value(), up_to)),
                None => None,
            },
            Record::Revocation(Revocation::Service { service, up_to }) => match &services {
                Some(table) => table.get(service.as_str())?.map(|it| (it.value(), up_to)),
                None => None,
            },
            Record::Issued(pat) => {
                let key = (pat.issued_at.as_millis(), *pat.token.as_bytes());
                match &issued {
                    Some(table) if table.get(key)?.is_some() => continue,
                    _ => None,
                }
            }
            Record::AccessToken(AccessTokenRecord(entry)) => {
                let stored = match &access_tokens {
                    Some(table) => get(table, &entry.user, &entry.token)?,
                    None => None,
                };
                match stored {
                    // If the entries differ, the caller must write the record: the write merges both entries, and the
                    // merged entry may have to be published.
                    Some(stored) if stored == *entry => continue,
                    _ => None,
                }
            }
            Record::Salt(salt) if salt == own => {
                let meta = txn.open_table(META)?;
                // Other nodes know this salt, so no other salt may replace it. If the file still marks the salt as
                // unused, the caller must write the record.
                if meta.get(UNUSED_SALT)?.is_none() {
                    continue;
                }
                None
            }
            Record::Salt(salt) => match &salts {
                Some(table) if table.get(salt)?.is_some() => continue,
                _ => None,
            },
        };
        if stored_time.is_none_or(|(stored, time)| stored < time.as_millis()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Records that can be stored in any order. They are stored in the order of their keys, so that each page of the file
/// is changed only once. This is many times faster than to store them in the order of the log.
#[derive(Default)]
pub(super) struct Unordered<'a>(Vec<&'a Record>);

impl<'a> Unordered<'a> {
    pub(super) fn add(&mut self, record: &'a Record) {
        self.0.push(record);
    }

    /// Stores the records. If a PAT was not registered before, adds its user to `registered`. If a merged entry of the
    /// registry is newer than the record, adds the merged entry to `newer`.
    pub(super) fn store(
        &mut self,
        tables: &mut Tables<'_>,
        registered: &mut Vec<UserId>,
        newer: &mut Vec<Record>,
    ) -> Result<(), redb::Error> {
        self.0.sort_unstable_by(|a, b| compare_keys(a, b));
        for record in self.0.drain(..) {
            match record {
                Record::Revocation(revocation) | Record::RuleOfNow(revocation) => {
                    tables.insert(revocation)?;
                }
                Record::Issued(issued) => {
                    if tables.register_shared(issued)? {
                        registered.push(issued.user);
                    }
                }
                Record::AccessToken(AccessTokenRecord(entry)) => {
                    let merged = tables.merge_access_token(entry)?;
                    if merged.version() > entry.version() {
                        newer.push(Record::AccessToken(AccessTokenRecord(merged)));
                    }
                }
                Record::Salt(_) => {}
            }
        }
        Ok(())
    }
}

fn compare_keys(a: &Record, b: &Record) -> Ordering {
    use Revocation::{Service, Token, User};
    match (revocation_of(a), revocation_of(b)) {
        (Some(Token { token: a, .. }), Some(Token { token: b, .. })) => a.cmp(b),
        (Some(User { user: a, .. }), Some(User { user: b, .. })) => a.as_str().cmp(b.as_str()),
        (Some(Service { service: a, .. }), Some(Service { service: b, .. })) => {
            a.as_str().cmp(b.as_str())
        }
        _ => match (a, b) {
            (Record::Issued(a), Record::Issued(b)) => {
                (a.issued_at, a.token).cmp(&(b.issued_at, b.token))
            }
            (
                Record::AccessToken(AccessTokenRecord(a)),
                Record::AccessToken(AccessTokenRecord(b)),
            ) => (a.user.as_str(), a.token).cmp(&(b.user.as_str(), b.token)),
            _ => rank(a).cmp(&rank(b)),
        },
    }
}

fn revocation_of(record: &Record) -> Option<&Revocation> {
    match record {
        Record::Revocation(revocation) | Record::RuleOfNow(revocation) => Some(revocation),
        Record::Issued(_) | Record::Salt(_) | Record::AccessToken(_) => None,
    }
}

/// The order of the kinds in an export. Salts are first, so that a node that reads the records knows the salt of each
/// fingerprint.
const EXPORTED: [RecordKind; 6] = [
    RecordKind::Salt,
    RecordKind::Token,
    RecordKind::User,
    RecordKind::Service,
    RecordKind::Issued,
    RecordKind::AccessToken,
];

fn rank(record: &Record) -> usize {
    let kind = match record {
        Record::Revocation(Revocation::Token { .. })
        | Record::RuleOfNow(Revocation::Token { .. }) => RecordKind::Token,
        Record::Revocation(Revocation::User { .. })
        | Record::RuleOfNow(Revocation::User { .. }) => RecordKind::User,
        Record::Revocation(Revocation::Service { .. })
        | Record::RuleOfNow(Revocation::Service { .. }) => RecordKind::Service,
        Record::Issued(_) => RecordKind::Issued,
        Record::Salt(_) => RecordKind::Salt,
        Record::AccessToken(_) => RecordKind::AccessToken,
    };
    EXPORTED.iter().position(|it| *it == kind).unwrap_or(EXPORTED.len())
}

/// Returns up to `limit` records after `after`, in the order of [`EXPORTED`] and of the keys. `own` is the file's own
/// salt. It is `None` if no fingerprint needs it.
pub(super) fn export(
    database: &Database,
    own: Option<[u8; Salt::LEN]>,
    after: Option<&Record>,
    limit: usize,
) -> Result<Vec<Record>, redb::Error> {
    let txn = database.begin_read()?;
    let mut records = Vec::new();
    let first = after.map_or(0, rank);
    for kind in EXPORTED.into_iter().skip(first) {
        let room = limit - records.len();
        if room == 0 {
            break;
        }
        // `after` limits only the table of its own kind. Later tables are read from their start.
        let after = after.filter(|after| EXPORTED[rank(after)] == kind);
        match kind {
            RecordKind::Salt => {
                let mut salts: BTreeSet<_> = own.into_iter().collect();
                if let Some(table) = open_if_present(&txn, SALTS)? {
                    for entry in table.iter()? {
                        salts.insert(entry?.0.value());
                    }
                }
                let is_after = |salt: &[u8; Salt::LEN]| match after {
                    Some(Record::Salt(after)) => salt > after,
                    _ => true,
                };
                records.extend(salts.into_iter().filter(is_after).take(room).map(Record::Salt));
            }
            RecordKind::Token => {
                let start = match after.and_then(revocation_of) {
                    Some(Revocation::Token { token, .. }) => Bound::Excluded(*token.as_bytes()),
                    _ => Bound::Unbounded,
                };
                let table = txn.open_table(TOKENS)?;
                for entry in table.range::<[u8; 32]>((start, Bound::Unbounded))?.take(room) {
                    let (token, expires_at) = entry?;
                    records.push(Record::Revocation(Revocation::Token {
                        token: TokenFingerprint::from_bytes(token.value()),
                        expires_at: Timestamp::from_millis(expires_at.value()),
                    }));
                }
            }
            RecordKind::User => {
                let start = match after.and_then(revocation_of) {
                    Some(Revocation::User { user, .. }) => Bound::Excluded(user.as_str()),
                    _ => Bound::Unbounded,
                };
                let table = txn.open_table(USERS)?;
                for entry in table.range::<&str>((start, Bound::Unbounded))?.take(room) {
                    let (user, up_to) = entry?;
                    let user = read_user(user.value())?;
                    let up_to = Timestamp::from_millis(up_to.value());
                    records.push(Record::Revocation(Revocation::User { user, up_to }));
                }
            }
            RecordKind::Service => {
                let start = match after.and_then(revocation_of) {
                    Some(Revocation::Service { service, .. }) => Bound::Excluded(service.as_str()),
                    _ => Bound::Unbounded,
                };
                let table = txn.open_table(SERVICES)?;
                for entry in table.range::<&str>((start, Bound::Unbounded))?.take(room) {
                    let (service, up_to) = entry?;
                    let service = ServiceId::new(service.value())
                        .map_err(|e| redb::Error::Corrupted(e.to_string()))?;
                    let up_to = Timestamp::from_millis(up_to.value());
                    records.push(Record::Revocation(Revocation::Service { service, up_to }));
                }
            }
            RecordKind::AccessToken => {
                let start = match after {
                    Some(Record::AccessToken(AccessTokenRecord(entry))) => {
                        Bound::Excluded((entry.user.as_str(), *entry.token.as_bytes()))
                    }
                    _ => Bound::Unbounded,
                };
                let Some(table) = open_if_present(&txn, ACCESS_TOKENS)? else { continue };
                for entry in table.range::<(&str, [u8; 32])>((start, Bound::Unbounded))? {
                    let (key, bytes) = entry?;
                    let (user, token) = key.value();
                    let token = TokenFingerprint::from_bytes(token);
                    let entry = read_entry(read_user(user)?, token, bytes.value());
                    records.extend(entry.map(|it| Record::AccessToken(AccessTokenRecord(it))));
                    if records.len() == limit {
                        break;
                    }
                }
            }
            RecordKind::Issued => {
                let start = match after {
                    Some(Record::Issued(IssuedRecord { issued_at, token, .. })) => {
                        Bound::Excluded((issued_at.as_millis(), *token.as_bytes()))
                    }
                    _ => Bound::Unbounded,
                };
                let Some(table) = open_if_present(&txn, ISSUED)? else { continue };
                for entry in table.range::<(u64, [u8; 32])>((start, Bound::Unbounded))?.take(room) {
                    let (key, value) = entry?;
                    let ((issued_at, token), (expires_at, user, scope_hashes)) =
                        (key.value(), value.value());
                    records.push(Record::Issued(IssuedRecord {
                        token: TokenFingerprint::from_bytes(token),
                        user: read_user(user)?,
                        scope_hashes: scope_hashes.to_vec(),
                        issued_at: Timestamp::from_millis(issued_at),
                        expires_at: Timestamp::from_millis(expires_at),
                    }));
                }
            }
        }
    }
    Ok(records)
}
