//! Reports whether the certificate of the gateway is valid.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use passticket_proxy::config::{Config, Encryption};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tower_passticket::{clock::Timestamp, health::Health, identity::PeerCertificate};

const DAY: u64 = 24 * 60 * 60;

/// The health has a warning if the certificate expires in less than this time.
const SOON: Duration = Duration::from_secs(30 * DAY);

/// The expiry time of the certificate of the gateway. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct CertificateExpiry(Arc<AtomicU64>);

impl CertificateExpiry {
    pub(super) fn of(config: &Config) -> Self {
        Self(Arc::new(AtomicU64::new(expiry(config).as_millis())))
    }

    /// Takes the expiry time from the certificate in a new configuration.
    pub(super) fn set(&self, config: &Config) {
        self.0.store(expiry(config).as_millis(), Relaxed);
    }

    /// Returns the health at `now`, and a warning if the certificate expires soon.
    pub(super) fn health(&self, now: Timestamp) -> (Health, Option<String>) {
        health(Timestamp::from_millis(self.0.load(Relaxed)), now)
    }
}

/// Returns when the certificate expires. Returns the latest time if AT-TLS has the certificate, or if the certificate
/// cannot be parsed.
fn expiry(config: &Config) -> Timestamp {
    let never = Timestamp::from_millis(u64::MAX);
    if config.encryption == Encryption::AtTls {
        return never;
    }
    let certificate = CertificateDer::pem_slice_iter(&config.tls.certificate).flatten().next();
    let certificate = certificate.and_then(|der| PeerCertificate::from_der(&*der).ok());
    certificate.map_or(never, |certificate| certificate.not_after())
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
        format!("the certificate of the gateway expires in {days} {unit}; replace it before")
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
