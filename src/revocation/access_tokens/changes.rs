//! The changes of the registry of issued PATs (Personal Access Tokens). All stores use this code: a store implements
//! [`Entries`] and [`EntriesMut`], and makes each change in one step that other changes cannot interrupt.

use std::time::Duration;

use super::{
    entry::{Entry, Label, LastUse, Rotated},
    id::AccessTokenId,
    label::{TokenDescription, TokenName},
};
use crate::{
    clock::Timestamp,
    passticket::UserId,
    revocation::IssuedPat,
    token::{Scopes, TokenFingerprint},
};

/// The maximum number of entries of one user. If a user has this number of entries, the oldest expired or revoked entry
/// is removed before the user gets another entry. If all entries are active, the user gets no other entry.
pub(in crate::revocation) const MAX_ENTRIES: usize = 1000;

/// How long an entry stays after its token has expired: 30 days.
#[cfg(feature = "store")]
pub(crate) const KEPT_AFTER_EXPIRY: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The registry records at most one use of a token in this time.
const USE_INTERVAL: Duration = Duration::from_secs(60);

/// One Personal Access Token (PAT) in the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AccessToken {
    /// Identifies the PAT.
    pub id: AccessTokenId,
    /// The user of the PAT.
    pub user: UserId,
    /// The name that the user has given to the PAT, if any.
    pub name: Option<TokenName>,
    /// The description, which may be empty.
    pub description: TokenDescription,
    /// The services that accept the PAT.
    pub scopes: Scopes,
    /// When the PAT was issued.
    pub created_at: Timestamp,
    /// When the PAT expires.
    pub expires_at: Timestamp,
    /// The last recorded use. Uses within a minute after a recorded use are not recorded.
    pub last_use: Option<LastUse>,
    /// Whether the PAT has expired or was revoked.
    pub state: AccessTokenState,
}

/// Whether a Personal Access Token has expired or was revoked. The registry does not know the revocations in Zowe's
/// Caching Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AccessTokenState {
    /// The token has not expired, and no revocation of the store applies to it.
    Active,
    /// The token has expired. It may also have been revoked before.
    Expired,
    /// The token is revoked: as a single token, or by a rule for its user or for one of its services.
    Revoked,
}

/// A change of the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AccessTokenChange {
    /// Registers a new PAT. The caller waits for [`AccessTokenOutcome::Token`], and then gives the PAT to its user.
    Issue {
        /// The PAT.
        pat: IssuedPat,
        /// The name of the PAT.
        name: Option<TokenName>,
        /// The description of the PAT.
        description: TokenDescription,
        /// The maximum number of active tokens of the user.
        limit: u32,
    },
    /// Changes the name or the description of a PAT. `None` keeps the old value.
    Relabel {
        /// The user of the PAT.
        user: UserId,
        /// The PAT.
        id: AccessTokenId,
        /// The new name.
        name: Option<TokenName>,
        /// The new description.
        description: Option<TokenDescription>,
    },
    /// Revokes a PAT.
    Revoke {
        /// The user of the PAT.
        user: UserId,
        /// The PAT.
        id: AccessTokenId,
    },
    /// Replaces a PAT by a new PAT. The new PAT has the same scopes, and expires at the same time or earlier. The old
    /// PAT is revoked at the end of `grace`. If `grace` is zero, this change revokes the old PAT.
    Rotate {
        /// The PAT to replace.
        old: RotatedPat,
        /// The new PAT.
        new: IssuedPat,
        /// How long the old PAT stays valid.
        grace: Duration,
        /// The maximum number of active tokens of the user.
        limit: u32,
    },
    /// Reports that a client has used a revoked PAT. If this PAT was rotated and its grace period has ended, two
    /// parties may have it. So the store revokes all active PATs of its family: the first PAT, and all PATs that
    /// rotations have made from it (docs/decisions.md#d36).
    Misuse {
        /// The PAT.
        pat: IssuedPat,
    },
    /// Records uses of PATs. A PAT that is not in the registry is added under three conditions: the PAT has scopes, it
    /// has not expired, and its user does not have too many PATs.
    Use(Vec<PatUse>),
    /// Revokes the rotated PATs whose grace period has ended.
    EndGraces,
    /// Revokes the active PATs that were not used for this time. The time of a PAT that was never used counts from its
    /// issue. A store that keeps a trusted time (docs/decisions.md#d39) uses the earlier of `now` and the trusted time.
    RevokeIdle(Duration),
}

