//! Records that a node has applied survive `kill -9`: the file of the node has all records up to the position that it
//! contains.
//!
//! The test starts this program again as a child process. The child applies batches of records, and prints the number
//! of each batch that is applied. The test kills the child, opens the file, and checks the batches. It repeats this
//! `CRASH_ROUNDS` times (default: 10).

use std::{
    env,
    hash::{BuildHasher, RandomState},
    io::Read,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use tokio_test::block_on;

use super::*;
use crate::{
    clock::Timestamp,
    passticket::UserId,
    revocation::{IssuedRecord, OpenError, Revocation, SALT_LEN},
    token::TokenFingerprint,
};

/// The name of the environment variable that contains the directory of the child's file.
const DIRECTORY: &str = "TOWER_PASSTICKET_APPLY_DIRECTORY";

/// Returns the records of a batch. Each batch has 51 records, so that it needs several pages of the file.
fn batch(number: u64) -> Vec<Record> {
    let until = Timestamp::from_secs(4_000_000_000);
    let record = |i: u64| {
        let mut token = [0; 32];
        token[..8]
            .copy_from_slice(&(number * 50 + i).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        let token = TokenFingerprint::from_bytes(token);
        let user = UserId::new(&format!("U{number}")).unwrap();
        match i % 3 {
            0 => Record::Revocation(Revocation::Token { token, expires_at: until }),
            1 => Record::Revocation(Revocation::User { user, up_to: until }),
            _ => Record::Issued(IssuedRecord {
                token,
                user,
                scope_hashes: vec![7; 8],
                issued_at: until,
                expires_at: until,
            }),
        }
    };
    let salt = Record::Salt([u8::try_from(number % 3).unwrap(); SALT_LEN]);
    (0..50).map(record).chain([salt]).collect()
}

fn keys(records: &[Record]) -> std::collections::HashSet<Vec<u8>> {
    records.iter().map(|record| record.parts().key).collect()
}

fn position(number: u64) -> Followed {
    Followed { term: Term::new("term"), position: LogPosition::new(number, 0) }
}

/// Runs in the child process. Does nothing without the environment variable [`DIRECTORY`].
#[test]
fn child() {
    let Some(directory) = env::var_os(DIRECTORY) else { return };
    let file = Path::new(&directory).join("revocations.redb");
    let store = match DurableStore::open(&file) {
        Err(OpenError::Missing { .. }) => DurableStore::create(&file),
        opened => opened,
    };
    let store = store.unwrap();
    println!("ready");
    for number in last(&store) + 1.. {
        block_on(NodeMemory::apply(&store, batch(number), Some(position(number)))).unwrap();
        println!("{number}");
    }
}

/// Returns the number of the last applied batch, from the position that the store has saved.
fn last(store: &DurableStore) -> u64 {
    let followed = NodeMemory::followed(store).map(|followed| followed.position);
    let is_followed = |number: &u64| followed >= Some(LogPosition::new(*number, 0));
    (1..).take_while(is_followed).last().unwrap_or(0)
}

#[test]
fn applied_records_survive_a_kill() {
    let rounds = env::var("CRASH_ROUNDS").map_or(10, |rounds| rounds.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let (mut applied, mut in_a_batch) = (0, 0);
    for round in 0..rounds {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "cluster::durable_memory::crash::child", "--nocapture", "--quiet"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = child.stdout.take().unwrap();
        let mut printed = Vec::new();
        while !printed.ends_with(b"ready\n") {
            let mut byte = [0];
            output.read_exact(&mut byte).unwrap();
            printed.push(byte[0]);
        }
        // The test kills the child some time after the child has applied a random number of batches.
        let random = RandomState::new().hash_one(round);
        let lines = printed.iter().filter(|byte| **byte == b'\n').count();
        let last_line = lines + 1 + (random % 4) as usize;
        while printed.iter().filter(|byte| **byte == b'\n').count() < last_line {
            let mut byte = [0];
            output.read_exact(&mut byte).unwrap();
            printed.push(byte[0]);
        }
        thread::sleep(Duration::from_micros(random % 20_000));
        child.kill().unwrap();
        child.wait().unwrap();
        output.read_to_end(&mut printed).unwrap();
        let text = String::from_utf8(printed).unwrap();
        // The last line may be incomplete.
        let complete = text.rsplit_once('\n').map_or("", |(complete, _)| complete);
        let numbers = complete.lines().filter_map(|line| line.parse::<u64>().ok());
        applied = numbers.max().unwrap_or(applied);

        let store = DurableStore::open(directory.path().join("revocations.redb")).unwrap();
        let last = last(&store);
        assert!(last >= applied, "batch {applied} was confirmed, but the position is {last}");
        in_a_batch += u32::from(last > applied);
        let mut records = Vec::new();
        loop {
            let part = block_on(NodeMemory::export(&store, records.last().cloned(), 1000)).unwrap();
            if part.is_empty() {
                break;
            }
            records.extend(part);
        }
        let stored = keys(&records);
        for number in 1..=last {
            assert!(keys(&batch(number)).is_subset(&stored), "batch {number} of {last} is lost");
        }
    }
    println!(
        "{rounds} rounds, {applied} batches, {in_a_batch} kills after a batch was stored and before it was confirmed"
    );
    assert!(applied > 0);
}
