//! Tests of stores that exchange records.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, LazyLock},
};

use proptest::prelude::*;
use tempfile::TempDir;
use test_support::pki;
use tokio_test::block_on;

use super::*;
use crate::{
    clock::{ManualClock, Timestamp},
    passticket::UserId,
    revocation::{
        AccessToken, AccessTokenChange, AccessTokenKey, AccessTokenOutcome, AccessTokenState,
        AccessTokenStore, CheckError, ClientNetwork, IssuedPat, IssuedRecord, KnownNetworks,
        LastUse, PatUse, Revocation, RevocationCheck, RevocationStore, RevokedBy, RotatedPat,
        SALT_LEN, StoreError, TokenDescription, TokenName,
    },
    token::{
        Pat, Rs256Verifier, Scopes, ServiceId, SigningKey, TokenFingerprint, TokenIssuer, Validity,
        VerifiedToken,
    },
};

const NOW: u64 = 1_800_000_000_400;
const HOUR: u64 = 60 * 60 * 1000;

static KEY: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::from_pem(pki::SIGNING_KEY.as_bytes()).unwrap());

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn pat(name: &str, scopes: &str, issued_at: u64) -> Pat {
    let clock = Arc::new(ManualClock::new(at(issued_at)));
    let user = UserId::new(name).unwrap();
    let scopes = Scopes::parse([scopes]).unwrap();
    let issuer = TokenIssuer::new(KEY.clone()).with_clock(clock.clone());
    let token = issuer.personal_access_token(&user, &scopes, Validity::MAX).unwrap();
    let verifier = Rs256Verifier::new(KEY.verifying_key()).with_clock(clock);
    let Ok(VerifiedToken::Pat(pat)) = verifier.verify(token.expose()) else {
        panic!("expected a PAT")
    };
    pat
}

fn token(pat: &Pat) -> NodeWrite {
    NodeWrite::Revocation(Revocation::Token {
        token: pat.fingerprint(),
        expires_at: pat.expires_at(),
    })
}

fn user(name: &str, up_to: u64) -> Revocation {
    Revocation::User { user: UserId::new(name).unwrap(), up_to: at(up_to) }
}

fn service(id: &str, up_to: u64) -> Revocation {
    Revocation::Service { service: ServiceId::new(id).unwrap(), up_to: at(up_to) }
}

fn check(store: &DurableStore, pat: &Pat) -> Result<(), CheckError> {
    store.try_check_now(&VerifiedToken::Pat(pat.clone())).unwrap()
}

const BY_TOKEN: Result<(), CheckError> = Err(CheckError::Revoked(RevokedBy::Token));
const BY_USER: Result<(), CheckError> = Err(CheckError::Revoked(RevokedBy::UserRule));
const BY_SERVICE: Result<(), CheckError> = Err(CheckError::Revoked(RevokedBy::ServiceRule));

struct Node {
    _directory: TempDir,
    path: PathBuf,
    store: Option<DurableStore>,
}

impl Node {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("revocations.redb");
        let store = Some(DurableStore::create(&path).unwrap());
        Self { _directory: directory, path, store }
    }

    fn store(&self) -> &DurableStore {
        self.store.as_ref().unwrap()
    }

    fn reopen(&mut self) {
        drop(self.store.take());
        self.store = Some(DurableStore::open(&self.path).unwrap());
    }

    fn write(&self, write: NodeWrite) -> Vec<Record> {
        block_on(NodeMemory::write(self.store(), write)).unwrap()
    }

    fn apply(&self, records: &[Record]) -> Vec<Record> {
        block_on(NodeMemory::apply(self.store(), records.to_vec(), None)).unwrap()
    }

    /// Returns all records, read in parts of at most `limit` records.
    fn export(&self, limit: usize) -> Vec<Record> {
        let mut records: Vec<Record> = Vec::new();
        loop {
            let after = records.last().cloned();
            let part = block_on(NodeMemory::export(self.store(), after, limit)).unwrap();
            assert!(part.len() <= limit);
            if part.is_empty() {
                return records;
            }
            records.extend(part);
        }
    }

    fn salts(&self) -> usize {
        self.export(1000).iter().filter(|record| matches!(record, Record::Salt(_))).count()
    }
}

