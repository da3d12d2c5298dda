//! Measures how much time an audit record adds to a request: without a sink, and with a sink that writes to a file. A
//! request only puts the record into the queue of the sink. In this benchmark, the queue is never full. For comparison,
//! the benchmark also measures the time until the writer thread has written the record.

#![allow(clippy::unwrap_used, reason = "a benchmark may panic")]

use std::{
    hint::black_box,
    num::NonZeroUsize,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use http::{Extensions, Method, Uri};
use tower_passticket::{
    audit::{
        Audit, AuditFile, AuditFileOptions, AuditRecord, CredentialKind, Event, Fsync, RequestId,
    },
    connection::{ConnectionInfo, Protocol},
    passticket::{Applid, UserId},
    token::{ServiceId, TokenFingerprint},
};

/// The benchmark "file, time in the request" puts at most this number of records into the queue, and then waits until
/// they are written. The queue can hold all of them.
const BURST: u64 = 4_000;

fn audit(criterion: &mut Criterion) {
    let mut extensions = Extensions::new();
    extensions.insert(RequestId::next());
    extensions.insert(ConnectionInfo::new(
        "192.0.2.7:555".parse().unwrap(),
        "192.0.2.1:443".parse().unwrap(),
        Protocol::Https,
    ));
    let uri = Uri::from_static("/files/api/v1/datasets/IBMUSER.JCL?list=true");
    let service = ServiceId::new("files").unwrap();
    let (user, applid) = (UserId::new("IBMUSER").unwrap(), Applid::new("ZOWEAPPL").unwrap());
    let token = TokenFingerprint::of("a token");
    let write = |audit: &Audit| {
        audit.record(|| {
            AuditRecord::succeeded(Event::Ticket, audit.now())
                .with_request(&Method::GET, black_box(&uri), black_box(&extensions))
                .with_credential(CredentialKind::PersonalAccessToken)
                .with_token_id(token)
                .with_user(user)
                .with_service(&service)
                .with_applid(applid)
        });
    };

    let directory = tempfile::tempdir().unwrap();
    let options = AuditFileOptions::default()
        .with_queue_capacity(NonZeroUsize::new(65_536).unwrap())
        .with_fsync(Fsync::Never);
    let file = AuditFile::open(directory.path().join("audit.jsonl"), options).unwrap();
    let file = Arc::new(file);
    let to_file = Audit::to(file.clone());

    let mut group = criterion.benchmark_group("audit");
    group.throughput(Throughput::Elements(1));
    let none = Audit::none();
    group.bench_function("no sink", |b| b.iter(|| write(black_box(&none))));
    group.bench_function("file, time in the request", |b| {
        b.iter_custom(|records| {
            let mut spent = Duration::ZERO;
            let mut remaining = records;
            while remaining > 0 {
                let burst = remaining.min(BURST);
                let done = file.written() + file.dropped() + burst;
                let start = Instant::now();
                (0..burst).for_each(|_| write(&to_file));
                spent += start.elapsed();
                while file.written() + file.dropped() < done {
                    thread::yield_now();
                }
                remaining -= burst;
            }
            spent
        });
    });
    group.bench_function("file, time until written", |b| {
        b.iter_custom(|records| {
            let start = Instant::now();
            let mut done = file.written() + file.dropped();
            let mut remaining = records;
            while remaining > 0 {
                // A burst of 60,000 records wakes the writer thread, because it fills more than half of the queue.
                let burst = remaining.min(60_000);
                (0..burst).for_each(|_| write(&to_file));
                done += burst;
                while file.written() + file.dropped() < done {
                    thread::yield_now();
                }
                remaining -= burst;
            }
            start.elapsed()
        });
    });
    group.finish();
    assert_eq!(file.dropped(), 0, "records were dropped although the queue has room");
}

criterion_group!(benches, audit);
criterion_main!(benches);
