//! Limits how often each client may use a service.
//!
//! A [`RateLimit`] of a [`Route`] permits a number of requests in a period, and a burst of requests at once. The layer
//! counts requests for each authorized user. If persons act through a [technical user](super::TechnicalUsers), it
//! counts for each person. It counts requests without a user for each address: an IPv4 address, or an IPv6 network of
//! 64 bits. The layer answers requests above the limit with 429 and `Retry-After` ([D45](crate::decisions#d45)).
//!
//! Put this layer after [`ScopeLayer`](super::ScopeLayer), which finds the user, and before
//! [`SchemeLayer`](super::SchemeLayer), so that a request above the limit uses no PassTicket. On a route without a rate
//! limit, the layer does nothing. If a request has neither an authorized user nor a known address, it is not limited.
//! The address is not known if there is no [`ConnectionInfo`], or if a trusted proxy does not announce its client.
//!
//! The counts of all services are in one map of a limited size. If the map is full, it evicts the counts of clients
//! that have sent few requests. After that, such a client can send a burst again. So against an attacker with very many
//! addresses, the listener must also have
#![cfg_attr(feature = "tls", doc = "[`ClientLimits`](crate::tls::ClientLimits).")]
#![cfg_attr(not(feature = "tls"), doc = "`ClientLimits`.")]
//!
//! The layer uses the generic cell rate algorithm: for each client, the map holds one point in time. The crate
//! `governor` has the same algorithm, but its map of clients has no maximum size.
//!
//! ```
//! use std::{num::NonZeroU32, time::Duration};
//! use tower_passticket::{
//!     layer::{RateLimit, Route},
//!     token::ServiceId,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let twenty = NonZeroU32::new(20).unwrap();
//! let limit = RateLimit::new(twenty, Duration::from_secs(60));
//! let route = Route::local(ServiceId::new("files")?).with_rate_limit(limit);
//! # let _ = route;
//! # Ok(())
//! # }
//! ```

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    num::NonZeroUsize,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{Extensions, Request};
use quick_cache::{
    OptionsBuilder, UnitWeighter,
    sync::{Cache, DefaultLifecycle},
};
use tower_layer::Layer;

use super::{
    check::{Check, CheckService},
    rejection::Rejection,
    request_rate::RateLimit,
    routes::Route,
    scope::Authorized,
};
use crate::{
    clock::{Clock, SystemClock},
    connection::{ConnectionInfo, SourceNetwork},
    log_limit::log_limited,
    metrics::{Collect, CounterFamily, Description, Exposition, Label, LabelName},
    passticket::UserId,
    token::{ExternalSubject, ServiceId},
};

const REFUSED: Description = Description::counter(
    "passticket_rate_limited_total",
    "Requests that were refused because of the rate limit of a service, by the kind of client (user or address).",
);

/// The default maximum number of counts.
const MAX_CLIENTS: NonZeroUsize = NonZeroUsize::new(100_000).expect("should not be zero");

/// The layer. See the [module](self).
#[derive(Clone, Debug, Default)]
pub struct RateLimitLayer {
    check: CheckRate,
}

impl RateLimitLayer {
    /// Creates a layer with its own counts.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the maximum number of counts, and forgets all counts. There is one count for each client and service. It
    /// needs about 150 bytes. The default maximum is 100,000.
    #[must_use]
    pub fn with_max_clients(self, maximum: NonZeroUsize) -> Self {
        Self { check: CheckRate { clients: Arc::new(Clients::new(maximum)), ..self.check } }
    }

    /// Counts refused requests in `counts`.
    #[must_use]
    pub fn with_counts(self, counts: Arc<RateLimitCounts>) -> Self {
        Self { check: CheckRate { counts: Some(counts), ..self.check } }
    }

    /// Uses `clock` to measure time.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { check: CheckRate { clock, ..self.check } }
    }
}

impl<S> Layer<S> for RateLimitLayer {
    type Service = RateLimitService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CheckService::new(inner, self.check.clone())
    }
}

/// The service of [`RateLimitLayer`].
pub type RateLimitService<S> = CheckService<S, CheckRate>;

/// The check of [`RateLimitLayer`].
#[derive(Clone)]
pub struct CheckRate {
    clients: Arc<Clients>,
    counts: Option<Arc<RateLimitCounts>>,
    clock: Arc<dyn Clock>,
}

impl Default for CheckRate {
    fn default() -> Self {
        Self {
            clients: Arc::new(Clients::new(MAX_CLIENTS)),
            counts: None,
            clock: Arc::new(SystemClock),
        }
    }
}

