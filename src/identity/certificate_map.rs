//! Maps client certificates to user ids by a table of filters.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
    fmt,
    future::ready,
    sync::Arc,
};

use super::{
    certificate::PeerCertificate,
    distinguished_name::DistinguishedName,
    filter::{CertificateFilter, Kind},
    fingerprint::Fingerprint,
    mapper::{IdentityMapper, MapError, MapFuture},
    unique::insert_unique,
};
use crate::passticket::UserId;

/// Maps client certificates to user ids by a table of [`CertificateFilter`]s. If several filters match,
/// the most specific filter decides.
///
/// These are the seven kinds of filters, with the most specific kind first. RACF, IBM's security product for z/OS, uses
/// the same order (*Security Administrator's Guide*, "How RACF processes certificate name filters").
///
/// 1. the fingerprint (in RACF: a registered certificate),
/// 2. the full subject with the full issuer,
/// 3. a partial subject with the full issuer,
/// 4. the full subject,
/// 5. a partial subject,
/// 6. the full issuer,
/// 7. a partial issuer.
///
/// A partial name consists of the last parts of a full name. If two filters of the same kind match, the filter with
/// more parts in its name is more specific. A certificate without a matching filter has no user.
///
/// A look-up does not take longer with more filters. It takes longer if the names in the filters have many different
/// numbers of parts.
///
/// ```
/// use tower_passticket::{
///     identity::{CertificateFilter, CertificateMap},
///     passticket::UserId,
/// };
///
/// let payroll = CertificateFilter::subject("OU=Payroll,O=Example".parse()?)?;
/// let everybody = CertificateFilter::issuer("O=Example CA".parse()?)?;
/// let map = CertificateMap::new([
///     (payroll, UserId::new("PAYROLL")?),
///     (everybody, UserId::new("GUEST")?),
/// ])?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct CertificateMap(Arc<Filters>);

#[derive(Default)]
struct Filters {
    fingerprints: HashMap<Fingerprint, UserId>,
    /// Filters on subject and issuer. The key is the full issuer.
    subjects_by_issuer: HashMap<DistinguishedName, Suffixes>,
    subjects: Suffixes,
    issuers: Suffixes,
}

/// Filters on the subject, or filters on the issuer. The key is the last parts of a name.
#[derive(Default)]
struct Suffixes {
    users: HashMap<DistinguishedName, UserId>,
    /// The numbers of parts of the names in `users`, with the largest number first.
    lengths: BTreeSet<Reverse<usize>>,
}

impl Suffixes {
    fn find(&self, name: &DistinguishedName) -> Option<UserId> {
        self.lengths.iter().find_map(|Reverse(length)| {
            let start = name.len().checked_sub(*length)?;
            self.users.get(&name.rdns()[start..]).copied()
        })
    }

    fn insert(&mut self, name: &DistinguishedName, user: UserId) -> Result<(), UserId> {
        self.lengths.insert(Reverse(name.len()));
        insert_unique(&mut self.users, name.clone(), user)
    }
}

impl CertificateMap {
    /// Makes a table of filters. The order of `entries` makes no difference.
    ///
    /// # Errors
    /// [`DuplicateFilter`] if a filter occurs twice. The error names the filter and both users.
    pub fn new(
        entries: impl IntoIterator<Item = (CertificateFilter, UserId)>,
    ) -> Result<Self, DuplicateFilter> {
        let mut filters = Filters::default();
        for (filter, user) in entries {
            let inserted = match &filter.0 {
                Kind::Fingerprint(fingerprint) => {
                    insert_unique(&mut filters.fingerprints, *fingerprint, user)
                }
                Kind::Subject(subject) => filters.subjects.insert(subject, user),
                Kind::Issuer(issuer) => filters.issuers.insert(issuer, user),
                Kind::SubjectAndIssuer { subject, issuer } => filters
                    .subjects_by_issuer
                    .entry(issuer.clone())
                    .or_default()
                    .insert(subject, user),
            };
            inserted.map_err(|first| DuplicateFilter { filter, first, second: user })?;
        }
        Ok(Self(Arc::new(filters)))
    }

