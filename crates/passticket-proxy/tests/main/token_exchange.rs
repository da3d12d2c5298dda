//! Tests of the token exchange (RFC 8693) and of `ticket get`, with the real program.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
};

use reqwest::{Client, Response};
use serde_json::{Value, json};
use test_support::tickets;

use crate::support::{Demo, PROGRAM, output_with_input, without_exchange};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const PASSTICKET: &str = "urn:passticket:params:oauth:token-type:passticket";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// With the certificate of `USER`, a caller may exchange tokens of `USER` and of `APIMTST`.
const EXCHANGE: &str = "    tokenExchange:\n      enabled: true\n      callers:\n        \
    - {user: USER, applids: [ZOWEAPPL], users: [USER, APIMTST]}\n";

fn with_exchange(more: &str) -> Demo {
    let more = more.to_owned();
    Demo::reconfigured(move |yaml| without_exchange(&yaml) + EXCHANGE + &more)
}

/// Sends a token exchange. The HTTP client of the tests does not encode forms, so this function writes the body. Tokens
/// and URNs contain no characters that a form must escape.
async fn exchange(demo: &Demo, client: &Client, subject: &str, more: &str) -> Response {
    let body = format!(
        "grant_type={GRANT}&requested_token_type={PASSTICKET}&audience=ZOWEAPPL&subject_token={subject}\
         &subject_token_type={JWT}{more}"
    );
    let request = client.post(demo.auth("token"));
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    request.body(body).send().await.unwrap()
}

/// Returns the status and the OAuth error of a response.
async fn outcome(response: Response) -> (u16, String) {
    assert_eq!(response.headers()["cache-control"], "no-store");
    let status = response.status().as_u16();
    let document: Value = response.json().await.unwrap();
    (status, document["error"].as_str().unwrap_or_default().to_owned())
}

/// Asserts that the PassTicket is valid for this user at the current time.
fn assert_valid(demo: &Demo, user: &str, ticket: &str) {
    let key = fs::read_to_string(demo.directory.join("ptktdata/ZOWEAPPL.key")).unwrap();
    let profile = tickets::key_profile_from("ZOWEAPPL", key.trim());
    assert!(tickets::is_valid(&profile, user, ticket), "{ticket}");
}

fn audit(demo: &Demo) -> Vec<Value> {
    let text = fs::read_to_string(demo.directory.join("audit.jsonl")).unwrap_or_default();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["event"] == "token-exchange").collect()
}

#[tokio::test]
async fn a_permitted_actor_exchanges_tokens_and_others_do_not() {
    let demo = with_exchange("");
    let (agent, other, nobody) = (demo.client_of("USER"), demo.client_of("APIMTST"), demo.client());
    let jwt = demo.login().await;
    let response = exchange(&demo, &agent, &jwt, "").await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["cache-control"], "no-store");
    assert_eq!(response.headers()["pragma"], "no-cache");
    let answer: Value = response.json().await.unwrap();
    let ticket = answer["access_token"].as_str().unwrap();
    assert_valid(&demo, "USER", ticket);
    let want = json!({"access_token": ticket, "issued_token_type": PASSTICKET, "token_type": "N_A",
                      "expires_in": 600, "user_id": "USER"});
    assert_eq!(answer, want);

    let pat = demo.pat(&["dcpassticket"]).await;
    assert_eq!(exchange(&demo, &agent, &pat, "").await.status(), 200);
    let out_of_scope = demo.pat(&["dcbypass"]).await;
    let revoked = demo.pat(&["dcpassticket"]).await;
    let revoke = demo.client().delete(demo.auth("access-token/revoke"));
    let revoke = revoke.json(&json!({"token": revoked})).send().await.unwrap();
    assert_eq!(revoke.status(), 200);
    for (name, client, token, more, want) in [
        ("no actor", &nobody, &jwt, "", (401, "invalid_client")),
        ("no permission", &other, &jwt, "", (400, "unauthorized_client")),
        ("PAT of another service", &agent, &out_of_scope, "", (400, "invalid_target")),
        ("revoked PAT", &agent, &revoked, "", (400, "invalid_request")),
        ("repeated parameter", &agent, &jwt, "&grant_type=x", (400, "invalid_request")),
        ("scope", &agent, &jwt, "&scope=x", (400, "invalid_scope")),
        ("resource", &agent, &jwt, "&resource=x", (400, "invalid_target")),
    ] {
        let got = outcome(exchange(&demo, client, token, more).await).await;
        assert_eq!(got, (want.0, want.1.to_owned()), "{name}");
    }
    let logout = demo.client().post(demo.auth("logout")).bearer_auth(&jwt);
    assert_eq!(logout.send().await.unwrap().status(), 204);
    let got = outcome(exchange(&demo, &agent, &jwt, "").await).await;
    assert_eq!(got, (400, "invalid_request".to_owned()));

    // The program writes all records before it ends.
    let mut demo = demo;
    demo.program.signal("-TERM");
    demo.program.wait();
    let records = audit(&demo);
    let succeeded: Vec<_> =
        records.iter().filter(|record| record["outcome"] == "success").collect();
    assert_eq!(succeeded.len(), 2, "{records:?}");
    let first = succeeded[0];
    assert_eq!(first["exchange"], json!({"subject": "login-token", "act": ["USER"]}));
    assert_eq!((&first["user"], &first["target"]), (&json!("USER"), &json!("USER")));
    assert_eq!(
        (&first["applid"], &first["credential"]),
        (&json!("ZOWEAPPL"), &json!("certificate"))
    );
    let text = fs::read_to_string(demo.directory.join("audit.jsonl")).unwrap();
    assert!(!text.contains(ticket) && !text.contains(&jwt) && !text.contains(&pat));
}

