//! The configuration: from a zowe.yaml to a checked [`Config`].
//!
//! An operator can use the zowe.yaml of a Zowe installation. Zowe's own keys have the meaning that
//! Zowe gives them (docs/reference/data-plane.md#zowe-yaml). The settings for which Zowe has no key
//! stand in one more top-level section, `passticketProxy`. Services are Zowe static definitions
//! (docs/reference/data-plane.md#static-definitions).
//!
#![doc = concat!("```yaml\n", include_str!("examples/zowe.yaml"), "```")]
//!
//! # Rules
//!
//! 1. Everything is checked before anything starts: files are read, keys and certificates are
//!    parsed, and each APPLID has its key.
//! 2. All problems are reported together, in [`Problems`], each with file, line, key and remedy.
//! 3. Unknown keys are errors in `passticketProxy`, in api-defs, in the files below, and in
//!    `components.gateway.apiml.security`: there a typing error could switch security off. Other
//!    unknown keys of a zowe.yaml are ignored. A key of Zowe that has an effect in Zowe and none
//!    here is a warning.
//! 4. A blank value counts as absent, as in the zowe.yaml that Zowe ships. A template (`${{ ... }}`)
//!    is an error where its value is needed.
//! 5. Secrets (the two private keys, PassTicket keys, password hashes) stand in files that only
//!    their owner may access, see [`read_secret_file`]; PassTicket keys can also stand in
//!    environment variables. Neither a problem nor `Debug` shows a secret, even in the wrong place.
//! 6. YAML anchors, aliases and merge keys (`<<`) work, within a limit on the number of values.
//!
//! # Listening
//!
//! `host` is an IP address or a host name. A name is resolved once, at start. If it has several
//! addresses, the gateway listens on the first IPv4 address, or on the first IPv6 address if it has
//! no other. `0.0.0.0` stands for all IPv4 addresses of the machine, `::` for all addresses.
//!
//! # Other files
//!
//! `users` names a file with the password hash of each user, a PHC string of Argon2.
//! `passticket-proxy passwd USER` prints an entry.
//!
#![doc = concat!("```yaml\n", include_str!("examples/users.yml"), "```")]
//!
//! `saf` names a file with permissions, in the form of Zowe's `saf.yml`
//! (docs/reference/identity-and-saf.md#saf-file). A resource may also be a generic profile of RACF,
//! see [`ProfileName`](tower_passticket::saf::ProfileName). An access that the file does not list is
//! refused.
//!
#![doc = concat!("```yaml\n", include_str!("examples/saf.yml"), "```")]
//!
//! The gateway reads a changed file within seconds. Write a new file and rename it into place: a
//! partly written file may lack a deny rule. The gateway reads neither this file nor that of
//! identities while other users than its owner and group may write it.
//!
//! `identities` names a file that maps certificates and distributed identities to user ids. A
//! certificate is found by its fingerprint or by the last parts of its names, see
//! [`CertificateFilter`](tower_passticket::identity::CertificateFilter).
//!
#![doc = concat!("```yaml\n", include_str!("examples/identities.yml"), "```")]
//!
//! `apiDefs` names static definitions. Of a definition, these keys have an effect:
//!
#![doc = concat!("```yaml\n", include_str!("examples/api-def.yml"), "```")]
//!
//! # Replay protection
//!
//! `replayProtection` of an entry in `ptktdata` must agree with the application's profile in the
//! security product. With `true`, the default, the security product accepts a PassTicket once. The
//! gateway then makes each PassTicket once: one per second for each user and APPLID, with a burst of
//! about 60 after a pause. A request beyond that gets none
//! ([`NoTimeSlot`](tower_passticket::passticket::NoTimeSlot)). With `false` the profile must allow
//! replay, as Zowe requires, and there is no such limit. `passticket-proxy esm --from-config` prints
//! the commands for either setting.
//!
//! # AT-TLS
//!
//! With Zowe's `attls`, for the whole of Zowe or for the gateway alone, z/OS encrypts in front of
//! the gateway. The gateway then serves plain HTTP/1.1 and accepts no client certificates:
//!
//! ```yaml
//! zowe:
//!   network:
//!     server:
//!       tls:
//!         attls: true
//! ```
//!
//! # Example
//!
//! ```
//! use std::path::Path;
//! use passticket_proxy::config::Config;
//!
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("zowe.yaml");
//! std::fs::write(&path, "passticketProxy:\n  singingKey: jwt.key\n")?;
//!
//! let problems = Config::load(&path, &|name| std::env::var(name).ok()).unwrap_err();
//! let problem = problems.iter().find(|problem| problem.place().line() == Some(2)).unwrap();
//! assert_eq!(problem.place().key(), "passticketProxy.singingKey");
//! assert_eq!(problem.text(), "is not a key that can stand here; did you mean signingKey?");
//! # Ok::<(), std::io::Error>(())
//! ```

