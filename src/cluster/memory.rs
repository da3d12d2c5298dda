//! The trait for the memory of one node: its own store of all records. [`Coordinator`](super::coordinator::Coordinator)
//! explains the log, the image and terms.

use crate::{
    clock::Timestamp,
    revocation::{
        AccessTokenChange, AccessTokenOutcome, IssuedPat, Record, Revocation, RevocationCheck,
        StoreFuture,
    },
};

use super::coordinator::{LogPosition, Term};

/// The term and the position up to which a node has followed the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Followed {
    pub(crate) term: Term,
    pub(crate) position: LogPosition,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NodeWrite {
    Revocation(Revocation),
    RuleOfNow(Revocation),
    Issued(IssuedPat),
}

/// The memory of a node: the records that it knows. Outside of tests, the memory is a
/// [`DurableStore`](crate::revocation::DurableStore).
///
/// When a future has returned `Ok`, its records survive a restart, and each check that starts later sees them.
pub(crate) trait NodeMemory: RevocationCheck {
    /// Stores a write of this node. Returns the records to publish, with salted fingerprints. A rule with the current
    /// time may give more than one record.
    fn write(&self, write: NodeWrite) -> StoreFuture<Vec<Record>>;

    /// Makes a change of the registry of issued PATs (Personal Access Tokens). Also returns the records to publish.
    fn change(
        &self,
        change: AccessTokenChange,
        now: Timestamp,
    ) -> StoreFuture<(AccessTokenOutcome, Vec<Record>)>;

    /// Merges records of the log or of the image, and remembers `followed` if it is `Some`. If the memory already has a
    /// record, the merge must be cheap: a node gets its own records back from the log. Returns the records that the
    /// node must publish:
    /// - for a [`Record::RuleOfNow`], the revocations of the registered PATs that the rule revokes. This includes
    ///   revocations that the memory already had, because they may not be published yet;
    /// - entries of the registry of PATs, if the entries in the memory are newer than the passed records.
    fn apply(&self, records: Vec<Record>, followed: Option<Followed>) -> StoreFuture<Vec<Record>>;

    /// Returns up to `limit` records after `after`, in a fixed order. Returns no records at the end. A caller that
    /// calls this function until the end gets each record that was stored before its first call.
    fn export(&self, after: Option<Record>, limit: usize) -> StoreFuture<Vec<Record>>;

    /// Returns the last value of `followed` that [`apply`](Self::apply) remembered. After a restart, this may be an
    /// earlier value.
    fn followed(&self) -> Option<Followed>;
}
