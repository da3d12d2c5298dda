//! Assembles the gateway from a configuration.

use std::{convert::Infallible, sync::Arc};

use http::{
    Request,
    header::{AUTHORIZATION, COOKIE},
};
use hyper::body::Incoming;
use passticket_proxy::config::{AuditSettings, Config, Encryption};
use tower::{Layer, ServiceBuilder, util::option_layer};
use tower_http::sensitive_headers::SetSensitiveRequestHeaders;
use tower_passticket::{
    api::{AuthApi, LoginProvider},
    audit::{Audit, AuditFileError, AuditFiles},
    gateway::Gateway,
    layer::{
        AuthenticateLayer, Authenticator, ClientBasic, CorsLayer, PRIVATE_TOKEN, RateLimitLayer,
        Route, RouteLayer, Routes, SanitizeLayer, SchemeLayer, ScopeLayer,
    },
    passticket::LocalGenerator,
    proxy::{Forward, ForwardTimeouts, ResponseBody},
    revocation::{DurableStore, OpenError},
    saf::PermittedGenerator,
    tls::{Connector, ServerTls, TlsError},
    token::{IssuerKeys, OidcIssuer, Rs256Verifier, TokenIssuer},
    zosmf::ZosmfSessions,
};
use tower_service::Service;

use crate::{
    admin::Counts,
    apiml::{self, NeededParts},
    connectors::{Connectors, zowe_connector},
    exit::Exit,
    forwarders::Forwarders,
    oidc,
    providers::{self, Remote},
    schemes::Schemes,
    site_tokens::SiteTokens,
    tickets::Tickets,
};

