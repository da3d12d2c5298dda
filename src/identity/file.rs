//! Identities that somebody has read from a file.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap, hash_map::Entry},
    fmt,
    future::ready,
    hash::Hash,
    sync::Arc,
};

use super::{
    CertificateFilter, DistinguishedName, DistributedIdentity, DistributedMapper, EmailAddress,
    Fingerprint, IdentityMapper, MapError, MapFuture, PeerCertificate, filter::Kind,
};
use crate::passticket::UserId;

/// Maps certificates by [`CertificateFilter`]s, the most specific one first.
///
/// The order is RACF's (*Security Administrator's Guide*, "How RACF processes certificate name
/// filters"); the fingerprint stands for a certificate that is registered:
///
/// 1. the fingerprint,
/// 2. the full subject with the full issuer,
/// 3. a partial subject with the full issuer,
/// 4. the full subject,
/// 5. a partial subject,
/// 6. the full issuer,
/// 7. a partial issuer.
///
/// A partial name is what is left of the full one without its first parts; a longer one counts
/// before a shorter one. A certificate that no filter matches has no user. The cost of a look-up
/// depends on the lengths of the names, not on the number of filters.
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
    /// By the full issuer.
    subjects_of: HashMap<DistinguishedName, Suffixes>,
    subjects: Suffixes,
    issuers: Suffixes,
}

/// Users by the last parts of a name.
#[derive(Default)]
struct Suffixes {
    users: HashMap<DistinguishedName, UserId>,
    /// The lengths that there are, the longest first.
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
        insert(&mut self.users, name.clone(), user)
    }
}

/// # Errors
/// Whoever has the key already.
fn insert<K: Eq + Hash>(
    users: &mut HashMap<K, UserId>,
    key: K,
    user: UserId,
) -> Result<(), UserId> {
    match users.entry(key) {
        Entry::Vacant(entry) => {
            entry.insert(user);
            Ok(())
        }
        Entry::Occupied(entry) => Err(*entry.get()),
    }
}

impl CertificateMap {
    /// Takes filters, in any order.
    ///
    /// # Errors
    /// [`DuplicateFilter`] names a filter that is there twice, and its users.
    pub fn new(
        entries: impl IntoIterator<Item = (CertificateFilter, UserId)>,
    ) -> Result<Self, DuplicateFilter> {
        let mut filters = Filters::default();
        for (filter, user) in entries {
            let inserted = match &filter.0 {
                Kind::Fingerprint(fingerprint) => {
                    insert(&mut filters.fingerprints, *fingerprint, user)
                }
                Kind::Subject(subject) => filters.subjects.insert(subject, user),
                Kind::Issuer(issuer) => filters.issuers.insert(issuer, user),
                Kind::SubjectAndIssuer { subject, issuer } => {
                    filters.subjects_of.entry(issuer.clone()).or_default().insert(subject, user)
                }
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
        let Filters { fingerprints, subjects_of, subjects, issuers } = &*self.0;
        let registered = fingerprints.get(&fingerprint).copied();
        registered
            .or_else(|| subjects_of.get(issuer)?.find(subject))
            .or_else(|| subjects.find(subject))
            .or_else(|| issuers.find(issuer))
    }
}

impl fmt::Debug for CertificateMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Filters { fingerprints, subjects_of, subjects, issuers } = &*self.0;
        let subjects_of = subjects_of.values().map(|subjects| subjects.users.len());
        f.debug_struct("CertificateMap")
            .field("fingerprints", &fingerprints.len())
            .field("subjects_of_issuers", &subjects_of.sum::<usize>())
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

/// A filter that is there twice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("two entries are for {filter}, user {first} and user {second}; keep one of them")]
pub struct DuplicateFilter {
    /// The filter.
    pub filter: CertificateFilter,
    /// Whose it was first.
    pub first: UserId,
    /// Whose it was then.
    pub second: UserId,
}

/// Maps distributed identities by a list of them.
///
/// Registries and names are compared to the letter, but for e-mail addresses: in a name that is one
/// ([`EmailAddress`]), and that does not read as a [`DistinguishedName`], the letters `A-Z` are the
/// same as `a-z`. Identity providers write `Jane.Doe@Example.com` for what the list has as
/// `jane.doe@example.com`. The domain is the same in any case (RFC 5321 §2.4); mailboxes that only
/// differ by it could be, but are not in practice, and two entries that do are an error here. Other
/// letters are compared as they are: what folds to what is not the same everywhere.
///
/// ```
/// use tower_passticket::{
///     identity::{DistributedIdentity, DistributedMap, DistributedMapper},
///     passticket::UserId,
/// };
///
/// # tokio_test::block_on(async {
/// let registry = "ldaps://us.example.com";
/// let jane = DistributedIdentity::new("jane.doe@example.com", registry)?;
/// let map = DistributedMap::new([(jane, UserId::new("JANE")?)])?;
///
/// let asked = DistributedIdentity::new("Jane.Doe@Example.com", registry)?;
/// assert_eq!(map.map_identity(&asked).await?, UserId::new("JANE")?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Default)]
pub struct DistributedMap(Arc<HashMap<DistributedIdentity, UserId>>);

impl DistributedMap {
    /// Takes identities, in any order.
    ///
    /// # Errors
    /// [`DuplicateIdentity`] names an identity that is there twice, and its users.
    pub fn new(
        entries: impl IntoIterator<Item = (DistributedIdentity, UserId)>,
    ) -> Result<Self, DuplicateIdentity> {
        let mut users = HashMap::new();
        for (identity, user) in entries {
            insert(&mut users, folded(&identity), user).map_err(|first| DuplicateIdentity {
                identity,
                first,
                second: user,
            })?;
        }
        Ok(Self(Arc::new(users)))
    }

    fn map(&self, identity: &DistributedIdentity) -> Result<UserId, MapError> {
        self.0.get(&folded(identity)).copied().ok_or(MapError::NotMapped)
    }
}

/// The identity as it is compared.
fn folded(identity: &DistributedIdentity) -> DistributedIdentity {
    let name = identity.name();
    if EmailAddress::new(name).is_ok() && name.parse::<DistinguishedName>().is_err() {
        identity.to_ascii_lowercase_name()
    } else {
        identity.clone()
    }
}

impl fmt::Debug for DistributedMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DistributedMap").field("identities", &self.0.len()).finish()
    }
}

