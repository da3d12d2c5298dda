//! Tests that the gateway continues if it cannot write its log to standard error (docs/decisions.md#d37).

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpStream,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use crate::support::{Demo, PROGRAM};
use reqwest::{Client, StatusCode};
use serde_json::json;
use tempfile::TempDir;
use test_support::{PATIENCE, client, free_port};

/// A running gateway that cannot write to its standard error.
struct Gateway {
    child: Child,
    client: Client,
    url: String,
    _directory: TempDir,
}

impl Gateway {
    /// Starts `serve --config` from a shell. `redirection` tells the shell where to redirect standard error.
    fn start(redirection: &str, stderr: Stdio) -> Self {
        let directory = TempDir::new().unwrap();
        drop(Demo::start_in(directory.path()));
        let port = free_port();
        let path = directory.path().join("zowe.yaml");
        let yaml = crate::support::with_any_port(&fs::read_to_string(&path).unwrap());
        fs::write(&path, yaml.replacen("port: 0", &format!("port: {port}"), 1)).unwrap();
        let mut child = Command::new("sh")
            .args(["-c", &format!(r#"exec "$0" "$@" {redirection}"#), PROGRAM, "serve", "--config"])
            .arg(&path)
            .env("RUST_LOG", "trace")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(child.try_wait().unwrap().is_none(), "the program ended");
            assert!(Instant::now() < deadline, "the program does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        let authorities = fs::read(directory.path().join("certs/ca.pem")).unwrap();
        let client = client(&authorities).timeout(PATIENCE).build().unwrap();
        let url = format!("https://localhost:{port}");
        Self { child, client, url, _directory: directory }
    }

    fn auth(&self, path: &str) -> String {
        format!("{}/gateway/api/v1/auth/{path}", self.url)
    }

    /// Asserts that the gateway issues and revokes Personal Access Tokens (PATs).
    async fn assert_serves_and_revokes(&self) {
        let generate = async || {
            let request = self.client.post(self.auth("access-token/generate"));
            let request = request.basic_auth("USER", Some("validPassword"));
            let response = request.json(&json!({"scopes": ["a"]})).send().await.unwrap();
            assert_eq!(response.status(), 200);
            response.text().await.unwrap()
        };
        let validate = async |token: &str| {
            let request = self.client.post(self.auth("access-token/validate"));
            let request = request.json(&json!({"token": token, "serviceId": "a"}));
            request.send().await.unwrap().status()
        };
        let (first, second) = (generate().await, generate().await);
        assert_eq!(validate(&first).await, StatusCode::OK);
        let request = self.client.delete(self.auth("access-token/revoke"));
        let response = request.json(&json!({"token": first})).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(validate(&first).await, StatusCode::UNAUTHORIZED);
        assert_eq!(validate(&second).await, StatusCode::OK);
        let request = self.client.delete(self.auth("access-token/revoke/tokens"));
        let response = request.basic_auth("USER", Some("validPassword")).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(validate(&second).await, StatusCode::UNAUTHORIZED);
    }

    fn terminate(&mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "SIGTERM does not end the program");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_closed_pipe_or_closed_standard_error_does_not_stop_the_gateway() {
    for redirection in ["2>/dev/full", "2>&-", ""] {
        // If there is no redirection, standard error is a pipe whose reader has closed its end.
        let stderr = if redirection.is_empty() { Stdio::piped() } else { Stdio::null() };
        let mut gateway = Gateway::start(redirection, stderr);
        drop(gateway.child.stderr.take());
        gateway.assert_serves_and_revokes().await;
        let status = gateway.terminate();
        assert!(status.success(), "{redirection}: {status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unread_pipe_does_not_stop_the_gateway_and_lost_lines_are_counted() {
    let mut gateway = Gateway::start("", Stdio::piped());
    // These requests cause more log lines than the pipe and the queue can store.
    for _ in 0..30 {
        let requests = (0..50).map(|_| gateway.client.get(gateway.auth("query")).send());
        for request in requests {
            assert_eq!(request.await.unwrap().status(), 401);
        }
    }
    gateway.assert_serves_and_revokes().await;

    let stderr = BufReader::new(gateway.child.stderr.take().unwrap());
    let (found, lost) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in stderr.lines().map_while(Result::ok) {
            if line.contains("log lines lost") {
                let _ = found.send(line);
            }
        }
    });
    let line = lost.recv_timeout(PATIENCE).unwrap();
    let count: u64 = line.rsplit("lines=").next().unwrap().parse().unwrap();
    assert!(count > 0, "{line}");
    assert!(gateway.terminate().success());
    reader.join().unwrap();
}

/// The gateway ends even if nothing reads the pipe.
#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_a_gateway_whose_log_is_not_read() {
    let mut gateway = Gateway::start("", Stdio::piped());
    for _ in 0..200 {
        let response = gateway.client.get(gateway.auth("query")).send().await.unwrap();
        assert_eq!(response.status(), 401);
    }
    let status = gateway.terminate();
    assert!(status.success(), "{status}");
}
