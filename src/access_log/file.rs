//! The handle to the file of the access log.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::Ordering::SeqCst,
        mpsc::{SyncSender, sync_channel},
    },
    thread::{self, JoinHandle, Thread},
};

use super::{entry::Entry, options::AccessLogOptions, state::State, writer::Writer};
use crate::{
    clock::Clock,
    health::Health,
    log_limit::log_limited,
    metrics::{Collect, Description, Exposition},
};

const WRITTEN: Description = Description::counter(
    "passticket_access_log_written_total",
    "Lines of the access log that were written.",
);
const DROPPED: Description = Description::counter(
    "passticket_access_log_dropped_total",
    "Lines of the access log that were lost, because the queue was full or the file could not be written.",
);
const WRITE_ERRORS: Description = Description::counter(
    "passticket_access_log_write_errors_total",
    "Failed writes and rotations of the access log.",
);

/// A file with one line for each request. Clones are handles to the same file.
///
/// - A thread writes the lines. A request never waits for the thread. If the queue is full, the line is dropped and
///   counted. When there is room again, the thread writes a line that reports the number of dropped lines.
/// - The thread reads the queue every 5 ms while requests arrive, and otherwise every 100 ms. When the last handle is
///   dropped, or [`close`](Self::close) is called, the thread writes the lines in the queue. If the process is killed,
///   these lines are lost.
/// - When the file reaches its maximum size, the thread renames it and starts a new file. If another program renames or
///   removes the file, for example logrotate, the thread opens a new file within a second, or immediately after
///   [`reopen`](Self::reopen).
/// - A new file has mode 0600. Several processes can append to the same file. Each process appends whole lines, unless
///   a write fails in the middle, for example because the disk is full.
#[derive(Clone)]
pub struct AccessLog(Arc<Handle>);

struct Handle {
    entries: SyncSender<Box<Entry>>,
    state: Arc<State>,
    wake: Thread,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl AccessLog {
    /// Opens or creates the file at `path`, and starts the thread that writes. This call blocks, because it opens the
    /// file.
    ///
    /// # Errors
    /// [`AccessLogError`] if the file cannot be opened, or if the thread cannot be started.
    pub fn open(
        path: impl Into<PathBuf>,
        options: AccessLogOptions,
    ) -> Result<Self, AccessLogError> {
        let path = path.into();
        let error = |source| AccessLogError { path: path.clone(), source };
        let (entries, received) = sync_channel(options.queue.get());
        let state = Arc::new(State::new(path.clone(), options));
        let writer = Writer::open(received, state.clone()).map_err(error)?;
        let writer = thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || writer.run())
            .map_err(error)?;
        let wake = writer.thread().clone();
        Ok(Self(Arc::new(Handle { entries, state, wake, writer: Mutex::new(Some(writer)) })))
    }

    /// Returns the path of the current file.
    pub fn path(&self) -> &Path {
        &self.0.state.path
    }

    /// Returns the number of lines that were written.
    pub fn written(&self) -> u64 {
        self.0.state.written.load(SeqCst)
    }

    /// Returns the number of lines that were lost.
    pub fn dropped(&self) -> u64 {
        self.0.state.dropped.load(SeqCst)
    }

    /// Returns [`Health::Up`] while the thread runs, the last write did not fail, and the file at the path could be
    /// opened. A full queue only increases [`dropped`](Self::dropped).
    pub fn health(&self) -> Health {
        let path = self.path().display();
        let has_ended = self.writer().as_ref().is_none_or(JoinHandle::is_finished);
        if has_ended {
            let remedy = "restart the program and report what its log says";
            Health::down(format!("the thread that writes {path} has ended; {remedy}"))
        } else if self.0.state.is_stuck.load(SeqCst) {
            let remedy = "check free space and permissions";
            Health::down(format!("{path} could not be written; {remedy}; the log has the error"))
        } else {
            Health::Up
        }
    }

    /// Wakes the thread. If another program has renamed or removed the open file, the thread then opens the file at the
    /// path again.
    pub fn reopen(&self) {
        self.0.state.must_reopen.store(true, SeqCst);
        self.0.wake.unpark();
    }

    /// Writes the lines in the queue, and stops the thread. The first call blocks until the thread has ended. Lines
    /// that cannot be written are dropped and counted. Lines of requests that end after this call are also dropped and
    /// counted.
    pub fn close(&self) {
        self.0.state.is_closed.store(true, SeqCst);
        self.0.wake.unpark();
        let writer = self.writer().take();
        if writer.is_some_and(|writer| writer.join().is_err()) {
            tracing::error!(path = %self.path().display(), "the thread that writes the access log panicked; its last lines may be lost");
        }
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.0.state.options.clock
    }

    /// Adds a request to the queue. Never waits.
    pub(super) fn put(&self, entry: Box<Entry>) {
        let Handle { entries, state, wake, .. } = &*self.0;
        let before = state.waiting.fetch_add(1, SeqCst);
        // Sending does not wake the thread, because the thread polls the channel. The last branch wakes the thread when
        // the queue is half full.
        if state.is_closed.load(SeqCst) || entries.try_send(entry).is_err() {
            state.waiting.fetch_sub(1, SeqCst);
            let dropped = state.dropped.fetch_add(1, SeqCst) + 1;
            let path = state.path.display();
            log_limited!(warn, "access log", { %path, dropped }, "access log: lines lost, because the file is not written fast enough");
        } else if before + 1 == state.options.queue.get().div_ceil(2) {
            wake.unpark();
        }
    }

    fn writer(&self) -> std::sync::MutexGuard<'_, Option<JoinHandle<()>>> {
        self.0.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Handle {
    /// Wakes the thread, which writes the lines in the queue and ends. Does not wait for the thread, because the last
    /// handle may be dropped within a request, which must not block.
    fn drop(&mut self) {
        self.state.is_closed.store(true, SeqCst);
        self.wake.unpark();
    }
}

impl Collect for AccessLog {
    fn collect(&self, exposition: &mut Exposition) {
        exposition.value(&WRITTEN, self.written());
        exposition.value(&DROPPED, self.dropped());
        exposition.value(&WRITE_ERRORS, self.0.state.write_errors.load(SeqCst));
    }
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessLog").field("path", &self.path()).finish_non_exhaustive()
    }
}

/// The file of the access log cannot be opened, or its thread cannot be started.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot write the access log to {}: {source}; name a file in a directory that this user may write to",
    path.display()
)]
pub struct AccessLogError {
    path: PathBuf,
    source: io::Error,
}

impl AccessLogError {
    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
