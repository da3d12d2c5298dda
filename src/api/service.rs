//! [`AuthApi`], the Tower service that dispatches each request to its endpoint.

use std::{
    convert::Infallible,
    fmt,
    num::NonZeroU32,
    pin::{Pin, pin},
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, AUTHORIZATION, EXPECT},
    request::Parts,
};
use http_body::Body;
use http_body_util::Full;
use tower_service::Service;

use super::{
    access_token::NewTokens,
    access_tokens::AccessTokens,
    any_credential::AnyCredential,
    apiml_endpoints::{ApimlEndpoints, ApimlGateway},
    authenticate::{Callers, LONGEST_CHECK},
    authorize::Authorizer,
    basic_login::BasicLogin,
    body::{self, MeteredBody},
    certificates::ClientCertificates,
    compatibility::{Compatibility, allow},
    delegate::DelegatedTickets,
    delegation::Delegation,
    endpoint::{Endpoint, Switches},
    error::ApiError,
    exchange::TokenExchanges,
    exchange_policy::TokenExchange,
    keys::PublicKeys,
    login,
    login_memory::LoginMemory,
    login_throttle::{LoginFailures, LoginThrottle, LoginThrottleOptions},
    login_tokens::LoginTokens,
    logout,
    logout_listener::LogoutListener,
    oidc_token::OidcTokens,
    openapi::{self, Settings},
    password_memory::PasswordMemory,
    permission::GuardingResources,
    provider::LoginProvider,
    query,
    record::{self, RecordGuard},
    registry::Registry,
    response::{Answer, ResponseBody, empty, typed},
    revocation_rules::RevocationRules,
    revocations::Revocations,
    sessions::Sessions,
    ticket,
    token_bounds::TokenBounds,
    validate::HeldTokens,
};
#[cfg(feature = "remote")]
use super::{issuer_logout::IssuerLogout, sessions::Relay};
#[cfg(feature = "remote")]
use crate::token::TokenOrigin;
use crate::{
    apiml_path::{ApimlPath, ApimlServer},
    audit::{Audit, RequestId},
    auth_prefix::AuthPrefix,
    clock::{Clock, SystemClock},
    headers::without_body,
    identity::IdentityMapper,
    layer::{CookieNames, OriginPolicy},
    login_failures::SharedLoginFailures,
    messages,
    passticket::PassTicketGenerator,
    request_facts::RequestFacts,
    revocation::{AccessTokenStore, KnownNetworks, RevocationStore},
    saf::{FileSaf, SafProvider},
    token::{Rs256Verifier, Scopes, TokenIssuer, TokenVerifier, Validity},
};

/// The auth endpoints of a gateway, as one Tower service. See the [module](super).
///
/// [`new`](Self::new) turns on the endpoints for login tokens and public keys. Each function `with_…` turns on more
/// endpoints, or changes a setting. Clones share the login throttle.
///
/// Password checks need a Tokio runtime with timers (`enable_time`), because each check runs in a task with a deadline.
#[derive(Clone)]
pub struct AuthApi(Arc<State>);

#[derive(Clone)]
struct State {
    prefix: AuthPrefix,
    issuer: TokenIssuer,
    verifier: Rs256Verifier,
    /// Verifies login tokens of this gateway, and perhaps of other issuers.
    login_verifier: Arc<dyn TokenVerifier>,
    public_keys: PublicKeys,
    login: Arc<dyn LoginProvider>,
    login_wait: Duration,
    listeners: Vec<Arc<dyn LogoutListener>>,
    #[cfg(feature = "remote")]
    relays: Vec<Relay>,
    throttle: Arc<LoginThrottle>,
    memory: Arc<PasswordMemory>,
    revocations: Revocations,
    saf: Arc<dyn SafProvider>,
    guarding_resources: GuardingResources,
    /// Makes PassTickets (one-time passwords of z/OS). `None` if PassTickets are off.
    tickets: Option<Arc<dyn PassTicketGenerator>>,
    mapper: Option<Arc<dyn IdentityMapper>>,
    /// `None` if PassTickets for other users are off.
    delegation: Option<Arc<Delegation>>,
    /// `None` if the token exchange is off.
    exchange: Option<Arc<TokenExchange>>,
    token_refresh: bool,
    /// Verifies the tokens of identity providers. `None` if there is no identity provider.
    oidc: Option<Arc<dyn TokenVerifier>>,
    /// The endpoints of the gateway of API ML (Zowe's API Mediation Layer) outside of the prefix. `None` if they are
    /// off.
    apiml: Option<ApimlEndpoints>,
    /// The server of API ML (its gateway or ZAAS) that has the same paths as the endpoints in `apiml`.
    server: ApimlServer,
    /// The maximum validity of Personal Access Tokens. `None` if these tokens are off.
    max_validity: Option<Validity>,
    /// The scopes that new Personal Access Tokens may have. `None` allows all scopes.
    allowed_scopes: Option<Scopes>,
    /// The registry of issued Personal Access Tokens. `None` if there is none.
    registry: Option<Registry>,
    cookies: CookieNames,
    origins: OriginPolicy,
    compatibility: Compatibility,
    audit: Audit,
    clock: Arc<dyn Clock>,
    /// The OpenAPI document for the settings in the other fields. The first request for the document creates it.
    description: OnceLock<Bytes>,
}

