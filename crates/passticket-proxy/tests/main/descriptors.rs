//! Tests of the gateway with a low limit of open files.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use reqwest::Client;
use tempfile::TempDir;
use test_support::{Running, client};
use tokio::{
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::sleep,
};

use crate::{
    serve::{service, write_configuration},
    support::{Demo, PROGRAM, listening},
};

/// Opens connections that send nothing. Each connection comes from a different loopback address.
async fn silent_connections(number: u8, to: SocketAddr) -> Vec<TcpStream> {
    let mut connections = Vec::new();
    for last in 1..=number {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::new(127, 0, 1, last), 0).into()).unwrap();
        connections.push(socket.connect(to).await.unwrap());
    }
    connections
}

/// Asserts that the gateway answers a new client.
async fn is_served(builder: impl Fn() -> Client, url: &str) {
    let start = Instant::now();
    let response = builder().get(format!("{url}/application/health")).send().await.unwrap();
    assert_eq!(response.status(), 200);
    // The gateway may delay a new connection by one second. On a busy machine, the handshake may take two more seconds.
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn with_few_open_files_the_gateway_serves_new_clients_and_recovers() {
    let directory = TempDir::new().unwrap();
    drop(Demo::start_in(directory.path()));
    write_configuration(directory.path(), service().await, 60_000, 1);
    let cores = thread::available_parallelism().unwrap().get();
    // With this limit of open files, the gateway serves at most 20 clients. It reserves 32 files, and 6 files for each
    // worker thread. Each client needs 2 files: for its own connection, and for a connection to a service.
    let open_files = 32 + 6 * cores + 40;
    let config = directory.path().join("zowe.yaml");
    let args = ["serve", "--config", config.to_str().unwrap()];
    let (mut program, port) = listening(Running::start_with_open_files(open_files, PROGRAM, &args));
    let warning = program.logged("cannot open enough files for 10000 clients");
    assert!(warning.contains("serves only 20;"), "{warning}");
    let url = format!("https://localhost:{port}");
    let authorities = fs::read(directory.path().join("certs/ca.pem")).unwrap();
    let builder = || client(&authorities).build().unwrap();

    // More clients (200) connect than the gateway serves (20).
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let silent = silent_connections(200, address).await;
    is_served(builder, &url).await;
    program.logged("limits.connections reached");
    drop(silent);

    // 100 concurrent requests need more connections to services than the gateway has free files. The gateway closes
    // idle connections, so that it can serve new clients.
    let _silent = silent_connections(15, address).await;
    let busy = builder();
    // This request opens an HTTP/2 connection, on which the client sends all later requests. Otherwise the client would
    // open a connection for each of them.
    busy.get(format!("{url}/application/health")).send().await.unwrap();
    let mut requests = JoinSet::new();
    for _ in 0..100 {
        requests.spawn(busy.get(format!("{url}/svc/api/v1/never")).send());
    }
    program.logged("cannot reach the service");
    for _ in 0..5 {
        is_served(builder, &url).await;
        sleep(Duration::from_millis(100)).await;
    }
    program.logged("cannot accept connections");

    // When the requests have ended, the gateway can reach services again.
    requests.shutdown().await;
    drop(busy);
    sleep(Duration::from_millis(500)).await;
    let client = builder();
    for _ in 0..20 {
        let response = client.get(format!("{url}/svc/api/v1/path")).send().await.unwrap();
        assert_eq!(response.status(), 200);
    }
}

/// Raises the limit of open files one by one until the program starts. With each lower limit, the start must fail with
/// exit code 3 and a message. The step that fails depends on the limit.
#[test]
fn a_start_without_enough_files_fails_with_a_message() {
    let directory = TempDir::new().unwrap();
    drop(Demo::start_in(directory.path()));
    let config = directory.path().join("zowe.yaml");
    let args = ["serve", "--config", config.to_str().unwrap()];
    let fewest = 8;
    for open_files in fewest.. {
        let mut program = Running::start_with_open_files(open_files, PROGRAM, &args);
        if program.logged_before_end("cannot open enough files").is_some() {
            // The smallest sufficient limit depends on the number of worker threads, which differs between machines.
            assert!(open_files > fewest, "the start needs more than {fewest} files");
            break;
        }
        let (status, log) = program.wait();
        assert_eq!(status.code(), Some(3), "{open_files} files: {log}");
        assert!(log.contains("Too many open files"), "{open_files} files: {log}");
    }
}
