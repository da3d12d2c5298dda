//! Reports whether the certificate of the gateway has expired, and when the certificates in the configuration expire.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use passticket_proxy::config::{Config, Encryption};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tower_passticket::{
    clock::Timestamp,
    health::Health,
    identity::PeerCertificate,
    metrics::{Collect, Description, Exposition, LabelName},
};

const DAY: u64 = 24 * 60 * 60;

/// The health has a warning if the certificate expires in less than this time.
const SOON: Duration = Duration::from_secs(30 * DAY);

const EXPIRY: Description = Description::gauge(
    "passticket_certificate_expiry_timestamp_seconds",
    "Time when the certificate expires, in seconds since 1970-01-01 UTC. For authorities, when the first one expires.",
);
const CERTIFICATE: LabelName = LabelName::new("certificate");

/// The expiry times of the certificates in the configuration. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct CertificateExpiry(Arc<Expiries>);

#[derive(Debug)]
struct Expiries {
    /// The expiry time of the certificate of the gateway, in milliseconds since 1970.
    gateway: AtomicU64,
    /// The expiry times of all certificates, each with the value of its metric label. A scrape of the metrics and a
    /// reload lock them.
    all: Mutex<Vec<(String, Timestamp)>>,
}

impl CertificateExpiry {
    pub(super) fn of(config: &Config) -> Self {
        let gateway = AtomicU64::new(expiry(config).as_millis());
        Self(Arc::new(Expiries { gateway, all: Mutex::new(all(config)) }))
    }

    /// Takes the expiry times from the certificates in a new configuration.
    pub(super) fn set(&self, config: &Config) {
        self.0.gateway.store(expiry(config).as_millis(), Relaxed);
        *self.0.all.lock().unwrap_or_else(PoisonError::into_inner) = all(config);
    }

    /// Returns the health at `now`, and a warning if the certificate expires soon.
    pub(super) fn health(&self, now: Timestamp) -> (Health, Option<String>) {
        health(Timestamp::from_millis(self.0.gateway.load(Relaxed)), now)
    }
}

/// Returns when the certificate of the gateway expires. If AT-TLS is on, z/OS has the certificate, and the gateway does
/// not know it. In this case, or if the certificate cannot be parsed, returns the latest possible time.
fn expiry(config: &Config) -> Timestamp {
    let never = Timestamp::from_millis(u64::MAX);
    if config.encryption == Encryption::AtTls {
        return never;
    }
    let certificate = CertificateDer::pem_slice_iter(&config.tls.certificate).flatten().next();
    let certificate = certificate.and_then(|der| PeerCertificate::from_der(&*der).ok());
    certificate.map_or(never, |certificate| certificate.not_after())
}

/// Returns the expiry time of each certificate in the configuration, with the value of its metric label. A set of
/// authorities has only one entry, with the earliest expiry of its certificates. A certificate that cannot be parsed is
/// left out.
fn all(config: &Config) -> Vec<(String, Timestamp)> {
    let first = |pem: &[u8]| not_after(pem).next();
    let earliest = |pem: &[u8]| not_after(pem).min_by_key(|time| time.as_millis());
    let identities = &config.client_identities;
    let gateway = (config.encryption != Encryption::AtTls).then(|| first(&config.tls.certificate));
    let mut all = vec![
        ("gateway".to_owned(), gateway.flatten()),
        (
            "client".to_owned(),
            identities.default.as_ref().and_then(|identity| first(&identity.certificate)),
        ),
        ("client-authorities".to_owned(), earliest(&config.tls.authorities)),
        ("service-authorities".to_owned(), earliest(&config.tls.service_authorities)),
    ];
    for (service, identity) in &identities.services {
        all.push((format!("client:{service}"), first(&identity.certificate)));
    }
    all.into_iter().filter_map(|(name, expiry)| Some((name, expiry?))).collect()
}

fn not_after(pem: &[u8]) -> impl Iterator<Item = Timestamp> {
    let certificates = CertificateDer::pem_slice_iter(pem).flatten();
    certificates.filter_map(|der| Some(PeerCertificate::from_der(&*der).ok()?.not_after()))
}

impl Collect for CertificateExpiry {
    fn collect(&self, exposition: &mut Exposition) {
        let all = self.0.all.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let samples =
            all.iter().map(|(name, time)| ([(CERTIFICATE, name.as_str())], time.as_secs()));
        exposition.series(&EXPIRY, samples);
    }
}

fn health(expiry: Timestamp, now: Timestamp) -> (Health, Option<String>) {
    let Some(left) = expiry.as_secs().checked_sub(now.as_secs()).filter(|left| *left > 0) else {
        let reason = "the certificate of the gateway has expired, so clients refuse the connection; replace it \
                      (zowe.certificate)";
        return (Health::down(reason), None);
    };
    let days = left / DAY;
    let warning = (left < SOON.as_secs()).then(|| {
        let unit = if days == 1 { "day" } else { "days" };
        format!("the certificate of the gateway expires in {days} {unit}; replace it before then")
    });
    (Health::Up, warning)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expired_certificate_is_down_and_one_that_expires_soon_is_a_warning() {
        let now = 1_800_000_000;
        for (expiry, is_up, warning) in [
            (u64::MAX / 1000, true, None),
            (now + 30 * DAY, true, None),
            (now + 30 * DAY - 1, true, Some("in 29 days")),
            (now + DAY, true, Some("in 1 day;")),
            (now + 1, true, Some("in 0 days")),
            (now, false, None),
            (0, false, None),
        ] {
            let (health, text) = health(Timestamp::from_secs(expiry), Timestamp::from_secs(now));
            assert_eq!(health.is_up(), is_up, "{expiry}");
            assert_eq!(text.is_some(), warning.is_some(), "{expiry} {text:?}");
            assert!(text.unwrap_or_default().contains(warning.unwrap_or_default()), "{expiry}");
        }
    }
}
