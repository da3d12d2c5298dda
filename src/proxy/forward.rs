//! Sends a request to the service of its route.
//!
//! 1. A request is sent if [`SchemeLayer`](crate::layer::SchemeLayer) has marked it as ready, or if its route has the
//!    scheme `bypass`, which needs no credential. The response to any other request is 500.
//! 2. The prefix of the path is replaced, and `Host`, `Forwarded` and `X-Forwarded-*` are set. If the request has a
//!    [`RequestId`], this id replaces the `X-Request-Id` of the client. Hop-by-hop headers are removed in both
//!    directions.
//! 3. Bodies are streamed in both directions. Connections are pooled. When the client disconnects, the request to the
//!    service is cancelled.
//! 4. Headers such as `X-Zowe-Auth-Failure`, and the gateway's own cookies, are removed from the response of a service.
//!    `Location`, `Content-Location` and cookie paths that point to the instance are rewritten to the gateway. The
//!    gateway may add `Cache-Control: no-store` and `X-Content-Type-Options: nosniff`
//!    ([`SecurityHeaders`](crate::layer::SecurityHeaders)).
//! 5. If the service sends no valid response, or the request cannot be sent, the gateway makes the response itself:
//!    - 503 if the service cannot be reached or has no instance, or if all permitted connections to it stay in use;
//!    - 504 if the service does not accept the connection or does not respond in time;
//!    - 502 if the connection fails before the head of the response is complete, or if the response is not valid. For
//!      example, its head is malformed, its status is 101 although the request had no `Upgrade`, or its body has a
//!      transfer coding other than `chunked`;
//!    - 400 if the client breaks off the body of its request;
//!    - 408 if the client sends the body too slowly;
//!    - 413 if the body is larger than the [`RouteLimits`](crate::layer::RouteLimits) of the route allow;
//!    - 404 if the client chooses an unknown instance with `X-InstanceId`;
//!    - 401 if the credential of a gRPC call expires or is revoked before the service responds;
//!    - 429 if the user, or the client address if there is no user, has too many WebSockets;
//!    - 500 if the gateway cannot build the request to the service. Such a case is an error of the gateway.
//!
//!    On a route with [`Compatibility::ZoweV3`](crate::layer::Compatibility::ZoweV3), the status 500 replaces 502. It
//!    also replaces 503 if the service cannot be reached or has no instance.
//!
//!    A response with 413 has a [`Rejection`] as an extension. A response with 429 has no extension for its reason.
//!    Each other response has a [`ServiceFailure`] as an extension. The gateway also logs the reason, except for 404.

use std::{
    convert::Infallible,
    fmt, mem,
    num::NonZeroUsize,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{
    Extensions, HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, Version,
    header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING},
    uri::PathAndQuery,
};
use hyper::{
    body::Body,
    rt::{Read, Write},
};
use pin_project_lite::pin_project;
use tower::BoxError;
use tower_service::Service;

use super::{
    counts::ForwardCounts,
    credential::{ClientHead, Credential},
    exchange::{Attempt, Exchange, ExchangeError},
    exchange_failure::{ExchangeFailure, gateway_response, no_response},
    forwarded::{PeerValues, ServiceHeaders, set_forwarded},
    http2_settings::Http2Settings,
    instances::{InstanceStates, NoInstance, Pool, RequestsUntilDeposit, ServiceTargets, Wanted},
    pool::{ConnectionPool, Negotiation, PoolSettings},
    request_body::{Progress, Receive, RequestBody},
    response_body::{ResponseBody, StreamEnd},
    response_head::{self, BodyKind, UnknownCoding},
    timeouts::ForwardTimeouts,
    websocket::{ClientUpgrade, InvalidAnswer, StreamCredential, Tunnels},
};
use crate::{
    audit::{RequestId, X_REQUEST_ID},
    connection::ConnectionInfo,
    headers::{content_type, cookie, strip_request_hop_by_hop},
    http2_negotiation::NegotiateHttp2,
    layer::{
        Authorized, CookieNames, NoResponse, ReadyToForward, Rejection, Route, RouteLimits,
        ServiceFailure, ServiceProtocol, TicketAnswer, Upstream,
    },
    log_limit::log_limited,
    messages::{self, ApiMessage},
    passticket::{Replay, UserId},
    request_facts::{Cause, RequestFacts, Stage, Termination},
    ticket_breaker::Watched,
    token::ServiceId,
};

/// Forwards requests to the services. It is the innermost Tower service of a stack.
///
/// `C` is the connector: a Tower service that takes a URI and returns a connection. Examples are
/// [`tls::Connector`](crate::tls::Connector), hyper-util's `HttpConnector`, or a function. The response timeout
/// includes the time to connect. Give the connector a time limit of its own, shorter than the response timeout. Then
/// the client gets 503 if a service does not accept the connection in time. Without this limit, the client gets 504.
/// `B` is the body of requests.
///
/// Clones share the connections to the services. Use a separate clone in each tokio runtime. The reason: a clone keeps
/// the connections of its last request for its next request. These connections belong to the runtime of the last
/// request.
///
/// ```
/// use bytes::Bytes;
/// use http::Request;
/// use http_body_util::{BodyExt, Full};
/// use hyper_util::rt::TokioIo;
/// use tokio::{
///     io::{AsyncReadExt, AsyncWriteExt},
///     net::{TcpListener, TcpStream},
/// };
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
/// use tower_passticket::{
///     layer::{Bypass, Route, RouteLayer, Routes, Upstream},
///     proxy::{Forward, ForwardTimeouts},
///     token::ServiceId,
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // A service that sends a fixed response.
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// let address = listener.local_addr()?;
/// tokio::spawn(async move {
///     let (mut stream, _) = listener.accept().await.unwrap();
///     stream.read(&mut [0; 1024]).await.unwrap();
///     let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
///     stream.write_all(answer).await.unwrap();
///     std::future::pending::<()>().await;
/// });
///
/// let connector = service_fn(|uri: http::Uri| async move {
///     let (host, port) = (uri.host().unwrap_or_default(), uri.port_u16().unwrap_or(80));
///     TcpStream::connect((host, port)).await.map(TokioIo::new)
/// });
/// let upstream = Upstream::parse(&format!("http://{address}"))?;
/// let route = Route::new(ServiceId::new("files")?, "", upstream, Bypass)?;
/// let stack = ServiceBuilder::new()
///     .layer(RouteLayer::new(Routes::new([route])?))
///     .service(Forward::new(connector, ForwardTimeouts::default()));
///
/// let request = Request::get("/files/x").body(Full::<Bytes>::default())?;
/// let response = stack.oneshot(request).await?;
/// assert_eq!(response.into_body().collect().await?.to_bytes(), "hello");
/// # Ok(())
/// # }
/// ```
pub struct Forward<C, B> {
    pool: Arc<Pool<C, B>>,
    /// The connections to services with a connector of their own.
    other_pools: Arc<[(ServiceId, Arc<Pool<C, B>>)]>,
    /// `Some` if requests without an authorized user have connections of their own.
    unauthorized_pool: Option<Arc<Pool<C, B>>>,
    states: Arc<InstanceStates>,
    shared: Arc<Shared>,
    last: Option<LastRoute<C, B>>,
    peer: PeerValues,
}

