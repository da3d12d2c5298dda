//! Tests of the command `esm`, which prints commands for the security products RACF, ACF2 and Top Secret (tss) of z/OS.
//! The commands concern PassTickets (short-lived passwords of z/OS). An APPLID is the name of an application on z/OS.
//!
//! The files in tests/golden/esm contain the expected output. To rewrite them, run `UPDATE_GOLDEN=1 cargo test -p
//! passticket-proxy --test main esm`. Read the differences before you commit them.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::support::{Demo, PROGRAM, output_with_input};

const PRODUCTS: [&str; 3] = ["racf", "acf2", "tss"];

fn esm(args: &[&str]) -> Output {
    Command::new(PROGRAM).arg("esm").args(args).output().unwrap()
}

#[track_caller]
fn printed(args: &[&str]) -> String {
    let output = esm(args);
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "{args:?}");
    assert_eq!(output.status.code(), Some(0), "{args:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn check_golden(name: &str, printed: &str) {
    // A z/OS batch job reads only 72 columns of a line. A line that begins with /* or // ends the input of the job.
    for line in printed.lines() {
        assert!(line.len() <= 72, "{line}");
        let ends_input = line.starts_with("/*") || line.starts_with("//");
        assert!(!ends_input || name.contains("key-job"), "{line}");
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/esm").join(name);
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(file, printed).unwrap();
        return;
    }
    let expected = fs::read_to_string(&file).unwrap();
    assert_eq!(printed, expected, "{name} differs; UPDATE_GOLDEN=1 rewrites it");
}

#[test]
fn each_topic_prints_its_golden_file_for_each_product() {
    let topics: [(&str, &[&str]); 6] = [
        ("passticket", &["passticket", "--applid", "izudflt", "--applid", "OMVSAPPL"]),
        (
            "keys-legacy",
            &["keys", "--applid", "IZUDFLT", "--applid", "OMVSAPPL", "--algorithm", "legacy"],
        ),
        ("keys", &["keys", "--applid", "IZUDFLT"]),
        ("keys-mixed", &["keys", "--applid", "IZUDFLT", "--algorithm", "enhanced-mixed"]),
        ("delegate", &["delegate", "--user", "apimtst", "--user", "BATCH01"]),
        (
            "identity",
            &[
                "identity",
                "--user",
                "JANE",
                "--email",
                "Jane.Doe@payroll.acme.example.com",
                "--registry",
                "ldaps://directory.us.acme.example.com:636/ou-payroll",
                "--subject",
                "CN=Jane Doe,OU=Payroll Department,O=Acme\\, Inc.,ST=Ohio,C=US",
                "--issuer",
                "CN=Acme Issuing Authority 2,OU=Security,O=Acme\\, Inc.,C=US",
                "--label",
                "Jane from payroll",
                "--zowesrv",
                "gateway1",
            ],
        ),
    ];
    for product in PRODUCTS {
        for (topic, args) in topics {
            let printed = printed(&[&["--esm", product], args].concat());
            check_golden(&format!("{product}-{topic}.txt"), &printed);
        }
    }
}

/// Adds an APPLID with an enhanced key to the configuration of the demo, which has ZOWEAPPL with a legacy key.
fn configuration(demo: &Demo) -> PathBuf {
    let file = demo.directory.join("zowe.yaml");
    let key = demo.directory.join("enhanced.key");
    fs::write(&key, "A5".repeat(32)).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let with_second_applid = "    services:
      dcpassticket:
        applids:
          api/v1/admin: IZUDFLT
    ptktdata:
      - { applid: izudflt, algorithm: enhanced-mixed, windowSeconds: 600, key: { file: enhanced.key } }";
    let yaml = fs::read_to_string(&file).unwrap();
    assert!(yaml.contains("    ptktdata:\n"), "{yaml}");
    fs::write(&file, yaml.replace("    ptktdata:", with_second_applid)).unwrap();
    file
}

#[test]
fn the_key_job_prints_its_golden_file() {
    for (name, args) in [
        ("load", &["--applid", "IZUDFLT"][..]),
        ("make", &["--applid", "IZUDFLT", "--make"]),
        ("legacy", &["--applid", "IZUDFLT", "--algorithm", "legacy"]),
    ] {
        let job = printed(&[&["--esm", "racf", "key-job"], args].concat());
        check_golden(&format!("racf-key-job-{name}.txt"), &job);
    }
    // There is one job for each key of a configuration, and no job contains a key.
    let demo = Demo::start();
    let file = configuration(&demo);
    let jobs = printed(&["--esm", "racf", "--from-config", file.to_str().unwrap(), "key-job"]);
    assert_eq!(jobs.lines().filter(|line| line.contains(" JOB (")).count(), 2, "{jobs}");
    let has_key = jobs.split(|c: char| !c.is_ascii_hexdigit()).any(|word| word.len() >= 16);
    assert!(!has_key, "{jobs}");
}

