//! Finds services in Eureka, the registry of Zowe's API Mediation Layer (docs/decisions.md#d35).

mod found;
mod handed_over;
mod missing;
mod status;
#[cfg(test)]
mod test_settings;
mod trust;
mod updater;

use std::{
    collections::BTreeSet,
    fmt,
    hash::{BuildHasher, Hasher, RandomState},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use passticket_proxy::config::{ClientIdentity, Config, DiscoverySettings};
use serde_json::Value;
use tower_passticket::{
    audit::{Audit, AuditRecord, Detail, Event, ReasonCode},
    eureka::{EurekaClient, Registry},
    health::Health,
    remote::Address,
    tls::{Connector, TlsError, TlsPolicy, Verification},
    token::ServiceId,
};

use crate::part::{Part, Task};
use handed_over::HandedOver;
use missing::Missing;
use status::DiscoveryStatus;

pub(crate) use updater::{RouteUpdater, listed_authentication};

/// After a failed fetch, the gateway waits for about this time. If the interval between two fetches is shorter, the
/// gateway waits for about the interval.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The maximum number of refused instances that one fetch logs and audits.
const MAX_REPORTED: usize = 20;

/// The registry that was fetched last, and the parts that the gateway updates when this registry changes. Clones share
/// one state. The state can outlive a configuration: a new [`RouteUpdater`] begins with the last registry.
#[derive(Clone, Default)]
pub(crate) struct Discovery(Arc<Inner>);

#[derive(Default)]
struct Inner {
    status: DiscoveryStatus,
    applying: Mutex<Applying>,
}

#[derive(Default)]
struct Applying {
    registry: Arc<Registry>,
    updater: Option<(RouteUpdater, Audit)>,
    /// The registry that the old process handed over at a takeover. [`Discovery::attach`] takes it.
    handed_over: Option<HandedOver>,
    /// The registry of the old process, until the first successful fetch. If this fetch lacks an instance of this
    /// registry, the instance is kept for a while.
    continued: Option<Arc<Registry>>,
}

impl Discovery {
    /// Makes `updater` replace the routes from now on. The first routes come from the registry that was fetched last,
    /// or that another process has handed over. Refused instances are recorded in `audit`.
    pub(crate) fn attach(&self, updater: RouteUpdater, audit: Audit) {
        self.0.status.begin();
        let mut applying = self.applying();
        if let Some(handed_over) = applying.handed_over.take()
            && handed_over.is_from(updater.eureka())
        {
            applying.registry = Arc::new(handed_over.registry);
            applying.continued = Some(applying.registry.clone());
        }
        // The old updater is dropped after the health checks of the new one have begun, so a failed instance stays
        // failed.
        let _previous = applying.updater.replace((updater, audit));
        self.apply(&mut applying);
    }

    /// Returns the last registry for another process. `None` if discovery is off, or if the registry is too large.
    pub(crate) fn hand_over(&self) -> Option<Value> {
        let applying = self.applying();
        let (updater, _) = applying.updater.as_ref()?;
        let handed_over = HandedOver::new(updater.eureka(), (*applying.registry).clone());
        drop(applying);
        let document = handed_over.to_json();
        if document.is_none() {
            tracing::warn!(
                "the registry of services is too large to be handed over; the new process fetches it"
            );
        }
        document
    }

    /// Begins with the registry that another process has [handed over](Self::hand_over). Call this before
    /// [`attach`](Self::attach).
    pub(crate) fn continue_from(&self, document: &Value) {
        let handed_over = HandedOver::from_json(document);
        if handed_over.is_none() {
            tracing::warn!(
                "the registry of services from the old process cannot be read; this process fetches it"
            );
        }
        self.applying().handed_over = handed_over;
    }

    /// Records that the configuration has no discovery.
    pub(crate) fn detach(&self) {
        *self.applying() = Applying::default();
        self.0.status.end();
    }

    /// Returns whether the registry is current. `None` if discovery is off.
    pub(crate) fn health(&self) -> Option<Health> {
        self.0.status.health()
    }

    fn status(&self) -> &DiscoveryStatus {
        &self.0.status
    }

    fn applying(&self) -> std::sync::MutexGuard<'_, Applying> {
        self.0.applying.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches the registry regularly, until the task is aborted.
    pub(crate) async fn run(self, settings: DiscoverySettings, connector: Connector) {
        let first = usize::try_from(random() % 1024).unwrap_or_default();
        let mut missing = Missing::default();
        let mut client = EurekaClient::new(connector, settings.eureka).with_first_host(first);
        loop {
            let before = client.registry().clone();
            let wait = match client.fetch().await {
                Ok(fetched) => {
                    for error in &fetched.failed {
                        tracing::debug!(%error, "discovery service not used");
                    }
                    if self.status().fetched(fetched.fetch) {
                        let address = &fetched.address;
                        tracing::info!(%address, "registry of services fetched");
                    }
                    let now = client.registry();
                    let continued = self.applying().continued.take();
                    let before = continued.unwrap_or(before);
                    let registry = missing.keep(&before, now, fetched.fetch, Instant::now());
                    // A large registry must not block the runtime.
                    let discovery = self.clone();
                    let update = tokio::task::spawn_blocking(move || discovery.update(registry));
                    if let Err(error) = update.await {
                        tracing::error!(%error, "the routes of found services could not be replaced");
                    }
                    settings.interval
                }
                Err(error) => {
                    if self.status().failed(&error.to_string()) {
                        tracing::warn!(%error, "registry of services not fetched; the last registry is kept");
                    } else {
                        tracing::debug!(%error, "registry of services not fetched");
                    }
                    settings.interval.min(RETRY_AFTER)
                }
            };
            tokio::time::sleep(jittered(wait, random())).await;
        }
    }

    fn update(&self, registry: Registry) {
        let mut applying = self.applying();
        // If there is no updater, discovery was turned off in the meantime.
        if applying.updater.is_some() && *applying.registry != registry {
            applying.registry = Arc::new(registry);
            self.apply(&mut applying);
        }
    }

    /// Replaces the routes by the routes of the registry, and reports the instances that are newly refused.
    fn apply(&self, applying: &mut Applying) {
        let Applying { registry, updater: Some((updater, audit)), .. } = applying else { return };
        let applied = updater.apply(registry);
        let (services, instances) = (applied.trusted + applied.others, applied.instances);
        tracing::info!(
            services,
            instances,
            refused = applied.refused.len(),
            "routes of found services replaced"
        );
        if applied.left_out > 0 {
            tracing::warn!(
                left_out = applied.left_out,
                "services, instances or routes in the registry were left out; raise the limits in \
                 components.passticket-proxy.discovery.limits"
            );
        }
        report(&self.0.status.applied(applied), audit);
    }
}

impl fmt::Debug for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discovery").finish_non_exhaustive()
    }
}

