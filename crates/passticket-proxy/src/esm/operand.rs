//! Checked texts that are safe as operands of a command.
//!
//! An input text must not become a second command or a second operand. So each type permits only certain characters.
//! Apart from the apostrophe, the permitted characters are harmless: they cannot end a string, an operand, a comment or
//! a line. They cannot introduce a variable, and they cannot act as a wildcard. Only printable ASCII is permitted,
//! without parentheses, double quotes, ampersands, semicolons, backslashes and asterisks.
//!
//! Each of these types permits apostrophes. [`identity`](super::identity) doubles an apostrophe for RACF, and returns
//! an error for the other products.
//!
//! The types of this module use the parsers of [`tower_passticket::identity`], but permit fewer texts than these
//! parsers.

use std::{fmt, str::FromStr};

use tower_passticket::{
    identity::{DistinguishedName, EmailAddress, NameProblem, NameSyntaxError, Registry},
    passticket::UserId,
};

/// A long operand continues on the next line. It can be broken only between two letters or digits. A text is refused if
/// it has this many consecutive positions at which it cannot be broken.
const UNBROKEN: usize = 20;

struct Rule {
    name: &'static str,
    /// The permitted characters in addition to letters and digits.
    characters: &'static str,
    /// The maximum length in characters. All permitted characters are ASCII.
    max_len: usize,
    /// The last part of an error text: what to write instead.
    remedy: &'static str,
}

const EMAIL: Rule = Rule {
    name: "e-mail address",
    characters: "@._-'",
    max_len: EmailAddress::MAX_LEN,
    remedy: "write name@domain with at most 246 letters, digits and . _ - '",
};
const REGISTRY: Rule = Rule {
    name: "registry",
    characters: " .,_-':/@#$%",
    max_len: Registry::MAX_LEN,
    remedy: "write at most 255 letters, digits, blanks and . , _ - ' : / @ # $ %",
};
const LABEL: Rule = Rule {
    name: "label",
    characters: " .,_-':/@#$%",
    max_len: 32,
    remedy: "write at most 32 letters, digits, blanks and . , _ - ' : / @ # $ %",
};
const NAME: Rule = Rule {
    name: "distinguished name",
    characters: " .,_-':/@#$%=",
    max_len: 246,
    remedy: "write it like CN=Jane Doe,OU=Payroll,O=Acme,C=US, with the attribute types CN, T, OU, O, \
             L, ST and C, and with letters, digits, blanks and . _ - ' : / @ # $ % and \\, in at most \
             246 characters",
};

impl Rule {
    fn error(&self, value: &str, problem: OperandProblem) -> OperandError {
        let value = value.chars().take(60).collect();
        OperandError { what: self.name, value, problem, remedy: self.remedy }
    }

    fn check(&self, value: &str) -> Result<(), OperandProblem> {
        let [Some(first), Some(last)] = [value.chars().next(), value.chars().next_back()] else {
            return Err(OperandProblem::Empty);
        };
        let forbidden = |c: &char| !c.is_ascii_alphanumeric() && !self.characters.contains(*c);
        if let Some(c) = value.chars().find(forbidden) {
            return Err(OperandProblem::Character(c));
        }
        if value.len() > self.max_len {
            return Err(OperandProblem::TooLong(self.max_len));
        }
        if first == ' ' || last == ' ' {
            return Err(OperandProblem::Character(' '));
        }
        let mut unbroken = 0;
        for pair in value.as_bytes().windows(2) {
            let can_break = pair.iter().all(u8::is_ascii_alphanumeric);
            unbroken = if can_break { 0 } else { unbroken + 1 };
            if unbroken >= UNBROKEN {
                return Err(OperandProblem::Unbroken);
            }
        }
        Ok(())
    }
}

/// A text that is not safe in a command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value:?} {problem}; {remedy}")]
pub struct OperandError {
    what: &'static str,
    value: String,
    problem: OperandProblem,
    remedy: &'static str,
}

impl OperandError {
    /// Returns the reason why the text is not safe.
    pub fn problem(&self) -> &OperandProblem {
        &self.problem
    }
}

