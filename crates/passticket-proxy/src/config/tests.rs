//! Tests that load a zowe.yaml and all files that it names.

use std::{
    collections::BTreeMap, fs, num::NonZeroU32, os::unix::fs::PermissionsExt, sync::LazyLock,
};

use proptest::prelude::*;
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;
use test_support::{
    pki::{self, USER},
    tickets::LEGACY_KEY,
};

use super::{reader::Section, *};
use tower_passticket::{
    access_log::AccessLogFormat,
    gateway::StrictHosts,
    identity::Registry,
    layer::{
        Bypass, CorsRules, OnFailure, Routes, SecurityHeaders, ServiceProtocol, TechnicalUserRule,
    },
    passticket::Replay,
    saf::{Access, AccessLevel, SafProvider},
};

const EXAMPLE: &str = include_str!("examples/zowe.yaml");
const INSTALLATION: &str = include_str!("examples/zowe-installation.yaml");
pub(super) const ENHANCED: &str =
    "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F";
const HASH: &str = "$argon2id$v=19$m=16,t=2,p=1$c29tZXNhbHQ$BDS4zUmOv7TxUDVpVjZ8Lg";
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
    - {user: OTHER, name: o@example.com, registry: ldap://elsewhere}
";

pub(super) const DISTRIBUTED: &str =
    "identities: {distributed: [{user: USER, name: user@example.com}]}";

const IDENTITY_MAPPER: &str = "          identityMapperUrl: https://zss.example/dn";

const INVALID_CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

static KEY: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::from_pem(pki::SIGNING_KEY).unwrap());
static CERTIFICATE: LazyLock<String> = LazyLock::new(|| {
    CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&*KEY).unwrap().pem()
});

/// A temporary directory with a copy of `examples/zowe.yaml` and all files that it names.
pub(super) struct Setup(TempDir);

impl Setup {
    pub(super) fn new() -> Self {
        let setup = Self(tempfile::tempdir().unwrap());
        for directory in ["tls", "api-defs", "ptktdata"] {
            fs::create_dir(setup.0.path().join(directory)).unwrap();
        }
        for (name, content, mode) in [
            ("zowe.yaml", EXAMPLE, 0o644),
            ("tls/server.pem", &CERTIFICATE, 0o644),
            ("tls/server.key", &KEY.serialize_pem(), 0o600),
            ("tls/ca.pem", CERTIFICATE.trim_end(), 0o644),
            ("jwt.key", &KEY.serialize_pem(), 0o600),
            ("users.yml", &format!("users:\n  USER: '{HASH}'\n"), 0o600),
            ("saf.yml", SAF, 0o644),
            ("identities.yml", IDENTITIES, 0o644),
            ("api-defs/dc.yml", API_DEF, 0o644),
            ("ptktdata/ZOWEAPPL.key", ENHANCED, 0o600),
        ] {
            setup.write(name, content, mode);
        }
        setup
    }

