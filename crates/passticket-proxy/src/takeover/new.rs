//! The new process of a takeover: it continues the work of the running process. The [parent module](super) describes
//! the messages.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    path::Path,
    str::FromStr,
    time::Duration,
};

use passticket_proxy::config::Config;
use serde_json::Value;
use tokio::{
    net::UnixStream,
    task::JoinHandle,
    time::{Instant, sleep},
};
use tower_passticket::revocation::{CachingService, RevocationFeed};

use super::{
    frames::{Kind, StepError, receive, receive_sockets, send},
    hand_over::HandOver,
    old::{ANSWER, PROTOCOL, canonical},
    relayed::{self, RelayedServices},
    socket::connect,
    state::State,
};
use crate::{
    cluster,
    discovery::Discovery,
    exit::Exit,
    gateway_service::GatewayService,
    listeners::{Listeners, OpenSockets},
    stack::{self, NewStore, Stores, StoresError},
};

/// The time that the old process may take to hand its state over. In this time, the old process waits for the end of
/// requests and of password checks.
const STATE: Duration = Duration::from_secs(15);

/// The time that the old process may take to unlock the audit files.
const AUDIT_BUSY: Duration = Duration::from_secs(5);

const TRY_AGAIN_AFTER: Duration = Duration::from_millis(10);

/// The connection to the running process, before the running process hands its work over.
pub(crate) struct Predecessor(UnixStream);

impl Predecessor {
    /// Connects to the running process. Returns `None` if no process listens on the socket of the configuration.
    pub(crate) async fn connect(config: &Config) -> Result<Option<Self>, Exit> {
        let path = &config.takeover_socket;
        let stream = connect(path).await.map_err(|error| {
            Exit::runtime(format!("cannot take over at {}: {error}", path.display()))
        })?;
        if stream.is_none() {
            tracing::info!(path = %path.display(), "no process to take over from; starting normally");
        }
        Ok(stream.map(Self))
    }

    /// Receives the listening sockets and the state, and opens the stores. When this function returns `Ok`, the old
    /// process answers no new requests.
    ///
    /// # Errors
    /// After an error, this process must end. The old process then continues.
    pub(crate) async fn take_over(
        self,
        config: &Config,
        zowe: Option<CachingService>,
    ) -> Result<(Listeners, Stores, TakenOver), Exit> {
        let mut stream = self.0;
        let taken_over = async {
            let listeners = listeners(&mut stream, config).await?;
            cluster::reach(config).await.map_err(TakeoverError::Other)?;
            send(&mut stream, Kind::Prepared, "", ANSWER).await?;
            let text = receive(&mut stream, Kind::State, STATE).await?;
            let state: State =
                text.parse().map_err(|error| TakeoverError::Other(Exit::runtime(error)))?;
            let mut stores = stores(config, zowe).await?;
            // The old process applies the revocations of this store to its own store. The feed begins before this
            // process joins the other nodes, because the join adds revocations that the old process also needs.
            let feed = stores.revocations.follow();
            let joined = cluster::take_over(config, &stores.revocations, state.lease()).await;
            stores.cluster = joined.map_err(TakeoverError::Other)?;
            send(&mut stream, Kind::Opened, "", ANSWER).await?;
            receive(&mut stream, Kind::Go, ANSWER).await?;
            Ok((listeners, stores, state, feed))
        };
        match taken_over.await {
            Ok((listeners, stores, state, feed)) => {
                Ok((listeners, stores, TakenOver { stream, state: Some(state), feed }))
            }
            Err(TakeoverError::Step(error)) => Err(Exit::runtime(format!(
                "takeover failed, the running gateway continues: {error}"
            ))),
            Err(TakeoverError::Other(exit)) => {
                let text = "the new process cannot start; its log has the reason";
                let _ = send(&mut stream, Kind::GivenUp, text, ANSWER).await;
                Err(exit)
            }
        }
    }
}

enum TakeoverError {
    Step(StepError),
    Other(Exit),
}

impl From<StepError> for TakeoverError {
    fn from(error: StepError) -> Self {
        Self::Step(error)
    }
}

/// Receives the listening sockets. If the configuration has an address without a received socket, opens a socket at
/// this address.
async fn listeners(stream: &mut UnixStream, config: &Config) -> Result<Listeners, TakeoverError> {
    send(stream, Kind::Hello, &PROTOCOL.to_string(), ANSWER).await?;
    let about = receive(stream, Kind::Listeners, ANSWER).await?;
    let about: Value = serde_json::from_str(&about).map_err(|_| StepError::Protocol)?;
    if about["protocol"].as_u64() != Some(PROTOCOL) {
        return Err(StepError::Protocol.into());
    }
    let sockets = receive_sockets(stream, ANSWER).await?;
    let store = about["revocations"].as_str().ok_or(StepError::Protocol)?;
    if Path::new(store) != canonical(&config.revocations) {
        return Err(TakeoverError::Other(Exit::usage(format!(
            "{} is not the revocation file of the running gateway ({store}), so revoked tokens would be valid again; \
             stop the running gateway, and start without --takeover",
            config.revocations.display()
        ))));
    }
    let wanted = [
        ("gateway", Some(config.listen.address)),
        ("admin", config.admin.as_ref().map(|admin| admin.address)),
        ("zaas", config.zaas.as_ref().map(|zaas| zaas.address)),
    ];
    let sockets = sockets.into_iter().map(TcpListener::from);
    let [gateway, admin, zaas] = named(&about, sockets, wanted);
    let sockets = OpenSockets { gateway, admin, zaas };
    Listeners::open_missing(config, sockets).await.map_err(TakeoverError::Other)
}