#[derive(Default)]
struct Shared {
    cookies: CookieNames,
    /// `None` if WebSocket is not forwarded.
    tunnels: Option<Arc<Tunnels>>,
}

/// The route of the last request. The next request usually has the same route. In this case, the next request finds the
/// connections of the route here. So it does not need the lock of the pool, for which all threads compete.
struct LastRoute<C, B> {
    route: Arc<Route>,
    /// The generation of the instances in `targets`.
    generation: u64,
    /// Whether the last request had no authorized user, and [`Forward::unauthorized_pool`] exists.
    is_unauthorized: bool,
    targets: Arc<ServiceTargets<C, B>>,
    until_deposit: RequestsUntilDeposit,
    /// The value of `X-Forwarded-Prefix`.
    prefix: Option<HeaderValue>,
}

/// A client chooses the instance of a service with this header. The service does not receive it.
static X_INSTANCE_ID: HeaderName = HeaderName::from_static("x-instanceid");

const MAX_CONNECTIONS: NonZeroUsize = NonZeroUsize::new(256).expect("should not be zero");

impl<C, B> Forward<C, B> {
    /// Creates a `Forward` that connects to the services with `connector`, and opens up to 256 connections to one
    /// instance of a service.
    pub fn new(connector: C, timeouts: ForwardTimeouts) -> Self {
        let settings = PoolSettings {
            timeouts,
            max_connections: MAX_CONNECTIONS,
            counts: Arc::default(),
            http2: Http2Settings::default(),
        };
        Self {
            pool: Arc::new(ConnectionPool::new(connector, settings, None)),
            other_pools: Arc::new([]),
            unauthorized_pool: None,
            states: Arc::default(),
            shared: Arc::default(),
            last: None,
            peer: PeerValues::default(),
        }
    }

    /// Connects to `service` with `connector`, instead of the connector of [`new`](Self::new). One use is a client
    /// certificate for one service. The service does not share connections with other services, even if they have the
    /// same address. A later call for the same service replaces the connector.
    #[must_use]
    pub fn with_connector_of(self, service: ServiceId, connector: C) -> Self {
        let pool = self.pool_with(connector);
        let others = self.other_pools.iter().filter(|(other, _)| *other != service).cloned();
        let other_pools = others.chain([(service.clone(), pool)]).collect();
        Self { other_pools, last: None, ..self }
    }

    /// Connects with `connector` for requests without an authorized user. Such requests are forwarded on routes whose
    /// [`OnFailure`](crate::layer::OnFailure) permits this, and on routes with the scheme
    /// [`Bypass`](crate::layer::Bypass).
    ///
    /// Use this if the other connectors present a client certificate of the gateway. A service may treat each request
    /// on such a connection as a request of the gateway itself. For requests without an authorized user, `connector`
    /// replaces the connectors of all services. The only exception is a service with a connector [of its
    /// own](Self::with_connector_of), on a route with the scheme `Bypass`.
    #[must_use]
    pub fn with_unauthorized_connector(self, connector: C) -> Self {
        let pool = self.pool_with(connector);
        Self { unauthorized_pool: Some(pool), last: None, ..self }
    }

    /// Records in `states` the health of each instance and the number of its requests in flight. Another part of the
    /// program can read them there.
    #[must_use]
    pub fn with_instance_states(self, states: Arc<InstanceStates>) -> Self {
        Self { states, last: None, ..self }
    }

    /// Returns a handle to the connections. Use it to retire connections after an address of a host name has changed.
    pub fn connections(&self) -> ServiceConnections<C, B> {
        let others = self.other_pools.iter().map(|(_, pool)| pool);
        let pools = others.chain(&self.unauthorized_pool).chain([&self.pool]);
        ServiceConnections { pools: pools.map(Arc::downgrade).collect() }
    }

    fn pool_with(&self, connector: C) -> Arc<Pool<C, B>> {
        let settings = self.pool.settings().clone();
        Arc::new(ConnectionPool::new(connector, settings, self.pool.negotiation()))
    }

    /// Sets the names of the cookies that contain tokens of the gateway. A service cannot set these cookies.
    #[must_use]
    pub fn with_cookie_names(self, names: CookieNames) -> Self {
        let shared = Shared { cookies: names, tunnels: self.shared.tunnels.clone() };
        Self { shared: Arc::new(shared), ..self }
    }

    /// Forwards WebSockets of HTTP/1.1 clients, in addition to HTTP. Also ends event streams and calls of gRPC when the
    /// credential of their request is no longer valid. Without this call, the gateway ignores `Upgrade`, and
    /// the request is forwarded as a normal request.
    ///
    /// The stack must begin with a [`SanitizeLayer`](crate::layer::SanitizeLayer), which refuses the handshakes of web
    /// pages of other origins. The HTTP server must support upgrades of hyper, as a [`tls::Server`](crate::tls::Server)
    /// does. With another server, call [`Tunnels::shut_down`] when the program stops.
    #[must_use]
    pub fn with_tunnels(self, tunnels: Arc<Tunnels>) -> Self {
        let shared = Shared { cookies: self.shared.cookies.clone(), tunnels: Some(tunnels) };
        Self { shared: Arc::new(shared), ..self }
    }
}

/// The connections of a [`Forward`] and of its clones. This value does not keep the connections open.
pub struct ServiceConnections<C, B> {
    pools: Box<[Weak<Pool<C, B>>]>,
}

impl<C, B> ServiceConnections<C, B> {
    /// Closes the connections to the host `name`: idle connections now, and connections in use at the end of their
    /// exchange. New connections are made to the current addresses of the name. Call this if the name has lost an
    /// address. Without this call, a connection to the old address stays in use as long as requests keep it busy.
    pub fn retire(&self, name: &str) {
        self.pools.iter().filter_map(Weak::upgrade).for_each(|pool| pool.retire(name));
    }

