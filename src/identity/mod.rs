//! From a client certificate to the z/OS user it belongs to.

mod certificate;
mod common_name;

use std::sync::Arc;

pub use certificate::{CertificateError, PeerCertificate};
pub use common_name::CommonNameMapper;

use crate::passticket::{NameError, UserId};

/// Maps a client certificate to a user id.
///
/// [`CommonNameMapper`] reads the user id off the subject. A mapper that has to ask somebody
/// returns a future that waits; the layer neither boxes it nor holds anything while it does.
pub trait IdentityMapper: Send + Sync + 'static {
    /// Tells the user.
    type Future: Future<Output = Result<UserId, MapError>> + Send + 'static;

    /// Starts mapping `certificate`, which the TLS handshake has verified.
    fn map_certificate(&self, certificate: &PeerCertificate) -> Self::Future;
}

impl<M: IdentityMapper> IdentityMapper for Arc<M> {
    type Future = M::Future;

    fn map_certificate(&self, certificate: &PeerCertificate) -> Self::Future {
        (**self).map_certificate(certificate)
    }
}

/// Why a certificate has no user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// The subject has no common name.
    #[error("the subject of the certificate has no common name")]
    NoCommonName,
    /// What stands for the user is no user id.
    #[error(transparent)]
    NotAUserId(#[from] NameError),
    /// It has expired since the handshake.
    #[error("the certificate has expired")]
    Expired,
    /// Nobody is mapped to it.
    #[error("no user is mapped to the certificate")]
    NotMapped,
    /// Whoever knows the mapping does not answer.
    #[error("the identity mapping is not available")]
    Unavailable,
}
