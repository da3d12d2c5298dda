//! From a configuration to the services that run.

use std::{convert::Infallible, sync::Arc, time::Duration};

use http::{
    Request,
    header::{AUTHORIZATION, COOKIE},
};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use passticket_proxy::config::{Config, Encryption};
use tower::ServiceBuilder;
use tower_http::sensitive_headers::SetSensitiveRequestHeaders;
use tower_passticket::{
    api::{AuthApi, AuthParts, FileLogin},
    audit::{Audit, AuditFile, AuditFileError},
    layer::{
        AuthenticateLayer, Authenticator, PRIVATE_TOKEN, PassTicketLayer, RouteLayer,
        SanitizeLayer, ScopeLayer,
    },
    passticket::LocalGenerator,
    proxy::{Forward, Gateway, ResponseBody, Timeouts},
    revocation::{DurableStore, OpenError},
    saf::PermittedGenerator,
    tls::{ServerTls, TlsError, https_connector},
    token::{Rs256Verifier, TokenIssuer},
};
use tower_service::Service;

use crate::providers::{self, Remote};

/// A service that has not taken the connection by then is down; the answer may take longer.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// What can be wrong although each key of the configuration is right.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PartsError {
    #[error("zowe.certificate.pem: {0}")]
    Tls(#[from] TlsError),
    #[error("passticketProxy.users: {0}")]
    Users(#[from] tower_passticket::api::FileLoginError),
}

/// What a configuration is made into before anything listens.
pub(crate) struct Parts {
    /// None where somebody before the gateway encrypts.
    pub(crate) tls: Option<ServerTls>,
    connector: HttpsConnector<HttpConnector>,
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
        connector: https_connector(config.verify, &config.tls.authorities, connect)?,
        login: FileLogin::new(config.users.iter().cloned())?,
    })
}

/// What a listener of the gateway shows and accepts.
pub(crate) fn server_tls(config: &Config) -> Result<ServerTls, PartsError> {
    let files = &config.tls;
    let authorities = (!files.authorities.is_empty()).then_some(files.authorities.as_slice());
    let authorities = authorities.filter(|_| config.client_certificates);
    Ok(ServerTls::from_pem(&files.certificate, &files.key, authorities)?)
}

/// What outlives the process.
#[derive(Clone)]
pub(crate) struct Stores {
    /// What is revoked.
    pub(crate) revocations: Arc<DurableStore>,
    /// Who did what.
    pub(crate) audit: Option<Arc<AuditFile>>,
}

/// Why the process cannot do without what it left behind.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoresError {
    /// Without the file revoked tokens would be good again.
    #[error(transparent)]
    Revocations(#[from] OpenError),
    /// What nobody can look up later must not happen.
    #[error(transparent)]
    Audit(#[from] AuditFileError),
}

/// Opens them, which blocks.
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
/// Both ask the same revocations: what is answered as revoked is refused on routes at once.
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

    let generator =
        LocalGenerator::new(config.profiles.clone()).remembering(config.limits.remembered_tickets);
    let generator = PermittedGenerator::new(generator, config.saf.clone(), config.gateway_user);
    let remote = Remote::new(connector.clone(), config);
    let audit = audit.map_or_else(Audit::none, Audit::to);

    let api = AuthApi::new(AuthParts {
        issuer,
        verifier: verifier.clone(),
        key: key.verifying_key(),
        login,
        revocations: revocations.clone(),
        saf: providers::saf(config, &remote),
        tickets: generator.clone(),
    })
    .cookie_names(config.cookies.clone())
    .compatibility(config.compatibility)
    .guarding_resources(config.guards.clone())
    .with_audit(audit.clone());
    // One mapper for both, and so one memory of what it was answered.
    let mapper = providers::certificate_mapper(config, &remote);
    let mut api = api.client_certificates(mapper.clone());
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
        api = api.without_client_certificates();
        authenticator = authenticator.without_client_certificates();
    }
    let tickets = match config.custom_headers.clone() {
        None => PassTicketLayer::new(generator),
        Some(custom) => PassTicketLayer::with_custom_headers(generator, custom),
    };
    let tickets = tickets.with_audit(audit.clone());
    let timeouts = Timeouts { response: config.timeouts.response, ..Timeouts::default() };

    let routed = ServiceBuilder::new()
        // First, so that nothing behind it sees what a client may not write.
        .layer(SanitizeLayer::new().also(config.strip_headers.iter().cloned()))
        // Before Authenticate: the route says whether anything is evaluated, and what becomes of
        // a failure.
        .layer(RouteLayer::new(config.routes.clone()))
        // Here raw credentials end.
        .layer(AuthenticateLayer::new(authenticator).with_audit(audit.clone()))
        // Who is known, and where they want to go: may they?
        .layer(ScopeLayer::new().with_audit(audit))
        // Last, so that the ticket is as fresh as it can be.
        .layer(tickets)
        .service(Forward::new(connector, timeouts));
    // On routes, Sanitize does that.
    // Never to be shown by `Debug`, nor to enter the tables of HTTP/2.
    let sensitive = [AUTHORIZATION, COOKIE, PRIVATE_TOKEN.clone()];
    Gateway::new(SetSensitiveRequestHeaders::new(api, sensitive), routed)
}