/// A problem that appears only when several configuration values are used together, such as a private
/// key that does not belong to the certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PartsError {
    #[error("zowe.certificate.pem: {0}")]
    Tls(#[from] TlsError),
    #[error("components.passticket-proxy.oidc: {0}")]
    Oidc(#[source] TlsError),
    #[error("components.passticket-proxy.zowe: {0}")]
    Site(#[source] TlsError),
    #[error("components.passticket-proxy.forwarders: {0}")]
    Forwarders(#[source] TlsError),
    #[error("components.passticket-proxy.users: {0}")]
    Users(#[from] tower_passticket::api::FileLoginError),
}

/// The parts that the program builds from the configuration before the gateway listens.
pub(crate) struct Parts {
    /// `None` if AT-TLS (TLS by the TCP/IP stack of z/OS) decrypts connections for the gateway.
    pub(crate) tls: Option<ServerTls>,
    connectors: Connectors,
    /// Calls servers that receive passwords or PassTickets.
    login_remote: Remote,
    /// Connects to a running Zowe that makes PassTickets.
    zowe_connector: Option<Connector>,
    login: Arc<dyn LoginProvider>,
    zosmf_sessions: ZosmfSessions,
    /// The identity providers whose tokens are accepted.
    oidc: Vec<OidcIssuer>,
    /// The issuers of the site whose tokens are accepted.
    site: SiteTokens,
    /// The proxies that may send the certificates of their clients.
    pub(crate) forwarders: Option<Forwarders>,
}

impl Parts {
    /// The keys of other issuers, which are fetched.
    pub(crate) fn issuer_keys(&self) -> impl Iterator<Item = &IssuerKeys> {
        self.oidc.iter().map(OidcIssuer::keys).chain(self.site.keys())
    }
}

/// Builds the [`Parts`].
pub(crate) fn parts(config: &Config) -> Result<Parts, PartsError> {
    let tls = match config.encryption {
        Encryption::Tls => Some(server_tls(config)?),
        Encryption::AtTls => None,
    };
    let connectors = Connectors::new(config)?;
    let login_connector = connectors.to_logins(config)?;
    let zosmf_sessions = ZosmfSessions::default();
    let site = SiteTokens::new(config, &login_connector, &zosmf_sessions);
    let site = site.map_err(PartsError::Site)?;
    let login_remote = Remote::new(login_connector, config);
    let login = providers::login(config, &login_remote, &zosmf_sessions)?;
    let zowe_connector = zowe_connector(config)?;
    let oidc = oidc::providers(config).map_err(PartsError::Oidc)?;
    let forwarders = Forwarders::new(config).map_err(PartsError::Forwarders)?;
    Ok(Parts {
        tls,
        connectors,
        login_remote,
        zowe_connector,
        login,
        zosmf_sessions,
        oidc,
        site,
        forwarders,
    })
}

/// TLS settings of the listener: the certificate of the gateway, and the authorities whose client
/// certificates the listener accepts.
pub(crate) fn server_tls(config: &Config) -> Result<ServerTls, PartsError> {
    let files = &config.tls;
    let authorities = (!files.authorities.is_empty()).then_some(files.authorities.as_slice());
    let authorities = authorities.filter(|_| config.client_certificates);
    let tls = ServerTls::builder(&files.certificate, &files.key)
        .with_signature_cache()
        .with_policy(config.server_tls.clone());
    let tls = match authorities {
        None => tls,
        Some(authorities) => match &files.revocation_lists {
            None => tls.with_client_authorities(authorities),
            Some(lists) => tls.with_client_authorities(authorities).with_revocation_lists(lists),
        },
    };
    Ok(tls.build()?)
}

/// The files whose data must survive a restart of the gateway.
#[derive(Clone)]
pub(crate) struct Stores {
    /// The revoked tokens.
    pub(crate) revocations: Arc<DurableStore>,
    /// The audit files.
    pub(crate) audit: Option<Arc<AuditFiles>>,
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

/// Says whether the program creates the revocation file.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NewStore {
    /// The file must exist. If it is missing, it may be on a volume that is not mounted.
    Never,
    /// The file must not exist. It is created. This value is for `--new-store`.
    Required,
    /// The file is created if it is missing. This value is for the demo.
    IfMissing,
}

/// Opens the [`Stores`]. This function blocks the thread.
pub(crate) fn stores(config: &Config, new_store: NewStore) -> Result<Stores, StoresError> {
    let file = &config.revocations;
    // The audit file is opened first, so that the program leaves no new revocation file behind if the audit file has a
    // problem.
    let audit =
        config.audit.as_ref().map(|AuditSettings { file, unauthenticated, options, .. }| {
            AuditFiles::open(file, unauthenticated, options.clone()).map(Arc::new)
        });
    let audit = audit.transpose()?;
    let revocations = match new_store {
        NewStore::Required => DurableStore::create(file)?,
        NewStore::Never => DurableStore::open(file)?,
        NewStore::IfMissing => match DurableStore::open(file) {
            Err(OpenError::Missing { .. }) => DurableStore::create(file)?,
            opened => opened?,
        },
    };
    Ok(Stores { revocations: Arc::new(revocations), audit })
}

/// Counts the requests that the limits of a route refuse.
fn counted(route: Route, counts: Option<&Counts>) -> Route {
    match (route.limits().cloned(), counts) {
        (Some(limits), Some(counts)) => {
            route.with_limits(limits.with_counts(counts.route_limits.clone()))
        }
        _ => route,
    }
}

/// Builds the gateway from two services: the auth API, and the stack of layers that forwards requests
/// to services.
///
/// Both services use the same revocation store. As soon as the auth API has revoked a token, the layers also refuse the
/// token.
///
/// If `counts` is present, requests and decisions are counted. The health endpoint reports the parts in
/// `needed`.
pub(crate) fn gateway(
    config: &Config,
    Parts {
        connectors,
        login_remote,
        zowe_connector,
        login,
        zosmf_sessions,
        oidc,
        site,
        forwarders,
        ..
    }: Parts,
    Stores { revocations, audit }: Stores,
    counts: Option<&Counts>,
    needed: NeededParts,
) -> impl Service<
    Request<Incoming>,
    Response = http::Response<ResponseBody>,
    Error = Infallible,
    Future: Send + 'static,
> + Clone
+ Send
+ 'static {
    let key = &config.signing_key;
    let verifier = Rs256Verifier::new(key.verifying_key());
    let verifier = config.retained_keys.iter().cloned().fold(verifier, Rs256Verifier::with_key);
    let verifier = verifier.with_cache(config.limits.cached_tokens);
    let issuer = TokenIssuer::new(key.clone()).with_lifetime(config.token_lifetime);

    let generator = LocalGenerator::new(config.profiles.clone())
        .with_ticket_cache(config.limits.remembered_tickets);
    let generator = PermittedGenerator::new(generator, config.saf.clone(), config.gateway_user);
    let remote = Remote::new(connectors.anonymous.clone(), config);
    let zowe_remote = zowe_connector.map(|connector| Remote::new(connector, config));
    let generator = Tickets::new(generator, config, zowe_remote.as_ref());
    let schemes = Schemes::new(config, &login_remote, &generator, &zosmf_sessions);
    let audit = match (counts, audit) {
        (Some(counts), audit) => counts.audit(audit),
        (None, Some(audit)) => Audit::to(audit),
        (None, None) => Audit::none(),
    };

    // The auth API and the authenticator share one mapper. If the mapper asks ZSS (Zowe's server on
    // z/OS), they also share the cache of the answers.
    let mapper = providers::certificate_mapper(config, &remote);
    let origins = match counts {
        Some(counts) => config.origins.clone().with_counts(counts.cross_origin.clone()),
        None => config.origins.clone(),
    };
    let cors = origins.has_cors().then(|| CorsLayer::new(origins.clone()));
    let mut api = AuthApi::new(issuer, verifier.clone(), login, revocations.clone())
        .with_origin_policy(origins.clone())
        .with_login_throttle(config.login_throttle.clone())
        .with_login_wait(config.timeouts.provider)
        .with_known_networks(revocations.clone())
        .with_passtickets(generator)
        .with_saf(providers::saf(config, &remote))
        .with_guarding_resources(config.guards.clone())
        .with_cookie_names(config.cookies.clone())
        .with_compatibility(config.compatibility)
        .with_audit(audit.clone());
    if config.client_certificates {
        api = api.with_client_certificates(mapper.clone());
    }
    if let Some(settings) = &config.delegation {
        api = api.with_delegation(providers::delegation(settings, &remote));
    }
    api = site.relay_logouts(api).with_logout_listener(schemes.logout_listener());
    let has_oidc = !oidc.is_empty();
    let authenticator = match site.verifier(&verifier, oidc) {
        Some(issuers) => {
            api = api.with_login_token_verifier(issuers.clone());
            if has_oidc {
                api = api.with_oidc_tokens(issuers.clone());
            }
            Authenticator::new(issuers)
        }
        None => Authenticator::new(verifier),
    };
    let authenticator = match &config.identity_mapping {
        Some(mapping) => authenticator.with_distributed_identities(providers::identity_mapper(
            mapping,
            &config.protected_users,
            &remote,
        )),
        None => authenticator,
    };
    let mut authenticator = authenticator
        .with_cookie_names(config.cookies.clone())
        .with_revocations(revocations.clone())
        .with_client_certificates(mapper);
    if config.pats {
        api = api.with_personal_access_tokens(config.max_validity);
        authenticator = authenticator.with_personal_access_tokens(revocations);
    }
    if config.token_refresh {
        api = api.with_token_refresh();
    }
    if !config.client_certificates {
        authenticator = authenticator.without_client_certificates();
    }
    if config.routes.iter().any(|route| route.client_basic() == ClientBasic::Verify) {
        // The auth API has all its settings here, so both count the same failed logins.
        authenticator = authenticator.with_passwords(api.basic_login());
    }
    let routes = config.routes.iter().map(|route| schemes.route(route));
    let routes = routes.map(|route| route.with_compatibility(config.compatibility));
    let routes: Vec<_> = routes.map(|route| counted(route, counts)).collect();
    api = api.with_apiml_endpoints(apiml::endpoints(config, &routes, needed));
    let routes = Routes::new(routes).expect("the configuration contains each prefix only once");
    let rate_limit = config.routes.iter().any(|route| route.rate_limit().is_some()).then(|| {
        let layer = RateLimitLayer::new().with_max_clients(config.limits.rate_limited_clients);
        match counts {
            Some(counts) => layer.with_counts(counts.rate_limit.clone()),
            None => layer,
        }
    });
    let timeouts = ForwardTimeouts::default()
        .with_response(config.timeouts.response)
        .with_receive(config.timeouts.receive)
        .with_queue(config.timeouts.queue)
        .with_body(config.timeouts.service_body);
    let mut forward = Forward::new(connectors.default, timeouts)
        .with_max_connections(config.limits.connections_per_instance)
        .with_cookie_names(config.cookies.clone());
    if config.client_identities.are_present() {
        // A request without an authorized user must not use a certificate of the gateway.
        forward = forward.with_unauthorized_connector(connectors.anonymous);
    }
    for (service, connector) in connectors.own {
        forward = forward.with_connector_of(service, connector);
    }
    if let Some(counts) = counts {
        forward = forward.with_counts(counts.forward.clone());
    }

    let sanitize = config.request_headers.iter().cloned().fold(
        SanitizeLayer::new()
            .with_headers(config.strip_headers.iter().cloned())
            .with_origin_policy(origins),
        |layer, (service, headers)| layer.with_service_headers(service, headers),
    );
    let routed = ServiceBuilder::new()
        // SanitizeLayer is first, so that no other layer sees headers that clients must not set. It also
        // refuses requests of web pages of other origins, while the request still has `Origin`.
        .layer(sanitize)
        // RouteLayer is before AuthenticateLayer, because the route decides whether a credential is
        // evaluated, and what happens if authentication fails.
        .layer(RouteLayer::new(routes))
        // AuthenticateLayer removes the credential, except on routes with the scheme bypass. Later
        // layers see only the authenticated user.
        .layer(AuthenticateLayer::new(authenticator).with_audit(audit.clone()))
        // ScopeLayer is after AuthenticateLayer, because ScopeLayer compares the scopes of an
        // authenticated Personal Access Token with the route.
        .layer(ScopeLayer::new().with_audit(audit.clone()))
        // RateLimitLayer is after ScopeLayer, so that it knows the user, and before SchemeLayer, so that a refused
        // request uses no PassTicket.
        .layer(option_layer(rate_limit))
        // SchemeLayer is last, so that the PassTicket is made immediately before the request is sent.
        .layer(SchemeLayer::new().with_audit(audit))
        .service(forward);
    // `Debug` does not show the values of headers that are marked as sensitive. This layer marks the headers of
    // requests to the auth API. SanitizeLayer marks the headers of requests to services.
    let sensitive = [AUTHORIZATION, COOKIE, PRIVATE_TOKEN.clone()];
    let prefix = api.prefix().clone();
    // This layer is in front of all others, because the auth API and the routed stack see only the certificate that it
    // leaves.
    let forwarded = || option_layer(forwarders.as_ref().map(Forwarders::layer));
    let api = forwarded().layer(SetSensitiveRequestHeaders::new(api, sensitive));
    // This layer is in front of authentication, because preflight requests have no credential.
    let cors = || option_layer(cors.clone());
    let mut gateway = Gateway::new(cors().layer(api), cors().layer(forwarded().layer(routed)))
        .with_auth_prefix(prefix)
        .with_apiml_endpoints();
    if config.error_pages {
        gateway = gateway.with_error_pages();
    }
    if let Some(policy) = &config.strict_transport_security {
        gateway = gateway.with_strict_transport_security(policy);
    }
    if let Some(counts) = counts {
        gateway = gateway.with_request_counts(counts.requests.clone());
    }
    gateway
}
