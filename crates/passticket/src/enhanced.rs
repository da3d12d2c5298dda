//! The enhanced algorithm, on HMAC-SHA-512 (`H`), after IBM's *z/OS Security Server RACF Macros and
//! Interfaces*.
//!
//! 1. `ua` is the user id followed by the APPLID, in EBCDIC and padded with blanks to 8 bytes each.
//! 2. `h = H(ua)`
//! 3. `L` and `R` are the halves of the time in 6 bytes xor the left 6 bytes of `h`.
//! 4. Six rounds `n = 1..=6`: `x = d xor L`, where `d` is the left 3 bytes of `H(R || n || ua)`; in
//!    odd rounds type UPPER clears the left 7 bits of `x`; then `L = R` and `R = x`.
//! 5. `L || R`, as a number in base 36 or 64, are the eight characters.
//!
//! It is a Feistel network, so the rounds run backwards just as well.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha512;

use super::{
    key::EnhancedKey,
    names::{Applid, UserId},
    ticket::LEN,
};

/// Which characters an enhanced PassTicket is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EnhancedType {
    /// `0-9 A-Z`: 36 characters, for systems without mixed-case passwords.
    Upper,
    /// `0-9 A-Z a-z - _`: 64 characters.
    Mixed,
}

/// Type UPPER uses the first 36.
const ALPHABET: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";

const THREE_BYTES: u32 = (1 << 24) - 1;
/// What is left of three bytes when step 4 clears the left seven bits.
const CLEARED: u32 = (1 << 17) - 1;

impl EnhancedType {
    const fn base(self) -> u64 {
        match self {
            Self::Upper => 36,
            Self::Mixed => 64,
        }
    }

    /// How many bits of time a ticket holds: all six bytes, or six bytes less the seven bits that
    /// type UPPER clears so that eight characters of 36 are enough.
    const fn time_bits(self) -> u32 {
        match self {
            Self::Upper => 41,
            Self::Mixed => 48,
        }
    }

    /// What step 4 keeps of a round's result. `round` counts from 1.
    const fn mask(self, round: u8) -> u32 {
        match self {
            Self::Upper if !round.is_multiple_of(2) => CLEARED,
            Self::Upper | Self::Mixed => THREE_BYTES,
        }
    }

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

/// A key that HMAC has already taken in: what is left to do is two compressions per call.
pub(super) struct KeyedMac {
    mac: Hmac<Sha512>,
    alphabet: EnhancedType,
}

impl KeyedMac {
    pub(super) fn new(alphabet: EnhancedType, key: &EnhancedKey) -> Self {
        let mac = Hmac::new_from_slice(key.as_bytes()).expect("HMAC takes keys of any length");
        Self { mac, alphabet }
    }

    pub(super) const fn alphabet(&self) -> EnhancedType {
        self.alphabet
    }

    /// Steps 1 and 2: whatever the time has no part in.
    pub(super) fn pair(&self, user: &UserId, applid: &Applid) -> Pair<'_> {
        let mut ua = [0; 16];
        ua[..8].copy_from_slice(&user.to_ebcdic());
        ua[8..].copy_from_slice(&applid.to_ebcdic());
        let hash = self.left_6_bytes_of_mac(&ua);
        Pair { keyed: self, ua, hash }
    }

    fn left_6_bytes_of_mac(&self, message: &[u8]) -> u64 {
        let mac = self.mac.clone().chain_update(message).finalize().into_bytes();
        mac[..6].iter().fold(0, |left, byte| left << 8 | u64::from(*byte))
    }
}

/// A key with what it makes of one user and one APPLID. Without the key the rest is worth nothing.
pub(super) struct Pair<'a> {
    keyed: &'a KeyedMac,
    ua: [u8; 16],
    /// The left 6 bytes of `h`.
    hash: u64,
}

