//! Tests that a revocation survives `kill -9` at any moment after `DurableStore` has returned `Ok` for it.
//!
//! The test starts its own program as a child process. The child records revocations in a file. When the store has
//! returned `Ok` for a revocation, the child prints the number of this revocation. The test kills the child, opens the
//! file, and checks each revocation whose number any child has printed so far. The environment variable `CRASH_ROUNDS`
//! sets how often the test repeats this (default: 50).

#![expect(clippy::unwrap_used, reason = "test helpers may panic")]

use std::{
    env, fs,
    hash::{BuildHasher, RandomState},
    io::Read,
    ops::Range,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use test_support::pki;
use tower_passticket::{
    clock::{Clock, SystemClock, Timestamp},
    passticket::UserId,
    revocation::{DurableStore, OpenError, Revocation, RevocationCheck, RevocationStore},
    token::{Pat, Rs256Verifier, Scopes, SigningKey, TokenIssuer, Validity, VerifiedToken},
};

/// The name of the environment variable that contains the directory of the child's files.
const DIRECTORY: &str = "TOWER_PASSTICKET_CRASH_DIRECTORY";
/// The name of the environment variable that contains the number of the first PAT that the child revokes.
const FIRST: &str = "TOWER_PASSTICKET_CRASH_FIRST";

/// The number of PATs that one child revokes.
const PER_ROUND: usize = 60;
/// The number of tasks in a child that record revocations.
const WORKERS: usize = 4;

fn signing_key() -> SigningKey {
    SigningKey::from_pem(pki::SIGNING_KEY.as_bytes()).unwrap()
}

/// Issues `count` personal access tokens (PATs). Each has a different user and a different service, so that each
/// revocation affects only one PAT.
fn issue(directory: &Path, count: usize) {
    let issuer = TokenIssuer::new(signing_key());
    let pats: Vec<_> = (0..count)
        .map(|i| {
            let user = UserId::new(&format!("U{i}")).unwrap();
            let scopes = Scopes::parse([format!("s{i}")]).unwrap();
            let pat = issuer.personal_access_token(&user, &scopes, Validity::MAX).unwrap();
            pat.expose().to_owned()
        })
        .collect();
    fs::write(directory.join("pats"), pats.join("\n")).unwrap();
}

fn pats(directory: &Path, range: Range<usize>) -> Vec<Pat> {
    let verifier = Rs256Verifier::new(signing_key().verifying_key());
    let pats = fs::read_to_string(directory.join("pats")).unwrap();
    pats.lines()
        .skip(range.start)
        .take(range.len())
        .map(|text| {
            let Ok(VerifiedToken::Pat(pat)) = verifier.verify(text) else {
                panic!("expected a valid PAT")
            };
            pat
        })
        .collect()
}

fn revocation(i: usize, pat: &Pat) -> Revocation {
    match i % 3 {
        0 => Revocation::Token { token: pat.fingerprint(), expires_at: pat.expires_at() },
        1 => Revocation::User { user: *pat.user(), up_to: pat.issued_at() },
        _ => {
            let service = pat.scopes().iter().next().unwrap().clone();
            Revocation::Service { service, up_to: pat.issued_at() }
        }
    }
}

/// Runs the code of the child process. [`acknowledged_revocations_survive_a_kill`] sets the environment variable
/// [`DIRECTORY`], starts the child and kills it. Without this variable, this function does nothing.
#[tokio::test]
async fn child() {
    let Some(directory) = env::var_os(DIRECTORY) else { return };
    let directory = Path::new(&directory);
    let first: usize = env::var(FIRST).unwrap().parse().unwrap();
    let pats = Arc::new(pats(directory, first..first + PER_ROUND));
    let file = directory.join("revocations.redb");
    let store = match DurableStore::open(&file) {
        Err(OpenError::Missing { .. }) => DurableStore::create(&file),
        opened => opened,
    };
    let store = Arc::new(store.unwrap());
    println!("ready");
    let mut workers = Vec::new();
    for worker in 0..WORKERS {
        let (store, pats) = (store.clone(), pats.clone());
        workers.push(tokio::spawn(async move {
            for (i, pat) in pats.iter().enumerate().skip(worker).step_by(WORKERS) {
                store.record(revocation(first + i, pat)).await.unwrap();
                println!("{}", first + i);
                // Eviction (removal of expired records) compacts the file. The revocations must survive a kill during
                // eviction, too.
                if i % 16 == 0 {
                    let user = UserId::new(&format!("OLD{i}")).unwrap();
                    let up_to = Timestamp::from_secs(1);
                    store.record(Revocation::User { user, up_to }).await.unwrap();
                    store.evict(SystemClock.now()).await.unwrap();
                }
            }
        }));
    }
    for worker in workers {
        worker.await.unwrap();
    }
    thread::sleep(Duration::from_secs(60));
}

#[test]
fn acknowledged_revocations_survive_a_kill() {
    let rounds = env::var("CRASH_ROUNDS").map_or(50, |rounds| rounds.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    issue(directory.path(), rounds * PER_ROUND);
    let pats = pats(directory.path(), 0..rounds * PER_ROUND);
    let mut acknowledged = Vec::new();
    let mut killed_while_recording = 0;
    for round in 0..rounds {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture", "--quiet"])
            .env(DIRECTORY, directory.path())
            .env(FIRST, (round * PER_ROUND).to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // In every fourth round, the test may kill the child before the child has opened the file.
        let mut output = child.stdout.take().unwrap();
        let mut printed = Vec::new();
        if round % 4 != 0 {
            while !printed.ends_with(b"ready\n") {
                let mut byte = [0];
                output.read_exact(&mut byte).unwrap();
                printed.push(byte[0]);
            }
        }
        let random = RandomState::new().hash_one(round);
        thread::sleep(Duration::from_micros(random % 60_000));
        child.kill().unwrap();
        child.wait().unwrap();
        output.read_to_end(&mut printed).unwrap();

        let before = acknowledged.len();
        let printed = String::from_utf8(printed).unwrap();
        // The last line may be incomplete because of the kill. The test ignores an incomplete line.
        let complete = printed.rsplit_once('\n').map_or("", |(complete, _)| complete);
        acknowledged.extend(complete.lines().filter_map(|line| line.parse::<usize>().ok()));
        let in_this_round = acknowledged.len() - before;
        killed_while_recording += usize::from((1..PER_ROUND).contains(&in_this_round));

        let store = match DurableStore::open(directory.path().join("revocations.redb")) {
            // The child was killed before it created the file.
            Err(OpenError::Missing { .. }) if acknowledged.is_empty() => continue,
            opened => opened.unwrap(),
        };
        for i in &acknowledged {
            let checked = store.try_check_now(&pats[*i].clone().into()).unwrap();
            assert!(checked.is_err(), "round {round}: revocation {i} was lost");
        }
    }
    println!(
        "{rounds} rounds, {killed_while_recording} children killed while recording, {} revocations \
         acknowledged, none lost",
        acknowledged.len()
    );
    assert!(
        killed_while_recording * 4 >= rounds,
        "too few children were killed while recording: {killed_while_recording}"
    );
}
