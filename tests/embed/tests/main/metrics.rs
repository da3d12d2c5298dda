//! An application counts its requests with the metrics of the layers, next to a counter of its own.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_passticket::{
    layer::{
        AuthenticateLayer, Authenticator, OnFailure, PassTicketScheme, RequestMetrics, Route,
        RouteLayer, SchemeLayer, ScopeLayer,
    },
    metrics::{Collect, Counter, Description, Exposition, MetricRegistry},
    passticket::{KeyProfiles, LocalGenerator},
    test_util,
    token::ServiceId,
};

const STARTS: Description = Description::counter("app_starts_total", "Starts of the application.");

/// A counter of the application.
#[derive(Default)]
struct AppCounts {
    starts: Counter,
}

impl Collect for AppCounts {
    fn collect(&self, exposition: &mut Exposition) {
        exposition.value(&STARTS, self.starts.get());
    }
}

#[tokio::test]
async fn an_application_counts_requests_in_its_own_registry() {
    let app = Arc::new(AppCounts::default());
    let metrics = Arc::new(RequestMetrics::default());
    let registry = MetricRegistry::new().with(app.clone()).with(metrics.clone());
    app.starts.increment();

    let profile = test_util::key_profile("ZOWEAPPL");
    let applid = *profile.applid();
    let generator = LocalGenerator::new(KeyProfiles::new([profile]).unwrap());
    let route = Route::new(
        ServiceId::new("files").unwrap(),
        "api/v1",
        "https://zos.example.com".parse().unwrap(),
        PassTicketScheme::new(applid, generator),
    );
    let route = route.unwrap().with_on_failure(OnFailure::Reject);
    let handler = service_fn(async |_: Request<Full<Bytes>>| {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
    });
    let stack = ServiceBuilder::new()
        .layer(metrics.layer())
        .layer(RouteLayer::fixed(route))
        .layer(AuthenticateLayer::new(Authenticator::new(test_util::verifier())))
        .layer(ScopeLayer::new())
        .layer(SchemeLayer::new())
        .service(metrics.service_layer().layer(handler));

    let get = || Request::get("/files/api/v1/x");
    let bearer = format!("Bearer {}", test_util::login_token("USER"));
    for (request, status) in [
        (get().header("authorization", bearer), StatusCode::OK),
        (get(), StatusCode::UNAUTHORIZED),
        (get().header("authorization", "Bearer x.y.z"), StatusCode::UNAUTHORIZED),
    ] {
        let request = request.body(Full::default()).unwrap();
        assert_eq!(stack.clone().oneshot(request).await.unwrap().status(), status);
    }

    let text = registry.expose();
    for line in [
        "app_starts_total 1",
        r#"passticket_requests_total{service="files",credential="login-token",outcome="forwarded",reason=""} 1"#,
        r#"passticket_requests_total{service="files",credential="none",outcome="refused",reason="no-credential"} 1"#,
        r#"passticket_requests_total{service="files",credential="token",outcome="refused",reason="token-malformed"} 1"#,
        "passticket_gateway_duration_seconds_count 3",
        r#"passticket_service_duration_seconds_count{service="files"} 1"#,
    ] {
        assert!(text.lines().any(|it| it == line), "{line} is not in:\n{text}");
    }
}
