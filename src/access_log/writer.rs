//! The thread that writes the access log.

use std::{
    fs::{File, TryLockError},
    io::{self, ErrorKind, Read, Seek, SeekFrom, Write},
    sync::{Arc, atomic::Ordering::SeqCst, mpsc::Receiver},
    thread,
    time::{Duration, Instant},
};

use super::{entry::Entry, state::State};
use crate::audit::{LineBatch, Links, is_at, make_room, open_shared};

/// How long the thread sleeps after it has found no request, unless it is woken.
const IDLE_PAUSE: Duration = Duration::from_millis(100);

/// How long the thread sleeps after it has written lines. A short pause keeps the batches short. While the thread
/// writes a long batch, requests on the same processor core must wait. After a short pause, the entries are also still
/// in the cache of the processor.
const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// The thread writes a batch when the batch has at least this number of bytes, or when the queue is empty.
const BATCH: usize = 64 * 1024;

const RETRY: Duration = Duration::from_secs(1);

/// The time between two checks whether the file at the path is still the open file.
const CHECK: Duration = Duration::from_secs(1);

/// The time between two reads of an incomplete last line, which another process may still be writing.
const LOOK: Duration = Duration::from_millis(5);

/// If the line has not changed after this number of reads, the writer assumes that no process is writing the line. The
/// reads take 0.5 seconds in total. A much shorter time would be wrong, because the kernel may stop a process within a
/// write for 0.2 seconds.
const LOOKS: u32 = 100;

const LOG_INTERVAL: Duration = Duration::from_secs(60);

pub(super) struct Writer {
    entries: Receiver<Box<Entry>>,
    state: Arc<State>,
    file: File,
    /// Whether the file may end with an incomplete line. This is `true` until the first write to the file.
    must_check_end: bool,
    batch: LineBatch,
    /// The number of dropped lines that a line in the file or a log message has already reported.
    reported: u64,
    /// The time when a failed write is repeated. `None` if the last write did not fail.
    retry_at: Option<Instant>,
    /// When the last error was logged.
    logged: Option<Instant>,
    /// When the file at the path was last compared with the open file.
    checked: Instant,
    /// Whether the open file was renamed or removed, and no file could be opened at the path.
    is_lost: bool,
}

impl Writer {
    pub(super) fn open(entries: Receiver<Box<Entry>>, state: Arc<State>) -> io::Result<Self> {
        // Nothing is written here, so that a full disk does not prevent a start.
        let (file, _) = open_shared(&state.path, Links::Follow)?;
        Ok(Self {
            entries,
            state,
            file,
            must_check_end: true,
            batch: LineBatch::default(),
            reported: 0,
            retry_at: None,
            logged: None,
            checked: Instant::now(),
            is_lost: false,
        })
    }

    pub(super) fn run(mut self) {
        loop {
            let is_closing = self.state.is_closed.load(SeqCst);
            if is_closing {
                self.retry_at = None;
            }
            self.follow_path();
            let has_taken = self.write_waiting();
            if !is_closing {
                thread::park_timeout(if has_taken { BUSY_PAUSE } else { IDLE_PAUSE });
                continue;
            }
            if self.is_lost || self.retry_at.is_some() {
                self.give_up();
            }
            // If `waiting` is not 0, another thread is about to add a request to the queue.
            if self.state.waiting.load(SeqCst) == 0 {
                return;
            }
            thread::yield_now();
        }
    }

    /// Writes all waiting lines. Stops if a write fails. Returns whether it has taken requests from the queue.
    fn write_waiting(&mut self) -> bool {
        let format = self.state.options.format;
        let (mut was_full, mut has_taken) = (true, false);
        // The loop ends after a batch that is not full. The lines of later requests are then written together by the
        // next call.
        while self.write_batch() && was_full {
            let dropped = self.state.dropped.load(SeqCst);
            let mut taken = 0;
            while self.batch.len() < BATCH
                && let Ok(entry) = self.entries.try_recv()
            {
                taken += 1;
                format.write(&entry, self.batch.line_of(1));
            }
            self.state.waiting.fetch_sub(taken, SeqCst);
            has_taken |= taken > 0;
            was_full = self.batch.len() >= BATCH;
            if !was_full && dropped > self.reported {
                let now = self.state.options.clock.now();
                format.write_gap(now, dropped - self.reported, self.batch.line_of(0));
                self.reported = dropped;
            }
        }
        has_taken
    }

