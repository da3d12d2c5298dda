//! Runs this gateway as a node, that is, as one of several gateways that share data over Redis. The nodes share
//! revocations, time slots for PassTickets, and failed logins (docs/decisions.md#d32).
//!
//! A PassTicket is a short-lived password of z/OS.

use std::{
    fmt, fs, io,
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use passticket_proxy::config::{ClusterSettings, Config};
use serde_json::{Value, json};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use tower_passticket::{
    cluster::{
        ClusterError, ClusterNode, ClusterOptions, EmptySite, HandedOverLease, LeaseStatus,
        coordinator::{Coordinator, CoordinatorError},
        redis::{RedisLoginFailures, RedisRefusals, RedisTimeSlots},
    },
    health::Health,
    revocation::DurableStore,
};

use crate::{exit::Exit, part::Task, signals::Signals};

/// When a node stops, it asks Redis to remove the lease of the node, and waits for the answer for at most this time. If
/// Redis does not remove the lease, the other nodes wait until the lease ends.
const LEAVE: Duration = Duration::from_secs(2);

/// During a takeover, the new process waits for Redis for at most this time. New requests of clients also wait during
/// this time.
const TAKE_OVER: Duration = Duration::from_secs(10);

/// Before a takeover, the new process waits for the first answer of Redis for at most this time. During this time, the
/// old process still answers all requests.
const REACH: Duration = Duration::from_secs(5);

const COUNT_EVERY: Duration = Duration::from_secs(1);

/// The origin of the revocation file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileOrigin {
    /// The file existed. Or this process has made it, because of the option `--new-store` or for the demo.
    Wanted,
    /// The file was missing, and a new one was made for the revocations of the other nodes. If no other node has shared
    /// revocations, the gateway does not start (docs/decisions.md#d38).
    Missing,
    /// Like [`Missing`](Self::Missing), but an earlier process made the file. That process ended before it joined the
    /// other nodes.
    NotJoined,
}

#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) node: ClusterNode,
    /// Counts failed logins together with the other nodes.
    pub(crate) login_failures: RedisLoginFailures,
    /// Reserves time slots together with the other nodes.
    pub(crate) time_slots: Arc<RedisTimeSlots>,
    /// Counts refused PassTickets together with the other nodes.
    pub(crate) refusals: Arc<RedisRefusals>,
    /// Updates the number of nodes in `login_failures`.
    _counting: Task,
    settings: ClusterSettings,
}

/// Joins the cluster of the configuration, if the configuration has one. When this function returns `Ok`, the node has
/// all revocations of the other nodes.
///
/// While Redis cannot be reached, this function waits. A signal that stops the program ends the wait.
pub(crate) async fn join(
    config: &Config,
    store: &Arc<DurableStore>,
    origin: FileOrigin,
    signals: &mut Signals,
) -> Result<Option<Cluster>, Exit> {
    let Some(settings) = &config.cluster else { return Ok(None) };
    let reload = Notify::new();
    let started = tokio::select! {
        started = start(settings, store, origin, None) => started,
        () = signals.until_stop(&reload) => Err(Exit::runtime(
            "stopped before the node had all revocations of the other nodes",
        )),
    };
    match (origin, &started) {
        (FileOrigin::Missing, Err(_)) => {
            remove(&config.revocations);
            remove(&mark(&config.revocations));
        }
        (FileOrigin::Missing | FileOrigin::NotJoined, Ok(_)) => remove(&mark(&config.revocations)),
        (FileOrigin::NotJoined, Err(_)) | (FileOrigin::Wanted, _) => {}
    }
    started.map(Some)
}

/// Returns the path of the mark. A process writes this file before it makes a missing revocation file, and removes it
/// after it has joined the other nodes. If the process is killed before it has joined, the next start finds the mark,
/// and does not trust the empty revocation file.
fn mark(file: &Path) -> PathBuf {
    let mut mark = file.as_os_str().to_owned();
    mark.push(".not-joined");
    mark.into()
}

/// Returns whether the process that made this revocation file ended before it joined the other nodes.
pub(crate) fn has_not_joined(file: &Path) -> bool {
    mark(file).exists()
}

