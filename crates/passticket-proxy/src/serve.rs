//! `serve --config`: runs the gateway until SIGTERM, SIGINT or SIGQUIT.

use std::{
    cell::OnceCell,
    future::pending,
    net::TcpListener,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use passticket_proxy::config::Config;
use tokio::{
    runtime::{Builder, Runtime},
    sync::Notify,
    task::{JoinHandle, spawn_blocking},
    time::timeout,
};
use tower_passticket::{
    clock::{Clock, SystemClock},
    revocation::{DurableStore, Evicted, RevocationStore},
};

use crate::{
    admin::{Admin, AdminPort, Components, WorkerState},
    cli::ServeOptions,
    exit::Exit,
    listeners::Listeners,
    loading, reload,
    signals::Signals,
    stack::{self, NewStore, Stores},
    systemd::Notifier,
    takeover::{HandOver, Offer, Predecessor, Running, TakenOver},
    workers,
};

/// Interval between two checks whether the threads of the stores run.
const CHECK_THREADS_EVERY: Duration = Duration::from_secs(1);

/// Runs the gateway with the zowe.yaml `file`.
pub(crate) fn serve(file: &Path, options: ServeOptions) -> Result<(), Exit> {
    let config = loading::load(file)?;
    let parts = stack::parts(&config).map_err(Exit::usage)?;
    runtime()?.block_on(async {
        let signals = Signals::listen()?;
        let socket = Some(config.takeover_socket.clone());
        let predecessor = match options.takeover {
            true => Predecessor::connect(&config).await?,
            false => None,
        };
        if let Some(predecessor) = predecessor {
            let (listeners, stores, taken_over) = predecessor.take_over(&config).await?;
            let start = Start { listeners, taken_over: Some(taken_over), socket };
            return run(&config, parts, stores, start, signals).await;
        }
        let listeners = Listeners::open(&config).await?;
        // The stores are opened after the ports, so that the program leaves no new revocation file behind if a port is
        // in use.
        let new_store = if options.new_store { NewStore::Required } else { NewStore::Never };
        let stores = stack::stores(&config, new_store)?;
        if options.trust_clock {
            let now = SystemClock.now();
            stores.revocations.trust_clock(now).await.map_err(Exit::runtime)?;
            tracing::info!("the clock is confirmed; the next eviction trusts it");
        }
        let start = Start { listeners, taken_over: None, socket };
        run(&config, parts, stores, start, signals).await
    })
}

/// Creates the runtime for all work except requests to the gateway. In this runtime, the program waits for signals,
/// removes expired revocations and reloads permissions. The worker threads have their own runtimes.
pub(crate) fn runtime() -> Result<Runtime, Exit> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| Exit::runtime(format!("cannot start the async runtime: {e}")))
}

/// How the gateway starts.
pub(crate) struct Start {
    listeners: Listeners,
    /// The takeover from another process.
    taken_over: Option<TakenOver>,
    /// The path of the socket on which another process can take over. `None` if no process can take over.
    socket: Option<PathBuf>,
}

impl Start {
    /// Starts a gateway that neither takes over nor hands over.
    pub(crate) fn alone(listeners: Listeners) -> Self {
        Self { listeners, taken_over: None, socket: None }
    }
}

