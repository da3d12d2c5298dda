//! The RSA key that signs our tokens, and its public half.

use std::fmt;

use aws_lc_rs::signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256};
use base64::{Engine, engine::general_purpose::STANDARD, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, EncodingKey, crypto,
    jwk::{AlgorithmParameters, Jwk, RSAKeyParameters},
};
use serde_json::{Value, json};

const MIN_BITS: usize = 2048;

/// An RSA private key for RS256, 2048 bits or more.
#[derive(Clone)]
pub struct SigningKey {
    private: EncodingKey,
    public: VerifyingKey,
}

impl SigningKey {
    /// Reads a PEM document: PKCS #8 (`PRIVATE KEY`) or PKCS #1 (`RSA PRIVATE KEY`).
    ///
    /// # Errors
    /// [`KeyError`] for what is no RSA private key, or a short one.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        use_aws_lc();
        let private = EncodingKey::from_rsa_pem(pem).map_err(|_| KeyError::NotRsaPrivate)?;
        let jwk = Jwk::from_encoding_key(&private, Algorithm::RS256)
            .map_err(|_| KeyError::NotRsaPrivate)?;
        Ok(Self { private, public: VerifyingKey::from_jwk(&jwk)? })
    }

    /// The public half.
    pub fn verifying_key(&self) -> VerifyingKey {
        self.public.clone()
    }

    pub(super) fn private(&self) -> &EncodingKey {
        &self.private
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

/// An RSA public key that verifies RS256.
#[derive(Clone)]
pub struct VerifyingKey {
    /// Parsed once: that takes a sixth of the time of a check. It knows that it is for RS256, so no
    /// header of a token can make it check anything else.
    rs256: ParsedPublicKey,
    /// Base64url of modulus and exponent, as a JWK has them.
    modulus: String,
    exponent: String,
}

impl VerifyingKey {
    fn from_jwk(jwk: &Jwk) -> Result<Self, KeyError> {
        let AlgorithmParameters::RSA(RSAKeyParameters { n, e, .. }) = &jwk.algorithm else {
            return Err(KeyError::NotRsaPublic);
        };
        let modulus = BASE64_URL_SAFE_NO_PAD.decode(n).map_err(|_| KeyError::NotRsaPublic)?;
        let bits = modulus.len() * 8 - modulus.first().map_or(0, |b| b.leading_zeros() as usize);
        if bits < MIN_BITS {
            return Err(KeyError::TooShort { bits });
        }
        let exponent = BASE64_URL_SAFE_NO_PAD.decode(e).map_err(|_| KeyError::NotRsaPublic)?;
        let rs256 =
            ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, rsa_public_key(&modulus, &exponent))
                .map_err(|_| KeyError::NotRsaPublic)?;
        Ok(Self { rs256, modulus: n.clone(), exponent: e.clone() })
    }

    /// The key as a JSON Web Key (RFC 7517): `kty`, `n`, `e`, and what it is for.
    pub fn to_jwk(&self) -> Value {
        json!({ "kty": "RSA", "use": "sig", "alg": "RS256", "n": self.modulus, "e": self.exponent })
    }

    /// The key as a PEM document (`PUBLIC KEY`, RFC 5280 SubjectPublicKeyInfo).
    pub fn to_pem(&self) -> String {
        // Both parts came out of a JWK that was decoded in `from_jwk`.
        let decoded = |part| BASE64_URL_SAFE_NO_PAD.decode(part).unwrap_or_default();
        let rsa_key = rsa_public_key(&decoded(&self.modulus), &decoded(&self.exponent));
        // AlgorithmIdentifier { rsaEncryption, NULL }, RFC 8017 §A.1.
        let algorithm = [
            0x30, 0x0D, 0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x01, 0x05,
            0x00,
        ];
        let bits = der(0x03, &[&[0], rsa_key.as_slice()].concat());
        let spki = der(0x30, &[&algorithm, bits.as_slice()].concat());
        let encoded = STANDARD.encode(spki);
        let mut pem = String::from("-----BEGIN PUBLIC KEY-----\n");
        for line in encoded.as_bytes().chunks(64) {
            pem.extend(line.iter().map(|b| char::from(*b)));
            pem.push('\n');
        }
        pem.push_str("-----END PUBLIC KEY-----\n");
        pem
    }

    /// Whether this is the RS256 signature of `message` under this key (RFC 7518 §3.3).
    pub(super) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        self.rs256.verify_sig(message, signature).is_ok()
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyingKey").field("n", &self.modulus).finish_non_exhaustive()
    }
}

/// jsonwebtoken picks its backend per process and panics when a crate elsewhere in the tree turns
/// on the other one. Choosing explicitly keeps that from ever being decided at the first token.
fn use_aws_lc() {
    // An `Err` says that somebody has chosen already, which is as good.
    let _ = crypto::aws_lc::DEFAULT_PROVIDER.install_default();
}

/// RSAPublicKey, RFC 8017 §A.1.1.
fn rsa_public_key(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    der(0x30, &[der_integer(modulus), der_integer(exponent)].concat())
}

fn der_integer(magnitude: &[u8]) -> Vec<u8> {
    let needs_sign = magnitude.first().is_none_or(|b| b & 0x80 != 0);
    let sign: &[u8] = if needs_sign { &[0] } else { &[] };
    der(0x02, &[sign, magnitude].concat())
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let significant = &length[length.iter().take_while(|b| **b == 0).count()..];
    let mut out = vec![tag];
    match significant {
        [] => out.push(0),
        [short] if *short < 0x80 => out.push(*short),
        long => {
            // At most eight bytes of length.
            out.push(0x80 | u8::try_from(long.len()).unwrap_or(8));
            out.extend_from_slice(long);
        }
    }
    out.extend_from_slice(content);
    out
}

/// Why a document is no usable key. Never carries a part of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// No RSA private key was found.
    #[error(
        "is no PEM document with an RSA private key; make one with: openssl genrsa -out FILE 2048"
    )]
    NotRsaPrivate,
    /// No RSA public key was found.
    #[error("is no RSA public key")]
    NotRsaPublic,
    /// Too short to be safe.
    #[error("is an RSA key of {bits} bits, but at least {MIN_BITS} are needed")]
    TooShort {
        /// What was found.
        bits: usize,
    },
}