#[tokio::test]
async fn without_its_setting_there_is_no_token_exchange() {
    let demo = Demo::reconfigured(|yaml| without_exchange(&yaml));
    let jwt = demo.login().await;
    let response = exchange(&demo, &demo.client_of("USER"), &jwt, "").await;
    assert_eq!(response.status(), 404);
}

#[tokio::test]
async fn a_pat_needs_all_services_with_the_applid_in_its_scopes() {
    let demo = Demo::with_files(|directory, yaml| {
        let path = directory.join("api-defs/demo.yml");
        let definitions = fs::read_to_string(&path).unwrap();
        let second = "  - serviceId: second\n    instanceBaseUrls: [\"https://localhost:1/x\"]\n    routes:\n      \
                      - {gatewayUrl: api/v1, serviceRelativeUrl: /}\n    authentication: {scheme: \
                      httpBasicPassTicket, applid: ZOWEAPPL}\n";
        fs::write(path, definitions + second).unwrap();
        without_exchange(&yaml) + EXCHANGE
    });
    let agent = demo.client_of("USER");
    for (scopes, want) in [
        (&["dcpassticket"][..], 400),
        (&["second"], 400),
        (&["dcpassticket:read", "second"], 400),
        (&["dcpassticket:/", "dcpassticket:read", "second"], 400),
        (&["dcpassticket", "second"], 200),
        (&["dcpassticket", "second", "dcbypass"], 200),
    ] {
        let pat = demo.pat(scopes).await;
        assert_eq!(exchange(&demo, &agent, &pat, "").await.status(), want, "{scopes:?}");
    }
}

#[tokio::test]
async fn the_rate_limit_and_the_protected_users_apply() {
    let demo = Demo::reconfigured(|yaml| {
        let yaml = yaml.replace("protectedUsers: [IBMUSER]", "protectedUsers: [IBMUSER, USER]");
        without_exchange(&yaml) + EXCHANGE + "      callsPerMinute: 2\n"
    });
    let (agent, jwt) = (demo.client_of("USER"), demo.login().await);
    for want in
        [(400, "invalid_request"), (400, "invalid_request"), (429, "temporarily_unavailable")]
    {
        let got = outcome(exchange(&demo, &agent, &jwt, "").await).await;
        assert_eq!(got, (want.0, want.1.to_owned()));
    }
}

#[tokio::test]
async fn a_token_without_a_certificate_gets_a_ticket_for_a_bearer_applid() {
    let demo = with_exchange("      bearerApplids: [ZOWEAPPL]\n");
    let (jwt, nobody) = (demo.login().await, demo.client());
    let response = exchange(&demo, &nobody, &jwt, "").await;
    let answer: Value = response.json().await.unwrap();
    assert_valid(&demo, "USER", answer["access_token"].as_str().unwrap());
    // A certificate makes its user the actor, and `APIMTST` is not a permitted actor. So this exchange fails, although
    // it succeeds without a certificate.
    let got = outcome(exchange(&demo, &demo.client_of("APIMTST"), &jwt, "").await).await;
    assert_eq!(got, (400, "unauthorized_client".to_owned()));
}