/// Serves requests until a signal asks the program to stop, or until another process has taken over. Then finishes the
/// requests in flight.
pub(crate) async fn run(
    config: &Config,
    parts: stack::Parts,
    stores: Stores,
    start: Start,
    signals: Signals,
) -> Result<(), Exit> {
    let Start { listeners, mut taken_over, socket } = start;
    let Listeners { gateway: listener, admin } = listeners;
    let admin = admin.map(AdminPort::new).transpose()?;
    let hand_over = parts.hand_over.clone();
    let offer = match socket {
        Some(socket) => {
            let running = running(config, &hand_over, &stores, &listener, admin.as_ref())?;
            Some((socket, running))
        }
        None => None,
    };
    let workers = Arc::<WorkerState>::default();
    let systemd = Notifier::from_env();
    let mut admin = match admin {
        Some(port) => Some(Admin::start(port, config, &stores, &workers)?),
        None => None,
    };
    let counts = admin.as_ref().map(|admin| admin.counts().clone());
    let counts = counts.as_ref();
    let address = listener.local_addr().map_err(Exit::runtime)?;
    tracing::info!(%address, routes = config.routes.len(), "listening");
    let evicting = tokio::spawn(evict(stores.revocations.clone(), config.evict_every));
    let reload = Arc::new(Notify::new());
    let reloading = config
        .saf_file
        .clone()
        .map(|file| tokio::spawn(reload::permissions(file, config.saf.clone(), reload.clone())));
    let keys: Vec<_> =
        parts.issuer_keys().map(|keys| tokio::spawn(keys.clone().keep_fresh())).collect();
    let forwarders = parts.forwarders.as_ref();
    let forwarders = forwarders.map(|forwarders| tokio::spawn(forwarders.lists().keep_fresh()));
    let tls = parts.tls.clone();
    let components = Components::new(config, &stores, &workers);
    let needed = Box::new(move || components.needed());
    let gateway = stack::gateway(config, parts, stores.clone(), counts, needed);
    // If a third process takes over, the gate relays the requests of the first process to it.
    let relayed = hand_over.gate(gateway.clone());
    if let Some(taken_over) = &mut taken_over {
        taken_over.apply(&hand_over);
    }
    let relaying = OnceCell::new();
    let successor = async {
        workers.all_run().await;
        // The old process ends its own offer when it learns that this process serves. So this offer is made before.
        let offer = offer.map(|(socket, running)| Offer::new(running, socket));
        if let Some(taken_over) = taken_over {
            let proxies = config.trusted_proxies.clone();
            if let Some(task) = taken_over.serving(relayed, proxies, &hand_over).await {
                let _ = relaying.set(task);
            }
        }
        systemd.ready(&format!("serving {} routes on {address}", config.routes.len()));
        match offer {
            Some(offer) => offer.until_taken_over().await,
            None => pending().await,
        }
    };
    let gateway = hand_over.gate(gateway);
    let mut ended = None;
    let shutdown = async {
        tokio::select! {
            () = signals.until_stop(&reload) => systemd.stopping(),
            thread = ended_thread(&stores) => {
                tracing::error!(thread, "a writer thread ended; stopping, no new connections");
                ended = Some(thread);
            }
            successor = successor => {
                let pid = successor.pid;
                tracing::info!(pid, "another process has taken over; finishing the requests in flight");
                systemd.taken_over(pid);
                evicting.abort();
                if let Some(admin) = admin.take() {
                    // The end of the thread takes a moment. Meanwhile, this runtime relays requests.
                    spawn_blocking(|| admin.stop());
                }
            }
        }
    };
    let serving =
        workers::serve(config, tls, listener, gateway, &workers, counts, systemd.watch(), shutdown);
    let drained = serving.await;
    if let Some(relaying) = relaying.into_inner() {
        // The old process may still finish requests, and may need this process for them.
        let _ = timeout(config.timeouts.drain, relaying).await;
    }
    evicting.abort();
    if let Some(reloading) = reloading {
        reloading.abort();
    }
    keys.iter().chain(&forwarders).for_each(JoinHandle::abort);
    if let Some(admin) = admin {
        admin.stop();
    }
    if let Some(audit) = stores.audit {
        audit.close();
    }
    let drained = drained?;
    if let Some(thread) = ended {
        return Err(Exit::runtime(format!(
            "the thread that writes {thread} ended, because of an error in the program; start the \
             program again and report what its log says"
        )));
    }
    match drained.cut_off() {
        0 => {
            tracing::info!("stopped; all requests were finished");
            Ok(())
        }
        connections => Err(Exit::runtime(format!(
            "stopped with {connections} connections cut off, because their requests were not \
             finished after {} s; for more time, set components.passticket-proxy.timeouts.drainSeconds",
            config.timeouts.drain.as_secs()
        ))),
    }
}

/// Returns what another process can take over.
fn running(
    config: &Config,
    hand_over: &HandOver,
    stores: &Stores,
    gateway: &TcpListener,
    admin: Option<&AdminPort>,
) -> Result<Running, Exit> {
    Ok(Running {
        hand_over: hand_over.clone(),
        stores: stores.clone(),
        revocations: config.revocations.clone(),
        gateway_address: gateway.local_addr().map_err(Exit::runtime)?,
        gateway: gateway.try_clone().map_err(Exit::runtime)?.into(),
        admin: admin.map(AdminPort::socket).transpose().map_err(Exit::runtime)?,
    })
}

/// The revocation store and the audit log each have a thread that writes their file. Waits until one of these threads
/// has ended, and returns the name of the data that this thread wrote. This data is not written again until the program
/// is restarted.
async fn ended_thread(stores: &Stores) -> &'static str {
    let mut checks = tokio::time::interval(CHECK_THREADS_EVERY);
    loop {
        checks.tick().await;
        if stores.revocations.has_ended() {
            return "revocations";
        }
        if stores.audit.as_ref().is_some_and(|audit| audit.has_ended()) {
            return "the audit log";
        }
    }
}

/// Removes expired revocations regularly, so that the store does not grow without limit.
async fn evict(revocations: Arc<DurableStore>, every: Duration) {
    let mut ticks = tokio::time::interval(every);
    loop {
        ticks.tick().await;
        match revocations.evict(SystemClock.now()).await {
            Ok(Evicted { tokens, users, services, .. }) => {
                tracing::info!(tokens, users, services, "removed expired revocations");
            }
            Err(error) => tracing::error!(%error, "cannot remove expired revocations"),
        }
    }
}
