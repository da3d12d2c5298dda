//! The bounded queue between the sink and the writer thread.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
        mpsc::{self, Receiver, SyncSender},
    },
};

use super::record::AuditRecord;

/// The way to the writer.
pub(super) struct Queue {
    records: SyncSender<AuditRecord>,
    capacity: usize,
    half: usize,
    pub(super) shared: Arc<Shared>,
}

/// What sink and writer both know.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// What is in the queue or just on its way into it. Counted up before `closed` is looked at, so
    /// a writer that has seen `closed` and then finds 0 here has missed nothing.
    pub(super) waiting: AtomicUsize,
    pub(super) closed: AtomicBool,
    /// What was to be written last was not, and is tried again.
    pub(super) is_stuck: AtomicBool,
    pub(super) dropped: AtomicU64,
    pub(super) written: AtomicU64,
    pub(super) write_errors: AtomicU64,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    Taken,
    /// It was taken, and the writer should see to the queue. Said once on the way up.
    HalfFull,
    Dropped,
}

impl Queue {
    pub(super) fn new(capacity: NonZeroUsize) -> (Self, Receiver<AuditRecord>) {
        let (records, receiver) = mpsc::sync_channel(capacity.get());
        let capacity = capacity.get();
        let half = capacity.div_ceil(2);
        (Self { records, capacity, half, shared: Arc::default() }, receiver)
    }

    /// Whether there is room, and what is taken out is written.
    pub(super) fn is_available(&self) -> bool {
        let Shared { waiting, is_stuck, .. } = &*self.shared;
        !is_stuck.load(SeqCst) && waiting.load(SeqCst) < self.capacity
    }

    pub(super) fn put(&self, record: AuditRecord) -> Put {
        let Shared { waiting, closed, dropped, .. } = &*self.shared;
        let before = waiting.fetch_add(1, SeqCst);
        // The writer sleeps without having asked for a record, so this wakes nobody.
        if closed.load(SeqCst) || self.records.try_send(record).is_err() {
            waiting.fetch_sub(1, SeqCst);
            dropped.fetch_add(1, SeqCst);
            return Put::Dropped;
        }
        if before + 1 == self.half { Put::HalfFull } else { Put::Taken }
    }
}
