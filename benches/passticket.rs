//! Measures how long it takes to make a PassTicket and to evaluate one. Also measures the cryptographic operations that
//! both need.
//!
//! An APPLID is the name of an application. A legacy PassTicket needs 8 DES blocks: 2 for user and APPLID, then
//! 6 for the time. An enhanced PassTicket needs 7 HMACs with SHA-512: 1 for user and APPLID, then 6 for the
//! time. [`KeyProfile::for_user`] keeps the result of the operations for user and APPLID, so that later
//! PassTickets for them can reuse it.
//!
//! [`KeyProfile::for_user`]: tower_passticket::passticket::KeyProfile::for_user

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

/// Measures the cryptographic operations alone. Their time is a lower bound for the other benchmarks,
/// except for those that return a cached PassTicket.
fn primitives(c: &mut Criterion) {
    let des = Des::new(&[7; 8].into());
    let mut block = Block::<Des>::default();
    // A PassTicket needs 6 blocks if `for_user` was called before, and 8 blocks if not.
    for blocks in [1, 6, 8] {
        c.bench_function(&format!("primitives/DES, blocks: {blocks}"), |b| {
            b.iter(|| (0..blocks).for_each(|_| des.encrypt_block(black_box(&mut block))));
        });
    }
    // The key is set up once, as in a `KeyProfile`.
    let hmac = Hmac::<Sha512>::new_from_slice(&[7; 64]).unwrap();
    // A PassTicket needs 6 HMACs if `for_user` was called before, and 7 HMACs if not.
    for hmacs in [1, 6, 7] {
        c.bench_function(&format!("primitives/HMAC-SHA-512, calls: {hmacs}"), |b| {
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
        let user_tickets = profile.for_user(&user).unwrap();
        let ticket = profile.generate(&user, NOW).unwrap();
        c.bench_function(&format!("generate/{algorithm}"), |b| {
            b.iter(|| profile.generate(black_box(&user), black_box(NOW)));
        });
        c.bench_function(&format!("generate/{algorithm}, for_user called before"), |b| {
            b.iter(|| user_tickets.generate(black_box(NOW)));
        });
        c.bench_function(&format!("evaluate/{algorithm}"), |b| {
            b.iter(|| {
                profile.evaluate(black_box(&user), black_box(&ticket), black_box(NOW)).unwrap()
            });
        });
        c.bench_function(&format!("evaluate/{algorithm}, for_user called before"), |b| {
            b.iter(|| user_tickets.evaluate(black_box(&ticket), black_box(NOW)).unwrap());
        });
    }
}

/// Measures the generators. Targets: making a PassTicket that is not in the cache takes at most 1.1 times as long as
/// its 8 DES blocks. Returning a cached PassTicket takes at most 100 ns.
///
/// The cache contains the PassTickets of the current second. With replay protection, the generator does not use
/// the cache.
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
    let generate = |generator: &LocalGenerator| {
        generator.generate_now(black_box(&user), black_box(&applid)).unwrap()
    };
    let generate_one_second_later = |generator: &LocalGenerator| {
        clock.advance(Duration::from_secs(1));
        generate(generator)
    };
    c.bench_function("generator/legacy, cached", |b| b.iter(|| generate(&allowed)));
    c.bench_function("generator/legacy, not cached", |b| {
        b.iter(|| generate_one_second_later(&allowed));
    });
    c.bench_function("generator/legacy, with replay protection", |b| {
        b.iter(|| generate_one_second_later(&protected));
    });
    let allowed = allowed.with_clock(Arc::new(SystemClock));
    c.bench_function("generator/legacy, cached, with the system clock", |b| {
        b.iter(|| generate(&allowed));
    });
}

criterion_group!(benches, primitives, tickets, generators);
criterion_main!(benches);
