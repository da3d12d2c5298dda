//! Tests of [`Scheme::accepts`], which determines the credentials that are evaluated, and whether the scheme can read
//! the client's token.

use super::*;

/// A scheme that sends the user and the client's token to the service.
struct Shown(Accepts);

impl Scheme for Shown {
    fn name(&self) -> &'static str {
        "shown"
    }

    fn prepare(&self, request: &SchemeRequest<'_>) -> SchemeFuture {
        let token = request.token().unwrap_or("none");
        SchemeHeaders::new()
            .with(HeaderName::from_static("x-user"), request.user().as_str().parse().unwrap())
            .with(HeaderName::from_static("x-token"), token.parse().unwrap())
            .into()
    }

    fn reserved_headers(&self) -> &[HeaderName] {
        &[]
    }

    fn accepts(&self) -> Accepts {
        self.0
    }
}

async fn exchange_with(world: &World, accepts: Accepts, request: Request<Body>) -> Exchange {
    let authenticator = Authenticator::new(world.verifier())
        .with_personal_access_tokens(world.revocations.clone())
        .with_client_certificates(CommonNameMapper)
        .with_clock(world.clock.clone());
    let stack = ServiceBuilder::new()
        .layer(RouteLayer::new(Routes::new([world.route("files", Shown(accepts))]).unwrap()))
        .layer(AuthenticateLayer::new(authenticator))
        .layer(ScopeLayer::new())
        .layer(SchemeLayer::new())
        .service(tower::service_fn(echo));
    exchange(stack, request).await
}

#[tokio::test]
async fn a_scheme_reads_only_the_login_token_that_was_verified() {
    let world = World::new();
    let (first, second, pat) = (world.jwt(), world.jwt(), world.pat("files"));
    assert_ne!(first, second);
    let cookie = format!("a=1; apimlAuthenticationToken={first}");
    let bearer = |token: &str| format!("Bearer {token}");
    let all = [("cookie", &*cookie), ("authorization", &*bearer(&second))];
    let with_token = Accepts::AnyCredentialWithToken;
    for (accepts, headers, want) in [
        (with_token, &all[..], &*first),
        (with_token, &all[1..], &second),
        (with_token, &[("authorization", &*bearer(&pat))], "none"),
        (with_token, &[("private-token", &*pat)], "none"),
        (Accepts::AnyCredential, &all, "none"),
    ] {
        let exchange = exchange_with(&world, accepts, get(FILES, headers)).await;
        assert_eq!(exchange.failure_text(), None);
        let seen = (exchange.received("x-user"), exchange.received("x-token"));
        assert_eq!(seen, (Some("USER"), Some(want)), "{accepts:?} {headers:?}");
        assert_eq!(exchange.received("authorization"), None);
    }
}

#[tokio::test]
async fn a_scheme_that_accepts_client_certificates_ignores_tokens() {
    let world = World::new();
    let bearer = format!("Bearer {}", world.jwt());
    let request = || get(FILES, &[("authorization", &bearer)]);
    let exchange = exchange_with(&world, Accepts::ClientCertificate, request()).await;
    assert_eq!(exchange.failure, Some(Failure::NoCertificate));
    assert_eq!(exchange.received("authorization"), None);
    for accepts in [Accepts::ClientCertificate, Accepts::AnyCredentialWithToken] {
        let mut request = request();
        request.extensions_mut().insert(certificate("other"));
        let exchange = exchange_with(&world, accepts, request).await;
        let want = match accepts {
            Accepts::ClientCertificate => "OTHER",
            _ => "USER",
        };
        assert_eq!(exchange.received("x-user"), Some(want));
        assert_eq!(exchange.received("authorization"), None);
    }
}