    pub(super) fn write(&self, name: &str, content: &str, mode: u32) {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Sets the mode (permissions) of a file. If `name` is empty, sets the mode of the directory.
    fn set_mode(&self, name: &str, mode: u32) {
        let path = self.0.path().join(name);
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Replaces the first occurrence of `from` in the zowe.yaml by `to`. Panics if the file does not contain `from`.
    fn edit(&self, from: &str, to: &str) {
        let path = self.0.path().join("zowe.yaml");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(path, text.replacen(from, to, 1)).unwrap();
    }

    pub(super) fn load(&self) -> Result<Loaded, Problems> {
        let env = |name: &str| (name == "ADMAPPL_KEY").then(|| LEGACY_KEY.to_owned());
        Config::load(&self.0.path().join("zowe.yaml"), &env)
    }

    /// Returns the errors. If there are no errors, returns the warnings. The file paths in them are relative to the
    /// temporary directory.
    fn problems(&self) -> Vec<String> {
        let problems = match self.load() {
            Ok(loaded) => loaded.warnings,
            Err(problems) => problems.iter().cloned().collect(),
        };
        let directory = format!("{}/", self.0.path().display());
        problems.iter().map(|problem| problem.to_string().replace(&directory, "")).collect()
    }
}

#[test]
fn an_unused_url_of_zss_causes_a_warning() {
    let zss = "  passticket-proxy:\n    zss: {url: 'https://zss:7557'}\n";
    let setup = Setup::new();
    setup.edit("  passticket-proxy:\n", zss);
    let [warning] = &setup.problems()[..] else { panic!("{:?}", setup.problems()) };
    assert!(
        warning.contains("zss.url: has no effect, because components.gateway.apiml.security.auth.provider is not saf"),
        "{warning}"
    );
    let setup = Setup::new();
    setup.edit("  passticket-proxy:\n", zss);
    setup.write("api-defs/dc.yml", &API_DEF.replace("httpBasicPassTicket", "safIdt"), 0o644);
    assert_eq!(setup.problems(), [""; 0]);
}

#[test]
fn the_example_zowe_yaml_loads() {
    let setup = Setup::new();
    let Loaded { config, warnings } = setup.load().unwrap();
    assert_eq!(warnings, []);
    assert_eq!(config.listen.address, "127.0.0.1:7554".parse().unwrap());
    assert_eq!(config.listen.port_at.line(), Some(11));
    assert_eq!(config.admin.as_ref().unwrap().address, "127.0.0.1:7555".parse().unwrap());
    let proxies = config.trusted_proxies.as_ref().unwrap();
    for (ip, want) in [("192.0.2.7", true), ("192.0.3.7", false)] {
        assert_eq!(proxies.contains(ip.parse().unwrap()), want, "{ip}");
    }
    assert!(config.proxy_protocol.is_none());
    assert_eq!(config.encryption, Encryption::Tls);
    assert_eq!(config.tls.certificate, CERTIFICATE.as_bytes());
    assert_eq!(config.tls.key.as_slice(), KEY.serialize_pem().as_bytes());
    assert_eq!(config.tls.authorities, format!("{}\n", CERTIFICATE.trim_end()).as_bytes());
    assert_eq!(config.verify, Verification::Strict);
    let [(user, hash)] = config.logins.users() else { panic!("expected one user") };
    assert_eq!((user.as_str(), hash.expose()), ("USER", HASH.to_owned()));
    assert!(config.pats && config.client_certificates && config.custom_headers.is_some());
    assert_eq!(config.max_validity, Validity::MAX);
    assert!(!config.pat_prefix);
    setup.edit("prefix: false", "prefix: true");
    assert!(setup.load().unwrap().config.pat_prefix);
    setup.edit("prefix: true", "prefix: false");
    assert_eq!(config.evict_every, Duration::from_secs(86_400));
    assert!(config.token_refresh);
    assert_eq!(config.compatibility, Compatibility::Documented);
    assert_eq!(config.revocations, setup.0.path().join("revocations.redb"));
    assert_eq!(config.takeover_socket, setup.0.path().join("run/takeover"));
    let user = UserId::new("USER").unwrap();
    let saf = config.saf.try_check_now(&user, "ZOWE", "APIML.SERVICES", AccessLevel::Read);
    assert_eq!(saf.unwrap(), Ok(Access::Granted));
    assert_eq!(config.gateway_user.as_str(), "ZWESVUSR");
    assert_eq!(config.saf_file, Some(setup.0.path().join("saf.yml")));
    assert!(matches!(config.certificate_mapping, CertificateMapping::File(_)));
    let delegation = config.delegation.as_ref().unwrap();
    assert_eq!(delegation.registry.as_str(), "ldaps://us.example.com");
    assert!(matches!(delegation.mapping, IdentityMapping::File(_)));
    assert_eq!(delegation.grants.as_ref().map(Vec::len), Some(2));
    assert_eq!(delegation.protected, ["IBMUSER", "ZWESVUSR"].map(|u| UserId::new(u).unwrap()));
    assert_eq!(delegation.calls_per_minute.map(NonZeroU32::get), Some(60));
    let audit = config.audit.as_ref().unwrap();
    assert_eq!(audit.file, setup.0.path().join("audit.jsonl"));
    assert_eq!(audit.unauthenticated, setup.0.path().join("audit.unauthenticated.jsonl"));
    let access_log = config.access_log.as_ref().unwrap();
    assert_eq!(access_log.file, setup.0.path().join("access.jsonl"));
    assert_eq!(access_log.format, AccessLogFormat::Json);
    assert_eq!(access_log.rotate_at, Some(100 * 1024 * 1024));
    assert_eq!(access_log.keep.map(NonZeroU32::get), Some(20));
    assert_eq!(config.log_format, LogFormat::Text);
    assert_eq!(config.strip_headers, ["x-zowe-user", "x-zowe-passticket"]);
    let seconds = |timeouts: TimeoutSettings| {
        let TimeoutSettings { connect, response, handshake, drain, provider, queue, .. } = timeouts;
        let TimeoutSettings { idle, send, receive, service_body, .. } = timeouts;
        [connect, response, handshake, drain, provider, queue, idle, send, receive, service_body]
            .map(|timeout| timeout.as_secs())
    };
    assert_eq!(seconds(config.timeouts), [60, 60, 10, 30, 5, 5, 75, 60, 60, 300]);
    assert_eq!(config.limits, LimitSettings::default());

    let routes = Routes::new(config.routes.iter().map(|route| route.with_scheme(Bypass))).unwrap();
    let route = |path| {
        let prefix = routes.find(path).unwrap().prefix();
        let route = config.routes.iter().find(|route| route.prefix() == prefix).unwrap();
        let Some(applid) = route.scheme().applid() else { panic!("{path}") };
        assert_eq!(route.on_failure(), OnFailure::Reject);
        assert_eq!(route.body_timeout(), Some(Duration::from_secs(600)));
        let replay = config.profiles.get(&applid).unwrap().replay();
        assert_eq!(replay == Replay::Allowed, applid.as_str() == "ADMAPPL");
        (applid.to_string(), route.route.upstream().unwrap().to_string())
    };
    let zos = "https://zos:10012/base/api/v1";
    assert_eq!(route("/dcpassticket/api/v1/x"), ("ZOWEAPPL".to_owned(), zos.to_owned()));
    let admin = format!("{zos}/admin");
    assert_eq!(route("/dcpassticket/api/v1/admin/x"), ("ADMAPPL".to_owned(), admin));

    let changes = RequestHeaders::default()
        .with_removed(HeaderName::from_static("x-tenant"))
        .and_then(|changes| changes.with_kept(HeaderName::from_static("x-real-ip")));
    let service = ServiceId::new("dcpassticket").unwrap();
    assert_eq!(config.request_headers, [(service, changes.unwrap())]);
    assert_eq!(config.strict_transport_security, Some(StrictTransportSecurity::default()));

    let debug = format!("{config:?}");
    let pem = KEY.serialize_pem();
    let key_line = pem.lines().nth(3).unwrap();
    let bytes = format!("{:?}", &pem.as_bytes()[..4]);
    for secret in [LEGACY_KEY, ENHANCED, HASH, "c29t", key_line, bytes.trim_matches(['[', ']'])] {
        assert!(!debug.contains(secret), "{debug}");
    }
}

#[test]
fn the_zowe_yaml_of_an_installation_loads_with_the_section_of_the_gateway() {
    let setup = Setup::new();
    setup.write("zowe.yaml", INSTALLATION, 0o644);
    let Loaded { config, warnings } = setup.load().unwrap();
    let keys: Vec<_> = warnings.iter().map(|warning| warning.place().key()).collect();
    assert_eq!(keys, ["components.gateway.apiml.security.authorization.provider"]);
    assert_eq!(config.listen.address, "0.0.0.0:7554".parse().unwrap());
    let Logins::Zosmf(zosmf) = &config.logins else { panic!("{:?}", config.logins) };
    assert_eq!(zosmf.address.to_string(), "https://zosmf.example.com:443/");
    assert_eq!(config.routes.len(), 1);
    // The section may be at the top level instead, as in older files.
    let (zowe, ours) = INSTALLATION.split_once("  passticket-proxy:\n").unwrap();
    let ours = ours.replace("\n  ", "\n");
    let old = format!("{zowe}passticketProxy:\n  {}", ours.trim_start());
    setup.write("zowe.yaml", &old, 0o644);
    assert_eq!(setup.load().unwrap().config.routes.len(), 1);
    let both = format!("{INSTALLATION}passticketProxy: {{}}\n");
    setup.write("zowe.yaml", &both, 0o644);
    let line = |key: &str| 1 + both.lines().position(|line| line.trim() == key).unwrap();
    let [problem] = &setup.problems()[..] else { panic!("{:?}", setup.problems()) };
    let (old, component) = (both.lines().count(), line("passticket-proxy:"));
    let want = format!("zowe.yaml:{old}: passticketProxy: is the old place of the section");
    assert!(problem.starts_with(&want), "{problem}");
    assert!(problem.contains(&format!("is in line {component};")), "{problem}");
}

#[test]
fn security_headers_can_be_changed_and_turned_off() {
    let setup = Setup::new();
    let added = |config: &Config| -> Vec<_> {
        config.routes.iter().map(ConfiguredRoute::security_headers).collect()
    };
    let config = setup.load().unwrap().config;
    assert_eq!(added(&config), [SecurityHeaders::AddMissing; 2]);
    setup.edit("addSecurityHeaders: true ", "addSecurityHeaders: false ");
    setup.edit("maxAge: 31536000", "maxAge: 60");
    setup.edit("includeSubDomains: false", "includeSubDomains: true");
    let config = setup.load().unwrap().config;
    assert_eq!(added(&config), [SecurityHeaders::Unchanged; 2]);
    let policy = config.strict_transport_security.unwrap();
    assert_eq!(policy.max_age, Duration::from_secs(60));
    assert_eq!(policy.hosts, StrictHosts::WithSubdomains);
    setup.edit("strictTransportSecurity:            # the header of this name, in each response\n      enabled: true",
        "strictTransportSecurity:\n      enabled: false");
    assert_eq!(setup.load().unwrap().config.strict_transport_security, None);
}

#[test]
fn with_zowe_v3_and_without_cors_pages_of_other_origins_are_refused() {
    let setup = Setup::new();
    let policy = |setup: &Setup| setup.load().unwrap().config.origins;
    let origins = ["https://zowe.example:443", "https://zowe.example:7554"];
    let origins = origins.map(|origin| origin.parse().unwrap());
    setup.edit("zowe:", "zowe:\n  externalDomains: zowe.example\n  externalPort: 443");
    let own = OriginPolicy::default().with_own_origins(origins);
    assert_eq!(format!("{:?}", policy(&setup)), format!("{own:?}"));
    setup.edit("compatibility: documented", "compatibility: zowe-v3");
    let refused = own.with_foreign_origins(ForeignOrigins::Refused);
    assert_eq!(format!("{:?}", policy(&setup)), format!("{refused:?}"));
    // `corsEnabled` alone allows no page. `allowedOrigins` allows the pages of the listed origins.
    setup.edit("    apiml:", "    apiml:\n      service: {corsEnabled: true}");
    assert_eq!(format!("{:?}", policy(&setup)), format!("{refused:?}"));
    setup.edit(
        "compatibility: zowe-v3",
        "cors: {allowedOrigins: https://app}\n    compatibility: zowe-v3",
    );
    let app = CorsRules::for_origins(["https://app".parse().unwrap()]);
    let service = |id| ServiceId::new(id).unwrap();
    let with_cors =
        refused.with_cors(service("gateway"), app.clone()).with_cors(service("application"), app);
    assert_eq!(format!("{:?}", policy(&setup)), format!("{with_cors:?}"));
}

#[test]
fn the_examples_of_users_saf_identities_and_api_defs_load() {
    let check = |yaml: &str, read: &dyn Fn(Section<'_>)| {
        let report = Report::default();
        read(Document::parse("f".into(), yaml.as_bytes(), &report).section(&report));
        let ((), warnings) = report.finish(Some(())).unwrap();
        assert_eq!(warnings, []);
    };
    check(include_str!("examples/users.yml"), &|root| assert_eq!(users::read(root).len(), 1));
    check(include_str!("examples/saf.yml"), &|root| assert_eq!(saf::read(root).len(), 4));
    check(include_str!("examples/identities.yml"), &|root| {
        let read = identities::read(root, None, &[]);
        assert!(read.certificates.is_some() && read.distributed.is_some());
    });
    check(include_str!("examples/api-def.yml"), &|root| {
        assert_eq!(api_defs::read(root).services[0].routes.len(), 1);
    });
}

#[test]
fn at_tls_causes_a_warning_unless_the_host_is_loopback() {
    let setup = Setup::new();
    setup.edit("zowe:\n", "zowe:\n  network: {server: {tls: {attls: true}}}\n");
    setup.edit("x509:\n          enabled: true", "x509:\n          enabled: false");
    let [problem] = &setup.problems()[..] else { panic!("{:?}", setup.problems()) };
    assert!(problem.contains("delegatePassticket: needs client certificates, which AT-TLS does"));

    setup.edit("delegatePassticket: true", "delegatePassticket: false");
    let Loaded { config, .. } = setup.load().unwrap();
    assert_eq!(config.encryption, Encryption::AtTls);
    let warned = |problems: &[String]| problems.iter().any(|p| p.contains("plain HTTP on"));
    assert!(!warned(&setup.problems()), "{:?}", setup.problems());

    setup.edit("host: 127.0.0.1", "#");
    let problems = setup.problems();
    let want = "zowe.yaml:2: zowe.network.server.tls.attls: makes the gateway serve plain HTTP on \
                0.0.0.0: without AT-TLS in front of it, passwords";
    assert!(problems.iter().any(|problem| problem.starts_with(want)), "{problems:?}");
}

#[test]
fn each_kind_of_problem_is_reported_at_its_place() {
    let open =
        "tls/server.key is accessible to users other than its owner (mode 0644); run: chmod 600";
    type Change = fn(&Setup);
    // Each case contains a change of the example, and a part of the text of each problem that the change causes.
    let cases: &[(Change, &[&str])] = &[
        (
            |s| s.edit("algorithm: legacy", "algorithm: desx"),
            &[
                "zowe.yaml:95: components.passticket-proxy.ptktdata[1].algorithm: \"desx\" is not an algorithm; \
               write legacy, enhanced-upper or enhanced-mixed",
            ],
        ),
        (
            |s| s.edit("host: 127.0.0.1", "host: localhost:7554"),
            &[
                "zowe.yaml:35: components.passticket-proxy.host: \"localhost:7554\" is neither an IP address nor \
               a host name; write one like 127.0.0.1 or localhost, or 0.0.0.0 for all addresses",
            ],
        ),
        (
            |s| s.edit("onFailure: forward ", "onFailure: ignore "),
            &["zowe.yaml:78: components.passticket-proxy.onFailure: is unknown; write forward, \
               forward-unchanged or reject"],
        ),
        (|s| s.write("tls/server.key", "x", 0o644), &[open]),
        (
            |s| s.write("tls/server.key", "x", 0o600),
            &["zowe.yaml:6: zowe.certificate.pem.key: tls/server.key has no private key in it"],
        ),
        (
            |s| s.write("tls/server.key", USER.key, 0o600),
            &["zowe.yaml:6: zowe.certificate.pem.key: is not the private key of"],
        ),
        (
            |s| s.edit("tls/ca.pem", "tls/ca.pem, tls/server.key, gone"),
            &[
                "pem.certificateAuthorities: tls/server.key has no certificate in it",
                "pem.certificateAuthorities: cannot read gone",
            ],
        ),
        (|s| s.edit("tls/ca.pem", "[tls/ca.pem, tls/server.pem]"), &[]),
        (
            |s| s.edit("tls/ca.pem", "','"),
            &["zowe.yaml:7: zowe.certificate.pem.certificateAuthorities: names no file; add"],
        ),
        (
            |s| s.write("jwt.key", USER.key, 0o600),
            &[
                "zowe.yaml:36: components.passticket-proxy.signingKey: jwt.key is not a PEM document with an RSA",
            ],
        ),
        (
            |s| s.write("users.yml", "users:\n  USER: unhashed\n", 0o600),
            &["users.yml:2: users.USER: is not an Argon2 hash (the value is not shown); write"],
        ),
        (
            |s| s.write("users.yml", "users: {}", 0o644),
            &[
                "zowe.yaml:37: components.passticket-proxy.users: users.yml is accessible to users other",
            ],
        ),
        (
            |s| s.edit("logFormat: text", "logFormat: xml"),
            &["components.passticket-proxy.logFormat: is unknown; write text or json"],
        ),
        (
            |s| s.edit("format: json  ", "format: common  "),
            &["components.passticket-proxy.accessLog.format: is unknown; write json or combined"],
        ),
        (
            |s| s.edit("file: access.jsonl", "file: audit.jsonl"),
            &["components.passticket-proxy.accessLog.file: is the same file as \
               components.passticket-proxy.audit.file; write the path of another file"],
        ),
        (
            |s| s.edit("file: access.jsonl", "fil: access.jsonl"),
            &["components.passticket-proxy.accessLog.fil: is an unknown key"],
        ),
        (
            |s| s.edit("compatibility: documented", "compatibility: zowe-v2"),
            &[
                "zowe.yaml:69: components.passticket-proxy.compatibility: is unknown; write documented or",
            ],
        ),
        (
            |s| s.edit("maximumValidityDays: 90", "maximumValidityDays: 91"),
            &[
                "zowe.yaml:71: components.passticket-proxy.personalAccessToken.maximumValidityDays: \"91\" is \
               not valid; write a number from 1 to 90",
            ],
        ),
        (
            |s| s.edit("allowedScopes: \"*\" ", "allowedScopes: [files, a:write, b:/../x] "),
            &[
                "zowe.yaml:75: components.passticket-proxy.personalAccessToken.allowedScopes[1]: \"a:write\" is not \
                 a scope: after a service id, only `:read` or a path such as `:/a/b` may follow",
                "zowe.yaml:75: components.passticket-proxy.personalAccessToken.allowedScopes[2]: \"b:/../x\" is not \
                 a scope: a part of the path is empty, or has only dots",
            ],
        ),
        (
            |s| s.edit("allowedScopes: \"*\" ", "allowedScopes: [] "),
            &[
                "zowe.yaml:75: components.passticket-proxy.personalAccessToken.allowedScopes: is blank, so it is not \
                 clear whether users may get a Personal Access Token; write the scopes that are allowed, or remove",
            ],
        ),
        (
            |s| s.edit("allowedScopes: \"*\" ", "allowedScopes: "),
            &[
                "zowe.yaml:75: components.passticket-proxy.personalAccessToken.allowedScopes: is blank, so",
            ],
        ),
        (
            |s| s.write("saf.yml", "safAccess: {ZOWE: {R: {NONE: [USER]}}}", 0o644),
            &["saf.yml:1: safAccess.ZOWE.R.NONE: \"NONE\" is not an access level; write READ,"],
        ),
        (
            |s| s.edit("saf: saf.yml", "saf: gone.yml"),
            &["zowe.yaml:39: components.passticket-proxy.saf: cannot read gone.yml: "],
        ),
        (
            |s| s.edit("gatewayUser: ZWESVUSR", "gatewayUser: ZWE-USR"),
            &["components.passticket-proxy.gatewayUser: user id \"ZWE-USR\" has the character '-'"],
        ),
        (
            |s| s.write("identities.yml", "identities: {certificates: [{user: USER}]}", 0o644),
            &[
                "identities.yml:1: identities.certificates[0]: names no certificate; add sha256,",
                "needs a mapping of e-mail addresses; set components.passticket-proxy.identities to",
            ],
        ),
        (
            |s| {
                let twice = "identities:\n  distributed:\n    - {user: A, name: a@b.c}\n    - \
                             {user: B, name: A@B.C}\n  certificates: [{user: A, sha256: x}]\n";
                s.write("identities.yml", twice, 0o644);
            },
            &[
                "identities.yml:2: identities.distributed: the identity \"A@B.C\" of registry",
                "identities.yml:5: identities.certificates[0].sha256: ",
                "needs a mapping of e-mail addresses",
            ],
        ),
        (
            |s| s.edit("          registry: ldaps", "          #"),
            &[
                "identities.yml:5: identities.distributed[0]: has no registry; add one here, or",
                "needs the registry of the e-mail addresses; set components.gateway.apiml.security.oidc.registry to its",
            ],
        ),
        (
            |s| s.edit("  certificateMapping: file  ", "  #"),
            &["components.passticket-proxy.identities: contains identities.certificates, but \
                 components.passticket-proxy.certificateMapping does not use them; set it to file, or remove \
                 identities.certificates"],
        ),
        (
            |s| {
                s.edit("  certificateMapping: file  ", "  #");
                s.write("identities.yml", DISTRIBUTED, 0o644);
                s.edit("allowTokenRefresh", "useInternalMapper: true\n        allowTokenRefresh");
            },
            &[
                "security.useInternalMapper: makes Zowe map certificates in RACF, which this gateway \
               cannot do; set components.passticket-proxy.certificateMapping to file, zss or common-name (with \
               common-name, a client acts as IBMUSER if any of certificateAuthorities issued it a certificate \
               with CN=IBMUSER)",
            ],
        ),
        (
            |s| s.write("saf.yml", SAF, 0o646),
            &[
                "components.passticket-proxy.saf: saf.yml is writable by users other than its owner \
               (mode 0646); run: chmod go-w saf.yml",
            ],
        ),
        (
            |s| s.write("identities.yml", IDENTITIES, 0o602),
            &[
                "needs a mapping of e-mail addresses",
                "components.passticket-proxy.identities: identities.yml is writable by users other than its \
                 owner (mode 0602); run: chmod go-w identities.yml",
                "components.passticket-proxy.certificateMapping: needs a file with identities.certificates",
            ],
        ),
        (
            |s| s.edit("certificateMapping: file  ", "certificateMapping: zss  "),
            &["components.passticket-proxy.certificateMapping: needs the URL of a mapper; set"],
        ),
        (
            |s| {
                s.edit(
                    "        - user: OPERATOR",
                    "        - certificate: {issuer: CN=CA}\n          user: OPERATOR",
                );
            },
            &[
                "components.passticket-proxy.delegation.callers[1]: must name exactly one caller; write",
            ],
        ),
        (
            |s| s.edit("OU=Agents,O=Example", "Agents"),
            &["components.passticket-proxy.delegation.callers[0].certificate.subject: "],
        ),
        (
            |s| s.edit("enabled: true                     # default true", "enabled: false"),
            &["components.passticket-proxy.audit: cannot be off while delegatePassticket is on"],
        ),
        (
            |s| s.edit("x509:\n          enabled: true", "x509:\n          enabled: false"),
            &[
                "delegatePassticket: needs client certificates; set components.gateway.apiml.security.x509.enabled to",
            ],
        ),
        (
            |s| s.edit("dcpassticket:", "dcpasticket:"),
            &[
                "zowe.yaml:80: components.passticket-proxy.services.dcpasticket: service dcpasticket has no \
               api-def; did you mean dcpassticket?",
            ],
        ),
        (
            |s| s.edit("dcpassticket:", "e001193519561977:"),
            &[
                "zowe.yaml:80: components.passticket-proxy.services.(not shown): service (not shown) has no \
               api-def; known here: dcpassticket",
            ],
        ),
        (
            |s| s.edit("dcpassticket:", "key E001193519561977:"),
            &[
                "zowe.yaml:80: components.passticket-proxy.services.(not shown): is a wrong name (not shown: it \
               may contain a secret)",
            ],
        ),
        (
            |s| s.edit("[X-Tenant]", "[X-Tenant, Host, a b]"),
            &[
                "zowe.yaml:84: components.passticket-proxy.services.dcpassticket.requestHeaders.remove[1]: host \
                 cannot be removed from requests, because the gateway needs it; delete the name",
                "zowe.yaml:84: components.passticket-proxy.services.dcpassticket.requestHeaders.remove[2]: \"a b\" is \
                 not the name of a header; write one like X-Name",
            ],
        ),
        (
            |s| s.edit("[X-Tenant]", "[X_Real_IP]"),
            &[
                "zowe.yaml:85: components.passticket-proxy.services.dcpassticket.requestHeaders.keep[0]: x-real-ip is \
               both removed and kept; remove the name from one of the two lists",
            ],
        ),
        (
            |s| s.edit("[X-Real-IP]", "[Client-Cert, content_length, Accept, X-Real-IP]"),
            &[
                "zowe.yaml:85: components.passticket-proxy.services.dcpassticket.requestHeaders.keep[0]: client-cert \
                 is set by the gateway alone, so a client's header is never kept; delete the name",
                "zowe.yaml:85: components.passticket-proxy.services.dcpassticket.requestHeaders.keep[1]: \
                 content_length is set",
                "zowe.yaml:85: components.passticket-proxy.services.dcpassticket.requestHeaders.keep[2]: accept is \
                 not in the table of removed headers",
            ],
        ),
        (
            |s| s.edit("mode: enforce ", "mode: watch "),
            &[
                "zowe.yaml:82: components.passticket-proxy.services.dcpassticket.mode: is unknown; write enforce or \
                 observe",
            ],
        ),
        (
            |s| s.edit("addSecurityHeaders: true ", "http: h2c "),
            &[
                "zowe.yaml:86: components.passticket-proxy.services.dcpassticket.http: is only for services without \
                 TLS, but the service has the instance https://zos:10012/",
            ],
        ),
        (
            |s| s.edit("addSecurityHeaders: true ", "http: h2 "),
            &[
                "zowe.yaml:86: components.passticket-proxy.services.dcpassticket.http: \"h2\" is unknown; write auto, \
                 http1 or h2c",
            ],
        ),
        (
            |s| s.edit("addSecurityHeaders: true", "addSecurityHeaders: on"),
            &[
                "zowe.yaml:86: components.passticket-proxy.services.dcpassticket.addSecurityHeaders: \"on\" is neither",
            ],
        ),
        (
            |s| s.edit("maxAge: 31536000", "maxAge: 1y"),
            &[
                "zowe.yaml:131: components.passticket-proxy.strictTransportSecurity.maxAge: \"1y\" is not valid; write \
               a number from 0 to 315360000",
            ],
        ),
        (
            |s| s.edit("api/v1/admin:", "ui/v1:"),
            &[
                "zowe.yaml:89: components.passticket-proxy.services.dcpassticket.applids.ui/v1: is not below \
               a route of service dcpassticket; write a path that begins with one of its gatewayUrls",
            ],
        ),
        (
            |s| s.write("api-defs/dc.yml", &API_DEF.replace("ZOWEAPPL", "OTHER"), 0o644),
            &[
                "api-defs/dc.yml:6: services[0].authentication.applid: service dcpassticket needs a \
               PassTicket key for OTHER; in zowe.yaml, add this item to components.passticket-proxy.ptktdata: - { \
               applid: OTHER, algorithm: legacy, key: { file: ptktdata/OTHER.key } }",
            ],
        ),
        (
            |s| s.edit("ADMAPPL  ", "NOAPPL  "),
            &[
                "zowe.yaml:89: components.passticket-proxy.services.dcpassticket.applids.api/v1/admin: service \
               dcpassticket needs a PassTicket key for NOAPPL;",
            ],
        ),
        (|s| s.write("api-defs/other.yaml", API_DEF, 0o644), &[]),
        (|s| s.write("api-defs/README.md", "no: [yaml", 0o644), &[]),
        (
            |s| s.write("api-defs/z.yml", "services: [\n", 0o644),
            &["api-defs/z.yml:2: services: is not YAML: "],
        ),
        (
            |s| s.write("api-defs/dc.yml", "services: [\n", 0o644),
            &["api-defs/dc.yml:2: services: is not YAML: "],
        ),
        (
            |s| s.write("tls/server.pem", INVALID_CERTIFICATE, 0o644),
            &[
                "zowe.yaml:5: zowe.certificate.pem.certificate: is not a certificate that TLS can use",
            ],
        ),
        (
            |s| s.edit("[api-defs]", "[api-defs, api-defs/dc.yml, gone]"),
            &["zowe.yaml:77: components.passticket-proxy.apiDefs[2]: cannot read gone: "],
        ),
        (|s| s.edit("[api-defs]", "api-defs"), &[]),
        (
            |s| s.edit("  passticket-proxy:", "  passticket-proxy:\n    signing-key: x"),
            &[
                "zowe.yaml:35: components.passticket-proxy.signing-key: is an unknown key; did you mean \
               signingKey?",
            ],
        ),
        (
            |s| s.edit("{ env: ADMAPPL_KEY }", LEGACY_KEY),
            &[
                "zowe.yaml:96: components.passticket-proxy.ptktdata[1].key: must not be the PassTicket key itself; \
               write { file: PATH }",
            ],
        ),
        // The following changes cause only warnings.
        (
            |s| s.write("saf.yml", &SAF.replace("IRRPTAUTH.*.*", "IRRPTAUTH.ZOWEAPPL.IBM*"), 0o644),
            &[
                "components.passticket-proxy.saf: gives ZWESVUSR no UPDATE on IRRPTAUTH.ADMAPPL.* in class \
                 PTKTDATA, so the gateway cannot make PassTickets for ADMAPPL; in the file of \
                 components.passticket-proxy.saf, add below safAccess: PTKTDATA: { IRRPTAUTH.ADMAPPL.*: { UPDATE: \
                 [ZWESVUSR] } }",
            ],
        ),
        (
            |s| s.edit("certificateMapping: file  ", "certificateMapping: common-name #"),
            &[
                "components.passticket-proxy.identities: contains identities.certificates, which are not used; set",
            ],
        ),
        (
            |s| {
                s.edit("  certificateMapping: file  ", "  #");
                s.edit("x509:\n          enabled: true", "x509:\n          enabled: false");
                s.edit("delegatePassticket: true ", "delegatePassticket: false");
                s.edit("allowTokenRefresh", "useInternalMapper: true\n        allowTokenRefresh");
            },
            &[
                "components.passticket-proxy.identities: contains identities.certificates, which are not used; set",
            ],
        ),
        (
            |s| s.edit("allowTokenRefresh", "useInternalMapper: true\n        allowTokenRefresh"),
            &[
                "security.useInternalMapper: makes Zowe map certificates in RACF, which this gateway \
               cannot do; components.passticket-proxy.certificateMapping decides how certificates are mapped",
            ],
        ),
        (
            |s| {
                s.edit(
                    "          registry: ldaps",
                    &format!("{IDENTITY_MAPPER}\n          registry: ldaps"),
                );
            },
            &["components.passticket-proxy.identities: has identities.distributed, so \
                 components.gateway.apiml.security.oidc.identityMapperUrl is not used; remove one of them"],
        ),
        (
            |s| {
                let callers = EXAMPLE.split_once("      callers:").unwrap().1;
                let callers = callers.split_once("    audit:").unwrap().0;
                s.edit(&format!("      callers:{callers}"), "");
            },
            &["delegatePassticket: lets each caller with READ on the SAF resource"],
        ),
        (
            |s| {
                s.edit("[api-defs]", "[]");
                let services = EXAMPLE
                    .lines()
                    .skip_while(|line| !line.starts_with("    services:"))
                    .take(11)
                    .collect::<Vec<_>>()
                    .join("\n");
                s.edit(&services, "  # nothing");
            },
            &[
                "zowe.yaml:34: components.passticket-proxy: has no routes, so the gateway forwards nothing; write",
                "components.passticket-proxy.ptktdata[0].applid: no service has APPLID ZOWEAPPL; remove",
                "components.passticket-proxy.ptktdata[1].applid: no service has APPLID ADMAPPL; remove",
            ],
        ),
        (
            |s| {
                s.edit("users: users.yml", "users:");
                s.edit("addSecurityHeaders: true ", "clientBasic: verify ");
            },
            &[
                "zowe.yaml:86: components.passticket-proxy.services.dcpassticket.clientBasic: verify needs users with \
                 passwords; set components.passticket-proxy.users to a file with users, or set zOSMF.host",
            ],
        ),
        (
            |s| {
                s.edit("users: users.yml", "users:");
                s.edit("delegatePassticket: true ", "delegatePassticket: false");
                s.edit("x509:\n          enabled: true", "x509:\n          enabled: false");
            },
            &[
                "zowe.yaml:34: components.passticket-proxy: names no users, and client certificates are off,",
            ],
        ),
    ];
    for (i, (change, want)) in cases.iter().enumerate() {
        let setup = Setup::new();
        change(&setup);
        let problems = setup.problems();
        assert_eq!(problems.len(), want.len(), "case {i}: {problems:#?}");
        for (problem, want) in problems.iter().zip(*want) {
            assert!(problem.contains(want), "case {i}: {problem}");
            assert!(
                !problem.contains("1193") && !problem.contains("unhashed"),
                "case {i}: {problem}"
            );
        }
    }
}

#[test]
fn an_external_mapper_replaces_the_internal_mapper() {
    let setup = Setup::new();
    setup.edit("  certificateMapping: file  ", "  #");
    setup.write("identities.yml", DISTRIBUTED, 0o644);
    setup.edit("allowTokenRefresh", "useInternalMapper: true\n        allowTokenRefresh");
    let mapper = "x509:\n          externalMapperUrl: https://zss.example/map\n";
    setup.edit("x509:\n", mapper);
    let Loaded { config, warnings } = setup.load().unwrap();
    assert!(matches!(config.certificate_mapping, CertificateMapping::Zss(_)));
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].text().ends_with(".x509.externalMapperUrl decides how certificates are mapped")
    );
}

