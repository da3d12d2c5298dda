//! Reads the section `components.passticket-proxy` of the zowe.yaml, which contains the gateway's own settings.
//!
//! A PassTicket is a short-lived password of z/OS for one APPLID. An APPLID is the name of an application on z/OS.

use std::{
    ffi::OsStr,
    fmt, fs,
    hash::Hash,
    num::{NonZeroU16, NonZeroU32, NonZeroUsize},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

#[cfg(not(feature = "pkcs11"))]
use super::no_token_key::ConfiguredTokenKey;
#[cfg(feature = "pkcs11")]
use super::token_key::ConfiguredTokenKey;
use super::{
    access_log::{self, AccessLogSection, LogFormat},
    admin::{self, AdminSection},
    client_identity::{self, ClientIdentity},
    cluster::{self, ClusterSettings},
    cors::{self, SiteCors},
    crypto_policy::CryptoPolicy,
    discovery::{self, DiscoverySection},
    environment::Environment,
    forwarders,
    health_checks::{self, HealthCheckSettings},
    identities::certificate_filter,
    log_level::LogLevel,
    login_throttle,
    logins::{self, ZssUrl},
    own_section, passwords,
    problem::Place,
    ptktdata::{self, Entries, PtktData, ZoweApplids},
    reader::{At, Field, Section},
    routes::{Override, read_on_failure, read_overrides},
    settings::{LimitSettings, default_gateway_user},
    signing_keys::{self, SigningKeysField},
    source_files, templates,
    tls_files::OwnKeys,
    trusted_proxies::{self, ProxySection},
    ui::{self, UiSection},
    zaas::{self, ZaasSection},
    zowe_peer::{self, ZowePeer},
};
use tower_passticket::{
    api::{AllowList, Compatibility, Grant, LoginThrottleOptions},
    audit::{AuditFileOptions, AuditFormat, CefDevice, Fsync},
    clock::{Clock, SystemClock},
    gateway::{StrictHosts, StrictTransportSecurity},
    layer::OnFailure,
    passticket::{Applid, KeyProfile, UserId},
    ticket_breaker::TicketLimits,
    token::{Scope, Scopes, Validity},
};

const DEFAULT_PATS_PER_USER: NonZeroU32 = NonZeroU32::new(50).expect("should not be zero");

/// The values of the section. [`read`] opens only the files with PassTicket keys, passwords and client certificates,
/// and with the certificate authorities (CAs) of Redis.
pub(super) struct PassticketProxy<'a> {
    pub(super) at: At<'a>,
    pub(super) admin: AdminSection<'a>,
    pub(super) zaas: ZaasSection<'a>,
    pub(super) host: Option<Field<'a>>,
    pub(super) host_at: Place,
    pub(super) proxies: ProxySection<'a>,
    pub(super) signing_keys: Option<SigningKeysField<'a>>,
    pub(super) key_material: OwnKeys<'a>,
    pub(super) users: Option<Field<'a>>,
    pub(super) zss: ZssUrl<'a>,
    pub(super) gateway_user: UserId,
    pub(super) saf: Option<Field<'a>>,
    pub(super) identities: Option<Field<'a>>,
    pub(super) technical_users: Option<Field<'a>>,
    pub(super) certificate_mapping: Option<(MapCertificatesBy, At<'a>)>,
    pub(super) oidc: Option<Field<'a>>,
    pub(super) zowe: Option<ZowePeer>,
    /// `forwarders.certificates`.
    pub(super) forwarders: Option<Field<'a>>,
    pub(super) delegation: DelegationSection,
    pub(super) exchange: ExchangeSection<'a>,
    pub(super) resource_metadata: ResourceMetadataSwitch<'a>,
    pub(super) audit: AuditSection<'a>,
    pub(super) revocations: Option<Field<'a>>,
    pub(super) cluster: Option<ClusterSettings>,
    pub(super) takeover_socket: Option<Field<'a>>,
    pub(super) compatibility: Compatibility,
    pub(super) max_validity: Validity,
    pub(super) pats_per_user: NonZeroU32,
    pub(super) pat_idle: Option<Duration>,
    pub(super) allowed_scopes: Option<Scopes>,
    pub(super) pat_prefix: bool,
    pub(super) evict_every: Duration,
    pub(super) api_defs: Vec<Field<'a>>,
    pub(super) discovery: Option<DiscoverySection<'a>>,
    pub(super) on_failure: OnFailure,
    pub(super) overrides: Vec<Override<'a>>,
    /// The place of the setting `ptktdata`, for messages. The line number is that of the section
    /// `components.passticket-proxy`.
    pub(super) ptktdata: At<'a>,
    pub(super) entries: Entries<'a>,
    pub(super) profiles: Vec<KeyProfile>,
    pub(super) token_keys: Vec<ConfiguredTokenKey>,
    /// The APPLIDs whose PassTickets come from a running Zowe.
    pub(super) zowe_applids: ZoweApplids,
    pub(super) ticket_limits: TicketLimits,
    pub(super) client_identity: Option<ClientIdentity>,
    pub(super) handshake: Duration,
    pub(super) drain: Duration,
    pub(super) provider: Duration,
    pub(super) queue: Duration,
    pub(super) idle: Duration,
    pub(super) send: Duration,
    pub(super) receive: Duration,
    pub(super) service_body: Duration,
    pub(super) http2_ping: Duration,
    pub(super) tunnel_drain: Duration,
    pub(super) limits: LimitSettings,
    pub(super) health_checks: Option<HealthCheckSettings>,
    pub(super) login_throttle: LoginThrottleOptions,
    pub(super) strict_transport_security: Option<StrictTransportSecurity>,
    pub(super) cors: SiteCors<'a>,
    pub(super) error_pages: bool,
    pub(super) ui: UiSection<'a>,
    pub(super) log_level: Option<LogLevel>,
    pub(super) log_format: LogFormat,
    pub(super) access_log: AccessLogSection<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MapCertificatesBy {
    CommonName,
    File,
    Zss,
}

/// The section `components.passticket-proxy.delegation`.
pub(super) struct DelegationSection {
    /// The callers. `None` if the setting is absent. An empty list permits no caller.
    pub(super) grants: Option<Vec<Grant>>,
    pub(super) protected: Vec<UserId>,
    pub(super) calls_per_minute: Option<NonZeroU32>,
}

/// The section `components.passticket-proxy.tokenExchange`.
pub(super) struct ExchangeSection<'a> {
    pub(super) at: At<'a>,
    /// The setting `enabled`. The default is `false`.
    pub(super) enabled: bool,
    /// The actors. An absent setting permits no actor.
    pub(super) grants: Vec<Grant>,
    /// The APPLIDs for which a token is exchanged without an actor.
    pub(super) bearer_applids: Vec<Applid>,
    /// The APPLIDs that the section names, with their places. `None` stands for `"*"`.
    pub(super) applids: Vec<(Option<Applid>, At<'a>)>,
    pub(super) calls_per_minute: Option<NonZeroU32>,
}

impl ExchangeSection<'_> {
    /// Returns whether the exchange is on and can make PassTickets for this APPLID.
    pub(super) fn may_use(&self, applid: &Applid) -> bool {
        let is_allowed = |allowed: &Option<Applid>| allowed.is_none_or(|it| it == *applid);
        self.enabled && self.applids.iter().any(|(allowed, _)| is_allowed(allowed))
    }
}

/// The setting `components.passticket-proxy.resourceMetadata`, with its place. `None` if the setting is absent.
pub(super) type ResourceMetadataSwitch<'a> = Option<(bool, At<'a>)>;

