//! Measures all layers around a service that does nothing, and each layer alone. For comparison, the benchmark
//! also measures the work that the layers cannot avoid: verifying a token, making a PassTicket, and calling the
//! service.

#![allow(clippy::unwrap_used, reason = "a benchmark may panic")]

mod requests;

use std::{
    convert::Infallible,
    future::ready,
    hint::black_box,
    num::NonZeroUsize,
    sync::{Arc, Mutex},
};

use criterion::{Criterion, criterion_group, criterion_main};
use http::{Request, Response};
use requests::{Body, request};
use tokio::runtime::Builder;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_passticket::{
    clock::{Clock, SystemClock},
    layer::{
        AuthenticateLayer, Authenticator, Bypass, PassTicketScheme, Route, RouteLayer, Routes,
        SanitizeLayer, Scheme, SchemeLayer, ScopeLayer,
    },
    passticket::{Algorithm, Applid, KeyProfile, KeyProfiles, LocalGenerator, Replay, UserId},
    revocation::RevocationIndex,
    token::{Rs256Verifier, Scopes, ServiceId, SigningKey, TokenIssuer, Validity},
};

/// Answers each request. It is the service behind the layers.
async fn nothing(_: Request<Body>) -> Result<Response<Body>, Infallible> {
    Ok(Response::new(Body::default()))
}

fn route(service: &str, scheme: impl Scheme) -> Route {
    let (service, upstream) = (ServiceId::new(service).unwrap(), "http://127.0.0.1".parse());
    Route::new(service, "api/v1", upstream.unwrap(), scheme).unwrap()
}

fn layers(criterion: &mut Criterion) {
    let rsa = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048);
    let key = SigningKey::from_pem(rsa.unwrap().serialize_pem().as_bytes()).unwrap();
    let verifier = Rs256Verifier::new(key.verifying_key());
    let issuer = TokenIssuer::new(key);
    let user = UserId::new("IBMUSER").unwrap();
    let jwt = issuer.login_token(&user, "security-domain").unwrap();
    let scopes = Scopes::parse(["files"]).unwrap();
    let pat = issuer.personal_access_token(&user, &scopes, Validity::MAX).unwrap();

    let applid = Applid::new("ZOWEAPPL").unwrap();
    let profile = KeyProfile::from_hex(applid, Algorithm::Legacy, "E001193519561977").unwrap();
    let profile = Arc::new(profile.with_replay(Replay::Allowed));
    let profiles = KeyProfiles::new([profile.clone()]).unwrap();
    let tickets = PassTicketScheme::new(applid, LocalGenerator::new(profiles));
    let routes = Routes::new([route("files", tickets), route("open", Bypass)]);
    let routes = Arc::new(routes.unwrap());
    let authenticate = |verifier: &Rs256Verifier| {
        let authenticator = Authenticator::new(verifier.clone())
            .with_personal_access_tokens(RevocationIndex::default());
        AuthenticateLayer::new(authenticator)
    };
    let stack = |verifier: &Rs256Verifier| {
        ServiceBuilder::new()
            .layer(SanitizeLayer::new())
            .layer(RouteLayer::new(routes.clone()))
            .layer(authenticate(verifier))
            .layer(ScopeLayer::new())
            .layer(SchemeLayer::new())
            .service(service_fn(nothing))
    };
    let cached = verifier.clone().with_cache(NonZeroUsize::new(10_000).unwrap());
    let (without_cache, with_cache) = (stack(&verifier), stack(&cached));

    let bypass = request("/open/api/v1/x", "x-nothing", "1");
    let cookie = format!("a=1; apimlAuthenticationToken={}", jwt.expose());
    let cookie = request("/files/api/v1/x", "cookie", &cookie);
    let header = request("/files/api/v1/x", "private-token", pat.expose());

    let runtime = Builder::new_current_thread().build().unwrap();
    let mut group = criterion.benchmark_group("stack");
    let mut run = |name: &str, request: &Request<Body>, service: &dyn Fn(Request<Body>)| {
        group.bench_function(name, |b| b.iter(|| service(black_box(request.clone()))));
    };
    let no_layers = |request| {
        runtime.block_on(call(service_fn(nothing), request));
    };
    let verify_each_time = |request| {
        runtime.block_on(call(without_cache.clone(), request));
    };
    let cached_token = |request| {
        runtime.block_on(call(with_cache.clone(), request));
    };
    run("no layers", &bypass, &no_layers);
    run("bypass", &bypass, &verify_each_time);
    run("JWT cookie to PassTicket, token cached", &cookie, &cached_token);
    run("PAT header to PassTicket, token cached", &header, &cached_token);
    run("JWT cookie to PassTicket, token verified each time", &cookie, &verify_each_time);
    run("PAT header to PassTicket, token verified each time", &header, &verify_each_time);
    group.finish();

    // Measure each layer alone. The request has already passed through the earlier layers of the stack.
    let mut group = criterion.benchmark_group("alone");
    macro_rules! alone {
        ($name:literal, $layer:expr, $request:ident) => {
            let service = $layer.layer(service_fn(nothing));
            group.bench_function($name, |b| {
                b.iter(|| runtime.block_on(call(service.clone(), black_box($request.clone()))));
            });
            // The next lines pass the request through this layer. The benchmark of the next layer begins with the
            // request that this layer passes on.
            let passed_on = Mutex::new(None);
            let keep = service_fn(|request| {
                *passed_on.lock().unwrap() = Some(request);
                ready(Ok(Response::new(Body::default())))
            });
            runtime.block_on(call($layer.layer(keep), $request));
            let $request = passed_on.into_inner().unwrap().unwrap();
        };
    }
    let request = header;
    alone!("sanitize", SanitizeLayer::new(), request);
    alone!("route", RouteLayer::new(routes.clone()), request);
    alone!("authenticate, token cached", authenticate(&cached), request);
    alone!("scope", ScopeLayer::new(), request);
    alone!("scheme (PassTicket)", SchemeLayer::new(), request);
    drop(request);
    group.finish();

    let mut group = criterion.benchmark_group("without layers");
    group.bench_function("verify a JWT", |b| b.iter(|| verifier.verify(black_box(jwt.expose()))));
    group.bench_function("make a PassTicket", |b| {
        b.iter(|| profile.generate(black_box(&user), SystemClock.now()));
    });
    group.finish();
}

async fn call<S>(service: S, request: Request<Body>) -> Response<Body>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    service.oneshot(request).await.unwrap_or_else(|never| match never {})
}

criterion_group!(benches, layers);
criterion_main!(benches);
