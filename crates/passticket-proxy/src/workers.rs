//! Starts the worker threads, which serve the requests. There is one worker thread for each core. Each
//! worker thread has its own single-threaded Tokio runtime.
//!
//! A request stays on the thread that accepted its connection. Each thread has its own connections to services. So a
//! thread can forward a request without the help of other threads.
//!
//! The threads share some state: the revoked tokens, the cache of verified tokens, the permissions, and the time slots
//! in use (for replay protection). A lock on this state is normally held only for one look-up. But while one thread
//! verifies a new token, other threads that received the same token wait for the result.

use std::{
    io,
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::Duration,
};

use passticket_proxy::config::Config;
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    sync::{mpsc, watch},
};
use tower_passticket::{
    access_log::AccessLog,
    tls::{ClientLimits, ConnectionCounts, Drained, Server, ServerSettings, SettingsHandle},
};

use crate::{
    admin::{Counts, WorkerState},
    descriptors::{self, Ports},
    exit::Exit,
    gateway_service::GatewayService,
    stack::Parts,
    systemd::Heartbeats,
};

pub(crate) struct Inbound {
    pub(crate) listeners: SharedListeners,
    /// Each thread sends heartbeats, so that systemd learns if a thread hangs.
    pub(crate) heartbeats: Heartbeats,
}

/// The settings and limits of the listeners. Clones share them, and a reload changes them.
#[derive(Clone)]
pub(crate) struct SharedListeners {
    cores: usize,
    pub(crate) gateway: Shared,
    /// The listener for gateways of API ML. `None` if the program has no such listener.
    pub(crate) zaas: Option<Shared>,
}

/// The settings and limits of a listener. All threads share the limits of connections, because the kernel does not
/// distribute connections evenly among the threads.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) settings: SettingsHandle,
    limits: Arc<ClientLimits>,
}

impl Shared {
    fn new(settings: ServerSettings, limits: ClientLimits) -> Self {
        Self { settings: SettingsHandle::new(settings), limits: Arc::new(limits) }
    }
}

impl SharedListeners {
    pub(crate) fn new(config: &Config, parts: &Parts, access_log: Option<AccessLog>) -> Self {
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let zaas = zaas_settings(config, parts, access_log.clone());
        let limits = descriptors::client_limits(&config.limits, cores, ports(zaas.is_some()));
        Self {
            cores,
            gateway: Shared::new(settings(config, parts, access_log), limits.gateway),
            zaas: zaas.map(|settings| Shared::new(settings, limits.zaas)),
        }
    }

    /// Applies a new configuration. Returns the number of connections that are closed, because their certificate is no
    /// longer accepted.
    pub(crate) fn replace(
        &self,
        config: &Config,
        parts: &Parts,
        access_log: Option<AccessLog>,
    ) -> usize {
        let ports = ports(self.zaas.is_some());
        let limits = descriptors::client_limits(&config.limits, self.cores, ports);
        self.gateway.limits.replace(&limits.gateway);
        let closed = self.gateway.settings.replace(settings(config, parts, access_log.clone()));
        let Some(zaas) = &self.zaas else { return closed };
        zaas.limits.replace(&limits.zaas);
        let new = zaas_settings(config, parts, access_log);
        closed + new.map_or(0, |settings| zaas.settings.replace(settings))
    }
}

fn ports(with_zaas: bool) -> Ports {
    if with_zaas { Ports::WithZaas } else { Ports::One }
}

/// Returns the settings of the listener of the gateway for new connections.
fn settings(config: &Config, parts: &Parts, access_log: Option<AccessLog>) -> ServerSettings {
    // If `parts.tls()` is `None`, AT-TLS (TLS by the TCP/IP stack of z/OS) encrypts the connections of clients.
    let mut settings = ServerSettings::new(parts.tls().cloned());
    if let Some(proxies) = &config.trusted_proxies {
        settings = settings.with_trusted_proxies(proxies.clone());
    }
    if let Some(proxies) = &config.proxy_protocol {
        settings = settings.with_proxy_protocol(proxies.clone());
    }
    with_limits(settings, config, access_log)
}

/// Returns the settings of the listener for gateways of API ML. Such a gateway sends the headers of its clients
/// unchanged, so the program does not read the address of a client from a header. `None` if the program has no such
/// listener.
fn zaas_settings(
    config: &Config,
    parts: &Parts,
    access_log: Option<AccessLog>,
) -> Option<ServerSettings> {
    let settings = ServerSettings::new(Some(parts.zaas()?.tls().clone()));
    Some(with_limits(settings, config, access_log))
}