    /// Returns whether the [`Forward`], one of its clones, or a request that waits for its response still exists.
    pub fn are_used(&self) -> bool {
        self.pools.iter().any(|pool| pool.strong_count() > 0)
    }
}

impl<C, B> fmt::Debug for ServiceConnections<C, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceConnections").finish_non_exhaustive()
    }
}

impl<C: Clone, B> Forward<C, B> {
    /// Sets the maximum number of connections to one instance of a service, which is one host and port. The limit
    /// covers connections in use and idle connections of all runtimes. Each connector
    /// ([`with_connector_of`](Self::with_connector_of),
    /// [`with_unauthorized_connector`](Self::with_unauthorized_connector)) has a limit of its own. Default: 256.
    ///
    /// At the limit, requests wait. In each runtime, the request that has waited longest is usually served first. After
    /// [`ForwardTimeouts::queue`], the response is 503 with `Retry-After` ([D28](crate::decisions#d28)). The returned
    /// value shares no connections with clones that were made before this call.
    #[must_use]
    pub fn with_max_connections(self, max_connections: NonZeroUsize) -> Self {
        let settings = PoolSettings { max_connections, ..self.pool.settings().clone() };
        let negotiation = self.pool.negotiation();
        self.with_settings(settings, negotiation)
    }

    /// Counts connections and requests in `counts`. The returned value shares no connections with clones that were made
    /// before this call.
    #[must_use]
    pub fn with_counts(self, counts: Arc<ForwardCounts>) -> Self {
        let settings = PoolSettings { counts, ..self.pool.settings().clone() };
        let negotiation = self.pool.negotiation();
        self.with_settings(settings, negotiation)
    }

    /// Offers HTTP/2 by ALPN to services with TLS whose route has [`ServiceProtocol::Auto`]. If a service chooses
    /// HTTP/2, its requests share connections. The returned value shares no connections with clones that were made
    /// before this call.
    ///
    /// [`ServiceProtocol::Auto`]: crate::layer::ServiceProtocol::Auto
    #[must_use]
    pub fn with_http2(self, http2: Http2Settings) -> Self
    where
        C: NegotiateHttp2<Response: 'static>,
    {
        let settings = PoolSettings { http2, ..self.pool.settings().clone() };
        self.with_settings(settings, Some(Negotiation::new()))
    }

    fn with_settings(self, settings: PoolSettings, negotiation: Option<Negotiation<C>>) -> Self {
        let change =
            |pool: &Arc<Pool<C, B>>| Arc::new(pool.with_settings(settings.clone(), negotiation));
        let others = self.other_pools.iter().map(|(service, pool)| (service.clone(), change(pool)));
        let other_pools = others.collect();
        let unauthorized_pool = self.unauthorized_pool.as_ref().map(change);
        let pool = change(&self.pool);
        Self { pool, other_pools, unauthorized_pool, last: None, ..self }
    }
}

impl<C, B> Clone for Forward<C, B> {
    fn clone(&self) -> Self {
        Self {
            pool: self.pool.clone(),
            other_pools: self.other_pools.clone(),
            unauthorized_pool: self.unauthorized_pool.clone(),
            states: self.states.clone(),
            shared: self.shared.clone(),
            last: None,
            peer: PeerValues::default(),
        }
    }
}

impl<C, B> fmt::Debug for Forward<C, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forward")
            .field("response_timeout", &self.pool.settings().timeouts.response())
            .finish_non_exhaustive()
    }
}

impl<C, B> Forward<C, B>
where
    C: Service<Uri, Error: Into<BoxError>, Future: Send> + Clone + Send + 'static,
    C::Response: Read + Write + Unpin + Send + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    fn begin(
        &mut self,
        mut request: Request<B>,
        target: &RequestTarget,
        progress: &Progress,
        upgrade: Option<&ClientUpgrade>,
    ) -> Result<Begun<C, B>, BeginError> {
        let RequestTarget { route, user, .. } = target;
        let instances = route.instances().ok_or(NoInstance::Empty)?;
        let is_authenticated = user.is_some();
        let is_unauthorized = !is_authenticated && self.unauthorized_pool.is_some();
        let generation = instances.generation();
        let last = match &mut self.last {
            Some(last)
                if Arc::ptr_eq(&last.route, route)
                    && last.is_unauthorized == is_unauthorized
                    && last.generation == generation =>
            {
                last
            }
            last => {
                let own = self.other_pools.iter().find(|(other, _)| other == route.service());
                let own = own.map(|(_, pool)| pool);
                let pool = match &self.unauthorized_pool {
                    Some(unauthorized)
                        if is_unauthorized && (own.is_none() || !route.is_bypass()) =>
                    {
                        unauthorized
                    }
                    _ => own.unwrap_or(&self.pool),
                };
                let pool = pool.clone();
                let targets = ServiceTargets::new(route, instances, pool, &self.states)?;
                last.insert(LastRoute {
                    route: route.clone(),
                    generation,
                    is_unauthorized,
                    targets: Arc::new(targets),
                    until_deposit: RequestsUntilDeposit::new(),
                    prefix: HeaderValue::from_str(route.prefix()).ok(),
                })
            }
        };
        let wanted = request.headers_mut().remove(&X_INSTANCE_ID);
        let chosen = match &wanted {
            None => Wanted::Any(*user),
            Some(id) => Wanted::Id(id.as_bytes()),
        };
        let at = last.targets.choose(chosen)?;
        last.until_deposit.add(&last.targets.budget);
        let timeouts = self.pool.settings().timeouts;
        let upload = upload(&request, || {
            let upstream = last.targets.get(at).upstream();
            last.targets.pool.may_use_http2(upstream, route.protocol())
        });
        let receive = match upload {
            Upload::None => None,
            Upload::Finite => Some(Receive::new(timeouts.receive())),
            Upload::Endless => Some(Receive::new(timeouts.receive()).only_over_http1()),
        };
        let ServiceRequest { request, accepts_trailers, client } =
            service_request(request, last, at, progress, receive, &mut self.peer, upgrade)?;
        // If no user is authenticated, the scheme has added no credential.
        let credential = match route.replay() {
            Replay::Protected if is_authenticated => Credential::Single(client),
            Replay::Protected | Replay::Allowed => Credential::Repeatable(client.extensions),
        };
        let watch = match (upload, &self.shared.tunnels) {
            (Upload::Endless, Some(tunnels)) => {
                StreamCredential::of(tunnels, credential.extensions(), route)
            }
            _ => None,
        };
        let targets = match upgrade {
            None => last.targets.clone(),
            // WebSocket needs HTTP/1.1, although the other requests to the service may use HTTP/2.
            Some(_) => Arc::new(last.targets.with_protocol(ServiceProtocol::Http1)?),
        };
        let (replay, timeout) = (credential.replay(), response_timeout(route, &timeouts, upgrade));
        let is_chosen_by_client = wanted.is_some();
        let attempt =
            Attempt::new(targets, at, *user, is_chosen_by_client, replay, timeout, progress);
        let exchange = Exchange::begin(attempt, request, progress);
        Ok(Begun { exchange, credential, accepts_trailers, watch })
    }
}

