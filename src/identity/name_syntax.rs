//! Parses distinguished names (RFC 4514 §3).
//!
//! The crate x509-cert also has a parser for these names. The tests in this file compare it with this parser. There are
//! three reasons not to use the parser of x509-cert:
//! - It splits `a\\\,OU=b` (an escaped backslash, then an escaped comma) into two parts. So the end of a value becomes
//!   a part of the name, and the name can match a filter that it must not match.
//! - It reads some texts wrongly. It treats blanks around separators as a part of the value, reads one hexadecimal
//!   digit as a whole byte, and accepts values that are not UTF-8.
//! - Its errors do not tell an operator the text and the mistake.

use std::str::FromStr;

use x509_cert::der::{Decode, asn1::Any};

use super::{
    attribute_type::AttributeType,
    distinguished_name::{Attribute, DistinguishedName, Rdn, Value},
};
use crate::hexadecimal;

/// The text is not a distinguished name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a distinguished name: {problem}; write it as CN=name,OU=unit,O=company,C=DE"
)]
pub struct NameSyntaxError {
    text: String,
    problem: NameProblem,
}

impl NameSyntaxError {
    /// Returns the first fault in the text.
    pub fn problem(&self) -> &NameProblem {
        &self.problem
    }
}

/// A fault in a text that should be a distinguished name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameProblem {
    /// A part has no `=`.
    #[error("a part has no \"=\"")]
    NoEquals,
    /// The attribute type is neither a known name nor an object identifier.
    #[error("the attribute type {0:?} is not known; write a name like CN, or an OID like 2.5.4.3")]
    Type(String),
    /// A character that must be escaped is not escaped.
    #[error("the character {0:?} must be written \"\\{code:02x}\" in a value", code = u32::from(*.0))]
    Unescaped(char),
    /// A backslash is followed neither by a character that can be escaped nor by two hexadecimal digits.
    #[error("a backslash must be followed by a special character or by two hexadecimal digits")]
    Escape,
    /// The bytes of a value, written as hexadecimal digits, are not UTF-8.
    #[error("the escaped bytes of a value are not UTF-8")]
    NotUtf8,
    /// A value that begins with `#` is not DER in hexadecimal.
    #[error(
        "a value that begins with \"#\" must be DER in hexadecimal; write \"\\#\" if it is text"
    )]
    Hex,
}

impl FromStr for DistinguishedName {
    type Err = NameSyntaxError;

    /// Parses the text form of RFC 4514 §3. An empty text, or a text with only blanks, becomes a name without parts.
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
        if kind.contains([',', '+']) {
            return Err(NameProblem::NoEquals);
        }
        let kind = kind.trim_matches(' ');
        let kind = AttributeType::parse(kind)
            .ok_or_else(|| NameProblem::Type(kind.chars().take(80).collect::<String>()))?;
        let end = end_of_value(value)?;
        attributes.push(Attribute::new(kind, parse_value(&value[..end])?));
        let separator = value[end..].chars().next();
        if separator != Some('+') {
            rdns.push(Rdn::new(std::mem::take(&mut attributes)));
        }
        if separator.is_none() {
            return Ok(DistinguishedName::new(rdns));
        }
        rest = &value[end + 1..];
    }
}

