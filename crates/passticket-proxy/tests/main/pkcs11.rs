//! Tests of PassTicket keys in PKCS#11 tokens. The tokens are those of SoftHSM.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Output,
    time::{Duration, Instant},
};

use reqwest::Response;
use serde_json::{Value, json};
use tempfile::TempDir;
use test_support::{
    PATIENCE, Running,
    softhsm::{CONFIGURATION, PIN, SoftHsm},
    tickets,
};
use tokio::{task::spawn_blocking, time::sleep};
use tower_passticket::passticket::{Algorithm, KeyProfile};

use crate::support::{Demo, PROGRAM, listening, with_any_port};

const KEY: &str = "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F\
                   202122232425262728292A2B2C2D2E2F303132333435363738393A3B3C3D3E3F";

fn write_secret(path: &Path, content: &str) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Runs a subcommand of `pkcs11` with files in `directory`.
fn pkcs11(hsm: &SoftHsm, directory: &Path, command: &str, label: &str, more: &[&str]) -> Output {
    let pin = directory.join("pin");
    let module = hsm.module().to_str().unwrap();
    let args = ["pkcs11", command, "--module", module, "--token", "PTKT", "--label", label];
    let args = [&args[..], &["--pin-file", pin.to_str().unwrap()], more].concat();
    hsm.run(PROGRAM, &args)
}

/// Asserts the exit code. Returns standard output and standard error.
#[track_caller]
fn texts(output: Output, code: i32) -> String {
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(!text.contains(PIN) && !text.contains("0F101112"), "{text}");
    text
}

#[test]
fn keys_are_put_into_a_token_without_a_secret_on_the_command_line() {
    let Some(hsm) = SoftHsm::new() else { return };
    let hsm = hsm.with_token("PTKT");
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    write_secret(&directory.path().join("pin"), PIN);
    write_secret(&directory.path().join("key"), KEY);
    write_secret(&directory.path().join("legacy"), "E001193519561977");
    let run = |command: &str, label: &str, more: &[&str]| {
        pkcs11(&hsm, directory.path(), command, label, more)
    };

    let text = texts(run("import", "K", &["--key-file", &path("key")]), 0);
    assert!(text.contains("The key K is now in the token PTKT. Nobody can read the key"), "{text}");
    assert!(text.contains("token: PTKT, label: K, pinFile:"), "{text}");
    let again = texts(run("import", "K", &["--key-file", &path("key")]), 3);
    assert!(again.contains("already has a secret key with the label K"), "{again}");
    let made = texts(run("generate", "MADE", &[]), 0);
    assert!(made.contains("The key MADE is now in the token PTKT."), "{made}");
    let legacy = texts(run("import", "L", &["--key-file", &path("legacy")]), 2);
    assert!(legacy.contains("has the length of a legacy key (DES)"), "{legacy}");
    fs::set_permissions(path("key"), fs::Permissions::from_mode(0o644)).unwrap();
    let open = texts(run("import", "O", &["--key-file", &path("key")]), 2);
    assert!(open.contains("is accessible to users other than its owner"), "{open}");
    write_secret(&directory.path().join("pin"), "0000");
    let refused = texts(run("generate", "P", &[]), 3);
    assert!(refused.contains("refuses the PIN (CKR_PIN_INCORRECT)"), "{refused}");
}

/// A demo whose key of the APPLID ZOWEAPPL is in a token.
struct Site {
    hsm: SoftHsm,
    demo: Demo,
}

impl Site {
    async fn start() -> Option<Self> {
        spawn_blocking(|| {
            let hsm = SoftHsm::new()?.with_token("PTKT");
            let Demo { program, directory, printed, _temporary, .. } = Demo::start();
            drop(program);
            write_secret(&directory.join("pin"), PIN);
            write_secret(&directory.join("key"), KEY);
            let file = directory.join("key");
            let args = ["--key-file", file.to_str().unwrap()];
            texts(pkcs11(&hsm, &directory, "import", "K", &args), 0);
            fs::remove_file(file).unwrap();
            let yaml = fs::read_to_string(directory.join("zowe.yaml")).unwrap();
            let yaml = with_any_port(&yaml);
            let entries = yaml.find("    ptktdata:\n").unwrap();
            let module = hsm.module().display();
            let yaml = format!(
                "{}    ptktdata:\n      - applid: ZOWEAPPL\n        algorithm: enhanced-mixed\n        \
                 replayProtection: false\n        key:\n          \
                 pkcs11: {{module: {module}, token: PTKT, label: K, pinFile: pin}}\n",
                &yaml[..entries]
            );
            fs::write(directory.join("zowe.yaml"), yaml).unwrap();
            let (program, port) = listening(serve(&hsm, &directory));
            let url = format!("https://localhost:{port}");
            Some(Self { hsm, demo: Demo { program, directory, printed, url, _temporary } })
        })
        .await
        .unwrap()
    }

