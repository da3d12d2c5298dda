//! Tests that `tower-passticket` does not disturb the choice of a cryptography backend of the crate jsonwebtoken.
//! jsonwebtoken panics at its first use if its features select no backend, or two backends.

use embed_other_backend::{read_session, session};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde_json::{Value, json};
use tower_passticket::{
    passticket::UserId,
    token::{Rs256Verifier, SigningKey, TokenIssuer, VerifiedToken},
};

/// A key for tests only.
const PEM: &str = include_str!("../../../crates/test-support/pki/signing.key");
const SECRET: &[u8] = b"a secret of the application, for its own sessions";

#[test]
fn the_application_and_tower_passticket_sign_and_verify() {
    // The first use of jsonwebtoken determines the backend. Here, the application uses it first. In `ours_first.rs`,
    // `tower-passticket` uses it first.
    let claims = json!({ "sub": "jane", "exp": 4_000_000_000_u64 });
    assert_eq!(read_session(&session(&claims, SECRET).unwrap(), SECRET).unwrap(), claims);

    let key = SigningKey::from_pem(PEM.as_bytes()).unwrap();
    let verifier = Rs256Verifier::new(key.verifying_key());
    let token =
        TokenIssuer::new(key.clone()).login_token(&UserId::new("USER").unwrap(), "domain").unwrap();
    let VerifiedToken::Jwt(jwt) = verifier.verify(token.expose()).unwrap() else {
        panic!("expected a JWT")
    };
    assert_eq!(jwt.user().as_str(), "USER");

    // The application verifies a token of `tower-passticket`. Then `tower-passticket` verifies a token of
    // the application.
    let public = DecodingKey::from_rsa_pem(key.verifying_key().to_pem().as_bytes()).unwrap();
    let ours =
        jsonwebtoken::decode::<Value>(token.expose(), &public, &Validation::new(Algorithm::RS256));
    assert_eq!(ours.unwrap().claims["sub"], "USER");
    let claims = json!({ "sub": "USER", "iat": 1, "exp": 4_000_000_000_u64, "iss": "APIML" });
    let private = EncodingKey::from_rsa_pem(PEM.as_bytes()).unwrap();
    let theirs = jsonwebtoken::encode(&Header::new(Algorithm::RS256), &claims, &private).unwrap();
    assert!(verifier.verify(&theirs).is_ok());
}
