//! Creates the providers that the configuration selects. Some providers check passwords or permissions. Other providers
//! find the user id that belongs to a certificate or an e-mail address.
//!
//! A provider reads its answers from a file, or asks a server over HTTP. One such server is ZSS, the Zowe
//! server on z/OS. ZSS asks the security product through SAF, the security interface of z/OS. A
//! certificate can also be mapped by its common name, without a file or a server.
//!
//! A PassTicket is a short-lived password of z/OS.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use passticket_proxy::config::{
    CertificateMapping, Config, DelegationSettings, ExchangeSettings, IdentityMapping, Logins, Zss,
};
use tower_passticket::{
    api::{
        Delegation, FileLogin, FileLoginError, LoginProvider, TokenExchange, ZosmfLogin, ZssLogin,
    },
    identity::{
        CommonNameMapper, DistributedMapper, IdentityMapper, ProtectedUsers, ZssCertificates,
        ZssIdentities,
    },
    passticket::UserId,
    remote::{Client, ClientLimits, NoToken, TokenSource, UserToken},
    saf::{EndpointSaf, SafProvider},
    tls::Connector,
    token::TokenIssuer,
    zosmf::{Zosmf, ZosmfSessions},
};

/// Lifetime of the tokens that the gateway sends to providers. It can be short, because each request has a new token.
const TOKEN_LIFETIME: Duration = Duration::from_secs(60);

/// The minimum deadline of a call to a server that checks a password, see [`Remote::login_client`].
const LONGEST_LOGIN: Duration = Duration::from_secs(15);

/// The value of the `dom` claim (security domain) in the tokens that the gateway sends to providers. The login tokens
/// of the auth API have the same value in this claim.
pub(crate) const DOMAIN: &str = "security-domain";

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

    /// Creates an HTTP client for a provider that checks passwords. If the provider is slow, the gateway first answers
    /// the login with an error. The HTTP client continues to wait, so that a late refusal still counts as a wrong
    /// password.
    fn login_client(&self) -> Client<Connector> {
        let deadline = self.limits.deadline().max(LONGEST_LOGIN);
        Client::new(self.connector.clone(), self.limits.with_deadline(deadline))
    }

    /// Creates an HTTP client for a running Zowe that makes PassTickets. Zowe makes one PassTicket at a time, so many
    /// calls may wait. For this reason, this client permits more concurrent calls than the clients for other servers.
    pub(crate) fn ticket_client(&self) -> Client<Connector> {
        let max_concurrent = NonZeroUsize::new(32).unwrap_or(NonZeroUsize::MIN);
        Client::new(self.connector.clone(), self.limits.with_max_concurrent(max_concurrent))
    }

    pub(crate) fn tokens(&self) -> Tokens {
        self.tokens.clone()
    }

    /// Creates a client for one provider. Each client has its own limit of concurrent requests, so a
    /// slow provider cannot use up the limit of another provider.
    pub(crate) fn client(&self) -> Client<Connector> {
        Client::new(self.connector.clone(), self.limits)
    }
}

/// Issues the login tokens with which the gateway authenticates to providers. The caller of `token` names the user of
/// the token.
#[derive(Clone)]
pub(crate) struct Tokens(Arc<TokenIssuer>);

impl TokenSource for Tokens {
    fn token(&self, user: &UserId) -> Result<UserToken, NoToken> {
        let token = self.0.login_token(user, DOMAIN);
        UserToken::new(token.map_err(|error| NoToken::new(error.to_string()))?.expose())
    }
}

/// Returns the provider that checks passwords. If this is z/OSMF (IBM's management server on z/OS), the provider stores
/// the sessions of users at z/OSMF in `zosmf_sessions`.
pub(crate) fn login(
    config: &Config,
    remote: &Remote,
    zosmf_sessions: &ZosmfSessions,
) -> Result<Arc<dyn LoginProvider>, FileLoginError> {
    Ok(match &config.logins {
        Logins::Zosmf(settings) => {
            let zosmf = Zosmf::new(remote.login_client(), settings.address.clone());
            Arc::new(ZosmfLogin::new(zosmf, zosmf_sessions.clone()))
        }
        Logins::Zss(address) => Arc::new(ZssLogin::new(remote.login_client(), address.clone())),
        other => Arc::new(FileLogin::new(other.users().iter().cloned())?),
    })
}

/// Returns the provider of permissions for the auth API: Zowe's SAF endpoint if it is configured, otherwise the
/// permissions file.
///
/// Permissions to make PassTickets always come from the file, for two reasons. First, they are in the SAF class
/// `PTKTDATA`, but the endpoint checks only the class `ZOWE`. Second, each request that needs a PassTicket would have
/// to wait for the endpoint.
pub(crate) fn saf(config: &Config, remote: &Remote) -> Arc<dyn SafProvider> {
    match &config.saf_endpoint {
        None => Arc::new(config.saf.clone()),
        Some(address) => {
            let tokens = remote.tokens.clone();
            // `EndpointSaf` checks only the class `ZOWE`. With an endpoint, the configuration accepts no other class
            // for the auth API.
            Arc::new(EndpointSaf::new(remote.client(), address.clone(), tokens))
        }
    }
}

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

/// Returns the mapper for users of identity providers. The mapper never returns a user id in `protected`.
pub(crate) fn identity_mapper(
    mapping: &IdentityMapping,
    protected: &[UserId],
    remote: &Remote,
) -> Arc<dyn DistributedMapper> {
    let mapper: Arc<dyn DistributedMapper> = match mapping {
        IdentityMapping::File(map) => Arc::new(map.clone()),
        IdentityMapping::Zss(Zss { address, user, .. }) => {
            let (client, tokens) = (remote.client(), remote.tokens.clone());
            Arc::new(ZssIdentities::new(client, address.clone(), *user, tokens))
        }
    };
    Arc::new(ProtectedUsers::new(mapper, protected.iter().copied()))
}

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

/// Returns the settings of the token exchange. `identities` maps the users of identity providers.
pub(crate) fn token_exchange(
    settings: &ExchangeSettings,
    protected: &[UserId],
    identities: Option<Arc<dyn DistributedMapper>>,
) -> TokenExchange {
    let mut exchange = TokenExchange::new()
        .with_grants(settings.grants.iter().cloned())
        .with_bearer_applids(settings.bearer_applids.iter().copied());
    for user in protected {
        exchange = exchange.with_protected(*user);
    }
    for (applid, services) in &settings.services {
        exchange = exchange.with_services(*applid, services.iter().cloned());
    }
    if let Some(identities) = identities {
        exchange = exchange.with_distributed_identities(identities);
    }
    match settings.calls_per_minute {
        Some(calls) => exchange.with_calls_per_minute(calls),
        None => exchange,
    }
}
