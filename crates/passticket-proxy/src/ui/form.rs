//! Reads and writes `application/x-www-form-urlencoded`: the bodies of forms, and queries
//! (<https://url.spec.whatwg.org/#application/x-www-form-urlencoded>).

use std::fmt::Write;

use zeroize::Zeroizing;

/// The maximum number of fields of a form. The form for a new token has the most
/// fields: three for each service, and a few others.
const MAX_FIELDS: usize = 8192;

/// The fields of a form or a query, in their order. The values may be passwords, so they are overwritten when they are
/// dropped.
#[derive(Default)]
pub(super) struct Form(Vec<(String, Zeroizing<String>)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the form is not correctly encoded")]
pub(super) struct FormError;

impl Form {
    /// Parses a body or a query.
    ///
    /// # Errors
    /// [`FormError`] if an escape is malformed, if a text is not UTF-8, or if there are too many fields.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, FormError> {
        let mut fields = Vec::new();
        for pair in bytes.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            let at = pair.iter().position(|byte| *byte == b'=');
            let (name, value) = match at {
                Some(at) => (&pair[..at], &pair[at + 1..]),
                None => (pair, &[][..]),
            };
            if fields.len() == MAX_FIELDS {
                return Err(FormError);
            }
            fields.push((decode(name)?, Zeroizing::new(decode(value)?)));
        }
        Ok(Self(fields))
    }

    /// Returns the value of the first field with this name. A missing field is empty.
    pub(super) fn get(&self, name: &str) -> &str {
        self.all(name).next().unwrap_or_default()
    }

    /// Returns the fields whose names begin with `prefix`. The first text of each pair is the name without the prefix,
    /// and the second is the value.
    pub(super) fn below<'f>(&'f self, prefix: &'f str) -> impl Iterator<Item = (&'f str, &'f str)> {
        let of_field = move |(name, value): &'f (String, Zeroizing<String>)| {
            name.strip_prefix(prefix).map(|rest| (rest, value.as_str()))
        };
        self.0.iter().filter_map(of_field)
    }

    /// Returns the values of all fields with this name.
    pub(super) fn all<'f>(&'f self, name: &str) -> impl Iterator<Item = &'f str> {
        self.0.iter().filter(move |(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

fn decode(text: &[u8]) -> Result<String, FormError> {
    // The decoded text is at most as long as `text`, so the buffer never grows. A buffer that grows would leave copies
    // of a password in memory.
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter().copied();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (high, low) = (digit(rest.next()), digit(rest.next()));
                let value = high.zip(low).map(|(high, low)| high << 4 | low);
                value.and_then(|value| u8::try_from(value).ok()).ok_or(FormError)?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| FormError)
}

/// Writes a query with these parameters. Parameters without a value are left out.
pub(super) fn query(parameters: &[(&str, &str)]) -> String {
    let mut query = String::new();
    for (name, value) in parameters.iter().filter(|(_, value)| !value.is_empty()) {
        query.push(if query.is_empty() { '?' } else { '&' });
        query.push_str(name);
        query.push('=');
        for byte in value.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {
                    query.push(char::from(byte));
                }
                _ => drop(write!(query, "%{byte:02X}")),
            }
        }
    }
    query
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn forms_are_parsed_or_refused() {
        let form = Form::parse(b"a=1&b=x+y%2B%c3%a4&a=2&&c&=d").unwrap();
        assert_eq!(
            (form.get("a"), form.get("b"), form.get("c"), form.get("x")),
            ("1", "x y+\u{e4}", "", "")
        );
        assert_eq!(form.all("a").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(Form::parse(b"").unwrap().0.len(), 0);
        for wrong in ["a=%", "a=%4", "a=%zz", "a=%ff", "%ff=a"] {
            assert_eq!(Form::parse(wrong.as_bytes()).err(), Some(FormError), "{wrong}");
        }
        assert!(Form::parse("a&".repeat(MAX_FIELDS).as_bytes()).is_ok());
        assert!(Form::parse("a&".repeat(MAX_FIELDS + 1).as_bytes()).is_err());
    }

    #[test]
    fn queries_have_only_parameters_with_a_value() {
        assert_eq!(query(&[("a", ""), ("b", "x &\u{e4}/"), ("c", "1")]), "?b=x%20%26%C3%A4%2F&c=1");
        assert_eq!(query(&[("a", "")]), "");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_parser_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Form::parse(&bytes);
        }

        #[test]
        fn what_is_written_is_read(value in "\\PC{1,20}") {
            let written = query(&[("a", &value)]);
            let form = Form::parse(&written.as_bytes()[1..]).unwrap();
            prop_assert_eq!(form.get("a"), value);
        }
    }
}
