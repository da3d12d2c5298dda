//! The thread behind [`AuditFile`](super::AuditFile).

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, ErrorKind, Read, Seek, SeekFrom, Write},
    mem,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering::SeqCst, mpsc::Receiver},
    thread,
    time::{Duration, Instant},
};

use super::{
    line::Object,
    options::{AuditFileOptions, Fsync},
    queue::Shared,
    record::AuditRecord,
    rotation,
};
use crate::clock::Timestamp;

/// How long the writer sleeps unless it is woken.
const PAUSE: Duration = Duration::from_millis(50);

/// The most bytes in one write, except for the last line.
const BATCH: usize = 64 * 1024;

/// The time before a failed write is repeated.
const RETRY: Duration = Duration::from_secs(1);

/// The least time between two log messages about errors.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

pub(super) struct Writer {
    path: PathBuf,
    options: AuditFileOptions,
    records: Receiver<AuditRecord>,
    shared: Arc<Shared>,
    file: File,
    len: u64,
    batch: Batch,
    /// How many dropped records have been reported by a line in the file.
    reported: u64,
    synced: Instant,
    is_dirty: bool,
    retry_at: Option<Instant>,
    logged: Option<Instant>,
}

impl Writer {
    pub(super) fn open(
        path: &Path,
        options: AuditFileOptions,
        records: Receiver<AuditRecord>,
        shared: Arc<Shared>,
    ) -> io::Result<Self> {
        let (file, len) = open(path)?;
        Ok(Self {
            path: path.to_owned(),
            options,
            records,
            shared,
            file,
            len,
            batch: Batch::default(),
            reported: 0,
            synced: Instant::now(),
            is_dirty: false,
            retry_at: None,
            logged: None,
        })
    }

    pub(super) fn run(mut self) {
        loop {
            let closing = self.shared.closed.load(SeqCst);
            if closing {
                self.retry_at = None;
            }
            self.write_all();
            if closing {
                if self.retry_at.is_some() {
                    self.give_up();
                }
                // Otherwise a request is putting a record into the queue at this moment.
                if self.shared.waiting.load(SeqCst) == 0 {
                    break;
                }
                thread::yield_now();
            } else {
                self.sync_when_due();
                thread::park_timeout(PAUSE);
            }
        }
        if self.is_dirty && self.options.fsync != Fsync::Never {
            self.sync();
        }
    }

    /// Writes the waiting records and the lines that report dropped ones, unless a write fails.
    fn write_all(&mut self) {
        let full = BATCH.min(usize::try_from(self.options.rotate_at).unwrap_or(BATCH)).max(1);
        // A batch that failed last time is written first. After a batch that was not full, the next
        // records wait until a write is worth its cost.
        let mut is_more = true;
        while self.write_batch() && is_more {
            let dropped = self.shared.dropped.load(SeqCst);
            let mut taken = 0;
            while self.batch.bytes.len() < full
                && let Ok(record) = self.records.try_recv()
            {
                taken += 1;
                self.batch.record(&record);
            }
            self.shared.waiting.fetch_sub(taken, SeqCst);
            is_more = self.batch.bytes.len() >= full;
            // The dropped records came after those that were in the queue.
            if !is_more && dropped > self.reported {
                self.batch.gap(self.options.clock.now(), dropped - self.reported);
                self.reported = dropped;
            }
        }
    }

    /// Writes the batch. Returns whether all of it is written.
    fn write_batch(&mut self) -> bool {
        if self.batch.bytes.is_empty() {
            return true;
        }
        if self.retry_at.is_some_and(|at| Instant::now() < at) {
            return false;
        }
        let after = self.len.saturating_add(self.batch.bytes.len() as u64);
        if self.batch.at == 0 && self.len > 0 && after > self.options.rotate_at {
            // If rotation fails, a file that is too long is better than a lost record.
            if let Err(error) = self.rotate() {
                self.report_error("rotate", &error);
            }
        }
        let before = self.batch.at;
        let written = self.batch.write_to(&mut self.file);
        self.len += (self.batch.at - before) as u64;
        self.is_dirty = true;
        match written {
            Ok(()) => {
                self.shared.written.fetch_add(self.batch.clear(), SeqCst);
                self.retry_at = None;
                self.shared.is_stuck.store(false, SeqCst);
                self.sync_when_due();
                true
            }
            Err(error) => {
                self.report_error("write", &error);
                self.retry_at = Some(Instant::now() + RETRY);
                self.shared.is_stuck.store(true, SeqCst);
                false
            }
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        if self.options.fsync != Fsync::Never {
            self.file.sync_data()?;
        }
        rotation::make_room(&self.path, self.options.keep)?;
        (self.file, self.len) = open(&self.path)?;
        if self.options.fsync != Fsync::Never {
            sync_directory(&self.path)?;
        }
        Ok(())
    }

    fn sync_when_due(&mut self) {
        let due = match self.options.fsync {
            Fsync::Never => false,
            Fsync::EverySeconds(secs) => {
                self.synced.elapsed() >= Duration::from_secs(secs.get().into())
            }
            Fsync::EveryBatch => true,
        };
        if due && self.is_dirty {
            self.sync();
        }
    }

    /// If it fails, `is_dirty` stays set and the next sync tries again.
    fn sync(&mut self) {
        self.synced = Instant::now();
        match self.file.sync_data() {
            Ok(()) => self.is_dirty = false,
            Err(error) => self.report_error("sync", &error),
        }
    }

    /// Drops and counts the records that a closing writer cannot write.
    fn give_up(&mut self) {
        let mut lost = self.batch.records;
        self.batch = Batch::default();
        while self.records.try_recv().is_ok() {
            self.shared.waiting.fetch_sub(1, SeqCst);
            lost += 1;
        }
        self.shared.dropped.fetch_add(lost, SeqCst);
        self.reported += lost;
        tracing::error!(path = %self.path.display(), lost, "audit records lost: the file could not be written before shutdown");
    }

    fn report_error(&mut self, operation: &'static str, error: &io::Error) {
        let errors = self.shared.write_errors.fetch_add(1, SeqCst) + 1;
        if self.logged.is_none_or(|last| last.elapsed() >= LOG_INTERVAL) {
            self.logged = Some(Instant::now());
            let (path, dropped) = (self.path.display(), self.shared.dropped.load(SeqCst));
            tracing::error!(%path, operation, %error, errors, dropped, "the audit log cannot be written; check the disk and the permissions of the file");
        }
    }
}

/// Lines that are to be written.
#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    /// How many of the bytes are written.
    at: usize,
    records: u64,
}

