//! Tests of `serve --demo`. They send requests over TLS with the HTTP client `reqwest`.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::support::{Demo, PROGRAM, serve, with_any_port};
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use test_support::{PATIENCE, basic, client, has_curl};

const NO_CREDENTIAL: &str = "ZWEAG160E No authentication provided in the request";
const INVALID_TOKEN: &str = "ZWEAG102E Token is not valid";

/// A function that adds a credential to a request.
type AddCredential = Box<dyn Fn(RequestBuilder) -> RequestBuilder>;

fn header(name: &'static str, value: String) -> AddCredential {
    Box::new(move |request| request.header(name, &value))
}

fn cookie(name: &str, value: &str) -> AddCredential {
    header("cookie", format!("first=1; {name}={value}; last=\"9\""))
}

#[tokio::test]
async fn the_service_accepts_the_ticket_made_for_each_kind_of_credential() {
    let demo = Demo::start();
    let jwt = demo.login().await;
    let pat = demo.pat(&["dcpassticket"]).await;
    let no_header: AddCredential = Box::new(|request| request);
    let cases = [
        ("JWT cookie", demo.client(), cookie("apimlAuthenticationToken", &jwt), "USER"),
        ("JWT bearer", demo.client(), header("authorization", format!("Bearer {jwt}")), "USER"),
        ("PAT cookie", demo.client(), cookie("personalAccessToken", &pat), "USER"),
        ("PAT header", demo.client(), header("PRIVATE-TOKEN", pat.clone()), "USER"),
        ("PAT bearer", demo.client(), header("authorization", format!("Bearer {pat}")), "USER"),
        ("PAT in the JWT cookie", demo.client(), cookie("apimlAuthenticationToken", &pat), "USER"),
        ("certificate of USER", demo.client_of("USER"), no_header, "USER"),
        ("certificate of APIMTST", demo.client_of("APIMTST"), Box::new(|r| r), "APIMTST"),
    ];
    for (name, client, add_credential, user) in cases {
        let get = |path: &str| add_credential(client.get(demo.at(path)));
        let response = get("/dcpassticket/api/v1/passticketTest").send().await.unwrap();
        assert_eq!(response.status(), 200, "{name}");
        assert!(!response.headers().contains_key("x-zowe-auth-failure"), "{name}");
        let evaluated: Value = response.json().await.unwrap();
        assert_eq!(evaluated["user"], user, "{name}");
        assert_eq!(evaluated["applid"], "ZOWEAPPL", "{name}");
        assert!(evaluated["ageSeconds"].as_i64().unwrap() <= 5, "{name}");

        let response = get("/dcpassticket/api/v1/request?x=%201").send().await.unwrap();
        let text = response.text().await.unwrap();
        for secret in [&jwt, &pat] {
            let signature = secret.rsplit('.').next().unwrap();
            assert!(!text.contains(signature), "{name}: {text}");
        }
        let echo: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(echo["path"], "/discoverableclient/api/v1/request?x=%201", "{name}");
        let (basic_user, ticket) = basic(&echo["headers"]);
        assert_eq!((basic_user.as_str(), ticket.len()), (user, 8), "{name}");
        if name.contains("ookie") {
            assert_eq!(echo["cookies"], json!({"first": "1", "last": "\"9\""}), "{name}");
        }
        let headers = &echo["headers"];
        assert_eq!(headers["x-forwarded-for"], "127.0.0.1", "{name}");
        assert_eq!(headers["x-forwarded-proto"], "https", "{name}");
        assert_eq!(headers["x-forwarded-prefix"], "/dcpassticket/api/v1", "{name}");
        let host = demo.url.strip_prefix("https://").unwrap();
        assert_eq!(headers["x-forwarded-host"], host, "{name}");
        assert_eq!(headers["x-forwarded-port"], host.rsplit(':').next().unwrap(), "{name}");
        assert_ne!(headers["host"], host, "{name}");
    }
}