#[derive(Debug)]
enum BeginError {
    Build(http::Error),
    NoInstance(NoInstance),
}

impl BeginError {
    fn cause(&self) -> Cause {
        match self {
            Self::Build(_) => Cause::Internal,
            Self::NoInstance(NoInstance::UnknownId) => Cause::Gateway,
            Self::NoInstance(NoInstance::Empty) => Cause::Service,
        }
    }
}

impl From<http::Error> for BeginError {
    fn from(error: http::Error) -> Self {
        Self::Build(error)
    }
}

impl From<NoInstance> for BeginError {
    fn from(error: NoInstance) -> Self {
        Self::NoInstance(error)
    }
}

struct Begun<C, B> {
    exchange: Exchange<C, B>,
    credential: Credential,
    accepts_trailers: bool,
    /// Watches the credential while the request waits for its response. If the response is endless, the body of the
    /// response then gets this watch. Only for [`Upload::Endless`].
    watch: Option<Box<StreamCredential>>,
}

impl<C, B> Service<Request<B>> for Forward<C, B>
where
    C: Service<Uri, Error: Into<BoxError>, Future: Send> + Clone + Send + 'static,
    C::Response: Read + Write + Unpin + Send + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = ForwardFuture<C, B>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let target = match target_of(request.extensions()) {
            Ok(target) => target,
            Err(rejection) => return ForwardFuture::answered(rejection.into_response()),
        };
        let upgrade = match &self.shared.tunnels {
            None => None,
            Some(tunnels) => match ClientUpgrade::begin(tunnels, &mut request, &target.route) {
                Ok(upgrade) => upgrade,
                Err(refused) => return ForwardFuture::answered(*refused),
            },
        };
        let facts = request.extensions().get::<RequestFacts>();
        if let Some(facts) = facts {
            facts.set_forwarded();
        }
        let progress = Progress::start(request.body(), facts);
        let begun = self.begin(request, &target, &progress, upgrade.as_deref());
        let RequestTarget { route, user, watched, is_restricted } = target;
        match begun {
            Ok(Begun { exchange, credential, accepts_trailers, watch }) => ForwardFuture {
                state: State::Waiting {
                    exchange,
                    credential,
                    watch,
                    accepts_trailers,
                    body_timeout: route
                        .body_timeout()
                        .unwrap_or(self.pool.settings().timeouts.body()),
                    progress,
                    route,
                    user,
                    watched,
                    is_restricted,
                    shared: self.shared.clone(),
                    upgrade,
                },
            },
            Err(error) => {
                if let Some(facts) = progress.facts() {
                    facts.end_now(error.cause());
                }
                ForwardFuture::answered(not_begun(&error, &route))
            }
        }
    }
}

#[cold]
fn not_begun(error: &BeginError, route: &Route) -> Response<ResponseBody> {
    let service = route.service();
    match error {
        BeginError::NoInstance(NoInstance::UnknownId) => {
            let message = ApiMessage::new(&messages::UNEXPECTED_STATUS);
            gateway_response(message, StatusCode::NOT_FOUND, ServiceFailure::UnknownInstance)
        }
        BeginError::NoInstance(NoInstance::Empty) => {
            log_limited!(warn, ("no instance", service), { %service }, "cannot reach the service: it has no instance");
            no_response(route, NoResponse::Unreachable)
        }
        BeginError::Build(error) => {
            log_limited!(error, ("cannot build the request", service), { %service, %error }, "cannot build the request to the service");
            let message = ApiMessage::new(&messages::INTERNAL);
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            gateway_response(message, status, ServiceFailure::Broken)
        }
    }
}

struct RequestTarget {
    /// A route with instances.
    route: Arc<Route>,
    /// The user for whom the scheme has prepared the request.
    user: Option<UserId>,
    /// The PassTicket of the request, if the scheme must learn how the service answers the request.
    watched: Option<Watched>,
    /// Whether the credential permits only some requests to the service.
    is_restricted: bool,
}

fn target_of(extensions: &Extensions) -> Result<RequestTarget, Rejection> {
    let (route, user, sent) =
        match (extensions.get::<ReadyToForward>(), extensions.get::<Arc<Route>>()) {
            (Some(ready), _) => (ready.route(), ready.user().copied(), ready.sent()),
            (None, Some(route)) if route.is_bypass() => (route, None, None),
            (None, Some(_)) => {
                return Err(Rejection::misassembled("Forward needs SchemeLayer before it"));
            }
            (None, None) => {
                return Err(Rejection::misassembled("Forward needs RouteLayer before it"));
            }
        };
    match route.instances() {
        Some(_) => {
            let watched = sent.map(|sent| sent.watched);
            let authorized =
                extensions.get::<ReadyToForward>().and_then(ReadyToForward::authorized);
            let is_restricted = authorized.is_some_and(Authorized::is_restricted);
            Ok(RequestTarget { route: route.clone(), user, watched, is_restricted })
        }
        None => Err(Rejection::misassembled("Forward needs an upstream; Route::local has none")),
    }
}

#[derive(Clone, Copy)]
enum Upload {
    None,
    /// The client must send the body with a minimum speed.
    Finite,
    /// The body of a gRPC call to a service that may use HTTP/2. Over HTTP/2, the client may pause for any time, so the
    /// call may last longer than its credential is valid. If the [`Forward`] has [`Tunnels`], the gateway ends the call
    /// when the credential is no longer valid.
    Endless,
}

