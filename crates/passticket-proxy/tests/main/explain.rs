//! Tests of the command `explain`: each credential, each reason of a refusal, and that the command changes nothing.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use test_support::pki::{self, Authority, USER, leaf_params};

use crate::support::{Demo, PROGRAM, output_with_input};

const PATH: &str = "/dcpassticket/api/v1/request";

struct Explained {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Explained {
    fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|_| panic!("{}{}", self.out, self.err))
    }

    /// Asserts the exit code and the beginning of the first line.
    fn assert_first(&self, code: i32, first: &str) -> &Self {
        let is_it = self.code == Some(code) && self.out.starts_with(first);
        assert!(is_it, "wanted {code} {first}\n{:?}\n{}\n{}", self.code, self.out, self.err);
        self
    }

    fn assert_has(&self, texts: &[&str]) -> &Self {
        // The command wraps long lines, so the texts are searched in the output without line breaks.
        let words: Vec<_> = self.out.split_whitespace().collect();
        let flat = words.join(" ");
        for text in texts {
            assert!(flat.contains(text), "no {text:?} in\n{}", self.out);
        }
        self
    }
}

fn command(directory: &Path, args: &[&str]) -> Command {
    let config = directory.join("zowe.yaml");
    let mut command = Command::new(PROGRAM);
    command.args(["explain", "--config", config.to_str().unwrap()]).args(args);
    command
}

fn explain(directory: &Path, args: &[&str]) -> Explained {
    Explained::of(command(directory, args).output().unwrap())
}

fn explain_token(directory: &Path, token: &str, path: &str) -> Explained {
    let args = ["--token-file", "-", "GET", path];
    let explained = Explained::of(output_with_input(&mut command(directory, &args), token));
    for part in token.split('.').filter(|part| part.len() > 20) {
        assert!(!explained.out.contains(part) && !explained.err.contains(part));
    }
    explained
}

/// Returns the content of all files in a directory and below it.
fn content(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                directories.push(entry.path());
            } else {
                let content =
                    if kind.is_file() { fs::read(entry.path()).unwrap() } else { Vec::new() };
                files.insert(entry.path().display().to_string(), content);
            }
        }
    }
    files
}

/// Explains a request three times: with a user id, with a token, and with a certificate.
fn explain_three_credentials(directory: &Path, pat: &str) {
    let explained = explain(directory, &["--user", "USER", "GET", PATH]);
    explained
        .assert_first(0, "YES: dcpassticket gets a PassTicket for USER (APPLID ZOWEAPPL)\n")
        .assert_has(&[
            "gateway path /dcpassticket/api/v1",
            "scheme httpBasicPassTicket",
            "chosen Authorization: Bearer",
            "user id USER",
            "class PTKTDATA",
            "resource IRRPTAUTH.ZOWEAPPL.USER",
            "level UPDATE",
            "ZWESVUSR",
            "key profile ZOWEAPPL",
            "authorization: Basic USER:********",
            "LISTUSER USER",
        ]);
    assert!(explained.out.lines().all(|line| line.chars().count() <= 100), "{}", explained.out);
    let explained = explain_token(directory, pat, PATH);
    explained.assert_first(0, "YES: ").assert_has(&["the scopes permit", "personal-access-token"]);
    let certificate = directory.join("certs/USER.pem");
    let certificate = certificate.to_str().unwrap();
    let explained = explain(directory, &["--certificate", certificate, "GET", PATH]);
    explained
        .assert_first(0, "YES: ")
        .assert_has(&["chosen the client certificate", "subject CN=USER"]);
}

