//! Tests of the writer.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use redb::{Database, ReadableDatabase};
use tokio::sync::oneshot;

use super::{
    file::{FileId, open},
    tables::{META, last_reading},
    writer::{Command, PROBE_EVERY, Write, WriteStats, Writer},
    *,
};
use crate::{
    revocation::{issued::PatCounts, salt::Salt, trusted_time::TrustedReading},
    token::TokenFingerprint,
};

fn user(name: &str) -> Revocation {
    Revocation::User { user: UserId::new(name).unwrap(), up_to: Timestamp::from_secs(1) }
}

/// A new file and its writer. The database of the writer is closed, as it is after an error.
pub(super) struct Fixture {
    pub(super) directory: tempfile::TempDir,
    pub(super) path: PathBuf,
    pub(super) writer: Writer,
}

impl Fixture {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("revocations.redb");
        drop(DurableStore::create(&path).unwrap());
        let (_, salt) = open(&path).unwrap();
        let writer = Writer {
            name: path.display().to_string().into(),
            id: FileId::of(&path).unwrap(),
            salts: Arc::new(Salts::new(salt)),
            followed: Arc::default(),
            faults: Arc::default(),
            stats: Arc::new(WriteStats::new(&path)),
            database: None,
            index: Arc::default(),
            followers: Followers::default(),
            networks: Arc::default(),
            counts: PatCounts::default(),
            unwritten: Unwritten::default(),
            is_failing: false,
            #[cfg(feature = "redis")]
            has_committed: false,
            #[cfg(feature = "redis")]
            followed_is_newer: false,
            is_suspended: false,
            uptime: Box::new(Uptime::now),
            advanced: Uptime::now(),
            probed: Instant::now(),
            path: path.clone(),
        };
        Self { directory, path, writer }
    }

    /// Opens the file, as another process could. The writer cannot open the file until the returned database is
    /// dropped.
    fn block(&self) -> Database {
        open(&self.path).unwrap().0
    }
}

#[test]
fn after_a_failed_write_the_revocation_applies_and_the_next_write_works() {
    let fixture = Fixture::new();
    let database = fixture.block();
    let Fixture { directory: _directory, path, mut writer } = fixture;
    let faults = writer.faults.clone();
    let mut record = |name| {
        let (reply, mut answer) = oneshot::channel();
        writer.record(&mut vec![(Write::Revocation(user(name)), reply)]);
        (answer.try_recv().unwrap(), writer.index.entries().len())
    };

    let (failed, entries) = record("ONE");
    let text = failed.map(drop).unwrap_err().to_string();
    assert!(text.contains("revocations.redb could not be written"), "{text}");
    assert_eq!(entries, 1);
    assert_eq!((faults.count.get(), faults.last().is_some()), (1, true));

    drop(database);
    let (written, entries) = record("TWO");
    written.unwrap();
    assert_eq!(entries, 2);
    assert_eq!((faults.count.get(), faults.last().clone()), (1, None));

    // The file also contains the revocation whose write returned an error.
    drop(writer);
    assert_eq!(DurableStore::open(&path).unwrap().entries().len(), 2);
}