/// The section `components.passticket-proxy.audit`.
pub(super) struct AuditSection<'a> {
    pub(super) at: At<'a>,
    pub(super) enabled: bool,
    pub(super) file: Option<Field<'a>>,
    pub(super) unauthenticated: Option<Field<'a>>,
    pub(super) format: AuditLines,
    pub(super) options: AuditFileOptions,
}

/// Reads the section. A wrong value is reported, and the default is used instead.
pub(super) fn read<'a>(root: &mut Section<'a>, env: Environment<'_>) -> PassticketProxy<'a> {
    let mut section = own_section::find(root);
    let admin = admin::read(section.section("admin"));
    let zaas = zaas::read(section.section("zaas"));
    let host = section.optional("host");
    let host_at = section.place_of("host", host.as_ref());
    let proxies = trusted_proxies::read(&mut section);
    let signing_keys = signing_keys::field(&mut section);
    let key_material = OwnKeys {
        passwords: passwords::read(section.section("passwords"), env),
        service_authorities: section.optional("serviceAuthorities"),
        revocation_lists: section.optional("crls"),
    };
    let users = section.optional("users");
    let zss = logins::read_zss(section.section("zss"));
    let gateway_user = section.optional("gatewayUser").and_then(|field| field.parse());
    let saf = section.optional("saf");
    let identities = section.optional("identities");
    let technical_users = section.optional("technicalUsers");
    let certificate_mapping = section
        .optional("certificateMapping")
        .and_then(|field| Some((field.read(mapping_by)?, field.at)));
    let oidc = section.optional("oidc");
    let zowe = zowe_peer::read(section.section("zowe"));
    let forwarders = forwarders::read(section.section("forwarders"));
    let delegation = delegation(section.section("delegation"));
    let exchange = exchange(section.section("tokenExchange"));
    let resource_metadata =
        section.optional("resourceMetadata").and_then(|field| Some((field.boolean()?, field.at)));
    let audit = audit(section.section("audit"), env);
    let revocations = section.optional("revocations");
    let cluster = cluster::read(section.section("cluster"));
    let takeover_socket = section.optional("takeoverSocket");
    let compatibility = section.optional("compatibility").and_then(|f| f.read(compatibility));
    let mut pats = section.section("personalAccessToken");
    let days = pats.optional("maximumValidityDays").and_then(|field| field.number(1..=90));
    let hours = pats.optional("evictEveryHours").and_then(|field| field.number(1..=8_760));
    let per_user = pats.optional("maximumPerUser").and_then(|field| field.number(1..=1000));
    let idle_days = pats.optional("revokeIdleDays").and_then(|field| field.number(0..=90));
    let allowed_scopes = pats.present("allowedScopes").and_then(|field| allowed_scopes(&field));
    let pat_prefix = pats.optional("prefix").and_then(|field| field.boolean());
    pats.finish();
    let api_defs = section.optional("apiDefs").map(|field| field.one_or_more());
    let discovery = discovery::read(section.section("discovery"));
    let on_failure = read_on_failure(&mut section);
    let overrides = read_overrides(&section.section("services"));
    let ptktdata = section.child("ptktdata");
    let PtktData { entries, profiles, zowe: zowe_applids, token_keys, limits: ticket_limits } =
        ptktdata::read(
            section.optional("ptktdata").as_ref(),
            env,
            SystemClock.now(),
            CryptoPolicy::of_this_program(),
        );
    ptktdata::check_zowe(&zowe_applids, &entries, zowe.as_ref(), section.child("zowe"));
    let client_identity =
        section.optional("clientCertificate").and_then(|field| client_identity::read(&field));
    let mut timeouts = section.section("timeouts");
    let mut seconds = |name, min, default| {
        let number = timeouts.optional(name).and_then(|field| field.number(min..=86_400));
        Duration::from_secs(number.unwrap_or(default))
    };
    let (handshake, drain) = (seconds("handshakeSeconds", 1, 10), seconds("drainSeconds", 0, 30));
    let provider = seconds("providerSeconds", 1, 5);
    let queue = seconds("queueSeconds", 0, 5);
    let (idle, send) = (seconds("idleSeconds", 1, 75), seconds("sendSeconds", 1, 60));
    let receive = seconds("receiveSeconds", 1, 60);
    let service_body = seconds("serviceBodySeconds", 1, 300);
    let http2_ping = seconds("http2PingSeconds", 0, 320);
    let tunnel_drain = seconds("tunnelDrainSeconds", 0, 0);
    timeouts.finish();
    let limits = limits(section.section("limits"));
    let health_checks = health_checks::read(section.section("healthChecks"));
    let login_throttle = login_throttle::read(section.section("loginThrottle"));
    let strict_transport_security =
        strict_transport_security(section.section("strictTransportSecurity"));
    let cors = cors::read_site(section.section("cors"));
    let ui = ui::read(section.section("ui"));
    let error_pages = section.optional("errorPages").and_then(|field| field.boolean());
    let compatibility = compatibility.unwrap_or_default();
    // API ML sends errors as JSON even to browsers. So with `zowe-v3`, this gateway sends no error pages by default.
    let error_pages = error_pages.unwrap_or(compatibility != Compatibility::ZoweV3);
    let log_level = section.optional("logLevel").and_then(|field| field.parse());
    let log_format = section.optional("logFormat");
    let log_format = log_format.and_then(|field| field.read(access_log::log_format));
    let access_log = access_log::read(section.section("accessLog"));
    let at = section.at.clone();
    section.finish();
    PassticketProxy {
        at,
        admin,
        zaas,
        host,
        host_at,
        proxies,
        signing_keys,
        key_material,
        users,
        zss,
        gateway_user: gateway_user.unwrap_or_else(default_gateway_user),
        saf,
        identities,
        technical_users,
        certificate_mapping,
        oidc,
        zowe,
        forwarders,
        delegation,
        exchange,
        resource_metadata,
        audit,
        revocations,
        cluster,
        takeover_socket,
        compatibility,
        max_validity: Validity::requested(days.and_then(|days| days.try_into().ok())),
        pats_per_user: per_user
            .and_then(|count| u32::try_from(count).ok().and_then(NonZeroU32::new))
            .unwrap_or(DEFAULT_PATS_PER_USER),
        pat_idle: idle_days.filter(|days| *days > 0).map(|days| Duration::from_secs(days * 86_400)),
        allowed_scopes,
        pat_prefix: pat_prefix.unwrap_or(false),
        evict_every: Duration::from_secs(hours.unwrap_or(24) * 3600),
        api_defs: api_defs.unwrap_or_default(),
        discovery,
        on_failure: on_failure.unwrap_or_default(),
        overrides,
        ptktdata,
        entries,
        profiles,
        token_keys,
        zowe_applids,
        ticket_limits,
        client_identity,
        handshake,
        drain,
        provider,
        queue,
        idle,
        send,
        receive,
        service_body,
        http2_ping,
        tunnel_drain,
        limits,
        health_checks,
        login_throttle,
        strict_transport_security,
        cors,
        error_pages,
        ui,
        log_level,
        log_format: log_format.unwrap_or_default(),
        access_log,
    }
}

