//! An audit sink that writes lines to a file, in JSON or in the Common Event Format.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError, atomic::Ordering::SeqCst},
    thread::{self, JoinHandle, Thread},
};

use super::{
    options::AuditFileOptions,
    queue::{Put, Queue},
    record::AuditRecord,
    sink::AuditSink,
    writer::Writer,
};
use crate::{
    health::Health,
    metrics::{Collect, Description, Exposition},
};

const WRITTEN: Description = Description::counter(
    "passticket_audit_records_written_total",
    "Audit records that were written.",
);
const DROPPED: Description = Description::counter(
    "passticket_audit_records_dropped_total",
    "Audit records that were lost, because the queue was full or the file could not be written.",
);
const WRITE_ERRORS: Description = Description::counter(
    "passticket_audit_write_errors_total",
    "Failed writes, syncs and rotations of the audit file.",
);

pub(super) const METRICS: [(Description, fn(&AuditFile) -> u64); 3] = [
    (WRITTEN, AuditFile::written),
    (DROPPED, AuditFile::dropped),
    (WRITE_ERRORS, AuditFile::write_errors),
];

/// A sink that writes each record as one line of UTF-8 text. By default, the line is JSON (see
/// [`AuditFileOptions::with_format`]). A writer thread takes the records from a queue and writes them.
///
/// - [`record`](AuditSink::record) puts a record into the queue and never waits. If the queue is full, the record is
///   dropped and counted. When there is room again, the writer writes a line in the place of the dropped records. In
///   JSON, this line is `{"time":…,"event":"dropped","count":n}`.
/// - The writer reads the queue every 5 ms while records arrive, every 50 ms otherwise, and as soon as the queue is
///   half full. If the process is killed (`kill -9`), the records in the queue are lost, and no line counts them.
///   Usually, these are the records of the last 50 ms. Under load, they can be as many as fit into the queue. When the
///   sink is [closed](Self::close) or dropped, it writes the records in the queue.
/// - When the file reaches its maximum size, it is renamed and a new file is started (see
///   [`AuditFileOptions::with_kept_files`]). If a write fails, for example because the disk is full, it is repeated
///   every second. The error is logged at most once a minute.
/// - A new file has mode 0600. If the file system supports locks, the file is locked, and a second sink that opens the
///   file gets an error. If a crash has left an incomplete last line, the sink ends this line when it opens the file.
///   So a reader must expect lines that are not JSON.
///
/// If another program, such as logrotate, renames or removes the file, the sink notices this within about a second and
/// opens a new file at the path. If the file was removed, the records of this second are lost. If the new file cannot
/// be opened, the records wait in the queue. The path may be a symbolic link when the sink is opened, but not when the
/// sink later opens a new file.
pub struct AuditFile {
    path: PathBuf,
    queue: Queue,
    wake: Thread,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl AuditFile {
    /// Opens or creates the file at `path` and starts the writer thread. This call blocks while it works on the file.
    ///
    /// # Errors
    /// [`AuditFileError`] if the file cannot be opened, locked or written, or if the writer thread cannot be started.
    /// If an audit log is required, the program should stop after this error.
    pub fn open(
        path: impl Into<PathBuf>,
        options: AuditFileOptions,
    ) -> Result<Self, AuditFileError> {
        let path = path.into();
        let error = |source| AuditFileError { path: path.clone(), source };
        let (queue, records) = Queue::new(options.queue);
        let writer = Writer::open(&path, options, records, queue.shared.clone()).map_err(error)?;
        let writer = thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.run())
            .map_err(error)?;
        let wake = writer.thread().clone();
        Ok(Self { path, queue, wake, writer: Mutex::new(Some(writer)) })
    }

    /// Returns the path of the current file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the number of dropped records so far. A record is dropped in four cases: the queue is full, the sink was
    /// [closed](Self::close) before, the writer thread has ended, or writing fails while the sink is being closed.
    pub fn dropped(&self) -> u64 {
        self.queue.shared.dropped.load(SeqCst)
    }

    /// Returns the number of written records so far.
    pub fn written(&self) -> u64 {
        self.queue.shared.written.load(SeqCst)
    }

    /// Returns the number of failed writes, syncs and rotations so far.
    pub fn write_errors(&self) -> u64 {
        self.queue.shared.write_errors.load(SeqCst)
    }

    /// Returns whether the last write has succeeded and the writer thread runs. A full queue does not change this
    /// result.
    pub fn health(&self) -> Health {
        let path = self.path.display();
        if self.has_ended() {
            let remedy = "restart the program and report what its log says";
            Health::down(format!("the thread that writes {path} has ended; {remedy}"))
        } else if self.queue.shared.is_stuck.load(SeqCst) {
            let remedy = "check free space and permissions";
            Health::down(format!("{path} could not be written; {remedy}; the log has the error"))
        } else {
            Health::Up
        }
    }

    /// Unlocks the file, so that another process can open it and append to it. This sink continues to append whole
    /// lines, but does not rotate the file. The writer thread unlocks the file shortly after this call.
    pub fn share(&self) {
        self.queue.shared.is_shared.store(true, SeqCst);
        self.wake.unpark();
    }

    /// Ends [`share`](Self::share). Call this function when the other process has ended. The writer thread locks the
    /// file again as soon as possible.
    pub fn unshare(&self) {
        self.queue.shared.is_shared.store(false, SeqCst);
        self.wake.unpark();
    }

    /// Returns whether the writer thread has ended. The thread ends after [`close`](Self::close), or because of a
    /// defect of the program. Without the thread, the sink writes nothing.
    pub fn has_ended(&self) -> bool {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Writes the waiting records and stops the writer thread. This call blocks until the thread has ended. Drops and
    /// counts waiting records that cannot be written, and all later records.
    pub fn close(&self) {
        self.queue.shared.closed.store(true, SeqCst);
        self.wake.unpark();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if writer.is_some_and(|writer| writer.join().is_err()) {
            tracing::error!(path = %self.path.display(), "the writer thread of the audit log panicked; its last records may be lost");
        }
    }
}

impl AuditSink for AuditFile {
    fn record(&self, record: AuditRecord) {
        if let Put::HalfFull = self.queue.put(record) {
            self.wake.unpark();
        }
    }

    /// Returns `false` if the last write failed, if the queue is full, or if the writer thread has stopped.
    fn is_available(&self) -> bool {
        self.queue.is_available() && !self.has_ended()
    }
}

impl Collect for AuditFile {
    fn collect(&self, exposition: &mut Exposition) {
        for (metric, value) in METRICS {
            exposition.value(&metric, value(self));
        }
    }
}

impl Drop for AuditFile {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for AuditFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditFile")
            .field("path", &self.path)
            .field("written", &self.written())
            .field("dropped", &self.dropped())
            .finish_non_exhaustive()
    }
}

/// The audit file cannot be opened or written, or its writer thread cannot be started.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot write the audit log to {}: {source}; name a file in a directory that this user may write to",
    path.display()
)]
pub struct AuditFileError {
    path: PathBuf,
    source: io::Error,
}

impl AuditFileError {
    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether another process, or another sink of this process, has locked the file.
    pub fn is_busy(&self) -> bool {
        self.source.kind() == io::ErrorKind::ResourceBusy
    }
}
