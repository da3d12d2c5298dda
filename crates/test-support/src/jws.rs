//! Signs JWTs without a JWT library, so that the tests do not depend on how a library interprets the standard.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rcgen::{KeyPair, PublicKeyData, SigningKey};
use serde_json::{Value, json};

/// Signs a token with the RSA key `pem`. The signature is always RS256, whatever `alg` the header contains.
pub fn sign(pem: &str, header: &Value, claims: &Value) -> String {
    let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(header), encode(claims));
    let key = KeyPair::from_pem(pem).unwrap();
    let signature = key.sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

/// Returns the public part of a 2048-bit RSA key as a JWK (JSON Web Key) with only the members `kty`, `n` and `e`.
///
/// # Panics
/// This function panics if the key does not have 2048 bits and the exponent 65537.
pub fn jwk(pem: &str) -> Value {
    let key = KeyPair::from_pem(pem).unwrap();
    // RFC 8017 appendix A.1.1: the key is a sequence of two integers. The modulus of 2048 bits begins at byte 9. Before
    // it are the header of the sequence (4 bytes), the header of the integer (4 bytes), and a zero byte. The exponent
    // 65537 is in the last three bytes.
    let der = key.der_bytes();
    let (modulus, rest) = der[9..].split_at(256);
    assert_eq!(rest, [2, 3, 1, 0, 1]);
    json!({ "kty": "RSA", "n": BASE64_URL_SAFE_NO_PAD.encode(modulus), "e": "AQAB" })
}