/// Reads the section. Returns `None` if the setting `enabled` is `false`.
fn strict_transport_security(mut section: Section<'_>) -> Option<StrictTransportSecurity> {
    let enabled = section.optional("enabled").and_then(|field| field.boolean());
    let seconds = section.optional("maxAge").and_then(|field| field.number(0..=315_360_000));
    let subdomains = section.optional("includeSubDomains").is_some_and(|field| field.is_on());
    section.finish();
    let mut policy = StrictTransportSecurity::default();
    policy.max_age = seconds.map_or(policy.max_age, Duration::from_secs);
    if subdomains {
        policy.hosts = StrictHosts::WithSubdomains;
    }
    enabled.unwrap_or(true).then_some(policy)
}

fn limits(mut section: Section<'_>) -> LimitSettings {
    let streams =
        section.optional("http2StreamsPerConnection").and_then(|field| field.number(1..=1_000));
    let streams = streams.and_then(|n| u16::try_from(n).ok()).and_then(NonZeroU16::new);
    let mut number = |name, min, default| {
        let number = section.optional(name).and_then(|field| field.number(min..=1_000_000));
        number.and_then(|n| usize::try_from(n).ok()).and_then(NonZeroUsize::new).unwrap_or(default)
    };
    let defaults = LimitSettings::default();
    let connections = number("connections", 1, defaults.connections);
    let half = NonZeroUsize::new(connections.get().div_ceil(2)).unwrap_or(connections);
    let limits = LimitSettings {
        cached_tokens: number("cachedTokens", 100, defaults.cached_tokens),
        remembered_tickets: number("rememberedTickets", 100, defaults.remembered_tickets),
        connections,
        connections_per_address: number("connectionsPerAddress", 1, half),
        connections_per_instance: number(
            "connectionsPerInstance",
            1,
            defaults.connections_per_instance,
        ),
        http2_streams_per_connection: streams.unwrap_or(defaults.http2_streams_per_connection),
        requests_per_address: number("requestsPerAddress", 1, defaults.requests_per_address),
        rate_limited_clients: number("rateLimitedClients", 100, defaults.rate_limited_clients),
        header_megabytes: number("headerMegabytes", 1, defaults.header_megabytes),
        zowe_revocation_megabytes: number(
            "zoweRevocationMegabytes",
            1,
            defaults.zowe_revocation_megabytes,
        ),
        tunnels_per_user: number("tunnelsPerUser", 1, defaults.tunnels_per_user),
    };
    section.finish();
    limits
}

