use std::{
    cell::Cell,
    convert::Infallible,
    future::{Ready, pending, ready},
    sync::Arc,
    task::{Context, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use test_support::{pki, tickets::key_profile};
use tokio::task::yield_now;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

use super::{RequestMetrics, labels::Ending};
use crate::{
    audit::{CredentialKind, ReasonCode},
    layer::{
        AuthenticateLayer, Authenticator, Bypass, OnFailure, PassTicketScheme, Rejection, Route,
        RouteLayer, RouteService, Routes, SanitizeLayer, SchemeLayer, ScopeLayer, ServiceFailure,
    },
    metrics::MetricRegistry,
    passticket::{Applid, KeyProfiles, LocalGenerator, Replay, UserId},
    token::{Rs256Verifier, ServiceId, SigningKey, TokenIssuer},
};

type Answer = Result<Response<Full<Bytes>>, Infallible>;

thread_local! {
    static TIME: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    static START: Instant = Instant::now();
}

/// A clock that stands still until [`pass`] is called. It can be thread-local, because each test has its own thread.
fn now() -> Instant {
    START.with(|start| *start + TIME.get())
}

fn pass(millis: u64) {
    TIME.set(TIME.get() + Duration::from_millis(millis));
}

fn metrics() -> Arc<RequestMetrics> {
    Arc::new(RequestMetrics::with_clock(now))
}

fn service_id(id: &str) -> ServiceId {
    ServiceId::new(id).unwrap()
}

fn bypass(id: &str) -> Route {
    Route::new(service_id(id), "api", "http://127.0.0.1".parse().unwrap(), Bypass).unwrap()
}

fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(path).body(Full::default()).unwrap()
}

fn samples(metrics: &Arc<RequestMetrics>, start: &str) -> Vec<String> {
    let text = MetricRegistry::new().with(metrics.clone()).expose();
    text.lines().filter(|line| line.starts_with(start)).map(str::to_owned).collect()
}

fn requests(metrics: &Arc<RequestMetrics>) -> Vec<String> {
    let samples = samples(metrics, "passticket_requests_total{");
    samples.iter().map(|line| line.trim_start_matches("passticket_requests_total").into()).collect()
}

/// Answers a request. The last segment of the path names the kind of the answer.
fn answer(request: Request<Full<Bytes>>) -> Ready<Answer> {
    let mut response = Response::new(Full::default());
    match request.uri().path() {
        "/a/api/rejected" => response = Rejection::BodyTooLarge { limit: 1 }.into_response(),
        "/a/api/timeout" => {
            response.extensions_mut().insert(ServiceFailure::TimedOut);
        }
        _ => {}
    }
    ready(Ok(response))
}

#[tokio::test]
async fn the_time_of_the_gateway_ends_when_the_service_is_called() {
    let metrics = metrics();
    let mut stack = ServiceBuilder::new()
        .layer(metrics.layer())
        .map_request(|request| {
            pass(3);
            request
        })
        .layer(RouteLayer::new(Routes::new([bypass("a")]).unwrap()))
        .layer(metrics.service_layer())
        .service(service_fn(|request| {
            pass(20);
            answer(request)
        }));
    stack.ready().await.unwrap().call(get("/a/api/x")).await.unwrap();
    stack.ready().await.unwrap().call(get("/none")).await.unwrap();
    assert_eq!(
        samples(&metrics, "passticket_gateway_duration_seconds_s"),
        ["passticket_gateway_duration_seconds_sum 0.006"]
    );
    assert_eq!(
        samples(&metrics, "passticket_gateway_duration_seconds_c"),
        ["passticket_gateway_duration_seconds_count 2"]
    );
    assert_eq!(
        samples(&metrics, "passticket_service_duration_seconds_s"),
        [r#"passticket_service_duration_seconds_sum{service="a"} 0.02"#]
    );
}

#[tokio::test]
async fn each_request_is_counted_once_with_service_credential_outcome_and_reason() {
    let key = SigningKey::from_pem(pki::SIGNING_KEY.as_bytes()).unwrap();
    let profile = key_profile("ZOWEAPPL").with_replay(Replay::Allowed);
    let (applid, unknown) = (*profile.applid(), Applid::new("UNKNOWN").unwrap());
    let tickets = LocalGenerator::new(KeyProfiles::new([profile]).unwrap());
    let route = |id, applid, on_failure| {
        let scheme = PassTicketScheme::new(applid, tickets.clone());
        let upstream = "http://127.0.0.1".parse().unwrap();
        Route::new(service_id(id), "api", upstream, scheme).unwrap().with_on_failure(on_failure)
    };
    let routes = [
        bypass("a"),
        route("f", applid, OnFailure::Forward),
        route("r", applid, OnFailure::Reject),
        route("u", unknown, OnFailure::Reject),
    ];
    let metrics = metrics();
    let verifier = Rs256Verifier::new(key.verifying_key());
    let stack = ServiceBuilder::new()
        .layer(metrics.layer())
        .layer(SanitizeLayer::new())
        .layer(RouteLayer::new(Routes::new(routes).unwrap()))
        .layer(AuthenticateLayer::new(Authenticator::new(verifier)))
        .layer(ScopeLayer::new())
        .layer(SchemeLayer::new())
        .layer(metrics.service_layer())
        .service(service_fn(answer));
    let token = TokenIssuer::new(key).login_token(&UserId::new("USER").unwrap(), "x").unwrap();
    for (path, token) in [
        ("/a/api/x", None),
        ("/a/api/rejected", None),
        ("/a/api/timeout", None),
        ("/a/api/../x", None),
        ("/none", None),
        ("/f/api/x", Some(token.expose())),
        ("/f/api/x", Some(token.expose())),
        ("/f/api/x", None),
        ("/f/api/x", Some("x.y.z")),
        ("/r/api/x", None),
        ("/r/api/x", Some("x.y.z")),
        ("/u/api/x", Some(token.expose())),
    ] {
        let mut request = get(path);
        if let Some(token) = token {
            let value = format!("Bearer {token}").parse().unwrap();
            request.headers_mut().insert("authorization", value);
        }
        stack.clone().oneshot(request).await.unwrap();
    }
    let mut want = [
        (r#"service="",credential="none",outcome="refused",reason="no-route""#, 1),
        (r#"service="",credential="none",outcome="refused",reason="dot-segment""#, 1),
        (r#"service="a",credential="none",outcome="forwarded",reason="""#, 1),
        (r#"service="a",credential="none",outcome="refused",reason="body-too-large""#, 1),
        (r#"service="a",credential="none",outcome="failed",reason="service-timed-out""#, 1),
        (r#"service="f",credential="login-token",outcome="forwarded",reason="""#, 2),
        (
            r#"service="f",credential="none",outcome="forwarded-unauthenticated",reason="no-credential""#,
            1,
        ),
        (
            r#"service="f",credential="token",outcome="forwarded-unauthenticated",reason="token-malformed""#,
            1,
        ),
        (r#"service="r",credential="none",outcome="refused",reason="no-credential""#, 1),
        (r#"service="r",credential="token",outcome="refused",reason="token-malformed""#, 1),
        (r#"service="u",credential="login-token",outcome="failed",reason="no-key-profile""#, 1),
    ]
    .map(|(labels, count)| format!("{{{labels}}} {count}"));
    let mut got = requests(&metrics);
    want.sort();
    got.sort();
    assert_eq!(got, want);
}

#[tokio::test]
async fn a_request_whose_client_disconnects_is_abandoned() {
    let metrics = metrics();
    let stack = ServiceBuilder::new()
        .layer(metrics.layer())
        .layer(RouteLayer::new(Routes::new([bypass("a")]).unwrap()))
        .layer(metrics.service_layer())
        .service(service_fn(|_: Request<Full<Bytes>>| pending::<Answer>()));
    let mut response = Box::pin(stack.oneshot(get("/a/api/x")));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(response.as_mut().poll(&mut cx).is_pending());
    assert_eq!(requests(&metrics).len(), 0);
    drop(response);
    assert_eq!(
        requests(&metrics),
        [r#"{service="a",credential="none",outcome="abandoned",reason=""} 1"#]
    );
    assert_eq!(samples(&metrics, "passticket_service_duration_seconds").len(), 0);
}

#[test]
fn services_beyond_the_limit_share_the_time_series_other() {
    let metrics = metrics();
    let count = |id: &str| {
        let series = metrics.of_service(&service_id(id));
        metrics.count(&series, CredentialKind::None, Ending::Forwarded);
        series.add_time(Duration::from_millis(1));
    };
    count("other");
    (0..2 * RequestMetrics::MAX_SERVICES).for_each(|number| count(&format!("s{number}")));
    count("s0");
    let lines = requests(&metrics);
    assert_eq!(lines.len(), RequestMetrics::MAX_SERVICES + 1);
    let other = r#"{service="other",credential="none",outcome="forwarded",reason=""}"#;
    assert_eq!(lines.last().unwrap(), &format!("{other} {}", RequestMetrics::MAX_SERVICES + 1));
    let times = samples(&metrics, "passticket_service_duration_seconds_count");
    assert_eq!(times.len(), RequestMetrics::MAX_SERVICES + 1);
}

#[test]
fn the_number_of_time_series_is_limited() {
    let metrics = metrics();
    let mut requests_sent = 0;
    for number in 0..RequestMetrics::MAX_SERVICES {
        let series = metrics.of_service(&service_id(&format!("s{number}")));
        for reason in ReasonCode::ALL {
            for kind in CredentialKind::ALL {
                metrics.count(&series, *kind, Ending::Decided(*reason));
                requests_sent += 1;
            }
        }
    }
    let lines = requests(&metrics);
    let of_other = lines.iter().filter(|line| line.contains(r#""other""#)).count();
    assert_eq!(lines.len() - of_other, RequestMetrics::MAX_SERIES);
    assert!(of_other <= CredentialKind::ALL.len() * ReasonCode::ALL.len());
    let counted: u64 = lines.iter().map(|line| number_of(line)).sum();
    assert_eq!(counted, requests_sent);
}

fn number_of(line: &str) -> u64 {
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn the_time_of_the_gateway_includes_the_time_that_a_layer_waits() {
    let metrics = metrics();
    let stack = ServiceBuilder::new()
        .layer(metrics.layer())
        .layer(tower::layer::layer_fn(|inner: RouteService<_>| {
            service_fn(move |request| {
                let inner = inner.clone();
                async {
                    yield_now().await;
                    pass(5);
                    inner.oneshot(request).await
                }
            })
        }))
        .layer(RouteLayer::new(Routes::new([bypass("a")]).unwrap()))
        .layer(metrics.service_layer())
        .service(service_fn(answer));
    // Two requests run at the same time. The layer must not confuse their times.
    let (first, second) = (stack.clone().oneshot(get("/a/api/x")), stack.oneshot(get("/a/api/x")));
    let (first, second) = tokio::join!(first, second);
    assert!(first.is_ok() && second.is_ok());
    assert_eq!(
        samples(&metrics, "passticket_gateway_duration_seconds_s"),
        ["passticket_gateway_duration_seconds_sum 0.015"]
    );
    assert!(super::started::current().is_none());
}