impl fmt::Debug for CheckRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckRate").field("clients", &self.clients.0.len()).finish_non_exhaustive()
    }
}

impl Check for CheckRate {
    fn check<B>(&mut self, request: &mut Request<B>) -> Result<(), Rejection> {
        let extensions = request.extensions();
        let authorized = extensions.get::<Authorized>();
        let route = authorized.map(Authorized::route).or_else(|| extensions.get::<Arc<Route>>());
        let Some(route) = route else {
            return Err(Rejection::misassembled(
                "RateLimitLayer needs RouteLayer before it, because the route has the limit",
            ));
        };
        let Some(limit) = route.rate_limit() else { return Ok(()) };
        let Some(client) = client(authorized, extensions) else { return Ok(()) };
        match self.clients.take(route.service(), client, limit, &*self.clock) {
            Ok(()) => Ok(()),
            Err(retry_after) => {
                self.refused(route.service(), client);
                if let Some(kind) = authorized.map(|authorized| authorized.proof().kind()) {
                    request.extensions_mut().insert(kind);
                }
                Err(Rejection::RateLimited { retry_after })
            }
        }
    }
}

impl CheckRate {
    #[cold]
    fn refused(&self, service: &ServiceId, client: RateClient) {
        let (key, user) = match client {
            RateClient::User(user) | RateClient::Person { user, .. } => (RateKey::User, Some(user)),
            RateClient::Address(_) => (RateKey::Address, None),
        };
        if let Some(counts) = &self.counts {
            counts.0.increment((key,));
        }
        let user = user.as_ref().map(tracing::field::display);
        log_limited!(
            info,
            ("rate limit", service, key.value()),
            { %service, user },
            "request refused: the client has sent more requests than the rate limit of the service permits"
        );
    }
}

/// Makes the hashes of persons. The key is random, so that no person can choose a name that has the hash of another
/// person.
static PERSONS: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// The layer counts requests for each value of this type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum RateClient {
    User(UserId),
    /// A person who acts through a technical user. With one count for the technical user, one person could use up the
    /// limit of all persons.
    Person {
        /// A hash of the issuer and the name of the person, with a random key.
        person: u64,
        user: UserId,
    },
    Address(SourceNetwork),
}

/// Returns the client of a request. If it returns `None`, the client is not known, and the rate limit does not apply.
fn client(authorized: Option<&Authorized>, extensions: &Extensions) -> Option<RateClient> {
    if let Some(authorized) = authorized {
        let user = *authorized.user();
        return Some(match authorized.authenticated().person() {
            None => RateClient::User(user),
            Some(token) => {
                let name = match token.subject() {
                    ExternalSubject::User(user) => user.as_str(),
                    ExternalSubject::Identity(identity) => identity.name(),
                };
                RateClient::Person { person: PERSONS.hash_one((token.issuer(), name)), user }
            }
        });
    }
    let connection = extensions.get::<ConnectionInfo>()?;
    // This proxy does not announce its client. With the address of the proxy, all its clients would share one limit.
    if connection.is_from_trusted_proxy() && connection.announced_client().is_none() {
        return None;
    }
    Some(RateClient::Address(SourceNetwork::of(connection.client().ip())))
}

/// The kind of client that has exceeded a rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RateKey {
    /// An authorized user, or a person who acts through a technical user.
    User,
    /// The address of a client without an authorized user.
    Address,
}

impl Label for RateKey {
    const NAME: LabelName = LabelName::new("key");
    const ALL: &'static [Self] = &[Self::User, Self::Address];

    fn index(self) -> usize {
        self as usize
    }

    fn value(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Address => "address",
        }
    }
}

/// For each service and client: the last value of [`RateLimit::take`].
struct Clients(Cache<(ServiceId, RateClient), Arc<AtomicU64>, UnitWeighter, RandomState>);

impl Clients {
    fn new(maximum: NonZeroUsize) -> Self {
        let options = OptionsBuilder::new()
            .estimated_items_capacity(maximum.get())
            .weight_capacity(maximum.get() as u64)
            .build()
            .expect("both required options are set");
        // Clients choose the keys, so the hash function has a random key.
        let (hasher, lifecycle) = (RandomState::new(), DefaultLifecycle::default());
        Self(Cache::with_options(options, UnitWeighter, hasher, lifecycle))
    }

