//! The legacy algorithm, from IBM's *z/OS Security Server RACF Macros and Interfaces*
//! (docs/reference/passticket-algorithms.md#legacy). It makes PassTickets, the one-time passwords of z/OS. `E` encrypts
//! one block with DES and the secret key.
//!
//! 1. `r1 = E(user)`. `user` is the user id in EBCDIC, padded with blanks to 8 bytes.
//! 2. `r2 = E(r1 xor applid)`. `applid` is the APPLID (the application's name), encoded like the
//!    user id.
//! 3. `r3` is the left half of `r2`.
//! 4. `r4 = r3 xor time`. `time` has 4 bytes.
//! 5. The time coder runs six rounds on `L` and `R`, the halves of `r4`. Each round computes `x = d xor L`, where `d`
//!    is the left 2 bytes of `E(R || pad)`. Then the round sets `L = R`, and sets `R` to a permutation of the bits of
//!    `x`. `pad` is one half of a value of 12 bytes. This value is the user id without blanks, padded with X'55'. Odd
//!    rounds use the left half of this value, and even rounds use the right half.
//! 6. [`translate`] turns `L || R` into eight characters.
//!
//! The rounds are a Feistel network. Evaluating a ticket runs the rounds backwards.

use std::convert::Infallible;

use des::{
    Des,
    cipher::{Block, BlockCipherEncrypt, KeyInit},
};

use super::{
    key::LegacyKey,
    key_source::{KeySource, KeySourceError},
    names::{Applid, UserId},
    ticket::LEN,
};

const ALPHABET: &[u8; 36] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

/// DES with one key.
pub(super) trait BlockCipher {
    /// The error if the key cannot be used. It is [`Infallible`] for a key in memory.
    type Error;

    /// Encrypts one block in ECB mode.
    fn encrypt(&self, block: u64) -> Result<u64, Self::Error>;
}

/// A key in memory. The field has the DES schedule of the key, not the key.
pub(super) struct Schedule(Des);

impl Schedule {
    pub(super) fn new(key: &LegacyKey) -> Self {
        Self(Des::new(key.as_bytes().into()))
    }
}

impl BlockCipher for Schedule {
    type Error = Infallible;

    fn encrypt(&self, block: u64) -> Result<u64, Infallible> {
        let mut block = Block::<Des>::from(block.to_be_bytes());
        self.0.encrypt_block(&mut block);
        Ok(u64::from_be_bytes(block.into()))
    }
}

impl BlockCipher for dyn KeySource {
    type Error = KeySourceError;

    fn encrypt(&self, block: u64) -> Result<u64, KeySourceError> {
        self.compute(&block.to_be_bytes()).map(u64::from_be_bytes)
    }
}

const EBCDIC_BLANK: u8 = 0x40;

/// The values that depend on key, user and APPLID, but not on the time. An attacker who has these values but not
/// the key cannot make tickets.
pub(super) struct Pair<'a, K: ?Sized> {
    key: &'a K,
    r3: u32,
    /// The two values of `pad` in step 5: one for odd rounds and one for even rounds. Each value has 6 bytes.
    pads: [u64; 2],
}

impl<'a, K: BlockCipher + ?Sized> Pair<'a, K> {
    /// Does steps 1 to 3 and computes the pads of step 5.
    pub(super) fn new(key: &'a K, user: &UserId, applid: &Applid) -> Result<Self, K::Error> {
        let user = user.to_ebcdic();
        let r1 = key.encrypt(u64::from_be_bytes(user))?;
        let r2 = key.encrypt(r1 ^ u64::from_be_bytes(applid.to_ebcdic()))?;
        let mut pad = [0x55; 12];
        // A user id contains no blanks, so all blanks are padding.
        for (to, from) in pad.iter_mut().zip(user.into_iter().filter(|b| *b != EBCDIC_BLANK)) {
            *to = from;
        }
        let half = |from: usize| {
            pad[from..from + 6].iter().fold(0, |half, byte| half << 8 | u64::from(*byte))
        };
        Ok(Self { key, r3: (r2 >> 32) as u32, pads: [half(0), half(6)] })
    }

    /// Does steps 4 to 6: makes the ticket for the time `secs`, in seconds since the epoch. Only
    /// the low 32 bits of `secs` are used.
    pub(super) fn generate(&self, secs: u64) -> Result<[u8; LEN], K::Error> {
        let r4 = self.r3 ^ secs as u32;
        let (mut left, mut right) = halves(r4);
        for (round, permutation) in PERMUTATIONS.iter().enumerate() {
            let x = self.digest(right, round)? ^ left;
            (left, right) = (right, permutation.apply(x));
        }
        Ok(translate(join(left, right)))
    }

