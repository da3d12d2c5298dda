//! Reads a zowe.yaml, and the files that the zowe.yaml names, into a checked [`Config`].
//!
//! An operator can use the zowe.yaml of a Zowe installation. Zowe's own settings keep their meaning
//! (docs/reference/data-plane.md#zowe-yaml). The gateway's own settings are in one more component,
//! `components.passticket-proxy`. Older files have this section at the top level, with the name `passticketProxy`; a
//! file with both is an error. Services are configured with Zowe static definitions, also called api-defs
//! (docs/reference/data-plane.md#static-definitions).
//!
//! # Terms
//!
//! - APPLID: the name of a z/OS application in the security product.
//! - PassTicket: a short-lived password of z/OS, made from a user id, an APPLID, the key of the
//!   APPLID and the time.
//! - RACF: IBM's security product for z/OS.
//! - SAF: the interface of z/OS to the security product. It decides which user may access which
//!   resource. Each resource has a class, such as `PTKTDATA`.
//! - z/OSMF: IBM's management server on z/OS.
//! - ZSS: a server of Zowe on z/OS. It maps certificates and e-mail addresses to user ids.
//! - AT-TLS: the TLS of the z/OS TCP/IP stack.
//! - API ML: Zowe's API Mediation Layer, the gateway of Zowe. ZAAS is its component that makes tokens and PassTickets.
//!   Eureka is its registry of services.
//! - Auth API: the endpoints of this gateway for logins, tokens and PassTickets.
//! - Personal Access Token: a token with which programs can act for a user for up to 90 days. It is valid only for the
//!   services in its scopes.
//! - Delegated PassTicket: a PassTicket for another user than the caller.
//! - Technical user: a user id through which many persons use a service.
//!
//! # Example of a zowe.yaml
//!
#![doc = concat!("```yaml\n", include_str!("examples/zowe.yaml"), "```")]
//!
//! # Rules
//!
//! 1. The whole configuration is checked before the gateway starts. All files are read, and private keys and
//!    certificates are parsed. Each APPLID of a service needs a PassTicket key or `source: zowe` in `ptktdata`.
//! 2. All problems are reported together, in [`Problems`]. Each problem names its file, and the line and the setting if
//!    they are known. Most problems also say what to write instead.
//! 3. Unknown settings are errors in `components.passticket-proxy`, in api-defs, and in the files that are described
//!    under *Other files*. In Zowe's own sections, unknown settings cause a warning, because they may be settings of a
//!    newer Zowe. Some settings of Zowe have no effect in this gateway. If such a setting restricts something in Zowe,
//!    it causes an error. Otherwise it causes a warning (docs/reference/zowe-yaml-keys.md).
//! 4. A setting with a blank value counts as absent, because the zowe.yaml that Zowe ships has blank values. There are
//!    exceptions: Blank `callers` permit no caller. An empty list `allowedOrigins` of a service permits no origin. A
//!    blank `gatewayUrl` matches all paths of the service. A blank value that could lift a restriction is an error.
//! 5. The template `${{ a.b }}` becomes the value of the setting `a.b`, and `${HOSTNAME}` becomes the name of the
//!    machine. Any other template is an error if the gateway reads the value.
//! 6. Secrets belong in files that only their owner and a group of the gateway's process can read (see
//!    [`read_secret_file`]). Secrets are the private keys for TLS and for signing tokens, the passwords of these keys,
//!    PassTicket keys, and password hashes. PassTicket keys and passwords of encrypted files can also be in environment
//!    variables. Problems and `Debug` never show a secret from these files and variables. A problem also does not show
//!    any other value that looks like a PassTicket key or a private key.
//! 7. YAML anchors, aliases and merge keys (`<<`) work. The number of values in a file is limited. For this limit, an
//!    alias counts as many values as it repeats.
//!
//! # Listening
//!
//! `host` is an IP address or a host name. The gateway resolves a host name each time it reads the configuration. But
//! it continues to listen on the address that it found at the start. If the name has several addresses, the gateway
//! listens on the first IPv4 address. If the name has no IPv4 address, the gateway listens on the first IPv6 address.
//! `0.0.0.0` means all IPv4 addresses of the machine. `::` means all its IPv4 and IPv6 addresses.
//!
//! # Other files
//!
//! `users` names a file with the password hash of each user, in the PHC string format of Argon2.
//! `passticket-proxy passwd USER` prints the line for a user. z/OSMF or ZSS can check passwords instead
//! (docs/operating/logins.md).
//!
#![doc = concat!("```yaml\n", include_str!("examples/users.yml"), "```")]
//!
//! `saf` names a file with permissions, in the format of Zowe's `saf.yml`
//! (docs/reference/identity-and-saf.md#saf-file). A resource name may also be a generic profile, as
//! in RACF: a pattern that matches several resources, see
//! [`ProfileName`](tower_passticket::saf::ProfileName). The gateway refuses every access that the
//! file does not permit.
//!
#![doc = concat!("```yaml\n", include_str!("examples/saf.yml"), "```")]
//!
//! The gateway reads its files again within seconds after a change (docs/operating/reload.md). Write a new file and
//! rename it into place, because a partly written file may lack a profile that denies access.
//!
//! `identities` names a file that maps certificates and distributed identities to user ids. A distributed identity is a
//! name in a registry outside z/OS, such as an e-mail address. An entry names a certificate by its fingerprint, by its
//! subject, by its issuer, or by subject and issuer (see
//! [`CertificateFilter`](tower_passticket::identity::CertificateFilter)).
//!
#![doc = concat!("```yaml\n", include_str!("examples/identities.yml"), "```")]
//!
//! `technicalUsers` names a file with rules. A rule names an identity provider in `oidc`, a claim, a value and a
//! technical user. If the token of a person from this provider has this value in this claim, the person acts through
//! the technical user (docs/operating/technical-users.md). Each service that a rule names must have the scheme
//! `httpBasicPassTicket`.
//!
#![doc = concat!("```yaml\n", include_str!("examples/technical-users.yml"), "```")]
//!
//! If users other than the owner have write permission for the file of `saf`, `identities` or `technicalUsers`, the
//! gateway refuses to read it. There is one exception: if only the owner and a group of the gateway's own process have
//! write permission, the gateway reads the file and logs a warning.
//!
//! `apiDefs` names files with static definitions, or directories with such files. The settings of a service in
//! `services` replace those of its definition. The example shows the settings of a definition that have an effect in
//! this gateway. Some settings in the metadata of a definition also have an effect
//! (docs/reference/service-metadata.md):
//!
#![doc = concat!("```yaml\n", include_str!("examples/api-def.yml"), "```")]
//!
//! # Replay protection
//!
//! `replayProtection` of an entry in `ptktdata` must agree with the application's profile in the
//! security product.
//!
//! If `replayProtection` is `true` (the default), the security product accepts a PassTicket only once. So the gateway
//! makes only one PassTicket per second for each user and APPLID. After a pause, it can make about 60 PassTickets
//! without a delay, because each of them takes an unused second of the pause. It can make fewer if `windowSeconds` is
//! below 240. A request beyond this limit gets no PassTicket
//! ([`NoTimeSlot`](tower_passticket::passticket::NoTimeSlot)).
//!
//! If `replayProtection` is `false`, the profile must allow replay, and the limit does not apply. In this case, the
//! setting `reuseSeconds` is permitted: for this many seconds, the gateway sends the same PassTicket of a user again
//! (docs/operating/ticket-reuse.md).
//!
//! `passticket-proxy esm --esm racf --from-config` prints the commands that define the profile with the
//! configured setting.
//!
//! # AT-TLS
//!
//! If Zowe's setting `attls` is `true`, for all of Zowe or only for the gateway, z/OS terminates TLS in front of the
//! gateway. The gateway then serves plain HTTP/1.1 and accepts no client certificates:
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
//! std::fs::write(&path, "components:\n  passticket-proxy:\n    singingKey: jwt.key\n")?;
//!
//! let problems = Config::load(&path, &|name| std::env::var(name).ok()).unwrap_err();
//! let problem = problems.iter().find(|problem| problem.place().line() == Some(3)).unwrap();
//! assert_eq!(problem.place().key(), "components.passticket-proxy.singingKey");
//! assert_eq!(problem.text(), "is an unknown key; did you mean signingKey?");
//! # Ok::<(), std::io::Error>(())
//! ```

