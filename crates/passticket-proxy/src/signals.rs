//! The signals that the program handles. After each of these signals, requests in flight continue.

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Notify,
};

use crate::exit::Exit;

/// By default, each of these signals ends the process. After [`listen`](Self::listen), they no longer end it, even if
/// this value was dropped.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
    user1: Signal,
    user2: Signal,
}

impl Signals {
    /// Starts to handle the signals. Call this function within a Tokio runtime, before any work that takes time.
    pub(crate) fn listen() -> Result<Self, Exit> {
        let listen_for =
            |kind| signal(kind).map_err(|e| Exit::runtime(format!("cannot handle signals: {e}")));
        Ok(Self {
            terminate: listen_for(SignalKind::terminate())?,
            interrupt: listen_for(SignalKind::interrupt())?,
            quit: listen_for(SignalKind::quit())?,
            hangup: listen_for(SignalKind::hangup())?,
            user1: listen_for(SignalKind::user_defined1())?,
            user2: listen_for(SignalKind::user_defined2())?,
        })
    }

    /// Waits for SIGTERM, SIGINT or SIGQUIT. SIGHUP notifies `reload`. SIGUSR1 and SIGUSR2 are logged and
    /// have no other effect.
    pub(crate) async fn until_stop(&mut self, reload: &Notify) {
        let stop = loop {
            tokio::select! {
                _ = self.terminate.recv() => break "SIGTERM",
                _ = self.interrupt.recv() => break "SIGINT",
                _ = self.quit.recv() => break "SIGQUIT",
                _ = self.hangup.recv() => {
                    tracing::info!("SIGHUP received: reading the configuration again");
                    reload.notify_one();
                }
                _ = self.user1.recv() => tracing::info!("SIGUSR1 received: ignored"),
                _ = self.user2.recv() => tracing::info!("SIGUSR2 received: ignored"),
            }
        };
        tracing::info!("{stop} received: stopping, no new connections");
    }
}
