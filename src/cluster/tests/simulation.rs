//! Tests random schedules of faults and requests. After a revocation is confirmed, no node may accept the revoked
//! token. After the faults, all nodes must work and know the same records.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};

use super::{
    memory::Memory,
    network::{Link, Network},
    place::{Availability, Place, Replica},
    process::{Process, start},
    tokens::{ISSUED, TOKENS, TOKENS_PER_USER, user},
};
use crate::{
    clock::Timestamp,
    cluster::{
        ClusterNode, ClusterOptions, ClusterStore, LeaseStatus,
        coordinator::NodeName,
        rules::{Rule, Rules},
    },
    revocation::{CheckError, IssuedPat, Revocation, RevocationCheck, RevocationStore},
    token::VerifiedToken,
};

const LEASE: Duration = Duration::from_secs(3);
const NODES: u8 = 3;
/// Faults happen during this time.
const FAULTS: Duration = Duration::from_secs(40);
/// After the faults, the nodes must work within this time.
const RECOVERY: Duration = Duration::from_secs(20);
/// The tokens of the first users are revoked by rules. The tokens of the other users are revoked one by one.
const USERS_WITH_RULES: usize = 3;

/// A revocation that a client requests.
#[derive(Clone, Copy, Debug)]
enum Write {
    Token(usize),
    Rule { user: usize, up_to: u64 },
    RuleOfNow { user: usize, up_to: u64 },
}

/// A confirmed revocation of a token.
#[derive(Clone, Copy, Debug)]
struct Success {
    order: u64,
    /// When the write of the revocation began. If the place loses data after this time, a node that knows the
    /// revocation must publish it again.
    begun: Instant,
}

/// The results that clients have seen.
#[derive(Debug, Default)]
struct Seen {
    /// The number of events so far. Events at the same instant have an order by this number.
    order: u64,
    /// For each token: when its registration began, and the value of `order` when the registration ended.
    registered: BTreeMap<usize, (Instant, u64)>,
    successes: BTreeMap<usize, Success>,
    violations: Vec<String>,
    losses: Vec<Instant>,
    /// Since when the place has been working.
    up_since: Option<Instant>,
    counts: Counts,
    log: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    accepted: u64,
    refused: u64,
    unavailable: u64,
    confirmed: u64,
    unconfirmed: u64,
    /// Revoked tokens that a node accepted because the place had lost the revocation, while no node ran that knew it.
    lost: u64,
}

#[derive(Debug)]
struct Node {
    name: String,
    memory: Memory,
    network: Network,
    running: Mutex<Running>,
}

#[derive(Debug)]
struct Running {
    process: Process,
    node: Option<ClusterNode>,
    /// Since when the node has been running with a good connection.
    healthy: Option<Instant>,
}

impl Node {
    fn lock(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap()
    }

    fn store(&self) -> Option<ClusterStore> {
        self.lock().node.as_ref().map(ClusterNode::store)
    }
}

struct World {
    place: Place,
    nodes: Vec<Node>,
    seen: Mutex<Seen>,
    start: Instant,
    rules: Rules,
}

impl World {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    fn log(&self, text: impl FnOnce() -> String) {
        let at = self.start.elapsed().as_millis();
        self.seen().log.push(format!("{at:>6} {}", text()));
    }

    fn is_over(&self) -> bool {
        self.start.elapsed() > FAULTS
    }

    /// Starts a process of a node. If the process ends with an error, starts another one.
    fn boot(self: &Arc<Self>, number: usize) {
        let process = Process::default();
        {
            let mut running = self.nodes[number].lock();
            running.process = process.clone();
            running.node = None;
            running.healthy = None;
        }
        let (world, inner) = (self.clone(), process.clone());
        process.spawn(async move {
            loop {
                let node = &world.nodes[number];
                let (memory, network) = (&node.memory, &node.network);
                let options = ClusterOptions::new(NodeName::new(&node.name).unwrap());
                match start(&inner, options, memory, network, world.rules, None).await {
                    Ok(started) => {
                        world.log(|| format!("{} has started", node.name));
                        node.lock().node = Some(started);
                        return;
                    }
                    Err(error) => {
                        world.log(|| format!("{} does not start: {error}", node.name));
                        sleep(Duration::from_millis(500)).await;
                    }
                }
            }
        });
    }

