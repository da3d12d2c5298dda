//! Tests of certificates and keys in PKCS12 files and encrypted PEM files, of the authorities of services, and of
//! certificate revocation lists.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use rcgen::date_time_ymd;
use reqwest::{Client, Identity};
use test_support::{
    client,
    key_stores::{self, PASSWORD},
    pki::{self, Authority, USER},
    raw,
};
use tokio::io::{AsyncWriteExt, BufReader};

use crate::support::{Demo, PROGRAM, with_any_port};

fn write(directory: &Path, name: &str, content: impl AsRef<[u8]>) {
    let path = directory.join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// A stopped demo with the files of the tests in its directory.
struct Stopped {
    demo: Demo,
    yaml: String,
}

impl Stopped {
    fn new() -> Self {
        let mut demo = Demo::start();
        demo.program.signal("-TERM");
        demo.program.wait();
        for (name, content) in [
            ("keytool.p12", key_stores::KEYTOOL),
            ("openssl.p12", key_stores::OPENSSL),
            ("trust.p12", key_stores::KEYTOOL_TRUST),
            ("open-trust.p12", key_stores::KEYTOOL_OPEN_TRUST),
            ("aes256.key", key_stores::AES256),
            ("traditional.key", key_stores::TRADITIONAL),
            ("signing.key", key_stores::SIGNING),
            ("store.jceks", b"\xce\xce\xce\xce\0\0\0\x02"),
            ("password", format!("{PASSWORD}\n").as_bytes()),
            ("wrong", b"hidden"),
            ("server.pem", pki::SERVER.certificate.as_bytes()),
            ("test-ca.pem", Authority::trusted().pem().as_bytes()),
        ] {
            write(&demo.directory, name, content);
        }
        let yaml = with_any_port(&fs::read_to_string(demo.directory.join("zowe.yaml")).unwrap());
        Self { demo, yaml }
    }

    fn path(&self) -> PathBuf {
        self.demo.directory.join("zowe.yaml")
    }

    fn edit(&self, edit: impl FnOnce(&str) -> String) {
        fs::write(self.path(), edit(&self.yaml)).unwrap();
    }

    fn check(&self) -> Output {
        let args = ["check", "--config", self.path().to_str().unwrap()].map(str::to_owned);
        Command::new(PROGRAM).args(args).env("KEYSTORE_PASSWORD", PASSWORD).output().unwrap()
    }

    fn errors(&self) -> String {
        let output = self.check();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(!errors.contains(PASSWORD) && !errors.contains("hidden"), "{errors}");
        assert_eq!(output.status.code(), Some(2), "{errors}");
        errors
    }

    fn warnings(&self) -> String {
        let output = self.check();
        let warnings = String::from_utf8(output.stderr).unwrap();
        assert!(!warnings.contains(PASSWORD), "{warnings}");
        assert_eq!(output.status.code(), Some(0), "{warnings}");
        warnings
    }
}

/// Starts the gateway with these files, and with a zowe.yaml that `edit` has changed.
async fn served(
    edit: impl FnOnce(&str) -> String + Send + 'static,
    files: Vec<(&'static str, Vec<u8>)>,
) -> Demo {
    // Starting the program blocks the thread.
    let start = move || {
        let stopped = Stopped::new();
        stopped.edit(edit);
        for (name, content) in files {
            write(&stopped.demo.directory, name, content);
        }
        stopped.demo.restarted()
    };
    tokio::task::spawn_blocking(start).await.unwrap()
}

/// Returns a changed `yaml`. `keys` contains settings of `zowe.certificate`, which replace the PEM files of the demo.
/// `section` contains lines that are added to the section of the gateway.
fn certificate(yaml: &str, keys: &str, section: &str) -> String {
    let start = yaml.find("    pem:\n").unwrap();
    let end = yaml.find("  verifyCertificates").unwrap();
    let yaml = format!("{}{keys}{}", &yaml[..start], &yaml[end..]);
    yaml.replacen("    host: 127.0.0.1\n", &format!("    host: 127.0.0.1\n{section}"), 1)
}

const STORES: &str = "    keystore: {type: PKCS12, file: keytool.p12, alias: localhost}
    truststore: {type: PKCS12, file: trust.p12}
";
const PASSWORDS: &str =
    "    passwords: {keystore: {file: password}, truststore: {file: password}}\n";

/// Returns a client that trusts the authority of the tests, and presents `certificate` with the key of `USER`.
fn user(certificate: &str) -> Client {
    let pem = format!("{certificate}{}", USER.key);
    let identity = Identity::from_pem(pem.as_bytes()).unwrap();
    client(Authority::trusted().pem().as_bytes()).identity(identity).build().unwrap()
}

#[tokio::test]
async fn the_gateway_serves_with_a_key_store_and_trusts_clients_of_a_trust_store() {
    let of_zowe = format!(
        "    keystore: {{file: openssl.p12, password: {PASSWORD}}}\n    truststore: {{file: open-trust.p12}}\n"
    );
    for (keys, section) in [(STORES.to_owned(), PASSWORDS), (of_zowe, "")] {
        let demo = served(move |yaml| certificate(yaml, &keys, section), Vec::new()).await;
        let login = user(USER.certificate).post(demo.auth("login")).send().await.unwrap();
        assert_eq!(login.status(), 204);
    }
}

#[test]
fn problems_of_key_stores_name_the_remedy() {
    let trust = "    truststore: {file: trust.p12}\n";
    let keystore = |keys: &str| format!("    keystore: {{{keys}}}\n{trust}");
    let stopped = Stopped::new();
    stopped.edit(|yaml| {
        let section =
            "    passwords: {keystore: {env: KEYSTORE_PASSWORD}, truststore: {file: password}}\n";
        certificate(yaml, STORES, section)
    });
    assert_eq!(stopped.check().status.code(), Some(0));
    for (keys, section, want) in [
        (
            STORES.to_owned(),
            "    passwords: {keystore: {file: wrong}, truststore: {file: password}}\n",
            "keytool.p12 cannot be opened with the configured password; write the password of this store to a file or \
             an environment variable, and set components.passticket-proxy.passwords.keystore to",
        ),
        (
            STORES.to_owned(),
            "    passwords: {keystore: {file: password}}\n",
            "trust.p12 needs a password; set components.passticket-proxy.passwords.truststore to {file: PATH} or \
             {env: NAME}",
        ),
        (
            STORES.to_owned(),
            "    passwords: {keystore: {env: NO_SUCH_VARIABLE}}\n",
            "passwords.keystore.env: names an environment variable that is not set",
        ),
        (
            keystore("file: keytool.p12"),
            PASSWORDS,
            "keytool.p12 has several private keys: \"localhost\", \"user\"; set alias to one of these names",
        ),
        (
            keystore("file: keytool.p12, alias: gateway"),
            PASSWORDS,
            "has no private key with the alias \"gateway\"; set alias to one of these: \"localhost\", \"user\"",
        ),
        (keystore("file: trust.p12"), PASSWORDS, "trust.p12 has no private key"),
        (
            keystore("file: keytool.p12, alias: user").replace("trust.p12", "openssl.p12"),
            PASSWORDS,
            "openssl.p12 has no trusted certificate",
        ),
        (
            keystore("file: store.jceks"),
            PASSWORDS,
            "is a Java key store of type JCEKS; make it a PKCS12 file with: keytool -importkeystore -srckeystore",
        ),
        (
            keystore("type: JCEKS, file: keytool.p12"),
            PASSWORDS,
            "JCEKS is a type that only Java reads; make a PKCS12 file with: keytool -importkeystore -srckeystore \
             keytool.p12 -srcstoretype JCEKS",
        ),
        (
            keystore("type: JCERACFKS, file: 'safkeyring://ZWESVUSR/Ring', alias: localhost"),
            PASSWORDS,
            "RACDCERT ID(ZWESVUSR) EXPORT(LABEL('localhost')) DSN('ZWESVUSR.GATEWAY.P12') FORMAT(PKCS12DER)",
        ),
        (
            keystore("file: keytool.p12, alias: user")
                .replace("trust.p12", "'safkeyring://ZWESVUSR/Ring'"),
            PASSWORDS,
            "RACDCERT ID(ZWESVUSR) LISTRING(Ring)",
        ),
        (keystore("file: server.pem"), PASSWORDS, "server.pem is a PEM file, not PKCS12"),
    ] {
        stopped.edit(|yaml| certificate(yaml, &keys, section));
        let errors = stopped.errors();
        assert!(errors.contains(want), "{want}\n{errors}");
    }
}

#[test]
fn a_password_in_a_zowe_yaml_that_others_can_read_causes_a_warning() {
    let keys = format!(
        "    keystore: {{file: openssl.p12, password: {PASSWORD}}}\n    truststore: {{file: open-trust.p12}}\n"
    );
    let stopped = Stopped::new();
    stopped.edit(|yaml| certificate(yaml, &keys, ""));
    for (mode, is_warned) in [(0o644, true), (0o600, false)] {
        fs::set_permissions(stopped.path(), fs::Permissions::from_mode(mode)).unwrap();
        let warnings = stopped.warnings();
        let want = "zowe.certificate.keystore.password: is a password in clear text";
        assert_eq!(warnings.contains(want), is_warned, "{warnings}");
    }
}

#[test]
fn encrypted_keys_need_their_password() {
    let stopped = Stopped::new();
    let pem = |key: &str, section: &str| {
        let keys = format!(
            "    pem: {{certificate: server.pem, key: {key}, certificateAuthorities: test-ca.pem}}\n"
        );
        stopped.edit(|yaml| certificate(yaml, &keys, section));
    };
    pem("aes256.key", "    passwords: {key: {file: password}}\n");
    assert_eq!(stopped.warnings(), "");
    for (key, section, want) in [
        (
            "aes256.key",
            "",
            "is an encrypted private key, and the gateway has no password for it; add the password to \
             components.passticket-proxy.passwords",
        ),
        (
            "aes256.key",
            "    passwords: {key: {file: wrong}}\n",
            "aes256.key cannot be decrypted with the configured password",
        ),
        (
            "traditional.key",
            "    passwords: {key: {file: password}}\n",
            "is an encrypted private key in the old format of OpenSSL",
        ),
    ] {
        pem(key, section);
        let errors = stopped.errors();
        assert!(errors.contains(want), "{want}\n{errors}");
    }

    let signing = |lines: &str| {
        stopped.edit(|yaml| yaml.replacen("    signingKey: keys/jwt.pem\n", lines, 1));
    };
    for lines in [
        "    signingKey: signing.key\n    passwords: {signingKey: {file: password}}\n",
        "    signingKeys: [{file: signing.key, signs: true, password: {file: password}}]\n",
    ] {
        signing(lines);
        assert_eq!(stopped.warnings(), "", "{lines}");
    }
    signing("    signingKey: signing.key\n");
    assert!(stopped.errors().contains("signing.key is an encrypted private key"));
}

#[test]
fn the_same_list_of_authorities_for_clients_and_services_causes_a_warning() {
    let stopped = Stopped::new();
    assert_eq!(stopped.warnings(), "");
    stopped.edit(|yaml| yaml.replacen("    serviceAuthorities: certs/ca.pem\n", "", 1));
    let found = stopped.warnings();
    let want = "certificateAuthorities: has the certificate authorities (CAs) of clients and of services in one list";
    assert!(found.contains(want) && found.lines().count() == 1, "{found}");
}

#[tokio::test]
async fn a_client_certificate_of_a_service_authority_is_refused() {
    let edit = |yaml: &str| {
        yaml.replacen("serviceAuthorities: certs/ca.pem", "serviceAuthorities: test-ca.pem", 1)
    };
    let demo = served(edit, Vec::new()).await;
    let login = demo.client_of("USER").post(demo.auth("login")).send().await.unwrap();
    assert_eq!(login.status(), 204);
    let pem = format!("{}{}", USER.certificate, USER.key);
    let other = demo.builder().identity(Identity::from_pem(pem.as_bytes()).unwrap());
    assert!(other.build().unwrap().post(demo.auth("login")).send().await.is_err());
}

#[tokio::test]
async fn a_service_certificate_of_a_client_authority_is_refused() {
    let acceptor = pki::SERVER.acceptor();
    let service = raw::service(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let mut stream = BufReader::new(stream);
            raw::head(&mut stream).await;
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            let _ = stream.get_mut().write_all(answer).await;
        }
    })
    .await;
    for (services, want) in [("test-ca.pem", 200), ("certs/ca.pem", 503)] {
        let edit = move |yaml: &str| {
            yaml.replace("certs/ca.pem", "[certs/ca.pem, test-ca.pem]").replacen(
                "serviceAuthorities: [certs/ca.pem, test-ca.pem]",
                &format!("serviceAuthorities: {services}"),
                1,
            )
        };
        let url = format!("https://localhost:{}", service.port());
        let definition = format!(
            "services:\n  - serviceId: svc\n    instanceBaseUrls: [\"{url}\"]\n    \
             routes:\n      - gatewayUrl: api/v1\n        serviceRelativeUrl: /\n"
        );
        let files = vec![("api-defs/demo.yml", definition.into_bytes())];
        let demo = served(edit, files).await;
        let response = demo.client().get(demo.at("/svc/api/v1/x")).send().await.unwrap();
        assert_eq!(response.status(), want, "{services}");
    }
}