/// Determines the kind of a request's body. gRPC needs HTTP/2. So the body of a gRPC call counts as finite if the
/// connection to the service cannot use HTTP/2.
fn upload<B: Body>(request: &Request<B>, may_use_http2: impl FnOnce() -> bool) -> Upload {
    if request.body().is_end_stream() {
        return Upload::None;
    }
    let is_grpc = request.headers().get(CONTENT_TYPE).is_some_and(content_type::is_grpc);
    if is_grpc && may_use_http2() { Upload::Endless } else { Upload::Finite }
}

struct ServiceRequest<B> {
    request: Request<RequestBody<B>>,
    accepts_trailers: bool,
    /// Parts of the client's request that the gateway keeps, because the scheme may need them to make another
    /// credential.
    client: ClientHead,
}

fn service_request<C, B: Body>(
    request: Request<B>,
    LastRoute { route, targets, prefix, .. }: &LastRoute<C, B>,
    at: usize,
    progress: &Progress,
    receive: Option<Receive>,
    peer: &mut PeerValues,
    upgrade: Option<&ClientUpgrade>,
) -> Result<ServiceRequest<B>, http::Error> {
    let (mut head, body) = request.into_parts();
    let accepts_trailers = strip_request_hop_by_hop(&mut head.headers);
    cookie::join(&mut head.headers);
    let headers = &mut head.headers;
    if accepts_trailers {
        // `Connection` must name the header `TE` (RFC 9110 §10.1.4).
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
    if upgrade.is_some() {
        ClientUpgrade::add_headers(headers);
    }
    let has_unknown_length = !body.is_end_stream() && body.size_hint().exact().is_none();
    if has_unknown_length && !headers.contains_key(CONTENT_LENGTH) {
        // Without this header, hyper assumes that a GET request has no body, and drops the body.
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let connection = head.extensions.get::<ConnectionInfo>();
    let target = targets.get(at);
    let service = ServiceHeaders { host: target.host.host(), prefix: prefix.as_ref() };
    set_forwarded(&mut head.headers, &head.uri, service, connection, peer);
    // The id is added after the hop-by-hop headers were removed. So a client cannot remove the id with
    // `Connection: x-request-id`.
    if let Some(id) = head.extensions.get::<RequestId>() {
        head.headers.insert(&X_REQUEST_ID, id.header_value());
    }
    let path = route.southbound_path_below(target.upstream().base_path(), &head.uri);
    let path = PathAndQuery::from_maybe_shared(Bytes::from(path))?;
    head.version = Version::HTTP_11;
    let trailers = head.extensions.get().cloned();
    let client = ClientHead {
        method: head.method.clone(),
        uri: mem::replace(&mut head.uri, Uri::from(path)),
        // The extensions describe the connection of the client, so the gateway does not forward them.
        extensions: mem::take(&mut head.extensions),
    };
    let max_size = route.limits().and_then(RouteLimits::max_body);
    let body = RequestBody::new(body, progress.clone(), receive, trailers, max_size);
    let request = Request::from_parts(head, body);
    Ok(ServiceRequest { request, accepts_trailers, client })
}

pin_project! {
    /// The future that [`Forward`] returns. Its output is the response of the service, or a response of
    /// the gateway that reports a failure.
    pub struct ForwardFuture<C, B> {
        #[pin]
        state: State<C, B>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<C, B> {
        Waiting {
            exchange: Exchange<C, B>,
            credential: Credential,
            watch: Option<Box<StreamCredential>>,
            accepts_trailers: bool,
            body_timeout: Duration,
            progress: Progress,
            route: Arc<Route>,
            user: Option<UserId>,
            watched: Option<Watched>,
            is_restricted: bool,
            shared: Arc<Shared>,
            upgrade: Option<Box<ClientUpgrade>>,
        },
        Answered { response: Option<Response<ResponseBody>> },
    }
}

impl<C, B> ForwardFuture<C, B> {
    fn answered(response: Response<ResponseBody>) -> Self {
        Self { state: State::Answered { response: Some(response) } }
    }
}

impl<C, B> fmt::Debug for ForwardFuture<C, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwardFuture").finish_non_exhaustive()
    }
}

impl<C, B> Future for ForwardFuture<C, B>
where
    C: Service<Uri, Error: Into<BoxError>, Future: Send> + Clone + Send + 'static,
    C::Response: Read + Write + Unpin + Send + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    type Output = Result<Response<ResponseBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Answered { response } => {
                Poll::Ready(Ok(response.take().expect("polled after completion")))
            }
            StateProj::Waiting {
                exchange,
                credential,
                watch,
                accepts_trailers,
                body_timeout,
                progress,
                route,
                user,
                watched,
                is_restricted,
                shared,
                upgrade,
            } => {
                let Poll::Ready(answered) = exchange.poll(cx, progress, credential) else {
                    let Some(watch) = watch else { return Poll::Pending };
                    ready!(watch.poll_end(cx));
                    if let Some(facts) = progress.facts() {
                        facts.end_now(Cause::Gateway);
                    }
                    let message = ApiMessage::new(&messages::UNAUTHORIZED);
                    let failure = ServiceFailure::CredentialEnded;
                    let status = StatusCode::UNAUTHORIZED;
                    return Poll::Ready(Ok(gateway_response(message, status, failure)));
                };
                if let (Some(watched), Some(user)) = (*watched, *user) {
                    report(route, user, watched, &answered, credential.extensions());
                }
                let context = response_head::Context {
                    route,
                    upstream: exchange.upstream(),
                    cookies: &shared.cookies,
                    is_authenticated: user.is_some(),
                    is_restricted: *is_restricted,
                    accepts_trailers: *accepts_trailers,
                };
                let mut response = match (answered, upgrade.take()) {
                    (Ok(response), _) => response,
                    (Err(ExchangeError::SwitchedProtocols(service)), Some(upgrade)) => {
                        let switched = upgrade.switch(service, &context);
                        return Poll::Ready(Ok(switched.unwrap_or_else(|invalid| {
                            end_in_head(progress);
                            invalid_answer(route, exchange.upstream(), invalid)
                        })));
                    }
                    (Err(error), _) => {
                        let failure = ExchangeFailure::of(&error, progress);
                        if let Some(facts) = progress.facts() {
                            facts.end(failure.termination());
                        }
                        let (upstream, timeout) = (exchange.upstream(), exchange.timeout());
                        return Poll::Ready(Ok(failure.into_response(route, upstream, timeout)));
                    }
                };
                Poll::Ready(Ok(match response_head::prepare(&mut response, &context) {
                    Ok(kind) => {
                        let limit = match kind {
                            BodyKind::Events => None,
                            BodyKind::Message => Some(*body_timeout),
                        };
                        response.body_mut().limit_pauses(limit);
                        match (kind, &shared.tunnels) {
                            (BodyKind::Events, Some(tunnels)) => {
                                let watch = watch.take().or_else(|| {
                                    StreamCredential::of(tunnels, credential.extensions(), route)
                                });
                                end_with_credential(response, watch)
                            }
                            _ => response,
                        }
                    }
                    Err(UnknownCoding) => {
                        end_in_head(progress);
                        unknown_coding(route, exchange.upstream())
                    }
                }))
            }
        }
    }
}

