//! Tests three gateways that share revocations over Redis with a replica and Sentinel. At random, the test kills and
//! pauses processes, replaces them by takeovers, and cuts, delays and freezes connections. If a gateway has answered a
//! revocation with success, no gateway may accept the token from then on.
//!
//! `just cluster-chaos NUMBER` runs this test with this number of revocations. `CLUSTER_SEED` repeats the events of an
//! earlier run. `CLUSTER_LEASE` sets `leaseSeconds`. `cargo test` does not run the test.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    env,
    fs::File,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use reqwest::Client;
use support::{
    PROGRAM,
    cluster::{Api, Site, Token},
};
use test_support::redis::{Redis, RedisOptions, has_redis};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::{JoinSet, spawn_blocking},
    time::{sleep, timeout},
};

const NODES: usize = 3;

/// The number of Redis servers: one primary and one replica, as `docs/operating/nodes-redis.md` advises.
const SERVERS: usize = 2;

const REVOKERS: usize = 6;

/// The number of users whose tokens are revoked. A user can have at most 1,000 Personal Access Tokens
/// (`maximumPerUser`). Tokens whose creation was not answered, and tokens whose revocation was not confirmed, may stay
/// active. So the test needs several users.
const USERS: usize = 50;

/// The number of revocations before the first event. The test measures how long they take without disturbance.
const QUIET: usize = 50;

/// The maximum time of the test is this time multiplied by the number of revocations. When this time has passed, the
/// test ends, even if it has not made all revocations.
const TIME_PER_REVOCATION: Duration = Duration::from_millis(600);

/// The time within which all nodes must accept tokens again after the last event.
const RECOVERY: Duration = Duration::from_secs(60);

/// When the nodes have confirmed this number of revocations since the last event, they have recovered from this event.
const AFTER_RECOVERY: u64 = 10;

/// The test makes at least this many events, unless it reaches its maximum time first.
const MIN_EVENTS: u64 = 20;

const KINDS: usize = 16;
/// The kind of event that kills the primary.
const FAILOVER: usize = 9;
/// The kind of event that kills a replica.
const REPLICA: usize = 13;
/// The kinds of event in which a new process takes over from a gateway.
const TAKEOVERS: [usize; 2] = [14, 15];

/// Random numbers that depend only on the seed (SplitMix64).
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }
}

/// How a link treats connections and their data.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Flow {
    Open,
    /// Keeps connections open, and forwards nothing.
    Frozen,
    /// Closes connections, and accepts none.
    Cut,
    /// Forwards each part of the data after this delay.
    Delayed(Duration),
}

#[derive(Clone)]
struct Link {
    port: u16,
    flow: Arc<watch::Sender<Flow>>,
}

impl Link {
    /// Forwards connections to `target`. In the answers, replaces the first port of each pair by the second one. The
    /// reason: Sentinel names the servers by their ports, but the node must connect to them through its own links. All
    /// ports have five digits, because a replacement must have the same length.
    async fn to(target: u16, replace: Vec<(u16, u16)>) -> Self {
        let listener = listen_on_five_digits().await;
        let port = listener.local_addr().unwrap().port();
        let (flow, _) = watch::channel(Flow::Open);
        let link = Self { port, flow: Arc::new(flow) };
        let (flow, replace) = (link.flow.clone(), Arc::new(replace));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *flow.borrow() != Flow::Cut {
                    tokio::spawn(forward(client, target, flow.subscribe(), replace.clone()));
                }
            }
        });
        link
    }

    fn set(&self, flow: Flow) {
        self.flow.send_replace(flow);
    }
}

async fn listen_on_five_digits() -> TcpListener {
    loop {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        if listener.local_addr().unwrap().port() >= 10_000 {
            return listener;
        }
    }
}

async fn forward(
    client: TcpStream,
    target: u16,
    flow: watch::Receiver<Flow>,
    replace: Arc<Vec<(u16, u16)>>,
) {
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = server.into_split();
    let mut cut = flow.clone();
    tokio::select! {
        () = copy(client_reads, server_writes, flow.clone(), Arc::default()) => {}
        () = copy(server_reads, client_writes, flow, replace) => {}
        _ = cut.wait_for(|flow| *flow == Flow::Cut) => {}
    }
}

