//! Names of profiles. A profile protects one resource, or all resources that its pattern matches.

use std::fmt;

/// The longest name that a resource class of RACF can have.
const MAX_LEN: usize = 246;

/// The name of a profile: the name of one resource, or a pattern with generic characters.
///
/// The rules are RACF's for general resources (z/OS Security Server RACF Command Language
/// Reference, "Profile names for general resources"):
///
/// | written | matches |
/// |---|---|
/// | `%` | one character except a period |
/// | `A*.B`, `*` at the end of a qualifier that is not the last | the rest of that qualifier, also an empty one |
/// | `A.*.B`, `*` as a qualifier that is not the last | one qualifier |
/// | `A.B*`, `*` at the end | the rest of the name with all its qualifiers, also an empty one |
/// | `A.*`, `*` as the last qualifier | one qualifier or more |
/// | `**`, as a qualifier, once | any number of qualifiers, also none |
///
/// Upper and lower case differ. Variables (`&`, class RACFVARS) are not supported.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ProfileName(Kind);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Discrete(Box<str>),
    Generic(Generic),
}

impl ProfileName {
    /// Parses a name.
    ///
    /// # Errors
    /// [`ProfileNameError`] for a name that RACF would not accept.
    pub fn new(name: &str) -> Result<Self, ProfileNameError> {
        let error = |rule| ProfileNameError { name: name.chars().take(80).collect(), rule };
        if name.is_empty() {
            return Err(error(ProfileNameRule::Empty));
        }
        if name.len() > MAX_LEN {
            return Err(error(ProfileNameRule::TooLong));
        }
        if let Some(c) =
            name.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '&' | ',' | ';' | '(' | ')'))
        {
            return Err(error(ProfileNameRule::Character(c)));
        }
        if name.split('.').any(str::is_empty) {
            return Err(error(ProfileNameRule::EmptyQualifier));
        }
        if !name.contains(['%', '*']) {
            return Ok(Self(Kind::Discrete(name.into())));
        }
        Generic::parse(name).map(|generic| Self(Kind::Generic(generic))).map_err(error)
    }

    /// The name as it was written.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Kind::Discrete(name) => name,
            Kind::Generic(generic) => &generic.name,
        }
    }

    /// Whether the name matches this resource. Other profiles may match it, too.
    pub fn matches(&self, resource: &str) -> bool {
        match &self.0 {
            Kind::Discrete(name) => **name == *resource,
            Kind::Generic(generic) => generic.matches(resource),
        }
    }

    pub(super) fn into_kind(self) -> Kind {
        self.0
    }
}

impl fmt::Display for ProfileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that is not the name of a profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the profile {name:?} {rule}")]
pub struct ProfileNameError {
    name: String,
    rule: ProfileNameRule,
}

/// The rules for names of profiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileNameRule {
    /// At least one character.
    #[error("is empty; write the name of a resource")]
    Empty,
    /// At most 246 characters.
    #[error("is longer than 246 characters; shorten it")]
    TooLong,
    /// Printable ASCII, without the characters that separate names or begin a variable.
    #[error("has the character {0:?}; write printable ASCII without blanks , ; ( ) &")]
    Character(char),
    /// At least one character between two periods.
    #[error("has an empty qualifier; write something between two periods")]
    EmptyQualifier,
    /// `*` can only end a qualifier, `**` only be one.
    #[error("has an asterisk in front of something else; it can only end a qualifier or be one")]
    Asterisk,
    /// `**` at most once.
    #[error("has ** more than once; write it once")]
    SecondDoubleAsterisk,
}

/// A pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Generic {
    name: Box<str>,
    qualifiers: Box<[Qualifier]>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Qualifier {
    /// A text, in which `%` matches any character.
    Text(Box<str>),
    /// `A*`, not as the last qualifier: the prefix of one qualifier.
    Prefix(Box<str>),
    /// `A*` as the last qualifier: the prefix of the rest of the name.
    RestPrefix(Box<str>),
    /// `*`, not as the last qualifier.
    One,
    /// `*` as the last qualifier.
    OneOrMore,
    /// `**`.
    Any,
}

impl Generic {
    fn parse(name: &str) -> Result<Self, ProfileNameRule> {
        let last = name.split('.').count() - 1;
        let mut qualifiers = Vec::with_capacity(last + 1);
        for (i, text) in name.split('.').enumerate() {
            let before = text.trim_end_matches('*');
            if before.contains('*') {
                return Err(ProfileNameRule::Asterisk);
            }
            let is_last = i == last;
            qualifiers.push(match (before, text.len() - before.len()) {
                (_, 0) => Qualifier::Text(text.into()),
                ("", 1) if is_last => Qualifier::OneOrMore,
                ("", 1) => Qualifier::One,
                ("", 2) if qualifiers.contains(&Qualifier::Any) => {
                    return Err(ProfileNameRule::SecondDoubleAsterisk);
                }
                ("", 2) => Qualifier::Any,
                (_, 1) if is_last => Qualifier::RestPrefix(before.into()),
                (_, 1) => Qualifier::Prefix(before.into()),
                _ => return Err(ProfileNameRule::Asterisk),
            });
        }
        Ok(Self { name: name.into(), qualifiers: qualifiers.into() })
    }

