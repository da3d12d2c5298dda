//! The metrics of a node. The module [`cluster`](super) explains leases.

use std::time::Duration;

use crate::metrics::{Collect, Counter, Description, Exposition, Histogram};

/// The upper limits of the buckets of [`WAITS`].
const BUCKETS: &[Duration] = &[
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(6),
];

const REFUSED: Description = Description::counter(
    "passticket_cluster_refused_checks_total",
    "Token checks that were refused because the node had no lease.",
);
const INCIDENTS: Description = Description::counter(
    "passticket_cluster_incidents_total",
    "Times that the shared store (such as Redis) had no data of this site, although this node had data.",
);
const UNIONS: Description = Description::counter(
    "passticket_cluster_unions_total",
    "Times that this node published all its records.",
);
const JOINING_GIVEN_UP: Description = Description::counter(
    "passticket_cluster_joining_given_up_total",
    "Times that this node got a lease although another node that joins had not exchanged all revocations after ten \
     lease times.",
);
const UNCONFIRMED: Description = Description::counter(
    "passticket_cluster_unconfirmed_writes_total",
    "Writes that the shared store (such as Redis) or another node had not confirmed in time.",
);
const CONNECTION_ERRORS: Description = Description::counter(
    "passticket_cluster_connection_errors_total",
    "Sessions with the shared store (such as Redis) that have ended with an error of this store, of the revocation file, \
     or of the node's name. After an error, the node connects again.",
);
const WAITS: Description = Description::histogram(
    "passticket_cluster_confirmation_seconds",
    "Time from a write until all nodes had it.",
);

/// The counters of a node, for the metrics.
#[derive(Debug)]
pub(super) struct ClusterCounts {
    pub(super) refused: Counter,
    pub(super) incidents: Counter,
    pub(super) unions: Counter,
    pub(super) joining_given_up: Counter,
    pub(super) unconfirmed: Counter,
    pub(super) connection_errors: Counter,
    /// How long writes waited for all nodes.
    pub(super) waits: Histogram,
}

impl Default for ClusterCounts {
    fn default() -> Self {
        Self {
            refused: Counter::new(),
            incidents: Counter::new(),
            unions: Counter::new(),
            joining_given_up: Counter::new(),
            unconfirmed: Counter::new(),
            connection_errors: Counter::new(),
            waits: Histogram::new(BUCKETS),
        }
    }
}

impl Collect for ClusterCounts {
    fn collect(&self, exposition: &mut Exposition) {
        exposition.value(&REFUSED, self.refused.get());
        exposition.value(&INCIDENTS, self.incidents.get());
        exposition.value(&UNIONS, self.unions.get());
        exposition.value(&JOINING_GIVEN_UP, self.joining_given_up.get());
        exposition.value(&UNCONFIRMED, self.unconfirmed.get());
        exposition.value(&CONNECTION_ERRORS, self.connection_errors.get());
        exposition.histogram(&WAITS, &self.waits);
    }
}
