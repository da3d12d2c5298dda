//! The sink that writes JSON lines to a file.

use std::{
    fmt, io,
    num::{NonZeroU32, NonZeroUsize},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
        mpsc::{self, Receiver, SyncSender},
    },
    thread::{self, JoinHandle, Thread},
};

use super::{AuditRecord, AuditSink, writer::Writer};
use crate::clock::{Clock, SystemClock};

/// When what is written is made to survive the machine, with `fdatasync`. Until then it survives the
/// process alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
/// So the log takes some 2 GiB at the most: what [`rotate_at`](Self::rotate_at) says, times
/// [`keep`](Self::keep) and one. Older records are gone, and requests without any credential make
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
    pub fn queue(self, records: NonZeroUsize) -> Self {
        Self { queue: records, ..self }
    }

    /// No file grows over so many bytes, save by what is written at a time: up to 64 KiB, and no
    /// more than this, and one line.
    #[must_use]
    pub fn rotate_at(self, bytes: u64) -> Self {
        Self { rotate_at: bytes, ..self }
    }

    /// So many full files are kept beside the one that is written to: `audit.jsonl.1` is the
    /// youngest of them.
    #[must_use]
    pub fn keep(self, files: NonZeroU32) -> Self {
        Self { keep: files, ..self }
    }

    /// When to sync.
    #[must_use]
    pub fn fsync(self, fsync: Fsync) -> Self {
        Self { fsync, ..self }
    }

    /// Takes the time of the lines that tell of gaps from `clock`.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }
}

/// Writes each record as one line of JSON, in UTF-8, from a thread of its own.
///
/// - To take a record never waits, neither for the disk nor for the writer: a record that finds no
///   room in the queue is dropped, and counted. Once there is room again, a line
///   `{"time":…,"event":"dropped","count":n}` stands where the gap is.
/// - The writer looks into the queue every 50 ms, and at once when it is half full. So the process
///   loses that much when it is killed; [`close`](Self::close), and the drop of the sink, write what
///   is there.
/// - A file that is full is renamed, see [`AuditFileOptions::keep`]. What cannot be written, to a
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
    fn is_able(&self) -> bool {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        self.queue.is_able() && writer.as_ref().is_some_and(|writer| !writer.is_finished())
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
    pub(super) fn is_able(&self) -> bool {
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
