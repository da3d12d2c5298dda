//! The counters and histograms of routed requests.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::labels::Ending;
use crate::{
    audit::CredentialKind,
    metrics::{Collect, Description, Exposition, Histogram, LabelName},
    token::ServiceId,
};

const REQUESTS: Description = Description::counter(
    "passticket_requests_total",
    "Routed requests, by service, kind of credential, outcome and reason.",
);
const GATEWAY: Description = Description::histogram(
    "passticket_gateway_duration_seconds",
    "Time from the head of a routed request until it is handed to the service, or until the gateway itself answers.",
);
const SERVICES: Description = Description::histogram(
    "passticket_service_duration_seconds",
    "Time from the hand-over of a request to the service until the head of the response.",
);
const SERVICE: LabelName = LabelName::new("service");
const CREDENTIAL: LabelName = LabelName::new("credential");
const OUTCOME: LabelName = LabelName::new("outcome");
const REASON: LabelName = LabelName::new("reason");

/// A service with this id shares its time series with the services beyond the limit. Otherwise, the text for Prometheus
/// would have two time series with the same labels.
const OTHER: &str = "other";

const fn micros(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const GATEWAY_LIMITS: &[Duration] = &[
    micros(50),
    micros(100),
    micros(250),
    micros(500),
    millis(1),
    micros(2500),
    millis(5),
    millis(10),
    millis(50),
    millis(100),
    millis(500),
    millis(1000),
    millis(5000),
];

const SERVICE_LIMITS: &[Duration] = &[
    millis(1),
    micros(2500),
    millis(5),
    millis(10),
    millis(25),
    millis(50),
    millis(100),
    millis(250),
    millis(500),
    millis(1000),
    millis(2500),
    millis(5000),
    millis(10_000),
    millis(30_000),
    millis(60_000),
];

/// Counts and times routed requests. See the [module](super).
pub struct RequestMetrics {
    services: RwLock<BTreeMap<ServiceId, Arc<ServiceSeries>>>,
    without_route: Arc<ServiceSeries>,
    other: Arc<ServiceSeries>,
    /// The number of time series of `passticket_requests_total`, without the service `other`.
    series: AtomicUsize,
    gateway: Histogram,
    now: fn() -> Instant,
}

impl RequestMetrics {
    /// The maximum number of services with time series of their own.
    pub const MAX_SERVICES: usize = 200;

    /// The maximum number of time series of `passticket_requests_total`, without the service `other`.
    pub const MAX_SERIES: usize = 5000;

    pub(super) fn with_clock(now: fn() -> Instant) -> Self {
        Self {
            services: RwLock::default(),
            without_route: Arc::default(),
            other: Arc::default(),
            series: AtomicUsize::new(0),
            gateway: Histogram::new(GATEWAY_LIMITS),
            now,
        }
    }

    pub(super) fn now(&self) -> Instant {
        (self.now)()
    }

    pub(super) fn without_route(&self) -> &Arc<ServiceSeries> {
        &self.without_route
    }

    /// Returns the series of a service. Beyond [`MAX_SERVICES`](Self::MAX_SERVICES), a new service gets the series
    /// `other`.
    #[cold]
    pub(super) fn of_service(&self, service: &ServiceId) -> Arc<ServiceSeries> {
        if service.as_str() == OTHER {
            return self.other.clone();
        }
        let services = self.services.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = services.get(service) {
            return series.clone();
        }
        drop(services);
        let mut services = self.services.write().unwrap_or_else(PoisonError::into_inner);
        if services.len() >= Self::MAX_SERVICES && !services.contains_key(service) {
            return self.other.clone();
        }
        services.entry(service.clone()).or_default().clone()
    }

    pub(super) fn add_gateway_time(&self, time: Duration) {
        self.gateway.observe(time);
    }

    pub(super) fn count(&self, series: &ServiceSeries, credential: CredentialKind, ending: Ending) {
        let at = at(credential, ending);
        let requests = &series.requests[at];
        let is_known = requests.load(Relaxed) > 0 || self.may_begin(series);
        let requests = if is_known { requests } else { &self.other.requests[at] };
        requests.fetch_add(1, Relaxed);
    }

    /// Returns whether a new time series may begin, and counts it. Two threads that begin the same time series at the
    /// same moment count it twice. This does no harm.
    #[cold]
    fn may_begin(&self, series: &ServiceSeries) -> bool {
        let is_other = std::ptr::eq(series, &*self.other);
        let next = |used| (used < Self::MAX_SERIES).then_some(used + 1);
        is_other || self.series.fetch_update(Relaxed, Relaxed, next).is_ok()
    }
}

/// Returns an index into [`ServiceSeries::requests`].
const fn at(credential: CredentialKind, ending: Ending) -> usize {
    credential as usize * Ending::COUNT + ending.index()
}

impl Default for RequestMetrics {
    fn default() -> Self {
        Self::with_clock(Instant::now)
    }
}

impl fmt::Debug for RequestMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestMetrics").field("series", &self.series).finish_non_exhaustive()
    }
}

pub(super) struct ServiceSeries {
    requests: Box<[AtomicU64]>,
    duration: Histogram,
}

impl ServiceSeries {
    pub(super) fn add_time(&self, time: Duration) {
        self.duration.observe(time);
    }

    fn samples<'s>(
        &'s self,
        service: &'s str,
    ) -> impl Iterator<Item = ([(LabelName, &'s str); 4], u64)> {
        let kinds = CredentialKind::ALL.iter().copied();
        let endings = kinds.flat_map(|kind| Ending::all().map(move |ending| (kind, ending)));
        endings.filter_map(move |(credential, ending)| {
            let count = self.requests[at(credential, ending)].load(Relaxed);
            let labels = [
                (SERVICE, service),
                (CREDENTIAL, credential.as_str()),
                (OUTCOME, ending.outcome().as_str()),
                (REASON, ending.reason()),
            ];
            (count > 0).then_some((labels, count))
        })
    }
}

impl Default for ServiceSeries {
    fn default() -> Self {
        let counters = CredentialKind::ALL.len() * Ending::COUNT;
        let requests = (0..counters).map(|_| AtomicU64::new(0)).collect();
        Self { requests, duration: Histogram::new(SERVICE_LIMITS) }
    }
}

impl Collect for RequestMetrics {
    fn collect(&self, exposition: &mut Exposition) {
        let services: Vec<_> = {
            let services = self.services.read().unwrap_or_else(PoisonError::into_inner);
            services.iter().map(|(service, series)| (service.clone(), series.clone())).collect()
        };
        let named = services.iter().map(|(service, series)| (service.as_str(), &**series));
        let all = [("", &*self.without_route)].into_iter().chain(named);
        let all = || all.clone().chain([(OTHER, &*self.other)]);
        exposition.series(&REQUESTS, all().flat_map(|(service, series)| series.samples(service)));
        exposition.histogram(&GATEWAY, &self.gateway);
        let used = all().filter(|(_, series)| series.duration.count() > 0);
        exposition.histograms(
            &SERVICES,
            used.map(|(service, series)| ([(SERVICE, service)], &series.duration)),
        );
    }
}
