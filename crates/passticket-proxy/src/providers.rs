//! Whom the gateway asks: the providers that a configuration chooses between.

use std::{sync::Arc, time::Duration};

use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use passticket_proxy::config::{
    CertificateMapping, Config, DelegationSettings, IdentityMapping, Zss,
};
use tower_passticket::{
    api::Delegation,
    identity::{CommonNameMapper, IdentityMapper, ZssCertificates, ZssIdentities},
    passticket::UserId,
    remote::{Client, Limits, NoToken, TokenSource, UserToken},
    saf::{EndpointSaf, SafProvider},
    token::TokenIssuer,
};

type Connector = HttpsConnector<HttpConnector>;

/// A token to ask with is used at once.
const TOKEN_LIFETIME: Duration = Duration::from_secs(60);

/// The `dom` claim of tokens, as the auth API writes it.
const DOMAIN: &str = "security-domain";

/// What providers over HTTP have in common.
pub(crate) struct Remote {
    connector: Connector,
    limits: Limits,
    tokens: Tokens,
}

impl Remote {
    pub(crate) fn new(connector: Connector, config: &Config) -> Self {
        let issuer = TokenIssuer::new(config.signing_key.clone()).with_lifetime(TOKEN_LIFETIME);
        let limits = Limits { deadline: config.timeouts.provider, ..Limits::default() };
        Self { connector, limits, tokens: Tokens(Arc::new(issuer)) }
    }

    /// One for each service: a slow one does not use up the turns of another.
    fn client(&self) -> Client<Connector> {
        Client::new(self.connector.clone(), self.limits)
    }
}

/// Lets the gateway ask as a user, with a token of its own making.
#[derive(Clone)]
pub(crate) struct Tokens(Arc<TokenIssuer>);

impl TokenSource for Tokens {
    fn token(&self, user: &UserId) -> Result<UserToken, NoToken> {
        let token = self.0.login_token(user, DOMAIN);
        UserToken::new(token.map_err(|error| NoToken::new(error.to_string()))?.expose())
    }
}

/// The provider of checks for the auth API. Tickets are always checked with the file: the endpoint
/// knows no other class, and every request would wait for it.
pub(crate) fn saf(config: &Config, remote: &Remote) -> Arc<dyn SafProvider> {
    match &config.saf_endpoint {
        None => Arc::new(config.saf.clone()),
        Some(address) => {
            let tokens = remote.tokens.clone();
            // Its one class is ZOWE, as that of the guarding resources is then.
            Arc::new(EndpointSaf::new(remote.client(), address.clone(), tokens))
        }
    }
}

/// The mapper of client certificates.
pub(crate) fn certificate_mapper(config: &Config, remote: &Remote) -> Arc<dyn IdentityMapper> {
    match &config.certificate_mapping {
        CertificateMapping::File(map) => Arc::new(map.clone()),
        CertificateMapping::Zss(Zss { address, user, .. }) => {
            let (client, tokens) = (remote.client(), remote.tokens.clone());
            Arc::new(ZssCertificates::new(client, address.clone(), *user, tokens))
        }
        CertificateMapping::CommonName => Arc::new(CommonNameMapper),
    }
}

/// Who may be whom.
pub(crate) fn delegation(settings: &DelegationSettings, remote: &Remote) -> Delegation {
    let registry = settings.registry.clone();
    let mut delegation = match &settings.mapping {
        IdentityMapping::Zss(Zss { address, user, .. }) => {
            let (client, tokens) = (remote.client(), remote.tokens.clone());
            let zss = ZssIdentities::new(client, address.clone(), *user, tokens);
            Delegation::new(zss, registry)
        }
        IdentityMapping::File(map) => Delegation::new(map.clone(), registry),
    };
    if let Some(grants) = &settings.grants {
        delegation = delegation.with_grants(grants.iter().cloned());
    }
    for user in &settings.protected {
        delegation = delegation.with_protected(*user);
    }
    match settings.calls_per_minute {
        Some(calls) => delegation.with_calls_per_minute(calls),
        None => delegation,
    }
}
