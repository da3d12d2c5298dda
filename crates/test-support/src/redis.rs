//! Starts real Redis servers: a primary, replicas, and Sentinels, which make a replica the new primary if the primary
//! fails.
//!
//! Each server has its own port on the loopback interface and its own temporary directory.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::Ipv4Addr,
    os::unix::net::UnixStream,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rcgen::SanType;
use tempfile::TempDir;

use crate::{
    PATIENCE, free_port,
    pki::{self, Authority, Clients},
};

/// Returns whether `redis-server` and `redis-sentinel` are installed. If a program is missing, prints that the test did
/// nothing.
///
/// # Panics
/// This function panics in CI if a program is missing.
pub fn has_redis() -> bool {
    ["redis-server", "redis-sentinel"].into_iter().all(|program| {
        let found = Command::new(program).arg("--version").output().is_ok();
        assert!(found || std::env::var_os("CI").is_none(), "CI needs {program}");
        if !found {
            #[expect(
                clippy::print_stderr,
                reason = "the developer must see that the test did nothing"
            )]
            {
                eprintln!("the test did nothing: {program} is not installed");
            }
        }
        found
    })
}

/// A running `redis-server`.
#[derive(Debug)]
pub struct Redis {
    process: Process,
}

/// A running `redis-sentinel`.
#[derive(Debug)]
pub struct Sentinel {
    process: Process,
}

/// The options with which a server is started.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct RedisOptions {
    lines: Vec<String>,
    clients: Option<Clients>,
}

impl RedisOptions {
    /// Adds a line to the configuration, such as `maxmemory 1mb`.
    pub fn with(mut self, line: &str) -> Self {
        self.lines.push(line.to_owned());
        self
    }

    /// Makes the server listen with TLS. Its certificate is for `localhost` and `127.0.0.1`, and [`Authority::trusted`]
    /// has issued it.
    pub fn with_tls(self, clients: Clients) -> Self {
        Self { clients: Some(clients), ..self }
    }

    /// Makes the server a replica of `primary`, which must have the same TLS settings.
    pub fn replica_of(self, primary: &Redis) -> Self {
        let port = primary.port();
        self.with(&format!("replicaof 127.0.0.1 {port}")).with("repl-diskless-sync-delay 0")
    }

    /// Starts the server.
    pub fn start(&self) -> Redis {
        let mut options = self.clone();
        for line in ["save \"\"", "appendonly no", "repl-diskless-sync-delay 0"] {
            options.lines.insert(0, line.to_owned());
        }
        Redis { process: Process::start("redis-server", &options) }
    }

    /// Starts a Sentinel that monitors `primary` under the name `main`. It can start a failover without other
    /// Sentinels.
    pub fn start_sentinel(&self, primary: &Redis) -> Sentinel {
        let monitor = format!("sentinel monitor main 127.0.0.1 {} 1", primary.port());
        let options = self
            .clone()
            .with(&monitor)
            .with("sentinel down-after-milliseconds main 500")
            .with("sentinel failover-timeout main 3000");
        Sentinel { process: Process::start("redis-sentinel", &options) }
    }
}

impl Redis {
    /// Starts a server without persistence and without TLS.
    pub fn start() -> Self {
        RedisOptions::default().start()
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.process.port
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// Returns the directory with the data of the server.
    pub fn directory(&self) -> &Path {
        self.process.directory.path()
    }

    /// Returns the URL for connections without TLS.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port())
    }

    /// Runs a command as the Redis user `default`, and returns the answer.
    pub fn run(&self, command: &[&str]) -> Reply {
        self.process.run(command)
    }

    /// Runs a command with binary arguments as the Redis user `default`, and returns the answer.
    pub fn run_bytes(&self, command: &[&[u8]]) -> Reply {
        self.process.run_bytes(command)
    }

    /// Removes all data.
    pub fn flush(&self) {
        self.run(&["FLUSHALL"]).ok();
    }

    /// Closes the connections of clients, except for replicas and for subscribers to channels.
    pub fn close_connections(&self) {
        self.run(&["CLIENT", "KILL", "TYPE", "normal"]).ok();
    }