fn with_limits(
    settings: ServerSettings,
    config: &Config,
    access_log: Option<AccessLog>,
) -> ServerSettings {
    let settings = settings
        .with_handshake_timeout(config.timeouts.handshake)
        .with_idle_timeout(config.timeouts.idle)
        .with_send_timeout(config.timeouts.send);
    match access_log {
        Some(log) => settings.with_access_log(log),
        None => settings,
    }
}

/// A listening socket and the service that answers its requests.
pub(crate) struct Port<S> {
    pub(crate) listener: std::net::TcpListener,
    pub(crate) service: S,
}

impl<S: GatewayService> Port<S> {
    fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { listener: self.listener.try_clone()?, service: self.service.clone() })
    }

    /// Makes the server of one thread. Returns the future that serves until `stop` is true.
    fn serve(
        self,
        shared: Shared,
        drain: DrainTimes,
        counts: Option<Arc<ConnectionCounts>>,
        mut stop: watch::Receiver<bool>,
    ) -> io::Result<impl Future<Output = Drained>> {
        let server = Server::behind_tls(TcpListener::from_std(self.listener)?)
            .with_settings(&shared.settings)
            .with_drain_timeout(drain.requests)
            .with_tunnel_drain_timeout(drain.tunnels)
            .with_client_limits(shared.limits);
        let server = match counts {
            Some(counts) => server.with_connection_counts(counts),
            None => server,
        };
        // An error means that the sender of `stop` was dropped. In this case, the server also stops.
        let shutdown = async move { drop(stop.wait_for(|stop| *stop).await) };
        Ok(server.run(self.service, shutdown))
    }
}

/// The maximum times that the program waits before it ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DrainTimes {
    pub(crate) requests: Duration,
    pub(crate) tunnels: Duration,
}

/// Serves requests with a clone of the services on each worker thread. `zaas` is the listener for gateways of API ML.
/// `state` shows how many threads run. If `counts` is present, connections are counted. When `shutdown` is ready,
/// finishes the requests in flight.
pub(crate) async fn serve(
    drain: DrainTimes,
    inbound: Inbound,
    gateway: Port<impl GatewayService>,
    zaas: Option<Port<impl GatewayService>>,
    state: &Arc<WorkerState>,
    counts: Option<&Counts>,
    shutdown: impl Future<Output = ()>,
) -> Result<Drained, Exit> {
    let Inbound { listeners, heartbeats } = inbound;
    let SharedListeners { cores, gateway: of_gateway, zaas: of_zaas } = listeners;
    let zaas = zaas.zip(of_zaas);
    let mut workers = Vec::with_capacity(cores);
    state.expect(cores);
    for _ in 0..cores {
        let gateway = gateway.try_clone().map_err(Exit::runtime)?;
        let zaas = zaas.as_ref().map(|(port, shared)| Ok((port.try_clone()?, shared.clone())));
        let zaas = zaas.transpose().map_err(|error: io::Error| Exit::runtime(error))?;
        // Each runtime opens file descriptors. So all runtimes are built before the first thread accepts connections.
        // If connections were accepted earlier, clients could use up the descriptors that the other runtimes need.
        let runtime = WorkerRuntime::new().map_err(Exit::runtime)?;
        let (of_gateway, state, heartbeats) =
            (of_gateway.clone(), state.clone(), heartbeats.clone());
        let counts = counts.map(|counts| counts.connections.clone());
        workers.push(move |stop_requested: watch::Receiver<bool>| -> io::Result<Drained> {
            runtime.run(async {
                let stop = stop_requested.clone();
                let gateway = gateway.serve(of_gateway, drain, counts.clone(), stop)?;
                let zaas =
                    zaas.map(|(port, of_zaas)| port.serve(of_zaas, drain, counts, stop_requested));
                let zaas = zaas.transpose()?;
                let (running, heart) = (state.run(), heartbeats.start());
                let drained = match zaas {
                    None => gateway.await,
                    Some(zaas) => {
                        let (gateway, zaas) = tokio::join!(gateway, zaas);
                        sum([gateway, zaas])
                    }
                };
                drop((running, heart));
                Ok(drained)
            })
        });
    }
    drop((gateway, zaas));
    let shutdown = async {
        shutdown.await;
        state.stop();
    };
    let finished = supervise(workers, shutdown).await?;
    Ok(sum(finished))
}

