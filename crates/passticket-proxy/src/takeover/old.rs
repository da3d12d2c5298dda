//! The old process of a takeover: it hands its work over. The *store* is the file with the revocations. The [parent
//! module](super) describes the messages.

use std::{
    fs,
    future::pending,
    io,
    net::TcpListener,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::json;
use tokio::{
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

/// The deadline of a step in which the other process only has to answer.
pub(super) const ANSWER: Duration = Duration::from_secs(5);

/// The time that the new process may take to check the listening sockets, open missing sockets, and connect to Redis.
const PREPARE: Duration = Duration::from_secs(10);

/// The maximum time that the hand-over waits for the answers to earlier requests to the auth API.
const OWN_REQUESTS: Duration = Duration::from_secs(2);

/// The time that the new process may take to open the store. Meanwhile, requests wait. A store with a million
/// revocation rules takes about a second.
const OPEN: Duration = Duration::from_secs(15);

/// The time that the new process may take to start its worker threads.
const SERVE: Duration = Duration::from_secs(10);

/// If a takeover fails before `Go`, the store file may still be open in the new process. The old process tries to open
/// the file for this time. Then it kills the new process.
const STORE_BUSY: Duration = Duration::from_secs(2);
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(50);

pub(crate) struct Running {
    pub(crate) hand_over: HandOver,
    pub(crate) stores: Stores,
    pub(crate) revocations: PathBuf,
    pub(crate) gateway: TcpListener,
    pub(crate) admin: Option<TcpListener>,
    pub(crate) zaas: Option<TcpListener>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Successor {
    /// The process id. `None` if it is not known, for example because the process is in another container.
    pub(crate) pid: Option<i32>,
}

/// The socket on which another process can take over.
pub(crate) struct Offer {
    running: Arc<Running>,
    path: PathBuf,
    /// `None` if the socket could not be made.
    socket: Option<Socket>,
}

impl Offer {
    /// Makes the socket at `path`. If it cannot be made, logs a warning.
    pub(crate) fn new(running: Running, path: PathBuf) -> Self {
        let mut offer = Self { running: Arc::new(running), path, socket: None };
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

    /// Waits for a process that takes over. Returns when the takeover has succeeded. Never returns if the socket could
    /// not be made.
    pub(crate) async fn until_taken_over(mut self) -> Successor {
        loop {
            let Some(socket) = &self.socket else { return pending().await };
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
            // The takeover runs in its own task, because a signal that stops this process drops this future. If a
            // takeover stopped in its last step, neither process would know whether the other one serves.
            let running = self.running.clone();
            let task = tokio::spawn(async move { running.hand_over(stream).await });
            let handed_over = task.await.map_err(|error| StepError::Ended(io::Error::other(error)));
            match handed_over.flatten() {
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
        let address = |listener: &Option<TcpListener>| {
            let address = listener.as_ref().map(TcpListener::local_addr).transpose()?;
            io::Result::Ok(address.map(|address| address.to_string()))
        };
        let about = json!({
            "protocol": PROTOCOL,
            "revocations": canonical(&self.revocations).display().to_string(),
            "gateway": self.gateway.local_addr()?.to_string(),
            "admin": address(&self.admin)?,
            "zaas": address(&self.zaas)?,
        });
        send(&mut stream, Kind::Listeners, &about.to_string(), ANSWER).await?;
        // A new process of an earlier version takes only the first two sockets.
        let sockets = [&self.gateway].into_iter().chain(&self.admin).chain(&self.zaas);
        let sockets: Vec<BorrowedFd<'_>> = sockets.map(AsFd::as_fd).collect();
        send_sockets(&stream, &sockets, ANSWER).await?;
        receive(&mut stream, Kind::Prepared, PREPARE).await?;
        tracing::info!(
            "takeover: the new process is prepared; requests wait until it has opened the revocation file"
        );
        let mut held = Held { running: self, may_be_used: false, is_done: false };
        let stream = match held.commit(&mut stream).await {
            Ok(()) => stream,
            Err(error) if held.may_be_used => held.settle(stream, &process, error).await?,
            Err(error) => {
                // If the new process still waits for the next message, it reads `GivenUp`, and ends.
                let text = error.to_string();
                let _ = send(&mut stream, Kind::GivenUp, &text, ANSWER).await;
                held.take_back(stream, &process).await;
                return Err(error);
            }
        };
        match Relay::start(stream).await {
            Ok(relay) => {
                held.is_done = true;
                let store = self.stores.revocations.clone();
                let (following, owners) = (relay.clone(), self.hand_over.owners.clone());
                tokio::spawn(async move {
                    following.follow_revocations(store).await;
                    owners.end_following().await;
                });
                self.hand_over.gate.relay(relay);
                Ok(())
            }
            // The new process has just ended, or has closed the connection. It may have made tickets.
            Err(error) => {
                process.kill();
                held.resume_store().await;
                Err(StepError::Ended(io::Error::other(error)))
            }
        }
    }
}

/// The phase from the hand-over of the state to the end of the takeover. If the takeover fails, this process answers
/// the held requests.
struct Held<'r> {
    running: &'r Running,
    /// Whether the new process has got the permission to serve. If so, it may have made tickets, and only the lock of
    /// the store file proves that it has ended. So this process continues only after it has opened the file again.
    may_be_used: bool,
    is_done: bool,
}

impl Held<'_> {
    /// Hands the state over. The new process serves when this function returns `Ok`.
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

    /// Continues the work of this process. The new process has no permission to serve.
    async fn take_back(mut self, stream: UnixStream, process: &Process) {
        // The new process ends when it reads that the connection was closed.
        drop(stream);
        if timeout(STORE_BUSY, self.running.reopen_store()).await.is_err() {
            process.kill();
            if self.running.stores.cluster.is_some() {
                // The new process may still renew the lease of this node. The other nodes cannot distinguish the two
                // processes: they see that the node has applied a revocation, although only the new process has applied
                // it. So this process continues only when the new process has closed the store file.
                self.running.reopen_store().await;
            }
        }
        self.is_done = true;
        self.running.open(self.may_be_used);
        // The store may still be closed. Until it is open, this process refuses revocations with an error, and its
        // health is DOWN.
        self.running.reopen_store().await;
    }

    /// Decides which process continues after the takeover has failed with `failure`, although the new process has the
    /// permission to serve. Kills the new process, if possible. Then waits until this process can open the store file,
    /// and continues the work of this process. If the new process could not be killed, it may say during this wait that
    /// it serves. Then this function ends the wait, and returns the connection to the new process.
    ///
    /// # Errors
    /// Returns `failure` if this process has continued its work.
    async fn settle(
        &mut self,
        mut stream: UnixStream,
        process: &Process,
        failure: StepError,
    ) -> Result<UnixStream, StepError> {
        let is_killed = process.kill();
        if !is_killed {
            // The new process may already serve. This process does not receive the revocations of the new process, so
            // the tunnels of this process must end.
            self.running.hand_over.owners.end_tunnels();
        }
        tracing::warn!(error = %failure, "the new process may serve; requests wait until it serves, or until it has closed the revocation file");
        let serves = async {
            // A killed process does not serve, although its message may still arrive.
            if is_killed || receive(&mut stream, Kind::Serving, Duration::MAX).await.is_err() {
                // The end of the connection does not prove the end of the process.
                pending::<()>().await;
            }
        };
        let resumed = self.resume_store();
        let has_resumed = tokio::select! {
            biased;
            () = serves => false,
            () = resumed => true,
        };
        if has_resumed { Err(failure) } else { Ok(stream) }
    }

    /// Waits until this process can open the store file, and continues the work of this process. The lock of the file
    /// proves that the new process has ended.
    async fn resume_store(&mut self) {
        self.running.reopen_store().await;
        self.is_done = true;
        self.running.open(self.may_be_used);
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        if self.may_be_used {
            // This process ends while the new process may serve, so it refuses requests.
            self.running.hand_over.gate.refuse();
            self.running.hand_over.owners.end_tunnels();
        } else {
            // The call of `resume` sends the command. `drop` cannot wait for the result, so it drops the future.
            drop(self.running.stores.revocations.resume());
            self.running.open(self.may_be_used);
        }
    }
}

impl Running {
    async fn reopen_store(&self) {
        while self.stores.revocations.resume().await.is_err() {
            sleep(TRY_AGAIN_AFTER).await;
        }
    }

    fn open(&self, may_be_used: bool) {
        self.hand_over.owners.take_back(may_be_used);
        if let Some(audit) = &self.stores.audit {
            audit.unshare();
        }
        self.hand_over.gate.open();
    }
}

/// The new process. The file descriptor refers to this process even if its id is used again. `None` if no descriptor
/// can be opened, for example because the process is in another namespace of process ids.
struct Process(Option<OwnedFd>);

impl Process {
    fn at(stream: &UnixStream) -> Self {
        let pid = stream.peer_cred().ok().and_then(|peer| peer.pid()).and_then(Pid::from_raw);
        Self(pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()))
    }

    fn kill(&self) -> bool {
        let Some(process) = &self.0 else { return false };
        tracing::warn!("the new process does not end by itself, so it is killed");
        pidfd_send_signal(process, Signal::KILL).is_ok()
    }
}

pub(super) fn canonical(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use tower_passticket::revocation::DurableStore;

    use super::{super::gate::Answerer, *};

    const SHORT: Duration = Duration::from_millis(300);

    /// Returns a process that holds its requests and has closed its store, as after the hand-over of its state.
    async fn handed_over(directory: &Path) -> Running {
        let revocations = directory.join("revocations.redb");
        let gateway = TcpListener::bind("127.0.0.1:0").unwrap();
        let store = Arc::new(DurableStore::create(&revocations).unwrap());
        let running = Running {
            hand_over: HandOver::default(),
            stores: Stores {
                revocations: store.clone(),
                cluster: None,
                audit: None,
                uses: Arc::default(),
                zowe: None,
            },
            revocations,
            gateway,
            admin: None,
            zaas: None,
        };
        running.hand_over.gate.hold(OWN_REQUESTS).await;
        store.suspend().await.unwrap();
        running
    }

    fn held(running: &Running, may_be_used: bool) -> Held<'_> {
        Held { running, may_be_used, is_done: false }
    }

    /// The new process is in another namespace. So it cannot be killed, and the end of its connection does not prove
    /// that it has ended.
    #[tokio::test]
    async fn the_old_process_continues_only_with_the_lock_of_the_store() {
        let directory = tempfile::tempdir().unwrap();
        let running = handed_over(directory.path()).await;
        let new = DurableStore::open(&running.revocations).unwrap();
        let (stream, peer) = UnixStream::pair().unwrap();
        drop(peer);
        let process = Process(None);
        let mut held = held(&running, true);
        let settling = held.settle(stream, &process, StepError::Protocol);
        tokio::pin!(settling);
        assert!(timeout(SHORT, &mut settling).await.is_err());
        assert!(timeout(SHORT, running.hand_over.gate.answerer()).await.is_err());
        drop(new);
        let settled = timeout(10 * ANSWER, settling).await.unwrap();
        assert!(matches!(settled, Err(StepError::Protocol)), "{settled:?}");
        let answerer = timeout(SHORT, running.hand_over.gate.answerer()).await;
        assert!(matches!(answerer, Ok(Answerer::ThisProcess)));
    }

    #[tokio::test]
    async fn a_new_process_that_serves_late_has_taken_over() {
        let directory = tempfile::tempdir().unwrap();
        let running = handed_over(directory.path()).await;
        let _new = DurableStore::open(&running.revocations).unwrap();
        let (stream, mut peer) = UnixStream::pair().unwrap();
        let process = Process(None);
        let mut held = held(&running, true);
        let failure = StepError::Deadline(SERVE);
        let settling = held.settle(stream, &process, failure);
        tokio::pin!(settling);
        assert!(timeout(SHORT, &mut settling).await.is_err());
        send(&mut peer, Kind::Serving, "", ANSWER).await.unwrap();
        let settled = timeout(10 * ANSWER, settling).await.unwrap();
        assert!(settled.is_ok(), "{settled:?}");
        assert!(timeout(SHORT, running.hand_over.gate.answerer()).await.is_err());
    }

    #[tokio::test]
    async fn a_new_process_that_was_killed_has_not_taken_over_although_it_has_served() {
        let directory = tempfile::tempdir().unwrap();
        let running = handed_over(directory.path()).await;
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let pid = Pid::from_child(&child);
        let process = Process(Some(pidfd_open(pid, PidfdFlags::empty()).unwrap()));
        let (stream, mut peer) = UnixStream::pair().unwrap();
        send(&mut peer, Kind::Serving, "", ANSWER).await.unwrap();
        let mut held = held(&running, true);
        let settling = held.settle(stream, &process, StepError::Deadline(SERVE));
        let settled = timeout(10 * ANSWER, settling).await;
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success());
        assert!(matches!(settled, Ok(Err(StepError::Deadline(_)))), "{settled:?}");
        let answerer = timeout(SHORT, running.hand_over.gate.answerer()).await;
        assert!(matches!(answerer, Ok(Answerer::ThisProcess)));
    }

    #[tokio::test]
    async fn a_takeover_that_is_aborted_opens_the_gate_only_before_the_permission_to_serve() {
        for may_be_used in [false, true] {
            let directory = tempfile::tempdir().unwrap();
            let running = handed_over(directory.path()).await;
            drop(held(&running, may_be_used));
            let answerer = timeout(SHORT, running.hand_over.gate.answerer()).await.unwrap();
            match answerer {
                Answerer::ThisProcess => assert!(!may_be_used),
                Answerer::NoProcess => assert!(may_be_used),
                Answerer::Successor(_) => panic!("no process has taken over"),
            }
        }
    }
}
