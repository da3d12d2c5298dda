//! Tests of the command line: output, errors and exit codes.
//!
//! A PassTicket is a short-lived password of z/OS.

use std::{
    fs,
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    process::{Command, Output},
};

use crate::support::{Demo, PROGRAM, start_with_input, with_any_port};
use tempfile::TempDir;

fn run(args: &[&str]) -> Output {
    Command::new(PROGRAM).args(args).output().unwrap()
}

fn run_with_input(args: &[&str], input: &str) -> Output {
    let (child, written) = start_with_input(Command::new(PROGRAM).args(args), input);
    written.unwrap();
    child.wait_with_output().unwrap()
}

/// Writes `key` into a file with the permissions `mode`. Returns the path.
fn key_file(directory: &Path, key: &str, mode: u32) -> String {
    let path = directory.join(format!("{mode:o}.key"));
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&path).unwrap();
    file.write_all(key.as_bytes()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Asserts the exit code, and that standard output and standard error contain these texts. Standard error must be empty
/// if the exit code is 0, and otherwise may have one line.
#[track_caller]
fn check(output: &Output, code: i32, stdout: &str, stderr: &str) {
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{out}{err}");
    assert!(out.contains(stdout), "{out}");
    assert!(err.contains(stderr), "{err}");
    if code == 0 {
        assert_eq!(err, "");
    }
    assert!(err.lines().count() <= 1, "more than one line: {err}");
}

/// A test vector from `crates/passticket/tests`. Two independent implementations agree on it.
const VECTOR: [&str; 6] = ["--algorithm", "legacy", "--user", "fw$fv", "--applid", "c"];
const KEY: &str = "F90F48F03C28DC86";
const AT: &str = "4125905645";
const TICKET: &str = "SHSIIPWB";

#[test]
fn ticket_generate_and_ticket_evaluate_agree_with_a_test_vector() {
    let directory = TempDir::new().unwrap();
    let file = key_file(directory.path(), KEY, 0o600);
    let ticket = |command: &str, more: &[&str]| {
        let args = [&["ticket", command][..], &VECTOR, &["--key-file", &file], more].concat();
        run(&args)
    };
    let generated = ticket("generate", &["--at", AT]);
    check(&generated, 0, TICKET, "");
    assert_eq!(generated.stdout, format!("{TICKET}\n").as_bytes());

    let evaluate = |more: &[&str]| ticket("evaluate", &[&["--ticket", TICKET], more].concat());
    check(&evaluate(&["--at", AT]), 0, "good: made at 4125905645, age 0 s", "");
    check(&evaluate(&["--at", "4125905700"]), 0, "age 55 s", "");
    check(&evaluate(&["--at", "4125906245"]), 0, "age 600 s", "");
    check(&evaluate(&["--at", "4125906246"]), 1, "refused: ", "");
    check(&evaluate(&["--at", "4125905700", "--window", "10"]), 1, "refused: ", "");
    // Without --at, the command evaluates this PassTicket of the year 2100 at the current time.
    let other_key = "refused: not a PassTicket of this user, APPLID and key";
    check(&evaluate(&[]), 1, other_key, "");
    check(&ticket("evaluate", &["--ticket", "SHSIIPWC", "--at", AT]), 1, "refused: ", "");
    check(&ticket("evaluate", &["--ticket", "SHORT", "--at", AT]), 1, "refused: ", "");
    let not_a_ticket = "refused: not a PassTicket";
    check(&ticket("evaluate", &["--ticket", "-21w9pDH", "--at", AT]), 1, not_a_ticket, "");
    check(&ticket("evaluate", &["--ticket", "PASSWORD", "--at", AT]), 1, not_a_ticket, "");

    // A PassTicket of the enhanced-mixed algorithm may begin with a hyphen.
    let mixed = ["--algorithm", "enhanced-mixed", "--user", "USER", "--applid", "ZOWEAPPL"];
    let key = "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F";
    let mixed = [&mixed[..], &["--at", AT, "--key-file", "-"]].concat();
    let generated = run_with_input(&[&["ticket", "generate"], &mixed[..]].concat(), key);
    check(&generated, 0, "-nq_GDwS\n", "");
    let evaluate = |ticket| {
        let args = [&["ticket", "evaluate", "--ticket", ticket], &mixed[..]].concat();
        run_with_input(&args, key)
    };
    check(&evaluate("-nq_GDwS"), 0, "good: made at", "");
    check(&evaluate("-21w9pDH"), 1, other_key, "");

    let now = ticket("generate", &[]);
    let now = String::from_utf8(now.stdout).unwrap();
    check(&ticket("evaluate", &["--ticket", now.trim()]), 0, "good: ", "");
}

#[test]
fn ticket_evaluate_accepts_both_keys_around_the_change_of_the_key() {
    let directory = TempDir::new().unwrap();
    let file = key_file(directory.path(), KEY, 0o600);
    let next = directory.path().join("next");
    fs::write(&next, "AB".repeat(64)).unwrap();
    fs::set_permissions(&next, fs::Permissions::from_mode(0o600)).unwrap();
    let next = next.to_str().unwrap();
    let name = ["--user", VECTOR[3], "--applid", VECTOR[5]];
    let of_next = [&["ticket", "generate", "--algorithm", "enhanced-mixed"], &name[..]].concat();
    let of_next = run(&[&of_next[..], &["--key-file", next, "--at", AT]].concat());
    let of_next = String::from_utf8(of_next.stdout).unwrap();
    // AT is 2100-09-29T12:54:05Z.
    for (from, old, new) in [
        ("2100-09-29T13:05:00Z", 0, 1),
        ("2100-09-29T13:04:05Z", 0, 0),
        ("2100-09-29T12:54:05Z", 0, 0),
        ("2100-09-29T12:44:05Z", 0, 0),
        ("2100-09-29T12:44:04Z", 1, 0),
    ] {
        for (passticket, code) in [(TICKET, old), (of_next.trim(), new)] {
            let args = [
                &["ticket", "evaluate", "--ticket", passticket],
                &VECTOR[..],
                &["--key-file", &file, "--at", AT, "--next-key-file", next],
                &["--next-algorithm", "enhanced-mixed", "--next-from", from],
            ];
            let want = if code == 0 { "good: " } else { "refused: " };
            check(&run(&args.concat()), code, want, "");
        }
    }
    for (more, error) in [
        (&["--next-key-file", next][..], "--next-algorithm"),
        (&["--next-from", "2100-09-29T12:54:05Z"], "--next-key-file"),
        (
            &["--next-key-file", next, "--next-algorithm", "legacy", "--next-from", "2100"],
            "is not an instant; write it in UTC",
        ),
    ] {
        let args = [
            &["ticket", "evaluate", "--ticket", TICKET],
            &VECTOR[..],
            &["--key-file", &file, "--at", AT],
            more,
        ];
        check(&run(&args.concat()), 2, "", error);
    }
}

#[test]
fn the_key_comes_from_standard_input_or_from_a_private_file() {
    let directory = TempDir::new().unwrap();
    let args = [&["ticket", "generate"][..], &VECTOR, &["--at", AT, "--key-file"]].concat();
    let with_file = |file: &str| run(&[&args[..], &[file]].concat());

    let from_stdin = run_with_input(&[&args[..], &["-"]].concat(), &format!("{KEY}\n"));
    check(&from_stdin, 0, TICKET, "");
    for mode in [0o644, 0o660, 0o604] {
        let file = key_file(directory.path(), KEY, mode);
        let refused = with_file(&file);
        check(&refused, 2, "", "chmod 600");
        assert!(!String::from_utf8_lossy(&refused.stderr).contains(KEY));
    }
    // The group of the file can read it. The command accepts this, because its process belongs to the group.
    check(&with_file(&key_file(directory.path(), KEY, 0o640)), 0, TICKET, "");
    check(&with_file("/nonexistent"), 2, "", "/nonexistent");
    let wrong = run_with_input(&[&args[..], &["-"]].concat(), "F90F48F03C28DC8\n");
    check(&wrong, 2, "", "16");
    assert!(!String::from_utf8_lossy(&wrong.stderr).contains("F90F48"));
}

#[test]
fn usage_errors_are_one_line_and_each_command_has_help() {
    let generate = ["ticket", "generate", "--algorithm"];
    let cases: [(&[&str], &str); 9] = [
        (&["serv"], "serve"),
        (&["serve"], "--config"),
        (&["serve"], "--demo"),
        (&["passwd", "A B"], "A-Z 0-9 # @ $"),
        (&["serve", "--demo", "--config", "x"], "cannot be used with"),
        (&["serve", "--config", "x", "--port", "1"], "--port"),
        (&["serve", "--demo", "--port", "x"], "--port"),
        (
            &[&generate[..], &["des", "--user", "A", "--applid", "B", "--key-file", "-"]].concat(),
            "enhanced-upper",
        ),
        (
            &[&generate[..], &["legacy", "--user", "A B", "--applid", "B", "--key-file", "-"]]
                .concat(),
            "A-Z 0-9 # @ $",
        ),
    ];
    for (args, text) in cases {
        let output = run(args);
        check(&output, 2, "", text);
        assert!(output.stdout.is_empty());
        assert!(output.stderr.starts_with(b"passticket-proxy: "), "{args:?}");
    }
    for args in [
        &["--help"][..],
        &["serve", "--help"],
        &["check", "--help"],
        &["init", "--help"],
        &["passwd", "--help"],
        &["ticket", "generate", "--help"],
        &["ticket", "evaluate", "--help"],
        &["esm", "--help"],
        &["esm", "keys", "--help"],
    ] {
        let output = run(args);
        check(&output, 0, "Usage:", "");
    }
    check(&run(&["--help"]), 0, "Exit codes:", "");
    check(&run(&["--version"]), 0, env!("CARGO_PKG_VERSION"), "");
}

#[test]
fn check_prints_all_problems() {
    let directory = TempDir::new().unwrap();
    drop(Demo::start_in(directory.path()));
    let config = directory.path().join("zowe.yaml");
    let file = config.to_str().unwrap();
    check(&run(&["check", "--config", file]), 0, "good, 2 routes", "");

    let good = fs::read_to_string(&config).unwrap();
    let bad = good
        .replace("algorithm: legacy", "algorithm: lagacy")
        .replace("  users: users.yml", "  usres: users.yml")
        .replace("STRICT", "SOMETIMES");
    fs::write(&config, bad).unwrap();
    let output = run(&["check", "--config", file]);
    assert_eq!(output.status.code(), Some(2));
    let problems = String::from_utf8(output.stderr).unwrap();
    for (line, part) in
        [("algorithm: lagacy", "legacy"), ("usres", "users"), ("SOMETIMES", "NONSTRICT")]
    {
        let number = 1 + fs::read_to_string(&config)
            .unwrap()
            .lines()
            .position(|l| l.contains(line))
            .unwrap();
        let place = format!("zowe.yaml:{number}: ");
        assert!(
            problems.lines().any(|problem| problem.contains(&place) && problem.contains(part)),
            "{place} {part}\n{problems}"
        );
    }
    // The gateway does not start with a configuration that fails the check.
    let output = run(&["serve", "--config", file]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), problems);
}

