//! The command line: what it prints, where, and the exit codes.

use std::{
    fs,
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    process::{Command, Output, Stdio},
};

use crate::support::{Demo, PROGRAM};
use tempfile::TempDir;

fn run(args: &[&str]) -> Output {
    Command::new(PROGRAM).args(args).output().unwrap()
}

fn run_with_input(args: &[&str], input: &str) -> Output {
    let mut child = Command::new(PROGRAM)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn key_file(directory: &Path, key: &str, mode: u32) -> String {
    let path = directory.join(format!("{mode:o}.key"));
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&path).unwrap();
    file.write_all(key.as_bytes()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path.to_str().unwrap().to_owned()
}

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

/// From the vectors that two implementations agree on.
const VECTOR: [&str; 6] = ["--algorithm", "legacy", "--user", "fw$fv", "--applid", "c"];
const KEY: &str = "F90F48F03C28DC86";
const AT: &str = "4125905645";
const TICKET: &str = "SHSIIPWB";

#[test]
fn a_ticket_is_made_and_evaluated() {
    let directory = TempDir::new().unwrap();
    let file = key_file(directory.path(), KEY, 0o600);
    let with = |command: &str, more: &[&str]| {
        let args = [&["ticket", command][..], &VECTOR, &["--key-file", &file], more].concat();
        run(&args)
    };
    let made = with("generate", &["--at", AT]);
    check(&made, 0, TICKET, "");
    assert_eq!(made.stdout, format!("{TICKET}\n").as_bytes());

    let ticket = ["--ticket", TICKET];
    let evaluate = |more: &[&str]| with("evaluate", &[&ticket, more].concat());
    check(&evaluate(&["--at", AT]), 0, "good: made at 4125905645, age 0 s", "");
    check(&evaluate(&["--at", "4125905700"]), 0, "age 55 s", "");
    check(&evaluate(&["--at", "4125906245"]), 0, "age 600 s", "");
    check(&evaluate(&["--at", "4125906246"]), 1, "refused: ", "");
    check(&evaluate(&["--at", "4125905700", "--window", "10"]), 1, "refused: ", "");
    check(&evaluate(&[]), 1, "refused: ", "");
    check(&with("evaluate", &["--ticket", "SHSIIPWC", "--at", AT]), 1, "refused: ", "");
    check(&with("evaluate", &["--ticket", "SHORT", "--at", AT]), 1, "refused: ", "");

    // Without --at it is about now.
    let now = with("generate", &[]);
    let now = String::from_utf8(now.stdout).unwrap();
    check(&with("evaluate", &["--ticket", now.trim()]), 0, "good: ", "");
}

#[test]
fn the_key_comes_from_standard_input_or_from_a_file_of_ones_own() {
    let directory = TempDir::new().unwrap();
    let args = [&["ticket", "generate"][..], &VECTOR, &["--at", AT, "--key-file"]].concat();
    let with_file = |file: &str| run(&[&args[..], &[file]].concat());

    let from_stdin = run_with_input(&[&args[..], &["-"]].concat(), &format!("{KEY}\n"));
    check(&from_stdin, 0, TICKET, "");
    for mode in [0o644, 0o640, 0o604] {
        let file = key_file(directory.path(), KEY, mode);
        let refused = with_file(&file);
        check(&refused, 2, "", "chmod 600");
        assert!(!String::from_utf8_lossy(&refused.stderr).contains(KEY));
    }
    check(&with_file("/nonexistent"), 2, "", "/nonexistent");
    let wrong = run_with_input(&[&args[..], &["-"]].concat(), "F90F48F03C28DC8\n");
    check(&wrong, 2, "", "16");
    assert!(!String::from_utf8_lossy(&wrong.stderr).contains("F90F48"));
}

#[test]
fn errors_are_one_line_and_help_teaches() {
    let generate = ["ticket", "generate", "--algorithm"];
    let cases: [(&[&str], &str); 7] = [
        (&["serv"], "serve"),
        (&["serve"], "--config"),
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
    for args in [&["--help"][..], &["serve", "--help"], &["ticket", "generate", "--help"]] {
        let output = run(args);
        check(&output, 0, "Usage:", "");
    }
    check(&run(&["--help"]), 0, "Exit codes:", "");
    check(&run(&["--version"]), 0, env!("CARGO_PKG_VERSION"), "");
}

#[test]
fn check_tells_all_problems_at_once() {
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
    // And what does not check does not start.
    let output = run(&["serve", "--config", file]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), problems);
}

#[test]
fn an_address_in_use_is_said_with_the_way_out() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let directory = TempDir::new().unwrap();
    let directory = directory.path().to_str().unwrap();
    let output = run(&["serve", "--demo", "--port", &port, "--data-dir", directory]);
    check(&output, 3, "", "--port");
}

#[test]
fn nothing_is_coloured_when_nobody_looks_or_nobody_wants() {
    for args in [&["--help"][..], &["serve"]] {
        let output = Command::new(PROGRAM).args(args).env("NO_COLOR", "1").output().unwrap();
        assert!(!output.stdout.contains(&0x1b) && !output.stderr.contains(&0x1b));
    }
}