fn followed(position: u64) -> Followed {
    Followed { term: Term::new("epoch run 5"), position: LogPosition::new(position, 7) }
}

#[test]
fn records_of_another_node_apply_and_survive_a_restart() {
    let (one, mut two) = (Node::new(), Node::new());
    // Each of the two files has its own salt, because each file has a revocation of a token.
    let (of_one, of_two) = (pat("one", "a", NOW), pat("two", "a", NOW));
    let mut records = one.write(token(&of_one));
    records.extend(two.write(token(&of_two)));
    let (by_user, by_service) = (pat("three", "a", NOW), pat("four", "b", NOW));
    records.extend(one.write(NodeWrite::Revocation(user("three", NOW))));
    records.extend(one.write(NodeWrite::Revocation(service("b", NOW))));
    let valid = pat("one", "a", NOW);
    assert_eq!(check(two.store(), &of_one), Ok(()));

    assert_eq!(NodeMemory::followed(two.store()), None);
    let applied = NodeMemory::apply(two.store(), records, Some(followed(3)));
    assert_eq!(block_on(applied).unwrap(), []);
    for _ in 0..2 {
        for (pat, expected) in [
            (&of_one, BY_TOKEN),
            (&of_two, BY_TOKEN),
            (&by_user, BY_USER),
            (&by_service, BY_SERVICE),
            (&valid, Ok(())),
        ] {
            assert_eq!(check(two.store(), pat), expected);
        }
        assert_eq!(NodeMemory::followed(two.store()), Some(followed(3)));
        assert_eq!(two.salts(), 2);
        two.reopen();
    }
    // A call without a position keeps the position in the file.
    two.apply(&[Record::Revocation(user("three", NOW + 1))]);
    assert_eq!(NodeMemory::followed(two.store()), Some(followed(3)));
}

#[test]
fn positions_in_the_file_are_read_back_and_other_formats_are_ignored() {
    assert_eq!(from_bytes(&to_bytes(&followed(5))), Some(followed(5)));
    for other in ["", "5-7", "x epoch", "5-7-8 epoch"] {
        assert_eq!(from_bytes(other.as_bytes()), None, "{other}");
    }
    assert_eq!(from_bytes(&[b'5', 0xff]), None);
}

#[test]
fn a_file_without_tokens_adopts_the_salt_of_another_node() {
    let (one, mut two) = (Node::new(), Node::new());
    assert!(one.store().is_empty());
    assert_eq!(one.export(10), []);
    let revoked = pat("one", "a", NOW);
    let records = one.write(token(&revoked));
    assert!(matches!(records[..], [Record::Salt(_), Record::Revocation(_)]), "{records:?}");
    assert!(!one.store().is_empty());
    two.write(NodeWrite::Revocation(user("two", NOW)));
    two.apply(&records);
    assert_eq!(check(two.store(), &revoked), BY_TOKEN);

    let network = ClientNetwork::from(std::net::IpAddr::from([192, 0, 2, 1]));
    let name = UserId::new("USER").unwrap();
    two.store().remember(&name, network, at(NOW));
    for _ in 0..2 {
        let revoked_here = pat("two", "b", NOW);
        one.apply(&two.write(token(&revoked_here)));
        assert_eq!(check(one.store(), &revoked_here), BY_TOKEN);
        assert_eq!(check(two.store(), &revoked), BY_TOKEN);
        assert_eq!((one.salts(), two.salts()), (1, 1));
        let age = std::time::Duration::from_secs(86_400);
        assert!(two.store().is_known(&name, network, at(NOW), age));
        two.reopen();
    }
}