#[tokio::test]
async fn a_failed_credential_is_removed_and_client_and_service_get_the_reason() {
    let demo = Demo::start();
    let jwt = demo.login().await;
    let other_pat = demo.pat(&["dcbypass"]).await;
    let mut tampered = jwt.clone();
    tampered.replace_range(tampered.len() - 6.., "AAAAAA");
    let hs256 = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJVU0VSIn0.c2lnbmF0dXJl".to_owned();
    let none = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJVU0VSIn0.".to_owned();
    let cases = [
        ("no credential", Box::new(|r| r) as AddCredential, NO_CREDENTIAL),
        (
            "user and password",
            Box::new(|r: RequestBuilder| r.basic_auth("USER", Some("validPassword"))),
            NO_CREDENTIAL,
        ),
        ("not a token", header("authorization", "Bearer garbage".to_owned()), INVALID_TOKEN),
        ("wrong signature", cookie("apimlAuthenticationToken", &tampered), INVALID_TOKEN),
        ("algorithm none", header("authorization", format!("Bearer {none}")), INVALID_TOKEN),
        ("algorithm HS256", header("authorization", format!("Bearer {hs256}")), INVALID_TOKEN),
        (
            "PAT header of another service",
            header("PRIVATE-TOKEN", other_pat.clone()),
            INVALID_TOKEN,
        ),
        ("PAT cookie of another service", cookie("personalAccessToken", &other_pat), INVALID_TOKEN),
        ("JWT in the PAT header", header("PRIVATE-TOKEN", jwt.clone()), NO_CREDENTIAL),
        ("PAT header of 16 KiB", header("PRIVATE-TOKEN", "x".repeat(16 * 1024)), INVALID_TOKEN),
    ];
    for (name, add_credential, text) in cases {
        let get = |path: &str| {
            add_credential(demo.client().get(demo.at(path))).header("X-Zowe-Auth-Failure", "forged")
        };
        let response = get("/dcpassticket/api/v1/request").send().await.unwrap();
        assert_eq!(response.status(), 200, "{name}");
        assert_eq!(response.headers()["x-zowe-auth-failure"], text, "{name}");
        let echo: Value = response.json().await.unwrap();
        let headers = echo["headers"].as_object().unwrap();
        assert_eq!(headers["x-zowe-auth-failure"], text, "{name}");
        assert!(!headers.contains_key("authorization"), "{name}: {headers:?}");
        assert!(!headers.contains_key("private-token"), "{name}: {headers:?}");
        let cookies = echo["cookies"].as_object().unwrap();
        assert!(cookies.keys().all(|name| !name.contains("Token")), "{name}: {cookies:?}");

        let response = get("/dcpassticket/api/v1/passticketTest").send().await.unwrap();
        assert_eq!(response.status(), 401, "{name}");
    }
}

#[tokio::test]
async fn bypass_routes_forward_credentials_and_unknown_paths_get_404() {
    let demo = Demo::start();
    let client = demo.client();
    let bypass = client.get(demo.at("/dcbypass/api/v1/request")).basic_auth("me", Some("secret"));
    let echo: Value = bypass.send().await.unwrap().json().await.unwrap();
    assert_eq!(basic(&echo["headers"]), ("me".to_owned(), "secret".to_owned()));

    for (path, status, number) in [
        ("/unknown/api/v1/request", 404, "ZWEAO404E"),
        ("/gateway/api/v1/unknown", 404, "ZWEAO404E"),
        ("/gateway/api/v1/auth/unknown", 404, "ZWEAO404E"),
        ("/dcpassticket/api/v1/..%2fx", 400, "ZWEAO400E"),
        ("/dcpassticket/api/v1/nothing", 404, ""),
    ] {
        let response = client.get(demo.at(path)).send().await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(response.headers()["content-type"], "application/json", "{path}");
        let body = response.text().await.unwrap();
        assert!(body.contains(number), "{path}: {body}");
    }

    let health = client.get(demo.at("/application/health")).send().await.unwrap();
    assert_eq!(health.json::<Value>().await.unwrap(), json!({"status": "UP"}));
}

#[tokio::test]
async fn alpn_selects_http_1_or_http_2() {
    let demo = Demo::start();
    for (client, version) in [
        (demo.builder().http1_only(), reqwest::Version::HTTP_11),
        (demo.builder(), reqwest::Version::HTTP_2),
    ] {
        let client = client.build().unwrap();
        let response = client.get(demo.at("/dcbypass/api/v1/request")).send().await.unwrap();
        assert_eq!(response.version(), version);
        let echo: Value = response.json().await.unwrap();
        let host = demo.url.strip_prefix("https://").unwrap();
        assert_eq!(echo["headers"]["x-forwarded-host"], host);
    }
}

