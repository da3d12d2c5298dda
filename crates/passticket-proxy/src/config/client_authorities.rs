//! Warns about restrictions in the certificates of the configured certificate authorities (CAs) that TLS does not
//! enforce.
//!
//! A configured CA is a trust anchor (RFC 5280 §6.1.1). TLS uses only the name, the key and the name constraints of
//! the anchor's certificate. If this certificate has other restrictions, an operator may expect TLS to enforce them.

use rustls::pki_types::{CertificateDer, pem::PemObject};
use tower_passticket::identity::PeerCertificate;
use x509_cert::{
    Certificate,
    der::{Decode, oid::AssociatedOid},
    ext::pkix::BasicConstraints,
};

use super::{problem::quote, reader::At};

/// Warns about the CAs in `pem`. The listener accepts client certificates of these CAs.
pub(super) fn check(at: &At<'_>, pem: &[u8]) {
    for der in CertificateDer::pem_slice_iter(pem).flatten() {
        // A certificate that cannot be parsed is reported when the listener is built.
        if let (Ok(names), Ok(certificate)) =
            (PeerCertificate::from_der(&*der), Certificate::from_der(&der))
        {
            check_authority(at, &names, &certificate);
        }
    }
}

fn check_authority(at: &At<'_>, names: &PeerCertificate, certificate: &Certificate) {
    let (subject, issuer) = (quote(names.subject()), quote(names.issuer()));
    if names.subject_name() != names.issuer_name() {
        at.warning(format_args!(
            "contains {subject}, an intermediate certificate that the CA {issuer} issued. TLS trusts \
             this certificate like a root: TLS does not check whether it has expired or is revoked, and \
             restrictions by {issuer} have no effect. If that is not intended, list the root instead"
        ));
    }
    if let Some(length) = path_length(certificate) {
        at.warning(format_args!(
            "contains the CA {subject}, whose certificate permits {length} levels of CAs below \
             it. TLS does not enforce this limit for a CA that is listed here, so TLS also accepts \
             certificates from deeper levels. If CAs on such levels exist, map certificates by a file \
             with their issuers (components.passticket-proxy.certificateMapping: file)"
        ));
    }
}

/// Returns the path length constraint (RFC 5280 §4.2.1.9), if the certificate has one.
fn path_length(certificate: &Certificate) -> Option<u8> {
    let extensions = certificate.tbs_certificate().extensions()?;
    let constraints = extensions.iter().find(|it| it.extn_id == BasicConstraints::OID)?;
    BasicConstraints::from_der(constraints.extn_value.as_bytes()).ok()?.path_len_constraint
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    use rustls::{
        RootCertStore, crypto::aws_lc_rs, pki_types::UnixTime, server::WebPkiClientVerifier,
    };
    use test_support::pki;

    use super::*;
    use crate::config::{problem::Report, reader::Document};

    fn authority(name: &str, constraints: BasicConstraints) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(constraints);
        params
    }

    fn warnings(pem: &str) -> Vec<String> {
        let report = Report::default();
        let document = Document::parse("z".into(), b"a: b", &report);
        let field = document.section(&report).optional("a").unwrap();
        check(&field.at, pem.as_bytes());
        let ((), warnings) = report.finish(Some(())).unwrap();
        warnings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn intermediates_and_path_lengths_of_authorities_are_reported() {
        let key = KeyPair::from_pem(pki::SIGNING_KEY).unwrap();
        let root = authority("Root", BasicConstraints::Unconstrained);
        let root_pem = root.self_signed(&key).unwrap().pem();
        let issuer = Issuer::from_params(&root, &key);
        let intermediate = authority("Sub", BasicConstraints::Unconstrained);
        let intermediate = intermediate.signed_by(&key, &issuer).unwrap().pem();
        let limited = authority("Short", BasicConstraints::Constrained(0));
        let limited = limited.self_signed(&key).unwrap().pem();
        assert_eq!(warnings(&root_pem), [""; 0]);
        assert_eq!(warnings("no certificate"), [""; 0]);
        let found = warnings(&format!("{root_pem}\n{intermediate}\n{limited}"));
        let starts = [
            "z:1: a: contains \"CN=Sub\", an intermediate certificate that the CA \"CN=Root\" issued.",
            "z:1: a: contains the CA \"CN=Short\", whose certificate permits 0 levels of CAs",
        ];
        assert_eq!(found.len(), 2, "{found:?}");
        for (warning, start) in found.iter().zip(starts) {
            assert!(warning.starts_with(start), "{warning}");
        }
    }

    /// If this test fails, a new version of rustls enforces more restrictions, and the warnings must be changed.
    #[test]
    fn tls_does_not_enforce_the_restrictions_in_the_warnings() {
        let key = KeyPair::from_pem(pki::SIGNING_KEY).unwrap();
        let named = |name| authority(name, BasicConstraints::Unconstrained);
        let short = authority("Short", BasicConstraints::Constrained(0));
        let mut middle = named("Middle");
        middle.not_after = rcgen::date_time_ymd(2001, 1, 1);
        let signed = |params: &CertificateParams, issuer: &CertificateParams| {
            let issuer = Issuer::from_params(issuer, &key);
            params.signed_by(&key, &issuer).unwrap().der().clone()
        };
        let below = signed(&named("Below"), &short);
        let accepts = |anchor: CertificateDer<'static>, chain: &[CertificateDer<'static>]| {
            let mut roots = RootCertStore::empty();
            roots.add(anchor).unwrap();
            let provider = Arc::new(aws_lc_rs::default_provider());
            let verifier =
                WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build();
            let now = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
            verifier.unwrap().verify_client_cert(&chain[0], &chain[1..], now).is_ok()
        };
        let client = CertificateParams::default();
        let anchor = short.self_signed(&key).unwrap().der().clone();
        assert!(accepts(anchor, &[signed(&client, &named("Below")), below]));
        // rustls accepts an expired certificate as a trust anchor.
        let anchor = signed(&middle, &named("Root"));
        assert!(accepts(anchor.clone(), &[signed(&client, &middle)]));
        // rustls refuses the same expired certificate if it is only a part of the chain.
        let root = named("Root").self_signed(&key).unwrap().der().clone();
        assert!(!accepts(root, &[signed(&client, &middle), anchor]));
    }
}