impl Batch {
    fn record(&mut self, record: &AuditRecord) {
        record.write_json(&mut self.bytes);
        self.bytes.push(b'\n');
        self.records += 1;
    }

    fn gap(&mut self, time: Timestamp, count: u64) {
        let mut line = Object::begin(&mut self.bytes);
        line.plain("time", time);
        line.plain("event", "dropped");
        line.number("count", count);
        line.end();
        self.bytes.push(b'\n');
    }

    /// Writes the bytes. After an error, a second call continues where the first one stopped.
    fn write_to(&mut self, to: &mut impl Write) -> io::Result<()> {
        while self.at < self.bytes.len() {
            match to.write(&self.bytes[self.at..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => self.at += written,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Empties the batch. Returns how many records it had.
    fn clear(&mut self) -> u64 {
        self.bytes.clear();
        self.at = 0;
        mem::take(&mut self.records)
    }
}

/// Opens and locks the file for appending, and ends an incomplete last line. Returns the file and its
/// length.
fn open(path: &Path) -> io::Result<(File, u64)> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "not a regular file"));
    }
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(io::Error::new(
                ErrorKind::ResourceBusy,
                "another process writes to the file",
            ));
        }
        // Some file systems have no locks.
        Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {}
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let mut len = metadata.len();
    if len > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
            len += 1;
        }
    }
    Ok((file, len))
}

/// Makes a new file name survive a crash of the machine.
#[cfg(unix)]
fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;
    use crate::audit::{Event, queue::Queue};

    /// Accepts `room` bytes, then is full until the test makes room.
    struct Disk {
        bytes: Vec<u8>,
        room: usize,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let fits = bytes.len().min(self.room);
            if fits == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            self.bytes.extend(&bytes[..fits]);
            self.room -= fits;
            Ok(fits)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A writer for a file in `directory`, and its queue.
    fn writer(directory: &Path, options: AuditFileOptions) -> (Queue, Writer) {
        let (queue, records) = Queue::new(NonZeroUsize::new(2).unwrap());
        let shared = queue.shared.clone();
        let writer = Writer::open(&directory.join("audit.jsonl"), options, records, shared);
        (queue, writer.unwrap())
    }

    fn device(path: &str) -> File {
        OpenOptions::new().write(true).open(path).unwrap()
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_failed_sync_is_repeated() {
        let directory = tempfile::tempdir().unwrap();
        let options = AuditFileOptions::default().with_fsync(Fsync::EveryBatch);
        let (queue, mut writer) = writer(directory.path(), options);
        // /dev/null accepts writes but no sync.
        let file = mem::replace(&mut writer.file, device("/dev/null"));
        queue.put(AuditRecord::succeeded(Event::Login, Timestamp::from_secs(1)));
        writer.write_all();
        assert!(writer.is_dirty);
        assert_eq!(writer.shared.write_errors.load(SeqCst), 1);
        writer.file = file;
        writer.sync_when_due();
        assert!(!writer.is_dirty);
        assert_eq!(writer.shared.write_errors.load(SeqCst), 1);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_or_queue_makes_the_sink_unavailable() {
        let directory = tempfile::tempdir().unwrap();
        let options = AuditFileOptions::default().with_fsync(Fsync::Never);
        let (queue, mut writer) = writer(directory.path(), options);
        let record = || AuditRecord::succeeded(Event::Login, Timestamp::from_secs(1));
        let file = mem::replace(&mut writer.file, device("/dev/full"));
        assert!(queue.is_available());
        queue.put(record());
        writer.write_all();
        assert!(!queue.is_available(), "the disk is full");
        writer.file = file;
        writer.retry_at = None;
        writer.write_all();
        assert!(queue.is_available());

        queue.put(record());
        assert!(queue.is_available());
        queue.put(record());
        assert!(!queue.is_available(), "the queue is full");
        writer.write_all();
        assert!(queue.is_available());
    }

    #[test]
    fn a_batch_continues_where_the_disk_was_full() {
        let time = Timestamp::from_secs(1);
        let mut batch = Batch::default();
        batch.record(&AuditRecord::succeeded(Event::Login, time));
        batch.record(&AuditRecord::succeeded(Event::Logout, time));
        batch.gap(time, 3);
        let whole = batch.bytes.clone();

        let mut disk = Disk { bytes: Vec::new(), room: 30 };
        for _ in 0..2 {
            assert_eq!(batch.write_to(&mut disk).unwrap_err().kind(), ErrorKind::StorageFull);
        }
        assert_eq!(disk.bytes, whole[..30]);
        disk.room = usize::MAX;
        batch.write_to(&mut disk).unwrap();
        assert_eq!(disk.bytes, whole);
        assert_eq!((batch.clear(), batch.bytes.len()), (2, 0));
    }
}
