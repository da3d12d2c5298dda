//! Tables in which each key occurs once.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
};

use crate::passticket::UserId;

/// Adds an entry with a key that must be new.
///
/// # Errors
/// The user that the key has already.
pub(super) fn insert<K: Eq + Hash>(
    users: &mut HashMap<K, UserId>,
    key: K,
    user: UserId,
) -> Result<(), UserId> {
    match users.entry(key) {
        Entry::Vacant(entry) => {
            entry.insert(user);
            Ok(())
        }
        Entry::Occupied(entry) => Err(*entry.get()),
    }
}
