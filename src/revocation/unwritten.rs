//! Revocations that could not be written. The writer tries to write them later.

use std::collections::{HashMap, hash_map::Entry};

use super::Revocation;
use crate::{
    clock::Timestamp,
    passticket::UserId,
    token::{ServiceId, TokenFingerprint},
};

/// The maximum number of revocations that wait for a file that cannot be written.
pub(super) const MAX_UNWRITTEN: usize = 10_000;

/// Which PATs (Personal Access Tokens) a rule revokes. With `OfNow`, the rule also revokes registered PATs whose issue
/// time is later than the time of the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reach {
    ByTime,
    OfNow,
}

/// The revocations that apply, but could not be written. If a revocation is repeated, it is kept only once.
#[derive(Debug, Default)]
pub(super) struct Unwritten {
    revocations: HashMap<Subject, (Timestamp, Reach)>,
    /// The number of revocations that were not kept, because of the limit.
    lost: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Subject {
    Token(TokenFingerprint),
    User(UserId),
    Service(ServiceId),
}

impl Unwritten {
    /// Keeps a revocation. If there are already [`MAX_UNWRITTEN`], a new revocation is only counted. Of two rules for
    /// one user or service, the rule with the later time is kept, as in the file.
    pub(super) fn keep(&mut self, revocation: Revocation, reach: Reach) {
        let (subject, time) = match revocation {
            Revocation::Token { token, expires_at } => (Subject::Token(token), expires_at),
            Revocation::User { user, up_to } => (Subject::User(user), up_to),
            Revocation::Service { service, up_to } => (Subject::Service(service), up_to),
        };
        let has_room = self.revocations.len() < MAX_UNWRITTEN;
        match self.revocations.entry(subject) {
            Entry::Occupied(mut entry) => {
                let (kept, kept_reach) = entry.get_mut();
                *kept = time.max(*kept);
                *kept_reach = reach.max(*kept_reach);
            }
            Entry::Vacant(entry) if has_room => {
                entry.insert((time, reach));
            }
            Entry::Vacant(_) => self.lost += 1,
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Revocation, Reach)> {
        self.revocations.iter().map(|(subject, (time, reach))| {
            let revocation = match subject.clone() {
                Subject::Token(token) => Revocation::Token { token, expires_at: *time },
                Subject::User(user) => Revocation::User { user, up_to: *time },
                Subject::Service(service) => Revocation::Service { service, up_to: *time },
            };
            (revocation, *reach)
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.revocations.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.revocations.len()
    }

    pub(super) fn clear(&mut self) {
        self.revocations = HashMap::new();
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost
    }
}
