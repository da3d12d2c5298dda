//! The functions of the store that a node of a cluster needs.

use std::{iter, sync::PoisonError};

use super::{
    DurableStore,
    shared::SharedRecords,
    writer::{Command, Write, Written},
};
use crate::{
    clock::Timestamp,
    revocation::{
        AccessTokenChange, AccessTokenOutcome, AccessTokenRecord, IssuedPat, IssuedRecord, Record,
        Revocation, StoreError, StoreFuture, issued::scope_hashes, salts::Salts,
    },
};

impl DurableStore {
    /// Does the same as [`record`](crate::revocation::RevocationStore::record), and returns the records for other
    /// nodes. If the records need the salt, the salt is the first record, so that no record depends on a later record.
    pub(crate) fn record_for_nodes(&self, revocation: Revocation) -> StoreFuture<Vec<Record>> {
        self.write_for_nodes(Write::Revocation(revocation))
    }

    /// Does the same as [`record_rule_of_now`](crate::revocation::RevocationStore::record_rule_of_now), and returns the
    /// records for other nodes. The revocations of registered PATs come before the rule, so that other nodes know these
    /// revocations when they apply the rule.
    pub(crate) fn record_rule_of_now_for_nodes(
        &self,
        rule: Revocation,
    ) -> StoreFuture<Vec<Record>> {
        self.write_for_nodes(Write::RuleOfNow(rule))
    }

    /// Does the same as [`register`](crate::revocation::RevocationStore::register), and returns the records for other
    /// nodes.
    pub(crate) fn register_for_nodes(&self, pat: IssuedPat) -> StoreFuture<Vec<Record>> {
        self.write_for_nodes(Write::Issued(pat))
    }

    /// Does the same as [`change`](crate::revocation::AccessTokenStore::change), and also returns the records for other
    /// nodes.
    pub(crate) fn change_for_nodes(
        &self,
        change: AccessTokenChange,
        now: Timestamp,
    ) -> StoreFuture<(AccessTokenOutcome, Vec<Record>)> {
        let written = self.send(|reply| Command::Write(Write::AccessTokens(change, now), reply));
        let (salts, store) = (self.salts.clone(), self.name.clone());
        Box::pin(async move {
            let mut written = written.await?;
            let outcome = written.outcome.take().ok_or(StoreError::Ended { store })?;
            Ok((outcome, records(written, &salts)))
        })
    }

    fn write_for_nodes(&self, write: Write) -> StoreFuture<Vec<Record>> {
        let written = self.send(|reply| Command::Write(write, reply));
        let salts = self.salts.clone();
        Box::pin(async move { written.await.map(|written| records(written, &salts)) })
    }

    /// Stores records of other nodes, and `followed`, in at most one commit. `followed` is the position in the log
    /// after these records. The caller must publish the returned records. They are of two kinds: the revocations of
    /// registered PATs by a rule with the current time, and the entries of the registry that are newer than the entries
    /// in `records`.
    ///
    /// If the file cannot be written, the revocations apply nevertheless, and the caller must repeat the call. One call
    /// with many records is many times faster than one call for each record.
    pub(crate) fn apply_shared(
        &self,
        records: Vec<Record>,
        followed: Option<Vec<u8>>,
    ) -> StoreFuture<Vec<Record>> {
        let write = Write::Shared(SharedRecords { records, followed });
        let written = self.send(|reply| Command::Write(write, reply));
        Box::pin(async move {
            let Written { missed, newer, .. } = written.await?;
            Ok(missed.into_iter().map(Record::Revocation).chain(newer).collect())
        })
    }

    /// Returns up to `limit` records after `after`. Salts are first.
    pub(crate) fn export(&self, after: Option<Record>, limit: usize) -> StoreFuture<Vec<Record>> {
        self.send(|reply| Command::Export(after, limit, reply))
    }

    /// Returns the last value of `followed`. See [`apply_shared`](Self::apply_shared).
    pub(crate) fn followed(&self) -> Option<Vec<u8>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn records(written: Written, salts: &Salts) -> Vec<Record> {
    let Written { write, missed, changed, registered, .. } = written;
    let record = match write {
        Write::Revocation(revocation) => Record::Revocation(revocation),
        Write::RuleOfNow(rule) => Record::RuleOfNow(rule),
        Write::Issued(pat) => issued(pat),
        Write::AccessTokens(..) => {
            if missed.is_empty() && changed.is_empty() {
                return Vec::new();
            }
            // The revocation of a rotated PAT comes before the entry of its successor.
            let revocations = missed.into_iter().map(Record::Revocation);
            let registered = registered.into_iter().map(issued);
            let entries = changed.into_iter().map(|it| Record::AccessToken(AccessTokenRecord(it)));
            let salt = Record::Salt(*salts.own().bytes());
            return iter::once(salt).chain(revocations).chain(registered).chain(entries).collect();
        }
        // Other nodes do not need these writes.
        Write::Networks(..) | Write::Shared(_) => return Vec::new(),
    };
    let mut records: Vec<_> = missed.into_iter().map(Record::Revocation).collect();
    records.push(record);
    let has_fingerprint = records.iter().any(|record| {
        matches!(
            record,
            Record::Issued(_)
                | Record::Revocation(Revocation::Token { .. })
                | Record::RuleOfNow(Revocation::Token { .. })
        )
    });
    if has_fingerprint {
        // Fingerprints of PATs of other nodes may have other salts. The other nodes have published these salts.
        records.insert(0, Record::Salt(*salts.own().bytes()));
    }
    records
}

fn issued(pat: IssuedPat) -> Record {
    let IssuedPat { token, user, scopes, issued_at, expires_at } = pat;
    let scope_hashes = scope_hashes::of(&scopes);
    Record::Issued(IssuedRecord { token, user, scope_hashes, issued_at, expires_at })
}
