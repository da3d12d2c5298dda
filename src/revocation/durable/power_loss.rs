//! A model of a power failure. A confirmed revocation must be in every file that can be on the disk after a power
//! failure.
//!
//! The test records the order in which the database writes to its file. For every third event of this record, the test
//! makes files that a disk may contain after a power failure at this event. These rules apply:
//!
//! - All data that was written before the last `sync_data` is on the disk.
//! - Of the sectors and length changes that were written later, any subset may be on the disk.

use std::{
    collections::BTreeSet,
    fmt, fs, io,
    sync::{Arc, Mutex, MutexGuard},
};

use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend};
use tokio::sync::oneshot;

use super::{
    file::builder,
    load::{load, open_if_present},
    tables::{ACCESS_TOKENS, ISSUED, TOKENS},
    tests::Fixture,
    writer::{Write, Writer},
};
#[cfg(feature = "redis")]
use super::{load::load_followed, shared::SharedRecords};
#[cfg(feature = "redis")]
use crate::revocation::{IssuedRecord, Record, SALT_LEN};
use crate::{
    clock::Timestamp,
    passticket::UserId,
    revocation::{
        AccessTokenChange, IssuedPat, Revocation, RevocationIndex, RotatedPat, TokenDescription,
        access_tokens::Entry,
    },
    token::{Scopes, TokenFingerprint},
};

/// A disk writes a sector completely or not at all.
const SECTOR: usize = 512;

/// The number of random files for each event, in addition to two special files. One special file has all writes after
/// the last `sync_data`. The other has none of them.
const RANDOM_FILES: usize = 3;

const EXPIRED: usize = 3;

enum Event {
    Written {
        at: usize,
        bytes: Vec<u8>,
    },
    Resized {
        to: usize,
    },
    Synced,
    /// The writer has confirmed all writes of one more round of [`recorded`], except the eviction.
    Confirmed,
}

#[derive(Default)]
struct Recording {
    file: Vec<u8>,
    events: Vec<Event>,
}

/// A file in memory that records its changes.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Recording>>);