mod api_defs;
mod apiml_security;
mod configured_route;
mod encoding;
mod identities;
mod identity_checks;
mod listen;
mod passticket_proxy;
mod pem;
mod problem;
mod ptktdata;
mod reader;
mod routes;
mod saf;
mod secret_file;
mod security_keys;
mod settings;
#[cfg(test)]
#[cfg(unix)]
mod tests;
mod tls_files;
mod users;
mod yaml;
mod zowe;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use http::HeaderName;

pub use configured_route::{ConfiguredRoute, ServiceScheme};
pub use listen::Listen;
pub use problem::{Place, Problem, Problems};
pub use secret_file::{SecretFileError, read_secret_file};
pub use settings::{
    AuditSettings, CertificateMapping, DelegationSettings, Encryption, IdentityMapping,
    LimitSettings, TimeoutSettings, Zss,
};
pub use tls_files::TlsFiles;

use passticket_proxy::{PassticketProxy, api_def_files};
use pem::Wanted;
use problem::Report;
use ptktdata::Environment;
use reader::{At, Document, Field};
use secret_file::{read_authorization_file, read_public_file};
use tower_passticket::{
    api::{Compatibility, GuardingResources, PasswordHash},
    layer::{CookieNames, CustomHeaders},
    passticket::{KeyProfiles, UserId},
    remote::Address,
    saf::{FileSaf, Profile},
    tls::Verification,
    token::{SigningKey, Validity},
};
use zowe::Zowe;

/// A checked configuration. See the [module](self).
///
/// `Debug` shows neither keys nor hashes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// `passticketProxy.host` and `components.gateway.port`.
    pub listen: Listen,
    /// `zowe.network.server.tls.attls`, or the same key below `components.gateway`.
    pub encryption: Encryption,
    /// `zowe.certificate.pem.*`.
    pub tls: TlsFiles,
    /// `zowe.verifyCertificates`.
    pub verify: Verification,
    /// `passticketProxy.signingKey`.
    pub signing_key: SigningKey,
    /// `passticketProxy.users`: each user once.
    pub users: Vec<(UserId, PasswordHash)>,
    /// Whether Personal Access Tokens are credentials: `...security.personalAccessToken.enabled`.
    pub pats: bool,
    /// The maximum validity of a Personal Access Token:
    /// `passticketProxy.personalAccessToken.maximumValidityDays`.
    pub max_validity: Validity,
    /// How often expired revocations are removed:
    /// `passticketProxy.personalAccessToken.evictEveryHours`.
    pub evict_every: Duration,
    /// Whether a client can exchange a login token for a new one: `...security.allowTokenRefresh`.
    pub token_refresh: bool,
    /// The user id of the gateway in the security product: `passticketProxy.gatewayUser`.
    pub gateway_user: UserId,
    /// The permissions, those for PassTickets included: `passticketProxy.saf`.
    pub saf: FileSaf,
    /// The file of [`saf`](Self::saf), to be [read again](read_permissions) when it changes.
    pub saf_file: Option<PathBuf>,
    /// The endpoint that checks the guarding resources instead of the file:
    /// `...security.authorization.provider` and `endpoint.url`.
    pub saf_endpoint: Option<Address>,
    /// `...security.authorization.resourceClass` and `resourceNamePrefix`, or `...security.saf`
    /// with `serviceResourceClass` and `serviceResourceNamePrefix`. With an endpoint the class is
    /// `ZOWE`.
    pub guards: GuardingResources,
    /// How a client certificate is mapped to a user id: `passticketProxy.certificateMapping`.
    pub certificate_mapping: CertificateMapping,
    /// Delegated PassTickets, if `...security.delegatePassticket` is on.
    pub delegation: Option<DelegationSettings>,
    /// The audit file, unless `passticketProxy.audit.enabled` is off.
    pub audit: Option<AuditSettings>,
    /// The file of revocations: `passticketProxy.revocations`. It need not exist.
    pub revocations: PathBuf,
    /// Which responses the auth API gives: `passticketProxy.compatibility`.
    pub compatibility: Compatibility,
    /// Whether client certificates are credentials: `...security.x509.enabled`.
    pub client_certificates: bool,
    /// `...security.auth.passticket.customUserHeader` and `customAuthHeader`, if both are present.
    pub custom_headers: Option<CustomHeaders>,
    /// Each of the two headers that is present. Clients may not set them.
    pub strip_headers: Vec<HeaderName>,
    /// `...security.auth.cookieProperties.cookieName` and `cookieNamePAT`.
    pub cookies: CookieNames,
    /// The lifetime of a login token: `...security.auth.tokenProperties.expirationInSeconds`.
    pub token_lifetime: Duration,
    /// Time limits.
    pub timeouts: TimeoutSettings,
    /// Limits of what grows with users and connections.
    pub limits: LimitSettings,
    /// The services, from the api-defs that `passticketProxy.apiDefs` names and
    /// `passticketProxy.services`. Every APPLID among them is in [`profiles`](Self::profiles).
    pub routes: Vec<ConfiguredRoute>,
    /// `passticketProxy.ptktdata`.
    pub profiles: KeyProfiles,
}

