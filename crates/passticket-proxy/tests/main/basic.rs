//! Tests of `serve --config`: clients with a user name and a password on a route, in particular git and curl.
//!
//! A PassTicket is a short-lived password of z/OS.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{Arc, Mutex},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use test_support::{has_curl, raw};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::TcpStream,
};

use crate::support::Demo;

/// A service that sends the files of a directory. It records the credentials that it receives.
struct Files {
    url: String,
    received: Arc<Mutex<Vec<String>>>,
}

impl Files {
    async fn serve(directory: PathBuf) -> Self {
        let received: Arc<Mutex<Vec<String>>> = Arc::default();
        let (seen, directory) = (received.clone(), Arc::new(directory));
        let address =
            raw::service(move |stream| answer(stream, directory.clone(), seen.clone())).await;
        Self { url: format!("http://{address}"), received }
    }

    /// Returns the credentials that the service has received since the last call, without duplicates.
    fn take_credentials(&self) -> Vec<String> {
        let mut received = std::mem::take(&mut *self.received.lock().unwrap());
        received.sort();
        received.dedup();
        received
    }
}

async fn answer(stream: TcpStream, directory: Arc<PathBuf>, received: Arc<Mutex<Vec<String>>>) {
    let mut stream = BufReader::new(stream);
    let head = raw::head(&mut stream).await;
    let path = head.split(' ').nth(1).unwrap().split('?').next().unwrap().trim_start_matches('/');
    let authorization =
        head.lines().find_map(|line| line.strip_prefix("authorization: ")).unwrap_or_default();
    received.lock().unwrap().push(authorization.to_owned());
    let (status, body) = match fs::read(directory.join(path)) {
        Ok(body) => ("200 OK", body),
        Err(_) => ("404 Not Found", Vec::new()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.get_mut().write_all(head.as_bytes()).await.unwrap();
    stream.get_mut().write_all(&body).await.unwrap();
}

/// Starts a gateway with the route `/repo/api/v1`, whose service receives PassTickets. `settings` are settings of this
/// service.
async fn gateway(files: &Files, settings: &str) -> Demo {
    let definition = format!(
        "services:\n  - serviceId: repo\n    instanceBaseUrls: [\"{}\"]\n    routes: [{{gatewayUrl: api/v1}}]\n    \
         authentication: {{scheme: httpBasicPassTicket, applid: ZOWEAPPL}}\n",
        files.url
    );
    let settings = format!("    services:\n      repo: {{{settings}}}\n");
    Demo::beside_servers(move |directory, yaml| {
        fs::write(directory.join("api-defs/demo.yml"), definition).unwrap();
        yaml + &settings
    })
    .await
}

fn are_tickets(credentials: &[String]) -> bool {
    let is_ticket = |credential: &String| {
        let plain = BASE64_STANDARD.decode(credential.trim_start_matches("Basic ")).unwrap();
        let plain = String::from_utf8(plain).unwrap();
        plain.strip_prefix("USER:").is_some_and(|ticket| ticket.len() == 8)
    };
    !credentials.is_empty() && credentials.iter().all(is_ticket)
}

fn git(directory: &Path, authorities: &Path, args: &[&str]) -> Output {
    Command::new("git")
        .args(["-c", "user.name=T", "-c", "user.email=t@example.com", "-c", "credential.helper="])
        .args(args)
        .current_dir(directory)
        .env("HOME", directory)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_SSL_CAINFO", authorities)
        .env("NO_PROXY", "localhost")
        .output()
        .unwrap()
}

/// Makes a bare git repository with one commit. Clients can read its files over HTTP.
fn make_repository(directory: &Path) {
    let run = |args: &[&str]| {
        let output = git(directory, Path::new(""), args);
        assert!(output.status.success(), "{args:?}: {output:?}");
    };
    run(&["init", "-q", "work"]);
    fs::write(directory.join("work/hello.txt"), "hello\n").unwrap();
    run(&["-C", "work", "add", "."]);
    run(&["-C", "work", "commit", "-q", "-m", "first"]);
    run(&["clone", "-q", "--bare", "work", "repo.git"]);
    run(&["-C", "repo.git", "update-server-info"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn git_clones_with_a_personal_access_token_as_the_password() {
    let temporary = tempfile::tempdir().unwrap();
    let directory = temporary.path().to_owned();
    make_repository(&directory);
    let files = Files::serve(directory.clone()).await;
    // git sends its credentials only after it has received 401. With `onFailure: reject`, the gateway answers 401.
    let demo = gateway(&files, "onFailure: reject").await;
    let pat = demo.pat(&["repo"]).await;
    let authority = demo.directory.join("certs/ca.pem");
    let clone = |user: &str, password: &str, target: &str| {
        let address = demo.url.replace("https://", &format!("https://{user}:{password}@"));
        let url = format!("{address}/repo/api/v1/repo.git");
        git(&directory, &authority, &["clone", "-q", &url, target])
    };
    for (user, target) in
        [("USER", "one"), ("user", "two"), ("oauth2", "three"), ("x-token-auth", "four")]
    {
        let output = clone(user, &pat, target);
        assert!(output.status.success(), "{user}: {output:?}");
        let text = fs::read_to_string(directory.join(target).join("hello.txt")).unwrap();
        assert_eq!(text, "hello\n");
        let credentials = files.take_credentials();
        assert!(are_tickets(&credentials), "{user}: {credentials:?}");
    }
    let other = demo.pat(&["another"]).await;
    for (user, password) in [("APIMTST", pat.as_str()), ("USER", &other), ("USER", "validPassword")]
    {
        let output = clone(user, password, "refused");
        assert!(!output.status.success(), "{user}: {output:?}");
        assert_eq!(files.take_credentials(), [""; 0], "{user}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_refused_as_a_password_too() {
    let temporary = tempfile::tempdir().unwrap();
    fs::write(temporary.path().join("x"), "x").unwrap();
    let files = Files::serve(temporary.path().to_owned()).await;
    let demo = gateway(&files, "onFailure: reject").await;
    let pat = demo.pat(&["repo"]).await;
    let get = async || {
        let request = demo.client().get(demo.at("/repo/api/v1/x"));
        request.basic_auth("USER", Some(&pat)).send().await.unwrap()
    };
    assert_eq!(get().await.status(), 200);
    let revoke = demo.client().delete(demo.auth("access-token/revoke"));
    let body = serde_json::json!({"token": pat});
    assert_eq!(revoke.json(&body).send().await.unwrap().status(), 200);
    let response = get().await;
    assert_eq!(response.status(), 401);
    let offered: Vec<_> = response.headers().get_all("www-authenticate").iter().collect();
    assert_eq!(
        offered,
        [
            "Bearer realm=\"zowe\", error=\"invalid_token\"",
            "Basic realm=\"zowe\", charset=\"UTF-8\""
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_can_use_a_password_on_a_route_that_verifies_passwords() {
    if !has_curl() {
        return;
    }
    let temporary = tempfile::tempdir().unwrap();
    fs::write(temporary.path().join("x"), "content").unwrap();
    let files = Files::serve(temporary.path().to_owned()).await;
    let demo = gateway(&files, "clientBasic: verify, onFailure: reject").await;
    let pat = demo.pat(&["repo"]).await;
    let authority = demo.directory.join("certs/ca.pem");
    let curl = |credentials: &str, more: &[&str]| {
        let output = Command::new("curl")
            .args(["-sS", "--max-time", "20", "--cacert", authority.to_str().unwrap()])
            .args(["--noproxy", "*", "-w", "%{http_code}", "-u", credentials])
            .args(more)
            .arg(demo.at("/repo/api/v1/x"))
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    for (credentials, more) in [
        ("USER:validPassword", &[][..]),
        ("user:validPassword", &[]),
        // With this option, curl sends the credentials only after it has received a challenge.
        ("USER:validPassword", &["--anyauth"]),
        (&format!("USER:{pat}"), &[]),
        (&format!(":{pat}"), &[]),
    ] {
        assert_eq!(curl(credentials, more), "content200", "{credentials}");
        let credentials = files.take_credentials();
        assert!(are_tickets(&credentials), "{credentials:?}");
    }
    // The first four wrong passwords cause no wait. After the fifth wrong password, the gateway does not check a
    // password of this user for a second, and answers 429.
    let answers: Vec<_> = (0..20).map(|_| curl("APIMTST:wrong", &[])).collect();
    assert!(answers[0].ends_with("401") && answers[0].contains("ZWEAG120E"), "{answers:?}");
    assert!(answers.iter().any(|answer| answer.ends_with("429")), "{answers:?}");
    assert_eq!(files.take_credentials(), [""; 0]);
    // The wrong passwords for `APIMTST` do not delay `USER`.
    assert_eq!(curl("USER:validPassword", &[]), "content200");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_forwarded_only_if_the_operator_permits_it() {
    let temporary = tempfile::tempdir().unwrap();
    fs::write(temporary.path().join("x"), "x").unwrap();
    let files = Files::serve(temporary.path().to_owned()).await;
    let sent = format!("Basic {}", BASE64_STANDARD.encode("USER:validPassword"));
    for (settings, want) in [("clientBasic: strip", ""), ("clientBasic: forward", sent.as_str())] {
        let demo = gateway(&files, settings).await;
        let request = demo.client().get(demo.at("/repo/api/v1/x"));
        let request = request.basic_auth("USER", Some("validPassword"));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(
            response.headers()["x-zowe-auth-failure"],
            "ZWEAG160E No authentication provided in the request"
        );
        assert_eq!(files.take_credentials(), [want], "{settings}");
    }
}
