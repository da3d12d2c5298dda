//! The threads that serve requests: one for each core, each with its own runtime.
//!
//! A request stays on the thread that accepted its connection, and uses the connections to services
//! that this thread opened, so no thread wakes another one. State that all threads need (revocations,
//! verified tokens, permissions, time slots) is shared, with locks that are held for one look-up. A
//! thread only waits for another one that is verifying the same token.

use std::{convert::Infallible, io, num::NonZeroUsize, thread};

use http::{Request, Response};
use hyper::body::Incoming;
use passticket_proxy::config::Config;
use tokio::{
    net::TcpListener,
    runtime::Builder,
    sync::{mpsc, watch},
};
use tower_passticket::{
    proxy::ResponseBody,
    tls::{Drained, Server, ServerTls},
};
use tower_service::Service;

use crate::exit::Exit;

/// Serves with clones of `service` until `shutdown`, then finishes the requests in flight.
pub(crate) async fn serve<S>(
    config: &Config,
    tls: Option<ServerTls>,
    listener: TcpListener,
    service: S,
    shutdown: impl Future<Output = ()>,
) -> Result<Drained, Exit>
where
    S: Service<
            Request<Incoming>,
            Response = Response<ResponseBody>,
            Error = Infallible,
            Future: Send + 'static,
        > + Clone
        + Send
        + 'static,
{
    let listener = listener.into_std().map_err(Exit::runtime)?;
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let (end, ending) = watch::channel(false);
    let (ended, mut all_ended) = mpsc::channel(cores);
    for core in 0..cores {
        let listener = listener.try_clone().map_err(Exit::runtime)?;
        let (timeouts, tls) = (config.timeouts, tls.clone());
        let connections = config.limits.connections.get().div_ceil(cores);
        let (service, ended, mut ending) = (service.clone(), ended.clone(), ending.clone());
        let work = move || -> io::Result<Drained> {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener)?;
                let server = match tls {
                    Some(tls) => Server::https(listener, tls),
                    None => Server::http(listener),
                };
                let server = server
                    .with_handshake_timeout(timeouts.handshake)
                    .with_drain_timeout(timeouts.drain)
                    .with_max_connections(connections);
                // An error means that the sender is gone, which also ends this thread.
                let shutdown = async { drop(ending.wait_for(|ending| *ending).await) };
                Ok(server.run(service, shutdown).await)
            })
        };
        // The receiver may be gone.
        let run = move || drop(ended.blocking_send(work()));
        thread::Builder::new()
            .name(format!("worker-{core}"))
            .spawn(run)
            .map_err(|e| Exit::runtime(format!("cannot start a thread: {e}")))?;
    }
    // The channel closes when the last thread ends.
    drop((listener, ended));
    let mut drained = Vec::with_capacity(cores);
    tokio::select! {
        () = shutdown => {}
        // A thread ended too early: the others stop as well.
        first = all_ended.recv() => drained.extend(first),
    }
    let _ = end.send(true);
    while let Some(next) = all_ended.recv().await {
        drained.push(next);
    }
    if drained.len() < cores {
        return Err(Exit::runtime("a worker thread ended; see the log"));
    }
    let mut cut_off = 0;
    for one in drained {
        cut_off += one.map_err(Exit::runtime)?.cut_off();
    }
    Ok(match cut_off {
        0 => Drained::Completely,
        connections => Drained::CutOff { connections },
    })
}
