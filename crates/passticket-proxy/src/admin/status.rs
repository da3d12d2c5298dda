//! Reports whether the components of the gateway work.
//!
//! A PassTicket is a short-lived password of z/OS.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use passticket_proxy::config::Config;
use serde_json::{Map, Value, json};
use tokio::time::sleep;
use tower_passticket::{
    audit::AuditFiles,
    clock::{Clock, SystemClock},
    health::Health,
    layer::Mode,
    metrics::{Label, LabelName},
    proxy::InstanceStates,
    revocation::{CachingService, DurableStore},
    ticket_breaker::TicketBreaker,
};

use super::{certificate::CertificateExpiry, stopped_tickets};
use crate::{
    access_logs::AccessLogs, cluster::Cluster, discovery::Discovery, reloads::Reloads,
    stack::Stores,
};

/// The interval at which [`WorkerState::all_run`] counts the threads.
const CHECK_EVERY: Duration = Duration::from_millis(5);

/// A part of the gateway that has its own health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Component {
    Workers,
    Revocations,
    Audit,
    Certificate,
    Configuration,
    Discovery,
    ZoweRevocations,
    Cluster,
    Zaas,
    AccessLog,
}

impl Label for Component {
    const NAME: LabelName = LabelName::new("component");
    const ALL: &'static [Self] = &[
        Self::Workers,
        Self::Revocations,
        Self::Audit,
        Self::Certificate,
        Self::Configuration,
        Self::Discovery,
        Self::ZoweRevocations,
        Self::Cluster,
        Self::Zaas,
        Self::AccessLog,
    ];

    fn index(self) -> usize {
        self as usize
    }

    fn value(self) -> &'static str {
        match self {
            Self::Workers => "workers",
            Self::Revocations => "revocations",
            Self::Audit => "audit",
            Self::Certificate => "certificate",
            Self::Configuration => "configuration",
            Self::Discovery => "discovery",
            Self::ZoweRevocations => "zoweRevocations",
            Self::Cluster => "cluster",
            Self::Zaas => "zaas",
            Self::AccessLog => "accessLog",
        }
    }
}

/// Gives access to all components. Clones refer to the same components.
#[derive(Clone)]
pub(crate) struct Components {
    workers: Arc<WorkerState>,
    revocations: Arc<DurableStore>,
    zowe: Option<CachingService>,
    audit: Option<Arc<AuditFiles>>,
    certificate: CertificateExpiry,
    /// Whether delegated PassTickets or the token exchange are on. While the audit log does not work, the gateway makes
    /// no PassTickets for these two functions, but serves all other requests.
    is_audit_needed: Arc<AtomicBool>,
    reloads: Arc<Reloads>,
    discovery: Discovery,
    cluster: Option<Cluster>,
    breaker: TicketBreaker,
    /// The services with the mode `observe`: the gateway does not enforce its decisions about requests to them.
    observed: Arc<Mutex<Vec<String>>>,
    zaas: Arc<Mutex<Option<ZaasListener>>>,
    access_logs: AccessLogs,
}

#[derive(Clone, Copy, Debug)]
struct ZaasListener {
    address: SocketAddr,
    /// The number of gateways that are trusted to act for their clients.
    gateways: usize,
    /// Whether the configuration has the listener. If a reload has removed the setting, the listener stays open until
    /// the program ends.
    is_configured: bool,
}

fn observed(config: &Config) -> Vec<String> {
    let found = config.discovery.iter().flat_map(|discovery| &discovery.services);
    let found = found.flat_map(|service| &service.schemes);
    let routes = config.routes.iter().chain(found);
    let observed = routes.filter(|route| route.mode() == Mode::Observe);
    let observed: BTreeSet<_> = observed.map(|route| route.service().to_string()).collect();
    observed.into_iter().collect()
}

/// Returns whether the gateway refuses some requests while the audit log does not work.
fn is_audit_needed(config: &Config) -> bool {
    config.delegation.is_some() || config.exchange.is_some()
}

