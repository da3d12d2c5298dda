//! The writer thread of an [`AuditFile`](super::AuditFile).

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, ErrorKind, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering::SeqCst, mpsc::Receiver},
    thread,
    time::{Duration, Instant},
};

use super::{
    line_batch::LineBatch,
    options::{AuditFileOptions, AuditFormat, Fsync, Lines},
    queue::Shared,
    record::AuditRecord,
    rotation,
    sums::{Sum, Sums},
};
use crate::clock::Timestamp;

/// How long the writer sleeps after it has found no record. The sink may wake the writer earlier.
const IDLE_PAUSE: Duration = Duration::from_millis(50);

/// How long the writer sleeps after it has written records. A short pause keeps the batches short. While the writer
/// writes a long batch, requests on the same processor core must wait. After a short pause, the records are also still
/// in the cache of the processor.
const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// A batch is full when it has at least this number of bytes.
const BATCH: usize = 64 * 1024;

/// The maximum number of records that are taken from the queue before the batch is written. [`BATCH`] does not limit
/// records that are summed up, because at first they add no bytes to the batch.
const MAX_TAKEN: usize = 4096;

const RETRY: Duration = Duration::from_secs(1);

/// The time between two checks whether the file at the path is still the open file.
const CHECK: Duration = Duration::from_secs(1);

const LOG_INTERVAL: Duration = Duration::from_secs(60);

pub(super) struct Writer {
    path: PathBuf,
    options: AuditFileOptions,
    records: Receiver<AuditRecord>,
    shared: Arc<Shared>,
    file: File,
    len: u64,
    batch: LineBatch,
    /// The sums of records. `None` if each record is a line.
    sums: Option<Sums>,
    /// The number of dropped records that a line in the file or a log message has already reported.
    reported: u64,
    /// The time of the last attempt to sync, or of the start of the writer.
    synced: Instant,
    /// Whether bytes may have been written since the last sync that succeeded.
    is_dirty: bool,
    /// The time when a failed write, or a failed attempt to open the file, is repeated. `None` if the last attempt did
    /// not fail.
    retry_at: Option<Instant>,
    /// When the last error was logged.
    logged: Option<Instant>,
    /// When the file at the path was last compared with the open file.
    checked: Instant,
    /// Whether the open file is no longer at the path, and the writer could not open a new file at the path.
    is_lost: bool,
    /// Whether this process has locked the file.
    lock: Lock,
}

/// Whether this process has locked the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lock {
    /// This process has locked the file, or the file system does not support locks.
    Exclusive,
    /// Another process also appends to the file. That process rotates the file.
    None,
}

impl Writer {
    pub(super) fn open(
        path: &Path,
        options: AuditFileOptions,
        records: Receiver<AuditRecord>,
        shared: Arc<Shared>,
    ) -> io::Result<Self> {
        let (file, len) = open(path, Links::Follow, Lock::Exclusive)?;
        Ok(Self {
            path: path.to_owned(),
            sums: (options.lines == Lines::Sum).then(Sums::default),
            options,
            records,
            shared,
            file,
            len,
            batch: LineBatch::default(),
            reported: 0,
            synced: Instant::now(),
            is_dirty: false,
            retry_at: None,
            logged: None,
            checked: Instant::now(),
            is_lost: false,
            lock: Lock::Exclusive,
        })
    }

    pub(super) fn run(mut self) {
        loop {
            let closing = self.shared.closed.load(SeqCst);
            if closing {
                self.retry_at = None;
            }
            self.follow_sharing();
            let has_taken = self.write_all();
            if closing {
                if self.retry_at.is_some() {
                    self.give_up();
                }
                // If `waiting` is not 0, another thread is about to add a record to the queue.
                if self.shared.waiting.load(SeqCst) == 0 {
                    break;
                }
                thread::yield_now();
            } else {
                self.sync_when_due();
                // An idle writer also checks whether the file was renamed.
                self.follow_path();
                thread::park_timeout(if has_taken { BUSY_PAUSE } else { IDLE_PAUSE });
            }
        }
        if self.is_dirty && self.options.fsync != Fsync::Never {
            self.sync();
        }
    }

