//! Distinguished names: what a certificate says of its subject and of its issuer.

use std::{borrow::Borrow, fmt, str::FromStr};

use x509_cert::{
    der::{
        Decode, Encode, Tag, Tagged,
        asn1::{Any, ObjectIdentifier},
    },
    name::Name,
};

/// A distinguished name (X.501), the most specific part first, as RFC 4514 writes it.
///
/// Two names are the same when they have the same parts in the same order. A part is a set of
/// attributes: `CN=a+OU=b` is `OU=b+CN=a`. Types are compared as what they stand for, so `cn`,
/// `CN`, `commonName` and `2.5.4.3` are the same; values to the letter, whatever string type of
/// ASN.1 a certificate has them in.
///
/// Texts are read as RFC 4514 §3 says; blanks around `,`, `+` and `=` do not matter. Besides the
/// short names of its table, those of RFC 4519 are known, and `E` for the e-mail address of PKCS #9.
/// `Display` writes RFC 4514 §2.
///
/// ```
/// use tower_passticket::identity::DistinguishedName;
///
/// let name: DistinguishedName = r"cn=Doe\, Jane, OU=Payroll, O=Example, C=DE".parse()?;
/// assert_eq!(name, r"CN=Doe\2C Jane,OU=Payroll,O=Example,2.5.4.6=DE".parse()?);
/// assert_ne!(name, r"CN=doe\, jane,OU=Payroll,O=Example,C=DE".parse()?);
/// assert_eq!(name.to_string(), r"CN=Doe\, Jane,OU=Payroll,O=Example,C=DE");
/// # Ok::<(), tower_passticket::identity::NameSyntaxError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct DistinguishedName(Box<[Rdn]>);

/// One part of a name: attributes, sorted, each once, at least one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Rdn(Box<[Attribute]>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Attribute {
    kind: ObjectIdentifier,
    value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Value {
    Text(Box<str>),
    /// DER of what is no text, or of a string type whose characters nobody agrees on.
    Der(Box<[u8]>),
}

impl DistinguishedName {
    /// Whether it has no parts. A certificate may have such a subject; a filter may not.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many parts it has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn rdns(&self) -> &[Rdn] {
        &self.0
    }
}

/// A name is looked up by the last parts of a longer one.
impl Borrow<[Rdn]> for DistinguishedName {
    fn borrow(&self) -> &[Rdn] {
        &self.0
    }
}

impl Rdn {
    fn new(mut attributes: Vec<Attribute>) -> Self {
        attributes.sort_unstable();
        attributes.dedup();
        Self(attributes.into())
    }
}

/// The name as a certificate has it.
impl From<&Name> for DistinguishedName {
    fn from(name: &Name) -> Self {
        let mut rdns: Vec<_> = name
            .iter_rdn()
            .map(|rdn| {
                let attributes = rdn.iter().map(|attribute| Attribute {
                    kind: attribute.oid,
                    value: Value::from(&attribute.value),
                });
                Rdn::new(attributes.collect())
            })
            .collect();
        // A certificate begins with the country (RFC 4514 §2.1).
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
            // Beyond ASCII, writers of TeletexString do not agree on what the bytes mean.
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
            // What has been decoded has an encoding.
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

/// Attribute types by name. The first name of a type is the one that is written.
///
/// RFC 4514 §3, RFC 4519 §2, X.520, PKCS #9 (RFC 2985 §5.2.1).
const TYPES: [(&str, &[&str]); 25] = [
    ("2.5.4.3", &["CN", "commonName"]),
    ("2.5.4.4", &["SN", "surname"]),
    ("2.5.4.5", &["serialNumber"]),
    ("2.5.4.6", &["C", "countryName"]),
    ("2.5.4.7", &["L", "localityName"]),
    ("2.5.4.8", &["ST", "stateOrProvinceName"]),
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

fn type_of(name: &str) -> Option<ObjectIdentifier> {
    let known = |names: &[&str]| names.iter().any(|known| known.eq_ignore_ascii_case(name));
    let oid = TYPES.iter().find(|(_, names)| known(names)).map_or(name, |(oid, _)| oid);
    ObjectIdentifier::new(oid).ok()
}

fn name_of(kind: ObjectIdentifier) -> Option<&'static str> {
    let oid = kind.to_string();
    TYPES.iter().find(|(known, _)| *known == oid).map(|(_, names)| names[0])
}

impl fmt::Display for DistinguishedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, rdn) in self.0.iter().enumerate() {
            for (j, attribute) in rdn.0.iter().enumerate() {
                let separator = match (i, j) {
                    (0, 0) => "",
                    (_, 0) => ",",
                    _ => "+",
                };
                write!(f, "{separator}{attribute}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for DistinguishedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DistinguishedName({self})")
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.value, name_of(self.kind)) {
            (Value::Text(text), Some(name)) => {
                write!(f, "{name}=")?;
                write_escaped(f, text)
            }
            // A type without a name has its value in hexadecimal (RFC 4514 §2.4).
            (Value::Text(text), None) => {
                let any = Any::new(Tag::Utf8String, text.as_bytes()).map_err(|_| fmt::Error)?;
                write!(f, "{}=", self.kind)?;
                write_hex(f, &any.to_der().map_err(|_| fmt::Error)?)
            }
            (Value::Der(der), name) => {
                match name {
                    Some(name) => write!(f, "{name}=")?,
                    None => write!(f, "{}=", self.kind)?,
                }
                write_hex(f, der)
            }
        }
    }
}

fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    f.write_str("#")?;
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
}

/// RFC 4514 §2.4; control characters too, which it allows, so that a log line stays one.
fn write_escaped(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let last = text.char_indices().next_back().map(|(i, _)| i);
    for (i, c) in text.char_indices() {
        match c {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => write!(f, "\\{c}")?,
            '#' if i == 0 => f.write_str("\\#")?,
            ' ' if i == 0 || Some(i) == last => f.write_str("\\ ")?,
            // Trimming would take other blanks at the ends for ours, were they not escaped.
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

/// A text that is no distinguished name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no distinguished name: {problem}; write it as CN=name,OU=unit,O=company,C=DE")]
pub struct NameSyntaxError {
    text: String,
    problem: NameProblem,
}

impl NameSyntaxError {
    /// What is wrong.
    pub fn problem(&self) -> &NameProblem {
        &self.problem
    }
}

/// What is wrong with a text that is to be a distinguished name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameProblem {
    /// There is no `=` where one must be.
    #[error("a part has no \"=\"")]
    NoEquals,
    /// The type is neither a name that we know nor an object identifier.
    #[error("the attribute type {0:?} is not known; write a name like CN, or an OID like 2.5.4.3")]
    Type(String),
    /// A character that must be escaped is not.
    #[error("the character {0:?} must be written \"\\{0}\" in a value")]
    Unescaped(char),
    /// A backslash with something behind it that it cannot stand before.
    #[error("a backslash stands before what it cannot escape")]
    Escape,
    /// Bytes that were written in hexadecimal and are no UTF-8.
    #[error("the escaped bytes of a value are not UTF-8")]
    NotUtf8,
    /// What follows a `#` is no DER in hexadecimal.
    #[error(
        "a value that begins with \"#\" must be DER in hexadecimal; write \"\\#\" for the sign"
    )]
    Hex,
}

impl FromStr for DistinguishedName {
    type Err = NameSyntaxError;

    /// The empty text is the empty name.
    fn from_str(text: &str) -> Result<Self, NameSyntaxError> {
        parse(text)
            .map_err(|problem| NameSyntaxError { text: text.chars().take(200).collect(), problem })
    }
}

fn parse(text: &str) -> Result<DistinguishedName, NameProblem> {
    if text.trim_matches(' ').is_empty() {
        return Ok(DistinguishedName::default());
    }
    let (mut rdns, mut attributes) = (Vec::new(), Vec::new());
    let mut rest = text;
    loop {
        let (kind, value) = rest.split_once('=').ok_or(NameProblem::NoEquals)?;
        let kind = kind.trim_matches(' ');
        let kind = type_of(kind)
            .ok_or_else(|| NameProblem::Type(kind.chars().take(80).collect::<String>()))?;
        let end = end_of_value(value)?;
        attributes.push(Attribute { kind, value: parse_value(&value[..end])? });
        let separator = value[end..].chars().next();
        if separator != Some('+') {
            rdns.push(Rdn::new(std::mem::take(&mut attributes)));
        }
        if separator.is_none() {
            return Ok(DistinguishedName(rdns.into()));
        }
        rest = &value[end + 1..];
    }
}

/// Where the value ends: at a `,` or `+` that is not escaped, or with the text.
fn end_of_value(text: &str) -> Result<usize, NameProblem> {
    let mut escaped = false;
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' | '+' => return Ok(i),
            '"' | ';' | '<' | '>' | '\0' => return Err(NameProblem::Unescaped(c)),
            _ => {}
        }
    }
    if escaped { Err(NameProblem::Escape) } else { Ok(text.len()) }
}

