//! The public keys of an issuer: a JWK set (RFC 7517 §5).
//!
//! A key that cannot verify signatures is skipped, because an issuer may list other kinds of keys. If no key remains,
//! this is an error.

use std::collections::HashSet;

use aws_lc_rs::signature::ParsedPublicKey;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{Algorithm, VerifyingKey, key::rsa_public_key};

/// The maximum number of keys in a set.
const MAX_KEYS: usize = 32;

/// The maximum number of keys that are tried for one token. Each check takes time, and anyone can send a token with a
/// wrong signature.
const MAX_CHECKS: usize = 16;

/// The maximum length of a document in bytes.
const MAX_LEN: usize = 64 * 1024;

/// The maximum length of the id of a key, in bytes.
const MAX_ID: usize = 256;

pub(super) struct KeySet {
    keys: Vec<Key>,
}

struct Key {
    id: Option<Box<str>>,
    /// The accepted algorithms, each with the key in the form for this algorithm. The header of a token cannot select
    /// any other algorithm.
    by_algorithm: Vec<(Algorithm, ParsedPublicKey)>,
    /// The hash of the public key, the id and the algorithms. For a key from [`KeySet::of`], the hash of only the
    /// public key.
    fingerprint: [u8; 32],
}

impl KeySet {
    /// Creates a set with one RSA key, which verifies RS256 and has no id.
    pub(super) fn of(key: &VerifyingKey) -> Self {
        let parsed = key.parsed().clone();
        let fingerprint = Sha256::digest(key.der()).into();
        Self {
            keys: vec![Key {
                id: None,
                by_algorithm: vec![(Algorithm::Rs256, parsed)],
                fingerprint,
            }],
        }
    }

    pub(super) fn parse(json: &[u8]) -> Result<Self, KeySetError> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<Value>,
        }
        if json.len() > MAX_LEN {
            return Err(KeySetError::TooLarge { bytes: json.len() });
        }
        // A JWK set is a JSON object, but serde also reads a struct from an array.
        if json.trim_ascii_start().first() != Some(&b'{') {
            return Err(KeySetError::NotAJwkSet);
        }
        let document: Document =
            serde_json::from_slice(json).map_err(|_| KeySetError::NotAJwkSet)?;
        if document.keys.len() > MAX_KEYS {
            return Err(KeySetError::TooManyKeys { keys: document.keys.len() });
        }
        let listed = document.keys.len();
        let keys: Vec<_> = document.keys.iter().filter_map(Key::from_jwk).collect();
        if keys.is_empty() {
            return Err(KeySetError::NoUsableKey { listed });
        }
        Ok(Self { keys })
    }

    /// Checks a signature. `id` is the `kid` of the token. Of the keys that can be used with `algorithm`, the keys with
    /// this id and the keys without an id are tried. If the token has no `kid`, all keys for `algorithm` are tried. In
    /// each case, at most [`MAX_CHECKS`] keys are tried.
    pub(super) fn check(
        &self,
        algorithm: Algorithm,
        id: Option<&str>,
        message: &[u8],
        signature: &[u8],
    ) -> Signature {
        let is_candidate = |key: &&Key| id.is_none() || key.id.is_none() || key.id.as_deref() == id;
        let candidates = self.keys.iter().filter(is_candidate);
        let mut checked = candidates.filter_map(|key| key.with(algorithm)).take(MAX_CHECKS);
        if checked.any(|key| key.verify_sig(message, signature).is_ok()) {
            return Signature::Good;
        }
        // If the token has no `kid`, or the set has no key with its `kid`, the issuer may have signed the token with a
        // new key.
        match id {
            Some(_) if self.keys.iter().any(|key| key.id.as_deref() == id) => Signature::Bad,
            _ => Signature::UnknownKey,
        }
    }

    /// Returns whether `new` lacks a key of this set, or has the key with another id or with other algorithms.
    pub(super) fn loses_keys_to(&self, new: &Self) -> bool {
        let kept: HashSet<_> = new.keys.iter().map(|key| key.fingerprint).collect();
        self.keys.iter().any(|key| !kept.contains(&key.fingerprint))
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signature {
    Good,
    /// The set has a key with the `kid` of the token, but no key that was tried has made the signature.
    Bad,
    /// The set has no key with the `kid` of the token, or the token has no `kid`. No key that was tried has made the
    /// signature.
    UnknownKey,
}

impl Key {
    /// Returns the key in the form for `algorithm`, or `None` if the key cannot be used with `algorithm`.
    fn with(&self, algorithm: Algorithm) -> Option<&ParsedPublicKey> {
        let mut parsed = self.by_algorithm.iter();
        parsed.find(|(of_key, _)| *of_key == algorithm).map(|(_, key)| key)
    }

    /// Reads a key. Returns `None` if the key cannot verify signatures.
    fn from_jwk(jwk: &Value) -> Option<Self> {
        let jwk = jwk.as_object()?;
        // A private key or a shared secret is skipped, because anyone who can read the set could sign with this key.
        if ["d", "p", "q", "dp", "dq", "qi", "oth", "k"].iter().any(|name| jwk.contains_key(*name))
        {
            return None;
        }
        let id = match jwk.get("kid") {
            None => None,
            Some(id) => Some(id.as_str().filter(|id| id.len() <= MAX_ID)?.into()),
        };
        if jwk.get("use").is_some_and(|r#use| r#use != "sig") {
            return None;
        }
        if let Some(operations) = jwk.get("key_ops")
            && !operations.as_array()?.iter().any(|operation| operation == "verify")
        {
            return None;
        }
        let only = match jwk.get("alg") {
            None => None,
            Some(alg) => Some(alg.as_str()?.parse::<Algorithm>().ok()?),
        };
        let (algorithms, public) = match jwk.get("kty")?.as_str()? {
            "RSA" => (Algorithm::RSA.to_vec(), rsa(jwk)?),
            "EC" => elliptic(jwk)?,
            _ => return None,
        };
        let by_algorithm: Vec<_> = algorithms
            .into_iter()
            .filter(|algorithm| only.is_none_or(|only| only == *algorithm))
            .map(|algorithm| {
                let parsed = ParsedPublicKey::new(algorithm.verification(), &public);
                parsed.map(|parsed| (algorithm, parsed))
            })
            .collect::<Result<_, _>>()
            .ok()?;
        if by_algorithm.is_empty() {
            return None;
        }
        let mut hash = Sha256::new();
        hash.update(&public);
        hash.update(id.as_deref().unwrap_or_default());
        for (algorithm, _) in &by_algorithm {
            // A zero byte separates the names, because no name contains one.
            hash.update([0]);
            hash.update(algorithm.name());
        }
        Some(Self { id, by_algorithm, fingerprint: hash.finalize().into() })
    }
}

/// Reads the number in a member of a JWK, without leading zero bytes.
fn number(jwk: &Map<String, Value>, name: &str) -> Option<Vec<u8>> {
    let bytes = coordinate(jwk, name)?;
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    Some(bytes[zeros..].to_vec())
}

fn coordinate(jwk: &Map<String, Value>, name: &str) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(jwk.get(name)?.as_str()?).ok()
}

