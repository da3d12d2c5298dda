//! An application uses layers of the crate `tower-http` outside, between and inside the layers of `tower-passticket`.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http::{HeaderName, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_http::{
    compression::CompressionLayer, cors::CorsLayer, timeout::TimeoutLayer, trace::TraceLayer,
};
use tower_passticket::{
    layer::{
        AuthenticateLayer, Authenticator, PassTicketScheme, RequireAuthorizedLayer,
        ResponseBodyLayer, Route, RouteLayer, SanitizeLayer, SchemeLayer, ScopeLayer,
    },
    passticket::{KeyProfiles, LocalGenerator},
    proxy::{Forward, ForwardTimeouts},
    test_util,
    tls::{Connector, Verification},
    token::ServiceId,
};

const LONG: Duration = Duration::from_secs(10);

fn route() -> Route {
    let profile = test_util::key_profile("ZOWEAPPL");
    let scheme = PassTicketScheme::new(
        *profile.applid(),
        LocalGenerator::new(KeyProfiles::new([profile]).unwrap()),
    );
    let upstream = "http://127.0.0.1:1".parse().unwrap();
    Route::new(ServiceId::new("svc").unwrap(), "", upstream, scheme).unwrap()
}

fn get(token: &str) -> Request<Full<Bytes>> {
    let request = Request::get("/svc/x").header("accept-encoding", "gzip");
    request.header("authorization", format!("Bearer {token}")).body(Full::default()).unwrap()
}

fn timeout_layer(after: Duration) -> TimeoutLayer {
    TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, after)
}

/// A service with the body type `Empty`. The layers cannot put an error message into a body of this type, so the stack
/// needs a `ResponseBodyLayer`.
async fn empty(_: Request<Full<Bytes>>) -> Result<Response<Empty<Bytes>>, Infallible> {
    Ok(Response::new(Empty::new()))
}

#[tokio::test]
async fn tower_http_layers_work_inside_of_the_passticket_layers() {
    let stack = ServiceBuilder::new()
        .layer(SanitizeLayer::new())
        .layer(RouteLayer::fixed(route()))
        .layer(AuthenticateLayer::new(Authenticator::new(test_util::verifier())))
        .layer(ScopeLayer::new())
        .layer(RequireAuthorizedLayer::new())
        .layer(SchemeLayer::new())
        // The layers and the service inside of this layer can have any type of response body.
        .layer(ResponseBodyLayer::new())
        .layer(TraceLayer::new_for_http())
        .layer(CorsLayer::permissive())
        .layer(timeout_layer(LONG))
        .layer(CompressionLayer::new())
        .service(service_fn(empty));
    let response = stack.clone().oneshot(get(&test_util::login_token("USER"))).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.headers().contains_key("access-control-allow-origin"));
    let response = stack.oneshot(get("garbage")).await.unwrap();
    assert_eq!(response.status(), 401);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert!(body.starts_with(b"{\"messages\""), "{body:?}");
}

#[tokio::test]
async fn tower_http_layers_work_between_the_passticket_layers() {
    let stack = ServiceBuilder::new()
        .layer(SanitizeLayer::new())
        .layer(ResponseBodyLayer::new())
        .layer(TraceLayer::new_for_http())
        .layer(RouteLayer::fixed(route()))
        .layer(AuthenticateLayer::new(Authenticator::new(test_util::verifier())))
        .layer(ScopeLayer::new())
        .layer(ResponseBodyLayer::new())
        .service(service_fn(empty));
    assert_eq!(stack.oneshot(get("garbage")).await.unwrap().status(), 401);
}

#[tokio::test]
async fn tower_http_layers_work_outside_of_the_passticket_layers() {
    let auth_layers = ServiceBuilder::new()
        .layer(SanitizeLayer::new())
        .layer(RouteLayer::fixed(route()))
        .layer(AuthenticateLayer::new(Authenticator::new(test_util::verifier())))
        .layer(ScopeLayer::new())
        .layer(SchemeLayer::new());
    let stack = ServiceBuilder::new()
        .layer(TraceLayer::new_for_http())
        .layer(CompressionLayer::new())
        .layer(CorsLayer::permissive())
        .layer(timeout_layer(LONG))
        .layer(auth_layers)
        .service(service_fn(|_: Request<Full<Bytes>>| async {
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("a".repeat(1000)))))
        }));
    let response = stack.clone().oneshot(get(&test_util::login_token("USER"))).await.unwrap();
    assert_eq!(response.headers()["content-encoding"], "gzip");
    assert_eq!(stack.oneshot(get("garbage")).await.unwrap().status(), 401);
}

#[tokio::test]
async fn tower_http_layers_work_around_forward() {
    let connector =
        || Connector::builder().with_verification(Verification::Disabled).build().unwrap();
    let auth_layers = ServiceBuilder::new()
        .layer(RouteLayer::fixed(route()))
        .layer(AuthenticateLayer::new(Authenticator::new(test_util::verifier())))
        .layer(ScopeLayer::new())
        .layer(SchemeLayer::new());
    // In `inside`, the layers of `tower-http` directly surround `Forward`. In `outside`, they surround all other
    // layers.
    let inside = ServiceBuilder::new()
        .layer(auth_layers.clone())
        .layer(ResponseBodyLayer::new())
        .layer(TraceLayer::new_for_http())
        .layer(CompressionLayer::new())
        .layer(CorsLayer::permissive())
        .layer(timeout_layer(LONG))
        .service(Forward::new(connector(), ForwardTimeouts::default()));
    let outside = ServiceBuilder::new()
        .layer(TraceLayer::new_for_http())
        .layer(CompressionLayer::new())
        .layer(CorsLayer::permissive())
        .layer(timeout_layer(LONG))
        .layer(auth_layers)
        .service(Forward::new(connector(), ForwardTimeouts::default()));
    let token = test_util::login_token("USER");
    assert_eq!(inside.oneshot(get(&token)).await.unwrap().status(), 503);
    assert_eq!(outside.oneshot(get(&token)).await.unwrap().status(), 503);
}

#[tokio::test(start_paused = true)]
async fn an_outer_timeout_layer_answers_if_the_service_does_not() {
    let stack = ServiceBuilder::new()
        .layer(CorsLayer::new().expose_headers([HeaderName::from_static("x-zowe-auth-failure")]))
        .layer(timeout_layer(Duration::from_millis(50)))
        .layer(RouteLayer::fixed(route()))
        .service(service_fn(|_: Request<Full<Bytes>>| {
            std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>()
        }));
    assert_eq!(stack.oneshot(get("x")).await.unwrap().status(), 504);
}