    /// # Errors
    /// If the limit does not permit the request: the time for which the client must wait.
    fn take(
        &self,
        service: &ServiceId,
        client: RateClient,
        limit: RateLimit,
        clock: &dyn Clock,
    ) -> Result<(), Duration> {
        let new = || Ok::<_, Duration>(Arc::default());
        let next = self.0.get_or_insert_with(&(service.clone(), client), new)?;
        // 64 bits are enough for 584 years.
        let now = nanos(clock.monotonic());
        let taken = next
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| limit.take(next, now).ok());
        match taken {
            Ok(_) => Ok(()),
            Err(next) => limit.take(next, now).map(drop),
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Counts the requests that one or more [`RateLimitLayer`]s have refused.
#[derive(Debug, Default)]
pub struct RateLimitCounts(CounterFamily<(RateKey,)>);

impl RateLimitCounts {
    /// Returns the number of refused requests.
    pub fn refused(&self, key: RateKey) -> u64 {
        self.0.get((key,))
    }
}

impl Collect for RateLimitCounts {
    fn collect(&self, exposition: &mut Exposition) {
        exposition.family(&REFUSED, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        future::ready,
        net::{IpAddr, SocketAddr},
        num::NonZeroU32,
    };

    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, Response};
    use http_body_util::Full;
    use test_support::tickets::user;
    use tower::{ServiceExt, service_fn};
    use tower_service::Service;

    use super::*;
    use crate::{
        clock::{ManualClock, Timestamp},
        connection::{Protocol, TrustedProxies},
        identity::DistributedIdentity,
        layer::{Authenticated, Authentication, Failure, Proof, ScopeLayer, TechnicalUserRule},
        token::{ExternalClaims, VerifiedToken},
    };

    fn limit(requests: u32, seconds: u64) -> RateLimit {
        RateLimit::new(NonZeroU32::new(requests).unwrap(), Duration::from_secs(seconds))
    }

    fn route(service: &str, limit: Option<RateLimit>) -> Arc<Route> {
        let route = Route::local(ServiceId::new(service).unwrap());
        Arc::new(match limit {
            Some(limit) => route.with_rate_limit(limit),
            None => route,
        })
    }

    fn peer(address: &str) -> ConnectionInfo {
        let address = SocketAddr::new(address.parse().unwrap(), 1);
        ConnectionInfo::new(address, address, Protocol::Https)
    }

    struct Stack {
        layer: RateLimitLayer,
        counts: Arc<RateLimitCounts>,
        clock: Arc<ManualClock>,
    }

    impl Stack {
        fn new() -> Self {
            let counts = Arc::<RateLimitCounts>::default();
            let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_800_000_000)));
            let layer = RateLimitLayer::new().with_counts(counts.clone()).with_clock(clock.clone());
            Self { layer, counts, clock }
        }

        /// `from` is a user or an address. Returns the status and `Retry-After`.
        async fn send(&self, route: &Arc<Route>, from: &str) -> (u16, Option<HeaderValue>) {
            let mut request = Request::get("/x").extension(route.clone());
            request = match from.parse::<IpAddr>() {
                Ok(_) => request
                    .extension(Authentication::Failed(Failure::NoCredential))
                    .extension(peer(from)),
                Err(_) => {
                    let authenticated = Authenticated::new(user(from), Proof::Password);
                    // This address must have no effect.
                    request
                        .extension(Authentication::Authenticated(authenticated))
                        .extension(peer("192.0.2.9"))
                }
            };
            let service = ScopeLayer::new().layer(self.service());
            answer(service.oneshot(request.body(()).unwrap()).await.unwrap())
        }

        fn service(&self) -> RateLimitService<impl TestService> {
            self.layer.layer(service_fn(|_: Request<()>| {
                ready(Ok::<_, Infallible>(Response::new(Full::default())))
            }))
        }

