//! Tokens: their text, header, claims and scopes.

use std::{num::NonZeroUsize, sync::LazyLock};

use serde_json::Value;
use tower_passticket::{
    clock::Timestamp,
    passticket::UserId,
    token::{Rs256Verifier, Scopes, ServiceId, TokenFingerprint, VerifiedToken, VerifyingKey},
};

use crate::support::{
    EXPIRED_TOKEN, HEADER, LOGIN_TOKEN, LOGIN_USER, NOW, PAT, PAT_USER, lines, signed, verifier,
    with_tokens,
};

static VERIFIER: LazyLock<Rs256Verifier> = LazyLock::new(verifier);

/// The text of a token. Only the two that were signed are good, to the letter.
pub(crate) fn token_text(data: &[u8]) {
    let text = with_tokens(data);
    let Ok(text) = str::from_utf8(&text) else { return };
    let caching = verifier().with_cache(NonZeroUsize::MIN);
    for _ in 0..2 {
        let verified = VERIFIER.verify(text);
        let again = caching.verify(text);
        assert_eq!(
            verified.as_ref().map(VerifiedToken::expires_at),
            again.as_ref().map(VerifiedToken::expires_at)
        );
        match verified {
            Ok(VerifiedToken::Jwt(jwt)) => {
                assert_eq!((text, jwt.user().as_str()), (&**LOGIN_TOKEN, LOGIN_USER));
            }
            Ok(VerifiedToken::Pat(pat)) => {
                assert_eq!((text, pat.user().as_str()), (&**PAT, PAT_USER));
            }
            Ok(_) => panic!("a third kind of token"),
            Err(error) => {
                assert!(text != *LOGIN_TOKEN && text != *PAT, "{error}");
                assert!(text.len() < 40 || !error.to_string().contains(text));
                if text == *EXPIRED_TOKEN {
                    assert!(error.to_string().contains("expired"), "{error}");
                }
            }
        }
    }
}

fn claims() -> String {
    let exp = NOW + 60;
    format!(r#"{{"sub":"{LOGIN_USER}","iat":{NOW},"exp":{exp},"iss":"APIML"}}"#)
}

/// The header of a token whose claims and signature are good.
pub(crate) fn token_header(data: &[u8]) {
    let Ok(_) = VERIFIER.verify(&signed(data, claims().as_bytes())) else { return };
    let header: Value = serde_json::from_slice(data).expect("was read before");
    assert_eq!(header["alg"], "RS256");
    assert!(header.get("crit").is_none_or(Value::is_null), "{header}");
}

/// The claims of a token whose header and signature are good.
pub(crate) fn token_claims(data: &[u8]) {
    let Ok(token) = VERIFIER.verify(&signed(HEADER.as_bytes(), data)) else { return };
    let claims: Value = serde_json::from_slice(data).expect("was read before");
    let expires = claims["exp"].as_u64().expect("is a whole number");
    assert!(expires > NOW);
    assert!(claims.get("nbf").is_none_or(|nbf| nbf.as_u64().is_some_and(|nbf| nbf <= NOW)));
    let issued = claims["iat"].as_u64().expect("is a whole number");
    let (user, issuer) = match &token {
        VerifiedToken::Jwt(jwt) => {
            assert_eq!(jwt.issued_at(), Timestamp::from_secs(issued));
            assert_eq!(jwt.domain(), claims.get("dom").and_then(Value::as_str));
            (jwt.user(), "APIML")
        }
        VerifiedToken::Pat(pat) => {
            assert_eq!(pat.issued_at().as_secs(), Timestamp::from_secs(issued).as_secs());
            let listed = claims["scopes"].as_array().expect("is a list");
            for scope in pat.scopes().iter() {
                let same = |item: &Value| ServiceId::new(item.as_str().unwrap_or_default());
                assert!(listed.iter().any(|item| same(item).as_ref() == Ok(scope)), "{scope}");
            }
            (pat.user(), "APIML_PAT")
        }
        _ => panic!("a third kind of token"),
    };
    assert_eq!(token.expires_at(), Timestamp::from_secs(expires));
    assert!(claims["iss"].as_str().expect("is a text").eq_ignore_ascii_case(issuer));
    assert_eq!(UserId::new(claims["sub"].as_str().expect("is a text")).as_ref(), Ok(user));
}

/// Items of a list of scopes, and service ids.
pub(crate) fn scopes(data: &[u8]) {
    let items = lines(data, 100);
    if let Ok(scopes) = Scopes::parse(&items) {
        let ids: Vec<_> = scopes.iter().collect();
        assert!(!ids.is_empty() && ids.is_sorted_by(|one, other| one < other), "{ids:?}");
        assert!(ids.iter().all(|id| scopes.contains(id)));
        let joined: Vec<_> = ids.iter().map(|id| id.as_str()).collect();
        assert_eq!(Scopes::parse([joined.join(",")]).as_ref(), Ok(&scopes));
    }
    for item in items {
        let Ok(id) = ServiceId::new(item) else { continue };
        assert_eq!(ServiceId::new(id.as_str()).as_ref(), Ok(&id));
        assert!((1..=64).contains(&id.as_str().len()));
        let lower = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
        assert!(id.as_str().bytes().all(lower) && id.as_str() != ".." && id.as_str() != ".");
    }
}

/// A public key: a JSON Web Key, or a PEM document.
pub(crate) fn public_keys(data: &[u8]) {
    let jwk = serde_json::from_slice::<Value>(data);
    let (key, is_jwk) = match &jwk {
        Ok(jwk) => (VerifyingKey::from_jwk(jwk), true),
        Err(_) => (VerifyingKey::from_pem(data), false),
    };
    let Ok(key) = key else { return };
    let written = key.to_jwk();
    if let (true, Ok(jwk)) = (is_jwk, &jwk) {
        assert_eq!(jwk["kty"], "RSA");
        assert!(jwk.get("alg").is_none_or(|alg| alg.is_null() || alg == "RS256"), "{jwk}");
        assert!(jwk.get("use").is_none_or(|r#use| r#use.is_null() || r#use == "sig"), "{jwk}");
    }
    // Base64 of 2048 bits or more.
    assert!(written["n"].as_str().expect("is a text").len() >= 342, "{written}");
    for again in [VerifyingKey::from_jwk(&written), VerifyingKey::from_pem(key.to_pem().as_bytes())]
    {
        assert_eq!(again.expect("a key is read as it was written").to_jwk(), written);
    }
    // Nothing was signed with it, but for the one of the targets.
    let verified = Rs256Verifier::new(key).with_clock(crate::support::clock()).verify(&PAT);
    assert!(verified.is_err() || written == crate::support::KEY.verifying_key().to_jwk());
}

/// The fingerprint of a token, as text.
pub(crate) fn token_fingerprint(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    match text.parse::<TokenFingerprint>() {
        Ok(fingerprint) => {
            assert!(fingerprint.to_string().eq_ignore_ascii_case(text));
            assert_eq!(TokenFingerprint::from_bytes(*fingerprint.as_bytes()), fingerprint);
        }
        // It may be a token.
        Err(error) => assert!(text.len() < 10 || !error.to_string().contains(text), "{error}"),
    }
}
