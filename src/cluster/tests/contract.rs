//! Checks that each *place* (the store that the nodes share) must pass. They run with the simulated place and with
//! Redis, to show that the simulation does not differ from Redis.

use std::{collections::BTreeSet, num::NonZeroU64, time::Duration};

use test_support::redis::{Redis, has_redis};

use super::{network::Network, place::Place};
use crate::{
    clock::Timestamp,
    cluster::{
        coordinator::{
            Coordinator, CoordinatorError, Followed, Incarnation, LeaseRecord, LogEntry,
            LogPosition, MAX_PUBLISHED, NodeName, Term,
        },
        redis::{RedisAddress, RedisPlace, RedisSettings, SiteName},
    },
    passticket::UserId,
    revocation::{Record, RecordParts, Revocation},
    token::TokenFingerprint,
};

const WAIT: Duration = Duration::from_millis(100);
const LEASE: Duration = Duration::from_millis(2500);

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

fn token(number: u64, expires_at: u64) -> Record {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    let token = TokenFingerprint::from_bytes(bytes);
    Record::Revocation(Revocation::Token { token, expires_at: Timestamp::from_millis(expires_at) })
}

fn rule(up_to: u64) -> Revocation {
    Revocation::User { user: UserId::new("USER").unwrap(), up_to: Timestamp::from_millis(up_to) }
}

fn issued(expires_at: u64) -> Record {
    let key = [&7_u64.to_be_bytes()[..], &[1; 32]].concat();
    let value = [&expires_at.to_be_bytes()[..], b"\x04USER"].concat();
    let kind = crate::revocation::RecordKind::Issued;
    Record::from_parts(&RecordParts { kind, key, value, is_of_now: false }).unwrap()
}

fn lease(name: &str, incarnation: Incarnation, number: u64) -> LeaseRecord {
    let number = NonZeroU64::new(number).unwrap();
    LeaseRecord {
        node: node(name),
        incarnation,
        number,
        applied: LogPosition::new(number.get(), 1),
    }
}

async fn entries(place: &dyn Coordinator, term: &Term, after: LogPosition) -> Vec<LogEntry> {
    let (mut all, mut position) = (Vec::new(), after);
    loop {
        match place.follow(term.clone(), position, WAIT).await.unwrap() {
            Followed::Gap => panic!("a gap"),
            Followed::Entries(entries) => match entries.last() {
                Some(last) => {
                    position = last.position;
                    all.extend(entries);
                }
                None => return all,
            },
        }
    }
}

async fn image(place: &dyn Coordinator, term: &Term) -> BTreeSet<String> {
    let (mut records, mut cursor) = (BTreeSet::new(), None);
    loop {
        let part = place.image(term.clone(), cursor).await.unwrap();
        records.extend(part.records.iter().map(text));
        match part.next {
            Some(next) => cursor = Some(next),
            None => return records,
        }
    }
}

/// Returns a record as text. Unlike `Debug`, this text contains the fingerprint.
fn text(record: &Record) -> String {
    let RecordParts { kind, key, value, is_of_now } = record.parts();
    format!("{kind:?} {key:?} {value:?} {is_of_now}")
}

