//! Records for which users and paths a service has recently accepted a PassTicket. Such a record is called a proof.

use std::{
    hash::BuildHasher,
    sync::{
        OnceLock,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use foldhash::fast::RandomState;

use super::path_class::PathClass;
use crate::passticket::UserId;

/// The maximum number of proofs. Their slots take half a megabyte.
const SLOTS: usize = 1 << 16;

/// A proof is valid for up to this number of minutes after it was last added.
const MINUTES: u16 = 10;

/// The proofs. If two proofs have the same slot, the later one replaces the earlier one. This does no harm: the next
/// ticket of the user only needs a new decision.
///
/// A slot has 48 bits of a hash with a random key, and the minute of the proof in 16 bits.
#[derive(Debug, Default)]
pub(super) struct Proofs {
    hasher: RandomState,
    /// Allocated with the first proof.
    slots: OnceLock<Box<[AtomicU64]>>,
    /// The current minute. It is updated regularly, so that a request need not read the clock.
    minute: AtomicU32,
}

/// A hash of a user and a class of paths. A part of the hash is the index of the slot of a proof. The slot contains the
/// rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint(u64);

impl Proofs {
    /// Returns the fingerprint of a user and a class of paths. `epoch` is the number of times that all proofs of the
    /// APPLID were dropped.
    #[inline]
    pub(super) fn fingerprint(&self, user: &UserId, class: PathClass, epoch: u64) -> Fingerprint {
        Fingerprint(self.hasher.hash_one((user, class.to_bits() ^ epoch.rotate_left(48))))
    }

    #[inline]
    pub(super) fn has(&self, proof: Fingerprint) -> bool {
        let Some(slots) = self.slots.get() else { return false };
        let slot = slots[proof.at()].load(Ordering::Acquire);
        let age = self.minute().wrapping_sub(slot as u16);
        slot >> 16 == proof.0 >> 16 && age < MINUTES
    }

    #[inline]
    pub(super) fn is_fresh(&self, proof: Fingerprint) -> bool {
        let Some(slots) = self.slots.get() else { return false };
        slots[proof.at()].load(Ordering::Relaxed) == proof.slot(self.minute())
    }

    pub(super) fn add(&self, proof: Fingerprint) {
        let slots = self.slots.get_or_init(|| (0..SLOTS).map(|_| AtomicU64::new(0)).collect());
        slots[proof.at()].store(proof.slot(self.minute()), Ordering::Release);
    }

    pub(super) fn remove(&self, proof: Fingerprint) {
        if let Some(slots) = self.slots.get()
            && slots[proof.at()].load(Ordering::Acquire) >> 16 == proof.0 >> 16
        {
            slots[proof.at()].store(0, Ordering::Release);
        }
    }

    /// The minute may be counted from any starting point.
    pub(super) fn set_minute(&self, minute: u64) {
        self.minute.store(u32::from(minute as u16), Ordering::Relaxed);
    }

    #[inline]
    fn minute(&self) -> u16 {
        self.minute.load(Ordering::Relaxed) as u16
    }
}

impl Fingerprint {
    #[inline]
    fn at(self) -> usize {
        // The index consists of the 16 bits that the slot does not contain. So the slot and its index contain the whole
        // hash.
        (self.0 as usize) & (SLOTS - 1)
    }

    #[inline]
    fn slot(self, minute: u16) -> u64 {
        (self.0 >> 16 << 16) | u64::from(minute)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_counts_for_ten_minutes_for_its_user_paths_and_epoch() {
        let proofs = Proofs::default();
        let user = |name| UserId::new(name).unwrap();
        let of = |name, class, epoch| {
            proofs.fingerprint(&user(name), PathClass::from_bits(class), epoch)
        };
        for minute in [0, 5, 65_530, 1_000_000] {
            proofs.set_minute(minute);
            let proof = of("A", 1, 0);
            assert!(!proofs.has(proof));
            proofs.add(proof);
            assert!(proofs.has(proof) && proofs.is_fresh(proof));
            for other in [of("B", 1, 0), of("A", 2, 0), of("A", 1, 1)] {
                assert!(!proofs.has(other));
            }
            proofs.set_minute(minute + 9);
            assert!(proofs.has(proof) && !proofs.is_fresh(proof));
            proofs.set_minute(minute + 10);
            assert!(!proofs.has(proof));
            proofs.set_minute(minute);
            proofs.remove(proof);
            assert!(!proofs.has(proof));
        }
    }
}