impl AuthApi {
    /// Creates a service with the endpoints `login`, `logout`, `query`, `keys/public`, `keys/public/all`,
    /// `keys/public/current`, `openapi.json` and `oidc-token/validate`. All other endpoints are off. Before
    /// [`with_oidc_tokens`](Self::with_oidc_tokens), `oidc-token/validate` refuses all tokens.
    ///
    /// `verifier` verifies the tokens that `issuer` signs. `login` checks passwords. `revocations` must be the store
    /// that the [`Authenticator`](crate::layer::Authenticator) of the proxy checks. Otherwise the proxy would accept
    /// tokens that were revoked here.
    ///
    /// `Arc<dyn LoginProvider>` and `Arc<dyn RevocationStore>` are also accepted, so a program can choose an
    /// implementation at run time.
    pub fn new(
        issuer: TokenIssuer,
        verifier: Rs256Verifier,
        login: impl LoginProvider,
        revocations: impl RevocationStore,
    ) -> Self {
        let public_keys = PublicKeys::new(&issuer.verifying_key(), verifier.keys());
        Self(Arc::new(State {
            prefix: AuthPrefix::default(),
            issuer,
            login_verifier: Arc::new(verifier.clone()),
            verifier,
            public_keys,
            login: Arc::new(login),
            login_wait: LONGEST_CHECK,
            listeners: Vec::new(),
            #[cfg(feature = "remote")]
            relays: Vec::new(),
            throttle: Arc::default(),
            memory: Arc::new(PasswordMemory::new()),
            revocations: Revocations::new(revocations),
            saf: Arc::new(FileSaf::default()),
            guarding_resources: GuardingResources::default(),
            tickets: None,
            mapper: None,
            delegation: None,
            exchange: None,
            token_refresh: false,
            oidc: None,
            apiml: None,
            server: ApimlServer::default(),
            max_validity: None,
            allowed_scopes: None,
            registry: None,
            cookies: CookieNames::default(),
            origins: OriginPolicy::default(),
            compatibility: Compatibility::default(),
            audit: Audit::none(),
            clock: Arc::new(SystemClock),
            description: OnceLock::new(),
        }))
    }

    /// Serves the endpoints below `prefix` instead of `/gateway/api/v1/auth`. A
    #[cfg_attr(feature = "proxy", doc = "[`Gateway`](crate::gateway::Gateway::with_auth_prefix)")]
    #[cfg_attr(not(feature = "proxy"), doc = "`Gateway`")]
    /// in front of this service needs the same prefix.
    #[must_use]
    pub fn with_prefix(self, prefix: AuthPrefix) -> Self {
        self.with(|state| state.prefix = prefix)
    }

    /// Accepts all login tokens that `verifier` accepts, and not only the tokens of this gateway. This setting applies
    /// to all endpoints that accept a login token, such as `query`, `ticket` and `logout`. They also accept login
    /// tokens of Zowe API ML and of z/OSMF (IBM's management server on z/OS), if `verifier` is a
    #[cfg_attr(feature = "remote", doc = "[`TrustedIssuers`](crate::token::TrustedIssuers)")]
    #[cfg_attr(not(feature = "remote"), doc = "`TrustedIssuers`")]
    /// that trusts these issuers. `refresh` accepts only tokens of this gateway. Of the endpoints that use `verifier`,
    /// only `token` accepts tokens of identity providers.
    ///
    /// Use the same verifier as in the [`Authenticator`](crate::layer::Authenticator) of the proxy.
    #[must_use]
    pub fn with_login_token_verifier(self, verifier: impl TokenVerifier) -> Self {
        self.with(|state| state.login_verifier = Arc::new(verifier))
    }

