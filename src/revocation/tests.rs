//! Tests of the behaviour that all stores have in common, and of damaged files.

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
    token::{Jwt, Pat, Rs256Verifier, Scope, Scopes, SigningKey, TokenIssuer},
};

/// The time of the tests, in milliseconds. It is not a whole second, so that the times shortly before and after `NOW`
/// are in the same second as `NOW`.
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
    let Ok(VerifiedToken::Pat(pat)) = verifier.verify(token.expose()) else {
        panic!("expected a PAT")
    };
    pat
}

fn login_token(name: &str) -> Jwt {
    let issuer = TokenIssuer::new(KEY.clone()).with_clock(clock());
    let token = issuer.login_token(&UserId::new(name).unwrap(), "domain").unwrap();
    let verifier = Rs256Verifier::new(KEY.verifying_key()).with_clock(clock());
    let Ok(VerifiedToken::Jwt(jwt)) = verifier.verify(token.expose()) else {
        panic!("expected a login token")
    };
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

/// Checks a token with both methods of [`RevocationCheck`], which must return the same result.
fn check<S: RevocationStore, T: Clone + Into<VerifiedToken>>(
    store: &S,
    token: &T,
) -> Result<(), CheckError> {
    let token = token.clone().into();
    let checked = block_on(store.check_token(&token));
    assert_eq!(store.try_check_now(&token), Some(checked));
    checked
}

/// Tests the behaviour that all stores have in common. `reopen(None)` makes an empty store.
/// `reopen(Some(store))` closes a store and opens it again.
fn test_common_behaviour<S: RevocationStore>(mut reopen: impl FnMut(Option<S>) -> S) {
    let store = reopen(None);
    let record = |store: &S, revocation| block_on(store.record(revocation)).unwrap();

    // The revocation of a token does not revoke another token of the same user and service.
    let (revoked, not_revoked) = (pat("one", "a", NOW, 90), pat("one", "a", NOW, 90));
    record(&store, token(&revoked));
    assert_eq!(check(&store, &revoked), BY_TOKEN);
    assert_eq!(check(&store, &not_revoked), Ok(()));

    // Two PATs were issued in the same second. A rule with the time of the first PAT revokes only this PAT.
    let (before, after) = (pat("two", "b", NOW, 90), pat("two", "b", NOW + 1, 90));
    assert_eq!(before.issued_at().as_secs(), after.issued_at().as_secs());
    record(&store, user("TWO", NOW));
    assert_eq!((check(&store, &before), check(&store, &after)), (BY_USER, Ok(())));
    let (before, after) = (pat("three", "c,d", NOW, 90), pat("three", "c,d", NOW + 1, 90));
    record(&store, service("D", NOW));
    assert_eq!((check(&store, &before), check(&store, &after)), (BY_SERVICE, Ok(())));

    record(&store, user("two", NOW - 5));
    record(&store, service("d", 0));
    let of_two = pat("two", "b", NOW, 90);
    assert_eq!((check(&store, &of_two), check(&store, &before)), (BY_USER, BY_SERVICE));

    // If many rules for a user are recorded concurrently, the rule with the latest time applies.
    let mut times: Vec<_> = (0..100).map(|i| NOW + i * 37 % 100).collect();
    let pending: Vec<_> = times.iter().map(|t| store.record(user("four", *t))).collect();
    pending.into_iter().for_each(|result| block_on(result).unwrap());
    times.sort_unstable();
    let (last, later) = (*times.last().unwrap(), pat("four", "a", NOW + 100, 90));
    assert_eq!(
        (check(&store, &pat("four", "a", last, 90)), check(&store, &later)),
        (BY_USER, Ok(()))
    );

    // A rule does not revoke login tokens. Revoking a login token does not revoke another login token.
    let (logged_out, logged_in) = (login_token("five"), login_token("five"));
    record(&store, user("five", NOW + DAY_MS));
    let logout =
        Revocation::Token { token: logged_out.fingerprint(), expires_at: logged_out.expires_at() };
    record(&store, logout);
    let check_logins = |store: &S| (check(store, &logged_out), check(store, &logged_in));
    assert_eq!(check_logins(&store), (BY_TOKEN, Ok(())));

    // A revocation is stored even if its future is dropped. Checks see this revocation at the latest after the next
    // write.
    drop(store.record(user("six", NOW)));
    record(&store, user("seven", NOW));
    let of_six = pat("six", "a", NOW, 90);
    assert_eq!(check(&store, &of_six), BY_USER);

    let store = reopen(Some(store));
    assert_eq!((check(&store, &revoked), check(&store, &not_revoked)), (BY_TOKEN, Ok(())));
    assert_eq!((check(&store, &of_two), check(&store, &before)), (BY_USER, BY_SERVICE));
    assert_eq!((check(&store, &of_six), check(&store, &later)), (BY_USER, Ok(())));
    assert_eq!(check_logins(&store), (BY_TOKEN, Ok(())));

    let evict = |store: &S, now| {
        let Evicted { tokens, users, services } = block_on(store.evict(at(now))).unwrap();
        (tokens, users, services)
    };
    assert_eq!(evict(&store, NOW), (0, 0, 0));
    let login_expiry = logged_out.expires_at().as_millis();
    assert_eq!(evict(&store, login_expiry), (1, 0, 0));
    assert_eq!(evict(&store, revoked.expires_at().as_millis() - 1), (0, 0, 0));
    assert_eq!(check(&store, &revoked), BY_TOKEN);
    // The rules for the users TWO, SIX and SEVEN and for the service D have the time NOW. The time of the rule for FOUR
    // is 99 ms later, and the time of the rule for FIVE is a day later.
    assert_eq!(evict(&store, NOW + 90 * DAY_MS), (1, 0, 0));
    assert_eq!(check(&store, &of_six), BY_USER);
    assert_eq!(evict(&store, NOW + 90 * DAY_MS + 1), (0, 3, 1));
    let store = reopen(Some(store));
    assert_eq!(check(&store, &of_six), Ok(()));
    assert_eq!(check(&store, &later), Ok(()));
    assert_eq!(evict(&store, NOW + 92 * DAY_MS), (0, 2, 0));
}

/// Tests that a rule with the current time revokes PATs that were issued while the clock was ahead. `reopen` is
/// the same as in [`test_common_behaviour`].
fn test_rules_of_now<S: RevocationStore>(mut reopen: impl FnMut(Option<S>) -> S) {
    const HOUR: u64 = 60 * 60 * 1000;
    let store = reopen(None);
    let register = |store: &S, pat: &Pat| block_on(store.register(pat.into())).unwrap();
    let rule_of_now = |store: &S, rule| block_on(store.record_rule_of_now(rule)).unwrap();

    let ahead = pat("one", "a", NOW + HOUR, 90);
    let of_other = pat("two", "a,b:/X,b:read", NOW + HOUR, 90);
    let unregistered = pat("one", "a", NOW + HOUR, 90);
    register(&store, &ahead);
    register(&store, &of_other);
    // If the caller chooses the time of a rule, the rule revokes only PATs that were issued at this time or before.
    block_on(store.record(user("one", NOW))).unwrap();
    assert_eq!(check(&store, &ahead), Ok(()));

    // The clock is corrected, and the store is reopened.
    let store = reopen(Some(store));
    rule_of_now(&store, user("ONE", NOW));
    assert_eq!((check(&store, &ahead), check(&store, &of_other)), (BY_TOKEN, Ok(())));
    // The store does not know the PAT `unregistered`, because another program issued it.
    assert_eq!(check(&store, &unregistered), Ok(()));
    // PATs that are issued after the rule are valid, even if the clock is ahead again.
    let (after, ahead_again) =
        (pat("one", "a:/x", NOW + 1, 90), pat("one", "a:read", NOW + HOUR, 90));
    for later in [&after, &ahead_again] {
        register(&store, later);
        assert_eq!(check(&store, later), Ok(()));
    }
    rule_of_now(&store, service("B", NOW + 2));
    assert_eq!((check(&store, &of_other), check(&store, &ahead_again)), (BY_TOKEN, Ok(())));
    rule_of_now(&store, service("a", NOW + 3));
    assert_eq!((check(&store, &after), check(&store, &ahead_again)), (BY_SERVICE, BY_TOKEN));

    let store = reopen(Some(store));
    for revoked in [&ahead, &of_other, &ahead_again] {
        assert_eq!(check(&store, revoked), BY_TOKEN);
    }
    let evicted = block_on(store.evict(ahead.expires_at())).unwrap();
    assert_eq!((evicted.tokens, evicted.users, evicted.services), (3, 1, 2));
}

#[test]
fn a_rule_with_the_current_time_in_the_index_revokes_pats_from_the_future() {
    test_rules_of_now::<RevocationIndex>(Option::unwrap_or_default);
    test_rules_of_now::<Arc<RevocationIndex>>(Option::unwrap_or_default);
}

#[test]
fn the_index_has_the_common_behaviour() {
    test_common_behaviour::<RevocationIndex>(Option::unwrap_or_default);
    test_common_behaviour::<Arc<RevocationIndex>>(Option::unwrap_or_default);
}

/// A step of the model test, which compares a store with a simple model after each step.
#[derive(Clone, Debug)]
enum Step {
    /// Revokes the PAT with this index in [`PATS`].
    Token(usize),
    /// Adds a rule with this time for the user with this index in [`NAMES`].
    User(usize, u64),
    /// Adds a rule with this time for the service with this index in [`SERVICES`].
    Service(usize, u64),
    Evict,
    Advance(u64),
    Reopen,
}

/// The issue times of the PATs. The rules use the same times, so that they revoke some of the PATs.
const TIMES: [u64; 6] = [NOW - DAY_MS, NOW - 1, NOW, NOW + 1, NOW + 1000, NOW + DAY_MS];
const NAMES: [&str; 2] = ["A", "B"];
const SERVICES: [&str; 2] = ["x", "y"];

static PATS: LazyLock<Vec<Pat>> = LazyLock::new(|| {
    let mut pats = Vec::new();
    for issued_at in TIMES {
        for (name, scopes, days) in
            [("a", "x", 1), ("a", "x:read,y", 90), ("b", "y:/x,y:/X", 2), ("b", "x:/,x:read", 90)]
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
        2 => (0..2usize, time.clone()).prop_map(|(name, up_to)| Step::User(name, up_to)),
        2 => (0..2usize, time).prop_map(|(service, up_to)| Step::Service(service, up_to)),
        2 => Just(Step::Evict),
        2 => prop::sample::select(vec![1, 1000, DAY_MS, 30 * DAY_MS]).prop_map(Step::Advance),
        1 => Just(Step::Reopen),
    ]
}

/// A simple implementation of the contract in docs/reference/tokens-and-revocation.md#pat-contract. It
/// never removes a revocation.
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
        let service_of = |scope: &Scope| {
            let text = scope.to_string();
            self.services.get(text.split(':').next().unwrap()).copied()
        };
        if pat.scopes().iter().any(|scope| hits(service_of(scope).as_ref())) {
            return BY_SERVICE;
        }
        Ok(())
    }
}

