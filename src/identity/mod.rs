//! Maps the identity of a client to a z/OS user id.
//!
//! There are two kinds of identity: the client certificate of a connection ([`IdentityMapper`]), and
//! a name in another directory, such as an e-mail address ([`DistributedMapper`]). An identity that
//! is not mapped has no user; there is no default user.
//!
//! | source of the mapping | certificates | distributed identities |
//! |---|---|---|
//! | the certificate itself | [`CommonNameMapper`] | |
//! | a table | [`CertificateMap`] | [`DistributedMap`] |
#![cfg_attr(
    feature = "remote",
    doc = "| ZSS on z/OS, feature `remote` | [`ZssCertificates`] | [`ZssIdentities`] |"
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
mod mapper;
mod name_syntax;
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
pub use mapper::{DistributedMapper, IdentityMapper, MapError, MapFuture};
pub use name_syntax::{NameProblem, NameSyntaxError};
#[cfg(feature = "remote")]
pub use zss::{ZssCertificates, ZssIdentities};