    fn map(&self, certificate: &PeerCertificate) -> Result<UserId, MapError> {
        let fingerprint = Fingerprint::from(*certificate.sha256());
        let (subject, issuer) = (certificate.subject_name(), certificate.issuer_name());
        self.find(fingerprint, subject, issuer).ok_or(MapError::NotMapped)
    }

    fn find(
        &self,
        fingerprint: Fingerprint,
        subject: &DistinguishedName,
        issuer: &DistinguishedName,
    ) -> Option<UserId> {
        let Filters { fingerprints, subjects_by_issuer, subjects, issuers } = &*self.0;
        let registered = fingerprints.get(&fingerprint).copied();
        registered
            .or_else(|| subjects_by_issuer.get(issuer)?.find(subject))
            .or_else(|| subjects.find(subject))
            .or_else(|| issuers.find(issuer))
    }
}

impl fmt::Debug for CertificateMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Filters { fingerprints, subjects_by_issuer, subjects, issuers } = &*self.0;
        let subjects_by_issuer = subjects_by_issuer.values().map(|subjects| subjects.users.len());
        f.debug_struct("CertificateMap")
            .field("fingerprints", &fingerprints.len())
            .field("subjects_by_issuer", &subjects_by_issuer.sum::<usize>())
            .field("subjects", &subjects.users.len())
            .field("issuers", &issuers.users.len())
            .finish()
    }
}

impl IdentityMapper for CertificateMap {
    fn map_certificate(&self, certificate: &PeerCertificate) -> MapFuture {
        Box::pin(ready(self.map(certificate)))
    }

    fn try_map_now(&self, certificate: &PeerCertificate) -> Option<Result<UserId, MapError>> {
        Some(self.map(certificate))
    }
}

/// A filter occurs twice in a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the filter {filter} occurs twice, for user {first} and user {second}; keep one of them")]
#[non_exhaustive]
pub struct DuplicateFilter {
    /// The filter.
    pub filter: CertificateFilter,
    /// The user of the first entry.
    pub first: UserId,
    /// The user of the second entry.
    pub second: UserId,
}

#[cfg(test)]
mod tests {
    use rcgen::DnType;
    use test_support::{pki::self_signed, tickets::user};

    use super::*;

    fn name(text: &str) -> DistinguishedName {
        text.parse().unwrap()
    }

    fn subject(text: &str) -> CertificateFilter {
        CertificateFilter::subject(name(text)).unwrap()
    }

    fn issuer(text: &str) -> CertificateFilter {
        CertificateFilter::issuer(name(text)).unwrap()
    }

    fn subject_and_issuer(subject: &str, issuer: &str) -> CertificateFilter {
        CertificateFilter::subject_and_issuer(name(subject), name(issuer)).unwrap()
    }

    const SUBJECT: &str = "CN=Jane,OU=Payroll,O=Example,C=DE";
    const ISSUER: &str = "CN=Issuing,OU=CA,O=Trust";

    fn find(map: &CertificateMap, subject: &str, issuer: &str) -> Option<UserId> {
        map.find([7; 32].into(), &name(subject), &name(issuer))
    }

    /// Returns filters in RACF's order, with the most specific filter first. All but the last match a certificate with
    /// `SUBJECT` and `ISSUER`.
    fn in_order() -> [CertificateFilter; 13] {
        [
            CertificateFilter::fingerprint([7; 32].into()),
            subject_and_issuer(SUBJECT, ISSUER),
            subject_and_issuer("OU=Payroll,O=Example,C=DE", ISSUER),
            subject_and_issuer("O=Example,C=DE", ISSUER),
            subject_and_issuer("C=DE", ISSUER),
            subject(SUBJECT),
            subject("OU=Payroll,O=Example,C=DE"),
            subject("O=Example,C=DE"),
            subject("C=DE"),
            issuer(ISSUER),
            issuer("OU=CA,O=Trust"),
            issuer("O=Trust"),
            // In a filter with a subject and an issuer, a part of the issuer does not match.
            subject_and_issuer(SUBJECT, "OU=CA,O=Trust"),
        ]
    }

