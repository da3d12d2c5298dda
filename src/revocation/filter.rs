//! A Bloom filter in front of the maps of revocations.

use std::sync::atomic::{AtomicU64, Ordering};

/// A Bloom filter whose bits for one key are in one word.
///
/// The check of a token that is not revoked, which nearly all are, ends here: three independent loads
/// without a lock. In the maps behind the filter the loads would wait for each other, because taking a
/// lock is a barrier, and with a million rules each of them misses the CPU cache.
#[derive(Debug)]
pub(super) struct Filter {
    // A power of two.
    words: Box<[AtomicU64]>,
}

impl Filter {
    /// A filter with room for `keys`. At most one in a hundred other keys passes by chance.
    pub(super) fn for_keys(keys: usize) -> Self {
        let words = (keys / Self::KEYS_PER_WORD).next_power_of_two().max(64);
        Self { words: (0..words).map(|_| AtomicU64::new(0)).collect() }
    }

    const KEYS_PER_WORD: usize = 4;

    /// The number of keys that it has room for.
    pub(super) fn capacity(&self) -> usize {
        self.words.len() * Self::KEYS_PER_WORD
    }

    /// Adds a key by its hash. Every [`may_have`](Self::may_have) that starts afterwards sees it.
    pub(super) fn add(&self, hash: u64) {
        let (word, bits) = self.place(hash);
        word.fetch_or(bits, Ordering::Release);
    }

    /// `false`: the key was not added. `true`: it may have been.
    pub(super) fn may_have(&self, hash: u64) -> bool {
        let (word, bits) = self.place(hash);
        word.load(Ordering::Acquire) & bits == bits
    }

    /// The upper half of the hash selects the word, the lower half four bits in it.
    fn place(&self, hash: u64) -> (&AtomicU64, u64) {
        let word = (hash >> 32) as usize & (self.words.len() - 1);
        let bits = (0..4).fold(0, |bits, i| bits | 1 << (hash >> (i * 6) & 63));
        (&self.words[word], bits)
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, RandomState};

    use super::*;

    #[test]
    fn has_every_added_key_and_few_others() {
        let hashes = RandomState::new();
        let filter = Filter::for_keys(10_000);
        let keys = filter.capacity();
        (0..keys).for_each(|key| filter.add(hashes.hash_one(key)));
        assert!((0..keys).all(|key| filter.may_have(hashes.hash_one(key))));
        let passed = (keys..11 * keys).filter(|key| filter.may_have(hashes.hash_one(key))).count();
        assert!(passed < keys / 10, "{passed} of {} passed", keys * 10);
    }
}