    /// Returns the time that this ticket is for, in seconds since the epoch, or `None` if no key can make this ticket.
    ///
    /// A ticket contains only the low 32 bits of its time. The result is the time with these bits that is nearest to
    /// `now`.
    pub(super) fn evaluate(&self, ticket: &[u8; LEN], now: u64) -> Result<Option<u64>, K::Error> {
        let Some(bits) = untranslate(ticket) else {
            return Ok(None);
        };
        let (mut left, mut right) = halves(bits);
        for (round, inverse) in INVERSES.iter().enumerate().rev() {
            (left, right) = (inverse.apply(right) ^ self.digest(left, round)?, left);
        }
        Ok(Some(unwrap_near(self.r3 ^ join(left, right), now)))
    }

    /// Computes `d` of step 5: the left 2 bytes of `E(R || pad)`. `round` counts from 0.
    fn digest(&self, right: u16, round: usize) -> Result<u16, K::Error> {
        let block = u64::from(right) << 48 | self.pads[round % 2];
        Ok((self.key.encrypt(block)? >> 48) as u16)
    }
}

fn halves(value: u32) -> (u16, u16) {
    ((value >> 16) as u16, value as u16)
}

fn join(left: u16, right: u16) -> u32 {
    u32::from(left) << 16 | u32::from(right)
}

/// Does step 6. The bits form eight groups of six bits. The value of each group, modulo 36, is an index into the
/// alphabet. Bits are counted from 1 at the left. The first group has the bits 31, 32, 1, 2, 3, 4. Each of the other
/// groups begins with the last two bits of the group before it.
fn translate(bits: u32) -> [u8; LEN] {
    let mut rest = bits;
    [(); LEN].map(|()| {
        rest = rest.rotate_left(4);
        ALPHABET[(rest & 0x3F) as usize % ALPHABET.len()]
    })
}

/// Reverses step 6. Returns `None` if no value of 32 bits gives this text.
///
/// The character with index `v` stands for the group `v` or the group `v + 36`. The first two bits of a group equal the
/// last two bits of the group before it. The two candidates have different first two bits, so at most one of them fits.
/// Both have the same last two bits, because 36 is a multiple of 4.
fn untranslate(ticket: &[u8; LEN]) -> Option<u32> {
    let mut indexes = [0; LEN];
    for (index, character) in indexes.iter_mut().zip(ticket) {
        *index = match character.to_ascii_uppercase() {
            letter @ b'A'..=b'Z' => letter - b'A',
            digit @ b'0'..=b'9' => digit - b'0' + 26,
            _ => return None,
        };
    }
    let mut before = indexes[LEN - 1];
    let mut bits = 0;
    for index in indexes {
        // From index 28 on, the second candidate has more than six bits and never fits.
        let group = [index, index + 36].into_iter().find(|group| group >> 4 == before & 3)?;
        bits = bits << 4 | u32::from(group & 0xF);
        before = group;
    }
    Some(bits)
}

/// Returns the time that is nearest to `now` and has the low 32 bits `low`. All times are in seconds since the epoch.
/// The low 32 bits wrap around in 2106.
fn unwrap_near(low: u32, now: u64) -> u64 {
    let offset = low.wrapping_sub(now as u32).cast_signed();
    // If the nearest time is before 1970, the result is the first time after 1970 with these bits, which is `low`
    // itself.
    now.checked_add_signed(offset.into()).unwrap_or(low.into())
}

/// A permutation of 16 bits. It has one lookup table for each byte of the argument.
struct Permutation {
    high: [u16; 256],
    low: [u16; 256],
}

impl Permutation {
    /// Makes a permutation. Bit `j` of its result is bit `table[j]` of its argument. Bits are counted from 1 at the
    /// left.
    const fn new(table: &[u8; 16]) -> Self {
        let mut this = Self { high: [0; 256], low: [0; 256] };
        let mut byte = 0;
        while byte < 256 {
            let mut to = 0;
            while to < 16 {
                let from = 16 - table[to];
                this.high[byte] |= (((byte << 8) >> from & 1) as u16) << (15 - to);
                this.low[byte] |= ((byte >> from & 1) as u16) << (15 - to);
                to += 1;
            }
            byte += 1;
        }
        this
    }

    /// Returns the inverse of the permutation that [`new`](Self::new) makes from `table`.
    const fn inverse(table: &[u8; 16]) -> Self {
        let mut inverse = [0; 16];
        let mut to = 0;
        while to < 16 {
            inverse[table[to] as usize - 1] = to as u8 + 1;
            to += 1;
        }
        Self::new(&inverse)
    }

    fn apply(&self, x: u16) -> u16 {
        let [high, low] = x.to_be_bytes();
        self.high[usize::from(high)] | self.low[usize::from(low)]
    }
}

