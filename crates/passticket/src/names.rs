//! User ids, APPLIDs (names of applications) and names of groups. A PassTicket (a one-time password of z/OS) is made
//! for one user id and one APPLID.

use std::{fmt, str::FromStr};

const MAX_LEN: usize = 8;
const BLANK: u8 = b' ';

/// A name in upper-case ASCII, padded with blanks. It has eight bytes, which are cheap to copy, hash and compare.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Name([u8; MAX_LEN]);

impl Name {
    fn parse(what: &'static str, value: &str) -> Result<Self, NameError> {
        let error = |rule| NameError { what, value: value.chars().take(40).collect(), rule };
        if value.is_empty() {
            return Err(error(NameRule::Empty));
        }
        let mut bytes = [BLANK; MAX_LEN];
        for (i, c) in value.chars().enumerate() {
            let upper = c.to_ascii_uppercase();
            if !matches!(upper, 'A'..='Z' | '0'..='9' | '#' | '@' | '$') {
                return Err(error(NameRule::Character(c)));
            }
            *bytes.get_mut(i).ok_or_else(|| error(NameRule::TooLong))? = upper as u8;
        }
        Ok(Self(bytes))
    }

    fn as_bytes(&self) -> &[u8] {
        let len = self.0.iter().position(|b| *b == BLANK).unwrap_or(MAX_LEN);
        &self.0[..len]
    }

    fn as_str(&self) -> &str {
        str::from_utf8(self.as_bytes()).expect("`parse`, the only constructor, checks for ASCII")
    }
}

/// The reason why a text is not a user id, an APPLID or a group name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value:?} {rule}; write 1 to 8 characters of A-Z 0-9 # @ $")]
pub struct NameError {
    what: &'static str,
    value: String,
    rule: NameRule,
}

impl NameError {
    /// Returns the rule that the text violates.
    pub fn rule(&self) -> NameRule {
        self.rule
    }

    /// Returns the text, truncated to 40 characters.
    pub fn value(&self) -> &str {
        &self.value
    }
}

/// A rule for the form of user ids, APPLIDs and group names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameRule {
    /// A name has at least one character.
    #[error("is empty")]
    Empty,
    /// A name has at most eight characters.
    #[error("is longer than 8 characters")]
    TooLong,
    /// A name contains only the characters `A-Z 0-9 # @ $`. Lower case is converted to upper case. The field contains
    /// the first character that is not allowed.
    #[error("has the character {0:?}")]
    Character(char),
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(Name);

        impl $type {
            /// Parses 1 to 8 characters of `A-Z 0-9 # @ $`. Lower case is converted to upper case.
            ///
            /// # Errors
            /// [`NameError`] contains the value, and the rule that the value violates.
            pub fn new(value: &str) -> Result<Self, NameError> {
                Name::parse($what, value).map(Self)
            }

            /// Returns the name in upper case and without padding.
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }

            /// Returns the name as ASCII bytes, in upper case and without padding.
            pub fn as_bytes(&self) -> &[u8] {
                self.0.as_bytes()
            }
        }

        impl FromStr for $type {
            type Err = NameError;

            fn from_str(value: &str) -> Result<Self, NameError> {
                Self::new(value)
            }
        }

        impl TryFrom<&str> for $type {
            type Error = NameError;

            fn try_from(value: &str) -> Result<Self, NameError> {
                Self::new(value)
            }
        }

        #[cfg(feature = "serde")]
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        #[cfg(feature = "serde")]
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(
                deserializer: D,
            ) -> Result<Self, D::Error> {
                struct Visitor;

                impl serde::de::Visitor<'_> for Visitor {
                    type Value = $type;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str(concat!("a string with a valid ", $what))
                    }

                    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<$type, E> {
                        $type::new(value).map_err(E::custom)
                    }
                }

                deserializer.deserialize_str(Visitor)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($type)).field(&self.as_str()).finish()
            }
        }
    };
}

name! {
    /// A z/OS user id.
    ///
    /// ```
    /// use passticket::UserId;
    ///
    /// assert_eq!(UserId::new("ibmuser")?.as_str(), "IBMUSER");
    /// assert!(UserId::new("john.doe").is_err());
    /// # Ok::<(), passticket::NameError>(())
    /// ```
    UserId, "user id"
}

name! {
    /// The name of an application, such as `IZUDFLT` for z/OSMF (IBM's management server on z/OS). z/OS keeps the
    /// PassTicket keys of an APPLID in profiles of class `PTKTDATA`: usually one key for all users. A service accepts
    /// only tickets for its own APPLID.
    Applid, "APPLID"
}

