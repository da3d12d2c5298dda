//! Distributed identities: names in user registries outside z/OS.

use std::{fmt, str::FromStr, sync::Arc};

/// The maximum length of a name in bytes. RACF (IBM's security product for z/OS) and ZSS (Zowe System
/// Services) have this limit (docs/reference/identity-and-saf.md#zss-limits).
const MAX_NAME: usize = 246;

/// A name in a user registry outside z/OS, and the name of this registry. The name can be an e-mail address, the
/// subject of an OpenID Connect token, or a distinguished name.
///
/// The security product on z/OS can map such an identity to a user id. In RACF, the command `RACMAP` defines this
/// mapping.
///
/// ```
/// use tower_passticket::identity::{DistributedIdentity, EmailAddress, Registry};
///
/// let registry = Registry::new("ldaps://us.example.com")?;
/// let jane = DistributedIdentity::from_email(&EmailAddress::new("jane@example.com")?, &registry);
/// assert_eq!(jane.name(), "jane@example.com");
/// # Ok::<(), tower_passticket::identity::IdentityError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct DistributedIdentity {
    name: Arc<str>,
    registry: Registry,
}

impl DistributedIdentity {
    /// Creates an identity from a name of 1 to 246 bytes and the name of a registry of 1 to 255 bytes. Both must have
    /// no control characters, and no blanks at the beginning or the end.
    ///
    /// # Errors
    /// [`IdentityError`] contains the beginning of the text, and the rule that the text violates.
    pub fn new(name: &str, registry: &str) -> Result<Self, IdentityError> {
        Self::in_registry(name, &Registry::new(registry)?)
    }

    /// Makes an identity from a name of 1 to 246 bytes in `registry`.
    ///
    /// # Errors
    /// [`IdentityError`] if `name` violates a rule.
    pub fn in_registry(name: &str, registry: &Registry) -> Result<Self, IdentityError> {
        check(What::Name, name)?;
        Ok(Self { name: name.into(), registry: registry.clone() })
    }

    /// Makes an identity from an e-mail address.
    pub fn from_email(email: &EmailAddress, registry: &Registry) -> Self {
        Self { name: email.0.clone(), registry: registry.clone() }
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the registry that the name belongs to.
    pub fn registry(&self) -> &str {
        self.registry.as_str()
    }

    pub(super) fn to_ascii_lowercase_name(&self) -> Self {
        Self { name: self.name.to_ascii_lowercase().into(), registry: self.registry.clone() }
    }
}

impl fmt::Display for DistributedIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of registry {:?}", self.name, self.registry())
    }
}

impl fmt::Debug for DistributedIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DistributedIdentity({self})")
    }
}

/// The name of a registry: 1 to 255 bytes, without control characters, and without blanks at the beginning or the end.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Registry(Arc<str>);

impl Registry {
    /// The maximum length in bytes (docs/reference/identity-and-saf.md#zss-limits).
    pub const MAX_LEN: usize = 255;

    /// Checks the name of a registry.
    ///
    /// # Errors
    /// [`IdentityError`] contains the beginning of the text, and the rule that the text violates.
    pub fn new(text: &str) -> Result<Self, IdentityError> {
        check(What::Registry, text).map(|()| Self(text.into()))
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Registry {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        Self::new(text)
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Registry").field(&self.as_str()).finish()
    }
}

/// An e-mail address: a local part, exactly one `@`, and a domain.
///
/// An address has at most 246 bytes, and no blanks or control characters. A second `@` is an error, because two
/// programs could split the address at different `@` characters. There are no other rules.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EmailAddress(Arc<str>);

impl EmailAddress {
    /// The maximum length in bytes.
    pub const MAX_LEN: usize = MAX_NAME;

    /// Checks an address.
    ///
    /// # Errors
    /// [`IdentityError`] contains the beginning of the text, and the rule that the text violates.
    pub fn new(text: &str) -> Result<Self, IdentityError> {
        check(What::Email, text)?;
        let error = |rule| Err(IdentityError::new(What::Email, text, rule));
        if text.contains(char::is_whitespace) {
            return error(IdentityRule::Blanks);
        }
        match text.split_once('@') {
            Some((local, domain))
                if !local.is_empty() && !domain.is_empty() && !domain.contains('@') =>
            {
                Ok(Self(text.into()))
            }
            _ => error(IdentityRule::NotOneAt),
        }
    }

    /// Returns the address.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EmailAddress {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        Self::new(text)
    }
}

impl fmt::Display for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EmailAddress").field(&self.as_str()).finish()
    }
}

fn check(what: What, text: &str) -> Result<(), IdentityError> {
    let rule = if text.trim().is_empty() {
        IdentityRule::Empty
    } else if text.len() > what.max_len() {
        IdentityRule::TooLong { bytes: text.len() }
    } else if let Some(c) = text.chars().find(|c| c.is_control()) {
        IdentityRule::Control(c)
    } else if text.trim().len() < text.len() {
        IdentityRule::Padded
    } else {
        return Ok(());
    };
    Err(IdentityError::new(what, text, rule))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Name,
    Registry,
    Email,
}

impl What {
    fn max_len(self) -> usize {
        match self {
            Self::Name => MAX_NAME,
            Self::Email => EmailAddress::MAX_LEN,
            Self::Registry => Registry::MAX_LEN,
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "name of an identity",
            Self::Registry => "name of a registry",
            Self::Email => "e-mail address",
        })
    }
}

