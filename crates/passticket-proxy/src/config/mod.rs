//! From a zowe.yaml to a checked [`Config`].
//!
//! An operator points at the zowe.yaml of the Zowe installation. Its own keys mean what they mean
//! there (zowe-dataplane §5.3); what Zowe has no key for stands in one more top-level section,
//! `passticketProxy`. Services are Zowe static definitions (zowe-dataplane §5.2).
//!
#![doc = concat!("```yaml\n", include_str!("example.yaml"), "```")]
//!
//! # Rules
//!
//! 1. Everything is checked before anything starts: files are read, keys and certificates parsed,
//!    and each APPLID has its key.
//! 2. Everything that is wrong is told at once, in [`Problems`], with file, line, key and what to
//!    write instead.
//! 3. Unknown keys are errors in `passticketProxy`, in api-defs, in the file of users and in
//!    `components.gateway.apiml.security`; a typing error there could switch security off. The rest
//!    of a zowe.yaml is ignored. A key of Zowe that would have an effect there and has none here is
//!    a warning.
//! 4. A blank value is none, as in the zowe.yaml that Zowe comes with. Templates (`${{ … }}`) are
//!    errors where the value is needed.
//! 5. Secrets (the two private keys, PassTicket keys, hashes of passwords) stand in files that only
//!    their owner may open, see [`read_secret_file`]; PassTicket keys also in environment variables.
//!    Neither a problem nor `Debug` shows one, not even one in the wrong place.
//!
//! # Other files
//!
//! `users` names a file with a hash for each user, made by argon2:
//!
//! ```yaml
//! users:
//!   USER: "$argon2id$v=19$m=19456,t=2,p=1$…"
//! ```
//!
//! `saf` names a file in the form of Zowe's `saf.yml` with who may do what; what it does not list is
//! refused:
//!
//! ```yaml
//! safAccess:
//!   ZOWE:                          # the class
//!     APIML.SERVICES:              # READ: revoke tokens of others; UPDATE: evict as well
//!       UPDATE:
//!         - USER
//!     APIML.DELEGATE.PASSTICKET:   # READ: obtain PassTickets for others
//!       READ:
//!         - AGENT
//!   PTKTDATA:
//!     IRRPTAUTH.ZOWEAPPL.*:        # UPDATE: make PassTickets of this APPLID; see ProfileName
//!       UPDATE:
//!         - ZWESVUSR
//! ```
//!
//! A change of it counts within seconds. Write the new version beside it and rename it into place:
//! of a file that is being written, the part that is there may be good YAML and lack the profile that
//! refuses. Neither this file nor that of identities is read while others than owner and group may
//! write it.
//!
//! `identities` names a file with whose certificates and distributed identities are. A certificate
//! is told by its fingerprint or by the ends of its names (see
//! [`CertificateFilter`](tower_passticket::identity::CertificateFilter)):
//!
//! ```yaml
//! identities:
//!   certificates:
//!     - user: OPERATOR
//!       subject: OU=Operations,O=Example
//!       issuer: CN=Example CA,O=Example
//!   distributed:
//!     - user: USER
//!       name: user@example.com
//! ```
//!
//! Of an api-def, these have a meaning: `serviceId`, the first of `instanceBaseUrls`, `routes` and
//! `authentication`, whose `scheme` is `httpBasicPassTicket` with an `applid`, or `bypass`.
//!
//! ```yaml
//! services:
//!   - serviceId: dcpassticket
//!     instanceBaseUrls:
//!       - https://localhost:10012/discoverableclient
//!     routes:
//!       - gatewayUrl: api/v1
//!         serviceRelativeUrl: /api/v1
//!     authentication:
//!       scheme: httpBasicPassTicket
//!       applid: ZOWEAPPL
//! ```
//!
//! # Replay protection
//!
//! `replayProtection` of an entry in `ptktdata` says what the application's profile in the security
//! product does. With `true`, the default, it takes a PassTicket once, and the gateway makes none
//! twice: one a second for each user and APPLID, and some 60 at once after a pause; the request
//! beyond gets none ([`NoTimeSlot`](tower_passticket::passticket::NoTimeSlot)). With `false` it must allow replay,
//! as Zowe asks for, and there is no such limit. `passticket-proxy esm --from-config` prints the
//! commands for either.
//!
//! # AT-TLS
//!
//! With Zowe's `attls`, for all of Zowe or for the gateway alone, z/OS encrypts in front of the
//! gateway, which serves plain HTTP/1.1 then and takes no client certificates:
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
//! let told = problems.iter().find(|problem| problem.line() == Some(2)).unwrap();
//! assert_eq!(told.key(), "passticketProxy.singingKey");
//! assert_eq!(told.text(), "is no key that can stand here; did you mean signingKey?");
//! # Ok::<(), std::io::Error>(())
//! ```

mod api_defs;
mod configured_route;
mod identities;
mod identity_checks;
mod passticket_proxy;
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
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use http::HeaderName;

