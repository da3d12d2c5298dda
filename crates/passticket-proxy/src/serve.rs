//! `serve --config`: runs the gateway until a signal stops it, another process has taken over, or a thread has failed.

use std::{
    cell::OnceCell,
    future::pending,
    net::TcpListener,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use passticket_proxy::config::{Config, Problem, SourceFiles};
use tokio::{
    runtime::{Builder, Runtime},
    sync::Notify,
    task::spawn_blocking,
    time::{Instant, MissedTickBehavior, timeout},
};
use tower_passticket::{
    clock::{Clock, SystemClock},
    revocation::{
        AccessTokenChange, AccessTokenOutcome, AccessTokenStore, Evicted, RevocationStore,
        TokenUses,
    },
};

use crate::{
    access_logs::AccessLogs,
    admin::{Admin, Components, WorkerState},
    caching_service,
    changes::Started,
    cli::ServeOptions,
    cluster,
    discovery::Discovery,
    exit::Exit,
    listeners::Listeners,
    logging, parent,
    part::Task,
    reload::{self, Checked},
    reloadable::reloadable,
    reloads::Reloads,
    signals::Signals,
    stack::{self, HealthReports, Kept, NewStore, Parts, Services, Stores},
    stopped_tickets,
    systemd::Notifier,
    takeover::{
        HandOver, Listener, Offer, Predecessor, RelayedService, RelayedServices, Running, TakenOver,
    },
    terminal::print_problem,
    workers::{self, DrainTimes, Inbound, Port, SharedListeners},
};

/// The interval at which the program checks that the threads of the stores run.
const CHECK_THREADS_EVERY: Duration = Duration::from_secs(1);

/// How often tokens that were not used for a long time are revoked.
const REVOKE_IDLE_EVERY: Duration = Duration::from_secs(60 * 60);

pub(crate) fn serve(file: &Path, options: ServeOptions) -> Result<(), Exit> {
    if let Some(parent) = options.end_with {
        parent::end_with(parent)?;
    }
    let loaded = Configuration::load(file)?;
    runtime()?.block_on(async move {
        let mut signals = Signals::listen()?;
        let config = &loaded.config;
        // Ask API ML's Caching Service first. If this fails, the program has not yet opened ports or files.
        let zowe = caching_service::prepared(config).await?;
        let socket = Some(config.takeover_socket.clone());
        let predecessor = match options.takeover {
            true => Predecessor::connect(config).await?,
            false => None,
        };
        if let Some(predecessor) = predecessor {
            let (listeners, stores, taken_over) = predecessor.take_over(config, zowe).await?;
            let start = Start { listeners, taken_over: Some(taken_over), socket };
            return run(loaded, stores, start, signals).await;
        }
        let listeners = Listeners::open(config).await?;
        // The stores are opened after the ports, so that the program leaves no new revocation file behind if a port is
        // in use.
        let new_store = if options.new_store { NewStore::Required } else { NewStore::Never };
        let (mut stores, origin) = stack::stores(config, new_store, zowe)?;
        if options.trust_clock {
            let now = SystemClock.now();
            stores.revocations.trust_clock(now).await.map_err(Exit::runtime)?;
            tracing::info!("the clock is confirmed; the next eviction trusts it");
        }
        stores.cluster = cluster::join(config, &stores.revocations, origin, &mut signals).await?;
        let start = Start { listeners, taken_over: None, socket };
        run(loaded, stores, start, signals).await
    })
}

pub(crate) struct Configuration {
    file: PathBuf,
    files: SourceFiles,
    pub(crate) config: Config,
    warnings: Vec<Problem>,
    parts: Parts,
}

impl Configuration {
    /// Reads and checks the configuration, builds its parts, and prints its warnings on standard error.
    pub(crate) fn load(file: &Path) -> Result<Self, Exit> {
        let (checked, files) = reload::read(file, None);
        let Checked { config, warnings, parts } = checked.map_err(Exit::Usage)?;
        for warning in &warnings {
            print_problem(&format!("warning: {warning}"));
        }
        logging::set_format(config.log_format);
        logging::set_level(config.log_level.as_ref());
        Ok(Self { file: file.to_owned(), files, config, warnings, parts })
    }
}

/// Creates the runtime of the main thread. In this runtime, the program waits for signals, removes expired revocations,
/// reloads the configuration, and answers the requests that another process relays at a takeover. The worker threads
/// and the admin port have their own runtimes.
pub(crate) fn runtime() -> Result<Runtime, Exit> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| Exit::runtime(format!("cannot start the async runtime: {e}")))
}

