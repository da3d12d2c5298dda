//! Tests of client certificates that a proxy forwards in the header `Client-Cert`. Such a proxy is called a forwarder.
//! Its own client certificate is that of `APIMTST`.

use std::{fs, path::Path, time::Instant};

use base64::{Engine, prelude::BASE64_STANDARD};
use reqwest::{Client, Method};
use serde_json::Value;
use test_support::{
    PATIENCE,
    fake::{Answer, Behaviour, Fake},
    pki::{self, Authority, SERVER},
    raw::Step,
};

use crate::support::{Demo, user_service, with_site};

const FORWARDER: &str = "APIMTST";

async fn start(edit: impl FnOnce(String) -> String + Send + 'static) -> Demo {
    start_with(edit, |_| ()).await
}

/// Starts a gateway. `edit` changes its zowe.yaml, and `write` may write more files into its directory.
async fn start_with(
    edit: impl FnOnce(String) -> String + Send + 'static,
    write: impl FnOnce(&Path) + Send + 'static,
) -> Demo {
    let service = user_service().await;
    Demo::beside_servers(move |directory, yaml| {
        write(directory);
        edit(with_site(directory, &yaml, &service)) + "    onFailure: reject\n"
    })
    .await
}

/// Returns the certificate of a user of the demo, in the form in which Zowe writes it into the header.
fn certificate(demo: &Demo, user: &str) -> String {
    base64_of(&fs::read_to_string(demo.directory.join(format!("certs/{user}.pem"))).unwrap())
}

fn base64_of(pem: &str) -> String {
    let text: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    assert!(BASE64_STANDARD.decode(&text).is_ok());
    text
}