    /// Calls `listener` at each logout, in addition to the login provider and to earlier listeners. If the token is
    /// already revoked, there is no call.
    #[must_use]
    pub fn with_logout_listener(self, listener: impl LogoutListener) -> Self {
        self.with(|state| state.listeners.push(Arc::new(listener)))
    }

    /// At a logout, also logs the user out at `issuer`, if a key of `origin` has verified the login token. If the
    /// issuer does not confirm the logout, the token is revoked only here, and the answer is 503. Each origin has at
    /// most one issuer: a later call for the same `origin` replaces the issuer of the earlier call. If an origin has no
    /// issuer, a logout revokes its tokens only here.
    #[cfg(feature = "remote")]
    #[must_use]
    pub fn with_issuer_logout(self, origin: TokenOrigin, issuer: impl IssuerLogout) -> Self {
        let relay = Relay { origin, issuer: Arc::new(issuer) };
        self.with(|state| {
            state.relays.retain(|other| other.origin != origin);
            state.relays.push(relay);
        })
    }

    /// Turns `ticket` on, with PassTickets from `generator`.
    ///
    /// The endpoint also needs
    /// [`with_client_certificates`](Self::with_client_certificates).
    #[must_use]
    pub fn with_passtickets(self, generator: impl PassTicketGenerator) -> Self {
        self.with(|state| state.tickets = Some(Arc::new(generator)))
    }

    /// Turns `delegate/passticket` on. This endpoint issues PassTickets for other users.
    ///
    /// The endpoint also needs [`with_passtickets`](Self::with_passtickets),
    /// [`with_saf`](Self::with_saf) and
    /// [`with_client_certificates`](Self::with_client_certificates).
    #[must_use]
    pub fn with_delegation(self, delegation: Delegation) -> Self {
        self.with(|state| state.delegation = Some(Arc::new(delegation)))
    }

    /// Turns `token` on: the exchange of a token for a PassTicket (RFC 8693). The endpoint accepts the tokens that the
    /// verifier of [`with_login_token_verifier`](Self::with_login_token_verifier) accepts. If the proxy has the same
    /// verifier, these are the tokens that clients also use on routes.
    ///
    /// The endpoint also needs [`with_passtickets`](Self::with_passtickets). If clients act for users, it also needs
    /// [`with_saf`](Self::with_saf). If certificates authenticate these clients, it also needs
    /// [`with_client_certificates`](Self::with_client_certificates).
    #[must_use]
    pub fn with_token_exchange(self, exchange: TokenExchange) -> Self {
        self.with(|state| state.exchange = Some(Arc::new(exchange)))
    }

    /// Turns on the endpoints whose paths begin with `access-token/`. No new Personal Access Token is valid for longer
    /// than `max`. The endpoints for administrators need [`with_saf`](Self::with_saf).
    #[must_use]
    pub fn with_personal_access_tokens(self, max: Validity) -> Self {
        self.with(|state| state.max_validity = Some(max))
    }

    /// Limits the scopes of new Personal Access Tokens to those that a scope in `allowed`
    /// [covers](crate::token::Scope::covers). For example, `files` also allows `files:read` and `files:/a`. By default,
    /// all scopes are allowed. A token that already exists keeps its scopes. If one of its scopes is not allowed any
    /// more, the token cannot be rotated.
    #[must_use]
    pub fn with_allowed_scopes(self, allowed: Scopes) -> Self {
        self.with(|state| state.allowed_scopes = Some(allowed))
    }

    /// Registers new Personal Access Tokens in `registry`, and turns on the endpoints whose paths begin with
    /// `access-tokens`. A user can have at most `limit` active tokens. Also call
    /// [`with_personal_access_tokens`](Self::with_personal_access_tokens).
    ///
    /// `registry` must be based on the revocation store of this service. For example, a
    #[cfg_attr(feature = "store", doc = "[`DurableStore`](crate::revocation::DurableStore)")]
    #[cfg_attr(not(feature = "store"), doc = "`DurableStore`")]
    /// is a registry and a revocation store. If the two were independent, the registry would show revoked tokens as
    /// active.
    #[must_use]
    pub fn with_access_token_registry(
        self,
        registry: impl AccessTokenStore,
        limit: NonZeroU32,
    ) -> Self {
        let registry = Registry::new(registry, limit);
        self.with(|state| state.registry = Some(registry))
    }

    /// Turns `refresh` on. The endpoint also needs
    /// [`with_client_certificates`](Self::with_client_certificates).
    #[must_use]
    pub fn with_token_refresh(self) -> Self {
        self.with(|state| state.token_refresh = true)
    }

