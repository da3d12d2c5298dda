//! The behaviour of every store, and the damage that the store in a file must survive.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use proptest::prelude::*;
use test_support::pki;
use tokio_test::block_on;

use super::*;
use crate::{
    clock::ManualClock,
    token::{Jwt, Pat, Rs256Verifier, Scopes, SigningKey, TokenIssuer},
};

/// In milliseconds, within a second.
const NOW: u64 = 1_800_000_000_400;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

static KEY: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::from_pem(pki::SIGNING_KEY.as_bytes()).unwrap());

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(at(NOW)))
}

fn pat(name: &str, scopes: &str, issued_at: u64, days: i64) -> Pat {
    let clock = clock();
    clock.set(at(issued_at));
    let token = TokenIssuer::new(KEY.clone())
        .with_clock(clock.clone())
        .personal_access_token(
            &UserId::new(name).unwrap(),
            &Scopes::parse([scopes]).unwrap(),
            Validity::requested(Some(days)),
        )
        .unwrap();
    let verifier = Rs256Verifier::new(KEY.verifying_key()).with_clock(clock);
    let Ok(VerifiedToken::Pat(pat)) = verifier.verify(token.expose()) else { panic!() };
    pat
}

fn login_token(name: &str) -> Jwt {
    let issuer = TokenIssuer::new(KEY.clone()).with_clock(clock());
    let token = issuer.login_token(&UserId::new(name).unwrap(), "domain").unwrap();
    let verifier = Rs256Verifier::new(KEY.verifying_key()).with_clock(clock());
    let Ok(VerifiedToken::Jwt(jwt)) = verifier.verify(token.expose()) else { panic!() };
    jwt
}

fn token(pat: &Pat) -> Revocation {
    Revocation::Token { token: pat.fingerprint(), expires_at: pat.expires_at() }
}

fn user(name: &str, up_to: u64) -> Revocation {
    Revocation::User { user: UserId::new(name).unwrap(), up_to: at(up_to) }
}

fn service(id: &str, up_to: u64) -> Revocation {
    Revocation::Service { service: ServiceId::new(id).unwrap(), up_to: at(up_to) }
}

const BY_TOKEN: Result<(), CheckError> = Err(CheckError::Revoked(RevokedBy::Token));
const BY_USER: Result<(), CheckError> = Err(CheckError::Revoked(RevokedBy::UserRule));
const BY_SERVICE: Result<(), CheckError> = Err(CheckError::Revoked(RevokedBy::ServiceRule));

/// Both ways to check must agree.
fn check<S: RevocationStore, T: Clone + Into<VerifiedToken>>(
    store: &S,
    token: &T,
) -> Result<(), CheckError> {
    let token = token.clone().into();
    let checked = block_on(store.check_token(&token));
    assert_eq!(store.try_check_now(&token), Some(checked));
    checked
}