fn mapping_by(text: &str) -> Result<MapCertificatesBy, &'static str> {
    match text {
        "common-name" => Ok(MapCertificatesBy::CommonName),
        "file" => Ok(MapCertificatesBy::File),
        "zss" => Ok(MapCertificatesBy::Zss),
        _ => Err("is unknown; write common-name, file or zss"),
    }
}

fn delegation(mut section: Section<'_>) -> DelegationSection {
    let protected = section.optional("protectedUsers").map(|field| field.one_or_more());
    let calls = section.optional("callsPerMinute").and_then(|field| field.number(1..=60_000));
    let callers = section.present("callers").map(|field| field.items());
    section.finish();
    DelegationSection {
        grants: callers.map(|callers| {
            callers.iter().filter_map(|caller| grant(caller, &mut Vec::new())).collect()
        }),
        protected: protected.iter().flatten().filter_map(Field::parse).collect(),
        calls_per_minute: calls
            .and_then(|calls| u32::try_from(calls).ok())
            .and_then(NonZeroU32::new),
    }
}

fn exchange<'a>(mut section: Section<'a>) -> ExchangeSection<'a> {
    let enabled = section.optional("enabled").is_some_and(|field| field.is_on());
    let calls = section.optional("callsPerMinute").and_then(|field| field.number(1..=60_000));
    let bearer = section.optional("bearerApplids").map(|field| field.one_or_more());
    let callers = section.optional("callers").map(|field| field.items());
    let at = section.at.clone();
    section.finish();
    let mut applids = Vec::new();
    let grants =
        callers.iter().flatten().filter_map(|caller| grant(caller, &mut applids)).collect();
    let bearer: Vec<(Applid, At<'a>)> = bearer
        .iter()
        .flatten()
        .filter_map(|field| Some((field.parse()?, field.at.clone())))
        .collect();
    applids.extend(bearer.iter().map(|(applid, at)| (Some(*applid), at.clone())));
    ExchangeSection {
        at,
        enabled,
        grants,
        bearer_applids: bearer.into_iter().map(|(applid, _)| applid).collect(),
        applids,
        calls_per_minute: calls
            .and_then(|calls| u32::try_from(calls).ok())
            .and_then(NonZeroU32::new),
    }
}