#[test]
fn the_error_for_a_port_in_use_names_the_option_or_the_key() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let directory = TempDir::new().unwrap();
    let data_dir = directory.path().to_str().unwrap();
    let output = run(&["serve", "--demo", "--port", &port, "--data-dir", data_dir]);
    check(&output, 3, "", "--port");

    drop(Demo::start_in(directory.path()));
    let config = directory.path().join("zowe.yaml");
    let yaml = with_any_port(&fs::read_to_string(&config).unwrap());
    let line = 1 + yaml.lines().position(|line| line == "    port: 0").unwrap();
    fs::write(&config, yaml.replace("    port: 0", &format!("    port: {port}"))).unwrap();
    let serve = || {
        let args = ["serve", "--config", config.to_str().unwrap()];
        Command::new(PROGRAM).args(args).env("RUST_LOG", "error").output().unwrap()
    };
    let place = format!("zowe.yaml:{line}: components.gateway.port: cannot listen on 127.0.0.1:");
    check(&serve(), 3, "", &place);

    // TEST-NET-1 (RFC 5737) is never an address of this machine.
    fs::write(&config, yaml.replace("  host: 127.0.0.1", "  host: 192.0.2.1")).unwrap();
    check(&serve(), 3, "", ": components.passticket-proxy.host: cannot listen on 192.0.2.1:0: ");
}

