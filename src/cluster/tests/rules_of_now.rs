//! Tests of `record_rule_of_now` while other nodes join. The timestamp of such a rule is the time at which a node makes
//! it. If the record of a PAT is before the rule in the log, the rule revokes the PAT, even if the issue time of the
//! PAT is later than the rule. If the record is after the rule, the PAT must stay valid.

use tokio::time::sleep;

use super::{
    names::{LEASE, Machine, REFUSED, SERVED, SHORT, check_token, options, place},
    network::Link,
    process::Process,
    tokens::{ISSUED, TOKENS, user},
};
use crate::{
    clock::Timestamp,
    cluster::{ClusterNode, Confirm, memory::NodeMemory},
    revocation::{CheckError, IssuedPat, Record, Revocation, RevocationStore, RevokedBy},
    token::VerifiedToken,
};

const REVOKED: Option<Result<(), CheckError>> = Some(Err(CheckError::Revoked(RevokedBy::Token)));

/// Returns a rule for the first user. The clock of the node that makes the rule is behind: the issue time of each PAT
/// is later than the rule.
fn rule() -> Revocation {
    Revocation::User { user: user(0), up_to: Timestamp::from_millis(ISSUED - 3_600_000) }
}

async fn register(node: &ClusterNode, token: usize) {
    let VerifiedToken::Pat(pat) = &TOKENS[token] else { panic!("not a PAT") };
    node.store().register(IssuedPat::from(pat)).await.unwrap();
}

async fn revoke_and_register(node: &ClusterNode) {
    node.store().record_rule_of_now(rule()).await.unwrap();
    sleep(SHORT).await;
    register(node, 1).await;
}

/// Starts a node, and registers the first PAT of the user. With [`Confirm::Local`], this node does not wait for a
/// killed node when it makes a rule.
async fn first_node(machine: &Machine) -> ClusterNode {
    let local = options("a").with_confirm(Confirm::Local);
    let node = machine.start_with(&Process::default(), local, None).await.unwrap();
    register(&node, 0).await;
    node
}

async fn assert_new_pat_is_valid(nodes: [&ClusterNode; 2]) {
    sleep(LEASE).await;
    for node in nodes {
        assert_eq!([check_token(node, 0), check_token(node, 1)], [REVOKED, SERVED]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pat_that_is_issued_after_a_rule_stays_valid_while_another_node_joins() {
    let place = place();
    let machines = [1, 2, 3].map(|number| Machine::new(&place, number));
    let one = first_node(&machines[0]).await;
    let killed = Process::default();
    machines[1].start(&killed, "b").await.unwrap();
    killed.kill();
    // When the node `two` joins, it reads the position of the log. Then it waits until the lease of the killed process
    // has ended, because this process has the same name. After that, it reads the image. `write` makes the rule during
    // this wait.
    let process = Process::default();
    let start = machines[2].start(&process, "b");
    let write = async {
        sleep(LEASE / 3).await;
        revoke_and_register(&one).await;
    };
    let (two, ()) = tokio::join!(start, write);
    assert_new_pat_is_valid([&one, &two.unwrap()]).await;
}

#[tokio::test(start_paused = true)]
async fn a_pat_in_the_file_of_a_node_is_not_revoked_by_an_earlier_rule_in_the_log() {
    let place = place();
    let machines = [1, 2].map(|number| Machine::new(&place, number));
    let one = first_node(&machines[0]).await;
    let killed = Process::default();
    machines[1].start(&killed, "b").await.unwrap();
    // During this time, the memory of the node stores a position in the log.
    sleep(LEASE / 3).await;
    killed.kill();
    revoke_and_register(&one).await;
    let is_issued = |record: &Record| matches!(record, Record::Issued(_));
    let issued = machines[0].memory.records().into_iter().filter(is_issued);
    machines[1].memory.apply(issued.collect(), None).await.unwrap();
    let two = machines[1].start(&Process::default(), "b").await.unwrap();
    assert_new_pat_is_valid([&one, &two]).await;
}

/// Old entries of the log are removed, so the node that makes the rule must read the whole image. So it does not apply
/// its rule in the order of the log. The image contains a PAT that another node had issued before the rule.
#[tokio::test(start_paused = true)]
async fn a_rule_is_published_again_if_its_node_has_not_applied_it_in_the_order_of_the_log() {
    let place = place();
    let (machine, other) = (Machine::new(&place, 1), Machine::new(&place, 2));
    let node = machine.start(&Process::default(), "a").await.unwrap();
    let peer = other.start(&Process::default(), "b").await.unwrap();
    machine.network.set(Link { drops_requests: true, ..Link::default() });
    sleep(LEASE * 2).await;
    register(&peer, 0).await;
    peer.leave().await;
    place.trim();
    assert_eq!(check_token(&node, 0), REFUSED);

    let write = node.store().record_rule_of_now(rule());
    let reconnect = async {
        sleep(SHORT).await;
        machine.network.set(Link::default());
    };
    let (written, ()) = tokio::join!(write, reconnect);
    written.unwrap();
    assert_eq!(check_token(&node, 0), REVOKED);
}
