//! Fuzz targets for the files of a configuration. A temporary directory contains a valid configuration. Most targets
//! write their input into the file that their name describes, and load the configuration.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use passticket_proxy::config::{
    Config, ConfiguredRoute, Problem, Problems, ServiceScheme, read_permissions,
};
use tempfile::TempDir;
use tower_passticket::{
    layer::{Bypass, Routes},
    passticket::UserId,
    saf::{Access, AccessLevel, FileSaf, SafProvider},
};

use crate::support::{CA_CERTIFICATE, SERVER_CERTIFICATE, SERVER_KEY, SIGNING_KEY, ready};

/// A PassTicket key. Some files of the corpus contain this key where it does not belong, such as in a user id.
const KEY: &str = "E001193519561977";
/// A key for enhanced PassTickets.
const ENHANCED: &str = "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F";
const HASH: &str = "$argon2id$v=19$m=16,t=2,p=1$c29tZXNhbHQ$BDS4zUmOv7TxUDVpVjZ8Lg";
const EXAMPLE: &str = include_str!("../../crates/passticket-proxy/src/config/examples/zowe.yaml");

const API_DEF: &str = "services:
  - serviceId: dcpassticket
    instanceBaseUrls: [https://zos:10012/base]
    routes:
      - {gatewayUrl: api/v1, serviceRelativeUrl: /api/v1}
    authentication: {scheme: httpBasicPassTicket, applid: ZOWEAPPL}
";
const SAF: &str = "safAccess:
  ZOWE: {APIML.SERVICES: {UPDATE: [USER]}}
  PTKTDATA: {IRRPTAUTH.*.*: {UPDATE: [ZWESVUSR]}}
";
const IDENTITIES: &str = "identities:
  certificates:
    - {user: USER, subject: 'OU=Staff,O=Example', issuer: 'CN=CA'}
  distributed:
    - {user: USER, name: user@example.com}
";

const STORE_PASSWORD: &str = "secret-of-the-tests";
/// The files of the target `key_stores`.
const STORES: [(&str, &[u8]); 5] = [
    ("stores/key.p12", include_bytes!("../fixtures/key.p12")),
    ("stores/trust.p12", include_bytes!("../fixtures/trust.p12")),
    ("stores/encrypted.key", include_bytes!("../fixtures/encrypted.key")),
    ("stores/clients.crl", include_bytes!("../fixtures/clients.crl")),
    ("stores/password", STORE_PASSWORD.as_bytes()),
];
const STORE_KEYS: &str = "    keystore: {file: stores/key.p12}
    truststore: {file: stores/trust.p12}
";
const STORE_SECTION: &str = "    passwords:
      keystore: {file: stores/password}
      truststore: {file: stores/password}
      signingKey: {file: stores/password}
    crls: stores/clients.crl
";

struct Directory(TempDir);

static DIRECTORY: Mutex<Option<Directory>> = Mutex::new(None);

/// Locks the directory with the configuration. The first call makes this directory, with valid files.
fn directory() -> MutexGuard<'static, Option<Directory>> {
    let mut directory = DIRECTORY.lock().unwrap_or_else(PoisonError::into_inner);
    directory.get_or_insert_with(Directory::new);
    directory
}

impl Directory {
    fn new() -> Self {
        // If possible, the directory is in memory, because a target writes a file for each input.
        let memory = Path::new("/dev/shm");
        let directory = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
        let directory = Self(directory.expect("a temporary directory can be made"));
        for name in ["tls", "api-defs", "ptktdata"] {
            fs::create_dir(directory.0.path().join(name)).expect("a directory can be made");
        }
        for (name, content) in directory.files() {
            directory.write(name, content.as_bytes());
        }
        directory
    }

