//! Tests of several gateways (nodes) that share revocations and the time slots of PassTickets (short-lived passwords of
//! z/OS) over a real Redis.

use std::{
    collections::HashSet,
    fs,
    process::Stdio,
    time::{Duration, Instant},
};

use crate::{
    support::{
        PROGRAM,
        cluster::{LEASE, Node, Site, Token, redis},
        metric,
    },
    takeover::{fake, successor},
    websocket::{closed, open_of},
};
use serde_json::json;
use test_support::{PATIENCE, Running, has_curl, raw, websocket::echo};
use tokio::{task::spawn_blocking, time::sleep};

/// Asserts the status with which each node answers a request with the token.
async fn check_all(nodes: &[Node], token: &Token, status: u16) {
    for node in nodes {
        assert_eq!(node.check(token).await, status, "{}: {token:?}", node.config.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_revocation_on_one_node_holds_on_all_nodes_after_success() {
    let Some(redis) = redis() else { return };
    let site = Site::at(&redis.url()).await;
    let nodes = site.start_all(["a", "b", "c"]).await;

    let login = nodes[0].login().await;
    check_all(&nodes, &login, 200).await;
    assert_eq!(nodes[1].revoke(&login).await, 204);
    check_all(&nodes, &login, 401).await;

    let (pat, kept) = (nodes[1].pat("dcpassticket").await, nodes[1].pat("dcpassticket").await);
    check_all(&nodes, &pat, 200).await;
    assert_eq!(nodes[2].revoke(&pat).await, 200);
    check_all(&nodes, &pat, 401).await;
    check_all(&nodes, &kept, 200).await;

    assert_eq!(nodes[0].rule("tokens", json!({})).await, 200);
    check_all(&nodes, &kept, 401).await;

    // A rule also revokes tokens that were issued in the same millisecond as the rule. The test waits, so that the
    // previous rule does not revoke the next token.
    sleep(Duration::from_millis(5)).await;
    for (node, path, body) in [
        (1, "tokens/user", json!({"userId": "USER"})),
        (2, "tokens/scope", json!({"serviceId": "dcpassticket"})),
    ] {
        let pat = nodes[0].pat("dcpassticket").await;
        check_all(&nodes, &pat, 200).await;
        let status = nodes[node].rule(path, body).await;
        assert!([200, 204].contains(&status), "{status}");
        check_all(&nodes, &pat, 401).await;
        sleep(Duration::from_millis(5)).await;
    }

    let page =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operating/metrics.md");
    let page = fs::read_to_string(page).unwrap();
    let text = reqwest::get(format!("http://{}/metrics", nodes[0].admin)).await.unwrap();
    let text = text.text().await.unwrap();
    let exposed = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let exposed: Vec<_> = exposed.filter(|name| name.starts_with("passticket_cluster_")).collect();
    let documented = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let documented: Vec<_> =
        documented.filter(|name| name.starts_with("passticket_cluster_")).collect();
    for name in &exposed {
        assert!(documented.contains(name), "{name} is not in the page");
    }
    assert_eq!(documented.len(), exposed.len(), "{documented:?} {exposed:?}");

    for node in &nodes {
        let (status, health) = node.health("/health").await;
        assert_eq!(status, 200, "{health}");
        assert_eq!(health["cluster"], json!({"lease": "ok", "behind": 0, "peers": 2}));
        assert_eq!(health["components"]["cluster"]["status"], "UP");
        let metric = async |series| metric(&reqwest::Client::new(), node.admin, series).await;
        assert_eq!(metric("passticket_cluster_lease_held").await, 1);
        assert_eq!(metric("passticket_cluster_peers").await, 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_the_nodes_refuse_tokens_and_revocations_until_it_is_back() {
    let Some(mut redis) = redis() else { return };
    let site = Site::at(&redis.url()).await;
    let nodes = site.start_all(["a", "b"]).await;
    let (revoked, kept, late) =
        (nodes[0].pat("dcpassticket").await, nodes[0].login().await, nodes[0].login().await);
    assert_eq!(nodes[0].revoke(&revoked).await, 200);

    redis.kill();
    // `nodes[0]` applies the revocation, but `nodes[1]` may not have it.
    assert_eq!(nodes[0].revoke(&late).await, 503);
    let unconfirmed = "passticket_cluster_unconfirmed_writes_total";
    let unconfirmed = metric(&reqwest::Client::new(), nodes[0].admin, unconfirmed).await;
    for node in &nodes {
        let took = node.wait_for(&kept, 503).await;
        assert!(took < LEASE + PATIENCE / 2, "{took:?}");
        assert_eq!(node.check(&revoked).await, 401);
        // Requests without a token need no lease.
        assert_eq!(node.use_certificate().await, 200);
        let (status, health) = node.health("/health/ready").await;
        assert_eq!((status, &health["components"]["cluster"]["status"]), (503, &json!("DOWN")));
        assert_eq!(node.health("/health").await.1["cluster"]["lease"], "expired");
    }

    redis.start_again();
    for node in &nodes {
        node.wait_for(&kept, 200).await;
        assert_eq!(node.check(&revoked).await, 401);
    }
    // Now the nodes publish the revocation that was answered with 503. On a very slow machine, the lease may have ended
    // before the request. Then the node has stored nothing, and `unconfirmed` is 0.
    for node in nodes.iter().filter(|_| unconfirmed > 0) {
        node.wait_for(&late, 401).await;
    }
    assert_eq!(nodes[1].revoke(&kept).await, 204);
    check_all(&nodes, &kept, 401).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_flush_of_redis_tokens_stay_revoked_and_the_nodes_fill_redis_again() {
    let Some(redis) = redis() else { return };
    let site = Site::at(&redis.url()).await;
    let nodes = site.start_all(["a", "b"]).await;
    let (before, kept) = (nodes[0].pat("dcpassticket").await, nodes[0].login().await);
    assert_eq!(nodes[0].revoke(&before).await, 200);

    redis.flush();
    for _ in 0..50 {
        for node in &nodes {
            assert_ne!(node.check(&before).await, 200);
        }
    }
    for node in &nodes {
        node.wait_for(&kept, 200).await;
    }
    let after = nodes[1].pat("dcpassticket").await;
    assert_eq!(nodes[1].revoke(&after).await, 200);
    check_all(&nodes, &after, 401).await;
    check_all(&nodes, &before, 401).await;

    // A new node gets all revocations from Redis. Its file is missing, but the other nodes have shared their data.
    let config = site.configure("c", "c", |yaml| yaml);
    let new = site.serve(config, &[]).await;
    assert_eq!(new.check(&before).await, 401);
    assert_eq!(new.check(&after).await, 401);
    assert_eq!(new.check(&kept).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_paused_for_longer_than_its_lease_accepts_no_revoked_token() {
    let Some(redis) = redis() else { return };
    let site = Site::at(&redis.url()).await;
    let nodes = site.start_all(["a", "b"]).await;
    let (pat, kept) = (nodes[0].pat("dcpassticket").await, nodes[0].login().await);
    assert_eq!(nodes[1].check(&pat).await, 200);

    nodes[1].pause();
    // `nodes[0]` answers only when the lease of the paused node has certainly ended.
    let status = nodes[0].revoke(&pat).await;
    nodes[1].resume();
    for _ in 0..20 {
        let answer = nodes[1].check(&pat).await;
        assert_ne!((status, answer), (200, 200), "a revoked token was accepted");
    }
    assert_eq!(status, 200);
    nodes[1].wait_for(&kept, 200).await;
    assert_eq!(nodes[1].check(&pat).await, 401);
}

async fn fails(config: &std::path::Path, options: &[&str]) -> (Option<i32>, String) {
    let mut args = vec!["serve".to_owned(), "--config".to_owned(), config.display().to_string()];
    args.extend(options.iter().map(|&option| option.to_owned()));
    spawn_blocking(move || {
        let output = std::process::Command::new(PROGRAM).args(args).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_does_not_start_if_its_name_or_its_data_is_wrong() {
    let Some(redis) = redis() else { return };
    let site = Site::at(&redis.url()).await;

    // The revocation file is missing, and no other node has shared its data. So this node cannot get the revocations.
    let config = site.configure("lost", "lost", |yaml| yaml);
    for _ in 0..2 {
        let (code, output) = fails(&config, &[]).await;
        assert_eq!(code, Some(2), "{output}");
        assert!(output.contains("--new-store"), "{output}");
        assert!(!config.with_file_name("lost.redb").exists());
    }

    let node = site.start("a").await;
    let login = node.login().await;
    let config = site.configure("other", "a", |yaml| yaml);
    let (code, output) = fails(&config, &["--new-store"]).await;
    assert_eq!(code, Some(2), "{output}");
    assert!(output.contains("another node with the name a is running"), "{output}");
    assert_eq!(node.check(&login).await, 200);

    redis.run(&["SET", "tp:{site}:version", "99"]).ok();
    let config = site.configure("new", "new", |yaml| yaml);
    let (code, output) = fails(&config, &["--new-store"]).await;
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("protocol version 99"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_does_not_start_with_the_empty_file_of_a_process_that_was_killed_while_it_joined() {
    let Some(mut redis) = redis() else { return };
    let site = Site::at(&redis.url()).await;
    let config = site.configure("lost", "lost", |yaml| yaml);
    let file = config.with_file_name("lost.redb");

    redis.kill();
    let mut program = std::process::Command::new(PROGRAM);
    program.arg("serve").arg("--config").arg(&config);
    let mut process = program.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    while !file.exists() {
        assert!(start.elapsed() < PATIENCE, "the program makes no file");
        sleep(Duration::from_millis(10)).await;
    }
    process.kill().unwrap();
    process.wait().unwrap();

    redis.start_again();
    let (code, output) = fails(&config, &[]).await;
    assert_eq!(code, Some(2), "{output}");
    assert!(output.contains("--new-store"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_never_make_the_same_passticket_with_replay_protection() {
    let Some(redis) = redis() else { return };
    let site = Site::at(&redis.url()).await;
    let protect = |yaml: String| {
        assert!(yaml.contains("replayProtection: false"));
        yaml.replace("replayProtection: false", "replayProtection: true")
    };
    let one = site.serve(site.configure("a", "a", protect), &["--new-store"]).await;
    let two = site.serve(site.configure("b", "b", protect), &[]).await;
    let token = one.login().await;
    let mut tickets = Vec::new();
    let start = Instant::now();
    while tickets.len() < 4 {
        assert!(start.elapsed() < PATIENCE, "{tickets:?}");
        let (from_one, from_two) =
            tokio::join!(one.ticket(&token, "ZOWEAPPL"), two.ticket(&token, "ZOWEAPPL"));
        for answer in [from_one, from_two] {
            match answer {
                Ok(ticket) => tickets.push(ticket),
                Err(status) => assert_eq!(status, 503),
            }
        }
        sleep(Duration::from_millis(50)).await;
    }
    let distinct: HashSet<_> = tickets.iter().collect();
    assert_eq!(distinct.len(), tickets.len(), "{tickets:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_killed_starts_again_with_all_revocations() {
    let Some(redis) = redis() else { return };
    let site = Site::at(&redis.url()).await;
    let [a, mut b] = site.start_all(["a", "b"]).await;
    let pats = [a.pat("dcpassticket").await, a.pat("dcpassticket").await];
    assert_eq!(b.revoke(&pats[0]).await, 200);
    b.kill();
    // Node `a` answers only when the lease of the killed node has ended.
    assert_eq!(a.revoke(&pats[1]).await, 200);
    let b = site.serve(b.config.clone(), &[]).await;
    for pat in &pats {
        assert_eq!(b.check(pat).await, 401);
    }
    let login = b.login().await;
    assert_eq!(b.revoke(&login).await, 204);
    assert_eq!(a.check(&login).await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_node_leaves_so_that_no_node_waits_for_it() {
    let Some(redis) = redis() else { return };
    let site = Site::at(&redis.url()).await;
    let [a, mut b] = site.start_all(["a", "b"]).await;
    let pat = a.pat("dcpassticket").await;
    b.program.signal("-TERM");
    let (status, log) = spawn_blocking(move || b.program.wait()).await.unwrap();
    assert!(status.success(), "{log}");
    let leases = redis.run(&["HKEYS", "tp:{site}:leases"]);
    assert_eq!(
        leases,
        test_support::redis::Reply::Array(
            vec![b"a".to_vec()].into_iter().map(test_support::redis::Reply::Bytes).collect()
        )
    );
    assert_eq!(a.revoke(&pat).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_takes_over_continues_the_lease() {
    let Some(redis) = redis() else { return };
    let site = Site::at(&redis.url()).await;
    let [a, mut b] = site.start_all(["a", "b"]).await;
    let mut login = a.login().await;
    for round in 0..2 {
        let next = successor(&b.config).await;
        let mut old = std::mem::replace(&mut b.program, next);
        assert_eq!(b.check(&login).await, 200, "round {round}");
        assert_eq!(a.revoke(&login).await, 204);
        assert_eq!(b.check(&login).await, 401);
        let (status, log) = spawn_blocking(move || old.wait()).await.unwrap();
        assert!(status.success(), "{log}");
        login = b.login().await;
        assert_eq!(a.check(&login).await, 200);
    }
    assert_eq!(b.revoke(&login).await, 204);
    assert_eq!(a.check(&login).await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_takeover_gives_the_lease_back() {
    let Some(redis) = redis() else { return };
    let site = Site::at(&redis.url()).await;
    let [a, mut b] = site.start_all(["a", "b"]).await;
    let login = a.login().await;
    let socket = b.config.with_file_name("b.redb.takeover");
    let made = async {
        while !socket.exists() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, made).await.unwrap();
    // Node `b` has given its lease to the fake process before the test kills the fake process. In the second round, the
    // fake process also has the permission to serve.
    for steps in [3, 5] {
        let mut new = fake(&socket, steps);
        sleep(Duration::from_millis(500)).await;
        new.kill().unwrap();
        new.wait().unwrap();
        b.wait_for(&login, 200).await;
    }
    b = spawn_blocking(move || {
        b.program.logged("the takeover failed; this process continues");
        b
    })
    .await
    .unwrap();
    assert_eq!(a.revoke(&login).await, 204);
    assert_eq!(b.check(&login).await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_starts_later_has_all_revocations_before_it_answers() {
    let Some(redis) = redis() else { return };
    let site = Site::at(&redis.url()).await;
    let a = site.start("a").await;
    let mut pats = Vec::new();
    for _ in 0..50 {
        let pat = a.pat("dcpassticket").await;
        assert_eq!(a.revoke(&pat).await, 200);
        pats.push(pat);
    }
    let b = site.start("b").await;
    for pat in &pats {
        assert_eq!(b.check(pat).await, 401);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_on_one_node_closes_the_websocket_on_the_other() {
    let Some(redis) = redis() else { return };
    let service = raw::service(async |stream| drop(echo(stream).await)).await;
    let site = Site::at(&redis.url()).await;
    let definition = format!(
        "services:\n  - serviceId: svc\n    instanceBaseUrls: [\"http://{service}\"]\n    routes:\n      - {{gatewayUrl: api/v1, \
         serviceRelativeUrl: /}}\n    authentication: {{scheme: httpBasicPassTicket, applid: ZOWEAPPL}}\n"
    );
    fs::write(site.directory().join("api-defs/svc.yml"), definition).unwrap();
    let [a, b] = site.start_all(["a", "b"]).await;
    let Token::Login(token) = a.login().await else { panic!("not a login token") };
    let stream = open_of(&b.url, site.builder(), &token).await;
    assert_eq!(a.revoke(&Token::Login(token)).await, 204);
    assert_eq!(closed(stream).await, Some(1008));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_cluster_needs_a_restart_and_the_reload_says_so() {
    let Some(redis) = redis() else { return };
    let site = Site::at(&redis.url()).await;
    let mut node = site.start("a").await;
    site.configure("a", "a", |yaml| yaml.replace("name: site", "name: other"));
    node.program.signal("-HUP");
    spawn_blocking(move || {
        node.program.logged("the cluster changes only when the program is restarted")
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn check_live_describes_redis_and_the_nodes() {
    let Some(redis) = redis() else { return };
    let site = Site::at(&redis.url()).await;
    let node = site.start("a").await;
    let args = ["check", "--live", "--config", node.config.to_str().unwrap()];
    let output = std::process::Command::new(PROGRAM).args(args).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for want in [
        "cluster: Redis at 127.0.0.1",
        "is the primary with 0 replicas",
        "its clock differs by",
        "nodes with a lease: a",
        "ACL SETUSER tp ",
    ] {
        assert!(text.contains(want), "{want}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_that_the_demo_with_two_nodes_prints_work() {
    let Some(redis) = redis() else { return };
    if !has_curl() {
        return;
    }
    let url = redis.url();
    let answers = spawn_blocking(move || {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().to_str().unwrap();
        let args = [
            "serve",
            "--demo",
            "--nodes",
            "2",
            "--redis",
            &url,
            "--port",
            "0",
            "--data-dir",
            directory,
        ];
        let mut program = Running::start(PROGRAM, &args);
        let printed = program.printed("CLIENT PAUSE");
        let commands: Vec<_> = printed.lines().filter_map(|line| line.strip_prefix("  ")).collect();
        // The test leaves out the last command, because it needs redis-cli.
        let script = commands[..4].join("\n");
        let output = std::process::Command::new("sh").args(["-ec", &script]).output().unwrap();
        program.signal("-TERM");
        let (status, log) = program.wait();
        assert!(status.success(), "{log}");
        String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr)
    });
    assert_eq!(answers.await.unwrap(), "200\n401\n200\n401\n");
}

#[test]
fn the_demo_with_two_nodes_says_that_redis_is_missing() {
    let directory = tempfile::tempdir().unwrap();
    let redis = format!("redis://127.0.0.1:{}", test_support::free_port());
    for (url, code, want) in [
        (&*redis, 3, "start a Redis, for example"),
        ("redis://redis.example.com", 2, "--redis: "),
        ("redis://:secret@localhost", 2, "without a password"),
    ] {
        let directory = directory.path().to_str().unwrap();
        let args = [
            "serve",
            "--demo",
            "--nodes",
            "2",
            "--redis",
            url,
            "--port",
            "0",
            "--data-dir",
            directory,
        ];
        let output = std::process::Command::new(PROGRAM).args(args).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{error}");
        assert!(error.contains(want) && !error.contains("secret"), "{error}");
    }
}