    /// Stops the process with SIGSTOP. Its connections stay open.
    pub fn pause(&self) {
        self.process.signal("-STOP");
    }

    /// Continues a paused process.
    pub fn resume(&self) {
        self.process.signal("-CONT");
    }

    /// Kills the process with SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Kills the process, and starts it again with the same port and directory.
    pub fn start_again(&mut self) {
        self.process.kill();
        self.process.start_again();
    }

    /// Waits until `count` replicas are connected to the server and have received all its data.
    pub fn wait_for_replicas(&self, count: usize) {
        wait("the replicas", || {
            let info = self.run(&["INFO", "replication"]).text();
            let offset = info.lines().find_map(|line| line.strip_prefix("master_repl_offset:"));
            let complete = format!("state=online,offset={},", offset.unwrap());
            info.matches(&complete).count() == count
        });
    }

    /// Returns the value of a field in the output of the command `INFO`.
    pub fn info(&self, section: &str, field: &str) -> String {
        let info = self.run(&["INFO", section]).text();
        let line = info.lines().find_map(|line| line.strip_prefix(&format!("{field}:")));
        line.unwrap().to_owned()
    }
}

impl Sentinel {
    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.process.port
    }

    /// Returns the URL for connections without TLS.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port())
    }

    /// Runs a command, and returns its answer.
    pub fn run(&self, command: &[&str]) -> Reply {
        self.process.run(command)
    }

    /// Waits until the Sentinel knows `count` replicas of the primary.
    pub fn wait_for_replicas(&self, count: usize) {
        wait("the replicas at Sentinel", || match self.run(&["SENTINEL", "REPLICAS", "main"]) {
            Reply::Array(replicas) => replicas.len() == count,
            _ => false,
        });
    }

    /// Waits until the Sentinel names the server with this port as the primary.
    pub fn wait_for_primary(&self, port: u16) {
        wait("the failover", || {
            let address = self.run(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main"]);
            matches!(address, Reply::Array(parts) if parts[1] == Reply::Bytes(port.to_string().into()))
        });
    }
}

/// Calls `is_done` until it returns `true`. Panics if this takes longer than [`PATIENCE`]. The panic message contains
/// `what`.
fn wait(what: &str, mut is_done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_done() {
        assert!(Instant::now() < deadline, "{what}: it takes too long");
        thread::sleep(Duration::from_millis(20));
    }
}

/// An answer of Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// No value.
    Nil,
    /// A number.
    Int(i64),
    /// Text or bytes.
    Bytes(Vec<u8>),
    /// Several answers.
    Array(Vec<Self>),
    /// An error.
    Error(String),
}

impl Reply {
    /// Asserts that the answer is not an error.
    #[track_caller]
    pub fn ok(self) {
        assert!(!matches!(self, Self::Error(_)), "{self:?}");
    }

    /// Returns the text of the answer. Panics if the answer is not a text.
    #[track_caller]
    pub fn text(self) -> String {
        match self {
            Self::Bytes(bytes) => String::from_utf8(bytes).unwrap(),
            other => panic!("not a text: {other:?}"),
        }
    }

    /// Returns the number in the answer. Panics if the answer is not a number.
    #[track_caller]
    pub fn int(self) -> i64 {
        match self {
            Self::Int(number) => number,
            other => panic!("not a number: {other:?}"),
        }
    }

    fn read(stream: &mut impl BufRead) -> Self {
        let mut line = String::new();
        assert!(stream.read_line(&mut line).unwrap() > 0, "Redis has closed the connection");
        let (kind, rest) = line.trim_end().split_at(1);
        match kind {
            "+" => Self::Bytes(rest.into()),
            "-" => Self::Error(rest.to_owned()),
            ":" => Self::Int(rest.parse().unwrap()),
            "$" | "*" if rest == "-1" => Self::Nil,
            "$" => {
                let mut bytes = vec![0; rest.parse::<usize>().unwrap() + 2];
                stream.read_exact(&mut bytes).unwrap();
                bytes.truncate(bytes.len() - 2);
                Self::Bytes(bytes)
            }
            "*" => Self::Array((0..rest.parse().unwrap()).map(|_| Self::read(stream)).collect()),
            _ => panic!("not an answer of Redis: {line}"),
        }
    }
}

