//! Reads the users of an entry of `ptktdata`: its keys `user`, `group` and `users`.
//!
//! An APPLID is the name of an application on z/OS.

use std::collections::BTreeMap;

use tower_passticket::passticket::{Applid, GroupName, Qualifier, UserId};

use super::reader::{At, Section};

/// The error if `user`, `group` or `users` is wrong. The problem was already reported.
pub(super) struct Reported;

/// Reads `user`, `group` and `users`. Returns `None` if the entry is for all users. A blank value is an error. If it
/// were ignored, an entry for some users would become an entry for all users.
pub(super) fn read(section: &mut Section<'_>) -> Result<Option<Qualifier>, Reported> {
    let user = section.present("user");
    let group = section.present("group");
    let users = section.present("users");
    // All values are read, so that all problems are reported.
    let user_id = user.as_ref().map(|field| field.parse::<UserId>().ok_or(Reported));
    let group_name = group.as_ref().map(|field| field.parse::<GroupName>().ok_or(Reported));
    let user_ids = users.as_ref().map(|field| {
        if field.is_blank() {
            field.at.error("is empty; write the users whose default group is that of the entry");
            return Err(Reported);
        }
        let ids: Vec<_> = field.items().iter().map(|item| item.parse::<UserId>()).collect();
        ids.into_iter().collect::<Option<Vec<_>>>().filter(|ids| !ids.is_empty()).ok_or(Reported)
    });
    match (user_id, group_name, user_ids, users, group) {
        (None, None, None, ..) => Ok(None),
        (Some(user), None, None, ..) => Ok(Some(Qualifier::User(user?))),
        (Some(user), Some(group), None, ..) => {
            let (group, user) = (group?, user?);
            Ok(Some(Qualifier::GroupAndUser { group, user }))
        }
        (None, Some(group), Some(users), ..) => {
            let (group, users) = (group?, users?);
            Ok(Some(Qualifier::Group { group, users }))
        }
        (None, Some(name), None, _, Some(group)) => {
            group.at.error(format_args!(
                "needs the users of the group, because the gateway does not ask z/OS for them; add users: [USER, ...], \
                 the users whose default group is {}, or user: USER for one user",
                name?
            ));
            Err(Reported)
        }
        (None, None, Some(_), Some(users), _) => {
            users.at.error(
                "needs group: GROUP, the default group of these users; for one user without a group, write user: USER",
            );
            Err(Reported)
        }
        (_, _, _, Some(users), _) => {
            users.at.error(
                "contradicts user, which makes the profile one of a single user; remove user or users",
            );
            Err(Reported)
        }
        (_, _, _, None, _) => Err(Reported),
    }
}

/// The names of the profiles, and the groups of the users.
#[derive(Default)]
pub(super) struct Names<'a> {
    profiles: BTreeMap<String, At<'a>>,
    groups: BTreeMap<(Applid, UserId), (GroupName, At<'a>)>,
}

impl<'a> Names<'a> {
    /// Adds an entry, and returns `true`. If the profile already has an entry, or if a user has another group for the
    /// same APPLID, reports this and returns `false`.
    pub(super) fn add(
        &mut self,
        applid: Applid,
        qualifier: Option<&Qualifier>,
        at: &At<'a>,
    ) -> bool {
        let group = qualifier.and_then(Qualifier::group);
        let user = qualifier.and_then(Qualifier::user);
        let parts = [Some(applid.as_str()), group.map(GroupName::as_str), user.map(UserId::as_str)];
        let name = parts.into_iter().flatten().collect::<Vec<_>>().join(".");
        if let Some(first) = self.profiles.get(&name) {
            match qualifier {
                None => at.error(format_args!(
                    "{name} already has an entry in {first}; remove one of them, or add user or group to one of them"
                )),
                Some(_) => at.error(format_args!(
                    "the profile {name} already has an entry in {first}; remove one of them"
                )),
            }
            return false;
        }
        let users = qualifier.map(Qualifier::users).unwrap_or_default();
        if let Some(group) = group {
            for user in users {
                let (first, first_at) =
                    self.groups.entry((applid, *user)).or_insert_with(|| (*group, at.clone()));
                if first != group {
                    at.error(format_args!(
                        "user {user} has the group {first} in {first_at}, and {group} here; keep the default group of the \
                         user, because a user logs on with one group"
                    ));
                    return false;
                }
            }
        }
        self.profiles.insert(name, at.clone());
        true
    }
}