impl Components {
    pub(crate) fn new(
        config: &Config,
        stores: &Stores,
        workers: &Arc<WorkerState>,
        reloads: &Arc<Reloads>,
        discovery: &Discovery,
        breaker: &TicketBreaker,
        access_logs: &AccessLogs,
    ) -> Self {
        Self {
            workers: workers.clone(),
            revocations: stores.revocations.clone(),
            zowe: stores.zowe.clone(),
            audit: stores.audit.clone(),
            certificate: CertificateExpiry::of(config),
            is_audit_needed: Arc::new(AtomicBool::new(is_audit_needed(config))),
            reloads: reloads.clone(),
            discovery: discovery.clone(),
            cluster: stores.cluster.clone(),
            breaker: breaker.clone(),
            observed: Arc::new(Mutex::new(observed(config))),
            zaas: Arc::default(),
            access_logs: access_logs.clone(),
        }
    }

    /// Sets the address at which the listener for gateways of API ML is open. `None` if it is not open.
    pub(crate) fn set_zaas(&self, address: Option<SocketAddr>, config: &Config) {
        let gateways = config.zaas.as_ref().map_or(0, |zaas| zaas.gateways.len());
        *self.zaas() =
            address.map(|address| ZaasListener { address, gateways, is_configured: true });
    }

    fn zaas(&self) -> MutexGuard<'_, Option<ZaasListener>> {
        self.zaas.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies a new configuration: its certificates, whether the gateway needs the audit log, the services with the
    /// mode `observe`, and the gateways of API ML.
    pub(crate) fn continue_with(&self, config: &Config) {
        self.certificate.set(config);
        self.is_audit_needed.store(is_audit_needed(config), SeqCst);
        *self.observed.lock().unwrap_or_else(PoisonError::into_inner) = observed(config);
        if let Some(listener) = &mut *self.zaas() {
            listener.is_configured = config.zaas.is_some();
            if let Some(zaas) = &config.zaas {
                listener.gateways = zaas.gateways.len();
            }
        }
    }

    pub(super) fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_ref()
    }

    pub(super) fn certificate(&self) -> &CertificateExpiry {
        &self.certificate
    }

    pub(super) fn access_logs(&self) -> &AccessLogs {
        &self.access_logs
    }

    pub(super) fn breaker(&self) -> &TicketBreaker {
        &self.breaker
    }

    pub(super) fn reloads(&self) -> &Arc<Reloads> {
        &self.reloads
    }

    pub(super) fn discovery(&self) -> &Discovery {
        &self.discovery
    }

    /// Returns the name and the health of each component that the gateway needs to serve requests.
    pub(crate) fn needed(&self) -> Vec<(&'static str, Health)> {
        let needed = self.status().0.into_iter().filter(|part| part.is_needed);
        needed.map(|part| (part.component.value(), part.health)).collect()
    }

    /// Returns two values: whether every component works, and the state of the gateway as JSON. `/health` of the admin
    /// port and the page of administrators show this JSON.
    pub(crate) fn document(&self, instances: &InstanceStates) -> (bool, Value) {
        let status = self.status();
        let mut document = status.document();
        add_instances(instances, &mut document);
        if let Some(cluster) = &self.cluster {
            document["cluster"] = cluster.document();
        }
        if let Some(tickets) = stopped_tickets::document(&self.breaker) {
            document["passtickets"] = tickets;
        }
        let observed = self.observed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if !observed.is_empty() {
            document["observe"] = observed.into();
        }
        if let Some(ZaasListener { address, gateways, .. }) = *self.zaas() {
            document["zaas"] = json!({"address": address.to_string(), "gateways": gateways});
        }
        (status.is_up(), document)
    }

    pub(super) fn status(&self) -> Status {
        let mut parts = vec![
            Part::new(Component::Workers, Need::Needed, self.workers.health()),
            Part::new(Component::Revocations, Need::Needed, self.revocations.health()),
        ];
        if let Some(audit) = &self.audit {
            let is_needed = self.is_audit_needed.load(SeqCst);
            let need = if is_needed { Need::Needed } else { Need::Optional };
            parts.push(Part::new(Component::Audit, need, audit.health()));
        }
        let (health, warning) = self.certificate.health(SystemClock.now());
        let certificate = Part::new(Component::Certificate, Need::Needed, health);
        parts.push(Part { warning, ..certificate });
        // With a bad new configuration, the gateway continues with the last good one.
        let health = self.reloads.health();
        parts.push(Part::new(Component::Configuration, Need::Optional, health));
        if let Some(health) = self.discovery.health() {
            // While no discovery service answers, the gateway uses the last registrations that it received.
            parts.push(Part::new(Component::Discovery, Need::Optional, health));
        }
        if let Some(zowe) = &self.zowe {
            // Without the Caching Service, the gateway refuses Personal Access Tokens, and serves all other requests.
            parts.push(Part::new(Component::ZoweRevocations, Need::Optional, zowe.health()));
        }
        if let Some(cluster) = &self.cluster {
            parts.push(Part::new(Component::Cluster, Need::Needed, cluster.health()));
        }
        if let Some(listener) = *self.zaas() {
            // The worker threads serve this listener, too.
            let part = Part::new(Component::Zaas, Need::Needed, self.workers.health());
            let warning = (!listener.is_configured).then(|| {
                "the configuration has no listener for API ML gateways any more; it stays open until the program is \
                 restarted"
                    .to_owned()
            });
            parts.push(Part { warning, ..part });
        }
        if let Some(health) = self.access_logs.health() {
            // The gateway serves requests without the access log.
            let warning = health.reason().map(str::to_owned);
            let part = Part::new(Component::AccessLog, Need::Optional, Health::Up);
            parts.push(Part { warning, ..part });
        }
        Status(parts)
    }
}