/// A process and its directory. The commands of a test go through a Unix socket, so they need no TLS.
#[derive(Debug)]
struct Process {
    child: Child,
    program: &'static str,
    port: u16,
    directory: TempDir,
}

impl Process {
    fn start(program: &'static str, options: &RedisOptions) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // If another process takes the port before the server listens, the server ends. Then the loop tries another
        // port.
        for _ in 0..10 {
            let port = free_port();
            fs::write(
                directory.path().join("redis.conf"),
                configuration(port, directory.path(), options),
            )
            .unwrap();
            let mut child = spawn(program, directory.path());
            if is_ready(&mut child, directory.path()) {
                return Self { child, program, port, directory };
            }
        }
        panic!("{program} does not start: {}", log(directory.path()));
    }

    fn start_again(&mut self) {
        self.child = spawn(self.program, self.directory.path());
        let started = is_ready(&mut self.child, self.directory.path());
        assert!(started, "{} does not start: {}", self.program, log(self.directory.path()));
    }

    fn run(&self, command: &[&str]) -> Reply {
        self.run_bytes(&command.iter().map(|part| part.as_bytes()).collect::<Vec<_>>())
    }

    fn run_bytes(&self, command: &[&[u8]]) -> Reply {
        run(self.directory.path(), command).unwrap()
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(self.directory.path().join("redis.sock"));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn configuration(port: u16, directory: &Path, options: &RedisOptions) -> String {
    let path = |name: &str| directory.join(name).display().to_string();
    let mut lines = vec![
        "bind 127.0.0.1".to_owned(),
        "daemonize no".to_owned(),
        format!("dir {}", directory.display()),
        format!("logfile {}", path("log")),
        format!("unixsocket {}", path("redis.sock")),
    ];
    match options.clients {
        None => lines.push(format!("port {port}")),
        Some(clients) => {
            let key = pki::SERVER.key_pair();
            let certificate = Authority::trusted().certify(&key, |params| {
                params.subject_alt_names.push(SanType::IpAddress(Ipv4Addr::LOCALHOST.into()));
            });
            fs::write(path("server.pem"), certificate).unwrap();
            fs::write(path("server.key"), pki::SERVER.key).unwrap();
            fs::write(path("ca.pem"), Authority::trusted().pem()).unwrap();
            let clients = match clients {
                Clients::MayHaveCertificate => "optional",
                Clients::MustHaveCertificate => "yes",
            };
            lines.extend([
                "port 0".to_owned(),
                format!("tls-port {port}"),
                format!("tls-cert-file {}", path("server.pem")),
                format!("tls-key-file {}", path("server.key")),
                format!("tls-ca-cert-file {}", path("ca.pem")),
                format!("tls-auth-clients {clients}"),
                "tls-replication yes".to_owned(),
            ]);
        }
    }
    lines.extend(options.lines.iter().cloned());
    lines.join("\n") + "\n"
}

fn spawn(program: &str, directory: &Path) -> Child {
    Command::new(program)
        .arg(directory.join("redis.conf"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Waits until the server answers. Returns `false` if the process has ended.
fn is_ready(child: &mut Child, directory: &Path) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        if matches!(run(directory, &[b"PING"]), Ok(Reply::Bytes(_))) {
            return true;
        }
        assert!(Instant::now() < deadline, "Redis does not answer: {}", log(directory));
        thread::sleep(Duration::from_millis(10));
    }
    false
}

fn run(directory: &Path, command: &[&[u8]]) -> std::io::Result<Reply> {
    let mut stream = UnixStream::connect(directory.join("redis.sock"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut request = format!("*{}\r\n", command.len()).into_bytes();
    for part in command {
        request.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
        request.extend_from_slice(part);
        request.extend_from_slice(b"\r\n");
    }
    stream.write_all(&request)?;
    Ok(Reply::read(&mut BufReader::new(stream)))
}

fn log(directory: &Path) -> String {
    fs::read_to_string(directory.join("log")).unwrap_or_default()
}