/// Tells the scheme how the service has answered a request with a PassTicket. If there was no connection to the
/// service, records that the PassTicket was not sent.
fn report(
    route: &Route,
    user: UserId,
    watched: Watched,
    answered: &Result<Response<ResponseBody>, ExchangeError>,
    extensions: &Extensions,
) {
    let answer = |status, headers: &HeaderMap| {
        route.scheme().answered(&TicketAnswer { user, watched, status, headers, extensions });
    };
    match answered {
        Ok(response) => answer(response.status(), response.headers()),
        Err(ExchangeError::SwitchedProtocols(_)) => {
            answer(StatusCode::SWITCHING_PROTOCOLS, &HeaderMap::new());
        }
        Err(ExchangeError::Connect(_)) => {
            if let Some(sent) = extensions.get::<ReadyToForward>().and_then(ReadyToForward::sent) {
                sent.set_not_sent();
            }
        }
        Err(ExchangeError::Interrupted(_) | ExchangeError::TimedOut) => {}
    }
}

/// Ends an endless response when the credential of its request is no longer valid.
#[cold]
fn end_with_credential(
    response: Response<ResponseBody>,
    watch: Option<Box<StreamCredential>>,
) -> Response<ResponseBody> {
    match watch {
        Some(watch) => {
            let is_grpc = response.headers().get(CONTENT_TYPE).is_some_and(content_type::is_grpc);
            response.map(|body| body.with_end(watch, is_grpc))
        }
        None => response,
    }
}

fn response_timeout(
    route: &Route,
    timeouts: &ForwardTimeouts,
    upgrade: Option<&ClientUpgrade>,
) -> Duration {
    let response = route.response_timeout().unwrap_or(timeouts.response());
    upgrade.map_or(response, |upgrade| response.min(upgrade.timeout()))
}

#[cold]
fn invalid_answer(
    route: &Route,
    upstream: &Upstream,
    invalid: InvalidAnswer,
) -> Response<ResponseBody> {
    let service = route.service();
    log_limited!(warn, ("websocket", service, invalid), { %service, %upstream, error = %invalid }, "response refused: the service answered a WebSocket handshake incorrectly");
    no_response(route, NoResponse::Broken)
}

#[cold]
fn unknown_coding(route: &Route, upstream: &Upstream) -> Response<ResponseBody> {
    let service = route.service();
    let cause = ("coding", service, upstream.to_string());
    log_limited!(warn, cause, { %service, %upstream }, "response refused: the service sent a transfer coding other than chunked");
    no_response(route, NoResponse::Broken)
}

