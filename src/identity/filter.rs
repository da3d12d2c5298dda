//! Filters for client certificates.

use std::fmt;

use super::{
    certificate::PeerCertificate, distinguished_name::DistinguishedName, fingerprint::Fingerprint,
};

/// A filter on the fingerprint, the subject or the issuer of a client certificate.
///
/// In RACF, IBM's security product for z/OS, such a filter on names is a *certificate name filter*. In the command
/// `RACDCERT MAP`, `SDNFILTER` contains the subject, and `IDNFILTER` contains the issuer.
///
/// - **Fingerprint**: the filter matches exactly one certificate.
/// - **Subject** or **issuer**: the filter matches if the name in the certificate ends with the parts in
///   the filter. `OU=Payroll,O=Example` matches `CN=Jane,OU=Payroll,O=Example`.
/// - **Subject and issuer**: the filter matches if the subject in the certificate ends with the subject in the filter,
///   and the issuers are *equal*. So write the complete issuer, as in RACF. A filter with only a part of the issuer
///   matches nothing of this issuer. It is not an error, because the part could be the complete name of another issuer.
///
/// If several filters match, [`CertificateMap`](super::CertificateMap) uses the most specific filter.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CertificateFilter(pub(super) Kind);

#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Fingerprint(Fingerprint),
    Subject(DistinguishedName),
    Issuer(DistinguishedName),
    SubjectAndIssuer { subject: DistinguishedName, issuer: DistinguishedName },
}

impl CertificateFilter {
    /// Creates a filter that matches only the certificate with this fingerprint. In RACF, the command `RACDCERT ADD`
    /// registers a single certificate.
    pub fn fingerprint(fingerprint: Fingerprint) -> Self {
        Self(Kind::Fingerprint(fingerprint))
    }

    /// Creates a filter that matches certificates whose subject ends with `subject`.
    ///
    /// # Errors
    /// [`EmptyFilter`] if `subject` has no parts, because such a filter would match every certificate.
    pub fn subject(subject: DistinguishedName) -> Result<Self, EmptyFilter> {
        not_empty(subject).map(Kind::Subject).map(Self)
    }

    /// Creates a filter that matches certificates whose issuer ends with `issuer`.
    ///
    /// # Errors
    /// [`EmptyFilter`] if `issuer` has no parts.
    pub fn issuer(issuer: DistinguishedName) -> Result<Self, EmptyFilter> {
        not_empty(issuer).map(Kind::Issuer).map(Self)
    }

    /// Creates a filter that matches certificates whose issuer equals `issuer` and whose subject ends with `subject`.
    ///
    /// # Errors
    /// [`EmptyFilter`] if one of the names has no parts.
    pub fn subject_and_issuer(
        subject: DistinguishedName,
        issuer: DistinguishedName,
    ) -> Result<Self, EmptyFilter> {
        let (subject, issuer) = (not_empty(subject)?, not_empty(issuer)?);
        Ok(Self(Kind::SubjectAndIssuer { subject, issuer }))
    }

    /// Returns whether the filter matches this certificate.
    pub fn matches(&self, certificate: &PeerCertificate) -> bool {
        let (subject, issuer) = (certificate.subject_name(), certificate.issuer_name());
        match &self.0 {
            Kind::Fingerprint(fingerprint) => {
                *fingerprint == Fingerprint::from(*certificate.sha256())
            }
            Kind::Subject(suffix) => subject.rdns().ends_with(suffix.rdns()),
            Kind::Issuer(suffix) => issuer.rdns().ends_with(suffix.rdns()),
            Kind::SubjectAndIssuer { subject: suffix, issuer: whole } => {
                issuer == whole && subject.rdns().ends_with(suffix.rdns())
            }
        }
    }
}

fn not_empty(name: DistinguishedName) -> Result<DistinguishedName, EmptyFilter> {
    if name.is_empty() { Err(EmptyFilter) } else { Ok(name) }
}

impl fmt::Display for CertificateFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Fingerprint(fingerprint) => write!(f, "fingerprint {fingerprint}"),
            Kind::Subject(subject) => write!(f, "subject {subject}"),
            Kind::Issuer(issuer) => write!(f, "issuer {issuer}"),
            Kind::SubjectAndIssuer { subject, issuer } => {
                write!(f, "subject {subject} and issuer {issuer}")
            }
        }
    }
}

impl fmt::Debug for CertificateFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CertificateFilter({self})")
    }
}

/// A name in a filter is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the name of a filter is empty; write at least its last part, such as O=company")]
#[non_exhaustive]
pub struct EmptyFilter;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_with_an_empty_name_is_an_error() {
        let (empty, name) = (DistinguishedName::default, || "O=x".parse().unwrap());
        assert_eq!(CertificateFilter::subject(empty()), Err(EmptyFilter));
        assert_eq!(CertificateFilter::issuer(empty()), Err(EmptyFilter));
        assert_eq!(CertificateFilter::subject_and_issuer(name(), empty()), Err(EmptyFilter));
        assert_eq!(CertificateFilter::subject_and_issuer(empty(), name()), Err(EmptyFilter));
        let filter = CertificateFilter::subject_and_issuer(name(), name()).unwrap();
        assert_eq!(filter.to_string(), "subject O=x and issuer O=x");
    }
}