    fn check(&self, code: i32) -> String {
        let config = self.demo.directory.join("zowe.yaml");
        texts(self.hsm.run(PROGRAM, &["check", "--config", config.to_str().unwrap()]), code)
    }

    async fn ticket(&self, token: &str) -> Response {
        let client = self.demo.client_of("USER");
        let request = client.post(self.demo.auth("ticket")).bearer_auth(token);
        request.json(&json!({"applicationName": "ZOWEAPPL"})).send().await.unwrap()
    }

    /// Asks for PassTickets until the answer has this status.
    async fn ticket_with_status(&self, token: &str, status: u16) -> Response {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let response = self.ticket(token).await;
            if response.status() == status {
                return response;
            }
            assert!(Instant::now() < deadline, "{response:?}");
            sleep(Duration::from_millis(50)).await;
        }
    }
}

fn serve(hsm: &SoftHsm, directory: &Path) -> Running {
    let environment = format!("{CONFIGURATION}={}", hsm.configuration().display());
    let config = directory.join("zowe.yaml");
    Running::start("env", &[&environment, PROGRAM, "serve", "--config", config.to_str().unwrap()])
}

#[tokio::test]
async fn a_gateway_uses_a_key_in_a_token_and_recovers_after_the_token_was_removed() {
    let Some(mut site) = Site::start().await else { return };
    let memory = tickets::applid("ZOWEAPPL");
    let memory = KeyProfile::from_hex(memory, Algorithm::EnhancedMixed, KEY).unwrap();
    let token = site.demo.login().await;
    let response = site.ticket(&token).await;
    assert_eq!(response.status(), 200);
    let body: Value = response.json().await.unwrap();
    assert!(tickets::is_valid(&memory, "USER", body["ticket"].as_str().unwrap()), "{body}");
    assert!(site.check(0).contains("key K of the token PTKT: good; its value cannot be read"));

    site.hsm.remove_tokens();
    let refused = site.ticket_with_status(&token, 503).await;
    let seconds: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=10).contains(&seconds), "{seconds}");
    let text = site.check(2);
    assert!(text.contains("zowe.yaml:") && text.contains("ptktdata[0].key.pkcs11"), "{text}");
    assert!(text.contains("has no token PTKT (it has: none)"), "{text}");
    let line = site.demo.program.logged("the PassTicket could not be generated");
    assert!(line.contains("PTKT"), "{line}");

    site.hsm.bring_tokens_back();
    let body: Value = site.ticket_with_status(&token, 200).await.json().await.unwrap();
    assert!(tickets::is_valid(&memory, "USER", body["ticket"].as_str().unwrap()), "{body}");

    site.demo.program.signal("-TERM");
    let (status, log) = site.demo.program.wait();
    assert!(status.success(), "{log}");
    assert!(!log.contains(PIN) && !log.contains("0F101112"));
}

#[tokio::test]
async fn a_gateway_with_a_wrong_pin_does_not_start_and_is_not_started_again() {
    let Some(site) = Site::start().await else { return };
    let Site { hsm, demo: Demo { program, directory, _temporary, .. } } = site;
    drop(program);
    write_secret(&directory.join("pin"), "0000");
    let (status, log) = serve(&hsm, &directory).wait();
    // A token locks itself after several wrong PINs, so the gateway must not be started again. The unit file
    // of the gateway forbids a restart after the exit code 2.
    assert_eq!(status.code(), Some(2), "{log}");
    assert!(log.contains("refuses the PIN") && !log.contains("0000 "), "{log}");
}