/// A node also reads its own records from the log that the nodes share.
#[cfg(feature = "redis")]
#[test]
fn records_that_the_file_has_are_not_committed_again() {
    use super::{load::load_followed, shared::SharedRecords, tables::SEALS};
    use crate::revocation::{Record, SALT_LEN};

    let Fixture { directory: _directory, path, mut writer } = Fixture::new();
    let write = |writer: &mut Writer, write| {
        let (reply, mut answer) = oneshot::channel();
        writer.record(&mut vec![(write, reply)]);
        answer.try_recv().unwrap()
    };
    let commits = |writer: &Writer| {
        let transaction = writer.database.as_ref().unwrap().begin_read().unwrap();
        let meta = transaction.open_table(META).unwrap();
        u64::from_be_bytes(meta.get(SEALS).unwrap().unwrap().value().try_into().unwrap())
    };
    let token = |number, expires_at| {
        let token = TokenFingerprint::from_bytes([number; 32]);
        Revocation::Token { token, expires_at: Timestamp::from_secs(expires_at) }
    };
    let written = write(&mut writer, Write::Revocation(token(1, 5))).unwrap();
    let Write::Revocation(own) = written.write else { panic!("another write") };
    write(&mut writer, Write::Revocation(user("ONE"))).unwrap();
    let salt = Record::Salt(*writer.salts.own().bytes());
    let known = [salt, Record::Revocation(own), Record::Revocation(user("ONE"))];
    let record = |number, expires_at| Record::Revocation(token(number, expires_at));
    for (position, (records, is_committed)) in [
        (known.to_vec(), false),
        (vec![record(2, 5)], true),
        (vec![record(2, 5), record(2, 4)], false),
        (vec![record(2, 6)], true),
        (vec![Record::Salt([7; SALT_LEN])], true),
        (vec![Record::Salt([7; SALT_LEN]), record(2, 6)], false),
        (vec![Record::RuleOfNow(user("ONE"))], true),
        (vec![record(2, 6), record(3, 1)], true),
        (known.to_vec(), false),
        (Vec::new(), true),
    ]
    .into_iter()
    .enumerate()
    {
        let followed = vec![u8::try_from(position).unwrap()];
        let shared = SharedRecords { records, followed: Some(followed.clone()) };
        let before = commits(&writer);
        write(&mut writer, Write::Shared(shared)).unwrap();
        assert_eq!(commits(&writer), before + u64::from(is_committed), "{position}");
        assert_eq!(writer.followed.lock().unwrap().as_ref(), Some(&followed));
        let stored = load_followed(writer.database.as_ref().unwrap()).unwrap();
        assert_eq!(stored == Some(followed), is_committed, "{position}");
    }
    let known_again = SharedRecords { records: known.to_vec(), followed: Some(vec![77]) };
    write(&mut writer, Write::Shared(known_again)).unwrap();
    write(&mut writer, Write::Revocation(user("TWO"))).unwrap();
    assert_eq!(load_followed(writer.database.as_ref().unwrap()).unwrap(), Some(vec![77]));

    // A record that could not be written applies, but is not in the file.
    let failing = || SharedRecords { records: vec![record(9, 5)], followed: Some(vec![99]) };
    let (away, before) = (path.with_extension("away"), commits(&writer));
    fs::rename(&path, &away).unwrap();
    assert!(write(&mut writer, Write::Shared(failing())).is_err());
    fs::rename(&away, &path).unwrap();
    write(&mut writer, Write::Shared(failing())).unwrap();
    assert_eq!(commits(&writer), before + 1);
}

#[test]
fn a_store_without_its_writer_thread_has_ended_and_writes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = DurableStore::create(directory.path().join("revocations.redb")).unwrap();
    assert!(!store.has_ended());
    // The writer thread ends when no sender for its commands is left.
    store.commands = None;
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while !store.has_ended() {
        assert!(std::time::Instant::now() < deadline);
        thread::yield_now();
    }
    let error = tokio_test::block_on(store.record(user("ONE"))).unwrap_err();
    assert!(matches!(error, StoreError::Ended { .. }), "{error}");
}

#[test]
fn a_probe_notices_a_removed_file_and_a_file_that_can_be_written_again() {
    let fixture = Fixture::new();
    let database = fixture.block();
    let Fixture { directory, path, mut writer } = fixture;
    let faults = writer.faults.clone();
    writer.probe();
    assert_eq!(faults.last().clone(), None);

    let away = directory.path().join("away");
    fs::rename(&path, &away).unwrap();
    writer.probe();
    let reason = faults.last().clone().unwrap();
    assert!(reason.contains("was removed or replaced"), "{reason}");
    fs::rename(&away, &path).unwrap();
    // `database` still has the file open, as another process could have.
    writer.probe();
    let reason = faults.last().clone().unwrap();
    assert!(reason.contains("could not be written"), "{reason}");
    drop(database);
    writer.probe();
    assert!(faults.last().is_none() && writer.database.is_some());
}