/// Reads one item of `delegation.callers` or `tokenExchange.callers`. An item has `applids`, `users`, and either `user`
/// or `certificate`. Adds the APPLIDs and their places to `named`. `None` stands for `"*"`.
fn grant<'a>(item: &Field<'a>, named: &mut Vec<(Option<Applid>, At<'a>)>) -> Option<Grant> {
    let mut section = item.section();
    let user = section.optional("user");
    let certificate = section.optional("certificate");
    let applids = section.required("applids", "the APPLIDs that are allowed, or \"*\" for all");
    let users = section.required("users", "the user ids that are allowed, or \"*\" for all");
    let at = section.at.clone();
    section.finish();
    let (applids_at, users) = (applids?, allow_list(&users?));
    let applids = allow_list(&applids_at);
    match &applids {
        AllowList::Only(applids) => {
            named.extend(applids.iter().map(|applid| (Some(*applid), applids_at.at.clone())));
        }
        _ => named.push((None, applids_at.at.clone())),
    }
    match (user, certificate) {
        (Some(user), None) => Some(Grant::to_user(user.parse()?, applids, users)),
        (None, Some(certificate)) => {
            let mut section = certificate.section();
            let filter = certificate_filter(&mut section);
            section.finish();
            Some(Grant::to_certificate(filter?, applids, users))
        }
        _ => {
            at.error("must name exactly one caller; write either user or certificate");
            None
        }
    }
}

/// Reads an allow list. It is one value, a list of values, or `"*"` for any value.
fn allow_list<T: Eq + Hash + FromStr<Err: fmt::Display>>(field: &Field<'_>) -> AllowList<T> {
    match field.one_or_more().as_slice() {
        [only] if only.is_text("*") => AllowList::Any,
        items => AllowList::Only(items.iter().filter_map(Field::parse).collect()),
    }
}

/// Reads the scopes that new Personal Access Tokens may have: one scope, a list of scopes, or `"*"` for all scopes. A
/// wrong scope is reported and left out. A blank value is an error, because it could mean no scope or all scopes.
fn allowed_scopes(field: &Field<'_>) -> Option<Scopes> {
    if field.is_blank() {
        field.at.error(
            "is blank, so it is not clear whether users may get a Personal Access Token; write the scopes that are \
             allowed, or remove the key to allow all",
        );
        return None;
    }
    match field.one_or_more().as_slice() {
        [only] if only.is_text("*") => None,
        items => Some(items.iter().filter_map(Field::parse::<Scope>).collect()),
    }
}

