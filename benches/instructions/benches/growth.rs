//! Sends requests through the layers of the gateway, so that `benches/instructions/growth` can count their instructions
//! with valgrind. The counts show how the cost of a request grows with a size, such as the number of users,
//! revocations, identity providers or routes. For each kind of size, there is a curve. A curve has one or two series,
//! one for each kind of request.
//!
//! ```text
//! growth prepare DIRECTORY             # makes a key and the tokens of all users; run it without valgrind
//! growth count CURVE SIZE DIRECTORY    # sends the requests; run it with valgrind
//! ```
//!
//! Valgrind counts only the calls of [`counted_rounds`]: one call for each series. Before these calls, the program
//! sends requests that fill caches and tables. Signing the tokens of all users takes too long with valgrind, so
//! `prepare` does it.

#![expect(clippy::unwrap_used, reason = "a benchmark may panic")]
#![allow(missing_docs, reason = "the package has no API")]

mod world;

use std::{
    cell::RefCell,
    convert::Infallible,
    env, fs,
    hint::black_box,
    iter,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::{NonZeroU32, NonZeroUsize},
    path::Path,
    process,
    rc::Rc,
    sync::Arc,
    thread,
    time::Duration,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header::HeaderName};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use rcgen::SigningKey as _;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    net::{TcpListener, TcpStream},
    runtime,
};
use tower::{Service, ServiceBuilder, service_fn};
use tower_passticket::{
    clock::ManualClock,
    connection::{ConnectionInfo, Protocol},
    identity::{CommonNameMapper, DistributedIdentity, DistributedMap, Registry},
    layer::{
        AuthenticateLayer, Authenticator, PassTicketScheme, RateLimit, RateLimitLayer, Route,
        RouteLayer, Routes, SanitizeLayer, SchemeLayer, ScopeLayer,
    },
    passticket::{Algorithm, LocalGenerator, Replay, UserId},
    proxy::{Forward, ForwardTimeouts},
    revocation::RevocationIndex,
    tls::{ClientLimits, Server},
    token::{
        IssuerKeys, IssuerUrl, KeyId, OidcIssuer, Scopes, ServiceId, SigningKey, TokenIssuer,
        TrustedIssuers, Validity,
    },
};
use world::{
    Answers, Inner, NOW, World, answer, applid, generator, has_ticket,
    requests::{Body, request},
    revocations::revocation,
    service, user,
};

/// The number of requests in each count. The work of the allocator depends on the state of its memory, and so differs
/// from request to request. With this many requests, the average work is about the same in each run.
const ROUNDS: usize = 100;

/// The maximum number of different requests, such as requests of different users. The warm-up and a count together send
/// this number of requests.
const DIFFERENT: usize = 2 * ROUNDS;

const USERS: usize = 100_000;

type Work = Box<dyn FnMut()>;

fn main() {
    // Cargo passes `--bench` if it runs the benchmark.
    let arguments: Vec<_> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["prepare", directory] => prepare(Path::new(directory)),
        ["count", curve, size, directory] => {
            for mut work in works(curve, size.parse().unwrap(), Path::new(directory)) {
                counted_rounds(&mut work);
            }
            // Exits without dropping anything, because dropping a large cache takes long with valgrind.
            process::exit(0);
        }
        _ => panic!("run `just growth`, which passes the arguments"),
    }
}

/// Sends the requests that are counted. Valgrind finds this function by its name.
#[inline(never)]
fn counted_rounds(work: &mut Work) {
    for _ in 0..ROUNDS {
        work();
    }
}

/// Returns the work for each series of a curve.
fn works(curve: &str, size: usize, directory: &Path) -> Vec<Work> {
    let fixture = Fixture::read(directory);
    let service = |i| (format!("service-{i}"), "api/v1".to_owned());
    let route = |i| ("service".to_owned(), format!("api/v{i}"));
    match curve {
        "users" => users(&fixture, size),
        "rules" => vec![rules(&fixture, size)],
        "issuers" => {
            vec![issuers(&fixture, size, Token::Cached), issuers(&fixture, size, Token::New)]
        }
        "services" => vec![routes(&fixture, (0..size).map(service))],
        "routes" => vec![routes(&fixture, (0..size).map(route))],
        "headers" => vec![headers(&fixture, size), headers_forwarded(&fixture, size)],
        "token" => vec![token(&fixture, size)],
        "clients" => vec![clients(&fixture, size)],
        "connections" => vec![connections(size)],
        _ => panic!("there is no curve {curve}"),
    }
}

