//! The trait for the *place*: the store, such as Redis, in which the nodes share records and leases.

use std::{fmt, num::NonZeroU64, pin::Pin, str::FromStr, sync::Arc, time::Duration};

use uuid::Uuid;

use crate::{clock::Timestamp, revocation::Record};

/// The version of the protocol by which nodes share data. All nodes of a site must use the same version.
pub const PROTOCOL_VERSION: u32 = 2;

/// The maximum number of records in one call of [`Coordinator::publish`].
pub const MAX_PUBLISHED: usize = 1000;

/// The future of a call of a [`Coordinator`]. It does not borrow from the coordinator.
pub type CoordinatorFuture<T> = Pin<Box<dyn Future<Output = Result<T, CoordinatorError>> + Send>>;

/// The store, such as Redis, in which the nodes of a site share records and leases. It is called the *place* of the
/// site.
///
/// The place holds, for each site:
/// - the *image*: all records, merged by [`RecordKind::merge`](crate::revocation::RecordKind::merge);
/// - the *log*: the records that have changed the image, and each [`Record::RuleOfNow`], in the order of their arrival.
///   The place may remove old entries;
/// - the *leases*: the last [`LeaseRecord`] of each node;
/// - the *term*: an id that changes when the place may have lost data ([`Term`]).
///
/// The place may lose data, for example when a replica becomes the primary. The nodes notice the loss, because a new
/// [`Term`] begins. Each node has its own copy of all records. So after a loss, the nodes publish their records again.
///
/// Each call must limit the time that it waits for the place. A call that takes longer returns
/// [`CoordinatorError::Unreachable`]. A call with a term that is not current returns [`CoordinatorError::OtherTerm`].
pub trait Coordinator: fmt::Debug + Send + Sync + 'static {
    /// Returns the current term and the position of the last entry of the log. `lease` is the lease time of this node.
    /// If the place has no data of this site, begins a new term, and stores `lease` as the lease time of the site.
    ///
    /// # Errors
    /// [`CoordinatorError::OtherVersion`] if an incompatible version has written the data.
    /// [`CoordinatorError::OtherLease`] if the lease time of the site is not `lease`. All nodes need the same lease
    /// time, because each node uses its own lease time to compute the ends of the other nodes' leases.
    fn join(&self, lease: Duration) -> CoordinatorFuture<Joined>;

    /// Merges at most [`MAX_PUBLISHED`] records into the image. Appends each record that changes the image to the log.
    /// A [`Record::RuleOfNow`] is always appended. Returns the position of the last entry of the log after the call.
    /// Other calls run before or after this call, never during it.
    ///
    /// # Errors
    /// [`CoordinatorError::TooManySalts`] if the image already has 16 salts ([`Record::Salt`]), and `records` contains
    /// another salt. In this case, only the records before this salt were merged and appended.
    fn publish(
        &self,
        term: Term,
        from: NodeName,
        records: Vec<Record>,
    ) -> CoordinatorFuture<LogPosition>;

    /// Returns the entries of the log after `after`, or [`Followed::Gap`] if the place may have removed some of them.
    /// If there are no entries, waits up to `wait` for the first entry.
    fn follow(&self, term: Term, after: LogPosition, wait: Duration)
    -> CoordinatorFuture<Followed>;

    /// Returns a part of the image. If `cursor` is `None`, returns the first part. A record that is in the image from
    /// the first call to the last is returned at least once.
    fn image(&self, term: Term, cursor: Option<ImageCursor>) -> CoordinatorFuture<ImagePart>;

    /// Stores the lease of a node, and returns the position of the last entry of the log and the leases of all nodes.
    /// The whole call is one atomic step. `replaced` is an earlier incarnation of this node whose lease has ended. The
    /// new lease may replace this lease.
    ///
    /// # Errors
    /// [`CoordinatorError::NameTaken`] if the stored lease of this name has an incarnation that is neither the
    /// incarnation of `lease` nor `replaced`. [`CoordinatorError::OtherTerm`] if the term is not current, or if the
    /// stored lease has the same incarnation and a larger number. In the second case, a later renewal has arrived
    /// before this renewal. After these errors, nothing is stored.
    fn renew(
        &self,
        term: Term,
        lease: LeaseRecord,
        replaced: Option<Incarnation>,
    ) -> CoordinatorFuture<Renewed>;

    /// Returns the leases of all nodes. A server that accepts no writes must refuse this call, because it may be a
    /// former primary. The list of a former primary lacks the new leases of the nodes that already use the new primary.
    fn leases(&self, term: Term) -> CoordinatorFuture<Vec<LeaseRecord>>;

    /// Removes `lease`. Does nothing if the place has another lease of this node, such as a later renewal.
    fn remove(&self, term: Term, lease: LeaseRecord) -> CoordinatorFuture<()>;

    /// Removes from a part of the image the records that have not been needed for some days. As in
    /// [`image`](Self::image), `None` as `cursor` means the first part. The result is the cursor of the next part, or
    /// `None` at the end. The default implementation removes nothing.
    ///
    /// `now` is the time of the caller, whose clock may be wrong. So if the place has its own clock, it should use the
    /// earlier of the two times.
    fn evict(
        &self,
        term: Term,
        now: Timestamp,
        cursor: Option<ImageCursor>,
    ) -> CoordinatorFuture<Option<ImageCursor>> {
        let _ = (term, now, cursor);
        Box::pin(async { Ok(None) })
    }
}