#[test]
fn the_token_exchange_is_off_by_default_and_needs_the_audit_log() {
    let switch = "enabled: false                    # default false";
    let setup = Setup::new();
    assert!(setup.load().unwrap().config.exchange.is_none());
    setup.edit(switch, "enabled: true");
    let Loaded { config, warnings } = setup.load().unwrap();
    assert_eq!(warnings, []);
    let exchange = config.exchange.unwrap();
    assert_eq!((exchange.grants.len(), exchange.bearer_applids.len()), (1, 1));
    assert_eq!(exchange.calls_per_minute.map(NonZeroU32::get), Some(60));
    let service = ServiceId::new("dcpassticket").unwrap();
    for applid in ["ZOWEAPPL", "ADMAPPL"] {
        let services = &exchange.services[&Applid::new(applid).unwrap()];
        assert!(services.contains(&service), "{applid}: {services:?}");
    }
    setup.edit("enabled: true                     # default true", "enabled: false");
    let problems = setup.load().unwrap_err();
    let texts: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert!(
        texts.iter().any(|text| text.contains("cannot be off while tokenExchange is on")),
        "{texts:?}"
    );

    let setup = Setup::new();
    setup.edit(switch, "enabled: true");
    setup.edit("bearerApplids: [ADMAPPL]", "bearerApplid: [ADMAPPL]");
    let problems = setup.load().unwrap_err();
    let text = problems.iter().next().unwrap().to_string();
    assert!(
        text.contains("tokenExchange.bearerApplid: is an unknown key; did you mean bearerApplids?"),
        "{text}"
    );
}

