//! The sink that writes JSON lines to a file.

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

/// A sink that writes each record as one line of JSON in UTF-8, from a thread of its own.
///
/// - [`record`](AuditSink::record) never waits. If the queue is full, the record is dropped and
///   counted. Once there is room again, a line `{"time":…,"event":"dropped","count":n}` is written in
///   the place of the dropped records.
/// - The writer reads the queue every 50 ms, or as soon as it is half full. A process that is killed
///   loses the records in the queue. [`close`](Self::close) and dropping the sink write them.
/// - A file that is full is renamed, see [`AuditFileOptions::with_kept_files`]. If a write fails, for
///   example because the disk is full, it is repeated every second, and logged once a minute.
/// - The file has mode 0600 and is locked: a second process that opens it gets an error. If a crash
///   left an incomplete last line, it is ended with a newline and otherwise kept, so a reader must
///   expect a line that is not JSON.
///
/// Other tools that rotate the file must copy and truncate it.
pub struct AuditFile {
    path: PathBuf,
    queue: Queue,
    wake: Thread,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl AuditFile {
    /// Opens or creates the file at `path` and starts the writer. It blocks on file operations.
    ///
    /// # Errors
    /// [`AuditFileError`] if the file cannot be opened, locked or written. Do not continue without it
    /// if an audit log is required.
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

    /// The path of the current file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The number of lost records so far: the queue was full, or the sink was
    /// [closed](Self::close).
    pub fn dropped(&self) -> u64 {
        self.queue.shared.dropped.load(SeqCst)
    }

    /// The number of written records so far.
    pub fn written(&self) -> u64 {
        self.queue.shared.written.load(SeqCst)
    }

    /// The number of failed writes, syncs and rotations so far.
    pub fn write_errors(&self) -> u64 {
        self.queue.shared.write_errors.load(SeqCst)
    }

    /// Writes the waiting records and stops the writer. It blocks until that is done; a failing write
    /// is repeated once. Later records are dropped and counted.
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

    /// `false` while the last write fails or the queue is full, and after the writer has stopped.
    fn is_available(&self) -> bool {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        self.queue.is_available() && writer.as_ref().is_some_and(|writer| !writer.is_finished())
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

/// The audit file cannot be opened or written.
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
    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