    /// The prefix of all resources that this pattern matches.
    pub(super) fn literal(&self) -> &str {
        let end = self.name.find(['%', '*']).unwrap_or(self.name.len());
        let literal = &self.name[..end];
        // `A.**` protects `A`, too.
        match literal.strip_suffix('.') {
            Some(shorter) if self.name[end..].starts_with("**") => shorter,
            _ => literal,
        }
    }

    pub(super) fn matches(&self, resource: &str) -> bool {
        matches(&self.qualifiers, Some(resource))
    }

    /// A sort key: of two patterns that match the same resource, the more specific one compares
    /// less (RACF Security Administrator's Guide, "Generic profile checking of general resources").
    /// The patterns are compared from left to right. Where they differ, a literal character comes
    /// before `%`, `%` before `*`, and `*` before `**`.
    pub(super) fn specificity(&self) -> impl Ord + use<> {
        let characters = self.name.as_bytes();
        let rank = |(i, b): (usize, &u8)| match (b, characters.get(i + 1)) {
            (b'%', _) => 2,
            (b'*', Some(b'*')) => 5,
            // The second asterisk of `**`: the first one has decided.
            (b'*', _) if i > 0 && characters[i - 1] == b'*' => 0,
            (b'*', Some(_)) => 3,
            (b'*', None) => 4,
            _ => 0,
        };
        // The end of a name comes after a literal character and before a pattern.
        let ranks = characters.iter().enumerate().map(rank).chain([1]);
        (ranks.collect::<Vec<u8>>(), self.name.clone())
    }
}

/// `resource` is the rest of the name, `None` if no qualifier is left.
fn matches(qualifiers: &[Qualifier], resource: Option<&str>) -> bool {
    let Some((qualifier, behind)) = qualifiers.split_first() else { return resource.is_none() };
    if *qualifier == Qualifier::Any {
        let mut left = resource;
        loop {
            if matches(behind, left) {
                return true;
            }
            let Some(names) = left else { return false };
            left = split(names).1;
        }
    }
    let Some(names) = resource else { return false };
    let (name, rest) = split(names);
    match qualifier {
        Qualifier::Text(text) => {
            text.len() == name.len() && begins(name, text) && matches(behind, rest)
        }
        Qualifier::Prefix(text) => begins(name, text) && matches(behind, rest),
        Qualifier::RestPrefix(text) => begins(name, text),
        Qualifier::One => !name.is_empty() && matches(behind, rest),
        Qualifier::OneOrMore => !names.is_empty(),
        Qualifier::Any => unreachable!("handled above"),
    }
}

/// The first qualifier, and those after it.
fn split(names: &str) -> (&str, Option<&str>) {
    match names.bytes().position(|b| b == b'.') {
        Some(period) => (&names[..period], Some(&names[period + 1..])),
        None => (names, None),
    }
}