/// Adds the unhealthy instances of services. They do not change the status, because the gateway itself works.
fn add_instances(instances: &InstanceStates, document: &mut Value) {
    let unhealthy = instances.unhealthy().into_iter();
    let unhealthy: Map<_, _> =
        unhealthy.map(|(instance, health)| (instance, health.as_str().into())).collect();
    if !unhealthy.is_empty() {
        document["instances"] = unhealthy.into();
    }
}

#[derive(Debug)]
pub(super) struct Status(Vec<Part>);

#[derive(Debug)]
pub(super) struct Part {
    pub(super) component: Component,
    /// If `true`, the gateway is ready only while the component works.
    is_needed: bool,
    pub(super) health: Health,
    /// A problem that does not stop the component yet, and its remedy.
    warning: Option<String>,
}

/// Whether the gateway is ready while a component does not work. If the component is `Needed`, the gateway is not
/// ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    Needed,
    Optional,
}

impl Part {
    fn new(component: Component, need: Need, health: Health) -> Self {
        Self { component, is_needed: need == Need::Needed, health, warning: None }
    }
}

impl Status {
    pub(super) fn parts(&self) -> &[Part] {
        &self.0
    }

    pub(super) fn is_up(&self) -> bool {
        self.0.iter().all(|part| part.health.is_up())
    }

    pub(super) fn is_ready(&self) -> bool {
        self.0.iter().all(|part| part.health.is_up() || !part.is_needed)
    }

    pub(super) fn document(&self) -> Value {
        document(self.is_up(), &self.0)
    }

    /// Returns as JSON whether the gateway is ready. If it is not ready, the JSON names the components that are the
    /// reason.
    pub(super) fn readiness(&self) -> Value {
        let missing = self.0.iter().filter(|part| part.is_needed && !part.health.is_up());
        document(self.is_ready(), missing)
    }
}

/// Returns the status and the components as JSON. If there are no components, the JSON contains only the status.
fn document<'p>(is_up: bool, parts: impl IntoIterator<Item = &'p Part>) -> Value {
    let components = parts.into_iter().map(|part| {
        let mut component = json!({"status": part.health.as_str()});
        if let Some(reason) = part.health.reason() {
            component["reason"] = reason.into();
        }
        if let Some(warning) = &part.warning {
            component["warning"] = warning.as_str().into();
        }
        (part.component.value().to_owned(), component)
    });
    let components: Map<_, _> = components.collect();
    let mut document = json!({"status": if is_up { "UP" } else { "DOWN" }});
    if !components.is_empty() {
        document["components"] = components.into();
    }
    document
}