pub use configured_route::{ConfiguredRoute, ServiceScheme};
pub use problem::{Problem, Problems};
pub use secret_file::{SecretFileError, read_secret_file};
pub use settings::{
    AuditSettings, CertificateMapping, DelegationSettings, Encryption, IdentityMapping, Limits,
    Timeouts, Zss,
};
pub use tls_files::TlsFiles;

use passticket_proxy::{PassticketProxy, api_def_files};
use problem::Report;
use reader::{At, Document, Field};
use secret_file::{read_decisive_file, read_public_file};
use tower_passticket::{
    api::{Compatibility, GuardingResources},
    layer::{CookieNames, CustomHeaders},
    passticket::{KeyProfiles, UserId},
    remote::Address,
    saf::{FileSaf, Profile},
    tls::Verification,
    token::{SigningKey, Validity},
};
use zowe::Zowe;

/// Looks up an environment variable.
type Environment<'e> = &'e dyn Fn(&str) -> Option<String>;

/// All that an operator decides, checked. See the [module](self).
///
/// `Debug` shows neither keys nor hashes.
#[derive(Clone)]
#[non_exhaustive]
pub struct Config {
    /// Where to listen: `passticketProxy.host` and `components.gateway.port`. Port 0 is any.
    pub listen: SocketAddr,
    /// Who encrypts there: `zowe.network.server.tls.attls`, or the same below
    /// `components.gateway`.
    pub encryption: Encryption,
    /// `zowe.certificate.pem.*`.
    pub tls: TlsFiles,
    /// `zowe.verifyCertificates`.
    pub verify: Verification,
    /// `passticketProxy.signingKey`.
    pub signing_key: SigningKey,
    /// `passticketProxy.users`: argon2 hashes as PHC strings, each user once.
    pub users: Vec<(UserId, String)>,
    /// Whether Personal Access Tokens are credentials: `…security.personalAccessToken.enabled`.
    pub pats: bool,
    /// How long a Personal Access Token may be good for at most:
    /// `passticketProxy.personalAccessToken.maximumValidityDays`.
    pub max_validity: Validity,
    /// How often revocations that can hit nothing any more are dropped:
    /// `passticketProxy.personalAccessToken.evictEveryHours`.
    pub evict_every: Duration,
    /// Whether a login token can be had for another: `…security.allowTokenRefresh`.
    pub token_refresh: bool,
    /// Whom the gateway itself is to the security product: `passticketProxy.gatewayUser`.
    pub gateway_user: UserId,
    /// Who may do what, PassTickets included: `passticketProxy.saf`.
    pub saf: FileSaf,
    /// The file that [`saf`](Self::saf) comes from, to be [read again](read_permissions).
    pub saf_file: Option<PathBuf>,
    /// The endpoint that is asked, instead of the file, for the class of the guarding resources:
    /// `…security.authorization.provider` and `endpoint.url`.
    pub saf_endpoint: Option<Address>,
    /// `…security.authorization.resourceClass` and `resourceNamePrefix`, or `…security.saf` with
    /// `serviceResourceClass` and `serviceResourceNamePrefix`. With an endpoint the class is `ZOWE`.
    pub guards: GuardingResources,
    /// How a client certificate becomes a user: `passticketProxy.certificateMapping`.
    pub certificate_mapping: CertificateMapping,
    /// PassTickets for others, if `…security.delegatePassticket` is on.
    pub delegation: Option<DelegationSettings>,
    /// Where who did what is written, unless `passticketProxy.audit.enabled` is off.
    pub audit: Option<AuditSettings>,
    /// The file of revocations: `passticketProxy.revocations`. It need not be there.
    pub revocations: PathBuf,
    /// Whom to follow in answers: `passticketProxy.compatibility`.
    pub compatibility: Compatibility,
    /// Whether client certificates are credentials: `…security.x509.enabled`.
    pub client_certificates: bool,
    /// `…security.auth.passticket.customUserHeader` and `customAuthHeader`, if both are there.
    pub custom_headers: Option<CustomHeaders>,
    /// Those of the two that are there, be it one: clients may not set them.
    pub strip_headers: Vec<HeaderName>,
    /// `…security.auth.cookieProperties.cookieName` and `cookieNamePAT`.
    pub cookies: CookieNames,
    /// How long a login lasts: `…security.auth.tokenProperties.expirationInSeconds`.
    pub token_lifetime: Duration,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// How much to keep.
    pub limits: Limits,
    /// The services, from the api-defs that `passticketProxy.apiDefs` names and
    /// `passticketProxy.services`. Every APPLID among them is in [`profiles`](Self::profiles).
    pub routes: Vec<ConfiguredRoute>,
    /// `passticketProxy.ptktdata`.
    pub profiles: KeyProfiles,
}

/// A configuration, and what there is to say about it nevertheless.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What has no effect, and may be meant to have one.
    pub warnings: Vec<Problem>,
}