fn audit<'a>(mut section: Section<'a>, env: Environment<'_>) -> AuditSection<'a> {
    let enabled = section.optional("enabled").and_then(|field| field.boolean());
    let file = section.optional("file");
    let unauthenticated = section.optional("unauthenticatedFile");
    let mut options = AuditFileOptions::default();
    if let Some(megabytes) =
        section.optional("rotateAtMegabytes").and_then(|f| f.number(1..=1_000_000))
    {
        options = options.with_rotate_at(megabytes * 1024 * 1024);
    }
    let keep = section.optional("keep").and_then(|field| field.number(1..=1_000));
    if let Some(keep) = keep.and_then(|keep| u32::try_from(keep).ok()).and_then(NonZeroU32::new) {
        options = options.with_kept_files(keep);
    }
    if let Some(fsync) = section.optional("fsync").and_then(|field| field.read(fsync)) {
        options = options.with_fsync(fsync);
    }
    let format = section.optional("format").and_then(|field| field.read(audit_format));
    let format = format.unwrap_or(AuditLines::Json);
    if let AuditLines::Cef = format {
        options = options.with_format(AuditFormat::Cef(cef_device(env)));
    }
    let at = section.at.clone();
    section.finish();
    let enabled = enabled.unwrap_or(true);
    AuditSection { at, enabled, file, unauthenticated, format, options }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AuditLines {
    Json,
    Cef,
}

impl AuditLines {
    pub(super) fn file_name(self) -> &'static str {
        match self {
            Self::Json => "audit.jsonl",
            Self::Cef => "audit.cef",
        }
    }
}

fn audit_format(text: &str) -> Result<AuditLines, &'static str> {
    match text {
        "json" => Ok(AuditLines::Json),
        "cef" => Ok(AuditLines::Cef),
        _ => Err("is unknown; write json or cef"),
    }
}

/// Returns the device for lines in the Common Event Format (CEF): this program, its version, and this machine.
fn cef_device(env: Environment<'_>) -> CefDevice {
    let product = env!("CARGO_PKG_NAME");
    let device = CefDevice::new("tower-passticket", product, env!("CARGO_PKG_VERSION"));
    match templates::host_name(env) {
        Some(host) => device.with_host(&host),
        None => device,
    }
}

fn fsync(text: &str) -> Result<Fsync, &'static str> {
    match text {
        "never" => Ok(Fsync::Never),
        "every-second" => Ok(Fsync::EverySeconds(NonZeroU32::MIN)),
        "every-batch" => Ok(Fsync::EveryBatch),
        _ => Err("is unknown; write never, every-second or every-batch"),
    }
}

fn compatibility(text: &str) -> Result<Compatibility, &'static str> {
    match text {
        "documented" => Ok(Compatibility::Documented),
        "zowe-v3" => Ok(Compatibility::ZoweV3),
        _ => Err("is unknown; write documented or zowe-v3"),
    }
}

/// Returns the files of one item of `apiDefs`. If the item is a directory, these are all `*.yml` and `*.yaml` files in
/// the directory that are not hidden, sorted by name. Upper and lower case of the ending do not matter.
pub(super) fn api_def_files(field: &Field<'_>) -> Vec<PathBuf> {
    let Some(path) = field.path() else { return Vec::new() };
    if !path.is_dir() {
        return vec![path];
    }
    let listed = fs::read_dir(&path).and_then(|entries| {
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()
    });
    match listed {
        Ok(mut files) => {
            // Hidden files are skipped, because they are often backup files of editors.
            files.retain(|file| {
                let hidden =
                    file.file_name().is_none_or(|n| n.as_encoded_bytes().starts_with(b"."));
                let is_yaml = |ending: &OsStr| {
                    ending.eq_ignore_ascii_case("yml") || ending.eq_ignore_ascii_case("yaml")
                };
                !hidden && file.extension().is_some_and(is_yaml)
            });
            files.sort();
            source_files::record_directory(&path, &files);
            files
        }
        Err(error) => {
            source_files::record_unread(&path);
            field.at.error(format_args!("cannot list {}: {error}", path.display()));
            Vec::new()
        }
    }
}