    #[test]
    fn the_most_specific_filter_decides_as_in_racf() {
        let filters = in_order();
        let (last, matching) = filters.split_last().unwrap();
        let entries: Vec<_> = filters
            .iter()
            .enumerate()
            .map(|(i, filter)| (filter.clone(), user(&format!("U{i}"))))
            .collect();
        for first in 0..=matching.len() {
            for reversed in [false, true] {
                let mut entries = entries[first..].to_vec();
                if reversed {
                    entries.reverse();
                }
                let map = CertificateMap::new(entries).unwrap();
                let want = (first < matching.len()).then(|| user(&format!("U{first}")));
                assert_eq!(
                    find(&map, SUBJECT, ISSUER),
                    want,
                    "filters from {:?} on",
                    filters[first]
                );
            }
        }
        let map = CertificateMap::new([(last.clone(), user("X"))]).unwrap();
        assert_eq!(find(&map, SUBJECT, "OU=CA,O=Trust"), Some(user("X")), "equal issuer");
    }

    #[test]
    fn a_filter_matches_the_last_parts_of_a_name() {
        let map = CertificateMap::new([
            (subject("OU=Payroll,O=Example,C=DE"), user("A")),
            (issuer("O=Trust"), user("B")),
            (subject_and_issuer("O=Example,C=DE", ISSUER), user("C")),
        ])
        .unwrap();
        for (subject, issuer, want) in [
            ("CN=x,OU=Payroll,O=Example,C=DE", "O=other", Some("A")),
            ("OU=Payroll,O=Example,C=DE", "O=other", Some("A")),
            // A filter does not match the first parts of a name.
            ("OU=Payroll,O=Example,C=DE,DC=x", "O=other", None),
            ("OU=Payroll,O=Example", "O=other", None),
            ("OU=payroll,O=Example,C=DE", "O=other", None),
            ("CN=x,OU=Pay,O=Example,C=DE", ISSUER, Some("C")),
            ("CN=x,OU=Pay,O=Example,C=DE", "O=Trust", Some("B")),
            ("C=DE", "CN=y,O=Trust", Some("B")),
            ("", "", None),
            ("", ISSUER, Some("B")),
            // An escaped comma does not separate parts.
            (r"CN=x\,OU=Payroll\,O=Example\,C=DE", "O=other", None),
        ] {
            assert_eq!(find(&map, subject, issuer), want.map(user), "{subject} {issuer}");
            assert_eq!(find(&CertificateMap::default(), subject, issuer), None);
        }
    }

    #[test]
    fn a_filter_that_occurs_twice_is_an_error() {
        for filter in in_order() {
            let entries = [(filter.clone(), user("A")), (filter.clone(), user("B"))];
            let error = CertificateMap::new(entries).unwrap_err();
            let (first, second) = (user("A"), user("B"));
            assert_eq!(error, DuplicateFilter { filter, first, second });
            assert!(error.to_string().contains("user A and user B"), "{error}");
        }
        let error = CertificateMap::new([
            (subject("cn=a+ou=b"), user("A")),
            (subject("2.5.4.11=b + CN=\\61"), user("A")),
        ]);
        assert!(error.is_err(), "both texts are the same name, so the filter occurs twice");
    }

    #[test]
    fn a_certificate_is_mapped_by_its_names_and_its_fingerprint() {
        let der = self_signed(|params| {
            params.distinguished_name.push(DnType::OrganizationName, "Example");
            params.distinguished_name.push(DnType::CommonName, "Jane");
        });
        let certificate = PeerCertificate::from_der(der).unwrap();
        let fingerprint = Fingerprint::from(*certificate.sha256());
        for (filter, want) in [
            (CertificateFilter::fingerprint(fingerprint), Ok(user("JANE"))),
            (CertificateFilter::fingerprint([0; 32].into()), Err(MapError::NotMapped)),
            (subject("O=Example"), Ok(user("JANE"))),
            (subject("CN=Jane"), Err(MapError::NotMapped)),
            (issuer("CN=Jane,O=Example"), Ok(user("JANE"))),
        ] {
            let map = CertificateMap::new([(filter.clone(), user("JANE"))]).unwrap();
            assert_eq!(map.map(&certificate), want, "{filter}");
        }
    }
}
