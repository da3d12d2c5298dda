//! The key profiles (PassTicket keys with their settings) of several applications. A profile is for all users of its
//! application, or only for the users of its qualifier.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::Arc,
};

use foldhash::fast::RandomState;

use super::{
    names::{Applid, GroupName, UserId},
    profile::{KeyProfile, Replay},
    qualifier::Qualifier,
};

/// The profiles of several applications, by APPLID and user.
///
/// Clones share the profiles, so cloning is cheap.
#[derive(Clone, Debug, Default)]
pub struct KeyProfiles(Arc<Index>);

// The hash function is fast, but an attacker who chooses the keys of a map could make many of them collide. Here, the
// operator chooses the keys: the APPLIDs and the users.
#[derive(Debug, Default)]
struct Index {
    all: Vec<Arc<KeyProfile>>,
    unqualified: HashMap<Applid, Arc<KeyProfile>, RandomState>,
    /// For a user with several qualified profiles of an APPLID, the profile that takes precedence.
    qualified: HashMap<(Applid, UserId), Arc<KeyProfile>, RandomState>,
    /// [`Replay::Allowed`] only if all profiles of the APPLID allow replay.
    replay: HashMap<Applid, Replay, RandomState>,
}

impl KeyProfiles {
    /// Collects profiles.
    ///
    /// # Errors
    /// [`ProfileConflict`] if two profiles have the same [name](KeyProfile::name), or if a user is in two groups of the
    /// same APPLID.
    pub fn new<I>(profiles: I) -> Result<Self, ProfileConflict>
    where
        I: IntoIterator,
        I::Item: Into<Arc<KeyProfile>>,
    {
        let (mut index, mut names) = (Index::default(), HashSet::new());
        let mut groups = HashMap::new();
        for profile in profiles {
            let profile: Arc<KeyProfile> = profile.into();
            if !names.insert(profile.name()) {
                return Err(ProfileConflict::SameName { name: profile.name() });
            }
            let applid = *profile.applid();
            let all_allow = index.replay.entry(applid).or_insert(Replay::Allowed);
            if profile.replay() == Replay::Protected {
                *all_allow = Replay::Protected;
            }
            match profile.qualifier() {
                None => {
                    index.unqualified.insert(applid, profile.clone());
                }
                Some(qualifier) => {
                    check_groups(applid, qualifier, &mut groups)?;
                    index.qualify(&profile, qualifier);
                }
            }
            index.all.push(profile);
        }
        Ok(Self(Arc::new(index)))
    }

    /// Returns the profile of an APPLID that has no qualifier, if there is one. It is for all users of the APPLID that
    /// have no qualified profile.
    pub fn get(&self, applid: &Applid) -> Option<&Arc<KeyProfile>> {
        self.0.unqualified.get(applid)
    }

    /// Returns the profile of an APPLID for a user, if there is one. The function looks for profiles in this order, and
    /// returns the first one that exists: user and group, user, group, APPLID without a qualifier.
    ///
    /// RACF looks for profiles in the same order. But if a ticket does not match the key of a qualified profile, RACF
    /// also tries the key of the profile without a qualifier.
    pub fn find(&self, user: &UserId, applid: &Applid) -> Option<&Arc<KeyProfile>> {
        if !self.0.qualified.is_empty()
            && let Some(profile) = self.0.qualified.get(&(*applid, *user))
        {
            return Some(profile);
        }
        self.get(applid)
    }

    /// Returns [`Replay::Allowed`] if the APPLID has profiles and all of them allow replay.
    pub(super) fn replay(&self, applid: &Applid) -> Replay {
        self.0.replay.get(applid).copied().unwrap_or(Replay::Protected)
    }

    /// Returns the APPLIDs with [`Replay::Protected`] in at least one profile.
    pub(super) fn partly_protected(&self) -> impl Iterator<Item = Applid> {
        let protected = self.0.replay.iter().filter(|(_, replay)| **replay == Replay::Protected);
        protected.map(|(applid, _)| *applid)
    }

