//! Serves the admin port on a loopback address: metrics, health, and two requests that change the gateway. One of them
//! reloads the configuration. The other lets the gateway make PassTickets (short-lived passwords of z/OS) again, after
//! refusals by services have stopped this.
//!
//! The port has its own thread and its own runtime, so it answers even if all worker threads are busy. Each connection
//! serves one request, and a client must send its headers within a time limit. So idle clients cannot hold connections
//! for long.

mod certificate;
mod counts;
mod endpoints;
mod process;
mod status;
mod stopped_tickets;

use std::{
    convert::Infallible,
    io,
    net::TcpListener,
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use http::Request;
use http_body_util::Full;
use hyper::body::Incoming;
use passticket_proxy::config::Config;
use tokio::{runtime::Builder, sync::oneshot};
use tower::service_fn;
use tower_passticket::{
    metrics::MetricRegistry,
    tls::{ClientLimits, Server},
};

pub(crate) use counts::Counts;
pub(crate) use status::{Components, WorkerState};

use crate::{exit::Exit, log_queue::LogCounts, stack::Stores};
use endpoints::Endpoints;
use process::Process;

/// The maximum number of open connections. At this limit, a new connection replaces the connection that has been idle
/// longest. If no connection is idle, it replaces a stalled connection. If no connection is stalled either, the new
/// connection waits up to one second, and is then closed.
const MAX_CONNECTIONS: NonZeroUsize = NonZeroUsize::new(64).expect("should not be zero");

/// The time that a client may take to send the headers of its request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(2);

/// When the program stops, requests in flight may take this long. This is enough, because the port answers each request
/// except a reload immediately.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(250);

/// Binds the socket of the admin port, if the configuration has an admin port.
pub(crate) fn bind(config: &Config) -> Result<Option<TcpListener>, Exit> {
    let Some(settings) = &config.admin else { return Ok(None) };
    let listener = TcpListener::bind(settings.address);
    listener.map(Some).map_err(|e| Exit::runtime(settings.explain(&e)))
}

pub(crate) struct Admin {
    counts: Counts,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Admin {
    /// Starts the thread of the port. `listener` must be in non-blocking mode.
    pub(crate) fn start(
        listener: TcpListener,
        stores: &Stores,
        components: &Components,
    ) -> Result<Self, Exit> {
        let address = listener.local_addr().map_err(Exit::runtime)?;
        let counts = Counts::default();
        let registry = registry(&counts, stores, components);
        let endpoints = Endpoints::new(registry, components.clone(), counts.instances.clone());
        let endpoints = Arc::new(endpoints);
        let (stop, stopped) = oneshot::channel();
        let run = move || {
            let served = catch_unwind(AssertUnwindSafe(|| serve(listener, endpoints, stopped)));
            match served {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "the admin port has ended"),
                Err(_) => tracing::error!("the admin port has ended: its thread panicked"),
            }
        };
        let thread = thread::Builder::new().name("admin".to_owned()).spawn(run);
        let thread = thread.map_err(|e| Exit::runtime(format!("cannot start a thread: {e}")))?;
        tracing::info!(%address, "admin port is open");
        Ok(Self { counts, stop, thread })
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    pub(crate) fn stop(self) {
        // The signal cannot be sent if the thread has already ended. In that case, the thread has logged the reason.
        let _ = self.stop.send(());
        let _ = self.thread.join();
    }
}

fn registry(counts: &Counts, stores: &Stores, components: &Components) -> MetricRegistry {
    let registry = MetricRegistry::new()
        .with(Process::new(components.clone()))
        .with(counts.requests.clone())
        .with(counts.responses.clone())
        .with(counts.audit.clone())
        .with(counts.connections.clone())
        .with(counts.forward.clone())
        .with(counts.instances.clone())
        .with(counts.tunnels.clone())
        .with(counts.cross_origin.clone())
        .with(counts.rate_limit.clone())
        .with(counts.route_limits.clone())
        .with(counts.observed.clone())
        .with(stores.revocations.clone())
        .with(stores.uses.clone())
        .with(components.certificate().clone())
        .with(LogCounts);
    let registry = match &stores.zowe {
        Some(zowe) => registry.with(zowe.clone()),
        None => registry,
    };
    let registry = match &stores.audit {
        Some(audit) => registry.with(audit.clone()),
        None => registry,
    };
    let registry = match components.cluster() {
        Some(cluster) => registry.with(cluster.node.clone()),
        None => registry,
    };
    let registry = registry.with(components.breaker().clone());
    let registry = registry.with(components.access_logs().clone());
    registry.with(components.reloads().clone()).with(components.discovery().clone())
}

fn serve(
    listener: TcpListener,
    endpoints: Arc<Endpoints>,
    stopped: oneshot::Receiver<()>,
) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let service = service_fn(move |request: Request<Incoming>| {
            let endpoints = endpoints.clone();
            async move { Ok::<_, Infallible>(endpoints.answer(&request).await.map(Full::new)) }
        });
        // An error means that `Admin` was dropped. In that case, the port is also closed.
        let stopped = async { drop(stopped.await) };
        // All clients have a loopback address, so the limit per address is the whole limit.
        let limits =
            ClientLimits::new(MAX_CONNECTIONS).with_connections_per_address(MAX_CONNECTIONS);
        Server::http(listener)
            .with_client_limits(Arc::new(limits))
            .with_header_timeout(HEADER_TIMEOUT)
            .with_idle_timeout(HEADER_TIMEOUT)
            .with_drain_timeout(DRAIN_TIMEOUT)
            .run(service, stopped)
            .await;
        Ok(())
    })
}
