//! An application that has tokens of its own, made with another backend of jsonwebtoken.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, errors::Error};
use serde_json::Value;

/// A session of the application, signed with HS256.
///
/// # Errors
/// Those of jsonwebtoken.
pub fn session(claims: &Value, secret: &[u8]) -> Result<String, Error> {
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(secret))
}

/// The claims of a session.
///
/// # Errors
/// Those of jsonwebtoken.
pub fn read_session(session: &str, secret: &[u8]) -> Result<Value, Error> {
    let validation = Validation::new(Algorithm::HS256);
    let key = DecodingKey::from_secret(secret);
    Ok(jsonwebtoken::decode(session, &key, &validation)?.claims)
}