impl DistributedMapper for DistributedMap {
    fn map_identity(&self, identity: &DistributedIdentity) -> MapFuture {
        Box::pin(ready(self.map(identity)))
    }
}

/// An identity that is there twice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("two entries are for {identity}, user {first} and user {second}; keep one of them")]
pub struct DuplicateIdentity {
    /// The identity, as the second entry writes it.
    pub identity: DistributedIdentity,
    /// Whose it was first.
    pub first: UserId,
    /// Whose it was then.
    pub second: UserId,
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn name(text: &str) -> DistinguishedName {
        text.parse().unwrap()
    }

    fn user(text: &str) -> UserId {
        UserId::new(text).unwrap()
    }

    fn subject(text: &str) -> CertificateFilter {
        CertificateFilter::subject(name(text)).unwrap()
    }

    fn issuer(text: &str) -> CertificateFilter {
        CertificateFilter::issuer(name(text)).unwrap()
    }

    fn both(subject: &str, issuer: &str) -> CertificateFilter {
        CertificateFilter::subject_and_issuer(name(subject), name(issuer)).unwrap()
    }

    const SUBJECT: &str = "CN=Jane,OU=Payroll,O=Example,C=DE";
    const ISSUER: &str = "CN=Issuing,OU=CA,O=Trust";

    fn find(map: &CertificateMap, subject: &str, issuer: &str) -> Option<UserId> {
        map.find([7; 32].into(), &name(subject), &name(issuer))
    }

    /// From the most specific filter to the least.
    fn in_order() -> [CertificateFilter; 13] {
        [
            CertificateFilter::fingerprint([7; 32].into()),
            both(SUBJECT, ISSUER),
            both("OU=Payroll,O=Example,C=DE", ISSUER),
            both("O=Example,C=DE", ISSUER),
            both("C=DE", ISSUER),
            subject(SUBJECT),
            subject("OU=Payroll,O=Example,C=DE"),
            subject("O=Example,C=DE"),
            subject("C=DE"),
            issuer(ISSUER),
            issuer("OU=CA,O=Trust"),
            issuer("O=Trust"),
            // Matches nothing: a subject with a partial issuer.
            both(SUBJECT, "OU=CA,O=Trust"),
        ]
    }

