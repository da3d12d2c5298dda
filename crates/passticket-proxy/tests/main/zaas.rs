//! Tests of the listener for gateways of API ML, which use the program as their ZAAS.
//!
//! In this file, a gateway is a gateway of API ML, and the program is `passticket-proxy`. For a request to a service, a
//! gateway sends `POST /zaas/scheme/...` with the credential of the client. It also relays requests of its clients to
//! the auth API. A PassTicket is a short-lived password of z/OS. A PAT is a Personal Access Token.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use reqwest::{Client, Identity, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use test_support::{
    PATIENCE, Running,
    apiml_gateway::{ClientRequest, GatewayScheme, Reaction, ScriptedGateway},
    pki::{self, Authority},
    tickets,
    zosmf::{FakeZosmf, UserState},
    zss::FakeZss,
};
use tokio::{
    task::{JoinSet, spawn_blocking},
    time::sleep,
};

use crate::{
    support::{Demo, PROGRAM, admin_address, listening, metric, with_any_port, with_site},
    takeover::successor,
};

/// The certificate of the gateway that the configuration names.
const GATEWAY: pki::Identity = pki::SERVER;

/// A gateway of API ML that the configuration does not name.
const UNNAMED: pki::Identity = pki::APIMTST;

fn fingerprint(identity: pki::Identity) -> String {
    Sha256::digest(identity.certificate_der()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn section(gateways: &str) -> String {
    format!("    zaas:\n      enabled: true\n      port: 0\n      gateways: {gateways}\n")
}

fn named(identity: pki::Identity) -> String {
    format!("[{{sha256: {}}}]", fingerprint(identity))
}

/// Waits until the listener for gateways of API ML is open. Returns its address.
fn zaas_address(program: &mut Running) -> SocketAddr {
    let line = program.logged("the listener for API ML gateways is open");
    let address = line.split("address=").nth(1).unwrap();
    address.split_whitespace().next().unwrap().parse().unwrap()
}

struct Site {
    demo: Demo,
    zaas: SocketAddr,
}

impl Site {
    async fn start() -> Self {
        Self::start_with(section(&named(GATEWAY))).await
    }

    async fn start_with(ours: String) -> Self {
        Self::start_edited(move |_, yaml| yaml + &ours).await
    }

    /// Starts the program after `edit` has changed its files.
    async fn start_edited(edit: impl FnOnce(&Path, String) -> String + Send + 'static) -> Self {
        let mut demo = Demo::beside_servers(move |directory, yaml| {
            fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
            edit(directory, with_site(directory, &yaml, "http://127.0.0.1:1"))
        })
        .await;
        let zaas = zaas_address(&mut demo.program);
        Self { demo, zaas }
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.zaas.port())
    }

    /// Returns a gateway of API ML with this certificate.
    fn gateway(&self, identity: impl Into<Option<pki::Identity>>) -> Gateway {
        let builder = self.demo.builder().http1_only();
        let builder = match identity.into() {
            None => builder,
            Some(pki::Identity { certificate, key }) => {
                let pem = format!("{certificate}{key}");
                builder.identity(Identity::from_pem(pem.as_bytes()).unwrap())
            }
        };
        Gateway { client: builder.build().unwrap(), url: self.url("/zaas") }
    }

    /// Returns whether z/OS would accept this PassTicket of `user`.
    fn is_valid(&self, user: &str, answer: &Value) -> bool {
        let key = fs::read_to_string(self.demo.directory.join("ptktdata/ZOWEAPPL.key")).unwrap();
        let profile = tickets::key_profile_from("ZOWEAPPL", key.trim());
        answer["userId"] == user
            && tickets::is_valid(&profile, user, answer["ticket"].as_str().unwrap())
    }

    /// Returns whether the service receives a PassTicket of `user` that z/OS would accept.
    fn is_ticket(&self, user: &str, reaction: &Reaction) -> bool {
        let Reaction::Replaced { name, value } = reaction else { panic!("{reaction:?}") };
        let basic = BASE64_STANDARD.decode(value.strip_prefix("Basic ").unwrap()).unwrap();
        let basic = String::from_utf8(basic).unwrap();
        let (of, ticket) = basic.split_once(':').unwrap();
        name == "authorization" && self.is_valid(user, &json!({"userId": of, "ticket": ticket}))
    }

    /// Waits until the audit log has a record that `is_wanted`. The program writes the audit log in the background.
    async fn audited(&self, is_wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let files = ["audit.jsonl", "audit.unauthenticated.jsonl"];
            let texts = files.map(|name| fs::read_to_string(self.demo.directory.join(name)));
            let texts: Vec<_> = texts.into_iter().flatten().collect();
            let lines = texts.iter().flat_map(|text| text.lines());
            let mut records = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
            if let Some(record) = records.find(&is_wanted) {
                return record;
            }
            assert!(Instant::now() < deadline, "no such record: {texts:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

struct Gateway {
    client: Client,
    url: String,
}

impl Gateway {
    /// Begins a request for the credential of the service `svc`.
    fn scheme(&self, scheme: &str) -> RequestBuilder {
        let request = self.client.post(format!("{}/scheme/{scheme}", self.url));
        let request = request.header("X-Service-Id", "svc");
        match scheme {
            "ticket" | "safIdt" => request.json(&json!({"applicationName": "ZOWEAPPL"})),
            _ => request,
        }
    }

    fn auth(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}/api/v1/auth/{path}", self.url))
    }

    fn post(&self, path: &str) -> RequestBuilder {
        self.auth(Method::POST, path)
    }

    async fn login(&self) -> String {
        let login = json!({"username": "USER", "password": "validPassword"});
        token_of(&self.post("login").json(&login).send().await.unwrap())
    }

    async fn pat(&self, scopes: &[&str]) -> String {
        let generate = self.post("access-token/generate").basic_auth("USER", Some("validPassword"));
        let generate = generate.json(&json!({"validity": 1, "scopes": scopes}));
        let response = generate.send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.text().await.unwrap()
    }
}

/// Returns the token in the cookie of an answer to a login.
fn token_of(response: &Response) -> String {
    assert_eq!(response.status(), 204);
    let cookie = response.headers()["set-cookie"].to_str().unwrap();
    let value = cookie.strip_prefix("apimlAuthenticationToken=").unwrap();
    value.split(';').next().unwrap().to_owned()
}

/// Sends a request that must be successful. Returns the JSON of the answer.
async fn json_of(request: RequestBuilder) -> Value {
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200, "{:?}", response.headers());
    response.json().await.unwrap()
}

async fn status(request: RequestBuilder) -> u16 {
    request.send().await.unwrap().status().as_u16()
}

fn base64_of(identity: pki::Identity) -> String {
    BASE64_STANDARD.encode(identity.certificate_der())
}

/// `ScriptedGateway` sends exactly what a gateway of API ML sends. As on many sites, all components have the same
/// certificate.
#[tokio::test(flavor = "multi_thread")]
async fn an_unmodified_gateway_of_api_ml_uses_the_program_as_its_zaas() {
    let site = Site::start_edited(|directory, yaml| {
        for (name, text, mode) in [
            ("site-server.pem", GATEWAY.certificate, 0o644),
            ("site-server.key", GATEWAY.key, 0o600),
        ] {
            let path = directory.join("certs").join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        yaml.replace("certs/localhost.", "certs/site-server.") + &section(&named(GATEWAY))
    })
    .await;
    let gateway = ScriptedGateway::new(site.zaas, GATEWAY);
    let (get, post, delete) = (Method::GET, Method::POST, Method::DELETE);
    let relay = async |method: &Method, path: &str, client: &ClientRequest, body: &str| {
        let path = format!("/gateway/api/v1/auth/{path}");
        gateway.relay(method.clone(), &path, client, body).await
    };
    let ticket = async |client: &ClientRequest| {
        gateway.route(GatewayScheme::Ticket("ZOWEAPPL"), "svc", client).await
    };
    let refused = |text: &str| Reaction::Unchanged { failure: text.to_owned() };
    let anonymous = ClientRequest::new();
    let json = ClientRequest::new().header("Content-Type", "application/json");

    let body = r#"{"username":"USER","password":"validPassword"}"#;
    let by_json = relay(&post, "login", &json, body).await;
    let basic = BASE64_STANDARD.encode("USER:validPassword");
    let basic = ClientRequest::new().header("Authorization", &format!("Basic {basic}"));
    let by_basic = relay(&post, "login", &basic, "").await;
    let by_certificate = relay(&post, "login", &anonymous.clone().certificate(pki::USER), "").await;
    let cookies = [by_json, by_basic, by_certificate].map(|answer| {
        assert_eq!(answer.status, 204, "{answer:?}");
        answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned()
    });
    for cookie in &cookies {
        let client = ClientRequest::new().header("Cookie", &format!("a=b; {cookie}"));
        let query = relay(&get, "query", &client, "").await;
        assert!(query.status == 200 && query.body.contains(r#""userId":"USER""#), "{query:?}");
        assert!(site.is_ticket("USER", &ticket(&client).await));
        let jwt = gateway.route(GatewayScheme::ZoweJwt, "svc", &client).await;
        let want = Reaction::Replaced { name: "cookie".to_owned(), value: cookie.clone() };
        assert_eq!(jwt, want);
    }
    let wrong = relay(&post, "login", &json, &body.replace("valid", "wrong")).await;
    assert_eq!((wrong.status, &*wrong.message_number()), (401, "ZWEAG120E"));

    let token = cookies[0].split_once('=').unwrap().1;
    let client = ClientRequest::new().header("Cookie", &cookies[0]);
    assert_eq!(gateway.query(token).await, 200);
    assert_eq!(relay(&post, "logout", &client, "").await.status, 204);
    assert_eq!(gateway.query(token).await, 401);
    let no_credential = "ZWEAG160E No authentication provided in the request";
    assert_eq!(ticket(&client).await, refused(no_credential));

    let client = json.header("Cookie", &cookies[1]);
    let body = r#"{"validity":1,"scopes":["svc"]}"#;
    let with_password = basic.header("Content-Type", "application/json");
    let generated = relay(&post, "access-token/generate", &with_password, body).await;
    assert_eq!(generated.status, 200, "{generated:?}");
    let with_pat = ClientRequest::new().header("PRIVATE-TOKEN", &generated.body);
    assert!(site.is_ticket("USER", &ticket(&with_pat).await));
    let other = gateway.route(GatewayScheme::Ticket("ZOWEAPPL"), "other", &with_pat).await;
    assert_eq!(other, refused(no_credential));
    let body = format!(r#"{{"token":"{}"}}"#, generated.body);
    assert_eq!(relay(&delete, "access-token/revoke", &client, &body).await.status, 204);
    assert_eq!(ticket(&with_pat).await, refused(no_credential));

    assert!(site.is_ticket("APIMTST", &ticket(&anonymous.clone().certificate(UNNAMED)).await));
    // The gateway presents its own certificate, and its client has none. The certificate of the gateway is no
    // credential.
    assert_eq!(ticket(&anonymous).await, refused(no_credential));
    let unknown = gateway.route(GatewayScheme::Ticket("OTHER"), "svc", &client).await;
    assert_eq!(unknown, Reaction::NotForwarded { status: 400 });
    let zosmf = gateway.route(GatewayScheme::Zosmf, "svc", &client).await;
    assert_eq!(zosmf, Reaction::NotForwarded { status: 503 });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_logs_users_in_and_out_and_gets_tickets_for_their_tokens() {
    let site = Site::start().await;
    let gateway = site.gateway(GATEWAY);
    let basic = gateway.post("login").basic_auth("USER", Some("validPassword"));
    let by_basic = token_of(&basic.send().await.unwrap());
    let token = gateway.login().await;
    let wrong = gateway.post("login").basic_auth("USER", Some("wrong"));
    assert_eq!(status(wrong).await, 401);
    // For a client without a certificate, a gateway of API ML relays requests to the auth API without presenting its
    // own certificate.
    let anonymous = site.gateway(None);
    let by_anonymous = anonymous.login().await;

    for token in [&by_basic, &by_anonymous, &token] {
        let query = gateway.auth(Method::GET, "query").bearer_auth(token);
        assert_eq!(json_of(query).await["userId"], "USER");
        let with_header = gateway.scheme("ticket").bearer_auth(token);
        let cookie = format!("apimlAuthenticationToken={token}");
        let with_cookie = gateway.scheme("ticket").header("cookie", cookie);
        for request in [with_header, with_cookie] {
            let answer = json_of(request).await;
            assert!(site.is_valid("USER", &answer), "{answer}");
            assert_eq!(answer["applicationName"], "ZOWEAPPL");
        }
    }
    // For a login token, the request does not need the header `X-Service-Id`.
    let ticket = gateway.client.post(site.url("/zaas/scheme/ticket"));
    let ticket = ticket.json(&json!({"applicationName": "ZOWEAPPL"})).bearer_auth(&token);
    assert!(site.is_valid("USER", &json_of(ticket).await));

    let cookie = format!("apimlAuthenticationToken={token}");
    assert_eq!(status(gateway.post("logout").header("cookie", cookie)).await, 204);
    let query = gateway.auth(Method::GET, "query").bearer_auth(&token);
    assert_eq!(status(query).await, 401);
    assert_eq!(status(gateway.scheme("ticket").bearer_auth(&token)).await, 401);
    assert_eq!(status(gateway.scheme("ticket").bearer_auth(&by_basic)).await, 200);
    // The port for clients uses the same tokens and revocations.
    let service = site.demo.client().get(site.demo.auth("query")).bearer_auth(&token);
    assert_eq!(status(service).await, 401);
    let service = site.demo.client().get(site.demo.auth("query")).bearer_auth(&by_basic);
    assert_eq!(status(service).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pat_is_valid_for_the_services_of_its_scopes_until_it_is_revoked() {
    let site = Site::start().await;
    let gateway = site.gateway(GATEWAY);
    let pat = gateway.pat(&["svc"]).await;
    let with = |pat: &str| gateway.scheme("ticket").header("PRIVATE-TOKEN", pat);
    for request in [
        with(&pat),
        gateway.scheme("ticket").bearer_auth(&pat),
        gateway.scheme("ticket").header("cookie", format!("personalAccessToken={pat}")),
    ] {
        let answer = json_of(request).await;
        assert!(site.is_valid("USER", &answer), "{answer}");
    }
    // Without the header `X-Service-Id`, the scopes of a PAT cannot be checked, so the PAT is refused.
    let ticket = gateway.client.post(site.url("/zaas/scheme/ticket"));
    let ticket = ticket.json(&json!({"applicationName": "ZOWEAPPL"}));
    assert_eq!(status(ticket.header("PRIVATE-TOKEN", &pat)).await, 401);
    for scopes in [&["other"][..], &["svc:read"]] {
        let pat = gateway.pat(scopes).await;
        let response = with(&pat).send().await.unwrap();
        assert_eq!(response.status(), 401, "{scopes:?}");
    }
    let validate = json!({"token": pat, "serviceId": "svc"});
    let validate = || gateway.post("access-token/validate").json(&validate);
    assert_eq!(status(validate()).await, 204);
    let revoke = gateway.auth(Method::DELETE, "access-token/revoke");
    assert_eq!(status(revoke.json(&json!({"token": pat}))).await, 204);
    assert_eq!(status(validate()).await, 401);
    assert_eq!(status(with(&pat)).await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_named_gateway_may_send_certificates_of_its_clients() {
    let site = Site::start().await;
    let client_cert = base64_of(pki::USER);
    let ticket = |gateway: &Gateway| gateway.scheme("ticket");
    let forwarded = |gateway: &Gateway| ticket(gateway).header("Client-Cert", &client_cert);
    let (named, unnamed) = (site.gateway(GATEWAY), site.gateway(UNNAMED));
    let anonymous = site.gateway(None);

    assert!(site.is_valid("USER", &json_of(forwarded(&named)).await));
    // The certificate of the gateway is no credential.
    assert_eq!(status(ticket(&named)).await, 401);
    // A gateway that is not named must not get a ticket for the user of its own certificate. Otherwise, all its clients
    // would act as this user.
    assert_eq!(status(ticket(&unnamed)).await, 401);
    assert_eq!(status(forwarded(&unnamed)).await, 401);
    // A peer that does not send the headers of a gateway is a client, so its own certificate is a credential.
    let own = unnamed.client.post(site.url("/zaas/scheme/ticket"));
    let own = own.json(&json!({"applicationName": "ZOWEAPPL"}));
    assert!(site.is_valid("APIMTST", &json_of(own).await));
    // A peer without a certificate gets no ticket, whatever credential it sends.
    let token = anonymous.login().await;
    for request in [
        ticket(&anonymous),
        forwarded(&anonymous),
        ticket(&anonymous).bearer_auth(&token),
        ticket(&anonymous).basic_auth("USER", Some("validPassword")),
    ] {
        assert_eq!(status(request).await, 401);
    }
    // The token of a client is a valid credential if any gateway with a trusted certificate sends it, named or not.
    for gateway in [&named, &unnamed] {
        let answer = json_of(ticket(gateway).bearer_auth(&token)).await;
        assert!(site.is_valid("USER", &answer), "{answer}");
    }
    let login = named.post("login").header("Client-Cert", &client_cert);
    let query = named.auth(Method::GET, "query");
    let query = query.bearer_auth(token_of(&login.send().await.unwrap()));
    assert_eq!(json_of(query).await["userId"], "USER");
    assert_eq!(status(named.post("login")).await, 400);

    let stranger = site.demo.directory.join("certs/ca.pem");
    let stranger = fs::read_to_string(stranger).unwrap();
    let not_a_client = BASE64_STANDARD.encode("no certificate");
    for bad in [&*not_a_client, "x", &stranger.replace('\n', "")] {
        // As in API ML, a certificate that is not valid is ignored, so the request has no credential.
        assert_eq!(status(ticket(&named).header("Client-Cert", bad)).await, 401, "{bad}");
    }
    for (user, gateway) in [("USER", json!("CN=localhost")), ("APIMTST", Value::Null)] {
        let is_ticket = |it: &Value| it["event"] == "ticket" && it["user"] == user;
        site.audited(|it| is_ticket(it) && it["gateway"] == gateway).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_can_be_named_by_its_subject_and_certificates_need_not_be_credentials() {
    let key = pki::USER.key_pair();
    let certify = |authority: Authority| {
        let certificate = authority.certify(&key, |params| {
            *params = pki::leaf_params("Zowe Service");
        });
        Identity::from_pem((certificate + pki::USER.key).as_bytes()).unwrap()
    };
    let site = Site::start_edited(|_, yaml| {
        let x509 = "        x509:\n          enabled: true\n";
        assert!(yaml.contains(x509));
        crate::support::without_exchange(&yaml)
            .replace(x509, "")
            .replace("        delegatePassticket: true\n", "")
            + &section("[{subject: 'CN=Zowe Service'}]")
    })
    .await;
    let client = |identity| {
        let client = site.demo.builder().http1_only().identity(identity).build().unwrap();
        Gateway { client, url: site.url("/zaas") }
    };
    let named = client(certify(Authority::trusted()));
    let token = named.login().await;
    let answer = json_of(named.scheme("ticket").bearer_auth(&token)).await;
    assert!(site.is_valid("USER", &answer), "{answer}");
    // `x509.enabled` is false, so no certificate is a credential.
    let forwarded = named.scheme("ticket").header("Client-Cert", base64_of(pki::USER));
    assert_eq!(status(forwarded).await, 401);
    assert_eq!(status(site.gateway(UNNAMED).scheme("ticket")).await, 401);
    // This certificate has the subject of the named gateway, but an untrusted authority has issued it. The TLS
    // handshake fails.
    let stranger = client(certify(Authority::stranger()));
    assert!(stranger.scheme("ticket").bearer_auth(&token).send().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_scheme_has_its_answer() {
    let acceptor = || pki::SERVER.acceptor();
    let (zosmf, zss) = (FakeZosmf::https(acceptor()).await, FakeZss::https(acceptor()).await);
    let (zosmf_port, zss_port) = (zosmf.address.port(), zss.address.port());
    let site = Site::start_edited(move |_, yaml| {
        let jwt = "      security:\n        auth: {jwt: {customAuthHeader: X-Token}}\n";
        yaml.replace("      security:\n", jwt)
            + &section(&named(GATEWAY))
            + &format!("    zss: {{url: 'https://localhost:{zss_port}'}}\n")
            + &format!("zOSMF: {{host: localhost, port: {zosmf_port}, applId: ZOWEAPPL}}\n")
    })
    .await;
    let key = fs::read_to_string(site.demo.directory.join("ptktdata/ZOWEAPPL.key")).unwrap();
    zosmf.accept_tickets(Some(tickets::key_profile_from("ZOWEAPPL", key.trim())));
    zss.accept_tickets(Some(tickets::key_profile_from("ZOWEAPPL", key.trim())));
    zosmf.set_user("USER", "validPassword", UserState::Active);
    let gateway = site.gateway(GATEWAY);
    let token = gateway.login().await;

    let answer = json_of(gateway.scheme("zoweJwt").bearer_auth(&token)).await;
    let want =
        json!({"cookieName": "apimlAuthenticationToken", "headerName": null, "token": token});
    assert_eq!(answer, want);
    let client_cert = base64_of(pki::USER);
    let request = gateway.scheme("zoweJwt").header("Client-Cert", &client_cert);
    let issued = json_of(request).await;
    let query = gateway.auth(Method::GET, "query");
    let query = query.bearer_auth(issued["token"].as_str().unwrap());
    assert_eq!(json_of(query).await["userId"], "USER");

    let answer = json_of(gateway.scheme("zosmf").bearer_auth(&token)).await;
    let cookie = answer["cookieName"].as_str().unwrap();
    assert!(["jwtToken", "LtpaToken2"].contains(&cookie), "{answer}");
    assert!(answer["token"].as_str().is_some_and(|token| !token.is_empty()), "{answer}");

    let answer = json_of(gateway.scheme("safIdt").bearer_auth(&token)).await;
    assert_eq!(answer["headerName"], "X-SAF-Token", "{answer}");
    assert!(answer["token"].as_str().is_some_and(|token| !token.is_empty()), "{answer}");

    let ticket = gateway.client.post(site.url("/zaas/scheme/ticket")).bearer_auth(&token);
    let unknown = ticket.json(&json!({"applicationName": "OTHER"}));
    assert_eq!(status(unknown).await, 400);
    assert_eq!(status(gateway.scheme("other").bearer_auth(&token)).await, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_port_has_only_its_own_paths() {
    let admin = "    admin: {port: 0}\n".to_owned();
    let mut site = Site::start_with(section(&named(GATEWAY)) + &admin).await;
    let gateway = site.gateway(GATEWAY);
    for path in ["/gateway/api/v1/auth/login", "/svc/api/v1/x", "/gateway/ui", "/zaas/api/v1/x"] {
        let response = gateway.client.get(site.url(path)).send().await.unwrap();
        assert_eq!(response.status(), 404, "{path}");
    }
    for path in ["/zaas/api/v1/auth/login", "/zaas/scheme/ticket"] {
        let response = site.demo.client().post(site.demo.at(path)).send().await.unwrap();
        assert_eq!(response.status(), 404, "{path}");
    }
    // The gateway relays this header unchanged from its clients, and a client can write any address into it. So the
    // program ignores the header.
    for number in 0..3 {
        let login = gateway.post("login").basic_auth("NOBODY", Some("wrong"));
        let login = login.header("X-Forwarded-For", format!("192.0.2.{number}"));
        assert_eq!(status(login).await, 401);
    }
    let record = site.audited(|record| record["event"] == "login").await;
    let peer = record["peer"].as_str().unwrap();
    assert!(peer.starts_with("127.0.0.1:") && record["client"].is_null(), "{record}");

    let admin = spawn_blocking(move || {
        let admin = admin_address(&mut site.demo.program);
        (admin, site)
    });
    // The admin port logs its address before the other ports do.
    let (admin, site) = admin.await.unwrap();
    let client = Client::builder().no_proxy().build().unwrap();
    let health = client.get(format!("http://{admin}/health"));
    let health: Value = json_of(health).await;
    assert_eq!(health["components"]["zaas"], json!({"status": "UP"}), "{health}");
    let want = json!({"address": site.zaas.to_string(), "gateways": 1});
    assert_eq!(health["zaas"], want, "{health}");
    let up = metric(&client, admin, "passticket_component_up{component=\"zaas\"}").await;
    assert_eq!(up, 1);
    assert!(metric(&client, admin, "passticket_connections_total").await > 0);
}

/// Replaces a file by renaming a new file.
fn edit(path: &Path, change: impl FnOnce(String) -> String) {
    let new = path.with_extension("new");
    fs::write(&new, change(fs::read_to_string(path).unwrap())).unwrap();
    fs::rename(new, path).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_adds_and_removes_gateways_on_open_connections() {
    let mut site = Site::start().await;
    let yaml = site.demo.directory.join("zowe.yaml");
    let (first, second) = (site.gateway(GATEWAY), site.gateway(UNNAMED));
    let client_cert = base64_of(pki::USER);
    let user_of = async |gateway: &Gateway| {
        let ticket = gateway.scheme("ticket").header("Client-Cert", &client_cert);
        let response = ticket.send().await.unwrap();
        match response.status().as_u16() {
            200 => response.json::<Value>().await.unwrap()["userId"].as_str().unwrap().to_owned(),
            status => status.to_string(),
        }
    };
    // The second gateway is not named yet, so the program accepts neither the certificate of this gateway nor the
    // certificate in its `Client-Cert`.
    assert_eq!((&*user_of(&first).await, &*user_of(&second).await), ("USER", "401"));
    edit(&yaml, |yaml| yaml.replace(&named(GATEWAY), &named(UNNAMED)));
    let deadline = Instant::now() + PATIENCE;
    while user_of(&second).await != "USER" {
        assert!(Instant::now() < deadline);
        sleep(Duration::from_millis(50)).await;
    }
    // The certificate of a gateway that is no longer named does not become a credential.
    assert_eq!(user_of(&first).await, "401");

    // The listener is removed from the configuration. While it stays open, it trusts the gateways that were named last.
    edit(&yaml, |yaml| {
        yaml.replace("    zaas:\n      enabled: true", "    zaas:\n      enabled: false")
    });
    site.demo = spawn_blocking(move || {
        let mut demo = site.demo;
        demo.program.logged(
            "zaas.enabled: the listener for API ML gateways changes only when the program is restarted",
        );
        demo
    })
    .await
    .unwrap();
    let site = Site { demo: site.demo, zaas: site.zaas };
    assert_eq!(user_of(&site.gateway(UNNAMED)).await, "USER");
    assert_eq!(user_of(&site.gateway(GATEWAY)).await, "401");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_named_gateways_the_program_does_not_start() {
    let demo = spawn_blocking(|| Demo::reconfigured(|yaml| yaml)).await.unwrap();
    let config = demo.directory.join("zowe.yaml");
    let yaml = fs::read_to_string(&config).unwrap();
    for (gateways, want) in [
        ("[]", "components.passticket-proxy.zaas.gateways: is empty; write the certificates"),
        (
            "[{}]",
            "components.passticket-proxy.zaas.gateways[0]: must name the certificate in one way",
        ),
    ] {
        fs::write(&config, yaml.clone() + &section(gateways)).unwrap();
        for command in ["serve", "check"] {
            let mut program = Command::new(PROGRAM);
            program.args([command, "--config", config.to_str().unwrap()]);
            let Output { status, stderr, .. } =
                spawn_blocking(move || program.output()).await.unwrap().unwrap();
            let text = String::from_utf8(stderr).unwrap();
            assert_eq!(status.code(), Some(2), "{command}: {text}");
            assert!(text.contains("zowe.yaml:") && text.contains(want), "{command}: {text}");
        }
    }
}

/// Requests of gateways to the program while it is replaced.
#[derive(Clone, Default)]
struct Load {
    has_ended: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    failures: Arc<Mutex<Vec<String>>>,
}

impl Load {
    /// Sends one request after the other until the test ends.
    async fn send(self, name: &'static str, request: impl Fn() -> RequestBuilder, want: u16) {
        while !self.has_ended.load(SeqCst) {
            let failure = match request().send().await {
                Ok(response) if response.status().as_u16() == want => {
                    match response.bytes().await {
                        Ok(_) => {
                            self.answered.fetch_add(1, SeqCst);
                            None
                        }
                        Err(error) => Some(format!("{error:?}")),
                    }
                }
                other => Some(format!("{other:?}")),
            };
            if let Some(failure) = failure {
                self.failures.lock().unwrap().push(format!("{name}: {failure}"));
            }
            sleep(Duration::from_millis(2)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn takeovers_under_load_fail_no_request_of_a_gateway() {
    let site = Site::start().await;
    let config = site.demo.directory.join("zowe.yaml");
    let socket = site.demo.directory.join("revocations.redb.takeover");
    let deadline = Instant::now() + PATIENCE;
    while !socket.exists() {
        assert!(Instant::now() < deadline);
        sleep(Duration::from_millis(20)).await;
    }
    let load = Load::default();
    let mut clients = JoinSet::new();
    let token = site.gateway(GATEWAY).login().await;
    for name in ["ticket", "certificate", "login", "query", "new connections"] {
        let gateway = match name {
            "new connections" => {
                let pem = format!("{}{}", GATEWAY.certificate, GATEWAY.key);
                let builder = site.demo.builder().http1_only().pool_max_idle_per_host(0);
                let identity = Identity::from_pem(pem.as_bytes()).unwrap();
                let client = builder.identity(identity).build().unwrap();
                Gateway { client, url: site.url("/zaas") }
            }
            _ => site.gateway(GATEWAY),
        };
        let (token, load) = (token.clone(), load.clone());
        clients.spawn(async move {
            let want = if name == "login" { 204 } else { 200 };
            let client_cert = base64_of(pki::USER);
            let request = || match name {
                "certificate" => gateway.scheme("ticket").header("Client-Cert", &client_cert),
                "login" => gateway.post("login").header("Client-Cert", &client_cert),
                "query" => gateway.auth(Method::GET, "query").bearer_auth(&token),
                _ => gateway.scheme("ticket").bearer_auth(&token),
            };
            load.send(name, request, want).await;
        });
    }
    let Site { demo, .. } = site;
    let Demo { mut program, directory: _directory, _temporary, .. } = demo;
    let mut ended = JoinSet::new();
    for _ in 0..3 {
        let next = successor(&config).await;
        let mut old = std::mem::replace(&mut program, next);
        ended.spawn_blocking(move || old.wait());
        sleep(Duration::from_millis(200)).await;
    }
    sleep(Duration::from_millis(300)).await;
    load.has_ended.store(true, SeqCst);
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    while let Some(old) = ended.join_next().await {
        let (status, log) = old.unwrap();
        assert!(status.success(), "{log}");
    }
    let failures = load.failures.lock().unwrap().clone();
    assert!(failures.is_empty(), "{} failures: {failures:#?}", failures.len());
    assert!(load.answered.load(SeqCst) > 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_switches_the_listener_on_and_off() {
    let mut demo = spawn_blocking(|| {
        Demo::with_files(|directory, yaml| {
            fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
            with_site(directory, &yaml, "http://127.0.0.1:1")
        })
    })
    .await
    .unwrap();
    let config = demo.directory.join("zowe.yaml");
    let socket = demo.directory.join("revocations.redb.takeover");
    let deadline = Instant::now() + PATIENCE;
    while !socket.exists() {
        assert!(Instant::now() < deadline);
        sleep(Duration::from_millis(20)).await;
    }
    // The old program has no such listener, so the new program opens it.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let yaml = fs::read_to_string(&config).unwrap();
    let on = section(&named(GATEWAY)).replace("port: 0", &format!("port: {}", free.port()));
    edit(&config, |_| yaml.clone() + &on);
    let old = std::mem::replace(&mut demo.program, successor(&config).await);
    let site = Site { demo, zaas: free };
    let gateway = site.gateway(GATEWAY);
    let token = gateway.login().await;
    assert_eq!(status(gateway.scheme("ticket").bearer_auth(&token)).await, 200);
    spawn_blocking(move || drop(old)).await.unwrap();

    edit(&config, |_| yaml);
    let Site { mut demo, .. } = site;
    let old = std::mem::replace(&mut demo.program, successor(&config).await);
    let (status, log) = spawn_blocking(move || {
        let mut old = old;
        old.wait()
    })
    .await
    .unwrap();
    assert!(status.success(), "{log}");
    assert!(TcpListener::bind(free).is_ok(), "the listener is still open");
    assert_eq!(demo.client().get(demo.auth("query")).send().await.unwrap().status(), 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_continues_with_the_second_of_two_instances() {
    let site = Site::start().await;
    let other = tempfile::tempdir().unwrap();
    let directory = other.path().join("other");
    // `cp` fails if the running program removes a temporary file meanwhile, but copies all other files.
    let _ = Command::new("cp").arg("-a").args([&site.demo.directory, &directory]).status().unwrap();
    for name in ["revocations.redb", "revocations.redb.takeover"] {
        let _ = fs::remove_file(directory.join(name));
    }
    let config = directory.join("zowe.yaml");
    edit(&config, |yaml| with_any_port(&yaml));
    let second = spawn_blocking(move || {
        let args = ["serve", "--new-store", "--config", config.to_str().unwrap()];
        let (mut program, _) = listening(Running::start(PROGRAM, &args));
        let zaas = zaas_address(&mut program);
        (program, zaas)
    });
    let (_second, second_zaas) = second.await.unwrap();
    let first = site.gateway(GATEWAY);
    let url = format!("https://localhost:{}/zaas", second_zaas.port());
    let second = Gateway { client: first.client.clone(), url };
    let token = first.login().await;
    // If an instance does not answer, API ML's gateway sends the `GET` of its client again to another instance.
    let ticket = async || {
        let mut last = None;
        for gateway in [&first, &second] {
            match gateway.scheme("ticket").bearer_auth(&token).send().await {
                Ok(response) => return response.json::<Value>().await.unwrap(),
                Err(error) => last = Some(error),
            }
        }
        panic!("{last:?}");
    };
    assert!(site.is_valid("USER", &ticket().await));
    let Site { mut demo, zaas } = site;
    demo.program.kill();
    let site = Site { demo, zaas };
    assert!(site.is_valid("USER", &ticket().await));
}