#[test]
fn a_data_dir_that_is_a_file_is_an_error() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("a-file");
    fs::write(&file, "mine").unwrap();
    let path = file.to_str().unwrap();
    let output = run(&["serve", "--demo", "--port", "0", "--data-dir", path]);
    check(&output, 2, "", &format!("--data-dir: {path} is a file; give a directory"));
    assert_eq!(fs::read(file).unwrap(), b"mine");
}

#[test]
fn an_invalid_rust_log_is_an_error_only_for_commands_that_log() {
    let directory = TempDir::new().unwrap();
    let data_dir = directory.path().join("demo");
    let serve = ["serve", "--demo", "--port", "0", "--data-dir", data_dir.to_str().unwrap()];
    for (value, directive) in
        [("verbose", "\"verbose\""), ("info,hyper=loud", "\"hyper=loud\""), ("info,=", "\"=\"")]
    {
        let output = Command::new(PROGRAM).args(serve).env("RUST_LOG", value).output().unwrap();
        check(&output, 2, "", &format!("RUST_LOG: {directive} is not a log directive; write"));
    }
    assert!(!data_dir.exists());
    let version = Command::new(PROGRAM).arg("--version").env("RUST_LOG", "verbose").output();
    check(&version.unwrap(), 0, "passticket-proxy", "");
}