#[test]
fn the_applids_of_the_token_exchange_need_keys_and_their_keys_are_used() {
    let first = "      - applid: ZOWEAPPL\n";
    let more = "      - { applid: CICSPROD, algorithm: enhanced-mixed, key: { file: ptktdata/ZOWEAPPL.key } }\n";
    let (_, section_of_example) = EXAMPLE.split_once("    tokenExchange:").unwrap();
    let (section_of_example, _) = section_of_example.split_once("    resourceMetadata:").unwrap();
    for (section, want) in [
        ("{enabled: true, bearerApplids: [CICSPROD]}", &[][..]),
        ("{enabled: true, callers: [{user: A, applids: [CICSPROD], users: A}]}", &[]),
        ("{enabled: true, callers: [{user: A, applids: '*', users: A}]}", &[]),
        ("{enabled: false, bearerApplids: [CICSPROD, NOKEY]}", &["no service has APPLID CICSPROD"]),
        (
            "{enabled: true, bearerApplids: [CICSPROD, NOKEY]}",
            &["bearerApplids[1]: has no PassTicket key, so no client gets a PassTicket for NOKEY"],
        ),
        (
            "{enabled: true, callers: [{user: A, applids: [CICSPROD, NOKEY], users: A}]}",
            &[
                "callers[0].applids: has no PassTicket key, so no client gets a PassTicket for NOKEY",
            ],
        ),
    ] {
        let setup = Setup::new();
        setup.edit(first, &format!("{more}{first}"));
        setup.edit(section_of_example, &format!(" {section}\n"));
        let warnings = setup.load().unwrap().warnings;
        let texts: Vec<_> = warnings.iter().map(ToString::to_string).collect();
        let texts: Vec<_> = texts
            .iter()
            .filter(|text| {
                text.contains("APPLID CICSPROD") || text.contains("has no PassTicket key")
            })
            .collect();
        assert_eq!(texts.len(), want.len(), "{section}: {texts:?}");
        for (text, want) in texts.iter().zip(want) {
            assert!(text.contains(want), "{section}: {text}");
        }
    }
}

#[test]
fn an_empty_list_of_callers_permits_no_caller() {
    let callers = EXAMPLE.split_once("      callers:").unwrap().1;
    let callers = format!("      callers:{}", callers.split_once("    audit:").unwrap().0);
    for (written, want) in
        [("      callers: []\n", Some(0)), ("      callers:\n", Some(0)), ("", None)]
    {
        let setup = Setup::new();
        setup.edit(&callers, written);
        let Loaded { config, warnings } = setup.load().unwrap();
        let grants = config.delegation.unwrap().grants.map(|grants| grants.len());
        assert_eq!(grants, want, "{written:?}");
        assert_eq!(warnings.is_empty(), want.is_some(), "{written:?}: {warnings:?}");
    }
}

#[test]
fn files_that_authentication_depends_on_must_not_be_writable_by_others() {
    for file in ["zowe.yaml", "tls/ca.pem", "users.yml", "saf.yml", "identities.yml", "jwt.key"] {
        // The group of these files is a group of this process. The group may write only files without secrets.
        let is_secret = ["users.yml", "jwt.key"].contains(&file);
        for (mode, is_refused) in [(0o620, is_secret), (0o602, true)] {
            let setup = Setup::new();
            setup.set_mode(file, mode);
            assert_eq!(setup.load().is_err(), is_refused, "{file} {mode:04o}");
            let problems = setup.problems();
            let want = match is_refused {
                true => format!("(mode {mode:04o}); run: chmod "),
                false => format!("is writable by its group (mode {mode:04o}), as is usual"),
            };
            let found = problems.iter().find(|problem| problem.contains(&want));
            assert!(found.is_some_and(|found| found.ends_with(file)), "{file}: {problems:?}");
        }
    }
    // If other users may write the following file or directory, there is only a warning.
    for (file, mode, want) in [
        ("tls/server.pem", 0o646, "tls/server.pem is writable by all users (mode 0646)"),
        ("", 0o777, "is writable by all users (mode 0777), who can replace the file"),
    ] {
        let setup = Setup::new();
        setup.set_mode(file, mode);
        setup.load().unwrap();
        let warnings = setup.problems();
        assert!(warnings.iter().any(|warning| warning.contains(want)), "{file}: {warnings:?}");
    }
}

#[test]
fn tokens_for_servers_without_strict_verification_cause_a_warning() {
    let endpoint = |s: &Setup| {
        let keys = "authorization: {provider: endpoint, endpoint: {url: 'https://zss/saf'}}";
        s.edit("        x509:\n", &format!("        {keys}\n        x509:\n"));
    };
    let certificates = |s: &Setup| {
        s.edit("certificateMapping: file  ", "certificateMapping: zss  ");
        s.edit("x509:\n", "x509:\n          externalMapperUrl: https://zss.example/map\n");
    };
    let identities = |s: &Setup| {
        s.edit("  certificateMapping: file  ", "  #");
        s.edit("  identities: ", "  # ");
        s.edit(
            "          registry: ldaps",
            &format!("{IDENTITY_MAPPER}\n          registry: ldaps"),
        );
    };
    const DISABLED: &str = "zowe.yaml:2: zowe.verifyCertificates: turns off the verification of services, so \
                            anybody on the network path can receive PassTickets; write STRICT or NONSTRICT";
    let all_users = "those of all users whose permissions are checked (by \
         components.gateway.apiml.security.authorization.endpoint.url)";
    let cases: [(&dyn Fn(&Setup), _); 3] = [
        (&endpoint, all_users),
        (
            &certificates,
            "those of ZWESVUSR (for components.gateway.apiml.security.x509.externalMapperUrl)",
        ),
        (
            &identities,
            "those of ZWESVUSR (for components.gateway.apiml.security.oidc.identityMapperUrl)",
        ),
    ];
    for (mode, server) in [
        ("STRICT", None),
        ("NONSTRICT", Some("any server with a certificate of certificateAuthorities")),
        ("DISABLED", Some("any server")),
    ] {
        for (change, tokens) in &cases {
            let setup = Setup::new();
            change(&setup);
            setup.edit("verifyCertificates: STRICT ", &format!("verifyCertificates: {mode} "));
            let warned: Vec<_> =
                setup.problems().into_iter().filter(|p| p.contains("verifyCertificates")).collect();
            let want = server.map(|server| {
                format!(
                    "zowe.yaml:2: zowe.verifyCertificates: lets {server} receive tokens: {tokens}; \
                     write STRICT"
                )
            });
            let off = (mode == "DISABLED").then(|| DISABLED.to_owned());
            assert_eq!(warned, off.into_iter().chain(want).collect::<Vec<_>>(), "{mode}");
        }
    }
    // The gateway sends no tokens if the configuration contains neither a SAF endpoint nor a mapper.
    let setup = Setup::new();
    setup.edit("verifyCertificates: STRICT ", "verifyCertificates: NONSTRICT ");
    assert_eq!(setup.problems(), Vec::<String>::new());
    setup.edit("verifyCertificates: NONSTRICT ", "verifyCertificates: DISABLED ");
    assert_eq!(setup.problems(), [DISABLED]);
}