    /// Starts a node, unless another process of the node was started after `dead`.
    fn boot_after(self: &Arc<Self>, number: usize, dead: &Process) {
        let is_last = self.nodes[number].lock().process.is_same(dead);
        if is_last && dead.is_dead() {
            self.boot(number);
        }
    }

    fn check(self: &Arc<Self>, number: usize, token: usize) {
        let arrival = {
            let mut seen = self.seen();
            seen.order += 1;
            seen.order
        };
        let Some(store) = self.nodes[number].store() else { return };
        let world = self.clone();
        let process = self.nodes[number].lock().process.clone();
        process.spawn(async move {
            let answer = store.try_check_now(&TOKENS[token]).unwrap();
            let mut seen = world.seen();
            match answer {
                Err(CheckError::Unavailable) => seen.counts.unavailable += 1,
                Err(_) => seen.counts.refused += 1,
                Ok(()) => {
                    seen.counts.accepted += 1;
                    let success = seen.successes.get(&token).copied();
                    drop(seen);
                    if let Some(success) = success.filter(|it| it.order < arrival) {
                        world.accepted_after_success(number, token, success);
                    }
                }
            }
        });
    }

    /// Records that a node accepted a token after the success of its revocation. This is a loss if the place has lost
    /// data, and no running node could publish the revocation again. Otherwise, it is a violation.
    fn accepted_after_success(&self, number: usize, token: usize, success: Success) {
        let loss = self.seen().losses.iter().rev().find(|at| **at >= success.begun).copied();
        let up_since = self.seen().up_since;
        let is_there = |node: &Node| {
            let (Some(since), Some(up_since)) = (node.lock().healthy, up_since) else {
                return false;
            };
            // A running node needs at most 2.5 seconds to notice that the place has lost data, and to publish its own
            // data.
            let was_there =
                loss.is_some_and(|loss| since + Duration::from_millis(2500) <= loss.max(up_since));
            let is_there_long = since.max(up_since).elapsed() > Duration::from_secs(6);
            node.memory.knows(&TOKENS[token]) && (was_there || is_there_long)
        };
        let text = format!(
            "{} accepted token {token}, revoked at {:?}",
            self.nodes[number].name,
            success.begun - self.start
        );
        self.log(|| text.clone());
        if loss.is_some() && !self.nodes.iter().any(is_there) {
            self.seen().counts.lost += 1;
        } else {
            let at = self.start.elapsed();
            self.seen().violations.push(format!("{at:?}: {text}"));
        }
    }

