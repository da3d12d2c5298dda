//! Tests of the command `init --from`, which makes a working configuration from the zowe.yaml of an existing Zowe.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use sha2::{Digest, Sha256};
use tempfile::TempDir;
use test_support::{
    client,
    pki::{Authority, SERVER},
};

use crate::support::{PROGRAM, serve};

/// A zowe.yaml of Zowe with each construct that concerns the gateway.
const ZOWE: &str = include_str!("../../src/config/examples/zowe-installation.yaml");

fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = Command::new(PROGRAM).args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

/// A directory with a zowe.yaml without a section of the gateway, and with the certificates that it names.
struct Site(TempDir);

impl Site {
    fn new() -> Self {
        let site = Self(TempDir::new().unwrap());
        for (name, content) in [
            ("server.pem", SERVER.certificate),
            ("server.key", SERVER.key),
            ("ca.pem", Authority::trusted().pem()),
        ] {
            let path = site.path(name);
            fs::write(&path, content).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        let (zowe, _) = ZOWE.split_once("  passticket-proxy:\n").unwrap();
        let zowe = zowe
            .replace("tls/", &format!("{}/", site.0.path().display()))
            .replace("port: 7554", "port: 0");
        fs::write(site.path("zowe.yaml"), zowe).unwrap();
        site
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn init(&self) -> (Option<i32>, String, String) {
        let (from, directory) = (self.path("zowe.yaml"), self.path("gateway"));
        run(&["init", "--from", from.to_str().unwrap(), directory.to_str().unwrap()])
    }
}

fn files(directory: &Path) -> BTreeMap<String, (Vec<u8>, u32)> {
    let mut files = BTreeMap::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(next) = directories.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let name = path.strip_prefix(directory).unwrap().to_str().unwrap().to_owned();
            let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            files.insert(name, (fs::read(&path).unwrap(), mode));
        }
    }
    files
}

#[tokio::test]
async fn the_files_of_init_pass_check_and_the_gateway_serves_with_them() {
    let site = Site::new();
    let (code, out, err) = site.init();
    assert_eq!(code, Some(0), "{out}{err}");
    let directory = site.path("gateway");
    let files = files(&directory);
    let modes: Vec<_> = files.iter().map(|(name, (_, mode))| (name.as_str(), *mode)).collect();
    let want = [
        ("api-defs/zosmf.yml", 0o644),
        ("keys/jwt.pem", 0o600),
        ("passticket-proxy.service", 0o644),
        ("ptktdata/IZUDFLT.key", 0o600),
        ("revocations.redb", 0o600),
        ("saf.yml", 0o600),
        ("zowe.yaml", 0o600),
    ];
    assert_eq!(modes, want);
    for (name, _) in want {
        assert!(out.contains(&format!("wrote {}\n", directory.join(name).display())), "{out}");
    }
    assert!(out.contains("Left to do:\n  1. "), "{out}");
    assert!(out.contains("passticket-proxy esm --esm racf --from-config"), "{out}");
    let key = String::from_utf8(files["ptktdata/IZUDFLT.key"].0.clone()).unwrap();
    assert!(!out.contains(key.trim()) && !out.contains("PRIVATE KEY"), "{out}");

    let config = directory.join("zowe.yaml");
    let config = config.to_str().unwrap();
    let (code, out, err) = run(&["check", "--config", config]);
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.ends_with("good, 1 routes\n"), "{out}");
    let (code, out, err) = run(&["esm", "--esm", "racf", "--from-config", config]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("IZUDFLT"), "{out}");

    let served = directory.clone();
    let serve = tokio::task::spawn_blocking(move || {
        let path = served.join("zowe.yaml");
        let yaml = fs::read_to_string(&path).unwrap();
        fs::write(&path, yaml.replace("host: 0.0.0.0", "host: 127.0.0.1")).unwrap();
        serve(&path)
    });
    let (_program, port) = serve.await.unwrap();
    let client = client(Authority::trusted().pem().as_bytes()).build().unwrap();
    let url = format!("https://localhost:{port}/application/health");
    assert_eq!(client.get(url).send().await.unwrap().status(), 200);

    let unit = String::from_utf8(files["passticket-proxy.service"].0.clone()).unwrap();
    let start = format!("serve --takeover --config {config}\n");
    assert!(unit.contains("Type=notify\n"), "{unit}");
    assert!(unit.contains(&start) && unit.contains("RestartPreventExitStatus=2"), "{unit}");
}

#[test]
fn init_overwrites_no_file() {
    let site = Site::new();
    let directory = site.path("gateway");
    for name in ["zowe.yaml", "keys/jwt.pem", "revocations.redb"] {
        fs::create_dir_all(directory.join(name).parent().unwrap()).unwrap();
        fs::write(directory.join(name), "mine").unwrap();
        let before = files(&directory);
        let (code, _, err) = site.init();
        assert_eq!(code, Some(2), "{err}");
        let want =
            format!("{} exists, and init overwrites no file", directory.join(name).display());
        assert!(err.contains(&want), "{err}");
        assert_eq!(files(&directory), before);
        fs::remove_file(directory.join(name)).unwrap();
    }
    assert_eq!(site.init().0, Some(0));
    let before = files(&directory);
    let (code, _, err) = site.init();
    assert_eq!(code, Some(2));
    assert_eq!(err.lines().count(), 7, "{err}");
    assert_eq!(files(&directory), before);
}