impl Config {
    /// Reads the zowe.yaml at `path` and the files that it names, from the paths relative to it.
    ///
    /// `env` looks up the environment variables that hold PassTicket keys; a program passes
    /// `&|name| std::env::var(name).ok()`. No other variable is asked for.
    ///
    /// # Errors
    /// [`Problems`] has everything that is wrong, in all files.
    pub fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, Problems> {
        let report = Report::default();
        let config = load(path, env, &report);
        let (config, warnings) = report.conclude(config)?;
        Ok(Loaded { config, warnings })
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let users: Vec<_> = self.users.iter().map(|(user, _)| user).collect();
        f.debug_struct("Config")
            .field("listen", &self.listen)
            .field("encryption", &self.encryption)
            .field("tls", &self.tls)
            .field("verify", &self.verify)
            .field("signing_key", &self.signing_key)
            .field("users", &users)
            .field("pats", &self.pats)
            .field("max_validity", &self.max_validity)
            .field("evict_every", &self.evict_every)
            .field("token_refresh", &self.token_refresh)
            .field("gateway_user", &self.gateway_user)
            .field("saf", &self.saf)
            .field("saf_file", &self.saf_file)
            .field("saf_endpoint", &self.saf_endpoint)
            .field("guards", &self.guards)
            .field("certificate_mapping", &self.certificate_mapping)
            .field("delegation", &self.delegation)
            .field("audit", &self.audit)
            .field("revocations", &self.revocations)
            .field("compatibility", &self.compatibility)
            .field("client_certificates", &self.client_certificates)
            .field("custom_headers", &self.custom_headers)
            .field("strip_headers", &self.strip_headers)
            .field("cookies", &self.cookies)
            .field("token_lifetime", &self.token_lifetime)
            .field("timeouts", &self.timeouts)
            .field("limits", &self.limits)
            .field("routes", &self.routes)
            .field("profiles", &self.profiles)
            .finish()
    }
}

/// Goes on after a problem as far as there is something to check.
fn load(path: &Path, env: Environment<'_>, report: &Report) -> Option<Config> {
    let document = match read_public_file(path) {
        Ok(bytes) => Document::parse(path.to_owned(), &bytes, report),
        Err(error) => {
            report.error(Problem::new(path, 0, "", &error.to_string()));
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
    let who = identity_checks::read(&zowe, &ours, report);
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
    // What stands in a file that is no YAML nobody knows.
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
    if let Some(at) = &zowe.attls
        && !ours.host.is_loopback()
    {
        at.warning(format_args!(
            "makes the gateway serve plain HTTP on {}: unless AT-TLS stands before it, whoever is \
             between it and a client sees passwords and tokens",
            ours.host
        ));
    }
    Some(Config {
        listen: SocketAddr::new(ours.host, zowe.port),
        encryption: zowe.encryption,
        tls: tls?,
        verify: zowe.verify,
        signing_key: signing_key?,
        users,
        pats: zowe.pats,
        max_validity: ours.max_validity,
        evict_every: ours.evict_every,
        token_refresh: zowe.token_refresh,
        gateway_user: ours.gateway_user,
        saf: FileSaf::new(profiles),
        saf_file,
        saf_endpoint: zowe.saf_endpoint,
        guards: zowe.guards,
        certificate_mapping: who.certificate_mapping,
        delegation: who.delegation,
        audit: match (ours.audit.enabled, ours.audit.options) {
            (true, options) => Some(AuditSettings { file: audit?, options }),
            (false, _) => None,
        },
        revocations: revocations?,
        compatibility: ours.compatibility,
        client_certificates: zowe.client_certificates,
        custom_headers: zowe.custom_headers,
        strip_headers: zowe.strip_headers,
        cookies: zowe.cookies,
        token_lifetime: zowe.token_lifetime,
        timeouts: Timeouts {
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
            field.at.error(format_args!("{} {error}", path.display()));
            None
        }
    }
}

fn users(zowe: &Zowe<'_>, ours: &PassticketProxy<'_>, report: &Report) -> Vec<(UserId, String)> {
    let Some(field) = &ours.users else {
        if !zowe.client_certificates {
            ours.at.warning(
                "names no users and client certificates are off, so nobody can log in; write \
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
    match read_decisive_file(file) {
        Ok(bytes) => saf::read(Document::parse(file.to_owned(), &bytes, report).section(report)),
        Err(error) => {
            at.error(error);
            Vec::new()
        }
    }
}

/// Reads a file of permissions anew, for [`FileSaf::replace`].
///
/// # Errors
/// [`Problems`] has everything that is wrong with it.
pub fn read_permissions(file: &Path) -> Result<Vec<Profile>, Problems> {
    let report = Report::default();
    let profiles = match read_decisive_file(file) {
        Ok(bytes) => {
            let document = Document::parse(file.to_owned(), &bytes, &report);
            Some(saf::read(document.section(&report)))
        }
        Err(error) => {
            report.error(Problem::new(file, 0, "", &error.to_string()));
            None
        }
    };
    report.conclude(profiles).map(|(profiles, _)| profiles)
}

/// The api-defs, each file once.
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