/// Names the PAT that a rotation replaces.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RotatedPat {
    /// A PAT of this user in the registry.
    Entry(UserId, AccessTokenId),
    /// A PAT that the caller has verified. If it is not in the registry, it is added.
    Verified(IssuedPat),
}

/// One use of a PAT.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PatUse {
    /// The PAT.
    pub pat: IssuedPat,
    /// When, from where and at which service it was used.
    pub last_use: LastUse,
}

impl PatUse {
    /// Creates a report of a use.
    pub fn new(pat: IssuedPat, last_use: LastUse) -> Self {
        Self { pat, last_use }
    }
}

/// The result of an [`AccessTokenChange`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AccessTokenOutcome {
    /// The change was made. The value is the new or changed PAT.
    Token(AccessToken),
    /// The change was made. It does not return a PAT. The value is the number of PATs that it revoked.
    Revoked(usize),
    /// The user has no PAT with this id, or the new PAT of a rotation does not fit the old PAT. Nothing was changed.
    NotFound,
    /// The PAT has expired or is revoked, so it cannot be rotated. Nothing was changed.
    NotActive(AccessTokenState),
    /// The PAT was already rotated. Nothing was changed.
    AlreadyRotated,
    /// The user has too many PATs, so the new PAT was not registered.
    TooMany {
        /// The maximum number.
        limit: u32,
    },
}

pub(in crate::revocation) trait Entries {
    type Error;

    fn get(&self, user: &UserId, token: &TokenFingerprint) -> Result<Option<Entry>, Self::Error>;

    fn of_user(&self, user: &UserId) -> Result<Vec<Entry>, Self::Error>;

    /// Returns the first user after `after` who has entries.
    fn next_user(&self, after: Option<&UserId>) -> Result<Option<UserId>, Self::Error>;

    fn is_revoked(&self, entry: &Entry) -> Result<bool, Self::Error>;

    /// Returns the hashes under which the store may have a PAT with this fingerprint. The first hash is for new
    /// entries.
    fn stored_as(&self, token: TokenFingerprint) -> Vec<TokenFingerprint>;

    fn state(&self, entry: &Entry, now: Timestamp) -> Result<AccessTokenState, Self::Error> {
        Ok(if entry.expires_at <= now {
            AccessTokenState::Expired
        } else if self.is_revoked(entry)? {
            AccessTokenState::Revoked
        } else {
            AccessTokenState::Active
        })
    }

    fn view(&self, entry: &Entry, now: Timestamp) -> Result<AccessToken, Self::Error> {
        let state = self.state(entry, now)?;
        let Label { name, description, changed_at: _ } = entry.label.clone();
        Ok(AccessToken {
            id: entry.id(),
            user: entry.user,
            name,
            description,
            scopes: entry.scopes.clone(),
            created_at: entry.issued_at,
            expires_at: entry.expires_at,
            last_use: entry.last_use.clone(),
            state,
        })
    }

    fn with_id(&self, user: &UserId, id: &AccessTokenId) -> Result<Option<Entry>, Self::Error> {
        Ok(self.of_user(user)?.into_iter().find(|entry| entry.id() == *id))
    }