#[test]
fn esm_prints_the_permission_that_an_actor_of_the_exchange_needs() {
    let demo = Demo::reconfigured(|yaml| {
        let yaml = yaml.replace("delegatePassticket: true", "delegatePassticket: false");
        without_exchange(&yaml) + EXCHANGE
    });
    let config = demo.directory.join("zowe.yaml");
    let output = Command::new(PROGRAM)
        .args(["esm", "--esm", "racf", "--from-config", config.to_str().unwrap()])
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("PERMIT APIML.DELEGATE.PASSTICKET CLASS(ZOWE) ID(USER)"), "{printed}");
}

/// Runs `ticket get` with these options and this standard input. No option contains a secret.
fn ticket_get(demo: &Demo, options: &[&str], input: &str, environment: &[(&str, &Path)]) -> Output {
    let ca = demo.directory.join("certs/ca.pem");
    let mut command = Command::new(PROGRAM);
    command.args(["ticket", "get", "--gateway", &demo.url, "--applid", "ZOWEAPPL"]);
    command.args(["--cacert", ca.to_str().unwrap()]).args(options);
    command.env_remove("PASSTICKET_TOKEN_FILE");
    for (name, value) in environment {
        command.env(name, value);
    }
    output_with_input(&mut command, input)
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap()
}

