//! The cost of a PassTicket, and of the cryptographic primitives that it consists of.

#![expect(clippy::unwrap_used, reason = "a benchmark may panic")]

mod profiles;

use std::{hint::black_box, num::NonZeroUsize, sync::Arc, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use des::{
    Des,
    cipher::{Block, BlockCipherEncrypt, KeyInit},
};
use hmac::{Hmac, Mac};
use profiles::profile;
use sha2::Sha512;
use tower_passticket::{
    clock::{ManualClock, SystemClock, Timestamp},
    passticket::{Algorithm, Applid, KeyProfiles, LocalGenerator, Replay, UserId},
};

const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

fn applid() -> Applid {
    Applid::new("IZUDFLT").unwrap()
}

fn floors(c: &mut Criterion) {
    let des = Des::new(&[7; 8].into());
    let mut block = Block::<Des>::default();
    c.bench_function("floor/1 DES block", |b| b.iter(|| des.encrypt_block(black_box(&mut block))));
    // The DES blocks of a legacy ticket: with and without the prepared values of user and APPLID.
    for blocks in [6, 8] {
        c.bench_function(&format!("floor/{blocks} DES blocks"), |b| {
            b.iter(|| (0..blocks).for_each(|_| des.encrypt_block(black_box(&mut block))));
        });
    }
    let hmac = Hmac::<Sha512>::new_from_slice(&[7; 64]).unwrap();
    // The HMACs of an enhanced ticket.
    for hmacs in [1, 6, 7] {
        c.bench_function(&format!("floor/{hmacs} HMAC, keyed"), |b| {
            b.iter(|| {
                for _ in 0..hmacs {
                    black_box(hmac.clone().chain_update(black_box([0; 20])).finalize());
                }
            });
        });
    }
}

fn tickets(c: &mut Criterion) {
    let user = UserId::new("IBMUSER").unwrap();
    for algorithm in [Algorithm::Legacy, Algorithm::EnhancedUpper, Algorithm::EnhancedMixed] {
        let profile = profile(applid(), algorithm, Replay::Protected);
        let tickets = profile.for_user(&user).unwrap();
        let ticket = profile.generate(&user, NOW).unwrap();
        c.bench_function(&format!("generate/{algorithm}"), |b| {
            b.iter(|| profile.generate(black_box(&user), black_box(NOW)));
        });
        c.bench_function(&format!("generate/{algorithm}, user prepared"), |b| {
            b.iter(|| tickets.generate(black_box(NOW)));
        });
        c.bench_function(&format!("evaluate/{algorithm}"), |b| {
            b.iter(|| {
                profile.evaluate(black_box(&user), black_box(&ticket), black_box(NOW)).unwrap()
            });
        });
        c.bench_function(&format!("evaluate/{algorithm}, user prepared"), |b| {
            b.iter(|| tickets.evaluate(black_box(&ticket), black_box(NOW)).unwrap());
        });
    }
}

/// The targets: a ticket of a new second costs at most 1.1 times its primitives, and a cached ticket at
/// most 100 ns.
fn generators(c: &mut Criterion) {
    let (user, applid) = (UserId::new("IBMUSER").unwrap(), applid());
    let clock = Arc::new(ManualClock::new(NOW));
    let generator = |replay| {
        let profile = profile(applid, Algorithm::Legacy, replay);
        LocalGenerator::new(KeyProfiles::new([profile]).unwrap())
            .with_ticket_cache(NonZeroUsize::new(1_000).unwrap())
            .with_clock(clock.clone())
    };
    let (allowed, protected) = (generator(Replay::Allowed), generator(Replay::Protected));
    let ticket = |generator: &LocalGenerator| {
        generator.generate_now(black_box(&user), black_box(&applid)).unwrap()
    };
    let of_new_second = |generator: &LocalGenerator| {
        clock.advance(Duration::from_secs(1));
        ticket(generator)
    };
    c.bench_function("generator/legacy, same second again", |b| b.iter(|| ticket(&allowed)));
    c.bench_function("generator/legacy, new second", |b| b.iter(|| of_new_second(&allowed)));
    c.bench_function("generator/legacy, new second, replay protected", |b| {
        b.iter(|| of_new_second(&protected));
    });
    let allowed = allowed.with_clock(Arc::new(SystemClock));
    c.bench_function("generator/legacy, on the clock of the machine", |b| {
        b.iter(|| ticket(&allowed));
    });
}

criterion_group!(benches, floors, tickets, generators);
criterion_main!(benches);
