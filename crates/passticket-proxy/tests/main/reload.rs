//! Tests that the running program applies a changed configuration, and that a configuration with errors changes
//! nothing.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use http::{Method, StatusCode};
use reqwest::{Client, Identity, Version};
use serde_json::{Value, json};
use test_support::{
    PATIENCE,
    apiml::FakeApiml,
    fake::{Answer, Fake},
    jws,
    pki::{self, Authority, USER},
    raw,
    websocket::{Frame, TEXT, echo},
    zosmf::{FakeZosmf, UserState},
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tower_passticket::clock::{Clock, SystemClock};

use crate::{
    support::{Demo, admin_address, metric, user_service, with_site},
    websocket,
};

/// A gateway with an admin port, in front of a service that answers each request.
struct Gateway {
    demo: Demo,
    admin: SocketAddr,
    client: Client,
}

impl Gateway {
    async fn start(edit: impl FnOnce(&Path, String) -> String + Send + 'static) -> Self {
        Self::start_before(crate::serve::service().await, edit).await
    }

    async fn start_before(
        service: SocketAddr,
        edit: impl FnOnce(&Path, String) -> String + Send + 'static,
    ) -> Self {
        let service = format!("http://{service}");
        let mut demo = Demo::beside_servers(move |directory, yaml| {
            let yaml = with_site(directory, &yaml, &service);
            edit(directory, yaml) + "    admin:\n      port: 0\n"
        })
        .await;
        let admin = admin_address(&mut demo.program);
        let client = Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        Self { demo, admin, client }
    }

    async fn ask(&self, method: Method, path: &str) -> (StatusCode, Value) {
        let url = format!("http://{}{path}", self.admin);
        let response = self.client.request(method, url).send().await.unwrap();
        (response.status(), response.json().await.unwrap())
    }

    async fn reload(&self) -> Value {
        let (status, answer) = self.ask(Method::POST, "/reload").await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    async fn metric(&self, series: &str) -> i64 {
        metric(&self.client, self.admin, series).await
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.demo.directory.join(name)
    }

    fn edit(&self, name: &str, edit: impl FnOnce(String) -> String) {
        let path = self.path(name);
        let text = edit(fs::read_to_string(&path).unwrap());
        replace(&path, &text);
    }

    /// Waits until at least `count` reloads have had this result. The gateway watches its files, and reloads them when
    /// they change.
    async fn wait_for_reloads(&self, result: &str, count: i64) {
        let series = format!("passticket_configuration_reloads_total{{result=\"{result}\"}}");
        let deadline = Instant::now() + PATIENCE;
        while self.metric(&series).await < count {
            assert!(Instant::now() < deadline, "{series}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Sends a request to the service. Returns its status, or 401 if the response has `X-Zowe-Auth-Failure`.
    async fn status(&self, client: &Client) -> StatusCode {
        let response = client.get(self.demo.at("/svc/api/v1/x")).send().await.unwrap();
        match response.headers().get("x-zowe-auth-failure") {
            Some(_) => StatusCode::UNAUTHORIZED,
            None => response.status(),
        }
    }
}

/// Replaces a file by renaming a new file, which gets the mode of the old file.
fn replace(path: &Path, text: &str) {
    let mode = fs::metadata(path).map_or(0o600, |metadata| metadata.permissions().mode());
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(mode)).unwrap();
    fs::rename(&new, path).unwrap();
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_and_no_connection_is_lost_under_load() {
    let gateway = Gateway::start(|_, yaml| yaml).await;
    let counts = Arc::new((AtomicUsize::new(0), AtomicBool::new(false)));
    let mut load = JoinSet::new();
    for http2 in [false, true, false, true] {
        let builder = gateway.demo.builder();
        let builder = if http2 { builder } else { builder.http1_only() };
        let (pem, key) = ("certs/USER.pem", "certs/USER.key");
        let mut identity = fs::read(gateway.path(pem)).unwrap();
        identity.extend(fs::read(gateway.path(key)).unwrap());
        let client = builder.identity(Identity::from_pem(&identity).unwrap()).build().unwrap();
        let (url, counts) = (gateway.demo.at("/svc/api/v1/x"), counts.clone());
        load.spawn(async move {
            while !counts.1.load(Ordering::Relaxed) {
                let response = client.get(&url).send().await.unwrap();
                assert!(response.headers().get("x-zowe-auth-failure").is_none());
                assert_eq!(response.text().await.unwrap(), "/x");
                counts.0.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let reloads: usize = std::env::var("RELOADS").map_or(30, |count| count.parse().unwrap());
    let mut used = Vec::new();
    let first = gateway.path("zowe.yaml");
    let yaml = fs::read_to_string(&first).unwrap();
    for number in 0..reloads {
        // If the time limit for bodies changes, the gateway opens new connections to the service.
        let (level, tokens, seconds) =
            (["debug", "info"][number % 2], 1000 + number % 3, 100 + number / 4);
        let change = format!(
            "    limits: {{cachedTokens: {tokens}}}\n    timeouts: {{serviceBodySeconds: {seconds}}}\n    logLevel: {level}\n"
        );
        replace(&first, &format!("{yaml}{change}"));
        // On a busy machine, the file watch may already have reloaded the file.
        gateway.reload().await;
        if number == reloads / 3 || number + 1 == reloads {
            used.push(usage(gateway.demo.program.pid()));
        }
    }
    let answered = counts.0.load(Ordering::Relaxed);
    counts.1.store(true, Ordering::Relaxed);
    while let Some(ended) = load.join_next().await {
        ended.unwrap();
    }
    assert!(answered > reloads, "{answered} answers");
    let reloaded =
        gateway.metric("passticket_configuration_reloads_total{result=\"reloaded\"}").await;
    assert_eq!(reloaded, i64::try_from(reloads).unwrap());
    // Each client has used one connection.
    let opened = gateway.metric("passticket_connections_total").await;
    println!("{reloads} reloads, {answered} answers, {opened} connections, usage {used:?}");
    assert_eq!(opened, 4);
    let [(files, threads, memory), (files_after, threads_after, memory_after)] = *used else {
        panic!("{used:?}")
    };
    assert!(files_after <= files + 2, "{used:?}");
    assert!(threads_after <= threads + 2, "{used:?}");
    assert!(memory_after <= memory + memory / 4, "{used:?}");
}

/// Returns the numbers of open files and of threads, and the memory (resident set) in KiB.
fn usage(pid: u32) -> (usize, usize, usize) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let files = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    (files, value("Threads:"), value("VmRSS:"))
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_routes_users_and_log_level_take_effect_immediately() {
    let mut gateway = Gateway::start(|_, yaml| yaml).await;
    let client = gateway.demo.client_of("USER");
    assert_eq!(gateway.status(&client).await, 200);
    assert_eq!(gateway.reload().await, json!({"result": "unchanged"}));

    gateway.edit("api-defs/demo.yml", |text| text.replace("serviceId: svc", "serviceId: other"));
    let answer = gateway.reload().await;
    let changes = strings(&answer["changes"]);
    assert_eq!(changes, ["route /other/api/v1 added", "route /svc/api/v1 removed"]);
    assert!(strings(&answer["files"])[0].ends_with("api-defs/demo.yml"), "{answer}");
    let line = gateway.demo.program.logged("configuration reloaded");
    assert!(line.contains("demo.yml") && line.contains("/other/api/v1 added"), "{line}");
    assert_eq!(gateway.status(&client).await, 404);
    let other = client.get(gateway.demo.at("/other/api/v1/x")).send().await.unwrap();
    assert_eq!(other.text().await.unwrap(), "/x");
    // The file watch finds a new file in the directory of the definitions.
    let definition = fs::read_to_string(gateway.path("api-defs/demo.yml")).unwrap();
    fs::write(gateway.path("api-defs/svc.yml"), definition.replace("other", "svc")).unwrap();
    gateway.wait_for_reloads("reloaded", 2).await;
    assert_eq!(gateway.status(&client).await, 200);

    gateway.demo.login().await;
    gateway.edit("users.yml", |text| text.replace("USER:", "OTHER:"));
    assert_eq!(strings(&gateway.reload().await["changes"]), ["users"]);
    let login = gateway.demo.client().post(gateway.demo.auth("login"));
    let login = login.basic_auth("USER", Some("validPassword")).send().await.unwrap();
    assert_eq!(login.status(), 401);

    // The test changes the log level. The program was started with the level debug.
    gateway.edit("zowe.yaml", |text| text + "    logLevel: error\n");
    assert_eq!(strings(&gateway.reload().await["changes"]), ["level of the log"]);
    gateway.edit("zowe.yaml", |text| text.replace("logLevel: error", "logLevel: warn"));
    gateway.reload().await;
    gateway.demo.program.signal("-TERM");
    let (_, log) = gateway.demo.program.wait();
    let after = log.split("configuration reloaded").last().unwrap();
    assert!(!after.contains("SIGTERM received"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_configuration_changes_nothing_and_names_file_line_and_remedy() {
    let mut gateway = Gateway::start(|_, yaml| yaml).await;
    let client = gateway.demo.client_of("USER");
    let good = fs::read_to_string(gateway.path("zowe.yaml")).unwrap();
    let lines = good.lines().count();
    for (name, change, want) in [
        ("zowe.yaml", "    limits: [\n".to_owned(), "zowe.yaml:".to_owned()),
        (
            "zowe.yaml",
            "    users: nobody.yml\n".to_owned(),
            format!("zowe.yaml:{}: components.passticket-proxy.users", lines + 1),
        ),
        (
            "zowe.yaml",
            "    logLevel: loud\n".to_owned(),
            format!(
                "zowe.yaml:{}: components.passticket-proxy.logLevel: \"loud\" is not a log directive; write a level",
                lines + 1
            ),
        ),
        ("api-defs/demo.yml", "  - serviceId: [\n".to_owned(), "api-defs/demo.yml:".to_owned()),
    ] {
        let before = fs::read_to_string(gateway.path(name)).unwrap();
        gateway.edit(name, |text| text + &change);
        let (status, answer) = gateway.ask(Method::POST, "/reload").await;
        assert_eq!((status.as_u16(), &answer["result"]), (422, &json!("failed")), "{answer}");
        let problems = strings(&answer["problems"]);
        assert!(problems.iter().any(|it| it.contains(&want)), "{want}: {answer}");
        assert_eq!(gateway.status(&client).await, 200);
        replace(&gateway.path(name), &before);
        assert_eq!(gateway.reload().await["result"], "unchanged");
    }
    let key = gateway.path("certs/localhost.key");
    fs::rename(&key, key.with_extension("away")).unwrap();
    gateway.wait_for_reloads("failed", 5).await;
    let line = gateway.demo.program.logged("localhost.key: No such file");
    assert!(line.contains("configuration not reloaded"), "{line}");
    assert!(line.contains("components.") || line.contains("zowe.certificate"), "{line}");
    let (status, health) = gateway.ask(Method::GET, "/health").await;
    assert_eq!(status, 503);
    let configuration = &health["components"]["configuration"];
    assert!(configuration["reason"].as_str().unwrap().contains("localhost.key"), "{health}");
    // The gateway is still ready, and still uses its old configuration.
    assert_eq!(gateway.ask(Method::GET, "/health/ready").await.0, 200);
    assert_eq!(gateway.status(&gateway.demo.client_of("USER")).await, 200);
    fs::rename(key.with_extension("away"), &key).unwrap();
    gateway.demo.program.logged("have no problem any more");
    assert_eq!(gateway.ask(Method::GET, "/health").await.0, 200);

    // The test writes the file in several steps. The file is valid YAML after each step. At each poll, the file watch
    // sees that the file still grows, and waits.
    let definition = fs::read_to_string(gateway.path("api-defs/demo.yml")).unwrap();
    let more = definition.replace("serviceId: svc", "serviceId: more");
    let more = more.strip_prefix("services:\n").unwrap();
    let path = gateway.path("api-defs/demo.yml");
    let deadline = Instant::now() + Duration::from_secs(6);
    let mut text = definition.clone();
    while Instant::now() < deadline {
        text.push_str("# one more line\n");
        fs::write(&path, &text).unwrap();
        sleep(Duration::from_millis(200)).await;
    }
    let reloaded = "passticket_configuration_reloads_total{result=\"reloaded\"}";
    assert_eq!(gateway.metric(reloaded).await, 0);
    fs::write(&path, format!("{definition}{more}")).unwrap();
    gateway.wait_for_reloads("reloaded", 1).await;
    let response = client.get(gateway.demo.at("/more/api/v1/x")).send().await.unwrap();
    assert_eq!(response.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_and_stores_need_a_restart() {
    let mut gateway = Gateway::start(|_, yaml| yaml).await;
    gateway.edit("zowe.yaml", |text| {
        let text = text.replace("      port: 0\n", "      port: 2\n");
        let text = text.replace("    port: 0\n", "    port: 1\n");
        let text = text.replace("revocations: revocations.redb", "revocations: new.redb");
        text.replace("file: audit.jsonl", "file: new.jsonl")
            + "    logLevel: debug\n    timeouts: {tunnelDrainSeconds: 7}\n"
    });
    let answer = gateway.reload().await;
    let warnings = strings(&answer["warnings"]);
    for want in [
        "gateway.port: the address",
        "admin",
        "revocations: the file",
        "audit: the audit",
        "timeouts.tunnelDrainSeconds: the drain timeout of WebSockets",
    ] {
        let found = warnings.iter().any(|it| it.contains(want) && it.contains("restarted"));
        assert!(found, "{want}: {answer}");
    }
    assert_eq!(strings(&answer["changes"]), ["timeouts", "level of the log"]);
    gateway.demo.program.logged("changes only when the program is restarted");
    assert_eq!(gateway.status(&gateway.demo.client_of("USER")).await, 200);
    assert!(!gateway.path("new.redb").exists() && !gateway.path("new.jsonl").exists());
}

/// Kubernetes changes the files of a volume by replacing the symbolic link `..data`. All paths of the files contain
/// this link.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_kubernetes_has_replaced_reloads_all_files() {
    let gateway = Gateway::start(|directory, yaml| {
        let mount = directory.join("mount");
        fs::create_dir_all(mount.join("..1")).unwrap();
        fs::rename(directory.join("api-defs/demo.yml"), mount.join("..1/demo.yml")).unwrap();
        symlink("..1", mount.join("..data")).unwrap();
        symlink("..data/demo.yml", mount.join("demo.yml")).unwrap();
        yaml.replace("apiDefs: api-defs", "apiDefs: mount")
    })
    .await;
    let client = gateway.demo.client_of("USER");
    assert_eq!(gateway.status(&client).await, 200);
    let mount = gateway.path("mount");
    fs::create_dir(mount.join("..2")).unwrap();
    let text = fs::read_to_string(mount.join("demo.yml")).unwrap();
    fs::write(mount.join("..2/demo.yml"), text.replace("serviceId: svc", "serviceId: two"))
        .unwrap();
    symlink("..2", mount.join("..data_tmp")).unwrap();
    fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
    fs::remove_dir_all(mount.join("..1")).unwrap();
    gateway.wait_for_reloads("reloaded", 1).await;
    assert_eq!(gateway.status(&client).await, 404);
    let two = client.get(gateway.demo.at("/two/api/v1/x")).send().await.unwrap();
    assert_eq!(two.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn new_handshakes_get_the_new_certificate_and_open_connections_stay_open() {
    let gateway = Gateway::start(|_, yaml| yaml).await;
    let open = gateway.demo.client_of("USER");
    assert_eq!(gateway.status(&open).await, 200);
    // An authority that the gateway has not used before has issued the new certificate. The authorities that the
    // gateway trusts stay the same.
    let site = Authority::trusted();
    let key = pki::SERVER.key_pair();
    let certificate = site.certify(&key, |params| {
        *params = pki::leaf_params("localhost");
        params.subject_alt_names = vec![rcgen::SanType::DnsName("localhost".try_into().unwrap())];
    });
    replace(&gateway.path("certs/localhost.pem"), &certificate);
    replace(&gateway.path("certs/localhost.key"), &key.serialize_pem());
    let answer = gateway.reload().await;
    assert_eq!(strings(&answer["changes"]), ["certificate"]);
    assert_eq!(gateway.status(&open).await, 200);
    assert_eq!(gateway.metric("passticket_connections_total").await, 1);
    // From here on, only a client that trusts the new issuer can connect.
    let new = test_support::client(site.pem().as_bytes()).build().unwrap();
    let url = gateway.demo.at("/svc/api/v1/x");
    assert_eq!(new.get(&url).send().await.unwrap().status(), 200);
    assert!(gateway.demo.client().get(&url).send().await.is_err());
    assert_eq!(gateway.status(&open).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn open_connections_of_a_revoked_client_certificate_are_closed() {
    let gateway = Gateway::start(|directory, yaml| {
        // The gateway would refuse certificates of the demo's authority, because it has no revocation list of this
        // authority.
        let list = Authority::trusted().revoke(&[1], |_| {});
        fs::write(directory.join("certs/site.crl"), list).unwrap();
        yaml.replace("[certs/ca.pem, certs/site.pem]", "certs/site.pem")
            .replace("serviceAuthorities: certs/site.pem", "serviceAuthorities: certs/ca.pem")
            + "    crls: certs/site.crl\n"
    })
    .await;
    let site = Authority::trusted();
    let key = USER.key_pair();
    let client = |serial: u64, http2: bool| {
        let certificate = site.certify(&key, |params| params.serial_number = Some(serial.into()));
        let pem = certificate + &key.serialize_pem();
        let builder = gateway.demo.builder();
        let builder = if http2 { builder } else { builder.http1_only() };
        builder.identity(Identity::from_pem(pem.as_bytes()).unwrap()).build().unwrap()
    };
    let clients = [(7, false), (7, true), (8, false), (8, true)].map(|(serial, http2)| {
        (serial, if http2 { Version::HTTP_2 } else { Version::HTTP_11 }, client(serial, http2))
    });
    for (_, version, client) in &clients {
        let response = client.get(gateway.demo.at("/svc/api/v1/x")).send().await.unwrap();
        assert_eq!((response.status(), response.version()), (StatusCode::OK, *version));
        assert_eq!(response.text().await.unwrap(), "/x");
    }
    // These requests are in flight when the test revokes the certificate.
    let mut in_flight = JoinSet::new();
    for (_, _, client) in &clients {
        let request = client.get(gateway.demo.at("/svc/api/v1/slow"));
        in_flight.spawn(async { request.send().await.unwrap().text().await.unwrap() });
    }
    sleep(Duration::from_millis(300)).await;
    replace(&gateway.path("certs/site.crl"), &site.revoke(&[8], |_| {}));
    let answer = gateway.reload().await;
    let changes = strings(&answer["changes"]);
    assert_eq!(changes[0], "revocation lists", "{answer}");
    assert!(changes[1].contains("connections closed: their client certificate"), "{answer}");
    while let Some(answer) = in_flight.join_next().await {
        assert_eq!(answer.unwrap(), "slow response");
    }
    for (serial, version, client) in &clients {
        let answer = client.get(gateway.demo.at("/svc/api/v1/x")).send().await;
        match serial {
            7 => assert_eq!(answer.unwrap().status(), 200, "{version:?}"),
            // The gateway has closed the open connection, and refuses a new handshake.
            _ => assert!(answer.is_err(), "{version:?}: {answer:?}"),
        }
    }
    let closed = "passticket_connections_closed_total{reason=\"certificate\"}";
    assert!(gateway.metric(closed).await >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn websockets_of_a_revoked_client_certificate_are_closed_with_1008() {
    let service = raw::service(async |stream| drop(echo(stream).await)).await;
    let mut gateway = Gateway::start_before(service, |directory, yaml| {
        let list = Authority::trusted().revoke(&[1], |_| {});
        fs::write(directory.join("certs/site.crl"), list).unwrap();
        yaml.replace("[certs/ca.pem, certs/site.pem]", "certs/site.pem")
            .replace("serviceAuthorities: certs/site.pem", "serviceAuthorities: certs/ca.pem")
            + "    crls: certs/site.crl\n"
    })
    .await;
    let site = Authority::trusted();
    let key = USER.key_pair();
    let client = |serial: u64| {
        let certificate = site.certify(&key, |params| params.serial_number = Some(serial.into()));
        let pem = certificate + &key.serialize_pem();
        gateway.demo.builder().identity(Identity::from_pem(pem.as_bytes()).unwrap())
    };
    let mut good = websocket::open_of(&gateway.demo.url, client(7), "").await;
    let revoked = websocket::open_of(&gateway.demo.url, client(8), "").await;
    replace(&gateway.path("certs/site.crl"), &site.revoke(&[8], |_| {}));
    let answer = gateway.reload().await;
    let changes = strings(&answer["changes"]);
    assert!(changes[1].starts_with("1 connections closed: their client certificate"), "{answer}");
    assert_eq!(websocket::closed(revoked).await, Some(1008));
    let line = gateway.demo.program.logged("WebSocket closed: its credential is no longer valid");
    assert!(line.contains("certificate-revoked"), "{line}");
    for series in [
        "passticket_connections_closed_total{reason=\"certificate\"}",
        "passticket_tunnels_ended_total{reason=\"revoked\"}",
        "passticket_tunnels_open",
    ] {
        assert_eq!(gateway.metric(series).await, 1, "{series}");
    }
    Frame::masked(TEXT, *b"still here").write(&mut good).await.unwrap();
    let echoed = timeout(PATIENCE, Frame::read(&mut good)).await.unwrap().unwrap();
    assert_eq!(echoed, Some(Frame::plain(TEXT, *b"still here")));
    let deadline = Instant::now() + PATIENCE;
    let is_audited = |text: &str| {
        text.lines().any(|line| {
            ["web-socket-closed", "certificate-revoked"].iter().all(|part| line.contains(part))
        })
    };
    while !is_audited(&fs::read_to_string(gateway.path("audit.jsonl")).unwrap()) {
        assert!(Instant::now() < deadline);
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_a_removed_signing_key_are_refused_although_they_are_cached() {
    let gateway = Gateway::start(|directory, yaml| {
        let key = directory.join("keys/new.pem");
        fs::write(&key, pki::OTHER_SIGNING_KEY).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        yaml
    })
    .await;
    let query = async |token: &str| {
        let request = gateway.demo.client().get(gateway.demo.auth("query")).bearer_auth(token);
        request.send().await.unwrap().status().as_u16()
    };
    let old = gateway.demo.login().await;
    assert_eq!(query(&old).await, 200);
    let keys = |yaml: String, keys: &str| {
        let start = yaml.find("    signingKey").unwrap();
        let end = start + yaml[start..].find("\n    users:").unwrap() + 1;
        format!("{}{keys}{}", &yaml[..start], &yaml[end..])
    };
    let both =
        "    signingKeys:\n    - {file: keys/jwt.pem}\n    - {file: keys/new.pem, signs: true}\n";
    gateway.edit("zowe.yaml", |yaml| keys(yaml, both));
    assert_eq!(strings(&gateway.reload().await["changes"]), ["signing keys"]);
    assert_eq!(query(&old).await, 200);
    let new = gateway.demo.login().await;
    assert_eq!(query(&new).await, 200);
    gateway.edit("zowe.yaml", |yaml| keys(yaml, "    signingKey: keys/new.pem\n"));
    gateway.reload().await;
    assert_eq!((query(&old).await, query(&new).await), (401, 200));
}

/// How a client proves its identity.
enum Proof {
    Token(String),
    Password(&'static str),
    /// The proxy `APIMTST` forwards the certificate of `USER`.
    ForwardedCertificate,
}

impl Gateway {
    /// Sends a request. Returns the user for whom the gateway has forwarded the request. `None` if the gateway has
    /// refused the request.
    async fn user(&self, proof: &Proof) -> Option<String> {
        let url = self.demo.at("/svc/api/v1/x");
        let request = match proof {
            Proof::Token(token) => self.demo.client().get(url).bearer_auth(token),
            Proof::Password(password) => {
                let request = self.demo.client().post(self.demo.auth("login"));
                let response = request.basic_auth("USER", Some(password)).send().await.unwrap();
                return (response.status() == 204).then(|| "USER".to_owned());
            }
            Proof::ForwardedCertificate => {
                let pem = fs::read_to_string(self.path("certs/USER.pem")).unwrap();
                let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
                self.demo.client_of("APIMTST").get(url).header("Client-Cert", base64)
            }
        };
        let response = request.send().await.unwrap();
        match response.status().as_u16() {
            200 => Some(response.text().await.unwrap()),
            _ => None,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_identity_providers_and_proxies_take_effect_immediately() {
    let keys = json!({"keys": [jws::jwk(pki::OTHER_SIGNING_KEY)]});
    let provider = Fake::https(pki::SERVER.acceptor(), move |_| Answer::json(200, &keys)).await;
    let first_apiml = FakeApiml::https(pki::SERVER.acceptor()).await;
    let second_apiml = FakeApiml::https(pki::SERVER.acceptor()).await;
    let first_zosmf = FakeZosmf::https(pki::SERVER.acceptor()).await;
    let second_zosmf = FakeZosmf::https(pki::SERVER.acceptor()).await;
    second_zosmf.set_user("USER", "otherPassword", UserState::Active);
    let now = SystemClock.now().as_secs();
    let of_provider = jws::sign(
        pki::OTHER_SIGNING_KEY,
        &json!({"alg": "RS256"}),
        &json!({"iss": "https://idp", "sub": "jane@example.com", "aud": "gateway", "exp": now + 600, "iat": now}),
    );
    let of_provider = || Proof::Token(of_provider.clone());
    let of_first = Proof::Token(first_apiml.login_token("USER"));
    let of_second = || Proof::Token(second_apiml.login_token("USER"));
    let zowe = |apiml: &FakeApiml| {
        let port = apiml.address.port();
        format!("    zowe: {{url: 'https://localhost:{port}', checkLogoutSeconds: 0}}\n")
    };
    let zosmf =
        |zosmf: &FakeZosmf| format!("zOSMF: {{host: localhost, port: {}}}\n", zosmf.address.port());
    let oidc = format!(
        "    oidc:\n    - issuer: https://idp\n      jwksUri: https://localhost:{}/keys\n      audience: \
         gateway\n      registry: idp\n      certificateAuthorities: certs/site.pem\n",
        provider.address.port()
    );
    let forwarders = "    forwarders: {certificates: certs/APIMTST.pem}\n";

    let service = user_service().await.strip_prefix("http://").unwrap().parse().unwrap();
    let (at_start, zosmf_at_start) = (zowe(&first_apiml), zosmf(&first_zosmf));
    let gateway = Gateway::start_before(service, move |directory, yaml| {
        let identities = "identities:\n  distributed:\n    - {user: JANE, name: jane@example.com, \
                          registry: idp}\n";
        fs::write(directory.join("identities.yml"), identities).unwrap();
        let yaml = yaml.replace("    users: users.yml\n", "");
        let keys = "    onFailure: reject\n    timeouts: {providerSeconds: 3}\n";
        format!("{zosmf_at_start}{yaml}{keys}{at_start}")
    })
    .await;

    type Edit<'e> = Box<dyn FnOnce(String) -> String + 'e>;
    let replace = |from: String, to: String| -> Edit<'_> {
        Box::new(move |yaml| {
            assert!(yaml.contains(&from), "{from}");
            yaml.replace(&from, &to)
        })
    };
    let add = |keys: &str| -> Edit<'_> {
        let keys = keys.to_owned();
        Box::new(move |yaml| yaml + &keys)
    };
    // Each case has a name, a change of the configuration, and the proofs that the test sends after the change. Each
    // proof has the user whom the gateway must identify, or `None`.
    let cases: [(&str, Edit<'_>, Vec<(Proof, Option<&str>)>); 7] = [
        (
            "at the start",
            add(""),
            vec![
                (Proof::Token(first_apiml.login_token("USER")), Some("USER")),
                (Proof::Password("validPassword"), Some("USER")),
                (Proof::ForwardedCertificate, Some("APIMTST")),
                (of_second(), None),
                (Proof::Password("otherPassword"), None),
                (of_provider(), None),
            ],
        ),
        ("an identity provider", add(&oidc), vec![(of_provider(), Some("JANE"))]),
        ("no identity provider", replace(oidc.clone(), String::new()), vec![(of_provider(), None)]),
        (
            "another API ML",
            replace(zowe(&first_apiml), zowe(&second_apiml)),
            vec![(of_second(), Some("USER")), (of_first, None)],
        ),
        (
            "another z/OSMF",
            replace(zosmf(&first_zosmf), zosmf(&second_zosmf)),
            vec![
                (Proof::Password("otherPassword"), Some("USER")),
                (Proof::Password("validPassword"), None),
            ],
        ),
        ("a forwarder", add(forwarders), vec![(Proof::ForwardedCertificate, Some("USER"))]),
        // The certificate of a former forwarder identifies no user.
        (
            "no forwarder",
            replace(forwarders.to_owned(), String::new()),
            vec![(Proof::ForwardedCertificate, None)],
        ),
    ];
    for (number, (case, edit, proofs)) in cases.into_iter().enumerate() {
        gateway.edit("zowe.yaml", edit);
        let want = if number == 0 { "unchanged" } else { "reloaded" };
        assert_eq!(gateway.reload().await["result"], want, "{case}");
        for (position, (proof, want)) in proofs.iter().enumerate() {
            let deadline = Instant::now() + PATIENCE;
            // After the reload, the gateway first fetches the keys of the issuer.
            while want.is_some() && gateway.user(proof).await.is_none() && Instant::now() < deadline
            {
                sleep(Duration::from_millis(50)).await;
            }
            assert_eq!(gateway.user(proof).await.as_deref(), *want, "{case}, proof {position}");
        }
    }
}
