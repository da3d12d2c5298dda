//! Accepts tokens of an OpenID Connect provider in an axum router. The router maps the user in the token to a z/OS
//! user, and the handler receives the z/OS user.
//!
//! The example fetches the keys of the provider from its `jwks_uri`:
//!
//! ```sh
//! cargo run --example oidc --features remote,tls -- ISSUER JWKS_URI AUDIENCE CA_FILE
//! curl -H "Authorization: Bearer $TOKEN" http://127.0.0.1:8080/whoami
//! ```

#![allow(clippy::print_stdout, reason = "the example prints a command to try")]

use std::num::NonZeroUsize;

use axum::{Extension, Router, routing::get};
use tower::ServiceBuilder;
use tower_passticket::{
    identity::{DistributedIdentity, DistributedMap, Registry},
    layer::{
        AuthenticateLayer, Authenticator, Authorized, RequireAuthorizedLayer, Route, RouteLayer,
        SanitizeLayer, ScopeLayer,
    },
    passticket::UserId,
    remote::{Client, ClientLimits},
    revocation::RevocationIndex,
    tls::Connector,
    token::{
        Algorithm, IssuerKeys, JwksUrl, OidcIssuer, Rs256Verifier, ServiceId, SigningKey,
        TrustedIssuers,
    },
};

/// The name of the provider in the table that maps its users to z/OS users.
const REGISTRY: &str = "idp.example.com";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [issuer, jwks_uri, audience, ca_file] = arguments.as_slice() else {
        return Err("write: oidc ISSUER JWKS_URI AUDIENCE CA_FILE".into());
    };
    // The keys are fetched over TLS. A certificate authority in `ca_file` must have issued the certificate of the
    // server.
    let connector = Connector::builder().with_authorities(&std::fs::read(ca_file)?).build()?;
    let client = Client::new(connector, ClientLimits::default());
    let keys = IssuerKeys::fetched(issuer, JwksUrl::new(client, jwks_uri.parse()?)?);
    // This task fetches the keys now, and then at intervals. Without this task, the first request would wait for the
    // keys.
    tokio::spawn(keys.clone().keep_fresh());

    let provider =
        OidcIssuer::new(issuer.parse()?, audience.as_str(), Registry::new(REGISTRY)?, keys)
            .with_algorithms([Algorithm::Rs256, Algorithm::Es256])
            .with_user_id_fields(["email", "sub"]);
    println!("curl -H \"Authorization: Bearer $TOKEN\" http://127.0.0.1:8080/whoami");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
    Ok(axum::serve(listener, app(own_tokens()?, provider)?).await?)
}

/// Makes the router. It accepts the tokens that `own` verifies, and the tokens of `provider`.
fn app(own: Rs256Verifier, provider: OidcIssuer) -> Result<Router, Box<dyn std::error::Error>> {
    let issuers = TrustedIssuers::new(own).with_oidc(provider)?;
    // This table maps users of the provider to z/OS users. In production, read it from a file, or ask the security
    // product.
    let jane = DistributedIdentity::new("jane@example.com", REGISTRY)?;
    let users = DistributedMap::new([(jane, UserId::new("JANE")?)])?;
    let authenticator = Authenticator::new(issuers)
        .with_distributed_identities(users)
        .with_revocations(RevocationIndex::default());

    let layers = ServiceBuilder::new()
        .layer(SanitizeLayer::new())
        .layer(RouteLayer::fixed(Route::local(ServiceId::new("whoami")?)))
        .layer(AuthenticateLayer::new(authenticator))
        .layer(ScopeLayer::new())
        // Rejects each request that the layers above have not authorized, before it reaches the handler.
        .layer(RequireAuthorizedLayer::new());
    Ok(Router::new().route("/whoami", get(whoami)).layer(layers))
}

async fn whoami(Extension(authorized): Extension<Authorized>) -> String {
    format!("{}\n", authorized.user())
}

