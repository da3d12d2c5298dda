//! The counters of the gateway. They exist only if the configuration has an admin port.

use std::sync::Arc;

use tower_passticket::{
    audit::{Audit, AuditCounts, AuditFiles, CountingSink},
    gateway::RequestCounts,
    layer::{CrossOriginCounts, ObservedCounts, RateLimitCounts, RequestMetrics, RouteLimitCounts},
    proxy::{ForwardCounts, InstanceStates, TunnelCounts},
    tls::ConnectionCounts,
};

/// The counters of the gateway. Clones share the same counters.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) responses: Arc<RequestCounts>,
    pub(crate) requests: Arc<RequestMetrics>,
    pub(crate) connections: Arc<ConnectionCounts>,
    pub(crate) forward: Arc<ForwardCounts>,
    pub(crate) instances: Arc<InstanceStates>,
    pub(crate) tunnels: Arc<TunnelCounts>,
    pub(crate) cross_origin: Arc<CrossOriginCounts>,
    pub(crate) route_limits: Arc<RouteLimitCounts>,
    pub(crate) observed: Arc<ObservedCounts>,
    pub(crate) rate_limit: Arc<RateLimitCounts>,
    pub(super) audit: Arc<AuditCounts>,
}

impl Counts {
    /// Returns a handle that counts each audit record, and writes it to `file` if there is a file.
    pub(crate) fn audit(&self, file: Option<Arc<AuditFiles>>) -> Audit {
        Audit::to(CountingSink::new(self.audit.clone(), file))
    }
}
