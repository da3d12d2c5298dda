//! Routes, which assign paths of the gateway to services.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use foldhash::fast::RandomState;
use http::{HeaderName, Uri, uri::Authority};

use super::{
    instances::{Instance, Instances},
    observed::{ObservedCounts, ObservedDecision},
    path::{is_ambiguous, is_at_or_below},
    request_rate::RateLimit,
    route_error::RouteError,
    route_limits::RouteLimits,
    scheme_error::SchemeError,
    schemes::{Accepts, Scheme, SchemeFuture, SchemeRequest},
    technical_users::TechnicalUsers,
    upstream::Upstream,
};
use crate::{compatibility::Compatibility, passticket::Replay, token::ServiceId};

/// What the gateway does with a request if authentication or the scheme failed ([D4](crate::decisions#d4)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnFailure {
    /// The gateway forwards the request without the credentials of the client. Exception: with
    /// [`ClientBasic::Forward`], a password stays. The service and the client receive the reason in
    /// `X-Zowe-Auth-Failure`.
    #[default]
    Forward,
    /// The gateway forwards the request with the credentials that the client sent, as the Zowe API Mediation Layer
    /// does. The service and the client receive the reason in `X-Zowe-Auth-Failure`.
    ForwardUnchanged,
    /// The gateway answers the request itself. The status is:
    ///
    /// - 403 if the token is valid, but not for this request;
    /// - 429 if there were too many failed logins;
    /// - 503 if a later attempt can succeed, for example because a server did not answer;
    /// - 401 if authentication failed for another reason;
    /// - 401 if the server that makes PassTickets needs the token of the client, and there is none or the server
    ///   refuses it;
    /// - 500 if the scheme failed for another reason.
    Reject,
}

/// What the gateway does with `Authorization: Basic` of a client ([D24](crate::decisions#d24)). Routes with the scheme
/// `bypass` ignore this setting.
///
/// This setting is only for passwords. If Personal Access Tokens (PATs) are turned on, each of these values also
/// accepts a PAT as the password. Routes that accept only client certificates accept neither.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientBasic {
    /// The gateway ignores passwords. With [`OnFailure::Forward`] and [`OnFailure::Reject`], the service never receives
    /// them.
    #[default]
    Strip,
    /// If the request has no token ([D6](crate::decisions#d6)), a [`PasswordVerifier`](super::PasswordVerifier) checks
    /// the password. If the password is right, the request is authenticated. Without a verifier, the gateway ignores
    /// passwords. With [`OnFailure::Forward`] and [`OnFailure::Reject`], the service never receives them.
    Verify,
    /// The gateway does not check passwords. If the request has no other valid credential, it is not authenticated.
    /// With [`OnFailure::Forward`], the service then receives the password in `Authorization: Basic`, and the reason in
    /// `X-Zowe-Auth-Failure`. If `Authorization` contains a PAT or cannot be decoded, the gateway removes it. With
    /// [`OnFailure::Reject`], this value has the same effect as [`Strip`](Self::Strip).
    Forward,
}

/// Whether the gateway forwards a path that contains `%`, `;` or `\`. A service could decode such a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodedPaths {
    /// The gateway forwards the path without decoding it. In the cases `DotSegment`, `Nul` and `AmbiguousPath` of
    /// [`Rejection`](super::Rejection), a service could read another path. Then the gateway answers 400.
    #[default]
    Forward,
    /// The gateway answers 400.
    Refuse,
}

/// Whether the gateway enforces its decisions about requests to a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// The layers enforce their decisions: an authorized request gets the headers of the scheme, and [`OnFailure`]
    /// decides what happens after a failure.
    #[default]
    Enforce,
    /// The layers authenticate and authorize each request, prepare the headers of the scheme, and write the same audit
    /// records as with [`Enforce`](Self::Enforce). After that, they forward the request as with the scheme
    /// [`Bypass`](super::Bypass): with the credentials that the client sent, and without the headers of the scheme and
    /// `X-Zowe-Auth-Failure`.
    ///
    /// In both modes, the layers remove headers that clients must not send, and enforce the limits of the route, the
    /// rate limit and the check of the origin.
    ///
    /// Behind [`SchemeLayer`](super::SchemeLayer), a request in this mode has no user.
    Observe,
}

/// Whether the gateway adds `Cache-Control: no-store` and `X-Content-Type-Options: nosniff` to the responses to
/// authenticated requests ([D46](crate::decisions#d46)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecurityHeaders {
    /// If the service has not set `X-Content-Type-Options`, the gateway adds `nosniff`. If the service has set none of
    /// `Cache-Control`, `Expires` and `Pragma`, the gateway adds `Cache-Control: no-store`. A response with the status
    /// 304 does not change. With [`Mode::Observe`], no response changes.
    #[default]
    AddMissing,
    /// The response stays as the service sent it.
    Unchanged,
}

