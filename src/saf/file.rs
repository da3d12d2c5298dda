//! SAF checks with a list of profiles, which a program can read from a file. SAF is the z/OS interface to the security
//! product, but these checks need no security product.

use std::{
    collections::HashMap,
    fmt,
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use foldhash::fast::RandomState;

use super::{
    Access, AccessLevel, CheckFuture, SafError, SafProvider,
    profile::{Generic, Kind, ProfileName},
};
use crate::passticket::UserId;

/// A profile of one class. The profile protects each resource of this class that matches the name of the profile. The
/// profile lists the users who have access to these resources, and their access levels.
#[derive(Clone, Debug)]
pub struct Profile {
    class: String,
    name: ProfileName,
    access: Vec<(UserId, AccessLevel)>,
}

impl Profile {
    /// Creates a profile that gives access to no user. A profile without users can deny access, because it takes
    /// precedence over a less specific profile for the same resources.
    pub fn new(class: impl Into<String>, name: ProfileName) -> Self {
        Self { class: class.into(), name, access: Vec::new() }
    }

    /// Gives `user` access. If a user gets several levels, the highest level applies.
    #[must_use]
    pub fn permit(mut self, user: UserId, level: AccessLevel) -> Self {
        self.access.push((user, level));
        self
    }

    /// Returns the class of the resources.
    pub fn class(&self) -> &str {
        &self.class
    }

    /// Returns the name, which determines the resources that this profile protects.
    pub fn name(&self) -> &ProfileName {
        &self.name
    }

    /// Returns the access of `user`, or `None` if the profile gives no access to the user.
    pub fn access(&self, user: &UserId) -> Option<AccessLevel> {
        self.access.iter().filter(|(listed, _)| listed == user).map(|(_, level)| *level).max()
    }
}

/// The profile that decides about a resource ([`FileSaf::deciding_profile`]).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DecidingProfile {
    /// The name of the profile: the name of the resource, or a pattern.
    pub name: String,
    /// The level of the user in the profile. `None` if the profile does not list the user.
    pub access: Option<AccessLevel>,
}

/// A [`SafProvider`] that decides from a list of profiles. The list contains the same data as Zowe's file `saf.yml`
/// (docs/reference/identity-and-saf.md#saf-file): class, resource, level and user. But the resource may also be a
/// pattern.
///
/// As in RACF (IBM's security product for z/OS), only one profile decides about a resource. This is the profile whose
/// name is exactly the name of the resource. If no profile has this name, the most specific pattern that matches
/// decides. RACF's rules define which pattern is more specific. If a user has several levels in the deciding profile,
/// the highest one applies, and includes the lower levels. Access is refused if no profile matches the resource, or if
/// the deciding profile does not list the user. `FileSaf::default()` has no profiles.
///
/// A check takes a few look-ups, even with very many profiles. It is slower in two cases: the texts before the first
/// `%` or `*` are equal in many patterns, or these texts have many different lengths.
///
/// Clones share the profiles, so [`replace`](Self::replace) replaces the profiles of all clones.
#[derive(Clone, Default)]
pub struct FileSaf(Arc<Shared>);

#[derive(Default)]
struct Shared {
    classes: ArcSwap<Classes>,
    /// The number of calls of [`FileSaf::replace`]. It is incremented after the profiles were replaced. So a caller
    /// that reads the version before a check never caches an old answer with a new version.
    version: AtomicU64,
}

// The hasher is fast, but a person who can choose the keys of a map could cause hash collisions. This is safe here,
// because only the operator chooses the keys of these maps.
type Classes = HashMap<String, Class, RandomState>;
type AccessList = HashMap<UserId, AccessLevel, RandomState>;

