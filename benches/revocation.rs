//! Measures a revocation check with few and with many revocations, a durable write, and opening a store.

#![expect(clippy::unwrap_used, reason = "a benchmark may panic")]

mod revocations;

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use revocations::revocation;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tower_passticket::{
    passticket::UserId,
    revocation::{DurableStore, Revocation, RevocationCheck, RevocationStore},
    token::{Rs256Verifier, Scopes, SigningKey, TokenIssuer, Validity, VerifiedToken},
};

/// Number of Personal Access Tokens (PATs) that are checked in turn.
const PATS: usize = 256;

fn pats() -> Vec<VerifiedToken> {
    let rsa = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048);
    let key = SigningKey::from_pem(rsa.unwrap().serialize_pem().as_bytes()).unwrap();
    let verifier = Rs256Verifier::new(key.verifying_key());
    let issuer = TokenIssuer::new(key);
    let pat = |i| {
        let user = UserId::new(&format!("USER{i}")).unwrap();
        let scopes = Scopes::parse([format!("service-{i}")]).unwrap();
        let token = issuer.personal_access_token(&user, &scopes, Validity::MAX).unwrap();
        verifier.verify(token.expose()).unwrap()
    };
    (0..PATS).map(pat).collect()
}

/// A million revocations, or fewer in `cargo test --benches`, which runs each benchmark once without
/// optimization.
const MANY: usize = if cfg!(debug_assertions) { 10_000 } else { 1_000_000 };

fn open() -> (TempDir, DurableStore) {
    let directory = tempfile::tempdir().unwrap();
    let store = DurableStore::create(directory.path().join("revocations.redb")).unwrap();
    (directory, store)
}

/// Records revocations concurrently, and waits until all are durable.
fn record(runtime: &Runtime, store: &DurableStore, revocations: impl Iterator<Item = Revocation>) {
    let writes: Vec<_> = revocations.map(|revocation| store.record(revocation)).collect();
    runtime.block_on(async {
        for write in writes {
            write.await.unwrap();
        }
    });
}

/// Measures a check. Target: it takes at most 1.2 times as long with a million revocations as with ten.
fn check(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let pats = pats();
    let mut group = criterion.benchmark_group("check a PAT that is not revoked");
    for count in [10, 1_000, MANY] {
        let (_directory, store) = open();
        record(&runtime, &store, (0..count).map(revocation));
        let mut pats = pats.iter().cycle();
        group.bench_function(BenchmarkId::new("revocations", count), |bencher| {
            bencher.iter(|| store.try_check_now(black_box(pats.next().unwrap())));
        });
    }
    group.finish();
}

fn durable(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let (_directory, store) = open();
    // No revocation is written twice.
    let mut numbers = 0..;
    for concurrent in [1, 64] {
        criterion.bench_function(&format!("durable writes, concurrent: {concurrent}"), |bencher| {
            bencher.iter(|| {
                record(&runtime, &store, numbers.by_ref().take(concurrent).map(revocation));
            });
        });
    }

    let (directory, store) = open();
    record(&runtime, &store, (0..MANY).map(revocation));
    drop(store);
    let mut group = criterion.benchmark_group("open a store");
    group.sample_size(10);
    group.bench_function(BenchmarkId::new("revocations", MANY), |bencher| {
        // A store locks its file, so only one store is open at a time.
        bencher.iter_batched(
            || (),
            |()| DurableStore::open(directory.path().join("revocations.redb")).unwrap(),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, check, durable);
criterion_main!(benches);