#[tokio::test]
async fn explain_beside_a_running_gateway_changes_no_file() {
    let demo = Demo::start();
    let directory = &demo.directory;
    let pat = demo.pat(&["dcpassticket"]).await;
    // The running gateway also writes files in the background: its audit log, and the networks from which users have
    // logged in. So the test runs the commands again until no file has changed during a run.
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let before = content(directory);
        explain_three_credentials(directory, &pat);
        if before == content(directory) {
            break;
        }
        assert!(Instant::now() < deadline, "the command changes a file");
    }
    let token = demo.login().await;
    let request = demo.client().get(demo.at(PATH)).bearer_auth(&token);
    assert_eq!(request.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn json_has_the_keys_and_no_secret() {
    let demo = Demo::start();
    let token = demo.login().await;
    let header = format!("Cookie: apimlAuthenticationToken={token}; a=1");
    let args = ["--json", "--header", &header, "--header", "X-Zowe-Auth-Failure: x", "GET", PATH];
    let explained = explain(&demo.directory, &args);
    assert_eq!(explained.code, Some(0), "{}{}", explained.out, explained.err);
    let warning = "warning: other users of this machine can read the header cookie";
    assert!(explained.err.contains(warning), "{}", explained.err);
    let json = explained.json();
    let mut keys: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["credential", "route", "saf", "scope", "status", "ticket", "user"]);
    assert_eq!(json["route"]["service"], "dcpassticket");
    assert_eq!(json["route"]["removedHeaders"], json!(["x-zowe-auth-failure"]));
    assert_eq!(json["credential"]["chosen"], "the cookie for login tokens");
    assert_eq!(json["credential"]["claims"]["sub"], "USER");
    assert_eq!(json["user"]["id"], "USER");
    assert_eq!(json["scope"]["permitted"], true);
    assert_eq!(json["saf"]["decision"], "granted");
    assert_eq!(json["ticket"]["applid"], "ZOWEAPPL");
    assert_eq!(json["status"]["positive"], true);
    let received = json["status"]["serviceHeaders"].as_array().unwrap();
    assert!(received.contains(&json!(["authorization", "Basic USER:********"])), "{received:?}");
    for part in token.split('.') {
        assert!(!explained.out.contains(part) && !explained.err.contains(part));
    }
}

#[tokio::test]
async fn a_refused_token_is_explained() {
    let demo = Demo::start();
    let directory = &demo.directory;
    let no = "NO: dcpassticket gets no PassTicket";
    explain(directory, &["GET", PATH]).assert_first(1, no).assert_has(
        &["the request has no credential", "X-Zowe-Auth-Failure"].map(|it| match it {
            "X-Zowe-Auth-Failure" => "ZWEAG160E",
            other => other,
        }),
    );
    explain_token(directory, "not-a-token", PATH)
        .assert_first(1, no)
        .assert_has(&["token-malformed", "copy the whole token"]);

    let token = demo.login().await;
    let (body, _) = token.rsplit_once('.').unwrap();
    let forged = format!("{body}.{}", "A".repeat(342));
    explain_token(directory, &forged, PATH).assert_first(1, no).assert_has(&[
        "token-signature",
        "NOT verified",
        "sub: USER",
    ]);

    let out_of_scope = demo.pat(&["zowejwt"]).await;
    explain_token(directory, &out_of_scope, PATH).assert_first(1, no).assert_has(&[
        "the scopes of the token do not permit this request to dcpassticket",
        "scopes zowejwt",
        "out-of-scope",
    ]);

    let response = demo.client().post(demo.auth("logout")).bearer_auth(&token).send().await;
    assert_eq!(response.unwrap().status(), 204);
    explain_token(directory, &token, PATH)
        .assert_first(1, no)
        .assert_has(&["token-revoked", "this token itself is revoked"]);

    let pat = demo.pat(&["dcpassticket"]).await;
    let request = demo.client().delete(demo.auth("access-token/revoke/tokens"));
    let request = request.basic_auth("USER", Some("validPassword"));
    assert!(request.send().await.unwrap().status().is_success());
    explain_token(directory, &pat, PATH).assert_first(1, no).assert_has(&[
        "revoked-by-user-rule",
        "revoked by the rule for the user USER: tokens up to 20",
    ]);
}

#[tokio::test]
async fn a_header_whose_credential_is_not_used_is_explained() {
    let demo = Demo::start();
    let (token, pat) = (demo.login().await, demo.pat(&["dcpassticket"]).await);
    let private = format!("PRIVATE-TOKEN: {token}");
    explain(&demo.directory, &["--header", &private, "GET", PATH])
        .assert_first(1, "NO: ")
        .assert_has(&["wrong-kind"]);
    let (bearer, private) =
        (format!("Authorization: Bearer {token}"), format!("PRIVATE-TOKEN: {pat}"));
    explain(&demo.directory, &["--header", &bearer, "--header", &private, "GET", PATH])
        .assert_first(0, "YES: ")
        .assert_has(&["PRIVATE-TOKEN: another credential has precedence"]);
    explain(&demo.directory, &["--header", "Authorization: Basic VVNFUjp4", "GET", PATH])
        .assert_first(1, "NO: ")
        .assert_has(&["Authorization: Basic: clientBasic of the service is not verify"]);
}

#[test]
fn a_key_with_replay_protection_has_a_time_slot() {
    let demo = Demo::start();
    let path = demo.directory.join("zowe.yaml");
    let yaml = fs::read_to_string(&path).unwrap();
    fs::write(&path, yaml.replace("replayProtection: false", "replayProtection: true")).unwrap();
    let explained = explain(&demo.directory, &["--json", "--user", "USER", "GET", PATH]);
    assert_eq!(explained.code, Some(0), "{}{}", explained.out, explained.err);
    let ticket = &explained.json()["ticket"];
    assert!(ticket["timeSlot"].as_str().unwrap().starts_with("20"), "{ticket}");
}