    /// Returns the entry of a PAT. `pat` has the fingerprint of the token, without a salt.
    fn of_pat(&self, pat: &IssuedPat) -> Result<Option<Entry>, Self::Error> {
        for token in self.stored_as(pat.token) {
            if let Some(entry) = self.get(&pat.user, &token)? {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    fn new_entry(&self, pat: &IssuedPat, label: Label) -> Entry {
        let token = self.stored_as(pat.token).first().copied().unwrap_or(pat.token);
        Entry::new(&IssuedPat { token, ..pat.clone() }, label)
    }
}

pub(in crate::revocation) trait EntriesMut: Entries {
    fn put(&mut self, entry: &Entry) -> Result<(), Self::Error>;
    fn remove(&mut self, entry: &Entry) -> Result<(), Self::Error>;
    /// Registers a new PAT. After that, a rule of `record_rule_of_now` revokes the PAT even if the issue time of the
    /// PAT is later than the time of the rule.
    fn register(&mut self, entry: &Entry) -> Result<(), Self::Error>;
    fn revoke(&mut self, entry: &Entry) -> Result<(), Self::Error>;
    /// Stores that the grace period of a rotated PAT ends at `until`.
    fn add_grace(&mut self, entry: &Entry, until: Timestamp) -> Result<(), Self::Error>;
    /// Removes a grace period that has ended at `now`, and returns its PAT.
    fn take_ended_grace(
        &mut self,
        now: Timestamp,
    ) -> Result<Option<(UserId, TokenFingerprint)>, Self::Error>;
}

/// Applies `change` at the time `now`. If the change is not possible, does not make it, and returns the reason as the
/// outcome.
pub(in crate::revocation) fn apply<E: EntriesMut>(
    change: &AccessTokenChange,
    now: Timestamp,
    entries: &mut E,
) -> Result<AccessTokenOutcome, E::Error> {
    match change {
        AccessTokenChange::Issue { pat, name, description, limit } => {
            let (name, description) = (name.clone(), description.clone());
            issue(pat, Label { name, description, changed_at: now }, *limit, now, entries)
        }
        AccessTokenChange::Relabel { user, id, name, description } => {
            let Some(mut entry) = entries.with_id(user, id)? else {
                return Ok(AccessTokenOutcome::NotFound);
            };
            let label = &mut entry.label;
            label.name = name.clone().or(label.name.take());
            if let Some(description) = description {
                label.description = description.clone();
            }
            // Even if the clock was set back, this change must be newer than the last change.
            label.changed_at = now.max(label.changed_at.plus(Duration::from_millis(1)));
            entries.put(&entry)?;
            Ok(AccessTokenOutcome::Token(entries.view(&entry, now)?))
        }
        AccessTokenChange::Revoke { user, id } => {
            let Some(entry) = entries.with_id(user, id)? else {
                return Ok(AccessTokenOutcome::NotFound);
            };
            entries.revoke(&entry)?;
            Ok(AccessTokenOutcome::Token(entries.view(&entry, now)?))
        }
        AccessTokenChange::Rotate { old, new, grace, limit } => {
            rotate(old, new, *grace, *limit, now, entries)
        }
        AccessTokenChange::Misuse { pat } => misuse(pat, now, entries),
        AccessTokenChange::Use(uses) => {
            for PatUse { pat, last_use } in uses {
                record_use(pat, last_use, now, entries)?;
            }
            Ok(AccessTokenOutcome::Revoked(0))
        }
        AccessTokenChange::RevokeIdle(idle) => revoke_idle(*idle, now, entries),
        AccessTokenChange::EndGraces => {
            let mut revoked = 0;
            while let Some((user, token)) = entries.take_ended_grace(now)? {
                if let Some(entry) = entries.get(&user, &token)? {
                    entries.revoke(&entry)?;
                    revoked += 1;
                }
            }
            Ok(AccessTokenOutcome::Revoked(revoked))
        }
    }
}

fn issue<E: EntriesMut>(
    pat: &IssuedPat,
    label: Label,
    limit: u32,
    now: Timestamp,
    entries: &mut E,
) -> Result<AccessTokenOutcome, E::Error> {
    let present = entries.of_user(&pat.user)?;
    if count_active(&present, now, entries)? >= limit {
        return Ok(AccessTokenOutcome::TooMany { limit });
    }
    if !make_room(present, now, entries)? {
        return Ok(AccessTokenOutcome::TooMany { limit: MAX_ENTRIES as u32 });
    }
    let entry = entries.new_entry(pat, label);
    entries.register(&entry)?;
    entries.put(&entry)?;
    Ok(AccessTokenOutcome::Token(entries.view(&entry, now)?))
}

fn rotate<E: EntriesMut>(
    old: &RotatedPat,
    new: &IssuedPat,
    grace: Duration,
    limit: u32,
    now: Timestamp,
    entries: &mut E,
) -> Result<AccessTokenOutcome, E::Error> {
    let old = match old {
        RotatedPat::Entry(user, id) => entries.with_id(user, id)?,
        RotatedPat::Verified(pat) => match entries.of_pat(pat)? {
            None => Some(entries.new_entry(pat, Label::default())),
            present => present,
        },
    };
    let Some(mut old) = old.filter(|old| old.user == new.user) else {
        return Ok(AccessTokenOutcome::NotFound);
    };
    // This check comes before the check of the state, because a PAT that was rotated without a grace period is also
    // revoked. `AlreadyRotated` is the more exact outcome.
    if old.rotation.is_some() {
        return Ok(AccessTokenOutcome::AlreadyRotated);
    }
    match entries.state(&old, now)? {
        AccessTokenState::Active => {}
        state => return Ok(AccessTokenOutcome::NotActive(state)),
    }
    if new.scopes != old.scopes || new.expires_at > old.expires_at {
        // `new` was built from an entry other than `old`.
        return Ok(AccessTokenOutcome::NotFound);
    }
    let present = entries.of_user(&new.user)?;
    // Without a grace period, the new PAT takes the place of the old one.
    if grace > Duration::ZERO && count_active(&present, now, entries)? >= limit {
        return Ok(AccessTokenOutcome::TooMany { limit });
    }
    if !make_room(present, now, entries)? {
        return Ok(AccessTokenOutcome::TooMany { limit: MAX_ENTRIES as u32 });
    }
    let label = Label { changed_at: now.max(old.label.changed_at), ..old.label.clone() };
    let mut entry = entries.new_entry(new, label);
    entry.family = old.family;
    let until = now.plus(grace);
    old.rotation = Some(Rotated { at: now, until, successor: entry.id() });
    entries.register(&entry)?;
    entries.put(&entry)?;
    entries.put(&old)?;
    if grace == Duration::ZERO {
        entries.revoke(&old)?;
    } else {
        entries.add_grace(&old, until)?;
    }
    Ok(AccessTokenOutcome::Token(entries.view(&entry, now)?))
}

/// Revokes the family of a rotated PAT that was used after its grace period.
fn misuse<E: EntriesMut>(
    pat: &IssuedPat,
    now: Timestamp,
    entries: &mut E,
) -> Result<AccessTokenOutcome, E::Error> {
    let used = entries.of_pat(pat)?;
    let Some(used) = used.filter(|used| used.rotation.is_some_and(|it| it.until <= now)) else {
        return Ok(AccessTokenOutcome::Revoked(0));
    };
    let mut revoked = 0;
    for entry in entries.of_user(&used.user)? {
        let is_of_family = entry.family == used.family;
        if is_of_family && entries.state(&entry, now)? == AccessTokenState::Active {
            entries.revoke(&entry)?;
            revoked += 1;
        }
    }
    Ok(AccessTokenOutcome::Revoked(revoked))
}

fn revoke_idle<E: EntriesMut>(
    idle: Duration,
    now: Timestamp,
    entries: &mut E,
) -> Result<AccessTokenOutcome, E::Error> {
    let mut revoked = 0;
    let mut user = entries.next_user(None)?;
    while let Some(current) = user {
        for entry in entries.of_user(&current)? {
            let used_at = entry.last_use.as_ref().map_or(entry.issued_at, |last| last.at);
            let is_idle = used_at.max(entry.issued_at).plus(idle) <= now;
            if is_idle && entries.state(&entry, now)? == AccessTokenState::Active {
                entries.revoke(&entry)?;
                revoked += 1;
            }
        }
        user = entries.next_user(Some(&current))?;
    }
    Ok(AccessTokenOutcome::Revoked(revoked))
}

fn record_use<E: EntriesMut>(
    pat: &IssuedPat,
    last_use: &LastUse,
    now: Timestamp,
    entries: &mut E,
) -> Result<(), E::Error> {
    let mut entry = match entries.of_pat(pat)? {
        Some(entry) => entry,
        None => {
            // A PAT with empty scopes is valid for no service, so it is not added.
            let is_kept = pat.expires_at > now && pat.scopes.iter().len() > 0;
            let present = entries.of_user(&pat.user)?;
            if !is_kept || !make_room(present, now, entries)? {
                return Ok(());
            }
            entries.new_entry(pat, Label::default())
        }
    };
    let is_news = |last: &LastUse| last_use.at >= last.at.plus(USE_INTERVAL);
    if entry.last_use.as_ref().is_none_or(is_news) {
        entry.last_use = Some(last_use.clone());
        entries.put(&entry)?;
    }
    Ok(())
}

fn count_active<E: Entries>(
    present: &[Entry],
    now: Timestamp,
    entries: &E,
) -> Result<u32, E::Error> {
    let mut active = 0;
    for entry in present {
        active += u32::from(entries.state(entry, now)? == AccessTokenState::Active);
    }
    Ok(active)
}

/// Removes the oldest entries that are not active, until there is room for another entry. Returns whether there is
/// room.
pub(in crate::revocation) fn make_room<E: EntriesMut>(
    mut present: Vec<Entry>,
    now: Timestamp,
    entries: &mut E,
) -> Result<bool, E::Error> {
    let mut surplus = (present.len() + 1).saturating_sub(MAX_ENTRIES);
    if surplus == 0 {
        return Ok(true);
    }
    present.sort_unstable_by_key(|entry| entry.issued_at);
    for entry in present {
        if entries.state(&entry, now)? != AccessTokenState::Active {
            entries.remove(&entry)?;
            surplus -= 1;
            if surplus == 0 {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