/// Writes the mark for a revocation file that this process will make.
pub(crate) fn mark_as_not_joined(file: &Path) -> Result<(), MarkError> {
    let mark = mark(file);
    let text = "The revocation file beside this file has no revocations until the node has joined the other nodes.\n";
    let written = fs::write(&mark, text).and_then(|()| fs::File::open(&mark)?.sync_all());
    written.map_err(|source| MarkError { file: mark, source })
}

#[derive(Debug, thiserror::Error)]
#[error("{}: {source}; check that the directory exists and that this user may write to it", file.display())]
pub(crate) struct MarkError {
    file: PathBuf,
    source: io::Error,
}

fn remove(file: &Path) {
    if let Err(error) = fs::remove_file(file) {
        tracing::error!(file = %file.display(), %error, "remove this file before the next start");
    }
}

/// Does the same as [`join`], but for a process that takes over from another process. The node continues the lease of
/// the other process, if `lease` is for the node of this configuration.
pub(crate) async fn take_over(
    config: &Config,
    store: &Arc<DurableStore>,
    lease: Option<&LeaseOfNode>,
) -> Result<Option<Cluster>, Exit> {
    let Some(settings) = &config.cluster else { return Ok(None) };
    let lease = lease.and_then(|lease| lease.of(settings));
    match timeout(TAKE_OVER, start(settings, store, FileOrigin::Wanted, lease)).await {
        Ok(started) => started.map(Some),
        Err(_) => Err(Exit::runtime(format!(
            "the node had not received the revocations of the other nodes after {} s",
            TAKE_OVER.as_secs()
        ))),
    }
}

/// Checks that Redis answers. A process that takes over first makes this check. Only then do new requests wait for the
/// takeover.
pub(crate) async fn reach(config: &Config) -> Result<(), Exit> {
    let Some(settings) = &config.cluster else { return Ok(()) };
    let place = settings.place().map_err(Exit::usage)?;
    let name = place.name().to_owned();
    match timeout(REACH, place.join(settings.lease)).await {
        Ok(joined) => joined.map(drop).map_err(|error| exit(error.into())),
        Err(_) => {
            Err(Exit::runtime(format!("{name} has not answered after {} s", REACH.as_secs())))
        }
    }
}

async fn start(
    settings: &ClusterSettings,
    store: &Arc<DurableStore>,
    origin: FileOrigin,
    lease: Option<HandedOverLease>,
) -> Result<Cluster, Exit> {
    let place = settings.place().map_err(Exit::usage)?;
    let options = ClusterOptions::new(settings.node.clone())
        .with_lease(settings.lease)
        .with_confirm(settings.confirm)
        .with_serve_without_lease(settings.serve_without_lease)
        .with_empty_site(match origin {
            FileOrigin::Wanted => EmptySite::Begin,
            FileOrigin::Missing | FileOrigin::NotJoined => EmptySite::Refuse,
        });
    let (site, node) = (settings.site.as_str(), &settings.node);
    tracing::info!(site, %node, redis = place.name(), "joining the other nodes");
    let started = ClusterNode::start(store.clone(), Arc::new(place.clone()), options, lease).await;
    let started = started.map_err(exit)?;
    let peers = started.status().peers;
    tracing::info!(site, %node, peers, "this node has all revocations of the other nodes");
    let login_failures = RedisLoginFailures::new(place.clone());
    let counting = Task::default();
    counting.start(|| count_nodes(started.clone(), login_failures.clone()));
    Ok(Cluster {
        node: started,
        login_failures,
        refusals: Arc::new(RedisRefusals::new(place.clone())),
        time_slots: Arc::new(RedisTimeSlots::new(place)),
        _counting: counting,
        settings: settings.clone(),
    })
}