#[test]
fn the_problems_of_all_files_are_reported_together() {
    let setup = Setup::new();
    setup.edit("port: 7554", "port: 70000");
    setup.edit("host: 127.0.0.1", "host: over there");
    setup.edit("drainSeconds: 30", "drainSeconds: soon");
    setup.edit("cachedTokens: 10000", "cachedTokens: 99");
    setup.edit("rememberedTickets: 4096", "rememberedTicket: 4096");
    setup.write("jwt.key", "", 0o600);
    setup.write("users.yml", "users: {USER: x}", 0o600);
    setup.write("ptktdata/ZOWEAPPL.key", &ENHANCED[1..], 0o600);
    setup.write("api-defs/dc.yml", &API_DEF.replace("scheme", "schema"), 0o644);
    let problems = setup.problems();
    let starts = [
        "zowe.yaml:11: components.gateway.port: ",
        "zowe.yaml:35: components.passticket-proxy.host: ",
        "zowe.yaml:36: components.passticket-proxy.signingKey: ",
        "zowe.yaml:93: components.passticket-proxy.ptktdata[0].key: ",
        "zowe.yaml:101: components.passticket-proxy.ptktdata[1].nextKey.key: ",
        "zowe.yaml:109: components.passticket-proxy.timeouts.drainSeconds: ",
        "zowe.yaml:113: components.passticket-proxy.limits.cachedTokens: \"99\" is not valid; write a number from ",
        "zowe.yaml:114: components.passticket-proxy.limits.rememberedTicket: is an unknown key; did ",
        "users.yml:1: users.USER: ",
        "api-defs/dc.yml:6: services[0].authentication.schema: is an unknown key; did ",
        "api-defs/dc.yml:6: services[0].authentication.scheme: is missing; ",
    ];
    assert_eq!(problems.len(), starts.len(), "{problems:#?}");
    for (problem, start) in problems.iter().zip(starts) {
        assert!(problem.starts_with(start), "got {problem}, expected {start}");
    }
}

#[test]
fn settings_of_http2_to_services_are_read() {
    let setup = Setup::new();
    let config = setup.load().unwrap().config;
    assert!(config.routes.iter().all(|route| route.route.protocol() == ServiceProtocol::Auto));
    assert_eq!(config.limits.http2_streams_per_connection.get(), 100);
    assert_eq!(config.timeouts.http2_ping, Some(Duration::from_secs(320)));
    setup.write("api-defs/dc.yml", &API_DEF.replace("https:", "http:"), 0o644);
    setup.edit("addSecurityHeaders: true ", "http: h2c ");
    setup.edit("      queueSeconds: 5 ", "      http2PingSeconds: 0 ");
    setup.edit("connectionsPerInstance: 256 ", "http2StreamsPerConnection: 8 ");
    let config = setup.load().unwrap().config;
    let is_h2c = |route: &&ConfiguredRoute| route.service().as_str() == "dcpassticket";
    let mut routes = config.routes.iter().filter(is_h2c);
    assert!(routes.all(|route| route.route.protocol() == ServiceProtocol::H2c));
    assert_eq!(config.limits.http2_streams_per_connection.get(), 8);
    assert_eq!(config.timeouts.http2_ping, None);
}

#[test]
fn the_scopes_of_new_tokens_may_be_limited() {
    for (value, want) in [
        ("\"*\"", None),
        ("", None),
        ("[\"*\"]", None),
        ("Files", Some("files")),
        ("[files, \"jobs:read\"]", Some("files, jobs:read")),
        ("[ims:/A%2Cb, ims:read]", Some("ims:read, ims:/A%2Cb")),
    ] {
        let setup = Setup::new();
        let setting =
            if value.is_empty() { "#".to_owned() } else { format!("allowedScopes: {value} ") };
        setup.edit("allowedScopes: \"*\" ", &setting);
        let allowed = setup.load().unwrap().config.allowed_scopes;
        assert_eq!(allowed.map(|scopes| scopes.to_string()).as_deref(), want, "{value}");
    }
}

#[test]
fn optional_settings_have_defaults() {
    let setup = Setup::new();
    setup.edit("  saf: ", "  # ");
    setup.edit("    takeoverSocket: ", "    # ");
    setup.edit("  revocations: ", "  # ");
    setup.edit("compatibility: documented", "compatibility: zowe-v3");
    setup.edit("maximumValidityDays: 90", "maximumValidityDays: 30");
    setup.edit("      maximumPerUser: 50 ", "      # ");
    setup.edit("revokeIdleDays: 0 ", "revokeIdleDays: 30 ");
    setup.edit("      prefix: false ", "      # ");
    setup.edit("    cachedTokens: 10000 ", "    # ");
    setup.edit("connections: 10000 ", "connections: 65 ");
    setup.edit("    connectionsPerAddress: 5000 ", "    # ");
    setup.edit("connectionsPerInstance: 256 ", "connectionsPerInstance: 8 ");
    setup.edit("queueSeconds: 5 ", "queueSeconds: 0 ");
    let config = setup.load().unwrap().config;
    assert_eq!(config.revocations, setup.0.path().join("revocations.redb"));
    assert_eq!(config.takeover_socket, setup.0.path().join("revocations.redb.takeover"));
    assert_eq!(config.compatibility, Compatibility::ZoweV3);
    assert_eq!(config.max_validity.days(), 30);
    assert_eq!(config.pats_per_user.get(), 50);
    assert_eq!(config.pat_idle, Some(Duration::from_secs(30 * 86_400)));
    assert!(!config.pat_prefix);
    assert_eq!(config.limits.cached_tokens, LimitSettings::default().cached_tokens);
    assert_eq!(config.limits.connections.get(), 65);
    assert_eq!(config.limits.connections_per_address.get(), 33);
    assert_eq!(config.limits.connections_per_instance.get(), 8);
    assert_eq!(config.timeouts.queue, Duration::ZERO);
    let user = UserId::new("USER").unwrap();
    let saf = config.saf.try_check_now(&user, "ZOWE", "APIML.SERVICES", AccessLevel::Read);
    assert_eq!(saf.unwrap(), Ok(Access::Refused));
}

/// Loads a configuration with this scheme in the api-def. `ours` contains settings of the gateway's section, and `top`
/// contains settings at the top level. Returns the errors. If there are none, returns the warnings.
fn scheme_problems(scheme: &str, ours: &str, top: &str) -> (Setup, Vec<String>) {
    let setup = Setup::new();
    let old = "{scheme: httpBasicPassTicket, applid: ZOWEAPPL}";
    setup.write("api-defs/dc.yml", &API_DEF.replace(old, scheme), 0o644);
    setup.write("client.pem", USER.certificate, 0o644);
    setup.write("client.key", USER.key, 0o600);
    setup.edit("signingKey: jwt.key ", &format!("signingKey: jwt.key\n{ours}    #"));
    setup.edit("zowe:\n", &format!("{top}zowe:\n"));
    let problems = setup.problems();
    // The example contains PassTicket keys for other APPLIDs. The removed warnings are about these keys.
    let problems = problems.into_iter().filter(|text| !text.contains("no service has APPLID"));
    (setup, problems.collect())
}

#[test]
fn schemes_need_their_servers() {
    let zosmf = "zOSMF: {host: zosmf.example, applId: ZOWEAPPL}\n";
    let zss = "    zss: {url: 'https://zss.example:7557/'}\n";
    let (setup, problems) = scheme_problems("{scheme: zosmf}", "", zosmf);
    assert_eq!(problems, [""; 0]);
    let peers = setup.load().unwrap().config.scheme_peers;
    assert_eq!(peers.zosmf.unwrap().address.to_string(), "https://zosmf.example:443/");
    let (setup, problems) = scheme_problems("{scheme: safIdt, applid: ZOWEAPPL}", zss, "");
    assert_eq!(problems, [""; 0]);
    let peers = setup.load().unwrap().config.scheme_peers;
    assert_eq!(peers.saf_tokens.unwrap().to_string(), "https://zss.example:7557/saf/authenticate");
    // With AT-TLS, z/OS encrypts the connections to ZSS, so the URL may begin with `http`.
    let zss = "    zss: {url: 'http://zss.example'}\n";
    let (setup, _) = scheme_problems("{scheme: safIdt, applid: ZOWEAPPL}", zss, "");
    setup.edit("zowe:\n", "zowe:\n  network: {client: {tls: {attls: true}}}\n");
    let peers = setup.load().unwrap().config.scheme_peers;
    assert_eq!(peers.saf_tokens.unwrap().to_string(), "http://zss.example/saf/authenticate");
    for (scheme, ours, top, want) in [
        ("{scheme: zosmf}", "", "", "with scheme zosmf, which needs z/OSMF; add zOSMF: { host"),
        (
            "{scheme: zosmf}",
            "",
            "zOSMF: {host: z}\n",
            "no PassTicket key for IZUDFLT, the APPLID of z/OSMF",
        ),
        ("{scheme: zosmf}", "", "zOSMF: {host: z, port: 0}\n", "zOSMF.port: \"0\" is not valid"),
        ("{scheme: safIdt, applid: ZOWEAPPL}", "", "", "with scheme safIdt, which needs ZSS; add"),
        (
            "{scheme: safIdt, applid: ZOWEAPPL}",
            "    zss: {url: 'http://zss.example'}\n",
            "",
            "zss.url: would be called with http",
        ),
    ] {
        let (_, problems) = scheme_problems(scheme, ours, top);
        let [problem] = &*problems else { panic!("{scheme} {top}: {problems:?}") };
        assert!(problem.contains(want), "{problem}");
    }
}

/// Returns the problems of a configuration with discovery. `found` is the setting `discovery.services`: the services
/// that the gateway may find in Eureka. `services` is the setting `components.passticket-proxy.services`. `ours`
/// contains other lines of the gateway's section.
fn found_problems(found: &str, services: &str, ours: &str) -> (Setup, Vec<String>) {
    let ours = format!("    discovery: {{eureka: 'https://e', services: {found}}}\n{ours}");
    let scheme = "{scheme: httpBasicPassTicket, applid: ZOWEAPPL}";
    let (setup, _) = scheme_problems(scheme, &ours, "");
    let path = setup.0.path().join("zowe.yaml");
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once("    services:  ").unwrap();
    let (_, after) = rest.split_once("    ptktdata:").unwrap();
    fs::write(path, format!("{before}    services: {services}\n    ptktdata:{after}")).unwrap();
    let mut problems = setup.problems();
    problems.retain(|text| !text.contains("no service has APPLID"));
    (setup, problems)
}

#[test]
fn settings_apply_to_routes_that_only_eureka_names() {
    let (setup, problems) = found_problems(
        "{dcpassticket: {hosts: a, applid: ZOWEAPPL, schemes: httpBasicPassTicket}}",
        "{dcpassticket: {methods: GET, routes: {api/v1: {bodyMegabytes: 1, responseSeconds: 7}, ui/v1: \
         {headerKilobytes: 4, paths: [ui/v1/x]}}}}",
        "",
    );
    assert_eq!(problems, [""; 0]);
    let config = setup.load().unwrap().config;
    let found = &config.discovery.unwrap().services[0];
    let scheme = config.routes[0].scheme();
    // The metadata of a registration does not change a timeout in the gateway's section.
    let metadata = BTreeMap::from([("response-timeout".to_owned(), "86400000".to_owned())]);
    for (url, has_body, has_headers, seconds) in [
        ("", false, false, 86_400),
        ("api/v1", true, false, 7),
        ("ui/v1", false, true, 86_400),
        ("x", false, false, 86_400),
    ] {
        let route = found.template(scheme, url).unwrap();
        let limits = format!("{:?}", route.limits().unwrap());
        assert!(limits.contains("GET"), "{limits}");
        assert_eq!(limits.contains("1048576"), has_body, "{url} {limits}");
        assert_eq!(limits.contains("4096"), has_headers, "{url} {limits}");
        let timeout = route.clone().with_registered_metadata(&metadata).response_timeout();
        assert_eq!(timeout, Some(Duration::from_secs(seconds)), "{url}");
    }
    let (_, problems) =
        found_problems("{}", "{dcpassticket: {routes: {ui/v1: {methods: GET}}}}", "");
    assert!(
        problems.iter().any(|it| it.contains("has no route with this gatewayUrl")),
        "{problems:?}"
    );
}

#[test]
fn settings_apply_to_services_that_only_eureka_names() {
    // HTTP/2 without TLS is possible only if the configuration permits plain HTTP for the service.
    for (keys, want) in [("", Some("set plainHttp to true in")), (", plainHttp: true", None)] {
        let found = format!("{{new: {{hosts: a, schemes: zoweJwt{keys}}}}}");
        let (_, problems) = found_problems(&found, "{new: {http: h2c}}", "");
        assert_eq!(problems.len(), want.iter().count(), "{problems:?}");
        assert!(want.is_none_or(|want| problems[0].contains(want)), "{problems:?}");
    }
    let cors = "{new: {cors: {allowedOrigins: ['https://app.example']}}}";
    let (setup, _) = found_problems("{new: {hosts: a, schemes: zoweJwt}}", cors, "");
    setup.edit("    apiml:", "    apiml:\n      service: {corsEnabled: true}");
    assert!(setup.load().unwrap().config.origins.has_cors());
}