#[test]
fn a_suspended_store_lets_another_process_write_and_follows_it_when_it_resumes() {
    let Fixture { directory: _directory, path, .. } = Fixture::new();
    let store = DurableStore::open(&path).unwrap();
    tokio_test::block_on(store.record(user("ONE"))).unwrap();
    tokio_test::block_on(store.suspend()).unwrap();
    let other = DurableStore::open(&path).unwrap();
    assert_eq!(other.entries(), store.entries());
    let mut feed = other.follow();
    let refused = tokio_test::block_on(store.record(user("TWO")));
    assert!(matches!(refused, Err(StoreError::HandedOver { .. })));
    assert!(store.health().is_up());
    tokio_test::block_on(other.record(user("THREE"))).unwrap();
    let next = tokio_test::block_on(std::future::poll_fn(|cx| feed.poll_next(cx))).unwrap();
    store.apply_followed(&next);
    assert_eq!(store.entries(), other.entries());
    assert!(tokio_test::block_on(store.resume()).is_err());
    drop(other);
    tokio_test::block_on(store.resume()).unwrap();
    assert_eq!(store.entries().len(), 2);
    tokio_test::block_on(store.record(user("TWO"))).unwrap();
    drop(store);
    assert_eq!(DurableStore::open(&path).unwrap().entries().len(), 3);
}

#[test]
fn a_probe_writes_revocations_that_could_not_be_written_before() {
    let fixture = Fixture::new();
    let store = DurableStore::open(&fixture.path).unwrap();
    let pat = IssuedPat {
        token: TokenFingerprint::from_bytes([7; 32]),
        user: UserId::new("ONE").unwrap(),
        scopes: crate::token::Scopes::parse(["a"]).unwrap(),
        issued_at: Timestamp::from_secs(5),
        expires_at: Timestamp::from_secs(9),
    };
    tokio_test::block_on(store.register(pat)).unwrap();
    drop(store);
    let database = fixture.block();
    let Fixture { directory: _directory, path, mut writer } = fixture;
    let faults = writer.faults.clone();
    for write in [Write::RuleOfNow(user("ONE")), Write::Revocation(user("TWO"))] {
        let (reply, mut answer) = oneshot::channel();
        writer.record(&mut vec![(write, reply)]);
        assert!(answer.try_recv().unwrap().is_err());
    }
    drop(database);
    writer.probe();
    assert_eq!(faults.last().clone(), None);
    // The rule with the current time (see `record_rule_of_now`) also revoked the registered PAT.
    assert_eq!(writer.index.entries().len(), 3);
    drop(writer);
    assert_eq!(DurableStore::open(&path).unwrap().entries().len(), 3);
}

#[test]
fn the_store_stays_down_if_revocations_are_lost() {
    let fixture = Fixture::new();
    let database = fixture.block();
    let Fixture { directory: _directory, path, mut writer } = fixture;
    let faults = writer.faults.clone();
    let token = |i: u32| {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&i.to_le_bytes());
        let token = TokenFingerprint::from_bytes(bytes);
        Revocation::Token { token, expires_at: Timestamp::from_secs(1) }
    };
    // The first ten revocations occur twice. The writer keeps each of them only once.
    let tokens = (0..10).chain(0..10_003).map(token);
    let mut group = tokens.map(|r| (Write::Revocation(r), oneshot::channel().0)).collect();
    writer.record(&mut group);
    drop(database);
    for _ in 0..2 {
        writer.probe();
        let reason = faults.last().clone().unwrap();
        assert!(reason.starts_with("3 revocations are only in memory"), "{reason}");
    }
    drop(writer);
    assert_eq!(DurableStore::open(&path).unwrap().entries().len(), 10_000);
}

fn trusted(writer: &Writer) -> TrustedReading {
    let txn = writer.database.as_ref().unwrap().begin_read().unwrap();
    last_reading(&txn.open_table(META).unwrap()).unwrap().unwrap()
}

#[test]
fn the_trusted_time_is_stored_with_each_write_and_hourly() {
    let Fixture { directory: _directory, mut writer, .. } = Fixture::new();
    let secs = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let (read, set) = (secs.clone(), |to| secs.store(to, std::sync::atomic::Ordering::SeqCst));
    writer.uptime = Box::new(move || Uptime {
        boot: "boot".to_owned(),
        since_boot: Duration::from_secs(read.load(std::sync::atomic::Ordering::SeqCst)),
    });
    let record = |writer: &mut Writer| {
        let (reply, _answer) = oneshot::channel();
        writer.record(&mut vec![(Write::Revocation(user("ONE")), reply)]);
    };
    // The file contains a trusted time only after the first eviction.
    record(&mut writer);
    writer.evict(Timestamp::from_secs(1_000_000)).unwrap();
    set(10);
    record(&mut writer);
    assert_eq!(trusted(&writer).time, Timestamp::from_secs(1_000_010));
    for (now, want) in [(3609, 10), (3610, 3610), (3700, 3610), (7300, 7300)] {
        set(now);
        writer.probe();
        assert_eq!(trusted(&writer).time, Timestamp::from_secs(1_000_000 + want), "{now}");
    }
}

