//! The providers of permissions and identities, as the configuration chooses them.

use std::{sync::Arc, time::Duration};

use passticket_proxy::config::{
    CertificateMapping, Config, DelegationSettings, IdentityMapping, Zss,
};
use tower_passticket::{
    api::Delegation,
    identity::{CommonNameMapper, IdentityMapper, ZssCertificates, ZssIdentities},
    passticket::UserId,
    remote::{Client, ClientLimits, NoToken, TokenSource, UserToken},
    saf::{EndpointSaf, SafProvider},
    tls::Connector,
    token::TokenIssuer,
};

/// A token for a request to a provider is used at once.
const TOKEN_LIFETIME: Duration = Duration::from_secs(60);

/// The `dom` claim of tokens, as the auth API writes it.
const DOMAIN: &str = "security-domain";

/// What the providers over HTTP share.
pub(crate) struct Remote {
    connector: Connector,
    limits: ClientLimits,
    tokens: Tokens,
}

impl Remote {
    pub(crate) fn new(connector: Connector, config: &Config) -> Self {
        let issuer = TokenIssuer::new(config.signing_key.clone()).with_lifetime(TOKEN_LIFETIME);
        let limits = ClientLimits::default().with_deadline(config.timeouts.provider);
        Self { connector, limits, tokens: Tokens(Arc::new(issuer)) }
    }

    /// A client for one provider, so that a slow provider does not use up the limit of another.
    fn client(&self) -> Client<Connector> {
        Client::new(self.connector.clone(), self.limits)
    }
}

/// Makes the tokens with which the gateway asks a provider on behalf of a user.
#[derive(Clone)]
pub(crate) struct Tokens(Arc<TokenIssuer>);

impl TokenSource for Tokens {
    fn token(&self, user: &UserId) -> Result<UserToken, NoToken> {
        let token = self.0.login_token(user, DOMAIN);
        UserToken::new(token.map_err(|error| NoToken::new(error.to_string()))?.expose())
    }
}

/// The provider of permissions for the auth API. Permissions for PassTickets always come from the
/// file: the endpoint knows no other class than `ZOWE`, and every request would wait for it.
pub(crate) fn saf(config: &Config, remote: &Remote) -> Arc<dyn SafProvider> {
    match &config.saf_endpoint {
        None => Arc::new(config.saf.clone()),
        Some(address) => {
            let tokens = remote.tokens.clone();
            // The class of the guarding resources is ZOWE, like that of the endpoint.
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

/// The settings of delegated PassTickets.
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