    fn revoke(self: &Arc<Self>, number: usize, write: Write) {
        let Some(store) = self.nodes[number].store() else { return };
        let world = self.clone();
        let process = self.nodes[number].lock().process.clone();
        let (begun, order) = (Instant::now(), self.next_order());
        self.log(|| format!("{} writes {write:?}", self.nodes[number].name));
        process.spawn(async move {
            let at = Timestamp::from_millis;
            let result = match write {
                Write::Token(token) => {
                    let (expires_at, token) = (at(ISSUED * 2), TOKENS[token].fingerprint());
                    store.record(Revocation::Token { token, expires_at }).await
                }
                Write::Rule { user: of, up_to } => {
                    store.record(Revocation::User { user: user(of), up_to: at(up_to) }).await
                }
                Write::RuleOfNow { user: of, up_to } => {
                    let rule = Revocation::User { user: user(of), up_to: at(up_to) };
                    store.record_rule_of_now(rule).await
                }
            };
            world.log(|| {
                format!("{} answers {write:?} {:?}", world.nodes[number].name, result.is_ok())
            });
            let mut seen = world.seen();
            if result.is_err() {
                seen.counts.unconfirmed += 1;
                return;
            }
            let mut revoked = Vec::new();
            seen.counts.confirmed += 1;
            seen.order += 1;
            let success_order = seen.order;
            let of_user = |of: usize| of * TOKENS_PER_USER..(of + 1) * TOKENS_PER_USER;
            let (tokens, needs_registration) = match write {
                Write::Token(token) => (token..token + 1, false),
                Write::Rule { user, up_to } if up_to >= ISSUED => (of_user(user), false),
                Write::Rule { .. } => (0..0, false),
                Write::RuleOfNow { user, up_to } => (of_user(user), up_to < ISSUED),
            };
            for token in tokens {
                let registered = seen.registered.get(&token).filter(|it| it.1 < order);
                let begun = match (needs_registration, registered) {
                    (false, _) => begun,
                    (true, Some((at, _))) => begun.min(*at),
                    (true, None) => continue,
                };
                let success = Success { order: success_order, begun };
                seen.successes.entry(token).or_insert(success);
                revoked.push(token);
            }
            drop(seen);
            // A client uses the token immediately, because most violations last only a short time.
            if let Some(token) = revoked.first().copied() {
                tokio::spawn(async move {
                    for pause in [0, 1, 5, 50, 100, 200, 200, 200, 200, 500, 500] {
                        sleep(Duration::from_millis(pause)).await;
                        (0..world.nodes.len()).for_each(|number| world.check(number, token));
                    }
                });
            }
        });
    }

    fn next_order(&self) -> u64 {
        let mut seen = self.seen();
        seen.order += 1;
        seen.order
    }

    fn register(self: &Arc<Self>, number: usize, token: usize) {
        let Some(store) = self.nodes[number].store() else { return };
        let VerifiedToken::Pat(pat) = &TOKENS[token] else { panic!("not a PAT") };
        let (world, begun) = (self.clone(), Instant::now());
        let process = self.nodes[number].lock().process.clone();
        process.spawn(async move {
            if store.register(IssuedPat::from(pat)).await.is_ok() {
                let order = world.next_order();
                world.seen().registered.entry(token).or_insert((begun, order));
            }
        });
    }

    fn note_health(&self) {
        for node in &self.nodes {
            let mut running = node.lock();
            let is_healthy = running.node.is_some()
                && !running.process.is_stopped()
                && node.network.link().is_good();
            running.healthy = is_healthy.then(|| running.healthy.unwrap_or_else(Instant::now));
        }
        if self.place.availability() != Availability::Up {
            self.seen().up_since = None;
        } else {
            self.seen().up_since.get_or_insert_with(Instant::now);
        }
    }

    fn note_loss(&self) {
        self.seen().losses.push(Instant::now());
    }
}

fn later(after: Duration, end: impl FnOnce() + Send + 'static) {
    tokio::spawn(async move {
        sleep(after).await;
        end();
    });
}