/// Node two uses the salt of node one, even after all revocations of node one have expired.
#[test]
fn a_salt_that_other_nodes_use_is_not_replaced() {
    for is_same_batch in [false, true] {
        let (mut one, two, three) = (Node::new(), Node::new(), Node::new());
        let records = one.write(token(&pat("one", "a", NOW)));
        two.apply(&records);
        let later = at(NOW + 100 * 24 * HOUR);
        block_on(one.store().trust_clock(later)).unwrap();
        assert_eq!(block_on(one.store().evict(later)).unwrap().tokens, 1);
        one.reopen();

        let of_three = three.write(token(&pat("three", "a", NOW)));
        let revoked = pat("two", "a", NOW);
        let of_two = two.write(token(&revoked));
        if is_same_batch {
            one.apply(&[of_three, of_two].concat());
        } else {
            one.apply(&of_three);
            // The log contains the salt of node two only once.
            one.apply(&of_two[1..]);
        }
        assert_eq!(check(one.store(), &revoked), BY_TOKEN);
        assert_eq!(one.salts(), 2);
    }
}

#[test]
fn a_file_with_networks_or_pats_keeps_its_salt() {
    let one = Node::new();
    let records = one.write(token(&pat("one", "a", NOW)));
    let with_pat = Node::new();
    with_pat.write(NodeWrite::Issued(IssuedPat::from(&pat("two", "a", NOW))));
    let with_network = Node::new();
    let network = ClientNetwork::from(std::net::IpAddr::from([192, 0, 2, 1]));
    with_network.store().remember(&UserId::new("USER").unwrap(), network, at(NOW));
    for node in [with_pat, with_network] {
        node.apply(&records);
        assert_eq!(node.salts(), 2);
    }
}

#[test]
fn the_number_of_salts_is_limited() {
    let node = Node::new();
    let revoked = pat("one", "a", NOW);
    node.write(token(&revoked));
    for salt in 1..16 {
        node.apply(&[Record::Salt([salt; SALT_LEN])]);
    }
    let records = vec![Record::Salt([16; SALT_LEN]), Record::Revocation(user("two", NOW))];
    let error = block_on(NodeMemory::apply(node.store(), records, Some(followed(1)))).unwrap_err();
    assert!(matches!(error, StoreError::TooManySalts { limit: 16, .. }), "{error}");
    assert_eq!(NodeMemory::followed(node.store()), None);
    node.apply(&[Record::Salt([15; SALT_LEN]), Record::Revocation(user("two", NOW))]);
    assert_eq!(check(node.store(), &pat("two", "a", NOW)), BY_USER);
    assert_eq!(check(node.store(), &revoked), BY_TOKEN);
    assert_eq!(node.salts(), 16);
}

#[test]
fn a_rule_of_now_revokes_pats_of_all_nodes_in_the_order_of_the_log() {
    let (one, mut two) = (Node::new(), Node::new());
    let ahead = pat("user", "a", NOW + HOUR);
    let of_service = pat("other", "b", NOW + HOUR);
    let mut log = one.write(NodeWrite::Issued((&ahead).into()));
    log.extend(one.write(NodeWrite::Issued((&of_service).into())));
    two.apply(&log);
    two.reopen();

    // Node two knows the PATs of node one. It publishes their revocations before the rule.
    let records = two.write(NodeWrite::RuleOfNow(user("USER", NOW)));
    let [Record::Salt(_), Record::Revocation(missed), Record::RuleOfNow(_)] = &records[..] else {
        panic!("{records:?}")
    };
    assert!(matches!(missed, Revocation::Token { .. }));
    assert_eq!((check(two.store(), &ahead), check(two.store(), &of_service)), (BY_TOKEN, Ok(())));
    // If only the rule arrives, node one finds the PAT itself, and returns the revocation of this PAT. If the
    // revocation arrives before the rule, node one also returns it, because the revocation may not be published yet.
    let rule = [Record::RuleOfNow(user("USER", NOW))];
    assert_eq!(one.apply(&rule), [Record::Revocation(missed.clone())]);
    assert_eq!(check(one.store(), &ahead), BY_TOKEN);
    assert_eq!(one.apply(&records), [Record::Revocation(missed.clone())]);

    // Within one batch, a rule revokes the PATs before it, and not the PATs after it.
    let scopes = "c:read,c:/x";
    let (before, after) = (pat("three", scopes, NOW + 5), pat("three", scopes, NOW + 5));
    let mut log = one.write(NodeWrite::Issued((&before).into()));
    log.push(Record::RuleOfNow(service("c", NOW)));
    log.extend(one.write(NodeWrite::Issued((&after).into())));
    assert_eq!(two.apply(&log).len(), 1);
    assert_eq!((check(two.store(), &before), check(two.store(), &after)), (BY_TOKEN, Ok(())));
}

