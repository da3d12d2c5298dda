//! Helpers that start the program with the files that `serve --demo` makes.

#![allow(dead_code, reason = "a test binary may use only some of the helpers")]

pub(crate) mod cluster;

use std::{
    fs,
    io::{self, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use reqwest::{Client, ClientBuilder, Identity};
use tempfile::TempDir;
use test_support::{
    Running, client,
    pki::{Authority, USER, leaf_params},
    raw,
};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::TcpStream,
    task::spawn_blocking,
};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_passticket-proxy");

/// A running gateway with the files that the demo makes.
pub(crate) struct Demo {
    pub(crate) program: Running,
    pub(crate) directory: PathBuf,
    /// The text that the demo printed before it was ready.
    pub(crate) printed: String,
    /// The base URL: `https://localhost:` and the port.
    pub(crate) url: String,
    pub(crate) _temporary: Option<TempDir>,
}

impl Demo {
    /// Starts `serve --demo` on a free port, in a new temporary directory.
    pub(crate) fn start() -> Self {
        let temporary = TempDir::new().unwrap();
        let directory = temporary.path().join("a demo");
        let demo = Self::start_in(&directory);
        Self { _temporary: Some(temporary), ..demo }
    }

    pub(crate) fn start_in(directory: &Path) -> Self {
        let args = ["serve", "--demo", "--port", "0", "--data-dir", directory.to_str().unwrap()];
        let mut program = Running::start(PROGRAM, &args);
        let printed = program.printed("/application/health");
        let start = printed.find("https://localhost:").unwrap();
        let url: String = printed[start..]
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || ":/".contains(*c))
            .collect();
        Self { program, directory: directory.to_owned(), printed, url, _temporary: None }
    }

    /// Starts `serve --config` with the files of a demo, after `edit` has changed the zowe.yaml. The service of the
    /// demo does not run.
    pub(crate) fn reconfigured(edit: impl FnOnce(String) -> String) -> Self {
        Self::with_files(|_, yaml| edit(yaml))
    }

    /// Does the same as [`reconfigured`](Self::reconfigured). `edit` also gets the directory, into which it may write
    /// files.
    pub(crate) fn with_files(edit: impl FnOnce(&Path, String) -> String) -> Self {
        let demo = Self::start();
        let path = demo.directory.join("zowe.yaml");
        let yaml = with_any_port(&fs::read_to_string(&path).unwrap());
        fs::write(&path, edit(&demo.directory, yaml)).unwrap();
        demo.restarted()
    }

    /// Does the same as [`with_files`](Self::with_files), but on another thread. Starting the program blocks the
    /// calling thread, and the servers of the test must continue to run on that thread.
    pub(crate) async fn beside_servers(
        edit: impl FnOnce(&Path, String) -> String + Send + 'static,
    ) -> Self {
        spawn_blocking(|| Self::with_files(edit)).await.unwrap()
    }

    /// Starts the program again, with `serve --config`.
    pub(crate) fn restarted(self) -> Self {
        let Self { program, directory, _temporary, .. } = self;
        drop(program);
        let (program, port) = serve(&directory.join("zowe.yaml"));
        let url = format!("https://localhost:{port}");
        Self { program, directory, printed: String::new(), url, _temporary }
    }

    /// Makes a client that trusts the authority of the demo. It has no certificate.
    pub(crate) fn client(&self) -> Client {
        self.builder().build().unwrap()
    }

    pub(crate) fn client_of(&self, user: &str) -> Client {
        self.builder_of(user).build().unwrap()
    }

    pub(crate) fn builder_of(&self, user: &str) -> ClientBuilder {
        self.builder().identity(self.identity(user))
    }

    /// Returns a builder of clients that trust the authority of the demo.
    pub(crate) fn builder(&self) -> ClientBuilder {
        client(&fs::read(self.directory.join("certs/ca.pem")).unwrap())
    }

    fn identity(&self, user: &str) -> Identity {
        let mut pem = fs::read(self.directory.join(format!("certs/{user}.pem"))).unwrap();
        pem.extend(fs::read(self.directory.join(format!("certs/{user}.key"))).unwrap());
        Identity::from_pem(&pem).unwrap()
    }

    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    pub(crate) fn auth(&self, path: &str) -> String {
        self.at(&format!("/gateway/api/v1/auth/{path}"))
    }

    /// Logs in as `USER`. Returns the token.
    pub(crate) async fn login(&self) -> String {
        let request = self.client().post(self.auth("login"));
        let response = request.basic_auth("USER", Some("validPassword")).send().await.unwrap();
        assert_eq!(response.status(), 204);
        let cookie = response.headers()["set-cookie"].to_str().unwrap();
        let value = cookie.strip_prefix("apimlAuthenticationToken=").unwrap();
        value.split(';').next().unwrap().to_owned()
    }

    /// Makes a Personal Access Token (PAT) of `USER` for these services.
    pub(crate) async fn pat(&self, scopes: &[&str]) -> String {
        let request = self.client().post(self.auth("access-token/generate"));
        let body = serde_json::json!({"validity": 1, "scopes": scopes});
        let response =
            request.basic_auth("USER", Some("validPassword")).json(&body).send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.text().await.unwrap()
    }
}

