//! Fuzz targets for tokens and keys of identity providers.

use std::sync::LazyLock;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::Value;
use tower_passticket::{
    clock::Timestamp,
    identity::Registry,
    token::{
        ExternalSubject, IssuerKeys, IssuerUrl, OidcIssuer, TokenVerifier, TrustedIssuers,
        VerifiedToken,
    },
};

use crate::support::{HEADER, KEY, NOW, signed, verifier};

const ISSUER: &str = "https://idp.example.com/";
const AUDIENCE: &str = "gateway";

/// Makes a verifier that accepts our own tokens, and the tokens of a provider with these keys.
fn issuers(keys: IssuerKeys) -> TrustedIssuers {
    let issuer = IssuerUrl::new(ISSUER).expect("the issuer is a URL");
    let registry = Registry::new("idp").expect("the name is a registry");
    let provider = OidcIssuer::new(issuer, AUDIENCE, registry, keys);
    TrustedIssuers::new(verifier()).with_oidc(provider).expect("there is one provider")
}

static ISSUERS: LazyLock<TrustedIssuers> =
    LazyLock::new(|| issuers(IssuerKeys::fixed(&KEY.verifying_key())));

/// The input consists of the claims of a token. The header of the token is valid. The key that has signed the token is
/// both the key of our verifier and the key of the provider.
pub(crate) fn issuer_claims(data: &[u8]) {
    let token = signed(HEADER.as_bytes(), data);
    let verified = ISSUERS.try_verify_now(token.as_bytes()).expect("the keys are fixed");
    let Ok(verified) = verified else { return };
    let claims: Value = serde_json::from_slice(data).expect("the verifier accepted this JSON");
    let VerifiedToken::External(token) = verified else {
        let issuer = claims["iss"].as_str().expect("expected a JSON string");
        assert!(issuer.to_ascii_uppercase().starts_with("APIML"), "{issuer}");
        return;
    };
    assert_eq!((claims["iss"].as_str(), token.issuer()), (Some(ISSUER), ISSUER));
    let expires = claims["exp"].as_u64().expect("expected an integer");
    assert!(expires > NOW && token.expires_at() == Timestamp::from_secs(expires));
    let audiences = match &claims["aud"] {
        Value::Array(items) => items.clone(),
        one => vec![one.clone()],
    };
    assert!(audiences.iter().all(Value::is_string) && audiences.contains(&AUDIENCE.into()));
    assert!(audiences.len() == 1 || claims["azp"] == AUDIENCE);
    assert!(claims.get("events").is_none() && claims.get("cnf").is_none());
    let ExternalSubject::Identity(identity) = token.subject() else {
        panic!("the token of a provider names a user id")
    };
    let name = match &claims["sub"] {
        Value::Array(items) if items.len() == 1 => items[0].as_str(),
        one => one.as_str(),
    };
    assert_eq!((name, identity.registry()), (Some(identity.name()), "idp"));
}

pub(crate) fn jwk_sets(data: &[u8]) {
    let Ok(keys) = IssuerKeys::from_jwk_set(data) else { return };
    assert!(data.len() <= 64 * 1024);
    let set: Value = serde_json::from_slice(data).expect("the library accepted this JSON");
    let listed = set["keys"].as_array().expect("expected a JSON array");
    assert!((1..=32).contains(&listed.len()));
    // Our key signs this token. So the verifier may accept it only if the provider lists our key.
    let claims = format!(r#"{{"iss":"{ISSUER}","aud":"{AUDIENCE}","sub":"a","exp":{}}}"#, NOW + 9);
    let token = signed(HEADER.as_bytes(), claims.as_bytes());
    let verified = issuers(keys).try_verify_now(token.as_bytes()).expect("the keys are fixed");
    let number = |jwk: &Value| {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(jwk["n"].as_str().unwrap_or_default()).ok()?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        Some(bytes[zeros..].to_vec())
    };
    let ours = number(&KEY.verifying_key().to_jwk());
    let is_listed = listed
        .iter()
        .any(|jwk| number(jwk) == ours && jwk["kty"] == "RSA" && jwk.get("d").is_none());
    assert!(verified.is_err() || is_listed, "{set}");
}
