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

mod attribute_type;
mod certificate;
mod common_name;
mod distinguished_name;
mod distributed;
mod file;
mod filter;
mod name_syntax;
#[cfg(feature = "remote")]
mod zss;

use std::{pin::Pin, sync::Arc};

pub use attribute_type::AttributeType;
pub use certificate::{CertificateError, PeerCertificate};
pub use common_name::CommonNameMapper;
pub use distinguished_name::{Attribute, DistinguishedName, Rdn};
pub use distributed::{
    DistributedIdentity, DistributedMapper, EmailAddress, IdentityError, IdentityRule, Registry,
};
pub use file::{CertificateMap, DistributedMap, DuplicateFilter, DuplicateIdentity};
pub use filter::{CertificateFilter, EmptyFilter, Fingerprint, FingerprintError};
pub use name_syntax::{NameProblem, NameSyntaxError};
#[cfg(feature = "remote")]
pub use zss::{ZssCertificates, ZssIdentities};

use crate::passticket::{NameError, UserId};

/// Maps a client certificate to a user id.
///
/// [`CommonNameMapper`] reads the user id from the subject. Implement this trait to ask a directory
/// or another system.
///
/// The trait is object-safe, and an `Arc` of a mapper is a mapper: a program that chooses one at run
/// time uses `Arc<dyn IdentityMapper>` wherever a mapper is expected.
///
/// # Example
/// ```
/// use std::sync::Arc;
/// use tower_passticket::{
///     identity::{CommonNameMapper, IdentityMapper, MapError, MapFuture, PeerCertificate},
///     passticket::UserId,
/// };
/// # #[derive(Clone, Default)]
/// # struct Directory;
/// # impl Directory {
/// #     async fn find(&self, _: String) -> Option<UserId> { UserId::new("JANE").ok() }
/// # }
///
/// /// Asks a directory for the user of a subject.
/// #[derive(Default)]
/// struct BySubject {
///     directory: Directory,
/// }
///
/// impl IdentityMapper for BySubject {
///     fn map_certificate(&self, certificate: &PeerCertificate) -> MapFuture {
///         let (directory, subject) = (self.directory.clone(), certificate.subject().to_owned());
///         Box::pin(async move { directory.find(subject).await.ok_or(MapError::NotMapped) })
///     }
/// }
///
/// /// Chooses at run time.
/// fn mapper(directory: bool) -> Arc<dyn IdentityMapper> {
///     if directory { Arc::new(BySubject::default()) } else { Arc::new(CommonNameMapper) }
/// }
///
/// # tokio_test::block_on(async {
/// # let mut params = rcgen::CertificateParams::default();
/// # params.distinguished_name.push(rcgen::DnType::CommonName, "USER");
/// # let der = params.self_signed(&rcgen::KeyPair::generate()?)?.der().to_vec();
/// let certificate = PeerCertificate::from_der(der)?;
/// assert_eq!(mapper(true).map_certificate(&certificate).await, Ok(UserId::new("JANE")?));
/// assert_eq!(mapper(false).map_certificate(&certificate).await, Ok(UserId::new("USER")?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
pub trait IdentityMapper: Send + Sync + 'static {
    /// Starts mapping `certificate`, which the TLS handshake has verified.
    fn map_certificate(&self, certificate: &PeerCertificate) -> MapFuture;

    /// Maps `certificate` if no waiting is needed. After `None` the caller continues with
    /// [`map_certificate`](Self::map_certificate). Callers ask here first: a mapper that never waits
    /// implements this method to avoid the allocation of a future.
    fn try_map_now(&self, certificate: &PeerCertificate) -> Option<Result<UserId, MapError>> {
        let _ = certificate;
        None
    }
}

/// The future of [`IdentityMapper`] and [`DistributedMapper`]: the user, or why there is none.
pub type MapFuture = Pin<Box<dyn Future<Output = Result<UserId, MapError>> + Send>>;

impl<M: IdentityMapper + ?Sized> IdentityMapper for Arc<M> {
    fn map_certificate(&self, certificate: &PeerCertificate) -> MapFuture {
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