/// The text is not a valid name, registry or e-mail address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {what} {text:?} {rule}; write 1 to {} bytes, {}", what.max_len(), expected(*what))]
pub struct IdentityError {
    what: What,
    text: String,
    rule: IdentityRule,
}

fn expected(what: What) -> &'static str {
    match what {
        What::Name | What::Registry => {
            "without control characters, and without blanks at the beginning and the end"
        }
        What::Email => "name@domain, without blanks",
    }
}

impl IdentityError {
    fn new(what: What, text: &str, rule: IdentityRule) -> Self {
        Self { what, text: text.chars().take(80).collect(), rule }
    }

    /// Returns the rule that the text violates.
    pub fn rule(&self) -> IdentityRule {
        self.rule
    }
}

/// The rule that a name, a registry or an e-mail address violates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityRule {
    /// The text is empty or has only blanks.
    #[error("is empty or blank")]
    Empty,
    /// The text is too long.
    #[error("has {bytes} bytes")]
    TooLong {
        /// The length of the text in bytes.
        bytes: usize,
    },
    /// The text has a control character.
    #[error("has the control character {0:?}")]
    Control(char),
    /// The text begins or ends with a blank.
    #[error("begins or ends with a blank")]
    Padded,
    /// The e-mail address has a blank.
    #[error("has a blank in it")]
    Blanks,
    /// The e-mail address does not have exactly one `@` with text on both sides.
    #[error("does not have exactly one \"@\" with text on both sides")]
    NotOneAt,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_or_registry_that_violates_a_rule_is_an_error() {
        use IdentityRule::{Control, Empty, Padded, TooLong};
        let long = |n| "\u{e4}".repeat(n);
        let cases: [(&str, Option<IdentityRule>); 12] = [
            ("jane@example.com", None),
            ("CN=Jane Doe,O=Example", None),
            ("a", None),
            (&long(123), None),
            ("", Some(Empty)),
            (" \u{a0}\t", Some(Empty)),
            (" a", Some(Padded)),
            ("a\u{3000}", Some(Padded)),
            ("a\nb", Some(Control('\n'))),
            ("a\0", Some(Control('\0'))),
            ("a\u{85}b", Some(Control('\u{85}'))),
            (&long(128), Some(TooLong { bytes: 256 })),
        ];
        for (text, want) in cases {
            for (name, registry) in [(text, "R"), ("N", text)] {
                let got = DistributedIdentity::new(name, registry);
                assert_eq!(got.as_ref().err().map(IdentityError::rule), want, "{text:?}");
                if let Ok(identity) = got {
                    assert_eq!((identity.name(), identity.registry()), (name, registry));
                }
            }
        }
        let rule = |name: &str, registry: &str| {
            DistributedIdentity::new(name, registry).err().map(|error| error.rule())
        };
        assert_eq!(rule(&"a".repeat(246), &"b".repeat(255)), None);
        assert_eq!(rule(&"a".repeat(247), "R"), Some(TooLong { bytes: 247 }));
        assert_eq!(rule("N", &"b".repeat(256)), Some(TooLong { bytes: 256 }));
    }

    #[test]
    fn an_email_address_has_one_at_sign_and_no_blanks() {
        use IdentityRule::{Blanks, Control, Empty, NotOneAt, Padded, TooLong};
        let long = format!("{}@b", "a".repeat(245));
        let cases: [(&str, Option<IdentityRule>); 14] = [
            ("a@b", None),
            ("Jane.O'Doe+x@Example.com", None),
            (&long[1..], None),
            (&long, Some(TooLong { bytes: 247 })),
            ("", Some(Empty)),
            ("a", Some(NotOneAt)),
            ("@b", Some(NotOneAt)),
            ("a@", Some(NotOneAt)),
            ("@", Some(NotOneAt)),
            ("a@b@c", Some(NotOneAt)),
            ("a@@b", Some(NotOneAt)),
            ("a b@c", Some(Blanks)),
            ("a@b ", Some(Padded)),
            ("a\r\n@b", Some(Control('\r'))),
        ];
        for (text, want) in cases {
            let got = EmailAddress::new(text);
            assert_eq!(got.as_ref().err().map(IdentityError::rule), want, "{text:?}");
            if let Ok(email) = got {
                let identity =
                    DistributedIdentity::from_email(&email, &Registry::new("R").unwrap());
                assert_eq!(identity.name(), text);
            }
        }
        assert_eq!(
            EmailAddress::new("a@b@c").unwrap_err().to_string(),
            "the e-mail address \"a@b@c\" does not have exactly one \"@\" with text on both sides; \
             write 1 to 246 bytes, name@domain, without blanks"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn an_accepted_email_address_follows_the_rules(text in any::<String>(), at in "[ab@. ]{0,8}") {
            for text in [&text, &at, &format!("{text}@{at}")] {
                let _ = DistributedIdentity::new(text, text);
                if let Ok(email) = EmailAddress::new(text) {
                    prop_assert_eq!(email.as_str().matches('@').count(), 1);
                    prop_assert!(!email.as_str().contains(|c: char| c.is_whitespace() || c.is_control()));
                    prop_assert!(DistributedIdentity::new(email.as_str(), "R").is_ok());
                }
            }
        }
    }
}
