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

/// Writes each record as one line of JSON, in UTF-8, from a thread of its own.
///
/// - To take a record never waits, neither for the disk nor for the writer: a record that finds no
///   room in the queue is dropped, and counted. Once there is room again, a line
///   `{"time":…,"event":"dropped","count":n}` stands where the gap is.
/// - The writer looks into the queue every 50 ms, and at once when it is half full. So the process
///   loses that much when it is killed; [`close`](Self::close), and the drop of the sink, write what
///   is there.
/// - A file that is full is renamed, see [`AuditFileOptions::with_kept_files`]. What cannot be written, to a
///   disk that is full, say, is tried again every second, and the log says so once a minute.
/// - The file is made for its owner alone (mode 0600), and is locked: a second process that opens it
///   gets an error. A line that a crash has torn is ended first, and stays as it is.
///
/// Reading the file needs no care but for that. Whoever wants to rotate by other means copies and
/// truncates.
pub struct AuditFile {
    path: PathBuf,
    queue: Queue,
    wake: Thread,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl AuditFile {
    /// Opens the file at `path`, or makes it, and starts the writer. Blocks, as files do.
    ///
    /// # Errors
    /// [`AuditFileError`]: whoever is to be audited does not start without.
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

    /// Where it writes.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many records were lost so far: there was no room, or no more after
    /// [`close`](Self::close).
    pub fn dropped(&self) -> u64 {
        self.queue.shared.dropped.load(SeqCst)
    }

    /// How many records were written so far.
    pub fn written(&self) -> u64 {
        self.queue.shared.written.load(SeqCst)
    }

    /// How often writing, syncing or rotating has failed so far.
    pub fn write_errors(&self) -> u64 {
        self.queue.shared.write_errors.load(SeqCst)
    }

    /// Writes what is there and ends the writer; what comes later is dropped, and counted. Blocks
    /// until it is done: the disk is tried once more, not longer.
    pub fn close(&self) {
        self.queue.shared.closed.store(true, SeqCst);
        self.wake.unpark();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if writer.is_some_and(|writer| writer.join().is_err()) {
            tracing::error!(path = %self.path.display(), "the writer of the audit log has panicked");
        }
    }
}

impl AuditSink for AuditFile {
    fn record(&self, record: AuditRecord) {
        if let Put::HalfFull = self.queue.put(record) {
            self.wake.unpark();
        }
    }

    /// Not while the file does not take what was to be written last, the queue is full, or the
    /// writer has ended.
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

/// The audit file cannot be written to.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot write the audit log to {}: {source}; name a file in a folder that this user may write to",
    path.display()
)]
pub struct AuditFileError {
    path: PathBuf,
    source: io::Error,
}

impl AuditFileError {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
