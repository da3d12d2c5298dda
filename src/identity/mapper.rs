//! Traits that map the identity of a client to a z/OS user id.

use std::{pin::Pin, sync::Arc};

use super::{certificate::PeerCertificate, distributed::DistributedIdentity};
use crate::passticket::{NameError, UserId};

/// Maps a client certificate to a user id.
///
/// This trait is only for certificates. [`DistributedMapper`] maps distributed identities (names in a user registry
/// outside z/OS).
///
/// [`CommonNameMapper`](super::CommonNameMapper) reads the user id from the subject of the certificate. Implement this
/// trait to find the user in a directory or another system.
///
/// A program that chooses the mapper at run time can use `Arc<dyn IdentityMapper>`.
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
/// /// Looks the subject of a certificate up in a directory.
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
/// /// Chooses a mapper at run time.
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
    /// Starts to map `certificate`. The TLS handshake or a trusted proxy has verified it.
    fn map_certificate(&self, certificate: &PeerCertificate) -> MapFuture;

    /// Maps `certificate` without waiting. Returns `None` if this is not possible.
    ///
    /// Callers call this method first. If it returns `None`, they call [`map_certificate`](Self::map_certificate). If
    /// your mapper never waits, implement this method, so that no future is allocated. The default implementation
    /// returns `None`.
    fn try_map_now(&self, certificate: &PeerCertificate) -> Option<Result<UserId, MapError>> {
        let _ = certificate;
        None
    }
}

impl<M: IdentityMapper + ?Sized> IdentityMapper for Arc<M> {
    fn map_certificate(&self, certificate: &PeerCertificate) -> MapFuture {
        (**self).map_certificate(certificate)
    }

    fn try_map_now(&self, certificate: &PeerCertificate) -> Option<Result<UserId, MapError>> {
        (**self).try_map_now(certificate)
    }
}

/// Maps a distributed identity (a name in a user registry outside z/OS) to a user id.
///
/// [`DistributedMap`](super::DistributedMap) finds the name in a table. Implement this trait to find the name in a
/// directory or another system.
///
/// A program that chooses the mapper at run time can use `Arc<dyn DistributedMapper>`.
///
/// # Example
/// ```
/// use std::sync::Arc;
/// use tower_passticket::{
///     identity::{DistributedIdentity, DistributedMap, DistributedMapper, MapError, MapFuture},
///     passticket::UserId,
/// };
/// # #[derive(Clone, Default)]
/// # struct Directory;
/// # impl Directory {
/// #     async fn find(&self, _: String) -> Option<UserId> { UserId::new("JANE").ok() }
/// # }
///
/// /// Looks a name up in a directory.
/// #[derive(Default)]
/// struct InDirectory {
///     directory: Directory,
/// }
///
/// impl DistributedMapper for InDirectory {
///     fn map_identity(&self, identity: &DistributedIdentity) -> MapFuture {
///         let (directory, name) = (self.directory.clone(), identity.name().to_owned());
///         Box::pin(async move { directory.find(name).await.ok_or(MapError::NotMapped) })
///     }
/// }
///
/// /// Chooses a mapper at run time.
/// fn mapper(directory: bool) -> Arc<dyn DistributedMapper> {
///     if directory { Arc::new(InDirectory::default()) } else { Arc::new(DistributedMap::default()) }
/// }
///
/// # tokio_test::block_on(async {
/// let jane = DistributedIdentity::new("jane.doe@example.com", "ldaps://us.example.com")?;
/// assert_eq!(mapper(true).map_identity(&jane).await, Ok(UserId::new("JANE")?));
/// assert_eq!(mapper(false).map_identity(&jane).await, Err(MapError::NotMapped));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
pub trait DistributedMapper: Send + Sync + 'static {
    /// Starts to map `identity`. The caller has verified it.
    fn map_identity(&self, identity: &DistributedIdentity) -> MapFuture;
}

impl<M: DistributedMapper + ?Sized> DistributedMapper for Arc<M> {
    fn map_identity(&self, identity: &DistributedIdentity) -> MapFuture {
        (**self).map_identity(identity)
    }
}

/// The future of [`IdentityMapper`] and [`DistributedMapper`].
pub type MapFuture = Pin<Box<dyn Future<Output = Result<UserId, MapError>> + Send>>;

/// Why an identity was not mapped to a user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// The subject has no common name.
    #[error("the subject of the certificate has no common name")]
    NoCommonName,
    /// The mapping results in a text, such as the common name, that is not a valid user id.
    #[error(transparent)]
    NotAUserId(#[from] NameError),
    /// The certificate has expired.
    #[error("the certificate has expired")]
    Expired,
    /// No user is mapped to the identity.
    #[error("no user is mapped to the identity")]
    NotMapped,
    /// Two rules of the service give the person two different technical users.
    #[error(
        "rules of the service give the person two technical users, {first} and {second}; remove one of the rules, or \
         remove the person from one of the roles"
    )]
    Ambiguous {
        /// One of the technical users.
        first: UserId,
        /// Another technical user.
        second: UserId,
    },
    /// The system that maps identities is not available. For example, it cannot be reached.
    #[error("the identity mapping is not available")]
    Unavailable,
    /// The mapping failed for another reason. For example, the response of the system that maps identities cannot be
    /// used.
    #[error("the identity mapping failed: {0}")]
    Failed(String),
}