#[tokio::test]
async fn credentials_hop_by_hop_headers_and_malformed_cookies_are_removed() {
    let demo = Demo::start();
    let jwt = demo.login().await;
    let mut cookies: Vec<_> = (0..100).map(|i| format!("c{i}={i}")).collect();
    cookies.insert(50, format!("apimlAuthenticationToken={jwt}"));
    // Without `=`, this text is not a valid cookie.
    cookies.insert(70, "without-equals".to_owned());
    let request = demo
        .builder()
        .http1_only()
        .build()
        .unwrap()
        .get(demo.at("/dcpassticket/api/v1/request"))
        .header("cookie", cookies.join("; "))
        .header("connection", "keep-alive, authorization")
        .header("connection", "x-forwarded-for, x-mine")
        .header("x-mine", "1")
        .header("te", "gzip, trailers")
        .header("authorization", "Basic bm86bm8=");
    let echo: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(basic(&echo["headers"]).0, "USER");
    let cookies = echo["cookies"].as_object().unwrap();
    assert_eq!(cookies.len(), 100);
    let headers = echo["headers"].as_object().unwrap();
    assert!(!headers.contains_key("x-mine"));
    // The gateway sets `TE` itself, because the client accepts trailers (RFC 9110 §10.1.4). It uses HTTP/2 with the
    // service, so it does not send the header `Connection`.
    assert_eq!(headers["te"], "trailers");
    assert!(!headers.contains_key("connection"));
    assert_eq!(headers["x-forwarded-for"], "127.0.0.1");
}

#[tokio::test]
async fn the_second_start_is_quick_and_keeps_the_signing_key() {
    let temporary = tempfile::TempDir::new().unwrap();
    let jwt = Demo::start_in(temporary.path()).login().await;
    let started = Instant::now();
    let demo = Demo::start_in(temporary.path());
    let elapsed = started.elapsed();
    assert!(elapsed < Duration::from_secs(1), "{elapsed:?}");
    let request = demo.client().get(demo.auth("query")).bearer_auth(&jwt);
    assert_eq!(request.send().await.unwrap().status(), 200);
}