/// The Personal Access Tokens (PATs) that the layers accept on a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    not(all(feature = "api", feature = "proxy")),
    expect(dead_code, reason = "only the module zaas uses all of them")
)]
pub(crate) enum AcceptedPats {
    /// The layers see the request to the service. The scopes of the PAT must permit this request.
    #[default]
    ForRequest,
    /// The layers know the service, but do not see the request to it. The scopes of the PAT must permit all requests to
    /// the service.
    ForWholeService,
    /// The layers do not know the service. They accept no PAT.
    Never,
}

/// The version of HTTP for requests to a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ServiceProtocol {
    /// With TLS: HTTP/2 if the service chooses it (ALPN, RFC 7301), else HTTP/1.1. Without TLS: HTTP/1.1. With
    /// `Forward::with_http2`, the proxy offers HTTP/2. Without it, the proxy offers only HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 without negotiation, usually without TLS ("prior knowledge", RFC 9113 §3.3).
    H2c,
}

/// Assigns paths of the gateway to a service, and contains the scheme and the settings for its requests.
#[derive(Clone)]
pub struct Route {
    service: ServiceId,
    prefix: String,
    instances: Option<Arc<Instances>>,
    scheme: RouteScheme,
    on_failure: Option<OnFailure>,
    client_basic: ClientBasic,
    encoded_paths: EncodedPaths,
    security_headers: SecurityHeaders,
    response_timeout: Option<Duration>,
    body_timeout: Option<Duration>,
    rate_limit: Option<RateLimit>,
    limits: Option<Arc<RouteLimits>>,
    protocol: ServiceProtocol,
    compatibility: Compatibility,
    is_out_of_service: bool,
    removes_credentials: bool,
    pats: AcceptedPats,
    mode: Mode,
    observed: Option<Arc<ObservedCounts>>,
    /// All routes of the same service that have instances, including this route. A redirect of the service can point to
    /// a path of one of these routes. If the route is in no table, the list is empty.
    siblings: Arc<[Sibling]>,
}

/// A scheme, and what its functions returned when the route got the scheme. They are not called again, so all layers
/// see the same values.
#[derive(Clone)]
struct RouteScheme {
    scheme: Arc<dyn Scheme>,
    is_bypass: bool,
    accepts: Accepts,
    replay: Replay,
    technical_users: Option<Arc<TechnicalUsers>>,
}

impl RouteScheme {
    fn new(scheme: impl Scheme) -> Self {
        let (is_bypass, replay) = (!scheme.needs_authorization(), scheme.replay());
        let technical_users = scheme.technical_users();
        let (accepts, scheme) = (scheme.accepts(), Arc::new(scheme));
        Self { scheme, is_bypass, accepts, replay, technical_users }
    }
}

/// An item of [`Route::siblings`].
struct Sibling {
    instances: Arc<Instances>,
    prefix: String,
}

impl Route {
    /// Creates a route from the paths `/{service}/{gateway_url}/…` to `upstream`. The service receives the headers that
    /// `scheme` prepares. `gateway_url` can be empty, and slashes at its start and end have no effect.
    ///
    /// # Errors
    /// [`RouteError::GatewayUrl`] if `gateway_url` cannot be part of a path.
    pub fn new(
        service: ServiceId,
        gateway_url: &str,
        upstream: Upstream,
        scheme: impl Scheme,
    ) -> Result<Self, RouteError> {
        let gateway_url = gateway_url.trim_matches('/');
        let prefix = if gateway_url.is_empty() {
            format!("/{service}")
        } else {
            format!("/{service}/{gateway_url}")
        };
        let plain = prefix.parse::<Uri>().is_ok_and(|uri| uri.path() == prefix);
        if !plain || !prefix.is_ascii() || is_ambiguous(&prefix) {
            return Err(RouteError::GatewayUrl(gateway_url.chars().take(200).collect()));
        }
        let instance = Instance::of_service(&service, upstream);
        Ok(Self::to(service, prefix, Some(Instances::new([instance])), scheme))
    }

    /// Creates a route to your own handlers, usually for [`RouteLayer::fixed`]. The scopes of a Personal Access Token
    /// must permit the request to `service`. Log messages and audit records also contain `service`. The route has no
    /// upstream, so the proxy cannot forward its requests.
    ///
    /// [`RouteLayer::fixed`]: super::RouteLayer::fixed
    pub fn local(service: ServiceId) -> Self {
        let prefix = format!("/{service}");
        Self::to(service, prefix, None, Local)
    }

    fn to(
        service: ServiceId,
        prefix: String,
        instances: Option<Instances>,
        scheme: impl Scheme,
    ) -> Self {
        Self {
            service,
            prefix,
            instances: instances.map(Arc::new),
            scheme: RouteScheme::new(scheme),
            on_failure: None,
            client_basic: ClientBasic::default(),
            encoded_paths: EncodedPaths::default(),
            security_headers: SecurityHeaders::default(),
            response_timeout: None,
            body_timeout: None,
            rate_limit: None,
            limits: None,
            protocol: ServiceProtocol::default(),
            compatibility: Compatibility::default(),
            is_out_of_service: false,
            removes_credentials: false,
            pats: AcceptedPats::default(),
            mode: Mode::default(),
            observed: None,
            siblings: Arc::new([]),
        }
    }

