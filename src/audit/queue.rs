//! The bounded queue between the sink and the writer thread.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
        mpsc::{self, Receiver, Sender},
    },
};

use super::record::AuditRecord;

/// The sending side of the queue.
pub(super) struct Queue {
    /// A channel without a limit. `capacity` limits the queue instead. A bounded channel would use all its slots one
    /// after the other, and so need memory for all of them. This channel uses memory only for the records that wait.
    records: Sender<AuditRecord>,
    capacity: usize,
    half: usize,
    pub(super) shared: Arc<Shared>,
}

/// State that the sink and the writer share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// The number of records that are in the queue or that a thread is adding. [`Queue::put`] increments this number
    /// before it reads `closed`. So if the writer reads first that `closed` is set and then that this number is 0, no
    /// record is left.
    pub(super) waiting: AtomicUsize,
    pub(super) closed: AtomicBool,
    /// Whether another process also appends to the file. If so, this process neither locks nor rotates the file.
    pub(super) is_shared: AtomicBool,
    /// Whether the last write failed, so that the writer must repeat it.
    pub(super) is_stuck: AtomicBool,
    pub(super) dropped: AtomicU64,
    pub(super) written: AtomicU64,
    pub(super) write_errors: AtomicU64,
}

/// The result of [`Queue::put`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    Taken,
    /// The queue has taken the record, and is now exactly half full. The caller must wake the writer.
    HalfFull,
    Dropped,
}

impl Queue {
    pub(super) fn new(capacity: NonZeroUsize) -> (Self, Receiver<AuditRecord>) {
        let (records, receiver) = mpsc::channel();
        let capacity = capacity.get();
        let half = capacity.div_ceil(2);
        (Self { records, capacity, half, shared: Arc::default() }, receiver)
    }

    /// Returns whether the queue has room and the last write succeeded.
    pub(super) fn is_available(&self) -> bool {
        let Shared { waiting, is_stuck, .. } = &*self.shared;
        !is_stuck.load(SeqCst) && waiting.load(SeqCst) < self.capacity
    }

    pub(super) fn put(&self, record: AuditRecord) -> Put {
        let Shared { waiting, closed, dropped, .. } = &*self.shared;
        let before = waiting.fetch_add(1, SeqCst);
        let is_full = before >= self.capacity;
        // The writer never blocks on the channel, so sending never wakes a thread.
        if is_full || closed.load(SeqCst) || self.records.send(record).is_err() {
            waiting.fetch_sub(1, SeqCst);
            dropped.fetch_add(1, SeqCst);
            return Put::Dropped;
        }
        if before + 1 == self.half { Put::HalfFull } else { Put::Taken }
    }
}
