//! Warns about certificates that expire soon, have expired, or are not yet valid.

use std::time::Duration;

use rustls::pki_types::{CertificateDer, pem::PemObject};
use tower_passticket::{clock::Timestamp, identity::PeerCertificate};
use x509_cert::{Certificate, der::Decode, time::Time};

use super::{problem::quote, reader::At};

/// A certificate causes a warning if it expires in less than this time.
const SOON: Duration = Duration::from_secs(30 * DAY);

const DAY: u64 = 24 * 60 * 60;

/// Warns about each certificate in `pem` that is not valid at the time `now` or expires soon. `at` is the setting that
/// names their file.
pub(super) fn check(at: &At<'_>, pem: &[u8], now: Timestamp) {
    for der in CertificateDer::pem_slice_iter(pem).flatten() {
        // A certificate that cannot be parsed is reported when TLS is set up.
        let (Ok(names), Ok(certificate)) =
            (PeerCertificate::from_der(&*der), Certificate::from_der(&der))
        else {
            continue;
        };
        let validity = certificate.tbs_certificate().validity();
        if let Some(problem) = problem(validity.not_before, validity.not_after, now) {
            at.warning(format_args!(
                "has the certificate {}, which {problem}",
                quote(names.subject())
            ));
        }
    }
}

fn problem(not_before: Time, not_after: Time, now: Timestamp) -> Option<String> {
    let now = Duration::from_secs(now.as_secs());
    let (begin, end) = (not_before.to_unix_duration(), not_after.to_unix_duration());
    if now < begin {
        return Some(format!(
            "is not valid before {not_before}; check the clock of this machine, or use another certificate"
        ));
    }
    let Some(left) = end.checked_sub(now) else {
        return Some(format!("has expired at {not_after}; replace it"));
    };
    let days = left.as_secs() / DAY;
    let unit = if days == 1 { "day" } else { "days" };
    (left < SOON)
        .then(|| format!("expires at {not_after}, in {days} {unit}; replace it before then"))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};
    use test_support::pki;

    use super::*;
    use crate::config::{problem::Report, reader::Document};

    #[test]
    fn certificates_that_expire_within_30_days_or_are_not_yet_valid_cause_a_warning() {
        let key = KeyPair::from_pem(pki::SIGNING_KEY).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "gateway");
        (params.not_before, params.not_after) =
            (date_time_ymd(2026, 3, 1), date_time_ymd(2026, 6, 1));
        let pem = params.self_signed(&key).unwrap().pem();
        let end = 1_780_272_000;
        let name = "z:1: a: has the certificate \"CN=gateway\", which";
        for (now, want) in [
            (end + 1, Some("has expired at 2026-06-01T00:00:00Z; replace it")),
            (end, Some("expires at 2026-06-01T00:00:00Z, in 0 days; replace it before then")),
            (end - DAY, Some("expires at 2026-06-01T00:00:00Z, in 1 day; replace it before then")),
            (
                end - 30 * DAY + 1,
                Some("expires at 2026-06-01T00:00:00Z, in 29 days; replace it before then"),
            ),
            (end - 30 * DAY, None),
            (end - 92 * DAY, None),
            (
                end - 92 * DAY - 1,
                Some(
                    "is not valid before 2026-03-01T00:00:00Z; check the clock of this machine, or use another \
                     certificate",
                ),
            ),
        ] {
            let report = Report::default();
            let document = Document::parse("z".into(), b"a: b", &report);
            let field = document.section(&report).optional("a").unwrap();
            check(&field.at, format!("{pem}{pem}").as_bytes(), Timestamp::from_secs(now));
            check(&field.at, b"no certificate", Timestamp::from_secs(now));
            let ((), warnings) = report.finish(Some(())).unwrap();
            let warnings: Vec<_> = warnings.iter().map(ToString::to_string).collect();
            let want: Vec<_> = want.iter().map(|want| format!("{name} {want}")).collect();
            assert_eq!(warnings, want, "{now}");
        }
    }
}
