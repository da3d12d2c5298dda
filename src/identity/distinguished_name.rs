//! Distinguished names: the subject and the issuer of a certificate.

use std::{borrow::Borrow, fmt};

use x509_cert::{
    der::{Encode, Tag, Tagged, asn1::Any},
    name::Name,
};

use super::attribute_type::AttributeType;

/// A distinguished name (X.501). The most specific part comes first, as in RFC 4514.
///
/// Two names are equal if they have the same parts in the same order. A part is a set of attributes, so `CN=a+OU=b`
/// equals `OU=b+CN=a`. Attribute types are equal if their object identifiers are equal, so `cn`, `CN`, `commonName` and
/// `2.5.4.3` are equal. The case of values matters. If a value can be read as text, its ASN.1 string type in the
/// certificate does not matter.
///
/// `FromStr` parses the text form of RFC 4514 §3, and ignores blanks around `,`, `+` and `=`. It accepts each attribute
/// type as an object identifier, and common types also by their names, such as `CN` or `commonName`. `S` and `SP` are
/// other names of `ST`, and `E` is another name of `emailAddress`. `Display` writes the text form of RFC 4514 §2.
///
/// ```
/// use tower_passticket::identity::DistinguishedName;
///
/// let name: DistinguishedName = r"cn=Doe\, Jane, OU=Payroll, O=Example, C=DE".parse()?;
/// assert_eq!(name, r"CN=Doe\2C Jane,OU=Payroll,O=Example,2.5.4.6=DE".parse()?);
/// assert_ne!(name, r"CN=doe\, jane,OU=Payroll,O=Example,C=DE".parse()?);
/// assert_eq!(name.to_string(), r"CN=Doe\, Jane,OU=Payroll,O=Example,C=DE");
///
/// let unit = name.rdns().iter().flat_map(|rdn| rdn.attributes());
/// let unit: Vec<_> = unit.filter(|attribute| attribute.kind().name() == Some("OU")).collect();
/// assert_eq!(unit[0].text(), Some("Payroll"));
/// # Ok::<(), tower_passticket::identity::NameSyntaxError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct DistinguishedName(Box<[Rdn]>);

/// One part of a name (a relative distinguished name). It has at least one attribute, and usually exactly one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rdn(
    /// The attributes, sorted and without duplicates, so that equal sets are equal slices.
    Box<[Attribute]>,
);

/// One attribute of a name, such as `OU=Payroll`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Attribute {
    kind: AttributeType,
    value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Value {
    Text(Box<str>),
    /// The DER of a value that cannot be read as text.
    Der(Box<[u8]>),
}

impl DistinguishedName {
    pub(super) fn new(rdns: Vec<Rdn>) -> Self {
        Self(rdns.into())
    }

    /// Returns whether the name has no parts. The subject of a certificate can be empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the number of parts.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the parts, with the most specific part first.
    pub fn rdns(&self) -> &[Rdn] {
        &self.0
    }
}

/// In a map whose keys are names, a caller can look up the last parts of a name without a copy.
impl Borrow<[Rdn]> for DistinguishedName {
    fn borrow(&self) -> &[Rdn] {
        &self.0
    }
}

impl Rdn {
    pub(super) fn new(mut attributes: Vec<Attribute>) -> Self {
        attributes.sort_unstable();
        attributes.dedup();
        Self(attributes.into())
    }

    /// Returns the attributes without duplicates. Their order does not depend on how the name was written.
    pub fn attributes(&self) -> &[Attribute] {
        &self.0
    }
}

impl Attribute {
    pub(super) fn new(kind: AttributeType, value: Value) -> Self {
        Self { kind, value }
    }

    /// Returns the type of the attribute.
    pub fn kind(&self) -> AttributeType {
        self.kind
    }

    /// Returns the value without escapes, or `None` if the value cannot be read as text.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            Value::Der(_) => None,
        }
    }
}

/// Converts a name from a certificate.
impl From<&Name> for DistinguishedName {
    fn from(name: &Name) -> Self {
        let mut rdns: Vec<_> = name
            .iter_rdn()
            .map(|rdn| {
                let attributes = rdn.iter().map(|attribute| Attribute {
                    kind: AttributeType(attribute.oid),
                    value: Value::from(&attribute.value),
                });
                Rdn::new(attributes.collect())
            })
            .collect();
        // A certificate has the least specific part first, and the text form has it last (RFC 4514 §2.1).
        rdns.reverse();
        Self(rdns.into())
    }
}