    /// Writes the batch. Returns whether it is written completely.
    fn write_batch(&mut self) -> bool {
        if self.batch.is_empty() {
            return true;
        }
        // Lines in a removed file would be lost, so the batch waits.
        if self.is_lost || self.retry_at.is_some_and(|at| Instant::now() < at) {
            return false;
        }
        // If a part of the batch is already in the file, a rotation could divide a line between two files. So the file
        // is then not rotated.
        if self.batch.written() == 0
            && let Err(error) = self.rotate_when_full()
        {
            // A file that is too long is better than a lost line.
            self.report("rotate", &error);
        }
        match self.end_last_line().and_then(|()| self.batch.write_to(&mut self.file)) {
            Ok(()) => {
                self.state.written.fetch_add(self.batch.clear(), SeqCst);
                self.retry_at = None;
                self.state.is_stuck.store(false, SeqCst);
                true
            }
            Err(error) => {
                self.report("write", &error);
                self.retry_at = Some(Instant::now() + RETRY);
                self.state.is_stuck.store(true, SeqCst);
                false
            }
        }
    }

    /// If another program has renamed or removed the open file, opens the file at the path. Checks this once per
    /// [`CHECK`], and after [`AccessLog::reopen`](super::AccessLog::reopen).
    fn follow_path(&mut self) {
        let must_reopen = self.state.must_reopen.swap(false, SeqCst);
        if !must_reopen && self.checked.elapsed() < CHECK {
            return;
        }
        self.checked = Instant::now();
        if is_at(&self.file, &self.state.path) {
            // If `is_lost`, the open file was moved away from the path, and is now at the path again.
            if self.is_lost {
                self.end_outage();
            }
            return;
        }
        match open_shared(&self.state.path, Links::Refuse) {
            Ok((file, _)) => {
                self.batch.begin_in_new_file();
                self.use_file(file);
                self.end_outage();
                tracing::info!(path = %self.state.path.display(), "access log: the file was renamed or removed; opened a new one");
            }
            Err(error) => {
                self.report("reopen", &error);
                self.is_lost = true;
                self.state.is_stuck.store(true, SeqCst);
            }
        }
    }

    fn end_outage(&mut self) {
        self.is_lost = false;
        self.retry_at = None;
        self.state.is_stuck.store(false, SeqCst);
    }

    /// Rotates the file if the batch would make it too long. If several processes write to the same file, only one of
    /// them rotates it.
    fn rotate_when_full(&mut self) -> io::Result<()> {
        let (len, added) = (self.file.metadata()?.len(), self.batch.len() as u64);
        if len == 0 || len.saturating_add(added) <= self.state.options.rotate_at {
            return Ok(());
        }
        match self.file.try_lock() {
            Ok(()) => {}
            // Another process has the lock, and rotates the file now.
            Err(TryLockError::WouldBlock) => return Ok(()),
            // Some file systems do not support locks.
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Another process may have rotated the file before this process got the lock.
        let path = &self.state.path;
        let rotated = match is_at(&self.file, path) {
            true => make_room(path, self.state.options.keep),
            false => Ok(()),
        };
        match rotated.and_then(|()| open_shared(path, Links::Refuse)) {
            Ok((file, _)) => {
                // The old file is closed here, which also unlocks it.
                self.use_file(file);
                Ok(())
            }
            Err(error) => {
                let _ = self.file.unlock();
                Err(error)
            }
        }
    }

    /// Replaces the open file by `file`. The batch must begin with a whole line. So either no part of the batch was
    /// written, or the caller has called [`LineBatch::begin_in_new_file`].
    fn use_file(&mut self, file: File) {
        self.file = file;
        self.must_check_end = true;
    }

    /// Before the first write to a file, ends the last line if a crash or a full disk has left it incomplete.
    fn end_last_line(&mut self) -> io::Result<()> {
        if self.must_check_end && ends_in_line(&mut self.file, || thread::sleep(LOOK))? {
            self.file.write_all(b"\n")?;
        }
        self.must_check_end = false;
        Ok(())
    }

    /// Drops and counts the waiting lines, because the log is being closed and they cannot be written.
    fn give_up(&mut self) {
        let mut lost = self.batch.clear();
        while self.entries.try_recv().is_ok() {
            self.state.waiting.fetch_sub(1, SeqCst);
            lost += 1;
        }
        self.state.dropped.fetch_add(lost, SeqCst);
        self.reported += lost;
        tracing::error!(path = %self.state.path.display(), lost, "access log: lines lost, because the file could not be written before shutdown");
    }

    fn report(&mut self, operation: &'static str, error: &io::Error) {
        let errors = self.state.write_errors.fetch_add(1, SeqCst) + 1;
        if self.logged.is_none_or(|last| last.elapsed() >= LOG_INTERVAL) {
            self.logged = Some(Instant::now());
            let path = self.state.path.display();
            tracing::error!(%path, operation, %error, errors, "the access log cannot be written; check the disk and the permissions of the file");
        }
    }
}

/// Returns whether the last line of the file is incomplete, and no process is writing it. While another process writes
/// lines, a reader may see only a part of them. So the line counts as incomplete only if the file does not change for
/// half a second. The function calls `pause` between two reads.
fn ends_in_line(file: &mut File, mut pause: impl FnMut()) -> io::Result<bool> {
    let (mut len, mut last) = end(file)?;
    let mut unchanged = 0;
    while last != b'\n' && unchanged < LOOKS {
        pause();
        let before = len;
        (len, last) = end(file)?;
        unchanged = if len == before { unchanged + 1 } else { 0 };
    }
    Ok(last != b'\n')
}

/// Returns the length of a file and its last byte. The last byte of an empty file counts as a newline.
fn end(file: &mut File) -> io::Result<(u64, u8)> {
    let len = file.seek(SeekFrom::End(0))?;
    let mut last = *b"\n";
    if len > 0 {
        file.seek(SeekFrom::Start(len - 1))?;
        // If another program has just emptied the file, `read` reads nothing, and `last` stays a newline.
        let _ = file.read(&mut last)?;
    }
    Ok((len, last[0]))
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::mpsc::sync_channel};

