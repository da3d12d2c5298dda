//! The certificate of the peer, if the peer can be a proxy or gateway that sends the requests of its clients.
//! [`Forwarder`] contains the certificate of a trusted proxy or gateway. [`UnlistedPeer`] contains the certificate of
//! any other peer.

use super::PeerCertificate;

/// The certificate of a trusted proxy or gateway. This peer may send the certificates of its clients. Until the
/// certificate expires, it is an extension of each request of this peer. It proves which peer sent the request. It is
/// never the credential of the client.
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

/// The certificate of a peer that is not a trusted proxy or gateway. It is an extension of each request of this peer,
/// and proves which peer sent the request. It is the credential of the request only if the request also has it as a
/// [`PeerCertificate`] extension.
///
/// Only [`ForwardedCertificateLayer`](crate::layer::ForwardedCertificateLayer) creates this type, with
/// [`UnlistedPeers::ActForThemselves`](crate::layer::UnlistedPeers::ActForThemselves).
#[derive(Clone, Debug)]
pub struct UnlistedPeer(PeerCertificate);

impl UnlistedPeer {
    pub(crate) fn new(certificate: PeerCertificate) -> Self {
        Self(certificate)
    }

    /// Returns the certificate, which the TLS handshake has verified.
    pub fn certificate(&self) -> &PeerCertificate {
        &self.0
    }
}
