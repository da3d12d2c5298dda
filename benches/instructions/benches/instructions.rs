//! Counts the instructions of the code that runs for each request, with valgrind. Such a count shows a regression that
//! is too small to measure as time. Each count covers [`ROUNDS`] calls. Before them, the benchmark makes the same
//! number of warm-up calls, which are not counted.
//!
//! `instructions.txt` contains the committed counts. A benchmark fails if its count is more than 5 % above the
//! committed count, or if there is no committed count. `just instructions` also fails if a count is more than 20 %
//! below the committed count. This has one of two causes. Either the code returned too early. Or it became faster, and
//! the committed count must be updated: with the old count, the benchmark would not notice a later regression.
//!
//! The script `.ci/instructions` runs the benchmark. It needs valgrind and jq. `.ci/instructions --write` updates the
//! committed counts. The environment variable `COUNT_ANEW` turns the limits off.
//!
//! The counts are for x86-64 with AVX2. They differ by a few instructions between runs, because hash
//! tables have random seeds. No RSA operation is counted, because the RSA code depends on the processor.
//! `http2_passticket` and `forward_tls_passticket` use TLS over loopback. Their counts include the other end of the
//! connection, and the encryption of both ends, but no handshake.

#![expect(clippy::unwrap_used, reason = "a benchmark may panic")]
#![allow(missing_docs, unused_qualifications, reason = "the macros of gungraun have both")]

mod connections;
#[path = "../../profiles/mod.rs"]
mod profiles;
#[path = "../../requests/mod.rs"]
mod requests;
#[path = "../../revocations/mod.rs"]
mod revocations;

use std::{
    convert::Infallible,
    env,
    future::{Ready, ready},
    hint::black_box,
    mem,
    num::NonZeroUsize,
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use connections::{HOST, Identity};
use gungraun::{
    Callgrind, EventKind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main,
};
use http::{
    Request, Response, StatusCode,
    header::{AUTHORIZATION, HOST as HOST_HEADER},
};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use profiles::profile;
use rcgen::{CertificateParams, DnType};
use requests::{Body, request};
use revocations::revocation;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, duplex},
    runtime::{self, Runtime},
};
use tower::{Layer, Service, ServiceBuilder, service_fn};
use tower_passticket::{
    audit::{Audit, AuditRecord, AuditSink},
    clock::{ManualClock, Timestamp},
    hyper::body::Incoming,
    identity::{CommonNameMapper, PeerCertificate},
    layer::{
        AuthenticateLayer, Authentication, Authenticator, Authorized, Bypass, PassTicketScheme,
        RequestMetrics, Route, RouteLayer, Routes, SanitizeLayer, Scheme, SchemeLayer, ScopeLayer,
    },
    passticket::{Algorithm, Applid, KeyProfiles, LocalGenerator, Replay, UserId},
    proxy::{Forward, ForwardTimeouts, ResponseBody},
    revocation::RevocationIndex,
    ticket_breaker::{RefusedStatuses, TicketBreaker, TicketLimits},
    token::{Rs256Verifier, Scopes, ServiceId, SigningKey, TokenIssuer, Validity, VerifiedToken},
};

/// The number of calls in each count. With ten calls, the count of one call is easy to read.
const ROUNDS: usize = 10;

const COUNTS: &str = include_str!("../instructions.txt");

/// Limits a benchmark to 5 % above its committed count. Panics if there is no committed count.
fn at_most(name: &str) -> LibraryBenchmarkConfig {
    let mut callgrind = Callgrind::with_args(["--cache-sim=no"]);
    if env::var_os("COUNT_ANEW").is_none() {
        let count = committed(name);
        callgrind.hard_limits([(EventKind::Ir, count + count / 20)]);
    }
    let mut config = LibraryBenchmarkConfig::default();
    config.tool(callgrind);
    config
}

fn committed(name: &str) -> u64 {
    let mut counts = COUNTS.lines().filter_map(|line| line.split_once(' '));
    let Some((_, count)) = counts.find(|(n, _)| *n == name) else {
        panic!(
            "{name} is not in benches/instructions/instructions.txt; to update the file: just instructions-write"
        );
    };
    count.trim().parse().unwrap()
}

type Work = Box<dyn FnMut()>;

const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

/// The parts that the benchmarks use.
struct Fixture {
    verifier: Rs256Verifier,
    jwt: String,
    pat: String,
    routes: Arc<Routes>,
    revocations: Arc<RevocationIndex>,
    audit: Audit,
}