async fn cause_faults(world: Arc<World>, mut random: fastrand::Rng) {
    let millis = |random: &mut fastrand::Rng, from: u64, to: u64| {
        Duration::from_millis(random.u64(from..to))
    };
    // Each run has its own frequency of faults.
    let pause = random.u64(500..10_000);
    while !world.is_over() {
        sleep(Duration::from_millis(random.u64(1..pause))).await;
        let number = random.usize(..world.nodes.len());
        let node = &world.nodes[number];
        let long = match random.u8(..3) {
            // The fault takes less than a lease, about a lease, or up to three leases.
            0 => millis(&mut random, 20, 1000),
            1 => millis(&mut random, 2500, 4000),
            _ => millis(&mut random, 20, 9000),
        };
        let fault = random.u8(..26);
        match fault {
            0..=2 => {
                world.log(|| format!("{} is killed for {long:?}", node.name));
                node.lock().process.kill();
                node.lock().node = None;
                let world = world.clone();
                let process = node.lock().process.clone();
                later(long, move || world.boot_after(number, &process));
            }
            3..=5 => {
                world.log(|| format!("{} is stopped for {long:?}", node.name));
                let process = node.lock().process.clone();
                process.stop();
                later(long, move || process.resume());
            }
            6..=12 => {
                let mut link = Link::default();
                let delay = Duration::from_millis(if random.bool() { 990 } else { 2500 });
                match random.u8(..6) {
                    0 => link.drops_requests = true,
                    1 => link.drops_replies = true,
                    2 => (link.drops_requests, link.drops_replies) = (true, true),
                    3 => link.request_delay = delay,
                    4 => link.reply_delay = delay,
                    _ => (link.request_delay, link.reply_delay) = (delay, delay),
                }
                world.log(|| format!("{}: {link:?} for {long:?}", node.name));
                node.network.set(link);
                let network = node.network.clone();
                later(long, move || network.set(Link::default()));
            }
            13 | 14 => {
                world.log(|| "the place is flushed".to_owned());
                world.place.flush();
                world.note_loss();
            }
            15 | 16 => {
                let down = millis(&mut random, 1, 6000);
                let lag = millis(&mut random, 0, 2500);
                let is_empty = random.u8(..4) == 0;
                let replica = if is_empty { Replica::Empty } else { Replica::Stale(lag) };
                world.log(|| format!("the place fails over to {replica:?} after {down:?}"));
                world.place.fail_over(replica);
                world.place.set(Availability::Down);
                world.note_loss();
                let place = world.place.clone();
                later(down, move || place.set(Availability::Up));
            }
            17 => {
                let availability = match random.bool() {
                    true => Availability::Down,
                    false => Availability::Full,
                };
                world.log(|| format!("the place is {availability:?} for {long:?}"));
                world.place.set(availability);
                let place = world.place.clone();
                later(long, move || place.set(Availability::Up));
            }
            18 | 19 => {
                world.log(|| "the log is trimmed".to_owned());
                world.place.trim();
            }
            20 | 21 => {
                // The place loses data at about the time at which a node has a connection again.
                let away = millis(&mut random, 3300, 6000);
                let late = millis(&mut random, 0, 1500);
                world.log(|| format!("{} is away for {away:?}", node.name));
                node.network.set(Link { drops_requests: true, ..Link::default() });
                let network = node.network.clone();
                later(away, move || network.set(Link::default()));
                let world = world.clone();
                later(away.saturating_sub(Duration::from_millis(1000)) + late, move || {
                    if world.is_over() {
                        return;
                    }
                    world.log(|| "the place is flushed".to_owned());
                    world.place.flush();
                    world.note_loss();
                });
            }
            22 | 23 => {
                // Replies are late. After some time, no replies arrive.
                let late = millis(&mut random, 1500, 4000);
                let away = late + millis(&mut random, 3000, 6000);
                world.log(|| format!("{}: late replies, away after {late:?}", node.name));
                let reply_delay = Duration::from_millis(990);
                node.network.set(Link { reply_delay, ..Link::default() });
                let (network, inner) = (node.network.clone(), world.clone());
                later(late, move || {
                    if !inner.is_over() {
                        network.set(Link { drops_requests: true, ..Link::default() });
                    }
                });
                let network = node.network.clone();
                later(away, move || network.set(Link::default()));
            }
            _ => {
                world.log(|| format!("{}: the disk is slow for {long:?}", node.name));
                node.memory.set_delay(millis(&mut random, 20, 1500));
                let memory = node.memory.clone();
                later(long, move || memory.set_delay(Duration::from_millis(3)));
            }
        }
    }
}

