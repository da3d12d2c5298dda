//! An application that makes its own tokens with the crate jsonwebtoken, and selects `rust_crypto` as the cryptography
//! backend of jsonwebtoken. `tower-passticket` also uses jsonwebtoken, but selects no backend.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, errors::Error};
use serde_json::Value;

/// Makes a session token of the application, signed with HS256.
///
/// # Errors
/// The errors of jsonwebtoken.
pub fn session(claims: &Value, secret: &[u8]) -> Result<String, Error> {
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(secret))
}

/// Verifies a session token and returns its claims.
///
/// # Errors
/// The errors of jsonwebtoken.
pub fn read_session(session: &str, secret: &[u8]) -> Result<Value, Error> {
    let validation = Validation::new(Algorithm::HS256);
    let key = DecodingKey::from_secret(secret);
    Ok(jsonwebtoken::decode(session, &key, &validation)?.claims)
}
