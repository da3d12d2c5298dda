//! Applies the records of other nodes in memory. `Writer::record` writes them to the file.

use std::sync::PoisonError;

use super::{
    load::is_salt_unused,
    shared::{self, SharedRecords},
    writer::{Reply, Write, Writer, Written},
};
use crate::{
    passticket::UserId,
    revocation::{Record, StoreError, salt::Salt, salts::MAX_SALTS},
};

impl Writer {
    /// If the file certainly has all records of the group already, answers the writes without a commit, and returns
    /// true. The file often has all records, because a node also reads its own records from the log that the nodes
    /// share. The next commit stores `followed`, the position up to which this node has read the log. If the node
    /// restarts before this commit, it reads some records again.
    ///
    /// This function looks at the file, not at the index, because the index also has revocations that could not be
    /// written.
    pub(super) fn answer_known(&mut self, group: &mut Vec<(Write, Reply<Written>)>) -> bool {
        let is_shared =
            |write: &Write| matches!(write, Write::Shared(shared) if shared.can_be_known());
        let may_be_known = self.has_committed
            && !self.is_failing
            && self.unwritten.is_empty()
            && group.iter().all(|(write, _)| is_shared(write));
        if !may_be_known {
            return false;
        }
        let own = *self.salts.own().bytes();
        let known = self.with_database(|database| {
            for (write, _) in &*group {
                let Write::Shared(shared) = write else { return Ok(false) };
                if !shared::has_all(database, &own, &shared.records)? {
                    return Ok(false);
                }
            }
            Ok(true)
        });
        // If a record is not known, or after an error, the caller writes the group.
        if !matches!(known, Ok(true)) {
            return false;
        }
        for (write, reply) in group.drain(..) {
            if let Write::Shared(SharedRecords { records: _, followed: Some(followed) }) = &write {
                let mut last = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
                *last = Some(followed.clone());
                self.followed_is_newer = true;
            }
            let _ = reply.send(Ok(Written::of(write)));
        }
        true
    }

    /// Returns `followed` if the file has an older value.
    pub(super) fn newer_followed(&self) -> Option<Vec<u8>> {
        let followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        followed.clone().filter(|_| self.followed_is_newer)
    }

    /// Adds the salts of the records of other nodes, so that checks use them. If there are too many salts, refuses the
    /// records. Returns the salt that replaces the own salt, if there is one. If no hash was made with the own salt
    /// yet, the first salt that arrives replaces the own salt. So all nodes normally have the same salt.
    pub(super) fn take_salts(
        &self,
        group: &mut Vec<(Write, Reply<Written>)>,
    ) -> Option<[u8; Salt::LEN]> {
        let own = *self.salts.own().bytes();
        let is_own = |write: &Write| match write {
            Write::Shared(shared) => shared.salts().any(|salt| *salt == own),
            _ => false,
        };
        if group.iter().any(|(write, _)| is_own(write)) {
            self.salts.use_own();
        }
        let mut adopted = None;
        let mut has_room = true;
        for (write, _) in &*group {
            let Write::Shared(shared) = write else { continue };
            for salt in shared.salts().filter(|salt| **salt != own) {
                if adopted == Some(*salt) {
                    continue;
                }
                if !self.salts.is_foreign(salt) {
                    self.followers.tell_salt(salt);
                }
                let is_own_used = self.salts.is_own_used() || !self.networks.lock().is_empty();
                if adopted.is_none() && !is_own_used {
                    adopted = Some(*salt);
                } else {
                    has_room &= self.salts.add(*salt).is_ok();
                }
            }
        }
        if has_room {
            return adopted;
        }
        for (_, reply) in group.extract_if(.., |(write, _)| matches!(write, Write::Shared(_))) {
            let (store, limit) = (self.name.clone(), MAX_SALTS);
            let _ = reply.send(Err(StoreError::TooManySalts { store, limit }));
        }
        None
    }

    /// Applies the records of other nodes in memory. If `has_failed` is true, the records could not be written. The
    /// revocations apply nevertheless, and the caller of the write repeats it.
    pub(super) fn finish_shared(
        &mut self,
        group: &[(Write, Reply<Written>)],
        adopted: Option<[u8; Salt::LEN]>,
        registered: &[UserId],
        has_failed: bool,
    ) {
        match adopted {
            // Until the caller repeats the write, checks use both salts. The list of the salts of other nodes normally
            // has room for this salt, because this list is normally empty while the own salt is unused.
            Some(salt) if has_failed => {
                let _ = self.salts.add(salt);
            }
            Some(salt) => {
                self.adopt(&salt);
            }
            None => {}
        }
        for (write, _) in group {
            let Write::Shared(shared) = write else { continue };
            let SharedRecords { records: _, followed } = shared;
            if shared.revocations().next().is_some() {
                self.index.apply_all(shared.revocations());
                shared.revocations().for_each(|revocation| self.followers.tell(revocation));
            }
            if let (Some(followed), false) = (followed, has_failed) {
                let mut last = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
                *last = Some(followed.clone());
            }
        }
        if !has_failed {
            registered.iter().for_each(|user| self.counts.count(*user));
        }
    }

    pub(super) fn export(
        &mut self,
        after: Option<&Record>,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        let salts = self.salts.clone();
        self.with_database(|database| {
            // The own salt is not exported while the file marks it as unused, because another salt may still replace
            // it.
            let is_unused = is_salt_unused(database)?;
            let own = (!is_unused).then(|| *salts.own().bytes());
            shared::export(database, own, after, limit)
        })
    }
}