#[test]
fn files_that_are_missing_on_this_machine_are_listed() {
    let site = Site::new();
    let path = site.path("zowe.yaml");
    let yaml = fs::read_to_string(&path).unwrap();
    let yaml =
        yaml.replace(&format!("{}/server.pem", site.0.path().display()), "/zowe/gateway.pem");
    fs::write(&path, yaml).unwrap();
    let (code, out, err) = site.init();
    assert_eq!(code, Some(0), "{err}");
    let want = "  1. Correct these problems of the configuration. Files that are on z/OS must be copied to this machine:\n";
    assert!(out.contains(want) && out.contains("cannot read /zowe/gateway.pem"), "{out}");
}

#[test]
fn init_refuses_a_file_that_has_the_section_or_is_not_yaml() {
    let site = Site::new();
    for (content, want) in [
        ("components:\n  passticket-proxy: {}\n", "is the section of this gateway already"),
        ("a: [\n", "zowe.yaml:"),
    ] {
        fs::write(site.path("zowe.yaml"), content).unwrap();
        let (code, _, err) = site.init();
        assert_eq!(code, Some(2), "{err}");
        assert!(err.contains(want), "{err}");
        assert!(!site.path("gateway").exists());
    }
}

#[test]
fn init_writes_the_section_zaas_and_the_definition_for_the_discovery_service() {
    let site = Site::new();
    let (from, directory) = (site.path("zowe.yaml"), site.path("gateway"));
    let run_with = |more: &[&str]| {
        let args =
            ["init", "--from", from.to_str().unwrap(), directory.to_str().unwrap(), "--zaas"];
        run(&[&args[..], more].concat())
    };
    for url in
        ["http://a.example.com:7558", "https://a.example.com", "https://a:7558/zaas", "a:7558"]
    {
        let (code, _, err) = run_with(&["--zaas-url", url]);
        assert!(
            code == Some(2) && err.contains("write https://, the name of a host and a port"),
            "{err}"
        );
    }
    let urls = ["https://a.example.com:7600", "https://b.example.com:7558/"];
    let (code, out, err) = run_with(&["--zaas-url", urls[0], "--zaas-url", urls[1]]);
    assert_eq!(code, Some(0), "{out}{err}");
    let definition = directory.join("discovery/zaas.yml");
    assert!(out.contains(&format!("wrote {}\n", definition.display())), "{out}");
    let definition = fs::read_to_string(definition).unwrap();
    let instances = "    instanceBaseUrls:\n      - https://a.example.com:7600\n      - https://b.example.com:7558\n    \
                     homePage";
    assert!(definition.contains("  - serviceId: zaas\n"), "{definition}");
    assert!(definition.contains(instances), "{definition}");
    assert!(out.contains("stop Zowe's own ZAAS"), "{out}");

    // In this Zowe, all components use the same certificate, so it is also the certificate of API ML's gateway.
    let config = directory.join("zowe.yaml");
    let yaml = fs::read_to_string(&config).unwrap();
    let der = SERVER.certificate_der();
    let sha256: Vec<_> = Sha256::digest(der).iter().map(|byte| format!("{byte:02X}")).collect();
    let gateway = format!("- sha256: {}   # CN=localhost\n", sha256.join(":"));
    assert!(yaml.contains(&gateway) && yaml.contains("port: 7600\n"), "{yaml}");
    let (code, out, err) = run(&["check", "--config", config.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{out}{err}");

    // The definition is for Zowe's discovery service. If this gateway also reads the definition, it makes no route from
    // it.
    fs::copy(directory.join("discovery/zaas.yml"), directory.join("api-defs/zaas.yml")).unwrap();
    let (code, out, err) = run(&["check", "--config", config.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.ends_with("good, 1 routes\n"), "{out}");
    assert!(
        err.contains("serviceId: is ZAAS, to which neither API ML's gateway nor this gateway"),
        "{err}"
    );
}

#[test]
fn without_the_certificate_of_zowe_init_asks_for_the_certificates_of_gateways() {
    let site = Site::new();
    let path = site.path("zowe.yaml");
    let yaml = fs::read_to_string(&path).unwrap();
    let pem = format!("{}/server.pem", site.0.path().display());
    fs::write(&path, yaml.replace(&pem, "/zowe/gateway.pem")).unwrap();
    let directory = site.path("gateway");
    let (from, to) = (path.to_str().unwrap(), directory.to_str().unwrap());
    let (code, out, err) = run(&["init", "--from", from, "--zaas", to]);
    assert_eq!(code, Some(0), "{out}{err}");
    let want = "components.passticket-proxy.zaas.gateways: is empty; write the certificates";
    assert!(out.contains(want), "{out}");
    let definition = fs::read_to_string(directory.join("discovery/zaas.yml")).unwrap();
    assert!(
        definition.contains("      - https://") && definition.contains(":7558\n"),
        "{definition}"
    );
}