/// Counts the worker threads that run, and records whether the gateway is stopping.
#[derive(Debug, Default)]
pub(crate) struct WorkerState {
    expected: AtomicUsize,
    running: AtomicUsize,
    is_stopping: AtomicBool,
}

impl WorkerState {
    pub(crate) fn expect(&self, threads: usize) {
        self.expected.store(threads, SeqCst);
    }

    /// Counts the calling thread as running until the returned value is dropped.
    pub(crate) fn run(self: &Arc<Self>) -> RunningWorker {
        self.running.fetch_add(1, SeqCst);
        RunningWorker(self.clone())
    }

    /// Records that the gateway is stopping: it accepts no more connections, and finishes the requests in flight.
    pub(crate) fn stop(&self) {
        self.is_stopping.store(true, SeqCst);
    }

    pub(crate) async fn all_run(&self) {
        loop {
            let expected = self.expected.load(SeqCst);
            if expected > 0 && self.running.load(SeqCst) >= expected {
                return;
            }
            sleep(CHECK_EVERY).await;
        }
    }

    pub(super) fn health(&self) -> Health {
        let (expected, running) = (self.expected.load(SeqCst), self.running.load(SeqCst));
        if self.is_stopping.load(SeqCst) {
            return Health::down("the gateway is stopping and accepts no new connections");
        }
        match expected {
            0 => Health::down("the worker threads have not started yet"),
            _ if running < expected => Health::down(format!(
                "{running} of {expected} worker threads run; the log says why the others ended"
            )),
            _ => Health::Up,
        }
    }
}

#[derive(Debug)]
pub(crate) struct RunningWorker(Arc<WorkerState>);

impl Drop for RunningWorker {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_is_ready_if_all_needed_components_work() {
        let up = || Health::Up;
        let down = || Health::down("why");
        let all_up = json!({"workers": {"status": "UP"}, "audit": {"status": "UP"}});
        let down_json = json!({"status": "DOWN", "reason": "why"});
        for (workers, audit, is_audit_needed, is_up, not_ready) in [
            (up(), up(), true, true, None),
            (down(), up(), false, false, Some(json!({"workers": down_json}))),
            (up(), down(), false, false, None),
            (up(), down(), true, false, Some(json!({"audit": down_json}))),
        ] {
            let case = format!("{workers:?} {audit:?} {is_audit_needed}");
            let part =
                |component, is_needed, health| Part { component, is_needed, health, warning: None };
            let status = Status(vec![
                part(Component::Workers, true, workers),
                part(Component::Audit, is_audit_needed, audit),
            ]);
            assert_eq!((status.is_up(), status.is_ready()), (is_up, not_ready.is_none()), "{case}");
            let document = status.document();
            assert_eq!(document["status"], if is_up { "UP" } else { "DOWN" }, "{case}");
            assert_eq!(document["components"] == all_up, is_up, "{case}: {document}");
            let want = match not_ready {
                None => json!({"status": "UP"}),
                Some(components) => json!({"status": "DOWN", "components": components}),
            };
            assert_eq!(status.readiness(), want, "{case}");
        }
    }

    #[test]
    fn the_workers_are_up_while_all_of_them_run() {
        let state = Arc::new(WorkerState::default());
        let reason = || state.health().reason().map(str::to_owned);
        assert!(reason().unwrap().contains("not started yet"));
        state.expect(2);
        let first = state.run();
        assert!(reason().unwrap().starts_with("1 of 2 worker threads run"));
        let second = state.run();
        assert_eq!(reason(), None);
        drop(first);
        assert!(reason().unwrap().starts_with("1 of 2 worker threads run"));
        state.stop();
        drop(second);
        assert!(reason().unwrap().contains("is stopping"));
    }
}
