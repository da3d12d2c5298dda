//! The tokens of the site: those of a running Zowe API ML and of z/OSMF, which the gateway accepts beside its own.

use passticket_proxy::config::{CheckLogout, Config, Logins};
use tower_passticket::{
    api::AuthApi,
    apiml::Apiml,
    remote::{Client, ClientLimits},
    tls::{Connector, TlsError, Verification},
    token::{IssuerCheck, IssuerKeys, OidcIssuer, Rs256Verifier, TokenOrigin, TrustedIssuers},
    zosmf::Zosmf,
};

/// The issuers of the site, with the clients that ask them. Nothing is fetched yet.
pub(crate) struct SiteTokens {
    apiml: Option<ApimlTokens>,
    zosmf: Option<ZosmfTokens>,
}

struct ApimlTokens {
    apiml: Apiml<Connector>,
    keys: IssuerKeys,
    /// `None` if API ML is not asked whether a token is still valid.
    check: Option<IssuerCheck>,
}

struct ZosmfTokens {
    zosmf: Zosmf<Connector>,
    keys: IssuerKeys,
    check: IssuerCheck,
}

/// The connector to a running Zowe API ML.
pub(crate) fn apiml_connector(config: &Config) -> Result<Connector, TlsError> {
    Connector::builder()
        // A server that can answer in place of API ML can sign tokens of any user. So `verifyCertificates` has no effect
        // here.
        .with_verification(Verification::Strict)
        .with_authorities(&config.tls.service_authorities)
        .with_connect_timeout(config.timeouts.provider)
        .with_policy(config.client_tls.clone())
        .build()
}

impl SiteTokens {
    /// Makes the issuers of the configuration. `to_zosmf` connects to z/OSMF as for logins: a server that can answer in
    /// place of z/OSMF can log in any user anyway.
    pub(crate) fn new(config: &Config, to_zosmf: &Connector) -> Result<Self, TlsError> {
        let limits = ClientLimits::default().with_deadline(config.timeouts.provider);
        let apiml = match &config.zowe {
            None => None,
            Some(peer) => {
                let connector = apiml_connector(config)?;
                // Questions about tokens of many users must not delay keys and logouts, so each has its own client.
                let apiml = || Apiml::new(Client::new(connector.clone(), limits), peer.url.clone());
                let check = match peer.check_logout {
                    CheckLogout::Query { memory } => {
                        Some(IssuerCheck::new("API ML", apiml()).with_memory(memory))
                    }
                    _ => None,
                };
                let keys = IssuerKeys::fetched("API ML", apiml());
                Some(ApimlTokens { apiml: apiml(), keys, check })
            }
        };
        let zosmf = match &config.logins {
            Logins::Zosmf(settings) => {
                let zosmf = || {
                    let client = Client::new(to_zosmf.clone(), limits);
                    Zosmf::new(client, settings.address.clone())
                };
                let keys = IssuerKeys::fetched("z/OSMF", zosmf());
                let check = IssuerCheck::new("z/OSMF", zosmf());
                Some(ZosmfTokens { zosmf: zosmf(), keys, check })
            }
            _ => None,
        };
        Ok(Self { apiml, zosmf })
    }

    /// The keys, which are fetched.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &IssuerKeys> {
        let apiml = self.apiml.iter().map(|apiml| &apiml.keys);
        apiml.chain(self.zosmf.iter().map(|zosmf| &zosmf.keys))
    }

    /// The verifier of all tokens. `None` if only the gateway's own tokens are accepted; the verifier then needs not
    /// read the issuer of a token.
    pub(crate) fn verifier(
        &self,
        own: &Rs256Verifier,
        providers: Vec<OidcIssuer>,
    ) -> Option<TrustedIssuers> {
        if self.apiml.is_none() && self.zosmf.is_none() && providers.is_empty() {
            return None;
        }
        let own = match &self.apiml {
            None => own.clone(),
            Some(apiml) => own.clone().with_apiml_keys(apiml.keys.clone()),
        };
        let mut issuers = TrustedIssuers::new(own);
        if let Some(check) = self.apiml.as_ref().and_then(|apiml| apiml.check.clone()) {
            issuers = issuers.with_apiml_check(check);
        }
        if let Some(zosmf) = &self.zosmf {
            issuers = issuers.with_zosmf(zosmf.keys.clone(), zosmf.check.clone());
        }
        Some(providers.into_iter().fold(issuers, |issuers, provider| {
            issuers.with_oidc(provider).expect("the configuration contains each issuer only once")
        }))
    }

    /// Relays logouts to the issuers.
    pub(crate) fn relay_logouts(&self, mut api: AuthApi) -> AuthApi {
        if let Some(apiml) = &self.apiml {
            api = api.with_issuer_logout(TokenOrigin::Apiml, apiml.apiml.clone());
        }
        if let Some(zosmf) = &self.zosmf {
            api = api.with_issuer_logout(TokenOrigin::Zosmf, zosmf.zosmf.clone());
        }
        api
    }
}
