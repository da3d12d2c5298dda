//! Tests of git with a Personal Access Token (PAT), through the gateway to a real git server.
//!
//! The server runs `git http-backend`, which is part of git. A PassTicket is a short-lived password of z/OS.

use std::{
    convert::Infallible,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, header::AUTHORIZATION};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tempfile::TempDir;
use test_support::raw::listener;
use tokio::task::spawn_blocking;
use tower::service_fn;
use tower_passticket::tls::Server;

use crate::support::Demo;

/// A git server with the repository `project.git`. Like a service on z/OS, it answers 401 to a request without a user
/// and a PassTicket.
struct GitServer {
    url: String,
    /// The directory of the repository. It is also the home directory of the git client.
    directory: TempDir,
    /// The methods and paths of the requests with a PassTicket.
    served: Arc<Mutex<Vec<String>>>,
}

impl GitServer {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().to_owned();
        run(&root, &["init", "-q", "-b", "main", "first"]);
        fs::write(root.join("first/hello.txt"), "hello\n").unwrap();
        run(&root, &["-C", "first", "add", "."]);
        run(&root, &["-C", "first", "commit", "-q", "-m", "first"]);
        run(&root, &["clone", "-q", "--bare", "first", "project.git"]);
        let (listener, address) = listener().await;
        let served: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = served.clone();
        let service = service_fn(move |request| answer(request, root.clone(), log.clone()));
        tokio::spawn(Server::http(listener).run(service, std::future::pending()));
        Self { url: format!("http://{address}"), directory, served }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn newest_commit(&self) -> String {
        let output = run(self.directory.path(), &["-C", "project.git", "log", "-1", "--format=%s"]);
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn take_served(&self) -> Vec<String> {
        std::mem::take(&mut *self.served.lock().unwrap())
    }
}

async fn answer(
    request: Request<Incoming>,
    root: PathBuf,
    served: Arc<Mutex<Vec<String>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    if !has_ticket(&head.headers) {
        let response =
            Response::builder().status(401).header("www-authenticate", "Basic realm=\"z/OS\"");
        return Ok(response.body(Full::default()).unwrap());
    }
    served.lock().unwrap().push(format!("{} {}", head.method, head.uri.path()));
    let response = spawn_blocking(move || http_backend(&root, &head, &body)).await.unwrap();
    Ok(response)
}

/// Returns whether the request has a PassTicket of `USER`, and no other credential.
fn has_ticket(headers: &HeaderMap) -> bool {
    assert!(!headers.contains_key("private-token") && !headers.contains_key("cookie"));
    let Some(basic) = headers.get(AUTHORIZATION) else { return false };
    let plain =
        BASE64_STANDARD.decode(basic.to_str().unwrap().trim_start_matches("Basic ")).unwrap();
    let plain = String::from_utf8(plain).unwrap();
    assert!(plain.strip_prefix("USER:").is_some_and(|ticket| ticket.len() == 8), "no PassTicket");
    true
}

fn http_backend(root: &Path, head: &http::request::Parts, body: &[u8]) -> Response<Full<Bytes>> {
    let header = |name: &str| head.headers.get(name).map_or("", |value| value.to_str().unwrap());
    let mut backend = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("HOME", root)
        .env("REQUEST_METHOD", head.method.as_str())
        .env("PATH_INFO", head.uri.path())
        .env("QUERY_STRING", head.uri.query().unwrap_or_default())
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        // git http-backend permits pushes only to a user whom the server has authenticated.
        .env("REMOTE_USER", "USER")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = backend.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        // The backend may answer without reading the whole body.
        scope.spawn(move || stdin.write_all(body).ok());
        backend.wait_with_output().unwrap()
    });
    let end = output.stdout.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
    let mut response = Response::new(Full::from(Bytes::copy_from_slice(&output.stdout[end + 4..])));
    for line in std::str::from_utf8(&output.stdout[..end]).unwrap().lines() {
        let (name, value) = line.split_once(": ").unwrap();
        if name == "Status" {
            *response.status_mut() = value[..3].parse().unwrap();
        } else {
            response
                .headers_mut()
                .append(http::HeaderName::try_from(name).unwrap(), value.parse().unwrap());
        }
    }
    response
}

/// Returns a git command that uses no configuration of the user or of the system.
fn command(home: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("git");
    command
        .args(["-c", "user.name=T", "-c", "user.email=t@example.com"])
        .args(args)
        .current_dir(home)
        .env("HOME", home)
        .env("XDG_CONFIG_HOME", home)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env_remove("GIT_ASKPASS")
        .env("NO_PROXY", "localhost");
    command
}

fn run(home: &Path, args: &[&str]) -> Output {
    let output = command(home, args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
    output
}

/// Starts a gateway with the route `/repo/api/v1`, which leads to the git server. `settings` are settings of this
/// service.
async fn gateway(server: &GitServer, settings: &str) -> Demo {
    let definition = format!(
        "services:\n  - serviceId: repo\n    instanceBaseUrls: [\"{}\"]\n    routes: [{{gatewayUrl: api/v1, \
         serviceRelativeUrl: /}}]\n    authentication: {{scheme: httpBasicPassTicket, applid: ZOWEAPPL}}\n",
        server.url
    );
    let settings = format!("    services:\n      repo: {{{settings}}}\n");
    Demo::beside_servers(move |directory, yaml| {
        fs::write(directory.join("api-defs/demo.yml"), definition).unwrap();
        yaml + &settings
    })
    .await
}

/// A clone of the repository, and how git authenticates in it.
struct WorkingCopy<'a> {
    demo: &'a Demo,
    server: &'a GitServer,
    name: &'a str,
    /// The name and the value of a setting of git.
    setting: (String, String),
}

