//! Starts the worker threads, which serve the requests. There is one worker thread for each core. Each
//! worker thread has its own single-threaded Tokio runtime.
//!
//! A request stays on the thread that accepted its connection. Each thread has its own
//! connections to services. So a thread needs no other thread to forward a request.
//!
//! The threads share some state: the revoked tokens, the cache of verified tokens, the permissions, and
//! the seconds for which a user already has a PassTicket (needed for replay protection). A lock on such
//! state is held only for one look-up. There is one exception: while a thread verifies a new token, other
//! threads that received the same token wait for the result.

use std::{
    convert::Infallible,
    io,
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
};

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

use crate::{
    admin::{Counts, WorkerState},
    exit::Exit,
};

/// Serves requests with a clone of `service` on each worker thread. `state` shows how many of them run.
/// With `counts`, connections are counted. After `shutdown`, finishes the
/// requests in flight.
pub(crate) async fn serve<S>(
    config: &Config,
    tls: Option<ServerTls>,
    listener: TcpListener,
    service: S,
    state: &Arc<WorkerState>,
    counts: Option<&Counts>,
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
    let (stop, stop_requested) = watch::channel(false);
    let (result_sender, mut results) = mpsc::channel(cores);
    state.expect(cores);
    for core in 0..cores {
        let listener = listener.try_clone().map_err(Exit::runtime)?;
        let (timeouts, tls) = (config.timeouts, tls.clone());
        let connections = config.limits.connections.get().div_ceil(cores);
        let (service, result_sender) = (service.clone(), result_sender.clone());
        let state = state.clone();
        let counts = counts.map(|counts| counts.connections.clone());
        let mut stop_requested = stop_requested.clone();
        let serve_requests = move || -> io::Result<Drained> {
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
                let server = match counts {
                    Some(counts) => server.with_connection_counts(counts),
                    None => server,
                };
                // An error means that `stop` was dropped. In this case, the thread stops as well.
                let shutdown = async { drop(stop_requested.wait_for(|stop| *stop).await) };
                let running = state.run();
                let drained = server.run(service, shutdown).await;
                drop(running);
                Ok(drained)
            })
        };
        let run = move || {
            let result = catch_unwind(AssertUnwindSafe(serve_requests)).unwrap_or_else(|_| {
                Err(io::Error::other("a worker thread panicked; standard error has the reason"))
            });
            // An error means that `results` was dropped. In this case, the result is not needed.
            drop(result_sender.blocking_send(result));
        };
        thread::Builder::new()
            .name(format!("worker-{core}"))
            .spawn(run)
            .map_err(|e| Exit::runtime(format!("cannot start a thread: {e}")))?;
    }
    // From now on only the threads have senders, so `results` closes when the last thread ends.
    drop((listener, result_sender));
    let mut finished = Vec::with_capacity(cores);
    tokio::select! {
        () = shutdown => {}
        // A thread ended before the shutdown. The code below stops the other threads.
        first = results.recv() => finished.extend(first),
    }
    state.stop();
    let _ = stop.send(true);
    while let Some(result) = results.recv().await {
        finished.push(result);
    }
    let mut cut_off = 0;
    for result in finished {
        cut_off += result.map_err(Exit::runtime)?.cut_off();
    }
    Ok(match cut_off {
        0 => Drained::Completely,
        connections => Drained::CutOff { connections },
    })
}
