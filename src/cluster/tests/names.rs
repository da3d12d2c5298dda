//! Tests of the names, takeovers and starts of nodes.

use std::{num::NonZeroU64, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    memory::Memory,
    network::{Link, Network},
    place::{Availability, Place},
    process::{Process, start},
    tokens::{TOKENS, user},
};
use crate::{
    clock::Timestamp,
    cluster::{
        ClusterError, ClusterNode, ClusterOptions, Confirm, EmptySite, HandedOverLease,
        LeaseStatus,
        coordinator::{CoordinatorError, Incarnation, LeaseRecord, LogPosition, NodeName},
        rules::Rules,
    },
    metrics::MetricRegistry,
    revocation::{CheckError, Record, Revocation, RevocationCheck, RevocationStore, StoreError},
    token::TokenFingerprint,
};

pub(super) const LEASE: Duration = Duration::from_secs(3);
/// A step takes less than this if the node does not wait for other nodes.
pub(super) const SHORT: Duration = Duration::from_millis(200);
pub(super) const SERVED: Option<Result<(), CheckError>> = Some(Ok(()));
pub(super) const REFUSED: Option<Result<(), CheckError>> = Some(Err(CheckError::Unavailable));

pub(super) fn options(name: &str) -> ClusterOptions {
    ClusterOptions::new(NodeName::new(name).unwrap())
}

pub(super) struct Machine {
    pub(super) memory: Memory,
    pub(super) network: Network,
}

impl Machine {
    pub(super) fn new(place: &Place, number: u8) -> Self {
        let memory = Memory::new(number, fastrand::Rng::with_seed(u64::from(number)));
        Self { memory, network: Network::new(place.clone(), fastrand::Rng::with_seed(1)) }
    }

    pub(super) async fn start_with(
        &self,
        process: &Process,
        options: ClusterOptions,
        inherited: Option<HandedOverLease>,
    ) -> Result<ClusterNode, ClusterError> {
        start(process, options, &self.memory, &self.network, Rules::new(LEASE), inherited).await
    }

    pub(super) async fn start(
        &self,
        process: &Process,
        name: &str,
    ) -> Result<ClusterNode, ClusterError> {
        self.start_with(process, options(name), None).await
    }
}

pub(super) fn place() -> Place {
    Place::new(fastrand::Rng::with_seed(0))
}

fn check(node: &ClusterNode) -> Option<Result<(), CheckError>> {
    check_token(node, 0)
}

pub(super) fn check_token(node: &ClusterNode, token: usize) -> Option<Result<(), CheckError>> {
    node.store().try_check_now(&TOKENS[token])
}

fn revocation(token: usize) -> Revocation {
    let expires_at = Timestamp::from_millis(u64::MAX);
    Revocation::Token { token: TOKENS[token].fingerprint(), expires_at }
}

#[tokio::test(start_paused = true)]
async fn a_second_process_with_the_name_of_a_node_does_not_start() {
    let place = place();
    let (machine, other) = (Machine::new(&place, 1), Machine::new(&place, 2));
    let node = machine.start(&Process::default(), "a").await.unwrap();
    let error = other.start(&Process::default(), "a").await.unwrap_err();
    assert!(matches!(&error, ClusterError::NameTaken { name } if name.as_str() == "a"), "{error}");
    sleep(LEASE * 3).await;
    assert_eq!(check(&node), SERVED);
}

#[tokio::test(start_paused = true)]
async fn a_node_with_another_lease_time_does_not_start() {
    let place = place();
    let (machine, other) = (Machine::new(&place, 1), Machine::new(&place, 2));
    let node = machine.start(&Process::default(), "a").await.unwrap();
    let (process, rules) = (Process::default(), Rules::new(LEASE * 2));
    let started = start(&process, options("b"), &other.memory, &other.network, rules, None);
    let error = started.await.unwrap_err();
    let is_lease = matches!(
        &error,
        ClusterError::Coordinator(CoordinatorError::OtherLease { found, own, .. })
            if (*found, *own) == (LEASE, LEASE * 2)
    );
    assert!(is_lease, "{error}");
    sleep(LEASE * 3).await;
    assert_eq!(check(&node), SERVED);
}