    /// Writes all waiting records, and the lines that report dropped records. Stops if a write fails. Returns whether
    /// it has taken records from the queue.
    fn write_all(&mut self) -> bool {
        let batch_len = BATCH.min(usize::try_from(self.options.rotate_at).unwrap_or(BATCH)).max(1);
        // If the last write failed, the first call of `write_batch` repeats it. The loop ends after a batch that is not
        // full. Later records are then written together by the next call.
        let (mut was_full, mut has_taken) = (true, false);
        while self.write_batch() && was_full {
            let dropped = self.shared.dropped.load(SeqCst);
            let taken = match &mut self.sums {
                None => self.batch.take_records(batch_len, &self.records, &self.options.format),
                Some(sums) => {
                    let is_closing = self.shared.closed.load(SeqCst);
                    let (records, format) = (&self.records, &self.options.format);
                    self.batch.take_sums(batch_len, records, sums, is_closing, format)
                }
            };
            self.shared.waiting.fetch_sub(taken, SeqCst);
            has_taken |= taken > 0;
            was_full = self.batch.len() >= batch_len || taken == MAX_TAKEN;
            // While the sink is open, it drops a record only if the queue is full. The queue is empty now, so all
            // records that are older than the dropped records are already in the batch or in the file. So the line
            // about the dropped records follows them.
            if !was_full && dropped > self.reported {
                let now = self.options.clock.now();
                self.batch.gap(now, dropped - self.reported, &self.options.format);
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
        if self.retry_at.is_some_and(|at| Instant::now() < at) {
            return false;
        }
        if !self.follow_path() {
            return false;
        }
        let len_after = self.len.saturating_add(self.batch.len() as u64);
        let must_rotate = self.len > 0 && len_after > self.options.rotate_at;
        // Each line must be in one file as a whole, so the file rotates only between two lines.
        if self.batch.written() == 0 && must_rotate && self.lock == Lock::Exclusive {
            // A file that is too long is better than a lost record.
            if let Err(error) = self.rotate() {
                self.report_error("rotate", &error);
            }
        }
        let before = self.batch.written();
        let result = self.batch.write_to(&mut self.file);
        self.len += (self.batch.written() - before) as u64;
        self.is_dirty = true;
        match result {
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

    /// Unlocks the file while another process appends to it, and locks it again after that.
    fn follow_sharing(&mut self) {
        let is_shared = self.shared.is_shared.load(SeqCst);
        match self.lock {
            Lock::Exclusive if is_shared => {
                // On a file system without locks, `unlock` returns an error. There is no lock to remove then.
                let _ = self.file.unlock();
                self.lock = Lock::None;
            }
            Lock::None if !is_shared => match self.file.try_lock() {
                Err(TryLockError::WouldBlock) => {}
                Ok(()) | Err(TryLockError::Error(_)) => {
                    self.lock = Lock::Exclusive;
                    // The other process may have appended lines.
                    self.len = self.file.metadata().map_or(self.len, |metadata| metadata.len());
                }
            },
            Lock::Exclusive | Lock::None => {}
        }
    }

    /// If another program has renamed or removed the open file, opens the file at the path. Checks this once per
    /// [`CHECK`], and before a failed write is repeated. Returns whether records can be written now. If the file cannot
    /// be opened, the records wait: in a removed file, they would be lost.
    fn follow_path(&mut self) -> bool {
        if self.retry_at.is_some_and(|at| Instant::now() < at) {
            return false;
        }
        if self.retry_at.is_none() && self.checked.elapsed() < CHECK {
            return true;
        }
        self.checked = Instant::now();
        if is_at(&self.file, &self.path) {
            // If `is_lost`, the open file was moved away from the path, and is now at the path again.
            if self.is_lost {
                self.end_outage();
            }
            return true;
        }
        if self.is_dirty && self.options.fsync != Fsync::Never {
            self.sync();
        }
        match open(&self.path, Links::Refuse, self.lock) {
            Ok((file, len)) => {
                (self.file, self.len) = (file, len);
                self.batch.begin_in_new_file();
                self.end_outage();
                tracing::info!(path = %self.path.display(), "audit file was renamed or removed; opened a new one");
                true
            }
            Err(error) => {
                self.report_error("reopen", &error);
                self.is_lost = true;
                self.retry_at = Some(Instant::now() + RETRY);
                self.shared.is_stuck.store(true, SeqCst);
                false
            }
        }
    }

    fn end_outage(&mut self) {
        self.is_lost = false;
        self.retry_at = None;
        self.shared.is_stuck.store(false, SeqCst);
    }

    fn rotate(&mut self) -> io::Result<()> {
        if self.options.fsync != Fsync::Never {
            self.file.sync_data()?;
        }
        rotation::make_room(&self.path, self.options.keep)?;
        (self.file, self.len) = open(&self.path, Links::Refuse, Lock::Exclusive)?;
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

    /// Syncs the file. After an error, `is_dirty` stays `true`, so that the sync is repeated.
    fn sync(&mut self) {
        self.synced = Instant::now();
        match self.file.sync_data() {
            Ok(()) => self.is_dirty = false,
            Err(error) => self.report_error("sync", &error),
        }
    }

    /// Drops and counts the waiting records, because the sink is being closed and they cannot be written.
    fn give_up(&mut self) {
        let mut lost = self.batch.clear();
        lost += self.sums.as_mut().map_or(0, Sums::clear);
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

impl LineBatch {
    fn record(&mut self, record: &AuditRecord, format: &AuditFormat) {
        let line = self.line_of(1);
        format.write_record(record, line);
        line.push(b'\n');
    }

    /// Adds waiting records, up to `max` bytes. Returns how many records it has taken from the queue.
    fn take_records(
        &mut self,
        max: usize,
        records: &Receiver<AuditRecord>,
        format: &AuditFormat,
    ) -> usize {
        let mut taken = 0;
        while self.len() < max
            && let Ok(record) = records.try_recv()
        {
            taken += 1;
            self.record(&record, format);
        }
        taken
    }

    /// Takes waiting records, and sums them up. Adds the sums of periods that have ended, up to `max` bytes. If
    /// `is_closing` is true, the current period also ends. Returns how many records it has taken from the queue.
    fn take_sums(
        &mut self,
        max: usize,
        records: &Receiver<AuditRecord>,
        sums: &mut Sums,
        is_closing: bool,
        format: &AuditFormat,
    ) -> usize {
        let now = Instant::now();
        let mut taken = 0;
        while taken < MAX_TAKEN
            && let Ok(record) = records.try_recv()
        {
            taken += 1;
            sums.add(record, now);
        }
        if is_closing && taken < MAX_TAKEN {
            sums.end_period();
        }
        while self.len() < max
            && let Some(Sum { first, count }) = sums.next_due(now)
        {
            let line = self.line_of(count);
            format.write_sum(&first, count, line);
            line.push(b'\n');
        }
        taken
    }

    /// Adds a line that reports `count` dropped records.
    fn gap(&mut self, time: Timestamp, count: u64, format: &AuditFormat) {
        let line = self.line_of(0);
        format.write_gap(time, count, line);
        line.push(b'\n');
    }
}

/// How the gateway handles a symbolic link at the path.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Links {
    /// At the start of the program: follow the link, which the administrator may have created.
    Follow,
    /// At each later time: refuse the link. Another user who can write to the directory may have created it, and the
    /// gateway would write to a file that this user has chosen.
    Refuse,
}

/// `O_NOFOLLOW` of open(2): opening a symbolic link is an error. The standard library does not define this constant, so
/// the values come from the headers of the kernels. On other systems than those below, the gateway follows links.
#[cfg(unix)]
const O_NOFOLLOW: i32 = if cfg!(any(target_os = "linux", target_os = "android")) {
    // These architectures do not use the value in asm-generic/fcntl.h.
    let has_other_value = cfg!(any(
        target_arch = "arm",
        target_arch = "aarch64",
        target_arch = "powerpc",
        target_arch = "powerpc64",
        target_arch = "m68k"
    ));
    if has_other_value { 0o100_000 } else { 0o400_000 }
} else if cfg!(any(
    target_vendor = "apple",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "dragonfly"
)) {
    0x100
} else {
    0
};

/// Opens the file for appending. If `lock` is `Exclusive`, locks the file, and adds a newline to an incomplete last
/// line. Returns the file and its length.
fn open(path: &Path, links: Links, lock: Lock) -> io::Result<(File, u64)> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    #[cfg(unix)]
    if let Links::Refuse = links {
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, O_NOFOLLOW);
    }
    #[cfg(not(unix))]
    let _ = links;
    let mut file = options.open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "not a regular file"));
    }
    let locked = match lock {
        Lock::Exclusive => file.try_lock(),
        // The last line may be incomplete because the other process is writing it.
        Lock::None => return Ok((file, metadata.len())),
    };
    match locked {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(io::Error::new(
                ErrorKind::ResourceBusy,
                "another process writes to the file",
            ));
        }
        // Some file systems do not support locks.
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

/// Opens a file to which several processes append whole lines. A new file has mode 0600. The file is not locked.
/// Returns the file and its length.
pub(crate) fn open_shared(path: &Path, links: Links) -> io::Result<(File, u64)> {
    open(path, links, Lock::None)
}

/// Returns whether the open file is still the file at the path. If this is not known, returns `true`, so that the
/// writer keeps the open file.
#[cfg(unix)]
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;

    let Ok(open) = file.metadata() else { return true };
    match std::fs::metadata(path) {
        Ok(named) => (named.dev(), named.ino()) == (open.dev(), open.ino()),
        Err(error) => error.kind() != ErrorKind::NotFound,
    }
}

#[cfg(not(unix))]
pub(crate) fn is_at(_: &File, _: &Path) -> bool {
    true
}

/// Syncs the directory of the file, so that the name of a new file survives a crash of the machine.
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
    use std::{mem, num::NonZeroUsize};

