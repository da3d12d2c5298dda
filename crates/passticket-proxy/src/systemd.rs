//! Sends messages to systemd (`sd_notify`): whether the gateway is ready, reloads or stops, and whether its worker
//! threads work.
//!
//! A message is one datagram to the socket that the environment variable `NOTIFY_SOCKET` names. Without the variable,
//! nothing is sent.

use std::{
    env,
    ffi::OsStr,
    fs, io,
    os::unix::{
        ffi::OsStrExt,
        net::{SocketAddr, UnixDatagram},
    },
    process,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use tokio::time::interval;

/// The connection to systemd. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notifier(Option<Arc<UnixDatagram>>);

impl Notifier {
    pub(crate) fn from_env() -> Self {
        let Some(path) = env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()) else {
            return Self::default();
        };
        match connect(&path) {
            Ok(socket) => Self(Some(Arc::new(socket))),
            Err(error) => {
                tracing::warn!(socket = %path.display(), %error, "cannot connect to NOTIFY_SOCKET; systemd does not learn when the gateway is ready");
                Self::default()
            }
        }
    }

    /// Tells systemd that the gateway accepts connections. This also ends [`reloading`](Self::reloading).
    pub(crate) fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={}", one_line(status)));
    }

    pub(crate) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=reloading"));
    }

    /// Tells systemd that the gateway accepts no more connections, and finishes the requests in flight.
    pub(crate) fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=finishing the requests in flight");
    }

    /// Tells systemd that another process has taken over. If that process runs in the same unit, it becomes the main
    /// process of the unit.
    pub(crate) fn taken_over(&self, pid: Option<i32>) {
        match pid.filter(|pid| is_in_same_unit(*pid)) {
            Some(pid) => self.send(&format!("MAINPID={pid}")),
            None => self.stopping(),
        }
    }

    fn watchdog(&self) {
        self.send("WATCHDOG=1");
    }

    fn send(&self, message: &str) {
        let Some(socket) = &self.0 else { return };
        if let Err(error) = socket.send(message.as_bytes()) {
            tracing::debug!(%error, "cannot notify systemd");
        }
    }

    /// Returns the heartbeats of the worker threads. Starts a task that sends messages to the watchdog of systemd as
    /// long as all worker threads beat. Without a watchdog (`WatchdogSec`), there are no heartbeats and no task. Call
    /// this in a runtime.
    pub(crate) fn watch(&self) -> Heartbeats {
        let usec = env::var("WATCHDOG_USEC").ok();
        let pid = env::var("WATCHDOG_PID").ok();
        let every = watchdog_interval(usec.as_deref(), pid.as_deref(), process::id());
        let Some(every) = every.filter(|_| self.0.is_some()) else { return Heartbeats::default() };
        let hearts = Arc::new(Hearts { every: every / 4, hearts: Mutex::default() });
        tokio::spawn(watch(self.clone(), hearts.clone(), every));
        Heartbeats(Some(hearts))
    }
}