mod access_log;
mod admin;
mod api_defs;
mod apiml_security;
mod client_authorities;
mod client_basic;
mod client_identity;
mod cluster;
mod configured_route;
mod cors;
mod crypto_policy;
mod defined_scheme;
mod description;
mod discovery;
mod encoding;
mod encrypted_key;
mod environment;
mod file_access;
#[cfg(passticket_fips)]
mod fips_key;
mod forwarders;
mod health_checks;
mod identities;
mod identity_checks;
mod key_effect;
mod key_material;
mod key_ring;
mod key_store_file;
mod listed_services;
mod listen;
mod log_level;
mod login_throttle;
mod logins;
mod metadata;
mod methods;
#[cfg(not(feature = "pkcs11"))]
mod no_token_key;
mod oidc;
mod outbound;
mod own_origins;
mod own_section;
mod passticket_proxy;
mod passwords;
mod pem;
mod pem_text;
mod pkcs12;
mod pkcs12_work;
mod private_key_file;
mod problem;
mod ptktdata;
mod qualifier;
mod rate_limits;
mod reader;
pub mod reference;
mod revocation_lists;
mod route_limits;
mod routes;
mod saf;
mod scheme_peers;
mod secret_file;
mod settings;
mod setup;
mod signing_keys;
mod source_files;
mod technical_users;
mod templates;
#[cfg(test)]
#[cfg(unix)]
mod tests;
mod tls_files;
mod tls_policy;
mod token_exchange;
#[cfg(feature = "pkcs11")]
mod token_key;
mod trusted_proxies;
mod ui;
mod users;
mod validity;
mod yaml;
mod zaas;
mod zowe;
mod zowe_keys;
mod zowe_peer;
mod zowe_revocations;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use http::HeaderName;

#[cfg(not(feature = "pkcs11"))]
pub use no_token_key::ConfiguredTokenKey;
#[cfg(feature = "pkcs11")]
pub use token_key::ConfiguredTokenKey;

pub use access_log::{AccessLogSettings, LogFormat};
pub use admin::AdminSettings;
pub use client_identity::{ClientIdentities, ClientIdentity, ServiceClients};
pub use cluster::{ClusterSettings, RedisServers};
pub use configured_route::{CertificateHeaders, ConfiguredRoute, ServiceScheme};
pub use crypto_policy::CryptoPolicy;
pub use discovery::{
    DiscoveryLimits, DiscoverySettings, HostPattern, OtherServices, TrustedService, is_reserved,
};
pub use forwarders::ForwarderSettings;
pub use health_checks::HealthCheckSettings;
pub use listen::Listen;
pub use log_level::{LogLevel, LogLevelError};
pub use oidc::OidcSettings;
pub use outbound::OutboundConnections;
pub use problem::{Place, Problem, Problems};
pub use scheme_peers::SchemePeers;
pub use secret_file::{SecretFileError, read_secret_file};
pub use settings::{
    AuditSettings, CertificateMapping, DelegationSettings, Encryption, ExchangeSettings,
    IdentityMapping, LimitSettings, Logins, TimeoutSettings, ZosmfSettings, Zss,
};
pub use setup::{ZoweCertificate, ZoweTemplate};
pub use source_files::{FileVersion, SourceFiles};
pub use tls_files::TlsFiles;
pub use ui::UiSettings;
pub use zaas::ZaasSettings;
pub use zowe_peer::{CheckLogout, ZowePeer};

