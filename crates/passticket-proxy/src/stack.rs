//! Assembles the gateway from a configuration.
//!
//! A PassTicket is a short-lived password of z/OS. API ML is Zowe's API Mediation Layer, and Eureka is its registry of
//! services. z/OSMF is IBM's management server on z/OS.

use std::{
    collections::BTreeSet, convert::Infallible, mem, num::NonZeroUsize, sync::Arc, time::Duration,
};

use http::{
    Response,
    header::{AUTHORIZATION, COOKIE},
};
use hyper::body::Incoming;
use passticket_proxy::config::{
    AuditSettings, Config, ConfiguredRoute, Logins, OidcSettings, Problem, UiSettings,
    ZosmfSettings, ZowePeer,
};
use serde_json::Value;
use tower::{Layer, ServiceBuilder, layer::util::Identity, util::option_layer};
use tower_http::sensitive_headers::SetSensitiveRequestHeaders;
use tower_passticket::{
    access_log::{AccessLogLayer, LoggedBody},
    api::{AuthApi, LoginMemory, LoginProvider, SharedServices},
    audit::{Audit, AuditFileError, AuditFiles},
    clock::SystemClock,
    gateway::{AuthPrefix, Gateway},
    identity::IdentityMapper,
    layer::{
        AuthenticateLayer, Authenticator, ClientBasic, CorsLayer, Mode, ObservedCounts,
        PRIVATE_TOKEN, ProtectedResourceLayer, RateLimitLayer, RequestMetricsLayer, Route,
        RouteLayer, RouteLimitCounts, Routes, SanitizeLayer, SchemeLayer, ScopeLayer, SharedRoutes,
    },
    passticket::{LocalGenerator, UserId},
    proxy::{Forward, ForwardTimeouts, Http2Settings, InstanceStates, ResponseBody, Tunnels},
    remote::Address,
    revocation::{
        AccessTokenStore, CachingService, DurableStore, OpenError, RevocationStore, TokenUses,
        WithCachingService,
    },
    saf::{PermittedGenerator, SafProvider},
    ticket_breaker::TicketBreaker,
    tls::{Connector, ServerTls, TlsError},
    token::{OidcIssuer, Rs256Verifier, ServiceId, TokenIssuer, TrustedIssuers, VerifyingKey},
    zaas::{SchemeEndpoints, SchemeSource, SchemeTarget},
    zosmf::ZosmfSessions,
};
use zeroize::Zeroizing;

use crate::{
    access_logs::AccessLogs,
    admin::Counts,
    apiml::{self, NeededParts},
    cluster::{self, Cluster, FileOrigin},
    connectors::{self, Connectors, Outbound, OutboundSettings},
    discovery::{self, Discovery, Finding, FindingSettings, RouteUpdater},
    exit::Exit,
    forwarders::Forwarders,
    gateway_service::GatewayService,
    instances::{self, FoundChecks, InstanceTasks},
    listener_tls::{self, GatewayTls},
    oidc,
    part::{Part, Same, Task},
    providers::{self, Remote},
    schemes::Schemes,
    site_tokens::SiteTokens,
    takeover::HandOver,
    tickets::Tickets,
    ui::{AuditLog, RoutePaths, Ui, UiOptions, WithPages},
    zaas::ZaasParts,
};

