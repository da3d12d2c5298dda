//! Tests of the writer.

use std::{fs, path::PathBuf, sync::Arc, thread, time::Duration};

use redb::{Database, ReadableDatabase};
use tokio::sync::oneshot;

use super::{
    file::{FileId, open},
    tables::{META, last_reading},
    writer::{Write, Writer},
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

/// A node gets its own records back from the log.
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
    // Another write stores the position.
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
    // The other process still has the file open.
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

/// Returns the trusted time in the file.
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

#[test]
fn the_writer_does_not_write_to_a_file_that_was_replaced() {
    let Fixture { directory: _directory, mut writer, .. } = Fixture::new();
    writer.salts = Arc::new(Salts::new(Salt::new([0; Salt::LEN])));
    let error = writer.evict(Timestamp::from_secs(1)).unwrap_err();
    assert!(error.to_string().contains("was removed or replaced"), "{error}");
}
