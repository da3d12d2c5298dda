//! Handlers of an embedder behind the layers: none is called for a client that is not authorized
//! (docs/decisions.md#d40).

#![expect(clippy::unwrap_used, reason = "helpers of a test may panic as the test may")]

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

/// An extractor that needs no other layer: it answers as the layers do.
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

/// The layers that find out who the client is.
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
async fn a_client_that_is_not_authorized_gets_401_from_every_handler() {
    let required = || handlers().layer(RequireAuthorizedLayer::new());
    let forward = local().with_on_failure(OnFailure::Forward);
    let stacks = [
        ("no layer before it", required()),
        ("a route that rejects", authenticated(required(), local())),
        ("a route that forwards failures", authenticated(required(), forward)),
        ("a route that bypasses", authenticated(required(), bypassing())),
        ("a fixed route rejects even without it", authenticated(handlers(), local())),
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
async fn the_answer_is_the_one_of_the_failure() {
    let route = local().with_on_failure(OnFailure::Forward);
    let stack = authenticated(handlers().layer(RequireAuthorizedLayer::new()), route);
    let token = test_util::login_token("USER");
    let (pat, foreign) = (
        test_util::personal_access_token("USER", &["files"]),
        test_util::personal_access_token("USER", &["jobs"]),
    );
    for (token, status) in [(&*token, 200), (&pat, 200), (&foreign, 403), ("garbage", 401)] {
        for path in ["/open", "/extension", "/extractor"] {
            assert_eq!(ask(&stack, path, token).await.0, status, "{path}");
        }
    }
    assert_eq!(ask(&stack, "/extractor", &token).await.1, "USER");
}

#[tokio::test]
async fn an_extractor_alone_rejects_as_well() {
    assert_eq!(ask(&handlers(), "/extractor", "").await.0, 401);
}

#[tokio::test]
async fn a_route_that_bypasses_is_let_through_only_where_it_is_said() {
    let layer = RequireAuthorizedLayer::new().with_bypass_allowed();
    let stack = authenticated(handlers().layer(layer), bypassing());
    assert_eq!(ask(&stack, "/open", "").await, (200, "called".to_owned()));
    // Other routes are not let through.
    let forward = local().with_on_failure(OnFailure::Forward);
    let stack = authenticated(handlers().layer(layer), forward);
    assert_eq!(ask(&stack, "/open", "").await.0, 401);
}