impl Pair<'_> {
    /// The ticket of a second since the epoch, of which the low 48 bits count, in type UPPER the
    /// low 41 (enough until the year 71000).
    pub(super) fn generate(&self, secs: u64) -> [u8; LEN] {
        let alphabet = self.keyed.alphabet;
        let (mut left, mut right) = halves(secs ^ self.hash);
        for round in 1..=6 {
            let x = (self.digest(right, round) ^ left) & alphabet.mask(round);
            (left, right) = (right, x);
        }
        let mut rest = join(left, right);
        let mut ticket = [0; LEN];
        for character in ticket.iter_mut().rev() {
            *character = ALPHABET[(rest % alphabet.base()) as usize];
            rest /= alphabet.base();
        }
        ticket
    }

    /// The second since the epoch that this ticket is for, or `None` if no key makes this text.
    ///
    /// The bits that type UPPER clears in rounds 3 and 5 are those of a half that round 1 or 3 has
    /// cleared before, so they are zero. Those of round 1 are the upper bits of the time, and zero
    /// too.
    pub(super) fn evaluate(&self, ticket: &[u8; LEN]) -> Option<u64> {
        let alphabet = self.keyed.alphabet;
        let mut value = 0;
        for character in ticket {
            value = value * alphabet.base() + u64::from(alphabet.index(*character)?);
        }
        if value >> alphabet.time_bits() != 0 {
            return None;
        }
        let (mut left, mut right) = halves(value);
        for round in (1..=6).rev() {
            let x = (self.digest(left, round) ^ right) & alphabet.mask(round);
            (left, right) = (x, left);
        }
        Some((join(left, right) ^ self.hash) & ((1 << alphabet.time_bits()) - 1))
    }

    /// `d` of step 4: the left 3 bytes of `H(R || byte(n) || ua)`. `round` counts from 1.
    fn digest(&self, right: u32, round: u8) -> u32 {
        let mut message = [0; 20];
        message[..4].copy_from_slice(&(right << 8 | u32::from(round)).to_be_bytes());
        message[4..].copy_from_slice(&self.ua);
        (self.keyed.left_6_bytes_of_mac(&message) >> 24) as u32
    }
}

/// The low 6 bytes as two times three.
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
    fn an_index_is_the_place_in_the_alphabet() {
        for c in 0..=u8::MAX {
            let place = |c| ALPHABET.iter().position(|a| *a == c);
            let mixed = EnhancedType::Mixed.index(c).map(usize::from);
            assert_eq!(mixed, place(c), "{c}");
            let upper = EnhancedType::Upper.index(c).map(usize::from);
            assert_eq!(upper, place(c.to_ascii_uppercase()).filter(|i| *i < 36), "{c}");
        }
    }

    #[test]
    fn the_time_comes_back_to_the_last_bit() {
        let key = EnhancedKey::from_hex(&"0123456789ABCDEF".repeat(4)).unwrap();
        let (user, applid) = (UserId::new("IBMUSER").unwrap(), Applid::new("IZUDFLT").unwrap());
        for alphabet in [EnhancedType::Upper, EnhancedType::Mixed] {
            let keyed = KeyedMac::new(alphabet, &key);
            let pair = keyed.pair(&user, &applid);
            let last = (1 << alphabet.time_bits()) - 1;
            for secs in [0, 1, 1_700_000_000, 1 << 32, last / 2, last - 1, last] {
                assert_eq!(pair.evaluate(&pair.generate(secs)), Some(secs), "{alphabet:?} {secs}");
            }
        }
    }

    #[test]
    fn numbers_that_type_upper_cannot_make_are_no_ticket() {
        let key = EnhancedKey::from_hex(&"0123456789ABCDEF".repeat(4)).unwrap();
        let keyed = KeyedMac::new(EnhancedType::Upper, &key);
        let pair = keyed.pair(&UserId::new("U").unwrap(), &Applid::new("A").unwrap());
        assert_eq!(pair.evaluate(b"ZZZZZZZZ"), None);
        assert!(pair.evaluate(b"00000000").is_some());
        // 2^41 - 1 and 2^41.
        assert!(pair.evaluate(b"S27TO3CV").is_some());
        assert_eq!(pair.evaluate(b"S27TO3CW"), None);
    }
}