    /// Sets the verifier for the endpoint `oidc-token/validate`, which checks tokens of identity providers. `verifier`
    /// is usually the [`TrustedIssuers`](crate::token::TrustedIssuers) of the proxy. By default, the endpoint refuses
    /// all tokens.
    #[must_use]
    pub fn with_oidc_tokens(self, verifier: impl TokenVerifier) -> Self {
        self.with(|state| state.oidc = Some(Arc::new(verifier)))
    }

    /// Turns on the endpoints of API ML's gateway that are outside of the prefix. One of them lists the services. Call
    /// [`with_saf`](Self::with_saf) to let users read this list, and
    /// [`with_client_certificates`](Self::with_client_certificates) to let programs read it. A
    #[cfg_attr(
        feature = "proxy",
        doc = "[`Gateway`](crate::gateway::Gateway::with_apiml_endpoints)"
    )]
    #[cfg_attr(not(feature = "proxy"), doc = "`Gateway`")]
    /// in front of this service must send requests with these paths to it.
    #[must_use]
    pub fn with_apiml_endpoints(self, endpoints: ApimlEndpoints) -> Self {
        self.with(|state| state.apiml = Some(endpoints))
    }

    /// Accepts client certificates as credentials, and maps them to users with `mapper`. The certificate is the
    /// [`PeerCertificate`](crate::identity::PeerCertificate) in the extensions of a request.
    #[must_use]
    pub fn with_client_certificates(self, mapper: impl IdentityMapper) -> Self {
        self.with(|state| state.mapper = Some(Arc::new(mapper)))
    }

    /// Uses `saf` to check the permissions that some endpoints need. By default, no caller has any of these
    /// permissions.
    #[must_use]
    pub fn with_saf(self, saf: impl SafProvider) -> Self {
        self.with(|state| state.saf = Arc::new(saf))
    }

    /// Sets the class and the names of the resources that guard some endpoints. [`with_saf`](Self::with_saf) sets the
    /// provider that checks the permissions.
    #[must_use]
    pub fn with_guarding_resources(self, resources: GuardingResources) -> Self {
        self.with(|state| state.guarding_resources = resources)
    }

    /// Sets the names of the cookies in which clients send tokens.
    #[must_use]
    pub fn with_cookie_names(self, cookies: CookieNames) -> Self {
        self.with(|state| state.cookies = cookies)
    }

    /// Sets the policy that decides which requests from web pages of other origins are refused. The default is
    /// `OriginPolicy::default()`.
    #[must_use]
    pub fn with_origin_policy(self, policy: OriginPolicy) -> Self {
        self.with(|state| state.origins = policy)
    }

    /// Changes the limits of the login throttle, and removes all earlier failures.
    #[must_use]
    pub fn with_login_throttle(self, options: LoginThrottleOptions) -> Self {
        self.with(|state| state.throttle = Arc::new(state.throttle.with_options(options)))
    }

    /// Returns the failed logins, so that this process can hand them over to a process that continues its work.
    pub fn login_failures(&self) -> LoginFailures {
        LoginFailures::new(&self.0.throttle, self.0.clock.clone())
    }

    /// Sets how long a client waits for a password check. After this time, the client gets a 503. The check continues,
    /// but at most for one minute after its start. If the password turns out to be wrong within this minute, the login
    /// throttle counts the failure. The default for `wait` is a minute, which is also the maximum.
    ///
    /// A login provider that asks a server should wait for the server longer than `wait`. If the provider gives up
    /// before a slow server answers, only the server counts a wrong password, and the login throttle does not.
    #[must_use]
    pub fn with_login_wait(self, wait: Duration) -> Self {
        self.with(|state| state.login_wait = wait.min(LONGEST_CHECK))
    }

    /// Counts failed logins in `shared`, in which other nodes also count. This service continues to count its own
    /// failed logins too. Removes all earlier failures of this service, so call this function before
    /// [`with_login_memory`](Self::with_login_memory).
    #[must_use]
    pub fn with_shared_login_failures(self, shared: impl SharedLoginFailures) -> Self {
        let shared = Arc::new(shared);
        self.with(|state| state.throttle = Arc::new(state.throttle.with_shared_failures(shared)))
    }

    /// Sets the store for the networks from which users have logged in, and removes all earlier failures. If a user
    /// logs in from a network from which the same user has logged in before, failed logins from other networks do not
    /// make the user wait. By default, the networks are kept in memory, and are lost when the program ends.
    #[must_use]
    pub fn with_known_networks(self, networks: impl KnownNetworks) -> Self {
        let networks = Arc::new(networks);
        self.with(|state| state.throttle = Arc::new(state.throttle.with_known_networks(networks)))
    }

    /// Continues with the failed logins and the verified passwords in `memory`. Call this function after
    /// [`with_login_throttle`](Self::with_login_throttle) and [`with_known_networks`](Self::with_known_networks), which
    /// create a throttle without failures. From now on, the limits of this service also apply to the failures in
    /// `memory`.
    #[must_use]
    pub fn with_login_memory(self, memory: &LoginMemory) -> Self {
        let LoginMemory { failures, passwords } = memory.clone();
        self.with(|state| {
            state.throttle = Arc::new(state.throttle.with_failures(failures));
            state.memory = passwords;
        })
    }

    /// Sets the compatibility profile. The default is [`Compatibility::Documented`].
    #[must_use]
    pub fn with_compatibility(self, compatibility: Compatibility) -> Self {
        self.with(|state| state.compatibility = compatibility)
    }

    /// Writes audit records to `audit`, see the [module](super#audit-records).
    #[must_use]
    pub fn with_audit(self, audit: Audit) -> Self {
        self.with(|state| state.audit = audit)
    }

    /// Uses `clock` instead of the system clock for throttles, revocations, the registry of tokens, audit records, and
    /// the expiry of certificates. The issuer, the verifier and the PassTicket generator have their own clocks.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        self.with(|state| state.clock = clock)
    }

    /// Returns a verifier of passwords for
    /// [`Authenticator::with_passwords`](crate::layer::Authenticator::with_passwords). The verifier shares the login
    /// provider, the counts of failed logins and the cache of verified passwords with this service. Call this function
    /// after the functions `with_…`, because some of them create new counts.
    pub fn basic_login(&self) -> BasicLogin {
        BasicLogin {
            login: self.0.login.clone(),
            throttle: self.0.throttle.clone(),
            memory: self.0.memory.clone(),
            clock: self.0.clock.clone(),
            wait: self.0.login_wait,
        }
    }

    /// Returns the auth API as ZAAS, the authentication service of API ML, serves it. API ML's gateway relays the
    /// requests of its clients to ZAAS. The returned service and this service share the counts of failed logins, the
    /// revocations, the registry of tokens and the logout listeners. Call this function after the functions `with_…`.
    /// The returned service differs in these points:
    ///
    /// - The endpoints are below `/zaas/api/v1/auth`.
    /// - The profile is [`Compatibility::ZoweV3`].
    /// - With [`with_apiml_endpoints`](Self::with_apiml_endpoints), the paths outside of the prefix are
    ///   `/zaas/auth/check`, `/application/health`, `/application/info` and `/application/version`.
    /// - The check of the origin accepts a request from a web page of API ML's gateway. A page belongs to API ML's
    ///   gateway if `Sec-Fetch-Site` is `same-origin`, or if `Origin` and `Host` contain the same address. For other
    ///   pages, the [policy](Self::with_origin_policy) decides, as on the gateway.
    #[cfg(feature = "proxy")]
    #[must_use]
    pub fn for_zaas(&self) -> Self {
        self.clone().with(|state| {
            state.prefix = AuthPrefix::of_zaas();
            state.server = ApimlServer::Zaas;
            state.compatibility = Compatibility::ZoweV3;
            state.origins = state.origins.relayed();
        })
    }

    /// Returns the path below which the endpoints are served.
    pub fn prefix(&self) -> &AuthPrefix {
        &self.0.prefix
    }

    fn with(mut self, change: impl FnOnce(&mut State)) -> Self {
        let state = Arc::make_mut(&mut self.0);
        state.description = OnceLock::new();
        change(state);
        self
    }

    #[cfg(test)]
    pub(super) fn settings(&self) -> Settings<'_> {
        self.0.settings()
    }
}