/// Why a call of a [`Coordinator`] failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CoordinatorError {
    /// The place cannot be reached, has not answered in time, or has answered with an unknown error. It may
    /// nevertheless have executed the call. A later call can succeed.
    #[error("{place} cannot be reached: {reason}")]
    Unreachable {
        /// The name of the place, such as its URL without a password.
        place: Arc<str>,
        /// The cause. It contains no secret.
        reason: Arc<str>,
    },
    /// The place refuses the call, for example because its memory is full, or because it has too few replicas.
    #[error("{place} refuses to write: {reason}")]
    Refused {
        /// The name of the place.
        place: Arc<str>,
        /// The cause and the remedy, without secrets.
        reason: Arc<str>,
    },
    /// The term of the call is not the current term. For a renewal, this error can also mean that the place already has
    /// a renewal with a larger number. The place did nothing. The node must [join](Coordinator::join) again.
    #[error(
        "{place} may have lost data, or another server has become the primary; the nodes publish their data again"
    )]
    OtherTerm {
        /// The name of the place.
        place: Arc<str>,
    },
    /// Another process has the name of this node.
    #[error(
        "another node with the name {name} is running; give each node its own name (cluster.node)"
    )]
    NameTaken {
        /// The name.
        name: NodeName,
        /// The lease of the other process.
        lease: LeaseRecord,
    },
    /// A version with an incompatible protocol has written the data of the site.
    #[error(
        "{place} has data of protocol version {found}, but this program uses version {PROTOCOL_VERSION}; run the same \
         version of the program on all nodes. After an upgrade, stop all nodes and remove the old data \
         (docs/operating/nodes.md#upgrade)"
    )]
    OtherVersion {
        /// The name of the place.
        place: Arc<str>,
        /// The version of the data.
        found: u32,
    },
    /// The place already has 16 salts, the maximum that a node can use. So it refuses the salt of this node's
    /// revocation file: random bytes that go into each hash of a token in the file. The other nodes are not affected.
    #[error(
        "{place} already has the salts of 16 revocation files, which is the maximum; move the revocation file of this \
         node away, and start the node without --new-store. The node then creates a file with the salt of the other \
         nodes. Revocations that only the old file has are lost"
    )]
    TooManySalts {
        /// The name of the place.
        place: Arc<str>,
    },
    /// The nodes of the site use a lease time that differs from the lease time of this node.
    #[error(
        "the nodes of this site use the lease time {found:?}, but this node has {own:?} (leaseSeconds); set the same \
         lease time on all nodes. To change the lease time of the site, stop all nodes, remove the key {key} from \
         {place}, and start all nodes with the new value"
    )]
    OtherLease {
        /// The name of the place.
        place: Arc<str>,
        /// The key in which the place stores the lease time.
        key: Arc<str>,
        /// The lease time of the site.
        found: Duration,
        /// The lease time of this node.
        own: Duration,
    },
    /// The data of the site, or an answer of the place, is malformed.
    #[error("{place} has malformed data: {reason}")]
    Malformed {
        /// The name of the place.
        place: Arc<str>,
        /// The key and the problem.
        reason: Arc<str>,
    },
}

