//! Reads certificates, private keys and certificate revocation lists from PEM documents.

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem::PemObject},
};

/// Returns the certificates of a document as trust anchors. Returns `None` if the document contains no certificate, or
/// a malformed one.
pub(super) fn roots(pem: &[u8]) -> Option<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).ok()?;
    }
    Some(roots)
}

/// Returns the private key of a document. Returns `None` if the document has no key, or one that cannot be read.
pub(super) fn private_key(pem: &[u8]) -> Option<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(pem).ok()
}

/// Returns all certificates of a document. Returns `None` if the document has no certificate or a malformed one.
pub(super) fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().ok()?;
    (!all.is_empty()).then_some(all)
}

/// Returns all certificate revocation lists of a document. Returns `None` if the document has no list or a malformed
/// one.
pub(super) fn revocation_lists(pem: &[u8]) -> Option<Vec<CertificateRevocationListDer<'static>>> {
    let lists = CertificateRevocationListDer::pem_slice_iter(pem);
    let all: Vec<_> = lists.collect::<Result<_, _>>().ok()?;
    (!all.is_empty()).then_some(all)
}