fn parse_value(text: &str) -> Result<Value, NameProblem> {
    let text = text.trim_start_matches(' ');
    if let Some(hex) = text.strip_prefix('#') {
        let der = unhex(hex.trim_end_matches(' ')).ok_or(NameProblem::Hex)?;
        return Any::from_der(&der).map(|any| Value::from(&any)).map_err(|_| NameProblem::Hex);
    }
    let mut bytes = Vec::with_capacity(text.len());
    // How much of it is not blanks at the end that nobody escaped.
    let mut end = 0;
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            if byte != b' ' {
                end = bytes.len();
            }
            continue;
        }
        let next = rest.next().ok_or(NameProblem::Escape)?;
        bytes.push(match next {
            b'\\' | b'"' | b'+' | b',' | b';' | b'<' | b'>' | b' ' | b'#' | b'=' => next,
            high => {
                let low = rest.next().ok_or(NameProblem::Escape)?;
                hex_byte(high, low).ok_or(NameProblem::Escape)?
            }
        });
        end = bytes.len();
    }
    bytes.truncate(end);
    let text = String::from_utf8(bytes).map_err(|_| NameProblem::NotUtf8)?;
    Ok(Value::Text(text.into()))
}

fn hex_byte(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| hex_byte(*high, *low)).collect::<Option<_>>();
    bytes.filter(|_| rest.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, DnValue, KeyPair};

    use super::*;
    use crate::identity::PeerCertificate;

    fn name(text: &str) -> DistinguishedName {
        text.parse().unwrap()
    }

    #[test]
    fn texts_of_rfc_4514_are_read_and_written() {
        for (text, want) in [
            // Its examples, §4.
            ("UID=jsmith,DC=example,DC=net", "UID=jsmith,DC=example,DC=net"),
            ("OU=Sales+CN=J.  Smith,DC=example,DC=net", "CN=J.  Smith+OU=Sales,DC=example,DC=net"),
            (r#"CN=James \"Jim\" Smith\, III,DC=net"#, r#"CN=James \"Jim\" Smith\, III,DC=net"#),
            (r"CN=Before\0dAfter,DC=example", r"CN=Before\0DAfter,DC=example"),
            ("1.3.6.1.4.1.1466.0=#04024869", "1.3.6.1.4.1.1466.0=#04024869"),
            (r"CN=Lu\C4\8Di\C4\87", "CN=Lu\u{10d}i\u{107}"),
            // A string in hexadecimal is a string.
            ("CN=#0C0161", "CN=a"),
            ("CN=#130161", "CN=a"),
            ("1.2.3.4=a", "1.2.3.4=#0C0161"),
            ("cn = a , ou = b + o = c", "CN=a,O=c+OU=b"),
            (r"CN=\ a\ ", r"CN=\ a\ "),
            (r"CN=a\20", r"CN=a\ "),
            (r"CN=\#a#b", r"CN=\#a#b"),
            ("CN=a=b", "CN=a=b"),
            ("CN=,O=x", "CN=,O=x"),
            ("CN=a+CN=a", "CN=a"),
            (r"CN=\5C\2C", r"CN=\\\,"),
            ("e=a@b.example", "emailAddress=a@b.example"),
            ("T=x,SERIALNUMBER=1", "title=x,serialNumber=1"),
            ("commonName=a,2.5.4.10=b", "CN=a,O=b"),
            ("", ""),
            ("  ", ""),
        ] {
            assert_eq!(name(text).to_string(), want, "{text}");
            assert_eq!(name(text), name(want), "{text}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for (text, want) in [
            ("a", NameProblem::NoEquals),
            ("CN=a,", NameProblem::NoEquals),
            ("CN=a+", NameProblem::NoEquals),
            ("CN=a,,O=b", NameProblem::Type(",O".to_owned())),
            ("=a", NameProblem::Type(String::new())),
            ("/C=DE/CN=x", NameProblem::Type("/C".to_owned())),
            ("CNN=a", NameProblem::Type("CNN".to_owned())),
            ("2.5=,9.9.9=a", NameProblem::Type("9.9.9".to_owned())),
            ("CN=\"a, b\"", NameProblem::Unescaped('"')),
            ("CN=a;O=b", NameProblem::Unescaped(';')),
            ("CN=a\0", NameProblem::Unescaped('\0')),
            ("CN=a\\", NameProblem::Escape),
            (r"CN=a\x", NameProblem::Escape),
            (r"CN=a\4", NameProblem::Escape),
            (r"CN=a\4x", NameProblem::Escape),
            (r"CN=\FF", NameProblem::NotUtf8),
            ("CN=#", NameProblem::Hex),
            ("CN=#0", NameProblem::Hex),
            ("CN=#xx", NameProblem::Hex),
            ("CN=#0C02", NameProblem::Hex),
        ] {
            let error = text.parse::<DistinguishedName>().unwrap_err();
            assert_eq!(*error.problem(), want, "{text}");
            assert!(error.to_string().contains("write it as"), "{error}");
        }
    }

    #[test]
    fn values_are_compared_to_the_letter_and_order_counts() {
        for (one, other) in [
            ("CN=a", "CN=A"),
            ("CN=a,O=b", "O=b,CN=a"),
            ("CN=a,O=b", "CN=a+O=b"),
            ("CN=a,O=b", "CN=a"),
            ("CN=a", "OU=a"),
            ("CN=a  b", "CN=a b"),
            (r"CN=a\ ", "CN=a"),
            ("CN=#020101", r"CN=\01"),
        ] {
            assert_ne!(name(one), name(other), "{one} {other}");
        }
    }

    #[test]
    fn a_certificate_has_it_the_other_way_round_in_any_string_type() {
        let mut params = CertificateParams::default();
        let mut subject = rcgen::DistinguishedName::new();
        subject.push(DnType::CountryName, DnValue::PrintableString("DE".try_into().unwrap()));
        subject.push(DnType::OrganizationName, DnValue::Utf8String("Ex, ample".to_owned()));
        subject
            .push(DnType::OrganizationalUnitName, DnValue::BmpString("\u{c4}".try_into().unwrap()));
        subject.push(DnType::CustomDnType(vec![1, 2, 3]), "v");
        subject.push(DnType::CommonName, DnValue::TeletexString("jane".try_into().unwrap()));
        params.distinguished_name = subject;
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let certificate = PeerCertificate::from_der(certificate.der().to_vec()).unwrap();
        let want = "CN=jane,1.2.3=#0C0176,OU=\u{c4},O=Ex\\, ample,C=DE";
        assert_eq!(*certificate.subject_name(), name(want));
        assert_eq!(certificate.subject(), want);
        assert_eq!(certificate.issuer_name(), certificate.subject_name());
        assert_eq!(certificate.issuer(), want);
    }

    fn arbitrary_name() -> impl Strategy<Value = DistinguishedName> {
        let kind = prop_oneof![
            proptest::sample::select(TYPES.map(|(oid, _)| oid).to_vec()),
            Just("1.3.6.1.4.1.99999.1"),
        ];
        let value = prop_oneof![
            4 => any::<String>(),
            2 => "[ #+,;<>=\\\\\"a\0]{0,6}",
            1 => proptest::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| {
                let der = Any::new(Tag::OctetString, bytes).unwrap().to_der().unwrap();
                format!("#{}", der.iter().map(|b| format!("{b:02x}")).collect::<String>())
            }),
        ];
        let attribute = (kind, value, any::<bool>()).prop_map(|(kind, value, raw)| Attribute {
            kind: ObjectIdentifier::new(kind).unwrap(),
            value: match value.strip_prefix('#') {
                Some(_) if raw => parse_value(&value).unwrap_or(Value::Text(value.into())),
                _ => Value::Text(value.into()),
            },
        });
        let rdn = proptest::collection::vec(attribute, 1..4).prop_map(Rdn::new);
        proptest::collection::vec(rdn, 0..5).prop_map(|rdns| DistinguishedName(rdns.into()))
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_text_makes_the_parser_panic(text in any::<String>(), tail in "[ CNO=,+#\\\\a0-9\"]{0,30}") {
            let _ = text.parse::<DistinguishedName>();
            let _ = tail.parse::<DistinguishedName>();
            let _ = format!("CN={text}").parse::<DistinguishedName>();
            let _ = format!("CN={tail}").parse::<DistinguishedName>();
        }

        #[test]
        fn what_is_written_reads_the_same(name in arbitrary_name()) {
            let text = name.to_string();
            prop_assert_eq!(text.parse::<DistinguishedName>(), Ok(name), "{}", text);
            prop_assert!(!text.contains(char::is_control));
        }
    }
}
