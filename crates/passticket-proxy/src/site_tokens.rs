//! Makes the gateway also accept the tokens of the site. These are the tokens of a running API ML (Zowe's API Mediation
//! Layer) and of z/OSMF (IBM's management server on z/OS).

use std::{
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use passticket_proxy::config::{CheckLogout, Config, Logins};
use serde_json::Value;
use tower_passticket::{
    api::AuthApi,
    apiml::Apiml,
    remote::{Client, ClientLimits},
    tls::{Connector, TlsError},
    token::{
        AskFuture, AskIssuer, FetchFuture, IssuerCheck, IssuerKeys, JwkSetSource, OidcIssuer,
        Rs256Verifier, TokenOrigin, TokenStatus, TrustedIssuers, VerifiedToken, VerifyingKey,
    },
    zosmf::{Zosmf, ZosmfSessions},
};

use crate::{connectors::to_authority, part::Task};

/// The issuers of the site, with the clients that ask them.
pub(crate) struct SiteTokens {
    apiml: Option<ApimlTokens>,
    zosmf: Option<ZosmfTokens>,
}

struct ApimlTokens {
    apiml: Apiml<Connector>,
    keys: IssuerKeys,
    task: Task,
    /// Asks API ML whether a token is still valid. `None` if the gateway does not ask.
    check: Option<IssuerCheck>,
}

struct ZosmfTokens {
    zosmf: Zosmf<Connector>,
    keys: IssuerKeys,
    task: Task,
    check: IssuerCheck,
}

/// Asks z/OSMF about its tokens. Refuses the tokens of sessions that the gateway itself has opened. A service with the
/// scheme `zosmf` receives such a token, even if the client sent a Personal Access Token that is limited to the
/// service. If the gateway accepted the z/OSMF token, the service could act as the user at all other services
/// (docs/decisions.md#d23).
struct AskZosmf {
    zosmf: Zosmf<Connector>,
    sessions: ZosmfSessions,
}

impl AskIssuer for AskZosmf {
    fn ask(&self, token: &str, verified: &VerifiedToken) -> AskFuture {
        if self.sessions.has_opened(token) {
            return Box::pin(ready(Ok(TokenStatus::Ended)));
        }
        self.zosmf.ask(token, verified)
    }
}

impl SiteTokens {
    /// Makes the issuers of the configuration. `to_zosmf` is the connector for logins at z/OSMF. It also connects to
    /// z/OSMF for the keys, and for questions about tokens. Its check of the certificate of z/OSMF is strict enough for
    /// these purposes, because a server that passes this check can already confirm a login of any user. `sessions`
    /// contains the sessions that the gateway opens at z/OSMF.
    pub(crate) fn new(
        config: &Config,
        to_zosmf: &Connector,
        sessions: &ZosmfSessions,
    ) -> Result<Self, TlsError> {
        let limits = ClientLimits::default().with_deadline(config.timeouts.provider);
        let apiml = match &config.zowe {
            None => None,
            Some(peer) => {
                let connector = to_authority(config, &config.tls.service_authorities)?;
                // Each client has its own limit of concurrent requests. Questions about tokens of many users must not
                // delay keys and logouts, so each of these purposes has its own client.
                let apiml = || Apiml::new(Client::new(connector.clone(), limits), peer.url.clone());
                let check = match peer.check_logout {
                    CheckLogout::Query { memory } => {
                        Some(IssuerCheck::new("API ML", apiml()).with_memory(memory))
                    }
                    _ => None,
                };
                let keys = IssuerKeys::fetched("API ML", WarnsOfOwnKeys::new(apiml(), config));
                Some(ApimlTokens { apiml: apiml(), keys, task: Task::default(), check })
            }
        };
        let zosmf = match &config.logins {
            Logins::Zosmf(settings) => {
                let zosmf = || {
                    let client = Client::new(to_zosmf.clone(), limits);
                    Zosmf::new(client, settings.address.clone())
                };
                let keys = IssuerKeys::fetched("z/OSMF", zosmf());
                let asked = AskZosmf { zosmf: zosmf(), sessions: sessions.clone() };
                let check = IssuerCheck::new("z/OSMF", asked);
                Some(ZosmfTokens { zosmf: zosmf(), keys, task: Task::default(), check })
            }
            _ => None,
        };
        Ok(Self { apiml, zosmf })
    }

    pub(crate) fn start_tasks(&self) {
        let apiml = self.apiml.iter().map(|apiml| (&apiml.keys, &apiml.task));
        let zosmf = self.zosmf.iter().map(|zosmf| (&zosmf.keys, &zosmf.task));
        for (keys, task) in apiml.chain(zosmf) {
            task.start(|| keys.clone().keep_fresh());
        }
    }

    /// Returns the verifier of all tokens. Returns `None` if the gateway accepts only its own tokens, because it then
    /// need not read the issuer of a token.
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

    /// Makes `api` relay logouts to the issuers of the site, too.
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

/// Fetches the keys of API ML, and warns once if one of them is a key of the gateway. The gateway treats tokens of such
/// a key as its own (docs/decisions.md#d48), so it never asks API ML about such a token.
struct WarnsOfOwnKeys {
    apiml: Apiml<Connector>,
    own: Arc<[VerifyingKey]>,
    warned: Arc<AtomicBool>,
}

impl WarnsOfOwnKeys {
    fn new(apiml: Apiml<Connector>, config: &Config) -> Self {
        let retained = config.retained_keys.iter().cloned();
        let own = [config.signing_key.verifying_key()].into_iter().chain(retained).collect();
        Self { apiml, own, warned: Arc::default() }
    }
}

impl JwkSetSource for WarnsOfOwnKeys {
    fn fetch(&self) -> FetchFuture {
        let (fetching, own, warned) = (self.apiml.fetch(), self.own.clone(), self.warned.clone());
        Box::pin(async move {
            let keys = fetching.await?;
            if has_one_of(&keys, &own) && !warned.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    "the key of API ML is a signing key of this gateway, so all tokens of API ML count as tokens of the \
                     gateway: components.passticket-proxy.zowe.checkLogout has no effect, and logouts are not relayed; \
                     use another key in components.passticket-proxy.signingKeys, unless the shared key is needed"
                );
            }
            Ok(keys)
        })
    }
}

/// Returns whether a JWK set has one of these keys.
fn has_one_of(jwk_set: &[u8], own: &[VerifyingKey]) -> bool {
    let set: Value = serde_json::from_slice(jwk_set).unwrap_or_default();
    let listed = set["keys"].as_array().into_iter().flatten();
    let mut listed = listed.filter_map(|jwk| VerifyingKey::from_jwk(jwk).ok());
    listed.any(|listed| own.iter().any(|own| own.is_same_key(&listed)))
}