    fn files(&self) -> [(&'static str, String); 10] {
        [
            ("zowe.yaml", EXAMPLE.to_owned()),
            ("tls/server.pem", SERVER_CERTIFICATE.to_owned()),
            ("tls/server.key", SERVER_KEY.to_owned()),
            ("tls/ca.pem", CA_CERTIFICATE.to_owned()),
            ("jwt.key", SIGNING_KEY.to_owned()),
            ("users.yml", format!("users:\n  USER: '{HASH}'\n")),
            ("saf.yml", SAF.to_owned()),
            ("identities.yml", IDENTITIES.to_owned()),
            ("api-defs/dc.yml", API_DEF.to_owned()),
            ("ptktdata/ZOWEAPPL.key", ENHANCED.to_owned()),
        ]
    }

    fn write(&self, name: &str, content: &[u8]) {
        let path = self.0.path().join(name);
        fs::write(&path, content).expect("a file can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
            .expect("the mode of an own file can be set");
    }

    /// Loads a configuration with a key store, a trust store, an encrypted key and revocation lists. The file `name`
    /// has the content `content`. Then restores the file.
    fn load_stores_with(&self, name: &str, content: &[u8]) -> Result<Config, Problems> {
        let stores = self.0.path().join("stores");
        if !stores.exists() {
            fs::create_dir(&stores).expect("a directory can be made");
            for (name, content) in STORES {
                self.write(name, content);
            }
            let pem = EXAMPLE.find("    pem:\n").expect("the example has this section");
            let end = EXAMPLE.find("\ncomponents:").expect("the example has this section");
            let section = "  passticket-proxy:\n";
            let yaml = format!("{}{STORE_KEYS}{}", &EXAMPLE[..pem], &EXAMPLE[end..]);
            let yaml = yaml.replacen(section, &format!("{section}{STORE_SECTION}"), 1);
            let yaml =
                yaml.replacen("    signingKey: jwt.key", "    signingKey: stores/encrypted.key", 1);
            self.write("stores.yaml", yaml.as_bytes());
        }
        self.write(name, content);
        let env = |name: &str| (name == "ADMAPPL_KEY").then(|| KEY.to_owned());
        let loaded = Config::load(&self.0.path().join("stores.yaml"), &env);
        let (_, valid) = STORES.iter().find(|(known, _)| *known == name).expect("a known file");
        self.write(name, valid);
        Ok(loaded?.config)
    }

    /// Loads the configuration with an identity provider. `content` is the content of the file of technical users.
    fn load_rules(&self, content: &[u8]) -> Result<Config, Problems> {
        let provider =
            "oidc: [{issuer: 'https://idp/a', jwksUri: 'https://idp/keys', audience: gw}]";
        let section = "  passticket-proxy:\n";
        let keys = format!("{section}    {provider}\n    technicalUsers: technical.yml\n");
        let jwt = API_DEF.replace("dcpassticket", "jwt");
        let jwt = jwt.replace("httpBasicPassTicket, applid: ZOWEAPPL", "zoweJwt");
        let yaml = EXAMPLE.replacen(section, &keys, 1);
        self.write("rules.yaml", yaml.as_bytes());
        self.write("technical.yml", content);
        self.write("api-defs/jwt.yml", jwt.as_bytes());
        let env = |name: &str| (name == "ADMAPPL_KEY").then(|| KEY.to_owned());
        let loaded = Config::load(&self.0.path().join("rules.yaml"), &env);
        // Other targets load all files in `api-defs`.
        fs::remove_file(self.0.path().join("api-defs/jwt.yml")).expect("the file was just made");
        let problems = match &loaded {
            Ok(loaded) => loaded.warnings.clone(),
            Err(problems) => problems.iter().cloned().collect(),
        };
        check_problems(&problems, &self.0.path().join("technical.yml"), content);
        Ok(loaded?.config)
    }

    /// Loads the configuration with `content` in the file `name`. Then restores the file. Asserts that neither problems
    /// nor the `Debug` output of the configuration show a secret.
    fn load_with(&self, name: &str, content: &[u8]) -> Result<Config, Problems> {
        self.write(name, content);
        let env = |name: &str| (name == "ADMAPPL_KEY").then(|| KEY.to_owned());
        let loaded = Config::load(&self.0.path().join("zowe.yaml"), &env);
        let (_, valid) = self
            .files()
            .into_iter()
            .find(|(known, _)| *known == name)
            .expect("the name of one of the files");
        self.write(name, valid.as_bytes());
        let problems = match &loaded {
            Ok(loaded) => loaded.warnings.clone(),
            Err(problems) => problems.iter().cloned().collect(),
        };
        check_problems(&problems, &self.0.path().join(name), content);
        assert!(loaded.is_ok() || !problems.is_empty());
        let config = loaded?.config;
        let debug = format!("{config:?}");
        for secret in secrets() {
            assert!(!debug.contains(secret), "{secret}");
        }
        Ok(config)
    }
}

/// Returns the secrets, which no problem and no `Debug` output may contain.
fn secrets() -> impl Iterator<Item = &'static str> {
    let lines = SIGNING_KEY.lines().chain(SERVER_KEY.lines());
    lines.filter(|line| !line.starts_with('-')).chain([KEY, ENHANCED, "BDS4zUmOv7TxUDVpVjZ8Lg"])
}

/// Returns whether each occurrence of the secret in `content` is a separate word. If a secret is only a part of a word,
/// the gateway cannot recognize it, so a problem may show this word.
fn is_whole_word(secret: &str, content: &[u8]) -> bool {
    let secret = secret.as_bytes();
    let separates = |b: &u8| b" \t\r\n\"'{}[],".contains(b);
    let places = content.windows(secret.len()).enumerate().filter(|(_, piece)| *piece == secret);
    places.into_iter().all(|(at, _)| {
        let before = content[..at].trim_ascii_end().last();
        let after = &content[at + secret.len()..];
        let after = after.strip_prefix(b":").unwrap_or(after);
        at.checked_sub(1).is_none_or(|before| separates(&content[before]))
            && before.is_none_or(|b| b"\"'{}[],:-".contains(b))
            && after.first().is_none_or(separates)
    })
}

/// Asserts that each problem is one line. Its text must show no secret that is a separate word of `content`. The key in
/// the place of a problem must never contain a secret. If a problem has a line number in `file`, this line must be in
/// the file, or directly after its end.
fn check_problems(problems: &[Problem], file: &Path, content: &[u8]) {
    // Both `\n` and `\r` break lines in YAML.
    let lines = content.iter().filter(|b| matches!(b, b'\n' | b'\r')).count() + 1;
    for problem in problems {
        let text = problem.to_string();
        assert!(!text.contains(['\n', '\r']), "{text:?}");
        assert!(
            problem.place().file() != file
                || problem.place().line().is_none_or(|line| line <= lines + 1)
        );
        for secret in secrets() {
            assert!(!problem.place().key().contains(secret), "{text}");
            assert!(!text.contains(secret) || !is_whole_word(secret, content), "{text}");
        }
    }
}

/// Calls `run` with the directory. Never returns `None`, because [`directory`] makes the directory.
fn with<T>(run: impl FnOnce(&Directory) -> T) -> Option<T> {
    directory().as_ref().map(run)
}

/// The input is a YAML document, which is read as a file of permissions.
pub(crate) fn yaml(data: &[u8]) {
    with(|directory| {
        let path = directory.0.path().join("other.yml");
        let read = |content: &[u8]| {
            directory.write("other.yml", content);
            read_permissions(&path).map(|profiles| format!("{profiles:?}")).map_err(|problems| {
                let problems: Vec<_> = problems.iter().cloned().collect();
                check_problems(&problems, &path, content);
                problems
            })
        };
        let plain = read(data);
        // A comment before the document must change neither the permissions nor the number of problems. A directive or
        // a byte order mark must be at the beginning of a document, so no comment is added before them.
        if data.starts_with(b"%") || data.starts_with("\u{feff}".as_bytes()) {
            return;
        }
        let with_comment = read(&[b"# a comment\n", data].concat());
        match (plain, with_comment) {
            (Ok(plain), Ok(with_comment)) => assert_eq!(plain, with_comment),
            (Err(plain), Err(with_comment)) => {
                let texts = |problems: &[Problem]| -> Vec<_> {
                    problems
                        .iter()
                        .map(|p| (p.place().key().to_owned(), p.text().to_owned()))
                        .collect()
                };
                assert_eq!(
                    texts(&plain).len(),
                    texts(&with_comment).len(),
                    "{plain:?} {with_comment:?}"
                );
            }
            (plain, with_comment) => {
                panic!("a comment changed the result: {plain:?} {with_comment:?}")
            }
        }
    });
}

pub(crate) fn zowe_yaml(data: &[u8]) {
    let _ = with(|directory| directory.load_with("zowe.yaml", data));
}

/// The input is a Zowe static definition.
pub(crate) fn definitions(data: &[u8]) {
    let Some(Ok(config)) = with(|directory| directory.load_with("api-defs/dc.yml", data)) else {
        return;
    };
    let routes = config.routes.iter().map(|route| route.with_scheme(Bypass));
    let routes = Routes::new(routes).expect("each prefix is unique");
    assert_eq!(routes.iter().count(), config.routes.len());
    for route in routes.iter() {
        let found = routes.find(route.prefix()).map(|route| route.prefix());
        assert_eq!(found, Some(route.prefix()));
        assert!(route.prefix().starts_with(&format!("/{}", route.service())));
        assert_ne!(route.service().as_str(), "gateway");
    }
}

pub(crate) fn users(data: &[u8]) {
    let Some(Ok(config)) = with(|directory| directory.load_with("users.yml", data)) else { return };
    let mut users: Vec<_> = config.logins.users().iter().map(|(user, _)| user).collect();
    users.sort_unstable();
    assert!(users.windows(2).all(|pair| pair[0] != pair[1]));
    assert!(config.logins.users().iter().all(|(_, hash)| hash.expose().starts_with("$argon2")));
}

pub(crate) fn saf_file(data: &[u8]) {
    let Some(Ok(config)) = with(|directory| directory.load_with("saf.yml", data)) else { return };
    // A reload of the file must give the same permissions.
    let reloaded = with(|directory| {
        directory.write("other.yml", data);
        let profiles = read_permissions(&directory.0.path().join("other.yml"));
        FileSaf::new(profiles.expect("the configuration accepted this file"))
    });
    let reloaded = reloaded.expect("the directory exists");
    for user in
        ["USER", "ZWESVUSR", "NOBODY"].map(|user| UserId::new(user).expect("a valid user id"))
    {
        for (class, resource) in [("ZOWE", "APIML.SERVICES"), ("PTKTDATA", "IRRPTAUTH.ZOWEAPPL.A")]
        {
            let check = |saf: &FileSaf, level| ready(saf.check(&user, class, resource, level));
            for level in [AccessLevel::Read, AccessLevel::Update, AccessLevel::Control] {
                assert_eq!(check(&config.saf, level), check(&reloaded, level));
            }
            // UPDATE includes READ.
            let update = check(&reloaded, AccessLevel::Update) == Ok(Access::Granted);
            assert!(!update || check(&reloaded, AccessLevel::Read) == Ok(Access::Granted));
        }
    }
}

pub(crate) fn identities_file(data: &[u8]) {
    let _ = with(|directory| directory.load_with("identities.yml", data));
}

pub(crate) fn technical_users_file(data: &[u8]) {
    let Some(Ok(config)) = with(|directory| directory.load_rules(data)) else { return };
    for service in config.technical_users.keys() {
        let mut routes = config.routes.iter().filter(|route| route.service() == service);
        assert!(routes.clone().next().is_some(), "{service}");
        let is_ticket = |route: &ConfiguredRoute| {
            matches!(route.scheme(), ServiceScheme::HttpBasicPassTicket { .. })
        };
        assert!(routes.all(is_ticket), "{service}");
    }
    let has_rules = !config.technical_users.is_empty();
    assert_eq!(has_rules, config.oidc.iter().any(|it| !it.kept_values.is_empty()));
}

/// The input is a byte that selects a file with a key or a certificate, followed by the content of this file.
pub(crate) fn secret_files(data: &[u8]) {
    let Some((choice, content)) = data.split_first() else { return };
    let name = match choice & 3 {
        0 => "ptktdata/ZOWEAPPL.key",
        1 => "jwt.key",
        2 => "tls/server.key",
        _ => "tls/server.pem",
    };
    let result = with(|directory| directory.load_with(name, content));
    let Some(Err(problems)) = result else { return };
    let text = problems.to_string();
    let lines = content.split(|b| *b == b'\n').filter_map(|line| str::from_utf8(line).ok());
    for line in lines.map(str::trim).filter(|line| line.len() >= 32 && !line.contains(' ')) {
        assert!(!text.contains(line), "{text}");
    }
}

/// The input is a byte that selects a file, followed by the content of this file. The file is a key store, a trust
/// store, an encrypted key or certificate revocation lists.
pub(crate) fn key_stores(data: &[u8]) {
    let Some((choice, content)) = data.split_first() else { return };
    let name = match choice & 3 {
        0 => "stores/key.p12",
        1 => "stores/trust.p12",
        2 => "stores/encrypted.key",
        _ => "stores/clients.crl",
    };
    let result = with(|directory| directory.load_stores_with(name, content));
    let text = match result {
        Some(Ok(config)) => {
            let tls = &config.tls;
            assert!(tls.certificate.starts_with(b"-----BEGIN CERTIFICATE-----"));
            assert!(tls.key.starts_with(b"-----BEGIN PRIVATE KEY-----"));
            assert!(tls.authorities.starts_with(b"-----BEGIN CERTIFICATE-----"));
            format!("{config:?}")
        }
        Some(Err(problems)) => problems.to_string(),
        None => return,
    };
    assert!(!text.contains(STORE_PASSWORD), "{text}");
}
