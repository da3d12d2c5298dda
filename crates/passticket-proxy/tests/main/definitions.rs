//! Tests of `check` and `serve --config` with the service definitions in `tests/definitions`. These files have
//! each construct that the definitions of Zowe have.

use std::{fs, path::Path, process::Command};

use tempfile::TempDir;

use crate::support::{Demo, PROGRAM};

const DEFINITIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/definitions");

/// The settings with which the demo accepts the definitions. For example, they replace schemes that need another
/// server.
const OVERRIDES: &str = "    services:
      ibmzosmf: {scheme: httpBasicPassTicket, applid: ZOWEAPPL, clientBasic: verify}
      jwt: {scheme: bypass}
      saf: {scheme: httpBasicPassTicket}
      certificate: {scheme: bypass}
      noapplid: {applid: ZOWEAPPL, responseSeconds: 5, onFailure: forward-unchanged}
";

/// Runs `check` with the definitions and these lines in `components.passticket-proxy`. Returns the exit code, standard
/// output and standard error.
fn check(lines: &str) -> (i32, String, String) {
    let directory = TempDir::new().unwrap();
    drop(Demo::start_in(directory.path()));
    let definitions = directory.path().join("api-defs");
    fs::remove_file(definitions.join("demo.yml")).unwrap();
    for entry in fs::read_dir(Path::new(DEFINITIONS)).unwrap() {
        let path = entry.unwrap().path();
        let copy = definitions.join(path.file_name().unwrap());
        fs::write(copy, fs::read(&path).unwrap()).unwrap();
    }
    let file = directory.path().join("zowe.yaml");
    let yaml = fs::read_to_string(&file).unwrap() + lines;
    fs::write(&file, yaml).unwrap();
    let output =
        Command::new(PROGRAM).args(["check", "--config", file.to_str().unwrap()]).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn definitions_of_zowe_load_unchanged_and_each_setting_without_effect_causes_a_warning() {
    let (code, printed, warnings) = check(OVERRIDES);
    assert_eq!(code, 0, "{warnings}");
    assert!(printed.contains("zowe.yaml: good, 11 routes\n"), "{printed}");
    let mut found: Vec<_> = warnings.lines().collect();
    for part in [
        "static.yml:79: additionalServiceMetadata[0].authentication.applid: has no effect with scheme bypass",
        "tiles.yaml:1: has no services, so this file defines no route",
    ] {
        let at = found.iter().position(|line| line.contains(part));
        found.remove(at.unwrap_or_else(|| panic!("no warning {part}: {warnings}")));
    }
    assert_eq!(found, [""; 0]);
}

#[test]
fn check_names_the_routes_that_remove_basic_credentials_of_clients() {
    let (_, printed, _) = check(OVERRIDES);
    let named: Vec<_> = printed
        .lines()
        .filter_map(|line| line.split_once(": Authorization: Basic of clients is removed"))
        .collect();
    let routes: Vec<_> = named.iter().map(|(route, _)| *route).collect();
    assert_eq!(routes, ["/saf/api/v1", "/ticket/api/v1"]);
    assert_eq!(
        named[1].1,
        ", unless the password is a Personal Access Token; for clients with a password, set \
         components.passticket-proxy.services.ticket.clientBasic to verify (the gateway checks the password) or \
         forward (the service receives it)"
    );
}

#[test]
fn settings_of_unknown_services_are_errors_with_a_suggestion() {
    let (code, _, problems) = check(&OVERRIDES.replace("noapplid", "noaplid"));
    assert_eq!(code, 2);
    let want = "services.noaplid: service noaplid has no api-def; did you mean noapplid?";
    assert!(problems.contains(want), "{problems}");
}
