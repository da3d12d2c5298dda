//! The counters of the gateway. They exist only if there is an admin port.

use std::sync::Arc;

use tower_passticket::{
    audit::{Audit, AuditCounts, AuditFiles, CountingSink},
    gateway::RequestCounts,
    tls::ConnectionCounts,
};

/// The counters of the gateway. Clones share them. Without an admin port there are none, and nothing is
/// counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) requests: Arc<RequestCounts>,
    pub(crate) connections: Arc<ConnectionCounts>,
    pub(super) audit: Arc<AuditCounts>,
}

impl Counts {
    /// A handle that counts each audit record, and writes it to `file`, if there is one.
    pub(crate) fn audit(&self, file: Option<Arc<AuditFiles>>) -> Audit {
        Audit::to(CountingSink::new(self.audit.clone(), file))
    }
}
