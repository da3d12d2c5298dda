//! A bounded queue in front of standard error. A thread that logs never gets a write error, and waits for standard
//! error only when the program ends (docs/decisions.md#d37).

use std::{
    fmt::Write as _,
    io::{self, ErrorKind, Write},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use tower_passticket::metrics::{Collect, Counter, Description, Exposition};
use tracing::Level;
use tracing_subscriber::fmt::{
    format,
    time::{FormatTime, SystemTime},
};

use crate::log_format;

/// The log target of the line that reports lost lines.
const TARGET: &str = "passticket_proxy::logging";

/// The maximum number of waiting entries. An entry has one line or more.
const MAX_LINES: usize = 4096;

/// The maximum size of the waiting lines, in bytes. A longer line is accepted if no other line waits.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// The minimum time between two attempts to report lost lines.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// The pause before a write is repeated, if standard error is a full pipe in non-blocking mode. [`LogQueue::flush`]
/// makes the same pause while the queue is full.
const PAUSE: Duration = Duration::from_millis(10);

/// The time that the program waits for its last log lines when it ends.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

const DROPPED_LINES: Description = Description::counter(
    "passticket_log_lines_dropped_total",
    "Log lines that were lost, because standard error did not accept them.",
);

/// The number of lines that were lost since the start of the program. This is a static variable, because the log starts
/// before everything else.
static DROPPED: Counter = Counter::new();

pub(crate) struct LogCounts;

impl Collect for LogCounts {
    fn collect(&self, exposition: &mut Exposition) {
        exposition.value(&DROPPED_LINES, DROPPED.get());
    }
}

/// The queue in front of standard error. This variable has no value until [`start`] is called.
static QUEUE: OnceLock<LogQueue> = OnceLock::new();

pub(crate) fn start() -> io::Result<&'static LogQueue> {
    let queue = LogQueue::start(io::stderr())?;
    Ok(QUEUE.get_or_init(|| queue))
}

pub(crate) fn put_line(line: &str) -> bool {
    let Some(queue) = QUEUE.get() else { return false };
    let message = || format!("{line}\n");
    queue.put(log_format::line(Level::WARN, "passticket_proxy", line, message).as_bytes());
    true
}

/// Waits up to a second until the lines in the queue are written. The program calls this before it ends.
pub(crate) fn flush() {
    if let Some(queue) = QUEUE.get() {
        queue.flush(FLUSH_LIMIT);
    }
}

/// The queue. A writer thread takes the lines and writes them.
///
/// If the queue is full or a line cannot be written, the line is dropped and counted. When writing works
/// again, the writer thread writes a line with the number of lost lines.
#[derive(Debug)]
pub(crate) struct LogQueue {
    messages: SyncSender<Message>,
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Counters {
    /// The size of the waiting lines in bytes.
    bytes: AtomicUsize,
    /// The number of lines that were lost and not yet reported.
    lost: AtomicU64,
}

impl Counters {
    fn lose_line(&self) {
        self.lost.fetch_add(1, Relaxed);
        DROPPED.increment();
    }
}

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    /// The writer thread answers this message when it has handled all earlier messages.
    Flush(SyncSender<()>),
}

impl LogQueue {
    fn start(to: impl Write + Send + 'static) -> io::Result<Self> {
        let (messages, received) = sync_channel(MAX_LINES);
        let counters = Arc::new(Counters::default());
        let writer =
            Writer { to, counters: counters.clone(), is_within_line: false, reported: None };
        thread::Builder::new().name("log".to_owned()).spawn(move || writer.run(&received))?;
        Ok(Self { messages, counters })
    }

    /// Adds one or more whole lines. Never waits. If they are dropped, they count as one lost line.
    pub(crate) fn put(&self, lines: &[u8]) {
        let waiting = self.counters.bytes.fetch_add(lines.len(), Relaxed);
        let has_room = waiting == 0 || waiting + lines.len() <= MAX_BYTES;
        if !has_room || self.messages.try_send(Message::Line(lines.to_vec())).is_err() {
            self.counters.bytes.fetch_sub(lines.len(), Relaxed);
            self.counters.lose_line();
        }
    }

