//! Starts a program under test, reads its output and its log, and stops it.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// The time limit for one step of a test. It allows for a slow and busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Returns whether `curl` is installed.
///
/// # Panics
/// This function panics in CI if `curl` is not installed.
pub fn has_curl() -> bool {
    let found = Command::new("curl").arg("--version").output().is_ok();
    assert!(found || std::env::var_os("CI").is_none(), "CI needs curl");
    found
}

/// A running program. Dropping it kills the process.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
    log: Arc<Mutex<String>>,
    logger: Option<JoinHandle<()>>,
}

impl Running {
    /// Starts `program` with `RUST_LOG=debug`. The program must write its log to standard error.
    pub fn start(program: &str, args: &[&str]) -> Self {
        Self::start_after("", program, args)
    }

    /// Does the same as [`start`](Self::start), but limits the open files of the program to `open_files`.
    pub fn start_with_open_files(open_files: usize, program: &str, args: &[&str]) -> Self {
        Self::start_after(&format!("ulimit -n {open_files} && "), program, args)
    }

    fn start_after(commands: &str, program: &str, args: &[&str]) -> Self {
        // If a program exceeds a limit of file sizes, the signal SIGXFSZ usually kills it. This shell ignores the
        // signal, and the program inherits this. So the program gets a write error instead.
        let mut child = Command::new("sh")
            .args(["-c", &format!(r#"trap '' XFSZ; {commands} exec "$0" "$@""#), program])
            .args(args)
            .env("RUST_LOG", "debug")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::new(Mutex::new(String::new()));
        let logger = thread::spawn({
            let log = log.clone();
            move || {
                let mut line = String::new();
                while stderr.read_line(&mut line).is_ok_and(|read| read > 0) {
                    log.lock().unwrap().push_str(&std::mem::take(&mut line));
                }
            }
        });
        Self { child, stdout, log, logger: Some(logger) }
    }

    /// Reads lines of standard output until they contain `text`. Returns all lines that it has read.
    pub fn printed(&mut self, text: &str) -> String {
        let mut printed = String::new();
        while !printed.contains(text) {
            let read = self.stdout.read_line(&mut printed).unwrap();
            assert!(read > 0, "program ended early: {printed}\n{}", self.log.lock().unwrap());
        }
        printed
    }

    /// Waits until a line of the log contains `text`. Returns this line. Panics if the program ends before that.
    pub fn logged(&mut self, text: &str) -> String {
        let line = self.logged_before_end(text);
        line.unwrap_or_else(|| panic!("program ended early:\n{}", self.log.lock().unwrap()))
    }

    /// Waits until a line of the log contains `text`, and returns this line. If the program ends without such a line,
    /// returns `None`.
    pub fn logged_before_end(&mut self, text: &str) -> Option<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let has_ended = self.child.try_wait().unwrap().is_some();
            if has_ended && let Some(logger) = self.logger.take() {
                logger.join().unwrap();
            }
            let log = self.log.lock().unwrap().clone();
            if let Some(line) = log.lines().find(|line| line.contains(text)) {
                return Some(line.to_owned());
            }
            if has_ended {
                return None;
            }
            assert!(Instant::now() < deadline, "{text} is not in the log:\n{log}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, such as `-TERM`, with the command `kill`.
    pub fn signal(&self, signal: &str) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Kills the program with SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    /// Waits until the program ends. Returns its exit status and its whole log.
    pub fn wait(&mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() > deadline => panic!("the program is still running"),
                None => thread::sleep(Duration::from_millis(10)),
            }
        };
        if let Some(logger) = self.logger.take() {
            logger.join().unwrap();
        }
        (status, self.log.lock().unwrap().clone())
    }

    /// Returns the peak memory (resident set) of the process so far, in KiB.
    pub fn peak_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
