//! Decides from the owner and the permission bits of a file whether another user could have read or changed the
//! file.

use std::fs::Metadata;

/// The condition under which a file is accepted. For each condition except [`Guard::None`], the file must belong to
/// root or to the user of this process.
#[derive(Clone, Copy, Debug)]
pub(super) enum Guard {
    /// The owner and the permission bits are not checked.
    None,
    /// Only the owner and a group of this process may write the file. If a group may write it, the operator is warned.
    Authorization,
    /// Only the owner may write the file. Only the owner and a group of this process may read it.
    Secret,
}

/// The reason why a file is refused because of its owner or its permission bits, or why it causes a warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The owner is neither root nor the user of this process.
    Owner,
    /// The file contains a secret, and too many users can access it. Either a user who is neither its owner nor in a
    /// group of this process can read it, or a user who is not its owner can write it.
    Readable,
    /// A user who is neither the owner of the file nor in a group of this process can write the file.
    Writable,
    /// Only the owner and a group of this process can write the file. This causes only a warning.
    WritableByOurGroup,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Access {
    pub(super) uid: u32,
    gid: u32,
    pub(super) mode: u32,
}

impl Access {
    #[cfg(unix)]
    pub(super) fn of(metadata: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;

        Self { uid: metadata.uid(), gid: metadata.gid(), mode: metadata.mode() & 0o7777 }
    }

    /// Returns the owner root and the mode 0600 for each file, because this system has no permission bits.
    #[cfg(not(unix))]
    pub(super) fn of(_: &Metadata) -> Self {
        Self { uid: 0, gid: 0, mode: 0o600 }
    }

    /// Returns why a file is refused, or why it causes a warning. `None` if the file is accepted without a warning.
    pub(super) fn fault(self, guard: Guard, process: &ProcessUser) -> Option<Fault> {
        let Self { uid, gid, mode } = self;
        let is_of_our_group = process.has_group(gid);
        match guard {
            Guard::None => None,
            _ if uid != 0 && uid != process.uid => Some(Fault::Owner),
            Guard::Secret if mode & 0o027 != 0 => Some(Fault::Readable),
            Guard::Secret if mode & 0o050 != 0 && !is_of_our_group => Some(Fault::Readable),
            Guard::Authorization if mode & 0o002 != 0 => Some(Fault::Writable),
            Guard::Authorization if mode & 0o020 != 0 && !is_of_our_group => Some(Fault::Writable),
            Guard::Authorization if mode & 0o020 != 0 => Some(Fault::WritableByOurGroup),
            Guard::Authorization | Guard::Secret => None,
        }
    }
}

#[derive(Debug)]
pub(super) struct ProcessUser {
    pub(super) uid: u32,
    groups: Vec<u32>,
}

impl ProcessUser {
    #[cfg(unix)]
    pub(super) fn current() -> Self {
        use rustix::process::{getegid, geteuid, getgroups};

        // If the supplementary groups cannot be read, the list contains fewer groups, and fewer files are accepted.
        let mut groups: Vec<_> =
            getgroups().unwrap_or_default().into_iter().map(|group| group.as_raw()).collect();
        groups.push(getegid().as_raw());
        Self { uid: geteuid().as_raw(), groups }
    }

    #[cfg(not(unix))]
    pub(super) fn current() -> Self {
        Self { uid: 0, groups: vec![0] }
    }

    pub(super) fn has_group(&self, gid: u32) -> bool {
        self.groups.contains(&gid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_depends_on_owner_group_and_mode() {
        use Fault::{Owner, Readable, Writable, WritableByOurGroup};
        use Guard::{Authorization, None as Unchecked, Secret};
        let process = ProcessUser { uid: 1000, groups: vec![100, 200] };
        for (guard, uid, gid, mode, want) in [
            (Unchecked, 7, 7, 0o666, None),
            (Authorization, 1000, 7, 0o644, None),
            (Authorization, 0, 0, 0o644, None),
            (Authorization, 7, 100, 0o644, Some(Owner)),
            (Authorization, 1000, 100, 0o664, Some(WritableByOurGroup)),
            (Authorization, 1000, 7, 0o664, Some(Writable)),
            (Authorization, 0, 0, 0o646, Some(Writable)),
            (Secret, 1000, 7, 0o600, None),
            (Secret, 7, 7, 0o600, Some(Owner)),
            (Secret, 0, 200, 0o440, None),
            (Secret, 0, 100, 0o640, None),
            (Secret, 1000, 100, 0o550, None),
            (Secret, 0, 7, 0o640, Some(Readable)),
            (Secret, 0, 100, 0o660, Some(Readable)),
            (Secret, 1000, 100, 0o644, Some(Readable)),
            (Secret, 1000, 100, 0o601, Some(Readable)),
            (Authorization, 7, 100, 0o660, Some(Owner)),
            (Authorization, 0, 100, 0o660, Some(WritableByOurGroup)),
            (Authorization, 1000, 7, 0o660, Some(Writable)),
            (Authorization, 1000, 100, 0o662, Some(Writable)),
        ] {
            let access = Access { uid, gid, mode };
            assert_eq!(access.fault(guard, &process), want, "{guard:?} {access:?}");
        }
    }
}