/// The behaviour of every store. `reopen` gives a store with the same
/// revocations.
fn conformance<S: RevocationStore>(mut reopen: impl FnMut(Option<S>) -> S) {
    let store = reopen(None);
    let record = |store: &S, revocation| block_on(store.record(revocation)).unwrap();

    // A token, and not another one with the same claims.
    let (revoked, like_it) = (pat("one", "a", NOW, 90), pat("one", "a", NOW, 90));
    record(&store, token(&revoked));
    assert_eq!(check(&store, &revoked), BY_TOKEN);
    assert_eq!(check(&store, &like_it), Ok(()));

    // Two PATs of the same second, around a rule.
    let (before, after) = (pat("two", "b", NOW, 90), pat("two", "b", NOW + 1, 90));
    assert_eq!(before.issued_at().as_secs(), after.issued_at().as_secs());
    record(&store, user("TWO", NOW));
    assert_eq!((check(&store, &before), check(&store, &after)), (BY_USER, Ok(())));
    let (before, after) = (pat("three", "c,d", NOW, 90), pat("three", "c,d", NOW + 1, 90));
    record(&store, service("D", NOW));
    assert_eq!((check(&store, &before), check(&store, &after)), (BY_SERVICE, Ok(())));

    // A later rule never lowers a time.
    record(&store, user("two", NOW - 5));
    record(&store, service("d", 0));
    let of_two = pat("two", "b", NOW, 90);
    assert_eq!((check(&store, &of_two), check(&store, &before)), (BY_USER, BY_SERVICE));

    // Of many concurrent rules, the highest time stays.
    let mut times: Vec<_> = (0..100).map(|i| NOW + i * 37 % 100).collect();
    let answers: Vec<_> = times.iter().map(|t| store.record(user("four", *t))).collect();
    answers.into_iter().for_each(|answer| block_on(answer).unwrap());
    times.sort_unstable();
    let (last, later) = (*times.last().unwrap(), pat("four", "a", NOW + 100, 90));
    assert_eq!(
        (check(&store, &pat("four", "a", last, 90)), check(&store, &later)),
        (BY_USER, Ok(()))
    );

    // Login tokens are revoked by themselves, not by rules.
    let (logged_out, logged_in) = (login_token("five"), login_token("five"));
    record(&store, user("five", NOW + DAY_MS));
    let of_login =
        Revocation::Token { token: logged_out.fingerprint(), expires_at: logged_out.expires_at() };
    record(&store, of_login);
    let login = |store: &S| (check(store, &logged_out), check(store, &logged_in));
    assert_eq!(login(&store), (BY_TOKEN, Ok(())));

    // A record whose future was dropped is stored before the next one is acknowledged.
    drop(store.record(user("six", NOW)));
    record(&store, user("seven", NOW));
    let of_six = pat("six", "a", NOW, 90);
    assert_eq!(check(&store, &of_six), BY_USER);

    // A reopened store has all revocations.
    let store = reopen(Some(store));
    assert_eq!((check(&store, &revoked), check(&store, &like_it)), (BY_TOKEN, Ok(())));
    assert_eq!((check(&store, &of_two), check(&store, &before)), (BY_USER, BY_SERVICE));
    assert_eq!((check(&store, &of_six), check(&store, &later)), (BY_USER, Ok(())));
    assert_eq!(login(&store), (BY_TOKEN, Ok(())));

    // Eviction removes only what can hit no token any more.
    let evict = |store: &S, now| {
        let Evicted { tokens, users, services } = block_on(store.evict(at(now))).unwrap();
        (tokens, users, services)
    };
    assert_eq!(evict(&store, NOW), (0, 0, 0));
    let login_ends = logged_out.expires_at().as_millis();
    assert_eq!(evict(&store, login_ends), (1, 0, 0));
    assert_eq!(evict(&store, revoked.expires_at().as_millis() - 1), (0, 0, 0));
    assert_eq!(check(&store, &revoked), BY_TOKEN);
    // TWO, SIX, SEVEN and the service stand at NOW, FOUR 99 ms and FIVE a day later.
    assert_eq!(evict(&store, NOW + 90 * DAY_MS), (1, 0, 0));
    assert_eq!(check(&store, &of_six), BY_USER);
    assert_eq!(evict(&store, NOW + 90 * DAY_MS + 1), (0, 3, 1));
    let store = reopen(Some(store));
    assert_eq!(check(&store, &of_six), Ok(()));
    assert_eq!(check(&store, &later), Ok(()));
    assert_eq!(evict(&store, NOW + 92 * DAY_MS), (0, 2, 0));
}

#[test]
fn the_index_conforms() {
    conformance::<RevocationIndex>(Option::unwrap_or_default);
    conformance::<Arc<RevocationIndex>>(Option::unwrap_or_default);
}

/// A step of the model test.
#[derive(Clone, Debug)]
enum Step {
    Token(usize),
    User(usize, u64),
    Service(usize, u64),
    Evict,
    Later(u64),
    Reopen,
}

/// Times that rules and PATs share, so that rules hit PATs.
const TIMES: [u64; 6] = [NOW - DAY_MS, NOW - 1, NOW, NOW + 1, NOW + 1000, NOW + DAY_MS];
const NAMES: [&str; 2] = ["A", "B"];
const SERVICES: [&str; 2] = ["x", "y"];