/// Identifies a period in which the place has certainly lost no data. A new term begins in three cases: the data is
/// missing, the server was restarted, or another server has become the primary.
///
/// Positions in the log can be compared only within one term.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Term(Arc<str>);

impl Term {
    /// Creates a term from the text with which a coordinator identifies it.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Term({})", self.0)
    }
}

/// The position of an entry in the log of one [`Term`]. Positions rise in the order of the log. As text, a position has
/// the form of the ids in a Redis stream, such as `5-0`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogPosition {
    millis: u64,
    sequence: u64,
}

impl LogPosition {
    /// The position before the first entry. In [`LeaseRecord::applied`], it means that the node does not have all
    /// records of the place yet.
    pub const START: Self = Self { millis: 0, sequence: 0 };

    /// Creates a position from the two parts of an id in a Redis stream.
    pub const fn new(millis: u64, sequence: u64) -> Self {
        Self { millis, sequence }
    }
}

impl fmt::Display for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.millis, self.sequence)
    }
}

/// The text is not a [`LogPosition`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a position in the log")]
pub struct LogPositionError;

impl FromStr for LogPosition {
    type Err = LogPositionError;

    fn from_str(text: &str) -> Result<Self, LogPositionError> {
        let number = |text: &str| {
            let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|_| is_number).ok_or(LogPositionError)
        };
        let (millis, sequence) = text.split_once('-').ok_or(LogPositionError)?;
        Ok(Self { millis: number(millis)?, sequence: number(sequence)? })
    }
}

/// The name of a node. Each node of a site has its own name: 1–64 letters, digits, dots, hyphens and underscores.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(Arc<str>);

/// The text is not a [`NodeName`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not the name of a node; use 1 to 64 letters, digits, dots, hyphens and underscores"
)]
pub struct NodeNameError(String);

impl NodeName {
    /// The maximum length.
    const MAX: usize = 64;

    /// Creates a name.
    ///
    /// # Errors
    /// [`NodeNameError`] if the text is empty or too long, or has other characters.
    pub fn new(text: &str) -> Result<Self, NodeNameError> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        if text.is_empty() || text.len() > Self::MAX || !text.bytes().all(is_allowed) {
            return Err(NodeNameError(text.chars().take(100).collect()));
        }
        Ok(Self(text.into()))
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Identifies one run of a node. If a process hands its lease over to another process of the node, both processes have
/// the same incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Incarnation(Uuid);

impl Incarnation {
    /// Creates a new incarnation.
    #[expect(clippy::new_without_default, reason = "each call returns another value")]
    pub fn new() -> Self {
        Self(Uuid::new_v4())
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.simple())
    }
}

/// The text is not an [`Incarnation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an incarnation of a node")]
pub struct IncarnationError;

impl FromStr for Incarnation {
    type Err = IncarnationError;

    fn from_str(text: &str) -> Result<Self, IncarnationError> {
        Uuid::try_parse(text).map(Self).map_err(|_| IncarnationError)
    }
}

/// The lease of a node, as the place stores it.
///
/// Each renewal has a new number. A lease lasts for the lease time after the node has *sent* a renewal. Each other node
/// measures with its own clock how long it sees the same number. If this is longer than the lease time and a margin,
/// the node knows that the lease has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRecord {
    /// The node.
    pub node: NodeName,
    /// The run of the node.
    pub incarnation: Incarnation,
    /// The number of the renewal. It rises with each renewal of this incarnation.
    pub number: NonZeroU64,
    /// The position up to which the node has applied the log. [`LogPosition::START`] means that the node has joined the
    /// term, but does not have all records of the place yet.
    pub applied: LogPosition,
}

