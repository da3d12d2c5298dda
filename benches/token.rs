//! Measures the verification of tokens, with and without a cache. For comparison, the benchmark also measures
//! the signature check of the cryptographic library alone.

#![expect(clippy::unwrap_used, reason = "a benchmark may panic")]

use std::{hint::black_box, num::NonZeroUsize};

use aws_lc_rs::signature::{
    KeyPair, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey,
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use criterion::{Criterion, criterion_group, criterion_main};
use tower_passticket::{
    passticket::UserId,
    token::{Rs256Verifier, Scopes, SigningKey, TokenIssuer, Validity},
};

fn tokens(criterion: &mut Criterion) {
    let rsa = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048);
    let rsa = rsa.unwrap();
    let key = SigningKey::from_pem(rsa.serialize_pem().as_bytes()).unwrap();
    let verifier = Rs256Verifier::new(key.verifying_key());
    let verifier_with_cache = verifier.clone().with_cache(NonZeroUsize::new(10_000).unwrap());
    let issuer = TokenIssuer::new(key);
    let user = UserId::new("IBMUSER").unwrap();
    let jwt = issuer.login_token(&user, "security-domain").unwrap();
    let scopes = Scopes::parse(["files"]).unwrap();
    let pat = issuer.personal_access_token(&user, &scopes, Validity::MAX).unwrap();

    // Target: the verification of a JWT that is not cached takes at most 1.15 times as long as the benchmark "signature
    // check alone/RS256, key parsed before".
    let public = RsaKeyPair::from_pkcs8(rsa.serialized_der()).unwrap();
    let public = public.public_key().as_ref().to_vec();
    let parsed = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &public).unwrap();
    let unparsed = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &public);
    let (message, signature) = jwt.expose().rsplit_once('.').unwrap();
    let (message, signature) =
        (message.as_bytes(), BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap());
    criterion.bench_function("signature check alone/RS256, key parsed before", |b| {
        b.iter(|| parsed.verify_sig(black_box(message), black_box(&signature)).unwrap());
    });
    criterion.bench_function("signature check alone/RS256, key parsed each time", |b| {
        b.iter(|| unparsed.verify(black_box(message), black_box(&signature)).unwrap());
    });

    for (name, token) in [("JWT", jwt.expose()), ("PAT", pat.expose())] {
        criterion.bench_function(&format!("{name}, not cached"), |b| {
            b.iter(|| verifier.verify(black_box(token)).unwrap());
        });
        criterion.bench_function(&format!("{name}, cached"), |b| {
            b.iter(|| verifier_with_cache.verify(black_box(token)).unwrap());
        });
    }
}

/// Measures tokens of providers. Target: the verification of a token that is not cached takes at most 1.15 times as
/// long as the benchmark "signature check alone/token of a provider". The token is longer than the JWT of the other
/// benchmarks, so its signature check takes longer. A cached token takes as long as "JWT, cached", for any number of
/// providers.
#[cfg(feature = "remote")]
fn tokens_of_providers(criterion: &mut Criterion) {
    use tower_passticket::{
        identity::Registry,
        token::{IssuerKeys, IssuerUrl, OidcIssuer, TokenVerifier, TrustedIssuers},
    };

    let rsa = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048);
    let rsa = rsa.unwrap();
    let pem = rsa.serialize_pem();
    let key = SigningKey::from_pem(pem.as_bytes()).unwrap();
    let jwk_set = serde_json::json!({ "keys": [key.verifying_key().to_jwk()] }).to_string();
    let issuers = |own: Rs256Verifier, providers: usize| {
        (0..providers).fold(TrustedIssuers::new(own), |issuers, number| {
            let url = IssuerUrl::new(&format!("https://idp-{number}.example.com")).unwrap();
            let keys = IssuerKeys::from_jwk_set(jwk_set.as_bytes()).unwrap();
            let provider = OidcIssuer::new(url, "gateway", Registry::new("idp").unwrap(), keys);
            issuers.with_oidc(provider).unwrap()
        })
    };
    let claims = serde_json::json!({
        "iss": "https://idp-0.example.com", "aud": "gateway", "sub": "jane", "exp": 4_000_000_000_u64,
        "iat": 1_700_000_000, "azp": "cli", "email": "jane@example.com", "email_verified": true,
        "preferred_username": "jane", "scope": "openid email profile", "sid": "0123456789abcdef",
    });
    let signing = jsonwebtoken::EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap();
    let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::RS256);
    let token = jsonwebtoken::encode(&header, &claims, &signing).unwrap();
    let public = RsaKeyPair::from_pkcs8(rsa.serialized_der()).unwrap();
    let parsed = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public.public_key()).unwrap();
    let (message, signature) = token.rsplit_once('.').unwrap();
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
    criterion.bench_function("signature check alone/token of a provider", |b| {
        b.iter(|| parsed.verify_sig(black_box(message.as_bytes()), black_box(&signature)).unwrap());
    });
    let own = || Rs256Verifier::new(key.verifying_key());
    for providers in [1, 16] {
        let uncached = issuers(own(), providers);
        let cached = issuers(own().with_cache(NonZeroUsize::new(10_000).unwrap()), providers);
        for (name, verifier) in [("not cached", uncached), ("cached", cached)] {
            let name = format!("token of a provider, {name}, {providers} providers");
            criterion.bench_function(&name, |b| {
                b.iter(|| verifier.try_verify_now(black_box(token.as_bytes())).unwrap().unwrap());
            });
        }
    }
}

#[cfg(not(feature = "remote"))]
fn tokens_of_providers(_: &mut Criterion) {}

criterion_group!(benches, tokens, tokens_of_providers);
criterion_main!(benches);
