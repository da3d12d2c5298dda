//! Options of an [`AuditFile`](super::AuditFile).

use std::{
    num::{NonZeroU32, NonZeroUsize},
    sync::Arc,
};

use super::{cef::CefDevice, line::Object, record::AuditRecord};
use crate::clock::{Clock, SystemClock, Timestamp};

/// When the writer syncs written records to the disk (`fdatasync`). Records that are written but not synced survive a
/// crash of the process. A crash of the machine can destroy them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fsync {
    /// The operating system decides.
    Never,
    /// The writer syncs within about this many seconds after a write.
    EverySeconds(NonZeroU32),
    /// The writer syncs after each write. A write contains all waiting records, up to about 64 KiB.
    EveryBatch,
}

/// Options of an [`AuditFile`](super::AuditFile). By default, the queue has room for 8,192 records, the file rotates at
/// 100 MiB, 20 full files are kept, and the file is synced once a second.
///
/// With these defaults, the log takes about 2 GiB at most. The current file and each of the [kept
/// files](Self::with_kept_files) have at most about the size at which the file [rotates](Self::with_rotate_at). If all
/// kept files exist, the next rotation deletes the oldest file.
///
/// A request without a credential also causes a record. So if there is only one file, a client can send so many
/// requests that older records are deleted. [`AuditFiles`](super::AuditFiles) writes such records to a second file.
#[derive(Clone, Debug)]
pub struct AuditFileOptions {
    pub(super) queue: NonZeroUsize,
    pub(super) rotate_at: u64,
    pub(super) keep: NonZeroU32,
    pub(super) fsync: Fsync,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) lines: Lines,
    pub(super) format: AuditFormat,
}

/// The format of the lines of an audit file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuditFormat {
    /// Each line is a JSON object, as in the [schema](super#schema).
    #[default]
    JsonLines,
    /// Each line is an event in the Common Event Format, with this device.
    Cef(CefDevice),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lines {
    /// One record.
    Record,
    /// The sum of all records of one second with the same client, service, event and reason.
    Sum,
}

/// The maximum number of full files of sums that are kept (see [`AuditFiles`](super::AuditFiles)).
const MAX_KEPT_SUMS: NonZeroU32 = NonZeroU32::new(4).expect("4 is not 0");

impl Default for AuditFileOptions {
    fn default() -> Self {
        Self {
            queue: NonZeroUsize::new(8192).expect("8192 is not 0"),
            rotate_at: 100 * 1024 * 1024,
            keep: NonZeroU32::new(20).expect("20 is not 0"),
            fsync: Fsync::EverySeconds(NonZeroU32::MIN),
            clock: Arc::new(SystemClock),
            lines: Lines::Record,
            format: AuditFormat::JsonLines,
        }
    }
}

impl AuditFileOptions {
    /// Sets how many records can wait for the writer. Further records are dropped and counted. The queue uses memory
    /// only for the records that wait.
    #[must_use]
    pub fn with_queue_capacity(self, records: NonZeroUsize) -> Self {
        Self { queue: records, ..self }
    }

    /// Sets the size in bytes at which the file rotates. The last line can make a file longer than this size. A file
    /// can become even longer if a rotation fails, or while another process also appends to it
    /// ([`AuditFile::share`](super::AuditFile::share)).
    #[must_use]
    pub fn with_rotate_at(self, bytes: u64) -> Self {
        Self { rotate_at: bytes, ..self }
    }

    /// Sets how many full files are kept in addition to the current file. Their names end with a number:
    /// `audit.jsonl.1` is the newest full file of `audit.jsonl`.
    #[must_use]
    pub fn with_kept_files(self, files: NonZeroU32) -> Self {
        Self { keep: files, ..self }
    }

    /// Sets when the file is synced.
    #[must_use]
    pub fn with_fsync(self, fsync: Fsync) -> Self {
        Self { fsync, ..self }
    }

    /// Sets the format of the lines.
    #[must_use]
    pub fn with_format(self, format: AuditFormat) -> Self {
        Self { format, ..self }
    }

    pub(super) fn summed_up(self) -> Self {
        Self { lines: Lines::Sum, keep: self.keep.min(MAX_KEPT_SUMS), ..self }
    }

    /// Sets the clock for the lines that report dropped records.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }
}

impl AuditFormat {
    pub(super) fn write_record(&self, record: &AuditRecord, bytes: &mut Vec<u8>) {
        match self {
            Self::JsonLines => record.write_json(bytes),
            Self::Cef(device) => device.write_record(record, None, bytes),
        }
    }

    /// Writes a line that describes `count` requests. `first` is the record of the first of these requests.
    pub(super) fn write_sum(&self, first: &AuditRecord, count: u64, bytes: &mut Vec<u8>) {
        match self {
            Self::JsonLines => first.write_sum(count, bytes),
            Self::Cef(device) => device.write_record(first, Some(count), bytes),
        }
    }

    /// Writes a line that reports `count` dropped records.
    pub(super) fn write_gap(&self, time: Timestamp, count: u64, bytes: &mut Vec<u8>) {
        match self {
            Self::JsonLines => {
                let mut line = Object::begin(bytes);
                line.plain("time", time);
                line.plain("event", "dropped");
                line.number("count", count);
                line.end();
            }
            Self::Cef(device) => device.write_gap(time, count, bytes),
        }
    }
}