#[tokio::test(start_paused = true)]
async fn a_node_starts_at_once_after_it_has_left_and_waits_after_a_kill() {
    let place = place();
    let machine = Machine::new(&place, 1);
    let process = Process::default();
    let node = machine.start(&process, "a").await.unwrap();
    // In this second, the memory stores that the node has had a lease of this term. So the next process does not wait
    // for other nodes.
    sleep(Duration::from_secs(1)).await;
    node.leave().await;
    assert_eq!(check(&node), REFUSED);

    let begun = Instant::now();
    let process = Process::default();
    let node = machine.start(&process, "a").await.unwrap();
    assert!(begun.elapsed() < SHORT, "{:?}", begun.elapsed());
    assert_eq!(check(&node), SERVED);

    process.kill();
    let begun = Instant::now();
    machine.start(&Process::default(), "a").await.unwrap();
    let took = begun.elapsed();
    assert!(took >= Rules::new(LEASE).over() && took < LEASE * 2, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stopped_process_whose_name_was_taken_serves_no_more() {
    let place = place();
    let machine = Machine::new(&place, 1);
    let stopped = Process::default();
    let old = machine.start(&stopped, "a").await.unwrap();
    stopped.stop();
    let new = machine.start(&Process::default(), "a").await.unwrap();
    stopped.resume();
    for _ in 0..100 {
        assert_eq!((check(&old), check(&new)), (REFUSED, SERVED));
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(old.status().lease, LeaseStatus::Expired);
    assert!(old.status().problem.unwrap().contains("another node with the name a is running"));
}

#[tokio::test(start_paused = true)]
async fn a_takeover_continues_the_lease_and_can_be_taken_back() {
    let place = place();
    let (machine, other) = (Machine::new(&place, 1), Machine::new(&place, 2));
    let (old, new) = (Process::default(), Process::default());
    let first = machine.start(&old, "a").await.unwrap();
    let peer = other.start(&Process::default(), "b").await.unwrap();

    let lease = first.hand_over();
    assert_eq!(first.status().lease, LeaseStatus::HandedOver);
    let begun = Instant::now();
    let text = lease.to_string();
    let inherited = Some(text.parse().unwrap());
    let second = machine.start_with(&new, options("a"), inherited).await.unwrap();
    assert!(begun.elapsed() < SHORT, "{:?}", begun.elapsed());
    sleep(LEASE * 2).await;
    // The old process still accepts tokens, so that it can finish its requests.
    assert_eq!((check(&first), check(&second)), (SERVED, SERVED));
    peer.store().record(revocation(0)).await.unwrap();
    assert!(matches!(check(&second), Some(Err(CheckError::Revoked(_)))));

    new.kill();
    drop(second);
    first.take_back();
    sleep(SHORT).await;
    assert_eq!(first.status().lease, LeaseStatus::Ok);
    sleep(LEASE * 2).await;
    assert_eq!(first.status().lease, LeaseStatus::Ok);
    let begun = Instant::now();
    peer.store().record(revocation(1)).await.unwrap();
    assert!(begun.elapsed() < SHORT, "{:?}", begun.elapsed());
    assert!(machine.memory.knows(&TOKENS[1]));
}

#[tokio::test(start_paused = true)]
async fn a_process_that_has_handed_over_can_refuse_tokens_without_removing_the_lease() {
    let place = place();
    let machine = Machine::new(&place, 1);
    let first = machine.start(&Process::default(), "a").await.unwrap();
    let inherited = Some(first.hand_over());
    let second = machine.start_with(&Process::default(), options("a"), inherited).await.unwrap();
    assert_eq!((check(&first), check(&second)), (SERVED, SERVED));
    first.leave().await;
    assert_eq!(first.status().lease, LeaseStatus::Expired);
    first.take_back();
    for _ in 0..10 {
        assert_eq!((check(&first), check(&second)), (REFUSED, SERVED));
        sleep(LEASE / 2).await;
    }
}

/// The new process must accept tokens before it has published its memory. With a million records, this takes too long.
#[tokio::test(start_paused = true)]
async fn a_takeover_publishes_the_whole_memory_while_the_node_serves() {
    let place = place();
    let (machine, other) = (Machine::new(&place, 1), Machine::new(&place, 2));
    let (old, new) = (Process::default(), Process::default());
    let first = machine.start(&old, "a").await.unwrap();
    let _peer = other.start(&Process::default(), "b").await.unwrap();
    let term = first.status().term.unwrap();
    for part in 0..3 {
        let record = |number: u16| {
            let mut token = [part; 32];
            token[..2].copy_from_slice(&number.to_be_bytes());
            let token = TokenFingerprint::from_bytes(token);
            let expires_at = Timestamp::from_millis(u64::MAX);
            Record::Revocation(Revocation::Token { token, expires_at })
        };
        let records = (0..1000).map(record).collect();
        place.publish(&term, &NodeName::new("c").unwrap(), records).unwrap().unwrap();
    }
    sleep(LEASE).await;
    assert!(machine.memory.records().len() > 3000);

    // The node stores this revocation, but cannot publish it.
    place.set(Availability::Full);
    first.store().record(revocation(1)).await.unwrap_err();
    let inherited = Some(first.hand_over());
    place.set(Availability::Up);
    sleep(LEASE).await;
    let begun = Instant::now();
    let second = machine.start_with(&new, options("a"), inherited).await.unwrap();
    assert!(begun.elapsed() < SHORT, "{:?}", begun.elapsed());
    assert_eq!(check(&second), SERVED);
    sleep(LEASE * 3).await;
    assert!(other.memory.knows(&TOKENS[1]));

    // After a failed takeover, the old process accepts tokens again, although it has not published its memory yet.
    new.kill();
    drop(second);
    first.take_back();
    sleep(SHORT).await;
    assert_eq!(check(&first), SERVED);
}

#[tokio::test(start_paused = true)]
async fn a_node_without_data_starts_only_if_another_node_renews_its_lease() {
    for is_running in [false, true] {
        let place = place();
        let term = place.join(LEASE).unwrap().unwrap().term;
        let (node, incarnation) = (NodeName::new("b").unwrap(), Incarnation::new());
        let renew = |number| {
            let (node, number) = (node.clone(), NonZeroU64::new(number).unwrap());
            let lease = LeaseRecord { node, incarnation, number, applied: LogPosition::new(1, 0) };
            place.renew(&term, lease, None).unwrap().unwrap();
        };
        renew(1);
        let (machine, process) = (Machine::new(&place, 1), Process::default());
        let refuse = options("a").with_empty_site(EmptySite::Refuse);
        let start = machine.start_with(&process, refuse, None);
        let peer = async {
            sleep(LEASE).await;
            if is_running {
                renew(2);
            }
        };
        let (started, ()) = tokio::join!(start, peer);
        match started {
            Ok(_) => assert!(is_running),
            Err(error) => assert!(!is_running && matches!(error, ClusterError::EmptySite)),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_site_begins_only_if_the_options_permit_it() {
    let place = place();
    let (machine, other) = (Machine::new(&place, 1), Machine::new(&place, 2));
    let refuse = options("a").with_empty_site(EmptySite::Refuse);
    let error = machine.start_with(&Process::default(), refuse.clone(), None).await.unwrap_err();
    assert!(matches!(error, ClusterError::EmptySite), "{error}");

    // The first session fails before it has read the data of the site.
    place.set(Availability::Full);
    let process = Process::default();
    let start = machine.start_with(&process, refuse.clone(), None);
    let recover = async {
        sleep(LEASE / 2).await;
        place.set(Availability::Up);
    };
    let (started, ()) = tokio::join!(start, recover);
    assert!(matches!(started.unwrap_err(), ClusterError::EmptySite));

    let node = other.start(&Process::default(), "b").await.unwrap();
    node.store().record(revocation(0)).await.unwrap();
    let filled = machine.start_with(&Process::default(), refuse, None).await.unwrap();
    assert!(matches!(check(&filled), Some(Err(CheckError::Revoked(_)))));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_cannot_reach_the_place_gives_up() {
    let place = place();
    place.set(Availability::Down);
    let begun = Instant::now();
    let error = Machine::new(&place, 1).start(&Process::default(), "a").await.unwrap_err();
    assert!(error.to_string().contains("cannot be reached"), "{error}");
    assert!(begun.elapsed() < LEASE * 7, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn without_the_place_a_node_serves_as_long_as_the_options_say() {
    for additional in [Duration::ZERO, Duration::from_secs(10)] {
        let place = place();
        let machine = Machine::new(&place, 1);
        let options = options("a").with_serve_without_lease(additional);
        let node = machine.start_with(&Process::default(), options, None).await.unwrap();
        place.set(Availability::Down);
        sleep(LEASE * 2 / 3 + additional - Duration::from_millis(50)).await;
        assert_eq!(check(&node), SERVED, "{additional:?}");
        sleep(LEASE / 3 + Duration::from_millis(50)).await;
        assert_eq!(check(&node), REFUSED, "{additional:?}");
        let text = MetricRegistry::new().with(node.clone()).expose();
        for line in [
            "passticket_cluster_refused_checks_total 1",
            "passticket_cluster_lease_held 0",
            "passticket_cluster_confirmation_seconds_count 0",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} is not in {text}");
        }
        place.set(Availability::Up);
        sleep(LEASE).await;
        assert_eq!(check(&node), SERVED, "{additional:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_waits_for_a_node_that_is_away_unless_the_options_say_local() {
    for (confirm, is_fast) in [(Confirm::Everywhere, false), (Confirm::Local, true)] {
        let place = place();
        let (machine, other) = (Machine::new(&place, 1), Machine::new(&place, 2));
        let options = options("a").with_confirm(confirm);
        let node = machine.start_with(&Process::default(), options, None).await.unwrap();
        let away = other.start(&Process::default(), "b").await.unwrap();
        other.network.set(Link { drops_requests: true, ..Link::default() });
        let begun = Instant::now();
        node.store().record(revocation(1)).await.unwrap();
        let took = begun.elapsed();
        assert_eq!(took < SHORT, is_fast, "{took:?}");
        assert!(took < LEASE * 2, "{took:?}");
        assert_eq!(check(&away) == SERVED, is_fast);
        // The lease of the machine that is away has ended, so no write waits for its node any more.
        sleep(LEASE * 2).await;
        let begun = Instant::now();
        let rule = Revocation::User { user: user(1), up_to: Timestamp::from_millis(1) };
        node.store().record_rule_of_now(rule).await.unwrap();
        assert!(begun.elapsed() < SHORT, "{:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_cannot_apply_records_does_not_block_the_others() {
    let place = place();
    let machines = [1, 2, 3, 4].map(|number| Machine::new(&place, number));
    let one = machines[0].start(&Process::default(), "a").await.unwrap();
    let full = machines[1].start(&Process::default(), "b").await.unwrap();
    let other = machines[2].start(&Process::default(), "c").await.unwrap();
    machines[1].memory.set_full(true);
    // This write can fail, because the node with the full memory still has a lease.
    let _ = one.store().record(revocation(1)).await;
    sleep(LEASE * 2).await;
    for token in 2..5 {
        let begun = Instant::now();
        one.store().record(revocation(token)).await.unwrap();
        assert!(begun.elapsed() < SHORT, "{:?}", begun.elapsed());
        assert_eq!((check(&one), check(&full), check(&other)), (SERVED, REFUSED, SERVED));
        sleep(LEASE).await;
    }
    // After the place has lost its data, a node that starts does not wait forever for the node with the full memory.
    place.flush();
    let begun = Instant::now();
    let new = machines[3].start(&Process::default(), "d").await.unwrap();
    assert!(begun.elapsed() < LEASE * 4, "{:?}", begun.elapsed());
    one.store().record(revocation(5)).await.unwrap();
    assert_eq!((check(&one), check(&new), check(&full)), (SERVED, SERVED, REFUSED));
    machines[1].memory.set_full(false);
    sleep(LEASE * 2).await;
    assert_eq!(check(&full), SERVED);
    assert!((1..6).all(|token| machines[1].memory.knows(&TOKENS[token])));
}

#[tokio::test(start_paused = true)]
async fn a_write_without_the_place_is_stored_and_published_later() {
    let place = place();
    let (machine, other) = (Machine::new(&place, 1), Machine::new(&place, 2));
    let node = machine.start(&Process::default(), "a").await.unwrap();
    let _peer = other.start(&Process::default(), "b").await.unwrap();
    place.set(Availability::Full);
    let error = node.store().record(revocation(1)).await.unwrap_err();
    assert!(matches!(error, StoreError::NotEverywhere { .. }), "{error}");
    assert!(error.to_string().contains("the memory is full"), "{error}");
    assert!(machine.memory.knows(&TOKENS[1]) && !other.memory.knows(&TOKENS[1]));
    assert_eq!(node.status().unpublished, 1);
    place.set(Availability::Up);
    sleep(LEASE).await;
    assert!(other.memory.knows(&TOKENS[1]));
    assert_eq!(node.status().unpublished, 0);
}