    use super::*;
    use crate::audit::{Event, queue::Queue};

    /// A disk that is full after `room` more bytes.
    struct Disk {
        bytes: Vec<u8>,
        room: usize,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let len = bytes.len().min(self.room);
            if len == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            self.bytes.extend(&bytes[..len]);
            self.room -= len;
            Ok(len)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

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
        // /dev/null accepts writes, but cannot be synced.
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
        assert!(!queue.is_available(), "expected unavailable, because the disk is full");
        writer.file = file;
        writer.retry_at = None;
        writer.write_all();
        assert!(queue.is_available());

        queue.put(record());
        assert!(queue.is_available());
        queue.put(record());
        assert!(!queue.is_available(), "expected unavailable, because the queue is full");
        writer.write_all();
        assert!(queue.is_available());
    }

    #[cfg(unix)]
    #[test]
    fn a_renamed_or_removed_file_is_opened_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let (queue, mut writer) = writer(directory.path(), AuditFileOptions::default());
        let due = |writer: &mut Writer| writer.checked = Instant::now().checked_sub(CHECK).unwrap();
        let write = |writer: &mut Writer| {
            queue.put(AuditRecord::succeeded(Event::Login, Timestamp::from_secs(1)));
            writer.write_all();
        };
        let lines = |path: &Path| std::fs::read_to_string(path).unwrap().lines().count();

