//! The enhanced algorithm, from IBM's *z/OS Security Server RACF Macros and Interfaces*
//! (docs/reference/passticket-algorithms.md#enhanced). It makes PassTickets, short-lived passwords of z/OS. There are
//! two types of enhanced PassTickets: a ticket of type UPPER is a number in base 36, and a ticket of type MIXED is a
//! number in base 64. In the following steps, `H` is HMAC-SHA-512 with the secret key.
//!
//! 1. `ua` is the user id followed by the APPLID (the application's name). Both names are in EBCDIC, and each is padded
//!    with blanks to 8 bytes.
//! 2. `h = H(ua)`
//! 3. `L` and `R` are the left and the right half of `t xor h6`. `t` is the time in 6 bytes, and
//!    `h6` is the left 6 bytes of `h`.
//! 4. There are six rounds, `n = 1..=6`. Each round computes `x = d xor L`, where `d` is the left 3 bytes of
//!    `H(R || n || ua)`. In odd rounds, type UPPER clears the left 7 bits of `x`. Then the round sets `L = R` and
//!    `R = x`.
//! 5. `L || R` is a number. This number is written with eight digits, in the base of the type. The digits are the
//!    characters of the ticket.
//!
//! The rounds are a Feistel network. Evaluating a ticket runs the rounds backwards.

use std::convert::Infallible;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha512;

use super::{
    key::EnhancedKey,
    key_source::{KeySource, KeySourceError},
    names::{Applid, UserId},
    ticket::LEN,
};

/// The alphabet of enhanced PassTickets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EnhancedType {
    /// `0-9 A-Z`: 36 characters, for systems without mixed-case passwords.
    Upper,
    /// `0-9 A-Z a-z - _`: 64 characters.
    Mixed,
}

/// The digits of step 5. Type UPPER uses only the first 36 digits.
const ALPHABET: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";

const THREE_BYTES: u32 = (1 << 24) - 1;
/// The mask that keeps the right 17 of 24 bits. Step 4 clears the left seven bits with it.
const LOW_17_BITS: u32 = (1 << 17) - 1;

impl EnhancedType {
    const fn base(self) -> u64 {
        match self {
            Self::Upper => 36,
            Self::Mixed => 64,
        }
    }

    /// Returns the number of bits of the time in a ticket. With type MIXED, these are all 48 bits of the six bytes.
    /// Type UPPER clears seven of them, because eight digits in base 36 cannot hold 48 bits.
    const fn time_bits(self) -> u32 {
        match self {
            Self::Upper => 41,
            Self::Mixed => 48,
        }
    }

    /// Returns the mask for `x` in step 4. A bit of the mask is 1 if the round keeps this bit of `x`. `round` counts
    /// from 1.
    const fn mask(self, round: u8) -> u32 {
        match self {
            Self::Upper if !round.is_multiple_of(2) => LOW_17_BITS,
            Self::Upper | Self::Mixed => THREE_BYTES,
        }
    }

    /// Returns the number that the eight digits in `ticket` stand for. Returns `None` if a character is not a digit of
    /// this type, or if the number has more than [`time_bits`](Self::time_bits) bits.
    fn value(self, ticket: &[u8; LEN]) -> Option<u64> {
        let mut value = 0;
        for character in ticket {
            value = value * self.base() + u64::from(self.index(*character)?);
        }
        (value >> self.time_bits() == 0).then_some(value)
    }

    /// Returns the value of one digit. Type UPPER also accepts lower case.
    const fn index(self, character: u8) -> Option<u8> {
        match (character, self) {
            (b'0'..=b'9', _) => Some(character - b'0'),
            (b'A'..=b'Z', _) => Some(character - b'A' + 10),
            (b'a'..=b'z', Self::Upper) => Some(character - b'a' + 10),
            (b'a'..=b'z', Self::Mixed) => Some(character - b'a' + 36),
            (b'-', Self::Mixed) => Some(62),
            (b'_', Self::Mixed) => Some(63),
            _ => None,
        }
    }
}

/// HMAC-SHA-512 with one key.
pub(super) trait KeyedHash {
    /// The error if the key cannot be used. It is [`Infallible`] for a key in memory.
    type Error;

    /// Returns the left 6 bytes of `H(message)`, as a number.
    fn left_6_bytes(&self, message: &[u8]) -> Result<u64, Self::Error>;
}

/// A key in memory. [`new`](Self::new) hashes the key blocks of HMAC once. So each HMAC needs only two compressions of
/// SHA-512.
pub(super) struct KeyedMac(Hmac<Sha512>);

impl KeyedMac {
    pub(super) fn new(key: &EnhancedKey) -> Self {
        Self(Hmac::new_from_slice(key.as_bytes()).expect("HMAC takes keys of any length"))
    }
}

impl KeyedHash for KeyedMac {
    type Error = Infallible;

    fn left_6_bytes(&self, message: &[u8]) -> Result<u64, Infallible> {
        let mac = self.0.clone().chain_update(message).finalize().into_bytes();
        Ok(mac[..6].iter().fold(0, |left, byte| left << 8 | u64::from(*byte)))
    }
}

impl KeyedHash for dyn KeySource {
    type Error = KeySourceError;

    fn left_6_bytes(&self, message: &[u8]) -> Result<u64, KeySourceError> {
        Ok(u64::from_be_bytes(self.compute(message)?) >> 16)
    }
}

/// The values that depend on key, user and APPLID, but not on the time. An attacker who has these values but not
/// the key cannot make tickets.
pub(super) struct Pair<'a, K: ?Sized> {
    key: &'a K,
    alphabet: EnhancedType,
    ua: [u8; 16],
    /// The left 6 bytes of `h`.
    hash: u64,
}