/// The program sends a command every second.
#[test]
fn a_probe_that_is_due_does_not_wait_for_a_pause_between_commands() {
    let Fixture { directory: _directory, path, mut writer } = Fixture::new();
    let faults = writer.faults.clone();
    fs::remove_file(&path).unwrap();
    let (sender, commands) = mpsc::channel();
    let mut next = |probed| {
        let (reply, _answer) = oneshot::channel();
        sender.send(Command::TrustClock(Timestamp::from_secs(1), reply)).unwrap();
        writer.probed = probed;
        assert!(matches!(writer.wait_for(&commands), Some(Command::TrustClock(..))));
    };
    next(Instant::now());
    assert_eq!(faults.last().clone(), None);
    next(Instant::now() - PROBE_EVERY);
    assert!(faults.last().is_some());
}

#[test]
fn the_writer_does_not_write_to_a_file_that_was_replaced() {
    let Fixture { directory: _directory, mut writer, .. } = Fixture::new();
    writer.salts = Arc::new(Salts::new(Salt::new([0; Salt::LEN])));
    let error = writer.evict(Timestamp::from_secs(1)).unwrap_err();
    assert!(error.to_string().contains("was removed or replaced"), "{error}");
}

mod access_tokens {
    use super::*;
    use crate::{
        revocation::{
            AccessTokenChange, AccessTokenOutcome, AccessTokenQuery, AccessTokenState,
            AccessTokenStore, RotatedPat, StoreError, TokenDescription,
            access_tokens::tests::{World, pat, test_common_behaviour},
            issued::MAX_PATS,
        },
        token::Scopes,
    };

    fn issue(pat: IssuedPat) -> AccessTokenChange {
        let description = TokenDescription::default();
        AccessTokenChange::Issue { pat, name: None, description, limit: 50 }
    }