async fn write(world: Arc<World>, mut random: fastrand::Rng) {
    for token in 0..USERS_WITH_RULES * TOKENS_PER_USER {
        let number = random.usize(..world.nodes.len());
        world.register(number, token);
        sleep(Duration::from_millis(random.u64(1..50))).await;
    }
    while !world.is_over() {
        sleep(Duration::from_millis(random.u64(1..800))).await;
        let number = random.usize(..world.nodes.len());
        let user = random.usize(..USERS_WITH_RULES);
        // The wall clock of a node can be set back.
        let up_to = if random.bool() { ISSUED + 1000 } else { ISSUED - 3_600_000 };
        let up_to = up_to + random.u64(..1000);
        let write = match random.u8(..10) {
            0 => Write::Rule { user, up_to },
            1 => Write::RuleOfNow { user, up_to },
            _ => Write::Token(random.usize(USERS_WITH_RULES * TOKENS_PER_USER..TOKENS.len())),
        };
        world.revoke(number, write);
    }
}

async fn check(world: Arc<World>, mut random: fastrand::Rng) {
    while !world.is_over() {
        sleep(Duration::from_millis(random.u64(1..100))).await;
        let token = {
            let seen = world.seen();
            let nth = random.usize(..=seen.successes.len());
            let revoked = seen.successes.keys().nth(nth).copied();
            revoked.unwrap_or_else(|| random.usize(..TOKENS.len()))
        };
        for number in 0..world.nodes.len() {
            world.check(number, token);
        }
        world.note_health();
    }
}

async fn recover(world: &Arc<World>) -> Result<(), String> {
    world.log(|| "the faults end".to_owned());
    world.place.set(Availability::Up);
    for number in 0..world.nodes.len() {
        let node = &world.nodes[number];
        node.network.set(Link::default());
        node.memory.set_delay(Duration::from_millis(3));
        let process = node.lock().process.clone();
        process.resume();
        if process.is_dead() {
            world.boot(number);
        }
    }
    let is_well = |node: &Node| {
        let running = node.lock();
        running.node.as_ref().is_some_and(|node| {
            let status = node.status();
            status.lease == LeaseStatus::Ok && status.behind == 0 && status.unpublished == 0
        })
    };
    let all_agree = || {
        let records = world.nodes[0].memory.records();
        world.nodes.iter().all(|node| is_well(node) && node.memory.records() == records)
    };
    let recovered = timeout(RECOVERY, async {
        while !all_agree() {
            sleep(Duration::from_millis(50)).await;
        }
    });
    if recovered.await.is_err() {
        let status = world.nodes.iter().map(|node| {
            let running = node.lock();
            let status = running.node.as_ref().map(ClusterNode::status);
            format!("{} {} records {status:?}", node.name, node.memory.records().len())
        });
        return Err(format!("no recovery: {:#?}", status.collect::<Vec<_>>()));
    }
    let successes = world.seen().successes.clone();
    for (token, _) in successes {
        for node in &world.nodes {
            if !node.memory.knows(&TOKENS[token]) {
                return Err(format!("{} does not know the revocation of {token}", node.name));
            }
        }
    }
    // Each node confirms a write within ten seconds.
    for node in &world.nodes {
        let store = node.store().unwrap();
        let up_to = Timestamp::from_millis(1);
        let begun = Instant::now();
        let write = store.record_rule_of_now(Revocation::User { user: user(0), up_to });
        if timeout(Duration::from_secs(10), write).await.is_ok_and(|it| it.is_ok()) {
            let took = begun.elapsed();
            world.log(|| format!("{} needs {took:?} for a write", node.name));
        } else {
            return Err(format!("{} does not confirm a write", node.name));
        }
    }
    Ok(())
}

#[derive(Debug)]
enum Problem {
    /// A node accepted a revoked token after the success of the revocation.
    Violation(String),
    /// The nodes did not recover.
    Stuck(String),
}

