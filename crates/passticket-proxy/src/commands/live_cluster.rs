//! `check --live`: describes the Redis over which nodes share revocations.

use passticket_proxy::config::ClusterSettings;
use tower_passticket::{
    clock::SystemClock,
    cluster::{
        coordinator::CoordinatorError,
        redis::{Inspection, Severity, acl_command},
    },
};

use crate::{exit::Exit, serve, terminal::print_line};

/// The user in the printed ACL command, if the configuration names no user.
const DEFAULT_USER: &str = "tp";

/// Connects to Redis once, and prints the state of its data. Returns whether Redis answered and can be used.
pub(super) fn ask(settings: &ClusterSettings) -> Result<bool, Exit> {
    let place = settings.place().map_err(Exit::usage)?;
    let name = format!("cluster: {}", place.name());
    let inspected: Result<Inspection, CoordinatorError> =
        serve::runtime()?.block_on(async { place.inspect(SystemClock).await });
    let is_good = match inspected {
        Ok(inspection) => {
            for line in describe(&inspection) {
                print_line(&format!("{name}: {line}"));
            }
            inspection.findings.iter().all(|finding| finding.severity() != Severity::Error)
        }
        Err(error) => {
            print_line(&format!("{name}: FAILED: {error}"));
            false
        }
    };
    let user = settings.redis.address.user().unwrap_or(DEFAULT_USER);
    print_line(&format!("{name}: the user needs: {}", acl_command(&settings.site, user)));
    Ok(is_good)
}

fn describe(inspection: &Inspection) -> Vec<String> {
    let Inspection { primary, version, replicas, clock_difference, records, memory, .. } =
        inspection;
    let memory =
        memory.map_or_else(|| "an unknown number of".to_owned(), |bytes| bytes.to_string());
    let mut nodes: Vec<_> = inspection.leases.iter().map(|lease| lease.node.to_string()).collect();
    nodes.sort();
    let nodes = if nodes.is_empty() { "none".to_owned() } else { nodes.join(", ") };
    let mut lines = vec![
        format!("{primary} is the primary with {replicas} replicas, version {version}"),
        format!("its clock differs by {clock_difference} ms from the clock of this machine"),
        format!("the site has {records} records in {memory} bytes; nodes with a lease: {nodes}"),
    ];
    let findings = inspection.findings.iter().map(|finding| match finding.severity() {
        Severity::Error => format!("FAILED: {finding}"),
        Severity::Warning => format!("warning: {finding}"),
        Severity::NotKnown => finding.to_string(),
    });
    lines.extend(findings);
    lines
}