fn issued(number: u64, name: &str) -> Record {
    let mut token = [0; 32];
    token[..8].copy_from_slice(&number.to_be_bytes());
    Record::Issued(IssuedRecord {
        token: TokenFingerprint::from_bytes(token),
        user: UserId::new(name).unwrap(),
        scope_hashes: vec![1; 8],
        issued_at: at(NOW),
        expires_at: at(NOW + HOUR),
    })
}

#[test]
fn pats_of_other_nodes_count_for_the_limit_and_are_evicted() {
    let mut node = Node::new();
    let records: Vec<_> = (0..999).map(|i| issued(i, "USER")).collect();
    node.apply(&records);
    // A record that the node already has does not count a second time.
    node.apply(&records);
    let register = |node: &Node| block_on(node.store().register((&pat("user", "a", NOW)).into()));
    for _ in 0..2 {
        assert!(register(&node).is_ok() || node.export(2000).len() == 1001);
        assert!(matches!(register(&node), Err(StoreError::TooManyPats { .. })));
        node.reopen();
    }
    block_on(node.store().trust_clock(at(NOW + HOUR))).unwrap();
    block_on(node.store().evict(at(NOW + HOUR))).unwrap();
    assert!(register(&node).is_ok());
}

#[test]
fn an_export_has_all_records_in_parts_of_any_size() {
    let node = Node::new();
    node.apply(&[Record::Salt([1; SALT_LEN]), Record::Salt([2; SALT_LEN])]);
    for i in 0..7 {
        node.write(token(&pat("one", "a", NOW)));
        node.write(NodeWrite::Revocation(user(&format!("U{i}"), NOW)));
        node.write(NodeWrite::Revocation(service(&format!("s{i}"), NOW)));
        node.apply(&[issued(i, "USER")]);
    }
    let all = node.export(1000);
    assert_eq!(all.len(), 2 + 4 * 7);
    for limit in [1, 2, 5, 29, 30, 31] {
        assert_eq!(node.export(limit), all, "{limit}");
    }
    let copy = Node::new();
    copy.apply(&all);
    assert_eq!(copy.export(1000), all);
}

#[test]
fn a_suspended_store_follows_the_salts_of_the_process_that_has_the_file() {
    let one = Node::new();
    let mut two = Node::new();
    two.write(NodeWrite::Revocation(user("user", NOW)));
    let first = pat("one", "a", NOW);
    let mut batches = vec![one.write(token(&first))];
    // The second batch has the salt of another node.
    let other = Node::new();
    let second = pat("other", "a", NOW);
    batches.push(other.write(token(&second)));
    for (batch, pat) in batches.into_iter().zip([first, second]) {
        let old = two.store.take().unwrap();
        block_on(old.suspend()).unwrap();
        let error = block_on(NodeMemory::apply(&old, batch.clone(), None)).unwrap_err();
        assert!(matches!(error, StoreError::HandedOver { .. }));
        let error = block_on(NodeMemory::export(&old, None, 10)).unwrap_err();
        assert!(matches!(error, StoreError::HandedOver { .. }));

        let new = DurableStore::open(&two.path).unwrap();
        let mut feed = new.follow();
        block_on(NodeMemory::apply(&new, batch, Some(followed(1)))).unwrap();
        for _ in 0..2 {
            let next = block_on(std::future::poll_fn(|cx| feed.poll_next(cx))).unwrap();
            old.apply_followed(&next.to_string().parse().unwrap());
        }
        assert_eq!(check(&old, &pat), BY_TOKEN);
        drop(new);
        block_on(old.resume()).unwrap();
        assert_eq!(check(&old, &pat), BY_TOKEN);
        assert_eq!(NodeMemory::followed(&old), Some(followed(1)));
        two.store = Some(old);
        let revoked = self::pat("two", "a", NOW);
        two.write(token(&revoked));
        assert_eq!(check(two.store(), &revoked), BY_TOKEN);
        two.reopen();
        assert_eq!(check(two.store(), &revoked), BY_TOKEN);
    }
    assert_eq!(two.salts(), 2);
}

