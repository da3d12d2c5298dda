//! Fuzz targets for tokens: text, header, claims, scopes, fingerprints and public keys. A PAT is a Personal Access
//! Token.

use std::{num::NonZeroUsize, sync::LazyLock};

use serde_json::Value;
use tower_passticket::{
    clock::Timestamp,
    passticket::UserId,
    token::{
        RequestFacts, Rs256Verifier, Scope, ScopeAccess, Scopes, ServiceId, TokenFingerprint,
        VerifiedToken, VerifyingKey,
    },
};

use crate::support::{
    EXPIRED_TOKEN, HEADER, LOGIN_TOKEN, LOGIN_USER, NOW, PAT, PAT_USER, lines, signed, verifier,
    with_tokens,
};

static VERIFIER: LazyLock<Rs256Verifier> = LazyLock::new(verifier);

/// The input is the text of a token, with placeholders for tokens (see [`with_tokens`]). The verifiers accept only the
/// exact texts of the login token and of the PAT.
pub(crate) fn token_text(data: &[u8]) {
    let text = with_tokens(data);
    let Ok(text) = str::from_utf8(&text) else { return };
    let with_cache = verifier().with_cache(NonZeroUsize::MIN);
    // In the second pass, `with_cache` finds a valid token in its cache.
    for _ in 0..2 {
        let verified = VERIFIER.verify(text);
        let cached = with_cache.verify(text);
        assert_eq!(
            verified.as_ref().map(VerifiedToken::expires_at),
            cached.as_ref().map(VerifiedToken::expires_at)
        );
        match verified {
            Ok(VerifiedToken::Jwt(jwt)) => {
                assert_eq!((text, jwt.user().as_str()), (&**LOGIN_TOKEN, LOGIN_USER));
            }
            Ok(VerifiedToken::Pat(pat)) => {
                assert_eq!((text, pat.user().as_str()), (&**PAT, PAT_USER));
            }
            Ok(_) => panic!("unexpected kind of token"),
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

/// Returns the claims of a login token that is valid for a minute.
fn claims() -> String {
    let exp = NOW + 60;
    format!(r#"{{"sub":"{LOGIN_USER}","iat":{NOW},"exp":{exp},"iss":"APIML"}}"#)
}

/// The input is the header of a token. The claims and the signature of the token are valid.
pub(crate) fn token_header(data: &[u8]) {
    let Ok(_) = VERIFIER.verify(&signed(data, claims().as_bytes())) else { return };
    let header: Value = serde_json::from_slice(data).expect("the verifier accepted this JSON");
    assert_eq!(header["alg"], "RS256");
    assert!(header.get("crit").is_none_or(Value::is_null), "{header}");
}

/// The input consists of the claims of a token. The header and the signature of the token are valid.
pub(crate) fn token_claims(data: &[u8]) {
    let Ok(token) = VERIFIER.verify(&signed(HEADER.as_bytes(), data)) else { return };
    let claims: Value = serde_json::from_slice(data).expect("the verifier accepted this JSON");
    let expires = claims["exp"].as_u64().expect("expected an integer");
    assert!(expires > NOW);
    assert!(claims.get("nbf").is_none_or(|nbf| nbf.as_u64().is_some_and(|nbf| nbf <= NOW)));
    let issued = claims["iat"].as_u64().expect("expected an integer");
    let (user, issuer) = match &token {
        VerifiedToken::Jwt(jwt) => {
            assert_eq!(jwt.issued_at(), Timestamp::from_secs(issued));
            assert_eq!(jwt.domain(), claims.get("dom").and_then(Value::as_str));
            (jwt.user(), "APIML")
        }
        VerifiedToken::Pat(pat) => {
            assert_eq!(pat.issued_at().as_secs(), Timestamp::from_secs(issued).as_secs());
            let listed = claims["scopes"].as_array().expect("expected a JSON array");
            for scope in pat.scopes().iter() {
                let parsed = |item: &Value| Scope::new(item.as_str().unwrap_or_default());
                assert!(listed.iter().any(|item| parsed(item).as_ref() == Ok(scope)), "{scope}");
            }
            (pat.user(), "APIML_PAT")
        }
        _ => panic!("unexpected kind of token"),
    };
    assert_eq!(token.expires_at(), Timestamp::from_secs(expires));
    assert!(claims["iss"].as_str().expect("expected a JSON string").eq_ignore_ascii_case(issuer));
    assert_eq!(
        UserId::new(claims["sub"].as_str().expect("expected a JSON string")).as_ref(),
        Ok(user)
    );
}

/// The input consists of lines. All lines together are tested as a list of scopes, and each line as a service id, and
/// as the path of a request.
pub(crate) fn scopes(data: &[u8]) {
    let items = lines(data, 100);
    if let Ok(scopes) = Scopes::parse(&items) {
        let all: Vec<_> = scopes.iter().collect();
        assert!(!all.is_empty() && all.is_sorted_by(|one, other| one < other), "{all:?}");
        assert!(all.iter().all(|scope| scopes.covers(scope)));
        let services: Vec<_> = scopes.services().collect();
        assert!(services.is_sorted_by(|one, other| one < other), "{services:?}");
        assert!(all.iter().all(|scope| services.contains(&scope.service())));
        let joined: Vec<_> = all.iter().map(ToString::to_string).collect();
        assert_eq!(Scopes::parse([joined.join(",")]).as_ref(), Ok(&scopes));
        for scope in all {
            let is_any = *scope.access() == ScopeAccess::Any;
            let only = Scopes::from_iter([scope.clone()]);
            let service = scope.service();
            assert!(only.names_service(service));
            assert_eq!(only.permits(service, RequestFacts::unknown), is_any, "{scope}");
            for path in &items {
                let facts = || RequestFacts::unknown().with_path(path);
                if only.permits(service, facts) && !is_any {
                    assert!(path.is_empty() || path.starts_with('/'), "{path:?}");
                    let is_dots = |part: &str| part == "." || part == "..";
                    assert!(!path.split('/').any(is_dots) && !path.contains(';'), "{path:?}");
                }
            }
        }
    }
    for item in items {
        let Ok(id) = ServiceId::new(item) else { continue };
        assert_eq!(ServiceId::new(id.as_str()).as_ref(), Ok(&id));
        assert!((1..=64).contains(&id.as_str().len()));
        let lower = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
        assert!(id.as_str().bytes().all(lower) && id.as_str() != ".." && id.as_str() != ".");
    }
}

/// The input is a public key, as a JSON Web Key or a PEM document.
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
    // The modulus has at least 2048 bits: 342 characters of Base64.
    assert!(written["n"].as_str().expect("expected a JSON string").len() >= 342, "{written}");
    for read in [VerifyingKey::from_jwk(&written), VerifyingKey::from_pem(key.to_pem().as_bytes())]
    {
        assert_eq!(read.expect("a written key can be read").to_jwk(), written);
    }
    // The gateway's key has signed this PAT, so only this key may verify it.
    let verified = Rs256Verifier::new(key).with_clock(crate::support::clock()).verify(&PAT);
    assert!(verified.is_err() || written == crate::support::KEY.verifying_key().to_jwk());
}

/// The input is the fingerprint of a token, as text.
pub(crate) fn token_fingerprint(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    match text.parse::<TokenFingerprint>() {
        Ok(fingerprint) => {
            assert!(fingerprint.to_string().eq_ignore_ascii_case(text));
            assert_eq!(TokenFingerprint::from_bytes(*fingerprint.as_bytes()), fingerprint);
        }
        // The text may be a token. The error must be the same for another text of this length, so that it shows no part
        // of the token.
        Err(error) => {
            let other = "x".repeat(text.len()).parse::<TokenFingerprint>();
            let of_other = other.expect_err("x is not a hexadecimal digit");
            assert_eq!(error.to_string(), of_other.to_string());
            assert_eq!(format!("{error:?}"), format!("{of_other:?}"));
        }
    }
}
