//! Warns about properties of the configured authorities that TLS does not enforce.
//!
//! A configured authority is a trust anchor (RFC 5280 §6.1.1). Of its certificate, TLS uses only the name, the
//! key and the name constraints. So an operator may expect a restriction that does not exist.

use rustls::pki_types::{CertificateDer, pem::PemObject};
use tower_passticket::identity::PeerCertificate;
use x509_cert::{
    Certificate,
    der::{Decode, oid::AssociatedOid},
    ext::pkix::BasicConstraints,
};

use super::{problem::quote, reader::At};

/// Warns about the authorities in `pem`, whose certificates clients may have.
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
            "has the intermediate certificate {subject} of the authority {issuer}. TLS trusts it like a \
             root: it does not check whether it has expired or is revoked, and what {issuer} forbids \
             has no effect. If that is not intended, name the root instead"
        ));
    }
    if let Some(length) = path_length(certificate) {
        at.warning(format_args!(
            "has the authority {subject}, whose certificate permits {length} authorities below it. TLS \
             does not enforce this for an authority that is named here, so certificates of further \
             authorities below it are accepted. If such authorities exist, map certificates by a file \
             with their issuers (passticketProxy.certificateMapping: file)"
        ));
    }
}

/// The constraint of the path length (RFC 5280 §4.2.1.9), if the certificate has one.
fn path_length(certificate: &Certificate) -> Option<u8> {
    let extensions = certificate.tbs_certificate().extensions()?;
    let constraints = extensions.iter().find(|it| it.extn_id == BasicConstraints::OID)?;
    BasicConstraints::from_der(constraints.extn_value.as_bytes()).ok()?.path_len_constraint
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
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
            "z:1: a: has the intermediate certificate \"CN=Sub\" of the authority \"CN=Root\". TLS",
            "z:1: a: has the authority \"CN=Short\", whose certificate permits 0 authorities below it.",
        ];
        assert_eq!(found.len(), 2, "{found:?}");
        for (warning, start) in found.iter().zip(starts) {
            assert!(warning.starts_with(start), "{warning}");
        }
    }
}
