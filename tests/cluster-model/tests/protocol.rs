//! Tests that the protocol is correct, and that each of its rules is needed.

#![expect(clippy::print_stdout, reason = "the size of a model and the steps to a problem")]

use cluster_model::{
    checker::{Outcome, check},
    model::{Cluster, Rule},
};

/// Two nodes, one revocation, one loss of data or one replaced server, one crash, and no limit of time.
const SMALL: Cluster = Cluster {
    nodes: 2,
    revocations: 1,
    lease: 1,
    losses: 1,
    has_replica: true,
    crashes: 1,
    ticks: None,
    broken: None,
};

/// Without this limit, an error in the model could fill the memory.
const MAX_STATES: usize = 20_000_000;

/// The environment variable that adds larger models. They need minutes and gigabytes.
const LARGE: &str = "CLUSTER_MODEL_LARGE";

fn assert_correct(name: &str, model: &Cluster) {
    match check(model, MAX_STATES) {
        Outcome::Correct { states, depth } => println!("{name}: {states} states, depth {depth}"),
        outcome => panic!("{name}: {outcome:#?}"),
    }
}

fn assert_correct_as_far_as_explored(name: &str, model: &Cluster) {
    match check(model, MAX_STATES) {
        Outcome::TooManyStates { depth } => println!("{name}: explored to depth {depth}"),
        Outcome::Correct { states, depth } => println!("{name}: {states} states, depth {depth}"),
        outcome => panic!("{name}: {outcome:#?}"),
    }
}

fn assert_needed(rule: Rule, model: &Cluster) {
    let model = Cluster { broken: Some(rule), ..model.clone() };
    match check(&model, MAX_STATES) {
        Outcome::Problem { problem, steps } => {
            println!("without {rule:?}: {problem} after {} steps:", steps.len());
            println!("  {}", steps.join("\n  "));
        }
        outcome => panic!("without {rule:?}: {outcome:?}"),
    }
}

#[test]
fn no_node_accepts_a_revoked_token_when_data_is_lost_and_a_node_is_killed() {
    assert_correct("loss and crash", &Cluster { has_replica: false, ..SMALL });
}

#[test]
fn no_node_accepts_a_revoked_token_when_a_replica_takes_over() {
    assert_correct("replica", &Cluster { crashes: 0, ..SMALL });
}

#[test]
fn a_lease_must_begin_when_the_renewal_is_sent() {
    assert_needed(Rule::LeaseRunsFromSending, &SMALL);
}

#[test]
fn a_lease_must_wait_for_the_applied_log() {
    assert_needed(Rule::LeaseNeedsAppliedLog, &SMALL);
}

#[test]
fn a_barrier_must_wait_in_a_new_term() {
    assert_needed(Rule::BarrierWaitsInNewTerm, &SMALL);
}

#[test]
fn nodes_must_publish_all_revocations_in_a_new_term() {
    assert_needed(Rule::Union, &SMALL);
}

#[test]
fn a_node_without_a_lease_must_wait_for_unions() {
    assert_needed(Rule::WaitForUnionOfOthers, &SMALL);
}

#[test]
fn a_node_that_is_killed_during_its_wait_must_wait_again() {
    assert_needed(Rule::WaitSurvivesRestart, &SMALL);
}

#[test]
fn a_barrier_must_wait_for_a_dead_node() {
    assert_needed(Rule::DeadNodesAreWaitedFor, &SMALL);
}

#[test]
fn a_barrier_must_not_ask_a_replaced_server() {
    assert_needed(Rule::BarrierAsksWriter, &SMALL);
}

#[test]
fn the_protocol_fails_if_a_replaced_server_accepts_writes() {
    assert_needed(Rule::OldServerRefusesWrites, &SMALL);
}

/// After a loss of data, the nodes that have the data must come back in time.
#[test]
fn the_protocol_fails_if_unions_are_late() {
    assert_needed(Rule::UnionsArePrompt, &SMALL);
}

#[test]
fn larger_models_are_correct() {
    if std::env::var_os(LARGE).is_none() {
        return;
    }
    assert_correct("all events", &SMALL);
    let two = Cluster { revocations: 2, has_replica: false, crashes: 0, ..SMALL };
    assert_correct_as_far_as_explored("two revocations", &two);
    let fine = Cluster { lease: 2, has_replica: false, ticks: Some(5), ..SMALL };
    assert_correct_as_far_as_explored("a lease of two ticks", &fine);
    let three = Cluster { nodes: 3, has_replica: false, crashes: 0, ticks: Some(3), ..SMALL };
    assert_correct_as_far_as_explored("three nodes", &three);
}
