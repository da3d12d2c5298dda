//! Texts that may stand in a command.
//!
//! A name that somebody else chose must not become a second command, or another operand. So the
//! characters are listed that may occur, and none of them ends a string, an operand, a comment or a
//! line, stands for a variable, or matches more than itself: no parentheses, double quotes,
//! ampersands, semicolons, backslashes, asterisks, and nothing that is not printable ASCII. An
//! apostrophe may occur; whether it can be written depends on the product.

use std::{fmt, str::FromStr};

use tower_passticket::passticket::UserId;

/// Characters in a row without two letters or digits side by side. A line is broken there, so a
/// text has to have such places.
const UNBROKEN: usize = 20;

/// What one kind of text is made of.
struct Kind {
    name: &'static str,
    /// Besides letters and digits.
    characters: &'static str,
    longest: usize,
    write: &'static str,
}

const EMAIL: Kind = Kind {
    name: "e-mail address",
    characters: "@._-'",
    longest: 246,
    write: "write one of at most 246 letters, digits and . _ - ' with one @",
};
const REGISTRY: Kind = Kind {
    name: "registry",
    characters: " .,_-':/@#$%",
    longest: 255,
    write: "write at most 255 letters, digits, blanks and . , _ - ' : / @ # $ %",
};
const LABEL: Kind = Kind {
    name: "label",
    characters: " .,_-':/@#$%",
    longest: 32,
    write: "write at most 32 letters, digits, blanks and . , _ - ' : / @ # $ %",
};
const NAME: Kind = Kind {
    name: "distinguished name",
    characters: " .,_-':/@#$%=",
    longest: 246,
    write: "write it as CN=Jane Doe,OU=Payroll,O=Acme,C=US, of CN, T, OU, O, L, ST, C and with \
            letters, digits, blanks and . _ - ' : / @ # $ % and \\, in at most 246 characters",
};

impl Kind {
    fn error(&self, value: &str, problem: TextProblem) -> TextError {
        let value = value.chars().take(60).collect();
        TextError { what: self.name, value, problem, write: self.write }
    }

    fn check(&self, value: &str) -> Result<(), TextProblem> {
        let [Some(first), Some(last)] = [value.chars().next(), value.chars().next_back()] else {
            return Err(TextProblem::Empty);
        };
        let strange = |c: &char| !c.is_ascii_alphanumeric() && !self.characters.contains(*c);
        if let Some(c) = value.chars().find(strange) {
            return Err(TextProblem::Character(c));
        }
        if value.len() > self.longest {
            return Err(TextProblem::TooLong(self.longest));
        }
        if first == ' ' || last == ' ' {
            return Err(TextProblem::Character(' '));
        }
        let mut unbroken = 0;
        for pair in value.as_bytes().windows(2) {
            let place = pair.iter().all(u8::is_ascii_alphanumeric);
            unbroken = if place { 0 } else { unbroken + 1 };
            if unbroken >= UNBROKEN {
                return Err(TextProblem::Unbroken);
            }
        }
        Ok(())
    }
}

/// A text that cannot stand in a command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value:?} {problem}; {write}")]
pub struct TextError {
    what: &'static str,
    value: String,
    problem: TextProblem,
    write: &'static str,
}

impl TextError {
    /// The rule that the text breaks.
    pub fn problem(&self) -> &TextProblem {
        &self.problem
    }
}

/// The rules for texts in commands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TextProblem {
    /// At least one character.
    #[error("is empty")]
    Empty,
    /// At most so many characters.
    #[error("is longer than {0} characters")]
    TooLong(usize),
    /// Not this character, or not there: a blank may not be the first or the last.
    #[error("has the character {0:?} where it cannot be written safely")]
    Character(char),
    /// Two letters or digits side by side, at least every 20 characters.
    #[error("cannot be broken into lines")]
    Unbroken,
    /// An e-mail address has one `@`, with something before and after it.
    #[error("is none")]
    NoEmail,
    /// A distinguished name is a list of attributes with values.
    #[error("has a part without a value")]
    NoValue,
    /// An attribute that not every product knows.
    #[error("has the attribute {0:?}")]
    Attribute(String),
    /// The common name stands last: this is the order in the certificate, not that of RFC 4514.
    #[error("ends with the common name, the most specific part, which belongs first")]
    Reversed,
}

