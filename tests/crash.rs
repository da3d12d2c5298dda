//! Tests that a revocation survives `kill -9` at any moment after `DurableStore` has returned `Ok` for it.
//!
//! The test starts its own program as a child process. The child records revocations in a file. After the store has
//! returned `Ok` for a revocation, the child prints the number of this revocation. The test kills the child and opens
//! the file. Then it checks each revocation whose number this child or an earlier child has printed. The environment
//! variable `CRASH_ROUNDS` sets the number of repetitions (default: 50).

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
    clock::{Clock, ManualClock, SystemClock, Timestamp},
    passticket::UserId,
    revocation::{
        AccessTokenChange, AccessTokenOutcome, AccessTokenQuery, AccessTokenState,
        AccessTokenStore, DurableStore, IssuedPat, OpenError, Revocation, RevocationCheck,
        RevocationStore, RotatedPat, TokenDescription,
    },
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

/// Issues Personal Access Tokens (PATs) for different users and services, so that each revocation affects only one PAT.
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
            let service = pat.scopes().services().next().unwrap().clone();
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

fn child_process(name: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture", "--quiet"]).stdout(Stdio::piped());
    command
}

/// When the delay before the kill begins.
#[derive(PartialEq)]
enum Start {
    /// At the start of the process.
    Running,
    /// When the child has printed `ready`.
    Ready,
}

/// Returns the numbers that the child has printed.
fn kill_after(mut command: Command, start: Start, delay: Duration) -> Vec<usize> {
    let mut child = command.spawn().unwrap();
    let mut output = child.stdout.take().unwrap();
    let mut printed = Vec::new();
    while start == Start::Ready && !printed.ends_with(b"ready\n") {
        let mut byte = [0];
        output.read_exact(&mut byte).unwrap();
        printed.push(byte[0]);
    }
    thread::sleep(delay);
    child.kill().unwrap();
    child.wait().unwrap();
    output.read_to_end(&mut printed).unwrap();
    let printed = String::from_utf8(printed).unwrap();
    // The last line may be incomplete because of the kill. An incomplete line does not count.
    let complete = printed.rsplit_once('\n').map_or("", |(complete, _)| complete);
    complete.lines().filter_map(|line| line.parse().ok()).collect()
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
        let mut command = child_process("child");
        command.env(DIRECTORY, directory.path()).env(FIRST, (round * PER_ROUND).to_string());
        // In every fourth round, the test may kill the child before the child has opened the file.
        let start = if round % 4 == 0 { Start::Running } else { Start::Ready };
        let random = RandomState::new().hash_one(round);
        let before = acknowledged.len();
        acknowledged.extend(kill_after(command, start, Duration::from_micros(random % 60_000)));
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

/// The name of the environment variable that contains the directory in which [`rotating_child`] stores its file.
const ROTATE: &str = "TOWER_PASSTICKET_ROTATE_DIRECTORY";

/// Runs in the child process of [`a_kill_leaves_exactly_one_token_of_a_rotated_chain`]. It replaces the active token of
/// the user again and again, and prints the number of each new token that is stored.
#[tokio::test]
async fn rotating_child() {
    let Some(directory) = env::var_os(ROTATE) else { return };
    let directory = Path::new(&directory);
    let pats: Vec<_> = pats(directory, 0..PER_ROUND).iter().map(IssuedPat::from).collect();
    let store = DurableStore::open(directory.join("revocations.redb")).unwrap();
    let now = SystemClock.now();
    let page = store.list(AccessTokenQuery::new(None), now).await.unwrap();
    let known = page.tokens.len();
    println!("ready");
    for (number, pat) in pats.iter().enumerate().skip(known) {
        let (pat, limit) = (pat.clone(), 2);
        let change = match number.checked_sub(1) {
            None => {
                let description = TokenDescription::default();
                AccessTokenChange::Issue { pat, name: None, description, limit }
            }
            Some(old) => {
                let old = RotatedPat::Verified(pats[old].clone());
                AccessTokenChange::Rotate { old, new: pat, grace: Duration::ZERO, limit }
            }
        };
        let outcome = store.change(change, now).await.unwrap();
        assert!(matches!(outcome, AccessTokenOutcome::Token(_)), "{number}: {outcome:?}");
        println!("{number}");
    }
    thread::sleep(Duration::from_secs(60));
}

/// A rotation is stored completely or not at all. So after a kill, there is exactly one active token, unless no token
/// was stored yet.
#[test]
fn a_kill_leaves_exactly_one_token_of_a_rotated_chain() {
    let directory = tempfile::tempdir().unwrap();
    let issuer =
        TokenIssuer::new(signing_key()).with_clock(Arc::new(ManualClock::new(SystemClock.now())));
    let (user, scopes) = (UserId::new("USER").unwrap(), Scopes::parse(["a"]).unwrap());
    let issue = |_| {
        let pat = issuer.personal_access_token(&user, &scopes, Validity::MAX).unwrap();
        pat.expose().to_owned()
    };
    let texts: Vec<_> = (0..PER_ROUND).map(issue).collect();
    fs::write(directory.path().join("pats"), texts.join("\n")).unwrap();
    let file = directory.path().join("revocations.redb");
    drop(DurableStore::create(&file).unwrap());
    let (mut acknowledged, mut kills) = (0, 0);
    while acknowledged + 1 < PER_ROUND && kills < 100 {
        let mut command = child_process("rotating_child");
        command.env(ROTATE, directory.path());
        let delay = Duration::from_micros(RandomState::new().hash_one(kills) % 40_000);
        let numbers = kill_after(command, Start::Ready, delay);
        acknowledged = numbers.into_iter().max().unwrap_or(acknowledged);
        kills += 1;

        let store = DurableStore::open(&file).unwrap();
        let page = store.list(AccessTokenQuery::new(None), SystemClock.now());
        let tokens = tokio_test::block_on(page).unwrap().tokens;
        let is_active = |state| state == AccessTokenState::Active;
        let active = tokens.iter().filter(|token| is_active(token.state)).count();
        assert_eq!(active, tokens.len().min(1), "after {kills} kills: {tokens:?}");
        assert!(tokens.len() > acknowledged || acknowledged == 0, "{acknowledged}");
        for (number, pat) in pats(directory.path(), 0..tokens.len()).into_iter().enumerate() {
            let checked = store.try_check_now(&pat.into()).unwrap();
            assert_eq!(checked.is_ok(), number + 1 == tokens.len(), "token {number}");
        }
    }
    println!("{kills} kills, {acknowledged} rotations");
    assert!(kills > 1);
}
