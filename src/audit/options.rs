//! How an [`AuditFile`](super::AuditFile) writes.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    sync::Arc,
};

use crate::clock::{Clock, SystemClock};

/// When written records are synced to the disk (`fdatasync`). Before that, they survive a crash of the
/// process, but not of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fsync {
    /// The operating system decides.
    Never,
    /// At most this many seconds after the write.
    EverySeconds(NonZeroU32),
    /// After each write, which has all records that were waiting.
    EveryBatch,
}

/// How an [`AuditFile`](super::AuditFile) writes. By default the queue has 8,192 records, files rotate
/// at 100 MiB, 20 full files are kept, and the file is synced once a second.
///
/// So the log needs about 2 GiB at most: the size at [rotation](Self::with_rotate_at) times the number
/// of [kept files](Self::with_kept_files) plus one. Older records are deleted. Requests without a
/// credential make records, too, so a client can send enough of them to push out older records. Copy
/// the files to another machine before they are deleted.
#[derive(Clone, Debug)]
pub struct AuditFileOptions {
    pub(super) queue: NonZeroUsize,
    pub(super) rotate_at: u64,
    pub(super) keep: NonZeroU32,
    pub(super) fsync: Fsync,
    pub(super) clock: Arc<dyn Clock>,
}

impl Default for AuditFileOptions {
    fn default() -> Self {
        Self {
            queue: NonZeroUsize::new(8192).expect("not 0"),
            rotate_at: 100 * 1024 * 1024,
            keep: NonZeroU32::new(20).expect("not 0"),
            fsync: Fsync::EverySeconds(NonZeroU32::MIN),
            clock: Arc::new(SystemClock),
        }
    }
}

impl AuditFileOptions {
    /// Sets how many records can wait to be written. Further records are dropped and counted. Each
    /// place takes about 256 bytes, used or not.
    #[must_use]
    pub fn with_queue_capacity(self, records: NonZeroUsize) -> Self {
        Self { queue: records, ..self }
    }

    /// Sets the size in bytes at which files rotate. A file may exceed it by one batch (64 KiB, or this
    /// size if it is smaller) and one line.
    #[must_use]
    pub fn with_rotate_at(self, bytes: u64) -> Self {
        Self { rotate_at: bytes, ..self }
    }

    /// Sets how many full files are kept beside the current one. `audit.jsonl.1` is the newest of
    /// them.
    #[must_use]
    pub fn with_kept_files(self, files: NonZeroU32) -> Self {
        Self { keep: files, ..self }
    }

    /// Sets when the file is synced.
    #[must_use]
    pub fn with_fsync(self, fsync: Fsync) -> Self {
        Self { fsync, ..self }
    }

    /// Sets the clock for the time of lines that report dropped records.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }
}
