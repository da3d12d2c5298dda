//! The certificate of the peer, for connections on which proxies and gateways may send the requests of their clients.
//! [`Forwarder`] contains the certificate of a trusted proxy or gateway, and [`UnlistedPeer`] the certificate of a peer
//! that acts as a client.

use super::PeerCertificate;

/// The certificate of a trusted proxy or gateway that may send the certificates of its clients. It is an extension of
/// each request on the connections of this proxy or gateway, until the certificate expires. It proves who sent the
/// request, and is never the credential of the client.
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

/// The certificate of a peer that acts as a client, and not as a trusted proxy or gateway. It is an extension of the
/// requests on the connections of this peer, and proves who sent the request. It is the credential of the request only
/// if the request also has it as a [`PeerCertificate`] extension.
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