// The test needs several threads, because the client must run while the test waits for the program to end.
#[tokio::test(flavor = "multi_thread")]
async fn only_the_owner_can_read_secret_files_and_the_log_has_no_secret() {
    let mut demo = Demo::start();
    let jwt = demo.login().await;
    let pat = demo.pat(&["dcpassticket"]).await;
    for token in [&jwt, &pat] {
        for path in ["/dcpassticket/api/v1/request", "/dcbypass/api/v1/request", "/x"] {
            let request = demo.client().get(demo.at(path)).bearer_auth(token);
            let _ = request.header("PRIVATE-TOKEN", token).send().await.unwrap();
        }
    }
    let secret_files = [
        "certs/ca.key",
        "certs/localhost.key",
        "certs/USER.key",
        "keys/jwt.pem",
        "ptktdata/ZOWEAPPL.key",
        "users.yml",
        "audit.jsonl",
    ];
    for file in secret_files {
        let mode = fs::metadata(demo.directory.join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let key = fs::read_to_string(demo.directory.join("ptktdata/ZOWEAPPL.key")).unwrap();
    demo.program.signal("-TERM");
    let (status, log) = demo.program.wait();
    assert!(status.success(), "{log}");
    assert!(log.contains("listening"), "{log}");
    let audit = fs::read_to_string(demo.directory.join("audit.jsonl")).unwrap();
    assert!(audit.contains("\"event\":\"token-minted\""), "{audit}");
    let signature = |token: &str| token.rsplit('.').next().unwrap().to_owned();
    let secrets = [signature(&jwt), signature(&pat), key.trim().to_owned()];
    for secret in secrets.iter().map(String::as_str).chain(["validPassword"]) {
        assert!(!log.contains(secret) && !audit.contains(secret), "{log}{audit}");
    }
}

/// In the text that the demo prints, a line that begins with two blanks is a command.
#[tokio::test]
async fn the_printed_commands_work_without_a_change() {
    if !has_curl() {
        return;
    }
    let demo = Demo::start();
    let commands: Vec<_> =
        demo.printed.lines().filter_map(|line| line.strip_prefix("  ")).collect();
    assert!(commands.len() == 10, "{}", demo.printed);
    for (command, want) in commands.iter().zip([
        "\"authorization\":\"Basic ",
        "\"user\":\"USER\"",
        "\"user\":\"USER\"",
        "ZWEAG160E",
        "\"tsoUserid\":\"USER\"",
        "ZWEAT403E",
        "\"event\":\"delegated-ticket\"",
        "PERMIT IRRPTAUTH.ZOWEAPPL.* CL(PTKTDATA) ID(ZWESVUSR) ACCESS(UPDATE)",
        "",
        "{\"status\":\"UP\"}",
    ]) {
        let run = || Command::new("sh").args(["-c", command]).output().unwrap();
        let mut output = run();
        // The gateway writes the audit file shortly after the response. So the test repeats `tail` until it prints the
        // record.
        let deadline = Instant::now() + PATIENCE;
        while command.starts_with("tail ")
            && !String::from_utf8_lossy(&output.stdout).contains(want)
            && Instant::now() < deadline
        {
            output = run();
        }
        let (out, err) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{command}\n{out}\n{err}");
        assert!(out.contains(want), "{command}\n{out}\n{err}");
        assert_eq!(err, "", "{command}");
    }
}

#[tokio::test]
async fn the_demo_listens_only_on_loopback() {
    let demo = Demo::start();
    let port: u16 = demo.url.rsplit(':').next().unwrap().parse().unwrap();
    let table = fs::read_to_string(format!("/proc/{}/net/tcp", demo.program.pid())).unwrap();
    let hex = format!("{port:04X}");
    // Columns: number, local address, remote address, state (0A is LISTEN).
    let listening: Vec<_> = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|columns| columns.get(3) == Some(&"0A") && columns[1].ends_with(&hex))
        .map(|columns| columns[1].to_owned())
        .collect();
    assert_eq!(listening, [format!("0100007F:{hex}")]);
}

/// Starts the demo in a directory that the demo must refuse. Returns the error text.
fn start_error(directory: &Path) -> String {
    let data_dir = directory.to_str().unwrap();
    let args = ["serve", "--demo", "--port", "0", "--data-dir", data_dir];
    let output = Command::new(PROGRAM).args(args).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(output.stdout.is_empty());
    error
}

#[tokio::test]
async fn files_of_the_user_are_not_overwritten() {
    let temporary = tempfile::TempDir::new().unwrap();
    for name in ["zowe.yaml", "users.yml", "certs/ca.key", "api-defs/demo.yml"] {
        let directory = temporary.path().join(name.replace('/', "-"));
        let path = directory.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "mine").unwrap();
        let error = start_error(&directory);
        assert!(error.contains(&format!("{} was not made by the demo", path.display())), "{error}");
        assert!(error.contains("--data-dir"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"mine");
    }

    // If the user has edited a file that the demo made, the demo does not overwrite the file.
    let directory = temporary.path().join("edited");
    drop(Demo::start_in(&directory));
    let yaml = directory.join("zowe.yaml");
    let edited = fs::read_to_string(&yaml).unwrap() + "# mine\n";
    fs::write(&yaml, &edited).unwrap();
    let error = start_error(&directory);
    assert!(error.contains(&format!("{} was changed", yaml.display())), "{error}");
    assert!(error.contains("serve --config"), "{error}");
    assert_eq!(fs::read_to_string(&yaml).unwrap(), edited);

    // The error tells the user to delete the file. After that, the demo starts. It keeps the edited identities.yml,
    // because it makes this file only if it is missing.
    fs::remove_file(&yaml).unwrap();
    let identities = directory.join("identities.yml");
    let own = fs::read_to_string(&identities).unwrap() + "# mine\n";
    fs::write(&identities, &own).unwrap();
    Demo::start_in(&directory).login().await;
    assert_eq!(fs::read_to_string(&identities).unwrap(), own);
}

#[tokio::test]
async fn a_copy_of_the_directory_works_as_a_configuration() {
    let temporary = tempfile::TempDir::new().unwrap();
    let (original, copy) = (temporary.path().join("demo"), temporary.path().join("copy"));
    drop(Demo::start_in(&original));
    assert!(Command::new("cp").arg("-r").args([&original, &copy]).status().unwrap().success());
    fs::remove_dir_all(&original).unwrap();
    let yaml = copy.join("zowe.yaml");
    let text = fs::read_to_string(&yaml).unwrap();
    for part in
        ["serve --config COPY/zowe.yaml", "api-defs/demo.yml run only inside the demo", "503"]
    {
        assert!(text.contains(part), "{text}");
    }
    // Adds a user with the line that `passwd` prints.
    let mut passwd = Command::new(PROGRAM)
        .args(["passwd", "JANE"])
        .stdin(Stdio::piped())
        .stdout(fs::OpenOptions::new().append(true).open(copy.join("users.yml")).unwrap())
        .spawn()
        .unwrap();
    passwd.stdin.take().unwrap().write_all(b"a secret: word\n").unwrap();
    assert!(passwd.wait().unwrap().success());

    fs::write(&yaml, with_any_port(&text)).unwrap();
    let (_program, port) = serve(&yaml);
    let client = client(&fs::read(copy.join("certs/ca.pem")).unwrap()).build().unwrap();
    let url = format!("https://localhost:{port}");
    let login = |user, password| {
        let request = client.post(format!("{url}/gateway/api/v1/auth/login"));
        request.basic_auth(user, Some(password)).send()
    };
    assert_eq!(login("USER", "validPassword").await.unwrap().status(), 204);
    assert_eq!(login("JANE", "a secret: word").await.unwrap().status(), 204);
    assert_eq!(login("JANE", "a secret: word ").await.unwrap().status(), 401);
    let routed = client.get(format!("{url}/dcpassticket/api/v1/request")).send().await.unwrap();
    // The service of the demo does not run.
    assert_eq!(routed.status(), 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn trusted_headers_of_clients_are_removed_and_authenticated_answers_are_not_stored() {
    let demo = Demo::start();
    let token = demo.login().await;
    for (authenticated, want) in [(true, Some(("no-store", "nosniff"))), (false, None)] {
        let mut request = demo.client().get(demo.at("/dcpassticket/api/v1/request"));
        for name in ["X-Remote-User", "X-Original-URL", "content_length", "X.Certificate.Public"] {
            request = request.header(name, "forged");
        }
        if authenticated {
            request = request.bearer_auth(&token);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        let header = |name| response.headers().get(name).map(|value| value.to_str().unwrap());
        let got = header("cache-control").zip(header("x-content-type-options"));
        assert_eq!(got, want);
        let body = response.text().await.unwrap();
        assert!(body.contains("user-agent") || body.contains("host"), "{body}");
        assert!(!body.contains("forged"), "{body}");
    }
}

#[tokio::test]
async fn pages_of_other_origins_use_neither_cookies_nor_certificates() {
    let demo = Demo::start();
    let jwt = demo.login().await;
    let own = demo.url.clone();
    let echo = "/dcpassticket/api/v1/request";
    let generate = "/gateway/api/v1/auth/access-token/generate";
    for (path, origin, status) in [
        (echo, "https://evil.example", 403),
        (echo, "null", 403),
        (echo, &own, 200),
        (generate, "https://evil.example", 403),
        (generate, &own, 200),
    ] {
        let request = demo.client_of("USER").post(demo.at(path)).header("origin", origin);
        let request = request.header("cookie", format!("apimlAuthenticationToken={jwt}"));
        let response = request.body(r#"{"validity":1,"scopes":["x"]}"#).send().await.unwrap();
        assert_eq!(response.status(), status, "{path} {origin}");
        let body = response.text().await.unwrap();
        assert_eq!(body.contains("ZWEAT403E"), status == 403, "{body}");
        if path == echo && status == 200 {
            let echo: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(echo["headers"]["origin"], Value::Null);
        }
    }
    // A page of another origin cannot make a browser send the header `Authorization`.
    let request = demo.client().post(demo.at(echo)).header("origin", "https://evil.example");
    let response = request.header("authorization", format!("Bearer {jwt}")).send().await.unwrap();
    assert_eq!(response.status(), 200);
}