fn prepare(directory: &Path) {
    let key = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048);
    let pem = key.unwrap().serialize_pem();
    fs::write(directory.join("key.pem"), &pem).unwrap();
    let issuer = TokenIssuer::new(SigningKey::from_pem(pem.as_bytes()).unwrap());
    let issuer = issuer.with_clock(Arc::new(ManualClock::new(NOW)));
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let numbers: Vec<_> = (0..USERS).collect();
    let parts: Vec<String> = thread::scope(|scope| {
        let part = |numbers: &[usize]| -> String {
            numbers.iter().map(|i| format!("{}\n", login(&issuer, &user_number(*i), ""))).collect()
        };
        let parts = numbers.chunks(USERS.div_ceil(threads));
        let running: Vec<_> = parts.map(|numbers| scope.spawn(move || part(numbers))).collect();
        running.into_iter().map(|part| part.join().unwrap()).collect()
    });
    fs::write(directory.join("logins"), parts.concat()).unwrap();
}

struct Fixture<'a> {
    directory: &'a Path,
    pem: String,
}

impl<'a> Fixture<'a> {
    fn read(directory: &'a Path) -> Self {
        Self { directory, pem: fs::read_to_string(directory.join("key.pem")).unwrap() }
    }

    fn key(&self) -> SigningKey {
        SigningKey::from_pem(self.pem.as_bytes()).unwrap()
    }

    fn world(&self) -> World {
        World::of(self.key())
    }

    fn issuer(&self) -> TokenIssuer {
        TokenIssuer::new(self.key()).with_clock(Arc::new(ManualClock::new(NOW)))
    }

    fn logins(&self, count: usize) -> Vec<String> {
        assert!(count <= USERS, "`prepare` makes too few tokens");
        let logins = fs::read_to_string(self.directory.join("logins")).unwrap();
        logins.lines().take(count).map(str::to_owned).collect()
    }
}

fn login(issuer: &TokenIssuer, user: &UserId, domain: &str) -> String {
    issuer.login_token(user, domain).unwrap().expose().to_owned()
}

fn user_number(i: usize) -> UserId {
    UserId::new(&format!("U{i}")).unwrap()
}

fn with_cookie(path: &str, jwt: &str) -> Request<Body> {
    request(path, "cookie", &format!("apimlAuthenticationToken={jwt}"))
}

/// Returns a capacity with which a cache keeps `size` entries, even if they are distributed unevenly over its shards.
fn capacity(size: usize) -> NonZeroUsize {
    NonZeroUsize::new((2 * size).max(1_000)).unwrap()
}

/// Returns every n-th item, with the smallest n that gives at most [`DIFFERENT`] items.
fn spread<T: Clone>(items: &[T]) -> Vec<T> {
    items.iter().step_by(items.len().div_ceil(DIFFERENT)).cloned().collect()
}

/// Sends each request once, so that later requests find its token in the cache.
fn send_each(service: &mut impl Answers, requests: &[Request<Body>]) {
    for request in requests {
        assert_eq!(answer(service, request.clone()).status(), StatusCode::OK);
    }
}

/// Returns work that sends the requests in turn. Sends the first [`ROUNDS`] of them now, as warm-up. If there are
/// [`DIFFERENT`] requests, the warm-up sends none of the counted requests. So the processor caches, which valgrind
/// simulates, do not contain the data of the counted requests.
fn in_turn(mut service: impl Answers, requests: Vec<Request<Body>>) -> Work {
    let mut turn = requests.clone().into_iter().cycle().take(3 * ROUNDS).collect::<Vec<_>>();
    turn.reverse();
    let mut send = move || {
        let response = answer(&mut service, turn.pop().unwrap());
        assert_eq!(response.status(), StatusCode::OK);
        // `requests` keeps copies, which share the texts of the sent requests. So no count includes freeing these
        // texts.
        black_box(&requests);
    };
    (0..ROUNDS).for_each(|_| send());
    Box::new(send)
}

