//! Uses the layers in an axum router. The handler of the protected route `/whoami` receives the z/OS user.
//!
//! Run `cargo run --example axum`. The argument of the program is the address to listen on, by default 127.0.0.1:8080.
//! The program prints a `curl` command with a token.

#![allow(clippy::print_stdout, reason = "the example prints a command to try")]

use axum::{Extension, Router, routing::get};
use tower::ServiceBuilder;
use tower_passticket::{
    layer::{
        AuthenticateLayer, Authenticator, Authorized, RequireAuthorizedLayer, Route, RouteLayer,
        SanitizeLayer, ScopeLayer,
    },
    passticket::UserId,
    revocation::RevocationIndex,
    token::{Rs256Verifier, ServiceId, SigningKey, TokenIssuer},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let key = signing_key()?;
    let token = TokenIssuer::new(key.clone()).login_token(&UserId::new("USER")?, "example")?;
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    println!("curl -H 'Authorization: Bearer {}' http://{address}/whoami", token.expose());

    let listener = tokio::net::TcpListener::bind(address).await?;
    Ok(axum::serve(listener, app(Rs256Verifier::new(key.verifying_key()))?).await?)
}

fn app(verifier: Rs256Verifier) -> Result<Router, Box<dyn std::error::Error>> {
    // axum finds the handler by the path. So the layers below need only one route, and use it for each request. The
    // service id of this route is `whoami`. A Personal Access Token (PAT) is accepted if its scopes contain this id.
    let route = Route::local(ServiceId::new("whoami")?);
    let authenticator =
        Authenticator::new(verifier).with_personal_access_tokens(RevocationIndex::default());

    let protected = Router::new().route("/whoami", get(whoami)).layer(
        ServiceBuilder::new()
            .layer(SanitizeLayer::new())
            .layer(RouteLayer::fixed(route))
            .layer(AuthenticateLayer::new(authenticator))
            .layer(ScopeLayer::new())
            // Rejects each request that the layers above have not authorized, before it reaches the handler.
            .layer(RequireAuthorizedLayer::new()),
    );
    Ok(Router::new().route("/health", get(|| async { "UP\n" })).merge(protected))
}

/// Returns the user id. The user is authorized, because only [`ScopeLayer`] creates an [`Authorized`].
async fn whoami(Extension(authorized): Extension<Authorized>) -> String {
    format!("{}\n", authorized.user())
}

/// Creates a new signing key. In production, read the key from a file.
fn signing_key() -> Result<SigningKey, Box<dyn std::error::Error>> {
    let key = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)?;
    Ok(SigningKey::from_pem(key.serialize_pem().as_bytes())?)
}

#[cfg(test)]
mod tests {
    use axum::{
        body::{Body, to_bytes},
        http::Request,
    };
    use tower::ServiceExt;
    use tower_passticket::token::{Scopes, Validity};

    use super::*;

    #[tokio::test]
    async fn whoami_needs_authorization_and_health_does_not() {
        let key = signing_key().unwrap();
        let app = app(Rs256Verifier::new(key.verifying_key())).unwrap();
        let issuer = TokenIssuer::new(key);
        let user = UserId::new("USER").unwrap();
        let pat = |scope| {
            let scopes = Scopes::parse([scope]).unwrap();
            let pat = issuer.personal_access_token(&user, &scopes, Validity::MAX).unwrap();
            format!("Bearer {}", pat.expose())
        };
        let jwt = format!("Bearer {}", issuer.login_token(&user, "x").unwrap().expose());
        for (path, bearer, status, body) in [
            ("/health", String::new(), 200, "UP\n"),
            ("/whoami", jwt, 200, "USER\n"),
            ("/whoami", pat("whoami"), 200, "USER\n"),
            ("/whoami", pat("another"), 403, ""),
            ("/whoami", "Bearer x".to_owned(), 401, ""),
            ("/whoami", String::new(), 401, ""),
        ] {
            let request = Request::get(path).header("authorization", &bearer);
            let request = request.body(Body::empty()).unwrap();
            let response = app.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), status, "{path} {bearer}");
            let got = to_bytes(response.into_body(), 10_000).await.unwrap();
            if status == 200 {
                assert_eq!(got, body);
            }
        }
    }
}
