//! How an [`AuditFile`](super::AuditFile) writes.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    sync::Arc,
};

use crate::clock::{Clock, SystemClock};

/// When what is written is made to survive the machine, with `fdatasync`. Until then it survives the
/// process alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fsync {
    /// When the system likes.
    Never,
    /// So many seconds after it was written, at the latest.
    EverySeconds(NonZeroU32),
    /// At once, for as many records as are there at a time.
    EveryBatch,
}

/// How an [`AuditFile`] writes. The default has 8,192 records waiting at the most, rotates at
/// 100 MiB, keeps 20 full files, and syncs once a second.
///
/// So the log takes some 2 GiB at the most: what [`rotate_at`](Self::with_rotate_at) says, times
/// [`keep`](Self::with_kept_files) and one. Older records are gone, and requests without any credential make
/// records too: whoever sends enough of them drives out what came before. Only copies on another
/// machine are safe from that, so ship records off this one sooner than they rotate away.
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
            queue: NonZeroUsize::new(8192).expect("is not 0"),
            rotate_at: 100 * 1024 * 1024,
            keep: NonZeroU32::new(20).expect("is not 0"),
            fsync: Fsync::EverySeconds(NonZeroU32::MIN),
            clock: Arc::new(SystemClock),
        }
    }
}

impl AuditFileOptions {
    /// So many records wait to be written at the most; more are dropped and counted. They take
    /// about a quarter of a kilobyte each, whether they are there or not.
    #[must_use]
    pub fn with_queue_capacity(self, records: NonZeroUsize) -> Self {
        Self { queue: records, ..self }
    }

    /// No file grows over so many bytes, save by what is written at a time: up to 64 KiB, and no
    /// more than this, and one line.
    #[must_use]
    pub fn with_rotate_at(self, bytes: u64) -> Self {
        Self { rotate_at: bytes, ..self }
    }

    /// So many full files are kept beside the one that is written to: `audit.jsonl.1` is the
    /// youngest of them.
    #[must_use]
    pub fn with_kept_files(self, files: NonZeroU32) -> Self {
        Self { keep: files, ..self }
    }

    /// When to sync.
    #[must_use]
    pub fn with_fsync(self, fsync: Fsync) -> Self {
        Self { fsync, ..self }
    }

    /// Takes the time of the lines that tell of gaps from `clock`.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }
}