/// Returns the verifier of the application's own tokens, with a cache of verified tokens. In production, read the key
/// from a file.
fn own_tokens() -> Result<Rs256Verifier, Box<dyn std::error::Error>> {
    let key = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)?;
    let key = SigningKey::from_pem(key.serialize_pem().as_bytes())?;
    let tokens = NonZeroUsize::new(10_000).ok_or("the cache has no room")?;
    Ok(Rs256Verifier::new(key.verifying_key()).with_cache(tokens))
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Mutex},
        time::Duration,
    };

    use axum::{body::Body, http::Request};
    use jsonwebtoken::{Algorithm as Alg, EncodingKey, Header};
    use serde_json::{Value, json};
    use test_support::pki;
    use tower::ServiceExt;
    use tower_passticket::{
        clock::{Clock, ManualClock, SystemClock},
        token::{FetchFuture, IssuerUrl, KeyId},
    };

    use super::*;

    const ISSUER: &str = "https://idp.example.com/";

    /// The private keys (PEM) whose public keys the provider lists. The id of a key is `a` or `b`.
    type Listed = Arc<Mutex<Vec<&'static str>>>;

    fn id(pem: &str) -> &'static str {
        if pem == pki::SIGNING_KEY { "a" } else { "b" }
    }

    fn jwk(pem: &str) -> Value {
        let key = SigningKey::from_pem(pem.as_bytes()).unwrap();
        key.with_key_id(KeyId::new(id(pem)).unwrap()).verifying_key().to_jwk()
    }

    fn token(pem: &str, algorithm: Alg, claims: Value) -> String {
        let now = SystemClock.now().as_secs();
        let mut all = json!({"iss": ISSUER, "aud": "whoami", "sub": "1", "email": "jane@example.com",
                             "email_verified": true, "exp": now + 600});
        for (name, value) in claims.as_object().unwrap() {
            all[name] = value.clone();
        }
        let mut header = Header::new(algorithm);
        header.kid = Some(id(pem).to_owned());
        let key = EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap();
        jsonwebtoken::encode(&header, &all, &key).unwrap()
    }

    fn router(listed: &Listed, clock: &Arc<ManualClock>) -> Router {
        let listed = listed.clone();
        let fetch = move || -> FetchFuture {
            let keys: Vec<_> = listed.lock().unwrap().iter().map(|pem| jwk(pem)).collect();
            Box::pin(async move { Ok(json!({ "keys": keys }).to_string().into()) })
        };
        let keys = IssuerKeys::fetched(ISSUER, fetch).with_clock(clock.clone());
        let registry = Registry::new(REGISTRY).unwrap();
        let provider = OidcIssuer::new(IssuerUrl::new(ISSUER).unwrap(), "whoami", registry, keys);
        let provider = provider.with_user_id_fields(["email"]);
        app(own_tokens().unwrap(), provider).unwrap()
    }

    async fn status(router: &Router, token: &str) -> u16 {
        let request = Request::get("/whoami").header("authorization", format!("Bearer {token}"));
        let request = request.body(Body::empty()).unwrap();
        router.clone().oneshot(request).await.unwrap().status().as_u16()
    }

    #[tokio::test]
    async fn only_tokens_of_the_provider_for_this_application_are_accepted() {
        let (a, b) = (pki::SIGNING_KEY, pki::OTHER_SIGNING_KEY);
        let (listed, clock) = (Listed::default(), Arc::new(ManualClock::new(SystemClock.now())));
        *listed.lock().unwrap() = vec![a];
        let router = router(&listed, &clock);
        let new = token(b, Alg::RS256, json!({}));
        for (case, token, want) in [
            ("valid", token(a, Alg::RS256, json!({})), 200),
            ("wrong issuer", token(a, Alg::RS256, json!({"iss": "https://idp.example.com"})), 401),
            ("wrong audience", token(a, Alg::RS256, json!({"aud": "other"})), 401),
            ("wrong algorithm", token(a, Alg::PS256, json!({})), 401),
            ("expired", token(a, Alg::RS256, json!({"exp": 1})), 401),
            (
                "our issuer",
                token(a, Alg::RS256, json!({"iss": "APIML", "sub": "JANE", "iat": 1})),
                401,
            ),
            (
                "user without a mapping",
                token(a, Alg::RS256, json!({"email": "joe@example.com"})),
                401,
            ),
            ("key of another issuer, unknown kid", new.clone(), 401),
            ("not a token", "x".to_owned(), 401),
        ] {
            assert_eq!(status(&router, &token).await, want, "{case}");
        }
        // The provider adds a key. If a token names an unknown key, the verifier fetches the keys again, but at most
        // every 30 s.
        *listed.lock().unwrap() = vec![a, b];
        assert_eq!(status(&router, &new).await, 401);
        clock.advance(Duration::from_secs(30));
        assert_eq!(status(&router, &new).await, 200);
    }
}