/// The permutations of step 5, one for each round.
const TABLES: [[u8; 16]; 6] = [
    [10, 2, 12, 4, 14, 6, 16, 8, 9, 1, 11, 3, 13, 5, 15, 7],
    [1, 10, 3, 12, 13, 16, 7, 15, 9, 2, 11, 4, 5, 14, 8, 6],
    [3, 10, 1, 12, 13, 16, 9, 15, 7, 2, 14, 4, 5, 11, 8, 6],
    [10, 4, 12, 2, 14, 8, 16, 6, 9, 1, 13, 3, 11, 5, 15, 7],
    [4, 10, 12, 1, 8, 16, 14, 5, 9, 2, 13, 3, 11, 7, 15, 6],
    [1, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2],
];

static PERMUTATIONS: [Permutation; 6] = [
    Permutation::new(&TABLES[0]),
    Permutation::new(&TABLES[1]),
    Permutation::new(&TABLES[2]),
    Permutation::new(&TABLES[3]),
    Permutation::new(&TABLES[4]),
    Permutation::new(&TABLES[5]),
];

static INVERSES: [Permutation; 6] = [
    Permutation::inverse(&TABLES[0]),
    Permutation::inverse(&TABLES[1]),
    Permutation::inverse(&TABLES[2]),
    Permutation::inverse(&TABLES[3]),
    Permutation::inverse(&TABLES[4]),
    Permutation::inverse(&TABLES[5]),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn step_6_agrees_with_the_example_in_ibms_manual() {
        assert_eq!(&translate(0x0724_7F79), b"QHOAH1TV");
        assert_eq!(untranslate(b"QHOAH1TV"), Some(0x0724_7F79));
        assert_eq!(untranslate(b"qhoah1tv"), Some(0x0724_7F79));
    }

    #[test]
    fn texts_that_step_6_cannot_give_are_refused() {
        struct Case {
            ticket: &'static [u8; LEN],
            expected: Option<u32>,
        }
        let cases = [
            Case { ticket: b"AAAAAAAA", expected: Some(0) },
            // X'FFFFFFFF' has eight groups with the value 63. 63 modulo 36 is 27, which is the index of `1`.
            Case { ticket: b"11111111", expected: Some(u32::MAX) },
            // The group of B ends with the bits 01. So the next group begins with the bits 01, and has a value of 16 to
            // 31.
            Case { ticket: b"BAAAAAAA", expected: None },
            Case { ticket: b"BQAAAAAA", expected: Some(0x1000_0000) },
            Case { ticket: b"AAAAAAAB", expected: None },
            Case { ticket: b"AAAAAAA-", expected: None },
            Case { ticket: b"AAAAAAA_", expected: None },
        ];
        for Case { ticket, expected } in cases {
            assert_eq!(untranslate(ticket), expected, "{}", ticket.escape_ascii());
        }
    }

    #[test]
    fn the_nearest_time_is_found_across_the_wrap_in_2106() {
        struct Case {
            low: u32,
            now: u64,
            expected: u64,
        }
        const WRAP: u64 = 1 << 32;
        let cases = [
            Case { low: 1_700_000_000, now: 1_700_000_600, expected: 1_700_000_000 },
            Case { low: u32::MAX, now: WRAP + 5, expected: WRAP - 1 },
            Case { low: 5, now: WRAP - 1, expected: WRAP + 5 },
            Case { low: 5, now: 3 * WRAP - 1, expected: 3 * WRAP + 5 },
            Case { low: 5, now: 0, expected: 5 },
            Case { low: u32::MAX, now: 0, expected: WRAP - 1 },
        ];
        for Case { low, now, expected } in cases {
            assert_eq!(unwrap_near(low, now), expected, "{low} near {now}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 512,
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn translation_is_reversible(bits: u32) {
            prop_assert_eq!(untranslate(&translate(bits)), Some(bits));
        }

        #[test]
        fn only_translations_are_accepted(text in "[A-Z0-9]{8}") {
            let ticket: [u8; LEN] = text.as_bytes().try_into().unwrap();
            if let Some(bits) = untranslate(&ticket) {
                prop_assert_eq!(translate(bits), ticket);
            }
        }

        #[test]
        fn permutations_follow_their_tables(x: u16) {
            for (round, table) in TABLES.iter().enumerate() {
                let bit = |j: u8| x >> (16 - j) & 1;
                let expected = table.iter().fold(0, |y, j| y << 1 | bit(*j));
                prop_assert_eq!(PERMUTATIONS[round].apply(x), expected);
                prop_assert_eq!(INVERSES[round].apply(expected), x);
            }
        }
    }
}
