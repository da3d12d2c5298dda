//! The demo with two nodes: the second node is a process of its own, so that the user can kill it.

use std::{
    env,
    io::ErrorKind,
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use passticket_proxy::config::Config;
use rustix::process::{Pid, Signal, getpid, kill_process};
use tokio::time::sleep;
use tower_passticket::cluster::redis::{RedisAddress, RedisSettingsError};

use super::files::DemoFiles;
use crate::{cluster, exit::Exit, terminal::print_problem};

const START: Duration = Duration::from_secs(30);

const STOP: Duration = Duration::from_secs(10);

const CHECK_EVERY: Duration = Duration::from_millis(50);

pub(super) fn check_url(url: &str) -> Result<(), Exit> {
    let problem = match RedisAddress::from_url(url) {
        Ok(_) if url.starts_with("redis://") && !url.contains('@') => return Ok(()),
        Ok(_) => {
            "the demo uses a Redis on this machine without a user; write redis://127.0.0.1:PORT"
                .to_owned()
        }
        Err(RedisSettingsError::PasswordInUrl) => {
            "the demo uses a Redis without a password; write redis://127.0.0.1:PORT".to_owned()
        }
        Err(error) => error.to_string(),
    };
    Err(Exit::usage(format!("--redis: {problem}")))
}

pub(super) async fn reach_redis(config: &Config) -> Result<(), Exit> {
    cluster::reach(config).await.map_err(|exit| match exit {
        Exit::Runtime(error) => Exit::Runtime(format!(
            "--redis: {error}; start a Redis, for example: redis-server --port 6379 --save ''"
        )),
        other => other,
    })
}

/// A port for the second node. While this value exists, no other process can take the port.
pub(super) struct ReservedPort(TcpListener);

impl ReservedPort {
    /// Takes the port. If `port` is 0, takes any free port.
    pub(super) fn take(port: u16) -> Result<Self, Exit> {
        // This fails if another process uses the port. Without this check, the other process would answer the requests
        // for the second node.
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(Self).map_err(|error| {
            Exit::runtime(format!(
                "cannot listen on 127.0.0.1:{port} for node 2: {error}; choose another port with --port"
            ))
        })
    }

    pub(super) fn number(&self) -> Result<u16, Exit> {
        Ok(self.0.local_addr().map_err(Exit::runtime)?.port())
    }
}

pub(super) struct SecondNode(Child);

impl SecondNode {
    /// Starts the process, and waits until it accepts connections on the reserved port.
    pub(super) async fn start(files: &DemoFiles, reserved: ReservedPort) -> Result<Self, Exit> {
        let port = reserved.number()?;
        let program = env::current_exe().map_err(Exit::runtime)?;
        drop(reserved);
        let child = Command::new(program)
            .args(["serve", "--config"])
            .arg(files.second_zowe_yaml())
            .args(["--end-with", &getpid().as_raw_nonzero().to_string()])
            .stdin(Stdio::null())
            .spawn();
        let child =
            child.map_err(|error| Exit::runtime(format!("cannot start node 2: {error}")))?;
        let mut node = Self(child);
        let deadline = Instant::now() + START;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if let Some(status) = node.0.try_wait().map_err(Exit::runtime)? {
                return Err(Exit::runtime(format!(
                    "node 2 has ended ({status}); its log is above"
                )));
            }
            if Instant::now() > deadline {
                return Err(Exit::runtime("node 2 does not start; its log is above"));
            }
            sleep(CHECK_EVERY).await;
        }
        Ok(node)
    }

    /// Waits until the process ends, and prints that it has ended. Never returns.
    pub(super) async fn watch(&mut self) {
        let mut is_running = true;
        loop {
            sleep(CHECK_EVERY).await;
            if is_running && let Ok(Some(status)) = self.0.try_wait() {
                is_running = false;
                print_problem(&format!("node 2 has ended ({status}); node 1 continues"));
            }
        }
    }

    /// Asks the process to end. If it still runs after [`STOP`], kills it.
    pub(super) async fn stop(mut self) {
        // A signal from the terminal may already have reached the second node.
        if let Ok(None) = self.0.try_wait()
            && let Some(pid) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw)
        {
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + STOP;
        while let Ok(None) = self.0.try_wait() {
            if Instant::now() > deadline {
                return;
            }
            sleep(CHECK_EVERY).await;
        }
    }
}

impl Drop for SecondNode {
    fn drop(&mut self) {
        match self.0.kill() {
            Ok(()) => {
                let _ = self.0.wait();
            }
            Err(error) if error.kind() == ErrorKind::InvalidInput => {}
            Err(error) => tracing::warn!(%error, "cannot end node 2"),
        }
    }
}