#[test]
fn a_found_service_with_the_scheme_bypass_gets_only_its_own_client_certificate() {
    let identity = "clientCertificate: {certificate: client.pem, key: client.key}";
    let own = format!("{{open: {{{identity}}}}}");
    let open = ServiceId::new("open").unwrap();
    for (schemes, default, verify, own, want) in [
        ("bypass", identity, "NONSTRICT", "{}", Ok((ServiceClients::Any, false))),
        ("bypass", identity, "NONSTRICT", &*own, Ok((ServiceClients::Any, true))),
        ("zoweJwt", identity, "NONSTRICT", "{}", Ok((ServiceClients::Authorized, true))),
        ("[bypass, zoweJwt]", identity, "STRICT", "{}", Ok((ServiceClients::Mixed, false))),
        ("[bypass, zoweJwt]", identity, "NONSTRICT", "{}", Err(())),
        ("[bypass, zoweJwt]", identity, "NONSTRICT", &own, Ok((ServiceClients::Mixed, true))),
        ("[bypass, zoweJwt]", "", "NONSTRICT", "{}", Ok((ServiceClients::Mixed, false))),
        ("x509", "", "STRICT", "{}", Ok((ServiceClients::Authorized, true))),
        ("[bypass, x509]", "", "STRICT", "{}", Err(())),
        ("[bypass, x509]", "", "STRICT", &own, Ok((ServiceClients::Mixed, true))),
    ] {
        let found =
            format!("{{open: {{hosts: a, headers: X-Certificate-Public, schemes: {schemes}}}}}");
        let (setup, _) = found_problems(&found, own, &format!("    {default}\n"));
        setup.edit("verifyCertificates: STRICT", &format!("verifyCertificates: {verify}"));
        let got = match setup.load() {
            Ok(loaded) => {
                let identities = loaded.config.client_identities;
                Ok((identities.clients_of(&open), identities.of(&open).is_some()))
            }
            Err(problems) => {
                let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
                let [problem] = &problems[..] else { panic!("{problems:?}") };
                assert!(problem.contains("has the scheme bypass and another one"), "{problem}");
                Err(())
            }
        };
        assert_eq!(got, want, "{schemes} {default} {verify} {own}");
    }
}

#[test]
fn a_credential_is_not_forwarded_to_a_found_service_that_is_not_verified() {
    let identity = "    clientCertificate: {certificate: client.pem, key: client.key}\n";
    for (verify, on_failure, ours, is_error) in [
        ("NONSTRICT", "forward-unchanged", identity, true),
        ("STRICT", "forward-unchanged", identity, false),
        ("NONSTRICT", "forward", identity, false),
        ("NONSTRICT", "forward-unchanged", "", false),
    ] {
        let services = format!("{{new: {{onFailure: {on_failure}}}}}");
        let (setup, _) = found_problems("{new: {hosts: a, schemes: zoweJwt}}", &services, ours);
        setup.edit("verifyCertificates: STRICT", &format!("verifyCertificates: {verify}"));
        let problems = setup.load().err().map(|problems| problems.to_string());
        assert_eq!(problems.is_some(), is_error, "{verify} {on_failure}: {problems:?}");
        assert!(problems.is_none_or(|it| it.contains("has onFailure: forward-unchanged")));
    }
}

/// Turns the listener for gateways of API ML on or off in the example, and applies `edit`. Returns the problems.
fn zaas_problems(is_on: bool, edit: impl Fn(&Setup)) -> Vec<String> {
    let setup = Setup::new();
    if is_on {
        let (_, section) = EXAMPLE.split_once("    zaas:").unwrap();
        let section = format!("    zaas:{section}");
        setup.edit(&section, &section.replace("enabled: false", "enabled: true "));
    }
    edit(&setup);
    setup.problems()
}

#[test]
fn gateways_of_api_ml_can_use_each_applid_and_their_certificates_are_always_verified() {
    let first = "      - applid: ZOWEAPPL\n";
    let other = "      - { applid: OTHERAPL, algorithm: enhanced-mixed, key: { file: ptktdata/ZOWEAPPL.key } }\n";
    let add_other = |setup: &Setup| setup.edit(first, &format!("{other}{first}"));
    let add_restricted = |setup: &Setup| {
        add_other(setup);
        let all = "IRRPTAUTH.*.*: {UPDATE: [ZWESVUSR]}";
        assert!(SAF.contains(all));
        let two = ["ZOWEAPPL", "ADMAPPL"]
            .map(|applid| all.replace("IRRPTAUTH.*", &format!("IRRPTAUTH.{applid}")));
        setup.write("saf.yml", &SAF.replace(all, &two.join(", ")), 0o644);
    };
    let without_routes = |setup: &Setup| {
        let (_, services) = EXAMPLE.split_once("    services:  ").unwrap();
        let (services, _) = services.split_once("    ptktdata:").unwrap();
        setup.edit(&format!("    services:  {services}"), "");
        setup.edit("[api-defs]", "[]");
    };
    let with_lists = |setup: &Setup| {
        let authority = pki::Authority::trusted();
        setup.write("tls/ca.pem", authority.pem(), 0o644);
        setup.write("clients.crl", &authority.revoke(&[], |_| {}), 0o644);
        setup.edit("    logLevel: info", "    crls: clients.crl\n    logLevel: info");
        let x509 = "        x509:\n          enabled: true               # accepts client certificates; default false\n";
        setup.edit(x509, "");
        setup.edit("delegatePassticket: true ", "delegatePassticket: false ");
    };
    let with_zowe = |setup: &Setup| {
        setup.write("client.pem", USER.certificate, 0o644);
        setup.write("client.key", USER.key, 0o600);
        let zowe = "{url: 'https://zowe.example', clientCertificate: {certificate: client.pem, key: client.key}}";
        setup.edit("    saf: saf.yml ", &format!("    zowe: {zowe}\n    saf: saf.yml "));
        setup.edit("algorithm: enhanced-mixed ", "source: zowe #");
        setup.edit("key: { file: ptktdata/ZOWEAPPL.key }", "#");
    };
    let attls = |setup: &Setup| {
        setup.edit("zowe:\n", "zowe:\n  network: {server: {tls: {attls: true}}}\n");
    };
    let unused = "no service has APPLID OTHERAPL";
    let no_permission = "gives ZWESVUSR no UPDATE on IRRPTAUTH.OTHERAPL.*";
    let no_lists = "crls: has no effect, because client certificates are off";
    let circle =
        "gets the PassTickets of ZOWEAPPL from API ML, whose gateway asks its ZAAS for them";
    let no_certificates = "zaas.enabled: needs the client certificates of the API ML gateways";
    let no_routes = "has no routes, so the gateway forwards nothing";
    let same_port = "zaas.port: 7554 is also the port of the gateway";
    let edits: [(&dyn Fn(&Setup), &str, [bool; 2]); 7] = [
        (&add_other, unused, [true, false]),
        (&add_restricted, no_permission, [false, true]),
        (&with_lists, no_lists, [true, false]),
        (&with_zowe, circle, [false, true]),
        (&attls, no_certificates, [false, true]),
        (&without_routes, no_routes, [true, false]),
        (&|setup| setup.edit("port: 7558 ", "port: 7554 "), same_port, [false, true]),
    ];
    for (edit, want, expected) in edits {
        for (is_on, is_expected) in [false, true].into_iter().zip(expected) {
            let problems = zaas_problems(is_on, edit);
            let is_found = problems.iter().any(|problem| problem.contains(want));
            assert_eq!(is_found, is_expected, "{is_on} {want}: {problems:#?}");
        }
    }
    assert_eq!(zaas_problems(true, |_| ()), zaas_problems(false, |_| ()));
}

#[test]
fn settings_of_client_certificates_and_of_a_running_zowe_are_checked() {
    let scheme = "{scheme: httpBasicPassTicket, applid: ZOWEAPPL}";
    let identity = "clientCertificate: {certificate: client.pem, key: client.key}";
    let (setup, problems) = scheme_problems(scheme, &format!("    {identity}\n"), "");
    assert_eq!(problems, [""; 0]);
    let config = setup.load().unwrap().config;
    assert!(config.client_identities.default.is_some());
    assert!(!format!("{config:?}").contains("PRIVATE"));
    // A service with the scheme x509 gets the client certificate of the gateway.
    let x509 = "{scheme: x509, headers: X-Certificate-Public}";
    let (setup, _) = scheme_problems(x509, "", "");
    let identities = setup.load().unwrap().config.client_identities;
    assert_eq!(identities.services[0].1.certificate, CERTIFICATE.as_bytes());

    let wrong = "clientCertificate: {certificate: client.pem, key: jwt.key}";
    for (ours, want) in [
        (wrong.to_owned(), "clientCertificate.key: is not the key of the certificate beside it"),
        (
            "clientCertificate: {certificate: client.pem}".to_owned(),
            "clientCertificate.key: is missing",
        ),
        ("clientCertificate: {certificate: gone.pem, key: client.key}".to_owned(), "gone.pem"),
        ("zowe: {mint: true}".to_owned(), "zowe.url: is missing"),
        ("zowe: {url: 'http://zowe.example'}".to_owned(), "zowe.url: is http"),
        (
            format!("zowe: {{url: 'https://zowe.example', {wrong}}}"),
            "zowe.clientCertificate.key: is not",
        ),
    ] {
        let (_, problems) = scheme_problems(scheme, &format!("    {ours}\n"), "");
        let [problem] = &*problems else { panic!("{ours}: {problems:?}") };
        assert!(problem.contains(want), "{problem}");
    }

    for (ours, want) in [
        (String::new(), Some("source: zowe, which needs a running Zowe; add components")),
        (
            "    zowe: {url: 'https://zowe.example'}\n".to_owned(),
            Some("zowe: needs a client certificate"),
        ),
        (format!("    zowe: {{url: 'https://zowe.example', {identity}}}\n"), None),
    ] {
        let (setup, _) = scheme_problems(scheme, &ours, "");
        setup.edit("algorithm: enhanced-mixed ", "source: zowe #");
        setup.edit("key: { file: ptktdata/ZOWEAPPL.key }", "#");
        setup.write(
            "saf.yml",
            "safAccess: {PTKTDATA: {IRRPTAUTH.ADMAPPL.*: {UPDATE: [ZWESVUSR]}}}\n",
            0o644,
        );
        let problems = setup.problems();
        match want {
            Some(want) => {
                assert!(problems.len() == 1 && problems[0].contains(want), "{problems:?}");
            }
            None => {
                let config = setup.load().unwrap().config;
                assert_eq!(config.zowe_tickets.len(), 1);
                // Zowe decides who gets its PassTickets, so the missing permission causes no warning.
                assert!(problems.iter().all(|text| !text.contains("ZOWEAPPL")), "{problems:?}");
            }
        }
    }
}

#[test]
fn a_missing_zowe_yaml_is_one_problem() {
    let error = Config::load(Path::new("/gone/zowe.yaml"), &|_| None).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("/gone/zowe.yaml: cannot read /gone/zowe.yaml: "), "{text}");
    assert_eq!(error.iter().next().unwrap().place().line(), None);
}

