//! Assembles the gateway from a configuration.

use std::{convert::Infallible, sync::Arc, time::Duration};

use http::{
    Request,
    header::{AUTHORIZATION, COOKIE},
};
use hyper::body::Incoming;
use passticket_proxy::config::{Config, Encryption, ServiceScheme};
use tower::ServiceBuilder;
use tower_http::sensitive_headers::SetSensitiveRequestHeaders;
use tower_passticket::{
    api::{AuthApi, FileLogin},
    audit::{Audit, AuditFile, AuditFileError},
    gateway::Gateway,
    layer::{
        AuthenticateLayer, Authenticator, Bypass, PRIVATE_TOKEN, PassTicketScheme, RouteLayer,
        Routes, SanitizeLayer, SchemeLayer, ScopeLayer,
    },
    passticket::LocalGenerator,
    proxy::{Forward, ForwardTimeouts, ResponseBody},
    revocation::{DurableStore, OpenError},
    saf::PermittedGenerator,
    tls::{Connector, ServerTls, TlsError},
    token::{Rs256Verifier, TokenIssuer},
};
use tower_service::Service;

use crate::providers::{self, Remote};

/// The maximum time limit of connecting. A service that has not accepted a connection by then is
/// down; its response may take longer.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// A problem of keys that only shows when they are used together.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PartsError {
    #[error("zowe.certificate.pem: {0}")]
    Tls(#[from] TlsError),
    #[error("passticketProxy.users: {0}")]
    Users(#[from] tower_passticket::api::FileLoginError),
}

/// The parts that are made before the gateway listens.
pub(crate) struct Parts {
    /// `None` if AT-TLS encrypts in front of the gateway.
    pub(crate) tls: Option<ServerTls>,
    connector: Connector,
    login: FileLogin,
}

pub(crate) fn parts(config: &Config) -> Result<Parts, PartsError> {
    let connect = config.timeouts.connect.min(CONNECT_WITHIN);
    let tls = match config.encryption {
        Encryption::Tls => Some(server_tls(config)?),
        Encryption::AtTls => None,
    };
    Ok(Parts {
        tls,
        connector: Connector::builder()
            .with_verification(config.verify)
            .with_authorities(&config.tls.authorities)
            .with_connect_timeout(connect)
            .with_signature_cache()
            .build()?,
        login: FileLogin::new(config.users.iter().cloned())?,
    })
}

/// The certificate of the gateway, and the authorities of its clients.
pub(crate) fn server_tls(config: &Config) -> Result<ServerTls, PartsError> {
    let files = &config.tls;
    let authorities = (!files.authorities.is_empty()).then_some(files.authorities.as_slice());
    let authorities = authorities.filter(|_| config.client_certificates);
    let tls = ServerTls::builder(&files.certificate, &files.key).with_signature_cache();
    let tls = match authorities {
        None => tls,
        Some(authorities) => tls.with_client_authorities(authorities),
    };
    Ok(tls.build()?)
}

/// The files that outlive the process.
#[derive(Clone)]
pub(crate) struct Stores {
    /// The revocations.
    pub(crate) revocations: Arc<DurableStore>,
    /// The audit file.
    pub(crate) audit: Option<Arc<AuditFile>>,
}

/// Why a store cannot be opened. The gateway does not start without it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoresError {
    /// Without the file, revoked tokens would be valid again.
    #[error(transparent)]
    Revocations(#[from] OpenError),
    /// Without the file, events would not be audited.
    #[error(transparent)]
    Audit(#[from] AuditFileError),
}

/// Opens the files. Blocks.
pub(crate) fn stores(config: &Config) -> Result<Stores, StoresError> {
    let audit = config
        .audit
        .as_ref()
        .map(|audit| AuditFile::open(&audit.file, audit.options.clone()).map(Arc::new));
    Ok(Stores {
        revocations: Arc::new(DurableStore::open(&config.revocations)?),
        audit: audit.transpose()?,
    })
}

/// The gateway: the auth API beside the routed stack.
///
/// Both use the same revocations, so a revoked token is refused on routes at once.
pub(crate) fn gateway(
    config: &Config,
    Parts { connector, login, .. }: Parts,
    Stores { revocations, audit }: Stores,
) -> impl Service<
    Request<Incoming>,
    Response = http::Response<ResponseBody>,
    Error = Infallible,
    Future: Send + 'static,
> + Clone
+ Send
+ 'static {
    let key = &config.signing_key;
    let verifier = Rs256Verifier::new(key.verifying_key()).with_cache(config.limits.cached_tokens);
    let issuer = TokenIssuer::new(key.clone()).with_lifetime(config.token_lifetime);

    let generator = LocalGenerator::new(config.profiles.clone())
        .with_ticket_cache(config.limits.remembered_tickets);
    let generator = PermittedGenerator::new(generator, config.saf.clone(), config.gateway_user);
    let remote = Remote::new(connector.clone(), config);
    let audit = audit.map_or_else(Audit::none, Audit::to);

    // Both share one mapper, and with it its cache.
    let mapper = providers::certificate_mapper(config, &remote);
    let mut api = AuthApi::new(issuer, verifier.clone(), login, revocations.clone())
        .with_passtickets(generator.clone())
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
    let mut authenticator = Authenticator::new(verifier)
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
    let routes = config.routes.iter().map(|route| match route.scheme() {
        ServiceScheme::HttpBasicPassTicket { applid } => {
            let scheme = PassTicketScheme::new(applid, generator.clone());
            route.with_scheme(match config.custom_headers.clone() {
                None => scheme,
                Some(custom) => scheme.with_custom_headers(custom),
            })
        }
        ServiceScheme::Bypass => route.with_scheme(Bypass),
    });
    let routes = Routes::new(routes).expect("the configuration has each prefix once");
    let timeouts = ForwardTimeouts::default().with_response(config.timeouts.response);

    let routed = ServiceBuilder::new()
        // First: no layer behind it sees headers that clients may not set.
        .layer(SanitizeLayer::new().with_headers(config.strip_headers.iter().cloned()))
        // Before Authenticate: the route decides whether a credential is evaluated, and what
        // happens on failure.
        .layer(RouteLayer::new(routes))
        // No layer behind it sees a raw credential.
        .layer(AuthenticateLayer::new(authenticator).with_audit(audit.clone()))
        // Needs the principal and the route.
        .layer(ScopeLayer::new().with_audit(audit.clone()))
        // Last: the PassTicket is as fresh as possible.
        .layer(SchemeLayer::new().with_audit(audit))
        .service(Forward::new(connector, timeouts));
    // `Debug` does not show sensitive headers, and HTTP/2 does not put them into its tables. On
    // routes, Sanitize marks them.
    let sensitive = [AUTHORIZATION, COOKIE, PRIVATE_TOKEN.clone()];
    let prefix = api.prefix().clone();
    Gateway::new(SetSensitiveRequestHeaders::new(api, sensitive), routed).with_auth_prefix(prefix)
}