fn secret_file(directory: &Path, name: &str, content: &str) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn ticket_get_prints_user_and_ticket() {
    let demo = with_exchange("      bearerApplids: [ZOWEAPPL]\n");
    let (jwt, pat) = (demo.login().await, demo.pat(&["dcpassticket"]).await);
    let of = |name: &str| demo.directory.join("certs").join(name).to_str().unwrap().to_owned();
    let (cert, key) = (of("USER.pem"), of("USER.key"));
    let certificate = ["--cert", &cert, "--key", &key];
    let pat_file = secret_file(&demo.directory, "pat.txt", &format!("{pat}\n"));
    let from_file = ["--token-file", pat_file.to_str().unwrap()];

    // The credential is only a certificate. The default output has two lines.
    let output = ticket_get(&demo, &certificate, "", &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let lines: Vec<_> = text(&output.stdout).lines().collect();
    assert_eq!((lines.len(), lines[0]), (2, "USER"));
    assert_valid(&demo, "USER", lines[1]);

    // The token is a login token on standard input, and the certificate names the actor. The output is JSON.
    let mut options = certificate.to_vec();
    options.extend(["--token-file", "-", "--output", "json"]);
    let output = ticket_get(&demo, &options, &format!(" {jwt}\n"), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_valid(&demo, "USER", document["ticket"].as_str().unwrap());
    assert_eq!((&document["user"], &document["applid"]), (&json!("USER"), &json!("ZOWEAPPL")));
    assert_eq!(document["expiresIn"], 600);

    // The token is a PAT in a file, which an option or an environment variable names. The output is assignments for a
    // shell.
    let with_env = [("PASSTICKET_TOKEN_FILE", pat_file.as_path())];
    for (options, environment) in [(&from_file[..], &[][..]), (&[], &with_env)] {
        let mut options = options.to_vec();
        options.extend(["--output", "env"]);
        let output = ticket_get(&demo, &options, "", environment);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let printed = text(&output.stdout);
        let ticket = printed.strip_prefix("PASSTICKET_USER='USER'\nPASSTICKET='").unwrap();
        assert_valid(&demo, "USER", ticket.strip_suffix("'\n").unwrap());
    }

    // Failures print nothing on standard output.
    let public = secret_file(&demo.directory, "public.txt", &pat);
    fs::set_permissions(&public, fs::Permissions::from_mode(0o644)).unwrap();
    let other = ["--cert", &of("APIMTST.pem"), "--key", &of("APIMTST.key"), "--token-file", "-"];
    let strange_ca =
        secret_file(&demo.directory, "strange.pem", test_support::pki::Authority::trusted().pem());
    for (name, options, input, code, error) in [
        ("nothing to log in with", vec![], "", 2, "nothing to log in with"),
        ("no token", vec!["--token-file", "-"], "", 2, "does not contain one token"),
        ("public file", vec!["--token-file", public.to_str().unwrap()], "", 2, "public.txt"),
        ("refused token", vec!["--token-file", "-"], "x", 1, "invalid_request: ZWEAG130E"),
        ("no actor", other.to_vec(), &jwt, 1, "unauthorized_client: ZWEAT403E"),
    ] {
        let output = ticket_get(&demo, &options, input, &[]);
        assert_eq!(output.status.code(), Some(code), "{name}: {}", text(&output.stderr));
        assert!(output.stdout.is_empty(), "{name}");
        assert!(text(&output.stderr).contains(error), "{name}: {}", text(&output.stderr));
        assert!(!text(&output.stderr).contains(&jwt), "{name}");
    }
    // The certificate of the gateway is verified.
    let untrusted = Command::new(PROGRAM)
        .args(["ticket", "get", "--gateway", &demo.url, "--applid", "ZOWEAPPL"])
        .args(["--cacert", strange_ca.to_str().unwrap()])
        .args(certificate)
        .output()
        .unwrap();
    assert_eq!(untrusted.status.code(), Some(3), "{}", text(&untrusted.stderr));
    let plain = Command::new(PROGRAM)
        .args(["ticket", "get", "--gateway", "http://gw.example.com", "--applid", "A"])
        .args(certificate)
        .output()
        .unwrap();
    assert_eq!(plain.status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn ticket_get_fails_if_it_cannot_print_and_if_it_must_wait() {
    let demo = with_exchange("      callsPerMinute: 1\n      bearerApplids: [ZOWEAPPL]\n");
    let jwt = secret_file(&demo.directory, "jwt.txt", &demo.login().await);
    let ca = demo.directory.join("certs/ca.pem");
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = Command::new(PROGRAM)
        .args(["ticket", "get", "--gateway", &demo.url, "--applid", "ZOWEAPPL"])
        .args(["--cacert", ca.to_str().unwrap(), "--token-file", jwt.to_str().unwrap()])
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("cannot print"), "{}", text(&output.stderr));
    // The limit of one exchange per minute is reached.
    let output = ticket_get(&demo, &["--token-file", jwt.to_str().unwrap()], "", &[]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("temporarily_unavailable"), "{}", text(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn ticket_get_uses_the_ticket_endpoint_while_the_exchange_is_off() {
    let demo = Demo::reconfigured(|yaml| without_exchange(&yaml));
    let jwt = demo.login().await;
    let of = |name: &str| demo.directory.join("certs").join(name).to_str().unwrap().to_owned();
    let (cert, key) = (of("USER.pem"), of("USER.key"));
    for (options, input) in [
        (vec!["--cert", &cert, "--key", &key], String::new()),
        (vec!["--cert", &cert, "--key", &key, "--token-file", "-"], jwt.clone()),
    ] {
        let output = ticket_get(&demo, &options, &input, &[]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let lines: Vec<_> = text(&output.stdout).lines().collect();
        assert_eq!(lines[0], "USER");
        assert_valid(&demo, "USER", lines[1]);
    }
    let output = ticket_get(&demo, &["--token-file", "-"], &jwt, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("the token exchange is off"));
    let exchange = ["--cert", &cert, "--key", &key, "--endpoint", "exchange"];
    assert_eq!(ticket_get(&demo, &exchange, "", &[]).status.code(), Some(1));
}

/// The server accepts connections and answers nothing. The test looks at the process list while `ticket get` waits.
#[test]
fn the_process_list_shows_no_secret_and_ticket_get_ends_after_its_timeout() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let held = thread::spawn(move || listener.accept());
    let directory = tempfile::tempdir().unwrap();
    let token = secret_file(directory.path(), "token", "very-secret-token");
    let mut child = Command::new(PROGRAM)
        .args(["ticket", "get", "--gateway", &format!("http://127.0.0.1:{port}"), "--applid", "A"])
        .args(["--token-file", token.to_str().unwrap(), "--timeout", "2"])
        .args(["--cacert", &write_ca(directory.path())])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _stream = held.join().unwrap().unwrap();
    let process = format!("/proc/{}", child.id());
    for file in ["cmdline", "environ"] {
        let shown = fs::read(format!("{process}/{file}")).unwrap();
        assert!(!String::from_utf8_lossy(&shown).contains("very-secret"), "{file}");
    }
    assert_eq!(child.wait().unwrap().code(), Some(3));
}

fn write_ca(directory: &Path) -> String {
    let path = secret_file(directory, "ca.pem", test_support::pki::Authority::trusted().pem());
    path.to_str().unwrap().to_owned()
}