/// Removes the section `tokenExchange` from the configuration of a demo.
pub(crate) fn without_exchange(yaml: &str) -> String {
    let (before, after) = yaml.split_once("    tokenExchange:\n").unwrap();
    let (_, after) = after.split_once("    audit:\n").unwrap();
    format!("{before}    audit:\n{after}")
}

/// Returns `yaml` with port 0, so that the gateway listens on a free port.
pub(crate) fn with_any_port(yaml: &str) -> String {
    let port = yaml.find("    port: ").unwrap();
    let end = port + yaml[port..].find('\n').unwrap();
    format!("{}    port: 0{}", &yaml[..port], &yaml[end..])
}

/// Replaces the service definitions of the demo by one with the route `/svc/api/v1`, which leads to the service at
/// `url`.
pub(crate) fn write_definition(directory: &Path, url: &str) {
    let definition = format!(
        "services:\n  - serviceId: svc\n    instanceBaseUrls: [\"{url}\"]\n    \
         routes:\n      - gatewayUrl: api/v1\n        serviceRelativeUrl: /\n"
    );
    fs::write(directory.join("api-defs/demo.yml"), definition).unwrap();
}

/// Runs a command with this standard input. A command that reads no input may close it.
pub(crate) fn output_with_input(command: &mut Command, input: &str) -> Output {
    let (child, _) = start_with_input(command, input);
    child.wait_with_output().unwrap()
}

/// Starts a command, and writes its standard input. Returns the process, and the result of the write.
pub(crate) fn start_with_input(command: &mut Command, input: &str) -> (Child, io::Result<()>) {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let written = child.stdin.take().unwrap().write_all(input.as_bytes());
    (child, written)
}

pub(crate) fn serve(zowe_yaml: &Path) -> (Running, u16) {
    let program = Running::start(PROGRAM, &["serve", "--config", zowe_yaml.to_str().unwrap()]);
    listening(program)
}

/// Waits until the gateway listens. Returns the program and its port.
pub(crate) fn listening(mut program: Running) -> (Running, u16) {
    let line = program.logged("listening");
    let port = &line[line.find("127.0.0.1:").unwrap() + "127.0.0.1:".len()..];
    let port: String = port.chars().take_while(char::is_ascii_digit).collect();
    let port = port.parse().unwrap();
    (program, port)
}

/// Waits until the admin port is open. Returns its address.
pub(crate) fn admin_address(program: &mut Running) -> SocketAddr {
    let line = program.logged("admin port is open");
    let address = line.split("address=").nth(1).unwrap();
    address.split_whitespace().next().unwrap().parse().unwrap()
}

/// Returns the value of a series (a metric with its labels) at the admin port.
pub(crate) async fn metric(client: &Client, admin: SocketAddr, series: &str) -> i64 {
    let text = client.get(format!("http://{admin}/metrics")).send().await.unwrap();
    let text = text.text().await.unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("{series} is not in:\n{text}")).parse().unwrap()
}

/// Writes two files into `directory`: the certificate of [`Authority::trusted`], which has signed the certificates of
/// the fake servers in `test-support`, and a definition of the service `svc`. This service is at the URL `service`, and
/// receives PassTickets. Returns `yaml` with this authority added.
pub(crate) fn with_site(directory: &Path, yaml: &str, service: &str) -> String {
    fs::write(directory.join("certs/site.pem"), Authority::trusted().pem()).unwrap();
    let definition = format!(
        "services:\n  - serviceId: svc\n    instanceBaseUrls: [\"{service}\"]\n    routes:\n      - \
         {{gatewayUrl: api/v1, serviceRelativeUrl: /}}\n    authentication: {{scheme: \
         httpBasicPassTicket, applid: ZOWEAPPL}}\n"
    );
    fs::write(directory.join("api-defs/demo.yml"), definition).unwrap();
    yaml.replace("certs/ca.pem", "[certs/ca.pem, certs/site.pem]")
}

/// Builds a client with a certificate of this user, signed by [`Authority::trusted`]. A gateway with the configuration
/// of [`with_site`] trusts this authority.
pub(crate) fn certified(builder: ClientBuilder, user: &str) -> Client {
    let certificate =
        Authority::trusted().certify(&USER.key_pair(), |params| *params = leaf_params(user));
    let identity = Identity::from_pem((certificate + USER.key).as_bytes()).unwrap();
    builder.identity(identity).build().unwrap()
}

/// Starts a service that answers with the user id of the Basic credentials. Returns its URL.
pub(crate) async fn user_service() -> String {
    let address = raw::service(async |stream: TcpStream| {
        let mut stream = BufReader::new(stream);
        let head = raw::head(&mut stream).await;
        let basic = head.lines().find_map(|line| line.strip_prefix("authorization: Basic "));
        let user = basic.map_or("nobody".to_owned(), |basic| {
            let text = String::from_utf8(BASE64_STANDARD.decode(basic).unwrap()).unwrap();
            text.split(':').next().unwrap().to_owned()
        });
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{user}",
            user.len()
        );
        stream.get_mut().write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    format!("http://{address}")
}