#[test]
fn the_scheme_x509_accepts_only_the_certificate() {
    let demo = Demo::start();
    let path = demo.directory.join("zowe.yaml");
    let yaml = fs::read_to_string(&path).unwrap();
    let service =
        "    services: {dcpassticket: {scheme: x509, headers: X-Certificate-CommonName}}\n";
    let yaml = yaml.replace("  passticket-proxy:\n", &format!("  passticket-proxy:\n{service}"));
    fs::write(&path, yaml).unwrap();
    let certificate = demo.directory.join("certs/USER.pem");
    explain(&demo.directory, &["--certificate", certificate.to_str().unwrap(), "GET", PATH])
        .assert_first(0, "YES: dcpassticket gets certificate headers for USER")
        .assert_has(&["x-certificate-commonname: USER"]);
    explain(&demo.directory, &["--user", "USER", "GET", PATH])
        .assert_first(1, "NO: dcpassticket gets no certificate headers for the client")
        .assert_has(&[
            "Authorization: Bearer: the scheme x509 accepts only the client certificate",
        ]);
}

#[test]
fn a_saf_refusal_names_the_profile_that_decided() {
    let demo = Demo::start();
    let saf = demo.directory.join("saf.yml");
    let text = fs::read_to_string(&saf).unwrap();
    fs::write(
        &saf,
        text.replace("IRRPTAUTH.ZOWEAPPL.*:\n      UPDATE", "IRRPTAUTH.ZOWEAPPL.*:\n      READ"),
    )
    .unwrap();
    let explained = explain(&demo.directory, &["--user", "USER", "GET", PATH]);
    explained
        .assert_first(1, "NO: dcpassticket gets no PassTicket for USER (APPLID ZOWEAPPL)")
        .assert_has(&[
            "decision refused",
            "resource IRRPTAUTH.ZOWEAPPL.USER",
            "IRRPTAUTH.ZOWEAPPL.* gives ZWESVUSR READ",
            "SAF/RACF/reason 8/8/16",
            "permit ZWESVUSR UPDATE on IRRPTAUTH.ZOWEAPPL.USER in class PTKTDATA",
        ]);
}

#[test]
fn a_request_without_a_route_is_explained() {
    let demo = Demo::start();
    let directory = &demo.directory;
    explain(directory, &["--user", "USER", "GET", "/nowhere/api/v1"])
        .assert_first(1, "NO: the request reaches no service: no route matches the path");
    explain(directory, &["--user", "USER", "GET", "/gateway/api/v1/auth/query"])
        .assert_first(1, "NO: the gateway answers this path itself");
    explain(directory, &["--user", "USER", "TRACE", PATH])
        .assert_first(1, "NO: the request reaches no service: the method TRACE is not forwarded");
    let url = format!("https://localhost:1{PATH}?a=b");
    explain(directory, &["--user", "USER", "GET", &url]).assert_first(0, "YES: ");
}

#[test]
fn an_untrusted_certificate_is_explained() {
    let demo = Demo::start();
    let pem = Authority::stranger().certify(&USER.key_pair(), |it| *it = leaf_params("USER"));
    let file = demo.directory.join("stranger.pem");
    fs::write(&file, pem).unwrap();
    explain(&demo.directory, &["--certificate", file.to_str().unwrap(), "GET", PATH])
        .assert_first(1, "NO: the TLS handshake fails, so the request never arrives")
        .assert_has(&["UnknownIssuer"]);
    fs::write(&file, pki::SERVER.key).unwrap();
    let explained =
        explain(&demo.directory, &["--certificate", file.to_str().unwrap(), "GET", PATH]);
    assert_eq!(explained.code, Some(2));
    assert!(explained.err.contains("has no certificate in PEM"), "{}", explained.err);
}

