//! The client certificate of a TLS connection.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use x509_cert::{
    Certificate,
    der::{
        Decode,
        asn1::{Any, ObjectIdentifier},
    },
    name::Name,
};

use super::distinguished_name::DistinguishedName;
use crate::clock::Timestamp;

/// The verified certificate of a client. It is an extension of the request.
///
/// The [layers](crate::layer) trust this extension. Code that inserts the extension must first verify the certificate,
/// and that the peer has the private key of the certificate. The TLS listener of this crate inserts the extension after
/// a handshake that has verified both. [`ForwardedCertificateLayer`](crate::layer::ForwardedCertificateLayer) inserts a
/// certificate that a trusted proxy has verified. Cloning is cheap.
#[derive(Clone)]
pub struct PeerCertificate(Arc<Parts>);

struct Parts {
    der: Bytes,
    intermediates: Vec<Bytes>,
    sha256: [u8; 32],
    subject: String,
    subject_name: DistinguishedName,
    issuer: String,
    issuer_name: DistinguishedName,
    common_name: Option<String>,
    not_after: Timestamp,
}

impl PeerCertificate {
    /// Parses a DER certificate (RFC 5280 §4.1). Does not verify the signature or the dates.
    ///
    /// # Errors
    /// [`CertificateError`] if the bytes are not a certificate, or if the certificate has an attribute type (an OID)
    /// with a number of more than 32 bits.
    pub fn from_der(der: impl Into<Vec<u8>>) -> Result<Self, CertificateError> {
        Self::from_chain(der, [])
    }

    /// Does the same as [`from_der`](Self::from_der), and also stores the intermediate certificates, without parsing
    /// them.
    ///
    /// # Errors
    /// The same as for [`from_der`](Self::from_der).
    pub fn from_chain(
        der: impl Into<Vec<u8>>,
        intermediates: impl IntoIterator<Item = Vec<u8>>,
    ) -> Result<Self, CertificateError> {
        let der = Bytes::from(der.into());
        let certificate =
            Certificate::from_der(&der).map_err(|e| CertificateError(e.kind().to_string()))?;
        let subject = certificate.tbs_certificate().subject();
        check_types(subject)?;
        check_types(certificate.tbs_certificate().issuer())?;
        let common_name = subject
            .iter()
            .find(|attribute| attribute.oid == COMMON_NAME)
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
            intermediates: intermediates.into_iter().map(Bytes::from).collect(),
        })))
    }

    /// Returns the certificate in DER.
    pub fn der(&self) -> &[u8] {
        &self.0.der
    }

    /// Returns the intermediate certificates that were passed to [`from_chain`](Self::from_chain), in DER. The TLS
    /// listener passes all intermediate certificates that the peer has sent, even those that the handshake has not
    /// verified because it did not need them.
    pub fn intermediates(&self) -> impl Iterator<Item = &[u8]> {
        self.0.intermediates.iter().map(|der| &**der)
    }

    /// Returns the certificate in DER.
    #[cfg(feature = "remote")]
    pub(super) fn der_bytes(&self) -> &Bytes {
        &self.0.der
    }

    /// Returns the SHA-256 hash of the DER. `openssl x509 -fingerprint -sha256` shows the same hash.
    pub fn sha256(&self) -> &[u8; 32] {
        &self.0.sha256
    }

    /// Returns the last time at which the certificate is valid (RFC 5280 §4.1.2.5). Check this time for each request:
    /// the handshake has checked it, but a connection or a resumed TLS session can last longer.
    pub fn not_after(&self) -> Timestamp {
        self.0.not_after
    }

    /// Returns the subject as escaped text (RFC 4514), for logs. To compare names, use
    /// [`subject_name`](Self::subject_name). To read the common name, use
    /// [`common_name`](Self::common_name).
    pub fn subject(&self) -> &str {
        &self.0.subject
    }

    /// Returns the subject: the name of the holder. It can be empty (RFC 5280 §4.1.2.6).
    pub fn subject_name(&self) -> &DistinguishedName {
        &self.0.subject_name
    }

    /// Returns the issuer as escaped text (RFC 4514), for logs. To compare names, use
    /// [`issuer_name`](Self::issuer_name).
    pub fn issuer(&self) -> &str {
        &self.0.issuer
    }

    /// Returns the issuer: the name of the CA (certificate authority) that signed the certificate.
    pub fn issuer_name(&self) -> &DistinguishedName {
        &self.0.issuer_name
    }

    /// Returns the first common name of the subject, in the order of the certificate, as Zowe API ML does
    /// (docs/reference/identity-and-saf.md#common-name). Returns `None` if the subject has no common name, or if the
    /// first one is not a valid UTF8String, PrintableString or IA5String.
    pub fn common_name(&self) -> Option<&str> {
        self.0.common_name.as_deref()
    }
}

impl fmt::Debug for PeerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PeerCertificate").field(&self.subject()).finish()
    }
}

/// The bytes are not a certificate, or the certificate has an attribute type with a number of more than 32 bits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an X.509 certificate in DER: {0}")]
pub struct CertificateError(String);

/// The object identifier id-at-commonName (RFC 5280 §A.1).
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// Refuses an attribute type (an OID) with a number of more than 32 bits. `x509_cert` keeps only 32 bits of each
/// number, and so mistakes such a type for another type.
fn check_types(name: &Name) -> Result<(), CertificateError> {
    let mut types = name.iter().map(|attribute| attribute.oid);
    if types.all(|oid| has_own_text(&oid)) {
        return Ok(());
    }
    Err(CertificateError("an attribute type has a number of more than 32 bits".to_owned()))
}

fn has_own_text(oid: &ObjectIdentifier) -> bool {
    ObjectIdentifier::new(&oid.to_string()).is_ok_and(|same| same == *oid)
}

/// Returns the text of a UTF8String, PrintableString or IA5String. User ids are ASCII, so they do not need the other
/// string types of RFC 5280 §4.1.2.4.
fn directory_string(value: &Any) -> Option<String> {
    use x509_cert::der::{Tag, Tagged};
    match value.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String => {
            str::from_utf8(value.value()).ok().map(str::to_owned)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_with_a_number_of_more_than_32_bits_is_not_a_common_name() {
        for (bytes, want) in [
            (&[0x55, 4, 3][..], true),
            (&[0x55, 4, 0x8f, 0xff, 0xff, 0xff, 0x7f], true),
            // The OID 2.5.4.4294967299: its last number is 2³² + 3.
            (&[0x55, 4, 0x90, 0x80, 0x80, 0x80, 3], false),
        ] {
            let oid = ObjectIdentifier::from_bytes(bytes).unwrap();
            assert_eq!(has_own_text(&oid), want, "{oid}");
            assert_eq!(oid == COMMON_NAME, bytes.len() == 3);
        }
    }
}