use api_defs::Definitions;
use discovery::DiscoverySection;
use environment::Environment;
use logins::{LoginKeys, Provided};
use passticket_proxy::{PassticketProxy, api_def_files};
use problem::Report;
use reader::{Document, Field};
use routes::Assembled;
use secret_file::{
    Other, check_store, directory_warning, public_file_warning, read_authorization_file,
    read_public_file,
};
use tls_files::ClientCertificateUse;
use tower_passticket::{
    api::{Compatibility, GuardingResources, HealthAccess, ListedService, LoginThrottleOptions},
    clock::{Clock, SystemClock},
    connection::TrustedProxies,
    gateway::StrictTransportSecurity,
    layer::{
        CookieNames, CustomHeaders, ForeignOrigins, Origin, OriginPolicy, RequestHeaders,
        TechnicalUsers,
    },
    passticket::{Applid, KeyProfiles, Replay, UserId},
    remote::Address,
    saf::{FileSaf, Profile},
    ticket_breaker::TicketLimits,
    tls::{TlsPolicy, Verification},
    token::{Scopes, ServiceId, SigningKey, Validity, VerifyingKey},
};

/// A checked configuration. See the [module](self).
///
/// `Debug` shows neither cryptographic keys nor password hashes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The address of the gateway: `components.passticket-proxy.host`, or `listenAddresses` or `vipaIp` of
    /// `zowe.network.server`, and `components.gateway.port`.
    pub listen: Listen,
    /// The proxies that are trusted to announce the addresses of their clients in `X-Forwarded-For` or `Forwarded`:
    /// `components.passticket-proxy.trustedProxies`, and
    /// `components.gateway.apiml.security.forwardHeader.trustedProxies`.
    pub trusted_proxies: Option<TrustedProxies>,
    /// The proxies that must send a header of the PROXY protocol. These are the proxies of
    /// `components.passticket-proxy.trustedProxies`, if `components.passticket-proxy.proxyProtocol` is `required`.
    pub proxy_protocol: Option<TrustedProxies>,
    /// The admin port, if `components.passticket-proxy.admin.port` is present.
    pub admin: Option<AdminSettings>,
    /// The listener for gateways of API ML that use this program as their ZAAS. Present if
    /// `components.passticket-proxy.zaas.enabled` is `true`.
    pub zaas: Option<ZaasSettings>,
    /// `zowe.network.server.tls.attls`, or the same setting below `components.gateway`.
    pub encryption: Encryption,
    /// The TLS versions, cipher suites and groups of the listener: `zowe.network.server.tls`.
    pub server_tls: TlsPolicy,
    /// The TLS versions, cipher suites and groups of the connections to services: `zowe.network.client.tls`.
    pub client_tls: TlsPolicy,
    /// `zowe.certificate.pem.*`, or `zowe.certificate.keystore` and `truststore`.
    pub tls: TlsFiles,
    /// `zowe.verifyCertificates`.
    pub verify: Verification,
    /// The key that signs tokens: `components.passticket-proxy.signingKey`, or the entry of
    /// `components.passticket-proxy.signingKeys` that signs.
    pub signing_key: SigningKey,
    /// The other keys of `components.passticket-proxy.signingKeys`. They only verify tokens.
    pub retained_keys: Vec<VerifyingKey>,
    /// The server or the file that checks the passwords of users. `components.passticket-proxy.users` names the file,
    /// and `components.gateway.apiml.security.auth.provider` selects the server.
    pub logins: Logins,
    /// Whether the gateway accepts Personal Access Tokens as credentials:
    /// `components.gateway.apiml.security.personalAccessToken.enabled`.
    pub pats: bool,
    /// The maximum validity of a Personal Access Token:
    /// `components.passticket-proxy.personalAccessToken.maximumValidityDays`.
    pub max_validity: Validity,
    /// The maximum number of active Personal Access Tokens of a user:
    /// `components.passticket-proxy.personalAccessToken.maximumPerUser`.
    pub pats_per_user: NonZeroU32,
    /// The scopes that new Personal Access Tokens may have:
    /// `components.passticket-proxy.personalAccessToken.allowedScopes`. `None` allows all scopes.
    pub allowed_scopes: Option<Scopes>,
    /// A Personal Access Token that was not used for this time is revoked:
    /// `components.passticket-proxy.personalAccessToken.revokeIdleDays`. `None` if unused tokens are kept.
    pub pat_idle: Option<Duration>,
    /// Whether new Personal Access Tokens have the prefix `zowepat_` and a checksum:
    /// `components.passticket-proxy.personalAccessToken.prefix`.
    pub pat_prefix: bool,
    /// The interval at which expired revocations are removed:
    /// `components.passticket-proxy.personalAccessToken.evictEveryHours`.
    pub evict_every: Duration,
    /// Whether a client can exchange a login token for a new one:
    /// `components.gateway.apiml.security.allowTokenRefresh`.
    pub token_refresh: bool,
    /// The user id of the gateway in the security product: `components.passticket-proxy.gatewayUser`.
    pub gateway_user: UserId,
    /// The permissions, including those to make PassTickets: `components.passticket-proxy.saf`.
    pub saf: FileSaf,
    /// The path of the file from which [`saf`](Self::saf) was read. [`read_permissions`] reads this
    /// file again.
    pub saf_file: Option<PathBuf>,
    /// The endpoint that checks access to the resources in [`guards`](Self::guards). If it is absent,
    /// [`saf`](Self::saf) decides. The settings are `components.gateway.apiml.security.authorization.provider` and
    /// `endpoint.url`.
    pub saf_endpoint: Option<Address>,
    /// The SAF resources that guard the auth API: `components.gateway.apiml.security.authorization.resourceClass` and
    /// `resourceNamePrefix`, or `components.gateway.apiml.security.saf` with `serviceResourceClass` and
    /// `serviceResourceNamePrefix`. If [`saf_endpoint`](Self::saf_endpoint) is present, the class must be `ZOWE`.
    pub guards: GuardingResources,
    /// The mapping of client certificates to user ids: `components.passticket-proxy.certificateMapping`.
    pub certificate_mapping: CertificateMapping,
    /// The identity providers whose tokens are accepted: `components.passticket-proxy.oidc`.
    pub oidc: Vec<OidcSettings>,
    /// The users for whom the gateway refuses distributed identities:
    /// `components.passticket-proxy.delegation.protectedUsers`, and the gateway's own user.
    pub protected_users: Vec<UserId>,
    /// A running API Mediation Layer (API ML) of Zowe: `components.passticket-proxy.zowe`.
    pub zowe: Option<ZowePeer>,
    /// The mapping of the users of [`oidc`](Self::oidc) to user ids. `None` if there is no provider, or if the
    /// configuration has no mapping.
    pub identity_mapping: Option<IdentityMapping>,
    /// The rules of `components.passticket-proxy.technicalUsers`, for each service with rules. A rule gives a technical
    /// user to some users of [`oidc`](Self::oidc). The services have the scheme `httpBasicPassTicket`.
    pub technical_users: BTreeMap<ServiceId, Arc<TechnicalUsers>>,
    /// Delegated PassTickets, if `components.gateway.apiml.security.delegatePassticket` is on.
    pub delegation: Option<DelegationSettings>,
    /// The token exchange, if `components.passticket-proxy.tokenExchange.enabled` is `true`.
    pub exchange: Option<ExchangeSettings>,
    /// The addresses in the metadata for OAuth clients (RFC 9728): the origins of `zowe.externalDomains`. Empty if
    /// `components.passticket-proxy.resourceMetadata` is off.
    pub resource_origins: Vec<Origin>,
    /// The audit file. `None` if `components.passticket-proxy.audit.enabled` is `false`.
    pub audit: Option<AuditSettings>,
    /// The path of the file with revocations: `components.passticket-proxy.revocations`. The command `serve` creates a
    /// missing file with the option `--new-store`. A node of a cluster creates a missing file even without this option.
    pub revocations: PathBuf,
    /// Present if this gateway is one of several nodes, which share revocations: `components.passticket-proxy.cluster`.
    pub cluster: Option<ClusterSettings>,
    /// The path of the Unix socket on which the gateway waits for a process that takes over:
    /// `components.passticket-proxy.takeoverSocket`. The default is the path of the revocation file with `.takeover`
    /// appended.
    pub takeover_socket: PathBuf,
    /// The compatibility profile, which decides the form of the auth API's responses:
    /// `components.passticket-proxy.compatibility`.
    pub compatibility: Compatibility,
    /// Whether the gateway accepts client certificates as credentials:
    /// `components.gateway.apiml.security.x509.enabled`. This field is always `false` with AT-TLS.
    pub client_certificates: bool,
    /// The proxies that may send the certificates of their clients: `components.passticket-proxy.forwarders`, and
    /// `components.gateway.apiml.security.x509.acceptForwardedCert` with `certificatesUrls`.
    pub forwarders: Option<ForwarderSettings>,
    /// `components.gateway.apiml.security.auth.passticket.customUserHeader` and `customAuthHeader`, if both are
    /// present.
    pub custom_headers: Option<CustomHeaders>,
    /// The headers that the gateway removes from the requests of clients. These settings contain their names:
    /// `customUserHeader` and `customAuthHeader` (even if only one of the two is present),
    /// `components.gateway.apiml.security.headersToBeCleared`, and
    /// `components.gateway.apiml.security.auth.jwt.customAuthHeader`.
    pub strip_headers: Vec<HeaderName>,
    /// Changes to the list of headers that the gateway removes from requests, for each service with such changes:
    /// `components.passticket-proxy.services.ID.requestHeaders`.
    pub request_headers: Vec<(ServiceId, RequestHeaders)>,
    /// The policy for requests from web pages of other origins. It decides which of these requests the gateway refuses.
    /// `zowe.externalDomains` and `externalPort` set the origins of the gateway. With `compatibility: zowe-v3`, the
    /// gateway refuses each request of another origin that CORS does not allow. The settings for CORS are
    /// `apiml.service.corsEnabled`, `components.passticket-proxy.cors` and the metadata of the services.
    pub origins: OriginPolicy,
    /// `components.gateway.apiml.security.auth.cookieProperties.cookieName` and `cookieNamePAT`.
    pub cookies: CookieNames,
    /// The lifetime of a login token: `components.gateway.apiml.security.auth.tokenProperties.expirationInSeconds`.
    pub token_lifetime: Duration,
    /// Time limits.
    pub timeouts: TimeoutSettings,
    /// The time limits for opening a connection, for each service with a limit of its own:
    /// `components.passticket-proxy.services.ID.connectSeconds`, and `connect-timeout` in the metadata. For these
    /// services, they replace [`TimeoutSettings::connect`].
    pub connect_timeouts: BTreeMap<ServiceId, Duration>,
    /// Size limits of caches, and limits of connections.
    pub limits: LimitSettings,
    /// The health checks of instances: `components.passticket-proxy.healthChecks`. `None` if instances are not checked.
    pub health_checks: Option<HealthCheckSettings>,
    /// The limits of failed logins: `components.passticket-proxy.loginThrottle`.
    pub login_throttle: LoginThrottleOptions,
    /// The value of the header `Strict-Transport-Security`, or `None` if the gateway does not send this header:
    /// `components.passticket-proxy.strictTransportSecurity`. AT-TLS does not change this value.
    pub strict_transport_security: Option<StrictTransportSecurity>,
    /// Whether browsers get error messages as HTML pages: `components.passticket-proxy.errorPages`. The default is
    /// `false` with `compatibility: zowe-v3`, and `true` otherwise.
    pub error_pages: bool,
    /// The page for users: `components.passticket-proxy.ui`. `None` if it is off.
    pub ui: Option<UiSettings>,
    /// The servers and headers that schemes need.
    pub scheme_peers: SchemePeers,
    /// The routes, from the api-defs of `components.passticket-proxy.apiDefs` and from
    /// `components.passticket-proxy.services`. [`profiles`](Self::profiles) has a PassTicket key for every APPLID of
    /// these routes, except those in [`zowe_tickets`](Self::zowe_tickets).
    pub routes: Vec<ConfiguredRoute>,
    /// The descriptions of the services in the api-defs. They do not contain the scheme of a service.
    pub services: Vec<ListedService>,
    /// The settings with which the gateway finds services in Eureka: `components.passticket-proxy.discovery`. `None` if
    /// the section is absent.
    pub discovery: Option<DiscoverySettings>,
    /// The clients that may see the health of the gateway: `apiml.health.protected`. This setting has an effect only
    /// with `compatibility: zowe-v3`.
    pub health: HealthAccess,
    /// The PassTicket keys: `components.passticket-proxy.ptktdata`. An APPLID can have keys for some users only.
    pub profiles: KeyProfiles,
    /// The keys of [`profiles`](Self::profiles) that are in PKCS#11 tokens. Loading does not search the tokens for
    /// these keys. [`ConfiguredTokenKey::check`] does.
    pub token_keys: Vec<ConfiguredTokenKey>,
    /// The APPLIDs whose PassTickets come from [`zowe`](Self::zowe), and whether they have replay protection: the
    /// entries of `components.passticket-proxy.ptktdata` with `source: zowe`.
    pub zowe_tickets: BTreeMap<Applid, Replay>,
    /// After this number of refused PassTickets, the gateway makes no more PassTickets for a user: `refusals` in the
    /// entries of `components.passticket-proxy.ptktdata`.
    pub ticket_limits: TicketLimits,
    /// The client certificates that the gateway presents to services.
    pub client_identities: ClientIdentities,
    /// The level of the log: `components.passticket-proxy.logLevel`. `None` means that the environment variable
    /// `RUST_LOG` sets the level.
    pub log_level: Option<LogLevel>,
    /// Whether the gateway opens connections to other servers. [`load`](Self::load) permits them. The command `explain`
    /// forbids them, unless it has the option `--live`.
    pub outbound: OutboundConnections,
    /// The format of the log: `components.passticket-proxy.logFormat`.
    pub log_format: LogFormat,
    /// The access log: `components.passticket-proxy.accessLog`. `None` if it has no file.
    pub access_log: Option<AccessLogSettings>,
}