/// Returns the sockets that the configuration can use. The old process sends one socket for each address in `about`, in
/// the order of `wanted`. For a port that the old process does not have, it sends no socket, and `about` has no
/// address.
fn named<S, const N: usize>(
    about: &Value,
    sockets: impl IntoIterator<Item = S>,
    wanted: [(&str, Option<SocketAddr>); N],
) -> [Option<S>; N] {
    let mut sockets = sockets.into_iter();
    wanted.map(|(name, wanted)| {
        let address = SocketAddr::from_str(about[name].as_str()?).ok();
        let socket = sockets.next()?;
        wanted.is_some_and(|wanted| serves(wanted, address)).then_some(socket)
    })
}

/// Returns whether a socket at `address` serves a configuration with the address `wanted`. Port 0 means any port.
fn serves(wanted: SocketAddr, address: Option<SocketAddr>) -> bool {
    address.is_some_and(|it| {
        it.ip() == wanted.ip() && (wanted.port() == 0 || it.port() == wanted.port())
    })
}

/// Opens the stores. The old process has closed the revocation file. It unlocks the audit files a moment later.
async fn stores(config: &Config, zowe: Option<CachingService>) -> Result<Stores, TakeoverError> {
    let deadline = Instant::now() + AUDIT_BUSY;
    loop {
        match stack::stores(config, NewStore::Never, zowe.clone()) {
            Ok((stores, _)) => return Ok(stores),
            Err(StoresError::Audit(error)) if error.is_busy() && Instant::now() < deadline => {
                sleep(TRY_AGAIN_AFTER).await;
            }
            Err(error) => return Err(TakeoverError::Other(error.into())),
        }
    }
}

/// A takeover that the old process has permitted. This process must serve now.
pub(crate) struct TakenOver {
    stream: UnixStream,
    state: Option<State>,
    /// The revocations of this process, for the old process.
    feed: RevocationFeed,
}

impl TakenOver {
    /// Lets `discovery` begin with the registry of the old process. Call this before the routes are made.
    pub(crate) fn continue_discovery(&mut self, discovery: &Discovery) {
        if let Some(state) = &mut self.state {
            state.continue_discovery(discovery);
        }
    }

    /// Continues with the state of the old process. Call this before the first request.
    pub(crate) fn apply(&mut self, hand_over: &HandOver) {
        if let Some(state) = self.state.take() {
            hand_over.owners.continue_from(state);
        }
    }

    /// Tells the old process that this process serves. Then starts a task that answers the requests that the old
    /// process relays. Returns this task, which ends when the old process ends. Returns `None` if the message cannot be
    /// sent, for example because the old process has ended.
    pub(crate) async fn serving(
        self,
        services: RelayedServices<impl GatewayService, impl GatewayService>,
        hand_over: &HandOver,
    ) -> Option<JoinHandle<()>> {
        let Self { mut stream, feed, .. } = self;
        match send(&mut stream, Kind::Serving, "", ANSWER).await {
            Ok(()) => {
                tracing::info!("this process has taken over");
                let relayed = relayed::serve(stream, services, hand_over.clone(), feed);
                Some(tokio::spawn(relayed))
            }
            // The old process has permitted this process to serve, so this process serves without it. While this
            // process has the store open, the old process does not continue.
            Err(error) => {
                tracing::warn!(%error, "the old process ended during the takeover; this process continues alone");
                None
            }
        }
    }
}

impl From<io::Error> for TakeoverError {
    fn from(error: io::Error) -> Self {
        Self::Step(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_port_gets_its_own_socket_even_if_a_process_does_not_have_all_ports() {
        let address = |port: u16| Some(SocketAddr::from(([127, 0, 0, 1], port)));
        let about = |ports: [Option<u16>; 3]| {
            let [gateway, admin, zaas] = ports.map(|port| address(port?).map(|it| it.to_string()));
            serde_json::json!({"gateway": gateway, "admin": admin, "zaas": zaas})
        };
        for (old, new, want) in [
            ([Some(1), Some(2), Some(3)], [1, 2, 3], [Some(1), Some(2), Some(3)]),
            ([Some(1), None, Some(3)], [1, 2, 3], [Some(1), None, Some(3)]),
            ([Some(1), None, Some(3)], [1, 3, 0], [Some(1), None, None]),
            ([Some(1), Some(2), None], [1, 0, 3], [Some(1), None, None]),
            ([Some(1), Some(2), Some(3)], [4, 0, 3], [None, None, Some(3)]),
        ] {
            // In this test, port 0 means that the new process does not have the port.
            let wanted = [("gateway", new[0]), ("admin", new[1]), ("zaas", new[2])];
            let wanted = wanted.map(|(name, port)| (name, address(port).filter(|_| port > 0)));
            let sockets = old.into_iter().flatten();
            assert_eq!(named(&about(old), sockets, wanted), want, "{old:?} {new:?}");
        }
        // A process of an earlier version does not name the last port.
        let about = serde_json::json!({"gateway": "127.0.0.1:1", "admin": null});
        let wanted = [("gateway", address(1)), ("admin", address(2)), ("zaas", address(3))];
        assert_eq!(named(&about, [1], wanted), [Some(1), None, None]);
    }

    #[test]
    fn a_socket_serves_a_configuration_with_the_same_address() {
        for (wanted, address, want) in [
            ("127.0.0.1:0", Some("127.0.0.1:1"), true),
            ("127.0.0.1:1", Some("127.0.0.1:1"), true),
            ("127.0.0.1:2", Some("127.0.0.1:1"), false),
            ("0.0.0.0:1", Some("127.0.0.1:1"), false),
            ("0.0.0.0:1", None, false),
        ] {
            let address = address.map(|address| address.parse().unwrap());
            assert_eq!(serves(wanted.parse().unwrap(), address), want, "{wanted} {address:?}");
        }
    }
}