async fn assert_contract(place: &dyn Coordinator) {
    let join = || place.join(LEASE);
    let joined = join().await.unwrap();
    assert_eq!((joined.is_new, joined.last), (true, LogPosition::START));
    let again = join().await.unwrap();
    assert_eq!((again.is_new, &again.term), (false, &joined.term));
    // All nodes of a site have the same lease time.
    match place.join(LEASE * 2).await {
        Err(CoordinatorError::OtherLease { found, own, .. }) => {
            assert_eq!((found, own), (LEASE, LEASE * 2));
        }
        other => panic!("{other:?}"),
    }
    let term = joined.term;
    let publish = |from, records| place.publish(term.clone(), node(from), records);
    assert_eq!(entries(place, &term, LogPosition::START).await, []);

    let first = publish("a", vec![token(1, 5), Record::Revocation(rule(5)), issued(5)]).await;
    let first = first.unwrap();
    assert!(first > LogPosition::START);
    assert_eq!(join().await.unwrap().last, first);
    assert_eq!(entries(place, &term, LogPosition::START).await.len(), 3);
    let changing = [token(1, 10), Record::RuleOfNow(rule(4)), Record::Salt([1; 64]), token(2, 1)];
    let unchanged = [token(1, 9), Record::Revocation(rule(5)), issued(6), token(2, 1)];
    let all = [&changing[..], &unchanged].concat();
    let last = publish("b", all).await.unwrap();
    let new = entries(place, &term, first).await;
    assert_eq!(new.iter().map(|entry| entry.record.clone()).collect::<Vec<_>>(), changing);
    assert!(new.iter().all(|entry| entry.from == node("b")));
    assert!(new.is_sorted_by_key(|entry| entry.position));
    assert_eq!(new.last().unwrap().position, last);
    assert_eq!(publish("a", unchanged.to_vec()).await.unwrap(), last, "nothing has changed");
    let merged =
        [token(1, 10), Record::Revocation(rule(5)), issued(5), Record::Salt([1; 64]), token(2, 1)];
    assert_eq!(image(place, &term).await, merged.iter().map(text).collect());
    // A rule with the current time is merged, too.
    publish("a", vec![Record::RuleOfNow(rule(6))]).await.unwrap();
    assert!(image(place, &term).await.contains(&text(&Record::Revocation(rule(6)))));

    // The records of a large call are in the log in the same order.
    let many: Vec<_> = (0..MAX_PUBLISHED as u64).map(|number| token(100 + number, 7)).collect();
    let before = join().await.unwrap().last;
    publish("a", many.clone()).await.unwrap();
    let new = entries(place, &term, before).await;
    assert_eq!(new.into_iter().map(|entry| entry.record).collect::<Vec<_>>(), many);
    assert_eq!(image(place, &term).await.len(), 5 + MAX_PUBLISHED);

    // The place refuses only the salt that exceeds the limit.
    for number in 2..=16 {
        publish("a", vec![Record::Salt([number; 64])]).await.unwrap();
    }
    let position = join().await.unwrap().last;
    let refused = publish("b", vec![Record::Salt([17; 64]), token(3, 1)]).await.unwrap_err();
    assert!(matches!(refused, CoordinatorError::TooManySalts { .. }), "{refused}");
    publish("a", vec![Record::Salt([16; 64])]).await.unwrap();
    assert_eq!(join().await.unwrap().last, position);

    let (one, two) = (Incarnation::new(), Incarnation::new());
    let renew = |lease: LeaseRecord, replaced| place.renew(term.clone(), lease, replaced);
    let renewed = renew(lease("a", one, 1), None).await.unwrap();
    assert_eq!(renewed.leases, [lease("a", one, 1)]);
    assert_eq!(renewed.last, join().await.unwrap().last);
    renew(lease("a", one, 2), None).await.unwrap();
    // A renewal that arrives late does not replace a later renewal.
    let late = renew(lease("a", one, 1), None).await;
    assert!(matches!(late, Err(CoordinatorError::OtherTerm { .. })), "{late:?}");
    for replaced in [None, Some(two)] {
        match renew(lease("a", two, 1), replaced).await {
            Err(CoordinatorError::NameTaken { name, lease: stored }) => {
                assert_eq!((name, stored), (node("a"), lease("a", one, 2)));
            }
            other => panic!("{other:?}"),
        }
    }
    renew(lease("a", two, 1), Some(one)).await.unwrap();
    place.remove(term.clone(), lease("a", two, 2)).await.unwrap();
    assert_eq!(place.leases(term.clone()).await.unwrap(), [lease("a", two, 1)]);
    place.remove(term.clone(), lease("a", two, 1)).await.unwrap();
    assert_eq!(place.leases(term.clone()).await.unwrap(), []);

    let other = Term::new(&term.as_str().replace(|digit: char| digit.is_ascii_digit(), "0"));
    assert_ne!(other, term);
    let error = |error: CoordinatorError| {
        assert!(matches!(error, CoordinatorError::OtherTerm { .. }), "{error}");
    };
    error(place.publish(other.clone(), node("a"), vec![token(9, 9)]).await.unwrap_err());
    error(place.follow(other.clone(), LogPosition::START, WAIT).await.unwrap_err());
    error(place.image(other.clone(), None).await.unwrap_err());
    error(place.renew(other.clone(), lease("a", one, 3), None).await.unwrap_err());
    error(place.leases(other.clone()).await.unwrap_err());
    error(place.remove(other, lease("a", one, 3)).await.unwrap_err());
    assert_eq!(place.leases(term).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn the_simulated_place_keeps_the_contract() {
    let random = || fastrand::Rng::with_seed(7);
    assert_contract(&Network::new(Place::new(random()), random())).await;
}

#[tokio::test]
async fn redis_keeps_the_contract() {
    if !has_redis() {
        return;
    }
    let redis = Redis::start();
    let address = RedisAddress::from_url(&redis.url()).unwrap();
    let settings = RedisSettings::new(SiteName::new("prod").unwrap(), address);
    assert_contract(&RedisPlace::new(settings).unwrap()).await;
}