/// Regularly passes the number of nodes to `login_failures`. While Redis is not available, each node counts failed
/// logins alone, and divides the permitted number of failures by the last known number of nodes.
async fn count_nodes(node: ClusterNode, login_failures: RedisLoginFailures) {
    loop {
        let status = node.status();
        if status.lease == LeaseStatus::Ok {
            let nodes = u32::try_from(status.peers).unwrap_or(u32::MAX).saturating_add(1);
            login_failures.set_nodes(NonZeroU32::new(nodes).unwrap_or(NonZeroU32::MIN));
        }
        sleep(COUNT_EVERY).await;
    }
}

/// Converts the error to an [`Exit`]. If the nodes have different versions or lease times, an operator can correct this
/// at another node. In this case, the result is [`Exit::Negative`], after which systemd can start the gateway again.
fn exit(error: ClusterError) -> Exit {
    match error {
        ClusterError::NameTaken { .. }
        | ClusterError::EmptySite
        | ClusterError::Coordinator(
            CoordinatorError::NameTaken { .. } | CoordinatorError::TooManySalts { .. },
        ) => Exit::usage(error),
        ClusterError::Coordinator(
            CoordinatorError::OtherVersion { .. } | CoordinatorError::OtherLease { .. },
        ) => Exit::Negative(error.to_string()),
        _ => Exit::runtime(error),
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Returns `Down` if this node refuses all tokens because its lease has ended. A process that has handed its lease
    /// over is `Up`.
    pub(crate) fn health(&self) -> Health {
        let status = self.node.status();
        match status.lease {
            LeaseStatus::Expired => {
                let problem = status.problem.unwrap_or_else(|| "no answer in time".to_owned());
                Health::down(format!(
                    "this node cannot know which tokens are revoked, and has refused all tokens for {} s: {problem}",
                    status.since.as_secs()
                ))
            }
            // The process that has taken over reports its own lease.
            LeaseStatus::Ok | LeaseStatus::HandedOver => Health::Up,
        }
    }

    pub(crate) fn document(&self) -> Value {
        let status = self.node.status();
        json!({"lease": status.lease.as_str(), "behind": status.behind, "peers": status.peers})
    }

    /// Tells the other nodes that this node ends, so that they need not wait for it.
    pub(crate) async fn leave(&self) {
        if timeout(LEAVE, self.node.leave()).await.is_err() {
            tracing::warn!(
                "Redis did not answer, so the lease of this node could not be removed; revocations at the other nodes \
                 wait until it ends"
            );
        }
    }

    /// Returns the lease, which this process hands over to another process. From now on, the other process sends its
    /// revocations to this process.
    pub(crate) fn hand_over(&self) -> LeaseOfNode {
        let ClusterSettings { site, node, .. } = &self.settings;
        LeaseOfNode {
            site: site.as_str().to_owned(),
            node: node.as_str().to_owned(),
            lease: self.node.hand_over(),
        }
    }

    /// Refuses all tokens from now on. Call this after [`hand_over`](Self::hand_over), when the other process no longer
    /// sends its revocations to this process. The other process keeps the lease.
    pub(crate) async fn refuse_tokens(&self) {
        self.node.leave().await;
    }

    /// Takes the lease back after [`hand_over`](Self::hand_over), because the takeover has failed.
    pub(crate) fn take_back(&self) {
        self.node.take_back();
    }
}

/// The lease of a node, as one process hands it to another.
#[derive(Clone, Debug)]
pub(crate) struct LeaseOfNode {
    site: String,
    node: String,
    lease: HandedOverLease,
}

impl LeaseOfNode {
    fn of(&self, settings: &ClusterSettings) -> Option<HandedOverLease> {
        let is_same = self.site == settings.site.as_str() && self.node == settings.node.as_str();
        is_same.then(|| self.lease.clone())
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({"site": self.site, "node": self.node, "lease": self.lease.to_string()})
    }

    /// Reads the lease. Returns `None` if this version cannot read it. The node then gets a new lease when the old
    /// lease has ended.
    pub(crate) fn from_json(document: &Value) -> Option<Self> {
        let text = |key: &str| document.get(key)?.as_str();
        Some(Self {
            site: text("site")?.to_owned(),
            node: text("node")?.to_owned(),
            lease: text("lease")?.parse().ok()?,
        })
    }
}