impl<'a, K: KeyedHash + ?Sized> Pair<'a, K> {
    /// Does steps 1 and 2.
    pub(super) fn new(
        key: &'a K,
        alphabet: EnhancedType,
        user: &UserId,
        applid: &Applid,
    ) -> Result<Self, K::Error> {
        let mut ua = [0; 16];
        ua[..8].copy_from_slice(&user.to_ebcdic());
        ua[8..].copy_from_slice(&applid.to_ebcdic());
        let hash = key.left_6_bytes(&ua)?;
        Ok(Self { key, alphabet, ua, hash })
    }

    /// Does steps 3 to 5: makes the ticket for the time `secs`, in seconds since the epoch. Type MIXED uses only the
    /// low 48 bits of `secs`. Type UPPER uses only the low 41 bits, which are enough until the year 71000.
    pub(super) fn generate(&self, secs: u64) -> Result<[u8; LEN], K::Error> {
        let alphabet = self.alphabet;
        let (mut left, mut right) = halves(secs ^ self.hash);
        for round in 1..=6 {
            let x = (self.digest(right, round)? ^ left) & alphabet.mask(round);
            (left, right) = (right, x);
        }
        let mut rest = join(left, right);
        let mut ticket = [0; LEN];
        for character in ticket.iter_mut().rev() {
            *character = ALPHABET[(rest % alphabet.base()) as usize];
            rest /= alphabet.base();
        }
        Ok(ticket)
    }

    /// Returns the time that this ticket is for, in seconds since the epoch, or `None` if no key can make this ticket.
    ///
    /// In odd rounds, type UPPER clears the left 7 bits of `x`, so the left 7 bits of `L` cannot be computed from `x`.
    /// The evaluation sets these bits to zero. In round 3, `L` is the `x` of round 1, and in round 5, `L` is the `x` of
    /// round 3. Type UPPER had cleared the left 7 bits of these `x`, so zero is right. In round 1, the left 7 bits of
    /// `L` come from the time, and are unknown. A ticket does not contain these bits of the time, so the result has
    /// zeros there.
    pub(super) fn evaluate(&self, ticket: &[u8; LEN]) -> Result<Option<u64>, K::Error> {
        let alphabet = self.alphabet;
        let Some(value) = alphabet.value(ticket) else {
            return Ok(None);
        };
        let (mut left, mut right) = halves(value);
        for round in (1..=6).rev() {
            let x = (self.digest(left, round)? ^ right) & alphabet.mask(round);
            (left, right) = (x, left);
        }
        Ok(Some((join(left, right) ^ self.hash) & ((1 << alphabet.time_bits()) - 1)))
    }

    /// Computes `d` of step 4: the left 3 bytes of `H(R || byte(n) || ua)`. `round` counts from 1.
    fn digest(&self, right: u32, round: u8) -> Result<u32, K::Error> {
        let mut message = [0; 20];
        message[..4].copy_from_slice(&(right << 8 | u32::from(round)).to_be_bytes());
        message[4..].copy_from_slice(&self.ua);
        Ok((self.key.left_6_bytes(&message)? >> 24) as u32)
    }
}

/// Splits the low 6 bytes of `value` into two halves of 3 bytes.
fn halves(value: u64) -> (u32, u32) {
    ((value >> 24) as u32 & THREE_BYTES, value as u32 & THREE_BYTES)
}

fn join(left: u32, right: u32) -> u64 {
    u64::from(left) << 24 | u64::from(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_is_the_position_in_the_alphabet() {
        for c in 0..=u8::MAX {
            let position = |c| ALPHABET.iter().position(|a| *a == c);
            let mixed = EnhancedType::Mixed.index(c).map(usize::from);
            assert_eq!(mixed, position(c), "{c}");
            let upper = EnhancedType::Upper.index(c).map(usize::from);
            assert_eq!(upper, position(c.to_ascii_uppercase()).filter(|i| *i < 36), "{c}");
        }
    }

    #[test]
    fn evaluating_returns_every_bit_of_the_time() {
        let key = EnhancedKey::from_hex(&"0123456789ABCDEF".repeat(4)).unwrap();
        let (user, applid) = (UserId::new("IBMUSER").unwrap(), Applid::new("IZUDFLT").unwrap());
        for alphabet in [EnhancedType::Upper, EnhancedType::Mixed] {
            let keyed = KeyedMac::new(&key);
            let Ok(pair) = Pair::new(&keyed, alphabet, &user, &applid);
            let last = (1 << alphabet.time_bits()) - 1;
            for secs in [0, 1, 1_700_000_000, 1 << 32, last / 2, last - 1, last] {
                let Ok(ticket) = pair.generate(secs);
                assert_eq!(pair.evaluate(&ticket), Ok(Some(secs)), "{alphabet:?} {secs}");
            }
        }
    }

    #[test]
    fn type_upper_refuses_a_number_of_more_than_41_bits() {
        let key = EnhancedKey::from_hex(&"0123456789ABCDEF".repeat(4)).unwrap();
        let keyed = KeyedMac::new(&key);
        let (user, applid) = (UserId::new("U").unwrap(), Applid::new("A").unwrap());
        let Ok(pair) = Pair::new(&keyed, EnhancedType::Upper, &user, &applid);
        let is_a_ticket = |text| pair.evaluate(text).is_ok_and(|secs| secs.is_some());
        assert!(!is_a_ticket(b"ZZZZZZZZ"));
        assert!(is_a_ticket(b"00000000"));
        // These texts have the values 2^41 - 1 and 2^41.
        assert!(is_a_ticket(b"S27TO3CV"));
        assert!(!is_a_ticket(b"S27TO3CW"));
    }
}