pub(crate) struct Start {
    listeners: Listeners,
    /// The takeover from another process. `None` if the gateway starts without a takeover.
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

/// Serves requests until a signal asks the program to stop, until another process has taken over, or until a thread of
/// the gateway has failed. Then finishes the requests in flight.
pub(crate) async fn run(
    configuration: Configuration,
    stores: Stores,
    start: Start,
    mut signals: Signals,
) -> Result<(), Exit> {
    let Start { listeners, mut taken_over, socket } = start;
    let Listeners { gateway: listener, admin, zaas: zaas_listener } = listeners;
    let Configuration { file, files, config, warnings, parts } = configuration;
    let hand_over = HandOver::default();
    let offer = match socket {
        Some(socket) => {
            let (admin, zaas) = (admin.as_ref(), zaas_listener.as_ref());
            let running = running(&config, &hand_over, &stores, (&listener, admin, zaas))?;
            Some((socket, running))
        }
        None => None,
    };
    let workers = Arc::<WorkerState>::default();
    let (reloads, reload_requests) = Reloads::new();
    let discovery = Discovery::default();
    if let Some(taken_over) = &mut taken_over {
        taken_over.continue_discovery(&discovery);
    }
    let breaker = stopped_tickets::breaker(&config);
    let access_logs = AccessLogs::open(&config).map_err(Exit::runtime)?;
    let logs = access_logs.clone();
    let components =
        Components::new(&config, &stores, &workers, &reloads, &discovery, &breaker, &logs);
    let systemd = Notifier::from_env();
    let mut admin = match admin {
        Some(listener) => Some(Admin::start(listener, &stores, &components)?),
        None => None,
    };
    let counts = admin.as_ref().map(|admin| admin.counts().clone());
    let address = listener.local_addr().map_err(Exit::runtime)?;
    tracing::info!(%address, routes = config.routes.len(), "listening");
    let zaas_address = zaas_listener.as_ref().map(TcpListener::local_addr).transpose();
    let zaas_address = zaas_address.map_err(Exit::runtime)?;
    if let (Some(address), Some(zaas)) = (zaas_address, &config.zaas) {
        let gateways = zaas.gateways.len();
        tracing::info!(%address, gateways, "the listener for API ML gateways is open");
    }
    components.set_zaas(zaas_address, &config);
    parts.start_tasks();
    let watching = stores.zowe.clone().map(|zowe| tokio::spawn(zowe.run()));
    let (of_gateway, hand) = (breaker.clone(), hand_over.clone());
    let kept =
        Kept::new(stores.clone(), counts.clone(), &config, &parts, hand, discovery, of_gateway)
            .with_access_logs(logs.clone());
    let tunnels = kept.tunnels();
    let enforcing = tokio::spawn(async move { tunnels.enforce_revocations().await });
    let services = move |config: &Config, parts: &Parts, kept: &Kept| {
        components.continue_with(config);
        let (of_needed, of_document) = (components.clone(), components.clone());
        let health = HealthReports {
            needed: Box::new(move || of_needed.needed()),
            document: Box::new(move |instances| of_document.document(instances).1),
        };
        stack::services(config, parts, kept, health)
    };
    let Services { gateway, zaas } = services(&config, &parts, &kept);
    let (service, replace) = reloadable(gateway);
    let (zaas_service, replace_zaas) = zaas.map(reloadable).unzip();
    if let Some(taken_over) = &mut taken_over {
        taken_over.apply(&hand_over);
    }
    let breaking = tokio::spawn(breaker.run(Some(stopped_tickets::file(&config))));
    let listeners = SharedListeners::new(&config, &parts, logs.current());
    let inbound = Inbound { listeners: listeners.clone(), heartbeats: systemd.watch() };
    // If another process takes over from this process, the gates relay requests to it. An earlier process may relay
    // requests to this process. They also pass the gates, so they go to the other process, too.
    let gateway = Port { listener, service: hand_over.gate(Listener::Gateway, service) };
    let zaas = zaas_listener.zip(zaas_service).map(|(listener, service)| Port {
        listener,
        service: hand_over.gate(Listener::Zaas, service),
    });
    let relayed = RelayedServices {
        gateway: RelayedService {
            service: gateway.service.clone(),
            proxies: config.trusted_proxies.clone(),
            settings: listeners.gateway.settings.clone(),
        },
        // API ML's gateway sends the headers of its clients unchanged, so this program trusts no header with the
        // address of a client.
        zaas: zaas.as_ref().zip(listeners.zaas.as_ref()).map(|(port, zaas)| RelayedService {
            service: port.service.clone(),
            proxies: None,
            settings: zaas.settings.clone(),
        }),
    };
    let (relaying, routes) = (OnceCell::new(), config.routes.len());
    let successor = async {
        workers.all_run().await;
        // Make the takeover socket of this process before `serving` tells the old process that this process serves.
        // After this message, the old process drops its own socket.
        let offer = offer.map(|(socket, running)| Offer::new(running, socket));
        if let Some(taken_over) = taken_over
            && let Some(task) = taken_over.serving(relayed, &hand_over).await
        {
            let _ = relaying.set(task);
        }
        systemd.ready(&format!("serving {routes} routes on {address}"));
        match offer {
            Some(offer) => offer.until_taken_over().await,
            None => pending().await,
        }
    };
    let (revocations, registry) = (stores.own_tokens(), stores.registry());
    let uses = stores.uses.clone();
    let evict = move |config: &Config| {
        let task = Task::default();
        let evicting = evict(revocations.clone(), config.evict_every);
        let registering = keep_registry(registry.clone(), uses.clone(), config);
        task.start(|| async {
            tokio::join!(evicting, registering);
        });
        task
    };
    let drain =
        DrainTimes { requests: config.timeouts.drain, tunnels: config.timeouts.tunnel_drain };
    let running = reload::Running {
        file,
        files,
        started: Started::with(&config),
        warnings,
        kept,
        access_logs: logs,
        install: Box::new(move |config, parts, kept| {
            let Services { gateway, zaas } = services(config, parts, kept);
            replace.set(gateway);
            if let (Some(replace), Some(zaas)) = (&replace_zaas, zaas) {
                replace.set(zaas);
            }
        }),
        listeners,
        evicting: evict(&config),
        evict: Box::new(evict),
        config,
        parts,
    };
    let hangup = Arc::new(Notify::new());
    let (notified, notifier) = (hangup.clone(), systemd.clone());
    let reloading = reload::keep_current(running, reloads, notified, reload_requests, notifier);
    let reloading = tokio::spawn(reloading);
    let (mut ended, mut is_taken_over) = (None, false);
    let shutdown = async {
        tokio::select! {
            () = signals.until_stop(&hangup) => systemd.stopping(),
            thread = ended_thread(&stores) => {
                tracing::error!(thread, "a writer thread ended; stopping, no new connections");
                ended = Some(thread);
            }
            successor = successor => {
                is_taken_over = true;
                let pid = successor.pid;
                tracing::info!(pid, "another process has taken over; finishing the requests in flight");
                systemd.taken_over(pid);
                // From now on, the new process reads the configuration and removes expired revocations.
                reloading.abort();
                if let Some(admin) = admin.take() {
                    // The end of the thread takes a moment. Meanwhile, this runtime relays requests.
                    spawn_blocking(|| admin.stop());
                }
            }
        }
    };
    let serving =
        workers::serve(drain, inbound, gateway, zaas, &workers, counts.as_ref(), shutdown);
    let drained = serving.await;
    if let Some(relaying) = relaying.into_inner() {
        // The old process may still need this process for its last requests and for its WebSockets.
        let _ = timeout(drain.requests.max(drain.tunnels), relaying).await;
    }
    // The task `reloading` owns the other tasks of the configuration, so this aborts them, too.
    reloading.abort();
    enforcing.abort();
    breaking.abort();
    if let Some(watching) = watching {
        watching.abort();
    }
    if let Some(admin) = admin {
        admin.stop();
    }
    if let Some(cluster) = stores.cluster.filter(|_| !is_taken_over) {
        cluster.leave().await;
    }
    if let Some(audit) = stores.audit {
        audit.close();
    }
    access_logs.close();
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
            drain.requests.as_secs()
        ))),
    }
}

