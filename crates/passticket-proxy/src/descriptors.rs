//! The limit of open files (descriptors) of the process. Each connection also needs a descriptor.
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

const MEBIBYTE: usize = 1024 * 1024;

/// Raises the limit of open files as far as possible, and returns the limits of client connections. If the process
/// cannot open enough files, the returned limits are lower than the configured limits, and a warning is logged.
pub(crate) fn client_limits(limits: &LimitSettings, workers: usize) -> ClientLimits {
    let open_files = raise();
    let configured = limits.connections;
    let possible = open_files.map(|open_files| possible_clients(open_files, workers));
    let connections = possible.map_or(configured, |possible| configured.min(possible));
    if connections < configured {
        let needed = needed_files(configured, workers);
        tracing::warn!(
            open_files,
            needed,
            "the process cannot open enough files for {configured} clients, so the gateway serves only {connections}; \
             raise the hard limit (ulimit -Hn), or set components.passticket-proxy.limits.connections to a lower number"
        );
    }
    let client_limits = ClientLimits::new(connections);
    let per_address = match connections < configured {
        true => limits.connections_per_address.min(client_limits.connections_per_address()),
        false => limits.connections_per_address,
    };
    client_limits
        .with_connections_per_address(per_address)
        .with_requests_per_address(limits.requests_per_address)
        .with_header_bytes(limits.header_megabytes.get().saturating_mul(MEBIBYTE))
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

fn own_files(workers: usize) -> u64 {
    KEPT + KEPT_PER_WORKER * workers as u64
}

/// Returns the number of clients that can be served with this limit of open files. Each client may need a connection to
/// a service.
fn possible_clients(open_files: u64, workers: usize) -> NonZeroUsize {
    let clients = open_files.saturating_sub(own_files(workers)) / 2;
    let clients = usize::try_from(clients).unwrap_or(usize::MAX);
    NonZeroUsize::new(clients).unwrap_or(NonZeroUsize::MIN)
}

/// Returns the limit of open files that this number of clients needs.
fn needed_files(clients: NonZeroUsize, workers: usize) -> u64 {
    own_files(workers) + 2 * clients.get() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_files_are_for_clients() {
        for (open_files, workers, clients) in [
            (0, 2, 1),
            (44, 2, 1),
            (64, 2, 10),
            (1024, 2, 490),
            (1024, 64, 304),
            (20_044, 2, 10_000),
        ] {
            let possible = possible_clients(open_files, workers);
            assert_eq!(possible.get(), clients, "{open_files} files, {workers} workers");
            if clients > 1 {
                assert_eq!(needed_files(possible, workers), open_files);
            }
        }
    }
}
