//! Tests of socket activation, and of the messages to systemd. The tests play the role of systemd.

use std::{
    fs::{self, Permissions},
    net::TcpListener,
    os::{
        fd::OwnedFd,
        unix::{fs::PermissionsExt, net::UnixDatagram},
    },
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::Instant,
};

use tempfile::TempDir;
use test_support::{PATIENCE, pki::Authority};
use tokio::task::spawn_blocking;

use crate::support::{Demo, PROGRAM, admin_address};

/// Starts the gateway as systemd does. The gateway gets `socket` as file descriptor 3, and `name` as the name of this
/// socket.
fn start(config: &Path, socket: impl Into<OwnedFd>, name: &str, notify: &Path) -> Child {
    // The shell moves its standard input to descriptor 3. With `exec`, the gateway keeps the process id of the shell.
    let script =
        r#"exec 3<&0 </dev/null; LISTEN_PID=$$ WATCHDOG_PID=$$ exec "$0" serve --config "$1""#;
    let child = Command::new("sh")
        .args(["-c", script, PROGRAM, config.to_str().unwrap()])
        .env("LISTEN_FDS", "1")
        .env("LISTEN_FDNAMES", name)
        .env("NOTIFY_SOCKET", notify)
        .env("WATCHDOG_USEC", "1000000")
        .stdin(Stdio::from(socket.into()))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    child.unwrap()
}

/// The socket on which systemd receives the messages of a service unit.
struct Messages {
    socket: UnixDatagram,
    directory: TempDir,
}

impl Messages {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, directory }
    }

    fn until(&self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut buffer = [0; 500];
        while Instant::now() < deadline {
            let read = self.socket.recv(&mut buffer).unwrap();
            let message = String::from_utf8(buffer[..read].to_vec()).unwrap();
            if message.starts_with(text) {
                return message;
            }
        }
        panic!("no message {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_uses_the_socket_of_systemd_and_reports_when_it_is_ready_and_when_it_stops() {
    let demo = Demo::reconfigured(|yaml| yaml);
    let (config, client) = (demo.directory.join("zowe.yaml"), demo.client());
    let Demo { program, directory: _directory, _temporary, .. } = demo;
    drop(program);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let messages = Messages::new();
    let mut gateway =
        start(&config, listener, "gateway", &messages.directory.path().join("notify"));
    let (messages, ready) = spawn_blocking(move || {
        let ready = messages.until("READY=1");
        (messages, ready)
    })
    .await
    .unwrap();
    assert!(ready.contains("STATUS=serving ") && ready.contains(&address.to_string()), "{ready}");
    let url = format!("https://localhost:{}/application/health", address.port());
    assert_eq!(client.get(url).send().await.unwrap().status(), 200);
    let pid = gateway.id().to_string();
    spawn_blocking(move || {
        messages.until("WATCHDOG=1");
        messages.until("WATCHDOG=1");
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        messages.until("STOPPING=1");
    })
    .await
    .unwrap();
    assert!(spawn_blocking(move || gateway.wait()).await.unwrap().unwrap().success());
}

/// Starts the gateway as systemd does, with two sockets: the file descriptors 3 and 4.
fn start_with_two(config: &Path, sockets: [TcpListener; 2], names: &str) -> Child {
    let [first, second] = sockets.map(OwnedFd::from);
    let script =
        r#"exec 3<&0 4<&1 </dev/null >/dev/null; LISTEN_PID=$$ exec "$0" serve --config "$1""#;
    let child = Command::new("sh")
        .args(["-c", script, PROGRAM, config.to_str().unwrap()])
        .env("LISTEN_FDS", "2")
        .env("LISTEN_FDNAMES", names)
        .stdin(Stdio::from(first))
        .stdout(Stdio::from(second))
        .stderr(Stdio::piped())
        .spawn();
    child.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_can_open_the_port_for_gateways_of_api_ml() {
    let demo = Demo::reconfigured(|yaml| yaml);
    let (config, client) = (demo.directory.join("zowe.yaml"), demo.client());
    let Demo { program, directory: _directory, _temporary, .. } = demo;
    drop(program);
    let yaml = fs::read_to_string(&config).unwrap();
    let sockets = || ["127.0.0.1:0"; 2].map(|address| TcpListener::bind(address).unwrap());

    let gateway = start_with_two(&config, sockets(), "gateway:zaas");
    let Output { status, stderr, .. } =
        spawn_blocking(|| gateway.wait_with_output()).await.unwrap().unwrap();
    let log = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(2), "{log}");
    let want = "but the listener for API ML gateways is off; set components.passticket-proxy.zaas.enabled to true";
    assert!(log.contains(want), "{log}");

    // The port of the configuration is in use, so only the socket of systemd works.
    let in_use = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = in_use.local_addr().unwrap().port();
    let gateways = "[{subject: CN=gateway}]";
    let zaas = format!("    zaas: {{enabled: true, port: {port}, gateways: {gateways}}}\n");
    fs::write(&config, yaml + &zaas).unwrap();
    let sockets = sockets();
    let zaas = sockets[0].local_addr().unwrap();
    let mut gateway = start_with_two(&config, sockets, "zaas:gateway");
    let url = format!("https://localhost:{}/zaas/api/v1/auth/query", zaas.port());
    let answered = client.get(url).send().await.unwrap();
    assert_eq!(answered.status(), 401);
    let pid = gateway.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(spawn_blocking(move || gateway.wait()).await.unwrap().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_socket_of_systemd_is_an_error_with_a_remedy() {
    let demo = Demo::reconfigured(|yaml| yaml);
    let config = demo.directory.join("zowe.yaml");
    let Demo { program, directory: _directory, _temporary, .. } = demo;
    drop(program);
    let messages = Messages::new();
    let notify = messages.directory.path().join("notify");
    let listener = || OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap());
    for (socket, name, want) in [
        (listener(), "passticket-proxy.socket", "a socket with the name passticket-proxy.socket"),
        (listener(), "admin", "no socket with the name gateway"),
        (listener(), "gateway:admin", "1 sockets, but names 2"),
        (UnixDatagram::unbound().unwrap().into(), "gateway", "is no listening TCP socket"),
    ] {
        let gateway = start(&config, socket, name, &notify);
        let Output { status, stderr, .. } =
            spawn_blocking(|| gateway.wait_with_output()).await.unwrap().unwrap();
        let log = String::from_utf8(stderr).unwrap();
        assert_eq!(status.code(), Some(2), "{log}");
        assert!(log.contains(want) && log.contains("FileDescriptorName=gateway"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_with_an_expired_certificate_is_not_ready() {
    let mut demo = Demo::with_files(|directory, yaml| {
        let key = rcgen::KeyPair::generate().unwrap();
        let expired = Authority::trusted().certify(&key, |params| {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        });
        fs::write(directory.join("certs/localhost.pem"), expired).unwrap();
        let path = directory.join("certs/localhost.key");
        fs::write(&path, key.serialize_pem()).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        yaml.replace("    users: users.yml", "    admin: {port: 0}\n    users: users.yml")
    });
    let url = format!("http://{}/health/ready", admin_address(&mut demo.program));
    let response = reqwest::get(url).await.unwrap();
    assert_eq!(response.status(), 503);
    let text = response.text().await.unwrap();
    assert!(text.contains("the certificate of the gateway has expired"), "{text}");
}