/// Returns the index of the first `,` or `+` that is not escaped, or the length of the text.
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
    // The length of `bytes` without trailing blanks. An escaped blank is not a trailing blank.
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
                hexadecimal::byte(high, low).ok_or(NameProblem::Escape)?
            }
        });
        end = bytes.len();
    }
    bytes.truncate(end);
    let text = String::from_utf8(bytes).map_err(|_| NameProblem::NotUtf8)?;
    Ok(Value::Text(text.into()))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes =
        pairs.iter().map(|[high, low]| hexadecimal::byte(*high, *low)).collect::<Option<_>>();
    bytes.filter(|_| rest.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use x509_cert::{der::Tag, name::Name};

    use super::*;
    use crate::identity::attribute_type::TYPES;

    fn name(text: &str) -> DistinguishedName {
        text.parse().unwrap()
    }

    #[test]
    fn names_are_parsed_and_written_in_the_form_of_rfc_4514() {
        for (text, want) in [
            // The examples in RFC 4514 §4.
            ("UID=jsmith,DC=example,DC=net", "UID=jsmith,DC=example,DC=net"),
            ("OU=Sales+CN=J.  Smith,DC=example,DC=net", "CN=J.  Smith+OU=Sales,DC=example,DC=net"),
            (r#"CN=James \"Jim\" Smith\, III,DC=net"#, r#"CN=James \"Jim\" Smith\, III,DC=net"#),
            (r"CN=Before\0dAfter,DC=example", r"CN=Before\0DAfter,DC=example"),
            ("1.3.6.1.4.1.1466.0=#04024869", "1.3.6.1.4.1.1466.0=#04024869"),
            (r"CN=Lu\C4\8Di\C4\87", "CN=Lu\u{10d}i\u{107}"),
            // A value that begins with `#` is DER in hexadecimal. If the DER is a string, the value becomes text. If an
            // attribute type has no name, its value is written as DER.
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
            ("S=a,SP=b", "ST=a,ST=b"),
            ("commonName=a,2.5.4.10=b", "CN=a,O=b"),
            ("", ""),
            ("  ", ""),
        ] {
            assert_eq!(name(text).to_string(), want, "{text}");
            assert_eq!(name(text), name(want), "{text}");
        }
    }

    #[test]
    fn a_malformed_name_is_an_error() {
        for (text, want) in [
            ("a", NameProblem::NoEquals),
            ("CN=a,", NameProblem::NoEquals),
            ("CN=a+", NameProblem::NoEquals),
            ("CN=a,,O=b", NameProblem::NoEquals),
            ("CN=a+b,O=c", NameProblem::NoEquals),
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

    /// If the second assertion fails, a new release of x509-cert has fixed its parser.
    #[test]
    fn x509_cert_splits_at_an_escaped_comma_after_an_escaped_backslash() {
        let text = r"CN=a\\\,OU=b";
        assert_eq!(name(text).len(), 1);
        assert_eq!(text.parse::<Name>().unwrap().len(), 2);
    }

    fn arbitrary_value() -> impl Strategy<Value = Value> {
        let octets = proptest::collection::vec(any::<u8>(), 0..20);
        prop_oneof![
            4 => any::<String>().prop_map(|text| Value::Text(text.into())),
            2 => "[ #+,;<>=\\\\\"a\0]{0,6}".prop_map(|text| Value::Text(text.into())),
            1 => octets
                .prop_map(|bytes| Value::from(&Any::new(Tag::OctetString, bytes).unwrap())),
        ]
    }

    fn arbitrary_name(types: Vec<&'static str>) -> impl Strategy<Value = DistinguishedName> {
        let kind = prop_oneof![proptest::sample::select(types), Just("1.3.6.1.4.1.99999.1")];
        let attribute = (kind, arbitrary_value())
            .prop_map(|(kind, value)| Attribute::new(AttributeType::parse(kind).unwrap(), value));
        let rdn = proptest::collection::vec(attribute, 1..4).prop_map(Rdn::new);
        proptest::collection::vec(rdn, 0..5).prop_map(DistinguishedName::new)
    }

    fn any_name() -> impl Strategy<Value = DistinguishedName> {
        arbitrary_name(TYPES.map(|(oid, _)| oid).to_vec())
    }

    /// Returns names with which the tests compare both parsers. The names have no C and DC, because x509-cert encodes
    /// these values as a string type that permits only ASCII.
    fn comparable_name() -> impl Strategy<Value = DistinguishedName> {
        arbitrary_name(vec!["CN", "L", "ST", "O", "OU", "STREET", "UID"])
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_parser_never_panics(text in any::<String>(), tail in "[ CNO=,+#\\\\a0-9\"]{0,30}") {
            let _ = text.parse::<DistinguishedName>();
            let _ = tail.parse::<DistinguishedName>();
            let _ = format!("CN={text}").parse::<DistinguishedName>();
            let _ = format!("CN={tail}").parse::<DistinguishedName>();
        }

        #[test]
        fn a_formatted_name_parses_to_the_same_name(name in any_name()) {
            let text = name.to_string();
            prop_assert_eq!(text.parse::<DistinguishedName>(), Ok(name), "{}", text);
            prop_assert!(!text.contains(char::is_control));
        }

        /// Leaves out texts that x509-cert parses wrongly (see
        /// `x509_cert_splits_at_an_escaped_comma_after_an_escaped_backslash`).
        #[test]
        fn x509_cert_parses_the_text_that_we_write(name in comparable_name()) {
            let text = name.to_string();
            prop_assume!(!name.is_empty() && !text.contains(r"\\\"));
            let theirs: Name = text.parse().unwrap();
            prop_assert_eq!(DistinguishedName::from(&theirs), name, "{}", text);
        }

        #[test]
        fn we_parse_the_text_that_x509_cert_writes(name in comparable_name()) {
            let text = name.to_string();
            prop_assume!(!text.contains(r"\\\"));
            prop_assume!(!name.is_empty());
            let theirs: Name = text.parse().unwrap();
            let written = theirs.to_string();
            prop_assert_eq!(written.parse::<DistinguishedName>(), Ok(name), "{}", written);
        }
    }
}