/// Whether `name` has the prefix `text`, in which `%` matches any character.
fn begins(name: &str, text: &str) -> bool {
    name.len() >= text.len() && text.bytes().zip(name.bytes()).all(|(t, n)| t == b'%' || t == n)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_match_as_the_tables_of_racf_say() {
        for (name, yes, no) in [
            ("A.B", &["A.B"][..], &["A.B.C", "A", "A.b"][..]),
            ("AB.CD.%", &["AB.CD.E", "AB.CD.F"], &["AB.CD.EF", "AB.CD", "AB.CD.", "AB.CD.E.F"]),
            ("AB%CD", &["ABXCD"], &["AB.CD", "ABCD"]),
            ("ABC.DEF*", &["ABC.DEF", "ABC.DEFG", "ABC.DEF.G", "ABC.DEFG.H.I"], &["ABC.DE", "ABC"]),
            ("ABC.DEF.*", &["ABC.DEF.G", "ABC.DEF.G.H"], &["ABC.DEF", "ABC.DEFG.H"]),
            ("ABC.*.DEF", &["ABC.X.DEF"], &["ABC.DEF", "ABC.X.Y.DEF", "ABC..DEF", "ABC.X.DEF.G"]),
            ("ABC.DE*.FGH", &["ABC.DE.FGH", "ABC.DEX.FGH"], &["ABC.D.FGH", "ABC.DEX.Y.FGH"]),
            ("ABC.**", &["ABC", "ABC.D", "ABC.D.E"], &["ABCD", "AB"]),
            ("ABC.**.DEF", &["ABC.DEF", "ABC.X.DEF", "ABC.X.Y.DEF"], &["ABC", "ABC.X", "ABC.DEFG"]),
            ("**.ABC", &["ABC", "X.ABC", "X.Y.ABC"], &["X.ABCD", "ABC.X"]),
            ("*.ABC", &["X.ABC"], &["ABC", "X.Y.ABC"]),
            ("**", &["A", "A.B.C"], &[]),
            ("*", &["A", "A.B.C"], &[]),
            ("**.A*", &["A", "AB", "X.AB.C"], &["X", "X.B"]),
            ("A*.%.**", &["A.B", "AX.B.C.D"], &["A", "A.BC", "B.C"]),
        ] {
            let profile = ProfileName::new(name).unwrap();
            assert_eq!(profile.as_str(), name);
            for resource in yes {
                assert!(profile.matches(resource), "{name} protects {resource}");
            }
            for resource in no {
                assert!(!profile.matches(resource), "{name} does not protect {resource}");
            }
        }
    }

    #[test]
    fn invalid_names_are_refused_with_a_rule() {
        use ProfileNameRule::{
            Asterisk, Character, Empty, EmptyQualifier, SecondDoubleAsterisk, TooLong,
        };
        for (name, rule) in [
            ("", Empty),
            (&"A".repeat(247), TooLong),
            ("A B", Character(' ')),
            ("A.&RACUID", Character('&')),
            ("A,B", Character(',')),
            ("ÄB", Character('Ä')),
            ("A..B", EmptyQualifier),
            (".A", EmptyQualifier),
            ("A.", EmptyQualifier),
            ("A*B", Asterisk),
            ("*A", Asterisk),
            ("A**", Asterisk),
            ("A.***", Asterisk),
            ("A.**.B.**", SecondDoubleAsterisk),
        ] {
            let error = ProfileName::new(name).unwrap_err();
            assert_eq!(error.rule, rule, "{name}");
        }
    }

    fn generic(name: &str) -> Generic {
        match ProfileName::new(name).unwrap().into_kind() {
            Kind::Generic(generic) => generic,
            Kind::Discrete(_) => panic!("{name} is not generic"),
        }
    }

    #[test]
    fn specificity_follows_the_table_of_racf() {
        // The order of the table in "Generic profile checking of general resources", as far as two
        // of them can match the same resource.
        for order in [
            &[
                "COPY.PAPER.%",
                "COPY.PAPER.*",
                "COPY.PAPER.**",
                "COPY.PAPER*",
                "COPY.PAP*",
                "COPY.*",
            ][..],
            &["COPY.PAPE%", "COPY.PAP*", "COPY.%APER", "COPY.**", "COPY*", "**"],
            &["A.*.B", "A.*", "A.**.B", "A.**"],
            &["A%", "A%*", "A*.**", "A*", "%A", "*"],
        ] {
            let mut sorted: Vec<_> = order.iter().rev().map(|name| generic(name)).collect();
            sorted.sort_by_key(Generic::specificity);
            let sorted: Vec<_> = sorted.iter().map(|generic| &*generic.name).collect();
            assert_eq!(sorted, order);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_text_causes_a_panic(name in "\\PC{0,12}", resource in "\\PC{0,12}") {
            if let Ok(profile) = ProfileName::new(&name) {
                profile.matches(&resource);
            }
        }

        #[test]
        fn matching_resources_begin_with_the_literal(
            name in "[AB.%*]{1,7}", resource in "[AB.]{1,7}",
        ) {
            let Ok(profile) = ProfileName::new(&name) else { return Ok(()) };
            let matches = profile.matches(&resource);
            if let Kind::Generic(generic) = profile.into_kind() && matches {
                prop_assert!(resource.starts_with(generic.literal()), "{name} {resource}");
            }
        }

        #[test]
        fn a_longer_literal_is_more_specific(
            one in "[AB.%*]{1,6}", other in "[AB.%*]{1,6}", resource in "[AB.]{1,6}",
        ) {
            let (Ok(one), Ok(other)) = (ProfileName::new(&one), ProfileName::new(&other)) else {
                return Ok(());
            };
            if let (Kind::Generic(one), Kind::Generic(other)) = (one.into_kind(), other.into_kind())
                && one.matches(&resource) && other.matches(&resource)
                && one.literal().len() > other.literal().len()
            {
                prop_assert!(one.specificity() < other.specificity(), "{one:?} {other:?}");
            }
        }
    }
}