    /// Replaces the scheme.
    #[must_use]
    pub fn with_scheme(self, scheme: impl Scheme) -> Self {
        Self { scheme: RouteScheme::new(scheme), siblings: Arc::new([]), ..self }
    }

    /// Replaces the upstream by several instances of the service. To [replace](Instances::replace) the instances later,
    /// pass an `Arc`, and keep a clone of it.
    #[must_use]
    pub fn with_instances(self, instances: impl Into<Arc<Instances>>) -> Self {
        Self { instances: Some(instances.into()), siblings: Arc::new([]), ..self }
    }

    /// Sets what the gateway does with a request if authentication or the scheme failed.
    #[must_use]
    pub fn with_on_failure(self, on_failure: OnFailure) -> Self {
        Self { on_failure: Some(on_failure), ..self }
    }

    /// Sets what the gateway does with `Authorization: Basic` of a client.
    #[must_use]
    pub fn with_client_basic(self, client_basic: ClientBasic) -> Self {
        Self { client_basic, ..self }
    }

    /// Sets whether the gateway forwards a path that contains `%`, `;` or `\`.
    #[must_use]
    pub fn with_encoded_paths(self, encoded_paths: EncodedPaths) -> Self {
        Self { encoded_paths, ..self }
    }

    /// Sets how long the gateway waits for the head of a response. This replaces the proxy's default, which
    /// `ForwardTimeouts::with_response` sets.
    #[must_use]
    pub fn with_response_timeout(self, response_timeout: Duration) -> Self {
        Self { response_timeout: Some(response_timeout), ..self }
    }

    /// Sets whether the gateway adds security headers to the responses of the service.
    #[must_use]
    pub fn with_security_headers(self, security_headers: SecurityHeaders) -> Self {
        Self { security_headers, ..self }
    }

    /// Sets how long the gateway waits for the next bytes of a response body. This replaces the proxy's default, which
    /// `ForwardTimeouts::with_body` sets. The timeout does not apply to event streams and gRPC.
    #[must_use]
    pub fn with_body_timeout(self, body_timeout: Duration) -> Self {
        Self { body_timeout: Some(body_timeout), ..self }
    }

    /// Sets the methods, paths and sizes that the route allows.
    #[must_use]
    pub fn with_limits(self, limits: RouteLimits) -> Self {
        Self { limits: Some(Arc::new(limits)), ..self }
    }

    /// Sets how many requests each client may send to the service. A [`RateLimitLayer`](super::RateLimitLayer) enforces
    /// this. All routes of a service share the counts, so all of them should have the same limit.
    #[must_use]
    pub fn with_rate_limit(self, rate_limit: RateLimit) -> Self {
        Self { rate_limit: Some(rate_limit), ..self }
    }

    /// Sets the version of HTTP for requests to the service.
    #[must_use]
    pub fn with_protocol(self, protocol: ServiceProtocol) -> Self {
        Self { protocol, ..self }
    }

    /// Sets the compatibility profile. On a route, it decides about some responses of the gateway, and about the text
    /// in `X-Zowe-Auth-Failure`.
    #[must_use]
    pub fn with_compatibility(self, compatibility: Compatibility) -> Self {
        Self { compatibility, ..self }
    }

    /// Sets whether the layers enforce their decisions. With [`Mode::Observe`], the layers ignore [`OnFailure`], and
    /// forward a request even if authentication or the scheme fails.
    #[must_use]
    pub fn with_mode(self, mode: Mode) -> Self {
        Self { mode, ..self }
    }

    /// Counts the requests in [`Mode::Observe`] in `counts`.
    #[must_use]
    pub fn with_observed_counts(self, counts: Arc<ObservedCounts>) -> Self {
        Self { observed: Some(counts), ..self }
    }

    #[cfg(all(feature = "api", feature = "proxy"))]
    pub(crate) fn with_accepted_pats(self, pats: AcceptedPats) -> Self {
        Self { pats, ..self }
    }

    pub(super) fn accepted_pats(&self) -> AcceptedPats {
        self.pats
    }

    /// Sets [`OnFailure::Reject`], unless [`with_on_failure`](Self::with_on_failure) has already set a value.
    pub(super) fn or_reject(this: Arc<Self>) -> Arc<Self> {
        match this.on_failure {
            Some(_) => this,
            None => Arc::new(Arc::unwrap_or_clone(this).with_on_failure(OnFailure::Reject)),
        }
    }

    /// Returns the id of the service.
    pub fn service(&self) -> &ServiceId {
        &self.service
    }

    /// Returns the prefix of the paths: `/{serviceId}/{gatewayUrl}`.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Returns the instances of the service. `None` for a [`local`](Self::local) route.
    pub fn instances(&self) -> Option<&Arc<Instances>> {
        self.instances.as_ref()
    }

    /// Returns the address of the first instance. `None` if the route has no instance.
    pub fn upstream(&self) -> Option<Upstream> {
        Some(self.instances.as_ref()?.list().first()?.upstream().clone())
    }