struct DemoFiles(TempDir);

impl DemoFiles {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        drop(Demo::start_in(directory.path()));
        Self(directory)
    }

    fn yaml(&self) -> String {
        fs::read_to_string(self.0.path().join("zowe.yaml")).unwrap()
    }

    fn check(&self, yaml: impl AsRef<[u8]>) -> Output {
        let file = self.0.path().join("checked.yaml");
        fs::write(&file, yaml).unwrap();
        run(&["check", "--config", file.to_str().unwrap()])
    }
}

#[test]
fn errors_about_utf_16_and_ebcdic_name_the_conversion() {
    let demo = DemoFiles::new();
    let yaml = demo.yaml();
    let utf16: Vec<u8> = yaml.encode_utf16().flat_map(u16::to_le_bytes).collect();
    check(&demo.check(&utf16), 2, "", "is UTF-16, not UTF-8; save it as UTF-8, or convert it with");
    let with_byte_order_mark = [&[0xff, 0xfe][..], &utf16].concat();
    check(&demo.check(with_byte_order_mark), 2, "", "iconv -f UTF-16 -t UTF-8");
    // `zowe:` and a line end, encoded in IBM-1047 (EBCDIC).
    let ebcdic = [0xa9, 0x96, 0xa6, 0x85, 0x7a, 0x15];
    check(&demo.check(ebcdic), 2, "", "iconv -f IBM-1047 -t UTF-8");
}

#[test]
fn yaml_anchors_and_merge_keys_work_and_their_expansion_is_limited() {
    let demo = DemoFiles::new();
    let yaml = demo.yaml();
    let entry = yaml.find("      - applid: ZOWEAPPL\n        algorithm").unwrap();
    let merged = format!(
        "{}      - &first\n{}      - <<: *first\n        applid: OTHER\n      - <<: [{{applid: THIRD}}, \
         *first]\n",
        &yaml[..entry],
        yaml[entry..].replacen("      - applid", "        applid", 1),
    );
    let output = demo.check(&merged);
    let problems = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{problems}");
    // The warnings show that `OTHER` and `THIRD` are separate entries.
    for applid in ["OTHER", "THIRD"] {
        assert!(problems.contains(&format!("no service has APPLID {applid};")), "{problems}");
    }

    // Each level has more than ten times as many values as the previous level.
    let mut bomb = "a0: &a0 {k: [x, x, x, x, x, x, x, x, x, x]}\n".to_owned();
    for i in 1..12 {
        let previous = format!("*a{}", i - 1);
        let list = vec![previous.clone(); 10].join(", ");
        bomb.push_str(&format!("a{i}: &a{i} {{<<: {previous}, k{i}: [{list}]}}\n"));
    }
    check(&demo.check(bomb), 2, "", "more than 100000 values, including those that aliases repeat");
}