/// Returns the parts that another process can take over.
fn running(
    config: &Config,
    hand_over: &HandOver,
    stores: &Stores,
    (gateway, admin, zaas): (&TcpListener, Option<&TcpListener>, Option<&TcpListener>),
) -> Result<Running, Exit> {
    let clone = |listener: Option<&TcpListener>| {
        listener.map(TcpListener::try_clone).transpose().map_err(Exit::runtime)
    };
    Ok(Running {
        hand_over: hand_over.clone(),
        stores: stores.clone(),
        revocations: config.revocations.clone(),
        gateway: gateway.try_clone().map_err(Exit::runtime)?,
        admin: clone(admin)?,
        zaas: clone(zaas)?,
    })
}

/// Waits until a writer thread has ended, and returns the name of the data that this thread wrote. The revocation store
/// and the audit log each have such a thread. The data is not written again until the program is restarted.
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
async fn evict(revocations: Arc<dyn RevocationStore>, every: Duration) {
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

/// Records the uses of Personal Access Tokens, and revokes tokens:
///
/// - A rotated token (a newer token has replaced it) is revoked when its grace period has ended.
/// - If a rotated token is used after its grace period, all active tokens of its family are revoked.
/// - A token that was not used for a long time is revoked, if the configuration sets such a time.
fn keep_registry(
    registry: Arc<dyn AccessTokenStore>,
    uses: Arc<TokenUses>,
    config: &Config,
) -> impl Future<Output = ()> + Send + use<> {
    let (is_on, idle) = (config.pats, config.pat_idle);
    async move {
        if !is_on {
            return;
        }
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last_idle = None::<Instant>;
        loop {
            ticks.tick().await;
            match uses.flush(&registry, SystemClock.now()).await {
                Ok(0) => {}
                Ok(revoked) => tracing::warn!(
                    revoked,
                    "a rotated Personal Access Token was used after its grace period, so all active tokens of its family were revoked"
                ),
                // The store has logged the error.
                Err(error) => {
                    tracing::debug!(%error, "the uses of Personal Access Tokens were not recorded");
                }
            }
            let Some(idle) =
                idle.filter(|_| last_idle.is_none_or(|at| at.elapsed() >= REVOKE_IDLE_EVERY))
            else {
                continue;
            };
            last_idle = Some(Instant::now());
            match registry.change(AccessTokenChange::RevokeIdle(idle), SystemClock.now()).await {
                Ok(AccessTokenOutcome::Revoked(tokens)) if tokens > 0 => {
                    tracing::info!(
                        tokens,
                        "revoked Personal Access Tokens that were not used for a long time"
                    );
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::error!(%error, "cannot revoke Personal Access Tokens that were not used for a long time");
                }
            }
        }
    }
}
