//! Tests of the data that the nodes of a cluster share in Redis. The tests start real Redis servers on loopback.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeSet, HashSet},
    net::{IpAddr, Ipv4Addr},
    num::NonZeroU64,
    sync::Arc,
    time::{Duration, Instant},
};

use test_support::{
    PATIENCE,
    pki::{self, Authority, Clients},
    redis::{Redis, RedisOptions, Reply, has_redis},
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tower_passticket::{
    clock::{Clock, ManualClock, SystemClock, Timestamp},
    cluster::{
        ClusterNode, ClusterOptions, LeaseStatus,
        coordinator::{
            Coordinator, CoordinatorError, Followed, ImageCursor, Incarnation, Joined, LeaseRecord,
            LogPosition, NodeName, Term,
        },
        redis::{
            Finding, RedisAddress, RedisLoginFailures, RedisPlace, RedisSettings, RedisTimeSlots,
            RedisTls, Severity, SiteName, acl_command,
        },
    },
    login_failures::{
        Attempt, AttemptResult, CountInAdvance, FailureLimit, FailureLimits, NetworkOrigin,
        SharedLoginFailures,
    },
    passticket::{Applid, SharedTimeSlots, SlotRequest, UserId},
    revocation::{
        AccessTokenChange, AccessTokenOutcome, AccessTokenQuery, AccessTokenStore, DurableStore,
        IssuedPat, Record, RecordKind, RecordParts, Revocation, RevocationCheck, RotatedPat,
        TokenDescription, TokenName,
    },
    token::{
        Rs256Verifier, Scopes, ServiceId, SigningKey, TokenFingerprint, TokenIssuer, Validity,
        VerifiedToken,
    },
};
use zeroize::Zeroizing;

const WAIT: Duration = Duration::from_millis(100);
const LEASE_TIME: Duration = Duration::from_secs(3);

fn site() -> SiteName {
    SiteName::new("prod").unwrap()
}

fn settings(url: &str) -> RedisSettings {
    RedisSettings::new(site(), RedisAddress::from_url(url).unwrap())
}

fn place(redis: &Redis) -> RedisPlace {
    RedisPlace::new(settings(&redis.url())).unwrap()
}

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

fn token(number: u32, expires_at: u64) -> Record {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    let token = TokenFingerprint::from_bytes(bytes);
    Record::Revocation(Revocation::Token { token, expires_at: Timestamp::from_millis(expires_at) })
}

fn user(up_to: u64) -> Revocation {
    Revocation::User { user: UserId::new("USER").unwrap(), up_to: Timestamp::from_millis(up_to) }
}

fn service(up_to: u64) -> Record {
    let service = ServiceId::new("zosmf").unwrap();
    Record::Revocation(Revocation::Service { service, up_to: Timestamp::from_millis(up_to) })
}

fn lease(name: &str, incarnation: Incarnation, number: u64) -> LeaseRecord {
    let number = NonZeroU64::new(number).unwrap();
    LeaseRecord {
        node: node(name),
        incarnation,
        number,
        applied: LogPosition::new(number.get(), 0),
    }
}

/// Returns all parts of a record as text. `Debug` of a record hides the fingerprint.
fn text(record: &Record) -> String {
    let RecordParts { kind, key, value, is_of_now } = record.parts();
    format!("{kind:?} {key:?} {value:?} {is_of_now}")
}

async fn entries(place: &RedisPlace, term: &Term, after: LogPosition) -> Vec<Record> {
    match place.follow(term.clone(), after, WAIT).await.unwrap() {
        Followed::Entries(entries) => entries.into_iter().map(|entry| entry.record).collect(),
        Followed::Gap => panic!("a gap"),
    }
}

async fn image(place: &RedisPlace, term: &Term) -> Vec<Record> {
    let (mut records, mut cursor) = (Vec::new(), None);
    loop {
        let part = place.image(term.clone(), cursor).await.unwrap();
        records.extend(part.records);
        match part.next {
            Some(next) => cursor = Some(next),
            None => return records,
        }
    }
}

async fn until_ok<T, F>(mut call: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, CoordinatorError>>,
{
    let attempts = async {
        loop {
            match call().await {
                Ok(value) => return value,
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    };
    timeout(PATIENCE, attempts).await.expect("the call succeeds in time")
}

#[tokio::test]
async fn records_reach_the_log_and_the_image_once() {
    if !has_redis() {
        return;
    }
    let redis = Redis::start();
    let place = place(&redis);
    let joined = place.join(LEASE_TIME).await.unwrap();
    assert!(joined.is_new);
    let term = joined.term;
    let again = place.join(LEASE_TIME).await.unwrap();
    assert_eq!((again.is_new, &again.term), (false, &term));

    let issued = Record::from_parts(&RecordParts {
        kind: RecordKind::Issued,
        key: [&5_u64.to_be_bytes()[..], &[b'\r'; 32]].concat(),
        value: [&u64::MAX.to_be_bytes()[..], b"\x04USER", &[0; 16]].concat(),
        is_of_now: false,
    })
    .unwrap();
    let all = vec![
        token(1, 1_000),
        Record::Revocation(user(7)),
        service(u64::MAX),
        issued,
        Record::Salt([0xff; 64]),
    ];
    let first = place.publish(term.clone(), node("a"), all.clone()).await.unwrap();
    assert_eq!(entries(&place, &term, LogPosition::START).await, all);
    assert_eq!(image(&place, &term).await, all);

    // Records that change nothing are not appended to the log.
    let lower = vec![token(1, 999), Record::Revocation(user(7)), service(99)];
    assert_eq!(place.publish(term.clone(), node("b"), lower).await.unwrap(), first);
    assert_eq!(entries(&place, &term, first).await, []);

    // The script compares numbers, and not strings: 1000 is more than 999. It always appends a `RuleOfNow`, which takes
    // effect at the current time.
    let rule = Record::RuleOfNow(user(7));
    let changes = vec![token(2, 999), token(2, 1_000), rule.clone(), token(1, 1_001)];
    let last = place.publish(term.clone(), node("b"), changes.clone()).await.unwrap();
    assert!(last > first);
    assert_eq!(entries(&place, &term, first).await, changes);
    assert_eq!(entries(&place, &term, last).await, []);
    let now: HashSet<_> = image(&place, &term).await.iter().map(text).collect();
    assert!(now.contains(&text(&token(2, 1_000))) && now.contains(&text(&token(1, 1_001))));
    assert_eq!(now.len(), 6);
}

#[tokio::test]
async fn a_call_of_follow_waits_for_entries_and_does_not_block_other_calls() {
    if !has_redis() {
        return;
    }
    let redis = Redis::start();
    let place = place(&redis);
    let term = place.join(LEASE_TIME).await.unwrap().term;
    let first = place.publish(term.clone(), node("a"), vec![token(1, 1)]).await.unwrap();
    let waiting = tokio::spawn(place.follow(term.clone(), first, Duration::from_secs(20)));
    // Redis reports how many clients wait in a blocking command.
    while redis.info("clients", "blocked_clients") != "1" {
        sleep(Duration::from_millis(5)).await;
    }
    place.leases(term.clone()).await.unwrap();
    let second = place.publish(term.clone(), node("b"), vec![token(2, 2)]).await.unwrap();
    let Followed::Entries(entries) = waiting.await.unwrap().unwrap() else { panic!("a gap") };
    assert_eq!(entries.len(), 1);
    assert_eq!((entries[0].position, &entries[0].from), (second, &node("b")));
}

#[tokio::test]
async fn removed_log_entries_are_reported_as_a_gap() {
    if !has_redis() {
        return;
    }
    let redis = Redis::start();
    let place = place(&redis);
    let term = place.join(LEASE_TIME).await.unwrap().term;
    let mut positions = Vec::new();
    for number in 0..3 {
        let records = vec![token(number, 1)];
        positions.push(place.publish(term.clone(), node("a"), records).await.unwrap());
    }
    redis.run(&["XTRIM", "tp:{prod}:log", "MAXLEN", "1"]).ok();
    let follow = |after| place.follow(term.clone(), after, WAIT);
    assert_eq!(follow(LogPosition::START).await.unwrap(), Followed::Gap);
    assert_eq!(follow(positions[0]).await.unwrap(), Followed::Gap);
    // The entry at this position was removed, and the next entry still exists. But Redis cannot know whether there were
    // entries between them.
    assert_eq!(follow(positions[1]).await.unwrap(), Followed::Gap);
    assert_eq!(entries(&place, &term, positions[2]).await, []);
    redis.run(&["XTRIM", "tp:{prod}:log", "MAXLEN", "0"]).ok();
    assert_eq!(follow(positions[1]).await.unwrap(), Followed::Gap);
    assert_eq!(entries(&place, &term, positions[2]).await, []);
    // The log is shorter than this position, so the position must belong to another term.
    let error = follow(LogPosition::new(u64::MAX, 0)).await.unwrap_err();
    assert!(matches!(error, CoordinatorError::OtherTerm { .. }), "{error}");
}

#[tokio::test]
async fn leases_are_renewed_replaced_and_removed() {
    if !has_redis() {
        return;
    }
    let redis = Redis::start();
    let place = place(&redis);
    let term = place.join(LEASE_TIME).await.unwrap().term;
    let (first, second) = (Incarnation::new(), Incarnation::new());
    let (one, other) = (lease("a", first, 1), lease("b", Incarnation::new(), 7));
    let renew = |lease: &LeaseRecord, replaced| place.renew(term.clone(), lease.clone(), replaced);

    assert_eq!(renew(&one, None).await.unwrap().leases, std::slice::from_ref(&one));
    let position = place.publish(term.clone(), node("a"), vec![token(1, 1)]).await.unwrap();
    let renewed = renew(&other, None).await.unwrap();
    assert_eq!((renewed.last, renewed.leases.len()), (position, 2));

    let taken = renew(&lease("a", second, 1), None).await.unwrap_err();
    assert!(matches!(taken, CoordinatorError::NameTaken { lease, .. } if lease == one));
    let taken = renew(&lease("a", second, 1), Some(second)).await.unwrap_err();
    assert!(matches!(taken, CoordinatorError::NameTaken { .. }));
    assert_eq!(place.leases(term.clone()).await.unwrap().len(), 2);
    assert!(
        renew(&lease("a", second, 1), Some(first))
            .await
            .unwrap()
            .leases
            .contains(&lease("a", second, 1))
    );

    // Another lease has replaced the lease `one`. `remove` must keep this other lease.
    place.remove(term.clone(), one).await.unwrap();
    assert_eq!(place.leases(term.clone()).await.unwrap().len(), 2);
    place.remove(term.clone(), lease("a", second, 1)).await.unwrap();
    assert_eq!(place.leases(term.clone()).await.unwrap(), [other]);
}

#[tokio::test]
async fn records_that_are_not_needed_are_evicted() {
    if !has_redis() {
        return;
    }
    let redis = Redis::start();
    let place = place(&redis);
    let term = place.join(LEASE_TIME).await.unwrap().term;
    let day = |days: u64| days * 24 * 60 * 60 * 1000;
    let now = SystemClock.now();
    let ago = |days| now.as_millis() - day(days);
    let issued = |expires_at: u64| {
        Record::from_parts(&RecordParts {
            kind: RecordKind::Issued,
            key: [&expires_at.to_be_bytes()[..], &[1; 32]].concat(),
            value: [&expires_at.to_be_bytes()[..], b"\x04USER"].concat(),
            is_of_now: false,
        })
        .unwrap()
    };
    // The entry of an issued PAT is needed for 30 days after the PAT has expired. Redis keeps it for at least a week
    // longer.
    let entry = |expires_at: u64| {
        let mut bytes = vec![1, 1];
        let mut rest = expires_at;
        while rest >= 0x80 {
            bytes.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        bytes.extend([rest as u8, 0, 0, 0, 0, 0, 0, 1, b'a']);
        let head = format!("{:020}{expires_at:020}", 0);
        Record::from_parts(&RecordParts {
            kind: RecordKind::AccessToken,
            key: [&[u8::try_from(expires_at % 251).unwrap(); 32][..], b"USER"].concat(),
            value: [head.as_bytes(), &bytes].concat(),
            is_of_now: false,
        })
        .unwrap()
    };
    let needed = [
        entry(ago(36)),
        token(1, ago(6)),
        token(2, u64::MAX),
        Record::Revocation(user(ago(96))),
        issued(ago(6)),
        issued(u64::MAX),
        Record::Salt([1; 64]),
    ];
    let evicted = [entry(ago(38)), token(3, ago(8)), token(4, 0), service(ago(98)), issued(ago(8))];
    let all = [&needed[..], &evicted].concat();
    place.publish(term.clone(), node("a"), all).await.unwrap();
    let evict = async |now: Timestamp| {
        let mut cursor = None;
        loop {
            cursor = place.evict(term.clone(), now, cursor).await.unwrap();
            if cursor.is_none() {
                return image(&place, &term).await;
            }
        }
    };
    // If the clock of the node is behind, `evict` removes fewer records.
    assert_eq!(evict(Timestamp::from_millis(day(8))).await.len(), 11);
    // If the clock of the node is ahead, `evict` uses the clock of Redis.
    let left = evict(now.plus(Duration::from_millis(day(5000)))).await;
    let texts = |records: &[Record]| -> BTreeSet<_> { records.iter().map(text).collect() };
    assert_eq!(texts(&left), texts(&needed));
}

/// Asserts that calls with this term fail with `OtherTerm`.
async fn assert_other_term(place: &RedisPlace, term: &Term) {
    let is_other = |error: CoordinatorError| matches!(error, CoordinatorError::OtherTerm { .. });
    let lease = lease("a", Incarnation::new(), 1);
    let records = vec![token(99, 1)];
    assert!(is_other(place.publish(term.clone(), node("a"), records).await.unwrap_err()));
    assert!(is_other(place.follow(term.clone(), LogPosition::START, WAIT).await.unwrap_err()));
    assert!(is_other(place.image(term.clone(), None).await.unwrap_err()));
    assert!(is_other(place.renew(term.clone(), lease.clone(), None).await.unwrap_err()));
    assert!(is_other(place.leases(term.clone()).await.unwrap_err()));
    assert!(is_other(place.remove(term.clone(), lease).await.unwrap_err()));
}

#[tokio::test]
async fn a_loss_of_data_begins_a_new_term() {
    if !has_redis() {
        return;
    }
    let mut redis = Redis::start();
    let place = place(&redis);
    let first = place.join(LEASE_TIME).await.unwrap();
    redis.flush();
    assert_other_term(&place, &first.term).await;
    assert_eq!(image_size(&redis), 0);
    let second = place.join(LEASE_TIME).await.unwrap();
    assert!(second.is_new && second.term != first.term);

    // A restart also begins a new term, because nodes cannot know whether Redis has saved the last writes. In this
    // test, Redis has saved them.
    place.publish(second.term.clone(), node("a"), vec![token(1, 1)]).await.unwrap();
    redis.run(&["SAVE"]).ok();
    redis.start_again();
    let third = until_ok(|| place.join(LEASE_TIME)).await;
    assert!(!third.is_new && third.term != second.term);
    assert_eq!(image(&place, &third.term).await, [token(1, 1)]);
    until_ok(|| place.follow(third.term.clone(), third.last, WAIT)).await;
    assert_other_term(&place, &second.term).await;
}

fn image_size(redis: &Redis) -> i64 {
    redis.run(&["HLEN", "tp:{prod}:image:t"]).int()
}

#[tokio::test]
async fn a_primary_that_was_a_replica_for_a_while_has_a_new_term() {
    if !has_redis() {
        return;
    }
    let first = Redis::start();
    let second = RedisOptions::default().replica_of(&first).start();
    first.wait_for_replicas(1);
    let place = place(&first);
    let term = place.join(LEASE_TIME).await.unwrap().term;
    let last = place.publish(term.clone(), node("a"), vec![token(1, 1)]).await.unwrap();
    assert_eq!(entries(&place, &term, last).await, []);
    first.wait_for_replicas(1);

    // The first server becomes a replica of the second server. Redis keeps the connection of the node open.
    second.run(&["REPLICAOF", "NO", "ONE"]).ok();
    place.publish(term.clone(), node("a"), vec![token(2, 2)]).await.unwrap();
    let port = second.port().to_string();
    first.run(&["REPLICAOF", "127.0.0.1", &port]).ok();
    second.wait_for_replicas(1);
    assert_other_term(&place, &term).await;
    assert!(matches!(place.join(LEASE_TIME).await, Err(CoordinatorError::Refused { .. })));
    first.run(&["REPLICAOF", "NO", "ONE"]).ok();
    assert_other_term(&place, &term).await;
    let joined = until_ok(|| place.join(LEASE_TIME)).await;
    assert!(!joined.is_new, "the server must have data of the site");
    assert_eq!(image(&place, &joined.term).await, [token(1, 1)], "the last write is lost");
}

#[tokio::test]
async fn sentinel_names_the_new_primary() {
    if !has_redis() {
        return;
    }
    let mut first = Redis::start();
    let second = RedisOptions::default().replica_of(&first).start();
    first.wait_for_replicas(1);
    let sentinel = RedisOptions::default().start_sentinel(&first);
    sentinel.wait_for_replicas(1);
    let url = sentinel.url();
    let address = RedisAddress::from_sentinel("main", [url.as_str()], None, 0).unwrap();
    let place = RedisPlace::new(RedisSettings::new(site(), address)).unwrap();
    let term = place.join(LEASE_TIME).await.unwrap().term;
    place.publish(term.clone(), node("a"), vec![token(1, 1)]).await.unwrap();
    first.wait_for_replicas(1);

    // The old primary is only paused, so it does not close its connections.
    first.pause();
    let began = Instant::now();
    let joined = until_ok(|| place.join(LEASE_TIME)).await;
    println!("joined the new primary {:?} after the pause", began.elapsed());
    assert_ne!(joined.term, term);
    assert_eq!(image(&place, &joined.term).await, [token(1, 1)]);
    until_ok(|| place.follow(joined.term.clone(), joined.last, WAIT)).await;
    assert_other_term(&place, &term).await;

    // Sentinel makes the first server the primary again, while the second server still answers.
    first.resume();
    second.wait_for_replicas(1);
    sleep(Duration::from_secs(1)).await;
    until_ok(|| async {
        match sentinel.run(&["SENTINEL", "FAILOVER", "main"]) {
            Reply::Error(text) => {
                Err(CoordinatorError::Unreachable { place: "".into(), reason: text.into() })
            }
            _ => Ok(()),
        }
    })
    .await;
    sentinel.wait_for_primary(first.port());
    let back = until_ok(|| async {
        let joined = place.join(LEASE_TIME).await?;
        match joined.term.as_str().contains(&first.info("server", "run_id")) {
            true => Ok(joined),
            false => Err(CoordinatorError::OtherTerm { place: "".into() }),
        }
    })
    .await;
    assert_eq!(image(&place, &back.term).await, [token(1, 1)]);
    first.kill();
}

#[tokio::test]
async fn a_node_authenticates_to_sentinel_and_the_primary_over_tls() {
    if !has_redis() {
        return;
    }
    let options = RedisOptions::default().with_tls(Clients::MayHaveCertificate);
    let redis = options.start();
    let sentinel = options.start_sentinel(&redis);
    let acl = acl_command(&site(), "tp");
    redis.run(&acl.split(' ').collect::<Vec<_>>()).ok();
    let sentinel_acl = "ACL SETUSER watch reset on >SENTINEL +sentinel|master";
    sentinel.run(&sentinel_acl.split(' ').collect::<Vec<_>>()).ok();
    let tls = || RedisTls::new(Authority::trusted().pem().as_bytes()).unwrap();
    let url = format!("rediss://watch@localhost:{}", sentinel.port());
    let open = |password: &str, sentinel_password: &str| {
        let address = RedisAddress::from_sentinel("main", [url.as_str()], Some("tp"), 0).unwrap();
        let secret = |text: &str| Zeroizing::new(text.as_bytes().to_vec());
        let settings = RedisSettings::new(site(), address)
            .with_tls(tls())
            .with_password(secret(password))
            .with_sentinel_password(secret(sentinel_password));
        RedisPlace::new(settings).unwrap()
    };
    assert!(open("PASSWORD", "SENTINEL").join(LEASE_TIME).await.unwrap().is_new);
    for (password, sentinel_password) in [("PASSWORD", "wrong"), ("wrong", "SENTINEL")] {
        let error = open(password, sentinel_password).join(LEASE_TIME).await.unwrap_err();
        assert!(error.to_string().contains("the user or the password is wrong"), "{error}");
    }
    // Sentinel does not know a primary with the name `other`.
    let address = RedisAddress::from_sentinel("other", [url.as_str()], Some("tp"), 0).unwrap();
    let settings = RedisSettings::new(site(), address).with_tls(tls());
    let settings = settings
        .with_password(Zeroizing::new(b"PASSWORD".to_vec()))
        .with_sentinel_password(Zeroizing::new(b"SENTINEL".to_vec()));
    let error = RedisPlace::new(settings).unwrap().join(LEASE_TIME).await.unwrap_err();
    assert!(error.to_string().contains("No such master"), "{error}");
}

#[tokio::test]
async fn a_primary_with_too_few_replicas_refuses_writes_and_the_list_of_leases() {
    if !has_redis() {
        return;
    }
    let options =
        RedisOptions::default().with("min-replicas-to-write 1").with("min-replicas-max-lag 1");
    let redis = options.start();
    let place = place(&redis);
    let reason = |error: CoordinatorError| match error {
        CoordinatorError::Refused { reason, .. } => reason,
        other => panic!("{other}"),
    };
    assert!(reason(place.join(LEASE_TIME).await.unwrap_err()).contains("min-replicas-to-write"));

    let replica = RedisOptions::default().replica_of(&redis).start();
    redis.wait_for_replicas(1);
    let term = until_ok(|| place.join(LEASE_TIME)).await.term;
    let lease = lease("a", Incarnation::new(), 1);
    place.renew(term.clone(), lease.clone(), None).await.unwrap();
    drop(replica);
    let refused = timeout(PATIENCE, async {
        loop {
            match place.renew(term.clone(), lease.clone(), None).await {
                Ok(_) => sleep(Duration::from_millis(20)).await,
                Err(error) => return error,
            }
        }
    });
    assert!(reason(refused.await.unwrap()).contains("min-replicas-to-write"));
    let records = vec![token(1, 1)];
    let refused = place.publish(term.clone(), node("a"), records).await.unwrap_err();
    assert!(reason(refused).contains("min-replicas-to-write"));
    // Other nodes may already use a new primary. The old primary lacks their new leases, so it must not list leases.
    let refused = place.leases(term).await.unwrap_err();
    assert!(reason(refused).contains("min-replicas-to-write"));
}

#[tokio::test]
async fn a_redis_without_memory_refuses_writes() {
    if !has_redis() {
        return;
    }
    let redis = Redis::start();
    let place = place(&redis);
    let term = place.join(LEASE_TIME).await.unwrap().term;
    redis.run(&["CONFIG", "SET", "maxmemory", "1"]).ok();
    let error = place.publish(term.clone(), node("a"), vec![token(1, 1)]).await.unwrap_err();
    assert!(
        matches!(&error, CoordinatorError::Refused { reason, .. } if reason.contains("maxmemory")),
        "{error}"
    );
    assert_eq!(image_size(&redis), 0);
    redis.run(&["CONFIG", "SET", "maxmemory", "0"]).ok();
    place.publish(term, node("a"), vec![token(1, 1)]).await.unwrap();
}

#[tokio::test]
async fn a_redis_that_cannot_save_to_disk_refuses_writes_and_the_list_of_leases() {
    if !has_redis() {
        return;
    }
    let redis = Redis::start();
    let place = place(&redis);
    let term = place.join(LEASE_TIME).await.unwrap().term;
    let save = async |expected: &str| {
        until_ok(async || match redis.run(&["BGSAVE"]) {
            Reply::Error(text) => {
                Err(CoordinatorError::Unreachable { place: "".into(), reason: text.into() })
            }
            _ => Ok(()),
        })
        .await;
        let is_done = async {
            while redis.info("persistence", "rdb_bgsave_in_progress") != "0" {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, is_done).await.unwrap();
        assert_eq!(redis.info("persistence", "rdb_last_bgsave_status"), expected);
    };
    redis.run(&["CONFIG", "SET", "save", "3600 1000000"]).ok();
    // Redis cannot save, because a directory has the name of its file.
    let file = redis.directory().join("dump.rdb");
    std::fs::create_dir(&file).unwrap();
    save("err").await;
    let calls = [
        place.publish(term.clone(), node("a"), vec![token(1, 1)]).await.map(drop),
        place.renew(term.clone(), lease("a", Incarnation::new(), 1), None).await.map(drop),
        place.leases(term.clone()).await.map(drop),
    ];
    for call in calls {
        let error = call.unwrap_err();
        let CoordinatorError::Refused { reason, .. } = &error else { panic!("{error}") };
        assert!(reason.contains("MISCONF"), "{error}");
    }
    assert_eq!(image_size(&redis), 0);
    std::fs::remove_dir(&file).unwrap();
    save("ok").await;
    place.publish(term, node("a"), vec![token(1, 1)]).await.unwrap();
}

/// A user may have 1,000 Personal Access Tokens (PATs). A PAT of the maximum length contains about 2,200 services.
#[tokio::test]
async fn the_largest_pats_of_a_user_reach_a_new_node() {
    if !has_redis() {
        return;
    }
    let issued = |number: u64| {
        let mut fingerprint = [7; 32];
        fingerprint[..8].copy_from_slice(&number.to_be_bytes());
        let key = [&number.to_be_bytes()[..], &fingerprint].concat();
        let expires_at = SystemClock.now().plus(Duration::from_secs(86_400)).as_millis();
        let value = [&expires_at.to_be_bytes()[..], b"\x04USER", &[1; 8 * 2200]].concat();
        let parts = RecordParts { kind: RecordKind::Issued, key, value, is_of_now: false };
        Record::from_parts(&parts).unwrap()
    };
    let records: Vec<_> = (0..1000).map(issued).collect();
    let redis = Redis::start();
    let place = place(&redis);
    let term = place.join(Duration::from_secs(1)).await.unwrap().term;
    for part in records.chunks(100) {
        place.publish(term.clone(), node("a"), part.to_vec()).await.unwrap();
    }
    let expected: HashSet<_> = records.iter().map(text).collect();
    let all = |records: &[Record]| records.iter().map(text).collect::<HashSet<_>>() == expected;
    assert!(all(&image(&place, &term).await));
    let (mut followed, mut position) = (Vec::new(), LogPosition::START);
    loop {
        let Followed::Entries(entries) = place.follow(term.clone(), position, WAIT).await.unwrap()
        else {
            panic!("a gap")
        };
        let Some(last) = entries.last() else { break };
        position = last.position;
        followed.extend(entries.into_iter().map(|entry| entry.record));
    }
    assert_eq!(followed, records);

    // The first node reads the records. After a loss of data, it publishes them again. The second node then reads them.
    let directory = tempfile::tempdir().unwrap();
    let start = async |name: &str| {
        let store = DurableStore::create(directory.path().join(name)).unwrap();
        let options = ClusterOptions::new(node(name)).with_lease(Duration::from_secs(1));
        let place: Arc<dyn Coordinator> = Arc::new(place.clone());
        timeout(PATIENCE, ClusterNode::start(Arc::new(store), place, options, None)).await
    };
    let is_refilled = async || {
        while redis.run(&["HLEN", "tp:{prod}:image:p"]).int() != 1000 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let first = start("one").await.unwrap().unwrap();
    redis.flush();
    timeout(PATIENCE, is_refilled()).await.unwrap();
    let second = start("two").await.unwrap().unwrap();
    assert_eq!(second.status().lease, LeaseStatus::Ok);
    first.leave().await;
    redis.flush();
    timeout(PATIENCE, is_refilled()).await.unwrap();
    second.leave().await;
}

#[tokio::test]
async fn nodes_share_the_registry_of_issued_tokens() {
    if !has_redis() {
        return;
    }
    let redis = Redis::start();
    let place = place(&redis);
    let directory = tempfile::tempdir().unwrap();
    let start = async |name: &str| {
        let store = DurableStore::create(directory.path().join(name)).unwrap();
        let options = ClusterOptions::new(node(name)).with_lease(Duration::from_secs(1));
        let place: Arc<dyn Coordinator> = Arc::new(place.clone());
        let started = ClusterNode::start(Arc::new(store), place, options, None);
        timeout(PATIENCE, started).await.unwrap().unwrap()
    };
    let (one, two) = (start("one").await, start("two").await);
    let key = SigningKey::from_pem(pki::SIGNING_KEY.as_bytes()).unwrap();
    let verifier = Rs256Verifier::new(key.verifying_key());
    let issuer = TokenIssuer::new(key);
    let (owner, scopes) = (UserId::new("USER").unwrap(), Scopes::parse(["a"]).unwrap());
    let pat = || {
        let token = issuer.personal_access_token(&owner, &scopes, Validity::MAX).unwrap();
        verifier.verify(token.expose()).unwrap()
    };
    let issued = |token: &VerifiedToken| match token {
        VerifiedToken::Pat(pat) => IssuedPat::from(pat),
        other => panic!("{other:?}"),
    };
    let now = SystemClock.now();
    // A rotation must not extend the lifetime, and the second token may expire a second later than the first one. So
    // `old` is the second token.
    let (new, old) = (pat(), pat());
    let issue = AccessTokenChange::Issue {
        pat: issued(&old),
        name: TokenName::new("jenkins").ok(),
        description: TokenDescription::default(),
        limit: 50,
    };
    let change = async |node: &ClusterNode, change| {
        let changed = node.store().change(change, now);
        match timeout(PATIENCE, changed).await.unwrap().unwrap() {
            AccessTokenOutcome::Token(token) => token,
            other => panic!("{other:?}"),
        }
    };
    let token = change(&one, issue).await;
    let list = async |node: &ClusterNode| {
        let query = AccessTokenQuery::new(Some(owner));
        node.store().list(query, now).await.unwrap().tokens
    };
    let shows = async |node: &ClusterNode, count: usize| {
        while list(node).await.len() != count {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, shows(&two, 1)).await.unwrap();
    assert_eq!(list(&two).await, std::slice::from_ref(&token));

    // To rotate a token means to replace it by a new one. If one node has rotated or revoked a token, the other node
    // refuses this token.
    let rotate = AccessTokenChange::Rotate {
        old: RotatedPat::Entry(owner, token.id),
        new: issued(&new),
        grace: Duration::ZERO,
        limit: 50,
    };
    let rotated = change(&two, rotate).await;
    assert!(one.store().try_check_now(&old).unwrap().is_err());
    timeout(PATIENCE, shows(&one, 2)).await.unwrap();
    change(&one, AccessTokenChange::Revoke { user: owner, id: rotated.id }).await;
    assert!(two.store().try_check_now(&new).unwrap().is_err());

    // After a loss of data, the nodes publish the entries again.
    redis.flush();
    let is_refilled = async || {
        while redis.run(&["HLEN", "tp:{prod}:image:a"]).int() != 2 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, is_refilled()).await.unwrap();
    one.leave().await;
    two.leave().await;
}

#[tokio::test]
async fn a_redis_that_does_not_answer_is_unreachable() {
    if !has_redis() {
        return;
    }
    let redis = Redis::start();
    let place = place(&redis);
    let term = place.join(LEASE_TIME).await.unwrap().term;
    redis.pause();
    let error = timeout(PATIENCE, place.leases(term.clone())).await.unwrap().unwrap_err();
    assert!(matches!(error, CoordinatorError::Unreachable { .. }), "{error}");
    // The kernel accepts a new connection, although Redis is paused.
    let error = timeout(PATIENCE, place.leases(term.clone())).await.unwrap().unwrap_err();
    assert!(matches!(error, CoordinatorError::Unreachable { .. }), "{error}");
    redis.resume();
    until_ok(|| place.leases(term.clone())).await;

    // The node replaces closed connections. The term stays the same, because Redis was not restarted.
    redis.close_connections();
    until_ok(|| place.leases(term.clone())).await;
    drop(redis);
    let error = place.leases(term.clone()).await.unwrap_err();
    assert!(matches!(error, CoordinatorError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_not_shown() {
    if !has_redis() {
        return;
    }
    let redis = Redis::start();
    redis.run(&["ACL", "SETUSER", "tp", "on", ">right", "~*", "+@all"]).ok();
    redis.run(&["CONFIG", "SET", "requirepass", "other"]).ok();
    let with = |password: &[u8]| {
        let url = format!("redis://tp@127.0.0.1:{}", redis.port());
        let settings = settings(&url).with_password(Zeroizing::new(password.to_vec()));
        RedisPlace::new(settings).unwrap()
    };
    with(b"right").join(LEASE_TIME).await.unwrap();
    for wrong in [&b"wrong-secret"[..], b"\xffwrong-secret\r\n"] {
        let place = with(wrong);
        let error = place.join(LEASE_TIME).await.unwrap_err();
        assert!(matches!(error, CoordinatorError::Refused { .. }), "{error}");
        let shown = format!("{error} {error:?} {place:?}");
        assert!(!shown.contains("wrong-secret"), "{shown}");
    }
    let error = place(&redis).join(LEASE_TIME).await.unwrap_err();
    assert!(error.to_string().contains("passwordFile"), "{error}");
}

#[tokio::test]
async fn a_node_connects_over_tls_with_or_without_a_client_certificate() {
    if !has_redis() {
        return;
    }
    let authority = Authority::trusted().pem().as_bytes();
    let stranger = Authority::stranger().pem().as_bytes();
    let connect = async |redis: &Redis, tls: RedisTls| {
        let settings = settings(&format!("rediss://127.0.0.1:{}", redis.port())).with_tls(tls);
        RedisPlace::new(settings).unwrap().join(LEASE_TIME).await
    };
    let server = RedisOptions::default().with_tls(Clients::MayHaveCertificate).start();
    assert!(connect(&server, RedisTls::new(authority).unwrap()).await.unwrap().is_new);
    let error = connect(&server, RedisTls::new(stranger).unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");

    let server = RedisOptions::default().with_tls(Clients::MustHaveCertificate).start();
    let (certificate, key) = (pki::USER.certificate.as_bytes(), pki::USER.key.as_bytes());
    let tls = RedisTls::with_client_certificate(authority, certificate, key).unwrap();
    assert!(connect(&server, tls).await.unwrap().is_new);
    let error = connect(&server, RedisTls::new(authority).unwrap()).await.unwrap_err();
    assert!(matches!(error, CoordinatorError::Unreachable { .. }), "{error}");

    let wrong_key = pki::APIMTST.key.as_bytes();
    assert!(RedisTls::with_client_certificate(authority, certificate, wrong_key).is_err());
    assert!(RedisTls::new(b"no certificate").is_err());
}

#[tokio::test]
async fn malformed_data_is_an_error_that_names_the_key() {
    if !has_redis() {
        return;
    }
    let redis = Redis::start();
    let place = place(&redis);
    let mut position = LogPosition::START;
    let huge = "x".repeat(9_000_000);
    let cases: [(&[&str], &str); 9] = [
        (&["HSET", "tp:{prod}:image:t", "short", "1"], "image:t"),
        (&["HSET", "tp:{prod}:image:u", "USER", "x"], "image:u"),
        (&["HSET", "tp:{prod}:image:s", "zosmf", &huge], "image:s"),
        (&["HSET", "tp:{prod}:leases", "a b", "x"], "leases"),
        (&["HSET", "tp:{prod}:leases", "a", "x"], "leases"),
        (&["HSET", "tp:{prod}:leases", "a", &huge], "leases"),
        (&["XADD", "tp:{prod}:log", "*", "k", "t"], "log"),
        (&["XADD", "tp:{prod}:log", "*", "k", &huge], "log"),
        (&["SET", "tp:{prod}:log", "x"], "wrong type"),
    ];
    for (command, named) in cases {
        redis.flush();
        let term = place.join(LEASE_TIME).await.unwrap().term;
        let record = vec![token(1, 1)];
        if !command[0].starts_with("SET") {
            position = place.publish(term.clone(), node("a"), record).await.unwrap();
        }
        redis.run(command).ok();
        let mut problems = Vec::new();
        let mut cursor = None;
        loop {
            match place.image(term.clone(), cursor).await {
                Ok(part) => match part.next {
                    Some(next) => cursor = Some(next),
                    None => break,
                },
                Err(error) => {
                    problems.push(error);
                    break;
                }
            }
        }
        problems.extend(place.follow(term.clone(), position, WAIT).await.err());
        problems.extend(place.leases(term.clone()).await.err());
        assert_eq!(problems.len(), 1, "{named}: {problems:?}");
        let CoordinatorError::Malformed { reason, .. } = &problems[0] else {
            panic!("{named}: {problems:?}")
        };
        assert!(reason.contains(named), "{named}: {reason}");
    }
    redis.flush();
    redis.run(&["SET", "tp:{prod}:version", "3"]).ok();
    let error = place.join(LEASE_TIME).await.unwrap_err();
    assert!(matches!(error, CoordinatorError::OtherVersion { found: 3, .. }), "{error}");
    let error = place.image(Term::new("x"), Some(ImageCursor("y".to_owned()))).await.unwrap_err();
    assert!(matches!(error, CoordinatorError::Malformed { .. }), "{error}");
}

async fn call_everything(place: &RedisPlace) {
    let joined = place.join(LEASE_TIME).await.unwrap();
    let term = joined.term;
    let records = vec![token(1, 1), Record::RuleOfNow(user(1)), Record::Salt([1; 64])];
    let first = place.publish(term.clone(), node("a"), records).await.unwrap();
    place.publish(term.clone(), node("a"), vec![token(2, 1), token(1, 2)]).await.unwrap();
    let Followed::Entries(new) = place.follow(term.clone(), first, WAIT).await.unwrap() else {
        panic!("a gap")
    };
    assert_eq!(new.len(), 2);
    assert_eq!(entries(place, &term, new[1].position).await, []);
    assert_eq!(image(place, &term).await.len(), 4);
    let lease = lease("a", Incarnation::new(), 1);
    place.renew(term.clone(), lease.clone(), None).await.unwrap();
    place.leases(term.clone()).await.unwrap();
    place.evict(term.clone(), Timestamp::from_millis(0), None).await.unwrap();
    let inspection = place.inspect(SystemClock).await.unwrap();
    assert_eq!((inspection.records, inspection.leases), (4, vec![lease.clone()]));
    place.remove(term, lease).await.unwrap();

    let applid = Applid::new("ZOWEAPPL").unwrap();
    let user = UserId::new("USER").unwrap();
    let spare = Duration::from_secs(60);
    let request = SlotRequest::new(user, applid, spare, Timestamp::from_millis(0));
    let slots = RedisTimeSlots::new(place.clone());
    let reserve = || async {
        let reserved = slots.reserve(request).await;
        reserved.map_err(|error| CoordinatorError::Unreachable {
            place: "".into(),
            reason: format!("{error:?}").into(),
        })
    };
    let (one, other) = (until_ok(reserve).await, until_ok(reserve).await);
    assert_ne!(one.slot, other.slot);

    let failures = RedisLoginFailures::new(place.clone());
    let limit = || FailureLimit::new(0, Duration::from_secs(1));
    let limits = FailureLimits::new(limit(), limit(), limit());
    let network = IpAddr::from(Ipv4Addr::LOCALHOST).into();
    let attempt = Attempt::new(user, Some(network), NetworkOrigin::Unknown);
    let begin = || failures.begin(attempt, limits, CountInAdvance::Always);
    let other_user = Attempt::new(UserId::new("OTHER").unwrap(), None, NetworkOrigin::Known);
    failures.begin(other_user, limits, CountInAdvance::Always).await.unwrap().unwrap();
    let claim = begin().await.unwrap().unwrap();
    failures.end(attempt, claim, AttemptResult::Withdrawn);
    let failed = timeout(PATIENCE, async {
        // `end` returns before Redis knows that the first attempt has ended. So at first, `begin` may refuse the second
        // attempt.
        loop {
            match begin().await.unwrap() {
                Ok(claim) => return failures.end(attempt, claim, AttemptResult::Failed),
                Err(wait) => sleep(wait).await,
            }
        }
    });
    failed.await.unwrap();
    timeout(PATIENCE, async { while begin().await.unwrap().is_ok() {} }).await.unwrap();
}

#[tokio::test]
async fn the_acl_allows_exactly_the_commands_that_a_node_uses() {
    if !has_redis() {
        return;
    }
    let redis = Redis::start();
    let acl = acl_command(&site(), "tp");
    redis.run(&acl.split(' ').collect::<Vec<_>>()).ok();
    let open = |site: &str| {
        let url = format!("redis://tp@127.0.0.1:{}/1", redis.port());
        let address = RedisAddress::from_url(&url).unwrap();
        let settings = RedisSettings::new(SiteName::new(site).unwrap(), address);
        RedisPlace::new(settings.with_password(Zeroizing::new(b"PASSWORD".to_vec()))).unwrap()
    };
    let admin = |command: &[&str]| redis.run(command);
    admin(&["CONFIG", "RESETSTAT"]).ok();
    let place = open("prod");
    call_everything(&place).await;

    let allowed: BTreeSet<_> = acl.split(" +").skip(1).map(str::to_owned).collect();
    let statistics = admin(&["INFO", "commandstats"]).text();
    let used: BTreeSet<_> = statistics
        .lines()
        .filter(|line| !line.contains(":calls=0,"))
        .filter_map(|line| Some(line.strip_prefix("cmdstat_")?.split_once(':')?.0.to_owned()))
        .filter(|command| !["auth", "config|resetstat"].contains(&command.as_str()))
        .collect();
    assert_eq!(used, allowed);

    let reason = |error: CoordinatorError| match error {
        CoordinatorError::Refused { reason, .. } => reason,
        other => panic!("{other}"),
    };
    let other_site = open("prod2").join(LEASE_TIME).await.unwrap_err();
    assert!(reason(other_site).contains("keys of this site"));
    let term = place.join(LEASE_TIME).await.unwrap().term;
    admin(&["ACL", "SETUSER", "tp", "-xadd"]).ok();
    let records = vec![token(3, 1)];
    let refused = reason(place.publish(term, node("a"), records).await.unwrap_err());
    assert!(refused.contains("all commands of the scripts"), "{refused}");
    admin(&["ACL", "SETUSER", "tp", "+xadd", "-xread"]).ok();
    let Joined { term, last, .. } = place.join(LEASE_TIME).await.unwrap();
    let refused = reason(place.follow(term, last, WAIT).await.unwrap_err());
    assert!(refused.contains("the command xread"), "{refused}");

    let findings = place.inspect(SystemClock).await.unwrap().findings;
    let unknown = |finding: &Finding| match finding {
        Finding::NotKnown { command, .. } => Some(*command),
        _ => None,
    };
    assert_eq!(findings.iter().filter_map(unknown).collect::<Vec<_>>(), ["MEMORY USAGE"]);
}

#[tokio::test]
async fn inspect_finds_wrong_settings_of_redis() {
    if !has_redis() {
        return;
    }
    let redis = RedisOptions::default().with("maxmemory-policy allkeys-lru").start();
    let place = place(&redis);
    let clock = ManualClock::new(SystemClock.now().plus(Duration::from_secs(60)));
    let inspection = place.inspect(clock).await.unwrap();
    assert!((-70_000..-50_000).contains(&inspection.clock_difference), "{inspection:?}");
    assert_eq!((inspection.records, inspection.memory), (0, Some(0)));
    let (late, rest): (Vec<_>, Vec<_>) =
        inspection.findings.into_iter().partition(|it| matches!(it, Finding::ClockDiffers(_)));
    assert_eq!(late.len(), 1);
    let evicts = Finding::Evicts("allkeys-lru".to_owned());
    assert_eq!(rest, [evicts, Finding::NotPersistent, Finding::NoPassword]);
    assert_eq!(redis.run(&["DBSIZE"]).int(), 0, "the inspection changes nothing");

    place.join(LEASE_TIME).await.unwrap();
    let replica = RedisOptions::default().replica_of(&redis).start();
    redis.wait_for_replicas(1);
    let inspection = place.inspect(SystemClock).await.unwrap();
    assert_eq!(inspection.replicas, 1);
    assert!(inspection.findings.contains(&Finding::WritesWithoutReplica));
    assert_eq!(Finding::WritesWithoutReplica.severity(), Severity::Error);
    redis.run(&["CONFIG", "SET", "min-replicas-to-write", "1"]).ok();
    let inspection = place.inspect(SystemClock).await.unwrap();
    assert!(inspection.findings.contains(&Finding::LongLag(10)), "{inspection:?}");
    assert!(inspection.memory.unwrap() < 10_000);

    // There are two replicas, and `min-replicas-to-write` is only 1. So after a failover, an old primary that keeps one
    // replica would still accept writes. Also, Sentinel's `down-after-milliseconds` is too short.
    let second = RedisOptions::default().replica_of(&redis).start();
    redis.wait_for_replicas(2);
    redis.run(&["CONFIG", "SET", "min-replicas-max-lag", "2"]).ok();
    let sentinel = RedisOptions::default().start_sentinel(&redis);
    sentinel.wait_for_replicas(2);
    let url = sentinel.url();
    let address = RedisAddress::from_sentinel("main", [url.as_str()], None, 0).unwrap();
    let place = RedisPlace::new(RedisSettings::new(site(), address)).unwrap();
    let errors = async || {
        let inspection = place.inspect(SystemClock).await.unwrap();
        let is_error = |finding: &Finding| finding.severity() == Severity::Error;
        inspection.findings.into_iter().filter(is_error).collect::<Vec<_>>()
    };
    let some = Finding::WritesWithSomeReplicas { needed: 1, replicas: 2 };
    let early = Finding::EarlyFailover { down_after: 500, at_least: 5000 };
    redis.run(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).ok();
    assert_eq!(errors().await, [some, early]);
    redis.run(&["CONFIG", "SET", "min-replicas-to-write", "2"]).ok();
    sentinel.run(&["SENTINEL", "SET", "main", "down-after-milliseconds", "5000"]).ok();
    assert_eq!(errors().await, []);
    drop((replica, second));
}

/// `REDIS_RECORDS` sets the number of records. docs/operating/nodes-redis.md contains measured times.
#[tokio::test]
async fn a_large_image_is_published_and_read() {
    if !has_redis() {
        return;
    }
    let count: u32 = std::env::var("REDIS_RECORDS").map_or(20_000, |it| it.parse().unwrap());
    let redis = Redis::start();
    let place = place(&redis);
    let term = place.join(LEASE_TIME).await.unwrap().term;
    let began = Instant::now();
    let mut running: JoinSet<Result<LogPosition, CoordinatorError>> = JoinSet::new();
    for first in (0..count).step_by(1000) {
        let records: Vec<_> = (first..count.min(first + 1000))
            .map(|number| {
                let mut bytes = [7; 32];
                // As in real fingerprints, the first bytes are evenly distributed.
                bytes[..4].copy_from_slice(&number.wrapping_mul(2_654_435_761).to_be_bytes());
                let token = TokenFingerprint::from_bytes(bytes);
                let expires_at = Timestamp::from_millis(1_764_300_000_000 + u64::from(number));
                Record::Revocation(Revocation::Token { token, expires_at })
            })
            .collect();
        if running.len() >= 8 {
            running.join_next().await.unwrap().unwrap().unwrap();
        }
        running.spawn(place.publish(term.clone(), node("a"), records));
    }
    while let Some(published) = running.join_next().await {
        published.unwrap().unwrap();
    }
    let published = began.elapsed();
    let began = Instant::now();
    let mut read = 0;
    let mut cursor = None;
    loop {
        let part = place.image(term.clone(), cursor).await.unwrap();
        read += part.records.len();
        match part.next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    let took = began.elapsed();
    let memory = place.inspect(SystemClock).await.unwrap().memory.unwrap();
    println!(
        "{count} records: published in {published:?}, read in {took:?}, {memory} bytes of keys, {} bytes of Redis",
        redis.info("memory", "used_memory")
    );
    assert_eq!(image_size(&redis), i64::from(count));
    assert!(read >= count as usize);
}