fn connect(path: &OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    match path.as_bytes().strip_prefix(b"@") {
        #[cfg(target_os = "linux")]
        Some(name) => {
            use std::os::linux::net::SocketAddrExt;

            socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?;
        }
        _ => socket.connect_addr(&SocketAddr::from_pathname(path)?)?,
    }
    // A message that systemd does not read must not block this process.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Replaces line ends by blanks. A status may contain a path, and a path may contain a line end.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// Returns whether a process is in the same control group as this process. systemd refuses a main process that is in
/// another unit.
fn is_in_same_unit(pid: i32) -> bool {
    let group = |pid: &str| fs::read_to_string(format!("/proc/{pid}/cgroup")).ok();
    group(&pid.to_string()).is_some_and(|of_other| Some(of_other) == group("self"))
}

/// Returns the interval of the messages to the watchdog: half of the time after which systemd ends the process. Returns
/// `None` if there is no watchdog, or if it is for another process.
fn watchdog_interval(usec: Option<&str>, pid: Option<&str>, own: u32) -> Option<Duration> {
    if pid.is_some_and(|pid| pid.parse() != Ok(own)) {
        return None;
    }
    let usec: u64 = usec?.parse().ok()?;
    (usec > 0).then(|| Duration::from_micros(usec) / 2)
}

/// The heartbeats of the worker threads. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Heartbeats(Option<Arc<Hearts>>);

struct Hearts {
    every: Duration,
    hearts: Mutex<Vec<Weak<AtomicU64>>>,
}

impl Hearts {
    fn hearts(&self) -> MutexGuard<'_, Vec<Weak<AtomicU64>>> {
        self.hearts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The heart of one worker thread. It beats while the runtime of the thread works. When the thread ends, this value is
/// dropped, and no more beats are expected.
pub(crate) struct Heart(
    #[expect(dead_code, reason = "its drop ends the heart")] Option<Arc<AtomicU64>>,
);

impl Heartbeats {
    /// Starts the heart of the calling worker thread, in its runtime.
    pub(crate) fn start(&self) -> Heart {
        let Some(hearts) = &self.0 else { return Heart(None) };
        let heart = Arc::new(AtomicU64::new(0));
        let beating = Arc::downgrade(&heart);
        hearts.hearts().push(beating.clone());
        let mut beats = interval(hearts.every);
        tokio::spawn(async move {
            loop {
                beats.tick().await;
                let Some(heart) = beating.upgrade() else { return };
                heart.fetch_add(1, Relaxed);
            }
        });
        Heart(Some(heart))
    }
}

/// Sends a message to the watchdog at each interval in which all hearts have beaten.
async fn watch(notifier: Notifier, hearts: Arc<Hearts>, every: Duration) {
    let mut checks = interval(every);
    let mut last = Vec::new();
    loop {
        checks.tick().await;
        let beats = beats(&mut hearts.hearts());
        if all_beat(&last, &beats) {
            notifier.watchdog();
        } else {
            tracing::error!(
                "a worker thread does not answer; without an answer, the watchdog of systemd ends the program"
            );
        }
        last = beats;
    }
}

/// Returns a pair for each heart: its memory address, which identifies the heart, and how often the heart has beaten.
fn beats(hearts: &mut Vec<Weak<AtomicU64>>) -> Vec<(usize, u64)> {
    hearts.retain(|heart| heart.strong_count() > 0);
    let beating = hearts.iter().filter_map(Weak::upgrade);
    beating.map(|heart| (Arc::as_ptr(&heart).addr(), heart.load(Relaxed))).collect()
}

/// Returns whether each heart of `now` has beaten since `last`. A heart that is not in `last` is new, and counts as
/// beating.
fn all_beat(last: &[(usize, u64)], now: &[(usize, u64)]) -> bool {
    now.iter().all(|heart| !last.contains(heart))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_for_the_process_that_systemd_started() {
        let second = Some(Duration::from_secs(1));
        for (usec, pid, want) in [
            (Some("2000000"), Some("7"), second),
            (Some("2000000"), None, second),
            (Some("2000000"), Some("8"), None),
            (Some("0"), Some("7"), None),
            (Some("x"), Some("7"), None),
            (None, Some("7"), None),
        ] {
            assert_eq!(watchdog_interval(usec, pid, 7), want, "{usec:?} {pid:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_gets_messages_only_while_all_hearts_beat() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let systemd = UnixDatagram::bind(&path).unwrap();
        systemd.set_nonblocking(true).unwrap();
        let notifier = Notifier(Some(Arc::new(connect(path.as_os_str()).unwrap())));
        let messages = || {
            let mut buffer = [0; 200];
            let mut count = 0;
            while let Ok(read) = systemd.recv(&mut buffer) {
                assert_eq!(&buffer[..read], b"WATCHDOG=1");
                count += 1;
            }
            count
        };
        let every = Duration::from_secs(4);
        let hearts = Arc::new(Hearts { every: every / 4, hearts: Mutex::default() });
        let heartbeats = Heartbeats(Some(hearts.clone()));
        let _one = heartbeats.start();
        tokio::spawn(watch(notifier, hearts.clone(), every));
        tokio::time::sleep(every * 10).await;
        assert!(messages() >= 10);
        // A thread that hangs. Its heart exists, but does not beat.
        let hanging = Arc::new(AtomicU64::new(0));
        hearts.hearts().push(Arc::downgrade(&hanging));
        tokio::time::sleep(every * 2).await;
        messages();
        tokio::time::sleep(every * 10).await;
        assert_eq!(messages(), 0);
        // The thread ends, so no more beats are expected from it.
        drop(hanging);
        tokio::time::sleep(every * 10).await;
        assert!(messages() >= 9);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn messages_also_reach_an_abstract_socket() {
        use std::os::linux::net::SocketAddrExt;

        let name = format!("passticket-proxy-test-{}", process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let systemd = UnixDatagram::bind_addr(&address).unwrap();
        let notifier = Notifier(Some(Arc::new(connect(OsStr::new(&format!("@{name}"))).unwrap())));
        notifier.ready("two\nlines");
        let mut buffer = [0; 200];
        let read = systemd.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..read], b"READY=1\nSTATUS=two lines");
        assert!(is_in_same_unit(i32::try_from(process::id()).unwrap()));
        assert!(!is_in_same_unit(i32::MAX));
    }
}