    /// Adds the text of a panic. If the panic ends the program, waits until the text is written, but no longer
    /// than a second. Without this wait, the lines in the queue would be lost when the main thread ends.
    pub(crate) fn put_panic(&self, text: &[u8], ends_program: bool) {
        self.put(text);
        if ends_program {
            self.flush(FLUSH_LIMIT);
        }
    }

    /// Waits until the lines in the queue are written, but no longer than `limit`.
    fn flush(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let (done, is_done) = sync_channel(1);
        while self.messages.try_send(Message::Flush(done.clone())).is_err() {
            if Instant::now() >= deadline {
                return;
            }
            thread::sleep(PAUSE);
        }
        let _ = is_done.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

/// Writes into a [`LogQueue`]. Each call of `write` adds whole lines.
pub(crate) struct LogLine(pub(crate) &'static LogQueue);

impl Write for LogLine {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.0.put(lines);
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The state of the writer thread.
struct Writer<W> {
    to: W,
    counters: Arc<Counters>,
    /// Whether the text on standard error ends with an incomplete line, because a write failed.
    is_within_line: bool,
    /// The time of the last attempt to report lost lines. `None` before the first attempt. A flush sets it to `None`.
    reported: Option<Instant>,
}

impl<W: Write> Writer<W> {
    fn run(mut self, messages: &Receiver<Message>) {
        loop {
            let is_complete = self.counters.lost.load(Relaxed) == 0;
            let message = if is_complete {
                messages.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                messages.recv_timeout(REPORT_INTERVAL)
            };
            match message {
                Ok(Message::Line(lines)) => {
                    self.counters.bytes.fetch_sub(lines.len(), Relaxed);
                    if !self.write(&lines) {
                        self.counters.lose_line();
                        continue;
                    }
                }
                Ok(Message::Flush(done)) => {
                    self.reported = None;
                    self.report_lost_lines();
                    let _ = done.try_send(());
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.report_lost_lines();
        }
    }

    /// If lines were lost, writes a line with their number. Between two such lines is at least [`REPORT_INTERVAL`]. A
    /// flush does not wait for this interval.
    fn report_lost_lines(&mut self) {
        if self.reported.is_some_and(|last| last.elapsed() < REPORT_INTERVAL) {
            return;
        }
        let lost = self.counters.lost.swap(0, Relaxed);
        if lost == 0 {
            return;
        }
        self.reported = Some(Instant::now());
        let message = format!("log lines lost: standard error did not accept them lines={lost}");
        let line = log_format::line(Level::WARN, TARGET, &message, || {
            let mut line = String::new();
            let _ = SystemTime.format_time(&mut format::Writer::new(&mut line));
            let _ = writeln!(line, "  WARN {TARGET}: {message}");
            line
        });
        if !self.write(line.as_bytes()) {
            self.counters.lost.fetch_add(lost, Relaxed);
        }
    }

    /// Writes `lines`. Returns whether all bytes were written.
    fn write(&mut self, lines: &[u8]) -> bool {
        if self.is_within_line {
            if !self.write_all(b"\n").1 {
                return false;
            }
            self.is_within_line = false;
        }
        let (written, is_complete) = self.write_all(lines);
        self.is_within_line = !is_complete && written > 0;
        is_complete
    }

    /// Returns how many bytes were written, and whether all bytes were written.
    fn write_all(&mut self, bytes: &[u8]) -> (usize, bool) {
        let mut written = 0;
        while written < bytes.len() {
            match self.to.write(&bytes[written..]) {
                Ok(0) => return (written, false),
                Ok(len) => written += len,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(PAUSE),
                Err(_) => return (written, false),
            }
        }
        (written, true)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Condvar, Mutex};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// Replaces standard error in a test. `State` determines whether a write succeeds, fails or blocks.
    #[derive(Clone, Default)]
    struct Target(Arc<(Mutex<State>, Condvar)>);

    #[derive(Default)]
    struct State {
        text: String,
        is_blocked: bool,
        /// The number of bytes that the target accepts before writes fail. `None` means no limit.
        room: Option<usize>,
    }

    impl Target {
        fn set(&self, change: impl FnOnce(&mut State)) {
            change(&mut self.0.0.lock().unwrap());
            self.0.1.notify_all();
        }

        fn text(&self) -> String {
            self.0.0.lock().unwrap().text.clone()
        }
    }

    impl Write for Target {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let state = self.0.0.lock().unwrap();
            let mut state = self.0.1.wait_while(state, |state| state.is_blocked).unwrap();
            let len = state.room.map_or(bytes.len(), |room| room.min(bytes.len()));
            if len == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            state.room = state.room.map(|room| room - len);
            state.text.push_str(str::from_utf8(&bytes[..len]).unwrap());
            Ok(len)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_are_lost_and_counted_while_the_target_is_full() {
        let target = Target::default();
        let queue = LogQueue::start(target.clone()).unwrap();
        queue.put(b"one\n");
        queue.flush(PATIENCE);
        target.set(|state| state.room = Some(2));
        queue.put(b"two\n");
        queue.put(b"three\n");
        queue.flush(PATIENCE);
        assert_eq!(target.text(), "one\ntw");
        target.set(|state| state.room = None);
        queue.put(b"four\n");
        queue.flush(PATIENCE);
        let text = target.text();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(&lines[..2], ["one", "tw"]);
        let (mut report, mut four) = (lines[2], lines[3]);
        // The queue may write the report of lost lines before or after the line `four`.
        if report == "four" {
            (report, four) = (four, report);
        }
        assert!(report.ends_with("log lines lost: standard error did not accept them lines=2"));
        assert_eq!((four, lines.len()), ("four", 4));
    }

    #[test]
    fn putting_and_flushing_do_not_wait_for_a_blocked_target() {
        let target = Target::default();
        target.set(|state| state.is_blocked = true);
        let queue = LogQueue::start(target.clone()).unwrap();
        let started = Instant::now();
        for _ in 0..MAX_LINES + 100 {
            queue.put(b"x\n");
        }
        queue.flush(Duration::from_millis(50));
        assert!(started.elapsed() < PATIENCE);
        target.set(|state| state.is_blocked = false);
        queue.flush(PATIENCE);
        let text = target.text();
        let (reports, lines): (Vec<_>, Vec<_>) = text.lines().partition(|line| *line != "x");
        let lost: usize = reports
            .iter()
            .map(|line| line.rsplit('=').next().unwrap().parse::<usize>().unwrap())
            .sum();
        assert!(lost >= 99, "{lost}");
        assert_eq!(lines.len() + lost, MAX_LINES + 100);
    }

    #[test]
    fn put_panic_waits_only_if_the_panic_ends_the_program() {
        let target = Target::default();
        let queue = LogQueue::start(target.clone()).unwrap();
        target.set(|state| state.is_blocked = true);
        queue.put(b"last line\n");
        queue.put_panic(b"another thread panicked\n", false);
        assert_eq!(target.text(), "");
        let unblocked = target.clone();
        let unblock = thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            unblocked.set(|state| state.is_blocked = false);
        });
        queue.put_panic(b"main panicked\n", true);
        assert_eq!(target.text(), "last line\nanother thread panicked\nmain panicked\n");
        unblock.join().unwrap();
    }

    #[test]
    fn the_size_of_the_waiting_lines_is_limited() {
        let target = Target::default();
        target.set(|state| state.is_blocked = true);
        let queue = LogQueue::start(target.clone()).unwrap();
        let long = [vec![b'x'; MAX_BYTES / 4], vec![b'\n']].concat();
        for _ in 0..20 {
            queue.put(&long);
        }
        target.set(|state| state.is_blocked = false);
        queue.flush(PATIENCE);
        let text = target.text();
        let written = text.lines().filter(|line| line.starts_with('x')).count();
        // The writer thread may have taken one line from the queue.
        assert!((3..=5).contains(&written), "{written}");
        assert!(text.contains(&format!("lines={}", 20 - written)), "{}", &text[text.len() - 200..]);
    }
}
