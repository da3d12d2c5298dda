//! Whom the gateway asks: the providers that a configuration chooses between.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use passticket_proxy::config::{
    CertificateMapping, Config, DelegationSettings, IdentityMapping, Zss,
};
use tower_passticket::{
    api::Delegation,
    identity::{
        CertificateMap, CommonNameMapper, IdentityMapper, MapError, PeerCertificate,
        ZssCertificates, ZssIdentities,
    },
    passticket::UserId,
    remote::{Client, ClientLimits, NoToken, TokenSource, UserToken},
    saf::{Access, AccessLevel, EndpointSaf, FileSaf, SafError, SafProvider},
    tls::Connector,
    token::TokenIssuer,
};

/// A token to ask with is used at once.
const TOKEN_LIFETIME: Duration = Duration::from_secs(60);

/// The `dom` claim of tokens, as the auth API writes it.
const DOMAIN: &str = "security-domain";

/// What providers over HTTP have in common.
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

/// Who may do what of the auth API. Tickets are always looked up in the file: the endpoint knows
/// no other class, and every request would wait for it.
#[derive(Clone)]
pub(crate) enum Saf {
    File(FileSaf),
    Endpoint(EndpointSaf<Connector, Tokens>),
}

impl Saf {
    pub(crate) fn new(config: &Config, remote: &Remote) -> Self {
        match &config.saf_endpoint {
            None => Self::File(config.saf.clone()),
            Some(address) => {
                let tokens = remote.tokens.clone();
                // Its one class is ZOWE, as that of the guarding resources is then.
                Self::Endpoint(EndpointSaf::new(remote.client(), address.clone(), tokens))
            }
        }
    }
}

impl SafProvider for Saf {
    type Future = Answer<Access, SafError>;

    fn check(
        &self,
        user: &UserId,
        class: &str,
        resource: &str,
        level: AccessLevel,
    ) -> Self::Future {
        match self {
            Self::File(file) => Answer::now(file.check(user, class, resource, level).into_inner()),
            Self::Endpoint(endpoint) => Answer::Later(endpoint.check(user, class, resource, level)),
        }
    }
}

/// Whose a client certificate is.
#[derive(Clone)]
pub(crate) enum Mapper {
    CommonName(CommonNameMapper),
    File(CertificateMap),
    Zss(ZssCertificates<Connector, Tokens>),
}

impl Mapper {
    pub(crate) fn new(config: &Config, remote: &Remote) -> Self {
        match &config.certificate_mapping {
            CertificateMapping::File(map) => Self::File(map.clone()),
            CertificateMapping::Zss(Zss { address, user, .. }) => {
                let (client, tokens) = (remote.client(), remote.tokens.clone());
                Self::Zss(ZssCertificates::new(client, address.clone(), *user, tokens))
            }
            CertificateMapping::CommonName => Self::CommonName(CommonNameMapper),
        }
    }
}

impl IdentityMapper for Mapper {
    type Future = Answer<UserId, MapError>;

    fn map_certificate(&self, certificate: &PeerCertificate) -> Self::Future {
        match self {
            Self::CommonName(name) => Answer::now(name.map_certificate(certificate).into_inner()),
            Self::File(map) => Answer::now(map.map_certificate(certificate).into_inner()),
            Self::Zss(zss) => Answer::Later(zss.map_certificate(certificate)),
        }
    }

    fn try_map_now(&self, certificate: &PeerCertificate) -> Option<Result<UserId, MapError>> {
        match self {
            Self::CommonName(name) => name.try_map_now(certificate),
            Self::File(map) => map.try_map_now(certificate),
            Self::Zss(_) => None,
        }
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
        delegation = delegation.allow_only(grants.iter().cloned());
    }
    for user in &settings.protected {
        delegation = delegation.protect(*user);
    }
    match settings.calls_per_minute {
        Some(calls) => delegation.calls_per_minute(calls),
        None => delegation,
    }
}

/// The answer of a provider that knows it, or has to ask.
pub(crate) enum Answer<T, E> {
    /// Taken out when it is given.
    Now(Option<Result<T, E>>),
    Later(Pin<Box<dyn Future<Output = Result<T, E>> + Send>>),
}

impl<T, E> Answer<T, E> {
    fn now(answer: Result<T, E>) -> Self {
        Self::Now(Some(answer))
    }
}

impl<T: Unpin, E: Unpin> Future for Answer<T, E> {
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Now(answer) => Poll::Ready(answer.take().expect("polled once to the end")),
            Self::Later(answer) => answer.as_mut().poll(cx),
        }
    }
}