fn generator_for(world: &World, users: usize) -> LocalGenerator {
    generator(&world.clock, Algorithm::Legacy, Replay::Allowed).with_ticket_cache(capacity(users))
}

fn route(service: &str, gateway_url: &str, generator: &LocalGenerator) -> Route {
    let (service, upstream) = (ServiceId::new(service).unwrap(), "http://127.0.0.1".parse());
    let scheme = PassTicketScheme::new(applid(), generator.clone());
    Route::new(service, gateway_url, upstream.unwrap(), scheme).unwrap()
}

/// Before the counted requests, `size` users have sent a request. If there are enough users, each counted request is of
/// a different user. In the second series, the clock advances by a second before each request, so that the request
/// needs a new PassTicket.
fn users(fixture: &Fixture<'_>, size: usize) -> Vec<Work> {
    let world = fixture.world();
    let routes = Routes::new([route("files", "api/v1", &generator_for(&world, size))]).unwrap();
    let verifier = world.verifier.clone().with_cache(capacity(size));
    let world = World { verifier, routes: Arc::new(routes), ..world };
    let mut service = world.stack(has_ticket);
    let logins = fixture.logins(size);
    for login in &logins {
        send_each(&mut service, &[with_cookie("/files/api/v1/x", login)]);
    }
    let requests = spread(&logins).iter().map(|l| with_cookie("/files/api/v1/x", l)).collect();
    let send = Rc::new(RefCell::new(in_turn(service, requests)));
    let same = send.clone();
    let new_ticket = move || {
        world.clock.advance(Duration::from_secs(1));
        send.borrow_mut()();
    };
    vec![Box::new(move || same.borrow_mut()()), Box::new(new_ticket)]
}

/// There are `size` revocations. None of them revokes the Personal Access Tokens of the counted requests.
fn rules(fixture: &Fixture<'_>, size: usize) -> Work {
    let revocations = Arc::new(RevocationIndex::default());
    let world = World { revocations: revocations.clone(), ..fixture.world() };
    let (issuer, scopes) = (fixture.issuer(), Scopes::parse(["files"]).unwrap());
    let pat = |i| issuer.personal_access_token(&user_number(i), &scopes, Validity::MAX).unwrap();
    let with_pat = |i| request("/files/api/v1/x", "private-token", pat(i).expose());
    let requests: Vec<_> = iter::once(world.header()).chain((1..DIFFERENT).map(with_pat)).collect();
    let mut service = world.stack(has_ticket);
    send_each(&mut service, &requests);
    (0..size).map(revocation).for_each(|revocation| revocations.apply(&revocation));
    in_turn(service, requests)
}

#[derive(Clone, Copy, PartialEq)]
enum Token {
    Cached,
    /// The gateway has not seen the token before, so it checks the signature.
    New,
}