impl Fixture {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new(NOW));
        let rsa =
            rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048);
        let key = SigningKey::from_pem(rsa.unwrap().serialize_pem().as_bytes()).unwrap();
        let verifier = Rs256Verifier::new(key.verifying_key())
            .with_clock(clock.clone())
            .with_cache(NonZeroUsize::new(1_000).unwrap());
        let issuer = TokenIssuer::new(key).with_clock(clock.clone());
        let jwt = issuer.login_token(&user(), "security-domain").unwrap();
        let scopes = Scopes::parse(["files"]).unwrap();
        let pat = issuer.personal_access_token(&user(), &scopes, Validity::MAX).unwrap();

        let tickets = generator(&clock, Algorithm::Legacy, Replay::Allowed);
        let tickets = PassTicketScheme::new(applid(), tickets);
        let routes =
            Routes::new([route_to("files", UPSTREAM, tickets), route_to("open", UPSTREAM, Bypass)]);
        let routes = Arc::new(routes.unwrap());
        // This copy of the `Arc` is never dropped. Otherwise the last request would drop the routes and their cache of
        // PassTickets, and the count would include this drop.
        mem::forget(Arc::clone(&routes));
        let revocations = RevocationIndex::default();
        (0..100).map(revocation).for_each(|revocation| revocations.apply(&revocation));
        Self {
            verifier,
            jwt: jwt.expose().to_owned(),
            pat: pat.expose().to_owned(),
            routes,
            revocations: Arc::new(revocations),
            audit: Audit::none(),
        }
    }

    fn authenticate(&self) -> AuthenticateLayer<Arc<RevocationIndex>, CommonNameMapper> {
        let revocations = self.revocations.clone();
        let authenticator = Authenticator::new(self.verifier.clone())
            .with_revocations(revocations.clone())
            .with_personal_access_tokens(revocations)
            .with_client_certificates(CommonNameMapper);
        AuthenticateLayer::new(authenticator).with_audit(self.audit.clone())
    }

    /// Makes all layers around a service that does nothing.
    fn stack(&self, expected: Expected) -> impl Answers {
        ServiceBuilder::new()
            .layer(SanitizeLayer::new())
            .layer(RouteLayer::new(self.routes.clone()))
            .layer(self.authenticate())
            .layer(ScopeLayer::new().with_audit(self.audit.clone()))
            .layer(SchemeLayer::new().with_audit(self.audit.clone()))
            .service(Inner { expected, keep: None })
    }

    fn cookie(&self) -> Request<Body> {
        request("/files/api/v1/x", "cookie", &format!("a=1; apimlAuthenticationToken={}", self.jwt))
    }

    fn header(&self) -> Request<Body> {
        request("/files/api/v1/x", "private-token", &self.pat)
    }
}

/// The address of a service that is never resolved.
const UPSTREAM: &str = "http://127.0.0.1";

fn route_to(service: &str, upstream: &str, scheme: impl Scheme) -> Route {
    let (service, upstream) = (ServiceId::new(service).unwrap(), upstream.parse().unwrap());
    Route::new(service, "api/v1", upstream, scheme).unwrap()
}

fn user() -> UserId {
    UserId::new("IBMUSER").unwrap()
}

fn applid() -> Applid {
    Applid::new("ZOWEAPPL").unwrap()
}

fn generator(clock: &Arc<ManualClock>, algorithm: Algorithm, replay: Replay) -> LocalGenerator {
    let profiles = KeyProfiles::new([profile(applid(), algorithm, replay)]).unwrap();
    LocalGenerator::new(profiles)
        .with_clock(clock.clone())
        .with_ticket_cache(NonZeroUsize::new(1_000).unwrap())
}

/// A service, with or without layers around it.
trait Answers: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + 'static {}

impl<S> Answers for S where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + 'static
{
}

/// Checks the request that the layers pass on. A request that fails early takes few instructions. So without this
/// check, a failure would look like an improvement.
type Expected = fn(&Request<Body>) -> bool;

fn has<T: Send + Sync + 'static>(request: &Request<Body>) -> bool {
    request.extensions().get::<T>().is_some()
}

fn is_authenticated(request: &Request<Body>) -> bool {
    matches!(request.extensions().get(), Some(Authentication::Authenticated(_)))
}

fn has_ticket<B>(request: &Request<B>) -> bool {
    let authorization = request.headers().get(AUTHORIZATION);
    authorization.is_some_and(|value| value.as_bytes().starts_with(b"Basic "))
}