/// A configuration and its warnings.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Settings that are valid but may not do what the operator expects.
    pub warnings: Vec<Problem>,
}

impl Config {
    /// Reads the zowe.yaml at `path` and the files that the zowe.yaml names. A relative path in the
    /// zowe.yaml starts at the directory of the zowe.yaml.
    ///
    /// `env` looks up an environment variable. A program passes `&|name| std::env::var(name).ok()`. `env` is called
    /// only for variables from which the configuration reads a secret, and for `HOSTNAME`. This function blocks while
    /// it reads files and resolves a host name.
    ///
    /// # Errors
    /// [`Problems`] contains the problems of all files.
    pub fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, Problems> {
        Self::load_with_sources(path, env).0
    }

    /// Does the same as [`load`](Self::load). Also returns the files that were read, and those that could not be read.
    /// To notice a change of the configuration, watch these files.
    pub fn load_with_sources(
        path: &Path,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> (Result<Loaded, Problems>, SourceFiles) {
        source_files::record_while(|| {
            let report = Report::default();
            let config = load(path, env, &report);
            let (config, warnings) = report.finish(config)?;
            Ok(Loaded { config, warnings })
        })
    }
}

/// Reads all files. If a setting has a problem, this function continues with the next setting, so that one run reports
/// all problems.
fn load(path: &Path, env: Environment<'_>, report: &Report) -> Option<Config> {
    let warn = |text: String| report.warning(Problem::of_file(path, &text));
    let document = match read_authorization_file(path, warn) {
        Ok(bytes) => Document::parse(path.to_owned(), &bytes, report).with_templates(env),
        Err(error) => {
            report.error(Problem::of_file(path, &error.to_string()));
            return None;
        }
    };
    if let Some(warning) = directory_warning(path, Other::Others) {
        report.warning(Problem::of_file(path, &warning));
    }
    let mut root = document.section(report);
    let zowe = zowe::read(&mut root);
    let ours = passticket_proxy::read(&mut root, env);

    let clients = ClientCertificateUse {
        is_credential: zowe.security.client_certificates,
        is_verified: zowe.security.client_certificates || ours.zaas.is_on(),
    };
    let tls = tls_files::read(
        &zowe.identity,
        &zowe.authorities,
        &ours.key_material,
        clients,
        SystemClock.now(),
    );
    if let (Some(files), Some(field), true) = (&tls, zowe.authorities.field(), clients.is_verified)
    {
        client_authorities::check(&field.at, &files.authorities);
    }
    let signing_keys = ours
        .signing_keys
        .as_ref()
        .and_then(|keys| signing_keys::read(keys, &ours.key_material.passwords.signing_key, env));
    let (saf_file, profiles) = permissions(ours.saf.as_ref(), report).unzip();
    let profiles = profiles.unwrap_or_default();
    let mut identification = identity_checks::read(&zowe, &ours, report);
    let zosmf_peer = zowe.logins.zosmf_peer();
    let saf_tokens = scheme_peers::saf_tokens(&zowe, &ours.zss);
    let logins = logins(zowe.logins, zowe.security.client_certificates, &ours, report);
    let audit = match &ours.audit.file {
        Some(field) => field.path(),
        None => Some(path.with_file_name(ours.audit.format.file_name())),
    };
    let unauthenticated = match &ours.audit.unauthenticated {
        Some(field) => field.path().inspect(|path| {
            if audit.as_ref() == Some(path) {
                field.at.error(
                    "is the same file as components.passticket-proxy.audit.file; write the path of another file",
                );
            }
        }),
        None => audit.as_deref().map(beside),
    };
    let revocations = match &ours.revocations {
        Some(field) => field.path(),
        None => Some(path.with_file_name("revocations.redb")),
    };
    let access_log = ours.access_log.settings(&[
        ("audit.file", audit.as_ref()),
        ("audit.unauthenticatedFile", unauthenticated.as_ref()),
        ("revocations", revocations.as_ref()),
    ]);
    let takeover_socket = match &ours.takeover_socket {
        Some(field) => field.path(),
        None => revocations.as_deref().map(takeover_socket_of),
    };
    if let Some(store) = &revocations {
        match check_store(store) {
            Ok(warnings) => {
                for warning in warnings {
                    report.warning(Problem::of_file(store, &warning));
                }
            }
            Err(error) => report.error(Problem::of_file(store, &error.to_string())),
        }
    }
    let documents = api_defs(&ours, report);
    let mut definitions = Definitions::default();
    for file in &documents {
        definitions.extend(api_defs::read(file.section(report)));
    }
    let PassticketProxy { overrides, on_failure, entries, ptktdata, .. } = &ours;
    // The service ids in `components.passticket-proxy` are checked only if all files are valid YAML. If a file is not
    // valid, the services that it defines are not known.
    let is_complete = documents.iter().all(Document::is_yaml);
    let found: Vec<_> = ours.discovery.iter().flat_map(DiscoverySection::ids).collect();
    if is_complete {
        routes::check_names(&definitions, &found, overrides);
    }
    definitions.apply_additions(is_complete);
    if let Some(Logins::Users(users)) = &logins
        && users.is_empty()
    {
        routes::warn_without_logins(overrides);
    }
    let zosmf_applid = zosmf_peer.applid();
    // A route in `components.passticket-proxy.services` may exist only in the registry of Eureka.
    let gateway_urls = |id: &ServiceId| {
        let limits = routes::limits(overrides).filter(|(other, _)| *other == id);
        limits.flat_map(|(_, limits)| limits.gateway_urls()).collect()
    };
    let mut templates: Vec<_> =
        ours.discovery.iter().flat_map(|it| it.templates_at(gateway_urls)).collect();
    let of_urls = templates.len();
    templates.extend(ours.discovery.iter().flat_map(DiscoverySection::templates));
    let Assembled { routes, templates } =
        routes::assemble_all(&definitions, overrides, *on_failure, entries, ptktdata, templates);
    // The limits also apply to the services that are found in Eureka. `components.passticket-proxy.services` names some
    // routes of these services. The templates stand for the routes that it does not name.
    let of_definitions = routes.len();
    let mut all_routes: Vec<_> = routes.into_iter().chain(templates).collect();
    let found_if_complete = is_complete.then_some(&found[..]);
    let rates = routes::rates(overrides);
    rate_limits::apply(&mut all_routes, &zowe.rates, rates, &definitions, found_if_complete);
    let (with_url, templates) = all_routes.split_at_mut(of_definitions + of_urls);
    route_limits::apply(with_url, templates, routes::limits(overrides));
    let (routes, found_routes) = all_routes.split_at(of_definitions);
    let (of_urls, templates) = found_routes.split_at(of_urls);
    if let Some(discovery) = &ours.discovery {
        discovery.check(&definitions, routes);
    }
    let connect_timeouts = routes::connect_timeouts(overrides, &definitions);
    let request_headers = routes::request_headers(overrides, &definitions);
    let listed = listed_services::list(&definitions, routes);
    // With `components.passticket-proxy.zaas`, a gateway of API ML may ask for PassTickets of any APPLID. So all keys
    // count as used.
    let is_used = |applid: &Applid| ours.zaas.is_on() || ours.exchange.may_use(applid);
    let services = routes::services_by_applid(&all_routes, zosmf_applid);
    routes::warn_unused_keys(entries, &services, is_used);
    let exchange =
        token_exchange::settings(&ours, zowe.security.client_certificates, services, entries);
    let resource_origins =
        token_exchange::resource_origins(&ours, &identification.oidc, &zowe.own_origins);
    let origins = OriginPolicy::default()
        .with_own_origins(zowe.own_origins)
        .with_foreign_origins(foreign_origins(ours.compatibility));
    let cors_of_services = routes::cors(overrides);
    let origins =
        cors::add_rules(origins, &zowe.cors, &ours.cors, cors_of_services, &definitions, &found);
    let scheme_peers = scheme_peers::read(
        &all_routes,
        logins.as_ref(),
        &zosmf_peer,
        saf_tokens,
        &zowe.security,
        &ours,
    );
    let client_identities = ClientIdentities::new(
        ours.client_identity.clone(),
        routes::client_identities(overrides),
        &all_routes,
        tls.as_ref(),
    );
    if let Some(discovery) = &ours.discovery {
        discovery.check_identities(&client_identities, zowe.verify);
        discovery.check_failures(&client_identities, zowe.verify, &all_routes);
    }
    if routes.is_empty() && ours.discovery.is_none() && !ours.zaas.is_on() {
        ours.at.warning(
            "has no routes, so the gateway forwards nothing; write api-defs, and set \
             components.passticket-proxy.apiDefs to their path",
        );
    }
    identity_checks::check_tickets(&profiles, &all_routes, &ours);
    let technical_users = ours.technical_users.as_ref().and_then(Field::authorization_file);
    let technical_users = technical_users.map(|(file, content)| {
        let document = Document::parse(file, &content, report);
        let known = technical_users::Known {
            routes: &all_routes,
            is_complete,
            providers: &mut identification.oidc,
            protected: &identification.protected,
            permissions: &profiles,
            gateway: ours.gateway_user,
            foreign: &|applid| ours.zowe_applids.contains_key(applid),
        };
        technical_users::read(document.section(report), known)
    });
    let (host, host_at) =
        listen::host(ours.host.as_ref(), &ours.host_at, zowe.addresses.as_ref(), &listen::resolve);
    let admin = ours.admin.settings(&listen::resolve);
    ours.admin.check_port(zowe.port);
    ours.zaas.check_keys(entries, &ours.zowe_applids);
    let zaas = ours.zaas.settings(
        (SocketAddr::new(host, zowe.port), &host_at),
        admin.as_ref().map(|admin| admin.address),
        zowe.attls.as_ref(),
        &listen::resolve,
    );
    if let Some(at) = &zowe.attls
        && !host.is_loopback()
    {
        at.warning(format_args!(
            "makes the gateway serve plain HTTP on {host}: without AT-TLS in front of it, passwords \
             and tokens cross the network in clear text",
        ));
    }
    let security = zowe.security;
    let services = routes.iter().map(|route| route.service());
    let ui = ours.ui.settings(security.pats, services.chain(found.iter().copied()));
    let forwarders = forwarders::settings(
        ours.forwarders.as_ref(),
        security.forwarded.as_ref(),
        security.client_certificates,
    );
    Some(Config {
        outbound: OutboundConnections::default(),
        listen: Listen {
            address: SocketAddr::new(host, zowe.port),
            port_at: zowe.port_at,
            host_at,
        },
        trusted_proxies: ours.proxies.trusted(security.trusted_proxies.as_ref()),
        proxy_protocol: ours.proxies.proxy_protocol(),
        admin,
        zaas,
        encryption: if zowe.attls.is_some() { Encryption::AtTls } else { Encryption::Tls },
        server_tls: zowe.server_tls,
        client_tls: zowe.client_tls,
        tls: tls?,
        verify: zowe.verify,
        signing_key: signing_keys.as_ref()?.signing.clone(),
        retained_keys: signing_keys?.retained,
        logins: logins?,
        pats: security.pats,
        max_validity: ours.max_validity,
        allowed_scopes: ours.allowed_scopes,
        pats_per_user: ours.pats_per_user,
        pat_idle: ours.pat_idle,
        pat_prefix: ours.pat_prefix,
        evict_every: ours.evict_every,
        token_refresh: security.token_refresh,
        gateway_user: ours.gateway_user,
        saf: FileSaf::new(profiles),
        saf_file,
        saf_endpoint: security.saf_endpoint,
        guards: security.guards,
        certificate_mapping: identification.certificate_mapping,
        oidc: identification.oidc,
        identity_mapping: identification.identity_mapping,
        technical_users: technical_users.unwrap_or_default(),
        zowe: ours.zowe,
        protected_users: identification.protected,
        delegation: identification.delegation,
        exchange,
        resource_origins,
        audit: match (ours.audit.enabled, ours.audit.options) {
            (true, options) => {
                Some(AuditSettings { file: audit?, unauthenticated: unauthenticated?, options })
            }
            (false, _) => None,
        },
        revocations: revocations?,
        cluster: ours.cluster,
        takeover_socket: takeover_socket?,
        compatibility: ours.compatibility,
        client_certificates: security.client_certificates,
        forwarders,
        custom_headers: security.custom_headers,
        strip_headers: security.strip_headers,
        request_headers,
        origins,
        cookies: security.cookies,
        token_lifetime: security.token_lifetime,
        timeouts: TimeoutSettings {
            connect: zowe.timeout,
            response: zowe.timeout,
            handshake: ours.handshake,
            drain: ours.drain,
            provider: ours.provider,
            queue: ours.queue,
            idle: ours.idle,
            send: ours.send,
            receive: ours.receive,
            service_body: ours.service_body,
            http2_ping: (!ours.http2_ping.is_zero()).then_some(ours.http2_ping),
            tunnel_drain: ours.tunnel_drain,
            web_socket_connect: zowe.web_socket.connect,
            web_socket_idle: zowe.web_socket.idle,
            web_socket_write: zowe.web_socket.write,
        },
        connect_timeouts,
        limits: ours.limits,
        health_checks: ours.health_checks,
        login_throttle: ours.login_throttle,
        strict_transport_security: ours.strict_transport_security,
        error_pages: ours.error_pages,
        ui,
        scheme_peers,
        routes: routes.to_vec(),
        services: listed,
        discovery: ours.discovery.map(|discovery| discovery.settings(templates, of_urls)),
        health: health_access(ours.compatibility, zowe.health_protected),
        profiles: KeyProfiles::new(ours.profiles)
            .expect("ptktdata::read reports conflicts, and keeps only one of the profiles"),
        token_keys: ours.token_keys,
        zowe_tickets: ours.zowe_applids,
        ticket_limits: ours.ticket_limits,
        client_identities,
        log_level: ours.log_level,
        log_format: ours.log_format,
        access_log,
    })
}

/// Says which requests of other origins are allowed without CORS. API ML refuses all these requests, so the profile
/// `zowe-v3` also refuses them.
fn foreign_origins(compatibility: Compatibility) -> ForeignOrigins {
    match compatibility {
        Compatibility::ZoweV3 => ForeignOrigins::Refused,
        _ => ForeignOrigins::Restricted,
    }
}

/// Returns the clients that may see the health. With the profile `zowe-v3`, `apiml.health.protected` decides. With
/// `documented`, any client may see the health, because the answer then contains only a status.
fn health_access(compatibility: Compatibility, protected: bool) -> HealthAccess {
    match compatibility {
        Compatibility::ZoweV3 if protected => HealthAccess::Protected,
        _ => HealthAccess::Open,
    }
}

/// Returns the default socket for a takeover: the path of the revocation file with `.takeover` appended.
fn takeover_socket_of(revocations: &Path) -> PathBuf {
    let mut socket = revocations.as_os_str().to_owned();
    socket.push(".takeover");
    socket.into()
}

/// Returns the default audit file for requests that were not authenticated: the path `audit` with `.unauthenticated`
/// before the extension, such as `audit.unauthenticated.jsonl`.
fn beside(audit: &Path) -> PathBuf {
    let mut name = audit.file_stem().unwrap_or_default().to_owned();
    name.push(".unauthenticated");
    if let Some(extension) = audit.extension() {
        name.push(".");
        name.push(extension);
    }
    audit.with_file_name(name)
}

/// Chooses the server or the file that checks passwords. If there is a problem, reports it and returns `None`.
fn logins<'a>(
    keys: LoginKeys<'a>,
    client_certificates: bool,
    ours: &PassticketProxy<'a>,
    report: &Report,
) -> Option<Logins> {
    match keys.choose(ours.users.as_ref(), &ours.zss) {
        Provided::Zosmf(settings) => Some(Logins::Zosmf(settings)),
        Provided::Zss(address) => Some(Logins::Zss(address)),
        Provided::UsersFile(field) => {
            let (path, content) = field.secret_file()?;
            let document = Document::parse(path, &content, report);
            Some(Logins::Users(users::read(document.section(report))))
        }
        Provided::Nothing => {
            if !client_certificates {
                ours.at.warning(
                    "names no users, and client certificates are off, so no user can log in; set \
                     components.passticket-proxy.users to the path of a file, set zOSMF.host, or set \
                     components.gateway.apiml.security.x509.enabled to true",
                );
            }
            Some(Logins::Users(Vec::new()))
        }
        Provided::Wrong => None,
    }
}

