//! Helpers that start several gateways (nodes), which share revocations in a real Redis.

use std::{
    fs,
    net::SocketAddr,
    ops::Deref,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use reqwest::{Client, ClientBuilder, Method};
use serde_json::{Value, json};
use test_support::{PATIENCE, Running, pki::Authority, redis::Redis};
use tokio::{task::spawn_blocking, time::sleep};

use super::{Demo, PROGRAM, admin_address, certified, listening, with_any_port};

/// The lease time of the nodes.
pub(crate) const LEASE: Duration = Duration::from_secs(3);

/// The files of a demo, with which the tests start nodes.
pub(crate) struct Site {
    /// Runs the service `dcpassticket`.
    demo: Demo,
    client: Client,
    user: Client,
    /// The settings `redis` of the nodes.
    redis: String,
}

impl Site {
    /// Makes the files for nodes with the Redis at `url`.
    pub(crate) async fn at(url: &str) -> Self {
        Self::with(format!("{{url: '{url}'}}")).await
    }

    pub(crate) async fn with(redis: String) -> Self {
        let demo = spawn_blocking(Demo::start).await.unwrap();
        let client = demo.builder().timeout(PATIENCE).build().unwrap();
        let user = demo.client_of("USER");
        Self { demo, client, user, redis }
    }

    pub(crate) fn builder(&self) -> ClientBuilder {
        self.demo.builder()
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.demo.directory
    }

    pub(crate) async fn start(&self, name: &str) -> Node {
        let config = self.configure(name, name, |yaml| yaml);
        self.serve(config, &["--new-store"]).await
    }

    pub(crate) async fn start_all<const N: usize>(&self, names: [&str; N]) -> [Node; N] {
        let mut nodes = Vec::new();
        for name in names {
            nodes.push(self.start(name).await);
        }
        nodes.try_into().ok().unwrap()
    }

    /// Returns a client with a certificate of this user. Nodes that start after this call trust the certificate.
    pub(crate) fn client_of(&self, user: &str) -> Client {
        let authority = Authority::trusted();
        let trusted = self.demo.directory.join("certs/ca.pem");
        let authorities = fs::read_to_string(&trusted).unwrap();
        if !authorities.contains(authority.pem()) {
            fs::write(&trusted, authorities + authority.pem()).unwrap();
        }
        certified(self.builder(), user)
    }

    /// Writes the configuration of a node, after `edit` has changed it. `file` is the first part of the names of the
    /// node's files.
    pub(crate) fn configure(
        &self,
        file: &str,
        node: &str,
        edit: impl FnOnce(String) -> String,
    ) -> PathBuf {
        let yaml = fs::read_to_string(self.demo.directory.join("zowe.yaml")).unwrap();
        let cluster = format!(
            "    admin: {{port: 0}}\n    cluster: {{name: site, node: {node}, leaseSeconds: {}, redis: {}}}\n    users: users.yml",
            LEASE.as_secs(),
            self.redis
        );
        let yaml = with_any_port(&yaml)
            .replace("audit.jsonl", &format!("{file}.jsonl"))
            .replace("revocations.redb", &format!("{file}.redb"))
            .replace("    users: users.yml", &cluster);
        let path = self.demo.directory.join(format!("{file}.yaml"));
        fs::write(&path, edit(yaml)).unwrap();
        path
    }

    /// Returns the auth API of a node on this port.
    pub(crate) fn api(&self, port: u16) -> Api {
        let (client, user) = (self.client.clone(), self.user.clone());
        Api { url: format!("https://localhost:{port}"), client, user }
    }

    /// Starts a node with a configuration, and waits until it accepts connections.
    pub(crate) async fn serve(&self, config: PathBuf, options: &[&str]) -> Node {
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        let (client, user) = (self.client.clone(), self.user.clone());
        spawn_blocking(move || {
            let (program, port) = listening(start(&config, &options));
            let mut program = program;
            let admin = admin_address(&mut program);
            let url = format!("https://localhost:{port}");
            Node { program, admin, config, api: Api { url, client, user } }
        })
        .await
        .unwrap()
    }
}

fn start(config: &Path, options: &[String]) -> Running {
    let mut args = vec!["serve", "--config", config.to_str().unwrap()];
    args.extend(options.iter().map(String::as_str));
    Running::start(PROGRAM, &args)
}

/// A gateway of the site.
pub(crate) struct Node {
    pub(crate) program: Running,
    pub(crate) admin: SocketAddr,
    pub(crate) config: PathBuf,
    api: Api,
}

impl Deref for Node {
    type Target = Api;

    fn deref(&self) -> &Api {
        &self.api
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Api {
    pub(crate) url: String,
    client: Client,
    user: Client,
}

/// A token. Its kind determines how [`Api::check`] sends it.
#[derive(Clone, Debug)]
pub(crate) enum Token {
    Login(String),
    Pat(String),
}

impl Api {
    fn auth(&self, path: &str) -> String {
        format!("{}/gateway/api/v1/auth/{path}", self.url)
    }

    pub(crate) async fn login(&self) -> Token {
        let request = self.client.post(self.auth("login"));
        let response = request.basic_auth("USER", Some("validPassword")).send().await.unwrap();
        assert_eq!(response.status(), 204);
        let cookie = response.headers()["set-cookie"].to_str().unwrap();
        let value = cookie.strip_prefix("apimlAuthenticationToken=").unwrap();
        Token::Login(value.split(';').next().unwrap().to_owned())
    }

    /// Makes a PAT of the user with this client certificate, for the service of the site. Returns `None` if the node
    /// makes no PAT.
    pub(crate) async fn try_pat(&self, user: &Client) -> Option<Token> {
        let request = user.post(self.auth("access-token/generate"));
        let request = request.json(&json!({"validity": 1, "scopes": ["dcpassticket"]}));
        let response = request.send().await.ok().filter(|response| response.status() == 200)?;
        response.text().await.ok().map(Token::Pat)
    }

    /// Makes a PAT for this service. Tries again while the node has no lease.
    pub(crate) async fn pat(&self, service: &str) -> Token {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let request = self.user.post(self.auth("access-token/generate"));
            let request = request.json(&json!({"validity": 1, "scopes": [service]}));
            let response = request.send().await.unwrap();
            match response.status().as_u16() {
                200 => return Token::Pat(response.text().await.unwrap()),
                503 if Instant::now() < deadline => sleep(Duration::from_millis(50)).await,
                status => panic!("{status}: {}", response.text().await.unwrap()),
            }
        }
    }

    /// Returns the status with which the node answers a request with the token: 200, 401 or 503.
    pub(crate) async fn check(&self, token: &Token) -> u16 {
        self.try_check(token).await.unwrap()
    }

    pub(crate) async fn try_check(&self, token: &Token) -> reqwest::Result<u16> {
        let request = match token {
            Token::Login(token) => self.client.get(self.auth("query")).bearer_auth(token),
            Token::Pat(token) => {
                let body = json!({"token": token, "serviceId": "dcpassticket"});
                self.client.post(self.auth("access-token/validate")).json(&body)
            }
        };
        let status = request.send().await?.status().as_u16();
        assert!([200, 401, 503].contains(&status), "{status}");
        Ok(status)
    }

    pub(crate) async fn revoke(&self, token: &Token) -> u16 {
        self.try_revoke(token).await.unwrap()
    }

    pub(crate) async fn try_revoke(&self, token: &Token) -> reqwest::Result<u16> {
        let request = match token {
            Token::Login(token) => self.client.post(self.auth("logout")).bearer_auth(token),
            Token::Pat(token) => {
                let request = self.client.delete(self.auth("access-token/revoke"));
                request.json(&json!({"token": token}))
            }
        };
        Ok(request.send().await?.status().as_u16())
    }

    /// Creates a revocation rule at one of the endpoints `access-token/revoke/tokens*`. Returns the status.
    pub(crate) async fn rule(&self, path: &str, body: Value) -> u16 {
        let url = self.auth(&format!("access-token/revoke/{path}"));
        self.user.request(Method::DELETE, url).json(&body).send().await.unwrap().status().as_u16()
    }

    /// Returns the status with which the service answers a request with a client certificate and no token.
    pub(crate) async fn use_certificate(&self) -> u16 {
        let url = format!("{}/dcpassticket/api/v1/passticketTest", self.url);
        self.user.get(url).send().await.unwrap().status().as_u16()
    }

    /// Requests a PassTicket for the user of a login token. Returns the PassTicket, or the status of a refusal.
    pub(crate) async fn ticket(&self, token: &Token, applid: &str) -> Result<String, u16> {
        let Token::Login(token) = token else {
            panic!("the auth API makes no PassTicket for a PAT")
        };
        let request = self.user.post(self.auth("ticket")).bearer_auth(token);
        let answer = request.json(&json!({"applicationName": applid})).send().await.unwrap();
        let status = answer.status().as_u16();
        if status != 200 {
            return Err(status);
        }
        let answer: Value = answer.json().await.unwrap();
        Ok(answer["ticket"].as_str().unwrap().to_owned())
    }

    /// Sends requests with the token until the node answers with this status. Returns how long this took.
    pub(crate) async fn wait_for(&self, token: &Token, status: u16) -> Duration {
        let start = Instant::now();
        while self.check(token).await != status {
            assert!(start.elapsed() < PATIENCE, "the node does not answer with {status}");
            sleep(Duration::from_millis(10)).await;
        }
        start.elapsed()
    }
}

impl Node {
    /// Sends a GET of `path` to the admin port. Returns the status and the body of the response.
    pub(crate) async fn health(&self, path: &str) -> (u16, Value) {
        let answer = reqwest::get(format!("http://{}{path}", self.admin)).await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    pub(crate) fn kill(&mut self) {
        self.program.kill();
        self.program.wait();
    }

    pub(crate) fn pause(&self) {
        self.program.signal("-STOP");
    }

    pub(crate) fn resume(&self) {
        self.program.signal("-CONT");
    }
}

/// Starts a Redis. Returns `None` if Redis is not installed.
pub(crate) fn redis() -> Option<Redis> {
    test_support::redis::has_redis().then(Redis::start)
}
