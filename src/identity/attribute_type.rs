//! The types of attributes in a distinguished name, such as `CN`.

use std::fmt;

use x509_cert::der::asn1::ObjectIdentifier;

/// The type of an attribute in a [`DistinguishedName`](super::DistinguishedName).
///
/// A type is an object identifier (OID), such as `2.5.4.3`. Common types also have names, such as `CN`. Two types are
/// equal if their object identifiers are equal. So `CN`, `cn`, `commonName` and `2.5.4.3` are the same type. `Display`
/// writes the [`name`](Self::name), or the object identifier if the type has no known name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttributeType(pub(super) ObjectIdentifier);

/// Object identifiers and their names. The first name is the name that `Display` writes.
///
/// The sources are RFC 4514 §3, RFC 4519 §2, X.520 and PKCS #9 (RFC 2985 §5.2.1). RACF, IBM's security product for
/// z/OS, uses the name `SP` for the state or province (docs/reference/security-products.md#certificate-mappings).
pub(super) const TYPES: [(&str, &[&str]); 25] = [
    ("2.5.4.3", &["CN", "commonName"]),
    ("2.5.4.4", &["SN", "surname"]),
    ("2.5.4.5", &["serialNumber"]),
    ("2.5.4.6", &["C", "countryName"]),
    ("2.5.4.7", &["L", "localityName"]),
    ("2.5.4.8", &["ST", "stateOrProvinceName", "S", "SP"]),
    ("2.5.4.9", &["STREET", "streetAddress"]),
    ("2.5.4.10", &["O", "organizationName"]),
    ("2.5.4.11", &["OU", "organizationalUnitName"]),
    ("2.5.4.12", &["title", "T"]),
    ("2.5.4.13", &["description"]),
    ("2.5.4.15", &["businessCategory"]),
    ("2.5.4.16", &["postalAddress"]),
    ("2.5.4.17", &["postalCode"]),
    ("2.5.4.41", &["name"]),
    ("2.5.4.42", &["givenName", "GN"]),
    ("2.5.4.43", &["initials"]),
    ("2.5.4.44", &["generationQualifier"]),
    ("2.5.4.46", &["dnQualifier"]),
    ("2.5.4.65", &["pseudonym"]),
    ("2.5.4.97", &["organizationIdentifier"]),
    ("0.9.2342.19200300.100.1.1", &["UID", "userId"]),
    ("0.9.2342.19200300.100.1.3", &["mail", "rfc822Mailbox"]),
    ("0.9.2342.19200300.100.1.25", &["DC", "domainComponent"]),
    ("1.2.840.113549.1.9.1", &["emailAddress", "E"]),
];

impl AttributeType {
    /// Reads a known name in any case, or an object identifier such as `2.5.4.3`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let known = |names: &[&str]| names.iter().any(|known| known.eq_ignore_ascii_case(text));
        let oid = TYPES.iter().find(|(_, names)| known(names)).map_or(text, |(oid, _)| oid);
        ObjectIdentifier::new(oid).ok().map(Self)
    }

    /// Returns the name, such as `CN`, `OU` or `emailAddress`. `None` if the type has no known name.
    pub fn name(self) -> Option<&'static str> {
        let oid = self.0.to_string();
        TYPES.iter().find(|(known, _)| *known == oid).map(|(_, names)| names[0])
    }
}

impl fmt::Display for AttributeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

impl fmt::Debug for AttributeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AttributeType({self})")
    }
}
