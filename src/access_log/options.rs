//! The options of the file.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    sync::Arc,
};

use crate::clock::{Clock, SystemClock};

/// The format of the lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AccessLogFormat {
    /// Each line is a JSON object.
    #[default]
    Json,
    /// The combined format of Apache, followed by further fields.
    Combined,
}

/// Options of an [`AccessLog`](super::AccessLog). By default, the lines are JSON, the queue has room for 8,192
/// requests, the file rotates at 100 MiB, and 20 full files are kept.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AccessLogOptions {
    pub(super) format: AccessLogFormat,
    pub(super) queue: NonZeroUsize,
    pub(super) rotate_at: u64,
    pub(super) keep: NonZeroU32,
    pub(super) clock: Arc<dyn Clock>,
}

impl Default for AccessLogOptions {
    fn default() -> Self {
        Self {
            format: AccessLogFormat::Json,
            queue: NonZeroUsize::new(8192).expect("8192 is not 0"),
            rotate_at: 100 * 1024 * 1024,
            keep: NonZeroU32::new(20).expect("20 is not 0"),
            clock: Arc::new(SystemClock),
        }
    }
}

impl AccessLogOptions {
    /// Sets the format of the lines.
    #[must_use]
    pub fn with_format(self, format: AccessLogFormat) -> Self {
        Self { format, ..self }
    }

    /// Sets how many requests can wait in the queue. While the queue is full, the log drops the lines of further
    /// requests, and counts them.
    #[must_use]
    pub fn with_queue_capacity(self, requests: NonZeroUsize) -> Self {
        Self { queue: requests, ..self }
    }

    /// Sets the maximum size of the file in bytes. Before a write that would exceed this size, the file rotates. The
    /// file can still become larger: if several processes write to it, if a rotation fails, or if a single write (about
    /// 64 KiB) is larger than this size.
    #[must_use]
    pub fn with_rotate_at(self, bytes: u64) -> Self {
        Self { rotate_at: bytes, ..self }
    }

    /// Sets how many full files are kept in addition to the current file. `access.jsonl.1` is the newest full file of
    /// `access.jsonl`.
    #[must_use]
    pub fn with_kept_files(self, files: NonZeroU32) -> Self {
        Self { keep: files, ..self }
    }

    /// Sets the clock for the times in the lines.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }
}