#[test]
fn errors_about_private_keys_name_the_format_of_the_file() {
    let demo = DemoFiles::new();
    let yaml = demo.yaml();
    let write = |content: &[u8]| {
        let file = demo.0.path().join("other.key");
        fs::write(&file, content).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    };
    let encrypted = "is an encrypted private key, and the gateway has no password for it; add the password to \
                     components.passticket-proxy.passwords, or decrypt the key with: (umask 077; openssl pkey -in ";
    let old = "is an encrypted private key in the old format of OpenSSL, which the gateway cannot decrypt; decrypt it \
               with: (umask 077; openssl pkey -in ";
    let pkcs12 =
        "is a PKCS12 file, not PEM; extract the private key with: (umask 077; openssl pkcs12 -in ";
    for (content, want) in [
        (&b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"[..], encrypted),
        (b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n", old),
        (b"\x30\x82\x09\x7f\x02\x01\x03\x30\x82", pkcs12),
    ] {
        write(content);
        for key in ["certs/localhost.key", "keys/jwt.pem"] {
            let output = demo.check(yaml.replace(key, "other.key"));
            check(&output, 2, "", want);
            let problem = String::from_utf8_lossy(&output.stderr);
            assert!(problem.contains("other.key is a"), "{problem}");
        }
    }
    let certificate = demo.check(yaml.replace("certs/localhost.pem", "other.key"));
    check(&certificate, 2, "", "extract the certificates with: openssl pkcs12 -in ");
}

#[test]
fn passwd_prints_a_line_of_the_users_file() {
    let output = run_with_input(&["passwd", "jane"], "a secret: word\n");
    check(&output, 0, "  JANE: \"$argon2id$v=19$", "");
    let line = String::from_utf8(output.stdout).unwrap();
    assert!(line.ends_with("\"\n") && line.lines().count() == 1, "{line}");
    for (input, want) in [
        ("", "the password is empty"),
        ("\n", "the password is empty"),
        ("two\nlines\n", "the password contains a control character"),
        (&"x".repeat(2000), "the password is longer than 1024 bytes"),
    ] {
        let output = run_with_input(&["passwd", "JANE"], input);
        check(&output, 2, "", want);
        assert!(output.stdout.is_empty());
    }
    // The command refuses a password as an argument, because other users of the machine can see arguments.
    let output = run(&["passwd", "JANE", "secret"]);
    check(&output, 2, "", "unexpected argument");
}

#[test]
fn output_to_pipes_with_no_color_has_no_colours() {
    for args in [&["--help"][..], &["serve"]] {
        let output = Command::new(PROGRAM).args(args).env("NO_COLOR", "1").output().unwrap();
        assert!(!output.stdout.contains(&0x1b) && !output.stderr.contains(&0x1b));
    }
}

#[test]
fn config_reference_prints_one_setting_a_mapping_or_all_settings() {
    let one = run(&["config", "reference", "limits.connections"]);
    check(&one, 0, "number from 1 to 1000000 (connections)", "");
    assert!(one.stdout.starts_with(b"components.passticket-proxy.limits.connections\n"));
    let keys = |args: &[&str]| {
        let output = run(&[&["config", "reference"], args].concat());
        check(&output, 0, "", "");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().filter(|line| line.starts_with("components.")).count()
    };
    let all = keys(&[]);
    assert_eq!(keys(&["limits.connections"]), 1);
    assert_eq!(keys(&["components.passticket-proxy.audit"]), 8);
    assert!(all > 200, "{all}");
    let page = run(&["config", "reference", "--markdown"]);
    check(&page, 0, "# Settings", "");
    let rows = String::from_utf8(page.stdout).unwrap();
    assert_eq!(rows.lines().filter(|line| line.starts_with("| [`")).count(), all);
}

#[test]
fn config_reference_suggests_a_key_for_an_unknown_one() {
    let reference = |key: &str| run(&["config", "reference", key]);
    check(&reference("limits.conections"), 2, "", "did you mean limits.connections?");
    check(&reference("maximumPerUser"), 2, "", "did you mean personalAccessToken.maximumPerUser?");
    check(&reference("a\nb\u{1b}[31m"), 2, "", "is no setting");
    check(&run(&["config", "reference", "--markdown", "ui"]), 2, "", "cannot be used with");
}