/// The innermost service. It checks each request, and stores the last request if `keep` is set.
#[derive(Clone)]
struct Inner {
    expected: Expected,
    keep: Option<Arc<Mutex<Option<Request<Body>>>>>,
}

impl Service<Request<Body>> for Inner {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        assert!((self.expected)(&request), "the layers passed on an unexpected request");
        if let Some(keep) = &self.keep {
            *keep.lock().unwrap() = Some(request);
        }
        ready(Ok(Response::new(Body::default())))
    }
}

/// Calls the service as hyper does, but without a runtime. This is possible because the services of this file do not
/// wait.
fn answer(service: &mut impl Answers, request: Request<Body>) -> Response<Body> {
    let mut context = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut context).is_ready());
    match pin!(service.call(request)).poll(&mut context) {
        Poll::Ready(Ok(response)) => response,
        Poll::Pending => panic!("the service must not wait"),
    }
}

/// Returns work that sends a copy of `request` in each call.
fn answering(mut service: impl Answers, request: Request<Body>) -> Work {
    let mut requests = vec![request; 2 * ROUNDS];
    Box::new(move || {
        let response = answer(&mut service, requests.pop().unwrap());
        assert_eq!(response.status(), StatusCode::OK);
    })
}

/// Returns the request that `layer` passes on.
fn behind<L: Layer<Inner, Service: Answers>>(layer: L, request: Request<Body>) -> Request<Body> {
    let keep = Arc::default();
    let inner = Inner { expected: |_| true, keep: Some(Arc::clone(&keep)) };
    answer(&mut layer.layer(inner), request);
    keep.lock().unwrap().take().unwrap()
}

fn alone<L>(layer: L, request: Request<Body>, expected: Expected) -> Work
where
    L: Layer<Inner, Service: Answers>,
{
    answering(layer.layer(Inner { expected, keep: None }), request)
}

/// Makes the work, and runs the warm-up calls, which are not counted.
fn warm(make: fn() -> Work) -> Work {
    let mut work = make();
    (0..ROUNDS).for_each(|_| work());
    work
}

fn bypass() -> Work {
    answering(Fixture::new().stack(has::<Arc<Route>>), request("/open/api/v1/x", "x-nothing", "1"))
}

fn jwt_cookie() -> Work {
    let fixture = Fixture::new();
    answering(fixture.stack(has_ticket), fixture.cookie())
}

/// The same requests as in [`jwt_cookie`], with the metrics of requests. The difference of the two counts is the cost of
/// these metrics.
fn jwt_counted() -> Work {
    let fixture = Fixture::new();
    let metrics = Arc::new(RequestMetrics::default());
    let stack = ServiceBuilder::new()
        .layer(metrics.layer())
        .layer(SanitizeLayer::new())
        .layer(RouteLayer::new(fixture.routes.clone()))
        .layer(fixture.authenticate())
        .layer(ScopeLayer::new())
        .layer(SchemeLayer::new())
        .layer(metrics.service_layer())
        .service(Inner { expected: has_ticket, keep: None });
    answering(stack, fixture.cookie())
}

fn pat_header() -> Work {
    let fixture = Fixture::new();
    answering(fixture.stack(has_ticket), fixture.header())
}

fn client_certificate() -> Work {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "IBMUSER");
    let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
    let certificate = PeerCertificate::from_der(certificate.der().to_vec()).unwrap();
    let mut request = request("/files/api/v1/x", "x-nothing", "1");
    request.extensions_mut().insert(certificate);
    answering(Fixture::new().stack(has_ticket), request)
}

/// An audit sink that formats each record, as the sink that writes to a file does.
struct Lines;

impl AuditSink for Lines {
    fn record(&self, record: AuditRecord) {
        black_box(record.to_json());
    }
}

fn jwt_audited() -> Work {
    let fixture = Fixture { audit: Audit::to(Lines), ..Fixture::new() };
    answering(fixture.stack(has_ticket), fixture.cookie())
}

fn forward() -> Work {
    let request = request("/open/api/v1/x", "x-nothing", "1");
    let request = behind(RouteLayer::new(Fixture::new().routes), request);
    forwarding(request)
}

