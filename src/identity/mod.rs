//! From somebody's identity to their z/OS user.
//!
//! Two kinds of identity are mapped: the client certificate of a connection
//! ([`IdentityMapper`]), and a name that another system knows somebody by, an e-mail address say
//! ([`DistributedMapper`]). Whoever is not mapped is nobody; there is no user to fall back to.
//!
//! | who maps | certificates | distributed identities |
//! |---|---|---|
//! | the certificate itself | [`CommonNameMapper`] | |
//! | a list | [`CertificateMap`] | [`DistributedMap`] |
#![cfg_attr(
    feature = "remote",
    doc = "| ZSS on z/OS, feature `remote` | [`ZssCertificates`] | [`ZssIdentities`] |"
)]

mod certificate;
mod common_name;
mod distinguished_name;
mod distributed;
mod file;
mod filter;
#[cfg(feature = "remote")]
mod zss;

use std::sync::Arc;

pub use certificate::{CertificateError, PeerCertificate};
pub use common_name::CommonNameMapper;
pub use distinguished_name::{DistinguishedName, NameProblem, NameSyntaxError};
pub use distributed::{
    DistributedIdentity, DistributedMapper, EmailAddress, IdentityError, IdentityRule, Registry,
};
pub use file::{CertificateMap, DistributedMap, DuplicateFilter, DuplicateIdentity};
pub use filter::{CertificateFilter, EmptyFilter, Fingerprint, FingerprintError};
#[cfg(feature = "remote")]
pub use zss::{ZssCertificates, ZssIdentities};

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

    /// Maps `certificate` if that takes no waiting. `None` says that it does, and whoever asks goes
    /// on with [`map_certificate`](Self::map_certificate).
    fn try_map_now(&self, certificate: &PeerCertificate) -> Option<Result<UserId, MapError>> {
        let _ = certificate;
        None
    }
}

impl<M: IdentityMapper> IdentityMapper for Arc<M> {
    type Future = M::Future;

    fn map_certificate(&self, certificate: &PeerCertificate) -> Self::Future {
        (**self).map_certificate(certificate)
    }

    fn try_map_now(&self, certificate: &PeerCertificate) -> Option<Result<UserId, MapError>> {
        (**self).try_map_now(certificate)
    }
}

/// Why an identity has no user.
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
    #[error("no user is mapped to the identity")]
    NotMapped,
    /// Whoever knows the mapping does not answer.
    #[error("the identity mapping is not available")]
    Unavailable,
    /// It answered, but not whose identity it is.
    #[error("the identity mapping cannot answer: {0}")]
    Failed(String),
}
