//! Tests of `serve --takeover`. With this option, a new process takes over the connections and the state of the running
//! gateway. The tests restart a gateway under load, and start new processes that fail.
//!
//! A PassTicket is a short-lived password of z/OS. A PAT is a Personal Access Token.

use std::{
    collections::HashSet,
    convert::Infallible,
    env, fs,
    io::{Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header::AUTHORIZATION};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use reqwest::Client;
use serde_json::json;
use test_support::{
    PATIENCE, Running,
    raw::{self, listener},
    websocket::{Frame, HANDSHAKE, TEXT, echo},
};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::TcpStream,
    task::{JoinSet, spawn_blocking},
    time::{sleep, timeout},
};
use tower_passticket::tls::Server;

use crate::support::{Demo, PROGRAM, certified, with_site};

/// Returns the number of restarts. A developer can set `TAKEOVER_ROUNDS` for more restarts.
fn rounds() -> usize {
    env::var("TAKEOVER_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5)
}

/// The number of users for whom the gateway makes PassTickets. Each of them sends about one request a second.
const TICKET_USERS: usize = 8;

/// A service with replay protection: it accepts each PassTicket only once.
#[derive(Clone, Default)]
struct Tickets {
    seen: Arc<Mutex<HashSet<String>>>,
    repeated: Arc<Mutex<Vec<String>>>,
}

impl Tickets {
    async fn answer(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let ticket = request.headers().get(AUTHORIZATION).map(|it| it.to_str().unwrap().to_owned());
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let mut response = Response::new(Full::from(body));
        if let Some(ticket) = ticket
            && !self.seen.lock().unwrap().insert(ticket.clone())
        {
            self.repeated.lock().unwrap().push(ticket);
            *response.status_mut() = StatusCode::UNAUTHORIZED;
        }
        Ok(response)
    }

    async fn start(&self) -> String {
        let (listener, address) = listener().await;
        let tickets = self.clone();
        let service = tower::service_fn(move |request| tickets.clone().answer(request));
        tokio::spawn(Server::http(listener).run(service, std::future::pending()));
        format!("http://{address}")
    }
}

#[derive(Clone, Default)]
struct Load {
    has_ended: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    failures: Arc<Mutex<Vec<String>>>,
}

impl Load {
    /// Sends one request after the other until the test ends.
    async fn send(
        self,
        name: &'static str,
        client: Client,
        method: Method,
        url: String,
        pause: Duration,
    ) {
        let mut number = 0;
        while !self.has_ended.load(SeqCst) {
            number += 1;
            let body =
                if method == Method::POST { format!("{name} {number}") } else { String::new() };
            let request = client.request(method.clone(), &url).body(body.clone());
            let answered = async {
                let response = request.send().await?;
                let failure = response.headers().get("x-zowe-auth-failure").cloned();
                Ok::<_, reqwest::Error>((response.status(), failure, response.text().await?))
            };
            match answered.await {
                Ok((StatusCode::OK, None, text)) if text == body => {
                    self.answered.fetch_add(1, SeqCst);
                }
                other => self.fail(format!("{name} {number}: {other:?}")),
            }
            sleep(pause).await;
        }
    }

    fn fail(&self, failure: String) {
        self.failures.lock().unwrap().push(failure);
    }
}

/// Starts a gateway with two routes. The service at `/svc/api/v1` gets PassTickets with replay protection. The route
/// `/open/api/v1` needs no credential.
async fn gateway(tickets: &Tickets) -> Demo {
    let service = tickets.start().await;
    let demo = Demo::beside_servers(move |directory, yaml| {
        let yaml = with_site(directory, &yaml, &service);
        let open = format!(
            "  - serviceId: open\n    instanceBaseUrls: [\"{service}\"]\n    routes:\n      - {{gatewayUrl: \
             api/v1, serviceRelativeUrl: /}}\n    authentication: {{scheme: bypass}}\n"
        );
        let path = directory.join("api-defs/demo.yml");
        fs::write(&path, fs::read_to_string(&path).unwrap() + &open).unwrap();
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
        yaml.replace("replayProtection: false", "replayProtection: true")
            .replace("    users: users.yml", "    admin: {port: 0}\n    users: users.yml")
    })
    .await;
    wait_for_socket(&demo).await;
    demo
}

/// Starts a process that takes over from the running gateway. Returns the process when it has taken over.
pub(crate) async fn successor(config: &Path) -> Running {
    let config = config.to_str().unwrap().to_owned();
    spawn_blocking(move || {
        let mut program = Running::start(PROGRAM, &["serve", "--takeover", "--config", &config]);
        program.logged("this process has taken over");
        program
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_under_load_lose_no_request_no_revocation_and_no_ticket() {
    let tickets = Tickets::default();
    let demo = gateway(&tickets).await;
    check_serves(&demo).await;
    let config = demo.directory.join("zowe.yaml");
    let load = Load::default();
    let mut clients = JoinSet::new();
    let (open, svc) = (demo.at("/open/api/v1/x"), demo.at("/svc/api/v1/x"));
    let http1 = || demo.builder().http1_only().build().unwrap();
    let unpooled = demo.builder().http1_only().pool_max_idle_per_host(0).build().unwrap();
    let none = Duration::from_millis(2);
    for (name, client, method, pause) in [
        ("HTTP/1.1 GET", http1(), Method::GET, none),
        ("HTTP/1.1 POST", http1(), Method::POST, none),
        ("HTTP/1.1 slow POST", http1(), Method::POST, Duration::from_millis(70)),
        ("HTTP/2 GET", demo.client(), Method::GET, none),
        ("HTTP/2 POST", demo.client(), Method::POST, none),
        ("HTTP/2 slow POST", demo.client(), Method::POST, Duration::from_millis(70)),
        ("new connections", unpooled, Method::GET, Duration::from_millis(20)),
    ] {
        clients.spawn(load.clone().send(name, client, method, open.clone(), pause));
    }
    for user in 0..TICKET_USERS {
        let client = certified(demo.builder(), &format!("USER{user}"));
        let pause = Duration::from_millis(1050);
        clients.spawn(load.clone().send("ticket", client, Method::GET, svc.clone(), pause));
    }
    let revoked = clients_that_revoke(&demo, &load, &mut clients);

    let Demo { mut program, url, directory: _directory, _temporary, .. } = demo;
    let mut ended = JoinSet::new();
    for _ in 0..rounds() {
        let next = successor(&config).await;
        let mut old = std::mem::replace(&mut program, next);
        ended.spawn_blocking(move || old.wait());
        sleep(Duration::from_millis(200)).await;
    }
    sleep(Duration::from_millis(500)).await;
    load.has_ended.store(true, SeqCst);
    while let Some(client) = timeout(PATIENCE, clients.join_next()).await.unwrap() {
        client.unwrap();
    }
    while let Some(old) = ended.join_next().await {
        let (status, log) = old.unwrap();
        assert!(status.success(), "{log}");
        assert!(log.contains("stopped; all requests were finished"), "{log}");
    }
    let failures = load.failures.lock().unwrap().clone();
    assert!(failures.is_empty(), "{} failures: {failures:#?}", failures.len());
    let repeated = tickets.repeated.lock().unwrap().clone();
    assert!(repeated.is_empty(), "PassTickets that were made twice: {repeated:?}");
    let (made, answered) = (tickets.seen.lock().unwrap().len(), load.answered.load(SeqCst));
    assert!(made >= TICKET_USERS && answered > 100, "{made} tickets, {answered} answers");
    let revoked = revoked.lock().unwrap().clone();
    assert!(!revoked.is_empty());
    for pat in &revoked {
        assert!(!accepts(&unrestricted(&config), &url, pat).await, "a revocation was lost");
    }
    println!("{answered} requests, {made} PassTickets, {} revocations", revoked.len());
}

fn unrestricted(config: &Path) -> Client {
    let authority = fs::read(config.with_file_name("certs").join("ca.pem")).unwrap();
    test_support::client(&authority).build().unwrap()
}

/// Starts clients that make PATs, revoke each PAT, and check that the gateway then refuses it. The clients return the
/// PATs whose revocation was confirmed.
fn clients_that_revoke(
    demo: &Demo,
    load: &Load,
    clients: &mut JoinSet<()>,
) -> Arc<Mutex<Vec<String>>> {
    let revoked = Arc::<Mutex<Vec<String>>>::default();
    let (url, client, load, all) =
        (demo.url.clone(), demo.client_of("USER"), load.clone(), revoked.clone());
    clients.spawn(async move {
        let auth = format!("{url}/gateway/api/v1/auth/access-token");
        while !load.has_ended.load(SeqCst) {
            let body = json!({"validity": 1, "scopes": ["svc"]});
            let made = client.post(format!("{auth}/generate")).json(&body).send().await;
            let pat = match made {
                Ok(response) if response.status() == 200 => response.text().await.unwrap(),
                other => {
                    load.fail(format!("generate: {other:?}"));
                    continue;
                }
            };
            let revoke = client.delete(format!("{auth}/revoke")).json(&json!({"token": pat}));
            match revoke.send().await {
                Ok(response) if response.status() == 200 => {}
                other => {
                    load.fail(format!("revoke: {other:?}"));
                    continue;
                }
            }
            if accepts(&client, &url, &pat).await {
                load.fail("a revoked PAT was accepted".to_owned());
            }
            all.lock().unwrap().push(pat);
            sleep(Duration::from_millis(20)).await;
        }
    });
    revoked
}

async fn accepts(client: &Client, url: &str, pat: &str) -> bool {
    let url = format!("{url}/gateway/api/v1/auth/access-token/validate");
    let body = json!({"token": pat, "serviceId": "svc"});
    let response = client.post(url).json(&body).send().await.unwrap();
    match response.status().as_u16() {
        200 => true,
        401 => false,
        status => panic!("{status}"),
    }
}

/// Asserts that the gateway answers requests, makes PassTickets and stores revocations.
async fn check_serves(demo: &Demo) {
    let open = demo.client().get(demo.at("/open/api/v1/x")).send().await.unwrap();
    assert_eq!(open.status(), 200);
    // For one second after its start, or after a takeover that has failed late, the gateway makes no PassTicket.
    let user = certified(demo.builder(), "USERT");
    let has_ticket = async {
        loop {
            let response = user.get(demo.at("/svc/api/v1/x")).send().await.unwrap();
            assert_eq!(response.status(), 200);
            if !response.headers().contains_key("x-zowe-auth-failure") {
                break;
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, has_ticket).await.unwrap();
    let client = demo.client_of("USER");
    let generate = client.post(demo.auth("access-token/generate"));
    let generated = generate.json(&json!({"validity": 1, "scopes": ["svc"]})).send().await.unwrap();
    assert_eq!(generated.status(), 200);
    let pat = generated.text().await.unwrap();
    assert!(accepts(&client, &demo.url, &pat).await);
    let revoke = client.delete(demo.auth("access-token/revoke")).json(&json!({"token": pat}));
    assert_eq!(revoke.send().await.unwrap().status(), 200);
    assert!(!accepts(&client, &demo.url, &pat).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_process_with_a_bad_configuration_changes_nothing() {
    let tickets = Tickets::default();
    let mut demo = gateway(&tickets).await;
    let good = fs::read_to_string(demo.directory.join("zowe.yaml")).unwrap();
    for (name, yaml, want) in [
        ("unknown-key.yaml", good.replace("    users:", "    usrs:"), "usrs"),
        (
            "other-store.yaml",
            good.replace(
                "revocations: revocations.redb",
                "revocations: other.redb\n    takeoverSocket: revocations.redb.takeover",
            ),
            "is not the revocation file of the running gateway",
        ),
        (
            "other-audit.yaml",
            good.replace("file: audit.jsonl", "file: missing/audit.jsonl"),
            "cannot write the audit log",
        ),
    ] {
        let config = demo.directory.join(name);
        fs::write(&config, yaml).unwrap();
        let config = config.to_str().unwrap().to_owned();
        let (status, log) = spawn_blocking(move || {
            Running::start(PROGRAM, &["serve", "--takeover", "--config", &config]).wait()
        })
        .await
        .unwrap();
        assert!(matches!(status.code(), Some(2 | 3)), "{name}: {status} {log}");
        assert!(log.contains(want), "{name}: {log}");
        check_serves(&demo).await;
    }
    // The last of these processes has failed after it had received the state.
    demo.program.logged("the takeover failed; this process continues");
}

/// The environment variable with the number of steps of [`fake_new_process`].
const STEPS: &str = "TAKEOVER_STEPS";
const SOCKET: &str = "TAKEOVER_SOCKET";

/// Starts this test program as a process that runs the first `steps` steps of a takeover, and then waits.
pub(crate) fn fake(socket: &Path, steps: usize) -> Child {
    let child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "takeover::fake_new_process", "--ignored", "--nocapture"])
        .env(STEPS, steps.to_string())
        .env(SOCKET, socket)
        .stdout(Stdio::null())
        .spawn();
    child.unwrap()
}

const HELLO: u8 = 0;
const PREPARED: u8 = 2;
const OPENED: u8 = 4;

/// This is not a test, but a process that runs the first steps of a takeover and then hangs.
#[test]
#[ignore = "other tests start it as a process"]
fn fake_new_process() {
    let (Ok(steps), Ok(socket)) = (env::var(STEPS), env::var(SOCKET)) else { return };
    let mut stream = UnixStream::connect(socket).unwrap();
    for step in 0..steps.parse().unwrap() {
        match step {
            0 => send(&mut stream, HELLO, "1"),
            1 => {
                receive(&mut stream);
                // The sockets arrive together with this byte. Because this process does not receive them, the kernel
                // closes them.
                stream.read_exact(&mut [0]).unwrap();
                send(&mut stream, PREPARED, "");
            }
            3 => send(&mut stream, OPENED, ""),
            _ => receive(&mut stream),
        }
    }
    thread::sleep(2 * PATIENCE);
}

fn send(stream: &mut UnixStream, kind: u8, text: &str) {
    let mut bytes = vec![kind];
    bytes.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
    bytes.extend(text.as_bytes());
    stream.write_all(&bytes).unwrap();
}

fn receive(stream: &mut UnixStream) {
    let mut head = [0; 5];
    stream.read_exact(&mut head).unwrap();
    let len = u32::from_be_bytes(head[1..].try_into().unwrap());
    stream.read_exact(&mut vec![0; len as usize]).unwrap();
}

fn socket_of(demo: &Demo) -> PathBuf {
    demo.directory.join("revocations.redb.takeover")
}

/// Waits until the gateway has created its socket for takeovers. It does this when its worker threads run.
pub(crate) async fn wait_for_socket(demo: &Demo) {
    let socket = async {
        while !socket_of(demo).exists() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, socket).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_process_continues_if_the_new_process_is_killed_at_any_step() {
    let tickets = Tickets::default();
    let mut demo = gateway(&tickets).await;
    check_serves(&demo).await;
    for steps in 0..=5 {
        let mut new = fake(&socket_of(&demo), steps);
        let (client, url) = (demo.client(), demo.at("/open/api/v1/x"));
        let during = tokio::spawn(async move {
            for _ in 0..20 {
                assert_eq!(client.get(&url).send().await.unwrap().status(), 200);
                sleep(Duration::from_millis(20)).await;
            }
        });
        sleep(Duration::from_millis(200)).await;
        new.kill().unwrap();
        new.wait().unwrap();
        // The gateway also answers a request that has arrived during the takeover.
        timeout(PATIENCE, during).await.unwrap().unwrap();
        check_serves(&demo).await;
    }
    demo.program.logged("the takeover failed; this process continues");
    let new = successor(&demo.directory.join("zowe.yaml")).await;
    let mut old = std::mem::replace(&mut demo.program, new);
    assert!(spawn_blocking(move || old.wait()).await.unwrap().0.success());
    check_serves(&demo).await;
    assert!(tickets.repeated.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_process_kills_a_new_process_that_hangs_before_it_serves() {
    let tickets = Tickets::default();
    let demo = gateway(&tickets).await;
    // After the fifth step, the new process may begin to serve. The old process continues, so it must kill the new
    // process.
    let mut new = fake(&socket_of(&demo), 5);
    sleep(Duration::from_millis(500)).await;
    check_serves(&demo).await;
    let status = spawn_blocking(move || new.wait()).await.unwrap().unwrap();
    assert!(!status.success());
    assert!(tickets.repeated.lock().unwrap().is_empty());
}

/// The state after a takeover from a gateway with an open WebSocket.
struct OpenWebSocket {
    demo: Demo,
    _old: Running,
    stream: BufReader<TcpStream>,
    pat: String,
}

/// Starts a gateway, opens a WebSocket with a PAT, and starts a process that takes over.
async fn taken_over_with_websocket() -> OpenWebSocket {
    let service = raw::service(async |stream| drop(echo(stream).await)).await;
    // The gateway serves HTTP without TLS, so that the test can send frames on a TCP connection.
    let demo = Demo::beside_servers(move |directory, yaml| {
        let yaml = with_site(directory, &yaml, &format!("http://{service}"));
        yaml.replacen("zowe:\n", "zowe:\n  network: {server: {tls: {attls: true}}}\n", 1)
            .replace(
                "    users: users.yml",
                "    timeouts: {tunnelDrainSeconds: 60}\n    users: users.yml",
            )
            .replace("delegatePassticket: true", "delegatePassticket: false")
    })
    .await;
    let mut demo = Demo { url: demo.url.replace("https://", "http://"), ..demo };
    wait_for_socket(&demo).await;
    let pat = demo.pat(&["svc"]).await;
    let port: u16 = demo.url.rsplit(':').next().unwrap().parse().unwrap();
    let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    let handshake = format!(
        "GET /svc/api/v1/x HTTP/1.1\r\nhost: localhost\r\nPRIVATE-TOKEN: {pat}\r\n{HANDSHAKE}\r\n"
    );
    stream.get_mut().write_all(handshake.as_bytes()).await.unwrap();
    let head = raw::head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let new = successor(&demo.directory.join("zowe.yaml")).await;
    let old = std::mem::replace(&mut demo.program, new);
    Frame::masked(TEXT, "still open").write(stream.get_mut()).await.unwrap();
    let frame = timeout(PATIENCE, Frame::read(&mut stream)).await.unwrap().unwrap().unwrap();
    assert_eq!(frame, Frame::plain(TEXT, "still open"));
    OpenWebSocket { demo, _old: old, stream, pat }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_at_the_old_process_ends_when_the_new_process_ends() {
    let OpenWebSocket { mut demo, _old, mut stream, .. } = taken_over_with_websocket().await;
    demo.program.kill();
    // When the new process has ended, the old process cannot learn about revocations. So it closes the WebSocket.
    let frame = timeout(PATIENCE, Frame::read(&mut stream)).await.unwrap().unwrap().unwrap();
    assert_eq!(frame.close_code(), Some(1001), "{frame:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_at_the_old_process_ends_when_the_new_process_revokes_its_token() {
    let OpenWebSocket { demo, _old, mut stream, pat } = taken_over_with_websocket().await;
    // This request opens a new connection, so the new process answers it.
    let request = demo.client().delete(demo.auth("access-token/revoke"));
    let revoked = request.json(&json!({"token": pat})).send().await.unwrap();
    assert_eq!(revoked.status(), 200);
    let frame = timeout(PATIENCE, Frame::read(&mut stream)).await.unwrap().unwrap().unwrap();
    assert_eq!(frame.close_code(), Some(1008), "{frame:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_running_gateway_a_takeover_is_a_normal_start() {
    let tickets = Tickets::default();
    let mut demo = gateway(&tickets).await;
    let config = demo.directory.join("zowe.yaml");
    demo.program.kill();
    demo.program.wait();
    // The killed process has not removed its socket.
    assert!(socket_of(&demo).exists());
    let args = ["serve", "--takeover", "--config", config.to_str().unwrap()];
    let (program, port) = crate::support::listening(Running::start(PROGRAM, &args));
    (demo.program, demo.url) = (program, format!("https://localhost:{port}"));
    demo.program.logged("no process to take over from");
    check_serves(&demo).await;
    let mode = fs::metadata(socket_of(&demo)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
