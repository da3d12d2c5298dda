//! The limit of open files (descriptors) of the process. Each connection needs a descriptor.
//!
//! If no descriptor is free, the gateway cannot accept a connection or connect to a service. So the gateway limits the
//! number of clients. Each client needs two descriptors: one for its own connection, and one for a connection to a
//! service.

use std::num::NonZeroUsize;

use passticket_proxy::config::LimitSettings;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tower_passticket::tls::ClientLimits;

/// The number of descriptors that are reserved for files, logs, the admin port and signals.
const KEPT: u64 = 32;

/// The number of descriptors that each worker thread needs for its runtime and its listener.
const KEPT_PER_WORKER: u64 = 6;

/// The number of descriptors that each worker thread needs for the listener for API ML's gateways, which use this
/// program as their ZAAS.
const KEPT_FOR_ZAAS: u64 = 1;

const MEBIBYTE: usize = 1024 * 1024;

/// The maximum number of connections of API ML's gateways. There are only a few gateways, and each keeps its
/// connections open.
const ZAAS_CONNECTIONS: NonZeroUsize = NonZeroUsize::new(1_000).expect("should not be zero");

/// The ports for requests of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ports {
    /// The port of the gateway.
    One,
    /// The port of the gateway, and the port for API ML's gateways.
    WithZaas,
}

pub(crate) struct ListenerLimits {
    pub(crate) gateway: ClientLimits,
    pub(crate) zaas: ClientLimits,
}

/// Raises the limit of open files as far as possible, and returns the limits of client connections. If the process
/// cannot open enough files, the returned limits are lower than the configured limits, and a warning is logged.
///
/// The settings `connections_per_address` and `requests_per_address` do not apply to the port for API ML's gateways.
/// The requests of all clients of such a gateway come from one address. On that port, one address may have half of the
/// maximum number of connections (rounded up), and the same number of requests in flight.
pub(crate) fn client_limits(
    limits: &LimitSettings,
    workers: usize,
    ports: Ports,
) -> ListenerLimits {
    let open_files = raise();
    let possible = open_files.map(|open_files| possible_clients(open_files, workers, ports));
    let Shares { gateway: connections, zaas } = shares(limits.connections, possible, ports);
    if connections < limits.connections {
        let of_zaas = if ports == Ports::WithZaas { zaas.get() } else { 0 };
        let configured = limits.connections.saturating_add(of_zaas);
        let needed = needed_files(configured, workers, ports);
        tracing::warn!(
            open_files,
            needed,
            "the process cannot open enough files for {configured} clients, so the gateway serves only {}; raise the \
             hard limit (ulimit -Hn), or set components.passticket-proxy.limits.connections to a lower number",
            connections.saturating_add(of_zaas)
        );
    }
    let client_limits = ClientLimits::new(connections);
    let per_address = match connections < limits.connections {
        true => limits.connections_per_address.min(client_limits.connections_per_address()),
        false => limits.connections_per_address,
    };
    let header_bytes = limits.header_megabytes.get().saturating_mul(MEBIBYTE);
    let of_gateways = ClientLimits::new(zaas);
    let requests = of_gateways.connections_per_address();
    ListenerLimits {
        gateway: client_limits
            .with_connections_per_address(per_address)
            .with_requests_per_address(limits.requests_per_address)
            .with_header_bytes(header_bytes),
        zaas: of_gateways.with_requests_per_address(requests).with_header_bytes(header_bytes),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shares {
    gateway: NonZeroUsize,
    zaas: NonZeroUsize,
}

/// Divides the `possible` connections between the ports. If `possible` is `None`, there is no limit. The port for API
/// ML's gateways gets a quarter of the connections, but at least 1 and at most [`ZAAS_CONNECTIONS`]. Without a limit,
/// it gets [`ZAAS_CONNECTIONS`]. With [`Ports::One`], there is no such port, and its share is not used.
fn shares(configured: NonZeroUsize, possible: Option<NonZeroUsize>, ports: Ports) -> Shares {
    let at_least_1 = |number| NonZeroUsize::new(number).unwrap_or(NonZeroUsize::MIN);
    match (possible, ports) {
        (None, _) => Shares { gateway: configured, zaas: ZAAS_CONNECTIONS },
        (Some(possible), Ports::One) => {
            Shares { gateway: configured.min(possible), zaas: ZAAS_CONNECTIONS }
        }
        (Some(possible), Ports::WithZaas) => {
            let zaas = ZAAS_CONNECTIONS.min(at_least_1(possible.get() / 4));
            let rest = at_least_1(possible.get().saturating_sub(zaas.get()));
            Shares { gateway: configured.min(rest), zaas }
        }
    }
}

/// Raises the soft limit of open files to the hard limit. Returns the limit. `None` means that there is no limit.
fn raise() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::warn!(%error, "cannot raise the limit of open files (ulimit -n)");
            current
        }
    }
}

fn own_files(workers: usize, ports: Ports) -> u64 {
    let per_worker = match ports {
        Ports::One => KEPT_PER_WORKER,
        Ports::WithZaas => KEPT_PER_WORKER + KEPT_FOR_ZAAS,
    };
    KEPT + per_worker * workers as u64
}

/// Returns the number of clients that can be served with this limit of open files. Each client may need a connection to
/// a service.
fn possible_clients(open_files: u64, workers: usize, ports: Ports) -> NonZeroUsize {
    let clients = open_files.saturating_sub(own_files(workers, ports)) / 2;
    let clients = usize::try_from(clients).unwrap_or(usize::MAX);
    NonZeroUsize::new(clients).unwrap_or(NonZeroUsize::MIN)
}

/// Returns the limit of open files that this number of clients needs.
fn needed_files(clients: NonZeroUsize, workers: usize, ports: Ports) -> u64 {
    own_files(workers, ports) + 2 * clients.get() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_few_files_serves_fewer_clients_on_both_ports() {
        let number = |number| NonZeroUsize::new(number).unwrap();
        for (configured, possible, ports, gateway, zaas) in [
            (10_000, None, Ports::WithZaas, 10_000, 1_000),
            (10_000, Some(20_000), Ports::WithZaas, 10_000, 1_000),
            (10_000, Some(10_500), Ports::WithZaas, 9_500, 1_000),
            (10_000, Some(400), Ports::WithZaas, 300, 100),
            (10_000, Some(1), Ports::WithZaas, 1, 1),
            (100, Some(400), Ports::WithZaas, 100, 100),
            (10_000, Some(10_500), Ports::One, 10_000, 1_000),
            (10_000, Some(400), Ports::One, 400, 1_000),
        ] {
            let shares = shares(number(configured), possible.map(number), ports);
            let want = Shares { gateway: number(gateway), zaas: number(zaas) };
            assert_eq!(shares, want, "{configured} {possible:?} {ports:?}");
        }
    }

    #[test]
    fn each_client_takes_two_of_the_files_that_are_not_reserved() {
        for (open_files, workers, ports, clients) in [
            (0, 2, Ports::One, 1),
            (44, 2, Ports::One, 1),
            (64, 2, Ports::One, 10),
            (1024, 2, Ports::One, 490),
            (1024, 2, Ports::WithZaas, 489),
            (1024, 64, Ports::One, 304),
            (1024, 64, Ports::WithZaas, 272),
            (20_044, 2, Ports::One, 10_000),
        ] {
            let possible = possible_clients(open_files, workers, ports);
            assert_eq!(possible.get(), clients, "{open_files} files, {workers} workers, {ports:?}");
            if clients > 1 {
                assert_eq!(needed_files(possible, workers, ports), open_files);
            }
        }
    }
}