    /// Returns the scheme that prepares requests for the service.
    pub fn scheme(&self) -> &dyn Scheme {
        &*self.scheme.scheme
    }

    /// Returns whether the route has the scheme `bypass`. On such a route, the layers evaluate no credential. They
    /// forward the request with the credentials that the client sent, unless the route [removes
    /// them](Self::removes_credentials).
    pub fn is_bypass(&self) -> bool {
        self.scheme.is_bypass
    }

    /// Returns which credentials the layers evaluate ([`Scheme::accepts`](super::Scheme::accepts)).
    pub fn accepts(&self) -> Accepts {
        self.scheme.accepts
    }

    /// Returns the rules for technical users ([`Scheme::technical_users`](super::Scheme::technical_users)).
    pub fn technical_users(&self) -> Option<&TechnicalUsers> {
        self.scheme.technical_users.as_deref()
    }

    /// Returns whether the service accepts the headers of the scheme in more than one request
    /// ([`Scheme::replay`](super::Scheme::replay)).
    pub fn replay(&self) -> Replay {
        self.scheme.replay
    }

    /// Returns what the gateway does with a request if authentication or the scheme failed. With [`Mode::Observe`],
    /// this is always [`OnFailure::ForwardUnchanged`].
    pub fn on_failure(&self) -> OnFailure {
        match self.mode {
            Mode::Enforce => self.on_failure.unwrap_or_default(),
            Mode::Observe => OnFailure::ForwardUnchanged,
        }
    }