/// The reasons why a text is not safe in a command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OperandProblem {
    /// The text is empty.
    #[error("is empty")]
    Empty,
    /// The text is longer than this number of characters.
    #[error("is longer than {0} characters")]
    TooLong(usize),
    /// This character is not permitted, or it is not permitted in this place. For example, a blank must not be the
    /// first or the last character.
    #[error("has the character {0:?} where it cannot be written safely")]
    Character(char),
    /// The text cannot be broken into lines: a part of about 20 characters has no two adjacent letters or digits.
    #[error("cannot be broken into lines")]
    Unbroken,
    /// The text is not an e-mail address, which has exactly one `@` with text before and after it.
    #[error("is not an e-mail address")]
    NoEmail,
    /// A part of the distinguished name lacks its attribute type or its value.
    #[error("has a part without a value")]
    NoValue,
    /// The distinguished name has this attribute type, which not every product supports.
    #[error("has the attribute type {0:?}, which is not supported")]
    Attribute(String),
    /// The common name is the last part, as in a certificate. In the notation of RFC 4514, the common name
    /// is the first part.
    #[error("ends with the common name, which must be the first part")]
    Reversed,
}

macro_rules! operand {
    ($(#[$doc:meta])* $type:ident, $parse:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq)]
        pub struct $type(String);

        impl $type {
            /// Returns the text for a command, before apostrophes are doubled.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = OperandError;

            fn from_str(text: &str) -> Result<Self, OperandError> {
                $parse(text).map(Self)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($type)).field(&self.0).finish()
            }
        }
    };
}

operand! {
    /// An [`EmailAddress`] as the name of a distributed identity (a name in a user directory outside z/OS).
    ///
    /// It has 1 to 246 characters: letters, digits, `.`, `_`, `-`, `'`, and exactly one `@`. Upper and lower case are
    /// kept, because the security products distinguish them.
    EmailOperand, email
}

operand! {
    /// The [`Registry`] of a distributed identity. It must be the value of
    /// `components.gateway.apiml.security.oidc.registry`.
    ///
    /// It has 1 to 255 letters, digits, blanks and `. , _ - ' : / @ # $ %`. `*` is not permitted, because in the
    /// security products it means any registry.
    RegistryOperand, registry
}

operand! {
    /// The label of a mapping: 1 to 32 letters, digits, blanks and `. , _ - ' : / @ # $ %`.
    Label, label
}

operand! {
    /// A [`DistinguishedName`]. It is parsed in the notation of RFC 4514 and stored in the notation of
    /// the security products:
    ///
    /// ```
    /// use passticket_proxy::esm::NameOperand;
    ///
    /// let name: NameOperand = "CN=Jane Doe,OU=Payroll,O=Acme\\, Inc,ST=Ohio,C=US".parse()?;
    /// assert_eq!(name.as_str(), "CN=Jane Doe.OU=Payroll.O=Acme, Inc.SP=Ohio.C=US");
    /// # Ok::<(), passticket_proxy::esm::OperandError>(())
    /// ```
    ///
    /// In both notations, the most specific part comes first. Periods in values are kept, as in the names that the
    /// products show for a certificate. A value with an equal sign is not permitted, because a period and an equal sign
    /// in one value would look like another part.
    NameOperand, name
}

impl Label {
    /// Returns the default label for a user: `Zowe` and the user id.
    pub fn of(user: &UserId) -> Self {
        Self(format!("Zowe {user}"))
    }
}

fn email(text: &str) -> Result<String, OperandError> {
    let error = |problem| EMAIL.error(text, problem);
    EMAIL.check(text).map_err(error)?;
    EmailAddress::new(text).map_err(|_| error(OperandProblem::NoEmail))?;
    Ok(text.to_owned())
}

fn registry(text: &str) -> Result<String, OperandError> {
    REGISTRY.check(text).map_err(|problem| REGISTRY.error(text, problem))?;
    Ok(text.to_owned())
}

fn label(text: &str) -> Result<String, OperandError> {
    LABEL.check(text).map_err(|problem| LABEL.error(text, problem))?;
    Ok(text.to_owned())
}