fn permissions(saf: Option<&Field<'_>>, report: &Report) -> Option<(PathBuf, Vec<Profile>)> {
    let (file, content) = saf?.authorization_file()?;
    let document = Document::parse(file.clone(), &content, report);
    Some((file, saf::read(document.section(report))))
}

/// Reads a file of permissions again. Pass the result to [`FileSaf::replace`].
///
/// # Errors
/// [`Problems`] contains all problems of the file.
pub fn read_permissions(file: &Path) -> Result<Vec<Profile>, Problems> {
    let report = Report::default();
    // Warnings are dropped. They are reported when the whole configuration is loaded.
    let profiles = match read_authorization_file(file, drop) {
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

/// Reads only the admin port of a zowe.yaml: the settings below `components.passticket-proxy.admin`. The values of
/// other settings are not checked, and no other file is read.
///
/// # Errors
/// [`Problems`] if the file cannot be read, is not valid YAML, has the section of this gateway at two places, or has a
/// wrong admin port.
pub fn read_admin(path: &Path) -> Result<Option<AdminSettings>, Problems> {
    let report = Report::default();
    let settings = match read_public_file(path) {
        Ok(bytes) => {
            let document = Document::parse(path.to_owned(), &bytes, &report);
            let document = document.with_templates(&|name| std::env::var(name).ok());
            let mut root = document.section(&report);
            let section = own_section::find(&mut root).section("admin");
            Some(admin::read(section).settings(&listen::resolve))
        }
        Err(error) => {
            report.error(Problem::of_file(path, &error.to_string()));
            None
        }
    };
    report.finish(settings).map(|(settings, _)| settings)
}

/// Reads the api-defs. If `apiDefs` names a file twice, the file is read only once.
fn api_defs(ours: &PassticketProxy<'_>, report: &Report) -> Vec<Document> {
    let mut read: Vec<PathBuf> = Vec::new();
    let mut documents = Vec::new();
    for field in &ours.api_defs {
        for file in api_def_files(field) {
            if read.contains(&file) {
                continue;
            }
            match read_public_file(&file) {
                Ok(bytes) => {
                    let warning = public_file_warning(&file);
                    let warning = warning.or_else(|| directory_warning(&file, Other::Others));
                    if let Some(warning) = warning {
                        field.at.warning(warning);
                    }
                    documents.push(Document::parse(file.clone(), &bytes, report));
                }
                Err(error) => field.at.error(error),
            }
            read.push(file);
        }
    }
    documents
}