        write(&mut writer);
        std::fs::rename(&path, path.with_extension("old")).unwrap();
        // The writer uses the renamed file until its next check of the path.
        write(&mut writer);
        due(&mut writer);
        write(&mut writer);
        assert_eq!((lines(&path.with_extension("old")), lines(&path)), (2, 1));

        std::fs::remove_file(&path).unwrap();
        due(&mut writer);
        // A writer without records also creates the file.
        assert!(writer.follow_path());
        assert_eq!(lines(&path), 0);
        write(&mut writer);
        assert_eq!(lines(&path), 1);

        // While the file cannot be opened, the records stay in the queue.
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        due(&mut writer);
        write(&mut writer);
        assert!(!queue.is_available());
        assert_eq!(writer.shared.write_errors.load(SeqCst), 1);
        std::fs::remove_dir(&path).unwrap();
        writer.retry_at = Some(Instant::now());
        writer.write_all();
        assert!(queue.is_available());
        assert_eq!((lines(&path), writer.shared.written.load(SeqCst)), (1, 5));
    }

    #[cfg(unix)]
    #[test]
    fn a_record_that_is_partly_in_a_removed_file_is_written_to_the_new_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let (_queue, mut writer) = writer(directory.path(), AuditFileOptions::default());
        writer.batch.line_of(3).extend_from_slice(b"one\ntwo\nthree\n");
        // The disk was full after the first line and a part of the second line.
        let mut disk = Disk { bytes: Vec::new(), room: 6 };
        assert!(writer.batch.write_to(&mut disk).is_err());
        writer.retry_at = Some(Instant::now());
        std::fs::remove_file(&path).unwrap();
        assert!(writer.write_batch());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\nthree\n");
        assert_eq!(writer.shared.written.load(SeqCst), 3);
    }

    #[cfg(unix)]
    #[test]
    fn a_symbolic_link_is_not_followed_and_the_old_file_can_come_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let (queue, mut writer) = writer(directory.path(), AuditFileOptions::default());
        let (away, target) = (path.with_extension("away"), path.with_extension("target"));
        std::fs::write(&target, "").unwrap();
        std::fs::rename(&path, &away).unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        writer.checked = Instant::now().checked_sub(CHECK).unwrap();
        assert!(!writer.follow_path());
        assert!(!queue.is_available());
        assert!(open(&path, Links::Refuse, Lock::Exclusive).is_err());
        std::fs::rename(&away, &path).unwrap();
        writer.retry_at = Some(Instant::now());
        // A writer without records also notices that the file is back.
        assert!(writer.follow_path());
        assert!(queue.is_available());
        assert_eq!(std::fs::read(&target).unwrap(), b"");
    }

    #[test]
    fn writing_a_batch_continues_after_the_disk_was_full() {
        let time = Timestamp::from_secs(1);
        let mut batch = LineBatch::default();
        let format = AuditFormat::JsonLines;
        batch.record(&AuditRecord::succeeded(Event::Login, time), &format);
        batch.record(&AuditRecord::succeeded(Event::Logout, time), &format);
        batch.gap(time, 3, &format);
        let whole = batch.line_of(0).clone();

        let mut disk = Disk { bytes: Vec::new(), room: 30 };
        for _ in 0..2 {
            assert_eq!(batch.write_to(&mut disk).unwrap_err().kind(), ErrorKind::StorageFull);
        }
        assert_eq!(disk.bytes, whole[..30]);
        disk.room = usize::MAX;
        batch.write_to(&mut disk).unwrap();
        assert_eq!(disk.bytes, whole);
        assert_eq!((batch.clear(), batch.len()), (2, 0));
    }
}
