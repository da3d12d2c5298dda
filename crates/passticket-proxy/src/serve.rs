//! `serve --config`: the gateway until it is told to end.

use std::{io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

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
    commands::check,
    exit::Exit,
    reload,
    stack::{self, Stores},
    workers,
};

pub(crate) fn serve(file: &Path) -> Result<(), Exit> {
    let config = check::load(file)?;
    let parts = stack::parts(&config).map_err(Exit::usage)?;
    let stores = stack::stores(&config).map_err(Exit::runtime)?;
    runtime()?.block_on(async {
        let listener = listen(config.listen).await?;
        run(&config, parts, stores, listener, interrupted()?).await
    })
}

/// For what goes on beside the requests: signals, eviction, files that change.
pub(crate) fn runtime() -> Result<Runtime, Exit> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| Exit::runtime(format!("cannot start: {e}")))
}

pub(crate) async fn listen(address: SocketAddr) -> Result<TcpListener, Exit> {
    TcpListener::bind(address)
        .await
        .map_err(|e| Exit::runtime(format!("cannot listen on {address}: {e}")))
}

/// Serves until `shutdown`, then until the requests in flight are answered.
pub(crate) async fn run(
    config: &Config,
    parts: stack::Parts,
    stores: Stores,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Exit> {
    let address = listener.local_addr().map_err(Exit::runtime)?;
    tracing::info!(%address, routes = config.routes.iter().count(), "listening");
    let evicting = tokio::spawn(evict(stores.revocations.clone(), config.evict_every));
    let reloading = config
        .saf_file
        .clone()
        .map(|file| tokio::spawn(reload::permissions(file, config.saf.clone())));
    let tls = parts.tls.clone();
    let gateway = stack::gateway(config, parts, stores.clone());
    let drained = workers::serve(config, tls, listener, gateway, shutdown).await;
    evicting.abort();
    if let Some(reloading) = reloading {
        reloading.abort();
    }
    if let Some(audit) = stores.audit {
        audit.close();
    }
    match drained?.cut_off() {
        0 => {
            tracing::info!("ended; every request was answered");
            Ok(())
        }
        connections => Err(Exit::runtime(format!(
            "ended with {connections} connections cut off after {} s",
            config.timeouts.drain.as_secs()
        ))),
    }
}

/// Drops what can hit nothing any more, now and then, so that the file does not grow for ever.
async fn evict(revocations: Arc<DurableStore>, every: Duration) {
    let mut turns = tokio::time::interval(every);
    loop {
        turns.tick().await;
        match revocations.evict(SystemClock.now()).await {
            Ok(evicted) => tracing::info!(?evicted, "evicted what can hit nothing any more"),
            Err(error) => tracing::error!(%error, "nothing was evicted"),
        }
    }
}

/// Ready on SIGTERM or SIGINT. Must be called in the runtime; from then on the signals are ours.
pub(crate) fn interrupted() -> Result<impl Future<Output = ()>, Exit> {
    let on = |kind| signal(kind).map_err(|e: io::Error| Exit::runtime(e));
    let (mut terminate, mut interrupt) =
        (on(SignalKind::terminate())?, on(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: no new connections"),
            _ = interrupt.recv() => tracing::info!("SIGINT: no new connections"),
        }
    })
}