    /// Returns whether the layers enforce their decisions.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    pub(super) fn is_observed(&self) -> bool {
        self.mode == Mode::Observe
    }

    pub(super) fn count_observed(&self, decision: ObservedDecision) {
        if let Some(counts) = &self.observed {
            counts.count(decision);
        }
    }

    /// Returns what the gateway does with `Authorization: Basic` of a client.
    pub fn client_basic(&self) -> ClientBasic {
        self.client_basic
    }

    /// Returns whether the gateway forwards a path that contains `%`, `;` or `\`.
    pub fn encoded_paths(&self) -> EncodedPaths {
        self.encoded_paths
    }

    /// Returns the time that the gateway waits for the head of a response. `None` means the default of the proxy.
    pub fn response_timeout(&self) -> Option<Duration> {
        self.response_timeout
    }

    /// Returns whether the gateway adds security headers to the responses of the service.
    pub fn security_headers(&self) -> SecurityHeaders {
        self.security_headers
    }

    /// Returns the time that the gateway waits for the next bytes of a response body. `None` means the default of the
    /// proxy.
    pub fn body_timeout(&self) -> Option<Duration> {
        self.body_timeout
    }

    /// Returns the methods, paths and sizes that the route allows. `None` means that everything is allowed.
    pub fn limits(&self) -> Option<&RouteLimits> {
        self.limits.as_deref()
    }

    /// Returns how many requests each client may send to the service. `None` means that there is no limit.
    pub fn rate_limit(&self) -> Option<RateLimit> {
        self.rate_limit
    }

    /// Returns the version of HTTP for requests to the service.
    pub fn protocol(&self) -> ServiceProtocol {
        self.protocol
    }

    /// Returns the compatibility profile.
    pub fn compatibility(&self) -> Compatibility {
        self.compatibility
    }

    /// Converts the `Location` of a response of the first instance into a `Location` for the client of the gateway. The
    /// result has no scheme and no host, so the client stays on the address that it requested (RFC 9110 §10.2.2). If
    /// `location` is a URL with the address of the instance and a path of the gateway, the result is this path.
    ///
    /// Returns `None` in these cases:
    ///
    /// - `location` points to another server.
    /// - `location` is relative to the path of the request.
    /// - `location` is already a path of the gateway, without scheme and host.
    /// - No route leads to `location`.
    /// - This route has no instance.
    pub fn northbound_location(&self, location: &str) -> Option<String> {
        self.northbound_location_bytes(&self.upstream()?, location.as_bytes())
            .and_then(|it| String::from_utf8(it).ok())
    }

    /// Does the same as [`northbound_location`](Self::northbound_location) for the instance at `upstream`. `location`
    /// can contain bytes that are not ASCII.
    pub(crate) fn northbound_location_bytes(
        &self,
        upstream: &Upstream,
        location: &[u8],
    ) -> Option<Vec<u8>> {
        let slashes = location.windows(2).position(|pair| pair == b"//");
        let Some((scheme, after)) = slashes.map(|at| (&location[..at], &location[at + 2..])) else {
            return self.northbound_path_bytes(upstream, location);
        };
        let scheme = match scheme {
            b"" => upstream.scheme().as_str(),
            _ if scheme.eq_ignore_ascii_case(b"http:") => "http",
            _ if scheme.eq_ignore_ascii_case(b"https:") => "https",
            _ => return self.northbound_path_bytes(upstream, location),
        };
        let is_end = |b: &u8| matches!(b, b'/' | b'?' | b'#');
        let end = after.iter().position(is_end).unwrap_or(after.len());
        let (authority, rest) = after.split_at(end);
        let authority = Authority::try_from(authority).ok()?;
        if !upstream.is_at(&authority, scheme) {
            return None;
        }
        let mut path = Vec::with_capacity(rest.len() + 1);
        if !rest.starts_with(b"/") {
            path.push(b'/');
        }
        path.extend_from_slice(rest);
        // If a path begins with `//`, a client reads the text after it as a host.
        if path.starts_with(b"//") {
            return None;
        }
        if self.is_of_gateway(&path) {
            return Some(path);
        }
        self.northbound_path_bytes(upstream, &path)
    }

    /// Converts an absolute path of the first instance into a path of the gateway. A query and a fragment stay. Returns
    /// `None` if no route leads to the path, or if this route has no instance. Also returns `None` if the path begins
    /// with the prefix of a route of this service: it is then already a path of the gateway, because some services make
    /// their paths from `X-Forwarded-Prefix`.
    pub fn northbound_path(&self, path: &str) -> Option<String> {
        self.northbound_path_bytes(&self.upstream()?, path.as_bytes())
            .and_then(|it| String::from_utf8(it).ok())
    }

    /// Does the same as [`northbound_path`](Self::northbound_path) for the instance at `upstream`. `path` can contain
    /// bytes that are not ASCII.
    pub(crate) fn northbound_path_bytes(
        &self,
        upstream: &Upstream,
        path: &[u8],
    ) -> Option<Vec<u8>> {
        if !path.starts_with(b"/") || path.starts_with(b"//") || self.is_of_gateway(path) {
            return None;
        }
        let siblings = self.siblings.iter().flat_map(|sibling| {
            let list = sibling.instances.list();
            let is_of_server = |it: &&Instance| it.upstream().authority() == upstream.authority();
            let base_path = |it: &Instance| (it.upstream().base_path().to_owned(), &sibling.prefix);
            list.iter().filter(is_of_server).map(base_path).collect::<Vec<_>>()
        });
        let own = [(upstream.base_path().to_owned(), &self.prefix)];
        let (base_path, prefix) = siblings
            .chain(own)
            .filter(|(base_path, _)| is_below(base_path, path))
            // If several base paths have the same length, `max_by_key` returns the last one, which is this route.
            .max_by_key(|(base_path, _)| base_path.len())?;
        Some([prefix.as_bytes(), &path[base_path.len()..]].concat())
    }

    fn is_of_gateway(&self, path: &[u8]) -> bool {
        is_below(&self.prefix, path) || self.siblings.iter().any(|s| is_below(&s.prefix, path))
    }

    /// Returns the path and query for the request to the first instance. The base path of the upstream replaces the
    /// prefix of the route. If the path does not begin with the prefix, the whole path is appended to the base path.
    pub fn southbound_path(&self, uri: &Uri) -> String {
        let upstream = self.upstream();
        self.southbound_path_below(upstream.as_ref().map_or("", Upstream::base_path), uri)
    }

    /// Does the same as [`southbound_path`](Self::southbound_path) for an instance with this base path.
    pub(crate) fn southbound_path_below(&self, base: &str, uri: &Uri) -> String {
        let path = uri.path();
        let rest = self.path_after_prefix(path).unwrap_or(path);
        let query = uri.query().map_or(0, |q| q.len() + 1);
        let mut path = String::with_capacity(base.len() + rest.len() + query + 1);
        path.push_str(base);
        path.push_str(rest);
        if path.is_empty() {
            path.push('/');
        }
        if let Some(query) = uri.query() {
            path.push('?');
            path.push_str(query);
        }
        path
    }

    /// Returns the part of a path after the prefix: an empty text, or a text that begins with a slash. Returns `None`
    /// if the path does not begin with the prefix. This is possible only with
    /// [`RouteLayer::fixed`](super::RouteLayer::fixed).
    pub(super) fn path_after_prefix<'a>(&self, path: &'a str) -> Option<&'a str> {
        self.covers(path).then(|| &path[self.prefix.len()..])
    }

    fn covers(&self, path: &str) -> bool {
        is_at_or_below(&self.prefix, path)
    }
}

/// Functions for services of a registry.
impl Route {
    /// Returns a copy of this route for the paths `/{service}/{gateway_url}/…`, to `upstream`. The scheme and the
    /// settings stay the same.
    ///
    /// # Errors
    /// The errors of [`new`](Self::new).
    pub fn moved(&self, gateway_url: &str, upstream: Upstream) -> Result<Self, RouteError> {
        let placed = Self::new(self.service.clone(), gateway_url, upstream, Local)?;
        Ok(Self {
            prefix: placed.prefix,
            instances: placed.instances,
            siblings: placed.siblings,
            ..self.clone()
        })
    }

    /// Makes [`RouteLayer`](super::RouteLayer) answer 503, because no instance of the service can answer requests now.
    /// Without the route, the client would get 404.
    #[must_use]
    pub fn out_of_service(self) -> Self {
        Self { is_out_of_service: true, ..self }
    }

    /// Returns whether [`out_of_service`](Self::out_of_service) was called.
    pub fn is_out_of_service(&self) -> bool {
        self.is_out_of_service
    }