#[derive(Default)]
struct Class {
    discrete: HashMap<Box<str>, AccessList, RandomState>,
    /// The generic profiles, by their literal prefix ([`Generic::literal_prefix`]). Profiles with the same prefix are
    /// sorted, with the most specific profile first.
    generic: HashMap<Box<str>, Vec<(Generic, AccessList)>, RandomState>,
    /// The lengths of the literal prefixes, with the longest first.
    prefix_lengths: Vec<usize>,
}

impl FileSaf {
    /// Makes a provider from profiles in any order. Profiles with the same class and name are merged.
    pub fn new(profiles: impl IntoIterator<Item = Profile>) -> Self {
        let classes = ArcSwap::from_pointee(classes(profiles));
        Self(Arc::new(Shared { classes, version: AtomicU64::new(0) }))
    }

    /// Replaces all profiles, also in the clones. A check uses either only old profiles or only new
    /// profiles.
    pub fn replace(&self, profiles: impl IntoIterator<Item = Profile>) {
        self.0.classes.store(Arc::new(classes(profiles)));
        self.0.version.fetch_add(1, Ordering::Release);
    }

    /// Returns the profile that decides about `resource` in `class`, and the level that it gives to `user`. Returns
    /// `None` if no profile matches the resource. In this case, a check refuses access. This function is for
    /// explanations to operators. It uses the same look-up as a check.
    pub fn deciding_profile(
        &self,
        user: &UserId,
        class: &str,
        resource: &str,
    ) -> Option<DecidingProfile> {
        let classes = self.0.classes.load();
        let class = classes.get(class)?;
        let (name, list) = match class.discrete.get(resource) {
            Some(list) => (resource.to_owned(), list),
            None => {
                let (generic, list) = class.find_generic(resource)?;
                (generic.name().to_owned(), list)
            }
        };
        Some(DecidingProfile { name, access: list.get(user).copied() })
    }

    fn access(&self, user: &UserId, class: &str, resource: &str, level: AccessLevel) -> Access {
        let classes = self.0.classes.load();
        let list = classes.get(class).and_then(|class| class.find_access_list(resource));
        match list.and_then(|list| list.get(user)) {
            Some(granted) if *granted >= level => Access::Granted,
            _ => Access::Refused,
        }
    }
}

fn classes(profiles: impl IntoIterator<Item = Profile>) -> Classes {
    let mut classes = Classes::default();
    for Profile { class, name, access } in profiles {
        let list = classes.entry(class).or_default().access_list(name);
        for (user, level) in access {
            let highest = list.entry(user).or_insert(level);
            *highest = level.max(*highest);
        }
    }
    classes.values_mut().for_each(Class::sort);
    classes
}

impl Class {
    /// Returns the access list of the profile with this name. Adds an empty profile if there is no such profile.
    fn access_list(&mut self, name: ProfileName) -> &mut AccessList {
        match name.into_kind() {
            Kind::Discrete(name) => self.discrete.entry(name).or_default(),
            Kind::Generic(generic) => {
                let same_prefix = self.generic.entry(generic.literal_prefix().into()).or_default();
                let index = same_prefix.iter().position(|(present, _)| *present == generic);
                let index = index.unwrap_or_else(|| {
                    same_prefix.push((generic, AccessList::default()));
                    same_prefix.len() - 1
                });
                &mut same_prefix[index].1
            }
        }
    }

    /// Sorts the generic profiles. This function is called after all profiles were added.
    fn sort(&mut self) {
        for same_prefix in self.generic.values_mut() {
            same_prefix.sort_by_cached_key(|(generic, _)| generic.specificity());
        }
        self.prefix_lengths = self.generic.keys().map(|prefix| prefix.len()).collect();
        self.prefix_lengths.sort_unstable_by(|a, b| b.cmp(a));
        self.prefix_lengths.dedup();
    }

    /// Returns the access list of the most specific profile that matches `resource`. A discrete profile is always the
    /// most specific. If two generic profiles with different literal prefixes match, the one with the longer prefix is
    /// more specific. A test in `profile.rs` checks this rule with random names.
    fn find_access_list(&self, resource: &str) -> Option<&AccessList> {
        self.discrete.get(resource).or_else(|| Some(self.find_generic(resource)?.1))
    }