/// The result of [`Coordinator::join`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The current term.
    pub term: Term,
    /// The position of the last entry of the log.
    pub last: LogPosition,
    /// Whether the place had no data of this site, so that this call has begun the term.
    pub is_new: bool,
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// The position.
    pub position: LogPosition,
    /// The node that has published the record.
    pub from: NodeName,
    /// The record.
    pub record: Record,
}

/// The result of [`Coordinator::follow`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Followed {
    /// The next entries, in the order of the log. Empty if no entry arrived within the time `wait`.
    Entries(Vec<LogEntry>),
    /// Entries after `after` may have been removed. The node must read the whole image.
    Gap,
}

/// The position in the image where the next part begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageCursor(pub String);

/// A part of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImagePart {
    /// The records. Can be empty, even if a later part has records.
    pub records: Vec<Record>,
    /// Where the next part begins. `None` if this was the last part.
    pub next: Option<ImageCursor>,
}

/// The result of [`Coordinator::renew`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewed {
    /// The position of the last entry of the log.
    pub last: LogPosition,
    /// The leases of all nodes, including the lease that was just stored.
    pub leases: Vec<LeaseRecord>,
}

impl<C: Coordinator + ?Sized> Coordinator for Arc<C> {
    fn join(&self, lease: Duration) -> CoordinatorFuture<Joined> {
        (**self).join(lease)
    }

    fn publish(
        &self,
        term: Term,
        from: NodeName,
        records: Vec<Record>,
    ) -> CoordinatorFuture<LogPosition> {
        (**self).publish(term, from, records)
    }

    fn follow(
        &self,
        term: Term,
        after: LogPosition,
        wait: Duration,
    ) -> CoordinatorFuture<Followed> {
        (**self).follow(term, after, wait)
    }

    fn image(&self, term: Term, cursor: Option<ImageCursor>) -> CoordinatorFuture<ImagePart> {
        (**self).image(term, cursor)
    }

    fn renew(
        &self,
        term: Term,
        lease: LeaseRecord,
        replaced: Option<Incarnation>,
    ) -> CoordinatorFuture<Renewed> {
        (**self).renew(term, lease, replaced)
    }

    fn leases(&self, term: Term) -> CoordinatorFuture<Vec<LeaseRecord>> {
        (**self).leases(term)
    }

    fn remove(&self, term: Term, lease: LeaseRecord) -> CoordinatorFuture<()> {
        (**self).remove(term, lease)
    }

    fn evict(
        &self,
        term: Term,
        now: Timestamp,
        cursor: Option<ImageCursor>,
    ) -> CoordinatorFuture<Option<ImageCursor>> {
        (**self).evict(term, now, cursor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_parsed_strictly_and_ordered() {
        let positions = ["0-0", "0-1", "5-0", "5-18446744073709551615", "1764300000000-0"];
        let read: Vec<LogPosition> = positions.iter().map(|it| it.parse().unwrap()).collect();
        assert!(read.is_sorted());
        assert_eq!(read.iter().map(ToString::to_string).collect::<Vec<_>>(), positions);
        for wrong in ["", "5", "5-", "-5", "+5-0", "5-0-0", "5-x", "18446744073709551616-0"] {
            assert_eq!(wrong.parse::<LogPosition>(), Err(LogPositionError), "{wrong}");
        }
    }

    #[test]
    fn names_of_nodes_have_1_to_64_allowed_characters() {
        for right in ["a", "node-1", "gw.example.com", &"x".repeat(64)] {
            assert_eq!(NodeName::new(right).unwrap().as_str(), right);
        }
        for wrong in ["", "a b", "a:b", "{a}", "ä", &"x".repeat(65)] {
            assert!(NodeName::new(wrong).is_err(), "{wrong}");
        }
    }
}