/// Returns work that forwards requests over one connection in memory, with the layer of the schemes. The count includes
/// the service at the other end of the connection.
fn forwarding(request: Request<Body>) -> Work {
    let runtime = runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let connect = service_fn(async |_: http::Uri| {
        let (near, far) = duplex(64 * 1024);
        tokio::spawn(service(far));
        Ok::<_, Infallible>(TokioIo::new(near))
    });
    let forward = Forward::new(connect, ForwardTimeouts::default());
    sending(runtime, SchemeLayer::new().layer(forward), request)
}

/// Returns work that sends a copy of `request` in each call, and reads the response.
fn sending<S>(runtime: Runtime, mut service: S, request: Request<Body>) -> Work
where
    S: Service<Request<Body>, Response = Response<ResponseBody>, Error = Infallible> + 'static,
{
    let mut requests = vec![request; 2 * ROUNDS];
    Box::new(move || {
        let body = runtime.block_on(async {
            let Ok(response) = service.call(requests.pop().unwrap()).await;
            response.into_body().collect().await.unwrap().to_bytes()
        });
        assert_eq!(body, "answer");
    })
}

/// Returns a request for a service at `upstream`, as the layers in front of the layer of the schemes pass it on. Its
/// scheme makes PassTickets. A breaker watches the answers, if there is one.
fn authorized(upstream: &str, breaker: Option<&TicketBreaker>) -> Request<Body> {
    let fixture = Fixture::new();
    let tickets = generator(&Arc::new(ManualClock::new(NOW)), Algorithm::Legacy, Replay::Allowed);
    let scheme = PassTicketScheme::new(applid(), tickets);
    let scheme = match breaker {
        None => scheme,
        Some(breaker) => scheme.with_breaker(breaker, "/files/api/v1", RefusedStatuses::default()),
    };
    let routes = Arc::new(Routes::new([route_to("files", upstream, scheme)]).unwrap());
    mem::forget(Arc::clone(&routes));
    let request = behind(RouteLayer::new(routes), fixture.cookie());
    behind(ScopeLayer::new(), behind(fixture.authenticate(), request))
}

fn forward_passticket() -> Work {
    forwarding(authorized(UPSTREAM, None))
}

/// The service is behind TLS. The connection to it is kept.
fn forward_tls_passticket() -> Work {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (identity, listener) = (Identity::new(), runtime.block_on(connections::listen()));
    let upstream = format!("https://{HOST}:{}", listener.local_addr().unwrap().port());
    let forward = Forward::new(identity.connector(), ForwardTimeouts::default());
    runtime.spawn(async move { service(identity.accept(listener).await).await });
    sending(runtime, SchemeLayer::new().layer(forward), authorized(&upstream, None))
}

fn forward_passticket_watched() -> Work {
    let profiles = [profile(applid(), Algorithm::Legacy, Replay::Allowed)];
    let profiles = KeyProfiles::new(profiles).unwrap();
    let clock = Arc::new(ManualClock::new(NOW));
    let breaker = TicketBreaker::with_clock(profiles, TicketLimits::default(), clock);
    forwarding(authorized(UPSTREAM, Some(&breaker)))
}

/// Answers each request. A request must arrive in a single read.
async fn service(mut connection: impl AsyncRead + AsyncWrite + Unpin) {
    let mut request = Vec::with_capacity(4096);
    while connection.read_buf(&mut request).await.is_ok_and(|read| read > 0) {
        assert!(request.ends_with(b"\r\n\r\n"));
        request.clear();
        connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nanswer").await.unwrap();
    }
}

/// The client uses HTTP/2 over TLS, on a kept connection. All layers are in front of a service that only answers.
fn http2_passticket() -> Work {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let fixture = Fixture::new();
    let stack = ServiceBuilder::new()
        .layer(SanitizeLayer::new())
        .layer(RouteLayer::new(fixture.routes.clone()))
        .layer(fixture.authenticate())
        .layer(ScopeLayer::new())
        .layer(SchemeLayer::new())
        .service_fn(|request: Request<Incoming>| {
            assert!(has_ticket(&request));
            ready(Ok::<_, Infallible>(Response::new(Body::from("answer"))))
        });
    let client = runtime.block_on(Identity::new().http2_client(stack));
    let (mut head, _) = fixture.cookie().into_parts();
    head.headers.remove(HOST_HEADER);
    head.uri = format!("https://{HOST}{}", head.uri).parse().unwrap();
    let request = Request::from_parts(head, ());
    Box::new(move || {
        let answer = runtime.block_on(async {
            let mut client = client.clone().ready().await.unwrap();
            let (response, _) = client.send_request(request.clone(), true).unwrap();
            response.await.unwrap().into_body().data().await.unwrap().unwrap()
        });
        assert_eq!(answer, "answer");
    })
}