/// Runs the steps on a store and on the model. After each step, the store and the model must make the same decision for
/// each PAT.
fn agrees_with_the_model<S: RevocationStore>(
    steps: Vec<Step>,
    mut reopen: impl FnMut(Option<S>) -> S,
) -> Result<(), TestCaseError> {
    let (mut store, mut model, mut now) = (reopen(None), Model::default(), NOW);
    for step in steps {
        let add_rule = |rules: &mut HashMap<_, u64>, key, up_to| {
            let rule = rules.entry(key).or_insert(up_to);
            *rule = (*rule).max(up_to);
        };
        match step {
            Step::Token(i) => {
                block_on(store.record(token(&PATS[i]))).unwrap();
                model.tokens.push(i);
            }
            Step::User(i, up_to) => {
                block_on(store.record(user(NAMES[i], up_to))).unwrap();
                add_rule(&mut model.users, NAMES[i], up_to);
            }
            Step::Service(i, up_to) => {
                block_on(store.record(service(SERVICES[i], up_to))).unwrap();
                add_rule(&mut model.services, SERVICES[i], up_to);
            }
            Step::Evict => drop(block_on(store.evict(at(now))).unwrap()),
            Step::Advance(by) => now += by,
            Step::Reopen => store = reopen(Some(store)),
        }
        for (i, pat) in PATS.iter().enumerate() {
            // An expired token is rejected before its revocations are checked.
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
        sync::atomic::{AtomicU64, Ordering::SeqCst},
    };

    use redb::{Database, ReadableDatabase, TableDefinition};
    use tempfile::TempDir;

    use super::*;
    use crate::revocation::trusted_time::Uptime;

    fn directory() -> (TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("revocations.redb");
        (directory, path)
    }

    fn reopening(path: &Path) -> impl FnMut(Option<DurableStore>) -> DurableStore {
        move |store| {
            match store {
                None => drop(DurableStore::create(path).unwrap()),
                Some(store) => drop(store),
            }
            // Before each eviction, the monotonic clock advances by years, so that the store trusts any time of the
            // wall clock.
            static YEARS: AtomicU64 = AtomicU64::new(0);
            let uptime = || Uptime {
                boot: "boot".to_owned(),
                since_boot: Duration::from_secs(YEARS.fetch_add(400, SeqCst) * 365 * 86_400),
            };
            DurableStore::open_with_uptime(path.to_owned(), uptime).unwrap()
        }
    }

    #[test]
    fn the_file_has_the_common_behaviour() {
        let (_directory, path) = directory();
        test_common_behaviour(reopening(&path));
    }

    #[test]
    fn a_rule_with_the_current_time_in_the_file_revokes_pats_from_the_future() {
        let (_directory, path) = directory();
        test_rules_of_now(reopening(&path));
    }

    /// Older versions of the program wrote files without the table of known networks.
    #[tokio::test]
    async fn known_networks_survive_a_restart_and_a_file_of_an_older_version_gets_their_table() {
        const DAY: Duration = Duration::from_secs(86_400);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("revocations.redb");
        drop(DurableStore::create(&path).unwrap());
        let database = Database::open(&path).unwrap();
        let txn = database.begin_write().unwrap();
        let networks = TableDefinition::<[u8; 8], &[u8]>::new("knownNetworks");
        assert!(txn.delete_table(networks).unwrap());
        txn.commit().unwrap();
        drop(database);

        let user = UserId::new("USER").unwrap();
        let network = |address: [u8; 4]| ClientNetwork::from(std::net::IpAddr::from(address));
        let now = Timestamp::from_secs(1_800_000_000);
        let store = DurableStore::open(&path).unwrap();
        store.remember(&user, network([192, 0, 2, 1]), now);
        assert!(store.is_known(&user, network([192, 0, 2, 2]), now, DAY));
        drop(store);

        let store = DurableStore::open(&path).unwrap();
        assert!(store.is_known(&user, network([192, 0, 2, 3]), now, DAY));
        assert!(!store.is_known(&user, network([192, 0, 3, 3]), now, DAY));
        assert!(!store.is_known(&user, network([192, 0, 2, 1]), now.plus(DAY * 2), DAY));
        store.trust_clock(now.plus(DAY * 91)).await.unwrap();
        store.evict(now.plus(DAY * 91)).await.unwrap();
        assert!(!store.is_known(&user, network([192, 0, 2, 1]), now, DAY));
        drop(store);
        let store = DurableStore::open(&path).unwrap();
        assert!(!store.is_known(&user, network([192, 0, 2, 1]), now, DAY));
    }

    /// Older versions of the program wrote files without the table of issued PATs.
    #[test]
    fn a_file_of_an_older_version_gets_a_table_of_issued_pats() {
        let (_directory, path) = directory();
        let store = DurableStore::create(&path).unwrap();
        block_on(store.record(user("OLD", NOW))).unwrap();
        drop(store);
        let database = Database::open(&path).unwrap();
        let txn = database.begin_write().unwrap();
        let issued = TableDefinition::<(u64, [u8; 32]), (u64, &str, &[u8])>::new("issuedPats");
        assert!(txn.delete_table(issued).unwrap());
        txn.commit().unwrap();
        drop(database);

        let store = DurableStore::open(&path).unwrap();
        assert_eq!(check(&store, &pat("old", "a", NOW, 90)), BY_USER);
        let ahead = pat("one", "a", NOW + DAY_MS, 90);
        block_on(store.register((&ahead).into())).unwrap();
        block_on(store.record_rule_of_now(user("one", NOW))).unwrap();
        assert_eq!(check(&store, &ahead), BY_TOKEN);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_file_agrees_with_the_model(steps in prop::collection::vec(step(), 1..30)) {
            let (_directory, path) = directory();
            agrees_with_the_model(steps, reopening(&path))?;
        }
    }

    struct Images {
        /// The bytes while the store is open. A crash would leave these bytes.
        running: Vec<u8>,
        closed: Vec<u8>,
        /// The entries of the file, which are the same at both times.
        entries: std::collections::BTreeSet<String>,
    }

    static IMAGES: LazyLock<Images> = LazyLock::new(|| {
        let (_directory, path) = directory();
        let store = DurableStore::create(&path).unwrap();
        let mut pending = Vec::new();
        for i in 0..300u64 {
            let fingerprint = TokenFingerprint::from_bytes([u8::try_from(i % 251).unwrap(); 32]);
            pending.push(store.record(user(&format!("U{i}"), i)));
            pending.push(store.record(service(&format!("service-{i}"), i)));
            pending.push(store.record(Revocation::Token { token: fingerprint, expires_at: at(i) }));
            if i % 60 == 0 {
                pending.drain(..).for_each(|result| block_on(result).unwrap());
            }
        }
        pending.into_iter().for_each(|result| block_on(result).unwrap());
        // The last group has a single revocation. It would be lost if redb used an older root.
        block_on(store.record(user("LAST", NOW))).unwrap();
        let entries = store.entries();
        let running = fs::read(&path).unwrap();
        drop(store);
        Images { running, closed: fs::read(&path).unwrap(), entries }
    });

    /// Opens a file with these bytes. Asserts that the call fails, or that the opened store has all entries.
    fn assert_rejected_or_complete(image: &[u8]) -> Result<(), TestCaseError> {
        let (_directory, path) = directory();
        fs::write(&path, image).unwrap();
        match DurableStore::open(&path) {
            Ok(store) => prop_assert_eq!(&store.entries(), &IMAGES.entries),
            Err(error) => {
                let text = error.to_string();
                prop_assert!(text.contains("revocations.redb"), "{}", text);
                let expected =
                    matches!(error, OpenError::Damaged { .. } | OpenError::Foreign { .. });
                prop_assert!(expected, "{}", error);
                // redb computes the page counts in its header from the length of the file, and may change these counts.
                // The bytes that have a checksum stay the same, so opening the file again fails.
                let after = fs::read(&path).unwrap();
                let is_same = image.get(64..) == after.get(64..) && image.len() == after.len();
                prop_assert!(is_same, "a damaged file was changed");
                prop_assert!(DurableStore::open(&path).is_err());
            }
        }
        Ok(())
    }

    #[test]
    fn a_copy_of_the_open_or_closed_file_is_rejected_or_complete() {
        assert_rejected_or_complete(&IMAGES.running).unwrap();
        assert_rejected_or_complete(&IMAGES.closed).unwrap();
    }

    #[test]
    fn a_file_with_a_changed_byte_in_header_or_roots_is_rejected_or_complete() {
        // The lower four bits of the byte at offset 9 select the root that is used. The roots with
        // their checksums are at the offsets 64 to 320.
        for (image, end) in [(&IMAGES.running, 320), (&IMAGES.closed, 64)] {
            let masks = (1..16).map(|mask| (9, mask));
            for (offset, mask) in (0..end).map(|offset| (offset, 0xff)).chain(masks) {
                let mut image = image.clone();
                image[offset] ^= mask;
                assert_rejected_or_complete(&image).unwrap();
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_file_with_changed_bytes_is_rejected_or_complete(
            running: bool,
            bytes in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..4),
        ) {
            let mut image = if running { IMAGES.running.clone() } else { IMAGES.closed.clone() };
            for (offset, mask) in bytes {
                let offset = offset.index(image.len());
                image[offset] ^= mask;
            }
            assert_rejected_or_complete(&image)?;
        }

        #[test]
        fn a_truncated_file_is_rejected_or_complete(running: bool, len: prop::sample::Index) {
            let image = if running { &IMAGES.running } else { &IMAGES.closed };
            assert_rejected_or_complete(&image[..len.index(image.len())])?;
        }
    }

    #[test]
    fn files_that_are_not_revocation_stores_are_rejected() {
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
        let error = DurableStore::create(directory.path().join("none/file")).unwrap_err();
        assert!(matches!(error, OpenError::Io { .. }), "{error}");
        assert_eq!(
            fs::read_dir(directory.path()).unwrap().count(),
            1,
            "expected no temporary file"
        );
    }

    #[test]
    fn a_missing_file_is_an_error_and_an_existing_file_is_not_replaced() {
        let (directory, path) = directory();
        let error = DurableStore::open(&path).unwrap_err();
        assert!(matches!(error, OpenError::Missing { .. }), "{error}");
        assert!(error.to_string().starts_with(&format!("{} is missing", path.display())));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);

        let store = DurableStore::create(&path).unwrap();
        block_on(store.record(user("ONE", NOW))).unwrap();
        drop(store);
        let error = DurableStore::create(&path).unwrap_err();
        assert!(matches!(error, OpenError::Exists { .. }), "{error}");
        let store = DurableStore::open(&path).unwrap();
        assert_eq!(store.entries().len(), 1);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    /// While the store is open, the file is removed, replaced by an older copy, and restored.
    #[cfg(unix)]
    #[test]
    fn a_file_that_was_removed_or_replaced_makes_each_write_fail() {
        let (_directory, path) = directory();
        let (copy, away) = (path.with_extension("copy"), path.with_extension("away"));
        let store = DurableStore::create(&path).unwrap();
        block_on(store.record(user("ONE", NOW))).unwrap();
        drop(store);
        fs::copy(&path, &copy).unwrap();
        let store = DurableStore::open(&path).unwrap();
        let record = |name| block_on(store.record(user(name, NOW)));
        let assert_fails = |name| {
            let error = record(name).unwrap_err();
            assert!(matches!(error, StoreError::Replaced { .. }), "{error}");
            // Although the revocation was not written, it applies until the store is dropped.
            assert_eq!(check(&store, &pat(name, "a", NOW, 90)), BY_USER);
        };
        record("TWO").unwrap();
        fs::rename(&path, &away).unwrap();
        assert_fails("THREE");
        assert!(block_on(store.evict(at(NOW))).is_err());
        fs::copy(&copy, &path).unwrap();
        assert_fails("FOUR");
        assert!(block_on(store.register((&pat("one", "a", NOW, 90)).into())).is_err());
        assert_eq!(fs::read(&path).unwrap(), fs::read(&copy).unwrap());

        fs::rename(&away, &path).unwrap();
        record("FIVE").unwrap();
        drop(store);
        let store = DurableStore::open(&path).unwrap();
        assert_eq!(check(&store, &pat("five", "a", NOW, 90)), BY_USER);
        assert_eq!(check(&store, &pat("two", "a", NOW, 90)), BY_USER);
    }

    /// The clock is set 400 days ahead, the store evicts, the program restarts, and the clock is corrected.
    #[test]
    fn with_a_clock_that_is_ahead_no_needed_revocation_is_evicted() {
        const BOOT: &str = "boot";
        let (_directory, path) = directory();
        drop(DurableStore::create(&path).unwrap());
        let secs = Arc::new(AtomicU64::new(1000));
        let open = || {
            let secs = secs.clone();
            let uptime = move || Uptime {
                boot: BOOT.to_owned(),
                since_boot: Duration::from_secs(secs.load(SeqCst)),
            };
            DurableStore::open_with_uptime(path.clone(), uptime).unwrap()
        };
        let evict = |store: &DurableStore, now| block_on(store.evict(at(now))).unwrap();
        let store = open();
        let revoked = pat("one", "a", NOW, 90);
        block_on(store.record(token(&revoked))).unwrap();
        block_on(store.record(user("two", NOW))).unwrap();
        let of_two = pat("two", "a", NOW, 90);
        assert_eq!(evict(&store, NOW), Evicted::default());
        for ahead in [400 * DAY_MS, 90 * DAY_MS + 1] {
            assert_eq!(evict(&store, NOW + ahead), Evicted::default());
        }
        drop(store);
        let store = open();
        assert_eq!(evict(&store, NOW + 400 * DAY_MS), Evicted::default());
        assert_eq!((check(&store, &revoked), check(&store, &of_two)), (BY_TOKEN, BY_USER));

        // 91 days pass while the program does not run. These days also count.
        drop(store);
        secs.fetch_add(91 * 86_400, SeqCst);
        let store = open();
        let evicted = evict(&store, NOW + 91 * DAY_MS);
        assert_eq!((evicted.tokens, evicted.users), (1, 1));
    }

    #[test]
    fn an_administrator_can_confirm_the_clock() {
        let (_directory, path) = directory();
        let store = DurableStore::create(&path).unwrap();
        block_on(store.record(user("one", NOW))).unwrap();
        block_on(store.evict(at(NOW))).unwrap();
        assert_eq!(block_on(store.evict(at(NOW + 91 * DAY_MS))).unwrap(), Evicted::default());
        block_on(store.trust_clock(at(NOW + 91 * DAY_MS))).unwrap();
        assert_eq!(block_on(store.evict(at(NOW + 91 * DAY_MS))).unwrap().users, 1);
    }

    #[test]
    fn a_newer_file_format_is_rejected() {
        let (_directory, path) = directory();
        drop(DurableStore::create(&path).unwrap());
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
    fn an_open_file_cannot_be_opened_again() {
        let (_directory, path) = directory();
        let store = DurableStore::create(&path).unwrap();
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
        drop(DurableStore::create(&path).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn the_file_contains_salted_fingerprints_only() {
        let (_directory, path) = directory();
        let store = DurableStore::create(&path).unwrap();
        let revoked = pat("user", "a", NOW, 90);
        block_on(store.record(token(&revoked))).unwrap();
        assert_eq!(format!("{store:?}"), format!("DurableStore {{ file: {path:?}, .. }}"));
        drop(store);
        let file = fs::read(&path).unwrap();
        let fingerprint = revoked.fingerprint();
        assert!(!file.windows(32).any(|bytes| bytes == fingerprint.as_bytes()));

        // A second file has another salt, so it contains another hash of the same token.
        let (_directory, second) = directory();
        let store = DurableStore::create(&second).unwrap();
        block_on(store.record(token(&revoked))).unwrap();
        let first_hash = |path: &Path| {
            let database = Database::open(path).unwrap();
            let txn = database.begin_read().unwrap();
            let tokens = TableDefinition::<[u8; 32], u64>::new("invalidTokens");
            let tokens = txn.open_table(tokens).unwrap();
            redb::ReadableTable::first(&tokens).unwrap().unwrap().0.value()
        };
        drop(store);
        assert_ne!(first_hash(&path), first_hash(&second));
    }

    /// Registers PATs until the store refuses a PAT. Returns the number of registered PATs.
    fn register_all(store: &DurableStore, pat: &IssuedPat, first: u64, count: u64) -> usize {
        let pats = (first..first + count).map(|i| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&i.to_be_bytes());
            IssuedPat { token: TokenFingerprint::from_bytes(bytes), ..pat.clone() }
        });
        let pending: Vec<_> = pats.map(|pat| store.register(pat)).collect();
        let results = pending.into_iter().map(block_on);
        results
            .filter(|result| match result {
                Ok(()) => true,
                Err(StoreError::TooManyPats { limit: 1000, .. }) => false,
                Err(error) => panic!("{error}"),
            })
            .count()
    }

    #[test]
    fn the_registered_pats_of_a_user_are_limited_also_after_a_restart() {
        let (_directory, path) = directory();
        let store = DurableStore::create(&path).unwrap();
        let of_one = IssuedPat::from(&pat("one", "a", NOW, 1));
        assert_eq!(register_all(&store, &of_one, 0, 600), 600);
        drop(store);
        let store = DurableStore::open(&path).unwrap();
        assert_eq!(register_all(&store, &of_one, 600, 600), 400);
        let of_two = IssuedPat::from(&pat("two", "a", NOW, 1));
        assert_eq!(register_all(&store, &of_two, 2000, 1), 1);
        // An eviction at `NOW` removes none of these PATs. When the PATs have expired, an eviction removes them, and
        // the user can get new PATs.
        block_on(store.evict(at(NOW))).unwrap();
        assert_eq!(register_all(&store, &of_one, 3000, 1), 0);
        block_on(store.trust_clock(at(NOW + DAY_MS))).unwrap();
        block_on(store.evict(at(NOW + DAY_MS))).unwrap();
        assert_eq!(register_all(&store, &of_one, 4000, 1), 1);

        let index = RevocationIndex::default();
        let results = (0..1001).map(|_| block_on(index.register(of_one.clone())).is_ok());
        assert_eq!(results.filter(|is_ok| *is_ok).count(), 1000);
        block_on(index.evict(at(NOW + DAY_MS))).unwrap();
        block_on(index.register(of_one)).unwrap();
    }

    #[test]
    fn many_scopes_need_little_space_and_evicting_pats_makes_the_file_smaller() {
        let (_directory, path) = directory();
        let store = DurableStore::create(&path).unwrap();
        let len = || fs::metadata(&path).unwrap().len();
        let mut many = IssuedPat::from(&pat("one", "a", NOW, 1));
        let scopes: Vec<_> = (0..180).map(|i| format!("{i:064}")).collect();
        many.scopes = Scopes::parse([scopes.join(",")]).unwrap();
        assert_eq!(register_all(&store, &many, 0, 1000), 1000);
        let before = len();
        assert!(before < 6 * 1024 * 1024, "{before} bytes");
        block_on(store.evict(at(NOW))).unwrap();
        block_on(store.trust_clock(at(NOW + DAY_MS))).unwrap();
        let evicted = block_on(store.evict(at(NOW + DAY_MS))).unwrap();
        assert_eq!(evicted, Evicted::default());
        assert!(len() < before / 2, "{before} bytes before, {} after", len());
    }

    #[test]
    fn eviction_makes_the_file_smaller() {
        let (_directory, path) = directory();
        let store = DurableStore::create(&path).unwrap();
        let len = || fs::metadata(&path).unwrap().len();
        let pending: Vec<_> =
            (0..50_000).map(|i| store.record(service(&format!("service-{i}"), i))).collect();
        pending.into_iter().for_each(|result| block_on(result).unwrap());
        let before = len();
        let evicted = block_on(store.evict(at(NOW))).unwrap();
        assert_eq!(evicted.services, 50_000);
        assert!(len() < before / 2, "{before} bytes before, {} after", len());
    }
}