        async fn call(&self, request: Request<()>) -> (u16, Option<HeaderValue>) {
            answer(self.service().oneshot(request).await.unwrap())
        }
    }

    trait TestService:
        Service<Request<()>, Response = Response<Full<Bytes>>, Error = Infallible>
    {
    }
    impl<S> TestService for S where
        S: Service<Request<()>, Response = Response<Full<Bytes>>, Error = Infallible>
    {
    }

    fn answer(response: Response<Full<Bytes>>) -> (u16, Option<HeaderValue>) {
        (response.status().as_u16(), response.headers().get("retry-after").cloned())
    }

    #[tokio::test]
    async fn persons_with_the_same_technical_user_have_counts_of_their_own() {
        let stack = Stack::new();
        let route = route("files", Some(limit(1, 60)));
        let batch = user("BATCH");
        let send = async |issuer: &str, name: &str| {
            let identity = DistributedIdentity::new(name, "registry").unwrap();
            let claims = ExternalClaims::new(identity, issuer, Timestamp::from_secs(1));
            let VerifiedToken::External(token) = VerifiedToken::external(b"x", claims) else {
                unreachable!("the token was made above")
            };
            let rule = TechnicalUserRule::new(issuer, "a", "b", batch).unwrap();
            let authenticated = Authenticated::through(Arc::new(rule), token);
            let request = Request::get("/x")
                .extension(route.clone())
                .extension(Authentication::Authenticated(authenticated));
            let service = ScopeLayer::new().layer(stack.service());
            answer(service.oneshot(request.body(()).unwrap()).await.unwrap()).0
        };
        for (issuer, name, want) in [
            ("https://a", "joe", 200),
            ("https://a", "joe", 429),
            ("https://a", "ann", 200),
            ("https://b", "joe", 200),
            ("https://b", "joe", 429),
        ] {
            assert_eq!(send(issuer, name).await, want, "{issuer} {name}");
        }
        // A client that logs in as the technical user has a count of its own.
        assert_eq!(stack.send(&route, "BATCH").await.0, 200);
        assert_eq!(stack.counts.refused(RateKey::User), 2);
    }

    #[tokio::test]
    async fn users_and_addresses_have_counts_of_their_own_for_each_service() {
        let stack = Stack::new();
        let (files, jobs) = (route("files", Some(limit(2, 60))), route("jobs", Some(limit(2, 60))));
        for (route, from, want) in [
            (&files, "USER", 200),
            (&files, "USER", 200),
            (&files, "USER", 429),
            (&files, "OTHER", 200),
            (&jobs, "USER", 200),
            (&files, "192.0.2.1", 200),
            (&files, "192.0.2.1", 200),
            (&files, "::ffff:192.0.2.1", 429),
            (&files, "192.0.2.2", 200),
            // These addresses are in one network of 64 bits.
            (&files, "2001:db8::1", 200),
            (&files, "2001:db8::2", 200),
            (&files, "2001:db8::3", 429),
            (&files, "2001:db8:0:1::1", 200),
        ] {
            assert_eq!(stack.send(route, from).await.0, want, "{from}");
        }
        assert_eq!(
            (stack.counts.refused(RateKey::User), stack.counts.refused(RateKey::Address)),
            (1, 2)
        );
        stack.clock.advance(Duration::from_secs(30));
        assert_eq!(stack.send(&files, "USER").await, (200, None));
        assert_eq!(stack.send(&files, "USER").await.0, 429);
    }

    #[tokio::test]
    async fn retry_after_is_at_most_10_seconds() {
        let stack = Stack::new();
        for (seconds, want) in [(3, "3"), (60, "10")] {
            let route = route("files", Some(limit(1, seconds)));
            stack.send(&route, &format!("USER{seconds}")).await;
            let (status, retry_after) = stack.send(&route, &format!("USER{seconds}")).await;
            assert_eq!((status, retry_after.unwrap().to_str().unwrap()), (429, want));
        }
    }

    #[tokio::test]
    async fn requests_are_not_limited_without_a_limit_or_a_known_client() {
        let stack = Stack::new();
        let (unlimited, limited) = (route("files", None), route("files", Some(limit(1, 60))));
        let proxies = TrustedProxies::new(|ip| ip.is_loopback());
        let of_proxy = peer("127.0.0.1").with_trusted_proxies(&proxies, &HeaderMap::new());
        for _ in 0..3 {
            assert_eq!(stack.send(&unlimited, "USER").await.0, 200);
            let request = Request::get("/x").extension(limited.clone());
            assert_eq!(stack.call(request.body(()).unwrap()).await.0, 200);
            let request = Request::get("/x").extension(limited.clone()).extension(of_proxy);
            assert_eq!(stack.call(request.body(()).unwrap()).await.0, 200);
        }
        assert_eq!(stack.call(Request::new(())).await.0, 500);
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", HeaderValue::from_static("192.0.2.1"));
        let of_client = peer("127.0.0.1").with_trusted_proxies(&proxies, &headers);
        for want in [200, 429] {
            let request = Request::get("/x").extension(limited.clone()).extension(of_client);
            assert_eq!(stack.call(request.body(()).unwrap()).await.0, want);
        }
    }

    #[tokio::test]
    async fn the_number_of_counts_is_limited() {
        let layer = RateLimitLayer::new().with_max_clients(NonZeroUsize::new(64).unwrap());
        let clients = layer.check.clients.clone();
        let stack = Stack { layer, ..Stack::new() };
        let route = route("files", Some(limit(1, 60)));
        for number in 0..1000 {
            stack.send(&route, &format!("10.0.{}.{}", number / 250, number % 250)).await;
        }
        assert!(clients.0.len() <= 64, "{}", clients.0.len());
    }
}
