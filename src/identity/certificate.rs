//! The certificate that the peer of a TLS connection has shown.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use x509_cert::{
    Certificate,
    der::{Decode, asn1::Any},
};

use super::DistinguishedName;
use crate::clock::Timestamp;

/// The verified leaf certificate of the peer, as a request extension.
///
/// Whoever puts it there vouches that the peer holds its key: the TLS acceptor does, from the
/// handshake. Parsed once per connection and cheap to clone.
#[derive(Clone)]
pub struct PeerCertificate(Arc<Parts>);

struct Parts {
    der: Bytes,
    sha256: [u8; 32],
    subject: String,
    subject_name: DistinguishedName,
    issuer: String,
    issuer_name: DistinguishedName,
    common_name: Option<String>,
    not_after: Timestamp,
}

impl PeerCertificate {
    /// Reads a DER certificate (RFC 5280 §4.1). Verifies nothing.
    ///
    /// # Errors
    /// [`CertificateError`] for what is no certificate.
    pub fn from_der(der: impl Into<Bytes>) -> Result<Self, CertificateError> {
        let der = der.into();
        let certificate =
            Certificate::from_der(&der).map_err(|e| CertificateError(e.kind().to_string()))?;
        let subject = certificate.tbs_certificate().subject();
        let common_name = subject
            .iter()
            .find(|attribute| attribute.oid.to_string() == COMMON_NAME)
            .and_then(|attribute| directory_string(&attribute.value));
        let not_after = certificate.tbs_certificate().validity().not_after.to_unix_duration();
        let not_after = Timestamp::from_secs(not_after.as_secs());
        let subject_name = DistinguishedName::from(subject);
        let issuer_name = DistinguishedName::from(certificate.tbs_certificate().issuer());
        Ok(Self(Arc::new(Parts {
            sha256: Sha256::digest(&der).into(),
            subject: subject_name.to_string(),
            subject_name,
            issuer: issuer_name.to_string(),
            issuer_name,
            common_name,
            not_after,
            der,
        })))
    }

    /// The certificate in DER.
    pub fn der(&self) -> &Bytes {
        &self.0.der
    }

    /// The SHA-256 fingerprint: over all of the DER, as `openssl x509 -fingerprint -sha256` shows it.
    pub fn sha256(&self) -> &[u8; 32] {
        &self.0.sha256
    }

    /// The last second of its validity (RFC 5280 §4.1.2.5). The handshake has compared it, but a
    /// connection, or one that resumes its session, may outlive the certificate.
    pub fn not_after(&self) -> Timestamp {
        self.0.not_after
    }

    /// The subject as RFC 4514 writes it, properly escaped. For logs: compare
    /// [`subject_name`](Self::subject_name), read names with [`common_name`](Self::common_name).
    pub fn subject(&self) -> &str {
        &self.0.subject
    }

    /// Whose certificate it is. May be empty (RFC 5280 §4.1.2.6).
    pub fn subject_name(&self) -> &DistinguishedName {
        &self.0.subject_name
    }

    /// The issuer as RFC 4514 writes it. For logs: compare [`issuer_name`](Self::issuer_name).
    pub fn issuer(&self) -> &str {
        &self.0.issuer
    }

    /// Who has signed it.
    pub fn issuer_name(&self) -> &DistinguishedName {
        &self.0.issuer_name
    }

    /// The common name of the subject: the first one in the order of the certificate, if there
    /// are several, as in the reference (zowe-endpoints §5.2).
    pub fn common_name(&self) -> Option<&str> {
        self.0.common_name.as_deref()
    }
}

impl fmt::Debug for PeerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PeerCertificate").field(&self.subject()).finish()
    }
}

/// Bytes that are no certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an X.509 certificate in DER: {0}")]
pub struct CertificateError(String);

/// id-at-commonName, RFC 5280 §A.1.
const COMMON_NAME: &str = "2.5.4.3";

/// The text types of RFC 5280 §4.1.2.4 that hold what a user id can be written in.
fn directory_string(value: &Any) -> Option<String> {
    use x509_cert::der::{Tag, Tagged};
    match value.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String => {
            str::from_utf8(value.value()).ok().map(str::to_owned)
        }
        _ => None,
    }
}