fn sum(drained: impl IntoIterator<Item = Drained>) -> Drained {
    match drained.into_iter().map(Drained::cut_off).sum() {
        0 => Drained::Completely,
        connections => Drained::CutOff { connections },
    }
}

/// The runtime of a worker. It can be dropped in any thread, also in a task of another runtime: if a worker cannot be
/// started, the main thread drops the runtimes of all workers.
struct WorkerRuntime(Option<Runtime>);

impl WorkerRuntime {
    fn new() -> io::Result<Self> {
        Builder::new_current_thread().enable_all().build().map(|runtime| Self(Some(runtime)))
    }

    fn run<T>(self, worker: impl Future<Output = T>) -> T {
        let runtime = self.0.as_ref().expect("only `drop` takes the runtime");
        runtime.block_on(worker)
    }
}

impl Drop for WorkerRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Dropping a `Runtime` waits for its blocking calls, such as a look-up in DNS. In a task, such a
            // wait panics. Elsewhere, it would delay the end of the program. `shutdown_background` does not wait.
            runtime.shutdown_background();
        }
    }
}

/// Runs each worker in its own thread until `shutdown` is ready, and returns the results of the workers. A worker stops
/// when its argument becomes `true`. If a worker ends or panics earlier, the other workers are also stopped. If the
/// other workers continued, the gateway would run with fewer threads, and some clients would get no answer.
///
/// # Errors
/// The error of the first worker that failed or ended too early, or the error if a thread cannot be started.
async fn supervise<W, T>(
    workers: Vec<W>,
    shutdown: impl Future<Output = ()>,
) -> Result<Vec<T>, Exit>
where
    W: FnOnce(watch::Receiver<bool>) -> io::Result<T> + Send + 'static,
    T: Send + 'static,
{
    let count = workers.len();
    let (stop, stop_requested) = watch::channel(false);
    let (result_sender, mut results) = mpsc::channel(count.max(1));
    for (core, worker) in workers.into_iter().enumerate() {
        let (result_sender, stop_requested) = (result_sender.clone(), stop_requested.clone());
        let run = move || {
            let result = catch_unwind(AssertUnwindSafe(|| worker(stop_requested)));
            let result = result.unwrap_or_else(|_| {
                Err(io::Error::other("a worker thread panicked; standard error has the reason"))
            });
            // An error means that the receiver `results` was dropped. In this case, the result is not needed.
            drop(result_sender.blocking_send(result));
        };
        thread::Builder::new()
            .name(format!("worker-{core}"))
            .spawn(run)
            .map_err(|e| Exit::runtime(format!("cannot start a thread: {e}")))?;
    }
    // From now on, only the threads have senders, so `results` closes when the last thread ends.
    drop(result_sender);
    let mut finished = Vec::with_capacity(count);
    tokio::select! {
        () = shutdown => {}
        first = results.recv() => {
            let error = match first {
                Some(Err(error)) => error,
                Some(Ok(_)) | None => io::Error::other("a worker thread ended early"),
            };
            tracing::error!(%error, "a worker thread ended; stopping, no new connections");
            finished.push(Err(error));
        }
    }
    let _ = stop.send(true);
    while let Some(result) = results.recv().await {
        finished.push(result);
    }
    finished.into_iter().collect::<io::Result<_>>().map_err(Exit::runtime)
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    /// A worker. The argument becomes `true` when the worker must end.
    type Worker = Box<dyn FnOnce(watch::Receiver<bool>) -> io::Result<u8> + Send>;

    /// Returns a worker that runs until its argument becomes `true`.
    fn obedient() -> Worker {
        Box::new(|mut stop| {
            let runtime = Builder::new_current_thread().build()?;
            runtime.block_on(async { drop(stop.wait_for(|stop| *stop).await) });
            Ok(1)
        })
    }

    #[tokio::test]
    async fn a_worker_that_ends_or_panics_ends_the_others() {
        let failing: Worker = Box::new(|_| Err(io::Error::other("no more descriptors")));
        let panicking: Worker = Box::new(|_| panic!("a defect"));
        let returning: Worker = Box::new(|_| Ok(2));
        for (worker, want) in
            [(failing, "no more descriptors"), (panicking, "panicked"), (returning, "ended early")]
        {
            let workers = vec![obedient(), worker, obedient()];
            let Err(Exit::Runtime(error)) = supervise(workers, pending()).await else {
                panic!("expected an error")
            };
            assert!(error.contains(want), "{error}");
        }
        let stopped = supervise(vec![obedient(), obedient()], ready(())).await;
        assert_eq!(stopped.unwrap(), [1, 1]);
    }
}
