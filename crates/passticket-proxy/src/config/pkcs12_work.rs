//! Computes how much work a PKCS12 file needs, before the work is done.
//!
//! Each encrypted part of a file has its own key derivation. The file chooses the number of its iterations (RFC 8018
//! §4.2, RFC 7914, RFC 7292 appendix B). The library limits the iterations of each part. This module limits their sum.

use x509_cert::der::{
    Decode, Reader, SliceReader, Tag, Tagged,
    asn1::{AnyRef, ObjectIdentifier},
};

/// The maximum number of encrypted parts that are visible without the password.
pub(super) const MAX_DERIVATIONS: usize = 32;

/// The maximum number of iterations of all these parts together. This number of iterations takes a few seconds.
pub(super) const MAX_ITERATIONS: u64 = 4_000_000;

/// The maximum depth of the structure. A PKCS12 file with certificates has about 25 levels.
const MAX_DEPTH: usize = 64;

const PBKDF2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.5.12");
const SCRYPT: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.11591.4.11");
/// The encryption schemes of PKCS12 itself have object identifiers below this object identifier.
const PKCS12_SCHEMES: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.1");

/// The key derivations of the parts of a file that are visible without the password. An encrypted part can contain
/// further key derivations. They are not counted, because only someone who knows the password can have written that
/// part.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Work {
    derivations: usize,
    iterations: u64,
}

impl Work {
    /// Finds all key derivations: each sequence that begins with the object identifier of a key derivation algorithm.
    /// Other data that happens to have this form is counted, too.
    pub(super) fn of(file: &[u8]) -> Self {
        let mut work = Self::default();
        work.add(file, 0);
        work
    }

    pub(super) fn is_too_much(&self) -> bool {
        self.derivations > MAX_DERIVATIONS || self.iterations > MAX_ITERATIONS
    }

    fn add(&mut self, content: &[u8], depth: usize) {
        if depth > MAX_DEPTH {
            self.iterations = u64::MAX;
            return;
        }
        let values = values(content);
        if let [algorithm, parameters, ..] = &*values
            && let Ok(algorithm) = algorithm.decode_as::<ObjectIdentifier>()
            && let Some(iterations) = iterations(algorithm, parameters)
        {
            self.derivations += 1;
            self.iterations = self.iterations.saturating_add(iterations);
        }
        for value in values {
            // Some structures of a PKCS12 file are inside octet strings.
            if value.tag().is_constructed() || value.tag() == Tag::OctetString {
                self.add(value.value(), depth + 1);
            }
        }
    }
}

/// Returns the values of a sequence before the first malformed value.
fn values(content: &[u8]) -> Vec<AnyRef<'_>> {
    let mut values = Vec::new();
    if let Ok(mut reader) = SliceReader::new(content) {
        while !reader.is_finished() {
            let Ok(value) = AnyRef::decode(&mut reader) else { break };
            values.push(value);
        }
    }
    values
}

/// Returns the number of iterations. Returns `None` if `algorithm` is not a key derivation.
fn iterations(algorithm: ObjectIdentifier, parameters: &AnyRef<'_>) -> Option<u64> {
    let is_scrypt = algorithm == SCRYPT;
    if !is_scrypt && algorithm != PBKDF2 && algorithm.parent() != Some(PKCS12_SCHEMES) {
        return None;
    }
    // The salt is the first parameter. A number that does not fit into a `u64` counts as too much work.
    let parameters = values(parameters.value());
    let numbers = parameters.iter().skip(1).filter(|value| value.tag() == Tag::Integer);
    let mut numbers = numbers.map(|value| value.decode_as::<u64>().unwrap_or(u64::MAX));
    let mut next = || numbers.next().unwrap_or(0);
    Some(match is_scrypt {
        // The numbers are N, r and p. scrypt processes 2·N·r·p blocks, and each costs about as much as one iteration of
        // PBKDF2.
        true => next().saturating_mul(next()).saturating_mul(next()).saturating_mul(2),
        false => next(),
    })
}

#[cfg(test)]
mod tests {
    use test_support::key_stores;

    use super::*;

    #[test]
    fn the_key_derivations_of_a_file_are_counted() {
        for (store, derivations) in [
            (key_stores::OPENSSL, 2),
            (key_stores::OPENSSL_LEGACY, 2),
            (key_stores::KEYTOOL, 3),
            (key_stores::KEYTOOL_TRUST, 1),
            (key_stores::KEYTOOL_OPEN_TRUST, 0),
        ] {
            let work = Work::of(store);
            assert_eq!(work.derivations, derivations, "{work:?}");
            let count = u64::try_from(derivations).unwrap();
            let each = (1000 * count)..=(100_000 * count);
            assert!(each.contains(&work.iterations) && !work.is_too_much(), "{work:?}");
        }
    }

    #[test]
    fn the_cost_parameters_of_scrypt_are_converted_to_iterations() {
        // salt 00, N 16384, r 8, p 1
        let parameters = b"\x30\x0d\x04\x01\x00\x02\x02\x40\x00\x02\x01\x08\x02\x01\x01";
        let mut algorithm = b"\x30\x1a\x06\x09\x2b\x06\x01\x04\x01\xda\x47\x04\x0b".to_vec();
        algorithm.extend(parameters);
        assert_eq!(Work::of(&algorithm), Work { derivations: 1, iterations: 262_144 });
    }

    #[test]
    fn a_deep_structure_is_too_much_work() {
        let nested = |depth: usize| {
            let mut der = vec![0x05, 0x00];
            for _ in 0..depth {
                let length = u8::try_from(der.len()).unwrap();
                let head =
                    if length < 0x80 { vec![0x30, length] } else { vec![0x30, 0x81, length] };
                der = [head, der].concat();
            }
            der
        };
        assert!(!Work::of(&nested(MAX_DEPTH)).is_too_much());
        assert!(Work::of(&nested(MAX_DEPTH + 1)).is_too_much());
    }
}