#[cold]
fn end_in_head(progress: &Progress) {
    if let Some(facts) = progress.facts() {
        facts.end(Termination { cause: Cause::Gateway, stage: Stage::Head });
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{
            Mutex,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use http_body_util::{BodyExt, Full};
    use hyper::body::Frame;
    use hyper_util::rt::TokioIo;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        sync::oneshot,
        time::{Instant, sleep, timeout},
    };
    use tower::{ServiceExt, service_fn};

    use super::*;
    use crate::{
        layer::{Bypass, Route, Upstream},
        token::ServiceId,
    };

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn bypass() -> Arc<Route> {
        let upstream = Upstream::parse("http://service").unwrap();
        let service = ServiceId::new("service").unwrap();
        Arc::new(Route::new(service, "", upstream, Bypass).unwrap())
    }

    /// The connector panics at its second call.
    fn connector(
        stream: DuplexStream,
    ) -> impl Service<Uri, Response = TokioIo<DuplexStream>, Error = io::Error, Future: Send>
    + Clone
    + Send
    + 'static {
        let stream = Arc::new(Mutex::new(Some(stream)));
        service_fn(move |_: Uri| {
            let stream = stream.lock().unwrap().take().unwrap();
            async { Ok(TokioIo::new(stream)) }
        })
    }

    /// Answers each request. The path of a request contains the number of seconds to wait before the answer.
    async fn serve(mut stream: DuplexStream) {
        let mut request = Vec::new();
        while stream.read_buf(&mut request).await.is_ok_and(|read| read > 0) {
            if request.ends_with(b"\r\n\r\n") {
                let line = String::from_utf8(request.split_off(0)).unwrap();
                let secs = line.split(['/', ' ']).nth(2).unwrap().parse().unwrap();
                sleep(Duration::from_secs(secs)).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn host_pools_of_unused_instances_are_removed() {
        let connector = service_fn(move |_: Uri| {
            let (ours, theirs) = duplex(4096);
            tokio::spawn(serve(theirs));
            async { Ok::<_, io::Error>(TokioIo::new(ours)) }
        });
        let idle = Duration::from_secs(60);
        let timeouts = ForwardTimeouts::default().with_response(2 * idle).with_idle(idle);
        let forward = Forward::new(connector, timeouts);
        let send = |host: &str, path: &str| {
            let upstream = Upstream::parse(&format!("http://{host}")).unwrap();
            let service = ServiceId::new("service").unwrap();
            let route = Arc::new(Route::new(service, "", upstream, Bypass).unwrap());
            let request = Request::get(path).extension(route);
            forward.clone().oneshot(request.body(Full::<Bytes>::default()).unwrap())
        };
        for number in 0..100 {
            assert_eq!(send(&format!("host{number}"), "/service/0").await.unwrap().status(), 200);
        }
        // This clone refers to the instance of its last request.
        let mut last = forward.clone();
        let request = Request::get("/service/0").extension(bypass());
        let request = request.body(Full::<Bytes>::default()).unwrap();
        assert_eq!(last.call(request).await.unwrap().status(), 200);
        let busy = tokio::spawn(send("busy", "/service/110"));
        assert_eq!(forward.pool.hosts(), 101);
        sleep(idle / 2).await;
        assert_eq!(forward.pool.hosts(), 102);
        assert_eq!(busy.await.unwrap().unwrap().status(), 200);
        sleep(4 * idle).await;
        assert_eq!(forward.pool.hosts(), 1, "only the host of `last` is left");
        drop(last);
        sleep(3 * idle).await;
        assert_eq!(forward.pool.hosts(), 0);
        assert_eq!(send("host0", "/service/0").await.unwrap().status(), 200);
        assert_eq!(forward.pool.hosts(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn each_exchange_on_a_pooled_connection_has_its_own_deadline() {
        let connected = Arc::new(AtomicUsize::new(0));
        let counted = connected.clone();
        let connector = service_fn(move |_: Uri| {
            counted.fetch_add(1, Ordering::Relaxed);
            let (ours, theirs) = duplex(4096);
            tokio::spawn(serve(theirs));
            async { Ok::<_, io::Error>(TokioIo::new(ours)) }
        });
        let timeouts =
            ForwardTimeouts::default().with_response(TIMEOUT).with_idle(Duration::from_secs(60));
        let forward = Forward::new(connector, timeouts);
        struct Case {
            pause: u64,
            answer: u64,
            /// The status, and the seconds until the client receives it.
            want: (u16, u64),
        }
        // The first exchange sets the timer of the connection to ten seconds.
        for Case { pause, answer, want } in [
            Case { pause: 0, answer: 0, want: (200, 0) },
            Case { pause: 9, answer: 6, want: (200, 6) },
            Case { pause: 30, answer: 9, want: (200, 9) },
            Case { pause: 5, answer: 99, want: (504, 10) },
        ] {
            sleep(Duration::from_secs(pause)).await;
            let path = format!("/service/{answer}");
            let request = Request::get(path).extension(bypass());
            let request = request.body(Full::<Bytes>::default()).unwrap();
            let start = Instant::now();
            let response = forward.clone().oneshot(request).await.unwrap();
            let got = (response.status().as_u16(), start.elapsed().as_secs());
            assert_eq!(got, want, "pause of {pause} s, answer after {answer} s");
            drop(response.into_body().collect().await.unwrap());
        }
        assert_eq!(connected.load(Ordering::Relaxed), 1);
    }

    /// The body timeout is much longer than the response timeout. Both timeouts use one timer.
    #[tokio::test(start_paused = true)]
    async fn a_long_body_does_not_delay_the_deadline_of_the_next_exchange() {
        const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n";
        let (ours, mut theirs) = duplex(1024);
        tokio::spawn(async move {
            theirs.read_u8().await.unwrap();
            theirs.write_all(OK.as_bytes()).await.unwrap();
            for byte in *b"body" {
                sleep(2 * TIMEOUT).await;
                theirs.write_u8(byte).await.unwrap();
            }
            theirs.read_to_end(&mut Vec::new()).await.unwrap();
        });
        let timeouts = ForwardTimeouts::default().with_response(TIMEOUT);
        let forward = Forward::new(connector(ours), timeouts);
        for (want, secs) in [(200, 0), (504, TIMEOUT.as_secs())] {
            let request = Request::get("/service/x").extension(bypass());
            let start = Instant::now();
            let response = forward.clone().oneshot(request.body(Full::<Bytes>::default()).unwrap());
            let response = response.await.unwrap();
            assert_eq!((response.status().as_u16(), start.elapsed().as_secs()), (want, secs));
            drop(response.into_body().collect().await.unwrap());
        }
    }

    /// A waiting request may get a connection that is closed before the request is sent. The request then waits again.
    #[tokio::test(start_paused = true)]
    async fn the_queue_limit_covers_all_waits_of_a_request() {
        let services = Arc::new(Mutex::new(Vec::new()));
        let connected = services.clone();
        let connector = service_fn(move |_: Uri| {
            let (ours, theirs) = duplex(4096);
            connected.lock().unwrap().push(theirs);
            async { Ok::<_, io::Error>(TokioIo::new(ours)) }
        });
        let timeouts = ForwardTimeouts::default().with_queue(Duration::from_secs(5));
        let forward = Forward::new(connector, timeouts).with_max_connections(NonZeroUsize::MIN);
        let send = || {
            let request = Request::get("/service/x").extension(bypass());
            let request = request.body(Full::<Bytes>::default()).unwrap();
            tokio::spawn(forward.clone().oneshot(request))
        };
        let first = send();
        sleep(Duration::from_secs(1)).await;
        let start = Instant::now();
        let (second, third) = (send(), send());
        sleep(Duration::from_secs(4)).await;
        let mut service = services.lock().unwrap().pop().unwrap();
        service.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n").await.unwrap();
        let response = first.await.unwrap().unwrap();
        service.write_all(b"ok").await.unwrap();
        // When the body ends, the connection is assigned to the second request. The connection is closed before the
        // task of the second request runs.
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "ok");
        drop(service);
        // Now the third request has the only slot, and gets no response.
        assert_eq!(second.await.unwrap().unwrap().status(), 503);
        assert_eq!(start.elapsed().as_secs(), 5);
        assert_eq!(services.lock().unwrap().len(), 1);
        third.abort();
    }

    /// Each informational response wakes the exchange, but must not restart the timer.
    #[tokio::test(start_paused = true)]
    async fn informational_responses_do_not_delay_the_response_timeout() {
        let (ours, mut theirs) = duplex(1024);
        tokio::spawn(async move {
            loop {
                sleep(TIMEOUT / 12).await;
                let hints = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n";
                if theirs.write_all(hints).await.is_err() {
                    return;
                }
            }
        });
        let timeouts = ForwardTimeouts::default().with_response(TIMEOUT);
        let forward = Forward::new(connector(ours), timeouts);
        let request = Request::get("/service/x").extension(bypass());
        let start = Instant::now();
        let response = forward.oneshot(request.body(Full::<Bytes>::default()).unwrap()).await;
        assert_eq!(response.unwrap().status(), 504);
        assert_eq!(start.elapsed().as_secs(), TIMEOUT.as_secs());
    }

    /// Sends a response after the first byte of the request. Then reads the rest of the request, and sends the length
    /// of this rest to `rest_length`.
    async fn answer_early(
        mut stream: DuplexStream,
        answer: &'static str,
        rest_length: oneshot::Sender<usize>,
    ) {
        stream.read_u8().await.unwrap();
        stream.write_all(answer.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        rest_length.send(rest.len()).unwrap();
    }

    #[tokio::test]
    async fn the_whole_request_is_sent_after_an_early_response() {
        const LARGE: usize = 32 * 1024;
        const EMPTY: &str = "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n";
        const FULL: &str = "HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\nok";
        const HALF: &str = "HTTP/1.1 202 Accepted\r\ncontent-length: 9\r\n\r\nhalf";
        for (header, body, answer) in [
            (0, LARGE, EMPTY),
            (0, LARGE, FULL),
            // The client disconnects before it has read all of the response.
            (0, LARGE, HALF),
            (LARGE, 0, EMPTY),
            (LARGE, 0, FULL),
            (LARGE, 0, HALF),
        ] {
            let (rest_length, received) = oneshot::channel();
            // hyper buffers the whole request, but the service accepts few bytes at a time.
            let (ours, theirs) = duplex(1024);
            tokio::spawn(answer_early(theirs, answer, rest_length));
            let forward = Forward::new(connector(ours), ForwardTimeouts::default());
            let request = Request::post("/service/x").extension(bypass());
            let request = request.header("x-large", "x".repeat(header));
            let request = request.body(Full::<Bytes>::from(vec![b'y'; body])).unwrap();
            let mut response = forward.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), 202);
            if answer != EMPTY {
                response.frame().await.unwrap().unwrap();
            }
            drop(response);
            let rest = timeout(TIMEOUT, received).await.expect("the request did not end").unwrap();
            assert!(rest > LARGE, "rest of {rest} bytes: header {header}, body {body}, {answer:?}");
        }
    }

    /// A body of this number of pieces. Each piece has 16 KiB.
    struct Pieces(usize);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let left = self.0.checked_sub(1);
            self.0 = left.unwrap_or_default();
            Poll::Ready(left.map(|_| Ok(Frame::data(Bytes::from_static(&[b'y'; 16 * 1024])))))
        }
    }

    /// The behaviour of the service after it has sent the first bytes of its response.
    #[derive(Clone, Copy, Debug)]
    enum AfterAnswer {
        /// Reads the request a little at a time. This takes many times the response timeout.
        ReadsSlowly,
        /// Reads nothing until the response timeout is over.
        ReadsNothing,
        /// Waits for many times the response timeout. Then it sends the rest of the response and reads
        /// the rest of the request.
        Pauses,
    }

    #[tokio::test(start_paused = true)]
    async fn an_upload_is_aborted_only_if_it_stalls_after_the_response_has_ended() {
        // Together, these pieces have more bytes than hyper buffers.
        const PIECES: usize = 64;
        for then in [AfterAnswer::ReadsSlowly, AfterAnswer::ReadsNothing, AfterAnswer::Pauses] {
            let (rest_length, received) = oneshot::channel();
            let (ours, mut theirs) = duplex(1024);
            tokio::spawn(async move {
                let mut rest = vec![0; 512];
                let read = theirs.read(&mut rest).await.unwrap();
                let length = if let AfterAnswer::Pauses = then { 4 } else { 2 };
                let head = format!("HTTP/1.1 202 Accepted\r\ncontent-length: {length}\r\n\r\nok");
                theirs.write_all(head.as_bytes()).await.unwrap();
                let mut all = read;
                match then {
                    AfterAnswer::ReadsSlowly => loop {
                        sleep(TIMEOUT / 5).await;
                        match theirs.read(&mut rest).await.unwrap() {
                            0 => break,
                            read => all += read,
                        }
                    },
                    AfterAnswer::ReadsNothing => {
                        sleep(TIMEOUT).await;
                        all += theirs.read_to_end(&mut Vec::new()).await.unwrap();
                    }
                    AfterAnswer::Pauses => {
                        sleep(10 * TIMEOUT).await;
                        theirs.write_all(b"ok").await.unwrap();
                        all += theirs.read_to_end(&mut Vec::new()).await.unwrap();
                    }
                }
                rest_length.send(all).unwrap();
            });
            let timeouts = ForwardTimeouts::default().with_response(TIMEOUT);
            let forward = Forward::new(connector(ours), timeouts);
            let request = Request::post("/service/x").extension(bypass());
            let request = request.body(Pieces(PIECES)).unwrap();
            let response = forward.oneshot(request).await.unwrap();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body, if let AfterAnswer::Pauses = then { "okok" } else { "ok" });
            let is_complete = received.await.unwrap() > PIECES * 16 * 1024;
            assert_eq!(is_complete, !matches!(then, AfterAnswer::ReadsNothing), "{then:?}");
        }
    }

    /// A body that never ends. When it is dropped, the channel is closed.
    struct Endless {
        _dropped: oneshot::Receiver<Infallible>,
    }

    impl Body for Endless {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'y'; 16 * 1024])))))
        }
    }

    /// The service sends more bytes than `Content-Length` announces. The additional bytes must not keep the
    /// connection open.
    #[tokio::test(start_paused = true)]
    async fn an_upload_ends_when_the_service_closes_after_its_response() {
        let (ours, mut theirs) = duplex(1024);
        tokio::spawn(async move {
            theirs.read_u8().await.unwrap();
            let head = b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 2\r\n\r\n";
            theirs.write_all(head).await.unwrap();
            sleep(TIMEOUT).await;
            theirs.write_all(b"no, no").await.unwrap();
        });
        let forward = Forward::new(connector(ours), ForwardTimeouts::default());
        let (mut upload, _dropped) = oneshot::channel();
        let request = Request::post("/service/x").extension(bypass());
        let start = Instant::now();
        let response = forward.oneshot(request.body(Endless { _dropped }).unwrap()).await.unwrap();
        assert_eq!(response.status(), 413);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "no");
        upload.closed().await;
        assert_eq!(
            start.elapsed(),
            TIMEOUT,
            "the upload must end when the service closes, not at a later timeout"
        );
    }

    /// A response may be read outside of the runtime of its connection.
    #[test]
    fn a_response_body_can_be_read_without_a_runtime() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let response = runtime.block_on(async {
            let (ours, theirs) = duplex(1024);
            let (rest_length, _) = oneshot::channel();
            let answer = "HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\nok";
            tokio::spawn(answer_early(theirs, answer, rest_length));
            let forward = Forward::new(connector(ours), ForwardTimeouts::default());
            let request = Request::post("/service/x").extension(bypass());
            let request = request.body(Full::<Bytes>::from(vec![b'y'; 32 * 1024])).unwrap();
            forward.oneshot(request).await.unwrap()
        });
        let body = tokio_test::task::spawn(response.into_body().collect()).poll();
        let Poll::Ready(Ok(body)) = body else { panic!("expected the whole body, got {body:?}") };
        assert_eq!(body.to_bytes(), "ok");
    }
}
