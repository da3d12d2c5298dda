//! Names of profiles. A profile of the security product protects one resource, or all resources whose
//! names match a pattern.

use std::fmt;

/// The maximum length of a resource name in RACF.
const MAX_LEN: usize = 246;

/// The name of a profile: either the name of one resource (a *discrete* profile), or a pattern with `%` or `*` (a
/// *generic* profile). Periods separate the *qualifiers* of a name. For example, `A.B` has two qualifiers.
///
/// The rules come from RACF, the security product of IBM (z/OS Security Server RACF Command Language Reference,
/// "Profile names for general resources"):
///
/// | in a pattern | matches |
/// |---|---|
/// | `%` | one character except a period |
/// | `A*.B`: `*` at the end of a qualifier that is not the last one | the rest of that qualifier, which may be empty |
/// | `A.*.B`: `*` as a qualifier that is not the last one | one qualifier |
/// | `A.B*`: `*` at the end of the last qualifier | the rest of the name, which may be empty or have more qualifiers |
/// | `A.*`: `*` as the last qualifier | one or more qualifiers |
/// | `**` as a qualifier, at most once in a name | any number of qualifiers, even none |
///
/// Names are case-sensitive. Variables (`&`, class RACFVARS) are not supported.
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
    /// [`ProfileNameError`] if the name violates a [`ProfileNameRule`], for example because it has a variable.
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

    /// Returns the name as it was passed to [`new`](Self::new).
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Kind::Discrete(name) => name,
            Kind::Generic(generic) => &generic.name,
        }
    }

    /// Returns whether the name matches this resource. Several profiles may match the same resource.
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

/// The text is not the name of a profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the profile {name:?} {rule}")]
pub struct ProfileNameError {
    name: String,
    rule: ProfileNameRule,
}