name! {
    /// The name of a group of users in the security product.
    ///
    /// With a [`Qualifier`](crate::Qualifier), the users of a group can have a PassTicket key of their own.
    GroupName, "group name"
}

impl Name {
    /// Returns the name in EBCDIC (code page 1047), padded with blanks at the right to 8 bytes.
    fn to_ebcdic(self) -> [u8; MAX_LEN] {
        self.0.map(ebcdic)
    }
}

impl UserId {
    /// Returns the name in EBCDIC (code page 1047), padded with blanks at the right to 8 bytes.
    pub(super) fn to_ebcdic(self) -> [u8; MAX_LEN] {
        self.0.to_ebcdic()
    }
}

impl Applid {
    /// Returns the name in EBCDIC (code page 1047), padded with blanks at the right to 8 bytes.
    pub(super) fn to_ebcdic(self) -> [u8; MAX_LEN] {
        self.0.to_ebcdic()
    }
}

/// Converts a character of a name from ASCII to EBCDIC. The code pages 037 and 1047 have the same
/// bytes for these characters.
const fn ebcdic(ascii: u8) -> u8 {
    match ascii {
        b'A'..=b'I' => ascii - b'A' + 0xC1,
        b'J'..=b'R' => ascii - b'J' + 0xD1,
        b'S'..=b'Z' => ascii - b'S' + 0xE2,
        b'0'..=b'9' => ascii - b'0' + 0xF0,
        b'#' => 0x7B,
        b'@' => 0x7C,
        b'$' => 0x5B,
        _ => 0x40,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_and_converted_to_upper_case() {
        struct Case {
            input: &'static str,
            expected: Result<&'static str, NameRule>,
        }
        let cases = [
            Case { input: "user", expected: Ok("USER") },
            Case { input: "A#@$0123", expected: Ok("A#@$0123") },
            Case { input: "", expected: Err(NameRule::Empty) },
            Case { input: "NINECHARS", expected: Err(NameRule::TooLong) },
            Case { input: "A B", expected: Err(NameRule::Character(' ')) },
            Case { input: "USER ", expected: Err(NameRule::Character(' ')) },
            Case { input: "ÄRGER", expected: Err(NameRule::Character('Ä')) },
            // In Unicode, U+017F and U+212A are case variants of S and K. A name cannot contain them.
            Case { input: "\u{17f}YS", expected: Err(NameRule::Character('\u{17f}')) },
            Case { input: "\u{212a}", expected: Err(NameRule::Character('\u{212a}')) },
            Case { input: "A\0", expected: Err(NameRule::Character('\0')) },
        ];
        for Case { input, expected } in cases {
            let got = UserId::new(input).map(|u| u.as_str().to_owned()).map_err(|e| e.rule());
            assert_eq!(got, expected.map(str::to_owned), "{input:?}");
            let got = Applid::new(input).map(|u| u.as_str().to_owned()).map_err(|e| e.rule());
            assert_eq!(got, expected.map(str::to_owned), "{input:?}");
        }
    }

    #[test]
    fn errors_name_the_value_and_the_rule() {
        assert_eq!(
            Applid::new("omvs appl").unwrap_err().to_string(),
            "APPLID \"omvs appl\" has the character ' '; write 1 to 8 characters of A-Z 0-9 # @ $"
        );
    }

    #[cfg(feature = "serde")]
    #[test]
    fn serde_writes_the_name_and_checks_it_when_reading() {
        let read = serde_json::from_str::<Vec<UserId>>;
        let users = read(r#"["ibmuser", "A#@$"]"#).unwrap();
        assert_eq!(serde_json::to_string(&users).unwrap(), r##"["IBMUSER","A#@$"]"##);
        let applid: Applid = serde_json::from_value("izudflt".into()).unwrap();
        assert_eq!(applid.as_str(), "IZUDFLT");
        for (json, expected) in [
            (r#"[""]"#, "user id \"\" is empty"),
            (r#"["john.doe"]"#, "user id \"john.doe\" has the character '.'"),
            (r#"["NINECHARS"]"#, "is longer than 8 characters"),
            ("[1]", "expected a string with a valid user id"),
        ] {
            let error = read(json).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn ebcdic_is_code_page_1047() {
        let name = Applid::new("AJS09#@$").unwrap();
        assert_eq!(name.to_ebcdic(), [0xC1, 0xD1, 0xE2, 0xF0, 0xF9, 0x7B, 0x7C, 0x5B]);
        assert_eq!(UserId::new("I").unwrap().to_ebcdic(), [0xC9, 64, 64, 64, 64, 64, 64, 64]);
    }
}
