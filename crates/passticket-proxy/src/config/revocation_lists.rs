//! Reads `components.passticket-proxy.crls`: the certificate revocation lists (CRLs, RFC 5280 §5) for client
//! certificates. A certificate authority (CA) issues each list.

use std::{path::Path, sync::Arc};

use rustls::{
    RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, CertificateRevocationListDer, pem::PemObject},
    server::{VerifierBuilderError, WebPkiClientVerifier},
};
use tower_passticket::clock::Timestamp;
use x509_cert::{
    Certificate,
    crl::CertificateList,
    der::{Decode, Encode},
    name::Name,
};

use super::{
    pem::{self, Wanted},
    pem_text,
    problem::quote,
    reader::{At, Field},
};

/// Reads the files, each in PEM or DER, and returns the lists as one PEM text. `authorities` is the PEM text with the
/// CAs of clients. If there is an error, reports it and returns `None`.
pub(super) fn read(field: &Field<'_>, authorities: &[u8], now: Timestamp) -> Option<Vec<u8>> {
    let roots = certificates(authorities);
    // All files are read before the function returns, so that the errors of all files are reported.
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(roots.iter().cloned());
    let store = Arc::new(store);
    let files: Vec<_> =
        field.one_or_more().iter().map(|item| read_file(item, &store, now)).collect();
    let lists: Vec<_> =
        files.into_iter().collect::<Option<Vec<_>>>()?.into_iter().flatten().collect();
    if lists.is_empty() {
        field.at.error("names no file; add the paths of files with certificate revocation lists");
        return None;
    }
    warn_about_missing_lists(&field.at, &roots, &lists);
    Some(lists.iter().flat_map(|list| pem_text::revocation_list(&list.der)).collect())
}

struct List {
    der: CertificateRevocationListDer<'static>,
    issuer: Name,
}

fn read_file(field: &Field<'_>, store: &Arc<RootCertStore>, now: Timestamp) -> Option<Vec<List>> {
    let (path, content) = field.authorization_file()?;
    let ders = if CertificateList::<x509_cert::certificate::Rfc5280>::from_der(&content).is_ok() {
        vec![CertificateRevocationListDer::from(content.clone())]
    } else {
        let ders = CertificateRevocationListDer::pem_slice_iter(&content);
        ders.collect::<Result<_, _>>().unwrap_or_default()
    };
    let lists: Option<Vec<_>> = ders.into_iter().map(|der| parse(der, store)).collect();
    let Some(lists) = lists.filter(|lists| !lists.is_empty()) else {
        let text = pem::explain(&content, &path, Wanted::RevocationLists).unwrap_or_else(|| {
            "has no certificate revocation list that TLS supports; name a file with lists of version 2, in PEM \
             (-----BEGIN X509 CRL-----) or DER"
                .to_owned()
        });
        field.at.error(format_args!("{} {text}", path.display()));
        return None;
    };
    for (list, parsed) in &lists {
        warn_about_expiry(&field.at, &path, list, parsed, now);
    }
    Some(lists.into_iter().map(|(list, _)| list).collect())
}

/// Parses a list. Returns `None` if the list is malformed, or if the TLS library does not support it.
fn parse(
    der: CertificateRevocationListDer<'static>,
    store: &Arc<RootCertStore>,
) -> Option<(List, CertificateList)> {
    let parsed = CertificateList::from_der(&der).ok()?;
    // rustls checks a list only when it builds a verifier. So this function builds a verifier, and drops it.
    let provider = Arc::new(aws_lc_rs::default_provider());
    let built = WebPkiClientVerifier::builder_with_provider(store.clone(), provider)
        .with_crls([der.clone()])
        .build();
    if matches!(built, Err(VerifierBuilderError::InvalidCrl(_))) {
        return None;
    }
    let issuer = parsed.tbs_cert_list.issuer.clone();
    Some((List { der, issuer }, parsed))
}

fn warn_about_expiry(
    at: &At<'_>,
    path: &Path,
    list: &List,
    parsed: &CertificateList,
    now: Timestamp,
) {
    let Some(next) = parsed.tbs_cert_list.next_update else { return };
    if next.to_unix_duration().as_secs() <= now.as_secs() {
        at.warning(format_args!(
            "{} contains a list of the CA {}, which expired at {next}; the gateway refuses client certificates of this CA; \
             replace the file with a current list",
            path.display(),
            quote(&list.issuer.to_string())
        ));
    }
}

/// Warns about each CA without a list, because the gateway refuses client certificates of this CA.
fn warn_about_missing_lists(at: &At<'_>, roots: &[CertificateDer<'_>], lists: &[List]) {
    let issuers: Vec<_> = lists.iter().filter_map(|list| list.issuer.to_der().ok()).collect();
    for root in roots {
        let Ok(root) = Certificate::from_der(root) else { continue };
        let subject = root.tbs_certificate().subject();
        if subject.to_der().is_ok_and(|name| !issuers.contains(&name)) {
            at.warning(format_args!(
                "names no file with a list of the CA {}, so the gateway refuses client certificates of this CA; add the \
                 path of a file with its list",
                quote(&subject.to_string())
            ));
        }
    }
}

fn certificates(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem).flatten().collect()
}