impl State {
    fn switches(&self) -> Switches {
        Switches {
            tickets: self.tickets.is_some(),
            pats: self.max_validity.is_some(),
            registry: self.registry.is_some(),
            refresh: self.token_refresh,
            delegation: self.delegation.is_some(),
            exchange: self.exchange.is_some(),
        }
    }

    fn settings(&self) -> Settings<'_> {
        Settings {
            prefix: &self.prefix,
            switches: self.switches(),
            certificates: self.mapper.is_some(),
            compatibility: self.compatibility,
            cookie: self.cookies.jwt(),
            max_validity: self.max_validity.unwrap_or(Validity::MAX),
            guarding_resources: &self.guarding_resources,
        }
    }

    fn certificates(&self) -> ClientCertificates<'_> {
        ClientCertificates { mapper: self.mapper.as_deref(), clock: &*self.clock }
    }

    fn callers(&self) -> Callers<'_> {
        Callers {
            login: &*self.login,
            throttle: &self.throttle,
            memory: &self.memory,
            certificates: self.certificates(),
            clock: &self.clock,
            wait: self.login_wait,
        }
    }

    fn authorizer(&self) -> Authorizer<'_> {
        Authorizer { saf: &*self.saf, resources: &self.guarding_resources }
    }

    fn login_tokens(&self) -> LoginTokens<'_> {
        LoginTokens {
            issuer: &self.issuer,
            verifier: &*self.login_verifier,
            revocations: &self.revocations,
            cookies: &self.cookies,
        }
    }

    fn any_credential(&self) -> AnyCredential<'_> {
        AnyCredential { callers: self.callers(), tokens: self.login_tokens() }
    }

    fn sessions(&self) -> Sessions {
        Sessions {
            provider: self.login.clone(),
            listeners: self.listeners.clone(),
            #[cfg(feature = "remote")]
            relays: self.relays.clone(),
        }
    }

    fn held_tokens(&self) -> HeldTokens<'_> {
        HeldTokens {
            verifier: &self.verifier,
            revocations: &self.revocations,
            compatibility: self.compatibility,
        }
    }

    fn oidc_tokens(&self) -> OidcTokens<'_> {
        OidcTokens {
            verifier: self.oidc.as_ref(),
            revocations: &self.revocations,
            clock: &*self.clock,
        }
    }

    fn revocation_rules(&self) -> RevocationRules<'_> {
        RevocationRules {
            callers: self.callers(),
            authorizer: self.authorizer(),
            revocations: &self.revocations,
            compatibility: self.compatibility,
            clock: &*self.clock,
        }
    }

    fn token_bounds(&self, max_validity: Validity) -> TokenBounds<'_> {
        TokenBounds { max_validity, allowed: self.allowed_scopes.as_ref() }
    }

    fn new_tokens(&self, max_validity: Validity) -> NewTokens<'_> {
        NewTokens {
            callers: self.callers(),
            issuer: &self.issuer,
            revocations: &self.revocations,
            registry: self.registry.as_ref(),
            bounds: self.token_bounds(max_validity),
            clock: &*self.clock,
        }
    }

    /// # Errors
    /// [`ApiError::NotFound`] if there is no registry. This error is never returned, because `Endpoint::find` returns
    /// only endpoints that are on.
    fn access_tokens(&self) -> Result<AccessTokens<'_>, ApiError> {
        Ok(AccessTokens {
            registry: self.registry.as_ref().ok_or(ApiError::NotFound)?,
            credentials: self.any_credential(),
            authorizer: self.authorizer(),
            issuer: &self.issuer,
            verifier: &self.verifier,
            revocations: &self.revocations,
            bounds: self.token_bounds(self.max_validity.unwrap_or(Validity::MAX)),
            cookies: &self.cookies,
            clock: &*self.clock,
        })
    }

    fn describe(&self) -> Response<Full<Bytes>> {
        let make = || openapi::document(&self.settings()).to_string().into();
        let description = self.description.get_or_init(make);
        typed(description.clone(), HeaderValue::from_static("application/json"))
    }

    async fn answer<B: Body>(&self, request: &mut Parts, body: B) -> Answer {
        let path = request.uri.path();
        if let (Some(endpoints), Some(path)) = (&self.apiml, ApimlPath::find_at(self.server, path))
        {
            return self.answer_apiml(endpoints, path, request, body).await;
        }
        if request.method == Method::OPTIONS {
            let found = Endpoint::find_path(path, &self.prefix, self.switches())?;
            let methods: Vec<_> = found.iter().map(|(method, _)| (*method).clone()).collect();
            return self.options(&methods, request);
        }
        let endpoint = Endpoint::find(&request.method, path, &self.prefix, self.switches())?;
        let event = record::event(endpoint);
        let record = RecordGuard::start(&self.audit, &self.clock, event, request);
        let answer = match self.check_origin(endpoint, request) {
            Ok(()) => self.dispatch(endpoint, request, body).await,
            Err(error) => Err(error),
        };
        record.finish(answer.as_ref().err());
        answer
    }

    async fn answer_apiml<B: Body>(
        &self,
        endpoints: &ApimlEndpoints,
        path: ApimlPath,
        request: &mut Parts,
        body: B,
    ) -> Answer {
        if request.method == Method::OPTIONS {
            return self.options(&[path.method()], request);
        }
        let event = endpoints.event(path);
        let record = RecordGuard::start(&self.audit, &self.clock, event, request);
        let gateway = ApimlGateway {
            endpoints,
            credentials: self.any_credential(),
            authorizer: self.authorizer(),
            origins: &self.origins,
            compatibility: self.compatibility,
        };
        let answer = match self.origins.check(&*request) {
            Ok(()) => gateway.answer(path, request, body).await,
            Err(_) => Err(ApiError::CrossOrigin),
        };
        record.finish(answer.as_ref().err());
        answer
    }

    /// Answers `OPTIONS` for a path with these methods. This service adds no CORS headers. A
    /// [`CorsLayer`](crate::layer::CorsLayer) in front of this service can add them. Without these headers, a preflight
    /// request for a page of another origin fails, and the browser does not send the actual request.
    fn options(&self, methods: &[Method], request: &Parts) -> Answer {
        self.origins.check(request).map_err(|_| ApiError::CrossOrigin)?;
        let mut response = empty(StatusCode::NO_CONTENT);
        response.headers_mut().insert(ALLOW, allow(methods));
        Ok(response)
    }

    fn check_origin(&self, endpoint: Endpoint, request: &Parts) -> Result<(), ApiError> {
        let checked = match endpoint {
            // Any web page can send a form without a preflight request, and the form contains the credential.
            Endpoint::Login | Endpoint::ExchangeToken => self.origins.check_login(request),
            _ => self.origins.check(request),
        };
        checked.map_err(|_| ApiError::CrossOrigin)?;
        let makes_a_pat = match endpoint {
            Endpoint::CreateToken | Endpoint::RotateToken | Endpoint::RotateOwnToken => true,
            // A request with `Authorization` is permitted, because a page that shows the description of this API, such
            // as Swagger UI, sends such requests. They contain the password that the user has entered on this page.
            Endpoint::Generate => !request.headers.contains_key(AUTHORIZATION),
            _ => false,
        };
        match makes_a_pat && OriginPolicy::is_script_with_credential(request) {
            true => Err(ApiError::ScriptRequest),
            false => Ok(()),
        }
    }

    fn id<'r>(&self, endpoint: Endpoint, request: &'r Parts) -> &'r str {
        endpoint.id(request.uri.path(), &self.prefix).unwrap_or_default()
    }

    async fn dispatch<B: Body>(&self, endpoint: Endpoint, request: &Parts, body: B) -> Answer {
        // This error is never returned, because `Endpoint::find` returns only endpoints that are on.
        let off = ApiError::NotFound;
        match endpoint {
            Endpoint::Describe => Ok(self.describe()),
            Endpoint::Login => {
                login::log_in(request, body, self.callers(), self.login_tokens()).await
            }
            Endpoint::Logout => {
                logout::log_out(request, self.login_tokens(), self.sessions()).await
            }
            Endpoint::Query => query::query(request, self.login_tokens()).await,
            Endpoint::Refresh => {
                logout::refresh(request, self.certificates(), self.login_tokens()).await
            }
            Endpoint::Ticket => {
                let generator = self.tickets.as_deref().ok_or(off)?;
                let tokens = self.login_tokens();
                ticket::ticket(request, body, self.certificates(), tokens, generator).await
            }
            Endpoint::DelegatedTicket => {
                let (Some(delegation), Some(generator)) = (&self.delegation, &self.tickets) else {
                    return Err(off);
                };
                let endpoint = DelegatedTickets {
                    delegation,
                    certificates: self.certificates(),
                    authorizer: self.authorizer(),
                    generator: &**generator,
                    audit: &self.audit,
                    clock: &*self.clock,
                };
                endpoint.issue(request, body).await
            }
            Endpoint::ExchangeToken => {
                let (Some(exchange), Some(generator)) = (&self.exchange, &self.tickets) else {
                    return Err(off);
                };
                let endpoint = TokenExchanges {
                    exchange,
                    certificates: self.certificates(),
                    verifier: &*self.login_verifier,
                    accepts_pats: self.max_validity.is_some(),
                    revocations: &self.revocations,
                    authorizer: self.authorizer(),
                    generator: &**generator,
                    audit: &self.audit,
                    clock: &*self.clock,
                };
                endpoint.exchange(request, body).await
            }
            Endpoint::PublicKeyPem => Ok(self.public_keys.pem(self.compatibility)),
            Endpoint::PublicKeySet => Ok(self.public_keys.all()),
            Endpoint::CurrentPublicKeySet => Ok(self.public_keys.current()),
            Endpoint::Generate => {
                let max_validity = self.max_validity.ok_or(off)?;
                self.new_tokens(max_validity).generate(request, body).await
            }
            Endpoint::Validate => self.held_tokens().validate(request, body).await,
            Endpoint::Revoke => self.held_tokens().revoke(request, body).await,
            Endpoint::RevokeOwn => self.revocation_rules().revoke_own(request, body).await,
            Endpoint::RevokeUser => self.revocation_rules().revoke_user(request, body).await,
            Endpoint::RevokeService => self.revocation_rules().revoke_service(request, body).await,
            Endpoint::Evict => self.revocation_rules().evict(request).await,
            Endpoint::ListTokens => self.access_tokens()?.list(request).await,
            Endpoint::CreateToken => {
                let new = self.new_tokens(self.max_validity.ok_or(off)?);
                new.create(self.any_credential(), request, body).await
            }
            Endpoint::DeleteTokens => {
                self.revocation_rules().revoke_group(self.any_credential(), request).await
            }
            Endpoint::Permissions => self.access_tokens()?.permissions(request).await,
            Endpoint::EvictRevocations => {
                self.revocation_rules().evict_and_report(self.any_credential(), request).await
            }
            Endpoint::OwnToken => self.access_tokens()?.own(request).await,
            Endpoint::RotateOwnToken => self.access_tokens()?.rotate_own(request, body).await,
            Endpoint::GetToken => {
                self.access_tokens()?.get(request, self.id(endpoint, request)).await
            }
            Endpoint::ChangeToken => {
                let id = self.id(endpoint, request);
                self.access_tokens()?.change(request, id, body).await
            }
            Endpoint::DeleteToken => {
                self.access_tokens()?.delete(request, self.id(endpoint, request)).await
            }
            Endpoint::RotateToken => {
                let id = self.id(endpoint, request);
                self.access_tokens()?.rotate(request, id, body).await
            }
            Endpoint::ValidateOidc => self.oidc_tokens().validate(request, body).await,
        }
    }
}

