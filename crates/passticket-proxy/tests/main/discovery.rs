//! Tests of services that the gateway finds in Eureka, the discovery service of Zowe. Eureka is a fake. A registrant is
//! a program that registers itself there as an instance of a service.
//!
//! A PassTicket is a short-lived password of z/OS.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Instant,
};

use crate::{
    support::{Demo, PROGRAM, admin_address, with_site},
    takeover::successor,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use rcgen::KeyPair;
use reqwest::Response;
use serde_json::Value;
use test_support::{
    PATIENCE,
    eureka::{FakeEureka, Registration},
    fake::{Answer, Behaviour, Fake},
    pki::{self, Authority, Clients, Identity},
    raw::Step,
    tickets,
};
use tokio::{
    task::spawn_blocking,
    time::{Duration, sleep},
};

/// A gateway, two discovery services (Eureka), and two services that answer `200 ok`.
struct Site {
    demo: Demo,
    first: FakeEureka,
    second: FakeEureka,
    /// A service whose host the configuration names.
    service: Fake,
    /// A service whose host the configuration does not name.
    rogue: Fake,
}

async fn service(identity: Identity) -> Fake {
    Fake::https(identity.acceptor(), |_| Answer::text(200, "ok")).await
}

impl Site {
    /// Starts the servers and the gateway. `keys` are lines of the setting `discovery`. `edit` changes the zowe.yaml.
    async fn start(keys: &'static str, edit: fn(String) -> String) -> Self {
        let eureka = || async {
            let acceptor = pki::SERVER.acceptor_of_clients(Clients::MayHaveCertificate);
            let eureka = FakeEureka::https(acceptor).await;
            eureka.require_certificate();
            eureka
        };
        let (first, second) = (eureka().await, eureka().await);
        let (service, rogue) = (service(pki::SERVER).await, service(pki::SERVER).await);
        let hosts = [first.url(), second.url()];
        let demo = Demo::beside_servers(move |directory, yaml| {
            let yaml = with_site(directory, &yaml, "https://localhost:1");
            write_identity(directory, "eureka", pki::USER);
            let discovery = format!(
                "    discovery:\n      eureka: {hosts:?}\n      intervalSeconds: 1\n      clientCertificate: \
                 {{certificate: certs/eureka.pem, key: certs/eureka.key}}\n{keys}    admin: {{port: 0}}\n"
            );
            edit(yaml + &discovery)
        });
        Self { demo: demo.await, first, second, service, rogue }
    }

    fn register(&self, registration: &Registration) {
        for eureka in [&self.first, &self.second] {
            eureka.register(registration.clone());
        }
    }

    fn each(&self, change: impl Fn(&FakeEureka)) {
        change(&self.first);
        change(&self.second);
    }

    /// Returns a registration of an instance of `files` at `host`, whose scheme is PassTickets.
    fn files(host: &str, port: u16) -> Registration {
        Registration::https("files", host, port)
            .with_route("api/v1", "/base")
            .with_scheme("httpBasicPassTicket", "ZOWEAPPL")
    }

    async fn get(&self, path: &str) -> Response {
        self.demo.client_of("USER").get(self.demo.at(path)).send().await.unwrap()
    }

    /// Requests `path` until the response has this status. Returns the response.
    async fn until(&self, path: &str, status: u16) -> Response {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let response = self.get(path).await;
            if response.status() == status {
                return response;
            }
            assert!(Instant::now() < deadline, "{path}: {} instead of {status}", response.status());
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until `/application/health` contains this state of discovery.
    async fn until_health(&self, want: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let health: Value = self.get("/application/health").await.json().await.unwrap();
            assert_eq!(health["status"], "UP");
            if health["discovery"] == want {
                return;
            }
            assert!(Instant::now() < deadline, "{health}");
            sleep(Duration::from_millis(50)).await;
        }
    }
}

fn write_identity(directory: &Path, name: &str, identity: Identity) {
    let file = |end| directory.join(format!("certs/{name}.{end}"));
    fs::write(file("pem"), identity.certificate).unwrap();
    fs::write(file("key"), identity.key).unwrap();
    fs::set_permissions(file("key"), fs::Permissions::from_mode(0o600)).unwrap();
}

const FILES: &str = "/files/api/v1/x";

#[tokio::test(flavor = "multi_thread")]
async fn found_services_get_routes_and_a_rogue_registrant_gets_no_credential() {
    const KEYS: &str = "      services:\n        files: {hosts: [localhost], applid: ZOWEAPPL, schemes: \
                        [httpBasicPassTicket]}\n      others: bypass\n      otherHosts: [127.0.0.1]\n";
    let mut site = Site::start(KEYS, |yaml| yaml).await;
    let mut admin = admin_address(&mut site.demo.program);
    admin.set_ip([127, 0, 0, 1].into());
    let plain = reqwest::Client::builder().no_proxy().build().unwrap();
    let ask = |path: &str| plain.get(format!("http://{admin}{path}")).send();

    assert_eq!(site.get(FILES).await.status(), 503);
    let (port, rogue) = (site.service.address.port(), site.rogue.address.port());
    let files = Site::files("localhost", port);
    site.register(&files);
    site.until(FILES, 200).await;
    let request = site.service.requests().pop().unwrap();
    assert_eq!(request.path, "/base/x");
    let key = fs::read_to_string(site.demo.directory.join("ptktdata/ZOWEAPPL.key")).unwrap();
    let profile = tickets::key_profile_from("ZOWEAPPL", key.trim());
    let basic = request.header("authorization").unwrap().strip_prefix("Basic ").unwrap();
    let basic = String::from_utf8(BASE64_STANDARD.decode(basic).unwrap()).unwrap();
    let (user, ticket) = basic.split_once(':').unwrap();
    assert!(user == "USER" && tickets::is_valid(&profile, user, ticket), "{basic}");
    let services: Value = site.get("/gateway/api/v1/services/files").await.json().await.unwrap();
    assert_eq!(services["apiml"]["authentication"][0]["applid"], "ZOWEAPPL");
    assert!(services["instances"].as_object().unwrap().contains_key(&files.id()), "{services}");

    // A second registrant uses the same service id. A third registrant uses the service id of a definition.
    site.register(&Site::files("127.0.0.1", rogue));
    site.register(&Registration::https("svc", "127.0.0.1", rogue).with_route("evil", "/"));
    site.register(&Site::files("localhost", rogue).with_scheme("httpBasicPassTicket", "IZUDFLT"));
    let line = site.demo.program.logged("the APPLID \\\"IZUDFLT\\\" is not");
    assert!(line.contains("registered instance refused"), "{line}");
    site.demo.program.logged("the host \\\"127.0.0.1\\\" is not");
    for _ in 0..4 {
        assert_eq!(site.get(FILES).await.status(), 200);
    }
    assert_eq!(site.get("/svc/evil/x").await.status(), 404);
    assert_eq!(site.rogue.requests().len(), 0);
    let deadline = Instant::now() + PATIENCE;
    let refused = loop {
        let audit = fs::read_to_string(site.demo.directory.join("audit.jsonl")).unwrap();
        let refused = audit.lines().filter(|line| line.contains(r#""event":"registration""#));
        let refused: Vec<_> = refused.map(str::to_owned).collect();
        if refused.len() >= 2 {
            break refused;
        }
        assert!(Instant::now() < deadline, "{audit}");
        sleep(Duration::from_millis(50)).await;
    };
    assert!(refused.iter().all(|line| line.contains("registration-refused")), "{refused:?}");

    // A service that the configuration does not name receives no credential of clients.
    site.register(&Registration::https("other", "127.0.0.1", rogue).with_route("api", "/"));
    let token = site.demo.login().await;
    site.until("/other/api/x", 503).await;
    // The instance of `other` has a certificate that is not for 127.0.0.1, so the gateway answers 503. The service
    // `plain` has no TLS, so it needs no certificate, and receives requests.
    site.register(
        &Registration::http("plain", "127.0.0.1", plain_service().await).with_route("api", "/"),
    );
    let deadline = Instant::now() + PATIENCE;
    let body = loop {
        let request = site.demo.client_of("USER").get(site.demo.at("/plain/api/x"));
        let cookie = format!("apimlAuthenticationToken={token}; theme=dark");
        let request = request.bearer_auth(&token).header("cookie", cookie);
        let response = request.send().await.unwrap();
        if response.status() == 200 {
            break response.text().await.unwrap();
        }
        assert!(Instant::now() < deadline);
        sleep(Duration::from_millis(50)).await;
    };
    assert!(body.contains("theme=dark") && !body.contains(&token), "{body}");
    assert!(!body.to_ascii_lowercase().contains("authorization"), "{body}");

    // The only instance of the service goes down, and then up again.
    site.each(|eureka| eureka.set_status(&files.id(), "OUT_OF_SERVICE"));
    let response = site.until(FILES, 503).await;
    assert!(response.text().await.unwrap().contains("no instance of the service is up"));
    site.each(|eureka| eureka.set_status(&files.id(), "UP"));
    site.until(FILES, 200).await;
    site.until_health("UP").await;

    // Both discovery services are stopped. The routes stay, and the gateway stays ready.
    site.first.stop().await;
    site.second.behave(Behaviour::Scripted(vec![Step::ShutDown]));
    site.until_health("STALE").await;
    assert_eq!(site.get(FILES).await.status(), 200);
    assert_eq!(ask("/health/ready").await.unwrap().status(), 200);
    let health: Value = ask("/health").await.unwrap().json().await.unwrap();
    assert_eq!(health["components"]["discovery"]["status"], "DOWN", "{health}");
    let metrics = ask("/metrics").await.unwrap().text().await.unwrap();
    for line in [
        "passticket_component_up{component=\"discovery\"} 0",
        "passticket_discovery_services{kind=\"trusted\"} 1",
        "passticket_discovery_services{kind=\"other\"} 2",
        "passticket_discovery_refused_instances 2",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    site.demo.program.logged("registry of services not fetched; the last registry is kept");

    // A discovery service runs again. In the meantime, the status of the service has changed.
    site.second.set_status(&files.id(), "DOWN");
    site.second.behave(Behaviour::Right);
    site.until_health("UP").await;
    site.until(FILES, 503).await;
    site.second.register(files.clone());
    site.until(FILES, 200).await;
    // The service cancels its registration. Its routes stay, so the answer is 503, not 404.
    site.second.cancel(&files.id());
    site.until(FILES, 503).await;
    assert_eq!(site.rogue.requests().len(), 0);
}

/// Starts a service without TLS that answers with the head of the request.
async fn plain_service() -> u16 {
    use tokio::io::{AsyncWriteExt, BufReader};

    let address = test_support::raw::service(async |stream: tokio::net::TcpStream| {
        let mut stream = BufReader::new(stream);
        let head = test_support::raw::head(&mut stream).await;
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{head}",
            head.len()
        );
        stream.get_mut().write_all(answer.as_bytes()).await.unwrap();
    });
    address.await.port()
}

/// Any client can send requests to a service with the scheme bypass. So the gateway does not present its own
/// certificate to this service. It also uses separate connections for this service, because it always verifies the
/// service's host.
#[tokio::test(flavor = "multi_thread")]
async fn a_found_service_without_authentication_gets_no_certificate_of_the_gateway() {
    const KEYS: &str = "      services:\n        open: {hosts: [localhost], schemes: bypass}\n        \
                        own: {hosts: [localhost], schemes: bypass}\n    clientCertificate: {certificate: \
                        certs/eureka.pem, key: certs/eureka.key}\n";
    let site = Site::start(KEYS, |yaml| {
        let yaml = yaml.replace("verifyCertificates: STRICT", "verifyCertificates: DISABLED");
        yaml + "    services: {own: {clientCertificate: {certificate: certs/eureka.pem, key: certs/eureka.key}}}\n"
    })
    .await;
    let acceptor = pki::SERVER.acceptor_of_clients(Clients::MayHaveCertificate);
    let asking = Fake::https(acceptor, |_| Answer::text(200, "ok")).await;
    for (service, has_certificate) in [("open", false), ("own", true)] {
        let registration = Registration::https(service, "localhost", asking.address.port());
        site.register(&registration.with_route("api", "/").with_scheme("bypass", ""));
        let path = format!("/{service}/api/x");
        site.until(&path, 200).await;
        for client in [site.demo.client_of("USER"), site.demo.builder().build().unwrap()] {
            assert_eq!(client.get(site.demo.at(&path)).send().await.unwrap().status(), 200);
            let seen = asking.requests().pop().unwrap();
            assert_eq!(seen.certificate.is_some(), has_certificate, "{service}");
        }
    }
}

/// The certificate of the service must contain the registered host, even if the gateway does not verify other services.
#[tokio::test(flavor = "multi_thread")]
async fn a_found_service_needs_a_certificate_for_its_host() {
    const KEYS: &str = "      services:\n        files: {hosts: [localhost], applid: ZOWEAPPL, schemes: httpBasicPassTicket}\n";
    let site = Site::start(KEYS, |yaml| {
        yaml.replace("verifyCertificates: STRICT", "verifyCertificates: DISABLED")
    })
    .await;
    let key = KeyPair::from_pem(pki::SERVER.key).unwrap();
    let certificate = Authority::stranger().certify(&key, |_| {});
    let certificate: &'static str = Box::leak(certificate.into_boxed_str());
    let stranger = service(Identity { certificate, key: pki::SERVER.key }).await;
    site.register(&Site::files("localhost", stranger.address.port()));
    site.until(FILES, 503).await;
    assert_eq!(stranger.requests().len(), 0);
    // With this configuration, the gateway does not verify the service of a definition.
    let definition = fs::read_to_string(site.demo.directory.join("api-defs/demo.yml")).unwrap();
    let port = stranger.address.port().to_string();
    let definition = definition.replace("localhost:1\"", &format!("localhost:{port}\""));
    fs::write(site.demo.directory.join("api-defs/demo.yml"), definition).unwrap();
    let site = Site { demo: site.demo.restarted(), ..site };
    site.until("/svc/api/v1/x", 200).await;
    assert_eq!(stranger.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_keeps_the_found_services_while_discovery_is_down() {
    const KEYS: &str = "      services:\n        files: {hosts: [localhost], applid: ZOWEAPPL, schemes: httpBasicPassTicket}\n";
    let mut site = Site::start(KEYS, |yaml| yaml).await;
    fs::set_permissions(&site.demo.directory, fs::Permissions::from_mode(0o755)).unwrap();
    site.register(&Site::files("localhost", site.service.address.port()));
    site.until(FILES, 200).await;
    site.first.stop().await;
    site.second.stop().await;
    let config = site.demo.directory.join("zowe.yaml");
    for _ in 0..2 {
        // No discovery service runs, so the new process can get the registry only from the old process.
        let new = successor(&config).await;
        let mut old = std::mem::replace(&mut site.demo.program, new);
        assert_eq!(site.get(FILES).await.status(), 200);
        assert!(spawn_blocking(move || old.wait()).await.unwrap().0.success());
        assert_eq!(site.get(FILES).await.status(), 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_live_asks_each_discovery_service() {
    const KEYS: &str = "      services:\n        files: {hosts: [localhost], applid: ZOWEAPPL, schemes: httpBasicPassTicket}\n";
    let mut site = Site::start(KEYS, |yaml| yaml).await;
    site.register(&Site::files("localhost", 1));
    site.second.stop().await;
    let config = site.demo.directory.join("zowe.yaml");
    let check = spawn_blocking(move || {
        Command::new(PROGRAM).arg("check").arg("--config").arg(config).arg("--live").output()
    });
    let output = check.await.unwrap().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = |url: String| text.lines().find(|line| line.contains(&url)).unwrap().to_owned();
    assert!(text.contains("1 services may be found in Eureka, which has 2 hosts"), "{text}");
    let first = line(site.first.url());
    assert!(first.ends_with("lists 1 services with 1 instances that are UP"), "{first}");
    assert!(line(site.second.url()).contains("FAILED"), "{text}");
}

/// Eureka notices only after 90 s that an instance has stopped. It never notices that an instance answers only errors.
/// So the gateway checks instances itself.
#[tokio::test(flavor = "multi_thread")]
async fn found_instances_are_checked_at_their_own_address_only() {
    const KEYS: &str = "      services:\n        files: {hosts: [localhost], applid: ZOWEAPPL, schemes: \
                        [httpBasicPassTicket]}\n      others: bypass\n      otherHosts: [localhost]\n    \
                        healthChecks: {intervalSeconds: 1}\n";
    let mut site = Site::start(KEYS, |yaml| yaml).await;
    let mut admin = admin_address(&mut site.demo.program);
    admin.set_ip([127, 0, 0, 1].into());
    let status = Arc::new(AtomicU16::new(503));
    let health = status.clone();
    let failing = Fake::https(pki::SERVER.acceptor(), move |request| match &*request.path {
        "/health" => Answer::empty(health.load(Ordering::Relaxed)),
        _ => Answer::text(200, "ok"),
    })
    .await;
    let (good, bad, rogue) =
        (site.service.address.port(), failing.address.port(), site.rogue.address.port());
    let health_url = |port: u16| format!("https://localhost:{port}/health");
    let failing_instance = Site::files("localhost", bad).with_health_url(health_url(bad));
    site.register(&failing_instance);
    // The health URL of this instance leads to another server.
    site.register(&Site::files("localhost", good).with_health_url(health_url(rogue)));
    for port in [rogue, bad] {
        let other = Registration::https("other", "localhost", port).with_route("api", "/");
        site.register(&other.with_health_url(format!("https://localhost:{port}/other")));
    }
    let is_failed = async || {
        let list = site.get("/gateway/api/v1/services/files").await;
        let list: Value = list.json().await.unwrap_or_default();
        list["instances"][failing_instance.id()]["status"] == "DOWN"
    };
    let until_failed = async |want: bool| {
        let deadline = Instant::now() + PATIENCE;
        while is_failed().await != want {
            assert!(Instant::now() < deadline, "failed: {}", !want);
            sleep(Duration::from_millis(50)).await;
        }
    };
    until_failed(true).await;
    failing.take_requests();
    for _ in 0..20 {
        assert_eq!(site.get(FILES).await.status(), 200);
    }
    let paths = |fake: &Fake| -> Vec<String> {
        fake.requests().iter().map(|request| request.path.clone()).collect()
    };
    assert!(paths(&failing).iter().all(|path| path == "/health"), "{:?}", paths(&failing));
    // A health check contains no credential.
    until_failed(true).await;
    let is_bare = failing.requests().iter().all(|it| it.header("authorization").is_none());
    assert!(is_bare);

    // A reload keeps the results of the checks.
    let path = site.demo.directory.join("zowe.yaml");
    let yaml = fs::read_to_string(&path).unwrap();
    fs::write(&path, yaml.replace("healthChecks: {", "healthChecks: {timeoutSeconds: 3, "))
        .unwrap();
    let plain = reqwest::Client::builder().no_proxy().build().unwrap();
    let reload = plain.post(format!("http://{admin}/reload")).send().await.unwrap();
    assert_eq!(reload.status(), 200);
    assert!(is_failed().await);

    status.store(200, Ordering::Relaxed);
    until_failed(false).await;
    assert_eq!(paths(&site.rogue), [""; 0]);
    let known = ["/health", "/base/x"];
    assert!(paths(&failing).iter().all(|path| known.contains(&&**path)), "{:?}", paths(&failing));
}