async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut flow: watch::Receiver<Flow>,
    replace: Arc<Vec<(u16, u16)>>,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else { return };
        let current = flow.wait_for(|flow| *flow != Flow::Frozen).await.map(|flow| *flow);
        match current {
            Ok(Flow::Delayed(delay)) => sleep(delay).await,
            Ok(_) => {}
            Err(_) => return,
        }
        let part = &mut buffer[..read];
        for (port, own) in &*replace {
            replace_all(part, port.to_string().as_bytes(), own.to_string().as_bytes());
        }
        if to.write_all(part).await.is_err() {
            return;
        }
    }
}

fn replace_all(bytes: &mut [u8], text: &[u8], with: &[u8]) {
    assert_eq!(text.len(), with.len());
    for at in 0..bytes.len().saturating_sub(text.len() - 1) {
        if bytes[at..].starts_with(text) {
            bytes[at..at + text.len()].copy_from_slice(with);
        }
    }
}

#[derive(Default)]
struct Processes {
    current: Option<Child>,
    /// The process that takes over from `current`. If the takeover succeeds, `current` ends by itself. If the takeover
    /// fails, the successor ends.
    successor: Option<Child>,
}

impl Processes {
    fn update(&mut self) {
        for process in [&mut self.current, &mut self.successor] {
            process.take_if(|child| child.try_wait().unwrap().is_some());
        }
        if self.current.is_none() {
            self.current = self.successor.take();
        }
    }
}

/// A gateway, which is started again when it ends.
struct Member {
    name: String,
    config: PathBuf,
    api: Api,
    links: Vec<Link>,
    processes: Mutex<Processes>,
    /// Whether the process is started again when it has ended.
    is_wanted: AtomicBool,
    starts: AtomicU64,
}

impl Member {
    fn spawn(&self, options: &[&str]) -> Child {
        let log = self.config.with_extension("log");
        let log = File::options().create(true).append(true).open(log).unwrap();
        let child = Command::new(PROGRAM)
            .args(["serve", "--config"])
            .arg(&self.config)
            .args(options)
            .env("RUST_LOG", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.starts.fetch_add(1, SeqCst);
        child
    }

    fn start(&self, options: &[&str]) {
        self.processes.lock().unwrap().current = Some(self.spawn(options));
    }

    /// Starts a process that takes over from `current`. If there is no `current`, or if an earlier takeover is not
    /// finished, starts nothing and returns `false`.
    fn take_over(&self) -> bool {
        let mut processes = self.processes.lock().unwrap();
        processes.update();
        let can_begin = processes.current.is_some() && processes.successor.is_none();
        if can_begin {
            processes.successor = Some(self.spawn(&["--takeover"]));
        }
        can_begin
    }

    async fn keep_running(self: Arc<Self>) {
        loop {
            sleep(Duration::from_millis(100)).await;
            let mut processes = self.processes.lock().unwrap();
            processes.update();
            if processes.current.is_none() && self.is_wanted.load(SeqCst) {
                processes.current = Some(self.spawn(&[]));
            }
        }
    }

    fn signal(&self, signal: &str) {
        if let Some(child) = &self.processes.lock().unwrap().current {
            let _ = Command::new("kill").args([signal, &child.id().to_string()]).status();
        }
    }

    fn kill(&self) {
        if let Some(child) = &mut self.processes.lock().unwrap().current {
            end(child);
        }
    }
}

fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

impl Drop for Member {
    fn drop(&mut self) {
        let Processes { current, successor } = self.processes.get_mut().unwrap();
        current.iter_mut().chain(successor).for_each(end);
    }
}

#[derive(Default)]
struct Seen {
    events: AtomicU64,
    confirmed: AtomicU64,
    unconfirmed: AtomicU64,
    failed: AtomicU64,
    checks: AtomicU64,
    refused: AtomicU64,
    /// Revoked tokens that a node accepted.
    accepted: Mutex<Vec<String>>,
    revoked: Mutex<Vec<Token>>,
    took: Mutex<Vec<Duration>>,
}

/// For each probe of one node: its time, and the status of the answer. The status 0 means that there was no answer.
type Timeline = Arc<Mutex<Vec<(Duration, u16)>>>;

fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is wrong")))
}

fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    variable("CLUSTER_SEED").unwrap_or_else(|| RandomState::new().hash_one(0) % 1_000_000)
}

/// The lease of the nodes. By default, it is short, so that many leases end during the test.
fn lease() -> Duration {
    Duration::from_secs(variable("CLUSTER_LEASE").unwrap_or(1))
}

struct Deployment {
    servers: Vec<Redis>,
    _sentinel: test_support::redis::Sentinel,
    members: Vec<Arc<Member>>,
    /// The clients of the users who make tokens.
    users: Arc<[Client]>,
    site: Site,
}

impl Deployment {
    async fn start() -> Self {
        let options = RedisOptions::default()
            .with(&format!("min-replicas-to-write {}", SERVERS - 1))
            .with("min-replicas-max-lag 2")
            .with("repl-timeout 3")
            .with("repl-ping-replica-period 1");
        let (servers, sentinel) = spawn_blocking(move || {
            let primary = options.start();
            let replica = options.replica_of(&primary);
            let servers = vec![primary, replica.start()];
            servers[0].wait_for_replicas(SERVERS - 1);
            let sentinel = RedisOptions::default().start_sentinel(&servers[0]);
            sentinel.wait_for_replicas(SERVERS - 1);
            (servers, sentinel)
        })
        .await
        .unwrap();
        let site = Site::with("REDIS".to_owned()).await;
        let users = (0..USERS).map(|number| site.client_of(&format!("USER{number}"))).collect();
        let mut members = Vec::new();
        for name in ["a", "b", "c"] {
            let mut links = Vec::new();
            for server in &servers {
                links.push(Link::to(server.port(), Vec::new()).await);
            }
            let ports = servers.iter().map(Redis::port).zip(links.iter().map(|link| link.port));
            let of_sentinel = Link::to(sentinel.port(), ports.collect()).await;
            let port = listen_on_five_digits().await.local_addr().unwrap().port();
            let redis = format!(
                "{{sentinel: {{master: main, nodes: ['redis://127.0.0.1:{}']}}}}",
                of_sentinel.port
            );
            links.push(of_sentinel);
            let config = site.configure(name, name, |yaml| {
                yaml.replace("redis: REDIS", &format!("redis: {redis}"))
                    .replace("leaseSeconds: 3", &format!("leaseSeconds: {}", lease().as_secs()))
                    .replacen("    port: 0", &format!("    port: {port}"), 1)
                    + "    personalAccessToken: {maximumPerUser: 1000}\n"
            });
            let member = Arc::new(Member {
                name: name.to_owned(),
                config,
                api: site.api(port),
                links,
                processes: Mutex::default(),
                is_wanted: AtomicBool::new(true),
                starts: AtomicU64::new(0),
            });
            member.start(&["--new-store"]);
            members.push(member);
        }
        Self { servers, _sentinel: sentinel, members, users, site }
    }

    async fn wait_until_accepted(&self, token: &Token) {
        for member in &self.members {
            let accepted = async {
                while !matches!(member.api.try_check(token).await, Ok(200)) {
                    sleep(Duration::from_millis(50)).await;
                }
            };
            let log = member.config.with_extension("log");
            timeout(RECOVERY, accepted).await.unwrap_or_else(|_| {
                let log = std::fs::read_to_string(log).unwrap();
                let from = log.len().saturating_sub(8000);
                panic!(
                    "node {} accepts no tokens: {}",
                    member.name,
                    log.get(from..).unwrap_or(&log)
                )
            });
        }
    }