impl From<&Any> for Value {
    fn from(value: &Any) -> Self {
        let bytes = value.value();
        let text = match value.tag() {
            Tag::Utf8String => str::from_utf8(bytes).ok().map(str::to_owned),
            Tag::BmpString => utf16(bytes),
            // If a TeletexString is not ASCII, its character set is not known. So it is not read as text.
            Tag::PrintableString
            | Tag::Ia5String
            | Tag::NumericString
            | Tag::VisibleString
            | Tag::TeletexString => {
                str::from_utf8(bytes).ok().filter(|text| text.is_ascii()).map(str::to_owned)
            }
            _ => None,
        };
        match text {
            Some(text) => Self::Text(text.into()),
            // Encoding cannot fail, because the value was decoded from DER.
            None => Self::Der(value.to_der().unwrap_or_else(|_| bytes.to_vec()).into()),
        }
    }
}

fn utf16(bytes: &[u8]) -> Option<String> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let units = pairs.iter().copied().map(u16::from_be_bytes);
    let text = char::decode_utf16(units).collect::<Result<_, _>>().ok();
    text.filter(|_| rest.is_empty())
}

impl fmt::Display for DistinguishedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, rdn) in self.0.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            write!(f, "{comma}{rdn}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for DistinguishedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DistinguishedName({self})")
    }
}

impl fmt::Display for Rdn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, attribute) in self.0.iter().enumerate() {
            let plus = if i > 0 { "+" } else { "" };
            write!(f, "{plus}{attribute}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=", self.kind)?;
        match (&self.value, self.kind.name()) {
            (Value::Text(text), Some(_)) => write_escaped(f, text),
            (Value::Text(text), None) => {
                let any = Any::new(Tag::Utf8String, text.as_bytes()).map_err(|_| fmt::Error)?;
                write_hex(f, &any.to_der().map_err(|_| fmt::Error)?)
            }
            (Value::Der(der), _) => write_hex(f, der),
        }
    }
}

impl fmt::Debug for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Attribute({self})")
    }
}

fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    f.write_str("#")?;
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
}

/// Escapes a value (RFC 4514 §2.4). Also escapes control characters, because a name must not break a log line. The RFC
/// permits this.
fn write_escaped(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let last = text.char_indices().next_back().map(|(i, _)| i);
    for (i, c) in text.char_indices() {
        match c {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => write!(f, "\\{c}")?,
            '#' if i == 0 => f.write_str("\\#")?,
            ' ' if i == 0 || Some(i) == last => f.write_str("\\ ")?,
            c if c.is_control() => {
                let mut bytes = [0; 4];
                for byte in c.encode_utf8(&mut bytes).bytes() {
                    write!(f, "\\{byte:02X}")?;
                }
            }
            c => write!(f, "{c}")?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rcgen::{DnType, DnValue};
    use test_support::pki::self_signed;

    use super::*;
    use crate::identity::PeerCertificate;

    fn name(text: &str) -> DistinguishedName {
        text.parse().unwrap()
    }

    #[test]
    fn names_with_different_values_parts_or_order_are_not_equal() {
        for (left, right) in [
            ("CN=a", "CN=A"),
            ("CN=a,O=b", "O=b,CN=a"),
            ("CN=a,O=b", "CN=a+O=b"),
            ("CN=a,O=b", "CN=a"),
            ("CN=a", "OU=a"),
            ("CN=a  b", "CN=a b"),
            (r"CN=a\ ", "CN=a"),
            ("CN=#020101", r"CN=\01"),
        ] {
            assert_ne!(name(left), name(right), "{left} {right}");
        }
    }

    #[test]
    fn a_name_from_a_certificate_is_reversed_and_its_string_types_are_decoded() {
        let mut subject = rcgen::DistinguishedName::new();
        subject.push(DnType::CountryName, DnValue::PrintableString("DE".try_into().unwrap()));
        subject.push(DnType::OrganizationName, DnValue::Utf8String("Ex, ample".to_owned()));
        subject
            .push(DnType::OrganizationalUnitName, DnValue::BmpString("\u{c4}".try_into().unwrap()));
        subject.push(DnType::CustomDnType(vec![1, 2, 3]), "v");
        subject.push(DnType::CommonName, DnValue::TeletexString("jane".try_into().unwrap()));
        let der = self_signed(|params| params.distinguished_name = subject);
        let certificate = PeerCertificate::from_der(der).unwrap();
        let want = "CN=jane,1.2.3=#0C0176,OU=\u{c4},O=Ex\\, ample,C=DE";
        assert_eq!(*certificate.subject_name(), name(want));
        assert_eq!(certificate.subject(), want);
        assert_eq!(certificate.issuer_name(), certificate.subject_name());
        assert_eq!(certificate.issuer(), want);
    }
}
