//! Counts the instructions of the code that runs for each request, with valgrind. Such a count shows a regression that
//! is too small to measure as time. Each count covers [`ROUNDS`] calls. Before them, the benchmark makes the same
//! number of warm-up calls, which are not counted.
//!
//! `instructions.txt` contains the committed counts. A benchmark fails if its count is more than 5 % above the
//! committed count, or if there is no committed count. `just instructions` also fails if a count is more than 20 %
//! below the committed count: the code returned too early, or became faster. If it became faster, update the committed
//! count. Otherwise the benchmark would not notice a later regression.
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
mod world;

use std::{
    convert::Infallible, env, future::ready, hint::black_box, mem, sync::Arc, time::Duration,
};

use connections::{HOST, Identity};
use gungraun::{
    Callgrind, EventKind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main,
};
use http::{Request, Response, StatusCode, header::HOST as HOST_HEADER};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, DnType};
use tokio::{
    io::duplex,
    runtime::{self, Runtime},
};
use tower::{Layer, Service, ServiceBuilder, service_fn};
use tower_passticket::{
    audit::{Audit, AuditRecord, AuditSink},
    clock::ManualClock,
    hyper::body::Incoming,
    identity::PeerCertificate,
    layer::{
        Authentication, Authorized, PassTicketScheme, RequestMetrics, Route, RouteLayer, Routes,
        SanitizeLayer, SchemeLayer, ScopeLayer,
    },
    passticket::{Algorithm, KeyProfiles, Replay},
    proxy::{Forward, ForwardTimeouts, ResponseBody},
    ticket_breaker::{RefusedStatuses, TicketBreaker, TicketLimits},
    token::{SigningKey, VerifiedToken},
};
use world::{
    Answers, Expected, Inner, NOW, UPSTREAM, World, answer, applid, generator, has_ticket,
    profiles::profile,
    requests::{Body, request},
    route_to, service, user,
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

fn world() -> World {
    let rsa = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048);
    World::of(SigningKey::from_pem(rsa.unwrap().serialize_pem().as_bytes()).unwrap())
}

fn has<T: Send + Sync + 'static>(request: &Request<Body>) -> bool {
    request.extensions().get::<T>().is_some()
}

fn is_authenticated(request: &Request<Body>) -> bool {
    matches!(request.extensions().get(), Some(Authentication::Authenticated(_)))
}

/// Returns work that sends a copy of `request` in each call.
fn answering(mut service: impl Answers, request: Request<Body>) -> Work {
    let mut requests = vec![request; 2 * ROUNDS];
    Box::new(move || {
        let response = answer(&mut service, requests.pop().unwrap());
        assert_eq!(response.status(), StatusCode::OK);
    })
}

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
    answering(world().stack(has::<Arc<Route>>), request("/open/api/v1/x", "x-nothing", "1"))
}

fn jwt_cookie() -> Work {
    let world = world();
    answering(world.stack(has_ticket), world.cookie())
}

/// Sends the same requests as [`jwt_cookie`], and also counts them in [`RequestMetrics`]. The difference of the two
/// counts is the cost of these metrics.
fn jwt_counted() -> Work {
    let world = world();
    let metrics = Arc::new(RequestMetrics::default());
    let stack = ServiceBuilder::new()
        .layer(metrics.layer())
        .layer(SanitizeLayer::new())
        .layer(RouteLayer::new(world.routes.clone()))
        .layer(world.authenticate())
        .layer(ScopeLayer::new())
        .layer(SchemeLayer::new())
        .layer(metrics.service_layer())
        .service(Inner { expected: has_ticket, keep: None });
    answering(stack, world.cookie())
}

fn pat_header() -> Work {
    let world = world();
    answering(world.stack(has_ticket), world.header())
}

fn client_certificate() -> Work {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "IBMUSER");
    let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
    let certificate = PeerCertificate::from_der(certificate.der().to_vec()).unwrap();
    let mut request = request("/files/api/v1/x", "x-nothing", "1");
    request.extensions_mut().insert(certificate);
    answering(world().stack(has_ticket), request)
}

/// An audit sink that formats each record, as the sink that writes to a file does.
struct Lines;

impl AuditSink for Lines {
    fn record(&self, record: AuditRecord) {
        black_box(record.to_json());
    }
}

fn jwt_audited() -> Work {
    let world = World { audit: Audit::to(Lines), ..world() };
    answering(world.stack(has_ticket), world.cookie())
}

fn forward() -> Work {
    let request = request("/open/api/v1/x", "x-nothing", "1");
    let request = behind(RouteLayer::new(world().routes), request);
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

/// Returns a request for a service at `upstream`, as the layer of the schemes receives it. The scheme of the service
/// makes PassTickets, and uses `breaker` if there is one.
fn authorized(upstream: &str, breaker: Option<&TicketBreaker>) -> Request<Body> {
    let world = world();
    let tickets = generator(&world.clock, Algorithm::Legacy, Replay::Allowed);
    let scheme = PassTicketScheme::new(applid(), tickets);
    let scheme = match breaker {
        None => scheme,
        Some(breaker) => scheme.with_breaker(breaker, "/files/api/v1", RefusedStatuses::default()),
    };
    let routes = Arc::new(Routes::new([route_to("files", upstream, scheme)]).unwrap());
    mem::forget(Arc::clone(&routes));
    let request = behind(RouteLayer::new(routes), world.cookie());
    behind(ScopeLayer::new(), behind(world.authenticate(), request))
}

fn forward_passticket() -> Work {
    forwarding(authorized(UPSTREAM, None))
}

/// The service is behind TLS. All requests use one connection to the service.
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

/// The client uses HTTP/2 over TLS, on one connection. All layers are in front of a service that only answers.
fn http2_passticket() -> Work {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let world = world();
    let stack = ServiceBuilder::new()
        .layer(SanitizeLayer::new())
        .layer(RouteLayer::new(world.routes.clone()))
        .layer(world.authenticate())
        .layer(ScopeLayer::new())
        .layer(SchemeLayer::new())
        .service_fn(|request: Request<Incoming>| {
            assert!(has_ticket(&request));
            ready(Ok::<_, Infallible>(Response::new(Body::from("answer"))))
        });
    let client = runtime.block_on(Identity::new().http2_client(stack));
    let (mut head, _) = world.cookie().into_parts();
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
    alone(SanitizeLayer::new(), world().cookie(), |_| true)
}

fn route() -> Work {
    let world = world();
    alone(RouteLayer::new(world.routes.clone()), world.cookie(), has::<Arc<Route>>)
}

fn authenticate() -> Work {
    let world = world();
    let request = behind(RouteLayer::new(world.routes.clone()), world.cookie());
    alone(world.authenticate(), request, is_authenticated)
}

fn scope() -> Work {
    let world = world();
    let request = behind(RouteLayer::new(world.routes.clone()), world.header());
    alone(ScopeLayer::new(), behind(world.authenticate(), request), has::<Authorized>)
}

fn passticket() -> Work {
    let world = world();
    let request = behind(RouteLayer::new(world.routes.clone()), world.cookie());
    let request = behind(ScopeLayer::new(), behind(world.authenticate(), request));
    alone(SchemeLayer::new(), request, has_ticket)
}

fn cached_token() -> Work {
    let World { verifier, jwt, .. } = world();
    Box::new(move || assert!(verifier.verify(black_box(&jwt)).is_ok()))
}

fn revocation_check() -> Work {
    let World { verifier, pat, revocations, .. } = world();
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