    fn find_generic(&self, resource: &str) -> Option<(&Generic, &AccessList)> {
        self.prefix_lengths
            .iter()
            .filter_map(|length| self.generic.get(resource.get(..*length)?))
            .flatten()
            .find_map(|(generic, list)| generic.matches(resource).then_some((generic, list)))
    }
}

impl fmt::Debug for FileSaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let classes = self.0.classes.load();
        let profiles = |class: &Class| {
            class.discrete.len() + class.generic.values().map(Vec::len).sum::<usize>()
        };
        f.debug_map().entries(classes.iter().map(|(name, class)| (name, profiles(class)))).finish()
    }
}

impl SafProvider for FileSaf {
    fn check(&self, user: &UserId, class: &str, resource: &str, level: AccessLevel) -> CheckFuture {
        Box::pin(ready(Ok(self.access(user, class, resource, level))))
    }

    fn try_check_now(
        &self,
        user: &UserId,
        class: &str,
        resource: &str,
        level: AccessLevel,
    ) -> Option<Result<Access, SafError>> {
        Some(Ok(self.access(user, class, resource, level)))
    }

    fn version(&self) -> Option<u64> {
        Some(self.0.version.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use test_support::tickets::user;

    use super::*;
    use AccessLevel::{Alter, Control, Read, Update};

    fn profile(class: &str, name: &str) -> Profile {
        Profile::new(class, ProfileName::new(name).unwrap())
    }

    #[test]
    fn the_deciding_profile_is_the_most_specific_one() {
        let saf = FileSaf::new([
            profile("PTKTDATA", "IRRPTAUTH.A.*").permit(user("GW"), Update),
            profile("PTKTDATA", "IRRPTAUTH.A.IBMUSER"),
            profile("PTKTDATA", "IRRPTAUTH.**").permit(user("GW"), Read),
        ]);
        for (resource, want) in [
            ("IRRPTAUTH.A.USER", Some(("IRRPTAUTH.A.*", Some(Update)))),
            ("IRRPTAUTH.A.IBMUSER", Some(("IRRPTAUTH.A.IBMUSER", None))),
            ("IRRPTAUTH.B.USER", Some(("IRRPTAUTH.**", Some(Read)))),
            ("OTHER", None),
        ] {
            let got = saf.deciding_profile(&user("GW"), "PTKTDATA", resource);
            let got = got.as_ref().map(|it| (it.name.as_str(), it.access));
            assert_eq!(got, want, "{resource}");
        }
        assert_eq!(saf.deciding_profile(&user("GW"), "ZOWE", "IRRPTAUTH.A.USER"), None);
    }

    #[test]
    fn the_highest_level_applies_and_names_match_exactly() {
        let services = "APIML.SERVICES";
        let saf = FileSaf::new([
            profile("ZOWE", services).permit(user("A"), Update),
            profile("ZOWE", services).permit(user("A"), Read).permit(user("B"), Read),
            profile("zowe", services).permit(user("B"), Alter),
        ]);
        for (name, class, resource, level, want) in [
            ("A", "ZOWE", services, Read, Access::Granted),
            ("a", "ZOWE", services, Update, Access::Granted),
            ("A", "ZOWE", services, Control, Access::Refused),
            ("B", "ZOWE", services, Read, Access::Granted),
            ("B", "ZOWE", services, Update, Access::Refused),
            ("B", "zowe", services, Alter, Access::Granted),
            ("A", "zowe", services, Read, Access::Refused),
            ("A", "ZOWE", "APIML.SERVICE", Read, Access::Refused),
            ("A", "ZOWE", "apiml.services", Read, Access::Refused),
            ("A", "FACILITY", services, Read, Access::Refused),
            ("C", "ZOWE", services, Read, Access::Refused),
        ] {
            let got = saf.try_check_now(&user(name), class, resource, level).unwrap();
            assert_eq!(got, Ok(want), "{name} {class} {resource} {level}");
            let got =
                FileSaf::default().try_check_now(&user(name), class, resource, level).unwrap();
            assert_eq!(got, Ok(Access::Refused));
        }
    }

    #[test]
    fn only_the_most_specific_profile_decides() {
        let saf = FileSaf::new([
            profile("PTKTDATA", "IRRPTAUTH.**").permit(user("ALL"), Update),
            profile("PTKTDATA", "IRRPTAUTH.ZOWEAPPL.*").permit(user("SRV"), Update),
            profile("PTKTDATA", "IRRPTAUTH.ZOWEAPPL.IBM*"),
            profile("PTKTDATA", "IRRPTAUTH.ZOWEAPPL.IBMUSER").permit(user("SRV"), Read),
            profile("PTKTDATA", "IRRPTAUTH.*.ROOT").permit(user("ADM"), Update),
        ]);
        for (name, resource, want) in [
            ("SRV", "IRRPTAUTH.ZOWEAPPL.USER", true),
            ("SRV", "IRRPTAUTH.ZOWEAPPL.IBMUSER", false),
            // The profile IBM* gives access to no user. It takes precedence over the less specific profile.
            ("SRV", "IRRPTAUTH.ZOWEAPPL.IBMFTP", false),
            ("SRV", "IRRPTAUTH.OTHER.USER", false),
            ("SRV", "IRRPTAUTH.ZOWEAPP.USER", false),
            ("ALL", "IRRPTAUTH.OTHER.USER", true),
            ("ALL", "IRRPTAUTH.ZOWEAPPL.USER", false),
            ("ALL", "IRRPTAUTH", true),
            ("ALL", "IRRPTAUT", false),
            ("ADM", "IRRPTAUTH.OTHER.ROOT", true),
            ("ALL", "IRRPTAUTH.OTHER.ROOT", false),
            ("ADM", "IRRPTAUTH.ZOWEAPPL.ROOT", false),
        ] {
            let got = saf.access(&user(name), "PTKTDATA", resource, Update);
            assert_eq!(got == Access::Granted, want, "{name} {resource}");
        }
    }

    #[test]
    fn clones_share_their_profiles() {
        let saf = FileSaf::default();
        let clone = saf.clone();
        assert_eq!(clone.access(&user("A"), "C", "R", Read), Access::Refused);
        saf.replace([profile("C", "*").permit(user("A"), Read)]);
        assert_eq!(clone.access(&user("A"), "C", "R", Read), Access::Granted);
        saf.replace([]);
        assert_eq!(clone.access(&user("A"), "C", "R", Read), Access::Refused);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_look_up_by_prefix_finds_the_same_profile_as_a_search_through_all_profiles(
            names in proptest::collection::vec("[AB.%*]{1,5}", 1..8), resource in "[AB.]{1,5}",
        ) {
            let names: Vec<_> = names.iter().filter_map(|n| ProfileName::new(n).ok()).collect();
            let mut matching: Vec<_> = names.iter().filter(|n| n.matches(&resource)).collect();
            matching.sort_by_key(|name| match (*name).clone().into_kind() {
                Kind::Discrete(_) => None,
                Kind::Generic(generic) => Some(generic.specificity()),
            });
            let numbered = names.iter().enumerate().map(|(i, name)| {
                Profile::new("C", name.clone()).permit(user(&format!("U{i}")), Read)
            });
            let saf = FileSaf::new(numbered);
            for (i, name) in names.iter().enumerate() {
                let granted = saf.access(&user(&format!("U{i}")), "C", &resource, Read);
                let first = matching.first().is_some_and(|first| *first == name);
                prop_assert_eq!(granted == Access::Granted, first, "{} {}", name, resource);
            }
        }
    }
}