    #[test]
    fn the_order_is_that_of_racf() {
        let filters = in_order();
        let (last, matching) = filters.split_last().unwrap();
        let entries: Vec<_> = filters
            .iter()
            .enumerate()
            .map(|(i, filter)| (filter.clone(), user(&format!("U{i}"))))
            .collect();
        for first in 0..=matching.len() {
            // Whatever order they come in.
            for reversed in [false, true] {
                let mut entries = entries[first..].to_vec();
                if reversed {
                    entries.reverse();
                }
                let map = CertificateMap::new(entries).unwrap();
                let want = (first < matching.len()).then(|| user(&format!("U{first}")));
                assert_eq!(find(&map, SUBJECT, ISSUER), want, "from {:?}", filters[first]);
            }
        }
        let map = CertificateMap::new([(last.clone(), user("X"))]).unwrap();
        assert_eq!(find(&map, SUBJECT, "OU=CA,O=Trust"), Some(user("X")), "it is the full issuer");
    }

    #[test]
    fn what_no_filter_matches_has_no_user() {
        let map = CertificateMap::new([
            (subject("OU=Payroll,O=Example,C=DE"), user("A")),
            (issuer("O=Trust"), user("B")),
            (both("O=Example,C=DE", ISSUER), user("C")),
        ])
        .unwrap();
        for (subject, issuer, want) in [
            ("CN=x,OU=Payroll,O=Example,C=DE", "O=other", Some("A")),
            ("OU=Payroll,O=Example,C=DE", "O=other", Some("A")),
            // The parts that are left out are the first ones, not the last.
            ("OU=Payroll,O=Example,C=DE,DC=x", "O=other", None),
            ("OU=Payroll,O=Example", "O=other", None),
            ("OU=payroll,O=Example,C=DE", "O=other", None),
            ("CN=x,OU=Pay,O=Example,C=DE", ISSUER, Some("C")),
            ("CN=x,OU=Pay,O=Example,C=DE", "O=Trust", Some("B")),
            ("C=DE", "CN=y,O=Trust", Some("B")),
            ("", "", None),
            ("", ISSUER, Some("B")),
            // A name that only reads like two parts.
            (r"CN=x\,OU=Payroll\,O=Example\,C=DE", "O=other", None),
        ] {
            assert_eq!(find(&map, subject, issuer), want.map(user), "{subject} {issuer}");
            assert_eq!(find(&CertificateMap::default(), subject, issuer), None);
        }
    }

    #[test]
    fn two_filters_that_are_the_same_are_an_error() {
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
        assert!(error.is_err(), "the same name, written differently");
    }

    #[test]
    fn a_certificate_is_mapped_by_its_names_and_its_fingerprint() {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Example");
        params.distinguished_name.push(DnType::CommonName, "Jane");
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let certificate = PeerCertificate::from_der(certificate.der().to_vec()).unwrap();
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

    fn identity(name: &str, registry: &str) -> DistributedIdentity {
        DistributedIdentity::new(name, registry).unwrap()
    }

    #[test]
    fn only_the_ascii_letters_of_addresses_are_folded() {
        let map = DistributedMap::new([
            (identity("Jane.Doe@example.com", "R"), user("JANE")),
            (identity("\u{c4}@example.com", "R"), user("UMLAUT")),
            (identity("CN=Jane@Example.com,O=x", "R"), user("DN")),
            (identity("Subject-1", "R"), user("SUB")),
            (identity("jane.doe@example.com", "S"), user("OTHER")),
        ])
        .unwrap();
        for (name, registry, want) in [
            ("jane.doe@EXAMPLE.com", "R", Some("JANE")),
            ("JANE.DOE@example.com", "S", Some("OTHER")),
            ("jane.doe@example.com", "r", None),
            ("jane.doe@example.org", "R", None),
            ("\u{c4}@Example.com", "R", Some("UMLAUT")),
            ("\u{e4}@example.com", "R", None),
            // U+212A folds to k in Unicode.
            ("jane.doe@e\u{212a}ample.com", "R", None),
            ("CN=Jane@Example.com,O=x", "R", Some("DN")),
            ("cn=jane@example.com,o=x", "R", None),
            ("Subject-1", "R", Some("SUB")),
            ("subject-1", "R", None),
        ] {
            let got = map.map(&identity(name, registry));
            assert_eq!(got, want.map(user).ok_or(MapError::NotMapped), "{name} {registry}");
        }
    }

    #[test]
    fn two_identities_that_are_the_same_are_an_error() {
        let twice = |one, other| {
            DistributedMap::new([
                (identity(one, "R"), user("A")),
                (identity(other, "R"), user("B")),
            ])
        };
        let error = twice("a@b.example", "A@b.example").unwrap_err();
        let second = identity("A@b.example", "R");
        assert_eq!(
            error,
            DuplicateIdentity { identity: second, first: user("A"), second: user("B") }
        );
        assert!(twice("x", "x").is_err());
        assert!(twice("x", "X").is_ok());
    }
}