#[test]
fn a_wrong_command_line_or_configuration_is_exit_code_2() {
    let demo = Demo::start();
    let directory = &demo.directory;
    let secret = directory.join("token");
    fs::write(&secret, "x").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    for args in [
        &["--user", "USER"][..],
        &["--user", "too long a name", "GET", PATH],
        &["--user", "USER", "--token-file", "-", "GET", PATH],
        &["--header", "no colon", "GET", PATH],
        &["--user", "USER", "GET", "no-path"],
        &["--certificate", "/dev/zero", "GET", PATH],
        &["--token-file", secret.to_str().unwrap(), "GET", PATH],
        &["--token-file", "missing", "GET", PATH],
        &["--request-id", "a b"],
        &["--request-id", "a", "GET", PATH],
    ] {
        let explained = explain(directory, args);
        assert_eq!(explained.code, Some(2), "{args:?} {} {}", explained.out, explained.err);
    }
    for args in [
        &["--header", "Authorization Bearer SECRET", "GET", PATH][..],
        &["GET", PATH, "Authorization: Bearer SECRET"],
        &["GET", PATH, "SECRET-SECRET-SECRET-SECRET-SECRET-SECRET"],
        &["GET", "https://USER:SECRET@local host/"],
        &["Authorization: Bearer SECRET", "GET", PATH],
    ] {
        let explained = explain(directory, args);
        assert_eq!(explained.code, Some(2), "{args:?} {} {}", explained.out, explained.err);
        assert!(explained.err.contains("********"), "{}", explained.err);
        assert!(!explained.err.contains("SECRET"), "{}", explained.err);
    }
    // A service whose APPLID has no key is an error of the configuration.
    let path = directory.join("zowe.yaml");
    let yaml = fs::read_to_string(&path).unwrap();
    let without = yaml.replace("applid: ZOWEAPPL", "applid: OTHER");
    assert_ne!(yaml, without);
    fs::write(&path, without).unwrap();
    let explained = explain(directory, &["--user", "USER", "GET", PATH]);
    assert_eq!(explained.code, Some(2), "{}", explained.out);
    assert!(explained.err.contains("ZOWEAPPL"), "{}", explained.err);
}

#[test]
fn servers_are_not_asked_without_live() {
    let demo = Demo::start();
    let path = demo.directory.join("zowe.yaml");
    let yaml = fs::read_to_string(&path).unwrap();
    // Nothing listens at this address.
    let yaml = yaml.replace(
        "        x509:\n",
        "        x509:\n          externalMapperUrl: https://127.0.0.1:9/x509/map\n",
    );
    let yaml =
        yaml.replace("  passticket-proxy:\n", "  passticket-proxy:\n    certificateMapping: zss\n");
    fs::write(&path, yaml).unwrap();
    let certificate = demo.directory.join("certs/USER.pem");
    let args = ["--certificate", certificate.to_str().unwrap(), "GET", PATH];
    let explained = explain(&demo.directory, &args);
    explained
        .assert_first(1, "UNDECIDED: the gateway would ask https://127.0.0.1:9")
        .assert_has(&["not asked; add --live"]);
    let explained = explain(&demo.directory, &[&["--live"][..], &args].concat());
    explained.assert_first(1, "NO: ").assert_has(&["mapping-unavailable"]);
}

#[tokio::test]
async fn a_pat_is_undecided_if_the_caching_service_is_not_asked() {
    let demo = Demo::start();
    let pat = demo.pat(&["dcpassticket"]).await;
    let token = demo.login().await;
    let path = demo.directory.join("zowe.yaml");
    let yaml = fs::read_to_string(&path).unwrap();
    // Nothing listens at this address.
    let yaml = yaml.replace(
        "    users: users.yml\n",
        "    users: users.yml\n    zowe:\n      url: https://127.0.0.1:9\n      clientCertificate: {certificate: \
         certs/USER.pem, key: certs/USER.key}\n      revocations: {mode: index}\n",
    );
    fs::write(&path, yaml).unwrap();
    let explained = explain_token(&demo.directory, &pat, PATH);
    explained
        .assert_first(1, "UNDECIDED: the gateway would ask https://127.0.0.1:9")
        .assert_has(&["whether the Personal Access Token is revoked"]);
    // API ML has no revocations of login tokens in the Caching Service.
    explain_token(&demo.directory, &token, PATH).assert_first(0, "YES: ");
}

#[tokio::test]
async fn a_past_request_is_explained_from_the_audit_files() {
    let demo = Demo::start();
    let request = demo.client().get(demo.at(PATH)).bearer_auth("not-a-token");
    let response = request.send().await.unwrap();
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    let args = ["--request-id", &id];
    // The gateway writes its audit log in the background.
    let deadline = Instant::now() + Duration::from_secs(30);
    while explain(&demo.directory, &args).code != Some(0) {
        assert!(Instant::now() < deadline, "the request is not in the audit log");
    }
    let explained = explain(&demo.directory, &args);
    explained
        .assert_first(0, "REFUSED: authentication refused: token-malformed, service dcpassticket")
        .assert_has(&[&id, "audit.unauthenticated.jsonl"]);
    let json = explain(&demo.directory, &["--json", "--request-id", &id]).json();
    assert_eq!(json["records"][0]["reason"], "token-malformed");
    explain(&demo.directory, &["--request-id", "abc"]).assert_first(1, "no record of request abc");
}
