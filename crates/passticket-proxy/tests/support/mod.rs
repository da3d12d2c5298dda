//! What the tests over real TLS share: a program under test, a client that is not ours, and
//! certificates.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use reqwest::{Certificate, Client, ClientBuilder, Identity};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_passticket-proxy");

/// How long anything may take on a slow and busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Whether there is a `curl` to drive the program with. In CI there must be.
pub(crate) fn has_curl() -> bool {
    let found = Command::new("curl").arg("--version").output().is_ok();
    assert!(found || std::env::var_os("CI").is_none(), "CI needs curl");
    found
}

/// The program, running. Ended by its pid when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
    log: Arc<Mutex<String>>,
    logger: Option<JoinHandle<()>>,
}

impl Running {
    pub(crate) fn start(args: &[&str]) -> Self {
        // A file that must not grow is then an error to the program, and not its end.
        let mut child = Command::new("sh")
            .args(["-c", r#"trap '' XFSZ; exec "$0" "$@""#, PROGRAM])
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
        Self { child, stdout: Some(stdout), log, logger: Some(logger) }
    }

    /// Waits until the log has a line with `text`; gives that line.
    pub(crate) fn logged(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.log.lock().unwrap().clone();
            if let Some(line) = log.lines().find(|line| line.contains(text)) {
                return line.to_owned();
            }
            assert!(Instant::now() < deadline, "{text} is not in the log:\n{log}");
            assert!(self.child.try_wait().unwrap().is_none(), "ended early:\n{log}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Waits for the end; gives the exit status and everything that was logged.
    pub(crate) fn wait(&mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() > deadline => panic!("still running"),
                None => thread::sleep(Duration::from_millis(10)),
            }
        };
        self.logger.take().unwrap().join().unwrap();
        (status, self.log.lock().unwrap().clone())
    }

    /// The most memory that it has had so far, in KiB.
    pub(crate) fn peak_kib(&self) -> u64 {
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

/// `serve --demo` on a free port, in a directory of its own.
pub(crate) struct Demo {
    pub(crate) program: Running,
    pub(crate) directory: PathBuf,
    /// What it printed before it was ready.
    pub(crate) printed: String,
    pub(crate) url: String,
    _temporary: Option<TempDir>,
}

impl Demo {
    pub(crate) fn start() -> Self {
        let temporary = TempDir::new().unwrap();
        let directory = temporary.path().join("a demo");
        let demo = Self::start_in(&directory);
        Self { _temporary: Some(temporary), ..demo }
    }

    pub(crate) fn start_in(directory: &Path) -> Self {
        let args = ["serve", "--demo", "--port", "0", "--data-dir", directory.to_str().unwrap()];
        let mut program = Running::start(&args);
        let mut printed = String::new();
        let stdout = program.stdout.as_mut().unwrap();
        while !printed.contains("/application/health") {
            assert!(stdout.read_line(&mut printed).unwrap() > 0, "ended early: {printed}");
        }
        let start = printed.find("https://localhost:").unwrap();
        let url: String = printed[start..]
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || ":/".contains(*c))
            .collect();
        Self { program, directory: directory.to_owned(), printed, url, _temporary: None }
    }

    /// `serve --config` on what the demonstration makes, with another zowe.yaml. There is no
    /// service behind it.
    pub(crate) fn reconfigured(edit: impl FnOnce(String) -> String) -> Self {
        let made = Self::start();
        let directory = made.directory.clone();
        let Self { program, _temporary, .. } = made;
        drop(program);
        let path = directory.join("zowe.yaml");
        let mut yaml = fs::read_to_string(&path).unwrap();
        let port = yaml.find("    port: ").unwrap();
        let end = port + yaml[port..].find('\n').unwrap();
        yaml.replace_range(port..end, "    port: 0");
        fs::write(&path, edit(yaml)).unwrap();
        let mut program = Running::start(&["serve", "--config", path.to_str().unwrap()]);
        let line = program.logged("listening");
        let address = &line[line.find("127.0.0.1:").unwrap() + "127.0.0.1:".len()..];
        let port: String = address.chars().take_while(char::is_ascii_digit).collect();
        let url = format!("https://localhost:{port}");
        Self { program, directory, printed: String::new(), url, _temporary }
    }

    pub(crate) fn client(&self) -> Client {
        self.builder().build().unwrap()
    }

    /// A client that shows the certificate of this user.
    pub(crate) fn client_of(&self, user: &str) -> Client {
        self.builder().identity(self.identity(user)).build().unwrap()
    }

    pub(crate) fn builder(&self) -> ClientBuilder {
        client(&fs::read(self.directory.join("certs/ca.pem")).unwrap())
    }

    fn identity(&self, user: &str) -> Identity {
        let mut pem = fs::read(self.directory.join(format!("certs/{user}.pem"))).unwrap();
        pem.extend(fs::read(self.directory.join(format!("certs/{user}.key"))).unwrap());
        Identity::from_pem(&pem).unwrap()
    }

    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    pub(crate) fn auth(&self, path: &str) -> String {
        self.at(&format!("/gateway/api/v1/auth/{path}"))
    }

    /// Logs in as `USER`; gives the token.
    pub(crate) async fn login(&self) -> String {
        let request = self.client().post(self.auth("login"));
        let response = request.basic_auth("USER", Some("validPassword")).send().await.unwrap();
        assert_eq!(response.status(), 204);
        let cookie = response.headers()["set-cookie"].to_str().unwrap();
        let value = cookie.strip_prefix("apimlAuthenticationToken=").unwrap();
        value.split(';').next().unwrap().to_owned()
    }

    /// Makes a PAT of `USER` for these services.
    pub(crate) async fn pat(&self, scopes: &[&str]) -> String {
        let request = self.client().post(self.auth("access-token/generate"));
        let body = serde_json::json!({"validity": 1, "scopes": scopes});
        let response =
            request.basic_auth("USER", Some("validPassword")).json(&body).send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.text().await.unwrap()
    }
}

/// A client that trusts these authorities and nobody else.
pub(crate) fn client(authorities: &[u8]) -> ClientBuilder {
    Client::builder()
        .no_proxy()
        .tls_certs_only(Certificate::from_pem_bundle(authorities).unwrap())
        .timeout(PATIENCE)
}

/// User and ticket of a `Basic` header.
pub(crate) fn basic(headers: &Value) -> (String, String) {
    let basic = headers["authorization"].as_str().unwrap().strip_prefix("Basic ").unwrap();
    let plain = String::from_utf8(BASE64_STANDARD.decode(basic).unwrap()).unwrap();
    let (user, ticket) = plain.split_once(':').unwrap();
    (user.to_owned(), ticket.to_owned())
}