/// A configuration and its warnings.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Keys without the effect that the operator may expect.
    pub warnings: Vec<Problem>,
}

impl Config {
    /// Reads the zowe.yaml at `path` and the files that it names, with paths relative to it.
    ///
    /// `env` looks up the environment variables with PassTicket keys; a program passes
    /// `&|name| std::env::var(name).ok()`. Other variables are not looked up. Blocks while it reads
    /// files and resolves a host name.
    ///
    /// # Errors
    /// [`Problems`] has the problems of all files.
    pub fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, Problems> {
        let report = Report::default();
        let config = load(path, env, &report);
        let (config, warnings) = report.finish(config)?;
        Ok(Loaded { config, warnings })
    }
}

/// Continues after a problem, to report all of them.
fn load(path: &Path, env: Environment<'_>, report: &Report) -> Option<Config> {
    let document = match read_public_file(path) {
        Ok(bytes) => Document::parse(path.to_owned(), &bytes, report),
        Err(error) => {
            report.error(Problem::of_file(path, &error.to_string()));
            return None;
        }
    };
    let mut root = document.section(report);
    let zowe = zowe::read(&mut root);
    let ours = passticket_proxy::read(&mut root, env);

    let tls =
        tls_files::read(zowe.certificate.as_ref(), zowe.key.as_ref(), zowe.authorities.as_ref());
    let signing_key = ours.signing_key.as_ref().and_then(signing_key);
    let users = users(&zowe, &ours, report);
    let saf_file = ours.saf.as_ref().and_then(Field::path);
    let profiles = match (&ours.saf, &saf_file) {
        (Some(field), Some(file)) => permissions(file, &field.at, report),
        _ => Vec::new(),
    };
    let identification = identity_checks::read(&zowe, &ours, report);
    let audit = match &ours.audit.file {
        Some(field) => field.path(),
        None => Some(path.with_file_name("audit.jsonl")),
    };
    let revocations = match &ours.revocations {
        Some(field) => field.path(),
        None => Some(path.with_file_name("revocations.redb")),
    };
    let definitions = api_defs(&ours, report);
    let services = definitions.iter().flat_map(|file| api_defs::read(file.section(report)));
    let services: Vec<_> = services.collect();
    let PassticketProxy { overrides, on_failure, entries, ptktdata, .. } = &ours;
    // A file that is not YAML may define the services that seem to be missing.
    if definitions.iter().all(Document::is_yaml) {
        routes::check_names(&services, overrides);
    }
    let routes = routes::assemble(services, overrides, *on_failure, entries, ptktdata);
    if routes.is_empty() {
        ours.at.warning(
            "has no routes, so nothing is forwarded; write api-defs and their path to apiDefs",
        );
    }
    identity_checks::check_tickets(&profiles, &routes, &ours);
    let host = listen::host(ours.host.as_ref(), &listen::resolve);
    if let Some(at) = &zowe.attls
        && !host.is_loopback()
    {
        at.warning(format_args!(
            "makes the gateway serve plain HTTP on {host}: without AT-TLS in front of it, passwords \
             and tokens cross the network in clear text",
        ));
    }
    let security = zowe.security;
    Some(Config {
        listen: Listen {
            address: SocketAddr::new(host, zowe.port),
            port_at: zowe.port_at,
            host_at: ours.host_at,
        },
        encryption: if zowe.attls.is_some() { Encryption::AtTls } else { Encryption::Tls },
        tls: tls?,
        verify: zowe.verify,
        signing_key: signing_key?,
        users,
        pats: security.pats,
        max_validity: ours.max_validity,
        evict_every: ours.evict_every,
        token_refresh: security.token_refresh,
        gateway_user: ours.gateway_user,
        saf: FileSaf::new(profiles),
        saf_file,
        saf_endpoint: security.saf_endpoint,
        guards: security.guards,
        certificate_mapping: identification.certificate_mapping,
        delegation: identification.delegation,
        audit: match (ours.audit.enabled, ours.audit.options) {
            (true, options) => Some(AuditSettings { file: audit?, options }),
            (false, _) => None,
        },
        revocations: revocations?,
        compatibility: ours.compatibility,
        client_certificates: security.client_certificates,
        custom_headers: security.custom_headers,
        strip_headers: security.strip_headers,
        cookies: security.cookies,
        token_lifetime: security.token_lifetime,
        timeouts: TimeoutSettings {
            connect: zowe.timeout,
            response: zowe.timeout,
            handshake: ours.handshake,
            drain: ours.drain,
            provider: ours.provider,
        },
        limits: ours.limits,
        routes,
        profiles: KeyProfiles::new(ours.profiles).expect("a second entry of an APPLID is left out"),
    })
}

