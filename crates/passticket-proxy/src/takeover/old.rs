//! The old process of a takeover: it hands its work over.

use std::{
    fs, io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::json;
use tokio::{
    io::AsyncReadExt,
    net::UnixStream,
    time::{sleep, timeout},
};

use super::{
    frames::{Kind, StepError, receive, send, send_sockets},
    hand_over::HandOver,
    relay::Relay,
    socket::{Socket, check_peer},
};
use crate::stack::Stores;

/// The version of the messages. The new process sends it in `Hello`, and the old process in `Listeners`.
pub(super) const PROTOCOL: u64 = 1;

/// The deadline of a step in which the other process only answers.
pub(super) const ANSWER: Duration = Duration::from_secs(5);

/// How long the new process may check the listening sockets.
const PREPARE: Duration = Duration::from_secs(10);

/// How long the hand-over waits until the requests to the auth API that have begun are answered.
const OWN_REQUESTS: Duration = Duration::from_secs(2);

/// How long the new process may load the store. Requests wait for it. A store with a million rules takes about a second.
const OPEN: Duration = Duration::from_secs(15);

/// How long the new process may take to start its worker threads.
const SERVE: Duration = Duration::from_secs(10);

/// After a failed takeover, the store file may still be open in the new process. The old process tries to open it again
/// for this time. Then it kills the new process.
const STORE_BUSY: Duration = Duration::from_secs(2);
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// What the running process hands over.
pub(crate) struct Running {
    pub(crate) hand_over: HandOver,
    pub(crate) stores: Stores,
    /// The path of the revocation file.
    pub(crate) revocations: PathBuf,
    pub(crate) gateway: OwnedFd,
    pub(crate) gateway_address: SocketAddr,
    pub(crate) admin: Option<(OwnedFd, SocketAddr)>,
}

/// The process that has taken over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Successor {
    /// The process id. `None` if the process is in another container.
    pub(crate) pid: Option<i32>,
}

/// The socket on which another process can take over.
pub(crate) struct Offer {
    running: Running,
    path: PathBuf,
    /// `None` if the socket could not be made.
    socket: Option<Socket>,
}

impl Offer {
    /// Makes the socket at `path`. If this fails, logs a warning.
    pub(crate) fn new(running: Running, path: PathBuf) -> Self {
        let mut offer = Self { running, path, socket: None };
        offer.bind();
        offer
    }

    fn bind(&mut self) {
        self.socket = match Socket::bind(&self.path) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "no other process can take over from this one (serve --takeover)");
                None
            }
        };
    }

    /// Waits for a process that takes over. Returns when the takeover has succeeded.
    pub(crate) async fn until_taken_over(mut self) -> Successor {
        loop {
            let Some(socket) = &self.socket else { return std::future::pending().await };
            let stream = match socket.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a process that wants to take over");
                    sleep(ANSWER).await;
                    continue;
                }
            };
            if let Err(error) = check_peer(&stream) {
                tracing::warn!(%error, "takeover refused");
                continue;
            }
            let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
            tracing::info!(pid, "another process wants to take over");
            match self.running.hand_over(stream).await {
                Ok(()) => return Successor { pid },
                Err(error) => {
                    tracing::error!(pid, %error, "the takeover failed; this process continues");
                    // The other process may have replaced the socket.
                    self.bind();
                }
            }
        }
    }
}