#[tokio::test]
async fn revoked_client_certificates_are_refused() {
    let authority = Authority::trusted();
    let key = USER.key_pair();
    let [good, revoked] = [7_u64, 8]
        .map(|serial| authority.certify(&key, |params| params.serial_number = Some(serial.into())));
    let list = authority.revoke(&[8], |_| {});
    let text: String = list.lines().filter(|line| !line.starts_with('-')).collect();
    let der = BASE64_STANDARD.decode(text).unwrap();
    for list in [list.into_bytes(), der] {
        let section = format!("{PASSWORDS}    crls: [clients.crl]\n");
        let edit = move |yaml: &str| certificate(yaml, STORES, &section);
        let demo = served(edit, vec![("clients.crl", list)]).await;
        let login = user(&good).post(demo.auth("login")).send().await.unwrap();
        assert_eq!(login.status(), 204);
        assert!(user(&revoked).post(demo.auth("login")).send().await.is_err());
        let anonymous = client(authority.pem().as_bytes()).build().unwrap();
        let health = anonymous.get(demo.at("/application/health")).send().await.unwrap();
        assert_eq!(health.status(), 200);
    }
}

#[test]
fn revocation_lists_that_cannot_be_used_are_reported() {
    let stopped = Stopped::new();
    let authority = Authority::trusted();
    let expired = authority.revoke(&[], |list| list.next_update = date_time_ymd(2020, 1, 1));
    write(&stopped.demo.directory, "expired.crl", expired);
    write(&stopped.demo.directory, "foreign.crl", Authority::stranger().revoke(&[], |_| {}));
    let with = |crls: &str| {
        let section = format!("{PASSWORDS}    crls: {crls}\n");
        stopped.edit(|yaml| certificate(yaml, STORES, &section));
    };
    for (crls, want) in [
        (
            "[expired.crl]",
            "expired.crl contains a list of the CA \"CN=CA\", which expired at 2020-01-01T00:00:00Z; the gateway refuses \
             client certificates of this CA; replace",
        ),
        (
            "foreign.crl",
            "names no file with a list of the CA \"CN=CA\", so the gateway refuses client certificates of this CA; add",
        ),
    ] {
        with(crls);
        let warnings = stopped.warnings();
        assert!(warnings.contains(want), "{warnings}");
    }
    for (crls, want) in [
        ("[server.pem]", "server.pem has no certificate revocation list that TLS supports"),
        ("[missing.crl]", "missing.crl: No such file"),
    ] {
        with(crls);
        let errors = stopped.errors();
        assert!(errors.contains(want), "{errors}");
    }
}
