//! The salts of the fingerprints in one revocation file.

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, Ordering},
};

use super::salt::Salt;

/// The maximum number of salts, including the file's own salt. Each salt makes the check of a token slower by one
/// SHA-256 block. Nodes that share revocations normally all have the same salt.
pub(super) const MAX_SALTS: usize = 16;

/// The file's own salt, and the salts of other nodes whose revocations the file also contains.
pub(super) struct Salts {
    /// The salt with which the file was opened.
    opened: Salt,
    /// The salt of another node that has replaced `opened`.
    adopted: OnceLock<Salt>,
    /// The salts of other nodes. Unset values are at the end.
    foreign: [OnceLock<Salt>; MAX_SALTS - 1],
    /// Whether there may be hashes that were made with the own salt. If there are no such hashes, another salt can
    /// replace the own salt.
    is_own_used: AtomicBool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooManySalts;

impl Salts {
    pub(super) fn new(own: Salt) -> Self {
        Self {
            opened: own,
            adopted: OnceLock::new(),
            foreign: [const { OnceLock::new() }; MAX_SALTS - 1],
            is_own_used: AtomicBool::new(false),
        }
    }

    /// Returns the salt for new fingerprints.
    pub(super) fn own(&self) -> &Salt {
        self.adopted.get().unwrap_or(&self.opened)
    }

    pub(super) fn adopted(&self) -> Option<&Salt> {
        self.adopted.get()
    }

    pub(super) fn has_foreign(&self) -> bool {
        self.foreign[0].get().is_some()
    }

    pub(super) fn foreign(&self) -> impl Iterator<Item = &Salt> {
        self.foreign.iter().map_while(OnceLock::get)
    }

    /// Adds the salt of another node, unless it is known.
    ///
    /// # Errors
    /// [`TooManySalts`] if there are already [`MAX_SALTS`]. The salt is then not added.
    pub(super) fn add(&self, bytes: [u8; Salt::LEN]) -> Result<(), TooManySalts> {
        if *self.own().bytes() == bytes {
            return Ok(());
        }
        for slot in &self.foreign {
            if *slot.get_or_init(|| Salt::new(bytes)).bytes() == bytes {
                return Ok(());
            }
        }
        Err(TooManySalts)
    }

    pub(super) fn is_foreign(&self, bytes: &[u8; Salt::LEN]) -> bool {
        self.foreign().any(|salt| salt.bytes() == bytes)
    }

    /// Replaces the own salt. Call this only while no hash was made with the own salt. Only the first call has an
    /// effect. Returns whether the own salt now has these bytes.
    pub(super) fn adopt(&self, bytes: [u8; Salt::LEN]) -> bool {
        let is_adopted = *self.adopted.get_or_init(|| Salt::new(bytes)).bytes() == bytes;
        self.use_own();
        is_adopted
    }

    pub(super) fn is_own_used(&self) -> bool {
        self.is_own_used.load(Ordering::Acquire)
    }

    pub(super) fn use_own(&self) {
        self.is_own_used.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::TokenFingerprint;

    #[test]
    fn salts_are_added_once_and_their_number_is_limited() {
        let salts = Salts::new(Salt::new([0; Salt::LEN]));
        assert!(!salts.has_foreign());
        for _ in 0..2 {
            for salt in 0..16 {
                assert_eq!(salts.add([salt; Salt::LEN]), Ok(()));
            }
        }
        assert_eq!(salts.add([16; Salt::LEN]), Err(TooManySalts));
        assert_eq!(salts.foreign().count(), 15);
        assert!(salts.is_foreign(&[15; Salt::LEN]) && !salts.is_foreign(&[0; Salt::LEN]));
    }

    #[test]
    fn an_adopted_salt_is_the_salt_of_new_fingerprints() {
        let salts = Salts::new(Salt::new([0; Salt::LEN]));
        assert!(!salts.is_own_used());
        assert!(salts.adopt([1; Salt::LEN]) && !salts.adopt([2; Salt::LEN]));
        assert!(salts.is_own_used());
        let token = TokenFingerprint::from_bytes([7; 32]);
        let expected = Salt::new([1; Salt::LEN]).apply(token);
        assert_eq!(salts.own().apply(token), expected);
    }
}
