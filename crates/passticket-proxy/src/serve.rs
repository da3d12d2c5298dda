//! `serve --config`: runs the gateway until SIGTERM, SIGINT or SIGQUIT.

use std::{path::Path, sync::Arc, time::Duration};

use passticket_proxy::config::Config;
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    sync::Notify,
    task::JoinHandle,
};
use tower_passticket::{
    clock::{Clock, SystemClock},
    revocation::{DurableStore, Evicted, RevocationStore},
};

use crate::{
    admin::{Admin, AdminPort, Components, WorkerState},
    cli::ServeOptions,
    discovery::Discovery,
    exit::Exit,
    loading, reload,
    signals::Signals,
    stack::{self, NewStore, Stores},
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
        let listen = &config.listen;
        let listener = TcpListener::bind(listen.address).await;
        let listener = listener.map_err(|error| Exit::runtime(listen.explain(&error)))?;
        let admin = AdminPort::open(&config)?;
        // The stores are opened after the ports, so that the program leaves no new revocation file behind if a port is
        // in use.
        let new_store = if options.new_store { NewStore::Required } else { NewStore::Never };
        let stores = stack::stores(&config, new_store)?;
        if options.trust_clock {
            let now = SystemClock.now();
            stores.revocations.trust_clock(now).await.map_err(Exit::runtime)?;
            tracing::info!("the clock is confirmed; the next eviction trusts it");
        }
        run(&config, parts, stores, Ports { gateway: listener, admin }, signals).await
    })
}

/// Creates the runtime for all work except requests to the gateway. In this runtime, the program waits for signals,
/// removes expired revocations and reloads permissions. The worker threads have their own runtimes.
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
    config: &Config,
    parts: stack::Parts,
    stores: Stores,
    ports: Ports,
    signals: Signals,
) -> Result<(), Exit> {
    let Ports { gateway: listener, admin } = ports;
    let workers = Arc::<WorkerState>::default();
    let discovery = Discovery::default();
    let admin = match admin {
        Some(port) => Some(Admin::start(port, config, &stores, &workers, &discovery)?),
        None => None,
    };
    let counts = admin.as_ref().map(Admin::counts);
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
    let components = Components::new(config, &stores, &workers, &discovery);
    let needed = Box::new(move || components.needed());
    let discovery_connector = parts.discovery_connector.clone();
    let gateway = stack::gateway(config, parts, stores.clone(), counts, needed, &discovery);
    let finding = config.discovery.clone().zip(discovery_connector);
    let finding =
        finding.map(|(settings, connector)| tokio::spawn(discovery.run(settings, connector)));
    let mut ended = None;
    let shutdown = async {
        tokio::select! {
            () = signals.until_stop(&reload) => {}
            thread = ended_thread(&stores) => {
                tracing::error!(thread, "a writer thread ended; stopping, no new connections");
                ended = Some(thread);
            }
        }
    };
    let serving = workers::serve(config, tls, listener, gateway, &workers, counts, shutdown);
    let drained = serving.await;
    evicting.abort();
    if let Some(reloading) = reloading {
        reloading.abort();
    }
    keys.iter().chain(&forwarders).chain(&finding).for_each(JoinHandle::abort);
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