impl Running {
    async fn hand_over(&self, mut stream: UnixStream) -> Result<(), StepError> {
        let process = Process::at(&stream);
        let hello = receive(&mut stream, Kind::Hello, ANSWER).await?;
        if hello != PROTOCOL.to_string() {
            let text =
                format!("the running process has version {PROTOCOL} of the takeover protocol");
            send(&mut stream, Kind::GivenUp, &text, ANSWER).await?;
            return Err(StepError::Protocol);
        }
        let about = json!({
            "protocol": PROTOCOL,
            "revocations": canonical(&self.revocations).display().to_string(),
            "gateway": self.gateway_address.to_string(),
            "admin": self.admin.as_ref().map(|(_, address)| address.to_string()),
        });
        send(&mut stream, Kind::Listeners, &about.to_string(), ANSWER).await?;
        let mut sockets: Vec<BorrowedFd<'_>> = vec![self.gateway.as_fd()];
        sockets.extend(self.admin.as_ref().map(|(socket, _)| socket.as_fd()));
        send_sockets(&stream, &sockets, ANSWER).await?;
        receive(&mut stream, Kind::Prepared, PREPARE).await?;
        tracing::info!(
            "takeover: the new process is prepared; requests wait until it has the store"
        );
        let mut held = Held { running: self, may_be_used: false, is_done: false };
        match held.commit(&mut stream).await {
            Ok(()) => {}
            Err(error) => {
                // A process that only waits for the next message notices this, and ends.
                let text = error.to_string();
                let _ = send(&mut stream, Kind::GivenUp, &text, ANSWER).await;
                held.take_back(stream, process).await;
                return Err(error);
            }
        }
        // If the new process has just ended, the connection cannot be used.
        match Relay::start(stream).await {
            Ok(relay) => {
                held.is_done = true;
                let store = self.stores.revocations.clone();
                tokio::spawn(relay.clone().follow_revocations(store));
                self.hand_over.gate.relay(relay);
                Ok(())
            }
            Err(error) => Err(StepError::Ended(io::Error::other(error))),
        }
    }
}

/// The time from the hand-over of the state to the end of the takeover. If the takeover fails, or if its future is
/// dropped because this process stops, this process answers the held requests.
struct Held<'r> {
    running: &'r Running,
    /// Whether the new process may have made tickets.
    may_be_used: bool,
    is_done: bool,
}

impl Held<'_> {
    /// Hands the state over. The new process serves when this function returns.
    async fn commit(&mut self, stream: &mut UnixStream) -> Result<(), StepError> {
        let Running { hand_over, stores, .. } = self.running;
        hand_over.gate.hold(OWN_REQUESTS).await;
        let state = hand_over.owners.hand_over().await;
        stores.revocations.suspend().await?;
        if let Some(audit) = &stores.audit {
            audit.share();
        }
        send(stream, Kind::State, &state.to_text(), ANSWER).await?;
        receive(stream, Kind::Opened, OPEN).await?;
        self.may_be_used = true;
        send(stream, Kind::Go, "", ANSWER).await?;
        receive(stream, Kind::Serving, SERVE).await?;
        Ok(())
    }

    /// Continues the work of this process. First makes sure that the new process does not work.
    async fn take_back(mut self, stream: UnixStream, process: Process) {
        let mut stream = Some(stream);
        if self.may_be_used {
            // The new process may serve already. Two processes must not serve.
            process.end(stream.take()).await;
        }
        // The new process ends when it reads that the connection was closed.
        drop(stream);
        let store = &self.running.stores.revocations;
        let tries = async {
            while store.resume().await.is_err() {
                sleep(TRY_AGAIN_AFTER).await;
            }
        };
        if timeout(STORE_BUSY, tries).await.is_err() {
            process.kill();
        }
        self.is_done = true;
        self.running.open(self.may_be_used);
        // While the store is closed, revocations are refused with an error, and the health is DOWN.
        while store.resume().await.is_err() {
            sleep(TRY_AGAIN_AFTER).await;
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            // The command is sent when `resume` is called. Nothing waits for its result.
            drop(self.running.stores.revocations.resume());
            self.running.open(self.may_be_used);
        }
    }
}

impl Running {
    fn open(&self, may_be_used: bool) {
        self.hand_over.owners.take_back(may_be_used);
        if let Some(audit) = &self.stores.audit {
            audit.unshare();
        }
        self.hand_over.gate.open();
    }
}

/// The new process. The file descriptor refers to this process even if its id is used again.
struct Process(Option<OwnedFd>);

impl Process {
    fn at(stream: &UnixStream) -> Self {
        let pid = stream.peer_cred().ok().and_then(|peer| peer.pid()).and_then(Pid::from_raw);
        Self(pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()))
    }

    fn kill(&self) {
        if let Some(process) = &self.0 {
            tracing::warn!("the new process does not end by itself, so it is killed");
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
    }

    /// Kills the process, and waits until it has ended.
    async fn end(&self, stream: Option<UnixStream>) {
        self.kill();
        let Some(mut stream) = stream else { return };
        // The connection is closed when the process has ended.
        let mut byte = [0];
        while stream.read(&mut byte).await.is_ok_and(|read| read > 0) {}
    }
}

pub(super) fn canonical(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}
