//! `serve --config`: runs the gateway until SIGTERM, SIGINT or SIGQUIT.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use passticket_proxy::config::{Config, Problem, SourceFiles};
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    sync::Notify,
};
use tower_passticket::{
    clock::{Clock, SystemClock},
    revocation::{DurableStore, Evicted, RevocationStore},
};

use crate::{
    admin::{Admin, AdminPort, Components, WorkerState},
    changes::Started,
    cli::ServeOptions,
    exit::Exit,
    logging,
    part::Task,
    reload::{self, Checked},
    reloadable::reloadable,
    reloads::Reloads,
    signals::Signals,
    stack::{self, Kept, NewStore, Parts, Stores},
    terminal::print_problem,
    workers::{self, Inbound},
};

/// Interval between two checks whether the threads of the stores run.
const CHECK_THREADS_EVERY: Duration = Duration::from_secs(1);

/// Runs the gateway with the zowe.yaml `file`.
pub(crate) fn serve(file: &Path, options: ServeOptions) -> Result<(), Exit> {
    let loaded = Configuration::load(file)?;
    runtime()?.block_on(async move {
        let signals = Signals::listen()?;
        let config = &loaded.config;
        let listen = &config.listen;
        let listener = TcpListener::bind(listen.address).await;
        let listener = listener.map_err(|error| Exit::runtime(listen.explain(&error)))?;
        let admin = AdminPort::open(config)?;
        // The stores are opened after the ports, so that the program leaves no new revocation file behind if a port is
        // in use.
        let new_store = if options.new_store { NewStore::Required } else { NewStore::Never };
        let stores = stack::stores(config, new_store)?;
        if options.trust_clock {
            let now = SystemClock.now();
            stores.revocations.trust_clock(now).await.map_err(Exit::runtime)?;
            tracing::info!("the clock is confirmed; the next eviction trusts it");
        }
        run(loaded, stores, Ports { gateway: listener, admin }, signals).await
    })
}

/// The configuration that the program starts with.
pub(crate) struct Configuration {
    file: PathBuf,
    files: SourceFiles,
    pub(crate) config: Config,
    warnings: Vec<Problem>,
    parts: Parts,
}

impl Configuration {
    /// Reads and checks the configuration, and builds its parts. Prints its warnings on standard error.
    pub(crate) fn load(file: &Path) -> Result<Self, Exit> {
        let (checked, files) = reload::read(file, None);
        let Checked { config, warnings, parts } = checked.map_err(Exit::Usage)?;
        for warning in &warnings {
            print_problem(&format!("warning: {warning}"));
        }
        logging::set_level(config.log_level.as_ref());
        Ok(Self { file: file.to_owned(), files, config, warnings, parts })
    }
}

/// Creates the runtime for all work except requests to the gateway. In this runtime, the program waits for signals,
/// removes expired revocations and reloads the configuration. The worker threads have their own runtimes.
pub(crate) fn runtime() -> Result<Runtime, Exit> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| Exit::runtime(format!("cannot start the async runtime: {e}")))
}

/// The open ports.
pub(crate) struct Ports {
    pub(crate) gateway: TcpListener,
    /// `None` if the configuration has no admin port.
    pub(crate) admin: Option<AdminPort>,
}

/// Serves requests until a signal asks the program to stop. Then finishes the requests in flight.
pub(crate) async fn run(
    configuration: Configuration,
    stores: Stores,
    ports: Ports,
    signals: Signals,
) -> Result<(), Exit> {
    let Ports { gateway: listener, admin } = ports;
    let Configuration { file, files, config, warnings, parts } = configuration;
    let workers = Arc::<WorkerState>::default();
    let (reloads, reload_requests) = Reloads::new();
    let components = Components::new(&config, &stores, &workers, &reloads);
    let admin = match admin {
        Some(port) => Some(Admin::start(port, &stores, &components, &reloads)?),
        None => None,
    };
    let counts = admin.as_ref().map(|admin| admin.counts().clone());
    let address = listener.local_addr().map_err(Exit::runtime)?;
    tracing::info!(%address, routes = config.routes.len(), "listening");
    parts.start_tasks();
    let kept = Kept::new(stores.clone(), counts.clone(), &config, &parts);
    let gateway = move |config: &Config, parts: &Parts, kept: &Kept| {
        components.set_audit_needed(config);
        let components = components.clone();
        stack::gateway(config, parts, kept, Box::new(move || components.needed()))
    };
    let (service, replace) = reloadable(gateway(&config, &parts, &kept));
    let inbound = Inbound::new(&config, &parts);
    let revocations = stores.revocations.clone();
    let evict = move |config: &Config| {
        let task = Task::default();
        task.start(|| evict(revocations.clone(), config.evict_every));
        task
    };
    let drain = config.timeouts.drain;
    let running = reload::Running {
        file,
        files,
        started: Started::with(&config),
        warnings,
        kept,
        install: Box::new(move |config, parts, kept| replace.set(gateway(config, parts, kept))),
        server: inbound.settings.clone(),
        limits: inbound.limits.clone(),
        workers: inbound.cores,
        evicting: evict(&config),
        evict: Box::new(evict),
        config,
        parts,
    };
    let hangup = Arc::new(Notify::new());
    let reloading = reload::keep_current(running, reloads, hangup.clone(), reload_requests);
    let reloading = tokio::spawn(reloading);
    let mut ended = None;
    let shutdown = async {
        tokio::select! {
            () = signals.until_stop(&hangup) => {}
            thread = ended_thread(&stores) => {
                tracing::error!(thread, "a writer thread ended; stopping, no new connections");
                ended = Some(thread);
            }
        }
    };
    let serving =
        workers::serve(drain, inbound, listener, service, &workers, counts.as_ref(), shutdown);
    let drained = serving.await;
    // This also aborts the tasks of the configuration.
    reloading.abort();
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
            drain.as_secs()
        ))),
    }
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