impl<B> Service<Request<B>> for AuthApi
where
    B: Body + Send + 'static,
    B::Data: Send,
{
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let state = self.0.clone();
        Box::pin(async move {
            let (mut request, body) = request.into_parts();
            let facts = request.extensions.get::<RequestFacts>().cloned();
            let mut body = pin!(MeteredBody::new(body, facts));
            let answer = state.answer(&mut request, body.as_mut()).await;
            let cause = answer.as_ref().err().map(ApiError::cause);
            let body_failed = matches!(cause, Some(ApiError::BodyTooLarge | ApiError::BodyBroken));
            // With HTTP/1.1, the server closes the connection if the body is not read to its end. A client that still
            // sends the body might then not receive the response. So the rest of the body is read here, but at most
            // `MAX_BODY_LEN` bytes. With `Expect: 100-continue`, the rest is not read, because the client may send the
            // body only if the server asks for it.
            if !body_failed && !body.is_end_stream() && !request.headers.contains_key(EXPECT) {
                let _ = body::read(body).await;
            }
            let mut response = answer.unwrap_or_else(|error| {
                let url = request.uri.path();
                let request_id = RequestId::logged(&request.extensions);
                tracing::debug!(url, request_id, %error, "request refused");
                state.compatibility.response(error, url)
            });
            messages::set_security_headers(response.headers_mut());
            if request.method == Method::HEAD {
                response = without_body(response);
            }
            Ok(response.map(ResponseBody::new))
        })
    }
}

impl fmt::Debug for AuthApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let State { prefix, mapper, delegation, cookies, compatibility, .. } = &*self.0;
        f.debug_struct("AuthApi")
            .field("prefix", prefix)
            .field("passtickets", &self.0.tickets.is_some())
            .field("delegation", delegation)
            .field("token_exchange", &self.0.exchange)
            .field("personal_access_tokens", &self.0.max_validity)
            .field("allowed_scopes", &self.0.allowed_scopes)
            .field("access_token_registry", &self.0.registry.is_some())
            .field("token_refresh", &self.0.token_refresh)
            .field("client_certificates", &mapper.is_some())
            .field("oidc_tokens", &self.0.oidc.is_some())
            .field("apiml_endpoints", &self.0.apiml)
            .field("cookies", cookies)
            .field("compatibility", compatibility)
            .finish_non_exhaustive()
    }
}