fn name(text: &str) -> Result<String, OperandError> {
    let name = text.parse().map_err(|error: NameSyntaxError| syntax(error.problem()));
    let dotted = name.and_then(|name| dotted(&name));
    dotted.map_err(|problem| NAME.error(text, problem))
}

fn syntax(problem: &NameProblem) -> OperandProblem {
    match problem {
        NameProblem::Type(kind) => OperandProblem::Attribute(kind.chars().take(20).collect()),
        NameProblem::Unescaped(c) => OperandProblem::Character(*c),
        NameProblem::Escape | NameProblem::NotUtf8 => OperandProblem::Character('\\'),
        NameProblem::Hex => OperandProblem::Character('#'),
        // The problem is `NoEquals`, or a variant that this function does not know.
        _ => OperandProblem::NoValue,
    }
}

/// Writes the name with periods between its parts, and with RACF's names of attribute types.
fn dotted(name: &DistinguishedName) -> Result<String, OperandProblem> {
    let mut parts = Vec::new();
    for rdn in name.rdns() {
        let [attribute] = rdn.attributes() else { return Err(OperandProblem::Character('+')) };
        let kind = match attribute.kind().name() {
            Some(kind @ ("CN" | "OU" | "O" | "L" | "C")) => kind,
            Some("ST") => "SP",
            Some("title") => "T",
            _ => return Err(OperandProblem::Attribute(attribute.kind().to_string())),
        };
        let value = attribute.text().ok_or(OperandProblem::Character('#'))?;
        if value.is_empty() {
            return Err(OperandProblem::NoValue);
        }
        let misplaced =
            |(i, c): (usize, char)| (c == '=' || i == 0 && !c.is_ascii_alphanumeric()).then_some(c);
        if let Some(c) = value.chars().enumerate().find_map(misplaced) {
            return Err(OperandProblem::Character(c));
        }
        if value.ends_with(' ') {
            return Err(OperandProblem::Character(' '));
        }
        parts.push((kind, value));
    }
    if parts.is_empty() {
        return Err(OperandProblem::NoValue);
    }
    if parts.len() > 1 && parts.last().is_some_and(|(kind, _)| *kind == "CN") {
        return Err(OperandProblem::Reversed);
    }
    let dotted: Vec<_> = parts.iter().map(|(kind, value)| format!("{kind}={value}")).collect();
    let dotted = dotted.join(".");
    NAME.check(&dotted)?;
    Ok(dotted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use OperandProblem::{
        Attribute, Character, Empty, NoEmail, NoValue, Reversed, TooLong, Unbroken,
    };

    fn problem<T: FromStr<Err = OperandError> + fmt::Debug>(text: &str) -> OperandProblem {
        text.parse::<T>().expect_err(text).problem().clone()
    }

    #[test]
    fn an_email_has_one_at_and_permitted_characters() {
        for good in ["jane@acme.com", "Jane.O'Neil_1-x@ACME.co.uk", "a@b"] {
            assert_eq!(good.parse::<EmailOperand>().unwrap().as_str(), good);
        }
        let long = format!("{}@acme.com", "a".repeat(238));
        for (bad, want) in [
            ("", Empty),
            ("jane", NoEmail),
            ("@acme.com", NoEmail),
            ("jane@", NoEmail),
            ("a@b@c", NoEmail),
            ("jane doe@acme.com", Character(' ')),
            ("jane@acme.com\nSETROPTS", Character('\n')),
            ("jane@acme.com')", Character(')')),
            ("*@acme.com", Character('*')),
            ("jane+x@acme.com", Character('+')),
            ("j\u{e4}ne@acme.com", Character('\u{e4}')),
            ("a.b.c.d.e.f.g.h.i.j.k.l@x", Unbroken),
            (&long, TooLong(246)),
        ] {
            assert_eq!(problem::<EmailOperand>(bad), want, "{bad:?}");
        }
        assert!(long[1..].parse::<EmailOperand>().is_ok());
    }

    #[test]
    fn a_registry_and_a_label_have_permitted_characters() {
        assert!("ldaps://us.acme.com:636/x".parse::<RegistryOperand>().is_ok());
        assert!("Zowe Jane, payroll".parse::<Label>().is_ok());
        assert!("x".repeat(255).parse::<RegistryOperand>().is_ok());
        assert!("x".repeat(32).parse::<Label>().is_ok());
        assert_eq!(problem::<RegistryOperand>(&"x".repeat(256)), TooLong(255));
        assert_eq!(problem::<Label>(&"x".repeat(33)), TooLong(32));
        for (bad, want) in [
            ("", Empty),
            (" x", Character(' ')),
            ("x ", Character(' ')),
            ("*", Character('*')),
            ("a\tb", Character('\t')),
            ("a&b", Character('&')),
            ("a\"b", Character('"')),
            ("a(b", Character('(')),
            ("a;b", Character(';')),
            ("a\\b", Character('\\')),
            ("a\u{7f}", Character('\u{7f}')),
        ] {
            assert_eq!(problem::<RegistryOperand>(bad), want, "{bad:?}");
            assert_eq!(problem::<Label>(bad), want, "{bad:?}");
        }
    }

    #[test]
    fn a_distinguished_name_is_converted_to_periods() {
        for (text, want) in [
            ("CN=Jane", "CN=Jane"),
            ("cn=Jane Doe, ou = Payroll ,O=Acme", "CN=Jane Doe.OU=Payroll.O=Acme"),
            ("CN=gw.acme.com,O=Acme\\, Inc.,C=US", "CN=gw.acme.com.O=Acme, Inc..C=US"),
            ("title=Dr,CN=O'Neil,ST=Ohio", "T=Dr.CN=O'Neil.SP=Ohio"),
            ("OU=Payroll,OU=NY,O=Acme", "OU=Payroll.OU=NY.O=Acme"),
            ("CN=Jane,SP=Ohio", "CN=Jane.SP=Ohio"),
            // These cases use other notations of attribute types and values.
            ("2.5.4.3=a", "CN=a"),
            ("CN=a\\2Cb", "CN=a,b"),
            ("CN=#0C0161", "CN=a"),
        ] {
            assert_eq!(text.parse::<NameOperand>().unwrap().as_str(), want);
        }
        for (bad, want) in [
            ("", NoValue),
            ("CN", NoValue),
            ("CN=", NoValue),
            ("CN=a,", NoValue),
            ("CN=a,,O=b", NoValue),
            ("DC=com", Attribute("DC".to_owned())),
            ("=a", Attribute(String::new())),
            ("2.5.4.99=a", Attribute("2.5.4.99".to_owned())),
            ("C=US,O=Acme,CN=Jane", Reversed),
            ("CN=a.O=Other", Character('=')),
            ("CN=#0401", Character('#')),
            ("CN=#040100", Character('#')),
            ("CN=a+OU=b", Character('+')),
            ("CN=a+b", NoValue),
            ("CN=a\\=b", Character('=')),
            ("CN=a\\2Eb\\3Dc", Character('=')),
            ("CN=a\\ ,O=b", Character(' ')),
            ("CN=\\ a", Character(' ')),
            ("CN=a\\FF", Character('\\')),
            ("CN=a;O=b", Character(';')),
            ("CN=a\\", Character('\\')),
            ("CN=a(b", Character('(')),
            ("CN=a\nO=b", Character('=')),
            ("CN=a\nb", Character('\n')),
            (&format!("CN={}", "a".repeat(244)), TooLong(246)),
        ] {
            assert_eq!(problem::<NameOperand>(bad), want, "{bad:?}");
        }
    }

    #[test]
    fn an_error_is_one_line_with_a_remedy() {
        let error = "x\ny@z".parse::<EmailOperand>().unwrap_err().to_string();
        assert_eq!(
            error,
            "e-mail address \"x\\ny@z\" has the character '\\n' where it cannot be written safely; \
             write name@domain with at most 246 letters, digits and . _ - '"
        );
        let error = "DC=com".parse::<NameOperand>().unwrap_err().to_string();
        assert!(error.contains("CN=Jane Doe,OU=Payroll") && !error.contains('\n'), "{error}");
    }
}