#[cfg(unix)]
#[test]
fn records_that_could_not_be_written_apply_and_can_be_applied_again() {
    let one = Node::new();
    let revoked = pat("one", "a", NOW);
    let ahead = pat("two", "a", NOW + HOUR);
    let mut records = one.write(token(&revoked));
    records.extend(one.write(NodeWrite::Issued((&ahead).into())));
    records.push(Record::RuleOfNow(user("two", NOW)));
    let mut two = Node::new();
    let away = two.path.with_extension("away");
    std::fs::rename(&two.path, &away).unwrap();
    let apply =
        |node: &Node| block_on(NodeMemory::apply(node.store(), records.clone(), Some(followed(1))));
    assert!(matches!(apply(&two), Err(StoreError::Replaced { .. })));
    assert!(!two.store().health().is_up());
    assert_eq!(check(two.store(), &revoked), BY_TOKEN);
    assert_eq!(NodeMemory::followed(two.store()), None);

    std::fs::rename(&away, &two.path).unwrap();
    assert_eq!(apply(&two).unwrap().len(), 1);
    assert!(two.store().health().is_up());
    for _ in 0..2 {
        assert_eq!(
            (check(two.store(), &revoked), check(two.store(), &ahead)),
            (BY_TOKEN, BY_TOKEN)
        );
        assert_eq!(NodeMemory::followed(two.store()), Some(followed(1)));
        assert_eq!(two.salts(), 1);
        two.reopen();
    }
}

/// Applies `count` random revocations of tokens, in batches of `batch` revocations, and reopens the store.
fn apply_many(count: u64, batch: usize) {
    let mut node = Node::new();
    let record = |i: u64| {
        // The records of an image come in no fixed order.
        let number = i.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
        let token = TokenFingerprint::from_bytes(std::array::from_fn(|i| number[i % 8]));
        Record::Revocation(Revocation::Token { token, expires_at: at(NOW) })
    };
    let numbers: Vec<u64> = (0..count).collect();
    let start = std::time::Instant::now();
    let pending: Vec<_> = numbers
        .chunks(batch)
        .map(|numbers| {
            let records = numbers.iter().map(|i| record(*i)).collect();
            NodeMemory::apply(node.store(), records, Some(followed(1)))
        })
        .collect();
    pending.into_iter().for_each(|applied| drop(block_on(applied).unwrap()));
    println!("{count} records in batches of {batch}: {:?}", start.elapsed());
    let start = std::time::Instant::now();
    node.reopen();
    println!("opened in {:?}", start.elapsed());
    let start = std::time::Instant::now();
    assert_eq!(node.export(1000).len() as u64, count);
    println!("exported in {:?}", start.elapsed());
}

#[test]
fn many_records_are_applied() {
    apply_many(100_000, 1000);
}

#[test]
#[ignore = "a measurement: cargo test --release --all-features --lib many_more -- --ignored --nocapture"]
fn many_more_records_are_applied() {
    for batch in [1000, 1_000_000] {
        apply_many(1_000_000, batch);
    }
}

