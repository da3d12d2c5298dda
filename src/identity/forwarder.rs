//! The proxy or gateway that sent a request for its client.

use super::PeerCertificate;

/// The certificate of a trusted proxy or gateway that may send the certificates of its clients, as an extension of each
/// request on its connections. It proves who sent the request, and is never the credential of the client.
///
/// Only [`ForwardedCertificateLayer`](crate::layer::ForwardedCertificateLayer) creates this type. Audit records contain
/// the subject of the certificate ([`AuditRecord::gateway`](crate::audit::AuditRecord::gateway)).
#[derive(Clone, Debug)]
pub struct Forwarder(PeerCertificate);

impl Forwarder {
    pub(crate) fn new(certificate: PeerCertificate) -> Self {
        Self(certificate)
    }

    /// Returns the certificate, which the TLS handshake has verified.
    pub fn certificate(&self) -> &PeerCertificate {
        &self.0
    }
}