    /// If the scheme of the route is [`Bypass`](super::Bypass), makes the gateway remove all credentials of the client,
    /// without evaluating them. With another scheme, this setting has no effect.
    #[must_use]
    pub fn without_credentials(self) -> Self {
        Self { removes_credentials: true, ..self }
    }

    /// Returns whether [`without_credentials`](Self::without_credentials) was called.
    pub fn removes_credentials(&self) -> bool {
        self.removes_credentials
    }
}

/// Returns whether `path` begins with all segments of `prefix`. `path` can end with a query and a fragment.
fn is_below(prefix: &str, path: &[u8]) -> bool {
    path.strip_prefix(prefix.as_bytes())
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'/' | b'?' | b'#')))
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route")
            .field("service", &self.service)
            .field("prefix", &self.prefix)
            .field("instances", &self.instances)
            // A scheme can contain a secret, so only its name is shown.
            .field("scheme", &self.scheme().name())
            .field("on_failure", &self.on_failure())
            .finish()
    }
}

/// The scheme of [`Route::local`]. `prepare` always fails.
struct Local;

impl Scheme for Local {
    fn name(&self) -> &'static str {
        "local"
    }

    fn prepare(&self, _: &SchemeRequest<'_>) -> SchemeFuture {
        SchemeFuture::ready(Err(SchemeError::failed(
            "Route::local is for handlers behind ScopeLayer; a route through SchemeLayer needs an upstream",
        )
        .into()))
    }

    fn reserved_headers(&self) -> &[HeaderName] {
        &[]
    }
}

/// A table of the routes of all services.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    /// The routes of each service id, longest prefix first.
    // With this fast hash function, an attacker who chooses the keys of a map can cause collisions. Clients cannot
    // choose the keys of this map.
    by_service: HashMap<ServiceIdText, Vec<Arc<Route>>, RandomState>,
}

type ServiceIdText = Box<str>;

impl Routes {
    /// Creates a table of routes.
    ///
    /// # Errors
    /// [`RouteError::Duplicate`] if two routes have the same prefix.
    pub fn new(routes: impl IntoIterator<Item = Route>) -> Result<Self, RouteError> {
        let mut by_service: HashMap<_, Vec<Route>, RandomState> = HashMap::default();
        for route in routes {
            let of_service =
                by_service.entry(ServiceIdText::from(route.service.as_str())).or_default();
            if of_service.iter().any(|other| other.prefix == route.prefix) {
                return Err(RouteError::Duplicate(route.prefix));
            }
            of_service.push(route);
        }
        let finished = |mut routes: Vec<Route>| {
            routes.sort_by_key(|route| std::cmp::Reverse(route.prefix.len()));
            let sibling = |route: &Route| {
                let instances = route.instances.clone()?;
                Some(Sibling { instances, prefix: route.prefix.clone() })
            };
            let siblings: Arc<[_]> = routes.iter().filter_map(sibling).collect();
            let finished = |route| Arc::new(Route { siblings: siblings.clone(), ..route });
            routes.into_iter().map(finished).collect()
        };
        let by_service = by_service.into_iter().map(|(id, routes)| (id, finished(routes)));
        Ok(Self { by_service: by_service.collect() })
    }

    /// Returns the route for `path`. Paths are case-sensitive (`docs/reference/data-plane.md#routing`).
    pub fn find(&self, path: &str) -> Option<&Arc<Route>> {
        let service = path.strip_prefix('/')?.split('/').next()?;
        self.by_service.get(service)?.iter().find(|route| route.covers(path))
    }

    /// Returns all routes, in no defined order.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.by_service.values().flatten().map(AsRef::as_ref)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::layer::Bypass;

    fn route(service: &str, gateway_url: &str, upstream: &str, scheme: impl Scheme) -> Route {
        let upstream = upstream.parse().unwrap();
        Route::new(ServiceId::new(service).unwrap(), gateway_url, upstream, scheme).unwrap()
    }

    struct Named(&'static str);

    impl Scheme for Named {
        fn name(&self) -> &'static str {
            self.0
        }

        fn prepare(&self, _: &SchemeRequest<'_>) -> SchemeFuture {
            unreachable!("these tests run no layer")
        }

        fn reserved_headers(&self) -> &[HeaderName] {
            &[]
        }
    }