    /// Returns the APPLIDs with [`Replay::Protected`] in all profiles.
    pub(super) fn fully_protected(&self) -> HashSet<Applid> {
        let mut protected: HashSet<_> = self.partly_protected().collect();
        for profile in &self.0.all {
            if profile.replay() == Replay::Allowed {
                protected.remove(profile.applid());
            }
        }
        protected
    }

    /// Returns all profiles, in no defined order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<KeyProfile>> {
        self.0.all.iter()
    }
}

impl Index {
    /// Makes `profile` the profile of the users in `qualifier`, except for users who have a profile that takes
    /// precedence.
    fn qualify(&mut self, profile: &Arc<KeyProfile>, qualifier: &Qualifier) {
        for user in qualifier.users() {
            match self.qualified.entry((*profile.applid(), *user)) {
                Entry::Vacant(entry) => {
                    entry.insert(profile.clone());
                }
                Entry::Occupied(mut entry) => {
                    let present = entry.get().qualifier().map(Qualifier::precedence);
                    if Some(qualifier.precedence()) < present {
                        entry.insert(profile.clone());
                    }
                }
            }
        }
    }
}

/// Checks that the users of a qualifier are in no other group of the same APPLID, and adds them to `groups`. `groups`
/// contains the group of each user in the profiles that were checked before.
fn check_groups(
    applid: Applid,
    qualifier: &Qualifier,
    groups: &mut HashMap<(Applid, UserId), GroupName>,
) -> Result<(), ProfileConflict> {
    let Some(group) = qualifier.group() else { return Ok(()) };
    for user in qualifier.users() {
        let first = *groups.entry((applid, *user)).or_insert(*group);
        if first != *group {
            return Err(ProfileConflict::TwoGroups {
                applid,
                user: *user,
                groups: [first, *group],
            });
        }
    }
    Ok(())
}