fn signing_key(field: &Field<'_>) -> Option<SigningKey> {
    let path = field.path()?;
    let pem = match read_secret_file(&path) {
        Ok(pem) => pem,
        Err(error) => {
            field.at.error(error);
            return None;
        }
    };
    match SigningKey::from_pem(&pem) {
        Ok(key) => Some(key),
        Err(error) => {
            let text = pem::explain(&pem, &path, Wanted::PrivateKey);
            let text = text.unwrap_or_else(|| error.to_string());
            field.at.error(format_args!("{} {text}", path.display()));
            None
        }
    }
}

fn users(
    zowe: &Zowe<'_>,
    ours: &PassticketProxy<'_>,
    report: &Report,
) -> Vec<(UserId, PasswordHash)> {
    let Some(field) = &ours.users else {
        if !zowe.security.client_certificates {
            ours.at.warning(
                "names no users, and client certificates are off, so no user can log in; write \
                 users: PATH, or enable x509",
            );
        }
        return Vec::new();
    };
    let Some(path) = field.path() else { return Vec::new() };
    match read_secret_file(&path) {
        Ok(bytes) => users::read(Document::parse(path, &bytes, report).section(report)),
        Err(error) => {
            field.at.error(error);
            Vec::new()
        }
    }
}

fn permissions(file: &Path, at: &At<'_>, report: &Report) -> Vec<Profile> {
    match read_authorization_file(file) {
        Ok(bytes) => saf::read(Document::parse(file.to_owned(), &bytes, report).section(report)),
        Err(error) => {
            at.error(error);
            Vec::new()
        }
    }
}

/// Reads a file of permissions again, for [`FileSaf::replace`].
///
/// # Errors
/// [`Problems`] has all problems of the file.
pub fn read_permissions(file: &Path) -> Result<Vec<Profile>, Problems> {
    let report = Report::default();
    let profiles = match read_authorization_file(file) {
        Ok(bytes) => {
            let document = Document::parse(file.to_owned(), &bytes, &report);
            Some(saf::read(document.section(&report)))
        }
        Err(error) => {
            report.error(Problem::of_file(file, &error.to_string()));
            None
        }
    };
    report.finish(profiles).map(|(profiles, _)| profiles)
}

/// The api-defs. A file that is named twice is read once.
fn api_defs(ours: &PassticketProxy<'_>, report: &Report) -> Vec<Document> {
    let mut read: Vec<PathBuf> = Vec::new();
    let mut documents = Vec::new();
    for field in &ours.api_defs {
        for file in api_def_files(field) {
            if read.contains(&file) {
                continue;
            }
            match read_public_file(&file) {
                Ok(bytes) => documents.push(Document::parse(file.clone(), &bytes, report)),
                Err(error) => field.at.error(error),
            }
            read.push(file);
        }
    }
    documents
}