/// Reads `yaml` with the reader of each kind of file: zowe.yaml, identities, users, permissions and api-defs.
fn read_as_each_file(yaml: &str) {
    let report = Report::default();
    let document = Document::parse("f".into(), yaml.as_bytes(), &report);
    let section = || document.section(&report);
    let zowe = zowe::read(&mut section());
    let ours = passticket_proxy::read(&mut section(), &|_| None);
    identity_checks::read(&zowe, &ours, &report);
    let registry = Registry::new("r").unwrap();
    for registry in [None, Some(&registry)] {
        identities::read(section(), registry, &[]);
    }
    users::read(section());
    saf::read(section());
    let mut definitions = api_defs::read(section());
    definitions.apply_additions(true);
    routes::request_headers(&ours.overrides, &definitions);
    routes::assemble(&definitions, &ours.overrides, ours.on_failure, &ours.entries, &ours.ptktdata);
    if let Err(problems) = report.finish(Some(())) {
        for problem in problems.iter() {
            assert!(!problem.to_string().contains('\n'));
        }
    }
}

/// Returns a strategy that generates YAML values in flow style. They contain the names of real settings.
fn yaml_value() -> impl Strategy<Value = String> {
    let names = "zowe|certificate|pem|key|components|gateway|port|apiml|security|auth|oidc|enabled|\
                 passticketProxy|services|serviceId|routes|gatewayUrl|instanceBaseUrls|applids|\
                 authentication|scheme|applid|ptktdata|algorithm|group|nextKey|from|windowSeconds|users|timeouts|apiDefs|a/v1|\
                 identities|certificates|distributed|user|subject|issuer|sha256|name|registry|\
                 safAccess|ZOWE|A.'*'|READ|UPDATE|delegation|callers|delegatePassticket|\
                 additionalServiceMetadata|mode|customMetadata|response-timeout|headersToIgnore|clientBasic";
    let scalar = "|~|true|-1|7554|A|ZOWEAPPL|httpBasicPassTicket|legacy|http://a|api/v1|a@b.c|\
                  CN=a|zosmf|x509|FORCE_UPDATE|verify|a,b|'CN=\\\\'|'\\$\\{\\{x\\}\\}'";
    scalar.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4)
                .prop_map(|items| format!("[{}]", items.join(", "))),
            prop::collection::vec((names, inner), 0..6).prop_map(|entries| {
                let entries: Vec<_> = entries.iter().map(|(k, v)| format!("{k}: {v}")).collect();
                format!("{{{}}}", entries.join(", "))
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_readers_never_panic_on_random_yaml(top in "zowe|components|passticketProxy|services|users|\
                                                   safAccess|identities|additionalServiceMetadata",
                                       value in yaml_value()) {
        read_as_each_file(&format!("{top}: {value}\n"));
        read_as_each_file(&value);
    }

    /// The generated resource names contain no wildcards. So a user has exactly the listed access.
    #[test]
    fn users_have_exactly_the_access_that_the_file_lists(
        entries in prop::collection::vec(
            ("[AB]", "[AB]{1,2}(\\.[AB]{1,2}){0,2}", "READ|UPDATE|CONTROL|ALTER", "U[1-3]"), 0..8
        ),
        class in "[AB]", resource in "[AB]{1,2}(\\.[AB]{1,2}){0,2}", user in "U[1-3]",
    ) {
        let yaml: String = entries
            .iter()
            .fold(BTreeMap::<_, BTreeMap<_, BTreeMap<_, Vec<_>>>>::new(), |mut tree, entry| {
                let (class, resource, level, user) = entry;
                let levels = tree.entry(class).or_default().entry(resource).or_default();
                levels.entry(level).or_default().push(user.as_str());
                tree
            })
            .iter()
            .map(|(class, resources)| {
                let resources: String = resources
                    .iter()
                    .map(|(resource, levels)| {
                        let levels: String = levels
                            .iter()
                            .map(|(level, users)| format!("      {level}: [{}]\n", users.join(", ")))
                            .collect();
                        format!("    {resource}:\n{levels}")
                    })
                    .collect();
                format!("  {class}:\n{resources}")
            })
            .collect();
        let report = Report::default();
        let yaml = format!("safAccess:\n{yaml}");
        let document = Document::parse("s".into(), yaml.as_bytes(), &report);
        let saf = FileSaf::new(saf::read(document.section(&report)));
        for level in ["READ", "UPDATE", "CONTROL", "ALTER"] {
            let level: AccessLevel = level.parse().unwrap();
            let written = entries.iter().any(|(c, r, l, u)| {
                (c, r, u) == (&class, &resource, &user) && l.parse::<AccessLevel>().unwrap() >= level
            });
            let got = saf.try_check_now(&UserId::new(&user).unwrap(), &class, &resource, level);
            let want = if written { Access::Granted } else { Access::Refused };
            prop_assert_eq!(got.unwrap(), Ok(want), "{}", yaml);
        }
    }

    #[test]
    fn the_readers_never_panic_on_a_changed_example(
        at in 0..EXAMPLE.len(), len in 0..40_usize, text in "[-a:?|>&*!%@`'\"{}\\[\\]#\t\r\n ~]{0,6}"
    ) {
        let mut yaml = EXAMPLE.to_owned();
        yaml.replace_range(at..(at + len).min(EXAMPLE.len()), &text);
        read_as_each_file(&yaml);
        read_as_each_file(&API_DEF.chars().take(at).chain(text.chars()).collect::<String>());
    }
}

#[test]
fn the_file_of_unauthenticated_requests_is_beside_the_audit_file() {
    for (keys, want) in [
        ("file: audit.jsonl", "audit.unauthenticated.jsonl"),
        ("file: logs/gateway", "logs/gateway.unauthenticated"),
        ("file: audit.jsonl\n      unauthenticatedFile: other/x.jsonl", "other/x.jsonl"),
    ] {
        let setup = Setup::new();
        setup.edit("file: audit.jsonl", keys);
        let audit = setup.load().unwrap().config.audit.unwrap();
        assert_eq!(audit.unauthenticated, setup.0.path().join(want), "{keys}");
    }
    let setup = Setup::new();
    setup.edit("file: audit.jsonl", "file: audit.jsonl\n      unauthenticatedFile: audit.jsonl");
    let want = "components.passticket-proxy.audit.unauthenticatedFile: is the same file as \
                components.passticket-proxy.audit.file; write the path of another file";
    assert!(setup.problems()[0].ends_with(want), "{:?}", setup.problems());
}

/// Replaces the setting `signingKey` by `keys`. Returns the errors. If there are no errors, returns the warnings.
fn key_problems(keys: &str) -> Vec<String> {
    let setup = Setup::new();
    setup.write("new.key", pki::OTHER_SIGNING_KEY, 0o600);
    setup.write("old.pub", &KEY.public_key_pem(), 0o600);
    setup.write("open.key", pki::OTHER_SIGNING_KEY, 0o644);
    setup.edit("signingKey: jwt.key ", keys);
    setup.problems()
}

#[test]
fn settings_of_several_signing_keys_are_checked() {
    let line = "zowe.yaml:36: components.passticket-proxy.signingKeys";
    for (keys, want) in [
        ("signingKeys: [{file: jwt.key, signs: true}] ", &[][..]),
        ("signingKeys: [{file: jwt.key, kid: a}, {file: new.key, kid: b, signs: true}] ", &[]),
        ("signingKeys: [{file: old.pub}, {file: new.key, signs: true}] ", &[]),
        (
            "signingKey: jwt.key\n    signingKeys: [{file: jwt.key, signs: true}] ",
            &[
                "zowe.yaml:36: components.passticket-proxy.signingKey: is present together with signingKeys; add",
            ],
        ),
        (
            "signingKeys: [{file: jwt.key}, {file: new.key, signs: false}] ",
            &[": has no key that signs; set signs: true in one entry"],
        ),
        (
            "signingKeys: [{file: jwt.key, signs: true}, {file: new.key, signs: true}] ",
            &["[1].signs: makes a second key sign; set signs: true in only one entry"],
        ),
        (
            "signingKeys: [{file: jwt.key, kid: a, signs: true}, {file: new.key, kid: a}] ",
            &["[1].kid: a is the kid of an earlier entry; choose another kid"],
        ),
        (
            "signingKeys: [{file: jwt.key, signs: true}, {file: old.pub, kid: a}] ",
            &["[1].file: has the same key as an earlier entry; remove one of the two entries"],
        ),
        (
            "signingKeys: [{file: old.pub, signs: true}] ",
            &["[0].file: old.pub is not a PEM document with an RSA private key"],
        ),
        (
            "signingKeys: [{file: jwt.key, signs: true}, {file: open.key}] ",
            &["[1].file: cannot be used: "],
        ),
        (
            "signingKeys: [{file: jwt.key, kid: 'a b', signs: true}] ",
            &["[0].kid: \"a b\" is not the id of a key; write 1 to 128 visible ASCII"],
        ),
        (
            "signingKeys: [{file: jwt.key, sings: true}] ",
            &["[0].sings: is an unknown key; did you mean signs?", ": has no key that signs"],
        ),
        ("signingKeys: [{kid: a, signs: true}] ", &["[0].file: is missing; write the path of a"]),
    ] {
        let got = key_problems(keys);
        assert_eq!(got.len(), want.len(), "{keys}: {got:#?}");
        for (got, want) in got.iter().zip(want) {
            let want = want.replace("cannot be used: ", "open.key is accessible to users other");
            let want = if want.starts_with("zowe") { want } else { format!("{line}{want}") };
            assert!(got.starts_with(&want), "got {got}, expected {want}");
        }
    }
    let many: String = (0..9).map(|_| "{file: jwt.key},").collect();
    let got = key_problems(&format!("signingKeys: [{many}] "));
    assert!(got[0].contains("has 9 keys; write at most 8"), "{got:?}");
}

#[test]
fn identities_of_protected_users_cause_a_warning() {
    let setup = Setup::new();
    let entries = "distributed:
    - {user: USER, name: user@example.com}
    - {user: ibmuser, name: root@example.com}
    - {user: ZWESVUSR, name: gateway@example.com}
";
    setup.write("identities.yml", &format!("identities:\n  {entries}"), 0o644);
    setup.edit("certificateMapping: file", "certificateMapping: common-name");
    let problems = setup.problems();
    for (index, user) in [(1, "IBMUSER"), (2, "ZWESVUSR")] {
        let line = index + 3;
        let want = format!(
            "identities.yml:{line}: identities.distributed[{index}]: maps a distributed identity"
        );
        assert!(
            problems.iter().any(|got| got.starts_with(&want) && got.contains(user)),
            "{want} {problems:#?}"
        );
    }
    let config = setup.load().unwrap().config;
    assert_eq!(config.protected_users.len(), 2);
}

/// Loads a configuration with these entries of `oidc`. Returns the errors. If there are none, returns the warnings.
fn oidc_problems(setup: &Setup, entries: &str) -> Vec<String> {
    setup.edit("signingKey: jwt.key ", &format!("signingKey: jwt.key\n    oidc: {entries} "));
    setup.problems()
}

#[test]
fn identity_providers_have_an_issuer_keys_and_an_audience() {
    let good = "issuer: 'https://idp/a', jwksUri: 'https://idp/keys', audience: gw";
    let with = |more: &str| format!("[{{{good}, {more}}}]");
    let setup = Setup::new();
    assert_eq!(oidc_problems(&setup, &format!("[{{{good}}}]")), [""; 0]);
    let config = setup.load().unwrap().config;
    let [provider] = config.oidc.as_slice() else { panic!() };
    assert_eq!(provider.issuer.as_str(), "https://idp/a");
    assert_eq!(provider.audiences, ["gw"]);
    assert_eq!(provider.algorithms, [tower_passticket::token::Algorithm::Rs256]);
    assert_eq!(provider.user_id_fields, ["sub"]);
    assert_eq!(provider.refresh.as_secs(), 600);
    assert!(provider.authorities.is_none() && provider.authorized_parties.is_empty());
    assert!(matches!(config.identity_mapping, Some(IdentityMapping::File(_))));

    let setup = Setup::new();
    let all = with(
        "algorithms: [ES256, PS512], userIdField: [a.b, email], registry: idp, authorizedParties: [x], refreshMinutes: 1, \
         certificateAuthorities: tls/ca.pem",
    );
    assert_eq!(oidc_problems(&setup, &all), [""; 0]);
    let provider = &setup.load().unwrap().config.oidc[0];
    assert_eq!(provider.registry, Registry::new("idp").unwrap());
    assert_eq!((provider.algorithms.len(), provider.user_id_fields.len()), (2, 2));
    assert!(provider.authorities.is_some());

    let at = "zowe.yaml:37: components.passticket-proxy.oidc";
    for (entries, want) in [
        (
            "[{}]".to_owned(),
            &[
                "[0].issuer: is missing",
                "[0].jwksUri: is missing",
                "[0].audience: is missing; write the client id",
            ][..],
        ),
        (with("x: 1"), &["[0].x: is an unknown key"]),
        (
            with("algorithms: [RS256, HS256]"),
            &["[0].algorithms[1]: \"HS256\" is not an accepted algorithm"],
        ),
        (with("algorithms: none"), &["[0].algorithms: \"none\" is not an accepted algorithm"]),
        (
            with("authorizedParties: [], userIdField: [], algorithms: []"),
            &[
                "[0].authorizedParties: is empty; write at least one value",
                "[0].algorithms: is empty; write at least one value",
                "[0].userIdField: is empty; write at least one value",
            ],
        ),
        (with("authorizedParties:"), &["[0].authorizedParties: "]),
        (with("refreshMinutes: 0"), &["[0].refreshMinutes: \"0\" is not valid"]),
        (
            "[{issuer: APIML, jwksUri: 'http://idp/keys', audience: gw}]".to_owned(),
            &[
                "[0].issuer: \"APIML\" is not the URL of an issuer",
                "[0].jwksUri: is not protected by TLS",
            ],
        ),
        (
            format!("[{{{good}}}, {{{good}}}]"),
            &[
                "[1]: has the issuer https://idp/a of an earlier entry; remove one of the two entries",
            ],
        ),
        (
            format!("[{{{good}}}, {{issuer: 'https://b', jwksUri: 'https://b/', audience: x}}]"),
            &[
                "[1]: has the same registry as https://idp/a, so each of the two providers can issue",
            ],
        ),
        (
            format!(
                "[{{{good}}}, {{issuer: 'https://b', jwksUri: 'https://idp/keys', audience: x, registry: b}}]"
            ),
            &["[1]: has the same jwksUri as https://idp/a, so each of the two issuers can sign"],
        ),
        (with("certificateAuthorities: none.pem"), &["[0].certificateAuthorities: cannot read"]),
    ] {
        let got = oidc_problems(&Setup::new(), &entries);
        assert_eq!(got.len(), want.len(), "{entries}: {got:#?}");
        for (got, want) in got.iter().zip(want) {
            assert!(got.starts_with(&format!("{at}{want}")), "got {got}, expected {want}");
        }
    }

    // A provider without a mapping of its users to z/OS users is an error.
    let setup = Setup::new();
    setup.write(
        "identities.yml",
        "identities: {certificates: [{user: USER, subject: 'CN=a'}]}",
        0o644,
    );
    let got = oidc_problems(&setup, &format!("[{{{good}}}]"));
    assert!(
        got.iter().any(|got| got.starts_with(&format!("{at}: needs a mapping of the users"))),
        "{got:#?}"
    );
}

const PROVIDER: &str = "[{issuer: 'https://idp/a', jwksUri: 'https://idp/keys', audience: gw}]";

/// Makes a setup with an identity provider and these rules for technical users. The service `jwt` has the scheme
/// `zoweJwt`, so it gets no PassTickets.
fn with_technical_users(rules: &str) -> Setup {
    let setup = Setup::new();
    let keys =
        format!("signingKey: jwt.key\n    oidc: {PROVIDER}\n    technicalUsers: technical.yml ");
    setup.edit("signingKey: jwt.key ", &keys);
    let jwt = API_DEF.replace("dcpassticket", "jwt");
    let jwt = jwt.replace("{scheme: httpBasicPassTicket, applid: ZOWEAPPL}", "{scheme: zoweJwt}");
    setup.write("api-defs/jwt.yml", &jwt, 0o644);
    setup.write("technical.yml", &format!("technicalUsers:\n  {rules}\n"), 0o644);
    setup
}

#[test]
fn technical_users_are_read_for_each_service_and_the_provider_keeps_their_claims() {
    let setup = with_technical_users(
        "- {issuer: 'https://idp/a', services: dcpassticket, claim: groups, value: batch, user: batchusr}",
    );
    assert_eq!(setup.problems(), [""; 0]);
    let config = setup.load().unwrap().config;
    assert_eq!(config.technical_users.len(), 1);
    let service = ServiceId::new("dcpassticket").unwrap();
    let rule = TechnicalUserRule::new(
        "https://idp/a",
        "groups",
        "batch",
        UserId::new("BATCHUSR").unwrap(),
    );
    let want = TechnicalUsers::new([rule.unwrap()]).unwrap();
    assert_eq!(*config.technical_users[&service], want);
    let kept: Vec<_> = config.oidc[0].kept_values.iter().cloned().collect();
    assert_eq!(kept, [("groups".to_owned(), "batch".to_owned())]);

    // Persons who act through technical users need no user ids of their own.
    setup.write(
        "identities.yml",
        "identities: {certificates: [{user: USER, subject: 'CN=a'}]}",
        0o644,
    );
    setup.edit("        delegatePassticket: true ", "        delegatePassticket: false ");
    assert!(setup.load().is_ok(), "{:?}", setup.problems());

    let setup = Setup::new();
    assert!(setup.load().unwrap().config.technical_users.is_empty());
}

#[test]
fn wrong_technical_users_are_reported_with_their_places() {
    let rule = |services: &str, user: &str| {
        format!(
            "{{issuer: 'https://idp/a', services: {services}, claim: groups, value: batch, user: {user}}}"
        )
    };
    let at = "technical.yml:2: technicalUsers[0]";
    for (rules, want) in [
        (
            "- {}".to_owned(),
            vec![
                format!("{at}.issuer: is missing; write the issuer of an entry of oidc"),
                format!("{at}.services: is missing; write the id of a service, or a list of ids"),
                format!("{at}.claim: is missing; write the name of a claim of the tokens"),
                format!("{at}.value: is missing; write the value that the claim has"),
                format!("{at}.user: is missing; write the user id of the technical user"),
            ],
        ),
        (
            format!("- {}", rule("'*'", "BATCHUSR")),
            vec![format!("{at}.services: would be all services, also those that are added later; write the id of each")],
        ),
        (
            format!("- {}", rule("dcpasticket", "BATCHUSR")),
            vec![format!("{at}.services: service dcpasticket has no route; did you mean dcpassticket?")],
        ),
        (
            format!("- {}", rule("[dcpassticket, jwt]", "BATCHUSR")),
            vec![format!("{at}.services[1]: has the scheme zoweJwt; only services with httpBasicPassTicket")],
        ),
        (
            format!("- {}", rule("dcpassticket", "IBMUSER")),
            vec![format!("{at}.user: is IBMUSER, which is the gateway's own user or one of delegation.protectedUsers")],
        ),
        (
            format!("- {}", rule("dcpassticket", "ZWESVUSR")),
            vec![format!("{at}.user: is ZWESVUSR, which is the gateway's own user")],
        ),
        (
            format!("- {}", rule("dcpassticket", "TOOLONGNAME")),
            vec![format!("{at}.user: ")],
        ),
        (
            format!("- {}", rule("dcpassticket", "BATCHUSR").replace("idp/a", "idp/b")),
            vec![format!("{at}: has the issuer https://idp/b, which no entry of components.passticket-proxy.oidc has")],
        ),
        (
            format!("- {}", rule("dcpassticket", "BATCHUSR").replace("value: batch", "value: 'b\tc'")),
            vec![format!("{at}: the value has a control character; remove it")],
        ),
        (
            format!("- {}\n  - {}", rule("dcpassticket", "BATCHUSR"), rule("dcpassticket", "OTHER")),
            vec![
                "technical.yml:3: technicalUsers[1]: is the second rule for the service dcpassticket with this issuer, the \
                 claim \"groups\" and the value \"batch\"; keep one of the two rules"
                    .to_owned(),
            ],
        ),
        (
            format!("- {}\n  - x: 1", rule("dcpassticket", "BATCHUSR")),
            vec!["technical.yml:3: technicalUsers[1].issuer".to_owned()],
        ),
    ] {
        let got = with_technical_users(&rules).problems();
        assert!(got.len() >= want.len(), "{rules}: {got:#?}");
        for want in want {
            assert!(got.iter().any(|got| got.starts_with(&want)), "{rules}: expected {want}, got {got:#?}");
        }
    }

    let claims = |n: usize| {
        let rule = |i: usize| {
            let rule = rule("dcpassticket", "BATCHUSR");
            format!("- {}\n  ", rule.replace("claim: groups", &format!("claim: c{i}")))
        };
        (0..n).map(rule).collect::<String>()
    };
    let [problem] = &with_technical_users(&claims(9)).problems()[..] else { panic!() };
    assert!(
        problem.starts_with("technical.yml:10: technicalUsers[8]: for the service"),
        "{problem}"
    );
    assert!(problem.contains("name more than 8 claims"), "{problem}");
    let problems = with_technical_users(&claims(65)).problems();
    let want =
        "technicalUsers: names 65 claims of the issuer https://idp/a; write at most 64 different";
    assert!(problems.iter().any(|problem| problem.contains(want)), "{problems:#?}");

    // The gateway has no permission to make tickets for the technical user.
    let setup = with_technical_users(&format!("- {}", rule("dcpassticket", "BATCHUSR")));
    let saf = SAF
        .replace("{UPDATE: [ZWESVUSR]}", "{UPDATE: [ZWESVUSR]}, IRRPTAUTH.ZOWEAPPL.BATCHUSR: {}");
    setup.write("saf.yml", &saf, 0o644);
    let [warning] = &setup.problems()[..] else { panic!("{:#?}", setup.problems()) };
    let want = format!(
        "{at}.user: is BATCHUSR, but the file of saf gives ZWESVUSR no UPDATE on IRRPTAUTH.ZOWEAPPL.BATCHUSR"
    );
    assert!(warning.starts_with(&want), "{warning}");

    // Other users must not be able to write the file.
    let setup = with_technical_users(&format!("- {}", rule("dcpassticket", "BATCHUSR")));
    setup.set_mode("technical.yml", 0o666);
    let problems = setup.problems();
    assert!(problems[0].contains("components.passticket-proxy.technicalUsers"), "{problems:#?}");
}

#[test]
fn the_example_of_technical_users_has_no_unknown_key() {
    let setup = with_technical_users("");
    let example = include_str!("examples/technical-users.yml");
    setup.write("technical.yml", example, 0o644);
    for problem in setup.problems() {
        let expected = problem.contains("has no route") || problem.contains("has the issuer");
        assert!(expected, "{problem}");
    }
}

#[test]
fn the_common_event_format_has_its_own_file_names() {
    let setup = Setup::new();
    setup.edit("      file: audit.jsonl ", "      format: cef ");
    let audit = setup.load().unwrap().config.audit.unwrap();
    assert_eq!(audit.file, setup.0.path().join("audit.cef"));
    assert_eq!(audit.unauthenticated, setup.0.path().join("audit.unauthenticated.cef"));
    assert!(format!("{:?}", audit.options).contains("CEF:0|tower-passticket|passticket-proxy|"));
    let setup = Setup::new();
    setup.edit("      file: audit.jsonl ", "      format: leef ");
    let want = "components.passticket-proxy.audit.format: is unknown; write json or cef";
    assert!(setup.problems()[0].ends_with(want), "{:?}", setup.problems());
}