impl Recorder {
    fn lock(&self) -> MutexGuard<'_, Recording> {
        self.0.lock().unwrap()
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

impl StorageBackend for Recorder {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().file.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = usize::try_from(offset).unwrap();
        let record = self.lock();
        let bytes = record.file.get(at..at + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let to = usize::try_from(len).unwrap();
        let record = &mut *self.lock();
        record.file.resize(to, 0);
        record.events.push(Event::Resized { to });
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.lock().events.push(Event::Synced);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let at = usize::try_from(offset).unwrap();
        let record = &mut *self.lock();
        record.file[at..at + data.len()].copy_from_slice(data);
        record.events.push(Event::Written { at, bytes: data.to_owned() });
        Ok(())
    }
}

enum Unsynced {
    Lost,
    Kept,
    Mixed(Random),
}

impl Unsynced {
    fn is_kept(&mut self) -> bool {
        match self {
            Self::Lost => false,
            Self::Kept => true,
            Self::Mixed(random) => random.next() % 2 == 0,
        }
    }
}

/// The random number generator SplitMix64. Its numbers are the same in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Returns the file after `events`. `unsynced` says which writes after the last `sync_data` have reached the disk.
fn after_power_loss(first: &[u8], events: &[Event], mut unsynced: Unsynced) -> Vec<u8> {
    let synced = events.iter().rposition(|event| matches!(event, Event::Synced)).unwrap_or(0);
    let mut file = first.to_owned();
    for (i, event) in events.iter().enumerate() {
        let mut is_kept = || i < synced || unsynced.is_kept();
        match event {
            Event::Resized { to } if is_kept() => file.resize(*to, 0),
            Event::Written { at, bytes } => {
                for (n, sector) in bytes.chunks(SECTOR).enumerate() {
                    let start = at + n * SECTOR;
                    // If the change of the length is lost, the sectors after the end of the file are also lost.
                    if is_kept()
                        && let Some(room) = file.get_mut(start..start + sector.len())
                    {
                        room.copy_from_slice(sector);
                    }
                }
            }
            Event::Resized { .. } | Event::Synced | Event::Confirmed => {}
        }
    }
    file
}

fn rule(i: usize) -> Revocation {
    // The time is in the future, so that the eviction keeps the revocation.
    let up_to = Timestamp::from_secs(4_000_000_000);
    Revocation::User { user: UserId::new(&format!("U{i}")).unwrap(), up_to }
}

fn expired(i: usize) -> Revocation {
    let mut token = [0xff; 32];
    token[0] = u8::try_from(i).unwrap();
    let token = TokenFingerprint::from_bytes(token);
    Revocation::Token { token, expires_at: Timestamp::from_secs(1) }
}

/// Returns a salt, a PAT and a rule of another node. The position in the log is `i`.
#[cfg(feature = "redis")]
fn shared(i: usize) -> Write {
    let until = Timestamp::from_secs(4_000_000_000);
    let user = UserId::new(&format!("S{i}")).unwrap();
    let token = TokenFingerprint::from_bytes([u8::try_from(i).unwrap(); 32]);
    let issued = IssuedRecord {
        token,
        user,
        scope_hashes: vec![7; 800],
        issued_at: until,
        expires_at: until,
    };
    let records = vec![
        Record::Salt([9; SALT_LEN]),
        Record::Issued(issued),
        Record::Revocation(shared_rule(i)),
    ];
    Write::Shared(SharedRecords { records, followed: Some(vec![u8::try_from(i).unwrap()]) })
}

#[cfg(feature = "redis")]
fn shared_rule(i: usize) -> Revocation {
    let up_to = Timestamp::from_secs(4_000_000_000);
    Revocation::User { user: UserId::new(&format!("S{i}")).unwrap(), up_to }
}

/// Returns a change that issues PAT 0, or that replaces PAT `i - 1` by PAT `i` without a grace period.
fn token_change(i: usize) -> AccessTokenChange {
    let until = Timestamp::from_secs(4_000_000_000);
    let pat = |i: usize| IssuedPat {
        token: TokenFingerprint::of(format!("pat {i}")),
        user: UserId::new("ROTATED").unwrap(),
        scopes: Scopes::parse(["a"]).unwrap(),
        issued_at: until,
        expires_at: until,
    };
    match i.checked_sub(1) {
        None => AccessTokenChange::Issue {
            pat: pat(i),
            name: None,
            description: TokenDescription::default(),
            limit: 50,
        },
        Some(old) => AccessTokenChange::Rotate {
            old: RotatedPat::Verified(pat(old)),
            new: pat(i),
            grace: std::time::Duration::ZERO,
            limit: 50,
        },
    }
}

/// Checks that each rotation is in the file completely or not at all. After a rotation, the old PAT is revoked, and the
/// new PAT is registered or already revoked, too. Returns the number of entries.
fn check_rotations(database: &Database) -> Result<usize, redb::Error> {
    let txn = database.begin_read()?;
    let Some(table) = open_if_present(&txn, ACCESS_TOKENS)? else { return Ok(0) };
    let (tokens, issued) = (txn.open_table(TOKENS)?, txn.open_table(ISSUED)?);
    let torn = || redb::Error::Corrupted("a rotation is incomplete".to_owned());
    let (mut entries, mut successors) = (Vec::new(), BTreeSet::new());
    for row in table.iter()? {
        let (key, bytes) = row?;
        let token = TokenFingerprint::from_bytes(key.value().1);
        let user = UserId::new("ROTATED").unwrap();
        let entry = Entry::from_bytes(user, token, bytes.value()).map_err(|_| torn())?;
        successors.extend(entry.rotation.map(|it| it.successor.to_string()));
        entries.push(entry);
    }
    for entry in &entries {
        let is_revoked = tokens.get(entry.token.as_bytes())?.is_some();
        let key = (entry.issued_at.as_millis(), *entry.token.as_bytes());
        // An eviction removes a revoked PAT from the register.
        let is_registered = is_revoked || issued.get(key)?.is_some();
        if is_revoked != entry.rotation.is_some() || !is_registered {
            return Err(torn());
        }
        successors.remove(&entry.id().to_string());
    }
    if !successors.is_empty() {
        return Err(torn());
    }
    Ok(entries.len())
}

/// Writes revocations, records of other nodes and expired revocations, and evicts. Returns the first file and the
/// recorded events.
fn recorded() -> (Vec<u8>, Vec<Event>) {
    let Fixture { directory: _directory, path, mut writer } = Fixture::new();
    let recorder = Recorder::default();
    let first = fs::read(&path).unwrap();
    recorder.lock().file = first.clone();
    let database = Database::builder().create_with_backend(recorder.clone()).unwrap();
    writer.database = Some(database);
    let write = |writer: &mut Writer, write| {
        let (reply, mut answer) = oneshot::channel();
        writer.record(&mut vec![(write, reply)]);
        answer.try_recv().unwrap().unwrap();
    };
    let record = |writer: &mut Writer, revocation| write(writer, Write::Revocation(revocation));
    for i in 0..6 {
        for n in 0..EXPIRED {
            record(&mut writer, expired(EXPIRED * i + n));
        }
        record(&mut writer, rule(i));
        #[cfg(feature = "redis")]
        write(&mut writer, shared(i));
        let (change, now) = (token_change(i), Timestamp::from_secs(1));
        write(&mut writer, Write::AccessTokens(change, now));
        recorder.lock().events.push(Event::Confirmed);
        if i % 2 == 1 {
            let evicted = writer.evict(Timestamp::from_secs(1_000_000_000)).unwrap();
            assert_eq!(evicted.tokens, 2 * EXPIRED);
        }
    }
    drop(writer);
    let events = std::mem::take(&mut recorder.lock().events);
    (first, events)
}

fn confirmed_entries(count: usize) -> BTreeSet<String> {
    let index = RevocationIndex::default();
    (0..count).for_each(|i| index.apply(&rule(i)));
    #[cfg(feature = "redis")]
    (0..count).for_each(|i| index.apply(&shared_rule(i)));
    index.entries()
}

/// Opens a file as [`open`](super::file::open) does, but in memory. Returns its revocations and the number of its
/// registry entries. Fails if the position in the log is ahead of the records in the file, or if a rotation is
/// incomplete.
fn entries(file: Vec<u8>) -> Result<(BTreeSet<String>, usize), redb::Error> {
    let recorder = Recorder::default();
    recorder.lock().file = file;
    let database = builder().create_with_backend(recorder)?;
    let entries = load(&database)?.entries();
    #[cfg(feature = "redis")]
    if let Some([followed]) = load_followed(&database)?.as_deref() {
        let index = RevocationIndex::default();
        (0..=usize::from(*followed)).for_each(|i| index.apply(&shared_rule(i)));
        if !index.entries().is_subset(&entries) {
            return Err(redb::Error::Corrupted("the position is ahead of the records".to_owned()));
        }
    }
    Ok((entries, check_rotations(&database)?))
}

/// Returns a message for each file that cannot be opened or has lost a confirmed revocation, and the number of all
/// files.
fn losses(first: &[u8], events: &[Event]) -> (Vec<String>, usize) {
    let (mut losses, mut files) = (Vec::new(), 0);
    for end in (0..=events.len()).step_by(3) {
        let events = &events[..end];
        let confirmed = events.iter().filter(|event| matches!(event, Event::Confirmed)).count();
        let (registered, confirmed) = (confirmed, confirmed_entries(confirmed));
        let random = (0..RANDOM_FILES).map(|n| Random((end * RANDOM_FILES + n) as u64));
        let all = [Unsynced::Lost, Unsynced::Kept].into_iter().chain(random.map(Unsynced::Mixed));
        for (n, unsynced) in all.enumerate() {
            files += 1;
            let loss = match entries(after_power_loss(first, events, unsynced)) {
                Err(error) => Some(error.to_string()),
                Ok((entries, tokens)) if confirmed.is_subset(&entries) && tokens >= registered => {
                    None
                }
                Ok(_) => Some("a confirmed revocation is lost".to_owned()),
            };
            losses.extend(loss.map(|loss| format!("after event {end}, file {n}: {loss}")));
        }
    }
    (losses, files)
}

#[test]
fn a_power_failure_loses_no_confirmed_revocation() {
    let (first, events) = recorded();
    let (losses, files) = losses(&first, &events);
    println!("{files} files, {} events", events.len());
    assert!(files > 900, "{files}");
    assert!(losses.is_empty(), "of {files} files: {losses:#?}");
}

/// Shows that the model finds the losses of a store that does not wait for the disk.
#[test]
fn without_syncs_a_power_failure_loses_confirmed_revocations() {
    let (first, mut events) = recorded();
    events.retain(|event| !matches!(event, Event::Synced));
    events.truncate(200);
    assert!(!losses(&first, &events).0.is_empty());
}