/// Sends a request to the service. Returns the status, and the user if the gateway has forwarded the request.
async fn get(demo: &Demo, client: &Client, headers: &[(&str, &str)]) -> (u16, String) {
    let mut request = client.request(Method::GET, demo.at("/svc/api/v1/x"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, if status == 200 { text } else { String::new() })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_forwarder_acts_for_its_clients_and_not_for_itself() {
    let demo =
        start(|yaml| yaml + &format!("    forwarders: {{certificates: certs/{FORWARDER}.pem}}\n"))
            .await;
    let (forwarder, user) = (demo.client_of(FORWARDER), demo.client_of("USER"));
    let anonymous = demo.client();
    let (of_user, of_forwarder) = (certificate(&demo, "USER"), certificate(&demo, FORWARDER));
    let stranger = base64_of(pki::USER.certificate);
    let rfc = format!(":{of_user}:");
    let found = |user: &str| (200, user.to_owned());
    let status = |status| (status, String::new());
    // The authority in `site.pem` has issued the certificate `stranger`. The gateway trusts this authority, too.
    let of_site = found("USER");
    for (case, client, headers, want) in [
        ("Zowe's spelling", &forwarder, vec![("Client-Cert", &*of_user)], found("USER")),
        ("RFC 9440", &forwarder, vec![("Client-Cert", &*rfc)], found("USER")),
        ("another authority", &forwarder, vec![("Client-Cert", &*stranger)], of_site),
        ("no certificate", &forwarder, vec![], status(401)),
        ("malformed", &forwarder, vec![("Client-Cert", "MIIB!")], status(400)),
        ("no certificate in it", &forwarder, vec![("Client-Cert", "AQIDBA==")], status(400)),
        (
            "two certificates",
            &forwarder,
            vec![("Client-Cert", &*of_user), ("Client-Cert", &*of_user)],
            status(400),
        ),
        ("not a forwarder", &user, vec![], found("USER")),
        (
            "a forwarder that is not listed",
            &user,
            vec![("Client-Cert", &*of_forwarder)],
            status(401),
        ),
        (
            "a forwarder that is not listed, malformed",
            &user,
            vec![("Client-Cert", "x")],
            status(401),
        ),
        // The same request as in "not a forwarder". But in the cases between, this peer has sent `Client-Cert`. So it
        // may be a forwarder, and its certificate is no longer a credential.
        ("a forwarder that is not listed, no header", &user, vec![], status(401)),
        ("no TLS certificate", &anonymous, vec![("Client-Cert", &*of_user)], status(401)),
    ] {
        assert_eq!(get(&demo, client, &headers).await, want, "{case}");
    }
    // The auth API uses the certificate of the client, too.
    let login = forwarder.post(demo.auth("login")).header("Client-Cert", &of_user);
    let login = login.send().await.unwrap();
    assert_eq!(login.status(), 204);
    let cookie = login.headers()["set-cookie"].to_str().unwrap().to_owned();
    let query = anonymous.get(demo.auth("query")).header("cookie", cookie).send().await.unwrap();
    let content: Value = query.json().await.unwrap();
    assert_eq!(content["userId"], "USER");
    let alone = forwarder.post(demo.auth("login")).send().await.unwrap();
    assert_eq!(alone.status(), 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_an_unknown_authority_is_refused() {
    let demo = start(|yaml| {
        let yaml = yaml.replace("[certs/ca.pem, certs/site.pem]", "certs/ca.pem");
        yaml + &format!("    forwarders: {{certificates: certs/{FORWARDER}.pem}}\n")
    })
    .await;
    let stranger = base64_of(pki::USER.certificate);
    let got = get(&demo, &demo.client_of(FORWARDER), &[("Client-Cert", &stranger)]).await;
    assert_eq!(got, (400, String::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_certificate_is_refused() {
    let authority = Authority::trusted();
    let key = pki::USER.key_pair();
    let [good, revoked] = [7_u64, 8].map(|serial| {
        base64_of(&authority.certify(&key, |params| params.serial_number = Some(serial.into())))
    });
    let list = authority.revoke(&[8], |_| {});
    let demo = start_with(
        |yaml| {
            // With `crls`, the issuer of the forwarder's certificate also needs a current revocation list. So the
            // forwarder has a certificate of the test's authority, the only authority with a list.
            yaml.replace("[certs/ca.pem, certs/site.pem]", "certs/site.pem")
                + "    crls: [certs/clients.crl]\n    forwarders: {certificates: certs/proxy.pem}\n"
        },
        move |directory| {
            fs::write(directory.join("certs/clients.crl"), list).unwrap();
            fs::write(directory.join("certs/proxy.pem"), pki::APIMTST.certificate).unwrap();
        },
    )
    .await;
    let pem = format!("{}{}", pki::APIMTST.certificate, pki::APIMTST.key);
    let identity = reqwest::Identity::from_pem(pem.as_bytes()).unwrap();
    let forwarder = demo.builder().identity(identity).build().unwrap();
    let got = get(&demo, &forwarder, &[("Client-Cert", &good)]).await;
    assert_eq!(got, (200, "USER".to_owned()));
    let got = get(&demo, &forwarder, &[("Client-Cert", &revoked)]).await;
    assert_eq!(got, (400, String::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_forwarders_no_certificate_in_a_header_is_accepted() {
    let demo = start(|yaml| yaml).await;
    let of_user = certificate(&demo, "USER");
    let got = get(&demo, &demo.client_of(FORWARDER), &[("Client-Cert", &of_user)]).await;
    assert_eq!(got, (200, FORWARDER.to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_fails_does_not_change_the_trusted_forwarders() {
    let listed = format!("    forwarders: {{certificates: certs/{FORWARDER}.pem}}\n");
    let mut demo = start({
        let listed = listed.clone();
        move |yaml| yaml + &listed
    })
    .await;
    let (forwarder, user) = (demo.client_of(FORWARDER), demo.client_of("USER"));
    let [of_user, of_forwarder] = ["USER", FORWARDER].map(|name| certificate(&demo, name));
    let yaml = demo.directory.join("zowe.yaml");
    let before = fs::read_to_string(&yaml).unwrap();
    // The gateway opens the access log after it has read all other settings.
    let broken = "    accessLog: {file: missing/access.log}\n";
    fs::write(
        &yaml,
        before.replace(&listed, "    forwarders: {certificates: certs/USER.pem}\n") + broken,
    )
    .unwrap();
    demo.program.signal("-HUP");
    demo.program.logged("missing/access.log");
    let got = get(&demo, &forwarder, &[("Client-Cert", &of_user)]).await;
    assert_eq!(got, (200, "USER".to_owned()));
    assert_eq!(get(&demo, &user, &[]).await, (200, "USER".to_owned()));
    let got = get(&demo, &user, &[("Client-Cert", &of_forwarder)]).await;
    assert_ne!(got, (200, FORWARDER.to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_fetches_the_list_of_forwarders_from_zowe() {
    let list = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    let answer = list.clone();
    let fake =
        Fake::https(SERVER.acceptor(), move |_| Answer::text(200, &answer.lock().unwrap())).await;
    // The first answer of Zowe contains no list.
    fake.behave(Behaviour::Scripted(vec![Step::send(
        "HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n",
    )]));
    let port = fake.address.port();
    let mut demo = start(move |yaml| {
        let x509 = "        x509:\n          enabled: true\n";
        assert!(yaml.contains(x509));
        yaml.replace(
            x509,
            &format!(
                "{x509}          acceptForwardedCert: true\n          certificatesUrls: \
                 https://localhost:{port}/gateway/certificates\n"
            ),
        )
    })
    .await;
    demo.program.logged("the certificates of trusted forwarders could not be fetched");
    let of_user = certificate(&demo, "USER");
    let forwarder = demo.client_of(FORWARDER);
    let headers = [("Client-Cert", &*of_user)];
    // Without the list, each client may be a forwarder. So the gateway accepts no certificate.
    assert_eq!(get(&demo, &forwarder, &headers).await, (401, String::new()));
    assert_eq!(get(&demo, &forwarder, &[]).await, (401, String::new()));
    assert_eq!(get(&demo, &demo.client_of("USER"), &[]).await, (401, String::new()));

    let pem = fs::read_to_string(demo.directory.join(format!("certs/{FORWARDER}.pem"))).unwrap();
    *list.lock().unwrap() = pem + Authority::trusted().pem();
    fake.behave(Behaviour::Right);
    // The gateway fetches the list again after 5 s. To save this time, the test restarts the gateway.
    let demo = tokio::task::spawn_blocking(move || demo.restarted()).await.unwrap();
    let forwarder = demo.client_of(FORWARDER);
    let deadline = Instant::now() + PATIENCE;
    while get(&demo, &forwarder, &headers).await != (200, "USER".to_owned()) {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    // With the list, the gateway accepts the certificates of clients. The certificate of the forwarder identifies no
    // user.
    assert_eq!(get(&demo, &demo.client_of("USER"), &[]).await, (200, "USER".to_owned()));
    assert_eq!(get(&demo, &forwarder, &[]).await, (401, String::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_of_the_list_of_forwarders_needs_a_certificate_of_a_service_authority() {
    let fake = Fake::https(SERVER.acceptor(), |_| Answer::text(200, pki::USER.certificate)).await;
    let port = fake.address.port();
    let mut demo = start(move |yaml| {
        let x509 = "        x509:\n          enabled: true\n";
        let services = "serviceAuthorities: [certs/ca.pem, certs/site.pem]";
        assert!(yaml.contains(x509) && yaml.contains(services));
        let list = format!(
            "{x509}          acceptForwardedCert: true\n          certificatesUrls: \
             https://localhost:{port}/gateway/certificates\n"
        );
        yaml.replace(x509, &list).replace(services, "serviceAuthorities: certs/ca.pem")
    })
    .await;
    demo.program.logged("the certificates of trusted forwarders could not be fetched");
    assert!(fake.requests().is_empty());
}