fn rsa(jwk: &Map<String, Value>) -> Option<Vec<u8>> {
    let key = rsa_public_key(number(jwk, "n")?, number(jwk, "e")?).ok()?;
    Some(key.as_ref().to_vec())
}

/// Reads a key on the curve P-256 or P-384 (RFC 7518 §6.2.1). Returns its algorithm and its uncompressed point. This
/// function does not check that the point is on the curve. The library aws-lc checks it later.
fn elliptic(jwk: &Map<String, Value>) -> Option<(Vec<Algorithm>, Vec<u8>)> {
    let (algorithm, len) = match jwk.get("crv")?.as_str()? {
        "P-256" => (Algorithm::Es256, 32),
        "P-384" => (Algorithm::Es384, 48),
        _ => return None,
    };
    let (x, y) = (coordinate(jwk, "x")?, coordinate(jwk, "y")?);
    // RFC 7518 §6.2.1.2: a coordinate has the full length.
    if x.len() != len || y.len() != len {
        return None;
    }
    Some((vec![algorithm], [&[4], x.as_slice(), y.as_slice()].concat()))
}

/// The reason why a document is not a usable JWK set. The error contains no part of the document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeySetError {
    /// The document is longer than 64 KiB.
    #[error("the JWK set has {bytes} bytes, more than {MAX_LEN}")]
    TooLarge {
        /// The length of the document in bytes.
        bytes: usize,
    },
    /// The document is not a JSON object with an array `keys`.
    #[error("the document is not a JWK set; check that the URL is the jwks_uri of the issuer")]
    NotAJwkSet,
    /// The set has more than 32 keys.
    #[error("the JWK set has {keys} keys, more than {MAX_KEYS}")]
    TooManyKeys {
        /// The number of keys.
        keys: usize,
    },
    /// No key of the set can verify signatures.
    #[error(
        "none of the {listed} keys of the JWK set can verify signatures; supported are RSA keys of 2048 to 8192 bits, \
         and keys on P-256 and P-384"
    )]
    NoUsableKey {
        /// The number of keys.
        listed: usize,
    },
}