/// The error for profiles that cannot be in one [`KeyProfiles`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileConflict {
    /// Two profiles have the same name.
    #[error("{name} has two PassTicket keys; remove one of them")]
    #[non_exhaustive]
    SameName {
        /// The [name](KeyProfile::name) of the profiles.
        name: String,
    },
    /// A user is in two groups of the same APPLID. This is an error, because a user logs on with only one group, and
    /// the group decides which profile is used.
    #[error(
        "user {user} of APPLID {applid} is in the groups {} and {}; keep the default group of the user",
        groups[0],
        groups[1]
    )]
    #[non_exhaustive]
    TwoGroups {
        /// The application.
        applid: Applid,
        /// The user.
        user: UserId,
        /// The groups.
        groups: [GroupName; 2],
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Algorithm;

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn applid(name: &str) -> Applid {
        Applid::new(name).unwrap()
    }

    fn profile(name: &str) -> KeyProfile {
        KeyProfile::from_hex(applid(name), Algorithm::Legacy, "F90F48F03C28DC86").unwrap()
    }

    fn of_group(name: &str, users: &[&str]) -> Qualifier {
        let users = users.iter().copied().map(user).collect();
        Qualifier::Group { group: GroupName::new(name).unwrap(), users }
    }

    fn of_both(group: &str, name: &str) -> Qualifier {
        Qualifier::GroupAndUser { group: GroupName::new(group).unwrap(), user: user(name) }
    }

    #[test]
    fn two_profiles_with_one_name_are_refused() {
        let profiles = KeyProfiles::new(["A", "B"].map(profile)).unwrap();
        for name in ["A", "B"] {
            assert_eq!(profiles.get(&applid(name)).unwrap().applid(), &applid(name));
        }
        assert!(profiles.get(&applid("C")).is_none());
        assert_eq!(profiles.iter().len(), 2);

        for (qualifiers, want) in [
            ([None, None], Some("A has two PassTicket keys; remove one of them")),
            ([None, Some(Qualifier::User(user("U")))], None),
            ([Some(Qualifier::User(user("U"))), Some(of_group("U", &["V"]))], Some("A.U has two")),
            ([Some(of_group("G", &["U"])), Some(of_group("G", &["V"]))], Some("A.G has two")),
            ([Some(of_both("G", "U")), Some(of_both("G", "U"))], Some("A.G.U has two")),
            ([Some(of_both("G", "U")), Some(of_group("G", &["U"]))], None),
            (
                [Some(of_group("G", &["V", "U"])), Some(of_group("H", &["U"]))],
                Some("user U of APPLID A is in the groups G and H; keep the default group"),
            ),
            ([Some(of_group("G", &["U"])), Some(of_both("H", "U"))], Some("user U of APPLID A is")),
        ] {
            let profiles = qualifiers.clone().map(|qualifier| match qualifier {
                Some(qualifier) => profile("A").with_qualifier(qualifier),
                None => profile("A"),
            });
            let text = KeyProfiles::new(profiles).err().map(|error| error.to_string());
            let begins = match (&text, want) {
                (Some(text), Some(want)) => text.starts_with(want),
                (None, None) => true,
                _ => false,
            };
            assert!(begins, "{qualifiers:?}: {text:?}");
        }
    }

    #[test]
    fn the_most_qualified_profile_of_a_user_is_used() {
        let all = || {
            [
                profile("A"),
                profile("A").with_qualifier(of_group("G", &["ANN", "BOB", "CAT"])),
                profile("A").with_qualifier(Qualifier::User(user("BOB"))),
                profile("A").with_qualifier(Qualifier::User(user("CAT"))),
                profile("A").with_qualifier(of_both("G", "CAT")),
                profile("B").with_qualifier(Qualifier::User(user("DAN"))),
            ]
        };
        let mut backwards = all();
        backwards.reverse();
        for profiles in [all(), backwards] {
            let profiles = KeyProfiles::new(profiles).unwrap();
            let name = |name, of| profiles.find(&user(name), &applid(of)).map(|it| it.name());
            for (name_of, of, want) in [
                ("ANN", "A", Some("A.G")),
                ("BOB", "A", Some("A.BOB")),
                ("CAT", "A", Some("A.G.CAT")),
                ("DAN", "A", Some("A")),
                ("DAN", "B", Some("B.DAN")),
                // APPLID `B` has only the profile of `DAN`.
                ("ANN", "B", None),
                ("ANN", "C", None),
            ] {
                assert_eq!(name(name_of, of).as_deref(), want, "{name_of} {of}");
            }
            assert!(profiles.get(&applid("B")).is_none());
            assert_eq!(profiles.iter().len(), 6);
        }
    }

    #[test]
    fn an_applid_is_protected_if_one_profile_is() {
        let allowed = || profile("A").with_replay(Replay::Allowed);
        let of_user = || profile("A").with_qualifier(Qualifier::User(user("U")));
        for (profiles, replay, partly, fully) in [
            (vec![], Replay::Protected, false, false),
            (vec![allowed()], Replay::Allowed, false, false),
            (vec![profile("A")], Replay::Protected, true, true),
            (vec![allowed(), of_user()], Replay::Protected, true, false),
            (vec![of_user(), allowed()], Replay::Protected, true, false),
            (vec![of_user(), profile("A")], Replay::Protected, true, true),
            (vec![of_user()], Replay::Protected, true, true),
            (
                vec![allowed(), of_user().with_replay(Replay::Allowed)],
                Replay::Allowed,
                false,
                false,
            ),
        ] {
            let profiles = KeyProfiles::new(profiles).unwrap();
            assert_eq!(profiles.replay(&applid("A")), replay);
            assert_eq!(profiles.partly_protected().count() == 1, partly);
            assert_eq!(profiles.fully_protected().len() == 1, fully);
        }
    }
}