/// There are `size` identity providers. The provider that was added last has issued the tokens.
fn issuers(fixture: &Fixture<'_>, size: usize, token: Token) -> Work {
    let world = fixture.world();
    let registry = Registry::new("ldaps://idp.example.com").unwrap();
    let issuer = |i: usize| format!("https://idp-{i}.example.com");
    let mut verifier = TrustedIssuers::new(world.verifier.clone());
    for i in 0..size {
        let key =
            fixture.key().verifying_key().with_key_id(KeyId::new(&format!("key-{i}")).unwrap());
        let keys = format!("{{\"keys\":[{}]}}", key.to_jwk());
        let keys = IssuerKeys::from_jwk_set(keys.as_bytes()).unwrap();
        let issuer = IssuerUrl::new(&issuer(i)).unwrap();
        let provider = OidcIssuer::new(issuer, "zos-gateway", registry.clone(), keys);
        verifier = verifier.with_oidc(provider).unwrap();
    }
    let names: Vec<_> = (0..DIFFERENT).map(|i| format!("person-{i}")).collect();
    let map = DistributedMap::new(names.iter().enumerate().map(|(i, name)| {
        (DistributedIdentity::in_registry(name, &registry).unwrap(), user_number(i))
    }));
    let authenticator = Authenticator::new(verifier)
        .with_revocations(world.revocations.clone())
        .with_client_certificates(CommonNameMapper)
        .with_distributed_identities(map.unwrap())
        .with_clock(world.clock.clone());
    let mut service = world.stack_with(AuthenticateLayer::new(authenticator), has_ticket);
    let key = rcgen::KeyPair::from_pem(&fixture.pem).unwrap();
    let last = size - 1;
    let tokens = names.iter().map(|name| {
        let header = format!(r#"{{"alg":"RS256","kid":"key-{last}","typ":"JWT"}}"#);
        let claims = format!(
            r#"{{"iss":"{}","aud":"zos-gateway","sub":"{name}","iat":{now},"exp":{}}}"#,
            issuer(last),
            NOW.as_secs() + 3600,
            now = NOW.as_secs(),
        );
        signed(&key, &header, &claims)
    });
    let bearer =
        |token: String| request("/files/api/v1/x", "authorization", &format!("Bearer {token}"));
    let requests: Vec<_> = tokens.map(bearer).collect();
    if token == Token::Cached {
        send_each(&mut service, &requests);
    }
    in_turn(service, requests)
}

fn signed(key: &rcgen::KeyPair, header: &str, claims: &str) -> String {
    let message = [header, claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part)).join(".");
    let signature = BASE64_URL_SAFE_NO_PAD.encode(key.sign(message.as_bytes()).unwrap());
    format!("{message}.{signature}")
}

/// `of` contains the id of the service and the `gatewayUrl` of each route. If there are enough routes, each counted
/// request is for a different route.
fn routes(fixture: &Fixture<'_>, of: impl Iterator<Item = (String, String)>) -> Work {
    let of: Vec<_> = of.collect();
    let world = fixture.world();
    let generator = generator_for(&world, 1);
    let routes = of.iter().map(|(service, url)| route(service, url, &generator));
    let world = World { routes: Arc::new(Routes::new(routes).unwrap()), ..world };
    let requests = spread(&of)
        .iter()
        .map(|(service, url)| with_cookie(&format!("/{service}/{url}/x"), &world.jwt))
        .collect();
    in_turn(world.stack(has_ticket), requests)
}

/// The maximum size of a header that [`filled`] adds.
const FIELD: usize = 512;

/// Returns a request whose headers together have `size` bytes in HTTP/1.1. Each field has its name, its value, and four
/// bytes for the colon, the blank and the line end.
fn filled(world: &World, size: usize) -> Request<Body> {
    let mut request = world.cookie();
    let bytes = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 4;
    let mut rest = size - request.headers().iter().map(bytes).sum::<usize>();
    for i in 0.. {
        let name = HeaderName::try_from(format!("x-note-{i:02}")).unwrap();
        let least = name.as_str().len() + 4;
        if rest < least {
            break;
        }
        let length = rest.min(FIELD) - least;
        request.headers_mut().insert(name, HeaderValue::try_from("a".repeat(length)).unwrap());
        rest -= length + least;
    }
    request
}

fn headers(fixture: &Fixture<'_>, size: usize) -> Work {
    let world = fixture.world();
    in_turn(world.stack(has_ticket), vec![filled(&world, size)])
}

/// Sends the same requests as [`headers`], and forwards them to a service over a connection in memory. The count
/// includes the work of this service.
fn headers_forwarded(fixture: &Fixture<'_>, size: usize) -> Work {
    let world = fixture.world();
    let runtime = runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let connect = service_fn(async |_: http::Uri| {
        let (near, far) = duplex(64 * 1024);
        tokio::spawn(service(far));
        Ok::<_, Infallible>(TokioIo::new(near))
    });
    let mut stack = ServiceBuilder::new()
        .layer(SanitizeLayer::new())
        .layer(RouteLayer::new(world.routes.clone()))
        .layer(world.authenticate())
        .layer(ScopeLayer::new())
        .layer(SchemeLayer::new())
        .service(Forward::new(connect, ForwardTimeouts::default()));
    let mut requests = vec![filled(&world, size); DIFFERENT];
    let mut send = move || {
        let body = runtime.block_on(async {
            let Ok(response) = stack.call(requests.pop().unwrap()).await;
            response.into_body().collect().await.unwrap().to_bytes()
        });
        assert_eq!(body, "answer");
    };
    (0..ROUNDS).for_each(|_| send());
    Box::new(send)
}