/// A step of nodes that share a log.
#[derive(Clone, Debug)]
enum Step {
    /// The node revokes the PAT.
    Token(usize, usize),
    /// The node writes a rule for the user of the PAT, with the current time.
    Rule(usize, usize),
    /// The node registers the PAT.
    Issue(usize, usize),
    /// The node applies up to this number of records of the log.
    Follow(usize, usize),
    Reopen(usize),
    /// The node publishes all its records.
    Union(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let (node, pat) = (0..3usize, 0..6usize);
    prop_oneof![
        2 => (node.clone(), pat.clone()).prop_map(|(n, p)| Step::Token(n, p)),
        2 => (node.clone(), pat.clone()).prop_map(|(n, p)| Step::Rule(n, p)),
        3 => (node.clone(), pat).prop_map(|(n, p)| Step::Issue(n, p)),
        4 => (node.clone(), 1..6usize).prop_map(|(n, count)| Step::Follow(n, count)),
        1 => node.clone().prop_map(Step::Reopen),
        1 => node.prop_map(Step::Union),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nodes_that_have_followed_the_log_refuse_the_same_tokens(steps in prop::collection::vec(step(), 1..25)) {
        // The clock was ahead when four of the six PATs were issued.
        let pats: Vec<_> = (0..6u64).map(|i| pat(["a", "b"][i as usize % 2], "x", NOW + i / 2 * HOUR)).collect();
        let mut nodes = [Node::new(), Node::new(), Node::new()];
        let (mut log, mut positions) = (Vec::new(), [0; 3]);
        let follow = |node: &Node, position: &mut usize, log: &mut Vec<Record>, count: usize| {
            let end = (*position + count).min(log.len());
            let found = node.apply(&log[*position..end]);
            *position = end;
            log.extend(found);
        };
        for step in steps {
            match step {
                Step::Token(n, p) => log.extend(nodes[n].write(token(&pats[p]))),
                Step::Rule(n, p) => {
                    let rule = Revocation::User { user: *pats[p].user(), up_to: at(NOW) };
                    log.extend(nodes[n].write(NodeWrite::RuleOfNow(rule)));
                }
                Step::Issue(n, p) => log.extend(nodes[n].write(NodeWrite::Issued((&pats[p]).into()))),
                Step::Follow(n, count) => follow(&nodes[n], &mut positions[n], &mut log, count),
                Step::Reopen(n) => nodes[n].reopen(),
                Step::Union(n) => log.extend(nodes[n].export(1000)),
            }
        }
        while let Some(n) = (0..3).find(|n| positions[*n] < log.len()) {
            follow(&nodes[n], &mut positions[n], &mut log, 7);
        }
        let revoked = |node: &Node| -> Vec<_> { pats.iter().map(|pat| check(node.store(), pat).is_ok()).collect() };
        let records = |node: &Node| -> BTreeSet<_> { node.export(1000).iter().map(|it| format!("{:?}", it.parts().key)).collect() };
        let first = (revoked(&nodes[0]), records(&nodes[0]));
        for node in &mut nodes {
            prop_assert_eq!(&(revoked(node), records(node)), &first);
            node.reopen();
            prop_assert_eq!(&(revoked(node), records(node)), &first);
        }
    }
}

fn change(node: &Node, change: AccessTokenChange, now: u64) -> (AccessTokenOutcome, Vec<Record>) {
    block_on(NodeMemory::change(node.store(), change, at(now))).unwrap()
}

fn issue(node: &Node, pat: &Pat) -> (AccessToken, Vec<Record>) {
    let description = TokenDescription::default();
    let issue = AccessTokenChange::Issue { pat: pat.into(), name: None, description, limit: 50 };
    match change(node, issue, NOW) {
        (AccessTokenOutcome::Token(token), records) => (token, records),
        other => panic!("{other:?}"),
    }
}

fn entry(node: &Node, pat: &Pat) -> Option<AccessToken> {
    block_on(node.store().find(AccessTokenKey::Verified(pat.into()), at(NOW))).unwrap()
}

fn rotate(node: &Node, old: &Pat, new: &Pat, grace_secs: u64) -> Vec<Record> {
    let rotate = AccessTokenChange::Rotate {
        old: RotatedPat::Verified(old.into()),
        new: new.into(),
        grace: std::time::Duration::from_secs(grace_secs),
        limit: 50,
    };
    let (outcome, records) = change(node, rotate, NOW);
    assert!(matches!(outcome, AccessTokenOutcome::Token(_)), "{outcome:?}");
    records
}

/// Applies records, and the records that result from them, until all nodes have all of them.
fn exchange(nodes: &[&Node], mut records: Vec<Record>) {
    for _ in 0..10 {
        if records.is_empty() {
            return;
        }
        records = nodes.iter().flat_map(|node| node.apply(&records)).collect();
    }
    panic!("the nodes do not agree: {records:?}");
}

#[test]
fn nodes_share_entries_and_merge_concurrent_changes() {
    let (mut one, two) = (Node::new(), Node::new());
    let issued = pat("one", "a", NOW);
    let (token, records) = issue(&one, &issued);
    two.apply(&records);
    assert_eq!(entry(&two, &issued), Some(token.clone()));
    // A node that gets its own records back stores and publishes nothing.
    assert_eq!(one.apply(&records), []);

    let renamed = AccessTokenChange::Relabel {
        user: token.user,
        id: token.id,
        name: TokenName::new("name").ok(),
        description: None,
    };
    let last_use = LastUse::new(at(NOW + HOUR), "192.0.2.1".parse().ok(), None);
    let used = AccessTokenChange::Use(vec![PatUse::new((&issued).into(), last_use.clone())]);
    let (_, renamed) = change(&one, renamed, NOW + 1);
    let (_, used) = change(&two, used, NOW + HOUR);
    exchange(&[&one, &two], [renamed, used].concat());
    one.reopen();
    for node in [&one, &two] {
        let entry = entry(node, &issued).unwrap();
        assert_eq!(entry.name.unwrap().as_str(), "name");
        assert_eq!(entry.last_use, Some(last_use.clone()));
    }
    let (all, of_two) = (one.export(3), two.export(1000));
    let entries = |records: &[Record]| -> Vec<_> {
        let is_entry = |record: &&Record| matches!(record, Record::AccessToken(_));
        records.iter().filter(is_entry).cloned().collect()
    };
    assert_eq!(entries(&all), entries(&of_two));
    assert_eq!(entries(&all).len(), 1);

    // If one node revokes the token by its id, the other node refuses the token.
    let revoke = AccessTokenChange::Revoke { user: token.user, id: token.id };
    let (_, records) = change(&two, revoke, NOW + 2);
    one.apply(&records);
    assert_eq!(check(one.store(), &issued), BY_TOKEN);
    assert_eq!(entry(&one, &issued).unwrap().state, AccessTokenState::Revoked);
}

#[test]
fn concurrent_rotations_on_two_nodes_revoke_the_old_token_on_both() {
    let (one, two) = (Node::new(), Node::new());
    let [old, first, second] = [(); 3].map(|()| pat("one", "a", NOW));
    let (_, records) = issue(&one, &old);
    two.apply(&records);
    let records = [rotate(&one, &old, &first, 0), rotate(&two, &old, &second, 0)].concat();
    exchange(&[&one, &two], records);
    for node in [&one, &two] {
        assert_eq!(check(node.store(), &old), BY_TOKEN);
        assert_eq!(entry(node, &old).unwrap().state, AccessTokenState::Revoked);
        // Both new tokens belong to the family of the old token.
        let misuse = AccessTokenChange::Misuse { pat: (&old).into() };
        let (outcome, records) = change(node, misuse, NOW + 1);
        let revoked = if std::ptr::eq(node, &one) { 2 } else { 0 };
        assert_eq!(outcome, AccessTokenOutcome::Revoked(revoked));
        exchange(&[&one, &two], records);
    }
    for pat in [&first, &second] {
        assert_eq!(check(two.store(), pat), BY_TOKEN);
    }
}

#[test]
fn the_grace_time_ends_on_the_other_node_if_the_node_of_the_rotation_has_ended() {
    let (one, two) = (Node::new(), Node::new());
    let [old, new] = [(); 2].map(|()| pat("one", "a", NOW));
    let (_, records) = issue(&one, &old);
    two.apply(&records);
    two.apply(&rotate(&one, &old, &new, 60));
    let end = |millis| change(&two, AccessTokenChange::EndGraces, NOW + millis);
    assert_eq!(end(59_999).0, AccessTokenOutcome::Revoked(0));
    assert_eq!(check(two.store(), &old), Ok(()));
    let (outcome, records) = end(60_000);
    assert_eq!(outcome, AccessTokenOutcome::Revoked(1));
    one.apply(&records);
    for node in [&one, &two] {
        assert_eq!((check(node.store(), &old), check(node.store(), &new)), (BY_TOKEN, Ok(())));
    }
}