static PATS: LazyLock<Vec<Pat>> = LazyLock::new(|| {
    let mut pats = Vec::new();
    for issued_at in TIMES {
        for (name, scopes, days) in [("a", "x", 1), ("a", "x,y", 90), ("b", "y", 2), ("b", "x", 90)]
        {
            pats.push(pat(name, scopes, issued_at, days));
        }
    }
    pats
});

fn step() -> impl Strategy<Value = Step> {
    let time = prop::sample::select(TIMES.to_vec());
    prop_oneof![
        4 => (0..TIMES.len() * 4).prop_map(Step::Token),
        2 => (0..2usize, time.clone()).prop_map(|(who, up_to)| Step::User(who, up_to)),
        2 => (0..2usize, time).prop_map(|(which, up_to)| Step::Service(which, up_to)),
        2 => Just(Step::Evict),
        2 => prop::sample::select(vec![1, 1000, DAY_MS, 30 * DAY_MS]).prop_map(Step::Later),
        1 => Just(Step::Reopen),
    ]
}

/// The rules of docs/reference/tokens-and-revocation.md#pat-contract word by word, without eviction.
#[derive(Default)]
struct Model {
    tokens: Vec<usize>,
    users: HashMap<&'static str, u64>,
    services: HashMap<&'static str, u64>,
}

impl Model {
    fn check(&self, i: usize, pat: &Pat) -> Result<(), CheckError> {
        let issued_at = pat.issued_at().as_millis();
        let hits = |rule: Option<&u64>| rule.is_some_and(|up_to| issued_at <= *up_to);
        if self.tokens.contains(&i) {
            return BY_TOKEN;
        }
        if hits(self.users.get(pat.user().as_str())) {
            return BY_USER;
        }
        if pat.scopes().iter().any(|service| hits(self.services.get(service.as_str()))) {
            return BY_SERVICE;
        }
        Ok(())
    }
}

