//! Tests of scopes with suffixes on routes with a prefix (docs/decisions.md#d49).

use http::Method;

use super::*;

const PREFIX: &str = "/files/api/v1";

/// Returns whether the service has received a PassTicket.
async fn is_permitted(
    world: &World,
    scopes: &str,
    (method, path): (&str, &str),
    headers: &[(&str, &str)],
) -> bool {
    let pat = world.pat(scopes);
    let mut request = get(&format!("{PREFIX}{path}"), headers);
    *request.method_mut() = Method::from_bytes(method.as_bytes()).unwrap();
    request.headers_mut().insert("private-token", HeaderValue::from_str(&pat).unwrap());
    let exchange = world.exchange(request).await;
    if exchange.ticket_user().is_some() {
        assert_eq!(exchange.failure, None);
        return true;
    }
    let is_out_of_scope = matches!(exchange.failure, Some(Failure::OutOfScope { .. }));
    assert!(is_out_of_scope || exchange.rejection.is_some(), "{scopes} {method} {path}");
    if is_out_of_scope {
        assert_eq!(exchange.failure_text(), Some("ZWEAG102E Token is not valid"));
        assert_eq!(exchange.status, 200);
    }
    false
}

const WEB_SOCKET: &[(&str, &str)] = &[
    ("connection", "upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

#[tokio::test]
async fn the_suffix_of_a_scope_limits_methods_and_paths() {
    let world = World::new();
    for (scopes, method, path, want) in [
        ("files", "DELETE", "/x", true),
        ("jobs", "GET", "/x", false),
        ("jobs:read", "GET", "/x", false),
        ("files:read", "GET", "/x", true),
        ("files:read", "HEAD", "", true),
        ("files:read", "OPTIONS", "/x;y", true),
        ("files:read", "POST", "/x", false),
        ("files:read", "PUT", "/x", false),
        ("files:read", "PATCH", "/x", false),
        ("files:read", "DELETE", "/x", false),
        ("files:read", "get", "/x", false),
        ("files:read", "PROPFIND", "/x", false),
        ("files:read", "TRACE", "/x", false),
        ("files:/a/b", "GET", "/a/b", true),
        ("files:/a/b", "DELETE", "/a/b/", true),
        ("files:/a/b", "POST", "/a/b/c?d=/../..", true),
        ("files:/a/b", "GET", "/%61/b", true),
        ("files:/a/b", "GET", "/a/bc", false),
        ("files:/a/b", "GET", "/a/B", false),
        ("files:/a/b", "GET", "/a", false),
        ("files:/a/b", "GET", "", false),
        ("files:/a/b", "GET", "/x/a/b", false),
        ("files:/a/b", "GET", "/x?/a/b", false),
        ("files:/a/b", "GET", "/a/b/../c", false),
        ("files:/a/b", "GET", "/a/b/%2e%2e/c", false),
        ("files:/a/b", "GET", "/a/b/%252e%252e/c", false),
        ("files:/a/b", "GET", "/a/b/..%2fc", false),
        ("files:/a/b", "GET", "/a/b%2f..%2f..%2fc", false),
        ("files:/a/b", "GET", "/a%2fb", false),
        ("files:/a/b", "GET", "/a//b", false),
        ("files:/a/b", "GET", "/a/b//c", false),
        ("files:/a/b", "GET", "/a/b;x", false),
        ("files:/a/b", "GET", "/a/b/%3bx", false),
        ("files:/a/b", "GET", "/a/b/%5c..", false),
        ("files:/a/b", "GET", "/a/b/%00", false),
        ("files:/a/b", "GET", "/a/b/%0a", false),
        ("files:/a/b", "GET", "/a/b/%c0%ae%c0%ae/c", false),
        ("files:/a/b", "GET", "/a/b/%zz", false),
        // The path in a scope does not contain the prefix of the route.
        ("files:/api/v1/a", "GET", "/a", false),
        ("files:/api", "GET", "/api/x", true),
        ("files:/", "PUT", "", true),
        ("files:read,files:/a", "PUT", "/a", true),
        ("files:read,files:/a", "PUT", "/b", false),
        ("files:read,files:/a", "GET", "/b", true),
    ] {
        let is_permitted = is_permitted(&world, scopes, (method, path), &[]).await;
        assert_eq!(is_permitted, want, "{scopes} {method} {path}");
    }
}

#[tokio::test]
async fn a_scope_for_reading_permits_no_web_socket() {
    let world = World::new();
    for (scopes, want) in [("files", true), ("files:read", false), ("files:/x", true)] {
        assert_eq!(is_permitted(&world, scopes, ("GET", "/x"), WEB_SOCKET).await, want, "{scopes}");
    }
}

/// Sends a request with a PAT through the layers up to `ScopeLayer`. Returns the status.
async fn status(route: RouteLayer, world: &World, scopes: &str, request: Request<Body>) -> u16 {
    let authenticator =
        Authenticator::new(world.verifier()).with_personal_access_tokens(world.revocations.clone());
    let stack = ServiceBuilder::new()
        .layer(route)
        .layer(AuthenticateLayer::new(authenticator))
        .layer(ScopeLayer::new())
        .service_fn(echo);
    let (mut request, pat) = (request, world.pat(scopes));
    request.headers_mut().insert("private-token", HeaderValue::from_str(&pat).unwrap());
    exchange(stack, request).await.status.as_u16()
}

#[tokio::test]
async fn a_scope_with_a_suffix_permits_no_upgrade_and_no_other_method_or_path_in_a_header() {
    let world = World::with(OnFailure::Reject);
    let local = || {
        let route = Route::local(ServiceId::new("files").unwrap());
        RouteLayer::new(Routes::new([route.with_on_failure(OnFailure::Reject)]).unwrap())
    };
    for (headers, want) in [
        (&[][..], 200),
        (&[("accept", "text/plain"), ("access-control-request-method", "PUT")], 200),
        (WEB_SOCKET, 403),
        (&[("connection", "upgrade"), ("upgrade", "h2c")], 403),
        (&[("x-http-method-override", "DELETE")], 403),
        (&[("x-http-method", "DELETE")], 403),
        (&[("x-method-override", "DELETE")], 403),
        (&[("x_method_override", "DELETE")], 403),
        (&[("x-http-method-override", "GET")], 403),
    ] {
        let got = status(local(), &world, "files:read", get("/files/x", headers)).await;
        assert_eq!(got, want, "{headers:?}");
        let got = status(local(), &world, "files:/x", get("/files/x", headers)).await;
        assert_eq!(got, 200, "{headers:?}");
    }
    for header in ["x-original-url", "x-rewrite-url", "x_forwarded_uri", "destination"] {
        for (scopes, want) in [("files", 200), ("files:read", 200), ("files:/x", 403)] {
            let request = get("/files/x", &[(header, "/files/y")]);
            assert_eq!(status(local(), &world, scopes, request).await, want, "{header} {scopes}");
        }
    }
}

#[tokio::test]
async fn on_a_fixed_route_a_path_scope_needs_the_prefix() {
    let world = World::with(OnFailure::Reject);
    for (scopes, path, want) in [
        ("files", "/x", 200),
        ("files:read", "/x", 200),
        ("files:/x", "/x", 403),
        ("files:/x", "/files/x", 200),
        ("files:/files", "/files/x", 403),
        ("files:/x", "/filesx", 403),
    ] {
        let route = RouteLayer::fixed(Route::local(ServiceId::new("files").unwrap()));
        assert_eq!(status(route, &world, scopes, get(path, &[])).await, want, "{scopes} {path}");
    }
}
