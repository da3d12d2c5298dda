//! An application adds its own handlers behind the layers of `tower-passticket`. `RequireAuthorizedLayer` refuses
//! requests that are not authorized, so that no handler is called for them (docs/decisions.md#d40). With
//! `with_bypass_allowed`, the layer also permits requests on routes with the scheme `Bypass` (no authentication).

use axum::{
    Extension, Router,
    body::{Body, to_bytes},
    extract::{FromRequestParts, Request},
    http::request::Parts,
    response::Response,
    routing::get,
};
use tower::{ServiceBuilder, ServiceExt};
use tower_passticket::{
    layer::{
        AuthenticateLayer, Authenticator, Authorized, Bypass, OnFailure, RequireAuthorizedLayer,
        Route, RouteLayer, ScopeLayer,
    },
    revocation::RevocationIndex,
    test_util,
    token::ServiceId,
};

/// An axum extractor for the authorized user. If a request is not authorized, the extractor answers with the same
/// response as `RequireAuthorizedLayer`.
struct User(Authorized);

impl<S: Sync> FromRequestParts<S> for User {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        match Authorized::require(&parts.extensions) {
            Ok(authorized) => Ok(Self(authorized.clone())),
            Err(rejection) => Err(rejection.into_response()),
        }
    }
}

fn local() -> Route {
    Route::local(ServiceId::new("files").unwrap())
}

fn bypassing() -> Route {
    let upstream = "http://localhost".parse().unwrap();
    Route::new(ServiceId::new("files").unwrap(), "", upstream, Bypass).unwrap()
}

fn handlers() -> Router {
    Router::new()
        .route("/open", get(|| async { "called" }))
        .route("/extension", get(|Extension(_): Extension<Authorized>| async { "called" }))
        .route("/extractor", get(|User(user): User| async move { user.user().to_string() }))
}

fn authenticated(router: Router, route: Route) -> Router {
    let authenticator = Authenticator::new(test_util::verifier())
        .with_personal_access_tokens(RevocationIndex::default());
    router.layer(
        ServiceBuilder::new()
            .layer(RouteLayer::fixed(route))
            .layer(AuthenticateLayer::new(authenticator))
            .layer(ScopeLayer::new()),
    )
}

async fn ask(router: &Router, path: &str, token: &str) -> (u16, String) {
    let mut request = Request::get(path);
    if !token.is_empty() {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let response = router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body(), 10_000).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn a_request_without_a_credential_gets_401_in_every_stack() {
    let required = || handlers().layer(RequireAuthorizedLayer::new());
    let forward = local().with_on_failure(OnFailure::Forward);
    let stacks = [
        ("only RequireAuthorizedLayer", required()),
        ("route that rejects failures", authenticated(required(), local())),
        ("route that forwards failures", authenticated(required(), forward)),
        ("route with Bypass", authenticated(required(), bypassing())),
        ("fixed route, no RequireAuthorizedLayer", authenticated(handlers(), local())),
    ];
    for (name, stack) in stacks {
        for path in ["/open", "/extension", "/extractor"] {
            let (status, body) = ask(&stack, path, "").await;
            assert_eq!(status, 401, "{name}: {path}");
            let body: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!(body["messages"][0]["messageNumber"], "ZWEAG160E", "{name}: {path}");
        }
    }
}

#[tokio::test]
async fn a_forwarded_failure_keeps_its_status() {
    let route = local().with_on_failure(OnFailure::Forward);
    let stack = authenticated(handlers().layer(RequireAuthorizedLayer::new()), route);
    let token = test_util::login_token("USER");
    let (pat, pat_of_other_service) = (
        test_util::personal_access_token("USER", &["files"]),
        test_util::personal_access_token("USER", &["jobs"]),
    );
    for (token, status) in
        [(&*token, 200), (&pat, 200), (&pat_of_other_service, 403), ("garbage", 401)]
    {
        for path in ["/open", "/extension", "/extractor"] {
            assert_eq!(ask(&stack, path, token).await.0, status, "{path}");
        }
    }
    assert_eq!(ask(&stack, "/extractor", &token).await.1, "USER");
}

#[tokio::test]
async fn an_extractor_refuses_a_request_without_any_layer() {
    assert_eq!(ask(&handlers(), "/extractor", "").await.0, 401);
}

#[tokio::test]
async fn with_bypass_allowed_lets_only_bypass_routes_through() {
    let layer = RequireAuthorizedLayer::new().with_bypass_allowed();
    let stack = authenticated(handlers().layer(layer), bypassing());
    assert_eq!(ask(&stack, "/open", "").await, (200, "called".to_owned()));
    // A route without `Bypass` still needs an authorized user.
    let forward = local().with_on_failure(OnFailure::Forward);
    let stack = authenticated(handlers().layer(layer), forward);
    assert_eq!(ask(&stack, "/open", "").await.0, 401);
}
