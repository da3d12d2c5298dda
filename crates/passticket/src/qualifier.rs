//! The users that a key profile (a PassTicket key with its settings) is for.

use std::slice;

use super::names::{GroupName, UserId};

/// The users that a [`KeyProfile`](super::KeyProfile) is for. Without a qualifier, a profile is for all users of its
/// APPLID that have no qualified profile.
///
/// In RACF, the qualifier is a part of the name of the profile. RACF takes the first of these profiles that exists:
///
/// | profile | variant |
/// |---|---|
/// | `APPLID.GROUP.USER` | [`GroupAndUser`](Self::GroupAndUser) |
/// | `APPLID.USER` | [`User`](Self::User) |
/// | `APPLID.GROUP` | [`Group`](Self::Group) |
/// | `APPLID` | no qualifier |
///
/// A user logs on with one group: the default group of the user, or a group that the application names. RACF knows this
/// group, but this crate does not. So [`Group`](Self::Group) also contains the users of the group.
///
/// ```
/// use passticket::{
///     Algorithm, Applid, GroupName, KeyProfile, KeyProfiles, Qualifier, UserId,
/// };
///
/// let applid = Applid::new("IZUDFLT")?;
/// let [ann, bob] = ["ANN", "BOB"].map(|user| UserId::new(user).unwrap());
/// let payroll = Qualifier::Group { group: GroupName::new("PAYROLL")?, users: vec![ann] };
/// let profiles = KeyProfiles::new([
///     KeyProfile::from_hex(applid, Algorithm::Legacy, "0123456789ABCDEF")?.with_qualifier(payroll),
///     KeyProfile::from_hex(applid, Algorithm::Legacy, "FEDCBA9876543210")?,
/// ])?;
/// assert_eq!(profiles.find(&ann, &applid).unwrap().name(), "IZUDFLT.PAYROLL");
/// assert_eq!(profiles.find(&bob, &applid).unwrap().name(), "IZUDFLT");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Qualifier {
    /// One user, with any group.
    User(UserId),
    /// The users of a group.
    Group {
        /// The group.
        group: GroupName,
        /// The users that log on with this group.
        users: Vec<UserId>,
    },
    /// One user, who logs on with this group.
    GroupAndUser {
        /// The group.
        group: GroupName,
        /// The user.
        user: UserId,
    },
}

impl Qualifier {
    /// Returns the users that the profile is for.
    pub fn users(&self) -> &[UserId] {
        match self {
            Self::User(user) | Self::GroupAndUser { user, .. } => slice::from_ref(user),
            Self::Group { users, .. } => users,
        }
    }

    /// Returns the group in the name of the profile.
    pub const fn group(&self) -> Option<&GroupName> {
        match self {
            Self::User(_) => None,
            Self::Group { group, .. } | Self::GroupAndUser { group, .. } => Some(group),
        }
    }

    /// Returns the user in the name of the profile.
    pub const fn user(&self) -> Option<&UserId> {
        match self {
            Self::User(user) | Self::GroupAndUser { user, .. } => Some(user),
            Self::Group { .. } => None,
        }
    }

    /// Returns the position of a profile in the order in which RACF looks for profiles. The first position is 0.
    pub(super) const fn precedence(&self) -> u8 {
        match self {
            Self::GroupAndUser { .. } => 0,
            Self::User(_) => 1,
            Self::Group { .. } => 2,
        }
    }
}