fn report(refused: &BTreeSet<(ServiceId, String, String)>, audit: &Audit) {
    for (service, instance, why) in refused.iter().take(MAX_REPORTED) {
        tracing::warn!(%service, ?instance, why, "registered instance refused");
        audit.record(|| {
            let reason = ReasonCode::RegistrationRefused;
            AuditRecord::failed(Event::Registration, reason, audit.now())
                .with_service(service)
                .with_detail(Detail::Registration {
                    instance: instance.as_str().into(),
                    why: why.as_str().into(),
                })
        });
    }
    let others = refused.len().saturating_sub(MAX_REPORTED);
    if others > 0 {
        tracing::warn!(others, "more registered instances refused");
    }
}

/// Returns a random number for [`jittered`]. It need not be cryptographically secure.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Returns 90 to 110 percent of `wait`, so that several gateways do not ask at the same moment.
fn jittered(wait: Duration, random: u64) -> Duration {
    let percent = u32::try_from(90 + random % 21).unwrap_or(100);
    wait * percent / 100
}

/// The connector to Eureka, and the task that fetches the registry.
#[derive(Clone)]
pub(crate) struct Finding {
    pub(crate) connector: Connector,
    pub(crate) task: Task,
}

#[derive(Clone, PartialEq)]
pub(crate) struct FindingSettings {
    eureka: Vec<Address>,
    interval: Duration,
    identity: ClientIdentity,
    authorities: Vec<u8>,
    policy: TlsPolicy,
    timeout: Duration,
}

/// Makes the connector to Eureka, or keeps the previous one with its task if the settings have not changed. Returns
/// `None` if discovery is off.
///
/// A server that answers in place of Eureka could announce instances of its own. So the certificate of Eureka is always
/// verified, even with `verifyCertificates: DISABLED`.
pub(crate) fn finding(
    config: &Config,
    previous: Option<&Part<FindingSettings, Finding>>,
) -> Result<Option<Part<FindingSettings, Finding>>, TlsError> {
    let Some(settings) = &config.discovery else { return Ok(None) };
    let files = &config.tls;
    let own = || ClientIdentity { certificate: files.certificate.clone(), key: files.key.clone() };
    let settings = FindingSettings {
        eureka: settings.eureka.clone(),
        interval: settings.interval,
        identity: settings.client_identity.clone().unwrap_or_else(own),
        authorities: files.service_authorities.clone(),
        policy: config.client_tls.clone(),
        timeout: config.timeouts.provider,
    };
    let made = settings.clone();
    let part = Part::keep_or_make(previous, settings, |_| {
        let connector = Connector::builder()
            .with_verification(Verification::Strict)
            .with_authorities(&made.authorities)
            .with_connect_timeout(made.timeout)
            .with_policy(made.policy)
            .with_identity(&made.identity.certificate, &made.identity.key)
            .build()?;
        Ok(Finding { connector, task: Task::default() })
    });
    part.map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_jitter_is_at_most_a_tenth() {
        let wait = Duration::from_secs(30);
        for (random, want) in [(0, 27.0), (10, 30.0), (20, 33.0), (21, 27.0), (u64::MAX, 28.5)] {
            let got = jittered(wait, random).as_secs_f64();
            assert!((27.0..=33.0).contains(&got), "{random}: {got}");
            if random != u64::MAX {
                assert!((got - want).abs() < 0.01, "{random}: {got}");
            }
        }
    }
}
