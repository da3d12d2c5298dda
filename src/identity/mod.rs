//! Maps the identity of a client to a z/OS user id.
//!
//! A client has an identity of one of two kinds:
//!
//! - **Client certificate**: the client presented it in the TLS handshake, or a trusted proxy has forwarded it.
//!   [`IdentityMapper`] maps only certificates.
//! - **Distributed identity**: a name in a user registry outside z/OS, such as an e-mail address in an
//!   LDAP directory, or the subject of an OpenID Connect token. The term comes from RACF (IBM's security
//!   product for z/OS). [`DistributedMapper`] maps these names.
//!
//! An identity without a mapping has no user id: there is no default user.
//!
//! These types implement the two traits:
//!
//! | source of the mapping | certificates | distributed identities |
//! |---|---|---|
//! | the certificate itself | [`CommonNameMapper`] | |
//! | a table | [`CertificateMap`] | [`DistributedMap`] |
#![cfg_attr(
    feature = "remote",
    doc = "| ZSS (Zowe System Services, a server on z/OS), feature `remote` | [`ZssCertificates`] | [`ZssIdentities`] |"
)]

mod attribute_type;
mod certificate;
mod certificate_map;
mod common_name;
mod distinguished_name;
mod distributed;
mod distributed_map;
mod filter;
mod fingerprint;
mod forwarder;
mod mapper;
mod name_syntax;
mod protected_users;
mod unique;
#[cfg(feature = "remote")]
mod zss;

pub use attribute_type::AttributeType;
pub use certificate::{CertificateError, PeerCertificate};
pub use certificate_map::{CertificateMap, DuplicateFilter};
pub use common_name::CommonNameMapper;
pub use distinguished_name::{Attribute, DistinguishedName, Rdn};
pub use distributed::{DistributedIdentity, EmailAddress, IdentityError, IdentityRule, Registry};
pub use distributed_map::{DistributedMap, DuplicateIdentity};
pub use filter::{CertificateFilter, EmptyFilter};
pub use fingerprint::{Fingerprint, FingerprintError};
pub use forwarder::{Forwarder, UnlistedPeer};
pub use mapper::{DistributedMapper, IdentityMapper, MapError, MapFuture};
pub use name_syntax::{NameProblem, NameSyntaxError};
pub use protected_users::ProtectedUsers;
#[cfg(feature = "remote")]
pub use zss::{ZssCertificates, ZssIdentities};