fn run(seed: u64, rules: Rules) -> Result<Counts, Problem> {
    // Nodes use the random numbers of the thread for their backoff.
    fastrand::seed(seed);
    let mut random = fastrand::Rng::with_seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let place = Place::new(random.fork());
        let nodes = (0..NODES).map(|number| {
            let running = Running { process: Process::default(), node: None, healthy: None };
            Node {
                name: format!("node{number}"),
                memory: Memory::new(number, random.fork()),
                network: Network::new(place.clone(), random.fork()),
                running: Mutex::new(running),
            }
        });
        let nodes = nodes.collect();
        let (seen, start) = (Mutex::default(), Instant::now());
        let world = Arc::new(World { place, nodes, seen, start, rules });
        for number in 0..world.nodes.len() {
            world.boot(number);
        }
        // The nodes start without faults.
        while !world.nodes.iter().all(|node| node.store().is_some()) {
            sleep(Duration::from_millis(100)).await;
        }
        let faults = tokio::spawn(cause_faults(world.clone(), random.fork()));
        let writes = tokio::spawn(write(world.clone(), random.fork()));
        let checks = tokio::spawn(check(world.clone(), random.fork()));
        for task in [faults, writes, checks] {
            task.await.unwrap();
        }
        let recovered = recover(&world).await;
        for node in &world.nodes {
            node.lock().process.kill();
            node.lock().node = None;
        }
        let seen = world.seen();
        if std::env::var_os("CLUSTER_LOG").is_some() {
            println!("{}", seen.log.join("\n"));
        }
        let explain =
            |problem: &str| format!("seed {seed}: {problem}; CLUSTER_LOG=1 prints the events");
        if let Some(violation) = seen.violations.first() {
            return Err(Problem::Violation(explain(violation)));
        }
        recovered.map_err(|problem| Problem::Stuck(explain(&problem)))?;
        Ok(seen.counts)
    })
}

/// The environment variable `CLUSTER_SEEDS` sets the number of seeds, and `CLUSTER_FIRST_SEED` sets the first seed.
fn seeds(default: u64) -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let first = number("CLUSTER_FIRST_SEED").unwrap_or(0);
    first..first + number("CLUSTER_SEEDS").unwrap_or(default)
}

#[test]
fn no_revoked_token_is_accepted_after_the_success_of_its_revocation() {
    let mut sum = Counts::default();
    for seed in seeds(40) {
        let counts = run(seed, Rules::new(LEASE)).unwrap();
        sum.accepted += counts.accepted;
        sum.refused += counts.refused;
        sum.unavailable += counts.unavailable;
        sum.confirmed += counts.confirmed;
        sum.unconfirmed += counts.unconfirmed;
        sum.lost += counts.lost;
    }
    println!("{sum:?}");
    // Nodes that refuse everything also have no violation. So this checks that they accepted many requests, and
    // confirmed most writes.
    assert!(sum.accepted > sum.unavailable / 10 && sum.confirmed > sum.unconfirmed, "{sum:?}");
    assert!(sum.lost < sum.refused / 100, "{sum:?}");
}

/// Switches `rule` off, and checks that some seed then has a violation.
fn fails_without(rule: Rule) {
    let rules = Rules { broken: Some(rule), ..Rules::new(LEASE) };
    let seeds = 0..300;
    let failed = seeds.into_iter().find_map(|seed| match run(seed, rules) {
        Err(Problem::Violation(text)) => Some(text),
        Err(Problem::Stuck(text)) => {
            println!("{text}");
            None
        }
        Ok(_) => None,
    });
    println!("{rule:?}: {}", failed.expect("no seed fails without the rule"));
}

#[test]
fn a_lease_that_runs_from_the_reply_is_wrong() {
    fails_without(Rule::LeaseRunsFromSending);
}

#[test]
fn a_barrier_that_does_not_wait_in_a_new_term_is_wrong() {
    fails_without(Rule::BarrierWaitsInNewTerm);
}

#[test]
fn joining_without_publishing_all_records_is_wrong() {
    fails_without(Rule::Union);
}

#[test]
fn a_lease_before_the_log_is_applied_is_wrong() {
    fails_without(Rule::LeaseNeedsAppliedLog);
}

#[test]
fn serving_before_the_others_have_published_is_wrong() {
    fails_without(Rule::WaitForUnionOfOthers);
}

#[test]
fn a_barrier_that_uses_an_old_list_of_leases_is_wrong() {
    fails_without(Rule::BarrierReadsAfterPublish);
}
