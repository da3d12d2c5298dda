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

    // Target: verifying a token that is not cached takes at most 1.15 times as long as the benchmark
    // "signature check alone/RS256, key parsed before".
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

criterion_group!(benches, tokens);
criterion_main!(benches);