    async fn login(&self) -> Token {
        for member in &self.members {
            let up = async {
                while TcpStream::connect(SocketAddr::from((
                    Ipv4Addr::LOCALHOST,
                    member.api.url.rsplit(':').next().unwrap().parse().unwrap(),
                )))
                .await
                .is_err()
                {
                    sleep(Duration::from_millis(50)).await;
                }
            };
            timeout(RECOVERY, up).await.unwrap();
        }
        self.members[0].api.login().await
    }
}

/// Makes tokens and revokes them, until `is_done`. After each success, asks all nodes about the token.
async fn revoke(
    members: Vec<Arc<Member>>,
    users: Arc<[Client]>,
    seen: Arc<Seen>,
    is_done: impl Fn(&Seen) -> bool,
    mut random: Random,
) {
    while !is_done(&seen) {
        let Some(pat) = members[random.below(NODES)].api.try_pat(&users[random.below(USERS)]).await
        else {
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        let member = &members[random.below(NODES)];
        let start = Instant::now();
        match member.api.try_revoke(&pat).await {
            Ok(200) => {
                seen.took.lock().unwrap().push(start.elapsed());
                let at = member.name.clone();
                check_everywhere(&members, &pat, &at, &seen).await;
                seen.revoked.lock().unwrap().push(pat);
                seen.confirmed.fetch_add(1, SeqCst);
            }
            Ok(_) => {
                seen.unconfirmed.fetch_add(1, SeqCst);
                sleep(Duration::from_millis(20)).await;
            }
            Err(_) => {
                seen.failed.fetch_add(1, SeqCst);
            }
        }
    }
}

/// Asks all nodes at the same time. When all have answered, asks all of them once more.
async fn check_everywhere(members: &[Arc<Member>], pat: &Token, revoked_at: &str, seen: &Seen) {
    for _ in 0..2 {
        let mut checks = JoinSet::new();
        for member in members {
            let (member, pat) = (member.clone(), pat.clone());
            checks.spawn(async move {
                let answer = member.api.try_check(&pat).await;
                (member.name.clone(), answer)
            });
        }
        while let Some(check) = checks.join_next().await {
            let (name, answer) = check.unwrap();
            seen.checks.fetch_add(1, SeqCst);
            match answer {
                Ok(200) => {
                    let text = format!("revoked at {revoked_at}, accepted at {name}");
                    seen.accepted.lock().unwrap().push(text);
                }
                Ok(401) => {
                    seen.refused.fetch_add(1, SeqCst);
                }
                _ => {}
            }
        }
    }
}

/// Asks a node about a token that is never revoked, and records the answers.
async fn probe(api: Api, token: Token, start: Instant, timeline: Timeline) {
    loop {
        let at = start.elapsed();
        let answer = timeout(Duration::from_secs(1), api.try_check(&token)).await;
        let status = answer.ok().and_then(Result::ok).unwrap_or(0);
        timeline.lock().unwrap().push((at, status));
        sleep(Duration::from_millis(50)).await;
    }
}

/// Makes events at random until the revocations are done. Returns the number of events, and the time when Redis
/// accepted writes again after the first event, which is a failover.
#[expect(clippy::print_stdout, reason = "the developer must see which event came before a failure")]
async fn make_events(
    deployment: &mut Deployment,
    random: &mut Random,
    start: Instant,
    seen: &Seen,
    kept: &Token,
    is_done: impl Fn(&Seen) -> bool,
) -> (u64, Duration) {
    let (mut events, mut writable_again) = (0, None);
    let lease = lease();
    let less = lease - Duration::from_millis(200);
    let more = lease + Duration::from_millis(300);
    // The first event is a failover. Later events are random, and may also be failovers.
    let mut kind = FAILOVER;
    while !is_done(seen) {
        let pause = Duration::from_millis(200 + random.next() % 1500);
        sleep(pause).await;
        let (node, server) = (random.below(NODES), random.below(SERVERS));
        let long = random.pick(&[less, more, 2 * lease, Duration::from_millis(300)]);
        let member = deployment.members[node].clone();
        let name = member.name.clone();
        let at = start.elapsed();
        let text = match kind {
            0 | 1 => {
                member.kill();
                format!("node {name} killed")
            }
            2 | 3 => {
                member.signal("-STOP");
                sleep(long).await;
                member.signal("-CONT");
                format!("node {name} paused for {long:?}")
            }
            kind @ 4..=6 => {
                let flow = [Flow::Cut, Flow::Frozen, Flow::Delayed(long / 4)][kind - 4];
                member.links.iter().for_each(|link| link.set(flow));
                sleep(long).await;
                member.links.iter().for_each(|link| link.set(Flow::Open));
                format!("links of node {name} {flow:?} for {long:?}")
            }
            7 => {
                let link = &member.links[server];
                link.set(Flow::Frozen);
                sleep(long).await;
                link.set(Flow::Open);
                format!("link of node {name} to server {server} frozen for {long:?}")
            }
            8 => {
                deployment.servers[server].pause();
                sleep(long).await;
                deployment.servers[server].resume();
                format!("server {server} paused for {long:?}")
            }
            FAILOVER | REPLICA => {
                let wanted = if kind == FAILOVER { "master" } else { "slave" };
                let roles =
                    deployment.servers.iter().map(|server| server.info("replication", "role"));
                let Some(server) = roles.into_iter().position(|role| role == wanted) else {
                    kind = random.below(KINDS);
                    continue;
                };
                // The code below starts the server again, and then waits one more second. Sentinel needs this time to
                // learn that the server is now a replica.
                let ports = deployment.servers.iter().map(Redis::port).collect();
                let mut redis = deployment.servers.remove(server);
                let writable = tokio::spawn(async move {
                    sleep(Duration::from_millis(100)).await;
                    until_writable(ports).await;
                    start.elapsed()
                });
                let redis = spawn_blocking(move || {
                    let role = redis.info("replication", "role");
                    redis.kill();
                    std::thread::sleep(Duration::from_millis(1500));
                    redis.start_again();
                    (redis, role)
                });
                let (redis, role) = redis.await.unwrap();
                deployment.servers.insert(server, redis);
                sleep(Duration::from_secs(1)).await;
                if events == 0 {
                    // Nothing else disturbs the first failover, so the test measures its duration.
                    writable_again = Some(timeout(RECOVERY, writable).await.unwrap().unwrap());
                    deployment.wait_until_accepted(kept).await;
                }
                format!("server {server} ({role}) killed and started again")
            }
            kind if TAKEOVERS.contains(&kind) => match member.take_over() {
                true => format!("takeover of node {name} begun"),
                false => format!("takeover of node {name} not begun"),
            },
            10 | 12 => {
                deployment.servers.iter().for_each(|server| {
                    // A replica refuses this command.
                    server.run(&["FLUSHALL"]);
                });
                "data flushed".to_owned()
            }
            _ => {
                deployment.servers[server].close_connections();
                format!("connections of server {server} closed")
            }
        };
        let confirmed = seen.confirmed.load(SeqCst);
        assert_eq!(*seen.accepted.lock().unwrap(), [""; 0]);
        println!("{:>7.2} s: {text}; {confirmed} revocations confirmed", at.as_secs_f64());
        events += 1;
        seen.events.fetch_add(1, SeqCst);
        kind = random.below(KINDS);
        // At random, after about half of the events, the test waits until the nodes have recovered, or until `RECOVERY`
        // has passed. After the other events, only the usual short pause precedes the next event. If the test never
        // waited, the nodes of a busy machine might never confirm enough revocations.
        if random.below(2) == 0 {
            let confirms = async {
                while seen.confirmed.load(SeqCst) < confirmed + AFTER_RECOVERY && !is_done(seen) {
                    sleep(Duration::from_millis(20)).await;
                }
            };
            let _ = timeout(RECOVERY, confirms).await;
        }
    }
    (events, writable_again.unwrap())
}

/// Waits until one of the servers accepts a write.
async fn until_writable(ports: Vec<u16>) {
    loop {
        for port in &ports {
            let answer = async {
                let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).await.ok()?;
                server.write_all(b"SET test:writable 1\r\n").await.ok()?;
                let mut answer = [0; 3];
                server.read_exact(&mut answer).await.ok()?;
                Some(answer)
            };
            let answer = timeout(Duration::from_millis(200), answer).await;
            if answer.ok().flatten().is_some_and(|answer| &answer == b"+OK") {
                return;
            }
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// Returns the time from `writable` until the node accepts a request again. Returns zero if the node has accepted a
/// request shortly before `writable`.
fn refused_after(timeline: &[(Duration, u16)], writable: Duration) -> Duration {
    const BETWEEN_PROBES: Duration = Duration::from_millis(300);
    let accepted = timeline.iter().filter(|(_, status)| *status == 200).map(|(at, _)| *at);
    let (before, after): (Vec<_>, Vec<_>) = accepted.partition(|at| *at < writable);
    let is_refusing = before.last().is_none_or(|last| writable - *last > BETWEEN_PROBES);
    match after.first() {
        Some(first) if is_refusing => *first - writable,
        _ => Duration::ZERO,
    }
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted
        .get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or_default()
}

/// Returns the longest time in which one node accepted no request, and the time when it began.
fn longest_refusal(timeline: &[(Duration, u16)], start: Duration) -> (Duration, Duration) {
    let mut longest = (Duration::ZERO, start);
    let mut last = start;
    for (at, status) in timeline {
        if *status == 200 {
            let refusal = at.saturating_sub(last);
            if refusal > longest.0 {
                longest = (refusal, last);
            }
            last = *at;
        }
    }
    longest
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute or longer; run `just cluster-chaos NUMBER`"]
async fn no_node_accepts_a_token_after_its_revocation_was_confirmed() {
    if !has_redis() {
        return;
    }
    let wanted: u64 = variable("CLUSTER_REVOCATIONS").unwrap_or(300);
    let seed = seed();
    println!("{wanted} revocations; to repeat the events, set CLUSTER_SEED={seed}");
    let mut random = Random(seed);
    let mut deployment = Deployment::start().await;
    for member in &deployment.members {
        tokio::spawn(member.clone().keep_running());
    }
    let kept = deployment.login().await;
    deployment.wait_until_accepted(&kept).await;

    let seen = Arc::<Seen>::default();
    let quiet =
        |seen: &Seen| seen.confirmed.load(SeqCst) + seen.unconfirmed.load(SeqCst) >= QUIET as u64;
    revoke(
        deployment.members.clone(),
        deployment.users.clone(),
        seen.clone(),
        quiet,
        random.clone(),
    )
    .await;
    let mut took = std::mem::take(&mut *seen.took.lock().unwrap());
    took.sort_unstable();
    println!(
        "revocations one after the other, without events, on {NODES} nodes: p50 {:?}, p99 {:?}",
        percentile(&took, 50),
        percentile(&took, 99)
    );

    let start = Instant::now();
    let timelines: Vec<Timeline> = (0..NODES).map(|_| Timeline::default()).collect();
    let mut tasks = JoinSet::new();
    for (member, timeline) in deployment.members.iter().zip(&timelines) {
        tasks.spawn(probe(member.api.clone(), kept.clone(), start, timeline.clone()));
    }
    let end = start + TIME_PER_REVOCATION * u32::try_from(wanted).unwrap();
    let is_done = move |seen: &Seen| {
        let is_enough =
            seen.confirmed.load(SeqCst) >= wanted && seen.events.load(SeqCst) >= MIN_EVENTS;
        is_enough || Instant::now() > end
    };
    let mut revokers = JoinSet::new();
    for _ in 0..REVOKERS {
        let random = Random(random.next());
        revokers.spawn(revoke(
            deployment.members.clone(),
            deployment.users.clone(),
            seen.clone(),
            is_done,
            random,
        ));
    }
    let events = make_events(&mut deployment, &mut random, start, &seen, &kept, is_done);
    let (events, writable_again) = events.await;
    while let Some(revoker) = revokers.join_next().await {
        revoker.unwrap();
    }
    let ended = start.elapsed();
    deployment.wait_until_accepted(&kept).await;
    println!("all nodes accept tokens {:?} after the last revocation", start.elapsed() - ended);
    tasks.abort_all();

    // At the end, no node accepts a revoked token.
    let revoked = seen.revoked.lock().unwrap().clone();
    for pat in revoked.iter().rev().take(500) {
        for member in &deployment.members {
            let answer = member.api.try_check(pat).await;
            if matches!(answer, Ok(200)) {
                let text = format!("at the end, accepted at {}", member.name);
                seen.accepted.lock().unwrap().push(text);
            }
        }
    }

    let mut took = seen.took.lock().unwrap().clone();
    took.sort_unstable();
    let count = |counter: &AtomicU64| counter.load(SeqCst);
    let starts: u64 = deployment.members.iter().map(|member| count(&member.starts)).sum();
    println!(
        "{} events, {starts} starts of nodes; {} revocations confirmed, {} answered with an error, {} without an answer; \
         {} checks, {} refused as revoked",
        events,
        count(&seen.confirmed),
        count(&seen.unconfirmed),
        count(&seen.failed),
        count(&seen.checks),
        count(&seen.refused),
    );
    let refused = timelines.iter().map(|timeline| {
        let timeline = timeline.lock().unwrap();
        refused_after(&timeline, writable_again)
    });
    let refused = refused.max().unwrap_or_default();
    println!(
        "first failover: Redis accepts writes again at {:.2} s; after this, a node refuses tokens for {refused:?} at most",
        writable_again.as_secs_f64()
    );
    // The limit is the lease time plus two seconds. The two seconds allow for differences of the clocks and for a busy
    // machine.
    let limit = lease() + Duration::from_secs(2);
    assert!(refused <= limit, "CLUSTER_SEED={seed}: a node refused tokens for {refused:?}");
    println!(
        "a revocation during the events: p50 {:?}, p99 {:?}",
        percentile(&took, 50),
        percentile(&took, 99)
    );
    for (member, timeline) in deployment.members.iter().zip(&timelines) {
        let timeline = timeline.lock().unwrap();
        let (longest, since) = longest_refusal(&timeline, Duration::ZERO);
        println!(
            "node {}: longest time without an accepted request {longest:?}, since {:.2} s",
            member.name,
            since.as_secs_f64()
        );
        println!("{}", by_second(&timeline));
        let wrong = timeline.iter().filter(|(_, status)| *status == 401).count();
        assert_eq!(wrong, 0, "node {} has refused a token that nobody has revoked", member.name);
    }
    let accepted = seen.accepted.lock().unwrap();
    assert!(
        accepted.is_empty(),
        "CLUSTER_SEED={seed}: {} of {} checks accepted a revoked token: {:#?}\nlogs in {}",
        accepted.len(),
        count(&seen.checks),
        *accepted,
        deployment.site.directory().display()
    );
    assert!(
        count(&seen.confirmed) >= wanted / 10,
        "CLUSTER_SEED={seed}: too few revocations were confirmed"
    );
}

/// Returns one character for each second of the test: `+` if the node accepted all probes, `-` if it answered 503 to
/// all, `.` if it did not answer, `~` if the answers differ.
fn by_second(timeline: &[(Duration, u16)]) -> String {
    let seconds = timeline.last().map_or(0, |(at, _)| at.as_secs());
    let of_second = |second| {
        let in_second = timeline.iter().filter(|(at, _)| at.as_secs() == second);
        let statuses: Vec<u16> = in_second.map(|(_, status)| *status).collect();
        let all = |wanted: u16| statuses.iter().all(|status| *status == wanted);
        match () {
            () if statuses.is_empty() || all(0) => '.',
            () if all(200) => '+',
            () if all(503) => '-',
            () => '~',
        }
    };
    (0..=seconds).map(of_second).collect()
}