fn sanitize() -> Work {
    alone(SanitizeLayer::new(), Fixture::new().cookie(), |_| true)
}

fn route() -> Work {
    let fixture = Fixture::new();
    alone(RouteLayer::new(fixture.routes.clone()), fixture.cookie(), has::<Arc<Route>>)
}

fn authenticate() -> Work {
    let fixture = Fixture::new();
    let request = behind(RouteLayer::new(fixture.routes.clone()), fixture.cookie());
    alone(fixture.authenticate(), request, is_authenticated)
}

fn scope() -> Work {
    let fixture = Fixture::new();
    let request = behind(RouteLayer::new(fixture.routes.clone()), fixture.header());
    alone(ScopeLayer::new(), behind(fixture.authenticate(), request), has::<Authorized>)
}

fn passticket() -> Work {
    let fixture = Fixture::new();
    let request = behind(RouteLayer::new(fixture.routes.clone()), fixture.cookie());
    let request = behind(ScopeLayer::new(), behind(fixture.authenticate(), request));
    alone(SchemeLayer::new(), request, has_ticket)
}

fn cached_token() -> Work {
    let Fixture { verifier, jwt, .. } = Fixture::new();
    Box::new(move || assert!(verifier.verify(black_box(&jwt)).is_ok()))
}

fn revocation_check() -> Work {
    let Fixture { verifier, pat, revocations, .. } = Fixture::new();
    let pat = verifier.verify(&pat).unwrap();
    assert!(matches!(pat, VerifiedToken::Pat(_)));
    Box::new(move || assert!(revocations.check(black_box(&pat)).is_ok()))
}

/// Returns work that advances the clock by `step` and then makes a PassTicket.
fn ticket(algorithm: Algorithm, replay: Replay, step: Duration) -> Work {
    let clock = Arc::new(ManualClock::new(NOW));
    let tickets = generator(&clock, algorithm, replay);
    // With replay protection, a user gets only one PassTicket for each second. The clock advances here, so that there
    // is an unused second for each call.
    clock.advance(Duration::from_secs(2 * ROUNDS as u64));
    let (user, applid) = (user(), applid());
    Box::new(move || {
        clock.advance(step);
        black_box(tickets.generate_now(black_box(&user), black_box(&applid)).unwrap());
    })
}

fn legacy_new_second() -> Work {
    ticket(Algorithm::Legacy, Replay::Allowed, Duration::from_secs(1))
}

fn legacy_remembered() -> Work {
    ticket(Algorithm::Legacy, Replay::Allowed, Duration::ZERO)
}

fn legacy_protected() -> Work {
    ticket(Algorithm::Legacy, Replay::Protected, Duration::ZERO)
}

fn enhanced_new_second() -> Work {
    ticket(Algorithm::EnhancedMixed, Replay::Allowed, Duration::from_secs(1))
}

fn evaluate(algorithm: Algorithm) -> Work {
    let (profile, user) = (profile(applid(), algorithm, Replay::Protected), user());
    let ticket = profile.generate(&user, NOW).unwrap();
    Box::new(move || {
        let evaluated = profile.evaluate(black_box(&user), black_box(&ticket), black_box(NOW));
        assert!(evaluated.is_ok());
    })
}

fn evaluate_legacy() -> Work {
    evaluate(Algorithm::Legacy)
}

fn evaluate_enhanced() -> Work {
    evaluate(Algorithm::EnhancedMixed)
}

/// Declares the benchmarks. Each benchmark has the name of its function.
macro_rules! count {
    ($($name:ident)+) => {
        #[library_benchmark(setup = warm)]
        $(#[bench::$name(args = ($name), config = at_most(stringify!($name)))])+
        fn hot(mut work: Work) -> Work {
            (0..ROUNDS).for_each(|_| work());
            work
        }
    };
}

count! {
    bypass jwt_cookie jwt_counted jwt_audited pat_header client_certificate
    sanitize route authenticate scope passticket forward forward_passticket forward_passticket_watched
    forward_tls_passticket http2_passticket
    revocation_check cached_token
    legacy_new_second legacy_remembered legacy_protected enhanced_new_second
    evaluate_legacy evaluate_enhanced
}

library_benchmark_group!(name = path; benchmarks = hot);
main!(library_benchmark_groups = path);