    #[cfg(feature = "remote")]
    #[test]
    fn a_route_accepts_the_credentials_that_its_last_scheme_accepts() {
        use hyper_util::client::legacy::connect::HttpConnector;

        use crate::{
            layer::{
                CertificateHeader, CookieNames, PassTicketScheme, SafIdtScheme, X509Scheme,
                ZosmfScheme, ZoweJwtScheme,
            },
            passticket::{Applid, KeyProfiles, LocalGenerator},
            remote::{Client, ClientLimits},
            token::{SigningKey, TokenIssuer},
            zosmf::{Zosmf, ZosmfSessions},
        };

        let key = SigningKey::from_pem(test_support::pki::SIGNING_KEY.as_bytes()).unwrap();
        let client = || Client::new(HttpConnector::new(), ClientLimits::default());
        let zosmf = Zosmf::new(client(), "http://localhost:1".parse().unwrap());
        let (address, applid) =
            ("http://localhost:1/x".parse().unwrap(), Applid::new("A").unwrap());
        let tickets = || LocalGenerator::new(KeyProfiles::default());
        let x509 = X509Scheme::new(std::iter::empty::<CertificateHeader>());
        let jwt = ZoweJwtScheme::new(TokenIssuer::new(key), "x", CookieNames::default());
        let zosmf = ZosmfScheme::new(zosmf, tickets(), applid, ZosmfSessions::default());
        let saf_idt = SafIdtScheme::new(client(), address, tickets(), applid);
        let schemes: [Arc<dyn Scheme>; 6] = [
            Arc::new(Bypass),
            Arc::new(PassTicketScheme::new(applid, tickets())),
            Arc::new(x509),
            Arc::new(jwt),
            Arc::new(zosmf),
            Arc::new(saf_idt),
        ];
        for first in &schemes {
            for last in &schemes {
                let route = route("svc", "", "https://a", first.clone());
                let got = route.with_scheme(last.clone()).accepts();
                assert_eq!(got, last.accepts(), "{} {}", first.name(), last.name());
            }
        }
        assert_eq!(schemes[2].accepts(), Accepts::ClientCertificate);
        assert_eq!(schemes[3].accepts(), Accepts::AnyCredentialWithToken);
    }

    #[test]
    fn the_longest_matching_prefix_is_used_and_replaced() {
        let routes = Routes::new([
            route("svc", "/api/v1/", "https://a:1/base/api", Named("ONE")),
            route("svc", "api/v1/admin", "https://a:1/base/api/admin", Named("TWO")),
            route("svc", "ui", "http://b", Bypass),
            route("all", "", "http://c:3/", Bypass),
        ])
        .unwrap();
        let cases = [
            ("/svc/api/v1/x/y?q=1%20/../2", Some(("ONE", "/base/api/x/y?q=1%20/../2"))),
            ("/svc/api/v1", Some(("ONE", "/base/api"))),
            ("/svc/api/v1/", Some(("ONE", "/base/api/"))),
            ("/svc/api/v1/admin", Some(("TWO", "/base/api/admin"))),
            ("/svc/api/v1/admin/x", Some(("TWO", "/base/api/admin/x"))),
            ("/svc/api/v1/administrators", Some(("ONE", "/base/api/administrators"))),
            ("/svc/api/v1/a%2Fb//c;d=e", Some(("ONE", "/base/api/a%2Fb//c;d=e"))),
            ("/svc/api/v12", None),
            ("/svc/api", None),
            ("/SVC/api/v1/x", None),
            ("/svc/ui", Some(("bypass", "/"))),
            ("/svc/ui?a", Some(("bypass", "/?a"))),
            ("/all/x", Some(("bypass", "/x"))),
            ("/all", Some(("bypass", "/"))),
            ("/allx", None),
            ("/", None),
            ("*", None),
        ];
        for (uri, want) in cases {
            let uri: Uri = uri.parse().unwrap();
            let got = routes
                .find(uri.path())
                .map(|route| (route.scheme().name(), route.southbound_path(&uri)));
            let want = want.map(|(scheme, path)| (scheme, path.to_owned()));
            assert_eq!(got, want, "{uri}");
        }
    }