macro_rules! text {
    ($(#[$doc:meta])* $type:ident, $parse:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq)]
        pub struct $type(String);

        impl $type {
            /// As it stands in a command, before apostrophes are doubled.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = TextError;

            fn from_str(text: &str) -> Result<Self, TextError> {
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

text! {
    /// An e-mail address as the name of a distributed identity: 1 to 246 letters, digits and
    /// `. _ - '`, with one `@`. Its case is kept, since the security products compare it.
    Email, email
}

text! {
    /// The name of the registry that a distributed identity belongs to, as
    /// `components.gateway.apiml.security.oidc.registry` has it: 1 to 255 letters, digits, blanks
    /// and `. , _ - ' : / @ # $ %`. `*`, any registry, is none.
    Registry, registry
}

text! {
    /// The label of a mapping: 1 to 32 letters, digits, blanks and `. , _ - ' : / @ # $ %`.
    Label, label
}

text! {
    /// A distinguished name, written as in RFC 4514 and kept as the security products write it:
    ///
    /// ```
    /// use passticket_proxy::esm::DistinguishedName;
    ///
    /// let name: DistinguishedName = "CN=Jane Doe,OU=Payroll,O=Acme\\, Inc,ST=Ohio,C=US".parse()?;
    /// assert_eq!(name.as_str(), "CN=Jane Doe.OU=Payroll.O=Acme, Inc.SP=Ohio.C=US");
    /// # Ok::<(), passticket_proxy::esm::TextError>(())
    /// ```
    ///
    /// The most specific part stands first in both. Periods in values stay as they are, as in what
    /// the products show of a certificate. A value with an equal sign is refused: after a period it
    /// would be another part.
    DistinguishedName, distinguished_name
}

impl Label {
    /// A label for a user where nobody has chosen one: `Zowe` and the user id.
    pub fn of(user: &UserId) -> Self {
        Self(format!("Zowe {user}"))
    }
}

fn email(text: &str) -> Result<String, TextError> {
    let error = |problem| EMAIL.error(text, problem);
    EMAIL.check(text).map_err(error)?;
    match text.split_once('@') {
        Some((local, domain))
            if !local.is_empty() && !domain.is_empty() && !domain.contains('@') =>
        {
            Ok(text.to_owned())
        }
        _ => Err(error(TextProblem::NoEmail)),
    }
}

fn registry(text: &str) -> Result<String, TextError> {
    REGISTRY.check(text).map_err(|problem| REGISTRY.error(text, problem))?;
    Ok(text.to_owned())
}

fn label(text: &str) -> Result<String, TextError> {
    LABEL.check(text).map_err(|problem| LABEL.error(text, problem))?;
    Ok(text.to_owned())
}

fn distinguished_name(text: &str) -> Result<String, TextError> {
    dotted(text).map_err(|problem| NAME.error(text, problem))
}

/// From commas to periods, with the attributes as RACF has them.
fn dotted(text: &str) -> Result<String, TextProblem> {
    let mut parts = Vec::new();
    for part in parts_of(text)? {
        let (attribute, value) = part.split_once('=').ok_or(TextProblem::NoValue)?;
        let (attribute, value) = (attribute.trim_matches(' '), value.trim_matches(' '));
        let known = match attribute.to_ascii_uppercase().as_str() {
            "CN" => "CN",
            "OU" => "OU",
            "O" => "O",
            "L" => "L",
            "ST" | "S" | "SP" => "SP",
            "C" => "C",
            "T" | "TITLE" => "T",
            _ => return Err(TextProblem::Attribute(attribute.chars().take(20).collect())),
        };
        if value.is_empty() {
            return Err(TextProblem::NoValue);
        }
        // `#` begins a value in hex (RFC 4514 §2.4).
        if let Some(c) = value
            .chars()
            .enumerate()
            .find_map(|(i, c)| (c == '=' || i == 0 && !c.is_ascii_alphanumeric()).then_some(c))
        {
            return Err(TextProblem::Character(c));
        }
        parts.push((known, value.to_owned()));
    }
    if parts.len() > 1 && parts.last().is_some_and(|(attribute, _)| *attribute == "CN") {
        return Err(TextProblem::Reversed);
    }
    let dotted: Vec<_> = parts.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let dotted = dotted.join(".");
    NAME.check(&dotted)?;
    Ok(dotted)
}

/// The parts between commas, unescaped (RFC 4514 §2.4). What was escaped and could be taken for
/// something else afterwards is refused: an equal sign, here or as a strange character.
fn parts_of(text: &str) -> Result<Vec<String>, TextProblem> {
    let mut parts = vec![String::new()];
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        let c = match c {
            ',' => {
                parts.push(String::new());
                continue;
            }
            '\\' => characters.next().filter(|c| *c == ',').ok_or(TextProblem::Character('\\'))?,
            c => c,
        };
        if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use TextProblem::{Attribute, Character, Empty, NoEmail, NoValue, Reversed, TooLong, Unbroken};

    fn problem<T: FromStr<Err = TextError> + fmt::Debug>(text: &str) -> TextProblem {
        text.parse::<T>().expect_err(text).problem().clone()
    }

    #[test]
    fn an_email_has_one_at_and_nothing_strange() {
        for good in ["jane@acme.com", "Jane.O'Neil_1-x@ACME.co.uk", "a@b"] {
            assert_eq!(good.parse::<Email>().unwrap().as_str(), good);
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
            assert_eq!(problem::<Email>(bad), want, "{bad:?}");
        }
        assert!(long[1..].parse::<Email>().is_ok());
    }

    #[test]
    fn a_registry_and_a_label_have_nothing_strange() {
        assert!("ldaps://us.acme.com:636/x".parse::<Registry>().is_ok());
        assert!("Zowe Jane, payroll".parse::<Label>().is_ok());
        assert!("x".repeat(255).parse::<Registry>().is_ok());
        assert!("x".repeat(32).parse::<Label>().is_ok());
        assert_eq!(problem::<Registry>(&"x".repeat(256)), TooLong(255));
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
            assert_eq!(problem::<Registry>(bad), want, "{bad:?}");
            assert_eq!(problem::<Label>(bad), want, "{bad:?}");
        }
    }

    #[test]
    fn a_distinguished_name_is_written_with_periods() {
        for (text, want) in [
            ("CN=Jane", "CN=Jane"),
            ("cn=Jane Doe, ou = Payroll ,O=Acme", "CN=Jane Doe.OU=Payroll.O=Acme"),
            ("CN=gw.acme.com,O=Acme\\, Inc.,C=US", "CN=gw.acme.com.O=Acme, Inc..C=US"),
            ("title=Dr,CN=O'Neil,ST=Ohio", "T=Dr.CN=O'Neil.SP=Ohio"),
            ("OU=Payroll,OU=NY,O=Acme", "OU=Payroll.OU=NY.O=Acme"),
        ] {
            assert_eq!(text.parse::<DistinguishedName>().unwrap().as_str(), want);
        }
        for (bad, want) in [
            ("", NoValue),
            ("CN", NoValue),
            ("CN=", NoValue),
            ("CN=a,", NoValue),
            ("CN=a,,O=b", NoValue),
            ("DC=com", Attribute("DC".to_owned())),
            ("=a", Attribute(String::new())),
            ("2.5.4.3=a", Attribute("2.5.4.3".to_owned())),
            ("C=US,O=Acme,CN=Jane", Reversed),
            ("CN=a.O=Other", Character('=')),
            ("CN=#0401", Character('#')),
            ("CN=a+OU=b", Character('=')),
            ("CN=a+b", Character('+')),
            ("CN=a\\=b", Character('\\')),
            ("CN=a\\2Cb", Character('\\')),
            ("CN=a\\", Character('\\')),
            ("CN=a(b", Character('(')),
            ("CN=a\nO=b", Character('=')),
            ("CN=a\nb", Character('\n')),
            (&format!("CN={}", "a".repeat(244)), TooLong(246)),
        ] {
            assert_eq!(problem::<DistinguishedName>(bad), want, "{bad:?}");
        }
    }

    #[test]
    fn an_error_says_what_to_write_in_one_line() {
        let error = "x\ny@z".parse::<Email>().unwrap_err().to_string();
        assert_eq!(
            error,
            "e-mail address \"x\\ny@z\" has the character '\\n' where it cannot be written safely; \
             write one of at most 246 letters, digits and . _ - ' with one @"
        );
        let error = "DC=com".parse::<DistinguishedName>().unwrap_err().to_string();
        assert!(error.contains("CN=Jane Doe,OU=Payroll") && !error.contains('\n'), "{error}");
    }
}