fn agrees_with_the_model<S: RevocationStore>(
    steps: Vec<Step>,
    mut reopen: impl FnMut(Option<S>) -> S,
) -> Result<(), TestCaseError> {
    let (mut store, mut model, mut now) = (reopen(None), Model::default(), NOW);
    for step in steps {
        let later = |rules: &mut HashMap<_, u64>, key, up_to| {
            let rule = rules.entry(key).or_insert(up_to);
            *rule = (*rule).max(up_to);
        };
        match step {
            Step::Token(i) => {
                block_on(store.record(token(&PATS[i]))).unwrap();
                model.tokens.push(i);
            }
            Step::User(who, up_to) => {
                block_on(store.record(user(NAMES[who], up_to))).unwrap();
                later(&mut model.users, NAMES[who], up_to);
            }
            Step::Service(which, up_to) => {
                block_on(store.record(service(SERVICES[which], up_to))).unwrap();
                later(&mut model.services, SERVICES[which], up_to);
            }
            Step::Evict => drop(block_on(store.evict(at(now))).unwrap()),
            Step::Later(by) => now += by,
            Step::Reopen => store = reopen(Some(store)),
        }
        for (i, pat) in PATS.iter().enumerate() {
            // An expired token is refused before its revocations are checked.
            if at(now) < pat.expires_at() {
                prop_assert_eq!(check(&store, pat), model.check(i, pat), "{:?} at {}", pat, now);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_index_agrees_with_the_model(steps in prop::collection::vec(step(), 1..30)) {
        agrees_with_the_model::<RevocationIndex>(steps, Option::unwrap_or_default)?;
    }
}

#[cfg(feature = "store")]
mod durable {
    use std::{
        fs,
        path::{Path, PathBuf},
    };

    use redb::{Database, ReadableDatabase, TableDefinition};
    use tempfile::TempDir;

    use super::*;

    fn directory() -> (TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("revocations.redb");
        (directory, path)
    }

    fn reopening(path: &Path) -> impl FnMut(Option<DurableStore>) -> DurableStore {
        move |store| {
            drop(store);
            DurableStore::open(path).unwrap()
        }
    }

    #[test]
    fn the_file_conforms() {
        let (_directory, path) = directory();
        conformance(reopening(&path));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_file_agrees_with_the_model(steps in prop::collection::vec(step(), 1..30)) {
            let (_directory, path) = directory();
            agrees_with_the_model(steps, reopening(&path))?;
        }
    }

    /// The file while the program runs, the same file after it has ended, and its entries.
    struct Images {
        running: Vec<u8>,
        closed: Vec<u8>,
        entries: std::collections::BTreeSet<String>,
    }

    static IMAGES: LazyLock<Images> = LazyLock::new(|| {
        let (_directory, path) = directory();
        let store = DurableStore::open(&path).unwrap();
        let mut last = Vec::new();
        for i in 0..300u64 {
            let fingerprint = TokenFingerprint::from_bytes([u8::try_from(i % 251).unwrap(); 32]);
            last.push(store.record(user(&format!("U{i}"), i)));
            last.push(store.record(service(&format!("service-{i}"), i)));
            last.push(store.record(Revocation::Token { token: fingerprint, expires_at: at(i) }));
            if i % 60 == 0 {
                last.drain(..).for_each(|answer| block_on(answer).unwrap());
            }
        }
        last.into_iter().for_each(|answer| block_on(answer).unwrap());
        // The last commit is a single revocation, which a step back would lose.
        block_on(store.record(user("LAST", NOW))).unwrap();
        let entries = store.entries();
        let running = fs::read(&path).unwrap();
        drop(store);
        Images { running, closed: fs::read(&path).unwrap(), entries }
    });

    fn assert_refused_or_complete(image: &[u8]) -> Result<(), TestCaseError> {
        let (_directory, path) = directory();
        fs::write(&path, image).unwrap();
        match DurableStore::open(&path) {
            Ok(store) => prop_assert_eq!(&store.entries(), &IMAGES.entries),
            Err(error) => {
                let text = error.to_string();
                prop_assert!(text.contains("revocations.redb"), "{}", text);
                let refused =
                    matches!(error, OpenError::Damaged { .. } | OpenError::Foreign { .. });
                prop_assert!(refused, "{}", error);
                // redb may set the page counts of its header from the length of the file. Nothing
                // under a checksum changes, so the next start refuses the file as well.
                let after = fs::read(&path).unwrap();
                let kept = image.get(64..) == after.get(64..) && image.len() == after.len();
                prop_assert!(kept, "a damaged file was written to");
                prop_assert!(DurableStore::open(&path).is_err());
            }
        }
        Ok(())
    }

    #[test]
    fn a_copy_of_the_open_file_is_complete() {
        assert_refused_or_complete(&IMAGES.running).unwrap();
        assert_refused_or_complete(&IMAGES.closed).unwrap();
    }

    #[test]
    fn no_change_of_a_byte_of_the_roots_loses_a_revocation() {
        // The lower four bits of the byte at 9 select the root in force. The roots with their
        // checksums are at 64 to 320.
        for (image, end) in [(&IMAGES.running, 320), (&IMAGES.closed, 64)] {
            let masks = (1..16).map(|mask| (9, mask));
            for (offset, mask) in (0..end).map(|offset| (offset, 0xff)).chain(masks) {
                let mut image = image.clone();
                image[offset] ^= mask;
                assert_refused_or_complete(&image).unwrap();
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_damage_loses_a_revocation(
            running: bool,
            bytes in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..4),
        ) {
            let mut image = if running { IMAGES.running.clone() } else { IMAGES.closed.clone() };
            for (offset, mask) in bytes {
                let offset = offset.index(image.len());
                image[offset] ^= mask;
            }
            assert_refused_or_complete(&image)?;
        }

        #[test]
        fn a_truncated_file_is_refused(running: bool, len: prop::sample::Index) {
            let image = if running { &IMAGES.running } else { &IMAGES.closed };
            assert_refused_or_complete(&image[..len.index(image.len())])?;
        }
    }

    #[test]
    fn other_files_are_refused_and_not_changed() {
        let (directory, path) = directory();
        for content in ["", "revocations:\n  - all\n"] {
            fs::write(&path, content).unwrap();
            let error = DurableStore::open(&path).unwrap_err();
            assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        fs::remove_file(&path).unwrap();

        let database = Database::create(&path).unwrap();
        let txn = database.begin_write().unwrap();
        txn.open_table(TableDefinition::<&str, u64>::new("other")).unwrap();
        txn.commit().unwrap();
        drop(database);
        let error = DurableStore::open(&path).unwrap_err();
        assert!(matches!(error, OpenError::Foreign { .. }), "{error}");

        let error = DurableStore::open(directory.path()).unwrap_err();
        assert!(matches!(error, OpenError::Io { .. }), "{error}");
        let error = DurableStore::open(directory.path().join("none/file")).unwrap_err();
        assert!(matches!(error, OpenError::Io { .. }), "{error}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "a draft was left behind");
    }

    #[test]
    fn a_newer_format_is_refused() {
        let (_directory, path) = directory();
        drop(DurableStore::open(&path).unwrap());
        let database = Database::open(&path).unwrap();
        let txn = database.begin_write().unwrap();
        let mut meta = txn.open_table(TableDefinition::<&str, &[u8]>::new("meta")).unwrap();
        meta.insert("format", 2u32.to_be_bytes().as_slice()).unwrap();
        drop(meta);
        txn.commit().unwrap();
        drop(database);
        let error = DurableStore::open(&path).unwrap_err();
        assert!(matches!(error, OpenError::Newer { found: 2, .. }), "{error}");
        assert!(error.to_string().starts_with(&format!("{} has format 2", path.display())));
    }

    #[test]
    fn a_file_can_be_opened_once() {
        let (_directory, path) = directory();
        let store = DurableStore::open(&path).unwrap();
        let error = DurableStore::open(&path).unwrap_err();
        assert!(matches!(error, OpenError::InUse { .. }), "{error}");
        drop(store);
        DurableStore::open(&path).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_new_file_has_mode_0600() {
        use std::os::unix::fs::PermissionsExt;
        let (_directory, path) = directory();
        drop(DurableStore::open(&path).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn the_file_has_salted_fingerprints_only() {
        let (_directory, path) = directory();
        let store = DurableStore::open(&path).unwrap();
        let revoked = pat("user", "a", NOW, 90);
        block_on(store.record(token(&revoked))).unwrap();
        assert_eq!(format!("{store:?}"), format!("DurableStore {{ file: {path:?}, .. }}"));
        drop(store);
        let file = fs::read(&path).unwrap();
        let fingerprint = revoked.fingerprint();
        assert!(!file.windows(32).any(|bytes| bytes == fingerprint.as_bytes()));

        // Another file has another salt.
        let (_directory, other) = directory();
        let store = DurableStore::open(&other).unwrap();
        block_on(store.record(token(&revoked))).unwrap();
        let key = |path: &Path| {
            let database = Database::open(path).unwrap();
            let txn = database.begin_read().unwrap();
            let tokens = TableDefinition::<[u8; 32], u64>::new("invalidTokens");
            let tokens = txn.open_table(tokens).unwrap();
            redb::ReadableTable::first(&tokens).unwrap().unwrap().0.value()
        };
        drop(store);
        assert_ne!(key(&path), key(&other));
    }

    #[test]
    fn eviction_makes_the_file_smaller() {
        let (_directory, path) = directory();
        let store = DurableStore::open(&path).unwrap();
        let len = || fs::metadata(&path).unwrap().len();
        let answers: Vec<_> =
            (0..50_000).map(|i| store.record(service(&format!("service-{i}"), i))).collect();
        answers.into_iter().for_each(|answer| block_on(answer).unwrap());
        let full = len();
        let evicted = block_on(store.evict(at(NOW))).unwrap();
        assert_eq!(evicted.services, 50_000);
        assert!(len() < full / 2, "{full} bytes before, {} after", len());
    }
}