    #[test]
    fn locations_of_the_instance_become_paths_of_the_gateway() {
        let routes = Routes::new([
            route("svc", "api/v1", "https://a.example:8443/base/api", Bypass),
            route("svc", "ui", "https://a.example:8443/base/ui", Bypass),
            route("svc", "other", "https://b.example/base/other", Bypass),
            route("root", "api", "http://c.example", Bypass),
            route("root", "ui", "http://c.example", Bypass),
        ])
        .unwrap();
        let cases = [
            (
                "/svc/api/v1",
                "https://a.example:8443/base/api/x?y=/z#f",
                Some("/svc/api/v1/x?y=/z#f"),
            ),
            ("/svc/api/v1", "HTTPS://A.Example:8443/base/api", Some("/svc/api/v1")),
            ("/svc/api/v1", "http://a.example:8443/base/api/x", Some("/svc/api/v1/x")),
            ("/svc/api/v1", "//a.example:8443/base/api/x", Some("/svc/api/v1/x")),
            ("/svc/api/v1", "https://a.example:8443/base/ui/x", Some("/svc/ui/x")),
            ("/svc/api/v1", "/base/api/x", Some("/svc/api/v1/x")),
            ("/svc/api/v1", "/base/api?x", Some("/svc/api/v1?x")),
            // The locations do not belong to the instance that answered.
            ("/svc/api/v1", "https://a.example/base/api/x", None),
            ("/svc/api/v1", "https://u@a.example:8443/base/api/x", None),
            ("/svc/api/v1", "https://b.example/base/other/x", None),
            ("/svc/api/v1", "/base/other/x", None),
            ("/svc/api/v1", "https://a.example.evil:8443/base/api/x", None),
            // The paths of the instance have no route.
            ("/svc/api/v1", "https://a.example:8443/else", None),
            ("/svc/api/v1", "/base/apis", None),
            ("/svc/api/v1", "/", None),
            // The paths are already paths of the gateway. If the URL names the instance, the gateway removes scheme,
            // host and port. A URL of another server does not change.
            ("/svc/api/v1", "/svc/ui/x", None),
            ("/svc/api/v1", "https://a.example:8443/svc/api/v1/x?y#z", Some("/svc/api/v1/x?y#z")),
            ("/svc/api/v1", "//A.example:8443/svc/ui", Some("/svc/ui")),
            ("/svc/api/v1", "http://a.example:8443/svc/ui?x", Some("/svc/ui?x")),
            ("/svc/api/v1", "https://a.example:8443//svc/ui/x", None),
            ("/svc/api/v1", "https://other.example/svc/ui/x", None),
            // The paths have the prefix of another service. They count as paths of the instance.
            ("/svc/api/v1", "https://a.example:8443/root/api/x", None),
            ("/root/api", "/svc/api/v1/x", Some("/root/api/svc/api/v1/x")),
            ("/svc/api/v1", "/base/api/\u{e9}?\u{e9}", Some("/svc/api/v1/\u{e9}?\u{e9}")),
            ("/svc/api/v1", "x/y", None),
            ("/svc/api/v1", "?x=//y", None),
            ("/svc/api/v1", "", None),
            ("/svc/api/v1", "javascript://a.example:8443/base/api", None),
            ("/root/api", "http://c.example", Some("/root/api/")),
            ("/root/api", "http://c.example:80?x", Some("/root/api/?x")),
            ("/root/ui", "/login", Some("/root/ui/login")),
            ("/root/ui", "/root/api/x", None),
        ];
        for (path, location, want) in cases {
            let got = routes.find(path).unwrap().northbound_location(location);
            assert_eq!(got.as_deref(), want, "{path}: {location}");
        }
    }

    #[test]
    fn a_path_without_the_prefix_is_appended_to_the_base_path() {
        let route = route("svc", "files", "https://a/zosmf", Bypass);
        for (uri, want) in [
            ("/svc/files/x", "/zosmf/x"),
            ("/svc/files-x/y", "/zosmf/svc/files-x/y"),
            ("/other", "/zosmf/other"),
        ] {
            assert_eq!(route.southbound_path(&uri.parse().unwrap()), want);
        }
    }

    #[test]
    fn invalid_routes_are_errors() {
        for url in [
            "zos:443",
            "ftp://zos",
            "https://",
            "/path",
            "https://u:secret@zos/",
            "https://secret@secret:8443/",
            "https://zos:secret@zos:8443/",
            "http://zos:1@zos:1",
            "http://zos:secret@ /",
            "http://zos/?q",
            "http://zos/a/../b",
            "http://zos:99999x/",
            "http://zos:70000",
            "http://:80",
            "",
        ] {
            let error = Upstream::parse(url).unwrap_err();
            assert!(matches!(error, RouteError::Upstream(_)), "{url}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        let upstream = Upstream::parse("http://zos").unwrap();
        for gateway_url in ["a b", "a?b", "a#b", "a//b", "../a", "\u{e9}"] {
            let service = ServiceId::new("a").unwrap();
            let route = Route::new(service, gateway_url, upstream.clone(), Bypass);
            assert!(matches!(route, Err(RouteError::GatewayUrl(_))), "{gateway_url}");
        }
        let twice = || route("a", "x", "http://zos", Bypass);
        assert_eq!(
            Routes::new([twice(), twice()]).unwrap_err(),
            RouteError::Duplicate("/a/x".to_owned())
        );
    }

    #[test]
    fn a_moved_route_keeps_its_settings() {
        let first = route("svc", "api/v1", "https://a/x", Named("scheme"))
            .with_on_failure(OnFailure::Reject)
            .with_response_timeout(Duration::from_secs(7))
            .without_credentials();
        let moved = first.moved("/ui/v1/", "http://b:81/y".parse().unwrap()).unwrap();
        assert_eq!((moved.service(), moved.prefix()), (first.service(), "/svc/ui/v1"));
        assert_eq!(moved.southbound_path(&"/svc/ui/v1/z".parse().unwrap()), "/y/z");
        assert_eq!((moved.scheme().name(), moved.on_failure()), ("scheme", OnFailure::Reject));
        assert_eq!(moved.response_timeout(), Some(Duration::from_secs(7)));
        assert!(moved.removes_credentials() && !moved.is_out_of_service());
        let upstream = "http://b".parse().unwrap();
        assert!(matches!(first.moved("a/../b", upstream), Err(RouteError::GatewayUrl(_))));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_southbound_path_begins_with_the_base_path(path in "(/|[.%;a-f0-9\\\\]){0,40}") {
            if let Ok(uri) = path.parse::<Uri>() {
                let route = route("a", "", "http://zos/b", Bypass);
                prop_assert!(route.southbound_path(&uri).starts_with("/b"));
            }
        }
    }
}