/// A problem that appears only when several configuration values are used together, such as a private
/// key that does not belong to the certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PartsError {
    #[error("zowe.certificate.pem: {0}")]
    Tls(#[from] TlsError),
    #[error("components.passticket-proxy.discovery: {0}")]
    Discovery(#[source] TlsError),
    #[error("components.passticket-proxy.oidc: {0}")]
    Oidc(#[source] TlsError),
    #[error("components.passticket-proxy.zowe: {0}")]
    Site(#[source] TlsError),
    #[error("components.passticket-proxy.forwarders: {0}")]
    Forwarders(#[source] TlsError),
    #[error("components.passticket-proxy.users: {0}")]
    Users(#[from] tower_passticket::api::FileLoginError),
    /// A PassTicket key in a PKCS#11 token.
    #[error("{0}")]
    TokenKey(Problem),
}

/// The parts that the program builds from the configuration before the gateway listens. A reload keeps a part if
/// its settings have not changed. So connections to services stay open, and keys of issuers need not be fetched again.
pub(crate) struct Parts {
    tls: GatewayTls,
    outbound: Part<OutboundSettings, Arc<Outbound>>,
    login: Part<LoginSettings, Arc<dyn LoginProvider>>,
    zosmf_sessions: Part<Option<Address>, ZosmfSessions>,
    verifier: Part<VerifierSettings, Rs256Verifier>,
    /// Like [`VerifierSettings::keeps_pat_texts`].
    keeps_pat_texts: bool,
    oidc: Vec<Part<OidcPartSettings, Provider>>,
    /// For each identity provider, the claim values that the rules for technical users need. They are not part of
    /// [`OidcPartSettings`], so the keys are not fetched again if only these values change.
    kept_values: Vec<BTreeSet<(String, String)>>,
    /// The verifiers of the tokens of a running API ML and of z/OSMF.
    site: Part<SiteSettings, Arc<SiteTokens>>,
    /// The verifier of the tokens of all issuers. `None` if only the gateway's own tokens are accepted.
    issuers: Option<TrustedIssuers>,
    /// The task that fetches the registry of services. `None` if the configuration does not use Eureka.
    finding: Option<Part<FindingSettings, Finding>>,
    /// The proxies that may send the certificates of their clients.
    forwarders: Option<Forwarders>,
    /// The parts of the listener for API ML's gateways. `None` if there is no such listener.
    zaas: Option<ZaasParts>,
}

#[derive(Clone, PartialEq)]
struct ForwardSettings {
    outbound: Same<Outbound>,
    timeouts: ForwardTimeouts,
    max_connections: NonZeroUsize,
    http2: Http2Settings,
    unauthorized: bool,
}

#[derive(Clone, PartialEq)]
struct LoginSettings {
    outbound: Same<Outbound>,
    timeout: Duration,
    provider: LoginServer,
}

#[derive(Clone, PartialEq)]
enum LoginServer {
    Users(Vec<(UserId, Zeroizing<String>)>),
    Zosmf(ZosmfSettings),
    Zss(Address),
}

#[derive(Clone)]
struct VerifierSettings {
    keys: Vec<VerifyingKey>,
    cached_tokens: NonZeroUsize,
    /// Whether the verifier keeps the texts of Personal Access Tokens. The Caching Service of API ML finds a token by a
    /// hash of its text.
    keeps_pat_texts: bool,
}

impl PartialEq for VerifierSettings {
    fn eq(&self, other: &Self) -> bool {
        let is_same = |(one, other): (&VerifyingKey, &VerifyingKey)| {
            one.is_same_key(other) && one.key_id() == other.key_id()
        };
        self.cached_tokens == other.cached_tokens
            && self.keeps_pat_texts == other.keeps_pat_texts
            && self.keys.len() == other.keys.len()
            && self.keys.iter().zip(&other.keys).all(is_same)
    }
}

#[derive(Clone, PartialEq)]
struct OidcPartSettings {
    outbound: Same<Outbound>,
    provider: OidcSettings,
}

#[derive(Clone)]
struct Provider {
    issuer: OidcIssuer,
    keys: Task,
}

#[derive(Clone, PartialEq)]
struct SiteSettings {
    outbound: Same<Outbound>,
    own: VerifierSettings,
    zowe: Option<ZowePeer>,
    zosmf: Option<ZosmfSettings>,
}

impl Parts {
    /// Returns the TLS settings of the listener. `None` if AT-TLS (TLS by the TCP/IP stack of z/OS) decrypts
    /// connections for the gateway.
    pub(crate) fn tls(&self) -> Option<&ServerTls> {
        self.tls.value.as_ref()
    }

    pub(crate) fn forwarders(&self) -> Option<&Forwarders> {
        self.forwarders.as_ref()
    }

    pub(crate) fn zaas(&self) -> Option<&ZaasParts> {
        self.zaas.as_ref()
    }

    /// Returns whether the reload has kept the login provider, because its settings have not changed.
    pub(crate) fn has_same_logins(&self) -> bool {
        self.login.is_kept
    }

    /// Starts the background tasks, which fetch keys of issuers and lists of certificates. A task ends when no
    /// configuration needs it any more.
    pub(crate) fn start_tasks(&self) {
        for Part { value: Provider { issuer, keys }, .. } in &self.oidc {
            keys.start(|| issuer.keys().clone().keep_fresh());
        }
        self.site.value.start_tasks();
        if let Some(forwarders) = &self.forwarders {
            forwarders.start_tasks();
        }
    }
}

/// Builds the [`Parts`]. Keeps a part of `previous` if the settings of this part have not changed.
pub(crate) fn parts(config: &Config, previous: Option<&Parts>) -> Result<Parts, PartsError> {
    let tls = listener_tls::of_gateway(config, previous.map(|it| &it.tls))?;
    let outbound = connectors::outbound(config, previous.map(|it| &it.outbound))?;
    let same = Same(outbound.value.clone());
    let zosmf = match &config.logins {
        Logins::Zosmf(settings) => Some(settings.clone()),
        _ => None,
    };
    // The scheme `zosmf` needs the address of z/OSMF, even if z/OSMF does not check passwords.
    let zosmf_address = config.scheme_peers.zosmf.as_ref().map(|zosmf| zosmf.address.clone());
    let zosmf_address = zosmf_address.or_else(|| Some(zosmf.as_ref()?.address.clone()));
    let before = previous.map(|it| &it.zosmf_sessions);
    let Ok(zosmf_sessions) = Part::keep_or_make(before, zosmf_address, |before| {
        Ok::<_, Infallible>(before.map(ZosmfSessions::without_sessions).unwrap_or_default())
    });
    // The Caching Service stays in use until the program is restarted, even if a reload removes its settings.
    let keeps_pat_texts = config.zowe.as_ref().is_some_and(|zowe| zowe.revocations.is_some())
        || previous.is_some_and(|it| it.keeps_pat_texts);
    let own = VerifierSettings {
        keys: [config.signing_key.verifying_key()]
            .into_iter()
            .chain(config.retained_keys.iter().cloned())
            .collect(),
        cached_tokens: config.limits.cached_tokens,
        keeps_pat_texts,
    };
    let settings =
        SiteSettings { outbound: same.clone(), own: own.clone(), zowe: config.zowe.clone(), zosmf };
    let site = Part::keep_or_make(previous.map(|it| &it.site), settings, |_| {
        SiteTokens::new(config, &outbound.value.logins, &zosmf_sessions.value).map(Arc::new)
    });
    let site = site.map_err(PartsError::Site)?;
    let settings = LoginSettings {
        outbound: same.clone(),
        timeout: config.timeouts.provider,
        provider: match &config.logins {
            Logins::Zosmf(settings) => LoginServer::Zosmf(settings.clone()),
            Logins::Zss(address) => LoginServer::Zss(address.clone()),
            other => LoginServer::Users(
                other
                    .users()
                    .iter()
                    .map(|(user, hash)| (*user, Zeroizing::new(hash.expose())))
                    .collect(),
            ),
        },
    };
    let login = Part::keep_or_make(previous.map(|it| &it.login), settings, |_| {
        let remote = Remote::new(outbound.value.logins.clone(), config);
        providers::login(config, &remote, &zosmf_sessions.value)
    })?;
    let oidc = config.oidc.iter().map(|settings| {
        let before = previous.and_then(|it| {
            it.oidc.iter().find(|part| part.value.issuer.issuer() == &settings.issuer)
        });
        let mut provider = settings.clone();
        provider.kept_values.clear();
        let key = OidcPartSettings { outbound: same.clone(), provider };
        Part::keep_or_make(before, key, |_| {
            let issuer = oidc::provider(settings, config)?;
            Ok(Provider { issuer, keys: Task::default() })
        })
    });
    let oidc = oidc.collect::<Result<Vec<_>, _>>().map_err(PartsError::Oidc)?;
    let Ok(verifier) = Part::keep_or_make(previous.map(|it| &it.verifier), own, |_| {
        let verifier = Rs256Verifier::new(config.signing_key.verifying_key());
        let verifier = config.retained_keys.iter().cloned().fold(verifier, Rs256Verifier::with_key);
        let verifier = if keeps_pat_texts { verifier.with_pat_texts() } else { verifier };
        Ok::<_, Infallible>(verifier.with_cache(config.limits.cached_tokens))
    });
    let kept_values: Vec<_> = config.oidc.iter().map(|it| it.kept_values.clone()).collect();
    let are_issuers_kept = verifier.is_kept
        && site.is_kept
        && oidc.iter().all(|part| part.is_kept)
        && previous.is_some_and(|it| it.oidc.len() == oidc.len() && it.kept_values == kept_values);
    let issuers = match previous {
        Some(previous) if are_issuers_kept => previous.issuers.clone(),
        _ => {
            let providers = oidc.iter().zip(&config.oidc);
            let providers = providers
                .map(|(part, settings)| oidc::with_kept_values(&part.value.issuer, settings));
            site.value.verifier(&verifier.value, providers.collect())
        }
    };
    let forwarders = previous.and_then(|it| it.forwarders.as_ref());
    let forwarders = Forwarders::new(config, forwarders, &outbound.value);
    let forwarders = forwarders.map_err(PartsError::Forwarders)?;
    let zaas = ZaasParts::new(config, previous.and_then(|it| it.zaas.as_ref()))?;
    let finding = previous.and_then(|it| it.finding.as_ref());
    let finding = discovery::finding(config, finding).map_err(PartsError::Discovery)?;
    for key in &config.token_keys {
        key.check().map_err(PartsError::TokenKey)?;
    }
    Ok(Parts {
        tls,
        outbound,
        login,
        zosmf_sessions,
        verifier,
        keeps_pat_texts,
        oidc,
        kept_values,
        site,
        issuers,
        finding,
        forwarders,
        zaas,
    })
}

/// Makes the service that forwards requests, with its connections to services.
fn forward(
    config: &Config,
    previous: Option<&Part<ForwardSettings, Forward<Connector, Incoming>>>,
    outbound: &Arc<Outbound>,
    instances: &Arc<InstanceStates>,
    counts: Option<&Counts>,
) -> Part<ForwardSettings, Forward<Connector, Incoming>> {
    let timeouts = ForwardTimeouts::default()
        .with_response(config.timeouts.response)
        .with_receive(config.timeouts.receive)
        .with_queue(config.timeouts.queue)
        .with_body(config.timeouts.service_body);
    let http2 = Http2Settings::default()
        .with_max_streams(config.limits.http2_streams_per_connection)
        .with_ping_interval(config.timeouts.http2_ping);
    let settings = ForwardSettings {
        outbound: Same(outbound.clone()),
        timeouts,
        http2,
        max_connections: config.limits.connections_per_instance,
        unauthorized: config.client_identities.are_present(),
    };
    let Connectors { anonymous, default, own } = outbound.connectors.clone();
    let Ok(forward) = Part::keep_or_make(previous, settings, |_| {
        let mut forward = Forward::new(default, timeouts)
            .with_max_connections(config.limits.connections_per_instance)
            .with_instance_states(instances.clone())
            .with_http2(http2);
        if config.client_identities.are_present() {
            // A request without an authorized user must not use a certificate of the gateway.
            forward = forward.with_unauthorized_connector(anonymous);
        }
        for (service, connector) in own {
            forward = forward.with_connector_of(service, connector);
        }
        if let Some(counts) = counts {
            forward = forward.with_counts(counts.forward.clone());
        }
        Ok::<_, Infallible>(forward)
    });
    forward
}

/// The stores of revocations and of audit records. A reload does not replace them.
#[derive(Clone)]
pub(crate) struct Stores {
    /// The file with the revoked tokens and the issued Personal Access Tokens.
    pub(crate) revocations: Arc<DurableStore>,
    /// This gateway as a node. `None` if it shares nothing with other nodes.
    pub(crate) cluster: Option<Cluster>,
    pub(crate) audit: Option<Arc<AuditFiles>>,
    pub(crate) uses: Arc<TokenUses>,
    /// The revocations of a running API ML. `None` if the gateway does not use them.
    pub(crate) zowe: Option<CachingService>,
}

impl Stores {
    /// Returns the store that says whether a token is revoked, and that takes new revocations.
    pub(crate) fn tokens(&self) -> Arc<dyn RevocationStore> {
        let own = self.own_tokens();
        match &self.zowe {
            None => own,
            Some(zowe) => Arc::new(WithCachingService::new(own, zowe.clone())),
        }
    }

    /// Returns the registry of issued Personal Access Tokens.
    pub(crate) fn registry(&self) -> Arc<dyn AccessTokenStore> {
        match &self.cluster {
            None => self.revocations.clone(),
            Some(cluster) => Arc::new(cluster.node.store()),
        }
    }

    /// Does the same as [`tokens`](Self::tokens), without the revocations of a running API ML.
    pub(crate) fn own_tokens(&self) -> Arc<dyn RevocationStore> {
        match &self.cluster {
            None => self.revocations.clone(),
            Some(cluster) => Arc::new(cluster.node.store()),
        }
    }
}

/// Why the [`Stores`] cannot be opened. The gateway then does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoresError {
    /// If the gateway started without the revocation file, revoked tokens would be valid again.
    #[error(transparent)]
    Revocations(#[from] OpenError),
    /// If the gateway started without the audit file, events would not be audited.
    #[error(transparent)]
    Audit(#[from] AuditFileError),
    /// The mark file cannot be written. A node writes this file when it makes a new revocation file. The mark file says
    /// that the node has not joined the other nodes yet.
    #[error(transparent)]
    Mark(#[from] cluster::MarkError),
}

impl From<StoresError> for Exit {
    fn from(error: StoresError) -> Self {
        match error {
            // This is a usage error, because the option `--new-store` contradicts the existing file.
            StoresError::Revocations(OpenError::Exists { .. }) => Self::usage(error),
            _ => Self::runtime(error),
        }
    }
}

/// Whether the program creates the revocation file.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NewStore {
    /// The file must exist, because a missing file may be on a volume that is not mounted. A node of a cluster is an
    /// exception: it creates a missing file, and gets the revocations from the other nodes.
    Never,
    /// The file must not exist. It is created. This value is for `--new-store`.
    Required,
    /// The file is created if it is missing. This value is for the demo.
    IfMissing,
}

/// Opens the [`Stores`]. `zowe` is the result of [`caching_service::prepared`](crate::caching_service::prepared). This
/// function blocks the thread. The caller must [join](crate::cluster::join) the cluster.
pub(crate) fn stores(
    config: &Config,
    new_store: NewStore,
    zowe: Option<CachingService>,
) -> Result<(Stores, FileOrigin), StoresError> {
    let file = &config.revocations;
    // The audit file is opened first, so that the program leaves no new revocation file behind if the audit file has a
    // problem.
    let audit =
        config.audit.as_ref().map(|AuditSettings { file, unauthenticated, options, .. }| {
            AuditFiles::open(file, unauthenticated, options.clone()).map(Arc::new)
        });
    let audit = audit.transpose()?;
    let mut origin = FileOrigin::Wanted;
    let revocations = match new_store {
        NewStore::Required => DurableStore::create(file)?,
        NewStore::Never if config.cluster.is_some() => match DurableStore::open(file) {
            Err(OpenError::Missing { .. }) => {
                origin = FileOrigin::Missing;
                cluster::mark_as_not_joined(file)?;
                DurableStore::create(file)?
            }
            opened => {
                if cluster::has_not_joined(file) {
                    origin = FileOrigin::NotJoined;
                }
                opened?
            }
        },
        NewStore::Never => DurableStore::open(file)?,
        NewStore::IfMissing => match DurableStore::open(file) {
            Err(OpenError::Missing { .. }) => DurableStore::create(file)?,
            opened => opened?,
        },
    };
    let (revocations, uses) = (Arc::new(revocations), Arc::default());
    Ok((Stores { revocations, cluster: None, audit, uses, zowe }, origin))
}

/// Adds counters to a route: for the requests that the limits of the route refuse, and for the decisions that the route
/// does not enforce (mode `observe`).
fn counted(route: Route, counts: Option<&(Arc<RouteLimitCounts>, Arc<ObservedCounts>)>) -> Route {
    let Some((of_limits, observed)) = counts else { return route };
    let route = match route.mode() {
        Mode::Observe => route.with_observed_counts(observed.clone()),
        _ => route,
    };
    match route.limits().cloned() {
        Some(limits) => route.with_limits(limits.with_counts(of_limits.clone())),
        None => route,
    }
}

/// Makes the handle to the audit log. If `counts` is present, records are counted, even if there is no file.
fn audit(file: Option<Arc<AuditFiles>>, counts: Option<&Counts>) -> Audit {
    match (counts, file) {
        (Some(counts), file) => counts.audit(file),
        (None, Some(file)) => Audit::to(file),
        (None, None) => Audit::none(),
    }
}

/// A function that returns the state of the gateway as JSON. The argument has the states of the instances of services.
/// The function must not block.
pub(crate) type InstancesDocument = Box<dyn Fn(&InstanceStates) -> Value + Send + Sync>;

pub(crate) struct HealthReports {
    pub(crate) needed: NeededParts,
    pub(crate) document: InstancesDocument,
}

/// The state that stays when the configuration is replaced.
pub(crate) struct Kept {
    stores: Stores,
    /// `None` if there is no admin port. Then nothing is counted.
    counts: Option<Counts>,
    /// The generator with the used time slots. It stays, so that a reload cannot lead to two PassTickets for the same
    /// second.
    generator: LocalGenerator,
    /// The breaker. If services refuse PassTickets, it stops the making of PassTickets for a user or a key.
    breaker: TicketBreaker,
    /// The counts of failed logins, and the cache of verified passwords.
    logins: LoginMemory,
    /// The service that forwards requests, with its connections to services. A reload keeps it if its settings have not
    /// changed.
    forward: Part<ForwardSettings, Forward<Connector, Incoming>>,
    /// The maximum number of clients whose requests are counted for rate limits, and the layer that counts them.
    rates: (NonZeroUsize, RateLimitLayer),
    instances: Arc<InstanceStates>,
    /// The health checks of instances, and the task that resolves their names.
    instance_tasks: InstanceTasks,
    /// The open WebSockets, event streams and gRPC calls.
    tunnels: Arc<Tunnels>,
    hand_over: HandOver,
    /// The registry of services that was fetched last.
    discovery: Discovery,
    access_logs: AccessLogs,
}

impl Kept {
    /// Creates the state for the first configuration, and registers its parts in `hand_over`. The health endpoints also
    /// show `discovery`.
    pub(crate) fn new(
        stores: Stores,
        counts: Option<Counts>,
        config: &Config,
        parts: &Parts,
        hand_over: HandOver,
        discovery: Discovery,
        breaker: TicketBreaker,
    ) -> Self {
        let generator = LocalGenerator::new(config.profiles.clone());
        let generator = match &stores.cluster {
            Some(cluster) => generator.with_shared_time_slots(cluster.time_slots.clone()),
            None => generator,
        };
        let instances = counts.as_ref().map(|counts| counts.instances.clone()).unwrap_or_default();
        let outbound = &parts.outbound.value;
        let forward = forward(config, None, outbound, &instances, counts.as_ref());
        let tunnels =
            Tunnels::new(stores.tokens()).with_audit(audit(stores.audit.clone(), counts.as_ref()));
        let tunnels = match &counts {
            Some(counts) => tunnels.with_counts(counts.tunnels.clone()),
            None => tunnels,
        };
        let tunnels = Arc::new(with_settings(tunnels, config));
        hand_over.tunnels(tunnels.clone());
        hand_over.discovery(discovery.clone());
        hand_over.breaker(breaker.clone());
        if let Some(cluster) = &stores.cluster {
            breaker.share(cluster.refusals.clone());
            hand_over.cluster(cluster.clone());
        }
        let logins = LoginMemory::default();
        let rates = rates(config, counts.as_ref());
        Self {
            stores,
            counts,
            generator,
            breaker,
            logins,
            forward,
            rates,
            instances,
            instance_tasks: InstanceTasks::default(),
            tunnels,
            hand_over,
            discovery,
            access_logs: AccessLogs::default(),
        }
    }

    /// Lets the generator also make PassTickets for the second in which the generator was created. A running gateway
    /// may make the same PassTicket in this second, so the caller must not send the PassTicket to a service.
    pub(crate) fn for_one_request(self, config: &Config) -> Self {
        Self { generator: LocalGenerator::one_shot(config.profiles.clone()), ..self }
    }

    pub(crate) fn with_access_logs(self, access_logs: AccessLogs) -> Self {
        Self { access_logs, ..self }
    }

    /// Continues with a new configuration. If [`Parts::has_same_logins`] is false, forgets the passwords that
    /// were verified before.
    pub(crate) fn continue_with(&mut self, config: &Config, parts: &Parts) {
        self.generator = self.generator.with_profiles(config.profiles.clone());
        self.breaker.set_keys(config.profiles.clone(), config.ticket_limits.clone());
        if !parts.has_same_logins() {
            self.logins = self.logins.without_passwords();
        }
        let outbound = &parts.outbound.value;
        let (previous, counts) = (Some(&self.forward), self.counts.as_ref());
        self.forward = forward(config, previous, outbound, &self.instances, counts);
        if self.rates.0 != config.limits.rate_limited_clients {
            self.rates = rates(config, counts);
        }
        self.tunnels = Arc::new(with_settings(self.tunnels.share(), config));
    }

    /// Returns the open WebSockets, event streams and gRPC calls. The caller must run [`Tunnels::enforce_revocations`].
    pub(crate) fn tunnels(&self) -> Arc<Tunnels> {
        self.tunnels.clone()
    }
}

/// Makes the layer that limits the rate of requests. It has no counts of earlier requests.
fn rates(config: &Config, counts: Option<&Counts>) -> (NonZeroUsize, RateLimitLayer) {
    let maximum = config.limits.rate_limited_clients;
    let layer = RateLimitLayer::new().with_max_clients(maximum);
    let layer = match counts {
        Some(counts) => layer.with_counts(counts.rate_limit.clone()),
        None => layer,
    };
    (maximum, layer)
}

fn with_settings(tunnels: Tunnels, config: &Config) -> Tunnels {
    let timeouts = &config.timeouts;
    tunnels
        .with_connect_timeout(timeouts.web_socket_connect)
        .with_idle_timeout(timeouts.web_socket_idle)
        .with_write_timeout(timeouts.web_socket_write)
        .with_tunnels_per_user(config.limits.tunnels_per_user)
}

/// The layers between a client and the service that forwards requests, with the values of a configuration. The gateway
/// and the command `explain` use the same layers in the same order, see [`routed_stack`].
pub(crate) struct Layers {
    /// Tells OAuth clients where to get a token. This layer is in front of `cors`, because web pages of all origins may
    /// read the metadata.
    pub(crate) metadata: Option<ProtectedResourceLayer>,
    /// This layer is in front of `authenticate`, because preflight requests have no credential.
    pub(crate) cors: Option<CorsLayer>,
    /// Counts requests. `None` if nothing is counted.
    pub(crate) requests: Option<RequestMetricsLayer>,
    pub(crate) sanitize: SanitizeLayer,
    pub(crate) route: RouteLayer,
    pub(crate) authenticate: AuthenticateLayer<Arc<dyn RevocationStore>, Arc<dyn IdentityMapper>>,
    pub(crate) scope: ScopeLayer,
    pub(crate) rate_limit: Option<RateLimitLayer>,
    pub(crate) scheme: SchemeLayer,
}

/// A place between two layers of [`routed_stack`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    Received,
    Sanitized,
    Routed,
    Authenticated,
    Scoped,
    RateLimited,
    Prepared,
}

/// Puts the [`Layers`] in front of `$service`. `$probe` is called with each [`Step`], and returns a layer for this
/// place. The command `explain` observes requests with these layers. The gateway uses [`no_probe`].
macro_rules! routed_stack {
    ($layers:expr, $forwarders:expr, $probe:expr, $service:expr) => {{
        let (layers, probe) = ($layers, $probe);
        ::tower::ServiceBuilder::new()
            .option_layer(layers.metadata)
            .option_layer(layers.cors)
            .option_layer($forwarders)
            .layer(probe($crate::stack::Step::Received))
            // This layer also counts the requests that the layers below reject.
            .option_layer(layers.requests)
            // SanitizeLayer is in front of all layers below, so that none of them sees headers that clients must not
            // set. It also refuses requests of web pages of other origins, while the request still has `Origin`.
            .layer(layers.sanitize)
            .layer(probe($crate::stack::Step::Sanitized))
            // RouteLayer is before AuthenticateLayer, because the route decides whether a credential is
            // evaluated, and what happens if authentication fails.
            .layer(layers.route)
            .layer(probe($crate::stack::Step::Routed))
            // AuthenticateLayer verifies the credential, and normally removes it from the request.
            .layer(layers.authenticate)
            .layer(probe($crate::stack::Step::Authenticated))
            // ScopeLayer is after AuthenticateLayer, because ScopeLayer compares the scopes of an
            // authenticated Personal Access Token with the route.
            .layer(layers.scope)
            .layer(probe($crate::stack::Step::Scoped))
            // RateLimitLayer is after AuthenticateLayer, so that it knows the user, and before SchemeLayer, so that a
            // refused request uses no PassTicket.
            .option_layer(layers.rate_limit)
            .layer(probe($crate::stack::Step::RateLimited))
            // SchemeLayer is last, so that the PassTicket is made immediately before the request is sent.
            .layer(layers.scheme)
            .layer(probe($crate::stack::Step::Prepared))
            .service($service)
    }};
}
pub(crate) use routed_stack;

/// The probe of the gateway: no layer.
fn no_probe(_: Step) -> Identity {
    Identity::new()
}

pub(crate) type GatewayAuthenticator =
    Authenticator<Arc<dyn RevocationStore>, Arc<dyn IdentityMapper>>;

/// The parts of a gateway that do not listen and run no task.
pub(crate) struct Assembled<F, S> {
    pub(crate) layers: Layers,
    pub(crate) authenticator: Arc<GatewayAuthenticator>,
    api: AuthApi,
    /// Adds the scheme to a configured route.
    implement: F,
    /// The schemes that gateways of API ML ask for.
    of_gateways: S,
    /// The routes of the configuration, with their schemes.
    routes: Vec<Route>,
    /// The table of routes that the layers read. It is empty until the caller replaces it.
    shared: SharedRoutes,
}

impl<F, S> Assembled<F, S> {
    pub(crate) fn auth_prefix(&self) -> AuthPrefix {
        self.api.prefix().clone()
    }

    pub(crate) fn publish_routes(&mut self) {
        let routes = Routes::new(mem::take(&mut self.routes));
        self.shared.replace(routes.expect("the configuration contains each prefix only once"));
    }
}

/// Makes the layers and the auth API. Starts no task, and asks no server. `audit` gets the records of all layers. `saf`
/// decides whether the gateway may make a PassTicket. Call this function in a runtime.
pub(crate) fn assemble<S: SafProvider + Clone>(
    config: &Config,
    parts: &Parts,
    kept: &Kept,
    audit: Audit,
    saf: S,
) -> Assembled<
    impl Fn(&ConfiguredRoute) -> Route + Clone + Send + Sync + use<S>,
    impl SchemeSource + use<S>,
> {
    let Outbound { connectors, logins, zowe } = &*parts.outbound.value;
    let (stores, counts) = (&kept.stores, kept.counts.as_ref());
    let networks = stores.revocations.clone();
    let revocations = stores.tokens();
    let (site, zosmf_sessions) = (&parts.site.value, &parts.zosmf_sessions.value);
    let verifier = parts.verifier.value.clone();
    let login_remote = Remote::new(logins.clone(), config);
    let issuer = TokenIssuer::new(config.signing_key.clone()).with_lifetime(config.token_lifetime);
    let issuer = if config.pat_prefix { issuer.with_pat_prefix() } else { issuer };

    let generator = kept.generator.clone().with_ticket_cache(config.limits.remembered_tickets);
    let generator = kept.hand_over.tickets(generator);
    let generator = PermittedGenerator::new(generator, saf, config.gateway_user);
    let remote = Remote::new(connectors.anonymous.clone(), config);
    let zowe_remote = zowe.clone().map(|connector| Remote::new(connector, config));
    let generator = Tickets::new(generator, config, zowe_remote.as_ref());
    let schemes = Schemes::new(config, &login_remote, &generator, zosmf_sessions, &kept.breaker);
    kept.breaker.set_audit(audit.clone());

    // The auth API and the authenticator share one mapper. If the mapper asks ZSS (Zowe's server on
    // z/OS), they also share the cache of the answers.
    let mapper = providers::certificate_mapper(config, &remote);
    let origins = match counts {
        Some(counts) => config.origins.clone().with_counts(counts.cross_origin.clone()),
        None => config.origins.clone(),
    };
    let cors = origins.has_cors().then(|| CorsLayer::new(origins.clone()));
    let mut api =
        AuthApi::new(issuer, verifier.clone(), parts.login.value.clone(), revocations.clone())
            .with_origin_policy(origins.clone())
            .with_login_throttle(config.login_throttle.clone());
    if let Some(cluster) = &stores.cluster {
        api = api.with_shared_login_failures(cluster.login_failures.clone());
    }
    api = api
        .with_login_wait(config.timeouts.provider)
        .with_known_networks(networks)
        .with_login_memory(&kept.logins)
        .with_passtickets(kept.breaker.guard(generator))
        .with_saf(providers::saf(config, &remote))
        .with_guarding_resources(config.guards.clone())
        .with_cookie_names(config.cookies.clone())
        .with_compatibility(config.compatibility)
        .with_audit(audit.clone());
    kept.hand_over.logins(api.login_failures());
    if config.client_certificates {
        api = api.with_client_certificates(mapper.clone());
    }
    if let Some(settings) = &config.delegation {
        api = api.with_delegation(providers::delegation(settings, &remote));
    }
    api = site.relay_logouts(api).with_logout_listener(schemes.logout_listener());
    let authenticator = match &parts.issuers {
        Some(issuers) => {
            api = api.with_login_token_verifier(issuers.clone());
            if !parts.oidc.is_empty() {
                api = api.with_oidc_tokens(issuers.clone());
            }
            Authenticator::new(issuers.clone())
        }
        None => Authenticator::new(verifier),
    };
    let identities = config
        .identity_mapping
        .as_ref()
        .map(|mapping| providers::identity_mapper(mapping, &config.protected_users, &remote));
    if let Some(settings) = &config.exchange {
        let protected = &config.protected_users;
        let exchange = providers::token_exchange(settings, protected, identities.clone());
        api = api.with_token_exchange(exchange);
    }
    let authenticator = match identities {
        Some(identities) => authenticator.with_distributed_identities(identities),
        None => authenticator,
    };
    let mut authenticator = authenticator
        .with_cookie_names(config.cookies.clone())
        .with_revocations(revocations.clone())
        .with_client_certificates(mapper);
    if config.pats {
        api = api
            .with_personal_access_tokens(config.max_validity)
            .with_access_token_registry(stores.registry(), config.pats_per_user);
        if let Some(allowed) = &config.allowed_scopes {
            api = api.with_allowed_scopes(allowed.clone());
        }
        authenticator = authenticator
            .with_personal_access_tokens(revocations)
            .with_token_uses(stores.uses.clone());
    }
    if config.token_refresh {
        api = api.with_token_refresh();
    }
    if !config.client_certificates {
        authenticator = authenticator.without_client_certificates();
    }
    let found = config.discovery.iter().flat_map(|discovery| &discovery.services);
    let found = found.flat_map(|service| &service.schemes);
    if config.routes.iter().chain(found).any(|route| route.client_basic() == ClientBasic::Verify) {
        // Some of the calls above replace the counts of failed logins of `api`. `basic_login` shares these counts, so
        // its call comes after them.
        authenticator = authenticator.with_passwords(api.basic_login());
    }
    let compatibility = config.compatibility;
    let limits = counts.map(|counts| (counts.route_limits.clone(), counts.observed.clone()));
    let schemes = Arc::new(schemes);
    let all = schemes.clone();
    let of_gateways =
        move |target: &SchemeTarget, service: Option<&ServiceId>| all.of_gateways(target, service);
    let implement = move |route: &_| {
        let route = schemes.route(route).with_compatibility(compatibility);
        counted(route, limits.as_ref())
    };
    let routes: Vec<_> = config.routes.iter().map(&implement).collect();
    let shared = SharedRoutes::default();
    let is_limited = config.routes.iter().any(|route| route.rate_limit().is_some());
    let rate_limit = (is_limited || config.discovery.is_some()).then(|| kept.rates.1.clone());

    let sanitize = config.request_headers.iter().cloned().fold(
        SanitizeLayer::new()
            .with_headers(config.strip_headers.iter().cloned())
            .with_origin_policy(origins),
        |layer, (service, headers)| layer.with_service_headers(service, headers),
    );
    let authenticator = Arc::new(authenticator);
    let layers = Layers {
        metadata: resource_metadata(config, &shared),
        cors,
        requests: counts.map(|counts| counts.requests.layer()),
        sanitize,
        route: RouteLayer::new(shared.clone()),
        authenticate: AuthenticateLayer::new(authenticator.clone()).with_audit(audit.clone()),
        scope: ScopeLayer::new().with_audit(audit.clone()).with_token_uses(stores.uses.clone()),
        rate_limit,
        scheme: SchemeLayer::new().with_audit(audit),
    };
    Assembled { layers, authenticator, api, implement, of_gateways, routes, shared }
}

/// The services of all listeners.
pub(crate) struct Services<G, Z> {
    pub(crate) gateway: G,
    /// The service for gateways of API ML. `None` if the program has no listener for them.
    pub(crate) zaas: Option<Z>,
}

/// Builds the gateway from two services: the auth API, and the stack of layers that forwards requests
/// to services.
///
/// Both services use the same revocation store. As soon as the auth API has revoked a token, the layers also refuse the
/// token.
///
/// If `kept` has counters, requests and decisions are counted. The health endpoint and the page of administrators
/// report `health`. Call this function in a Tokio runtime. The function starts tasks there: they check the instances of
/// services, and resolve their host names. If the configuration uses Eureka, another
/// task fetches the registry and replaces the routes.
pub(crate) fn services(
    config: &Config,
    parts: &Parts,
    kept: &Kept,
    health: HealthReports,
) -> Services<impl GatewayService + use<>, impl GatewayService + use<>> {
    let Outbound { connectors, .. } = &*parts.outbound.value;
    let counts = kept.counts.as_ref();
    let audit = audit(kept.stores.audit.clone(), counts);
    let assembled = assemble(config, parts, kept, audit.clone(), config.saf.clone());
    let Assembled { layers, mut api, implement, of_gateways, routes, shared, .. } = assembled;
    let states = kept.instances.clone();
    // `set_routes` removes the instances of all other routes. With discovery, `routes` lacks the found routes, so the
    // updater calls `set_routes` later, with the whole table.
    if config.discovery.is_none() {
        states.set_routes(&routes);
    }
    let connections = kept.forward.value.connections();
    // The new health checks begin before the old health checks end, so a failed instance stays failed.
    let tasks = instances::start_tasks(config, &routes, &shared, connectors, &states, connections);
    kept.instance_tasks.replace(tasks);
    let routes = Routes::new(routes).expect("the configuration contains each prefix only once");
    shared.replace(routes);
    let (routes, defined) = (shared, apiml::defined_services(config));
    let services = SharedServices::new(defined.clone());
    let discovery = &kept.discovery;
    let listed = services.clone();
    let HealthReports { needed, document } = health;
    let endpoints = apiml::endpoints(config, services.clone(), needed, discovery)
        .with_instance_health(move |service, instance| {
            instances::health(&states, service, instance)
        });
    api = api.with_apiml_endpoints(endpoints);
    let Layers { authenticate, scope, scheme, .. } = &layers;
    let endpoints =
        SchemeEndpoints::new(of_gateways, authenticate.clone(), scope.clone(), scheme.clone());
    let endpoints = endpoints.with_cookie_names(config.cookies.clone());
    let zaas = zaas(config, parts, kept, &api, endpoints);
    match (&config.discovery, &parts.finding) {
        (Some(settings), Some(Part { value: Finding { connector, task }, .. })) => {
            let updater = RouteUpdater::new(
                settings.clone(),
                config.routes.clone(),
                defined,
                implement,
                routes,
                services,
                kept.instances.clone(),
            )
            .with_checks(FoundChecks::new(config, connectors, &kept.instances));
            discovery.attach(updater, audit);
            task.start(|| discovery.clone().run(settings.clone(), connector.clone()));
        }
        _ => discovery.detach(),
    }
    let forward = kept.forward.value.clone();
    let forward =
        forward.with_cookie_names(config.cookies.clone()).with_tunnels(kept.tunnels.clone());
    let forwarders = parts.forwarders.as_ref().map(Forwarders::layer);
    let (metadata, cors) = (layers.metadata.clone(), layers.cors.clone());
    // This layer is directly around the service, because it measures the time of the service.
    let measured = option_layer(counts.map(|counts| counts.requests.service_layer()));
    let routed = routed_stack!(layers, forwarders, no_probe, measured.layer(forward));
    // `Debug` does not show the values of headers that are marked as sensitive. This layer marks the headers of
    // requests to the auth API. SanitizeLayer marks the headers of requests to services.
    let sensitive = [AUTHORIZATION, COOKIE, PRIVATE_TOKEN.clone()];
    let prefix = api.prefix().clone();
    // A trusted proxy sends the certificate of its client in a header. This layer puts that certificate in place of the
    // proxy's own certificate. So the auth API and the pages see only the certificate of the client.
    let forwarded = || option_layer(parts.forwarders.as_ref().map(Forwarders::layer));
    // The pages call `api` without the layers `forwarded` and `SetSensitiveRequestHeaders`, because each request for a
    // page has already passed these two layers.
    let pages = config.ui.as_ref().map(|settings| {
        let options = ui_options(config, settings, listed, kept, document);
        let ui = Ui::new(api.clone(), options);
        let ui = SetSensitiveRequestHeaders::new(ui, sensitive.clone());
        // The pages have no CORS layer, because pages of other origins may not read them.
        (settings.path.clone(), forwarded().layer(ui))
    });
    let api = forwarded().layer(SetSensitiveRequestHeaders::new(api, sensitive));
    let api = option_layer(metadata).layer(option_layer(cors).layer(api));
    let api = WithPages { api, pages };
    let mut gateway = Gateway::new(api, routed).with_auth_prefix(prefix).with_apiml_endpoints();
    if let Some(settings) = &config.ui {
        gateway = gateway.with_pages(settings.path.clone());
    }
    if config.error_pages {
        gateway = gateway.with_error_pages();
    }
    let gateway = with_access_log(with_counts(gateway, config, kept), kept);
    Services { gateway, zaas }
}

/// Builds the service for gateways of API ML: the auth API with the paths of ZAAS, and `endpoints`, which make
/// credentials for services. `None` if the program has no listener for these gateways.
fn zaas(
    config: &Config,
    parts: &Parts,
    kept: &Kept,
    api: &AuthApi,
    endpoints: SchemeEndpoints<Arc<dyn RevocationStore>, Arc<dyn IdentityMapper>>,
) -> Option<impl GatewayService + use<>> {
    // A gateway of API ML sends the certificate of its client in a header. This layer puts that certificate in place of
    // the certificate of API ML's gateway. So the auth API and the endpoints see only the certificate of the client.
    let forwarded = parts.zaas()?.layer();
    let sensitive = [AUTHORIZATION, COOKIE, PRIVATE_TOKEN.clone()];
    let api = SetSensitiveRequestHeaders::new(api.for_zaas(), sensitive.clone());
    let endpoints = SetSensitiveRequestHeaders::new(endpoints, sensitive);
    let gateway = Gateway::new(forwarded.layer(api), forwarded.layer(endpoints)).for_zaas();
    Some(with_access_log(with_counts(gateway, config, kept), kept))
}

fn with_counts<A, R>(gateway: Gateway<A, R>, config: &Config, kept: &Kept) -> Gateway<A, R> {
    let gateway = match &config.strict_transport_security {
        Some(policy) => gateway.with_strict_transport_security(policy),
        None => gateway,
    };
    match &kept.counts {
        Some(counts) => gateway.with_request_counts(counts.responses.clone()),
        None => gateway,
    }
}

/// Puts the layer for the access log around the whole service, so that the access log also has the requests that other
/// layers refuse.
fn with_access_log<G: GatewayService>(gateway: G, kept: &Kept) -> impl GatewayService + use<G> {
    let access_log = kept.access_logs.current();
    ServiceBuilder::new()
        .map_response(to_response_body)
        .layer(access_log.map_or_else(AccessLogLayer::without_file, AccessLogLayer::new))
        .service(gateway)
}

/// Changes the type of the body. If a request has no line in the access log, the body of its response stays as it is.
fn to_response_body(response: Response<LoggedBody<ResponseBody>>) -> Response<ResponseBody> {
    response.map(ResponseBody::from)
}

fn ui_options(
    config: &Config,
    settings: &UiSettings,
    services: SharedServices,
    kept: &Kept,
    document: InstancesDocument,
) -> UiOptions {
    let audit = match &kept.stores.audit {
        None => AuditLog::Off,
        Some(files) => AuditLog::Files {
            decisions: files.decisions().path().to_owned(),
            unauthenticated: files.unauthenticated().path().to_owned(),
        },
    };
    let instances = kept.instances.clone();
    let mut route_paths = RoutePaths::new();
    for route in &config.routes {
        let path = || route.prefix().to_owned();
        route_paths.entry(route.service().to_string()).or_insert_with(path);
    }
    UiOptions {
        route_paths,
        path: settings.path.clone(),
        login_cookie: config.cookies.jwt().to_owned(),
        services,
        max_days: config.max_validity.days(),
        allowed_scopes: config.allowed_scopes.clone(),
        can_change_passwords: matches!(config.logins, Logins::Zosmf(_) | Logins::Zss(_)),
        client_certificates: config.client_certificates,
        audit,
        health: Box::new(move || document(&instances)),
        clock: Arc::new(SystemClock),
    }
}

/// Makes the layer that tells OAuth clients which identity providers issue the tokens that the gateway accepts. `None`
/// if the configuration has no such metadata.
fn resource_metadata(config: &Config, routes: &SharedRoutes) -> Option<ProtectedResourceLayer> {
    let (first, more) = config.resource_origins.split_first()?;
    let issuers = config.oidc.iter().map(|provider| provider.issuer.as_str());
    let layer = ProtectedResourceLayer::new(first.clone(), issuers, routes.clone());
    Some(layer.with_more_origins(more.iter().cloned()))
}
