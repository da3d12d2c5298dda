//! Inserts entries into a map, and reports a key that occurs twice.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
};

use crate::passticket::UserId;

/// Adds an entry if its key is not in the map yet.
///
/// # Errors
/// If the key is already in the map, the user of the existing entry.
pub(super) fn insert_unique<K: Eq + Hash>(
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
