//! The memory of a node outside of tests: its revocation file. The *memory* is the node's own store of all records.

use super::{
    coordinator::{LogPosition, Term},
    memory::{Followed, NodeMemory, NodeWrite},
};
use crate::{
    clock::Timestamp,
    revocation::{AccessTokenChange, AccessTokenOutcome, DurableStore, Record, StoreFuture},
};

impl NodeMemory for DurableStore {
    fn write(&self, write: NodeWrite) -> StoreFuture<Vec<Record>> {
        match write {
            NodeWrite::Revocation(revocation) => self.record_for_nodes(revocation),
            NodeWrite::RuleOfNow(rule) => self.record_rule_of_now_for_nodes(rule),
            NodeWrite::Issued(pat) => self.register_for_nodes(pat),
        }
    }

    fn change(
        &self,
        change: AccessTokenChange,
        now: Timestamp,
    ) -> StoreFuture<(AccessTokenOutcome, Vec<Record>)> {
        self.change_for_nodes(change, now)
    }

    fn apply(&self, records: Vec<Record>, followed: Option<Followed>) -> StoreFuture<Vec<Record>> {
        self.apply_shared(records, followed.as_ref().map(to_bytes))
    }

    fn export(&self, after: Option<Record>, limit: usize) -> StoreFuture<Vec<Record>> {
        Self::export(self, after, limit)
    }

    fn followed(&self) -> Option<Followed> {
        Self::followed(self).as_deref().and_then(from_bytes)
    }
}

fn to_bytes(Followed { term, position }: &Followed) -> Vec<u8> {
    format!("{position} {}", term.as_str()).into_bytes()
}

/// Returns `None` if the bytes are malformed, for example because a newer version wrote them. The node then reads all
/// records again.
fn from_bytes(bytes: &[u8]) -> Option<Followed> {
    let (position, term) = std::str::from_utf8(bytes).ok()?.split_once(' ')?;
    let position: LogPosition = position.parse().ok()?;
    Some(Followed { term: Term::new(term), position })
}

#[cfg(test)]
mod crash;
#[cfg(test)]
mod tests;