    #[test]
    fn a_registry_in_a_file_behaves_like_all_registries() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("revocations.redb");
        drop(DurableStore::create(&path).unwrap());
        test_common_behaviour(|world| {
            drop(world);
            let store = Arc::new(DurableStore::open(&path).unwrap());
            World { tokens: store.clone(), revocations: store }
        });
    }

    /// The requests are sent without waiting for answers, so that one group can have several of them.
    #[test]
    fn one_of_many_concurrent_rotations_succeeds() {
        let Fixture { directory: _directory, path, .. } = Fixture::new();
        let store = DurableStore::open(&path).unwrap();
        let old = pat("old", "one", "a", 0);
        tokio_test::block_on(store.change(issue(old.clone()), old.issued_at)).unwrap();
        let rotations: Vec<_> = (0..20)
            .map(|number| {
                let token = TokenFingerprint::of(format!("{number}"));
                let new = IssuedPat { token, ..old.clone() };
                let old = RotatedPat::Verified(old.clone());
                let grace = Duration::ZERO;
                let change = AccessTokenChange::Rotate { old, new, grace, limit: 50 };
                store.change(change, Timestamp::from_secs(1_800_000_001))
            })
            .collect();
        let outcomes: Vec<_> =
            rotations.into_iter().map(|it| tokio_test::block_on(it).unwrap()).collect();
        let refused = |it: &&AccessTokenOutcome| **it == AccessTokenOutcome::AlreadyRotated;
        assert_eq!(outcomes.iter().filter(refused).count(), 19, "{outcomes:?}");
        let query = AccessTokenQuery::new(Some(old.user));
        let page = tokio_test::block_on(store.list(query, old.issued_at)).unwrap();
        let is_active = |state| state == AccessTokenState::Active;
        let active = page.tokens.iter().filter(|token| is_active(token.state)).count();
        assert_eq!((page.tokens.len(), active), (2, 1));
    }

    /// A rotation that comes after a revocation is refused, even if one commit contains both.
    #[test]
    fn a_rotation_in_the_same_commit_as_a_revocation_follows_their_order() {
        for is_revoked_first in [true, false] {
            let Fixture { directory: _directory, path: _path, mut writer } = Fixture::new();
            let old = pat("old", "one", "a", 0);
            let new = IssuedPat { token: TokenFingerprint::of("new"), ..old.clone() };
            let at = old.issued_at;
            let (reply, _answer) = oneshot::channel();
            writer.record(&mut vec![(Write::AccessTokens(issue(old.clone()), at), reply)]);
            let rotate = AccessTokenChange::Rotate {
                old: RotatedPat::Verified(old.clone()),
                new: new.clone(),
                grace: Duration::ZERO,
                limit: 50,
            };
            let (reply, mut rotated) = oneshot::channel();
            let mut group = vec![(Write::AccessTokens(rotate, at), reply)];
            let revocation = (Write::Revocation(old.revocation()), oneshot::channel().0);
            group.insert(usize::from(!is_revoked_first), revocation);
            writer.record(&mut group);
            let outcome = rotated.try_recv().unwrap().unwrap().outcome.unwrap();
            let is_rotated = matches!(outcome, AccessTokenOutcome::Token(_));
            assert_eq!(is_rotated, !is_revoked_first, "{outcome:?}");
            let query = AccessTokenQuery::new(Some(old.user));
            let page = writer.list_access_tokens(&query, at).unwrap();
            assert_eq!(page.tokens.len(), 1 + usize::from(is_rotated));
            assert!(writer.index.check_fingerprint(writer.salts.own().apply(old.token)).is_err());
            assert!(writer.index.check_fingerprint(writer.salts.own().apply(new.token)).is_ok());
        }
    }

    #[test]
    fn a_rotation_that_cannot_be_written_leaves_the_old_token_valid() {
        let fixture = Fixture::new();
        let store = DurableStore::open(&fixture.path).unwrap();
        let old = pat("old", "one", "a", 0);
        tokio_test::block_on(store.change(issue(old.clone()), old.issued_at)).unwrap();
        drop(store);
        let database = fixture.block();
        let Fixture { directory: _directory, path, mut writer } = fixture;
        let new = IssuedPat { token: TokenFingerprint::of("new"), ..old.clone() };
        let rotated = RotatedPat::Verified(old.clone());
        let change =
            AccessTokenChange::Rotate { old: rotated, new, grace: Duration::ZERO, limit: 50 };
        let (reply, mut answer) = oneshot::channel();
        writer.record(&mut vec![(Write::AccessTokens(change, old.issued_at), reply)]);
        assert!(answer.try_recv().unwrap().is_err());
        drop(database);
        writer.probe();
        drop(writer);
        let store = DurableStore::open(&path).unwrap();
        let query = AccessTokenQuery::new(Some(old.user));
        let page = tokio_test::block_on(store.list(query, old.issued_at)).unwrap();
        let states: Vec<_> = page.tokens.iter().map(|token| token.state).collect();
        assert_eq!(states, [AccessTokenState::Active]);
    }

    /// A program that often rotates its own PAT must not reach the maximum number of registered PATs of its user.
    #[test]
    fn revoked_tokens_leave_the_register_at_the_next_eviction() {
        let Fixture { directory: _directory, path: _path, mut writer } = Fixture::new();
        let start = pat("0", "one", "a", 0).issued_at;
        let write = |writer: &mut Writer, change| {
            let (reply, mut answer) = oneshot::channel();
            writer.record(&mut vec![(Write::AccessTokens(change, start), reply)]);
            answer.try_recv().unwrap().map(|written| written.outcome.unwrap())
        };
        let is_token = |outcome| matches!(outcome, Ok(AccessTokenOutcome::Token(_)));
        assert!(is_token(write(&mut writer, issue(pat("0", "one", "a", 0)))));
        let rotate = |number: u32, writer: &mut Writer| {
            let pat = |number: u32| pat(&number.to_string(), "one", "a", 0);
            let old = RotatedPat::Verified(pat(number - 1));
            let grace = Duration::ZERO;
            write(writer, AccessTokenChange::Rotate { old, new: pat(number), grace, limit: 50 })
        };
        for number in 1..MAX_PATS {
            assert!(is_token(rotate(number, &mut writer)), "{number}");
        }
        let refused = rotate(MAX_PATS, &mut writer);
        assert!(matches!(refused, Err(StoreError::TooManyPats { .. })), "{refused:?}");
        writer.evict(start).unwrap();
        assert!(is_token(rotate(MAX_PATS, &mut writer)));
        for number in 0..=MAX_PATS {
            let token = writer.salts.own().apply(TokenFingerprint::of(number.to_string()));
            let is_revoked = writer.index.check_fingerprint(token).is_err();
            assert_eq!(is_revoked, number < MAX_PATS, "{number}");
        }
    }

    /// Each node limits the entries that it registers itself. All entries together must have a limit, too.
    #[cfg(feature = "redis")]
    #[test]
    fn an_eviction_limits_the_entries_of_other_nodes_but_keeps_active_tokens() {
        use super::shared::SharedRecords;
        use crate::revocation::{
            AccessTokenRecord, Record,
            access_tokens::{Entry, MAX_ENTRIES},
        };

        let Fixture { directory: _directory, path: _path, mut writer } = Fixture::new();
        let start = pat("0", "one", "a", 0).issued_at;
        let later = start.plus(Duration::from_secs(2));
        let records = (0..MAX_ENTRIES + 500).map(|number| {
            let mut pat = pat(&number.to_string(), "one", "a", number as u64 % 7);
            if number >= 10 {
                pat.expires_at = start.plus(Duration::from_secs(1));
            }
            Record::AccessToken(AccessTokenRecord(Entry::new(&pat, Default::default())))
        });
        let other = pat("other", "two", "a", 0);
        let other = Record::AccessToken(AccessTokenRecord(Entry::new(&other, Default::default())));
        let records = records.chain([other]).collect();
        let (reply, _answer) = oneshot::channel();
        let shared = SharedRecords { records, followed: None };
        writer.record(&mut vec![(Write::Shared(shared), reply)]);
        writer.evict(later).unwrap();
        let mut count = |state, name: &str| {
            let mut query = AccessTokenQuery::new(UserId::new(name).ok());
            (query.state, query.limit) = (state, 100);
            let mut count = 0;
            loop {
                let page = writer.list_access_tokens(&query, later).unwrap();
                count += page.tokens.len();
                match page.next {
                    Some(next) => query.after = Some(next),
                    None => return count,
                }
            }
        };
        assert_eq!(count(None, "one"), MAX_ENTRIES - 1);
        assert_eq!(count(Some(AccessTokenState::Active), "one"), 10);
        assert_eq!(count(None, "two"), 1);
    }

    #[test]
    fn entries_are_removed_30_days_after_the_expiry() {
        let Fixture { directory: _directory, path: _path, mut writer } = Fixture::new();
        let mut early = pat("early", "one", "a", 0);
        early.expires_at = early.issued_at.plus(Duration::from_secs(86_400));
        early.scopes = Scopes::parse(["a"]).unwrap();
        let late = pat("late", "one", "a", 0);
        for pat in [&early, &late] {
            let (reply, _answer) = oneshot::channel();
            let write = Write::AccessTokens(issue(pat.clone()), pat.issued_at);
            writer.record(&mut vec![(write, reply)]);
        }
        let secs = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let read = secs.clone();
        writer.uptime = Box::new(move || Uptime {
            boot: "boot".to_owned(),
            since_boot: Duration::from_secs(read.load(std::sync::atomic::Ordering::SeqCst)),
        });
        let day = 86_400;
        let start = early.issued_at;
        let mut count_after = |days: u64| {
            secs.store(days * day, std::sync::atomic::Ordering::SeqCst);
            let now = start.plus(Duration::from_secs(days * day));
            writer.evict(now).unwrap();
            let query = AccessTokenQuery::new(Some(early.user));
            writer.list_access_tokens(&query, now).unwrap().tokens.len()
        };
        let counts = [0, 30, 31, 119, 120].map(&mut count_after);
        assert_eq!(counts, [2, 2, 1, 1, 0]);
        let (reply, _answer) = oneshot::channel();
        let write = Write::AccessTokens(issue(pat("new", "one", "a", 0)), start);
        writer.record(&mut vec![(write, reply)]);
        writer.uptime = Box::new(|| Uptime {
            boot: "boot".to_owned(),
            since_boot: Duration::from_secs(120 * 86_400),
        });
        writer.trust_clock(start).unwrap();
        writer.evict(start.plus(Duration::from_secs(1000 * day))).unwrap();
        let query = AccessTokenQuery::new(Some(early.user));
        assert_eq!(writer.list_access_tokens(&query, start).unwrap().tokens.len(), 1);
    }

    /// Prints the size of the file, and how long these actions take: a start, the registration of a PAT, the issue of a
    /// token, and a list of tokens. The environment variable `ENTRIES` sets the number of entries. Run it with `cargo
    /// test --release --features store --lib -- --ignored --nocapture many_entries`
    #[test]
    #[ignore = "takes minutes"]
    fn many_entries_cost_little() {
        use std::time::Instant;

        use super::super::tables::{Tables, commit};
        use crate::revocation::{TokenName, access_tokens::Entry};

        let count: u32 = std::env::var("ENTRIES").map_or(1_000_000, |it| it.parse().unwrap());
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("revocations.redb");
        drop(DurableStore::create(&path).unwrap());
        let (database, salt) = open(&path).unwrap();
        let salts = Salts::new(salt);
        let pat_of = |number: u32| IssuedPat {
            token: TokenFingerprint::of(number.to_le_bytes()),
            user: UserId::new(&format!("U{:06}", number / 20)).unwrap(),
            ..pat("x", "one", "files,jobs", number.into())
        };
        let fill = |revoked: bool| {
            for part in 0..count / 50_000 {
                let mut numbers: Vec<_> =
                    (part * 50_000..(part + 1) * 50_000).map(pat_of).collect();
                numbers.sort_by_key(|pat| (pat.user, salts.own().apply(pat.token)));
                commit(&database, |txn| {
                    let mut tables = Tables::open(txn)?;
                    for pat in &numbers {
                        let token = salts.own().apply(pat.token);
                        let pat = IssuedPat { token, ..pat.clone() };
                        if revoked {
                            tables.insert(&pat.revocation())?;
                        } else {
                            tables.register(&pat)?;
                        }
                    }
                    Ok(())
                })
                .unwrap();
            }
        };
        let start = |name: &str| {
            let begun = Instant::now();
            let store = DurableStore::open(&path).unwrap();
            let size = fs::metadata(&path).unwrap().len() / 1_000_000;
            println!("{name}: start {:?}, file {size} MB", begun.elapsed());
            store
        };
        fill(true);
        fill(false);
        drop(database);
        let new = |number: u32| IssuedPat {
            token: TokenFingerprint::of(format!("new {number}")),
            ..pat("x", "NEW", "files", 0)
        };
        let store = start("without entries");
        let begun = Instant::now();
        for number in 0..40 {
            tokio_test::block_on(store.register(new(number))).unwrap();
        }
        println!("register: {:?}", begun.elapsed() / 40);
        drop(store);
        let (database, _) = open(&path).unwrap();
        for part in 0..count / 50_000 {
            let mut pats: Vec<_> = (part * 50_000..(part + 1) * 50_000).map(pat_of).collect();
            pats.sort_by_key(|pat| (pat.user, salts.own().apply(pat.token)));
            commit(&database, |txn| {
                let mut tables = Tables::open(txn)?;
                for pat in &pats {
                    let token = salts.own().apply(pat.token);
                    let mut entry =
                        Entry::new(&IssuedPat { token, ..pat.clone() }, Default::default());
                    entry.label.name = TokenName::new("jenkins").ok();
                    tables.access_tokens.insert(
                        (entry.user.as_str(), *entry.token.as_bytes()),
                        entry.to_bytes().as_slice(),
                    )?;
                }
                Ok(())
            })
            .unwrap();
        }
        drop(database);
        let store = start("with entries");
        let begun = Instant::now();
        for number in 40..80 {
            tokio_test::block_on(store.change(issue(new(number)), new(number).issued_at)).unwrap();
        }
        println!("issue: {:?}", begun.elapsed() / 40);
        for user in [None, Some(pat_of(7).user)] {
            let begun = Instant::now();
            let query = AccessTokenQuery::new(user);
            let page = tokio_test::block_on(store.list(query, pat_of(0).issued_at)).unwrap();
            println!("list of {user:?}: {} in {:?}", page.tokens.len(), begun.elapsed());
        }
    }
}