    use super::*;
    use crate::access_log::AccessLogOptions;

    fn writer(content: &str) -> (tempfile::TempDir, std::path::PathBuf, Writer) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.jsonl");
        fs::write(&path, content).unwrap();
        let state = State::new(path.clone(), AccessLogOptions::default());
        let (_, entries) = sync_channel(1);
        let writer = Writer::open(entries, Arc::new(state)).unwrap();
        (directory, path, writer)
    }

    #[test]
    fn a_line_that_is_partly_in_a_removed_file_is_written_to_the_new_file() {
        let (_directory, path, mut writer) = writer("");
        writer.batch.line_of(3).extend_from_slice(b"one\ntwo\nthree\n");
        // The disk was full after the first line and a part of the second line.
        let mut disk = [0; 6];
        assert!(writer.batch.write_to(&mut &mut disk[..]).is_err());
        writer.retry_at = Some(Instant::now() + RETRY);
        fs::remove_file(&path).unwrap();
        writer.state.must_reopen.store(true, SeqCst);
        writer.follow_path();
        assert!(writer.write_batch());
        assert_eq!(fs::read_to_string(&path).unwrap(), "two\nthree\n");
    }

    #[test]
    fn the_log_is_healthy_again_when_the_open_file_is_at_its_path_again() {
        let (directory, path, mut writer) = writer("");
        let mut follow = || {
            writer.state.must_reopen.store(true, SeqCst);
            writer.follow_path();
            (writer.is_lost, writer.state.is_stuck.load(SeqCst))
        };
        let away = directory.path().join("away");
        fs::rename(&path, &away).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(follow(), (true, true));
        fs::remove_dir(&path).unwrap();
        fs::rename(&away, &path).unwrap();
        assert_eq!(follow(), (false, false));
        // After a failed write, the log is not healthy until a write succeeds, although the file is at its path.
        writer.state.is_stuck.store(true, SeqCst);
        writer.state.must_reopen.store(true, SeqCst);
        writer.follow_path();
        assert!(writer.state.is_stuck.load(SeqCst));
    }

    #[test]
    fn a_line_that_another_process_is_writing_counts_as_complete() {
        for (parts, want) in [
            (&["half a", " line", "\n"][..], false),
            (&["half a", " line"], true),
            (&["half a", "\nnext ", "line", "\n"], false),
            (&["whole\n"], false),
            (&[], false),
        ] {
            let (_directory, path, mut writer) = writer(parts.first().unwrap_or(&""));
            let mut other = fs::OpenOptions::new().append(true).open(&path).unwrap();
            let mut later = parts.iter().skip(1);
            let mut pauses = 0;
            let write_later = || {
                pauses += 1;
                // The other process writes each part just before the line would count as incomplete.
                if pauses % (LOOKS - 1) == 0
                    && let Some(part) = later.next()
                {
                    other.write_all(part.as_bytes()).unwrap();
                }
            };
            assert_eq!(ends_in_line(&mut writer.file, write_later).unwrap(), want, "{parts:?}");
        }
    }

    #[test]
    fn an_incomplete_last_line_ends_with_the_first_write() {
        for (content, want) in [("", "line\n"), ("old\n", "old\nline\n"), ("ol", "ol\nline\n")] {
            let (_directory, path, mut writer) = writer(content);
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
            writer.batch.line_of(1).extend_from_slice(b"line\n");
            assert!(writer.write_batch());
            assert_eq!(fs::read_to_string(&path).unwrap(), want);
        }
    }
}