/// Sends a login token of about `size` bytes. The name of the security domain in the token is so long that the token
/// has this size.
fn token(fixture: &Fixture<'_>, size: usize) -> Work {
    let world = fixture.world();
    let issuer = fixture.issuer();
    // Base64 encodes three bytes as four.
    let domain = "d".repeat((size - login(&issuer, &user(), "").len()) * 3 / 4);
    let request = with_cookie("/files/api/v1/x", &login(&issuer, &user(), &domain));
    in_turn(world.stack(has_ticket), vec![request])
}

/// Before the counted requests, `size` other clients have sent a request. So the rate limits have a counter for each of
/// these clients.
fn clients(fixture: &Fixture<'_>, size: usize) -> Work {
    let world = fixture.world();
    let limit = RateLimit::new(NonZeroU32::new(1_000).unwrap(), Duration::from_secs(1));
    let route = route("files", "api/v1", &generator_for(&world, DIFFERENT)).with_rate_limit(limit);
    let routes = Arc::new(Routes::new([route]).unwrap());
    let limits =
        RateLimitLayer::new().with_max_clients(capacity(size)).with_clock(world.clock.clone());
    let inner = |expected| Inner { expected, keep: None };
    let mut service = ServiceBuilder::new()
        .layer(SanitizeLayer::new())
        .layer(RouteLayer::new(routes.clone()))
        .layer(world.authenticate())
        .layer(ScopeLayer::new())
        .layer(limits.clone())
        .layer(SchemeLayer::new())
        .service(inner(has_ticket));
    let logins = fixture.logins(DIFFERENT);
    let requests: Vec<_> = logins.iter().map(|l| with_cookie("/files/api/v1/x", l)).collect();
    send_each(&mut service, &requests);
    // A request without a user counts against the limit of the client's address.
    let mut others =
        ServiceBuilder::new().layer(RouteLayer::new(routes)).layer(limits).service(inner(|_| true));
    let local = SocketAddr::from(([127, 0, 0, 1], 443));
    for i in 0..u32::try_from(size).unwrap() {
        let peer = SocketAddr::from((Ipv4Addr::from_bits(0x0A00_0000 + i), 50_000));
        let mut request = Request::get("/files/api/v1/x").body(Body::default()).unwrap();
        request.extensions_mut().insert(ConnectionInfo::new(peer, local, Protocol::Https));
        assert_eq!(answer(&mut others, request).status(), StatusCode::OK);
    }
    in_turn(service, requests)
}

/// `size` connections to the server are open. The counted requests arrive on one of them, over TCP. The count includes
/// the client, and the server answers without layers.
fn connections(size: usize) -> Work {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let places = capacity(size);
    let (address, mut clients) = runtime.block_on(async {
        let listener = TcpListener::bind((IpAddr::V4(Ipv4Addr::LOCALHOST), 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let hour = Duration::from_secs(3600);
        let limits = ClientLimits::new(places).with_connections_per_address(places);
        let server = Server::http(listener)
            .with_client_limits(Arc::new(limits))
            .with_header_timeout(hour)
            .with_idle_timeout(hour);
        let answer = service_fn(async |_| {
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"answer"))))
        });
        tokio::spawn(async move { server.run(answer, std::future::pending()).await });
        (address, Vec::<TcpStream>::new())
    });
    runtime.block_on(async {
        for _ in 0..size {
            let mut client = TcpStream::connect(address).await.unwrap();
            ask(&mut client).await;
            clients.push(client);
        }
    });
    let mut send = move || runtime.block_on(ask(&mut clients[size / 2]));
    (0..ROUNDS).for_each(|_| send());
    Box::new(send)
}

async fn ask(client: &mut TcpStream) {
    client.write_all(b"GET / HTTP/1.1\r\nhost: gateway.example.com\r\n\r\n").await.unwrap();
    let mut response = Vec::with_capacity(1024);
    while !response.ends_with(b"answer") {
        assert!(client.read_buf(&mut response).await.unwrap() > 0);
    }
}
