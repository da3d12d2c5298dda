//! Makes JSON Web Signatures without a JWT library, from two JSON texts in base64url and an RS256 signature. So the
//! tests do not depend on how a library reads the standard.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rcgen::{KeyPair, PublicKeyData, SigningKey};
use serde_json::{Value, json};

/// Signs a token with the RSA key `pem`. The algorithm is RS256 even if the header names another one.
pub fn sign(pem: &str, header: &Value, claims: &Value) -> String {
    let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(header), encode(claims));
    let key = KeyPair::from_pem(pem).unwrap();
    let signature = key.sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

/// Returns the public key of an RSA key of 2048 bits as a JWK that has only the members `kty`, `n` and `e`.
///
/// # Panics
/// If the key has another length, or another exponent than 65537.
pub fn jwk(pem: &str) -> Value {
    let key = KeyPair::from_pem(pem).unwrap();
    // RFC 8017 appendix A.1.1: a sequence of two integers. With 2048 bits, the first integer begins at byte 9, after
    // the headers of both and a zero. The exponent 65537 is in the last three bytes.
    let der = key.der_bytes();
    let (modulus, rest) = der[9..].split_at(256);
    assert_eq!(rest, [2, 3, 1, 0, 1]);
    json!({ "kty": "RSA", "n": BASE64_URL_SAFE_NO_PAD.encode(modulus), "e": "AQAB" })
}