impl WorkingCopy<'_> {
    fn git(&self, args: &[&str]) -> Output {
        let (key, value) = &self.setting;
        // Other users of the machine could see a setting in an argument. So the test sets it with environment
        // variables, as users do.
        command(self.server.directory.path(), args)
            .env("GIT_SSL_CAINFO", self.demo.directory.join("certs/ca.pem"))
            .env("GIT_CONFIG_COUNT", "1")
            .env("GIT_CONFIG_KEY_0", key)
            .env("GIT_CONFIG_VALUE_0", value)
            .output()
            .unwrap()
    }

    fn make(&self) -> Output {
        self.git(&["clone", "-q", &self.demo.at("/repo/api/v1/project.git"), self.name])
    }

    /// Commits a file of this size, and pushes the commit. Returns the output of the push.
    fn push(&self, subject: &str, bytes: usize) -> Output {
        let mut state = 1_u64;
        let content: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .take(bytes)
        .collect();
        fs::write(self.server.path(self.name).join("content"), content).unwrap();
        for args in [&["add", "."][..], &["commit", "-q", "-m", subject]] {
            run(self.server.directory.path(), &[&["-C", self.name], args].concat());
        }
        self.git(&["-C", self.name, "push", "-q", "origin", "main"])
    }
}

/// A setting that makes git read its credentials from a file with this user and password.
fn stored(server: &GitServer, demo: &Demo, user: &str, password: &str) -> (String, String) {
    let file = server.path("credentials");
    let line = demo.url.replace("https://", &format!("https://{user}:{password}@"));
    fs::write(&file, line + "\n").unwrap();
    ("credential.helper".to_owned(), format!("store --file '{}'", file.display()))
}

#[tokio::test(flavor = "multi_thread")]
async fn git_clones_and_pushes_with_a_token_from_its_credential_helper() {
    // git sends its credential only after a 401. With `forward`, the service answers 401. With `reject`, the gateway
    // answers 401.
    for settings in ["onFailure: forward", "onFailure: reject"] {
        let server = GitServer::start().await;
        let demo = gateway(&server, settings).await;
        let pat = demo.pat(&["repo"]).await;
        let setting = stored(&server, &demo, "USER", &pat);
        let clone = WorkingCopy { demo: &demo, server: &server, name: "clone", setting };
        let output = clone.make();
        assert!(output.status.success(), "{settings}: {output:?}");
        assert_eq!(fs::read(server.path("clone/hello.txt")).unwrap(), b"hello\n");
        for (subject, bytes) in [("small", 100), ("larger", 200_000)] {
            let output = clone.push(subject, bytes);
            assert!(output.status.success(), "{settings}, {subject}: {output:?}");
            assert_eq!(server.newest_commit(), subject, "{settings}");
        }
        let served = server.take_served();
        for path in ["GET /project.git/info/refs", "POST /project.git/git-receive-pack"] {
            assert!(served.iter().any(|request| request == path), "{settings}: {served:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn git_pushes_with_a_token_in_an_extra_header() {
    let server = GitServer::start().await;
    let demo = gateway(&server, "onFailure: reject").await;
    let pat = demo.pat(&["repo"]).await;
    let key = format!("http.{}/.extraHeader", demo.url);
    for (number, header) in
        [format!("PRIVATE-TOKEN: {pat}"), format!("Authorization: Bearer {pat}")]
            .into_iter()
            .enumerate()
    {
        let name = format!("clone{number}");
        let setting = (key.clone(), header);
        let clone = WorkingCopy { demo: &demo, server: &server, name: &name, setting };
        let output = clone.make();
        assert!(output.status.success(), "{output:?}");
        let output = clone.push(&name, 100 + number);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(server.newest_commit(), name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn git_cannot_push_with_a_revoked_token_or_one_of_another_service() {
    // To a request with a PAT for another service, the service answers 401 (`forward`), or the gateway answers 403
    // (`reject`). git removes a credential from its credential helper only after a 401.
    for (settings, keeps_credential) in [("onFailure: forward", false), ("onFailure: reject", true)]
    {
        let server = GitServer::start().await;
        let demo = gateway(&server, settings).await;
        let copy = |pat: &str| {
            let setting = stored(&server, &demo, "USER", pat);
            WorkingCopy { demo: &demo, server: &server, name: "clone", setting }
        };
        let has_credential =
            || !fs::read_to_string(server.path("credentials")).unwrap().trim().is_empty();
        let pat = demo.pat(&["repo"]).await;
        assert!(copy(&pat).make().status.success(), "{settings}");
        server.take_served();

        let output = copy(&demo.pat(&["other"]).await).push("other", 100);
        assert!(!output.status.success(), "{settings}: {output:?}");
        assert_eq!(has_credential(), keeps_credential, "{settings}: {output:?}");

        let revoke = demo.client().delete(demo.auth("access-token/revoke"));
        let body = serde_json::json!({"token": pat});
        assert_eq!(revoke.json(&body).send().await.unwrap().status(), 200);
        let output = copy(&pat).push("revoked", 200);
        assert!(!output.status.success(), "{settings}: {output:?}");
        assert!(!has_credential(), "{settings}: {output:?}");

        assert_eq!(server.take_served(), [""; 0], "{settings}");
        assert_eq!(server.newest_commit(), "first", "{settings}");
    }
}