#[test]
fn verify_compares_listings_with_a_configuration() {
    let demo = Demo::start();
    let file = configuration(&demo);
    let file = file.to_str().unwrap();
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/esm/verify/samples");
    for product in PRODUCTS {
        let verify = ["--esm", product, "--from-config", file, "verify"];
        check_golden(&format!("{product}-verify.txt"), &printed(&verify));
        let sample = samples.join(format!("{product}.txt"));
        let sample = sample.to_str().unwrap();
        let report = printed(&[&verify[..], &["--listing", sample]].concat());
        check_report(&format!("{product}-verify-report.txt"), &report);
    }
    // The command reads the files of two options `--listing` as one listing. A difference or a missing part gives exit
    // code 1.
    let listing = fs::read_to_string(samples.join("racf.txt")).unwrap();
    let (first, second) = listing.split_once("RLIST PTKTDATA ZOWEAPPL").unwrap();
    let verify = ["--esm", "racf", "--from-config", file, "verify", "--user", "JANE"];
    let run = |first: &str, args: &[&str], stdin: &str| {
        let path = demo.directory.join("listing.txt");
        fs::write(&path, first).unwrap();
        let args = [&verify[..], &["--listing", path.to_str().unwrap()], args].concat();
        let output = output_with_input(Command::new(PROGRAM).arg("esm").args(args), stdin);
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, report) = run(first, &["--listing", "-"], second);
    assert_eq!(code, Some(0), "{report}");
    let (code, report) = run(first, &[], "");
    assert_eq!(code, Some(1), "{report}");
    assert!(report.contains("missing    ZOWEAPPL: run RLIST PTKTDATA ZOWEAPPL"), "{report}");
    assert!(report.ends_with("\n0 different, 2 missing\n"), "{report}");
    let (code, report) =
        run(first, &["--listing", "-"], &second.replace("NO REPLAY PROTECTION", "NONE"));
    assert_eq!(code, Some(1), "{report}");
    assert!(report.contains("different  ZOWEAPPL: replayProtection is false"), "{report}");
    assert!(report.ends_with("\n1 different, 0 missing\n"), "{report}");
    // A file that cannot be read is a failure of the command.
    let output = esm(&[&verify[..], &["--listing", "/nowhere/listing.txt"]].concat());
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{error}");
    assert!(error.contains("cannot read /nowhere/listing.txt"), "{error}");
}

/// Compares a report with a golden file. The line about the clock is left out, because it contains the age of the
/// listing.
#[track_caller]
fn check_report(name: &str, report: &str) {
    let lines = report.lines().filter(|line| !line.contains("clock: "));
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/esm").join(name);
    let report: String = lines.map(|line| format!("{line}\n")).collect();
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(file, report).unwrap();
        return;
    }
    assert_eq!(report, fs::read_to_string(file).unwrap(), "{name} differs");
}

#[test]
fn from_config_prints_all_commands_that_the_configuration_needs() {
    let demo = Demo::start();
    let file = configuration(&demo);
    let file = file.to_str().unwrap();
    for product in PRODUCTS {
        let all = printed(&["--esm", product, "--from-config", file]);
        check_golden(&format!("{product}-from-config.txt"), &all);
        let one = |topic| printed(&["--esm", product, "--from-config", file, topic]);
        let delegate = printed(&["--esm", product, "delegate", "--user", "USER"]);
        assert_eq!(all, one("passticket") + &one("keys") + &delegate);
        let renamed = printed(&["--esm", product, "--from-config", file, "--zowesrv", "GATEWAY1"]);
        assert_eq!(renamed, all.replace("ZWESVUSR", "GATEWAY1"));
    }
    // The output must not contain a PassTicket key of the configuration.
    let all: String =
        PRODUCTS.map(|product| printed(&["--esm", product, "--from-config", file])).concat();
    let has_key = all.split(|c: char| !c.is_ascii_hexdigit()).any(|word| word.len() >= 16);
    assert!(!has_key, "{all}");
}

#[test]
fn order_case_and_duplicates_of_arguments_do_not_matter() {
    let want = printed(&["--esm", "racf", "passticket", "--applid", "A", "--applid", "B"]);
    for args in [
        &["passticket", "--applid", "b", "--applid", "a", "--esm", "racf"][..],
        &["--zowesrv", "zwesvusr", "passticket", "--esm=racf", "--applid=A", "--applid=B"],
        &["--esm", "racf", "passticket", "--applid", "A", "--applid", "B", "--applid", "a"],
    ] {
        assert_eq!(printed(args), want);
    }
}