/// The rule that a name violates. The text is the second part of a sentence that begins with the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileNameRule {
    /// A name has at least one character.
    #[error("is empty; write the name of a resource")]
    Empty,
    /// A name has at most 246 characters.
    #[error("is longer than 246 characters; shorten it")]
    TooLong,
    /// A name contains only printable ASCII characters. It contains no blank and none of the characters `& , ; ( )`.
    #[error(
        "has the character {0:?}, which is not allowed; write only printable ASCII, without blanks and without any of: , ; ( ) &"
    )]
    Character(char),
    /// A qualifier has at least one character.
    #[error("has an empty qualifier; remove the period, or write something before and after it")]
    EmptyQualifier,
    /// `*` must be the last character of a qualifier. `**` must be a whole qualifier.
    #[error(
        "has an asterisk at a wrong place; end a qualifier with *, or write * or ** as a qualifier"
    )]
    Asterisk,
    /// `**` occurs at most once in a name.
    #[error("has ** more than once; write it once")]
    SecondDoubleAsterisk,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Generic {
    name: Box<str>,
    qualifiers: Box<[Qualifier]>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Qualifier {
    /// A text without `*`. `%` matches any character.
    Text(Box<str>),
    /// `A*` before the last qualifier: matches one qualifier with this prefix.
    Prefix(Box<str>),
    /// `A*` as the last qualifier: matches one or more qualifiers. The first of them must begin with this prefix.
    RestPrefix(Box<str>),
    /// `*` before the last qualifier: matches one qualifier.
    One,
    /// `*` as the last qualifier: matches one or more qualifiers.
    OneOrMore,
    /// `**`: matches any number of qualifiers.
    Any,
}

impl Generic {
    fn parse(name: &str) -> Result<Self, ProfileNameRule> {
        let last = name.split('.').count() - 1;
        let mut qualifiers = Vec::with_capacity(last + 1);
        for (i, text) in name.split('.').enumerate() {
            let prefix = text.trim_end_matches('*');
            if prefix.contains('*') {
                return Err(ProfileNameRule::Asterisk);
            }
            let is_last = i == last;
            qualifiers.push(match (prefix, text.len() - prefix.len()) {
                (_, 0) => Qualifier::Text(text.into()),
                ("", 1) if is_last => Qualifier::OneOrMore,
                ("", 1) => Qualifier::One,
                ("", 2) if qualifiers.contains(&Qualifier::Any) => {
                    return Err(ProfileNameRule::SecondDoubleAsterisk);
                }
                ("", 2) => Qualifier::Any,
                (_, 1) if is_last => Qualifier::RestPrefix(prefix.into()),
                (_, 1) => Qualifier::Prefix(prefix.into()),
                _ => return Err(ProfileNameRule::Asterisk),
            });
        }
        Ok(Self { name: name.into(), qualifiers: qualifiers.into() })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the part of the name before the first `%` or `*`. In a pattern such as `A.**`, the period before `**` is
    /// not part of the prefix. If a pattern matches a resource, the name of the resource begins with the prefix.
    pub(super) fn literal_prefix(&self) -> &str {
        let end = self.name.find(['%', '*']).unwrap_or(self.name.len());
        let prefix = &self.name[..end];
        // The period is left out, because `A.**` also matches `A`, which has no period.
        match prefix.strip_suffix('.') {
            Some(shorter) if self.name[end..].starts_with("**") => shorter,
            _ => prefix,
        }
    }

    pub(super) fn matches(&self, resource: &str) -> bool {
        matches(&self.qualifiers, Some(resource))
    }

    /// Returns a sort key. If two patterns match the same resource, the more specific pattern has the smaller key (RACF
    /// Security Administrator's Guide, "Generic profile checking of general resources"). The patterns are compared from
    /// left to right. At the first difference, a literal character is more specific than `%`, `%` more than `*`, and
    /// `*` more than `**`. A `*` at the end of a name is less specific than a `*` before the end.
    pub(super) fn specificity(&self) -> impl Ord + use<> {
        let characters = self.name.as_bytes();
        let rank = |(i, b): (usize, &u8)| match (b, characters.get(i + 1)) {
            (b'%', _) => 2,
            (b'*', Some(b'*')) => 5,
            // This is the second asterisk of `**`. The rank of the first asterisk counts for both.
            (b'*', _) if i > 0 && characters[i - 1] == b'*' => 0,
            (b'*', Some(_)) => 3,
            (b'*', None) => 4,
            _ => 0,
        };
        // The end of a name ranks after a literal character, and before `%` and `*`.
        let ranks = characters.iter().enumerate().map(rank).chain([1]);
        (ranks.collect::<Vec<u8>>(), self.name.clone())
    }
}

/// Returns whether the rest of a pattern matches the rest of a resource's name. `qualifiers` are the qualifiers of the
/// pattern that are not compared yet. `resource` is the part of the name that is not compared yet, or `None` if the
/// name has no more qualifiers.
fn matches(qualifiers: &[Qualifier], resource: Option<&str>) -> bool {
    let Some((qualifier, others)) = qualifiers.split_first() else { return resource.is_none() };
    if *qualifier == Qualifier::Any {
        let mut rest = resource;
        loop {
            if matches(others, rest) {
                return true;
            }
            let Some(names) = rest else { return false };
            rest = split_first_qualifier(names).1;
        }
    }
    let Some(names) = resource else { return false };
    let (name, rest) = split_first_qualifier(names);
    match qualifier {
        Qualifier::Text(text) => {
            text.len() == name.len() && has_prefix(name, text) && matches(others, rest)
        }
        Qualifier::Prefix(text) => has_prefix(name, text) && matches(others, rest),
        Qualifier::RestPrefix(text) => has_prefix(name, text),
        Qualifier::One => !name.is_empty() && matches(others, rest),
        Qualifier::OneOrMore => !names.is_empty(),
        Qualifier::Any => unreachable!("handled above"),
    }
}

fn split_first_qualifier(names: &str) -> (&str, Option<&str>) {
    match names.bytes().position(|b| b == b'.') {
        Some(period) => (&names[..period], Some(&names[period + 1..])),
        None => (names, None),
    }
}

/// Returns whether `name` begins with `prefix`. `%` in `prefix` matches any character.
fn has_prefix(name: &str, prefix: &str) -> bool {
    name.len() >= prefix.len() && prefix.bytes().zip(name.bytes()).all(|(p, n)| p == b'%' || p == n)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_match_as_in_the_tables_of_racf() {
        for (name, matching, not_matching) in [
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
            for resource in matching {
                assert!(profile.matches(resource), "expected that {name} matches {resource}");
            }
            for resource in not_matching {
                assert!(!profile.matches(resource), "{name} must not match {resource}");
            }
        }
    }

    #[test]
    fn invalid_names_are_rejected_with_the_rule() {
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
            Kind::Discrete(_) => panic!("expected a generic profile: {name}"),
        }
    }

    #[test]
    fn specificity_follows_the_table_of_racf() {
        // Each list has the order of the table in "Generic profile checking of general resources". Only patterns that
        // can match the same resource are compared.
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
        fn random_names_and_resources_cause_no_panic(name in "\\PC{0,12}", resource in "\\PC{0,12}") {
            if let Ok(profile) = ProfileName::new(&name) {
                profile.matches(&resource);
            }
        }

        #[test]
        fn matching_resources_begin_with_the_literal_prefix(
            name in "[AB.%*]{1,7}", resource in "[AB.]{1,7}",
        ) {
            let Ok(profile) = ProfileName::new(&name) else { return Ok(()) };
            let matches = profile.matches(&resource);
            if let Kind::Generic(generic) = profile.into_kind() && matches {
                let prefix = generic.literal_prefix();
                prop_assert!(resource.starts_with(prefix), "{name} {resource}");
            }
        }

        #[test]
        fn of_two_matching_patterns_the_one_with_the_longer_literal_prefix_is_more_specific(
            one in "[AB.%*]{1,6}", other in "[AB.%*]{1,6}", resource in "[AB.]{1,6}",
        ) {
            let (Ok(one), Ok(other)) = (ProfileName::new(&one), ProfileName::new(&other)) else {
                return Ok(());
            };
            if let (Kind::Generic(one), Kind::Generic(other)) = (one.into_kind(), other.into_kind())
                && one.matches(&resource) && other.matches(&resource)
                && one.literal_prefix().len() > other.literal_prefix().len()
            {
                prop_assert!(one.specificity() < other.specificity(), "{one:?} {other:?}");
            }
        }
    }
}
