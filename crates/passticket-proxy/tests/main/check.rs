//! Tests of the commands `check` and `check --live`. `check` may run while the gateway runs. `check --live` also calls
//! the servers in the configuration.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
    time::{Duration, SystemTime},
};

use serde_json::json;
use test_support::{
    apiml::FakeApiml,
    eureka::{FakeEureka, Registration},
    fake::{Answer, Behaviour, Fake},
    pki::{self, Authority, Clients, SERVER},
    raw::Step,
    zosmf::FakeZosmf,
    zss::FakeZss,
};
use tower_passticket::token::SigningKey;

use crate::support::{Demo, PROGRAM, with_any_port};

fn check(directory: &Path, more: &[&str]) -> (Option<i32>, String, String) {
    let config = directory.join("zowe.yaml");
    let args = [&["check", "--config", config.to_str().unwrap()], more].concat();
    let Output { status, stdout, stderr } = Command::new(PROGRAM).args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

fn state(path: &Path) -> (Vec<u8>, SystemTime) {
    (fs::read(path).unwrap(), fs::metadata(path).unwrap().modified().unwrap())
}

#[tokio::test]
async fn check_does_not_disturb_a_running_gateway() {
    let demo = Demo::reconfigured(|yaml| yaml);
    let token = demo.login().await;
    let query = async || {
        let request = demo.client().get(demo.auth("query")).bearer_auth(&token);
        request.send().await.unwrap().status()
    };
    assert_eq!(query().await, 200);
    for _ in 0..3 {
        let (code, out, err) = check(&demo.directory, &[]);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
        let used =
            "revocations.redb: in use, so it was not verified; a running gateway has verified it";
        assert!(out.contains(used) && out.contains("good, 2 routes"), "{out}");
    }
    // The gateway still writes its revocation file and its audit log.
    let logout = demo.client().post(demo.auth("logout")).bearer_auth(&token).send().await.unwrap();
    assert_eq!(logout.status(), 204);
    assert_eq!(query().await, 401);

    let Demo { mut program, directory, _temporary, .. } = demo;
    program.signal("-TERM");
    program.wait();
    let audit = fs::read_to_string(directory.join("audit.jsonl")).unwrap();
    assert!(audit.lines().any(|line| line.contains("logout")), "{audit}");
    // While no gateway runs, `check` verifies the files, but does not change them.
    let before = ["revocations.redb", "audit.jsonl"].map(|name| state(&directory.join(name)));
    let (code, out, err) = check(&directory, &[]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert!(!out.contains("in use"), "{out}");
    let after = ["revocations.redb", "audit.jsonl"].map(|name| state(&directory.join(name)));
    assert!(before == after);
}

/// A killed gateway leaves a file that the next start of the gateway repairs.
#[test]
fn check_verifies_the_file_of_a_killed_gateway_and_leaves_the_repair_to_the_gateway() {
    let demo = Demo::start();
    let directory = demo.directory.clone();
    let Demo { program, _temporary, .. } = demo;
    // Dropping the program kills it.
    drop(program);
    let before = state(&directory.join("revocations.redb"));
    let (code, out, err) = check(&directory, &[]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert!(before == state(&directory.join("revocations.redb")));
}

#[test]
fn problems_with_the_revocation_file_and_the_audit_log_are_reported() {
    let mut demo = Demo::start();
    demo.program.signal("-TERM");
    demo.program.wait();
    let at = |name: &str| demo.directory.join(name);
    let good = fs::read(at("revocations.redb")).unwrap();

    fs::remove_file(at("revocations.redb")).unwrap();
    let (code, out, err) = check(&demo.directory, &[]);
    assert_eq!(code, Some(0), "{out}{err}");
    let want = "revocations.redb is missing; a new gateway creates it with: passticket-proxy serve --config";
    assert!(err.contains("warning: ") && err.contains(want), "{err}");
    assert!(!at("revocations.redb").exists());

    for content in [&b""[..], b"no database", &good[..good.len() / 2]] {
        fs::write(at("revocations.redb"), content).unwrap();
        fs::set_permissions(at("revocations.redb"), fs::Permissions::from_mode(0o600)).unwrap();
        let (code, _, err) = check(&demo.directory, &[]);
        assert_eq!(code, Some(2), "{err}");
        assert!(err.contains("is damaged or not a revocation file"), "{err}");
        assert_eq!(fs::read(at("revocations.redb")).unwrap(), content);
    }
    fs::write(at("revocations.redb"), &good).unwrap();

    let yaml = fs::read_to_string(at("zowe.yaml")).unwrap();
    for (path, want) in [
        (
            "missing/audit.jsonl",
            "missing/audit.jsonl: the audit log cannot be written: No such file",
        ),
        ("certs", "certs: the audit log cannot be written: it is not a regular file"),
    ] {
        fs::write(at("zowe.yaml"), yaml.replace("file: audit.jsonl", &format!("file: {path}")))
            .unwrap();
        let (code, _, err) = check(&demo.directory, &[]);
        assert_eq!(code, Some(2), "{err}");
        assert!(err.contains(want), "{err}");
    }
}

/// Returns a stopped demo, which trusts the authority of the fake servers. `edit` changes its zowe.yaml.
async fn stopped(edit: impl FnOnce(String) -> String + Send + 'static) -> Demo {
    let stop = move || {
        let mut demo = Demo::start();
        demo.program.signal("-TERM");
        demo.program.wait();
        fs::write(demo.directory.join("certs/other.pem"), Authority::trusted().pem()).unwrap();
        let path = demo.directory.join("zowe.yaml");
        let yaml = with_any_port(&fs::read_to_string(&path).unwrap());
        let yaml = yaml
            .replace("serviceAuthorities: certs/ca.pem", "serviceAuthorities: certs/other.pem")
            .replace("  users: users.yml\n", "  timeouts: {providerSeconds: 30}\n");
        fs::write(path, edit(yaml)).unwrap();
        demo
    };
    tokio::task::spawn_blocking(stop).await.unwrap()
}

async fn live(demo: &Demo) -> (Option<i32>, String, String) {
    let directory = demo.directory.clone();
    tokio::task::spawn_blocking(move || check(&directory, &["--live"])).await.unwrap()
}

async fn provider() -> Fake {
    let key = SigningKey::from_pem(pki::SIGNING_KEY.as_bytes()).unwrap().verifying_key().to_jwk();
    let answer = json!({ "keys": [key] });
    Fake::https(SERVER.acceptor(), move |_| Answer::json(200, &answer)).await
}

#[tokio::test]
async fn live_asks_each_server_once_without_credentials() {
    let zosmf = FakeZosmf::https(SERVER.acceptor()).await;
    let (zss, provider) = (FakeZss::https(SERVER.acceptor()).await, provider().await);
    let service = Fake::https(SERVER.acceptor(), |_| Answer::empty(200)).await;
    let fakes: [&Fake; 4] = [&zosmf, &zss, &provider, &service];
    let [zosmf_port, zss_port, provider_port, service_port] = fakes.map(|fake| fake.address.port());
    let demo = stopped(move |yaml| {
        let oidc = format!(
            "    oidc: [{{issuer: 'https://idp', jwksUri: 'https://localhost:{provider_port}/keys', audience: a, \
             registry: r}}]\n"
        );
        let yaml = yaml.replace(
            "          registry: ",
            &format!("          identityMapperUrl: https://localhost:{zss_port}/dn\n          registry: "),
        );
        let yaml = yaml.replace("    identities: identities.yml\n", &oidc);
        format!("{yaml}zOSMF: {{host: localhost, port: {zosmf_port}, applId: IZUDFLT}}\n")
    })
    .await;
    let definition = format!(
        "services:\n  - serviceId: svc\n    instanceBaseUrls: ['https://localhost:{service_port}/base']\n    routes:\n      \
         - {{gatewayUrl: api/v1, serviceRelativeUrl: /}}\n      - {{gatewayUrl: api/v2, serviceRelativeUrl: /}}\n"
    );
    fs::write(demo.directory.join("api-defs/demo.yml"), definition).unwrap();

    let (code, out, err) = live(&demo).await;
    assert_eq!(code, Some(0), "{out}{err}");
    for want in [
        format!(
            "service svc https://localhost:{service_port}: accepts TLS connections; its certificate is valid\n"
        ),
        format!("z/OSMF https://localhost:{zosmf_port}/: is z/OSMF 28 on z/OS 04.28.00\n"),
        format!("identity mapper https://localhost:{zss_port}/dn: answers with HTTP "),
        format!("identity provider https://localhost:{provider_port}/keys: lists 1 keys\n"),
        "all 4 servers answered\n".to_owned(),
    ] {
        assert!(out.contains(&want), "{want}\n{out}");
    }
    assert_eq!(service.requests().len(), 0);
    for fake in &fakes[..3] {
        let requests = fake.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        for name in ["authorization", "cookie"] {
            assert_eq!(requests[0].header(name), None);
        }
        assert_eq!((requests[0].method.as_str(), requests[0].body.len()), ("GET", 0));
    }
}

/// The configuration names servers that schemes call, servers that issue tokens, the list of trusted forwarders, and a
/// service that requires a client certificate.
#[tokio::test]
async fn live_asks_the_servers_of_schemes_and_tokens_and_names_each_one_that_fails() {
    let acceptor = || SERVER.acceptor();
    let apiml = FakeApiml::https(acceptor()).await;
    let (zosmf, zss) = (FakeZosmf::https(acceptor()).await, FakeZss::https(acceptor()).await);
    let list = Fake::https(acceptor(), |_| Answer::text(200, pki::APIMTST.certificate)).await;
    let asking = SERVER.acceptor_of_clients(Clients::MustHaveCertificate);
    let service = Fake::https(asking, |_| Answer::empty(503)).await;
    let fakes: [&Fake; 5] = [&apiml, &zosmf, &zss, &list, &service];
    let [apiml_port, zosmf_port, zss_port, list_port, service_port] =
        fakes.map(|fake| fake.address.port());
    let demo = stopped(move |yaml| {
        let timeouts = "    timeouts: {providerSeconds: 30}\n";
        let x509 = "        x509:\n          enabled: true\n";
        assert!(yaml.contains(timeouts) && yaml.contains(x509), "{yaml}");
        let identity = "{certificate: certs/USER.pem, key: certs/USER.key}";
        let ours = format!(
            "{timeouts}    users: users.yml\n    zss: {{url: 'https://localhost:{zss_port}'}}\n    zowe: {{url: \
             'https://localhost:{apiml_port}', clientCertificate: {identity}}}\n    services: {{svc: \
             {{clientCertificate: {identity}}}}}\n"
        );
        let forwarded = format!(
            "{x509}          acceptForwardedCert: true\n          certificatesUrls: https://localhost:{list_port}/list\n"
        );
        let yaml = yaml
            .replace("certs/ca.pem", "certs/other.pem")
            .replace(timeouts, &ours)
            .replace(x509, &forwarded);
        format!("{yaml}zOSMF: {{host: localhost, port: {zosmf_port}}}\n")
    })
    .await;
    let write = |name: &str, text: &str| fs::write(demo.directory.join(name), text).unwrap();
    write("certs/USER.pem", pki::USER.certificate);
    // This overwrites an existing file and keeps its mode: only its owner can read it.
    write("certs/USER.key", pki::USER.key);
    let entry = |id: &str, port: u16, scheme: &str| {
        format!(
            "  - serviceId: {id}\n    instanceBaseUrls: ['https://localhost:{port}']\n    routes: [{{gatewayUrl: \
             api/v1}}]\n    authentication: {scheme}\n"
        )
    };
    let services = [
        entry("svc", service_port, "{scheme: zosmf}"),
        // The configuration has no client certificate for this service, and the service asks for none.
        entry("saf", zosmf_port, "{scheme: safIdt, applid: ZOWEAPPL}"),
    ];
    write("api-defs/demo.yml", &format!("services:\n{}", services.concat()));

    let (code, out, err) = live(&demo).await;
    assert_eq!(code, Some(0), "{out}{err}");
    let lines = [
        format!("API ML https://localhost:{apiml_port}/: lists 1 keys\n"),
        format!("z/OSMF https://localhost:{zosmf_port}/: is z/OSMF "),
        format!(
            "SAF identity tokens https://localhost:{zss_port}/saf/authenticate: answers with HTTP "
        ),
        format!("forwarders https://localhost:{list_port}/list: lists 1 certificates\n"),
        format!(
            "service svc https://localhost:{service_port}: accepts TLS connections; its certificate is valid; it \
             answers with HTTP 503 Service Unavailable to a request with the client certificate of the gateway\n"
        ),
    ];
    for want in &lines {
        assert!(out.contains(want), "{want}\n{out}");
    }
    let certificate = pki::USER.certificate_der().to_vec();
    let [request] = &*service.requests() else { panic!("{out}") };
    assert!(request.certificate == Some(certificate));
    assert_eq!(request.header("authorization"), None);
    let asked = out.lines().find(|line| line.contains("PassTickets of API ML")).unwrap();
    assert!(asked.contains(" answers with HTTP "), "{asked}");
    assert!(out.ends_with("all 7 servers answered\n"), "{out}");

    for (fake, line) in fakes.iter().zip(&lines) {
        fake.behave(Behaviour::Scripted(Vec::new()));
        let (code, out, err) = live(&demo).await;
        fake.behave(Behaviour::Right);
        assert_eq!(code, Some(1), "{out}{err}");
        // `name` is the role and the address of the server.
        let (name, _) = line.split_once(": ").unwrap();
        assert!(out.contains(&format!("{name}: FAILED: ")), "{name}\n{out}");
    }
}

#[tokio::test]
async fn live_reports_servers_that_are_slow_wrong_absent_or_not_trusted() {
    let html = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>";
    // The cases with slow servers have a short deadline, which the test waits for. The other cases have a long
    // deadline, because they must get their answer even on a slow machine.
    let late = "FAILED: not available: no response within 1s";
    for (behaviour, seconds, want) in [
        (Behaviour::Scripted(vec![Step::Stall]), 1, late),
        (Behaviour::Slow(Duration::from_secs(3600)), 1, late),
        (
            Behaviour::Scripted(vec![Step::send(html)]),
            30,
            "FAILED: answers with HTTP 200 OK, but not as z/OSMF does",
        ),
        (Behaviour::Scripted(Vec::new()), 30, "FAILED: not available: "),
    ] {
        let zosmf = FakeZosmf::https(SERVER.acceptor()).await;
        zosmf.behave(behaviour);
        let port = zosmf.address.port();
        let demo = stopped(move |yaml| {
            let seconds = format!("providerSeconds: {seconds}");
            let yaml = yaml.replace("providerSeconds: 30", &seconds);
            format!("{yaml}zOSMF: {{host: localhost, port: {port}}}\n")
        })
        .await;
        let (code, out, err) = live(&demo).await;
        assert_eq!(code, Some(1), "{out}{err}");
        let line = out.lines().find(|line| line.starts_with("z/OSMF ")).unwrap();
        assert!(line.contains(want), "{out}");
        assert!(
            out.contains("service dcpassticket https://localhost:") && out.contains("refused"),
            "{out}"
        );
        assert!(out.ends_with(" servers failed\n"), "{out}");
    }
    let zosmf = FakeZosmf::https(SERVER.acceptor()).await;
    let port = zosmf.address.port();
    let demo = stopped(move |yaml| {
        let yaml = yaml.replace("certs/other.pem", "certs/ca.pem");
        format!("{yaml}zOSMF: {{host: localhost, port: {port}}}\n")
    })
    .await;
    let (code, out, _) = live(&demo).await;
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("UnknownIssuer"), "{out}");
    assert_eq!(zosmf.requests().len(), 0);
}

/// The test registers instances in the discovery service one by one: first a ZAAS on another host, then this program as
/// ZAAS, then a gateway of API ML.
#[tokio::test]
async fn live_tells_whether_the_program_is_registered_as_zaas_and_trusts_the_gateways() {
    let eureka = FakeEureka::https(SERVER.acceptor()).await;
    let chain = format!("{}{}", SERVER.certificate, Authority::trusted().pem());
    let gateway = Fake::https(SERVER.acceptor(), move |_| Answer::text(200, &chain)).await;
    let (url, port) = (eureka.url(), gateway.address.port());
    let demo = stopped(move |yaml| {
        let zaas = "    zaas: {enabled: true, gateways: [{subject: CN=localhost}]}\n";
        let ours = format!("    discovery: {{eureka: ['{url}']}}\n{zaas}");
        yaml.replace(
            "certificateAuthorities: certs/ca.pem",
            "certificateAuthorities: certs/other.pem",
        ) + &ours
    })
    .await;
    fs::write(demo.directory.join("api-defs/demo.yml"), "services: []\n").unwrap();
    let line = async || {
        let (code, out, err) = live(&demo).await;
        let line = out.lines().find(|line| line.starts_with("registration as ZAAS "));
        (code, line.unwrap_or_else(|| panic!("{out}{err}")).to_owned())
    };
    let is_missing =
        "FAILED: lists no instance of zaas with port 7558 and a host of the certificate";
    let (code, found) = line().await;
    assert!(code == Some(1) && found.contains(is_missing), "{found}");
    // Zowe's own ZAAS has another host.
    eureka.register(Registration::https("zaas", "zos.example.com", 7558));
    let (code, found) = line().await;
    assert!(code == Some(1) && found.contains(is_missing), "{found}");
    let other = "WARNING: it also lists other instances of zaas: https://zos.example.com:7558";
    assert!(found.ends_with(other), "{found}");

    eureka.register(Registration::https("zaas", "localhost", 7558));
    let (code, found) = line().await;
    let want = format!("lists this program as zaas: https://localhost:7558; {other}");
    assert!(code == Some(0) && found.ends_with(&want), "{found}");
    eureka.register(Registration::https("gateway", "localhost", port));
    let (code, found) = line().await;
    let trusted = format!(
        "; https://localhost:{port} has the certificate CN=localhost, which zaas.gateways names"
    );
    assert!(code == Some(0) && found.ends_with(&trusted), "{found}");
    assert_eq!(gateway.requests().last().unwrap().path, "/gateway/certificates");

    let config = demo.directory.join("zowe.yaml");
    let yaml = fs::read_to_string(&config).unwrap();
    for (from, to, want) in [
        (
            "CN=localhost",
            "CN=other",
            "which components.passticket-proxy.zaas.gateways does not name, so it cannot speak for clients with a \
             certificate; add - sha256: ",
        ),
        (
            "certificateAuthorities: certs/other.pem",
            "certificateAuthorities: certs/ca.pem",
            "has the certificate CN=localhost, which no authority of clients has issued or which is not valid",
        ),
    ] {
        assert!(yaml.contains(from));
        fs::write(&config, yaml.replace(from, to)).unwrap();
        let (code, found) = line().await;
        assert!(code == Some(1) && found.contains(want), "{found}");
    }

    let zowe = format!("    zowe: {{url: 'https://localhost:{port}'}}\n");
    let discovery = yaml.lines().find(|line| line.starts_with("    discovery:")).unwrap();
    for (ours, want) in [
        (zowe.as_str(), "has the certificate CN=localhost, which zaas.gateways names"),
        (
            "",
            "zaas: not asked, because the addresses of the discovery service and of API ML's gateway",
        ),
    ] {
        fs::write(&config, yaml.replace(&format!("{discovery}\n"), ours)).unwrap();
        let (_, out, err) = live(&demo).await;
        assert!(out.contains(want), "{out}{err}");
    }
}
