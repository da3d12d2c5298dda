//! `serve --config`: runs the gateway until SIGTERM or SIGINT.

use std::{io, path::Path, sync::Arc, time::Duration};

use passticket_proxy::config::Config;
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    signal::unix::{SignalKind, signal},
};
use tower_passticket::{
    clock::{Clock, SystemClock},
    revocation::{DurableStore, RevocationStore},
};

use crate::{
    admin::{Admin, WorkerState},
    exit::Exit,
    loading, reload,
    stack::{self, Stores},
    workers,
};

pub(crate) fn serve(file: &Path) -> Result<(), Exit> {
    let config = loading::load(file)?;
    let parts = stack::parts(&config).map_err(Exit::usage)?;
    let stores = stack::stores(&config).map_err(Exit::runtime)?;
    runtime()?.block_on(async {
        let listen = &config.listen;
        let listener = TcpListener::bind(listen.address).await;
        let listener = listener.map_err(|error| Exit::runtime(listen.explain(&error)))?;
        run(&config, parts, stores, listener, shutdown_signal()?).await
    })
}

/// Creates the runtime for all work except requests to the gateway. In this runtime, the program waits
/// for signals, removes expired revocations and reloads permissions. The worker threads have runtimes of
/// their own.
pub(crate) fn runtime() -> Result<Runtime, Exit> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| Exit::runtime(format!("cannot start the async runtime: {e}")))
}

/// Serves until `shutdown` is ready, then finishes the requests in flight.
pub(crate) async fn run(
    config: &Config,
    parts: stack::Parts,
    stores: Stores,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Exit> {
    let workers = Arc::<WorkerState>::default();
    let admin = match &config.admin {
        Some(settings) => Some(Admin::start(settings, config, &stores, &workers)?),
        None => None,
    };
    let counts = admin.as_ref().map(Admin::counts);
    let address = listener.local_addr().map_err(Exit::runtime)?;
    tracing::info!(%address, routes = config.routes.len(), "listening");
    let evicting = tokio::spawn(evict(stores.revocations.clone(), config.evict_every));
    let reloading = config
        .saf_file
        .clone()
        .map(|file| tokio::spawn(reload::permissions(file, config.saf.clone())));
    let tls = parts.tls.clone();
    let gateway = stack::gateway(config, parts, stores.clone(), counts);
    let serving = workers::serve(config, tls, listener, gateway, &workers, counts, shutdown);
    let drained = serving.await;
    evicting.abort();
    if let Some(reloading) = reloading {
        reloading.abort();
    }
    if let Some(admin) = admin {
        admin.stop();
    }
    if let Some(audit) = stores.audit {
        audit.close();
    }
    match drained?.cut_off() {
        0 => {
            tracing::info!("stopped; all requests were finished");
            Ok(())
        }
        connections => Err(Exit::runtime(format!(
            "stopped with {connections} connections cut off, because their requests were not \
             finished after {} s; for more time, set passticketProxy.timeouts.drainSeconds",
            config.timeouts.drain.as_secs()
        ))),
    }
}

/// Removes expired revocations regularly, so that the store does not grow without limit.
async fn evict(revocations: Arc<DurableStore>, every: Duration) {
    let mut ticks = tokio::time::interval(every);
    loop {
        ticks.tick().await;
        match revocations.evict(SystemClock.now()).await {
            Ok(evicted) => tracing::info!(?evicted, "removed expired revocations"),
            Err(error) => tracing::error!(%error, "cannot remove expired revocations"),
        }
    }
}

/// Returns a future that is ready after SIGTERM or SIGINT. Call this function within a Tokio runtime.
/// After the call, these signals no longer end the process.
pub(crate) fn shutdown_signal() -> Result<impl Future<Output = ()>, Exit> {
    let listen_for = |kind| signal(kind).map_err(|e: io::Error| Exit::runtime(e));
    let (mut terminate, mut interrupt) =
        (listen_for(SignalKind::terminate())?, listen_for(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM received: stopping, no new connections"),
            _ = interrupt.recv() => tracing::info!("SIGINT received: stopping, no new connections"),
        }
    })
}
