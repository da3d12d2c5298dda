//! What a PassTicket costs, next to the primitives it is made of.

#![expect(clippy::unwrap_used, reason = "a benchmark may panic")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use des::{
    Des,
    cipher::{Block, BlockCipherEncrypt, KeyInit},
};
use hmac::{Hmac, Mac};
use sha2::Sha512;
use tower_passticket::{
    clock::Timestamp,
    passticket::{Algorithm, Applid, KeyProfile, UserId},
};

const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

fn profile(algorithm: Algorithm) -> KeyProfile {
    let digits = if algorithm == Algorithm::Legacy { 16 } else { 128 };
    let key = &"F90F48F03C28DC86".repeat(8)[..digits];
    KeyProfile::from_hex(Applid::new("IZUDFLT").unwrap(), algorithm, key).unwrap()
}

fn floors(c: &mut Criterion) {
    let des = Des::new(&[7; 8].into());
    let mut block = Block::<Des>::default();
    c.bench_function("floor/1 DES block", |b| b.iter(|| des.encrypt_block(black_box(&mut block))));
    c.bench_function("floor/8 DES blocks", |b| {
        b.iter(|| (0..8).for_each(|_| des.encrypt_block(black_box(&mut block))));
    });
    let hmac = Hmac::<Sha512>::new_from_slice(&[7; 64]).unwrap();
    c.bench_function("floor/1 HMAC, keyed", |b| {
        b.iter(|| hmac.clone().chain_update(black_box([0; 20])).finalize());
    });
}

fn tickets(c: &mut Criterion) {
    let user = UserId::new("IBMUSER").unwrap();
    for algorithm in [Algorithm::Legacy, Algorithm::EnhancedUpper, Algorithm::EnhancedMixed] {
        let profile = profile(algorithm);
        let tickets = profile.for_user(&user);
        let ticket = profile.generate(&user, NOW);
        c.bench_function(&format!("generate/{algorithm}"), |b| {
            b.iter(|| profile.generate(black_box(&user), black_box(NOW)));
        });
        c.bench_function(&format!("generate/{algorithm}, user prepared"), |b| {
            b.iter(|| tickets.generate(black_box(NOW)));
        });
        c.bench_function(&format!("evaluate/{algorithm}"), |b| {
            b.iter(|| profile.evaluate(black_box(&user), black_box(&ticket), black_box(NOW)));
        });
        c.bench_function(&format!("evaluate/{algorithm}, user prepared"), |b| {
            b.iter(|| tickets.evaluate(black_box(&ticket), black_box(NOW)));
        });
    }
}

criterion_group!(benches, floors, tickets);
criterion_main!(benches);