#[test]
fn invalid_arguments_give_a_one_line_error() {
    let passticket = ["--esm", "racf", "passticket"];
    let identity = ["--esm", "racf", "identity", "--user", "JANE"];
    let invalid_name = "write 1 to 8 characters of A-Z 0-9 # @ $";
    let long = "x".repeat(300);
    for (args, want) in [
        (&["passticket", "--applid", "A"][..], "write --esm racf, --esm acf2 or --esm tss"),
        (&["--esm", "RACF", "passticket", "--applid", "A"], "write racf, acf2 or tss"),
        (&["--esm", "racf"], "add passticket, keys, key-job, delegate, identity or verify, or"),
        (&["--esm", "racf", "verify"], "add --from-config with a zowe.yaml"),
        (&["--esm", "racf", "key-job"], "--applid is missing; write --applid"),
        (&["--esm", "acf2", "key-job", "--applid", "A"], "key-job is only for RACF"),
        (
            &["--esm", "racf", "key-job", "--applid", "A", "--algorithm", "legacy", "--make"],
            "--make is only for enhanced keys",
        ),
        (&["--esm", "racf", "key-job", "--make", "--from-config", "no.yaml"], "leave out --make"),
        (&passticket, "--applid is missing; write --applid"),
        (&["--esm", "racf", "keys"], "--applid is missing; write --applid"),
        (&["--esm", "racf", "delegate"], "--user"),
        (&["--esm", "racf", "identity", "--user", "A"], "--email"),
        (&[&passticket[..], &["--applid", "A B"]].concat(), invalid_name),
        (&[&passticket[..], &["--applid", "A'B"]].concat(), invalid_name),
        (&[&passticket[..], &["--applid", "A\nB"]].concat(), invalid_name),
        (&[&passticket[..], &["--applid", "A)B"]].concat(), invalid_name),
        (&[&passticket[..], &["--applid", ""]].concat(), invalid_name),
        (&[&passticket[..], &["--applid", "NINECHARS"]].concat(), invalid_name),
        (&[&passticket[..], &["--applid", "A", "--zowesrv", "ZWE SV"]].concat(), invalid_name),
        (&["--esm", "tss", "delegate", "--user", "A", "--user", "B*"], invalid_name),
        (&["--esm", "racf", "keys", "--applid", "A", "--algorithm", "des"], "write legacy"),
        (
            &[&passticket[..], &["--applid", "A", "--from-config", "no.yaml"]].concat(),
            "leave out --applid",
        ),
        (
            &["--esm", "racf", "keys", "--algorithm", "legacy", "--from-config", "no.yaml"],
            "leave out --applid",
        ),
        (
            &["--esm", "racf", "delegate", "--user", "A", "--from-config", "no.yaml"],
            "this topic cannot be combined with --from-config",
        ),
        (&[&identity[..], &["--email", "a@b"]].concat(), "--registry"),
        (&[&identity[..], &["--registry", "r", "--subject", "CN=a"]].concat(), "--email"),
        (&[&identity[..], &["--issuer", "CN=a"]].concat(), "--subject"),
        (&[&identity[..], &["--email", "a", "--registry", "r"]].concat(), "write name@domain"),
        (
            &[&identity[..], &["--email", "a@b')\nDELUSER X", "--registry", "r"]].concat(),
            "write name@domain",
        ),
        (
            &[&identity[..], &["--email", "a@b", "--registry", "*"]].concat(),
            "write at most 255 letters",
        ),
        (
            &[&identity[..], &["--email", "a@b", "--registry", &long]].concat(),
            "is longer than 255 characters",
        ),
        (
            &[&identity[..], &["--subject", "C=US,O=Acme,CN=a"]].concat(),
            "the common name, which must be the first part",
        ),
        (
            &[&identity[..], &["--subject", "CN=a(b"]].concat(),
            "write it like CN=Jane Doe,OU=Payroll,O=Acme,C=US",
        ),
        (
            &[&identity[..], &["--subject", "CN=a", "--label", "a \"b\""]].concat(),
            "write at most 32 letters",
        ),
        (
            &["--esm", "acf2", "identity", "--user", "A", "--subject", "CN=O'Neil"],
            "cannot be written safely in a command of ACF2; write the command by hand",
        ),
    ] {
        let output = esm(args);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "", "{args:?}");
        assert_eq!(error.lines().count(), 1, "{args:?}: {error}");
        assert!(error.contains(want), "{args:?}: {error}");
    }
    // A problem of the configuration also gives exit code 2.
    let output = esm(&["--esm", "racf", "--from-config", "/nowhere/zowe.yaml"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("/nowhere/zowe.yaml"), "{error}");
}

#[test]
fn the_examples_in_the_help_work() {
    let help = printed(&["--help"]);
    let joined = help.replace("\\\n", " ");
    let examples: Vec<_> = joined.lines().filter(|line| line.contains("proxy esm --esm")).collect();
    assert_eq!(examples.len(), 9, "{help}");
    for example in examples {
        let (_, args) = example.split_once("proxy esm ").unwrap();
        // This example needs a file that the test does not have.
        if args.contains("--from-config") {
            continue;
        }
        // Splits the example into words. A text between apostrophes is one word.
        let args: Vec<_> = args
            .split('\'')
            .enumerate()
            .flat_map(|(i, piece)| match i % 2 {
                0 => piece.split_whitespace().collect(),
                _ => vec![piece],
            })
            .collect();
        printed(&args);
    }
}
