//! Tests an application with its own cryptography backend of the crate jsonwebtoken. In this test, `tower-passticket`
//! uses jsonwebtoken first. In the test in `backends.rs`, the application uses it first.

use embed_other_backend::{read_session, session};
use serde_json::json;
use tower_passticket::{
    passticket::UserId,
    token::{Rs256Verifier, SigningKey, TokenIssuer},
};

/// A key for tests only.
const PEM: &str = include_str!("../../../crates/test-support/pki/signing.key");

#[test]
fn an_application_can_use_its_backend_after_tower_passticket_has_used_jsonwebtoken() {
    let key = SigningKey::from_pem(PEM.as_bytes()).unwrap();
    let verifier = Rs256Verifier::new(key.verifying_key());
    let token = TokenIssuer::new(key).login_token(&UserId::new("USER").unwrap(), "domain").unwrap();
    verifier.verify(token.expose()).unwrap();

    let claims = json!({ "sub": "jane", "exp": 4_000_000_000_u64 });
    let session = session(&claims, b"secret").unwrap();
    assert_eq!(read_session(&session, b"secret").unwrap(), claims);
}
